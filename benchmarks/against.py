#!/usr/bin/env python
"""Time and memory of this checkout against an older one, processes of the two in alternation.

    git worktree add ../before COMMIT
    python benchmarks/against.py ../before                      five rounds of every case (40 minutes on two slow cores)
    python benchmarks/against.py ../before --threads 1          the processor's time of one thread: also where others use the machine
    python benchmarks/against.py ../before --rounds 3 --cases forward step1

Each round starts a process of the old checkout and one of the new for each case; every other round the new one goes first. A process
runs the checkout's own `benchmarks/bench.py`, ours only, with its dense rivals left out. Prints a line of JSON for each process, then
for each figure the medians over the rounds and their ratio, old / new: above 1 the new checkout is faster, or needs less memory.
Cases: forward (a new map, the same map), step1 and step4 (a training step at batch 1 and 4), sean (a new map, the same), memory
(peak of three steps at batch 1, less parameters, gradients and Adam's state). Nothing here is a test.
"""
import argparse, json, os, platform, statistics, subprocess, sys
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
CASES = dict(forward=['--what', 'forward', '--every', '11'], step1=['--what', 'step', '--batch', '1', '--every', '21'],
    step4=['--what', 'step', '--batch', '4', '--every', '9'], sean=['--what', 'sean', '--every', '4'], memory=['--what', 'memory', '--child', 'ours'])
NAMES = dict(ours_s='new map', same_map_s='same map', same_s='same map')

# What a process runs: the checkout's own bench with another race. The dense rivals are left out (their time is set to 1, so that ratios
# can be taken), and memory that is kept stays over all timings of a figure, so that it has to settle only once.
RUN = """
import statistics, sys, time
sys.path.insert(0, 'benchmarks')
import bench
clock = time.process_time if bench.torch.get_num_threads() == 1 else time.perf_counter
def seconds(f):
    start = clock()
    f()
    return clock() - start
def race(n, around={}, **fs):
    times = dict(dense=1.)
    for name, f in fs.items():
        if name == 'dense': continue
        with bench.path(name), around.get(name, bench.nullcontext)(): times[name] = statistics.median([seconds(f) for _ in range(n + 2)][2:])
    return times
bench.race = race
bench.main()
"""

def figures(case, out):
    "name -> value, read off what bench printed"
    if case == 'memory': return {'memory, MB': int(out.split()[-1])/2**20}
    seen = defaultdict(list)
    for line in map(json.loads, filter(None, out.splitlines())):
        if line.get('what') not in ('forward', 'step', 'sean'): continue
        for key, name in NAMES.items():
            if key in line: seen[f'{case}, {name}, s' if case in ('forward', 'sean') else f'{case}, s'].append(line[key])
    return {name: statistics.median(values) for name, values in seen.items()}

def measure(tree, case, a):
    "The figures of one process of a checkout"
    args = [*CASES[case], '--size', str(a.size), '--ngf', str(a.ngf), '--repeat', str(a.repeat)]
    run = subprocess.run([sys.executable, '-c', RUN, *args], cwd=tree, env=a.env | {'PYTHONPATH': str(tree)}, capture_output=True, text=True)
    if run.returncode: raise SystemExit(f'against: {case} of {tree} ended with {run.returncode}:\n{run.stderr[-2000:]}')
    return figures(case, run.stdout)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('old', type=Path, help='checkout to compare with')
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--cases', nargs='+', choices=CASES, default=list(CASES))
    p.add_argument('--size', type=int, default=256)
    p.add_argument('--ngf', type=int, default=64)
    p.add_argument('--threads', type=int, help='of each process; left out: as PyTorch chooses')
    p.add_argument('--repeat', type=int, default=3, help='timings of each figure in a process, after two that do not count')
    a = p.parse_args()
    if not (a.old/'benchmarks/bench.py').is_file(): p.error(f'{a.old} has no benchmarks/bench.py: give the folder of a checkout')
    a.env = os.environ | ({'OMP_NUM_THREADS': str(a.threads)} if a.threads else {})
    trees = dict(old=a.old.resolve(), new=HERE)
    print(json.dumps(dict(machine=platform.processor() or platform.machine(), cores=os.cpu_count(), python=platform.python_version(), rounds=a.rounds, threads=a.threads,
        size=a.size, ngf=a.ngf, trees={k: str(v) for k, v in trees.items()})), flush=True)
    seen = defaultdict(lambda: defaultdict(list))
    for i in range(a.rounds):
        for case in a.cases:
            for which in ('old', 'new')[::1 if i % 2 == 0 else -1]:
                found = measure(trees[which], case, a)
                print(json.dumps(dict(round=i, which=which, **{k: round(v, 4) for k, v in found.items()})), flush=True)
                for name, value in found.items(): seen[name][which].append(value)
    print('| | old | new | old / new |\n|---|---|---|---|')
    for name, o in seen.items():
        old, new = statistics.median(o['old']), statistics.median(o['new'])
        print(f'| {name} | {old:.4g} | {new:.4g} | {old/new:.2f} |')

if __name__ == '__main__': main()

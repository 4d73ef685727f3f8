#!/usr/bin/env python
"""Draw time against resolution, dense and ours, from what `bench.py --what growth` printed. Measures nothing.

    python benchmarks/bench.py --what growth > growth.jsonl
    python benchmarks/chart.py growth.jsonl                  writes docs/images/growth.png; without a file it reads the standard input
"""
import argparse, json, sys
from pathlib import Path

def read(lines):
    "The first line (machine), and the lines with a size, sorted"
    rows = [json.loads(o) for o in lines if o.lstrip().startswith('{')]
    machine = next((o for o in rows if 'machine' in o), {})
    return machine, sorted((o for o in rows if o.get('what') == 'growth' and 'size' in o), key=lambda o: o['size'])

def draw(machine, rows, fn):
    "Time on the left, log-log; how many times faster on the right"
    import matplotlib
    matplotlib.use('agg')
    from matplotlib import pyplot as plt
    sizes, a = [o['size'] for o in rows], machine.get('args', {})
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout='constrained')
    for key, name, style in (('dense_s', 'dense', 's--'), ('ours_s', 'by patterns', 'o-')): left.loglog(sizes, [o[key] for o in rows], style, label=name)
    left.set(ylabel='seconds for a picture', title='Time')
    left.legend()
    ratios = [o['ratio'] for o in rows]
    right.semilogx(sizes, ratios, 'o-')
    for s, r in zip(sizes, ratios): right.annotate(f'{r:.1f}', (s, r), textcoords='offset points', xytext=(0, 6), ha='center')
    right.set(ylabel='dense / by patterns', title='Ratio', ylim=(0, 1.15*max(ratios)))
    for ax in (left, right):
        ax.set(xlabel='height and width in pixels')
        ax.set_xticks(sizes, sizes)
        ax.minorticks_off()
        ax.grid(alpha=.3)
    facts = f'ngf {a.get("ngf")}', f'{machine.get("threads")} threads', str(machine.get('machine')), f'torch {machine.get("torch")}'
    fig.suptitle(f'SPADE forward, label map {rows[0]["case"]}: ' + ', '.join(facts), fontsize=9)
    fig.savefig(fn, dpi=110)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('file', nargs='?', help='what bench.py printed; the standard input without it')
    p.add_argument('--out', default=str(Path(__file__).resolve().parents[1]/'docs'/'images'/'growth.png'))
    a = p.parse_args()
    machine, rows = read(Path(a.file).read_text().splitlines() if a.file else sys.stdin)
    if not rows: sys.exit(f'chart: {a.file or "the standard input"} holds no line of a growth run: make one with bench.py --what growth')
    draw(machine, rows, a.out)
    print(f'{len(rows)} sizes -> {a.out}')

if __name__ == '__main__': main()

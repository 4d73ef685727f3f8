#!/usr/bin/env python
"""Race CLADE against SPADE on drawn landscapes, at equal steps and at equal minutes, and print the table of lesson 64.

    OMP_NUM_THREADS=1 python tools/clade_table.py --out runs/clade --minutes 3    
        # all runs that are not there yet, then the table
    python tools/clade_table.py --out docs/clade --table                             the table of what is there

Dense and exact SPADE are one function (they differ by rounding), so one training stands for both: what differs is the
time of a step. First the three are timed, step by step in turns, in processor time of one thread. The budget of
--minutes then is so many steps for each. For each seed SPADE is trained once, and scored after the steps that the
dense and the exact one make in the budget; CLADE is scored after the steps of the exact SPADE and after its own. The
learning rate is constant and the weights that paint are averaged, so that a training that is scored on its way is as
good as one that ends there. KID: pictures of the 100 test maps against their photos. mIoU: a segmenter, trained on
the real pairs, reads the pictures (OUT/segmenter). OUT/runs.jsonl has a line for each timing and each score; what is
in it is not done again."""
import os
os.environ.setdefault('OMP_NUM_THREADS', '1')
import argparse, json, random, sys, time
from pathlib import Path
from statistics import mean, median
import torch
from fastai.vision.all import Callback, cast, set_seed
from torch.utils.flop_counter import FlopCounterMode
from ablation import loaders, segmenter_of
from gaugan_fastai.budget import TimeBudget
from gaugan_fastai.core import InputError
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.metrics import paint_all, score_pictures
from gaugan_fastai.models.ablation import CountSteps, NoValidation, mean_interval
from gaugan_fastai.models.clade import clade_learner
from gaugan_fastai.models.spade import spade_learner

MAKERS = {'clade': clade_learner, 'dense spade': spade_learner, 'exact spade': spade_learner}
NAMES = {'clade': 'CLADE', 'dense spade': 'SPADE, dense', 'exact spade': 'SPADE, exact'}

def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, required=True, help='folder for runs.jsonl and the segmenter')
    p.add_argument('--minutes', type=float, default=3., help='budget of a training, processor time')
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--size', type=int, nargs=2, default=(64, 64), metavar=('H', 'W'))
    p.add_argument('--bs', type=int, default=4)
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--preset', default='cpu')
    p.add_argument('--rounds', type=int, default=5, help='turns of the timing')
    p.add_argument('--table', action='store_true', help='print the table and stop')
    return p.parse_args(argv)

class StepClock(Callback):
    "Processor time of each step of training, in `seconds`"
    order, run_valid, seconds = 90, False, ()
    def before_fit(self): self.seconds = []
    def before_batch(self): self.start = time.process_time()
    def after_batch(self): self.seconds.append(time.process_time() - self.start)

def way(name):
    "How a network computes: the dense SPADE the plain way, the others as they like"
    return ways(False if name.startswith('dense') else None)

def make(name, dls, seed, a):
    "A learner of one of `MAKERS`"
    set_seed(seed, reproducible=True)
    dls.train.rng = random.Random(seed)
    cbs = [NoValidation(), CountSteps(), StepClock()]
    return MAKERS[name](dls, a.preset, lr=a.lr, reuse_fake=True, cbs=cbs)

def go_on(learn, steps):
    "Train for so many steps more, at a constant rate"
    budget = TimeBudget(steps/60, clock=lambda: learn.n_steps)
    with learn.no_bar(), learn.no_logging(): learn.fit(10**6, learn.lr, cbs=budget)
    return learn.step_clock.seconds

def gflops(learn, dls):
    "Operations of the generator's forward for one picture, in 10^9, as torch counts them: mean over four batches"
    gen, counts = learn.model.generator.train(), []
    for i, (segmap, _) in zip(range(4), dls.train):
        with FlopCounterMode(display=False) as counter: gen(cast(segmap, torch.Tensor))
        counts.append(counter.get_total_flops()/len(segmap)/1e9)
    return mean(counts)

def timings(dls, a):
    "A line for each network: parameters, operations, seconds a step"
    learners, seconds = {k: make(k, dls, 0, a) for k in MAKERS}, {k: [] for k in MAKERS}
    for i in range(a.rounds):
        for k, learn in learners.items():
            with way(k): seconds[k] += go_on(learn, 10)[2:]
    for k, learn in learners.items():
        n = sum(o.numel() for o in learn.model.generator.parameters())
        with way(k): operations = round(gflops(learn, dls), 4)
        facts = dict(kind='cost', network=k, parameters=n, gflops=operations)
        yield dict(**facts, seconds=round(median(seconds[k]), 4), timed=len(seconds[k]), bs=a.bs, preset=a.preset)

def read(out):
    "The lines that are there"
    file = out/'runs.jsonl'
    return [json.loads(o) for o in file.read_text().splitlines()] if file.is_file() else []

def note(out, line):
    "Write a line more"
    with open(out/'runs.jsonl', 'a') as f: f.write(json.dumps(line) + '\n')
    print(json.dumps(line)[:200], flush=True)

def marks(lines, a):
    "Steps that each network makes in the budget"
    return {o['network']: max(1, round(60*a.minutes/o['seconds'])) for o in lines if o['kind'] == 'cost'}

def train(name, steps, seed, dls, segmenter, a):
    "Train a network once and score it at each of `steps`: lines"
    learn, done = make(name, dls, seed, a), 0
    for n in sorted(steps):
        spent = sum(go_on(learn, n - done))
        done = n
        with learn.painting() as gen: fakes, photos, maps = paint_all(gen, dls.valid)
        scores = score_pictures(fakes, photos, maps, dls.labels, segmenter, split='landscapes test')
        names = 'kid', 'miou', 'accuracy'
        kept = {k: round(scores[k], 5) for k in names}
        facts = dict(network=name.split()[-1], seed=seed, steps=n, spent=round(spent, 1), minutes=a.minutes, lr=a.lr)
        yield dict(kind='score', **facts, **kept)

def race(a):
    "All that is missing, seed by seed"
    a.out.mkdir(parents=True, exist_ok=True)
    _, dls = loaders('landscapes', tuple(a.size), a.bs)
    if not marks(read(a.out), a):
        for o in timings(dls, a):
            note(a.out, o)
    n = marks(read(a.out), a)
    todo = {'exact spade': {n['dense spade'], n['exact spade']}, 'clade': {n['exact spade'], n['clade']}}
    segmenter = segmenter_of(a.out/'segmenter', 'landscapes', tuple(a.size), 8)
    for seed in a.seeds:
        for name, steps in todo.items():
            there = {o['steps'] for o in read(a.out) if o.get('seed') == seed and o.get('network') == name.split()[-1]}
            if steps <= there: continue
            for o in train(name, steps, seed, dls, segmenter, a): note(a.out, o)

def scored(lines, network, steps):
    "KID and mIoU of a network after so many steps, means with half of the 95 % interval"
    found = [o for o in lines if o['kind'] == 'score' and (o['network'], o['steps']) == (network.split()[-1], steps)]
    found = list({o['seed']: o for o in found}.values())
    if not found: return '-', '-'
    one = lambda k: '{:.3f} ± {:.3f}'.format(*mean_interval(o[k] for o in found))
    return tuple(one(k) if len(found) > 1 else f'{found[0][k]:.3f}' for k in ('kid', 'miou'))

def table(lines, a):
    "Markdown: a line a network"
    n, costs = marks(lines, a), {o['network']: o for o in lines if o['kind'] == 'cost'}
    if not costs: raise InputError(f'{a.out} holds no runs.jsonl with timings: start without --table')
    equal = n['exact spade']
    costs_of = ['network', 'parameters', 'GFLOPs a picture', 'seconds a step']
    head = [*costs_of, f'KID after {equal} steps', f'mIoU after {equal} steps',
        f'steps in {a.minutes:g} minutes', 'KID then', 'mIoU then']
    rows = [head, ['---']*len(head)]
    for k, o in costs.items():
        cost = f'{o["parameters"]/1e6:.2f} M', f'{o["gflops"]:.2f}', f'{o["seconds"]:.3f}'
        rows.append([NAMES[k], *cost, *scored(lines, k, equal), str(n[k]), *scored(lines, k, n[k])])
    return '\n'.join(f'| {" | ".join(o)} |' for o in rows)

def main(argv=None):
    a = parse(argv)
    torch.set_num_threads(1)
    try:
        if not a.table: race(a)
        print(table(read(a.out), a))
    except InputError as e:
        print(f'clade_table: {e}', file=sys.stderr)
        return 1
    return 0

if __name__ == '__main__': sys.exit(main())

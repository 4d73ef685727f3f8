#!/usr/bin/env python
"""Teach the shipped painter a season that it has never seen, and compare with a random start, by processor time.

    OMP_NUM_THREADS=1 python tools/season_curve.py OUT --minutes 1,2,4 --seeds 0,1,2
    python tools/season_curve.py OUT --table     prints the table of what is there, draws OUT/curve.png and pictures.jpg

The season is deep snow (`gaugan_fastai.demo.snow_scenes`): --n scenes to train on, --n-test others to score. For each
seed two learners train on the same batches, one from --pretrained, one from random weights of the same widths, each at
the learning rate of its own. At every budget of processor time (of one thread) the averaged weights paint the test
maps, each in a style drawn by chance: KID (efficientnet-lite0) against the test photos. OUT/scores.jsonl gets a line
for each score, OUT/NAME_SEED_MINUTES.png the first six pictures. What is there is not done again.
"""
import argparse, json, random, sys, time
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, CancelValidException, set_seed
from PIL import Image
from gaugan_fastai.budget import TimeBudget
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.data.transforms import as_size
from gaugan_fastai.demo import snow_scenes
from gaugan_fastai.metrics import kid, paint_all
from gaugan_fastai.models.ablation import mean_interval
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.originals import model_config
from gaugan_fastai.pictures import image_grid, to_u8

FIRST = 5000   # seed of the first scene: the shipped weights saw those of 1000 to 4015
ARMS = dict(pretrained='C0', scratch='C1')

def numbers(text): return [float(o) for o in text.split(',')]

def parse(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path)
    p.add_argument('--pretrained', default='landscapes')
    p.add_argument('--minutes', type=numbers, default=[1, 2, 4], help='of processor time')
    p.add_argument('--seeds', type=numbers, default=[0, 1, 2])
    p.add_argument('--size', type=int, default=128)
    p.add_argument('--n', type=int, default=50)
    p.add_argument('--n-test', type=int, default=96)
    p.add_argument('--bs', type=int, default=4)
    p.add_argument('--lr', type=numbers, default=[5e-4, 1e-3], help='pretrained, from scratch')
    p.add_argument('--average', type=float, default=.95)
    p.add_argument('--table', action='store_true')
    return p.parse_args(argv)

class NoValidation(Callback):
    "Validation would cost time"
    def before_validate(self): raise CancelValidException()

# -- training ------------------------------------------------------------------------------------------------------

def loaders(a):
    scenes = snow_scenes(a.n + a.n_test, a.size, FIRST)
    return PairedDataLoaders.from_pairs(scenes[a.n_test:], scenes[:a.n_test], landscape_labels(), a.size, a.bs)

def widths_of(net, names):
    "Those of the arguments that built a network"
    config = model_config(net)
    return {k: config[k] for k in names.split() if config.get(k) is not None}

def learner(arm, dls, a):
    "A learner from the shipped weights, or from random ones of the same widths"
    how = dict(lr=a.lr[arm == 'scratch'], l1=2, kl=.02, kl_mean=True, average=a.average, reuse_fake=True)
    known = spade_learner(dls, pretrained=a.pretrained, **how)
    if arm == 'pretrained': return known
    gan = known.model
    widths = widths_of(gan.generator, 'ngf nhidden widths z_dim upsampling') | widths_of(gan.critic, 'ndf n_layers')
    return spade_learner(dls, **widths, **how)

def measure(learn, a):
    "KID on the test scenes; and the first six pictures"
    with learn.painting() as gen: fakes, photos, maps = paint_all(gen, learn.dls.valid)
    names = learn.dls.labels
    six = image_grid(names.colorize(maps[:6]), to_u8(fakes[:6]), to_u8(photos[:6]))
    return kid(fakes, photos), six

def note(a, arm, seed, minutes, learn, steps):
    "Score, and write it down at once"
    (mean, std), six = measure(learn, a)
    row = dict(arm=arm, seed=seed, minutes=minutes, kid=round(mean, 4), std=round(std, 4), steps=steps)
    with open(a.out/'scores.jsonl', 'a') as f: f.write(json.dumps(row) + '\n')
    Image.fromarray(six).save(a.out/f'{arm}_{seed}_{minutes:g}.png')
    print(row, flush=True)

def train(a, arm, seed, dls):
    "Train one learner through all budgets"
    set_seed(seed)
    learn, spent = learner(arm, dls, a), 0.
    dls.train.rng = random.Random(seed)
    note(a, arm, seed, 0, learn, 0)
    for minutes in sorted(a.minutes):
        budget = TimeBudget(minutes - spent, clock=time.process_time)
        with learn.no_bar(), learn.no_logging(): learn.fit(10**6, cbs=[budget, NoValidation()])
        spent = minutes
        note(a, arm, seed, minutes, learn, learn.model_average.t)

# -- what came out -------------------------------------------------------------------------------------------------

def read(a): return [json.loads(o) for o in open(a.out/'scores.jsonl')]

def means(rows, arm):
    "Minutes -> KIDs of all seeds"
    of = [o for o in rows if o['arm'] == arm]
    return {m: [o['kid'] for o in of if o['minutes'] == m] for m in sorted({o['minutes'] for o in of})}

def tell(values):
    m, half = mean_interval(values)
    return f'{m:.3f} ± {half:.3f} ({len(values)})' if half > 0 else f'{m:.3f} ({len(values)})'

def table(a):
    rows = read(a)
    found = {arm: means(rows, arm) for arm in ARMS}
    print('| minutes | ' + ' | '.join(ARMS) + ' |', '| --- |' + ' --- |'*len(ARMS), sep='\n')
    for m in sorted({k for o in found.values() for k in o}):
        print(f'| {m:g} | ' + ' | '.join(tell(o[m]) if m in o else '' for o in found.values()) + ' |')
    plot(found, a.out/'curve.png')
    pictures(a, max(found['pretrained']))

def plot(found, file):
    import matplotlib; matplotlib.use('agg')
    import matplotlib.pyplot as plt
    _, ax = plt.subplots(figsize=(5, 3.2))
    for arm, os in found.items():
        ax.plot(list(os), [np.mean(o) for o in os.values()], color=ARMS[arm], label=arm)
        for m, values in os.items(): ax.plot([m]*len(values), values, '.', color=ARMS[arm])
    ax.set(xlabel='minutes of one core', ylabel='KID on unseen snow')
    ax.set_ylim(0)
    ax.legend()
    plt.tight_layout()
    plt.savefig(file, dpi=90)

def pictures(a, minutes):
    "Six test maps of the first seed: map, the painter as it came, both after so many minutes, and the photo"
    def column(name, i):
        grid = np.asarray(Image.open(a.out/f'{name}.png'))
        side = grid.shape[1]//3
        return grid[:, i*side:(i + 1)*side]
    seed = int(min(a.seeds))
    names = [f'pretrained_{seed}_0', *(f'{arm}_{seed}_{minutes:g}' for arm in ARMS)]
    if not all((a.out/f'{o}.png').is_file() for o in names): return
    columns = [column(names[0], 0), *(column(o, 1) for o in names), column(names[0], 2)]
    Image.fromarray(np.concatenate(columns, 1)).save(a.out/'pictures.jpg', quality=92)

def main(argv=None):
    a = parse(argv)
    if a.table: return table(a)
    torch.set_num_threads(1)
    a.out.mkdir(parents=True, exist_ok=True)
    dls, done = loaders(a), read(a) if (a.out/'scores.jsonl').is_file() else []
    for seed in map(int, a.seeds):
        for arm in ARMS:
            last = [o for o in done if (o['arm'], o['seed'], o['minutes']) == (arm, seed, max(a.minutes))]
            if not last: train(a, arm, seed, dls)

if __name__ == '__main__': sys.exit(main())

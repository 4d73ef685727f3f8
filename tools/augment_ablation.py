#!/usr/bin/env python
"""Train SPADE on few pairs with a policy of DiffAugment or without, one training a process, and score it (lesson 29).

    python tools/augment_ablation.py OUT --data FOLDER --n 50 --policy color,translation,cutout --seed 0 --seconds 480
    python tools/augment_ablation.py OUT --table                            the table of what is there

FOLDER has train, val and test ({images,labels} in each). Trained is on --n pairs of train and val, the same ones for
every run; all of test is scored: KID of the pictures of its maps against its photos. --seconds are processor time of
the training alone, of one thread; the learning rate is constant for half of it and then falls to 0. Without --policy
the critic sees pictures as they are. A run writes OUT/DATA_N_POLICY_SEED.json (one line) and .png (map, picture and
photo of six test pairs); where the JSON is there, it does nothing, so an interrupted list of runs is started again.

Beside the scores it is written what the critic thinks of the photos it was trained on, of the test photos and of the
pictures, all of them unchanged (`verdict_train`, `verdict_test`, `verdict_fake`, means over patches and scales): a
critic that knows its photos by heart likes them better than those that it has never seen. `kid_photos` is the KID of
the training photos against the test photos: nothing painted could be expected to do better.
"""
import os
os.environ.setdefault('OMP_NUM_THREADS', '1')
import argparse, json, random, sys
from pathlib import Path
from statistics import mean
import numpy as np, torch
from PIL import Image
from gaugan_fastai.augment import DiffAugment
from gaugan_fastai.basics import InputError, colorize, typed
from gaugan_fastai.data.layouts import folder_pairs
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import image_grid, to_u8
from gaugan_fastai.metrics import kid, paint_all, score_pictures
from gaugan_fastai.models.ablation import ablation_learner, fit_budget, mean_interval
from gaugan_fastai.options import hw

def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path, help='folder of the runs')
    p.add_argument('--data', type=Path, help='folder of the pairs')
    p.add_argument('--n', type=int, default=50, help='pairs to train on')
    p.add_argument('--policy', default='', help='color,translation,cutout or some of it; nothing: no DiffAugment')
    p.add_argument('--seed', type=int, default=0, help='of weights, order, flips and changes')
    p.add_argument('--seconds', type=float, default=480., help='processor time of the training')
    p.add_argument('--steps', type=int, help='batches of the training, instead of seconds')
    p.add_argument('--size', type=hw, default=(64, 64), help='height x width')
    p.add_argument('--bs', type=int, default=4)
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--table', action='store_true', help='print the table and stop')
    a = p.parse_args(argv)
    if not a.table and not a.data: p.error('--data is missing: give a folder of pairs, or --table')
    return a

def loaders(a):
    "Loaders of the pairs to train on, with those to test on, and a loader of the former as they are"
    pairs, test, labels = folder_pairs(a.data, ['train', 'val'], 'test')
    what = f'{a.data} holds {len(pairs)} pairs to train on'
    if a.n > len(pairs): raise InputError(what, f'give --n {len(pairs)} or less')
    few = random.Random(0).sample(list(pairs), a.n)
    both = [PairedDataLoaders.from_pairs(few, valid, labels, a.size, a.bs) for valid in (list(test), few)]
    return both[0], both[1].valid

@torch.no_grad()
def verdict(critic, maps, pictures):
    "What the critic thinks of pictures, its mean over patches, scales and pictures"
    answers = [critic(m, x) for m, x in zip(maps.split(16), pictures.split(16))]
    return mean(torch.cat([o[i][-1] for o in answers]).mean().item() for i in range(len(answers[0])))

def all_of(dl): return [torch.cat(o).as_subclass(torch.Tensor) for o in zip(*dl)]

def one_run(a, dls, known):
    "Train, paint and score: the figures of the run, and a picture of six test pairs"
    learn = ablation_learner(dls, 'spade', a.seed, lr=a.lr, augment=DiffAugment(a.policy) if a.policy else None)
    used = fit_budget(learn, a.seconds, a.steps)
    with learn.painting() as gen: fakes, photos, maps = paint_all(gen, dls.valid)
    scores = score_pictures(fakes, photos, maps, dls.labels, split=f'{a.data.name} test')
    critic, (seen_maps, seen) = learn.model.critic.eval(), all_of(known)
    judged = dict(train=(seen_maps, seen), test=(maps, photos), fake=(maps, fakes))
    verdicts = {f'verdict_{k}': round(verdict(critic, *o), 4) for k, o in judged.items()}
    facts = dict(data=a.data.name, n=a.n, policy=a.policy, seed=a.seed)
    facts |= dict(**used, size=list(a.size), bs=a.bs, lr=a.lr)
    some = np.linspace(0, len(maps) - 1, 6).astype(int)
    grid = image_grid(colorize(maps[some], dls.palette), to_u8(fakes[some]), to_u8(photos[some]))
    return dict(**facts, kid_photos=kid(seen, photos)[0], **scores, **verdicts), grid

def run(a):
    "Make a run, if it is not there yet"
    a.policy = ','.join(DiffAugment(a.policy).policy)
    name = f'{a.data.name}_{a.n}_{a.policy.replace(",", "+") or "none"}_{a.seed}'
    if (a.out/f'{name}.json').is_file(): return print(f'{name} is there')
    a.out.mkdir(parents=True, exist_ok=True)
    res, grid = one_run(a, *loaders(a))
    Image.fromarray(grid).save(a.out/f'{name}.png')
    part = a.out/f'{name}.json.part'
    part.write_text(json.dumps(res) + '\n')
    os.replace(part, a.out/f'{name}.json')
    told = 'steps', 'kid', 'kid_photos', 'verdict_train', 'verdict_test', 'verdict_fake'
    print(name, {k: round(res[k], 3) for k in told}, flush=True)

# -- the table -----------------------------------------------------------------------------------------------------

def with_half(values):
    "Mean and half of the 95 % interval, in words"
    m, half = mean_interval(values)
    return f'{m:.3f}' if half != half else f'{m:.3f} ± {half:.3f}'

def row(runs, plain):
    "The cells of the runs of a policy; `plain`: seed -> the run without one"
    pairs = [(o, plain[o['seed']]) for o in runs if o['seed'] in plain and o['policy']]
    less = with_half([o['kid'] - p['kid'] for o, p in pairs]) if pairs else ''
    gap = with_half([o['verdict_train'] - o['verdict_test'] for o in runs])
    steps = f'{mean(o["steps"] for o in runs):.0f}'
    return str(len(runs)), steps, with_half([o['kid'] for o in runs]), less, gap

def augment_table(runs):
    """Markdown, a row for each data set, number of pairs and policy: mean ± half of the 95 % interval over the seeds.

    `against none` is the difference of the KID from the run of the same seed without a policy, `known by heart` what
    the critic thinks of the photos it was trained on, less what it thinks of the test photos."""
    head = 'data | pairs | policy | runs | steps | KID | against none | known by heart'.split(' | ')
    lines = [head, ['---']*len(head)]
    groups = {}
    for o in runs: groups.setdefault((o['data'], o['n'], o['policy']), []).append(o)
    in_order = sorted(groups, key=lambda o: (*o[:2], len(o[2])))
    for data, n, policy in in_order:
        plain = {o['seed']: o for o in groups.get((data, n, ''), [])}
        cells = row(groups[data, n, policy], plain)
        lines.append([data, str(n), policy or 'none', *cells])
    return '\n'.join(f'| {" | ".join(o)} |' for o in lines)

def main(argv=None):
    a = parse(argv)
    torch.set_num_threads(1)
    try:
        if not a.table: run(a)
        runs = [json.loads(o.read_text()) for o in sorted(a.out.glob('*.json'))]
        if a.table and not runs: raise InputError(f'{a.out} holds no finished runs', 'make some first')
    except InputError as e:
        print(f'augment_ablation: {typed(e)}', file=sys.stderr)
        return 1
    if a.table: print(augment_table(runs))
    return 0

if __name__ == '__main__': sys.exit(main())

#!/usr/bin/env python
"""Reconstructions by SEAN, a style for every region, against SPADE with one style for a photo: a table of lesson 54.

    python tools/score_sean.py --out runs/score_sean --seconds 200 --data landscapes facade=../shared/data/labelmefacade
    python tools/score_sean.py --out runs/score_sean --table                     the table of what is there
    python tools/score_sean.py --out runs/score_sean --collect docs/sean         runs.json and pictures for the lesson

Both read the photo that they are to paint (SEAN's encoder region by region; SPADE's as a whole, with a KL divergence on
its z) and have the same data, critic, losses, learning rates, averaged weights and processor time. --data takes
`landscapes` (drawn, 400 scenes to train and 100 to test, each class in the style of a day of its own: photos that one
style cannot describe) and NAME=FOLDER, a folder with train, val and test ({images,labels} in each): train and val are
trained on, test is scored. One thread. Each run writes OUT/NAME/CONTENDER_SEED.json and .png (label, painted, photo of
six test maps); runs whose JSON is there are not repeated.
"""
import os
os.environ.setdefault('OMP_NUM_THREADS', '1')
import argparse, json, random, sys, time
from pathlib import Path
from statistics import mean
import numpy as np, torch
from fastai.vision.all import set_seed
from PIL import Image
from ablation import carry_out, finished, last_losses, loaders, picked, write
from gaugan_fastai.core import InputError, colorize
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import encode
from gaugan_fastai.learner import image_grid, to_u8
from gaugan_fastai.metrics import kid, reconstruction_scores
from gaugan_fastai.models.ablation import CountSteps, NoValidation, fit_budget, mean_interval
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import spade_learner
from train_sean import mixed_scene

SCORES = dict(ssim='SSIM', psnr='PSNR, dB', rmse='RMSE', kid='KID')

def sean(dls, **kwargs): return sean_learner(dls, ngf=10, nhidden=16, style_dim=16, width=8, **kwargs)
def spade(dls, **kwargs):
    "SPADE with an encoder, of about as many weights; the KL as in tools/train_style.py, where z does not fall silent"
    return spade_learner(dls, ngf=10, nhidden=32, z_dim=32, kl=.02, kl_mean=True, kl_warmup=.2, **kwargs)
contenders = dict(sean=sean, spade=spade)

def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, required=True, help='folder for the runs')
    p.add_argument('--data', nargs='+', default=['landscapes'], help='landscapes, or NAME=FOLDER')
    p.add_argument('--contenders', nargs='+', default=list(contenders), help=f'some of {", ".join(contenders)}')
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--seconds', type=float, default=200., help='processor time of a training')
    p.add_argument('--steps', type=int, help='batches of a training, instead of seconds')
    p.add_argument('--size', type=int, nargs=2, default=(64, 64), metavar=('H', 'W'))
    p.add_argument('--bs', type=int, default=4)
    p.add_argument('--lr', type=float, default=1.5e-3)
    p.add_argument('--scenes', type=int, nargs=2, default=(400, 100), metavar=('TRAIN', 'TEST'), help='of landscapes')
    p.add_argument('--table', action='store_true', help='print the table and stop')
    p.add_argument('--collect', type=Path, help='write runs.json and a picture for each data set there and stop')
    return p.parse_args(argv)

def loaders_of(data, a):
    "Name and loaders; the validation part is the one that is scored"
    size = tuple(a.size)
    if data != 'landscapes': return loaders(data, size, a.bs)
    if size[0] != size[1]: raise InputError(f'landscapes are drawn square, but --size is {size[0]}x{size[1]}')
    def scenes(first, n): return [mixed_scene(first + i, size[0], share=1.) for i in range(n)]
    train, test = scenes(1000, a.scenes[0]), scenes(0, a.scenes[1])
    return data, PairedDataLoaders.from_pairs(train, test, landscape_labels(), size, a.bs, seed=0)

def make(dls, contender, seed, lr):
    "A contender's learner; critic, losses and callbacks are the same for both"
    set_seed(seed, reproducible=True)
    dls.train.rng = random.Random(seed)
    cbs = [NoValidation(), CountSteps()]
    learn = contenders[contender](dls, l1=10., average=.99, reuse_fake=True, lr=lr, cbs=cbs)
    learn.model.critic = MultiScaleCritic(dls.n_classes, 24, 2, 3, strides=(2, 2, 2))
    return learn

def repaint(learn, segmap, photo):
    "Maps painted in the styles of their own photos"
    hasz = hasattr(learn.model, 'encoder')
    z = encode(learn, photo) if hasz else None
    with learn.painting() as gen: return gen(segmap, z=z) if hasz else gen(segmap, photo)

def reconstructions(learn):
    "(painted, photos, maps) of the test part"
    res = []
    for segmap, photo in learn.dls.valid:
        segmap, photo = (o.as_subclass(torch.Tensor) for o in (segmap, photo))
        res.append((repaint(learn, segmap, photo), photo, segmap))
    return [torch.cat(o) for o in zip(*res)]

def one_run(dls, name, contender, seed, a):
    "Train, paint and score; the figures of the run, and a grid of six test maps"
    learn = make(dls, contender, seed, a.lr)
    movers = sum(o.numel() for o in learn.model.movers('generator'))
    set_seed(seed, reproducible=True)
    used = fit_budget(learn, a.seconds, a.steps)
    fakes, photos, maps = reconstructions(learn)
    score, scatter = kid(fakes, photos)
    i = picked(len(fakes))
    grid = image_grid(colorize(maps[i].numpy(), dls.palette), to_u8(fakes[i]), to_u8(photos[i]))
    facts = dict(data=name, contender=contender, seed=seed, **used, bs=a.bs, lr=a.lr)
    facts |= dict(n_train=len(dls.train_ds), n_test=len(fakes), parameters=movers)
    scores = dict(**reconstruction_scores(fakes, photos), kid=score, kid_std=scatter)
    return dict(**facts, **scores, last_losses=last_losses(learn)), grid

def race(a, data):
    "All missing runs of a data set, both contenders of a seed before the next seed"
    name, dls = loaders_of(data, a)
    folder = a.out/name
    folder.mkdir(parents=True, exist_ok=True)
    for contender, seed in [(c, s) for s in a.seeds for c in a.contenders]:
        if (folder/f'{contender}_{seed}.json').is_file(): continue
        start = time.time()
        run, grid = one_run(dls, name, contender, seed, a)
        Image.fromarray(grid).save(folder/f'{contender}_{seed}.png')
        write(folder/f'{contender}_{seed}.json', json.dumps(run, indent=1) + '\n')
        scores, seconds = ', '.join(f'{k} {run[k]:.3f}' for k in SCORES), time.time() - start
        print(f'{name} {contender} {seed}: {run["steps"]} steps, {scores} ({seconds:.0f} s in all)', flush=True)

def table(runs):
    "Markdown: a line for each data set and contender; scores: mean ± half of Student's 95 % interval over seeds"
    lines = [['data', 'generator', 'runs', 'parameters', 'steps', *SCORES.values()]]
    lines.append(['---']*len(lines[0]))
    say = lambda o: '{:.3f} ± {:.3f}'.format(*mean_interval(o)) if len(o) > 1 else f'{o[0]:.3f}'
    for data, contender in sorted({(o['data'], o['contender']) for o in runs}):
        group = [o for o in runs if (o['data'], o['contender']) == (data, contender)]
        facts = str(len(group)), f'{group[0]["parameters"]/1e6:.2f} M', f'{mean(o["steps"] for o in group):.0f}'
        lines.append([data, contender, *facts, *(say([o[k] for o in group]) for k in SCORES)])
    return '\n'.join(f'| {" | ".join(o)} |' for o in lines)

def collect(out, to):
    "Write runs.json, and for drawn data (no photos of others) a picture: label, SEAN, SPADE, photo of the first seed"
    to.mkdir(parents=True, exist_ok=True)
    runs = finished(out)
    if not runs: raise InputError(f'{out} holds no finished runs: start them without --collect')
    write(to/'runs.json', json.dumps(dict(runs=runs), indent=1) + '\n')
    first = [out/'landscapes'/f'{c}_{min(o["seed"] for o in runs)}.png' for c in contenders]
    if not all(o.is_file() for o in first): return
    a, b = (np.asarray(Image.open(o)) for o in first)
    w = a.shape[1]//3
    Image.fromarray(np.concatenate([a[:, :2*w], b[:, w:]], 1)).save(to/'landscapes.jpg', quality=92)
    print(f'{to}/landscapes.jpg: columns label, {", ".join(contenders)}, photo')

def main(argv=None):
    a = parse(argv)
    torch.set_num_threads(1)
    return carry_out(a, 'score_sean', contenders, race, collect, table)

if __name__ == '__main__': sys.exit(main())

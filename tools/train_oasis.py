#!/usr/bin/env python
"""Train OASIS on drawn landscapes, or SPADE for as long, and write down how the scores go.

    OMP_NUM_THREADS=1 python tools/train_oasis.py OUT --minutes 40
    OMP_NUM_THREADS=1 python tools/train_oasis.py OUT --minutes 40 --model spade
    OMP_NUM_THREADS=1 python tools/train_oasis.py OUT --minutes 40 --resume      after it was stopped (Ctrl-C, SIGTERM)
    python tools/train_oasis.py OUT --segmenter FOLDER        score what is there with a segmenter too: OUT/scores.json

Scenes to train on have seeds from 1000. --minutes are processor time of the training alone, without the scoring. Every
--every minutes the training is saved (OUT/last.pth), the averaged generator is written (OUT/model) and scored on unseen
scenes: maps of scenes 0 ... n-1, a style each by chance, against the photos of scenes n ... 2n-1 (KID), and how far
apart pictures of one map are (`diversity`). A line of OUT/scores.jsonl each time; pictures go to OUT/samples. The same
is done where the training is stopped, after the step that it is at.
"""
import argparse, json, time
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import set_seed
from gaugan_fastai.budget import TimeBudget
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.keeping import save_picture
from gaugan_fastai.encoder import draw_styles
from gaugan_fastai.metrics import kid, load_segmenter, segmentation_scores
from gaugan_fastai.models.oasis import oasis_learner
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.models.style import diversity, sample
from gaugan_fastai.pictures import image_grid, to_u8
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from stopping import CleanStop

FIRST = 1000

def scenes(seeds, size):
    "Label maps int64 `[N,H,W]` and photos `[N,3,H,W]` in [-1,1]"
    drawn = [draw_landscape(i, size) for i in seeds]
    maps = torch.stack([torch.as_tensor(o.segmap).long() for o in drawn])
    return maps, torch.stack([torch.as_tensor(o.photo) for o in drawn]).movedim(-1, 1)/127.5 - 1

@torch.no_grad()
def paint(gen, maps, seed=0):
    "Pictures of the maps, each with a z of its own"
    z = draw_styles(gen, len(maps), torch.Generator().manual_seed(seed))
    return torch.cat([gen(m, z=o) for m, o in zip(maps.split(8), z.split(8))])

class Judge:
    "Unseen scenes, and the scores of a generator on them"
    def __init__(self, size, n):
        self.n, self.labels = n, landscape_labels()
        self.maps, self.photos = scenes(range(n), size)
        self.others = scenes(range(n, 2*n), size)[1]

    def scores(self, gen, segmenter=None):
        fakes, labels = paint(gen, self.maps), self.labels
        res = dict(n=self.n, kid=kid(fakes, self.others), diversity=diversity(gen, self.maps[:12]))
        if segmenter is None: return res
        classes = labels.n_classes, labels.void, labels.codes
        read = lambda x: segmentation_scores(segmenter, x, self.maps, *classes)['miou']
        return res | dict(miou=read(fakes), miou_real=read(self.photos), kid_real=kid(self.photos, self.others))

    def grid(self, gen, seeds=4):
        "Maps, photos and pictures in some styles, uint8 `[H,W,3]`"
        rows = range(min(8, self.n))
        columns = np.stack([to_u8(sample(gen, self.maps[i], seeds, 0)) for i in rows], 1)
        return image_grid(self.labels.colorize(self.maps[:8]), to_u8(self.photos[:8]), *columns)

class Look:
    "Save, write and score a training now and then; none of it is counted, see `TimeBudget`"
    def __init__(self, a, judge): self.a, self.judge = a, judge

    def __call__(self, budget):
        a, learn, minutes = self.a, budget.learn, budget.total()
        steps = learn.model_average.t   # of all processes
        losses = {k: round(v, 3) for k, v in learn.loss_means.means('train').items()}
        learn.save('last')
        words = f'{a.scenes} drawn landscapes of {a.size}x{a.size} (seeds from {FIRST}), '
        words += f'{minutes:.1f} minutes of one core, '
        words += f'{steps} steps of {a.bs}; tools/train_oasis.py --model {a.model} --lr {a.lr:g}'
        words += ' --grain'*a.grain
        with learn.painting() as gen, torch.random.fork_rng():
            encoder = gen.__dict__.get('encoder')
            how = dict(encoder=encoder, half=True, size=[a.size]*2)
            save_pretrained(gen, a.out/'model', learn.dls.labels, 'Apache-2.0', words, **how)
            line = dict(model=a.model, grain=a.grain, seed=a.seed, minutes=round(minutes, 2), steps=steps)
            line |= dict(**self.judge.scores(gen), losses=losses)
            save_picture(self.judge.grid(gen), a.out/f'samples/{minutes:06.2f}.png')
        with open(a.out/'scores.jsonl', 'a') as f: f.write(json.dumps(line) + '\n')
        print(json.dumps(line), flush=True)

def learner(a):
    dls = PairedDataLoaders.from_landscapes(n=a.scenes, n_valid=8, size=a.size, bs=a.bs, seed=FIRST)
    set_seed(a.seed, reproducible=True)
    how = dict(preset='cpu', path=a.out, model_dir='.', reuse_fake=True)
    how |= dict(ngf=a.ngf, nhidden=a.nhidden, average=a.average)
    ours = dict(ndf=a.ndf, labelmix=a.labelmix, grain=a.grain)
    if a.model == 'oasis': return oasis_learner(dls, **ours, **how)
    return spade_learner(dls, z_dim=32, kl=.02, kl_mean=True, kl_warmup=.2, l1=2, **how)

def train(a, judge):
    "Train, or go on"
    learn, told = learner(a), []   # what an earlier process has told
    learn.remove_cb(learn.progress)
    if a.resume:
        learn.load('last')
        told = [json.loads(o) for o in (a.out/'scores.jsonl').read_text().splitlines()]
    last = told[-1] if told else dict(minutes=0.)
    (a.out/'samples').mkdir(parents=True, exist_ok=True)
    budget = TimeBudget(a.minutes, time.process_time, last['minutes'], look=Look(a, judge), every=a.every)
    with CleanStop() as stop, learn.no_logging(): learn.fit(10**6, a.lr, cbs=[budget, stop])

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path)
    p.add_argument('--minutes', type=float, help='of processor time')
    p.add_argument('--model', choices=['oasis', 'spade'], default='oasis')
    p.add_argument('--every', type=float, default=5., help='minutes between two looks')
    p.add_argument('--resume', action='store_true')
    p.add_argument('--segmenter', help='folder of save_segmenter: score OUT/model')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--scenes', type=int, default=1200)
    p.add_argument('--n', type=int, default=100, help='unseen scenes a side')
    p.add_argument('--bs', type=int, default=8)
    p.add_argument('--lr', type=float, default=4e-4, help='half of it for the generator, twice for the critic')
    p.add_argument('--ngf', type=int, default=16)
    p.add_argument('--ndf', type=int, default=16)
    p.add_argument('--nhidden', type=int, default=32)
    p.add_argument('--labelmix', type=float, default=10.)
    p.add_argument('--grain', action='store_true', help="OASIS: a random number of each pixel's own in every layer")
    p.add_argument('--average', type=float, default=.999, help='decay of the averaged weights')
    p.add_argument('--seed', type=int, default=0)
    a = p.parse_args(argv)
    if (a.minutes is None) == (a.segmenter is None): p.error('give --minutes to train, or --segmenter to score')
    taken = a.minutes and not a.resume and (a.out/'last.pth').exists()
    if taken: p.error(f'{a.out} holds a training: go on with --resume')
    a.out = a.out.resolve()
    judge = Judge(a.size, a.n)
    if a.minutes: return train(a, judge)
    told = json.loads((a.out/'scores.jsonl').read_text().splitlines()[-1])
    res = told | judge.scores(from_pretrained(a.out/'model'), load_segmenter(a.segmenter))
    (a.out/'scores.json').write_text(json.dumps(res) + '\n')
    print(json.dumps(res))

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'train_oasis: {e}')

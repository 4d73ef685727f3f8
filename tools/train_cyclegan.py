#!/usr/bin/env python
"""Train on drawn places by day and at dusk (or in autumn), and measure against the true partners of other places.

    OMP_NUM_THREADS=1 python tools/train_cyclegan.py OUT --minutes 4                     CycleGAN, which sees no pairs
    OMP_NUM_THREADS=1 python tools/train_cyclegan.py OUT --minutes 4 --pairs             pix2pix, which is shown them
    OMP_NUM_THREADS=1 python tools/train_cyclegan.py OUT --minutes 4 --kinds day autumn

Minutes are those of the processor: a pause costs nothing. Every two minutes the whole training is saved (OUT/last.pth;
`--resume` goes on with it) and 64 places are measured, which is not counted: a line of OUT/scores.csv each. At the end
OUT holds the generators, scores.json with those who learn nothing beside, and pictures.png: A, as B, the truth. Ctrl-C
and SIGTERM bring the end to the next step.
"""
import argparse, csv, json, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from PIL import Image
from fastai.vision.all import DataLoader, DataLoaders, Tensor, set_seed
from gaugan_fastai.budget import TimeBudget
from gaugan_fastai.callbacks import ModelAverage
from gaugan_fastai.critics import PatchCritic
from gaugan_fastai.data.unpaired import UnpairedDataLoaders, scene_of_kind
from gaugan_fastai.losses import bce
from gaugan_fastai.metrics import KIDFeatures, kid
from gaugan_fastai.models.cyclegan import cyclegan_learner
from gaugan_fastai.models.pix2pix import UNetGenerator, unet_levels
from gaugan_fastai.pictures import image_grid, to_u8
from gaugan_fastai.trainer import TurnsLearner
from gaugan_fastai.turns import Turn, TurnsModel
from stopping import CleanStop

FIRST = 1000    # seed of the first place to train on; those below are measured
SHOWN = 8       # places in pictures.png

def photos(seeds, kind, size):
    "Drawn photos `[N,3,H,W]` in [-1, 1]"
    return torch.tensor(np.stack([scene_of_kind(i, kind, size) for i in seeds])).movedim(-1, 1)/127.5 - 1

class PhotoPix2Pix(TurnsModel):
    "pix2pix from photo to photo: a U-Net, and a critic that sees both photos (arXiv 1611.07004)"
    def __init__(self, size, ngf, l1=100.):
        self.unet = UNetGenerator(3, ngf, levels=unet_levels(size))
        self.critic, self.l1 = PatchCritic(6, ngf, 3), l1

    @property
    def turns(self):
        nets = dict(generator=self.unet, critic=self.critic)
        return [Turn(k, list(o.parameters()), getattr(type(self), f'{k}_losses')) for k, o in nets.items()]

    def make(self, a): return self.unet.decode(self.unet.encode(a))
    def judge(self, a, b): return [self.critic(torch.cat([a, b], 1))]

    def generator_losses(self, a, target, made=None):
        made = self(a)
        return made, dict(gan=bce.generator(self.judge(a, made)), near=self.l1*F.l1_loss(made, target))

    def critic_losses(self, a, target, made):
        return dict(critic=sum(bce.critic(self.judge(a, made.detach()), self.judge(a, target))))

def pair_loaders(a, b, bs):
    "Loaders of true pairs, each also mirrored"
    pairs = [*zip(a, b), *zip(a.flip(-1), b.flip(-1))]
    dls = DataLoaders(DataLoader(pairs, bs=bs, shuffle=True), DataLoader(pairs[:4], bs=4))
    dls.n_inp = 1
    return dls

class Scores:
    "Measure and save a training; a `look` of its `TimeBudget`"
    def __init__(self, a, test): self.a, self.test = a, test

    def __call__(self, budget):
        out, learn = Path(self.a.out), budget.learn
        row = dict(minutes=round(budget.total(), 2), steps=learn.model_average.t)
        row |= self.test(translated(learn, self.test.a))
        row |= {k: round(v, 3) for k, v in learn.loss_means.means('train').items()}
        print(row, flush=True)
        new = not (out/'scores.csv').exists()
        with open(out/'scores.csv', 'a', newline='') as f:
            w = csv.DictWriter(f, row)
            if new: w.writeheader()
            w.writerow(row)
        learn.save('last')
        (out/'progress.json').write_text(json.dumps(dict(minutes=row['minutes'])))

class Test:
    "L1 and KID of pictures against the true partners of the places that are measured"
    def __init__(self, a):
        self.features = KIDFeatures()
        self.a, self.b = (photos(range(a.places), kind, a.size) for kind in a.kinds)

    def __call__(self, x):
        mean, std = kid(x, self.b, feature=self.features)
        apart = (x - self.b).abs().mean().item()
        return dict(l1=round(apart, 4), kid=round(mean, 4), kid_std=round(std, 4))

def translated(learn, a):
    "What a learner makes of photos of A, with averaged weights where there are any"
    model = learn.frozen_model()
    with torch.no_grad(): parts = [model(o) for o in a.split(16)]
    return torch.cat(parts)

def unlearnt(test, a, b):
    "Scores of those who learn nothing: no change, and each channel's mean and spread made those of B"
    mean_a, mean_b = (o.mean((0, 2, 3)).view(3, 1, 1) for o in (a, b))
    std_a, std_b = (o.std((0, 2, 3)).view(3, 1, 1) for o in (a, b))
    recoloured = ((test.a - mean_a)/std_a*std_b + mean_b).clamp(-1, 1)
    return {'the truth': test(test.b), 'no change': test(test.a), 'recoloured': test(recoloured)}

def make(a):
    "The learner"
    if not a.pairs:
        dls = UnpairedDataLoaders.from_landscapes(n=a.n, n_valid=4, size=a.size, bs=a.bs, kinds=a.kinds, seed=FIRST)
        nets = dict(ngf=a.ngf, n_blocks=a.n_blocks, n_layers=a.n_layers, skip=not a.plain, resize=not a.plain)
        losses = dict(cycle=a.cycle, identity=.5 if a.plain else 0.)
        return cyclegan_learner(dls, **nets, **losses, average=a.average, lr=a.lr, path=a.out, model_dir='.')
    dls = pair_loaders(*(photos(range(FIRST, FIRST + a.n), kind, a.size) for kind in a.kinds), a.bs)
    model = PhotoPix2Pix((a.size, a.size), a.ngf)
    return TurnsLearner(dls, model, lr=a.lr, cbs=ModelAverage(a.average), path=a.out, model_dir='.')

def train(a, test):
    "The trained learner, and the minutes that it has had"
    set_seed(a.seed, reproducible=True)
    learn, done = make(a), dict(minutes=0., steps=0)
    if a.resume:
        learn.load('last')
        done = json.loads((Path(a.out)/'progress.json').read_text())
    look = Scores(a, test)
    budget = TimeBudget(a.minutes, time.process_time, done['minutes'], look=look, every=a.every)
    cbs = [budget, stop := CleanStop()]
    with stop, learn.no_bar(), learn.no_logging(): learn.fit_constant_linear(500, 500, cbs=cbs)
    return learn, a.minutes if budget.over else round(budget.total(), 1)

def words(a, steps, minutes):
    "What the card of a generator says"
    what = f'CycleGAN on drawn landscapes {" and ".join(a.kinds)}, {a.n} of each, no place in both, {a.size}x{a.size}'
    how = f'{steps} steps of {a.bs} in {minutes:g} minutes of one CPU core'
    return f'{what}; {how}; made by tools/train_cyclegan.py'

def finish(a, learn, minutes, test, base):
    "Measure and write what has been learnt"
    out, steps, x = Path(a.out), learn.model_average.t, translated(learn, test.a)
    scores = base | {'pix2pix' if a.pairs else 'CycleGAN': test(x)}
    (out/'scores.json').write_text(json.dumps(dict(scores=scores, steps=steps, options=vars(a)), indent=1))
    rows = [test.a, x, test.b]
    if not a.pairs:
        learn.save_pair(out, licence='Apache-2.0', training=words(a, steps, minutes), half=True, size=[a.size]*2)
        with learn.translating(back=True) as to_a: rows.append(to_a(x[:SHOWN]))
    Image.fromarray(image_grid(*[to_u8(o[:SHOWN]) for o in rows])).save(out/'pictures.png')
    print(json.dumps(scores, indent=1), f'{steps} steps', flush=True)

def options():
    "The command line"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', help='folder of the run')
    p.add_argument('--pairs', action='store_true', help='train pix2pix on true pairs instead')
    p.add_argument('--plain', action='store_true', help="the paper's generator and its identity loss")
    p.add_argument('--kinds', nargs=2, default=['day', 'dusk'])
    p.add_argument('--minutes', type=float, default=4.)
    p.add_argument('--every', type=float, default=2., help='minutes between two measurements')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--n', type=int, default=400, help='photos of each kind')
    p.add_argument('--places', type=int, default=64, help='how many are measured')
    p.add_argument('--bs', type=int, default=2)
    p.add_argument('--ngf', type=int, default=8)
    p.add_argument('--n_blocks', type=int, default=3)
    p.add_argument('--n_layers', type=int, default=3)
    p.add_argument('--cycle', type=float, default=10.)
    p.add_argument('--average', type=float, default=.99)
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--resume', action='store_true', help='go on with the training in OUT')
    return p

def main(argv=None):
    "Train, measure, save"
    a = options().parse_args(argv)
    Path(a.out).mkdir(parents=True, exist_ok=True)
    test, base = Test(a), {}
    some = range(FIRST, FIRST + min(200, a.n))
    if not a.pairs: base = unlearnt(test, *(photos(some, kind, a.size) for kind in a.kinds))
    print(base, flush=True)
    finish(a, *train(a, test), test, base)

if __name__ == '__main__': main()

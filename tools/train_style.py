#!/usr/bin/env python
"""Train the small network with styles that the lesson nbs/35_models.style.ipynb paints with, on drawn landscapes.

    OMP_NUM_THREADS=1 python tools/train_style.py data/weights/landscapes_style --minutes 13
    OMP_NUM_THREADS=1 python tools/train_style.py data/weights/landscapes_style --norms
    OMP_NUM_THREADS=1 python tools/train_style.py OUT --minutes 120 --checkpoints FOLDER [--resume]

Draws the scenes, trains until the process has had its minutes of processor time (a pause costs nothing), and writes
generator and encoder (16 bits a number) with their cards. The second command only computes the batch-norm statistics of
weights anew, on 32 batches of scenes painted in their own styles. The third saves the whole training every ten minutes,
and goes on with it. Ctrl-C and SIGTERM end a training at its next step: it is saved, and its weights are written.
"""
import argparse, json, time
from pathlib import Path
import torch
from torch import nn
from fastai.vision.all import set_seed
from gaugan_fastai.budget import TimeBudget
from gaugan_fastai.callbacks import Keep
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.encoder import EncodedGAN
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from stopping import CleanStop

FIRST = 1000    # seed of the first scene; the lesson and its tests look at scenes below it

class Checkpoints(Keep):
    "Save the training and how many minutes it has had"
    def __init__(self, folder, budget, every=10.):
        super().__init__(Path(folder).resolve()/'last', every, path=folder)
        self.budget = budget

    def _save(self):
        super()._save()
        progress = dict(minutes=self.budget.total(), epochs=len(self.learn.history))
        (Path(self.path)/'progress.json').write_text(json.dumps(progress))

def train(a):
    "The trained learner, and the minutes that it has had"
    dls = PairedDataLoaders.from_landscapes(n=a.scenes, n_valid=32, size=a.size, bs=a.bs, seed=FIRST)
    set_seed(a.seed, reproducible=True)
    styles = dict(z_dim=a.z_dim, kl=a.kl, kl_mean=True, kl_warmup=a.warmup)
    learn = spade_learner(dls, 'cpu', ngf=a.ngf, l1=a.l1, reuse_fake=True, **styles)
    if a.resume: learn.load(Path(a.checkpoints).resolve()/'last')
    spent = json.loads((Path(a.checkpoints)/'progress.json').read_text())['minutes'] if a.resume else 0.
    budget = TimeBudget(a.minutes, time.process_time, spent)
    cbs = [budget]
    if a.checkpoints:
        Path(a.checkpoints).mkdir(parents=True, exist_ok=True)
        cbs.append(Checkpoints(a.checkpoints, budget))
    with CleanStop() as stop, learn.no_bar(): learn.fit_constant_linear(500, 500, lr=a.lr, cbs=[*cbs, stop])
    return learn, a.minutes if budget.over else round(budget.total(), 1)

@torch.no_grad()
def new_norms(a, n=256):
    "Batch-norm statistics of the weights in `a.out`, from scenes of the training in the styles of their photos"
    model = from_pretrained(a.out)
    dls = PairedDataLoaders.from_landscapes(n=n, n_valid=32, size=a.size, bs=a.bs, seed=FIRST)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None                                   # the mean over all batches
    gan = EncodedGAN(model.train(), encoder=model.encoder)
    torch.manual_seed(a.seed)
    for segmap, photo in dls.train: gan.paint((segmap,), photo)
    words = model.card['training'].split('; batch-norm')[0]
    words += f'; batch-norm statistics from {n} of the scenes (--norms)'
    extra = {k: model.card[k] for k in ('size', 'losses')}
    save_pretrained(model.eval(), a.out, model.labels, 'Apache-2.0', words, half=True, **extra)

def main(argv=None):
    "Train, save, report"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', help='folder for the weights')
    p.add_argument('--minutes', type=float, default=12.)
    p.add_argument('--scenes', type=int, default=1500, help='how many are drawn')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--bs', type=int, default=8)
    p.add_argument('--ngf', type=int, default=8)
    p.add_argument('--z_dim', type=int, default=32)
    p.add_argument('--kl', type=float, default=.02, help='weight of the KL, mean over the batch')
    p.add_argument('--warmup', type=float, default=.2, help='part of the training in which the KL grows from 0')
    p.add_argument('--l1', type=float, default=5.)
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--checkpoints', help='folder for the whole training, saved every ten minutes')
    p.add_argument('--resume', action='store_true', help='go on with the training in --checkpoints')
    p.add_argument('--norms', action='store_true', help='only compute batch-norm statistics anew')
    a = p.parse_args(argv)
    if a.norms: return new_norms(a)
    start, (learn, minutes) = time.time(), train(a)
    steps, epochs = learn.model_average.t, len(learn.history)
    words = (f'{a.scenes} drawn landscapes of {a.size}x{a.size} (seeds from {FIRST}), {steps} steps of {a.bs} '
        f'({epochs} epochs) in {minutes:g} minutes of one CPU core: hinge + 10 feature matching + 10 perceptual '
        f'(efficientnet-lite0) + {a.l1:g} L1 + {a.kl:g} KL (mean over the batch, warm-up over {a.warmup:g}), '
        f'lr {a.lr:g}; made by tools/train_style.py')
    # without history it was stopped in its first epoch
    last = learn.history[-1]['train'] if learn.history else learn.loss_means.means('train')
    losses = {k: round(v, 4) for k, v in last.items()}
    with learn.painting() as gen:
        save_pretrained(gen, a.out, learn.labels, 'Apache-2.0', words, half=True, size=[a.size]*2, losses=losses)
    print(f'{words}\nwritten to {a.out} after {time.time() - start:.0f} s')

if __name__ == '__main__': main()

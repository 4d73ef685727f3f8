#!/usr/bin/env python
"""Train the SEAN that the lessons paint with on drawn landscapes; minutes are processor time, on a GPU of the clock.

    OMP_NUM_THREADS=1 python tools/train_sean.py OUT --minutes 40             64x64, on one core
    OMP_NUM_THREADS=1 python tools/train_sean.py OUT --minutes 40 --resume    after it was stopped (Ctrl-C, SIGTERM)
    python tools/train_sean.py OUT --save data/weights/landscapes_sean        write the weights
    python tools/train_sean.py OUT --minutes 8 --size 128 --ngf 20 --style-dim 32 --device cuda --workers 4

The last one, with all its options, is on the card of data/weights/landscapes_sean.

In most of the training photos every class is painted in the style of a day of its own, so that a region's style says
nothing of the others'; and --locality weighs a loss that asks for edits that stay in their region. Checkpoints, history
and sample pictures go into the first folder. The data are drawn by our own code.
"""
import argparse, json, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import set_seed
from gaugan_fastai.budget import TimeBudget
from gaugan_fastai.callbacks import Keep
from gaugan_fastai.core import InputError
from gaugan_fastai.data.daylight import draw_style
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels, render
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.models.sean import StyleGrid, locality_term, sean_learner
from gaugan_fastai.pretrained import save_pretrained
from gaugan_fastai.styles import StyleLibrary, encode_all
from stopping import CleanStop

WIDTHS = dict(ngf=10, style_dim=16, nhidden=16, width=8, ndf=24)
LOSSES = dict(l1=10., perceptual_weight=10., reuse_fake=True, average=.995)
LOCALITY = 30.

def mixed_scene(seed, size, share=.9):
    "(segmap, photo) of a drawn scene; with probability `share` each class is painted in the style of a day of its own"
    segmap, photo, _ = draw_landscape(seed, size)
    if np.random.default_rng(seed).random() > share: return segmap, photo
    for k in np.unique(segmap):
        day = render(segmap, draw_style(10**6 + 19*seed + int(k)), seed)
        photo = np.where((segmap == k)[..., None], day, photo)
    return segmap, photo

def stacked_scene(job): return np.dstack(mixed_scene(*job))

def mixed_scenes(n, size, file):
    "Mixed scenes from seed 1000 on; drawn once and kept in `file`"
    if not file.exists():
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context('fork')) as pool:
            np.savez(file, *pool.map(stacked_scene, [(1000 + i, size) for i in range(n)], chunksize=8))
    with np.load(file) as kept: scenes = [kept[k] for k in kept.files[:n]]
    return [(o[..., 0], o[..., 1:]) for o in scenes]

def make_dls(run, n, seed, n_valid=32, size=64, bs=8, **how):
    "Loaders of mixed scenes; those to validate on are whole, seeds 0.."
    valid = [draw_landscape(i, size)[:2] for i in range(n_valid)]
    train = mixed_scenes(n, size, run/'scenes.npz')
    return PairedDataLoaders.from_pairs(train, valid, landscape_labels(), size, bs, seed=seed, **how)

class KeepSpent(Keep):
    "A `Keep` that also writes how many minutes and steps the run has had"
    def _save(self):
        super()._save()
        steps, budget = self.learn.model_average.t, self.learn.time_budget
        where = torch.cuda.get_device_name() if self.learn.dls.device.type == 'cuda' else 'one core'
        text = json.dumps(dict(minutes=round(budget.total(), 2), steps=steps, where=where))
        (Path(self.path)/'spent.json').write_text(text)

    def after_fit(self): self._save()

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('run', help='folder for checkpoints, history and samples')
    p.add_argument('--minutes', type=float, default=40,
        help='processor time of the whole run; the learning rate falls over its second half')
    p.add_argument('--n', type=int, default=2400, help='scenes to train on')
    p.add_argument('--size', type=int, default=64, help='pixels of a side')
    p.add_argument('--ngf', type=int, default=WIDTHS['ngf'], help='width of the generator')
    p.add_argument('--style-dim', type=int, default=WIDTHS['style_dim'], help='length of a style code')
    p.add_argument('--nhidden', type=int, default=WIDTHS['nhidden'], help='hidden channels of the label branch')
    p.add_argument('--width', type=int, default=WIDTHS['width'], help='width of the style encoder')
    p.add_argument('--ndf', type=int, default=WIDTHS['ndf'], help='width of the critic')
    p.add_argument('--average', type=float, default=LOSSES['average'], help='decay of the averaged weights')
    p.add_argument('--device', default='cpu')
    p.add_argument('--workers', type=int, default=0, help='processes that load')
    p.add_argument('--bs', type=int, default=8, help='batch size')
    p.add_argument('--lr', type=float, default=1.5e-3, help='base learning rate')
    p.add_argument('--locality', type=float, default=LOCALITY,
        help='weight of the change that a code makes outside of its region, beyond --margin')
    p.add_argument('--margin', type=float, default=.08, help='share of the change that may fall outside for nothing')
    p.add_argument('--part', type=float, help='end this command after so many minutes, to be resumed')
    p.add_argument('--resume', action='store_true', help='go on where the run was stopped')
    p.add_argument('--save', help='write the weights of the run into this folder, in half precision, and end')
    p.add_argument('--note', default='', help='with --save: a sentence for the card')
    a = p.parse_args(argv)
    run, spent = Path(a.run), dict(minutes=0., steps=0)
    run.mkdir(parents=True, exist_ok=True)
    if a.resume or a.save: spent = json.loads((run/'spent.json').read_text())
    set_seed(spent['steps'], reproducible=a.device == 'cpu')
    how = dict(device=torch.device(a.device), num_workers=a.workers)
    dls = make_dls(run, 512 if a.save else a.n, spent['steps'], size=a.size, bs=a.bs, **how)
    grid = StyleGrid(6, path=run/'samples')
    terms = dict(locality=locality_term(a.locality, a.margin)) if a.locality else None
    widths = {k: getattr(a, k) for k in WIDTHS}
    losses = LOSSES | dict(average=a.average)
    learn = sean_learner(dls, path=run, cbs=[grid], locality=a.locality, terms=terms, **widths, **losses)
    if a.resume or a.save: learn.load('last')
    if a.save: return save(learn, a.save, spent, a.note and f'. {a.note}')
    if spent['minutes'] >= a.minutes:
        raise InputError(f'the run has had its {a.minutes} minutes', 'give more with --minutes')
    clock = time.process_time if a.device == 'cpu' else time.monotonic
    if a.device != 'cpu': torch.set_float32_matmul_precision('high')
    cbs = [TimeBudget(a.minutes, clock, spent['minutes'], a.part), KeepSpent('last', 1, run)]
    with CleanStop() as stop, learn.no_bar(): learn.fit_constant_linear(500, 500, lr=a.lr, cbs=[*cbs, stop])
    return 0

def save(learn, folder, spent, note=''):
    "Write averaged weights as half precision, the library of styles beside them, and the card"
    learn.usual_codes()   # they go along with the weights
    maps, photos = (torch.cat([b[i] for b in learn.dls.valid]).as_subclass(torch.Tensor) for i in (0, 1))
    with learn.painting() as gen: l1 = (gen(maps, photos) - photos).abs().mean().item()
    h, w = learn.dls.size
    training = (f'{h}x{w} landscapes drawn by gaugan_fastai.data.landscapes, in most of them each class in the style '
        f'of a day of its own; {spent["minutes"]:.0f} minutes of {spent.get("where", "one core")}, about '
        f'{spent["steps"]} steps; hinge, feature matching, L1, a perceptual and a locality loss '
        f'(tools/train_sean.py){note}')
    card = dict(training=training, size=[h, w], valid=dict(pictures=len(maps), l1=round(l1, 4)))
    with learn.painting() as gen:
        save_pretrained(gen, folder, learn.labels, half=True, licence='Apache-2.0', **card)
        StyleLibrary.fit(encode_all(gen, learn.dls.train, 512)).save(folder)
    file = Path(folder)/'model.safetensors'
    print(f'{file}: {file.stat().st_size/1e6:.1f} MB, L1 {l1:.4f} on {len(maps)} scenes that it has not seen')
    return 0

if __name__ == '__main__':
    try: sys.exit(main())
    except InputError as e: sys.exit(print(e, file=sys.stderr) or 1)

#!/usr/bin/env python
"""Estimate the batch norms' statistics of saved weights anew, on scenes or photos such as they were trained on.

    OMP_NUM_THREADS=2 python tools/norm_statistics.py BEFORE OUT                       drawn landscapes
    OMP_NUM_THREADS=2 python tools/norm_statistics.py BEFORE OUT --data FOLDER --train train val --load 208

Weights that are averages (`ModelAverage`, `tools/average_weights.py`) were never run in training, so their statistics
are those of other weights until somebody makes them (Izmailov et al. 2018, arXiv 1803.05407, section 3.2; OASIS, arXiv
2012.04781, section 3). A training leaves those of its last 8 batches. Here --n pairs pass in batches of --bs in
training mode, each photo with its own style; the mean over the passes is kept, and the vectors of spectral norms, which
the same passes bring up to date. No parameter changes, but what styles are drawn from is left out:
`tools/style_prior.py OUT` reads it anew.
"""
import argparse
from pathlib import Path
import torch
from torch import nn
from fastai.vision.all import set_seed
from safetensors.torch import load_file
from gaugan_fastai.callbacks import forget_norms
from gaugan_fastai.core import InputError
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.registry import family_named, network_of
from usual_codes import BY_ITSELF

FIRST = 1000   # seed of the first scene, where trainings begin

def loaders(a, size):
    "Pairs that the weights may have seen; a batch at a time"
    how = dict(size=size, bs=a.bs, device='cpu')
    if not a.data: return PairedDataLoaders.from_landscapes(a.n, 1, seed=FIRST, flip=0, **how)
    return PairedDataLoaders.from_folder(a.data, train=a.train, valid=a.train, load=a.load, **how)

def estimate(gen, dls, n):
    "Pass so many pairs through a generator, which gets the statistics; give how many"
    learn = family_named(network_of(gen).family).learner(dls, pretrained=(gen, None))
    model, passed = learn.model.train(), 0
    forget_norms([model.generator])
    with torch.no_grad():
        for *xb, photo in dls.train:
            model.rehearse(xb, photo)
            passed += len(photo)
            if passed >= n: break
    gen.load_state_dict(model.generator.state_dict())
    return passed

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('before', type=Path, help='folder of save_pretrained')
    p.add_argument('out', type=Path, help='folder to write; may be the same')
    p.add_argument('--n', type=int, default=128, help='pairs')
    p.add_argument('--bs', type=int, default=16)
    p.add_argument('--data', type=Path, help='folder of pairs; default: drawn landscapes')
    p.add_argument('--train', nargs='+', default=['train'], help='parts of the folder')
    p.add_argument('--load', type=int, help='scale photos to this short side')
    a = p.parse_args(argv)
    if a.n < a.bs: p.error(f'--n is {a.n}: give a batch (--bs {a.bs}) or more')
    set_seed(0)
    gen = from_pretrained(a.before)
    if not any(isinstance(o, nn.modules.batchnorm._BatchNorm) for o in gen.modules()):
        raise InputError(f'{a.before} has no batch norm', 'there is nothing to estimate')
    half = any(v.dtype == torch.float16 for v in load_file(a.before/'model.safetensors').values())
    passed = estimate(gen, loaders(a, gen.size or tuple(gen.card['size'])), a.n)
    gen.prior, card = None, {k: v for k, v in gen.card.items() if k not in BY_ITSELF}
    card['training'] += f'; tools/norm_statistics.py BEFORE OUT --n {a.n}'
    save_pretrained(gen, a.out, half=half, **card)
    print(f'{a.out}: statistics of {passed} pairs')

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'norm_statistics: {e}')

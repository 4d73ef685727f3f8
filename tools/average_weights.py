#!/usr/bin/env python
"""Lay the weights of two trainings of one network between each other, and write the network that they make.

    python tools/average_weights.py BEFORE AFTER OUT --share .75

Each number becomes (1 - share) times that of BEFORE plus share times that of AFTER. That makes a network as good as
both only where AFTER went on from BEFORE (Izmailov et al. 2018, arXiv 1803.05407; Wortsman et al. 2022, arXiv
2109.01903). Batch norm's statistics and the encoder are mixed likewise. The card of OUT is that of AFTER, and says what
was done.
"""
import argparse
from pathlib import Path
import torch
from gaugan_fastai.core import InputError
from gaugan_fastai.pretrained import from_pretrained, save_pretrained

def mixed(before, after, share):
    "`after` with numbers between those of both"
    first, last = before.state_dict(), after.state_dict()
    if {k: v.shape for k, v in first.items()} != {k: v.shape for k, v in last.items()}:
        raise InputError('the two networks are not of one shape', 'give two trainings of the same network')
    new = {k: torch.lerp(first[k], v, share) if v.is_floating_point() else v for k, v in last.items()}
    after.load_state_dict(new)
    return after

def main(argv=None):
    "Load, mix, write"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('before', help='folder of the weights that the training began with')
    p.add_argument('after', help='folder of the weights that it ended with')
    p.add_argument('out', type=Path, help='folder to write')
    p.add_argument('--share', type=float, default=.75, help="share of AFTER's numbers, 0 to 1")
    a = p.parse_args(argv)
    if not 0 <= a.share <= 1: p.error(f'--share is {a.share}, but it lies between 0 and 1')
    before, after = from_pretrained(a.before), from_pretrained(a.after)
    card = after.card
    gen = mixed(before, after, a.share)
    encoder = gen.__dict__.get('encoder')
    if encoder is not None: mixed(before.encoder, encoder, a.share)
    gen.prior = None   # it is that of one of the encoders: tools/style_prior.py makes a new one
    words = f'{card["training"]}; tools/average_weights.py BEFORE AFTER OUT --share {a.share:g}'
    save_pretrained(gen, a.out, gen.labels, card['licence'], words, encoder=encoder, half=True, size=card['size'])
    print(f'{a.out}: {1 - a.share:.0%} of {a.before}, {a.share:.0%} of {a.after}')

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'average_weights: {e}')

#!/usr/bin/env python
"""Teach a painter of drawn landscapes to paint some classes as another one does, and all else as it did before.

    OMP_NUM_THREADS=1 python tools/distil.py KEEP OTHER OUT --classes sky

KEEP and OTHER are weights of one network with styles (z) and a prior, such as the end of a training and the middle of
its way (`tools/average_weights.py`). Both paint --n scenes from seed 1000 on, each in a style by chance, half of them
among the darkest quarter of all that were drawn, since what is wrong with a sky is seen at night. The targets are
KEEP's pictures, with OTHER's where the map has one of --classes. The fine end of KEEP (--layers) is then trained on
them, with the L1 distance as loss and the statistics of batch norm as they are (distillation: Hinton et al. 2015, arXiv
1503.02531). The targets are pictures of networks, so there is nothing that it could not learn to paint sharply.
"""
import argparse, random, time
from pathlib import Path
import torch
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.encoder import draw_styles
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from score_landscapes import scenes
from usual_codes import BY_ITSELF

FIRST = 1000   # seed of the first scene

@torch.no_grad()
def pictures(gen, maps, styles):
    "Pictures `[N,3,H,W]`, each map in its style"
    painter = gen.for_inference()
    return torch.cat([painter(m[None], z=z[None]).clone() for m, z in zip(maps, styles)])

def nightly(gen, n, size, generator):
    "Styles `[n,z_dim]` by chance, half of them among the darkest quarter, as a bare sky shows it"
    labels = landscape_labels()
    styles = draw_styles(gen, 4*n, generator)
    plain = torch.full((n*2, *size), labels.codes.index('sky'))
    plain[:, size[0]//2:] = labels.codes.index('grass')
    light = pictures(gen, plain, styles[::2]).mean((1, 2, 3))
    return torch.cat([styles[::2][light.argsort()[:n//2]], styles[1::2][:n - n//2]])

def targets(keep, other, maps, styles, classes):
    "KEEP's pictures, with OTHER's where the map has one of these classes"
    both = [pictures(gen, maps, styles) for gen in (keep, other)]
    theirs = torch.isin(maps, torch.tensor(classes))[:, None]
    return torch.where(theirs, both[1], both[0])

def learn(a, gen, maps, styles, wanted):
    "Train the last layers; the learning rate falls to 0 in the second half. Gives the means of 50 losses"
    moving = [p for k, p in gen.named_parameters() if k.split('.')[0] in a.layers]
    if not moving: raise InputError(f'no layer begins with {" or ".join(a.layers)}', 'see named_parameters()')
    for p in gen.parameters(): p.requires_grad_(False)
    for p in moving: p.requires_grad_(True)
    opt, rng, losses, start = torch.optim.Adam(moving, betas=(.5, .99)), random.Random(a.seed), [], time.monotonic()
    curve = []
    for i in range(a.steps):
        opt.param_groups[0]['lr'] = a.lr*min(1, 2*(1 - i/a.steps))
        j = rng.randrange(len(maps))
        loss = (gen(maps[j:j+1], z=styles[j:j+1]) - wanted[j:j+1]).abs().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
        if i % 50 < 49: continue
        curve.append(dict(steps=i + 1, l1=round(sum(losses[-50:])/50, 4)))
        print(f'{time.monotonic() - start:.0f} s, {curve[-1]}', flush=True)
    for p in gen.parameters(): p.requires_grad_(True)
    return curve

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('keep', type=Path, help='folder of the weights to train')
    p.add_argument('other', type=Path, help='folder of weights that paint some classes better')
    p.add_argument('out', type=Path, help='folder to write')
    p.add_argument('--classes', nargs='+', default=['sky'])
    p.add_argument('--layers', nargs='+', default=['up_1', 'up_2', 'up_3', 'conv_img'])
    p.add_argument('--n', type=int, default=160, help='pictures to learn from')
    p.add_argument('--steps', type=int, default=400, help='of one picture each')
    p.add_argument('--lr', type=float, default=1e-4)
    p.add_argument('--seed', type=int, default=0)
    a = p.parse_args(argv)
    keep, other, codes = from_pretrained(a.keep), from_pretrained(a.other), landscape_labels().codes
    for o in (keep, other):
        if o.styles == 'z' and getattr(o, 'prior', None): continue
        raise InputError(f'styles of a {type(o).__name__} are {o.styles!r}', 'both painters need a z and a prior')
    for o in a.classes:
        if o not in codes: raise InputError(f'no class is called {o!r}', f'choose of {", ".join(codes)}')
    size = tuple(keep.card['size'])
    maps = scenes(range(FIRST, FIRST + a.n), size)[0]
    styles = nightly(keep, a.n, size, torch.Generator().manual_seed(a.seed + 1))
    wanted = targets(keep, other, maps, styles, [codes.index(o) for o in a.classes])
    curve = learn(a, keep.eval(), maps, styles, wanted)
    card = {k: v for k, v in keep.card.items() if k not in BY_ITSELF} | dict(seed=a.seed, curve=curve)
    card['training'] += f'; tools/distil.py KEEP OTHER OUT --classes {" ".join(a.classes)} --n {a.n} --steps {a.steps}'
    save_pretrained(keep, a.out, half=True, **card)

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'distil: {e}')

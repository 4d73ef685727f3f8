#!/usr/bin/env python
"""Score a painter of drawn landscapes on scenes that no training has seen.

    OMP_NUM_THREADS=2 python tools/score_landscapes.py data/weights/landscapes
    OMP_NUM_THREADS=2 python tools/score_landscapes.py data/weights/landscapes --write

Paints the maps of `--n` scenes (seeds 0 ...; trainings start at 1000), each in a style of its own drawn by chance, and
compares them with the photos of `--n` other scenes (seeds n ...): KID at the size of the painter and reduced to the
sizes in `--sizes` (bilinear with antialiasing). Beside it real against real: the photos of the maps' own scenes against
the same others. Diversity is the mean absolute difference, in [0, 2], of two pictures of one map in two styles. With
--write the scores and their protocol go into the model's card.
"""
import argparse, json
from pathlib import Path
import torch
from torch.nn import functional as F
from fastai.vision.all import set_seed
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.metrics import kid
from gaugan_fastai.pretrained import from_pretrained
from gaugan_fastai.safe import write_whole

def scenes(seeds, size):
    "Label maps int64 `[N,H,W]` and photos `[N,3,H,W]` in [-1,1]"
    drawn = [draw_landscape(i, size) for i in seeds]
    maps = torch.stack([torch.as_tensor(o[0]).long() for o in drawn])
    photos = torch.stack([torch.as_tensor(o[1]) for o in drawn]).permute(0, 3, 1, 2)
    return maps, photos.float()/127.5 - 1

@torch.no_grad()
def paint(gen, maps, seed, bs=4):
    "Pictures `[N,3,H,W]`, each map in a style of its own"
    z = torch.randn(len(maps), gen.z_dim, generator=torch.Generator().manual_seed(seed))
    return torch.cat([gen(m, z=o).clone() for m, o in zip(maps.split(bs), z.split(bs))])

def reduced(pictures, width):
    "The pictures with this many columns"
    size = round(pictures.shape[-2]*width/pictures.shape[-1]), width
    return pictures if width == pictures.shape[-1] else F.interpolate(pictures, size, mode='bilinear', antialias=True)

def main(argv=None):
    "Score, print, write"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model', help='folder with the weights')
    p.add_argument('--n', type=int, default=200, help='how many scenes')
    p.add_argument('--sizes', type=int, nargs='*', default=[64], help='further widths at which KID is measured')
    p.add_argument('--write', action='store_true', help="write the scores into the model's card")
    a = p.parse_args(argv)
    set_seed(0)
    model = from_pretrained(a.model)
    gen = model.for_inference()
    maps, photos = scenes(range(a.n), gen.size)
    _, others = scenes(range(a.n, 2*a.n), gen.size)
    fakes, again = paint(gen, maps, 0), paint(gen, maps, 1)
    last = a.n - 1
    res = dict(n=a.n, protocol=f'maps of scenes 0..{last}, a random style each, against the photos of scenes '
        f'{a.n}..{a.n + last}; KID with efficientnet-lite0 (1280 pooled features at 224x224), mean and scatter of 100 '
        'subsets')
    for width in sorted({*a.sizes, gen.size[1]}):
        f, r, o = (reduced(x, width) for x in (fakes, photos, others))
        res[f'kid_{width}'] = [round(v, 4) for v in kid(f, o)]
        res[f'real_{width}'] = [round(v, 4) for v in kid(r, o)]
    res['diversity'] = round((fakes - again).abs().mean().item(), 4)
    print(json.dumps(res, indent=1))
    if not a.write: return
    card = Path(a.model)/'model.json'
    text = json.loads(card.read_text(encoding='utf-8')) | dict(scores=res)
    lines = [f' {json.dumps(k)}: {json.dumps(v)}' for k, v in text.items()]
    with write_whole(card) as part: part.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')

if __name__ == '__main__': main()

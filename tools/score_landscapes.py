#!/usr/bin/env python
"""Score a painter of drawn landscapes on scenes that no training has seen.

    OMP_NUM_THREADS=2 python tools/score_landscapes.py data/weights/landscapes
    OMP_NUM_THREADS=2 python tools/score_landscapes.py data/weights/landscapes --write
    OMP_NUM_THREADS=2 python tools/score_landscapes.py data/weights/landscapes --segmenter FOLDER --parts miou --write

Paints the maps of `--n` scenes (seeds 0 ...; trainings start at 1000), each in a style of its own drawn by chance, and
compares them with the photos of `--n` other scenes (seeds n ...): KID at the size of the painter and reduced to the
sizes in `--sizes` (bilinear with antialiasing). Beside it real against real: the photos of the maps' own scenes against
the same others. Diversity is the mean absolute difference, in [0, 2], of two pictures of one map in two styles. With
--segmenter (tools/train_segmenter.py landscapes FOLDER) mIoU and pixel accuracy: how well it reads the maps back off
the painted pictures, reduced to the size that it was trained at, and off the real ones; of a painter with an encoder
also off pictures that have the style of the map's own photo: a style by chance paints a map with a moon by day, and
what is read then is a sun. Speckles, only where they are asked for: the mean absolute difference of the upper right
corner (40 pixels of 256) from its own 3x3 means, over all pictures and in the worst. With --write the scores and
their protocol go into the model's card; what is not among --parts stays there as it is.

A model with a code for each class draws them from its prior (lesson 55). For comparison --codes usual paints all maps
in the mean code of each class, --codes alone draws each class on its own (styles.safetensors, lesson 54); such scores
are printed and not written.
"""
import argparse, json
from pathlib import Path
import torch
from torch.nn import functional as F
from fastai.vision.all import set_seed
from gaugan_fastai.core import InputError, resize_map
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.encoder import draw_styles
from gaugan_fastai.metrics import kid, load_segmenter, segmentation_scores
from gaugan_fastai.pretrained import from_pretrained
from gaugan_fastai.safe import write_whole
from gaugan_fastai.styles import StyleLibrary

PARTS = ('kid', 'diversity', 'miou', 'speckles')

def scenes(seeds, size):
    "Label maps int64 `[N,H,W]` and photos `[N,3,H,W]` in [-1,1]"
    drawn = [draw_landscape(i, size) for i in seeds]
    maps = torch.stack([torch.as_tensor(o[0]).long() for o in drawn])
    photos = torch.stack([torch.as_tensor(o[1]) for o in drawn]).permute(0, 3, 1, 2)
    return maps, photos.float()/127.5 - 1

# styles of n maps: from the prior (z: or from N(0, 1)); the usual codes; each class on its own
ways = dict(drawn=lambda a, gen, n, g: draw_styles(gen, n, g), usual=lambda a, gen, n, g: gen.usual.expand(n, -1, -1),
    alone=lambda a, gen, n, g: StyleLibrary.load(a.model).sample(n, g))

def paint(a, gen, maps, seed):
    "Pictures `[N,3,H,W]`, each map in a style by chance"
    return paint_in(gen, maps, ways[a.codes](a, gen, len(maps), torch.Generator().manual_seed(seed)))

@torch.no_grad()
def paint_own(gen, maps, photos):
    "Pictures `[N,3,H,W]`, each map in the style of its photo; None for a painter that reads none"
    encoder = getattr(gen, 'encoder', None) if gen.styles == 'z' else None
    if encoder is None: return None
    return paint_in(gen, maps, torch.cat([encoder(o)[0] for o in photos.split(4)]))

@torch.no_grad()
def paint_in(gen, maps, styles, bs=4):
    "Pictures `[N,3,H,W]` in these styles"
    batches = zip(maps.split(bs), styles.split(bs))
    return torch.cat([gen(m, **{gen.styles: o}).clone() for m, o in batches])   # z= or codes=

def reduced(pictures, width):
    "The pictures with this many columns"
    size = round(pictures.shape[-2]*width/pictures.shape[-1]), width
    return pictures if width == pictures.shape[-1] else F.interpolate(pictures, size, mode='bilinear', antialias=True)

def kid_scores(a, fakes, photos, others):
    "KID by width, and real against real"
    n, last, res = a.n, 2*a.n - 1, {}
    for width in sorted({*a.sizes, fakes.shape[-1]}):
        f, r, o = (reduced(x, width) for x in (fakes, photos, others))
        res[f'kid_{width}'] = [round(v, 4) for v in kid(f, o)]
        res[f'real_{width}'] = [round(v, 4) for v in kid(r, o)]
    words = f'maps of scenes 0..{n - 1}, a random style each, against the photos of scenes {n}..{last}; KID with '
    words += 'efficientnet-lite0 (1280 pooled features at 224x224), mean and scatter of 100 subsets'
    return dict(protocol=words) | res

def speckles(pictures):
    "[mean, worst] over the pictures: how far pixels of the upper right corner are from their 3x3 means"
    side = pictures.shape[-1]*40//256
    far = (pictures - F.avg_pool2d(pictures, 3, 1, 1)).abs().mean(1)
    found = far[:, 1:side, -side - 1:-1].mean((1, 2))   # at the border the mean has zeros in it
    return [round(o.item(), 4) for o in (found.mean(), found.max())]

def read_back(a, fakes, own, photos, maps):
    "mIoU and pixel accuracy of painted and of real pictures, and of those in their own styles, if there are some"
    segmenter, labels = load_segmenter(a.segmenter), landscape_labels()
    size, n, card = tuple(segmenter.card['size']), a.n, segmenter.card
    small = resize_map(maps, size)
    def read(pictures):
        found = segmentation_scores(segmenter, reduced(pictures, size[1]), small, labels.n_classes, labels.void)
        return [round(found[k], 4) for k in ('miou', 'accuracy')]
    (miou, accuracy), (real, real_accuracy) = read(fakes), read(photos)
    words = f'maps of scenes 0..{n - 1} at {size[0]}x{size[1]}, read by a segmenter (tools/train_segmenter.py: '
    words += f'{card["n_train"]} other drawn scenes'
    if 'drawn' in card: words += f', reduced from {card["drawn"][0]}x{card["drawn"][1]} like the pictures'
    words += f', {card["epochs"]} epochs); real: the photos of the same scenes'
    res = dict(miou_protocol=words, miou=miou, real_miou=real, miou_share=round(miou/real, 3))
    res |= dict(accuracy=accuracy, real_accuracy=real_accuracy)
    if own is None: return res
    res['miou_protocol'] += "; own: each picture in the style of the map's photo, else in one by chance"
    miou, accuracy = read(own)
    return res | dict(own_miou=miou, own_miou_share=round(miou/real, 3), own_accuracy=accuracy)

def write_card(folder, res):
    "The scores in the card; those that were not measured now stay"
    card = Path(folder)/'model.json'
    text = json.loads(card.read_text(encoding='utf-8'))
    kept = text.get('scores', {})
    if kept.get('n', res['n']) != res['n']:
        raise InputError(f'the card has scores of {kept["n"]} scenes', 'give that --n')
    text['scores'] = kept | res
    lines = [f' {json.dumps(k)}: {json.dumps(v)}' for k, v in text.items()]
    with write_whole(card) as part: part.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')

def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model', help='folder with the weights')
    p.add_argument('--n', type=int, default=200, help='how many scenes')
    p.add_argument('--sizes', type=int, nargs='*', default=[64], help='further widths at which KID is measured')
    p.add_argument('--segmenter', help='folder of a segmenter, for miou')
    p.add_argument('--parts', nargs='+', choices=PARTS, help='what is measured; default: all that can be')
    p.add_argument('--write', action='store_true', help="write the scores into the model's card")
    p.add_argument('--codes', choices=list(ways), default='drawn', help='for comparison, of a model with codes')
    a = p.parse_args(argv)
    a.parts = a.parts or [o for o in PARTS[:3] if o != 'miou' or a.segmenter]
    if 'miou' in a.parts and not a.segmenter: p.error('miou needs a --segmenter')
    if a.write and a.codes != 'drawn': p.error('--write is for styles that are drawn')
    return a

def main(argv=None):
    "Score, print, write"
    a = parse(argv)
    set_seed(0)
    gen = from_pretrained(a.model).for_inference()
    if gen.styles is None: raise InputError(f'{a.model} has one style', 'it needs a z, or codes and a prior')
    if a.codes != 'drawn' and gen.styles != 'codes':
        raise InputError(f'{a.model} has no codes of classes', 'leave --codes out')
    size = gen.size or tuple(gen.card['size'])   # OASIS paints any size: that of its training
    maps, photos = scenes(range(a.n), size)
    fakes, res = paint(a, gen, maps, 0), dict(n=a.n)
    if 'kid' in a.parts: res |= kid_scores(a, fakes, photos, scenes(range(a.n, 2*a.n), size)[1])
    if 'diversity' in a.parts: res['diversity'] = round((fakes - paint(a, gen, maps, 1)).abs().mean().item(), 4)
    if 'miou' in a.parts: res |= read_back(a, fakes, paint_own(gen, maps, photos), photos, maps)
    if 'speckles' in a.parts: res |= dict(speckles=speckles(fakes), real_speckles=speckles(photos))
    print(json.dumps(res, indent=1))
    if a.write: write_card(a.model, res)

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'score_landscapes: {e}')

#!/usr/bin/env python
"""Score a painter on a folder of photos and label maps that it was not trained on, at its own size and reduced.

    python tools/score_painter.py data/weights/street ../shared/data/camvid --test test --reduced 96x128 \\
        --segmenter runs/segmenter --out docs/street --rows 5,40,90,130,170,215 --write

Paints every label map of the split at the size of the weights. KID (efficientnet-lite0) against the split's photos;
with --segmenter mIoU and pixel accuracy, as a network reads the pictures back that was trained at the last size of
--reduced. With --real also the split's own photos: against those of --train for KID, and the segmenter's ceiling.
Writes OUT/scores.json (figures and protocol) and OUT/fakes.jpg (what the network paints, no photo and no label map);
with --write the figures go into the card.
"""
import argparse, json
from pathlib import Path
import numpy as np, torch
from PIL import Image
from torch.nn import functional as F
from fastai.vision.all import set_seed
from gaugan_fastai.core import InputError, resize_map
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import image_grid, to_u8
from gaugan_fastai.metrics import load_segmenter, paint_all, score_pictures
from gaugan_fastai.pretrained import from_pretrained
from gaugan_fastai.safe import write_whole

def size_of(text): return tuple(int(o) for o in text.split('x'))

def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model', type=Path, help='folder of weights')
    p.add_argument('data', type=Path)
    p.add_argument('--train', default='train,val')
    p.add_argument('--test', default='test')
    p.add_argument('--reduced', type=size_of, nargs='*', default=[], help='smaller sizes, such as 96x128')
    p.add_argument('--segmenter', type=Path, help='folder of save_segmenter')
    p.add_argument('--real', action='store_true')
    p.add_argument('--out', type=Path)
    p.add_argument('--rows', default='5,40,90,130,170,215', help='which maps of the split are drawn')
    p.add_argument('--columns', type=int, default=3)
    p.add_argument('--write', action='store_true', help='write the figures into the card')
    return p.parse_args()

def photos_of(dl): return torch.cat([b[-1].as_subclass(torch.Tensor) for b in dl])

def reduced(pictures, size):
    return pictures if pictures.shape[-2:] == size else F.interpolate(pictures, size, mode='bilinear', antialias=True)

def score(a, fakes, photos, maps, labels, split):
    "Scores by size; the segmenter reads the smallest"
    res, sizes = {}, [tuple(fakes.shape[-2:]), *a.reduced]
    for i, size in enumerate(sizes):
        segmenter = load_segmenter(a.segmenter) if a.segmenter and i == len(sizes) - 1 else None
        small = reduced(fakes, size), reduced(photos, size), resize_map(maps, size)
        res['x'.join(map(str, size))] = score_pictures(*small, labels, segmenter, split=split)
    return res

def told(scores): return {k: round(v, 4) for k, v in scores.items() if isinstance(v, float)}

def draw(a, fakes):
    "What the network paints, so many pictures a row"
    rows = to_u8(fakes[[int(o) for o in a.rows.split(',')]])
    columns = [rows[i::a.columns] for i in range(a.columns)]
    Image.fromarray(image_grid(*columns)).save(a.out/'fakes.jpg', quality=92)

def write_card(folder, scores):
    "The figures, without the protocol's words, in the card; those of real pictures as real (KID), real_miou, ..."
    card = folder/'model.json'
    def short(o): return {k: round(v, 4) for k, v in o.items() if isinstance(v, float)}
    real = {size: short(o) for size, o in scores.get('real', {}).items()}
    def named(o): return {'real' if k == 'kid' else f'real_{k}': v for k, v in o.items() if k != 'kid_std'}
    found = {size: short(o) | named(real.get(size, {})) for size, o in scores.items() if size != 'real'}
    text = json.loads(card.read_text(encoding='utf-8')) | dict(scores=found)
    lines = [f' {json.dumps(k)}: {json.dumps(v)}' for k, v in text.items()]
    with write_whole(card) as part: part.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')

def main():
    a = parse()
    set_seed(0)
    gen = from_pretrained(a.model)
    dls = PairedDataLoaders.from_folder(a.data, size=tuple(gen.card['size']), bs=4, train=a.train.split(','),
        valid=a.test.split(','), flip=0)
    photos = photos_of(dls.valid)
    fakes, _, maps = paint_all(gen, dls.valid)
    scores = score(a, fakes, photos, maps, dls.labels, a.test)
    for size, o in scores.items(): print(size, told(o), flush=True)
    if a.real:
        real = photos_of(dls.train.new(shuffle=False, drop_last=False))
        words = f'{a.test} photos against {a.train} photos'
        scores['real'] = score(a, photos, real, maps, dls.labels, words)
        for size, o in scores['real'].items(): print('real', size, told(o))
    if a.write: write_card(a.model, scores)
    if not a.out: return
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out/'scores.json').write_text(json.dumps(scores, indent=1) + '\n')
    draw(a, fakes)

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'score_painter: {e}')

#!/usr/bin/env python
"""Paint a contact sheet of each shipped model: twelve pictures of label maps that no training has seen.

    python tools/contact_sheet.py                           those of drawn scenes, into docs/images/sheets
    python tools/contact_sheet.py --models street --data ../shared/data/camvid     maps of its test split

Maps of drawn scenes are those of seeds 0 to 11, with the map above its picture, a style a picture: by its seed where
the model draws styles. Of a folder only pictures are written: its maps and
photos are not ours to show. At most 300 kB a sheet.
"""
import argparse, io, sys
from pathlib import Path
import numpy as np, torch
from PIL import Image
from gaugan_fastai.core import InputError
from gaugan_fastai.data.canvas import draw_layout
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.data.layouts import folder_pairs
from gaugan_fastai.painter import Painter
from score_table import style

ROOT = Path(__file__).resolve().parent.parent
MOST = 300_000   # bytes of a sheet

def drawn(painter, n, side):
    "Maps of drawn scenes in colours, each with its picture below"
    for i in range(n):
        ids = draw_layout(i, painter.size)
        both = painter.labels.colorize(ids), painter(ids, ids='library', **style(painter, i))
        yield np.concatenate([fitted(o, side) for o in both])

def folder(painter, data, part, n, side):
    "Pictures of label maps spread over a part of a folder"
    pairs, _, _ = folder_pairs(data, part, part)
    pairs = list(pairs)
    for o in pairs[::len(pairs)//n][:n]: yield fitted(painter(o.segmap, size=painter.size), side)

def fitted(picture, side):
    "uint8 array with this many columns"
    picture = Image.fromarray(np.asarray(picture))
    size = side, round(picture.height*side/picture.width)
    return np.asarray(picture.resize(size, Image.LANCZOS if picture.width > side else Image.NEAREST))

def sheet(pictures, columns):
    "One picture, so many a row, four white pixels between"
    h, w, _ = pictures[0].shape
    rows = -(-len(pictures)//columns)
    res = np.full((rows*(h + 4) - 4, columns*(w + 4) - 4, 3), 255, np.uint8)
    for i, o in enumerate(pictures):
        y, x = (i//columns)*(h + 4), (i % columns)*(w + 4)
        res[y:y + h, x:x + w] = o
    return Image.fromarray(res)

def write(picture, file):
    "As JPEG of the best quality that is small enough"
    for quality in (92, 88, 84, 80, 75, 70):
        held = io.BytesIO()
        picture.save(held, 'JPEG', quality=quality)
        if held.tell() <= MOST: break
    file.write_bytes(held.getvalue())
    print(f'{file}: {picture.width}x{picture.height}, {held.tell()/1000:.0f} kB, quality {quality}', flush=True)

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--models', nargs='+', help='names in data/weights; default: all of drawn scenes')
    p.add_argument('--data', type=Path, help='folder of the label maps, for other models')
    p.add_argument('--part', default='test')
    p.add_argument('--n', type=int, default=12)
    p.add_argument('--columns', type=int, default=4)
    p.add_argument('--side', type=int, default=224, help='columns of each picture')
    p.add_argument('--out', type=Path, default=ROOT/'docs/images/sheets')
    a = p.parse_args(argv)
    a.out.mkdir(parents=True, exist_ok=True)
    names = a.models or [o.parent.name for o in sorted((ROOT/'data/weights').glob('*/model.json'))]
    for name in names:
        painter = Painter(ROOT/'data/weights'/name)
        ours = painter.labels.codes == landscape_labels().codes
        if not ours and not a.data:
            if a.models: raise InputError(f'{name} has other classes', 'give the folder of its label maps with --data')
            continue
        torch.manual_seed(0)
        found = drawn(painter, a.n, a.side) if ours else folder(painter, a.data, a.part, a.n, a.side)
        write(sheet(list(found), a.columns), a.out/f'{name}.jpg')
    return 0

if __name__ == '__main__':
    try: sys.exit(main())
    except InputError as e: sys.exit(f'contact_sheet: {e}')

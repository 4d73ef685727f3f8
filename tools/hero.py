#!/usr/bin/env python
"""Paint the first picture of the README: label maps, each in several styles, by the weights that come with the project.

    python tools/hero.py docs/images/hero.jpg
    python tools/hero.py styles.png --model data/weights/landscapes --maps bay village --seeds 1 2 3 4

A row a map of `data/maps`: the map in its colours, then the same map in the style of each seed.
"""
import argparse
from pathlib import Path
import numpy as np
from PIL import Image
from gaugan_fastai.learner import image_grid
from gaugan_fastai.runs import load_model, paint

MAPS = Path(__file__).resolve().parent.parent/'data'/'maps'

def grid(model, names, seeds, side=256):
    "The grid as a uint8 array `[H,W,3]`"
    ids = [model.labels.read(MAPS/f'{o}.png') for o in names]
    maps = [Image.fromarray(model.labels.colorize(o)).resize((side, side), Image.NEAREST) for o in ids]
    columns = [[paint(model, o, (side, side), seed=s) for o in ids] for s in seeds]
    return image_grid(np.stack(maps), *map(np.stack, columns))

def main(argv=None):
    "Paint and write"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path, help='the picture to write')
    p.add_argument('--model', default='landscapes', help='folder or name of the weights')
    p.add_argument('--maps', nargs='+', default=['bay', 'village', 'road', 'island'], help='names in data/maps')
    p.add_argument('--seeds', type=int, nargs='+', default=[7, 4, 6, 10], help='seeds of the styles')
    p.add_argument('--side', type=int, default=256, help='pixels of a side of each picture')
    a = p.parse_args(argv)
    picture = Image.fromarray(grid(load_model(a.model), a.maps, a.seeds, a.side))
    picture.save(a.out, **(dict(quality=90) if a.out.suffix.lower() in ('.jpg', '.jpeg') else {}))
    print(f'{a.out}: {picture.width}x{picture.height}')

if __name__ == '__main__': main()

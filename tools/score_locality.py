#!/usr/bin/env python
"""How local are edits of a SEAN's styles? The table of lesson 54, for any weights.

    python tools/score_locality.py data/weights/landscapes_sean
    python tools/score_locality.py data/weights/landscapes_sean --blocks 0 --write

On each of 24 drawn maps, of the size on the card, every class that covers 5 % of the picture takes the style of the
same map on another day. Printed for each class: the share of all change that falls inside its region, and how far its
mean colour is from that of the other day, before and after. With --write the share for all classes, where every block
reads the new style, goes into the card.
"""
import argparse, json, sys
from pathlib import Path
import numpy as np, torch
from gaugan_fastai.core import InputError
from gaugan_fastai.data.daylight import draw_style
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels, render
from gaugan_fastai.pretrained import from_pretrained
from gaugan_fastai.safe import write_whole
from gaugan_fastai.styles import change_inside, crossover, region_colour, swap

def pair(i, size):
    "Map of a scene of size (H,W), its photo, and the photo of another day"
    scene = draw_landscape(i, size)
    other = render(scene.segmap, draw_style(500 + i), i)
    photos = [torch.as_tensor(o).permute(2, 0, 1)/127.5 - 1 for o in (scene.photo, other)]
    return torch.as_tensor(scene.segmap).long(), *photos

def measure(gen, i, at):
    "(class, share inside, distance to the donor before and after) of each large region; blocks from `at` on read it"
    ids, a, b = pair(i, tuple(gen.card.get('size', (64, 64))))
    own, donor = gen.encode(a[None], ids[None]), gen.encode(b[None], ids[None])
    before = gen(ids[None], own)[0]
    for k in ids.unique().tolist():
        region = ids == k
        if region.float().mean() < .05: continue
        after, goal = gen(ids[None], crossover(own, swap(own, donor, k), at))[0], region_colour(b, region)
        distances = [(region_colour(o, region) - goal).norm().item() for o in (before, after)]
        yield k, change_inside(before, after, region), *distances

def write_card(folder, found):
    "The share of change inside, and what was measured, among the card's scores"
    card = Path(folder)/'model.json'
    text = json.loads(card.read_text(encoding='utf-8'))
    words = f'share of all change inside the region whose style was exchanged, {len(found)} regions of 24 drawn maps'
    text['scores'] = text.get('scores', {}) | dict(locality=round(found[:, 1].mean(), 4), locality_protocol=words)
    lines = [f' {json.dumps(k)}: {json.dumps(v)}' for k, v in text.items()]
    with write_whole(card) as part: part.write_text('{\n' + ',\n'.join(lines) + '\n}\n', encoding='utf-8')

@torch.no_grad()
def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', help='weights with their card, as save_pretrained writes them')
    p.add_argument('--blocks', type=int, nargs='+', default=[0, 2, 4, 5], help='first blocks that read the new style')
    p.add_argument('--write', action='store_true', help='write the share into the card')
    a = p.parse_args(argv)
    if a.write and 0 not in a.blocks: p.error('--write needs block 0 among --blocks')
    gen, names = from_pretrained(a.folder), landscape_labels().codes
    print('| region | blocks from | cases | inside | colour before | after |', '|---|---|---|---|---|---|', sep='\n')
    for at in a.blocks:
        found = np.array([o for i in range(24) for o in measure(gen, i, at)])
        if at == 0 and a.write: write_card(a.folder, found)
        groups = [('all', found)] + [(names[k], found[found[:, 0] == k]) for k in range(len(names)) if at == 0]
        for name, o in groups:
            if len(o) < 3: continue
            _, share, before, after = o.mean(0)
            print(f'| {name} | {at} | {len(o)} | {share:.0%} | {before:.2f} | {after:.2f} |')
    return 0

if __name__ == '__main__':
    try: sys.exit(main())
    except InputError as e: sys.exit(print(e, file=sys.stderr) or 1)

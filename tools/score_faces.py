#!/usr/bin/env python
"""Score a SEAN on photos that it was not trained on: does it repaint them, take other styles, keep edits in place?

    OMP_NUM_THREADS=1 python tools/score_faces.py data/weights/faces ../shared/data/facesynthetics --load 160 \\
        --out docs/faces --doc docs/faces.md --write

Photos are scaled to a short side of --load, and the middle window of the size on the card is cut out.

- repainted: test photos from their maps and their own styles; beside them the training photos, the usual style of each
  class instead of the photo's own, and each region in its mean colour, which needs no network;
- edits: every class of 2 % of a test photo takes the code of two other test photos; the share of all change that falls
  inside its region, and how far its mean colour is from that of the other photo, before and after;
- KID: every test map in the styles of ten training photos, against all photos; beside it real against real.

Writes OUT/scores.json and pictures of what the network paints, no photo and no label map: OUT/repainted.jpg,
OUT/styles.jpg (a row for each map, a column for each photo whose styles they take, so the diagonal has its own) and
OUT/region.jpg (the first column in its own styles, then --region in those of other photos). With --doc the tables of a
page are written between its marks; with --write scores and a library of the training photos' styles go to the weights.
"""
import argparse, json, re, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, torch
from fastai.vision.all import set_seed
from PIL import Image
from gaugan_fastai.core import InputError, onehot
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import image_grid, to_u8
from gaugan_fastai.metrics import kid, reconstruction_scores
from gaugan_fastai.pretrained import from_pretrained
from gaugan_fastai.safe import write_whole
from gaugan_fastai.styles import StyleLibrary, change_inside, classes_of, region_colour, swap
from score_painter import write_card

MARKS = '<!-- scores -->', '<!-- end of scores -->'
KINDS = dict(test='test photos, own styles', train='training photos, own styles', usual='test maps, usual styles',
    flat='test photos, each region in its mean colour')

def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('model', type=Path, help='folder of weights')
    p.add_argument('data', type=Path, help='folder of pairs')
    p.add_argument('--train', default='train')
    p.add_argument('--test', default='val')
    p.add_argument('--load', type=int, help='short side of the scaled photos; default: they just cover the window')
    p.add_argument('--region', default='hair', help='class of the third picture')
    p.add_argument('--rows', default='0,2,4,6,8', help='test photos of the pictures')
    p.add_argument('--out', type=Path, help='folder for scores and pictures')
    p.add_argument('--doc', type=Path, help='page whose tables are written')
    p.add_argument('--write', action='store_true', help='write scores and styles beside the weights')
    return p.parse_args(argv)

# -- data and painting ---------------------------------------------------------------------------------------------

def pictures(a, gen):
    "Maps, photos and codes of the middle windows: n test photos first, then those of the training"
    size = tuple(gen.card['size'])
    parts = dict(train=[a.test], valid=[a.test, a.train])
    dls = PairedDataLoaders.from_folder(a.data, size=size, bs=1, load=a.load, val_bs=4, **parts)
    if list(dls.codes) != list(gen.labels.codes):
        what = f'{a.data} has the classes {dls.codes}, the model {gen.labels.codes}'
        raise InputError(what, 'give the data that it was trained for')
    maps, photos = (torch.cat([b[i].as_subclass(torch.Tensor) for b in dls.valid]) for i in (0, 1))
    codes = torch.cat([gen.encode_shown(*o) for o in zip(photos.split(4), maps.split(4))])
    return SimpleNamespace(maps=maps, photos=photos, codes=codes, n=len(dls.train_ds), labels=dls.labels)

def paint(gen, maps, codes, bs=4):
    "Pictures `[N,3,H,W]`; what a photo does not show has its usual style"
    return torch.cat([gen(*o).clone() for o in zip(maps.split(bs), codes.split(bs))])

def in_mean_colours(maps, photos, n_classes):
    "Each region in the mean colour that it has in the photo"
    masks = onehot(maps, n_classes)
    means = torch.einsum('bkhw,bchw->bkc', masks, photos)/masks.sum((2, 3)).clamp_min(1)[..., None]
    return torch.einsum('bkhw,bkc->bchw', masks, means)

# -- scores --------------------------------------------------------------------------------------------------------

def compared(fakes, photos):
    "L1 of colours in -1..1, SSIM, PSNR"
    return dict(n=len(fakes), l1=(fakes - photos).abs().mean().item()) | reconstruction_scores(fakes, photos)

def repainted(gen, o):
    "Scores by kind, and the test photos' fakes"
    n, test, train = o.n, slice(o.n), slice(o.n, None)
    own, others = paint(gen, o.maps[test], o.codes[test]), paint(gen, o.maps[train], o.codes[train])
    usual = paint(gen, o.maps[test], torch.zeros_like(o.codes[test]))
    flat = in_mean_colours(o.maps[test], o.photos[test], o.labels.n_classes)
    fakes = dict(test=own, train=others, usual=usual, flat=flat)
    return {k: compared(f, o.photos[train if k == 'train' else test]) for k, f in fakes.items()}, own

def donors(o, i, k, count=2):
    "The next `count` test photos after photo i that show class k"
    after = [(i + j) % o.n for j in range(1, o.n)]
    return [j for j in after if o.codes[j, k].any()][:count]

def edits(gen, o, fakes):
    "(class, share inside, colour distance to the donor before and after) of every edit"
    for i in range(o.n):
        for k in o.maps[i].unique().tolist():
            region = o.maps[i] == k
            if region.float().mean() < .02 or k == o.labels.void: continue
            for j in donors(o, i, k):
                after = gen(o.maps[i][None], swap(o.codes[i][None], o.codes[j][None], k))[0]
                goal = region_colour(o.photos[j], o.maps[j] == k)
                far = [(region_colour(p, region) - goal).norm().item() for p in (fakes[i], after)]
                yield k, change_inside(fakes[i], after, region), *far

def locality(gen, o, fakes):
    "Means over all edits, and over those of a class with at least three"
    found = np.array(list(edits(gen, o, fakes)))
    groups = {'all': found} | {name: found[found[:, 0] == k] for k, name in enumerate(o.labels.codes)}
    keys = 'inside', 'before', 'after'
    means = {k: dict(zip(keys, v.mean(0)[1:].tolist())) for k, v in groups.items() if len(v) > 2}
    return {k: dict(edits=len(groups[k])) | v for k, v in means.items()}

def distances(gen, o, count=10):
    "KID of the test maps in others' styles, and of one half of the photos against the other"
    step = max(1, (len(o.codes) - o.n)//count)
    styles = o.codes[o.n::step][:count]
    each_map = o.maps[:o.n].repeat_interleave(len(styles), 0)
    fakes = paint(gen, each_map, styles.repeat(o.n, 1, 1))
    score, std = kid(fakes, o.photos)
    real, real_std = kid(o.photos[::2], o.photos[1::2])
    words = f'{o.n} test maps in the styles of {len(styles)} training photos each, {len(fakes)} pictures, against all '
    words += f'{len(o.photos)} photos; real: every other photo against the rest; efficientnet-lite0, 100 subsets'
    return dict(kid=score, kid_std=std, real=real, real_std=real_std, protocol=words)

# -- what is left --------------------------------------------------------------------------------------------------

def draw(a, gen, o, fakes):
    "The three pictures"
    rows = [int(i) for i in a.rows.split(',')]
    maps, codes = o.maps[rows], o.codes[rows]
    k, = classes_of(a.region, o.labels.codes)
    as_jpeg = lambda name, columns: Image.fromarray(image_grid(*columns)).save(a.out/f'{name}.jpg', quality=92)
    as_jpeg('repainted', [to_u8(fakes[i::5]) for i in range(min(5, len(fakes)))])
    one_style = lambda i: codes[i:i + 1].expand_as(codes)
    as_jpeg('styles', [to_u8(paint(gen, maps, one_style(i))) for i in range(len(rows))])
    having = [i for i in range(len(rows)) if codes[i, k].any()]
    edited = [to_u8(paint(gen, maps, swap(codes, one_style(i), k))) for i in having]
    as_jpeg('region', [to_u8(fakes[rows]), *edited])

def table(*lines):
    head, *rows = [f'| {" | ".join(o)} |' for o in lines]
    return '\n'.join([head, '|---'*len(lines[0]) + '|', *rows])

def tables(scores, card):
    "The tables of the page, with what the card says of the training"
    again = [(KINDS[k], str(o['n']), f'{o["l1"]:.3f}', f'{o["ssim"]:.3f}', f'{o["psnr"]:.1f}')
        for k, o in scores['repainted'].items()]
    local = [(k, str(o['edits']), f'{o["inside"]:.0%}', f'{o["before"]:.2f}', f'{o["after"]:.2f}')
        for k, o in scores['edits'].items()]
    o = scores['kid']
    words = f'KID {o["kid"]:.3f} ± {o["kid_std"]:.3f}; real {o["real"]:.3f} ± {o["real_std"]:.3f} ({o["protocol"]}).'
    return '\n\n'.join([f'Trained: {card["training"]}.', table(('painted', 'n', 'L1', 'SSIM', 'PSNR, dB'), *again),
        table(('region', 'edits', 'inside', 'colour before', 'after'), *local), words])

def write_page(page, text):
    "Put the text between the marks of a page"
    before = page.read_text(encoding='utf-8')
    a, b = MARKS
    if before.count(a) != 1 or before.count(b) != 1:
        raise InputError(f'{page} has no marks {a} and {b}', 'write them where the tables belong')
    after = re.sub(f'{a}.*{b}', lambda _: f'{a}\n{text}\n{b}', before, flags=re.DOTALL)
    with write_whole(page) as part: part.write_text(after, encoding='utf-8')

def short(scores):
    "What the card says: L1 of each kind, the share inside for each class, KID"
    l1 = {f'L1, {KINDS[k]}': o['l1'] for k, o in scores['repainted'].items()}
    inside = {f'inside, {k}': o['inside'] for k, o in scores['edits'].items()}
    return dict(repainted=l1, edits=inside, kid=scores['kid'])

def rounded(o):
    if isinstance(o, dict): return {k: rounded(v) for k, v in o.items()}
    return round(o, 4) if isinstance(o, float) else o

@torch.no_grad()
def main(argv=None):
    a = parse(argv)
    set_seed(0)
    model = from_pretrained(a.model)
    if getattr(model, 'styles', None) != 'codes': raise InputError(f'{a.model} is no SEAN', 'give one')
    o = pictures(a, model)
    gen = model.for_inference()
    again, fakes = repainted(gen, o)
    scores = rounded(dict(repainted=again, edits=locality(gen, o, fakes), kid=distances(gen, o)))
    print(tables(scores, model.card))
    if a.out:
        a.out.mkdir(parents=True, exist_ok=True)
        (a.out/'scores.json').write_text(json.dumps(scores, indent=1) + '\n')
        draw(a, gen, o, fakes)
    if a.doc: write_page(a.doc, tables(scores, model.card))
    if a.write:
        write_card(a.model, short(scores))
        StyleLibrary.fit(o.codes[o.n:]).save(a.model)
    return 0

if __name__ == '__main__':
    try: sys.exit(main())
    except InputError as e: sys.exit(f'score_faces: {e}')

#!/usr/bin/env python
"""Score the checkpoints of a `gaugan train` run on a split that it was not trained on, and draw what it paints.

    python tools/score_run.py runs/camvid DATA --train train,val --test test --segmenter runs/segmenter \\
        --out docs/camvid before=fresh during=keep/30.pth after=runs/camvid/last.pth

KID (efficientnet-lite0) against the split's photos, mIoU and pixel accuracy as `train_segmenter`'s network reads the
fakes. Writes OUT/scores.json (figures and protocol), OUT/curves.png (losses of the run) and OUT/fakes.jpg (fakes alone:
columns are the checkpoints, rows the same label maps). `fresh` means the network before its first step. Label maps and
photos are not drawn. With --real also `real`, the split's own photos, for the ceiling of mIoU and the floor of KID
(against the training photos).
"""
import argparse, json
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import cast, set_seed
from PIL import Image
from gaugan_fastai.core import InputError
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import image_grid, to_u8
from gaugan_fastai.metrics import load_segmenter, paint_all, score_pictures
from gaugan_fastai.models.spade import spade_learner

def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('run', type=Path); p.add_argument('data', type=Path)
    p.add_argument('weights', nargs='+', help='NAME=FILE, or NAME=fresh')
    p.add_argument('--train', default='train,val'); p.add_argument('--test', default='test')
    p.add_argument('--segmenter', type=Path, help='folder of save_segmenter')
    p.add_argument('--out', type=Path, required=True)
    p.add_argument('--rows', default='5,40,90,130,170,215', help='which maps of the split are drawn')
    p.add_argument('--real', action='store_true')
    return p.parse_args()

def learner_of(run, dls):
    "The learner of a run, untrained"
    settings = json.loads((run/'run.json').read_text())
    set_seed(settings.get('seed', 0), reproducible=True)
    of_the_data = 'size', 'classes', 'seed', 'edges', 'inputs'
    options = {k: v for k, v in settings.items() if k not in of_the_data}
    return spade_learner(dls, path=run, model_dir='.', **options)

def all_photos(dl): return torch.cat([b[-1].as_subclass(torch.Tensor) for b in dl])

def plot_curves(run, out):
    "Losses of the run's history.csv, a panel each"
    import matplotlib; matplotlib.use('agg')
    import matplotlib.pyplot as plt, pandas as pd
    h = pd.read_csv(run/'history.csv')
    names = [c[6:] for c in h.columns if c.startswith('train_')]
    _, axs = plt.subplots(1, len(names), figsize=(3*len(names), 2.4))
    for ax, n in zip(axs, names):
        for part in ('train', 'valid'):
            if f'{part}_{n}' in h: ax.plot(h['epoch'] + 1, h[f'{part}_{n}'], label=part)
        ax.set(title=n, xlabel='epoch')
    axs[-1].legend()
    plt.tight_layout()
    plt.savefig(out/'curves.png', dpi=80)

def main():
    a = parse()
    a.out.mkdir(parents=True, exist_ok=True)
    settings = json.loads((a.run/'run.json').read_text())
    data = dict(size=tuple(settings['size']), bs=4, edges=settings.get('edges', False), flip=0)
    data |= {k: True for k in settings.get('inputs', ())}
    dls = PairedDataLoaders.from_folder(a.data, train=a.train.split(','), valid=a.test.split(','), **data)
    segmenter, photos = load_segmenter(a.segmenter) if a.segmenter else None, all_photos(dls.valid)
    rows, scores, columns = [int(o) for o in a.rows.split(',')], {}, []
    for name, file in (o.split('=', 1) for o in a.weights):
        learn = learner_of(a.run, dls)
        if file != 'fresh': learn.load(Path(file).resolve().with_suffix(''), with_opt=False)
        with learn.painting() as gen: fakes, _, maps = paint_all(gen, dls.valid)
        scores[name] = score_pictures(fakes, photos, maps, dls.labels, segmenter, split=a.test)
        columns.append(to_u8(fakes[rows]))
        print(name, {k: round(v, 4) for k, v in scores[name].items() if isinstance(v, float)}, flush=True)
    if a.real:
        real = all_photos(dls.train.new(shuffle=False, drop_last=False))
        split = f'{a.test} photos against {a.train} photos'
        scores['real'] = score_pictures(photos, real, maps, dls.labels, segmenter, split=split)
        print('real', {k: round(v, 4) for k, v in scores['real'].items() if isinstance(v, float)})
    (a.out/'scores.json').write_text(json.dumps(scores, indent=1) + '\n')
    Image.fromarray(image_grid(*columns)).save(a.out/'fakes.jpg', quality=92)
    plot_curves(a.run, a.out)

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'score_run: {e}')

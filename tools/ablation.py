#!/usr/bin/env python
"""Train the contenders of lesson 36, each with several seeds on several data sets and an equal budget, and score them.

    python tools/ablation.py --out runs/ablation --seconds 200 --data landscapes facade=../shared/data/labelmefacade
    python tools/ablation.py --out runs/longer --seconds 400 --marks 50 100 150 200 300 --contenders spade concat input
    python tools/ablation.py --out runs/ablation --table                     the table of what is there
    python tools/ablation.py --out runs/ablation --collect docs/ablation     runs.json, pictures of fakes for the lesson

--data takes `landscapes` (drawn, 400 scenes to train and 100 to test) and NAME=FOLDER, a folder with train, val and
test ({images,labels} in each): train and val are trained on, test is scored. One thread; --seconds are processor time
of the training alone. With --marks the averaged weights are scored on the way too, while the clock stands (`curve` in
the JSON; the learning rate falls in the second half of --seconds, not of a mark). A segmenter is trained once for each
data set (OUT/NAME/segmenter, outside of the budget). Each run writes OUT/NAME/CONTENDER_SEED.json and .png (fakes of
six test maps); runs whose JSON is there are not repeated.
"""
import os
os.environ.setdefault('OMP_NUM_THREADS', '1')
import argparse, contextlib, io, json, random, sys, time
from pathlib import Path
from statistics import mean
import numpy as np, torch
from fastai.vision.all import Callback, set_seed
from PIL import Image
from gaugan_fastai.core import InputError
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import image_grid, to_u8
from gaugan_fastai.metrics import load_segmenter, paint_all, save_segmenter, score_pictures, train_segmenter
from gaugan_fastai.models.ablation import ablation_learner, ablation_table, contenders, fit_budget, network_cost

SCORES = 'kid', 'miou', 'accuracy'

def parse(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--out', type=Path, required=True, help='folder for runs and segmenters')
    p.add_argument('--data', nargs='+', default=['landscapes'], help='landscapes, or NAME=FOLDER')
    names = ', '.join(contenders)
    p.add_argument('--contenders', nargs='+', default=['spade', 'concat', 'unet'], help=f'some of {names}')
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--seconds', type=float, default=200., help='processor time of a training')
    p.add_argument('--steps', type=int, help='batches of a training, instead of seconds')
    p.add_argument('--marks', nargs='*', type=float, default=[], help='seconds after which it is scored on the way')
    p.add_argument('--size', type=int, nargs=2, default=(64, 64), metavar=('H', 'W'))
    p.add_argument('--bs', type=int, default=4)
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--segmenter-epochs', type=int, default=8, help='see train_segmenter')
    p.add_argument('--table', action='store_true', help='print the table and stop')
    p.add_argument('--collect', type=Path, help='write runs.json and a picture for each data set there and stop')
    return p.parse_args(argv)

def loaders(data, size, bs, **kwargs):
    "Name and loaders of `landscapes` or NAME=FOLDER; the validation part is the one that is scored"
    name, _, folder = data.partition('=')
    parts = dict(train=['train', 'val'], valid='test')
    if folder: return name, PairedDataLoaders.from_folder(folder, size, bs, **parts, **kwargs)
    if name != 'landscapes': raise InputError(f'--data {data!r} is neither landscapes nor NAME=FOLDER')
    return name, PairedDataLoaders.from_landscapes(n=400, n_valid=100, size=size, bs=bs, seed=0, **kwargs)

def segmenter_of(folder, data, size, epochs):
    "The segmenter of a data set, trained on its real pairs where it is not there yet"
    if (folder/'segmenter.json').is_file(): return load_segmenter(folder)
    _, dls = loaders(data, size, 8, color=.2)
    dls.train.rng = random.Random(0)
    print(f'training the segmenter {folder}', flush=True)
    with contextlib.redirect_stdout(io.StringIO()):   # no progress bars
        segmenter = train_segmenter(dls, epochs, scale=2)
    scores = segmenter.card['scores_on_real_photos']
    miou, accuracy = scores['miou'], scores['accuracy']
    print(f'it reads the real test photos with miou {miou:.3f}, accuracy {accuracy:.3f}', flush=True)
    return load_segmenter(save_segmenter(segmenter, folder))

def write(file, text):
    "Write all of a file or nothing"
    part = file.with_name(f'{file.name}.part')
    part.write_text(text)
    os.replace(part, file)

class Marks(Callback):
    "Call `score(learn)` whenever the training has had one of `marks` seconds; `clock` stands meanwhile"
    order, run_valid = 90, False
    def __init__(self, marks, score):
        self.left, self.score = sorted(marks), score
        self.curve, self.paused = [], 0.
    def clock(self): return time.process_time() - self.paused
    def before_fit(self): self.start = self.clock()
    def after_batch(self):
        if not self.left or self.clock() - self.start < self.left[0]: return
        now, mark = time.process_time(), self.left.pop(0)
        scores = self.score(self.learn)
        self.curve.append(dict(seconds=mark, steps=self.learn.n_steps, **{k: scores[k] for k in SCORES}))
        print('  ', self.curve[-1], flush=True)
        self.paused += time.process_time() - now

def painted(learn, dls, name, segmenter):
    "Scores of the pictures of all test maps, and the pictures"
    with learn.painting() as gen: fakes, photos, maps = paint_all(gen, dls.valid)
    return score_pictures(fakes, photos, maps, dls.labels, segmenter, split=f'{name} test'), fakes

def one_run(dls, name, contender, seed, segmenter, a):
    "Train, paint and score; the figures of the run, and fakes of six maps spread over the test part"
    learn = ablation_learner(dls, contender, seed, lr=a.lr)
    cost = network_cost(learn.model.generator, dls.size)
    marks = Marks(a.marks, lambda learn: painted(learn, dls, name, segmenter)[0])
    learn.add_cb(marks)
    set_seed(seed, reproducible=True)
    used = fit_budget(learn, a.seconds, a.steps, marks.clock)
    scores, fakes = painted(learn, dls, name, segmenter)
    losses = last_losses(learn)
    if marks.curve: scores['curve'] = marks.curve
    facts = dict(data=name, contender=contender, seed=seed, **used, bs=a.bs, lr=a.lr, n_train=len(dls.train_ds), **cost)
    return dict(**facts, **scores, last_losses=losses), to_u8(fakes[picked(len(fakes))])

def picked(n): return np.linspace(0, n - 1, 6).astype(int)

def last_losses(learn, n=3):
    "The losses of the training by name, each its mean over the last epochs"
    last = [o['train'] for o in learn.history[-n:]]
    return {k: round(mean(o[k] for o in last), 4) for k in last[-1]}

def missing(a, name):
    "(contender, seed) of the runs still to do, all contenders of a seed before the next seed"
    todo = [(c, s) for s in a.seeds for c in a.contenders]
    return [(c, s) for c, s in todo if not (a.out/name/f'{c}_{s}.json').is_file()]

def race(a, data):
    "All missing runs of a data set"
    name, dls = loaders(data, tuple(a.size), a.bs)
    folder = a.out/name
    folder.mkdir(parents=True, exist_ok=True)
    if not missing(a, name): return
    segmenter = segmenter_of(folder/'segmenter', data, tuple(a.size), a.segmenter_epochs)
    for contender, seed in missing(a, name):
        start = time.time()
        run, fakes = one_run(dls, name, contender, seed, segmenter, a)
        Image.fromarray(image_grid(fakes)).save(folder/f'{contender}_{seed}.png')
        write(folder/f'{contender}_{seed}.json', json.dumps(run, indent=1) + '\n')
        scores = ', '.join(f'{k} {run[k]:.3f}' for k in SCORES)
        seconds = time.time() - start
        print(f'{name} {contender} {seed}: {run["steps"]} steps, {scores} ({seconds:.0f} s in all)', flush=True)

def finished(out):
    "The figures of all finished runs, by name"
    return [json.loads(o.read_text()) for o in sorted(out.glob('*/*.json')) if o.parent.name != 'segmenter']

def collect(out, to):
    "Write what the lesson reads: runs.json, and for each data set a picture of fakes, a column a contender"
    to.mkdir(parents=True, exist_ok=True)
    runs = finished(out)
    if not runs: raise InputError(f'{out} holds no finished runs: start them without --collect')
    write(to/'runs.json', json.dumps(dict(runs=runs), indent=1) + '\n')
    for data in sorted({o['data'] for o in runs}):
        seeds = {c: [o['seed'] for o in runs if (o['data'], o['contender']) == (data, c)] for c in contenders}
        names = [c for c in contenders if seeds[c]]
        strips = [np.asarray(Image.open(out/data/f'{c}_{min(seeds[c])}.png')) for c in names]
        Image.fromarray(np.concatenate(strips, axis=1)).save(to/f'{data}.jpg', quality=92)
        print(f'{data}.jpg: columns {", ".join(names)}')

def carry_out(a, name, contenders, race, collect, table):
    "Make the missing runs, or collect what is there, and print the table; 0, or 1 after one sentence on stderr"
    try:
        unknown = [o for o in a.contenders if o not in contenders]
        if unknown: raise InputError(f'contender {unknown[0]!r} is none of {", ".join(contenders)}')
        if a.collect: collect(a.out, a.collect)
        elif not a.table:
            for o in a.data: race(a, o)
    except InputError as e:
        print(f'{name}: {e}', file=sys.stderr)
        return 1
    runs = finished(a.out)
    print(table(runs) if runs else f'{a.out} holds no finished runs')
    return 0

def main(argv=None):
    a = parse(argv)
    torch.set_num_threads(1)
    return carry_out(a, 'ablation', contenders, race, collect, ablation_table)

if __name__ == '__main__': sys.exit(main())

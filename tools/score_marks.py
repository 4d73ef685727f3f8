#!/usr/bin/env python
"""Draw where scores were going: a line for each training that `train_painter.py --score-every` left.

    python tools/score_marks.py docs/street/curve.png H100=runs/street/scores.jsonl CPU=runs/camvid/scores.jsonl

Each file has a JSON line a mark: minutes, kid, std (its scatter over subsets), and what else was noted. Prints the
table of them, too. `--real .022` draws what real photos get.
"""
import argparse, json, sys, time
from contextlib import contextmanager
from pathlib import Path
import torch
from fastai.vision.all import Callback
from gaugan_fastai.core import InputError
from gaugan_fastai.metrics import KID, paint_all

# -- on the way ----------------------------------------------------------------------------------------------------

class Judge:
    "KID of pictures against the photos of a loader, which go through its network once; on the device of the pictures"
    def __init__(self, dl, device='cpu'):
        self.dl = dl
        self.kid = KID(reset_real_features=False).to(device)
        for b in dl: self.kid.update(b[-1].as_subclass(torch.Tensor), real=True)
    def __call__(self, gen):
        "(mean, scatter over subsets, pictures) of what a generator paints"
        fakes = paint_all(gen, self.dl)[0]
        self.kid.reset()
        for o in fakes.split(16): self.kid.update(o, real=False)
        mean, std = self.kid.compute()
        return mean.item(), std.item(), fakes

class ScoreMarks(Callback):
    "Every so many minutes, and at the end, write the KID of the averaged weights into a file: a JSON line a mark"
    order, run_valid = 91, False
    def __init__(self, file, judge, every, spent=0., **noted):
        self.file, self.judge, self.every, self.spent, self.noted = Path(file), judge, every, spent, noted
    def before_fit(self):
        self.start = self.told = time.monotonic()
        self.steps = None
    def after_batch(self):
        if time.monotonic() - self.told >= 60*self.every: self.note()
    def after_fit(self):
        if self.steps != self.learn.model_average.t: self.note()
    def note(self):
        self.told, learn = time.monotonic(), self.learn
        self.steps = learn.model_average.t
        learn.before_painting()
        with learn.painting() as gen: mean, std, _ = self.judge(gen)
        now = time.monotonic()
        row = dict(minutes=round(self.spent + (self.told - self.start)/60, 3), steps=self.steps,
            kid=round(mean, 4), std=round(std, 4), seconds=round(now - self.told, 1), **self.noted)
        with open(self.file, 'a') as f: f.write(json.dumps(row) + '\n')
        print(row, flush=True)
        self.told = now

# -- afterwards ----------------------------------------------------------------------------------------------------

def read(file):
    "The lines of a file"
    if not Path(file).is_file(): raise InputError(f'there is no {file}', 'give NAME=FILE of a scores.jsonl')
    return [json.loads(o) for o in Path(file).read_text().splitlines() if o.strip()]

def table(runs):
    "Markdown: a line a mark"
    lines = ['| training | minutes | size | KID |', '|---|---|---|---|']
    for name, rows in runs.items():
        for o in rows:
            kid = f'{o["kid"]:.3f} ± {o["std"]:.3f}'
            lines.append(f'| {name} | {o["minutes"]:.1f} | {o.get("size", "")} | {kid} |')
    return '\n'.join(lines)

@contextmanager
def kid_curve(file, width=5.5, minutes='minutes'):
    "Axes to draw KIDs by minutes on, written to a file in the end"
    import matplotlib; matplotlib.use('agg')
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(width, 3.2))
    yield ax
    ax.set(xlabel=minutes, ylabel='KID (lower is better)')
    ax.set_ylim(0)
    ax.legend()
    fig.tight_layout()
    fig.savefig(file, dpi=90)
    plt.close(fig)

def plot(runs, file, real=None):
    "A line for each training, its scatter as a band"
    with kid_curve(file) as ax:
        for name, rows in runs.items():
            xs, ys, stds = ([o[k] for o in rows] for k in ('minutes', 'kid', 'std'))
            ax.plot(xs, ys, '.-', label=name)
            ax.fill_between(xs, [y - s for y, s in zip(ys, stds)], [y + s for y, s in zip(ys, stds)], alpha=.2)
        if real is not None: ax.axhline(real, color='grey', ls=':', label='real photos')

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path, help='the picture to write')
    p.add_argument('runs', nargs='+', metavar='NAME=FILE', help='a name for the legend and its scores.jsonl')
    p.add_argument('--real', type=float, help='KID of real photos')
    a = p.parse_args(argv)
    runs = dict(o.rsplit('=', 1) if '=' in o else (Path(o).parent.name, o) for o in a.runs)
    runs = {k: read(v) for k, v in runs.items()}
    print(table(runs))
    plot(runs, a.out, a.real)

if __name__ == '__main__':
    try: main()
    except InputError as e: sys.exit(f'score_marks: {e}')

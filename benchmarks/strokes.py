"""What a stroke costs in the painter, and what is saved by keeping the windows that it did not touch: prints JSON lines.

    python benchmarks/strokes.py                            each model: windows kept, and all made anew, in turns
    python benchmarks/strokes.py --against ../older         this checkout and another one, in turns, each in processes of its own

Times are medians of the processor's, which others on the machine lengthen little; ratios compare what ran next to each
other. `brush` is the side of a stroke, as a part of the map's; `same` is the last map once more: all but the network kept."""
import argparse, json, os, statistics, subprocess, sys, time
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, os.environ.get('PYTHONPATH') or str(ROOT))
BRUSHES = 1/32, 1/12, 1/4

def strokes(n, size, brush, classes=19, seed=0):
    "`n` maps `[1,H,W]`: each is the one before with one more stroke, a disc drawn along a line"
    import torch
    rng, (H, W) = np.random.default_rng(seed), size
    y, x = np.mgrid[:H, :W]
    ids = np.zeros(size, np.int64)
    ids[H//2:] = min(14, classes - 1)
    for _ in range(n):
        (y0, x0), along = rng.uniform(0, size), rng.uniform(-.05, .05, 2)*size
        near = [((y - y0 - t*along[0])**2 + (x - x0 - t*along[1])**2) <= (brush*H/2)**2 for t in np.linspace(0, 1, 6)]
        ids = np.where(np.any(near, 0), rng.integers(classes), ids)
        yield torch.from_numpy(ids)[None]

def taken(painter, style, segmap):
    "Milliseconds of the processor for one picture"
    start = time.process_time()
    painter.paint_in(style, segmap, painter.size)
    return 1000*(time.process_time() - start)

@contextmanager
def nothing_follows():
    "Let painters plan each map from nothing, and make the rows of all its patterns the cheapest way"
    from gaugan_fastai.fast import modulation, regions
    from gaugan_fastai.labelmaps import LabelMaps
    never = lambda *_: False
    with patch.object(modulation, 'can_follow', never), patch.object(regions, 'can_follow', never):
        with patch.object(LabelMaps, 'follow', never): yield

def measured(model, brush, n):
    "Lists of milliseconds: a new map with what is kept of the last one, the same map again, a new map from nothing"
    from gaugan_fastai.labelmaps import LabelMaps
    from gaugan_fastai.painter import Painter
    follows, begins = Painter(model), Painter(model)
    [style] = follows.styles_for(seed=3 if follows.styles == 'z' else None)
    res = dict(stroke=[], same=[], anew=[])
    for segmap in strokes(n + 3, follows.size, brush, follows.labels.n_classes):
        res['stroke'].append(taken(follows, style, segmap))
        res['same'].append(taken(follows, style, segmap))
        if hasattr(LabelMaps, 'follow'):   # an older checkout knows no other way
            with nothing_follows(): res['anew'].append(taken(begins, style, segmap))
    return {k: v[3:] for k, v in res.items()}

def middle(values): return round(statistics.median(values), 1)

def compare(model, n):
    "Print the medians of one model"
    import torch
    for brush in BRUSHES:
        found = measured(model, brush, n)
        ratio = statistics.median(a/b for a, b in zip(found['anew'], found['stroke']))
        said = dict(what='strokes', model=model, brush=round(brush, 3), n=n, threads=torch.get_num_threads())
        print(json.dumps(said | {f'{k}_cpu_ms': middle(v) for k, v in found.items()} | dict(ratio=round(ratio, 2))), flush=True)

def elsewhere(folder, model, brush, n):
    "`measured` in a process that imports the library from `folder`"
    code = f'import json, strokes; print(json.dumps(strokes.measured({model!r}, {brush}, {n})))'
    env = os.environ | dict(PYTHONPATH=str(Path(folder).resolve()))
    run = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=ROOT/'benchmarks', env=env, text=True, capture_output=True)
    if run.returncode: sys.exit(run.stderr)
    return json.loads(run.stdout.splitlines()[-1])

def against(folder, model, n, turns=2):
    "Print medians of this checkout and of another one, and the ratio of neighbouring runs"
    for brush in BRUSHES:
        pairs = [(elsewhere(folder, model, brush, n), elsewhere(ROOT, model, brush, n)) for _ in range(turns)]
        said = dict(what='against', model=model, brush=round(brush, 3), n=n, turns=turns)
        for k in ('stroke', 'same'):
            old, new = ([statistics.median(p[i][k]) for p in pairs] for i in (0, 1))
            ratio = statistics.median(a/b for a, b in zip(old, new))
            said |= {f'{k}_cpu_ms': [middle(old), middle(new)], f'{k}_ratio': round(ratio, 2)}
        print(json.dumps(said), flush=True)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('models', nargs='*', default=['landscapes_sean', 'landscapes'])
    p.add_argument('--against', help='another checkout of this library')
    p.add_argument('--n', type=int, default=30)
    o = p.parse_args()
    for m in o.models: against(o.against, m, o.n) if o.against else compare(m, o.n)

if __name__ == '__main__': main()

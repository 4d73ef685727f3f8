#!/usr/bin/env python
"""Carry a painter of one data set over to another with other classes, and compare with a random start, step by step.

    OMP_NUM_THREADS=1 python tools/finetune_curve.py ../shared/data/labelmefacade --source ../shared/data/camvid \\
        --source-train train,val --mapping '{"Vegetation": "Tree", "Door": "Building", "Window": "Building"}' \\
        --work runs/finetune --out docs/finetune

First a SPADE is trained on --source for --pretrain-steps steps (or taken from --pretrained: the folder of a run or a model). Then two learners
train on the data, one from its adapted weights (lesson 15a), one from random ones, with the same batches, and are scored on --test
at every number of --steps: KID (efficientnet-lite0) against the test photos, L1 and perceptual distance to *the* photo.
Writes OUT/scores.json (figures, matches, protocol) and OUT/curve.png. Each stage leaves a checkpoint in --work: started again, it
goes on where it was, also within a stage, after the last --save-steps steps. No photo or label map is written.
"""
import argparse, json, random, sys, time
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, CancelFitException, set_seed
from gaugan_fastai.cli import hw, names, table
from gaugan_fastai.core import InputError
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.finetune import tell_matches
from gaugan_fastai.losses import PerceptualLoss
from gaugan_fastai.metrics import paint_all, score_pictures
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.pretrained import save_pretrained

class Steps(Callback):
    "End the fit after `n` batches"
    order, run_valid = 90, False
    def __init__(self, n): self.n = n
    def before_fit(self): self.done = 0
    def after_batch(self):
        self.done += 1
        if self.done >= self.n: raise CancelFitException()

def parse(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', type=Path, help='the new data: {train,val,test}/{images,labels} and codes.txt')
    p.add_argument('--train', type=names, default=['train'], help='parts of it to train on')
    p.add_argument('--test', type=names, default=['test'], help='parts of it to score on')
    p.add_argument('--source', type=Path, help='data to train the first network on')
    p.add_argument('--source-train', type=names, default=['train', 'val'], help='parts of the source to train on')
    p.add_argument('--pretrained', type=Path, help='or a trained network: a run or a model folder')
    p.add_argument('--mapping', type=table, default={}, help='new class -> old class where names differ, JSON')
    p.add_argument('--size', type=hw, default=(96, 128))
    p.add_argument('--bs', type=int, default=4)
    p.add_argument('--preset', default='small'); p.add_argument('--lr', type=float, default=2e-4)
    p.add_argument('--perceptual', default='efficientnet-lite0', help="or none")
    p.add_argument('--pretrain-steps', type=int, default=3000)
    p.add_argument('--steps', type=lambda o: [int(i) for i in o.split(',')], default=[0, 100, 300, 600, 1000, 1500, 2000])
    p.add_argument('--save-steps', type=int, default=250, help='steps between two checkpoints')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--work', type=Path, default=Path('runs/finetune')); p.add_argument('--out', type=Path, default=Path('docs/finetune'))
    a = p.parse_args(argv)
    if (a.source is None) == (a.pretrained is None): p.error('give one of --source and --pretrained')
    a.perceptual = None if a.perceptual == 'none' else a.perceptual
    return a

def options(a): return dict(perceptual=a.perceptual, lr=a.lr, reuse_fake=True, model_dir='.')

def loaders(path, train, valid, a): return PairedDataLoaders.from_folder(path, size=a.size, bs=a.bs, train=train, valid=valid)

def write(fn, o):
    "Write JSON in one step"
    fn.parent.mkdir(parents=True, exist_ok=True)
    part = fn.with_suffix('.part')
    part.write_text(json.dumps(o, indent=1) + '\n')
    part.replace(fn)

def advance(learn, done, to, seed):
    "Train from step `done` to step `to`; seeds depend on `done` alone, so a run that was stopped repeats them"
    set_seed(seed + done)
    learn.dls.train.rng = random.Random(seed + done)
    with learn.no_bar(), learn.no_logging(): learn.fit(10**6, cbs=Steps(to - done))

def train_to(learn, work, to, a):
    "Train to step `to`, from the last checkpoint in `work` if it is not there yet, with checkpoints on the way"
    mark = work/'step.json'
    done = json.loads(mark.read_text())['step'] if mark.is_file() else 0
    if done > to: raise InputError(f'{work} is at step {done}, past {to}, which has no score yet: choose another --work and --out')
    if done > 0 and getattr(learn, 'at', None) != done: learn.load('last')
    while done < to:
        stop = min(to, (done//a.save_steps + 1)*a.save_steps)
        start = time.time()
        advance(learn, done, stop, a.seed)
        learn.save('last')
        write(mark, dict(step=stop))
        print(f'{work.name}: step {stop}, {(time.time() - start)/(stop - done):.2f} s a step', flush=True)
        done = learn.at = stop

def first_network(a):
    "The folder of the trained network: --pretrained, or one that is trained on --source now"
    if a.pretrained: return a.pretrained
    work = a.work/'source'
    if (work/'model/critic/model.json').is_file(): return work
    dls = loaders(a.source, a.source_train, a.source_train, a)
    set_seed(a.seed)
    learn = spade_learner(dls, preset=a.preset, path=work, **options(a))
    train_to(learn, work, a.pretrain_steps, a)
    card = dict(labels=dls.labels, licence='that of the photos it was trained on',
        training=f'{len(dls.train_ds)} pairs of {a.source.name} at {a.size[0]}x{a.size[1]}, {a.pretrain_steps} steps of {a.bs}')
    with learn.painting() as gen: save_pretrained(gen, work/'model', **card)
    save_pretrained(learn.model.critic, work/'model/critic', **card)
    return work

def score(learn, perceptual, a):
    "KID, and the distances to the photos, of the averaged weights"
    with learn.painting() as gen: fakes, photos, maps = paint_all(gen, learn.dls.valid)
    res = score_pictures(fakes, photos, maps, learn.dls.labels, split='+'.join(a.test))
    with torch.no_grad(): ds = [(perceptual(f, p)*len(f)).item() for f, p in zip(fakes.split(8), photos.split(8))] if perceptual else []
    return res | dict(l1=(fakes - photos).abs().mean().item()) | (dict(perceptual=sum(ds)/len(fakes)) if ds else {})

def arm(name, dls, folder, scores, perceptual, a):
    "Train one of the two learners and score it wherever a score is missing"
    todo = [o for o in sorted(a.steps) if str(o) not in scores['arms'].setdefault(name, {})]
    if not todo: return
    set_seed(a.seed)
    start = dict(pretrained=folder, mapping=a.mapping) if name == 'adapted' else scores['widths']
    learn = spade_learner(dls, path=a.work/name, **start, **options(a))
    if name == 'adapted':
        scores['matches'] = [list(o) for o in learn.model.generator.matches]
        print(tell_matches(learn.model.generator.matches), flush=True)
    for n in todo:
        train_to(learn, a.work/name, n, a)
        scores['arms'][name][str(n)] = score(learn, perceptual, a)
        write(a.out/'scores.json', scores)
        print(name, n, {k: round(v, 4) for k, v in scores['arms'][name][str(n)].items() if isinstance(v, float)}, flush=True)

def plot(scores, out):
    "A panel for each score, a line for each start"
    import matplotlib; matplotlib.use('agg')
    import matplotlib.pyplot as plt
    panels = [k for k in ('kid', 'l1', 'perceptual') if all(k in o for v in scores['arms'].values() for o in v.values())]
    _, axs = plt.subplots(1, len(panels), figsize=(3.6*len(panels), 2.8))
    for ax, k in zip(np.atleast_1d(axs), panels):
        for name, v in scores['arms'].items():
            xs = sorted(map(int, v))
            ax.plot(xs, [v[str(o)][k] for o in xs], marker='o', label=name)
        ax.set(title=dict(kid='KID', l1='L1 to the photo', perceptual='perceptual distance')[k], xlabel='steps')
        ax.set_ylim(0, 1.1*max(o[k] for v in scores['arms'].values() for o in v.values()))
    np.atleast_1d(axs)[0].legend()
    plt.tight_layout()
    plt.savefig(out/'curve.png', dpi=80)

def main(argv=None):
    "Train, adapt, compare; 0, or 1 after one sentence on stderr for unusable input"
    a = parse(argv)
    torch.set_num_threads(1)
    protocol = {k: str(v) if isinstance(v, Path) else v for k, v in vars(a).items() if k not in ('work', 'out', 'steps', 'save_steps')}
    for k in ('data', 'source', 'pretrained'): protocol[k] = Path(protocol[k]).name if protocol[k] else None
    protocol = json.loads(json.dumps(protocol))
    fn = a.out/'scores.json'
    try:
        scores = json.loads(fn.read_text()) if fn.is_file() else dict(protocol=protocol, arms={})
        if scores['protocol'] != protocol: raise InputError(f'{fn} holds another comparison, {scores["protocol"]}: choose another --out and --work')
        folder, dls = first_network(a), loaders(a.data, a.train, a.test, a)
        if 'widths' not in scores: scores['widths'] = widths_of(folder)
        perceptual = PerceptualLoss(a.perceptual) if a.perceptual else None
        for name in ('adapted', 'random'): arm(name, dls, folder, scores, perceptual, a)
    except InputError as e:
        print(f'finetune_curve: {e}', file=sys.stderr)
        return 1
    write(fn, scores)
    plot(scores, a.out)
    print(f'written to {a.out}')
    return 0

def widths_of(folder):
    "The widths of the checkpoint's networks, for a random start of the same size"
    model = folder/'model' if (folder/'model').is_dir() else folder
    config = json.loads((model/'model.json').read_text())['config']
    res = {k: config[k] for k in ('ngf', 'nhidden', 'upsampling', 'norm')}
    critic = model/'critic/model.json'
    if critic.is_file(): res |= {k: v for k, v in json.loads(critic.read_text())['config'].items() if k in ('ndf', 'n_scales', 'n_layers')}
    return res

if __name__ == '__main__': sys.exit(main())

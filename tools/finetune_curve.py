#!/usr/bin/env python
"""Carry a painter of one data set over to another with other classes, and compare with a random start, step by step.

    OMP_NUM_THREADS=1 python tools/finetune_curve.py ../shared/data/labelmefacade --source ../shared/data/camvid \\
        --source-train train,val --mapping '{"Vegetation": "Tree", "Door": "Building", "Window": "Building"}' \\
        --work runs/finetune --out docs/finetune

First a SPADE is trained on --source for --pretrain-steps steps (or taken from --pretrained: the folder of a run or a
model). Then two learners train on the data for each of --seeds, one from its adapted weights (lesson 76), one from
random ones, with the same batches, and are scored on --test at every number of --steps: KID (efficientnet-lite0)
against the test photos, L1 to *the* photo, and the generator's losses as `learn.validate()` gives them, with their
weights: against the learner's own critic, and against the adapted critic as it was before its first step, which is the
same for both. Writes OUT/scores.json (figures, matches, protocol), OUT/curve.png and OUT/fakes.jpg (fakes of six test
maps), and prints the table. Each stage leaves a checkpoint in --work: started again, it goes on where it was, also
within a stage, after the last --save-steps steps. No photo or label map is written.
"""
import argparse, json, random, sys, time
from copy import deepcopy
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, CancelFitException, set_seed
from PIL import Image
from gaugan_fastai.options import hw, names, table
from gaugan_fastai.core import InputError
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.finetune import tell_matches
from gaugan_fastai.learner import image_grid, to_u8
from gaugan_fastai.metrics import paint_all, score_pictures
from gaugan_fastai.models.ablation import mean_interval
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

def numbers(text): return [int(o) for o in text.split(',')]

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
    p.add_argument('--preset', default='small')
    p.add_argument('--lr', type=float, default=2e-4)
    p.add_argument('--perceptual', default='efficientnet-lite0', help="or none")
    p.add_argument('--pretrain-steps', type=int, default=3000)
    p.add_argument('--steps', type=numbers, default=[0, 100, 300, 600, 1000, 1500, 2000])
    p.add_argument('--save-steps', type=int, default=250, help='steps between two checkpoints')
    p.add_argument('--seed', type=int, default=0, help='of the first training')
    p.add_argument('--seeds', type=numbers, default=[0, 1, 2], help='of the two that are compared')
    p.add_argument('--work', type=Path, default=Path('runs/finetune'))
    p.add_argument('--out', type=Path, default=Path('docs/finetune'))
    a = p.parse_args(argv)
    if (a.source is None) == (a.pretrained is None): p.error('give one of --source and --pretrained')
    a.perceptual = None if a.perceptual == 'none' else a.perceptual
    return a

def options(a): return dict(perceptual=a.perceptual, lr=a.lr, reuse_fake=True, model_dir='.')

def loaders(path, train, valid, a):
    return PairedDataLoaders.from_folder(path, size=a.size, bs=a.bs, train=train, valid=valid)

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

def train_to(learn, work, to, seed, save_steps):
    "Train to step `to`, from the last checkpoint in `work` if it is not there yet, with checkpoints on the way"
    mark = work/'step.json'
    done = json.loads(mark.read_text())['step'] if mark.is_file() else 0
    if done > to:
        what = f'{work} is at step {done}, past {to}, which has no score yet'
        raise InputError(what, 'choose another --work and --out')
    if done > 0 and getattr(learn, 'at', None) != done: learn.load('last')
    work.mkdir(parents=True, exist_ok=True)
    while done < to:
        stop = min(to, (done//save_steps + 1)*save_steps)
        start = time.time()
        advance(learn, done, stop, seed)
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
    train_to(learn, work, a.pretrain_steps, a.seed, a.save_steps)
    n, (h, w) = len(dls.train_ds), a.size
    training = f'{n} pairs of {a.source.name} at {h}x{w}, {a.pretrain_steps} steps of {a.bs}'
    card = dict(labels=dls.labels, licence='that of the photos it was trained on', training=training)
    with learn.painting() as gen: save_pretrained(gen, work/'model', **card)
    save_pretrained(learn.model.critic, work/'model/critic', **card)
    return work

def losses(learn, critic=None):
    "The generator's losses on the test part, with their weights, by name and in all; against `critic` if one is given"
    own, learn.model.critic = learn.model.critic, critic or learn.model.critic
    with learn.no_bar(), learn.no_logging(): values = learn.validate()
    learn.model.critic = own
    res = dict(zip([o.name for o in learn.metrics], map(float, values[1:])))
    res = {k: v for k, v in res.items() if not k.startswith('critic')}
    return res | dict(loss=sum(res.values()))

def score(learn, judge, a):
    "KID, L1 to the photos and losses, of the averaged weights; and fakes of six maps spread over the test part"
    with learn.painting() as gen: fakes, photos, maps = paint_all(gen, learn.dls.valid)
    res = score_pictures(fakes, photos, maps, learn.dls.labels, split='+'.join(a.test))
    res |= dict(l1=(fakes - photos).abs().mean().item())
    judged = {f'judged_{k}': v for k, v in losses(learn, judge).items()}
    six = np.linspace(0, len(fakes) - 1, 6).astype(int)
    return res | losses(learn) | judged, to_u8(fakes[six])

def start(name, seed, dls, folder, widths, a):
    "A learner from adapted or from random weights"
    set_seed(seed)
    kwargs = dict(pretrained=folder, mapping=a.mapping) if name == 'adapted' else widths
    return spade_learner(dls, path=a.work/f'{name}_{seed}', **kwargs, **options(a))

def arm(name, seed, dls, folder, scores, judge, a):
    "Train one of the learners and score it wherever a score is missing"
    mine = scores['arms'].setdefault(name, {}).setdefault(str(seed), {})
    todo = [o for o in sorted(a.steps) if str(o) not in mine]
    if not todo: return
    learn = start(name, seed, dls, folder, scores['widths'], a)
    for n in todo:
        train_to(learn, a.work/f'{name}_{seed}', n, seed, a.save_steps)
        mine[str(n)], fakes = score(learn, judge, a)
        write(a.out/'scores.json', scores)
        Image.fromarray(image_grid(fakes)).save(a.work/f'{name}_{seed}/fakes_{n}.png')
        shown = {k: round(v, 3) for k, v in mine[str(n)].items() if isinstance(v, float)}
        print(name, seed, n, shown, flush=True)

panels = dict(kid='KID', loss='loss, own critic', judged_loss='loss, same critic',
    perceptual='perceptual loss', l1='L1 to the photo')

def reached(scores, name, step):
    "The scores of all seeds at a step"
    return [o[str(step)] for o in scores['arms'].get(name, {}).values() if str(step) in o]

def shown(scores):
    "The panels for which there are scores"
    every = [o for arm in scores['arms'].values() for run in arm.values() for o in run.values()]
    return {k: v for k, v in panels.items() if all(k in o for o in every)}

def steps_of(scores, name): return sorted({int(o) for v in scores['arms'].get(name, {}).values() for o in v})

def tell(os, k):
    "The mean of a score, and half of its 95 % interval where seeds differ"
    m, half = mean_interval(o[k] for o in os)
    return f'{m:.3f} ± {half:.3f}' if half > 0 else f'{m:.3f}'

def scores_table(scores):
    "Markdown: a line for each number of steps and start"
    cols = shown(scores)
    lines = [['steps', 'start', 'seeds', *cols.values()], ['---']*(3 + len(cols))]
    for n in steps_of(scores, 'adapted'):
        rows = [(name, reached(scores, name, n)) for name in ('adapted', 'random')]
        lines += [[str(n), name, str(len(os)), *(tell(os, k) for k in cols)] for name, os in rows if os]
    return '\n'.join(f'| {" | ".join(o)} |' for o in lines)

def plot(scores, out):
    "A panel for each score, a line for each start (the mean), a point for each seed"
    import matplotlib; matplotlib.use('agg')
    import matplotlib.pyplot as plt
    cols = shown(scores)
    _, axs = plt.subplots(1, len(cols), figsize=(2.7*len(cols), 2.7))
    for ax, (k, title) in zip(axs, cols.items()):
        for name, color in dict(adapted='C0', random='C1').items():
            values = {x: [o[k] for o in reached(scores, name, x)] for x in steps_of(scores, name)}
            ax.plot(list(values), [np.mean(o) for o in values.values()], color=color, label=name)
            for x, ys in values.items(): ax.plot([x]*len(ys), ys, '.', color=color)
        ax.set(title=title, xlabel='steps')
        ax.set_ylim(0)
    axs[0].legend()
    plt.tight_layout()
    plt.savefig(out/'curve.png', dpi=80)
    plt.close()

def show_fakes(scores, work, out):
    "Fakes of the first seed side by side: a column for each start and number of steps"
    names = [(name, n) for name in ('adapted', 'random') for n in steps_of(scores, name)]
    seed = min(map(int, scores['arms']['adapted']))
    strips = [work/f'{name}_{seed}/fakes_{n}.png' for name, n in names]
    if not all(o.is_file() for o in strips): return
    beside = np.concatenate([np.asarray(Image.open(o)) for o in strips], axis=1)
    Image.fromarray(beside).save(out/'fakes.jpg', quality=92)
    print('fakes.jpg, columns:', ', '.join(f'{name} {n}' for name, n in names))

def protocol_of(a):
    "What belongs to the figures, as JSON has it"
    res = {k: v for k, v in vars(a).items() if k not in ('work', 'out', 'steps', 'save_steps', 'seeds')}
    return json.loads(json.dumps({k: v.name if isinstance(v, Path) else v for k, v in res.items()}))

def compare(a):
    "All stages that are missing; the scores"
    fn, protocol = a.out/'scores.json', protocol_of(a)
    scores = json.loads(fn.read_text()) if fn.is_file() else dict(protocol=protocol, arms={})
    if scores['protocol'] != protocol:
        raise InputError(f'{fn} holds another comparison, {scores["protocol"]}', 'choose another --out and --work')
    folder, dls = first_network(a), loaders(a.data, a.train, a.test, a)
    gan = start('adapted', a.seed, dls, folder, None, a).model
    scores |= dict(widths=widths_of(folder), matches=[list(o) for o in gan.generator.matches])
    print(tell_matches(gan.generator.matches), flush=True)
    judge = deepcopy(gan.critic)
    for seed in a.seeds:
        for name in ('adapted', 'random'): arm(name, seed, dls, folder, scores, judge, a)
    write(fn, scores)
    return scores

def main(argv=None):
    "Train, adapt, compare; 0, or 1 after one sentence on stderr for unusable input"
    a = parse(argv)
    torch.set_num_threads(1)
    try: scores = compare(a)
    except InputError as e:
        print(f'finetune_curve: {e}', file=sys.stderr)
        return 1
    plot(scores, a.out)
    show_fakes(scores, a.work, a.out)
    print(scores_table(scores), f'written to {a.out}', sep='\n\n')
    return 0

def widths_of(folder):
    "The widths of the checkpoint's networks, for a random start of the same size"
    model = folder/'model' if (folder/'model').is_dir() else folder
    config = json.loads((model/'model.json').read_text())['config']
    res = {k: config[k] for k in ('ngf', 'nhidden', 'upsampling', 'norm')}
    critic = model/'critic/model.json'
    if not critic.is_file(): return res
    config = json.loads(critic.read_text())['config']
    return res | {k: v for k, v in config.items() if k in ('ndf', 'n_scales', 'n_layers')}

if __name__ == '__main__': sys.exit(main())

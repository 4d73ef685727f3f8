#!/usr/bin/env python
"""Train SPADE, SEAN or OASIS in stages of growing size, by the clock, on a GPU or a CPU; leave weights and samples.

    python tools/train_painter.py OUT --minutes 8 --sizes 128 256 --z-dim 32               drawn landscapes, with styles
    python tools/train_painter.py OUT --minutes 8 --sizes 96x128 192x256 --data ../shared/data/camvid --train train,val
    python tools/train_painter.py OUT --minutes 60 --sizes 96x128 --data FOLDER --start data/weights/street
    python tools/train_painter.py OUT --minutes 8 --sizes 128 256 --z-dim 32 --model oasis
    python tools/train_painter.py OUT --minutes 12 --model sean --data ../shared/data/facesynthetics --load 160

A later stage doubles the size and goes on with generator, encoder and critic of the one before: the generator doubles
once more (`upsampling='more'`), OASIS's starts from twice as many pixels, and has the same weights. Each stage is a
`Run` in OUT/stage_N. With --score-every 1 the averaged weights are scored every minute (KID on --score-n pairs of
--valid, or on drawn scenes below seed 1000, at the stage's size): OUT/scores.jsonl has a line each, and
`tools/score_marks.py` draws them. The time that scoring takes belongs to the minutes.

--minutes count from the start of the process; only what is left at the end, weights and a last score, comes after them.
The result lies in OUT/model, from two minutes on; its card has the losses of at most 24 moments (`curve`). SIGTERM (a
time limit such as `timeout 9m`) and Ctrl-C end all of it at the next step: the averaged weights of that step are left,
then scored. A training that was stopped is not gone on with: --start OUT/model begins from its weights. `--way auto`
times a few steps of each way to compute them and takes the quickest; `--bf16` trains in mixed precision; `--augment
color,translation` changes at random what the critic sees (lesson 29), for few photos.
"""
import argparse, copy, json, os, statistics, time
BEGAN = time.monotonic()   # before the imports below, which take seconds: --minutes count from here
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
import torch
from fastai.vision.all import Callback, set_seed, store_attr
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.layouts import folder_pairs
from gaugan_fastai.data.paired import Pair, PairedDataLoaders
from gaugan_fastai.data.transforms import as_size
from gaugan_fastai.fast import choice
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.runs import Run
from gaugan_fastai.turns import critic_turn, generator_turn
from score_marks import Judge, ScoreMarks
from stopping import CleanStop

FIRST = 1000    # seed of the first scene; lessons, tests and scores look at scenes below it

def size_of(text):
    "'256' or '192x256' as (H, W)"
    sides = [int(o) for o in text.split('x')]
    return as_size(sides[0] if len(sides) == 1 else tuple(sides))

# -- data ----------------------------------------------------------------------------------------------------------

def scene(job): return tuple(draw_landscape(*job)[:2])

def landscapes(a, size, how):
    "Drawn scenes, drawn by all cores"
    jobs = [(FIRST + i, size) for i in range(a.scenes + 16)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context('fork')) as pool:
        scenes = [Pair(*o) for o in pool.map(scene, jobs, chunksize=8)]
    return PairedDataLoaders.from_pairs(scenes[16:], scenes[:16], landscape_labels(), **how)

def loaders(a, i, size):
    "Loaders of stage i"
    how = dict(size=size, bs=a.bs[i], device=a.device, seed=a.seed, num_workers=a.workers)
    if a.device == 'cuda': how |= dict(pin_memory=True)
    if not a.data: return landscapes(a, size, how)
    pairs, valid, labels = folder_pairs(a.data, a.train.split(','), a.valid.split(','), False)
    # an epoch of many rounds: workers start anew in each
    a.repeat = max(1, 2000//len(pairs))
    pairs, valid = list(pairs)*a.repeat, list(valid)[:16]
    return PairedDataLoaders.from_pairs(pairs, valid, labels, load=a.load[i], color=a.color, path=a.out, **how)

def unseen(a, size, bs):
    "A loader of the pairs that are scored on the way: of --valid, spread over it, or drawn scenes"
    if a.data:
        _, pairs, labels = folder_pairs(a.data, a.train.split(','), a.valid.split(','), False)
        pairs = list(pairs)[::max(1, len(pairs)//a.score_n)][:a.score_n]
    else: pairs, labels = [Pair(*scene((i, size))) for i in range(a.score_n)], landscape_labels()
    bs = min(bs, len(pairs))
    return PairedDataLoaders.from_pairs(pairs, pairs, labels, size, bs, flip=0, device=a.device).valid

def scorer(a, i, size):
    "The callbacks that score stage i, if that is wanted"
    if not a.score_every: return []
    judge = Judge(unseen(a, size, a.bs[i]), a.device)
    part, n = a.valid if a.data else 'drawn', len(judge.dl.dataset)
    noted = dict(stage=i + 1, size='x'.join(map(str, size)), n=n, part=part)
    return [ScoreMarks(a.out/'scores.jsonl', judge, a.score_every, a.spent, **noted)]

# -- the way to compute --------------------------------------------------------------------------------------------

def take_way(gan, way, device):
    """Lay the weights in plain order or channels-last, and give what to be `with` while the network computes.

    By patterns ('ours') or by convolutions of the one-hot ('dense', what a GPU does by itself)."""
    last = way.endswith('last')
    gan.to(memory_format=torch.channels_last if last else torch.contiguous_format)
    dense = None if device == 'cuda' else False
    return choice.ways(exact=True if way.startswith('ours') else dense)

def seconds_a_step(learn, batch, n=4):
    "Median seconds of both turns without the optimisers' steps"
    learn._split(batch)
    xb, photo, times = learn.xb, batch[-1], []
    gan = learn.model.to(photo.device).train()
    wait = torch.cuda.synchronize if photo.is_cuda else lambda: None
    for _ in range(n + 2):
        start = time.perf_counter()
        fake, losses = gan(*xb, photo=photo, turn=generator_turn)
        torch.autograd.grad(sum(losses.values()), gan.movers('generator'), allow_unused=True)
        torch.autograd.grad(sum(gan(*xb, photo=photo, fake=fake, turn=critic_turn).values()), gan.movers('critic'))
        wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])

def quickest(learn, ways, batch):
    "The quickest way for this batch; weights and batch norm's statistics stay as they were"
    learn.model.to(batch[-1].device)
    kept, times = copy.deepcopy(learn.model.state_dict()), {}
    for way in ways:
        try:
            with take_way(learn.model, way, batch[-1].device.type): times[way] = seconds_a_step(learn, batch)
        except torch.cuda.OutOfMemoryError: torch.cuda.empty_cache()
    learn.model.load_state_dict(kept)
    print('seconds a step:', {k: round(v, 4) for k, v in times.items()}, flush=True)
    return min(times, key=times.get)

# -- training ------------------------------------------------------------------------------------------------------

def minutes_left(a):
    "Of all --minutes; a little at least, since a step is always taken"
    return max(.001, a.minutes - (time.monotonic() - BEGAN)/60)

class Tell(Callback):
    "Say every half minute how far a stage is; leave the weights every two minutes, and at the end"
    order, run_valid = 90, False   # before ScoreMarks (91): what is stopped may have little time
    def __init__(self, a, words, stage, minutes): store_attr()
    def before_fit(self): self.start = self.told = self.left = time.monotonic()
    def after_batch(self):
        now = time.monotonic()
        if now - self.told < 30: return
        self.told = now
        print(self.note(), flush=True)
        if now - self.left > 120: self.leave()
    def after_fit(self): self.a.stages += f'{self.leave()}; '
    def note(self):
        "A row of the curve: the losses, means since the epoch began, or of the epoch that has just ended"
        ended = self.learn.history[-1]['train'] if self.learn.history else {}
        means = {k: round(v, 3) for k, v in (self.learn.loss_means.means('train') or ended).items()}
        stage, seconds = self.stage.split(':')[0], round(time.monotonic() - self.start)
        row = dict(stage=stage, seconds=seconds, steps=self.learn.model_average.t, **means)
        if not any((o['stage'], o['steps']) == (stage, row['steps']) for o in self.a.curve): self.a.curve.append(row)
        return row
    def leave(self):
        "Leave the weights; give the words for the stage up to now"
        self.note()
        stage = f'{self.stage}, {self.minutes_in_words()}, {self.learn.model_average.t} steps'
        leave(self.a, self.learn, f'{self.words}; {self.a.stages}{stage}')
        self.left = time.monotonic()
        return stage
    def minutes_in_words(self):
        gone = (time.monotonic() - self.start)/60
        return f'{gone:.1f} minutes' if gone > .99*self.minutes else f'{gone:.1f} of {self.minutes:.1f} minutes'

def spread(rows, n):
    "At most n of them, spread over all, with the last one"
    return rows[::-1][::max(1, -(-len(rows)//n))][::-1]

def leave(a, learn, words):
    "Write the averaged generator with its encoder to OUT/model, 16 bits a number; the card has losses on the way"
    learn.before_painting()   # SEAN's usual styles go along with the weights
    with learn.painting() as gen:
        save_pretrained(gen, a.out/'model', learn.dls.labels, encoder=gen.__dict__.get('encoder'), half=True,
            licence=a.licence, training=words, size=list(learn.dls.size), seed=a.seed, curve=spread(a.curve, 24))

def next_generator(folder, size):
    "The generator of the stage before; SPADE's doubles once more"
    gen = from_pretrained(folder)
    if gen.card['model'] == 'OASISGenerator' or tuple(size) == tuple(gen.card['size']): return gen
    if gen.upsampling != 'normal': raise SystemExit('train_painter: a painter can double once more, not twice')
    gen.upsampling, gen.factor = 'more', 2*gen.factor
    if getattr(gen, 'z_dim', None): gen.size = tuple(size)
    return gen

def pretrained(a, i, size):
    "What stage i starts from: networks of the stage before, or --start, or None"
    if i == 0 and not a.start: return None
    before = a.out/f'stage_{i-1}'/'model' if i else Path(a.start)
    gen, critic = next_generator(before, size), before/'critic'
    return gen, from_pretrained(critic) if (critic/'model.json').is_file() else None

def options(a, begun, i):
    "Options of the learner: widths and styles of a network that begins, and what its losses are"
    widths = dict(ndf=a.ndf) if begun else dict(ngf=a.ngf, nhidden=a.nhidden, ndf=a.ndf)
    if begun: widths |= dict(pretrained=begun)
    elif a.model != 'sean': widths |= dict(widths=a.widths)
    if a.z_dim and not begun: widths |= dict(z_dim=a.z_dim)
    if a.grain and not begun: widths |= dict(grain=True)
    if a.augment: widths |= dict(augment=a.augment)
    if a.model == 'oasis': return widths | dict(labelmix=a.labelmix, average=a.average)
    styles = dict(kl=a.kl, kl_mean=True, kl_warmup=0. if begun else .2) if a.z_dim else {}
    net = 'efficientnet-lite0' if a.perceptual else None
    losses = dict(l1=a.l1, perceptual_weight=a.perceptual, perceptual=net)
    layers = dict(n_layers=a.n_layers) if a.model == 'spade' else {}
    if a.model == 'sean': losses |= dict(locality=a.locality[i])
    if a.model == 'sean' and not begun: widths |= dict(style_dim=a.style_dim, width=a.width)
    return layers | dict(average=a.average) | widths | styles | losses

def losses_in_words(a):
    if a.model == 'oasis': return f'a critic that names pixels + {a.labelmix:g} LabelMix'
    kl = f' + {a.kl:g} KL (mean over the batch)' if a.z_dim else ''
    local = ''
    if a.model == 'sean': local = f' + {" then ".join(f"{o:g}" for o in dict.fromkeys(a.locality))} locality'
    return f'hinge + 10 feature matching + {a.perceptual:g} perceptual (efficientnet-lite0) + {a.l1:g} L1{kl}{local}'

def run_stage(a, i, size, stop):
    out, dls = a.out/f'stage_{i}', loaders(a, i, size)
    if stop.heard: return
    begun = pretrained(a, i, size)
    set_seed(a.seed + i)
    run = Run(dls, out, save_minutes=a.save_minutes, keep_critic=True, seed=a.seed, model=a.model, preset='small',
        **options(a, begun, i))
    if a.bf16: run.learn.to_bf16()
    scores = scorer(a, i, size)
    ways = ['ours', 'dense', 'dense last'][a.device == 'cuda':] if a.way == 'auto' else [a.way]
    batch = dls.train.one_batch()
    way = quickest(run.learn, ways, batch) if len(ways) > 1 else ways[0]
    n = len(dls.train_ds)//getattr(a, 'repeat', 1)
    where = torch.cuda.get_device_name() if a.device == 'cuda' else f'{torch.get_num_threads()} CPU threads'
    words = (f'{n} pairs of {a.data.name if a.data else f"drawn landscapes (seeds from {FIRST})"}, on {where}: '
        f'{losses_in_words(a)}{f", DiffAugment {a.augment}" if a.augment else ""}; '
        f'made by tools/train_painter.py {a.words}')
    stage = f'stage {i + 1}: {size[0]}x{size[1]}, batch {a.bs[i]}, lr {a.lr[i]:g}'
    minutes = minutes_left(a)*a.shares[i]/sum(a.shares[i:])
    print(f'{n} pairs, {size}, {way}, {minutes:.2f} minutes', flush=True)
    run.learn.add_cbs([Tell(a, words, stage, minutes), *scores, stop])
    if stop.heard: return
    with take_way(run.learn.model, way, a.device): run.fit(minutes=minutes, lr=a.lr[i], decay=a.decay[i])
    a.spent += minutes
    del run

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path)
    p.add_argument('--minutes', type=float, required=True,
        help='of the whole, from the start of the process: imports, data and the timing of ways belong to them')
    p.add_argument('--sizes', nargs='+', default=['128'], help='one for each stage, such as 128 256 or 96x128 192x256')
    p.add_argument('--shares', nargs='+', type=float, help='of the time, one for each stage; default: equal')
    p.add_argument('--lr', nargs='+', type=float, default=[5e-4], help='one for each stage, or one for all')
    p.add_argument('--decay', nargs='+', type=float, default=[.5], help='last part of a stage in which lr falls to 0')
    p.add_argument('--data', type=Path, help='folder for from_folder; default: drawn landscapes')
    p.add_argument('--train', default='train')
    p.add_argument('--valid', default='val')
    p.add_argument('--color', type=float, default=0., help='how much colours of photos change by chance, 0..1')
    p.add_argument('--load', type=int, nargs='+', default=[None],
        help='scale photos to this short side, one for each stage; windows of --sizes are cut by chance')
    p.add_argument('--scenes', type=int, default=3000)
    p.add_argument('--start', help='weights to start from')
    p.add_argument('--bs', nargs='+', type=int, default=[16], help='one for each stage, or one for all')
    p.add_argument('--ngf', type=int, default=32)
    p.add_argument('--nhidden', type=int, default=64)
    p.add_argument('--widths', type=float, nargs='+', default=[8, 8, 8, 8, 4, 2, 1])
    p.add_argument('--ndf', type=int, default=64)
    p.add_argument('--n-layers', type=int, default=4)
    p.add_argument('--z-dim', type=int)
    p.add_argument('--kl', type=float, default=.02)
    p.add_argument('--style-dim', type=int, default=64, help='SEAN: length of a style code')
    p.add_argument('--width', type=int, default=16, help='SEAN: width of the style encoder')
    p.add_argument('--locality', nargs='+', type=float, default=[0.],
        help="SEAN: weight of a code's change outside of its region, one for each stage, or one for all")
    p.add_argument('--l1', type=float, default=1.)
    p.add_argument('--perceptual', type=float, default=10.)
    p.add_argument('--model', choices=['spade', 'sean', 'oasis'], default='spade')
    p.add_argument('--grain', action='store_true', help="OASIS: a number of each pixel's own in every layer")
    p.add_argument('--labelmix', type=float, default=10.)
    p.add_argument('--average', type=float, default=.999, help='decay of the averaged weights')
    p.add_argument('--augment', help='for few photos, what the critic sees: color,translation,cutout or some of it')
    p.add_argument('--bf16', action='store_true', help='mixed precision')
    p.add_argument('--licence', default='Apache-2.0')
    p.add_argument('--way', default='auto', help='auto, ours, dense, dense last')
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--workers', type=int, default=0)
    p.add_argument('--save-minutes', type=float, default=10.)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--score-every', type=float, metavar='MINUTES', help='score on the way; default: not')
    p.add_argument('--score-n', type=int, default=100, help='pictures that are scored')
    a = p.parse_args(argv)
    n = len(a.sizes)
    a.stages, a.spent, a.curve, a.words = '', 0., [], ' '.join(argv or os.sys.argv[2:])
    if (a.out/'stage_0').exists(): p.error(f'{a.out} holds a training: choose another folder')
    a.out.mkdir(parents=True, exist_ok=True)
    for k in ('lr', 'decay', 'bs', 'locality', 'load'):
        given = getattr(a, k)
        setattr(a, k, given*n if len(given) == 1 else given)
    a.shares = a.shares or [1]*n
    if a.device == 'cuda': torch.set_float32_matmul_precision('high')
    with CleanStop() as stop:
        for i, text in enumerate(a.sizes):
            if not stop.heard: run_stage(a, i, size_of(text), stop)
    if not a.stages: raise SystemExit('train_painter: stopped before the first step')
    print(json.dumps(dict(seconds=round(time.monotonic() - BEGAN), stopped=stop.heard)))

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'train_painter: {e}')

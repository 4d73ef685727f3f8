#!/usr/bin/env python
"""Train on from trained weights and from random ones, side by side, and score both by minutes of one processor core.

    OMP_NUM_THREADS=1 python tools/finetune_curve.py OUT snow --start landscapes --arm pretrained --seed 0
    OMP_NUM_THREADS=1 python tools/finetune_curve.py OUT ../shared/data/labelmefacade --start street --size 96x128 \\
        --mapping '{"Vegetation": "Tree", "Door": "Building", "Window": "Building"}' --arm scratch --seed 2
    python tools/finetune_curve.py OUT --table [--to docs/finetune/snow]

The data are `snow`, scenes in deep snow drawn by `gaugan_fastai.demo.snow_scenes`, or a folder of pairs.
Each command is one training, one process and one core; many may share OUT. --n pairs to train on and --n-test others to
score are chosen once, the same for all. The arm `pretrained` begins with --start, `scratch` with random weights of the
same widths; batches are the same, each has its own learning rate (--lr). Their critics begin anew, unless a critic lies
beside the weights.

At each of --marks (minutes of processor time in training; scoring does not count) the averaged weights paint the test
maps: KID (efficientnet-lite0) against the test photos. A mark leaves a line in OUT/ARM_SEED.jsonl, the first six
pictures in OUT/ARM_SEED_MINUTES.png, and a checkpoint, from which the same command, or one with later marks, goes on.
--table prints what is there, and leaves scores.jsonl, curve.png and pictures.jpg in --to (OUT unless given). Photos and
label maps of a folder are never written.
"""
import argparse, json, random, sys, time
from pathlib import Path
import numpy as np, torch
from fastai.vision.all import Callback, CancelValidException, set_seed
from PIL import Image
from gaugan_fastai.callbacks import TimeBudget
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.data.layouts import folder_pairs
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.demo import snow_scenes
from gaugan_fastai.finetune import trained_networks
from gaugan_fastai.models.ablation import mean_interval
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.options import hw, names, table as table_of
from gaugan_fastai.originals import model_config
from gaugan_fastai.pictures import image_grid, to_u8
from score_marks import Judge, kid_curve, read

FIRST = 5000   # seed of the first snowy scene: trainings of shipped weights saw seeds from 1000, at most 6016 of them
ARMS = dict(pretrained='C0', scratch='C1')
GENERATOR, CRITIC = 'ngf nhidden widths z_dim upsampling norm', 'ndf n_layers n_scales'

def parse(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path)
    p.add_argument('data', nargs='?', help='snow, or a folder with {train,test}/{images,labels} and codes.txt')
    p.add_argument('--start', default='landscapes', help='name or folder of the weights to train on from')
    p.add_argument('--arm', choices=ARMS)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--marks', type=float, nargs='+', default=[.5, 1, 2, 4, 7, 10], help='minutes')
    p.add_argument('--size', type=hw, default=(128, 128))
    p.add_argument('--n', type=int, default=50)
    p.add_argument('--n-test', type=int, default=100)
    p.add_argument('--train', type=names, default=['train'])
    p.add_argument('--test', type=names, default=['test'])
    p.add_argument('--mapping', type=table_of, help='new class -> old class where names differ, JSON')
    p.add_argument('--bs', type=int, default=4)
    p.add_argument('--ndf', type=int, default=32, help='width of a critic that begins anew')
    p.add_argument('--lr', type=float, nargs=2, default=[5e-4, 1e-3], help='pretrained, from scratch')
    p.add_argument('--l1', type=float, default=2.)
    p.add_argument('--average', type=float, default=.98)
    p.add_argument('--table', action='store_true')
    p.add_argument('--to', type=Path, help='folder for the results of --table')
    a = p.parse_args(argv)
    if not a.table and (a.data is None or a.arm is None): p.error('give the data and --arm, or --table')
    return a

class NoValidation(Callback):
    "Validation would cost time"
    def before_validate(self): raise CancelValidException()

# -- data and networks ---------------------------------------------------------------------------------------------

def spread(pairs, n):
    "So many of them, spread over all"
    pairs = list(pairs)
    what = f'there are {len(pairs)} pairs, and {n} were asked for'
    if len(pairs) < n: raise InputError(what, 'lower --n or --n-test')
    return pairs[::len(pairs)//n][:n]

def loaders(a):
    if a.data == 'snow':
        scenes, labels = snow_scenes(a.n + a.n_test, a.size, FIRST), landscape_labels()
        pairs, test = scenes[a.n_test:], scenes[:a.n_test]
    else:
        pairs, test, labels = folder_pairs(a.data, a.train, a.test)
        pairs, test = spread(pairs, a.n), spread(test, a.n_test)
    return PairedDataLoaders.from_pairs(pairs, test, labels, a.size, a.bs, device='cpu', path=a.out)

def trained(a):
    "Generator and critic (or None) to start from; with one doubling less where pictures are too small for all of them"
    nets = trained_networks(a.start)
    gen = next(iter(nets.values()))
    if gen.upsampling == 'more' and any(o % gen.factor for o in a.size):
        gen.upsampling, gen.factor = 'normal', gen.factor//2
    return gen, nets.get('critic')

def widths_of(net, words):
    "Those of the arguments that built a network"
    config = model_config(net)
    return {k: config[k] for k in words.split() if config.get(k) is not None}

def learner(a, dls):
    "A learner from the trained weights, or from random ones of the same widths"
    how = dict(lr=a.lr[a.arm == 'scratch'], l1=a.l1, average=a.average, reuse_fake=True, path=a.out/f'{a.arm}_{a.seed}')
    gen, critic = trained(a)
    if getattr(gen, 'z_dim', None): how |= dict(kl=.02, kl_mean=True)
    new = {} if critic else dict(ndf=a.ndf)
    known = spade_learner(dls, pretrained=(gen, critic), mapping=a.mapping, model_dir='.', **new, **how)
    if a.arm == 'pretrained': return known
    gan = known.model
    widths = widths_of(gan.generator, GENERATOR) | widths_of(gan.critic, CRITIC)
    return spade_learner(dls, model_dir='.', **widths, **how)

# -- one training --------------------------------------------------------------------------------------------------

def protocol(a):
    "What must be the same where a training goes on, or is compared"
    kept = 'data start size n n_test train test mapping bs ndf lr l1 average'.split()
    res = {k: getattr(a, k) for k in kept} | dict(data=Path(a.data).name, start=Path(a.start).name)
    return json.loads(json.dumps(res))

def lines_of(a):
    "The marks of this training that are there"
    file = a.out/f'{a.arm}_{a.seed}.jsonl'
    rows = read(file) if file.is_file() else []
    if rows and rows[0]['protocol'] != protocol(a):
        raise InputError(f'{file} holds a training with {rows[0]["protocol"]}', 'choose another folder')
    return rows

def note(a, learn, judge, minutes):
    "Score, leave the checkpoint, then the line"
    start, folder = time.process_time(), Path(learn.path)
    with learn.painting() as gen: mean, std, fakes = judge(gen)
    scored = time.process_time()
    Image.fromarray(image_grid(to_u8(fakes[:6]))).save(a.out/f'{a.arm}_{a.seed}_{minutes:g}.png')
    if minutes: learn.save(f'at_{minutes:g}')
    row = dict(arm=a.arm, seed=a.seed, minutes=minutes, steps=learn.model_average.t, kid=round(mean, 4),
        std=round(std, 4), scoring=round(scored - start, 1), **({} if minutes else dict(protocol=protocol(a))))
    with open(a.out/f'{a.arm}_{a.seed}.jsonl', 'a') as f: f.write(json.dumps(row) + '\n')
    for o in folder.glob('at_*.pth'):
        if o.stem != f'at_{minutes:g}': o.unlink()
    print(row, flush=True)

def advance(a, learn, spent, minutes):
    "Train from one mark to the next; chances depend on the seed and the mark alone, so a stopped training repeats them"
    seed = 1000*a.seed + round(10*spent)
    set_seed(seed)
    learn.dls.train.rng = random.Random(seed)
    budget = TimeBudget(minutes - spent, clock=time.process_time)
    with learn.no_bar(), learn.no_logging(): learn.fit(10**6, cbs=[budget, NoValidation()])

def train(a):
    "All marks that are missing"
    done = lines_of(a)
    spent = done[-1]['minutes'] if done else 0
    todo = [o for o in sorted(a.marks) if o > spent]
    if done and not todo: return print(f'{a.arm} {a.seed}: all marks are there')
    dls = loaders(a)
    judge = Judge(dls.valid)
    set_seed(a.seed)
    learn = learner(a, dls)
    Path(learn.path).mkdir(parents=True, exist_ok=True)
    if not done: note(a, learn, judge, 0)
    if spent: learn.load(f'at_{spent:g}')
    for minutes in todo:
        advance(a, learn, spent, minutes)
        note(a, learn, judge, minutes)
        spent = minutes

# -- what came out -------------------------------------------------------------------------------------------------

def collected(a):
    "All lines in OUT, by arm, seed and minutes"
    files = sorted(a.out.glob('*.jsonl'))
    if not files: raise InputError(f'{a.out} holds no scores', 'train first')
    rows = {(o['arm'], o['seed'], o['minutes']): o for f in files for o in read(f)}
    protocols = [o['protocol'] for o in rows.values() if 'protocol' in o]
    if any(o != protocols[0] for o in protocols): raise InputError(f'{a.out} holds trainings of different kinds')
    return [rows[k] for k in sorted(rows)]

def by_minutes(rows, arm):
    "Minutes -> KIDs by seed"
    of = [o for o in rows if o['arm'] == arm]
    return {m: {o['seed']: o['kid'] for o in of if o['minutes'] == m} for m in sorted({o['minutes'] for o in of})}

def tell(values):
    m, half = mean_interval(values)
    return f'{m:.3f} ± {half:.3f} ({len(values)})' if half > 0 else f'{m:.3f} ({len(values)})'

def ahead(found, m):
    "In how many seeds the trained weights are ahead"
    one, other = (o.get(m, {}) for o in found.values())
    both = one.keys() & other.keys()
    return f'{sum(one[s] < other[s] for s in both)} of {len(both)}' if both else ''

def markdown(found):
    lines = ['| minutes | ' + ' | '.join(found) + ' | pretrained is ahead in |', '|---'*(2 + len(found)) + '|']
    for m in sorted({k for o in found.values() for k in o}):
        cells = [tell(o[m].values()) if m in o else '' for o in found.values()]
        lines.append(f'| {m:g} | {" | ".join(cells)} | {ahead(found, m)} |')
    return '\n'.join(lines)

def plot(found, file):
    "A line for each arm (the mean), a point for each seed"
    with kid_curve(file, 5, 'minutes of one core') as ax:
        for arm, os in found.items():
            ax.plot(list(os), [np.mean([*o.values()]) for o in os.values()], color=ARMS[arm], label=arm)
            for m, values in os.items(): ax.plot([m]*len(values), list(values.values()), '.', color=ARMS[arm])

def pictures(a, found, to):
    "Six test maps of the first seed: the painter as it came, and both arms at the first, middle and last mark"
    marks = sorted(set(found['pretrained']) & set(found['scratch']) - {0})
    if not marks: return
    marks = sorted({marks[0], marks[len(marks)//2], marks[-1]})
    seed = min(found['pretrained'][marks[-1]])
    shown = [('pretrained', 0), *(('pretrained', m) for m in marks), *(('scratch', m) for m in marks)]
    files = [a.out/f'{arm}_{seed}_{m:g}.png' for arm, m in shown]
    if not all(o.is_file() for o in files): return
    Image.fromarray(np.concatenate([np.asarray(Image.open(o)) for o in files], 1)).save(to/'pictures.jpg', quality=90)
    print('pictures.jpg, columns:', ', '.join(f'{arm} {m:g}' for arm, m in shown))

def report(a):
    rows, to = collected(a), a.to or a.out
    to.mkdir(parents=True, exist_ok=True)
    found = {arm: by_minutes(rows, arm) for arm in ARMS}
    if to != a.out: (to/'scores.jsonl').write_text(''.join(json.dumps(o) + '\n' for o in rows))
    plot(found, to/'curve.png')
    pictures(a, found, to)
    print(markdown(found))

def main(argv=None):
    a = parse(argv)
    torch.set_num_threads(1)
    try:
        if a.table: report(a)
        else:
            a.out.mkdir(parents=True, exist_ok=True)
            train(a)
    except InputError as e:
        print(f'finetune_curve: {e}', file=sys.stderr)
        return 1
    return 0

if __name__ == '__main__': sys.exit(main())

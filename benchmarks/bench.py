#!/usr/bin/env python
"""Time and memory of ours against the plain dense formulation of the same network, side by side in one run.

    python benchmarks/bench.py --what forward            every map, batch 1; --batch 8: eight maps at once. Each map as if new, and as
                                                         if only the style had changed (scale and shift kept)
    python benchmarks/bench.py --what step --batch 4     generator's turn and critic's turn, with both Adams
    python benchmarks/bench.py --what memory             peak memory of such a step, less parameters, gradients and Adam's state
    python benchmarks/bench.py --what growth             forward against resolution, classes and batch
                                                         (benchmarks/chart.py draws the times against resolution)
    python benchmarks/bench.py --what noise              forward on noise, where no window comes twice: never slower than 1.1 x dense
    python benchmarks/bench.py --what options            forward as it is, dense, by torch.compile and in bfloat16, with the error of each
    python benchmarks/bench.py --what sean               SEAN's generator against the loops of the paper, and its encoder (see sean.py)
    python benchmarks/bench.py --what parts              where the time of a forward and of a step goes, by operator

Prints a line of JSON for each case, with both times (medians in seconds, taken in alternation) and their ratio, then a summary. The first
line says on what machine and with which versions. "dense" is the same network with plain parts (`with ways(exact=False)`): convolutions of the one-hot, as the paper writes them, PyTorch's convolutions, its
spectral norm, and in a step its Adam as it comes (not fused). Steps of ours are taken inside `kept_memory()`, as the learner takes them (see --keep).
Maps: the 21 label maps of COCO-Stuff in GAUGAN_SHARED (default: ../shared) with instance edges, 182 classes and void, scaled to --size;
where they are missing, landscapes drawn by `data.landscapes`. Nothing here is a test.
"""
import argparse, json, os, platform, shutil, signal, statistics, subprocess, sys, time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
import numpy as np, torch
from PIL import Image
from gaugan_fastai import layers
from gaugan_fastai.core import instance_edges, resize_nearest
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.fast import pixels
from gaugan_fastai.fast.choice import asked, ways
from gaugan_fastai.losses import feature_matching, hinge
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.turns import GANAdam, SynthesisGAN, critic_turn, generator_turn

ROOT = Path(__file__).resolve().parents[1]

def say(**kwargs): print(json.dumps({k: float(f'{v:.5g}') if isinstance(v, float) else v for k, v in kwargs.items()}), flush=True)

# -- what is measured on -------------------------------------------------------------------------------------------

def coco_maps(folder, size):
    "(segmap, edges) of every COCO-Stuff sample at `size`; file id 255 becomes void, 182"
    for fn in sorted(folder.glob('*_label/*.png')):
        ids = torch.from_numpy(np.array(Image.open(fn)).astype(np.int64))[None]
        ids[ids == 255] = 182
        inst = torch.from_numpy(np.array(Image.open(fn.parent.with_name(fn.parent.name.replace('label', 'inst'))/fn.name)).astype(np.int64))[None]
        yield fn.stem, resize_nearest(ids, size), instance_edges(resize_nearest(inst, size))

def drawn_maps(size, n=21):
    from gaugan_fastai.data.landscapes import draw_landscape
    for i in range(n):
        ids = torch.as_tensor(draw_landscape(i, size).segmap).long()[None]
        yield f'landscape {i}', ids, instance_edges(ids)

def all_maps(size):
    folder = Path(os.environ.get('GAUGAN_SHARED', ROOT.parent/'shared'))/'data'/'coco_stuff_sample'
    return list(coco_maps(folder, size) if folder.is_dir() else drawn_maps(size))

def batches(maps, n):
    "The maps in batches of n, the last ones filled up from the start"
    maps = maps + maps[:(-len(maps)) % n]
    for i in range(0, len(maps), n):
        names, segs, edges = zip(*maps[i:i + n])
        yield names[0] if n == 1 else f'{n} maps from {names[0]}', torch.cat(segs), torch.cat(edges)

# -- how it is measured --------------------------------------------------------------------------------------------

@contextmanager
def path(name):
    "Convolutions of the one-hot, PyTorch's convolutions and spectral norm ('dense'), or the exact path ('ours')"
    with ways(exact=name != 'dense'): yield

def race(n, around={}, **fs):
    """Median seconds of each function, taken in alternation after one run of each. `around`: name -> context that its turn is taken
    in; each turn then begins with runs that do not count (one, three where memory is kept and has to settle), and there is none before all"""
    times = {k: [] for k in fs}
    for i in range(1 if around else 0, n + 1):
        for name, f in fs.items():
            with path(name), around.get(name, nullcontext)():
                for _ in range(0 if not around else 3 if around[name] is pixels.kept_memory else 1): f()
                t = time.perf_counter()
                f()
                if i: times[name].append(time.perf_counter() - t)
    return {k: statistics.median(v) for k, v in times.items()}

def report(what, case, times, **kwargs):
    say(what=what, case=case, **{f'{k}_s': v for k, v in times.items()}, ratio=times['dense']/times['ours'], **kwargs)
    return times['dense']/times['ours']

def summary(what, ratios, **kwargs):
    say(what=f'{what}: all', cases=len(ratios), median_ratio=statistics.median(ratios), worst_ratio=min(ratios), best_ratio=max(ratios), **kwargs)

def machine(a):
    model = next((l.split(':')[1].strip() for l in open('/proc/cpuinfo') if 'model name' in l), platform.processor()) if os.path.exists('/proc/cpuinfo') else platform.processor()
    say(machine=model, cores=os.cpu_count(), threads=torch.get_num_threads(), torch=torch.__version__, python=platform.python_version(), args=vars(a))

def conv_rate(ngf=64, size=256):
    "GFLOP/s of the generator's largest plain convolutions, channels-last: the rate that bounds every path"
    layer = torch.nn.Conv2d(2*ngf, ngf, 3, padding=1).to(memory_format=torch.channels_last).requires_grad_(False)
    x = torch.randn(1, 2*ngf, size, size).contiguous(memory_format=torch.channels_last)
    times = []
    for _ in range(6):
        t = time.perf_counter()
        layer(x)
        times.append(time.perf_counter() - t)
    return 2*9*2*ngf*ngf*size**2/statistics.median(times[1:])/1e9

# -- cases ---------------------------------------------------------------------------------------------------------

def generator(a, n_classes=183):
    torch.manual_seed(0)
    return SPADEGenerator(n_classes, a.ngf, edges=True)

def anew(fast, seg, edges):
    "Paint as if the map had not been seen before"
    fast.memory.forget()
    return fast(seg, edges)

@torch.no_grad()
def forward(a):
    gen = generator(a).eval()
    fast, ratios, kept = gen.for_inference(), [], []
    say(what='convolution', gflops=conv_rate(a.ngf, a.size))
    for name, seg, edges in list(batches(all_maps((a.size,)*2), a.batch))[::a.every]:
        times = race(a.repeat, dense=lambda: gen(seg, edges), ours=lambda: anew(fast, seg, edges), same_map=lambda: fast(seg, edges))
        ratios.append(report('forward', name, times, ratio_same_map=times['dense']/times['same_map']))
        kept.append(times['dense']/times['same_map'])
    summary('forward', ratios, batch=a.batch)
    summary('forward, map as before', kept, batch=a.batch)

def trainer(a, n_classes=183):
    "A function that takes one step on (segmap, edges, photo), generator and critic, as `SynthesisLearner` does"
    torch.manual_seed(0)
    gan = SynthesisGAN(SPADEGenerator(n_classes, a.ngf, edges=True), MultiScaleCritic(n_classes, a.ngf, edges=True), hinge,
        dict(feat=lambda t: 10*feature_matching(t.fake_feats, t.real_feats)))
    gan.to(getattr(a, 'device', 'cpu'))
    opt = GANAdam([list(gan.generator.parameters()), list(gan.critic.parameters())])
    fresh = torch.no_grad()(gan.generator)   # the critic judges a picture by the generator that has just moved
    def step(*xb, photo):
        if hasattr(gan, 'prepare'): xb = gan.prepare(*xb)   # every step has maps of its own
        for turn in ('generator', 'critic'):
            if turn == 'generator': _, losses = gan(*xb, photo=photo, turn=generator_turn)
            else: losses = gan(*xb, photo=photo, fake=fresh(*xb), turn=critic_turn)
            opt.turn = turn
            for g in opt.inner[turn].param_groups: g['fused'] = asked() is not False   # dense: PyTorch's Adam as it comes
            sum(losses.values()).backward(inputs=list(getattr(gan, turn).parameters()))
            opt.step()
            opt.zero_grad()
    return gan, step

def photo_for(seg): return torch.rand(len(seg), 3, *seg.shape[-2:], generator=torch.Generator().manual_seed(0))*2 - 1

def train_step(a):
    _, step = trainer(a)
    ratios, around = [], {k: pixels.kept_memory if a.keep in (k, 'both') else nullcontext for k in ('dense', 'ours')}
    for name, seg, edges in list(batches(all_maps((a.size,)*2), a.batch))[::a.every]:
        f = lambda: step(seg, edges, photo=photo_for(seg))
        ratios.append(report('step', name, race(a.repeat, around, dense=f, ours=f)))
    summary('step', ratios, batch=a.batch)

def growth(a):
    cases = [dict(size=o) for o in a.sizes] + [dict(n_classes=o) for o in (8, 32, 183)] + [dict(batch=o) for o in (1, 2, 4, 8)]
    for case in cases:
        size, n, batch = case.get('size', a.size), case.get('n_classes', 183), case.get('batch', 1)
        gen = generator(a, n).eval()
        fast, maps = gen.for_inference(), all_maps((size, size))
        name, seg, edges = list(batches(maps[len(maps)//2:] + maps, batch))[0]
        with torch.no_grad(): times = race(a.repeat, dense=lambda: gen(seg % n, edges), ours=lambda: anew(fast, seg % n, edges))
        report('growth', name, times, **case)

def noise_maps(size, batch, n_classes=183, share=1.):
    "Ids and edges drawn anew for a share of the pixels; the others are of class 0 and no edge"
    g = torch.Generator().manual_seed(0)
    seg, edges, drawn = torch.randint(0, n_classes, (batch, size, size), generator=g), *(torch.rand(2, batch, size, size, generator=g))
    return seg*(drawn < share), (edges < .3) & (drawn < share)

@torch.no_grad()
def noise(a):
    "Noise of all classes, of two, and a tenth of the pixels noisy: the last two repeat a little, which is hard to judge beforehand"
    gen, slower = generator(a).eval(), []
    fast = gen.for_inference()
    for case, how in {'noise': {}, 'two classes': dict(n_classes=2), 'a tenth noisy': dict(share=.1)}.items():
        seg, edges = noise_maps(a.size, a.batch, **how)
        for name, ours in dict(plain=gen, painter=partial(anew, fast)).items():
            times = race(a.repeat, dense=lambda: gen(seg, edges), ours=lambda: ours(seg, edges))
            if report('noise', f'{case}, {name}', times, batch=a.batch) < 1/1.1: slower.append(f'{case}, {name}')
    say(what='noise: all', never_slower_than_1_1_times_dense=not slower, slower=slower)

def timed(f, n):
    "Median seconds of f after a run that does not count, the seconds of that run, and its result"
    times = []
    for _ in range(n + 1):
        t = time.perf_counter()
        res = f()
        times.append(time.perf_counter() - t)
    return statistics.median(times[1:]), times[0], res

class TooLong(Exception): pass

@contextmanager
def at_most(seconds):
    "Raise `TooLong` after so many seconds, where the system has alarms"
    def ring(*args): raise TooLong(f'longer than {seconds} s')
    if not hasattr(signal, 'SIGALRM'): return (yield)
    was = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try: yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, was)

def compiled(gen, seg, edges):
    "The dense network through inductor"
    if not any(shutil.which(o) for o in (os.environ.get('CXX', 'g++'), 'g++', 'clang++')): raise RuntimeError('no C++ compiler')
    f = torch.compile(gen)
    return lambda: f(seg, edges)

def autocast(f):
    def g():
        with torch.autocast('cpu', dtype=torch.bfloat16): return f()
    return g

@contextmanager
def mkldnn_precision(precision):
    "Let oneDNN's convolutions and products compute in another precision: 'bf16' or 'none' (as PyTorch comes)"
    parts = [o for o in (torch.backends.mkldnn, *(getattr(torch.backends.mkldnn, n, None) for n in ('conv', 'matmul'))) if hasattr(o, 'fp32_precision')]
    if not parts: raise RuntimeError('this PyTorch has no torch.backends.mkldnn.fp32_precision')
    was = [o.fp32_precision for o in parts]
    for o in parts: o.fp32_precision = precision
    try: yield
    finally:
        for o, p in zip(parts, was): o.fp32_precision = p

@torch.no_grad()
def options(a):
    "Each with its time and its error relative to the dense network in float32; what cannot be had says why"
    (name, seg, edges), gen = all_maps((a.size,)*2)[10], layers.fold_spectral(generator(a).eval())
    gen.requires_grad_(False)
    fast = gen.for_inference()
    dense, ours = lambda: gen(seg, edges), lambda: anew(fast, seg, edges)
    cases = {'dense float32': ('dense', lambda: dense), 'ours float32': ('ours', lambda: ours),
        'dense bfloat16 autocast': ('dense', lambda: autocast(dense)), 'ours bfloat16 autocast': ('ours', lambda: autocast(ours)),
        'dense mkldnn bf16': ('dense', lambda: dense), 'ours mkldnn bf16': ('ours', lambda: ours),
        'dense torch.compile': ('dense', lambda: compiled(gen, seg, edges))}
    true = base = None
    for case, (how, make) in cases.items():
        try:
            with path(how), at_most(a.limit), mkldnn_precision('bf16') if 'mkldnn' in case else nullcontext(): time_s, first, out = timed(make(), a.repeat)
        except Exception as e:
            say(what='options', case=case, skipped=f'{type(e).__name__}: {e}'.splitlines()[0][:160])
            continue
        if true is None: true, base = out, time_s
        say(what='options', case=case, map=name, time_s=time_s, first_s=first, ratio=base/time_s,
            error=float(f'{((out.float() - true).norm()/true.norm()).item():.2g}'))

def resident(key): return next(int(l.split()[1])*1024 for l in open('/proc/self/status') if l.startswith(key))

def memory_child(a):
    "Steps in a fresh process: the bytes at their peak beyond those before the first, less the gradients and Adam's state"
    name, seg, edges = next(batches(all_maps((a.size,)*2)[10:], a.batch))
    kept = pixels.kept_memory() if a.child == 'ours' and a.keep != 'neither' else nullcontext()
    with path(a.child), kept:
        trainer(argparse.Namespace(**{**vars(a), 'ngf': 4}))[1](seg, edges, photo=photo_for(seg))   # loads what there is to load
        gan, step = trainer(a)
        pixels.workspace.memory = None                  # what a step works in counts, though it is kept
        before = resident('VmRSS')
        Path('/proc/self/clear_refs').write_text('5')   # the peak starts anew
        for _ in range(3): step(seg, edges, photo=photo_for(seg))
    sizes = [sum(p.numel()*4 for p in o.parameters()) for o in (gan.generator, gan.critic)]
    print(resident('VmHWM') - before - max(sizes) - 2*sum(sizes))

def memory(a):
    if not Path('/proc/self/clear_refs').exists(): raise SystemExit('bench: --what memory reads /proc, which only Linux has')
    peak = {}
    for name in ('dense', 'ours'):
        args = [sys.executable, __file__, '--what', 'memory', '--child', name, '--batch', a.batch, '--size', a.size, '--ngf', a.ngf, '--keep', a.keep]
        peak[name] = int(subprocess.run([*map(str, args)], check=True, capture_output=True, text=True).stdout.split()[-1])
    say(what='memory', batch=a.batch, dense_mb=peak['dense']/2**20, ours_mb=peak['ours']/2**20, ratio=peak['ours']/peak['dense'])

def parts(a):
    from torch.profiler import ProfilerActivity, profile
    name, seg, edges = all_maps((a.size,)*2)[10]
    fast, (_, step) = generator(a).eval().for_inference(), trainer(a)
    cases = dict(forward=torch.no_grad()(lambda: anew(fast, seg, edges)), step=lambda: step(seg, edges, photo=photo_for(seg)))
    for case, f in cases.items():
        f()
        with profile(activities=[ProfilerActivity.CPU]) as p: f()
        rows = sorted(p.key_averages(), key=lambda o: -o.self_cpu_time_total)
        total = sum(o.self_cpu_time_total for o in rows)
        for o in rows[:14]: say(what='parts', case=case, op=o.key, share=o.self_cpu_time_total/total, ms=o.self_cpu_time_total/1000, calls=o.count)

def sean(a):
    from sean import sean
    sean(a, say, race, summary)

def main():
    whats = dict(forward=forward, step=train_step, memory=memory, growth=growth, noise=noise, options=options, sean=sean, parts=parts)
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--what', choices=whats, default='forward')
    p.add_argument('--batch', type=int, default=1)
    p.add_argument('--size', type=int, default=256)
    p.add_argument('--ngf', type=int, default=64)
    p.add_argument('--repeat', type=int, default=3, help='timings of each, after one that does not count')
    p.add_argument('--every', type=int, default=1, help='take every n-th map only')
    p.add_argument('--keep', choices=('ours', 'both', 'neither'), default='ours', help='whose steps have kept memory')
    p.add_argument('--sizes', type=int, nargs='+', default=[64, 128, 256, 512, 1024], help='resolutions of --what growth')
    p.add_argument('--limit', type=int, default=240, help='seconds that --what options gives each of its cases')
    p.add_argument('--child', choices=('dense', 'ours'), help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.child: return memory_child(a)
    machine(a)
    whats[a.what](a)

if __name__ == '__main__': main()

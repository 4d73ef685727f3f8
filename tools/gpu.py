#!/usr/bin/env python
"""Use a machine with a GPU once, for so many minutes: facts, tests for CUDA, the lessons' GPU cells, times, a model.

    python tools/gpu.py --minutes 9 --out "$OUT"          a CUDA machine with torch and what tools/gpu_pack.sh packs
    python tools/gpu.py --device cpu --minutes 3 --out X  the same on the CPU, with small sizes: a rehearsal
    python tools/gpu.py --minutes 9 --out X --data .gpu/data/camvid --size 128 --no-styles
    python tools/gpu.py --minutes 9 --out X --parts train --resume    goes on with the training in --work
    python tools/gpu.py --table X/log.jsonl               prints the tables of docs/gpu.md from what was measured

Each part is a process of its own that is ended when its time is up, so that an error, an endless compilation or a lost
card costs that part only. All that is learnt is on the disk at once, or every minute, in at most eight files:
`log.jsonl` (a line of JSON for each fact, test run, cell, time and minute of training), `tests.txt`, `history.csv`,
`samples.png`, and `model/`, at most 16 MiB a file. The checkpoints of the training are larger; they lie in --work.
"""
import argparse, ast, builtins, ctypes, json, os, platform, signal, statistics, subprocess, sys, time
from contextlib import contextmanager, nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# share of the whole time at most; the training gets what is left
PARTS = dict(cuda=dict(facts=.05, tests=.2, cells=.15, measure=.3, train=1.),
    # a CPU is slow, and what it measures is no use
    cpu=dict(facts=.05, tests=.2, cells=.2, measure=.15, train=1.))
NAMES = list(PARTS['cpu'])
MOST = 16*2**20                                                      # bytes of a file of weights
# seed of the first scene of the training; tests look at those below
FIRST = 1000
SIZES = dict(   # what each device can do in such a time
    cuda=dict(measure_size=256, measure_ngf=64, batches=[1, 8, 32], scenes=4000, size=128, bs=16, ngf=16, nhidden=64,
        cell_scenes=64),
    cpu=dict(measure_size=64, measure_ngf=8, batches=[1, 2], scenes=64, size=64, bs=4, ngf=4, nhidden=16,
        cell_scenes=8))

# -- writing -------------------------------------------------------------------------------------------------------

def say(a, **what):
    "A line of JSON on the disk, and on the terminal"
    line = json.dumps({k: float(f'{v:.5g}') if isinstance(v, float) else v for k, v in what.items()})
    with open(a.out/'log.jsonl', 'a') as f:
        f.write(line + '\n')
        f.flush()
        os.fsync(f.fileno())
    print(line[:300], flush=True)

def first_line(e): return f'{type(e).__name__}: {e}'.splitlines()[0][:200]

class TooLong(Exception): pass

@contextmanager
def at_most(seconds):
    "Raise `TooLong` after so many seconds"
    def ring(*args): raise TooLong(f'longer than {seconds:.0f} s')
    was = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(.01, seconds))
    try: yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, was)

# -- the parts, as processes ---------------------------------------------------------------------------------------

def die_with_parent():
    "A part does not outlive the tool (Linux)"
    try: ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    except (OSError, AttributeError): pass

def run(a, command, seconds, to=None, env={}):
    "Run a command for at most so many seconds; its exit code, or 'out of time'"
    with open(to, 'wb') if to else nullcontext() as f:
        p = subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=f, stderr=subprocess.STDOUT if f else None,
            env={**os.environ, 'PYTHONUNBUFFERED': '1', 'MPLBACKEND': 'agg', **env}, start_new_session=True,
            preexec_fn=die_with_parent)
        try: return p.wait(max(1, seconds))
        except subprocess.TimeoutExpired: return 'out of time'
        finally: end(p)

def end(p):
    "End a process and what it started"
    try: os.killpg(p.pid, signal.SIGKILL)
    except ProcessLookupError: pass
    p.wait()

def part(a, name, seconds, *more):
    "Run one part of this file as a process"
    options = ['--device', a.device, '--out', a.out, '--work', a.work, '--settings', json.dumps(a.settings)]
    return run(a, [sys.executable, __file__, '--child', name, '--until', time.time() + seconds, *options, *more],
        seconds)

def left(a): return a.until - time.time()

def facts_part(a, seconds): return part(a, 'facts', max(60, seconds))

def tests_part(a, seconds):
    "The tests for CUDA; without a GPU, on the CPU"
    file, env = a.out/'tests.txt', {'GAUGAN_TEST_DEVICE': a.device}
    how = ['-o', 'addopts=', '-p', 'no:cacheprovider', '-v', '--tb=short', '--no-header', '-W', 'ignore']
    code = run(a, [sys.executable, '-m', 'pytest', *how, ROOT/'tests/test_cuda.py'], seconds, file, env)
    text = file.read_text(errors='replace')
    say(a, what='tests',
        **{k: text.count(f' {k.upper()} ') for k in ('passed', 'failed', 'error', 'skipped', 'xfail')},
        end=text.strip().splitlines()[-1:])
    return code

def cells_part(a, seconds):
    "The code of the lessons' GPU cells, in one process; one that dies costs its own cell only"
    until, cells, codes = time.monotonic() + seconds, [f'{fn.name}:{n}' for fn, n in gpu_cells()], []
    while cells and (seconds := until - time.monotonic()) > 5:
        codes.append(part(a, 'cells', seconds, '--cells', *cells))
        told = {f'{o["lesson"]}:{o["cell"]}' for o in rows(a.out/'log.jsonl') if o['what'] == 'cell'}
        before, cells = cells, [o for o in cells if o not in told]
        if codes[-1] in (0, 'out of time') and cells == before: break
        if cells and codes[-1] not in (0, 'out of time'):
            say_cell(a, cells.pop(0), outcome=f'its process ended: {codes[-1]}')
    for o in cells: say_cell(a, o, outcome='no time left')
    return next((o for o in codes if o), 0)

def measure_part(a, seconds): return part(a, 'measure', seconds)
def train_part(a, seconds): return part(a, 'train', seconds)

# -- facts ---------------------------------------------------------------------------------------------------------

def processor():
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.exists() else []
    found = [o.split(':')[1].strip() for o in lines if 'model name' in o]
    return found[0] if found else platform.processor()

def driver():
    "What nvidia-smi says of driver and memory"
    try:
        return subprocess.run(['nvidia-smi', '--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'],
            capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired): return None

def facts(a):
    import torch
    from importlib.metadata import PackageNotFoundError, version
    def known(o):
        try: return version(o)
        except PackageNotFoundError: return None
    packages = {o: known(o) for o in ('fastai', 'fastcore', 'torchvision', 'torchmetrics', 'safetensors', 'numpy',
        'triton')}
    say(a, what='machine', device=a.device, processor=processor(), cores=os.cpu_count(),
        threads=torch.get_num_threads(), python=platform.python_version(),
        torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version(), driver=driver(),
        settings=a.settings, **packages)
    if a.device != 'cuda': return
    if not torch.cuda.is_available():
        raise SystemExit('gpu: this machine has no CUDA device that torch can use: --device cpu rehearses on the CPU')
    o = torch.cuda.get_device_properties(0)
    import fastai.torch_core   # it sets cudnn.benchmark where there is a GPU
    say(a, what='card', card=o.name, capability=f'{o.major}.{o.minor}', gib=o.total_memory/2**30,
        processors=o.multi_processor_count,
        tf32_matmul=torch.backends.cuda.matmul.allow_tf32, tf32_conv=torch.backends.cudnn.allow_tf32,
        cudnn_benchmark=torch.backends.cudnn.benchmark)

# -- the lessons' GPU cells ----------------------------------------------------------------------------------------

def code_cells(fn):
    cells = json.loads(fn.read_text(encoding='utf-8'))['cells']
    return [''.join(o['source']) if o['cell_type'] == 'code' else '' for o in cells]

def gpu_cells():
    lessons = sorted((ROOT/'nbs').glob('[!_.]*.ipynb'))
    return [(fn, i) for fn in lessons for i, o in enumerate(code_cells(fn)) if '#| gpu' in o.splitlines()]

def parsed(source):
    try: return ast.parse(source).body
    except SyntaxError: return []   # a cell of %magic

def names_in(o, how): return {n.id for n in ast.walk(o) if isinstance(n, ast.Name) and isinstance(n.ctx, how)}

def bound(source):
    "The names that a cell defines"
    names = set()
    for o in parsed(source):
        if isinstance(o, (ast.FunctionDef, ast.ClassDef)): names.add(o.name)
        elif isinstance(o, (ast.Import, ast.ImportFrom)): names |= {(n.asname or n.name).split('.')[0] for n in o.names}
        else: names |= {n.id for n in ast.walk(o) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return names

def inner(o):
    "The names that belong to a statement alone: arguments, and what functions and comprehensions bind"
    own = {n.arg for n in ast.walk(o) if isinstance(n, ast.arg)}
    parts = [n.target for n in ast.walk(o) if isinstance(n, ast.comprehension)]
    if isinstance(o, (ast.FunctionDef, ast.ClassDef)): parts.append(o)
    return own | {n for part in parts for n in names_in(part, ast.Store)}

def wanted(source):
    "The names that a cell reads before it defines them"
    have, want = set(dir(builtins)), set()
    for o in parsed(source):
        want |= {n.id for n in ast.walk(o) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)} - have - inner(o)
        have |= bound(ast.unparse(o))
    return want

def only_imports(source):
    return bool(parsed(source)) and all(isinstance(o, (ast.Import, ast.ImportFrom)) for o in parsed(source))

def needed(cells, i):
    "The places of the cells that cell `i` needs and its own: imports, and what defines the names that it reads"
    want, places = wanted(cells[i]), [i]
    for j in reversed(range(i)):
        if '#| export' in cells[j]: want -= bound(cells[j])
        elif only_imports(cells[j]): places.append(j)
        elif bound(cells[j]) & want:
            want = want - bound(cells[j]) | wanted(cells[j])
            places.append(j)
    return places[::-1]

def lesson_module(cells):
    return next((o.split('default_exp')[1].split()[0] for o in cells if o.startswith('#| default_exp')), None)

def run_cell(source, names):
    "Run a cell; what only notebooks have may be missing"
    for o in parsed(source):
        code = compile(ast.Module([o], []), '<cell>', 'exec')
        try: exec(code, names)
        except ModuleNotFoundError as e:
            if not isinstance(o, (ast.Import, ast.ImportFrom)) or (e.name or '').startswith('gaugan_fastai'): raise

@contextmanager
def small(a, seconds):
    "Fits end after some seconds, few scenes are drawn; on a CPU they are small and so are the networks"
    from gaugan_fastai.budget import TimeBudget
    from gaugan_fastai.data.paired import PairedDataLoaders
    from gaugan_fastai.learner import SynthesisLearner
    from gaugan_fastai.models import pix2pix, sean, spade
    draw, fit, slow = PairedDataLoaders.from_landscapes, SynthesisLearner.fit, a.device == 'cpu'
    few = dict(n=a.settings['cell_scenes'], n_valid=4, **(dict(size=64) if slow else {}))
    bs = lambda kwargs: min(few['n'], kwargs.get('bs', 8))
    PairedDataLoaders.from_landscapes = lambda **kwargs: draw(**{**kwargs, **few, 'bs': bs(kwargs)})
    def short(self, *args, cbs=None, **kwargs):
        with self.no_bar(), self.no_logging(): fit(self, *args, cbs=[*(cbs or []), TimeBudget(seconds/60)], **kwargs)
    SynthesisLearner.fit = short
    if slow:
        spade.presets['paper'], sean.sean_presets['paper'] = spade.presets['cpu'], sean.sean_presets['cpu']
        pix2pix.pix2pix_learner.__defaults__ = (8, *pix2pix.pix2pix_learner.__defaults__[1:])   # ngf
    try: yield
    finally: PairedDataLoaders.from_landscapes, SynthesisLearner.fit = draw, fit

def say_cell(a, where, **what):
    lesson, _, n = where.rpartition(':')
    say(a, what='cell', lesson=lesson, cell=int(n), **what)

def cells(a):
    "Run GPU cells one after the other, each in its share of the time"
    # now: an import that the clock ends cannot be repeated
    import gaugan_fastai.models.pix2pix, gaugan_fastai.models.sean
    os.chdir(ROOT/'nbs')
    for i, where in enumerate(a.cells):
        start, share = time.monotonic(), (left(a) - 2)/(len(a.cells) - i)
        if share < 3: raise SystemExit(0)
        try:
            with at_most(share), small(a, max(1., .3*share)): told = cell(where)
            say_cell(a, where, outcome='ran', seconds=time.monotonic() - start, scenes=a.settings['cell_scenes'],
                **told)
        except TooLong as e:
            # it may have stood in an import, which cannot be repeated: the others in a process of their own
            say_cell(a, where, outcome='no error until its time was up', seconds=time.monotonic() - start)
            raise SystemExit(0) from e
        except Exception as e:
            say_cell(a, where, outcome='failed', error=first_line(e), seconds=time.monotonic() - start)

def cell(where):
    "Run one GPU cell with the cells that it needs; what is known of its learner"
    name, _, n = where.rpartition(':')
    sources, names = code_cells(ROOT/'nbs'/name), {}
    if module := lesson_module(sources): exec(f'from gaugan_fastai.{module} import *', names)
    for i in needed(sources, int(n)): run_cell(sources[i], names)
    learn = names['learn']
    return dict(epochs=len(learn.history), steps=getattr(getattr(learn, 'model_average', None), 't', None),
        on=str(next(learn.model.parameters()).device))

# -- times ---------------------------------------------------------------------------------------------------------

def timed(a, f, least=3, most=20, seconds=1.5):
    "Median, shortest and first time of f, the device waited for before and after; and the peak of its memory"
    import torch
    wait = torch.cuda.synchronize if a.device == 'cuda' else lambda: None
    times, start = [], time.monotonic()
    while len(times) < least + 2 or len(times) < most and time.monotonic() - start < seconds:
        if len(times) == 1 and a.device == 'cuda': torch.cuda.reset_peak_memory_stats()
        wait()
        t = time.perf_counter()
        f()
        wait()
        times.append(time.perf_counter() - t)
    peak = torch.cuda.max_memory_allocated()/2**20 if a.device == 'cuda' else None
    later = times[2:]   # the first compiles and chooses algorithms, the second settles
    return dict(median_s=statistics.median(later), shortest_s=min(later), first_s=times[0], runs=len(later),
        peak_mib=peak)

def cases():
    "(what, name, ours or dense, options), the telling ones first"
    plain = [('forward', 'ours', ()), ('forward', 'dense', ()), ('step', 'ours', ()), ('step', 'dense', ())]
    yield from plain
    yield from ((w, h, ('bf16',)) for w, h, _ in plain)
    yield ('forward', 'painter', ())
    yield ('forward', 'dense', ('compile',))
    yield ('step', 'dense', ('compile',))
    yield from ((w, h, ('channels_last',)) for w, h, _ in plain)
    yield from ((w, h, ('channels_last', 'bf16')) for w, h, _ in plain)
    yield ('forward', 'dense', ('compile', 'bf16'))
    yield ('forward', 'dense', ('compile', 'channels_last', 'bf16'))
    yield ('step', 'dense', ('compile', 'bf16'))

def inputs(a, bench, batch):
    _, seg, edges = next(bench.batches(a.maps, batch))
    return seg.to(a.device), edges.to(a.device), bench.photo_for(seg).to(a.device)

def prepared(a, bench, what, how, options, batch):
    "A function to be timed; for a forward it gives the picture"
    import torch
    args = argparse.Namespace(ngf=a.settings['measure_ngf'], device=a.device)
    seg, edges, photo = inputs(a, bench, batch)
    cast = torch.autocast(a.device, torch.bfloat16) if 'bf16' in options else nullcontext()
    if what == 'step': gan, step = bench.trainer(args)
    else: gan = bench.generator(args).eval().to(a.device)
    if 'channels_last' in options: gan.to(memory_format=torch.channels_last)
    if 'compile' in options and what == 'forward': gan = torch.compile(gan)
    elif 'compile' in options: gan.generator.compile(), gan.critic.compile()
    paint = gan.for_inference() if how == 'painter' else gan
    def forward():
        with torch.no_grad(), cast: return paint(seg, edges)
    def one_step():
        with cast: step(seg, edges, photo=photo)
    return forward if what == 'forward' else one_step

def measure_one(a, bench, what, how, options, batch, truth, seconds):
    "Time one case; say what it took, or why not"
    import torch
    about = dict(what=what, how=how, options=list(options), batch=batch, size=a.settings['measure_size'],
        ngf=a.settings['measure_ngf'])
    try:
        with at_most(seconds), bench.path('dense' if how == 'dense' else 'ours'):
            f = prepared(a, bench, what, how, options, batch)
            times = timed(a, f)
            if what == 'forward':
                picture = f().float().cpu()
                if not options: truth.setdefault(batch, picture)
                if batch in truth:
                    times['error'] = float(f'{((picture - truth[batch]).norm()/truth[batch].norm()).item():.2g}')
        say(a, **about, **times)
    except torch.cuda.OutOfMemoryError: say(a, **about, skipped='out of memory')
    except Exception as e: say(a, **about, skipped=first_line(e))
    finally:
        if 'compile' in options: torch._dynamo.reset()
        if a.device == 'cuda': torch.cuda.empty_cache()

def measure(a):
    "All cases at all batch sizes, until the time is up"
    sys.path.insert(0, str(ROOT/'benchmarks'))
    import bench, torch
    truth, s = {}, a.settings
    a.maps = list(bench.drawn_maps((s['measure_size'],)*2, max(s['batches'])))
    for what, how, options in cases():
        # compiling takes long: the middle size only
        for batch in s['batches'][1:2] if 'compile' in options else s['batches']:
            if left(a) < 5:
                return say(a, what='measure',
                    skipped=f'no time left for {" ".join((what, how, *options))} at batch {batch} and what follows')
            most = 60 if 'compile' in options else 30
            measure_one(a, bench, what, how, options, batch, truth, min(left(a) - 3, most))

# -- training ------------------------------------------------------------------------------------------------------

def scene(job):
    from gaugan_fastai.data.landscapes import draw_landscape
    return tuple(draw_landscape(*job)[:2])

def loaders(a):
    "Drawn landscapes, drawn by all cores, or the pairs of a folder"
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    from gaugan_fastai.data.landscapes import landscape_labels
    from gaugan_fastai.data.paired import Pair, PairedDataLoaders
    s = a.settings
    how = dict(size=s['size'], bs=s['bs'], device=a.device, seed=0)
    if a.device == 'cuda': how |= dict(num_workers=min(8, os.cpu_count()), pin_memory=True)
    if s['data']: return PairedDataLoaders.from_folder(s['data'], **how)
    n_valid, size = 16, (s['size'],)*2
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context('fork')) as pool:
        scenes = list(pool.map(scene, [(FIRST + i, size) for i in range(s['scenes'] + n_valid)], chunksize=16))
    return PairedDataLoaders.from_pairs([Pair(*o) for o in scenes[n_valid:]], [Pair(*o) for o in scenes[:n_valid]],
        landscape_labels(), **how)

def refuse_large(gan):
    "No file of weights may be larger than what comes back from a lent machine"
    for name in ('generator', 'encoder'):
        net = getattr(gan, name, None)
        n = 2*sum(o.numel() for o in net.state_dict().values()) + 2**16 if net is not None else 0
        if n > MOST:
            raise SystemExit(f'gpu: the {name} would take {n/2**20:.1f} MiB in 16 bits, and a file may take '
                f'{MOST/2**20:.0f}: lower --ngf or --nhidden')

def leaver(a, spent):
    "A callback that leaves weights, history and samples under --out every minute and at the end"
    from fastai.vision.all import Callback
    from PIL import Image
    from gaugan_fastai.callbacks import write_history
    from gaugan_fastai.pretrained import save_pretrained
    from gaugan_fastai.safe import write_whole
    class Leave(Callback):
        order, run_valid = 90, False   # after the run's own
        def before_fit(self): self.start, self.last = time.monotonic(), None
        def after_batch(self):
            # at once: then it is known to work
            if self.last is None or time.monotonic() - self.last >= 60: self.leave()
        def after_fit(self): self.leave()
        def leave(self):
            learn, gan, s = self.learn, self.learn.model, a.settings
            minutes, steps = (time.monotonic() - self.start)/60, learn.model_average.t
            words = (f'{len(learn.dls.train_ds)} pairs at {s["size"]}x{s["size"]}, {steps} steps of {s["bs"]} on '
                f'{a.device}, made by tools/gpu.py')
            card = dict(licence='that of the photos' if s['data'] else 'Apache-2.0', training=words,
                size=list(learn.dls.size))
            with learn.painting() as gen:
                encoder = getattr(gen, 'encoder', None) or getattr(gan, 'encoder', None)
                save_pretrained(gen, a.out/'model', learn.dls.labels, encoder=encoder, half=True, **card)
            with write_whole(a.out/'samples.png') as part: Image.fromarray(learn.sample_grid.draw()).save(part, 'PNG')
            if learn.history:
                with write_whole(a.out/'history.csv') as part: write_history(learn.history, part)
            rate = (steps - spent)/max(1e-9, 60*minutes)
            losses = learn.loss_means.means('train')
            say(a, what='training', minutes=minutes, steps=steps, steps_a_second=rate, losses=losses, **memory(a))
            self.last = time.monotonic()
    return Leave()

def memory(a):
    import torch
    return dict(peak_mib=torch.cuda.max_memory_allocated()/2**20) if a.device == 'cuda' else {}

def train(a):
    "Train with `Run` until the time is up"
    start = time.monotonic()
    import torch
    from fastai.vision.all import set_seed
    from gaugan_fastai.core import InputError
    from gaugan_fastai.runs import Run
    s = a.settings
    dls, resume = loaders(a), s['resume'] and (a.work/'run'/'last.pth').is_file()
    say(a, what='data', pairs=len(dls.train_ds), seconds=time.monotonic() - start, resumed=resume)
    set_seed(s['seed'])
    styles = dict(z_dim=64, kl=.02, kl_mean=True, kl_warmup=.2) if s['styles'] else {}
    try:
        run_ = Run(dls, a.work/'run', resume, save_minutes=1, preset='cpu', ngf=s['ngf'], nhidden=s['nhidden'], l1=2.,
            **styles, **(dict(pretrained=s['start']) if s['start'] else {}))
    except InputError as e: raise SystemExit(f'gpu: {e}') from e
    refuse_large(run_.learn.model)
    if s['bf16']: run_.learn.autocast_dtype = torch.bfloat16
    run_.learn.add_cb(leaver(a, run_.learn.model_average.t))
    minutes = max(.1, (left(a) - (8 + .1*left(a)))/60)   # an epoch's end and the last files take some
    if resume: minutes += run_.done['minutes']
    run_.fit(minutes=minutes, lr=s['lr'])

# -- tables --------------------------------------------------------------------------------------------------------

def rows(file):
    "The lines of a log; a last one that was cut off is left out"
    for o in Path(file).read_text().splitlines():
        try: yield json.loads(o)
        except ValueError: pass

def table(file):
    "Markdown tables of the times: milliseconds, and times dense in float32"
    log = list(rows(file))
    lines = [f'{o["card"]}, compute {o["capability"]}, {o["gib"]:.0f} GiB' for o in log if o['what'] == 'card']
    for what in ('forward', 'step'):
        found = [o for o in log if o['what'] == what]
        base = {o['batch']: o.get('median_s') for o in found if o['how'] == 'dense' and not o['options']}
        batches = sorted({o['batch'] for o in found})
        lines += ['', f'| {what}, ms (times dense) | ' + ' | '.join(f'batch {b}' for b in batches) + ' |',
            '|---'*(len(batches) + 1) + '|']
        for name in dict.fromkeys((o['how'], tuple(o['options'])) for o in found):
            of = {o['batch']: o for o in found if (o['how'], tuple(o['options'])) == name}
            cells = [" ".join([name[0], *name[1]]), *(entry(of.get(b), base.get(b)) for b in batches)]
            lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)

def entry(o, base):
    if o is None: return ''
    if 'skipped' in o: return o['skipped'][:40]
    gib = f', {o["peak_mib"]/1024:.1f} GiB' if o.get('peak_mib') else ''
    return f'{1000*o["median_s"]:.1f}' + (f' ({base/o["median_s"]:.2f}{gib})' if base else gib)

# -- the command ---------------------------------------------------------------------------------------------------

def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--minutes', type=float, default=9, help='for everything; it ends a few seconds earlier or later')
    p.add_argument('--out', type=Path, help='folder for what is learnt: eight files at most')
    p.add_argument('--work', type=Path,
        help='folder for the checkpoints of the training (default: OUT_work beside --out)')
    p.add_argument('--device', choices=SIZES, help='default: cuda where there is an NVIDIA driver, else cpu')
    p.add_argument('--parts', default=','.join(NAMES), help='some of %(default)s')
    p.add_argument('--data', help='folder of pairs to train on (see gaugan doctor) in place of drawn landscapes')
    p.add_argument('--start', help='folder of a saved model to start from')
    p.add_argument('--no-styles', dest='styles', action='store_false',
        help='a generator that starts from the map instead of a style')
    p.add_argument('--bf16', action='store_true', help='train in bfloat16 where autocast says so')
    p.add_argument('--lr', type=float, default=1e-3)
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--resume', action='store_true', help='go on with the training in --work, if there is one')
    p.add_argument('--table', type=Path, help='print the tables of a log, run nothing')
    for k, v in SIZES['cuda'].items():
        many = dict(nargs='+') if isinstance(v, list) else {}
        p.add_argument(f'--{k.replace("_", "-")}', type=int, **many, help=f'default: {v}, on a CPU {SIZES["cpu"][k]}')
    for o in ('--child', '--settings'): p.add_argument(o, help=argparse.SUPPRESS)
    p.add_argument('--until', type=float, help=argparse.SUPPRESS)
    p.add_argument('--cells', nargs='+', help=argparse.SUPPRESS)
    return p

def settle(a, p):
    "Fill in what was not said; refuse what cannot be"
    if a.out is None: p.error('--out is needed: the folder for what is learnt')
    names = a.parts.split(',')
    if unknown := [o for o in names if o not in NAMES]:
        p.error(f'--parts has {", ".join(unknown)}, but the parts are {", ".join(NAMES)}')
    a.device = a.device or ('cuda' if os.path.exists('/dev/nvidiactl') or driver() else 'cpu')
    a.out, a.work = a.out.resolve(), (a.work or a.out.with_name(a.out.name + '_work')).resolve()
    for o in (a.out, a.work): o.mkdir(parents=True, exist_ok=True)
    if (a.work/'run'/'run.json').exists() and 'train' in names and not a.resume:
        p.error(f'{a.work} holds a training: go on with --resume, or choose another --work')
    a.settings = {k: v if getattr(a, k) is None else getattr(a, k) for k, v in SIZES[a.device].items()}
    a.settings |= {k: getattr(a, k) for k in ('data', 'start', 'styles', 'bf16', 'lr', 'seed', 'resume')}
    return names

def main(argv=None):
    p = options()
    a = p.parse_args(argv)
    if a.table: return print(table(a.table))
    if a.child:
        a.settings = json.loads(a.settings)
        return dict(facts=facts, cells=cells, measure=measure, train=train)[a.child](a)
    names, start, codes = settle(a, p), time.monotonic(), {}
    os.environ['PYTHONPATH'] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get('PYTHONPATH')]))
    whole = 60*a.minutes
    for name in names:
        remains = whole - (time.monotonic() - start)
        begin, seconds = time.monotonic(), min(remains, PARTS[a.device][name]*whole)
        if remains < 5: say(a, what='part', part=name, outcome='no time left')
        else:
            codes[name] = globals()[f'{name}_part'](a, seconds)
            say(a, what='part', part=name, outcome='done' if codes[name] == 0 else codes[name],
                seconds=time.monotonic() - begin)
        if name == 'facts' and codes.get(name): break
    print(table(a.out/'log.jsonl'))
    sizes = {str(o.relative_to(a.out)): o.stat().st_size for o in sorted(a.out.rglob('*')) if o.is_file()}
    files = ', '.join(f'{k} {v/2**20:.2f} MiB' for k, v in sizes.items())
    print(f'{time.monotonic() - start:.0f} s; under {a.out}: {files}')
    return int(any(o not in (0, 'out of time') for o in codes.values()))

if __name__ == '__main__': sys.exit(main())

#!/usr/bin/env python
"""Measure the painter's server: prints JSON lines.

    python benchmarks/app.py latency                 where the time of a stroke goes, at 128 and 256 pixels
    python benchmarks/app.py load --n 40             p50 and p95 with 1 and 8 clients; nothing lost, nothing out of order
    python benchmarks/app.py memory --n 1000 --chart docs/app/memory.png    resident memory over many requests
    python benchmarks/app.py hostile --n 500         files that nobody should have to read, at each place that reads files
"""
import argparse, json, os, statistics, subprocess, sys, threading, time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
import httpx, numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT/'tests')]
OURS = {'X-Painter': '1'}

def say(**facts): print(json.dumps(facts), flush=True)
def percentile(values, q): return round(1000*float(np.percentile(values, q)), 1)

def strokes(n, size, classes=19, seed=0):
    "`n` maps `[H,W]`: each is the one before with one more stroke"
    rng, ids = np.random.default_rng(seed), np.zeros(size, np.uint8)
    ids[size[0]//2:] = min(14, classes - 1)
    for _ in range(n):
        y, x = (int(rng.integers(o)) for o in size)
        ids = ids.copy()
        ids[y:y + size[0]//12, x:x + size[1]//6] = rng.integers(classes)
        yield ids

# -- where the time goes -------------------------------------------------------------------------------------------

def timed(what, times, f, *args):
    "Do something and note how long it took, by the clock and of the processor (which others do not lengthen much)"
    start, cpu = time.perf_counter(), time.process_time()
    res = f(*args)
    times.setdefault(what, []).append((time.perf_counter() - start, time.process_time() - cpu))
    return res

def latency(model, n=30):
    "Stages of a stroke, in the server's process"
    import torch
    from gaugan_fastai.app import Desk
    from gaugan_fastai.drawer import style_of
    from gaugan_fastai.uploads import ids_of, marked, png_of
    desk, times = Desk([model], shipped=False), {}
    entry = desk.shelf[model]
    entry.load()
    for i, ids in enumerate(strokes(n + 2, entry.size)):
        here = {} if i < 2 else times   # the first two warm up
        data = timed('write ids', here, png_of, ids)
        found = timed('read ids', here, ids_of, data, 19)
        segmap = torch.from_numpy(found.astype(np.int64))[None]
        style = timed('style', here, style_of, entry, desk.drawer, 3)
        picture = timed('paint', here, entry.painter.paint_in, style, segmap, entry.size)
        timed('same map again', here, entry.painter.paint_in, style, segmap, entry.size)
        timed('write picture', here, marked, picture, model, 3)
    desk.close()
    clock, cpu = ({k: percentile([o[i] for o in v], 50) for k, v in times.items()} for i in (0, 1))
    say(what='latency', model=model, size=entry.size, n=n, threads=torch.get_num_threads(), p50_ms=clock, p50_cpu_ms=cpu)

# -- a server in a process of its own ------------------------------------------------------------------------------

_serve = """import sys
from gaugan_fastai.app import painter_app
from gaugan_fastai.easel import Pace
from gaugan_fastai.serving import Served
server = Served(painter_app([sys.argv[1]], shipped=False, pace=Pace(1e6, 10**6)))
print(server.url, flush=True)
try: server.work()
except KeyboardInterrupt: pass"""

@contextmanager
def server(model):
    "(its process, a client, what `/api/models` says), with the model loaded"
    process = subprocess.Popen([sys.executable, '-c', _serve, model], stdout=subprocess.PIPE, text=True,
        env=os.environ | dict(PYTHONPATH=str(ROOT)))
    with httpx.Client(base_url=process.stdout.readline().strip(), headers=OURS, timeout=120) as client:
        while client.post('/api/load').json()['state'] == 'loading': time.sleep(.1)
        try: yield process, client, client.get('/api/models').json()['models'][0]
        finally:
            process.terminate()
            code = process.wait(30)
            say(what='stop', returncode=code)

def hand(client, name, maps, pause, res):
    "Paint maps one after the other, as one page does"
    from gaugan_fastai.uploads import png_of
    for i, ids in enumerate(maps):
        start = time.perf_counter()
        answer = client.post('/api/paint', params=dict(n=i, seed=1), content=png_of(ids), headers={'X-Painter-Client': name})
        res.append((i, answer.status_code, answer.headers.get('x-painter-n'), time.perf_counter() - start, answer.content))
        time.sleep(pause)

def load(model, clients, n, pause=0.):
    "p50 and p95 with some clients; their pictures are compared with those that one client gets"
    from gaugan_fastai.uploads import png_of
    with server(model) as (_, client, about):
        maps = [list(strokes(n, about['size'], len(about['classes']), seed=i)) for i in range(clients)]
        answers = [[] for _ in range(clients)]
        how = [(client, f'hand {i}', maps[i], pause, answers[i]) for i in range(clients)]
        threads = [threading.Thread(target=hand, args=o) for o in how]
        for o in threads: o.start()
        for o in threads: o.join()
        flat = [o for a in answers for o in a]
        other = sum(str(i) != k for i, _, k, _, _ in flat)
        wrong = 0
        for i in range(clients):
            for j in range(0, n, max(1, n//5)):
                again = client.post('/api/paint', params=dict(n=j, seed=1), content=png_of(maps[i][j])).content
                wrong += again != answers[i][j][-1]
        times = [o[3] for o in flat]
        say(what='load', model=model, clients=clients, n=len(flat), lost=clients*n - len(flat), out_of_order=other,
            other_picture=wrong, status=Counter(o[1] for o in flat), p50_ms=percentile(times, 50), p95_ms=percentile(times, 95))

def memory(model, n, chart=None):
    "Resident memory of the server over `n` requests: maps that all differ, and between them photos and map files"
    import io, psutil
    from PIL import Image
    from gaugan_fastai.uploads import png_of
    curve, rng = [], np.random.default_rng(0)
    with server(model) as (process, client, about):
        mine = psutil.Process(process.pid)
        for i, ids in enumerate(strokes(n, about['size'], len(about['classes']))):
            data = png_of(ids)
            if i % 10 == 5:
                Image.fromarray(rng.integers(0, 256, (300, 400, 3)).astype(np.uint8)).save(file := io.BytesIO(), 'JPEG')
                answer = client.post('/api/style', files=dict(photo=('p', file.getvalue()), map=('m', data)))
                assert answer.status_code in (200, 400), answer.text
            elif i % 10 == 7: answer = client.post('/api/map', files=dict(file=('f', data)))
            else: answer = client.post('/api/paint', params=dict(seed=i % 7), content=data)
            if i % 10 == 0: curve.append((i, round(mine.memory_info().rss/2**20, 1)))
    say(what='memory', model=model, n=n, first_mb=curve[1][1], after_100_mb=curve[min(10, len(curve) - 1)][1], last_mb=curve[-1][1],
        most_mb=max(o for _, o in curve), curve=curve)
    if chart: draw(curve, chart, model)

def draw(curve, file, model):
    "The curve as a picture"
    import matplotlib
    matplotlib.use('agg')
    import matplotlib.pyplot as plt
    fig, ax = plt.subplots(figsize=(7, 2.6))
    ax.plot(*zip(*curve))
    top = 1.2*max(o for _, o in curve)
    ax.set(xlabel='requests', ylabel='resident MB', ylim=(0, top), title=f'memory of the server, {model}')
    fig.tight_layout()
    fig.savefig(file, dpi=90)

def hostile(model, n, seed=0):
    "Send files that nobody should have to read to each place that reads files"
    from hostile import hostile_files
    with server(model) as (process, client, _):
        places = dict(paint=lambda o: client.post('/api/paint', content=o), map=lambda o: client.post('/api/map', files=dict(file=('f', o))),
            photo=lambda o: client.post('/api/style', files=dict(photo=('f', o))))
        found, slowest = {k: Counter() for k in places}, (0., '', '')
        for kind, data in hostile_files(n, seed):
            for place, send in places.items():
                start = time.perf_counter()
                answer = send(data)
                slowest = max(slowest, (round(time.perf_counter() - start, 2), kind, place))
                found[place][answer.status_code] += 1
                if answer.status_code not in (200, 400, 413, 415): say(kind=kind, place=place, status=answer.status_code, text=answer.text[:300])
        alive = process.poll() is None and client.get('/healthz').json()['ok']
        say(what='hostile', n=n, status=found, slowest=slowest, alive=alive)

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('what', choices=('latency', 'load', 'memory', 'hostile'))
    p.add_argument('--model', help='default: both sizes for latency and load, the small one else')
    p.add_argument('--n', type=int, default=30)
    p.add_argument('--chart', type=Path)
    o = p.parse_args()
    models = [o.model] if o.model else ['landscapes_sean', 'landscapes'] if o.what in ('latency', 'load') else ['landscapes_style']
    for m in models:
        if o.what == 'latency': latency(m, o.n)
        elif o.what == 'load':
            for k in (1, 8): load(m, k, max(5, o.n//k))
        elif o.what == 'memory': memory(m, o.n, o.chart)
        else: hostile(m, o.n)

if __name__ == '__main__': main()

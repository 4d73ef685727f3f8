#!/usr/bin/env python
"""Paint with the installed package alone: no checkout, no network. .ci/run does it with the wheel it has built.

    cd ELSEWHERE && PYTHONPATH=SITE unshare -rn python tools/try_wheel.py painted [--at SITE]

Refuses where another machine can be reached, or where the package does not lie under --at. Then paints a label map that
comes with the package by `landscapes`, by Python and by the command `gaugan generate`, and prints the seconds: import,
loading, the first picture, and the quickest of five more, each of another map. A picture should take less than a second
(of processor time a thread, too, for busy machines); that is told, and no test. Fails where no picture of the model's
size came out.
"""
import argparse, os, socket, subprocess, sys, time
from pathlib import Path

def offline():
    "Can no other machine be reached?"
    for where in (('1.1.1.1', 443), ('pypi.org', 443)):
        try: socket.create_connection(where, 2).close()
        except OSError: continue
        return False
    return True

def paint(out):
    "Seconds by name; pictures are left in `out`"
    clock, seconds = time.perf_counter, {}
    def lap(name, start): seconds[name] = round(clock() - start, 2)
    start = clock()
    import torch
    from gaugan_fastai.painter import Painter
    from gaugan_fastai.weights import shipped_data
    lap('import', start)
    start = clock()
    painter = Painter('landscapes')
    lap('loading', start)
    maps, each, worked = sorted((shipped_data()/'maps').glob('*.png')), [], []
    for i, file in enumerate(maps):
        start, work = clock(), time.process_time()
        picture = painter(file, size=painter.size, seed=i)
        each.append(clock() - start)
        worked.append(time.process_time() - work)
        assert picture.size == painter.size[::-1], picture.size
        picture.save(out/f'{file.stem}.png')
    seconds |= dict(first=round(each[0], 2), quickest=round(min(each[1:]), 2),
        processor=round(min(worked[1:])/torch.get_num_threads(), 2))
    return seconds, maps[0], painter.size

def command(file, out):
    "The same by the command line, in a process of its own"
    code = 'import sys; from gaugan_fastai.cli import main; sys.exit(main())'
    args = ['generate', 'landscapes', str(file), '--out', str(out), '--seed', '1']
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *args], check=True)
    found = list(out.glob('*.png'))
    assert len(found) == 1 and found[0].stat().st_size > 10_000, found

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('out', type=Path, help='folder for the pictures')
    p.add_argument('--at', type=Path, help='where the package must lie')
    p.add_argument('--online', action='store_true', help='do it with a network')
    a = p.parse_args(argv)
    if not a.online and not offline(): sys.exit('try_wheel: another machine can be reached; start with unshare -rn')
    import gaugan_fastai
    where = Path(gaugan_fastai.__file__).resolve()
    if a.at and a.at.resolve() not in where.parents: sys.exit(f'try_wheel: {where.parent} is not in {a.at}')
    a.out.mkdir(parents=True, exist_ok=True)
    seconds, file, (h, w) = paint(a.out)
    command(file, a.out/'command')
    network = 'with' if a.online else 'without'
    print(f'landscapes at {h}x{w}, {os.cpu_count()} cores, {network} a network: {seconds} seconds')
    return 0

if __name__ == '__main__': sys.exit(main())

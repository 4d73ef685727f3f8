#!/usr/bin/env python
"""Write the table of all shipped models in docs/scores.md from their cards; no number in it is typed by hand.

    python tools/score_table.py               writes the table between its two marks
    python tools/score_table.py --check       says whether the table agrees with the cards, changes nothing
    OMP_NUM_THREADS=2 python tools/score_table.py --time      measures the seconds a picture first, on a quiet machine

Each folder of data/weights with a card is a row. Seconds come from docs/scores/seconds.json, which --time writes: the
median of seven pictures, each of another drawn map (or other ids at random), after two that do not count.
"""
import argparse, json, os, re, sys, time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS, PAGE, SECONDS = ROOT/'data/weights', ROOT/'docs/scores.md', ROOT/'docs/scores/seconds.json'
BEGIN, END = '<!-- table: tools/score_table.py -->', '<!-- end of the table -->'
HEAD = ['model', 'size', 'parameters', 'MB', 'KID (real against real)', 'mIoU (real)', 'beside', 'seconds a picture',
    'trained on', 'licence']

def cards():
    "Name -> card of all shipped models"
    return {o.parent.name: json.loads(o.read_text(encoding='utf-8')) for o in sorted(WEIGHTS.glob('*/model.json'))}

def megabytes(name): return sum(o.stat().st_size for o in (WEIGHTS/name).rglob('*.safetensors'))/1e6

def by_size(scores):
    "Size -> scores at it, of either kind of card: kid_64=[mean, scatter], or '96x128'=dict(kid=, kid_std=)"
    res = {k: v for k, v in scores.items() if re.fullmatch(r'\d+x\d+', k)}
    for k, v in scores.items():
        if m := re.fullmatch(r'(kid|real)_(\d+)', k): res.setdefault(f'{m[2]}x{m[2]}', {})[m[1]] = v[0]
    return dict(sorted(res.items(), key=lambda o: int(o[0].split('x')[1])))

def kid_cell(scores):
    def one(size, o):
        real = f' ({o["real"]:.4f})' if 'real' in o else ''
        return f'{size}: {o["kid"]:.4f}{real}'
    return '; '.join(one(k, o) for k, o in by_size(scores).items() if 'kid' in o)

def miou_cell(scores):
    found = [scores] if 'miou' in scores else [o for o in by_size(scores).values() if 'miou' in o]
    def one(o):
        real, own = o.get('real_miou'), o.get('own_miou')
        share = f' ({real:.3f}: {o["miou"]/real:.0%})' if real else ''
        return f'{o["miou"]:.3f}{share}' + (f'; own style {own:.3f}: {own/real:.1%}' if own else '')
    return '; '.join(map(one, found))

def beside_cell(card):
    scores = card.get('scores', {})
    words = [f'diversity {scores["diversity"]:.2f}'] if 'diversity' in scores else []
    if 'locality' in scores: words.append(f'locality {scores["locality"]:.0%}')
    valid = card.get('valid', {})
    if 'l1' in valid: words.append(f'L1 {valid["l1"]:.3f}')
    return ', '.join(words)

def row(name, card, seconds):
    scores, s = card.get('scores', {}), seconds.get(name)
    n = card.get('n_parameters', 0)
    data = card.get('data') or re.split(r'[,:;(]', card['training'])[0].strip()
    return [f'[{name}](../data/weights/{name}/model.json)', 'x'.join(map(str, card['size'])), f'{n/1e6:.1f} M',
        f'{megabytes(name):.0f}', kid_cell(scores), miou_cell(scores), beside_cell(card), f'{s:.2f}' if s else '', data,
        card['licence']]

def table():
    seconds = json.loads(SECONDS.read_text())['seconds'] if SECONDS.is_file() else {}
    rows = [HEAD, ['---']*len(HEAD), *(row(k, o, seconds) for k, o in cards().items())]
    return '\n'.join(f'| {" | ".join(o)} |' for o in rows)

def placed(text, new):
    "The page with the new table"
    a, b = text.index(BEGIN) + len(BEGIN), text.index(END)
    return f'{text[:a]}\n\n{new}\n\n{text[b:]}'

def style(painter, seed):
    "The argument for a style by chance, where the model has such a thing"
    return dict(seed=seed) if 'seed' in painter.takes else {}

def seconds_of(name):
    "Median seconds a picture, each of a map that was not there before"
    import numpy as np
    from gaugan_fastai.data.canvas import draw_layout
    from gaugan_fastai.data.landscapes import landscape_labels
    from gaugan_fastai.painter import Painter
    painter, times = Painter(WEIGHTS/name), []
    drawn = painter.labels.codes == landscape_labels().codes
    for i in range(9):
        maps = draw_layout(i, painter.size) if drawn else blocks(i, painter, np)
        start = time.perf_counter()
        painter(maps, ids='library', **style(painter, i))
        times.append(time.perf_counter() - start)
    return round(median(times[2:]), 3)

def blocks(i, painter, np):
    "Twelve random blocks of classes, of those that have a usual style where styles are by class"
    (h, w), k = painter.size, painter.labels.n_classes
    usual = getattr(painter.gen, 'usual', None)
    able = np.arange(k - (painter.labels.void is not None), dtype=np.uint8)
    if usual is not None: able = able[usual.any(1).numpy()[:len(able)]]
    coarse = np.random.default_rng(i).choice(able, (3, 4))
    return np.kron(coarse, np.ones((-(-h//3), -(-w//4)), np.uint8))[:h, :w]

def measure():
    import platform, torch
    seconds = {name: seconds_of(name) for name in cards()}
    facts = Path('/proc/cpuinfo')
    names = re.findall(r'model name\s*: (.*)', facts.read_text() if facts.is_file() else '')
    cpu = names[0] if names else platform.machine()
    words = f'{torch.get_num_threads()} threads of {os.cpu_count()} cores, {cpu}, torch {torch.__version__}'
    SECONDS.parent.mkdir(parents=True, exist_ok=True)
    SECONDS.write_text(json.dumps(dict(machine=words, seconds=seconds), indent=1) + '\n')
    print(words, seconds)

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--check', action='store_true')
    p.add_argument('--time', action='store_true')
    a = p.parse_args(argv)
    if a.time: measure()
    text = PAGE.read_text(encoding='utf-8')
    new = placed(text, table())
    if a.check:
        if new != text: print('docs/scores.md is behind the cards: python tools/score_table.py', file=sys.stderr)
        return int(new != text)
    PAGE.write_text(new, encoding='utf-8')
    print(table())
    return 0

if __name__ == '__main__': sys.exit(main())

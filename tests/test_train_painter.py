"""tools/train_painter.py: two stages leave one painter of the larger size, and bad input is one sentence."""
import json, re, subprocess, sys
import pytest, torch
from conftest import ROOT
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.metrics import kid
from gaugan_fastai.painter import Painter
from gaugan_fastai.pretrained import from_pretrained

TOOL = [sys.executable, '-W', 'ignore', ROOT/'tools/train_painter.py']
SMALL = '--minutes .3 --sizes 32 64 --z-dim 4 --ngf 4 --nhidden 8 --widths 4 4 4 4 4 2 1 --ndf 8 --n-layers 3'.split()
SMALL += '--bs 4 2 --scenes 8 --perceptual 0 --way ours --device cpu'.split()

def run(*args): return subprocess.run([*TOOL, *args], capture_output=True, text=True)

def test_two_stages_leave_a_painter_of_the_larger_size(tmp_path):
    res = run(tmp_path/'out', *SMALL)
    assert res.returncode == 0, res.stderr
    painter = Painter(tmp_path/'out/model')
    assert painter.size == (64, 64) and painter.styles == 'z'
    words = painter.card['training']
    assert 'stage 1: 32x32' in words and 'stage 2: 64x64' in words and '8 pairs' in words
    curve = painter.card['curve']
    assert painter.card['seed'] == 0 and [o['stage'] for o in curve] == sorted(o['stage'] for o in curve)
    assert {o['stage'] for o in curve} == {'stage 1', 'stage 2'} and all(o['steps'] and o['critic_real'] > 0 for o in curve)
    again = run(tmp_path/'out', *SMALL)
    assert again.returncode == 2 and 'holds a training' in again.stderr

def test_the_curve_on_the_card_is_short_and_has_its_end(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT/'tools'))
    from train_painter import spread
    for n in (0, 1, 24, 25, 47, 48, 49, 1000):
        kept = spread(list(range(n)), 24)
        assert len(kept) <= 24 and kept == sorted(kept) and kept[-1:] == list(range(n))[-1:]
        if 0 < n: assert len(kept) >= min(n, 12)

def test_bad_input_is_a_sentence(tmp_path):
    res = run(tmp_path/'out', '--minutes', '.1', '--data', tmp_path/'none')
    assert res.returncode == 1 and res.stderr.strip().splitlines()[-1].startswith('train_painter: data folder')

def test_marks_say_what_the_weights_paint(tmp_path):
    "The last line of scores.jsonl is the KID of the weights that were left; and a picture of all lines"
    out = tmp_path/'out'
    res = run(out, *SMALL, '--sizes', '32', '--score-every', '.04', '--score-n', '8')
    assert res.returncode == 0, res.stderr
    minutes = float(re.search(r'(\d+\.\d+) minutes$', res.stdout, re.M)[1])
    assert minutes < .29, 'imports and data belong to the minutes'
    rows = [json.loads(o) for o in (out/'scores.jsonl').read_text().splitlines()]
    assert {o['size'] for o in rows} == {'32x32'} and [o['minutes'] for o in rows] == sorted(o['minutes'] for o in rows)
    scenes = [draw_landscape(i, 32) for i in range(8)]
    photos = torch.stack([torch.as_tensor(o.photo).permute(2, 0, 1)/127.5 - 1 for o in scenes])
    maps, gen = torch.stack([torch.as_tensor(o.segmap).long() for o in scenes]), from_pretrained(out/'model')
    torch.manual_seed(0)
    with torch.no_grad(): fakes = torch.cat([gen(o) for o in maps.split(4)])
    assert rows[-1]['kid'] == pytest.approx(kid(fakes, photos)[0], abs=.02)   # weights of 16 bits, another order of sums
    files = [f'mine={out/"scores.jsonl"}', f'again={out/"scores.jsonl"}']
    tool = [sys.executable, '-W', 'ignore', ROOT/'tools/score_marks.py']
    res = subprocess.run([*tool, out/'curve.png', *files, '--real', '.02'], capture_output=True, text=True)
    assert res.returncode == 0 and res.stdout.count('| mine |') == len(rows) and (out/'curve.png').is_file(), res.stderr
    res = subprocess.run([*tool, out/'curve.png', 'none=nowhere'], capture_output=True, text=True)
    assert res.returncode == 1 and 'score_marks: there is no nowhere' in res.stderr

def test_sean_on_windows_of_a_folder(tmp_path):
    "Every way to compute is timed with the style images in the batch; the second stage asks that edits stay in their region"
    small = '--minutes .4 --sizes 32 32 --load 40 --ngf 4 --nhidden 8 --style-dim 5 --width 2 --ndf 8 --bs 4 --locality 0 30'
    more = f'--model sean --data {ROOT/"data/landscapes"} --perceptual 0 --device cpu --licence mine'
    res = run(tmp_path/'out', *small.split(), *more.split())
    assert res.returncode == 0, res.stderr
    assert all(f"'{o}'" in res.stdout for o in ('ours', 'dense', 'dense last'))
    painter = Painter(tmp_path/'out/model')
    assert painter.size == (32, 32) and painter.styles == 'codes' and painter.card['config']['style_dim'] == 5
    assert painter.card['licence'] == 'mine' and '0 then 30 locality' in painter.card['training'] and '--load 40' in painter.card['training']
    settings = [json.loads((tmp_path/f'out/stage_{i}/run.json').read_text()) for i in (0, 1)]
    assert [o['locality'] for o in settings] == [0, 30]

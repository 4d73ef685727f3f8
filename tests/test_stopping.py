"""tools/stopping.py: a training that a time limit stops has lost nothing, whichever tool trains."""
import json, os, re, signal, subprocess, sys, time
import pytest, torch
from conftest import ROOT
from gaugan_fastai.pretrained import from_pretrained

SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP

def stopped(tool, args, begun, more=0.):
    """What a tool says that is stopped once the file `begun` is there, and `more` seconds.

    The signal goes to its whole group, as `timeout` sends it: to processes that load, too."""
    heard = lambda: [signal.signal(o, signal.SIG_DFL) for o in SIGNALS]   # whoever started the tests
    command = [sys.executable, '-W', 'ignore', str(ROOT/f'tools/{tool}.py'), *map(str, args)]
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=heard)
    try:
        end = time.time() + 300
        while time.time() < end and p.poll() is None and not begun.exists(): time.sleep(.05)
        time.sleep(more)
        if p.poll() is None: os.killpg(p.pid, signal.SIGTERM)
        said, err = p.communicate(timeout=120)
    finally:
        if p.poll() is None: os.killpg(p.pid, signal.SIGKILL)
    assert p.returncode == 0 and 'Traceback' not in err, err
    return said

def lines(file): return [json.loads(o) for o in file.read_text().splitlines()]
def steps_of(card): return int(re.findall(r'(\d+) steps', card['training'])[-1])
def steps_kept(file): return torch.load(file, weights_only=True)['average']['t']

def test_painter(tmp_path):
    "Weights, checkpoint and the last score are those of one step; the stage that comes after is not begun"
    out = tmp_path/'out'
    args = '--minutes 60 --sizes 32 64 --ngf 4 --nhidden 8 --widths 4 4 4 4 4 2 1 --ndf 8 --n-layers 3 --bs 4 2'
    args += ' --scenes 8 --perceptual 0 --way ours --device cpu --workers 1 --score-every .01 --score-n 4'
    said = stopped('train_painter', [out, *args.split()], out/'scores.jsonl', .5)
    assert json.loads(said.splitlines()[-1])['stopped'] is True
    gen, whole, rows = from_pretrained(out/'model'), from_pretrained(out/'stage_0/model'), lines(out/'scores.jsonl')
    assert steps_of(gen.card) == rows[-1]['steps'] == steps_kept(out/'stage_0/last.pth') > rows[0]['steps']
    assert re.search(r'stage 1: 32x32, .* 0\.\d of (29\.\d|30\.0) minutes', gen.card['training'])
    kept = whole.state_dict()
    assert all(torch.equal(v.half(), kept[k].half()) for k, v in gen.state_dict().items() if v.is_floating_point())
    assert not (out/'stage_1').exists()

def test_painter_before_its_first_step(tmp_path):
    "There is nothing to leave, and that is said"
    out = tmp_path/'out'
    with pytest.raises(AssertionError, match='train_painter: stopped before the first step'):
        stopped('train_painter', [out, *'--minutes 60 --scenes 400 --sizes 64 --way ours --device cpu'.split()], out)
    assert not (out/'model').exists()

def test_oasis(tmp_path):
    "The last look is taken at the step where it was stopped"
    out = tmp_path/'out'
    args = '--minutes 60 --every .01 --size 32 --scenes 8 --n 4 --bs 4 --ngf 2 --ndf 2 --nhidden 4'.split()
    stopped('train_oasis', [out, *args], out/'scores.jsonl', .5)
    rows, card = lines(out/'scores.jsonl'), from_pretrained(out/'model').card
    assert steps_of(card) == rows[-1]['steps'] == steps_kept(out/'last.pth') > rows[0]['steps']

def test_cyclegan(tmp_path):
    "It is measured and its generators are written"
    out = tmp_path/'out'
    args = '--minutes 60 --every .005 --size 32 --n 4 --places 4 --ngf 2 --n_blocks 1 --n_layers 2'.split()
    stopped('train_cyclegan', [out, *args], out/'scores.csv', .5)
    scores = json.loads((out/'scores.json').read_text())
    last = (out/'scores.csv').read_text().splitlines()[-1].split(',')
    assert scores['steps'] == int(last[1]) == steps_kept(out/'last.pth') and (out/'pictures.png').is_file()

def test_sean(tmp_path):
    "It can be resumed and saved"
    run = tmp_path/'run'
    args = '--minutes 60 --n 8 --size 32 --ngf 2 --style-dim 2 --nhidden 4 --width 2 --ndf 4 --bs 4 --workers 1'.split()
    stopped('train_sean', [run, *args], run/'samples', 2)
    spent = json.loads((run/'spent.json').read_text())
    assert spent['steps'] == steps_kept(run/'models/last.pth') > 0 and 0 <= spent['minutes'] < 1

def test_style(tmp_path):
    "Its card has the minutes that it had"
    out, kept = tmp_path/'out', tmp_path/'kept'
    args = ['--minutes', '60', *'--scenes 8 --size 32 --bs 4 --ngf 2 --checkpoints'.split(), kept]
    stopped('train_style', [out, *args], kept, 2)
    card = from_pretrained(out).card
    assert int(re.search(r'(\d+) steps', card['training'])[1]) == steps_kept(kept/'last.pth') > 0
    assert re.search(r' in (0|0\.\d) minutes', card['training'])

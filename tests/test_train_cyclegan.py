"""tools/train_cyclegan.py starts, is stopped between two of its savings, and goes on where the last one was."""
import csv, json, subprocess, sys, time
import numpy as np
from conftest import ROOT
from gaugan_fastai.translator import Translator

TOOL = [sys.executable, '-W', 'ignore', ROOT/'tools/train_cyclegan.py']
SMALL = '--every .005 --size 32 --n 4 --places 4 --ngf 2 --n_blocks 1 --n_layers 2'.split()

def measured(out):
    "The rows of scores.csv: minutes and steps"
    with open(out/'scores.csv', newline='') as f: return [(float(o['minutes']), int(o['steps'])) for o in csv.DictReader(f)]

def test_it_is_stopped_and_goes_on(tmp_path):
    out = tmp_path/'out'
    p = subprocess.Popen([*TOOL, out, *SMALL, '--minutes', '60'], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    end = time.time() + 300
    while time.time() < end and p.poll() is None and not (out/'progress.json').exists(): time.sleep(.05)
    p.kill()
    _, err = p.communicate(timeout=60)
    assert (out/'last.pth').is_file() and not (out/'scores.json').exists(), err
    before, spent = measured(out), json.loads((out/'progress.json').read_text())['minutes']
    res = subprocess.run([*TOOL, out, *SMALL, '--minutes', str(spent + .02), '--resume'], capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    after, scores = measured(out), json.loads((out/'scores.json').read_text())
    new = after[len(before):]
    assert after[:len(before)] == before and new and new == sorted(new) and new[0][0] >= spent, 'the table goes on'
    assert scores['steps'] >= new[-1][1] > before[0][1] and scores['options']['resume']
    assert scores['scores'].keys() == {'the truth', 'no change', 'recoloured', 'CycleGAN'} and (out/'pictures.png').is_file()
    assert Translator(out, reverse=True)(np.zeros((32, 32, 3), np.uint8)).size == (32, 32)

"""tools/gpu.py ends in time, writes lines that survive a kill, and finds the code of the lessons' GPU cells."""
import importlib.util, json, subprocess, sys, time
from types import SimpleNamespace
import pytest, torch
from conftest import ROOT
from gaugan_fastai.models.spade import SPADEGenerator

def _load():
    spec = importlib.util.spec_from_file_location('gpu_tool', ROOT/'tools/gpu.py')
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module
gpu = _load()

def test_a_part_ends_in_time(tmp_path):
    "A process that would go on is ended, with what it started"
    start = time.monotonic()
    a = SimpleNamespace()
    assert gpu.run(a, ['sh', '-c', f'(sleep 3; touch {tmp_path}/late) & echo early; sleep 60'], 1,
        tmp_path/'said') == 'out of time'
    assert time.monotonic() - start < 20 and (tmp_path/'said').read_text() == 'early\n'
    time.sleep(3)
    assert not (tmp_path/'late').exists()
    assert gpu.run(a, ['sh', '-c', 'exit 3'], 10) == 3

def test_cells_find_what_they_need():
    "Imports, and the cells that define what is read; not those whose names the cell makes itself, nor exported ones"
    cells = ['import torch\nfrom pathlib import Path', 'def show(o, n=2): return [helper(i) for i in o]',
        'dls, n = 1, 2', '#| export\ndef helper(o): return o',
        'def unused(): return n', '#| gpu\ndls = Path(".")\nshow(dls)']
    assert gpu.needed(cells, 5) == [0, 1, 5]
    cells[3] = cells[3].replace('#| export\n', '')
    cells[1], cells[3] = cells[3], cells[1]
    assert gpu.needed(cells, 5) == [0, 1, 3, 5]

def test_every_lessons_gpu_cell_is_found():
    "Seven today; each needs few cells"
    found = gpu.gpu_cells()
    assert [fn.name for fn, _ in found] == ['28_models.pix2pix.ipynb', '33_models.spade.ipynb', '35_models.style.ipynb',
        '53_models.sean.ipynb', '61_models.cyclegan.ipynb', '66_models.oasis.ipynb', '76_finetune.ipynb']
    for fn, i in found:
        cells = gpu.code_cells(fn)
        places = gpu.needed(cells, i)
        assert places[-1] == i and 2 <= len(places) <= 4 and all('learner' not in gpu.bound(cells[j]) for j in places)

def test_a_cut_log_is_read(tmp_path):
    "After a kill the last line may be half a line"
    log = tmp_path/'log.jsonl'
    case = dict(what='forward', options=[], batch=1, peak_mib=None)
    cases = [dict(case, how='dense', median_s=.4), dict(case, how='ours', median_s=.1)]
    cases.append(dict(case, how='dense', options=['compile'], skipped='no compiler'))
    log.write_text(''.join(json.dumps(o) + '\n' for o in cases) + '{"what": "st')
    assert [o['what'] for o in gpu.rows(log)] == ['forward']*3
    table = gpu.table(log)
    assert '| ours | 100.0 (4.00) |' in table and '| dense compile | no compiler |' in table

def test_large_weights_are_refused():
    "More than 16 MiB a file does not come back from a lent machine"
    with torch.device('meta'): small, large = (SPADEGenerator(19, n, nhidden=64, z_dim=64, size=128) for n in (16, 32))
    gpu.refuse_large(SimpleNamespace(generator=small))
    with pytest.raises(SystemExit, match='lower --ngf'): gpu.refuse_large(SimpleNamespace(generator=large))

def test_options_that_cannot_be(tmp_path):
    "Unknown parts, no folder, a folder with a training in it: one sentence, exit 2, and nothing runs"
    work = tmp_path/'out_work'
    (work/'run').mkdir(parents=True)
    (work/'run'/'run.json').write_text('{}')
    out = ['--out', str(tmp_path/'out')]
    cases = (([*out, '--parts', 'facts,paint'], 'paint'), ([], '--out'), ([*out, '--device', 'cpu'], '--resume'))
    for args, words in cases:
        res = subprocess.run([sys.executable, ROOT/'tools/gpu.py', *args], capture_output=True, text=True)
        assert res.returncode == 2 and words in res.stderr and 'Traceback' not in res.stderr, res.stderr
    assert not (tmp_path/'out'/'log.jsonl').exists()

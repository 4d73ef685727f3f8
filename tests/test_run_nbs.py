"""The notebook runner runs what `nbdev-test` would run, keeps what it skips, and writes all or nothing."""
import json, subprocess, sys
import pytest
from conftest import ROOT

cells = dict(
    title='# A lesson\n> of six cells',
    seen="import sys, tempfile; print('a'); print(tempfile.mkdtemp()); print('lost', file=sys.stderr); object()",
    bar='from fastprogress import progress_bar\nfor i in progress_bar(range(3)): pass',
    gpu='#| gpu\n1/0', off='#| eval: false\n1/0', last='sum(range(5))')

def _notebook(**sources):
    code = lambda k, v: dict(cell_type='code', id=k, metadata={}, execution_count=7, outputs=[], source=v)
    text = lambda k, v: dict(cell_type='markdown', id=k, metadata={}, source=v)
    nb = dict(cells=[(text if k == 'title' else code)(k, v) for k,v in sources.items()], metadata={}, nbformat=4, nbformat_minor=5)
    for c in nb['cells']:
        if c['id'] == 'gpu': c['outputs'] = [dict(output_type='stream', name='stdout', text='seen on a GPU\n')]
    return nb

@pytest.fixture
def project(tmp_path):
    "A project of one notebook, with the settings of this one"
    (tmp_path/'nbs').mkdir()
    (tmp_path/'pyproject.toml').write_text((ROOT/'pyproject.toml').read_text())
    return tmp_path

def _run(project, *args, **sources):
    fn = project/'nbs'/'00_a.ipynb'
    if sources: fn.write_text(json.dumps(_notebook(**sources)))
    res = subprocess.run([sys.executable, ROOT/'tools/run_nbs.py', *args, fn], capture_output=True, text=True)
    return res, fn

def _outputs(fn): return {c['id']: c.get('outputs') for c in json.loads(fn.read_text())['cells']}

def test_runs_in_place_and_again_the_same(project):
    res, fn = _run(project, **cells)
    assert res.returncode == 0, res.stdout + res.stderr
    outs, first = _outputs(fn), fn.read_bytes()
    assert ''.join(outs['last'][0]['data']['text/plain']) == '10'
    assert ''.join(outs['gpu'][0]['text']) == 'seen on a GPU\n' and outs['off'] == [] and outs['bar'] == []
    assert ''.join(outs['seen'][0]['text']) == 'a\nTMP\n' and len(outs['seen']) == 2
    assert 'stderr: lost' in res.stdout and 'seen ' not in res.stdout
    assert _run(project, '--check')[0].returncode == 0 and _run(project)[1].read_bytes() == first
    assert [o.name for o in fn.parent.iterdir()] == [fn.name]

def test_an_error_is_told_and_writes_nothing(project):
    res, fn = _run(project, **dict(cells, last='print("before")\n{}["no such key"]'))
    assert res.returncode == 1 and 'no such key' in res.stdout and 'print("before")' in res.stdout
    assert not any(o for k,o in _outputs(fn).items() if k != 'gpu')

def test_flags_and_dry(project):
    res, fn = _run(project, '--flags', 'gpu', **cells)
    assert res.returncode == 1 and 'ZeroDivisionError' in res.stdout
    before = fn.read_bytes()
    assert _run(project, '--dry')[0].returncode == 0 and fn.read_bytes() == before
    assert _run(project, '--check')[0].returncode == 1
    res, _ = _run(project, '--dry', 'nothing.ipynb')
    assert res.returncode == 2 and 'nothing.ipynb' in res.stderr

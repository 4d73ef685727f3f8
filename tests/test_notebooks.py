"""Every lesson runs from its first cell to its last, in a process of its own; nothing is written."""
import json, subprocess, sys
import pytest
from conftest import ROOT
from quick_lessons import Lessons

def _lessons():
    "The notebooks, those that train most first, so that two workers end at about the same time"
    work = lambda fn: sum(''.join(c['source']).count('fit') for c in json.loads(fn.read_text(encoding='utf-8'))['cells'])
    fns = [o for o in (ROOT/'nbs').glob('*.ipynb') if o.name[0] not in '_.']
    return sorted(fns, key=lambda o: (-work(o), o.name))

@pytest.fixture(scope='module')
def quickly():
    lessons = Lessons()
    yield lessons
    lessons.close()

@pytest.mark.parametrize('fn', _lessons(), ids=lambda o: o.stem)
def test_notebook(fn, quickly):
    ok, _ = quickly(fn)
    if ok: return
    # the last word has a kernel, as the reader's
    res = subprocess.run([sys.executable, ROOT/'tools/run_nbs.py', '--dry', fn], capture_output=True, text=True)
    assert res.returncode == 0, f'{res.stdout}\n{res.stderr}'

@pytest.fixture
def lesson(tmp_path):
    "Writes a lesson of some cells into a project with the settings of this one"
    (tmp_path/'pyproject.toml').write_text((ROOT/'pyproject.toml').read_text())
    def write(*sources):
        cells = [dict(cell_type='code', id=f'c{i}', metadata={}, execution_count=None, outputs=[], source=o) for i, o in enumerate(sources)]
        fn = tmp_path/'00_a.ipynb'
        fn.write_text(json.dumps(dict(cells=cells, metadata={}, nbformat=4, nbformat_minor=5)))
        return fn
    return write

def test_no_lesson_reaches_another(lesson, quickly):
    touch = 'import builtins, os, torch', 'builtins.touched = os.environ["TOUCHED"] = "yes"', 'torch.manual_seed(7)', '#| gpu\n1/0'
    assert quickly(lesson(*touch)) == [True, '']
    see = 'import os, torch', 'assert "TOUCHED" not in os.environ and torch.initial_seed() != 7', 'touched'
    ok, wrong = quickly(lesson(*see))
    assert not ok and "cell 2\ntouched\n" in wrong and "NameError: name 'touched' is not defined" in wrong

def test_a_lesson_that_ends_its_process(lesson, quickly):
    ok, wrong = quickly(lesson('import os', 'os._exit(3)'))
    assert not ok and 'ended with status' in wrong
    assert quickly(lesson('1 + 1')) == [True, '']

"""Every lesson runs from its first cell to its last: one process a notebook, nothing is written."""
import json, subprocess, sys
import pytest
from conftest import ROOT

def _lessons():
    "The notebooks, those that train most first, so that two workers end at about the same time"
    work = lambda fn: sum(''.join(c['source']).count('fit') for c in json.loads(fn.read_text(encoding='utf-8'))['cells'])
    fns = [o for o in (ROOT/'nbs').glob('*.ipynb') if o.name[0] not in '_.']
    return sorted(fns, key=lambda o: (-work(o), o.name))

@pytest.mark.parametrize('fn', _lessons(), ids=lambda o: o.stem)
def test_notebook(fn):
    res = subprocess.run([sys.executable, ROOT/'tools/run_nbs.py', '--dry', fn], capture_output=True, text=True)
    assert res.returncode == 0, f'{res.stdout}\n{res.stderr}'

"""The table of refusals in docs/sharing.md is what the library says today."""
import importlib.util
import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location('refusals', ROOT/'tools/refusals.py')
refusals = importlib.util.module_from_spec(spec)
spec.loader.exec_module(refusals)

def cells(table): return [[o.strip() for o in line.split(' | ')] for line in table.splitlines()[2:]]

@pytest.mark.filterwarnings('ignore')
def test_every_damage_is_refused_as_the_page_says(capsys):
    "Other versions of Python and safetensors say their part in other words: the first ones are ours"
    page = refusals.DOCS.read_text(encoding='utf-8').split(refusals.MARKS[0])[1].split(refusals.MARKS[1])[0].strip()
    for there, here in zip(cells(page), cells(refusals.table()), strict=True):
        assert there[:2] == here[:2] and there[2].split()[:4] == here[2].split()[:4], 'python tools/refusals.py --write'
    assert 'code of a stranger' not in capsys.readouterr().out
    assert len(cells(page)) == sum(map(len, (refusals.LOCAL, refusals.HUB, refusals.CHECKPOINTS)))

def test_what_is_read_is_no_refusal():
    with pytest.raises(SystemExit, match='all is well was not refused'): refusals.said('all is well', lambda: None)

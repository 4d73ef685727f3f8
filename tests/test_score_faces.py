"""tools/score_faces.py: what it counts, what it leaves, and what it refuses; on drawn scenes with a small SEAN."""
import importlib, json, shutil
from types import SimpleNamespace
import pytest, torch
from conftest import ROOT
from PIL import Image
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.styles import StyleLibrary

@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(ROOT/'tools')
    return importlib.import_module('score_faces')

def sean(folder, labels):
    torch.manual_seed(0)
    gen = SEANGenerator(labels.n_classes, ngf=4, nhidden=4, style_dim=5, width=2)
    return save_pretrained(gen, folder, labels, size=[32, 32], training='not at all', licence='mine')

@pytest.fixture
def data(tmp_path):
    "Six scenes to train on and four to test"
    shutil.copytree(ROOT/'data/landscapes', tmp_path/'data')
    for part, n in (('train', 6), ('val', 4)):
        for what in ('images', 'labels'):
            for fn in sorted((tmp_path/'data'/part/what).iterdir())[n:]: fn.unlink()
    return tmp_path/'data'

def test_everything_is_left(tool, data, tmp_path):
    folder, page, out = sean(tmp_path/'model', landscape_labels()), tmp_path/'page.md', tmp_path/'out'
    page.write_text(f'before\n{tool.MARKS[0]}\nold\n{tool.MARKS[1]}\nafter\n')
    args = [folder, data, '--load', 40, '--region', 'sky', '--rows', '0,2,3', '--out', out, '--doc', page, '--write']
    assert tool.main([str(o) for o in args]) == 0
    scores = json.loads((out/'scores.json').read_text())
    assert {k: o['n'] for k, o in scores['repainted'].items()} == dict(test=4, train=6, usual=4, flat=4)
    assert scores['repainted']['flat']['l1'] < scores['repainted']['test']['l1'], 'an untrained network is worse than mean colours'
    assert scores['edits']['all']['edits'] > 10 and 0 <= scores['edits']['all']['inside'] <= 1
    assert '4 test maps in the styles of 6 training photos each, 24 pictures, against all 10 photos' in scores['kid']['protocol']
    sizes = {o: Image.open(out/f'{o}.jpg').size for o in ('repainted', 'styles', 'region')}
    assert sizes['styles'] == (3*36, 3*36) and sizes['repainted'] == (4*36, 36) and sizes['region'][1] == 3*36
    words = page.read_text()
    assert words.startswith('before\n') and words.endswith('after\n') and 'old' not in words and 'Trained: not at all.' in words
    model = from_pretrained(folder)
    assert model.card['scores']['repainted']['L1, test photos, own styles'] == scores['repainted']['test']['l1']
    assert model.card['licence'] == 'mine' and StyleLibrary.load(folder).counts.max() == 6

def test_mean_colours(tool):
    maps, photos = torch.tensor([[[0, 0], [1, 1]]]), torch.arange(12.).view(1, 3, 2, 2)
    flat = tool.in_mean_colours(maps, photos, 3)
    assert torch.equal(flat[0, :, 0, 0], torch.tensor([.5, 4.5, 8.5])) and torch.equal(flat[0, :, 1, 1], torch.tensor([2.5, 6.5, 10.5]))

def test_donors_show_the_class(tool):
    codes = torch.zeros(6, 2, 3)   # the last two are training photos
    codes[[0, 2, 3, 4], 1] = 1.
    o = SimpleNamespace(n=4, codes=codes)
    assert tool.donors(o, 2, 1) == [3, 0] and tool.donors(o, 0, 1) == [2, 3] and tool.donors(o, 1, 0) == []

def test_edits_in_place_are_told_from_edits_that_spread(tool):
    "A painter whose codes are colours: once in their region alone, once all over the picture"
    maps, photos = torch.zeros(2, 4, 4, dtype=torch.int64), torch.zeros(2, 3, 4, 4)
    maps[:, 2:], photos[1] = 1, 1.
    codes = torch.stack([torch.full((2, 3), .2), torch.ones(2, 3)])
    o = SimpleNamespace(n=2, maps=maps, photos=photos, codes=codes, labels=LabelSpace('ab'))
    local = lambda m, c: torch.einsum('bkc,bkhw->bchw', c, torch.stack([m == 0, m == 1], 1).float())
    spread = lambda m, c: c.mean(1)[..., None, None].expand(-1, -1, 4, 4)
    for gen, want in ((local, 1.), (spread, .5)):
        found = list(tool.edits(gen, o, gen(maps, codes)))
        assert len(found) == 4 and all(abs(share - want) < 1e-6 for _, share, _, _ in found)
    (_, _, before, after), *_ = tool.edits(local, o, local(maps, codes))
    assert abs(before - .8*3**.5) < 1e-6 and after < 1e-6

def test_what_is_refused(tool, data, tmp_path):
    other = sean(tmp_path/'other', LabelSpace('abc'))
    with pytest.raises(InputError, match="the model \\['a', 'b', 'c'\\]"): tool.main([str(other), str(data)])
    plain = save_pretrained(SPADEGenerator(19, ngf=2, nhidden=4), tmp_path/'plain', landscape_labels(), size=[32, 32])
    with pytest.raises(InputError, match='is no SEAN'): tool.main([str(plain), str(data)])
    (tmp_path/'page.md').write_text('no marks')
    with pytest.raises(InputError, match='has no marks'): tool.write_page(tmp_path/'page.md', 'text')

"""SPADE's generator against the reference fixtures, and what it says of bad input."""
import json, pickle
from copy import deepcopy

import pytest, torch

from conftest import shared_path
from gaugan_fastai.core import InputError
from gaugan_fastai.models.spade import SPADEGenerator
from reference_cases import GENERATORS as CASES, TOL, build, gap, generator_case as reference, generator_gaps, inputs, settings

pytestmark = pytest.mark.numeric

@pytest.mark.parametrize('case', CASES)
def test_fixture(case):
    diffs = generator_gaps(case)
    print(case, {k: f'{v:.1e}' for k, v in diffs.items()})
    assert max(diffs.values()) < TOL, diffs

@pytest.mark.parametrize('name', ['coco', 'ade20k', 'cityscapes', 'coco_use_vae'])
def test_published_keys(name):
    info = json.loads(shared_path('reference', 'keys', f'spade_{name}.json').read_text())
    with torch.device('meta'): gen = SPADEGenerator(**settings(info['options']))
    assert [(k, list(v.shape)) for k, v in gen.state_dict().items()] == list(info['G'].items())
    assert sum(o.numel() for o in gen.parameters()) == info['n_parameters']['G']

@pytest.mark.parametrize('case', ['base/square64', 'recipe/vae64'])
def test_inference_copy(case):
    info, tensors, state = reference(case)
    fast = build(info, state).for_inference()
    assert not any('weight_' in k for k in fast.state_dict()) and not fast.training
    again = pickle.loads(pickle.dumps(fast))
    with torch.no_grad(): assert gap(again(**inputs(tensors)), tensors['out_eval']) < TOL

# bad input: arguments of the generator, of its call, and words that the message must hold
SEG = torch.zeros(2, 64, 64, dtype=torch.long)
BAD = {
    'not a tensor': ({}, dict(segmap=[[0]]), 'list'),
    'one-hot map': ({}, dict(segmap=torch.zeros(2, 5, 64, 64)), 'float32.*argmax'),
    'bool map': ({}, dict(segmap=SEG > 0), 'torch.bool'),
    'no batch axis': ({}, dict(segmap=SEG[0]), r'\(64, 64\).*segmap\[None\]'),
    'channel axis': ({}, dict(segmap=SEG[:, None]), r'\(2, 1, 64, 64\)'),
    'empty batch': ({}, dict(segmap=SEG[:0]), r'\(0, 64, 64\)'),
    'void 255': ({}, dict(segmap=SEG + 255), 'class 255.*5 classes'),
    'negative id': ({}, dict(segmap=SEG - 1), 'class -1'),
    'size': ({}, dict(segmap=SEG[:, :50]), '50x64.*32.*64x64'),
    'size, more': (dict(upsampling='more'), dict(segmap=SEG.repeat(1, 2, 2)[:, :96]), '96x128.*64'),
    'edges missing': (dict(edges=True), dict(segmap=SEG), 'instance_edges'),
    'edges not expected': ({}, dict(segmap=SEG, edges=SEG > 0), 'without'),
    'edges as numbers': (dict(edges=True), dict(segmap=SEG, edges=SEG), 'int64.*bool'),
    'edges of another size': (dict(edges=True), dict(segmap=SEG, edges=SEG[:, :32] > 0), r'\(2, 32, 64\)'),
    'z not expected': ({}, dict(segmap=SEG, z=torch.zeros(2, 8)), 'without z_dim'),
    'z of another shape': (dict(z_dim=8, size=64), dict(segmap=SEG, z=torch.zeros(1, 8)), r'\(1, 8\).*\(2, 8\)'),
    'fixed size': (dict(z_dim=8, size=64), dict(segmap=SEG[:, :32]), '32x64.*64x64'),
    'one pixel': ({}, dict(segmap=SEG[:1, :32, :32]), 'single pixel'),
    'z without size': (dict(z_dim=8), {}, 'size'),
    'size no multiple': (dict(z_dim=8, size=100), {}, '100'),
    'upsampling': (dict(upsampling='lots'), {}, "'lots'.*normal, more, most"),
    'norm': (dict(norm='layer'), {}, "'layer'.*batch, instance"),
}

@pytest.mark.parametrize('what', BAD)
def test_bad_input(what):
    kwargs, call, words = BAD[what]
    with pytest.raises(InputError, match=words): SPADEGenerator(5, ngf=2, nhidden=4, **kwargs)(**call)

def test_other_integers_and_subclasses():
    from gaugan_fastai.core import TensorSegmap
    gen = SPADEGenerator(5, ngf=2, nhidden=4).eval()
    want = gen(SEG + 3)
    for seg in ((SEG + 3).byte(), (SEG + 3).int(), TensorSegmap(SEG + 3)):
        out = gen(seg)
        assert torch.equal(out, want) and type(out) is torch.Tensor

def test_copy_after_training_step():
    gen = SPADEGenerator(5, ngf=2, nhidden=4)
    loss = gen(SEG).sum()
    twin = deepcopy(gen)
    loss.backward()
    assert all(o.grad is not None for o in gen.parameters()) and all(o.grad is None for o in twin.parameters())
    assert torch.equal(twin.eval()(SEG), gen.eval()(SEG))

def test_same_in_float64():
    gen = SPADEGenerator(5, ngf=2, nhidden=4, edges=True).eval()
    seg = torch.randint(0, 5, (2, 64, 64))
    a, b = gen(seg, seg > 2), gen.double()(seg, seg > 2)
    assert b.dtype == torch.float64 and gap(a.double(), b) < 1e-5

ORIGINALS = {'spade/base/latest_net_G.pth': {}, 'spade/disc/latest_net_D.pth': {},
    'spade/train/ttur_edge64_final/latest_net_G.pth': dict(edges=True),
    'spade/train/ttur_edge64_final/latest_net_D.pth': dict(edges=True)}
OTHERS = {'sean/disc/latest_net_D.pth': '3 layers',
    'pix2pixhd/global/latest_net_G.pth': 'pix2pixHD',
    'pix2pixhd/disc/latest_net_D.pth': 'pix2pixHD critic'}

@pytest.mark.parametrize('path', ORIGINALS)
def test_load_original(path, tmp_path):
    from gaugan_fastai.pretrained import from_pretrained, load_original, save_pretrained
    path, kwargs = shared_path('reference', path), ORIGINALS[path]
    state = torch.load(path, weights_only=True)
    torch.save({f'module.{k}': v for k, v in state.items()}, tmp_path/'parallel.pth')
    saved = save_pretrained(load_original(path, **kwargs), tmp_path/'saved')
    parallel = load_original(tmp_path/'parallel.pth', **kwargs)
    for model in (load_original(path, **kwargs), parallel, from_pretrained(saved)):
        assert not model.training and model.edges == kwargs.get('edges', False) and model.n_classes == 13
        assert model.state_dict().keys() == state.keys()
        assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())

@pytest.mark.parametrize('case', [o for o in CASES if o not in ('base/wide128x64', 'recipe/edge64', 'real/coco256')])
def test_load_original_paints(case, tmp_path):
    from gaugan_fastai.pretrained import load_original
    info, tensors, state = reference(case)
    torch.save(state, tmp_path/'latest_net_G.pth')
    o, told = info['options'], settings(info['options'])
    gen = load_original(tmp_path/'latest_net_G.pth', edges=told['edges'], aspect=o['aspect_ratio'],
        upsampling='more' if told['upsampling'] == 'more' else 'normal',
        codes=[f'class {i}' for i in range(told['n_classes'])])
    with torch.no_grad(): assert gap(gen(**inputs(tensors)), tensors['out_eval']) < TOL
    assert gen.labels.n_classes == told['n_classes']

@pytest.mark.parametrize('path', OTHERS)
def test_load_original_refuses(path):
    from gaugan_fastai.pretrained import load_original
    with pytest.raises(InputError, match=OTHERS[path]): load_original(shared_path('reference', path))

@pytest.mark.parametrize('family', ['clade_coco', 'clade_coco_dist', 'oasis_coco', 'sean_celebamaskhq',
    'pix2pixhd_label2city_512p', 'pix2pixhd_label2city_1024p'])
def test_recognises(family):
    from gaugan_fastai.pretrained import recognise
    info = json.loads(shared_path('reference', 'keys', f'{family}.json').read_text())
    kind = dict(clade='CLADE', oasis='OASIS', pix2pixhd='pix2pixHD', sean='SEAN')[family.split('_')[0]]
    assert recognise(info['G']).startswith(f'{kind} generator')
    if 'D' in info: assert recognise(info['D']).endswith('critic')

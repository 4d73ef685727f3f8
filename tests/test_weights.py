"""Weights on the disk: saving and loading changes no bit of a picture, and a bad file is neither written nor read."""
import json, os, shutil
import pytest, torch
from safetensors.torch import load_file, save_file
from gaugan_fastai import registry
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.encoder import StyleEncoder
from gaugan_fastai.layers import refresh_spectral
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.pretrained import from_pretrained, load_exactly, load_original, model_config, read_state, save_pretrained
from gaugan_fastai.segmenter import Segmenter, load_segmenter, save_segmenter

def loud(net, seed=0):
    "The network with weights large enough to paint something, so that a bit may change"
    torch.manual_seed(seed)
    for o in net.parameters(): torch.nn.init.normal_(o, std=.1 if o.ndim == 1 else 1.5/o[0].numel()**.5)
    return refresh_spectral(net).eval().requires_grad_(False)

def spade(**kwargs): return loud(SPADEGenerator(5, ngf=6, nhidden=12, **kwargs))
def sean(**kwargs): return loud(SEANGenerator(5, ngf=6, nhidden=12, style_dim=10, width=3, **kwargs))
def maps(size=64): return torch.randint(5, (2, size, size), generator=torch.Generator().manual_seed(1))
def odd_places(state): return {k: v.data_ptr() % 64 for k, v in state.items() if v.data_ptr() % 64}
def content(folder): return {str(o.relative_to(folder)): o.read_bytes() for o in sorted(folder.rglob('*')) if o.is_file()}

# -- the same bits -----------------------------------------------------------------------------------------------

@pytest.mark.numeric
@pytest.mark.parametrize('make', [spade, sean, lambda: spade(z_dim=7, size=64)], ids=['spade', 'sean', 'z'])
def test_saving_and_loading_changes_no_bit_of_a_picture(make, tmp_path):
    gen, args = make(), (maps(),)
    if gen.z_dim: args = *args, None, torch.ones(2, 7)
    folder = save_pretrained(gen, tmp_path/'model')
    assert odd_places(load_file(folder/'model.safetensors')), 'in the file they lie anywhere'
    back = from_pretrained(folder)
    assert odd_places(back.state_dict()) == {}
    assert torch.equal(back(*args), gen(*args))
    assert torch.equal(back.for_inference()(*args), gen.for_inference()(*args))

@pytest.mark.numeric
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_numbers_of_another_size_are_copied_too(dtype, tmp_path):
    gen = spade()
    rounded = {k: v.to(dtype) if v.is_floating_point() else v for k, v in gen.state_dict().items()}
    folder = save_pretrained(gen, tmp_path/'model')
    card = json.loads((folder/'model.json').read_text())
    (folder/'model.json').write_text(json.dumps({k: v for k, v in card.items() if k != 'sha256'}))
    save_file(rounded, folder/'model.safetensors')
    back, twin = from_pretrained(folder), spade()
    twin.load_state_dict({k: v.to(gen.state_dict()[k].dtype) for k, v in rounded.items()})
    assert odd_places(back.state_dict()) == {} and {v.dtype for v in back.parameters()} == {torch.float32}
    assert torch.equal(back(maps()), twin(maps()))

@pytest.mark.numeric
def test_a_checkpoint_is_copied_too(tmp_path):
    gen = spade()
    flat = torch.cat([v.float().flatten() for v in gen.state_dict().values()] + [torch.zeros(1)])
    parts = flat[1:].split([v.numel() for v in gen.state_dict().values()] + [0])   # views of one storage, one number off
    state = {k: p.copy_(v.flatten()).view(v.shape) for (k, v), p in zip(gen.state_dict().items(), parts)}
    torch.save(state, tmp_path/'net.pth')
    assert odd_places(torch.load(tmp_path/'net.pth')), 'views stay views'
    back = load_original(tmp_path/'net.pth')
    assert odd_places(back.state_dict()) == {} and torch.equal(back(maps()), gen(maps()))
    back.fc.bias.data.add_(1)
    assert torch.equal(load_exactly(spade(), state).fc.bias, gen.fc.bias), 'the copy is nobody else\'s'

@pytest.mark.numeric
def test_a_segmenter_reads_the_same(tmp_path):
    seg = Segmenter(4, nfs=(8, 8, 8, 8)).eval()
    back, x = load_segmenter(save_segmenter(seg, tmp_path/'seg')), torch.rand(1, 3, 64, 64)*2 - 1
    assert odd_places(back.state_dict()) == {}
    with torch.no_grad(): assert torch.equal(back(x), seg(x))

# -- what is kept beside the weights -----------------------------------------------------------------------------

class WithExtra(SPADEGenerator):
    def extra_state(self): return dict(usual=self.usual) if hasattr(self, 'usual') else {}
    def load_extra_state(self, extra): self.usual = extra['usual']

@pytest.fixture
def registered(monkeypatch):
    "The network of this file, for one test"
    registry.load_families()
    monkeypatch.setattr(registry, 'networks', dict(registry.networks))
    registry.register(WithExtra)

def test_extra_tensors_travel_with_the_weights(tmp_path, registered):
    gen = WithExtra(3, ngf=2, nhidden=4)
    assert not hasattr(from_pretrained(save_pretrained(gen, tmp_path/'none')), 'usual')
    gen.usual = torch.randn(3, 7)
    folder = save_pretrained(gen, tmp_path/'some')
    assert 'extra.usual' in load_file(folder/'model.safetensors')
    back = from_pretrained(folder)
    assert torch.equal(back.usual, gen.usual) and odd_places(dict(usual=back.usual)) == {}
    gen.usual[0] = float('nan')
    with pytest.raises(InputError, match='extra.usual'): save_pretrained(gen, folder)
    assert torch.equal(from_pretrained(folder).usual, back.usual)

def test_unusable_extra_tensors_are_an_input_error(tmp_path, registered):
    gen = WithExtra(3, ngf=2, nhidden=4)
    gen.extra_state = lambda: dict(other=torch.ones(2))
    with pytest.raises(InputError, match='unusable extra'): from_pretrained(save_pretrained(gen, tmp_path/'model'))
    (tmp_path/'plain').mkdir()
    plain = SPADEGenerator(3, ngf=2, nhidden=4)
    plain.extra_state = lambda: dict(other=torch.ones(2))
    with pytest.raises(InputError, match='unexpected 1 .extra.other'): from_pretrained(save_pretrained(plain, tmp_path/'plain'))

# -- all or nothing ----------------------------------------------------------------------------------------------

def styled():
    gen = SPADEGenerator(3, ngf=2, nhidden=4, z_dim=8, size=64)
    gen.__dict__['encoder'] = StyleEncoder(ndf=2, z_dim=8, size=32)
    return gen

def spoil(net):
    first = next(net.parameters()).data
    first[(0,)*first.ndim] = float('nan')

@pytest.mark.parametrize('how', ['generator', 'encoder', 'half', 'card', 'pair', 'meta'])
def test_a_refusal_to_save_leaves_everything(how, tmp_path):
    folder = save_pretrained(styled(), tmp_path/'model')
    before, gen, kwargs = content(tmp_path), styled(), {}
    if how == 'generator': spoil(gen)
    if how == 'encoder': spoil(gen.encoder)
    if how == 'half': gen.fc.bias.data[0], kwargs = 1e6, dict(half=True)
    if how == 'card': kwargs = dict(notes=object())
    if how == 'pair': gen.__dict__['encoder'] = StyleEncoder(ndf=2, z_dim=9, size=32)
    if how == 'meta': gen.to('meta')
    for o in (folder, tmp_path/'new/model'):
        with pytest.raises(InputError): save_pretrained(gen, o, **kwargs)
    assert content(tmp_path) == before and not (tmp_path/'new').exists()

@pytest.mark.parametrize('when', range(5))
def test_a_save_that_is_cut_off_is_noticed(when, tmp_path, monkeypatch):
    "Of the four renames the first `when` happen; then the power is gone"
    old, new = styled(), styled()
    folder, real, left = save_pretrained(old, tmp_path/'model'), os.replace, [when]
    def replace(*args):
        if not left[0]: raise KeyboardInterrupt
        left[0] -= 1
        real(*args)
    monkeypatch.setattr(os, 'replace', replace)
    try: save_pretrained(new, folder)
    except KeyboardInterrupt: pass
    if when in (0, 4):
        want, back = (old, new)[when == 4], from_pretrained(folder)
        for a, b in ((want, back), (want.encoder, back.encoder)):
            for x, y in zip(a.state_dict().values(), b.state_dict().values()): assert torch.equal(x, y)
    else:
        with pytest.raises(InputError, match='checksum'): from_pretrained(folder)

def test_a_full_disk_leaves_the_old_model(tmp_path, monkeypatch):
    folder = save_pretrained(styled(), tmp_path/'model')
    before, real = content(tmp_path), type(tmp_path).write_bytes
    def write_bytes(self, data):
        if 'encoder' in str(self): raise OSError(28, 'No space left on device')
        return real(self, data)
    monkeypatch.setattr(type(tmp_path), 'write_bytes', write_bytes)
    for o in (folder, tmp_path/'new'):
        with pytest.raises(InputError, match='No space left'): save_pretrained(styled(), o)
    assert content(tmp_path) == before and not (tmp_path/'new').exists()

def test_old_files_load(tmp_path):
    "Those without a checksum, as they were written before"
    folder = save_pretrained(styled(), tmp_path/'model')
    for fn in (folder/'model.json', folder/'encoder/model.json'):
        card = json.loads(fn.read_text())
        fn.write_text(json.dumps({k: v for k, v in card.items() if k != 'sha256'}))
    assert from_pretrained(folder).encoder.z_dim == 8
    for o in (load_original.__globals__['Path'](__file__).parent.parent/'data/weights').glob('*/model.json'): from_pretrained(o.parent)

def test_the_encoder_of_another_save_is_refused(tmp_path):
    one, two = (save_pretrained(styled(), tmp_path/o) for o in 'ab')
    shutil.rmtree(one/'encoder')
    shutil.copytree(two/'encoder', one/'encoder')
    with pytest.raises(InputError, match='not the encoder that was saved'): from_pretrained(one)

def test_a_refused_load_leaves_the_network(tmp_path):
    gen, other = spade(), loud(SPADEGenerator(5, ngf=6, nhidden=12), seed=1).state_dict()
    before = {k: v.clone() for k, v in gen.state_dict().items()}
    other['conv_img.bias'][0] = float('inf')
    for state in (other, {k: v for k, v in other.items() if k != 'conv_img.bias'}, other | {'conv_img.bias': torch.zeros(3, dtype=torch.int64)},
            other | {'conv_img.bias': torch.zeros(3, device='meta')}):
        with pytest.raises(InputError): load_exactly(gen, state)
        for k, v in gen.state_dict().items(): assert torch.equal(v, before[k]), k

# -- names that have grown ---------------------------------------------------------------------------------------

@pytest.mark.numeric
def test_wrapped_networks_are_read_exactly(tmp_path):
    gen = spade()
    wants = gen(maps())
    wrapped = dict(compiled=torch.compile(gen), parallel=torch.nn.DataParallel(gen), averaged=torch.optim.swa_utils.AveragedModel(gen),
        inside=torch.nn.ModuleDict(dict(netG=torch.nn.DataParallel(gen))), ours=torch.nn.ModuleDict(dict(generator=gen)))
    for name, o in wrapped.items():
        torch.save(o.state_dict(), tmp_path/'net.pth')
        assert torch.equal(load_original(tmp_path/'net.pth')(maps()), wants), name

@pytest.mark.numeric
def test_todays_spectral_norm_is_read_exactly(tmp_path):
    "A block whose convolutions carry the newer norm has the tensors of the older under other names, and the same sigma"
    from torch.nn.utils.parametrizations import spectral_norm
    gen, state = spade(), {}
    for k, v in gen.state_dict().items(): state[k] = v
    for name, m in gen.named_modules():
        if not hasattr(m, 'weight_orig'): continue
        fresh = torch.nn.Conv2d(m.in_channels, m.out_channels, m.kernel_size)
        fresh.weight.data = m.weight_orig.clone()
        newer = spectral_norm(fresh, eps=1e-12).eval()
        newer.parametrizations.weight[0]._u.copy_(m.weight_u)
        newer.parametrizations.weight[0]._v.copy_(m.weight_v)
        sigma = torch.dot(m.weight_u, m.weight_orig.flatten(1) @ m.weight_v)
        torch.testing.assert_close(newer.weight, m.weight_orig/sigma, rtol=1e-5, atol=1e-7)   # one division, its sum in another order
        for o in ('weight_orig', 'weight_u', 'weight_v'): del state[f'{name}.{o}']
        state |= {f'{name}.{k}': v for k, v in newer.state_dict().items() if k != 'bias'}
    torch.save(state, tmp_path/'net.pth')
    assert len(state) == len(gen.state_dict()) and any('parametrizations' in k for k in state)
    assert torch.equal(load_original(tmp_path/'net.pth')(maps()), gen(maps()))

@pytest.mark.parametrize('state, words', [
    ({f'{o}.fc.bias': torch.ones(1) for o in ('netG', 'netD')}, 'more than one network .netD, netG'),
    ({'module.fc.bias': torch.ones(1), 'fc.bias': torch.ones(1)}, 'twice, with and without a prefix'),
    ({'fc.parametrizations.weight.original0': torch.ones(1)}, 'no spectral norm'),
    ({'fc.weight': torch.ones(1).expand(10**6, 10**6)}, 'not all there'),
    ({'fc.weight': torch.ones(2).to_sparse()}, 'not all there'),
    ({3: torch.ones(2)}, 'state_dict is needed'), ({'fc.weight': 'ones'}, 'state_dict is needed'), ({}, 'state_dict is needed')], ids=str)
def test_what_cannot_be_read_exactly_is_refused_with_the_reason(state, words, tmp_path):
    torch.save(state, tmp_path/'net.pth')
    with pytest.raises(InputError, match=words): read_state(tmp_path/'net.pth')

# -- SEAN's upsampling, hostile files ----------------------------------------------------------------------------

@pytest.mark.numeric
def test_sean_of_another_depth(tmp_path):
    gen = sean(upsampling='more')
    torch.save(gen.state_dict(), tmp_path/'net.pth')
    back, codes = load_original(tmp_path/'net.pth', upsampling='more'), torch.randn(2, 5, 10)
    assert model_config(back) == model_config(gen) and back.factor == 64
    assert torch.equal(back(maps(128), codes), gen(maps(128), codes))
    assert load_original(tmp_path/'net.pth').upsampling == 'normal'
    with pytest.raises(InputError, match="SEAN knows 'normal' and 'more'"): load_original(tmp_path/'net.pth', upsampling='most')
    with pytest.raises(InputError, match='leave edges out'): load_original(tmp_path/'net.pth', edges=True)

@pytest.mark.parametrize('change', [{'fc.weight': torch.zeros(3)}, {'fc.weight': torch.zeros(2, 2)}, {'head_0.conv_0.bias': torch.zeros(3)},
    {'head_0.norm_0.mlp_shared.0.weight': torch.zeros(3)}, {'head_0.conv_0.bias': torch.tensor(1.)}], ids=str)
def test_odd_shapes_are_an_input_error(change, tmp_path):
    torch.save(spade().state_dict() | change, tmp_path/'net.pth')
    with pytest.raises(InputError): load_original(tmp_path/'net.pth')

def test_any_damage_to_a_saved_model_is_an_input_error(tmp_path):
    folder = save_pretrained(styled(), tmp_path/'model', LabelSpace('abc', void=None))
    for fn in sorted(folder.rglob('model.*')):
        whole = fn.read_bytes()
        for bad in (b'', whole[:len(whole)//2], b'\xff'*64, whole + b'x', b'null', b'['*10**5):
            fn.write_bytes(bad)
            with pytest.raises(InputError): from_pretrained(folder)
        fn.unlink()
        with pytest.raises(InputError): from_pretrained(folder)
        fn.write_bytes(whole)
    from_pretrained(folder)

@pytest.mark.parametrize('key, value', [('model', 3), ('model', []), ('config', None), ('config', []), ('config', {'n_classes': -3}), ('config', {'n_classes': 3, 'ngf': 1e9}),
    ('config', {'n_classes': 3, 'ks': 'x'}), ('config', {'n_classes': 3, 'size': 'abc', 'z_dim': 4}), ('labels', 3), ('labels', {}), ('labels', {'codes': 3, 'palette': 0, 'void': 0, 'decode': 0}),
    ('labels', {'codes': ['a'], 'palette': [[0, 0, 0]], 'void': None, 'decode': {'x': 'a'}}), ('encoder', 3), ('encoder', '..'), ('encoder', '.'), ('encoder', '/'), ('sha256', 3), ('sha256', {'model.safetensors': 3}), ('format', 2)], ids=str)
def test_any_card_that_says_nonsense_is_an_input_error(key, value, tmp_path):
    folder = save_pretrained(styled(), tmp_path/'model')
    card = json.loads((folder/'model.json').read_text())
    (folder/'model.json').write_text(json.dumps(card | {key: value}))
    with pytest.raises(InputError): from_pretrained(folder)

# -- segmenters --------------------------------------------------------------------------------------------------

def test_a_refusal_to_save_a_segmenter_leaves_the_old_one(tmp_path):
    folder, seg = save_segmenter(Segmenter(4, nfs=(8, 8, 8, 8)), tmp_path/'seg'), Segmenter(4, nfs=(8, 8, 8, 8))
    before = content(tmp_path)
    spoil(seg)
    with pytest.raises(InputError, match='the segmenter holds numbers that are none'): save_segmenter(seg, folder)
    odd = Segmenter(4, nfs=(8, 8, 8, 8))
    odd.card = dict(scores=object())
    with pytest.raises(InputError, match='cannot be written as JSON'): save_segmenter(odd, folder)
    assert content(tmp_path) == before

def test_segmenter_and_card_belong_together(tmp_path):
    one, two = (save_segmenter(Segmenter(4, nfs=(8, 8, 8, n)), tmp_path/str(n)) for n in (8, 9))
    fn = one/'segmenter.json'
    card = json.loads(fn.read_text())
    fn.write_text(json.dumps({k: v for k, v in card.items() if k != 'sha256'}))
    load_segmenter(one)                                                       # as it was written before
    for bad in ('[]', '{}', '3', json.dumps(card | dict(sha256='0'*64)), json.dumps(card | dict(nfs=3)), json.dumps(card | dict(n_out='x'))):
        fn.write_text(bad)
        with pytest.raises(InputError, match='holds no segmenter'): load_segmenter(one)
    shutil.copy(two/'segmenter.safetensors', one)
    fn.write_text(json.dumps(card))
    with pytest.raises(InputError, match='another checksum'): load_segmenter(one)

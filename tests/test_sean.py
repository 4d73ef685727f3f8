"""SEAN against the reference fixtures, the paper's loops, and bad input."""
import json, pickle, zlib
from copy import deepcopy

import numpy as np, pytest, torch
from safetensors.torch import load_file
from torch.nn import functional as F

from conftest import shared_path
from gaugan_fastai.ace import SEAN, SEANResBlk, region_styles
from gaugan_fastai.core import InputError
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.sean import StyleEncoder, region_means

TOL = 5e-5
CASES = ['recipe/face64', 'recipe/batchnorm_name64', 'real/celeba256']
BUFFERS = 'weight_u', 'weight_v', 'running_mean', 'running_var', 'num_batches_tracked'
def is_param(k): return k.split('.')[-1] not in BUFFERS
def gap(a, b): return (a - b).abs().max().item()

def recipe(name, shape, seed, noise=.1):
    "The parameter `name` of a fixture whose weights come from a formula (reference/README.md)"
    g = np.random.RandomState(zlib.crc32(f'{seed}|{name}'.encode()) & 0xffffffff).standard_normal(tuple(shape))
    last = name.split('.')[-1]
    if last.startswith('blending_'): v = .5*g
    elif last == 'noise_var': v = noise*g
    elif last == 'bias': v = .1*g
    else:
        reads_labels = 'mlp_shared' in name or name == 'fc.weight'
        v = g/np.sqrt(shape[2]*shape[3] if reads_labels else np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(v)).float()

def reference(case):
    "(json, tensors, state) of `case`"
    stem = shared_path('reference', 'sean')/case
    info, tensors = json.loads(stem.with_suffix('.json').read_text()), load_file(stem.with_suffix('.safetensors'))
    keys, words = json.loads(stem.with_suffix('.keys.json').read_text()), info['weights'].split()
    noise = float(words[words.index('scale') + 1].strip(')'))
    state = {k: recipe(k, shape, words[2], noise) for k, shape in keys.items() if is_param(k)}
    state.update(load_file(f'{stem}.buffers.safetensors'))
    return info, tensors, state

def build(info, state):
    o = info['options']
    with torch.device('meta'): gen = SEANGenerator(o['label_nc'], o['ngf'])
    want = gen.state_dict()
    counters = {k: torch.tensor(0) for k in want if k.endswith('num_batches_tracked')}
    state = counters | {k: v.clone() for k, v in state.items()}
    surplus = {k for k in state if k not in want}
    assert all('.fc_mu' in k and int(k.split('.fc_mu')[1].split('.')[0]) >= o['label_nc'] for k in surplus)
    gen.load_state_dict({k: state[k] for k in want}, assign=True)
    return gen

def image(u8): return (u8.float()/255 - .5)/.5

def noises(info, tensors, prefix='noise'):
    if f'{prefix}0' in tensors: return [tensors[f'{prefix}{i}'] for i in range(18)]
    draw = lambda i, shape: np.random.RandomState(zlib.crc32(f'{info["input_seed"]}|noise{i}'.encode())).standard_normal(shape)
    return [torch.from_numpy(draw(i, o)).float() for i, o in enumerate(info['results']['noise_shapes'])]

@pytest.mark.parametrize('exact', [True, False])
@pytest.mark.parametrize('case', CASES)
@torch.no_grad()
def test_fixture(case, exact, monkeypatch):
    monkeypatch.setattr(SEAN, 'exact', exact)
    info, t, state = reference(case)
    gen, segmap, photo = build(info, state).eval(), t['label'][:, 0].long(), image(t['image_u8'])
    codes, noise, diffs = gen.encode(photo, segmap), noises(info, t), {}
    diffs['codes'] = gap(codes, t['style_codes'])
    diffs['out_eval'] = gap(gen(segmap, codes, noise), t['out_eval'])
    if 'out_train1' in t:
        twin = deepcopy(gen).train()
        diffs['out_train1'] = gap(twin(segmap, photo, noises(info, t, 'train_noise')), t['out_train1'])
        after = {k.removeprefix('after1.'): v for k, v in t.items() if k.startswith('after1.')}
        now = twin.state_dict()
        diffs['after1'] = max(gap(now[k], v) for k, v in after.items() if not k.endswith('tracked'))
    if 'ui_codes' in t: diffs |= by_hand(gen, segmap, codes, noise, t)
    print(case, exact, {k: f'{v:.1e}' for k, v in diffs.items()})
    assert max(diffs.values()) < TOL, diffs

def by_hand(gen, segmap, codes, noise, t):
    "Fixtures without noise, and with codes mixed by hand: odd labels take those of another photo"
    for m in gen.modules():
        if isinstance(m, SEAN): m.noise_var.data.zero_()
    other = gen.encode(image(t['ui_ref_image_u8']), segmap[:1])[0]
    odd = torch.arange(gen.n_classes)[:, None] % 2 == 1
    mixed = torch.where(odd, other, codes[0])
    out = gen(segmap[:1], mixed[None], [o[:1] for o in noise])
    return dict(noise_var_zero=gap(gen(segmap, codes, noise), t['out_eval_noise_var_zero']), ui_codes=gap(mixed, t['ui_codes']),
        ui_out=gap(out, t['ui_out_noise_var_zero']))

@pytest.mark.parametrize('case', CASES[:2])
@torch.no_grad()
def test_inference_copy(case):
    info, t, state = reference(case)
    fast, segmap, noise = build(info, state).for_inference(), t['label'][:, 0].long(), noises(info, t)
    codes = t['style_codes']
    assert not any('weight_' in k for k in fast.state_dict()) and not fast.training
    again = pickle.loads(pickle.dumps(fast))
    for _ in range(2): assert gap(again(segmap, codes, noise), t['out_eval']) < TOL
    other = again(segmap.flip(2), codes, noise)
    assert gap(other, fast(segmap.flip(2), codes.clone(), noise)) < 1e-6 and gap(other, t['out_eval']) > .01
    assert gap(again(segmap, codes, noise), t['out_eval']) < TOL
    codes.neg_()                                   # a caller may write into its tensor
    assert gap(again(segmap, codes, noise), t['out_eval']) > .01

def test_published_keys():
    info = json.loads(shared_path('reference', 'keys', 'sean_celebamaskhq.json').read_text())
    with torch.device('meta'): gen = SEANGenerator(19)
    assert [(k, list(v.shape)) for k, v in gen.state_dict().items()] == list(info['G'].items())
    assert sum(o.numel() for o in gen.parameters()) == info['n_parameters']['G']

def test_critic():
    from gaugan_fastai.pretrained import load_original
    t = load_file(shared_path('reference', 'sean', 'disc', 'disc.safetensors'))
    critic = load_original(shared_path('reference', 'sean', 'disc', 'latest_net_D.pth'), family='sean')
    segmap = t['label'][:, 0].long()
    fake_real = torch.cat([image(t['fake_u8']), image(t['real_u8'])])
    with torch.no_grad(): scales = critic(segmap.repeat(2, 1, 1), fake_real)
    for i, feats in enumerate(scales):
        for j, f in enumerate(feats):
            for o, name in zip(f.chunk(2), ('fake', 'real')): assert gap(o, t[f'eval.{name}.D{i}.L{j}']) < TOL

class Replayed(SEANGenerator):
    "Takes the noise of a training trace, 18 maps a forward"
    def _draws(self, noise, maps):
        from gaugan_fastai.sean import NoiseMaps
        maps, self.noises = self.noises[:18], self.noises[18:]
        return NoiseMaps(maps, True)

@pytest.mark.parametrize('exact', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_trace(dtype, exact, monkeypatch):
    from test_learner import FixedBatches, Trace
    from gaugan_fastai.critics import MultiScaleCritic
    from gaugan_fastai.losses import hinge
    from gaugan_fastai.models.sean import SEANLearner, feature_matching_term
    monkeypatch.setattr(SEAN, 'exact', exact)
    info = json.loads(shared_path('reference', 'sean', 'train', 'ttur64.json').read_text())
    t = {k: v.to(dtype) if v.is_floating_point() else v for k, v in load_file(shared_path('reference', 'sean', 'train', 'ttur64.safetensors')).items()}
    stats = json.loads(shared_path('reference', 'sean', 'train', 'ttur64.stats.json').read_text())
    gen, critic = Replayed(19, 1), MultiScaleCritic(19, 4, n_layers=3, strides=(2, 2, 2))
    for net, name in ((gen, 'G'), (critic, 'D')):
        state = {k: recipe(k, p.shape, f'241{name}') for k, p in net.named_parameters()}
        state |= {k.removeprefix(f'init_{name}.'): v for k, v in t.items() if k.startswith(f'init_{name}.')}
        left = net.load_state_dict(state, strict=False)
        assert not left.unexpected_keys and all('tracked' in k or 'Spade.param_free' in k for k in left.missing_keys)
        net.to(dtype)
    gen.noises = [t[f'noise{i}'] for i in range(72)]
    photo = lambda i: ((t[f'step{i}.real_u8'].to(torch.float32)/255 - .5)/.5).to(dtype)
    batches = [(t[f'step{i}.label'][:, 0].long(), photo(i)) for i in range(2)]
    learn = SEANLearner(FixedBatches(batches), gen, critic, hinge, dict(feat=feature_matching_term(10.)), cbs=Trace())
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    double = dtype == torch.float64
    for got, want in zip(learn.trace.losses, info['losses_fp64' if double else 'losses_fp32'], strict=True):
        got = dict(GAN=got['gan'], GAN_Feat=got['feat'], D_Fake=got['critic_fake'], D_real=got['critic_real'])
        for k, v in want.items(): assert abs(got[k] - v) < (1e-6 if double else 1e-4)*max(abs(v), .1), (k, got[k], v)
    assert gap(learn.trace.fakes[0], t['step0.generated']) < 2e-5 and gap(learn.trace.fakes[1], t['step1.generated']) < 1e-3
    assert not gen.noises
    if double: check_stats(learn, stats)

def check_stats(learn, stats):
    "Final parameters and buffers of the float64 run, by their samples"
    for name, net in (('G', learn.model.generator), ('D', learn.model.critic)):
        grads, final, state = stats['grads_step0_fp64'][name], stats['final_params_fp64'][name], net.state_dict()
        unused = 'num_batches_tracked', 'Spade.param_free_norm'
        assert all('.fc_mu' in k or any(o in k for o in unused) for k in state.keys() ^ final.keys())
        for k, want in final.items():
            if any(o in k for o in unused): continue
            flat, n = state[k].flatten(), len(want['samples'])
            got = flat[torch.linspace(0, flat.numel() - 1, n).round().long()].double()
            # a true gradient of zero (biases before a norm) leaves rounding noise, which Adam blows up to a step of lr
            tol = 2*4e-4*1.01 if grads.get(k, dict(l2=1))['l2'] < 1e-12 else 1e-7
            assert gap(got, torch.tensor(want['samples'], dtype=torch.float64)) < tol, k

def test_absent_classes_have_no_gradient():
    "As in the original: Adam does not touch the style layers of classes that a batch lacks"
    info = json.loads(shared_path('reference', 'sean', 'train', 'ttur64.json').read_text())
    t = load_file(shared_path('reference', 'sean', 'train', 'ttur64.safetensors'))
    gen = SEANGenerator(19, 1)
    gen(t['step0.label'][:, 0].long(), image(t['step0.real_u8'])).sum().backward()
    without = {k for k, p in gen.named_parameters() if p.grad is None}
    assert without == set(info['G_params_without_grad_at_step0'])

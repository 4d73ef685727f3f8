"""The SEAN cases of the reference data, run through our networks: each gives its largest differences by name.

`test_sean.py` asserts that they are small and `tools/fixtures.py` prints them. Nothing here is a test by itself."""
import json, zlib
from copy import deepcopy

import numpy as np, torch
from safetensors.torch import load_file

from conftest import shared_path
from gaugan_fastai.ace import SEAN
from gaugan_fastai.models.sean import SEANGenerator

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

@torch.no_grad()
def generator_gaps(case):
    "Largest differences of codes, pictures and buffers from the fixture `case`, by name"
    info, t, state = reference(case)
    gen, segmap, photo = build(info, state).eval(), t['label'][:, 0].long(), image(t['image_u8'])
    codes, noise, diffs = gen.encode(photo, segmap), noises(info, t), {}
    diffs['codes'] = gap(codes, t['style_codes'])
    diffs['out_eval'] = gap(gen(segmap, codes, noise), t['out_eval'])
    diffs['for_inference'] = gap(gen.for_inference()(segmap, codes, noise), t['out_eval'])
    if 'out_train1' in t:
        twin = deepcopy(gen).train()
        diffs['out_train1'] = gap(twin(segmap, photo, noises(info, t, 'train_noise')), t['out_train1'])
        after = {k.removeprefix('after1.'): v for k, v in t.items() if k.startswith('after1.')}
        now = twin.state_dict()
        diffs['after1'] = max(gap(now[k], v) for k, v in after.items() if not k.endswith('tracked'))
    if 'ui_codes' in t: diffs |= by_hand(gen, segmap, codes, noise, t)
    return diffs

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

@torch.no_grad()
def critic_gaps():
    "Largest differences of SEAN's critic, layer by layer"
    from gaugan_fastai.pretrained import load_original
    t = load_file(shared_path('reference', 'sean', 'disc', 'disc.safetensors'))
    critic = load_original(shared_path('reference', 'sean', 'disc', 'latest_net_D.pth'), family='sean')
    segmap = t['label'][:, 0].long()
    scales, diffs = critic(segmap.repeat(2, 1, 1), torch.cat([image(t['fake_u8']), image(t['real_u8'])])), {}
    for i, feats in enumerate(scales):
        for j, f in enumerate(feats):
            for o, name in zip(f.chunk(2), ('fake', 'real')): diffs[f'{name}.D{i}.L{j}'] = gap(o, t[f'eval.{name}.D{i}.L{j}'])
    return diffs

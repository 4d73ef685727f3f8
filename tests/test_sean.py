"""SEAN against the reference fixtures, the paper's loops, and bad input."""
import json, pickle
from copy import deepcopy

import numpy as np, pytest, torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from conftest import once_but, shared_path
from sean_cases import CASES, TOL, build, critic_gaps, gap, generator_gaps, image, noises, recipe, reference
from gaugan_fastai.ace import SEAN, SEANResBlk, region_styles
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.models.sean import SEANGenerator, sean_learner
from gaugan_fastai.sean import RegionEncoder, region_means

pytestmark = pytest.mark.numeric

@pytest.fixture
def exact(request):
    with ways(request.param): yield request.param

@pytest.mark.parametrize('case, exact', once_but([(o, True) for o in CASES[:2]],
    [(o, e) for o in CASES for e in (True, False) if e or not o.startswith('real')]),   # dense at 256x256 is slow and no other sum
    indirect=['exact'])
def test_fixture(case, exact):
    diffs = generator_gaps(case)
    assert max(diffs.values()) < TOL, diffs

@pytest.mark.parametrize('case', once_but(CASES[1:2], CASES[:2]))
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
    for copied in (deepcopy(again), pickle.loads(pickle.dumps(again))):   # after painting, with all that is kept
        assert gap(copied(segmap, codes, noise), t['out_eval']) < TOL
    codes.neg_()                                   # a caller may write into its tensor
    assert gap(again(segmap, codes, noise), t['out_eval']) > .01

def test_learner_paints_from_files(tmp_path):
    "Codes of a photo and its map, both files, for another map; styles and seeds of whole pictures are refused"
    scenes = [draw_landscape(i, 64) for i in (0, 1)]
    for i, o in enumerate(scenes): Image.fromarray(o.photo).save(tmp_path/f'{i}.jpg'), Image.fromarray(o.segmap.astype(np.uint8)).save(tmp_path/f'{i}.png')
    learn = sean_learner(PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=64, bs=2), ngf=4, nhidden=8, style_dim=8, width=4, ndf=8, perceptual=None)
    codes = learn.encode(tmp_path/'0.jpg', tmp_path/'0.png')
    absent = [i for i in range(19) if i not in np.unique(scenes[0].segmap)]
    assert codes.shape == (19, 8) and torch.equal(codes[absent], learn.usual_codes()[absent])
    assert learn.predict(tmp_path/'1.png', codes=codes).size == (64, 64)
    with pytest.raises(InputError, match='codes=learn.encode'): learn.predict(tmp_path/'1.png', style=tmp_path/'0.jpg')

def test_published_keys():
    info = json.loads(shared_path('reference', 'keys', 'sean_celebamaskhq.json').read_text())
    with torch.device('meta'): gen = SEANGenerator(19)
    assert [(k, list(v.shape)) for k, v in gen.state_dict().items()] == list(info['G'].items())
    assert sum(o.numel() for o in gen.parameters()) == info['n_parameters']['G']

def test_critic():
    diffs = critic_gaps()
    assert len(diffs) == 16 and max(diffs.values()) < TOL, diffs

class Replayed(SEANGenerator):
    "Takes the noise of a training trace, 18 maps a forward"
    def _draws(self, noise, maps):
        from gaugan_fastai.sean import NoiseMaps
        maps, self.noises = self.noises[:18], self.noises[18:]
        return NoiseMaps(maps, True)

@pytest.mark.parametrize('exact', once_but([True], [True, False]), indirect=True)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_trace(dtype, exact):
    from test_learner import FixedBatches, Trace
    from gaugan_fastai.critics import MultiScaleCritic
    from gaugan_fastai.losses import hinge
    from gaugan_fastai.models.sean import SEANLearner, feature_matching_term
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

@pytest.mark.once
def test_absent_classes_have_no_gradient():
    "As in the original: Adam does not touch the style layers of classes that a batch lacks"
    info = json.loads(shared_path('reference', 'sean', 'train', 'ttur64.json').read_text())
    t = load_file(shared_path('reference', 'sean', 'train', 'ttur64.safetensors'))
    gen = SEANGenerator(19, 1)
    gen(t['step0.label'][:, 0].long(), image(t['step0.real_u8'])).sum().backward()
    without = {k for k, p in gen.named_parameters() if p.grad is None}
    assert without == set(info['G_params_without_grad_at_step0'])

# checkpoints

@pytest.mark.parametrize('case', once_but(CASES[1:2], CASES[:2]))
def test_load_original(case, tmp_path, recwarn):
    from gaugan_fastai.models.sean import original_state
    from gaugan_fastai.pretrained import from_pretrained, load_original, save_pretrained
    info, t, state = reference(case)
    torch.save(state, tmp_path/'latest_net_G.pth')
    K, segmap = info['options']['label_nc'], t['label'][:, 0].long()
    for family in ('sean', None):
        gen = load_original(tmp_path/'latest_net_G.pth', family=family)
        assert gen.n_classes == K and not gen.training and len(gen.surplus) == (19 - K)*15*2
        with torch.no_grad(): assert gap(gen(segmap, t['style_codes'], noises(info, t)), t['out_eval']) < TOL
    assert sum('11 more style layers' in str(w.message) for w in recwarn) == (K == 8)
    back = original_state(gen)
    assert list(back) == list(json.loads((shared_path('reference', 'sean')/f'{case}.keys.json').read_text()))
    assert all(torch.equal(v, state[k]) for k, v in back.items() if k in state)
    again = from_pretrained(save_pretrained(gen, tmp_path/'saved'))
    assert all(torch.equal(v, gen.state_dict()[k]) for k, v in again.state_dict().items())

@pytest.mark.parametrize('gone', ['head_0.ace_0.Spade.mlp_shared.0.weight', 'up_0.ace_1.fc_mu3.bias'])
def test_load_original_incomplete(gone, tmp_path):
    from gaugan_fastai.pretrained import load_original
    state = dict(SEANGenerator(5, 1, 8, 4, 2).state_dict())
    state.pop(gone)
    torch.save(state, tmp_path/'G.pth')
    with pytest.raises(InputError, match=gone): load_original(tmp_path/'G.pth')

def test_exports_with_old_names(tmp_path):
    "Learners and networks that were pickled when the encoder had another name and the generator stood in `models.sean`"
    gen = SEANGenerator(5, 1, 8, 4, 2)
    assert isinstance(gen.Zencoder, RegionEncoder)
    text = pickle.dumps(gen, protocol=0)
    old = text.replace(b'models.sean_generator\n', b'models.sean\n').replace(b'RegionEncoder\n', b'StyleEncoder\n')
    assert old.count(b'models.sean\n') == text.count(b'models.sean_generator\n') > 0 and b'RegionEncoder' not in old
    with pytest.warns(DeprecationWarning, match='StyleEncoder is called RegionEncoder now'): again = pickle.loads(old)
    assert type(again) is SEANGenerator and type(again.Zencoder) is RegionEncoder
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in gen.state_dict().items())

# the paper's loops, any number of classes, gradients

def style_map_loop(layer, ids, codes):
    "SEAN's style map as the paper says it: for each image and class"
    painted = codes.new_zeros(len(ids), layer.style_dim, *ids.shape[1:])
    for b, segmap in enumerate(ids):
        for k in range(layer.n_classes):
            here = segmap == k
            if here.any(): painted[b, :, here] = getattr(layer, f'fc_mu{k}')(codes[b, k]).relu()[:, None]
    return painted

def sean_loop(layer, x, segmap, codes, noise):
    "SEAN's block with the loops, all convolutions dense"
    ids = F.interpolate(segmap[:, None].double(), x.shape[-2:])[:, 0].long()
    planes = F.one_hot(ids, layer.n_classes).permute(0, 3, 1, 2).to(x)
    actv = layer.Spade.mlp_shared(planes)
    gamma, beta = layer.Spade.mlp_gamma(actv), layer.Spade.mlp_beta(actv)
    if layer.styled:
        painted = style_map_loop(layer, ids, codes)
        a, b = layer.blending_gamma.sigmoid(), layer.blending_beta.sigmoid()
        gamma, beta = a*layer.conv_gamma(painted) + (1 - a)*gamma, b*layer.conv_beta(painted) + (1 - b)*beta
    x = x + (noise*layer.noise_var).transpose(1, 3)
    return layer.param_free_norm(x)*(1 + gamma) + beta

def region_means_loop(features, segmap, n):
    ids = F.interpolate(segmap[:, None].double(), features.shape[-2:])[:, 0].long()
    res = features.new_zeros(len(ids), n, features.shape[1])
    for b in range(len(ids)):
        for k in range(n):
            if (ids[b] == k).any(): res[b, k] = features[b, :, ids[b] == k].mean(1)
    return res

def blobs(n, B, h, w, cells=8):
    "Label maps of Voronoi cells"
    at, own = torch.rand(B, cells, 2)*torch.tensor([h, w]), torch.randint(0, n, (B, cells))
    grid = torch.stack(torch.meshgrid(torch.arange(h), torch.arange(w), indexing='ij'), -1).float().view(1, -1, 2)
    return own.gather(1, torch.cdist(grid.expand(B, -1, -1), at).argmin(2)).view(B, h, w)

@pytest.mark.parametrize('n,S,B,size', [(3, 5, 1, (24, 40)), (19, 16, 3, (32, 32)), (150, 7, 2, (16, 48)), (1, 1, 2, (8, 8))])
@pytest.mark.parametrize('styled', [True, False])
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kind', ['cells', 'confetti', 'one class'])
def test_block_equals_loops(n, S, B, size, styled, training, kind):
    torch.manual_seed(n + B)
    segmap = dict(cells=lambda: blobs(n, B, *size), confetti=lambda: torch.randint(0, n, (B, *size)))
    segmap = segmap[kind]() if kind in segmap else torch.full((B, *size), n - 1)
    layer = SEAN(6, n, S, 8, styled).double().train(training)
    for p in layer.parameters(): p.data.normal_()
    layer.param_free_norm.running_mean.normal_(), layer.param_free_norm.running_var.uniform_(.5, 2)
    x, codes = torch.randn(B, 6, *(o//2 for o in size)).double(), torch.randn(B, n, S).double()
    noise, back = torch.randn(B, size[1]//2, size[0]//2, 1).double(), torch.randn_like(x)
    results = []
    for f in (layer, partial_dense(layer), lambda *args: sean_loop(twin(layer), *args)):
        layer.zero_grad()
        xs, cs = x.clone().requires_grad_(), codes.clone().requires_grad_()
        norm = deepcopy(layer.param_free_norm)
        out = f(xs, segmap, cs, noise)
        (out*back).sum().backward()
        grads = {k: p.grad for k, p in layer.named_parameters()} | dict(x=xs.grad, codes=cs.grad)
        results.append((out, grads, layer.param_free_norm.running_var.clone()))
        layer.param_free_norm = norm
    for out, grads, var in results[:2]:
        assert gap(out, results[2][0]) < 1e-9 and gap(var, results[2][2]) < 1e-12
        for k, g in results[2][1].items():
            if g is None or grads[k] is None: assert (g is None or not g.any()) and (grads[k] is None or not grads[k].any()), k
            else: assert gap(g, grads[k]) < 1e-8*max(1, g.abs().max()), k

def twin(layer): return layer
def partial_dense(layer):
    return ways(exact=False)(layer)

@pytest.mark.parametrize('n,B', [(4, 3), (184, 2)])
def test_region_means_equal_loops(n, B):
    torch.manual_seed(0)
    segmap, feats = blobs(n, B, 40, 24), torch.randn(B, 5, 20, 12).double()
    assert gap(region_means(feats, segmap, n), region_means_loop(feats, segmap, n)) < 1e-12

def test_generator_modes():
    "float32 by patterns, kept tables, wide maps, codes per block, drawn noise"
    torch.manual_seed(0)
    gen = SEANGenerator(7, 2, 12, 8, 2).eval()
    for m in gen.modules():
        if isinstance(m, SEAN):
            for p in m.parameters(): p.data.normal_(0, .3)
    segmap, codes = blobs(7, 3, 64, 96), torch.randn(3, 7, 12)
    with torch.no_grad():
        want, fast = gen(segmap, codes), gen.for_inference()
        assert want.shape == (3, 3, 64, 96) and torch.equal(want, gen(segmap, codes))
        for _ in range(2): assert gap(fast(segmap, codes), want) < 1e-5
        assert gap(fast(segmap, [codes]*6), want) < 1e-5
        other = gen(segmap, [codes]*5 + [-codes])
        assert gap(fast(segmap, [codes]*5 + [-codes]), other) < 1e-5 and gap(other, want) > 1e-3
        draw = lambda seed: gen(segmap, codes, torch.Generator().manual_seed(seed))
        assert torch.equal(draw(1), draw(1)) and gap(draw(1), draw(2)) > 1e-4
        assert gap(gen.double()(segmap, codes.double()), want.double()) < 1e-4

SEG, CODES = torch.zeros(2, 64, 64, dtype=torch.long), torch.zeros(2, 5, 8)
BAD = {'classes': (dict(segmap=SEG + 5), 'class 5.*5 classes'), 'size': (dict(segmap=SEG[:, :50]), '50x64'),
    'codes of a photo': (dict(codes=CODES[0]), r'\(5, 8\).*\(2, 5, 8\).*encode'), 'code length': (dict(codes=CODES[..., :3]), r'\(2, 5, 3\)'),
    'codes as list': (dict(codes=[CODES]*3), '3 codes.*6 blocks'), 'codes no tensor': (dict(codes='red'), 'str'),
    'noise too short': (dict(noise=[torch.zeros(2, 2, 2, 1)]), 'holds 1 maps'), 'noise shape': (dict(noise=[torch.zeros(2, 1, 2, 2)]*18), r'\(2, 1, 2, 2\)'),
    'noise too long': (dict(noise='many'), '19 maps'), 'noise kind': (dict(noise=3), 'int.*Generator')}

@pytest.mark.parametrize('what', BAD)
def test_bad_input(what):
    call, words = BAD[what]
    gen = SEANGenerator(5, 1, 8, 4, 2).eval()
    call = dict(segmap=SEG, codes=CODES) | call
    if call.get('noise') == 'many': call['noise'] = [torch.zeros(2, s, s, 1) for s in [2]*2 + [4]*4 + [8]*3 + [16]*3 + [32]*3 + [64]*4]
    with pytest.raises(InputError, match=words), torch.no_grad(): gen(**call)

def test_bad_encode():
    gen = SEANGenerator(5, 1, 8, 4, 2)
    with pytest.raises(InputError, match=r'\(2, 3, 32, 64\)'): gen.encode(torch.zeros(2, 3, 32, 64), SEG)
    with pytest.raises(InputError, match="'most'"): SEANGenerator(5, upsampling='most')
    with pytest.raises(InputError, match='style_dim is 0'): SEANGenerator(5, style_dim=0)

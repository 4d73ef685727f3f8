"""The exact path in use: whole layers, blocks and painters against the dense path, and the company it must keep (threads, hooks, copies,
autocast, compilers, processes). Numbering, sums and the modulation alone: `test_patterns.py`."""
import copy, io, pickle
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial

import pytest
import torch, torch.nn.functional as F
from fastai.vision.all import Callback, Path
from hypothesis import given, settings, strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import spectral_norm
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import once_but
from test_patterns import coco_map, hashed_noise, lively, make, maps_of, rel, voronoi
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.fast import memory
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.fast.convs import PatchConv2d
from gaugan_fastai.fast.winograd import QuickConv2d, WinogradConv2d, quick_convs
from gaugan_fastai.layers import spectral
from gaugan_fastai.losses import feature_matching, hinge
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.spade import SPADE, SPADEResBlk
from gaugan_fastai.turns import SynthesisGAN, critic_turn, generator_turn

pytestmark = pytest.mark.numeric
quick = partial(settings, deadline=None, derandomize=True)

def set_exact(model, exact):
    "Copy `model`, which then computes by patterns or plainly, whatever is asked for around it"
    model = copy.deepcopy(model)
    model.forward = ways(exact)(model.forward)
    return model

def outcome(model, exact, dtype, x, *args, **kwargs):
    "Output, and gradients by name, of a fixed function of the output"
    model, x = set_exact(model, exact).to(dtype), x.to(dtype).requires_grad_()
    out = model(x, *args, **kwargs)
    (out*torch.cos(torch.arange(out.numel()).view(out.shape)).to(out)).sum().backward()
    return out.detach().double(), {'x': x.grad.double(), **{n: p.grad.double() for n, p in model.named_parameters()}}

def errors(true, res):
    """Relative error of the output, and the worst of the gradients.

    A bias before a norm has no gradient but rounding noise, some units of the last digit of the largest: errors below 1e-2 of that count by it,
    so that 1e-3 in float32 means 1e-5 of the largest gradient, 170 units."""
    (y, dy), (z, dz) = true, res
    floor = 1e-2*max(o.norm() for o in dy.values())
    return ((z - y).norm()/max(y.norm(), 1e-3)).item(), max(((dz[n] - d).norm()/max(d.norm(), floor)).item() for n, d in dy.items())

def compare(model, x, *args, **kwargs):
    "By patterns: 1e-10 of the dense result in float64; in float32 outputs within 1e-4 and gradients within 1e-3 of it"
    true = outcome(model, False, torch.float64, x, *args, **kwargs)
    assert max(errors(true, outcome(model, True, torch.float64, x, *args, **kwargs))) < 1e-10
    out, grad = errors(true, outcome(model, True, torch.float32, x, *args, **kwargs))
    assert out < 1e-4 and grad < 1e-3

def natural(model):
    "Biases that are not 0"
    for n, p in model.named_parameters():
        if p.ndim == 1: nn.init.normal_(p, std=.3)
    return model


# --- layers and blocks

@quick(max_examples=60)
@given(maps_of, st.booleans(), st.sampled_from([None, .2, .01]), st.sampled_from(['batch', 'instance']), st.booleans())
def test_spade_with_doubling_and_slope(o, double, slope, norm, train):
    seg, edges = make(o)
    size = [max(n//2 if double else n, 2) for n in (o['H'], o['W'])]
    torch.manual_seed(o['seed'])
    layer = natural(SPADE(5, o['K'], nhidden=6, norm=norm, edges=o['edges'])).train(train)
    compare(layer, torch.randn(o['B'], 5, *size)*2 + .5, seg, edges, double=double, slope=slope)

@quick(max_examples=40)
@given(maps_of, st.sampled_from([(6, 6), (6, 4), (4, 6)]), st.booleans(), st.booleans(), st.booleans())
def test_block_with_and_without_a_shortcut(o, widths, sn, double, train):
    seg, edges = make(o)
    size = [max(n//2 if double else n, 2) for n in (o['H'], o['W'])]
    torch.manual_seed(o['seed'])
    block = natural(SPADEResBlk(*widths, o['K'], spectral_norm=sn, nhidden=6, edges=o['edges'])).train(train)
    assert hasattr(block, 'conv_s') == (widths[0] != widths[1])
    compare(block, torch.randn(o['B'], widths[0], *size), seg, edges, double=double)

@quick(max_examples=60)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 20), st.integers(1, 20), st.booleans(), st.booleans())
def test_winograd_at_any_shape(B, C, O, H, W, bias, last):
    torch.manual_seed(B + C + O + H + W)
    plain = nn.Conv2d(C, O, 3, padding=1, bias=bias).requires_grad_(False)
    fast = quick_convs(nn.Sequential(copy.deepcopy(plain)))[0]
    fast.wide = fast.tiles = 1
    x = torch.randn(B, C, H, W).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert isinstance(fast, WinogradConv2d) and fast._at_once(x) == (4 if H % 4 == W % 4 == 0 else 2 if H % 2 == W % 2 == 0 else 0)
    for scale in (1, 2):   # the weight changes: what was kept of it must not stay
        plain.weight.mul_(scale), fast.weight.mul_(scale)
        true = F.conv2d(x.double(), plain.weight.double(), None if not bias else plain.bias.double(), padding=1)
        assert rel(fast(x).double(), true) < 1e-5

@quick(max_examples=40)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(1, 9), st.integers(1, 18), st.integers(1, 18), st.booleans(), st.booleans(), st.booleans())
def test_winograd_in_training(B, C, O, h, w, bias, last, frozen):
    "Result and gradients, of several pieces and of pictures that share one; also where the weights are frozen"
    torch.manual_seed(B + C + O + h + w)
    quick = QuickConv2d(C, O, 3, padding=1, bias=bias).requires_grad_(not frozen)
    quick.wide = quick.tiles = 1
    plain = nn.Conv2d(C, O, 3, padding=1, bias=bias).double().requires_grad_(not frozen)
    plain.load_state_dict(quick.state_dict())
    found = []
    x = torch.randn(B, C, 4*h, 4*w).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    assert quick._pays(x)
    for m, z in ((plain, x.double()), (quick, x.clone())):
        y = m(z.requires_grad_())
        found.append([y.detach(), *torch.autograd.grad((y*y.detach().cos()).sum(), [z, *(p for p in m.parameters() if p.requires_grad)])])
    for a, b in zip(*found, strict=True): assert rel(b.double(), a) < 2e-5

@pytest.mark.parametrize('ks', [1, 3])
def test_patch_conv_with_spectral_is_pytorchs(ks, monkeypatch):
    "Output, gradients and the power iteration over several steps, with and without pictures small enough for patches"
    monkeypatch.setattr(PatchConv2d, 'many', 1)
    torch.manual_seed(0)
    ours, theirs = (spectral(PatchConv2d(6, 8, ks, padding=ks//2)).double(), spectral_norm(nn.Conv2d(6, 8, ks, padding=ks//2), eps=1e-12).double())
    theirs.load_state_dict(ours.state_dict())
    for i, size in enumerate([(4, 5), (20, 20), (3, 3), (1, 1), (16, 16)]):
        x = torch.randn(2, 6, *size, dtype=torch.float64)
        assert ours.takes_patches(x) == (2*size[0]*size[1] <= 256)
        for m in (ours, theirs):
            m.zero_grad()
            out = m(x)
            (out*out.sin()).sum().backward()
            m.result = [out.detach(), *(p.grad for p in m.parameters()), m.weight_u.clone(), m.weight_v.clone()]
            with torch.no_grad(): [p.sub_(.01*p.grad) for p in m.parameters()]
        for a, b in zip(ours.result, theirs.result, strict=True): torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    x = x[..., :4, :4]
    for a, b in zip(*(penalty(m, x) for m in (ours, theirs))): torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)

def test_winograd_with_spectral_and_a_gradients_gradient(monkeypatch):
    monkeypatch.setattr(QuickConv2d, 'wide', 1)
    monkeypatch.setattr(QuickConv2d, 'tiles', 1)
    torch.manual_seed(0)
    ours, theirs = spectral(QuickConv2d(6, 8, 3, padding=1)), spectral_norm(nn.Conv2d(6, 8, 3, padding=1), eps=1e-12)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 6, 8, 12)
    for a, b in zip(*(penalty(m, x) for m in (ours, theirs))): assert rel(a, b) < 1e-3

def penalty(m, x):
    "Gradients of a gradient's length, as gradient penalties ask for them"
    x = x.clone().requires_grad_()
    g, = torch.autograd.grad(m(x).sin().sum(), x, create_graph=True)
    return torch.autograd.grad(g.square().sum(), [m.weight_orig, m.bias])


# --- painters

@pytest.fixture
def eager_winograd(monkeypatch): turn_winograd_on(monkeypatch.setattr)
def turn_winograd_on(setattr=setattr):
    setattr(WinogradConv2d, 'wide', 1)
    setattr(WinogradConv2d, 'tiles', 1)

def trained(K, **kwargs):
    "A generator with weights of natural size and the running statistics of a few maps, in eval mode"
    torch.manual_seed(0)
    gen = lively(SPADEGenerator(K, **{**dict(ngf=4, nhidden=8, edges=True), **kwargs}))
    for i in range(8):
        seg, edges = voronoi(2, (64, 64), K, cells=9, seed=i)
        with torch.no_grad(): gen(seg, edges if gen.edges else None)
    return gen.eval()

@lru_cache
def pair(K, edges):
    "A dense generator, and its painter by patterns; the painter lives on, with all that it keeps"
    gen = trained(K, edges=edges)
    return set_exact(gen, False).double(), gen.for_inference()

shots = st.lists(st.tuples(st.sampled_from(['voronoi', 'noise', 'flat']), st.integers(1, 3), st.sampled_from([64, 96]), st.sampled_from([64, 32]),
                           st.integers(0, 3), st.booleans()), min_size=2, max_size=4)

@pytest.mark.once
@quick(max_examples=12)
@given(st.sampled_from([1, 6, 40]), st.booleans(), shots)
def test_painter_while_maps_batches_and_sizes_change(K, edges, shots):
    was = WinogradConv2d.wide, WinogradConv2d.tiles
    turn_winograd_on()
    try: paint_shots(*pair(K, edges), K, edges, shots)
    finally: WinogradConv2d.wide, WinogradConv2d.tiles = was

def paint_shots(dense, painter, K, edges, shots):
    seen = []
    for kind, B, H, W, seed, repeat in shots:
        seg, e = make(dict(kind=kind, B=B, H=H, W=W, K=K, edges=edges, seed=seed))
        with torch.no_grad(): true = dense(seg, e)
        seen += [(painter(seg, e), true) for _ in range(1 + repeat)]
        seg.fill_(0)   # the caller's map is the caller's: what the painter keeps must not follow it
    for out, true in seen: assert rel(out.double(), true) < 1e-4   # those returned first too, after all the others

def test_memory_is_kept_while_somebody_holds_it(monkeypatch):
    "Freed pieces come back at the same place, and nested holders do not end each other's; other tuning is left alone"
    if memory._libc() is None: pytest.skip('not glibc, or tuned by MALLOC_... or GLIBC_TUNABLES')
    told = []
    monkeypatch.setattr(memory, '_give_back_from', lambda libc, *o: told.append(o))
    usual, kept = memory._thresholds['usual'], memory._thresholds['kept']
    with memory.kept_memory():
        with pytest.raises(ZeroDivisionError), memory.kept_memory(): 1/0
        assert told == [kept, kept] and len(memory._holders) == 1
    assert told == [kept, kept, usual] and not memory._holders
    monkeypatch.setenv('MALLOC_ARENA_MAX', '2')
    assert memory._libc() is None
    with memory.kept_memory(): assert len(told) == 3

@pytest.mark.parametrize('i', once_but(range(0, 21, 6), range(0, 21, 3)))
def test_painter_on_coco_stuff(i, eager_winograd):
    seg, edges = coco_map(i)
    dense, painter = pair(183, True)
    with torch.no_grad(): assert rel(painter(seg, edges).double(), dense(seg, edges)) < 1e-4

def test_pictures_returned_earlier_stay(eager_winograd):
    painter = pair(6, True)[1]
    maps = [voronoi(1, (64, 64), 6, seed=i) for i in range(3)]
    first = painter(*maps[0])
    kept = first.clone()
    for o in maps[1:]: painter(*o)
    assert torch.equal(first, kept) and rel(painter(*maps[0]), kept) < 1e-6

def test_two_threads_paint_with_one_generator(eager_winograd):
    "Room to work in is a thread's own; maps, sizes and batches differ between the threads"
    dense, painter = pair(6, True)
    jobs = [voronoi(1 + i % 2, (64, 64 + 32*(i % 3)), 6, seed=i % 5) for i in range(30)]
    with torch.no_grad(): true = [dense(*o) for o in jobs]
    with ThreadPoolExecutor(2) as pool: made = list(pool.map(lambda o: painter(*o), jobs))
    for a, b in zip(made, true): assert rel(a.double(), b) < 1e-4


@pytest.mark.parametrize('only', ['norm_0', 'norm_1', 'norm_s', 'conv_0', 'conv_1', 'conv_s', 'up_1', 'conv_img', 'param_free_norm', 'mlp_gamma'])
def test_hooks_see_right_values_that_stay(only, eager_winograd):
    seg, edges = voronoi(1, (64, 64), 6)
    gen = trained(6)
    dense, painter = set_exact(gen, False), gen.for_inference()
    views = []
    for model in (dense, painter):
        seen = {}
        for n, m in model.named_modules():
            note = lambda m, inputs, out, n=n: seen.update({n: (inputs[0], out)})
            if n.split('.')[-1] == only: m.register_forward_hook(note)
        with torch.no_grad(): seen['picture'] = (model(seg, edges),)*2
        views.append(seen)
    assert set(views[0]) == set(views[1]) and len(views[0]) > 1
    for n in views[0]:
        for a, b in zip(views[1][n], views[0][n]): assert rel(a, b) < 1e-4, n

def test_painter_after_new_weights(eager_winograd):
    "What was kept of the old weights and statistics goes"
    seg, edges = voronoi(1, (64, 64), 6)
    a, b = trained(6), trained(6)
    with torch.no_grad(): [p.mul_(1.3) for p in b.parameters()]
    painter, other = a.for_inference(), b.for_inference()
    painter(seg, edges)
    painter.load_state_dict(other.state_dict())
    assert rel(painter(seg, edges), other(seg, edges)) < 1e-6

@pytest.mark.parametrize('K', [1, 5])
def test_maps_of_one_class(K):
    seg = torch.full((2, 64, 64), K - 1)
    gen = trained(K, edges=False)
    with torch.no_grad(): assert rel(gen.for_inference()(seg), set_exact(gen, False)(seg)) < 1e-4


# --- copies, autocast, compilers

def copies(model):
    "The model by deepcopy, pickle, and torch.save of the state"
    yield copy.deepcopy(model)
    yield pickle.loads(pickle.dumps(model))
    model = copy.deepcopy(model)
    torch.save(model.state_dict(), file := io.BytesIO())
    file.seek(0)
    for p in model.parameters(): p.data.zero_()
    model.load_state_dict(torch.load(file, weights_only=True))
    yield model

@pytest.mark.parametrize('painter', [False, True])
def test_copies_after_a_training_forward(painter, monkeypatch, eager_winograd):
    "With patches and sums by patterns in use: nothing of a forward sticks to the layers"
    monkeypatch.setattr(PatchConv2d, 'many', 1)
    seg, edges = voronoi(2, (64, 64), 6)
    gen = trained(6).train()
    gen(seg, edges).mean().backward()
    if painter: gen = gen.for_inference()
    gen.eval()
    out = gen(seg, edges).detach()
    for o in copies(gen):
        assert list(o.state_dict()) == list(gen.state_dict())
        assert rel(o.eval()(seg, edges).detach(), out) < 1e-6
    if not painter: gen.train()(seg, edges).mean().backward()

@pytest.mark.parametrize('painter', [False, True])
def test_autocast_on_a_cpu(painter, eager_winograd):
    "bfloat16 has 8 bits: the exact path may be off as much as the dense one, not more"
    seg, edges = voronoi(1, (64, 64), 6)
    gen = trained(6)
    dense, ours = set_exact(gen, False), gen.for_inference() if painter else gen
    with torch.no_grad():
        true = dense(seg, edges)
        with torch.autocast('cpu', dtype=torch.bfloat16): rough, fast = dense(seg, edges), ours(seg, edges)
    assert fast.isfinite().all() and rel(fast.float(), true) < 1.5*rel(rough.float(), true) + .01
    assert rel(ours(seg, edges).detach(), true) < 1e-4   # and nothing of it is left over

def test_training_under_autocast():
    seg, edges = voronoi(2, (64, 64), 6)
    grads = []
    for exact in (False, True):
        gen = set_exact(trained(6).train(), exact)
        with torch.autocast('cpu', dtype=torch.bfloat16): loss = gen(seg, edges).float().square().mean()
        loss.backward()
        grads.append(torch.cat([p.grad.flatten() for p in gen.parameters()]))
    assert grads[1].isfinite().all() and F.cosine_similarity(*grads, dim=0) > .95

@pytest.mark.once
@pytest.mark.parametrize('painter', [False, True])
def test_a_compiler_gets_the_dense_path(painter, monkeypatch):
    seg, edges = voronoi(1, (64, 64), 6)
    gen = trained(6).requires_grad_(False)
    if painter: gen = gen.for_inference()
    true = gen(seg, edges)
    monkeypatch.setattr('gaugan_fastai.spade.spade_exact', lambda *args: pytest.fail('not by patterns while compiling'))
    torch._dynamo.reset()
    assert rel(torch.compile(gen, backend='eager')(seg, edges), true) < 1e-4


# --- no one-hot at full resolution

class Wide(TorchDispatchMode):
    "Note every floating tensor with as many channels as labels (edges and picture too) at full resolution"
    def __init__(self, K, size): self.widths, self.size, self.seen = range(K, K + 5), size, []; super().__init__()
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        res = func(*args, **(kwargs or {}))
        for o in res if isinstance(res, (tuple, list)) else [res]:
            if isinstance(o, torch.Tensor) and o.is_floating_point() and o.ndim == 4 and tuple(o.shape[-2:]) == self.size:
                if o.shape[1] in self.widths: self.seen.append((str(func), tuple(o.shape)))
        return res

class OneBatch:
    "The least `spade_learner` needs of data"
    device, path, edges, n_inp = torch.device('cpu'), Path('.'), True, 2
    def __init__(self, K, kind):
        self.n_classes, self.size = K, (64, 96)
        seg, edges = kind(2, self.size, K)
        self.train = [(seg, edges, torch.rand(2, 3, *self.size)*2 - 1)]
    def __getitem__(self, i): return [self.train, []][i]

def wide_tensors(K, kind, exact=True, **kwargs):
    learn = spade_learner(OneBatch(K, kind), ngf=4, nhidden=8, ndf=4, n_layers=3, perceptual=None, average=None, **kwargs)
    with learn.no_bar(), learn.no_logging(), Wide(K, (64, 96)) as wide, ways(exact=exact): learn.fit(1)
    return wide.seen

few_cells = partial(voronoi, cells=4)

@pytest.mark.once
@pytest.mark.parametrize('K', [9, 31, 32, 183])
@pytest.mark.parametrize('kind', [few_cells, hashed_noise])
def test_a_step_makes_no_onehot_at_full_resolution(K, kind): assert wide_tensors(K, kind) == wide_tensors(K, kind, n_scales=3) == []

def test_the_watch_sees_one(): assert wide_tensors(183, few_cells, exact=False)

@quick(max_examples=30)
@given(maps_of, st.integers(1, 3), st.sampled_from([3, 4]), st.booleans())
def test_critic_reads_labels_as_the_convolution_of_the_onehot_does(o, n_scales, n_layers, together):
    "Features, and gradients to picture and weights, whether fake and photo are judged together or not"
    seg, edges = make({**o, 'H': max(o['H'], 16), 'W': max(o['W'], 16)})
    if together: seg, edges = seg.repeat(2, 1, 1), None if edges is None else edges.repeat(2, 1, 1)
    torch.manual_seed(o['seed'])
    critic = lively(MultiScaleCritic(o['K'], ndf=4, n_scales=n_scales, n_layers=n_layers, edges=o['edges'])).double().eval()
    image, found = torch.rand(len(seg), 3, *seg.shape[1:], dtype=torch.float64)*2 - 1, []
    for exact in (False, True):
        x = image.clone().requires_grad_()
        with ways(exact): feats = [f for scale in critic(seg, x, edges) for f in scale]
        grads = torch.autograd.grad(sum(f.sin().sum() for f in feats), [x, *critic.parameters()], allow_unused=True)
        found.append([*feats, *(g for g in grads if g is not None)])
    for a, b in zip(*found, strict=True): assert (a - b).norm() <= 1e-6*max(a.norm(), 1e-3)


def test_a_fit_keeps_memory_and_gives_it_back():
    seen = []
    class Look(Callback):
        def after_batch(self): seen.append(len(memory._holders))
    learn = spade_learner(OneBatch(9, few_cells), ngf=4, nhidden=8, ndf=4, n_layers=3, perceptual=None, average=None, cbs=Look())
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert seen == [int(memory._libc() is not None)] and not memory._holders


# --- two processes

def make_gan():
    torch.manual_seed(0)
    gen, critic = SPADEGenerator(40, ngf=2, nhidden=8, edges=True, norm='instance'), MultiScaleCritic(40, ndf=4, n_layers=3, edges=True)
    return SynthesisGAN(lively(gen), lively(critic, 1), hinge, dict(feat=lambda t: 10*feature_matching(t.fake_feats, t.real_feats)))

def turns_of(gan, ddp, part):
    "Gradients of the generator in its turn, then the critic's in its own"
    seg, edges = voronoi(4, (64, 64), 40)
    photo = (torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))*2 - 1).to(gan.generator.fc.weight)
    xb, grads = (seg[part], edges[part]), {}
    fake, losses = ddp(*xb, photo=photo[part], turn=generator_turn)
    for name in ('generator', 'critic'):
        gan.zero_grad()
        if name == 'critic': losses = ddp(*xb, photo=photo[part], fake=fake, turn=critic_turn)
        sum(losses.values()).backward()
        grads |= {f'{name}.{n}': p.grad.clone() for n, p in getattr(gan, name).named_parameters()}
    return grads

def one_of_two(rank, folder):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{folder}/meet', rank=rank, world_size=2)
    PatchConv2d.many = 1
    for dtype in (torch.float64, torch.float32):
        gan = make_gan().to(dtype)
        grads = turns_of(gan, DistributedDataParallel(gan, find_unused_parameters=True), slice(2*rank, 2*rank + 2))
        if rank == 0: torch.save(grads, f'{folder}/{dtype}.pt')
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()

@pytest.mark.once
@pytest.mark.skipif(not torch.distributed.is_available(), reason='torch was built without distributed')
def test_two_processes_have_the_gradients_of_the_joined_batch(tmp_path, monkeypatch):
    """Through DistributedDataParallel, with instance norm, which does not mix the pictures of a batch.

    float64 decides, for each parameter: a batch of 4 and two of 2 add the same numbers in another order, which costs some 1e-14 there.
    In float32 a bias before a norm has no gradient but rounding noise, so the whole gradient is compared."""
    torch.multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    monkeypatch.setattr(PatchConv2d, 'many', 1)
    for dtype, close in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        gan, theirs = make_gan().to(dtype), torch.load(tmp_path/f'{dtype}.pt', weights_only=True)
        ours = turns_of(gan, gan, slice(None))
        assert set(ours) == set(theirs) and any(n.startswith('critic') for n in ours)
        for net in ('generator', 'critic'):
            off, all_of = {n: (theirs[n] - g).norm() for n, g in ours.items() if n.startswith(net)}, {n: g.norm() for n, g in ours.items() if n.startswith(net)}
            whole = torch.stack([*all_of.values()]).norm()
            assert torch.stack([*off.values()]).norm() <= close*whole, (dtype, net)
            if dtype == torch.float64: assert not [n for n in off if off[n] > close*max(all_of[n], 1e-3*whole)]   # a bias before a norm: 0 but for rounding

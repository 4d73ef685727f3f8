"""Each trick beside its plain version: who chooses, and what is done where torch lacks what it never promised."""
import copy, threading
from contextvars import copy_context

import pytest, torch
from torch import nn
from torch.nn import functional as F

from conftest import once_but
from test_patterns import lively, rel, voronoi
from gaugan_fastai import rowsum
from gaugan_fastai.core import InputError
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.fast import convs, pixels, regions, sigma, winograd
from gaugan_fastai.fast.choice import (
    asked, asks_gradient, by_patterns, can_be_exact, hooked, in_float32, like, on_cpu, rebuilt, tricks, ways)
from gaugan_fastai.fast.convs import PackedConv2d, PatchConv2d, is_plain_conv
from gaugan_fastai.fast.modulation import KeptRows, modulation_plain
from gaugan_fastai.fast.pixels import modulate, modulate_plain
from gaugan_fastai.fast.reads import halved, pooled_conv, pooled_label_conv
from gaugan_fastai.fast.sigma import Spectral, own_spectral, quick_spectral
from gaugan_fastai.fast.winograd import QuickConv2d, WinogradConv2d
from gaugan_fastai.layers import fold_spectral, refresh_spectral, spectral
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.patterns import LabelPlan, works
from gaugan_fastai.spade import SPADE

near, far = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4, device='meta')
seg = voronoi(2, (32, 64), 6)[0]

# -- the choice ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('exact,cpu,other', [(None, True, False), (True, True, True), (False, False, False)])
def test_what_is_asked_for(exact, cpu, other):
    with ways(exact):
        assert asked() is exact and tricks() == (exact is not False)
        assert (by_patterns(near), by_patterns(far)) == (cpu, other)
        assert (on_cpu(near), on_cpu(far)) == (tricks(), False)
        assert (in_float32(near, near), in_float32(near.double(), near.double())) == (tricks(), False)
    assert asked() is None

def test_the_wish_ends_with_an_error_and_nests():
    with pytest.raises(ZeroDivisionError), ways(exact=False), ways(exact=True): 1/0
    assert asked() is None
    with pytest.raises(InputError, match="exact is 'quick'"), ways(exact='quick'): pass

def test_a_wish_is_a_threads_own():
    seen = {}
    def look(name): seen[name] = asked()
    with ways(exact=False):
        for name, run in dict(alone=look, along=lambda name: context.run(look, name)).items():
            context = copy_context()
            thread = threading.Thread(target=run, args=(name,))
            thread.start()
            thread.join()
    assert seen == dict(alone=None, along=False)

def test_a_recording_beats_a_wish():
    seen = []
    def f(x):
        seen.append((tricks(), by_patterns(x), on_cpu(x), can_be_exact(layer)))
        return x + 1
    layer = SPADE(3, 4, nhidden=2)
    with ways(exact=True):
        torch.jit.trace(f, near, check_trace=False)
        f(near)
    assert seen == [(False,)*4, (True,)*4]

def test_hooks_and_gradients_are_seen():
    layer = nn.Conv2d(3, 4, 1)
    for register in (layer.register_forward_hook, layer.register_forward_pre_hook, layer.register_full_backward_hook):
        assert not hooked(nn.ReLU(), layer)
        handle = register(lambda *o: None)
        assert hooked(nn.ReLU(), layer)
        handle.remove()
    assert asks_gradient(near, None, layer.weight) and not asks_gradient(near, None)
    with torch.no_grad(): assert not asks_gradient(layer.weight)

NETWORKS = dict(
    spade=lambda: (SPADEGenerator(6, ngf=2, nhidden=4), (seg,)),
    sean=lambda: (SEANGenerator(6, 2, 5, 4, 2), (seg, torch.ones(2, 6, 5))),
    critic=lambda: (MultiScaleCritic(6, 4, n_layers=3), (seg, torch.zeros(2, 3, 32, 64))))

def flat(out): return torch.cat([o.flatten() for scale in out for o in scale]) if isinstance(out, list) else out

@pytest.mark.numeric
@pytest.mark.parametrize('name', NETWORKS)
def test_plain_means_plain(name, monkeypatch, small_is_large):
    "Asked for the plain way, no trick is called, neither of a network nor of its painter; the numbers are the same"
    net, args = NETWORKS[name]()
    net = lively(net).eval()
    nets = [net] if name == 'critic' else [net, net.for_inference()]
    with torch.no_grad(): quick = [flat(o(*args)) for o in nets]
    def never(*o, **k): pytest.fail('a trick')
    for where in ('patterns.LabelPlan', 'fast.winograd.winograd_conv', 'fast.convs._patches', 'fast.convs._packed_conv'):
        monkeypatch.setattr(f'gaugan_fastai.{where}.__init__' if where.endswith('Plan') else f'gaugan_fastai.{where}', never)
    monkeypatch.setattr(sigma._Divided, 'apply', never)
    with torch.no_grad(), ways(exact=False):
        for o, fast in zip(nets, quick): assert rel(flat(o(*args)), fast) < 1e-4

# -- plain versions ------------------------------------------------------------------------------------------------

def grads(out, *inputs): return torch.autograd.grad(out.sin().sum(), inputs)

@pytest.mark.numeric
@pytest.mark.parametrize('double,slope', [(False, None), (True, .2)])
@pytest.mark.parametrize('stats', [False, True])
def test_one_pass_is_five_steps(double, slope, stats):
    torch.manual_seed(0)
    plan = LabelPlan(seg, None, 6).at((32, 64)).windows()
    x = torch.randn(2, 3, *([16, 32] if double else [32, 64])).double().requires_grad_()
    stats = (torch.rand(3).double(), torch.rand(3).double() + .5) if stats else (None, None)
    for p, n in ((plan, len(plan)), (None, seg.numel())):
        rows = torch.randn(n, 6).double().requires_grad_()
        a, b = (f(x, rows, p, *stats, double=double, slope=slope) for f in (modulate, modulate_plain))
        torch.testing.assert_close(a, b)
        for c, d in zip(grads(a, x, rows), grads(b, x, rows)): torch.testing.assert_close(c, d)

@pytest.mark.numeric
def test_sums_of_rows_are_a_convolution_of_averages():
    planes = F.one_hot(seg, 6).permute(0, 3, 1, 2).double()
    weight = torch.randn(3, 6, 4, 4).double().requires_grad_()
    a, b = pooled_label_conv(LabelPlan(seg, None, 6).at((32, 64)), weight, 2, 2), pooled_conv(planes, weight, 2, 2)
    torch.testing.assert_close(a, b)
    torch.testing.assert_close(grads(a, weight), grads(b, weight))
    assert halved(planes).shape == (2, 6, 16, 32) and torch.equal(halved(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 3, 3))

@pytest.mark.numeric
def test_a_layer_takes_the_papers_two_convolutions():
    layer, planes = SPADE(3, 6, nhidden=4), F.one_hot(seg, 6).permute(0, 3, 1, 2).float()
    gamma, beta = modulation_plain(planes, layer.mlp_shared, layer.mlp_gamma, layer.mlp_beta)
    x = torch.randn(2, 3, 32, 64)
    assert rel(layer(x, seg), layer.param_free_norm(x)*(1 + gamma) + beta) < 1e-5

# -- layers that are built -----------------------------------------------------------------------------------------

def test_a_painter_is_built_and_the_network_stays():
    gen = SPADEGenerator(6, ngf=2, nhidden=4)
    before = {n: (type(m), set(vars(m))) for n, m in gen.named_modules()}
    painter = gen.for_inference()
    assert {n: (type(m), set(vars(m))) for n, m in gen.named_modules()} == before
    kinds = {n: type(m) for n, m in painter.named_modules()}
    assert kinds['up_0.conv_0'] is WinogradConv2d and kinds['up_0.conv_s'] is PackedConv2d
    assert isinstance(painter.up_0.norm_0.kept, KeptRows) and gen.up_0.norm_0.kept is None
    assert painter.up_0.scratch is painter.up_1.scratch is not None and gen.up_0.scratch is None
    assert len({id(m.scratch) for m in painter.modules() if isinstance(m, WinogradConv2d)}) == 1

def test_built_layers_share_parameters_hooks_and_mode():
    conv, heard = QuickConv2d(4, 4, 3, padding=1).eval(), []
    conv.register_forward_hook(lambda *o: heard.append(1))
    new = WinogradConv2d.around(conv)
    new(torch.zeros(1, 4, 4, 4))
    assert new.weight is conv.weight and not new.training and heard == [1]
    assert (new.padding, new.kernel_size, new.stride) == (conv.padding, conv.kernel_size, conv.stride)
    assert is_plain_conv(conv) and not is_plain_conv(new) and not hasattr(conv, 'packs')

def test_a_layer_in_two_places_stays_one():
    one = nn.Linear(2, 2)
    net = nn.Sequential(one, nn.Sequential(one), nn.ReLU())
    new = rebuilt(net, lambda m: like(m, mark=1) if isinstance(m, nn.Linear) else None)
    assert new is net and new[0] is new[1][0] is not one and new[0].weight is one.weight and not hasattr(one, 'mark')

# -- what torch does not promise -----------------------------------------------------------------------------------

@pytest.fixture
def small_is_large(monkeypatch):
    "Patches and Winograd's trick at the widths of these tests"
    for cls in (WinogradConv2d, QuickConv2d):
        monkeypatch.setattr(cls, 'wide', 1)
        monkeypatch.setattr(cls, 'tiles', 1)
    monkeypatch.setattr(PatchConv2d, 'many', 1)

def broken(*args, **kwargs): raise RuntimeError('this torch has another one')

PRIVATE = dict(
    bags=(torch, '_embedding_bag_forward_only', rowsum._bags_are_quick),
    unbend=(torch.ops.aten, 'leaky_relu_backward', pixels._unbends_quickly),
    stats=(torch, 'batch_norm_update_stats', pixels._counts_quickly),
    convolution=(torch.ops.mkldnn, '_convolution_pointwise', convs._packs),
    order=(torch.ops.mkldnn, '_reorder_convolution_weight', convs._packs),
    product=(torch.ops.mkldnn, '_linear_pointwise', convs._packs_matrices),
    matrix=(torch.ops.mkldnn, '_reorder_linear_weight', convs._packs_matrices),
    gradients=(winograd, '_joint_grads', winograd._joins))

@pytest.fixture(params=PRIVATE)
def hide(request, monkeypatch):
    "A function that hides one of torch's own from now on, and what says whether it is there"
    where, name, there = PRIVATE[request.param]
    def hide(by=broken):
        monkeypatch.setattr(where, name, by)
        there.cache_clear()
        return there
    there.cache_clear()
    yield hide
    monkeypatch.undo()
    there.cache_clear()

def test_a_trial_says_whether_it_works(hide):
    assert hide()() is False
    def off(*args, **kwargs): return torch.zeros(1), torch.zeros(1)
    assert hide(off)() is False

def test_works_wants_the_same_numbers():
    assert works(lambda: torch.ones(2), lambda: torch.ones(2))
    assert not works(lambda: torch.ones(2), lambda: torch.zeros(2)) and not works(broken, lambda: torch.ones(2))

def both_ways(name):
    "Pictures of a network and of its painter, and the gradients of a training step, by tricks and plainly"
    torch.manual_seed(0)
    net, args = NETWORKS[name]()
    net, found = lively(net), {}
    for exact in (False, None):
        with ways(exact):
            painter = copy.deepcopy(net).eval().for_inference()
            with torch.no_grad(): pictures = [painter(*args), copy.deepcopy(net).eval()(*args)]
            gen = copy.deepcopy(net).train()
            torch.manual_seed(1)   # SEAN draws noise
            gen(*args).square().mean().backward()
        found[exact] = pictures, torch.cat([p.grad.flatten() for p in gen.parameters() if p.grad is not None])
    return found

@pytest.mark.numeric
@pytest.mark.parametrize('name', once_but(['spade'], ['spade', 'sean']))
def test_right_without_it(name, hide, small_is_large):
    "Pictures to 1e-4, gradients to 1e-2 of the plain way, with every private function hidden in turn"
    assert not hide()()
    (true, dtrue), (ours, dours) = both_ways(name).values()
    for a, b in zip(ours, true): assert rel(a, b) < 1e-4
    assert rel(dours, dtrue) < 1e-2   # a ReLU on its kink

@pytest.mark.numeric
def test_spectral_norm_without_its_class(monkeypatch):
    "Torch's hook stays where its class is another one; convergence, folding and painters do without it"
    def layers():
        torch.manual_seed(0)
        return [spectral(o) for o in (nn.Conv2d(3, 4, 3), nn.Linear(5, 6), QuickConv2d(4, 4, 3, padding=1))]
    def trained(layer):
        x = torch.ones(2, 5) if isinstance(layer, nn.Linear) else torch.ones(2, layer.in_channels, 8, 8)
        refresh_spectral(layer)
        layer(x).sin().sum().backward()
        out = layer.eval()(x).detach()
        folded = fold_spectral(copy.deepcopy(refresh_spectral(layer, 0)))
        assert rel(folded(x).detach(), out) < 1e-5 and not [k for k in folded.state_dict() if '_' in k]
        folded.load_state_dict(folded.state_dict())
        return out, layer.weight_orig.grad, layer.weight_u
    ours = [trained(o) for o in layers()]
    assert all(isinstance(own_spectral(o), Spectral) for o in layers())
    monkeypatch.setattr(sigma, 'SpectralNorm', None)
    assert all(own_spectral(o) is None for o in layers()) and quick_spectral(broken) is broken
    for a, b in zip(ours, [trained(o) for o in layers()]):
        for c, d in zip(a, b): assert rel(c, d) < 1e-5
    gen = lively(SPADEGenerator(6, ngf=2, nhidden=4)).eval()
    with torch.no_grad(): assert rel(gen.for_inference()(seg), gen(seg)) < 1e-4

# -- old names -----------------------------------------------------------------------------------------------------

def test_old_modules_are_the_new_ones():
    from gaugan_fastai import convs as a, modulation as b, pixels as c, reads as d, winograd as e
    from gaugan_fastai.fast import modulation, reads
    assert (a, b, c, d, e) == (convs, modulation, pixels, reads, winograd)
    from gaugan_fastai.layers import _Spectral
    assert _Spectral is Spectral

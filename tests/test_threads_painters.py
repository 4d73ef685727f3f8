"""Painters and generators that many threads use at once: each gets its own picture, and the weights stay as they are."""
import sys, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest, torch
from torch import nn

from conftest import once_but
from test_patterns import lively, rel, voronoi
from gaugan_fastai.fast.convs import PackedConv2d, PatchConv2d, pack_convs
from gaugan_fastai.layers import spectral
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.spade import LabelMaps
from gaugan_fastai.fast.winograd import QuickConv2d, WinogradConv2d

pytestmark = pytest.mark.numeric
N_THREADS, TOL = 8, 1e-4   # winograd's sums of the same numbers, in another order where another thread numbered the patterns

@contextmanager
def forced_switches():
    "Let threads take turns as often as the interpreter can"
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try: yield
    finally: sys.setswitchinterval(before)

def at_once(jobs):
    "Results of functions without arguments, each in a thread of its own; all start together"
    start = Barrier(len(jobs))
    def run(job):
        start.wait()
        return job()
    with forced_switches(), ThreadPoolExecutor(len(jobs)) as pool: return list(pool.map(run, jobs))

@pytest.fixture(autouse=True)
def small_layers_are_quick_too(monkeypatch):
    "Patches and Winograd's trick at the widths of these tests"
    for cls in (WinogradConv2d, QuickConv2d):
        monkeypatch.setattr(cls, 'wide', 1)
        monkeypatch.setattr(cls, 'tiles', 1)
    monkeypatch.setattr(PatchConv2d, 'many', 1)

def spade():
    gen = lively(SPADEGenerator(6, ngf=2, nhidden=4))
    return gen.eval().requires_grad_(False), lambda seg, i: (seg,)

def sean():
    gen = lively(SEANGenerator(6, 2, 5, 4, 2)).eval().requires_grad_(False)
    codes = [torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    return gen, lambda seg, i: (seg, codes[i])

def unet(): return UNetGenerator(6, ngf=2, levels=3).eval().requires_grad_(False), lambda seg, i: (seg,)

kinds = dict(spade=spade, sean=sean, unet=unet)
maps = [voronoi(1, (32 + 32*(i % 2), 32), 6, seed=i)[0] for i in range(4)]

@pytest.mark.parametrize('painter', once_but([True], [True, False]))
@pytest.mark.parametrize('same', once_but([True], [True, False]))
@pytest.mark.parametrize('kind', kinds)
@torch.no_grad()
def test_eight_threads_paint_at_once(kind, same, painter, rounds=2):
    "Fresh painters, so that all threads meet a map that nobody has painted yet; then on and on, on the same map or on different ones"
    gen, args = kinds[kind]()
    calls = [args(seg, i) for i, seg in enumerate(maps)]
    true = [gen(*o) for o in calls]
    before = {k: v.clone() for k, v in gen.state_dict().items()}
    def job(i, model):
        def paint():
            with torch.no_grad(): return [(j, model(*calls[j])) for j in ((0 if same else i + n) % len(calls) for n in range(3))]
        return paint
    for _ in range(rounds):
        model = gen.for_inference() if painter else gen
        for pictures in at_once([job(i, model) for i in range(N_THREADS)]):
            for j, out in pictures: assert rel(out, true[j]) < TOL
    assert all(torch.equal(v, before[k]) for k, v in gen.state_dict().items())

@torch.no_grad()
def test_threads_share_the_label_maps_of_a_batch(rounds=5):
    "One `LabelMaps`, made by the caller: the plan that hangs on it is shown when it is whole, not before"
    gen, _ = spade()
    true = gen(maps[0])
    def paint(shared):
        with torch.no_grad(): return gen(shared)
    for _ in range(rounds):
        shared = LabelMaps(maps[0], None, 6)
        for out in at_once([lambda: paint(shared)]*N_THREADS): assert rel(out, true) < TOL

def test_sigma_is_a_forwards_own(rounds=4):
    "A layer with spectral norm that divides its result: weights, u and v change between forwards, so nothing old may be used"
    torch.manual_seed(0)
    conv = spectral(PatchConv2d(4, 6, 3, padding=1)).eval().requires_grad_(False)
    x = torch.randn(1, 4, 5, 5)
    assert conv.takes_patches(x)
    conv.register_forward_pre_hook(lambda *_: time.sleep(1e-4))   # after the spectral norm's hook and before the forward others have their turn
    for _ in range(rounds):
        conv.weight_orig.normal_()
        W = conv.weight_orig.flatten(1)
        true = nn.functional.conv2d(x, conv.weight_orig/(conv.weight_u @ W @ conv.weight_v), conv.bias, padding=1)
        for outs in at_once([lambda: [conv(x) for _ in range(5)]]*N_THREADS):
            for out in outs: assert rel(out, true) < 1e-5

@torch.no_grad()
def test_packed_weights_belong_to_a_size(rounds=5):
    "Threads that paint pictures of different sizes take turns at one layer's packed weight"
    conv = pack_convs(nn.Sequential(nn.Conv2d(64, 64, 3, padding=1).requires_grad_(False)))[0]
    xs = [torch.randn(1, 64, s, s) for s in (4, 6, 8, 12)]
    assert isinstance(conv, PackedConv2d) and all(conv._can_pack(x) for x in xs)
    true = [nn.functional.conv2d(x, conv.weight, conv.bias, padding=1) for x in xs]
    for _ in range(rounds):
        jobs = [lambda i=i: [(j % 4, conv(xs[j % 4])) for j in range(i, i + 4)] for i in range(N_THREADS)]
        for outs in at_once(jobs):
            for j, out in outs: assert rel(out, true[j]) < 1e-5

"""One `LabelMaps` a batch: a plan is made once, and nothing is doubled. Block and trunk take any norm."""
import pytest, torch
from torch import nn
from torch.nn import functional as F

from gaugan_fastai import labelmaps, spade
from gaugan_fastai.ace import SEANResBlk
from gaugan_fastai.core import InputError
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.labelmaps import LabelMaps
from gaugan_fastai.layers import refresh_spectral
from gaugan_fastai.models.ablation import ConcatGenerator, ConcatResBlk
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import SEANGAN, SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.patterns import LabelPlan
from gaugan_fastai.spade import ResBlk, SPADEResBlk, bend
from gaugan_fastai.sean import StyleCodes
from pretend_device import Pretend
from test_patterns import rel

K, g = 6, torch.Generator().manual_seed(0)
seg = torch.randint(0, K, (2, 8, 8), generator=g).repeat_interleave(8, 1).repeat_interleave(8, 2)
edges = torch.rand(seg.shape, generator=g) > .9
image = torch.rand(4, 3, 64, 64, generator=g)*2 - 1
generators = dict(
    spade=lambda e=False: SPADEGenerator(K, 2, e, nhidden=4),
    concat=lambda e=False: ConcatGenerator(K, 2, e),
    start=lambda e=False: ConcatGenerator(K, 2, e, where='input'),
    unet=lambda e=False: UNetGenerator(K, 2, e, levels=3),
    sean=lambda e=False: SEANGenerator(K, 2, 5, 4, 2))

@pytest.fixture
def plans(monkeypatch):
    "The plans that are made while a test runs"
    made = []
    def make(*args, **kwargs):
        made.append(LabelPlan(*args, **kwargs))
        return made[-1]
    monkeypatch.setattr(labelmaps, 'LabelPlan', make)
    return made

@pytest.mark.parametrize('kind', generators)
@torch.no_grad()
def test_generators_take_maps(kind, plans):
    gen = generators[kind]().eval()
    maps = gen.maps(seg)
    assert isinstance(maps, LabelMaps) and len(maps) == 2 and gen.maps(maps) is maps
    assert torch.equal(gen(maps), gen(seg))
    with pytest.raises(InputError, match='holds class 6'): gen.maps(seg + 1)
    with pytest.raises(InputError, match='without them'): gen.maps(seg, edges)
    for _ in range(3): gen(maps)
    assert len(plans) == (2 if kind in ('spade', 'sean') else 0)   # one for `maps`, one for the plain tensor

@pytest.mark.parametrize('kind', ['spade', 'concat', 'unet'])
@torch.no_grad()
def test_edges_travel_with_the_maps(kind):
    gen = generators[kind](True).eval()
    maps = gen.maps(seg, edges)
    assert torch.equal(maps.edges, edges) and torch.equal(gen(maps), gen(seg, edges))
    with pytest.raises(InputError, match='no edges came'): gen.maps(seg)

def feats(critic, *args): return [f for scale in critic(*args) for f in scale]

@pytest.mark.numeric
@pytest.mark.parametrize('n_scales', [1, 2, 3])
@pytest.mark.parametrize('way', ['dense', 'patterns', 'hooked'])
@pytest.mark.parametrize('with_edges', [False, True])
def test_a_critic_judges_both_halves_by_the_same_maps(way, with_edges, n_scales):
    "Maps of half the batch against maps doubled, and against the plain critic on planes and picture side by side"
    torch.manual_seed(0)
    critic = refresh_spectral(MultiScaleCritic(K, 4, n_scales, 3, edges=with_edges)).eval().double()
    if way == 'hooked': critic.discriminator_0.model0.register_forward_hook(lambda *o: None)
    x, e = image.double().requires_grad_(), edges if with_edges else None
    with ways(exact=way == 'patterns'):
        half = feats(critic, LabelMaps(seg, e, K), x)
        double = feats(critic, torch.cat([seg, seg]), x, *([torch.cat([e, e])] if with_edges else []))
    plain = []
    side = torch.cat([LabelMaps(seg, e, K).at((64, 64), torch.float64).repeat(2, 1, 1, 1), x], 1)
    for i, o in enumerate(critic.children()):
        if i: side = F.avg_pool2d(side, 3, 2, 1, count_include_pad=False)
        plain += o(side)
    weights, most = list(critic.parameters()), 1e-6 if way == 'patterns' else 1e-9   # planes of averages are float32
    grads = [torch.autograd.grad(sum(f.sin().sum() for f in fs), [x, *weights]) for fs in (half, double, plain)]
    for other, dother in ((double, grads[1]), (plain, grads[2])):
        for a, b in zip((*half, *grads[0]), (*other, *dother), strict=True):
            assert (a - b).abs().max() < most*max(1, b.abs().max())

def test_critics_say_what_does_not_fit():
    critic = MultiScaleCritic(K, 4)
    maps = LabelMaps(seg, None, K)
    for bad in (image[:3], image[..., :32]):
        with pytest.raises(InputError, match='2 label maps of 64x64 do not fit images'): critic(maps, bad)
    with pytest.raises(InputError, match='does not fit'): critic(seg, image)   # plain maps are as many as images
    with pytest.raises(InputError, match='6 classes, but the model has 7'): MultiScaleCritic(7, 4)(maps, image)
    with pytest.raises(InputError, match='holds class 6'): critic(seg + 1, image[:2])

def test_a_step_makes_one_plan(plans):
    "A generator twice and a critic twice, as in a step of training, on maps that were made once"
    gen, critic = generators['spade'](), MultiScaleCritic(K, 4)
    maps = gen.maps(seg)
    for _ in range(2):
        fake = gen(maps)
        critic(maps, torch.cat([fake, image[:2]]))
    assert len(plans) == 1

def test_edits_of_sean_make_one_more(plans):
    "Photos with one code exchanged are painted beside the others, from maps of their own"
    gan = SEANGAN(generators['sean'](), MultiScaleCritic(K, 4))
    gan.edits = .5
    xb = gan.prepare(seg, image[:2])
    fake, extra = gan.paint(xb, image[:2])
    assert len(xb[0]) == 2 and fake.shape == (2, 3, 64, 64) and extra['edited'].shape == (1, 3, 64, 64)
    assert len(plans) == 1 and len(gan.generator.maps(xb[0])) == 2

@pytest.mark.parametrize('exact', [None, True])
def test_waits_of_a_step_with_maps(exact):
    "On a device that counts: one look at the ids; by patterns one more, for the copy that the plan is made of"
    with Pretend() as seen, ways(exact=exact):
        gen, critic = generators['spade']().to('pretend'), MultiScaleCritic(K, 4).to('pretend')
        far, photo = seg.to('pretend'), image[:2].to('pretend')
        seen.waits.clear()
        maps = gen.maps(far)
        for _ in range(2):
            judged = critic(maps, torch.cat([gen(maps), photo]))
            sum(f[-1].mean() for f in judged).backward()
        assert sum(seen.waits.values()) == (2 if exact else 1), seen.waits

def test_look_or_not():
    "Ids that were not looked at are looked at where a plan is made of them"
    bad = torch.full((1, 4, 4), 9)
    with pytest.raises(InputError, match='holds class 9'): LabelMaps(bad, None, K)
    maps = LabelMaps(bad, None, K, look=False)
    with pytest.raises(InputError, match='holds class 9'): maps.plan((4, 4))
    with torch.device('meta'): assert len(LabelMaps(torch.zeros(1, 4, 4).long(), None, K)) == 1

def test_old_imports_work():
    for name in ('LabelMaps', 'label_maps', 'planes_of', 'smaller', 'as_plain'):
        assert getattr(spade, name) is getattr(labelmaps, name)


# --- block and trunk

class Scaled(nn.Module):
    "A norm with a number of its own, called as all norms are"
    def __init__(self, n):
        super().__init__()
        self.norm = nn.BatchNorm2d(n, affine=False)
    def forward(self, x, maps, factor=1., double=False, slope=None, out=None):
        if double: x = F.interpolate(x, scale_factor=2)
        return bend(factor*self.norm(x), slope)

@pytest.mark.parametrize('nf', [4, 6])
@pytest.mark.parametrize('double', [False, True])
def test_a_block_takes_any_norm(nf, double):
    torch.manual_seed(0)
    blk, x = ResBlk(6, nf, Scaled, spectral_norm=False).eval(), torch.randn(2, 6, 8, 8)
    big = F.interpolate(x, scale_factor=2) if double else x
    def want(a, b, c):
        y = blk.conv_0(F.leaky_relu(a*blk.norm_0.norm(big), .2))
        y = blk.conv_1(F.leaky_relu(b*blk.norm_1.norm(y), .2))
        return y + (blk.conv_s(c*blk.norm_s.norm(big)) if blk.learned else big)
    assert blk.learned == (nf != 6) and len(blk.norms()) == 2 + blk.learned
    torch.testing.assert_close(blk(x, None, double), want(1, 1, 1))
    torch.testing.assert_close(blk(x, None, double, [dict(factor=o) for o in (2, 3, 4)]), want(2, 3, 4))

def test_blocks_have_the_keys_of_the_checkpoints():
    names = lambda blk: list(dict(blk.named_children()))
    convs = ['conv_0', 'conv_1', 'conv_s']
    assert names(SPADEResBlk(4, 2, K)) == names(ConcatResBlk(4, 2, K)) == [*convs, 'norm_0', 'norm_1', 'norm_s']
    assert names(SEANResBlk(4, 2, K, style_dim=3)) == [*convs, 'ace_0', 'ace_1', 'ace_s']
    assert names(SPADEResBlk(4, 4, K)) == ['conv_0', 'conv_1', 'norm_0', 'norm_1']

def test_no_block_is_built_and_thrown_away(monkeypatch):
    monkeypatch.setattr(SPADEResBlk, '__init__', lambda *args, **kwargs: pytest.fail('a SPADE block was built'))
    for where in ('every', 'input'): ConcatGenerator(K, 2, where=where)

@pytest.mark.numeric
@pytest.mark.parametrize('kind', ['spade', 'sean', 'concat', 'start'])
@torch.no_grad()
def test_painters_forget_when_told(kind):
    gen = generators[kind]().eval()
    painter, codes = gen.for_inference(), torch.rand(2, K, 5, generator=g)
    args = (seg, codes) if kind == 'sean' else (seg,)
    first = painter(*args)
    maps = painter.memory.maps
    assert gen.memory is None and torch.equal(maps.segmap, seg) and painter.maps(seg.clone()) is maps
    painter.memory.forget()
    assert painter.memory.maps is painter.memory.codes is None
    assert rel(painter(*args), first) < 1e-6 and painter.memory.maps is not maps

@pytest.mark.numeric
@torch.no_grad()
def test_a_sean_painter_knows_new_codes():
    "The same map, other codes, the first ones again: what layers keep belongs to the codes"
    gen = generators['sean']().eval()
    for p in gen.parameters(): p.copy_(torch.randn(p.shape, generator=g)*.3)
    refresh_spectral(gen)
    painter, (a, b) = gen.for_inference(), torch.rand(2, 2, K, 5, generator=g)
    for codes in (a, b, a, a): assert rel(painter(seg, codes), gen(seg, codes)) < 1e-4
    assert isinstance(painter.memory.codes[0], StyleCodes) and torch.equal(painter.memory.codes[0].codes, a)

"""One `LabelMaps` a batch: a plan is made once, and nothing is doubled. Block and trunk take any norm."""
import copy, pickle
import pytest, torch
from torch import nn
from torch.nn import functional as F

from gaugan_fastai import labelmaps, spade
from gaugan_fastai.ace import SEANResBlk
from gaugan_fastai.core import InputError, TensorEdges, TensorSegmap
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.labelmaps import Cargo, Carrying, CarryingEdges, CarryingSegmap, LabelMaps, carried, carry, packed, unpacked
from gaugan_fastai.layers import refresh_spectral
from gaugan_fastai.models.ablation import ConcatGenerator, ConcatResBlk
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import SEANGAN, SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.patterns import LabelPlan, Patterns, RowSum
from gaugan_fastai.spade import ResBlk, SPADE, SPADEResBlk, bend
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

# --- on the way from a worker to the network

def test_packed_memory_is_one_piece():
    o = dict(a=torch.arange(7).byte(), b=[seg.float()[:, ::3], torch.zeros(0, 2), torch.tensor(True)], c=('words', None))
    head, places, body = packed(o)
    assert body.dtype == torch.uint8 and all(a % 64 == 0 for a, _ in places) and places[-1][1] <= len(body)
    new = unpacked(head, places, body)
    assert new['c'] == o['c']
    for x, y in zip([new['a'], *new['b']], [o['a'], *o['b']], strict=True): assert x.dtype == y.dtype and x.equal(y)
    new['a'][0] = 9   # it may be written to, and lies in `body`
    assert (body == 9).any() and o['a'][0] == 0

def stepped(segmap, e=None):
    "Maps after a step by patterns: a generator forwards and backwards, and its critic"
    torch.manual_seed(0)
    gen, critic = SPADEGenerator(K, 2, e is not None, nhidden=4), MultiScaleCritic(K, 4, edges=e is not None)
    maps = LabelMaps(segmap, e, K)
    sum(f.mean() for f in feats(critic, maps, gen(maps))).backward()
    return maps, [p.grad for p in gen.parameters()]

def everything(o, seen=None):
    "Paths to all tensors that an object holds, its sums and patterns included"
    seen = {} if seen is None else seen
    if id(o) in seen: return {}
    seen[id(o)] = o
    if isinstance(o, torch.Tensor): return {'': o}
    if isinstance(o, dict): items = [(str(k), v) for k, v in o.items()]
    elif isinstance(o, (list, tuple)): items = [(str(i), v) for i, v in enumerate(o)]
    elif isinstance(o, (LabelMaps, LabelPlan, Patterns, RowSum)) or type(o).__name__ == 'SizePlan': items = list(vars(o).items())
    else: return {}
    skipped = '_asked', '_there', '__stored_args__', '_planes', '_ids'
    return {f'{k}.{p}': t for k, v in items if k not in skipped for p, t in everything(v, seen).items()}

@pytest.mark.parametrize('with_edges', [False, True])
def test_a_plan_that_travelled_is_the_plan(with_edges):
    "What a worker makes in the likeness of another batch, sent through a pickle, against what a step makes itself"
    e = edges if with_edges else None
    want, grads = stepped(seg, e)
    other, _ = stepped(seg.flip(2), None if e is None else e.flip(2))
    maps = LabelMaps(seg, e, K)
    maps.like(other.numbered)
    maps = pickle.loads(pickle.dumps(maps))
    a, b = everything(want), everything(maps)
    same = [k for k in a if k in b]
    assert len(same) > 100 and len(same) > .9*len(a)
    for k in same: assert a[k].equal(b[k]), k
    assert maps.numbered.plan((64, 64)).once.__self__._asked == {}   # here nobody has asked yet

def test_likeness_of_one_who_asked_for_nothing_is_nothing():
    maps, other = LabelMaps(seg, None, K), LabelMaps(seg.flip(2), None, K)
    other.plan((32, 32))
    maps.like(other.numbered)
    assert maps.numbered is not None and maps.numbered.sizes == {}
    assert LabelMaps(seg, None, K).numbered is None

def test_cargo_goes_where_the_numbers_go():
    maps = LabelMaps(seg, edges, K)
    x, e = carry(maps, TensorSegmap(seg, labels='some'), TensorEdges(edges))
    assert type(x) is CarryingSegmap and type(e) is CarryingEdges and isinstance(x, Carrying) and x.labels == 'some'
    assert carried(x, e) is maps and carried(x.to('cpu'), e.as_subclass(torch.Tensor)) is maps
    again = pickle.loads(pickle.dumps((x, e)))
    assert carried(*again).segmap.equal(seg) and carried(*again).edges.equal(edges) and again[0].labels == 'some'
    assert carried(x) is carried(x, edges) is carried(seg, e) is carried(seg) is None
    assert carried(again[0], e) is None   # edges of other maps, if of the same numbers
    with Pretend():
        far = [o.to('pretend') for o in (x, e)]
        there = carried(*far)
        assert there.segmap.device.type == there.edges.device.type == 'pretend' and len(there) == 2
        assert there.plan((8, 8)) is maps.plan((8, 8)) and there.numbered is maps.numbered
        assert carried(far[0].flip(2), far[1]) is None

@pytest.mark.parametrize('edit', dict(
    flip=lambda x: x.flip(2), turn=lambda x: x.transpose(1, 2), part=lambda x: x[:1], crop=lambda x: x[:, :, :32],
    more=lambda x: x + 1, floats=lambda x: x.float(), kind=lambda x: x.to(torch.int32), joined=lambda x: torch.cat([x, x]),
    copy=lambda x: x.clone(), deep=copy.deepcopy, first=lambda x: next(iter(x)), halves=lambda x: x.chunk(2)[0],
    inplace=lambda x: x.add_(0), item=lambda x: x.__setitem__((0, 0, 0), 1) or x,
    behind=lambda x: x.as_subclass(torch.Tensor).fill_(2) is None or x,
    cast_back=lambda x: x.as_subclass(torch.Tensor).flip(2).as_subclass(CarryingSegmap)).items(), ids=lambda o: o[0])
def test_cargo_stays_behind_where_numbers_may_be_others(edit):
    [x] = carry(LabelMaps(seg.clone(), None, K), TensorSegmap(seg.clone()))
    assert carried(x) is not None and carried(edit[1](x)) is None

def test_meta_of_another_tensor_brings_no_cargo():
    "As a transform of fastai hands it on: the result gets the metadata of what went in"
    [x] = carry(LabelMaps(seg, None, K), TensorSegmap(seg))
    new = seg.flip(2).as_subclass(CarryingSegmap)
    new.set_meta(x, as_copy=True)
    assert carried(new) is None and 'cargo' not in vars(new) and carried(x) is not None
    assert Cargo(1, x).fits(x) and not Cargo(1).fits(x) and not Cargo(1, x).fits(new)

def test_the_door_takes_maps_that_came_along(plans):
    gen, maps = generators['spade']().eval(), LabelMaps(seg, None, K)
    maps.plan((64, 64))
    [x] = carry(maps, TensorSegmap(seg))
    with torch.no_grad(): assert gen.maps(x) is maps and torch.equal(gen(x), gen(seg))
    assert len(plans) == 2   # of `maps`, and of `seg` without them
    assert labelmaps.label_maps(x, None, K + 1, False) is not maps   # a model with more classes looks for itself
    with pytest.raises(InputError, match='no edges came'): generators['spade'](True).maps(x)

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

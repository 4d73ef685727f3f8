"""What painters and layers keep between pictures: it follows the weights however these are edited, and goes when the painter goes."""
import copy, gc, pickle, time, weakref
from concurrent.futures import ThreadPoolExecutor

import pytest, torch

from test_patterns import lively, rel, voronoi
from gaugan_fastai.core import InputError
from gaugan_fastai.fast import memory
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.fast.modulation import Remember
from gaugan_fastai.fast.winograd import WinogradConv2d
from gaugan_fastai.labelmaps import LabelMaps
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator

pytestmark = pytest.mark.numeric

@pytest.fixture(autouse=True)
def quick_at_any_width(monkeypatch):
    monkeypatch.setattr(WinogradConv2d, 'wide', 1)
    monkeypatch.setattr(WinogradConv2d, 'tiles', 1)

seg = voronoi(1, (32, 64), 6)[0]
def spade(): return lively(SPADEGenerator(6, ngf=2, nhidden=4)).eval(), (seg,)
def sean(): return lively(SEANGenerator(6, 2, 5, 4, 2)).eval(), (seg, torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(0)))
def unet(): return UNetGenerator(6, ngf=2, levels=3).eval(), (seg,)
kinds = dict(spade=spade, sean=sean, unet=unet)

def by_data(o): o.data = o.data*1.5 + .1
def into_data(o): o.data.mul_(1.5).add_(.1)
def into_numpy(o): o.detach().numpy()[...] *= 1.5
def turned(o): o.data.copy_(o.data.flip(*range(o.ndim)).clone())   # sums and lengths stay
def in_inference_mode(o):
    with torch.inference_mode(): o.mul_(1.5).add_(.1)
def by_sgd(o):
    o.grad = torch.ones_like(o)
    torch.optim.SGD([o], lr=.3).step()
    o.grad = None
edits = [by_data, into_data, into_numpy, turned, in_inference_mode, by_sgd]

def of_every_kind(model):
    "A parameter and a statistic of each kind, by the end of their names; of SEAN's style layers that of a class on the map"
    found = {'.'.join(k.split('.')[-2:]): k for k, v in [*model.named_parameters(), *model.named_buffers()] if v.is_floating_point()}
    styles = {k for k in found if 'fc_mu' in k}
    shown = {f'fc_mu{seg.unique()[0]}.weight'} & styles
    return [v for k, v in found.items() if k not in styles or k in shown]

def tensor_of(model, name): return dict([*model.named_parameters(), *model.named_buffers()])[name]

@pytest.mark.parametrize('kind', kinds)
@torch.no_grad()
def test_pictures_follow_each_weight(kind):
    "One tensor after the other is edited; a copy, which starts with nothing kept, knows the right picture"
    gen, args = kinds[kind]()
    painter = gen.for_inference()
    out, moved = painter(*args), 0
    for name in of_every_kind(painter):
        into_data(tensor_of(painter, name))
        before, out, true = out, painter(*args), copy.deepcopy(painter)(*args)
        assert rel(out, true) < 1e-6, name
        moved += rel(out, before) > 1e-4
    assert moved > 4

@pytest.mark.parametrize('edit', edits)
@pytest.mark.parametrize('kind', kinds)
@torch.no_grad()
def test_pictures_follow_the_weights(kind, edit):
    "However they are edited"
    gen, args = kinds[kind]()
    painter = gen.for_inference()
    before = painter(*args)
    for name in of_every_kind(painter): edit(tensor_of(painter, name))
    out, true = painter(*args), copy.deepcopy(painter)(*args)
    assert rel(out, true) < 1e-6 and rel(out, before) > 1e-4

@pytest.mark.parametrize('kind', kinds)
def test_painters_made_in_inference_mode(kind):
    "Their tensors count no versions"
    gen, args = kinds[kind]()
    with torch.inference_mode():
        painter = gen.for_inference()
        before = painter(*args)
        for o in painter.parameters(): o.mul_(1.5)
        out, true = painter(*args), copy.deepcopy(painter)(*args)
    assert rel(out, true) < 1e-6 and rel(out, before) > 1e-3

@pytest.mark.parametrize('kind', kinds)
@torch.no_grad()
def test_pictures_follow_loaded_weights(kind):
    gen, args = kinds[kind]()
    painter, other = gen.for_inference(), copy.deepcopy(gen)
    for o in other.parameters(): o.mul_(1.3)
    other = other.for_inference()
    for assign in (False, True):
        painter(*args)
        painter.load_state_dict(other.state_dict(), assign=assign)
        assert rel(painter(*args), other(*args)) < 1e-6
        painter.load_state_dict(gen.for_inference().state_dict())

def test_remember_is_one_threads_answer():
    "A thread that is slow to make something gets what it made, not what another thread made meanwhile"
    kept, sources = Remember(), [torch.full((3, 4), float(i)) for i in range(4)]
    def make(o):
        time.sleep(.002)
        return o + 1
    with ThreadPoolExecutor(8) as pool: made = list(pool.map(lambda i: kept(make, sources[i % 4]), range(80)))
    for i, o in enumerate(made): assert o[0, 0] == i % 4 + 1

def test_remember_asks_once():
    kept, calls, o = Remember(), [], torch.ones(5, 7)
    for _ in range(3): kept(lambda o: calls.append(o), o)
    kept(lambda o: calls.append(o), o.clone())   # the same numbers elsewhere
    assert len(calls) == 1
    kept(lambda o: calls.append(o), o.double())
    kept(lambda *o: calls.append(o), o, o)
    assert len(calls) == 3


# --- memory

def bytes_alive():
    "Bytes of all tensors that the interpreter knows"
    gc.collect()
    tensors = [o for o in gc.get_objects() if type(o) in (torch.Tensor, torch.nn.Parameter)]   # not those of other tests, which hold no memory
    return sum({o.untyped_storage().data_ptr(): o.untyped_storage().nbytes() for o in tensors if o.layout == torch.strided}.values())

@pytest.mark.once
@pytest.mark.parametrize('own_maps', [False, True])
@pytest.mark.parametrize('kind', ['spade', 'sean'])
@torch.no_grad()
def test_a_painters_memory_goes_with_it(kind, own_maps):
    "Nothing of it stays with the thread; where the caller made the label maps, their plan may, without what layers kept with it"
    gen, args = kinds[kind]()
    painter = gen.for_inference()
    if own_maps: args = LabelMaps(seg, None, 6), *args[1:]
    before = bytes_alive()
    painter(*args)
    layers, during = [weakref.ref(o) for o in painter.modules()], bytes_alive()
    del painter
    args = args if not own_maps else None
    assert not any(o() is not None for o in layers)
    left = bytes_alive() - before
    assert during > before and left <= (.2 if own_maps else 0.)*(during - before)

def test_a_training_gives_its_room_back():
    if memory._libc() is None: pytest.skip('not glibc, or tuned by MALLOC_... or GLIBC_TUNABLES')
    with memory.kept_memory(): memory.workspace(1000, torch.zeros(1))
    assert memory.workspace.memory is None


# --- numbers that are none

@pytest.mark.parametrize('kind', ['spade', 'sean'])
@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_no_painter_of_weights_that_are_no_numbers(kind, bad):
    for name in ('conv_img.bias', 'head_0.conv_0.weight_orig'):
        gen, _ = kinds[kind]()
        gen.get_parameter(name).data.view(-1)[0] = bad
        with pytest.raises(InputError, match=f'none .*{name}.*earlier checkpoint'): gen.for_inference()


# --- copies

def states(kind):
    "Generators in every state, by name, and arguments"
    gen, args = kinds[kind]()
    double = [torch.cat([o, o]) for o in args]
    gen.train()(*double)
    yield 'after a training forward', gen, args
    gen.zero_grad()
    gen(*double).mean().backward()
    yield 'with gradients', gen, args
    gen.eval()
    with torch.no_grad(): gen(*args)
    yield 'after a forward without gradients', gen, args
    painter = gen.for_inference()
    yield 'painter', painter, args
    painter(*args)
    yield 'painter that has painted', painter, args

@pytest.mark.once
@pytest.mark.parametrize('kind', kinds)
def test_copies_in_any_state(kind):
    for name, gen, args in states(kind):
        twins, state, mode = [copy.deepcopy(gen), pickle.loads(pickle.dumps(gen))], gen.state_dict(), gen.training
        for twin in twins: assert all(torch.equal(v, twin.state_dict()[k]) for k, v in state.items()), name
        with torch.no_grad():
            true = gen.eval()(*args)
            for twin in twins: assert rel(twin.eval()(*args), true) < 1e-6, name
        gen.train(mode)

@pytest.mark.parametrize('kind', ['spade', 'sean'])
@torch.no_grad()
def test_painters_take_the_dense_way_too(kind):
    "What was kept on another way does not matter on this one"
    gen, args = kinds[kind]()
    painter = gen.for_inference()
    with ways(exact=False): true = gen(*args)
    for exact in (None, False, True, False):
        with ways(exact=exact): assert rel(painter(*args), true) < 1e-4

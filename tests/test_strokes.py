"A stroke makes what it changed, and nothing else: plans and pictures are those of a map that comes alone."
import pickle, threading
import numpy as np
import pytest, torch
from hypothesis import given, settings, strategies as st

from gaugan_fastai.fast.lineage import Lineage, GrownPatterns, around, lineage_of, numbered_after, plan_after
from gaugan_fastai.fast.strokes import PatternRows, StyledRows, can_follow, in_blocks, products
from gaugan_fastai.fast import lineage
from gaugan_fastai.labelmaps import LabelMaps
from gaugan_fastai.models.sean_generator import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.patterns import LabelPlan, Patterns

pytestmark = pytest.mark.numeric
quick = settings(deadline=None, max_examples=25, derandomize=True)

def drawn(ids, rng, K):
    "The maps with one rectangle more, or less: all of it may lie in one pixel, or cover everything"
    new, (_, H, W) = ids.clone(), ids.shape
    y, x, h, w = (int(rng.integers(o)) for o in (H, W, H + 1, W + 1))
    new[int(rng.integers(len(ids))), y:y + h, x:x + w] = int(rng.integers(K))
    return new

def meaning(plan):
    "For each pixel the classes and edges of its 3x3 window, and of the nine windows about it; -1 outside"
    first, second = plan.windows(3), plan.stacked(3)
    code = plan.classes if plan.edges is None else plan.classes*2 + plan.edges
    padded = lambda o: torch.cat([o, torch.full_like(o[:1], -1)])
    mine = padded(code)[first.taps]
    return mine[first.index], padded(mine)[second.taps][second.index]

@quick
@given(B=st.integers(1, 2), H=st.integers(1, 20), W=st.integers(1, 20), K=st.sampled_from([1, 3, 200]), edges=st.booleans(),
    seed=st.integers(0, 99))
def test_a_plan_after_another_means_what_a_fresh_one_means(B, H, W, K, edges, seed):
    rng = np.random.default_rng(seed)
    ids, edge = torch.from_numpy(rng.integers(0, K, (B, H, W)))//rng.integers(1, 4), None
    sizes = (H, W), (max(1, H//2), max(1, W//2)), (2*H, W)
    plan = LabelPlan(ids, torch.rand(B, H, W) < .2 if edges else None, K)
    for size in sizes: plan.plan(size)
    for _ in range(4):
        ids = drawn(ids, rng, K)
        edge = torch.from_numpy(rng.random((B, H, W)) < .1) if edges else None
        fresh = LabelPlan(ids, edge, K)
        plan = plan_after(plan, ids, edge) or fresh   # None: more new windows than are kept
        for size in sizes:
            for a, b in zip(meaning(plan.plan(size)), meaning(fresh.plan(size))): assert torch.equal(a, b)
            assert plan.plan(size).windows(3).taps.unique(dim=0).shape == plan.plan(size).windows(3).taps.shape

def test_a_stroke_numbers_only_what_it_touched():
    ids = torch.zeros(1, 64, 64, dtype=torch.long)
    ids[:, 32:] = 1
    old = LabelPlan(ids, None, 9)
    first, second = old.plan((64, 64)).windows(3), old.plan((64, 64)).stacked(3)
    ids[0, 10:13, 20:24] = 2
    new = plan_after(old, ids)
    grown = new.plan((64, 64)).windows(3)
    assert isinstance(grown, GrownPatterns) and (new.plan((64, 64)).stacked(3).taps[:len(second)] != second.taps).sum() == \
        (second.taps == second.n_ids).sum()   # only the number for outside is another one
    moved = (grown.index != first.index)[0].nonzero()
    assert moved.amin(0).tolist() == [9, 19] and moved.amax(0).tolist() == [13, 24]
    assert torch.equal(grown.taps[:len(first), 4], first.taps[:, 4]) and new.classes.tolist() == [0, 1, 2]
    same = plan_after(new, ids)
    assert same.plan((64, 64)) is new.plan((64, 64))   # at a size where nothing changed, all is the same

def test_around_by_hand():
    assert around(torch.tensor([5]), (1, 3, 4)).tolist() == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert around(torch.tensor([0]), (2, 2, 2)).tolist() == [0, 1, 2, 3] and not len(around(torch.tensor([], dtype=int), (1, 2, 2)))

@pytest.mark.parametrize('n', [3, 5000])   # one number holds a window of few ids
def test_known_windows_keep_their_numbers(n):
    known, taps = torch.arange(18).view(2, 9) % 3, torch.tensor([[1]*9, [*range(9)], [1]*9, [2]*9]) % 3
    found, number = numbered_after(known, taps, n)
    assert torch.equal(found[:2], known) and len(found) == 4 and torch.equal(found[number], taps) and number.tolist().count(0) == 1

def test_a_map_of_another_shape_or_with_edges_begins_anew():
    ids = torch.zeros(1, 8, 8, dtype=torch.long)
    old = LabelPlan(ids, None, 3)
    old.plan((8, 8))
    assert plan_after(old, ids[:, :4]) is None and plan_after(old, ids, ids == 1) is None and plan_after(old, ids) is not None

def test_patterns_that_went_do_not_pile_up(monkeypatch):
    monkeypatch.setattr(lineage, 'more', 100)
    ids, rng, anew = torch.zeros(1, 32, 32, dtype=torch.long), np.random.default_rng(0), 0
    plan = LabelPlan(ids, None, 9)
    plan.plan((32, 32))
    for _ in range(30):
        ids = drawn(ids, rng, 9)
        found = plan_after(plan, ids)
        anew += found is None
        plan = found or LabelPlan(ids, None, 9)
        assert len(plan.plan((32, 32)).stacked(3)) <= lineage_of(plan.plan((32, 32))).first + 100
    assert 1 < anew < 15

def test_two_strokes_on_one_map_are_two_families():
    ids = torch.zeros(1, 16, 16, dtype=torch.long)
    old = LabelPlan(ids, None, 3)
    family = lineage_of(old.plan((16, 16)))
    one, other = ids.clone(), ids.clone()
    one[0, 3, 3], other[0, 9, 9] = 1, 2
    a, b = plan_after(old, one).plan((16, 16)), plan_after(old, other).plan((16, 16))
    assert lineage_of(a) is family and lineage_of(b) is not family
    assert isinstance(family, Lineage) and not family.grow(1, 2)
    assert lineage_of(pickle.loads(pickle.dumps(a))) is not family   # a copy goes its own way

@pytest.mark.numeric
@pytest.mark.parametrize('K, g', [(128, 128), (64, 112), (32, 80), (20, 48), (8, 16), (3, 32)])
def test_rows_have_the_same_bits_whichever_rows_are_beside_them(K, g):
    "In whatever place of a block a row lies, and however many there are"
    source = torch.Generator().manual_seed(0)
    rows, weight = torch.randn(192, K, generator=source), torch.randn(K, 9*g, generator=source)
    full = products(in_blocks(rows), weight).view(-1, 9, g)
    assert full.shape == (192, 9, g)
    assert torch.allclose(full[:, 4], rows @ weight[:, 4*g:5*g], atol=1e-3)
    for n in (1, 7, 63, 64, 65, 150):
        some = torch.randint(192, (n,), generator=source)
        assert torch.equal(products(in_blocks(rows[some]), weight).view(-1, 9, g)[:n], full[some])

generators = dict(spade=lambda: SPADEGenerator(7, ngf=6, nhidden=10), edges=lambda: SPADEGenerator(7, ngf=4, nhidden=8, edges=True),
    z=lambda: SPADEGenerator(7, ngf=4, nhidden=8, z_dim=5, size=64), sean=lambda: SEANGenerator(7, ngf=4, style_dim=12, nhidden=8, width=4))

def inputs(name, ids):
    "What a generator is called with for a map"
    g = torch.Generator().manual_seed(1)
    if name == 'edges': return dict(edges=ids != ids.roll(1, -1))
    if name == 'z': return dict(z=torch.randn(1, 5, generator=g))
    return dict(codes=torch.randn(1, 7, 12, generator=g)) if name == 'sean' else {}

@pytest.mark.parametrize('name', generators)
def test_pictures_of_strokes_are_those_of_maps_that_come_alone(name):
    "Bit for bit, whatever was painted in between; and those of the papers' convolutions, rounding apart"
    torch.manual_seed(0)
    gen, rng = generators[name]().eval(), np.random.default_rng(0)
    for m in gen.modules():
        if hasattr(m, 'running_mean') and m.running_mean is not None: m.running_mean.normal_(0, .1)
    follows, begins = gen.for_inference(), gen.for_inference()
    ids, seen = torch.zeros(1, 64, 64, dtype=torch.long), []
    with torch.no_grad():
        for i in range(6):
            ids = drawn(ids, rng, 7) if i != 4 else seen[1][0]   # undone
            begins.memory.forget()
            picture = follows(ids, **inputs(name, ids))
            assert torch.equal(picture, begins(ids, **inputs(name, ids)))
            assert torch.allclose(picture, gen(ids, **inputs(name, ids)), atol=2e-5)
            seen.append((ids, picture))
        assert torch.equal(seen[4][1], seen[1][1])
        for p in follows.parameters(): p.mul_(1.01)   # what was kept of the old weights must not stay
        begins = gen.for_inference()
        for p in begins.parameters(): p.mul_(1.01)
        assert torch.equal(follows(ids, **inputs(name, ids)), begins(ids, **inputs(name, ids)))

def test_threads_that_share_a_painter_get_their_own_pictures():
    torch.manual_seed(0)
    gen, alone = (SPADEGenerator(5, ngf=4, nhidden=8).eval() for _ in range(2))
    alone.load_state_dict(gen.state_dict())
    gen, alone, wrong = gen.for_inference(), alone.for_inference(), []
    def paint(seed):
        ids, rng = torch.zeros(1, 32, 32, dtype=torch.long), np.random.default_rng(seed)
        with torch.no_grad():
            for _ in range(6):
                ids = drawn(ids, rng, 5)
                mine = gen(ids)
                with lock:
                    alone.memory.forget()
                    if not torch.equal(mine, alone(ids)): wrong.append(seed)
    lock = threading.Lock()
    threads = [threading.Thread(target=paint, args=[i]) for i in range(3)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert not wrong

def test_who_may_follow():
    conv = lambda ks, **kwargs: torch.nn.Conv2d(2, 4, ks, **kwargs)
    assert can_follow(conv(3), conv(3)) and not can_follow(conv(3), conv(5)) and not can_follow(conv(3, device='meta'))

def test_rows_are_those_of_the_convolutions():
    "And each is made once"
    torch.manual_seed(0)
    ids = torch.zeros(1, 16, 16, dtype=torch.long)
    ids[0, :, 7:] = 1
    shared, gamma, beta = torch.nn.Conv2d(3, 8, 3, padding=1), *(torch.nn.Conv2d(8, 5, 3, padding=1) for _ in range(2))
    table, bias = torch.randn(2*9, 10), torch.randn(10)
    with torch.no_grad():
        make, styled = PatternRows(shared, gamma, beta), StyledRows(table, bias)
        plan = LabelPlan(ids, None, 3).plan((16, 16))
        rows = make(plan)
        planes = torch.nn.functional.one_hot(ids, 3).permute(0, 3, 1, 2).float()
        want = torch.cat([o(shared(planes).relu()) for o in (gamma, beta)], 1)
        assert torch.allclose(rows[plan.stacked(3).index].permute(0, 3, 1, 2), want, atol=1e-5) and make(plan) is rows
        weight = table.view(2, 3, 3, 10).permute(3, 0, 1, 2)   # of a convolution of the one-hot of the plan's codes
        style = torch.nn.functional.conv2d(planes[:, plan.classes], weight, bias, padding=1)
        total = styled(plan, rows)
        assert torch.allclose(total[plan.stacked(3).index].permute(0, 3, 1, 2), want + style, atol=1e-5)

def test_maps_follow():
    ids = torch.zeros(1, 16, 16, dtype=torch.long)
    old, new = LabelMaps(ids, None, 3), LabelMaps(ids.clone(), None, 3)
    new.follow(old)
    assert new.numbered is None   # nobody has asked for patterns
    old.plan((16, 16)).stacked(3)
    new.follow(old)
    assert new.plan((16, 16)) is old.plan((16, 16))
    assert [len(o) for o in (Patterns(ids, 3), new.plan((16, 16)).windows(3))] == [9, 9]

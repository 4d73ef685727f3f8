"""CLADE: the authors' numbers and keys, its two ways, places, edges, checkpoints, other classes, painters, what is refused."""
import copy, importlib.util, json, pickle, sys
import pytest, torch
from fastai.vision.all import cast, set_seed
from safetensors.torch import load_file
from torch.nn import functional as F
from conftest import ROOT, once_but, shared_path
from gaugan_fastai.clade import CLADE, ClassAffine, positional_map
from gaugan_fastai.core import InputError, LabelSpace, onehot
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.finetune import adapt_classes, class_rows, learner_from
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.labelmaps import LabelMaps
from gaugan_fastai.models.ablation import network_cost
from gaugan_fastai.models.clade import CLADEGenerator, clade_learner
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.models.trunk import trunk_config
from gaugan_fastai.originals import load_original, recognise
from gaugan_fastai.painter import Painter
from gaugan_fastai.pretrained import from_pretrained, save_pretrained

TOL, K = 5e-5, landscape_labels().n_classes
KEYS = [f'clade_{o}{p}' for o in ('ade20k', 'coco', 'cityscapes') for p in ('', '_dist')]
scene = torch.stack([torch.as_tensor(draw_landscape(i, 64).segmap).long() for i in range(2)])

def gap(a, b):
    assert a.shape == b.shape, (a.shape, b.shape)
    return (a - b).abs().max().item()

@pytest.fixture(params=[True, False], ids=['by rows', 'dense'])
def way(request):
    with ways(request.param): yield

# -- the authors' numbers ------------------------------------------------------------------------------------------

def reference(case):
    "Path of the weights, arguments of the forward, what came out"
    folder = shared_path('reference', 'clade', case)
    t = load_file(folder/'case.safetensors')
    edges = t['edge'][:, 0].bool() if 'edge' in t else None
    return folder/'latest_net_G.pth', dict(segmap=t['label'][:, 0].long(), edges=edges, dist=t.get('dist')), t

@pytest.mark.numeric
@pytest.mark.parametrize('case', ['edge64', 'icpe64'])
def test_pictures_of_the_reference(case, way):
    path, given, t = reference(case)
    gen = load_original(path)
    assert (gen.n_classes, bool(gen.edges), gen.positions) == (13, case == 'edge64', case == 'icpe64')
    with torch.no_grad():
        assert gap(gen(**given), t['out_eval']) < TOL
        assert gap(gen.for_inference()(**given), t['out_eval']) < TOL
        assert gap(gen.train()(**given), t['out_train1']) < TOL

@pytest.mark.parametrize('name', KEYS)
def test_keys_of_the_published_checkpoints(name):
    info = json.loads(shared_path('reference', 'keys', f'{name}.json').read_text())
    o = info['options']
    edges = not o['no_instance']
    with torch.device('meta'): gen = CLADEGenerator(o['semantic_nc'] - edges, o['ngf'], edges, o['add_dist'], o['num_upsampling_layers'])
    assert {k: list(v.shape) for k, v in gen.state_dict().items()} == info['G']
    assert list(gen.state_dict()) == list(info['G'])
    assert sum(o.numel() for o in gen.parameters()) == info["n_parameters"]["G"]

@pytest.mark.parametrize('case,edges', [('edge64', True), ('edge64', False), ('icpe64', False)])
def test_its_checkpoint_is_read_and_written(case, edges, tmp_path):
    path, given, _ = reference(case)
    state = torch.load(path, weights_only=True)
    assert recognise(state) == 'CLADE generator'
    gen = load_original(path, edges=edges, codes=[f'c{i}' for i in range(13)])
    back = from_pretrained(save_pretrained(gen, tmp_path/'saved'))
    for o in (gen, back):
        assert o.state_dict().keys() == state.keys()
        assert all(torch.equal(v, state[k]) for k, v in o.state_dict().items())
    with torch.no_grad(): assert torch.equal(back(**given), gen(**given))

def test_a_checkpoint_that_does_not_fit(tmp_path):
    path, _, _ = reference('icpe64')
    with pytest.raises(InputError, match='has no inst_conv.*leave edges out'): load_original(path, edges=True)
    with pytest.raises(InputError, match="no block up_4, the mark of 'most'"): load_original(path, upsampling='most')
    with pytest.raises(InputError, match='knows no aspect'): load_original(path, aspect=2.)
    state = torch.load(path, weights_only=True)
    torch.save({k: v for k, v in state.items() if 'class_specified' not in k}, tmp_path/'G.pth')
    with pytest.raises(InputError, match='no key head_0.norm_0.class_specified_affine.weight'): load_original(tmp_path/'G.pth')

@pytest.mark.parametrize('kwargs', [dict(upsampling='most'), dict(widths=[8, 8, 8, 8, 4, 2, 1]), dict(norm='instance'), dict(spectral=False),
    dict(edges=True, positions=True)], ids=str)
def test_all_is_read_off_a_checkpoint(kwargs, tmp_path):
    gen = CLADEGenerator(5, 4, **kwargs)
    torch.save(gen.state_dict(), tmp_path/'G.pth')
    back = load_original(tmp_path/'G.pth')
    for k in ('n_classes', 'ngf', 'edges', 'positions', 'upsampling', 'norm', 'spectral', 'widths'): assert getattr(back, k) == getattr(gen, k), k
    assert trunk_config(gen.state_dict())['ngf'] == 4

# -- what it costs -------------------------------------------------------------------------------------------------

def test_multiplications_are_those_of_the_paper():
    with torch.device('meta'): clade, spade = CLADEGenerator(151, 64), SPADEGenerator(151, 64)
    costs = [network_cost(o, (256, 256)) for o in (clade, spade)]
    assert [round(o['macs']/1e9) for o in costs] == [42, 181]
    assert costs[0]['parameters'] < .75*costs[1]['parameters']

# -- the norm ------------------------------------------------------------------------------------------------------

def layer_and_input(edges, positions, n=5):
    torch.manual_seed(0)
    layer, ids = CLADE(6, n, edges=edges, positions=positions).double(), torch.randint(0, n, (2, 9, 12))
    for o in layer.parameters(): torch.nn.init.normal_(o)
    given = dict(edges=ids > 2 if edges else None, dist=positional_map(ids) if positions else None)
    return layer, torch.randn(2, 6, 3, 4).double(), ids, given

def by_hand(layer, x, ids, edges=None, dist=None, double=False, slope=None):
    "The norm from its definition, with one-hot planes and a loop over nothing"
    if double: x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    step = [ids.shape[-2]/x.shape[-2], ids.shape[-1]/x.shape[-1]]
    at = [(torch.arange(n)*s).floor().long() for n, s in zip(x.shape[-2:], step)]
    small = lambda o: o[..., at[0][:, None], at[1]]
    table, planes = layer.class_specified_affine, onehot(small(ids), layer.n_classes).double()
    w, b = (torch.einsum('bkhw,kc->bchw', planes, o) for o in (table.weight, table.bias))
    if dist is not None:
        d = small(dist).double()
        for conv, which in ((table.dist_conv_w, 'w'), (table.dist_conv_b, 'b')):
            factor = 1 + torch.einsum('bdhw,d->bhw', d, conv.weight.flatten())[:, None] + conv.bias
            if which == 'w': w = w*factor
            else: b = b*factor
    y = (x - x.mean((0, 2, 3), keepdim=True))/(x.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()*w + b
    if edges is not None: y = torch.cat([y, small(edges)[:, None]*layer.inst_conv.weight.flatten() + layer.inst_conv.bias], 1)
    return y if slope is None else torch.where(y > 0, y, slope*y)

@pytest.mark.numeric
@pytest.mark.parametrize('double,slope', [(False, None), (True, .2)])
@pytest.mark.parametrize('edges,positions', [(False, False), (True, False), (False, True), (True, True)])
def test_the_norm_is_its_definition(edges, positions, double, slope, way):
    layer, x, ids, given = layer_and_input(edges, positions)
    x.requires_grad_()
    leaves = [x, *layer.parameters()]
    a, b = (f(x, ids, double=double, slope=slope, **given) for f in (layer, lambda *args, **kw: by_hand(layer, *args, **kw)))
    assert a.shape[1] == 6 + edges and gap(a, b) < 1e-10
    for p, q in zip(*(torch.autograd.grad((o*b.detach().sin()).sum(), leaves) for o in (a, b))): assert gap(p, q) < 1e-9

@pytest.mark.numeric
def test_without_a_gradient_and_in_given_memory(way):
    layer, x, ids, given = layer_and_input(False, True)
    want = layer(x, ids, double=True, slope=.2, **given).detach()
    for o in layer.parameters(): o.requires_grad_(False)
    out = torch.empty(4*x.numel(), dtype=x.dtype)
    with torch.no_grad(): assert gap(layer(x, ids, double=True, slope=.2, out=out, **given), want) < 1e-12

@pytest.mark.parametrize('kwargs', [dict(norm='instance'), dict(norm=torch.nn.BatchNorm2d)], ids=str)
def test_other_normalisations(kwargs, way):
    layer, x, ids = CLADE(6, 5, **kwargs), torch.randn(2, 6, 6, 8), torch.randint(0, 5, (2, 6, 8))
    want = layer.param_free_norm(x)*layer.class_specified_affine.weight[ids].movedim(-1, 1)
    assert gap(layer(x, ids), want) < 1e-5

def test_half_precision(way):
    layer, x, ids, _ = layer_and_input(False, False)
    layer = layer.float()
    with torch.autocast('cpu', dtype=torch.bfloat16): got = layer(x.bfloat16(), ids)
    assert (got.float() - layer(x.float(), ids)).abs().max() < .1

def test_fresh_tables():
    set_seed(0)
    gen = CLADEGenerator(7, 4, positions=True, edges=True)
    tables = [o for o in gen.modules() if isinstance(o, ClassAffine)]
    assert len(tables) == 18
    for o in tables:
        assert 0 <= o.weight.min() and .5 < o.weight.max() < 1 and not o.bias.any()
        assert not any(p.any() for c in (o.dist_conv_w, o.dist_conv_b) for p in c.parameters())

def test_a_norm_refuses():
    layer, x, ids, given = layer_and_input(False, True)
    with pytest.raises(InputError, match='built without positions'): layer_and_input(False, False)[0](x, ids, dist=given['dist'])
    with pytest.raises(InputError, match='built without them'): layer(x, ids, ids > 1)
    with pytest.raises(InputError, match='class 5, but there are 5 classes'): layer(x, ids + 1)

# -- places --------------------------------------------------------------------------------------------------------

def places_by_search(ids, void=None):
    "`positional_map` of one map by a flood from each pixel, without numpy"
    H, W = ids.shape
    res, seen = torch.zeros(2, H, W), set()
    for start in ((y, x) for y in range(H) for x in range(W)):
        if start in seen: continue
        piece, todo = [], [start]
        seen.add(start)
        while todo:
            y, x = todo.pop()
            piece.append((y, x))
            for o in ((y + i, x + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                if 0 <= o[0] < H and 0 <= o[1] < W and o not in seen and ids[o] == ids[start]: seen.add(o), todo.append(o)
        if ids[start] == void: continue
        for axis in (0, 1):
            centre = sum(o[axis] for o in piece)/len(piece)
            largest = max(abs(o[axis] - centre) for o in piece)
            for o in piece: res[axis][o] = (o[axis] - centre)/largest if largest else 0.
    return res

@pytest.mark.numeric
@pytest.mark.parametrize('void', [None, 1])
def test_places(void):
    torch.manual_seed(0)
    maps = [torch.randint(0, 3, (2, 7, 9)), torch.randint(0, 2, (1, 1, 5)), torch.zeros(1, 4, 4).long(), scene[:, ::4, ::4]]
    for ids in maps:
        got = positional_map(ids, void)
        assert got.dtype == torch.float32 and gap(got, torch.stack([places_by_search(o, void) for o in ids])) < 1e-6

def test_pieces_do_not_reach_the_next_map():
    ids = torch.zeros(2, 3, 3).long()
    assert torch.equal(positional_map(ids)[0], positional_map(ids)[1]) and torch.equal(positional_map(ids)[:1], positional_map(ids[:1]))

def moved(**kwargs):
    "A small generator in which places count"
    set_seed(0)
    gen = CLADEGenerator(K, 2, **kwargs)
    for o in gen.modules():
        if isinstance(o, ClassAffine) and hasattr(o, 'dist_conv_w'): [torch.nn.init.normal_(p) for p in o.dist_conv_w.parameters()]
        if isinstance(o, torch.nn.BatchNorm2d): o.momentum = 1.
    torch.nn.init.normal_(gen.conv_img.weight)
    with torch.no_grad(): gen(scene, scene > 9 if gen.edges else None)   # so that means and deviations fit
    return gen.eval()

def test_places_are_computed_where_they_are_not_given(way):
    gen = moved(positions=True)
    want = gen(scene, dist=positional_map(scene))
    assert torch.equal(gen(scene), want) and gap(gen(scene, dist=torch.zeros(2, 2, 64, 64)), want) > 1e-3
    gen.labels = LabelSpace(landscape_labels().codes[:-1] + ['nothing'], void='nothing')
    ids = torch.where(scene == 0, K - 1, scene)
    assert torch.equal(gen(ids), gen(ids, dist=positional_map(ids, K - 1))) and gap(gen(ids), gen(ids, dist=positional_map(ids))) > 1e-4

def test_places_are_searched_once_a_batch(monkeypatch):
    import gaugan_fastai.models.clade as module
    calls, gen = [], moved(positions=True)
    monkeypatch.setattr(module, 'positional_map', lambda *args: calls.append(args) or positional_map(*args))
    maps = gen.maps(scene)
    for _ in range(3): gen(maps)
    assert len(calls) == 1
    fast = gen.for_inference()
    fast(scene), fast(scene.clone()), fast(scene.flip(2))
    assert len(calls) == 3

def test_a_generator_refuses():
    gen, plain = moved(positions=True), moved()
    with pytest.raises(InputError, match='without positions: leave it out'): plain(scene, dist=positional_map(scene))
    for bad in (torch.zeros(2, 1, 64, 64), torch.zeros(2, 2, 32, 32), torch.zeros(2, 2, 64, 64).long(), [1]):
        with pytest.raises(InputError, match=r'floats \[B,2,H,W\] = \(2, 2, 64, 64\) are needed'): gen(scene, dist=bad)
    with pytest.raises(InputError, match='upsampling is .some., but it is one of normal, more, most'): CLADEGenerator(3, upsampling='some')
    with pytest.raises(InputError, match='multiples of 32'): gen(scene[:, :40])
    with pytest.raises(InputError, match='no edges came'): moved(edges=True)(scene)
    with pytest.raises(InputError, match='pass dist=positional_map'): torch.jit.trace(gen, scene)

def test_a_recorded_forward_is_given_its_places():
    gen, dist = moved(positions=True).for_inference(), positional_map(scene)
    traced = torch.jit.trace(lambda ids, dist: gen(ids, dist=dist), (scene, dist))
    assert gap(traced(scene, dist), gen(scene)) < 5e-5   # float32, two ways to add; 1.6e-5 on an AMD EPYC

# -- training, painting, other classes -------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0)

@pytest.mark.parametrize('kwargs', [{}, dict(positions=True)], ids=str)
def test_it_learns_and_paints(kwargs, dls, tmp_path):
    set_seed(0)
    learn = clade_learner(dls, ngf=4, ndf=8, perceptual=None, path=tmp_path, **kwargs)
    before = copy.deepcopy(learn.model.generator.state_dict())
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    went = {k: not torch.equal(v, before[k]) for k, v in learn.model.generator.named_parameters()}
    assert [k for k, o in went.items() if not o and 'dist_conv' not in k] == []   # a region of one pixel has no places
    assert any(o for k, o in went.items() if 'dist_conv' in k) == bool(kwargs)
    drawn = draw_landscape(3, 32).segmap
    picture = learn.predict(drawn, ids='library')
    assert picture.size == (32, 32) and Painter(learn)(drawn, ids='library').size == (32, 32)
    with learn.painting() as gen: save_pretrained(gen, tmp_path/'model', labels=dls.labels)
    kept, ids = from_pretrained(tmp_path/'model'), torch.as_tensor(drawn).long()[None]
    with learn.painting() as gen: assert torch.equal(kept(ids), gen(ids))
    assert kept.labels == dls.labels and 'CLADEGenerator' in repr(Painter(tmp_path/'model'))
    learn.export('export.pkl')
    assert pickle.dumps(learn.model.generator) and (tmp_path/'export.pkl').is_file()

def test_a_learner_refuses(dls):
    with pytest.raises(InputError, match='preset is .huge., but it is one of cpu, small, paper'): clade_learner(dls, 'huge', perceptual=None)
    with pytest.raises(InputError, match='objective is'): clade_learner(dls, objective='x', perceptual=None)
    with pytest.raises(InputError, match='multiples of 64: choose such a size'): clade_learner(dls, ngf=2, upsampling='more', perceptual=None)
    other = moved()
    other.labels = dls.labels
    with pytest.raises(InputError, match='positions=True, but the checkpoint has positions=False'):
        clade_learner(dls, pretrained=other, positions=True, perceptual=None)
    spade = SPADEGenerator(K, 2, nhidden=2)
    spade.labels = dls.labels
    with pytest.raises(InputError, match='holds a SPADEGenerator, which the model clade does not train'): clade_learner(dls, pretrained=spade, perceptual=None)

def test_it_starts_from_trained_weights(dls):
    gen = moved(positions=True)
    gen.labels = dls.labels
    for learn in (clade_learner(dls, pretrained=gen, perceptual=None), learner_from('clade', dls, gen, perceptual=None)):
        assert learn.model.generator.ngf == 2 and learn.model.generator.positions
        assert all(torch.equal(v, gen.state_dict()[k]) for k, v in learn.model.generator.state_dict().items())

@pytest.mark.numeric
@pytest.mark.parametrize('has', once_but([True], [False, True]))
@pytest.mark.parametrize('spectral', once_but([False], [False, True]))
def test_rows_and_edges_are_carried_over(has, spectral):
    "In float64: classes in another order paint the same, and a network that learns of edges paints the same where none are"
    gen = moved(positions=True, edges=has, spectral=spectral)
    gen.labels, codes = landscape_labels(), landscape_labels().codes
    for o in gen.modules():
        if isinstance(o, ClassAffine): torch.nn.init.normal_(o.bias)
    edges = (scene > 9) if has else None
    more = adapt_classes(gen, LabelSpace([*codes[::-1], 'balloon'], void=None), edges=True)
    assert (more.n_classes, more.edges) == (K + 1, True)
    ids, none = K - 1 - scene, torch.zeros_like(scene).bool()
    with torch.no_grad(): a, b = gen.double()(scene, edges), more.double()(ids, edges if has else none)
    assert a.std() > 1e-3 and gap(a, b) < 1e-6
    if has:
        less = adapt_classes(gen.float(), landscape_labels(), edges=False)
        assert not less.edges and less(scene).isfinite().all() and not any('inst_conv' in k for k in less.state_dict())
    table = more.head_0.norm_0.class_specified_affine.weight
    assert gap(table[-1], table[:-1].mean(0)) < 1e-6

def test_a_row_that_nobody_has_is_the_mean():
    table = torch.tensor([[1., 1.], [0., 0.], [3., 5.]])
    assert class_rows(table, [2, 1, None]).tolist() == [[3, 5], [0, 0], [2, 3]]

def test_edges_that_were_carried_over_can_be_learnt(dls):
    gen = moved()
    gen.labels = dls.labels
    more = adapt_classes(gen, dls.labels, edges=True).train()
    (more(scene, scene > 9).std() + 0).backward()
    grads = [more.up_3.conv_0.weight_orig.grad[:, -1]]
    assert all(o.abs().sum() > 0 for o in grads)

# -- the race ------------------------------------------------------------------------------------------------------

def test_the_table_of_the_race(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT/'tools'))
    spec = importlib.util.spec_from_file_location('clade_table', ROOT/'tools/clade_table.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.main(['--out', str(tmp_path), '--table']) == 1 and 'holds no runs.jsonl' in capsys.readouterr().err
    cost = lambda k, s: dict(kind='cost', network=k, parameters=10**6, gflops=1., seconds=s)
    score = lambda k, seed, n, kid: dict(kind='score', network=k, seed=seed, steps=n, kid=kid, miou=.5)
    for o in (cost('clade', .1), cost('dense spade', .3), cost('exact spade', .2)): tool.note(tmp_path, o)
    for seed, kid in enumerate((.1, .2, .3)):
        for k, n in (('spade', 200), ('spade', 300), ('clade', 300), ('clade', 600)): tool.note(tmp_path, score(k, seed, n, kid + n/1000))
    capsys.readouterr()
    assert tool.main(['--out', str(tmp_path), '--table', '--minutes', '1']) == 0
    rows = [o.strip('| ').split(' | ') for o in capsys.readouterr().out.splitlines()]
    assert rows[0][4] == 'KID after 300 steps' and [o[0] for o in rows[2:]] == ['CLADE', 'SPADE, dense', 'SPADE, exact']
    assert [o[6] for o in rows[2:]] == ['600', '200', '300']
    assert [o[4][:5] for o in rows[2:]] == ['0.500']*3 and [o[7] for o in rows[2:]] == ['0.800 ± 0.248', '0.400 ± 0.248', '0.500 ± 0.248']

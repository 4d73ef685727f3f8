"""One object that paints with every model, from any thread: the right picture each time, nothing kept but its own."""
import gc, weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np, pytest, torch
from fastai.vision.all import load_learner
from PIL import Image

from pretend_device import Pretend
from test_threads_painters import forced_switches
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import StyleEncoder
from gaugan_fastai.folders import paint_folder
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import SEANGenerator, sean_learner
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.painter import Painter, load_model, paint
from gaugan_fastai.pictures import paint_map
from gaugan_fastai.pretrained import save_pretrained
from gaugan_fastai.runs import Run
from gaugan_fastai.styles import crossover
from gaugan_fastai.wishes import Wishes

labels, pretend = landscape_labels(), torch.device('pretend', 0)
K = labels.n_classes

def lively(cls, *args, **kwargs):
    "A network whose weights look at the map and the style, always the same"
    torch.manual_seed(1)
    gen = cls(*args, **kwargs)
    with torch.no_grad():
        for p in gen.parameters(): p.add_(torch.randn_like(p)*.2)
    gen.labels = labels
    return gen.eval()

def spade(): return lively(SPADEGenerator, K, 2, nhidden=4)
def spade_z():
    gen = lively(SPADEGenerator, K, 2, nhidden=4, z_dim=4, size=(32, 64))
    gen.__dict__['encoder'] = StyleEncoder(2, 4, 16).eval()
    return gen
def edged(): return lively(SPADEGenerator, K, 2, nhidden=4, edges=True)
def sean():
    gen = lively(SEANGenerator, K, 2, style_dim=5, nhidden=4, width=2)
    gen.usual = torch.randn(K, 5, generator=torch.Generator().manual_seed(2))
    return gen
def unet(): return lively(UNetGenerator, K, 2, levels=4)

makes = dict(spade=spade, spade_z=spade_z, edged=edged, sean=sean, unet=unet)
scenes = [draw_landscape(i, (32, 64)) for i in range(4)]
maps = [torch.from_numpy(o.segmap).long() for o in scenes]
codes = [torch.randn(K, 5, generator=torch.Generator().manual_seed(i)) for i in range(3)]
def how(kind, i):
    "Arguments of the i-th style of a kind of model"
    return dict(spade_z=dict(seed=i), sean=dict(codes=codes[i]), edged=dict(instances=maps[(i + 1) % 4])).get(kind, {})

def as_ints(picture): return np.asarray(picture).astype(int)
def gap(a, b): return abs(as_ints(a) - as_ints(b)).max()

@pytest.fixture(params=makes)
def kind(request): return request.param

# -- the right picture -------------------------------------------------------------------------------------------

@pytest.mark.numeric
def test_it_paints_what_the_network_paints(kind):
    "The bare network, asked by hand, and the painter: to one grey level, since spectral norms are folded"
    gen, painter = makes[kind](), Painter(makes[kind]())
    for i, segmap in enumerate(maps[:3]):
        z = torch.randn(1, 4, generator=torch.Generator().manual_seed(i))
        style = dict(spade_z=dict(z=z), sean=dict(codes=codes[i][None])).get(kind, {})
        edges = dict(instances=maps[(i + 1) % 4]) if kind == 'edged' else {}
        want = paint_map(gen, segmap[None], **edges, **style)
        assert want.size == (64, 32) and gap(painter(segmap, **how(kind, i)), want) <= 1
    assert gap(painter(maps[0], **how(kind, 0)), painter(maps[1], **how(kind, 1))) > 8, 'the network looks at its map'

@pytest.mark.numeric
def test_the_same_call_gives_the_same_picture(kind):
    "Whatever was painted in between"
    painter, calls = Painter(makes[kind]()), [(m, i) for m in range(3) for i in range(3)]
    first = {o: painter(maps[o[0]], **how(kind, o[1])) for o in calls}
    order = np.random.default_rng(0).permutation(calls*2).tolist()
    assert max(gap(painter(maps[m], **how(kind, i)), first[m, i]) for m, i in order) <= 1

@pytest.mark.once
@pytest.mark.numeric
def test_many_threads_at_once(kind, n=8):
    "One painter, fresh, and threads that ask for different maps and styles"
    painter, calls = Painter(makes[kind]()), [(m, i) for m in range(4) for i in range(2)]
    alone = Painter(makes[kind]())
    want = [alone(maps[m], **how(kind, i)) for m, i in calls]
    def job(k):
        order = [(k + j) % len(calls) for j in range(len(calls))]
        return [(o, painter(maps[calls[o][0]], **how(kind, calls[o][1]))) for o in order]
    with forced_switches(), ThreadPoolExecutor(n) as pool: found = list(pool.map(job, range(n)))
    assert max(gap(p, want[o]) for one in found for o, p in one) <= 1

def test_painting_leaves_the_network_alone(kind):
    gen = makes[kind]()
    before, names = {k: v.clone() for k, v in gen.state_dict().items()}, set(vars(gen))
    painter = Painter(gen)
    for i, o in enumerate(maps[:2]): painter(o, **how(kind, i))
    assert set(vars(gen)) == names and all(torch.equal(v, before[k]) for k, v in gen.state_dict().items())
    with torch.no_grad():
        for p in gen.parameters(): p.zero_()
    assert as_ints(painter(maps[0], **how(kind, 0))).std() > 1, 'the painter has weights of its own'

@pytest.mark.once
@pytest.mark.numeric
class GivenUp(Exception): pass

@pytest.mark.parametrize('kind', ['spade', 'spade_z', 'edged', 'sean'])
def test_a_picture_that_is_given_up_leaves_nothing_behind(kind):
    "Wherever it ends; the next pictures are those of a painter that has finished all"
    gen = makes[kind]()
    painter, other = Painter(gen), Painter(gen)
    def wish(p, i, **kw):
        [found] = p.styles_for(**{k: v for k, v in how(kind, i).items() if k != 'instances'})
        given = dict(instances=maps[(i + 1) % 4]) if kind == 'edged' else {}
        return p.paint_in(found, maps[i][None], **given, **kw)
    calls = []
    wish(other, 0, between=lambda: calls.append(1))
    assert len(calls) == len(gen.stages())
    for n in range(len(calls)):
        left = iter(range(n))
        def between():
            if next(left, None) is None: raise GivenUp
        with pytest.raises(GivenUp): wish(painter, n % 3, between=between)
        assert painter.gen.memory.between is None
        for i in ((n + 1) % 3, n % 3): assert (as_ints(wish(painter, i)) == as_ints(wish(other, i))).all()

def test_a_network_without_blocks_is_not_asked_in_between():
    painter, calls = Painter(unet()), []
    assert as_ints(painter.paint_in(None, maps[0][None], between=lambda: calls.append(1))).shape == (32, 64, 3) and not calls

def test_on_another_device(kind):
    "Network, maps and styles meet where the painter is told to paint"
    photo, here = scenes[0].photo, Painter(makes[kind]())
    calls = [how(kind, 0), *[dict(style=photo)]*(kind == 'spade_z'), *[dict(style=photo, style_map=maps[0]), {}]*(kind == 'sean')]
    with Pretend():
        there = Painter(makes[kind](), device=pretend)
        assert all(o.device.type == pretend.type for o in there.gen.parameters())
        found = [there(maps[0], **o) for o in calls for _ in range(2)]
    want = [here(maps[0], **o) for o in calls for _ in range(2)]
    assert max(map(gap, found, want)) <= 1

# -- what is kept ------------------------------------------------------------------------------------------------

class Maps:
    "What a generator makes of a map"
    def __init__(self, ids): self.ids = ids

class Counting(torch.nn.Module):
    "A generator that counts how often it makes something of a map"
    styles, z_dim, labels = 'z', 1, LabelSpace(['sky', 'sea'], void=None)
    def __init__(self):
        super().__init__()
        self.made, self.weight = [], torch.nn.Parameter(torch.ones(1))
    def for_inference(self): return self
    def maps(self, segmap):
        self.made.append(weakref.ref(found := Maps(segmap)))
        return found
    def forward(self, maps, z): return (maps.ids[:, None].expand(-1, 3, -1, -1)*z.sum()*self.weight).tanh()

def test_maps_are_made_once():
    "A repeated map and a new style find what was made of the map; the one before is gone when a new one comes"
    gen, a, b = Counting(), torch.zeros(4, 4).long(), torch.ones(4, 4).long()
    painter = Painter(gen)
    for seed in (0, 0, 5): painter(a, seed=seed)
    assert len(gen.made) == 1
    painter(b)
    assert len(gen.made) == 2 and gen.made[0]() is None and gen.made[1]() is not None
    painter(a)
    painter(a, size=8)
    assert len(gen.made) == 4, 'another size is another map'
    del painter
    gc.collect()
    assert all(o() is None for o in gen.made)

@pytest.mark.numeric
def test_a_photo_is_read_once():
    painter, read = Painter(spade_z()), []
    painter.gen.encoder.register_forward_hook(lambda *_: read.append(1))
    photo, pictures = scenes[0].photo, []
    for segmap in maps[:2]: pictures += [painter(segmap, style=photo), painter(segmap, style=Image.fromarray(photo))]
    assert len(read) == 1 and max(gap(pictures[0], pictures[1]), gap(pictures[2], pictures[3])) <= 1
    for o in scenes[1:]: painter(maps[0], style=o.photo)
    assert len(read) == 4
    for i in range(10): painter.encode(draw_landscape(i, 24).photo)
    assert len(painter._last_styles) == 8

def test_nothing_stays_behind(kind):
    "A painter that is gone takes network, maps and styles along"
    painter = Painter(makes[kind]())
    painter(maps[0], **how(kind, 0))
    refs = [weakref.ref(o) for o in (painter, painter.gen, *painter.gen.children())]
    del painter
    gc.collect()
    assert not [o for o in refs if o() is not None]

# -- what it says and takes --------------------------------------------------------------------------------------

@pytest.mark.parametrize('kind, styles, takes, size', [
    ('spade', None, (), None), ('edged', None, ('instances',), None), ('unet', None, (), None),
    ('spade_z', 'z', ('style', 'seed'), (32, 64)), ('sean', 'codes', ('style', 'style_map', 'codes'), None)])
def test_facts(kind, styles, takes, size):
    painter = Painter(makes[kind]())
    assert (painter.styles, painter.takes, painter.size, painter.labels) == (styles, takes, size, labels)
    assert f'{K} classes' in repr(painter) and all(o in repr(painter) for o in takes) and len(repr(painter)) < 120

@pytest.mark.numeric
def test_no_photo_without_an_encoder():
    gen = spade_z()
    del gen.__dict__['encoder']
    painter = Painter(gen)
    assert painter.takes == ('seed',)
    with pytest.raises(InputError, match='without a style encoder'): painter(maps[0], style=scenes[0].photo)
    assert gap(painter(maps[0], style=torch.ones(4)), painter(maps[0], style=torch.ones(1, 4))) <= 1
    assert gap(painter(maps[0], style=torch.ones(4)), painter(maps[0])) > 1

@pytest.mark.parametrize('kind, kw, words', [
    ('spade', dict(seed=1), 'leave seed out'), ('unet', dict(style=torch.ones(4)), 'leave style out'),
    ('spade', dict(codes=codes[0]), 'leave codes out'), ('spade', dict(instances=maps[0]), 'without instance edges'),
    ('edged', {}, 'pass instances='), ('spade_z', dict(style=torch.ones(4), seed=1), 'leave seed out'),
    ('spade_z', dict(style=torch.ones(3)), 'z has 4 numbers'), ('spade_z', dict(seed=-1), 'seed is -1'),
    ('spade_z', dict(style_map=maps[0]), 'leave style_map out'), ('spade_z', dict(codes=codes[0]), 'leave codes out'),
    ('sean', dict(seed=1), 'none by chance: leave seed out'),
    ('sean', dict(style=scenes[0].photo), 'pass style_map=MAP'),
    ('sean', dict(style_map=maps[0]), 'pass style=PHOTO'),
    ('sean', dict(codes=codes[0][1:]), r'codes are of shape \(18, 5\)'),
    ('sean', dict(style=scenes[0].photo, style_map=maps[0][:16]), 'photo is 64x32, but its label map is 64x16'),
    ('sean', dict(style=codes[0], codes=codes[1]), 'leave one out'),
    ('sean', dict(codes=dict(lava=codes[0])), "no class 'lava'"),
    ('sean', dict(codes=dict(sky=torch.zeros(K, 5))), 'does not show'), ('spade', dict(size=33), 'multiples of 32'),
    ('spade', dict(size='large'), "size='large'")], ids=str)
def test_refused(kind, kw, words):
    with pytest.raises(InputError, match=words): Painter(makes[kind]())(maps[0], **kw)

def test_sizes():
    "A model that paints any size keeps the map's; with z the picture is scaled, and takes the shape of the map"
    free, fixed = Painter(spade()), Painter(spade_z())
    free.gen.card = dict(size=[64, 64])
    assert [free(maps[0], size=o).size for o in (None, 32, (64, 32))] == [(128, 64), (32, 32), (32, 64)]
    square = maps[0][:, :32]
    assert [fixed(o).size for o in (maps[0], square)] == [(64, 32), (64, 64)]
    assert fixed(square, size=(20, 30)).size == (30, 20)

# -- which map ---------------------------------------------------------------------------------------------------

@pytest.fixture
def void_first():
    "A painter whose files have void first, where the library has it last"
    gen = lively(SPADEGenerator, 3, 2, nhidden=4)
    gen.labels = LabelSpace(['void', 'sky', 'sea'])
    return Painter(gen)

@pytest.mark.numeric
def test_what_numbers_mean(void_first, tmp_path):
    values = np.zeros((32, 32), np.uint8)
    values[16:], values[:8] = 1, 2
    Image.fromarray(values).save(tmp_path/'map.png')
    file = void_first(tmp_path/'map.png')
    others = void_first(str(tmp_path/'map.png')), void_first(Image.fromarray(values)), void_first(values, ids='file')
    library = void_first(values, ids='library')
    assert max(gap(o, file) for o in others) <= 1 < gap(library, file)
    assert gap(library, void_first(torch.from_numpy(values))) <= 1
    with pytest.raises(InputError, match="ids='file' or ids='library'"): void_first(values)
    with pytest.raises(InputError, match='leave ids out'): void_first(tmp_path/'map.png', ids='library')
    Image.fromarray(values + 7).save(tmp_path/'map.png')
    words = 'one grey value a pixel, 0, 1, 2 .its card.*save the map like that'
    with pytest.raises(InputError, match=words): void_first(tmp_path/'map.png')
    with pytest.raises(InputError, match='ids are 0..2'): void_first(torch.from_numpy(values + 7))
    with pytest.raises(InputError, match='one map'): void_first(torch.zeros(2, 32, 32).long())

# -- codes -------------------------------------------------------------------------------------------------------

def test_codes_from_everywhere():
    "The usual ones fill what a photo and what a user leaves out; a dict changes one class alone"
    painter = Painter(sean())
    usual, shown = painter.gen.usual, painter.encode(scenes[0].photo, maps[0])
    absent = [i for i in range(K) if i not in maps[0]]
    assert absent and not shown[absent].any() and shown[maps[0][0, 0]].any()
    [filled] = painter.styles_for(scenes[0].photo, style_map=maps[0])
    assert torch.equal(filled[0, absent], usual[absent]) and torch.equal(painter.styles_for(codes=shown)[0], filled)
    assert torch.equal(painter.styles_for()[0][0], usual) and torch.equal(painter.styles_for(codes={})[0][0], usual)
    [one] = painter.styles_for(codes=dict(sky=codes[0]))
    sky = labels.codes.index('sky')
    assert torch.equal(one[0, sky], codes[0][sky]) and torch.equal(one[0, sky + 1:], usual[sky + 1:])
    [both] = painter.styles_for(scenes[0].photo, dict(sky=codes[0]), style_map=maps[0])
    assert torch.equal(both[0, sky], codes[0][sky]) and torch.equal(both[0, sky + 1:], filled[0, sky + 1:])

@pytest.mark.numeric
def test_a_code_for_each_block():
    painter, (a, b) = Painter(sean()), codes[:2]
    pictures = [painter(maps[0], codes=crossover(a[None], b[None], o)) for o in (0, 3, 6)]
    assert gap(pictures[0], painter(maps[0], codes=b)) <= 1 and gap(pictures[2], painter(maps[0], codes=a)) <= 1
    assert gap(pictures[1], pictures[0]) > 1 and gap(pictures[1], pictures[2]) > 1

@pytest.mark.numeric
def test_without_usual_codes():
    "Classes of the map that nobody gave a style are named"
    painter = Painter(sean())
    painter.gen.usual = None
    with pytest.raises(InputError, match='without usual styles'): painter(maps[0])
    present = [labels.codes[i] for i in maps[0][::2, ::2].unique()]
    with pytest.raises(InputError, match=f'no style for .*{present[1]}'): painter(maps[0], codes={present[0]: codes[0]})
    assert gap(painter(maps[0], codes={o: codes[0] for o in present}), painter(maps[0], codes=codes[0])) <= 1

# -- from what ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0)

tiny = dict(preset='cpu', ngf=2, nhidden=4, perceptual=None, ndf=4)

@pytest.mark.once
@pytest.mark.numeric
@pytest.mark.parametrize('z_dim', [None, 4])
def test_a_learner_and_its_export(dls, z_dim, tmp_path):
    learn = spade_learner(dls, z_dim=z_dim, path=tmp_path, **tiny)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, lr=1e-3)
    kw, segmap = dict(seed=3) if z_dim else {}, draw_landscape(3, 48).segmap
    painter = Painter(learn)
    want = painter(segmap, **kw)
    assert painter.size == (32, 32) and want.size == (32, 32) and gap(want, learn.predict(segmap, **kw)) <= 1
    photo = draw_landscape(5, 40).photo
    styled = painter(segmap, style=photo) if z_dim else None
    if z_dim: assert gap(styled, learn.predict(segmap, style=photo)) <= 1
    learn.export()
    assert gap(Painter(load_learner(tmp_path/'export.pkl'))(segmap, **kw), want) <= 1
    with learn.no_bar(), learn.no_logging(): learn.fit(2, lr=.05)
    painter._last_styles.clear()
    assert gap(painter(segmap, **kw), want) <= 1 < gap(Painter(learn)(segmap, **kw), want), 'as it was when it was made'
    if z_dim: assert gap(painter(segmap, style=photo), styled) <= 1

@pytest.mark.numeric
def test_a_learner_with_usual_codes(dls):
    learn = sean_learner(dls, style_dim=4, width=2, average=None, **tiny)
    painter, segmap = Painter(learn), draw_landscape(3, 32).segmap
    assert torch.equal(painter.gen.usual, learn.model.generator.usual)
    assert gap(painter(segmap), learn.predict(segmap)) <= 1
    o = draw_landscape(5, 32)
    filled, [found] = learn.encode(o.photo, o.segmap), painter.styles_for(o.photo, style_map=o.segmap)
    torch.testing.assert_close(found[0], filled, rtol=1e-4, atol=1e-5)

@pytest.mark.numeric
def test_a_run_in_memory_and_on_the_disk(dls, tmp_path):
    run = Run(dls, tmp_path/'run', preset='cpu', ngf=2, nhidden=4, perceptual=None)
    with pytest.raises(InputError, match='no model yet'): Painter(tmp_path/'run')
    run.fit(epochs=1)
    segmap = draw_landscape(3, 32).segmap
    here, there = Painter(run), Painter(tmp_path/'run')
    assert gap(here(segmap), there(segmap)) <= 1
    assert here.size == there.size == (32, 32) and str(tmp_path/'run') in repr(there)
    assert (paint(load_model(tmp_path/'run'), segmap) == np.asarray(there(segmap))).all()

def test_a_unet_from_its_folder(tmp_path):
    folder = save_pretrained(unet(), tmp_path/'unet', labels=labels, size=[32, 64])
    painter = Painter(str(folder))
    assert painter(maps[0]).size == (64, 32)
    assert painter.card['size'] == [32, 64] and painter.size == (32, 64)

@pytest.mark.parametrize('model, words', [
    ('no_such_model', 'by name there are.*landscapes'), (MultiScaleCritic(3, 2), 'MultiScaleCritic does not paint'),
    (SPADEGenerator(3, 2, nhidden=4), 'set its labels'), (3, 'int does not paint')], ids=str)
def test_what_does_not_paint(model, words):
    with pytest.raises(InputError, match=words): Painter(model)

@pytest.mark.numeric
@pytest.mark.parametrize('kind, kw', [('spade_z', dict(seed=3)), ('sean', dict(codes=codes[0]))])
def test_a_folder(kind, kw, tmp_path):
    "The pictures of single calls; bad maps are reported, and a generator from `load_model` paints as well"
    painter, folder = Painter(makes[kind]()), tmp_path/'maps'
    folder.mkdir()
    for i, o in enumerate(maps[:2]): Image.fromarray(o.numpy().astype(np.uint8)).save(folder/f'{i}.png')
    (folder/'2.png').write_bytes(b'no picture')
    res = paint_folder(painter, folder, tmp_path/'out', **kw)
    assert [o.name for o in res] == ['0.png', '1.png', '2.png'] and isinstance(res[folder/'2.png'], InputError)
    for o in ('0.png', '1.png'): assert gap(Image.open(tmp_path/'out'/o), painter(folder/o, **kw)) <= 1
    again = paint_folder(painter.gen, [folder/'0.png'], tmp_path/'again', **kw)
    assert gap(Image.open(again[folder/'0.png']), Image.open(tmp_path/'out/0.png')) <= 1

def test_wishes_are_what_a_painter_understands():
    gen = load_model('landscapes_style')
    wishes, painter = Wishes(gen), Painter('landscapes_style')
    assert (wishes.styles, wishes.size) == ('z', painter.size) and wishes.labels.codes == painter.labels.codes
    [mine], [its] = wishes.styles_for(seed=3), painter.styles_for(seed=3)
    assert torch.equal(mine, its)
    with pytest.raises(InputError, match='one style for a whole picture'): wishes.styles_for(codes=torch.zeros(19, 32))

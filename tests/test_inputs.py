"""What networks read beside the label map: one description an input. Depth is added by one file, normals by this test."""
import contextlib, io, shutil
from pathlib import Path
from types import SimpleNamespace
import numpy as np, pytest, torch
from fastai.vision.all import Callback, TensorBase, set_seed
from PIL import Image
from gaugan_fastai import inputs as inputs_module
from gaugan_fastai.clade import conv_name
from gaugan_fastai.cli import main
from gaugan_fastai.core import InputError, LabelSpace, PILInstances, instance_edges
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.depth import Depth, PILDepth, TensorDepth, read_depth
from gaugan_fastai.data.instances import Report, pair_maps
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels, write_landscapes
from gaugan_fastai.data.layouts import Pair, PartOf, check_pair, find_pairs
from gaugan_fastai.data.paired import MapBlock, PairedDataLoaders, mark_of
from gaugan_fastai.finetune import adapt_classes
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.inputs import (Edges, MapInput, PILMap, found_inputs, input_columns, input_named, inputs_of, map_inputs, n_read,
    names_of, input_args, refuse_inputs, register_input, split_given, switched_on)
from gaugan_fastai.labelmaps import LabelMaps, carried, label_maps, maps_for, named_inputs
from gaugan_fastai.models.ablation import ConcatGenerator
from gaugan_fastai.models.clade import CLADEGenerator
from gaugan_fastai.models.oasis import oasis_learner
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.painter import Painter
from gaugan_fastai.pictures import read_by
from gaugan_fastai.pretrained import from_pretrained, save_pretrained

K = 5
torch.manual_seed(0)
seg = torch.randint(0, K, (2, 8, 8)).repeat_interleave(8, 1).repeat_interleave(8, 2)
depth, edges = torch.rand(2, 64, 64), instance_edges(seg)
tiny = ['--size', '32', '--preset', 'cpu', '--ngf', '4', '--nhidden', '8', '--perceptual', 'none', '--epochs', 1]

def plain(x): return x.as_subclass(torch.Tensor)
def read(fn): return np.asarray(Image.open(fn))

def gaugan(*args):
    with contextlib.redirect_stdout(io.StringIO()) as o, contextlib.redirect_stderr(io.StringIO()) as e:
        try: code = main(args)
        except SystemExit as exc: code = exc.code
    assert 'Traceback' not in e.getvalue()
    return code, o.getvalue(), e.getvalue()

class PILNormals(PILMap):
    "Directions to the right and up as two channels: the first changes its sign in a mirror"
    @classmethod
    def create(cls, given): return cls(Image.fromarray(np.asarray(given, np.uint8)))
    def to_tensor(self): return TensorNormals(torch.from_numpy(np.array(self, dtype=np.float32)).permute(2, 0, 1)/127.5 - 1)
    def mirrored(self):
        turned = np.array(super().mirrored())
        turned[..., 0] = 255 - turned[..., 0]
        return PILNormals(Image.fromarray(turned))
class TensorNormals(TensorBase): pass
class Normals(MapInput):
    name = source = word = title = 'normals'
    channels, picture, tensor = 3, PILNormals, TensorNormals

@pytest.fixture
def normals():
    yield register_input(Normals())
    del map_inputs['normals']

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Drawn scenes whose photos *are* their depth, in grey; not to be changed"
    path = write_landscapes(tmp_path_factory.mktemp('data')/'far', n_train=8, n_val=4, size=48, seed=0)
    for i, fn in enumerate(sorted(path.glob('*/images/*'))):
        y, x = np.mgrid[0:1:48j, 0:1:48j]
        far = (.6*x + .4*y if i % 2 else .2*x + .8*(1 - y))
        to = fn.parent.with_name('depth')/f'{fn.stem}.png'
        to.parent.mkdir(exist_ok=True)
        Image.fromarray((far*65535).astype(np.uint16)).save(to)
        Image.fromarray((far*255).round().astype(np.uint8)).convert('RGB').save(fn.with_suffix('.png'))
        fn.unlink()
        ids = to.parent.with_name('instances')/f'{fn.stem}.png'
        ids.parent.mkdir(exist_ok=True)
        shutil.copy(fn.parent.with_name('labels')/f'{fn.stem}.png', ids)
    return path

# -- the description ---------------------------------------------------------------------------------------------

def test_names_and_channels(normals):
    net = SimpleNamespace(n_classes=10, edges=True, inputs=('depth', 'normals'))
    assert names_of(net) == ('edges', 'depth', 'normals') and n_read(net) == 10 + 1 + 1 + 3
    assert input_args(net) == dict(edges=True, inputs=('depth', 'normals')) and [o.name for o in inputs_of(net)] == list(names_of(net))
    assert names_of(SimpleNamespace(**input_args(net))) == names_of(net) and names_of(False) == names_of(None) == ()
    assert isinstance(input_named('edges'), Edges) and isinstance(input_named('depth'), Depth)
    with pytest.raises(InputError, match="no input 'smell'.*register_input"): input_named('smell')
    assert switched_on(True, dict(depth=True, bs=3)) == (('edges', 'depth'), dict(bs=3))
    assert split_given(dict(depth=1, instances=2, edges=None, z=3)) == (dict(depth=1, instances=2), dict(z=3))
    assert conv_name('edges') == 'inst_conv' and conv_name('depth') == 'depth_conv'

@pytest.mark.parametrize('bad, words', [(seg, 'int64'), (depth[:, :32], r'\(2, 32, 64\)'), (depth[:1], r'\(1, 64, 64\)'),
    (depth*3, r'0\.\.1 is needed'), ([1.], 'list')], ids=['ids', 'size', 'batch', 'range', 'list'])
def test_depth_is_checked_at_the_door(bad, words):
    with pytest.raises(InputError, match=words): LabelMaps(seg, dict(depth=bad), K)

def test_numbers_are_averaged_and_edges_are_not():
    maps = LabelMaps(seg, dict(edges=edges, depth=depth), K)
    at = maps.at((16, 16))
    assert at.shape == (2, K + 2, 16, 16) and torch.equal(at[:, K], edges[:, ::4, ::4].float())
    torch.testing.assert_close(at[:, K+1], depth.unflatten(1, (16, 4)).unflatten(3, (16, 4)).mean((2, 4)))
    assert torch.equal(maps.beside((64, 64))['depth'], depth) and maps.edges is maps.inputs['edges']
    assert not maps.patterned and LabelMaps(seg, edges, K).patterned and LabelMaps(seg, None, K).patterned

def test_order_is_the_networks():
    net = SimpleNamespace(n_classes=K, edges=True, inputs=('depth',))
    want = maps_for(net, seg, edges, depth)
    for maps in (maps_for(net, seg, depth=depth, edges=edges), maps_for(net, seg, dict(depth=depth, edges=edges)), label_maps(want, None, K, names_of(net))):
        assert torch.equal(maps.at((32, 32)), want.at((32, 32))) and list(maps.inputs) == ['edges', 'depth']
    assert list(named_inputs(net, (None, depth), {})) == ['depth']
    assert list(LabelMaps(seg, dict(depth=depth, edges=edges), K).inputs) == ['edges', 'depth'], 'edges come first'
    turned = LabelMaps(seg, dict(depth=depth, edges=edges), K)
    turned.inputs = dict(depth=depth, edges=edges)
    with pytest.raises(InputError, match='reads edges, depth'): maps_for(net, turned)
    with pytest.raises(InputError, match='no depth came'): maps_for(net, seg, edges)
    with pytest.raises(InputError, match='depth came with the segmap'): maps_for(SimpleNamespace(n_classes=K), seg, depth=depth)

@pytest.mark.parametrize('given', [np.arange(12, dtype=np.uint8).reshape(3, 4), (np.arange(12).reshape(3, 4)*257).astype(np.uint16), np.linspace(0, 1, 12).reshape(3, 4)])
def test_depth_is_read(given, tmp_path):
    x = read_depth(given)
    assert x.dtype == np.float32 and x.shape == (3, 4) and 0 <= x.min() <= x.max() <= 1
    if given.dtype.kind == 'f': return
    Image.fromarray(given).save(tmp_path/'a.png')
    assert np.array_equal(read_depth(tmp_path/'a.png'), x) and np.array_equal(PILDepth.create(tmp_path/'a.png').to_tensor().numpy(), x)

@pytest.mark.parametrize('bad, words', [(np.full((2, 2), 80.), 'ranges from 80'), (np.full((2, 2), np.nan), 'nan'), (np.zeros((2, 2, 3)), 'shape'),
    (Image.new('RGB', (2, 2)), 'mode RGB'), ('none.png', 'none.png does not exist')])
def test_what_is_no_depth(bad, words):
    with pytest.raises(InputError, match=words): read_depth(bad)

# -- data --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('workers', [0, 1])
def test_depth_is_scaled_cut_and_mirrored_with_the_photo(folder, workers):
    set_seed(0)
    dls = PairedDataLoaders.from_folder(folder, size=(24, 32), bs=4, depth=True, load=40, num_workers=workers)
    assert (dls.inputs, dls.edges, dls.n_inp) == (('depth',), False, 2)
    for _ in range(3):
        for x, far, photo in dls.train:
            assert isinstance(far, TensorDepth) and far.dtype == torch.float32 and far.shape == (4, 24, 32) and carried(x) is None
            grey = (plain(photo)[:, 0] + 1)/2
            assert (grey - plain(far)).abs().max() < .02   # they are scaled by different filters, and the photo has 8 bits
    assert far.std() > .05

def test_normals_turn_in_a_mirror(normals):
    n = np.full((16, 16, 3), 255, np.uint8)
    item = Pair(np.zeros((16, 16), np.uint8), np.zeros((16, 16, 3), np.uint8)).with_map('normals', n)
    for flip, want in ((0, 1), (1, -1)):
        dls = PairedDataLoaders.from_pairs([item]*2, [item]*2, LabelSpace('a'), size=16, bs=2, edges=('normals',), flip=flip)
        x = dls.one_batch()[1]
        assert x.shape == (2, 3, 16, 16) and (x[:, 0] == want).all() and (x[:, 1] == 1).all()

def test_pairs_hold_any_map(folder):
    pair = find_pairs(*(folder/'val'/o for o in ('images', 'labels')), dict(edges=folder/'val/instances', depth=folder/'val/depth'))[0]
    assert pair.map_of('depth').parent.name == 'depth' and pair.instances.parent.name == 'instances' and check_pair(pair) == (48, 48)
    assert PartOf('depth')(pair) == pair.map_of('depth') and len(pair.parts()) == 4 and pair.parts()[:3] == pair[:3]
    assert mark_of([pair]) == mark_of([pair.parts()]) != mark_of([Pair(*pair[:3])]) == mark_of([pair[:3]])
    with pytest.raises(InputError, match='depth map is 9x9'): check_pair(pair.with_map('depth', np.zeros((9, 9))))
    assert pair.completed(input_named('edges')) is pair and Pair('x').completed(input_named('edges')).instances == 'x'
    assert MapBlock(input_named('edges')).type_tfms[0] == PILInstances.create

def test_a_folder_without_depth(folder, tmp_path):
    shutil.copytree(folder, tmp_path/'far')
    next((tmp_path/'far/train/depth').iterdir()).unlink()
    with pytest.raises(InputError, match='has no depth map in .*add the depth map'): PairedDataLoaders.from_folder(tmp_path/'far', size=16, bs=2, depth=True)

def test_loaders_know_their_inputs(folder):
    import pickle
    dls = PairedDataLoaders.from_folder(folder, size=32, bs=4, edges=True, depth=True)
    again = pickle.loads(pickle.dumps(dls.new_empty()))
    assert names_of(again) == ('edges', 'depth') and dls.settings()['inputs'] == ['depth'] and len(dls.one_batch()) == 4
    with pytest.raises(InputError, match='reads depth, but a label map came without'): dls.test_dl([np.zeros((32, 32), np.uint8)])
    for make in (sean_learner, oasis_learner):
        with pytest.raises(InputError, match='instance edges and depth'): make(dls, ngf=2, perceptual=None) if make is sean_learner else make(dls, ngf=2)
    assert refuse_inputs(SimpleNamespace(), 'X') is None
    assert 'inputs' not in PairedDataLoaders.from_folder(folder, size=32, bs=4).settings()

# -- the doctor --------------------------------------------------------------------------------------------------

class PILHeights(PILMap):
    "Heights in metres"
    @classmethod
    def create(cls, given): return cls(Image.open(given).convert('F'))
class TensorHeights(TensorBase): pass
class Heights(MapInput):
    name, source, word, title, bounds = 'height', 'heights', 'height map', 'heights', (0, 200)
    picture, tensor = PILHeights, TensorHeights

@pytest.fixture
def heights():
    "An input that nobody but this test knows"
    yield register_input(Heights())
    del map_inputs['height']

@pytest.fixture
def copy(folder, tmp_path):
    "With photos of which no two are the same, as the doctor wants them"
    path = shutil.copytree(folder, tmp_path/'far')
    for i, fn in enumerate(sorted(path.glob('*/images/*'))):
        photo = read(fn).copy()
        photo[0, 0] = 20*i
        Image.fromarray(photo).save(fn)
    return path

def spoil(how, fn):
    if how == 'missing': fn.unlink()
    if how == 'unreadable': fn.write_bytes(fn.read_bytes()[:40])
    if how == 'size': Image.fromarray(read(fn)[:20]).save(fn)
    if how == 'type': Image.fromarray((read(fn)//257).astype(np.uint8)).convert('RGB').save(fn)
    if how == 'numbers': Image.fromarray(np.full((48, 48), 201, np.uint8)).save(fn)

def problem_of(found):
    "What the doctor says of one file, in one problem"
    code, out, _ = found
    problems = out.split('PROBLEM ')[1:]
    assert code == 1 and len(problems) == 1 and '1 problem, ' in out, out
    return problems[0]

@pytest.mark.parametrize('how, what, cure', [('missing', 'has no depth map of the same name', 'train without --depth'),
    ('unreadable', 'depth map cannot be', 'replace it'), ('size', 'depth map and label map differ in size', 'one size'),
    ('type', 'depth map is a picture of mode RGB', 'grey PNG')])
def test_doctor_looks_at_depth(how, what, cure, copy):
    fn = sorted((copy/'train/depth').iterdir())[2]
    spoil(how, fn)
    said = problem_of(gaugan('doctor', copy))
    assert what in said and fn.stem in said and cure in said.split('cure:')[1], said
    with pytest.raises(InputError):
        for _ in PairedDataLoaders.from_folder(copy, size=32, bs=4, depth=True).train: pass

def test_doctor_is_content_with_depth(copy):
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and '  12 depth maps\n' in out and '12 instance maps' in out, out

def test_doctor_notes_splits_and_files(copy):
    shutil.rmtree(copy/'val/depth')
    shutil.copy(next((copy/'train/depth').iterdir()), copy/'train/depth/more.png')
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and 'train has depth maps, val has none' in out and 'depth map without a photo and label map (train' in out, out

@pytest.mark.parametrize('how, what, cure', [('missing', 'has no height map of the same name', 'train without --height'),
    ('unreadable', 'height map cannot be read', 'replace it'), ('size', 'height map and label map differ in size', 'one size'),
    ('numbers', 'height ranges from 201 to 201, but 0..200 is needed', 'scale it')])
def test_doctor_looks_at_what_it_never_heard_of(how, what, cure, copy, heights):
    for fn in copy.glob('*/labels/*'):
        to = fn.parent.with_name('heights')/fn.name
        to.parent.mkdir(exist_ok=True)
        shutil.copy(fn, to)
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and '  12 height maps\n' in out, out
    fn = copy/'train/heights'/min(o.name for o in (copy/'train/heights').iterdir())
    spoil(how, fn)
    said = problem_of(gaugan('doctor', copy))
    assert what in said and fn.stem in said and cure in said.split('cure:')[1], said

def test_no_input_is_named_by_the_doctor():
    from gaugan_fastai.data import doctor
    text = Path(doctor.__file__).read_text(encoding='utf-8')
    code = text.split('# %%', 2)[2]
    assert not [o for o in map_inputs if f"'{o}'" in code or f'.{o}' in code]

def test_maps_of_an_input_by_stem(copy):
    report = Report(copy)
    pairs = [(o, o) for o in sorted((copy/'train/labels').iterdir())]
    found = pair_maps(copy/'train', pairs[:3], report, input_named('depth'))
    assert len(found) == 8 and not report.problems and [len(o) for o in report.notes.values()] == [5]
    assert pair_maps(copy/'none', pairs, report, input_named('depth')) == {}

# -- networks ----------------------------------------------------------------------------------------------------

networks = dict(spade=lambda **kw: SPADEGenerator(K, ngf=2, nhidden=4, **kw), clade=lambda **kw: CLADEGenerator(K, ngf=2, **kw),
    concat=lambda **kw: ConcatGenerator(K, ngf=2, **kw), start=lambda **kw: ConcatGenerator(K, ngf=2, where='input', **kw),
    unet=lambda **kw: UNetGenerator(K, ngf=2, levels=4, **kw))

def loud(net):
    "Weights large enough that inputs show"
    torch.manual_seed(1)
    for p in net.parameters(): p.data = torch.randn_like(p)*.3
    return net.eval()

@pytest.mark.numeric
@pytest.mark.parametrize('kind', networks)
@torch.no_grad()
def test_generators_read_depth(kind, tmp_path):
    gen = loud(networks[kind](inputs=('depth',)))
    a, b = gen(seg, depth=depth), gen(seg, depth=1 - depth)
    assert a.shape == (2, 3, 64, 64) and (a - b).abs().max() > 1e-3
    assert torch.equal(gen(gen.maps(seg, depth)), a) and torch.equal(gen(*read_by(gen, (seg, depth))), a)
    with pytest.raises(InputError, match='no depth came'): gen(seg)
    with ways(exact=False): torch.testing.assert_close(gen(seg, depth=depth), a, rtol=1e-3, atol=1e-4)   # other orders of sums
    if kind in ('concat', 'start'): return   # which nobody saves
    gen.labels = LabelSpace([f'c{i}' for i in range(K)])
    save_pretrained(gen, tmp_path/'net')
    again = from_pretrained(tmp_path/'net')
    assert again.card['config']['inputs'] == ['depth'] and torch.equal(again(seg, depth=depth), a)
    fast = again.for_inference()
    for d in (depth, 1 - depth, depth): torch.testing.assert_close(fast(seg, depth=d), gen(seg, depth=d), rtol=1e-3, atol=1e-3)

@pytest.mark.numeric
@pytest.mark.parametrize('kind', networks)
@torch.no_grad()
def test_edges_alone_are_as_before(kind):
    "The keys, the card and the picture of a network with edges do not know of inputs"
    gen = loud(networks[kind](edges=True))
    same = networks[kind](inputs=('edges',)).eval()
    same.load_state_dict(gen.state_dict())
    torch.testing.assert_close(same(seg, edges), gen(seg, edges=edges), rtol=1e-4, atol=1e-5)
    from gaugan_fastai.originals import model_config
    assert 'inputs' not in model_config(gen) and gen.edges is True

@torch.no_grad()
def test_critic_reads_all(tmp_path):
    critic = loud(MultiScaleCritic(K, 4, 2, 3, edges=True, inputs=('depth',)))
    image = torch.randn(2, 3, 64, 64)
    last = lambda *args, **kw: critic(*args, **kw)[0][-1]
    a = last(seg, image, edges, depth)
    assert torch.equal(last(seg, image, depth=depth, edges=edges), a) and torch.equal(last(LabelMaps(seg, dict(edges=edges, depth=depth), K), image), a)
    assert (last(seg, image, edges, 1 - depth) - a).abs().max() > 1e-3 and (last(seg, image, ~edges, depth) - a).abs().max() > 1e-3
    save_pretrained(critic, tmp_path/'critic')
    assert torch.equal(from_pretrained(tmp_path/'critic')(seg, image, edges, depth)[0][-1], a)

@pytest.mark.numeric
@pytest.mark.parametrize('kind', ['spade', 'clade', 'unet'])
@torch.no_grad()
def test_a_trained_network_learns_to_read_depth(kind):
    gen = loud(networks[kind](edges=True))
    gen.labels = LabelSpace([f'c{i}' for i in range(K)])
    more = adapt_classes(gen, gen.labels, edges=('edges', 'depth'))
    assert names_of(more) == ('edges', 'depth')
    torch.testing.assert_close(more(more.maps(seg, edges, depth)), gen(seg, edges), rtol=1e-3, atol=1e-3)   # new columns are 0
    less = adapt_classes(more, gen.labels, edges=True)
    torch.testing.assert_close(less(seg, edges), gen(seg, edges), rtol=1e-3, atol=1e-3)
    assert names_of(adapt_classes(more, gen.labels, edges=('depth',))) == ('depth',)
    first, photo = input_columns(torch.arange(4.)[None, :, None, None], ('edges',), ())[0], input_named('edges')
    assert first.flatten().tolist() == [1, 2, 3] and photo.by_patterns

# -- training and painting ---------------------------------------------------------------------------------------

class Gradients(Callback):
    "Turns in which the depth channel got a gradient that is not 0"
    def __init__(self): self.seen = set()
    def before_step(self):
        m, n = self.learn.model, self.learn.dls.n_classes
        layer = m.generator.up_3.norm_0.mlp_shared[0] if self.opt.turn == 'generator' else m.critic.discriminator_0.model0[0]
        if layer.weight.grad[:, n].abs().sum() > 0: self.seen.add(self.opt.turn)

@pytest.fixture(scope='module')
def run(folder):
    code, out, err = gaugan('train', folder, '--out', folder.parent/'run', '--depth', *tiny)
    assert code == 0 and '--depth FOLDER' in out, err
    return folder.parent/'run'

def test_both_turns_learn_of_depth(folder):
    dls = PairedDataLoaders.from_folder(folder, size=32, bs=4, edges=True, depth=True, seed=0)
    learn = spade_learner(dls, preset='cpu', ngf=4, nhidden=8, perceptual=None, cbs=(cb := Gradients()))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert cb.seen == {'generator', 'critic'}
    ax = learn.show_results(max_n=1)
    assert ax.get_title() == 'label | edges | depth | fake | real'

def test_a_run_paints_with_depth(run, folder, tmp_path):
    assert Image.open(run/'samples/epoch_001.png').size == (4*36, 4*36)   # label | depth | fake | real
    code, out, err = gaugan('generate', run, folder/'val/labels', '--depth', folder/'val/depth', '--out', tmp_path/'a')
    assert code == 0 and out.startswith('4 of 4'), err
    painter, m, far = Painter(run), next((folder/'val/labels').iterdir()), folder/'val/depth'
    assert painter.takes == ('depth',) and np.array_equal(read(tmp_path/'a'/m.name), np.asarray(painter(m, depth=far/m.name)))
    assert np.array_equal(np.asarray(painter(m, depth=read_depth(far/m.name))), np.asarray(painter(m, depth=far/m.name)))
    with pytest.raises(InputError, match='has no option dpeth'): painter(m, dpeth=far/m.name)

@pytest.mark.parametrize('kwargs, words', [({}, r'trained with depth: pass depth='), (dict(depth=np.zeros((9, 9))), 'depth map is 9x9'),
    (dict(depth=np.full((48, 48), 7.)), 'divide them'), (dict(depth=np.zeros((48, 48)), instances=np.zeros((48, 48), np.uint8)), 'without instance edges')])
def test_painters_refuse(run, kwargs, words):
    with pytest.raises(InputError, match=words): Painter(run)(np.zeros((48, 48), np.uint8), **kwargs)

def test_generate_refuses(run, folder, tmp_path):
    for args, words in [((), 'trained with depth: pass --depth FOLDER'), (('--depth', tmp_path/'none'), 'does not exist'),
            (('--depth', folder/'val/depth', '--instances', folder/'val/instances'), 'without instance edges')]:
        code, out, err = gaugan('generate', run, folder/'val/labels', '--out', tmp_path/'out', *args)
        assert code == 1 and words in err and len(err.splitlines()) == 1, err
    code, out, _ = gaugan('generate', run, '--help')
    assert code == 0 and '--depth' in out and '--instances' in out

def test_a_painter_finds_what_it_was_given():
    ids, gen = torch.zeros(1, 8, 8).long(), SimpleNamespace(edges=False, inputs=('depth',))
    ramp = np.linspace(0, 1, 64).reshape(8, 8).astype(np.float32)
    [x] = found_inputs(gen, ids, (4, 4), dict(depth=ramp))
    assert x.shape == (1, 4, 4) and x[0].diff(dim=1).min() > 0 and 0 <= x.min() and x.max() <= 1
    assert found_inputs(SimpleNamespace(), ids, (8, 8), dict(instances=np.zeros((8, 8), np.uint8)))[0].dtype == torch.bool

def test_an_input_that_nobody_registered(run, tmp_path, monkeypatch):
    monkeypatch.setattr(inputs_module, 'load_families', lambda: None)
    monkeypatch.delitem(map_inputs, 'depth')
    with pytest.raises(InputError, match="no input 'depth'"): Painter(run)

def test_edges_that_do_not_fit():
    gen, ids = SimpleNamespace(edges=True, inputs=()), torch.zeros(1, 32, 32).long()
    for bad, words in (('e.png', 'a str'), (np.zeros((10, 32), bool), r'\(10, 32\)')):
        with pytest.raises(InputError, match=words): found_inputs(gen, ids, (32, 32), dict(edges=bad))

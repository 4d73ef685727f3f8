"What a cell of the lesson cannot show: many classes, workers, export through fastai, other people's tuples, odd files"
import copy, pickle
import numpy as np, pytest, torch
from fastai.vision.all import (DataBlock, IndexSplitter, ItemGetter, Learner, MSELossFlat, TensorImage, Transform,
    TransformBlock, get_grid, load_learner, nn, plt, set_seed, to_device)
from PIL import Image
from conftest import once_but
from gaugan_fastai import labelmaps, patterns, rowsum
from gaugan_fastai.core import InputError, LabelSpace, PILSegmap, TensorEdges, TensorSegmap, instance_edges, onehot
from gaugan_fastai.data.paired import PairedDataLoaders, PhotoBlock, SegmapBlock
from gaugan_fastai.data.planned import PlannedDL, plan_for_spade, spade_sums
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.data.layouts import check_pair, open_photo, Pair
from gaugan_fastai.data.transforms import PairedCrop, PairedFlip, PairedResize
from gaugan_fastai.labelmaps import LabelMaps, carried
from gaugan_fastai.models.pix2pix import pix2pix_learner
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import spade_learner

def pairs(n=4, k=3, hw=(40,56), seed=0):
    "`n` pairs whose photo says in every pixel which id its map holds (red = id // 256, green = id % 256)"
    rng = np.random.default_rng(seed)
    for _ in range(n):
        seg = rng.integers(0, k, hw)
        yield seg, np.stack([seg//256, seg%256, seg*0], -1).astype(np.uint8)

def plain(t): return t.as_subclass(torch.Tensor)
def told_by(photo): return (((photo+1)*127.5).round().long()*torch.tensor([256,1,0]).view(1,3,1,1)).sum(1)

@pytest.mark.parametrize('k', [3,300])
def test_map_and_photo_stay_together(k):
    set_seed(0)
    labels = LabelSpace([f'c{i}' for i in range(k)])
    dls = PairedDataLoaders.from_pairs(list(pairs(8, k)), list(pairs(2, k)), labels, size=40, bs=4)
    for seg,photo in [*dls.train, *dls.valid]: assert torch.equal(plain(told_by(photo)), plain(seg))

def test_two_workers_give_labels_and_different_windows():
    labels = LabelSpace('abc')
    same = list(pairs(1, 3, (64,64)))*8
    dls = PairedDataLoaders.from_pairs(same, same[:2], labels, size=(64,32), bs=4, num_workers=2, load=(64,64))
    batches = list(dls.train)
    assert all(b[0].labels == labels and isinstance(b[0], TensorSegmap) for b in batches)
    assert len({o.numpy().tobytes() for b in batches for o in plain(b[0])}) > 4

def test_a_model_is_exported_with_its_labels(tmp_path):
    labels = LabelSpace(['void','sky','road'])
    dls = PairedDataLoaders.from_pairs(list(pairs()), list(pairs()), labels, size=32, bs=2, path=tmp_path)
    learn = Learner(dls, nn.Conv2d(3, 3, 1), loss_func=MSELossFlat())
    learn.export('m.pkl')
    again = load_learner(tmp_path/'m.pkl')
    assert again.dls.labels == labels and again.dls.codes[-1] == 'void' and again.dls.size == (32,32)
    segs = [o[0] for o in pairs()]
    assert torch.equal(again.dls.test_dl(segs, bs=4).one_batch()[0], torch.cat([b[0] for b in dls.valid]))

def test_edges_are_made_after_the_geometry(tmp_path):
    seg = np.zeros((64,64), np.uint8)
    seg[:, 31:] = 1
    items = [Pair(seg, np.zeros((64,64,3), np.uint8), seg)]*2
    dls = PairedDataLoaders.from_pairs(items, items, LabelSpace('ab'), size=16, bs=2, edges=True)
    for dl in dls:
        seg,edges,_ = dl.one_batch()
        assert type(edges) is TensorEdges and torch.equal(plain(edges), instance_edges(seg)) and edges.sum() == 2*16*2
    assert dls.test_dl([seg[0].numpy()]).n_inp == 2

def test_other_peoples_tuples_are_left_to_fastai():
    items = [(torch.rand(3,8,8),torch.rand(3,8,8)) for _ in range(4)]
    def image(i): return TransformBlock([ItemGetter(i), lambda o: TensorImage(o)])
    block = DataBlock([image(0), image(1), image(0)], n_inp=2, splitter=IndexSplitter([3]))
    dl = block.dataloaders(items, bs=2).train
    b = dl.one_batch()
    ctxs = get_grid(2)
    dl.show_batch(b, ctxs=ctxs)
    dl.show_results(b, b[2], ctxs=ctxs)
    plt.close('all')

def test_labels_are_found_in_a_plain_datablock():
    labels = LabelSpace('abc')
    block = DataBlock([SegmapBlock(labels), PhotoBlock()], getters=[ItemGetter(0), ItemGetter(1)],
        splitter=IndexSplitter([0]), item_tfms=[PairedResize(32), PairedCrop(32), PairedFlip()])
    dls = block.dataloaders(list(pairs()), bs=2)
    assert dls.labels == labels and dls.one_batch()[0].labels == labels

def test_a_broken_photo_is_found_before_training_only_if_kept(tmp_path):
    labels = LabelSpace('abc')
    items = []
    for i,(seg,photo) in enumerate(pairs(4)):
        noise = np.random.default_rng(i).integers(0, 256, photo.shape, dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path/f'{i}.jpg')
        Image.fromarray(seg.astype(np.uint8)).save(tmp_path/f'{i}.png')
        items.append(Pair(tmp_path/f'{i}.png', tmp_path/f'{i}.jpg'))
    (tmp_path/'2.jpg').write_bytes((tmp_path/'2.jpg').read_bytes()[:-300])
    make = lambda **kw: PairedDataLoaders.from_pairs(items, items[:1], labels, size=32, bs=2, **kw)
    with pytest.raises(InputError, match='2.jpg cannot be decoded'): make()
    dls = make(cache=False)
    with pytest.raises(InputError, match='2.jpg cannot be decoded'): list(dls.train)

def test_a_file_that_changes_is_read_again_for_prediction(tmp_path):
    labels,fn = LabelSpace('abc'),tmp_path/'a.png'
    dls = PairedDataLoaders.from_pairs(list(pairs()), list(pairs()), labels, size=32, bs=2)
    for k in (0,1):
        Image.fromarray(np.full((32,32), k, np.uint8)).save(fn)
        assert dls.test_dl([str(fn)]).one_batch()[0].unique().tolist() == [k]

def test_pictures_of_every_mode():
    im = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8,12,3), dtype=np.uint8))
    for mode in ('L','LA','P','RGBA','CMYK','1','YCbCr','HSV'): assert open_photo(im.convert(mode)).mode == 'RGB'
    for mode in ('I','F','I;16'):
        with pytest.raises(InputError, match='more than 8 bits'): open_photo(im.convert('L').convert(mode))
    assert check_pair(Pair(im.convert('L'), im)) == (8,12)

def test_one_bit_maps_and_big_ids():
    assert LabelSpace('ab').read(Image.fromarray(np.eye(8, dtype=bool))).sum() == 8
    many = LabelSpace([str(i) for i in range(1000)], void=65535)
    ids = np.array([[0,999,65535]], np.uint16)
    assert many.read(Image.fromarray(ids)).tolist() == [[0,999,1000]]
    assert np.array(PILSegmap.create(np.array([[0,999,1000]]), many)).tolist() == [[0,999,1000]]

def test_onehot_refuses_what_does_not_fit():
    with pytest.raises(RuntimeError): onehot(torch.tensor([[3]]), 3)

def test_misspelt_options_and_deeper_folders_are_refused(tmp_path):
    some = list(pairs(4))
    with pytest.raises(TypeError, match='horizontal_flip'): PairedDataLoaders.from_pairs(some, some, LabelSpace('abc'), 32, 2, horizontal_flip=0)
    for kind in ('images', 'labels'):
        (tmp_path/'train'/kind/'city').mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path/'train'/kind/'city/1.png')
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path/'train'/kind/'2.png')
    (tmp_path/'codes.txt').write_text('a\nb\n')
    with pytest.raises(InputError, match='a folder of pictures, city'): PairedDataLoaders.from_folder(tmp_path, 32, valid='train')

# --- plans made by the workers

tiny = dict(ngf=4, ndf=4, nhidden=8, perceptual=None, average=None)
families = dict(spade=lambda dls: spade_learner(dls, 'cpu', **tiny), spade_z=lambda dls: spade_learner(dls, 'cpu', z_dim=8, **tiny),
    sean=lambda dls: sean_learner(dls, 'cpu', style_dim=8, width=4, **tiny), pix2pix=lambda dls: pix2pix_learner(dls, ngf=4))

def scenes(n=4, **kwargs):
    "Loaders of drawn scenes that are cut and flipped, with two workers"
    kwargs = dict(num_workers=2) | kwargs
    return PairedDataLoaders.from_landscapes(n=n, n_valid=2, size=64, bs=2, load=(80, 80), **kwargs)

@pytest.fixture
def made(monkeypatch):
    "What this process numbers while a test runs; what its workers number counts for them"
    counts = dict(plans=0, patterns=0, transposed=0)
    def count(owner, name, what):
        plain = getattr(owner, name)
        def counting(*args, **kwargs):
            counts[what] += 1
            return plain(*args, **kwargs)
        monkeypatch.setattr(owner, name, counting)
    count(labelmaps, 'LabelPlan', 'plans')
    count(patterns.Patterns, '__init__', 'patterns')
    count(rowsum, '_transposed', 'transposed')
    return counts

def fitted(family, n_epoch=1, **kwargs):
    set_seed(0, reproducible=True)
    learn = families[family](scenes(**kwargs))
    with learn.no_bar(), learn.no_logging(): learn.fit(n_epoch)
    return learn

@pytest.mark.parametrize('family', families)
def test_a_step_makes_no_plan_where_workers_do(family, made):
    "The first epoch by a guess that fits SPADE; the second by what the first has asked for"
    learn = fitted(family)
    first = dict(made)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert made['plans'] == 0 and learn.dls.train.asked is not None
    if family in ('spade', 'spade_z'): assert made['patterns'] == 0
    if family != 'sean': assert made == first
    asked = learn.dls.train.asked
    assert all(o._asked for plan in asked for o in [plan.plan((64, 64))]) or family == 'pix2pix'

def test_without_plans_or_workers_all_is_made_here(made):
    fitted('spade', plans=False)
    first = dict(made)
    assert first['plans'] == 3   # two batches to train on, one to validate on
    fitted('spade', num_workers=0)
    assert made == {k: 2*v for k, v in first.items()}

@pytest.mark.numeric
@pytest.mark.parametrize('family', once_but(['spade'], ['spade', 'sean']))
def test_a_training_is_the_same_with_and_without_plans(family):
    "Bit for bit, and with the same plans in either process"
    states = [fitted(family, 2, plans=o).model.state_dict() for o in (True, False)]
    assert all(torch.equal(a, b) for a, b in zip(*(o.values() for o in states), strict=True))

def test_edges_come_along_and_belong_to_their_segmap():
    k, items = 3, [Pair(*o, np.arange(40*56).reshape(40, 56)//300) for o in pairs(4, 3)]
    dls = PairedDataLoaders.from_pairs(items, items, LabelSpace('abc'), size=32, bs=2, edges=True, num_workers=1)
    for segmap, edges, _ in dls.train:
        maps = carried(segmap, edges)
        assert torch.equal(maps.segmap, plain(segmap)) and torch.equal(maps.edges, plain(edges)) and maps.n_classes == k
        assert carried(segmap) is None and carried(segmap, plain(edges).clone()) is None
        assert carried(segmap, instance_edges(segmap)) is None
        assert torch.equal(maps.plan((32, 32)).codes, LabelMaps(segmap, edges, k).plan((32, 32)).codes)

def test_a_transform_of_the_whole_batch_leaves_the_maps_behind():
    class Mirror(Transform):
        def encodes(self, o:(TensorSegmap, TensorImage)): return plain(o).flip(-1)
    class Same(Transform):
        def encodes(self, o:TensorSegmap): return o
    dls = scenes()
    dls.train.after_batch.add(Same())
    assert all(torch.equal(carried(o).segmap, plain(o)) for o, _ in dls.train)
    dls.train.after_batch.add(Mirror())
    for segmap, _ in dls.train: assert isinstance(segmap, TensorSegmap) and carried(segmap) is None

def test_batches_with_maps_are_shown_decoded_and_copied():
    dls = scenes()
    b = next(iter(dls.train))
    dls.train.show_batch(b, max_n=2, ctxs=get_grid(4))
    dls.train.show_results(b, b[1], max_n=2)
    plt.close('all')
    decoded = dls.train.decode_batch(b)
    assert len(decoded) == 2 and torch.equal(decoded[0][0], plain(b[0][0])) and carried(decoded[0][0]) is None
    assert torch.equal(to_device(b, 'cpu')[0], b[0]) and carried(to_device(b, 'cpu')[0]) is carried(b[0])
    again = pickle.loads(pickle.dumps(b))
    assert torch.equal(carried(again[0]).segmap, plain(b[0])) and carried(again[0]).segmap.data_ptr() != b[0].data_ptr()
    twin = copy.deepcopy(b[0])
    assert torch.equal(twin, b[0]) and (carried(twin) is None or torch.equal(carried(twin).segmap, plain(twin)))

def test_a_model_with_other_classes_reads_the_ids_itself(made):
    segmap, _ = next(iter(scenes().train))
    bigger = labelmaps.label_maps(segmap, None, 40, False)
    assert bigger.n_classes == 40 and bigger is not carried(segmap) and len(bigger) == 2

def test_the_guess_can_be_asked_for_one_size(made):
    maps = LabelMaps(torch.stack([torch.as_tensor(draw_landscape(i, 64).segmap).long() for i in (0, 1)]), None, 19)
    sums = spade_sums(maps.plan((64, 64)))
    assert len(sums) in (2, 3) and made['transposed'] == 0
    plan_for_spade(maps, gradients=False)
    assert made['transposed'] == 0
    plan_for_spade(maps)
    assert made['transposed'] > 12 and made['plans'] == 1

def test_planned_loaders_are_exported_and_renewed(tmp_path):
    dls = scenes(path=tmp_path)
    list(dls.train)
    assert type(dls.train) is type(dls.valid) is PlannedDL and dls.valid.n_classes == dls.n_classes
    assert len(dls.train.asked) == 1 and dls.new_empty().train.asked is None
    test = dls.test_dl([draw_landscape(0, 64).segmap]*2, bs=2, num_workers=1)
    [(segmap,)] = list(test)
    assert carried(segmap).n_classes == dls.n_classes

@pytest.mark.parametrize('many', [False, True], ids=['8 bits', 'beyond 256 classes'])
def test_left_and_right_change_places_in_a_mirror(many):
    labels = LabelSpace(['skin','left eye','right eye'] + [f'thing {i}' for i in range(300*many)])
    seg = np.zeros((32,32), np.int64)
    seg[4,3],seg[4,20],seg[9,9] = 2,1,labels.n_classes-1
    photo = labels.colorize(seg)
    def batch(p): return PairedDataLoaders.from_pairs([(seg,photo)], [(seg,photo)], labels, size=32, bs=1, flip=p).one_batch()
    (_,same),(turned,mirror) = batch(0),batch(1)
    want = seg[:,::-1].copy()
    want[4,28],want[4,11],want[9,22] = 1,2,labels.mirrored[labels.n_classes-1]
    assert np.array_equal(turned[0].numpy(), want) and turned.labels == labels
    assert torch.equal(plain(mirror), plain(same).flip(-1)), 'the photo is mirrored and nothing else'

@pytest.mark.parametrize('codes,pairs', [(['l_ear','ear_r','r_ear'],[(0,2)]), (['LEFT','RIGHT','Left','Right'],[(0,1),(2,3)]),
    (['left lane','lane'],[]), (['bright','blight','leftover'],[]), (['lamp','ramp','L','R'],[(2,3)])], ids=str)
def test_which_classes_have_a_partner(codes, pairs):
    mirrored = LabelSpace(codes).mirrored.tolist()
    assert [(i,j) for i,j in enumerate(mirrored) if i<j] == pairs and [mirrored[o] for o in mirrored] == list(range(len(codes)))

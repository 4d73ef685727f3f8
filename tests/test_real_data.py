"Real photos and the reference's edges, as far as they are there: see conftest.shared_path"
import numpy as np, pickle, pytest, torch
from PIL import Image
from safetensors.torch import load_file
from conftest import shared_path
from gaugan_fastai.core import LabelSpace, instance_edges
from gaugan_fastai.data.layouts import check_pair, coco_stuff_pairs, folder_pairs
from gaugan_fastai.data.paired import PairedDataLoaders

@pytest.mark.parametrize('case', ['spade/recipe/edge64', 'spade/recipe/most128_edge', 'spade/real/coco256', 'clade/edge64/case'])
def test_edges_are_those_of_the_reference(case):
    t = load_file(shared_path('reference', f'{case}.safetensors'))
    edges = instance_edges(t['instance'])
    assert edges.dtype == torch.bool and torch.equal(edges, t['edge'].bool())

@pytest.mark.parametrize('name,counts,n_classes,void', [('camvid',(367,101,233),12,11), ('labelmefacade',(798,45,100),9,8)])
def test_every_map_is_read_and_fits_its_photo(name, counts, n_classes, void):
    path = shared_path('data', name)
    train,val,labels = folder_pairs(path)
    test = folder_pairs(path, valid='test')[1]
    assert (len(train), len(val), len(test)) == counts and (labels.n_classes, labels.void) == (n_classes, void)
    seen = set()
    for o in train+val+test:
        seg = labels.read(o.segmap)
        assert check_pair(o) == seg.shape
        seen |= set(np.unique(seg).tolist())
    assert seen == set(range(n_classes))

@pytest.mark.numeric
def test_camvid_is_scaled_as_a_whole():
    dls = PairedDataLoaders.from_folder(shared_path('data/camvid'), size=(96,128), bs=4, seed=0, cache=False)
    seg,photo = dls.valid.one_batch()
    o = dls.valid_ds.items[0]
    want = np.asarray(Image.open(o.segmap).resize((128,96), Image.Resampling.NEAREST))
    assert seg.shape == (4,96,128) and np.array_equal(seg[0].numpy(), want) and dls.codes[-1] == 'Void'
    full = np.asarray(Image.open(o.photo), dtype=np.float32)/127.5 - 1
    means = torch.nn.functional.interpolate(torch.from_numpy(full).permute(2,0,1)[None], (96,128), mode='area')[0]
    assert (photo[0] - means).abs().mean() < .03           # the mean of what lies under a pixel: nothing is cut, shifted or aliased

def test_labelmefacade_void_moves_last():
    path = shared_path('data/labelmefacade')
    labels = LabelSpace.from_file(path/'codes.txt')
    fn = sorted((path/'val/labels').iterdir())[0]
    ids = np.asarray(Image.open(fn)).astype(int)
    assert labels.codes[-1] == 'Various' and labels.codes[0] == 'Building'
    assert np.array_equal(labels.read(fn), np.where(ids==0, 8, ids-1))

def test_coco_stuff_maps_edges_and_void():
    path = shared_path('data/coco_stuff_sample')
    train,val,labels = coco_stuff_pairs(path)
    assert (len(train), len(val), labels.n_classes, labels.void) == (13, 8, 183, 182)
    dls = PairedDataLoaders.from_coco_stuff(path, size=128, bs=4, seed=0)
    again = pickle.loads(pickle.dumps(dls.new_empty()))
    assert again.labels == labels and again.edges
    for o in train+val:
        ids = np.asarray(Image.open(o.segmap)).astype(int)
        assert np.array_equal(labels.read(o.segmap), np.where(ids==255, 182, ids)) and check_pair(o) == ids.shape
    seg,edges,photo = dls.valid.one_batch()
    assert edges.shape == seg.shape == (4,128,128) and photo.shape == (4,3,128,128) and .01 < edges.float().mean() < .3

def test_faces_are_read_and_their_sides_change_places():
    path = shared_path('data/facesynthetics')
    train,val,labels = folder_pairs(path)
    assert (len(train), len(val), labels.n_classes, labels.void, labels.codes[-1]) == (90, 10, 20, 19, 'ignore')
    assert len(set(map(tuple, labels.palette.tolist()))) == 20
    seen = set()
    for o in train+val:
        seg = labels.read(o.segmap)
        assert check_pair(o) == seg.shape == (512,512)
        seen |= set(np.unique(seg).tolist())
    assert seen == set(range(20)) - {labels.codes.index('facewear')}
    sides = [(labels.codes[i], labels.codes[j]) for i,j in enumerate(labels.mirrored) if i<j]
    assert sides == [(f'right_{o}', f'left_{o}') for o in ('eye','brow','ear')]
    plain,turned = (PairedDataLoaders.from_folder(path, size=64, bs=4, flip=p, load=64, seed=0, cache=False) for p in (0,1))
    one,other = (next(iter(o.train)) for o in (plain,turned))
    assert (one[0] != other[0].flip(-1)).any(), 'eyes, brows or ears'
    assert np.array_equal(labels.mirrored[one[0].numpy()], other[0].flip(-1).numpy())
    assert torch.equal(one[1], other[1].flip(-1))

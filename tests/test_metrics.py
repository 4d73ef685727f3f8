"Scores: what a lesson's cells cannot show, and the real photos."
import json, math, pickle, subprocess, sys

import numpy as np
import pytest, torch
from PIL import Image, ImageFilter
from torch import nn
from torchmetrics.image.kid import poly_mmd
from conftest import ROOT, shared_path
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.metrics import *
from gaugan_fastai.segmenter import *

flat = nn.Flatten()

@pytest.fixture(scope='module')
def scenes(): return [draw_landscape(i, 32) for i in range(24)]

@pytest.fixture(scope='module')
def dls(scenes):
    pairs = [(s.segmap, s.photo) for s in scenes]
    return PairedDataLoaders.from_pairs(pairs[:16], pairs[16:], landscape_labels(), size=32, bs=4, seed=0)

@pytest.fixture(scope='module')
def segmenter(dls): return train_segmenter(dls, epochs=1)

def pictures(ims): return torch.from_numpy(np.stack(ims)).permute(0,3,1,2)/127.5-1

# KID and Fréchet distance

def test_kid_needs_no_other_package():
    "torchmetrics asks for torch-fidelity only when it is to use Inception itself"
    code = "import sys; sys.modules['torch_fidelity'] = None\n" \
           "import torch; from gaugan_fastai.metrics import kid\n" \
           "print(kid(torch.rand(4,3,32,32), -torch.rand(4,3,32,32), subsets=2)[0] > 0)"
    res = subprocess.run([sys.executable, '-W', 'ignore', '-c', code], capture_output=True, text=True, timeout=300)
    assert res.stdout.strip() == 'True', res.stderr

@pytest.mark.numeric
@pytest.mark.parametrize('n', [2, 7, 40])
def test_kid_is_the_formula(n):
    "With subsets as large as the set, also where the features are large (float32 against float64)"
    g = torch.Generator().manual_seed(n)
    x,y = (torch.rand(n, 3, 6, 6, generator=g)*2-1 for _ in range(2))
    want = poly_mmd(y.flatten(1).double(), x.flatten(1).double()).item()
    assert kid(x, y, subsets=3, subset_size=n, feature=flat) == pytest.approx((want, 0), abs=1e-5)

@pytest.mark.numeric
def test_kid_is_unbiased():
    "Mean of 300 estimates from 6 pictures against the closed form for two Gaussians"
    d,delta,g = 12,.6,torch.Generator().manual_seed(0)
    q = d*delta**2
    truth = 3*q/d + 3*q**2/d**2 + (q**3+6*q**2+3*q*d+6*q)/d**3
    def one(i):
        m = KID(nn.Identity(), subsets=1, subset_size=6, seed=i)
        m.update(torch.randn(6, d, generator=g), real=True), m.update(torch.randn(6, d, generator=g)+delta, real=False)
        return m.compute()[0].item()
    vals = np.array([one(i) for i in range(300)])
    assert abs(vals.mean()-truth) < 3.5*vals.std()/300**.5

@pytest.mark.numeric
def test_kid_order_of_batches_and_seed():
    x,y = torch.rand(10,3,4,4),-torch.rand(9,3,4,4)
    assert kid(x, y, feature=flat, bs=3) == kid(x, y, feature=flat, bs=10) == kid(x.split(4), y.split(2), feature=flat)
    assert kid(x, y, feature=flat, subsets=3) != kid(x, y, feature=flat, subsets=3, seed=1)
    state = torch.get_rng_state()
    kid(x, y, feature=flat)
    assert torch.equal(state, torch.get_rng_state())

@pytest.mark.numeric
def test_kid_can_be_pickled_and_reset():
    m = KID(flat, subsets=2)
    m.update(torch.rand(4,3,4,4), real=True), m.update(torch.rand(4,3,4,4), real=False)
    first,again = m.compute(),pickle.loads(pickle.dumps(m)).compute()
    assert first == again and m.protocol()['n_real'] == 4
    m.reset()
    assert m.n == [0,0]

@pytest.mark.numeric
def test_features_are_those_of_the_network():
    from gaugan_fastai.losses import lite0, lite0_features
    x = torch.rand(2,3,224,224)*2-1
    with torch.no_grad(): torch.testing.assert_close(KIDFeatures()(x), lite0_features(x, lite0()), atol=1e-4, rtol=1e-3)

@pytest.mark.parametrize('x,words', [
    (np.zeros((2,3,8,8)), 'ndarray'), (torch.zeros(3,8,8), '(3, 8, 8)'), (torch.zeros(0,3,8,8), '(0, 3, 8, 8)'), (torch.zeros(2,1,8,8), '(2, 1, 8, 8)'),
    (torch.zeros(2,3,8,8,dtype=torch.uint8), 'x/127.5-1'), (torch.full((2,3,8,8), 255.), '255'), (torch.full((2,3,8,8), math.nan), 'nan')])
def test_bad_pictures(x, words):
    with pytest.raises(InputError, match='fakes') as e: kid([x], torch.zeros(2,3,8,8), feature=flat)
    assert words in str(e.value)

def test_too_few_pictures():
    with pytest.raises(InputError, match='cannot be drawn from 1'): kid(torch.zeros(1,3,8,8), torch.zeros(9,3,8,8), feature=flat)
    with pytest.raises(InputError, match='subset_size <= 4'): kid(torch.zeros(4,3,8,8), torch.zeros(9,3,8,8), feature=flat, subset_size=5)

@pytest.mark.numeric
@pytest.mark.parametrize('n1,n2,d', [(20,30,50), (300,20,8), (40,40,40)])
def test_frechet_is_the_printed_formula(n1, n2, d):
    "More pictures than features and fewer; against the square root by eigenvalues"
    g = torch.Generator().manual_seed(d)
    f1,f2 = torch.randn(n1, d, generator=g).double(),2*torch.randn(n2, d, generator=g).double()+1
    c1,c2 = f1.T.cov(),f2.T.cov()
    root = torch.linalg.eigvals(c1@c2).real.clamp(min=0).sqrt().sum()
    want = ((f1.mean(0)-f2.mean(0))**2).sum() + c1.trace() + c2.trace() - 2*root
    assert frechet_distance(f1, f2) == pytest.approx(want.item(), rel=1e-5)
    assert frechet_distance(f1, f1) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(f1, f2) == pytest.approx(frechet_distance(f2, f1))

# Confusion

def test_confusion_against_a_loop():
    rng = np.random.default_rng(0)
    p,t = rng.integers(0, 6, (3,9,7)),rng.integers(0, 6, (3,9,7))
    want = np.zeros((6,6), int)
    for a,b in zip(t.ravel(), p.ravel()): want[a,b] += b is not None and a != 5
    got = confusion(torch.from_numpy(p), torch.from_numpy(t), 6, void=5)
    assert (got.numpy() == want).all() and got.dtype == torch.int64

def test_confusion_of_more_than_256_classes_and_bytes():
    t = torch.arange(300).reshape(1,300)
    assert mean_iou(confusion(t, t, 300)) == 1
    assert confusion(torch.tensor([[200]], dtype=torch.uint8), torch.tensor([[201]], dtype=torch.uint8), 202)[201,200] == 1

def test_absent_and_void():
    "A class that only the reader sees is absent; void is neither scored nor absent"
    t,p = torch.tensor([[0,0,3,3]]),torch.tensor([[0,1,2,2]])
    s = confusion_scores(confusion(p, t, 4, 3), list('abcd'), 3)
    assert s == dict(miou=.5, accuracy=.5, per_class={'a':.5}, absent=['b','c'])
    json.dumps(s)

@pytest.mark.parametrize('p,t,words', [
    (torch.tensor([[4]]), torch.tensor([[0]]), '4..4'), (torch.tensor([[0]]), torch.tensor([[-1]]), '-1..-1'),
    (torch.zeros(2,2).long(), torch.zeros(2,3).long(), '(2, 2)')])
def test_bad_maps(p, t, words):
    with pytest.raises(InputError) as e: confusion(p, t, 4)
    assert words in str(e.value)

# The segmenter

@pytest.mark.numeric
def test_segmenter_trains_both_groups_and_is_repeatable(dls, segmenter, scenes):
    pairs = [(s.segmap, s.photo) for s in scenes]
    dls2 = PairedDataLoaders.from_pairs(pairs[:16], pairs[16:], landscape_labels(), size=32, bs=4, seed=0)
    state = torch.get_rng_state()
    again = train_segmenter(dls2, epochs=1)
    assert torch.equal(state, torch.get_rng_state())
    for (k,a),b in zip(segmenter.state_dict().items(), again.state_dict().values()): assert torch.equal(a, b), k
    fresh = Segmenter(segmenter.n_out).encoder.state_dict()
    assert any(not torch.equal(fresh[k], v) for k,v in segmenter.encoder.state_dict().items() if '_project_conv' in k)
    assert segmenter.card['n_train'] == 16 and segmenter.card['size'] == [32,32] and not segmenter.training
    json.dumps(segmenter.card)

@pytest.mark.numeric
def test_first_epoch_leaves_the_encoder_alone(dls):
    learn = segmenter_learner(dls)
    learn.freeze()
    before = {k: v.clone() for k,v in learn.model.encoder.named_parameters()}
    learn.fit(1, 1e-2)
    for k,v in learn.model.encoder.named_parameters(): assert torch.equal(v, before[k]), k

@pytest.mark.numeric
def test_void_counts_neither_in_loss_nor_in_scores():
    labels = LabelSpace(['a','b','void'])
    seg = np.zeros((32,32), np.uint8)
    seg[:16] = 1
    holes = seg.copy()
    holes[:, 5:20] = 2
    photo = np.random.default_rng(0).integers(0, 255, (32,32,3)).astype(np.uint8)
    dls = PairedDataLoaders.from_pairs([(holes,photo)]*4, [(holes,photo)]*2, labels, size=32, bs=2, flip=0.)
    learn = segmenter_learner(dls)
    assert learn.model.n_out == 2
    x = torch.zeros(2,2,32,32)
    x[:,0,:,5:20] = 100                                       # sure and wrong, but only where void is
    maps = torch.from_numpy(holes).long().expand(2,-1,-1)
    x[:,1,:,:] += (maps==1)*50
    x[:,0,:,:] += (maps==0)*50
    assert learn.loss_func(x, maps).item() < 1e-6
    assert confusion_scores(confusion(x.argmax(1), maps, 3, 2), void=2)['miou'] == 1
    learn.fit(1)
    assert np.isfinite(learn.recorder.values[-1]).all()

def test_batches_with_edges(scenes, tmp_path):
    "The edge map of a batch goes past the segmenter"
    from types import SimpleNamespace
    cb = PhotoToMap()
    seg,edges,photo = torch.zeros(2,8,8).long(),torch.zeros(2,8,8).bool(),torch.zeros(2,3,8,8)
    cb.learn = SimpleNamespace(xb=(seg,edges), yb=(photo,))
    cb.before_batch()
    assert cb.learn.xb[0] is photo and cb.learn.yb[0] is seg and len(cb.learn.xb) == len(cb.learn.yb) == 1

@pytest.mark.numeric
def test_save_and_load(segmenter, scenes, tmp_path):
    x = pictures([s.photo for s in scenes[:3]])
    back = load_segmenter(save_segmenter(segmenter, tmp_path/'a'/'b'))
    assert torch.equal(back.read(x), segmenter.read(x)) and back.card == segmenter.card
    weights = tmp_path/'a'/'b'/'segmenter.safetensors'
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match='holds no segmenter'): load_segmenter(tmp_path/'a'/'b')
    (tmp_path/'a'/'b'/'segmenter.json').write_text('[]')
    with pytest.raises(InputError, match='holds no segmenter'): load_segmenter(tmp_path/'a'/'b')

@pytest.mark.parametrize('hw', [(32,32), (33,47), (64,16)])
def test_any_size(segmenter, hw):
    assert segmenter.read(torch.rand(1,3,*hw)).shape == (1,*hw)
    assert segmenter.read(torch.rand(1,3,*hw)).max() < landscape_labels().n_classes

# Both scores

@pytest.mark.numeric
def test_score_pictures(segmenter, scenes):
    labels = landscape_labels()
    x,seg = pictures([s.photo for s in scenes]),torch.from_numpy(np.stack([s.segmap for s in scenes])).long()
    s = score_pictures(x, x, seg, labels, segmenter, split='drawn', feature=flat, subsets=4)
    assert json.loads(json.dumps(s)) == s
    assert s['protocol']['split'] == 'drawn' and s['protocol']['size'] == [32,32] and s['protocol']['kid']['subset_size'] == 12
    assert s['protocol']['segmenter'] == segmenter.card
    assert 'miou' not in score_pictures(x, x, seg, labels, feature=flat)
    with pytest.raises(InputError, match='trained for'): score_pictures(x, x, seg*0, LabelSpace(['a','b']), segmenter, feature=flat)
    with pytest.raises(InputError, match='24 pictures.*3 label maps|in pairs'): score_pictures(x, x, seg[:3], labels, segmenter, feature=flat)
    with pytest.raises(InputError, match='one size'): score_pictures(x, x[...,:16], seg, labels, feature=flat)

def test_paint_all_leaves_the_generator_as_it_was(dls):
    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.bn,self.seen = nn.BatchNorm2d(3),[]
        def forward(self, segmap, edges=None):
            self.seen.append(self.training)
            return self.bn(torch.rand(len(segmap),3,*segmap.shape[-2:])).clamp(-1, 1)
    gen = Generator()
    fakes,reals,segs = paint_all(gen, dls.valid)
    assert gen.training and not any(gen.seen) and gen.bn.num_batches_tracked == 0
    assert fakes.shape == reals.shape == (8,3,32,32) and segs.shape == (8,32,32) and type(fakes) is type(segs) is torch.Tensor
    assert torch.equal(fakes, paint_all(gen, dls.valid)[0])
    gen.eval(), paint_all(gen, dls.valid)
    assert not gen.training

# Real photos

@pytest.fixture(scope='module')
def street():
    path = shared_path('data', 'camvid')
    def photos(split, n, f=lambda im: im):
        fns = sorted((path/split/'images').iterdir())
        return pictures([np.array(f(Image.open(o).resize((128,96), Image.BILINEAR))) for o in fns[::len(fns)//n][:n]])
    return photos

@pytest.mark.once
@pytest.mark.numeric
def test_kid_ranks_real_photos(street):
    "40 a side to be quick: photos of other streets, then the same photos with damage of growing strength"
    net,blur = KIDFeatures(),lambda r: lambda im: im.filter(ImageFilter.GaussianBlur(r))
    test = street('test', 40)
    a,b,c = (kid(street('train', 40, f), test, feature=net)[0] for f in (lambda im: im, blur(1), blur(3)))
    assert a < b < c and c > 3*a, (a, b, c)

def test_script_refuses_bad_folders(tmp_path):
    cmd = [sys.executable, '-W', 'ignore', ROOT/'tools'/'train_segmenter.py', tmp_path/'nowhere', tmp_path/'out']
    res = subprocess.run(cmd, capture_output=True, text=True, timeout=300)
    assert res.returncode == 1 and 'does not exist' in res.stderr and 'Traceback' not in res.stderr

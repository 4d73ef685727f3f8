"""Public functions that no other test calls, on cases whose answer is known: else a fault in them would be silent."""
import math
from types import SimpleNamespace

import numpy as np, pytest, torch
from torch import nn
from torch.nn import functional as F
from fastai.vision.all import PILImage

from gaugan_fastai import callbacks, classes, core, critics, encoder, keeping, learner, losses, metrics, runs, safe, sean
from gaugan_fastai import segmenter, styles, turns
from gaugan_fastai.fast import winograd
from gaugan_fastai.core import InputError
from gaugan_fastai.data import daylight, doctor, transforms
from gaugan_fastai.models import ablation, pix2pix, sean as models_sean, spade as models_spade, style
from gaugan_fastai.patterns import LabelPlan
from gaugan_fastai.fast.reads import pooled_label_conv, pooled_planes

pytestmark = pytest.mark.numeric
close, tensor = torch.testing.assert_close, torch.tensor
def ids(*rows): return tensor([rows])

# -- maps and sizes ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('bad', [0, -1, 2.5, True, '3', None])
def test_check_whole(bad):
    core.check_whole(a=1, b=np.int64(7))
    core.check_whole(0, seed=0)
    with pytest.raises(InputError, match='width is'): core.check_whole(ngf=4, width=bad)

def test_choose():
    known = dict(small=1, large=2)
    assert core.choose(known, 'large', 'preset') == 2
    with pytest.raises(InputError, match="preset is 'huge', but it is one of small, large"):
        core.choose(known, 'huge', 'preset')

def test_colours_of_a_map():
    palette = core.default_palette(40)
    assert palette.shape == (40, 3) and palette.dtype == np.uint8 and len(np.unique(palette, axis=0)) == 40
    assert (core.default_palette(3) == palette[:3]).all()
    mine = np.array([[0, 0, 0], [10, 20, 30], [40, 50, 60]], np.uint8)
    a, b, c = mine.tolist()
    assert core.colorize(tensor([[2, 0], [1, 1]]), mine).tolist() == [[c, a], [b, b]]
    for wrong in (3, -1):
        with pytest.raises(InputError, match=f'id {wrong} has no colour'): core.colorize(np.array([[0, wrong]]), mine)

def test_as_size():
    assert transforms.as_size(3) == (3, 3) and transforms.as_size([2, np.int64(5)]) == (2, 5)
    for bad in (0, (3, -1), (1, 2, 3), 2.5, True, 'big'):
        with pytest.raises(InputError, match='no picture size'): transforms.as_size(bad)

@pytest.mark.parametrize('hw,size,load,want', [
    ((100, 200), (50, 50), None, (50, 100)), ((100, 100), (50, 60), None, (60, 60)),
    ((100, 101), (50, 50), None, (50, 50)), ((100, 103), (50, 50), None, (50, 52)),
    ((100, 200), (50, 50), 80, (80, 160)), ((100, 200), (50, 50), 20, (50, 100)),
    ((100, 200), (50, 50), (286, 286), (286, 286))])
def test_scaled_size(hw, size, load, want): assert transforms.scaled_size(hw, size, load) == want

def test_jitter_moves_photos_in_training_only():
    photo = PILImage.create(np.random.default_rng(0).integers(60, 190, (8, 8, 3)).astype(np.uint8))
    jitter, was = transforms.PhotoJitter(.5), np.asarray(photo).astype(int)
    assert (np.asarray(jitter(photo, split_idx=1)) == was).all()
    assert any((np.asarray(jitter(photo, split_idx=0)) != was).any() for _ in range(3))
    assert len(jitter.factors) == 3 and all(.5 <= f <= 1.5 for f in jitter.factors)

@pytest.mark.parametrize('name,n,void', [
    ('ade20k', 151, None), ('coco-stuff', 183, 182), ('COCO_Stuff', 183, 182), ('cityscapes', 35, None)])
def test_tables_of_published_classes(name, n, void):
    labels = classes.label_space(name)
    assert labels.n_classes == len(labels.codes) == len(set(labels.codes)) == n and labels.void == void

def test_ade20k_shifted():
    plain, shifted = classes.label_space('ade20k'), classes.label_space('ade20k', shifted=True)
    assert plain.codes[1] == shifted.codes[0] == 'wall' and plain.codes[0] == shifted.codes[150]
    with pytest.raises(InputError, match='ADE20K alone'): classes.label_space('cityscapes', shifted=True)

def test_classes_of_a_table_or_a_file(tmp_path):
    (tmp_path/'codes.txt').write_text('sea\nsand')
    assert classes.named_space(tmp_path/'codes.txt').codes == ['sea', 'sand']
    assert classes.named_space('cityscapes') == classes.label_space('cityscapes')
    with pytest.raises(InputError, match='no table of classes .*nor is moon a file') as e: classes.named_space('moon')
    assert e.value.option == 'codes'

def test_a_folder_is_whole_or_not_there(tmp_path):
    (tmp_path/'out.part').mkdir()   # of one that was killed
    (tmp_path/'out.part/old').touch()
    with pytest.raises(KeyboardInterrupt), safe.new_folder(tmp_path/'out') as part:
        assert not (part/'old').exists()
        (part/'a').touch()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with safe.new_folder(tmp_path/'out') as part: (part/'a').touch()
    assert [o.name for o in tmp_path.rglob('*')] == ['out', 'a']

def test_seasons_of_a_style():
    assert daylight.seasons == ('spring', 'summer', 'autumn', 'winter')
    assert {daylight.draw_style(i)['season'] for i in range(40)} == set(daylight.seasons)

# -- what the doctor counts --------------------------------------------------------------------------------------

def test_thin_share():
    sharp, smooth = np.array([[0, 0, 8, 8, 8]]), np.array([[0, 0, 4, 8, 8]])
    assert doctor.thin_share(sharp) == 0 and doctor.thin_share(smooth) == pytest.approx(1/3)
    assert doctor.thin_share(np.zeros((3, 5), int)) == 0

def test_straddle_share():
    inst, seg = np.array([[7, 7, 7, 0], [9, 9, 0, 0]]), np.array([[1, 1, 2, 5], [3, 3, 5, 6]])
    assert doctor.straddle_share(inst, seg) == pytest.approx(1/5)
    assert doctor.straddle_share(np.zeros((2, 2), int), np.zeros((2, 2), int)) == 0

# -- critics, losses, turns --------------------------------------------------------------------------------------

def test_critic_input():
    image, edges = torch.full((1, 3, 1, 2), .5), tensor([[[True, False]]])
    x = critics.critic_input(ids([2, 0]), image, 3, edges)
    assert x[0, :, 0].T.tolist() == [[0, 0, 1, 1, .5, .5, .5], [1, 0, 0, 0, .5, .5, .5]]
    assert torch.equal(critics.critic_input(ids([2, 0]), image, 3), x[:, [0, 1, 2, 4, 5, 6]])

def test_objectives_are_means_of_grids_and_scales():
    game = losses.GANObjective('toy', real=lambda x: x, fake=lambda x: 2*x, gen=lambda x: -x)
    preds = [[torch.zeros(1), torch.full((1, 1, 4, 4), 3.)], torch.full((1, 1, 2, 2), 5.)]
    assert game.generator(preds) == -4 and game.critic(preds, preds) == (8, 4)
    assert losses.least_squares.generator([tensor([0., 3.])]) == 2.5
    assert losses.least_squares.critic([tensor(2.)], [tensor(3.)]) == (4, 4)

def test_terms():
    turn = SimpleNamespace(fake=torch.zeros(2, 3, 4, 4), photo=torch.full((2, 3, 4, 4), .5))
    assert models_spade.l1_term(10.)(turn) == 5
    class Twice(nn.Module):
        def forward(self, x): return [2*x]
    assert models_spade.perceptual_term(3., Twice())(turn) == 3
    turn = SimpleNamespace(fake_feats=[[tensor([1.]), tensor([9.])]], real_feats=[[tensor([3.]), tensor([0.])]])
    assert models_spade.feature_matching_term(10.)(turn) == 20

def test_change_outside_and_locality():
    before, region = torch.full((1, 3, 2, 2), 5.), tensor([[[True, True], [False, False]]])
    after = before + tensor([[[3., 0.], [-1., 0.]]]).expand(3, -1, -1)[None]
    share = models_sean.change_outside(before, after, region)
    assert share.item() == pytest.approx(1/(4 + .004))
    assert models_sean.change_outside(before, before, region).item() == 0
    turn = SimpleNamespace(fake=torch.cat([before, before]), edited=after, region=region)
    assert models_sean.locality_term(30., .08)(turn).item() == pytest.approx(30*(1/4.004 - .08))
    assert models_sean.locality_term(30., .3)(turn) == 0

def test_groups_of_a_gan():
    gan = SimpleNamespace(generator=nn.Linear(2, 3), critic=nn.Linear(3, 1), encoder=nn.Linear(1, 1))
    sizes = lambda groups: [sum(p.numel() for p in g) for g in groups]
    assert sizes(turns.network_groups(gan)) == [9, 4] and sizes(encoder.encoded_groups(gan)) == [9 + 2, 4]
    gan.generator.groups = lambda: [[gan.generator.weight], [gan.generator.bias]]
    assert sizes(turns.network_groups(gan)) == [6, 3, 4]

def test_optimiser_moves_the_one_whose_turn_it_is():
    a, b = (nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = turns.GANAdam([[a], [b]], lr=.1, lr_mults=(.5, 2.))
    for p in (a, b): p.grad = torch.ones(2)
    opt.step()
    close(a.detach(), torch.full((2,), .95))
    opt.turn = 'critic'
    opt.step()
    close(b.detach(), torch.full((2,), .8))
    close(a.detach(), torch.full((2,), .95))
    opt.zero_grad()
    assert a.grad is None and b.grad is None

# -- learner, callbacks, runs ------------------------------------------------------------------------------------

def test_constant_then_falling():
    f = callbacks.constant_linear(10, 30, 2.)
    assert [f(o) for o in (0, .25, .625, 1)] == [2, 2, 1, 0]
    steps = callbacks.constant_linear(1, 2, 1., per_epoch=True)
    assert [steps(o) for o in (0, .5, .7)] == [1, 1, .5]
    g = runs.constant_then_linear(4., .5)
    assert [g(o) for o in (0, .5, .75, 1)] == [4, 4, 2, 0]
    assert runs.constant_then_linear(4., .5, done=.5)(.5) == 2 and runs.constant_then_linear(4., 0)(1) == 4

def test_grid_of_pictures():
    a, b = np.zeros((2, 1, 1, 3), np.uint8), np.full((2, 1, 1, 3), 7, np.uint8)
    grid = learner.image_grid(a, b, pad=1)
    assert grid.shape == (6, 6, 3) and grid[0].min() == 255
    assert grid[1, 1].tolist() == [0]*3 and grid[4, 4].tolist() == [7]*3
    assert learner.image_grid(a, b, pad=1, rows=1).shape == (3, 6, 3)

def test_what_a_generator_reads_as_pictures():
    palette = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    segmap, edges = learner.input_pictures([ids([1, 0]), tensor([[[True, False]]])], palette)
    assert segmap.tolist() == [[[[4, 5, 6], [1, 2, 3]]]] and edges.tolist() == [[[[255]*3, [0]*3]]]

def test_line_of_a_run():
    line = keeping.run_line(.25, 30, dict(gan=1.234), width=8)
    assert line == '[##      ]  25% 0:30, 1:30 to go  gan 1.23'
    assert 'to go' not in keeping.run_line(1., 61, {}) and '1:01' in keeping.run_line(1., 61, {})

def test_history_as_a_table(tmp_path):
    history = [dict(train=dict(gan=1.5), valid=dict(gan=2.)), dict(train=dict(gan=.5), valid={})]
    callbacks.write_history(history, tmp_path/'h.csv')
    assert (tmp_path/'h.csv').read_text().split() == ['epoch,train_gan,valid_gan', '0,1.5,2.0', '1,0.5,']

# -- scores ------------------------------------------------------------------------------------------------------

def test_blend_of_codes():
    a, b = torch.zeros(1, 3, 2), torch.zeros(1, 3, 2)
    a[:, :2], b[:, 1:] = 1, 3                       # class 0 is in a alone, class 2 in b alone
    assert styles.blend(a, b, .25)[0, :, 0].tolist() == [1, 1.5, 3]
    assert styles.blend(a, b, {'y': .5}, ['x', 'y', 'z'])[0, :, 0].tolist() == [1, 2, 3]
    assert styles.interpolate is styles.blend

def test_confusion_by_hand():
    cm = segmenter.confusion(ids([0, 1, 1, 1]), ids([0, 0, 1, 1]), 3)
    assert cm.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]
    close(segmenter.iou(cm), tensor([1/2, 2/3, math.nan], dtype=torch.float64), equal_nan=True)
    assert segmenter.mean_iou(cm) == pytest.approx(7/12) and segmenter.pixel_accuracy(cm) == .75

def test_class_weights():
    batch = (ids([0]*9 + [1] + [2]*5), torch.zeros(1, 3, 1, 15))
    dls = SimpleNamespace(n_classes=3, labels=SimpleNamespace(void=2), train=[batch])
    w, share = segmenter.class_weights(dls), tensor([.9, .1])
    close(w, share**-.5/(share**.5).sum())
    assert (w*share).sum().item() == pytest.approx(1) and torch.equal(segmenter.class_weights(dls, 0.), torch.ones(2))

def grey(v): return torch.full((1, 3, 2, 2), v)

@pytest.mark.parametrize('bad,says', [
    (np.zeros((1, 3, 2, 2)), 'ndarray'), (torch.zeros(3, 2, 2), 'shape'), (grey(0.).byte(), 'uint8'),
    (grey(200.), '200'), (grey(-1.1), '-1.1'), (grey(1.1), '1.1'), (grey(math.nan), 'nan')])
def test_pictures_that_cannot_be_scored(bad, says):
    with pytest.raises(InputError, match=says): segmenter.check_pictures(bad)

def test_reconstruction():
    rng = np.random.default_rng(0)
    photo = tensor(rng.uniform(-.5, .5, (2, 3, 16, 16)), dtype=torch.float32)
    same = metrics.ssim(photo, photo)
    assert same.shape == (2,) and same.tolist() == pytest.approx([1, 1])
    scores = metrics.reconstruction_scores(photo + .2, photo)   # .1 of the range 0..1
    assert scores['rmse'] == pytest.approx(.1, rel=1e-5) and scores['psnr'] == pytest.approx(20, rel=1e-5)
    flat = torch.zeros(1, 3, 11, 11)   # two flat pictures: what is left of SSIM is 2 m n over m^2 + n^2
    want = (2*.5*.75 + 1e-4)/(.5**2 + .75**2 + 1e-4)
    assert metrics.ssim(flat, flat + .5).item() == pytest.approx(want, rel=1e-5)

def test_intervals():
    assert ablation.mean_interval([1., 2., 3.]) == pytest.approx((2, 4.302653/3**.5), rel=1e-5)
    one, half = ablation.mean_interval([5.])
    assert one == 5 and math.isnan(half)
    with pytest.raises(InputError, match='no values'): ablation.mean_interval([])

def test_cost_of_a_network():
    class One(nn.Module):
        edges = False
        def __init__(self):
            super().__init__()
            self.conv, self.up = nn.Conv2d(3, 4, 3, padding=1), nn.ConvTranspose2d(4, 2, 4, 2, 1)
        def forward(self, segmap): return self.up(self.conv(torch.zeros(len(segmap), 3, *segmap.shape[1:])))
    cost = ablation.network_cost(One(), (8, 8))
    assert cost == dict(parameters=3*4*9 + 4 + 4*2*16 + 2, macs=8*8*4*3*9 + 8*8*4*2*16)

def test_probes():
    torch.manual_seed(0)
    x = torch.randn(300, 4)
    assert style.probe_r2(x, x @ tensor([1., -2., 0., 3.]) + 5, 200) > .999
    assert style.probe_r2(x, torch.randn(300), 200) < .1
    assert style.correlation(x, 2*x + 1) == pytest.approx(1) and style.correlation(x, -x) == pytest.approx(-1)

def test_colours_and_edges_of_pictures():
    picture = torch.full((1, 3, 2, 3), -1.)
    picture[:, 0, :, 2] = 1.
    assert style.class_colours(picture, tensor([[0, 0, 2], [0, 0, 2]]), 4).tolist() == [[[0, 0, 0], [255, 0, 0]]]
    close(style.edge_strength(picture), tensor([[[0., 2/3]]]))
    slope = tensor([[0., 3., 3.], [4., 4., 3.], [4., 4., 3.]]).expand(1, 3, -1, -1)
    close(style.edge_strength(slope), tensor([[[5., 1.], [0., 1.]]]))
    class Itself(nn.Module):
        def forward(self, x): return [x]
    three = torch.stack([torch.full((3, 2, 2), v) for v in (0., .3, .9)])
    assert style.pairwise_distance(three, losses.PerceptualLoss(Itself())) == pytest.approx((.3 + .9 + .6)/3)

# -- styles of regions -------------------------------------------------------------------------------------------

NAMES = ['sky', 'sea', 'sand']
def codes(*values): return tensor(values, dtype=torch.float)[None, :, None].expand(-1, -1, 2).contiguous()

def test_names_of_classes():
    assert styles.classes_of('sea', NAMES) == [1] and styles.classes_of(['sand', 0], NAMES) == [2, 0]
    assert styles.classes_of(2, n_classes=3) == [2]
    for wrong in ('se', 3, -1, True):
        with pytest.raises(InputError, match='no class'): styles.classes_of(wrong, NAMES)

def test_codes_of_two_photos():
    a, b = codes(1, 2, 3), codes(4, 5, 0)
    assert torch.equal(styles.swap(a, b, 'sea', NAMES), codes(1, 5, 3)) and torch.equal(a, codes(1, 2, 3))
    with pytest.raises(InputError, match='does not show class 2'): styles.swap(a, b, 'sand', NAMES)
    assert [o is a for o in styles.crossover(a, b, 2)] == [True]*2 + [False]*4
    with pytest.raises(InputError, match='at=7'): styles.crossover(a, b, 7)
    with pytest.raises(InputError, match='do not fit'): styles.same_shape(a, b[..., :1])
    styles.same_shape(a, b.expand(3, -1, -1))

def test_where_a_picture_changed():
    before, region = torch.full((3, 1, 2), 4.), tensor([[True, False]])
    after = tensor([[[7., 3.]]]).expand(3, -1, -1)
    assert styles.change_inside(before, after, region) == .75
    assert styles.region_colour(after, region).tolist() == [7, 7, 7]
    assert styles.change_inside(before, before, region) == 0

def test_one_code_of_another_photo():
    torch.manual_seed(0)
    segmap = torch.cat([ids([0, 0, 0, 1]), ids([0, 2, 2, 2])])
    both = torch.stack([codes(1, 2, 0)[0], codes(5, 0, 7)[0]])
    edited, region = sean.exchange_one(both, segmap, 2)   # class 0 is all that both have
    assert torch.equal(edited, torch.stack([codes(5, 2, 0)[0], codes(1, 0, 7)[0]]))
    assert torch.equal(region, segmap == 0)

def test_small_regions_keep_their_code():
    segmap = torch.zeros(2, 10, 10, dtype=torch.long)
    segmap[:, 0, 0] = 1   # 1 % of the photo
    both = torch.stack([codes(1, 2, 0)[0], codes(5, 6, 0)[0]])
    for seed in range(8):
        torch.manual_seed(seed)
        assert torch.equal(sean.exchange_one(both, segmap, 1)[0], codes(5, 2, 0))
    torch.manual_seed(0)
    assert any(torch.equal(sean.exchange_one(both, segmap, 1, least=.01)[0], codes(1, 6, 0)) for _ in range(30))
    edited, region = sean.exchange_one(both[:1], segmap[:1], 1)   # nobody to take a code from
    assert torch.equal(edited, both[:1]) and not region.any()

def test_edits_get_the_noise_of_their_originals():
    noise = sean.TwinNoise(2, True)((5, 3, 4, 6))
    assert noise.shape == (5, 6, 4, 1) and torch.equal(noise[:2], noise[3:]) and not torch.equal(noise[0], noise[1])

def test_mean_codes_count_photos_that_show_the_class():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(1, 1)
        def encode(self, photo, segmap): return photo
        encode_shown = encode
    batches = [(ids([0]), torch.cat([codes(2, 0, 0), codes(4, 6, 0)])), (ids([0]), codes(0, 2, 0))]
    close(models_sean.mean_codes(Reader(), batches), codes(3, 4, 0)[0])

def test_style_of_a_user():
    z = encoder.as_style(None, None, 4, seed=3)
    again, other = (encoder.as_style(None, None, 4, seed=o) for o in (3, 4))
    assert z.shape == (1, 4) and torch.equal(z, again) and not torch.equal(z, other)
    assert encoder.as_style(None, tensor([1, 2, 3, 4]), 4).tolist() == [[1., 2., 3., 4.]]
    for bad in (dict(style=torch.zeros(3)), dict(style=torch.zeros(4), seed=1), dict(style=None, seed=-1)):
        with pytest.raises(InputError): encoder.as_style(None, **dict(dict(z_dim=4), **bad))

# -- layers ------------------------------------------------------------------------------------------------------

def test_noise_that_stays():
    ones = torch.ones(4000)
    assert torch.equal(pix2pix.Noise().eval()(ones), ones)
    for drop in (pix2pix.Noise(.25), pix2pix.Noise(.25, always=True).eval()):
        kept = drop(ones)
        assert kept.unique().tolist() == pytest.approx([0, 4/3])
        assert (kept == 0).float().mean().item() == pytest.approx(.25, abs=.04)

@pytest.mark.parametrize('size,n', [((256, 256), 8), ((1024, 512), 8), ((96, 128), 5), ((4, 8), 2)])
def test_levels_of_a_unet(size, n): assert pix2pix.unet_levels(size) == n

def test_size_that_no_unet_takes():
    with pytest.raises(InputError, match='at least twice'): pix2pix.unet_levels((90, 128))

@pytest.mark.parametrize('m', [2, 4])
def test_winograd_is_a_convolution(m):
    torch.manual_seed(0)
    x, w, b = torch.randn(2, 5, 8, 12), torch.randn(7, 5, 3, 3), torch.randn(7)
    with torch.no_grad(): got = winograd.winograd_conv(x.double(), winograd.winograd_weight(w.double(), m), b.double())
    close(got.contiguous(), F.conv2d(x.double(), w.double(), b.double(), padding=1))

def test_reads_of_half_size_maps():
    torch.manual_seed(0)
    segmap, weight = torch.randint(0, 5, (2, 12, 16)), torch.randn(4, 5, 4, 4)
    plan = LabelPlan(segmap, None, 5).at((12, 16))
    planes = F.avg_pool2d(core.onehot(segmap, 5), 3, 2, 1, count_include_pad=False)
    close(pooled_planes(plan).contiguous(), planes)
    want = F.conv2d(planes, weight, stride=2, padding=2)
    close(pooled_label_conv(plan, weight, 2, 2).contiguous(), want, rtol=1e-4, atol=1e-5)

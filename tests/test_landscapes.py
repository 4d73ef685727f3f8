"Drawn scenes: the same everywhere, every class there, every style factor moves what it names and nothing else"
import hashlib, math, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from gaugan_fastai.core import InputError
from gaugan_fastai.data import canvas, daylight
from gaugan_fastai.data.canvas import Canvas, fbm
from gaugan_fastai.data.canvas import GRASS, SAND, SKY, SUN, TREE, WATER
from gaugan_fastai.data.landscapes import *
from gaugan_fastai.data.views import *

ROOT = Path(__file__).parent.parent
LABELS = landscape_labels()
ID = {name: i for i, name in enumerate(LABELS.codes)}
# The colour of the snow lies as frost on trees too, and flowers on the grass: left out where one factor is measured.
PLAIN = dict(frost=0., flowers=0.)
NOON = {**next(s for s in map(draw_style, range(99)) if s['season'] == 'summer' and 11 < s['hour'] < 15), **PLAIN}

def digest(seed, size):
    scene = draw_landscape(seed, size)
    return hashlib.sha256(scene.segmap.tobytes() + scene.photo.tobytes() + repr(scene.style).encode()).hexdigest()

KEYS = [(0, 64), (7, 128), (2**40, (48, 80))]

def test_same_seed_same_bytes():
    assert [digest(*k) for k in KEYS] == [digest(*k) for k in KEYS]
    code = 'import test_landscapes as t; print(*[t.digest(*k) for k in t.KEYS])'
    command = [sys.executable, '-W', 'ignore', '-c', code]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT/'tests').stdout
    assert out.split() == [digest(*k) for k in KEYS]

def test_other_seed_other_scene(): assert len({digest(s, 32) for s in range(50)}) == 50

def test_every_class_occurs_and_no_other():
    n = sum(np.bincount(draw_layout(s, 64).ravel(), minlength=LABELS.n_classes) > 0 for s in range(200))
    assert len(n) == LABELS.n_classes == 19 and n.min() >= 8, dict(zip(LABELS.codes, n))

def test_maps_look_like_maps():
    "Large regions: 9 of 10 pixels lie in runs of their class, and few classes make up a picture"
    same = np.mean([(s[:, 1:] == s[:, :-1]).mean() for s in map(draw_layout, range(50))])
    kinds = [len(np.unique(draw_layout(s))) for s in range(50)]
    assert same > .95 and 4 <= np.median(kinds) <= 12

SIZES = [(64, (64, 64)), ((17, 33), (17, 33)), ((96, 128), (96, 128)), ([200, 100], (200, 100))]

@pytest.mark.parametrize('size,shape', SIZES)
def test_sizes(size, shape):
    segmap, photo, style = draw_landscape(3, size)
    assert segmap.shape == shape and segmap.dtype == np.uint8 and photo.shape == (*shape, 3) and photo.dtype == np.uint8
    assert style == draw_style(3)

def test_scenes_look_alike_at_other_sizes():
    for seed in range(8):
        (big, photo, _), (small, little, _) = draw_landscape(seed, 128), draw_landscape(seed, 64)
        assert (big[::2, ::2] == small).mean() > .8
        half = photo.reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert abs(half-little).mean() < 16

def inside(segmap, code):
    "Pixels of a class that do not touch another class"
    m = np.pad(segmap == code, 2)
    h, w = segmap.shape
    return np.all([m[y:y+h, x:x+w] for y in range(5) for x in range(5)], 0)

def scene_with(name, size=96, least=25):
    for seed in range(400):
        segmap = draw_layout(seed, size)
        if inside(segmap, ID[name]).sum() >= least: return segmap, seed
    raise AssertionError(f'no scene shows {name}')

# Light travels: water mirrors what stands behind it, and the sky shows through thin cloud.
ALSO = dict(sky={'water', 'cloud'})

@pytest.mark.parametrize('name', LABELS.codes)
def test_color_moves_its_own_region(name):
    segmap, seed = scene_with(name, least=4 if name in ('window', 'sun', 'moon') else 25)
    style = {**NOON, name: (.2, .5, .5)}
    before = render(segmap, style, seed).astype(float)
    after = render(segmap, {**style, name: (.6, .5, .5)}, seed).astype(float)
    moved = (after-before)[inside(segmap, ID[name])].mean(0)
    assert moved[0] > 8 and abs(moved[1:]).max() < .1*moved[0], moved
    for other in set(LABELS.codes) - {name, 'water'} - ALSO.get(name, set()):
        m = inside(segmap, ID[other])
        assert not m.any() or abs((after-before)[m]).max() == 0, other

def test_named_colors_are_what_the_eye_sees():
    "Over many scenes the measured colour of the grass follows the factor"
    want, got = [], []
    for seed in range(150):
        segmap, style = draw_layout(seed, 64), {**draw_style(seed), **PLAIN, 'hour': 13., 'haze': 0.}
        m = inside(segmap, ID['grass'])
        if m.sum() < 100: continue
        style = {**style, **{k: NOON[k] for k in 'light ambient glow horizon glare contrast sun_x'.split()}}
        want.append(style['grass'])
        got.append(render(segmap, style, seed)[m].mean(0))
    for channel in range(3): assert np.corrcoef(np.array(want)[:, channel], np.array(got)[:, channel])[0, 1] > .9

@pytest.mark.parametrize('factor,low,high,name,sign', [
    ('haze', 0., 1., 'mountain', +1), ('mist', 0., 1., 'mountain', +1), ('cirrus', 0., 1., 'sky', +1),
    ('lamps', 0., 1., 'window', +1), ('frost', 0., 1., 'fir', +1), ('flowers', 0., 1., 'grass', +1)])
def test_shared_factors(factor, low, high, name, sign):
    segmap, seed = scene_with(name, least=4 if name == 'window' else 25)
    style = {**NOON, 'hour': 21. if factor == 'lamps' else 13.}
    m = inside(segmap, ID[name])
    a, b = (render(segmap, {**style, factor: v}, seed)[m].astype(float).mean() for v in (low, high))
    assert sign*(b-a) > .4, (a, b)

def test_wind_moves_water_only():
    segmap, seed = scene_with('water')
    a, b = (render(segmap, {**NOON, 'wind': v}, seed).astype(int) for v in (.1, 1.))
    assert abs(a-b)[segmap == ID['water']].mean() > 2
    assert abs(a-b)[~(segmap == ID['water'])].max() <= 60 and (a != b)[inside(segmap, ID['sky'])].sum() == 0

def test_light_falls_from_the_side_of_the_sun():
    "A tree alone: brighter on the side of the sun, its shadow on the other"
    c = Canvas((128, 128), .55)
    c.below(.55, ID['grass'])
    c.oak(.5, .85, .6)
    style = {**NOON, 'haze': 0., 'glare': 0.}
    left, right = (render(c.seg, {**style, 'sun_x': x}).astype(float).mean(2) for x in (-.1, 1.1))
    tree, half = inside(c.seg, ID['tree']), np.arange(128)[None] < 64
    assert (left-right)[tree & half].mean() > 2 and (right-left)[tree & ~half].mean() > 2

def test_hand_made_maps():
    files = sorted((ROOT/'data'/'maps').glob('*.png'))
    assert len(files) >= 6
    for fn in files:
        segmap = LABELS.read(fn)
        assert segmap.shape == (256, 256) and len(np.unique(segmap)) >= 4
        photo = render(segmap, draw_style(5), 5)
        assert photo.shape == (256, 256, 3) and photo.std() > 10

@pytest.mark.parametrize('hour', [5., 13., 19.5, 23.])
def test_any_map_can_be_rendered(hour):
    style, rng = {**draw_style(4), 'hour': hour}, np.random.default_rng(0)
    maps = [np.full((32, 40), i) for i in range(LABELS.n_classes)] + [rng.integers(0, LABELS.n_classes, (33, 47))]
    with np.errstate(all='raise', under='ignore'):
        for m in maps: assert render(m, style).shape == (*m.shape, 3)

def test_inputs_are_left_alone_and_types_do_not_matter():
    segmap, style = draw_layout(1, 64), draw_style(1)
    copy, names = segmap.copy(), dict(style)
    photo = render(segmap, style, 1)
    assert (segmap == copy).all() and style == names
    for other in (segmap.astype(np.int64), torch.tensor(segmap), np.asfortranarray(segmap)):
        assert (render(other, {k: list(v) if isinstance(v, tuple) else v for k, v in style.items()}, 1) == photo).all()

def paint(value=0, shape=(32, 32), dtype=int, **style): return render(np.full(shape, value, dtype), {**NOON, **style})

BAD = [ # chkstyle: ignore-node
    (lambda: draw_layout(0, 0), 'size=0'), (lambda: draw_layout(0, (64,)), 'size'),
    (lambda: draw_landscape(0, 64.), 'size=64.0'), (lambda: draw_layout(0, 10**6), 'size=1000000'),
    (lambda: draw_style(-1), '-1'), (lambda: draw_layout('a'), "'a'"),
    (lambda: paint(19), '19'), (lambda: paint(-1), '-1'), (lambda: paint(dtype=float), 'float'),
    (lambda: paint(shape=(2, 32, 32)), '2, 32, 32'), (lambda: paint(shape=(8, 8)), 'size'),
    (lambda: paint(grass='green'), 'grass'), (lambda: paint(gras=.5), 'gras'), (lambda: paint(haze='thick'), 'thick'),
    (lambda: paint(haze=float('nan')), 'haze'),
    (lambda: render(np.zeros((32, 32), int), {}), 'lacks'), (lambda: write_landscapes('x', seed=-3), '-3')]

@pytest.mark.parametrize('bad,says', BAD)
def test_bad_input_is_one_clear_sentence(bad, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=says) as e: bad()
    assert '\n' not in str(e.value) and not list(tmp_path.iterdir())

def test_noise_is_the_same_at_every_resolution():
    at = lambda n: fbm((1, 2), (np.arange(n)+.5)/n, (np.arange(n)+.5)/n, (4, 4), 3)
    assert abs(at(192)[1::3, 1::3]-at(64)).max() < 1e-12 and .15 < at(64).std() < .6

def test_committed_data_is_what_the_command_writes(tmp_path):
    subprocess.run([sys.executable, '-W', 'ignore', ROOT/'tools'/'make_data.py', tmp_path], check=True)
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob('*') if p.is_file())
    ours = [p for part in ('landscapes', 'maps') for p in (ROOT/'data'/part).rglob('*') if p.is_file()]
    committed = sorted(p.relative_to(ROOT/'data') for p in ours)
    assert files == committed and len(files) == 2*32 + 2 + 6
    for f in files:
        if f.suffix == '.txt': assert (tmp_path/f).read_text() == (ROOT/'data'/f).read_text()
        else:
            diff = abs(np.asarray(Image.open(tmp_path/f)).astype(int) - np.asarray(Image.open(ROOT/'data'/f)))
            # labels exactly; one grey level may become a few in JPEG
            assert diff.max() == 0 if f.suffix == '.png' else diff.max() <= 12 and diff.mean() < .5, f

def test_committed_photos_are_the_drawn_ones():
    for stem in ('00000', '00011'):
        photo = np.asarray(Image.open(ROOT/f'data/landscapes/train/images/{stem}.jpg')).astype(int)
        assert abs(photo-draw_landscape(int(stem)).photo).mean() < 6

# -- what the three modules of drawn scenes share ------------------------------------------------------------------

def test_a_key_has_a_stream_of_its_own():
    a, b = canvas.rng_of(3, 1).random(4), canvas.rng_of(3, 2).random(4)
    assert (canvas.rng_of(3, 1).random(4) == a).all() and (a != b).all()

def test_pixel_centres(): assert canvas.pixel_centres(4).tolist() == [.125, .375, .625, .875]

def test_splines_keep_straight_lines_and_are_smooth():
    at = canvas.pixel_centres(9)
    line = canvas.join_lattice(np.arange(-1., 5)[:, None], at, 3)
    assert line.shape == (9, 1) and np.abs(line[:, 0] - 3*at).max() < 1e-12
    bump = canvas.join_lattice(np.eye(6)[:, 2:3], np.linspace(0, 1, 301), 3)[:, 0]
    assert bump.max() == pytest.approx(2/3) and np.abs(np.diff(bump, 2)).max() < 1e-3

def test_layout_and_style_agree_about_the_hour():
    for seed in range(20):
        season, hour = canvas.season_and_hour(seed)
        style = daylight.draw_style(seed)
        assert (style['season'], style['hour']) == (daylight.seasons[season], hour)

@pytest.mark.parametrize('bad', [-1, 1.5, '3', None])
def test_seeds_that_name_no_scene(bad):
    assert canvas.check_seed(np.int64(7)) == 7
    with pytest.raises(InputError, match='names no scene'): canvas.check_seed(bad)

@pytest.mark.parametrize('bad', [15, 4097, (64, 8), (64, 64, 64), 64., '64'])
def test_sizes_that_cannot_be_drawn(bad):
    assert canvas.check_scene_size(64) == (64, 64) and canvas.check_scene_size([16, 4096]) == (16, 4096)
    with pytest.raises(InputError, match='cannot be drawn'): canvas.check_scene_size(bad)

def test_styles_are_checked():
    style = daylight.draw_style(0)
    assert daylight.check_style(style) is style
    wrong = ('haze', 'much', "haze='much'"), ('roof', (1, 0), 'roof='), ('sky', (0, 0, math.nan), 'sky='), ('ruf', 1, "'ruf'")
    for name, value, words in wrong:
        with pytest.raises(InputError) as e: daylight.check_style({**style, name: value})
        assert words in str(e.value) and 'draw_style' in e.value.cure
    with pytest.raises(InputError, match='lacks'): daylight.check_style({k: v for k, v in style.items() if k != 'haze'})

def test_codes_and_colours_belong_together():
    labels = canvas.landscape_labels()
    assert labels.codes == canvas.landscape_codes and (labels.palette == canvas.landscape_palette).all()
    assert labels.table[:20].tolist() == [*range(19), -1]

# -- what is read off a map ------------------------------------------------------------------------------------

def test_small_helpers_of_pictures():
    assert lerp(0, 10, .3) == 3 and (clamped(np.array([-1., .5, 2.])) == [0, .5, 1]).all()
    assert any_class(WATER, SAND)[np.array([WATER, SKY, SAND])].tolist() == [True, False, True]
    assert rgb32(1, 2, 3).shape == (3, 1, 1) and rgb32(1, 2, 3).dtype == np.float32
    assert used_rows(np.array([[0, 0], [1, 0], [0, 1], [0, 0]])) == slice(1, 3)
    assert neighbours(np.arange(9.).reshape(3, 3)).tolist() == [[16]]

@pytest.mark.numeric
def test_a_blur_keeps_what_there_is():
    mask = np.zeros((48, 64))
    mask[10:30, 20:44] = 1
    blurred = soft_mask(mask, 12)
    assert abs(blurred.mean() - mask.mean()) < .01 and blurred.max() < 1.01   # blocks at the rim count a little more
    assert np.abs(soft_mask(np.ones((48, 64)), 12) - 1).max() < 1e-5

def test_runs_of_ids():
    first, last = runs_along(np.array([[5, 5, 2, 7, 7]]), 1)
    assert first.tolist() == [[0, 0, 2, 3, 3]] and last.tolist() == [[1, 1, 2, 4, 4]]

def test_a_view_reads_horizon_and_distance_off_the_map():
    seg = np.full((64, 64), SKY, np.uint8)
    seg[40:], seg[20:40, 30:34], seg[5, 50] = GRASS, TREE, SUN
    view = SceneView(seg, draw_style(3), 0)
    assert abs(view.horizon - 40/64) < 1e-9 and view.side < 0   # the sun is on the right
    assert view.base[30, 31] == 39 and view.depth[63, 0] > .9 > view.depth[41, 0]
    assert view.ground_noise().shape == (64, 64) and not view.healed(np.ones((64, 64), np.float32))[~view.border].max() > 1

"""`gaugan demo`: a picture at once, then deep snow; with small weights in place of the shipped ones."""
import re
import numpy as np, pytest, torch
from PIL import Image
from test_cli import gaugan, refused
from gaugan_fastai import demo
from gaugan_fastai.core import InputError, resize_map
from gaugan_fastai.data.daylight import draw_style
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.demo import before_after, demo_maps, paint_rows, run_demo, save_rows, snow_scenes, snow_style, teach_snow, training_size
from gaugan_fastai.encoder import StyleEncoder
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.painter import Painter
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.prior import StylePrior

def small(folder, upsampling='more', size=64):
    "Weights with styles that doubling once less makes quicker"
    torch.manual_seed(0)
    gen = SPADEGenerator(19, 2, nhidden=4, z_dim=4, upsampling=upsampling, size=(size, size))
    gen.fc.weight.data.mul_(100)   # a network that learnt nothing hardly looks at z
    return save_pretrained(gen, folder, landscape_labels(), encoder=StyleEncoder(ndf=2, z_dim=4, size=32), licence='Apache-2.0', size=[size, size])

@pytest.fixture
def weights(tmp_path, monkeypatch):
    "They stand in for the shipped ones; losses without the perceptual network"
    folder = small(tmp_path/'weights')
    monkeypatch.setattr(demo, 'shipped_weights', lambda: dict(landscapes=folder))
    run = demo.Run
    monkeypatch.setattr(demo, 'Run', lambda *args, **kw: run(*args, perceptual=None, **kw))
    return folder

def cells(file, n, side):
    "The pictures of a grid, by row and column"
    grid = np.asarray(Image.open(file)).astype(int)
    rows, columns = (o//(side + 4) for o in grid.shape[:2])
    assert grid.shape == (rows*(side + 4), columns*(side + 4), 3) and rows == n
    at = lambda i: slice(i*(side + 4) + 2, (i + 1)*(side + 4) - 2)
    return [[grid[at(i), at(j)] for j in range(columns)] for i in range(rows)]

def test_a_demo_from_the_command_line(weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, words, err = gaugan('demo', '--minutes', '.02', '--n', 8)
    assert code == 0, err
    out = tmp_path/'gaugan_demo'
    assert words.startswith('gaugan_demo/first.png: '), 'the first thing that is said is where the first picture is'
    assert len(re.findall('gaugan_demo/styles.png', words)) == 2 and (out/'DEMO.txt').read_text() in words
    maps = [Painter(weights).read(o)[0] for o in sorted((out/'maps').glob('*.png'))]
    assert len(maps) == 6
    first, = cells(out/'first.png', 1, 64)
    assert (first[0] == landscape_labels().colorize(resize_map(maps[0], (64, 64)))).all()
    assert abs(first[1] - np.asarray(Painter(weights)(maps[0], size=(64, 64), seed=25)).astype(int)).max() <= 1
    for row in cells(out/'styles.png', 6, 64):
        assert len(row) == 5 and all((a != b).any() for a, b in zip(row[1:], row[2:])), 'four styles'
    for row in cells(out/'before_after.png', 6, 64): assert len(row) == 5 and (row[1] != row[2]).any()
    assert not (out/'last.pth').exists(), 'a checkpoint of the shipped weights has 200 MB'
    taught = from_pretrained(out/'model')
    assert taught.only_size == (64, 64) and taught.card['size'] == [64, 64] and taught.card['licence'] == 'Apache-2.0'
    assert taught.encoder is not None and 'at 32x32' in taught.card['training']
    assert gaugan('generate', out, out/'maps', '--out', tmp_path/'painted')[:2] == (0, f'6 of 6 maps painted; the pictures are in {tmp_path}/painted\n')
    assert 'exists: choose another folder with --out' in refused('demo', '--out', out)
    assert gaugan('demo', '--minutes', '.01', '--n', 4)[0] == 0 and (tmp_path/'gaugan_demo_2/model').is_dir(), 'an earlier demo stays'

def test_a_demo_refuses(weights, tmp_path):
    assert 'do not paint 96x96: choose 64x64 or 32x32' in refused('demo', '--size', 96, '--out', tmp_path/'out')
    assert not (tmp_path/'out').exists(), 'nothing is left'
    with pytest.raises(InputError, match='exists'): run_demo(tmp_path, weights=weights)

def test_the_size_to_train_at(tmp_path):
    "Doubling five times is the least: such weights are trained at their own size"
    more, normal = small(tmp_path/'more'), small(tmp_path/'normal', 'normal', 32)
    assert [training_size(more), training_size(normal), training_size(more, (64, 64))] == [(32, 32), (32, 32), (64, 64)]
    with pytest.raises(InputError, match='do not paint 64x64: choose 32x32'): training_size(normal, (64, 64))

def test_before_and_after_are_painted_in_one_style(weights):
    "Weights with a prior draw another style from a seed than the same weights without one"
    before, after = Painter(weights), Painter(weights)
    before.gen.prior = StylePrior(torch.full((3, 4), 5.), torch.ones(3, 4))
    segmap = draw_landscape(3, 64).segmap
    (_, old, new, _, _), = before_after(before, after, [segmap])
    assert np.array_equal(old, new) and not np.array_equal(old, paint_rows(after, [segmap], [25])[0][1])

@pytest.mark.numeric
def test_training_moves_the_picture_towards_snow(weights, tmp_path):
    taught = Painter(teach_snow(tmp_path/'run', size=(32, 32), n=8, lr=4e-3, pretrained=weights, epochs=4))
    scenes = snow_scenes(6, 64, 9000)
    photo = np.stack([o.photo for o in scenes]).mean((0, 1, 2))
    rows = before_after(Painter(weights), taught, [o.segmap for o in scenes])
    old, new = (np.stack([o[i] for o in rows]).mean((0, 1, 2)) for i in (1, 2))
    way = photo - old   # so short a training may go too far, but not another way
    assert (new - old) @ way > .2*(way @ way), (old, new, photo)

# -- the season --------------------------------------------------------------------------------------------------

def test_snow_is_white_and_has_the_hour_of_the_scene():
    for seed in range(30):
        snow, usual = snow_style(seed), draw_style(seed)
        assert snow == snow_style(seed) and snow['hour'] == usual['hour'] and snow['light'] == usual['light']
        assert min(snow['grass']) > .85 and min(snow['roof']) > .85 and snow['frost'] == 1 and snow['season'] == 'winter'
    assert len({snow_style(i)['grass'] for i in range(30)}) == 30

def test_snow_lies_on_the_same_places():
    for i, o in enumerate(snow_scenes(3, 64, 40)):
        usual = draw_landscape(40 + i, 64)
        assert (o.segmap == usual.segmap).all() and o.photo.shape == (64, 64, 3) and (o.photo != usual.photo).any()
    assert len(snow_scenes(0)) == 0 and snow_scenes(1, (32, 64))[0].photo.shape == (32, 64, 3)

def test_rows_of_pictures(tmp_path):
    painter = Painter(small(tmp_path/'w', 'normal', 32))
    rows = paint_rows(painter, [draw_landscape(0, 48).segmap], (1, 2))
    (a, b, c), = rows
    save_rows(rows, tmp_path/'rows.png')
    for mine, there in zip((a, b, c), *cells(tmp_path/'rows.png', 1, 32), strict=True): assert (mine == there).all()
    files = demo_maps(tmp_path/'maps')
    assert [o.name for o in files] == sorted(o.name for o in (tmp_path/'maps').iterdir()) and len(files) == 6
    assert a.shape == b.shape == c.shape == (32, 32, 3) and (b != c).any()

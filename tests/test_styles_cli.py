"""Styles from the command line: train with --z-dim, paint by seed and by photo, train on from such a run."""
import copy, json, shutil
import numpy as np, pytest, torch
from PIL import Image
from test_cli import gaugan, process, refused
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels, write_landscapes
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import StyleEncoder, StyleLearner, encode
from gaugan_fastai.finetune import adapt_classes
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.runs import Run, load_model, paint

small = ['--size', '32', '--bs', '4', '--preset', 'cpu', '--ngf', '4', '--nhidden', '8', '--perceptual', 'none']

@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    "Drawn scenes, one of them as a wide map; not to be changed"
    return write_landscapes(tmp_path_factory.mktemp('styles')/'scenes', n_train=16, n_val=4, size=48, seed=0)

@pytest.fixture(scope='module')
def runs(scenes):
    "A run with styles and one without"
    styled, plain = scenes.parent/'styled', scenes.parent/'plain'
    for out, more in ((styled, ['--z-dim', 4, '--kl', .1, '--kl-warmup', .5]), (plain, [])):
        code, words, err = gaugan('train', scenes, '--out', out, '--epochs', 1, *small, *more)
        assert code == 0, err
    for fn in (styled/'model').glob('model.safetensors'):   # a network of one epoch hardly looks at z
        gen = from_pretrained(styled/'model')
        gen.fc.weight.data.mul_(100)
        save_pretrained(gen, styled/'model', **{k: gen.card[k] for k in ('size', 'training', 'licence')})
    return styled, plain

@pytest.fixture
def maps(tmp_path):
    "Two maps: one square, one wide"
    (tmp_path/'maps').mkdir()
    Image.fromarray(draw_landscape(3, 48).segmap).save(tmp_path/'maps/a.png')
    Image.fromarray(np.pad(draw_landscape(4, 48).segmap, ((0, 0), (0, 48)), mode='edge')).save(tmp_path/'maps/b.png')
    Image.fromarray(draw_landscape(5, 40).photo).save(tmp_path/'photo.png')
    return tmp_path/'maps'

def painted(run, maps, name, *args, n=2):
    "Name -> bytes of the pictures that `gaugan generate` leaves"
    code, words, err = gaugan('generate', run, maps, '--out', maps.parent/name, *args)
    assert code == 0 and words.startswith('2 of 2'), err
    found = {o.name: o.read_bytes() for o in (maps.parent/name).iterdir()}
    assert len(found) == n
    return found

# -- train -------------------------------------------------------------------------------------------------------

def test_train_leaves_an_encoder(runs):
    gen, settings = from_pretrained(runs[0]/'model'), json.loads((runs[0]/'run.json').read_text())
    assert (gen.z_dim, gen.size, gen.encoder.z_dim, gen.encoder.size) == (4, (32, 32), 4, 32)
    assert (settings['z_dim'], settings['kl'], settings['kl_warmup']) == (4, .1, .5)
    assert 'train_kl' in (runs[0]/'history.csv').read_text().splitlines()[0]

def test_resume_wants_the_same_styles(runs, scenes, tmp_path):
    out = shutil.copytree(runs[0], tmp_path/'run')
    args = ['train', scenes, '--out', out, '--epochs', 2, '--resume', *small]
    assert 'was started with z_dim=4, not None' in refused(*args)
    assert 'was started with kl=0.1, not 0.05' in refused(*args, '--z-dim', 4)
    code, _, err = gaugan(*args, '--z-dim', 4, '--kl', .1, '--kl-warmup', .5)
    assert code == 0, err

@pytest.mark.parametrize('args, code, words', [(['--kl', '.1'], 1, 'give --z-dim too'), (['--kl-warmup', '.1'], 1, 'give --z-dim too'),
    (['--z-dim', '0'], 2, 'above 0'), (['--z-dim', '4', '--kl-warmup', '2'], 2, '0 to 1')], ids=str)
def test_train_refuses(scenes, tmp_path, args, code, words):
    got, _, err = gaugan('train', scenes, '--out', tmp_path/'run', '--epochs', 1, *small, *args)
    assert got == code and words in err and 'Traceback' not in err and not (tmp_path/'run/run.json').exists()

# -- generate ----------------------------------------------------------------------------------------------------

def test_the_seed_decides(runs, maps):
    a, b, zero, one = (painted(runs[0], maps, name, *args) for name, args in (('a', []), ('b', []), ('0', ['--seed', 0]), ('1', ['--seed', 1])))
    assert a == b == zero and all(a[k] != one[k] for k in a)

@pytest.mark.once
@pytest.mark.numeric
def test_another_process_paints_the_same(runs, maps):
    "To one grey level: another process may add up in another order (threads, what lies where in memory)"
    painted(runs[0], maps, 'here', '--seed', 7)
    assert process('generate', runs[0], maps, '--out', maps.parent/'there', '--seed', 7)[0] == 0
    read = lambda o: np.concatenate([np.asarray(Image.open(maps.parent/o/f'{k}.png')).astype(int) for k in 'ab'], 1)
    assert abs(read('here') - read('there')).max() <= 1

def test_samples_are_consecutive_seeds(runs, maps):
    many, one = painted(runs[0], maps, 'many', '--samples', 3, '--seed', 5, n=6), painted(runs[0], maps, 'one', '--seed', 6)
    assert set(many) == {f'{o}_{i}.png' for o in 'ab' for i in range(3)}
    assert many['a_1.png'] == one['a.png'] and many['b_1.png'] == one['b.png'] and len(set(many.values())) == 6

def test_the_style_of_a_photo(runs, maps):
    a, b = (painted(runs[0], maps, name, '--style', maps.parent/'photo.png') for name in 'ab')
    model, photo = load_model(runs[0]), Image.open(maps.parent/'photo.png')
    want = paint(model, draw_landscape(3, 48).segmap, style=encode(model, photo)[0])
    assert a == b and np.array_equal(np.asarray(Image.open(maps.parent/'a/a.png')), want)
    assert (want != paint(model, draw_landscape(3, 48).segmap)).any()

def test_the_shape_of_the_map_stays(runs, maps):
    painted(runs[0], maps, 'own')
    assert [Image.open(maps.parent/f'own/{o}.png').size for o in 'ab'] == [(32, 32), (64, 32)]
    painted(runs[0], maps, 'asked', '--size', '40x50')
    assert {Image.open(o).size for o in (maps.parent/'asked').iterdir()} == {(50, 40)}

def test_generate_refuses(runs, maps, tmp_path):
    styled, plain = runs
    photo, out = maps.parent/'photo.png', ['--out', tmp_path/'out']
    for args in (['--style', photo], ['--seed', 1], ['--samples', 2]):
        words = refused('generate', plain, maps, *out, *args)
        assert 'without --z-dim' in words and f'leave {args[0]} out' in words
    assert 'leave --seed out' in refused('generate', styled, maps, *out, '--style', photo, '--seed', 1)
    assert 'no_such' in refused('generate', styled, maps, *out, '--style', tmp_path/'no_such.png')
    bare = from_pretrained(styled/'model')
    del bare.__dict__['encoder']
    save_pretrained(bare, tmp_path/'bare')
    assert 'without a style encoder' in refused('generate', tmp_path/'bare', maps, *out, '--style', photo)
    assert not (tmp_path/'out').exists()

def test_samples_do_not_paint_over_maps(runs, maps):
    shutil.copy(maps/'a.png', maps/'a_0.png')
    before = (maps/'a_0.png').read_bytes()
    assert 'a_0.png is a label map itself' in refused('generate', runs[0], maps, '--out', maps, '--samples', 2)
    assert (maps/'a_0.png').read_bytes() == before

# -- trained on --------------------------------------------------------------------------------------------------

@pytest.mark.numeric
def test_adapted_keeps_its_encoder(runs):
    "The weights are the same bits; what two networks make of them is the same to the last bits of float32"
    gen = from_pretrained(runs[0]/'model')
    more, photo = adapt_classes(gen, LabelSpace(['water', 'sky', 'pier'], void=None)), draw_landscape(5, 40).photo
    for (k, a), b in zip(more.encoder.named_parameters(), gen.encoder.parameters()): assert torch.equal(a, b), k
    torch.testing.assert_close(encode(more, photo), encode(gen, photo))
    assert not {o.data_ptr() for o in more.encoder.parameters()} & {o.data_ptr() for o in gen.encoder.parameters()}
    assert not any('encoder' in k for k in more.state_dict())

def test_training_goes_on_from_a_run_with_styles(runs, scenes, tmp_path):
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    run, kept = Run(dls, tmp_path/'run', pretrained=str(runs[0]), perceptual=None), from_pretrained(runs[0]/'model')
    model = run.learn.model
    assert type(run.learn) is StyleLearner and (model.encoder.ndf, model.encoder.size, model.generator.z_dim) == (4, 32, 4)
    for (k, a), b in zip(model.encoder.named_parameters(), kept.encoder.parameters()): assert torch.equal(a, b), k
    run.fit(epochs=1)
    assert any((a != b).any() for a, b in zip(model.encoder.parameters(), kept.encoder.parameters())), 'it is trained'
    assert paint(load_model(tmp_path/'run'), draw_landscape(3, 48).segmap, style=draw_landscape(5, 40).photo).shape == (32, 32, 3)

def test_a_checkpoint_without_encoder_gets_a_fresh_one(scenes):
    dls = PairedDataLoaders.from_folder(scenes, size=64, bs=4)
    gen = SPADEGenerator(dls.n_classes, 2, nhidden=4, z_dim=5, size=64)
    gen.labels = dls.labels
    learn = spade_learner(dls, pretrained=gen, perceptual=None)
    assert isinstance(learn.model.encoder, StyleEncoder) and learn.model.encoder.z_dim == 5

@pytest.mark.parametrize('which, size, kw, words', [(0, 128, {}, 'paints 32x32 only, but the data come as 128x128: choose its size or 64x64'),
    (0, 32, dict(z_dim=8), 'checkpoint has z_dim=4'), (1, 32, dict(z_dim=8), 'checkpoint has z_dim=None')], ids=str)
def test_pretrained_refused(runs, scenes, which, size, kw, words):
    dls = PairedDataLoaders.from_folder(scenes, size=size, bs=4)
    with pytest.raises(InputError, match=words): spade_learner(dls, pretrained=runs[which], perceptual=None, **kw)

# -- averaged ----------------------------------------------------------------------------------------------------

@pytest.mark.once
@pytest.mark.numeric
def test_the_encoder_is_averaged(scenes, tmp_path):
    "While painting the generator has an averaged encoder of its own; the one that is trained stays as it is"
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    make = lambda: spade_learner(dls, 'cpu', ngf=4, nhidden=8, ndf=4, z_dim=4, perceptual=None, average=.9, lr=3e-3, path=tmp_path)
    learn, photo = make(), draw_landscape(5, 40).photo
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    enc, shadow = learn.model.encoder, learn.model_average.shadow
    live = copy.deepcopy({k: v.detach() for k, v in enc.state_dict().items()})
    with learn.painting() as gen:
        assert gen.encoder is not enc and not gen.encoder.training
        for k, v in gen.encoder.named_parameters():
            assert torch.equal(v, shadow[f'encoder.{k}']) and (v != live[k]).any(), k
        with torch.no_grad(): averaged = gen.encoder(torch.from_numpy(photo).permute(2, 0, 1)[None]/127.5 - 1)
    for k, v in enc.state_dict().items(): assert torch.equal(v, live[k]), k
    torch.testing.assert_close(encode(learn, photo), averaged[0])
    learn.save('kept')
    other = make().load('kept')
    torch.testing.assert_close(encode(other, photo), averaged[0])

def test_an_average_from_before_loads(scenes, tmp_path):
    "Checkpoints written before encoders were averaged hold the generator's average alone"
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    learn = spade_learner(dls, 'cpu', ngf=4, nhidden=8, ndf=4, z_dim=4, perceptual=None, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    sd = learn.model_average.state_dict()
    old = dict(t=sd['t'], **{part: {k: v for k, v in sd[part].items() if k[:8] != 'encoder.'} for part in ('shadow', 'buffers')})
    learn.model_average.load_state_dict(old)
    learn.predict(draw_landscape(3, 32).segmap, seed=0)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)

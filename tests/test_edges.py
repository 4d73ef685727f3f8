"""Instance edges through everything: files, training, samples, painting, the doctor, with drawn scenes and with COCO-Stuff."""
import contextlib, io, shutil
from pathlib import Path
import numpy as np, pytest, torch
from fastai.vision.all import Callback, plt, set_seed
from PIL import Image
from conftest import shared_path
from gaugan_fastai.cli import main
from gaugan_fastai.core import InputError, instance_edges, resize_map
from gaugan_fastai.data.landscapes import landscape_labels, write_landscapes
from gaugan_fastai.data.layouts import coco_stuff_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import paint_size
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.runs import load_model, paint

tiny = ['--size', '32', '--preset', 'cpu', '--ngf', '4', '--nhidden', '8', '--perceptual', 'none', '--epochs', 1]

def gaugan(*args):
    "Exit code, stdout, stderr of a command"
    with contextlib.redirect_stdout(io.StringIO()) as o, contextlib.redirect_stderr(io.StringIO()) as e:
        try: code = main(args)
        except SystemExit as exc: code = exc.code
    assert 'Traceback' not in e.getvalue()
    return code, o.getvalue(), e.getvalue()

def save(ids, fn):
    fn.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(fn)

def read(fn): return np.asarray(Image.open(fn))

def halves(ids):
    "Instances: every class, and its left and right part apart"
    return (ids + 1 + 40*(np.arange(ids.shape[1]) >= ids.shape[1]//2)).astype(np.uint8)

@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    "Drawn scenes with instance maps; not to be changed"
    path = write_landscapes(tmp_path_factory.mktemp('data')/'scenes', n_train=52, n_val=4, size=48, seed=0)
    for fn in path.glob('*/labels/*.png'): save(halves(read(fn)), fn.parent.with_name('instances')/fn.name)
    return path

@pytest.fixture
def copy(scenes, tmp_path): return shutil.copytree(scenes, tmp_path/'scenes')

@pytest.fixture(scope='module')
def run(scenes):
    "A run with edges, of one epoch"
    code, out, err = gaugan('train', scenes, '--out', scenes.parent/'run', '--edges', *tiny)
    assert code == 0 and '--instances FOLDER' in out, err
    return scenes.parent/'run'

@pytest.fixture(scope='module')
def plain_run(scenes):
    code, _, err = gaugan('train', scenes, '--out', scenes.parent/'plain', *tiny)
    assert code == 0, err
    return scenes.parent/'plain'

@pytest.fixture(scope='module')
def learn(scenes):
    "An untrained learner whose random weights are made loud, so that inputs show in the picture"
    dls = PairedDataLoaders.from_folder(scenes, size=(32, 64), bs=4, edges=True, seed=0)
    set_seed(0)
    learn = spade_learner(dls, preset='cpu', ngf=4, nhidden=8, perceptual=None)
    for p in learn.model.generator.parameters(): p.data.mul_(20)
    return learn

# -- data, networks, learner -------------------------------------------------------------------------------------

def test_edges_come_from_the_instances(scenes):
    dls = PairedDataLoaders.from_folder(scenes, size=48, bs=4, edges=True, flip=0)
    seg, edges, photo = dls.valid.one_batch()
    assert dls.edges and (edges.dtype, tuple(edges.shape)) == (torch.bool, (4, 48, 48)) and photo.shape[1] == 3
    want = [instance_edges(torch.from_numpy(read(o).astype(np.int64))) for o in sorted((scenes/'val/instances').iterdir())]
    assert torch.equal(edges.as_subclass(torch.Tensor), torch.stack(want))
    assert (edges & ~instance_edges(seg)).any(), 'they tell more than the label map'

@pytest.mark.numeric
def test_both_networks_read_the_edges(learn):
    seg, edges, photo = [o.as_subclass(torch.Tensor) for o in learn.dls.valid.one_batch()]
    gen, critic = learn.model.generator.eval(), learn.model.critic.eval()
    assert gen.edges and critic.edges
    with torch.no_grad():
        assert (gen(seg, edges) - gen(seg, ~edges)).abs().max() > 1e-3
        a, b = critic(seg, photo, edges), critic(seg, photo, ~edges)
        assert all((x[-1] - y[-1]).abs().max() > 1e-6 for x, y in zip(a, b))
    for net, args in ((gen, (seg,)), (critic, (seg, photo))):
        with pytest.raises(InputError, match='edges'): net(*args)

class Gradients(Callback):
    "How often an edge channel got a gradient that is not 0"
    def __init__(self): self.seen = dict(generator=0, critic=0)
    def before_step(self):
        m, n = self.learn.model, self.learn.dls.n_classes
        layer = m.generator.up_3.norm_0.mlp_shared[0] if self.opt.turn == 'generator' else m.critic.discriminator_0.model0[0]
        self.seen[self.opt.turn] += bool(layer.weight.grad[:, n].abs().sum() > 0)

def test_training_moves_the_edge_channel(scenes):
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=26, edges=True, seed=0)
    learn = spade_learner(dls, preset='cpu', ngf=4, nhidden=8, perceptual=None, cbs=(cb := Gradients()))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert cb.seen == dict(generator=2, critic=2)

@pytest.mark.numeric
def test_predict_takes_instances_or_their_edges(learn, scenes):
    m, i = scenes/'val/labels/00052.png', scenes/'val/instances/00052.png'
    by_file, by_array = learn.predict(m, instances=i), learn.predict(m, instances=read(i))
    assert by_file.size == (64, 64) and by_file.tobytes() == by_array.tobytes()
    assert by_file.tobytes() != learn.predict(m, instances=read(m)).tobytes(), 'edges change the picture'
    own = learn.predict(m, size=32, edges=instance_edges(torch.from_numpy(read(i).astype(np.int64))))
    assert own.size == (32, 32)
    big = resize_map(torch.from_numpy(read(i).astype(np.int64)), (64, 64))
    assert learn.predict(resize_map(torch.from_numpy(read(m).astype(np.int64)), (64, 64)), size=None,
        edges=instance_edges(big)).tobytes() == by_file.tobytes(), 'instances are scaled first, then become edges'

@pytest.mark.parametrize('kwargs, words', [({}, 'pass instances='), (dict(instances=np.zeros((9, 9), np.uint8)), '9x9'),
    (dict(instances='none.png'), 'none.png does not exist'), (dict(edges=np.zeros((48, 48), bool), instances=np.zeros((48, 48), np.uint8)), 'one of them')],
    ids=['missing', 'size', 'no file', 'both'])
def test_predict_refuses(learn, kwargs, words):
    with pytest.raises(InputError, match=words): learn.predict(np.zeros((48, 48), np.uint8), **kwargs)

def test_a_model_without_edges_refuses_them(scenes):
    learn = spade_learner(PairedDataLoaders.from_folder(scenes, size=32, bs=4), preset='cpu', ngf=4, nhidden=8, perceptual=None)
    with pytest.raises(InputError, match='without instance edges'): learn.predict(np.zeros((48, 48), np.uint8), instances=np.zeros((48, 48), np.uint8))

def test_edges_are_shown(learn):
    learn.dls.show_batch(max_n=2)
    assert [ax.get_title() for ax in plt.gcf().axes[:3]] == ['label', 'edges', 'photo']
    ax = learn.show_results(max_n=2)
    shown, (_, edges, _) = ax.images[0].get_array(), learn.dls.valid.one_batch()
    assert ax.get_title() == 'label | edges | fake | real' and shown.shape[:2] == (2*36, 4*68)
    assert np.array_equal(shown[2:34, 70:134, 0], 255*edges[0].numpy().astype(np.uint8))
    plt.close('all')

def test_edges_travel_with_an_exported_learner(learn, scenes, tmp_path):
    from fastai.vision.all import load_learner
    learn.path = tmp_path
    learn.export()
    again, (m, i) = load_learner(tmp_path/'export.pkl'), (scenes/f'val/{o}/00053.png' for o in ('labels', 'instances'))
    assert again.dls.edges and again.predict(m, instances=i).tobytes() == learn.predict(m, instances=i).tobytes()

# -- gaugan train, generate --------------------------------------------------------------------------------------

def test_a_run_shows_and_keeps_edges(run):
    grid = Image.open(run/'samples/epoch_001.png')
    assert grid.size == (4*36, 4*36), 'label | edges | fake | real'
    assert load_model(run).edges

def test_generate_with_instances(run, scenes, tmp_path):
    code, out, err = gaugan('generate', run, scenes/'val/labels', '--instances', scenes/'val/instances', '--out', tmp_path/'a')
    assert code == 0 and out.startswith('4 of 4'), err
    model, m = load_model(run), read(scenes/'val/labels/00052.png')
    assert np.array_equal(read(tmp_path/'a/00052.png'), paint(model, m, instances=scenes/'val/instances/00052.png'))
    code, out, err = gaugan('generate', run, scenes/'val/labels/00052.png', '--instances', scenes/'val/instances/00052.png', '--out', tmp_path/'b')
    assert code == 0 and (tmp_path/'b/00052.png').read_bytes() == (tmp_path/'a/00052.png').read_bytes(), err

def test_generate_paints_what_predict_paints(run, scenes):
    from gaugan_fastai.pretrained import from_pretrained
    gen = from_pretrained(run/'model')
    m, i = (torch.from_numpy(read(scenes/f'val/{o}/00052.png').astype(np.int64)) for o in ('labels', 'instances'))
    size = paint_size(m.shape, (32, 32), 32)
    with torch.no_grad(): want = gen(resize_map(m, size)[None], instance_edges(resize_map(i, size))[None])[0]
    got = paint(load_model(run), m, instances=i.numpy())
    assert abs((want + 1)*127.5 - torch.from_numpy(got).movedim(-1, 0)).max() < 1.01

def test_generate_refuses_what_does_not_fit(run, plain_run, scenes, tmp_path):
    go = lambda *args: gaugan('generate', *args, '--out', tmp_path/'out')
    maps, insts = scenes/'val/labels', scenes/'val/instances'
    for args, words in [((run, maps), '--instances'), ((plain_run, maps, '--instances', insts), 'without instance edges'),
            ((run, maps, '--instances', tmp_path/'none'), 'does not exist'), ((run, maps, '--instances', insts/'00052.png'), 'give a folder')]:
        code, out, err = go(*args)
        assert code == 1 and not out and words in err and len(err.splitlines()) == 1, err
    assert not (tmp_path/'out').exists()

def test_generate_goes_on_after_a_bad_instance_map(run, copy, tmp_path):
    insts = copy/'val/instances'
    (insts/'00052.png').unlink()
    save(np.zeros((20, 20), np.uint8), insts/'00053.png')
    (insts/'00054.png').write_bytes(b'')
    code, out, err = gaugan('generate', run, copy/'val/labels', '--instances', insts, '--out', tmp_path/'out')
    assert code == 1 and out.startswith('1 of 4'), err
    for words in ('00052.png has no instance map', '20x20', '00054.png cannot be decoded'): assert words in err

@pytest.mark.parametrize('change', [lambda a: a + 100, lambda a: ((a > 3)*255).astype(np.uint8), lambda a: np.stack([a]*3, -1)], ids=['ids', 'mask', 'rgb'])
def test_cures_of_generate_are_cures_of_generate(plain_run, copy, tmp_path, change):
    "It has no --decode, --void or codes.txt: the card says how files are read"
    fn = copy/'val/labels/00052.png'
    save(change(read(fn)), fn)
    code, _, err = gaugan('generate', plain_run, fn, '--out', tmp_path/'out')
    assert code == 1 and '00052.png' in err and 'model.json' in err and f'{landscape_labels().n_classes-1}' in err
    assert not [o for o in ('decode', 'void', 'palette=', 'codes.txt') if o in err], err

# -- doctor ------------------------------------------------------------------------------------------------------

def shared_numbers(d, fn): save((read(fn.parent.with_name('labels')/fn.name)//4 + 1).astype(np.uint8), fn)

faults = dict(
    partner=(lambda d, fn: fn.unlink(), 'has no instance map of the same name', 'add it'),
    size=(lambda d, fn: save(read(fn)[:40], fn), 'instance map and label map differ in size', 'nearest'),
    straddle=(shared_numbers, 'instance ids that lie on several classes', 'a number of its own'),
    other=(lambda d, fn: shutil.copy(fn.with_name('00009.png'), fn), 'instance ids that lie on several classes', 'belongs to this photo'),
    jpeg=(lambda d, fn: (Image.open(fn).save(fn.with_suffix('.jpg')), fn.unlink()), 'instance map is a JPEG', 'PNG'),
    rgba=(lambda d, fn: Image.open(fn).convert('RGBA').save(fn), 'instance map has mode RGBA', 'one grey id'),
    broken=(lambda d, fn: fn.write_bytes(fn.read_bytes()[:50]), 'instance map cannot be decoded', 'replace it'))

@pytest.mark.parametrize('name', faults)
def test_doctor_finds(name, copy):
    plant, what, cure = faults[name]
    plant(copy, copy/'train/instances/00007.png')
    code, out, _ = gaugan('doctor', copy)
    problems = out.split('PROBLEM ')[1:]
    assert code == 1 and len(problems) == 1, out
    assert what in problems[0] and '00007' in problems[0] and cure in problems[0].split('cure:')[1]

def test_doctor_is_content(scenes):
    code, out, _ = gaugan('doctor', scenes)
    assert code == 0 and '0 problems, ' in out and '56 instance maps' in out and 'instance' not in out.split('56 instance maps', 1)[1].split('note', 1)[-1]

def every(d, f):
    for fn in d.glob('*/instances/*'): save(f(read(fn)).astype(np.uint8), fn)

def test_doctor_sees_when_all_are_empty(copy):
    every(copy, lambda a: a*0)
    code, out, _ = gaugan('doctor', copy)
    assert code == 1 and 'every instance map holds one number only' in out

def test_doctor_notes_one_that_is_empty(copy):
    save(np.zeros((48, 48), np.uint8), copy/'train/instances/00007.png')
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and '1 of 56 instance maps hold one number only' in out

def test_doctor_notes_instances_that_are_classes(copy):
    for fn in copy.glob('*/labels/*.png'): shutil.copy(fn, fn.parent.with_name('instances'))
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and 'they tell nothing new' in out

def test_doctor_notes_a_split_without_instances_and_files_too_many(copy):
    shutil.rmtree(copy/'val/instances')
    shutil.copy(copy/'train/instances/00000.png', copy/'train/instances/more.png')
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and 'train has instance maps, val has none' in out and 'instance map without a photo' in out

def test_doctor_says_that_there_is_no_val(copy):
    shutil.move(copy/'val', copy/'test')
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and 'no folder val' in out and '--valid' in out
    assert 'no folder train' not in out
    assert gaugan('train', copy, '--out', copy/'run', *tiny)[0] == 1, 'and train does refuse it'

def test_colours_are_numbers_too(scenes, copy):
    for fn in copy.glob('*/instances/*'): Image.fromarray(np.stack([read(fn)*2, read(fn), 255-read(fn)], -1)).save(fn)
    batch = [PairedDataLoaders.from_folder(d, size=48, bs=4, edges=True).valid.one_batch()[1] for d in (scenes, copy)]
    assert torch.equal(*batch)
    assert gaugan('doctor', copy)[0] == 0

# -- real photos -------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    "The COCO-Stuff samples in the folder layout"
    src, d = shared_path('data/coco_stuff_sample'), tmp_path_factory.mktemp('coco')
    for split in ('train', 'val'):
        (d/split).mkdir()
        for a, b in dict(img='images', label='labels', inst='instances').items(): (d/split/b).symlink_to(src/f'{split}_{a}')
    (d/'codes.txt').write_text('\n'.join(coco_stuff_labels().codes[:182]))
    return d

def test_doctor_is_content_with_coco(coco):
    code, out, _ = gaugan('doctor', coco, '--void', 255)
    assert code == 0 and '21 instance maps' in out, out

def test_coco_is_trained_and_painted_with_edges(coco, tmp_path):
    code, out, err = gaugan('train', coco, '--void', 255, '--out', tmp_path/'run', '--edges', *tiny)
    assert code == 0 and '13 pairs to train, 8 to validate, 183 classes' in out, err
    code, out, err = gaugan('generate', tmp_path/'run', coco/'val/labels', '--instances', coco/'val/instances', '--out', tmp_path/'out')
    assert code == 0 and out.startswith('8 of 8'), err
    assert len({o.read_bytes() for o in (tmp_path/'out').iterdir()}) == 8
    code, _, err = gaugan('generate', tmp_path/'run', coco/'val/labels', '--out', tmp_path/'none')
    assert code == 1 and '--instances' in err

"""The command line as a process: exit codes, one sentence for bad input, runs that are stopped and go on."""
import contextlib, io, json, shutil, signal, subprocess, sys, time
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from conftest import ROOT, shared_path
from gaugan_fastai.cli import main
from gaugan_fastai.data.landscapes import landscape_labels, write_landscapes

GAUGAN = Path(sys.executable).with_name('gaugan')
N = landscape_labels().n_classes
small = ['--size', '32', '--bs', '4', '--preset', 'cpu', '--ngf', '4', '--nhidden', '8', '--perceptual', 'none']

def gaugan(*args):
    "Exit code, stdout, stderr of a command, in this process"
    with contextlib.redirect_stdout(io.StringIO()) as o, contextlib.redirect_stderr(io.StringIO()) as e:
        try: code = main(args)
        except SystemExit as exc: code = exc.code
    return code, o.getvalue(), e.getvalue()

def process(*args, cwd=None):
    "The same of the installed command, in a process of its own"
    res = subprocess.run([GAUGAN, *map(str, args)], capture_output=True, text=True, cwd=cwd)
    return res.returncode, res.stdout, res.stderr

def refused(*args, run=gaugan, **kwargs):
    "The one sentence in which bad input is refused"
    code, _, err = run(*args, **kwargs)
    assert code == 1 and 'Traceback' not in err, err
    lines = [o for o in err.splitlines() if o.startswith('gaugan ')]
    assert len(lines) == 1 and err.splitlines()[-1] == lines[0], err
    return lines[0]

@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    "A healthy data set of drawn scenes; not to be changed"
    return write_landscapes(tmp_path_factory.mktemp('data')/'scenes', n_train=52, n_val=4, size=48, seed=0)

@pytest.fixture
def copy(scenes, tmp_path): return shutil.copytree(scenes, tmp_path/'scenes')

@pytest.fixture(scope='module')
def run(scenes):
    "A run of one epoch"
    out = scenes.parent/'run'
    code, words, err = gaugan('train', scenes, '--out', out, '--epochs', 1, *small)
    assert code == 0, err
    return out

# -- help and usage ----------------------------------------------------------------------------------------------

def test_help_needs_no_torch():
    code = "import sys, gaugan_fastai.cli as c; sys.exit('torch' in sys.modules or 'fastai' in sys.modules)"
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0

def test_help():
    code, out, _ = process('--help')
    assert code == 0 and all(o in out for o in ('demo', 'train', 'generate', 'doctor'))
    for cmd, words in dict(demo='--minutes', train='--resume', generate='--out', doctor='--void').items():
        code, out, err = gaugan(cmd, '--help')
        assert code == 0 and words in out and not err

@pytest.mark.parametrize('args', [[], ['paint-it'], ['train'], ['generate', 'x'], ['demo', '--size', '0'], ['train', 'x', '--minutes', 'nan'],
    ['train', 'x', '--epochs', '1.5'], ['doctor', 'x', '--decode', 'rgb'], ['demo', '--no-such-option']], ids=' '.join)
def test_usage(args):
    code, _, err = gaugan(*args)
    assert code == 2 and 'usage' in err and 'Traceback' not in err

@pytest.mark.parametrize('make', [lambda d: d.mkdir(), lambda d: (d/'train/images').mkdir(parents=True), lambda d: None],
    ids=['empty', 'half', 'missing'])
def test_train_on_a_wrong_folder_says_what_it_wants_and_who_helps(make, tmp_path):
    make(tmp_path/'data')
    code, out, err = gaugan('train', tmp_path/'data', '--out', tmp_path/'run')
    assert code == 1 and not out and err.count('\n') == 1 and str(tmp_path/'data') in err
    assert 'codes.txt and train/images, train/labels, val/images, val/labels' in err and 'gaugan doctor' in err
    (tmp_path/'photos').mkdir()
    _, _, err = gaugan('train', '--model', 'cyclegan', tmp_path/'photos', tmp_path/'photos')
    assert 'a folder of photos of kind A, and one of kind B' in err and 'doctor' not in err
    _, _, err = gaugan('train', ROOT/'data/landscapes', '--void', 'ghost', '--out', tmp_path/'run')
    assert '--void' in err and 'doctor' not in err        # an option is to blame, not the folder

def test_importing_says_nothing_and_leaves_the_filters_alone():
    code = """import warnings, gaugan_fastai
warnings.simplefilter('always', FutureWarning)
from gaugan_fastai.all import *
warnings.warn('mine', FutureWarning)"""
    found = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert found.returncode == 0 and found.stderr.count('FutureWarning') == 1 and 'mine' in found.stderr, found.stderr

# -- doctor ------------------------------------------------------------------------------------------------------

def change(fn, f):
    "Replace a label map, uint8 in, array out"
    Image.fromarray(f(np.asarray(Image.open(fn)))).save(fn)

def resized(a, n):
    return np.asarray(Image.fromarray(a).resize((n, n), Image.BILINEAR).resize(a.shape[::-1], Image.BILINEAR))

faults = dict(
    void_255=(lambda d, m, p: change(m, lambda a: np.where(a == 0, 255, a).astype(np.uint8)), 'no class: 255', '--void 255'),
    from_one=(lambda d, m, p: change(m, lambda a: (a*0 + np.arange(a.shape[1])%N + 1).astype(np.uint8)), f'no class: {N}', 'start at 1'),
    mask=(lambda d, m, p: change(m, lambda a: ((a > 3)*255).astype(np.uint8)), 'no class: 255', '0/255 mask'),
    sixteen_bit=(lambda d, m, p: change(m, lambda a: a.astype(np.uint16)*257), 'no class', 'divide them by 257'),
    smooth=(lambda d, m, p: change(m, lambda a: resized(a, 31)), 'seams of in-between ids', 'nearest'),
    many_ids=(lambda d, m, p: change(m, lambda a: resized((a*13).astype(np.uint8), 31)), 'no class', 'smooth resize'),
    rgb=(lambda d, m, p: Image.open(m).convert('RGB').save(m), 'colour picture', 'palette.txt'),
    palette_png=(lambda d, m, p: Image.open(m).convert('P').save(m), 'palette PNG', '--decode index'),
    jpeg=(lambda d, m, p: (Image.open(m).save(m.with_suffix('.jpg')), m.unlink()), 'JPEG', 'PNG'),
    cut_off_map=(lambda d, m, p: m.write_bytes(m.read_bytes()[:60]), 'label map cannot be decoded', 'replace it'),
    cut_off_photo=(lambda d, m, p: p.write_bytes(p.read_bytes()[:200]), 'photo cannot be decoded', 'replace it'),
    no_photo=(lambda d, m, p: p.unlink(), 'has no photo of the same name', 'add the photo'),
    no_map=(lambda d, m, p: m.unlink(), 'has no label map of the same name', 'add the label map'),
    two_photos=(lambda d, m, p: shutil.copy(p, p.with_suffix('.png')), 'same stem', 'keep one'),
    other_size=(lambda d, m, p: Image.open(p).crop((0, 0, 40, 30)).save(p), 'differ in size', 'one size'),
    leak=(lambda d, m, p: shutil.copy(p, d/'val/images'/f'{52:05d}.jpg'), 'photo lies in train too', 'take it out'),
    no_codes=(lambda d, m, p: (d/'codes.txt').unlink(), 'is missing', 'one class name a line'),
    double_code=(lambda d, m, p: (d/'codes.txt').write_text('sky\nsky\n'), 'twice', 'must differ'))

@pytest.mark.parametrize('name', faults)
def test_doctor_finds(name, copy):
    plant, what, cure = faults[name]
    plant(copy, copy/'train/labels/00007.png', copy/'train/images/00007.jpg')
    code, out, _ = gaugan('doctor', copy)
    problems = out.split('PROBLEM ')[1:]
    assert code == 1
    assert any(what in o and cure in o.split('cure:')[1] for o in problems), problems
    if name not in ('no_codes', 'double_code'): assert len(problems) == 1, problems

def test_doctor_is_content_with_drawn_scenes(scenes):
    code, out, err = gaugan('doctor', scenes)
    assert code == 0 and '0 problems' in out and 'train 52, val 4' in out, out + err
    code, out, _ = gaugan('doctor', scenes, '--void', 'sky')
    assert code == 0 and 'void' in out

def test_doctor_notes(copy):
    for o in sorted((copy/'train/labels').iterdir()): change(o, lambda a: np.minimum(a, 3))
    code, out, _ = gaugan('doctor', copy)
    assert code == 0 and 'note' in out and 'no pixel in train: mountain' in out

def test_doctor_needs_something_to_look_at(tmp_path):
    assert 'not a folder' in refused('doctor', tmp_path/'none', run=process)
    assert 'holds no split' in refused('doctor', tmp_path)

def test_doctor_on_real_photos(tmp_path):
    data = shared_path('data/camvid')
    (tmp_path/'train').symlink_to(data/'val')
    shutil.copy(data/'codes.txt', tmp_path)
    code, out, err = gaugan('doctor', tmp_path)
    assert code == 0 and 'Void' in out and '101 maps' in out, out + err

# -- train, generate ---------------------------------------------------------------------------------------------

def test_train_leaves_a_run(run):
    assert {'run.json', 'progress.json', 'last.pth', 'history.csv', 'samples', 'model'} <= {o.name for o in run.iterdir()}
    assert len((run/'history.csv').read_text().splitlines()) == 2
    assert json.loads((run/'model/model.json').read_text())['size'] == [32, 32]

def test_train_refuses(run, scenes, tmp_path):
    assert 'go on with --resume' in refused('train', scenes, '--out', run, '--epochs', 2, *small)
    assert 'was started with ngf=4, not 8' in refused('train', scenes, '--out', run, '--epochs', 2, '--resume', *small, '--ngf', 8)
    assert 'holds no run' in refused('train', scenes, '--out', tmp_path/'none', '--resume', *small)
    assert 'does not exist' in refused('train', tmp_path/'none')
    assert 'missing' in refused('train', tmp_path)

def test_train_is_stopped_and_goes_on(scenes, tmp_path):
    args = [GAUGAN, 'train', scenes, '--out', tmp_path/'run', '--minutes', '60', *small]
    p = subprocess.Popen([str(o) for o in args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    end = time.time() + 400
    while time.time() < end and p.poll() is None and not (tmp_path/'run/history.csv').exists(): time.sleep(.3)
    p.send_signal(signal.SIGTERM)
    _, err = p.communicate(timeout=240)
    assert p.returncode == 1 and 'gaugan train: stopped' in err and 'Traceback' not in err, err
    done = json.loads((tmp_path/'run/progress.json').read_text())
    assert done['epochs'] >= 1 and (tmp_path/'run/model/model.safetensors').exists()
    code, out, err = gaugan('train', scenes, '--out', tmp_path/'run', '--epochs', done['epochs'] + 1, '--resume', *small)
    assert code == 0, err
    assert json.loads((tmp_path/'run/progress.json').read_text())['epochs'] == done['epochs'] + 1

def test_generate(run, scenes, tmp_path):
    maps = shutil.copytree(scenes/'val/labels', tmp_path/'maps')
    code, out, err = gaugan('generate', run, maps, '--out', tmp_path/'a')
    assert code == 0 and out.startswith('4 of 4 maps painted'), err
    assert {Image.open(o).size for o in (tmp_path/'a').iterdir()} == {(32, 32)}
    first, second = sorted(maps.iterdir())[:2]
    change(first, lambda a: a + 100)
    second.write_bytes(b'')
    code, out, err = gaugan('generate', run/'model', maps, '--out', tmp_path/'b', '--size', '64x96')
    assert code == 1 and out.startswith('2 of 4 maps painted')
    assert first.name in err and second.name in err and 'Traceback' not in err
    assert {o.name: Image.open(o).size for o in (tmp_path/'b').iterdir()} == {o.name: (96, 64) for o in sorted(maps.iterdir())[2:]}

def test_generate_refuses(run, scenes, tmp_path):
    assert 'model.json' in refused('generate', tmp_path, scenes/'val/labels')
    assert 'does not exist' in refused('generate', run, tmp_path/'none')
    (tmp_path/'empty').mkdir()
    (tmp_path/'empty/notes.txt').write_text('no picture')
    assert 'holds no picture' in refused('generate', run, tmp_path/'empty')
    (tmp_path/'file').write_text('in the way')
    assert 'is a file' in refused('generate', run, scenes/'val/labels', '--out', tmp_path/'file')
    (tmp_path/'killed').mkdir()
    shutil.copy(run/'run.json', tmp_path/'killed')
    assert '--resume' in refused('generate', tmp_path/'killed', scenes/'val/labels')
    code, out, err = gaugan('generate', run, scenes/'val/labels', '--out', tmp_path/'c', '--size', '33')
    assert code == 1 and out.startswith('0 of 4') and 'multiples of 32' in err

def test_generate_does_not_paint_over_its_maps(run, scenes, tmp_path):
    maps = shutil.copytree(scenes/'val/labels', tmp_path/'maps')
    before = {o.name: o.read_bytes() for o in maps.iterdir()}
    assert 'is a label map itself' in refused('generate', run, maps, '--out', maps)
    assert {o.name: o.read_bytes() for o in maps.iterdir()} == before

def test_a_typo_leaves_the_folder_free(scenes, tmp_path):
    typos = ((['--size', '40x64'], 'multiples of 32'), (['--preset', 'huge'], "preset is 'huge'"), (['--perceptual', 'resnet'], 'resnet'),
        (['--ngf', '4', '--minutes', '1'], 'two budgets'), (['--workers', '-1'], '0 or more'))
    for args, words in typos: assert words in refused('train', scenes, '--out', tmp_path/'run', '--epochs', 1, *small, *args)
    code, _, err = gaugan('train', scenes, '--out', tmp_path/'run', '--epochs', 1, *small)
    assert code == 0, err

def test_train_says_when_out_is_a_file(scenes, tmp_path):
    (tmp_path/'file').write_text('in the way')
    assert 'is a file' in refused('train', scenes, '--out', tmp_path/'file', '--epochs', 1, *small)

def test_doctor_says_one_thing_about_bad_codes(copy):
    code, out, _ = gaugan('doctor', copy, '--void', 'nothing')
    assert code == 1 and out.count('PROBLEM') == 1 and 'drop the class' not in out, out

# -- convert -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    "Checkpoints with random weights as SPADE's authors save theirs: a generator, one with edges and z, an encoder"
    import torch
    from gaugan_fastai.encoder import StyleEncoder
    from gaugan_fastai.models.spade import SPADEGenerator
    folder = tmp_path_factory.mktemp('checkpoints')
    torch.manual_seed(0)
    plain, styled = SPADEGenerator(N, 2, nhidden=4), SPADEGenerator(N, 2, True, 6, size=(64, 128), nhidden=4)
    for name, net in dict(plain=plain, styled=styled, encoder=StyleEncoder(2, 6, 32)).items():
        torch.save({f'module.{k}': v for k, v in net.state_dict().items()}, folder/f'{name}.pth')
    (folder/'codes.txt').write_text('\n'.join(landscape_labels().codes), encoding='utf-8')
    return folder, plain.eval()

def test_converted_paints_the_same(checkpoints, tmp_path):
    import torch
    from gaugan_fastai.learner import to_u8
    folder, gen = checkpoints
    code, words, err = gaugan('convert', folder/'plain.pth', '--out', tmp_path/'mine', '--codes', folder/'codes.txt', '--licence', 'toy')
    assert code == 0 and 'SPADEGenerator' in words and json.loads((tmp_path/'mine/model.json').read_text())['licence'] == 'toy', err
    ids = np.asarray(draw_ids(64))
    Image.fromarray(ids).save(tmp_path/'map.png')
    code, _, err = gaugan('generate', tmp_path/'mine', tmp_path/'map.png', '--out', tmp_path/'painted', '--size', '64')
    assert code == 0, err
    with torch.no_grad(): want = to_u8(gen(torch.from_numpy(ids).long()[None]))[0]
    assert abs(np.asarray(Image.open(tmp_path/'painted/map.png')).astype(int) - want).max() <= 1

def draw_ids(size):
    from gaugan_fastai.data.landscapes import draw_landscape
    return draw_landscape(3, size).segmap

def test_convert_with_styles(checkpoints, tmp_path):
    from gaugan_fastai.pretrained import from_pretrained
    folder, _ = checkpoints
    code, words, err = gaugan('convert', folder/'styled.pth', '--out', tmp_path/'s', '--edges', '--aspect', '2', '--encoder', folder/'encoder.pth')
    assert code == 0 and '--codes' in words, err
    model = from_pretrained(tmp_path/'s')
    assert (model.size, model.z_dim, model.edges, model.encoder.z_dim, model.labels) == ((64, 128), 6, True, 6, None)

def test_convert_published_fixture(tmp_path):
    import torch
    from gaugan_fastai.pretrained import from_pretrained
    from reference_cases import TOL, gap, generator_case, inputs
    path = shared_path('reference', 'spade', 'base', 'latest_net_G.pth')
    assert gaugan('convert', path, '--out', tmp_path/'g')[0] == 0
    _, tensors, _ = generator_case('base/square64')
    with torch.no_grad(): assert gap(from_pretrained(tmp_path/'g')(**inputs(tensors)), tensors['out_eval']) < TOL

class Evil:
    def __reduce__(self): return print, ('code in the file was run!',)

def test_convert_refuses(checkpoints, tmp_path):
    import torch
    folder, _ = checkpoints
    torch.save({'fc.weight': Evil()}, tmp_path/'evil.pth')
    out = ('--out', tmp_path/'x')
    assert 'was refused' in refused('convert', tmp_path/'evil.pth', *out)
    assert 'there is no checkpoint' in refused('convert', tmp_path/'none.pth', *out)
    assert 'edge channel (--edges) does not count' in refused('convert', folder/'plain.pth', *out, '--edges', '--codes', folder/'codes.txt')
    assert '--aspect' in refused('convert', folder/'styled.pth', *out, '--edges', '--aspect', '3')
    assert 'ade20k, coco-stuff, cityscapes' in refused('convert', folder/'plain.pth', *out, '--codes', 'mars')
    assert '151 codes' in refused('convert', folder/'plain.pth', *out, '--codes', 'ade20k')
    assert "'most'" in refused('convert', folder/'plain.pth', *out, '--upsampling', 'most')
    assert '--family sean' in refused('convert', folder/'plain.pth', *out, '--family', 'sean')
    assert 'no classes' in refused('convert', folder/'encoder.pth', *out, '--codes', folder/'codes.txt')
    assert 'same z_dim' in refused('convert', folder/'plain.pth', *out, '--encoder', folder/'encoder.pth')
    assert not (tmp_path/'x').exists()
    (tmp_path/'x').mkdir()
    assert 'exists' in refused('convert', folder/'plain.pth', *out)
    assert gaugan('convert')[0] == 2

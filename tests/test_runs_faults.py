"""What must not break a run: killed, interrupted twice, a full disk, two writers, damaged files, numbers that are none."""
import contextlib, io, json, multiprocessing, os, re, resource, shutil, signal, subprocess, sys, time
from pathlib import Path
import numpy as np, pytest, torch
from fastai.vision.all import Callback, CancelFitException
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from test_cli import GAUGAN, gaugan, refused, small
from gaugan_fastai import cli, keeping, painter, pretrained
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels, write_landscapes
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.keeping import Interrupts
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.pictures import to_u8
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.runs import Run, load_model, paint

tiny = dict(preset='cpu', ngf=4, nhidden=8, perceptual=None)

@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    "Drawn scenes; not to be changed"
    return write_landscapes(tmp_path_factory.mktemp('data')/'scenes', n_train=16, n_val=4, size=48, seed=0)

@pytest.fixture(scope='module')
def kept(scenes):
    "A run of one epoch; not to be changed"
    out = scenes.parent/'run'
    code, _, err = gaugan('train', scenes, '--out', out, '--epochs', 1, *small)
    assert code == 0, err
    return out

@pytest.fixture
def run(kept, tmp_path): return shutil.copytree(kept, tmp_path/'run')

@pytest.fixture
def copy(scenes, tmp_path): return shutil.copytree(scenes, tmp_path/'scenes')

@pytest.fixture(scope='module')
def dls(scenes): return PairedDataLoaders.from_folder(scenes, size=32, bs=4, seed=0)

def resume(scenes, run, *args, epochs=2): return gaugan('train', scenes, '--out', run, '--epochs', epochs, '--resume', *small, *args)
def again(dls, run):
    "The same as an object; nobody trains"
    return Run(dls, run, resume=True, **json_kwargs(run))
def json_kwargs(run):
    "What the command line gave to `Run`"
    return {k: v for k, v in json.loads((run/'run.json').read_text()).items() if k not in ('size', 'classes', 'edges', 'data', 'course')}
def epochs_of(run): return json.loads((run/'progress.json').read_text())['epochs']
def is_whole(run):
    "A checkpoint that can be read, a model that paints, and nothing half written"
    state = torch.load(run/'last.pth', weights_only=True)
    assert len(state['history']) == epochs_of(run) and not list(run.rglob('*.part'))
    assert paint(load_model(run), draw_landscape(3, 32).segmap).shape == (32, 32, 3)

# -- damaged files -----------------------------------------------------------------------------------------------

def cut(b): return b[:len(b)//2]
damages = dict(empty=lambda b: b'', cut=cut, list=lambda b: b'[1, 2]', binary=lambda b: bytes(o ^ 255 for o in b))

@pytest.mark.parametrize('damage', damages)
def test_damaged_checkpoint(dls, run, damage):
    (run/'last.pth').write_bytes(damages[damage]((run/'last.pth').read_bytes()))
    with pytest.raises(InputError, match='last.pth is damaged .*: put a copy of it back, or .* --pretrained'): again(dls, run)

@pytest.mark.parametrize('what', [dict(model=1), dict(history=5), dict(history=[1]), 'a word', dict(opt=None, history=[], model={})], ids=str)
def test_checkpoint_of_another_kind(dls, run, what):
    state = torch.load(run/'last.pth', weights_only=True)
    torch.save({**state, **what} if isinstance(what, dict) else what, run/'last.pth')
    with pytest.raises(InputError, match='last.pth'): again(dls, run)

def test_a_damaged_checkpoint_is_one_sentence_and_its_cure_works(scenes, run, tmp_path):
    whole = (run/'last.pth').read_bytes()
    (run/'last.pth').write_bytes(cut(whole))
    assert 'last.pth is damaged' in refused('train', scenes, '--out', run, '--epochs', 2, '--resume', *small)
    (run/'last.pth').write_bytes(whole)
    assert resume(scenes, run)[0] == 0 and epochs_of(run) == 2

@pytest.mark.parametrize('text', ['', '{"minutes": ', '[1]', '{}', '{"minutes": "many", "epochs": 1}', '{"minutes": NaN}', '{"minutes": -1}', None])
def test_damaged_progress(dls, run, text, capsys):
    if text is None: (run/'progress.json').unlink()
    else: (run/'progress.json').write_text(text)
    assert again(dls, run).done == dict(minutes=0, epochs=1)
    assert 'progress.json is missing or damaged' in capsys.readouterr().out

@pytest.mark.parametrize('damage', damages)
def test_damaged_settings(dls, run, damage, capsys):
    kwargs = json_kwargs(run)
    (run/'run.json').write_bytes(damages[damage]((run/'run.json').read_bytes()))
    with pytest.raises(InputError, match='run.json is .*damaged .*: delete it, then'): Run(dls, run, resume=True, **kwargs)
    (run/'run.json').unlink()   # the cure
    Run(dls, run, resume=True, **kwargs).fit(epochs=2)
    assert 'cannot be compared' in capsys.readouterr().out and json.loads((run/'run.json').read_text())['ngf'] == 4
    is_whole(run)

def test_the_checkpoint_says_how_many_epochs(scenes, run):
    "Killed between the two files, or an older checkpoint put back: they cannot disagree"
    (run/'progress.json').write_text('{"minutes": 0.1, "epochs": 7}')
    assert resume(scenes, run)[0] == 0 and epochs_of(run) == 2

def test_killed_before_the_first_checkpoint(scenes, run, tmp_path):
    for args in (['--resume'], []):
        early = tmp_path/f'early{len(args)}'
        early.mkdir()
        shutil.copy(run/'run.json', early)
        assert '--resume' in refused('generate', early, scenes/'val/labels')
        code, out, err = gaugan('train', scenes, '--out', early, '--epochs', 1, *small, *args)
        assert code == 0 and ('begins anew' in out) == bool(args), err
        is_whole(early)

def test_a_run_whose_model_was_not_written(scenes, run):
    shutil.rmtree(run/'model')
    assert resume(scenes, run, epochs=1)[0] == 0
    is_whole(run)
    assert 'has had its 1 epochs' in resume(scenes, run, epochs=1)[2]

# -- another run -------------------------------------------------------------------------------------------------

def test_a_run_of_0_1_resumes(scenes, run):
    then = json.loads((run/'run.json').read_text())
    for k in ('data', 'course', 'model'): del then[k]
    (run/'run.json').write_text(json.dumps(dict(preset='small', z_dim=None) | then))   # it wrote down what was not asked for, too
    code, out, err = resume(scenes, run)
    assert code == 0 and 'resumed with' not in out, err
    now = json.loads((run/'run.json').read_text())
    assert now['course'] == dict(bs=4, seed=0, lr=2e-4, decay=.5) and now['model'] == 'spade'

def test_other_class_names_are_refused(run, copy):
    names = (copy/'codes.txt').read_text().split('\n')
    names[:2] = names[1::-1]
    (copy/'codes.txt').write_text('\n'.join(names))
    before = (run/'last.pth').read_bytes()
    assert 'other classes (number 0 was sky, now cloud)' in resume(copy, run)[2]
    assert (run/'last.pth').read_bytes() == before

def test_other_data_are_refused(run, tmp_path):
    other = write_landscapes(tmp_path/'other', n_train=20, n_val=4, size=48, seed=5)
    assert re.search(r'other data \(16 pairs in .*scenes\), not 20 pairs in .*other', resume(other, run)[2])

def test_moved_and_grown_data_are_said(run, copy):
    code, out, err = resume(copy, run)
    assert code == 0 and f'resumed with data in {copy.resolve()} (were in' in out, err
    for part, ext in (('images', 'jpg'), ('labels', 'png')): shutil.copy(copy/f'train/{part}/00000.{ext}', copy/f'train/{part}/more.{ext}')
    code, out, err = resume(copy, run, epochs=3)
    assert code == 0 and 'resumed with 17 pairs (were 16)' in out, err

def test_another_course_is_said(scenes, run):
    code, out, err = resume(scenes, run, '--bs', 2, '--seed', 3, '--lr', .001)
    assert code == 0 and 'resumed with bs 2 (was 4), seed 3 (was 0)' in out and 'resumed with lr 0.001 (was 0.0002)' in out, err
    code, out, err = resume(scenes, run, '--bs', 2, '--seed', 3, '--lr', .001, epochs=3)
    assert code == 0 and 'resumed with' not in out, err

@pytest.mark.parametrize('other', [dict(ttur=False), dict(average=None), dict(l1=1.), dict(objective='least_squares')], ids=str)
def test_another_recipe_is_refused(dls, run, other):
    (k, v), = other.items()
    with pytest.raises(InputError, match=f'was started with {k}=.*, not {v}'): Run(dls, run, resume=True, **{**json_kwargs(run), **other})

def test_one_that_went_on_elsewhere(dls, scenes, run):
    here = Run(dls, run, resume=True, **json_kwargs(run))
    keeping.give_folder(run)
    assert resume(scenes, run)[0] == 0
    with pytest.raises(InputError, match='gone on elsewhere'): here.fit(epochs=3)

def test_minutes_add_up(dls, tmp_path):
    one = Run(dls, tmp_path/'run', **tiny)
    one.fit(epochs=1)
    first = one.done['minutes']
    one.fit(epochs=2)
    assert one.done['minutes'] > 1.2*first

# -- signals and processes ---------------------------------------------------------------------------------------

signals = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
def start(*args, **kwargs):
    "A `gaugan` process that hears signals, whoever started the tests"
    heard = lambda: [signal.signal(o, signal.SIG_DFL) for o in signals]
    return subprocess.Popen([str(GAUGAN), *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard, **kwargs)

def wait_for(file, p, newer_than=0, seconds=240):
    end = time.time() + seconds
    while time.time() < end and p.poll() is None:
        if file.exists() and file.stat().st_mtime > newer_than: return
        time.sleep(.02)
    raise AssertionError(f'{file.name} did not come: {p.communicate() if p.poll() is not None else "too slow"}')

@contextlib.contextmanager
def ended(p):
    try: yield p
    finally:
        if p.poll() is None: p.kill()
        p.communicate()

def test_one_writer_and_two_signals(scenes, tmp_path):
    "A second process is turned away, the first goes on; SIGHUP and SIGTERM within .05 s leave a whole run"
    out, args = tmp_path/'run', ['--minutes', 60, '--save-minutes', .01, *small]
    with ended(start('train', scenes, '--out', out, *args)) as p:
        wait_for(out/'last.pth', p)
        for more in ([], ['--resume']):
            assert f'is in use: process {p.pid} trains there' in refused('train', scenes, '--out', out, '--epochs', 2, *small, *more)
        wait_for(out/'history.csv', p, newer_than=time.time())
        p.send_signal(signal.SIGHUP)
        time.sleep(.05)
        p.send_signal(signal.SIGTERM)
        _, err = p.communicate(timeout=120)
        assert p.returncode == 1 and err.splitlines()[-1].startswith('gaugan train: stopped after '), err
        assert 'all is saved' in err and '--resume goes on' in err and 'Traceback' not in err
    is_whole(out)
    assert resume(scenes, out, epochs=(n := epochs_of(out)) + 1)[0] == 0 and epochs_of(out) == n + 1

def test_a_signal_to_all_processes_of_a_training_loses_nothing(scenes, tmp_path):
    "A terminal, `timeout` and Slurm send it to the processes that load data too"
    out, args = tmp_path/'run', ['--minutes', 60, '--workers', 2, '--save-minutes', .01, *small]
    with ended(start('train', scenes, '--out', out, *args, start_new_session=True)) as p:
        wait_for(out/'last.pth', p)
        wait_for(out/'history.csv', p, newer_than=time.time())
        os.killpg(p.pid, signal.SIGTERM)
        _, err = p.communicate(timeout=120)
        assert p.returncode == 1 and 'all is saved' in err and 'Traceback' not in err, err
    is_whole(out)

@pytest.mark.skipif(not hasattr(signal, 'pthread_sigmask'), reason='signals cannot be held back here')
def test_processes_that_load_do_not_hear_what_ends_a_training(scenes):
    "Each of them is sent all three while a batch is on; the training reads all its batches, and its loaders are as before"
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4, num_workers=2)
    seen, starts = [], [o.wif for o in dls.loaders]
    class Send(Callback):
        def after_batch(self):
            seen.append(self.training)
            for child in multiprocessing.active_children():
                for o in signals: os.kill(child.pid, o)
    learn = spade_learner(dls, 'cpu', ngf=4, nhidden=8, perceptual=None)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=[Interrupts(), Send()])
    assert seen == [True]*len(dls.train) + [False]*len(dls.valid)
    assert [o.wif for o in dls.loaders] == starts

def test_a_fit_that_is_cancelled_before_it_begins_ends_in_peace(dls):
    "Also where the loaders were not reached yet"
    class Cancel(Callback):
        order = 0
        def before_fit(self): raise CancelFitException()
    learn = spade_learner(dls, **tiny)
    starts = [o.wif for o in dls.loaders]
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=[Interrupts(), Cancel()])
    assert [o.wif for o in dls.loaders] == starts

def test_killed_at_any_moment(scenes, tmp_path):
    "kill -9 while it saves all the time: what is on the disk can always be resumed"
    out, rng = tmp_path/'run', np.random.default_rng(0)
    args = ['train', scenes, '--out', out, '--minutes', 60, '--save-minutes', .0001, *small]
    for i in range(2):
        begun = time.time()
        with ended(start(*args, *['--resume']*(i > 0))) as p:
            wait_for(out/'last.pth', p, newer_than=begun)
            time.sleep(rng.uniform(0, .3))
            p.kill()
        assert p.returncode == -signal.SIGKILL
    n = len(torch.load(out/'last.pth', weights_only=True)['history'])
    code, words, err = resume(scenes, out, epochs=n + 1)
    assert code == 0 and epochs_of(out) == n + 1, err
    is_whole(out)

class Press(Callback):
    "Press Ctrl-C twice in the second epoch"
    def __init__(self, wait): self.wait = wait
    def after_batch(self):
        if not self.learn.history or self.learn.iter != 1: return
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(self.wait)

@pytest.fixture
def heard():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, 'the handler is put back'
    signal.signal(signal.SIGINT, before)

def test_ctrl_c_twice_means_once(dls, tmp_path, heard):
    one = Run(dls, tmp_path/'run', cbs=Press(.02), **tiny)
    with pytest.raises(KeyboardInterrupt, match='stopped after 1 epochs, .*: all is saved in'): one.fit(epochs=9)
    is_whole(tmp_path/'run')
    assert one.learn.iter == 1, 'the batch was finished, no other begun'

def test_a_late_second_one_stops_at_once(dls, run, monkeypatch, heard):
    monkeypatch.setattr(keeping.Interrupts.__init__, '__defaults__', (0.,))
    before = {o: (run/o).read_bytes() for o in ('last.pth', 'progress.json', 'model/model.safetensors')}
    one = Run(dls, run, resume=True, cbs=Press(.02), **json_kwargs(run))
    with pytest.raises(KeyboardInterrupt, match='holds the last checkpoint, what came later is not saved'): one.fit(epochs=9)
    assert before == {o: (run/o).read_bytes() for o in before}

def test_an_error_is_not_hidden_and_nothing_is_written_over(dls, run):
    class Boom(Callback):
        def after_batch(self): raise RuntimeError('the first error')
    before = {o: (run/o).read_bytes() for o in ('last.pth', 'progress.json', 'model/model.safetensors')}
    with pytest.raises(RuntimeError, match='the first error'): Run(dls, run, resume=True, cbs=Boom(), **json_kwargs(run)).fit(epochs=2)
    assert before == {o: (run/o).read_bytes() for o in before}

# -- disks -------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def files_up_to(n):
    "No file may grow beyond `n` bytes, as on a disk that is full"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try: yield
    finally: resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

def no_room(words): return 'cannot be written' in words or 'cannot be read or written' in words

@pytest.mark.parametrize('room', [0, 100, 20_000])   # the lock, run.json, last.pth
def test_a_full_disk_stops_a_run_with_a_sentence(scenes, run, room):
    before = {o: (run/o).read_bytes() for o in ('last.pth', 'progress.json', 'history.csv', 'model/model.safetensors')}
    with files_up_to(room): assert no_room(refused('train', scenes, '--out', run, '--epochs', 3, '--resume', *small))
    if room < 3000: assert before == {o: (run/o).read_bytes() for o in before}
    assert not list(run.rglob('*.part'))
    assert resume(scenes, run, epochs=3)[0] == 0 and epochs_of(run) == 3
    is_whole(run)

@pytest.mark.parametrize('room', [100, 3000])   # run.json, samples
def test_a_full_disk_leaves_the_folder_free(scenes, tmp_path, room):
    with files_up_to(room): assert no_room(refused('train', scenes, '--out', tmp_path/'run', '--epochs', 1, *small))
    assert gaugan('train', scenes, '--out', tmp_path/'run', '--epochs', 1, *small)[0] == 0
    is_whole(tmp_path/'run')

@contextlib.contextmanager
def tmpfs(folder, options):
    "A small disk, where mounting one is allowed"
    folder.mkdir()
    res = subprocess.run(['mount', '-t', 'tmpfs', '-o', options, 'tmpfs', folder], capture_output=True, text=True) if shutil.which('mount') else None
    if res is None or res.returncode: pytest.skip(f'a disk cannot be mounted here: {res and res.stderr.strip()}')
    try: yield folder
    finally: subprocess.run(['umount', '-l', folder])

def test_a_small_disk(scenes, run, tmp_path):
    with tmpfs(tmp_path/'disk', 'size=24m') as disk:
        shutil.copytree(run, disk/'run')
        ballast, free = disk/'ballast', shutil.disk_usage(disk).free
        ballast.write_bytes(bytes(free - 300_000))
        assert no_room(refused('train', scenes, '--out', disk/'run', '--epochs', 2, '--resume', *small))
        ballast.unlink()
        code, _, err = resume(scenes, disk/'run')
        assert code == 0 and epochs_of(disk/'run') == 2, err
        is_whole(disk/'run')

def test_a_disk_that_is_read_only(scenes, kept, tmp_path):
    with tmpfs(tmp_path/'disk', 'ro') as disk:
        for args in (['train', scenes, '--epochs', 1, *small], ['generate', kept, scenes/'val/labels']):
            assert no_room(refused(*args, '--out', disk/'out'))

def test_pictures_are_whole_or_not_there(kept, scenes, tmp_path):
    with files_up_to(600): assert no_room(refused('generate', kept, scenes/'val/labels', '--out', tmp_path/'p'))
    assert list((tmp_path/'p').iterdir()) == []

def test_convert_leaves_all_or_nothing(tmp_path):
    torch.save(SPADEGenerator(19, 2, nhidden=4).state_dict(), tmp_path/'net.pth')
    with files_up_to(10_000), contextlib.suppress(SafetensorError): gaugan('convert', tmp_path/'net.pth', '--out', tmp_path/'mine')
    assert [o.name for o in tmp_path.iterdir()] == ['net.pth']
    assert gaugan('convert', tmp_path/'net.pth', '--out', tmp_path/'mine')[0] == 0 and from_pretrained(tmp_path/'mine').n_classes == 19
    assert 'exists' in refused('convert', tmp_path/'net.pth', '--out', tmp_path/'mine')

def test_a_full_disk_before_the_model_is_written(scenes, run, tmp_path):
    n = (run/'last.pth').stat().st_size
    torch.save(SPADEGenerator(19, 2, nhidden=4).state_dict(), tmp_path/'net.pth')
    with files_up_to(10_000): assert no_room(refused('convert', tmp_path/'net.pth', '--out', tmp_path/'mine'))
    with files_up_to((run/'model/model.safetensors').stat().st_size - 1):
        assert n > 10*(run/'model/model.safetensors').stat().st_size or no_room(refused('train', scenes, '--out', run, '--epochs', 2, '--resume', *small))

def test_a_folder_that_cannot_be_made(scenes, tmp_path):
    (tmp_path/'file').write_text('in the way')
    for cmd in (['train', scenes, '--epochs', 1, *small], ['demo', '--n', 4]):
        words = refused(*cmd, '--out', tmp_path/'file/below')
        assert 'cannot be' in words and 'file' in words

# -- outputs -----------------------------------------------------------------------------------------------------

def test_names_that_the_output_cannot_show(scenes, tmp_path):
    data = tmp_path/'größe_文'
    shutil.copytree(scenes, data)
    env = dict(os.environ, PYTHONIOENCODING='ascii')
    p = subprocess.run([GAUGAN, 'doctor', data], capture_output=True, env=env)
    assert p.returncode == 0 and b'gr\\xf6\\xdfe_' in p.stdout and not p.stderr, p.stderr

def said_on(stream, *args):
    "Exit code and stderr where stdout is `stream`"
    with stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(io.StringIO()) as e: return cli.main(args), e.getvalue()

def test_an_output_that_was_closed(scenes):
    "As in `gaugan doctor DATA | head -0`"
    r, w = os.pipe()
    os.close(r)
    assert said_on(open(w, 'w'), 'doctor', scenes) == (1, 'gaugan doctor: the output was closed before all was said\n')

@pytest.mark.skipif(not Path('/dev/full').exists(), reason='there is no /dev/full here')
def test_an_output_that_is_full(scenes):
    code, err = said_on(open('/dev/full', 'w'), 'doctor', scenes)
    assert code == 1 and err.count('\n') == 1 and 'No space left' in err, err

class Closed:
    "A terminal that went away"
    def isatty(self): return True
    def write(self, text): raise OSError(5, 'Input/output error')
    def flush(self): raise OSError(5, 'Input/output error')

def test_a_closed_terminal_does_not_end_a_run(dls, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', Closed())
    Run(dls, tmp_path/'run', **tiny).fit(epochs=1)
    is_whole(tmp_path/'run')

def test_errors_that_are_nobodys_fault(monkeypatch):
    errors = dict(memory=MemoryError(), gpu=torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB'),
        file=PermissionError(13, 'Permission denied', 'runs/x'), pipe=BrokenPipeError(32, 'Broken pipe'))
    for e in errors.values():
        def boom(): "Fail: as planned"; raise e
        monkeypatch.setitem(cli.commands, 'boom', boom)
        code, _, err = gaugan('boom')
        assert code == 1 and err.startswith('gaugan boom: ') and err.count('\n') == 1
    def bug(): "Fail: by mistake"; raise ValueError('a fault of ours')
    monkeypatch.setitem(cli.commands, 'bug', bug)
    with pytest.raises(ValueError): gaugan('bug')

# -- not a number ------------------------------------------------------------------------------------------------

class Spoil(Callback):
    order = 75
    def after_batch(self): self.learn.model.critic.state_dict()['discriminator_0.model0.0.bias'][0] = float('inf')

def test_numbers_that_are_none_are_not_kept(dls, run):
    before = {o: (run/o).read_bytes() for o in ('last.pth', 'progress.json', 'model/model.safetensors')}
    with pytest.raises(InputError, match='lower'): Run(dls, run, resume=True, cbs=Spoil(), **json_kwargs(run)).fit(epochs=2)
    assert before == {o: (run/o).read_bytes() for o in before}

@pytest.mark.parametrize('lr', ['1e12', '1e18'])
def test_a_learning_rate_that_blows_up(scenes, run, lr):
    before = {o: (run/o).read_bytes() for o in ('last.pth', 'progress.json', 'model/model.safetensors')}
    words = refused('train', scenes, '--out', run, '--epochs', 4, '--resume', *small, '--lr', lr)
    assert words.startswith('gaugan train: the loss') and 'lower --lr' in words and 'learn.load' not in words, words
    state = torch.load(run/'last.pth', weights_only=True)['model']
    assert all(o.isfinite().all() for o in state.values() if o.is_floating_point()) and (run/'model/model.safetensors').read_bytes() == before['model/model.safetensors']
    assert resume(scenes, run, epochs=4)[0] == 0

def test_weights_that_are_no_numbers_do_not_paint(kept, scenes, tmp_path):
    "The card's checksum tells that they are others; a card of an older version has none, and the numbers are looked at"
    bad = shutil.copytree(kept/'model', tmp_path/'bad')
    state = load_file(bad/'model.safetensors')
    state['conv_img.bias'][0] = float('nan')
    save_file(state, bad/'model.safetensors')
    paints = 'generate', bad, scenes/'val/labels', '--out', tmp_path/'p'
    assert 'another checksum' in refused(*paints)
    card = json.loads((bad/'model.json').read_text())
    del card['sha256']
    (bad/'model.json').write_text(json.dumps(card))
    words = refused(*paints)
    assert 'nan' in words and 'conv_img.bias' in words and not (tmp_path/'p').exists()

# -- generate ----------------------------------------------------------------------------------------------------

def test_a_checkpoint_is_no_model(kept, scenes):
    assert f"give the run's folder, {kept}" in refused('generate', kept/'last.pth', scenes/'val/labels')

def test_models_by_name(scenes, kept, tmp_path, monkeypatch):
    "A model that comes with the library has a name, also one that starts from z; unknown names are answered with the known ones"
    labels = landscape_labels()
    gen = SPADEGenerator(labels.n_classes, 2, nhidden=4, z_dim=4, size=(32, 32))
    save_pretrained(gen, tmp_path/'data/weights/landscapes', labels=labels, size=[32, 32])
    monkeypatch.setattr('gaugan_fastai.__file__', str(tmp_path/'gaugan_fastai/__init__.py'))
    monkeypatch.chdir(tmp_path)
    code, words, err = gaugan('generate', 'landscapes', scenes/'val/labels', '--out', 'p', '--samples', 2)
    assert code == 0 and words.startswith('4 of 4') and len(list(Path('p').iterdir())) == 8, err
    assert 'by name there are' in refused('generate', 'landscape', scenes/'val/labels')

def test_maps_are_resized_as_the_data_set_resizes_them(kept):
    "Nearest by the middle of a pixel, as Pillow has it"
    model, ids = load_model(kept), draw_landscape(3, 80).segmap
    small_map = np.asarray(Image.fromarray(ids).resize((32, 32), Image.NEAREST))
    assert (paint(model, ids, size=(32, 32)) == paint(model, small_map)).all()
    assert (small_map != ids[(np.arange(32)*80)//32][:, (np.arange(32)*80)//32]).any(), 'the corner of a pixel gives another map'

@pytest.fixture(scope='module')
def sean(tmp_path_factory):
    "A small SEAN without usual styles, as a folder"
    torch.manual_seed(0)
    labels = landscape_labels()
    gen = SEANGenerator(labels.n_classes, 2, style_dim=6, nhidden=4, width=2)
    return save_pretrained(gen, tmp_path_factory.mktemp('sean')/'sean', labels=labels, size=[64, 64])

@pytest.fixture
def scene(tmp_path):
    "A photo and its map, as files"
    o = draw_landscape(8, 64)
    Image.fromarray(o.segmap).save(tmp_path/'map.png')
    Image.fromarray(o.photo).save(tmp_path/'photo.png')
    return tmp_path/'photo.png', tmp_path/'map.png'

def test_sean_without_styles_is_refused(sean, scene, tmp_path):
    model, (photo, map_) = load_model(sean), scene
    model.usual = None
    with pytest.raises(InputError, match='without usual styles: pass style=PHOTO and style_map=MAP'): paint(model, draw_landscape(3, 64).segmap)
    for args, words in ((['--style', photo], 'pass --style-map MAP'), (['--style-map', map_], 'pass --style PHOTO'),
        (['--seed', 1], 'leave --seed out'), (['--samples', 2, '--style', photo, '--style-map', map_], 'leave --samples out')):
        assert words in refused('generate', sean, map_, '--out', tmp_path/'p', *args)

def test_sean_paints_in_the_styles_of_a_photo(sean, scene, tmp_path):
    photo, map_ = scene
    code, _, err = gaugan('generate', sean, map_, '--out', tmp_path/'p', '--style', photo, '--style-map', map_)
    assert code == 0, err
    gen, ids = from_pretrained(sean), torch.from_numpy(draw_landscape(8, 64).segmap).long()[None]
    x = torch.from_numpy(draw_landscape(8, 64).photo).permute(2, 0, 1)[None]/127.5 - 1
    with torch.no_grad(): want = to_u8(gen(ids, gen.encode(x, ids)))[0]
    assert abs(np.asarray(Image.open(tmp_path/'p/map.png')).astype(int) - want).max() <= 1

def test_sean_takes_usual_styles_for_the_others(sean, scene):
    model, ids, shown = load_model(sean), draw_landscape(3, 64).segmap, draw_landscape(8, 64).segmap
    lacking = sorted(set(ids.flat) - set(shown.flat))
    assert lacking, 'the photo lacks a class'
    model.usual = None
    with pytest.raises(InputError, match='no style for .*, neither in the photo nor among the usual ones'): paint(model, ids, style=scene[0], style_map=scene[1])
    model.usual = torch.randn(model.n_classes, 6, generator=torch.Generator().manual_seed(1))
    usual, mixed = paint(model, ids), paint(model, ids, style=scene[0], style_map=scene[1])
    assert (usual != mixed).any() and (paint(model, ids, style=model.usual) == usual).all()
    codes = painter.Painter.around(model).styles_for(scene[0], style_map=scene[1])[0][0]
    absent = [i for i in range(model.n_classes) if i not in shown]
    assert torch.equal(codes[absent], model.usual[absent]) and not torch.isclose(codes[shown[0, 0]], model.usual[shown[0, 0]]).all()
    model.usual[lacking[0]] = 0
    with pytest.raises(InputError, match=f'no style for {model.labels.codes[lacking[0]]}'): paint(model, ids)

def test_a_style_map_of_another_size(sean, scene, tmp_path):
    Image.fromarray(draw_landscape(8, 48).segmap).save(tmp_path/'other.png')
    assert 'photo is 64x64, but its label map' in refused('generate', sean, scene[1], '--out', tmp_path/'p', '--style', scene[0], '--style-map', tmp_path/'other.png')

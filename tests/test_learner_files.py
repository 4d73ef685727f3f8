"""learn.save, load and export: whole or not at all, and a refusal leaves everything as it was."""
import copy, errno, pickle
import numpy as np, pytest, torch
from fastai.vision.all import Path, load_learner
from gaugan_fastai.callbacks import Keep, ModelAverage, SampleGrid
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.models.spade import SPADEGenerator

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0)

def make(dls, average=True, ngf=1, **kwargs):
    gen, critic = SPADEGenerator(dls.n_classes, ngf=ngf, nhidden=4), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    return SynthesisLearner(dls, gen, critic, cbs=[ModelAverage(.9)]*average, **kwargs)

def fit(learn, n=1, lr=.01):
    with learn.no_bar(), learn.no_logging(): learn.fit(n, lr)
    return learn

def whole(learn):
    "All that `save` keeps, as a copy"
    return copy.deepcopy(dict(model=learn.model.state_dict(), opt=learn.opt.state_dict(), average=learn.model_average.state_dict(), history=learn.history))

def same(a, b):
    if isinstance(a, torch.Tensor): return torch.equal(a, b)
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(v, b[k]) for k, v in a.items())
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return a == b

def last_key(state): return list(state['model'])[-1]
def other_shape(state): state['model'][last_key(state)] = torch.zeros(7)
def other_type(state): state['model'][last_key(state)] = state['model'][last_key(state)].double()
def lacks_one(state): del state['model'][last_key(state)]
def one_more(state): state['model']['generator.up_9.weight'] = torch.zeros(1)
def nan_weight(state): state['model'][last_key(state)] = state['model'][last_key(state)]*torch.nan
def nan_adam(state): next(iter(state['opt']['critic']['state'].values()))['exp_avg'].fill_(torch.nan)
def other_adam(state): list(state['opt']['critic']['state'].values())[-1]['exp_avg_sq'] = torch.zeros(5)
def fewer_groups(state): state['opt']['generator']['param_groups'].pop()
def fewer_hypers(state): state['opt']['hypers'].pop()
def no_critic(state): del state['opt']['critic']
def other_average(state): state['average']['shadow']['fc.bias'] = torch.zeros(3)
def half_average(state): del state['average']['shadow']['fc.bias']
def nan_average(state): state['average']['shadow']['fc.bias'].fill_(torch.inf)
def other_classes(state): state['codes'][3], state['codes'][4] = state['codes'][4], state['codes'][3]
def no_history(state): del state['history']

spoilers = {f: words for f, words in ((other_shape, 'of another shape or type'), (other_type, 'of another shape or type'), (lacks_one, '1 missing'),
    (one_more, '1 unexpected'), (nan_weight, 'numbers that are none'), (nan_adam, 'numbers that are none'), (other_adam, "critic's Adam remembers another shape"),
    (fewer_groups, "generator's Adam has other groups"), (fewer_hypers, 'has not 4 parameter groups'), (no_critic, "critic's Adam is missing"),
    (other_average, 'the average has 1 of another shape'), (half_average, 'the average has 1 missing'), (nan_average, 'numbers that are none'),
    (other_classes, '2 class names differ .class 3 is'), (no_history, 'was not written by learn.save'))}

@pytest.fixture(scope='module')
def pair(dls, tmp_path_factory):
    "A learner with a saved file, and another that has gone on"
    path = tmp_path_factory.mktemp('files')
    first, other = fit(make(dls, path=path)), fit(make(dls, path=path))
    first.save('good')
    return first, other

@pytest.mark.parametrize('spoil', spoilers, ids=lambda f: f.__name__)
def test_a_refused_load_changes_nothing(pair, spoil):
    first, other = pair
    state = torch.load(first.path/'models/good.pth', weights_only=True)
    spoil(state)
    torch.save(state, first.path/'models/bad.pth')
    before = whole(other)
    with pytest.raises(InputError, match=f'bad.pth.*{spoilers[spoil]}') as e: other.load('bad')
    assert '\n' not in str(e.value) and same(before, whole(other))

class Harmful:
    def __reduce__(self): return print, ('code was run',)

@pytest.mark.parametrize('write', [lambda f, good: f.write_bytes(good[:len(good)//2]), lambda f, good: f.write_text('no weights'), lambda f, good: f.write_bytes(b''),
    lambda f, good: f.write_bytes(pickle.dumps(Harmful())), lambda f, good: torch.save(Harmful(), f), lambda f, good: torch.save([1], f),
    lambda f, good: torch.save(dict(a=torch.zeros(1)), f)], ids=['cut off', 'text', 'empty', 'pickle', 'code', 'a list', 'a state_dict'])
def test_a_damaged_file_changes_nothing(pair, write, capsys):
    first, other = pair
    file = first.path/'models/bad.pth'
    write(file, (first.path/'models/good.pth').read_bytes())
    before = whole(other)
    with pytest.raises(InputError, match='bad.pth (cannot be read|was not written by learn.save)') as e: other.load('bad')
    assert '\n' not in str(e.value) and same(before, whole(other)) and 'code was run' not in capsys.readouterr().out

def test_classes_are_written_and_compared(dls, tmp_path):
    learn = make(dls, path=tmp_path)
    assert torch.load(learn.save('a'), weights_only=True)['codes'] == list(dls.codes)
    names = list(reversed(dls.codes))
    other = make(copy.copy(dls), path=tmp_path)
    other.dls.labels = LabelSpace(names, void=None)
    with pytest.raises(InputError, match=f"class 0 is '{names[0]}' here and '{dls.codes[0]}' there.*codes.txt"): other.load('a')

def test_a_file_of_the_first_version_loads(dls, tmp_path):
    "It has no class names, and the average as parameters and buffers"
    learn, maps = fit(make(dls, path=tmp_path), 2), dls.valid.one_batch()[0]
    avg = learn.model_average.state_dict()
    old = dict(model=learn.model.state_dict(), history=learn.history, opt=learn.opt.state_dict(), average={k: avg[k] for k in ('t', 'shadow', 'buffers')})
    (tmp_path/'models').mkdir()
    torch.save(old, tmp_path/'models/old.pth')
    other = make(dls, path=tmp_path).load('old')
    assert same(whole(learn), whole(other))
    assert abs(np.asarray(other.predict(maps[0])).astype(int) - np.asarray(learn.predict(maps[0]))).max() <= 1
    fit(other)

def test_a_file_without_an_average_forgets_the_old_one(dls, tmp_path):
    plain, averaged = fit(make(dls, False, path=tmp_path)), fit(make(dls, path=tmp_path), 2)
    plain.save('a')
    averaged.load('a')
    segmap = dls.valid.one_batch()[0][0]
    assert abs(np.asarray(averaged.predict(segmap)).astype(int) - np.asarray(plain.predict(segmap))).max() <= 1
    assert averaged.model_average.t == 0

def test_history_is_kept_by_those_who_went_through_it(dls, tmp_path):
    learn = fit(make(dls, path=tmp_path))
    learn.save('a')
    fit(learn)
    assert len(learn.load('a').history) == 2
    assert make(dls, path=tmp_path).load('a').history == learn.history[:1]
    assert len(fit(make(dls, path=tmp_path), 2).load('a').history) == 1   # another one's

# -- folders and disks -------------------------------------------------------------------------------------------

def test_a_folder_that_cannot_be_written(dls, tmp_path):
    (tmp_path/'data').write_text('as good as a read-only folder, also for root')
    learn = make(dls, path=tmp_path/'data')
    for f in (lambda: learn.save('a'), learn.export, lambda: learn.export('sub/a.pkl')):
        with pytest.raises(InputError, match=r'learn\.path') as e: f()
        assert '\n' not in str(e.value)
    with pytest.raises(InputError, match='no weights at'): learn.load('a')
    learn.path = tmp_path/'runs'
    learn.load(learn.save('a').stem)
    learn.export()
    assert load_learner(tmp_path/'runs/export.pkl').model.critic is None

@pytest.mark.parametrize('stop', [OSError(errno.ENOSPC, 'No space left on device'), KeyboardInterrupt()], ids=['full', 'Ctrl-C'])
def test_what_was_there_stays(dls, tmp_path, monkeypatch, stop):
    learn = make(dls, path=tmp_path)
    learn.export()
    files = [learn.save('a'), tmp_path/'export.pkl']
    before, real = [o.read_bytes() for o in files], torch.save
    def half(o, file, *args, **kwargs):
        Path(file).write_bytes(b'half of it')
        raise stop
    monkeypatch.setattr(torch, 'save', half)
    for f in (lambda: learn.save('a'), learn.export):
        with pytest.raises(InputError if isinstance(stop, OSError) else KeyboardInterrupt, match='No space left' if isinstance(stop, OSError) else None): f()
    assert [o.read_bytes() for o in files] == before and not list(tmp_path.rglob('*.part'))

def test_what_runs_beside_writes_whole_files(dls, tmp_path):
    learn = make(dls, path=tmp_path)
    learn.add_cbs([Keep(path=tmp_path), SampleGrid(2, path=tmp_path/'grids')])
    fit(learn, 2)
    assert len((tmp_path/'history.csv').read_text().splitlines()) == 3
    assert sorted(o.name for o in (tmp_path/'grids').iterdir()) == ['epoch_001.png', 'epoch_002.png'] and not list(tmp_path.rglob('*.part'))

"""The learner against the training traces of the originals, and the contracts that no notebook cell can show in a minute."""
import copy, json, zlib
import numpy as np, pytest, torch
from fastai.vision.all import Callback, Path, SaveModelCallback
from safetensors.torch import load_file
from conftest import shared_path
from gaugan_fastai.callbacks import ModelAverage, TimeBudget
from gaugan_fastai.core import InputError, instance_edges
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.losses import feature_matching
from gaugan_fastai.models.spade import SPADEGenerator
from witness import OneMoves

def recipe(name, shape, seed):
    "The parameter `name` of the fixtures, by their README's formula"
    g = np.random.RandomState(zlib.crc32(f'{seed}|{name}'.encode()) & 0xffffffff).standard_normal(tuple(shape))
    if name.endswith('bias') and len(shape) == 1: v = 0.1*g
    else:
        reads_labels = 'mlp_shared' in name or (name == 'fc.weight' and len(shape) == 4)
        v = g/np.sqrt(shape[2]*shape[3] if reads_labels else np.prod(shape[1:]))
    return torch.from_numpy(np.asarray(v)).float()

def load_recipe(net, seed, buffers, prefix):
    "Parameters by formula, buffers from the file"
    state = {k: recipe(k, p.shape, seed) for k, p in net.named_parameters()}
    state.update({k[len(prefix):]: v for k, v in buffers.items() if k.startswith(prefix)})
    missing = net.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and all(k.endswith('num_batches_tracked') for k in missing.missing_keys)

class FixedBatches:
    "The least a learner needs of data: the same batches, in order"
    n_inp, device, path = 1, torch.device('cpu'), Path('.')
    def __init__(self, batches): self.train, self.n_inp = batches, len(batches[0]) - 1
    def __getitem__(self, i): return [self.train, []][i]

def fixed_batches(dls): return FixedBatches([tuple(o.as_subclass(torch.Tensor) for o in b) for b in dls.train])

class Trace(Callback):
    "Note losses and pictures of every batch"
    order = 30
    def before_fit(self): self.losses, self.fakes = [], []
    def after_batch(self):
        self.losses.append({k: v.item() for k, v in self.learn.turn_losses.items()})
        self.fakes.append(self.learn.pred.clone())

def run_trace(name, dtype):
    "Three steps of the original trainer, again, by our learner"
    info = json.loads(shared_path('reference/spade/train', f'{name}.json').read_text())
    data, opt = load_file(shared_path('reference/spade/train', f'{name}.safetensors')), info['options']
    edges, ttur = not opt['no_instance'], not opt['no_TTUR']
    n_classes = opt['label_nc'] + opt['contain_dontcare_label']
    gen = SPADEGenerator(n_classes, ngf=opt['ngf'], edges=edges)
    critic = MultiScaleCritic(n_classes, ndf=opt['ndf'], n_layers=opt['n_layers_D'], edges=edges)
    load_recipe(gen, f"{info['seed']}G", data, 'init_G.')
    load_recipe(critic, f"{info['seed']}D", data, 'init_D.')
    gen.to(dtype); critic.to(dtype)
    batches = []
    for i in range(info['steps']):
        photo = (data[f'step{i}.real_u8'].float()/255 - 0.5)/0.5
        xb = [data[f'step{i}.label'][:, 0].long()]
        if edges:
            xb.append(instance_edges(data[f'step{i}.instance'][:, 0].long()))
        batches.append((*xb, photo.to(dtype)))
    feat = lambda t: opt['lambda_feat']*feature_matching(t.fake_feats, t.real_feats)
    learn = SynthesisLearner(FixedBatches(batches), gen, critic, terms=dict(feat=feat), ttur=ttur, lr=opt['lr'], cbs=Trace())
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    return info, data, learn

_names = dict(gan='GAN', feat='GAN_Feat', critic_fake='D_Fake', critic_real='D_real')

@pytest.mark.parametrize('name', ['ttur_edge64', 'no_ttur64'])
def test_trace_of_the_originals(name):
    info, data, learn = run_trace(name, torch.float32)
    for i, (ours, theirs) in enumerate(zip(learn.trace.losses, info['losses_fp32'], strict=True)):
        # 1e-4 of the loss, or of the verdicts' scale of 1; a ReLU on its kink may show in the third step (float64, below, is exact)
        tol = 1e-4 if i < 2 else 3e-4
        for k, v in _names.items(): assert ours[k] == pytest.approx(theirs[v], rel=tol, abs=tol), (i, k)
    for i, tol in enumerate([2e-5, 1e-4, 5e-3]):   # the third: Adam moves an entry by lr even where its gradient is rounding noise
        off = (learn.trace.fakes[i] - data[f'step{i}.generated']).abs()
        assert off.max() < tol and off.mean() < min(tol, 1e-4), i

@pytest.mark.parametrize('name', ['ttur_edge64', 'no_ttur64'])
def test_final_parameters_in_float64(name):
    "Every parameter and buffer after three steps, against the statistics of the originals' float64 run"
    info, _, learn = run_trace(name, torch.float64)
    stats = json.loads(shared_path('reference/spade/train', f'{name}.stats.json').read_text())
    grads, final = stats['grads_step0_fp64'], stats['final_params_fp64']
    for net, letter in ((learn.model.generator, 'G'), (learn.model.critic, 'D')):
        state = net.state_dict()
        assert set(final[letter]) == {k for k in state if not k.endswith('num_batches_tracked')}
        for k, want in final[letter].items():
            flat = state[k].flatten()
            got = flat[torch.linspace(0, flat.numel() - 1, len(want['samples'])).round().long()].tolist()
            # a true gradient of zero (biases before a norm) leaves rounding noise, which Adam blows up to a step of lr
            tol = 3*4e-4*1.01 if grads[letter].get(k, dict(l2=1))['l2'] < 1e-12 else 1e-7
            assert np.abs(np.array(got) - want['samples']).max() < tol, k

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=16, n_valid=4, size=32, bs=4, seed=0)

def make(dls, **kwargs):
    gen, critic = SPADEGenerator(dls.n_classes, ngf=2, nhidden=8), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    return SynthesisLearner(dls, gen, critic, **kwargs)

@pytest.mark.parametrize('reuse_fake', [True, False])
def test_one_network_moves_at_every_step(dls, reuse_fake):
    learn = make(dls, reuse_fake=reuse_fake, cbs=OneMoves())
    with learn.no_bar(), learn.no_logging():
        for kw in ({}, dict(reset_opt=True)):
            learn.fit(1, **kw)
            assert learn.one_moves.names == ['generator', 'critic']*len(dls.train)
        learn.validate()
        learn.get_preds()
        learn.fit_one_cycle(1)
        assert learn.one_moves.steps == 2*len(dls.train)

def test_frozen_groups_stay(dls):
    split = lambda gan: [list(gan.generator.fc.parameters()) + list(gan.generator.head_0.parameters()),
                         [p for n, p in gan.generator.named_parameters() if not n.startswith(('fc', 'head_0'))], list(gan.critic.parameters())]
    learn = make(dls, splitter=split, cbs=OneMoves())
    learn.freeze()
    was = [p.detach().clone() for p in learn.opt.param_lists[0]]
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        learn.fit(1, reset_opt=True)
    assert learn.one_moves.steps == 2*len(dls.train)
    assert all(torch.equal(a, b) for a, b in zip(was, learn.opt.param_lists[0]))
    learn.unfreeze()
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    gen = learn.model.generator   # (its first size is one pixel here, where some gradients are next to nothing)
    was = {id(p): o for p, o in zip(learn.opt.param_lists[0], was)}
    assert not any(torch.equal(p, was[id(p)]) for p in (gen.fc.weight, gen.head_0.conv_0.weight_orig, gen.head_0.conv_1.weight_orig))
    with pytest.raises(InputError, match='freeze_to'): learn.freeze_to(2)

def test_freezing_forgets_what_adam_remembers(dls):
    "The squares of other gradients would make the first steps after freezing or unfreezing too large or too small"
    learn = make(dls)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert all(o.state for o in learn.opt.inner.values())
    learn.freeze()
    assert not any(o.state for o in learn.opt.inner.values())
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    learn.unfreeze()
    assert not any(o.state for o in learn.opt.inner.values())

@pytest.mark.parametrize('where', ['learner', 'fit'])
def test_weights_decay_and_biases_do_not(dls, where):
    "A first step from the same start, with and without: weights of two and more dimensions lose lr x multiplier x wd of themselves"
    wd, lr, fixed, starts, ends = .5, .01, fixed_batches(dls), [], []
    fixed.train = fixed.train[:1]
    for o in (0., wd):
        torch.manual_seed(0)
        gen, critic = SPADEGenerator(dls.n_classes, ngf=2, nhidden=8), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
        learn = SynthesisLearner(fixed, gen, critic, lr=lr, reuse_fake=True, **(dict(wd=o) if where == 'learner' else {}))
        starts.append({k: p.detach().clone() for k, p in learn.model.named_parameters()})
        with learn.no_bar(), learn.no_logging(): learn.fit(1, **(dict(wd=o) if where == 'fit' else {}))
        ends.append({k: p.detach().clone() for k, p in learn.model.named_parameters()})
    for k, start in starts[0].items():
        mult = .5 if k.startswith('generator') else 2.
        lost = lr*mult*wd*start if start.ndim > 1 else torch.zeros_like(start)
        torch.testing.assert_close(ends[0][k] - ends[1][k], lost, rtol=1e-4, atol=1e-7, msg=k)

def test_arrays_are_not_taken_for_what_they_are_not(dls):
    "Void first in codes.txt: the numbers of files and those of the library differ, and an array says not which they are"
    from PIL import Image
    from gaugan_fastai.core import LabelSpace
    learn, n = make(dls), dls.n_classes
    learn.dls = copy.copy(dls)
    learn.dls.labels = LabelSpace(['void'] + [f'class {i}' for i in range(n - 1)])
    ids = np.zeros((32, 32), np.uint8)
    ids[16:] = 3
    paint = lambda o, **kwargs: np.asarray(learn.predict(o, **kwargs))
    file = paint(Image.fromarray(ids))
    assert np.array_equal(paint(ids, ids='file'), file) and np.array_equal(paint(torch.from_numpy(ids), ids='file'), file)
    library = paint(torch.from_numpy(ids))
    assert np.array_equal(paint(ids, ids='library'), library) and not np.array_equal(library, file)
    with pytest.raises(InputError, match="holds 0, which is 'void' in the data's files and 'class 0' in the library.*ids='file'"): paint(ids)
    with pytest.raises(InputError, match='leave ids out'): paint(Image.fromarray(ids), ids='library')
    with pytest.raises(InputError, match="ids='files'"): paint(ids, ids='files')

def test_maps_are_resized_as_the_data_are(dls, tmp_path):
    "A map of 100x70 painted at 32x32: the ids that `PairedResize` gives"
    from PIL import Image
    from gaugan_fastai.core import PILSegmap
    from gaugan_fastai.data.paired import PairedResize
    ids = np.random.default_rng(0).integers(0, dls.n_classes, (70, 100), dtype=np.uint8)
    learn, seen = make(dls), []
    learn.model.generator.register_forward_hook(lambda m, i, o: seen.append(i[0]))
    learn.predict(Image.fromarray(ids), size=(32, 32))
    wanted = PairedResize((32, 32), (32, 32))(PILSegmap.create(ids, dls.labels))
    assert np.array_equal(seen[0].segmap[0].numpy(), np.asarray(wanted))

def test_generator_and_critic_stay_in_train_mode(dls):
    modes = []
    class Modes(Callback):
        def before_step(self): modes.append((self.model.generator.training, self.model.critic.training))
    learn = make(dls, cbs=Modes())
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert set(modes) == {(True, True)}

def test_fresh_or_reused_fake(dls):
    calls = []
    for reuse in (True, False):
        learn = make(dls, reuse_fake=reuse)
        n = [0]
        def count(m, *_, n=n): n[0] += m.training
        learn.model.generator.register_forward_hook(count)
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
        calls.append(n[0])
    assert calls == [len(dls.train), 2*len(dls.train)]

def test_resume_equals_going_on(dls, tmp_path):
    "Two epochs = one epoch, save, a new learner, load, one epoch: bit for bit"
    fixed = fixed_batches(dls)
    def fresh():
        torch.manual_seed(0)
        gen, critic = SPADEGenerator(dls.n_classes, ngf=2, nhidden=8), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
        return SynthesisLearner(fixed, gen, critic, path=tmp_path)
    a, b = fresh(), fresh()
    for learn, n in ((a, 2), (b, 1)):
        with learn.no_bar(), learn.no_logging(): learn.fit(n)
    b.save('half')
    c = fresh()
    c.load('half')
    with c.no_bar(), c.no_logging(): c.fit(1)
    for k, v in a.model.state_dict().items(): assert torch.equal(v, c.model.state_dict()[k]), k

def test_load_says_what_does_not_fit(dls, tmp_path):
    learn = make(dls, path=tmp_path)
    learn.save('a')
    other = SynthesisLearner(dls, SPADEGenerator(dls.n_classes, ngf=4, nhidden=8), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3), path=tmp_path)
    with pytest.raises(InputError, match='a.pth was not written by a learner like this one'): other.load('a')
    assert not list(tmp_path.rglob('*.part'))

def test_export_holds_the_generator_only(dls, tmp_path):
    from fastai.vision.all import load_learner
    learn = make(dls, path=tmp_path)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    learn.export('x.pkl')
    light = load_learner(tmp_path/'x.pkl')
    assert light.model.critic is None and light.opt is None
    segmap = dls.valid.one_batch()[0][0]
    assert np.array_equal(np.asarray(light.predict(segmap)), np.asarray(learn.predict(segmap)))
    with pytest.raises(InputError, match='no critic'): light.fit(1)
    assert light.dls.codes == dls.codes

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_autocast_changes_the_arithmetic_and_not_the_weights(dls, dtype):
    torch.manual_seed(0)
    l1 = lambda turn: 10*(turn.fake - turn.photo).abs().mean()
    gen, critic = SPADEGenerator(dls.n_classes, ngf=2, nhidden=8), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    learn = SynthesisLearner(fixed_batches(dls), gen, critic, terms=dict(l1=l1), cbs=OneMoves())
    plain = copy.deepcopy(learn.model)
    seen = []
    gen.conv_img.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    learn.autocast_dtype = None if dtype == torch.float32 else dtype
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert set(seen) == {dtype}
    assert {p.dtype for p in learn.model.parameters()} == {torch.float32} and all(p.isfinite().all() for p in learn.model.parameters())
    other = SynthesisLearner(learn.dls, plain.generator, plain.critic, terms=dict(l1=l1))
    with other.no_bar(), other.no_logging(): other.fit(1)
    for k, v in other.history[0]['train'].items(): assert learn.history[0]['train'][k] == pytest.approx(v, rel=.05, abs=.02), k

# -- fastai's own callbacks, and ours beside them ------------------------------------------------------------------

def test_the_best_epoch_can_be_kept(dls, tmp_path):
    learn = make(dls, path=tmp_path, cbs=SaveModelCallback(monitor='valid_loss', with_opt=True))
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    assert (tmp_path/'models/model.pth').exists()

def test_columns_stay_in_place_when_the_time_is_over(dls):
    now = iter(range(10**6))
    learn = make(dls, cbs=TimeBudget(len(dls.train)*1.5/60, clock=lambda: float(next(now))))
    with learn.no_bar(), learn.no_logging(): learn.fit(10)
    assert learn.time_budget.over
    names = learn.recorder.metric_names[1:-1]
    assert {len(o) for o in learn.recorder.values} == {len(names)}
    last = dict(zip(names, learn.recorder.values[-1]))
    assert last['gan'] == pytest.approx(learn.history[-1]['train']['gan'])

def test_scores_are_of_the_averaged_weights(dls, monkeypatch):
    import gaugan_fastai.metrics as metrics
    learn = make(dls, cbs=ModelAverage(.9), lr=.01)
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    monkeypatch.setattr(metrics, 'score_pictures', lambda fakes, *args, **kwargs: fakes)
    fakes = metrics.score_learner(learn)
    assert torch.allclose(fakes, learn.get_preds()[0], atol=1e-5)
    assert not torch.allclose(fakes, metrics.paint_all(learn.model.generator, dls.valid)[0], atol=1e-3)

def test_results_of_maps_alone_and_of_nothing(dls, tmp_path):
    learn = make(dls, path=tmp_path)
    learn.show_results(dl=dls.test_dl([o.segmap for o in dls.valid_ds.items]))
    learn.export()
    from fastai.vision.all import load_learner
    with pytest.raises(InputError, match='no picture to show'): load_learner(tmp_path/'export.pkl').show_results()

@pytest.mark.parametrize('kwargs, words', [(dict(size='96x128'), '96x128'), (dict(edges=np.zeros((10, 32), bool)), 'without instance edges'), (dict(edges='e.png'), 'without instance edges'),
    (dict(style='sunset.jpg'), 'sunset.jpg.*z_dim='), (dict(seed=3), 'seed=3.*z_dim=')], ids=str)
def test_predict_refuses(dls, kwargs, words):
    with pytest.raises(InputError, match=words): make(dls).predict(np.zeros((32, 32), np.uint8), **kwargs)

def test_losses_are_printed_by_name(dls, capsys):
    learn = make(dls)
    with learn.no_bar(): learn.fit(2)
    first, second = capsys.readouterr().out.strip().splitlines()
    assert first.startswith('epoch 0: train_loss ') and second.startswith('epoch 1: ') and learn.logger is print
    assert f', gan {learn.history[1]["train"]["gan"]:.3g}, ' in second

@pytest.mark.parametrize('name, value', [('ngf', '32'), ('ngf', 0), ('nhidden', 2.5), ('z_dim', -1), ('ndf', None), ('n_scales', 0), ('n_layers', True)], ids=str)
def test_widths_that_are_no_whole_numbers(name, value):
    cls = MultiScaleCritic if name in ('ndf', 'n_scales', 'n_layers') else SPADEGenerator
    with pytest.raises(InputError, match=f'{name} is {value!r}'): cls(3, **{name: value}, **dict(size=32) if name == 'z_dim' else {})

"""Trained networks for other classes: runs, critics and the command line, with checkpoints on disk."""
import contextlib, importlib, io, json, re, shutil
from pathlib import Path
import numpy as np, pytest, torch
from fastai.vision.all import Callback, CancelFitException, set_seed
from PIL import Image
from conftest import ROOT
from gaugan_fastai.cli import main
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels, write_landscapes
from gaugan_fastai.data.paired import Pair, PairedDataLoaders
from gaugan_fastai.finetune import adapt_classes, at_size, match_classes
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.registry import family_named

tiny = ['--size', '32', '--preset', 'cpu', '--ngf', '4', '--nhidden', '8', '--perceptual', 'none', '--epochs', 1]
new_codes = ['Window', 'Lake', 'Sky', *landscape_labels().codes[1:14], *landscape_labels().codes[15:18]]

def gaugan(*args):
    with contextlib.redirect_stdout(io.StringIO()) as o, contextlib.redirect_stderr(io.StringIO()) as e:
        try: code = main(args)
        except SystemExit as exc: code = exc.code
    return code, o.getvalue(), e.getvalue()

@pytest.fixture(scope='module')
def scenes(tmp_path_factory): return write_landscapes(tmp_path_factory.mktemp('data')/'old', n_train=12, n_val=4, size=32, seed=0)

@pytest.fixture(scope='module')
def renamed(scenes):
    "The same scenes with the classes in another order, and water called a lake"
    path, names = shutil.copytree(scenes, scenes.parent/'new'), landscape_labels().codes
    was = [names.index(dict(Lake='water').get(o, o.lower())) for o in new_codes]
    table = np.argsort(was).astype(np.uint8)
    for fn in path.glob('*/labels/*.png'): Image.fromarray(table[np.asarray(Image.open(fn))]).save(fn)
    (path/'codes.txt').write_text('\n'.join(new_codes))
    return path

@pytest.fixture(scope='module')
def run(scenes):
    code, _, err = gaugan('train', scenes, '--out', scenes.parent/'run', '--keep-critic', *tiny)
    assert code == 0, err
    return scenes.parent/'run'

def test_the_critic_is_kept_if_asked_for(run, scenes, tmp_path):
    critic = from_pretrained(run/'model/critic')
    assert isinstance(critic, MultiScaleCritic) and critic.labels == from_pretrained(run/'model').labels
    assert gaugan('train', scenes, '--out', tmp_path/'run', *tiny)[0] == 0
    assert not (tmp_path/'run/model/critic').exists()

@pytest.mark.numeric
def test_adapted_networks_do_what_the_old_ones_did(run, scenes, renamed):
    "In float64: the columns stand in another order, so the same numbers are added in another order too"
    old, new = (PairedDataLoaders.from_folder(o, size=32, bs=4).valid.one_batch() for o in (scenes, renamed))
    labels = LabelSpace(new_codes, void=None)
    plain = lambda o: o.as_subclass(torch.Tensor)
    for net in (from_pretrained(run/'model'), from_pretrained(run/'model/critic')):
        for p in net.double().parameters(): p.data.mul_(4)
        more, args = adapt_classes(net, labels, {'Lake': 'water'}).double(), ()
        if isinstance(net, MultiScaleCritic): args = plain(old[1]).double(),
        with torch.no_grad(): a, b = net(plain(old[0]), *args), more(plain(new[0]), *args)
        if args: a, b = a[0][-1], b[0][-1]
        assert a.std() > 1e-4
        assert (a - b).norm() < 1e-9*a.norm()

def test_a_learner_starts_from_a_run(run, renamed):
    dls = PairedDataLoaders.from_folder(renamed, size=32, bs=4)
    learn = spade_learner(dls, pretrained=run, mapping={'Lake': 'water'}, perceptual=None)
    gen, critic, kept = learn.model.generator, learn.model.critic, from_pretrained(run/'model/critic')
    assert (gen.ngf, gen.nhidden, critic.n_classes) == (4, 8, 19) and all(o.source for o in gen.matches)
    same = dict(critic.named_parameters())
    for k, v in kept.named_parameters():
        if not k.endswith('model0.0.weight'): assert torch.equal(v, same[k]), k
    before = {k: v.detach().clone() for k, v in learn.model.named_parameters()}
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    moved = {k for k, v in learn.model.named_parameters() if not torch.equal(v, before[k])}
    reads = {k for k in before if k.endswith(('mlp_shared.0.weight', 'model0.0.weight', 'fc.weight'))}
    assert reads and reads <= moved, 'also the layers that read labels are trained'

def test_weights_are_copies(run):
    gen = from_pretrained(run/'model')
    more = adapt_classes(gen, gen.labels)
    for (k, a), b in zip(gen.state_dict().items(), more.state_dict().values()): assert torch.equal(a, b) and a.data_ptr() != b.data_ptr(), k

@pytest.mark.parametrize('kw, words', [(dict(ngf=8), 'checkpoint has ngf=4'), (dict(n_layers=4), 'checkpoint has n_layers=3'),
    (dict(mapping={'Pond': 'water'}), "'Pond'"), (dict(pretrained='nowhere'), 'nowhere')], ids=str)
def test_refused(run, renamed, kw, words):
    dls = PairedDataLoaders.from_folder(renamed, size=32, bs=4)
    with pytest.raises(InputError, match=words): spade_learner(dls, **{**dict(pretrained=run, perceptual=None), **kw})

def test_a_critic_is_no_start(run, renamed):
    with pytest.raises(InputError, match='holds a critic'):
        spade_learner(PairedDataLoaders.from_folder(renamed, size=32, bs=4), pretrained=run/'model/critic', perceptual=None)

@pytest.mark.numeric
def test_a_generator_from_z_keeps_its_first_layer(tmp_path):
    gen = SPADEGenerator(3, ngf=2, nhidden=4, z_dim=8, size=64)
    gen.labels = LabelSpace('abc', void=None)
    more = adapt_classes(gen, LabelSpace('cab d'.replace(' ', ''), void=None))
    assert torch.equal(more.fc.weight, gen.fc.weight) and more.head_0.norm_0.mlp_shared[0].in_channels == 4
    w, v = more.head_0.norm_0.mlp_shared[0].weight, gen.head_0.norm_0.mlp_shared[0].weight
    assert torch.equal(w[:, :3], v[:, [2, 0, 1]]) and torch.allclose(w[:, 3], v.mean(1))

def test_names_and_void():
    streets, facades = LabelSpace(['Sky', 'traffic_light', 'Void']), LabelSpace(['Various', 'sky', 'Traffic Light', 'Door'])
    assert [o.how for o in match_classes(streets, facades)] == ['name', 'name', 'new', 'void']
    assert match_classes(streets, facades, {'door': 'sky'})[2] == ('Door', 'Sky', 'mapping')

# -- the command line --------------------------------------------------------------------------------------------

def test_train_pretrained(run, renamed, tmp_path):
    args = ['train', renamed, '--out', tmp_path/'run', '--pretrained', run, '--mapping', '{"Lake": "water"}', '--perceptual', 'none', '--size', '32']
    code, out, err = gaugan(*args, '--epochs', 1)
    assert code == 0 and '19 of 19 classes' in out and 'Lake' in out and '(mapping)' in out, err
    assert json.loads((tmp_path/'run/run.json').read_text())['mapping'] == {'Lake': 'water'}
    code, _, err = gaugan(*args, '--epochs', 2, '--resume')
    assert code == 0, err
    code, out, err = gaugan('generate', tmp_path/'run', renamed/'val/labels', '--out', tmp_path/'out')
    assert code == 0 and out.startswith('4 of 4'), err

def test_train_with_edges_from_a_run_without(run, renamed, tmp_path):
    data = shutil.copytree(renamed, tmp_path/'data')
    for o in ('train', 'val'): shutil.copytree(data/o/'labels', data/o/'instances')
    code, _, err = gaugan('train', data, '--edges', '--out', tmp_path/'run', '--pretrained', run, '--perceptual', 'none', '--size', '32', '--epochs', 1)
    assert code == 0, err
    assert from_pretrained(tmp_path/'run/model').edges

@pytest.mark.parametrize('args, code, words', [(['--mapping', '{"a": "b"}'], 1, '--pretrained'), (['--mapping', 'Lake'], 2, 'not a table of names'),
    (['--pretrained', 'nowhere'], 1, 'nowhere')], ids=str)
def test_train_refuses(scenes, tmp_path, args, code, words):
    got, _, err = gaugan('train', scenes, '--out', tmp_path/'run', *tiny, *args)
    assert got == code and words in err and 'Traceback' not in err

# -- the curve of docs/finetune.md -------------------------------------------------------------------------------

@pytest.fixture
def curve(monkeypatch):
    "The tool's command in this process: code, output, error"
    monkeypatch.syspath_prepend(str(ROOT/'tools'))
    tool = importlib.import_module('finetune_curve')
    def call(*args):
        with contextlib.redirect_stdout(io.StringIO()) as o, contextlib.redirect_stderr(io.StringIO()) as e:
            code = tool.main([str(o) for o in args])
        return code, o.getvalue(), e.getvalue()
    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)

def test_the_curve_goes_on_where_it_was(curve, run, renamed, tmp_path):
    out = tmp_path/'out'
    args = [out, renamed, '--start', run, '--test', 'val', '--size', '32x32', '--n', 6, '--n-test', 4, '--bs', 2, '--mapping', '{"Lake": "water"}']
    def lines(name): return [json.loads(o) for o in (out/f'{name}_0.jsonl').read_text().splitlines()]
    code, _, err = curve(*args, '--arm', 'pretrained', '--marks', .01)
    assert code == 0, err
    first = lines('pretrained')
    assert [o['minutes'] for o in first] == [0, .01] and first[1]['steps'] > 0
    for arm in ('pretrained', 'scratch'):
        code, _, err = curve(*args, '--arm', arm, '--marks', .01, .02)
        assert code == 0, err
    later = lines('pretrained')
    assert later[:2] == first and later[2]['minutes'] == .02 and later[2]['steps'] > first[1]['steps'], 'it goes on'
    assert lines('scratch')[0]['kid'] != first[0]['kid'] and [o.name for o in (out/'scratch_0').iterdir()] == ['at_0.02.pth']
    assert 'all marks are there' in curve(*args, '--arm', 'scratch', '--marks', .01)[1]
    code, _, err = curve(*args, '--arm', 'scratch', '--l1', 7)
    assert code == 1 and 'holds a training with' in err
    code, table, err = curve(out, '--table', '--to', tmp_path/'docs')
    assert code == 0 and re.search(r'\| 0.02 \| [\d.]+ \(1\) \| [\d.]+ \(1\) \| [01] of 1 \|', table), err
    assert all((tmp_path/'docs'/o).stat().st_size for o in ('curve.png', 'pictures.jpg'))
    assert len((tmp_path/'docs/scores.jsonl').read_text().splitlines()) == 6
    assert curve(tmp_path/'docs', '--table')[1] == table.split('\n', 1)[1], 'what is kept says the same, but has no pictures'

def test_the_curve_starts_from_the_weights(curve, run, renamed, monkeypatch):
    "At minute 0 the pretrained arm is the adapted painter with its critic; a random start has its widths"
    import finetune_curve as tool
    a = tool.parse(['out', str(renamed), '--start', str(run), '--test', 'val', '--size', '32x32', '--n', '6', '--n-test', '4', '--bs', '2', '--arm', 'pretrained'])
    dls = tool.loaders(a)
    one = tool.learner(a, dls).model
    a.arm = 'scratch'
    other = tool.learner(a, dls).model
    old = from_pretrained(run/'model')
    assert torch.equal(one.generator.up_0.conv_0.weight_orig, old.up_0.conv_0.weight_orig)
    assert torch.equal(one.critic.discriminator_0.model0[0].bias, from_pretrained(run/'model/critic').discriminator_0.model0[0].bias)
    shapes = lambda net: {k: v.shape for k, v in net.state_dict().items()}
    assert shapes(one.generator) == shapes(other.generator) and shapes(one.critic) == shapes(other.critic)
    assert not torch.equal(one.generator.up_0.conv_0.weight_orig, other.generator.up_0.conv_0.weight_orig)

# -- fine-tuning as fastai knows it, for every family ------------------------------------------------------------

families = ['spade', 'sean', 'oasis', 'clade']
old_labels = landscape_labels()
new_labels = LabelSpace(['Heaven', *old_labels.codes[:0:-1], 'balloon'], void=None)   # other order, another name, a new one

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    "Generator and critic of each family, as a run with --keep-critic leaves them"
    root = tmp_path_factory.mktemp('families')
    dls = PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=2)
    for name in families:
        options = {k: v for k, v in dict(ngf=2, nhidden=4, ndf=4, style_dim=4, width=2, perceptual=None).items() if k in usual(name)}
        model = family_named(name).learner(dls, **options).model
        save_pretrained(model.generator, root/name, old_labels)
        save_pretrained(model.critic, root/name/'critic', old_labels)
    return root

def usual(name): return family_named(name).usual()

@pytest.fixture
def others():
    "Scenes with the new classes"
    to_new = np.array([new_labels.codes.index(dict(sky='Heaven').get(o, o)) for o in old_labels.codes], np.uint8)
    pairs = [Pair(to_new[o.segmap], o.photo) for o in (draw_landscape(i, 32) for i in range(8))]
    return PairedDataLoaders.from_pairs(pairs[2:], pairs[:2], new_labels, 32, 2)

def from_trained(name, dls, folder, **kwargs):
    more = dict(perceptual=None) if 'perceptual' in usual(name) else {}
    return family_named(name).learner(dls, pretrained=folder, mapping={'Heaven': 'sky'}, **more, **kwargs)

def weights_of(learn): return [[p.detach().clone() for p in group] for group in learn.opt.param_lists]
def moved_groups(learn, before): return [any((a != b).any() for a, b in zip(x, y)) for x, y in zip(before, learn.opt.param_lists)]

@pytest.mark.parametrize('name', families)
def test_plain_fit_and_fine_tune(name, trained, others):
    learn = from_trained(name, others, trained/name)
    gen, critic = learn.model.generator, learn.model.critic
    assert (gen.n_classes, critic.n_classes) == (20, 20) and sum(o.source is not None for o in gen.matches) == 19
    kept, same = dict(from_pretrained(trained/name/'critic').named_parameters()), dict(critic.named_parameters())
    equal = [k for k, v in kept.items() if v.shape == same[k].shape and torch.equal(v, same[k])]
    assert len(equal) >= len(kept) - 4, 'the critic is the trained one, too'
    with learn.no_bar(), learn.no_logging():
        learn.fit(1)
        learn.fit_one_cycle(1, 1e-3)
        learn.fine_tune(1, freeze_epochs=1)
    assert all(p.isfinite().all() for p in learn.model.parameters()) and len(learn.history) == 4
    assert learn.predict(others.valid_ds.items[0].segmap, ids='library').size == (32, 32)

@pytest.mark.parametrize('name', families)
def test_frozen_groups_stay_and_the_critic_does_not(name, trained, others):
    learn = from_trained(name, others, trained/name, average=None)
    learn.create_opt()
    n = len(learn.opt.param_lists)
    for k in range(n - 1):
        learn.freeze_to(k)
        before = weights_of(learn)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
        assert moved_groups(learn, before) == [False]*k + [True]*(n - k), f'{n} groups, frozen to {k}'
    learn.unfreeze()
    before = weights_of(learn)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    assert all(moved_groups(learn, before))

@pytest.mark.numeric
@pytest.mark.once
@pytest.mark.parametrize('name', families)
def test_early_groups_learn_slower_if_asked_for(name, trained, others):
    "Adam's first step moves each weight by the rate of its group, times that of its network"
    learn = from_trained(name, others, trained/name, average=None)
    learn.create_opt()
    before = weights_of(learn)
    class OneStep(Callback):
        order, run_valid = 90, False
        def after_batch(self): raise CancelFitException
    with learn.no_bar(), learn.no_logging(): learn.fit(1, slice(1e-6, 1e-3), cbs=OneStep())
    steps = [max((a - b).abs().max().item() for a, b in zip(x, y)) for x, y in zip(before, learn.opt.param_lists)]
    rates = [h['lr'] for h in learn.opt.hypers]
    mult = learn.model.turns[0].lr_mult
    assert rates == sorted(rates) and rates[0] == pytest.approx(1e-6) and rates[-1] == pytest.approx(1e-3)
    for rate, step in zip(rates[:-1], steps): assert step == pytest.approx(rate*mult, rel=.1), (rates, steps)

def test_a_painter_of_another_size(tmp_path):
    gen = SPADEGenerator(19, ngf=2, nhidden=4, z_dim=4, upsampling='more', size=(64, 128)).eval()
    gen.labels = old_labels
    half = at_size(gen, (32, 64))
    assert (half.only_size, half.upsampling) == ((32, 64), 'normal') and half.labels == old_labels
    for (k, a), b in zip(gen.state_dict().items(), half.state_dict().values(), strict=True):
        assert torch.equal(a, b) and a.data_ptr() != b.data_ptr(), k
    back = at_size(half, (64, 128))
    ids, z = torch.zeros(1, 64, 128, dtype=torch.long), torch.ones(1, 4)
    with torch.no_grad(): assert torch.equal(back(ids, z=z), gen(ids, z=z)) and half(ids[:, ::2, ::2], z=z).shape == (1, 3, 32, 64)
    for size in ((64, 128), (16, 32), (128, 256), (64, 64)): assert at_size(gen, size) is gen
    plain = SPADEGenerator(19, ngf=2, nhidden=4)
    assert at_size(plain, (64, 64)) is plain
    dls = PairedDataLoaders.from_landscapes(n=2, n_valid=2, size=32, bs=2)
    gen = at_size(SPADEGenerator(19, ngf=2, nhidden=4, z_dim=4, upsampling='more', size=64), (64, 64))
    gen.labels = old_labels
    assert spade_learner(dls, pretrained=gen, perceptual=None).model.generator.only_size == (32, 32)

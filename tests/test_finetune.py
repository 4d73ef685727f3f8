"""Trained networks for other classes: runs, critics and the command line, with checkpoints on disk."""
import contextlib, io, json, re, shutil, subprocess, sys
from pathlib import Path
import numpy as np, pytest, torch
from fastai.vision.all import set_seed
from PIL import Image
from gaugan_fastai.cli import main
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.landscapes import landscape_labels, write_landscapes
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.finetune import adapt_classes, match_classes
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.pretrained import from_pretrained, save_pretrained

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

def test_the_curve_goes_on_where_it_was(scenes, renamed, tmp_path):
    tool = Path(__file__).parent.parent/'tools/finetune_curve.py'
    args = [renamed, '--source', scenes, '--source-train', 'train', '--test', 'val', '--size', '32x32', '--preset', 'cpu', '--perceptual', 'none',
        '--pretrain-steps', 2, '--steps', '0,2', '--save-steps', 1, '--mapping', '{"Lake": "water"}', '--work', tmp_path/'work', '--out', tmp_path/'out']
    def curve(*more):
        res = subprocess.run([sys.executable, tool, *map(str, args + list(more))], capture_output=True, text=True)
        assert res.returncode == 0, res.stderr
        return res.stdout, json.loads((tmp_path/'out/scores.json').read_text())
    out, first = curve('--seeds', '0')
    assert re.search(r'Lake +<- water \(mapping\)', out) and re.search(r'\| 2 \| random \| 1 \|', out)
    out, both = curve('--seeds', '0,1')
    assert 'source: step' not in out and both['arms']['random']['0'] == first['arms']['random']['0']
    adapted, random = ([both['arms'][o][s]['0'] for s in '01'] for o in ('adapted', 'random'))
    assert adapted[0] == adapted[1] and random[0] != random[1], 'before the first step the adapted one has no chance in it'
    same, other = adapted[0], random[0]
    assert same['judged_loss'] == same['loss'] and other['judged_loss'] != other['loss'] and same['loss'] == pytest.approx(same['gan'] + same['feat'])
    assert (tmp_path/'out/curve.png').is_file() and (tmp_path/'out/fakes.jpg').is_file()

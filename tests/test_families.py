"""Every registered family: trained from the command line, resumed, carried over, painted with; what it lacks is refused."""
import json, shutil, subprocess, sys
import pytest, torch
from fastai.vision.all import set_seed
from test_cli import gaugan, refused
from gaugan_fastai import registry
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.landscapes import draw_landscape, write_landscapes
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.finetune import adapt_classes, learner_from
from gaugan_fastai.models.oasis import OASISGenerator
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.pretrained import from_pretrained, load_original, model_config, recognise
from gaugan_fastai.runs import Run, load_model, paint

registry.load_families()
names = sorted(registry.families)
made = dict(oasis=OASISGenerator, pix2pix=UNetGenerator, sean=SEANGenerator, spade=SPADEGenerator)
small = ['--size', '32', '--bs', '4', '--ngf', '4']
perceives = 'sean', 'spade'   # those with a perceptual loss
options = {k: [*small, *['--preset', 'cpu']*(k != 'pix2pix'), *['--perceptual', 'none']*(k in perceives)] for k in names}

@pytest.fixture(scope='module')
def scenes(tmp_path_factory): return write_landscapes(tmp_path_factory.mktemp('families')/'scenes', n_train=8, n_val=4, size=32, seed=0)

@pytest.fixture(scope='module')
def renamed(scenes):
    "The same files, the first class under another name and one class more"
    path = shutil.copytree(scenes, scenes.parent/'renamed')
    codes = (path/'codes.txt').read_text().splitlines()
    (path/'codes.txt').write_text('\n'.join(['heaven', *codes[1:], 'balloon']))
    (path/'palette.txt').unlink()
    return path

@pytest.fixture(scope='module')
def runs(scenes):
    "A run of one epoch of each family"
    for k in names:
        code, words, err = gaugan('train', scenes, '--model', k, '--out', scenes.parent/k, '--epochs', 1, '--keep-critic', *options[k])
        assert code == 0, err
    return scenes.parent

@pytest.mark.parametrize('name', names)
def test_a_run_leaves_what_painting_needs(name, runs):
    gen = from_pretrained(runs/name/'model')
    assert type(gen) is made[name] and json.loads((runs/name/'run.json').read_text())['model'] == name
    assert from_pretrained(runs/name/'model/critic').n_classes == gen.n_classes
    assert len(list((runs/name/'samples').glob('*.png'))) == 1
    if name == 'sean': assert gen.usual is not None and len(gen.usual_classes()) > 9

@pytest.mark.parametrize('name', names)
def test_it_is_painted_with(name, runs, scenes, tmp_path):
    code, words, err = gaugan('generate', runs/name, scenes/'train/labels', '--out', tmp_path/'p')
    assert code == 0 and words.startswith('8 of 8'), err

@pytest.mark.parametrize('name', names)
def test_it_resumes(name, runs, scenes, tmp_path):
    out = shutil.copytree(runs/name, tmp_path/'run')
    args = ['train', scenes, '--out', out, '--epochs', 2, '--resume']
    other = names[names.index(name) - 1]
    assert f'was started with model={name}, not {other}' in refused(*args, '--model', other, *options[other])
    code, _, err = gaugan(*args, '--model', name, *options[name])
    assert code == 0 and json.loads((out/'progress.json').read_text())['epochs'] == 2, err

@pytest.mark.parametrize('name', names)
def test_it_is_carried_over_to_other_classes(name, runs, renamed, tmp_path):
    more = ['--perceptual', 'none']*(name in perceives)
    args = ['train', renamed, '--model', name, '--out', tmp_path/'run', '--epochs', 1, '--size', 32, '--bs', 4, *more,
        '--pretrained', runs/name, '--mapping', '{"heaven": "sky"}']
    code, words, err = gaugan(*args)
    assert code == 0 and '19 of 20 classes' in words, err
    gen = from_pretrained(tmp_path/'run/model')
    assert (type(gen), gen.n_classes, gen.ngf) == (made[name], 20, 4)
    code, words, err = gaugan('generate', tmp_path/'run', renamed/'train/labels', '--out', tmp_path/'p')
    assert code == 0, err

@pytest.mark.parametrize('name', names)
@pytest.mark.numeric
def test_before_the_first_step_the_weights_are_the_checkpoints(name, runs, scenes):
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    kwargs = dict(perceptual=None) if name in perceives else {}
    model = learner_from(name, dls, runs/name, **kwargs).model
    for net, where in ((model.generator, 'model'), (model.critic, 'model/critic')):
        kept = from_pretrained(runs/name/where)
        assert model_config(net) == model_config(kept)
        for k, v in net.state_dict().items(): assert torch.equal(v.cpu(), kept.state_dict()[k]), k

@pytest.mark.parametrize('name', names)
@pytest.mark.numeric
def test_classes_in_another_order_paint_the_same(name, runs):
    "In float64, since the same numbers are added in another order"
    gen = from_pretrained(runs/name/'model')
    for o in gen.parameters(): o.data.mul_(3)
    more, ids = adapt_classes(gen, LabelSpace(gen.labels.codes[::-1], void=None)), torch.from_numpy(draw_landscape(8, 32).segmap)[None].long()
    noise = dict(z=torch.ones(1, 64)) if name == 'oasis' else {}
    with torch.no_grad(): a, b = gen.double()(ids, **noise), more.double()(gen.n_classes - 1 - ids, **noise)
    assert a.std() > 1e-3 and (a - b).norm() < 1e-8*a.norm()
    if name == 'sean': torch.testing.assert_close(more.usual, gen.usual.flip(0))

@pytest.mark.parametrize('name', names)
def test_a_learner_needs_a_width_and_no_network(name, scenes):
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    assert registry.family_named(name).learner(dls, ngf=8).model.generator.ngf == 8

# -- refused -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('args, words', [(['--model', 'clayde'], "no model 'clayde' to train: it is one of"),
    (['--model', 'pix2pix', '--z-dim', 4], 'the model pix2pix has no z_dim: leave --z-dim out'),
    (['--model', 'pix2pix', '--perceptual', 'none'], 'leave --perceptual out'), (['--model', 'sean', '--kl', 1], 'leave --kl out'),
    (['--model', 'pix2pix', '--nhidden', 4], 'leave --nhidden out'), (['--model', 'pix2pix', '--preset', 'cpu'], 'leave --preset out'),
    (['--mapping', '{"a": "b"}'], 'give --pretrained too')], ids=str)
def test_an_option_that_a_family_lacks(args, words, scenes, tmp_path):
    assert words in refused('train', scenes, '--out', tmp_path/'run', '--epochs', 1, '--size', 32, *args)
    assert not (tmp_path/'run/run.json').exists()

def test_a_checkpoint_of_another_family(runs, scenes, tmp_path):
    for a, b in ((0, 1), (1, 2), (2, 0)):
        words = refused('train', scenes, '--out', tmp_path/'run', '--epochs', 1, '--size', 32, '--model', names[a], '--pretrained', runs/names[b])
        assert f'holds a {made[names[b]].__name__}' in words and f'choose --model {names[b]}' in words, words

def test_an_option_that_the_library_lacks(scenes, tmp_path):
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    with pytest.raises(InputError, match='has no levels: leave levels out') as e: Run(dls, tmp_path/'run', levels=3)
    assert (e.value.option, e.value.cure) == ('levels', 'leave levels out') and not (tmp_path/'run').exists()

def test_a_network_that_the_learner_cannot_make(scenes):
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    plain = SEANGenerator(dls.n_classes, 2, 4, 4, 2, spectral=False)
    plain.labels = dls.labels
    with pytest.raises(InputError, match='SEANGenerator with spectral=False: the model sean makes it with spectral=True only'):
        learner_from('sean', dls, plain, perceptual=None)

# -- files of others ---------------------------------------------------------------------------------------------

@pytest.mark.numeric
@pytest.mark.parametrize('kwargs', [{}, dict(widths=[8, 8, 8, 8, 4, 2, 1]), dict(widths=[6, 5, 4, 3, 2, 2, 2]), dict(upsampling='most'),
    dict(upsampling='most', widths=[4, 4, 4, 3, 3, 2, 1, 1]), dict(z_dim=3, size=64, widths=[8, 8, 8, 8, 4, 2, 1])], ids=str)
def test_widths_are_read_off_a_checkpoint(kwargs, tmp_path):
    set_seed(0)
    gen, segmap = SPADEGenerator(3, ngf=4, nhidden=4, **kwargs).eval(), torch.randint(3, (1, 128, 128))
    args = (segmap,) if not gen.z_dim else (segmap[:, :64, :64], None, torch.ones(1, 3))
    torch.save(gen.state_dict(), tmp_path/'net.pth')
    back = load_original(tmp_path/'net.pth')
    assert back.channels == gen.channels and (back.widths is None) == ('widths' not in kwargs)
    with torch.no_grad(): assert torch.equal(back(*args), gen(*args))

def test_the_longest_mark_wins_whatever_the_order(monkeypatch):
    for order in (1, -1):
        monkeypatch.setattr(registry, 'checkpoints', dict(list(registry.checkpoints.items())[::order]))
        assert recognise({'head_0.norm_0.mlp_shared.0.weight': 0}) == 'SPADE generator'
        assert recognise({'head_0.norm_0.conv_gamma.weight': 0}) == 'CLADE generator'
        assert recognise({'x.head_0.norm_0.conv_gamma.weight': 0}) == ''

def test_options_that_a_checkpoint_does_not_know(tmp_path):
    torch.save(SEANGenerator(3, 2, 4, 4, 2).state_dict(), tmp_path/'G.pth')
    for k, v in dict(edges=True, aspect=2., z_dim=32).items():
        with pytest.raises(InputError, match=f'is a SEAN generator, which knows no {k}: leave {k} out') as e: load_original(tmp_path/'G.pth', **{k: v})
        assert e.value.option == k

def test_a_critic_of_two_families(tmp_path):
    torch.save(MultiScaleCritic(3, 4, n_layers=3, strides=(2, 2, 2)).state_dict(), tmp_path/'D.pth')
    assert recognise(torch.load(tmp_path/'D.pth')) == 'SPADE critic of 3 layers or a SEAN critic'
    words = refused('convert', tmp_path/'D.pth', '--out', tmp_path/'x')
    assert 'whose names and shapes are alike: pass --family spade or --family sean' in words
    for family, strides in dict(spade=[2, 2, 1], sean=[2, 2, 2]).items():
        assert gaugan('convert', tmp_path/'D.pth', '--out', tmp_path/family, '--family', family)[0] == 0
        assert model_config(from_pretrained(tmp_path/family))['strides'] == strides

# -- a family is a file ------------------------------------------------------------------------------------------

def test_what_saves_and_loads_imports_no_family():
    code = ("import sys, gaugan_fastai.finetune; "
        "print([k for k in sys.modules if k.startswith(('gaugan_fastai.models', 'gaugan_fastai.critics', 'gaugan_fastai.encoder'))])")
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == '[]\n'

dots = """
from torch import nn
from torch.nn import functional as F
from gaugan_fastai.core import onehot
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.registry import register, register_checkpoint, register_learner, shape_of

class Dots(nn.Module):
    "A colour a class"
    def __init__(self, n_classes, edges=False):
        super().__init__()
        self.n_classes, self.edges, self.factor = n_classes, edges, 1
        self.colours = nn.Conv2d(n_classes, 3, 1)
    def forward(self, segmap): return self.colours(onehot(segmap, self.n_classes)).tanh()
    def for_inference(self): return self.eval()

def dots_learner(dls, ndf=4, cbs=None, path=None, model_dir='models', reuse_fake=False):
    terms = dict(l1=lambda turn: F.l1_loss(turn.fake, turn.photo))
    critic = MultiScaleCritic(dls.n_classes, ndf, 1, 2)
    return SynthesisLearner(dls, Dots(dls.n_classes), critic, terms=terms, cbs=cbs, path=path, model_dir=model_dir, reuse_fake=reuse_fake)

register(Dots, family='dots', columns={'^colours.weight$': 0})
register_checkpoint('Dots', 'colours.', Dots, lambda state: dict(n_classes=shape_of(state, 'colours.weight')[1]))
register_learner('dots', dots_learner)
"""

def test_a_family_is_one_file(scenes, renamed, tmp_path, monkeypatch):
    "A file in `models` is all: it is trained, resumed, converted, painted with and carried over, and its options are its own"
    import gaugan_fastai.models as models
    for o in ('networks', 'checkpoints', 'families'): monkeypatch.setattr(registry, o, getattr(registry, o).copy())
    (tmp_path/'models').mkdir()
    (tmp_path/'models/dots.py').write_text(dots)
    monkeypatch.setattr(models, '__path__', [*models.__path__, str(tmp_path/'models')])
    args = ['train', scenes, '--model', 'dots', '--size', 32, '--bs', 4, '--out', tmp_path/'run']
    try:
        assert gaugan(*args, '--epochs', 1)[0] == 0
        assert gaugan(*args, '--epochs', 2, '--resume')[0] == 0
        assert 'the model dots has no ngf: leave --ngf out' in refused(*args, '--ngf', 4)
        code, words, err = gaugan('generate', tmp_path/'run', scenes/'val/labels', '--out', tmp_path/'p')
        assert code == 0 and words.startswith('4 of 4'), err
        code, words, err = gaugan('train', renamed, *args[2:-1], tmp_path/'more', '--epochs', 1, '--pretrained', tmp_path/'run')
        assert code == 0 and '18 of 20 classes' in words, err
        torch.save(from_pretrained(tmp_path/'run/model').state_dict(), tmp_path/'theirs.pth')
        code, words, err = gaugan('convert', tmp_path/'theirs.pth', '--out', tmp_path/'converted')
        assert code == 0 and 'is a Dots of 60 parameters' in words, err
    finally: sys.modules.pop('gaugan_fastai.models.dots', None)

"""Every registered family: trained from the command line, resumed, carried over, painted with; what it lacks is refused."""
import json, shutil, subprocess, sys
import numpy as np, pytest, torch
from PIL import Image
from fastai.vision.all import set_seed
from test_cli import gaugan, refused
from gaugan_fastai import registry
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.landscapes import draw_landscape, write_landscapes
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.finetune import adapt_classes, learner_from, trained_networks
from gaugan_fastai.models.sean import SEANGenerator, sean_learner
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.data.unpaired import UnpairedDataLoaders, scene_of_kind
from gaugan_fastai.pretrained import from_pretrained, load_networks, load_original, model_config, recognise
from gaugan_fastai.runs import Run, load_model, paint

registry.load_families()
names = sorted(k for k, o in registry.families.items() if o.data == 'pairs')
made = {o.family: o.cls for o in registry.networks.values() if o.role == 'generator' and o.family in names}
small = ['--size', '32', '--bs', '4', '--ngf', '4']
def known(name, **options):
    "Those of the options that a family has"
    return {k: v for k, v in options.items() if k in registry.families[name].usual()}
def typed(**options): return [o for k, v in options.items() for o in (f'--{k}', v)]
options = {k: [*small, *typed(**known(k, preset='cpu', perceptual='none'))] for k in names}

def test_the_families_of_the_course(): assert {'pix2pix', 'sean', 'spade'} <= set(names) == set(made)

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

@pytest.mark.parametrize('exact', [True, False], ids=['by patterns', 'dense'])
@pytest.mark.parametrize('name', names)
def test_it_trains_in_bfloat16(name, exact):
    "Mixed precision, both ways to compute: weights stay float32 and finite (a GPU takes the dense way)"
    dls = PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=2)
    learn = registry.families[name].learner(dls, ngf=4, **known(name, preset='cpu', perceptual=None))
    learn.to_bf16()
    with ways(exact=exact), learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in learn.model.parameters())

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
    more = typed(**known(name, perceptual='none'))
    args = ['train', renamed, '--model', name, '--out', tmp_path/'run', '--epochs', 1, '--size', 32, '--bs', 4, *more,
        '--pretrained', runs/name, '--mapping', '{"heaven": "sky"}']
    code, words, err = gaugan(*args)
    assert code == 0 and '19 of 20 classes' in words, err
    gen = from_pretrained(tmp_path/'run/model')
    assert (type(gen), gen.n_classes, gen.ngf) == (made[name], 20, 4)
    code, words, err = gaugan('generate', tmp_path/'run', renamed/'train/labels', '--out', tmp_path/'p')
    assert code == 0, err

@pytest.mark.parametrize('name', names)
@pytest.mark.once
@pytest.mark.numeric
def test_before_the_first_step_the_weights_are_the_checkpoints(name, runs, scenes):
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    model = learner_from(name, dls, runs/name, **known(name, perceptual=None)).model
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

def plain_sean(dls):
    net = SEANGenerator(dls.n_classes, 2, 4, 4, 2, spectral=False)
    net.labels = dls.labels
    return net

def test_a_network_is_trained_on_as_it_is(scenes):
    "A learner that takes trained networks asks nothing of how they were built"
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    learn = learner_from('sean', dls, plain_sean(dls), perceptual=None)
    assert not learn.model.generator.spectral

def test_a_network_that_the_learner_cannot_make(scenes, monkeypatch):
    "A family of somebody else, whose learner does not know `pretrained`"
    def theirs(dls, ngf=2, nhidden=4, style_dim=4, width=2, perceptual=None):
        return sean_learner(dls, 'cpu', ngf, nhidden, style_dim, width, perceptual=perceptual)
    monkeypatch.setitem(registry.families, 'sean', registry.families['sean']._replace(learner=theirs))
    dls = PairedDataLoaders.from_folder(scenes, size=32, bs=4)
    with pytest.raises(InputError, match='SEANGenerator with spectral=False: the model sean makes it with spectral=True only'):
        learner_from('sean', dls, plain_sean(dls), perceptual=None)

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

# -- two generators, photos without partners -----------------------------------------------------------------------

tints = """
import torch
from torch import nn
from torch.nn import functional as F
from gaugan_fastai.callbacks import ModelAverage
from gaugan_fastai.core import InputError
from gaugan_fastai.finetune import trained_networks
from gaugan_fastai.registry import register, register_learner
from gaugan_fastai.trainer import TurnsLearner
from gaugan_fastai.turns import Turn, TurnsModel

class Tint(nn.Module):
    "Other colours for a photo; sides are multiples of 4"
    multiple = 4
    def __init__(self, nf=4):
        super().__init__()
        self.nf, self.net = nf, nn.Sequential(nn.Conv2d(3, nf, 1), nn.ReLU(), nn.Conv2d(nf, 3, 1))
    def forward(self, x):
        if any(o % 4 for o in x.shape[-2:]): raise InputError('no multiple of 4', 'pad it')
        return self.net(x).tanh()

class Mood(nn.Module):
    "How bright is it?"
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 1)
    def forward(self, x): return self.layer(x).mean((1, 2, 3))

def _paint(gan, a, target, made=None):
    fakes = gan.there(a), gan.back(target)
    cycle = F.l1_loss(gan.back(fakes[0]), a) + F.l1_loss(gan.there(fakes[1]), target)
    return fakes, dict(gan=-(gan.judge_b(fakes[0]) + gan.judge_a(fakes[1])).mean(), cycle=10*cycle)

def _judge(gan, a, target, made):
    real, fake = gan.judge_b(target) + gan.judge_a(a), gan.judge_b(made[0].detach()) + gan.judge_a(made[1].detach())
    return dict(critic=((real - 1)**2 + fake**2).mean())

class Tints(TurnsModel):
    def __init__(self, there, back, judge_a=None, judge_b=None):
        super().__init__()
        self.there, self.back, self.judge_a, self.judge_b = there, back, judge_a or Mood(), judge_b or Mood()
    def make(self, a): return self.there(a)
    def averaged(self): return {'there.': self.there, 'back.': self.back}
    def critics(self): return dict(judge_a=self.judge_a, judge_b=self.judge_b)
    @property
    def turns(self):
        movers = lambda *nets: [p for o in nets for p in o.parameters()]
        return [Turn('painters', movers(self.there, self.back), _paint), Turn('critics', movers(self.judge_a, self.judge_b), _judge)]

def tints_learner(
    dls, # photos
    nf:int=4, # width
    average:float|None=.9, # decay of the average
    pretrained=None, # a folder of both
    cbs=None,
    **kwargs
):
    nets = trained_networks(pretrained) if pretrained else dict(there=Tint(nf), back=Tint(nf))
    return TurnsLearner(dls, Tints(*(o.train() for o in nets.values())), cbs=[*([ModelAverage(average)] if average else []), *(cbs or [])], **kwargs)

register(Tint, 'translator', 'tints')
register(Mood, 'critic', 'tints')
register_learner('tints', tints_learner, data='two heaps')
"""

@pytest.fixture
def family(tmp_path, monkeypatch):
    "A family of which nobody has heard, as a file in `models`; two folders of photos"
    import gaugan_fastai.models as models
    for o in ('networks', 'checkpoints', 'families'): monkeypatch.setattr(registry, o, getattr(registry, o).copy())
    (tmp_path/'models').mkdir()
    (tmp_path/'models/tints.py').write_text(tints)
    monkeypatch.setattr(models, '__path__', [*models.__path__, str(tmp_path/'models')])
    for kind in ('day', 'dusk'):
        (tmp_path/kind).mkdir()
        for i in range(9): Image.fromarray(scene_of_kind(i, kind, (36, 48))).save(tmp_path/f'{kind}/{i}.png')
    yield tmp_path
    sys.modules.pop('gaugan_fastai.models.tints', None)

def test_a_family_of_two_generators_is_one_file(family):
    "Trained on two folders, resumed, refused in sentences, left as two models, translated with in both ways, trained on from"
    day, dusk, out = family/'day', family/'dusk', family/'run'
    args = ['train', day, dusk, '--model', 'tints', '--size', 32, '--bs', 4, '--out', out, '--keep-critic']
    code, words, err = gaugan(*args, '--epochs', 1)
    assert code == 0 and '8 photos of A and 8 of B to train' in words and f'gaugan translate {out} PHOTOS' in words, err
    settings = json.loads((out/'run.json').read_text())
    assert settings['size'] == [32, 32] and settings['model'] == 'tints' and 'classes' not in settings
    assert settings['data']['photos of A'] == 8 and settings['data']['folder'] == f'{day} and {dusk}'
    assert Image.open(out/'samples/epoch_001.png').size == (3*36, 36), 'photo of A, made, photo of B'

    first = load_networks(out/'model')
    assert list(first) == ['there', 'back'] and {type(o).__name__ for o in first.values()} == {'Tint'}
    assert first['back'].card['training'].startswith('8 photos of A and 8 of B at 32x32') and first['back'].card['size'] == [32, 32]
    assert type(from_pretrained(out/'model/judge_b')).__name__ == 'Mood'

    code, words, err = gaugan(*args, '--epochs', 2, '--resume')
    assert code == 0 and json.loads((out/'progress.json').read_text())['epochs'] == 2, err
    assert any((a != b).any() for a, b in zip(first['there'].parameters(), load_networks(out/'model')['there'].parameters()))
    turned = refused('train', dusk, day, *args[3:], '--epochs', 3, '--resume')
    assert 'was started with other data (8 photos of A and 8 photos of B in' in turned
    assert 'has had its 2 epochs' in refused(*args, '--epochs', 2, '--resume')

    for way, net in zip(([], ['--reverse']), load_networks(out/'model').values()):
        code, words, err = gaugan('translate', out, day, '--out', family/f'p{len(way)}', *way)
        assert code == 0 and words.startswith('9 of 9 photos translated'), err
        x = torch.from_numpy(scene_of_kind(0, 'day', (36, 48))).permute(2, 0, 1)[None]/127.5 - 1
        want = (net(x)[0].detach() + 1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
        assert (np.asarray(Image.open(family/f'p{len(way)}/0.png')) == want).all()

    args[args.index(out)] = family/'more'
    assert gaugan(*args, '--epochs', 1, '--pretrained', out)[0] == 0
    kept, learn = trained_networks(out), registry.family_named('tints').learner(UnpairedDataLoaders.from_folders(day, dusk, size=32), pretrained=out)
    assert list(kept) == ['there', 'back', 'judge_a', 'judge_b']
    for k, net in kept.items():
        for a, b in zip(net.parameters(), getattr(learn.model, k).parameters(), strict=True): assert torch.equal(a, b.cpu()), k

@pytest.mark.parametrize('args, words', [(['day'], '1 folder was given (day): this model learns from 2: a folder of photos of kind A, and'),
    (['day', 'dusk', 'day'], '3 folders were given'), (['day', 'dusk', '--edges'], 'the model tints has no edges: leave --edges out'),
    (['day', 'dusk', '--mapping', '{"a": "b"}'], 'give --pretrained too'), (['day', 'dusk', '--ngf', 4], 'leave --ngf out'),
    (['day', 'dusk', '--mapping', '{"a": "b"}', '--pretrained', 'run'], 'the model tints reads no classes: leave --mapping out'),
    (['day', 'none'], 'none'), (['day', 'dusk', '--bs', 20], 'lower --bs')], ids=str)
def test_what_such_a_family_refuses(family, args, words, monkeypatch):
    monkeypatch.chdir(family)
    assert words in refused('train', '--model', 'tints', '--size', 32, '--out', 'new', '--epochs', 1, *args)
    assert not (family/'new/run.json').exists()

def test_help_of_a_family(family):
    code, words, _ = gaugan('train', '--model', 'tints', '--help')
    assert code == 0 and '--nf (count)' in words and '--valid-a' in words and '--void' not in words and '--ngf' not in words
    assert '2 paths: a folder of photos of kind A' in words and '128x128, 1 a step' in words
    code, words, _ = gaugan('train', '--help')
    assert code == 0 and '--z-dim' in words and '--valid-a' not in words and 'tints' in words

def test_a_run_left_by_it_does_not_paint_maps(family, scenes):
    args = ['train', family/'day', family/'dusk', '--model', 'tints', '--size', 32, '--bs', 4, '--out', family/'run', '--epochs', 1]
    assert gaugan(*args, '--average', 'none')[0] == 0
    assert json.loads((family/'run/run.json').read_text())['average'] is None
    assert 'holds a Tint, which paints photos' in refused('generate', family/'run', scenes/'val/labels')
    assert 'holds a translator: training starts from a generator' in refused('train', scenes, '--pretrained', family/'run/model/there', '--out', family/'new', '--epochs', 1)

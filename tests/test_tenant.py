"""A diffusion model moves in: one file, no line of the library; it learns alone, and paints by seed, steps and guidance."""
import math, signal
import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from copy import deepcopy
from fastai.vision.all import L, delegates, load_learner, set_seed, store_attr
from test_cli import gaugan, refused
from gaugan_fastai import registry
from gaugan_fastai.callbacks import ModelAverage
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape, write_landscapes
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import PaintingLearner
from gaugan_fastai.models.spade import SPADEGenerator, norm_learner
from gaugan_fastai.painter import Painter
from gaugan_fastai.pictures import seeded
from gaugan_fastai.pretrained import from_pretrained, model_config, save_pretrained
from gaugan_fastai.registry import painting_options, register, register_learner
from gaugan_fastai.terminal import end_output, generate_parser, prepare_process, sentence_of, tell_painted, train_parser
from gaugan_fastai.turns import SoloModel, network_groups

# -- the tenant's file -------------------------------------------------------------------------------------------

def kept(t): return torch.cos((t + .008)/1.008*math.pi/2)**2   # of the photo's variance: Nichol and Dhariwal 2021

class Denoiser(nn.Module):
    "Find the noise in a photo that its label map goes with (Ho et al. 2020), and paint by DDIM (Song et al. 2021)"
    styles, painting, labels, factor = 'chance', ('steps', 'guidance'), None, 1
    def __init__(self, n_classes:int, nf:int=32):
        super().__init__()
        store_attr()
        self.first = nn.Conv2d(3 + n_classes, nf, 3, padding=1)
        self.time = nn.Sequential(nn.Linear(8, nf), nn.SiLU(), nn.Linear(nf, nf))
        self.middle = nn.ModuleList([nn.Conv2d(nf, nf, 3, padding=d, dilation=d) for d in (1, 2, 4, 1)])
        self.last = nn.Conv2d(nf, 3, 3, padding=1)
        nn.init.zeros_(self.last.weight)

    def noise(self, x, t, onehot):
        "The noise in x `[B,3,H,W]` at the times t `[B]`, 0..1"
        waves = t[:, None]*2**torch.arange(4, device=t.device)*math.pi/2
        x = self.first(torch.cat([x, onehot], 1)) + self.time(torch.cat([waves.sin(), waves.cos()], 1))[..., None, None]
        for conv in self.middle: x = x + conv(F.silu(F.group_norm(x, 4)))
        return self.last(F.silu(x))

    def onehot(self, segmap): return F.one_hot(segmap.as_subclass(torch.Tensor).long(), self.n_classes).movedim(-1, 1).float()

    def losses(self, segmap, photo):
        "Mean square of what was not found of the noise; one map in ten is hidden, for guidance (Ho and Salimans 2022)"
        photo, B = photo.as_subclass(torch.Tensor), len(segmap)
        t, eps = torch.rand(B, device=photo.device), torch.randn_like(photo)
        a, shown = kept(t)[:, None, None, None], (torch.rand(B, device=photo.device) > .1).float()[:, None, None, None]
        x = a.sqrt()*photo + (1 - a).sqrt()*eps
        return dict(noise=F.mse_loss(self.noise(x, t, self.onehot(segmap)*shown), eps))

    def forward(self,
        segmap,
        steps:int=10, # Steps from noise to a picture
        guidance:float=1., # How much more than a picture of any map it shall be one of this map
        rng:torch.Generator=None, # Draws the noise
    ):
        B, (h, w), device = len(segmap), segmap.shape[-2:], self.last.weight.device
        x, onehot = torch.randn(B, 3, h, w, generator=rng).to(device), self.onehot(segmap)
        times = torch.linspace(.99, 0, steps + 1, device=device)
        for t, after in zip(times, times[1:]):
            free, told = (self.noise(x, t.expand(B), o) for o in (0*onehot, onehot))
            eps = free + guidance*(told - free)
            photo = ((x - (1 - kept(t)).sqrt()*eps)/kept(t).sqrt()).clamp(-1, 1)
            x = kept(after).sqrt()*photo + (1 - kept(after)).sqrt()*eps
        return photo

    def for_inference(self): return deepcopy(self).eval().requires_grad_(False)

@delegates(PaintingLearner.__init__, but='model,betas')
def ddpm_learner(dls, nf:int=32, average:float|None=None, cbs=None, **kwargs):
    gen = Denoiser(dls.n_classes, nf)
    if average: cbs = L(ModelAverage(average)) + L(cbs)
    return PaintingLearner(dls, SoloModel(gen, ('noise',)), betas=(.9, .999), cbs=cbs, **kwargs)

# -- it moves in -------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module', autouse=True)
def tenant():
    register(Denoiser, family='ddpm', columns={r'^first\.weight$': 3})
    register_learner('ddpm', ddpm_learner)
    yield
    del registry.networks['Denoiser'], registry.families['ddpm']

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=80, n_valid=8, size=16, bs=8, seed=0)

@pytest.fixture(scope='module')
def learn(dls):
    set_seed(0, reproducible=True)
    learn = ddpm_learner(dls, average=.9, lr=3e-3)
    with learn.no_bar(), learn.no_logging(): learn.fit(6)
    return learn

@pytest.fixture(scope='module')
def folder(learn, tmp_path_factory):
    with learn.painting() as gen: return save_pretrained(gen, tmp_path_factory.mktemp('tenant')/'model', learn.labels, size=[16, 16])

@pytest.fixture
def ids(): return torch.as_tensor(draw_landscape(500, 16).segmap).long()

def pixels(picture): return np.asarray(picture).astype(int)

@pytest.mark.numeric
def test_its_loss_falls(learn):
    losses = [o['train']['noise'] for o in learn.history]
    assert len(losses) == 6 and losses[-1] < .6*losses[0] and learn.history[-1]['valid']['noise'] < losses[0]
    assert [o.name for o in learn.model.turns] == ['generator'] and list(learn.opt.inner) == ['generator']
    assert (learn.opt.hypers[0]['mom'], learn.opt.hypers[0]['sqr_mom']) == (.9, .999)

def test_its_parameters_are_the_turns(learn):
    mine = list(learn.model.generator.parameters())
    assert [len(o) for o in network_groups(learn.model)] == [len(mine)] == [len(o) for o in learn.opt.param_lists]

def test_one_adam_moves_all_of_it(dls):
    learn = ddpm_learner(dls)
    before = {k: p.detach().clone() for k, p in learn.model.named_parameters()}
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert not [k for k, p in learn.model.named_parameters() if torch.equal(p, before[k])]

def test_it_goes_on_from_a_file(learn, dls, tmp_path, ids):
    learn.path = tmp_path
    learn.save('kept')
    again = ddpm_learner(dls, average=.9, path=tmp_path)
    again.load('kept')
    for a, b in zip(again.model.parameters(), learn.model.parameters()): assert torch.equal(a, b)
    assert (pixels(again.predict(ids, seed=2)) == pixels(learn.predict(ids, seed=2))).all()
    with again.no_bar(), again.no_logging(): again.fit(1)
    assert math.isfinite(again.history[-1]['train']['noise'])

def test_it_is_exported(learn, tmp_path, ids):
    learn.path = tmp_path
    learn.export()
    light = load_learner(tmp_path/'export.pkl')
    assert (pixels(light.predict(ids, seed=2, steps=3)) == pixels(learn.predict(ids, seed=2, steps=3))).all()

def test_samples_are_shown(learn):
    b = [o[:2] for o in learn.dls.valid.one_batch()]
    assert [o.shape for o in learn.columns(*b)] == [(2, 16, 16, 3)]*3

# -- it paints ---------------------------------------------------------------------------------------------------

def test_what_it_can_be_told(learn):
    steps, guidance = painting_options(Denoiser)
    assert (steps.name, steps.reader('4'), steps.default, steps.words) == ('steps', 4, 10, 'Steps from noise to a picture')
    assert (guidance.reader('2.5'), guidance.default) == (2.5, 1.) and painting_options(nn.Conv2d) == []
    assert Painter(learn).takes == ('seed', 'steps', 'guidance')

def test_a_seed_is_a_picture(learn, folder, ids):
    with learn.painting() as gen: alone = deepcopy(gen)
    alone.labels = learn.labels
    painters = Painter(learn), Painter(folder), Painter(alone)
    first, again, bare = (pixels(o(ids, seed=3, steps=4)) for o in painters)
    assert (first == again).all() and (first == bare).all() and (first == pixels(painters[0](ids, seed=3, steps=4))).all()
    for other in (dict(seed=4, steps=4), dict(seed=3, steps=7), dict(seed=3, steps=4, guidance=3.)):
        assert np.abs(pixels(painters[1](ids, **other)) - first).mean() > 1, other
    assert seeded(Denoiser, dict(seed=3))['rng'].initial_seed() == 3

@pytest.mark.numeric
def test_the_map_is_read(learn):
    "What a map says of light and dark is in the pictures: they are nearer to their own photos than to others'"
    with learn.painting() as gen:
        segmap, photo = (o.as_subclass(torch.Tensor) for o in learn.dls.valid.one_batch())
        fake = gen(segmap, steps=20, rng=torch.Generator().manual_seed(0))
    own, others = (fake - photo).abs().mean(), (fake - photo.roll(1, 0)).abs().mean()
    assert own < others and fake.abs().max() <= 1

@pytest.mark.parametrize('how, words', [(dict(step=4), 'it has steps and guidance'), (dict(style='a.png'), 'leave style out'),
    (dict(codes=torch.zeros(2, 2)), 'leave codes out')])
def test_what_it_cannot_be_told(how, words, folder, ids):
    with pytest.raises(InputError, match=words): Painter(folder)(ids, **how)

# -- from the command line ---------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def scenes(tmp_path_factory): return write_landscapes(tmp_path_factory.mktemp('tenant')/'scenes', n_train=8, n_val=4, size=16, seed=0)

def test_generate(folder, scenes, tmp_path):
    maps, fn = scenes/'val/labels', sorted((scenes/'val/labels').glob('*.png'))[0]
    for out in 'one', 'two': assert gaugan('generate', folder, maps, '--out', tmp_path/out, '--steps', 4, '--seed', 3)[0] == 0
    assert gaugan('generate', '--steps', 4, '--guidance', 3, folder, maps, '--out', tmp_path/'told', '--seed', 3)[0] == 0
    one, two, told = (pixels(Image.open(tmp_path/o/f'{fn.stem}.png')) for o in ('one', 'two', 'told'))
    assert (one == two).all() and (one != told).any()
    assert (one == pixels(Painter(folder)(fn, seed=3, steps=4))).all()
    code, _, err = gaugan('generate', folder, fn, '--out', tmp_path/'many', '--samples', 2, '--seed', 3, '--steps', 4)
    first, second = (pixels(Image.open(tmp_path/f'many/{fn.stem}_{i}.png')) for i in (0, 1))
    assert code == 0 and (first == one).all() and (second != one).any(), err

def test_its_options_are_its_own(folder, scenes):
    code, text, _ = gaugan('generate', folder, '--help')
    assert code == 0 and 'options of a Denoiser' in text and '--steps' in text and '(default: 10)' in text
    assert '--steps' not in gaugan('generate', 'landscapes', '--help')[1] and '--steps' not in gaugan('generate', '--help')[1]
    assert 'leave --steps out' in refused('generate', 'landscapes_style', scenes/'val/labels', '--steps', 4)
    assert 'leave --style out' in refused('generate', folder, scenes/'val/labels', '--style', scenes/'val/images/00008.jpg')
    assert gaugan('generate', folder, scenes/'val/labels', '--steps', 'few')[0] == 2

def test_train(scenes, tmp_path):
    out = tmp_path/'run'
    args = 'train', scenes, '--model', 'ddpm', '--out', out, '--size', 16, '--bs', 4, '--nf', 8
    assert gaugan(*args, '--epochs', 1)[0] == 0 and gaugan(*args, '--epochs', 2, '--resume')[0] == 0
    gen = from_pretrained(out)
    assert (type(gen), gen.nf, len(list((out/'samples').glob('*.png')))) == (Denoiser, 8, 2)
    assert gaugan('generate', out, scenes/'val/labels', '--out', tmp_path/'p', '--steps', 2)[1].startswith('4 of 4')

def test_a_new_class_takes_its_column(folder, scenes, tmp_path):
    args = 'train', scenes, '--model', 'ddpm', '--out', tmp_path/'run', '--size', 16, '--bs', 4, '--epochs', 1
    code, words, err = gaugan(*args, '--pretrained', folder)
    assert code == 0 and '19 of 19 classes' in words, err

# -- what a command owes its user --------------------------------------------------------------------------------

def test_parsers_are_made_for_a_model(folder):
    def generate(model:str, maps:str, seed:int=None, **options): "Paint"
    def train(paths:list, model:str='ddpm'): "Train"
    assert generate_parser(generate, ['--steps', '4', str(folder), 'maps']).parse_args([str(folder), 'maps', '--steps', '4']).steps == 4
    assert '--nf' in train_parser(train, []).format_help()

def test_what_is_said_at_the_end(capsys):
    assert sentence_of(InputError('bad', 'do better')) == 'bad: do better' and sentence_of(KeyError('ours')) is None
    assert tell_painted({'a.png': 'out/a.png', 'b.png': InputError('b.png is empty')}, 'maps painted', 'out') == 1
    said = capsys.readouterr()
    assert '1 of 2 maps painted; the pictures are in out' in said.out and 'not painted: b.png is empty' in said.err

def test_a_closed_output_ends_quietly(tmp_path, monkeypatch):
    "What is written after the reader has gone ends nowhere, and no error is raised"
    file = open(tmp_path/'out', 'w')
    class Gone:
        def flush(self): raise BrokenPipeError
        def fileno(self): return file.fileno()
    monkeypatch.setattr('sys.stdout', Gone())
    end_output()
    file.write('nowhere')
    file.close()
    assert (tmp_path/'out').read_text() == ''

def test_a_process_of_its_own_is_stopped_as_by_ctrl_c(monkeypatch):
    monkeypatch.setattr('sys.stdout', None)
    monkeypatch.setattr('sys.stderr', None)
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        prepare_process()
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally: signal.signal(signal.SIGTERM, before)

# -- a norm's learner is a few lines -----------------------------------------------------------------------------

def test_a_learner_of_a_norm_is_the_generator(dls):
    "`norm_learner` puts SPADE's critic, losses and average around it, in the order of the columns"
    dls = PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=2)
    def generator(w): return SPADEGenerator(dls.n_classes, w.ngf, nhidden=w.nhidden)
    learn = norm_learner(dls, generator, 'spade', dict(ngf=4), 'cpu', ndf=8, l1=1., perceptual=None, terms=dict(mine=lambda turn: turn.fake.mean()))
    assert (learn.model.generator.ngf, learn.model.generator.nhidden, model_config(learn.model.critic)['ndf']) == (4, 32, 8)
    assert list(learn.model.terms) == ['feat', 'l1', 'mine'] and learn.model_average.decay == .999
    with pytest.raises(InputError, match='27'): norm_learner(dls, generator, 'spade', {}, preset='27')

def test_options_of_a_learner_are_those_of_what_it_delegates_to():
    for family in 'spade', 'clade':
        names = [o.name for o in registry.family_named(family).options()]
        assert {'preset', 'ngf', 'ndf', 'feat', 'perceptual', 'l1', 'average'} <= set(names) and not {'lr', 'suited', 'asked'} & set(names)

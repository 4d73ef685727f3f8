"""pix2pix: shapes, the critic's window, what the learner promises, and what it says of bad input."""
import itertools, pytest, time, torch
from pathlib import Path
from fastai.vision.all import Callback, load_learner
from gaugan_fastai.core import InputError
from gaugan_fastai.critics import PatchCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.models.ablation import ConcatGenerator, ablation_learner, contenders, fit_budget
from gaugan_fastai.models.pix2pix import UNetGenerator, pix2pix_learner
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from witness import OneMoves
from torch import nn

pytestmark = pytest.mark.numeric
K, ROOT = 5, Path(__file__).parent.parent
def maps(b, h, w): return torch.randint(K, (b, h, w), generator=torch.Generator().manual_seed(0))

@pytest.fixture(scope='module')
def dls(tmp_path_factory):
    return PairedDataLoaders.from_landscapes(n=12, n_valid=4, size=32, bs=4, seed=0, path=tmp_path_factory.mktemp('pix2pix'))

@pytest.mark.parametrize('size, levels', [((256, 256), 8), ((64, 64), 6), ((32, 96), 5), ((64, 32), 3), ((8, 4), 2)])
@pytest.mark.parametrize('norm', ['instance', 'batch'])
@pytest.mark.parametrize('skips', [True, False])
def test_shapes_and_range(size, levels, norm, skips):
    gen = UNetGenerator(K, ngf=2, levels=levels, norm=norm, skips=skips)
    for net in (gen.train(), gen.eval()):
        out = net(maps(2, *size))
        assert out.shape == (2, 3, *size) and out.abs().max() <= 1
    out.sum().backward()
    assert all(p.grad is not None for p in gen.parameters())

def test_edges_change_the_picture():
    gen, segmap = UNetGenerator(K, ngf=4, levels=4, edges=True).eval(), maps(1, 16, 32)
    none, some = (gen(segmap, o) for o in (segmap < 0, segmap > 2))
    assert none.shape == (1, 3, 16, 32) and (none - some).abs().max() > 1e-4

def test_widths_are_the_papers():
    with torch.device('meta'): gen = UNetGenerator(K)
    down = [getattr(gen, f'down_{i}')[0].out_channels for i in range(8)]
    reads = [getattr(gen, f'up_{i}')[0].in_channels for i in range(7)] + [gen.last.in_channels]
    assert down == [64, 128, 256, 512, 512, 512, 512, 512]
    assert reads == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    assert [any(isinstance(o, nn.Dropout) for o in getattr(gen, f'up_{i}')) for i in range(7)] == [True]*3 + [False]*4
    assert [len(gen.down_0), len(gen.down_7), len(gen.down_1)] == [2, 2, 3]   # the outer and the inner one have no norm

def test_noise_stays_on_only_if_asked():
    segmap = maps(1, 64, 64)
    for noise in (False, True):
        gen = UNetGenerator(K, ngf=4, levels=6, noise=noise).eval()
        assert torch.equal(gen(segmap), gen(segmap)) != noise

def test_a_verdict_sees_70_pixels(dls):
    conv = pix2pix_learner(dls, ngf=2).model.critic.discriminator_0
    strides = tuple(m.stride[0] for m in conv.modules() if isinstance(m, nn.Conv2d))
    assert strides == (2, 2, 2, 1, 1)
    plain = lambda ni, nf, ks, stride, padding: nn.Conv2d(ni, nf, ks, stride, padding)   # an instance norm sees the whole picture
    critic = PatchCritic(3, 2, 4, middle=plain).double()
    for p in critic.parameters(): torch.nn.init.constant_(p, .1)
    x = torch.ones(1, 3, 160, 160, dtype=torch.double, requires_grad=True)
    pred = critic(x)[-1]
    pred[0, 0, pred.shape[2]//2, pred.shape[3]//2].backward()
    rows, cols = (x.grad[0].abs().sum(0).sum(i).nonzero().flatten() for i in (1, 0))
    assert len(rows) == len(cols) == rows[-1] - rows[0] + 1 == 70

def test_one_network_moves_at_every_step(dls):
    learn = pix2pix_learner(dls, ngf=4, cbs=OneMoves())
    with learn.no_bar(), learn.no_logging(): learn.fit(2)
    assert learn.one_moves.steps == 2*2*len(dls.train)
    assert set(learn.history[0]['train']) == {'gan', 'l1', 'critic_fake', 'critic_real'}
    assert {(o['mom'], o['sqr_mom'], o['lr']) for o in learn.opt.hypers} == {(.5, .999, 2e-4)} and learn.opt.lr_mults == (1., 1.)

class Compare(Callback):
    "Keep the L1 loss and what it should be"
    def after_create(self): self.learn.pairs = []
    def after_loss(self):
        if self.training: self.learn.pairs.append((self.turn_losses['l1'].item(), (self.pred - self.yb[0]).abs().mean().item()))

@pytest.mark.parametrize('weight', [100., 7.])
def test_weight_of_l1(dls, weight):
    learn = pix2pix_learner(dls, ngf=2, cbs=Compare(), **({} if weight == 100 else dict(l1=weight)))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert learn.pairs
    for got, distance in learn.pairs: assert got == pytest.approx(weight*distance, rel=1e-4)

def test_save_load_export_predict(dls):
    learn, other = (pix2pix_learner(dls, ngf=4, average=.9) for _ in range(2))
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    learn.save('unet')
    other.load('unet')
    segmap = maps(1, 48, 96)[0]
    assert learn.predict(segmap).size == (64, 32)
    assert learn.predict(segmap).tobytes() == other.predict(segmap).tobytes()
    learn.export('unet.pkl')
    again = load_learner(dls.path/'unet.pkl')
    assert again.predict(segmap).tobytes() == learn.predict(segmap).tobytes()

@pytest.mark.parametrize('kwargs', [{}, dict(norm='batch', edges=True), dict(skips=False, noise=True, dropout=.2)])
def test_pretrained_round_trip(tmp_path, kwargs):
    gen, segmap = UNetGenerator(K, ngf=4, levels=4, **kwargs), maps(2, 16, 32)
    edges = (segmap > 2,) if gen.edges else ()
    gen(segmap, *edges)                                # batch norm has seen something
    back = from_pretrained(save_pretrained(gen, tmp_path))
    assert back.card['config'] == dict(n_classes=K, ngf=4, edges=False, levels=4, norm='instance', dropout=.5, noise=False, skips=True) | kwargs
    assert not back.training and all(torch.equal(v, back.state_dict()[k]) for k, v in gen.state_dict().items())
    pictures = []
    for net in (gen.eval(), back, gen.for_inference()):
        torch.manual_seed(0)
        pictures.append(net(segmap, *edges).detach())
    for o in pictures[1:]: torch.testing.assert_close(o, pictures[0], atol=1e-5, rtol=1e-4)

gen4 = UNetGenerator(K, ngf=2, levels=4)
@pytest.mark.parametrize('call, says', [
    (lambda: gen4(maps(1, 20, 32)), r'segmap is 20x32, but levels=4 needs multiples of 16: resize it to 16x32'),
    (lambda: gen4(maps(1, 16, 16) + K), r'segmap holds class \d+, but there are 5 classes'),
    (lambda: gen4(maps(1, 16, 16) - 9), r'segmap holds class -9'),
    (lambda: gen4(maps(1, 16, 16)[0]), r'shape \(16, 16\), but \[B,H,W\] is needed'),
    (lambda: gen4(torch.rand(1, 16, 16)), r'dtype torch.float32'),
    (lambda: gen4([[0]]), r'segmap is a list'),
    (lambda: gen4(maps(1, 16, 16), maps(1, 16, 16) > 1), 'edges came with the segmap, but the model was built without'),
    (lambda: UNetGenerator(K, 2, True, 4)(maps(1, 16, 16)), r'no edges came with the segmap'),
    (lambda: UNetGenerator(K, 2, True, 4)(maps(1, 16, 16), maps(1, 16, 32) > 1), r'edges have shape \(1, 16, 32\)'),
    (lambda: UNetGenerator(K, levels=1), r'levels=1'),
    (lambda: UNetGenerator(K, norm='layer'), r"norm is 'layer'"),
    (lambda: UNetGenerator(0), r'n_classes is 0'),
    (lambda: ConcatGenerator(K, where='here'), r"where is 'here'"),
])
def test_bad_input(call, says):
    with pytest.raises(InputError, match=says): call()

def test_learner_refuses_before_training(dls):
    with pytest.raises(InputError, match="objective is 'l2'"): pix2pix_learner(dls, ngf=2, objective='l2')
    with pytest.raises(InputError, match='needs multiples of 64'): pix2pix_learner(dls, ngf=2, levels=6)
    odd = PairedDataLoaders.from_landscapes(n=4, n_valid=1, size=(34, 32), bs=2)
    with pytest.raises(InputError, match='34x32.*multiples of 4'): pix2pix_learner(odd, ngf=2)

# -- the ablation ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('where', ['every', 'input'])
def test_concat_reads_the_map_where_it_says(where):
    gen = ConcatGenerator(K, ngf=2, where=where, edges=True).eval()
    blocks = [o for o in gen.children() if hasattr(o, 'conv_0')]
    assert len(blocks) == 7
    for o in blocks: assert o.conv_0.in_channels == o.norm_0.norm.num_features + (K + 1)*(where == 'every')
    segmap = maps(2, 64, 96)
    assert gen(segmap, segmap > 2).shape == (2, 3, 64, 96)
    gen.train()(segmap, segmap > 2).sum().backward()
    assert all(p.grad is not None for p in gen.parameters())

@pytest.mark.once
@pytest.mark.parametrize('contender', contenders)
def test_budget_in_steps_and_equal_starts(contender):
    dls = PairedDataLoaders.from_landscapes(n=6, n_valid=2, size=64, bs=2, seed=0)
    states = []
    for _ in range(2):
        learn = ablation_learner(dls, contender, seed=1)
        used = fit_budget(learn, steps=3)
        states.append(learn.model.generator.state_dict())
    assert used['steps'] == 3
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())

@pytest.mark.once
def test_marks_are_scored_while_the_clock_stands(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT/'tools'))
    from ablation import Marks
    ticks, seen = itertools.count(), []
    monkeypatch.setattr('time.process_time', lambda: next(ticks))   # a look takes a second
    def score(learn):
        for _ in range(100): time.process_time()
        seen.append(learn.n_steps)
        return dict(kid=.1, miou=.2, accuracy=.3, more=0)
    learn = ablation_learner(PairedDataLoaders.from_landscapes(n=6, n_valid=2, size=64, bs=2, seed=0), 'unet')
    marks = Marks([12., 6.], score)
    learn.add_cb(marks)
    used = fit_budget(learn, 30., clock=marks.clock)
    assert [o['seconds'] for o in marks.curve] == [6., 12.] and [o['steps'] for o in marks.curve] == seen
    assert set(marks.curve[0]) == {'seconds', 'steps', 'kid', 'miou', 'accuracy'}
    assert 30 <= used['seconds'] < 50 and next(ticks) > 200

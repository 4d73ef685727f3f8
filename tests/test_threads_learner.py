"""Many threads paint with one learner, somebody presses Ctrl-C, and the weights that train stay what they are."""
import copy, threading
import numpy as np, pytest, torch
from concurrent.futures import ThreadPoolExecutor
from fastai.vision.all import Callback, set_seed
from gaugan_fastai.callbacks import ModelAverage
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import encode
from gaugan_fastai.learner import SynthesisLearner, frozen, to_u8
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner

N_THREADS = 8

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0)

def plain(dls, gen, cbs, **kwargs): return SynthesisLearner(dls, gen, MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3), cbs=cbs, **kwargs)

makers = dict(
    spade=lambda dls: plain(dls, SPADEGenerator(dls.n_classes, ngf=2, nhidden=8), ModelAverage(.9)),
    live=lambda dls: plain(dls, SPADEGenerator(dls.n_classes, ngf=2, nhidden=8), None),
    unet=lambda dls: plain(dls, UNetGenerator(dls.n_classes, ngf=4, levels=3, norm='batch'), ModelAverage(.9)),
    style=lambda dls: spade_learner(dls, 'cpu', ngf=2, nhidden=8, ndf=4, z_dim=4, perceptual=None, average=.9),
    sean=lambda dls: sean_learner(dls, 'cpu', ngf=2, nhidden=8, style_dim=4, width=2, ndf=4, perceptual=None, average=.9))

def trained(dls, name, lr=.01):
    "A learner after two epochs; its last layer is loud, so that other maps give other pictures"
    set_seed(0)
    learn = makers[name](dls)
    gen = learn.model.generator
    with torch.no_grad(): (gen.last if name == 'unet' else gen.conv_img).weight.mul_(400)
    with learn.no_bar(), learn.no_logging(): learn.fit(2, lr)
    return learn

def whole_state(learn):
    "Every tensor of the learner, its modes, its plain attributes"
    tensors = {k: v.clone() for k, v in learn.model.state_dict().items()}
    return tensors, [m.training for m in learn.model.modules()]

def assert_untouched(learn, before):
    tensors, modes = whole_state(learn)
    assert modes == before[1] and all(torch.equal(v, tensors[k]) for k, v in before[0].items())

def all_at_once(f, items):
    "`f` of each item, as many threads, started together"
    start = threading.Barrier(len(items))
    def one(o):
        start.wait()
        return f(o)
    with ThreadPoolExecutor(len(items)) as pool: return list(pool.map(one, items))

@pytest.mark.parametrize('same', [True, False], ids=['one map', 'several maps'])
@pytest.mark.parametrize('name', makers)
def test_threads_paint_the_right_picture(dls, name, same):
    learn = trained(dls, name)
    kwargs = dict(seed=1) if name == 'style' else {}
    maps = [o for b in dls.valid for o in b[0].as_subclass(torch.Tensor)]
    if name == 'sean': learn.usual_codes()
    learn.model.train()
    paint = lambda learn, segmap: np.asarray(learn.predict(segmap, **kwargs)).astype(int)
    alone = copy.deepcopy(learn)
    wanted = [paint(alone, o) for o in maps]
    assert min(abs(a - b).max() for i, a in enumerate(wanted) for b in wanted[:i]) > 2   # no picture passes for another
    which = [0 if same else i % len(maps) for i in range(N_THREADS)]
    before = whole_state(learn)
    got = all_at_once(lambda i: [paint(learn, maps[i]) for _ in range(2)], which)   # the first of them makes the average
    for i, pictures in zip(which, got):
        for o in pictures: assert abs(o - wanted[i]).max() <= 1, (name, i)
    assert_untouched(learn, before)

def test_painting_while_it_trains_changes_nothing(dls):
    "A fit beside a thread that paints all the time ends with the very weights of a fit alone"
    alone, watched = (makers['spade'](dls) for _ in range(2))
    watched.model.load_state_dict(alone.model.state_dict())
    segmap = dls.valid.one_batch()[0][0]
    for learn in (alone, watched):
        set_seed(0)   # flips
        dls.train.rng.seed(0)
        over, pictures = threading.Event(), []
        def paint():
            while not over.is_set(): pictures.append(np.asarray(learn.predict(segmap)))
        thread = threading.Thread(target=paint)
        if learn is watched: thread.start()
        try:
            with learn.no_bar(), learn.no_logging(): learn.fit(3, 1e-3)
        finally: over.set()
        if learn is watched: thread.join()
    assert len(pictures) and all(o.shape == (32, 32, 3) for o in pictures)
    for k, v in alone.model.state_dict().items(): assert torch.equal(v, watched.model.state_dict()[k]), k
    for k, v in alone.model_average.shadow.items(): assert torch.equal(v, watched.model_average.shadow[k]), k

class Interrupt(Callback):
    "Press Ctrl-C at an event of the second epoch"
    order = 99
    def __init__(self, at): setattr(self, at, self.press)
    def press(self):
        if self.learn.epoch == 1: raise KeyboardInterrupt

@pytest.mark.parametrize('at', ['before_validate', 'after_pred', 'after_validate', 'after_epoch'])
def test_an_interrupt_leaves_the_live_weights_alive(dls, tmp_path, at):
    learn, live = makers['spade'](dls), {}
    learn.path = tmp_path
    class Note(Callback):
        def after_train(self): live.update({k: v.clone() for k, v in self.learn.model.state_dict().items()})
    class InValidation(Interrupt):
        def press(self):
            if not self.training: super().press()
    with learn.no_bar(), learn.no_logging(), pytest.raises(KeyboardInterrupt): learn.fit(2, .01, cbs=[Note(), InValidation(at)])
    saved = torch.load(learn.save('stopped'), weights_only=True)
    for k, v in saved['model'].items(): assert torch.equal(v, live[k]), k
    names = [k for k, v in learn.model_average.shadow.items() if v.ndim > 1]
    assert any(not torch.equal(saved['average']['shadow'][k], live[f'generator.{k}']) for k in names)

def test_an_interrupt_while_the_average_is_made(dls, monkeypatch):
    learn = trained(dls, 'spade')
    before = whole_state(learn)
    segmap = dls.valid.one_batch()[0][0]
    paint = type(learn.model).paint
    def stop(*args): raise KeyboardInterrupt
    monkeypatch.setattr(type(learn.model), 'paint', stop)
    learn.model_average.stale = True
    with pytest.raises(KeyboardInterrupt): learn.predict(segmap)
    assert_untouched(learn, before)
    monkeypatch.setattr(type(learn.model), 'paint', paint)
    assert np.array_equal(np.asarray(learn.predict(segmap)), np.asarray(copy.deepcopy(learn).predict(segmap)))

def test_statistics_are_estimated_once(dls, monkeypatch):
    learn, calls = trained(dls, 'spade'), []
    make = ModelAverage._reestimate
    monkeypatch.setattr(ModelAverage, '_reestimate', lambda self, model: (calls.append(1), make(self, model)))
    learn.model_average.stale = True
    all_at_once(learn.predict, [dls.valid.one_batch()[0][0]]*N_THREADS)
    assert len(calls) == 1

def test_painting_gives_layers_of_its_own(dls):
    learn = trained(dls, 'style')
    before = whole_state(learn)
    with learn.painting() as gen:
        assert gen is not learn.model.generator and not any(m.training for m in gen.modules()) and not torch.is_grad_enabled()
        gen.train().conv_img.register_forward_hook(lambda *_: None)
        for k, p in gen.named_parameters(): assert torch.equal(p, learn.model_average.made[k])
        for k, p in gen.encoder.named_parameters(): assert torch.equal(p, learn.model_average.made[f'encoder.{k}'])
    assert_untouched(learn, before)

@pytest.mark.numeric
def test_averages_are_what_they_were(dls):
    "The average after every step and its statistics, against the plain way: swap, reset, pass the batches, swap back"
    learn, log = makers['spade'](dls), []
    class Plain(Callback):
        def before_fit(self): self.avg, self.t = {k: p.detach().clone() for k, p in self.model.generator.named_parameters()}, 0
        def after_batch(self):
            if not self.training: return
            self.t += 1
            decay = min(.9, (1 + self.t)/(10 + self.t))
            for k, p in self.model.generator.named_parameters(): self.avg[k] = decay*self.avg[k] + (1 - decay)*p.detach()
            log.append(self.xb[0])
    with learn.no_bar(), learn.no_logging(): learn.fit(2, .01, cbs=(plain_cb := Plain()))
    gen = copy.deepcopy(learn.model.generator)
    gen.load_state_dict({**gen.state_dict(), **plain_cb.avg})
    for m in gen.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.reset_running_stats()
            m.momentum = None
    gen.train()
    with torch.no_grad():
        for segmap in log[-8:]: gen(segmap)
    with learn.painting() as mine:
        for k, v in gen.state_dict().items(): torch.testing.assert_close(mine.state_dict()[k], v, rtol=1e-4, atol=1e-5, msg=k)

def test_the_encoder_paints_along(dls):
    learn = trained(dls, 'style')
    photo = dls.valid.one_batch()[1][0].as_subclass(torch.Tensor)
    enc = copy.deepcopy(learn.model.encoder).eval()
    enc.load_state_dict({k: learn.model_average.made[f'encoder.{k}'] for k in enc.state_dict()})
    with torch.no_grad(): torch.testing.assert_close(encode(learn, photo), enc(photo[None])[0])

def test_frozen_shares_tensors_and_nothing_else(dls):
    gen = SPADEGenerator(dls.n_classes, ngf=2, nhidden=8)
    segmap = dls.one_batch()[0]
    gen(segmap).mean().backward()   # leaves weights that are no parameters
    still = frozen(gen)
    for (k, a), b in zip(gen.state_dict(keep_vars=True).items(), still.state_dict(keep_vars=True).values()):
        assert a.data_ptr() == b.data_ptr() and not b.requires_grad, k
    with torch.no_grad():
        gen.conv_img.weight.mul_(2)
        assert np.array_equal(to_u8(still(segmap)), to_u8(copy.deepcopy(gen).eval()(segmap)))
    copy.deepcopy(still)

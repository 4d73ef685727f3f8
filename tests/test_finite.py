"""A loss, a gradient or a weight that is no number stops the fit in one sentence; nothing bad is learnt, averaged, kept or painted."""
import numpy as np, pytest, torch
from fastai.vision.all import Callback, L, MixedPrecision
from gaugan_fastai.callbacks import Keep, ModelAverage
from gaugan_fastai.core import InputError
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.spade import SPADEGenerator

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=16, n_valid=4, size=32, bs=4, seed=0)

def make(dls, **kwargs):
    gen, critic = SPADEGenerator(dls.n_classes, ngf=1, nhidden=4), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    return SynthesisLearner(dls, gen, critic, cbs=[ModelAverage(.9), *L(kwargs.pop('cbs', None))], **kwargs)

def fit(learn, n=2, lr=1e-3, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit(n, lr, **kwargs)

def all_finite(tensors): return all(o.isfinite().all() for o in tensors if o.is_floating_point())

class Parameters(Callback):
    "Note the weights after each batch"
    def before_fit(self): self.after = []
    def after_batch(self):
        if self.training: self.after.append([p.detach().clone() for p in self.model.parameters()])

def bad_at(step, kind):
    "A term that is sound until `step` (from 1), then nan as a loss, or nan as a gradient under a loss of 0"
    calls = []
    def term(turn):
        calls.append(1)
        if len(calls) < step: return turn.fake.mean()
        return turn.fake.mean()*torch.nan if kind == 'loss' else (turn.fake*0).square().sum().sqrt()
    return term

@pytest.mark.parametrize('every', [None, 2, 50], ids=str)
@pytest.mark.parametrize('kind, words', [('loss', "the loss 'bad' is nan, inf"), ('gradient', 'the gradient of the generator is nan')])
def test_no_weight_moves_by_what_is_no_number(dls, tmp_path, kind, words, every):
    "Looked at once, as on a CPU, or now and then, as on a GPU"
    learn = make(dls, terms=dict(bad=bad_at(3, kind)), path=tmp_path, cbs=[Keep('kept', path=tmp_path, minutes=0), Parameters()])
    learn.finite.every = every
    with pytest.raises(InputError, match=words + '.*at step 3 of this fit.*lower lr, which is 0.001$') as e: fit(learn)
    assert '\n' not in str(e.value)
    for a, b in zip(learn.model.parameters(), learn.parameters.after[1]): assert torch.equal(a, b)
    assert all_finite(learn.model_average.shadow.values())
    kept = torch.load(tmp_path/'models/kept.pth', weights_only=True)
    assert all_finite(kept['model'].values()) and all_finite(kept['average']['shadow'].values())
    learn.predict(dls.valid.one_batch()[0][0])
    learn.model.terms.pop('bad')
    fit(learn, 1)   # the optimiser is free again

@pytest.mark.parametrize('lr', [1e9, 1e12, 1e18, 1e40], ids=str)
def test_an_absurd_learning_rate_ends_in_a_sentence(dls, lr):
    learn = make(dls)
    with pytest.raises(InputError, match='so training stops: .* lower lr, which is|holds numbers that are none.*lower lr, which is') as e: fit(learn, 3, lr)
    assert '\n' not in str(e.value)

def test_a_photo_that_is_no_number(dls):
    class Spoil(Callback):
        def before_batch(self):
            if self.training and self.iter == 1: self.learn.yb = (self.yb[0]*torch.nan,)
    with pytest.raises(InputError, match="the loss 'critic_real'.*at step 2"): fit(make(dls), cbs=Spoil())

def spoil(learn):
    with torch.no_grad(): learn.model.generator.conv_img.weight[0, 0, 0, 0] = torch.nan

def test_nothing_is_written_or_painted_from_bad_weights(dls, tmp_path):
    segmap = dls.valid.one_batch()[0][0]
    learn = SynthesisLearner(dls, SPADEGenerator(dls.n_classes, ngf=1, nhidden=4), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3), path=tmp_path)
    file = learn.save('a')
    learn.export()
    learn.predict(segmap)
    before = [o.read_bytes() for o in (file, tmp_path/'export.pkl')]
    spoil(learn)
    for f in (lambda: learn.predict(segmap), lambda: learn.save('a'), lambda: learn.save('b'), learn.export, learn.show_results):
        with pytest.raises(InputError, match=r'holds numbers that are none \(nan or inf\) in 1 of'): f()
    assert [o.read_bytes() for o in (file, tmp_path/'export.pkl')] == before
    assert sorted(o.name for o in tmp_path.rglob('*.*')) == ['a.pth', 'export.pkl']

def test_a_bad_average_is_not_painted_with(dls, tmp_path):
    learn = make(dls, path=tmp_path)
    fit(learn, 1)
    learn.model_average.shadow['conv_img.bias'][0] = torch.inf
    learn.model_average.stale = True
    for f in (lambda: learn.predict(dls.valid.one_batch()[0][0]), lambda: learn.save('a'), learn.validate):
        with pytest.raises(InputError, match='the average of the weights holds numbers that are none'): f()

def test_a_state_of_adam_that_is_no_number(dls, tmp_path):
    learn = make(dls, path=tmp_path)
    fit(learn, 1)
    next(iter(learn.opt.inner['critic'].state.values()))['exp_avg_sq'].fill_(torch.inf)
    with pytest.raises(InputError, match=r'opt\.critic\.0\.exp_avg_sq'): learn.save('a')

def test_weights_are_looked_at_again_when_they_change(dls):
    learn, segmap = make(dls), dls.valid.one_batch()[0][0]
    learn.remove_cb(learn.model_average)
    learn.predict(segmap)
    was = learn.model.generator.conv_img.weight.detach().clone()
    spoil(learn)
    with pytest.raises(InputError): learn.predict(segmap)
    with torch.no_grad(): learn.model.generator.conv_img.weight.copy_(was)
    learn.predict(segmap)

# -- half precision ----------------------------------------------------------------------------------------------

def plain(dls, **kwargs):
    "A U-Net: at 32 pixels SPADE starts with one pixel a map, whose batch norm blows gradients up to 1e6, more than float16 holds"
    gen = UNetGenerator(dls.n_classes, ngf=4, levels=3, norm='instance')
    critic = MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    return SynthesisLearner(dls, gen, critic, cbs=[ModelAverage(.9), *L(kwargs.pop('cbs', None))], **kwargs)

ways = dict(dtype=lambda learn, dtype: setattr(learn, 'autocast_dtype', dtype),
    method=lambda learn, dtype: learn.to_fp16() if dtype == torch.float16 else learn.to_bf16(),
    callback=lambda learn, dtype: learn.add_cb(MixedPrecision(amp_mode='fp16' if dtype == torch.float16 else 'bf16')))

@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize('way', ways)
def test_half_precision_as_a_fastai_user_asks_for_it(dls, way, dtype):
    learn, seen = plain(dls), []
    ways[way](learn, dtype)
    learn.model.generator.last.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    before = {k: p.detach().clone() for k, p in learn.model.named_parameters()}
    fit(learn, 1)
    assert learn.autocast_dtype == dtype and seen[0] == dtype
    with learn.no_bar(): assert learn.get_preds()[0].dtype == torch.float32
    for k in ('generator.last.bias', 'critic.discriminator_0.model0.0.bias'):
        assert not torch.equal(before[k], learn.model.get_parameter(k)), k
    assert {p.dtype for p in learn.model.parameters()} == {torch.float32} and all_finite(learn.model.state_dict().values())
    assert learn.to_fp32().autocast_dtype is None
    fit(learn, 1)
    assert seen[-1] == torch.float32

def test_a_callback_for_one_fit_goes_with_it(dls):
    learn, mixed = plain(dls), MixedPrecision(amp_mode='bf16')
    fit(learn, 1, cbs=mixed)
    assert learn.autocast_dtype is None and not [o for o in learn.cbs if isinstance(o, MixedPrecision)]

@pytest.mark.parametrize('dtype', [torch.float64, 'half'])
def test_other_types_are_refused(dls, dtype):
    with pytest.raises(InputError, match='autocast_dtype is'): plain(dls).autocast_dtype = dtype

class Overflow(Callback):
    "An infinite gradient in one turn of the batches `at`"
    order = -1   # before the scaler looks
    def __init__(self, turn, at): self.name_of, self.at = turn, at
    def after_backward(self):
        if self.learn.turn.name == self.name_of and self.train_iter in self.at: self.learn.turn.movers[0].grad.fill_(torch.inf)

class Steps(Callback):
    "Which steps are taken, and the scales after each batch"
    def before_fit(self): self.taken, self.scales = [], []
    def before_batch(self): self.was = {n: self.copy(n) for n in ('generator', 'critic')}
    def copy(self, n): return [p.detach().clone() for p in getattr(self.model, n).parameters()]
    def after_batch(self):
        if not self.training: return
        self.taken.append([any(not torch.equal(a, b) for a, b in zip(self.copy(n), self.was[n])) for n in self.was])
        self.scales.append([o.get_scale() for o in self.mixed_precision.scalers.values()])

@pytest.mark.parametrize('turn', ['generator', 'critic'])
def test_a_step_that_overflows_leaves_the_other_turn_alone(dls, turn):
    learn = plain(dls, cbs=[Overflow(turn, {1}), Steps()]).to_fp16(init_scale=1024.)
    fit(learn, 1)
    skipped = [turn != 'generator', turn != 'critic']
    assert learn.steps.taken == [[True, True], skipped, [True, True], [True, True]]
    lower = [512. if turn == n else 1024. for n in ('generator', 'critic')]
    assert learn.steps.scales == [[1024.]*2, lower, lower, lower]
    assert all_finite(learn.model.state_dict().values())

def test_a_gradient_that_no_scale_saves(dls):
    learn = plain(dls, cbs=Overflow('critic', range(10**6))).to_fp16(init_scale=2**-12)
    with pytest.raises(InputError, match='the gradient of the critic is nan or inf however its loss is scaled.*lower lr') as e: fit(learn, 2)
    assert '\n' not in str(e.value) and all_finite(learn.model.state_dict().values())

def test_a_loss_that_is_no_number_stops_a_scaled_training_too(dls):
    learn = plain(dls, terms=dict(bad=bad_at(2, 'loss'))).to_fp16()
    with pytest.raises(InputError, match="the loss 'bad' is nan, inf.*leave float16 out"): fit(learn)

def test_a_good_fit_is_not_stopped(dls):
    learn = make(dls)
    fit(learn, 2)
    assert len(learn.history) == 2 and all(np.isfinite(list(h['train'].values())).all() for h in learn.history)

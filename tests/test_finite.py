"""A loss, a gradient or a weight that is no number stops the fit in one sentence; nothing bad is learnt, averaged, kept or painted."""
import numpy as np, pytest, torch
from fastai.vision.all import Callback, MixedPrecision
from gaugan_fastai.callbacks import Keep, ModelAverage
from gaugan_fastai.core import InputError
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.models.spade import SPADEGenerator

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=16, n_valid=4, size=32, bs=4, seed=0)

def make(dls, **kwargs):
    gen, critic = SPADEGenerator(dls.n_classes, ngf=1, nhidden=4), MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    return SynthesisLearner(dls, gen, critic, cbs=[ModelAverage(.9), *kwargs.pop('cbs', [])], **kwargs)

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

def set_dtype(learn): learn.autocast_dtype = torch.float16

@pytest.mark.parametrize('f', [set_dtype, lambda learn: learn.to_fp16(), lambda learn: fit(learn, 1, cbs=MixedPrecision())], ids=['dtype', 'to_fp16', 'callback'])
def test_float16_is_refused_and_bfloat16_named(dls, f):
    with pytest.raises(InputError, match=r'float16 needs its losses scaled.*take learn\.to_bf16\(\)'): f(make(dls))

def test_bfloat16_as_a_fastai_user_asks_for_it(dls):
    learn, seen = make(dls).to_bf16(), []
    learn.model.generator.conv_img.register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    fit(learn, 1)
    assert learn.autocast_dtype == torch.bfloat16 and seen[0] == torch.bfloat16
    assert learn.to_fp32().autocast_dtype is None
    with pytest.raises(InputError, match='MixedPrecision is not for two turns: take learn.to_bf16') as e: fit(make(dls), 1, cbs=MixedPrecision(amp_mode='bf16'))
    assert 'scale' not in str(e.value)

def test_a_good_fit_is_not_stopped(dls):
    learn = make(dls)
    fit(learn, 2)
    assert len(learn.history) == 2 and all(np.isfinite(list(h['train'].values())).all() for h in learn.history)

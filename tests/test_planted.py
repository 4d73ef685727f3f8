"""Faults that were planted once and survived all tests: the code passes, and the same check fails with the fault."""
import pytest

import properties
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.learner import SynthesisLearner
from gaugan_fastai.models.sean import UsualStyles, sean_learner
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.turns import TurnsAdam

pytestmark = pytest.mark.numeric

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=4, seed=0, flip=0.)

def spade(dls):
    critic = MultiScaleCritic(dls.n_classes, ndf=4, n_layers=3)
    return SynthesisLearner(dls, SPADEGenerator(dls.n_classes, ngf=2, nhidden=4), critic)

def sean(dls): return sean_learner(dls, ngf=4, nhidden=8, style_dim=8, width=4, ndf=8, perceptual=None)

# -- the faults --------------------------------------------------------------------------------------------------

def never_decay(monkeypatch):
    "A step that leaves weight decay out"
    real = TurnsAdam.step
    def step(self, closure=None):
        asked = [h['wd'] for h in self.hypers]
        self.set_hyper('wd', 0.)
        real(self, closure)
        for h, wd in zip(self.hypers, asked): h['wd'] = wd
    monkeypatch.setattr(TurnsAdam, 'step', step)

def keep_the_past(monkeypatch):
    "A `freeze_to` that leaves Adam's running means"
    real = SynthesisLearner.freeze_to
    def freeze_to(self, n):
        adams = [o for o in (self.opt.inner.values() if self.opt else ()) if o]
        states = [dict(o.state) for o in adams]
        real(self, n)
        for o, state in zip(adams, states): o.state.update(state)
    monkeypatch.setattr(SynthesisLearner, 'freeze_to', freeze_to)

def remember_styles(monkeypatch):
    "A `UsualStyles` that does nothing"
    events = [o for o in vars(UsualStyles) if o.startswith(('before_', 'after_'))]
    for o in events: monkeypatch.setattr(UsualStyles, o, lambda self: None)

# -- each property on the code as it is, and with its fault ------------------------------------------------------

CASES = dict(
    decay=(lambda dls: properties.weight_decay_shrinks_weights(), never_decay),
    decay_of_a_learner=(lambda dls: properties.weight_decay_of_a_learner(spade(dls)), never_decay),
    freeze=(lambda dls: properties.freezing_forgets_the_past(spade(dls)), keep_the_past),
    usual=(lambda dls: properties.usual_styles_follow_the_encoder(sean(dls)), remember_styles))

@pytest.mark.parametrize('name', CASES)
def test_the_code_has_the_property(name, dls): CASES[name][0](dls)

@pytest.mark.parametrize('name', CASES)
def test_the_fault_is_caught(name, dls, monkeypatch):
    check, plant = CASES[name]
    plant(monkeypatch)
    with pytest.raises(AssertionError): check(dls)

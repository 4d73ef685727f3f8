"""SEAN's usual codes, from training to the file and back, and generators of another depth."""
import copy, pickle

import numpy as np, pytest, torch
from fastai.vision.all import Callback, load_learner
from concurrent.futures import ThreadPoolExecutor

from test_patterns import lively, rel, voronoi
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.models.sean import SEANGAN, SEANGenerator, mean_codes, sean_config, sean_learner
from gaugan_fastai.styles import encode_all

TINY = dict(ngf=2, nhidden=4, style_dim=5, width=2, ndf=4, perceptual=None)

def make_learner(**kwargs):
    torch.manual_seed(0)
    return sean_learner(PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=64, bs=2), **TINY, **kwargs)

def make_generator(**kwargs): return lively(SEANGenerator(6, 2, 5, 4, 2, **kwargs)).eval()
segmap = voronoi(2, (64, 64), 5)[0]   # class 5 never occurs
usual = torch.randn(6, 5, generator=torch.Generator().manual_seed(3)).tanh()
usual[2] = 0.   # no picture had class 2

def photos(): return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))*2 - 1

# --- depth

def test_config_says_what_shapes_cannot():
    gen = make_generator(upsampling='more')
    again = SEANGenerator(**sean_config(gen.state_dict(), upsampling='more')).eval()
    assert sean_config(gen.state_dict())['upsampling'] == 'normal'
    again.load_state_dict(gen.state_dict())
    shallow = SEANGenerator(**sean_config(gen.state_dict())).eval()
    shallow.load_state_dict(gen.state_dict())
    with torch.no_grad(): true, same, other = (o(segmap, photos()) for o in (gen, again, shallow))
    assert torch.equal(same, true) and rel(other, true) > 1e-2
    with torch.no_grad(): assert rel(gen.for_inference()(segmap, photos()), true) < 1e-4

# --- usual codes of a generator

@torch.no_grad()
def test_absent_classes_have_their_usual_code():
    gen = make_generator()
    shown, bare = gen.encode_shown(photos(), segmap), gen.encode(photos(), segmap)
    assert torch.equal(shown, bare)
    gen.usual = usual
    codes, has = gen.encode(photos(), segmap), shown.any(-1)
    assert torch.equal(codes[has], shown[has]) and torch.equal(codes[~has], usual.expand(2, -1, -1)[~has]) and not has[:, 5].any()
    everywhere = torch.full((2, 64, 64), 5)   # paint a class that the photo lacks
    true = gen(everywhere, torch.where(has[..., None], shown, usual))
    for given in (shown, [shown]*6, None): assert torch.equal(gen(everywhere, given), true)
    gen.usual = None
    assert rel(gen(everywhere, shown), true) > 1e-3

def test_no_usual_codes_in_training():
    "The encoder moves, and absent classes must stay recognisable"
    gen = make_generator().train()
    gen.usual = usual
    assert not gen.encode(photos(), segmap)[:, 5].any()

@torch.no_grad()
def test_codes_of_many_photos_leave_gaps():
    "Where averages and libraries are made, usual codes do not count as seen"
    gen = make_generator()
    batches = [(segmap, photos())]
    means, codes = mean_codes(gen, batches), encode_all(gen, batches)
    gen.usual = usual
    assert torch.equal(mean_codes(gen, batches), means) and torch.equal(encode_all(gen, batches), codes) and not codes[:, 5].any()

def test_usual_codes_are_shown():
    from gaugan_fastai.core import LabelSpace
    gen = make_generator()
    assert list(gen.usual_classes()) == []
    gen.usual = usual
    assert list(gen.usual_classes()) == [0, 1, 3, 4, 5]
    gen.labels = LabelSpace(list('abcdef'), void=None)
    assert list(gen.usual_classes()) == list('abdef')

@torch.no_grad()
def test_usual_codes_travel():
    gen, fresh = make_generator(), make_generator()
    assert gen.extra_state() == {}
    gen.usual = usual
    fresh.load_extra_state(gen.extra_state())
    assert list(gen.extra_state()) == ['usual']
    assert torch.equal(fresh.usual, usual)
    for o in (copy.deepcopy(gen), pickle.loads(pickle.dumps(gen)), gen.for_inference()):
        assert torch.equal(o.usual, usual) and rel(o(segmap), gen(segmap)) < 1e-4
    fresh.load_extra_state({})
    assert fresh.usual is None

@pytest.mark.parametrize('state,words', [(dict(usual=usual[:, :3]), r'\(6, 3\).*\(6, 5\)'), (dict(other=usual), "'other'"), (dict(usual=usual/0), 'none')])
def test_usual_codes_that_do_not_fit(state, words):
    gen = make_generator()
    with pytest.raises(InputError, match=words): gen.load_extra_state(state)
    assert gen.usual is None

# --- and of a learner

def scene(i): return (o := draw_landscape(i, 64)).segmap, o.photo

def test_training_forgets_usual_codes():
    "Those of before, and those that somebody asked for in the middle of an epoch"
    learn, seen = make_learner(average=.5), []
    class Ask(Callback):
        def after_batch(self):
            if self.training: seen.append(self.learn.usual_codes())
    learn.usual_codes()
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    assert learn.model.generator.usual is None
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=Ask())
    assert seen and learn.model.generator.usual is None
    with learn.painting() as gen: assert gen.usual is None
    learn.usual_codes()
    with learn.painting() as gen: assert torch.equal(gen.usual, learn.model.generator.usual)

def test_learner_encodes_predicts_and_exports(tmp_path):
    learn = make_learner()
    ids, photo = scene(0)
    codes, here = learn.encode(photo, ids), np.unique(ids).tolist()
    absent = [i for i in range(19) if i not in here]
    usual = learn.usual_codes()
    assert torch.equal(codes[absent], usual[absent]) and usual[absent].any() and not torch.equal(codes[here], usual[here])
    other = scene(1)[0]
    paint = lambda o, **kwargs: np.asarray(o.predict(other, **kwargs))
    shown = torch.where(torch.isin(torch.arange(19), torch.tensor(here))[:, None], codes, 0.)
    assert (paint(learn, codes=codes) == paint(learn, codes=shown)).all()
    assert (paint(learn) == paint(learn, codes=usual)).all() and learn.model.generator.usual is usual
    learn.path = tmp_path
    learn.export('l.pkl')
    light = load_learner(tmp_path/'l.pkl')
    assert torch.equal(light.usual_codes(), usual) and (paint(light) == paint(learn)).all()

def test_threads_predict_in_styles_of_their_own():
    learn = make_learner(average=None)
    lively(learn.model.generator).eval()
    ids = scene(1)[0]
    styles = [None, *torch.randn(3, 19, 5, generator=torch.Generator().manual_seed(1))]
    with ThreadPoolExecutor(4) as pool: made = list(pool.map(lambda i: np.asarray(learn.predict(ids, codes=styles[i % 4])), range(16)))
    true = [np.asarray(learn.predict(ids, codes=o)) for o in styles]
    assert all((made[i] == true[i % 4]).all() for i in range(16)) and (true[1] != true[2]).any()

class OtherGAN(SEANGAN): pass
def test_gan_func_arrives(tmp_path):
    learn = make_learner(gan_func=OtherGAN, locality=1.)
    assert type(learn.model) is OtherGAN and learn.model.edits == .5
    assert type(make_learner().model) is SEANGAN

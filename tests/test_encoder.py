"""The style encoder against the original's numbers, and the pair that moves as one."""
import json, pickle

import numpy as np, pytest, torch
from safetensors.torch import load_file
from torch import nn

from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import EncodedGAN, KLTerm, KLWarmup, StyleEncoder, StyleLearner, encode, reparameterise
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.models.style import diversity, interpolate, paint_styles, sample
from gaugan_fastai.pretrained import from_pretrained, load_original, save_pretrained
from reference_cases import ENCODER_SIZES, TOL, encoder_gaps, gap, picture, read, reference

pytestmark = pytest.mark.numeric

# -- the original's numbers ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('size', ENCODER_SIZES)
def test_fixture(size):
    diffs = encoder_gaps(size)
    print(size, {k: f'{v:.1e}' for k, v in diffs.items()})
    assert len(diffs) == 7 and max(diffs.values()) < TOL

def test_published_keys():
    info = read('keys', 'spade_coco_use_vae.json')
    with torch.device('meta'): enc = StyleEncoder()
    assert [(k, list(v.shape)) for k, v in enc.state_dict().items()] == list(info['E'].items())
    assert sum(o.numel() for o in enc.parameters()) == info['n_parameters']['E']

def test_published_checkpoint_loads(tmp_path):
    path = reference('spade/encoder/latest_net_E.pth')
    state = torch.load(path, weights_only=True)
    torch.save({f'module.{k}': v for k, v in state.items()}, tmp_path/'parallel.pth')
    x = picture(load_file(reference('spade/encoder/encoder.safetensors'))['128x128.image_u8'])
    want = load_file(reference('spade/encoder/encoder.safetensors'))['128x128.mu_eval']
    for enc in (load_original(path), load_original(tmp_path/'parallel.pth', family='spade'),
            from_pretrained(save_pretrained(load_original(path), tmp_path/'saved'))):
        assert (enc.ndf, enc.z_dim, enc.size, enc.training) == (2, 256, 256, False)
        with torch.no_grad(): assert gap(enc(x)[0], want) < TOL

# -- other sizes and bad input ------------------------------------------------------------------------------------

@pytest.mark.parametrize('size', [8, 16, 64, 512])
def test_any_size(size):
    enc = StyleEncoder(ndf=2, z_dim=5, size=size)
    mu, logvar = enc(torch.rand(2, 3, 40, 56)*2 - 1)
    assert mu.shape == logvar.shape == (2, 5)
    (mu + logvar).sum().backward()
    assert all(p.grad is not None for p in enc.parameters())

@pytest.mark.parametrize('call,says', [
    (lambda: StyleEncoder(size=100), 'size=100.*power of two'), (lambda: StyleEncoder(z_dim=0), 'z_dim=0'),
    (lambda: StyleEncoder(2, 4, 16)(torch.zeros(3, 16, 16)), r'\(3, 16, 16\)'),
    (lambda: StyleEncoder(2, 4, 16)(torch.zeros(1, 3, 16, 16).byte()), 'uint8'),
    (lambda: KLWarmup(KLTerm(), 0), 'kl_warmup is 0'), (lambda: interpolate(torch.zeros(3), torch.zeros(4)), '3 and 4'),
    (lambda: encode(nn.Linear(1, 1), torch.zeros(1, 3, 8, 8)), 'no style encoder'),
    (lambda: paint_styles(SPADEGenerator(3, 2, nhidden=4), torch.zeros(64, 64).long(), torch.zeros(1, 4)), 'one style')])
def test_bad_input(call, says):
    with pytest.raises(InputError, match=says): call()

def test_same_generator_same_draw():
    mu, logvar = torch.zeros(3, 4), torch.ones(3, 4)
    a, b = (reparameterise(mu, logvar, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, reparameterise(mu, logvar))

# -- training -----------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def dls(): return PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0, cache=False)

def small(dls, **kwargs):
    kwargs = dict(ngf=4, nhidden=8, ndf=4, z_dim=6, perceptual=None, average=None) | kwargs
    learn = spade_learner(dls, 'cpu', **kwargs)
    learn.remove_cbs([cb for cb in learn.cbs if cb.name == 'progress'])
    return learn

def weights(net): return [p.detach().clone() for p in net.parameters()]
def moved(net, before): return any(not torch.equal(a, b) for a, b in zip(net.parameters(), before))

@pytest.mark.parametrize('reuse_fake', [False, True])
def test_exactly_one_player_moves_at_each_step(dls, reuse_fake):
    learn, seen = small(dls, reuse_fake=reuse_fake), []
    model = learn.model
    def watched(step):
        def f(*args, **kwargs):
            nets = dict(generator=model.generator, encoder=model.encoder, critic=model.critic)
            before = {k: weights(o) for k, o in nets.items()}
            step(*args, **kwargs)
            seen.append({k for k, o in nets.items() if moved(o, before[k])})
        return f
    learn.create_opt()
    learn.opt.step = watched(learn.opt.step)
    with learn.no_logging(): learn.fit(2)
    assert seen == [{'generator', 'encoder'}, {'critic'}]*4
    assert all(p.grad is None for p in model.parameters())

@pytest.mark.parametrize('reuse_fake,draws', [(False, 2), (True, 1)])
def test_the_critic_gets_a_draw_of_its_own(dls, reuse_fake, draws):
    learn, count = small(dls, reuse_fake=reuse_fake), []
    learn.model.encoder.register_forward_hook(lambda m, i, o: count.append(m.training))
    with learn.no_logging(): learn.fit(1)
    assert sum(count) == 2*draws and len(count) - sum(count) == 1   # 2 batches to train, 1 to validate

def test_groups_frozen_and_kept(dls, tmp_path):
    learn = small(dls, path=tmp_path)
    learn.create_opt()
    assert len(learn.opt.param_lists) == 4
    with pytest.raises(InputError, match='the generator has 3 parameter groups'): learn.freeze_to(3)
    in_groups = [p for g in learn.opt.param_lists for p in g]
    assert len(in_groups) == len({id(p) for p in in_groups}) == len(list(learn.model.parameters()))
    learn.freeze_to(1)
    before = weights(learn.model.encoder)
    with learn.no_logging(): learn.fit(1)
    assert not moved(learn.model.encoder, before)
    learn.save('kept')
    again = small(dls, path=tmp_path).load('kept')
    assert all(torch.equal(a, b) for a, b in zip(again.model.encoder.parameters(), before))

def test_kl_column_and_its_warmup(dls):
    learn, terms = small(dls, kl=.5, kl_mean=True, kl_warmup=.5), []
    learn.model.encoder.register_forward_hook(lambda m, i, o: terms.append((m.training, learn.model.terms['kl'].share)))
    with learn.no_logging(): learn.fit(4)
    shares = [s for training, s in terms if training][::2]   # the critic's turn encodes too
    assert shares == pytest.approx([0, .25, .5, .75, 1, 1, 1, 1], abs=.02)
    assert {'kl', 'gan', 'feat'} <= set(learn.history[0]['train'])
    assert learn.history[-1]['train']['kl'] > 0 and learn.model.terms['kl'].share == 1

def test_predict_export_pickle(dls, tmp_path):
    from fastai.vision.all import load_learner
    torch.manual_seed(0)
    learn, scene, other = small(dls, path=tmp_path), draw_landscape(3, 48), draw_landscape(4, 40)
    assert type(learn) is StyleLearner and type(learn.model) is EncodedGAN
    with learn.no_logging(): learn.fit(1)
    paint = lambda l, **kw: np.asarray(l.predict(scene.segmap, **kw))
    z = encode(learn, other.photo)
    assert np.array_equal(paint(learn, style=other.photo), paint(learn, style=z[0]))
    assert np.array_equal(paint(learn, seed=1), paint(learn, seed=1)) and not np.array_equal(paint(learn, seed=1), paint(learn, seed=2))
    learn.export('light.pkl')
    light = load_learner(tmp_path/'light.pkl')
    assert light.model.critic is None
    assert np.array_equal(paint(light, style=other.photo), paint(learn, style=other.photo))

def test_predict_keeps_the_shape_of_the_map(dls):
    learn, tall = small(dls), np.zeros((70, 50), np.uint8)
    h, w = learn.model.generator.size
    wide, high = learn.predict(tall, seed=0).size
    assert min(wide - w, high - h) >= 0 and wide/high == pytest.approx(50/70, abs=.02)
    assert learn.predict(tall, seed=0, size=None).size == (50, 70) and learn.predict(tall, seed=0, size=(33, 44)).size == (44, 33)

@pytest.mark.parametrize('kwargs, words', [(dict(seed='a'), "seed is 'a'"), (dict(seed=-1), 'seed is -1'), (dict(seed=1, style=torch.zeros(6)), 'both given')], ids=str)
def test_predict_refuses(dls, kwargs, words):
    with pytest.raises(InputError, match=words): small(dls).predict(np.zeros((40, 40), np.uint8), **kwargs)

def test_saved_pair(dls, tmp_path):
    learn = small(dls)
    model = learn.model.eval()
    back = from_pretrained(save_pretrained(model.generator, tmp_path/'pair', dls.labels, encoder=model.encoder))
    assert json.loads((tmp_path/'pair/model.json').read_text())['config']['z_dim'] == 6
    modes = {o.stat().st_mode for o in (tmp_path/'pair').rglob('*') if o.is_file()}
    assert len(modes) == 1, 'weights are as readable as their card'
    photo = torch.rand(1, 3, 50, 70)*2 - 1
    assert gap(encode(back, photo), encode(model, photo)) < 1e-6
    assert back.state_dict().keys() == model.generator.state_dict().keys()
    fast = pickle.loads(pickle.dumps(back.for_inference()))
    segmap = torch.from_numpy(draw_landscape(3, 32).segmap).long()
    assert gap(sample(fast, segmap, 3), sample(learn, segmap, 3)) < TOL and gap(encode(fast, photo), encode(back, photo)) == 0
    with pytest.raises(InputError, match='both must have the same z_dim'):
        save_pretrained(model.generator, tmp_path/'x', encoder=StyleEncoder(2, 5, 16))
    (tmp_path/'pair/encoder/model.json').unlink()
    with pytest.raises(InputError, match='encoder'): from_pretrained(tmp_path/'pair')

def test_the_trained_landscapes_have_styles():
    model = from_pretrained('landscapes_style')
    scenes = [draw_landscape(i, 64) for i in range(4)]
    segmaps = torch.stack([torch.from_numpy(o.segmap).long() for o in scenes])
    assert model.card['licence'] == 'Apache-2.0' and diversity(model, segmaps, 3) > .3
    bright = [sum(draw_landscape(i, 64).style['light'])/3 for i in (7, 30)]     # noon, night
    z = torch.cat([encode(model, draw_landscape(i, 64).photo) for i in (7, 30)])
    for o in segmaps:
        noon, night = paint_styles(model, o, z).mean((1, 2, 3)).tolist()
        assert bright[0] > bright[1] and noon > night + .2

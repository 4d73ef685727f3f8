"""What styles are drawn from: N(0, 1), or the styles of photos that a generator brings along."""
import copy, json, pickle, sys
from pathlib import Path
import pytest, torch
from torch import nn
from torch.optim.swa_utils import update_bn
from gaugan_fastai.callbacks import forget_norms
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import StyleEncoder, as_style, draw_styles
from gaugan_fastai.models.oasis import OASISGenerator
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.models.style import sample
from gaugan_fastai.painter import Painter
from gaugan_fastai.paintable import load_model
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.prior import StylePrior
from gaugan_fastai.sharing import prepare_upload

def seeded(i): return torch.Generator().manual_seed(i)
def bank(n=8, z_dim=4): return StylePrior(torch.randn(n, z_dim, generator=seeded(0)), torch.rand(n, z_dim, generator=seeded(1)))

@pytest.fixture
def gen():
    torch.manual_seed(0)
    gen = SPADEGenerator(3, ngf=2, nhidden=4, z_dim=4, size=32).eval()
    gen.labels = LabelSpace(['sky', 'water', 'land'], void=None)
    gen.__dict__['encoder'] = StyleEncoder(ndf=2, z_dim=4, size=32).eval()
    return gen

@pytest.fixture
def segmap(): return torch.arange(3).repeat_interleave(11)[:32].repeat(32, 1)

@pytest.fixture
def folder(gen, tmp_path): return save_pretrained(gen, tmp_path/'model', prior=bank())

# -- the distribution --------------------------------------------------------------------------------------------

def test_draws_follow_the_mixture():
    prior, n = bank(3), 20000
    z = prior.draw(n, seeded(2))
    mean = prior.mu.mean(0)
    variance = (prior.std**2 + prior.mu**2).mean(0) - mean**2
    assert (z.mean(0) - mean).abs().max() < .05 and (z.var(0)/variance - 1).abs().max() < .05
    nearest = torch.cdist(StylePrior(prior.mu, 0*prior.std).draw(n, seeded(2)), prior.mu).min(1)
    assert nearest.values.max() < 1e-3 and (nearest.indices.bincount()/n - 1/3).abs().max() < .02, 'each photo as often'

def test_a_seed_is_a_style():
    prior = bank()
    assert torch.equal(prior.draw(3, seeded(5)), prior.draw(3, seeded(5)))
    assert not torch.equal(prior.draw(3, seeded(5)), prior.draw(3, seeded(6))) and prior.draw().shape == (1, 4)

def test_it_is_what_the_encoder_says(gen):
    photos = torch.rand(5, 3, 40, 40, generator=seeded(0))*2 - 1
    prior, (mu, logvar) = StylePrior.of(gen, list(photos)), gen.encoder(photos)
    assert (prior.mu - mu).abs().max() < 2e-3 and (prior.std - (logvar/2).exp()).abs().max() < 2e-3
    assert len(prior) == 5 and repr(prior) == 'StylePrior(5 photos, z_dim=4)'

@pytest.mark.parametrize('mu, std, words', [
    (torch.zeros(2, 3), torch.zeros(3, 3), r'shapes \(2, 3\) and \(3, 3\)'), (torch.zeros(3), torch.zeros(3), r'shapes \(3,\)'),
    (torch.zeros(0, 3), torch.zeros(0, 3), r'shapes \(0, 3\)'), (torch.zeros(1, 3), -torch.ones(1, 3), 'std holds -1'),
    (torch.full((1, 3), float('nan')), torch.ones(1, 3), 'the prior'), (torch.full((1, 3), 1e6), torch.ones(1, 3), 'the prior')])
def test_what_is_no_distribution_is_refused(mu, std, words):
    with pytest.raises(InputError, match=words): StylePrior(mu, std)

def test_photos_and_an_encoder_are_needed(gen):
    with pytest.raises(InputError, match='there are no photos'): StylePrior.of(gen, [])
    del gen.__dict__['encoder']
    with pytest.raises(InputError, match='no style encoder'): StylePrior.of(gen, torch.zeros(1, 3, 32, 32))

# -- who draws ---------------------------------------------------------------------------------------------------

def test_without_a_prior_all_is_as_it_was(gen, segmap):
    want = torch.randn(2, 4, generator=seeded(7))
    assert torch.equal(draw_styles(gen, 2, seeded(7)), want)
    assert torch.equal(as_style(gen, None, 4, seed=7), torch.randn(1, 4, generator=seeded(7)))
    assert torch.equal(sample(gen, segmap, 2, 7), gen(segmap.expand(2, 32, 32), z=want))
    torch.manual_seed(7)
    drawn = gen(segmap[None])
    torch.manual_seed(7)
    assert torch.equal(drawn, gen(segmap[None], z=torch.randn(1, 4)))

def test_all_who_draw_ask_the_prior(gen, segmap):
    gen.prior, far = StylePrior(torch.full((1, 4), 5.), torch.zeros(1, 4)), torch.full((1, 4), 5.)
    want = gen(segmap[None], z=far)
    assert torch.equal(draw_styles(gen), far) and torch.equal(as_style(gen, None, 4), far) and torch.equal(as_style(gen, None, 4, 3), far)
    assert torch.equal(gen(segmap[None]), want) and torch.equal(sample(gen, segmap, 1), want)
    oasis = OASISGenerator(3, 2, 4).eval()
    oasis.prior = gen.prior
    for z in (None, seeded(0)): assert torch.equal(oasis(segmap[None], z=z), oasis(segmap[None], z=far))

def test_the_painter_draws_from_it(folder, gen, segmap):
    painter, plain = Painter(folder), Painter(gen)
    assert torch.equal(painter.styles_for(seed=3)[0], bank().draw(1, seeded(3)))
    assert torch.equal(plain.styles_for(seed=3)[0], torch.randn(1, 4, generator=seeded(3)))
    assert painter(segmap, seed=3, ids='library').tobytes() == painter(segmap, style=bank().draw(1, seeded(3)), ids='library').tobytes()

# -- beside the weights ------------------------------------------------------------------------------------------

def test_it_comes_back(folder, gen):
    back = from_pretrained(folder)
    assert isinstance(back.prior, StylePrior) and torch.equal(back.prior.draw(9, seeded(1)), bank().draw(9, seeded(1)))
    assert back.state_dict().keys() == gen.state_dict().keys(), 'not a part of the state'
    assert 'prior.safetensors' in json.loads((folder/'model.json').read_text())['sha256']
    assert getattr(from_pretrained(save_pretrained(gen, folder.parent/'plain')), 'prior', None) is None

def test_copies_have_it(folder, tmp_path):
    back, want = from_pretrained(folder), bank().draw(2, seeded(1))
    again = from_pretrained(save_pretrained(back, tmp_path/'again', half=True))
    for o in (copy.deepcopy(back), back.for_inference(), back.half(), again, load_model(folder), pickle.loads(pickle.dumps(back))):
        assert torch.equal(draw_styles(o, 2, seeded(1)), want)

def test_a_damaged_or_foreign_one_is_refused(folder, gen, tmp_path):
    file = folder/'prior.safetensors'
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match='prior.safetensors is not the file that its card describes'): from_pretrained(folder)
    file.unlink()
    with pytest.raises(InputError, match='prior.safetensors cannot be read'): from_pretrained(folder)
    with pytest.raises(InputError, match='StylePrior with z_dim=5 is none for a SPADEGenerator with z_dim=4'):
        save_pretrained(gen, tmp_path/'x', prior=bank(z_dim=5))
    assert not (tmp_path/'x').exists()

@pytest.mark.parametrize('tensors, words', [(dict(mu=torch.zeros(2, 4)), 'holds no styles'),
    (dict(mu=torch.zeros(2, 5), std=torch.zeros(2, 5)), 'StylePrior with z_dim=5 is none'), (dict(a=torch.zeros(1)), 'holds no styles')])
def test_a_file_of_something_else_is_refused(folder, tensors, words):
    from gaugan_fastai.weights import checksum, pack_weights
    card, data = json.loads((folder/'model.json').read_text()), pack_weights(tensors)
    card['sha256']['prior.safetensors'] = checksum(data)
    (folder/'prior.safetensors').write_bytes(data)
    (folder/'model.json').write_text(json.dumps(card))
    with pytest.raises(InputError, match=words): from_pretrained(folder)

def test_it_is_uploaded(folder, tmp_path):
    assert 'prior.safetensors' in prepare_upload(folder, tmp_path/'up')
    assert len(from_pretrained(tmp_path/'up').prior) == 8

def test_a_training_forgets_it(folder):
    dls = PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=2)
    begun = SPADEGenerator(dls.n_classes, ngf=2, nhidden=4, z_dim=4, size=32)
    begun.labels, begun.prior = dls.labels, bank()
    learn = spade_learner(dls, pretrained=begun, ndf=2)
    with learn.painting() as gen: assert getattr(gen, 'prior', None) is None
    made = StylePrior.of(learn, torch.zeros(3, 3, 32, 32))
    assert (len(made), made.z_dim) == (3, 4)

def test_the_average_of_two_trainings_forgets_it(folder, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent/'tools'))
    import average_weights
    card = json.loads((folder/'model.json').read_text()) | dict(size=[32, 32])
    (folder/'model.json').write_text(json.dumps(card))
    average_weights.main([str(folder), str(folder), str(tmp_path/'mean')])
    assert getattr(from_pretrained(tmp_path/'mean'), 'prior', None) is None

def drawn_painter(folder, **widths):
    "A saved painter of drawn landscapes, of 32x32"
    torch.manual_seed(0)
    gen = SPADEGenerator(19, ngf=2, nhidden=4, **widths).eval()
    gen.labels = landscape_labels()
    return save_pretrained(gen, folder, size=[32, 32], training='none')

def numbers_of(folder): return from_pretrained(folder).state_dict()

def test_statistics_made_anew_are_those_that_torch_makes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent/'tools'))
    import norm_statistics
    before = drawn_painter(tmp_path/'before')
    norm_statistics.main([str(before), str(tmp_path/'after'), '--n', '8', '--bs', '8'])
    maps = torch.stack([torch.as_tensor(draw_landscape(norm_statistics.FIRST + i, 32)[0]).long() for i in range(1, 9)])
    reference, after = from_pretrained(before), numbers_of(tmp_path/'after')
    update_bn([maps], reference)
    for k, v in reference.state_dict().items():
        if 'running' in k:
            assert (after[k] - v).abs().max() < 1e-4*v.abs().max() and not torch.equal(v, numbers_of(before)[k]), k
    kept = [k for k, _ in reference.named_parameters()]
    assert kept and all(torch.equal(after[k], numbers_of(before)[k]) for k in kept)
    assert from_pretrained(tmp_path/'after').card['training'].endswith('norm_statistics.py BEFORE OUT --n 8')

def test_without_batch_norm_there_are_no_statistics(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent/'tools'))
    import norm_statistics
    folder = drawn_painter(tmp_path/'instance', norm='instance')
    with pytest.raises(InputError, match='has no batch norm'): norm_statistics.main([str(folder), str(tmp_path/'after')])
    with pytest.raises(SystemExit): norm_statistics.main([str(folder), str(tmp_path/'after'), '--n', '3'])
    assert not (tmp_path/'after').exists()

def test_norms_that_forgot_keep_the_plain_mean():
    norm, other = nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False)
    batches = [torch.randn(4, 2, 3, 3, generator=seeded(i)) + i for i in range(3)]
    norm(batches[2])
    forget_norms([nn.Sequential(norm), other])
    for o in batches[:2]: norm(o)
    assert torch.allclose(norm.running_mean, torch.stack([o.mean((0, 2, 3)) for o in batches[:2]]).mean(0), atol=1e-6)
    assert torch.allclose(norm.running_var, torch.stack([o.transpose(0, 1).flatten(1).var(1) for o in batches[:2]]).mean(0), atol=1e-6)

def test_the_shipped_painter_has_one():
    gen = from_pretrained('landscapes')
    assert len(gen.prior) == 256 and not torch.equal(draw_styles(gen, 1, seeded(0)), torch.randn(1, 32, generator=seeded(0)))

def test_a_painter_learns_the_sky_of_another_one(tmp_path, monkeypatch):
    "Where the map says sky its pictures come nearer to the other's, and elsewhere they stay"
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent/'tools'))
    import distil
    torch.manual_seed(0)
    begun = [SPADEGenerator(19, ngf=2, nhidden=4, z_dim=4, size=32).eval() for _ in range(2)]
    begun[1].load_state_dict(begun[0].state_dict())
    with torch.no_grad(): begun[1].conv_img.bias += .5
    for o, name in zip(begun, ('keep', 'other')):
        o.labels, encoder = landscape_labels(), StyleEncoder(ndf=2, z_dim=4, size=32)
        save_pretrained(o, tmp_path/name, encoder=encoder, prior=bank(), size=[32, 32], training='none')
    paths = [str(tmp_path/o) for o in ('keep', 'other', 'out')]
    distil.main([*paths, '--n', '4', '--steps', '150', '--lr', '3e-3'])
    maps = distil.scenes(range(distil.FIRST, distil.FIRST + 4), (32, 32))[0]
    gens = [from_pretrained(o).eval() for o in paths]
    styles = distil.nightly(gens[0], 4, (32, 32), seeded(1))
    kept, other, learnt = (distil.pictures(o, maps, styles) for o in gens)
    sky = (maps == landscape_labels().codes.index('sky'))[:, None].expand_as(kept)
    gap = lambda x, y, where: (x - y).abs()[where].mean()
    assert gap(learnt, other, sky) < .5*gap(kept, other, sky) and gap(learnt, kept, ~sky) < .5*gap(other, kept, ~sky)
    assert len(gens[2].prior) == 8 and '--classes sky' in gens[2].card['training']
    assert [o['steps'] for o in gens[2].card['curve']] == [50, 100, 150] and gens[2].card['curve'][-1]['l1'] < .1
    assert torch.equal(gens[2].fc.weight, gens[0].fc.weight.half().float()), 'only the fine end learns'
    with pytest.raises(InputError, match="no class is called 'lava'"): distil.main([*paths, '--classes', 'lava'])
    with pytest.raises(InputError, match='no layer begins with up_9'): distil.main([*paths, '--n', '2', '--layers', 'up_9'])
    drawn_painter(tmp_path/'plain')
    with pytest.raises(InputError, match='need a z and a prior'): distil.main([paths[0], str(tmp_path/'plain'), paths[2]])

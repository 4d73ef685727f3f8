"""Where a model is found: in the library, in the cache, in a folder, in a run, by one of its files."""
import sys
import pytest, torch
from gaugan_fastai import weights
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.painter import Painter
from gaugan_fastai.pretrained import from_pretrained, load_networks, pretrained_folder, save_networks, save_pretrained
from gaugan_fastai.weights import known_weights, shipped_data, shipped_weights, weights_cache

def toy():
    gen = SPADEGenerator(3, ngf=2, nhidden=4).eval()
    gen.labels = LabelSpace(['sky', 'water', 'land'], void=None)
    return gen

@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('GAUGAN_CACHE', str(tmp_path/'cache'))
    return tmp_path/'cache/weights'

def test_the_cache_of_the_user(tmp_path, monkeypatch, cache):
    assert weights_cache() == tmp_path/'cache'
    monkeypatch.delenv('GAUGAN_CACHE')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path/'xdg'))
    assert weights_cache() == tmp_path/'xdg/gaugan_fastai'
    monkeypatch.setenv('XDG_CACHE_HOME', '')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert weights_cache() == tmp_path/'.cache/gaugan_fastai' and known_weights() == shipped_weights()

def test_a_name_in_the_cache(cache, tmp_path, monkeypatch):
    save_pretrained(toy(), cache/'mine', steps=3)
    assert from_pretrained('mine').card['steps'] == 3 and Painter('mine').card['steps'] == 3
    assert pretrained_folder('mine') == cache/'mine'
    save_pretrained(toy(), cache/'landscapes')
    assert known_weights()['landscapes'] == shipped_weights()['landscapes'], "a name of the library stays the library's"
    monkeypatch.chdir(tmp_path)
    here = save_pretrained(toy(), tmp_path/'mine', steps=4)
    assert from_pretrained('mine').card['steps'] == 4 and here.is_dir(), 'a path goes before a name'

def test_a_wheel_has_its_own(cache, tmp_path, monkeypatch):
    "Without a checkout beside it the package has its data inside; the cache is there all the same"
    package = tmp_path/'site/gaugan_fastai'
    save_pretrained(toy(), package/'shipped/weights/landscapes', steps=1)
    save_pretrained(toy(), cache/'street', steps=2)
    monkeypatch.setattr(sys.modules['gaugan_fastai'], '__file__', str(package/'__init__.py'))
    assert shipped_data() == package/'shipped' and set(known_weights()) == {'landscapes', 'street'}
    assert from_pretrained('landscapes').card['steps'] == 1 and from_pretrained('street').card['steps'] == 2
    with pytest.raises(InputError, match="there is no model 'faces'"): from_pretrained('faces')

def test_a_folder_a_run_and_a_file(tmp_path):
    folder = save_pretrained(toy(), tmp_path/'run/model')
    for o in (tmp_path/'run', folder, folder/'model.json', folder/'model.safetensors', str(folder)):
        assert pretrained_folder(o) == folder and from_pretrained(o).n_classes == 3
    torch.save(toy().state_dict(), tmp_path/'net.pth')
    with pytest.raises(InputError, match='net.pth is no model.json .* load_original'): from_pretrained(tmp_path/'net.pth')
    save_networks(dict(there=toy(), back=toy()), tmp_path/'pair/model')
    assert list(load_networks(tmp_path/'pair')) == ['there', 'back']

def test_what_is_nowhere(tmp_path):
    assert pretrained_folder(tmp_path/'nowhere') == tmp_path/'nowhere'
    with pytest.raises(InputError, match='there is no model'): from_pretrained(tmp_path/'nowhere')
    assert weights.known_weights().keys() >= {'landscapes', 'landscapes_sean'}

@pytest.mark.parametrize('family', ['spade', 'sean'])
def test_a_learner_is_saved_as_what_it_paints_with(tmp_path, family):
    "Averaged weights with encoder or usual codes, labels and size; no more is needed to paint as it does"
    dls = PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=2)
    if family == 'spade': learn = spade_learner(dls, ngf=2, nhidden=4, ndf=2, z_dim=4, perceptual=None, average=.9)
    else: learn = sean_learner(dls, ngf=2, nhidden=4, ndf=2, style_dim=4, width=2, perceptual=None, average=.9)
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-2)
    folder = save_pretrained(learn, tmp_path/'mine', licence='mine', training='a step or two')
    painter, back, (segmap, photo, _) = Painter(folder), from_pretrained(folder), draw_landscape(7, 32)
    assert painter.size == (32, 32) and painter.labels.codes == dls.labels.codes and painter.card['licence'] == 'mine'
    with learn.painting() as gen:
        for k, v in gen.state_dict().items(): assert torch.equal(v, back.state_dict()[k]), k
        live = learn.model.generator.state_dict()
        assert any(not torch.equal(v, live[k]) for k, v in gen.state_dict().items()), 'averaged weights are others'
        grey = torch.zeros(1, 3, 32, 32)
        if family == 'spade': assert torch.equal(gen.encoder(grey)[0], back.encoder(grey)[0])
    seen = dict(style_map=segmap) if family == 'sean' else {}
    assert painter(segmap, style=photo, ids='library', **seen).size == (32, 32)
    if family == 'sean': assert (back.usual != 0).any()

def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="no model 'nosuch'.*by name there are .*landscapes_sean"): from_pretrained('nosuch')

@pytest.mark.parametrize('seed', ['a', 1.5, -1, True])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(InputError, match=f'seed is {seed!r}'): Painter('landscapes_style')(torch.zeros(64, 64).long(), seed=seed)

"""Where a model is found: in the library, in the cache, in a folder, in a run, by one of its files."""
import sys
import pytest, torch
from gaugan_fastai import weights
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.models.spade import SPADEGenerator
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

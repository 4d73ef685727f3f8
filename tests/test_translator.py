"""A painter for photos: any size, any thread, either way, and a folder of photos with one that is broken."""
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from test_cli import gaugan, refused
from gaugan_fastai import registry
from gaugan_fastai.core import InputError
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.folders import files_of, paint_each, targets
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.pretrained import from_pretrained, load_networks, network_folders, save_networks, save_pretrained
from gaugan_fastai.translator import Translator, translate_folder, translator_of

class Negative(nn.Module):
    "White for black, where the sides are multiples of 4"
    multiple = 4
    def __init__(self, share=1.):
        super().__init__()
        self.share, self.weight, self.seen = share, nn.Parameter(torch.tensor(-share)), []
    def forward(self, x):
        self.seen.append(tuple(x.shape[-2:]))
        assert not any(o % 4 for o in x.shape[-2:]) and x.abs().max() <= 1
        return x*self.weight

class Judge(Negative): pass

@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setattr(registry, 'networks', registry.networks.copy())
    registry.register(Negative, 'translator')
    registry.register(Judge, 'critic')

def photo(h, w): return np.random.default_rng(h*w).integers(0, 256, (h, w, 3), np.uint8)
def numbers(o): return np.asarray(o).astype(int)

@pytest.mark.numeric
@pytest.mark.parametrize('h, w', [(8, 12), (9, 14), (1, 1), (2, 30), (33, 3)])
def test_any_size(h, w):
    translator = Translator(Negative())
    assert abs(numbers(translator(photo(h, w))) - (255 - photo(h, w).astype(int))).max() == 0
    assert translator.net.seen == [tuple(-(-o//4)*4 for o in (h, w))]

@pytest.mark.numeric
def test_what_it_takes(tmp_path):
    Image.fromarray(photo(10, 12)).save(tmp_path/'a.png')
    translator = Translator(Negative())
    for o in (tmp_path/'a.png', str(tmp_path/'a.png'), Image.open(tmp_path/'a.png'), photo(10, 12)):
        assert (numbers(translator(o)) == 255 - photo(10, 12).astype(int)).all()
    assert translator(photo(10, 12), size=(20, 30)).size == (30, 20) and translator(photo(10, 12), size=7).size == (7, 7)
    assert (numbers(translator(photo(10, 12), size=(10, 12))) == 255 - photo(10, 12).astype(int)).all()
    for bad, words in ((photo(4, 4)/255, 'photo is float64'), (tmp_path/'none.png', 'none.png'), (photo(4, 4)[..., 0], 'uint8')):
        with pytest.raises(InputError, match=words): translator(bad)
    with pytest.raises(InputError, match='no picture size'): translator(photo(4, 4), size=0)

def test_it_has_a_network_of_its_own():
    net = Negative().train()
    translator = Translator(net)
    before = translator(photo(8, 8))
    net.weight.data.zero_()
    assert translator(photo(8, 8)) == before and net.training and net.weight.requires_grad
    assert not translator.net.training and not any(o.requires_grad for o in translator.net.parameters())
    assert repr(translator) == 'Translator(Negative: Negative)'

def test_any_thread():
    translator, sizes = Translator(Negative(.5)), [(8, 8), (9, 13), (20, 7)]*6
    alone = [translator(photo(*o)) for o in sizes[:3]]
    with ThreadPoolExecutor(6) as pool: many = list(pool.map(lambda o: translator(photo(*o)), sizes))
    assert many == alone*6

@pytest.mark.numeric
def test_two_ways(tmp_path):
    save_networks(dict(there=Negative(), back=Negative(.5)), tmp_path/'model', size=[8, 8])
    assert list(load_networks(tmp_path/'model')) == ['there', 'back'] and from_pretrained(tmp_path/'model/back').share == .5
    for reverse, share in ((False, 1.), (True, .5)):
        for model in (tmp_path, tmp_path/'model', str(tmp_path)): assert translator_of(model, reverse).share == share
    assert Translator(tmp_path/'model/back').net.share == .5
    with pytest.raises(InputError, match='back knows one way only: leave reverse out') as e: Translator(tmp_path/'model/back', reverse=True)
    assert e.value.option == 'reverse'

def test_one_network_goes_into_the_folder_itself(tmp_path):
    save_networks({'': Negative()}, tmp_path/'m')
    assert network_folders(tmp_path/'m') == {'': tmp_path/'m'} and (tmp_path/'m/model.json').is_file()

@pytest.mark.parametrize('text', ['', '[1]', '{}', '{"networks": []}', '{"networks": ["../a"]}', '{"networks": [""]}', '{"networks": [".."]}', '{"networks": 3}'])
def test_a_damaged_list_of_networks(text, tmp_path):
    (tmp_path/'networks.json').write_text(text)
    with pytest.raises(InputError, match='networks.json does not list the folders'): network_folders(tmp_path)

def test_what_translates_nothing(tmp_path):
    for net, words in ((SPADEGenerator(3, 2, nhidden=4), 'gaugan generate paints'), (MultiScaleCritic(3, 4), 'give one that does'), (Judge(), 'takes no photos')):
        with pytest.raises(InputError, match=words): Translator(net)
    with pytest.raises(InputError, match='not registered'): Translator(nn.Linear(1, 1))

# -- folders -----------------------------------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path):
    "A model, and four photos of which two cannot be read"
    save_pretrained(Negative(), tmp_path/'model')
    (tmp_path/'photos').mkdir()
    for i in range(2): Image.fromarray(photo(9 + i, 14)).save(tmp_path/f'photos/{i}.png')
    (tmp_path/'photos/2.png').write_bytes(b'no picture')
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path/'photos/3.png')
    return tmp_path

def test_a_folder(folder):
    code, words, err = gaugan('translate', folder/'model', folder/'photos', '--out', folder/'out')
    assert code == 1 and words == f'2 of 4 photos translated; the pictures are in {folder/"out"}\n' and err.count('not painted:') == 2 and 'Traceback' not in err
    assert '2.png' in err and '3.png' in err
    assert [o.name for o in sorted((folder/'out').iterdir())] == ['0.png', '1.png']
    assert (numbers(Image.open(folder/'out/1.png')) == 255 - photo(10, 14).astype(int)).all()
    code, words, _ = gaugan('translate', folder/'model', folder/'photos/0.png', '--out', folder/'one', '--size', '20x24')
    assert code == 0 and words.startswith('1 of 1') and Image.open(folder/'one/0.png').size == (24, 20)

def test_a_folder_in_python(folder):
    res = translate_folder(folder/'model', folder/'photos', folder/'out', size=8)
    assert [isinstance(o, InputError) for o in res.values()] == [False, False, True, True]
    assert list(translate_folder(Translator(folder/'model'), [folder/'photos/0.png'], folder/'b').values()) == [folder/'b/0.png']

@pytest.mark.parametrize('args, words', [(['model', 'none'], 'give a photo or a folder of photos'), (['nothing', 'photos'], "no model 'nothing'"),
    (['model', 'photos', '--out', 'photos'], 'is a photo itself'), (['model', 'photos', '--out', 'photos/0.png'], 'is a file'),
    (['model', 'photos', '--reverse'], 'one way only: leave --reverse out'), (['landscapes', 'photos'], 'takes no photos')], ids=str)
def test_refused(folder, args, words, monkeypatch):
    monkeypatch.chdir(folder)
    assert words in refused('translate', *args)
    assert not (folder/'translated').exists()

def test_painting_file_after_file(tmp_path):
    Image.fromarray(photo(4, 4)).save(tmp_path/'b.png')
    assert files_of(tmp_path) == [tmp_path/'b.png'] == files_of(tmp_path/'b.png') == files_of([str(tmp_path/'b.png')])
    files = targets([tmp_path/'b.png', tmp_path/'c.png'], tmp_path/'out', 2)
    assert [o.name for o in files[tmp_path/'c.png']] == ['c_0.png', 'c_1.png']
    def paint(fn):
        if fn.stem == 'c': raise InputError('c is none')
        return [photo(4, 4), photo(5, 5)]
    res = paint_each(files, tmp_path/'out', paint)
    assert str(res[tmp_path/'c.png']) == 'c is none' and [Image.open(o).size for o in res[tmp_path/'b.png']] == [(4, 4), (5, 5)]

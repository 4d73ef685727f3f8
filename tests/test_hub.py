"""Models on a hub: fetched and pushed against a server on this machine; what is hostile, damaged or out of reach is refused."""
import json, os, pickle, subprocess, sys, shutil
import pytest, torch
from hub_server import Hub, sha256
from safetensors.torch import save
from gaugan_fastai import hub as our_hub
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.encoder import StyleEncoder
from gaugan_fastai.hub import hub_client, hub_errors, hub_folder, hub_name, is_offline
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.painter import Painter
from gaugan_fastai.pretrained import from_pretrained, load_networks, save_networks, save_pretrained
from gaugan_fastai.prior import StylePrior
from gaugan_fastai.sharing import model_page, prepare_upload, push_to_hub

client = pytest.importorskip('huggingface_hub')
constants = pytest.importorskip('huggingface_hub.constants')

def toy(seed=0, **kwargs):
    torch.manual_seed(seed)
    gen = SPADEGenerator(3, ngf=2, nhidden=4, **kwargs).eval()
    gen.labels = LabelSpace(['sky', 'water', 'land'], void=None)
    return gen

def content(folder): return {o.relative_to(folder).as_posix(): o.read_bytes() for o in folder.rglob('*') if o.is_file()}
def equal(a, b): return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))

@pytest.fixture
def hub(tmp_path, monkeypatch):
    "A hub with two models, and a client with an empty cache that knows no other"
    res = Hub()
    for k, v in dict(HF_HUB_CACHE=str(tmp_path/'cache'), HF_TOKEN_PATH=str(tmp_path/'token'), HF_STORED_TOKENS_PATH=str(tmp_path/'tokens')).items():
        monkeypatch.setattr(constants, k, v)
    for k in ('HF_HUB_DISABLE_XET', 'HF_HUB_DISABLE_PROGRESS_BARS', 'HF_HUB_DISABLE_TELEMETRY'): monkeypatch.setattr(constants, k, True, raising=False)
    monkeypatch.setenv('HF_HUB_DISABLE_XET', '1')
    monkeypatch.delenv('HF_TOKEN', raising=False)
    at(monkeypatch, res.url)
    monkeypatch.chdir(tmp_path)
    res.models['anna/sea'] = content(save_pretrained(toy(), tmp_path/'sea')) | {'README.md': b'# Sea', 'pytorch_model.bin': b'a pickle', 'setup.py': b'1/0'}
    yield res
    res.stop()

def at(monkeypatch, url):
    "Let the client speak with this address"
    monkeypatch.setattr(constants, 'ENDPOINT', url)
    monkeypatch.setattr(constants, 'HUGGINGFACE_CO_URL_TEMPLATE', url + '/{repo_id}/resolve/{revision}/{filename}')
    real = client.HfApi
    monkeypatch.setattr(client, 'HfApi', lambda **kw: real(**{'endpoint': url, **kw}))
    snapshot = client.snapshot_download
    monkeypatch.setattr(client, 'snapshot_download', lambda *args, **kw: snapshot(*args, **{'endpoint': url, **kw}))

def fetched(hub): return [path.rpartition('/')[2] for method, path in hub.asked if method == 'GET' and '/resolve/' in path]

# -- down --------------------------------------------------------------------------------------------------------

def test_a_model_is_fetched_by_its_name(hub):
    gen = from_pretrained('anna/sea')
    assert equal(gen, toy()) and gen.labels.codes == ['sky', 'water', 'land']
    assert sorted(fetched(hub)) == ['model.json', 'model.safetensors'], 'nothing else is, neither pickle nor code'
    assert equal(from_pretrained('anna/sea@v1'), gen) and equal(from_pretrained(f'anna/sea@{hub.sha("anna/sea")}'), gen)
    assert sorted(fetched(hub)) == ['model.json', 'model.safetensors'], 'nothing is fetched twice'

def test_it_is_painted_with(hub):
    painter = Painter('anna/sea')
    assert painter(torch.zeros(32, 32, dtype=torch.long)).size == (32, 32) and painter.name == 'anna/sea'

def test_encoders_and_pairs_come_along(hub, tmp_path):
    gen = toy(z_dim=4, size=32)
    gen.__dict__['encoder'] = StyleEncoder(ndf=2, z_dim=4, size=32).eval()
    gen.prior = StylePrior(torch.randn(3, 4), torch.ones(3, 4))
    hub.models['anna/styles'] = content(save_pretrained(gen, tmp_path/'styles'))
    back = from_pretrained('anna/styles')
    assert equal(back.encoder, gen.encoder) and torch.equal(back.prior.mu, gen.prior.mu)
    save_networks(dict(there=toy(1), back=toy(2)), tmp_path/'pair', licence='toy')
    hub.models['anna/pair'] = content(tmp_path/'pair')
    pair = load_networks('anna/pair')
    assert list(pair) == ['there', 'back'] and equal(pair['back'], toy(2))

def test_without_a_network_the_last_copy_will_do(hub, monkeypatch):
    gen = from_pretrained('anna/sea')
    at(monkeypatch, 'http://127.0.0.1:9')   # where nobody listens
    assert equal(from_pretrained('anna/sea'), gen)
    with pytest.raises(InputError, match='cannot be reached, and bert/hills was not fetched before: try again with a network'): from_pretrained('bert/hills')
    monkeypatch.setattr(constants, 'HF_HUB_OFFLINE', True)
    assert equal(from_pretrained('anna/sea'), gen)
    with pytest.raises(InputError, match='cannot be reached'): from_pretrained('bert/hills')

def test_what_cannot_be_had(hub):
    hub.private.add('anna/sea')
    with pytest.raises(InputError, match='the hub shows no model anna/sea: check the name; if it is private, log in'): from_pretrained('anna/sea')
    assert hub_folder('anna/sea', token='hf_mine').is_dir()
    hub.models['anna/gated'] = hub.models['anna/sea']
    hub.gated.add('anna/gated')
    with pytest.raises(InputError, match='anna/gated asks for its terms first'): from_pretrained('anna/gated')
    with pytest.raises(InputError, match='shows no model bert/hills'): from_pretrained('bert/hills')
    hub.private.clear()
    with pytest.raises(InputError, match="anna/sea has no revision 'v9'"): from_pretrained('anna/sea@v9')

def test_a_path_causes_no_request(hub, tmp_path):
    (tmp_path/'runs').mkdir()
    for o in ('runs/mine', './anna/sea', str(tmp_path/'anna/sea'), 'landscape', 'a/b/c'):
        with pytest.raises(InputError, match='there is no model'): from_pretrained(o)
    assert hub.asked == [] and hub_name('runs/mine') is None

def test_without_the_client(hub, monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    for f in (lambda: from_pretrained('anna/sea'), lambda: push_to_hub(toy(), 'anna/sea')):
        with pytest.raises(InputError, match=r"which is not installed: pip install 'gaugan_fastai\[hub\]'"): f()

# -- hostile and damaged -----------------------------------------------------------------------------------------

class Bang:
    def __reduce__(self): return os.mkdir, ('bang',)

@pytest.mark.parametrize('change, words', [
    ({'model.json': None, 'model.safetensors': None}, 'holds no model of gaugan_fastai .* pickles are not read'),
    ({'model.json': None}, 'holds no model of gaugan_fastai'),
    ({'../../evil.safetensors': b'x'}, "lists a file '../../evil.safetensors', which lies outside"),
    ({'/etc/model.json': b'x'}, 'lies outside'), ({'..\\model.json': b'x'}, 'lies outside'), ({'C:/model.json': b'x'}, 'lies outside'),
    ({'model.json': b'[]'}, 'no card with a checksum'), ({'model.json': b'{"format": "gaugan_fastai 1"}'}, 'no card with a checksum'),
    ({'model.json': b' '*2**20 + b'{}'}, 'no card with a checksum'), ({'model.json': b'['*10**5}, 'no card with a checksum'),
    ({'model.safetensors': None}, 'missing or not the file'), ({'model.safetensors': b'x'}, 'missing or not the file'),
    ({'model.safetensors': pickle.dumps(Bang())}, 'missing or not the file')], ids=str)
def test_what_is_no_model_of_ours(hub, change, words, tmp_path):
    files = hub.models['anna/sea'] | change
    hub.models['anna/sea'] = {k: v for k, v in files.items() if v is not None}
    before = {o for o in tmp_path.parent.iterdir()}
    with pytest.raises(InputError, match=words): from_pretrained('anna/sea')
    assert {o for o in tmp_path.parent.iterdir()} == before and not (tmp_path/'bang').exists()

def described(hub, weights, **changes):
    "A model whose card fits any bytes"
    card = json.loads(hub.models['anna/sea']['model.json']) | dict(sha256={'model.safetensors': sha256(weights)}) | changes
    hub.models['anna/sea'] |= {'model.json': json.dumps(card).encode(), 'model.safetensors': weights}

@pytest.mark.parametrize('weights', [b'', b'\xff'*64, (2**62).to_bytes(8, 'little') + b'{}', (10**8).to_bytes(8, 'little') + b'{', pickle.dumps(Bang()),
    save({'fc.weight': torch.zeros(3)}), save({'fc.bias': torch.full((32,), float('nan'))}),
    (lambda head: len(head).to_bytes(8, 'little') + head)(b'{"fc.bias":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4]}}') + b'abcd'],
    ids=['empty', 'ff', 'huge header', 'long header', 'pickle', 'other tensors', 'nan', 'huge tensor'])
def test_a_card_that_fits_does_not_help_hostile_weights(hub, weights, tmp_path):
    described(hub, weights)
    with pytest.raises(InputError): from_pretrained('anna/sea')
    assert not (tmp_path/'bang').exists()

@pytest.mark.parametrize('changes', [dict(model='os.system'), dict(config=dict(n_classes=3, ngf=10**9)), dict(encoder='../..'), dict(encoder='/tmp'), dict(labels=3)], ids=str)
def test_a_card_that_says_nonsense(hub, changes):
    described(hub, hub.models['anna/sea']['model.safetensors'], **changes)
    with pytest.raises(InputError): from_pretrained('anna/sea')

def test_damage_on_the_way(hub):
    hub.spoil = lambda path, data: data[:-1] + b'!' if path == 'model.safetensors' else data
    with pytest.raises(InputError, match='delete .* and try again'): from_pretrained('anna/sea')
    hub.models['anna/much'] = hub.models['anna/sea']
    with pytest.raises(InputError, match='1 MiB of weights: at most 0'): our_hub.files_to_fetch({'model.json': 2**20}, 'anna/much', most=99)

# -- up ----------------------------------------------------------------------------------------------------------

def test_there_and_back(hub, tmp_path):
    gen = toy(3)
    url = push_to_hub(gen, 'bert/hills', token='hf_mine', licence='MIT', training='none', scores=dict(kid=.5), limits='no fog')
    assert url.endswith('bert/hills') and 'bert/hills' not in hub.private
    page = hub.models['bert/hills']['README.md'].decode()
    assert all(o in page for o in ('license: "mit"', 'Painter("bert/hills")', '0 sky, 1 water, 2 land', '| kid | 0.5 |', 'no fog')), page
    assert set(hub.models['bert/hills']) == {'README.md', 'model.json', 'model.safetensors'}
    assert equal(from_pretrained('bert/hills'), gen)

def test_a_folder_goes_up_as_it_is_and_no_more(hub, tmp_path):
    folder = save_pretrained(toy(), tmp_path/'mine')
    before = content(folder)
    (folder/'photo.jpg').write_bytes(b'private'), (folder/'last.pth').write_bytes(b'a checkpoint')
    push_to_hub(folder, 'bert/mine', private=True, token='hf_mine')
    assert 'bert/mine' in hub.private and {k: v for k, v in hub.models['bert/mine'].items() if k != 'README.md'} == before
    assert not (folder/'README.md').exists(), 'the folder stays as it is'
    push_to_hub(folder, 'bert/mine', token='hf_mine')
    assert 'bert/mine' in hub.private, 'a second push does not publish what is private'

def test_what_does_not_go_up(hub, tmp_path):
    folder = save_pretrained(toy(), tmp_path/'mine')
    with pytest.raises(InputError, match='does not let you do this with bert/hills|shows no model'): push_to_hub(folder, 'bert/hills', token='hf_other')
    with pytest.raises(InputError): push_to_hub(folder, 'no name', token='hf_mine')
    with pytest.raises(InputError, match='there is no folder'): push_to_hub(tmp_path/'nowhere', 'bert/hills', token='hf_mine')
    with pytest.raises(InputError, match='licence belong into the card'): push_to_hub(folder, 'bert/hills', token='hf_mine', licence='MIT')
    (folder/'model.safetensors').write_bytes(b'damaged')
    asked = len(hub.asked)
    with pytest.raises(InputError, match='another checksum'): push_to_hub(folder, 'bert/hills', token='hf_mine')
    assert len(hub.asked) == asked and 'bert/hills' not in hub.models

def test_another_file_than_the_one_that_was_sent(hub, tmp_path):
    hub.spoil = lambda path, data: data + b'!'
    with pytest.raises(InputError, match='another model.safetensors than the one that was sent'): push_to_hub(toy(), 'bert/hills', token='hf_mine')

def test_what_is_offline():
    wrapped = ValueError('no metadata')
    wrapped.__cause__ = ConnectionError()
    assert is_offline(ConnectionRefusedError()) and is_offline(TimeoutError()) and is_offline(wrapped)
    assert not is_offline(OSError(28, 'No space left')) and not is_offline(ValueError())
    assert hub_client() is client

def test_errors_of_our_own_stay(hub):
    with pytest.raises(ZeroDivisionError), hub_errors('a/b'): 1/0
    with pytest.raises(InputError, match='answers 500'), hub_errors('a/b'):
        raise type('HfHubHTTPError', (OSError,), dict(response=type('R', (), dict(status_code=500))()))()
    with pytest.raises(InputError, match='cannot be fetched .No space'), hub_errors('a/b'): raise OSError(28, 'No space left')

# -- the page ----------------------------------------------------------------------------------------------------

def test_the_page_says_what_is_missing(tmp_path):
    page = model_page(save_pretrained(toy(), tmp_path/'m', licence='as CamVid'))
    assert all(o in page for o in ('license: "other"', 'license_name: "as CamVid"', 'None were written down', 'Nobody has written'))

def test_a_learner_goes_up_with_its_classes(tmp_path):
    from gaugan_fastai.data.paired import PairedDataLoaders
    from gaugan_fastai.models.spade import spade_learner
    dls = PairedDataLoaders.from_landscapes(n=2, n_valid=2, size=32, bs=2)
    learn = spade_learner(dls, 'cpu', ngf=2, nhidden=4, ndf=4, perceptual=None)
    assert prepare_upload(learn, tmp_path/'up', licence='MIT') == ['README.md', 'model.json', 'model.safetensors']
    assert from_pretrained(tmp_path/'up').labels == landscape_labels()

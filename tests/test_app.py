"""The painter's server, asked as its page asks, as a stranger asks, and as many ask at once."""
import io, json, os, re, signal, socket, subprocess, sys, threading, time, webbrowser
import numpy as np, pytest, torch
from PIL import Image
pytest.importorskip('starlette', reason='the extra app is not installed')
import httpx
from starlette.testclient import TestClient
from browsing import stepping
from conftest import ROOT
from hostile import hostile_files
from gaugan_fastai.app import painter_app
from gaugan_fastai.cli import main
from gaugan_fastai.core import LabelSpace
from gaugan_fastai.easel import Pace
from gaugan_fastai.models.oasis import OASISGenerator
from gaugan_fastai.models.sean_generator import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.painter import Painter
from gaugan_fastai.serving import Served, open_browser
from gaugan_fastai.uploads import png_of

OURS = {'X-Painter': '1'}
NO_LIMIT = dict(pace=Pace(1e6, 10**6))

def client_of(models, **how):
    app = painter_app(models, **dict(shipped=False) | NO_LIMIT | how)
    return TestClient(app, 'http://127.0.0.1', headers=OURS)

def painter_of(cls, name, n=3, usual=False, **config):
    "A small painter that was never trained"
    torch.manual_seed(0)
    gen = cls(n, ngf=4, nhidden=4, **config).eval()
    gen.labels = LabelSpace(['sky', 'sea', 'sand'][:n])
    if usual: gen.usual = torch.randn(n, gen.style_dim)
    res = Painter(gen)
    res.name = name
    return res

@pytest.fixture(scope='module')
def client():
    "Models of all kinds of styles; the first is the small one that is shipped"
    z = Painter('landscapes_style')
    sean = painter_of(SEANGenerator, 'sean', usual=True, style_dim=4, width=4)
    oasis, plain = painter_of(OASISGenerator, 'oasis', z_dim=4), painter_of(SPADEGenerator, 'plain')
    for o in (sean, oasis, plain): o.gen.card = dict(size=[64, 64])
    edged = painter_of(SPADEGenerator, 'edged', edges=True)
    edged.gen.card = dict(size=[64, 64])
    res = client_of([z, sean, oasis, plain, edged])
    yield res
    res.app.desk.close()

def halves(a=0, b=1, size=64):
    ids = np.full((size, size), a, np.uint8)
    ids[size//2:] = b
    return ids

def paint(client, ids=None, **query):
    return client.post('/api/paint', params=query, content=png_of(halves() if ids is None else ids))

def picture(answer):
    assert answer.status_code == 200, answer.text
    return np.array(Image.open(io.BytesIO(answer.content)).convert('RGB')).astype(int)

def refused(answer, status, *words):
    "An answer is a sentence, not a trace"
    error = answer.json()['error']
    assert answer.status_code == status and all(o in error for o in words), (answer.status_code, error)
    assert 'Traceback' not in error and 'gaugan_fastai/' not in error
    return error

def saved(im, kind='PNG', **how):
    im.save(file := io.BytesIO(), kind, **how)
    return file.getvalue()

PHOTO = saved(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)), 'JPEG')

# -- what is told ------------------------------------------------------------------------------------------------

def test_page_and_health(client):
    assert client.get('/healthz').json()['ok'] is True and 'version' in client.get('/healthz').json()
    assert '<html' in client.get('/').text and client.get('/page/index.html').content == client.get('/').content

def test_models(client):
    about = client.get('/api/models').json()
    assert about['default'] == 'landscapes_style'
    by_name = {o['name']: o for o in about['models']}
    assert [o['styles'] for o in by_name.values()] == ['z', 'codes', 'z', None, None]
    assert [o['regions'] for o in by_name.values()] == [False, True, True, False, False]
    z = by_name['landscapes_style']
    assert z['size'] == [64, 64] and z['multiple'] == 32 and z['loaded'] and z['error'] is None and z['licence'] == 'Apache-2.0'
    assert z['classes'][0] == dict(id=0, name='sky', color='#87beeb') and len(z['classes']) == 19

def test_models_are_loaded_when_asked_for(tmp_path):
    broken = tmp_path/'broken'
    broken.mkdir()
    (broken/'model.json').write_text('{}')
    client = client_of(['landscapes_style', broken])
    first, second = client.get('/api/models').json()['models']
    assert not first['loaded'] and len(first['classes']) == 19 and first['takes'] == ['style', 'seed'] and first['styles'] == 'z'
    assert second['name'] == 'broken' and 'describes nothing that paints' in second['error'] and first.keys() == second.keys()
    refused(paint(client, model='broken'), 400, 'describes nothing')
    answer = paint(client)
    assert answer.json()['loading'] and answer.json()['busy'] and int(answer.headers['retry-after']) >= 1
    assert client.post('/api/load').status_code in (200, 202)
    for _ in range(600):
        if client.post('/api/load').json()['state'] != 'loading': break
        time.sleep(.05)
    assert client.post('/api/load').json() == dict(state='ready', error=None) and paint(client).status_code == 200
    client.app.desk.close()

def test_a_model_that_fails_while_it_loads(tmp_path):
    import shutil
    from gaugan_fastai.weights import shipped_weights
    bad = shutil.copytree(shipped_weights()['landscapes_style'], tmp_path/'cut')
    with open(bad/'model.safetensors', 'r+b') as f: f.truncate(5000)
    client = client_of([bad])
    while client.post('/api/load').json()['state'] == 'loading': time.sleep(.02)
    assert client.post('/api/load').json()['state'] == 'failed'
    refused(paint(client), 400, 'cannot be read')
    client.app.desk.close()

def test_shipped_models_come_after_the_given_ones():
    client = client_of([], shipped=True)
    names = [o['name'] for o in client.get('/api/models').json()['models']]
    assert {'landscapes', 'landscapes_sean'} <= set(names)
    assert not any(o['loaded'] for o in client.get('/api/models').json()['models'])
    client.app.desk.close()

def test_examples_have_the_ids_of_the_model(client):
    z = {o['name']: o['url'] for o in client.get('/api/examples').json()}
    assert {'bay', 'village'} <= set(z) and client.get('/api/examples?model=sean').json() == []
    im = Image.open(io.BytesIO(client.get(z['bay']).content))
    assert im.mode == 'L' and im.size == (64, 64)
    wants = np.array(Image.open(ROOT/'data/maps/bay.png').resize((64, 64), Image.Resampling.NEAREST))
    assert (np.array(im) == wants).all()
    refused(client.get('/api/example?name=../bay'), 404, 'no example')

# -- painting ----------------------------------------------------------------------------------------------------

def test_a_picture_says_that_it_was_generated(client):
    answer = paint(client, seed=3, n=17)
    im = Image.open(io.BytesIO(answer.content))
    assert im.size == (64, 64) and answer.headers['x-painter-n'] == '17' and answer.headers['content-type'] == 'image/png'
    assert im.text['Description'] == 'AI-generated by gaugan_fastai, model landscapes_style, seed 3'
    assert 'trainedAlgorithmicMedia' in str(im.getxmp())
    im = Image.open(io.BytesIO(paint(client, seed=3, format='jpeg').content))
    assert im.format == 'JPEG' and im.info['comment'].startswith(b'AI-generated') and im.getexif()[0x0131] == 'gaugan_fastai'

@pytest.mark.numeric
def test_it_is_the_painters_picture(client):
    painter, ids = client.app.desk.shelf['landscapes_style'].painter, halves()
    wants = np.asarray(painter(torch.from_numpy(ids.astype(np.int64)), seed=5)).astype(int)
    assert (picture(paint(client, ids, seed=5)) == wants).all()

def test_the_same_question_has_the_same_answer(client):
    first = {m: paint(client, model=m, seed=5).content for m in ('landscapes_style', 'sean', 'oasis', 'plain', 'edged')}
    for i in range(3):
        for m in first: paint(client, halves(i, 2), model=m, seed=i)
    assert {m: paint(client, model=m, seed=5).content for m in first} == first
    assert paint(client, seed=6).content != first['landscapes_style']

@pytest.mark.parametrize('query,says', [
    (dict(seed='-1'), 'seed'), (dict(seed='1e3'), 'seed'), (dict(seed='9'*30), 'seed'), (dict(n='x'), 'n is'), (dict(seed='٣'), 'seed'),
    (dict(format='bmp'), 'format'), (dict(regions='{'), 'regions'), (dict(regions='[1]'), 'region'), (dict(regions='[]'*9), 'regions'),
    (dict(regions='[{"class": 0}]'), 'no styles of regions'), (dict(model='plain', style='ab'), 'one style')])
def test_wrong_questions(client, query, says): refused(paint(client, **query), 400, says)

def test_wrong_maps(client):
    refused(client.post('/api/paint', content=b''), 400, 'empty')
    refused(client.post('/api/paint', content=b'no picture'), 415, 'not a picture')
    refused(paint(client, halves(0, 19)), 400, 'holds id 19', '0..18')
    refused(paint(client, halves(size=32)), 400, '32x32', '64x64')
    refused(client.post('/api/paint', content=PHOTO), 415, 'not an 8-bit grey PNG')
    rgb = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    for o in (rgb, rgb.convert('L').convert('1'), rgb.convert('P'), Image.fromarray(np.zeros((64, 64), np.uint16))):
        refused(client.post('/api/paint', content=saved(o)), 415, 'not an 8-bit grey PNG')
    refused(client.post('/api/paint?model=nobody', content=png_of(halves())), 404, 'no model')

def test_sizes_that_a_model_paints(client):
    assert picture(paint(client, halves(size=96), model='plain')).shape == (96, 96, 3)
    refused(paint(client, halves(size=40), model='plain'), 400, '40x40')
    refused(paint(client, halves(size=1024), model='plain'), 400, '1024x1024')

# -- styles ------------------------------------------------------------------------------------------------------

def style(client, photo=PHOTO, segmap=None, **query):
    files = dict(photo=('../../etc/passwd', photo)) | ({} if segmap is None else dict(map=('m.png', png_of(segmap))))
    return client.post('/api/style', params=query, files=files)

def test_style_of_a_photo(client):
    name = style(client).json()['style']
    assert name == style(client).json()['style'] and re.fullmatch('[0-9a-f]{16}', name)
    painter = client.app.desk.shelf['landscapes_style'].painter
    wants = painter(torch.from_numpy(halves().astype(np.int64)), style=Image.open(io.BytesIO(PHOTO)))
    assert (picture(paint(client, style=name)) == np.asarray(wants)).all()
    assert (picture(paint(client, style=name)) != picture(paint(client))).any()
    refused(paint(client, style='0'*16), 404, 'this style is no longer kept: choose the photo again')
    refused(paint(client, style=name, model='oasis'), 400, 'landscapes_style')
    refused(style(client, model='plain'), 400, 'reads no photos')

def test_a_large_photo_is_not_kept_whole(client):
    assert style(client, saved(Image.new('RGB', (3000, 2000)), 'JPEG')).status_code == 200
    kept = client.app.desk.shelf['landscapes_style'].painter._last_styles
    assert max(len(pixels) for _, pixels in kept) <= 3*1024**2

def test_style_of_regions_with_codes(client):
    refused(style(client, model='sean'), 400, 'send the label map')
    refused(style(client, segmap=halves(size=30)[:, :9], model='sean'), 400, 'crop the photo')
    name = style(client, segmap=halves(), model='sean').json()['style']
    assert style(client, segmap=halves(size=32), model='sean').status_code == 200   # the photo is scaled to its map
    ask = lambda *o: paint(client, model='sean', regions=json.dumps([dict(zip(('class', 'style', 'to', 'amount'), r)) for r in o])).content
    usual, sea = paint(client, model='sean').content, ask((1, name, None, 0))
    assert sea != usual and ask((1, None, None, .5)) == usual == ask((1, name, None, 1))
    assert ask((1, None, name, 1)) == sea and ask((1, None, name, .5)) not in (sea, usual)
    refused(paint(client, model='sean', regions=f'[{{"class": 2, "style": "{name}"}}]'), 400, 'shows no sand')
    refused(paint(client, model='sean', regions='[{"class": 2, "style": "ff"}]'), 404, 'no longer kept')

def test_style_of_regions_by_chance(client):
    at = lambda text, **more: picture(paint(client, model='oasis', seed=1, regions=text, **more))
    usual = picture(paint(client, model='oasis', seed=1))
    assert (at('[{"class": 1, "style": "seed:1"}]') == usual).all()
    assert (at('[{"class": 1, "style": "seed:2"}]') != usual).any()
    whole = picture(paint(client, model='oasis', style='seed:7'))
    assert (whole == picture(paint(client, model='oasis', seed=7))).all()
    refused(paint(client, model='oasis', regions='[{"class": 1, "style": "seed:x"}]'), 400, 'not a style')

def test_old_styles_go():
    app = painter_app(['landscapes_style'], shipped=False)
    drawer = app.desk.drawer
    names = [drawer.add('m', bytes([i]), torch.zeros(2)) for i in range(70)]
    assert len(drawer.styles) == 64 and names[-1] in drawer.styles and names[0] not in drawer.styles
    app.desk.close()

# -- files -------------------------------------------------------------------------------------------------------

def test_maps_of_files(client):
    send = lambda data, **query: client.post('/api/map', params=query, files=dict(file=('x', data)))
    answer = send((ROOT/'data/maps/bay.png').read_bytes())
    wants = np.array(Image.open(ROOT/'data/maps/bay.png').resize((64, 64), Image.Resampling.NEAREST))
    assert (np.array(Image.open(io.BytesIO(answer.content))) == wants).all()
    assert answer.headers['x-painter-note'] == 'the map was 256x256 pixels and is now 64x64'
    assert 'x-painter-note' not in send(png_of(halves())).headers
    refused(send(png_of(halves(0, 77))), 415, 'label map holds id 77')
    refused(send(PHOTO), 415, 'is a JPEG')
    refused(client.post('/api/map'), 400, 'empty')
    refused(client.post('/api/map', data=dict(file='text')), 400, 'empty')

PLACES = {'paint': lambda c, o: c.post('/api/paint', content=o), 'map': lambda c, o: c.post('/api/map', files=dict(file=('f', o))),
    'photo': lambda c, o: c.post('/api/style', files=dict(photo=('f', o))),
    'map of a photo': lambda c, o: c.post('/api/style?model=sean', files=dict(photo=('f', PHOTO), map=('m', o)))}

def test_hostile_files(client):
    "50 of them, at each place: a picture or a sentence, and quickly"
    for i, (kind, data) in enumerate(hostile_files(50, seed=1)):
        for place, send in PLACES.items():
            start = time.monotonic()
            answer = send(client, data)
            took = time.monotonic() - start
            assert answer.status_code in (200, 400, 413, 415), (i, kind, place, answer.status_code, answer.text[:200])
            if answer.status_code != 200: refused(answer, answer.status_code)
            assert took < 10, (i, kind, place, took)
    assert paint(client).status_code == 200

def test_too_much(client):
    refused(client.post('/api/map', files=dict(file=('f', bytes(17*2**20)))), 413, 'at most')
    refused(client.post('/api/paint', content=iter([bytes(2**20)]*17)), 413, 'at most')
    refused(client.post('/api/paint', content=bytes(3*2**20)), 413, 'label map')
    many = [('photo', ('f', b'x'))]*5
    assert client.post('/api/style', files=many).status_code == 400

# -- strangers ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('headers', [
    {'Host': 'example.com'}, {'Host': '127.0.0.1.example.com'}, {'Origin': 'http://example.com'}, {'Origin': 'null'},
    {'Origin': 'http://127.0.0.1:9'}, {'X-Painter': ''}, {'X-Painter': '2'}, {'Sec-Fetch-Site': 'cross-site'}, {'Sec-Fetch-Site': 'same-site'}])
def test_strangers_are_refused(client, headers):
    answer = client.post('/api/paint', content=png_of(halves()), headers=headers)
    assert answer.status_code == 403 and answer.json()['error'] and 'access-control-allow-origin' not in answer.headers

def test_our_page_is_let_in(client):
    for headers in ({'Origin': 'http://127.0.0.1', 'Sec-Fetch-Site': 'same-origin'}, {'Host': 'localhost:8000'}, {'Host': '[::1]:80'}):
        assert client.post('/api/paint', content=png_of(halves()), headers=headers).status_code == 200
    assert client.options('/api/paint', headers={'Origin': 'http://example.com'}).status_code == 403

def test_every_answer_has_the_headers(client):
    answers = client.get('/'), client.get('/api/models'), client.get('/nowhere'), paint(client), paint(client, seed='x'), \
        client.get('/', headers={'Host': 'x.com'}), client.delete('/api/paint')
    for o in answers:
        assert o.headers['cache-control'] == 'no-store' and o.headers['x-content-type-options'] == 'nosniff'
        policy = o.headers['content-security-policy']
        assert policy.startswith("default-src 'self'; img-src 'self' blob: data:") and 'unsafe' not in policy
    assert [o.status_code for o in answers] == [200, 200, 404, 200, 400, 403, 405]
    assert all('error' in o.json() for o in answers[-5:] if o.status_code != 200)

@pytest.mark.parametrize('path', ['/page/../app.py', '/page/..%2fapp.py', '/page/%2e%2e/app.py', '/page//etc/passwd', '/page/app.py', '/page/'])
def test_no_path_reaches_the_disk(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 and 'import' not in answer.text

def test_a_fault_of_ours_is_a_sentence(client, monkeypatch):
    quiet = TestClient(client.app, 'http://127.0.0.1', headers=OURS, raise_server_exceptions=False)
    monkeypatch.setattr(client.app.desk, 'paint', lambda *o: 1/0)
    answer = paint(quiet)
    assert 'division' not in refused(answer, 500, 'something went wrong') and answer.headers['cache-control'] == 'no-store'

def test_pace():
    client = client_of([Painter('landscapes_style')], pace=Pace(rate=.01, burst=3))
    answers = [paint(client) for _ in range(5)]
    assert [o.status_code for o in answers] == [200]*3 + [429]*2 and int(answers[-1].headers['retry-after']) > 1
    assert client.get('/healthz').status_code == 200
    client.app.desk.close()

# -- many at once ------------------------------------------------------------------------------------------------

class Slow(Painter):
    "A painter that waits until it is let go, and notes what it painted"
    def __init__(self, model):
        super().__init__(model)
        self.name, self.go, self.seen = 'slow', threading.Event(), []

    def paint_in(self, style, segmap, *args):
        self.go.wait(20)
        self.seen.append(int(segmap[0, 0, 0]))
        return super().paint_in(style, segmap, *args)

def together(client, asks, slow):
    "Answers to (client's name, class), asked one after the other while the first is painted"
    answers, threads = {}, []
    def ask(i, who, k): answers[i] = client.post(f'/api/paint?n={i}', content=png_of(halves(k, k)), headers={'X-Painter-Client': who})
    easel = client.app.desk.easel
    for i, (who, k) in enumerate(asks):
        threads.append(threading.Thread(target=ask, args=(i, who, k)))
        before = list(easel.waiting)
        threads[-1].start()
        while easel.waiting == before and i not in answers and (i or easel.waiting or not easel.turn): time.sleep(.005)
        time.sleep(.1)
    slow.go.set()
    for o in threads: o.join(30)
    return [answers[i] for i in range(len(asks))]

def test_the_newest_stroke_wins():
    slow = Slow('landscapes_style')
    client = client_of([slow], room=4)
    with client:
        asks = [('ann', 0), ('ann', 1), ('bob', 2), ('ann', 3), ('cyd', 4), ('dan', 5), ('eve', 6), ('ann', 7)]
        answers = together(client, asks, slow)
    codes = [o.status_code for o in answers]
    assert codes == [200, 409, 200, 409, 200, 200, 503, 200]
    assert answers[1].json() == dict(error='newer', superseded=True)
    assert answers[6].json()['busy'] and answers[6].headers['retry-after']
    assert slow.seen == [0, 7, 2, 4, 5]   # ann's newest stands where her first one stood
    assert [o.headers['x-painter-n'] for o in answers if o.status_code == 200] == ['0', '2', '4', '5', '7']
    client.app.desk.close()

def test_numbers_of_the_network():
    client = client_of([stepping(64)])
    about = next(o for o in client.get('/api/models').json()['models'] if o['name'] == 'stepping')
    assert about['options'] == [dict(name='steps', words='Steps to a picture', value=10, whole=True),
        dict(name='strength', words='What a step adds', value=1., whole=False)]
    def ask(options): return client.post('/api/paint', params=dict(options=options) if options else {}, content=png_of(halves()))
    levels = [picture(ask(o)).mean() for o in ('', '{}', '{"steps": 40}', '{"steps": 40, "strength": 0.5}')]
    assert levels == pytest.approx([25.5, 25.5, 102, 51], abs=1)
    for wrong in ('{"steps": 0}', '{"steps": 1.5}', '{"strength": NaN}', '{"strength": 1e300}', '{"steps": true}', '{"size": 4}', '[4]', '{', '['*5000):
        answer = ask(wrong)
        assert answer.status_code == 400 and answer.json()['error'], wrong
    plain = client_of([Painter('landscapes_style')])
    answer = plain.post('/api/paint', params=dict(model='landscapes_style', options='{"steps": 4}'), content=png_of(halves()))
    assert answer.status_code == 400 and answer.json()['error'] == "'steps' is no option: there are none"
    for o in (client, plain): o.app.desk.close()

class Eager(Painter):
    "A painter that says when it has begun, and then does nothing but ask whether it is still wanted"
    def __init__(self, model):
        super().__init__(model)
        self.name, self.begun, self.slow = 'eager', threading.Event(), True

    def paint_in(self, style, segmap, size, between):
        self.begun.set()
        while self.slow:
            between()
            time.sleep(.005)
        return super().paint_in(style, segmap, size, between)

@pytest.mark.parametrize('who, hurry, codes', [('ann', '&hurry=1', [409, 200]), ('bob', '&hurry=1', [200, 200]), ('ann', '', [200, 200])])
def test_a_stroke_that_has_ended_gives_up_the_picture_of_its_beginning(who, hurry, codes):
    eager, answers = Eager('landscapes_style'), {}
    client = client_of([eager])
    def ask(i, who, more=''):
        answers[i] = client.post(f'/api/paint?n={i}{more}', content=png_of(halves(i, 1)), headers={'X-Painter-Client': who})
    with client:
        first = threading.Thread(target=ask, args=(0, 'ann'))
        first.start()
        assert eager.begun.wait(20)
        second = threading.Thread(target=ask, args=(1, who, hurry))
        second.start()
        if codes == [200, 200]:
            time.sleep(.3)
            assert not answers
        else: first.join(20)   # given up while it still is slow
        eager.slow = False
        for o in (first, second): o.join(30)
    assert [answers[i].status_code for i in (0, 1)] == codes
    client.app.desk.close()

# -- a server ----------------------------------------------------------------------------------------------------

@pytest.fixture
def server(tmp_path):
    "`gaugan paint` in a process of its own"
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        port = s.getsockname()[1]
    command = [sys.executable, '-c', 'import sys; from gaugan_fastai.cli import main; sys.exit(main())', 'paint', 'landscapes_style']
    process = subprocess.Popen([*command, '--port', str(port), '--no-browser'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | dict(PYTHONPATH=str(ROOT)), cwd=tmp_path)
    yield process, f'http://127.0.0.1:{port}', process.stdout.readline()
    process.kill()
    process.communicate()

@pytest.mark.parametrize('how', [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_server_starts_paints_and_stops(server, how, capsys):
    process, url, said = server
    assert url in said and 'Ctrl-C' in said
    for _ in range(200):
        try: health = httpx.get(url + '/healthz')
        except httpx.HTTPError: time.sleep(.05)
        else: break
    assert health.json()['ok'] and 'server' not in health.headers
    while httpx.post(url + '/api/load', headers=OURS).json()['state'] == 'loading': time.sleep(.05)
    answer = httpx.post(url + '/api/paint?seed=1', content=png_of(halves()), headers=OURS)
    assert picture(answer).shape == (64, 64, 3)
    assert httpx.get(url + '/healthz', headers={'Host': 'example.com'}).status_code == 403
    assert main(['paint', 'landscapes_style', '--no-browser', '--port', url.rpartition(':')[2]]) == 1   # it is taken
    assert 'cannot listen' in (err := capsys.readouterr().err) and 'give --port another number' in err
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and 'Traceback' not in err, err
    assert out.endswith('The painter has stopped\n') and 'Warning' not in err

@pytest.mark.skipif(os.name == 'nt', reason='needs a shell')
def test_a_server_in_the_background_of_a_script_stops_and_says_so(tmp_path):
    "A shell lets what it starts with & ignore SIGINT"
    python = f"{sys.executable} -c 'import sys; from gaugan_fastai.cli import main; sys.exit(main())'"
    script = f'{python} paint landscapes_style --port 0 --no-browser > said & p=$!; ' \
        'until grep -qs http said; do sleep .1; done; sleep .5; kill -INT $p; wait $p; echo $?'
    done = subprocess.run(['sh', '-c', script], capture_output=True, text=True, timeout=180, cwd=tmp_path,
        env=os.environ | dict(PYTHONPATH=str(ROOT)))
    assert done.stdout == '0\n' and not done.stderr, done.stderr
    assert (tmp_path/'said').read_text().endswith('The painter has stopped\n')

def test_a_browser_is_opened_when_the_server_answers_and_not_for_one_that_was_stopped(monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, 'open', lambda url: opened.append((url, httpx.get(url + '/healthz').json()['ok'])))
    server = Served(painter_app(['landscapes_style'], shipped=False))
    working, opening = (threading.Thread(target=f, args=a) for f, a in ((server.work, ()), (open_browser, [server])))
    opening.start()
    working.start()
    opening.join(60)
    assert opened == [(server.url, True)]
    server.should_exit = True
    working.join(60)
    server.started = False
    open_browser(server)
    assert len(opened) == 1 and not working.is_alive()

def test_in_a_notebook():
    sketch = Painter('landscapes_style').show(height=300)
    assert sketch.segmap is None and f'src="{sketch.url}"' in sketch._repr_html_()
    answer = httpx.post(sketch.url + '/api/paint', content=png_of(halves()), headers=OURS)
    assert answer.status_code == 200 and sketch.segmap.tolist() == [halves().tolist()]
    assert (np.asarray(sketch.picture) == picture(answer)).all()
    sketch.stop()
    with pytest.raises(httpx.HTTPError): httpx.get(sketch.url)
    assert not sketch.thread.is_alive() and not sketch.server.painter_app.desk.easel.thread.is_alive()

"""A day by chance: codes of classes that are drawn a photo at a time, and who lends what the photo lacks."""
import copy, io, json, pickle, threading
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from test_cli import gaugan, refused
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data.landscapes import landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import draw_styles
from gaugan_fastai.models.codes_prior import CodesPrior
from gaugan_fastai.models.sean import SEANGenerator, sean_learner
from gaugan_fastai.models.spade import SPADEGenerator
from gaugan_fastai.painter import Painter
from gaugan_fastai.paintable import load_model
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.prior import StylePrior, attach_prior, prior_class, priors, register_prior
from gaugan_fastai.sharing import prepare_upload
from gaugan_fastai.shelf import Shelved
from gaugan_fastai.styles import StyleLibrary
from gaugan_fastai.weights import checksum, pack_weights

N, K, S = 12, 4, 5
def seeded(i): return torch.Generator().manual_seed(i)

def bank(n=N, k=K, s=S):
    "Codes of photos of which each lacks some classes; the last class is shown by none"
    codes = torch.randn(n, k, s, generator=seeded(0))
    lacks = torch.rand(n, k, generator=seeded(1)) < .4
    lacks[:, 0] = False
    lacks[:, -1] = True
    return codes*~lacks[..., None]

def prior(**how): return CodesPrior(bank(**how))

@pytest.fixture
def gen():
    torch.manual_seed(0)
    gen = SEANGenerator(K, ngf=2, style_dim=S, nhidden=4, width=2).eval()
    gen.labels, gen.usual = LabelSpace(['sky', 'water', 'land', 'moon'], void=None), torch.randn(K, S, generator=seeded(2))
    for o in gen.modules():   # a fresh network hardly hears its codes
        if hasattr(o, 'blending_gamma'): o.blending_gamma.data.zero_()
        if hasattr(o, 'blending_beta'): o.blending_beta.data.zero_()
    return gen

@pytest.fixture
def segmap(): return torch.arange(3).repeat_interleave(11)[:32].repeat(32, 1)

@pytest.fixture
def folder(gen, tmp_path): return save_pretrained(gen, tmp_path/'model', prior=prior(), size=[32, 32])

# -- the distribution --------------------------------------------------------------------------------------------

def plainly(codes, bank):
    "The same filling, photo by photo and class by class"
    has, known, res = codes.any(-1), bank.any(-1), codes.clone()
    variance = [(bank[known[:, k], k] - bank[known[:, k], k].mean(0)).square().sum(-1).mean() for k in range(K)]
    for b in range(len(codes)):
        far = [sum((((codes[b, k] - o[k])**2).sum()/variance[k] if o[k].any() else torch.tensor(2.)) for k in range(K) if has[b, k]) for o in bank]
        for k in range(K):
            able = [j for j in range(len(bank)) if known[j, k]]
            if not has[b, k] and able: res[b, k] = bank[min(able, key=lambda j: float(far[j])), k]
    return res

def test_the_nearest_photo_lends():
    codes = bank().half().float()
    assert torch.equal(prior().fill(codes), plainly(codes, codes)) and not torch.equal(prior().fill(codes), codes)
    other = torch.randn(6, K, S, generator=seeded(3))*(torch.rand(6, K, 1, generator=seeded(4)) < .5)
    other[:, 0] = torch.randn(6, S, generator=seeded(5))
    assert torch.equal(prior().fill(other), plainly(other, codes))

def test_what_a_photo_shows_is_kept():
    codes, has = bank().half().float(), bank().any(-1)
    filled = prior().fill(codes)
    assert torch.equal(filled[has], codes[has]) and filled[:, :-1].any(-1).all()
    assert not filled[:, -1].any(), 'no photo shows it'
    assert torch.equal(prior().fill(codes[3:4]), filled[3:4]), 'alone and among others'

def test_distances_count_what_is_not_known_as_chance():
    codes = torch.zeros(3, 2, 2)
    codes[0], codes[1, 0], codes[2, 0] = torch.tensor([[0., 1], [1, 0]]), torch.tensor([0., 3]), torch.tensor([0., 5])
    far = CodesPrior(codes).distances(codes)
    variance = (4 + 0 + 4)/3
    torch.testing.assert_close(far, torch.tensor([[0, 4/variance + 2, 16/variance + 2], [4/variance, 0, 4/variance], [16/variance, 4/variance, 0]]))
    empty = CodesPrior(codes).distances(torch.zeros(1, 2, 2))
    assert empty.tolist() == [[0, 0, 0]]
    with pytest.raises(InputError, match=r'\(1, 3, 2\) and \(3, 2, 2\) do not fit'): CodesPrior(codes).distances(torch.zeros(1, 3, 2))

def test_a_seed_is_a_day():
    one = prior()
    assert torch.equal(one.draw(3, seeded(5)), one.draw(3, seeded(5))) and one.draw().shape == (1, K, S)
    drawn, every = one.draw(200, seeded(0)), one.fill(one.codes)
    same = (drawn[:, None] == every).flatten(2).all(2)
    assert same.any(1).all() and same.any(0).all(), 'each is one of the photos, and each comes'

def test_any_thread_draws_the_same():
    one, found = prior(), {}
    def draw(i): found[i] = [one.draw(2, seeded(j)) for j in range(20)]
    threads = [threading.Thread(target=draw, args=[i]) for i in range(6)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert all(torch.equal(a, b) for i in range(6) for a, b in zip(found[0], found[i], strict=True))

@pytest.mark.parametrize('codes, words', [
    (torch.zeros(3, 2), r'codes have shape \(3, 2\): they must be \[N,K,S\]'), (torch.zeros(0, 2, 3), r'codes have shape \(0, 2, 3\)'),
    (torch.zeros(1, 2, 3, 4), r'shape \(1, 2, 3, 4\)'), (torch.full((1, 2, 3), float('nan')), 'the prior holds numbers that are none'),
    (torch.full((1, 2, 3), 1e6), 'the prior'), (torch.eye(3)[:, None]*torch.tensor([1, 0, 1.])[:, None, None], 'photo 1 of 0..2 has no codes')])
def test_what_is_no_distribution_is_refused(codes, words):
    with pytest.raises(InputError, match=words): CodesPrior(codes)

def test_it_is_what_the_encoder_says(gen, segmap):
    photos, maps = torch.rand(5, 3, 32, 32, generator=seeded(0))*2 - 1, segmap.repeat(5, 1, 1)
    maps[3:] = 0
    batches = [(maps[:2], photos[:2]), (maps[2:], photos[2:])]
    one, want = CodesPrior.of(gen, batches), gen.encode_shown(photos, maps)
    assert (one.codes - want).abs().max() < 2e-3 and one.shows[:3].tolist() == [[True]*3 + [False]]*3 and one.shows[3:].sum() == 2
    assert repr(one) == 'CodesPrior(5 photos, 4 classes, codes of 5)' and len(CodesPrior.of(gen, batches, 3)) == 3
    with pytest.raises(InputError, match='there is no photo to encode'): CodesPrior.of(gen, [])
    with pytest.raises(InputError, match='a SPADEGenerator reads no codes'): CodesPrior.of(SPADEGenerator(3, 2), batches)

# -- whose it is -------------------------------------------------------------------------------------------------

def test_the_kind_of_styles_decides(gen, tmp_path, monkeypatch):
    assert prior_class(gen) is CodesPrior and prior_class(SPADEGenerator(3, 2, z_dim=4, size=32)) is StylePrior
    with pytest.raises(InputError, match="styles of a SPADEGenerator are None: a prior draws z or codes"): prior_class(SPADEGenerator(3, 2))
    class Mine(CodesPrior): "Another distribution"
    monkeypatch.setitem(priors, 'codes', CodesPrior)
    register_prior('codes', Mine)
    data = pack_weights(prior().tensors(), half=True)
    (tmp_path/'prior.safetensors').write_bytes(data)
    attach_prior(gen, tmp_path, {})
    assert not hasattr(gen, 'prior')
    attach_prior(gen, tmp_path, {'prior.safetensors': checksum(data)})
    assert type(gen.prior) is Mine and torch.equal(gen.prior.codes, prior().codes)

def test_those_of_others_are_refused(gen, tmp_path):
    for o, words in ((prior(s=6), r'CodesPrior with codes \[K,S\] = \(4, 6\) is none for a SEANGenerator with \(4, 5\)'), (prior(k=3), r'\(3, 5\) is none'),
            (StylePrior(torch.zeros(2, 4), torch.ones(2, 4)), 'StylePrior with z_dim=4 is none for a SEANGenerator')):
        with pytest.raises(InputError, match=words): save_pretrained(gen, tmp_path/'x', prior=o)
    plain = SPADEGenerator(K, 2, z_dim=4, size=32)
    with pytest.raises(InputError, match=r'is none for a SPADEGenerator with \(4, None\)'): save_pretrained(plain, tmp_path/'x', gen.labels, prior=prior())
    assert not (tmp_path/'x').exists()

@pytest.mark.parametrize('tensors, words', [(dict(mu=torch.zeros(2, 4), std=torch.zeros(2, 4)), 'holds no styles'), (dict(codes=torch.ones(2, 5)), 'shape'),
    (dict(codes=torch.ones(2, 4, 6)), r'\(4, 6\) is none for a SEANGenerator')])
def test_a_file_of_something_else_is_refused(folder, tensors, words):
    card, data = json.loads((folder/'model.json').read_text()), pack_weights(tensors)
    card['sha256']['prior.safetensors'] = checksum(data)
    (folder/'prior.safetensors').write_bytes(data)
    with pytest.raises(InputError, match='not the file that its card describes'): from_pretrained(folder)
    (folder/'model.json').write_text(json.dumps(card))
    with pytest.raises(InputError, match=words): from_pretrained(folder)
    entry = Shelved('mine', folder)
    assert entry.state == 'failed' and entry.error, 'the page says so before anybody paints'

# -- beside the weights ------------------------------------------------------------------------------------------

def test_it_comes_back(folder, gen, tmp_path):
    back, want = from_pretrained(folder), prior().draw(2, seeded(1))
    assert isinstance(back.prior, CodesPrior) and back.state_dict().keys() == gen.state_dict().keys() and back.extra_state().keys() == {'usual'}
    again = from_pretrained(save_pretrained(back, tmp_path/'again', half=True))
    for o in (back, copy.deepcopy(back), back.for_inference(), again, load_model(folder), pickle.loads(pickle.dumps(back))):
        assert torch.equal(draw_styles(o, 2, seeded(1)), want)
    assert torch.equal(load_model(folder).usual, gen.usual)

def test_it_is_uploaded(folder, tmp_path):
    assert 'prior.safetensors' in prepare_upload(folder, tmp_path/'up')
    assert len(from_pretrained(tmp_path/'up').prior) == N

def test_a_training_forgets_it():
    dls = PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=2)
    make = lambda **how: sean_learner(dls, 'cpu', ngf=2, nhidden=4, style_dim=4, width=2, ndf=2, perceptual=None, average=None, **how)
    learn = make()
    learn.model.generator.prior = CodesPrior.of(learn, dls.train)
    assert len(learn.model.generator.prior) == 4 and Painter(learn).drawn
    learn.model.generator.labels = dls.labels
    begun = make(pretrained=learn.model.generator)
    assert not Painter(begun).drawn, 'a learner that starts from it will change the encoder'
    with learn.no_bar(), learn.no_logging(): learn.fit(1, lr=1e-4)
    assert not Painter(learn).drawn

# -- who draws ---------------------------------------------------------------------------------------------------

def test_without_a_prior_all_is_as_it_was(gen, segmap):
    painter = Painter(gen)
    assert painter.takes == ('style', 'style_map', 'codes') and not painter.drawn and torch.equal(painter.styles_for()[0][0], gen.usual)
    for how in (dict(seed=1), dict(samples=2)):
        with pytest.raises(InputError, match=f'none by chance: leave {[*how][0]} out'): painter.styles_for(**how)
    with pytest.raises(InputError, match='a SEANGenerator without a prior has no styles to draw'): draw_styles(gen)
    photo = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    some = segmap.clamp_max(1)
    [filled] = painter.styles_for(photo, style_map=some, ids='library')
    assert torch.equal(filled[0, 2:], gen.usual[2:])

def test_the_painter_draws(folder, gen, segmap):
    painter, one = Painter(folder), prior()
    assert painter.takes == ('style', 'style_map', 'codes', 'seed') and 'takes style, style_map, codes, seed' in repr(painter)
    def day(i):
        res = one.draw(1, seeded(i))
        res[:, -1] = gen.usual[-1]   # what no photo shows is as usual
        return res
    for i in (0, 3): assert torch.equal(painter.styles_for(seed=i)[0], day(i))
    assert torch.equal(painter.styles_for()[0], day(0)) and len({o.numpy().tobytes() for o in painter.styles_for(seed=3, samples=8)}) > 2
    assert torch.equal(painter.styles_for(seed=3, samples=2)[1], day(4))
    pictures = [painter(segmap, ids='library', **o).tobytes() for o in (dict(seed=3), dict(codes=day(3)), {}, dict(seed=0), dict(codes=day(0)))]
    assert pictures[0] == pictures[1] and pictures[2] == pictures[3] == pictures[4] and len(set(pictures)) == 2
    [mixed] = painter.styles_for(seed=3, codes=dict(water=day(0)))
    assert torch.equal(mixed[0, 1], day(0)[0, 1]) and torch.equal(mixed[0, [0, 2, 3]], day(3)[0, [0, 2, 3]]), 'a region of its own over the drawn ones'

def test_a_photo_is_filled_by_one_like_it(folder, segmap):
    painter, some = Painter(folder), segmap.clamp_max(1)
    photo = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    [found] = painter.styles_for(photo, style_map=some, ids='library')
    read = painter.encode(photo, some, ids='library')[None]
    assert torch.equal(found[:, :3], prior().fill(read)[:, :3]) and torch.equal(found[0, 3], painter.gen.usual[3]) and not read[0, 2].any()
    [blocks] = painter.styles_for([read, read])
    assert len(blocks) == 2 and all(torch.equal(o, found) for o in blocks)

@pytest.mark.parametrize('how, words', [(dict(style=torch.ones(K, S), seed=1), 'style says what is else drawn by chance: leave seed out'),
    (dict(codes=torch.ones(K, S), samples=2), 'codes says what is else drawn by chance: leave samples out'), (dict(seed=-1), 'seed is -1'), (dict(seed=1.5), 'seed is 1.5'),
    (dict(style=torch.ones(K, 2)), r'codes are of shape \(4, 2\)'), (dict(codes=dict(moon=prior().draw(1, seeded(0))[0])), 'does not show class 3')])
def test_what_makes_no_sense_is_refused(folder, how, words):
    with pytest.raises(InputError, match=words): Painter(folder).styles_for(**how)

def test_the_command_line(folder, segmap, tmp_path):
    (tmp_path/'maps').mkdir()
    Image.fromarray(segmap.numpy().astype(np.uint8)).save(tmp_path/'maps/a.png')
    def painted(out, *args):
        code, words, err = gaugan('generate', folder, tmp_path/'maps', '--out', tmp_path/out, *args)
        assert code == 0 and words.startswith('1 of 1'), err
        return {o.name: o.read_bytes() for o in (tmp_path/out).iterdir()}
    plain, zero, three, many = painted('p'), painted('z', '--seed', 0), painted('t', '--seed', 3), painted('m', '--seed', 2, '--samples', 3)
    assert plain == zero != three and many['a_1.png'] == three['a.png'] and [*sorted(many)] == ['a_0.png', 'a_1.png', 'a_2.png']
    bare = save_pretrained(from_pretrained(folder), tmp_path/'bare')
    card = json.loads((bare/'model.json').read_text())
    del card['sha256']['prior.safetensors']
    (bare/'model.json').write_text(json.dumps(card))
    assert 'none by chance: leave --seed out' in refused('generate', bare, tmp_path/'maps', '--out', tmp_path/'no', '--seed', 1)

def test_the_page(folder, segmap):
    pytest.importorskip('starlette', reason='the extra app is not installed')
    from test_app import client_of, refused as told
    from gaugan_fastai.uploads import png_of
    client, painter = client_of([str(folder)]), Painter(folder)
    try:
        [said] = client.get('/api/models').json()['models']
        assert said['takes'] == ['style', 'style_map', 'codes', 'seed'] and said['styles'] == 'codes' and said['regions'] and not said['loaded']
        client.app.desk.shelf['model'].load()
        def paint(**query):
            answer = client.post('/api/paint', params=query, content=png_of(segmap.numpy().astype(np.uint8)))
            assert answer.status_code == 200, answer.text
            return np.asarray(Image.open(io.BytesIO(answer.content)))
        def at(i, style, **more): return paint(regions=json.dumps([{'class': i, 'style': style}]), **more)
        def want(**how): return np.asarray(painter(segmap, ids='library', **how))
        assert (paint(seed=3) == want(seed=3)).all() and (paint() == want()).all() and (paint(seed=3) != paint()).any()
        other = painter.styles_for(seed=5)[0]
        assert (at(1, 'seed:5', seed=3) == want(seed=3, codes=dict(water=other))).all() and (at(1, 'seed:3', seed=3) == paint(seed=3)).all()
        assert (paint(style='seed:5') == want(seed=5)).all()
        for bad in ('seed:x', 'seed:', 'seed:' + '9'*19): told(client.post('/api/paint', params=dict(style=bad), content=png_of(segmap.numpy().astype(np.uint8))), 400, 'not a style')
    finally: client.app.desk.close()

# -- the shipped one, and the tools ------------------------------------------------------------------------------

def test_the_shipped_painter_has_one():
    gen = from_pretrained('landscapes_sean')
    assert len(gen.prior) == 256 and gen.prior.shows.any(0).all() and gen.labels.codes == landscape_labels().codes
    drawn = draw_styles(gen, 8, seeded(0))
    assert drawn.any(-1).all() and drawn.shape == (8, 19, 32)
    assert (drawn[1:] - drawn[:-1]).abs().mean() > .05

@pytest.fixture
def tools(monkeypatch): monkeypatch.syspath_prepend(str(Path(__file__).parent.parent/'tools'))

@pytest.fixture
def drawn_model(tmp_path):
    "Weights of nobody for drawn scenes of 32x32"
    torch.manual_seed(0)
    gen, labels = SEANGenerator(19, ngf=2, style_dim=4, nhidden=4, width=2).eval(), landscape_labels()
    gen.usual = torch.randn(19, 4)
    return save_pretrained(gen, tmp_path/'drawn', labels, half=True, size=[32, 32], scores=dict(locality=.5))

@pytest.mark.usefixtures('tools')
def test_the_tool_makes_one(drawn_model):
    import style_prior
    before = (drawn_model/'model.safetensors').read_bytes()
    style_prior.main([str(drawn_model), '--scenes', '5'])
    gen, [(segmap, photo)] = from_pretrained(drawn_model), [*style_prior.scenes(1, 32)]
    assert len(gen.prior) == 5 and gen.card['scores'] == dict(locality=.5) and (drawn_model/'model.safetensors').read_bytes() == before
    assert (gen.prior.codes[0] - gen.encode_shown(photo, segmap)[0]).abs().max() < 1e-2
    assert sorted(segmap.unique().tolist()) == gen.prior.shows[0].nonzero()[:, 0].tolist()

@pytest.mark.usefixtures('tools')
def test_rules_of_lending(drawn_model, capsys):
    import score_lenders, style_prior
    one, *_, used = prior(), *score_lenders.rules.values()
    filled = one.fill(one.codes)
    for i, k in (~one.shows[:, :-1]).nonzero().tolist():
        assert torch.equal(one.codes[score_lenders.lender(used, one, i, k), k], filled[i, k]), 'the last rule is that of the prior'
    for rule in score_lenders.rules.values():
        lenders = {(i, k): score_lenders.lender(rule, one, i, k) for i, k in (one.shows & (one.shows.sum(0) > 1)).nonzero().tolist()}
        assert all(i != j and one.shows[j, k] for (i, k), j in lenders.items())
    with pytest.raises(InputError, match='has no prior of codes'): score_lenders.main([str(drawn_model)])
    style_prior.main([str(drawn_model), '--scenes', '20'])
    score_lenders.main([str(drawn_model)])
    assert len(capsys.readouterr().out.splitlines()) == 1 + 2 + len(score_lenders.rules)

@pytest.mark.usefixtures('tools')
def test_scores_of_what_is_drawn(drawn_model):
    import score_landscapes
    from types import SimpleNamespace
    gen, g = from_pretrained(drawn_model), seeded
    gen.prior, maps = CodesPrior(torch.randn(3, 19, 4, generator=g(0))), torch.randint(0, 19, (3, 32, 32), generator=g(1))
    StyleLibrary.fit(gen.prior.codes).save(drawn_model)
    def painted(way, seed=0): return score_landscapes.paint(SimpleNamespace(codes=way, model=drawn_model), gen, maps, seed)
    want = dict(drawn=draw_styles(gen, 3, g(0)), usual=gen.usual.expand(3, -1, -1), alone=StyleLibrary.load(drawn_model).sample(3, g(0)))
    with torch.no_grad():
        for way, codes in want.items(): torch.testing.assert_close(painted(way), torch.cat([gen(maps[:2], codes[:2]), gen(maps[2:], codes[2:])]))
    for args in (['x', '--codes', 'usual', '--write'], ['x', '--codes', 'mine']):
        with pytest.raises(SystemExit): score_landscapes.parse(args)
    plain = save_pretrained(SPADEGenerator(19, 2, nhidden=4), drawn_model.parent/'plain', landscape_labels(), size=[32, 32])
    with pytest.raises(InputError, match='has one style'): score_landscapes.main([str(plain), '--n', '1'])

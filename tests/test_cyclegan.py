"""CycleGAN: the paper's layers counted, its losses by hand, who moves, what is saved, and what it says of bad input."""
import random
import numpy as np, pytest, torch
from fastai.vision.all import DataLoader, DataLoaders, Image, set_seed
from torch import nn
from gaugan_fastai.callbacks import ModelAverage
from gaugan_fastai.core import InputError
from gaugan_fastai.data.unpaired import UnpairedDataLoaders, scene_of_kind
from gaugan_fastai.models.cyclegan import *
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from gaugan_fastai.registry import family_named, network_named
from test_cli import gaugan, refused
from witness import OneMoves

pytestmark = pytest.mark.numeric

def fixed_loaders(n=4, bs=2, size=16):
    "The same pairs of random photos in the same order"
    g = torch.Generator().manual_seed(0)
    items = [tuple(torch.rand(3, size, size, generator=g)*2 - 1 for _ in 'ab') for _ in range(n)]
    dls = DataLoaders(DataLoader(items, bs=bs), DataLoader(items[:2], bs=bs))
    dls.n_inp, dls.size = 1, (size, size)
    return dls

def small(path='.', cbs=None, **kwargs):
    set_seed(0)
    usual = dict(ngf=2, n_blocks=1, n_layers=2, lr=1e-3, path=path)
    return cyclegan_learner(fixed_loaders(), **{**usual, **kwargs}, cbs=cbs)

def quiet(learn, n=1, **kwargs):
    with learn.no_bar(), learn.no_logging(): learn.fit(n, **kwargs)
    return learn

def same(a, b): return a.keys() == b.keys() and all(torch.equal(v, b[k]) for k, v in a.items())
def photo(*shape): return torch.rand(shape, generator=torch.Generator().manual_seed(1))*2 - 1

@pytest.fixture(scope='module')
def drawn(): return UnpairedDataLoaders.from_landscapes(n=6, n_valid=2, size=(16, 24), bs=2, val_bs=2)

# -- networks ------------------------------------------------------------------------------------------------------

def weights_of(words):
    "How many weights a list of layers in the paper's words has, photos in"
    ni, total = 3, 0
    for word in words.split():
        kind, nf = word.rsplit('-', 1) if '-' in word else (word[0], word[1:])
        nf = int(nf)
        ks, twice = dict(c7s1=7, C=4).get(kind, 3), 1 + (kind == 'R')
        total += twice*(ni*nf*ks*ks + nf)
        ni = nf
    return total

@pytest.mark.parametrize('n', [6, 9])
def test_the_papers_generator(n):
    words = f'c7s1-64 d128 d256 {"R256 "*n} u128 u64 c7s1-3'
    with torch.device('meta'): net = ResnetGenerator(64, n)
    assert sum(o.numel() for o in net.parameters()) == weights_of(words)
    convs = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    assert [m.out_channels for m in convs] == [64, 128, 256, *[256]*2*n, 128, 64, 3]
    assert [m.stride[0] for m in convs] == [1, 2, 2, *[1]*2*n, 2, 2, 1]
    assert sum(isinstance(m, nn.InstanceNorm2d) for m in net.modules()) == len(convs) - 1
    assert {m.padding_mode for m in convs if isinstance(m, nn.Conv2d)} == {'reflect'}

def test_the_papers_critic():
    with torch.device('meta'): critic = PhotoCritic()
    assert sum(o.numel() for o in critic.parameters()) == weights_of('C64 C128 C256 C512 C1')
    norms = [any(isinstance(m, nn.InstanceNorm2d) for m in o.modules()) for o in critic.children()]
    assert norms == [False, True, True, True, False]

def test_a_verdict_sees_70_pixels():
    "Counted by a critic of ones, whose norms are taken out"
    critic = PhotoCritic(1).double()
    for m in critic.modules():
        for k, o in list(m.named_children()):
            if isinstance(o, (nn.InstanceNorm2d, nn.LeakyReLU)): setattr(m, k, nn.Identity())
        if isinstance(m, nn.Conv2d): nn.init.ones_(m.weight)
    x = torch.zeros(1, 3, 160, 160, dtype=torch.double, requires_grad=True)
    verdict = critic(x)[-1]
    verdict[0, 0, verdict.shape[2]//2, verdict.shape[3]//2].backward()
    rows, columns = (x.grad[0, 0].abs().sum(o).nonzero().flatten() for o in (1, 0))
    assert len(rows) == len(columns) == 70

@pytest.mark.parametrize('size', [(8, 8), (16, 32), (36, 20)])
@pytest.mark.parametrize('skip', [False, True])
def test_shapes_and_range(size, skip):
    net = ResnetGenerator(2, 2, skip)
    out = net(photo(2, 3, *size))
    assert out.shape == (2, 3, *size) and out.abs().max() <= 1
    out.sum().backward()
    assert all(p.grad is not None for p in net.parameters())

def test_start_weights():
    set_seed(0)
    for net in (ResnetGenerator(16, 2), PhotoCritic(16)):
        weights, biases = ([p for n, p in net.named_parameters() if n.endswith(k)] for k in ('weight', 'bias'))
        assert torch.cat([o.flatten() for o in weights]).std().item() == pytest.approx(.02, rel=.03)
        assert all(not o.any() for o in biases)

def test_a_new_network_with_skip_gives_the_photo():
    set_seed(0)
    x = photo(1, 3, 32, 32)
    net = ResnetGenerator(8, 2, skip=True)
    for p in net.last.parameters(): nn.init.zeros_(p)
    torch.testing.assert_close(net(x), .98*x)
    for v in (1., 1.3, -1.3): assert ResnetGenerator(2, 1, skip=True)(torch.full((1, 3, 8, 8), v)).isfinite().all()

def test_a_block_adds():
    block, x = ResidualBlock(3), photo(1, 3, 8, 8)
    set_seed(0)
    assert block(x).shape == x.shape and not torch.equal(block(x), x)
    for p in block.parameters(): nn.init.zeros_(p)
    assert torch.equal(block(x), x)

@pytest.mark.parametrize('resize', [False, True])
def test_only_resizing_leaves_no_grid(resize):
    "In the middle of a flat photo all pixels have the same neighbours"
    set_seed(0)
    x = torch.full((1, 3, 64, 64), .3)
    x[..., :8, :] = -.5   # or instance norm leaves nothing
    out = ResnetGenerator(4, 1, resize=resize).double()(x.double())[..., 40:48, 40:48]
    grid = (out[..., ::2, ::2] - out[..., 1::2, 1::2]).abs().max() > 1e-9
    assert grid != resize

def test_a_photo_stands_alone_in_its_batch():
    net, x = ResnetGenerator(2, 1).double(), photo(3, 3, 16, 16).double()
    for i in range(3): torch.testing.assert_close(net(x)[i], net(x[i:i+1])[0])

@pytest.mark.parametrize('bad, says', [
    (torch.zeros(1, 3, 18, 16), 'the photo is 18x16: resize it: both sides must be multiples of 4'),
    (torch.zeros(1, 3, 4, 16), 'the photo is 4x16'), (torch.zeros(3, 16, 16), r'torch.float32 \(3, 16, 16\)'),
    (torch.zeros(1, 1, 16, 16), r'\(1, 1, 16, 16\)'), (torch.zeros(1, 3, 16, 16).byte(), 'torch.uint8'),
    (np.zeros((1, 3, 16, 16)), 'a ndarray')])
def test_what_is_no_batch_of_photos(bad, says):
    with pytest.raises(InputError, match=says): ResnetGenerator(2, 1)(bad)

@pytest.mark.parametrize('kwargs', [dict(ngf=0), dict(ngf=2.5), dict(n_blocks=0), dict(n_blocks='9')], ids=str)
def test_widths_are_whole(kwargs):
    with pytest.raises(InputError): ResnetGenerator(**kwargs)

# -- the pool ------------------------------------------------------------------------------------------------------

def test_the_pool():
    pool = ImagePool(50)
    random.seed(0)
    out = [pool(torch.tensor([[i]])).item() for i in range(2050)]
    new = [o == i for i, o in enumerate(out)]
    assert all(new[:50]) and sum(new[50:]) == pytest.approx(1000, abs=80)
    old = [o for o, fresh in zip(out, new) if not fresh]
    assert len(set(old)) == len(old)                   # what has come out is gone
    assert len(pool.kept) == 50 and {o.item() for o in pool.kept} | set(out) == set(range(2050))
    age = np.mean([i - o for i, o in enumerate(out) if o != i])
    assert age == pytest.approx(100, rel=.2)           # one of 50 leaves with every second one that comes

def test_a_pool_of_none_and_gradients():
    x = torch.ones(2, 3, requires_grad=True)
    out = ImagePool(0)(x)
    assert torch.equal(out, x) and not out.requires_grad
    assert not ImagePool(1)(x)[0].requires_grad

# -- losses --------------------------------------------------------------------------------------------------------

class Times(nn.Module):
    def __init__(self, k): super().__init__(); self.k = nn.Parameter(torch.tensor(k))
    def forward(self, x): return self.k*x

class Mean(nn.Module):
    "A critic whose verdict is the mean"
    def __init__(self): super().__init__(); self.k = nn.Parameter(torch.tensor(1.))
    def forward(self, x): return [x, self.k*x.mean((1, 2, 3), keepdim=True)]

def tiny(**kwargs): return CycleGAN(Times(3.), Times(.5), Mean(), Mean(), **kwargs)
A, B = torch.full((2, 3, 4, 4), .2), torch.full((2, 3, 4, 4), .4)   # to_b gives .6 and 1.2, to_a .1 and .2

def test_losses_by_hand():
    gan = tiny()
    (fake_b, fake_a), losses = gan(A, turn=gan.turns[0].losses, target=B)
    torch.testing.assert_close((fake_b, fake_a), (A*3, B*.5))
    want = dict(gan_b=.4**2, gan_a=.8**2, cycle_a=10*.1, cycle_b=10*.2, same_b=5*.8, same_a=5*.1)
    assert {k: v.item() for k, v in losses.items()} == pytest.approx(want, rel=1e-5)
    assert tuple(losses) == tuple(gan.turns[0].names)
    judged = gan(A, turn=gan.turns[1].losses, target=B, made=(fake_b, fake_a))
    want = dict(critic_b=.6**2 + .6**2, critic_a=.2**2 + .8**2)
    assert {k: v.item() for k, v in judged.items()} == pytest.approx(want, rel=1e-5)

def test_weights_of_the_losses():
    gan = tiny(cycle=2., identity=0.)
    _, losses = gan(A, turn=gan.turns[0].losses, target=B)
    assert tuple(losses) == tuple(gan.turns[0].names) == ('gan_b', 'gan_a', 'cycle_a', 'cycle_b')
    assert losses['cycle_b'].item() == pytest.approx(.4, rel=1e-5)
    gan = tiny(cycle=2., identity=.25)
    assert gan(A, turn=gan.turns[0].losses, target=B)[1]['same_a'].item() == pytest.approx(.5*.1, rel=1e-5)

def test_no_gradient_goes_where_it_must_not():
    gan = tiny()
    made, losses = gan(A, turn=gan.turns[0].losses, target=B)
    losses['same_b'].backward(retain_graph=True)
    assert gan.to_b.k.grad is not None and gan.to_a.k.grad is None
    gan.zero_grad()
    sum(gan(A, turn=gan.turns[1].losses, target=B, made=made).values()).backward()
    assert gan.to_b.k.grad is gan.to_a.k.grad is None and gan.critic_b.k.grad is not None and gan.critic_a.k.grad is not None

def test_only_training_fills_the_pools():
    gan = tiny(pool=3)
    for _ in range(4): gan.eval()(A, turn=gan.turns[1].losses, target=B, made=(A, B))
    assert not gan.pools['a'].kept and not gan.pools['b'].kept
    gan.train()(A, turn=gan.turns[1].losses, target=B, made=(A, B))
    assert torch.equal(torch.stack(gan.pools['b'].kept), A) and torch.equal(torch.stack(gan.pools['a'].kept), B)
    gan.load_state_dict(gan.state_dict())
    assert not gan.pools['a'].kept and not gan.pools['b'].kept

# -- the learner ---------------------------------------------------------------------------------------------------

def test_who_moves():
    learn = quiet(small(cbs=OneMoves()), 2)
    assert learn.one_moves.names == ['generators', 'critics']*4
    nets = dict(learn.model.named_children())
    ids = [{id(p) for p in o.movers} for o in learn.model.turns]
    assert ids[0] == {id(p) for k in ('to_b', 'to_a') for p in nets[k].parameters()}
    assert ids[1] == {id(p) for k in ('critic_b', 'critic_a') for p in nets[k].parameters()}
    assert list(learn.history[0]['train']) == [n for o in learn.model.turns for n in o.names]
    assert [(o['mom'], o['sqr_mom']) for o in learn.opt.hypers] == [(.5, .999)]*2 and small(lr=2e-4).lr == 2e-4

def test_it_is_resumed_bit_for_bit(tmp_path):
    "Without a pool, which is not saved"
    whole, half, again = (small(tmp_path, pool=0, cbs=ModelAverage(.9)) for _ in range(3))
    quiet(whole, 2)
    quiet(half).save('half')
    quiet(again.load('half'))
    assert same(whole.model.state_dict(), again.model.state_dict()) and same(whole.model_average.shadow, again.model_average.shadow)
    assert not same(whole.model.state_dict(), half.model.state_dict())

def test_a_pair_is_saved_and_found(tmp_path):
    learn = quiet(small(average=.9))
    learn.save_pair(tmp_path/'two')
    assert sorted(o.name for o in (tmp_path/'two').iterdir()) == ['networks.json', 'to_a', 'to_b']
    model, x = learn.frozen_model(), photo(1, 3, 16, 16)
    for k, net in load_pair(tmp_path/'two').items():
        assert same(net.state_dict(), getattr(model, k).state_dict())
        with torch.no_grad(): assert torch.equal(net(x), getattr(model, k)(x))
    assert not same(from_pretrained(tmp_path/'two/to_b').state_dict(), learn.model.to_b.state_dict())   # it is the average
    learn.save_pair(tmp_path/'four/model', critics=True, licence='Apache-2.0')
    four = load_pair(tmp_path/'four')
    assert list(four) == ['to_b', 'to_a', 'critic_b', 'critic_a'] and four['critic_a'].card['licence'] == 'Apache-2.0'
    with torch.no_grad(): assert torch.equal(four['critic_a'](x)[-1], learn.model.critic_a.eval()(x)[-1])

def test_training_starts_from_a_pair(tmp_path):
    first = small(n_blocks=2, ndf=3)
    first.save_pair(tmp_path, critics=True)
    more = cyclegan_learner(fixed_loaders(), pretrained=tmp_path, lr=1e-3, cbs=OneMoves())
    assert same(more.model.state_dict(), first.model.state_dict())
    quiet(more)
    assert not same(more.model.to_b.state_dict(), first.model.to_b.state_dict())
    nets = first.model.to_b, first.model.to_a
    mine = quiet(cyclegan_learner(fixed_loaders(), pretrained=nets, ndf=3, n_layers=2))
    assert not same(mine.model.to_b.state_dict(), nets[0].state_dict()) and mine.model.critic_a.n_layers == 2
    for bad in (dict(ngf=4), dict(n_blocks=3), dict(ndf=2), dict(n_layers=3)):
        (k, v), = bad.items()
        with pytest.raises(InputError, match=f'{k}={v}, but the checkpoint has') as e: cyclegan_learner(fixed_loaders(), pretrained=tmp_path, **bad)
        assert e.value.option == k
    with pytest.raises(InputError, match='holds no pair of generators'): cyclegan_learner(fixed_loaders(), pretrained=tmp_path/'to_b')

def test_photos_of_any_size_are_translated(drawn, tmp_path):
    learn = cyclegan_learner(drawn, ngf=2, n_blocks=1, n_layers=2, path=tmp_path)
    rng = np.random.default_rng(0)
    for size in ((16, 24), (50, 71), (5, 9), (1, 1)):
        picture = learn.predict(rng.integers(0, 255, (*size, 3), dtype=np.uint8))
        assert picture.size == size[::-1] and picture.mode == 'RGB'
    Image.fromarray(rng.integers(0, 255, (16, 24, 3), dtype=np.uint8)).save(tmp_path/'a.png')
    there, back = (np.array(learn.predict(tmp_path/'a.png', back=o)).astype(int) for o in (False, True))
    assert abs(there - back).max() > 0
    with torch.no_grad(): made = learn.model.to_a.eval()(torch.from_numpy(np.array(Image.open(tmp_path/'a.png'))).permute(2, 0, 1)[None]/127.5 - 1)
    assert abs(back - ((made[0].movedim(0, -1).numpy() + 1)*127.5)).max() <= .5001

def test_it_works_with_data_and_a_width_alone(drawn, tmp_path):
    drawn.path = tmp_path
    learn = quiet(cyclegan_learner(drawn, ngf=8), 1)
    assert len(learn.model.to_b.middle) == 6 and learn.model.critic_b.ndf == 8 and learn.model.critic_b.n_layers == 4
    learn.show_results()
    assert all(np.isfinite(list(o.values())).all() for o in learn.history[0].values())

def test_large_photos_get_nine_blocks():
    dls = fixed_loaders(size=256)
    assert [len(cyclegan_learner(dls, ngf=1, **o).model.to_a.middle) for o in ({}, dict(n_blocks=2))] == [9, 2]

def test_bad_data():
    dls = fixed_loaders(size=18)
    with pytest.raises(InputError, match='the data come as 18x18: choose multiples of 4'): cyclegan_learner(dls, ngf=2)
    dls = fixed_loaders()
    dls.train.dataset[1][1].mul_(255)
    with pytest.raises(InputError, match='work in -1..1'): quiet(cyclegan_learner(dls, ngf=2, n_blocks=1))

def test_without_critics_there_is_nothing_to_learn():
    gan = CycleGAN(ResnetGenerator(2, 1), ResnetGenerator(2, 1))
    assert gan.turns == [] and gan(photo(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    with pytest.raises(InputError, match='holds no critics'): quiet(CycleLearner(fixed_loaders(), gan))

def test_it_is_registered(tmp_path):
    assert family_named('cyclegan').learner is cyclegan_learner
    assert (network_named('ResnetGenerator').role, network_named('PhotoCritic').role) == ('translator', 'critic')
    for net in (ResnetGenerator(2, 1, skip=True), PhotoCritic(2, 3)):
        back = from_pretrained(save_pretrained(net, tmp_path/type(net).__name__))
        assert same(back.state_dict(), net.state_dict()) and getattr(back, 'skip', True)

def test_from_the_command_line(tmp_path):
    "Trained, resumed, trained on from there, and translated with, both ways"
    for kind in ('day', 'dusk'):
        (tmp_path/kind).mkdir()
        for i in range(5): Image.fromarray(scene_of_kind(i, kind, (18, 32))).save(tmp_path/kind/f'{i}.png')
    heaps = [tmp_path/'day', tmp_path/'dusk', '--model', 'cyclegan', '--size', 16, '--bs', 2]
    args = ['train', *heaps, '--out', tmp_path/'run', '--ngf', 2, '--n-blocks', 1, '--skip', '--identity', 0]
    assert gaugan(*args, '--epochs', 1, '--keep-critic')[0] == 0
    assert gaugan(*args, '--epochs', 2, '--keep-critic', '--resume')[0] == 0
    nets = load_pair(tmp_path/'run')
    assert list(nets) == ['to_b', 'to_a', 'critic_b', 'critic_a'] and nets['to_a'].skip and nets['to_a'].ngf == 2
    grid = np.array(Image.open(tmp_path/'run/samples/epoch_002.png'))
    assert grid.shape[1] == 4*(16 + 4)                 # A, as B, B, as A
    code, words, err = gaugan('train', *heaps, '--out', tmp_path/'more', '--pretrained', tmp_path/'run', '--epochs', 1)
    assert code == 0, err
    assert not same(load_pair(tmp_path/'more')['to_b'].state_dict(), nets['to_b'].state_dict())
    for way, k in (([], 'to_b'), (['--reverse'], 'to_a')):
        code, words, err = gaugan('translate', tmp_path/'run', tmp_path/'day', '--out', tmp_path/k, *way)
        assert code == 0 and words.startswith('5 of 5'), err
        x = torch.from_numpy(np.array(Image.open(tmp_path/'day/0.png'))).permute(2, 0, 1)[None]/127.5 - 1
        with torch.no_grad(): want = nets[k](torch.nn.functional.pad(x, (0, 0, 0, 2), mode='reflect'))[0, :, :18]
        made = np.array(Image.open(tmp_path/k/'0.png'))
        assert abs(made - (want.movedim(0, -1).numpy() + 1)*127.5).max() <= .5001

def test_a_size_that_cannot_be_halved_from_the_command_line(tmp_path):
    for kind in ('day', 'dusk'):
        (tmp_path/kind).mkdir()
        for i in range(3): Image.fromarray(scene_of_kind(i, kind, 32)).save(tmp_path/kind/f'{i}.png')
    words = refused('train', tmp_path/'day', tmp_path/'dusk', '--model', 'cyclegan', '--size', 18, '--out', tmp_path/'run', '--epochs', 1)
    assert 'the data come as 18x18: choose multiples of 4' in words and not (tmp_path/'run/run.json').exists()

"""DiffAugment: each change against plain loops, map and picture moving together, gradients, seeds, all families, the command line."""
import json, random
import pytest, torch
from fastai.vision.all import set_seed
from torch.nn import functional as F
from conftest import ROOT
from gaugan_fastai.augment import *
from gaugan_fastai.basics import InputError, typed
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.labelmaps import LabelMaps
from gaugan_fastai.losses import feature_matching
from gaugan_fastai.models.clade import clade_learner
from gaugan_fastai.models.oasis import oasis_learner
from gaugan_fastai.models.pix2pix import pix2pix_learner
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.registry import families, family_named, handed_on, load_families, register_option
from gaugan_fastai.segcritic import class_balance, labelmix_loss, named_fake, named_right

N, H, W, K = 4, 16, 24, 5
ALL = 'color,translation,cutout'

@pytest.fixture
def rng(): return torch.Generator().manual_seed(0)

def pictures(rng, n=N): return torch.rand(n, 3, H, W, generator=rng)*2 - 1
def segmaps(rng, n=N): return torch.randint(0, K, (n, H, W), generator=rng)
def drawn(policy, n=N, seed=0): return DiffAugment(policy).draw(n, (H, W), generator=torch.Generator().manual_seed(seed))

# -- each change against a plain loop ------------------------------------------------------------------------------

@pytest.mark.numeric
def test_colors_against_a_loop(rng):
    x, changes = pictures(rng).double(), drawn('color')
    light, saturation, contrast = [o.flatten().double() for o in changes.colors]
    for i in range(N):
        y = x[i] + light[i]
        for r in range(H):
            for c in range(W):
                grey = (y[0, r, c] + y[1, r, c] + y[2, r, c])/3
                for k in range(3): y[k, r, c] = grey + (y[k, r, c] - grey)*saturation[i]
        mean = y.sum()/y.numel()
        want = mean + (y - mean)*contrast[i]
        got = recolor(x, *(o.double() for o in changes.colors))[i]
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12)   # float64: sums of 1152 numbers in two orders
        torch.testing.assert_close(changes.pictures(x.float())[i], want.float(), rtol=0, atol=1e-5)

def moved_by_hand(x, down, right, outside):
    y = torch.full_like(x, outside)
    for r in range(H):
        for c in range(W):
            if 0 <= r - down < H and 0 <= c - right < W: y[..., r, c] = x[..., r - down, c - right]
    return y

def test_translation_against_a_loop(rng):
    x, segmap, changes = pictures(rng), segmaps(rng), drawn('translation', seed=1)
    down, right = (o.tolist() for o in changes.shift)
    assert any(down) and any(right) and min(down + right) < 0 < max(down + right)
    got, names = changes.pictures(x), changes.names(segmap, K)
    for i in range(N):
        assert torch.equal(got[i], moved_by_hand(x[i], down[i], right[i], 0.))
        assert torch.equal(names[i], moved_by_hand(segmap[i], down[i], right[i], K))
        assert torch.equal(changes.seen[i, 0], moved_by_hand(torch.ones(H, W), down[i], right[i], 0) == 1)

def test_cutout_against_a_loop(rng):
    x, segmap = pictures(rng, 64), segmaps(rng, 64)
    changes = drawn('cutout', 64)
    got, names = changes.pictures(x), changes.names(segmap, K)
    whole = 0
    for i in range(64):
        hidden = (got[i] == 0).all(0)
        rows, columns = hidden.any(1).nonzero().flatten().tolist(), hidden.any(0).nonzero().flatten().tolist()
        # at least a quarter of the square, which reaches over the border by up to half of its sides
        assert H//4 <= len(rows) <= H//2 and W//4 <= len(columns) <= W//2
        whole += (len(rows), len(columns)) == (H//2, W//2)
        want, wanted = x[i].clone(), segmap[i].clone()
        for r in range(rows[0], rows[-1] + 1):
            for c in range(columns[0], columns[-1] + 1): want[:, r, c], wanted[r, c] = 0, K
        assert torch.equal(got[i], want) and torch.equal(names[i], wanted)
        assert torch.equal(changes.seen[i, 0], wanted < K)
    assert 0 < whole < 64

def test_ranges_are_the_papers():
    big = drawn(ALL, 20000)
    light, saturation, contrast = big.colors
    for o, lo, hi in ((light, -.5, .5), (saturation, 0, 2), (contrast, .5, 1.5)):
        assert lo <= o.min() < lo + .01 and hi - .01 < o.max() <= hi
    down, right = big.shift
    assert down.unique().tolist() == list(range(-H//8, H//8 + 1)) and right.unique().tolist() == list(range(-W//8, W//8 + 1))
    assert 4000*.9 < (down == 0).sum() < 4000*1.1   # 5 places, even chances: 4000 ± 57

def test_both_hide_what_either_hides(rng):
    changes = drawn('translation,cutout')
    came, cut = Changes((H, W), shift=changes.shift).seen, Changes((H, W)).seen
    assert cut is None
    hidden = changes.pictures(torch.ones(N, 3, H, W)) == 0
    assert torch.equal(~changes.seen, hidden[:, :1]) and (changes.seen <= came).all()

@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float64])
def test_dtype_stays(rng, dtype): assert drawn(ALL).pictures(pictures(rng).to(dtype)).dtype == dtype

# -- what goes together --------------------------------------------------------------------------------------------

def test_gradients_flow_to_what_is_seen(rng):
    x = pictures(rng).requires_grad_()
    changes = drawn('translation,cutout')
    changes.pictures(x).sum().backward()
    down, right = (o.tolist() for o in changes.shift)
    for i in range(N):   # a pixel has the gradient of the place that it has moved to
        want = moved_by_hand(changes.seen[i, 0].float(), -down[i], -right[i], 0.)
        assert torch.equal(x.grad[i], want.expand(3, H, W))

@pytest.mark.numeric
def test_gradients_of_colors(rng):
    x = torch.rand(2, 3, 4, 5, generator=rng, dtype=torch.double, requires_grad=True)
    how = [torch.rand(2, 1, 1, 1, generator=rng, dtype=torch.double) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda x: recolor(x, *how), x)

@pytest.mark.parametrize('edges', [False, True])
def test_map_and_picture_move_together(rng, edges):
    "A picture of the map's ids, moved, shows the ids of the moved map; what comes in is in no plane"
    segmap = segmaps(rng)
    maps = LabelMaps(segmap, segmap == 1 if edges else None, K)
    shown = segmap[:, None].float().expand(-1, 3, -1, -1)
    changes = drawn('translation,cutout', seed=1)
    moved, x = changes.maps(maps), Changes((H, W), shift=changes.shift).pictures(shown + 1)
    planes = moved.at((H, W))
    inside = x[:, 0] > 0
    assert torch.equal((planes[:, :K]*torch.arange(1, K + 1).view(-1, 1, 1)).sum(1), x[:, 0]) and not inside.all()
    assert torch.equal(planes[:, :K].sum(1) == 1, inside)
    if edges: assert torch.equal(planes[:, K] == 1, x[:, 0] == 2)

@pytest.mark.parametrize('policy', ['color', 'cutout', 'color,cutout', ''])
def test_maps_stay_where_nothing_moves(rng, policy):
    maps = LabelMaps(segmaps(rng), None, K)
    (got,), *_ = DiffAugment(policy).show((maps,), pictures(rng), pictures(rng), alike=False)
    assert got is maps   # and with it its patterns, which both turns share

@pytest.mark.numeric
@pytest.mark.parametrize('edges', [False, True])
@pytest.mark.parametrize('n_classes', [K, 40])   # 40: sums of rows pay at half size too
@pytest.mark.parametrize('twice', [1, 2])
def test_a_critic_reads_moved_maps_both_ways_alike(rng, edges, n_classes, twice):
    "By patterns, as on a CPU, and dense, as on a GPU and in the paper: planes of zeros where something came in"
    coarse = torch.randint(0, n_classes, (2, 4, 6), generator=rng)
    segmap = coarse.repeat_interleave(8, 1).repeat_interleave(8, 2)
    maps, photo = LabelMaps(segmap, segmap % 3 == 0 if edges else None, n_classes), torch.randn(4, 3, 32, 48, generator=rng)
    changes = DiffAugment('translation').draw(2*twice, (32, 48), generator=rng)
    moved = changes.maps(maps)
    torch.manual_seed(0)
    critic = MultiScaleCritic(n_classes, 8, 2, 3, edges=edges).double().eval()
    answers = {}
    for exact in (True, False):
        with ways(exact): answers[exact] = critic(moved, photo.double())
    plain = torch.cat([moved.at((32, 48), torch.double).repeat(2//twice, 1, 1, 1), photo], 1)
    assert (plain[:, :n_classes].sum(1) == 0).any()
    for i, (a, b) in enumerate(zip(*answers.values())):
        direct = critic.get_submodule(f'discriminator_{i}')(plain)
        for fa, fb, fc in zip(a, b, direct):
            torch.testing.assert_close(fa, fb, rtol=0, atol=1e-9)   # float64, sums in another order
            torch.testing.assert_close(fc, fb, rtol=0, atol=1e-9)
        plain = F.avg_pool2d(plain, 3, 2, 1, count_include_pad=False)

def test_ids_from_a_file_are_still_refused():
    with pytest.raises(InputError, match='holds class 5'): LabelMaps(torch.full((1, 4, 4), 5), None, 5)
    with pytest.raises(InputError, match='holds class 5'): LabelMaps(torch.full((1, 4, 4), 5), None, 5, look=False).plan((4, 4))

# -- pairs ---------------------------------------------------------------------------------------------------------

def test_alike_or_each_by_itself(rng):
    x, maps = pictures(rng), LabelMaps(segmaps(rng), None, K)
    torch.manual_seed(0)
    (same,), fake, photo = DiffAugment(ALL).show((maps,), x, x.clone(), alike=True)
    assert torch.equal(fake, photo) and not torch.equal(fake, x) and len(same) == N
    (both, other), fake, photo = DiffAugment(ALL).show((maps, 'more'), x, x.clone(), alike=False)
    assert len(both) == 2*N and other == 'more'
    assert all(not torch.equal(a, b) for a, b in zip(fake, photo))
    torch.manual_seed(3)
    (both,), fake, photo = DiffAugment('translation').show((maps,), x + 2, x + 2, alike=False)
    for part, shown in ((both.segmap[:N], fake), (both.segmap[N:], photo)): assert torch.equal(part < K, shown[:, 0] > 0)

def test_features_of_a_picture_and_its_photo_are_compared_alike(rng):
    "A picture that equals its photo has no feature matching loss, however it is changed; the critic's turn tells them apart"
    set_seed(0)
    dls = PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0)
    gan = spade_learner(dls, 'cpu', ngf=4, nhidden=4, ndf=4, augment=ALL, perceptual=None).model.train()
    segmap, photo = (o.as_subclass(torch.Tensor) for o in dls.one_batch())
    gan.paint = lambda xb, photo: (photo.clone().requires_grad_(), {})
    seen, judge = [], gan.judge
    gan.judge = lambda xb, fake, photo: seen.append((fake, photo)) or judge(xb, fake, photo)
    xb = gan.prepare(segmap)
    _, losses = gan(*xb, turn=gan.turns[0].losses, target=photo)
    assert losses['feat'].item() == 0 and torch.equal(*seen[0]) and not torch.equal(seen[0][1], photo)
    gan(*xb, turn=gan.turns[1].losses, target=photo, made=photo)
    assert not any(torch.equal(a, b) for a, b in zip(*seen[1]))
    feats = judge(*gan.shown(xb, photo, photo, alike=False))
    assert feature_matching(*feats) > 0

# -- OASIS ---------------------------------------------------------------------------------------------------------

@pytest.mark.numeric
def test_what_is_not_seen_costs_nothing(rng):
    segmap, logits = segmaps(rng), torch.randn(N, K + 1, H, W, generator=rng, dtype=torch.double).requires_grad_()
    changes = drawn(ALL)
    names, seen = changes.names(segmap, K), changes.seen
    assert torch.equal(names == K, ~seen[:, 0])
    weights = class_balance(names, K)
    mix = [torch.randn(N, K + 1, H, W, generator=rng) for _ in range(2)]
    mask = torch.rand(N, 1, H, W, generator=rng) < .5
    for loss in (named_right(logits, names, weights), named_fake(logits, seen), labelmix_loss(mask, logits, *mix, seen)):
        grad, = torch.autograd.grad(loss, logits)
        assert torch.equal((grad != 0).any(1), seen[:, 0])
    log_p = logits.detach().float().log_softmax(1)
    want = {k: [] for k in range(K)}
    for i in range(N):
        for r in range(H):
            for c in range(W):
                if seen[i, 0, r, c]: want[names[i, r, c].item()].append(-log_p[i, names[i, r, c] + 1, r, c].item())
    by_class = [sum(o)/len(o) for o in want.values()]
    assert named_right(logits, names, weights).item() == pytest.approx(sum(by_class)/K, rel=1e-5)   # float32, 1536 terms
    assert named_fake(logits, seen).item() == pytest.approx(-log_p[:, 0][seen[:, 0]].mean().item(), rel=1e-5)

def test_oasis_changes_picture_photo_and_names_alike():
    set_seed(0)
    dls = PairedDataLoaders.from_landscapes(n=8, n_valid=4, size=32, bs=4, seed=0)
    gan = oasis_learner(dls, 'cpu', ngf=4, nhidden=4, ndf=4, augment=ALL, balance=False).model.train()
    segmap, photo = (o.as_subclass(torch.Tensor) for o in dls.one_batch())
    names, seen, a, b = gan.to_be_named(segmap, photo, photo.clone())
    assert torch.equal(a, b) and torch.equal(names < dls.n_classes, seen[:, 0]) and not torch.equal(a, photo)
    assert (a.masked_select(~seen) == 0).all()
    # without balance the critic pays the mean over what is seen
    logits = torch.zeros(4, dls.n_classes + 1, 32, 32)
    assert named_right(logits, names, gan.weights(names)).item() == pytest.approx(torch.tensor(dls.n_classes + 1.).log().item(), rel=1e-5)
    gan.eval()
    names, seen, a = gan.to_be_named(segmap, photo)
    assert names is segmap and seen is None and a is photo

# -- trainings -----------------------------------------------------------------------------------------------------

LEARNERS = dict(spade=spade_learner, sean=sean_learner, clade=clade_learner, oasis=oasis_learner, pix2pix=pix2pix_learner)

def trained(name, augment, bf16=False):
    set_seed(0, reproducible=True)
    dls = PairedDataLoaders.from_landscapes(n=8, n_valid=2, size=32, bs=4, seed=0)
    more = {} if name in ('oasis', 'pix2pix') else dict(perceptual=None)
    learn = LEARNERS[name](dls, ngf=4, ndf=4, augment=augment, **more)
    if bf16: learn.to_bf16()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-3)
    return learn

def weights(learn): return [o.clone() for o in learn.model.state_dict().values()]

@pytest.mark.parametrize('name', LEARNERS)
def test_every_family_takes_it(name):
    "The empty policy changes no bit; the whole one changes the training, the same way for the same seed"
    plain, empty, one, two = (weights(trained(name, o)) for o in (None, '', ALL, DiffAugment(ALL)))
    assert all(map(torch.equal, plain, empty)) and all(map(torch.equal, one, two))
    assert not all(map(torch.equal, plain, one)) and all(o.isfinite().all() for o in one if o.is_floating_point())

@pytest.mark.parametrize('name', ['spade', 'sean', 'oasis'])
def test_in_bfloat16(name):
    losses = trained(name, ALL, bf16=True).history[-1]['train']
    assert all(abs(o) < 100 for o in losses.values())

def test_validation_is_as_it_was():
    learn = trained('spade', ALL)
    learn.model.augment.draw = None   # nobody asks for a change
    with learn.no_bar(): a = learn.validate()
    learn.model.augment = None
    with learn.no_bar(): b = learn.validate()
    assert list(a) == list(b)

def test_a_generator_without_maps_cannot_have_them_moved(rng):
    with pytest.raises(InputError, match='tensor of ids.*color,cutout'):
        DiffAugment(ALL).show((segmaps(rng),), pictures(rng), pictures(rng), alike=True)
    xb = segmaps(rng),
    (same,), *_ = DiffAugment('color,cutout').show(xb, pictures(rng), pictures(rng), alike=True)
    assert same is xb[0]

# -- what is typed -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('given', ['colour', 'color,flip', ['shift'], 5, True])
def test_unknown_policies_are_refused(given):
    with pytest.raises(InputError, match='made of color, translation, cutout') as e: as_augment(given)
    assert repr(given if not isinstance(given, (str, list)) else [o for o in (given.split(',') if isinstance(given, str) else given)
        if o not in policies][0]) in str(e.value)
    assert '--augment color,translation,cutout' in typed(e.value) and "augment='color,translation,cutout'" in str(e.value)

def test_policies_are_read():
    assert as_augment(None) is None and DiffAugment().policy == policies
    assert DiffAugment(' cutout, color').policy == ('color', 'cutout') and DiffAugment(['translation']).policy == ('translation',)
    assert repr(DiffAugment('cutout,color')) == "DiffAugment('color,cutout')"
    mine = DiffAugment('')
    assert as_augment(mine) is mine and mine.policy == ()
    x = torch.rand(2, 3, 8, 8)
    assert mine(x) is x and DiffAugment('color')(x).shape == x.shape

def test_it_can_be_typed_for_each_family_that_takes_it():
    load_families()
    for name, family in families.items():
        typed_options = [o.name for o in family.options()]
        assert ('augment' in typed_options) == ('augment' in family.usual()), name
        assert 'reuse_fake' not in typed_options
    assert {o for o in families if 'augment' in families[o].usual()} >= set(LEARNERS)
    assert 'augment' not in families['cyclegan'].usual()
    option, = [o for o in family_named('spade').options() if o.name == 'augment']
    assert option.reader('color') == 'color' and option.reader('none') is None and 'few photos' in option.words

def test_an_option_is_registered():
    register_option('ttur', int)
    try: assert 'ttur' in [o.name for o in family_named('spade').options()]
    finally: del handed_on['ttur']

def test_train_takes_and_keeps_it(tmp_path, capsys):
    import numpy as np
    from PIL import Image
    from gaugan_fastai.cli import main
    for part, n in (('train', 4), ('val', 2)):
        for kind in ('images', 'labels'): (tmp_path/f'data/{part}/{kind}').mkdir(parents=True)
        for i in range(n):
            noise = np.random.default_rng(i)
            Image.fromarray(noise.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(tmp_path/f'data/{part}/images/{i}.png')
            Image.fromarray(noise.integers(0, 2, (32, 32), dtype=np.uint8)).save(tmp_path/f'data/{part}/labels/{i}.png')
    (tmp_path/'data/codes.txt').write_text('sky\nsea\n')
    common = ['train', tmp_path/'data', '--out', tmp_path/'run', '--size', '32', '--bs', '2', '--epochs', '1', '--ngf', '4',
        '--ndf', '4', '--perceptual', 'none']
    assert main([*common, '--augment', 'colour']) == 1
    assert "augment holds 'colour'" in capsys.readouterr().err
    assert main([*common, '--augment', 'color,translation']) == 0
    assert json.loads((tmp_path/'run/run.json').read_text())['augment'] == 'color,translation'
    assert main([*common, '--resume']) == 1
    assert 'augment=color,translation' in capsys.readouterr().err

# -- the ablation's tool -------------------------------------------------------------------------------------------

def _tool():
    import importlib.util
    spec = importlib.util.spec_from_file_location('augment_ablation', ROOT/'tools/augment_ablation.py')
    mod = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    return mod

def test_the_table_of_the_ablation(tmp_path, capsys):
    tool = _tool()
    def run(policy, seed, kid): return dict(data='d', n=50, policy=policy, seed=seed, steps=10, kid=kid, verdict_train=.5, verdict_test=.25)
    runs = [run('', 0, .2), run('', 1, .3), run('color', 0, .1), run('color', 1, .1)]
    rows = [[c.strip() for c in o.split('|')[1:-1]] for o in tool.augment_table(runs).splitlines()]
    assert rows[2][:4] == ['d', '50', 'none', '2'] and rows[3][:4] == ['d', '50', 'color', '2']
    assert rows[2][5].startswith('0.250 ±') and rows[3][5] == '0.100 ± 0.000' and rows[3][6].startswith('-0.150 ±') and rows[2][6] == ''
    assert rows[2][7].startswith('0.250')
    assert tool.main([str(tmp_path), '--table']) == 1 and 'holds no finished runs' in capsys.readouterr().err
    for i, o in enumerate(runs): (tmp_path/f'{i}.json').write_text(json.dumps(o) + '\n')
    assert tool.main([str(tmp_path), '--table']) == 0 and '| color |' in capsys.readouterr().out

"""What a GPU must do as the CPU does it: pictures, gradients, training, painting, saving. Skipped without CUDA.

`GAUGAN_TEST_DEVICE=cpu` runs it on the CPU, where it shows that the tests themselves run."""
import copy, os, threading
from contextlib import ExitStack, contextmanager
import numpy as np, pytest, torch
from fastai.vision.all import set_seed
from gaugan_fastai import metrics
from gaugan_fastai.core import instance_edges
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.models.clade import clade_learner
from gaugan_fastai.models.oasis import oasis_learner
from gaugan_fastai.models.pix2pix import pix2pix_learner
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import SPADEGenerator, spade_learner
from gaugan_fastai.pretrained import from_pretrained, save_pretrained

device = torch.device(os.environ.get('GAUGAN_TEST_DEVICE', 'cuda'))
if device.type == 'cuda' and device.index is None: device = torch.device('cuda', 0)
missing = device.type == 'cuda' and not torch.cuda.is_available()
pytestmark = [pytest.mark.skipif(missing,
    reason='no CUDA device here (GAUGAN_TEST_DEVICE=cpu runs these tests on the CPU)'), pytest.mark.numeric]

tiny = dict(ngf=8, ndf=8, nhidden=16, perceptual=None)
families = dict(
    spade=lambda dls: spade_learner(dls, 'cpu', **tiny),
    spade_z=lambda dls: spade_learner(dls, 'cpu', z_dim=8, **tiny),
    sean=lambda dls: sean_learner(dls, 'cpu', style_dim=16, width=8, **tiny),
    clade=lambda dls: clade_learner(dls, 'cpu', ngf=8, ndf=8, perceptual=None),
    oasis=lambda dls: oasis_learner(dls, 'cpu', ngf=8, ndf=8, nhidden=16, z_dim=8),
    pix2pix=lambda dls: pix2pix_learner(dls, ngf=8, average=.9, dropout=0.))

with_noise = 'spade_z', 'oasis'

@pytest.fixture(params=families)
def family(request): return request.param

@pytest.fixture(autouse=True)
def whole_float32():
    "Full float32 where CUDA would take tf32, whose results have three digits"
    was = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = was

def data(where=device, **kwargs):
    return PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=64, bs=2, device=where, **kwargs)

_dls = {}
def make(family, where='cpu'):
    "A learner with weights that depend on the seed alone"
    if str(where) not in _dls: _dls[str(where)] = data(torch.device(where))
    set_seed(0)
    return families[family](_dls[str(where)])

def fit(learn, epochs=1):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs)
    return learn

def ids(i=0): return torch.as_tensor(draw_landscape(i, 64).segmap).long()
def photo(i=0): return torch.as_tensor(draw_landscape(i, 64).photo).permute(2, 0, 1)/127.5 - 1
def batch(where, dtype=torch.float32):
    segmaps, photos = torch.stack([ids(3), ids(4)]), torch.stack([photo(3), photo(4)])
    return segmaps.to(where), photos.to(where, dtype)

def inputs(gan, segmaps, photos): return (segmaps, photos) if hasattr(gan, 'edits') else (segmaps,)
def style(family, where, dtype=torch.float32):
    return dict(z=torch.linspace(-1, 1, 8).to(where, dtype)[None]) if family in with_noise else {}

@pytest.fixture
def plain():
    "Everything by plain PyTorch inside; as it is afterwards"
    with ExitStack() as stack: yield lambda: stack.enter_context(ways(exact=False))

@pytest.fixture(params=['by device', 'by patterns'])
def way(request):
    "What a GPU does by itself (dense), and what it does where somebody asks for patterns"
    with ways(exact=True if request.param == 'by patterns' else None): yield request.param

@contextmanager
def drawn_on_cpu():
    "Random numbers are drawn on the CPU, as float32: a stream of bfloat16, or of a GPU, may hold others"
    real = {k: getattr(torch, k) for k in ('randn', 'rand')}
    def draw(k): return lambda *args, device=None, dtype=None, **kw: real[k](*args, **kw).to(device or 'cpu', dtype)
    for k in real: setattr(torch, k, draw(k))
    try: yield
    finally:
        for k, f in real.items(): setattr(torch, k, f)

def turns(gan, where, dtype):
    "Losses and gradients of both turns, on the CPU in float64; what is drawn by chance is drawn on the CPU"
    gan, out, grads = gan.to(where, dtype).train(), [], {}
    segmaps, photos = batch(where, dtype)
    xb, made = gan.prepare(*inputs(gan, segmaps, photos)), None
    with drawn_on_cpu():
        for turn in gan.turns:
            torch.manual_seed(5)
            losses = gan(*xb, turn=turn.losses, target=photos, made=made)
            if isinstance(losses, tuple): made, losses = losses
            movers = turn.movers
            found = torch.autograd.grad(sum(losses.values()), movers, allow_unused=True)
            out += losses.values()
            found = [torch.zeros_like(p) if g is None else g for p, g in zip(movers, found)]
            grads[turn.name] = torch.cat([o.flatten() for o in found])
    return torch.stack(out).detach().double().cpu(), {k: v.double().cpu() for k, v in grads.items()}

def close(a, b, share):
    "The difference's norm beside the whole norm: single biases before a norm have gradients that are noise"
    gap = ((a - b).norm()/b.norm()).item()
    assert gap < share, gap

# -- the same as the CPU -------------------------------------------------------------------------------------------

def test_losses_and_gradients_are_the_cpus(family, way):
    "Both turns in float64: the branches for CUDA compute the same function"
    want, want_grads = turns(make(family).model, 'cpu', torch.float64)
    got, grads = turns(make(family).model, device, torch.float64)
    close(got, want, 1e-7)   # hinge and its brothers are means of predictions in float32
    for k, v in grads.items(): close(v, want_grads[k], 1e-6)   # float64, but the sums of a GPU have no fixed order

def test_exact_is_dense(family, plain):
    "By patterns and by convolutions of the one-hot, both on the device in float64"
    with ways(exact=True): got, grads = turns(make(family).model, device, torch.float64)
    plain()
    want, want_grads = turns(make(family).model, device, torch.float64)
    close(got, want, 1e-7)   # hinge and its brothers are means of predictions in float32
    for k, v in grads.items(): close(v, want_grads[k], 1e-6)

def test_picture_in_float32(family):
    "A picture of the network in eval mode: float32 on both, ten layers deep"
    learn = make(family)
    near = learn.model.generator.eval()
    far = copy.deepcopy(near).to(device)
    with torch.no_grad():
        got = far(ids()[None].to(device), **style(family, device)).cpu()
        close(got, near(ids()[None], **style(family, 'cpu')), 1e-4)

def test_edges_are_read():
    "Instance edges are a channel on the device too"
    segmap = ids()[None]
    edges = instance_edges(segmap)
    set_seed(0)
    near = SPADEGenerator(19, 8, edges=True, nhidden=16).eval()
    far = copy.deepcopy(near).to(device)
    with torch.no_grad():
        want = near(segmap, edges)
        close(far(segmap.to(device), edges.to(device)).cpu(), want, 1e-4)
        assert not torch.equal(want, near(segmap, ~edges))

# -- training ------------------------------------------------------------------------------------------------------

def test_learner_trains(family):
    "Two batches with validation and averages: everything moves, everything is a number, all of it on the device"
    learn = make(family, device)
    learn.model.to(device)
    # SEAN has layers for absent classes
    before = {k: p.detach().clone() for k, p in learn.model.named_parameters() if '.fc_mu' not in k}
    fit(learn)
    now = dict(learn.model.named_parameters())
    still = [k for k, p in before.items() if torch.equal(p, now[k])]
    assert len(still) < .1*len(before), still
    assert all(p.device == device and p.isfinite().all() for p in now.values())
    assert len(learn.history) == 1 and all(np.isfinite(list(o.values())).all() for o in learn.history[0].values())
    if device.type == 'cuda': assert all(g['fused'] for o in learn.opt.inner.values() for g in o.param_groups)

def test_step_in_bfloat16(family):
    "autocast: losses and the direction of the gradients are those of float32, and a fit leaves weights in float32"
    want, want_grads = turns(make(family).model, device, torch.float32)
    with torch.autocast(device.type, torch.bfloat16): got, grads = turns(make(family).model, device, torch.float32)
    assert (got - want).abs().max() < .05*want.abs().max()   # eight bits a number, ten layers deep
    for k, v in grads.items(): assert torch.cosine_similarity(v, want_grads[k], dim=0) > .9, k
    learn = make(family, device)
    learn.autocast_dtype = torch.bfloat16
    fit(learn)
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in learn.model.parameters())

def test_channels_last(family):
    "Weights in channels-last memory: the same picture, and a step"
    learn = make(family, device)
    gen = learn.model.generator.to(device).eval()
    other = copy.deepcopy(gen).to(memory_format=torch.channels_last)
    with torch.no_grad():
        close(other(ids()[None].to(device), **style(family, device)),
            gen(ids()[None].to(device), **style(family, device)), 1e-4)
    learn.model.to(memory_format=torch.channels_last)
    fit(learn)
    assert all(p.isfinite().all() for p in learn.model.parameters())

def test_loader_with_pinned_memory():
    "Batches from pinned memory and from another process arrive on the device"
    dls = data(num_workers=1, pin_memory=device.type == 'cuda')
    segmap, picture = dls.one_batch()
    assert segmap.device == picture.device == device and segmap.dtype == torch.int64 and picture.abs().max() <= 1

# -- painting and judging ------------------------------------------------------------------------------------------

_trained = {}
def trained(family):
    if family not in _trained: _trained[family] = fit(make(family, device))
    return _trained[family]

def test_predict_and_averages(family):
    "predict paints with the averaged weights, and the live ones are untouched"
    learn = trained(family)
    before = {k: v.clone() for k, v in learn.model.state_dict().items()}
    how = dict(seed=1) if family in with_noise else {}
    pictures = [np.asarray(learn.predict(ids(1), **how)).astype(int) for _ in range(2)]
    assert pictures[0].shape == (64, 64, 3) and abs(pictures[0] - pictures[1]).max() <= 1
    assert all(torch.equal(v, before[k]) for k, v in learn.model.state_dict().items())
    average = learn.model_average.state_dict()['shadow']
    live = dict(learn.model.generator.named_parameters())
    assert all(v.device == device for v in average.values())
    assert any(not torch.equal(v, live[k]) for k, v in average.items() if k in live)

def test_painter(family):
    "for_inference: the network's picture, on new maps and on the last one again"
    with trained(family).painting() as gen, torch.no_grad():
        paint, how = gen.for_inference(), style(family, device)
        for i in (1, 1, 2): close(paint(ids(i)[None].to(device), **how), gen(ids(i)[None].to(device), **how), 1e-4)

def test_painters_in_threads(family):
    "Threads with painters of their own: the right picture each time"
    with trained(family).painting() as gen: paints = [gen.for_inference() for _ in range(4)]
    how, segmaps, wrong = style(family, device), [ids(i)[None].to(device) for i in range(4)], []
    with torch.no_grad(): want = [paints[0](o, **how) for o in segmaps]
    def work(paint, shift):
        with torch.no_grad():
            for i in range(8):
                k = (i + shift) % 4
                gap = (paint(segmaps[k], **how) - want[k]).abs().max().item()
                if not gap < 1e-3: wrong.append((k, gap))
    threads = [threading.Thread(target=work, args=(p, i)) for i, p in enumerate(paints)]
    for o in threads: o.start()
    for o in threads: o.join()
    assert not wrong

def test_scores(family):
    "Pictures of a loader on the device are scored"
    scores = metrics.score_learner(trained(family), feature=Colours(), subsets=2)
    assert np.isfinite(scores['kid'])

class Colours(torch.nn.Module):
    "Features for KID that need no weights"
    def forward(self, x): return x.flatten(2).mean(2).repeat(1, 4)

# -- files ---------------------------------------------------------------------------------------------------------

def test_saved_and_loaded_across_devices(family, tmp_path):
    "What is saved on the device loads on the CPU and comes back, optimiser and averages too"
    learn = trained(family)
    file = tmp_path/'here'
    learn.save(file)
    near = make(family)
    near.load(file)
    assert all(p.device.type == 'cpu' for p in near.model.parameters())
    state, loaded = learn.model.state_dict(), near.model.state_dict()
    assert all(torch.equal(v.cpu(), loaded[k]) for k, v in state.items())
    near.save(tmp_path/'there')
    back = make(family, device)
    back.model.to(device)
    back.load(tmp_path/'there')
    loaded = back.model.state_dict()
    assert all(torch.equal(v, loaded[k]) for k, v in state.items())
    fit(back)

def test_exported_weights(family, tmp_path):
    "save_pretrained of a network on the device: from_pretrained gives it on the CPU, with the same picture"
    if family == 'pix2pix': pytest.skip('save_pretrained does not know the U-Net')
    with trained(family).painting() as gen:
        save_pretrained(gen, tmp_path/'model', trained(family).dls.labels)
        with torch.no_grad(): want = gen(ids(1)[None].to(device), **style(family, device)).cpu()
        usual = getattr(gen, 'usual', None)
    near = from_pretrained(tmp_path/'model')
    if usual is not None: near.usual = usual.cpu()
    with torch.no_grad(): close(near(ids(1)[None], **style(family, 'cpu')), want, 1e-4)

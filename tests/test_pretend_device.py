"""Training, painting and scoring on a device that is not there: no tensor meets one of the CPU; waits are counted."""
import copy, threading
from contextvars import copy_context
import numpy as np, pytest, torch
from fastai.vision.all import Callback, TensorImage, set_seed
from gaugan_fastai import labelmaps, metrics, runs
from gaugan_fastai.ace import SEAN
from gaugan_fastai.callbacks import SampleGrid
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.encoder import encode
from gaugan_fastai.fast.choice import asked, ways
from gaugan_fastai.losses import PerceptualLoss
from gaugan_fastai.models.clade import clade_learner
from gaugan_fastai.models.pix2pix import pix2pix_learner
from gaugan_fastai.models.sean import sean_learner
from gaugan_fastai.models.spade import spade_learner
from gaugan_fastai.models.trunk import Memory
from gaugan_fastai.segmenter import Segmenter
from gaugan_fastai.turns import critic_turn, generator_turn
from pretend_device import Far, MeetingError, Pretend

pretend = torch.device('pretend', 0)
tiny = dict(ngf=4, ndf=4, nhidden=8, perceptual=None)
families = dict(
    spade=lambda dls: spade_learner(dls, 'cpu', **tiny),
    spade_z=lambda dls: spade_learner(dls, 'cpu', z_dim=8, **tiny),
    sean=lambda dls: sean_learner(dls, 'cpu', style_dim=8, width=4, **tiny),
    clade=lambda dls: clade_learner(dls, 'cpu', ngf=4, ndf=4, perceptual=None),
    pix2pix=lambda dls: pix2pix_learner(dls, ngf=4, average=.9))
# How often a training step waits for the device, its two copies of the batch included. Where it has fallen, lower
# the figure here and in docs/gpu.md.
most_waits = dict(dense=dict(spade=6, spade_z=6, sean=6, clade=6, pix2pix=6),
    patterns=dict(spade=7, spade_z=7, sean=7, clade=7, pix2pix=7))

# The same where a worker has checked the ids, and holds them on the CPU for who asks for patterns
most_waits_with_worker = 5

def data(device, **kwargs):
    return PairedDataLoaders.from_landscapes(n=6, n_valid=2, size=64, bs=2, device=device, **kwargs)

class CountWaits(Callback):
    "The waits of each training batch, from its loading to the end of its step"
    order, run_valid = 1000, False
    def before_fit(self): self.steps = []
    def before_train(self): Pretend.current.waits.clear()
    def after_batch(self):
        self.steps.append(dict(Pretend.current.waits))
        Pretend.current.waits.clear()

@pytest.fixture(params=families)
def family(request): return request.param

@pytest.fixture(params=['dense', 'patterns'], autouse=True)
def way(request):
    "As a GPU takes it, dense, and by patterns for those who ask for it"
    with ways(exact=True if request.param == 'patterns' else None): yield request.param

_trained = {}
def trained(family):
    "A learner that has trained for an epoch on the device, with averages and sample grids; made once"
    key = family, asked()
    if key not in _trained:
        set_seed(0)
        with Pretend():
            learn = families[family](data(pretend))
            learn.add_cbs([CountWaits(), *([] if family == 'sean' else [SampleGrid(2)])])
            with learn.no_bar(), learn.no_logging(): learn.fit(1)
        _trained[key] = learn
    return _trained[key]

def ids(i=0, size=64): return torch.as_tensor(draw_landscape(i, size).segmap).long()

# -- the device itself ---------------------------------------------------------------------------------------------

def test_devices_do_not_meet():
    "What CUDA refuses is refused, what it takes is taken"
    with Pretend():
        far, near = torch.ones(3, device=pretend), torch.ones(3)
        assert type(far) is Far and far.device == pretend and (far + 1).device == pretend and far.cpu().equal(near)
        for bad in (lambda: far + near, lambda: torch.cat([far, near]),
            lambda: far.index_select(0, torch.tensor([0])), lambda: far.index_add_(0, far.long(), near),
            lambda: torch.randn(2, device=pretend, generator=torch.Generator())):
            with pytest.raises(MeetingError): bad()
        with pytest.raises(TypeError): far.numpy()
        assert (far*torch.tensor(2.)).sum().item() == 6 and far[torch.tensor([0])].shape == (1,)

def test_waits_are_counted():
    "Reading numbers, sizes that depend on numbers, and copies that do not say non_blocking"
    waits = dict(read=lambda o: o.sum().item(), list=lambda o: o.tolist(), mask=lambda o: o[o > 0],
        nonzero=lambda o: o.nonzero(), cpu=lambda o: o.cpu(),
        copy=lambda o: torch.ones(3).to(pretend), into=lambda o: o.copy_(torch.ones(3)),
        repeat=lambda o: torch.repeat_interleave(o, o.long()))
    free = dict(add=lambda o: o + 1, copy=lambda o: torch.ones(3).to(pretend, non_blocking=True),
        repeat=lambda o: torch.repeat_interleave(o, o.long(), output_size=3))
    with Pretend() as seen:
        far = torch.ones(3, device=pretend)
        for want, fs in ((1, waits), (0, free)):
            for name, f in fs.items():
                seen.waits.clear()
                f(far)
                assert sum(seen.waits.values()) == want, (name, seen.waits)
    assert not seen.waits

def test_types_of_fastai_come_along():
    "Batch transforms choose by type, on the device too"
    with Pretend():
        photo = TensorImage(torch.ones(3, 2, 2)).to(pretend)
        assert isinstance(photo, TensorImage) and isinstance(photo*2, TensorImage)
        assert type(photo.as_subclass(torch.Tensor)) is Far and type(photo.cpu()) is TensorImage

# -- training ------------------------------------------------------------------------------------------------------

def test_training_and_waits(family, way, capsys):
    "An epoch with validation, averages and grids on the device; each step waits at most so often"
    learn = trained(family)
    steps = learn.count_waits.steps
    assert len(steps) == 3 and all(isinstance(o, Far) for o in [*learn.model.parameters(), *learn.model.buffers()])
    totals = [sum(o.values()) for o in steps]
    with capsys.disabled():
        print(f'\n{family}, {way}: waits a step {totals}; in the last one',
            *(f'    {n:4} {what} ({where})' for (what, where), n in sorted(steps[-1].items(), key=lambda o: -o[1])),
            sep='\n')
    most = most_waits[way][family]
    assert max(totals) <= most, f'a step waits {max(totals)} times, before at most {most}'

# dense no family asks the worker for more than its ids, so one of them tells
@pytest.mark.parametrize('family, way', [('spade', 'dense'), *((o, 'patterns') for o in families)], indirect=True)
def test_waits_with_a_worker(family, way):
    "The worker looks at the ids; by patterns it makes the plan too, from the second epoch on"
    set_seed(0)
    made, plain = [], labelmaps.LabelPlan
    labelmaps.LabelPlan = lambda *args: made.append(args) or plain(*args)
    try:
        with Pretend():
            learn = families[family](data(pretend, num_workers=1))
            learn.add_cb(CountWaits())
            with learn.no_bar(), learn.no_logging():
                for _ in range(2):
                    made.clear()
                    learn.fit(1)
    finally: labelmaps.LabelPlan = plain
    steps = learn.count_waits.steps
    assert len(steps) == 3 and max(sum(o.values()) for o in steps) <= most_waits_with_worker, steps
    assert made == []

def losses_and_grads(learn, device):
    "Losses and gradients of both turns on one batch, in float64, on the CPU again"
    gan, out = learn.model.to(device, torch.float64).train(), []
    segmap, photo = ids(3, 64)[None], torch.as_tensor(draw_landscape(3, 64).photo).permute(2, 0, 1)[None]/127.5 - 1
    segmap = torch.cat([segmap, segmap.flip(2)]).to(device)
    photo = torch.cat([photo, photo.flip(3)]).to(device, torch.float64)
    xb = (segmap, photo) if hasattr(gan, 'edits') else (segmap,)
    for turn, name in ((generator_turn, 'generator'), (critic_turn, 'critic')):
        torch.manual_seed(5)
        if name == 'generator': fake, losses = gan(*xb, photo=photo, turn=turn)
        else: losses = gan(*xb, photo=photo, fake=fake, turn=turn)
        movers = gan.movers(name)
        grads = torch.autograd.grad(sum(losses.values()), movers, allow_unused=True)
        # a class that does not occur: no gradient on a CPU, zeros on a GPU
        grads = [torch.zeros_like(p) if g is None else g for p, g in zip(movers, grads)]
        out += [o.detach().cpu() for o in (*losses.values(), *grads)]
    return out

@pytest.mark.numeric
def test_branches_for_cuda_compute_the_same(family):
    "Code that asks `is_cuda` takes another way: the same losses and gradients (both in float64)"
    set_seed(0)
    learn = families[family](data('cpu'))
    near = losses_and_grads(learn, torch.device('cpu'))
    set_seed(0)
    learn = families[family](data('cpu'))
    with Pretend(): far = losses_and_grads(learn, pretend)
    assert len(near) == len(far) > 20
    error = sum((a - b).norm()**2 for a, b in zip(near, far)).sqrt()/sum(a.norm()**2 for a in near).sqrt()
    assert error < 1e-7, error   # float64; spectral norms' u and v of a fresh network are float32 made double

# -- painting and scoring ------------------------------------------------------------------------------------------

def near_copy(gen):
    "The same network on the CPU"
    return copy.deepcopy(gen).to('cpu')

@pytest.mark.once
@pytest.mark.numeric
def test_predict(family):
    "predict, show_results and grids on the device: the picture that the CPU paints"
    learn, segmap = trained(family), ids(1)
    how = dict(seed=1) if family == 'spade_z' else {}
    with Pretend():
        picture = np.asarray(learn.predict(segmap, **how)).astype(int)
        learn.show_results(max_n=2)
        with learn.painting() as gen: state = {k: v.cpu() for k, v in gen.state_dict().items()}
        usual = getattr(gen, 'usual', None)
        usual = None if usual is None else usual.cpu()
    near = families[family](data('cpu'))
    near.remove_cbs([o for o in near.cbs if o.name == 'model_average'])
    near.model.generator.load_state_dict(state)
    near.model.generator.usual = usual
    want = np.asarray(near.predict(segmap, **how)).astype(int)
    assert abs(picture - want).max() <= 1   # float32, rounded to bytes

def test_averages(family):
    "Averages lie on the device, are saved, and come back to it from a file"
    learn = trained(family)
    with Pretend():
        sd = copy.deepcopy(learn.model_average.state_dict())
        assert all(isinstance(o, Far) for o in sd['shadow'].values())
        near = lambda o: {n: t.cpu() for n, t in o.items()} if isinstance(o, dict) else o
        learn.model_average.load_state_dict({k: near(v) for k, v in sd.items()})
        with learn.painting() as gen: assert all(isinstance(o, Far) for o in (*gen.parameters(), *gen.buffers()))

def test_saved_and_loaded(family, tmp_path):
    "save writes plain tensors, load brings them back to the device"
    learn = trained(family)
    with Pretend():
        learn.path = tmp_path
        file = learn.save('far')
        assert not any(isinstance(o, Far) for o in torch.load(file, weights_only=True)['model'].values())
        before = [o.cpu() for o in learn.model.parameters()]
        learn.load('far', device='cpu')
        assert all(isinstance(o, Far) for o in learn.model.parameters())
        assert all(a.equal(b.cpu()) for a, b in zip(before, learn.model.parameters()))

def painter(family):
    "The averaged generator, prepared for painting, on the device, with labels and card as `load_model` gives them"
    learn = trained(family)
    with Pretend(), learn.painting() as gen: new = gen.for_inference()
    new.labels, new.card = learn.dls.labels, dict(size=[64, 64])
    return new

@pytest.mark.once
@pytest.mark.numeric
def test_painters(family):
    "for_inference on the device: the picture of the network, on a map seen before and on a new one"
    learn = trained(family)
    how = dict(z=torch.zeros(1, 8)) if family == 'spade_z' else {}
    with Pretend():
        paint, how = painter(family), {k: v.to(pretend) for k, v in how.items()}
        for i in (1, 1, 2):
            segmap = ids(i)[None].to(pretend)
            with learn.painting() as gen: want = gen(segmap, **how).cpu()
            assert (paint(segmap, **how).cpu() - want).abs().max() < 1e-4   # folded spectral norms, float32

def test_runs_paint(family):
    "`runs.paint` brings map and style to where the model is"
    model = painter(family)
    how = dict(style=torch.rand(model.n_classes, model.style_dim)) if family == 'sean' else {}
    with Pretend(): assert runs.paint(model, ids(1).numpy(), **how).shape == (64, 64, 3)

def test_painters_in_threads(family):
    "Threads with networks of their own"
    how = {}
    with Pretend():
        paints, segmaps = [painter(family) for _ in range(2)], [ids(i)[None].to(pretend) for i in range(2)]
        if family == 'spade_z': how['z'] = torch.zeros(1, 8, device=pretend)
        want = [p(o, **how).cpu() for p, o in zip(paints, segmaps)]
        for p in paints: getattr(p, 'memory', Memory()).forget()
        got, errors = [None]*2, []
        def work(i):
            try: got[i] = paints[i](segmaps[i], **how).cpu()
            except Exception as e: errors.append(e)
        threads = [threading.Thread(target=copy_context().run, args=(work, i)) for i in range(2)]
        for o in threads: o.start()
        for o in threads: o.join()
    assert not errors, errors
    assert all(a.equal(b) for a, b in zip(want, got))

def test_styles_and_codes():
    "Styles and codes are read where the network is"
    photo = torch.zeros(3, 64, 64)
    with Pretend():
        assert encode(trained('spade_z'), photo).device == pretend
        learn = trained('sean')
        codes = learn.encode(draw_landscape(1, 64).photo, ids(1))
        assert codes.device == pretend and learn.predict(ids(1), codes).size == (64, 64)

class Colours(torch.nn.Module):
    "Features for KID that need no weights from elsewhere"
    def forward(self, x): return x.flatten(2).mean(2).repeat(1, 4)

def test_metrics(family):
    "Paint a loader and score it: features of pictures on the device, scores as numbers"
    learn = trained(family)
    with Pretend():
        scores = metrics.score_learner(learn, feature=Colours(), subsets=2)
        assert np.isfinite(scores['kid'])

def test_scores_on_the_device():
    "KID, SSIM and the segmenter take pictures that are far away"
    g = torch.Generator().manual_seed(0)
    fakes, reals = (torch.rand(4, 3, 32, 32, generator=g)*2 - 1 for _ in range(2))
    with Pretend():
        fakes, reals = fakes.to(pretend), reals.to(pretend)
        kid = metrics.KID(Colours(), subsets=2).to(pretend)
        for o, real in ((fakes, False), (reals, True)): kid.update(o, real=real)
        assert np.isfinite(kid.compute()[0].item())
        assert metrics.ssim(fakes, reals).device == pretend
        assert np.isfinite(metrics.reconstruction_scores(fakes, reals)['ssim'])


def test_judges_on_the_device():
    "The networks that come with their weights: perceptual loss, features of KID, segmenter"
    photo, segmap = torch.rand(2, 3, 64, 64)*2 - 1, torch.stack([ids(0), ids(1)])
    labels = landscape_labels()
    with Pretend():
        far = photo.to(pretend).requires_grad_()
        loss = PerceptualLoss('efficientnet-lite0')(far, photo.flip(3).to(pretend))
        loss.backward()
        assert loss.device == far.grad.device == pretend
        assert metrics.KIDFeatures(64).to(pretend)(photo.to(pretend)).device == pretend
        segmenter = Segmenter(labels.n_classes).to(pretend)
        scores = metrics.segmentation_scores(segmenter, photo.to(pretend), segmap, labels.n_classes, labels.void,
            labels.codes)
        assert np.isfinite(scores['accuracy'])

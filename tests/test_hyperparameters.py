"""The page on hyper-parameters says what the code does: every value of the column *ours* is read off the code."""
import ast, inspect, re, tempfile
from types import SimpleNamespace
import pytest, torch
from torch import nn
from conftest import ROOT
from gaugan_fastai import callbacks, cli, core, critics, encoder, layers, learner, losses, painter, runs, spade, turns
from gaugan_fastai.data import paired
from gaugan_fastai.data.transforms import SignedPhoto
from gaugan_fastai.models import pix2pix, sean as models_sean, spade as models_spade
from fastai.vision.all import TensorImage

pytestmark = pytest.mark.numeric
PAGE = ROOT/'docs/hyperparameters.md'
modules = (models_spade, spade, critics, losses, learner, callbacks, turns, layers, paired, core, runs, encoder, pix2pix, cli, models_sean)
call, preset = re.compile(r'`([\w.]+)\((\w+)=([^`]+)\)`'), re.compile(r"`(presets\[[^`]+\]) = (\d+)`")

def rows():
    "(section, parameter) -> the cell *ours*"
    section, res = None, {}
    for line in PAGE.read_text(encoding='utf-8').splitlines():
        if line.startswith('## '): section = line[3:]
        cells = [o.strip() for o in re.split(r'(?<!\\)\|', line)][1:-1]
        if section and len(cells) == 5 and cells[0] not in ('parameter', '---'): res[section, cells[0]] = cells[3]
    return res

def found(path):
    "The object of a dotted name, from the library's modules"
    name, *rest = path.split('.')
    obj = getattr(learner.SynthesisLearner, name, None) or next(getattr(o, name) for o in modules if hasattr(o, name))
    for o in rest: obj = getattr(obj, o)
    return obj

# -- what is no default of a signature ---------------------------------------------------------------------------

def gen(): return models_spade.SPADEGenerator(3, ngf=2, nhidden=2)
def conv_of(net, cls=nn.Conv2d): return [o for o in net.modules() if isinstance(o, cls)]

def upsampling():
    x = torch.arange(4.).view(1, 1, 2, 2)
    assert torch.equal(layers.upsample2(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))
    return 'nearest, x2'

def output():
    g, got = gen().eval(), {}
    g.conv_img.register_forward_hook(lambda m, i, o: got.update(i=i[0], o=o))
    g.up_3.register_forward_hook(lambda m, i, o: got.update(up=o))
    pic = g(torch.zeros(1, 64, 64).long())
    assert torch.equal(got['i'], layers.leaky(got['up'])) and torch.equal(pic, got['o'].tanh())
    return f'leaky, conv{g.conv_img.kernel_size[0]}x{g.conv_img.kernel_size[1]}, tanh'

def modulation():
    layer, x, seg = spade.SPADE(2, 3, nhidden=4), torch.randn(2, 2, 8, 8), torch.randint(0, 3, (2, 8, 8))
    g, b = layer.modulation(spade.LabelMaps(seg, None, 3), (8, 8))
    torch.testing.assert_close(layer(x, seg), layer.param_free_norm(x)*(1 + g) + b)
    return r'norm(x)\*(1 + gamma) + beta'

def at_each_size():
    ids = torch.arange(7)[None]
    assert core.resize_nearest(ids, (1, 4)).tolist() == [[0, 1, 3, 5]]
    return 'floor of index x scale'

def pooling():
    c, seen = critics.MultiScaleCritic(2, ndf=2, n_layers=3), {}
    c.discriminator_1.register_forward_hook(lambda m, i, o: seen.update(x=i[0]))
    image = torch.randn(1, 3, 16, 16)
    c(torch.zeros(1, 16, 16).long(), image)
    torch.testing.assert_close(seen['x'][:, 2:], nn.AvgPool2d(3, 2, 1, count_include_pad=False)(image))
    return '3x3, stride 2, padding 1, padding not counted'

def middle():
    conv, norm = critics.MultiScaleCritic(2, ndf=2).discriminator_0.model1[0]
    assert hasattr(conv, 'weight_orig') and conv.bias is None and isinstance(norm, nn.InstanceNorm2d) and not norm.affine
    return 'spectral norm and instance norm, no affine, no bias'

def kernels():
    convs = conv_of(critics.MultiScaleCritic(2, ndf=2))
    assert {(o.kernel_size, o.padding) for o in convs} == {((4, 4), (2, 2))}
    return 'kernel 4, padding 2'

def one_batch():
    seen = []
    critic = lambda seg, image: seen.append(image) or [[image]]
    gan = SimpleNamespace(critic=critic)
    fake, photo = torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)
    turns.SynthesisGAN.judge(gan, (torch.zeros(1, 2, 2),), fake, photo)
    assert len(seen) == 1 and torch.equal(seen[0], torch.cat([fake, photo]))
    return 'in one batch, fake first'

def ttur(on):
    (a, b), mom, sqr_mom = learner._TTUR[on]
    return f'x {a:g} and x {b:g}', f'({mom}, {sqr_mom})'

def order():
    "Whose forward a batch goes through, by a learner whose model notes it"
    seen = []
    class Noting(turns.SynthesisGAN):
        def forward(self, *xb, turn=None, **kwargs):
            seen.append((turn.__name__, xb[0].segmap.data_ptr()))
            return super().forward(*xb, turn=turn, **kwargs)
    dls = paired.PairedDataLoaders.from_landscapes(n=2, n_valid=2, size=32, bs=2)
    gen_, critic = models_spade.SPADEGenerator(dls.n_classes, ngf=1, nhidden=2), critics.MultiScaleCritic(dls.n_classes, ndf=2)
    learn = learner.SynthesisLearner(dls, gen_, critic, gan_func=Noting)
    with learn.no_bar(), learn.no_logging(): learn.fit(1)
    (first, batch), (second, same) = seen[:2]
    assert batch == same and learn.model.turns[0].losses.__name__ == first
    return f'{first.split("_")[1]}, then {second.split("_")[1]}, same batch'

def reuse():
    "What `Run` makes of it, and that the caller's word counts more"
    dls, small = paired.PairedDataLoaders.from_landscapes(n=2, n_valid=2, size=32, bs=2), dict(ngf=1, ndf=2, nhidden=2, perceptual=None)
    with tempfile.TemporaryDirectory() as out:
        found = [runs.Run(dls, f'{out}/{i}', **small, **kwargs).learn.model.reuse_fake for i, kwargs in enumerate(({}, dict(reuse_fake=False)))]
    assert found == [True, False]
    return '`gaugan train` and `Run`: True'

def eps_of_norm():
    n = spade.SPADE(2, 2).param_free_norm
    assert not n.affine
    return f'eps {n.eps}, momentum {n.momentum}'

def eps_of_spectral():
    c = layers.spectral(nn.Conv2d(2, 2, 1))
    return f'eps {next(iter(c._forward_pre_hooks.values())).eps:g}'

def biases():
    assert all(not o.bias.any() for o in conv_of(gen()) if o.bias is not None)
    return 'biases 0'

def photos():
    x = TensorImage(torch.arange(256.).view(1, 1, 16, 16))
    torch.testing.assert_close(SignedPhoto().encodes(x).as_subclass(torch.Tensor), (x.as_subclass(torch.Tensor)/255 - .5)/.5)
    return '(u8/255 - 0.5)/0.5'

def edges():
    e = core.instance_edges(torch.tensor([[1, 1, 1, 2]]*3))
    assert e[1].tolist() == [False, False, True, True]
    return 'pixels that differ from any of 4 neighbours, made after scaling'   # `test_edges` and `test_paired` hold the second half

# -- the style encoder, pix2pix ----------------------------------------------------------------------------------

SIZE = SimpleNamespace(size=(96, 160), n_classes=3, edges=False)

def encoder_layers():
    with torch.device('meta'): full, small = encoder.StyleEncoder(), encoder.StyleEncoder(size=64)
    first = [o[0] for o in full.layers()]
    assert {(o.kernel_size, o.stride) for o in first} == {((3, 3), (2, 2))} and len(small.layers()) == len(first) - 2
    assert all(hasattr(o[0], 'weight_orig') and isinstance(o[1], nn.InstanceNorm2d) for o in full.layers())
    assert full.fc_mu.in_features == small.fc_mu.in_features == 16*first[-1].out_channels
    widths = f'{first[0].out_channels} to {first[-1].out_channels} channels'
    return f'{len(first)} convolutions 3x3, stride 2, {widths}, spectral norm and instance norm on all'

def encoder_activation():
    enc, seen, x = encoder.StyleEncoder(2, 3, 16).eval(), {}, torch.randn(1, 3, 16, 16)
    for k in ('layer1', 'layer2', 'fc_mu'): getattr(enc, k).register_forward_hook(lambda m, i, o, k=k: seen.update({k: (i[0], o)}))
    enc(x)
    assert torch.equal(layers.leaky(seen['layer1'][1]), seen['layer2'][0])
    assert torch.equal(layers.leaky(seen['layer2'][1]).flatten(1), seen['fc_mu'][0])
    return 'leaky, slope 0.2, after each layer'

def encoder_last():
    mu, logvar = encoder.StyleEncoder(2, 5, 16)(torch.zeros(1, 3, 16, 16))
    assert mu.shape == logvar.shape == (1, 5)
    return 'two linear layers, mu and log variance'

def style_parts():
    "The encoder that `spade_learner` makes for pictures of `SIZE`"
    gen = models_spade.SPADEGenerator(3, ngf=6, nhidden=2, z_dim=4, size=SIZE.size)
    return models_spade._styled(SIZE, gen, encoder.KLTerm(), 0)['gan_func'].keywords['encoder']

def encoder_width():
    assert style_parts().ndf == 6
    return "`spade_learner` gives it the generator's ngf"

def encoder_input():
    assert style_parts().size == 128 and models_spade._encoder_size((512, 1024)) == 256
    enc, x, got = encoder.StyleEncoder(2, 3, 16), torch.randn(1, 3, 20, 40), {}
    enc.layer1.register_forward_hook(lambda m, i, o: got.update(x=i[0]))
    enc(x)
    torch.testing.assert_close(got['x'], nn.functional.interpolate(x, (16, 16), mode='bilinear', align_corners=False, antialias=False))
    return 'bilinear; `spade_learner`: the largest power of two in the longer side, at most 256'

def painted_style():
    styles = painter.Painter.around(SimpleNamespace(styles='z', z_dim=4)).styles_for
    assert torch.equal(styles()[0], styles(seed=0)[0]) and not torch.equal(*styles(samples=2))
    return 'seed 0 unless given'

def encoder_average():
    avg = callbacks.ModelAverage()
    avg.learn = SimpleNamespace(model=encoder.EncodedGAN(nn.Linear(1, 1), nn.Linear(1, 1), encoder=nn.Linear(1, 1)))
    assert set(avg._params()) == {'weight', 'bias', 'encoder.weight', 'encoder.bias'}
    return "with the generator's"

def pix2pix_made():
    "The `SynthesisLearner` call that `pix2pix_learner` makes"
    seen, real = {}, pix2pix.SynthesisLearner
    pix2pix.SynthesisLearner = lambda *args, **kwargs: seen.update(args=args, **kwargs)
    try: pix2pix.pix2pix_learner(SimpleNamespace(size=(64, 64), n_classes=3, edges=False), ngf=4)
    finally: pix2pix.SynthesisLearner = real
    return SimpleNamespace(**seen)

def patch_gan():
    critic = pix2pix_made().args[2]
    assert critic.discriminator_0.model0[0].out_channels == 4 and not hasattr(critic, 'discriminator_1')
    return 'one scale, as wide as the generator'

def pix2pix_losses():
    assert set(pix2pix_made().args[4]) == {'l1'}
    return 'no feature matching, no perceptual loss'

def pix2pix_optimiser():
    assert pix2pix_made().ttur is False
    mults, mom, sqr_mom = learner._TTUR[False]
    lr = inspect.signature(learner.SynthesisLearner.__init__).parameters['lr'].default
    assert mults == (1, 1)
    return f'without TTUR: ({mom}, {sqr_mom}), lr {lr:g}'

def pix2pix_init():
    torch.manual_seed(0)
    w = pix2pix.UNetGenerator(3, 32, levels=3).down_2[0].weight
    assert abs(w.mean()) < 1e-3
    return f'normal, deviation {w.std():.2f}'

facts = {('Generator', 'upsampling'): upsampling, ('Generator', 'activation'): lambda: f'leaky, slope {-layers.leaky(torch.tensor(-1.)).item():.1f}',
    ('Generator', 'output'): output, ('SPADE layer', 'norm'): eps_of_norm, ('SPADE layer', 'modulation'): modulation,
    ('SPADE layer', 'label map at each size'): at_each_size, ('Critic', 'kernel, padding'): kernels, ('Critic', 'middle layers'): middle,
    ('Critic', 'half size'): pooling, ('Critic', 'fake and real'): one_batch, ('Losses', 'perceptual layers'): lambda: 'VGG19: ' +
        ', '.join(f'1/{1/o:g}' if o < 1 else f'{o:g}' for o in losses.VGG19Features.layer_weights),
    ('Optimiser and schedule', 'learning rates'): lambda: ttur(True)[0], ('Optimiser and schedule', 'betas'): lambda: ttur(True)[1],
    ('Optimiser and schedule', 'without TTUR'): lambda: ', '.join(ttur(False)[::-1]), ('Optimiser and schedule', 'order'): order,
    ('Optimiser and schedule', 'fake for the critic'): reuse, ('Init', 'weights'): biases, ("Init", "spectral norm's vectors"): eps_of_spectral,
    ('Data', 'range of photos'): photos, ('Data', 'edges'): edges, ('Style encoder', 'layers'): encoder_layers, ('Style encoder', 'activation'): encoder_activation,
    ('Style encoder', 'last'): encoder_last, ('Style encoder', 'width'): encoder_width, ('Style encoder', 'input size'): encoder_input,
    ('Style encoder', 'style for painting'): painted_style, ('Style encoder', 'average of the encoder'): encoder_average,
    ('pix2pix', 'PatchGAN'): patch_gan, ('pix2pix', 'other losses'): pix2pix_losses, ('pix2pix', 'optimiser of both'): pix2pix_optimiser,
    ('pix2pix', 'weights at the start'): pix2pix_init, ('Style encoder', 'KL'): lambda: 'a sum' if
        losses.kl_loss(torch.ones(2, 3), torch.zeros(2, 3)).item() == 3 else 'a mean',
    ('Data', 'void'): lambda: 'last class' if core.LabelSpace(['void', 'sky']).void == 1 else 'first class'}

@pytest.mark.parametrize('key', rows(), ids=' / '.join)
def test_ours_is_what_the_code_does(key):
    cell = rows()[key]
    calls, widths = call.findall(cell), preset.findall(cell)
    for path, arg, value in calls: assert inspect.signature(found(path)).parameters[arg].default == ast.literal_eval(value), (path, arg)
    for path, value in widths: assert eval(path, dict(presets=models_spade.presets)) == int(value), path
    if key in facts: assert facts[key]() in cell, facts[key]()
    assert calls or widths or key in facts, 'nothing of this row is tested'

def test_all_facts_and_all_sections_are_on_the_page():
    assert set(facts) <= set(rows())
    assert {o for o, _ in rows()} == {'Generator', 'SPADE layer', 'Critic', 'Style encoder', 'Losses', 'Optimiser and schedule', 'pix2pix', 'Init', 'Data'}

def test_no_hyperparameter_of_the_factory_is_forgotten():
    "Every default of `spade_learner` and `SPADEGenerator` that is a number or a choice is on the page"
    text = PAGE.read_text(encoding='utf-8')
    for f in (models_spade.spade_learner, models_spade.SPADEGenerator, critics.MultiScaleCritic, encoder.StyleEncoder, pix2pix.pix2pix_learner):
        own = [k for k, p in inspect.signature(f).parameters.items() if isinstance(p.default, (int, float, str))]
        missing = [k for k in own if not re.search(rf'\b{k}\b', text)]
        assert not missing, (f.__name__, missing)

def test_a_wrong_value_would_be_seen():
    [(path, arg, value)] = call.findall('`SPADEGenerator(ngf=63)`')
    assert inspect.signature(found(path)).parameters[arg].default != ast.literal_eval(value)

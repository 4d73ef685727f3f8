"""The page on hyper-parameters says what the code does: every value of the column *ours* is read off the code."""
import ast, inspect, re
from types import SimpleNamespace
import pytest, torch
from torch import nn
from conftest import ROOT
from gaugan_fastai import callbacks, core, critics, layers, learner, losses, runs, spade, turns
from gaugan_fastai.data import paired
from gaugan_fastai.data.transforms import SignedPhoto
from gaugan_fastai.models import spade as models_spade
from fastai.vision.all import TensorImage

PAGE = ROOT/'docs/hyperparameters.md'
modules = (models_spade, spade, critics, losses, learner, callbacks, turns, layers, paired, core, runs)
call, preset = re.compile(r'`([A-Za-z_.]+)\((\w+)=([^`]+)\)`'), re.compile(r"`(presets\[[^`]+\]) = (\d+)`")

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
    obj = getattr(callbacks.SynthesisLearner, name, None) or next(getattr(o, name) for o in modules if hasattr(o, name))
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
    seen = []
    fake = SimpleNamespace(yb=[0], model=SimpleNamespace(critic=0), _generator_half=lambda: seen.append('generator'), _critic_half=lambda: seen.append('critic'))
    learner.SynthesisLearner._do_one_batch(fake)
    return f'{seen[0]}, then {seen[1]}, same batch'

def reuse():
    assert "{'reuse_fake': True, **kwargs}" in inspect.getsource(runs.Run)
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

facts = {('Generator', 'upsampling'): upsampling, ('Generator', 'activation'): lambda: f'leaky, slope {-layers.leaky(torch.tensor(-1.)).item():.1f}',
    ('Generator', 'output'): output, ('SPADE layer', 'norm'): eps_of_norm, ('SPADE layer', 'modulation'): modulation,
    ('SPADE layer', 'label map at each size'): at_each_size, ('Critic', 'kernel, padding'): kernels, ('Critic', 'middle layers'): middle,
    ('Critic', 'half size'): pooling, ('Critic', 'fake and real'): one_batch, ('Losses', 'perceptual layers'): lambda: 'VGG19: ' +
        ', '.join(f'1/{1/o:g}' if o < 1 else f'{o:g}' for o in losses.VGG19Features.layer_weights),
    ('Optimiser and schedule', 'learning rates'): lambda: ttur(True)[0], ('Optimiser and schedule', 'betas'): lambda: ttur(True)[1],
    ('Optimiser and schedule', 'without TTUR'): lambda: ', '.join(ttur(False)[::-1]), ('Optimiser and schedule', 'order'): order,
    ('Optimiser and schedule', 'fake for the critic'): reuse, ('Init', 'weights'): biases, ("Init", "spectral norm's vectors"): eps_of_spectral,
    ('Data', 'range of photos'): photos, ('Data', 'edges'): edges, ('Style encoder', 'KL'): lambda: 'a sum' if
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
    assert {o for o, _ in rows()} == {'Generator', 'SPADE layer', 'Critic', 'Style encoder', 'Losses', 'Optimiser and schedule', 'Init', 'Data'}

def test_no_hyperparameter_of_the_factory_is_forgotten():
    "Every default of `spade_learner` and `SPADEGenerator` that is a number or a choice is on the page"
    text = PAGE.read_text(encoding='utf-8')
    for f in (models_spade.spade_learner, models_spade.SPADEGenerator, critics.MultiScaleCritic):
        own = [k for k, p in inspect.signature(f).parameters.items() if isinstance(p.default, (int, float, str))]
        missing = [k for k in own if not re.search(rf'\b{k}\b', text)]
        assert not missing, (f.__name__, missing)

def test_a_wrong_value_would_be_seen():
    [(path, arg, value)] = call.findall('`SPADEGenerator(ngf=63)`')
    assert inspect.signature(found(path)).parameters[arg].default != ast.literal_eval(value)

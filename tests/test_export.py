"""Networks in other people's runtimes: `torch.export` and ONNX give what we give, pictures and verdicts, for any number of maps."""
import pytest, torch

from conftest import once_but
from test_patterns import lively, rel, voronoi
from gaugan_fastai.critics import MultiScaleCritic
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.models.spade import SPADEGenerator

pytestmark = pytest.mark.numeric
TOL = 1e-4   # float32, sums in another order

def maps(B): return voronoi(B, (32, 64), 5)
def fixed(*shape): return torch.randn(*shape, generator=torch.Generator().manual_seed(0))
def spade(**kwargs): return SPADEGenerator(5, ngf=2, nhidden=4, **kwargs)
kinds = dict(   # generator, inputs of a batch of B by name
    spade=(spade, lambda B: dict(segmap=maps(B)[0])),
    deep=(lambda: spade(upsampling='more', norm='instance', spectral=False), lambda B: dict(segmap=voronoi(B, (64, 128), 5)[0])),
    edges=(lambda: spade(edges=True), lambda B: dict(zip(('segmap', 'edges'), maps(B)))),
    z=(lambda: spade(z_dim=6, size=(32, 64)), lambda B: dict(segmap=maps(B)[0], z=fixed(B, 6))),
    codes=(lambda: SEANGenerator(5, 2, 6, 4, 2), lambda B: dict(segmap=maps(B)[0], codes=fixed(B, 5, 6))),
    photos=(lambda: SEANGenerator(5, 2, 6, 4, 2), lambda B: dict(segmap=maps(B)[0], codes=fixed(B, 3, 32, 64))),
    unet=(lambda: UNetGenerator(5, ngf=2, levels=3), lambda B: dict(segmap=maps(B)[0])),
    unet_edges=(lambda: UNetGenerator(5, ngf=2, levels=3, edges=True), lambda B: dict(zip(('segmap', 'edges'), maps(B)))))
critics = dict(
    critic=(lambda: MultiScaleCritic(5, ndf=4, n_layers=3), lambda B: dict(segmap=maps(B)[0], image=fixed(B, 3, 32, 64))),
    critic_edges=(lambda: MultiScaleCritic(5, ndf=4, n_layers=3, edges=True),
        lambda B: dict(zip(('segmap', 'image', 'edges'), (maps(B)[0], fixed(B, 3, 32, 64), maps(B)[1])))))

def flat(out): return [out] if isinstance(out, torch.Tensor) else [o for part in out for o in flat(part)]
def off(out, true): return max(rel(a, b) for a, b in zip(flat(out), flat(true), strict=True))
def first(n, args): return {k: v[:n] for k, v in args.items()}

def prepared(kind, painter):
    "Network, three maps to record it with, shapes that say that any number will do, and five others with what it makes of them"
    make, inputs = (kinds | critics)[kind]
    torch.manual_seed(0)
    gen = lively(make()).eval()
    if painter: gen = gen.for_inference()
    args, others = inputs(3), inputs(5)
    with torch.no_grad(): true = gen(**others)
    return gen, args, {k: {0: torch.export.Dim('B', min=1, max=64)} for k in args}, others, true

again = [('spade', False), ('unet', True), ('codes', True), ('critic_edges', False)]
@pytest.mark.parametrize('kind,painter', once_but(again, [*((o, p) for o in kinds for p in (False, True)), *((o, False) for o in critics)]))
@torch.no_grad()
def test_torch_export(kind, painter):
    gen, args, shapes, others, true = prepared(kind, painter)
    program = torch.export.export(gen, (), args, dynamic_shapes=shapes).module()
    for n in (5, 1): assert off(program(**first(n, others)), [o[:n] for o in flat(true)]) < TOL
    assert off(gen(**others), true) < 1e-6   # and recording leaves nothing behind

@pytest.mark.once
@pytest.mark.parametrize('kind', [o for o in (*kinds, *critics) if o != 'codes'])   # `photos` reads them and paints with them
@torch.no_grad()
def test_onnx(kind, tmp_path):
    "Today's exporter with its defaults"
    pytest.importorskip('onnx', reason='needs the package onnx')
    pytest.importorskip('onnxscript', reason='needs the package onnxscript')
    runtime = pytest.importorskip('onnxruntime', reason='needs the package onnxruntime')
    gen, args, shapes, others, true = prepared(kind, False)
    torch.onnx.export(gen, (), tmp_path/'gen.onnx', kwargs=args, dynamic_shapes=shapes, verbose=False)
    session = runtime.InferenceSession(tmp_path/'gen.onnx', providers=['CPUExecutionProvider'])
    assert [o.name for o in session.get_inputs()] == list(args)
    for n in (5, 1):
        made = session.run(None, {k: v.numpy() for k, v in first(n, others).items()})
        assert off([torch.from_numpy(o) for o in made], [o[:n] for o in flat(true)]) < TOL

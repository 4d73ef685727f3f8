"""Generators in other people's runtimes: `torch.export` and ONNX give the pictures that we give, for any number of maps."""
import pytest, torch

from test_patterns import lively, rel, voronoi
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
    photos=(lambda: SEANGenerator(5, 2, 6, 4, 2), lambda B: dict(segmap=maps(B)[0], codes=fixed(B, 3, 32, 64))))

def prepared(kind, painter):
    "Generator, three maps to record it with, shapes that say that any number will do, and five others with their picture"
    make, inputs = kinds[kind]
    torch.manual_seed(0)
    gen = lively(make()).eval()
    if painter: gen = gen.for_inference()
    args, others = inputs(3), inputs(5)
    with torch.no_grad(): true = gen(**others)
    return gen, args, {k: {0: torch.export.Dim('B', min=1, max=64)} for k in args}, others, true

@pytest.mark.parametrize('painter', [False, True])
@pytest.mark.parametrize('kind', kinds)
@torch.no_grad()
def test_torch_export(kind, painter):
    gen, args, shapes, others, true = prepared(kind, painter)
    program = torch.export.export(gen, (), args, dynamic_shapes=shapes).module()
    assert rel(program(**others), true) < TOL and rel(program(**{k: v[:1] for k, v in others.items()}), true[:1]) < TOL
    assert rel(gen(**others), true) < 1e-6   # and recording leaves nothing behind

@pytest.mark.parametrize('kind', kinds)
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
        out, = session.run(None, {k: v[:n].numpy() for k, v in others.items()})
        assert rel(torch.from_numpy(out), true[:n]) < TOL

"SEAN's generator against the loops of the paper, for `bench.py --what sean`: 19 classes, codes given, and encoding on its own."
import os
from contextlib import contextmanager
from pathlib import Path
import numpy as np, torch
from PIL import Image
from gaugan_fastai import ace
from gaugan_fastai.ace import SEAN
from gaugan_fastai.core import resize_nearest
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.fast.choice import ways
from gaugan_fastai.models.sean import SEANGenerator
from gaugan_fastai.sean import region_means

def style_map_loop(layer, ids, codes):
    "The style map as the paper says it: each region of each image filled with its own vector"
    painted = codes.new_zeros(len(ids), layer.style_dim, *ids.shape[1:])
    for b, segmap in enumerate(ids):
        for k in range(layer.n_classes):
            here = segmap == k
            if here.any(): painted[b, :, here] = getattr(layer, f'fc_mu{k}')(codes[b, k]).relu()[:, None]
    return painted

def region_means_loop(features, segmap, n_classes):
    "Region-wise average pooling as the paper says it"
    ids, res = resize_nearest(segmap, features.shape[-2:]), features.new_zeros(len(segmap), n_classes, features.shape[1])
    for b in range(len(ids)):
        for k in range(n_classes):
            here = ids[b] == k
            if here.any(): res[b, k] = features[b][:, here].mean(1)
    return res

@contextmanager
def loops():
    "Style maps by loops and dense convolutions"
    before, ace.style_map = ace.style_map, style_map_loop
    try:
        with ways(exact=False): yield
    finally: ace.style_map = before

def voronoi(seed, size, n_classes=19, cells=40):
    g = np.random.default_rng(seed)
    at, own = g.random((cells, 2))*size, g.integers(0, n_classes, cells)
    y, x = np.mgrid[:size, :size]
    return own[((y[..., None] - at[:, 0])**2 + (x[..., None] - at[:, 1])**2).argmin(-1)]

def maps(size):
    "(name, segmap) of landscapes, Voronoi cells and, where there is the data, streets with their ids modulo 19"
    for i in (3, 5): yield f'landscape {i}', draw_landscape(i, size).segmap
    yield 'voronoi', voronoi(0, size)
    folder = Path(os.environ.get('GAUGAN_SHARED', Path(__file__).resolve().parents[2]/'shared'))/'data'/'camvid'
    for fn in sorted(folder.glob('**/labels/*.png'))[::300][:2]:
        yield f'street {fn.stem}', np.array(Image.open(fn).resize((size, size), 0)).astype(np.int64) % 19

def noise_of(gen, batch, size):
    g, sizes = torch.Generator().manual_seed(0), []
    h = size//gen.factor
    for block, double in gen.stages():
        h *= 1 + double
        sizes += [h]*len(block)
    return [torch.randn(batch, o, o, 1, generator=g) for o in sizes]

@torch.no_grad()
def sean(a, say, race, summary):
    "Forward and encoding, ours against the loops"
    torch.manual_seed(0)
    gen = SEANGenerator(19, a.ngf).eval()
    for m in gen.modules():
        if isinstance(m, SEAN): m.noise_var.normal_(0, .1)
    fast, codes = gen.for_inference(), torch.rand(a.batch, 19, 512)*2 - 1
    ratios, noise = [], noise_of(gen, a.batch, a.size)
    def ours(seg, new_map=True, new_codes=True):
        if new_map: fast.memory.maps = None
        if new_codes: fast.memory.codes = None
        return fast(seg, codes, noise)
    for name, ids in list(maps(a.size))[::a.every]:
        seg = torch.as_tensor(ids).long()[None].repeat(a.batch, 1, 1)
        def dense():
            with loops(): return gen(seg, codes, noise)
        error = ((ours(seg) - (want := dense())).abs().max()/want.abs().max()).item()
        times = race(a.repeat, dense=dense, ours=lambda: ours(seg), new_codes=lambda: ours(seg, new_map=False), new_map=lambda: ours(seg, new_codes=False),
            same=lambda: ours(seg, False, False))
        ratios.append(times['dense']/times['ours'])
        say(what='sean', case=name, **{f'{k}_s': v for k, v in times.items()}, ratio=ratios[-1], ratio_new_codes=times['dense']/times['new_codes'],
            ratio_new_map=times['dense']/times['new_map'], error=float(f'{error:.1e}'), classes=len(np.unique(ids)))
    summary('sean', ratios, batch=a.batch)
    encoding(a, say, race, gen, fast, seg)

def encoding(a, say, race, gen, fast, seg):
    "Reading the codes off a photo: the convolutions are the same, the pooling differs"
    photo, feats = torch.rand(a.batch, 3, a.size, a.size)*2 - 1, torch.rand(a.batch, 512, a.size//2, a.size//2)
    dense = lambda: region_means_loop(gen.Zencoder.model(photo), seg, 19)
    whole = dict(dense=dense, ours=lambda: fast.encode(photo, seg))
    pooling = dict(dense=lambda: region_means_loop(feats, seg, 19), ours=lambda: region_means(feats, seg, 19))
    for name, fs in dict(encode=whole, pooling=pooling).items():
        gap = (fs['dense']() - fs['ours']()).abs().max().item()
        times = race(a.repeat, **fs)
        say(what=f'sean: {name}', **{f'{k}_s': v for k, v in times.items()}, ratio=times['dense']/times['ours'], error=float(f'{gap:.1e}'))

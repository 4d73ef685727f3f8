#!/usr/bin/env python
"""Train the network that reads pictures back into label maps, for mIoU and pixel accuracy.

    OMP_NUM_THREADS=1 python tools/train_segmenter.py ../shared/data/camvid runs/segmenter_camvid_96x128 \\
        --size 96 128 --train train val --valid test
    OMP_NUM_THREADS=1 python tools/train_segmenter.py landscapes runs/segmenter_landscapes --size 128 128 --epochs 5

Writes segmenter.safetensors and segmenter.json (with its scores on the photos of --valid, the ceiling for painted
pictures) into the second folder. The default takes a few minutes of one core for 468 pairs at 96x128. `landscapes` are
drawn scenes: --scenes of them from seed 10000 on to train, and to validate those that tools/score_landscapes.py scores.
It scores large pictures reduced to --size: with --drawn 256 256 the segmenter learns from such, reduced the same way.
"""
import argparse, json, sys, time
import torch
from torch.nn import functional as F
from gaugan_fastai.core import InputError, resize_map
from gaugan_fastai.data.landscapes import draw_landscape, landscape_labels
from gaugan_fastai.data.paired import Pair, PairedDataLoaders
from gaugan_fastai.segmenter import save_segmenter, train_segmenter

FIRST = 10000   # seed of the first drawn scene to train on

def reduced(scene, size):
    "A drawn scene as a pair of this size: as tools/score_landscapes.py reduces pictures and maps"
    segmap, photo, _ = scene
    if photo.shape[:2] == size: return Pair(segmap, photo)
    small = F.interpolate(torch.from_numpy(photo).permute(2, 0, 1)[None].float(), size, mode='bilinear', antialias=True)
    photo = small[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()
    return Pair(resize_map(torch.from_numpy(segmap)[None].long(), size)[0].numpy().astype(segmap.dtype), photo)

def loaders(a):
    "Of a folder, or of drawn scenes"
    how = dict(color=a.color, seed=a.seed)
    if a.data != 'landscapes':
        return PairedDataLoaders.from_folder(a.data, tuple(a.size), a.bs, train=a.train, valid=a.valid, **how)
    size = tuple(a.drawn or a.size)
    def drawn(first, n): return [reduced(draw_landscape(first + i, size), tuple(a.size)) for i in range(n)]
    a.train, a.valid = ([f'drawn scenes {i}..{i + n - 1}'] for i, n in ((FIRST, a.scenes), (0, a.n_valid)))
    pairs = drawn(FIRST, a.scenes), drawn(0, a.n_valid)
    return PairedDataLoaders.from_pairs(*pairs, landscape_labels(), tuple(a.size), a.bs, **how)

def main(argv=None):
    "Train, save and report; 0, or 1 after one sentence on stderr for unusable input"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('data', help='folder with {train,val,...}/{images,labels} and codes.txt, or landscapes')
    p.add_argument('out', help='folder for the weights')
    p.add_argument('--size', type=int, nargs=2, default=(96, 128), metavar=('H', 'W'), help='of the pictures to score')
    p.add_argument('--train', nargs='+', default=['train'], help='parts to train on')
    p.add_argument('--valid', nargs='+', default=['val'], help='parts whose photos give the ceiling')
    p.add_argument('--bs', type=int, default=8, help='batch size')
    p.add_argument('--epochs', type=int, default=8, help='epochs after the first one, in which the encoder is frozen')
    p.add_argument('--lr', type=float, default=1e-2, help='highest learning rate')
    p.add_argument('--scale', type=float, default=1, help='enlarge the pictures before reading')
    p.add_argument('--power', type=float, default=.5, help='class weights are frequency to the minus power')
    p.add_argument('--color', type=float, default=.2, help='strength of colour changes in training')
    p.add_argument('--seed', type=int, default=0)
    p.add_argument('--scenes', type=int, default=400, help='drawn landscapes to train on')
    p.add_argument('--drawn', type=int, nargs=2, metavar=('H', 'W'), help='draw landscapes at this size first')
    p.add_argument('--n-valid', type=int, default=200, help='drawn landscapes to validate on')
    a = p.parse_args(argv)
    try:
        dls = loaders(a)
        start,cpu = time.time(),time.process_time()
        segmenter = train_segmenter(dls, a.epochs, a.lr, a.seed, a.scale, a.power)
    except InputError as e:
        print(e, file=sys.stderr)
        return 1
    segmenter.card.update(train=a.train, valid=a.valid)
    if a.drawn: segmenter.card.update(drawn=a.drawn)
    save_segmenter(segmenter, a.out)
    print(json.dumps(segmenter.card, indent=1))
    print(f'{time.time()-start:.0f} s, {time.process_time()-cpu:.0f} s of CPU time; written to {a.out}')
    return 0

if __name__ == '__main__': sys.exit(main())

#!/usr/bin/env python
"""Give a saved SEAN its usual codes: the mean style of each class over drawn scenes such as it was trained on.

    OMP_NUM_THREADS=1 python tools/usual_codes.py data/weights/landscapes_sean
    python tools/usual_codes.py data/weights/landscapes_sean --show       say which classes have a usual code, and stop

The weights stay as they are, bit for bit.
"""
import argparse, sys
from pathlib import Path
import numpy as np, torch
from safetensors.torch import load_file
from gaugan_fastai.core import InputError
from gaugan_fastai.models.sean import mean_codes
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from train_sean import mixed_scene

KEY = 'extra.usual'   # where `save_pretrained` writes what a SEAN's `extra_state()` gives
BY_ITSELF = 'format', 'version', 'model', 'config', 'n_parameters', 'labels', 'encoder', 'sha256'   # of the card

def batches(n, size, bs=16):
    "(segmap, photo) of the training's scenes, from seed 1000 on"
    for i in range(0, n, bs):
        maps, photos = zip(*(mixed_scene(1000 + j, size) for j in range(i, min(i + bs, n))))
        yield torch.from_numpy(np.stack(maps)).long(), torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)/127.5 - 1

def weights(folder): return load_file(folder/'model.safetensors')

def add_codes(folder, n, size):
    "Write the model of `folder` anew with usual codes beside its weights, in the weights' own precision"
    gen, before = from_pretrained(folder), weights(folder)
    gen.usual = mean_codes(gen, batches(n, size))
    half = any(v.dtype == torch.float16 for v in before.values())
    save_pretrained(gen, folder, half=half, **{k: v for k, v in gen.card.items() if k not in BY_ITSELF})
    after = weights(folder)
    same = all(torch.equal(v, after[k]) for k, v in before.items() if k != KEY)
    if not same: raise InputError(f'{folder}: the weights changed, take them from git')
    if KEY not in after: raise InputError('this version of save_pretrained writes no usual codes: nothing was added')

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, help='what save_pretrained wrote')
    p.add_argument('--n', type=int, default=512, help='scenes')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--show', action='store_true', help='say which classes have a usual code, and stop')
    a = p.parse_args(argv)
    if not a.show: add_codes(a.folder, a.n, a.size)
    names, codes = from_pretrained(a.folder).labels.codes, weights(a.folder).get(KEY)
    has = [] if codes is None else [o for o, code in zip(names, codes) if code.any()]
    print(f'{a.folder}: {len(has)} of {len(names)} classes have a usual code' + f' ({", ".join(has)})'*bool(has))
    return 0

if __name__ == '__main__':
    try: sys.exit(main())
    except InputError as e: sys.exit(print(e, file=sys.stderr) or 1)

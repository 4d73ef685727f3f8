#!/usr/bin/env python
"""Give a saved SEAN its usual codes: the mean style of each class over drawn scenes such as it was trained on. The weights stay as they are, bit for bit.

    OMP_NUM_THREADS=1 python tools/usual_codes.py data/weights/landscapes_sean
    python tools/usual_codes.py data/weights/landscapes_sean --show          say which classes have a usual code, and stop
"""
import argparse, json, sys
from pathlib import Path
import numpy as np, torch
from safetensors.torch import load_file, save_file
from gaugan_fastai.core import InputError
from gaugan_fastai.models.sean import mean_codes
from gaugan_fastai.pretrained import from_pretrained
from gaugan_fastai.safe import write_whole
from train_sean import mixed_scene

KEY = 'extra.usual'   # as `save_pretrained` writes what a model's `extra_state()` gives

def batches(n, size, bs=16):
    "(segmap, photo) of the training's scenes, from seed 1000 on"
    for i in range(0, n, bs):
        maps, photos = zip(*(mixed_scene(1000 + j, size) for j in range(i, min(i + bs, n))))
        yield torch.from_numpy(np.stack(maps)).long(), torch.from_numpy(np.stack(photos)).permute(0, 3, 1, 2)/127.5 - 1

def add_codes(folder, n, size):
    "Write the weights of `folder` anew with usual codes beside them, in the weights' own precision"
    gen, file = from_pretrained(folder), Path(folder)/'model.safetensors'
    state, mode = load_file(file), file.stat().st_mode
    kind = next(v.dtype for v in state.values() if v.is_floating_point())
    state[KEY] = mean_codes(gen, batches(n, size)).to(kind)
    with write_whole(file) as part:
        save_file(state, part)
        part.chmod(mode)   # safetensors lets nobody else read its files
    return state[KEY]

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, help='what save_pretrained wrote')
    p.add_argument('--n', type=int, default=512, help='scenes')
    p.add_argument('--size', type=int, default=64)
    p.add_argument('--show', action='store_true', help='say which classes have a usual code, and stop')
    a = p.parse_args(argv)
    if not (a.folder/'model.json').is_file(): raise InputError(f'{a.folder} holds no model: give the folder that save_pretrained wrote')
    names = json.loads((a.folder/'model.json').read_text())['labels']['codes']
    codes = load_file(a.folder/'model.safetensors').get(KEY) if a.show else add_codes(a.folder, a.n, a.size)
    has = [] if codes is None else [o for o, code in zip(names, codes) if code.any()]
    print(f'{a.folder}: {len(has)} of {len(names)} classes have a usual code' + f' ({", ".join(has)})'*bool(has))
    return 0

if __name__ == '__main__':
    try: sys.exit(main())
    except InputError as e: sys.exit(print(e, file=sys.stderr) or 1)

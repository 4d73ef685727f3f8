#!/usr/bin/env python
"""Give saved weights of a painter of drawn landscapes the distribution of its styles: lessons 37 and 55.

    OMP_NUM_THREADS=1 python tools/style_prior.py data/weights/landscapes
    OMP_NUM_THREADS=1 python tools/style_prior.py data/weights/landscapes_sean

The styles are those of the photos of `--scenes` drawn scenes from seed 1000 on, where trainings begin: natural ones, in
which all classes have the light of one day, also for a SEAN that was trained on mixtures. They go into
prior.safetensors; the weights stay as they are, bit for bit. `tools/score_landscapes.py --write` scores them anew.
"""
import argparse
from pathlib import Path
import torch
from safetensors.torch import load_file
from gaugan_fastai.core import InputError
from gaugan_fastai.data.landscapes import draw_landscape
from gaugan_fastai.models.codes_prior import CodesPrior
from gaugan_fastai.prior import StylePrior, prior_class
from gaugan_fastai.pretrained import from_pretrained, save_pretrained
from usual_codes import BY_ITSELF

FIRST = 1000

def scenes(n, size):
    "(segmap `[1,H,W]`, photo `[1,3,H,W]`) of drawn scenes"
    for i in range(n):
        segmap, photo, _ = draw_landscape(FIRST + i, size)
        yield torch.from_numpy(segmap)[None].long(), torch.from_numpy(photo).permute(2, 0, 1)[None]/127.5 - 1

# how the styles of scenes are read
def of_photos(gen, pairs, n): return StylePrior.of(gen, [photo[0] for _, photo in pairs])
reads = {StylePrior: of_photos, CodesPrior: CodesPrior.of}

def add_prior(folder, n):
    "Write the model of a folder anew with a prior beside its weights, in the weights' own precision"
    gen, before = from_pretrained(folder), (folder/'model.safetensors').read_bytes()
    half = any(v.dtype == torch.float16 for v in load_file(folder/'model.safetensors').values())
    card = {k: v for k, v in gen.card.items() if k not in BY_ITSELF}
    pairs = scenes(n, gen.size or tuple(gen.card['size']))
    prior = reads[prior_class(gen)](gen, pairs, n)
    save_pretrained(gen, folder, half=half, prior=prior, **card)
    if before == (folder/'model.safetensors').read_bytes(): return prior
    raise InputError(f'{folder}: the weights changed, take them from git')

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folder', type=Path, help='what save_pretrained wrote')
    p.add_argument('--scenes', type=int, default=256, help='how many')
    a = p.parse_args(argv)
    print(f'{a.folder}: {add_prior(a.folder, a.scenes)}')

if __name__ == '__main__':
    try: main()
    except InputError as e: raise SystemExit(f'style_prior: {e}')

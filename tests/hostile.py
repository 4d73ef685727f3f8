"""Files that nobody should have to read, drawn from a seed."""
import io, struct, zlib
import numpy as np
from PIL import Image

def chunk(kind, body): return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))

def png(w, h, body=b'', depth=8, colour=0, more=b''):
    "A PNG whose header says what it likes"
    head = chunk(b'IHDR', struct.pack('>IIBBBBB', w, h, depth, colour, 0, 0, 0))
    return b'\x89PNG\r\n\x1a\n' + head + more + chunk(b'IDAT', zlib.compress(body, 9)) + chunk(b'IEND', b'')

def _saved(im, kind, **how):
    im.save(file := io.BytesIO(), kind, **how)
    return file.getvalue()

def _picture(rng, mode='RGB', side=None):
    h, w = rng.integers(1, 90, 2) if side is None else (side, side)
    im = Image.fromarray(rng.integers(0, 256, (h, w, 3)).astype(np.uint8))
    return im.convert(mode)

def _bomb(rng):
    side = int(rng.choice([5000, 20_000, 60_000, 2**31 - 1]))
    return png(side, int(rng.choice([1, side])), bytes(2_000_000))

def _text_bomb(rng): return png(64, 64, bytes(65*64), more=chunk(b'zTXt', b'k\0\0' + zlib.compress(bytes(20_000_000), 9))*3)
def _profile_bomb(rng): return png(64, 64, bytes(65*64), more=chunk(b'iCCP', b'k\0\0' + zlib.compress(bytes(50_000_000), 9)))
def _noise(rng): return rng.bytes(int(rng.integers(0, 4000)))
def _magic(rng):
    starts = b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff\xe0', b'GIF89a', b'BM', b'II*\0', b'MM\0*', b'RIFF\0\0\0\0WEBP', b'P5 ', b'\0\0\0 ftypavif', b'\0\0\0\x0cjP  '
    return starts[rng.integers(len(starts))] + rng.bytes(int(rng.integers(0, 2000)))
def _depth(rng): return png(64, 64, bytes(64*64*9), int(rng.choice([1, 2, 4, 16, 3, 0])), int(rng.choice([0, 2, 3, 4, 6, 7])))
def _short(rng): return png(64, 64, bytes(int(rng.integers(0, 64*65))))
def _long(rng): return png(64, 64, bytes(5_000_000))
def _ids(rng): return _saved(Image.fromarray(rng.integers(0, 256, (64, 64)).astype(np.uint8)), 'PNG')
def _film(rng): 
    side = int(rng.integers(2, 90))
    return _saved(_picture(rng, side=side), str(rng.choice(['GIF', 'PNG', 'WEBP', 'TIFF'])), save_all=True, append_images=[_picture(rng, side=side)]*3)
def _thin(rng): return _saved(Image.new('L', (1, 11_000)), 'PNG')
def _deep(rng): return _saved(Image.fromarray(rng.integers(0, 2**16, (64, 64)).astype(np.uint16)), str(rng.choice(['PNG', 'TIFF'])))
def _floats(rng): return _saved(Image.fromarray(rng.normal(size=(64, 64)).astype(np.float32)), 'TIFF')
def _mode(rng):
    mode, kind = [('CMYK', 'JPEG'), ('CMYK', 'TIFF'), ('LA', 'PNG'), ('RGBA', 'WEBP'), ('P', 'GIF'), ('1', 'BMP'), ('YCbCr', 'JPEG'), ('LAB', 'TIFF')][rng.integers(8)]
    return _saved(_picture(rng, 'RGB').convert(mode) if mode != 'LAB' else Image.new('LAB', (9, 9)), kind)
def _words(rng): return [b'<svg xmlns="http://www.w3.org/2000/svg"/>', b'<script>alert(1)</script>', b'%!PS-Adobe-3.0 EPSF', b'%PDF-1.7', b'#define x_width 9',
    b'PK\x03\x04', b'../../etc/passwd', b'{"a": 1}', b'\0'*3000, b'P5 99999999 99999999 255\n', b'P1\n' + b'1 '*900][rng.integers(11)]
def _turned(rng):
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 300))
    return _saved(_picture(rng), 'JPEG', exif=exif)

def _flipped(rng):
    "A true file in which some bytes are others, in places their checksums mended"
    data = bytearray(_saved(_picture(rng), str(rng.choice(['PNG', 'JPEG', 'GIF', 'BMP', 'WEBP', 'TIFF', 'PPM']))))
    for _ in range(int(rng.integers(1, 30))): data[rng.integers(len(data))] = rng.integers(256)
    return bytes(data)

def _cut(rng):
    data = _saved(_picture(rng, side=64), str(rng.choice(['PNG', 'JPEG', 'GIF', 'BMP', 'WEBP', 'TIFF'])))
    return data[:int(rng.integers(1, len(data)))]

def _loop(rng):
    "A TIFF whose list of pictures bites its tail"
    data = bytearray(_saved(_picture(rng), 'TIFF'))
    first, = struct.unpack_from('<I', data, 4)
    n, = struct.unpack_from('<H', data, first)
    struct.pack_into('<I', data, first + 2 + 12*n, first)
    return bytes(data)

KINDS = dict(bomb=_bomb, text_bomb=_text_bomb, profile_bomb=_profile_bomb, noise=_noise, magic=_magic, depth=_depth, short=_short, long=_long,
    ids=_ids, film=_film, thin=_thin, deep=_deep, floats=_floats, mode=_mode, words=_words, turned=_turned, flipped=_flipped, cut=_cut, loop=_loop)

def hostile_files(n, seed=0):
    "(kind, bytes) of `n` files, each kind in turn"
    for i in range(n):
        kind = list(KINDS)[i % len(KINDS)]
        yield kind, KINDS[kind](np.random.default_rng([seed, i]))

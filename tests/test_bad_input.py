"""What a user gets for input that cannot work: one sentence with file, value and cure. The table in docs/bad_input.md is made here.

Write it anew after a change of messages: GAUGAN_WRITE_TABLES=1 pytest tests/test_bad_input.py"""
import copy, os, pickle, re, struct, zlib
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
from conftest import ROOT
from gaugan_fastai.basics import Words, arg, either, printable, typed
from gaugan_fastai.core import InputError, LabelSpace
from gaugan_fastai.data import layouts
from gaugan_fastai.data.paired import PairedDataLoaders

TABLE = ROOT/'docs/bad_input.md'
CODES = 'sky road car'.split()
COLOURS = np.array([(120,180,230), (90,90,100), (200,50,50)], np.uint8)
cases = {}
RULES = """
## What is read, and how

Loader, doctor, `predict` and `gaugan generate` open pictures through the same functions (`gaugan_fastai.files`), so what one accepts all accept.

- **Formats**: PNG, JPEG (`.jpg .jpeg .jfif`), BMP, TIFF, GIF, WebP, PPM/PGM/PBM, JPEG 2000 (`.jp2`), AVIF. Label and instance maps must be lossless: no JPEG,
  JPEG 2000, AVIF or lossy WebP, and no TIFF with JPEG inside; a lossless WebP holds colours, so it can be decoded by palette.
- **Rotation tags** (EXIF) are obeyed everywhere: a picture is what a viewer shows, whether it is a photo, a label map or an instance map, and its size is that of the upright picture.
- **Numbers** of a label map: grey of 8, 16 or 32 bits is the id. Grey of 1, 2 or 4 bits may mean the sample (3) or what a viewer shows (51 of 255):
  the reading whose values are all classes is taken, and the file is refused if both are. A palette of greys that differ from their indices is treated alike.
  Refused: floats, inverted TIFF and PBM, PGM whose largest value is neither 255 nor 65535, colours of 16 bits, several frames or pages.
- **Alpha**: an alpha channel that hides nothing is left out (grey and colours). Maps and photos with transparent pixels are refused; a transparent colour (tRNS) in a map changes no number.
- **Palettes** (`decode='index'`): all files must agree on the colour of every index that occurs, and with `palette.txt` or `palette=` if there is one.
- **Photos** become 8-bit RGB: from grey, palette, CMYK, YCbCr, HSV, LAB (where Pillow can), and colours of 16 bits (the upper half is kept). Grey of more than 8 bits is refused, since nobody says
  which number is white. Colour profiles (ICC) are not applied. Of a double file from a telephone (MPO) the first picture is taken.
- **Arrays** hold library ids: any integers or bools; floats are refused, whole numbers or not.
- **Names**: composed and decomposed accents are the same name; capitals are not, and the message says what lies there. Files that begin with a dot and folders of other programs
  (`.ipynb_checkpoints`, `@eaDir`, `__MACOSX`, `#recycle`, `$RECYCLE.BIN`, `lost+found`) are passed over. What cannot be printed in a name is written as its number.
- **codes.txt** is UTF-8 (with or without a mark at its start, any line ends), one name a line, line n for id n-1. No comments, since a skipped line would shift all ids after it; blank lines only at the end.
  Names must differ by more than capitals and accents. **palette.txt**: three integers 0 to 255 a line, nothing else.
- **Read-only data** is fine: nothing is written beside it, and a learner's files go to the current folder.
"""

def case(name, *parts):
    "Register a function that spoils a folder, or raises, under what is wrong; `parts` must be in the message"
    def register(f):
        assert name not in cases
        cases[name] = f,parts
        return f
    return register

def ids(i=0, size=32):
    "A label map of all three classes"
    seg = np.zeros((size,size), np.uint8)
    seg[size//2:] = 1
    seg[-size//4:, i+2:i+9] = 2
    return seg

def data(folder):
    "A small data set in which everything is right: 4 + 2 pairs of 32x32"
    for part,n in (('train',4), ('val',2)):
        for sub in ('images','labels','instances'): (folder/part/sub).mkdir(parents=True)
        for i in range(n):
            Image.fromarray(COLOURS[ids(i)]).save(folder/part/f'images/{i}.jpg')
            for sub in ('labels','instances'): Image.fromarray(ids(i)).save(folder/part/sub/f'{i}.png')
    (folder/'codes.txt').write_text('\n'.join(CODES) + '\n')
    return folder

def load(folder, size=32, bs=2, **kwargs): return PairedDataLoaders.from_folder(folder, size=size, bs=bs, **kwargs)

def put(folder, arr, name='train/labels/1.png', mode=None, **kwargs):
    "Overwrite one file of the data set by a picture of `arr`"
    Image.fromarray(arr).convert(mode).save(folder/name, **kwargs) if mode else Image.fromarray(arr).save(folder/name, **kwargs)

def indexed(fn, index, palette):
    "Save a palette picture"
    im = Image.fromarray(index.astype(np.uint8))
    im.putpalette(np.asarray(palette, np.uint8).tobytes())
    im.save(fn)

def small_png(samples, bits):
    "The bytes of a grey PNG of 1, 2 or 4 bits, which Pillow reads and cannot write"
    rows = [''.join(f'{v:0{bits}b}' for v in row) for row in samples.tolist()]
    rows = b''.join(b'\0' + bytes(int(r[i:i+8].ljust(8, '0'), 2) for i in range(0, len(r), 8)) for r in rows)
    def chunk(name, data): return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    head = struct.pack('>IIBBBBB', samples.shape[1], len(samples), bits, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')

def cut(fn, share=.5): fn.write_bytes(fn.read_bytes()[:int(len(fn.read_bytes())*share)])

# -- label maps that are none ------------------------------------------------------------------------------------

@case('label map: an id that has no name', '1.png holds id 34', 'there are 3 classes', 'codes.txt')
def _(d): put(d, np.where(ids()==2, 34, ids()).astype(np.uint8))

@case('label map: 255 for unlabelled, void not declared', '1.png holds id 255', 'pass void=255')
def _(d): put(d, np.where(ids()==2, 255, ids()).astype(np.uint8))

@case('label map: a mask of 0 and 255', '1.png holds id 255', 'decode={0: NAME, 255: NAME}')
def _(d): put(d, (ids()==2).astype(np.uint8)*255)

@case('label map: ids from 1', '1.png holds id 3', 'subtract 1')
def _(d): put(d, ids()+1)

@case('label map: an RGB picture', '1.png is a colour picture', '(120, 180, 230)', "decode='palette'")
def _(d): put(d, COLOURS[ids()])

@case('label map: an RGB picture with transparency', '1.png is a colour picture (mode RGBA', 'one grey id a pixel')
def _(d): put(d, COLOURS[ids()], mode='RGBA')

@case('label map: a palette PNG', '1.png is a palette PNG', "decode='index'")
def _(d):
    im = Image.fromarray(ids())
    im.putpalette(COLOURS.tobytes())
    im.save(d/'train/labels/1.png')

@case('label map: 16 bits, an id too large', '1.png holds id 1000', 'there are 3 classes')
def _(d): put(d, np.where(ids()==2, 1000, ids().astype(np.uint16)))

@case('label map: 8 bits stretched to 16', '1.png holds id 257', 'divide them by 257')
def _(d): put(d, ids().astype(np.uint16)*257)

@case('label map: a JPEG', '1.jpg is a JPEG', 'save label maps as PNG')
def _(d):
    (d/'train/labels/1.png').unlink()
    put(d, ids(), 'train/labels/1.jpg')

@case('label map: a JPEG that is called PNG', '1.png is a JPEG', 'save label maps as PNG')
def _(d): put(d, ids(), format='JPEG')

@case('label map: file cut off', 'label map DATA/train/labels/1.png cannot be decoded', 'replace it')
def _(d): cut(d/'train/labels/1.png', .7)

@case('label map: no picture at all', 'label map DATA/train/labels/1.png cannot be decoded', 'replace it')
def _(d): (d/'train/labels/1.png').write_text('not found')

@case('label map: colour that is not in the palette', '1.png holds colour (121, 180, 230)', 'nearest: sky')
def _(d):
    for part,n in (('train',4), ('val',2)):
        for i in range(n): put(d, COLOURS[ids(i)], f'{part}/labels/{i}.png')
    put(d, COLOURS[ids()] + np.uint8([1,0,0])*(ids()==0)[...,None])
    load(d, decode='palette', palette=COLOURS)

@case('label map: to be painted, path wrong', 'DATA/gone.png does not exist', 'check the path')
def _(d): load(d).test_dl([d/'gone.png']).one_batch()

@case('label map: a bit of the PNG flipped', '1.png cannot be decoded', 'replace it')
def _(d):
    fn = d/'train/labels/1.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (32,32), dtype=np.uint8)).save(fn)
    data = bytearray(fn.read_bytes())
    data[data.index(b'IDAT') + 6] ^= 1
    fn.write_bytes(data)

@case('label map: another palette than the others, read by index', '1.png has another palette', "decode='palette'")
def _(d):
    for part,n in (('train',4), ('val',2)):
        for i in range(n): indexed(d/f'{part}/labels/{i}.png', ids(i), COLOURS)
    indexed(d/'train/labels/1.png', np.array([1,0,2], np.uint8)[ids()], COLOURS[[1,0,2]])
    load(d, decode='index')

@case('label map: another palette than palette.txt, read by index', '0.png has another palette than the known one', 'palette.txt')
def _(d):
    (d/'palette.txt').write_text('1 2 3\n4 5 6\n7 8 9\n')
    for fn in d.glob('*/labels/*.png'): indexed(fn, ids(), COLOURS)
    load(d, decode='index')

@case('label map: a palette of greys, as PNG optimisers make it', '1.png is a palette PNG of greys', 'grey PNG')
def _(d): indexed(d/'train/labels/1.png', ids(), np.repeat([[0],[2],[1]], 3, 1))

@case('label map: a palette of greys, read by index', '1.png has two readings, its 1 may mean 1 or 2', 'grey PNG')
def _(d):
    indexed(d/'train/labels/1.png', ids(), np.repeat([[0],[2],[1]], 3, 1))
    load(d, decode='index')

@case('label map: 4 bits, two readings', '1.png has two readings, its 1 may mean 1 or 17', '8 bits')
def _(d):
    (d/'codes.txt').write_text('\n'.join(f'class {i}' for i in range(40)))
    (d/'train/labels/1.png').write_bytes(small_png(ids(), 4))

@case('label map: a TIFF that stores white as 0', 'stores white as 0', 'save label maps as PNG')
def _(d):
    (d/'train/labels/1.png').unlink()
    put(d, ids(), 'train/labels/1.tif', tiffinfo={262: 0})

@case('label map: a TIFF with JPEG inside', 'is a TIFF with jpeg inside', 'compression changes ids')
def _(d):
    (d/'train/labels/1.png').unlink()
    put(d, ids(), 'train/labels/1.tif', compression='jpeg')

@case('label map: a TIFF of floats', '1.tif holds floats (mode F)', 'whole numbers')
def _(d):
    (d/'train/labels/1.png').unlink()
    put(d, ids().astype(np.float32), 'train/labels/1.tif')

@case('label map: a PGM whose largest value is 7', '1.pgm has 7 as largest value', 'stretch')
def _(d):
    (d/'train/labels/1.png').unlink()
    (d/'train/labels/1.pgm').write_bytes(b'P5 32 32 7\n' + ids().tobytes())

@case('label map: a WebP', '1.webp is a WEBP', 'save label maps as PNG')
def _(d):
    (d/'train/labels/1.png').unlink()
    put(d, ids(), 'train/labels/1.webp')

@case('label map: many pages', '1.png holds several pictures', 'save the one that counts')
def _(d):
    page = Image.fromarray(ids())
    page.save(d/'train/labels/1.png', save_all=True, append_images=[page.rotate(90)])

@case('label map: grey, half transparent', '1.png has transparent pixels', 'alpha')
def _(d): Image.merge('LA', [Image.fromarray(ids()), Image.fromarray(ids()*100)]).save(d/'train/labels/1.png')

@case('label map: colours, partly transparent', '1.png has transparent pixels', 'alpha')
def _(d):
    for fn in d.glob('*/labels/*.png'): Image.fromarray(COLOURS[ids()]).save(fn)
    im = Image.open(d/'train/labels/1.png')
    im.putalpha(Image.fromarray(ids()*100))
    im.save(d/'train/labels/1.png')
    load(d, decode='palette', palette=COLOURS)

@case('label map: a link to nowhere', '1.png is a link to a file that does not exist', 'mend the link')
def _(d):
    (d/'train/labels/1.png').unlink()
    (d/'train/labels/1.png').symlink_to(d/'gone.png')

@case('label map: an empty file', '1.png cannot be decoded, it is empty', 'replace it')
def _(d): (d/'train/labels/1.png').write_bytes(b'')

@case('label map: a folder with the name of a picture', 'holds a folder of pictures, 9.png', 'into one folder')
def _(d): (d/'train/labels/9.png').mkdir()

# -- photos and partners -----------------------------------------------------------------------------------------

@case('photo: file cut off', 'photo DATA/train/images/1.jpg cannot be decoded', 'replace it')
def _(d): cut(d/'train/images/1.jpg', .6)

@case('photo: 16 bits', 'photo DATA/train/images/1.png has mode I;16', '8-bit RGB')
def _(d):
    (d/'train/images/1.jpg').unlink()
    put(d, ids().astype(np.uint16), 'train/images/1.png')

@case('photo: transparent', 'photo DATA/train/images/1.png has transparent pixels', 'background')
def _(d):
    (d/'train/images/1.jpg').unlink()
    im = Image.fromarray(COLOURS[ids()])
    im.putalpha(Image.fromarray(ids()*100))
    im.save(d/'train/images/1.png')

@case('photo: a film', '1.gif holds several pictures (frames or pages), 2', 'save the one that counts')
def _(d):
    (d/'train/images/1.jpg').unlink()
    im = Image.fromarray(COLOURS[ids()])
    im.save(d/'train/images/1.gif', save_all=True, append_images=[im.rotate(90)])

@case('photo: too large', 'photo DATA/train/images/1.jpg has more than 2,200 pixels', 'scale it down')
def _(d):
    with pytest.MonkeyPatch().context() as m:
        m.setattr(Image, 'MAX_IMAGE_PIXELS', 1100)
        put(d, COLOURS[ids(size=64)], 'train/images/1.jpg')
        load(d)

@case('photo: turned by its tag, the label map is not', 'photo DATA/train/images/1.jpg is 24x32', 'turned by its EXIF tag')
def _(d):
    exif = Image.Exif()
    exif[274] = 6
    put(d, ids()[:24], 'train/labels/1.png')
    put(d, COLOURS[ids()[:24]], 'train/images/1.jpg', exif=exif)

@case('photo: name with a line break', '/train/images/1\\n2.jpg has no label map')
def _(d): (d/'train/images/1.jpg').rename(d/'train/images/1\n2.jpg')

@case('photo and label map differ in size', '1.png is 32x32', '1.jpg is 64x64', 'resize or crop')
def _(d): put(d, COLOURS[ids(size=64)], 'train/images/1.jpg')

@case('photo without a label map', '1.jpg has no label map', '1 of 4')
def _(d): (d/'train/labels/1.png').unlink()

@case('label map without a photo', '1.png has no photo', '1 of 4')
def _(d): (d/'train/images/1.jpg').unlink()

@case('label map with other capitals', 'a.jpg has no label map', 'but A.png lies there', 'same name')
def _(d):
    (d/'train/images/1.jpg').rename(d/'train/images/a.jpg')
    (d/'train/labels/1.png').rename(d/'train/labels/A.png')

@case('label map that is no picture', '1.jpg has no label map', 'but 1.npy lies there', 'as PNG')
def _(d):
    (d/'train/labels/1.png').unlink()
    np.save(d/'train/labels/1.npy', ids())

@case('two photos of one stem', '1.jpg and 1.png have the same stem', 'keep one')
def _(d): put(d, COLOURS[ids()], 'train/images/1.png')

@case('instance map missing', '1.jpg has no instance map')
def _(d):
    (d/'train/instances/1.png').unlink()
    load(d, edges=True)

@case('instance map of another size', 'instance map DATA/train/instances/1.png is 16x16')
def _(d):
    put(d, ids(size=16), 'train/instances/1.png')
    load(d, edges=True)

# -- folders -----------------------------------------------------------------------------------------------------

@case('data folder missing', 'data folder DATA/nowhere does not exist')
def _(d): load(d/'nowhere')

@case('data folder is a file', 'data folder DATA/codes.txt is a file')
def _(d): load(d/'codes.txt')

@case('folder of pictures in a folder', 'image folder DATA/train/images holds a folder of pictures, city', 'into one folder')
def _(d):
    (d/'train/images/city').mkdir()
    (d/'train/images/1.jpg').rename(d/'train/images/city/1.jpg')

@case('folder of a part missing', 'image folder DATA/test/images does not exist')
def _(d): load(d, valid='test')

@case('folder without pictures', 'label folder DATA/val/labels holds no pictures', 'put them there')
def _(d):
    for o in (d/'val/labels').iterdir(): o.unlink()
    (d/'val/labels/readme.txt').write_text('to do')

@case('CamVid: no network', 'CamVid cannot be downloaded', 'pass its folder as path=')
def _(d):
    def offline(*args): raise OSError('no route to host')
    patch = pytest.MonkeyPatch()
    with patch.context() as m:
        m.setattr(layouts, 'untar_data', offline)
        PairedDataLoaders.from_camvid()

@case('CamVid: no list of the validation photos', 'valid.txt is missing', 'one name a line')
def _(d): PairedDataLoaders.from_camvid(d/'train')

# -- names and colours -------------------------------------------------------------------------------------------

@case('codes.txt missing', 'DATA/codes.txt is missing', 'one class name a line')
def _(d): (d/'codes.txt').unlink()

@case('codes.txt empty', 'codes.txt: codes is empty')
def _(d): (d/'codes.txt').write_text('')

@case('codes.txt with a blank line between', 'no name at line 2')
def _(d): (d/'codes.txt').write_text('sky\n\ncar\n')

@case('codes.txt with a name twice', "'car' twice")
def _(d): (d/'codes.txt').write_text('sky\ncar\ncar\n')

@case('codes.txt is no text', 'codes.txt is no UTF-8 text')
def _(d): (d/'codes.txt').write_bytes(bytes(range(128,256)))

@case('codes.txt with a comment', 'codes holds a comment at line 1', 'take it out')
def _(d): (d/'codes.txt').write_text('# my classes\nsky\nroad\ncar\n')

@case('codes.txt with numbers and tabs', 'codes holds a tab', "'0\\tsky'", 'one name a line')
def _(d): (d/'codes.txt').write_text('0\tsky\n1\troad\n2\tcar\n')

@case('codes.txt with a name in two spellings', "'Car' and 'car'", 'must differ by more than capitals')
def _(d): (d/'codes.txt').write_text('sky\nCar\ncar\n')

@case('palette.txt with a comment', 'palette.txt is no palette, line 1', 'three integers')
def _(d): (d/'palette.txt').write_text('# r g b\n1 2 3\n4 5 6\n7 8 9\n')

@case('palette.txt is no palette', 'palette.txt is no palette')
def _(d): (d/'palette.txt').write_text('blue\ngrey\nred\n')

@case('two classes that may be void', "['void', 'other'] may all mean void")
def _(d): (d/'codes.txt').write_text('void\nroad\nother\n')

@case('void: no such class', "void='nothing' is not one of the codes")
def _(d): load(d, void='nothing')

@case('palette of the wrong length', 'palette has shape (2, 3)', '(3, 3)')
def _(d): load(d, palette=COLOURS[:2])

@case('palette of floats', 'palette holds float64', '0..255')
def _(d): load(d, palette=COLOURS/255)

@case('palette with one colour twice, to be decoded', "stands for 'sky' and 'road'")
def _(d): load(d, palette=COLOURS[[0,0,2]], decode='palette')

@case('colours to be decoded without a palette', "decode='palette' needs palette=")
def _(d): load(d, decode='palette')

@case('decode: no such way', "decode='rgb' is unknown", "'palette'")
def _(d): load(d, decode='rgb')

@case('decode: no such class', "decode names 'cow'")
def _(d): load(d, decode={0: 'sky', 255: 'cow'})

# -- options -----------------------------------------------------------------------------------------------------

@case('size: no number', "size='big' is no picture size", '(H, W)')
def _(d): load(d, size='big')

@case('size: three numbers', 'size=(3, 32, 32) is no picture size')
def _(d): load(d, size=(3,32,32))

@case('size: zero', 'size=0 is no picture size')
def _(d): load(d, size=0)

@case('load: smaller than size', 'load=16 is smaller than size=32')
def _(d): load(d, load=16)

@case('bs: more than there are pairs', 'bs=5 is more than the 4 training pairs', 'lower bs')
def _(d): load(d, bs=5)

@case('bs: zero', 'bs=0 is no batch size')
def _(d): load(d, bs=0)

@case('flip: no probability', 'flip=50 is outside 0..1')
def _(d): load(d, flip=50)

# -- arrays and tensors ------------------------------------------------------------------------------------------

@case('array: an id that has no name', 'segmap holds id 3', 'ids are 0..2')
def _(d): load(d).test_dl([ids()+1]).one_batch()

@case('array: floats', 'holds float64', 'ids are integers')
def _(d): LabelSpace(CODES).check(ids()/255)

@case('array: a colour picture', 'shape (1, 32, 32, 3)', 'without channels')
def _(d): LabelSpace(CODES).check(COLOURS[ids()][None])

@case('tensor: a negative id', 'segmap holds id -1')
def _(d): LabelSpace(CODES).check(torch.tensor([[0,-1]]))

@case('array: a photo of floats', 'photo is float64', 'uint8 [H,W,3]')
def _(d): PairedDataLoaders.from_pairs([(ids(),COLOURS[ids()]/255)], [(ids(),COLOURS[ids()])], LabelSpace(CODES), size=32, bs=1)

# ----------------------------------------------------------------------------------------------------------------

def error(name, folder):
    "What is raised by the case `name`, or by loading what it left behind"
    folder.mkdir()
    data(folder)
    with pytest.raises(InputError) as e:
        cases[name][0](folder)
        load(folder)
    return e.value

def message(name, folder):
    "Its sentence, in which the folder is called DATA"
    return str(error(name, folder)).replace(str(folder), 'DATA')

@pytest.mark.parametrize('name', cases)
def test_bad_input_is_named(name, tmp_path):
    e = error(name, tmp_path/'d')
    said = str(e).replace(str(tmp_path/'d'), 'DATA')
    assert [o for o in cases[name][1] if o not in said] == [], said
    assert '\n' not in said and len(said) < 340
    options = re.findall(r'\b(void|decode|palette|bs|flip|color|size|load|edges|path)=', e.cure or '')
    assert not options or e.option in options, 'the cure names an argument, so `option` should too'

def test_good_input_is_taken(tmp_path):
    folder = tmp_path/'d'
    folder.mkdir()
    dls = load(data(folder), edges=True)
    assert [tuple(o.shape) for o in dls.one_batch()] == [(2,32,32), (2,32,32), (2,3,32,32)]

def test_table_is_what_the_messages_say(tmp_path):
    rows = [f'| {name} | {message(name, tmp_path/str(i))} |' for i,name in enumerate(cases)]
    text = '\n'.join(['# Bad input, and what is said about it', '',
        f'{len(rows)} kinds of unusable input. `PairedDataLoaders`, `LabelSpace` and the command line answer each with one sentence:',
        'the file, the value, the cure. DATA stands for the folder of the data. The table is made by `tests/test_bad_input.py`',
        '(`GAUGAN_WRITE_TABLES=1 pytest tests/test_bad_input.py` writes it anew).',
        RULES, '## What is said', '', '| what is wrong | message |', '|---|---|', *rows]) + '\n'
    if os.environ.get('GAUGAN_WRITE_TABLES') == '1': TABLE.write_text(text, encoding='utf-8')
    assert TABLE.read_text(encoding='utf-8') == text, 'messages changed: run it with GAUGAN_WRITE_TABLES=1'

# -- the error itself ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize('args,what,cure,words', [
    (('a.png is green', 'paint it blue'), 'a.png is green', 'paint it blue', 'a.png is green: paint it blue'),
    (('a: b is green', 'paint: blue'), 'a: b is green', 'paint: blue', 'a: b is green: paint: blue'),
    (('a.png is green: paint it: blue',), 'a.png is green', 'paint it: blue', 'a.png is green: paint it: blue'),
    (('no cure is known',), 'no cure is known', None, 'no cure is known'),
    (('line\nbreak', 'mend it'), 'line\nbreak', 'mend it', 'line\\nbreak: mend it')])
def test_an_error_keeps_its_parts(args, what, cure, words):
    e = InputError(*args)
    assert (e.what, e.cure, e.option, e.fact, e.file, str(e)) == (what, cure, None, what, None, words)

def test_an_error_travels_with_its_parts():
    e = InputError('a.png is green', 'paint it blue', 'palette', fact='it is green', file=Path('a.png'))
    e.values = [1, 2]
    for o in (pickle.loads(pickle.dumps(e)), copy.copy(e), copy.deepcopy(e)):
        assert type(o) is InputError and str(o) == str(e) == 'a.png is green: paint it blue' and o.args == e.args
        assert (o.what, o.cure, o.option, o.fact, o.file, o.values) == (
            'a.png is green', 'paint it blue', 'palette', 'it is green', Path('a.png'), [1, 2])
    with pytest.raises(InputError) as caught:
        try: int('x')
        except ValueError as cause: raise e from cause
    assert caught.value is e and isinstance(e.__cause__, ValueError)

@pytest.mark.parametrize('said,code,option', [(arg('style_map'), 'style_map', '--style-map'), (arg('void', None), 'void=None', '--void none'),
    (arg('edges', True), 'edges=True', '--edges'), (arg('bs', 0), 'bs=0', '--bs 0'), (arg('family', 'sean'), "family='sean'", '--family sean'),
    (arg('size', (64, 96)), 'size=(64, 96)', '--size 64x96'), (arg('style', word='PHOTO'), 'style=PHOTO', '--style PHOTO'),
    (either('palette=', 'write palette.txt'), 'palette=', 'write palette.txt')], ids=lambda o: None)
def test_an_argument_is_named_for_both(said, code, option):
    e = InputError(f'a.png, {said}', f'leave {said} out')
    assert str(e) == f'a.png, {code}: leave {code} out' and e.typed == typed(e) == f'a.png, {option}: leave {option} out'
    assert (e.what, e.what.typed, e.fact.typed) == (f'a.png, {code}', f'a.png, {option}', f'a.png, {option}')
    for o in (pickle.loads(pickle.dumps(e)), InputError(e.what, e.cure), InputError(e.what.both, e.cure.both)): assert o.typed == e.typed
    assert Words(said) == code and typed(Words(said)) == option and repr(e.args) == repr((str(e),))

def test_what_is_quoted_is_no_argument():
    for name in ('void=9.png', 'leave style out', 'line\nbreak', '\ue000a\ue002'):
        e = InputError(f'{name} is green', f'leave {arg("void")} out')
        assert e.typed == f'{printable(name)} is green: leave --void out' and str(e) == e.typed.replace('--', '')

class _GreenData(torch.utils.data.Dataset):
    def __len__(self): return 2
    def __getitem__(self, i): raise InputError('a.png is green', f'paint it, or pass {arg("void", 9)}', 'void')

def test_an_error_in_a_process_that_loads_is_one_sentence():
    with pytest.raises(InputError) as caught: list(torch.utils.data.DataLoader(_GreenData(), num_workers=1))
    e = caught.value
    assert (str(e), e.what, e.cure) == ('a.png is green: paint it, or pass void=9', 'a.png is green', 'paint it, or pass void=9')
    assert e.typed == 'a.png is green: paint it, or pass --void 9'

def test_options_are_named(tmp_path):
    fn = tmp_path/'a.png'
    for values, option in (([0, 255], 'decode'), ([0, 1, 255], 'void'), ([1, 2, 3], 'codes'), ([0, 257*2], None), ([0, 9], 'decode')):
        Image.fromarray(np.array([values], np.uint16)).save(fn)
        with pytest.raises(InputError) as caught: LabelSpace(['a', 'b', 'c'], void=None).read(fn)
        assert caught.value.option == option, caught.value
    with pytest.raises(InputError) as caught: LabelSpace(['void', 'other'])
    assert caught.value.option == 'void'

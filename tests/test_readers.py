"One reader for each kind of picture: numbers come out as they were written, and loader, doctor and painter agree about every file"
import contextlib, io, os, pickle, shutil, socket, struct, tempfile, unicodedata, zlib
from pathlib import Path
import numpy as np, pytest, torch
from PIL import Image
import test_bad_input as bad
from test_bad_input import CODES, COLOURS, data, ids, indexed, load, put, small_png
from gaugan_fastai.core import InputError, LabelSpace, PILInstances, PILSegmap, resize_map, say
from gaugan_fastai.data.doctor import examine, tell
from gaugan_fastai.data.layouts import Pair, check_pair, open_photo
from gaugan_fastai.data.paired import PairedDataLoaders
from gaugan_fastai.data.transforms import PairedResize
from gaugan_fastai.files import open_image, picture_size, pictures_in, partner_of, read_instances

TURNS = {1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}
SEG = np.zeros((12,20), np.uint8)
SEG[6:],SEG[9:,2:9],SEG[2:4,15:] = 1,2,1

def tagged(turn):
    exif = Image.Exif()
    exif[274] = turn
    return dict(exif=exif)

def upright(a, turn): return np.asarray(Image.fromarray(a) if turn==1 else Image.fromarray(a).transpose(TURNS[turn]))

def other_photos(folder):
    "Validation photos that are none of the training's, as the doctor wants it"
    for fn in (folder/'val/images').iterdir(): Image.open(fn).point(lambda v: v//2).save(fn)
    return folder

@pytest.fixture
def good(tmp_path):
    (tmp_path/'d').mkdir()
    return other_photos(data(tmp_path/'d'))

def problems(folder, **kwargs): return examine(folder, **kwargs).problems

# -- which way is up ---------------------------------------------------------------------------------------------

LOSSLESS = {'png': {}, 'tif': {}, 'lzw.tif': dict(compression='tiff_lzw'), 'webp': dict(lossless=True)}

@pytest.mark.parametrize('turn', TURNS)
@pytest.mark.parametrize('ext', LOSSLESS)
def test_one_rule_for_rotation_tags(ext, turn, tmp_path):
    fn,want = tmp_path/f'a.{ext}',upright(SEG, turn)
    by_colour = ext == 'webp'
    Image.fromarray(COLOURS[SEG] if by_colour else SEG).save(fn, **LOSSLESS[ext], **tagged(turn))
    labels = LabelSpace(CODES, palette=COLOURS, decode='palette') if by_colour else LabelSpace(CODES)
    assert np.array_equal(labels.read(fn), want) and picture_size(fn) == want.shape
    assert np.array_equal(np.array(PILSegmap.create(fn, labels)), want) and np.array_equal(labels.read(Image.open(fn)), want)
    inst = read_instances(fn)
    assert np.array_equal(inst == inst[0,0], want == want[0,0])
    assert np.array_equal(np.asarray(open_photo(fn)), upright(COLOURS[SEG] if by_colour else np.stack([SEG]*3, -1), turn))

@pytest.mark.parametrize('turn', TURNS)
def test_sizes_of_turned_photos(turn, tmp_path):
    for ext in ('jpg','webp'):
        Image.fromarray(COLOURS[SEG]).save(tmp_path/f'p.{ext}', **tagged(turn))
        want = upright(SEG, turn).shape
        assert picture_size(tmp_path/f'p.{ext}') == want == open_photo(tmp_path/f'p.{ext}').size[::-1]

def test_a_turned_pair_is_a_pair(good):
    for fn in [*good.glob('*/images/*'), *good.glob('*/*s/*.png')]: Image.open(fn).save(fn, **tagged(6), **dict(quality=95) if fn.suffix=='.jpg' else {})
    segs,edges,photos = load(good, edges=True).valid.one_batch()
    far = (photos - torch.tensor(COLOURS//2/127.5 - 1).float()[segs.long()].permute(0,3,1,2)).abs().mean()
    assert np.array_equal(segs[0].numpy(), np.rot90(ids(0), -1)) and far < .08
    assert problems(good) == {}

def test_doctor_notes_a_tag_that_the_map_has_not(good):
    fn = good/'train/images/1.jpg'
    Image.open(fn).save(fn, **tagged(3))
    notes = examine(good).notes
    assert [o for o in notes if 'turned by its EXIF tag' in o[0]] and notes[[o for o in notes if 'EXIF' in o[0]][0]] == [fn]

# -- numbers -----------------------------------------------------------------------------------------------------

def interlaced(a):
    "The bytes of an 8-bit grey PNG in Adam7's seven passes"
    rows = b''.join(b'\0' + row.tobytes() for y,x,dy,dx in ((0,0,8,8),(0,4,8,8),(4,0,8,4),(0,2,4,4),(2,0,4,2),(0,1,2,2),(1,0,2,1))
        for row in np.ascontiguousarray(a[y::dy, x::dx]) if row.size)
    def chunk(name, data): return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    head = struct.pack('>IIBBBBB', a.shape[1], len(a), 8, 0, 0, 0, 1)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')

def saved(im, fn, **kwargs): im.save(fn, **kwargs)

EXACT = dict(
    interlaced=('a.png', lambda fn: fn.write_bytes(interlaced(SEG))),
    two_bits=('a.png', lambda fn: fn.write_bytes(small_png(SEG, 2))),
    four_bits=('a.png', lambda fn: fn.write_bytes(small_png(SEG, 4))),
    sixteen_bits=('a.png', lambda fn: saved(Image.fromarray(SEG.astype(np.uint16)), fn)),
    tiff16=('a.tif', lambda fn: saved(Image.fromarray(SEG.astype(np.uint16)), fn)),
    tiff32=('a.tif', lambda fn: saved(Image.fromarray(SEG.astype(np.int32)), fn, compression='tiff_lzw')),
    big_endian=('a.tif', lambda fn: saved(Image.fromarray(SEG.astype('>u2')), fn)),
    bmp=('a.bmp', lambda fn: saved(Image.fromarray(SEG), fn)),
    pgm=('a.pgm', lambda fn: saved(Image.fromarray(SEG), fn)),
    opaque=('a.png', lambda fn: saved(Image.merge('LA', [Image.fromarray(SEG), Image.new('L', (20,12), 255)]), fn)),
    trns=('a.png', lambda fn: saved(Image.fromarray(SEG), fn, transparency=0)),
    capitals=('a.PNG', lambda fn: saved(Image.fromarray(SEG), fn, format='PNG')))

@pytest.mark.parametrize('kind', EXACT)
def test_ids_come_out_as_they_were_written(kind, tmp_path):
    "By reader, type, loader and doctor alike"
    for part in ('train','val'):
        for sub in ('images','labels'): (tmp_path/part/sub).mkdir(parents=True)
        Image.fromarray(COLOURS[SEG]//(1 + (part=='val'))).save(tmp_path/part/'images/a.png')
        EXACT[kind][1](tmp_path/part/'labels'/EXACT[kind][0])
    (tmp_path/'codes.txt').write_text('\n'.join(CODES))
    fn,labels = tmp_path/'train/labels'/EXACT[kind][0],LabelSpace(CODES)
    assert np.array_equal(labels.read(fn), SEG) and np.array_equal(np.array(PILSegmap.create(fn, labels)), SEG)
    assert np.array_equal(labels.read(Image.open(fn)), SEG) and np.array_equal(np.array(PILInstances.create(fn)), SEG)
    dls = PairedDataLoaders.from_folder(tmp_path, size=SEG.shape, bs=1)
    for b in (dls.valid.one_batch(), dls.test_dl([fn]).one_batch()): assert np.array_equal(b[0][0].numpy(), SEG)
    assert problems(tmp_path) == {}

@pytest.mark.parametrize('bits', [1,2,4])
def test_few_bits_are_read_where_one_reading_fits_and_refused_where_two_do(bits, tmp_path):
    fn,top = tmp_path/'a.png',2**bits - 1
    samples = np.array([[0,1,top]])
    fn.write_bytes(small_png(samples, bits))
    step = {1:255, 2:85, 4:17}[bits]
    assert LabelSpace([f'c{i}' for i in range(top+1)], void=None).read(fn).tolist() == samples.tolist()
    stretched = LabelSpace(['a','b','c'][:len(np.unique(samples))], decode={int(v)*step: i for i,v in enumerate(np.unique(samples))})
    assert stretched.read(fn).tolist() == [[0, 1, len(stretched.codes)-1]]
    with pytest.raises(InputError, match=f'its 1 may mean 1 or {step}'): LabelSpace([f'c{i}' for i in range(256)], void=None).read(fn)

def test_damaged_pngs_are_noticed(tmp_path):
    fn = tmp_path/'a.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 3, (12,20), dtype=np.uint8)).save(fn)
    whole = fn.read_bytes()
    for at in range(whole.index(b'IDAT'), len(whole) - 12):
        fn.write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at+1:])
        with pytest.raises(InputError, match='broken or cut off'): open_image(fn)

@pytest.mark.parametrize('kind', ['bool','int8','uint8','int16','uint16','int32','uint32','int64','uint64','float32','float64','complex64','object'])
def test_arrays_and_tensors_are_judged_alike(kind):
    ones,labels = np.eye(4).astype(kind),LabelSpace(CODES)
    whole = np.dtype(kind).kind in 'iub'
    for o in [ones] if kind=='object' else [ones, torch.from_numpy(ones)]:
        makers = (labels.check, lambda o: PILSegmap.create(o, labels), PILSegmap.create, PILInstances.create)
        for make in makers:
            if whole: assert np.array_equal(np.array(make(o)), np.eye(4))
            else:
                with pytest.raises(InputError, match='ids are integers'): make(o)

def test_numbers_of_instances_are_not_cut():
    for big in (2**31, -2**31 - 1):
        with pytest.raises(InputError, match='up to 31 bits'): PILInstances.create(np.array([[0,big]]))
    assert np.array(PILInstances.create(np.array([[0,2**31-1]]))).tolist() == [[0,2**31-1]]
    with pytest.raises(InputError, match='shape'): PILInstances.create(np.zeros((1,4,4), int))

# -- palettes ----------------------------------------------------------------------------------------------------

def by_index(folder):
    for fn in folder.glob('*/labels/*.png'): indexed(fn, np.asarray(Image.open(fn)), COLOURS)
    return folder

def test_palettes_that_agree_are_read_and_remembered(good, tmp_path):
    dls = load(by_index(good), decode='index')
    assert np.array_equal(dls.valid.one_batch()[0][0].numpy(), ids(0)) and np.array_equal(dls.palette, COLOURS)
    assert problems(good, decode='index') == {}
    indexed(tmp_path/'other.png', ids(), COLOURS[[1,0,2]])
    by_table = load(good, decode={0:'sky', 1:'road', 2:'car'})
    for o in (dls, by_table, pickle.loads(pickle.dumps(dls.new_empty()))):
        with pytest.raises(InputError, match='has another palette than the known one'): o.test_dl([tmp_path/'other.png']).one_batch()
    small = Image.fromarray(ids())
    small.putpalette(COLOURS.tobytes() + bytes(range(99)))
    small.save(tmp_path/'more.png')
    assert np.array_equal(dls.labels.read(tmp_path/'more.png'), ids())

@pytest.mark.parametrize('cache', [None, False])
def test_palettes_that_differ_are_refused_everywhere(good, cache):
    order = [1,0,2]
    indexed(by_index(good)/'val/labels/1.png', np.argsort(order)[ids(1)], COLOURS[order])
    with pytest.raises(InputError, match='1.png has another palette'): load(good, decode='index', cache=cache)
    with pytest.raises(InputError, match='1.png has another palette'): load(good, decode={0:'sky', 1:'road', 2:'car'}, cache=cache)
    for decode in (None, 'index', {0:'sky', 1:'road', 2:'car'}):
        found = problems(good, decode=decode)
        (what,cure),= [o for o in found if 'another palette' in o[0]]
        assert found[what,cure] == [good/'val/labels/1.png'] and "decode='palette'" in cure
    shutil.copy(good/'codes.txt', good/'palette.txt')
    (good/'palette.txt').write_text('\n'.join(' '.join(map(str, o)) for o in COLOURS))
    assert np.array_equal(load(good, decode='palette').valid.one_batch()[0][1].numpy(), ids(1)) and problems(good, decode='palette') == {}

# -- what lies in a folder ---------------------------------------------------------------------------------------

def test_folders_of_other_programs_are_passed_over(good):
    for o in ('.ipynb_checkpoints','.thumbnails','@eaDir','__MACOSX','#recycle','$RECYCLE.BIN'):
        for sub in ('train/images','train/labels','.'):
            (good/sub/o/'images').mkdir(parents=True)
            shutil.copy(good/'train/images/0.jpg', good/sub/o/'0.jpg')
            shutil.copy(good/'train/images/0.jpg', good/sub/o/'images/0.jpg')
    for o in ('._0.png','Thumbs.db','.DS_Store','notes.txt'): (good/'train/labels'/o).write_bytes(b'x')
    assert len(load(good).train_ds) == 4 and set(pictures_in(good/'train/labels')) == set('0123')
    report = examine(good)
    assert report.problems == {} and set(report.pairs) == {'train','val'}

FORMS = [('NFC','NFD'), ('NFD','NFC')]
@pytest.mark.parametrize('photo,label', FORMS)
def test_accents_written_in_two_ways_are_one_name(photo, label, good, tmp_path):
    name = 'café'
    for sub,form in (('images/0.jpg',photo), ('labels/0.png',label), ('instances/0.png',label)):
        fn = good/'train'/sub
        fn.rename(fn.with_stem(unicodedata.normalize(form, name)))
    assert len(load(good, edges=True).train_ds) == 4 and problems(good) == {}
    found = pictures_in(good/'train/instances', 'instance')
    assert partner_of(f'x/{unicodedata.normalize(photo, name)}.png', found, 'instance map', good).is_file()
    shutil.copy(good/'train/images/1.jpg', good/'train/images'/f'{unicodedata.normalize(label, name)}.jpg')
    with pytest.raises(InputError, match='have the same stem'): load(good)
    assert [o for o in problems(good) if 'same stem' in o[0]]

def test_names_that_cannot_be_printed(good):
    names = ['a\nb', 'a\x1b[2Jb', os.fsdecode(b'a\xff'), 'a\u202eb']
    for i,name in enumerate(names): (good/f'train/labels/{i}.png').rename(good/f'train/labels/{name}.png')
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
    with contextlib.redirect_stdout(ascii_only): assert tell(examine(good)) == 1
    ascii_only.seek(0)
    said = ascii_only.read()
    assert all(c.isprintable() or c=='\n' for c in said) and '\\udcff.png' in said or 'a\\n' in said
    for name in names:
        (good/'train/labels'/f'{name}.png').write_bytes(b'x')
        with pytest.raises(InputError) as e: LabelSpace(CODES).read(good/'train/labels'/f'{name}.png')
        assert str(e.value).isprintable() and 'cannot be decoded' in str(e.value)
        say(e.value, file=ascii_only)

def test_a_socket_is_no_picture(good, tmp_path, monkeypatch):
    monkeypatch.chdir(good/'train/labels')
    (good/'train/labels/1.png').unlink()
    with socket.socket(socket.AF_UNIX) as s:
        s.bind('1.png')
        with pytest.raises(InputError, match='1.png is no file but a socket'): load(good)
        assert [o for o in problems(good) if 'is no file but a socket' in o[0]]

@contextlib.contextmanager
def nobody():
    "As a user without rights, where we are root"
    was = os.geteuid()
    if was == 0: os.seteuid(65534)
    try: yield
    finally: os.seteuid(was)

def test_files_that_may_not_be_read(tmp_path_factory):
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        folder = data(Path(d)/'d') if (Path(d)/'d').mkdir() is None else None
        os.chmod(folder/'train/labels/1.png', 0)
        with nobody():
            with pytest.raises(InputError, match='1.png may not be read'): load(folder)
            assert [o for o in problems(folder) if 'may not be read' in o[0]]
        os.chmod(folder/'train/labels/1.png', 0o644)
        os.chmod(folder/'codes.txt', 0)
        with nobody(), pytest.raises(InputError, match='codes.txt cannot be read'): load(folder)

def test_data_on_a_read_only_disk(tmp_path):
    with tempfile.TemporaryDirectory() as d:
        os.chmod(d, 0o755)
        (Path(d)/'d').mkdir()
        folder = data(Path(d)/'d')
        other_photos(folder)
        assert load(folder).path == folder
        for o in (folder, *folder.rglob('*')): o.chmod(0o555 if o.is_dir() else 0o444)
        before = {o: o.stat().st_mtime_ns for o in folder.rglob('*')}
        with nobody():
            assert load(folder).path == Path('.') and problems(folder) == {}
        assert before == {o: o.stat().st_mtime_ns for o in folder.rglob('*')}
        for o in (folder, *folder.rglob('*')): o.chmod(0o755 if o.is_dir() else 0o644)

def test_a_loading_process_tells_one_sentence(good):
    (good/'train/images/1.jpg').write_bytes((good/'train/images/1.jpg').read_bytes()[:-20])
    dls = load(good, cache=False, num_workers=1)
    with pytest.raises(InputError) as e: list(dls.train)
    assert str(e.value) == f'photo {good}/train/images/1.jpg cannot be decoded, it is broken or cut off: replace it'

# -- names of classes --------------------------------------------------------------------------------------------

@pytest.mark.parametrize('text', ['sky\nroad\ncar', '\ufeffsky\nroad\ncar\n', 'sky\r\nroad\r\ncar\r\n\r\n', ' sky \n\troad\ncar\n\n\n', 'sky\rroad\rcar'], ids=repr)
def test_marks_and_line_ends_make_no_difference(text, tmp_path):
    (tmp_path/'codes.txt').write_bytes(text.encode())
    (tmp_path/'palette.txt').write_bytes('\ufeff1 2 3\r\n4\t5 6\r\n 7 8 9\r\n\r\n'.encode())
    labels = LabelSpace.from_file(tmp_path/'codes.txt')
    assert labels.codes == CODES and labels.palette.tolist() == [[1,2,3], [4,5,6], [7,8,9]]

@pytest.mark.parametrize('file,text,says', [('codes.txt','sky\nsky\n',"codes holds 'sky' twice"), ('codes.txt','# c\nsky\n','codes holds a comment at line 1'),
    ('palette.txt','blue\n','palette.txt is no palette'), ('codes.txt',None,'codes.txt is missing')])
def test_doctor_gives_reason_and_cure_of_codes(file, text, says, good):
    if text is None: (good/file).unlink()
    else: (good/file).write_text(text)
    found = [(what,cure) for (what,cure),where in problems(good).items() if where == [good/'codes.txt']]
    assert len(found) == 1 and found[0][0].startswith(says) and found[0][1] and not [o for o in ('holds','missing') if o in found[0][1]]

# -- the same nearest --------------------------------------------------------------------------------------------

def test_resize_map_is_what_the_data_set_does():
    rng = np.random.default_rng(0)
    for i in range(300):
        h,w,H,W = rng.integers(1, 400, 4).tolist() if i<200 else (*rng.integers(1, 30, 2).tolist(), *rng.integers(1, 400, 2).tolist())
        seg = rng.integers(0, 256, (h,w))
        want = np.array(PairedResize((H,W), load=(H,W))(PILSegmap.create(seg)), dtype=np.int64)
        assert torch.equal(resize_map(torch.from_numpy(seg), (H,W)), torch.from_numpy(want)), (h,w,H,W)
    many = torch.from_numpy(rng.integers(0, 70000, (2,3,20,30)))
    assert resize_map(many.int(), 7).dtype == torch.int64 and torch.equal(resize_map(many, (20,30)), many)
    assert torch.equal(resize_map(many, (11,13))[1,2], resize_map(many[1,2], (11,13)))

# -- loader and doctor -------------------------------------------------------------------------------------------

def spoilt(name, folder):
    "Apply a case of test_bad_input; False if it is about an option, an array, or a thing that the doctor does not look at"
    try: bad.cases[name][0](folder)
    except (InputError, FileNotFoundError): return False
    return True

@pytest.mark.parametrize('name', [o for o in bad.cases if not o.startswith(('array','tensor','size','load','bs','flip','CamVid'))])
def test_loader_and_doctor_agree(name, good):
    if not spoilt(name, good): return
    with pytest.raises(InputError) as e: load(good)
    found = problems(good)
    assert found
    fact = getattr(e.value, 'fact', None)
    if fact: assert [o for o in found if o[0] == fact or fact.split(' id ')[0].split(' in size')[0] in o[0]], (fact, list(found))

# -- photos ------------------------------------------------------------------------------------------------------

def rgb16(a):
    "The bytes of a PNG of 16 bits a channel"
    rows = b''.join(b'\0' + row.astype('>u2').tobytes() for row in a)
    def chunk(name, data): return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))
    head = struct.pack('>IIBBBBB', a.shape[1], len(a), 16, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + chunk(b'IDAT', zlib.compress(rows)) + chunk(b'IEND', b'')

def test_colours_of_16_bits_are_a_photo_and_no_map(tmp_path):
    fn = tmp_path/'a.png'
    fn.write_bytes(rgb16(COLOURS[SEG].astype(int)*256 + 77))
    assert np.array_equal(np.asarray(open_photo(fn)), COLOURS[SEG])
    with pytest.raises(InputError, match='16 bits a channel'): LabelSpace(CODES, palette=COLOURS, decode='palette').read(fn)

def test_the_first_picture_of_a_double_file_is_the_photo(tmp_path):
    one,two = Image.fromarray(COLOURS[SEG]),Image.fromarray(255 - COLOURS[SEG])
    one.save(tmp_path/'a.jpg', format='MPO', save_all=True, append_images=[two], quality=95)
    assert Image.open(tmp_path/'a.jpg').n_frames == 2
    assert abs(np.asarray(open_photo(tmp_path/'a.jpg')).astype(int) - COLOURS[SEG]).mean() < 16 and picture_size(tmp_path/'a.jpg') == SEG.shape

@pytest.mark.parametrize('ext', ['jpg','jp2','avif','webp','jfif'])
def test_lossy_formats_are_photos_and_no_maps(ext, tmp_path):
    fn = tmp_path/f'a.{ext}'
    try: Image.fromarray(np.full((16,16,3), 90, np.uint8)).save(fn)
    except (OSError, KeyError, ValueError): pytest.skip(f'this Pillow writes no {ext}')
    assert abs(np.asarray(open_photo(fn)).astype(int) - 90).max() < 4 and set(pictures_in(tmp_path)) == {'a'}
    for make in (LabelSpace(CODES, palette=COLOURS, decode='palette').read, LabelSpace(CODES).read, PILSegmap.create, PILInstances.create):
        with pytest.raises(InputError, match='compression changes ids'): make(fn)

def test_cmyk_and_lab_photos(tmp_path):
    grey = np.full((8,8,3), 128, np.uint8)
    Image.fromarray(grey).convert('CMYK').save(tmp_path/'a.tif')
    assert abs(np.asarray(open_photo(tmp_path/'a.tif')).astype(int) - 128).max() < 3
    Image.merge('LAB', [Image.new('L', (8,8), v) for v in (137,128,128)]).save(tmp_path/'b.tif')
    try: found = np.asarray(open_photo(tmp_path/'b.tif')).astype(int)
    except InputError as e: assert 'has mode LAB' in str(e)                # an older Pillow cannot turn it into RGB
    else: assert abs(found - 128).max() < 3
    with pytest.raises(InputError, match='mode CMYK'): LabelSpace(CODES, palette=COLOURS, decode='palette').read(tmp_path/'a.tif')

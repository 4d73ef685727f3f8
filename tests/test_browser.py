"""The painter's page in a real browser (Debian's chromium): a hand paints, and map and picture are looked at."""
import io, json, os, re
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from browsing import Hand, Server, chromium

@pytest.fixture(scope='module')
def browser():
    with chromium() as found: yield found

@pytest.fixture(scope='module')
def server(browser):
    res = Server()
    res.start()
    yield res
    res.stop()

@pytest.fixture
def hand(browser, server):
    context = browser.new_context(viewport=dict(width=1100, height=700), accept_downloads=True)
    res = Hand(context.new_page(), server)
    yield res
    context.close()
    assert not res.errors

def photo(seed=0, size=96):
    "A file of a photo: smooth colours"
    small = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    return Image.fromarray(small).resize((size, size), Image.BICUBIC)

def as_file(image, name, **kw):
    out = io.BytesIO()
    image.save(out, name.rpartition('.')[2].replace('jpg', 'jpeg'), **kw)
    return dict(name=name, mimeType='image/png', buffer=out.getvalue())

def blank(hand, name='grass'):
    "An empty map"
    hand.choose(background=hand.js('painter.desk.names').index(name))
    hand.page.locator('#clear').click()
    return hand.settle()

def test_brush_paints_whole_ids_and_the_picture_changes_there(hand):
    blank(hand.open())
    before, empty = hand.picture, hand.map
    hand.cls('water')
    hand.choose(size=10)
    hand.drag((44, 44), (56, 56))
    after, painted = hand.settle().picture, hand.map
    water, grass = (hand.js('painter.desk.names').index(o) for o in ('water', 'grass'))
    assert set(np.unique(painted)) == {water, grass} and set(np.unique(empty)) == {grass}
    assert painted[50, 50] == water and painted[10, 10] == grass
    change = np.abs(after - before).mean(-1)
    near, far = change[painted == water].mean(), change[:24, :24].mean()
    assert near > 8 and near > 20*far, (near, far)

def test_what_the_canvas_shows_are_the_colours_of_the_classes_alone(hand):
    hand.open()
    code = """() => { const c = document.getElementById('map'), seen = new Set()
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data
        for (let i = 0; i < d.length; i += 4) seen.add(d[i] << 16 | d[i+1] << 8 | d[i+2])
        return [...seen].map(o => o.toString(16).padStart(6, '0')).sort() }"""
    hand.page.wait_for_timeout(100)
    colours = hand.js('painter.desk.classes.map(c => c.color.slice(1))')
    assert hand.js(code) == sorted({colours[i] for i in np.unique(hand.map)})

def test_fill_line_polygon_eraser_and_eyedropper(hand):
    blank(hand.open())
    names = hand.js('painter.desk.names')
    water, grass, rock = (names.index(o) for o in ('water', 'grass', 'rock'))
    hand.choose(size=1)
    hand.cls('rock')
    hand.key('l')
    hand.click(0, 30), hand.click(63, 30)                  # by two clicks
    assert (hand.map[30] == rock).all() and (hand.map == rock).sum() == 64
    hand.cls('water')
    hand.key('f')
    hand.click(5, 50)
    assert (hand.map[31:] == water).all() and (hand.map[:30] == grass).all()
    hand.key('p')
    for p in ((10, 5), (20, 5), (20, 15), (10, 15), (10, 5)): hand.click(*p)
    assert (hand.map[5:16, 10:21] == water).all() and (hand.map[:30] == water).sum() == 121
    hand.key('e')
    hand.click(15, 10)
    assert hand.map[10, 15] == grass and (hand.map[:30] == water).sum() == 120
    hand.key('i')
    hand.click(40, 30)
    assert hand.js('painter.desk.cls') == rock and hand.js('painter.desk.tool') == 'eraser'
    hand.key('l')
    hand.drag((0, 2), (63, 2))                            # by a drag
    assert (hand.map[2] == rock).all()

def test_every_stroke_is_one_step_of_undo_and_a_hundred_come_back(hand):
    blank(hand.open())
    hand.choose(size=3, cls=3)
    maps = [hand.map]
    for i, at in enumerate(hand.places([(i % 60 + 2, i//60*20 + 5) for i in range(110)])):
        hand.page.mouse.click(*at)
        if i % 10 == 9: maps.append(hand.map)
    for kept in maps[-2::-1]:
        hand.key(*['Control+z']*10)
        assert (hand.map == kept).all()
    hand.key(*['Control+Shift+z']*60, *['Control+y']*50)
    assert (hand.map == maps[-1]).all()
    hand.drag((5, 50), (50, 50), (50, 60), steps=10)
    hand.page.locator('#undo').click()
    assert (hand.map == maps[-1]).all()

def test_the_same_map_has_the_same_picture_again(hand):
    blank(hand.open())
    first = hand.picture
    hand.cls('water')
    hand.drag((10, 40), (60, 40))
    assert (hand.settle().picture != first).any()
    hand.key('Control+z')
    assert (hand.settle().picture == first).all()

def test_map_is_saved_and_opened_with_exact_ids(hand):
    hand.open()
    n = hand.js('painter.desk.classes.length')
    ids = np.random.default_rng(0).integers(0, n, (64, 64), np.uint8)
    hand.give('file', as_file(Image.fromarray(ids), 'ids.png'))
    hand.until(f'painter.desk.grid.ids.reduce((a, b) => a + b, 0) === {int(ids.sum())}')
    assert (hand.map == ids).all()
    saved = Image.open(io.BytesIO(hand.saved('save-map')))
    assert saved.mode == 'L' and (np.array(saved) == ids).all()

def test_png_of_every_value_and_filter_is_read_exactly(hand):
    hand.open()
    ids = np.random.default_rng(1).integers(0, 256, (37, 61), np.uint8)
    ids[:16, :16] = np.arange(256).reshape(16, 16)
    code = """async bytes => { const m = await import('/page/png.js')
        const a = await m.decode(new Blob([Uint8Array.from(bytes)])), b = await m.decode(await m.encode(a))
        return [a.w, a.h, a.same(b), [...a.ids]] }"""
    w, h, same, found = hand.js(code, list(as_file(Image.fromarray(ids), 'x.png')['buffer']))
    assert (w, h, same) == (61, 37, True) and (np.array(found, np.uint8).reshape(37, 61) == ids).all()

def test_style_photo_of_a_picture(hand):
    before = hand.open().picture
    hand.give('photo', as_file(photo(), 'evening.jpg'))
    hand.until("painter.desk.style !== null")
    assert np.abs(hand.settle().picture - before).mean() > 1
    hand.page.get_by_text('The model’s own').click()
    assert (hand.settle().picture == before).all()

def test_style_of_one_region_and_a_slider_between_two(hand):
    before, ids = hand.open('landscapes_sean').picture, hand.map
    hand.give('photo', as_file(photo(2, 128), 'red.png'))
    hand.page.locator('#map-mine').click()
    hand.until("painter.desk.style !== null")
    hand.page.get_by_text('The model’s own').click()
    assert (hand.settle().picture == before).all()
    hand.cls('water')
    hand.page.locator('#region-to').select_option(label='red')
    there = ids == hand.js('painter.desk.cls')
    changes = []
    for amount in (0, 50, 100):
        hand.page.locator('#region-amount').fill(str(amount))
        change = np.abs(hand.settle().picture - before).mean(-1)
        changes.append(change[there].mean())
    assert changes[0] == 0 and changes[1] > .5 and changes[2] > changes[1], changes
    assert change[there].mean() > 3*change[~there].mean()

@pytest.mark.parametrize('name, content, words', [
    ('notes.txt', b'no picture at all', ['no', 'picture|image|map']),
    ('cut.png', None, ['cut|damaged|read|map|picture']),
    ('mine.json', b'{"a": 1}', ['no project']), ('half.json', b'{"form": "gaug', ['not JSON'])])
def test_a_wrong_file_gives_a_sentence(hand, name, content, words):
    kept = hand.open().map
    content = content or as_file(photo(), 'x.png')['buffer'][:150]
    hand.give('file', dict(name=name, mimeType='image/png', buffer=content))
    hand.until("document.getElementById('trouble').textContent")
    said = hand.said('trouble')
    assert all(re.search(o, said) for o in words) and 'Traceback' not in said, said
    assert (hand.map == kept).all()

def test_a_project_comes_back_whole(hand, tmp_path):
    blank(hand.open())
    hand.give('photo', as_file(photo(), 'evening.jpg'))
    hand.until("painter.desk.style !== null")
    hand.cls('water')
    hand.drag((5, 40), (60, 40))
    hand.choose(seed=7)
    kept, picture = hand.map, hand.settle().picture
    project = hand.saved('save-project')
    assert json.loads(project)['map']['png'].startswith('data:image/png')
    hand.page.locator('#clear').click()
    hand.choose(seed=1, style=None)
    hand.give('file', dict(name='mine.json', mimeType='application/json', buffer=project))
    hand.until('painter.desk.seed === 7').settle()
    assert (hand.map == kept).all() and hand.js('painter.desk.seed') == 7
    assert (hand.settle().picture == picture).all()

def test_a_reload_keeps_strokes_seed_and_tool(hand):
    blank(hand.open())
    hand.cls('water')
    hand.drag((5, 40), (60, 45))
    hand.choose(seed=5, tool='fill', size=9)
    kept, picture = hand.map, hand.settle().picture
    hand.page.reload()
    hand.settle()
    assert (hand.map == kept).all() and (hand.picture == picture).all()
    assert hand.js('[painter.desk.seed, painter.desk.tool, painter.desk.size]') == [5, 'fill', 9]

def test_two_hundred_quick_strokes_lose_nothing(hand):
    blank(hand.open())
    want = np.full_like(hand.map, hand.js('painter.desk.background'))
    hand.choose(size=1)
    rng = np.random.default_rng(0)
    points = rng.integers(0, 64, (200, 2)).tolist()
    for i, ((x, y), at) in enumerate(zip(points, hand.places(points))):
        if i % 20 == 0: hand.choose(cls=i//20)
        hand.page.mouse.click(*at)
        want[y, x] = i//20
    assert (hand.map == want).all()
    last = hand.settle().picture
    assert hand.js('Number(document.body.dataset.shown) === painter.live.wanted')
    hand.choose(seed=1)
    hand.settle().choose(seed=0)
    assert (hand.settle().picture == last).all()

def test_the_server_may_go_and_come_back(hand, server):
    blank(hand.open())
    hand.give('photo', as_file(photo(), 'evening.jpg'))
    hand.until("painter.desk.style !== null").settle()
    server.stop()
    try:
        hand.cls('water')
        hand.drag((5, 40), (60, 40))
        hand.until("document.getElementById('trouble').textContent.includes('does not answer')")
        hand.drag((5, 20), (60, 20))
        kept = hand.map
    finally: server.start()
    hand.until("document.getElementById('trouble').textContent === ''")   # `say` soon tells of the next thing
    picture = hand.settle().picture
    assert (hand.map == kept).all() and (kept[20, 5:60] == kept[40, 5]).all() and not hand.said('trouble')
    hand.page.get_by_text('The model’s own').click()
    assert (hand.settle().picture != picture).any()       # it was painted in the style of the photo, given anew

def test_keys(hand):
    hand.open()
    for key, tool in dict(b='brush', e='eraser', f='fill', l='line', p='polygon', h='hand').items():
        hand.key(key)
        assert hand.js('painter.desk.tool') == tool
        assert hand.page.locator(f'input[name=tool][value={tool}]').is_checked()
    size = hand.js('painter.desk.size')
    hand.key(']')
    assert hand.js('painter.desk.size') > size
    hand.key('[', '[')
    assert hand.js('painter.desk.size') < size
    for n in range(1, 10):
        hand.key(str(n))
        assert hand.js('painter.desk.cls') == n - 1
    hand.page.locator('#search').fill('12')              # typing is no key
    assert hand.js('painter.desk.cls') == 8
    hand.page.locator('#map').focus()
    hand.key('?')
    assert hand.page.locator('#keys').is_visible()
    hand.key('Escape')
    assert not hand.page.locator('#keys').is_visible()

def test_the_keyboard_alone_paints(hand):
    blank(hand.open())
    hand.choose(size=1)
    hand.cls('water')
    hand.page.locator('#map').focus()
    hand.key('ArrowRight', 'Enter', 'ArrowRight', 'Shift+ArrowDown', 'Shift+Enter')
    ys, xs = np.nonzero(hand.map == hand.js('painter.desk.cls'))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (33, 32, 34, 40) and len(xs) == 9
    assert 'water' in hand.said() or 'grass' in hand.said()

def test_two_clicks_make_a_stroke_where_no_button_is_held(hand):
    blank(hand.open())
    hand.choose(size=1)
    hand.cls('water')
    hand.page.get_by_label('Click to begin').check()
    hand.click(10, 10), hand.click(30, 10)
    assert (hand.map[10, 10:31] == hand.js('painter.desk.cls')).all()
    hand.key('Control+z')
    assert not (hand.map == hand.js('painter.desk.cls')).any()

def test_another_model_keeps_what_it_can_paint(hand):
    hand.open()
    before = hand.map
    hand.page.locator('#model').select_option('landscapes_sean')
    hand.until("painter.desk.model.name === 'landscapes_sean'")
    assert (hand.settle().map == before.repeat(2, 0).repeat(2, 1)).all() and hand.picture.shape == (128, 128, 3)
    hand.key('Control+z')
    assert (hand.settle().map == before).all() and hand.js('painter.desk.model.name') == 'landscapes_style'
    code = """async () => { const m = await import('/page/raster.js'), g = new m.Grid(2, 1, Uint8Array.of(0, 1))
        const {grid, lost} = m.translated(g, ['Water', 'unicorn'], ['tree', 'water'], 0)
        return [[...grid.ids], lost] }"""
    assert hand.js(code) == [[1, 0], ['unicorn']]

def test_the_strip_brings_back_map_and_seed(hand):
    blank(hand.open())
    kept, picture = hand.map, hand.picture
    hand.cls('water')
    hand.drag((5, 40), (60, 40))
    hand.settle().choose(seed=9)
    hand.settle()
    for i in range(9): hand.settle().click(5 + 5*i, 10)
    hand.settle()
    items = hand.page.locator('#strip button')
    assert items.count() == 8
    hand.key(*['Control+z']*9)
    hand.settle().choose(seed=0)
    hand.settle().key('Control+z')
    assert (hand.settle().map == kept).all() and (hand.picture == picture).all()
    items.nth(1).click()
    assert (hand.settle().map != kept).any()

def test_zoom_paints_where_the_pointer_is(hand):
    blank(hand.open())
    hand.choose(size=1)
    hand.cls('water')
    hand.page.mouse.move(*hand.place(16, 16))
    hand.page.keyboard.down('Control')
    for _ in range(4): hand.page.mouse.wheel(0, -200)
    hand.page.keyboard.up('Control')
    hand.until('painter.view.zoom > 8')
    hand.page.mouse.click(*hand.place(16, 16))
    assert np.argwhere(hand.map == hand.js('painter.desk.cls')).tolist() == [[16, 16]]
    hand.key('0')
    assert hand.js('painter.view.zoom') == 1

def test_two_fingers_zoom_and_a_tap_of_two_undoes(browser, server):
    context = browser.new_context(viewport=dict(width=360, height=740), has_touch=True)
    hand = blank(Hand(context.new_page(), server).open())
    cdp = context.new_cdp_session(hand.page)
    def touch(kind, *points):
        at = [dict(x=x, y=y, id=i) for i, (x, y) in enumerate(hand.place(*p) for p in points)]
        cdp.send('Input.dispatchTouchEvent', dict(type=f'touch{kind}', touchPoints=at))
    hand.js('scrollTo(0, 0)')
    empty = hand.map
    hand.cls('water')
    touch('Start', (20, 20)), touch('Move', (40, 20)), touch('End')
    assert (hand.map != empty).any()
    touch('Start', (20, 40)), touch('Start', (20, 40), (40, 40)), touch('End')
    assert (hand.map == empty).all()
    touch('Start', (25, 40)), touch('Start', (25, 40), (35, 40)), touch('Move', (10, 40), (50, 40)), touch('End')
    assert hand.js('painter.view.zoom') > 2 and (hand.map == empty).all()
    context.close()

WINDOWS = dict(
    wide=(1400, 900, 'light'), dark=(1400, 900, 'dark'), narrow=(360, 740, 'light'),
    frame=(900, 640, 'light'), small=(320, 640, 'dark'))

@pytest.mark.parametrize('name', WINDOWS)
def test_page_fits_and_axe_finds_nothing_serious(browser, server, name, tmp_path):
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    w, h, scheme = WINDOWS[name]
    context = browser.new_context(viewport=dict(width=w, height=h), color_scheme=scheme)
    hand = Hand(context.new_page(), server).open('landscapes_sean')
    hand.page.locator('#style-picture').click()
    hand.until("painter.desk.style !== null")
    hand.settle()
    hand.cls('hill')
    assert hand.js('document.documentElement.scrollWidth <= innerWidth')
    screenshot(hand, name, tmp_path)
    for key in ('Escape', 's', '?'):                      # as it is, overlaid, with its help
        hand.key(key)
        bad = [o for o in axe.run(hand.page).response['violations'] if o['impact'] in ('serious', 'critical')]
        assert not bad, [(o['id'], [n['html'][:120] for n in o['nodes']]) for o in bad]
    context.close()

def screenshot(hand, name, folder):
    "Write what is seen; into `GAUGAN_SCREENSHOTS` where it is set"
    folder = Path(os.environ.get('GAUGAN_SCREENSHOTS', folder))
    folder.mkdir(parents=True, exist_ok=True)
    hand.js("document.getElementById('say').textContent = ''")
    hand.js('scrollTo(0, 0)')
    hand.page.wait_for_timeout(100)
    seen = Image.open(io.BytesIO(hand.page.screenshot())).convert('RGB')
    seen.save(folder/f'{name}.jpg', quality=88)
    assert seen.size == WINDOWS[name][:2] and len(np.unique(np.array(seen).reshape(-1, 3), axis=0)) > 5000

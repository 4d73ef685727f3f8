"""The painter's page in a real browser (Debian's chromium): a hand paints, and map and picture are looked at."""
import io, json, os, re
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from browsing import ROOT, Hand, Server, chromium, stepping

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
    ('mine.json', b'{"a": 1}', ['not a project']), ('half.json', b'{"form": "gaug', ['not JSON'])])
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

def test_a_drag_gives_up_the_picture_of_its_beginning(hand):
    """What is on its way when a stroke ends is given up: the page asks once more with `hurry`, and shows the picture of the whole stroke"""
    asked = []
    hand.page.on('request', lambda o: asked.append(o.url) if '/api/paint' in o.url else None)
    blank(hand.open('landscapes_sean'))
    hurried = lambda: [o for o in asked if 'hurry=1' in o]
    for i in range(8):
        hand.choose(cls=i)
        hand.drag((10, 10 + 12*i), (60, 20 + 10*i), (110, 10 + 12*i), steps=12)
        picture = hand.settle().picture
        hand.choose(seed=7)
        hand.settle().choose(seed=0)
        assert (hand.settle().picture == picture).all()
    assert hurried() and len(hurried()) <= 8   # once for a stroke at most

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
    hand.page.locator('#seed-number').fill('')
    hand.page.locator('#seed-number').press_sequentially('12')   # typing is no key
    assert hand.js('[painter.desk.cls, painter.desk.seed]') == [8, 12]
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
    hand.page.get_by_label('Click to start').check()
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

def kept(hand):
    "Wait until the browser has written the work down"
    return hand.settle().until('painter.keeper.idle')

def test_undo_outlives_a_reload(hand):
    maps = [blank(hand.open()).map]
    hand.choose(size=3)
    for cls, y in (('water', 10), ('rock', 30), ('sand', 50)):
        hand.cls(cls)
        hand.drag((5, y), (40, y + 5), (60, y))
        maps.append(hand.map)
    hand.key('Control+z')
    kept(hand).page.reload()
    assert (hand.settle().map == maps[2]).all() and not hand.page.locator('#undo').is_disabled()
    hand.key('Control+Shift+z')                           # what was undone comes back as well
    assert (hand.map == maps[3]).all()
    kept(hand).page.reload()
    hand.settle()
    for before in maps[2::-1]:
        hand.key('Control+z')
        assert (hand.map == before).all()
    hand.key(*['Control+y']*3)
    assert (hand.map == maps[3]).all()

def test_a_hundred_steps_and_a_change_of_model_outlive_a_reload(hand):
    first = blank(hand.open()).map
    hand.choose(size=2, cls=3)
    for at in hand.places([(i % 60 + 2, i//60*20 + 5) for i in range(110)]): hand.page.mouse.click(*at)
    painted = hand.map
    hand.page.locator('#model').select_option('landscapes_sean')
    hand.until("painter.desk.model.name === 'landscapes_sean'")
    large = kept(hand).map
    hand.page.reload()
    assert (hand.settle().map == large).all()
    hand.key('Control+z')
    assert hand.js('painter.desk.model.name') == 'landscapes_style' and (hand.map == painted).all()
    hand.key(*['Control+z']*110)
    assert (hand.map == first).all()
    kept(hand).page.reload()
    hand.settle().key(*['Control+y']*111)
    assert hand.js('painter.desk.model.name') == 'landscapes_sean' and (hand.map == large).all()

def test_steps_that_are_too_many_or_too_large_are_let_go_from_the_oldest(hand):
    code = """async () => { const [h, u, r] = await Promise.all(['history', 'steps', 'raster'].map(o => import(`/page/${o}.js`)))
        const noise = () => { const g = new r.Grid(1024, 512); for (let i = 0; i < 8; i++)
            crypto.getRandomValues(g.ids.subarray(i << 16, i + 1 << 16)); return g }
        const past = [], all = Array.from({length: 21}, noise)
        for (let i = 0; i < 20; i++) past.push(h.Patch.between(all[i], all[i + 1]))
        const found = await u.pack({past, future: []}), back = await u.unpack(found.past.map(({id, packed}) => ({id, packed})))
        const broken = await u.unpack([{id: 'a'}, ...found.past.slice(-2)])
        return [past.indexOf(found.past[0]), found.past.at(-1) === past.at(-1), back.length === found.past.length,
            back[0].before.every((o, i) => o === found.past[0].before[i]), broken.length] }"""
    first, *rest = hand.open().js(code)
    assert rest == [True, True, True, 2] and 3 <= first <= 5        # 16 MiB hold 15 or 16 steps of 2 x 512 KiB of noise

def test_what_is_saved_is_said(hand):
    picture = hand.open().picture
    for button, name in {'save-map': 'map.png', 'save-project': 'painting.json', 'save-picture': 'picture.png'}.items():
        data = hand.saved(button)
        hand.until(f"document.getElementById('say').textContent.includes('{name}')")
    assert hand.page.locator('#say').get_attribute('role') == 'status'
    saved = Image.open(io.BytesIO(data))
    assert (np.array(saved) == picture).all() and 'landscapes_style' in saved.info['Description']

SEEN = """box => [...document.querySelectorAll(box)].every(o => { const r = o.getBoundingClientRect()
    const at = document.elementFromPoint(r.x + r.width/2, r.y + r.height/2)
    return r.top >= 0 && r.left >= 0 && r.bottom <= innerHeight && r.right <= innerWidth && o.contains(at) })"""

@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_all_is_seen_at_once_on_a_laptop(browser, server, scheme):
    context = browser.new_context(viewport=dict(width=1280, height=800), color_scheme=scheme)
    hand = Hand(context.new_page(), server).open()
    assert hand.page.locator('#palette label').count() == 19
    for box in ('#palette label', '#about', '#tools label', '#fit', '#styles label', '#style-buttons button'):
        assert hand.js(SEEN, box), box
    assert not hand.page.locator('.more-below, .more-above').count()
    context.close()

def test_all_tools_are_seen_on_a_phone_and_classes_go_on(browser, server):
    context = browser.new_context(viewport=dict(width=390, height=844), has_touch=True)
    hand = Hand(context.new_page(), server).open()
    for box in ('#tools label', '#shapes label', '#size', '#fit', '.bar > button, .bar .row button', '#map', '#picture'): assert hand.js(SEEN, box), box
    assert not hand.js(SEEN, '#palette label') and hand.page.locator('#palette.more-right').count() == 1
    mask = "getComputedStyle(document.getElementById('palette')).maskImage"
    faded = hand.js(mask)
    hand.js("document.getElementById('palette').scrollLeft = 1e5")
    hand.until("!document.querySelector('#palette.more-right')")
    assert hand.page.locator('#palette.more-left').count() == 1 and hand.js(mask) != faded
    context.close()

@pytest.mark.parametrize('width', [1400, 1280, 1181, 1100, 900])
def test_nothing_of_the_bar_lies_over_another(browser, server, width):
    context = browser.new_context(viewport=dict(width=width, height=800))
    hand = Hand(context.new_page(), server).open('landscapes_sean')
    code = """() => { const all = [...document.querySelectorAll('.bar > *, .bar span, .bar button, .bar select')]
        const boxes = all.filter(o => !o.closest('details div'))
            .map(o => [o, o.getBoundingClientRect()]).filter(([o, r]) => r.width > 2)
        return boxes.flatMap(([o, a], i) => boxes.slice(i + 1).filter(([p, b]) => !o.contains(p) && !p.contains(o)
            && Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1).map(([p]) => [o.outerHTML, p.outerHTML])) }"""
    for _ in range(2):
        hand.key('s')
        assert hand.js(code) == [] and hand.js('document.documentElement.scrollWidth <= innerWidth')
    context.close()

def test_overlay_and_side_by_side(hand):
    hand.open()
    both = [hand.page.locator(f'#{o}') for o in ('map', 'picture')]
    boxes = lambda: [o.bounding_box() for o in both]
    a, b = boxes()
    assert b['x'] > a['x'] + a['width'] and hand.js("getComputedStyle(document.getElementById('map')).opacity") == '1'
    hand.page.locator('#views').get_by_text('Overlay').click()
    a, b = boxes()
    assert a == b
    hand.page.get_by_label('Map opacity').fill('60')
    assert hand.js("getComputedStyle(document.getElementById('map')).opacity") == '0.6'
    blank(hand).cls('water')
    hand.drag((10, 10), (30, 10))                         # there too a hand paints
    assert hand.map[10, 20] == hand.js('painter.desk.cls')
    hand.key('s')
    assert boxes()[1]['x'] > boxes()[0]['x']

def test_help_shows_every_key_from_its_beginning(browser, server):
    for w, h in ((1280, 800), (390, 844)):
        context = browser.new_context(viewport=dict(width=w, height=h))
        hand = Hand(context.new_page(), server).open()
        hand.key('?')
        assert hand.js("document.getElementById('keys').scrollTop") == 0 and hand.js(SEEN, '#keys button')
        shown = {o.lower() for o in hand.page.locator('#keys kbd').all_inner_texts()}
        text = (Path(__file__).parent.parent/'gaugan_fastai/page/keys.js').read_text()
        table, others = (re.search(rf'{o} = {{(.*?)}}', text, re.S)[1] for o in ('TOOLS', 'others'))
        works = {*re.findall(r'(\w): \'', table), *re.findall(r"'(\S+?)':", others)} - {'='}
        assert len(works) == 16 and works - {'escape'} <= shown, works - shown
        assert {'esc', 'ctrl', 'z', 'y', 'o', 'shift', 'enter', 'space', '1', '9'} <= shown
        hand.page.get_by_role('button', name='Close').click()
        assert not hand.page.locator('#keys').is_visible()
        context.close()

def test_the_view_is_moved_by_a_click_alone(hand):
    hand.open().key('h')
    hand.page.locator('#zoom-in').click(click_count=3)
    zoom = hand.js('painter.view.zoom')
    box = hand.page.locator('#map').bounding_box()
    hand.page.mouse.click(box['x'] + .75*box['width'], box['y'] + .5*box['height'])
    assert zoom > 3 and hand.js('painter.view.zoom') == zoom
    assert hand.js('painter.view.middle') == pytest.approx([.5 + .25/zoom, .5], abs=.01)
    hand.page.locator('#fit').click()
    assert hand.js('painter.view.middle') == [.5, .5]

# -- models of others: a run, a converted original, an OASIS with many classes

CITY = """unlabeled ego_vehicle rectification_border out_of_roi static dynamic ground road sidewalk parking rail_track
building wall fence guard_rail bridge tunnel pole polegroup traffic_light traffic_sign vegetation terrain sky person
rider car truck bus caravan trailer train motorcycle bicycle licence_plate""".split()

@pytest.fixture(scope='module')
def others(browser, tmp_path_factory):
    "A painter with three models that do not come with the library"
    import torch
    from gaugan_fastai.cli import main
    from gaugan_fastai.core import LabelSpace
    from gaugan_fastai.models.oasis import OASISGenerator
    from gaugan_fastai.models.spade import SPADEGenerator
    from gaugan_fastai.pretrained import save_pretrained
    folder, data = tmp_path_factory.mktemp('others'), ROOT/'data/landscapes'
    torch.manual_seed(0)
    gen = OASISGenerator(35, ngf=4, z_dim=8, nhidden=8)
    with torch.no_grad():
        for o in gen.parameters(): o.mul_(20 if o.ndim > 1 else 1)   # fresh weights paint next to nothing
        gen.conv_img.weight.mul_(10)
    save_pretrained(gen, folder/'noisy', LabelSpace(CITY), size=[64, 64])
    torch.save(SPADEGenerator(19, 2, nhidden=4).state_dict(), folder/'latest_net_G.pth')
    assert not main(['convert', folder/'latest_net_G.pth', '--out', folder/'original', '--codes', data/'codes.txt'])
    assert not main(['train', data, '--epochs', '1', '--size', '64', '--ngf', '2', '--bs', '24', '--out', folder/'run'])
    res = Server([str(folder/o) for o in ('noisy', 'run', 'original')])
    res.start()
    yield res
    res.stop()

@pytest.fixture
def other(browser, others):
    context = browser.new_context(viewport=dict(width=1280, height=800))
    res = Hand(context.new_page(), others)
    yield res
    context.close()
    assert not res.errors

def test_runs_and_converted_originals_are_in_the_picker(other):
    names = other.open('noisy').js("[...document.getElementById('model').options].map(o => o.value)")
    assert names[:3] == ['noisy', 'run', 'original'] and {'landscapes', 'landscapes_sean', 'street'} <= {*names}
    for name in ('run', 'original'):
        other.page.locator('#model').select_option(name)
        other.until(f"painter.desk.model.name === '{name}'").settle()
        assert list(other.picture.shape[:2]) == other.js('painter.desk.model.size') and not other.said('trouble')
        assert other.js('painter.desk.names.length') == 19

@pytest.fixture
def stepper(browser):
    "The page of a painter in this process, whose network takes two numbers"
    from gaugan_fastai.app import Sketch
    sketch, context = Sketch(stepping()), browser.new_context(viewport=dict(width=1280, height=800), accept_downloads=True)
    sketch.server.url += '/'
    yield Hand(context.new_page(), sketch.server)
    context.close()
    sketch.stop()

def test_numbers_that_a_network_takes(stepper, tmp_path):
    def level(): return stepper.settle().picture.mean()
    def field(name): return stepper.page.locator(f'#numbers input[data-number={name}]')
    stepper.open('stepping')
    assert [field(o).input_value() for o in ('steps', 'strength')] == ['10', '1'] and level() == pytest.approx(25, abs=1)
    field('steps').fill('40')
    assert level() == pytest.approx(102, abs=1)
    field('strength').fill('1.5')
    assert level() == pytest.approx(153, abs=1)
    for wrong in ('0', '2.5', '9999', ''):   # marked by the browser, and nothing is asked
        field('steps').fill(wrong)
        assert field('steps').evaluate('o => !o.checkValidity()') and level() == pytest.approx(153, abs=1)
    file = tmp_path/'numbers.json'
    file.write_bytes(stepper.saved('save-project'))
    field('steps').fill('4')
    assert level() == pytest.approx(15, abs=1)
    stepper.page.locator('#strip button').nth(1).click()   # back to a picture is back to its numbers
    assert level() == pytest.approx(153, abs=1) and field('steps').input_value() == '40'
    field('steps').fill('4')
    stepper.page.reload()
    assert level() == pytest.approx(15, abs=1) and field('strength').input_value() == '1.5'
    stepper.give('file', file)
    stepper.until("painter.desk.options.steps === 40")
    assert level() == pytest.approx(153, abs=1) and not stepper.errors

def test_a_model_that_loads_says_so(other):
    other.open('noisy').js("""() => { globalThis.seen = []
        new MutationObserver(() => { const o = document.getElementById('loading')
            seen.push(o.hidden ? '' : o.innerText.trim()) }).observe(document.getElementById('loading'),
            {attributes: true, childList: true, subtree: true}) }""")
    other.page.locator('#model').select_option('landscapes')
    other.until("painter.desk.model.name === 'landscapes'").settle()
    seen = other.js('seen')
    assert 'Loading landscapes (SPADE, 256x256) …' in seen and seen[-1] == '' and other.picture.shape == (256, 256, 3)
    assert other.page.locator('#progress').get_attribute('aria-label') == 'Loading the model'

def test_many_classes_are_searched_and_scroll_visibly(other):
    other.page.set_viewport_size(dict(width=1280, height=600))
    other.open('noisy')
    palette = other.page.locator('#palette')
    assert 'more-below' in palette.get_attribute('class') and not other.js(SEEN, '#palette label')
    other.js("document.getElementById('palette').scrollTop = 1e5")
    other.until("!document.querySelector('#palette.more-below')")
    assert 'more-above' in palette.get_attribute('class')
    other.page.locator('#search').fill('TRAFFIC')
    assert palette.locator('label:visible').all_inner_texts() == ['traffic_light', 'traffic_sign']
    other.page.locator('#map').focus()
    other.key('2')
    assert other.js('painter.desk.names[painter.desk.cls]') == 'traffic_sign'

def city(hand):
    "A street: sky above, road below, a car"
    blank(hand.open('noisy'), 'sky')
    for name, corners in dict(road=((0, 36), (63, 63)), car=((20, 30), (40, 50))).items():
        hand.cls(name)
        hand.js("""([[x0, y0], [x1, y1]]) => { const d = painter.desk; d.swap(() => { d.grid = d.grid.copy()
            for (let y = y0; y <= y1; y++) d.grid.ids.fill(d.cls, y*64 + x0, y*64 + x1 + 1) }) }""", corners)
    return hand.settle()

def test_variations_of_an_oasis(other):
    first = city(other).picture
    assert other.page.locator('#style-photo').is_hidden() and first.std() > 5
    other.page.get_by_label('Seed', exact=True).fill('7')
    seventh = other.settle().picture
    assert np.abs(seventh - first).mean() > .5
    other.page.get_by_label('Random seed').click()
    other.settle()
    other.page.get_by_label('Seed as a number').fill('7')
    assert (other.settle().picture == seventh).all()
    other.page.get_by_label('Seed as a number').fill('0')
    assert (other.settle().picture == first).all()

def sky_of_its_own(hand, ids, seed):
    "What Python paints where the sky has the noise of another seed"
    import torch
    from gaugan_fastai.encoder import as_style
    from gaugan_fastai.painter import Painter
    painter = Painter(hand.server.models[0])
    [usual] = painter.styles_for()
    table = usual[:, None].repeat(1, len(CITY), 1)
    table[0, painter.labels.codes.index('sky')] = as_style(None, None, 8, seed)[0]
    return np.asarray(painter.paint_in(table, torch.from_numpy(ids.astype(np.int64))[None], (64, 64))).astype(int)

def test_one_region_of_an_oasis_and_a_slider_between_two_styles(other):
    before, ids = city(other).picture, other.map
    other.cls('sky')
    there = ids == other.js('painter.desk.cls')
    there, far = there & (np.arange(64) < 20)[:, None], (ids != other.js('painter.desk.cls')) & (np.arange(64) > 50)[:, None]
    change = lambda: np.abs(other.settle().picture - before).mean(-1)
    other.page.get_by_label('From', exact=True).select_option('variation 3')
    third = other.settle().picture
    assert change()[there].mean() > change()[far].mean() and change()[there].mean() > .5
    assert np.abs(third - sky_of_its_own(other, ids, 3)).max() <= 1
    other.page.get_by_label('To', exact=True).select_option('variation 5')
    slider, ways = other.page.get_by_label('Between the two styles'), []
    for amount in (0, 50, 100):
        slider.fill(str(amount))
        ways.append(np.abs(other.settle().picture - third)[there].mean())
    assert ways[0] == 0 and ways[1] > .1 and ways[2] > ways[1], ways
    fifth = other.picture
    slider.fill('0')
    other.page.get_by_label('From', exact=True).select_option('variation 5')
    assert (other.settle().picture == fifth).all()        # the end of the slider is that style itself
    other.cls('road')                                     # another class has a style of its own
    assert other.page.locator('#region-from').input_value() == '' and other.page.locator('#region-name').inner_text() == 'road'

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

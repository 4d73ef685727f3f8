"""The painter's page in a real browser: a server of its own, and what a hand does to the page."""
import os, socket, subprocess, sys, time, urllib.request
from contextlib import contextmanager
from pathlib import Path
import numpy as np, pytest, torch
from torch import nn

ROOT = Path(__file__).parent.parent
CHROMIUM = os.environ.get('GAUGAN_CHROMIUM', '/usr/bin/chromium')
MODELS = ['landscapes_style', 'landscapes_sean']   # 64x64 with one style for a picture; 128x128 with one for each class

def missing(what):
    "Skip, or fail where a browser is required"
    if os.environ.get('GAUGAN_REQUIRE_BROWSER') == '1': pytest.fail(what)
    pytest.skip(what)

def free_port() -> int:
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]

class Stepping(nn.Module):
    "Paints all pixels alike, as light as its options say: steps times strength, of a hundred"
    styles, painting, labels, factor = None, ('steps', 'strength'), None, 1
    def __init__(self):
        super().__init__()
        self.white = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self,
        segmap,
        steps:int=10, # Steps to a picture
        strength:float=1., # What a step adds
    ): return self.white.expand(len(segmap), 3, *segmap.shape[-2:])*min(1., steps*strength/50 - 1)

    def for_inference(self): return self

def stepping(size=64):
    "A painter of a `Stepping`"
    from gaugan_fastai.data.landscapes import landscape_labels
    from gaugan_fastai.painter import Painter
    gen = Stepping()
    gen.labels, gen.card = landscape_labels(), dict(size=[size, size])
    res = Painter(gen)
    res.name = 'stepping'
    return res

class Server:
    "`gaugan paint` on a port, which can be stopped and started again"
    def __init__(self, models=MODELS): self.models, self.port, self.process = models, free_port(), None

    @property
    def url(self): return f'http://127.0.0.1:{self.port}/'

    def start(self):
        gaugan = [sys.executable, '-c', 'import sys; from gaugan_fastai.cli import main; sys.exit(main())']
        call = [*gaugan, 'paint', *self.models, '--port', str(self.port), '--no-browser']
        self.process = subprocess.Popen(call, cwd=ROOT, stdout=subprocess.DEVNULL)
        self.wait()

    def wait(self):
        end = time.time() + 180
        while time.time() < end:
            try: return urllib.request.urlopen(self.url + 'healthz', timeout=5).read()
            except OSError: time.sleep(.1)
            assert self.process.poll() is None, 'the server ended by itself'
        raise AssertionError('the server does not answer')

    def stop(self):
        self.process.terminate()
        self.process.wait(60)

@contextmanager
def chromium():
    "A browser, with sentences about what is missing"
    try: from playwright.sync_api import sync_playwright
    except ImportError: missing('playwright is missing: pip install playwright')
    if not Path(CHROMIUM).exists(): missing(f'{CHROMIUM} is missing: apt-get install chromium')
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox'])
        yield browser
        browser.close()

class Hand:
    "What a user does, in pixels of the map"
    def __init__(self, page, server): self.page, self.server, self.errors = page, server, []

    def open(self, model='landscapes_style'):
        self.page.on('pageerror', lambda e: self.errors.append(str(e)))
        self.page.on('console', lambda m: self.errors.append(m.text) if 'Content Security' in m.text else None)
        self.page.goto(f'{self.server.url}?model={model}')
        return self.settle()

    def settle(self):
        "Wait until the picture belongs to the map"
        return self.until("document.body.dataset.ready && document.body.dataset.live === 'idle' && painter.live.idle")

    def until(self, code, seconds=120):
        "Wait until an expression is true; the page allows no eval, which playwright's own way to wait needs"
        end = time.time() + seconds
        while not self.js(f'Boolean({code})'):
            assert time.time() < end, f'not so after {seconds} s: {code}'
            time.sleep(.02)
        return self

    def js(self, code, arg=None): return self.page.evaluate(code, arg)

    @property
    def map(self):
        h, w, *ids = self.js('[painter.desk.grid.h, painter.desk.grid.w, ...painter.desk.grid.ids]')
        return np.array(ids, np.uint8).reshape(h, w)

    @property
    def picture(self):
        code = """() => { const p = painter.view.picture, x = new OffscreenCanvas(p.width, p.height).getContext('2d')
            x.drawImage(p, 0, 0); return [p.height, p.width, ...x.getImageData(0, 0, p.width, p.height).data] }"""
        h, w, *values = self.js(code)
        return np.array(values, np.uint8).reshape(h, w, 4)[..., :3].astype(int)

    def places(self, points):
        "Where pixels of the map are on the screen, at zoom 1"
        box, (w, h) = self.page.locator('#map').bounding_box(), self.js('[painter.desk.grid.w, painter.desk.grid.h]')
        return [(box['x'] + (x + .5)/w*box['width'], box['y'] + (y + .5)/h*box['height']) for x, y in points]

    def place(self, x, y): return self.places([(x, y)])[0]

    def click(self, x, y): self.page.mouse.click(*self.place(x, y))

    def drag(self, *points, steps=4):
        self.page.mouse.move(*self.place(*points[0]))
        self.page.mouse.down()
        for p in points[1:]: self.page.mouse.move(*self.place(*p), steps=steps)
        self.page.mouse.up()

    def key(self, *keys):
        for o in keys: self.page.keyboard.press(o)

    def choose(self, **what): self.js('what => painter.desk.choose(what)', what)
    def cls(self, name): self.choose(cls=self.js('painter.desk.names').index(name))
    def said(self, where='say'): return self.page.locator(f'#{where}').inner_text()

    def give(self, field, *files): self.page.locator(f'#{field}').set_input_files(*files)

    def saved(self, button):
        "The bytes that a button of the menu saves"
        self.page.locator('#file-menu summary').click()
        with self.page.expect_download() as found: self.page.locator(f'#{button}').click()
        return Path(found.value.path()).read_bytes()

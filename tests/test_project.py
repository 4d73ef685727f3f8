"""What holds for the project as a whole: one place for metadata, lessons in shape, nothing that does not belong in it."""
import hashlib, importlib.metadata, json, re, shutil, subprocess, sys
from configparser import ConfigParser
from pathlib import Path
import pytest
from conftest import ROOT, shared_path

cfg = ConfigParser(delimiters=['='])
cfg.read(ROOT/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
lessons = sorted(o for o in (ROOT/'nbs').glob('*.ipynb') if o.name[0] not in '_.')
machine_path = re.compile(r'(?<![\w.~:/])/' + '(root|work|home|tmp|opt)' + r'/[\w.]')
ids = lambda o: o.stem if o.suffix == '.ipynb' else str(o.relative_to(ROOT))

def _read(fn): return json.loads(fn.read_text(encoding='utf-8'))
def _src(cell): return ''.join(cell['source'])
def _outputs(cells): return [o for c in cells for o in c.get('outputs', [])]
def _pictures(cells): return [o for o in _outputs(cells) if any(k.startswith('image/') for k in o.get('data', {}))]
def _modules(): return sorted(o for o in (ROOT/'gaugan_fastai').rglob('*.py') if o.name not in ('__init__.py', '_modidx.py'))

def _default_exp(nb):
    "The module a notebook makes, or None"
    found = [re.search(r'^#\|\s*default_exp\s+(\S+)', _src(c), re.MULTILINE) for c in nb['cells'] if c['cell_type'] == 'code']
    return next((o.group(1) for o in found if o), None)

@pytest.fixture(scope='module')
def tracked():
    "The files of the project: what git tracks, or would if they were added"
    res = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True)
    if res.returncode: pytest.skip('not in a git checkout')
    return [ROOT/o for o in res.stdout.split('\0') if o and (ROOT/o).is_file()]

# -- metadata ----------------------------------------------------------------------------------------------------

def test_metadata_comes_from_settings_ini():
    import gaugan_fastai
    assert gaugan_fastai.__version__ == cfg['version'] == importlib.metadata.version('gaugan_fastai')
    assert '[project]' not in (ROOT/'pyproject.toml').read_text(encoding='utf-8')
    assert cfg['version'] not in (ROOT/'setup.py').read_text(encoding='utf-8')
    assert f'[{cfg["version"]}]' in (ROOT/'CHANGELOG.md').read_text(encoding='utf-8')
    meta = importlib.metadata.metadata('gaugan_fastai')
    assert (meta['Summary'], meta['License-Expression']) == (cfg['description'], cfg['license'])

def test_the_archive_will_hold_what_setup_py_reads():
    words = (ROOT/'MANIFEST.in').read_text(encoding='utf-8').split('\n')
    named = [o for l in words if l.startswith('include ') for o in l.split()[1:]]
    assert {'settings.ini', 'README.md', 'LICENSE'} <= set(named)
    assert [o for o in named if not (ROOT/o).is_file()] == []

def test_readme_names_its_two_commands_and_links_to_files():
    text = (ROOT/'README.md').read_text(encoding='utf-8')
    assert re.findall(r'<!-- ci: (\w+) -->\n```bash\n[^`]+\n```', text) == ['demo', 'tests']
    links = re.findall(r'\]\(([^)#]+?)(?:#[^)]*)?\)', text) + re.findall(r'(?:src|href)="([^"#]+)"', text)
    assert [o for o in links if '://' not in o and not (ROOT/o).exists()] == []

@pytest.mark.parametrize('name', sorted(o.parent.name for o in (ROOT/'data/weights').glob('*/model.json')))
def test_weights_for_research_name_their_licence_and_are_not_in_the_wheel(name):
    "What was trained on others' data is for research only: the card says so, and the list of data, and no wheel has it"
    research = dict(street='as CamVid', faces='C-UDA')
    licence = _read(ROOT/'data/weights'/name/'model.json')['licence']
    row, = [o for o in (ROOT/'data/README.md').read_text(encoding='utf-8').splitlines() if o.startswith(f'| `weights/{name}/`')]
    packed = [name in re.findall(r"[\w-]+", (ROOT/o).read_text(encoding='utf-8')) for o in ('MANIFEST.in', 'setup.py')]
    if name not in research: assert licence == 'Apache-2.0' and 'non-commercial' not in row
    else: assert 'non-commercial' in licence and research[name] in licence and 'non-commercial' in row and packed == [False, False]

# -- lessons and modules -----------------------------------------------------------------------------------------

def test_every_module_has_its_lesson():
    makers = {_default_exp(_read(o)): o for o in lessons}
    made = {'.'.join(o.relative_to(ROOT/'gaugan_fastai').with_suffix('').parts) for o in _modules()}
    assert made == set(makers) - {None}
    for mod,fn in makers.items():
        if mod: assert re.fullmatch(r'[\dabcd][\dab]_' + re.escape(mod), fn.stem), f'{fn.name} makes {mod}'

def test_modules_are_what_the_lessons_export(tmp_path):
    for o in ('pyproject.toml', 'settings.ini'): shutil.copy(ROOT/o, tmp_path)
    shutil.copytree(ROOT/'nbs', tmp_path/'nbs', ignore=shutil.ignore_patterns('_*', '.*'))
    (tmp_path/'gaugan_fastai').mkdir()
    shutil.copy(ROOT/'gaugan_fastai/__init__.py', tmp_path/'gaugan_fastai')
    res = subprocess.run([Path(sys.executable).with_name('nbdev-export')], cwd=tmp_path, capture_output=True, text=True)
    assert res.returncode == 0, res.stderr
    stale = [o.name for o in _modules() if (tmp_path/o.relative_to(ROOT)).read_text(encoding='utf-8') != o.read_text(encoding='utf-8')]
    assert stale == [], 'run nbdev-export'

@pytest.mark.parametrize('fn', _modules(), ids=ids)
def test_module_is_short(fn):
    assert len(fn.read_text(encoding='utf-8').splitlines()) <= 400, 'about 250 lines is the aim: split the lesson'

@pytest.mark.parametrize('fn', lessons, ids=ids)
def test_lesson_is_in_shape(fn):
    nb, size = _read(fn), fn.stat().st_size
    cells = nb['cells']
    prose = sum(c['cell_type'] == 'markdown' for c in cells)
    assert size <= 400_000, f'{size//1000} kB'
    assert prose >= len(cells)/4, f'{prose} of {len(cells)} cells are prose'
    assert _src(cells[0]).startswith('# '), 'a lesson begins with its title'
    assert _pictures(cells[:14]), 'no picture among the first fourteen cells'
    assert not [o for o in _outputs(cells) if o['output_type'] == 'error']
    assert not [o for o in _outputs(cells) if o.get('name') == 'stderr']
    assert not [c['id'] for c in cells if c.get('execution_count')], 'run nbdev-clean'
    for heading in ('## What we learnt', '## Try'): assert any(heading in _src(c) for c in cells), heading

@pytest.mark.parametrize('fn', lessons, ids=ids)
def test_lesson_holds_no_picture_of_others_data(fn):
    shared = [c for c in _read(fn)['cells'] if re.search(r'^#\|\s*shared', _src(c), re.MULTILINE) or 'shared_path' in _src(c)]
    assert not _pictures(shared)

# -- what does not belong in the project -------------------------------------------------------------------------

def test_no_path_of_a_machine(tracked):
    bad = []
    for fn in tracked:
        if fn.suffix == '.ipynb': texts = [json.dumps(_outputs(_read(fn)['cells']))] + [_src(c) for c in _read(fn)['cells']]
        else:
            try: texts = [fn.read_text(encoding='utf-8')]
            except UnicodeDecodeError: continue
        bad += [f'{fn.relative_to(ROOT)}: {m.group()}' for t in texts for m in machine_path.finditer(t)]
    assert bad == []

def test_no_big_file(tracked):
    assert [o.name for o in tracked if o.stat().st_size > 25*2**20] == []

def test_no_file_of_others_data(tracked):
    digest = lambda fn: (fn.stat().st_size, hashlib.sha256(fn.read_bytes()).hexdigest())
    images = [o for o in tracked if o.suffix.lower() in ('.png', '.jpg', '.jpeg')]
    sizes = {o.stat().st_size for o in images}
    others = {digest(o) for o in shared_path('data').rglob('*') if o.is_file() and o.stat().st_size in sizes}
    assert [o.name for o in images if digest(o) in others] == []

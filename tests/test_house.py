"""The shape of the library: nothing in a circle, no private name across modules, no long line; and `gaugan_fastai.all`.

What is not yet so is listed or counted here. The lists can only shrink: what is cured must be taken off them."""
import ast, importlib, importlib.util, pkgutil, subprocess, sys
import pytest
from conftest import ROOT

def _tool():
    spec = importlib.util.spec_from_file_location('house', ROOT/'tools/house.py')
    mod = sys.modules['house'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mod)
    return mod

house = _tool()

@pytest.fixture(scope='module')
def found(): return house.count(ROOT)

KNOWN_CIRCLES = set()
KNOWN_DOUBLES = set()
KNOWN_PRIVATE = set()
LONG_LINES, DENSE_LINES = 0, 0
LONG_MODULES = 0

def test_no_circle(found):
    assert set(found['circles of imports']) - KNOWN_CIRCLES == set(), 'modules import each other: move what both need below them'
    assert KNOWN_CIRCLES - set(found['circles of imports']) == set(), 'cured: take it off KNOWN_CIRCLES'

def test_no_private_name_of_another_module(found):
    now = set(found['private names of another module'])
    assert now - KNOWN_PRIVATE == set(), 'give the name no underscore, or do not use it'
    assert KNOWN_PRIVATE - now == set(), 'cured: take it off KNOWN_PRIVATE'

def test_no_name_of_two_meanings(found):
    now = {o.split(':')[0] for o in found['names of two meanings']}
    assert now - KNOWN_DOUBLES == set(), 'call one of them otherwise'
    assert KNOWN_DOUBLES - now == set(), 'cured: take it off KNOWN_DOUBLES'

def test_no_long_or_dense_line(found):
    for measure, bound in (('lines over 120 columns', LONG_LINES), ('lines over 45 tokens', DENSE_LINES)):
        assert len(found[measure]) <= bound, found[measure]

@pytest.mark.parametrize('fn', sorted((ROOT/'tools').glob('*.py')), ids=lambda o: o.stem)
def test_no_long_or_dense_line_in_tools(fn):
    text = fn.read_text(encoding='utf-8')
    module = house.Module(fn.stem, fn, text.splitlines(), ast.parse(text))
    assert house.long_lines(module) == house.dense_lines(module) == []

def test_no_long_function_or_module(found):
    assert found['functions over 30 lines'] == found['modules over 400 lines'] == []
    assert len(found['modules over 250 lines']) <= LONG_MODULES, found['modules over 250 lines']

# -- the counter ---------------------------------------------------------------------------------------------------

FILES = {
    'a.py': "from .b import two, _hidden\nfrom . import c\n__all__ = ['one', 'same']\ndef one(): return _hidden + c._own\nsame = 1\n",
    'b.py': "def two():\n    from gaugan_fastai.a import one\n    return one\n_hidden = 1\nclass _Plan:\n    def __init__(self): self._made = {}\n",
    'c.py': f"'''Doc'''\n__all__ = ['same']\n_own = 1\n\ndef same(x): return x._made, x._mine\n# {'x'*130}\n",
    'e.py': 'def f(x):\n    return ' + ' + '.join('x'*23) + '\ndef g(x):\n    return ' + ' + '.join('x'*22) + " + f'{x}'" + '\n',
    'cli.py': "__all__ = ['e']\ndef e(): pass\n",
    'sub/d.py': "from ..c import same\nimport gaugan_fastai.b as bee\n_made = bee._hidden\ndef f(o): return o._made\n" +
        'def long():\n    "Doc"\n\n' + '    x = 1\n'*31 + 'def short():\n    "Doc"\n\n' + '    x = 1\n'*30}

@pytest.fixture
def small(tmp_path):
    (tmp_path/'gaugan_fastai/sub').mkdir(parents=True)
    for name, text in FILES.items(): (tmp_path/'gaugan_fastai'/name).write_text(text)
    return tmp_path

def test_the_counter_finds_each(small):
    res = house.count(small)
    assert res['circles of imports'] == ['a <-> b'] and res['imports inside functions'] == ['b imports a']
    assert res['private names of another module'] == [
        'a uses _hidden of b', 'a uses _own of c', 'c uses _made of b', 'sub.d uses _hidden of b']
    assert res['names of two meanings'] == ['same: a, c']
    assert res['lines over 120 columns'] == ['c:6 has 132']
    assert res['lines over 45 tokens'] == ['e:2 has 46', 'e:4 has 46']
    assert res['functions over 30 lines'] == ['sub.d.long has 31']
    assert res['modules over 250 lines'] == [] and len(res['(modules)']) == 6
    assert res['(arrows between modules)'] == ['a -> b', 'a -> c', 'b -> a', 'sub.d -> b', 'sub.d -> c']

def test_the_counter_prints_a_table(small):
    def run(*args): return subprocess.run([sys.executable, ROOT/'tools/house.py', *args], capture_output=True, text=True)
    res = run(small, small)
    rows = {o[:30].strip(): o[30:].split() for o in res.stdout.splitlines()}
    assert res.returncode == 0 and rows['circles of imports'][-2:] == ['1', '1'] and rows['(modules)'][-2:] == ['6', '6']
    assert 'a uses _own of c' in run(small, '-v').stdout
    wrong = run(small/'gaugan_fastai')
    assert wrong.returncode == 1 and 'is no checkout' in wrong.stderr and 'Traceback' not in wrong.stderr

# -- one import for all --------------------------------------------------------------------------------------------

FIXED = """PairedDataLoaders UnpairedDataLoaders SPADEGenerator spade_learner sean_learner oasis_learner clade_learner
    pix2pix_learner cyclegan_learner MultiScaleCritic SEANGenerator OASISGenerator CLADEGenerator load_original
    from_pretrained save_pretrained Painter""".split()
THERE = """PairedDataLoaders SPADEGenerator spade_learner sean_learner pix2pix_learner MultiScaleCritic SEANGenerator
    load_original from_pretrained save_pretrained""".split()

def _public():
    "(module, name, what it is) of all that is public, but for the command line, what reads its options, the app and its server"
    import gaugan_fastai
    for o in pkgutil.walk_packages(gaugan_fastai.__path__, 'gaugan_fastai.'):
        if o.ispkg or o.name.split('.')[-1] in ('cli', 'options', 'app', 'serving', 'all', '_modidx'): continue
        mod = importlib.import_module(o.name)
        for name in mod.__all__: yield o.name, name, getattr(mod, name)

def test_all_has_everything_public():
    space = {}
    exec('from gaugan_fastai.all import *', space)
    lacks = sorted({f'from {m} import *' for m, name, _ in _public() if name not in space})
    assert lacks == [], 'add these lines to nbs/89_all.ipynb'
    other = {name for _, name, it in _public() if space[name] is not it}
    assert other <= KNOWN_DOUBLES, 'names of two meanings'
    assert not {'train', 'demo', 'generate'} & set(space), 'the commands are not wanted here'
    assert {'Path', 'nn', 'Learner', 'plt'} <= set(space)
    assert not [o for o in space if o.startswith('_') and o != '__builtins__']

def test_all_has_the_fixed_names():
    import gaugan_fastai.all as everything
    made = {name for _, name, _ in _public()}
    assert [o for o in THERE if o not in made] == []
    assert [o for o in FIXED if o in made and o not in everything.__all__] == []
    from gaugan_fastai.models.spade import spade_learner
    from gaugan_fastai.encoder import StyleEncoder
    assert everything.spade_learner is spade_learner and everything.StyleEncoder is StyleEncoder

def test_all_loads_nothing_heavy():
    code = """import sys, fastai.vision.all
before = set(sys.modules)
import gaugan_fastai.all
new = set(sys.modules) - before
heavy = 'efficientnet_lite_pytorch onnx onnxruntime flask gradio uvicorn gaugan_fastai.cli gaugan_fastai.app nbdev'.split()
print([o for o in heavy if o in new])"""
    res = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert res.stdout.strip() == '[]', res.stderr

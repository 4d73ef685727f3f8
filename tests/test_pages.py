"""Every exercise of a lesson has an answer that a hidden cell computes and that can turn out wrong; numbers of lessons are those of files."""
import importlib.util, json, re
import pytest
from conftest import ROOT

spec = importlib.util.spec_from_file_location('check_pages', ROOT/'tools/check_pages.py')
check_pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_pages)

@pytest.mark.parametrize('fn', check_pages.lessons(), ids=lambda o: o.stem)
def test_answers_are_tested(fn):
    o = check_pages.look_at(fn)
    assert o.exercises > 0, 'no exercises under "## Try"'
    assert o.tests >= o.exercises, f'{o.exercises} exercises, but {o.tests} tests in hidden cells below them'

WORDS = '## What we learnt\n- 1. no\n\n## Try\n1. One?\n2. Two?\n'

def lesson(path, *codes):
    "A lesson of one page of words and some cells of code"
    cells = [dict(cell_type='markdown', source=WORDS), *(dict(cell_type='code', source=o) for o in codes)]
    (path/'lesson.ipynb').write_text(json.dumps(dict(cells=cells)))
    return check_pages.look_at(path/'lesson.ipynb')

def test_what_counts(tmp_path):
    both = lesson(tmp_path, '#| hide\n%matplotlib inline\nfor i in range(3): test_eq(i, i)', '#|hide\nassert 1 < 2')
    assert (both.exercises, both.cells, both.tests) == (2, 2, 2)

@pytest.mark.parametrize('code', ['assert 1 < 2', '#| hide\nprint(1)', '#| hide\n#| shared\nassert 1 < 2',
    '#| hide\n#| eval: false\nassert 1 < 2', '#| hide\nassert True', '#| hide\n# assert 1 < 2'])
def test_what_does_not(code, tmp_path): assert lesson(tmp_path, code).tests == 0

def test_tests_above_the_exercises_are_not_theirs(tmp_path):
    test, words = '#| hide\nassert 1 < 2', '## Try\n1. One?'
    cells = [dict(cell_type='code', source=test), dict(cell_type='markdown', source=words)]
    (tmp_path/'lesson.ipynb').write_text(json.dumps(dict(cells=cells)))
    assert check_pages.look_at(tmp_path/'lesson.ipynb').tests == 0 and check_pages.main([tmp_path/'lesson.ipynb']) == 1

# -- numbers of lessons ------------------------------------------------------------------------------------------

NUMBER = r'(?:[0-9a-d]\d|ba)'
LESSONS = re.compile(rf'\b[Ll]essons? ({NUMBER}(?:(?:, | and | to ){NUMBER})*)\b')
LINK = re.compile(r'\[([^\]]*)\]\([./]*(?:nbs/)?(([0-9a-d][0-9a-d])_\w[\w.]*\.ipynb)\)')

def wrong_numbers(text, names):
    "What a text says of lessons that are not among the file `names`"
    numbers = {o.split('_')[0] for o in names}
    wrong = [m[0] for m in LESSONS.finditer(text) if not numbers.issuperset(re.findall(NUMBER, m[1]))]
    for m in LINK.finditer(text):
        said = re.match(rf'{NUMBER}\b', m[1])
        if m[2] not in names or (said and said[0] != m[3]): wrong.append(m[0])
    return wrong

def test_which_numbers_are_wrong():
    names = ['28_pix2pix.ipynb', 'b1_patterns.ipynb']
    assert not wrong_numbers('Lessons 28 and b1; lesson [28](../nbs/28_pix2pix.ipynb), [patterns](b1_patterns.ipynb)', names)
    for text in ('lesson 09', 'lessons 28 and 29', '[09](../nbs/28_pix2pix.ipynb)', '[a painter](28_old.ipynb)'):
        assert wrong_numbers(text, names) == [text]

PAGES = [*ROOT.glob('*.md'), *ROOT.glob('docs/*.md'), *ROOT.glob('tools/*.py'), *(ROOT/'gaugan_fastai').rglob('*.py')]

@pytest.mark.parametrize('fn', check_pages.lessons() + PAGES, ids=lambda o: str(o.relative_to(ROOT)))
def test_lessons_are_called_by_their_numbers(fn):
    text = fn.read_text(encoding='utf-8')
    if fn.suffix == '.ipynb': text = '\n'.join(''.join(o['source']) for o in json.loads(text)['cells'])
    assert not wrong_numbers(text, [o.name for o in check_pages.lessons()])

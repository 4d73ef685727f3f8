#!/usr/bin/env python
"""List the exercises of each lesson, and the hidden tests of their answers that follow.

    python tools/check_pages.py                     all of nbs/; exit 1 if an exercise has no test
    python tools/check_pages.py nbs/22_losses.ipynb

Exercises are the numbered lines under "## Try". Tests are `assert`s and calls of fastcore's `test_...` in `#| hide`
cells below; a cell that is left out of tests (`#| gpu`, `#| slow`, `#| shared`, `#| eval: false`) does not count.
"""
import ast, json, re, sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
_number, _flag = re.compile(r'^\d+\. ', re.MULTILINE), re.compile(r'^#\s*\|\s*(.+)$', re.MULTILINE)
_left_out = {'gpu', 'slow', 'shared', 'eval: false'}

def is_test(node):
    "Can this node of a syntax tree fail when an answer is wrong?"
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.startswith('test_')
    return called or isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant)

def tests_of(
    source:str, # a cell
) -> int: # 0 for cells that are not hidden or not run
    "Count the tests of a hidden cell"
    flags = {o.strip() for o in _flag.findall(source)}
    if 'hide' not in flags or flags & _left_out: return 0
    code = '\n'.join(o for o in source.splitlines() if not o.lstrip().startswith(('%', '!')))
    return sum(map(is_test, ast.walk(ast.parse(code))))

def look_at(
    fn, # a notebook
) -> SimpleNamespace: # name, exercises, cells (hidden ones with tests, below the exercises), tests
    "Count the exercises of a lesson and the tests of their answers"
    cells = json.loads(Path(fn).read_text(encoding='utf-8'))['cells']
    sources = [(o['cell_type'], ''.join(o['source'])) for o in cells]
    at = [i for i, (kind, o) in enumerate(sources) if kind == 'markdown' and '## Try' in o]
    if not at: return SimpleNamespace(name=Path(fn).stem, exercises=0, cells=0, tests=0)
    exercises = _number.findall(sources[at[-1]][1].split('## Try')[1])
    tests = [tests_of(o) for kind, o in sources[at[-1]+1:] if kind == 'code']
    return SimpleNamespace(name=Path(fn).stem, exercises=len(exercises), cells=sum(map(bool, tests)), tests=sum(tests))

def lessons(): return sorted(o for o in (ROOT/'nbs').glob('*.ipynb') if o.name[0] not in '_.')

def main(argv=None):
    "Print a line for each lesson; 1 if one has fewer tests than exercises"
    found = [look_at(o) for o in (sys.argv[1:] if argv is None else argv) or lessons()]
    for o in found:
        few = '' if o.tests >= o.exercises else '   <-- too few'
        print(f'{o.name:22} {o.exercises} exercises, {o.tests} tests in {o.cells} hidden cells{few}')
    return int(any(o.tests < o.exercises for o in found))

if __name__ == '__main__': sys.exit(main())

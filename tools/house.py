#!/usr/bin/env python
"""Count what makes a house hard to live in, so that before and after can be compared.

    python tools/house.py                  this checkout
    python tools/house.py OLD NEW          two of them, side by side
    python tools/house.py -v               name every find

Counted in `gaugan_fastai`, from the source alone (nothing is imported or run):
circles of imports (those inside functions count), imports inside functions, private names (`_x`) of one module that
another imports or reads, lines over 120 columns (but nbdev's list `__all__`), dense lines (in functions, over 45
tokens; an f-string is one), functions over 30 lines (blank lines, docstring and arguments do not count), modules over
250 and over 400 lines, and public names with two meanings (but the commands of `cli`: users call them by name).
"""
import argparse, ast, io, sys, tokenize
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

COLUMNS, TOKENS, FUNCTION, MODULE, MODULE_MAX = 120, 45, 30, 250, 400
ROOT = Path(__file__).resolve().parent.parent

class Module(NamedTuple):
    "A module, read"
    name: str          # 'data.paired'
    path: Path
    lines: list
    tree: ast.Module

class Import(NamedTuple):
    "One name that a module takes from another of the package"
    module: str        # Who imports
    source: str        # From which module of the package
    name: str          # Which name; '': the module itself, '*': all that is public
    local: str         # What it is called here
    inside: bool       # In a function?
    line: int

# -- reading -------------------------------------------------------------------------------------------------------

def read_package(
    root:Path,                # a checkout
    package='gaugan_fastai',
):
    "The modules of the package by name, without `__init__` and nbdev's index"
    folder, found = Path(root)/package, {}
    for fn in sorted(folder.rglob('*.py')):
        if fn.name in ('__init__.py', '_modidx.py'): continue
        name = '.'.join(fn.relative_to(folder).with_suffix('').parts)
        text = fn.read_text(encoding='utf-8')
        found[name] = Module(name, fn, text.splitlines(), ast.parse(text))
    return found

def _absolute(module, node, package='gaugan_fastai'):
    "The module that `from X import` names, relative to the package; None for another package"
    if not node.level:
        if node.module == package: return ''
        inside = (node.module or '').startswith(f'{package}.')
        return node.module.removeprefix(f'{package}.') if inside else None
    folder = module.name.split('.')[:-1]
    above = folder[:len(folder) - (node.level - 1)]
    return '.'.join([*above, *filter(None, [node.module])])

def _from(module, node, names, inside):
    "The imports of one `from X import a, b`"
    source = _absolute(module, node)
    if source is None: return
    for o in node.names:
        deeper = f'{source}.{o.name}'.strip('.')
        local = o.asname or o.name
        if deeper in names: yield Import(module.name, deeper, '', local, inside, node.lineno)
        elif source in names: yield Import(module.name, source, o.name, local, inside, node.lineno)

def _plain(module, node, names, inside, package='gaugan_fastai'):
    "The imports of one `import X`"
    for o in node.names:
        source = o.name.removeprefix(f'{package}.')
        if source in names and source != o.name:
            yield Import(module.name, source, '', o.asname or o.name, inside, node.lineno)

def imports_of(
    module:Module,
    names,         # of all modules
):
    "What a module takes from others of the package, wherever it does so"
    functions = [o for o in ast.walk(module.tree) if isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inside = {id(o) for f in functions for o in ast.walk(f)}
    found = []
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom): found += _from(module, node, names, id(node) in inside)
        elif isinstance(node, ast.Import): found += _plain(module, node, names, id(node) in inside)
    return found

# -- circles -------------------------------------------------------------------------------------------------------

def _reach(start, arrows):
    "What can be reached from `start` by at least one arrow"
    seen, todo = set(), list(arrows[start])
    while todo:
        o = todo.pop()
        if o not in seen:
            seen.add(o)
            todo += arrows[o]
    return seen

def circles(
    imports, # of all modules
):
    "Groups of modules that import each other, each sorted"
    arrows = defaultdict(set)
    for o in imports:
        if o.module != o.source: arrows[o.module].add(o.source)
    reach = {o: _reach(o, arrows) for o in list(arrows)}
    groups = {tuple(sorted(p for p in reach[o] if o in reach.get(p, ()))) for o in reach if o in reach[o]}
    return sorted(groups)

# -- names ---------------------------------------------------------------------------------------------------------

def _is_private(name): return name.startswith('_') and not name.endswith('__')

def _own_names(tree):
    "Names that a module, its classes and its functions give themselves"
    own = set()
    for o in ast.walk(tree):
        if isinstance(o, (ast.FunctionDef, ast.ClassDef)): own.add(o.name)
        elif isinstance(o, ast.Name) and isinstance(o.ctx, ast.Store): own.add(o.id)
        elif isinstance(o, ast.Attribute) and isinstance(o.ctx, ast.Store): own.add(o.attr)
        elif isinstance(o, ast.arg): own.add(o.arg)
    return own

def _owner(node, module, imports, owned):
    "Whose private name `x._name` is, if it is another module's of the package; those imported are asked first"
    aliases = {o.local: o.source for o in imports if not o.name}
    if isinstance(node.value, ast.Name) and node.value.id in aliases: return aliases[node.value.id]
    if node.attr in owned[module]: return None
    near = [o.source for o in imports if node.attr in owned.get(o.source, ())]
    return next((o for o in [*near, *owned] if node.attr in owned.get(o, ())), None)

def private_uses(
    modules:dict, # from `read_package`
    imports,      # of all modules
):
    "(module, name, owner) of each private name that one module takes from another: imported, or read as an attribute"
    owned = {k: {o for o in _own_names(m.tree) if _is_private(o)} for k, m in modules.items()}
    found = {(o.module, o.name, o.source) for o in imports if _is_private(o.name)}
    for k, m in modules.items():
        mine = [o for o in imports if o.module == k]
        for o in ast.walk(m.tree):
            owner = _owner(o, k, mine, owned) if isinstance(o, ast.Attribute) and _is_private(o.attr) else None
            if owner: found.add((k, o.attr, owner))
    return sorted(found)

def _defined(module):
    "Public names that a module defines at its top level: class, function or value; patched methods are none"
    for o in module.tree.body:
        if isinstance(o, (ast.FunctionDef, ast.ClassDef)):
            decorators = {ast.unparse(d).split('(')[0] for d in o.decorator_list}
            if not decorators & {'patch', 'ToTensor', 'dispatch', 'typedispatch'}: yield o.name
        elif isinstance(o, ast.Assign):
            for t in o.targets: yield from (n.id for n in ast.walk(t) if isinstance(n, ast.Name))

def _listed(module):
    "The names of a module's `__all__`"
    for o in module.tree.body:
        if isinstance(o, ast.Assign) and getattr(o.targets[0], 'id', '') == '__all__':
            try: return set(ast.literal_eval(o.value))
            except ValueError: return set()
    return set()

def doubles(
    modules:dict, # from `read_package`
):
    "Public name -> the modules that define it, where these are two or more, or where a module is called like it too"
    found = defaultdict(list)
    for k, m in modules.items():
        if k == 'cli': continue
        for name in {*_defined(m)} & _listed(m): found[name].append(k)
    for k in modules:
        name = k.split('.')[-1]
        if name in found: found[name].append(f'the module {k}')
    return {k: sorted(v) for k, v in sorted(found.items()) if len(v) > 1}

# -- lengths -------------------------------------------------------------------------------------------------------

def long_lines(
    module:Module,
):
    "(line number, columns) of the lines that are too long; nbdev breaks those of `__all__`, so they do not count"
    listed = set()
    for o in module.tree.body:
        if isinstance(o, ast.Assign) and getattr(o.targets[0], 'id', '') == '__all__':
            listed.update(range(o.lineno, o.end_lineno + 1))
    return [(i, len(o)) for i, o in enumerate(module.lines, 1) if len(o) > COLUMNS and i not in listed]

def dense_lines(
    module:Module,
):
    "(line number, tokens) of the lines of functions that do too much at once"
    inside = set()
    for o in ast.walk(module.tree):
        if isinstance(o, ast.FunctionDef): inside.update(range(o.body[0].lineno, o.end_lineno + 1))
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    begins, ends = (getattr(tokenize, f'FSTRING_{o}', None) for o in ('START', 'END'))   # from Python 3.12 on
    n, depth = Counter(), 0
    for o in tokenize.generate_tokens(io.StringIO('\n'.join(module.lines) + '\n').readline):
        if not depth and o.type not in silent: n[o.start[0]] += 1
        depth += (o.type == begins) - (o.type == ends)
    return [(i, k) for i, k in sorted(n.items()) if k > TOKENS and i in inside]

def body_lines(
    function, # from `ast`
    lines,    # of its module
):
    "How many lines the body of a function has, without docstring, blank lines and comments"
    body = function.body
    is_docstring = isinstance(body[0], ast.Expr) and isinstance(getattr(body[0], 'value', None), ast.Constant)
    body = body[1:] if is_docstring else body
    if not body: return 0
    own = lines[body[0].lineno - 1:function.end_lineno]
    return sum(bool(o.strip()) and not o.strip().startswith('#') for o in own)

def long_functions(
    module:Module,
):
    "(name, lines) of the functions that are too long"
    functions = [o for o in ast.walk(module.tree) if isinstance(o, (ast.FunctionDef, ast.AsyncFunctionDef))]
    sized = [(o.name, body_lines(o, module.lines)) for o in functions]
    return [o for o in sized if o[1] > FUNCTION]

# -- the table -----------------------------------------------------------------------------------------------------

def count(
    root:Path, # a checkout
):
    "What was found in a checkout: measure -> list of finds, each in words"
    modules = read_package(root)
    imports = [o for m in modules.values() for o in imports_of(m, set(modules))]
    between = {(o.module, o.source) for o in imports if o.module not in (o.source, 'all')}
    found = {'circles of imports': [' <-> '.join(o) for o in circles(imports)]}
    by_hand = {(o.module, o.source) for o in imports if o.inside and o.module not in ('cli', 'app')}
    found['imports inside functions'] = [f'{a} imports {b}' for a, b in sorted(by_hand)]
    found['private names of another module'] = [f'{a} uses {n} of {b}' for a, n, b in private_uses(modules, imports)]
    found['names of two meanings'] = [f'{k}: {", ".join(v)}' for k, v in doubles(modules).items()]
    found[f'lines over {COLUMNS} columns'] = [f'{k}:{i} has {n}' for k, m in modules.items() for i, n in long_lines(m)]
    found[f'lines over {TOKENS} tokens'] = [f'{k}:{i} has {n}' for k, m in modules.items() for i, n in dense_lines(m)]
    found[f'functions over {FUNCTION} lines'] = [
        f'{k}.{name} has {n}' for k, m in modules.items() for name, n in long_functions(m)]
    sizes = {k: len(m.lines) for k, m in modules.items()}
    for limit in (MODULE, MODULE_MAX):
        found[f'modules over {limit} lines'] = [f'{k} has {n}' for k, n in sizes.items() if n > limit]
    found['(modules)'] = sorted(modules)
    found['(lines)'] = [None]*sum(sizes.values())
    found['(arrows between modules)'] = [f'{a} -> {b}' for a, b in sorted(between)]
    return found

def table(
    roots, # checkouts
):
    "Lines of a table: a row a measure, a column a checkout"
    counts = [count(o) for o in roots]
    names = [Path(o).resolve().name for o in roots]
    width = max(map(len, counts[0]))
    yield f'{"":{width}}  ' + '  '.join(f'{o:>10}' for o in names)
    for k in counts[0]:
        cells = [f'{len(o[k]):>{max(10, len(n))}}' for o, n in zip(counts, names)]
        yield f'{k:{width}}  ' + '  '.join(cells)

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    p.add_argument('path', nargs='*', type=Path, default=[ROOT], help='checkouts; this one if none is given')
    p.add_argument('-v', '--verbose', action='store_true', help='name every find of the last checkout')
    args = p.parse_args(argv)
    for o in args.path:
        if not (o/'gaugan_fastai').is_dir(): sys.exit(f'{o} is no checkout: there is no gaugan_fastai in it')
    print('\n'.join(table(args.path)))
    if not args.verbose: return
    for k, v in count(args.path[-1]).items():
        if not k.startswith('('): print(f'\n{k}', *v, sep='\n  ')

if __name__ == '__main__': main()

#!/usr/bin/env python
"""Run the lessons in place and keep their outputs.

    python tools/run_nbs.py                          all of nbs/, one after the other
    python tools/run_nbs.py -j 2 nbs/70_core.ipynb nbs/20_layers.ipynb
    python tools/run_nbs.py --dry nbs/*.ipynb        run, write nothing: a test
    python tools/run_nbs.py --check nbs/70_core.ipynb    the same, and fail unless the stored outputs came out again
    python tools/run_nbs.py --flags "shared gpu" nbs/27_learner.ipynb

Exactly those cells run that `nbdev-test` would run: `#| eval: false` and the cells flagged `slow`, `gpu` or `shared`
(`tst_flags` in pyproject.toml) are left out unless `--flags` asks for them, and keep the outputs they have. Every
notebook gets a kernel process of its own, started in the folder of the notebooks. A notebook is written, cleaned by
nbdev, only when all its cells succeeded; after an error the file is left as it was.
"""
import argparse, os, re, sys, tempfile, time, traceback
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENV = dict(OMP_NUM_THREADS='1', PYTHONHASHSEED='0', PYTHONWARNINGS='ignore::FutureWarning', IN_TEST='1')
_ansi = re.compile(r'\x1b\[[0-9;]*m')

def cells_to_run(
    fn:Path,         # a notebook
    flags:list=(),   # flags whose cells run although pyproject.toml skips them
):
    "The ids of the cells that `nbdev-test` would run"
    from nbdev.config import get_config
    from nbdev.test import nb_test_cells
    skip = get_config(fn.parent).tst_flags
    return {c['id'] for c in nb_test_cells(fn, skip.split() if isinstance(skip, str) else skip, list(flags))}

def without_paths(
    text:str,        # what a cell printed
):
    "`text` with the folder of the project and the names of temporary folders taken out"
    tmp = re.escape(tempfile.gettempdir())
    text = re.sub(rf'{tmp}/tmp\w{{8}}(/|\b)', r'TMP\1', text)
    text = text.replace(f'{ROOT}/', '').replace(str(ROOT), '.')
    return re.sub(rf'{re.escape(sys.prefix)}/lib/python[\d.]+/site-packages/', '', text)

def _tidy_text(o): return without_paths(o) if isinstance(o, str) else [without_paths(l) for l in o]

_bar = re.compile(r'<div>\s*<progress.*?</div>|<progress.*?</progress>'
    r'|<style>(?:(?!</style>).)*progress.*?</style>', re.DOTALL)

def _live(data):
    "Is this output a widget or progress bar, with nothing in it to keep? Takes the bar out of a table of losses"
    if 'application/vnd.jupyter.widget-view+json' in data: return True
    if 'text/html' not in data: return False
    html, n = _bar.subn('', ''.join(data['text/html']))
    if n: data['text/html'] = html
    if n: data.pop('text/markdown', None), data.update({'text/plain': '<IPython.core.display.HTML object>'})
    return not html.strip()

def tidy_outputs(
    outputs:list,    # the outputs of one cell, as nbformat keeps them
):
    "The outputs worth keeping, the same at every run, and the stderr text that was dropped"
    kept, dropped = [], []
    for o in outputs:
        data = o.get('data', {})
        if o.output_type == 'stream' and o.name == 'stderr': dropped.append(''.join(o.text))
        elif _live(data): pass
        elif o.output_type == 'stream' and kept and kept[-1].get('name') == o.name:
            kept[-1]['text'] += _tidy_text(o.text)
        else:
            if 'text' in o: o['text'] = _tidy_text(o.text)
            for k in data:
                if k.startswith('text/'): data[k] = _tidy_text(data[k])
            kept.append(o)
    return kept, ''.join(dropped)

def _stderr_worth_telling(text): return [l for l in text.splitlines() if l.strip() and '\r' not in l and '%|' not in l]

def execute(
    fn:Path,          # the notebook
    flags:list=(),    # see `cells_to_run`
    timeout:int=300,  # seconds a cell may take
):
    "The executed notebook and what its cells wrote to stderr; raises nbclient's CellExecutionError"
    import nbformat
    from nbclient import NotebookClient
    nb, run = nbformat.read(fn, as_version=4), cells_to_run(fn, flags)
    where = dict(metadata=dict(path=str(fn.parent)))
    client = NotebookClient(
        nb, timeout=timeout, kernel_name='python3', extra_arguments=['--log-level=40'], resources=where)
    told = []
    with tempfile.TemporaryDirectory() as home:            # no profile and no history of this machine's user
        os.environ['IPYTHONDIR'] = home
        with client.setup_kernel():
            for i,cell in enumerate(nb.cells):
                if cell.cell_type != 'code' or cell.id not in run: continue
                client.execute_cell(cell, i)
                cell.outputs, err = tidy_outputs(cell.outputs)
                told += _stderr_worth_telling(err)
    return nb, told

def _store(nb, fn):
    "Write `nb`, cleaned by nbdev, over `fn` in one step"
    import nbformat
    from nbdev.clean import nbdev_clean
    nb.metadata.pop('jupytext', None)
    nb.metadata['kernelspec'] = dict(display_name='python3', language='python', name='python3')
    tmp = fn.with_name(f'_{fn.stem}_{os.getpid()}.ipynb')  # nbdev passes over names that begin with _
    try:
        nbformat.write(nb, tmp)
        nbdev_clean(fname=str(tmp))
        text = tmp.read_text(encoding='utf-8')
        if text != fn.read_text(encoding='utf-8'): os.replace(tmp, fn)
    finally: tmp.unlink(missing_ok=True)

def _differing_cells(nb, fn):
    "The numbers of the cells whose outputs are not those stored in `fn`, both cleaned"
    import nbformat
    from nbdev.clean import clean_nb
    from fastcore.nbio import read_nb
    with tempfile.TemporaryDirectory() as d:
        nbformat.write(nb, Path(d)/fn.name)
        new, old = read_nb(Path(d)/fn.name), read_nb(fn)
    for o in (new, old): clean_nb(o)
    pairs = enumerate(zip(new.cells, old.cells))
    return [i for i, (a, b) in pairs if a.get('outputs', []) != b.get('outputs', [])]

def run_notebook(
    fn:Path,            # the notebook
    flags:list=(),      # see `cells_to_run`
    mode:str='write',   # 'write' | 'dry': write nothing | 'check': as dry, and the stored outputs must come out again
    timeout:int=300,    # seconds a cell may take
):
    "Run `fn`; return (did it succeed, a report in words)"
    from nbclient.exceptions import CellExecutionError
    fn, start = Path(fn).resolve(), time.time()
    os.chdir(fn.parent)
    secs = lambda: f'{time.time()-start:6.1f} s'
    try: nb, told = execute(fn, flags, timeout)
    except CellExecutionError as e: return False, f'FAILED {secs()}  {fn.name}\n{_ansi.sub("", str(e))}'
    except Exception: return False, f'FAILED {secs()}  {fn.name}\n{traceback.format_exc()}'
    differ = _differing_cells(nb, fn) if mode == 'check' else []
    if mode == 'write': _store(nb, fn)
    words = [f'{"DIFFER" if differ else "ok    "} {secs()}  {fn.name}'] + [f'    stderr: {o}' for o in told]
    if differ: words.append(f'    other outputs than the stored ones in cells {differ} (counted from 0)')
    return not differ, '\n'.join(words)

def main(argv=None):
    "Run the notebooks of the command line; 0 if all succeeded"
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('notebooks', nargs='*', type=Path, help='notebooks; all of nbs/ without any')
    p.add_argument('-j', '--jobs', type=int, default=1, help='notebooks that run at the same time (default: 1)')
    p.add_argument('--flags', default='', help='flags, such as "shared gpu", whose cells run too')
    p.add_argument('--timeout', type=int, default=300, help='seconds that one cell may take (default: 300)')
    p.add_argument('--dry', dest='mode', action='store_const', const='dry', default='write', help='write nothing')
    same = 'write nothing, and fail unless the stored outputs came out again'
    p.add_argument('--check', dest='mode', action='store_const', const='check', help=same)
    args = p.parse_args(argv)
    fns = args.notebooks or sorted(o for o in (ROOT/'nbs').glob('*.ipynb') if o.name[0] not in '_.')
    missing = [str(o) for o in fns if not o.is_file()]
    if missing: p.error(f'no such notebook: {", ".join(missing)}')
    os.environ.update(ENV)
    good = 0
    with ProcessPoolExecutor(args.jobs, mp_context=get_context('spawn')) as ex:
        todo = [ex.submit(run_notebook, fn.resolve(), args.flags.split(), args.mode, args.timeout) for fn in fns]
        for f in as_completed(todo):
            ok, words = f.result()
            good += ok
            print(words, flush=True)
    if len(fns) > 1: print(f'{good} of {len(fns)} notebooks ran through')
    return int(good < len(fns))

if __name__ == '__main__': sys.exit(main())

"""Run lessons dry, one after the other, each in a fork of a process that has imported already what all of them import.

Most lessons take a second or two, and half a dozen to import torch and fastai and to start a kernel. `python
tests/quick_lessons.py` reads the path of a notebook from each line of stdin and answers with a line of JSON: did it run
through, and what was wrong. A lesson still has a process of its own: nothing that it patches or seeds reaches another."""
import contextlib, io, json, os, signal, subprocess, sys, tempfile, traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT/'tools'))
from run_nbs import ENV, cells_to_run

SECONDS = 300   # that a cell may take

class Lessons:
    "The process that forks; asked by the tests"
    def __init__(self):
        command, env = [sys.executable, __file__], os.environ | ENV | dict(MPLBACKEND='agg')
        self.server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def __call__(self, fn):
        "(did it run through, what was wrong)"
        print(fn, file=self.server.stdin, flush=True)
        return json.loads(self.server.stdout.readline() or '[false, "the server is gone"]')

    def close(self):
        self.server.stdin.close()
        self.server.wait()

def import_what_is_slow():
    import fastai.vision.all, IPython, matplotlib.pyplot, matplotlib_inline.backend_inline, nbdev.test
    import scipy.stats, torch.onnx, torchmetrics

def shell():
    "An IPython in the main thread, as a kernel's, that writes nothing down"
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config
    config = Config()
    config.HistoryManager.enabled = False
    return InteractiveShell.instance(config=config)

def run(fn):
    "Run the cells that the lesson's own tests would run; None, or what was wrong with the first that failed"
    run_cell, ids = shell().run_cell, cells_to_run(fn)
    cells = json.loads(fn.read_text(encoding='utf-8'))['cells']
    for i, source in [(i, ''.join(c['source'])) for i, c in enumerate(cells) if c['id'] in ids]:
        signal.alarm(SECONDS)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()): res = run_cell(source)
        error = res.error_before_exec or res.error_in_exec
        if error: return f'{fn.name}, cell {i}\n{source}\n' + ''.join(traceback.format_exception(error))

def answer(fn, pipe):
    "In the fork: run a lesson, tell the server, and end as any process does"
    with open(os.devnull, 'w') as nowhere:
        for o in (1, 2): os.dup2(nowhere.fileno(), o)
    signal.signal(signal.SIGINT, signal.default_int_handler)   # as a kernel has it; a job in the background has none
    os.chdir(fn.parent)
    sys.path[:] = ['', *(o for o in sys.path[1:] if o != str(ROOT/'tools'))]
    with tempfile.TemporaryDirectory() as os.environ['IPYTHONDIR']: wrong = run(fn)
    signal.alarm(30)   # to end in
    with os.fdopen(pipe, 'w') as out: out.write(json.dumps([wrong is None, wrong or '']) + '\n')

def main():
    import_what_is_slow()
    for line in sys.stdin:
        mine, its = os.pipe()
        pid = os.fork()
        if not pid: return answer(Path(line.strip()), its)
        os.close(its)
        with os.fdopen(mine) as o: told = o.readline()
        _, status = os.waitpid(pid, 0)
        print(told.strip() or json.dumps([False, f'the lesson ended with status {status}']), flush=True)

if __name__ == '__main__': main()

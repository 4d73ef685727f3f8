"Semantic image synthesis with fastai: paint a label map, a network paints the photograph."
import importlib, importlib.util, sys, warnings
from importlib.machinery import PathFinder
from importlib.metadata import version

__version__ = version('gaugan_fastai')

class _Moved:
    "Finds modules that moved into `fast` under their old names too: scripts and exported learners may hold these"
    names = {f'gaugan_fastai.{o}': f'gaugan_fastai.fast.{o}' for o in 'convs modulation pixels reads winograd'.split()}

    @classmethod
    def find_spec(cls, name, *_): return importlib.util.spec_from_loader(name, cls) if name in cls.names else None

    @staticmethod
    def create_module(spec): return None

    @classmethod
    def exec_module(cls, module): sys.modules[module.__name__] = importlib.import_module(cls.names[module.__name__])

class _Quiet:
    "Lets `fastai.layers` be imported without the `FutureWarning`s of torch about fastai's own `torch.jit.script`"
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name != 'fastai.layers': return None
        spec = PathFinder.find_spec(name, path)
        if spec and spec.loader: spec.loader.exec_module = cls.quietly(spec.loader.exec_module)
        return spec

    @staticmethod
    def quietly(run):
        def exec_module(module):
            with warnings.catch_warnings():
                warnings.filterwarnings('ignore', r'.torch\.jit\.', FutureWarning)
                run(module)
        return exec_module

for _finder in (_Moved, _Quiet):
    if _finder not in sys.meta_path: sys.meta_path.insert(0, _finder)

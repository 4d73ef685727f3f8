"Semantic image synthesis with fastai: paint a label map, a network paints the photograph."
import importlib, importlib.util, sys
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

if _Moved not in sys.meta_path: sys.meta_path.insert(0, _Moved)

"Semantic image synthesis with fastai: paint a label map, a network paints the photograph."
from importlib.metadata import version

__version__ = version('gaugan_fastai')

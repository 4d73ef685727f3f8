"""Options read off a function, and what a family says of its data."""
import argparse, inspect
from functools import wraps
from pathlib import Path
from typing import Optional
import numpy as np, pytest
from gaugan_fastai import registry
from gaugan_fastai.core import InputError
from gaugan_fastai.data.paired import PairedDataLoaders, mark_of
from gaugan_fastai.data.unpaired import UnpairedDataLoaders
from gaugan_fastai.finetune import Match, tell_start
from gaugan_fastai.keeping import data_facts, settings_of
from gaugan_fastai.models.pix2pix import UNetGenerator
from gaugan_fastai.options import Option, add_option, amount, count, options_of, or_none, part, reader_for
from gaugan_fastai.registry import Family, Source, register_data, source_of, sources

empty = inspect.Parameter.empty

@pytest.mark.parametrize('anno, default, text, value', [(int, 3, '4', 4), (int|None, None, 'none', None), (int|None, 3, '4', 4), (Optional[float], .9, 'none', None),
    (float, 0., '0', 0.), (float, 1., '2.5', 2.5), (str, 'a', 'none', 'none'), (empty, 'hinge', 'bce', 'bce'), (empty, 3, '4', 4), (Path, empty, 'x', Path('x')),
    (str|None, 'a', 'none', None)], ids=str)
def test_readers_of_annotations(anno, default, text, value): assert reader_for(anno, default)(text) == value

@pytest.mark.parametrize('anno, default', [(empty, empty), (empty, None), (dict, None), (dict|None, None), (callable, None), (int|str, 3), (list, empty), (empty, [1])], ids=str)
def test_what_nobody_can_type(anno, default): assert reader_for(anno, default) is None

def test_amount_and_none():
    assert amount('0') == 0 and or_none(part)('none') is None and or_none(part)('.5') == .5 and or_none(count).__name__ == 'count'
    for bad in ('-1', 'nan', 'inf', 'x'):
        with pytest.raises(argparse.ArgumentTypeError, match='from 0 on'): amount(bad)

def learner(
    dls, # data
    ngf:int=8, # width
    share:float=.5, # a part
    noise:bool=False, # go on?
    skips:bool=True, # skip connections?
    cbs=None, # callbacks
    **kwargs
): "Make nothing"

def test_options_of_a_function():
    found = {o.name: o for o in options_of(learner, dict(share=part, noise=None))}
    assert list(found) == ['ngf', 'share', 'skips'] and found['share'] == Option('share', part, 'a part', .5)
    @wraps(learner)
    def wrapped(*args, **kwargs): return learner(*args, **kwargs)
    assert [o.name for o in options_of(wrapped)] == ['ngf', 'share', 'noise', 'skips']

def test_options_of_a_parser(capsys):
    p = argparse.ArgumentParser()
    for o in options_of(learner): add_option(p, o, hidden=o.name == 'share')
    assert vars(p.parse_args([])) == {} and vars(p.parse_args(['--no-skips', '--noise', '--ngf', '3', '--share', '1'])) == dict(skips=False, noise=True, ngf=3, share=1.)
    words = p.format_help()
    assert 'width (default: 8)' in words and 'without it: skip connections?' in words and '--share' not in words
    with pytest.raises(SystemExit): p.parse_args(['--ngf', '0'])
    assert "'0' is not a whole number above 0" in capsys.readouterr().err

# -- data --------------------------------------------------------------------------------------------------------

def test_data_are_registered(monkeypatch):
    registry.load_families()
    assert {'pairs', 'two heaps'} <= set(sources) and sources['two heaps'].make == UnpairedDataLoaders.from_folders
    monkeypatch.setattr(registry, 'sources', sources.copy())
    register_data('three', lambda *o: o, 3, 'three folders', size=(8, 8), bs=2)
    found = source_of(Family('x', learner, None, None, 'three', {}, None))
    assert isinstance(found, Source) and (found.size, found.bs, found.make(1, 2)) == ((8, 8), 2, (1, 2))
    found.check_paths('abc')
    with pytest.raises(InputError, match='2 folders were given \\(a, b\\): this model learns from 3: three folders'): found.check_paths('ab')
    with pytest.raises(InputError, match="learns from 'four': known are"): source_of(Family('x', learner, None, None, 'four', {}, None))

def test_what_pairs_say():
    dls = PairedDataLoaders.from_landscapes(n=4, n_valid=2, size=(32, 48), bs=2)
    assert dls.tell() == '4 pairs to train, 2 to validate, 19 classes, 32x48' and dls.describe() == '4 pairs at 32x48 (height x width)'
    assert dls.card() == dict(labels=dls.labels, size=[32, 48]) and settings_of(dls, dict(a=1)) == dict(size=[32, 48], classes=dls.codes, edges=False, a=1)
    assert data_facts(dls) == dict(folder=None, pairs=4, mark=mark_of(dls.train_ds.items))

def test_what_heaps_say():
    dls = UnpairedDataLoaders.from_landscapes(n=4, n_valid=2, size=32, bs=2)
    assert dls.tell() == '4 photos of A and 4 of B to train, 2 of A to validate, 32x32' and settings_of(dls, {}) == dict(size=[32, 32])
    facts = data_facts(dls)
    assert facts['folder'] is None and facts['photos of B'] == 4 and len(facts['mark']) == 16 and dls.card() == dict(size=[32, 32])
    a, b = dls.heaps()
    turned = UnpairedDataLoaders.from_photos(b, a, [(b[0], a[0])], size=32, bs=2)
    assert turned.facts()['mark'] == facts['mark'][8:] + facts['mark'][:8] != facts['mark']
    assert len(dls.new_empty().photos_b) == 0

def test_a_fingerprint(tmp_path):
    for name, n in dict(a=3, b=5).items(): (tmp_path/name).write_bytes(b'x'*n)
    items = [(tmp_path/'a', None), (tmp_path/'b', np.zeros(3))]
    assert mark_of(items) == mark_of(items[::-1]) != mark_of(items[:1]) and len(mark_of(items)) == 16
    assert mark_of([(tmp_path/'a', np.zeros(3))]) != mark_of([(tmp_path/'a', np.ones(3))])

def test_data_that_say_nothing():
    with pytest.raises(InputError, match='these int do not say what they are'): settings_of(3, {})

def test_tell_start():
    net = UNetGenerator(2, 2, levels=2)
    assert tell_start(net) == ''
    net.matches = [Match('sky', 'sky', 'name'), Match('pier', None, 'new')]
    assert tell_start(net).startswith('1 of 2 classes come from the checkpoint')

"""A device that is not there: tensors on it lie in ordinary memory, but no operation lets them meet tensors of the CPU.

On a machine without a GPU it finds what would fail on one with "expected all tensors to be on the same device", and
counts where a program would wait for a GPU:

    with Pretend() as seen:
        model.to('pretend')
        segmap, photo = segmap.to('pretend'), photo.to('pretend')
        ...                                         # a training step
    seen.waits                                      # {(what is waited for, 'file.py:line'): how often}
    seen.by_place()                                 # lines to print, the most frequent first

`is_cuda` is true, so code that asks takes its branch for CUDA. What it cannot see: kernels (an operation that CUDA
lacks, or computes otherwise), types that autocast chooses, streams, memory, pinned memory, `torch.compile`, fused
optimisers, and what `torch.load` does with a device.
"""
import sys
from functools import cache
from pathlib import Path
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend('pretend')
torch.pretend.get_amp_supported_dtype = lambda *args: [torch.bfloat16, torch.float16]
torch.pretend.get_rng_state = lambda *args: torch.get_rng_state()   # it draws from the CPU's numbers
torch.pretend.set_rng_state = lambda *args: None
_device, _lib, aten = torch.device('pretend', 0), torch.library.Library('aten', 'IMPL'), torch.ops.aten
_torch = str(Path(torch.__file__).parent)

def tree_map(f, o):
    "`f` of what lists, tuples and dicts hold"
    if type(o) in (list, tuple): return type(o)([tree_map(f, i) for i in o])
    if isinstance(o, tuple): return type(o)(tree_map(f, tuple(o)))   # named results, such as those of max
    if isinstance(o, dict): return {k: tree_map(f, v) for k, v in o.items()}
    return f(o)

def tree_leaves(o):
    res = []
    tree_map(res.append, o)
    return res

class MeetingError(RuntimeError): "Tensors of two devices in one operation"

class Far(torch.Tensor):
    "A tensor that says it is on the device 'pretend'; `near` holds its numbers"
    @staticmethod
    def __new__(cls, near):
        how = dict(strides=near.stride(), storage_offset=near.storage_offset(), dtype=near.dtype,
            requires_grad=near.requires_grad)
        new = torch.Tensor._make_wrapper_subclass(cls, near.size(), device=_device, **how)
        new.near = near
        return new

    def __init__(self, *args, **kwargs): pass   # TensorBase gives facts about its data
    is_cuda = property(lambda self: True)
    def __repr__(self, **kwargs): return f'Far({self.near})'
    def data_ptr(self): return self.near.data_ptr()
    def __reduce_ex__(self, proto): return self.near.detach().__reduce_ex__(proto)   # files hold plain tensors
    def __deepcopy__(self, memo):
        if id(self) not in memo: memo[id(self)] = self._copied()
        return memo[id(self)]
    def _copied(self):
        copy = Far(self.near.detach().clone())
        if isinstance(self, torch.nn.Parameter): return torch.nn.Parameter(copy, self.requires_grad)
        return copy.requires_grad_(self.requires_grad)

    def tolist(self):
        _note('read to the CPU')
        return self.near.tolist()
    def numpy(self, **kwargs):
        raise TypeError("can't convert a tensor of the device 'pretend' to numpy: call .cpu() first")
    def __array__(self, *args, **kwargs): return self.numpy()

    def as_subclass(self, cls):
        "Types of fastai come along: a `TensorImage` that is far away"
        if issubclass(cls, Far): cls = getattr(cls, 'typ', torch.Tensor)
        if getattr(type(self), 'typ', torch.Tensor) is cls: return self
        with torch._C.DisableTorchFunctionSubclass(): plain = aten.alias.default(self)
        if cls is torch.Tensor: return plain
        assert not plain.requires_grad, 'gradients do not pass through as_subclass here'
        return _typed(cls)(plain.near)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None): return _run(func, args, kwargs or {})

@cache
def _typed(typ):
    "The class of far tensors of a type of fastai"
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass(): res = func(*args, **(kwargs or {}))
        keep = lambda o: o.as_subclass(typ) if isinstance(o, torch.Tensor) and not o.requires_grad else o
        return res if func in torch.overrides.get_default_nowrap_functions() else tree_map(keep, res)
    def set_meta(self, x, as_copy=False): self.__dict__.update({k: v for k, v in x.__dict__.items() if k != 'near'})
    methods = dict(typ=typ, set_meta=set_meta, __torch_function__=classmethod(__torch_function__))
    return type(f'Far{typ.__name__}', (Far, typ), methods)

# -- where a GPU is waited for -------------------------------------------------------------------------------------

def _own_line():
    "The nearest place that is not torch's own: 'folder/file.py:line'"
    frame = sys._getframe(2)
    while frame.f_back and (_is_torchs(frame.f_code.co_filename)): frame = frame.f_back
    return f'{"/".join(Path(frame.f_code.co_filename).parts[-2:])}:{frame.f_lineno}'

def _is_torchs(filename): return filename.startswith(_torch) or filename == __file__ or not filename.startswith('/')

def _note(what):
    if Pretend.current is None: return
    waits, key = Pretend.current.waits, (what, _own_line())
    waits[key] = waits.get(key, 0) + 1

_counting = {aten.nonzero.default: 'nonzero', aten.masked_select.default: 'masked_select',
    aten.equal.default: 'equal', aten.bincount.default: 'bincount',
    aten.multinomial.default: 'multinomial', aten._unique2.default: 'unique', aten.unique_dim.default: 'unique',
    aten.unique_consecutive.default: 'unique',
    aten._local_scalar_dense.default: 'read to the CPU'}
_indexing = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default,
    aten._unsafe_index.Tensor}
_copying = {aten.copy_.default, aten._foreach_copy_.default}

def _what_waits(func, args, kwargs, tensors):
    "What is waited for, or None; sizes that depend on numbers have to be read, and copies end before they return"
    if func in _counting: return _counting[func]
    if func is aten.repeat_interleave.Tensor and kwargs.get('output_size') is None: return 'repeat_interleave'
    if func in _copying and not all(map(_is_far, tensors)):
        return 'copy to the CPU' if not _is_far(tensors[0]) else 'copy from the CPU'
    if func not in _indexing: return None
    if any(o.dtype == torch.bool for o in tree_leaves(args[1]) if o is not None): return 'a mask as index'
    if any(not _is_far(o) for o in tree_leaves(args[1]) if o is not None): return 'an index of the CPU'

# -- how an operation runs -----------------------------------------------------------------------------------------

def _is_far(o): return isinstance(o, Far)
def _is_ours(device): return torch.device(device).type == 'pretend'
def _near(o): return o.near if _is_far(o) else torch.device('cpu') if isinstance(o, torch.device) else o

def _move(x, device=None, non_blocking=False, pin_memory=None, **kwargs):
    "`x.to(device, dtype)`; unless told otherwise, a copy from one device to the other is waited for"
    to_far = _is_far(x) if device is None else _is_ours(device)
    if _is_far(x) != to_far and not (to_far and non_blocking):
        _note('copy from the CPU' if to_far else 'copy to the CPU')
    res = aten._to_copy.default(_near(x), **kwargs)
    return Far(res) if to_far else res

def _check(func, args, kwargs, tensors):
    "Raise `MeetingError` where CUDA would refuse; single numbers of the CPU may come along, and indices"
    strangers = [o for o in tensors if not _is_far(o) and o.ndim]
    if func in _indexing and _is_far(args[0]):
        strangers = [o for o in strangers if not any(o is i for i in tree_leaves(args[1]))]
    if strangers and func not in _copying:
        shapes = [tuple(o.shape) for o in strangers]
        raise MeetingError(f'{func}: tensors of the CPU, {shapes}, meet tensors of the device')

def _run(func, args, kwargs):
    if func is aten._to_copy.default: return _move(*args, **kwargs)
    tensors = [o for o in tree_leaves((args, kwargs)) if isinstance(o, torch.Tensor)]
    far, device = any(map(_is_far, tensors)), kwargs.get('device')
    if far: _check(func, args, kwargs, tensors)
    if far and (what := _what_waits(func, args, kwargs, tensors)): _note(what)
    to_far = far if device is None else _is_ours(device)
    source = kwargs.get('generator')
    if to_far and source is not None:
        raise MeetingError(f'{func}: a generator of the {source.device} draws for the device')
    known = {id(o.near): o for o in tensors if _is_far(o)}
    if 'device' in kwargs: kwargs = {**kwargs, 'device': torch.device('cpu')}
    res = func(*tree_map(_near, args), **tree_map(_near, kwargs))
    def wrap(o):
        if not isinstance(o, torch.Tensor) or _is_far(o): return o
        return known[id(o)] if id(o) in known else Far(o) if to_far else o
    return tree_map(wrap, res)

class Pretend(TorchDispatchMode):
    "Make the device 'pretend' usable inside; `waits` counts by place where a GPU would be waited for, in any thread"
    current = None
    def __init__(self):
        super().__init__()
        self.waits = {}
    def __enter__(self):
        Pretend.current = self
        return super().__enter__()
    def __exit__(self, *exc):
        Pretend.current = None
        return super().__exit__(*exc)
    def __torch_dispatch__(self, func, types, args=(), kwargs=None): return _run(func, args, kwargs or {})
    def by_place(self):
        return [f'{n:4} {what} ({where})' for (what, where), n in sorted(self.waits.items(), key=lambda o: -o[1])]

# for threads, which no mode reaches: those of the user and those of autograd
def _empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return Far(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))
def _empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return Far(torch.empty_strided(size, stride, dtype=dtype))
def _copy_from(a, b, non_blocking=False):
    if _is_far(a) != _is_far(b) and not (_is_far(b) and non_blocking):
        _note('copy from the CPU' if _is_far(b) else 'copy to the CPU')
    _near(b).copy_(_near(a))
    return b
_lib.impl('empty.memory_format', _empty, 'PrivateUse1')
_lib.impl('empty_strided', _empty_strided, 'PrivateUse1')
_lib.impl('_copy_from', _copy_from, 'PrivateUse1')

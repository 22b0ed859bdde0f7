"""The functions that a policy file may call, and what is done in their place.

A pickle makes what is no plain object by calling a function: a tensor, an array, a generator, a set. Those in the table
here are understood, each by a few lines of our own that check the arguments; the functions themselves are not called.
No other function is. Knows no files.
"""

from __future__ import annotations

import collections
import functools
import pathlib
import types
from collections import OrderedDict
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

import torch

from perdure.persistence.reading._allowlist import method_of, not_run
from perdure.persistence.reading._building import (
    GENERATOR_COST,
    ITEM_COST,
    Builder,
    Context,
    Make,
    expect,
    handler,
    items,
    whole,
)
from perdure.persistence.reading._hashing import insert
from perdure.persistence.reading._numpy_builders import NUMPY_BUILDERS
from perdure.persistence.reading._pickle_steps import MalformedError
from perdure.persistence.reading._storages import Storage, tensor
from perdure.state import blank

# -- Python's ------------------------------------------------------------------------------------------------


def _set(cls: Any, context: Context, content: Any = ()) -> Any:
    found: set[Any] = set() if cls is frozenset else blank(cls)
    insert(context.clock, functools.partial(set.add, found), [(item,) for item in items(context, content)])
    return frozenset(found) if cls is frozenset else found


def _dict(cls: Any, context: Context, content: Any = ()) -> Any:
    made: Any = blank(cls)
    base = OrderedDict if issubclass(cls, OrderedDict) else dict
    pairs = items(context, content, (dict, list, tuple))
    entries = [_pair(pair) for pair in (pairs.items() if type(pairs) is dict else pairs)]
    insert(context.clock, functools.partial(base.__setitem__, made), entries)
    return made


def _pair(pair: Any) -> tuple[Any, Any]:
    key, value = expect(pair, (list, tuple))
    return key, value


_FACTORIES = (None, int, float, list, dict, set, str, bool, tuple, OrderedDict, collections.deque)


def _defaultdict(cls: Any, context: Context, factory: Any = None, content: Any = ()) -> Any:
    functions = (types.FunctionType, types.MethodType, functools.partial)
    if not (any(factory is each for each in _FACTORIES) or type(factory) in functions):
        raise MalformedError("has a defaultdict that makes its values by something else than a function")
    made = _dict(cls, context, content)
    made.default_factory = factory
    return made


def _deque(cls: Any, context: Context, content: Any = (), length: Any = None) -> Any:
    elements = items(context, content)
    made = collections.deque.__new__(cls)
    collections.deque.__init__(made, elements, None if length is None else whole(length))
    return made


def _list(context: Context, content: Any = ()) -> list[Any]:
    return list(items(context, content))


def _tuple(context: Context, content: Any = ()) -> tuple[Any, ...]:
    return tuple(items(context, content))


def _bytes(context: Context, text: Any = "", encoding: Any = "latin1") -> bytes:
    if expect(encoding, str) not in ("latin1", "latin-1"):
        raise MalformedError("has bytes in an encoding that no pickler uses")
    context.charge(len(expect(text, str)))
    return str.encode(text, "latin1")


def _bytearray(context: Context, content: Any = b"", encoding: Any = "latin1") -> bytearray:
    if type(content) is str:
        return bytearray(_bytes(context, content, encoding))
    context.charge(len(expect(content, bytes)))
    return bytearray(content)


def _class_of(context: Context, value: Any) -> type:
    """So pickles write the classes of None, `...` and NotImplemented."""
    if value is not None and value is not ... and value is not NotImplemented:
        raise MalformedError("makes a class, or asks for one")
    return type(value)


def _method(context: Context, owner: Any, name: Any) -> Callable[..., Any]:
    """So pickles write bound methods."""
    method = method_of(type(owner), expect(name, str), owner)
    if method is None:
        raise MalformedError(f"takes {name!r:.40} of a {type(owner).__name__}, which is no method")
    return not_run if context.runs_methods else method


def _only_item(context: Context, items: Any, index: Any) -> Any:
    """So :mod:`_pickling` writes an object in the place of another one."""
    if len(expect(items, list)) != 1 or expect(index, int) != 0:
        raise MalformedError("takes an item out of something")
    return items[0]


def _partial(context: Context, state: Any, function: Any) -> functools.partial[Any]:
    target, arguments, keywords, attributes = expect(state, tuple)
    if target is not function or attributes is not None or not callable(function):
        raise MalformedError("has a functools.partial of something else than a function")
    named: dict[str, Any] = {} if keywords is None else expect(keywords, dict)
    inner = len(function.args) + len(function.keywords) if type(function) is functools.partial else 0
    context.charge(ITEM_COST * (inner + len(expect(arguments, tuple)) + len(named)))
    return functools.partial(function, *arguments, **named)


def _path(cls: Any, context: Context, *parts: Any) -> Any:
    for part in parts:
        context.charge(ITEM_COST + 2 * len(expect(part, str)))
    return cls(*parts)


def _numbers(cls: Any, context: Context, *numbers: Any) -> Any:
    for number in numbers:
        expect(number, (int, float, type(None)))
    return cls(*numbers)


def _time(cls: Any, context: Context, content: Any) -> Any:
    """A moment or a day, which pickles write as bytes; times with a zone are not known here."""
    return cls(expect(content, bytes))


# -- torch's -------------------------------------------------------------------------------------------------

_TENSOR_COST = 600


def _no_hooks(hooks: Any) -> None:
    if hooks is not None and len(expect(hooks, (dict, OrderedDict))) > 0:
        raise MalformedError("has a tensor with hooks, which torch does not keep")


def _no_metadata(metadata: Any) -> None:
    if metadata is not None and len(expect(metadata, dict)) > 0:
        raise MalformedError(
            "has a view that conjugates or negates; write it with .resolve_conj().resolve_neg()"
        )


def _tensor(
    context: Context,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> torch.Tensor:
    dtype = expect(storage, Storage).dtype
    return _typed_tensor(context, storage, offset, size, stride, requires_grad, hooks, dtype, metadata)


def _typed_tensor(
    context: Context,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> torch.Tensor:
    _no_hooks(hooks)
    _no_metadata(metadata)
    context.charge(_TENSOR_COST + ITEM_COST * len(expect(size, (tuple, torch.Size))))
    shape = (offset, size, expect(stride, tuple))
    made = tensor(expect(storage, Storage), expect(dtype, torch.dtype), *shape)
    return made.requires_grad_(expect(requires_grad, bool))


def _meta_tensor(
    context: Context, dtype: Any, size: Any, stride: Any, requires_grad: Any = False
) -> torch.Tensor:
    context.charge(_TENSOR_COST)
    expect(dtype, torch.dtype)
    lengths = [whole(each) for each in expect(size, (tuple, torch.Size))]
    steps = [whole(each) for each in expect(stride, tuple)]
    made = torch.empty_strided(lengths, steps, dtype=dtype, device="meta")
    return made.requires_grad_(expect(requires_grad, bool))


def _sparse_tensor(context: Context, layout: Any, data: Any) -> torch.Tensor:
    context.charge(2 * _TENSOR_COST)
    expect(data, tuple)
    *parts, size = data[:3] if layout is torch.sparse_coo else data
    tensors = [expect(part, torch.Tensor) for part in parts]
    lengths = _size(context, size)
    if layout is torch.sparse_coo:
        indices, values = tensors
        made = torch.sparse_coo_tensor(indices, values, lengths, check_invariants=True)
        return made.coalesce() if data[3:] and data[3] is True else made
    if not any(layout is each for each in _COMPRESSED_LAYOUTS):
        raise MalformedError("has a sparse tensor in a layout of its own")
    compressed, plain, values = tensors
    return torch.sparse_compressed_tensor(
        compressed, plain, values, lengths, layout=layout, check_invariants=True
    )


_COMPRESSED_LAYOUTS = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def _parameter(context: Context, data: Any, requires_grad: Any, hooks: Any) -> torch.nn.Parameter:
    _no_hooks(hooks)
    context.charge(_TENSOR_COST)
    return torch.nn.Parameter(expect(data, torch.Tensor), expect(requires_grad, bool))


def _size(context: Context, lengths: Any) -> torch.Size:
    return torch.Size([whole(each) for each in items(context, lengths, (list, tuple, torch.Size))])


def _device(context: Context, kind: Any, index: Any = None) -> torch.device:
    return (
        torch.device(expect(kind, str))
        if index is None
        else torch.device(expect(kind, str), whole(index, 1 << 15))
    )


def _layout(context: Context, name: Any) -> torch.layout:
    return expect(vars(torch).get(expect(name, str).removeprefix("torch.")), torch.layout)  # type: ignore[no-any-return]


def _torch_generator(context: Context, state: Any, device: Any) -> torch.Generator:
    context.charge(GENERATOR_COST)
    _, _, content = expect(state, tuple)
    if expect(device, torch.device).type != "cpu":
        raise MalformedError("has a random generator of a device")
    return handler(torch.Generator)({"device": "cpu", "state": expect(content, torch.Tensor)})  # type: ignore[no-any-return]


def _module_in(context: Context, module: Any, *context_of_compiling: Any) -> torch.nn.Module:
    """A compiled module counts as the module in it."""
    if not issubclass(type(module), torch.nn.Module):
        raise MalformedError("has a compiled module without a module in it")
    return module  # type: ignore[no-any-return]


# -- the table -----------------------------------------------------------------------------------------------

FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
"""Calls its first argument with the third, and gives the fourth as attributes; that is followed without calling it."""
COMPILED = "torch._dynamo.eval_frame.OptimizedModule"

#: Classes of containers, which may be derived from.
CONTAINERS: dict[type, Make] = {
    OrderedDict: _dict,
    collections.Counter: _dict,
    collections.defaultdict: _defaultdict,
    dict: _dict,
    collections.deque: _deque,
    set: _set,
    frozenset: _set,
}


def _container(cls: type) -> Builder:
    return Builder(functools.partial(CONTAINERS[cls], cls), "attributes")


BUILDERS: dict[str, Builder] = {
    **{f"{cls.__module__}.{cls.__qualname__}": _container(cls) for cls in CONTAINERS},
    "builtins.list": Builder(_list),
    "builtins.tuple": Builder(_tuple),
    "builtins.bytes": Builder(_bytes),
    "builtins.bytearray": Builder(_bytearray),
    "builtins.complex": Builder(functools.partial(_numbers, complex)),
    "builtins.slice": Builder(functools.partial(_numbers, slice)),
    "builtins.range": Builder(functools.partial(_numbers, range)),
    "builtins.type": Builder(_class_of),
    "builtins.getattr": Builder(_method),
    "_codecs.encode": Builder(_bytes),
    "_operator.getitem": Builder(_only_item),
    "functools.partial": Builder(_partial, "needed"),
    "types.SimpleNamespace": Builder(lambda context: types.SimpleNamespace(), "attributes"),
    **{f"datetime.{cls.__name__}": Builder(functools.partial(_time, cls)) for cls in (date, datetime)},
    "datetime.timedelta": Builder(functools.partial(_numbers, timedelta)),
    **{
        f"pathlib.{cls.__name__}": Builder(functools.partial(_path, cls))
        for cls in (pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path()))
    },
    "torch._utils._rebuild_tensor": Builder(_tensor),
    "torch._utils._rebuild_tensor_v2": Builder(_tensor),
    "torch._utils._rebuild_tensor_v3": Builder(_typed_tensor),
    "torch._utils._rebuild_meta_tensor_no_storage": Builder(_meta_tensor),
    "torch._utils._rebuild_sparse_tensor": Builder(_sparse_tensor),
    "torch._utils._rebuild_parameter": Builder(_parameter),
    "torch.Size": Builder(_size),
    "torch.device": Builder(_device),
    "torch.serialization._get_layout": Builder(_layout),
    "torch._C.Generator": Builder(_torch_generator, "needed"),
    COMPILED: Builder(_module_in),
    **NUMPY_BUILDERS,
}
#: These give their last argument as attributes to what the function of the other name makes of the others.
WITH_ATTRIBUTES = {"torch._utils._rebuild_parameter_with_state": "torch._utils._rebuild_parameter"}

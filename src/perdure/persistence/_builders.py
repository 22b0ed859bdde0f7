"""The functions that a policy file may call, and what is done in their place.

A pickle makes what is no plain object by calling a function: a tensor, an array, a generator, a set. Those in the table
here are understood, each by a few lines of our own that check the arguments; the functions themselves are not called.
No other function is. Knows no files.
"""

from __future__ import annotations

import collections
import functools
import math
import pathlib
import random
import re
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Literal, TypeAlias

import numpy as np
import torch

from perdure.persistence._allowlist import BIT_GENERATORS, method_of, not_run
from perdure.persistence._hashing import Clock, insert
from perdure.persistence._pickle_steps import MalformedError
from perdure.persistence._storages import Storage, tensor
from perdure.state import Handler, blank, known


@dataclass
class Context:
    """What builders need beside their arguments.

    :param charge: asked before memory is taken.
    :param clock: counts the time that keys take.
    :param runs_methods: whether methods of what is made are going to run while it is restored.
    """

    charge: Callable[[int], None]
    clock: Clock
    runs_methods: bool


Make: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Builder:
    """What is done in the place of one function.

    :param make: makes the object, from the context and the arguments; where there is a state, it comes between.
    :param state: what BUILD gives to the object afterwards: nothing; attributes; the `needed` state without which it
        cannot be made; or an `optional` one, with which it is made again.
    """

    make: Make
    state: Literal["none", "attributes", "needed", "optional"] = "none"


def _expect(value: Any, kind: Any) -> Any:
    if not (type(value) in kind if isinstance(kind, tuple) else type(value) is kind):
        raise MalformedError(f"has a {type(value).__name__} where something else belongs")
    return value


def _whole(value: Any, most: int = 1 << 62) -> int:
    number: int = _expect(value, int)
    if not 0 <= number <= most:
        raise MalformedError(f"has the number {number} where one from 0 to {most:,} belongs")
    return number


# -- Python's ------------------------------------------------------------------------------------------------

_SEQUENCES = (list, tuple)
_ITEM_COST = 40


def _items(context: Context, content: Any, kinds: tuple[type, ...] = _SEQUENCES) -> Any:
    """A sequence that is going to be copied."""
    context.charge(_ITEM_COST * len(_expect(content, kinds)))
    return content


def _set(cls: Any, context: Context, content: Any = ()) -> Any:
    found: set[Any] = set() if cls is frozenset else blank(cls)
    insert(context.clock, functools.partial(set.add, found), [(item,) for item in _items(context, content)])
    return frozenset(found) if cls is frozenset else found


def _dict(cls: Any, context: Context, content: Any = ()) -> Any:
    made: Any = blank(cls)
    base = OrderedDict if issubclass(cls, OrderedDict) else dict
    pairs = _items(context, content, (dict, list, tuple))
    entries = [_pair(pair) for pair in (pairs.items() if type(pairs) is dict else pairs)]
    insert(context.clock, functools.partial(base.__setitem__, made), entries)
    return made


def _pair(pair: Any) -> tuple[Any, Any]:
    key, value = _expect(pair, _SEQUENCES)
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
    items = _items(context, content)
    made = collections.deque.__new__(cls)
    collections.deque.__init__(made, items, None if length is None else _whole(length))
    return made


def _list(context: Context, content: Any = ()) -> list[Any]:
    return list(_items(context, content))


def _tuple(context: Context, content: Any = ()) -> tuple[Any, ...]:
    return tuple(_items(context, content))


def _bytes(context: Context, text: Any = "", encoding: Any = "latin1") -> bytes:
    if _expect(encoding, str) not in ("latin1", "latin-1"):
        raise MalformedError("has bytes in an encoding that no pickler uses")
    context.charge(len(_expect(text, str)))
    return str.encode(text, "latin1")


def _bytearray(context: Context, content: Any = b"", encoding: Any = "latin1") -> bytearray:
    if type(content) is str:
        return bytearray(_bytes(context, content, encoding))
    context.charge(len(_expect(content, bytes)))
    return bytearray(content)


def _class_of(context: Context, value: Any) -> type:
    """So pickles write the classes of None, `...` and NotImplemented."""
    if value is not None and value is not ... and value is not NotImplemented:
        raise MalformedError("makes a class, or asks for one")
    return type(value)


def _method(context: Context, owner: Any, name: Any) -> Callable[..., Any]:
    """So pickles write bound methods."""
    method = method_of(type(owner), _expect(name, str), owner)
    if method is None:
        raise MalformedError(f"takes {name!r:.40} of a {type(owner).__name__}, which is no method")
    return not_run if context.runs_methods else method


def _only_item(context: Context, items: Any, index: Any) -> Any:
    """So :mod:`_pickling` writes an object in the place of another one."""
    if len(_expect(items, list)) != 1 or _expect(index, int) != 0:
        raise MalformedError("takes an item out of something")
    return items[0]


def _partial(context: Context, state: Any, function: Any) -> functools.partial[Any]:
    target, arguments, keywords, attributes = _expect(state, tuple)
    if target is not function or attributes is not None or not callable(function):
        raise MalformedError("has a functools.partial of something else than a function")
    named: dict[str, Any] = {} if keywords is None else _expect(keywords, dict)
    inner = len(function.args) + len(function.keywords) if type(function) is functools.partial else 0
    context.charge(_ITEM_COST * (inner + len(_expect(arguments, tuple)) + len(named)))
    return functools.partial(function, *arguments, **named)


def _path(cls: Any, context: Context, *parts: Any) -> Any:
    for part in parts:
        context.charge(_ITEM_COST + 2 * len(_expect(part, str)))
    return cls(*parts)


def _numbers(cls: Any, context: Context, *numbers: Any) -> Any:
    for number in numbers:
        _expect(number, (int, float, type(None)))
    return cls(*numbers)


def _time(cls: Any, context: Context, content: Any) -> Any:
    """A moment or a day, which pickles write as bytes; times with a zone are not known here."""
    return cls(_expect(content, bytes))


# -- torch's -------------------------------------------------------------------------------------------------

_TENSOR_COST = 600


def _no_hooks(hooks: Any) -> None:
    if hooks is not None and len(_expect(hooks, (dict, OrderedDict))) > 0:
        raise MalformedError("has a tensor with hooks, which torch does not keep")


def _no_metadata(metadata: Any) -> None:
    if metadata is not None and len(_expect(metadata, dict)) > 0:
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
    dtype = _expect(storage, Storage).dtype
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
    context.charge(_TENSOR_COST + _ITEM_COST * len(_expect(size, (tuple, torch.Size))))
    shape = (offset, size, _expect(stride, tuple))
    made = tensor(_expect(storage, Storage), _expect(dtype, torch.dtype), *shape)
    return made.requires_grad_(_expect(requires_grad, bool))


def _meta_tensor(
    context: Context, dtype: Any, size: Any, stride: Any, requires_grad: Any = False
) -> torch.Tensor:
    context.charge(_TENSOR_COST)
    _expect(dtype, torch.dtype)
    lengths = [_whole(each) for each in _expect(size, (tuple, torch.Size))]
    steps = [_whole(each) for each in _expect(stride, tuple)]
    made = torch.empty_strided(lengths, steps, dtype=dtype, device="meta")
    return made.requires_grad_(_expect(requires_grad, bool))


def _sparse_tensor(context: Context, layout: Any, data: Any) -> torch.Tensor:
    context.charge(2 * _TENSOR_COST)
    _expect(data, tuple)
    *parts, size = data[:3] if layout is torch.sparse_coo else data
    tensors = [_expect(part, torch.Tensor) for part in parts]
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
    return torch.nn.Parameter(_expect(data, torch.Tensor), _expect(requires_grad, bool))


def _size(context: Context, lengths: Any) -> torch.Size:
    return torch.Size([_whole(each) for each in _items(context, lengths, (list, tuple, torch.Size))])


def _device(context: Context, kind: Any, index: Any = None) -> torch.device:
    return (
        torch.device(_expect(kind, str))
        if index is None
        else torch.device(_expect(kind, str), _whole(index, 1 << 15))
    )


def _layout(context: Context, name: Any) -> torch.layout:
    return _expect(vars(torch).get(_expect(name, str).removeprefix("torch.")), torch.layout)  # type: ignore[no-any-return]


def _torch_generator(context: Context, state: Any, device: Any) -> torch.Generator:
    context.charge(_GENERATOR_COST)
    _, _, content = _expect(state, tuple)
    if _expect(device, torch.device).type != "cpu":
        raise MalformedError("has a random generator of a device")
    return _handler(torch.Generator)({"device": "cpu", "state": _expect(content, torch.Tensor)})  # type: ignore[no-any-return]


def _module_in(context: Context, module: Any, *context_of_compiling: Any) -> torch.nn.Module:
    """A compiled module counts as the module in it."""
    if not issubclass(type(module), torch.nn.Module):
        raise MalformedError("has a compiled module without a module in it")
    return module  # type: ignore[no-any-return]


# -- NumPy's -------------------------------------------------------------------------------------------------

_ARRAY_COST = 250
_GENERATOR_COST = 6_000
_PLAIN_DTYPE = re.compile(r"[biufc](1|2|4|8|12|16|32)|[SU][1-9][0-9]{0,6}|O8?|[?]|[mM]8", re.ASCII)


def _dtype(context: Context, state: Any, text: Any, aligned: Any, copied: Any) -> np.dtype[Any]:
    if not _PLAIN_DTYPE.fullmatch(_expect(text, str)) or aligned is not False or copied is not True:
        raise MalformedError(f"has a NumPy dtype {text!r:.40} that is not a plain one")
    dtype: np.dtype[Any] = np.dtype(text)
    if state is None:
        return dtype
    # A dtype whose flags lie about holding objects makes NumPy read raw bytes as pointers.
    plain = dtype.__reduce__()[2]
    if (
        any(type(each) not in (int, str, type(None)) for each in _expect(state, tuple))
        or state[2:] != tuple(plain)[2:]
        or state[1] not in ("<", ">", "=", "|")
    ):
        raise MalformedError(f"has a NumPy dtype {text!r} that is not a plain one")
    swapped: np.dtype[Any] = dtype.newbyteorder(state[1])
    return swapped


def _array(context: Context, state: Any, cls: Any, *blank_array: Any) -> np.ndarray[Any, Any]:
    *version, shape, dtype, fortran, content = _expect(state, tuple)
    if (
        cls is not np.ndarray
        or not issubclass(type(dtype), np.dtype)
        or any(_whole(each) != 1 for each in version)
    ):
        raise MalformedError("has an array of a class of its own")
    lengths = tuple(_whole(each) for each in _expect(shape, tuple))
    order: Literal["F", "C"] = "F" if _expect(fortran, (bool, int)) else "C"
    context.charge(_ARRAY_COST)
    if dtype.hasobject:
        return _object_array(context, lengths, order, _expect(content, list))
    if math.prod(lengths) * dtype.itemsize != len(_expect(content, bytes)):
        raise MalformedError("has an array whose shape does not fit its data")
    context.charge(len(content))
    _check_truth(dtype, content)
    if not content:
        return np.empty(lengths, dtype)
    return np.frombuffer(content, dtype).reshape(lengths, order=order).copy(order)


def _object_array(
    context: Context, lengths: tuple[int, ...], order: Literal["F", "C"], content: list[Any]
) -> np.ndarray[Any, Any]:
    if math.prod(lengths) != len(content):
        raise MalformedError("has an array whose shape does not fit its data")
    context.charge(_ITEM_COST * len(content))
    made = np.empty(len(content), object)
    for position, value in enumerate(content):
        made[position] = value
    return made.reshape(lengths, order=order)


def _check_truth(dtype: np.dtype[Any], content: bytes) -> None:
    if dtype.kind == "b" and content and max(content) > 1:
        raise MalformedError("has a truth value that is neither true nor false")


def _scalar(context: Context, dtype: Any, content: Any) -> Any:
    if (
        not issubclass(type(dtype), np.dtype)
        or dtype.hasobject
        or len(_expect(content, bytes)) != dtype.itemsize
    ):
        raise MalformedError("has a NumPy scalar whose type does not fit its data")
    context.charge(_ARRAY_COST + len(content))
    _check_truth(dtype, content)
    return np.ndarray((), dtype, buffer=content)[()]


def _handler(cls: type) -> Callable[[Any], Any]:
    entry = known(cls).entry
    assert isinstance(entry, Handler)
    assert entry.create is not None
    return entry.create


def _bits(context: Context, state: Any, which: Any = "MT19937") -> np.random.BitGenerator:
    context.charge(_GENERATOR_COST)
    name = which if type(which) is str else getattr(_expect(which, type), "__name__", "")
    if not any(which is cls or name == cls.__name__ for cls in BIT_GENERATORS):
        raise MalformedError("has a random generator that is none of NumPy's")
    numbers, sequence = state if type(state) is tuple else (state, None)
    seed = (
        None
        if sequence is None
        else {
            name: getattr(_expect(sequence, np.random.SeedSequence), name)
            for name in ("entropy", "spawn_key", "pool_size", "n_children_spawned")
        }
    )
    if _expect(_expect_plain(numbers).get("bit_generator"), str) != name:
        raise MalformedError("has a random generator with the state of another kind")
    return _handler(np.random.BitGenerator)({"state": numbers, "seed": seed})  # type: ignore[no-any-return]


def _expect_plain(state: Any) -> dict[str, Any]:
    """A dictionary of numbers, arrays of numbers, and dictionaries of these: nothing that has code of its own."""
    for value in _expect(state, dict).values():
        if type(value) is dict:
            for inner in value.values():
                _expect_number(inner)
        else:
            _expect_number(value)
    return state  # type: ignore[no-any-return]


def _expect_number(value: Any) -> None:
    if type(value) is np.ndarray and not value.dtype.hasobject:
        return
    if not issubclass(type(value), np.generic):
        _expect(value, (int, float, str, bool))


_LARGEST_POOL = 16


def _seed_sequence(
    context: Context, state: Any, cls: Any, checksum: Any = None, initial: Any = None
) -> np.random.SeedSequence:
    entropy, children, _, pool_size, spawn_key, *_ = _expect(state, tuple)
    context.charge(_ARRAY_COST + _ITEM_COST * len(_expect(spawn_key, tuple)))
    if cls is not np.random.SeedSequence or any(
        type(each) is not int for each in (*spawn_key, *_numbers_of(context, entropy))
    ):
        raise MalformedError("has a sequence of seeds that is none of NumPy's")
    parts = {"entropy": entropy, "spawn_key": spawn_key, "n_children_spawned": children}
    pool = {"pool_size": _whole(pool_size, _LARGEST_POOL)}
    return _handler(np.random.SeedSequence)({**parts, **pool})  # type: ignore[no-any-return]


def _numbers_of(context: Context, entropy: Any) -> Any:
    if entropy is None or type(entropy) is int:
        return ()
    return _items(context, entropy)


def _generator(context: Context, state: Any, bits: Any = "MT19937", *constructor: Any) -> np.random.Generator:
    if type(bits) in BIT_GENERATORS:
        return np.random.Generator(bits)
    return np.random.Generator(_bits(context, state, bits))


def _legacy_generator(context: Context, state: Any, bits: Any = "MT19937", *constructor: Any) -> Any:
    context.charge(_GENERATOR_COST)
    if type(bits) not in BIT_GENERATORS:
        return _handler(np.random.RandomState)(_expect_plain(state))
    made = np.random.RandomState(bits)
    entry = known(np.random.RandomState).entry
    assert isinstance(entry, Handler)
    entry.restore(made, _expect_plain(state))
    return made


def _python_generator(context: Context, state: Any) -> random.Random:
    context.charge(_GENERATOR_COST)
    version, numbers, following = _expect(state, tuple)
    if any(type(each) is not int for each in (version, *_items(context, numbers, (tuple,)))):
        raise MalformedError("has a random generator whose state is no whole numbers")
    return _handler(random.Random)((version, numbers, following))  # type: ignore[no-any-return]


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
    "random.Random": Builder(_python_generator, "needed"),
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
    "numpy.dtype": Builder(_dtype, "optional"),
    **{f"numpy.{core}.multiarray._reconstruct": Builder(_array, "needed") for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": Builder(_scalar) for core in ("core", "_core")},
    "numpy.random._pickle.__bit_generator_ctor": Builder(_bits, "needed"),
    "numpy.random._pickle.__generator_ctor": Builder(_generator, "optional"),
    "numpy.random._pickle.__randomstate_ctor": Builder(_legacy_generator, "needed"),
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": Builder(_seed_sequence, "needed"),
}
#: These give their last argument as attributes to what the function of the other name makes of the others.
WITH_ATTRIBUTES = {"torch._utils._rebuild_parameter_with_state": "torch._utils._rebuild_parameter"}

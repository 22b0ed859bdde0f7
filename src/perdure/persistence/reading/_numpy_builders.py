"""The builders of NumPy's arrays and of random generators, see `_builders`. Knows no files."""

from __future__ import annotations

import math
import random
import re
from typing import Any, Literal

import numpy as np

from perdure.persistence.reading._allowlist import BIT_GENERATORS
from perdure.persistence.reading._building import (
    GENERATOR_COST,
    ITEM_COST,
    Builder,
    Context,
    expect,
    handler,
    items,
    whole,
)
from perdure.persistence.reading._pickle_steps import MalformedError
from perdure.state import Handler, known

# -- NumPy's -------------------------------------------------------------------------------------------------

_ARRAY_COST = 250
_PLAIN_DTYPE = re.compile(r"[biufc](1|2|4|8|12|16|32)|[SU][1-9][0-9]{0,6}|O8?|[?]|[mM]8", re.ASCII)


def _dtype(context: Context, state: Any, text: Any, aligned: Any, copied: Any) -> np.dtype[Any]:
    if not _PLAIN_DTYPE.fullmatch(expect(text, str)) or aligned is not False or copied is not True:
        raise MalformedError(f"has a NumPy dtype {text!r:.40} that is not a plain one")
    dtype: np.dtype[Any] = np.dtype(text)
    if state is None:
        return dtype
    # A dtype whose flags lie about holding objects makes NumPy read raw bytes as pointers.
    plain = dtype.__reduce__()[2]
    if (
        any(type(each) not in (int, str, type(None)) for each in expect(state, tuple))
        or state[2:] != tuple(plain)[2:]
        or state[1] not in ("<", ">", "=", "|")
    ):
        raise MalformedError(f"has a NumPy dtype {text!r} that is not a plain one")
    swapped: np.dtype[Any] = dtype.newbyteorder(state[1])
    return swapped


def _array(context: Context, state: Any, cls: Any, *blank_array: Any) -> np.ndarray[Any, Any]:
    *version, shape, dtype, fortran, content = expect(state, tuple)
    if (
        cls is not np.ndarray
        or not issubclass(type(dtype), np.dtype)
        or any(whole(each) != 1 for each in version)
    ):
        raise MalformedError("has an array of a class of its own")
    lengths = tuple(whole(each) for each in expect(shape, tuple))
    order: Literal["F", "C"] = "F" if expect(fortran, (bool, int)) else "C"
    context.charge(_ARRAY_COST)
    if dtype.hasobject:
        return _object_array(context, lengths, order, expect(content, list))
    if math.prod(lengths) * dtype.itemsize != len(expect(content, bytes)):
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
    context.charge(ITEM_COST * len(content))
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
        or len(expect(content, bytes)) != dtype.itemsize
    ):
        raise MalformedError("has a NumPy scalar whose type does not fit its data")
    context.charge(_ARRAY_COST + len(content))
    _check_truth(dtype, content)
    return np.ndarray((), dtype, buffer=content)[()]


def _bits(context: Context, state: Any, which: Any = "MT19937") -> np.random.BitGenerator:
    context.charge(GENERATOR_COST)
    name = which if type(which) is str else getattr(expect(which, type), "__name__", "")
    if not any(which is cls or name == cls.__name__ for cls in BIT_GENERATORS):
        raise MalformedError("has a random generator that is none of NumPy's")
    numbers, sequence = state if type(state) is tuple else (state, None)
    seed = (
        None
        if sequence is None
        else {
            name: getattr(expect(sequence, np.random.SeedSequence), name)
            for name in ("entropy", "spawn_key", "pool_size", "n_children_spawned")
        }
    )
    if expect(_expect_plain(numbers).get("bit_generator"), str) != name:
        raise MalformedError("has a random generator with the state of another kind")
    return handler(np.random.BitGenerator)({"state": numbers, "seed": seed})  # type: ignore[no-any-return]


def _expect_plain(state: Any) -> dict[str, Any]:
    """A dictionary of numbers, arrays of numbers, and dictionaries of these: nothing that has code of its own."""
    for value in expect(state, dict).values():
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
        expect(value, (int, float, str, bool))


_LARGEST_POOL = 16


def _seed_sequence(
    context: Context, state: Any, cls: Any, checksum: Any = None, initial: Any = None
) -> np.random.SeedSequence:
    entropy, children, _, pool_size, spawn_key, *_ = expect(state, tuple)
    context.charge(_ARRAY_COST + ITEM_COST * len(expect(spawn_key, tuple)))
    if cls is not np.random.SeedSequence or any(
        type(each) is not int for each in (*spawn_key, *_numbers_of(context, entropy))
    ):
        raise MalformedError("has a sequence of seeds that is none of NumPy's")
    parts = {"entropy": entropy, "spawn_key": spawn_key, "n_children_spawned": children}
    pool = {"pool_size": whole(pool_size, _LARGEST_POOL)}
    return handler(np.random.SeedSequence)({**parts, **pool})  # type: ignore[no-any-return]


def _numbers_of(context: Context, entropy: Any) -> Any:
    if entropy is None or type(entropy) is int:
        return ()
    return items(context, entropy)


def _generator(context: Context, state: Any, bits: Any = "MT19937", *constructor: Any) -> np.random.Generator:
    if type(bits) in BIT_GENERATORS:
        return np.random.Generator(bits)
    return np.random.Generator(_bits(context, state, bits))


def _legacy_generator(context: Context, state: Any, bits: Any = "MT19937", *constructor: Any) -> Any:
    context.charge(GENERATOR_COST)
    if type(bits) not in BIT_GENERATORS:
        return handler(np.random.RandomState)(_expect_plain(state))
    made = np.random.RandomState(bits)
    entry = known(np.random.RandomState).entry
    assert isinstance(entry, Handler)
    entry.restore(made, _expect_plain(state))
    return made


def _python_generator(context: Context, state: Any) -> random.Random:
    context.charge(GENERATOR_COST)
    version, numbers, following = expect(state, tuple)
    if any(type(each) is not int for each in (version, *items(context, numbers, (tuple,)))):
        raise MalformedError("has a random generator whose state is no whole numbers")
    return handler(random.Random)((version, numbers, following))  # type: ignore[no-any-return]


NUMPY_BUILDERS: dict[str, Builder] = {
    "random.Random": Builder(_python_generator, "needed"),
    "numpy.dtype": Builder(_dtype, "optional"),
    **{f"numpy.{core}.multiarray._reconstruct": Builder(_array, "needed") for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": Builder(_scalar) for core in ("core", "_core")},
    "numpy.random._pickle.__bit_generator_ctor": Builder(_bits, "needed"),
    "numpy.random._pickle.__generator_ctor": Builder(_generator, "optional"),
    "numpy.random._pickle.__randomstate_ctor": Builder(_legacy_generator, "needed"),
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": Builder(_seed_sequence, "needed"),
}

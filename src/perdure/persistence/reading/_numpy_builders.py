"""The builders of NumPy's arrays and of random generators, see `_builders`. Knows no files."""

from __future__ import annotations

import datetime
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
from perdure.persistence.reading._classes import NotMadeError, dotted, why_not_filled
from perdure.persistence.reading._pickle_steps import MalformedError
from perdure.state import Handler, known

# -- NumPy's -------------------------------------------------------------------------------------------------

_ARRAY_COST = 250
_PLAIN_DTYPE = re.compile(r"[biufc](1|2|4|8|12|16|32)|[SU][0-9]{1,7}|O8?|[?]|[mMV][0-9]{1,7}", re.ASCII)
_MOST_FIELDS = 1_000
_UNITS = (b"Y", b"M", b"W", b"D", b"h", b"m", b"s", b"ms", b"us", b"ns", b"ps", b"fs", b"as", b"generic")


def _dtype(context: Context, state: Any, text: Any, aligned: Any, copied: Any) -> np.dtype[Any]:
    is_record = text is np.record
    if (
        not (is_record or _PLAIN_DTYPE.fullmatch(expect(text, str)))
        or aligned is not False
        or copied is not True
    ):
        raise MalformedError(f"has a NumPy dtype {text!r:.40} that is not a plain one")
    made: np.dtype[Any] = np.dtype(text)
    if state is None:
        return made
    _, order, base, names, fields, size, _, flags, *metadata = expect(state, tuple)
    notes = metadata[0] if metadata and (is_record or text[0] not in "mM") else None
    if order not in ("<", ">", "=", "|"):
        raise MalformedError(f"has a NumPy dtype {text!r} in an order of bytes that is none")
    if base is not None:
        made = _dtype_of_rows(base)
    elif names is not None:
        made = _dtype_with_fields(names, fields, size, flags)
        made = np.dtype((np.record, made)) if is_record else made
    elif not is_record and text[0] in "mM":
        made = _dtype_of_times(text, metadata).newbyteorder(order)
    else:
        made = made.newbyteorder(order)
    context.charge(_ARRAY_COST * (1 + len(made.names or ())))
    if notes is not None:
        about: Any = {"metadata": dict(items(context, notes, (dict,)))}
        made = np.dtype(made, **about)
    # A dtype whose flags lie about holding objects makes NumPy read raw bytes as pointers.
    if made.__reduce__()[1] != (text, aligned, copied) or not _same(made.__reduce__()[2], state):
        raise MalformedError(f"has a NumPy dtype {text!r} that is not what it says")
    return made


def _dtype_of_rows(base: Any) -> np.dtype[Any]:
    dtype, shape = expect(base, tuple)
    if not issubclass(type(dtype), np.dtype) or len(expect(shape, tuple)) > _MOST_DIMENSIONS:
        raise MalformedError("has a NumPy dtype of rows of something")
    if dtype.hasobject:
        raise NotMadeError(
            "numpy.dtype", "it has rows of objects in a record. Keep one array for each field in the policy"
        )
    lengths = tuple(whole(each, 1 << 31) for each in shape)
    if math.prod(lengths) * dtype.itemsize >= 1 << 31:
        raise MalformedError("has a NumPy dtype that is larger than NumPy's are")
    return np.dtype((dtype, lengths))


_MOST_DIMENSIONS = 32


def _dtype_with_fields(names: Any, fields: Any, size: Any, flags: Any) -> np.dtype[Any]:
    """A dtype of records. NumPy refuses one whose objects would lie in each other, or in other fields."""
    if len(expect(names, tuple)) > _MOST_FIELDS:
        raise MalformedError(f"has a NumPy dtype of more than {_MOST_FIELDS:,} fields")
    formats, offsets, titles = [], [], []
    for name in names:
        dtype, offset, *title = expect(expect(fields, dict)[expect(name, str)], tuple)
        if not issubclass(type(dtype), np.dtype) or dtype.kind == "T":
            raise MalformedError("has a NumPy dtype with a field that is none")
        formats.append(dtype)
        offsets.append(whole(offset, 1 << 31))
        titles.append(expect(title[0], str) if title else None)
    parts: Any = {
        "names": list(names),
        "formats": formats,
        "offsets": offsets,
        "itemsize": whole(size, 1 << 31),
    }
    if any(each is not None for each in titles):
        parts["titles"] = titles
    is_aligned = type(flags) is int and flags & _ALIGNED_STRUCT != 0
    made: np.dtype[Any] = np.dtype(parts, align=is_aligned)
    return made


_ALIGNED_STRUCT = 0x80


def _dtype_of_times(text: str, metadata: list[Any]) -> np.dtype[Any]:
    ((about, (unit, number, *_)),) = metadata if metadata else [(None, (b"generic", 1))]
    if about is not None and len(expect(about, dict)) > 0:
        raise MalformedError(f"has a NumPy dtype {text!r} with notes of somebody's")
    if unit not in _UNITS:
        raise MalformedError(f"has times in a unit {unit!r:.20} that NumPy has not")
    times = "" if unit == b"generic" else f"[{whole(number, 1 << 30)}{expect(unit, bytes).decode('ascii')}]"
    return np.dtype(f"{text}{times}")


def _same(made: Any, said: Any) -> bool:
    """Whether the state of a dtype is the one that a file says, whose version may be another one."""
    return all(_alike(ours, theirs) for ours, theirs in zip(made[1:8], said[1:8], strict=True))


def _alike(ours: Any, theirs: Any) -> bool:
    if type(ours) is not type(theirs) and not (
        issubclass(type(ours), np.dtype) and issubclass(type(theirs), np.dtype)
    ):
        return False
    if type(ours) is tuple:
        return len(ours) == len(theirs) and all(map(_alike, ours, theirs))
    if type(ours) is dict:
        return list(ours) == list(theirs) and all(map(_alike, ours.values(), theirs.values()))
    return bool(ours == theirs)


def _array(context: Context, state: Any, cls: Any, *blank_array: Any) -> np.ndarray[Any, Any]:
    *version, shape, dtype, fortran, content = expect(state, tuple)
    if not issubclass(type(dtype), np.dtype) or any(whole(each) != 1 for each in version):
        raise MalformedError("has an array without a dtype")
    reason = _why_no_view(cls)
    if reason is not None:
        raise NotMadeError(dotted(cls), reason)
    lengths = tuple(whole(each) for each in expect(shape, tuple))
    order: Literal["F", "C"] = "F" if expect(fortran, (bool, int)) else "C"
    context.charge(_ARRAY_COST)
    if dtype.kind == "T" or dtype.hasobject:
        made = _object_array(context, dtype, lengths, order, expect(content, list))
    else:
        if math.prod(lengths) * dtype.itemsize != len(expect(content, bytes)):
            raise MalformedError("has an array whose shape does not fit its data")
        context.charge(len(content) if dtype.itemsize else ITEM_COST * math.prod(lengths))
        _check_truth(dtype, content)
        made = _filled(lengths, dtype, order, content)
    return made if cls is np.ndarray else np.ndarray.view(made, cls)


def _filled(
    lengths: tuple[int, ...], dtype: np.dtype[Any], order: Literal["F", "C"], content: bytes
) -> np.ndarray[Any, Any]:
    if not content or not dtype.itemsize:
        return np.empty(lengths, dtype)
    made = np.frombuffer(content, dtype).reshape(lengths, order=order).copy(order)
    # So NumPy does too: numbers get this machine's order of bytes, records keep theirs.
    return made if dtype.isnative or dtype.names else made.astype(dtype.newbyteorder("="))


def _why_no_view(cls: Any) -> str | None:
    """Why an array is not made one of a class of arrays, with the remedy; None if it is."""
    if not isinstance(cls, type) or not issubclass(cls, np.ndarray):
        raise MalformedError("has an array of a class that is none of arrays")
    if cls is np.ndarray:
        return None
    for name in ("__array_finalize__", "__setstate__"):
        owner = next(base for base in cls.__mro__ if name in vars(base))
        if not owner.__module__.startswith("numpy"):
            return (
                f"it has {name} of its own, which loading does not run. Keep a plain array in the policy "
                "(np.asarray(...)), or save its state dictionary"
            )
        if owner is not np.ndarray and cls not in _PLAIN_VIEWS and owner not in _PLAIN_VIEWS:
            return "it holds more than an array does. Keep a plain array in the policy (np.asarray(...))"
    return why_not_filled(cls)


_PLAIN_VIEWS = (np.matrix, np.memmap, np.recarray, np.char.chararray)


def _object_array(
    context: Context,
    dtype: np.dtype[Any],
    lengths: tuple[int, ...],
    order: Literal["F", "C"],
    content: list[Any],
) -> np.ndarray[Any, Any]:
    """An array of objects, of texts, or of records with objects: its elements are written out one by one."""
    if math.prod(lengths) != len(content):
        raise MalformedError("has an array whose shape does not fit its data")
    context.charge(max(ITEM_COST, dtype.itemsize) * len(content))
    made = np.empty(len(content), dtype)
    for position, value in enumerate(content):
        if dtype.names is not None:
            _expect_record(dtype, value)
        made[position] = _text(context, dtype, value) if dtype.kind == "T" else value
    return made.reshape(lengths, order=order)


def _text(context: Context, dtype: Any, value: Any) -> Any:
    missing = getattr(dtype, "na_object", "")
    if type(value) is str:
        context.charge(4 * len(value))
    elif type(value) is not type(missing):
        raise MalformedError(f"has a {type(value).__name__} in an array of texts")
    return value if type(value) is str else missing


def _expect_record(dtype: np.dtype[Any], value: Any) -> None:
    """See that NumPy can put a tuple into a record without asking what is in it to become a number."""
    names = dtype.names or ()
    if len(expect(value, tuple)) != len(names):
        raise MalformedError("has a record with other fields than its dtype")
    for name, part in zip(names, value, strict=True):
        kind = dtype.fields[name][0]  # type: ignore[index]
        if kind.names is not None:
            _expect_record(kind, part)
        elif kind.kind != "O" and type(part) not in _PLAIN_FIELDS and not _is_small(part):
            raise MalformedError(f"has a {type(part).__name__} in a record where its dtype has a number")


def _is_small(part: Any) -> bool:
    return type(part) is np.ndarray and not part.dtype.hasobject and part.size <= _MOST_FIELDS


_PLAIN_FIELDS = (
    *(
        int,
        float,
        bool,
        complex,
        str,
        bytes,
        datetime.date,
        datetime.datetime,
        datetime.timedelta,
        type(None),
    ),
    *(cls for cls in vars(np).values() if isinstance(cls, type) and issubclass(cls, np.generic)),
)


def _text_dtype(context: Context, coerces: Any, *missing: Any) -> Any:
    """The dtype of texts of any length, and what stands in it for a text that is missing."""
    context.charge(_ARRAY_COST)
    for each in missing:
        expect(each, (str, float, type(None)))
    about = {"na_object": missing[0]} if missing else {}
    return np.dtypes.StringDType(coerce=bool(expect(coerces, (bool, int))), **about)


def _in_memory(
    context: Context, content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
) -> np.ndarray[Any, Any]:
    """So protocol 5 writes arrays: those that can be written to as a bytearray."""
    if not issubclass(type(dtype), np.dtype) or dtype.hasobject:
        raise MalformedError("has an array without a dtype")
    data = expect(content, (bytes, bytearray))
    lengths = tuple(whole(each) for each in expect(shape, tuple))
    if expect(order, str) not in ("C", "F", "K") or len(lengths) > _MOST_DIMENSIONS:
        raise MalformedError("has an array in an order that is none")
    if not dtype.itemsize or math.prod(lengths) * dtype.itemsize != len(data):
        raise MalformedError("has an array whose shape does not fit its data")
    context.charge(_ARRAY_COST)
    _check_truth(dtype, data)
    made = np.frombuffer(data, dtype)
    if order == "K" and axes is not None:
        return made.reshape(lengths, order="C").transpose(
            [whole(each, 64) for each in expect(axes, (tuple, list))]
        )
    return made.reshape(lengths, order="F" if order == "F" else "C")


def _check_truth(dtype: np.dtype[Any], content: bytes | bytearray) -> None:
    if dtype.kind == "b" and content and max(content) > 1:
        raise MalformedError("has a truth value that is neither true nor false")


def _scalar(context: Context, dtype: Any, content: Any) -> Any:
    if issubclass(type(dtype), np.dtype) and dtype.hasobject:
        if type(content) is not np.ndarray or content.dtype != dtype or content.shape != ():
            raise MalformedError("has a NumPy record whose type does not fit its data")
        return content[()]
    if not issubclass(type(dtype), np.dtype) or len(expect(content, bytes)) != dtype.itemsize:
        raise MalformedError("has a NumPy scalar whose type does not fit its data")
    context.charge(_ARRAY_COST + len(content))
    _check_truth(dtype, content)
    return np.ndarray((), dtype, buffer=content)[()] if dtype.itemsize else np.empty((), dtype)[()]


def _masked_array(context: Context, state: Any, cls: Any, base: Any, *blank_array: Any) -> Any:
    if cls is not np.ma.MaskedArray or base is not np.ndarray:
        raise NotMadeError(
            dotted(np.ma.MaskedArray),
            "it is one of a class of its own. Keep its data and its mask in the policy",
        )
    version, shape, dtype, fortran, content, mask, fill = expect(state, tuple)
    data = _array(context, (version, shape, dtype, fortran, content), np.ndarray)
    plain: tuple[type, ...] = (type(None), np.generic, np.ndarray)
    if data.dtype.hasobject:
        plain += (str, int, float, bytes)
    if not issubclass(type(fill), plain) or (data.dtype.hasobject and data.dtype.names):
        raise NotMadeError(
            dotted(np.ma.MaskedArray), "it holds records of objects. Keep its data and its mask in the policy"
        )
    hidden = _array(context, (version, shape, np.ma.make_mask_descr(data.dtype), fortran, mask), np.ndarray)
    made = np.ma.MaskedArray(data, hidden)
    made.fill_value = fill
    vars(made)["_sharedmask"] = True
    return made


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
    "numpy.ma.core._mareconstruct": Builder(_masked_array, "needed"),
    "numpy.ma.core.MaskedConstant": Builder(lambda context: np.ma.masked),
    "numpy._core._internal._convert_to_stringdtype_kwargs": Builder(_text_dtype),
    **{f"numpy.{core}.numeric._frombuffer": Builder(_in_memory) for core in ("core", "_core")},
    "numpy.dtype": Builder(_dtype, "optional"),
    **{f"numpy.{core}.multiarray._reconstruct": Builder(_array, "needed") for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": Builder(_scalar) for core in ("core", "_core")},
    "numpy.random._pickle.__bit_generator_ctor": Builder(_bits, "needed"),
    "numpy.random._pickle.__generator_ctor": Builder(_generator, "optional"),
    "numpy.random._pickle.__randomstate_ctor": Builder(_legacy_generator, "needed"),
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": Builder(_seed_sequence, "needed"),
}

"""Writing pickles that torch's restricted unpickler can read; finding what in an object prevents it."""

from __future__ import annotations

import copyreg
import io
import pickle
import types
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

import torch

from perdure.persistence._pickle_scan import UnreadableError, Use, uses


class Pickler(pickle.Pickler):
    """Writes what torch's restricted unpickler can read where the ordinary one would not.

    That unpickler fills lists and plain dictionaries only, but an optimizer's state is a defaultdict. Both
    classes below also take their content as an argument, so any unpickler reads the file.
    """

    def reducer_override(self, obj: Any) -> Any:
        """Reduce the containers that are pickled as empty ones and then filled."""
        if type(obj) is defaultdict:
            return defaultdict, (obj.default_factory, dict(obj))
        if type(obj) is deque:
            return deque, (list(obj), obj.maxlen)
        return NotImplemented


class _DataFree(Pickler):
    """Leaves out the tensors' data, as torch.save does; here it goes nowhere."""

    def persistent_id(self, obj: Any) -> str | None:
        return "storage" if isinstance(obj, torch.TypedStorage) or torch.is_storage(obj) else None


class _Lenient(_DataFree):
    """Puts an empty string in the place of what cannot be pickled."""

    def reducer_override(self, obj: Any) -> Any:
        override = super().reducer_override(obj)
        if override is not NotImplemented:
            return override
        if isinstance(obj, type | types.FunctionType | types.BuiltinFunctionType):
            return NotImplemented if _is_found_by_name(obj) else (str, ())
        try:
            reduce = copyreg.dispatch_table.get(type(obj))
            return obj.__reduce_ex__(2) if reduce is None else reduce(obj)
        except Exception:  # whatever a foreign class raises, it means that this object cannot be pickled
            return str, ()


def _is_found_by_name(obj: Any) -> bool:
    try:
        pickle.dumps(obj)
    except Exception:  # a PicklingError, an AttributeError, whatever a metaclass raises
        return False
    return True


def uses_of(obj: Any) -> set[Use]:
    """What the pickle of a live object does; what cannot be pickled in it is left out."""
    file = io.BytesIO()
    _Lenient(file, protocol=2).dump(obj)
    try:
        return uses(file.getvalue(), fills_anything=True)
    except UnreadableError as error:
        return set(error.found)


def why_not(obj: Any) -> str | None:
    """Why `obj` cannot be pickled and read back, or None if it can."""
    file = io.BytesIO()
    try:
        _DataFree(file, protocol=2).dump(obj)
        uses(file.getvalue())
    except RecursionError:
        return "it is nested too deeply, or contains itself"
    except Exception as error:  # a class may raise anything from __reduce__ or __getstate__
        return str(error) or type(error).__name__
    return None


def culprit(obj: Any, path: str) -> tuple[str, Any, str] | None:
    """The path, the value and the reason of the innermost part of `obj` that cannot be pickled."""
    reason = why_not(obj)
    if reason is None:
        return None
    seen: set[int] = set()
    while id(obj) not in seen:
        seen.add(id(obj))
        for step, child in _parts(obj):
            if id(child) not in seen and (child_reason := why_not(child)) is not None:
                obj, path, reason = child, path + step, child_reason
                break
    return path, obj, reason


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    """What the pickle of `obj` refers to, each with the way to it."""
    if isinstance(obj, dict) and type(obj).__reduce_ex__ is object.__reduce_ex__:
        yield from ((f"[{key!r}]", value) for key, value in obj.items())
        yield from ((f".keys()[{i}]", key) for i, key in enumerate(obj))
    if isinstance(obj, list | tuple | set | frozenset | deque):
        yield from ((f"[{i}]", item) for i, item in enumerate(obj))
    if obj is None or isinstance(obj, type | types.FunctionType | types.BuiltinFunctionType | str | bytes):
        return
    if isinstance(obj, types.MethodType):
        yield ".__self__", obj.__self__
        return
    try:
        reduced = obj.__reduce_ex__(2)
    except Exception:
        return
    if isinstance(reduced, str):
        return
    state = reduced[2] if len(reduced) > 2 else None
    for part in state if isinstance(state, tuple) else (state,):
        if isinstance(part, dict):
            yield from _attributes(obj, part)
    yield from ((f".<argument {i}>", argument) for i, argument in enumerate(reduced[1]))


def _attributes(obj: Any, state: dict[Any, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in state.items():
        if isinstance(obj, torch.nn.Module) and key in ("_modules", "_parameters", "_buffers"):
            yield from ((f"[{name}]" if name.isdigit() else f".{name}", part) for name, part in value.items())
        else:
            yield f".{key}", value

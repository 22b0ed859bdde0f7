"""What in a policy cannot be written so that it can be read again: tried before anything is written. Knows no files."""

from __future__ import annotations

import io
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch

from perdure.persistence._pickling import DataFreePickler
from perdure.persistence.reading import why_not_read


def why_not(obj: Any) -> str | None:
    """Why `obj` cannot be pickled and read back, or None if it can."""
    file = io.BytesIO()
    pickler = DataFreePickler(file, protocol=2)
    try:
        pickler.dump(obj)
        return why_not_read(file.getvalue(), pickler.storages)
    except RecursionError:
        return "it is nested too deeply, or contains itself"
    except Exception as error:  # a class may raise anything from __reduce__ or __getstate__
        return str(error) or type(error).__name__


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

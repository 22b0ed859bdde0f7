"""Uses the methods `get_state()` and `set_state(state)` of environments that have them.

Such a pair is used beside the walk, not in its place: the walk captures every attribute to the last bit, and the pair
reaches what no walk can see (a simulator in native code, a handle behind a number). So the pair is applied first, and
attributes that it leaves different from the walk's are corrected. Knows no library.
"""

from __future__ import annotations

import functools
import inspect
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.errors import CaptureError, NotCapturedWarning, user_level
from perdure.state import (
    Adapter,
    attributes_of,
    capture,
    diff,
    finders,
    is_environment,
    restore,
    slots,
)

#: Names of such pairs. They are used only if the methods have the right signatures.
PAIRS = (
    ("get_state", "set_state"),
    ("clone_state", "restore_state"),
    ("get_env_state", "set_env_state"),
    ("state_dict", "load_state_dict"),
)

#: Environments whose pair is being called right now, by id.
_busy: set[int] = set()


def find(cls: type) -> Adapter | None:
    """How objects of a class are walked if it is an environment with such a pair; else None."""
    names = pair(cls)
    if names is None:
        return None
    field = f"{names[0]}()"
    return Adapter(
        functools.partial(_fields, names[0], field),
        functools.partial(_assign, names, field),
        frozenset({field}),
        covers=field,
    )


def pair(cls: type) -> tuple[str, str] | None:
    """The names of the two methods, if a class is an environment and has them.

    The first must need no argument, the second exactly one.
    """
    if not is_environment(cls):
        return None
    for get, set_ in PAIRS:
        if _required_arguments(cls, get) == 0 and _required_arguments(cls, set_) == 1:
            return get, set_
    return None


def _required_arguments(cls: type, name: str) -> int | None:
    """How many arguments a method requires beside `self`; None if it is no method, or requires keyword arguments."""
    method = inspect.getattr_static(cls, name, None)
    if not isinstance(method, types.FunctionType):
        return None
    needed = [each for each in inspect.signature(method).parameters.values() if each.default is each.empty]
    if any(each.kind is each.KEYWORD_ONLY for each in needed):
        return None
    places = [each for each in needed if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    return len(places) - 1


def _fields(get: str, field: str, env: Any) -> Mapping[str, Any]:
    # Last, so that all attributes are there when it is set.
    return {**attributes_of(env), field: True if id(env) in _busy else _state(env, get)}


def _state(env: Any, get: str) -> Any:
    """What `get_state` returns; None if it fails, or returns something that no checkpoint can hold."""
    with _marked_busy(env):
        try:
            found = getattr(env, get)()
            capture({"state": found})
        except Exception:
            # Not implemented after all, or something else by that name: then there is only the walk.
            return None
    return found


@contextmanager
def _marked_busy(env: Any) -> Iterator[None]:
    _busy.add(id(env))
    try:
        yield
    finally:
        _busy.discard(id(env))


def _assign(names: tuple[str, str], field: str, env: Any, name: str, value: Any) -> None:
    if name != field:
        set_attribute(env, name, value)
    elif value is not None and value is not True:
        with _marked_busy(env):
            _set_state(env, names[1], value)


def set_attribute(env: Any, name: str, value: Any) -> None:
    """Set an attribute without calling the class's `__setattr__`."""
    own = slots(type(env))
    if name in own:
        own[name].__set__(env, value)
    else:
        object.__getattribute__(env, "__dict__")[name] = value


def _set_state(env: Any, method: str, value: Any) -> None:
    """Call `set_state`, and correct the attributes that it leaves different from what the walk has restored."""
    walked = capture({"env": env})
    _detach(walked)
    objects = attributes_of(env)
    getattr(env, method)(value)
    for name, present in attributes_of(env).items():
        # Objects that it has replaced stay only where the walk cannot restore the former ones.
        if name in objects and present is not objects[name] and not _is_opaque(objects[name]):
            set_attribute(env, name, objects[name])
    if not diff(walked, capture({"env": env}), ignore=()):
        return
    restore(walked, {"env": env}, strict=False)
    if left := diff(walked, capture({"env": env}), ignore=()):
        paths = ", ".join(each.path for each in left[:5])
        warnings.warn(
            f"{type(env).__qualname__}.{method} changes more than the state it was given ({paths}), and this cannot be "
            "undone, so the run may not continue exactly. Register a handler: "
            f"perdure.register({type(env).__qualname__}, capture=..., restore=...)",
            NotCapturedWarning,
            stacklevel=user_level(),
        )


def _is_opaque(value: Any) -> bool:
    try:
        capture({"value": value})
    except CaptureError:
        return True
    return False


def _detach(state: tree.State) -> None:
    """Give the arrays of a state their own memory, because what they were captured from is about to change."""
    for node in state.arrays:
        if isinstance(node.data, np.ndarray):
            node.data = node.data.copy(order="K")
        elif isinstance(node.data, torch.Tensor):
            node.data = node.data.detach().clone()


finders.append(find)

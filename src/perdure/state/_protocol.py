"""The protocol by which a class says itself how its objects are captured and restored. Knows no walks and no files.

A library that offers these methods supports Perdure without depending on it:

- `__perdure_state__(self)` returns the state: plain values, arrays, containers, and objects of the world.
- `__perdure_restore__(self, state)` writes such a state into an object that is there.
- `__perdure_create__(cls, state)`, a class method, makes an object, where the script has built none. Without it, one is
  made without its constructor, and `__perdure_restore__` is called on it.

A class of immutable values has `__perdure_create__` and no `__perdure_restore__`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perdure.errors import RestoreError
from perdure.state._registry import Entry, Handler, Refuse, hindrance, known, not_in_place, offered
from perdure.state._values import Unsupported

STATE, RESTORE, CREATE = "__perdure_state__", "__perdure_restore__", "__perdure_create__"


@dataclass(frozen=True)
class OwnHandler(Handler):
    """The handler of a class that offers the protocol."""


def _find(cls: type, base: type) -> Entry | None:
    """The handler of a class, if a base of it (or itself) defines a method of the protocol."""
    if not any(name in vars(base) for name in (STATE, RESTORE, CREATE)):
        return None
    has_state, has_restore, has_create = (
        inspect.getattr_static(cls, name, None) is not None for name in (STATE, RESTORE, CREATE)
    )
    if not has_state or not (has_restore or has_create):
        there = ", ".join(
            name
            for name, is_there in ((STATE, has_state), (RESTORE, has_restore), (CREATE, has_create))
            if is_there
        )
        missing = STATE if not has_state else f"{RESTORE} (or, for immutable values, {CREATE})"
        return Refuse(f"its class has {there} and lacks {missing}. Define both")
    create = inspect.getattr_static(cls, CREATE, None)
    if has_create and not isinstance(create, classmethod):
        return Refuse(f"its {CREATE} is not a class method. Write @classmethod above it")
    return OwnHandler(
        _calling(cls, STATE),
        _calling(cls, RESTORE) if has_restore else not_in_place,
        _creating(cls) if has_create else None,
        immutable=not has_restore,
        verified=has_restore,
    )


def _calling(cls: type, name: str) -> Callable[..., Any]:
    failed = Unsupported if name == STATE else RestoreError

    def call(obj: Any, *state: Any) -> Any:
        try:
            return getattr(type(obj), name)(obj, *state)
        except Exception as error:
            raise failed(f"{cls.__qualname__}.{name} failed: {type(error).__name__}: {error}") from error

    return call


def _creating(cls: type) -> Callable[[Any], Any]:
    def create(state: Any) -> Any:
        try:
            made = getattr(cls, CREATE)(state)
        except Exception as error:
            raise RestoreError(
                f"{cls.__qualname__}.{CREATE} failed: {type(error).__name__}: {error}"
            ) from error
        if type(made) is not cls:
            raise RestoreError(f"{cls.__qualname__}.{CREATE} returned a {type(made).__qualname__}")
        return made

    return create


def why_not_blank(cls: type) -> str | None:
    """Why no object of a class with the protocol may be made without its constructor, or None if one may."""
    if known(cls).structural:
        return "only the script can build it"
    return {
        "finalizer": f"its class has a finalizer and no {CREATE}",
        "native": f"its class has native memory and no {CREATE}",
        "abstract": "its class is abstract",
    }.get(hindrance(cls))


offered.append(_find)

"""Whether a registered `restore` puts back what its `capture` saved: the object is captured again and compared.

Without this, a `restore` that does nothing, as for an object that cannot be changed, would lose its state silently.
Values, arrays and containers are compared; other objects in a state are restored, and compared, by themselves.
"""

from __future__ import annotations

import collections
import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xxhash

from perdure import tree
from perdure.state._patterns import matches
from perdure.state._registry import Handler

_CONTAINERS = (list, tuple, collections.deque)
#: More elements than these are compared as a whole.
_MANY = 64
_MOST_SHOWN = 3


@dataclass(frozen=True)
class InPlace:
    """An object that was restored in place by a registered handler.

    :param path: where it is.
    :param obj: the object.
    :param handler: restored it.
    :param before: what its handler captured before it was restored, as `contents` tells it; None if it was made for
        this.
    :param saved: what was to be restored.
    """

    path: str
    obj: Any
    handler: Handler
    before: dict[str, Any] | None
    saved: dict[str, Any]

    def difference(self, skip: Sequence[str] = ()) -> tuple[str, bool] | None:
        """How the restored object differs from what was saved, and whether it was not changed at all; None if it is as
        it was saved.

        :param skip: paths that were left out, with `*` and `?` as wildcards.
        """
        now = captured(self.handler, self.obj)
        if now is None or now != captured(self.handler, self.obj):
            return None  # two looks at the same object differ, as where a clock is in the state
        names = [
            name
            for name in {**self.saved, **now}
            if self.saved.get(name) != now.get(name) and not matches(f"{self.path}{name}", skip)
        ]
        if not names:
            return None
        shown = [
            f"{name or 'its state'}: {_shown(self.saved, name)} and {_shown(now, name)}" for name in names
        ]
        more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
        return f"{'; '.join(shown[:_MOST_SHOWN])}{more}", now == self.before


def captured(handler: Handler, obj: Any) -> dict[str, Any] | None:
    """The contents of what a handler captures of an object; None if it cannot."""
    try:
        return contents(handler.capture(obj))
    except Exception:
        # A handler may fail on an object in a state that no checkpoint has: then there is nothing to compare.
        return None


def contents(state: Any) -> dict[str, Any]:
    """The values in a state by their places in it. They stay the same when the state is changed later."""
    found: dict[str, Any] = {}
    met: set[int] = set()
    todo = collections.deque([("", state)])
    while todo:
        path, value = todo.popleft()
        inside = _inside(value) if id(value) not in met else None
        if inside is None:
            found[path] = _leaf(value)
            continue
        met.add(id(value))
        found[path] = (type(value),)
        todo += ((f"{path}[{step}]", child) for step, child in inside)
    return found


def _inside(value: Any) -> Iterator[tuple[str, Any]] | None:
    """The elements of a container that are compared one by one; None for anything else."""
    if isinstance(value, dict):
        return ((f"{key!r:.80}", child) for key, child in dict.items(value))
    if isinstance(value, np.ndarray) and value.dtype == object:
        value = value.ravel().tolist()
    if isinstance(value, _CONTAINERS):
        is_long = len(value) > _MANY and all(type(each) in tree.PLAIN_TYPES for each in value)
        return None if is_long else ((str(index), child) for index, child in enumerate(value))
    return None


def _leaf(value: Any) -> Any:
    cls = type(value)
    match value:
        case float():
            return cls, value.hex()
        case None | bool() | int() | str() | bytes() | enum.Enum():
            return cls, value
        case complex() | np.generic() | list() | tuple() | collections.deque():
            return cls, repr(value)
        case set() | frozenset():
            return cls, sorted(map(repr, value))
        case np.ndarray():
            return (
                cls,
                value.dtype.str,
                value.shape,
                xxhash.xxh3_128_hexdigest(np.ascontiguousarray(value).data),
            )
        case torch.Tensor():
            array = (
                value.detach().resolve_conj().resolve_neg().cpu().contiguous().reshape(-1).view(torch.uint8)
            )
            return cls, value.dtype, tuple(value.shape), xxhash.xxh3_128_hexdigest(array.numpy().data)
    return (cls,)


def _shown(found: dict[str, Any], name: str) -> str:
    if name not in found:
        return "nothing"
    cls, *more = found[name]
    if not more:
        return f"a {cls.__qualname__}"
    # Where the content cannot be told in a few words, its type and shape are.
    return f"{more[0]!r:.60}" if len(more) == 1 else f"a {cls.__qualname__} of {more[0]}{list(more[1])}"

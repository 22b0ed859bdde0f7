"""Whether recorded actions are of an environment's action space. Imports gymnasium; knows no files.

A checkpoint's actions are handed to native code, so what a damaged or hostile one holds is refused before that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from perdure.environments.replay._log import Actions, Group, Kind, Leaf, Nothing


def fits(kind: Kind, space: Any) -> bool:
    """Whether all actions of a kind are of a space."""
    return _problem(kind, space) is None


def expect(action: Any, space: Any) -> None:
    """Check one action.

    :raises ValueError: if it is not of the space.
    """
    actions = Actions()
    actions.append(action)
    check(actions, space)


def check(actions: Actions, space: Any) -> None:
    """Check every action; how far a `Box` reaches is not asked: agents go beyond, and environments clip.

    :raises ValueError: if one is not of the space; it says which and what was expected.
    """
    for kind in actions.kinds:
        if (reason := _problem(kind, space)) is not None:
            raise ValueError(f"expected actions of {space}, found {reason}")


def _problem(kind: Kind, space: Any) -> str | None:
    match space:
        case spaces.Dict():
            if not isinstance(kind, Group) or kind.of != "dict" or set(kind.keys) != set(space.spaces):
                return _named(kind)
            parts = zip(kind.kinds, (space.spaces[key] for key in kind.keys), strict=True)
            return next((reason for part, inner in parts if (reason := _problem(part, inner))), None)
        case spaces.Tuple():
            if not isinstance(kind, Group) or kind.of == "dict" or len(kind.kinds) != len(space.spaces):
                return _named(kind)
            parts = zip(kind.kinds, space.spaces, strict=True)
            return next((reason for part, inner in parts if (reason := _problem(part, inner))), None)
        case spaces.Discrete():
            return _bounded(kind, 1, space.start, space.start + space.n)
        case spaces.MultiDiscrete():
            start = space.start.ravel()
            return _bounded(kind, math.prod(space.shape), start, start + space.nvec.ravel(), space.shape)
        case spaces.MultiBinary():
            return _bounded(kind, math.prod(space.shape), 0, 2, space.shape)
        case spaces.Box():
            return _numbers(kind, math.prod(space.shape), space.shape, "biuf")
    return f"a {type(space).__name__}, whose actions are not checked. Give it actions of another space"


def _named(kind: Kind) -> str:
    if isinstance(kind, Leaf):
        return f"{kind.dtype}{list(kind.shape)}"
    return "None" if isinstance(kind, Nothing) else f"a {kind.of} of {len(kind.kinds)}"


def _numbers(kind: Kind, size: int, shape: tuple[int, ...] | None, of: str) -> str | None:
    """What is wrong with actions of `size` numbers each; one number may come in any wrapping."""
    leaves = kind.leaves()
    if isinstance(kind, Leaf):
        fits = kind.shape == shape or (size == 1 and math.prod(kind.shape) == 1)
    else:
        fits = (
            isinstance(kind, Group)
            and kind.of != "dict"
            and sum(math.prod(leaf.shape) for leaf in leaves) == size
        )
    return None if fits and all(leaf.dtype.kind in of for leaf in leaves) else _named(kind)


def _bounded(kind: Kind, size: int, low: Any, high: Any, shape: tuple[int, ...] | None = None) -> str | None:
    if (reason := _numbers(kind, size, shape, "biu")) is not None:
        return reason
    rows = [rows.reshape(len(rows), -1) for leaf in kind.leaves() for rows in [leaf.column.rows]]
    values = np.concatenate(rows, axis=1) if rows else np.empty((0, 0))
    wrong = (values < low) | (values >= high)
    return f"{values[wrong][0]}" if wrong.any() else None

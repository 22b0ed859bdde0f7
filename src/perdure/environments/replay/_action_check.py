"""Checks that recorded actions belong to an environment's action space. Imports gymnasium; knows no files.

The actions in a checkpoint are passed to native code, so those of a damaged or hostile one are refused before that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import spaces

from perdure.environments.replay._log import Actions, Group, Kind, Leaf, Nothing


def fits(kind: Kind, space: Any) -> bool:
    """Whether all actions of a kind belong to a space."""
    return _problem(kind, space) is None


def expect(action: Any, space: Any) -> None:
    """Check one action.

    :raises ValueError: if it does not belong to the space.
    """
    actions = Actions()
    actions.append(action)
    check(actions, space)


def check(actions: Actions, space: Any) -> None:
    """Check every action. The bounds of a `Box` do not count, because agents exceed them and environments clip.

    :raises ValueError: if one does not belong to the space; it says which, and what was expected.
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
    """What is wrong with actions of `size` numbers each; a single number may have any shape."""
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

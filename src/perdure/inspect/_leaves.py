"""The leaves of a state in words: what is at which path. Arrays are not read for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from perdure.state import follows_option, is_secret_path, without_secret_texts
from perdure.tree import (
    Array,
    Custom,
    MappingNode,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    State,
    Value,
    shown,
)

_LONGEST = 200
#: Stands for a text that is not shown.
_HIDDEN = Omitted("a secret")


@dataclass(frozen=True)
class Leaf:
    """One leaf.

    :param part: the part of the world that it belongs to.
    :param type: of what, in words.
    :param what: the value in words; of what was left out, why.
    :param shape: of an array; None for anything else.
    :param nbytes: of its array data; 0 where another path's array holds it.
    :param plain: whether `what` tells the type too.
    """

    path: str
    part: str
    type: str
    what: str
    shape: tuple[int, ...] | None = None
    nbytes: int = 0
    left_out: bool = False
    plain: bool = False


def leaves_of(state: State) -> Iterator[Leaf]:
    """All leaves of a state, in the order of its parts."""
    # The longest name first: one part's name may be the beginning of another's.
    names = sorted(state.root.fields, key=len, reverse=True)
    before: tuple[str, Any] = ("", None)
    for path, node in state.leaves():
        part = next(
            (name for name in names if path == name or path.startswith((f"{name}.", f"{name}["))), path
        )
        yield _leaf(path, part, _HIDDEN if _is_value_of_option(before, path, node) else node)
        before = path, node


def _is_value_of_option(before: tuple[str, Any], path: str, node: Any) -> bool:
    """Whether a text is a secret because of the option before it in a list."""
    holder = path.rpartition("[")[0]
    return (
        isinstance(node, str) and follows_option(before[1], node) and before[0].rpartition("[")[0] == holder
    )


def _leaf(path: str, part: str, node: Any) -> Leaf:
    if node is _HIDDEN or (isinstance(node, str | Value) and is_secret_path(path)):
        return Leaf(path, part, "a secret", "not shown")
    if isinstance(node, str):
        node = without_secret_texts(node)
    match node:
        case Array():
            nbytes = node.data.nbytes if node.data is not None else 0
            window = " (part of another array)" if node.base is not None else ""
            return Leaf(path, part, f"{node.framework} {_dtype(node)}{window}", "", node.shape, nbytes)
        case NumberRun():
            nbytes = node.array.data.nbytes if node.array.data is not None else 0
            return Leaf(path, part, f"{node.of}s", "", node.array.shape, nbytes)
        case Omitted():
            return Leaf(path, part, "left out", node.reason[:_LONGEST], left_out=True)
        case Value():
            return Leaf(path, part, node.kind, _value(node))
        case RepeatRun():
            return Leaf(path, part, "equal values", f"{node.count:,} times")
        case MappingNode() | SequenceNode():
            return Leaf(path, part, _class(node.type), "empty")
        case Object() | Custom():
            return Leaf(path, part, _class(node.type), "nothing to keep")
    return Leaf(path, part, type(node).__name__, _plain(node), plain=True)


def _class(name: str) -> str:
    return name.rpartition(":")[2]


def _dtype(node: Array) -> str:
    if isinstance(node.dtype, str) and node.framework == "numpy":
        try:
            return np.dtype(node.dtype).name
        except TypeError:
            return node.dtype
    return node.dtype if isinstance(node.dtype, str) else "structured"


def _value(node: Value) -> str:
    data = node.data
    try:
        if node.kind == "numpy":
            return str(np.frombuffer(bytes.fromhex(data[1]), np.dtype(data[0]))[0])[:_LONGEST]
        if node.kind in ("function", "class", "module"):
            return str(data[0]).replace(":", ".")[:_LONGEST]
        if node.kind == "enum":
            return f"{_class(data[0])}.{data[1]}"[:_LONGEST]
        if node.kind == "complex":
            return str(complex(float.fromhex(data[0]), float.fromhex(data[1])))
    except (ValueError, TypeError, IndexError, LookupError):
        pass
    return str(data[:_LONGEST] if isinstance(data, str | list) else data)[:_LONGEST]


def _plain(node: Any) -> str:
    return shown(node[:_LONGEST] if isinstance(node, str) else node)[:_LONGEST]

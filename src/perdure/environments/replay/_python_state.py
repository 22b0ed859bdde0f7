"""Copies the Python state of an environment, and puts it back later.

What lies in native code is left out of the copy, and left alone when the rest is put back: a replay brings it back.
Knows states and live objects; neither environments nor files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state import (
    Handler,
    Report,
    Walker,
    content,
    known,
    paused_collection,
    restore,
    rng,
    with_own_axes,
)
from perdure.tree import Node, Object, Omitted, Path, SequenceNode, State

_NATIVE = Omitted("native code")


class _PythonSide(Walker):
    """A walk that leaves out what cannot be captured, instead of refusing it."""

    def __init__(self, skip: Sequence[str]) -> None:
        super().__init__(skip)
        self.left: list[Path] = []

    def refuse(self, value: Any, path: Path, reason: str) -> Node:
        if isinstance(known(type(value)).entry, Handler):
            return super().refuse(value, path, reason)
        self.left.append(path)
        return _NATIVE


def take(
    parts: Mapping[str, Any], skip: Sequence[str] = (), *, generators: bool = False
) -> tuple[State, list[Path]]:
    """A copy of the state of everything that Python can reach from `parts`, and the paths that were left out.

    :param skip: paths to leave out, with `*` and `?` as wildcards.
    :param generators: whether to copy the process's random generators too.
    :raises CaptureError: if a handler fails.
    """
    with paused_collection():
        walker = _PythonSide(skip)
        process = {rng.PART: rng.Generators(rng.get_state())} if generators else {}
        root = walker.parts({**parts, **process})
        walker.finish()
        state = State(root, walker.own_arrays())
        for node in state.arrays:
            node.data = _copy(node.data)
    return state, walker.left


def put(state: State, parts: Mapping[str, Any], skip: Sequence[str] = ()) -> Report:
    """Write a state that `take` returned into the objects of `parts`, as far as it fits; the report lists the rest.

    :param parts: a dict of live objects; a part that can only be replaced as a whole is replaced in it.
    """
    live = State(_PythonSide(skip).parts(parts))
    with _without_native(state, live):
        return restore(state, parts, strict=False, skip=skip)


def kept(state: State) -> State:
    """The same state with its arrays in memory, so that the files it was read from may be deleted."""
    for node in state.arrays:
        if not isinstance(node.data, np.ndarray | torch.Tensor):
            node.data = with_own_axes(node, _copy(content(node)))
    return state


def _copy(data: Any) -> Any:
    if isinstance(data, torch.Tensor):
        return data.detach().clone()
    return np.copy(data, order="K")


# -- containers of native objects ----------------------------------------------------------------------------


@contextlib.contextmanager
def _without_native(saved: State, live: State) -> Iterator[None]:
    """While entered, `saved` is without the containers of native objects that do not fit the live ones.

    A list of a physics engine's bodies can be filled element by element if the live list is as long. Otherwise it stays
    as it is: some of its elements cannot be made, and losing the others would be worse.
    """
    cut: list[tuple[Any, Any, Any]] = []
    try:
        for holder, slot, child in _misfits(saved, live):
            cut.append((holder, slot, child))
            holder[slot] = (child[0], _NATIVE) if isinstance(child, tuple) else _NATIVE
        yield
    finally:
        for holder, slot, child in reversed(cut):
            holder[slot] = child


def _misfits(saved: State, live: State) -> list[tuple[Any, Any, Any]]:
    found = []
    seen: set[int] = set()
    todo: list[tuple[Any, Any]] = [(saved.root, live.root)]
    while todo:
        node, other = todo.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for holder, slot, child, across in _slots(node, other):
            inner = child[1] if isinstance(child, tuple) else child
            if (
                isinstance(inner, SequenceNode | tree.MappingNode)
                and not _fits(inner, across)
                and _is_native(inner)
            ):
                found.append((holder, slot, child))
            elif isinstance(inner, SequenceNode | tree.MappingNode | Object):
                todo.append((inner, across))
    return found


def _slots(node: Any, other: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Each slot of a node: its holder, the slot, what is in it, and what the live side has in the same slot."""
    if isinstance(node, Object):
        fields = other.fields if isinstance(other, Object) else {}
        for name, child in node.fields.items():
            yield node.fields, name, child, fields.get(name)
    elif isinstance(node, SequenceNode):
        items = other.items if isinstance(other, SequenceNode) else []
        for position, child in enumerate(node.items):
            yield node.items, position, child, items[position] if position < len(items) else None
    elif isinstance(node, tree.MappingNode):
        pairs = {key: child for key, child in other.pairs if not _is_node(key)} if _is_mapping(other) else {}
        for position, (key, child) in enumerate(node.pairs):
            yield node.pairs, position, (key, child), None if _is_node(key) else pairs.get(key)


def _is_node(key: Any) -> bool:
    return isinstance(key, Node)


def _is_mapping(node: Any) -> bool:
    return isinstance(node, tree.MappingNode)


def _fits(node: Any, other: Any) -> bool:
    if type(other) is not type(node) or other.type != node.type or node.type in ("set", "frozenset"):
        return False
    if isinstance(node, SequenceNode):
        return len(node.items) == len(other.items)
    keys = [key for key, _ in node.pairs]
    return not any(map(_is_node, keys)) and keys == [key for key, _ in other.pairs]


def _is_native(node: Any) -> bool:
    """Whether something in a node was left out, directly or inside containers."""
    match node:
        case Omitted():
            return True
        case Object():
            return any(isinstance(child, Omitted) for child in node.fields.values())
        case SequenceNode():
            return any(map(_is_native, node.items))
        case tree.MappingNode():
            return any(_is_native(key) or _is_native(child) for key, child in node.pairs)
    return False

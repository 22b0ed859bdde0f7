"""A tree without most elements of its long containers, so that comparing it takes no longer for a million of them.

Of elements that a checkpoint can make, the first ones stand for all: of each kind the first one stays wherever it is.
Knows nodes alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from perdure import tree
from perdure.state._structure import MANY
from perdure.tree import (
    Custom,
    MappingNode,
    Node,
    NumberRun,
    Object,
    Path,
    RepeatRun,
    SequenceNode,
    Value,
)


@contextmanager
def thinned(root: Object, long: Sequence[Node], paths: Iterable[Path]) -> Iterator[None]:
    """Within, long containers have only their first elements and those on given paths. Then they are as they were.

    :param root: of the tree.
    :param long: the containers.
    :param paths: of what is to stay.
    """
    before = [(node, _content(node)) for node in long]
    thin(root, long, paths)
    try:
        yield
    finally:
        for node, content in before:
            _set_content(node, content)


def thin(root: Object, long: Sequence[Node], paths: Iterable[Path]) -> None:
    """Take most elements from long containers for ever; see :func:`thinned`."""
    if not long:
        return
    staying = _Staying(root, paths)
    for node in long:
        _set_content(node, _few(node, staying.nodes))


class _Staying:
    """The nodes on paths, by their ids."""

    def __init__(self, root: Object, paths: Iterable[Path]) -> None:
        self.nodes: set[int] = set()
        self._places: dict[int, dict[Any, Any]] = {}
        for path in paths:
            self._add(root, path)

    def _add(self, node: Any, path: Path) -> None:
        steps = []
        while path is not None:
            path, *step = path
            steps.append(step)
        for kind, name in reversed(steps):
            while isinstance(node, Custom):
                node = node.payload
            if not isinstance(node, Node):
                return
            node = self._below(node, kind, name)
            self.nodes.add(id(node))

    def _below(self, node: Node, kind: str, name: Any) -> Any:
        if kind == "." and isinstance(node, Object):
            return node.fields.get(name)
        places = self._places.get(id(node))
        if places is None:
            edges = tree.edges(node)
            places = self._places[id(node)] = {
                (kind, name): child
                for _, child, kind, name in edges
                if not isinstance(name, Node) or isinstance(name, Value)
            }
        return places.get((kind, name))


def _content(node: Node) -> list[Any]:
    return (
        node.items if isinstance(node, SequenceNode) else node.pairs if isinstance(node, MappingNode) else []
    )


def _set_content(node: Node, content: list[Any]) -> None:
    if isinstance(node, SequenceNode):
        node.items = content
    elif isinstance(node, MappingNode):
        node.pairs = content


def _few(node: Node, staying: set[int]) -> list[Any]:
    content = _content(node)
    few, rest = content[:MANY], content[MANY:]
    if isinstance(node, MappingNode):
        return few + [pair for pair in rest if id(pair[0]) in staying or id(pair[1]) in staying]
    if isinstance(node, SequenceNode) and node.type in ("set", "frozenset"):
        return few + [item for item in rest if id(item) in staying]
    gone = 0
    for item in rest:
        if id(item) in staying or isinstance(item, RepeatRun | NumberRun):
            if gone:
                few.append(RepeatRun(None, gone))
                gone = 0
            few.append(item)
        else:
            gone += 1
    return [*few, RepeatRun(None, gone)] if gone else few

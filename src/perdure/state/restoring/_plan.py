"""The results of the steps of restoring that change nothing: what matches what, and what will be written where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perdure.state import _iterators
from perdure.state._containers import BUILTIN
from perdure.state._live_objects import LiveObjects
from perdure.state._report import Report
from perdure.state._shown_classes import Ambiguous
from perdure.state.restoring._keys import Keys
from perdure.tree import (
    OBJECT_VIEW,
    Custom,
    MappingNode,
    Node,
    Object,
    Omitted,
    Path,
    SequenceNode,
    Slot,
    write_path,
)


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Any = _Absent()
#: The names of containers that need no class of the script.
CONTAINERS: dict[str, type] = {
    **{name: cls for cls, name in BUILTIN.items()},
    "ndarray": np.ndarray,
    OBJECT_VIEW: np.ndarray,
}


@dataclass(slots=True)
class Edge:
    """A saved node (or plain value) and the live value at the same place.

    :param holder: the node that holds the saved node.
    :param slot: the place in the holder.
    :param must_fit: whether the live value must not be replaced, as a tensor of a module.
    """

    node: Any
    live: Any
    path: Path
    holder: Node
    slot: Slot
    must_fit: bool = False

    @property
    def place(self) -> tuple[int, Slot]:
        """Which place of which node this is."""
        return id(self.holder), self.slot


@dataclass(slots=True)
class Match:
    """A saved node and its live object.

    :param path: where the node was met first.
    :param live: the live object, or ABSENT.
    :param found: what the script has at `path` instead, if there is no live object.
    :param decided: whether `live` says already what it is; not before the node's own content was looked at.
    """

    node: Node
    path: Path
    live: Any = ABSENT
    found: Any = ABSENT
    decided: bool = False


@dataclass
class Matches:
    """Which live object belongs to which saved node, and what does not fit.

    :param root: of the saved state.
    :param world: the live side.
    :param report: what does not fit, or was skipped.
    :param left: places that are not written; the value says whether they were left out on purpose.
    :param own: what is written at some places instead of the saved values: strings of this process, and the functions
        and classes that references mean.
    :param bad: the ids of nodes that can have no live object.
    :param unset: live objects with the names of attributes that were not set when the state was captured.
    :param removed: the names of the live parts that the world did not have any more.
    :param shrunk: the ids of the nodes of dicts that have lost entries which only the script builds.
    :param new_objects: objects made for the comparison, kept alive because their ids are used.
    :param keys: what was found out about the keys of dicts and the elements of sets.
    """

    root: Object
    world: LiveObjects
    report: Report = field(default_factory=Report)
    left: dict[tuple[int, Slot], bool] = field(default_factory=dict)
    own: dict[tuple[int, Slot], Any] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)
    unset: list[tuple[Any, str]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    shrunk: set[int] = field(default_factory=set)
    new_objects: list[Any] = field(default_factory=list)
    keys: Keys = field(default_factory=Keys)
    _by_node: dict[int, Match] = field(default_factory=dict)

    def meet(self, node: Node, path: Path) -> Match:
        """The match of a node, which is met at a path."""
        match = self._by_node.get(id(node))
        if match is None:
            match = self._by_node[id(node)] = Match(node, path)
        return match

    def live(self, node: Node) -> Any:
        """The live object of a node, or ABSENT."""
        match = self._by_node.get(id(node))
        return ABSENT if match is None else match.live

    def path(self, node: Node | None) -> Path:
        """Where a node was met first."""
        match = self._by_node.get(id(node))
        return None if match is None else match.path

    def found(self, node: Node) -> Any:
        """What the script has where a node without a live object was met first."""
        match = self._by_node.get(id(node))
        return ABSENT if match is None else match.found

    def pair(self, node: Node, live: Any) -> None:
        """Make a live object (or ABSENT) that of a node which was met before."""
        match = self._by_node[id(node)]
        match.live, match.decided = live, True

    def find(self, name: str) -> type | None:
        """The class of a recorded name that the live side shows, or None."""
        if name in _iterators.CLASSES:
            return _iterators.CLASSES[name]
        try:
            return self.world.shown.find(name)
        except Ambiguous:
            return None

    def class_of(self, node: Object | Custom | SequenceNode | MappingNode) -> type | None:
        """The class that the object of a node has or will have."""
        live = self.live(node)
        return (
            self.world.class_of(live)
            if live is not ABSENT
            else CONTAINERS.get(node.type) or self.find(node.type)
        )

    def reject(self, edge: Edge, reason: str) -> None:
        """Leave a place as it is, because the checkpoint's value cannot be had."""
        self.report.unexpected.append((write_path(edge.path), reason))
        self.left[edge.place] = False


@dataclass(frozen=True)
class RestorePlan:
    """What will be written where, and in which order.

    :param matches: of the saved nodes with live objects.
    :param report: what becomes of every path if the plan is carried out.
    :param left: places that are not written.
    :param bad: the ids of nodes that are not written.
    :param reached: all nodes that are written, parents before children.
    :param inside_out: nodes whose objects can only be made once their contents exist, innermost first.
    :param first: nodes whose handlers restore before anything else is written.
    :param at_once: the ids of containers that are filled as soon as they are there, for iterators over them.
    """

    matches: Matches
    report: Report
    left: Mapping[tuple[int, Slot], bool]
    bad: frozenset[int]
    reached: Sequence[Node]
    inside_out: Sequence[Node]
    first: Sequence[Node]
    at_once: frozenset[int] = frozenset()

    @property
    def root(self) -> Object:
        """Of the saved state."""
        return self.matches.root

    def writes(self, holder: Node, slot: Slot, child: Any) -> bool:
        """Whether a node's place is written."""
        return not (isinstance(child, Omitted) or id(child) in self.bad or (id(holder), slot) in self.left)

    def written(self, holder: Node, slot: Slot, child: Any) -> Any:
        """What is written at a node's place: the saved child, or a string of this process."""
        return self.matches.own.get((id(holder), slot), child)

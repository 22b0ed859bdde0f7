"""What restoring has found out before it writes: which live object stands for which node, and what does not
fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from perdure.state._class_names import module_of, same_class
from perdure.state._containers import BUILTIN
from perdure.state._registry import find_class, is_environment
from perdure.state._report import Report
from perdure.state.restoring._keys import Keys
from perdure.tree import Custom, MappingNode, Node, Object, Path, SequenceNode, Slot, write_path


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Any = _Absent()
#: The names of containers that need no class of the script.
CONTAINERS: dict[str, type] = {**{name: cls for cls, name in BUILTIN.items()}, "ndarray": np.ndarray}


@dataclass(slots=True)
class Edge:
    """A saved node (or plain value) and the live value at the same place."""

    node: Any
    live: Any
    path: Path
    holder: Node
    slot: Slot
    rigid: bool = False

    @property
    def place(self) -> tuple[int, Slot]:
        """Which place of which node this is."""
        return id(self.holder), self.slot


@dataclass
class Plan:
    """What will be written where.

    :param root: of the state.
    :param classes: of the live side, by their recorded names.
    :param pairs: what stands for a node (by its id): the live object it was paired with, or ABSENT.
    :param paths: where a node was met first.
    :param found: what the script has where a node was met first and nothing was paired.
    :param left: places that are not written.
    :param spared: those of them that were to be left alone.
    :param own: what is written in some places instead of what the checkpoint has: the process's own strings.
    :param bad: nodes that nothing can stand for.
    :param reverted: attributes that only the live object has, and its class: they had not been set yet.
    :param given: what adapters gave for live objects.
    :param eager: nodes whose objects can only be made when all they hold is there, innermost first.
    :param first: nodes whose handlers have to restore before anything else is written.
    :param keep: objects whose ids are used here, and that nothing else may keep alive.
    :param keys: what is known of the keys of dicts and the elements of sets.
    :param named: the classes that were looked for, by their recorded names.
    :param content: what holds the bytes of an array (by its id) once they are read: the live array itself, or a
        new one in the order of the node's memory.
    """

    root: Object
    classes: Mapping[str, type]
    report: Report = field(default_factory=Report)
    pairs: dict[int, Any] = field(default_factory=dict)
    paths: dict[int, Path] = field(default_factory=dict)
    found: dict[int, Any] = field(default_factory=dict)
    left: set[tuple[int, Slot]] = field(default_factory=set)
    spared: set[tuple[int, Slot]] = field(default_factory=set)
    own: dict[tuple[int, Slot], Any] = field(default_factory=dict)
    bad: set[int] = field(default_factory=set)
    reverted: list[tuple[Any, str]] = field(default_factory=list)
    given: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    eager: list[Node] = field(default_factory=list)
    first: list[Node] = field(default_factory=list)
    keep: list[Any] = field(default_factory=list)
    content: dict[int, Any] = field(default_factory=dict)
    keys: Keys = field(default_factory=Keys)
    named: dict[str, type | None] = field(default_factory=dict)

    def live(self, node: Node) -> Any:
        """The live object that stands for a node, or ABSENT."""
        return self.pairs.get(id(node), ABSENT)

    def find(self, name: str) -> type | None:
        """The live side's class of a recorded name."""
        if name not in self.named:
            self.named[name] = self._find(name)
        return self.named[name]

    def _find(self, name: str) -> type | None:
        found = self.classes.get(name)
        if found is None:
            found = next((cls for cls in self.classes.values() if same_class(name, cls)), None)
        # A transition of a buffer that was empty when the script built it, say: its class lies beside the buffer's.
        modules = {"__main__", *(module_of(cls) for cls in self.classes.values())}
        environments = (module_of(cls) for cls in self.classes.values() if is_environment(cls))
        packages = {module.rpartition(".")[0] for module in environments} - {""}
        return found or find_class(name, modules, packages)

    def class_of(self, node: Object | Custom | SequenceNode | MappingNode) -> type | None:
        """The class of the object that stands for a node."""
        live = self.live(node)
        return type(live) if live is not ABSENT else CONTAINERS.get(node.type) or self.find(node.type)

    def reject(self, edge: Edge, reason: str) -> None:
        """Leave a place as it is: what the checkpoint has there cannot be had."""
        self.report.unexpected.append((write_path(edge.path), reason))
        self.left.add(edge.place)

"""What decides whether a world's structure can be restored, noted during a walk at almost no cost.

Two walks that note the same differ in numbers, in the content of arrays, and in how many objects of the same kinds
containers hold. None of that decides whether a fresh process could restore the world. Knows no files.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from typing import Any

from perdure.state._registry import Adapter, Handler, cannot_make, known
from perdure.state._secrets import is_secret_name
from perdure.tree import Array, Node, Path

#: A class, and the names of the attributes of one of its objects.
Shape = tuple[Any, ...]

#: What objects of a shape are. Of data, nothing but the shape decides, and all attributes are captured. Of anchors
#: (what a checkpoint may be unable to make, also because something of it is left out) it matters where each one is.
DATA, ANCHOR = 1, 2

#: A container with more elements is looked at in part.
MANY = 1_000


@dataclass
class Structure:
    """The structure of one world.

    :param shapes: of its objects, with what these are.
    :param first: where the first object of each shape is.
    :param facts: what is known of each place that decides, in order.
    :param decisive: the paths of these places: of objects that a checkpoint may be unable to make, of what was left
        out, and of texts that may name files.
    :param long: the containers of many elements.
    """

    shapes: dict[Shape, int] = field(default_factory=dict)
    first: dict[Shape, Path] = field(default_factory=dict)
    facts: list[Any] = field(default_factory=list)
    decisive: list[Path] = field(default_factory=list)
    long: list[Node] = field(default_factory=list)
    _directories: set[tuple[str, Any, bool]] = field(default_factory=set)

    def note_shape(self, shape: Shape, path: Path) -> int:
        """Note a shape that was not met before, and say what its objects are."""
        cls, *names = shape
        special = any(type(name) is not str or is_secret_name(name) or _is_code(cls, name) for name in names)
        self.first[shape] = path
        self.shapes[shape] = kind = ANCHOR if special or _is_anchor(cls) else DATA
        return kind

    def note_place(self, path: Path, *facts: Any) -> None:
        """Note a place that decides, and what is known of it."""
        self.decisive.append(path)
        self.facts += facts
        # All of it: a pool of objects may have moved elsewhere with what it holds.
        self.facts.append(path)

    def note_text(self, text: str, path: Path) -> None:
        """Note a text that may be refused as a place; one of each directory for each name of an attribute."""
        holder = path
        while holder is not None and holder[1] != "." and holder[0] is not None:
            holder = holder[0]
        name = None if holder is None else holder[2]
        directory = text.rpartition("/")[0]
        if (directory, name, holder is path) not in self._directories:
            self._directories.add((directory, name, holder is path))
            self.note_place(path, directory)

    def places(self, seen: Container[Shape] = ()) -> Iterator[Path]:
        """The paths that decide: where something may be impossible to make, and where a shape comes first.

        :param seen: shapes that are known already.
        """
        yield from self.decisive
        yield from (path for shape, path in self.first.items() if shape not in seen)

    def without_nodes(self) -> Structure:
        """The same, keeping no part of the tree alive."""
        return Structure(shapes=self.shapes, facts=self.facts)

    def same_as(self, last: Structure, seen: set[Shape]) -> bool:
        """Whether nothing is here that was not there.

        :param last: of a walk before this one.
        :param seen: the shapes of all such walks.
        """
        try:
            return self.facts == last.facts and self.shapes.keys() <= seen
        except RecursionError:
            return False  # a path of a thousand steps, as in a linked list, is not compared by Python


def _is_anchor(cls: type) -> bool:
    about = known(cls)
    if isinstance(about.entry, Handler):
        return about.entry.create is None or about.entry.makes not in (None, cls)
    return isinstance(about.entry, Adapter) or bool(about.left_out) or cannot_make(cls) is not None


def _is_code(cls: type, name: str) -> bool:
    """Whether an attribute hides a method of its class, as one that a checkpoint sets only where it is already."""
    found = (vars(base)[name] for base in cls.__mro__ if name in vars(base))
    return any(callable(each) or isinstance(each, classmethod) for each in found)


def shapes_of_tensors(fields: dict[str, Any]) -> list[Any]:
    """The types and shapes of the tensors among an object's attributes, which may be impossible to replace."""
    return [(child.dtype, child.shape) for child in fields.values() if type(child) is Array]

"""Weak containers: captured are the entries whose objects something else in the world holds. Knows no files.

What nothing else in the world holds may be gone at any moment, and in the next process nothing would keep it.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from perdure.state._attributes import attributes_of
from perdure.state._class_names import class_name
from perdure.state._compounds import REFERENT, cells, content_of
from perdure.state._references import kind_of
from perdure.state._registry import Handler, register_handler
from perdure.tree import Custom, Node, Object, Omitted, Path, SequenceNode

if TYPE_CHECKING:
    from perdure.state._walker import Walker

UNHELD = "an object that nothing else in the world holds"


class Pending:
    """A weak reference or container whose content is not complete yet.

    :param value: it.
    :param node: stands for it.
    """

    def __init__(self, value: Any, node: Object | Custom, path: Path) -> None:
        self.value = value
        self.node = node
        self.path = path
        self._entries: dict[int, Any] = {}

    def find(self, walker: Walker) -> bool:
        """Take the entries whose objects the walk has met by now; whether there were new ones."""
        before = len(self._entries)
        for position, (held, entry) in enumerate(_entries(self.value)):
            if position not in self._entries and (id(held) in walker.memo or kind_of(held)):
                walker.keep(entry)
                self._entries[position] = entry
                path = (self.path, "[", position)
                if isinstance(entry, tuple):
                    walker.node(entry[-1], path)
        return len(self._entries) > before

    def finish(self, walker: Walker) -> None:
        """Write what was found into the node."""
        if isinstance(self.node, Object):
            found = self._entries.get(0)
            node = Omitted(UNHELD) if found is None else walker.node(found, (self.path, ".", REFERENT))
            self.node.fields[REFERENT] = node
            return
        entries = [self._entries[position] for position in sorted(self._entries)]
        if isinstance(self.value, weakref.WeakSet):
            # Its own order is another one in each process.
            met = {each: n for n, each in enumerate(walker.memo)}
            entries.sort(key=lambda entry: met.get(id(entry), -1))
        self.node.payload = SequenceNode(
            "list", [walker.node(each, (self.path, "[", n)) for n, each in enumerate(entries)]
        )


class Variables:
    """The variables of a closure that hold objects; those of the world are taken.

    :param value: the function.
    :param node: stands for it.
    """

    def __init__(self, value: Any, node: Object, path: Path) -> None:
        self.value = value
        self.node = node
        self.path = path

    def find(self, walker: Walker) -> bool:
        """They make the walk meet nothing."""
        return False

    def finish(self, walker: Walker) -> None:
        """Write what the walk has met into the node."""
        for name, cell in cells(self.value).items():
            found = walker.memo.get(id(content_of(cell)))
            if found is not None and name not in self.node.fields:
                self.node.fields[name] = found


def _entries(value: Any) -> Iterator[tuple[Any, Any]]:
    """The objects that a weak reference or container refers to, each with its entry."""
    if isinstance(value, weakref.ref):
        if (referent := value()) is not None:
            yield referent, referent
    elif isinstance(value, weakref.WeakValueDictionary):
        for key, held in list(weakref.WeakValueDictionary.items(value)):
            yield held, (key, held)
    elif isinstance(value, weakref.WeakKeyDictionary):
        for held, entry in list(weakref.WeakKeyDictionary.items(value)):
            yield held, (held, entry)
    else:
        for held in list(weakref.WeakSet.__iter__(value)):
            yield held, held


def fill(walker: Walker, pending: Sequence[Pending | Variables]) -> bool:
    """Look at what waits once more; whether the walk has to go on before it can be finished."""
    found = [each.find(walker) for each in pending]
    return any(found)


# -- restoring ---------------------------------------------------------------------------------------------------------


def _capture(value: Any) -> Any:
    raise NotImplementedError("a walk fills it")


def _restore_keys(live: Any, saved: list[Any]) -> None:
    weakref.WeakKeyDictionary.clear(live)
    for key, value in saved:
        weakref.WeakKeyDictionary.__setitem__(live, key, value)


def _restore_values(live: Any, saved: list[Any]) -> None:
    weakref.WeakValueDictionary.clear(live)
    for key, value in saved:
        weakref.WeakValueDictionary.__setitem__(live, key, value)


def _restore_set(live: Any, saved: list[Any]) -> None:
    weakref.WeakSet.clear(live)
    weakref.WeakSet.update(live, saved)


def _creates(cls: Any, restore: Any) -> Handler:
    def create(saved: list[Any]) -> Any:
        made = cls()
        restore(made, saved)
        return made

    return Handler(_capture, restore, create, makes=cls)


CONTAINERS: dict[type, Handler] = {
    weakref.WeakKeyDictionary: _creates(weakref.WeakKeyDictionary, _restore_keys),
    weakref.WeakValueDictionary: _creates(weakref.WeakValueDictionary, _restore_values),
    weakref.WeakSet: _creates(weakref.WeakSet, _restore_set),
}
for _cls, _handler in CONTAINERS.items():
    register_handler(_cls, _handler)


#: The attributes that weak containers and references have.
_OWN = frozenset(
    name
    for make in CONTAINERS
    for name in (*vars(make()), "_pending_removals", "_iterating", "_dirty_len", "_remove")
) | {*weakref.WeakMethod.__slots__, *weakref.KeyedRef.__slots__}


def take(walker: Walker, value: Any, path: Path) -> Node:
    """The node of a weak reference or container, which is filled when the rest of the walk is done."""
    cls: Any = type(value)
    name = class_name(cls)
    if more := attributes_of(value).keys() - _OWN:
        shown = ", ".join(sorted(map(str, more)))
        kind = "a weak reference" if issubclass(cls, weakref.ref) else "a weak container"
        reason = f"attributes of {kind} are not captured ({shown}). Keep them in another object"
        return walker.refuse(value, path, reason)
    walker.classes[name] = cls
    node = Object(name, {}) if issubclass(cls, weakref.ref) else Custom(name, None)
    walker.memo[id(value)] = node
    walker.keep(value)
    walker.weak.append(Pending(value, node, path))
    walker.structure.note_place(path, cls)
    return node

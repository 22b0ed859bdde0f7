"""The strings of a checkpoint that give way to this process's own: places and secrets.

The saved and the live tree are gone through together, before anything is matched. The result says what is written
instead of a saved string, and what is left as the script has it. Knows no files but by their names.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from perdure import tree
from perdure.state._inner_places import InnerPlaces, inner_places, option_value
from perdure.state._patterns import matches
from perdure.state._places import Places, is_outside, is_remote, is_temporary
from perdure.state._report import Report
from perdure.state._secrets import ENVIRONMENT, SECRET
from perdure.state.restoring._constructible import NESTED_STATE
from perdure.state.restoring._plan import ABSENT
from perdure.tree import (
    Array,
    Custom,
    MappingNode,
    Node,
    NumberRun,
    Object,
    Omitted,
    Path,
    RepeatRun,
    SequenceNode,
    Slot,
    Value,
    write_path,
)


@dataclass(slots=True)
class _Edge:
    holder: Node
    slot: Slot
    saved: Any
    live: Any
    path: Path

    @property
    def place(self) -> tuple[int, Slot]:
        return id(self.holder), self.slot


@dataclass
class OwnStrings:
    """The strings that stay this process's own.

    :param used: what is written at some places instead of what the checkpoint has there.
    :param left: places that are not written; the value says whether they were left out on purpose.
    :param skipped: the paths of the secrets that stay, with the reason.
    :param unexpected: the paths of saved places that may not be used, with the reason.
    :param places: see :class:`Report`.
    """

    used: dict[tuple[int, Slot], Any] = field(default_factory=dict)
    left: dict[tuple[int, Slot], bool] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    unexpected: list[tuple[str, str]] = field(default_factory=list)
    places: list[tuple[str, str, str]] = field(default_factory=list)

    def report(self) -> Report:
        """A new report that begins with these strings."""
        return Report(skipped=list(self.skipped), unexpected=list(self.unexpected), places=list(self.places))


def own_strings(root: Object, live: Object, skip: Sequence[str] = ()) -> OwnStrings:
    """Find the saved strings that are not to be used, and what is used instead.

    A place that the script has at the same path stays, unless the saved one lies below a directory that the script
    names. A place that the script does not have is used below such a directory, and is an error elsewhere; but an
    attribute with a temporary place stays as the script has it, or is not there. A secret stays.

    :param root: of the saved state.
    :param live: the root of what the script has built.
    :param skip: paths that were left out.
    """
    own = OwnStrings()
    found: list[_Edge] = []
    for edge in _edges(root, live, skip):
        if _stays(edge):
            if not isinstance(edge.saved, Omitted):
                own.skipped.append((write_path(edge.path), edge.live.reason))
                own.left[edge.place] = True
        elif _may_be_opened(edge):
            found.append(edge)
    if found:
        _Settling(own, Places(_texts(live))).settle(found)
    return own


def _stays(edge: _Edge) -> bool:
    """Whether the script has a secret here."""
    return isinstance(edge.live, Omitted) and edge.live.reason in (SECRET, ENVIRONMENT)


def _may_be_opened(edge: _Edge) -> bool:
    """Whether a file could be opened by what the checkpoint has here, and the script has something else."""
    saved, live = edge.saved, edge.live
    if isinstance(saved, Value):
        return saved.kind in _TEXTS
    if isinstance(saved, str):
        return not (type(live) is str and saved == live)
    return isinstance(saved, int) and isinstance(live, str | Value)


class _Settling:
    """What becomes of each string."""

    def __init__(self, own: OwnStrings, places: Places) -> None:
        self._own = own
        self._places = places
        self._inner = InnerPlaces(places)

    def settle(self, edges: list[_Edge]) -> None:
        both: list[tuple[_Edge, str, str]] = []
        created: list[tuple[_Edge, str]] = []
        for edge in edges:
            saved, live = _text(edge.saved), _text(edge.live)
            if saved is None and live is not None and self._places.names(live, own=True):
                # A file can be opened by its number, or a name in bytes.
                self._use(edge, "something else", live, edge.live)
            elif saved is None or saved == live:
                continue
            elif not live:
                created.append((edge, saved))
            elif (
                self._places.names(live, own=True)
                or self._places.names(saved)
                or is_remote(live)
                or self._inner.apply_to(saved, live)
            ):
                both.append((edge, saved, live))
        for _, saved, live in both:
            if self._inner.apply_to(saved, live):
                self._inner.pair(saved, live)
            elif self._places.names(live, own=True):
                self._places.pair(saved, live)
        for edge, saved, live in both:
            rule = self._inner if self._inner.apply_to(saved, live) else self._places
            used = rule.used_at(saved, live)
            if used == live:
                self._use(edge, saved, live, edge.live)
            elif used != saved:
                self._use(edge, saved, used, _like(edge.saved, used))
        for edge, saved in created:
            if "/" in saved or is_outside(saved):
                self._created(edge, saved)

    def _created(self, edge: _Edge, saved: str) -> None:
        inner = bool(inner_places(saved))
        used = (self._inner if inner else self._places).used(saved)
        if (
            used is None
            and (self._inner.are_temporary(saved) if inner else is_temporary(saved))
            and (edge.live is not ABSENT or isinstance(edge.holder, Object))
        ):
            # The process that made it is gone. The script makes another one where it finds none.
            self._own.places.append((write_path(edge.path), saved, ""))
            self._own.left[edge.place] = True
        elif used is None:
            self._own.unexpected.append(
                (
                    write_path(edge.path),
                    f"the checkpoint has a place here, {saved!r:.100}, that lies below no directory that this script "
                    "names. Name the directory in the world (world.output = ...) or among the script's arguments",
                )
            )
            self._own.left[edge.place] = False
        elif used != saved:
            self._use(edge, saved, used, _like(edge.saved, used))

    def _use(self, edge: _Edge, saved: str, used: str, node: Any) -> None:
        self._own.used[edge.place] = node
        self._own.places.append((write_path(edge.path), saved, used))


#: The kinds of values by which a file can be opened.
_TEXTS = frozenset({"path", "numpy.str", "bytes"})
#: Of bytes that may be a name, in hexadecimal.
_LONGEST = 8192


def _text(node: Any) -> str | None:
    if isinstance(node, str):
        return node
    if not isinstance(node, Value):
        return None
    try:
        if node.kind == "path":
            return str(node.data[1])
        if node.kind == "numpy.str":
            return bytes.fromhex(node.data).decode("utf-8", "surrogatepass")
        if (
            node.kind == "bytes"
            and len(node.data) <= _LONGEST
            and (text := bytes.fromhex(node.data).decode()).isprintable()
        ):
            return text
    except (TypeError, ValueError, LookupError):
        pass  # no value at all; the matching says why
    return None


def _like(node: Any, text: str) -> Any:
    """A node of the same kind as another, for another text."""
    if isinstance(node, str):
        return text
    encoded = text.encode("utf-8", "surrogatepass").hex()
    return Value(node.kind, [node.data[0], text] if node.kind == "path" else encoded)


def _texts(live: Object) -> list[str]:
    """The strings of a live tree that may name places."""
    found = (_text(node) for _, node in tree.walk(live, below=_below) if isinstance(node, str | Value))
    texts = dict.fromkeys(text for text in found if text)
    options = (option_value(text) for text in texts if "/" in text or "~" in text)
    return [*texts, *(place for place in options if place)]


def _below(node: Node, path: str) -> Iterator[tuple[str, Any]]:
    return ((path, child) for _, child, _, _ in tree.edges(node))


# -- both trees, side by side ----------------------------------------------------------------------------------


def _edges(root: Object, live: Object, skip: Sequence[str]) -> Iterator[_Edge]:
    """Everything in a saved tree with what the live tree has there, except what is skipped. A node that several paths
    lead to comes once: where the live tree has something, if it has something anywhere."""
    paired = collections.deque(_fields(root, root.fields, live.fields, None))
    alone: collections.deque[_Edge] = collections.deque()
    seen: set[int] = set()
    while paired or alone:
        first = bool(paired)
        edge = (paired or alone).popleft()
        node = edge.saved
        if skip and matches(write_path(edge.path), skip):
            continue
        if not isinstance(node, Node) or isinstance(node, Value | Omitted):
            yield edge
            continue
        if _stays(edge):
            yield edge
            continue
        if id(node) in seen:
            continue
        found = edge.live if type(node) is type(edge.live) else ABSENT
        if found is ABSENT and first:
            alone.append(edge)
            continue
        seen.add(id(node))
        for below in _edges_below(node, found, edge.path):
            (alone if below.live is ABSENT else paired).append(below)


def _edges_below(node: Node, live: Any, path: Path) -> Iterator[_Edge]:
    match node:
        case Object() if node.type != NESTED_STATE:
            yield from _fields(node, node.fields, live.fields if isinstance(live, Object) else {}, path)
        case Custom():
            payload = live.payload if isinstance(live, Custom) else ABSENT
            yield _Edge(node, "payload", node.payload, payload, path)
        case MappingNode():
            yield from _pairs(node, live, path)
        case SequenceNode():
            yield from _elements(node, live, path)
    if isinstance(node, Array | SequenceNode | MappingNode) and node.fields:
        yield from _fields(node, node.fields, getattr(live, "fields", None) or {}, path)


def _fields(holder: Node, saved: dict[str, Any], live: dict[str, Any], path: Path) -> Iterator[_Edge]:
    for name, child in saved.items():
        yield _Edge(holder, name, child, live.get(name, ABSENT), (path, ".", name))


def _pairs(node: MappingNode, live: Any, path: Path) -> Iterator[_Edge]:
    there = dict(live.pairs) if isinstance(live, MappingNode) else {}
    for position, (key, child) in enumerate(node.pairs):
        plain = not isinstance(key, Node) or isinstance(key, Value)
        found = there.get(key, ABSENT) if plain else ABSENT
        if not plain or (found is ABSENT and isinstance(key, str | Value)):
            yield _Edge(node, ("key", position), key, ABSENT, (path, "key", position))
        yield _Edge(node, position, child, found, (path, "[", key if plain else position))


def _elements(node: SequenceNode, live: Any, path: Path) -> Iterator[_Edge]:
    there = {}
    if isinstance(live, SequenceNode) and node.type not in ("set", "frozenset"):
        there = {name: child for _, child, kind, name in tree.edges(live) if kind == "["}
    for slot, child, kind, name in tree.edges(node):
        bare = isinstance(child, RepeatRun | NumberRun) or (isinstance(child, Array) and not child.fields)
        if kind == "[" and not bare:
            yield _Edge(node, slot, child, there.get(name, ABSENT), (path, "[", name))

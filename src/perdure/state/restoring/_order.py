"""The order of construction: which saved nodes are written, which objects have to be made, and in which order.

Knows what matching found, and changes neither that nor the world.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from perdure import tree
from perdure.state._compounds import CODE, of_name
from perdure.state._describe import describe
from perdure.state._iterators import IteratorHandler
from perdure.state._protocol import OwnHandler
from perdure.state._registry import Adapter, Handler, known
from perdure.state.restoring._constructible import (
    NESTED_STATE,
    definition,
    hashed,
    why_not_constructible,
    why_not_hashable,
)
from perdure.state.restoring._plan import ABSENT, Edge, Matches, RestorePlan
from perdure.state.restoring._resource_limits import check_memory
from perdure.tree import (
    Array,
    Custom,
    Node,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    Slot,
    Value,
    write_path,
)

_DEEPEST = 1_000
_MOST_LOOKED_AT = 1_000_000


def order(matches: Matches) -> RestorePlan:
    """Plan what is written where, and in which order the missing objects are made.

    :raises RestoreError: if this machine has too little memory for what has to be made.
    """
    return _Ordering(matches).plan()


class _Ordering:
    """The plan as far as it is known."""

    def __init__(self, matches: Matches) -> None:
        self._matches = matches
        self._world = matches.world
        report = matches.report
        self._report = replace(
            report,
            restored=list(report.restored),
            skipped=list(report.skipped),
            unexpected=list(report.unexpected),
            mismatched=list(report.mismatched),
            incomplete=list(report.incomplete),
        )
        self._left = dict(matches.left)
        self._bad = set(matches.bad)
        self._reached: list[Node] = []
        self._first: list[Node] = []
        self._inside_out: list[Node] = []
        self._at_once: set[int] = set()

    def plan(self) -> RestorePlan:
        """What will be written."""
        self._reach()
        check_memory(self._matches, self._reached)
        self._refuse_self_made()
        self._find_at_once()
        self._sort()
        self._drop_incomplete()
        return RestorePlan(
            self._matches,
            self._report,
            self._left,
            frozenset(self._bad),
            self._reached,
            self._inside_out,
            self._first,
            frozenset(self._at_once),
        )

    # -- what is written -------------------------------------------------------------------------------------

    def _reach(self) -> None:
        """Find every node that is written, and report what becomes of it."""
        queue: collections.deque[Edge] = collections.deque()
        root = self._matches.root
        for name, child in root.fields.items():
            queue.append(Edge(child, None, (None, ".", name), root, name))
        seen: set[int] = set()
        while queue:
            edge = queue.popleft()
            node = edge.node
            if edge.place in self._left:
                continue
            if isinstance(node, Omitted):
                self._omit(edge, node)
            elif not isinstance(node, Node) or isinstance(node, Value):
                if not (isinstance(edge.slot, tuple) or isinstance(edge.holder, RepeatRun)):
                    self._report.restored.append(write_path(edge.path))
            elif id(node) not in seen and id(node) not in self._bad:
                seen.add(id(node))
                queue.extend(self._reach_node(edge, node))

    def _reach_node(self, edge: Edge, node: Node) -> Iterator[Edge]:
        """Note what becomes of one node; what lies below it."""
        reason = why_not_hashable(self._matches, node)
        if self._matches.live(node) is ABSENT:
            reason = reason or why_not_constructible(self._matches, node)
        if reason is not None:
            self._refuse(edge, node, reason)
            return
        self._reached.append(node)
        if isinstance(node, Custom):
            entry = known(self._world.class_of(self._matches.live(node))).entry
            if isinstance(entry, Handler) and entry.first:
                self._first.append(node)
        nested = isinstance(node, Object) and node.type == NESTED_STATE
        below = [] if nested else list(tree.edges(node))
        leaf = isinstance(node, Array | NumberRun) or not below
        if leaf and not isinstance(edge.holder, NumberRun) and edge.slot != tree.BASE:
            self._report.restored.append(write_path(edge.path))
        for slot, child, kind, name in below:
            yield Edge(child, None, (edge.path, kind, name), node, slot)

    def _refuse(self, edge: Edge, node: Node, reason: str) -> None:
        found, path = self._matches.found(node), write_path(edge.path)
        if found is ABSENT or found is None:
            self._report.unexpected.append((path, reason))
        else:
            present = self._world.describe(path, found)
            detail = f"the checkpoint has {describe(node)}, the script has {present} ({reason})"
            self._report.mismatched.append((path, detail))
        self._bad.add(id(node))

    def _omit(self, edge: Edge, node: Omitted) -> None:
        holder = edge.holder
        is_there = holder is self._matches.root or self._matches.live(holder) is not ABSENT
        if is_there or self._is_provided(holder, edge.slot):
            self._report.skipped.append((write_path(edge.path), node.reason))
            return
        reason = (
            f"the checkpoint left out {node.reason} here, and the script has not built the object that holds it, so it "
            "would lack that. Let the script build it, or register a handler for it with create=..."
        )
        self._report.unexpected.append((write_path(edge.path), reason))
        self._left[edge.place] = False
        self._bad.add(id(holder))

    def _is_provided(self, holder: Node, slot: Slot) -> bool:
        """Whether an object that is made gets a field that was left out by itself."""
        cls = (
            self._matches.find(holder.type) if isinstance(holder, Object) and isinstance(slot, str) else None
        )
        if cls is None or not isinstance(slot, str):
            return False
        about = known(cls)
        maker = about.entry.maker if isinstance(about.entry, Adapter) else None
        if slot in about.fresh or (maker is not None and slot in maker.provides):
            return True
        # What a rule leaves out and the class itself has: a cached property, or what an object has at first.
        return slot in about.left_out and bool(definition(cls, slot))

    # -- in which order --------------------------------------------------------------------------------------

    def _sort(self) -> None:
        """Sort the nodes whose objects are made from their contents, innermost first. Cycles are errors."""
        depths: dict[int, int] = {}
        for node in self._reached:
            if self._is_made_from_contents(node):
                self._sort_below(node, depths)
            if depths.get(id(node), 0) > _DEEPEST:
                found = describe(node)
                detail = (
                    f"the checkpoint has {found} that contains itself, or is nested {_DEEPEST} levels deep"
                )
                self._report.unexpected.append((write_path(self._matches.path(node)), detail))
                self._bad.add(id(node))

    def _sort_below(self, first: Node, depths: dict[int, int]) -> None:
        stack = [first]
        open_: set[int] = set()
        while stack:
            node = stack[-1]
            if id(node) in depths:
                stack.pop()
                continue
            inner = [
                child
                for _, child, *_ in tree.edges(node)
                if isinstance(child, Node) and self._is_made_from_contents(child)
            ]
            waiting = [child for child in inner if id(child) not in depths]
            if not waiting:
                depths[id(node)] = 1 + max((depths[id(child)] for child in inner), default=0)
                self._inside_out.append(node)
                stack.pop()
            elif id(node) in open_ and any(id(child) in open_ for child in waiting):
                depths[id(node)] = _DEEPEST + 1
                stack.pop()
            else:
                open_.add(id(node))
                stack.extend(waiting)

    def _is_made_from_contents(self, node: Node) -> bool:
        """Whether the object of a node can only be made once its contents exist."""
        if id(node) in self._at_once:
            return True
        if isinstance(node, Custom):
            return (self._matches.live(node) is ABSENT and self._is_created(node)) or (
                self._iterator(node) is not None
            )
        if isinstance(node, Object):
            return of_name(node.type) is not None and CODE not in node.fields
        kind = self._matches.class_of(node) if isinstance(node, SequenceNode) else None
        return isinstance(node, SequenceNode) and issubclass(kind or list, tuple | frozenset)

    def _iterator(self, node: Node) -> IteratorHandler | None:
        """How the iterator of a node is made, if it is one."""
        cls = self._matches.class_of(node) if isinstance(node, Custom) else None
        entry = None if cls is None else known(cls).entry
        return entry if isinstance(entry, IteratorHandler) else None

    def _is_created(self, node: Custom) -> bool:
        """Whether the object of a node is made of its contents, and not before them."""
        entry = known(self._matches.class_of(node) or object).entry
        return not (isinstance(entry, OwnHandler) and entry.create is None)

    def _refuse_self_made(self) -> None:
        """Refuse objects that a handler creates of what refers back to them: neither can be there first."""
        budget = _MOST_LOOKED_AT
        for node in self._reached:
            if not isinstance(node, Custom) or self._matches.live(node) is not ABSENT:
                continue
            if self._iterator(node) is not None or not self._is_created(node):
                continue
            seen: set[int] = set()
            stack = [node.payload]
            while stack and budget:
                each = stack.pop()
                if not isinstance(each, Node) or id(each) in seen:
                    continue
                budget -= 1
                if each is node:
                    path = write_path(self._matches.path(node))
                    detail = (
                        f"the checkpoint has {describe(node)} whose state refers back to it, so it cannot be created "
                        "from it. Let the script build it, or let __perdure_restore__ take what refers back"
                    )
                    self._report.unexpected.append((path, detail))
                    self._bad.add(id(node))
                    break
                seen.add(id(each))
                stack.extend(child for _, child, *_ in tree.edges(each))

    def _find_at_once(self) -> None:
        """Find the containers that must be filled before iterators over them are made."""
        for node in self._reached:
            handler = self._iterator(node)
            if handler is None or not handler.filled or not isinstance(node, Custom):
                continue
            parts = node.payload.items if isinstance(node.payload, SequenceNode) else []
            for container in parts[:1]:
                if not isinstance(container, SequenceNode | tree.MappingNode):
                    continue
                self._at_once.add(id(container))
                keys = hashed(container, self._matches.class_of(container))
                if any(self._hashes_by_content(key) for key in keys):
                    path = write_path(self._matches.path(node))
                    detail = "an iterator over objects that have a __hash__ of their own is not supported"
                    self._report.unexpected.append((path, detail))
                    self._bad.add(id(node))

    def _hashes_by_content(self, key: Any) -> bool:
        cls = self._matches.class_of(key) if isinstance(key, Object) else object
        return getattr(cls, "__hash__", None) is not object.__hash__

    def _drop_incomplete(self) -> None:
        """Do not make an object that would lack a part of its contents: it would be another object."""
        made = [
            node
            for node in self._reached
            if self._matches.live(node) is ABSENT or self._is_made_from_contents(node)
        ]
        if not (self._bad or self._left):
            return
        # Each place is looked at once, and again only if what it holds is dropped.
        holders: dict[int, list[tuple[Node, Slot, Any]]] = collections.defaultdict(list)
        dropped: list[Node] = []
        for node in made:
            for slot, child, *_ in tree.edges(node):
                if id(node) not in self._bad and self._lacks(node, slot, child):
                    self._drop(node)
                    dropped.append(node)
                elif isinstance(child, Node):
                    holders[id(child)].append((node, slot, child))
        while dropped:
            for node, slot, child in holders.pop(id(dropped.pop()), ()):
                if id(node) not in self._bad and self._lacks(node, slot, child):
                    self._drop(node)
                    dropped.append(node)

    def _drop(self, node: Node) -> None:
        self._bad.add(id(node))
        self._report.incomplete.append(write_path(self._matches.path(node)))

    def _lacks(self, node: Node, slot: Slot, child: Any) -> bool:
        live = self._matches.live(node)
        if live is not ABSENT and (not isinstance(slot, int) or slot < self._world.length(live)):
            return False
        return id(child) in self._bad or self._left.get((id(node), slot)) is False

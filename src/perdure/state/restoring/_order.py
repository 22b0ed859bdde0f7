"""The end of matching: what will hold the checkpoint's value, what has to be made, and in which order."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from perdure import tree
from perdure.state._capture import LEFT_OUT
from perdure.state._describe import describe, describe_at
from perdure.state._registry import known
from perdure.state.restoring._constructible import QUOTED, unhashable, unmakeable
from perdure.state.restoring._plan import ABSENT, Edge, Plan
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


def settle(plan: Plan) -> None:
    """What will hold the checkpoint's value, what can be made for what is not there, and in which order."""
    reached = _reached(plan)
    check_memory(plan, reached)
    _order(plan, reached)
    made = [node for node in reached if plan.live(node) is ABSENT or _is_eager(plan, node)]
    # What was to be made and lacks a piece would be another thing.
    if plan.bad or plan.left:
        _spoil(plan, made)


def _spoil(plan: Plan, made: Sequence[Node]) -> None:
    """Give up what was to be made and lacks a piece, and what holds that; each place is looked at once."""
    holders: dict[int, list[tuple[Node, Slot, Any]]] = collections.defaultdict(list)
    spoilt: list[Node] = []
    for node in made:
        for slot, child, *_ in tree.edges(node):
            if id(node) not in plan.bad and _lacks(plan, node, slot, child):
                plan.bad.add(id(node))
                spoilt.append(node)
            elif isinstance(child, Node):
                holders[id(child)].append((node, slot, child))
    while spoilt:
        for node, slot, child in holders.pop(id(spoilt.pop()), ()):
            if id(node) not in plan.bad and _lacks(plan, node, slot, child):
                plan.bad.add(id(node))
                spoilt.append(node)


def _lacks(plan: Plan, node: Node, slot: Slot, child: Any) -> bool:
    live = plan.live(node)
    if live is not ABSENT and (not isinstance(slot, int) or slot < len(live)):
        return False
    place = (id(node), slot)
    return id(child) in plan.bad or (place in plan.left and place not in plan.spared)


def _reached(plan: Plan) -> list[Node]:
    """Every node that is written, with what becomes of it put into the report."""
    queue: collections.deque[Edge] = collections.deque()
    for name, child in plan.root.fields.items():
        queue.append(Edge(child, None, (None, ".", name), plan.root, name))
    seen: set[int] = set()
    reached: list[Node] = []
    while queue:
        edge = queue.popleft()
        node = edge.node
        if edge.place in plan.left:
            continue
        if isinstance(node, Omitted):
            _settle_skipped(plan, edge, node)
            continue
        if not isinstance(node, Node) or isinstance(node, Value):
            if not (isinstance(edge.slot, tuple) or isinstance(edge.holder, RepeatRun)):
                plan.report.restored.append(write_path(edge.path))
            continue
        if id(node) in seen or id(node) in plan.bad:
            continue
        seen.add(id(node))
        reason = unhashable(plan, node)
        if plan.live(node) is ABSENT:
            reason = reason or unmakeable(plan, node)
        if reason is not None:
            _settle_bad(plan, edge, node, reason)
            continue
        reached.append(node)
        if isinstance(node, Custom) and getattr(known(type(plan.live(node))).entry, "first", False):
            plan.first.append(node)
        quoted = isinstance(node, Object) and node.type == QUOTED
        below = [] if quoted else list(tree.edges(node))
        leaf = isinstance(node, Array | NumberRun) or not below
        if leaf and not isinstance(edge.holder, NumberRun) and edge.slot != "base":
            plan.report.restored.append(write_path(edge.path))
        for slot, child, kind, name in below:
            queue.append(Edge(child, None, (edge.path, kind, name), node, slot))
    return reached


def _settle_bad(plan: Plan, edge: Edge, node: Node, reason: str) -> None:
    found, path = plan.found.get(id(node), ABSENT), write_path(edge.path)
    if found is ABSENT or found is None:
        plan.report.unexpected.append((path, reason))
    else:
        detail = f"the checkpoint has {describe(node)}, the script has {describe_at(path, found)} ({reason})"
        plan.report.mismatched.append((path, detail))
    plan.bad.add(id(node))


def _settle_skipped(plan: Plan, edge: Edge, node: Omitted) -> None:
    holder = edge.holder
    if plan.pairs.get(id(holder)) is not ABSENT or node.reason == LEFT_OUT:
        plan.report.skipped.append((write_path(edge.path), node.reason))
        return
    cls = plan.find(holder.type) if isinstance(holder, Object) else None
    if cls is not None and edge.slot in known(cls).left_out:
        plan.report.skipped.append((write_path(edge.path), node.reason))
        return
    plan.reject(
        edge,
        f"the checkpoint left out {node.reason} here, and the script has not built what holds it. Let the script "
        "build it, or register a handler for it with create=...",
    )
    plan.bad.add(id(holder))


def _order(plan: Plan, reached: Sequence[Node]) -> None:
    """Sort what can only be made from the inside out; nothing of that kind can hold itplan."""
    done: dict[int, int] = {}
    for first in reached:
        stack = [first] if _is_eager(plan, first) else []
        open_: set[int] = set()
        while stack:
            node = stack[-1]
            if id(node) in done:
                stack.pop()
                continue
            inner = [
                child
                for _, child, *_ in tree.edges(node)
                if isinstance(child, Node) and _is_eager(plan, child)
            ]
            waiting = [child for child in inner if id(child) not in done]
            if not waiting:
                done[id(node)] = 1 + max((done[id(child)] for child in inner), default=0)
                plan.eager.append(node)
                stack.pop()
            elif id(node) in open_ and any(id(child) in open_ for child in waiting):
                done[id(node)] = _DEEPEST + 1
                stack.pop()
            else:
                open_.add(id(node))
                stack.extend(waiting)
        if done.get(id(first), 0) > _DEEPEST:
            detail = f"the checkpoint has {describe(first)} that holds itself, or more than {_DEEPEST} in each other"
            plan.report.unexpected.append((write_path(plan.paths[id(first)]), detail))
            plan.bad.add(id(first))


def _is_eager(plan: Plan, node: Node) -> bool:
    if isinstance(node, Custom):
        return plan.live(node) is ABSENT
    return isinstance(node, SequenceNode) and issubclass(plan.class_of(node) or list, tuple | frozenset)

"""The first half of restoring: which live object stands for which node, and what does not fit. Nothing is
changed.

The saved and the live side are walked together, by the same paths. Classes come from the live side alone: the
state names nothing that is imported, called or constructed.
"""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state import _aliasing, _values
from perdure.state._attributes import attributes_of
from perdure.state._capture import LEFT_OUT, Walker
from perdure.state._class_names import remedy_if_renamed, same_class
from perdure.state._containers import ITEMS, factory_name
from perdure.state._describe import describe, describe_at, short
from perdure.state._patterns import matches
from perdure.state._registry import Adapter, Handler, Skip, is_part_of_program, known
from perdure.state.restoring._constructible import (
    NOT_BY_ATTRIBUTES,
    QUOTED,
    definition,
    unassignable,
    unreadable,
)
from perdure.state.restoring._order import settle
from perdure.state.restoring._plan import ABSENT, CONTAINERS, Edge, Plan
from perdure.state.restoring._process_strings import keep_own_strings
from perdure.tree import Array, Custom, Node, Object, Omitted, Path, SequenceNode, Value, write_path

_UNMET: Any = object()
_MOST_FORBIDDEN = 1_000
_MOST_ATTEMPTS = 20


def make_plan(root: Object, live: Mapping[str, Any], skip: Sequence[str], grows: bool = False) -> Plan:
    """The plan with the best pairs.

    Usually paths decide which node belongs to which live object. Where a saved name has moved on since (the
    environment in use, one of several), two nodes ask for one live object: then the node that could also have
    another one has to.

    :param grows: whether parts may have been added while running: those that can be made are then made.
    """
    forbidden: frozenset[tuple[int, int]] = frozenset()
    for _ in range(_MOST_ATTEMPTS):
        matcher = _Matcher(root, live, skip, grows, forbidden)
        plan = matcher.plan()
        more = {pair for pair in matcher.contested if pair[0] in matcher.others} - forbidden
        if plan.report.exact or not more or len(forbidden) > _MOST_FORBIDDEN:
            break
        forbidden |= more
    return plan


class _Matcher:
    """One walk through both sides.

    :param root: of the state.
    :param live: the world's parts.
    :param skip: paths of live objects to leave alone.
    :param grows: whether parts may have been added while running.
    :param forbidden: pairs of a node's id and a live object's id that are not to be made.
    """

    def __init__(
        self,
        root: Object,
        live: Mapping[str, Any],
        skip: Sequence[str],
        grows: bool,
        forbidden: frozenset[tuple[int, int]],
    ) -> None:
        walker = Walker(skip)
        self._live_tree = walker.parts(live)
        self._plan = Plan(root, walker.classes, keep=[walker])
        self._live = live
        self._skip = tuple(skip)
        self._grows = grows
        self._forbidden = forbidden
        #: Which node got a live object.
        self._claims: dict[int, Node] = {}
        #: Live objects that two nodes asked for, with the node that got each; nodes that could have had
        #: another one.
        self.contested: set[tuple[int, int]] = set()
        self.others: set[int] = set()
        self._moved: list[Edge] = []
        self._arrays: list[tuple[Array, Path]] = []
        self._met: collections.deque[Edge] = collections.deque()

    def plan(self) -> Plan:
        """What this walk finds out."""
        keep_own_strings(self._plan, self._live_tree)
        self._meet_parts()
        self._check_moved()
        self._pair_memory()
        self._separate()
        settle(self._plan)
        return self._plan

    # -- meeting ---------------------------------------------------------------------------------------------

    def _meet_parts(self) -> None:
        for name, live in self._live.items():
            if name not in self._plan.root.fields and not self._leaves_out((None, ".", name), live):
                self._plan.report.missing.append(name)
        for name, node in self._plan.root.fields.items():
            edge = Edge(node, self._live.get(name, ABSENT), (None, ".", name), self._plan.root, name)
            if name in self._live or isinstance(node, Omitted) or self._grows:
                self._met.append(edge)
            else:
                self._plan.reject(edge, "the checkpoint has this part, the script's world has not")
        while self._met:
            self._meet(self._met.popleft())

    def _leaves_out(self, path: Path, live: Any) -> bool:
        return isinstance(known(type(live)).entry, Skip) or self._skips(path)

    def _skips(self, path: Path) -> bool:
        return bool(self._skip) and matches(write_path(path), self._skip)

    def _mismatch(self, edge: Edge, expected: str, found: str) -> None:
        detail = f"the checkpoint has {expected}, the script has {found}{_if_renamed(edge.node, edge.live)}"
        self._plan.report.mismatched.append((write_path(edge.path), detail))
        self._plan.left.add(edge.place)

    def _spare(self, edge: Edge, reason: str) -> None:
        self._plan.report.skipped.append((write_path(edge.path), reason))
        self._plan.left.add(edge.place)
        self._plan.spared.add(edge.place)

    def _meet(self, edge: Edge) -> None:
        node, live = edge.node, edge.live
        if edge.place in self._plan.left:
            return
        if self._skips(edge.path):
            self._spare(edge, LEFT_OUT)
        elif isinstance(node, Value):
            reason = unreadable(self._plan, node)
            if reason is not None:
                self._plan.reject(edge, reason)
            else:
                self._replace(edge)
        elif not isinstance(node, Node):
            self._replace(edge)
        elif not isinstance(node, Omitted):
            self._meet_node(edge, node, live)

    def _meet_node(self, edge: Edge, node: Node, live: Any) -> None:
        paired = self._plan.pairs.get(id(node), _UNMET)
        self._plan.paths.setdefault(id(node), edge.path)
        if live is not ABSENT and live is not paired:
            verdict = self._verdict(node, live, edge.rigid)
            if isinstance(verdict, str):
                self._mismatch(edge, verdict, describe_at(write_path(edge.path), live))
                return
            if verdict and (paired is _UNMET or paired is ABSENT):
                owner = self._claims.get(id(live))
                if owner is None and (id(node), id(live)) not in self._forbidden:
                    self._pair(node, live, edge.path)
                    return
                if owner is not None:
                    self.contested.add((id(owner), id(live)))
                    self._moved.append(edge)
            elif verdict:
                self.others.add(id(node))
            self._replace(edge)
        if paired is _UNMET:
            self._plan.pairs[id(node)] = ABSENT
            self._plan.found[id(node)] = live
            self._below(node, ABSENT, edge.path)

    def _pair(self, node: Node, live: Any, path: Path) -> None:
        self._plan.pairs[id(node)] = live
        self._claims[id(live)] = node
        self._plan.keep.append(live)
        self._below(node, live, path)

    def _replace(self, edge: Edge) -> None:
        if edge.live is not ABSENT and is_part_of_program(edge.live):
            self._moved.append(edge)

    def _check_moved(self) -> None:
        """What the program is made of may be replaced at one place only if it stays at another."""
        for edge in self._moved:
            if not is_part_of_program(edge.live):
                continue
            owner = self._claims.get(id(edge.live))
            elsewhere = isinstance(edge.node, Node) and self._plan.live(edge.node) is not ABSENT
            if owner is None and elsewhere:
                expected = f"what it has at {write_path(self._plan.paths[id(edge.node)])}"
                self._mismatch(edge, expected, f"{describe(edge.live)} of its own")
            elif owner is None:
                self._mismatch(edge, describe(edge.node), describe(edge.live))
            elif not elsewhere and self._verdict(edge.node, edge.live, edge.rigid) is True:
                found = f"what it has at {write_path(self._plan.paths[id(owner)])}"
                self._mismatch(edge, f"{describe(edge.node)} of its own", found)

    def _verdict(self, node: Any, live: Any, rigid: bool) -> bool | str:
        """Whether a node can be written into a live value; where it neither can nor may replace it, what was
        expected."""
        cls = type(live)
        entry = known(cls).entry
        match node:
            case Object() if node.type == QUOTED:
                return False
            case Object() | Custom():
                if not same_class(node.type, cls):
                    return False
                if isinstance(entry, Handler):
                    alike = isinstance(node, Custom)
                    if alike and entry.form is not None and _form(node) != (form := entry.form(live)):
                        other = (
                            f"a {short(node.type)} of another form ({_form(node):.100}; expected {form:.100})"
                        )
                        return other if entry.create is None else False
                else:
                    by_attributes = entry is None or isinstance(entry, Adapter)
                    alike = (
                        isinstance(node, Object) and by_attributes and not isinstance(live, NOT_BY_ATTRIBUTES)
                    )
                return alike or f"a {short(node.type)} captured in another way than such objects are now"
            case Array():
                if _aliasing.fits(node, live):
                    return True
                parameter = "parameter" in node.extra and isinstance(live, torch.Tensor)
                firm = rigid or parameter or isinstance(live, torch.nn.Parameter)
                return describe(node) if firm else False
            case SequenceNode() | tree.MappingNode():
                if node.type == "ndarray":
                    return (
                        cls is np.ndarray
                        and live.dtype == object
                        and list(live.shape) == node.extra.data
                        and bool(live.flags.writeable)
                    )
                expected = CONTAINERS.get(node.type)
                if expected is not None:
                    return cls is expected
                kinds = (dict,) if isinstance(node, tree.MappingNode) else ITEMS
                by_content = not isinstance(entry, Handler | Skip | Adapter)
                return same_class(node.type, cls) and issubclass(cls, kinds) and by_content
        return False

    # -- below a node ----------------------------------------------------------------------------------------

    def _below(self, node: Node, live: Any, path: Path) -> None:
        """Go on with what a node holds and what lies at the same places of the live value (or nothing)."""
        if isinstance(node, Object) and node.type == QUOTED:
            return
        if live is ABSENT:
            for slot, child, kind, name in tree.edges(node):
                self._met.append(Edge(child, ABSENT, (path, kind, name), node, slot))
            return
        match node:
            case Object():
                self._below_fields(node, node.fields, live, path)
            case tree.MappingNode():
                self._below_mapping(node, live, path)
                self._below_fields(node, node.fields or {}, live, path)
            case SequenceNode():
                self._below_items(node, live, path)
                if node.type != "ndarray":
                    self._below_fields(node, node.fields or {}, live, path)
            case Array():
                self._arrays.append((node, path))
                for slot, child, kind, name in tree.edges(node):
                    grad = live.grad if kind == "." and live.is_leaf else None
                    found = ABSENT if grad is None else grad
                    self._met.append(Edge(child, found, (path, kind, name), node, slot))
            case _:
                self._below(node, ABSENT, path)

    def _below_fields(self, node: Node, fields: Mapping[str, Any], live: Any, path: Path) -> None:
        cls = type(live)
        about = known(cls)
        if isinstance(about.entry, Adapter):
            present: Mapping[Any, Any] = about.entry.fields(live)
            self._plan.given[id(live)] = present
        else:
            present = attributes_of(live)
        self._plan.keep.append(present)
        module = isinstance(live, torch.nn.Module)
        for name, child in fields.items():
            found = present.get(name, ABSENT)
            if found is ABSENT or found is None:
                found = self._missing(about.entry, live, name, child, found)
            rigid = module and (isinstance(found, torch.Tensor) or name in live._parameters)
            edge = Edge(child, found, (path, ".", name), node, name, rigid)
            if isinstance(child, Omitted):
                continue
            if name in about.left_out:
                self._spare(edge, about.left_out[name])
            elif (reason := unassignable(cls, name, present)) is not None:
                self._plan.reject(edge, reason)
            elif module and found is ABSENT and isinstance(child, Array) and "parameter" in child.extra:
                self._plan.reject(edge, f"the checkpoint has {describe(child)}, the script has nothing")
            else:
                self._met.append(edge)
        if isinstance(about.entry, Adapter) and about.entry.check is not None:
            for below, detail in about.entry.check(live, fields):
                self._plan.report.mismatched.append((write_path(path) + below, detail))
        for name, value in present.items():
            if name in fields or name in about.left_out or self._leaves_out((path, ".", name), value):
                continue
            if definition(cls, name) and not is_part_of_program(value):
                self._plan.reverted.append((live, name))
            else:
                self._plan.report.missing.append(write_path((path, ".", name)))

    def _missing(self, entry: Any, live: Any, name: str, child: Any, found: Any) -> Any:
        """What an object of the script would make for a field that it has not got yet."""
        if not isinstance(entry, Adapter) or entry.missing is None or not isinstance(child, Node):
            return found
        made = entry.missing(live, name, child)
        if made is None:
            return found
        self._plan.keep.append(made)
        return made

    def _below_mapping(self, node: tree.MappingNode, live: dict[Any, Any], path: Path) -> None:
        matched = set()
        wieldy = self._plan.keys.unwieldy((key for key, _ in node.pairs), self._plan.find) is None
        for position, (key, child) in enumerate(node.pairs):
            plain = not isinstance(key, Node) or isinstance(key, Value)
            if isinstance(key, Node):
                self._met.append(Edge(key, ABSENT, (path, "key", position), node, ("key", position)))
            found = ABSENT
            try:
                if not wieldy:
                    raise TypeError
                read = self._key(key)
                found = dict.get(live, read, ABSENT)
                matched.add(read)
            except (TypeError, ValueError, _values.NotThere):
                pass  # no plain key: what it stands for is only known when everything is paired
            if found is ABSENT:
                found = self._from_factory(live, child)
            self._met.append(Edge(child, found, (path, "[", key if plain else position), node, position))
        # Other things that the script has built and the checkpoint knows nothing of stay as they are, beside
        # the rest.
        unknown = [key for key, value in dict.items(live) if isinstance(known(type(value)).entry, Adapter)]
        for key in unknown:
            if key not in matched and all(_is_plain(saved) for saved, _ in node.pairs):
                self._plan.report.missing.append(
                    write_path((path, "[", key if type(key) is str else repr(key)))
                )

    def _key(self, key: Any) -> Any:
        if isinstance(key, SequenceNode) and key.type == "tuple":
            return tuple(self._key(item) for item in key.items)
        if isinstance(key, Node) and not isinstance(key, Value):
            raise TypeError
        return _values.read(key, self._plan.find) if isinstance(key, Value) else key

    def _from_factory(self, live: dict[Any, Any], child: Any) -> Any:
        """What a defaultdict of the script would have made for a new key: it knows classes that nothing else
        shows."""
        if not isinstance(live, collections.defaultdict) or not isinstance(child, Object | Custom):
            return ABSENT
        if live.default_factory is None or factory_name(live.default_factory):
            return ABSENT
        try:
            made = live.default_factory()
        except Exception:
            return ABSENT
        self._plan.keep.append(made)
        return made

    def _below_items(self, node: SequenceNode, live: Any, path: Path) -> None:
        if node.type == "ndarray":
            present = live.ravel().tolist()
        elif isinstance(live, list | tuple | collections.deque):
            base = next(base for base in ITEMS if isinstance(live, base))
            present = list(base.__iter__(live))  # type: ignore[attr-defined]
        else:
            present = []
        self._plan.keep.append(present)
        count = 0
        for slot, child, kind, name in tree.edges(node):
            if kind == ".":
                continue
            found = present[count] if kind == "[" and count < len(present) else ABSENT
            edge = Edge(child, found, (path, kind, name), node, slot)
            if isinstance(child, Omitted) and found is ABSENT and isinstance(live, ITEMS):
                self._plan.reject(
                    edge, f"the checkpoint left out {child.reason} here, and the script has nothing"
                )
            else:
                self._met.append(edge)
            count = name[1] if kind == ":" else count + 1
        surplus = [value for value in present[count:] if is_part_of_program(value)]
        if surplus:
            detail = f"{len(present)}, among them {len(surplus)} more like {describe(surplus[0])}"
            self._plan.report.mismatched.append(
                (write_path(path), f"the checkpoint has {count} element(s), the script has {detail}")
            )

    # -- memory ----------------------------------------------------------------------------------------------

    def _pair_memory(self) -> None:
        """Where saved arrays looked onto memory that no array of the world holds as a whole: the live ones'
        memory."""
        windows: dict[int, list[Array]] = collections.defaultdict(list)
        for node, _ in self._arrays:
            if node.base is not None and self._plan.live(node.base) is ABSENT:
                windows[id(node.base)].append(node)
        for nodes in windows.values():
            base: Any = nodes[0].base
            lives = [self._plan.pairs[id(node)] for node in nodes]
            start = _aliasing.address(lives[0]) - nodes[0].offset
            found = _aliasing.whole(lives, start, start + tree.itemsize(base) * math.prod(base.shape))
            if found is None or not _aliasing.fits(base, found):
                continue
            if all(_aliasing.lies_at(live, found, node) for live, node in zip(lives, nodes, strict=True)):
                self._plan.pairs[id(base)] = found
                self._arrays.append((base, None))

    def _separate(self) -> None:
        """Give saved arrays that were apart memory of their own where the live ones overlap."""
        own = [(node, path) for node, path in self._arrays if node.base is None and 0 not in node.shape]
        # What is part of the program stays where it is, so it comes first.
        own.sort(key=lambda entry: "parameter" not in entry[0].extra)
        lives = [self._plan.pairs[id(node)] for node, _ in own]
        for group in _aliasing.overlapping(lives):
            staying: list[int] = []
            for position in sorted(group):
                node, path = own[position]
                other = next(
                    (other for other in staying if _aliasing.share(lives[other], lives[position])), None
                )
                if other is None:
                    staying.append(position)
                elif "parameter" not in node.extra:
                    self._plan.pairs[id(node)] = ABSENT
                else:
                    detail = "the checkpoint has memory of its own here, the script shares that of "
                    self._plan.report.mismatched.append(
                        (write_path(path), detail + write_path(own[other][1]))
                    )
                    self._plan.bad.add(id(node))


def _if_renamed(node: Any, live: Any) -> str:
    """What to do if the class of a saved object is the live one's under another name; nothing where they are alike."""
    if not isinstance(node, Object | Custom) or live is ABSENT or same_class(node.type, type(live)):
        return ""
    return f". {remedy_if_renamed(node.type, type(live).__qualname__)}"


def _form(node: Any) -> str:
    pairs = node.payload.pairs if isinstance(node.payload, tree.MappingNode) else ()
    return next((str(child) for key, child in pairs if key == "form"), "none")


def _is_plain(key: Any) -> bool:
    return not isinstance(key, Node) or isinstance(key, Value)

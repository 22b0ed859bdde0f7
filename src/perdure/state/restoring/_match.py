"""Matching: which live object belongs to which saved node, and what does not fit. Nothing is changed.

The saved and the live side are walked together, by the same paths. Classes come from the live side alone: a saved state
never makes Perdure import, call or construct anything by name.
"""

from __future__ import annotations

import collections
import difflib
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from perdure import tree
from perdure.state import _values, rng
from perdure.state._class_names import remedy_if_renamed, same_class
from perdure.state._compounds import CODE, DEFAULTS
from perdure.state._containers import FACTORY, ITEMS
from perdure.state._describe import describe
from perdure.state._iterators import IteratorHandler
from perdure.state._live_objects import LiveObjects
from perdure.state._patterns import matches
from perdure.state._references import MISSING, look_up
from perdure.state._registry import Adapter, Handler, known
from perdure.state._runtime_rules import is_bar
from perdure.state._texts import is_secret_entry
from perdure.state._walker import LEFT_OUT
from perdure.state.restoring._constructible import (
    NESTED_STATE,
    definition,
    unassignable,
    unreadable,
)
from perdure.state.restoring._object_views import pair_memory, separate
from perdure.state.restoring._order import order
from perdure.state.restoring._plan import ABSENT, CONTAINERS, Edge, Match, Matches, RestorePlan
from perdure.state.restoring._process_strings import OwnStrings
from perdure.state.restoring._references import References, is_callable_node, is_factory, is_reference
from perdure.state.restoring._verdict import (
    FITS,
    REPLACE,
    Verdict,
    container_fits,
    is_like,
    object_verdict,
)
from perdure.tree import Array, Custom, Node, Object, Omitted, Path, SequenceNode, Value, write_path

_EDITED = "a function that was edited in the script since the run began"
_MOST_FORBIDDEN = 1_000
_MOST_ATTEMPTS = 20
#: For each live object and saved node (by their ids): that object, and what its adapter said does not fit.
_Checked = dict[tuple[int, int], tuple[Any, list[tuple[str, str]]]]


def make_plan(
    root: Object, world: LiveObjects, own: OwnStrings | None = None, *, grows: bool = False
) -> RestorePlan:
    """Match a saved state with live objects, and plan what to write.

    Usually paths decide which node belongs to which live object. Where a name has moved on since the script started
    (the environment in use, one of several), two nodes ask for the same live object. Then the node that fits another
    one too has to take that. The nodes are matched again for it; the live objects are not walked again, and adapters
    are not asked again.

    :param root: of the saved state.
    :param world: the live side.
    :param own: the strings that stay this process's own.
    :param grows: whether parts may have been added while running; those that can be made are made.
    """
    own = own or OwnStrings()
    forbidden: frozenset[tuple[int, int]] = frozenset()
    checked: _Checked = {}
    for _ in range(_MOST_ATTEMPTS):
        matcher = _Matcher(root, world, own, grows, forbidden, checked)
        plan = order(matcher.matches())
        more = {pair for pair in matcher.contested if pair[0] in matcher.flexible} - forbidden
        if plan.report.exact or not more or len(forbidden) > _MOST_FORBIDDEN:
            break
        forbidden |= more
    return plan


class _Matcher:
    """One walk through both sides.

    :param root: of the saved state.
    :param world: the live side.
    :param own: the strings that stay this process's own.
    :param grows: whether parts may have been added while running.
    :param forbidden: pairs of a node's id and a live object's id that are not to be made.
    :param checked: what adapters were asked already; answers are added.
    """

    def __init__(
        self,
        root: Object,
        world: LiveObjects,
        own: OwnStrings,
        grows: bool,
        forbidden: frozenset[tuple[int, int]],
        checked: _Checked,
    ) -> None:
        self._matches = Matches(root, world, own.report(), dict(own.left), dict(own.used))
        self._references = References(self._matches)
        self._world = world
        self._grows = grows
        self._forbidden = forbidden
        self._checked = checked
        #: Which node got a live object (by its id).
        self._owners: dict[int, Node] = {}
        #: Pairs of the node that got a live object and that object, where a second node asked for it too.
        self.contested: set[tuple[int, int]] = set()
        #: Nodes that could have had another live object.
        self.flexible: set[int] = set()
        self._replaced: list[Edge] = []
        self._arrays: list[tuple[Array, Path]] = []
        self._objects: list[SequenceNode] = []
        self._object_views: list[SequenceNode] = []
        self._todo: collections.deque[Edge] = collections.deque()
        #: The parts of compounds: what they hold is better known by another path, if there is one.
        self._later: collections.deque[Edge] = collections.deque()

    def matches(self) -> Matches:
        """What this walk finds out."""
        self._match_parts()
        self._check_replaced()
        self._pair_memory()
        self._separate()
        return self._matches

    # -- pairing ---------------------------------------------------------------------------------------------

    def _match_parts(self) -> None:
        root, live = self._matches.root, self._world.parts
        for name, part in live.items():
            if name in root.fields or self._leaves_out((None, ".", name), part):
                continue
            if self._world.unchanged(name):
                self._matches.removed.append(name)
            elif self._world.reference(part) is None:
                self._miss(name, None, name, part, root.fields, live)
        for name, node in root.fields.items():
            edge = Edge(node, live.get(name, ABSENT), (None, ".", name), root, name)
            if name in live or isinstance(node, Omitted) or self._grows:
                self._todo.append(edge)
            else:
                self._matches.reject(edge, "the checkpoint has this part, the script's world does not")
        self._match_all()
        for base, found in pair_memory(self._matches, self._object_views):
            self._below(base, found, self._matches.path(base))
        self._match_all()

    def _match_all(self) -> None:
        while self._todo or self._later:
            self._match((self._todo or self._later).popleft())

    def _is_changed(self, path: Path) -> bool:
        """Whether the script may build something else at a path than when the run began."""
        return not self._world.unchanged(write_path(path))

    def _came_about(self, edge: Edge) -> bool:
        """Whether a part of the program may have been replaced in training by what the checkpoint has: a network by
        another one or by nothing, a parameter by a tensor."""
        cls = self._world.class_of(edge.live)
        match edge.node:
            case None:
                alike = True
            case Array():
                alike = issubclass(cls, torch.Tensor)
            case Object() | Custom():
                found, rule = self._matches.find(edge.node.type), known(cls).entry
                alike = found is not None and isinstance(rule, Adapter) and known(found).entry is rule
            case _:
                alike = False
        return alike and not self._is_changed(edge.path)

    def _leaves_out(self, path: Path, live: Any) -> bool:
        return self._world.is_left_out(live) or self._skips(path)

    def _skips(self, path: Path) -> bool:
        return bool(self._world.skip) and matches(write_path(path), self._world.skip)

    def _mismatch(self, edge: Edge, expected: str, found: str) -> None:
        detail = f"the checkpoint has {expected}, the script has {found}{self._if_renamed(edge)}"
        self._matches.report.mismatched.append((write_path(edge.path), detail))
        self._matches.left[edge.place] = False

    def _leave_out(self, edge: Edge, reason: str) -> None:
        self._matches.report.skipped.append((write_path(edge.path), reason))
        self._matches.left[edge.place] = True

    def _match(self, edge: Edge) -> None:
        node = edge.node
        if edge.place in self._matches.left:
            return
        if self._skips(edge.path):
            self._leave_out(edge, LEFT_OUT)
        elif is_reference(node):
            if edge.slot != CODE:
                self._match_reference(edge)
        elif isinstance(node, Value):
            reason = unreadable(self._matches, node)
            if reason is not None:
                self._matches.reject(edge, reason)
            else:
                self._replace(edge)
        elif not isinstance(node, Node):
            self._replace(edge)
        elif not isinstance(node, Omitted):
            self._match_node(edge, node, self._matches.meet(node, edge.path))

    def _match_reference(self, edge: Edge) -> None:
        found, reason = self._references.settle(edge.node, edge.live, edge.holder)
        if reason and self._was_edited(edge, edge.path):
            self._leave_out(edge, _EDITED)
        elif reason:
            self._matches.reject(edge, reason)
        else:
            self._matches.own[edge.place] = found
            if found is not edge.live:
                self._replace(edge)

    def _was_edited(self, edge: Edge, path: Path) -> bool:
        """Whether the script has another function than when the run began, and the training had left that as it was."""
        is_there = edge.live is not ABSENT and self._world.is_callable(edge.live)
        return is_there and self._world.edited(write_path(path))

    def _is_out_of_place(self, edge: Edge, node: Node) -> bool:
        """Whether an object that acts for the process may not be put here; then the place is left as it is."""
        live = edge.live
        if (
            isinstance(node, Object)
            and is_bar(node.type)
            and (live is ABSENT or not same_class(node.type, self._world.class_of(live)))
        ):
            self._leave_out(edge, "a progress bar")
            return True
        if not is_callable_node(node):
            return False
        assert isinstance(node, Object)
        is_other = CODE in node.fields and live is not ABSENT and not self._verdict(node, live, False).fits
        if is_other and self._was_edited(edge, (edge.path, ".", CODE)):
            self._leave_out(edge, _EDITED)
            return True
        reason = self._references.misplaced_node(node, live, edge.holder)
        if reason:
            self._matches.reject(edge, reason)
        return bool(reason)

    def _match_node(self, edge: Edge, node: Node, match: Match) -> None:
        live = edge.live
        if (live is ABSENT or live is not match.live) and self._is_out_of_place(edge, node):
            return
        if live is not ABSENT and live is not match.live:
            verdict = self._verdict(node, live, edge.must_fit)
            if verdict.expected and self._is_changed(edge.path):
                found = self._world.describe(write_path(edge.path), live)
                if found == verdict.expected:
                    found += self._world.peculiarity(live)
                self._mismatch(edge, verdict.expected, found)
                return
            if verdict.fits and match.live is ABSENT:
                owner = self._owners.get(id(live))
                if owner is None and (id(node), id(live)) not in self._forbidden:
                    self._pair(node, live, edge.path)
                    return
                if owner is not None:
                    self.contested.add((id(owner), id(live)))
                    self._replaced.append(edge)
            elif verdict.fits:
                self.flexible.add(id(node))
            self._replace(edge)
        if not match.decided and isinstance(node, Object) and CODE in node.fields:
            found = self._references.named(node)
            if found is not ABSENT and id(found) not in self._owners:
                self._pair(node, found, edge.path)
                return
        if not match.decided:
            self._matches.pair(node, ABSENT)
            match.found = live
            self._below(node, ABSENT, edge.path)

    def _pair(self, node: Node, live: Any, path: Path) -> None:
        self._matches.pair(node, live)
        self._owners[id(live)] = node
        self._below(node, live, path)

    def _replace(self, edge: Edge) -> None:
        if edge.live is not ABSENT and self._world.is_part_of_program(edge.live):
            self._replaced.append(edge)

    def _check_replaced(self) -> None:
        """A live object that is part of the program may be replaced at one place only if it stays at another."""
        for edge in self._replaced:
            if not self._world.is_part_of_program(edge.live) or self._came_about(edge):
                continue
            owner = self._owners.get(id(edge.live))
            elsewhere = isinstance(edge.node, Node) and self._matches.live(edge.node) is not ABSENT
            if owner is None and elsewhere:
                expected = f"what it has at {write_path(self._matches.path(edge.node))}"
                self._mismatch(edge, expected, f"{self._describe(edge)} of its own")
            elif owner is None:
                self._mismatch(edge, describe(edge.node), self._describe(edge))
            elif not elsewhere and self._verdict(edge.node, edge.live, edge.must_fit).fits:
                found = f"what it has at {write_path(self._matches.path(owner))}"
                self._mismatch(edge, f"{describe(edge.node)} of its own", found)

    def _describe(self, edge: Edge) -> str:
        return self._world.describe(write_path(edge.path), edge.live)

    def _verdict(self, node: Any, live: Any, must_fit: bool) -> Verdict:
        world = self._world
        match node:
            case Object() if node.type == NESTED_STATE:
                return REPLACE
            case Object() if (parts := world.compound_parts(live)) is not None:
                cls = world.class_of(live)
                alike = same_class(node.type, cls) and is_like(node, cls, parts, world.reference)
                return FITS if alike else REPLACE
            case Object() | Custom():
                return object_verdict(node, world.class_of(live), partial(world.form, live))
            case Array():
                if world.fits(node, live):
                    return FITS
                cls = world.class_of(live)
                parameter = "parameter" in node.extra and issubclass(cls, torch.Tensor)
                parameter = parameter and not issubclass(cls, UninitializedParameter | UninitializedBuffer)
                fixed = must_fit or parameter or world.is_parameter(live)
                return Verdict(False, describe(node)) if fixed else REPLACE
            case SequenceNode() if node.type in ("ndarray", tree.OBJECT_VIEW):
                return FITS if world.is_like_object_array(node, live) else REPLACE
            case SequenceNode() | tree.MappingNode():
                return FITS if container_fits(node, world.class_of(live)) else REPLACE
        return REPLACE

    def _if_renamed(self, edge: Edge) -> str:
        """What to do if the live object's class is that of the saved one under another name; "" if it cannot be."""
        node = edge.node
        kinds = Object | Custom | SequenceNode | tree.MappingNode
        if not isinstance(node, kinds) or node.type in CONTAINERS or edge.live is ABSENT:
            return ""
        cls = self._world.class_of(edge.live)
        # A class that is still there was not renamed: the script uses another one.
        is_there = look_up(node.type) is not MISSING
        return (
            ""
            if is_there or same_class(node.type, cls)
            else f". {remedy_if_renamed(node.type, cls.__qualname__)}"
        )

    # -- below a node ----------------------------------------------------------------------------------------

    def _below(self, node: Node, live: Any, path: Path) -> None:
        """Go on with the contents of a node, and with what the live value (if there is one) has at the same places."""
        if isinstance(node, Object) and node.type == NESTED_STATE:
            return
        if live is ABSENT:
            for slot, child, kind, name in tree.edges(node):
                self._todo.append(Edge(child, ABSENT, (path, kind, name), node, slot))
            return
        match node:
            case Object():
                self._below_fields(node, node.fields, live, path)
            case tree.MappingNode():
                self._below_mapping(node, live, path)
                fields = dict(node.fields or {})
                if issubclass(self._world.class_of(live), collections.defaultdict):
                    self._below_factory(node, fields.pop(FACTORY, None), live, path)
                self._below_fields(node, fields, live, path)
            case SequenceNode():
                self._below_items(node, live, path)
                if node.type == "ndarray":
                    self._objects.append(node)
                elif node.type == tree.OBJECT_VIEW:
                    self._object_views.append(node)
                else:
                    self._below_fields(node, node.fields or {}, live, path)
            case Array():
                self._arrays.append((node, path))
                if node.base is not None:
                    self._todo.append(Edge(node.base, ABSENT, (path, "base", None), node, tree.BASE))
                if node.grad is not None:
                    grad = self._world.gradient(live)
                    found = ABSENT if grad is None else grad
                    self._todo.append(Edge(node.grad, found, (path, ".", "grad"), node, tree.GRAD))
                if node.fields is not None:
                    self._below_fields(node, node.fields, live, path)
            case Custom() if isinstance(entry := known(self._world.class_of(live)).entry, IteratorHandler):
                parts = self._parts(node, entry, live)
                self._todo.append(Edge(node.payload, parts, (path, "", None), node, "payload"))
            case Custom() if (
                isinstance(rule := known(self._world.class_of(live)).entry, Handler) and rule.shares
            ):
                held = self._world.parts_of(live, rule)
                self._matches.new_objects.append(held)
                found = ABSENT if held is None else held
                self._todo.append(Edge(node.payload, found, (path, "", None), node, "payload"))
            case _:
                self._below(node, ABSENT, path)

    def _parts(self, node: Custom, handler: IteratorHandler, live: Any) -> Any:
        """What a live iterator is made of: what it goes over may be the script's own."""
        parts = self._world.parts_of(live, handler)
        self._matches.new_objects.append(parts)
        # One that is exhausted has fewer.
        alike = parts is not None and self._world.length(parts) == len(getattr(node.payload, "items", ()))
        return parts if alike else ABSENT

    def _below_fields(self, node: Node, fields: Mapping[str, Any], live: Any, path: Path) -> None:
        cls = self._world.class_of(live)
        about = known(cls)
        parts = self._world.compound_parts(live)
        if parts is not None:
            self._below_compound(node, parts, path)
            return
        present = self._world.fields(live)
        self._matches.new_objects.append(present)
        module = issubclass(cls, torch.nn.Module)
        for name, child in fields.items():
            found = present.get(name, ABSENT)
            if found is ABSENT or found is None:
                found = self._missing(about.entry, live, name, child, found)
            must_fit = module and self._world.keeps_tensor(live, name)
            edge = Edge(child, found, (path, ".", name), node, name, must_fit)
            if isinstance(child, Omitted):
                continue
            if name in about.left_out:
                self._leave_out(edge, about.left_out[name])
            elif (reason := unassignable(cls, name, present)) is not None:
                self._matches.reject(edge, reason)
            elif module and found is ABSENT and self._is_part(child) and self._is_changed((path, ".", name)):
                self._matches.reject(edge, f"the checkpoint has {describe(child)}, the script has nothing")
            else:
                self._todo.append(edge)
        if isinstance(about.entry, Adapter):
            self._check(about.entry, node, fields, live, path)
        for name, value in present.items():
            if name in fields or name in about.left_out or self._leaves_out((path, ".", name), value):
                continue
            if is_secret_entry(name, value):
                continue
            is_optional = isinstance(about.entry, Adapter) and name in about.entry.optional
            at_first = definition(cls, name) and not self._world.is_part_of_program(value)
            if is_optional or at_first or not self._is_changed((path, ".", name)):
                self._matches.unset.append((live, name))
            else:
                self._miss(write_path((path, ".", name)), path, name, value, fields, present)

    def _miss(
        self, at: str, path: Path, name: str, live: Any, fields: Mapping[str, Any], present: Mapping[str, Any]
    ) -> None:
        """Report something that the checkpoint does not have, and what it has instead under another name.

        :param at: where it is.
        :param path: of what holds it.
        :param fields: what the checkpoint has there.
        :param present: what the script has there.
        """
        self._matches.report.missing.append(at)
        kind = self._kind(at, live)
        gone = [
            each for each, child in fields.items() if each not in present and self._kind(at, child) == kind
        ]
        if gone:
            closest = difflib.get_close_matches(name, gone, 1, 0.0)[0]
            self._matches.report.alike[at] = write_path((path, ".", closest))

    def _kind(self, at: str, value: Any) -> str:
        """What kind of thing a saved node or a live value is, in words."""
        if isinstance(value, Omitted) or (isinstance(value, Object) and rng.is_process(value)):
            return ""
        if not isinstance(value, Node) and type(value) in tree.PLAIN_TYPES:
            return type(value).__name__
        return describe(value) if isinstance(value, Node) else self._world.describe(at, value)

    def _is_part(self, child: Any) -> bool:
        """Whether a saved field of a module is a parameter or a module."""
        if isinstance(child, Array):
            return "parameter" in child.extra
        cls = self._matches.find(child.type) if isinstance(child, Object) else None
        return cls is not None and issubclass(cls, torch.nn.Module)

    def _below_compound(self, node: Node, present: Mapping[str, Any], path: Path) -> None:
        assert isinstance(node, Object)
        self._matches.new_objects.append(present)
        for name, child in node.fields.items():
            if name == CODE:
                continue
            edge = Edge(child, present.get(name, ABSENT), (path, ".", name), node, name)
            if name in DEFAULTS and not _are_arguments(name, child, present):
                self._matches.reject(
                    edge, "the checkpoint has default arguments here, the script's function has none"
                )
            else:
                self._later.append(edge)

    def _check(self, adapter: Adapter, node: Node, fields: Mapping[str, Any], live: Any, path: Path) -> None:
        """Ask an adapter what does not fit, but not twice about the same."""
        if adapter.check is None:
            return
        asked = id(live), id(node)
        if asked not in self._checked:
            self._checked[asked] = live, self._world.misfits(adapter, live, fields)
        for below, detail in self._checked[asked][1]:
            self._matches.report.mismatched.append((write_path(path) + below, detail))

    def _missing(self, entry: Any, live: Any, name: str, child: Any, found: Any) -> Any:
        """What an object of the script would make for a field that it does not have yet."""
        if not isinstance(entry, Adapter) or entry.missing is None or not isinstance(child, Node):
            return found
        made = self._world.missing(entry, live, name, child)
        if made is None:
            return found
        self._matches.new_objects.append(made)
        return made

    def _below_mapping(self, node: tree.MappingNode, live: Any, path: Path) -> None:
        matched = set()
        keys = (key for key, _ in node.pairs)
        entries = self._world.entries(live)
        hashable = self._matches.keys.unwieldy(keys, self._matches.find) is None
        for position, (key, child) in enumerate(node.pairs):
            plain = not isinstance(key, Node) or isinstance(key, Value)
            if isinstance(key, Node):
                same = self._same_key(key, entries)
                self._todo.append(Edge(key, same, (path, "key", position), node, ("key", position)))
            found = ABSENT
            try:
                if not hashable:
                    raise TypeError
                read = self._key(key, entries)
                found = dict.get(entries, read, ABSENT)
                matched.add(read)
            except (TypeError, ValueError, _values.NotThere):
                pass  # the key is an object, and which one is only known when everything is paired
            if found is ABSENT:
                found = self._from_factory(live, child)
            self._todo.append(Edge(child, found, (path, "[", key if plain else position), node, position))
        # Other entries that the checkpoint does not have stay in the live dict.
        unknown = [
            key
            for key, value in dict.items(entries)
            if isinstance(known(self._world.class_of(value)).entry, Adapter)
        ]
        for key in unknown:
            if key in matched or not all(_is_plain(saved) for saved, _ in node.pairs):
                continue
            if not self._is_changed(path):
                self._matches.shrunk.add(id(node))
            else:
                self._matches.report.missing.append(
                    write_path((path, "[", key if type(key) is str else repr(key)))
                )

    def _below_factory(self, node: tree.MappingNode, child: Any, live: Any, path: Path) -> None:
        if child is None:
            return
        found = self._world.factory(live)
        edge = Edge(child, ABSENT if found is None else found, (path, ".", FACTORY), node, FACTORY)
        if is_factory(child):
            self._todo.append(edge)
        else:
            self._matches.reject(edge, "the checkpoint has a defaultdict with a factory that is not called")

    def _same_key(self, key: Any, live: dict[Any, Any]) -> Any:
        """The function or class among a dict's keys that a saved key means, or ABSENT."""
        found = self._world.key(key, live) if is_reference(key) else None
        return ABSENT if found is None else found

    def _key(self, key: Any, live: dict[Any, Any]) -> Any:
        if isinstance(key, SequenceNode) and key.type == "tuple":
            return tuple(self._key(item, live) for item in key.items)
        if is_reference(key):
            found = self._same_key(key, live)
            if found is ABSENT:
                raise TypeError
            return found
        if isinstance(key, Node) and not isinstance(key, Value):
            raise TypeError
        return _values.read(key, self._matches.find) if isinstance(key, Value) else key

    def _from_factory(self, live: Any, child: Any) -> Any:
        """What a defaultdict of the script would have made for a new key: only its factory knows the class."""
        made = self._world.made_by_factory(live) if isinstance(child, Object | Custom) else None
        if made is None:
            return ABSENT
        self._matches.new_objects.append(made)
        return made

    def _below_items(self, node: SequenceNode, live: Any, path: Path) -> None:
        present = self._world.elements(live)
        self._matches.new_objects.append(present)
        count = 0
        for slot, child, kind, name in tree.edges(node):
            if kind == ".":
                continue
            found = present[count] if kind == "[" and count < len(present) else ABSENT
            edge = Edge(child, found, (path, kind, name), node, slot)
            if (
                isinstance(child, Omitted)
                and found is ABSENT
                and issubclass(self._world.class_of(live), ITEMS)
            ):
                self._matches.reject(
                    edge, f"the checkpoint left out {child.reason} here, and the script has nothing"
                )
            else:
                self._todo.append(edge)
            count = name[1] if kind == ":" else count + 1
        surplus = [value for value in present[count:] if self._world.is_part_of_program(value)]
        if surplus and self._is_changed(path):
            more = f"{len(surplus)} more like {self._world.describe(write_path(path), surplus[0])}"
            detail = f"{len(present)}, among them {more}"
            self._matches.report.mismatched.append(
                (write_path(path), f"the checkpoint has {count} element(s), the script has {detail}")
            )

    # -- memory ----------------------------------------------------------------------------------------------

    def _pair_memory(self) -> None:
        """Pair the common memory of saved views, where no saved array contained all of it, with that of the live
        arrays."""
        views: dict[int, list[Array]] = collections.defaultdict(list)
        for node, _ in self._arrays:
            if node.base is not None and self._matches.live(node.base) is ABSENT:
                views[id(node.base)].append(node)
        for nodes in views.values():
            base: Any = nodes[0].base
            lives = [self._matches.live(node) for node in nodes]
            found = self._world.common_memory(base, nodes, lives)
            if found is not None:
                self._matches.pair(base, found)
                self._arrays.append((base, None))

    def _separate(self) -> None:
        """Where live arrays overlap and the saved ones did not, let only one of them keep its memory."""
        separate(self._matches, self._objects)
        own = [(node, path) for node, path in self._arrays if node.base is None and 0 not in node.shape]
        # Parameters must keep their memory, so they come first.
        own.sort(key=lambda entry: "parameter" not in entry[0].extra)
        lives = [self._matches.live(node) for node, _ in own]
        for group in self._world.overlapping(lives):
            staying: list[int] = []
            for position in sorted(group):
                node, path = own[position]
                other = next(
                    (other for other in staying if self._world.share(lives[other], lives[position])), None
                )
                if other is None:
                    staying.append(position)
                elif "parameter" not in node.extra or not self._is_changed(path):
                    self._matches.pair(node, ABSENT)
                else:
                    detail = "the checkpoint has memory of its own here, the script shares that of "
                    self._matches.report.mismatched.append(
                        (write_path(path), detail + write_path(own[other][1]))
                    )
                    self._matches.bad.add(id(node))


def _are_arguments(name: str, child: Any, present: Mapping[str, Any]) -> bool:
    expected = "tuple" if name == "__defaults__" else "dict"
    return name in present and getattr(child, "type", None) == expected


def _is_plain(key: Any) -> bool:
    return not isinstance(key, Node) or isinstance(key, Value)

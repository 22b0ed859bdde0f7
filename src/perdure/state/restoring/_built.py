"""The world as the script built it, kept as a tree without bytes, so that each checkpoint can be compared with it.

What a fresh process of the script could not restore is found by matching the checkpoint with this tree, by the very
rules by which restoring matches it with live objects. Knows no files.
"""

from __future__ import annotations

import collections
import contextlib
import sys
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.errors import RestoreError
from perdure.state import _aliasing, _object_arrays, _values, rng
from perdure.state._capture import LiveWorld
from perdure.state._class_names import module_of
from perdure.state._compounds import CODE, of_class
from perdure.state._containers import FACTORIES, FACTORY
from perdure.state._iterators import CLASSES
from perdure.state._live_objects import LiveObjects
from perdure.state._references import KINDS
from perdure.state._registry import Adapter, Handler, known
from perdure.state._report import Report
from perdure.state._secrets import ENVIRONMENT, SECRET
from perdure.state._shown_classes import Ambiguous, ShownClasses
from perdure.state._structure import Shape, Structure
from perdure.state._walker import LEFT_OUT, Walker
from perdure.state.restoring._constructible import NESTED_STATE
from perdure.state.restoring._match import make_plan
from perdure.state.restoring._plan import CONTAINERS
from perdure.state.restoring._process_strings import own_strings
from perdure.state.restoring._thinned import thin, thinned
from perdure.state.restoring._verdict import saved_form
from perdure.tree import (
    Array,
    Custom,
    MappingNode,
    Node,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    Value,
)

#: Longer bytes are not kept: they name no place.
_LONGEST = 16_384


class BuiltWorld(LiveObjects):
    """Stands for the live objects that the script built: its values are the nodes of their walk, and plain values.

    :param world: the walk over what the script has just built. Its tree is taken over.
    :param grows: whether parts may be added while running.
    """

    def __init__(self, world: LiveWorld, *, grows: bool = True) -> None:
        root = without_generators(world.root)
        self._shown = shown = _Imported(world.shown, world.classes.values())
        super().__init__(root.fields, world.classes, skip=world.skip, shown=shown)
        self.held_references = [(node, node) for node, _ in world.held_references]
        self.root = root
        self._grows = grows
        #: The names under which modules keep parameters and buffers, by the ids of their nodes.
        self._tensors: dict[int, frozenset[str]] = {}
        #: The factories that only the script has, by the ids of the nodes of their dicts.
        self._factories: dict[int, Any] = {}
        #: The nodes of what is part of the program, by the ids of the live objects.
        self._program: dict[int, tuple[weakref.ref[Any], Node]] = {}
        #: Arrays into which nothing can be written, by the ids of their nodes.
        self._unfit: set[int] = set()
        self._structure = world.structure
        self._nodes: list[Node] = []
        for value, node in world.met():
            self._nodes.append(node)
            self._note(value, node)
            if super().is_part_of_program(value):
                with contextlib.suppress(TypeError):  # not all have weak references
                    self._program[id(value)] = weakref.ref(value), node
        #: What the last checkpoint that was compared had, and all shapes that were.
        self._last: Structure | None = None
        self._seen: set[Shape] = set()
        self._report = Report()

    def _note(self, value: Any, node: Node) -> None:
        match node:
            case Array():
                if not _aliasing.fits(node, value):
                    self._unfit.add(id(node))
            case Object():
                if isinstance(value, torch.nn.Module):
                    names = (*value._parameters, *value._buffers)
                    self._tensors[id(node)] = frozenset(
                        name for name in names if LiveObjects.keeps_tensor(self, value, name)
                    )
            case MappingNode():
                if isinstance(value, collections.defaultdict) and node.extra == "":
                    self._factories[id(node)] = value.default_factory

    def release(self, *, script_is_known: bool = True) -> None:
        """Let go of the bytes, and of most elements of long containers: this is to cost no memory.

        The walk's tree is not to be used after it.

        :param script_is_known: whether a fresh process can tell that its script is this one.
        """
        self.unchanged = lambda path: script_is_known
        thin(self.root, self._structure.long, self._structure.places())
        self._structure = Structure()
        nodes, self._nodes = self._nodes, []
        for node in nodes:
            _let_go(node)

    def expect(self, part: str, values: Mapping[str, Any]) -> None:
        """Note that a fresh process has objects of this structure in a part that is a dict.

        What the world holds too counts as it was when this was made.

        :param part: the name of the part.
        :param values: what the dict has, or what became of it.
        """
        walker = Walker(self.skip)
        for identity, (reference, node) in self._program.items():
            if reference() is not None:
                walker.memo[identity] = node
        known_nodes = frozenset(map(id, walker.memo.values()))
        node = walker.parts({part: values}).fields[part]
        self.classes = {**walker.classes, **self.classes}
        references = ((self.reference(each), each) for each in walker.references)
        self.held_references += [(node, node) for node, _ in references if node is not None]
        for value, its in walker.met():
            if id(its) not in known_nodes:
                self._note(value, its)
                _let_go(its)
        self.parts[part] = self.root.fields[part] = node

    def class_of(self, live: Any) -> type:
        match live:
            case Omitted() | Value():
                return object  # which class it has decides nothing
            case Object() | Custom():
                return self.classes[live.type]
            case SequenceNode() | MappingNode():
                return CONTAINERS.get(live.type) or self.classes[live.type]
            case Array(framework="torch"):
                return torch.nn.Parameter if "parameter" in live.extra else torch.Tensor
            case Array():
                return np.ndarray
        return type(live)

    def is_left_out(self, live: Any) -> bool:
        return isinstance(live, Omitted) or super().is_left_out(live)

    def is_part_of_program(self, live: Any) -> bool:
        if not isinstance(live, Node):
            return super().is_part_of_program(live)
        if isinstance(live, Omitted):
            return live.reason not in _NO_PART
        return known(self.class_of(live)).structural or self.is_parameter(live)

    def is_parameter(self, live: Any) -> bool:
        return "parameter" in live.extra if isinstance(live, Array) else super().is_parameter(live)

    def describe(self, path: str, live: Any) -> str:
        return live.reason if isinstance(live, Omitted) else super().describe(path, live)

    def fields(self, live: Any) -> Mapping[str, Any]:
        match live:
            case Object():
                return live.fields
            case Array() | SequenceNode() | MappingNode():
                return live.fields or {}
        return super().fields(live)

    def keeps_tensor(self, live: Any, name: str) -> bool:
        if isinstance(live, Node):
            return name in self._tensors.get(id(live), ())
        return super().keeps_tensor(live, name)

    def reference(self, live: Any) -> Value | None:
        if isinstance(live, Object):
            live = live.fields.get(CODE)
        if isinstance(live, Node):
            return live if isinstance(live, Value) and live.kind in KINDS else None
        return super().reference(live)

    def compound_parts(self, live: Any) -> Mapping[str, Any] | None:
        if not isinstance(live, Node):
            return super().compound_parts(live)
        if not isinstance(live, Object) or of_class(self.class_of(live)) is None:
            return None
        return live.fields

    def is_callable(self, live: Any) -> bool:
        if isinstance(live, Value):
            return live.kind in ("function", "class")
        if isinstance(live, Object | Custom):
            return any("__call__" in vars(base) for base in self.class_of(live).__mro__)
        return not isinstance(live, Node) and super().is_callable(live)

    def holds_functions(self, live: Any) -> bool:
        match live:
            case SequenceNode():
                return any(map(self.is_callable, live.items))
            case MappingNode():
                return any(self.is_callable(key) or self.is_callable(child) for key, child in live.pairs)
        return not isinstance(live, Node) and super().holds_functions(live)

    def entries(self, live: Any) -> dict[Any, Any]:
        if not isinstance(live, MappingNode):
            return super().entries(live)
        found = {}
        for key, child in live.pairs:
            try:
                found[self._key(key)] = child
            except (TypeError, ValueError, _values.NotThere):
                continue  # an object as a key: matching does not look for it either
        return found

    def _key(self, key: Any) -> Any:
        if isinstance(key, SequenceNode) and key.type == "tuple":
            return tuple(self._key(item) for item in key.items)
        if self.reference(key) is not None:
            return key
        if isinstance(key, Node) and not isinstance(key, Value):
            raise TypeError
        return _values.read(key, self.classes.get) if isinstance(key, Value) else key

    def factory(self, live: Any) -> Any:
        if not isinstance(live, Node):
            return super().factory(live)
        assert isinstance(live, MappingNode)
        own = (live.fields or {}).get(FACTORY)
        return FACTORIES.get(live.extra) if own is None else own

    def made_by_factory(self, live: Any) -> Any:
        if not isinstance(live, Node):
            return super().made_by_factory(live)
        factory = self._factories.get(id(live))
        return None if factory is None else super().made_by_factory(collections.defaultdict(factory))

    def elements(self, live: Any) -> Sequence[Any]:
        if not isinstance(live, Node):
            return super().elements(live)
        if not isinstance(live, SequenceNode) or issubclass(self.class_of(live), set | frozenset):
            return []
        if live.type == tree.OBJECT_VIEW:
            return []
        found: list[Any] = []
        for item in live.items:
            found.extend([0] * _count(item) if isinstance(item, RepeatRun | NumberRun) else [item])
        return found

    def length(self, live: Any) -> int:
        return sum(map(_count, live.items)) if isinstance(live, SequenceNode) else super().length(live)

    def gradient(self, live: Any) -> Any:
        return live.grad if isinstance(live, Array) else super().gradient(live)

    def fits(self, node: Array, live: Any) -> bool:
        if not isinstance(live, Array):
            return super().fits(node, live)
        return (
            id(live) not in self._unfit
            and (live.framework, live.dtype, live.shape) == (node.framework, node.dtype, node.shape)
            and self.is_parameter(live) == self.is_parameter(node)
        )

    def is_like_object_array(self, node: SequenceNode, live: Any) -> bool:
        if not isinstance(live, Node):
            return super().is_like_object_array(node, live)
        if not isinstance(live, SequenceNode) or live.type not in ("ndarray", tree.OBJECT_VIEW):
            return False
        return _object_arrays.shape_of(live) == _object_arrays.shape_of(node)

    def object_memory(self, base: SequenceNode, views: Sequence[SequenceNode], lives: Sequence[Any]) -> Any:
        return None  # it can always be made

    def not_apart(self, lives: Sequence[Any]) -> Iterator[int]:
        return iter(())

    def common_memory(self, base: Array, views: Sequence[Array], lives: Sequence[Any]) -> Any:
        return None  # it can always be made

    def overlapping(self, arrays: Sequence[Any]) -> Iterator[list[int]]:
        groups: dict[int, list[int]] = {}
        for position, array in enumerate(arrays):
            groups.setdefault(id(array.base or array), []).append(position)
        return (group for group in groups.values() if len(group) > 1)

    def share(self, a: Any, b: Any) -> bool:
        (start, end), (other, other_end) = _bytes_in_base(a), _bytes_in_base(b)
        return start < other_end and other < end

    def form(self, live: Any, handler: Handler) -> str | None:
        if not isinstance(live, Custom):
            return super().form(live, handler)
        return None if handler.form is None else saved_form(live)

    def parts_of(self, live: Any, handler: Handler) -> Any:
        return live.payload if isinstance(live, Custom) else super().parts_of(live, handler)

    def misfits(self, adapter: Adapter, live: Any, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [] if isinstance(live, Node) else super().misfits(adapter, live, fields)

    def missing(self, adapter: Adapter, live: Any, name: str, node: Any) -> Any:
        return None if isinstance(live, Node) else super().missing(adapter, live, name, node)

    def compare(self, world: LiveWorld, *, thoroughly: bool = False) -> Report:
        """What a fresh process of the script would make of a checkpoint; nothing is changed.

        Where nothing came that decides it, the answer is that of the last time.

        :param world: the walk that captured the checkpoint.
        :param thoroughly: compare it even if nothing came.
        """
        now = world.structure
        same = self._last is not None and self._report.exact and now.same_as(self._last, self._seen)
        if thoroughly or not same:
            saved = without_generators(world.root)
            self._shown.compare_with(world.classes, world.ambiguous)
            with thinned(saved, now.long, now.places(self._seen)):
                self._report = self.report(saved)
            self._last = now.without_nodes()
            self._seen.update(now.shapes)
        return self._report

    def report(self, root: Object) -> Report:
        """What a fresh process of the script would make of every path of a tree; nothing is changed.

        :param root: of the tree, without the process's random generators.
        """
        before = rng.get_state()
        try:
            return make_plan(root, self, own_strings(root, self.root, self.skip), grows=self._grows).report
        except RestoreError as error:
            return Report(unexpected=[("the world", str(error))])
        finally:
            rng.set_state(before)


class _Imported(ShownClasses):
    """The classes that a script shows which a fresh process has when it resumes: those of modules imported by now."""

    def __init__(self, shown: ShownClasses, live: Iterable[type]) -> None:
        self._shown = shown
        self._live = frozenset(live)
        self._modules = frozenset(sys.modules)
        self._now: Mapping[str, type] = {}
        self._several: Collection[str] = ()

    def compare_with(self, classes: Mapping[str, type], several: Collection[str]) -> None:
        """Note the classes of a checkpoint's objects: those that only have the name of a shown one are not shown.

        :param classes: by their recorded names.
        :param several: the recorded names that two of them have.
        """
        self._now, self._several = classes, several

    def find(self, name: str) -> type | None:
        found = self._shown.find(name)
        if found is not None and (name in self._several or self._now.get(name, found) is not found):
            raise Ambiguous(name)
        return found if found in self._live or found is None or module_of(found) in self._modules else None


#: Reasons for which values are left out that are no part of the program.
_NO_PART = frozenset({LEFT_OUT, SECRET, ENVIRONMENT})


def without_generators(root: Object) -> Object:
    """The tree of a world's parts alone."""
    return Object(root.type, {name: node for name, node in root.fields.items() if not rng.is_process(node)})


def _let_go(node: Node) -> None:
    match node:
        case Array():
            node.data = node.rows = None
            node.name = ""
            node.fields = node.fields and {name: _short(child) for name, child in node.fields.items()}
        case Object() if node.type == NESTED_STATE:
            node.fields = {}  # an object of the world holds them
        case Object():
            node.fields = {name: _short(child) for name, child in node.fields.items()}
        case MappingNode():
            node.pairs = [(key, _short(child)) for key, child in node.pairs]
        case SequenceNode():
            node.items = [_short(item) for item in node.items]
            for item in node.items:
                if isinstance(item, NumberRun):
                    item.array.data = None
                    item.array.name = ""
        case Custom() if not isinstance(node.payload, MappingNode) and node.type not in CLASSES:
            node.payload = None


def _short(child: Any) -> Any:
    """A value without its bytes, if they are many."""
    long = isinstance(child, Value) and child.kind in ("bytes", "numpy.bytes") and len(child.data) > _LONGEST
    return Value(child.kind, "") if long else child


def _count(item: Any) -> int:
    match item:
        case RepeatRun():
            return item.count
        case NumberRun():
            return int(np.prod(item.array.shape))
    return 1


def _bytes_in_base(array: Array) -> tuple[int, int]:
    size = tree.itemsize(array)
    if array.base is None:
        return 0, size * int(np.prod(array.shape))
    reach = [stride * (length - 1) for stride, length in zip(array.strides, array.shape, strict=True)]
    low, high = sum(way for way in reach if way < 0), sum(way for way in reach if way > 0)
    return array.offset + low, array.offset + high + size

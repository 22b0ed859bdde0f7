"""The walk over live objects, through attributes and containers, that makes a tree of nodes. It only reads, and it
knows no files."""

from __future__ import annotations

import collections
import itertools
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import Any, TypeAlias

import numpy as np
import torch

from perdure import tree
from perdure.errors import CaptureError, DamagedError, is_users_file
from perdure.state import _aliasing, _array_leaves, _compounds, _object_arrays, _references, _values, _weak
from perdure.state._attributes import TENSORS, attributes_of, attributes_of_tensor
from perdure.state._class_names import class_name, in_code, module_of
from perdure.state._containers import BUILTIN, FACTORY, ITEMS, factory_name
from perdure.state._iterators import IteratorHandler
from perdure.state._patterns import matches
from perdure.state._registry import (
    OPAQUE_BEGINS,
    REPLAY,
    Adapter,
    Compound,
    Handler,
    Reference,
    Refuse,
    Skip,
    is_environment,
    known,
    on_change,
)
from perdure.state._report import grouped
from perdure.state._secret_texts import is_secret_command
from perdure.state._secrets import (
    ENVIRONMENT,
    SECRET,
    has_secret_field,
    holds_text,
    is_environment_copy,
    is_secret_name,
)
from perdure.state._structure import ANCHOR, MANY, Structure, shapes_of_tensors
from perdure.state._texts import MAY_BE_REFUSED, PLAIN, TELLS_SECRET, sort_of_text
from perdure.state.buffers import Rows, writer_of
from perdure.tree import (
    Array,
    Custom,
    Node,
    NumberRun,
    Object,
    Omitted,
    Path,
    RepeatRun,
    SequenceNode,
    State,
    Value,
    write_path,
)

Taker: TypeAlias = "Callable[[Walker, Any, Path], Any]"
#: Fills the node of a value, which is at a path.
Fill: TypeAlias = "Callable[[Walker, Any, Any, Path], None]"

_PACK_FROM = 16
#: Larger integers do not fit an int64 array.
_LARGEST = 1 << 62


class Walker:
    """One walk over live objects. On the way it learns their classes.

    It does not recurse: a node is made where its object is met first and is filled later, so a chain of a million
    objects is walked like any other world.
    """

    def __init__(self, skip: Sequence[str] = ()) -> None:
        self.skip = tuple(skip)
        self.memo: dict[int, Node] = {}
        #: Every object of the walk is kept alive: an id is only valid as long as its object lives.
        self._alive: list[Any] = []
        self._unfilled: collections.deque[tuple[Fill, Any, Any, Path]] = collections.deque()
        #: What adapters gave for objects (by their ids).
        self.given: dict[int, Mapping[str, Any]] = {}
        self._refused: list[tuple[Path, str]] = []
        self._root: Node | None = None
        #: Where tensors are that belong to a graph.
        self.graphs: list[Path] = []
        #: Paths (by their ids) below which the adapter's own field replaces whatever cannot be captured.
        self._covered: dict[int, Path] = {}
        self._arrays: list[Array] = []
        self._objects: list[_object_arrays.Met] = []
        self._buffers: list[Rows] = []
        self.classes: dict[str, type] = {}
        #: Recorded names that two classes have.
        self.ambiguous: set[str] = set()
        #: The functions, classes and modules that were met, which may come more than once.
        self.references: list[Any] = []
        #: Weak references and containers, and variables of functions, which are looked at when all else is done.
        self.weak: list[_weak.Pending | _weak.Variables] = []
        #: Whether functions ran that are not Perdure's own.
        self.foreign = False
        self.structure = Structure()
        self._shapes = self.structure.shapes
        #: The arrays of states that were captured before, which objects hold.
        self._nested: dict[int, Array] = {}

    def parts(
        self,
        parts: Mapping[str, Any],
        last: Callable[[Walker], Mapping[str, Any]] | None = None,
    ) -> Object:
        """The tree of a world's parts.

        :param last: called when all objects below these parts were met; it returns further parts.
        """
        root = self._root = Object("perdure:World", {})
        for name, part in parts.items():
            secret = (is_secret_name(name) and holds_text(part)) or (
                type(part) is str and sort_of_text(part) == TELLS_SECRET
            )
            root.fields[name] = _SECRET if secret else self.node(part, (None, ".", name))
        self._fill()
        for name, part in ({} if last is None else last(self)).items():
            root.fields[name] = self.node(part, (None, ".", name))
        self._fill()
        while self.weak:
            if _weak.fill(self, self.weak):
                self._fill()
                continue
            pending, self.weak = self.weak, []
            for each in pending:
                each.finish(self)
            self._fill()
        return root

    def _fill(self) -> None:
        while self._unfilled:
            fill, value, node, path = self._unfilled.popleft()
            fill(self, value, node, path)

    def finish(self) -> None:
        """Find the arrays that are views of others, and raise what was refused.

        :raises CaptureError: if something could not be captured.
        """
        self.raise_refusals()
        self.find_views()

    def raise_refusals(self) -> None:
        """Raise an error that lists everything that could not be captured, if there was anything."""
        if not self._refused:
            return
        problems = []
        for path, reason in self._refused:
            more = f". {REPLAY}" if OPAQUE_BEGINS in reason and self._is_in_environment(path) else ""
            problems.append((write_path(path), reason + more))
        raise CaptureError(f"{len(problems)} part(s) of the world cannot be captured:\n{grouped(problems)}")

    def tensors_with_graphs(self) -> list[str]:
        """The paths of tensors that belong to a graph, which no checkpoint holds; only of those that the script's own
        objects hold. What libraries keep of their last step (distributions, normed weights) is computed anew."""
        return [write_path(path) for path in self.graphs if self._is_of_script(path)]

    def _is_of_script(self, path: Path) -> bool:
        for node in reversed(self._nodes_on(None if path is None else path[0])):
            cls = self.classes.get(node.type) if isinstance(node, Object | Custom) else None
            if cls is not None:
                module = sys.modules.get(module_of(cls))
                return is_users_file(str(getattr(module, "__file__", None) or ""))
        return True

    def _is_in_environment(self, path: Path) -> bool:
        """Whether a path leads through an environment, or to one."""
        for node in self._nodes_on(path):
            cls = self.classes.get(getattr(node, "type", ""))
            if (cls is not None and is_environment(cls)) or getattr(node, "is_environment", False):
                return True
        return False

    def _nodes_on(self, path: Path) -> list[Any]:
        """The nodes that a path leads through, from the root on."""
        steps = []
        while path is not None:
            path, kind, name = path
            steps.append((kind, name))
        found: list[Any] = [self._root]
        for kind, name in reversed(steps):
            found.append(_step(found[-1], kind, name))
        return found

    @property
    def refused(self) -> Sequence[tuple[str, str]]:
        """What could not be captured: the paths, and why."""
        return [(write_path(path), reason) for path, reason in self._refused]

    def find_views(self) -> None:
        """Find the arrays that are views of others, and those that are rows of a replay buffer."""
        if len(self._objects) > 1:
            self._find_object_views()
        self._arrays += _aliasing.find_views(self._arrays)
        for rows in self._buffers:
            for array in rows.writer.arrays(rows.buffer):
                node = self.memo.get(id(array))
                if isinstance(node, Array):
                    node.rows = rows

    def met(self) -> Iterator[tuple[Any, Node]]:
        """Every object that was met, with its node."""
        return ((value, self.memo[id(value)]) for value in self._alive if id(value) in self.memo)

    def _find_object_views(self) -> None:
        runs = [run.array for each in self._objects for run in each.node.items if isinstance(run, NumberRun)]
        # The arrays, and a copy of their common memory, hold the elements meanwhile.
        refused = _object_arrays.find_views(self._objects, lambda flat: self._elements(flat, None, 3))
        for met, reason in list(refused):
            self.refuse(met.array, met.path, reason)
        self._fill()
        # The elements of a view are those of its base.
        used = {
            id(run.array) for each in self._objects for run in each.node.items if isinstance(run, NumberRun)
        }
        unused = {id(array) for array in runs} - used
        if unused:
            self._arrays = [array for array in self._arrays if id(array) not in unused]

    def own_arrays(self) -> list[Array]:
        """The arrays that have bytes of their own, also those of states that objects hold."""
        return [*(node for node in self._arrays if node.base is None), *self._nested.values()]

    def node(self, value: Any, path: Path) -> Any:
        """The node of a value; its contents are filled in later."""
        cls = type(value)
        if self.skip and matches(write_path(path), self.skip):
            return self.left_out(Omitted(LEFT_OUT), path)
        if cls in tree.PLAIN_TYPES:
            return value
        found = self.memo.get(id(value))
        if found is not None:
            return found
        take = _TAKERS.get(cls)
        if take is None:
            take = _TAKERS[cls] = _taker(cls)
        return take(self, value, path)

    def _remember(self, value: Any, node: Node) -> None:
        self.memo[id(value)] = node
        self._alive.append(value)

    def keep(self, value: Any) -> None:
        """Keep an object alive as long as the walk is."""
        self._alive.append(value)

    def _later(self, fill: Fill, value: Any, node: Node, path: Path) -> Node:
        # The same as `_remember`, inlined: this runs for every object of every checkpoint.
        self.memo[id(value)] = node
        self._alive.append(value)
        self._unfilled.append((fill, value, node, path))
        return node

    def refuse(self, value: Any, path: Path, reason: str) -> Node:
        """Note that a value cannot be captured."""
        above = path if self._covered else None
        while above is not None:
            if id(above) in self._covered:
                return self.left_out(Omitted("held by the state that the environment gives of itself"), path)
            above = above[0]
        self._refused.append((path, f"{type(value).__qualname__}: {reason}"))
        return _Refused(reason, is_environment(type(value)))

    def _class_name(self, cls: type) -> str:
        name = class_name(cls)
        if self.classes.get(name) is not cls and self.classes.setdefault(name, cls) is not cls:
            self.ambiguous.add(name)
        return name

    def left_out(self, node: Omitted, path: Path) -> Omitted:
        """Note that something was left out."""
        self.structure.note_place(path, node.reason)
        return node

    # -- objects ---------------------------------------------------------------------------------------------

    def _object(self, value: Any, path: Path) -> Node:
        return self._later(Walker._fill_object, value, Object(self._class_name(type(value)), {}), path)

    def _fill_object(self, value: Any, node: Object, path: Path) -> None:
        self._note_rows(value)
        self._own_fields(type(value), attributes_of(value), node.fields, path)

    def _note_rows(self, value: Any) -> None:
        writer = writer_of(type(value))
        if writer is not None:
            self._buffers.append(Rows(value, writer))

    def _adapted(self, value: Any, path: Path) -> Node:
        return self._later(Walker._fill_adapted, value, Object(self._class_name(type(value)), {}), path)

    def _fill_adapted(self, value: Any, node: Object, path: Path) -> None:
        about = known(type(value))
        adapter: Any = about.entry
        self._note_rows(value)
        if adapter.fields.__module__ not in _CALM:
            self.foreign = True
        try:
            given = adapter.fields(value)
        except CaptureError as error:
            self.refuse(value, path, str(error))
            return
        self.given[id(value)] = given  # it may hold containers made for this walk only
        if adapter.covers is not None and given[adapter.covers] is not None:
            self._covered[id(path)] = path
        self._own_fields(type(value), given, node.fields, path)

    def _own_fields(
        self, cls: type, attributes: Mapping[str, Any], fields: dict[str, Any], path: Path
    ) -> None:
        """The fields of an object, whose shape is noted."""
        shape = (cls, *attributes)
        if (self._shapes.get(shape) or self.structure.note_shape(shape, path)) is ANCHOR:
            self._fields(attributes, known(cls).left_out, fields, path)
            self.structure.note_place(path, cls, len(shape), shapes_of_tensors(fields))
            return
        plain = _NONE if self.skip else tree.PLAIN_TYPES
        for name, child in attributes.items():
            kind = type(child)
            if kind is str:
                sort = sort_of_text(child)
                if sort == TELLS_SECRET:
                    fields[name] = self.left_out(_SECRET, (path, ".", name))
                    continue
                if sort == MAY_BE_REFUSED:
                    self.structure.note_text(child, (path, ".", name))
            # What `node` would return: most attributes are plain.
            fields[name] = child if kind in plain else self.node(child, (path, ".", name))

    def _fields(
        self, attributes: Mapping[str, Any], left_out: Mapping[str, str], fields: dict[str, Any], path: Path
    ) -> None:
        plain = _NONE if self.skip else tree.PLAIN_TYPES
        for name, child in attributes.items():
            kind = type(child)
            if type(name) is not str:
                self.refuse(child, (path, ".", repr(name)), "the name of an attribute must be a str")
            elif name in left_out:
                fields[name] = Omitted(left_out[name])
            elif (is_secret_name(name) and holds_text(child)) or (
                kind is str and sort_of_text(child) == TELLS_SECRET
            ):
                fields[name] = _SECRET
            else:
                if kind is str and sort_of_text(child) == MAY_BE_REFUSED:
                    self.structure.note_text(child, (path, ".", name))
                # What `node` would return: most attributes are plain.
                fields[name] = child if kind in plain else self.node(child, (path, ".", name))

    # -- functions, classes and what is made of them ---------------------------------------------------------

    def _reference(self, value: Any, path: Path) -> Node:
        self.references.append(value)
        node = _references.reference(value)
        self.structure.note_place(path, node)
        return node

    def _function(self, value: Any, path: Path) -> Node:
        self.references.append(value)
        node = _references.reference(value)
        self.structure.note_place(path, node)
        if type(node) is Omitted or not _compounds.has_parts(value):
            return node
        function = Object(self._class_name(FunctionType), {})
        self.weak.append(_weak.Variables(value, function, path))
        return self._later(Walker._fill_compound, value, function, path)

    def _compound(self, value: Any, path: Path) -> Node:
        if type(value) in _references.METHODS and _references.kind_of(value):
            return self._reference(value, path)
        cls = type(value)
        self.structure.note_place(path, cls)
        return self._later(Walker._fill_compound, value, Object(self._class_name(cls), {}), path)

    def _fill_compound(self, value: Any, node: Object, path: Path) -> None:
        compound = _compounds.of_class(type(value))
        assert compound is not None
        self._fields(compound.parts(value), {}, node.fields, path)

    def _node(self, value: Node, path: Path) -> Node:
        # The parts of a compound may be nodes already.
        return value

    def _handled(self, value: Any, path: Path) -> Node:
        return self._later(Walker._fill_handled, value, Custom(self._class_name(type(value)), None), path)

    def _fill_handled(self, value: Any, node: Custom, path: Path) -> None:
        handler: Any = known(type(value)).entry
        if getattr(handler.capture, "__module__", None) not in _CALM:
            self.foreign = True
        try:
            payload = handler.capture(value)
        except _values.Unsupported as error:
            self.refuse(value, path, str(error))
            return
        except Exception as error:
            reason = f"the handler registered for it failed to capture it: {type(error).__name__}: {error}"
            self.refuse(value, path, reason)
            return
        if payload is value:
            self.refuse(
                value, path, "the handler registered for it returned the object itself, not its state"
            )
            return
        self._alive.append(payload)
        node.payload = self.node(payload, path)
        shape = (type(value),)
        if (self._shapes.get(shape) or self.structure.note_shape(shape, path)) is ANCHOR:
            form = handler.form and isinstance(payload, dict) and payload.get("form")
            self.structure.note_place(path, shape, form)
        elif isinstance(handler, IteratorHandler) and handler.function is not None:
            self.structure.note_place(path, payload[-1:])  # the name of its function

    def _nested_state(self, value: State, path: Path) -> Node:
        # A handler captured it earlier: it is taken as it is, and the handler gets the same back.
        self._nested.update((id(array), array) for array in value.arrays)
        node = Object(self._class_name(State), value.root.fields)
        self._remember(value, node)
        return node

    # -- containers ------------------------------------------------------------------------------------------

    def _mapping(self, value: dict[Any, Any], path: Path) -> Node:
        cls = type(value)
        if cls is dict:
            if is_environment_copy(value):
                return self.left_out(Omitted(ENVIRONMENT), path)
            node = tree.MappingNode("dict", [])
            if value:
                return self._later(Walker._fill_dict, value, node, path)
            self._remember(value, node)
            return node
        node = tree.MappingNode(BUILTIN.get(cls) or self._class_name(cls), [])
        return self._later(Walker._fill_mapping, value, node, path)

    def _fill_dict(self, value: dict[Any, Any], node: tree.MappingNode, path: Path) -> None:
        as_it_is = _NONE if self.skip else tree.PLAIN_TYPES
        for position, (key, child) in enumerate(dict.items(value)):
            if type(key) is str:
                kind = type(child)
                if sort_of_text(key) != PLAIN:
                    if sort_of_text(key) == TELLS_SECRET:
                        omitted = self.left_out(_SECRET, (path, "key", position))
                        node.pairs.append((omitted, Omitted(f"its key is {omitted.reason}")))
                        continue
                    self.structure.note_text(key, (path, "key", position))
                taken: Any
                if (is_secret_name(key) and holds_text(child)) or (
                    kind is str and sort_of_text(child) == TELLS_SECRET
                ):
                    taken = self.left_out(_SECRET, (path, "[", key))
                else:
                    if kind is str and sort_of_text(child) == MAY_BE_REFUSED:
                        self.structure.note_text(child, (path, "[", key))
                    taken = child if kind in as_it_is else self.node(child, (path, "[", key))
                node.pairs.append((key, taken))
                continue
            key_node = self.node(key, (path, "key", position))
            plain = not isinstance(key_node, Node) or isinstance(key_node, Value)
            step = key_node if plain else position
            if isinstance(key_node, Omitted):
                node.pairs.append((key_node, Omitted(f"its key is {key_node.reason}")))
            else:
                node.pairs.append((key_node, self.node(child, (path, "[", step))))
        if len(node.pairs) > MANY:
            self.structure.long.append(node)

    def _fill_mapping(self, value: dict[Any, Any], node: tree.MappingNode, path: Path) -> None:
        # Asked of the built-in class: a subclass may answer differently about its content and order.
        kind = collections.OrderedDict if isinstance(value, collections.OrderedDict) else dict
        self._fill_dict(dict(kind.items(value)), node, path)
        if isinstance(value, collections.defaultdict):
            factory = value.default_factory
            node.extra = None if factory is None else factory_name(factory)
            if isinstance(factory, type):
                self._class_name(factory)
        if type(value) not in BUILTIN or (kind is collections.OrderedDict and vars(value)):
            # An OrderedDict may have attributes too: torch's state_dict() has.
            self._fill_subclass(value, node, path)
        if node.extra == "":
            given = self.node(factory, (path, ".", FACTORY))
            if not isinstance(given, Omitted):
                node.fields = {**(node.fields or {}), FACTORY: given}

    def _items(self, value: Any, path: Path) -> Node:
        cls = type(value)
        if (has_secret_field if cls not in BUILTIN else _is_secret)(value):
            # One that is made anew with some of its elements would not be this process's own.
            return self.left_out(_SECRET, path)
        node = SequenceNode(BUILTIN.get(cls) or self._class_name(cls), [])
        if value or cls not in _FIXED:
            return self._later(Walker._fill_items, value, node, path)
        self._remember(value, node)
        return node

    def _fill_items(self, value: Any, node: SequenceNode, path: Path) -> None:
        cls = type(value)
        if cls in BUILTIN:
            if value:
                node.items = self._elements(value, path, 1)
                if len(node.items) > MANY:
                    self.structure.long.append(node)
            if cls is collections.deque:
                node.extra = value.maxlen
            return
        base = next(base for base in ITEMS if issubclass(cls, base))
        node.items = self._elements(list(base.__iter__(value)), path, 2)  # type: ignore[attr-defined]
        if len(node.items) > MANY:
            self.structure.long.append(node)
        if base is collections.deque:
            node.extra = value.maxlen
        self._fill_subclass(value, node, path)

    def _fill_subclass(self, value: Any, node: SequenceNode | tree.MappingNode, path: Path) -> None:
        fields: dict[str, Any] = {}
        self._own_fields(type(value), attributes_of(value), fields, path)
        node.fields = fields or None

    def _object_array(self, value: np.ndarray[Any, Any], node: SequenceNode, path: Path) -> None:
        node.items = self._elements(value.ravel().tolist(), path, 2)
        if len(node.items) > MANY:
            self.structure.long.append(node)

    def _elements(self, value: Any, path: Path, holders: int) -> list[Any]:
        """The nodes of a container's elements. `holders`: how many containers hold each of them during the
        walk."""
        if len(value) < _PACK_FROM:
            plain = _NONE if self.skip else _PLAIN_BUT_TEXT
            return [
                child if type(child) in plain else self._element(child, (path, "[", index))
                for index, child in enumerate(value)
            ]
        kinds = set(map(type, value))
        packed = self._packed(value, kinds, path)
        if packed is not None:
            return [packed]
        if kinds.isdisjoint(_EMPTY):
            take = self._element if str in kinds else self.node
            return [take(child, (path, "[", index)) for index, child in enumerate(value)]
        return list(self._runs(value, path, holders))

    def _element(self, child: Any, path: Path) -> Any:
        """The node of an element of a container, which may be a text with a secret in it."""
        if type(child) is str and (sort := sort_of_text(child)) != PLAIN:
            if sort == TELLS_SECRET:
                return self.left_out(_SECRET, path)
            self.structure.note_text(child, path)
        return self.node(child, path)

    def _packed(self, value: Iterable[Any], kinds: set[type], path: Path) -> NumberRun | None:
        """One leaf for many numbers of one type; every test is a call into C."""
        if len(kinds) != 1:
            return None
        (kind,) = kinds
        dtype = {float: np.float64, bool: np.bool_, int: np.int64}.get(kind)
        if dtype is None and kind in _NUMBERS:
            dtype = kind
        if dtype is None:
            return None
        try:
            array: np.ndarray[Any, Any] = np.array(
                value if isinstance(value, list | tuple) else list(value), dtype=dtype
            )
        except OverflowError:
            return None
        if kind is int and not (array.min() > -_LARGEST and array.max() < _LARGEST):
            return None
        return NumberRun(kind.__name__ if kind in (float, bool, int) else "numpy", self._array(array, path))

    def _runs(self, value: Any, path: Path, holders: int) -> Iterator[Any]:
        """One leaf for each run of empty elements that nothing else refers to."""
        alone = _ALONE + holders - 1
        counts = list(map(sys.getrefcount, value))

        def kind(indexed: tuple[int, Any]) -> type | None:
            index, child = indexed
            cls = type(child)
            if cls not in _EMPTY or (child is not None and (child or counts[index] > alone)):
                return None
            return cls

        for cls, run in itertools.groupby(enumerate(value), kind):
            members = list(run)
            if cls is None or len(members) < _PACK_FROM:
                for index, child in members:
                    yield self._element(child, (path, "[", index))
            else:
                made = {dict: tree.MappingNode("dict", []), list: SequenceNode("list", []), type(None): None}
                yield RepeatRun(made[cls], len(members))

    # -- arrays ----------------------------------------------------------------------------------------------

    def _array(self, value: np.ndarray[Any, Any], path: Path) -> Array:
        return self._leaf(value, _array_leaves.of_numpy(value, path))

    def _leaf(self, value: Any, node: Array) -> Array:
        self._remember(value, node)
        self._arrays.append(node)
        return node

    def _numpy_array(self, value: np.ndarray[Any, Any], path: Path) -> Node:
        if value.dtype == object:
            items = SequenceNode("ndarray", [], Value("shape", list(value.shape)))
            self._objects.append(_object_arrays.Met(value, items, path))
            return self._later(Walker._object_array, value, items, path)
        try:
            return self._array(value, path)
        except (_values.Unsupported, ValueError, DamagedError) as error:
            return self.refuse(value, path, str(error))

    def _tensor(self, value: torch.Tensor, path: Path) -> Node:
        try:
            node = self._leaf(value, _array_leaves.of_tensor(value, path))
        except _values.Unsupported as error:
            return self.refuse(value, path, str(error))
        if value.requires_grad and not value.is_leaf:
            self.graphs.append(path)
        elif value.is_leaf and value.grad is not None:
            grad = self.node(value.grad, (path, ".", "grad"))
            node.grad = grad if isinstance(grad, Array) else None
        if type(value) in TENSORS:
            node.fields = {}
            if attributes := attributes_of_tensor(value):
                # Which names there are decides.
                self.structure.note_place(path, *attributes)
                self._unfilled.append((Walker._fill_tensor, value, node, path))
        return node

    def _fill_tensor(self, value: torch.Tensor, node: Array, path: Path) -> None:
        assert node.fields is not None
        self._own_fields(type(value), attributes_of_tensor(value), node.fields, path)

    def _text(self, value: Any, path: Path, kind: str, write: Callable[[Any], Any]) -> Node:
        """The node of a text that is no plain string."""
        text = value.decode("latin-1") if isinstance(value, bytes | bytearray) else str(value)
        if len(text) <= _LONGEST_TEXT and (sort := sort_of_text(text)) != PLAIN:
            if sort == TELLS_SECRET:
                return self.left_out(_SECRET, path)
            self.structure.note_text(text, path)
        return self._value(value, path, kind, write)

    def _value(self, value: Any, path: Path, kind: str, write: Callable[[Any], Any]) -> Node:
        try:
            data = write(value)
        except _values.Unsupported as error:
            return self.refuse(value, path, str(error))
        if kind == "enum":
            self._class_name(type(value))
            shape = (type(value),)
            if shape not in self._shapes:
                self.structure.note_shape(shape, path)
        return Value(kind, data)


class _Refused(Omitted):
    """What cannot be captured. It is in no state, because the walk ends in an error."""

    __slots__ = ("is_environment",)

    def __init__(self, reason: str, is_environment: bool) -> None:
        super().__init__(reason)
        self.is_environment = is_environment


def _is_secret(value: Any) -> bool:
    """Whether a built-in container is a secret as a whole: a command line with a secret, or a set, in which no place
    tells which element is whose."""
    if type(value) in (set, frozenset):
        return len(value) <= _MOST_ARGUMENTS and any(
            type(each) is str and sort_of_text(each) == TELLS_SECRET for each in value
        )
    return (
        1 < len(value) <= _MOST_ARGUMENTS
        and type(value[0]) in (str, np.str_)
        and is_secret_command(value if type(value) is not collections.deque else [*value])
    )


def _step(node: Any, kind: str, name: Any) -> Any:
    """What lies one step below a node."""
    match node:
        case Object() if kind == ".":
            return node.fields.get(name)
        case Array() if kind == "." and node.grad is not None and name == "grad":
            return node.grad
        case Array() | tree.MappingNode() | SequenceNode() if kind == ".":
            return (node.fields or {}).get(name)
        case tree.MappingNode():
            pairs = enumerate(node.pairs)
            return next((child for at, (key, child) in pairs if name in (key, at) or name is key), None)
        case SequenceNode() if type(name) is int and name < len(node.items):
            return node.items[name]
        case Custom():
            return _step(node.payload, kind, name)
    return None


# -- which method captures which class ------------------------------------------------------------------------

LEFT_OUT = "left out by the user"
_NONE: frozenset[type] = frozenset()
_PLAIN_BUT_TEXT = tree.PLAIN_TYPES - {str}
#: Texts that are no plain strings.
_TEXTS = (bytes, bytearray, np.str_, pathlib.PurePath)
_LONGEST_TEXT = 4096
#: A longer list is no command line.
_MOST_ARGUMENTS = 1_000
_SECRET = Omitted(SECRET)
#: Modules whose capturing functions draw from no random generator.
_CALM = frozenset(
    {
        "random",
        "perdure.state.rng",
        "perdure.state._data_loaders",
        "perdure.state._exceptions",
        "perdure.state._iterators",
        "perdure.state._pandas_rules",
        "perdure.state._torch_objects",
        "perdure.state._torch_rules",
    }
)
_EMPTY = frozenset({dict, list, type(None)})
#: Containers of these classes have no further state when they are empty.
_FIXED = frozenset({list, tuple, set, frozenset})
#: Not the long doubles: they have padding bytes.
_NUMBERS = frozenset(np.dtype(code).type for code in "?bBhHiIlLqQefdFD")
#: How many references CPython counts, during a `map`, to an element that only its container refers to.
_ALONE = max(map(sys.getrefcount, [{}, {}]))


_TAKERS: dict[type, Taker] = {}


def _taker(cls: type) -> Taker:
    """The function that captures objects of a class; looked up once for each class."""
    entry = known(cls).entry
    match entry:
        case Skip():
            skipped = Omitted(entry.reason)
            return lambda walker, value, path: walker.left_out(skipped, path)
        case Handler() if entry in _weak.CONTAINERS.values():
            return _weak.take
        case Handler():
            return Walker._handled
        case Adapter():
            return Walker._adapted
        case Reference():
            return Walker._function if cls is FunctionType else Walker._reference
        case Compound():
            return _weak.take if entry is _compounds.WEAK else Walker._compound
    if issubclass(cls, Node):
        return Walker._node
    if cls is State:
        return Walker._nested_state
    if (written := _values.writer(cls)) is not None:
        kind, write = written
        if issubclass(cls, _TEXTS):
            return lambda walker, value, path: walker._text(value, path, kind, write)
        return lambda walker, value, path: walker._value(value, path, kind, write)
    if issubclass(cls, torch.Tensor):
        return Walker._tensor
    if cls in (np.ndarray, np.memmap):
        return Walker._numpy_array
    # The built-in base decides, wherever it is in the MRO: it holds the content.
    if issubclass(cls, dict):
        return Walker._mapping
    if issubclass(cls, ITEMS):
        return Walker._items
    if issubclass(cls, int | float | complex | str | bytes | bytearray):
        reason = (
            "a subclass of a number or string that is not an Enum is not supported. Keep the plain value, or "
        )
        reason += f"leave it out: perdure.skip({in_code(cls)}, 'reason')"
        return lambda walker, value, path: walker.refuse(value, path, reason)
    if isinstance(entry, Refuse):
        refusal = entry.reason
        return lambda walker, value, path: walker.refuse(value, path, refusal)
    return Walker._object


on_change.append(_TAKERS.clear)

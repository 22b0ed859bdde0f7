"""The second half of restoring: carry out a plan. Existing objects are filled in place, the others are made.

Objects are made or found first and filled afterwards, so a world may contain itself and be nested to any depth.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from perdure import tree
from perdure.errors import DamagedError, RestoreError
from perdure.state import _aliasing, _array_leaves, _object_arrays, _values
from perdure.state._aliasing import LiveArray
from perdure.state._compounds import CODE, DEFAULTS, cells, of_class
from perdure.state._containers import FACTORIES, FACTORY
from perdure.state._iterators import IteratorHandler
from perdure.state._protocol import OwnHandler
from perdure.state._registry import Adapter, Compound, Handler, blank, is_part_of_program, known, slots
from perdure.state._texts import is_secret_entry
from perdure.state.buffers import Rows, writer_of
from perdure.state.restoring._constructible import NESTED_STATE
from perdure.state.restoring._plan import ABSENT, CONTAINERS, RestorePlan
from perdure.state.restoring._put_back import InPlace, captured, contents
from perdure.state.restoring._read_arrays import Contents
from perdure.state.restoring._references import References
from perdure.tree import (
    Array,
    Custom,
    Node,
    NumberRun,
    Object,
    Path,
    RepeatRun,
    SequenceNode,
    Slot,
    Source,
    State,
    Value,
    write_path,
)

#: What is left to do with an object, in this order: fill it; then fill the containers that hash their contents; then
#: assign what adapters assign; and last, innermost first, call the handlers.
_FILL, _HASH, _ASSIGN, _HANDLE = range(4)


class FilledArray(NamedTuple):
    """A live array that was filled, as a walk finds it, and what it was read from."""

    array: Array
    source: Source


@dataclass(frozen=True)
class Written:
    """What a plan led to.

    :param parts: the objects that are the world's parts now.
    :param objects: the objects of saved nodes (by their ids).
    :param filled: the saved arrays that were read, with the live arrays and what they were read from.
    :param in_place: the objects that registered handlers restored.
    """

    parts: Mapping[str, Any]
    objects: Mapping[int, Any]
    filled: Sequence[tuple[Array, LiveArray, Source]]
    in_place: Sequence[InPlace] = ()


def write(plan: RestorePlan, contents: Contents) -> Written:
    """Carry out a plan.

    :param contents: what was read of its arrays.
    :raises RestoreError: if something could not be written; what was written before it stays.
    """
    return _Writer(plan, contents).write()


class _Writer:
    """A plan while it is carried out."""

    def __init__(self, plan: RestorePlan, contents: Contents) -> None:
        self._plan = plan
        self._matches = plan.matches
        self._contents = contents
        self._done: dict[int, Any] = {}
        self._filled: list[tuple[Array, Any, Source]] = []
        self._in_place: list[InPlace] = []
        self._tasks = _no_tasks()
        #: The node that is being written.
        self._at: Node | None = None

    def write(self) -> Written:
        try:
            return Written(self._write(), self._done, self._filled, self._in_place)
        except Exception as error:
            path = write_path(self._matches.path(self._at))
            raise RestoreError(
                f"{path}: could not be written ({type(error).__name__}: {error}). The world is half restored: do not "
                "train on with it"
            ) from error

    def _write(self) -> dict[str, Any]:
        root = self._plan.root
        for node in self._plan.first:
            if id(node) not in self._plan.bad:
                self._complete(partial(self._resolve, node))
        for node in self._plan.inside_out:
            if id(node) not in self._plan.bad:
                self._resolve(node)
        written = {
            name: self._child(root, name, node)
            for name, node in root.fields.items()
            if self._plan.writes(root, name, node)
        }
        self._work()
        for live, name in self._matches.unset:
            _remove(live, name)
        return written

    def _work(self) -> None:
        while tasks := next((tasks for tasks in self._tasks if tasks), None):
            self._at, task = tasks.pop() if tasks is self._tasks[_HANDLE] else tasks.popleft()
            task()

    def _resolve(self, node: Any) -> Any:
        """The object of a node; it may not be filled yet."""
        if not isinstance(node, Node):
            return node
        found = self._done.get(id(node), ABSENT)
        if found is not ABSENT:
            return found
        self._at = node
        live = self._matches.live(node)
        match node:
            case Value():
                return _values.read(node, self._matches.find)
            case Object():
                return self._object(node, live)
            case Array():
                return self._array(node, live)
            case tree.MappingNode():
                return self._mapping(node, live)
            case SequenceNode():
                return self._items(node, live)
            case Custom():
                return self._handled(node, live)
        raise RestoreError(f"a {type(node).__name__} where a value was expected")

    def _child(self, holder: Node, slot: Slot, child: Any) -> Any:
        """The object for a node's place; it may not be filled yet."""
        return self._resolve(self._plan.written(holder, slot, child))

    def _stands(self, node: Node, value: Any, task: int, todo: Callable[[], None]) -> Any:
        self._done[id(node)] = value
        self._later(node, task, todo)
        return value

    def _later(self, node: Node, task: int, todo: Callable[[], None]) -> None:
        if id(node) in self._plan.at_once:
            todo()
        else:
            self._tasks[task].append((node, todo))

    def _class(self, node: Object | SequenceNode | tree.MappingNode | Custom) -> Any:
        return CONTAINERS.get(node.type) or self._matches.find(node.type)

    # -- objects ---------------------------------------------------------------------------------------------

    def _object(self, node: Object, live: Any) -> Any:
        if live is ABSENT and node.type == NESTED_STATE:
            self._done[id(node)] = nested = State(Object("perdure:World", node.fields))
            return nested
        if (cls := self._matches.class_of(node)) is not None and (compound := of_class(cls)) is not None:
            return self._compound(node, live, cls, compound)
        if live is ABSENT:
            cls = self._class(node)
            maker = getattr(known(cls).entry, "maker", None)
            live = blank(cls) if maker is None else maker.blank(cls)
            for name, make in known(cls).fresh.items():
                if name in node.fields:
                    object.__getattribute__(live, "__dict__")[name] = make()
        entry = known(type(live)).entry
        if isinstance(entry, Adapter):
            return self._stands(node, live, _FILL, lambda: self._fill_adapted(node, live, entry))
        return self._stands(node, live, _FILL, lambda: self._fill_fields(node, node.fields, live))

    def _compound(self, node: Object, live: Any, cls: type, compound: Compound) -> Any:
        """An immutable object of the parts that the node says: the live one if they are its own, or another."""
        if CODE in node.fields:
            function = References(self._matches).make(node) if live is ABSENT else live
            return self._stands(node, function, _FILL, lambda: self._fill_function(node, function))
        if compound.make is None:
            self._done[id(node)] = live  # it was matched because it is the same
            return live
        present = {} if live is ABSENT else compound.parts(live)
        parts = dict(present)
        for name, child in node.fields.items():
            if self._plan.writes(node, name, child):
                parts[name] = self._child(node, name, child)
        self._at = node
        names = parts.keys() | present.keys()
        same = all(_is_same(parts.get(name, ABSENT), present.get(name, ABSENT)) for name in names)
        if live is ABSENT or not same:
            found = self._matches.found(node) if live is ABSENT else live
            live = compound.make(cls, parts, found)
        self._done[id(node)] = live
        return live

    def _fill_function(self, node: Object, live: Any) -> None:
        own = cells(live)
        for name, child in node.fields.items():
            if name == CODE or not self._plan.writes(node, name, child):
                continue
            if name in own:
                own[name].cell_contents = self._child(node, name, child)
            elif name in DEFAULTS:
                setattr(live, name, self._child(node, name, child))

    def _fill_adapted(self, node: Object, live: Any, adapter: Adapter) -> None:
        is_new = self._matches.live(node) is ABSENT
        given = {} if is_new else self._matches.world.fields(live)
        all_anew = adapter.arrange is not None and adapter.arrange(live, list(node.fields))
        for name, child in node.fields.items():
            if self._plan.writes(node, name, child):
                value = self._child(node, name, child)
            elif all_anew and name in given:
                value = given[name]
            else:
                continue
            if all_anew or value is not given.get(name, ABSENT) or name in adapter.made:
                self._tasks[_ASSIGN].append((child, partial(adapter.assign, live, name, value)))
        if adapter.finish is not None:
            self._tasks[_ASSIGN].append((node, partial(adapter.finish, live)))

    def _fill_fields(self, node: Node, fields: dict[str, Any], live: Any) -> None:
        # No descriptor of the class runs: a property may compute, draw or recurse on a half-written object.
        own = slots(type(live))
        for name, child in fields.items():
            if not self._plan.writes(node, name, child):
                continue
            value = self._child(node, name, child)
            if name in own:
                own[name].__set__(live, value)
            else:
                object.__getattribute__(live, "__dict__")[name] = value

    def _handled(self, node: Custom, live: Any) -> Any:
        handler = known(type(live) if live is not ABSENT else self._class(node)).entry
        if isinstance(handler, IteratorHandler):
            return self._iterator(node, live, handler)
        if live is ABSENT and isinstance(handler, OwnHandler) and handler.create is None:
            live = blank(self._class(node))
        if live is not ABSENT:
            entry = known(type(live)).entry
            assert isinstance(entry, Handler)
            self._done[id(node)] = live
            payload = self._child(node, "payload", node.payload)
            self._tasks[_HANDLE].append((node, partial(self._restore_in_place, node, live, entry, payload)))
            return live
        entry = known(self._class(node)).entry
        assert isinstance(entry, Handler)
        assert entry.create is not None
        payload = self._complete(lambda: self._child(node, "payload", node.payload))
        self._at = node
        self._done[id(node)] = created = entry.create(payload)
        # pygame's display is None where this process has not opened it.
        absent = created is None and entry.create.__module__.startswith("perdure.")
        if not (absent or isinstance(created, cls := self._class(node))):
            raise TypeError(
                f"what is registered for a {cls.__qualname__} made a {type(created).__qualname__}"
            )
        return created

    def _restore_in_place(self, node: Custom, live: Any, handler: Handler, payload: Any) -> None:
        if not handler.verified:
            handler.restore(live, payload)
            return
        before = captured(handler, live) if self._matches.live(node) is not ABSENT else None
        saved = contents(payload)
        handler.restore(live, payload)
        path = write_path(self._matches.path(node))
        self._in_place.append(InPlace(path, live, handler, before, saved))

    def _iterator(self, node: Custom, live: Any, handler: IteratorHandler) -> Any:
        parts = self._child(node, "payload", node.payload)
        self._at = node
        self._done[id(node)] = made = handler.rebuild(None if live is ABSENT else live, parts)
        if handler.place is not None:
            self._tasks[_HANDLE].append((node, partial(handler.place, made, parts)))
        return made

    def _complete(self, make: Callable[[], Any]) -> Any:
        """What `make` returns, with everything that it needs filled before anything else is."""
        outer, self._tasks = self._tasks, _no_tasks()
        try:
            made = make()
            self._work()
        finally:
            self._tasks = outer
        return made

    # -- containers ------------------------------------------------------------------------------------------

    def _mapping(self, node: tree.MappingNode, live: Any) -> Any:
        if live is ABSENT:
            live = blank(self._class(node))
        if isinstance(live, collections.defaultdict) and node.extra != "":
            live.default_factory = FACTORIES[node.extra] if node.extra else None
        return self._stands(node, live, _FILL, lambda: self._fill_mapping(node, live))

    def _fill_mapping(self, node: tree.MappingNode, live: Any) -> None:
        pairs: list[tuple[Any, Any]] = []
        for position, (key, child) in enumerate(node.pairs):
            if not self._plan.writes(node, ("key", position), key):
                continue
            writes = self._plan.writes(node, position, child)
            value = self._child(node, position, child) if writes else ABSENT
            pairs.append((self._child(node, ("key", position), key), value))
        fields = dict(node.fields or {})
        if isinstance(live, collections.defaultdict) and FACTORY in fields:
            factory = fields.pop(FACTORY)
            if self._plan.writes(node, FACTORY, factory):
                live.default_factory = self._child(node, FACTORY, factory)
        self._fill_fields(node, fields, live)
        self._later(node, _HASH, lambda: self._fill_pairs(node, pairs, live))

    def _fill_pairs(self, node: tree.MappingNode, pairs: list[tuple[Any, Any]], live: Any) -> None:
        stays = id(node) not in self._matches.shrunk
        kind = collections.OrderedDict if isinstance(live, collections.OrderedDict) else dict
        present = dict(kind.items(live))
        content = {}
        for key, value in pairs:
            if value is not ABSENT:
                content[key] = value
            elif key in present:
                content[key] = present[key]
        for key, value in present.items():
            # Parts of the program, entries with such keys, and secrets belong to the script and not to the checkpoint.
            if key not in content and (
                is_part_of_program(key)
                or (stays and is_part_of_program(value))
                or is_secret_entry(key, value)
            ):
                content[key] = value
        if len(content) != len(present) or any(a is not b for a, b in zip(present, content, strict=True)):
            kind.clear(live)
        for key, value in content.items():
            kind.__setitem__(live, key, value)

    def _items(self, node: SequenceNode, live: Any) -> Any:
        kind: Any = type(live) if live is not ABSENT else self._class(node)
        if issubclass(kind, tuple | frozenset):
            return self._immutable(node, live, kind)
        if kind is np.ndarray:
            if node.type == tree.OBJECT_VIEW:
                return self._object_view(node, live)
            if live is ABSENT:
                live = np.empty(tuple(_object_arrays.shape_of(node)), dtype=object)
            return self._stands(node, live, _FILL, lambda: self._fill_object_array(node, live))
        if issubclass(kind, collections.deque):
            if live is ABSENT or live.maxlen != node.extra:
                live = collections.deque.__new__(kind)
                collections.deque.__init__(live, (), node.extra)
            return self._stands(node, live, _FILL, lambda: self._fill_deque(node, live))
        if live is ABSENT:
            live = blank(kind)
        fill = self._fill_set if issubclass(kind, set) else self._fill_list
        return self._stands(node, live, _FILL, lambda: fill(node, live))

    def _fill_list(self, node: SequenceNode, live: Any) -> None:
        list.__setitem__(live, slice(None), self._elements(node, list(list.__iter__(live))))
        self._fill_fields(node, node.fields or {}, live)

    def _fill_deque(self, node: SequenceNode, live: Any) -> None:
        elements = self._elements(node, list(collections.deque.__iter__(live)))
        collections.deque.clear(live)
        collections.deque.extend(live, elements)
        self._fill_fields(node, node.fields or {}, live)

    def _fill_set(self, node: SequenceNode, live: Any) -> None:
        elements = self._elements(node, ())

        def fill() -> None:
            set.clear(live)
            set.update(live, elements)

        self._later(node, _HASH, fill)
        self._fill_fields(node, node.fields or {}, live)

    def _fill_object_array(self, node: SequenceNode, live: Any) -> None:
        elements = self._elements(node, live.ravel().tolist())
        for index, value in zip(np.ndindex(live.shape), elements, strict=True):
            live[index] = value

    def _object_view(self, node: SequenceNode, live: Any) -> Any:
        (child,) = node.items
        if self._plan.writes(node, 0, child):
            base = self._child(node, 0, child)
            if live is ABSENT or not _object_arrays.lies_at(live, base, node):
                live = _object_arrays.view_of(base, node)
        self._done[id(node)] = live
        return live

    def _immutable(self, node: SequenceNode, live: Any, kind: Any) -> Any:
        base = tuple if issubclass(kind, tuple) else frozenset
        present = () if live is ABSENT else tuple(base.__iter__(live))
        if base is frozenset:
            elements = self._complete(lambda: self._elements(node, ()))
            same = live is not ABSENT and set(elements) == set(present)
        else:
            elements = self._elements(node, present)
            same = len(elements) == len(present) and all(
                a is b for a, b in zip(elements, present, strict=True)
            )
        if live is ABSENT or not same:
            # Tuples that C code defines (torch.max returns one) refuse tuple.__new__.
            live = kind(elements) if hasattr(kind, "n_sequence_fields") else base.__new__(kind, elements)
        self._done[id(node)] = live
        if node.fields:
            self._fill_fields(node, node.fields, live)
        return live

    def _elements(self, node: SequenceNode, present: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for position, child in enumerate(node.items):
            match child:
                case NumberRun():
                    found.extend(self._numbers(child))
                case RepeatRun():
                    found.extend(_empties(child))
                case _ if not self._plan.writes(node, position, child):
                    if len(found) < len(present):
                        found.append(present[len(found)])
                case _:
                    found.append(self._child(node, position, child))
        return found

    def _numbers(self, node: NumberRun) -> list[Any]:
        numbers: Any = self._contents.get(id(node.array))
        if numbers is None:
            numbers = _aliasing.content(node.array)
        return list(numbers) if node.of == "numpy" else numbers.tolist()

    # -- arrays ----------------------------------------------------------------------------------------------

    def _array(self, node: Array, live: Any) -> Any:
        if node.base is not None:
            live = self._view(node, node.base, live)
        else:
            live = self._own_array(node, live)
        self._done[id(node)] = live
        if isinstance(live, torch.Tensor) and live.is_leaf:
            wanted = bool(node.extra.get("requires_grad"))
            if live.requires_grad != wanted and (live.is_floating_point() or live.is_complex()):
                live.requires_grad_(wanted)
            grad = None if node.grad is None else self._resolve(node.grad)
            if live.grad is not grad:
                live.grad = grad if grad is None or grad.device == live.device else grad.to(live.device)
        if node.fields:
            fields = node.fields
            self._later(node, _FILL, lambda: self._fill_fields(node, fields, live))
        return live

    def _own_array(self, node: Array, live: Any) -> Any:
        if node.data is live:
            return live
        read = self._contents.get(id(node))
        content: Any = _aliasing.content(node) if read is None else read
        if live is not ABSENT:
            if content is not live:
                _aliasing.fill(node, live, content)
        elif read is not None:
            live = _aliasing.adopt(node, content)
        else:
            # The state may hold the array of another world.
            live = _aliasing.adopt(
                node, content.clone() if isinstance(content, torch.Tensor) else content.copy()
            )
        if node.data is not None and not isinstance(node.data, np.ndarray | torch.Tensor):
            self._filled.append((node, live, node.data))
        return live

    def _view(self, node: Array, base: Array, live: Any) -> Any:
        whole = self._resolve(base)
        if live is not ABSENT and _aliasing.lies_at(live, whole, node):
            return live
        view = _aliasing.view_of(whole, node)
        if live is not ABSENT and isinstance(live, torch.nn.Parameter):
            # A parameter stays the same object, because optimizers refer to it.
            live.data = view.data
            return live
        return view


def filled_arrays(plan: RestorePlan, written: Written) -> list[FilledArray]:
    """The live arrays that a plan filled, as the next walk will find them: with the replay buffers they belong to."""
    rows: dict[int, Rows] = {}
    for node in plan.reached:
        buffer = written.objects.get(id(node)) if isinstance(node, Object) else None
        if buffer is not None and (writer := writer_of(type(buffer))) is not None:
            rows.update((id(array), Rows(buffer, writer)) for array in writer.arrays(buffer))
    found = []
    for node, live, source in written.filled:
        array = _as_walked(live, plan.matches.path(node))
        if array is not None:
            array.rows = rows.get(id(live))
            found.append(FilledArray(array, source))
    return found


def _as_walked(live: LiveArray, path: Path) -> Array | None:
    try:
        if isinstance(live, torch.Tensor):
            return _array_leaves.of_tensor(live, path)
        return _array_leaves.of_numpy(live, path)
    except (_values.Unsupported, ValueError, DamagedError):
        return None  # no walk captures such an array


def _remove(live: Any, name: str) -> None:
    """Take an attribute away from a live object, without running code of its class."""
    adapter = known(type(live)).entry
    if isinstance(adapter, Adapter) and adapter.remove is not None:
        adapter.remove(live, name)
    elif name in (own := slots(type(live))):
        own[name].__delete__(live)
    else:
        object.__getattribute__(live, "__dict__").pop(name, None)


def _no_tasks() -> list[collections.deque[tuple[Any, Callable[[], None]]]]:
    return [collections.deque() for _ in range(4)]


def _is_same(value: Any, present: Any) -> bool:
    return value is present or (
        type(value) in tree.PLAIN_TYPES and type(value) is type(present) and value == present
    )


def _empties(node: RepeatRun) -> Iterator[Any]:
    if node.item is None:
        return itertools.repeat(None, node.count)
    kind = CONTAINERS[node.item.type]
    return (kind() for _ in range(node.count))

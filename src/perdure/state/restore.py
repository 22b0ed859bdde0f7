"""From a `State` back into live objects, in two steps: match everything first, then write.

Matching walks the saved and the live side together and changes nothing; what does not fit is known, path by path, before
the first live object is touched. Classes come from the live side alone: the state names nothing that is imported, called or
constructed. It knows no files.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.errors import PerdureError, RestoreError
from perdure.state import rng, values
from perdure.state.capture import (
    Path,
    Walker,
    attributes_of,
    byte_strides,
    deep_recursion,
    extent,
    parts_of,
    write_path,
)
from perdure.state.registry import (
    Adapter,
    Handler,
    Skip,
    find_class,
    known,
    may_rebuild,
    slot_names,
    type_name,
)
from perdure.state.report import Report
from perdure.tree import Array, Handled, Items, Node, Object, Packed, Repeat, Skipped, State, Value


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
_IN_PROGRESS = object()
_CONTAINERS: dict[str, type] = {
    "dict": dict,
    "OrderedDict": collections.OrderedDict,
    "defaultdict": collections.defaultdict,
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "deque": collections.deque,
    "ndarray": np.ndarray,
}
_FACTORIES: dict[str, Any] = {
    "int": int,
    "float": float,
    "list": list,
    "dict": dict,
    "set": set,
    "str": str,
    "bool": bool,
    "deque": collections.deque,
}


def restore(state: State, world: Any, *, strict: bool = True, skip: Sequence[str] = ()) -> Report:
    """Write a state into the live objects of a world that the same script built anew.

    Objects, arrays and tensors that are there keep their identity and are filled in place; what was created while the
    program ran is made from plain values. The process's random generators are set last.

    :param state: what `capture` returned, or a store read.
    :param world: a :class:`perdure.World`, a mapping of names to objects, or a single object, as it was captured.
    :param strict: raise if anything is missing, unexpected or does not fit; otherwise leave such parts as they are and
        say so in the report.
    :param skip: paths of live objects to leave alone, as for `capture`.
    :returns: what became of every path.
    :raises RestoreError: if something does not fit (before anything was changed), or a handler failed.
    """
    with deep_recursion():
        restorer = _Restorer(state, world, skip)
        report = restorer.plan()
        if strict and not report.exact:
            raise RestoreError(
                "the checkpoint does not fit what the script has built; nothing was changed:\n"
                f"{report.problems()}\n"
                "Run the script that wrote it, or restore with strict=False to take what fits.",
                report,
            )
        restorer.write()
    return report


def check(state: State, world: Any, *, skip: Sequence[str] = ()) -> Report:
    """What `restore` would make of every path; nothing is changed."""
    with deep_recursion():
        return _Restorer(state, world, skip).plan()


class _Restorer:
    def __init__(self, state: State, world: Any, skip: Sequence[str]) -> None:
        self.state = state
        self.world = world
        self.live = parts_of(world)
        # One walk over the live side, for its classes and for what it leaves out.
        walker = Walker(skip)
        self.live_root = walker.parts(self.live)
        walker.finish()
        self.classes = walker.classes
        self.live_nodes = walker.memo
        self.report = Report()
        #: What stands for a node: the live object it was paired with, or ABSENT.
        self.pairs: dict[int, Any] = {}
        self.paths: dict[int, Path] = {}
        self.order: list[Node] = []
        self.claims: dict[int, Node] = {}
        self.bad: set[int] = set()
        self.done: dict[int, Any] = {}
        self.keep: list[Any] = []
        self.process = rng.Process(rng.get_state())

    # -- matching -----------------------------------------------------------------------------------------------------

    def plan(self) -> Report:
        fields = self.state.root.fields
        for name, live in self.live.items():
            if name not in fields and not self.left_out(live):
                self.report.missing.append(name)
        for name, node in fields.items():
            path: Path = (None, ".", name)
            if name == rng.PART:
                self.match(node, self.process, path)
            elif name in self.live:
                self.match(node, self.live[name], path)
            elif isinstance(node, Skipped):
                self.report.skipped.append((name, node.reason))
            else:
                self.report.unexpected.append((name, "the checkpoint has this part, the script's world has not"))
        self.separate()
        for node in self.order:
            if self.pairs[id(node)] is ABSENT:
                self.check_creatable(node)
        return self.report

    def left_out(self, live: Any) -> bool:
        return isinstance(known(type(live)).entry, Skip)

    def mismatch(self, node: Any, path: Path, expected: str, found: str) -> None:
        self.report.mismatched.append((write_path(path), f"the checkpoint has {expected}, the script has {found}"))
        if isinstance(node, Node):
            self.bad.add(id(node))

    def match(self, node: Any, live: Any, path: Path, rigid: bool = False) -> None:
        """Pair a saved node with the live value that stands in its place."""
        if isinstance(node, Skipped):
            self.report.skipped.append((write_path(path), node.reason))
            return
        if not isinstance(node, Node) or isinstance(node, Value):
            if live is not ABSENT and not self.replaceable(live):
                self.report.mismatched.append(
                    (write_path(path), f"the checkpoint has {describe(node)}, the script has {describe(live)}")
                )
                if isinstance(node, Value):
                    self.bad.add(id(node))
            else:
                self.report.restored.append(write_path(path))
            if isinstance(node, Value) and id(node) not in self.pairs:
                self.visit(node, ABSENT, path)
            return
        before = self.pairs.get(id(node))
        if before is not None and (before is not ABSENT or live is ABSENT):
            return
        if before is None:
            self.visit(node, ABSENT, path)
            if isinstance(node, Array | Packed) or not any(True for _ in tree.children(node, "")):
                self.report.restored.append(write_path(path))
        if live is not ABSENT and self.claims.get(id(live), node) is node and self.suits(node, live, path, rigid):
            self.pairs[id(node)] = live
            self.claims[id(live)] = node
            self.keep.append(live)
            self.paths[id(node)] = path
            self.below(node, live, path)
        elif before is None:
            self.below(node, ABSENT, path)

    def visit(self, node: Node, live: Any, path: Path) -> None:
        self.pairs[id(node)] = live
        self.paths[id(node)] = path
        self.order.append(node)

    def replaceable(self, live: Any) -> bool:
        """Whether a plain value may take the place of a live one: not of what the program is made of."""
        about = known(type(live))
        return not about.structural and not isinstance(about.entry, Skip | Adapter)

    def suits(self, node: Node, live: Any, path: Path, rigid: bool) -> bool:
        """Whether a node can be written into a live value; reports it where it neither can nor may replace it."""
        cls = type(live)
        match node:
            case Object() | Handled():
                if same_class(node.type, cls):
                    return True
                if live is None or (self.replaceable(live) and self.creatable(node) is None):
                    return False
                self.mismatch(node, path, f"a {short(node.type)}", describe(live))
                return False
            case Array():
                if fits(node, live):
                    return True
                if rigid or "parameter" in node.extra or (live is not None and not self.replaceable(live)):
                    self.mismatch(node, path, describe(node), describe(live))
                return False
            case Items() | tree.Mapping():
                expected = _CONTAINERS.get(node.type)
                if cls is expected if expected is not None else same_class(node.type, cls):
                    if node.type == "ndarray":
                        return live.dtype == object and list(live.shape) == node.extra.data
                    return True
                if not self.replaceable(live):
                    self.mismatch(node, path, f"a {short(node.type)}", describe(live))
                return False
        return False

    def below(self, node: Node, live: Any, path: Path) -> None:
        """Match the children of a node with those of the live value it was paired with (or with nothing)."""
        match node:
            case Object():
                self.below_fields(node.fields, live, path, node)
            case tree.Mapping():
                for position, (key, child) in enumerate(node.pairs):
                    shown = position if isinstance(key, Node) and not isinstance(key, Value) else key
                    found: Any = ABSENT
                    if isinstance(key, Node):
                        self.match(key, ABSENT, (path, "[", position))
                    if live is not ABSENT:
                        try:
                            found = live.get(self.key(key), ABSENT) if self.simple(key) else ABSENT
                        except (TypeError, values.NotThere, ValueError, KeyError):
                            found = ABSENT
                    self.match(child, found, (path, "[", shown))
                if node.fields:
                    self.below_fields(node.fields, live, path, None)
            case Items():
                self.below_items(node, live, path)
                if node.fields:
                    self.below_fields(node.fields, live, path, None)
            case Handled():
                self.match(node.payload, ABSENT, path)
            case Repeat():
                self.match(node.item, ABSENT, path)
            case Array():
                if node.base is not None:
                    self.match(node.base, ABSENT, path)
                if node.grad is not None:
                    grad = getattr(live, "grad", None)
                    self.match(node.grad, ABSENT if grad is None else grad, (path, ".", "grad"))

    def below_fields(self, fields: dict[str, Any], live: Any, path: Path, node: Object | None) -> None:
        if live is ABSENT:
            for name, child in fields.items():
                self.match(child, ABSENT, (path, ".", name))
            return
        entry = known(type(live)).entry
        if isinstance(entry, Adapter):
            present = dict(entry.fields(live))
            self.keep.append(present)
        else:
            present = attributes_of(live)
        module = isinstance(live, torch.nn.Module)
        for name, child in fields.items():
            found = present.get(name, ABSENT)
            if found is ABSENT and module and isinstance(child, Array | Object) and not isinstance(child, Skipped):
                where = write_path((path, ".", name))
                self.report.unexpected.append((where, f"the checkpoint has {describe(child)}, the script has nothing"))
                self.bad.add(id(child))
                continue
            self.match(child, found, (path, ".", name), rigid=module and isinstance(found, torch.Tensor))
        if node is not None:
            live_node = self.live_nodes.get(id(live))
            taken = live_node.fields if isinstance(live_node, Object) else {}
            for name in present:
                if name not in fields and not isinstance(taken.get(name), Skipped):
                    self.report.missing.append(write_path((path, ".", name)))

    def below_items(self, node: Items, live: Any, path: Path) -> None:
        present: Sequence[Any] = ()
        if live is not ABSENT:
            if node.type == "ndarray":
                present = live.ravel().tolist()
            elif isinstance(live, list | tuple | collections.deque):
                present = list(live)
        index = 0
        for child in node.items:
            if isinstance(child, Repeat | Packed):
                self.match(child, ABSENT, (path, "[", index))
                index += child.count if isinstance(child, Repeat) else child.array.shape[0]
                if isinstance(child, Packed):
                    self.match(child.array, ABSENT, (path, "[", index))
                    self.report.restored.pop()
                continue
            self.match(child, present[index] if index < len(present) else ABSENT, (path, "[", index))
            index += 1
        surplus = [element for element in present[index:] if known(type(element)).structural]
        if surplus:
            self.mismatch(
                None, path, f"{index} element(s)", f"{len(present)}, among them {len(surplus)} {describe(surplus[0])}"
            )

    def simple(self, key: Any) -> bool:
        if isinstance(key, Items):
            return key.type == "tuple" and all(self.simple(item) for item in key.items)
        return not isinstance(key, Node) or isinstance(key, Value)

    def key(self, key: Any) -> Any:
        if isinstance(key, Items):
            return tuple(self.key(item) for item in key.items)
        return values.read(key, self.find) if isinstance(key, Value) else key

    def find(self, name: str) -> type | None:
        found = self.classes.get(name)
        if found is None and ":" in name:
            # The script itself has another module name where it is imported and where it is run.
            tail = name.partition(":")[2]
            for other, cls in self.classes.items():
                if other.partition(":")[2] == tail and same_class(name, cls):
                    return cls
        return found or find_class(name)

    def separate(self) -> None:
        """Give saved arrays that were apart memory of their own where the live ones overlap."""
        placed = []
        for node in self.order:
            live = self.pairs[id(node)]
            if isinstance(node, Array) and node.base is None and live is not ABSENT and 0 not in node.shape:
                device, start, end, _ = extent(live)
                placed.append((device, start, end, "parameter" not in node.extra, len(placed), node))
        placed.sort(key=lambda entry: entry[:5])
        last_device, last_end = "", 0
        for device, start, end, movable, _, node in placed:
            if device == last_device and start < last_end and movable:
                self.pairs[id(node)] = ABSENT
                continue
            last_device, last_end = device, max(end, last_end if device == last_device else 0)

    def creatable(self, node: Node) -> str | None:
        """Why an object cannot be made from what was saved, or None if it can."""
        match node:
            case Object():
                cls = self.find(node.type)
                if cls is None or (known(cls).entry is not None and not isinstance(known(cls).entry, Adapter)):
                    return (
                        f"the checkpoint has a {short(node.type)} that was created while running, and the script has "
                        f"no object of that class. Let the script create it, or perdure.register({short(node.type)}, "
                        "capture=..., restore=..., create=...)"
                    )
                if not may_rebuild(cls):
                    return f"the checkpoint has a {short(node.type)}, which only the script can build, and it has none"
            case Handled():
                cls = self.find(node.type)
                entry = known(cls).entry if cls is not None else None
                if not isinstance(entry, Handler) or entry.create is None:
                    return (
                        f"the checkpoint has a {short(node.type)}, the script has none, and no handler can create one. "
                        "Let the script create it, or register a handler with create=..."
                    )
            case Items() | tree.Mapping():
                if node.type not in _CONTAINERS:
                    cls = self.find(node.type)
                    if cls is None or not issubclass(cls, dict | list | tuple | set | frozenset | collections.deque):
                        return f"the checkpoint has a {short(node.type)}, a class that the script does not use"
                    if hasattr(cls, "__del__"):
                        return f"the checkpoint has a {short(node.type)}, a class with a finalizer"
                elif node.type == "defaultdict" and node.extra == "":
                    return "the checkpoint has a defaultdict whose factory only the script knows, and it has none"
            case Value():
                try:
                    values.read(node, self.find)
                except values.NotThere as error:
                    return f"the checkpoint has a member of {error}, an enum that the script does not use"
                except (ValueError, TypeError, KeyError, IndexError, OverflowError, SyntaxError, PerdureError) as error:
                    return f"the checkpoint has a malformed value of kind {node.kind!r:.80}: {error}"
                except (RuntimeError, ArithmeticError) as error:
                    return f"the checkpoint has a value of kind {node.kind!r:.80} that cannot be had here: {error}"
        return None

    def check_creatable(self, node: Node) -> None:
        if id(node) in self.bad:
            return
        reason = self.creatable(node)
        if reason is not None:
            self.report.unexpected.append((write_path(self.paths[id(node)]), reason))
            self.bad.add(id(node))

    # -- writing ------------------------------------------------------------------------------------------------------

    def write(self) -> None:
        fields = self.state.root.fields
        for name, node in fields.items():
            if name == rng.PART or name not in self.live or self.skipped(node):
                continue
            value = self.resolve(node)
            if value is not self.live[name]:
                self.put_part(name, value)
        if rng.PART in fields and not self.skipped(fields[rng.PART]):
            self.resolve(fields[rng.PART])
            rng.set_state(vars(self.process))

    def put_part(self, name: str, value: Any) -> None:
        if isinstance(self.world, dict):
            self.world[name] = value
        elif callable(getattr(self.world, "parts", None)):
            setattr(self.world, name, value)
        else:
            raise RestoreError(
                f"{name}: the object given to restore cannot take its value in place. Put it into a World"
            )

    def skipped(self, node: Any) -> bool:
        return isinstance(node, Skipped) or (isinstance(node, Node) and id(node) in self.bad)

    def resolve(self, node: Any) -> Any:
        """The Python object that stands for a node, with everything below it written."""
        if not isinstance(node, Node):
            return node
        found = self.done.get(id(node), ABSENT)
        if found is _IN_PROGRESS:
            raise RestoreError(f"{self.where(node)}: an immutable container holds itself")
        if found is not ABSENT:
            return found
        live = self.pairs.get(id(node), ABSENT)
        try:
            match node:
                case Value():
                    value = values.read(node, self.find)
                    self.done[id(node)] = value
                    return value
                case Object():
                    return self.write_object(node, live)
                case Array():
                    return self.write_array(node, live)
                case tree.Mapping():
                    return self.write_mapping(node, live)
                case Items():
                    return self.write_items(node, live)
                case Handled():
                    return self.write_handled(node, live)
        except PerdureError:
            raise
        except Exception as error:
            raise RestoreError(
                f"{self.where(node)}: could not be written ({type(error).__name__}: {error}). The world is half "
                "restored: do not train on with it"
            ) from error
        raise RestoreError(f"{self.where(node)}: a {type(node).__name__} where a value was expected")

    def where(self, node: Node) -> str:
        return write_path(self.paths.get(id(node)))

    def write_object(self, node: Object, live: Any) -> Any:
        if live is ABSENT:
            cls = self.find(node.type)
            assert cls is not None
            live = cls.__new__(cls)
        self.done[id(node)] = live
        self.write_fields(node.fields, live)
        return live

    def write_fields(self, fields: dict[str, Any], live: Any) -> None:
        entry = known(type(live)).entry
        if isinstance(entry, Adapter):
            present: Any = entry.fields(live)
            for name, child in fields.items():
                if not self.skipped(child):
                    value = self.resolve(child)
                    # A list that an adapter made for the occasion is handed back even where nothing replaced it.
                    if value is not present.get(name, ABSENT) or isinstance(value, list):
                        entry.assign(live, name, value)
            return
        # Descriptors are never asked: a property may compute, draw or recurse without end on a half-written object.
        slots = slot_names(type(live))
        for name, child in fields.items():
            if self.skipped(child):
                continue
            if name.startswith("__") and name.endswith("__"):
                raise RestoreError(f"{name}: the checkpoint names a special attribute; it is not one Perdure wrote")
            value = self.resolve(child)
            if name in slots:
                object.__setattr__(live, name, value)
            else:
                live.__dict__[name] = value

    def write_mapping(self, node: tree.Mapping, live: Any) -> Any:
        if live is ABSENT:
            cls: Any = _CONTAINERS.get(node.type) or self.find(node.type)
            if node.type == "defaultdict":
                live = collections.defaultdict(_FACTORIES[node.extra] if node.extra else None)
            else:
                live = cls.__new__(cls)
        self.done[id(node)] = live
        pairs = []
        for key, child in node.pairs:
            resolved = self.resolve(key)
            if not self.skipped(child):
                pairs.append((resolved, self.resolve(child)))
            elif resolved in live:
                pairs.append((resolved, live[resolved]))
        kind = collections.OrderedDict if isinstance(live, collections.OrderedDict) else dict
        if len(pairs) != len(live) or any(a is not b for a, (b, _) in zip(live, pairs, strict=True)):
            kind.clear(live)
        for key, value in pairs:
            kind.__setitem__(live, key, value)
        if node.fields:
            self.write_fields(node.fields, live)
        return live

    def elements(self, node: Items, present: Sequence[Any]) -> list[Any]:
        found: list[Any] = []
        for child in node.items:
            match child:
                case Packed():
                    array = self.resolve(child.array)
                    found.extend(array.tolist())
                case Repeat():
                    found.extend(self.copies(child))
                case _ if self.skipped(child):
                    if len(found) < len(present):
                        found.append(present[len(found)])
                case _:
                    found.append(self.resolve(child))
        return found

    def copies(self, node: Repeat) -> Iterable[Any]:
        if isinstance(node.item, tree.Mapping | Items):
            if tree_below := list(tree.children(node.item, "")):
                raise RestoreError(f"{self.where(node)}: a repeated element holds {len(tree_below)} others")
            kind: Any = _CONTAINERS[node.item.type]
            return (kind() for _ in range(node.count))
        value = self.resolve(node.item)
        return (value for _ in range(node.count))

    def write_items(self, node: Items, live: Any) -> Any:
        kind: Any = _CONTAINERS.get(node.type) or self.find(node.type)
        if issubclass(kind, tuple | frozenset):
            return self.write_immutable(node, live, kind)
        if kind is np.ndarray:
            if live is ABSENT:
                live = np.empty(node.extra.data, dtype=object)
            self.done[id(node)] = live
            present = live.ravel().tolist()
            for index, value in zip(np.ndindex(live.shape), self.elements(node, present), strict=True):
                live[index] = value
            return live
        if issubclass(kind, collections.deque):
            if live is ABSENT or live.maxlen != node.extra:
                live = kind(maxlen=node.extra)
            self.done[id(node)] = live
            elements = self.elements(node, list(live))
            collections.deque.clear(live)
            collections.deque.extend(live, elements)
        else:
            if live is ABSENT:
                live = kind.__new__(kind)
            self.done[id(node)] = live
            if issubclass(kind, set):
                elements = self.elements(node, ())
                set.clear(live)
                set.update(live, elements)
            else:
                list.__setitem__(live, slice(None), self.elements(node, list(live)))
        if node.fields:
            self.write_fields(node.fields, live)
        return live

    def write_immutable(self, node: Items, live: Any, kind: Any) -> Any:
        self.done[id(node)] = _IN_PROGRESS
        present = list(live) if live is not ABSENT else []
        elements = self.elements(node, present)
        value = live
        if live is ABSENT or len(elements) != len(present) or any(
            a is not b for a, b in zip(elements, present, strict=True)
        ):
            base = tuple if issubclass(kind, tuple) else frozenset
            value = base.__new__(kind, elements)
        self.done[id(node)] = value
        return value

    def write_handled(self, node: Handled, live: Any) -> Any:
        if live is not ABSENT:
            self.done[id(node)] = live
        payload = self.resolve(node.payload)
        cls = type(live) if live is not ABSENT else self.find(node.type)
        entry = known(cls).entry if cls is not None else None
        assert isinstance(entry, Handler)
        if live is not ABSENT:
            entry.restore(live, payload)
            return live
        assert entry.create is not None
        self.done[id(node)] = created = entry.create(payload)
        return created

    # -- arrays -------------------------------------------------------------------------------------------------------

    def write_array(self, node: Array, live: Any) -> Any:
        if node.base is not None:
            return self.write_window(node, live)
        if live is ABSENT:
            live = fresh(node)
        self.done[id(node)] = live
        if node.data is not live:
            fill(node, live)
        if isinstance(live, torch.Tensor):
            self.write_autograd(node, live)
        return live

    def write_autograd(self, node: Array, live: torch.Tensor) -> None:
        wanted = bool(node.extra.get("requires_grad"))
        if live.is_leaf and live.requires_grad != wanted and (live.is_floating_point() or live.is_complex()):
            live.requires_grad_(wanted)
        if live.is_leaf:
            grad = None if node.grad is None else self.resolve(node.grad)
            if live.grad is not grad:
                live.grad = grad

    def write_window(self, node: Array, live: Any) -> Any:
        base = node.base
        assert base is not None
        whole = self.resolve(base)
        _, start, _, _ = extent(whole)
        if live is not ABSENT and 0 not in node.shape:
            first = live.data_ptr() if isinstance(live, torch.Tensor) else live.__array_interface__["data"][0]
            if first == start + node.offset and byte_strides(live) == node.strides:
                self.done[id(node)] = live
                return live
        self.done[id(node)] = window = look_onto(whole, node)
        return window


def same_class(name: str, cls: type) -> bool:
    """Whether a recorded class name means `cls`; the script's own module has two names."""
    if type_name(cls) == name:
        return True
    module, _, qualname = name.partition(":")
    return qualname == cls.__qualname__ and module != cls.__module__ and "__main__" in (module, cls.__module__)


def short(name: str) -> str:
    """A recorded class name for people."""
    return name.partition(":")[2] or name


def describe(value: Any) -> str:
    """A saved node or a live value in a few words, for messages."""
    match value:
        case Array():
            return f"{'a parameter' if 'parameter' in value.extra else 'an array'} {value.dtype}{list(value.shape)}"
        case Object() | Handled() | Items() | tree.Mapping():
            return f"a {short(value.type)}"
        case Value():
            return f"a {value.kind}"
        case np.ndarray():
            return f"an array {value.dtype.str}{list(value.shape)}"
        case torch.Tensor():
            kind = "a parameter" if isinstance(value, torch.nn.Parameter) else "a tensor"
            return f"{kind} {str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        case None | bool() | int() | float() | str():
            return f"{value!r:.60}"
    return f"a {type(value).__qualname__}"


def fits(node: Array, live: Any) -> bool:
    """Whether an array's bytes can be written into a live one."""
    if node.library == "torch":
        return (
            isinstance(live, torch.Tensor)
            and tuple(live.shape) == node.shape
            and str(live.dtype) == f"torch.{node.dtype}"
            and live.layout is torch.strided
            and isinstance(live, torch.nn.Parameter) == ("parameter" in node.extra)
            and (live.is_leaf or not live.requires_grad)
        )
    return (
        type(live) in (np.ndarray, np.memmap)
        and live.shape == node.shape
        and live.dtype == tree.numpy_dtype(node.dtype)
        and live.flags.writeable
    )


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(order)), key=lambda axis: order[axis]))


def fresh(node: Array) -> Any:
    """A new, unfilled array of a node's type, shape and memory order."""
    shape = tuple(node.shape[axis] for axis in node.order)
    if node.library == "numpy":
        return np.empty(shape, tree.numpy_dtype(node.dtype)).transpose(_inverse(node.order))
    device = torch.device(node.extra.get("device", "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        device = torch.device("cpu")
    tensor = torch.empty(shape, dtype=tree.TORCH_DTYPES[node.dtype], device=device).permute(_inverse(node.order))
    return torch.nn.Parameter(tensor, requires_grad=False) if "parameter" in node.extra else tensor


def fill(node: Array, live: Any) -> None:
    """Write a node's bytes into a live array of the same type and shape: straight into its memory where that lies alike."""
    if isinstance(live, torch.Tensor):
        target = live.detach()
        alike = target.device.type == "cpu" and target.permute(node.order).is_contiguous()
        if not alike:
            target = torch.empty(tuple(node.shape[axis] for axis in node.order), dtype=live.dtype)
            read(node, memoryview(target.reshape(-1).view(torch.uint8).numpy()) if target.numel() else None)
            live.detach().copy_(target.permute(_inverse(node.order)))
            return
        target = target.permute(node.order)
        read(node, memoryview(target.reshape(-1).view(torch.uint8).numpy()) if target.numel() else None)
        return
    ordered = live.transpose(node.order)
    if ordered.flags.c_contiguous:
        read(node, memoryview(ordered.reshape(-1).view(np.uint8)) if live.nbytes else None)
        return
    content = np.empty(ordered.shape, ordered.dtype)
    read(node, memoryview(content.reshape(-1).view(np.uint8)) if content.nbytes else None)
    ordered[...] = content


def read(node: Array, buffer: memoryview | None) -> None:
    """Fill a flat buffer with a node's bytes."""
    if buffer is None:
        return
    data = node.data
    assert data is not None
    if isinstance(data, np.ndarray | torch.Tensor):
        buffer[:] = tree.flat_bytes(data, node.order)
    else:
        data.read_into(buffer)


def look_onto(whole: Any, node: Array) -> Any:
    """A new array onto the memory of another."""
    if node.library == "torch" and isinstance(whole, torch.Tensor) and str(whole.dtype) == f"torch.{node.dtype}":
        size = whole.element_size()
        if node.offset % size == 0 and all(stride % size == 0 for stride in node.strides):
            offset = whole.storage_offset() + node.offset // size
            return whole.detach().as_strided(node.shape, [s // size for s in node.strides], offset)
    if isinstance(whole, torch.Tensor):
        if whole.device.type != "cpu":
            raise RestoreError("a window of another type onto memory of a device cannot be restored")
        whole = whole.detach().as_strided((whole.numel(),), (1,)).view(torch.uint8).numpy()
    else:
        order = tree.memory_order(whole.shape, whole.strides)
        whole = whole.transpose(order).reshape(-1).view(np.uint8)
    dtype = tree.numpy_dtype(node.dtype) if node.library == "numpy" else None
    if dtype is None:
        flat = torch.from_numpy(whole)
        torch_dtype = tree.TORCH_DTYPES[node.dtype]
        size = torch_dtype.itemsize
        start = node.offset % size
        usable = (len(whole) - start) // size * size
        typed = flat[start : start + usable].view(torch_dtype)
        return typed.as_strided(node.shape, [s // size for s in node.strides], typed.storage_offset() + node.offset // size)
    return np.ndarray(node.shape, dtype, buffer=whole, offset=node.offset, strides=node.strides)

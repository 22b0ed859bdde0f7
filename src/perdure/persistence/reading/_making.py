"""The objects that a pickle describes, made step by step, after all of it was checked. Knows no files."""

from __future__ import annotations

import collections
import functools
from collections import OrderedDict
from typing import Any, NamedTuple

import torch

from perdure.persistence.reading import _classes, _modules, _objects
from perdure.persistence.reading._allowlist import ABSENT, Names, look_up
from perdure.persistence.reading._builders import BUILDERS, of_class, why_not_called
from perdure.persistence.reading._building import Builder, Context
from perdure.persistence.reading._hashing import Clock, insert
from perdure.persistence.reading._nested_builders import JAGGED, give_attributes
from perdure.persistence.reading._pickle_steps import (
    UNMADE,
    Budget,
    Fill,
    MalformedError,
    Name,
    Node,
    Operand,
    Program,
    method_name,
)
from perdure.persistence.reading._storages import STORAGE_TYPES, Storage, Storages
from perdure.persistence.reading._torch_builders import COMPILED, FROM_TYPE, WITH_ATTRIBUTES, as_subclass


class Refusals(NamedTuple):
    """What prevents a file from being loaded.

    :param missing: names that would have to be trusted.
    :param faults: what no trust helps with: names, and why.
    """

    missing: list[str]
    faults: dict[str, str]


class Making:
    """Makes the object that a pickle describes.

    :param length: of the pickle, in bytes: what it may take of time and memory follows from it.
    """

    def __init__(
        self, program: Program, names: Names, storages: Storages, budget: Budget, length: int
    ) -> None:
        self._program = program
        self._names = names
        self._storages = storages
        self._length = length
        self._context = Context(budget.charge, Clock(length), names.runs_methods)
        self._made: list[Any] = []
        self._faults: dict[tuple[str, Name], str | None] = {}
        self._checked_states: set[tuple[Name, int]] = set()
        _mark_used(program.root)

    # -- what is refused -------------------------------------------------------------------------------------

    def check(self) -> Refusals:
        """All that prevents the file from being loaded, as far as it can be told before anything is made."""
        missing: dict[str, None] = {}
        faults: dict[str, str] = {}
        for step in self._program.steps:
            if isinstance(step, Fill):
                if step.node.used and step.how == "state" and step.node.kind == "object":
                    self._check_attributes(step, faults)
            elif step.used and step.what is None and step.kind == "call":
                faults["(computed)"] = (
                    "it calls something that it computes, which loading does not do. Save the policy's state dictionary"
                )
            elif step.used and step.what is not None:
                self._check_name(step, step.what, missing, faults)
        return Refusals(list(missing), faults)

    def _check_name(self, node: Node, what: Name, missing: dict[str, None], faults: dict[str, str]) -> None:
        if node.kind == "call" and (what.dotted in BUILDERS or what.dotted in _FOLLOWED):
            method = method_name(what, node.parts)
            if method is not None and self._names.find(method) is ABSENT:
                missing[method.dotted] = None
            elif method is None and what.dotted == "builtins.getattr":
                faults[what.dotted] = (
                    "it takes an attribute of something that is no object of an allowed class"
                )
            elif (
                what.dotted in BUILDERS
                and BUILDERS[what.dotted].needs_trust
                and self._names.find(what) is ABSENT
            ):
                missing[what.dotted] = None
            return
        found = self._names.find(what)
        key = node.kind, what
        if key not in self._faults:
            # What the name would stand for, if it were trusted, so that the next message says nothing new.
            self._faults[key] = _fault(node, look_up(what) if found is ABSENT else found)
        fault = self._faults[key]
        if fault is not None:
            faults[what.dotted] = fault
        elif found is ABSENT:
            missing[what.dotted] = None
        elif node.kind == "global":
            node.value = found

    def _check_attributes(self, step: Fill, faults: dict[str, str]) -> None:
        assert step.node.what is not None
        cls = self._names.find(step.node.what)
        (state,) = step.content
        key = step.node.what, id(state)
        if key in self._checked_states:
            return
        self._checked_states.add(key)
        if not isinstance(cls, type) or _classes.registered(cls) is not None:
            return
        for name in _keys(state):
            if isinstance(name, str) and (fault := _classes.attribute_fault(cls, name)) is not None:
                faults.setdefault(step.node.what.dotted, fault)

    # -- what is made ----------------------------------------------------------------------------------------

    def make(self) -> Any:
        """The object, if nothing was refused.

        :raises MalformedError: if the pickle is not one that a pickler writes.
        :raises NotMadeError: if it has something that only a class's own code could make.
        """
        for step in self._program.steps:
            if isinstance(step, Fill):
                if step.node.used:
                    self._checked(step.node, functools.partial(self._fill, step))
            elif step.used and step.value is UNMADE:
                step.value = self._checked(step, functools.partial(self._make, step))
        root = self._value(self._program.root)
        modules = [each for each in self._made if issubclass(type(each), torch.nn.Module)]
        self._checked(None, lambda: _modules.check_modules(modules, self._length))
        if self._context.runs_methods:
            for each in self._made:
                if issubclass(type(each), torch.nn.Module | torch.optim.Optimizer):
                    _modules.drop_hooks(each)
        return root

    def _checked(self, node: Node | None, act: Any) -> Any:
        try:
            return act()
        except _MALFORMED as error:
            what = f"{node.what.dotted} " if node is not None and node.what is not None else ""
            raise MalformedError(
                f"has something {what}that cannot be made ({type(error).__name__}: {error!s:.200})"
            ) from error

    def _value(self, operand: Operand) -> Any:
        value = self._argument(operand)
        return self._storages.itself(value) if type(value) is Storage else value

    def _argument(self, operand: Operand) -> Any:
        if not isinstance(operand, Node):
            return operand
        if operand.value is UNMADE:
            raise MalformedError("uses an object before it is complete")
        return operand.value

    def _make(self, node: Node) -> Any:
        match node.kind:
            case "list":
                return []
            case "dict":
                return {}
            case "set":
                return set()
            case "tuple":
                return tuple([self._value(part) for part in node.parts])
            case "frozenset":
                found: set[Any] = set()
                insert(self._context.clock, found.add, [(self._value(part),) for part in node.parts])
                return frozenset(found)
            case "bytearray":
                return bytearray(node.parts[0])  # type: ignore[arg-type]
            case "storage":
                return self._storage(node)
            case "object":
                return self._object(node)
            case _:
                return self._call(node, None)

    def _storage(self, node: Node) -> Storage:
        kind, storage_type, key, location, count, *view = node.parts
        name = storage_type.what if isinstance(storage_type, Node) else None
        if kind != "storage" or name is None or name.module not in ("torch", "torch.storage"):
            raise MalformedError("refers to something outside that is no data of a tensor")
        if view not in ([], [None]):
            raise MalformedError("refers to a part of the data of a tensor")
        if not isinstance(key, str) or not isinstance(location, str) or type(count) is not int:
            raise MalformedError("refers to the data of a tensor by something else than its name")
        if name.name not in STORAGE_TYPES:
            raise _classes.NotMadeError(
                name.dotted,
                "it is no kind of memory that is read: of quantized numbers of less than eight bits, "
                "keep the tensor that they were made of (.dequantize()) or make them anew after loading",
            )
        self._context.charge(_classes.ATTRIBUTE_COST)
        return self._storages.take(key, STORAGE_TYPES[name.name], location, count)

    def _object(self, node: Node) -> Any:
        assert node.what is not None
        cls = self._names.find(node.what)
        handler = _classes.registered(cls)
        if handler is not None and handler.create is not None:
            return UNMADE  # its state makes it
        self._context.charge(_classes.ATTRIBUTE_COST)
        made = _classes.make(cls, tuple(self._value(part) for part in node.parts))
        self._made.append(made)
        return made

    def _call(self, node: Node, state: Any) -> Any:
        """What a call gives. Where a state belongs to it that is still to come, nothing yet."""
        assert node.what is not None
        if node.what.dotted == FROM_TYPE:
            return self._from_type(node)
        arguments = tuple(self._argument(part) for part in _needed(node))
        if node.what.dotted in WITH_ATTRIBUTES:
            made = BUILDERS[WITH_ATTRIBUTES[node.what.dotted]].make(self._context, *arguments[:-1])
            _objects.set_state(made, arguments[-1], self._context.charge, made_by_call=True)
            return made
        builder = self._builder(node.what)
        assert builder is not None
        if builder.state == "needed" and state is None:
            return UNMADE
        if builder.state in ("needed", "optional"):
            return builder.make(self._context, state, *arguments)
        return builder.make(self._context, *arguments)

    def _builder(self, what: Name) -> Builder | None:
        builder = BUILDERS.get(what.dotted)
        cls = None if builder is not None else self._names.find(what)
        return of_class(cls) if isinstance(cls, type) else builder

    def _from_type(self, node: Node) -> Any:
        function, kind, parts, state = node.parts
        if not isinstance(function, Node) or not isinstance(parts, Node) or parts.kind != "tuple":
            raise MalformedError("makes a tensor without saying how")
        name = function.what.dotted if function.what is not None else ""
        if function.kind != "global" or not _rebuilds_tensor(name):
            raise _classes.NotMadeError(
                name or FROM_TYPE, "it makes a tensor in a way of its own. Save the policy's state dictionary"
            )
        made = BUILDERS[name].make(self._context, *(self._argument(part) for part in parts.parts))
        cls, attributes = self._value(kind), self._value(state)
        if name == JAGGED:
            attributes = give_attributes(made, attributes)
        if cls is not torch.Tensor and cls is not type(made):
            made = as_subclass(made, cls)
        _objects.set_state(made, attributes, self._context.charge, made_by_call=True)
        return made

    # -- what is put into it ---------------------------------------------------------------------------------

    def _fill(self, step: Fill) -> None:
        if step.how == "state":
            self._set_state(step.node, self._value(step.content[0]))
            return
        content = [self._value(each) for each in step.content]
        target = self._value(step.node)
        kind = type(target)
        if step.how == "pairs" and issubclass(kind, dict):
            base: Any = OrderedDict if issubclass(kind, OrderedDict) else dict
            pairs = list(zip(content[::2], content[1::2], strict=True))
            insert(self._context.clock, functools.partial(base.__setitem__, target), pairs)
        elif step.how == "items" and issubclass(kind, list):
            list.extend(target, content)
        elif step.how == "items" and issubclass(kind, collections.deque):
            collections.deque.extend(target, content)
        elif step.how == "items" and issubclass(kind, set):
            insert(self._context.clock, functools.partial(set.add, target), [(each,) for each in content])
        else:
            raise MalformedError(f"puts {step.how} into a {kind.__qualname__}")

    def _set_state(self, node: Node, state: Any) -> None:
        if node.kind == "call":
            assert node.what is not None
            builder = self._builder(node.what)
            if builder is not None and builder.state in ("needed", "optional"):
                node.value = self._call(node, state)
                return
            if builder is None or builder.state != "attributes":
                raise MalformedError("sets the state of something that has none")
        elif node.kind != "object":
            raise MalformedError("sets the state of something that has none")
        if node.value is UNMADE:
            assert node.what is not None
            handler = _classes.registered(self._names.find(node.what))
            assert handler is not None
            assert handler.create is not None
            node.value = handler.create(state)
        else:
            _objects.set_state(node.value, state, self._context.charge, made_by_call=node.kind == "call")


_MALFORMED = (TypeError, ValueError, LookupError, AttributeError, RuntimeError, ArithmeticError)
_FOLLOWED = (FROM_TYPE, *WITH_ATTRIBUTES)


def _rebuilds_tensor(name: str) -> bool:
    return name in BUILDERS and (name.startswith("torch._utils._rebuild") or name == JAGGED)


def _mark_used(root: Operand) -> None:
    stack = [root]
    while stack:
        node = stack.pop()
        if not isinstance(node, Node) or node.used:
            continue
        node.used = True
        stack.extend(_needed(node))
        for step in node.fills or ():
            stack.extend(step.content)


def _needed(node: Node) -> tuple[Operand, ...]:
    """What a node is made of, without what only says how and is not looked up."""
    if node.kind == "storage":
        return ()
    name = node.what.dotted if node.kind == "call" and node.what is not None else ""
    if name == COMPILED:
        return node.parts[:1]
    if name == FROM_TYPE and len(node.parts) == 4:
        _, kind, arguments, state = node.parts
        if isinstance(arguments, Node):
            return kind, *arguments.parts, state
    return node.parts


def _fault(node: Node, found: Any) -> str | None:
    """Why trusting a name would not help, or None if it would."""
    if node.kind == "object":
        if found is not None and not isinstance(found, type):
            return "it is made like an object of a class, and it is none"
        if node.what is not None and node.what.dotted in _REASONS:
            return _REASONS[node.what.dotted]
        return None if found is None else _classes.why_not_made(found)
    if node.kind == "call" and node.what is not None and node.what.dotted in _REASONS:
        return _REASONS[node.what.dotted]
    return why_not_called(found) if node.kind == "call" and found is not None else None


_GRAPH = (
    "it is a graph of torch.fx, which files keep as Python source, and loading runs none. Keep the module that it was "
    "traced from, and trace it again after loading"
)
#: What is never made, whatever is trusted or registered, and what to do.
_REASONS = {
    **{
        f"torch.fx.graph_module.{name}": _GRAPH
        for name in ("reduce_graph_module", "reduce_package_graph_module", "reduce_deploy_graph_module")
    },
    "torch.ScriptObject": "it holds weights in native code, as quantized layers do. Keep the layers as they were "
    "before they were converted, and convert them again after loading",
    "torch._dynamo.eval_frame.OptimizeContext": "it compiles code. Keep the module that was compiled",
}


def _keys(state: Operand) -> list[Operand]:
    """The names of the attributes in a state, as far as the pickle writes them out."""
    halves = state.parts if isinstance(state, Node) and state.kind == "tuple" else (state,)
    steps = [step for half in halves if isinstance(half, Node) for step in half.fills or ()]
    return [key for step in steps if step.how == "pairs" for key in step.content[::2]]

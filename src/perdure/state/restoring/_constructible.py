"""What can be made for a node that no live object stands for, from classes that the live side has shown."""

from __future__ import annotations

import enum
import types
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state import _values
from perdure.state._class_names import class_name, remedy_if_renamed
from perdure.state._containers import ITEMS
from perdure.state._describe import describe, short
from perdure.state._registry import Handler, cannot_make, known, slots
from perdure.state.restoring._plan import CONTAINERS, Plan
from perdure.tree import (
    Array,
    Custom,
    Node,
    NumberRun,
    Object,
    Omitted,
    RepeatRun,
    SequenceNode,
    State,
    Value,
)

#: A state inside a state is data; nothing is made for what is in it.
QUOTED = class_name(State)
_CODE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    staticmethod,
    classmethod,
)
#: What is captured by its content or as a value, never by its attributes.
NOT_BY_ATTRIBUTES = (
    dict,
    *ITEMS,
    np.ndarray,
    np.generic,
    torch.Tensor,
    enum.Enum,
    type,
    int,
    float,
    str,
    bytes,
)


def unreadable(plan: Plan, node: Value) -> str | None:
    """Why a value cannot be had, or None if it can."""
    try:
        _values.read(node, plan.find)
    except _values.NotThere as error:
        return f"the checkpoint has a member of {error}, an enum that the script does not use"
    except ValueError as error:
        return f"the checkpoint has a value of kind {node.kind!r:.80} that cannot be read: {error}"
    return None


def unmakeable(plan: Plan, node: Node) -> str | None:
    """Why no object can be made for a node, or None if one can."""
    match node:
        case Object() if node.type == QUOTED:
            return None
        case Object():
            cls = plan.find(node.type)
            if cls is None or issubclass(cls, NOT_BY_ATTRIBUTES):
                return (
                    f"the checkpoint has a {short(node.type)} that was created while running, and the script has "
                    f"built none that shows which class that is. Let the script build one, or "
                    f"perdure.register({short(node.type)}, capture=..., restore=..., create=...). "
                    f"{remedy_if_renamed(node.type)}"
                )
            if (reason := cannot_make(cls)) is not None:
                return (
                    f"the checkpoint has a {short(node.type)} and the script has none; {reason}. Let the script "
                    f"build it, or perdure.register({short(node.type)}, capture=..., restore=..., create=...)"
                )
            names = (name for name, child in node.fields.items() if not isinstance(child, Omitted))
            return next((reason for name in names if (reason := unassignable(cls, name, ()))), None)
        case Custom():
            cls = plan.find(node.type)
            entry = None if cls is None else known(cls).entry
            if not isinstance(entry, Handler) or entry.create is None:
                return (
                    f"the checkpoint has a {short(node.type)}, the script has none, and no handler can create one. "
                    "Let the script build it, or register a handler with create=..."
                )
        case SequenceNode() | tree.MappingNode():
            return _unmakeable_container(plan, node)
    return None


def _unmakeable_container(plan: Plan, node: SequenceNode | tree.MappingNode) -> str | None:
    if node.type not in CONTAINERS:
        cls = plan.find(node.type)
        kinds = (dict,) if isinstance(node, tree.MappingNode) else ITEMS
        if cls is None or not issubclass(cls, kinds):
            return (
                f"the checkpoint has a {short(node.type)} that was created while running, and the script has "
                "built none that shows which class that is. Let the script build one, or "
                f"perdure.state.rebuildable({short(node.type)}). {remedy_if_renamed(node.type)}"
            )
        if (reason := cannot_make(cls)) is not None:
            return f"the checkpoint has a {short(node.type)} and the script has none; {reason}"
        names = (name for name, child in (node.fields or {}).items() if not isinstance(child, Omitted))
        return next((reason for name in names if (reason := unassignable(cls, name, ()))), None)
    if isinstance(node, tree.MappingNode) != issubclass(CONTAINERS[node.type], dict):
        return f"the checkpoint has a malformed {node.type}"
    if node.type == "defaultdict" and node.extra == "":
        return "the checkpoint has a defaultdict whose factory only the script knows, and it has none"
    return None


def unhashable(plan: Plan, node: Node) -> str | None:
    """What in a dict or a set cannot be a key."""
    kind = plan.class_of(node) if isinstance(node, SequenceNode) else None
    keys = hashed(node, kind)
    if (reason := plan.keys.unwieldy(keys, plan.find)) is not None:
        return reason
    hashable = True
    while keys:
        key = keys.pop()
        if id(key) in plan.keys.hashable:
            continue
        if isinstance(key, Node):
            plan.keys.hashable.add(id(key))
        match key:
            case SequenceNode() if issubclass(plan.class_of(key) or list, tuple):
                keys.extend(key.items)
            case SequenceNode():
                hashable = issubclass(plan.class_of(key) or list, frozenset)
            case Object() | Custom():
                hashable = getattr(plan.class_of(key), "__hash__", None) is not None
            case Array():
                hashable = key.framework == "torch"
            case _:
                hashable = not isinstance(key, tree.MappingNode | RepeatRun)
        if not hashable:
            plan.keys.hashable.clear()
            return f"the checkpoint has {describe(key)} as a key, which cannot be one"
    return None


def hashed(node: Node, kind: type | None) -> list[Any]:
    """What of a container's content Python hashes."""
    if isinstance(node, tree.MappingNode):
        return [key for key, _ in node.pairs]
    if isinstance(node, SequenceNode) and issubclass(kind or list, set | frozenset):
        return [child for child in node.items if not isinstance(child, NumberRun)]
    return []


def definition(cls: type, name: str) -> list[Any]:
    """What a class or its bases have under a name that is no slot's: nothing, or one thing."""
    found = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
    return [] if name in slots(cls) else found[:1]


def unassignable(cls: type, name: str, present: Any) -> str | None:
    """Why an attribute of this name may not be given to an object of a class, or None if it may.

    What a class defines as code is none, and special attributes mean something to Python and NumPy; an
    attribute that the live object has already, or has a slot for, is one all the same.
    """
    if name in present or name in slots(cls):
        return None
    if not cls.__dictoffset__:
        return f"the checkpoint has an attribute that objects of the script's {cls.__qualname__} cannot have"
    if name.startswith("__") and name.endswith("__"):
        return "the checkpoint has a special attribute, which the script's object has not"
    if any(isinstance(found, _CODE) for found in definition(cls, name)):
        return f"the checkpoint has an attribute that is a method of the script's {cls.__qualname__}"
    return None

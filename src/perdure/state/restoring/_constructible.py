"""Which saved objects may be constructed where the script has built none, and why others may not.

Only classes that the script uses are ever constructed. Knows nodes and classes, and no live objects.
"""

from __future__ import annotations

import collections
import enum
import functools
import threading
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state import _compounds, _values
from perdure.state._class_names import class_name, module_of, remedy_if_renamed
from perdure.state._containers import FACTORY, ITEMS
from perdure.state._describe import describe, short
from perdure.state._protocol import OwnHandler, why_not_blank
from perdure.state._references import MISSING, look_up
from perdure.state._registry import Adapter, Handler, cannot_make, known, slots
from perdure.state.restoring._plan import CONTAINERS, Matches
from perdure.state.restoring._references import References, is_factory
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
    write_path,
)

#: A state inside a state is data: no objects are constructed for its contents.
NESTED_STATE = class_name(State)
_CODE = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    staticmethod,
    classmethod,
    functools.partialmethod,
    functools.singledispatchmethod,
)
#: Classes whose objects are captured by content or as a value, never by their attributes.
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


def unreadable(matches: Matches, node: Value) -> str | None:
    """Why a value cannot be read, or None if it can."""
    try:
        _values.read(node, matches.find)
    except _values.NotThere as error:
        return (
            f"the checkpoint has a member of {error}, an enum that the script does not use. "
            f"{remedy_if_renamed(str(error))}"
        )
    except ValueError as error:
        return f"the checkpoint has a value of kind {node.kind!r:.80} that cannot be read: {error}"
    return None


def why_not_constructible(matches: Matches, node: Node) -> str | None:
    """Why no object can be constructed for a node, or None if one can."""
    match node:
        case Object() if node.type == NESTED_STATE:
            return None
        case Object():
            cls = matches.find(node.type)
            if cls is not None and _compounds.of_class(cls) is not None:
                return _why_no_compound(matches, node, cls)
            if cls is None or issubclass(cls, NOT_BY_ATTRIBUTES) or _values.writer(cls) is not None:
                return _unknown_class(matches, node)
            if (reason := _why_not_from_fields(matches, cls, node.fields)) is not None:
                return (
                    f"the checkpoint has a {short(node.type)} and the script has none; {reason}. Let the script "
                    f"build it, or perdure.register({short(node.type)}, capture=..., restore=..., create=...)"
                )
            return _why_not_assignable(cls, node.fields)
        case Custom():
            cls = matches.find(node.type)
            entry = None if cls is None else known(cls).entry
            if isinstance(entry, OwnHandler) and entry.create is None and cls is not None:
                if (reason := why_not_blank(cls)) is None:
                    return None
                return f"the checkpoint has a {short(node.type)} and the script has none; {reason}"
            if not isinstance(entry, Handler) or entry.create is None or entry.makes not in (None, cls):
                reason = (
                    f"the checkpoint has a {short(node.type)}, the script has none, and no handler can create one. "
                    "Let the script build it, or register a handler with create=..."
                )
                return reason if cls is not None else f"{reason}. {_remedy(matches, node)}"
        case SequenceNode() | tree.MappingNode():
            return _why_not_constructible_container(matches, node)
        case Array() if node.fields:
            return _why_not_assignable(torch.nn.Parameter, node.fields)
    return None


def _why_not_from_fields(matches: Matches, cls: type, fields: Mapping[str, Any]) -> str | None:
    """Why no object of a class can be made from these fields, or None if one can."""
    reason = cannot_make(cls)
    entry = known(cls).entry
    if reason is None and isinstance(entry, Adapter) and entry.maker is not None:
        return entry.maker.why_not(fields, matches.find)
    return reason


def _why_not_assignable(cls: type, fields: Mapping[str, Any] | None) -> str | None:
    names = (name for name, child in (fields or {}).items() if not isinstance(child, Omitted))
    if issubclass(cls, collections.defaultdict):
        names = (name for name in names if name != FACTORY)
    return next((reason for name in names if (reason := unassignable(cls, name, ()))), None)


def _unknown_class(matches: Matches, node: Object | SequenceNode | tree.MappingNode) -> str:
    name = short(node.type)
    if node.type == class_name(object):
        return (
            "the checkpoint has an object() that was created while running, which means nothing but itself. Let the "
            "script build it, or use a member of an Enum in its place"
        )
    if matches.world.built_before(write_path(matches.path(node))):
        renamed = "" if look_up(node.type) is not MISSING else f" {_remedy(matches, node)}"
        return (
            f"the checkpoint has a {name}, which the script built here when the run began, and builds no more. Build "
            f"it again: a run goes on with all that it began with.{renamed}"
        )
    if matches.world.shown.is_ambiguous(node.type):
        return (
            f"the checkpoint has a {name} that was created while running, and the script has two classes that are "
            "called so. Give them different names"
        )
    return (
        f"the checkpoint has a {name} that was created while running, and nothing that the script has built shows "
        f"which class that is. Say so before the run is resumed: perdure.state.rebuildable({name}), or let an object "
        f"of the world have the class as an attribute"
        + ("" if look_up(node.type) is not MISSING else f". {_remedy(matches, node)}")
    )


def _why_no_compound(matches: Matches, node: Object, cls: type) -> str | None:
    compound = _compounds.of_class(cls)
    assert compound is not None
    if _compounds.CODE in node.fields:
        return References(matches).why_not_made(node)
    if compound.make is None:
        reason: str | None = "none is made of its parts"
    elif compound.in_place and matches.world.class_of(matches.found(node)) is not cls:
        reason = "it is only put where the script has one. Let the script put one there"
    else:
        reason = compound.check(node.fields)
    return reason and f"the checkpoint has a {short(node.type)} and the script has none like it; {reason}"


def _remedy(matches: Matches, node: Object | Custom | SequenceNode | tree.MappingNode) -> str:
    """What to do if the class of a node has another name now: that of what the script has there, perhaps."""
    cls = matches.world.class_of(matches.found(node))
    is_own = not module_of(cls).startswith(("builtins", "collections", "numpy", "perdure", "torch"))
    return remedy_if_renamed(node.type, cls.__qualname__) if is_own else remedy_if_renamed(node.type)


def _why_not_constructible_container(matches: Matches, node: SequenceNode | tree.MappingNode) -> str | None:
    if node.type not in CONTAINERS:
        cls = matches.find(node.type)
        kinds = (dict,) if isinstance(node, tree.MappingNode) else ITEMS
        if cls is None or not issubclass(cls, kinds):
            return _unknown_class(matches, node)
        if (reason := cannot_make(cls)) is not None:
            return f"the checkpoint has a {short(node.type)} and the script has none; {reason}"
        return _why_no_factory(node, cls) or _why_not_assignable(cls, node.fields)
    if isinstance(node, tree.MappingNode) != issubclass(CONTAINERS[node.type], dict):
        return f"the checkpoint has a malformed {node.type}"
    return _why_no_factory(node, CONTAINERS[node.type]) or _why_not_assignable(
        CONTAINERS[node.type], node.fields
    )


def _why_no_factory(node: SequenceNode | tree.MappingNode, cls: type) -> str | None:
    """Why a dict cannot get its factory, or None if it can, or has none."""
    if not issubclass(cls, collections.defaultdict):
        return None
    factory = (node.fields or {}).get(FACTORY)
    if factory is not None and not is_factory(factory):
        return "the checkpoint has a defaultdict with a factory that is not called"
    if factory is None and node.extra == "":
        return f"the checkpoint has a {short(node.type)} whose factory only the script knows, and it has none"
    return None


def why_not_hashable(matches: Matches, node: Node) -> str | None:
    """Why a node has a key or an element that Python cannot hash, or None if it has none."""
    kind = matches.class_of(node) if isinstance(node, SequenceNode) else None
    keys = hashed(node, kind)
    if (reason := matches.keys.unwieldy(keys, matches.find)) is not None:
        return reason
    hashable = True
    while keys:
        key = keys.pop()
        if id(key) in matches.keys.hashable:
            continue
        if isinstance(key, Node):
            matches.keys.hashable.add(id(key))
        match key:
            case SequenceNode() if issubclass(matches.class_of(key) or list, tuple):
                keys.extend(key.items)
            case SequenceNode():
                hashable = issubclass(matches.class_of(key) or list, frozenset)
            case Object() | Custom():
                hashable = getattr(matches.class_of(key), "__hash__", None) is not None
            case Array():
                hashable = key.framework == "torch"
            case _:
                hashable = not isinstance(key, tree.MappingNode | RepeatRun)
        if not hashable:
            matches.keys.hashable.clear()
            return f"the checkpoint has {describe(key)} as a key, which cannot be one"
    return None


def hashed(node: Node, kind: type | None) -> list[Any]:
    """The contents of a container that Python hashes."""
    if isinstance(node, tree.MappingNode):
        return [key for key, _ in node.pairs]
    if isinstance(node, SequenceNode) and issubclass(kind or list, set | frozenset):
        return [child for child in node.items if not isinstance(child, NumberRun)]
    return []


def definition(cls: type, name: str) -> list[Any]:
    """What a class or its bases define under a name, unless that is a slot: an empty list, or a list of one."""
    found = [vars(base)[name] for base in cls.__mro__ if name in vars(base)]
    return [] if name in slots(cls) else found[:1]


def _is_code(found: Any) -> bool:
    """Whether what a class defines is a method, however it was written: an attribute would take its place."""
    if isinstance(found, _CODE):
        return True
    if isinstance(found, type):
        return False
    binds = hasattr(type(found), "__get__") and not hasattr(type(found), "__set__")
    return binds and callable(found)


def unassignable(cls: type, name: str, present: Any) -> str | None:
    """Why an attribute of this name may not be set on an object of a class, or None if it may.

    Code of the class must not be replaced, and special attributes have a meaning for Python and NumPy. An attribute
    that the live object already has, or has a slot for, may always be set.

    :param present: the names of the attributes that the object has.
    """
    if name in present or name in slots(cls):
        return None
    if not cls.__dictoffset__ and not issubclass(cls, threading.local):
        return f"the checkpoint has an attribute that objects of the script's {cls.__qualname__} cannot have"
    if name.startswith("__") and name.endswith("__"):
        return "the checkpoint has a special attribute, which the script's object does not have"
    if any(map(_is_code, definition(cls, name))):
        return f"the checkpoint has an attribute that is a method of the script's {cls.__qualname__}"
    return None

"""Immutable objects that are captured by their parts: methods with their object, partials with their arguments,
closures with their plain variables, weak references, read-only views, conditions. Knows no walks and no files."""

from __future__ import annotations

import collections
import functools
import gc
import itertools
import operator
import random
import re
import types
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from perdure.state._class_names import class_name
from perdure.state._references import FUNCTIONS, METHODS, kind_of, reference
from perdure.state._registry import Compound, by_reference, known, made_by_name, register_compound
from perdure.tree import PLAIN_TYPES, Custom, MappingNode, Object, SequenceNode, Value

CODE = "__code__"
"""The part of a closure that says which function it is."""
DEFAULTS = ("__defaults__", "__kwdefaults__")
_CLOSURE = class_name(types.FunctionType)
UNSET: Any = object()


def of_class(cls: type) -> Compound | None:
    """How objects of a class are taken apart; None if they are captured otherwise."""
    entry = known(cls).entry
    if cls is types.FunctionType:
        return CLOSURE
    return entry if isinstance(entry, Compound) else None


def of_name(name: str) -> type | None:
    """The class of compounds that is recorded under a name."""
    return _BY_NAME.get(name)


def of_live(value: Any) -> Compound | None:
    """How a live object is taken apart; None if it is captured otherwise, functions without variables by name."""
    if type(value) is types.FunctionType:
        return CLOSURE if has_parts(value) else None
    if kind_of(value):
        return None
    entry = known(type(value)).entry
    return entry if isinstance(entry, Compound) else None


# -- functions with variables of their own ----------------------------------------------------------------------


def has_parts(function: types.FunctionType) -> bool:
    """Whether a name does not say all of a function: it has variables, or arguments of the moment it was made in."""
    if function.__closure__:
        return True
    if function.__defaults__ is None and function.__kwdefaults__ is None:
        return False
    node = reference(function)
    return isinstance(node, Value) and len(node.data) > 1


def _closure_parts(function: Any) -> dict[str, Any]:
    code = reference(function)
    parts: dict[str, Any] = {CODE: code}
    if isinstance(code, Value) and len(code.data) > 1:
        for name in DEFAULTS:
            if (found := getattr(function, name)) is not None:
                parts[name] = found
    for name, cell in cells(function).items():
        content = content_of(cell)
        if type(content) in PLAIN_TYPES or kind_of(content) or _is_data([content]):
            parts[name] = content
    return parts


_MOST_DATA = 1_000
_CONTAINERS = (list, tuple, dict, set, frozenset, collections.deque, collections.defaultdict)
_DATA = frozenset({bytes, complex, np.random.Generator, np.random.RandomState, random.Random, torch.Tensor})


def _is_data(todo: list[Any]) -> bool:
    """Whether all of these are containers of plain values, arrays and random generators, and not very many."""
    seen: set[int] = set()
    while todo:
        value = todo.pop()
        cls = type(value)
        if cls in _CONTAINERS:
            if id(value) not in seen:
                seen.add(id(value))
                todo.extend(value)
                todo.extend(value.values() if isinstance(value, dict) else ())
        elif cls is np.ndarray:
            if value.dtype.hasobject:
                return False
        elif not (cls in PLAIN_TYPES or cls in _DATA or isinstance(value, np.generic)):
            return False
        if len(todo) > _MOST_DATA or len(seen) > _MOST_DATA:
            return False
    return True


def content_of(cell: Any) -> Any:
    """What a variable of a closure holds; UNSET if it holds nothing yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return UNSET


def cells(function: Any) -> dict[str, Any]:
    """The variables of a closure."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


CLOSURE = Compound(_closure_parts, callable=True)


# -- methods and partials ----------------------------------------------------------------------------------------


def _is_callable(node: Any) -> bool:
    return isinstance(node, Object | Custom) or (
        isinstance(node, Value) and node.kind in ("function", "class")
    )


def _method_parts(method: Any) -> dict[str, Any]:
    return {"__func__": method.__func__, "__self__": method.__self__}


def _make_method(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    return cls(parts["__func__"], parts["__self__"])


def _check_method(parts: Mapping[str, Any]) -> str | None:
    fine = _is_callable(parts.get("__func__")) and parts.get("__self__") is not None
    return None if fine else "it has no function, or no object"


def _named_parts(method: Any) -> dict[str, Any]:
    return {"__self__": method.__self__, "__name__": method.__name__}


def _make_named(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    holder, name = parts["__self__"], parts["__name__"]
    found = next(vars(base)[name] for base in type(holder).__mro__ if name in vars(base))
    made = found.__get__(holder, type(holder)) if type(found) in _C_METHODS else None
    if type(made) is not cls:
        raise TypeError(f"expected a method {name!r:.80} of a {type(holder).__qualname__}")
    return made


_C_METHODS = (types.MethodDescriptorType, types.WrapperDescriptorType)


def _check_named(parts: Mapping[str, Any]) -> str | None:
    return None if isinstance(parts.get("__name__"), str) else "it has no name"


def _partial_parts(partial: Any) -> dict[str, Any]:
    parts = {"func": partial.func, "args": partial.args, "keywords": partial.keywords}
    if partial.__dict__:
        parts["__dict__"] = partial.__dict__
    return parts


def _make_partial(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    made = functools.partial.__new__(cls, parts["func"])
    # It takes the dict itself, which is filled later.
    state = (parts["func"], parts["args"], parts["keywords"], parts.get("__dict__"))
    functools.partial.__setstate__(made, state)  # type: ignore[attr-defined]
    return made


def _check_partial(parts: Mapping[str, Any]) -> str | None:
    args, keywords, attributes = parts.get("args"), parts.get("keywords"), parts.get("__dict__")
    fine = (
        _is_callable(parts.get("func"))
        and isinstance(args, SequenceNode)
        and args.type == "tuple"
        and isinstance(keywords, MappingNode)
        and keywords.type == "dict"
        and all(type(key) is str for key, _ in keywords.pairs)
        and (attributes is None or (isinstance(attributes, MappingNode) and attributes.type == "dict"))
    )
    return None if fine else "it has no function, or no arguments"


def _getter_parts(getter: Any) -> dict[str, Any]:
    return {"args": getter.__reduce__()[1]}


def _make_getter(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    return cls(*parts["args"])


def _check_getter(parts: Mapping[str, Any]) -> str | None:
    args = parts.get("args")
    if not (isinstance(args, SequenceNode) and args.type == "tuple" and args.items):
        return "it gets nothing"
    names = [part for item in args.items if isinstance(item, str) for part in item.split(".")]
    return "it gets a special attribute" if any(name.startswith("__") for name in names) else None


def _caller_parts(caller: Any) -> dict[str, Any]:
    make, args = caller.__reduce__()[:2]
    if not isinstance(make, functools.partial):
        return {"args": args}
    return {"args": (*make.args, *args, *itertools.chain(*sorted(make.keywords.items())))}


def _wrapped_parts(method: Any) -> dict[str, Any]:
    return {"__func__": method.__func__}


def _make_wrapped(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    return cls(parts["__func__"])


def _check_wrapped(parts: Mapping[str, Any]) -> str | None:
    return None if _is_callable(parts.get("__func__")) else "it has no function"


# -- views, weak references, patterns -------------------------------------------------------------------------------


def _view_parts(view: Any) -> dict[str, Any]:
    (mapping,) = gc.get_referents(view) or (None,)
    if type(mapping) is not dict:
        # That of a class: its names are the program. Of another mapping Python shows what it may.
        is_class = mapping is None or issubclass(type(mapping), type) or "__module__" in mapping
        return {} if is_class else {"mapping": mapping}
    return {} if "__module__" in mapping and "__doc__" in mapping else {"mapping": mapping}


def _make_view(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    return cls(parts["mapping"])


def _check_view(parts: Mapping[str, Any]) -> str | None:
    return None if isinstance(parts.get("mapping"), MappingNode | Object) else "what it shows is not there"


def _pattern_parts(pattern: Any) -> dict[str, Any]:
    return {"pattern": pattern.pattern, "flags": pattern.flags}


def _make_pattern(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    return re.compile(parts["pattern"], parts["flags"])


def _check_pattern(parts: Mapping[str, Any]) -> str | None:
    pattern, flags = parts.get("pattern"), parts.get("flags")
    text = isinstance(pattern, str) or (isinstance(pattern, Value) and pattern.kind == "bytes")
    return None if text and type(flags) is int else "it has no text"


REFERENT = "referent"


def _weak_parts(weak: Any) -> dict[str, Any]:
    # Nothing in the world need hold it, so the walk looks at it last.
    return {REFERENT: weak()}


def _make_weak(cls: Any, parts: Mapping[str, Any], live: Any) -> Any:
    return cls(parts[REFERENT], live.__callback__ if type(live) is cls else None)


def _check_weak(parts: Mapping[str, Any]) -> str | None:
    node = parts.get(REFERENT)
    return None if isinstance(node, Object | Custom | Value) else "what it refers to is not there"


METHOD = Compound(_method_parts, _make_method, _check_method, callable=True)
_NAMED = Compound(_named_parts, _make_named, _check_named, callable=True)
_PARTIAL = Compound(_partial_parts, _make_partial, _check_partial, callable=True)
_GETTER = Compound(_getter_parts, _make_getter, _check_getter, callable=True, in_place=True)
_CALLER = Compound(_caller_parts, callable=True)
_WRAPPED = Compound(_wrapped_parts, _make_wrapped, _check_wrapped, callable=True)
WEAK = Compound(_weak_parts, _make_weak, _check_weak)

_BY_NAME: dict[str, type] = {_CLOSURE: types.FunctionType}
made_by_name[_CLOSURE] = types.FunctionType
for _cls, _compound in (
    (types.MethodType, METHOD),
    (types.BuiltinFunctionType, _NAMED),
    (types.MethodWrapperType, _NAMED),
    (functools.partial, _PARTIAL),
    (operator.attrgetter, _GETTER),
    (operator.itemgetter, _GETTER),
    (operator.methodcaller, _CALLER),
    (staticmethod, _WRAPPED),
    (classmethod, _WRAPPED),
    (types.MappingProxyType, Compound(_view_parts, _make_view, _check_view)),
    (re.Pattern, Compound(_pattern_parts, _make_pattern, _check_pattern, in_place=True)),
    (weakref.ref, WEAK),
):
    register_compound(_cls, _compound)
    _BY_NAME[class_name(_cls)] = made_by_name[class_name(_cls)] = _cls
for _definition in (*FUNCTIONS, type, types.ModuleType):
    by_reference(_definition)
assert set(METHODS) <= set(_BY_NAME.values())

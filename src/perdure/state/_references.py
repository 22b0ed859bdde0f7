"""Functions, classes and modules as references: how they are recorded by name, recognised and found again.

A reference is a `Value` of kind "function", "class" or "module". Its data is `[name]` where looking the name up gives
this very definition, and `[name, print, ...]` for a lambda or a definition inside a function: the print is that of its
code. Nothing is imported and no attribute hook runs: only dictionaries of modules and classes are looked at. What a
name may be looked up for, `restoring` decides.
"""

from __future__ import annotations

import functools
import operator
import sys
import types
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
import xxhash

from perdure.state import _class_names
from perdure.tree import PLAIN_TYPES, Omitted, Value

KINDS = frozenset({"function", "class", "module"})
MISSING: Any = object()

_MAIN = ("__main__", "__mp_main__")
_MODULE_NAMES: Any = vars(types.ModuleType)["__dict__"]
_CLASS_NAMES: Any = vars(type)["__dict__"]
DESCRIPTORS = (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType)
DISPATCHER: type = type(np.mean)
SCRIPTED: Any = torch.jit.ScriptFunction
FUNCTIONS: tuple[type, ...] = (
    types.FunctionType,
    *DESCRIPTORS,
    functools._lru_cache_wrapper,
    np.ufunc,
    DISPATCHER,
    SCRIPTED,
)
#: Of an object, mostly.
METHODS: tuple[type, ...] = (types.MethodType, types.BuiltinFunctionType, types.MethodWrapperType)
#: Where functions of C are found that do not say it.
_PUBLIC = ("torch", "torch.nn.functional", "numpy", "scipy.special")


def kind_of(value: Any) -> str:
    """The kind of reference by which a live value would be recorded; "" if it is recorded otherwise."""
    cls = type(value)
    if issubclass(cls, type):
        return "class"
    if issubclass(cls, types.ModuleType):
        return "module"
    if cls in METHODS:
        return "function" if _is_named(value) else ""
    return "function" if cls in FUNCTIONS else ""


def _is_named(method: Any) -> bool:
    """Whether a bound method is a function for people: `random.gauss` is a method of a hidden object."""
    holder = method.__self__
    if type(method) is types.BuiltinFunctionType and (
        holder is None or issubclass(type(holder), type | types.ModuleType)
    ):
        return True
    module = getattr(method, "__module__", None)
    if type(module) is not str:
        module = _class_names.module_of(type(holder))
    return _names(sys.modules.get(module)).get(method.__name__, MISSING) is method


# -- from objects to references ------------------------------------------------------------------------------

_MOST_CACHED = 20_000
#: What was recorded for an object (by its id), and the object, which keeps the id valid.
_recorded: dict[int, tuple[Any, Value | Omitted]] = {}


def reference(value: Any) -> Value | Omitted:
    """The reference to a function, a class or a module; definitions of Perdure's own are left out."""
    found = _recorded.get(id(value))
    if found is None:
        if len(_recorded) >= _MOST_CACHED:
            _recorded.clear()
        found = _recorded[id(value)] = (value, _describe(value))
    return found[1]


def _describe(value: Any) -> Value | Omitted:
    kind = kind_of(value)
    if kind == "module":
        return Value(kind, [str(_MODULE_NAMES.__get__(value).get("__name__"))])
    module, qualname = _place(value)
    if module == "perdure" or module.startswith("perdure."):
        return Omitted(f"a {kind} of Perdure")
    name = f"{module}:{qualname}"
    if look_up(name) is value:
        return Value(kind, [name])
    last = qualname.rpartition(".")[2]
    if type(value) is not types.FunctionType:
        for public in (module, *_PUBLIC):
            if _names(sys.modules.get(public)).get(last, MISSING) is value:
                return Value(kind, [f"{public}:{last}"])
    names = _names(sys.modules.get(module))
    alias = next((other for other, each in list(names.items()) if each is value), None)
    return Value(kind, [name, _print(value), *([] if alias is None else [f"{module}:{alias}"])])


def _place(value: Any) -> tuple[str, str]:
    """The module and the qualified name that a definition says it has."""
    if isinstance(value, DESCRIPTORS):
        owner: type = value.__objclass__
        return _class_names.module_of(owner), f"{owner.__qualname__}.{value.__name__}"
    if type(value) is SCRIPTED:
        within, _, name = str(value.qualified_name).removeprefix("__torch__.").rpartition(".")
        return within or "__main__", name
    module: Any = (
        _class_names.module_of(value) if isinstance(value, type) else getattr(value, "__module__", None)
    )
    if type(module) is not str:
        names = getattr(value, "__globals__", None) or {}
        holder = getattr(value, "__self__", None)
        module = names.get("__name__") or getattr(holder, "__name__", None)
        module = module or _class_names.module_of(type(holder))
    qualname = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return str(module), str(qualname)


# -- from references to objects ------------------------------------------------------------------------------


def _names(holder: Any) -> Any:
    """What a module or a class defines, by name, read without its hooks."""
    if issubclass(type(holder), types.ModuleType):
        return _MODULE_NAMES.__get__(holder)
    return _CLASS_NAMES.__get__(holder) if issubclass(type(holder), type) else {}


def look_up(name: str) -> Any:
    """What `module:qualname` means among the modules that are imported already, or MISSING."""
    module, colon, qualname = name.partition(":")
    found: Any = sys.modules.get(module, MISSING)
    for part in qualname.split(".") if colon else ():
        found = _names(found).get(part, MISSING)
        if type(found) in (staticmethod, classmethod):
            found = found.__func__
    return found


def candidates(saved: Value) -> Iterable[str]:
    """The names under which a recorded definition may be found now."""
    names = [str(saved.data[0]), *map(str, saved.data[2:3])]
    for name in names:
        now = _class_names.renamed_name(name)
        yield now
        module, colon, rest = now.partition(":")
        if colon and (module in _MAIN or module not in sys.modules):
            # The script's own module has two names: when it is run, and when it is imported.
            yield from (f"{main}:{rest}" for main in _MAIN if main != module)


def same(saved: Value, live: Any) -> bool:
    """Whether a recorded reference and that to a live object mean the same definition."""
    if not isinstance(live, Value) or saved.kind != live.kind:
        return False
    if saved is live or saved.data == live.data:
        return True
    return _same_name(saved.data[0], live.data[0]) and _same_print(saved.data[1:2], live.data[1:2])


def _same_name(saved: str, live: str) -> bool:
    now = _class_names.renamed_name(saved)
    if now == live:
        return True
    (module, _, qualname), (own, _, present) = now.partition(":"), live.partition(":")
    return qualname == present != "" and module != own and (module in _MAIN or own in _MAIN)


def _same_print(saved: list[str], live: list[str]) -> bool:
    if saved == live:
        return True
    # Each Python has code of its own, so that of another one tells nothing.
    return bool(saved and live) and _python(saved[0]) != _python(live[0])


def _python(text: str) -> str:
    return str(text).partition(" ")[0]


def is_well_formed(saved: Value) -> bool:
    """Whether the data of a reference are such as `reference` makes."""
    data = saved.data
    return type(data) is list and 1 <= len(data) <= 3 and all(type(part) is str for part in data)


def shown(saved: Value) -> str:
    """A reference for people."""
    name = str(saved.data[0]) if is_well_formed(saved) else repr(saved.data)
    module, _, qualname = name.partition(":")
    text = f"{module}.{qualname}" if qualname and module not in ("builtins", *_MAIN) else qualname or name
    return text[:120]


# -- prints of code --------------------------------------------------------------------------------------------

_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


def _print(value: Any) -> str:
    """A short text that differs where the code of a function or class does; the same in every process."""
    digest = xxhash.xxh3_128()
    if isinstance(value, type):
        for name, each in sorted(_names(value).items(), key=operator.itemgetter(0)):
            inner = each.__func__ if type(each) in (staticmethod, classmethod) else each
            code = inner.__code__ if type(inner) is types.FunctionType else None
            digest.update(f"{name} {type(each).__name__} ".encode())
            _add(digest, code if code is not None else inner if type(inner) in PLAIN_TYPES else None)
    elif type(value) is types.FunctionType:
        _add(digest, value.__code__)
    else:
        digest.update(type(value).__name__.encode())
    return f"{_VERSION} {digest.hexdigest()[:16]}"


def print_of_code(code: types.CodeType) -> str:
    """The print of a function that has this code."""
    digest = xxhash.xxh3_128()
    _add(digest, code)
    return f"{_VERSION} {digest.hexdigest()[:16]}"


def _add(digest: Any, part: Any) -> None:
    if isinstance(part, types.CodeType):
        digest.update(part.co_code)
        digest.update(
            repr(
                (part.co_names, part.co_varnames, part.co_freevars, part.co_argcount, part.co_flags)
            ).encode()
        )
        for constant in part.co_consts:
            _add(digest, constant)
    elif isinstance(part, tuple):
        digest.update(b"(")
        for each in part:
            _add(digest, each)
        digest.update(b")")
    elif isinstance(part, frozenset):
        # Its order differs from process to process.
        digest.update(repr(sorted(map(repr, part))).encode())
    else:
        digest.update(f"{type(part).__name__} {part!r} ".encode())


# -- what users allow ------------------------------------------------------------------------------------------

_allowed: list[Any] = []


def allow(*definitions: Any) -> None:
    """Say that a checkpoint may put these functions, classes and modules wherever a run had put them.

    Without it, a checkpoint only puts a function or a class where the script has one already, and only a definition
    of the script's own modules, or of the module of the one that the script has there. Call it before the run is
    resumed.

    :param definitions: functions (of a class's methods too), classes, modules.
    :raises TypeError: if one is something else.

    Example::

        perdure.allow(torch.tanh, rewards.sparse)
    """
    for each in definitions:
        if isinstance(each, types.MethodType):
            each = each.__func__
        if not kind_of(each):
            raise TypeError(f"perdure.allow: expected a function, a class or a module, found {each!r:.80}")
        if not any(each is other for other in _allowed):
            _allowed.append(each)


def allowed(saved: Value) -> Any:
    """The allowed definition that a reference means, or MISSING."""
    return next((each for each in _allowed if same(saved, reference(each))), MISSING)

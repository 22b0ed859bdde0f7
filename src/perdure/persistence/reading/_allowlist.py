"""What the names in a policy file may stand for: classes and functions that the user or the live policy allows.

Decides only; it reads no files. A name is looked up among the modules that were imported already, and in their
dictionaries: a file imports nothing, and no module's or class's hook for missing attributes runs.
"""

from __future__ import annotations

import array
import collections
import decimal
import io
import operator
import pkgutil
import random
import sys
import types
import uuid
from collections.abc import Callable, Iterable
from enum import EnumType
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.serialization import get_safe_globals

from perdure.errors import RestoreError
from perdure.persistence._pickling import LenientPickler
from perdure.persistence.reading._pickle_steps import Name, names_in

Trusted: TypeAlias = type | ModuleType | Callable[..., Any] | str
"""A class or function, its dotted name, or a package (which means every class defined in it)."""


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT: Any = _Absent()
_DEEPEST_NAME = 10


class Names:
    """Finds what a name may stand for.

    :param trust: what the user allows.
    :param live: the policy that is restored into, whose classes are allowed too; None where there is none. Functions
        that only it allows are replaced by one that cannot be run, as restoring runs methods of the policy.
    """

    def __init__(self, trust: Trust, live: torch.nn.Module | None) -> None:
        self._trust = trust
        self._live = set() if live is None else names_of(live)
        self._found: dict[Name, Any] = {}

    def find(self, what: Name) -> Any:
        """The object that this name stands for, or ABSENT."""
        if what not in self._found:
            self._found[what] = self._find(what)
        return self._found[what]

    def _find(self, what: Name) -> Any:
        constant = _CONSTANTS.get(what.dotted, ABSENT)
        if constant is not ABSENT:
            return constant
        found = self._trust.find(what)
        if found is not None:
            return found
        if what in self._live:
            found = look_up(what)
            if isinstance(found, type):
                return found
            if isinstance(type(found), EnumType):
                return found
            return not_run if callable(found) else ABSENT
        return self._member(what)

    def _member(self, what: Name) -> Any:
        """The member of an enumeration that is allowed."""
        owner, _, name = what.name.rpartition(".")
        if not owner or owner.count(".") > _DEEPEST_NAME:
            return ABSENT
        cls = self.find(Name(what.module, owner))
        if isinstance(cls, EnumType):
            return type.__dict__["__dict__"].__get__(cls)["_member_map_"].get(name, ABSENT)
        return ABSENT

    @property
    def runs_methods(self) -> bool:
        """Whether methods of what is made are going to run, because it is restored into a live policy."""
        return bool(self._live)


class Everything(Names):
    """Allows every name, for finding out whether a live policy can be read again once it is written."""

    def __init__(self) -> None:
        super().__init__(Trust(()), None)

    def _find(self, what: Name) -> Any:
        found = super()._find(what)
        if found is ABSENT and (found := look_up(what)) is None:
            return ABSENT
        return found


class Trust:
    """What the user trusts. Only what he names as text is imported here, before any file is read."""

    def __init__(self, trust: Iterable[Trusted]) -> None:
        self.packages: list[str] = []
        self.objects: dict[str, Any] = {}
        if isinstance(trust, str | type | ModuleType) or callable(trust):
            raise TypeError(f"trust takes a list: trust=[{getattr(trust, '__name__', repr(trust))}].")
        for entry in get_safe_globals():
            found = entry[0] if isinstance(entry, tuple) else entry
            self.objects[f"{found.__module__}.{found.__qualname__}"] = found
        for item in trust:
            self._add(item)

    def _add(self, item: Trusted) -> None:
        found: Any = item
        if isinstance(item, str):
            try:
                found = pkgutil.resolve_name(item)
            except (ImportError, AttributeError, ValueError) as error:
                raise ValueError(
                    f"trust names {item!r}, which cannot be imported: {error}. Write 'package.module.Class'; "
                    "a class of another program's main script (__main__) must move to a module both import."
                ) from error
            self.objects[item] = found
        if isinstance(found, ModuleType):
            self.packages.append(found.__name__)
        elif callable(found):
            # By the name that a pickle gives it, wherever it was imported from.
            names = names_of(found)
            self.objects.update({name.dotted: found for name in names if look_up(name) is found})
        elif not isinstance(item, str):
            raise TypeError(f"trust takes classes, functions, packages and their dotted names, not {item!r}.")

    def find(self, what: Name) -> Any:
        """The object of this name if it is trusted, else None."""
        if what.dotted in self.objects:
            return self.objects[what.dotted]
        if what.module == "__main__":
            # A class of the script that wrote the file, which the user imported from that script's module.
            same = [
                each
                for each in self.objects.values()
                if isinstance(each, type) and each.__qualname__ == what.name
            ]
            return same[0] if len(same) == 1 else None
        if not self._in_packages(what.module):
            return None
        found = look_up(what)
        return found if isinstance(found, type) and self._in_packages(found.__module__) else None

    def _in_packages(self, module: str) -> bool:
        return any(module == package or module.startswith(f"{package}.") for package in self.packages)


def names_of(obj: Any) -> set[Name]:
    """The names in the pickle of a live object; what cannot be pickled in it is left out."""
    file = io.BytesIO()
    LenientPickler(file, protocol=2).dump(obj)
    return names_in(file.getvalue())


def look_up(what: Name) -> Any:
    """The object of this name if its module was imported and has it in its dictionary, else None."""
    found: Any = sys.modules.get(what.module)
    for part in what.name.split("."):
        if isinstance(found, type):
            classes = type.__dict__["__mro__"].__get__(found)
            attributes = (type.__dict__["__dict__"].__get__(each) for each in classes)
            found = next((each[part] for each in attributes if part in each), None)
        elif isinstance(found, ModuleType):
            # Not `vars`: a module that loads itself when it is asked would do so.
            found = object.__getattribute__(found, "__dict__").get(part)
        else:
            return None
    return found


def method_of(cls: type, name: str, owner: Any) -> Callable[..., Any] | None:
    """The method of this name that a class or its bases define, as `owner` (class or object) has it."""
    found = next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)
    if isinstance(found, classmethod) and isinstance(found.__func__, types.FunctionType):
        return types.MethodType(found.__func__, cls)
    if isinstance(found, staticmethod) and isinstance(found.__func__, types.FunctionType):
        return found.__func__
    if isinstance(found, types.FunctionType):
        return found if owner is cls else types.MethodType(found, owner)
    if cls in _WITH_METHODS and found is not None and type(found) in _IN_C:
        return found.__get__(owner, cls)  # type: ignore[no-any-return]
    return None


#: Classes whose methods in C may be bound, if they are trusted.
_WITH_METHODS = (
    *(
        list,
        dict,
        set,
        collections.OrderedDict,
        collections.defaultdict,
        collections.deque,
        collections.Counter,
    ),
    *(random.Random, np.random.RandomState, np.random.Generator, torch.Tensor),
)
_IN_C = (types.MethodDescriptorType, type(np.random.RandomState.rand))


def not_run(*args: Any, **kwargs: Any) -> Any:
    """Stands for a function that only the live policy allows; restoring does not run it."""
    raise RestoreError(
        "this policy's state_dict() calls a function loaded from a file, which restoring does not run."
        " Pass the function in trust=[...], or use PolicyPersistence.Mode.POLICY_STATE_DICT."
    )


def _named(*classes: type) -> dict[str, Any]:
    return {f"{cls.__module__}.{cls.__qualname__}": cls for cls in classes}


def _scalars(cls: type) -> list[type]:
    derived: list[type] = cls.__subclasses__()
    return [cls, *(found for each in derived for found in _scalars(each))]


_BUILTIN = (
    *(dict, list, tuple, set, frozenset, int, float, bool, str, bytes, complex),
    *(object, slice, range, bytearray, type(None)),
    *(collections.OrderedDict, collections.defaultdict, collections.deque, collections.Counter),
    *(decimal.Clamped, decimal.DivisionByZero, decimal.FloatOperation, decimal.Inexact),
    *(decimal.InvalidOperation, decimal.Overflow, decimal.Rounded, decimal.Subnormal, decimal.Underflow),
    *(uuid.UUID, array.array),
)
BIT_GENERATORS = (
    np.random.MT19937,
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.Philox,
    np.random.SFC64,
)
#: What every file may name: plain values, and classes whose objects are plain data.
_CONSTANTS: dict[str, Any] = {
    **_named(*_BUILTIN, *BIT_GENERATORS, *(cls for cls in _scalars(np.generic) if cls.__module__ == "numpy")),
    **_named(np.ndarray, np.dtype, np.random.SeedSequence, np.random.Generator, np.random.RandomState),
    **_named(torch.Tensor, torch.nn.Parameter, torch.Size, torch.device),
    "numpy.random._mt19937.MT19937": np.random.MT19937,
    "builtins.Ellipsis": ...,
    "_operator.or_": operator.or_,
    "operator.or_": operator.or_,
    "builtins.NotImplemented": NotImplemented,
    **{
        f"torch.{name}": value
        for name, value in vars(torch).items()
        if isinstance(value, torch.dtype | torch.layout | torch.memory_format | torch.qscheme)
    },
}

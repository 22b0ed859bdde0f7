"""What a file with a pickle in it may use: the user's trust, the live policy's classes, harmless helpers.

Decides only; it reads no files. Nothing is imported because a file names it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from enum import EnumType
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from perdure.errors import RestoreError
from perdure.persistence._pickle_scan import How, Name, Use
from perdure.persistence._pickling import uses_of

Trusted: TypeAlias = type | ModuleType | Callable[..., Any] | str
"""A class or function, its dotted name, or a package (which means every class defined in it)."""


class Allowed:
    """Decides name by name; `entries` collects what torch is to be told, as its `safe_globals` takes it.

    :param live: what the pickle of the policy does that is restored into; nothing where there is none.
    """

    def __init__(self, live: set[Use], trusted: Trust) -> None:
        self.live, self.trusted = live, trusted
        self.entries: list[tuple[Any, str]] = [
            (kind, f"{kind.__module__}.{kind.__name__}") for kind in _BUILT
        ]

    def add(self, what: Name, hows: set[How]) -> bool:
        """Allow `what` to be used so, or return False."""
        found = self.trusted.find(what)
        if found is np.dtype and what.dotted != "numpy.dtype":
            return False  # under another name, its state would go unchecked
        if found is None and what.dotted in _HARMLESS and How.MADE not in hows:
            found = _HARMLESS[what.dotted]
            if found is getattr:
                found = _class_or_member if self.live else getattr
        if found is None and hows <= {How.ATTRIBUTE, How.NAMED} and self._is_member(what):
            return True
        if found is None:
            found = self._from_live(what, hows)
        if found is not None:
            self.entries.append((found, what.dotted))
        return found is not None

    def _from_live(self, what: Name, hows: set[How]) -> Any:
        live_hows = {use.how for use in self.live if use.what == what}
        if not live_hows:
            return None
        found = _look_up(what)
        if isinstance(found, type):
            return found if How.CALLED not in hows or How.CALLED in live_hows else None
        return _not_run if hows <= {How.NAMED, How.ATTRIBUTE} else None

    def _is_member(self, what: Name) -> bool:
        """Whether this is a member of an enumeration that is allowed."""
        owner, _, member = what.name.rpartition(".")
        cls = Name(what.module, owner)
        kind = self.trusted.find(cls)
        if kind is None and any(use.what == cls for use in self.live):
            kind = _look_up(cls)
        return isinstance(kind, EnumType) and member in kind.__members__


class Trust:
    """What the user trusts. Only here is anything imported: what is named or in a named package."""

    def __init__(self, trust: Iterable[Trusted]) -> None:
        self.packages: list[str] = []
        self.objects: dict[str, Any] = {}
        if isinstance(trust, str | type | ModuleType) or callable(trust):
            raise TypeError(f"trust takes a list: trust=[{getattr(trust, '__name__', repr(trust))}].")
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
            names = (
                use.what for use in uses_of(found)
            )  # as a pickle writes it, wherever it was imported from
            self.objects.update({name.dotted: found for name in names if _look_up(name) is found})
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
        try:
            importlib.import_module(what.module)
        except ImportError:
            return None
        found = _look_up(what)
        return found if isinstance(found, type) and self._in_packages(found.__module__) else None

    def _in_packages(self, module: str) -> bool:
        return any(module == package or module.startswith(f"{package}.") for package in self.packages)


def _look_up(what: Name) -> Any:
    """The object of this name, if its module was imported; a file cannot make us import it."""
    found: Any = sys.modules.get(what.module)
    for part in what.name.split("."):
        found = None if found is None else getattr(found, part, None)
    return found


def _class_or_member(owner: Any, name: str) -> Any:
    """In the place of getattr, while restoring into a live policy: gives nothing that could be run."""
    found = owner.__dict__.get(name) if isinstance(owner, type) else None
    if isinstance(owner, EnumType) and name in owner.__members__:
        return owner.__members__[name]
    return found if isinstance(found, type) else _not_run


def _not_run(*args: Any, **kwargs: Any) -> Any:
    raise RestoreError(
        "this policy's state_dict() calls a function loaded from a file, which restoring does not run."
        " Pass the function in trust=[...], or use PolicyPersistence.Mode.POLICY_STATE_DICT."
    )


def _kind_of(value: None) -> type:
    """In the place of type: as pickles write the class of None, and nothing else."""
    return type(value)


def _reducer(obj: Any) -> Any:
    return obj.__reduce__()[0]


# What the helpers below make and the unpickler then sets the state of; no file needs to name them.
_BUILT = [
    *(type(np.dtype(code)) for code in "?bhilqpBHILQPefdgFDGOSUV"),
    np.random.Generator,
    np.random.RandomState,
]
_BIT_GENERATORS = [np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64]
_HARMLESS: dict[str, Any] = {
    "builtins.getattr": getattr,  # the names it leads to are checked one by one
    "builtins.type": _kind_of,
    **{f"builtins.{cls.__name__}": cls for cls in (dict, list, tuple, frozenset, int, float, bool, str)},
    **{f"builtins.{cls.__name__}": cls for cls in (object, slice, range)},
    "collections.defaultdict": defaultdict,
    "collections.deque": deque,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{f"numpy.{core}.multiarray._reconstruct": _reducer(np.zeros(1)) for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _reducer(np.float64()) for core in ("core", "_core")},
    **{f"{cls.__module__}.{cls.__qualname__}": cls for cls in (*_BIT_GENERATORS, np.random.SeedSequence)},
    "numpy.random._pickle.__generator_ctor": _reducer(np.random.Generator(np.random.PCG64(0))),
    "numpy.random._pickle.__bit_generator_ctor": _reducer(np.random.PCG64(0)),
    "numpy.random._pickle.__randomstate_ctor": _reducer(np.random.RandomState(0)),
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence": _reducer(np.random.SeedSequence(0)),
}

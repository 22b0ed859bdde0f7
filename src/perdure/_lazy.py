"""Public names: imported when they are first used, and called after the package that users import them from.

Importing a package so costs nothing, and `repr(perdure.Run)` does not name a private module.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

#: The modules that define classes whose `__module__` names a package.
_definitions: dict[type, str] = {}


def attach(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package.

    :param package: its name.
    :param homes: for each public name the module that defines it; "" for a module of the package by itself.
    """

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not homes[name]:
            return importlib.import_module(f"{package}.{name}")
        found = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        if "._" in getattr(found, "__module__", ""):  # its own package is as lazy as this one
            _publish(found, name, package)
        return found

    return get, lambda: sorted(homes)


def publish(namespace: Mapping[str, Any]) -> None:
    """Set the `__module__` of a package's public classes to the package from which users import them.

    Called at the end of the package. Where a class is public in several packages, the outermost one counts.

    :param namespace: the package's `globals()`.
    """
    for name in namespace["__all__"]:
        if name in namespace:
            _publish(namespace[name], name, namespace["__name__"])


def definition_of(cls: type) -> str | None:
    """The name of the module that defines a class, whatever its `__module__` says; None if it does not say any."""
    return _definitions.get(cls) or getattr(cls, "__module__", None)


def _publish(found: object, name: str, package: str) -> None:
    if isinstance(found, type) and f"{found.__module__}.".startswith(f"{package}."):
        _definitions.setdefault(found, found.__module__)
        found.__module__ = _outermost(package, name)


def _outermost(package: str, name: str) -> str:
    parts = package.split(".")
    above = (".".join(parts[:count]) for count in range(1, len(parts)))
    return next((each for each in above if name in getattr(sys.modules[each], "__all__", ())), package)

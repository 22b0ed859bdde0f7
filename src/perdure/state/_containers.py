"""Python's containers and their recorded names. Knows no states and no files."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

ITEMS: tuple[type, ...] = (list, tuple, set, frozenset, collections.deque)
BUILTIN: dict[type, str] = {
    dict: "dict",
    collections.OrderedDict: "OrderedDict",
    collections.defaultdict: "defaultdict",
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    collections.deque: "deque",
}
#: The name under which a defaultdict's node has its factory, where that is none of these.
FACTORY = "default_factory"
#: The factories with which a defaultdict can be made from a checkpoint alone.
FACTORIES: dict[str, Callable[[], Any]] = {
    "int": int,
    "float": float,
    "list": list,
    "dict": dict,
    "set": set,
    "str": str,
    "bool": bool,
    "deque": collections.deque,
}


def factory_name(factory: Callable[[], Any]) -> str:
    """The recorded name of a defaultdict's factory, "" if only the script has it."""
    return next((name for name, one in FACTORIES.items() if one is factory), "")

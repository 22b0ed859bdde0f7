"""The attributes of an object, read from its `__dict__` and its slots without running descriptors. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from perdure.state._registry import shared_spaces, slots

#: The slots of a class, and the spaces that its objects share.
_SHAPES: dict[type, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}


def attributes_of(value: Any) -> dict[Any, Any]:
    """All attributes in an object's `__dict__` and slots, and the spaces of its class. No attribute hook of its class
    runs."""
    try:
        found = dict(object.__getattribute__(value, "__dict__"))
    except (AttributeError, TypeError):
        found = {}
    cls = type(value)
    shape = _SHAPES.get(cls)
    if shape is None:
        shape = _SHAPES[cls] = slots(cls), shared_spaces(cls)
    for name, slot in shape[0].items():
        try:
            found[name] = slot.__get__(value)
        except AttributeError:
            continue
    for name, space in shape[1].items():
        found.setdefault(name, space)
    return found

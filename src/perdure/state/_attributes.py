"""The attributes of an object, read from its `__dict__` and its slots without running descriptors. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from perdure.state._registry import shared_spaces, slots

#: The slots of a class, and the spaces that its objects share.
_SHAPES: dict[type, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}


def attributes_of(value: Any) -> dict[Any, Any]:
    """All attributes in an object's `__dict__` and slots, and the spaces of its class. No attribute hook of its class
    runs."""
    if isinstance(value, torch.Tensor):
        return attributes_of_tensor(value)
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


#: Tensors whose attributes are state. Of other classes only the elements are: an attribute says where their memory
#: lies, perhaps.
TENSORS = frozenset({torch.Tensor, torch.nn.Parameter})
#: How the attributes begin that torch's compiler sets on tensors, for its own work in this process.
_COMPILER = "_dynamo"


def attributes_of_tensor(value: torch.Tensor) -> dict[Any, Any]:
    """The attributes that a program, or a library, has set on a tensor."""
    if type(value) not in TENSORS:
        return {}
    found: dict[Any, Any] = object.__getattribute__(value, "__dict__")
    return (
        {name: each for name, each in found.items() if not str(name).startswith(_COMPILER)} if found else {}
    )

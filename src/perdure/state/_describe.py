"""Nodes and live values in a few words, for messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state._references import KINDS, shown
from perdure.state._secret_texts import without_secret_texts
from perdure.state._secrets import is_secret_path
from perdure.tree import Array, Custom, Node, Object, Omitted, SequenceNode, Value

_LONGEST = 100
_LONGEST_TEXT = 4096


def short(name: str) -> str:
    """A recorded class name, shortened for messages."""
    return (name.partition(":")[2] or name)[:_LONGEST]


def describe(value: Any) -> str:
    """A saved node or a live value in a few words."""
    match value:
        case Array():
            return f"{_article(value)} {value.dtype}{list(value.shape)}"
        case Object() | Custom() | SequenceNode() | tree.MappingNode():
            return f"a {short(value.type)}"
        case Value() if value.kind in KINDS:
            return f"the {value.kind} {shown(value)}"
        case Value():
            return f"a {value.kind}"
        case Omitted():
            return f"something left out ({value.reason})"
        case Node():
            return f"a {type(value).__name__}"
        case np.ndarray():
            return f"an array {value.dtype.str}{list(value.shape)}"
        case torch.Tensor():
            kind = "a parameter" if isinstance(value, torch.nn.Parameter) else "a tensor"
            return f"{kind} {str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if isinstance(value, str):
        value = without_secret_texts(value[:_LONGEST_TEXT])[:_LONGEST]
    if type(value) in tree.PLAIN_TYPES:
        text = tree.shown(value)
        return text if len(text) <= 60 else f"{text[:60]}\N{HORIZONTAL ELLIPSIS}"
    return f"a {type(value).__qualname__}"


def describe_at(path: str, value: Any) -> str:
    """A saved node or a live value in a few words, for a message about a path: of a secret nothing is told."""
    text = isinstance(value, str | bytes) or (isinstance(value, Value) and value.kind == "bytes")
    return "a secret" if text and is_secret_path(path) else describe(value)


def _article(node: Array) -> str:
    if "parameter" in node.extra:
        return "a parameter"
    return "a tensor" if node.framework == "torch" else "an array"

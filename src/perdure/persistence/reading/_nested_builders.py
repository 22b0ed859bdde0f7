"""The builders of torch's nested tensors: rows of different lengths in one piece of memory, see `_builders`.

Torch takes it on trust that the rows lie in that memory, so this is checked here. Knows no files.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch

from perdure.persistence.reading._building import ITEM_COST, Builder, Context, expect, whole
from perdure.persistence.reading._classes import NotMadeError, attributes_of, dotted
from perdure.persistence.reading._pickle_steps import MalformedError

_COST = 2_000
JAGGED = "torch.nested._internal.nested_tensor._rebuild_njt"
_JAGGED_CLASS = "torch.nested._internal.nested_tensor.NestedTensor"


def _numbers(context: Context, tensor: Any, dimensions: int) -> Any:
    """The whole numbers in a tensor, none of them negative."""
    plain = expect(tensor, torch.Tensor)
    if (
        plain.dtype is not torch.int64
        or plain.dim() != dimensions
        or plain.device.type != "cpu"
        or not _is_dense(plain)
    ):
        raise MalformedError("has a nested tensor whose rows are not said in whole numbers")
    context.charge(ITEM_COST * plain.numel())
    if plain.numel() and int(plain.min()) < 0:
        raise MalformedError("has a nested tensor with a negative length")
    return plain.tolist()


def _is_dense(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_quantized


def _nested(context: Context, buffer: Any, sizes: Any, strides: Any, offsets: Any) -> torch.Tensor:
    context.charge(_COST)
    memory = expect(buffer, torch.Tensor)
    if memory.dim() != 1 or not _is_dense(memory) or not memory.is_contiguous():
        raise MalformedError("has a nested tensor without memory")
    rows = zip(
        _numbers(context, sizes, 2), _numbers(context, strides, 2), _numbers(context, offsets, 1), strict=True
    )
    for lengths, steps, start in rows:
        end = start + 1 + sum((length - 1) * step for length, step in zip(lengths, steps, strict=True))
        if 0 not in lengths and end > memory.numel():
            raise MalformedError("has a nested tensor that is larger than its data")
    if sizes.shape != strides.shape or sizes.shape[:1] != offsets.shape:
        raise MalformedError("has a nested tensor whose rows have no lengths")
    made: torch.Tensor = torch._nested_view_from_buffer(memory, sizes, strides, offsets)
    return made


def _jagged(context: Context, about: Any) -> torch.Tensor:
    context.charge(_COST)
    cls: Any = getattr(sys.modules.get(_JAGGED_CLASS.rpartition(".")[0]), "NestedTensor", None)
    if cls is None:
        raise NotMadeError(
            _JAGGED_CLASS, "it is not imported. Import torch.nested._internal.nested_tensor first"
        )
    said = expect(about, dict)
    values, lengths, at = (
        expect(said["values"], torch.Tensor),
        said["lengths"],
        whole(said["_ragged_idx"], 64),
    )
    if not _is_dense(values) or not 1 <= at <= values.dim():
        raise MalformedError("has a jagged tensor without memory")
    offsets = _numbers(context, said["offsets"], 1)
    rows = (
        [end - start for start, end in itertools.pairwise(offsets)]
        if lengths is None
        else _numbers(context, lengths, 1)
    )
    ends = [start + length for start, length in zip(offsets, rows, strict=False)]
    if (
        len(rows) + 1 != len(offsets)
        or min(rows, default=0) < 0
        or max(ends, default=0) > values.shape[at - 1]
    ):
        raise MalformedError("has a jagged tensor whose rows do not lie in its data")
    known = _longest_and_shortest(expect(said["_metadata_cache"], dict), rows)
    gradient = expect(said["requires_grad"], bool)
    made: torch.Tensor = cls(values, said["offsets"], lengths=lengths, _ragged_idx=at, requires_grad=gradient)
    attributes_of(made)["_metadata_cache"] = known
    return made


def _longest_and_shortest(said: dict[str, Any], rows: list[int]) -> dict[str, Any]:
    """What is noted of the rows: tensors without elements, with the length as their first dimension."""
    true = {"min_seqlen": min(rows, default=0), "max_seqlen": max(rows, default=0)}
    for name, noted in said.items():
        shape = tuple(expect(noted, torch.Tensor).shape)
        if name not in true or shape != (true[name], 0):
            raise MalformedError("has a jagged tensor that says something else of its rows than is true")
    return dict(said)


def give_attributes(made: torch.Tensor, state: Any) -> dict[str, Any]:
    """The attributes in a state that a jagged tensor does not have yet; the others must be those it has."""
    own = attributes_of(made)
    left = {}
    for name, value in expect(state, dict).items():
        if name not in own:
            left[name] = value
        elif own[name] is not value and not (type(value) in (int, set, dict) and own[name] == value):
            raise NotMadeError(dotted(type(made)), f"the file gives it another {name!r:.40}")
    return left


NESTED_BUILDERS: dict[str, Builder] = {
    "torch._utils._rebuild_nested_tensor": Builder(_nested),
    JAGGED: Builder(_jagged),
}

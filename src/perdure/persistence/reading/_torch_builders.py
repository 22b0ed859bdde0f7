"""The builders of torch's tensors, of what describes them, and of compiled modules. Knows no files."""

from __future__ import annotations

import functools
from collections import OrderedDict
from typing import Any

import torch

from perdure.persistence.reading._building import (
    GENERATOR_COST,
    ITEM_COST,
    Builder,
    Context,
    expect,
    handler,
    items,
    whole,
)
from perdure.persistence.reading._classes import NotMadeError, dotted, why_not_filled
from perdure.persistence.reading._nested_builders import NESTED_BUILDERS
from perdure.persistence.reading._objects import set_state
from perdure.persistence.reading._pickle_steps import MalformedError
from perdure.persistence.reading._storages import Storage, fits, tensor
from perdure.state import blank

_TENSOR_COST = 600


def _no_hooks(hooks: Any) -> None:
    if hooks is not None and len(expect(hooks, (dict, OrderedDict))) > 0:
        raise MalformedError("has a tensor with hooks, which torch does not keep")


def _set_metadata(made: torch.Tensor, metadata: Any) -> torch.Tensor:
    """That a tensor conjugates or negates what lies in its memory."""
    if metadata is None:
        return made
    for name, value in expect(metadata, dict).items():
        if name not in ("conj", "neg") or (name == "conj" and not made.is_complex()):
            raise MalformedError(f"has a tensor with the property {name!r:.40}")
        expect(value, bool)
    torch._C._set_tensor_metadata(made, metadata)  # type: ignore[attr-defined]
    return made


def _tensor(
    context: Context,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    metadata: Any = None,
) -> torch.Tensor:
    dtype = expect(storage, Storage).dtype
    return _typed_tensor(context, storage, offset, size, stride, requires_grad, hooks, dtype, metadata)


def _typed_tensor(
    context: Context,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> torch.Tensor:
    _no_hooks(hooks)
    context.charge(_TENSOR_COST + ITEM_COST * len(expect(size, (tuple, torch.Size))))
    shape = (offset, size, expect(stride, tuple))
    if expect(dtype, torch.dtype) in QUANTIZED or expect(storage, Storage).dtype in QUANTIZED:
        raise MalformedError("has a quantized tensor without its scale")
    made = _set_metadata(tensor(storage, dtype, *shape), metadata)
    return made.requires_grad_(expect(requires_grad, bool))


QUANTIZED = (torch.qint8, torch.quint8, torch.qint32)


def _quantized_tensor(
    context: Context,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    scheme: Any,
    requires_grad: Any = False,
    hooks: Any = None,
) -> torch.Tensor:
    _no_hooks(hooks)
    context.charge(2 * _TENSOR_COST + ITEM_COST * len(expect(size, (tuple, torch.Size))))
    memory, dtype = expect(storage, Storage).memory, storage.dtype
    if dtype not in QUANTIZED or expect(requires_grad, bool):
        raise MalformedError("has a quantized tensor of another type")
    kind, scales, zeros, *axis = expect(scheme, tuple)
    fits(storage, dtype, offset, size, expect(stride, tuple))
    about = {"dtype": dtype, "device": memory.device}
    # Made without elements, and then given its memory: making it with all of them would take more than is there.
    if kind is torch.per_tensor_affine and not axis:
        made = torch._empty_affine_quantized(
            (0,), scale=float(expect(scales, float)), zero_point=expect(zeros, int), **about
        )
    elif kind is torch.per_channel_affine or kind is torch.per_channel_affine_float_qparams:
        (number,) = axis
        length = size[whole(number, len(size) - 1)]
        for each in (scales, zeros):
            if tuple(expect(each, torch.Tensor).shape) != (length,):
                raise MalformedError("has a quantized tensor whose scales do not fit it")
        empty = tuple(length if each == number else 0 for each in range(max(len(size), 2)))
        made = torch._empty_per_channel_affine_quantized(
            empty, scales=scales, zero_points=zeros, axis=number, **about
        )
    else:
        raise MalformedError("has a quantized tensor of a scheme of its own")
    return made.set_(memory, offset, tuple(size), tuple(stride))


def _meta_tensor(
    context: Context, dtype: Any, size: Any, stride: Any, requires_grad: Any = False
) -> torch.Tensor:
    context.charge(_TENSOR_COST)
    expect(dtype, torch.dtype)
    lengths = [whole(each) for each in expect(size, (tuple, torch.Size))]
    steps = [whole(each) for each in expect(stride, tuple)]
    made = torch.empty_strided(lengths, steps, dtype=dtype, device="meta")
    return made.requires_grad_(expect(requires_grad, bool))


def _sparse_tensor(context: Context, layout: Any, data: Any) -> torch.Tensor:
    context.charge(2 * _TENSOR_COST)
    expect(data, tuple)
    *parts, size = data[:3] if layout is torch.sparse_coo else data
    tensors = [expect(part, torch.Tensor) for part in parts]
    lengths = _size(context, size)
    if layout is torch.sparse_coo:
        indices, values = tensors
        made = torch.sparse_coo_tensor(indices, values, lengths, check_invariants=True)
        return made.coalesce() if data[3:] and data[3] is True else made
    if not any(layout is each for each in _COMPRESSED_LAYOUTS):
        raise MalformedError("has a sparse tensor in a layout of its own")
    compressed, plain, values = tensors
    return torch.sparse_compressed_tensor(
        compressed, plain, values, lengths, layout=layout, check_invariants=True
    )


_COMPRESSED_LAYOUTS = (torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc)


def _parameter(context: Context, data: Any, requires_grad: Any, hooks: Any) -> torch.nn.Parameter:
    _no_hooks(hooks)
    context.charge(_TENSOR_COST)
    return torch.nn.Parameter(expect(data, torch.Tensor), expect(requires_grad, bool))


def as_subclass(made: torch.Tensor, cls: Any) -> torch.Tensor:
    """A tensor as one of an allowed class of tensors; no code of the class runs."""
    if not isinstance(cls, type) or not issubclass(cls, torch.Tensor):
        raise MalformedError("has a tensor of a class that is none of tensors")
    reason = why_not_filled(cls)
    if reason is None and cls.__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        reason = "its tensors act on their own (__torch_dispatch__). Save the policy's state dictionary"
    if reason is not None:
        raise NotMadeError(dotted(cls), reason)
    return torch.Tensor.as_subclass(made, cls)


_TENSOR_DICTS = (
    "tensordict._td.TensorDict",
    "tensordict._lazy.LazyStackedTensorDict",
    "tensordict.tensorclass.NonTensorStack",
)


def _tensor_dict(context: Context, cls: Any, state: Any) -> Any:
    if not isinstance(cls, type) or dotted(cls) not in _TENSOR_DICTS:
        raise NotMadeError(
            "tensordict",
            "it makes a dictionary of tensors of a class of its own. Keep a plain TensorDict in the policy",
        )
    made = blank(cls)
    set_state(made, state, context.charge)
    return made


def _uninitialized(cls: Any, context: Context, requires_grad: Any = True) -> Any:
    """The parameter of a lazy layer that has seen no input yet."""
    context.charge(_TENSOR_COST)
    return cls(requires_grad=expect(requires_grad, bool))


def _results(cls: Any, context: Context, parts: Any, more: Any = None) -> Any:
    """What `max` and its like return."""
    if more is not None and len(expect(more, dict)) > 0:
        raise MalformedError(f"has a torch.return_types.{cls.__name__} with more than its parts")
    return cls(items(context, parts))


def _size(context: Context, lengths: Any) -> torch.Size:
    return torch.Size([whole(each) for each in items(context, lengths, (list, tuple, torch.Size))])


def _device(context: Context, kind: Any, index: Any = None) -> torch.device:
    return (
        torch.device(expect(kind, str))
        if index is None
        else torch.device(expect(kind, str), whole(index, 1 << 15))
    )


def _layout(context: Context, name: Any) -> torch.layout:
    return expect(vars(torch).get(expect(name, str).removeprefix("torch.")), torch.layout)  # type: ignore[no-any-return]


def _torch_generator(context: Context, state: Any, device: Any) -> torch.Generator:
    context.charge(GENERATOR_COST)
    _, _, content = expect(state, tuple)
    if expect(device, torch.device).type != "cpu":
        raise MalformedError("has a random generator of a device")
    return handler(torch.Generator)({"device": "cpu", "state": expect(content, torch.Tensor)})  # type: ignore[no-any-return]


def _module_in(context: Context, module: Any, *context_of_compiling: Any) -> torch.nn.Module:
    """A compiled module counts as the module in it."""
    if not issubclass(type(module), torch.nn.Module):
        raise MalformedError("has a compiled module without a module in it")
    return module  # type: ignore[no-any-return]


# -- the table -----------------------------------------------------------------------------------------------

FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
"""Calls its first argument with the third, and gives the fourth as attributes; that is followed without calling it."""
COMPILED = "torch._dynamo.eval_frame.OptimizedModule"

TORCH_BUILDERS: dict[str, Builder] = {
    **NESTED_BUILDERS,
    "torch._utils._rebuild_tensor": Builder(_tensor),
    "torch._utils._rebuild_tensor_v2": Builder(_tensor),
    "torch._utils._rebuild_tensor_v3": Builder(_typed_tensor),
    "torch._utils._rebuild_qtensor": Builder(_quantized_tensor),
    "torch._utils._rebuild_meta_tensor_no_storage": Builder(_meta_tensor),
    "torch._utils._rebuild_sparse_tensor": Builder(_sparse_tensor),
    "torch._utils._rebuild_parameter": Builder(_parameter),
    **{
        f"torch.nn.parameter.{cls.__name__}": Builder(functools.partial(_uninitialized, cls))
        for cls in (torch.nn.parameter.UninitializedParameter, torch.nn.parameter.UninitializedBuffer)
    },
    "torch.Size": Builder(_size),
    "torch.device": Builder(_device),
    "torch.serialization._get_layout": Builder(_layout),
    "torch._C.Generator": Builder(_torch_generator, "needed"),
    **{
        f"torch.return_types.{name}": Builder(functools.partial(_results, cls))
        for name, cls in vars(torch.return_types).items()
        if isinstance(cls, type)
    },
    "tensordict._reductions._make_td": Builder(_tensor_dict),
    COMPILED: Builder(_module_in),
}
#: These give their last argument as attributes to what the function of the other name makes of the others.
WITH_ATTRIBUTES = {"torch._utils._rebuild_parameter_with_state": "torch._utils._rebuild_parameter"}

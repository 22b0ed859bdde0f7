"""The nodes of live arrays and tensors. Knows no containers and no files."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state._class_names import in_code
from perdure.state._registry import known
from perdure.state._values import Unsupported
from perdure.tree import Array, Path

_DTYPE_NAMES = {dtype: name for name, dtype in tree.TORCH_DTYPES.items()}
#: The axes in their own order, for each number of them.
_AXES = [tuple(range(count)) for count in range(65)]


def of_numpy(value: np.ndarray[Any, Any], path: Path) -> Array:
    """The node of an array, which it refers to.

    :raises Unsupported: if its elements hold Python objects.
    :raises ValueError: if its dtype has no notation.
    """
    if value.dtype.hasobject:
        raise Unsupported(
            f"it is an array of {value.dtype}, whose fields hold Python objects. Keep each field as an array"
        )
    shape = value.shape
    flat = value.flags.c_contiguous
    order = _AXES[len(shape)] if flat else tree.memory_order(shape, value.strides)
    memory = (value.__array_interface__["data"][0], value.nbytes), flat
    return Array("numpy", tree.numpy_notation(value.dtype), shape, order, value, None, path, memory)


def of_tensor(value: torch.Tensor, path: Path) -> Array:
    """The node of a tensor, which it refers to; without its gradient.

    :raises Unsupported: if it has no notation.
    """
    cls = type(value)
    if cls is not torch.Tensor and cls is not torch.nn.Parameter and not known(cls).tensor:
        raise Unsupported(_subclass(value))
    # Every attribute of a tensor goes through torch's dispatcher, so the plain case reads as few as possible.
    plain = value.is_cpu and value.layout is torch.strided
    if not plain and (value.layout is not torch.strided or value.is_quantized or value.device.type == "meta"):
        raise Unsupported(_layout(value))
    name = _DTYPE_NAMES.get(value.dtype)
    if name is None:
        raise Unsupported(_dtype(value))
    try:
        shape = value.shape
    except RuntimeError:
        raise Unsupported(_NESTED) from None
    if len(shape) >= len(_AXES):
        raise Unsupported(f"tensors of {len(shape)} dimensions are not supported")
    extra: dict[str, Any] = {}
    if not plain:
        extra["device"] = str(value.device)
    if cls is torch.nn.Parameter:
        extra["parameter"] = True
    if value.requires_grad and value.is_leaf:
        extra["requires_grad"] = True
    # The memory of a lazy conjugate holds other numbers than the tensor has.
    lazy = value.is_neg() or (name[0] == "c" and value.is_conj())
    data = value.resolve_conj().resolve_neg() if lazy else value
    flat = data.is_contiguous()
    order = _AXES[len(shape)] if flat else tree.memory_order(shape, data.stride())
    return Array("torch", name, shape, order, data, extra, path, ((data.data_ptr(), data.nbytes), flat))


_NESTED = "it is a nested tensor. Keep the tensors that it is made of: list(tensor.unbind())"
_SPARSE = {
    torch.sparse_coo: "tensor.coalesce().indices() and tensor.coalesce().values()",
    torch.sparse_csr: "tensor.crow_indices(), tensor.col_indices() and tensor.values()",
    torch.sparse_bsr: "tensor.crow_indices(), tensor.col_indices() and tensor.values()",
    torch.sparse_csc: "tensor.ccol_indices(), tensor.row_indices() and tensor.values()",
    torch.sparse_bsc: "tensor.ccol_indices(), tensor.row_indices() and tensor.values()",
}


def _subclass(value: torch.Tensor) -> str:
    """Why a tensor of a subclass is not captured, and what to do."""
    if value.is_nested:
        return _NESTED
    return (
        "it is of a subclass of torch.Tensor. Keep a plain tensor, tensor.as_subclass(torch.Tensor), or say how it is "
        f"captured: perdure.register({in_code(type(value))}, capture=..., restore=...)"
    )


def _layout(value: torch.Tensor) -> str:
    """Why a tensor of another layout is not captured, and what to do."""
    if value.layout in _SPARSE:
        return f"it is a sparse tensor. Keep its parts, {_SPARSE[value.layout]}, and its shape, or tensor.to_dense()"
    if value.device.type == "meta":
        return "it is on the meta device, where tensors have no content. Make it on another device"
    if value.is_quantized:
        return _dtype(value)
    return f"its layout is {value.layout}. Keep it as a dense tensor, tensor.to_dense()"


def _dtype(value: torch.Tensor) -> str:
    """Why a tensor of another dtype is not captured, and what to do."""
    if value.is_quantized:
        return (
            "it is a quantized tensor. Keep what it is made of: tensor.int_repr(), tensor.q_scale() and "
            "tensor.q_zero_point()"
        )
    return f"its dtype, {value.dtype}, has no notation. Keep its bytes, tensor.view(torch.uint8)"

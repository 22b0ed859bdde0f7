"""Arrays as memory: which of them share it, and how saved bytes get into live arrays. Knows no world and no files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from perdure import tree
from perdure.errors import RestoreError
from perdure.tree import Array

LiveArray: TypeAlias = "np.ndarray[Any, Any] | torch.Tensor"


def address(data: LiveArray) -> int:
    """Where the first element lies."""
    if isinstance(data, torch.Tensor):
        return data.data_ptr()
    return int(data.__array_interface__["data"][0])


def byte_strides(data: LiveArray) -> tuple[int, ...]:
    """The strides of an array, in bytes."""
    if isinstance(data, torch.Tensor):
        return tuple(stride * data.element_size() for stride in data.stride())
    return data.strides


def extent(data: LiveArray) -> tuple[str, int, int, bool]:
    """Device, first and last byte (exclusive) of an array, and whether it fills everything in between without gaps or
    overlaps."""
    start = address(data)
    # The common cases first: this runs for every array of every checkpoint.
    if isinstance(data, np.ndarray):
        if data.flags.forc:
            return "cpu", start, start + data.nbytes, True
        device, size = "cpu", data.itemsize
    else:
        device = "cpu" if data.is_cpu else str(data.device)
        if data.is_contiguous():
            return device, start, start + data.nbytes, True
        size = data.element_size()
    reach = [stride * (n - 1) for stride, n in zip(byte_strides(data), data.shape, strict=True)]
    low, high = sum(way for way in reach if way < 0), sum(way for way in reach if way > 0) + size
    dense = low == 0 and high == size * _count(data) and not has_internal_overlap(data)
    return device, start + low, start + high, dense


def _count(data: LiveArray) -> int:
    return data.numel() if isinstance(data, torch.Tensor) else data.size


def has_internal_overlap(data: LiveArray) -> bool:
    """Whether two elements of an array may share memory, as in an array expanded by strides of 0."""
    reach = data.element_size() if isinstance(data, torch.Tensor) else data.itemsize
    if 0 in data.shape:
        return False
    strides = ((abs(stride), n) for stride, n in zip(byte_strides(data), data.shape, strict=True) if n > 1)
    for stride, n in sorted(strides):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False


# -- arrays that share memory --------------------------------------------------------------------------------

_MOST_COMPARED = 64
_MOST_WORK = 10_000


def overlapping(arrays: Sequence[LiveArray]) -> Iterator[list[int]]:
    """Groups of arrays (as positions) whose extents overlap; an array that contains the others comes first."""
    placed = []
    for position, data in enumerate(arrays):
        device, start, end, dense = extent(data)
        placed.append((device, start, -end, not dense, position))
    placed.sort()
    if not any(a[0] == b[0] and b[1] < -a[2] for a, b in itertools.pairwise(placed)):
        return
    group: list[int] = []
    last_device, last_end = "", 0
    for device, start, negative_end, _, position in placed:
        if device != last_device or start >= last_end:
            if len(group) > 1:
                yield group
            group, last_end = [], 0
        group.append(position)
        last_device, last_end = device, max(last_end, -negative_end)
    if len(group) > 1:
        yield group


def share(a: LiveArray, b: LiveArray) -> bool:
    """Whether two arrays share a byte. Where the exact answer takes too long, True if they may."""
    device, start, end, dense = extent(a)
    other_device, other_start, other_end, other_dense = extent(b)
    if device != other_device or start >= other_end or other_start >= end:
        return False
    if (dense and other_dense) or device != "cpu":
        return True
    try:
        return np.shares_memory(_mask(a), _mask(b), max_work=_MOST_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


class _Interface:
    def __init__(self, data: LiveArray) -> None:
        size = data.element_size() if isinstance(data, torch.Tensor) else data.itemsize
        self.__array_interface__ = {
            "data": (address(data), True),
            "shape": tuple(data.shape),
            "strides": byte_strides(data),
            "typestr": f"|V{size}",
            "version": 3,
        }


def _mask(data: LiveArray) -> np.ndarray[Any, Any]:
    """The same memory as untyped elements: NumPy has no bfloat16."""
    return np.asarray(_Interface(data))


def whole(arrays: Sequence[LiveArray], start: int, end: int) -> LiveArray | None:
    """The memory from `start` to `end` as bytes, taken from the first array whose memory contains it; None if there is
    none."""
    for data in arrays:
        if isinstance(data, torch.Tensor):
            storage = data.untyped_storage()
            first = storage.data_ptr()
            if first <= start and end <= first + storage.nbytes():
                as_bytes = torch.empty(0, dtype=torch.uint8, device=data.device)
                return as_bytes.set_(storage, start - first, (end - start,), (1,))
            continue
        owner = data
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        _, first, last, dense = extent(owner)
        if dense and first <= start and end <= last and not owner.dtype.hasobject:
            order = tree.memory_order(owner.shape, owner.strides)
            return owner.transpose(order).reshape(-1).view(np.uint8)[start - first : end - first]
    return None


def find_views(nodes: Sequence[Array]) -> list[Array]:
    """Turn every array that shares memory with another captured one into a view.

    Its base is the array that contains it, or, where no array contains all of them, the memory that they have in
    common.

    :returns: the arrays that were made for such memory.
    """
    made: list[Array] = []
    nodes = [node for node in nodes if 0 not in node.shape]
    # Usually none overlap. Addresses of several devices may overlap by chance.
    if not _overlap([_span(node) for node in nodes]):
        return made
    # Among arrays of the same extent the owner of the memory comes first, and becomes the base.
    nodes = sorted(nodes, key=_owns, reverse=True)
    arrays: list[LiveArray] = [node.data for node in nodes]  # type: ignore[misc]
    for group in overlapping(arrays):
        members = [nodes[position] for position in group]
        data = [arrays[position] for position in group]
        _, start, end, dense = extent(data[0])
        last = max(extent(each)[2] for each in data)
        if dense and last <= end:
            _make_views(members[1:], members[0], start)
            continue
        if len(data) <= _MOST_COMPARED:
            pairs = ((a, b) for i, a in enumerate(data) for b in data[:i])
            if not any(share(a, b) for a, b in pairs):
                continue
        memory = whole(data, start, last)
        if memory is not None:
            library, dtype = ("torch", "uint8") if isinstance(memory, torch.Tensor) else ("numpy", "|u1")
            name = f"memory of {members[0].name}"
            base = Array(library, dtype, (last - start,), (0,), memory, {}, name)
            if isinstance(memory, torch.Tensor) and memory.device.type != "cpu":
                base.extra["device"] = str(memory.device)
            made.append(base)
            _make_views(members, base, start)
    return made


def _span(node: Array) -> tuple[int, int]:
    """The first and last byte (exclusive) of a live array."""
    start, nbytes = node.span
    return (start, start + nbytes) if node.flat else extent(node.data)[1:3]  # type: ignore[arg-type]


def _overlap(spans: list[tuple[int, int]]) -> bool:
    spans.sort()
    return any(before[1] > after[0] for before, after in itertools.pairwise(spans))


def _owns(node: Array) -> bool:
    return node.data.base is None if isinstance(node.data, np.ndarray) else "parameter" in node.extra


def _make_views(nodes: Sequence[Array], base: Array, start: int) -> None:
    for node in nodes:
        data: Any = node.data
        offset, strides = address(data) - start, byte_strides(data)
        size = data.element_size() if isinstance(data, torch.Tensor) else 1
        # Only memory that was not made for tensors is aligned differently, and no tensor could be made there again.
        if offset % size == 0 and all(stride % size == 0 for stride in strides):
            node.base, node.offset, node.strides = base, offset, strides


# -- from nodes to live arrays -------------------------------------------------------------------------------


def fits(node: Array, live: Any) -> bool:
    """Whether an array's bytes can be written into a live one; for a view, whether they can lie there."""
    if node.framework == "torch":
        return (
            isinstance(live, torch.Tensor)
            and tuple(live.shape) == node.shape
            and str(live.dtype) == f"torch.{node.dtype}"
            and live.layout is torch.strided
            and live.device.type != "meta"
            and isinstance(live, torch.nn.Parameter) == ("parameter" in node.extra)
            and (live.is_leaf or not live.requires_grad)
            and not (live.is_inference() or live.is_conj() or live.is_neg())
            and (node.base is not None or not has_internal_overlap(live))
        )
    return (
        type(live) in (np.ndarray, np.memmap)
        and live.shape == node.shape
        and live.dtype == tree.numpy_dtype(node.dtype)
        and (node.base is not None or (live.flags.writeable and not has_internal_overlap(live)))
    )


def peculiarity(live: Any) -> str:
    """What keeps bytes from being written into a live array, beside its shape and its type; "" if nothing does."""
    if isinstance(live, np.ndarray):
        if not live.flags.writeable:
            return " that is read-only"
        return " whose elements share memory" if has_internal_overlap(live) else ""
    if not isinstance(live, torch.Tensor):
        return ""
    if live.layout is not torch.strided or live.device.type == "meta":
        return f" of layout {live.layout} on {live.device}"
    if live.requires_grad and not live.is_leaf:
        return " that was computed from others and leads a gradient to them"
    if live.is_inference():
        return " of the inference mode"
    if live.is_conj() or live.is_neg():
        return " that is another one's conjugate or negative"
    return " whose elements share memory" if has_internal_overlap(live) else ""


def with_own_axes(node: Array, content: LiveArray) -> LiveArray:
    """A node's elements, given in memory order, with its axes in their own order; nothing is copied."""
    inverse = tuple(sorted(range(len(node.order)), key=lambda axis: node.order[axis]))
    return content.permute(inverse) if isinstance(content, torch.Tensor) else content.transpose(inverse)


def adopt(node: Array, content: LiveArray) -> Any:
    """The array of a node, made of memory that holds its elements in memory order."""
    if isinstance(content, np.ndarray):
        return with_own_axes(node, content)
    tensor: Any = with_own_axes(node, content.to(_device(node)))
    return torch.nn.Parameter(tensor, requires_grad=False) if "parameter" in node.extra else tensor


def _device(node: Array) -> torch.device:
    device = torch.device(node.extra.get("device", "cpu"))
    if device.type == "cpu":
        return device
    module = getattr(torch, device.type, None)
    if module is None or not module.is_available():
        return torch.device("cpu")
    # With fewer devices than when it was saved, the current one of the same kind.
    return device if (device.index or 0) < module.device_count() else torch.device(device.type)


def fill(node: Array, live: Any, content: LiveArray) -> None:
    """Write `content`, a node's elements in memory order, into the live array of that node."""
    if isinstance(live, torch.Tensor):
        live.detach().permute(node.order).copy_(content)  # type: ignore[arg-type]
    else:
        live.transpose(node.order)[...] = content


def content(node: Array) -> LiveArray:
    """A node's own elements as an array in main memory, in memory order."""
    data = node.data
    shape = tuple(node.shape[axis] for axis in node.order)
    if isinstance(data, torch.Tensor):
        return data.detach().resolve_conj().resolve_neg().permute(node.order).cpu()
    if isinstance(data, np.ndarray):
        return data.transpose(node.order)
    made: LiveArray
    if node.framework == "torch":
        made = torch.empty(shape, dtype=tree.TORCH_DTYPES[node.dtype])
    else:
        made = np.empty(shape, tree.numpy_dtype(node.dtype))
    if made.nbytes:
        assert data is not None
        data.read_into(tree.flat(made))
    return made


def lies_at(live: LiveArray, base: LiveArray, node: Array) -> bool:
    """Whether a live array is the view of `base` that a node describes."""
    device, start, _, _ = extent(base)
    at = extent(live)[0] == device and address(live) == start + node.offset
    ways = zip(byte_strides(live), node.strides, node.shape, strict=True)
    return at and all(ours == saved or n == 1 for ours, saved, n in ways)


def view_of(base: LiveArray, node: Array) -> Any:
    """A new view of `base`, as a node describes it."""
    if node.framework == "numpy":
        return np.ndarray(
            node.shape,
            tree.numpy_dtype(node.dtype),
            buffer=_bytes_of(base),
            offset=node.offset,
            strides=node.strides,
        )
    dtype = tree.TORCH_DTYPES[node.dtype]
    flat = torch.from_numpy(_bytes_of(base)) if isinstance(base, np.ndarray) else _flat(base.detach())
    if flat.dtype is not dtype:
        flat = flat.view(torch.uint8)
        # A view of another type needs whole elements.
        flat = flat[: flat.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
    strides = [stride // dtype.itemsize for stride in node.strides]
    view = flat.as_strided(node.shape, strides, flat.storage_offset() + node.offset // dtype.itemsize)
    return torch.nn.Parameter(view, requires_grad=False) if "parameter" in node.extra else view


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))


def _bytes_of(base: LiveArray) -> np.ndarray[Any, Any]:
    if isinstance(base, torch.Tensor):
        if base.device.type != "cpu":
            raise RestoreError("a NumPy array cannot be a view of a device's memory")
        as_bytes: np.ndarray[Any, Any] = _flat(base.detach()).view(torch.uint8).numpy()
        return as_bytes
    order = tree.memory_order(base.shape, base.strides)
    return base.transpose(order).reshape(-1).view(np.uint8)

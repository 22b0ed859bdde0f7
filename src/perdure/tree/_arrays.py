"""The bytes of a tree's arrays: how dtypes are named, and how an array becomes flat bytes. Knows no files."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from perdure.errors import DamagedError
from perdure.tree._nodes import Array, Content, Staged

TORCH_DTYPES: dict[str, torch.dtype] = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint16,
        torch.uint32,
        torch.uint64,
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.complex64,
        torch.complex128,
    )
}
_SAFETENSORS = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


def numpy_notation(dtype: np.dtype[Any]) -> Any:
    """A NumPy dtype without Python objects in the notation of a document: a string, or a list of fields.

    :raises ValueError: if there is no notation for it: overlapping fields, or an array as element.
    """
    if dtype.names is None:
        if dtype.subdtype is not None:
            raise ValueError(f"the dtype {dtype} is an array by itself")
        return dtype.str
    notation = _listed(dtype.descr)
    if numpy_dtype(notation) != dtype:
        raise ValueError(f"the dtype {dtype} has no notation that stands for it")
    return notation


def _listed(notation: Any) -> Any:
    return [_listed(part) for part in notation] if isinstance(notation, list | tuple) else notation


def numpy_dtype(notation: Any) -> np.dtype[Any]:
    """The NumPy dtype that a document's notation stands for.

    :raises DamagedError: if it stands for none, or for one that holds Python objects.
    """
    try:
        if isinstance(notation, str):
            dtype = np.dtype(_one(notation))
        else:
            dtype = np.lib.format.descr_to_dtype(_fields(notation))
    except (TypeError, ValueError, SyntaxError, OverflowError, MemoryError) as error:
        raise DamagedError(
            f"expected the notation of a NumPy dtype, found {brief(notation)}: {error}"
        ) from None
    if dtype.hasobject or dtype.subdtype is not None:
        raise DamagedError(f"arrays of the dtype {brief(notation)} cannot be stored as bytes")
    return dtype


#: One type, as NumPy writes it: nothing that NumPy would compile.
_ONE = re.compile(r"[<>=|]?[A-Za-z][A-Za-z0-9_]*(\[[A-Za-z0-9]+\])?")


def _one(notation: str) -> str:
    if not _ONE.fullmatch(notation):
        raise ValueError("expected the notation of one type")
    return notation


def _fields(notation: Any, depth: int = 0) -> Any:
    # JSON has no tuples, and NumPy's notation of structured dtypes needs them.
    if isinstance(notation, str):
        return _one(notation)
    if not isinstance(notation, list) or depth > 16:
        raise ValueError("expected a list of fields")
    fields = []
    for name, form, *shape in notation:
        titled = tuple(name) if isinstance(name, list) else name
        fields.append((titled, _fields(form, depth + 1), *(tuple(lengths) for lengths in shape)))
    return fields


def brief(found: Any) -> str:
    """A part of a document, for messages; it may be nested deeper than `repr` can go."""
    return f"{found!r:.200}" if isinstance(found, str | int | float | None) else f"a {type(found).__name__}"


def itemsize(array: Array) -> int:
    """Bytes per element.

    :raises DamagedError: if the dtype is unknown.
    """
    if array.framework == "torch":
        dtype = TORCH_DTYPES.get(array.dtype) if isinstance(array.dtype, str) else None
        if dtype is None:
            raise DamagedError(f"expected the name of a torch dtype, found {brief(array.dtype)}")
        return dtype.itemsize
    return numpy_dtype(array.dtype).itemsize


def memory_order(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """The axes from the slowest to the fastest in memory."""
    # The plain cases first: this runs for every array of every checkpoint.
    if len(shape) < 2:
        return tuple(range(len(shape)))
    return tuple(sorted(range(len(shape)), key=lambda axis: (-abs(strides[axis]), axis)))


def flat_bytes(data: np.ndarray[Any, Any] | torch.Tensor, order: tuple[int, ...]) -> memoryview:
    """The bytes of a live array in its physical layout; without a copy if they lie together in main memory."""
    if isinstance(data, torch.Tensor):
        tensor = data.detach().resolve_conj().resolve_neg().permute(order).cpu().contiguous()
        return flat(tensor)
    array = np.ascontiguousarray(data.transpose(order))
    return flat(array)


def flat(data: np.ndarray[Any, Any] | torch.Tensor) -> memoryview:
    """The memory of a contiguous array in main memory."""
    if isinstance(data, torch.Tensor):
        # Not `reshape` and `view`: an axis of length one may have any stride, which `reshape` keeps and `view` refuses.
        data = data.as_strided((data.numel(),), (1,)).view(torch.uint8).numpy()
    if data.nbytes == 0:
        return memoryview(b"")
    view: Any = data.reshape(-1).view(np.uint8)
    return memoryview(view)


class Blob:
    """An array as the store sees it: a name, a type and bytes.

    :param content: what gives the bytes; by default the array's own data.
    """

    __slots__ = ("_content", "_order", "dtype", "name", "nbytes", "shape")

    def __init__(self, array: Array, content: Content | None = None) -> None:
        self._content = array.data if content is None else content
        self._order = array.order
        name = array.dtype if array.framework == "torch" else ""
        if array.framework == "numpy" and isinstance(array.dtype, str) and array.dtype[0] in "<|":
            name = np.dtype(array.dtype).name
        #: A path in the state, for people; not necessarily unique.
        self.name = array.name
        #: Its type in the words of safetensors ("F32"); "U8" where it has no word for it.
        self.dtype = _SAFETENSORS.get(name, "U8")
        #: In its physical layout, so that a tool that reads the pack sees the axes as they lie.
        self.shape = tuple(array.shape[axis] for axis in array.order)
        self.nbytes = itemsize(array) * math.prod(array.shape)
        if name not in _SAFETENSORS:
            self.shape = (self.nbytes,)

    @property
    def staged(self) -> Staged | None:
        """The copy of what changed since the array was last stored; None if there is none: then all of it counts."""
        return self._content if isinstance(self._content, Staged) else None

    def buffer(self) -> memoryview:
        """All bytes, flat, in the physical layout."""
        content = self._content
        if isinstance(content, np.ndarray | torch.Tensor):
            return flat_bytes(content, self._order)
        assert content is not None, "a view of another array has no bytes of its own"
        buffer = memoryview(bytearray(content.nbytes))
        content.read_into(buffer)
        return buffer

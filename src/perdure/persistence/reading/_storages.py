"""The memory of a policy file's tensors: its records, each taken once, on the device that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from perdure.persistence.reading._pickle_steps import MalformedError

TDevice: TypeAlias = str | torch.device | dict[str, str] | Callable[[Any, str], Any] | None
"""Where tensors are loaded to: whatever :func:`torch.load` accepts as `map_location`."""

#: The names of torch's classes of storages, and what their elements are.
STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
    "QInt8Storage": torch.qint8,
    "QUInt8Storage": torch.quint8,
    "QInt32Storage": torch.qint32,
}
_MOST_DIMENSIONS = 64


@dataclass(frozen=True)
class Storage:
    """The memory of tensors, and the type of its elements.

    :param checked: what is known of the memory; all storages with it share this.
    """

    memory: torch.UntypedStorage
    dtype: torch.dtype
    checked: set[str] = field(default_factory=set)

    def check_truth(self) -> None:
        """See that the memory can be one of truth values: torch takes it on trust that each is 0 or 1."""
        if "truth" in self.checked:
            return
        content = torch.empty(0, dtype=torch.uint8, device=self.memory.device).set_(self.memory)
        if content.device.type != "meta" and len(content) and int(content.max()) > 1:
            raise MalformedError("has a truth value that is neither true nor false")
        self.checked.add("truth")


class Storages:
    """The records with the data of tensors.

    :param records: by the keys that the pickle gives them.
    :param device: where the data goes.
    """

    def __init__(self, records: Mapping[str, memoryview], device: TDevice) -> None:
        self._records = records
        self._device = device
        self._taken: dict[str, Storage] = {}
        self._themselves: dict[tuple[int, torch.dtype], torch.TypedStorage] = {}

    def itself(self, storage: Storage) -> Any:
        """What a policy gets that keeps the memory of a tensor by itself, as torch gives it."""
        if storage.dtype is torch.bool:
            storage.check_truth()
        key = id(storage.memory), storage.dtype
        if key not in self._themselves:
            about: Any = {"wrap_storage": storage.memory, "dtype": storage.dtype, "_internal": True}
            self._themselves[key] = torch.TypedStorage(**about)  # type: ignore[no-untyped-call]
        return self._themselves[key]

    def take(self, key: str, dtype: torch.dtype, location: str, count: int) -> Storage:
        """The storage with this key, which must have so many elements."""
        record = self._records.get(key)
        if record is None:
            raise MalformedError(f"has a tensor whose data, the record data/{key:.80}, is missing")
        if record.nbytes != count * dtype.itemsize:
            raise MalformedError(f"says that the record data/{key} has {count:,} elements of {dtype}")
        known = self._taken.get(key)
        if known is None:
            known = self._taken[key] = Storage(self._placed(_memory(record), location), dtype)
        return Storage(known.memory, dtype, known.checked)

    def _placed(self, memory: torch.Tensor, location: str) -> torch.UntypedStorage:
        device = self._device
        if callable(device):
            found = device(memory.untyped_storage(), location)
            if found is not None:
                typed = isinstance(found, torch.TypedStorage)
                return found._untyped_storage if typed else found  # type: ignore[no-any-return]
            device = None
        if isinstance(device, dict):
            device = device.get(location, location)
        if device is None:
            device = _device(location)
        return memory.to(device).untyped_storage()


class LiveStorages(Storages):
    """The memory of live tensors themselves; nothing is copied."""

    def __init__(self, live: Mapping[str, torch.UntypedStorage]) -> None:
        super().__init__({}, None)
        self._live = live

    def take(self, key: str, dtype: torch.dtype, location: str, count: int) -> Storage:
        """The storage with this key."""
        return Storage(self._live[key], dtype, {"truth"})


def _device(location: str) -> torch.device:
    try:
        return torch.device(location)
    except RuntimeError as error:
        raise MalformedError(f"has a tensor on {location!r:.40}, which is no device") from error


def _memory(record: memoryview) -> torch.Tensor:
    memory = torch.empty(record.nbytes, dtype=torch.uint8)
    if record.nbytes:
        memory.numpy().data[:] = record
    return memory


def fits(storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> None:
    """See that a tensor lies in a storage as a whole."""
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise MalformedError("has a tensor without a shape")
    if any(type(number) is not int or not 0 <= number < 1 << 62 for number in numbers):
        raise MalformedError("has a tensor whose shape is no whole numbers")
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    end = offset if 0 in size else last + 1
    if end * dtype.itemsize > storage.memory.nbytes() or math.prod(size) >= 1 << 62:
        raise MalformedError("has a tensor that is larger than its data")


def tensor(storage: Storage, dtype: torch.dtype, offset: Any, size: Any, stride: Any) -> torch.Tensor:
    """A tensor in a storage, if it lies in it as a whole."""
    fits(storage, dtype, offset, size, stride)
    if dtype is torch.bool:
        storage.check_truth()
    empty = torch.empty(0, dtype=dtype, device=storage.memory.device)
    return empty.set_(storage.memory, offset, tuple(size), tuple(stride))

"""TorchRL: rules for its replay buffers, whose state is more than their attributes. Needs no import of TorchRL.

Everything is registered by dotted name. This module is imported when the first object of TorchRL or tensordict is met,
so it costs nothing to those who use neither.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.state import (
    Adapter,
    Cursor,
    Handler,
    Ring,
    RowWriter,
    attributes_of,
    leave_out,
    rebuildable,
    refuse,
    register_adapter,
    register_handler,
    skip,
    tensor_like,
)
from perdure.state.buffers import declare_rows, leaves
from perdure.tree import Array, Node, Object, SequenceNode, Value

_BUFFERS = "torchrl.data.replay_buffers.replay_buffers"
_STORAGES = "torchrl.data.replay_buffers.storages"
_WRITERS = "torchrl.data.replay_buffers.writers"
_SAMPLERS = "torchrl.data.replay_buffers.samplers"
_TENSORDICT = "tensordict._td.TensorDict"

# -- tensordict ----------------------------------------------------------------------------------------------------

for _name in (_TENSORDICT, "tensordict._lazy.LazyStackedTensorDict"):
    rebuildable(_name)
    leave_out(
        _name,
        (
            "_cache",
            "_last_op",
            "_last_op_queue",
            "_locked_schema",
            "_lock_parents_weakrefs",
            "__lock_parents_weakrefs",
        ),
        "tensordict's own bookkeeping",
    )
    leave_out(_name, ("_is_memmap", "_is_shared", "_memmap_prefix"), "which memory this process has for it")
rebuildable("tensordict.tensorclass.NonTensorData")
rebuildable("tensordict.tensorclass.NonTensorStack")
# Its memory is a file; what the file holds is its state, where it lies is not.
tensor_like("tensordict.memmap.MemoryMappedTensor")


# -- prefetching ---------------------------------------------------------------------------------------------------


class Prefetching:
    """Stands in a walk for the threads of a buffer that draws samples ahead."""


refuse(
    Prefetching,
    "threads draw its samples ahead, so which rows and random numbers they have used is different in each process. "
    "Build it without: ReplayBuffer(..., prefetch=None)",
)
for _kind in ("ray_buffer.RayReplayBuffer", "replay_buffers.RemoteTensorDictReplayBuffer"):
    refuse(
        f"torchrl.data.replay_buffers.{_kind}",
        "its rows lie in another process. Use a TensorDictReplayBuffer in this process",
    )


def _buffer_fields(buffer: Any) -> Mapping[str, Any]:
    fields = attributes_of(buffer)
    if fields.get("_prefetch_cap"):
        fields["_prefetch_cap"] = Prefetching()
    return fields


def _assign(holder: Any, name: str, value: Any) -> None:
    vars(holder)[name] = value


register_adapter(f"{_BUFFERS}.ReplayBuffer", Adapter(_buffer_fields, _assign))
leave_out(f"{_BUFFERS}.ReplayBuffer", ("_warned_batch_size_conflict",), "what this process has warned of")
# What replaces itself by a plain function when it is first called.
skip("pyvers.implement_for._RegisterableFunction", "a function")

# -- storages ------------------------------------------------------------------------------------------------------

# What is known of trajectories is found out again from the rows.
leave_out(f"{_SAMPLERS}.SliceSampler", ("_fragmented_index",), "found out again from the rows")
leave_out(
    f"{_STORAGES}.LazyTensorStorage",
    ("scratch_dir", "_init_directory", "_scratch_dir_is_temp"),
    "where this process keeps its memory",
)


def _template(node: Any) -> Any:
    """An empty value like a node: tensors of its shapes without memory of their own; None if it is of no known kind."""
    match node:
        case Array(framework="torch"):
            return torch.empty((), dtype=tree.TORCH_DTYPES[node.dtype]).expand(node.shape)
        case Object(type="tensordict._td:TensorDict"):
            size, content = node.fields.get("_batch_size"), node.fields.get("_tensordict")
            if not isinstance(size, Value) or not isinstance(content, tree.MappingNode):
                return None
            made = _all({key: _template(child) for key, child in content.pairs})
            tensordict: Any = sys.modules["tensordict"]
            return None if made is None else tensordict.TensorDict(made, batch_size=torch.Size(size.data))
        case tree.MappingNode(type="dict"):
            return _all({key: _template(child) for key, child in node.pairs})
        case SequenceNode(type="tuple"):
            made = _all(dict(enumerate(map(_template, node.items))))
            return None if made is None else tuple(made.values())
    return None


def _all(made: dict[Any, Any]) -> dict[Any, Any] | None:
    return None if any(child is None or isinstance(key, Node) for key, child in made.items()) else made


def _in_files(storage: Any, value: Any, *, like: bool) -> Any:
    """A value in memory-mapped files, where the storage wants them.

    :param like: only as large as it; otherwise with its content.
    """
    scratch = vars(storage).get("scratch_dir")
    if scratch is not None and not all(map(_names_a_file, _keys(value))):
        # Nothing that a checkpoint holds says where a file is written; without a name it lies in no directory.
        scratch = None
    if hasattr(value, "memmap_like"):
        # The files may be there already: those of the process that was killed, of the same run.
        place = {"prefix": scratch, "existsok": True}
        return value.memmap_like(**place) if like else value.memmap(**place)
    memmap: Any = sys.modules["tensordict.memmap"]

    def file(at: str, tensor: torch.Tensor) -> Any:
        name = None if scratch is None else Path(scratch) / f"{at.strip('.') or 'tensor'}.memmap"
        if name is not None:
            name.parent.mkdir(parents=True, exist_ok=True)
        return memmap.MemoryMappedTensor.from_tensor(tensor, filename=name, existsok=True, copy_data=not like)

    def below(value: Any, at: str) -> Any:
        if isinstance(value, torch.Tensor):
            return file(at, value)
        if isinstance(value, dict):
            return {key: below(child, f"{at}.{key}") for key, child in value.items()}
        return type(value)(below(child, f"{at}.{index}") for index, child in enumerate(value))

    return below(value, "")


def _keys(value: Any) -> Iterator[str]:
    """The keys in a (nested) TensorDict or dict."""
    if isinstance(value, tuple | list):
        for child in value:
            yield from _keys(child)
    elif not isinstance(value, torch.Tensor) and hasattr(value, "items"):
        for key, child in value.items():
            yield str(key)
            yield from _keys(child)


def _names_a_file(key: str) -> bool:
    return "/" not in key and "\0" not in key and key not in (".", "..")


def _missing(storage: Any, name: str, node: Node) -> Any:
    """The files of a storage that has not been written to in this process: what was saved is read into them."""
    template = _template(node) if name == "_storage" else None
    if template is None or not all(_fits(storage, tensor) for tensor in _tensors(template)):
        return None
    return _in_files(storage, template, like=True)


def _fits(storage: Any, tensor: torch.Tensor) -> bool:
    """Whether a tensor has as many rows as the storage of the script would make."""
    ndim = storage.ndim
    return bool(tensor.shape[:ndim].numel() < storage.max_size + tensor.shape[1:ndim].numel())


def _in_a_file(value: Any) -> bool:
    tensors = list(_tensors(value))
    return bool(tensors) and all(type(each).__name__ == "MemoryMappedTensor" for each in tensors)


def _assign_memmap(storage: Any, name: str, value: Any) -> None:
    if name == "_storage" and value is not None and not _in_a_file(value):
        value = _in_files(storage, value, like=False)
    vars(storage)[name] = value


register_adapter(f"{_STORAGES}.LazyMemmapStorage", Adapter(attributes_of, _assign_memmap, missing=_missing))
leave_out(
    f"{_STORAGES}.LazyMemmapStorage",
    ("_auto_cleanup", "_cleaned_up", "existsok"),
    "about the files of this process",
)
refuse(
    f"{_STORAGES}.StoreStorage", "its rows lie in another process. Use LazyTensorStorage or LazyMemmapStorage"
)

# -- the priorities of PrioritizedSampler --------------------------------------------------------------------------

#: For each tree the array that its leaves are copied into: the same each time, so that what is stored of it is known.
_copies: weakref.WeakKeyDictionary[Any, np.ndarray[Any, Any]] = weakref.WeakKeyDictionary()


def _leaves_of(segments: Any) -> np.ndarray[Any, Any]:
    # All that is above the leaves is made of them, and of nothing else.
    found = np.asarray(segments[np.arange(len(segments))])
    kept = _copies.get(segments)
    if kept is None:
        kept = _copies[segments] = found
    else:
        kept[...] = found
    return kept


def _restore_leaves(segments: Any, saved: np.ndarray[Any, Any]) -> None:
    if len(saved) != len(segments):
        raise ValueError(f"expected the priorities of {len(segments)} rows, found those of {len(saved)}")
    segments[np.arange(len(segments))] = saved
    _copies[segments] = saved


def _cuda_leaves(segments: Any) -> torch.Tensor:
    return torch.as_tensor(segments[torch.arange(len(segments), device=segments.device)])


def _restore_cuda_leaves(segments: Any, saved: torch.Tensor) -> None:
    index = torch.arange(len(segments), device=segments.device)
    segments[index] = saved.to(index.device)


for _kind in ("SumSegmentTreeFp32", "SumSegmentTreeFp64", "MinSegmentTreeFp32", "MinSegmentTreeFp64"):
    register_handler(f"torchrl._torchrl.{_kind}", Handler(capture=_leaves_of, restore=_restore_leaves))
    register_handler(
        f"torchrl._torchrl.Cuda{_kind}", Handler(capture=_cuda_leaves, restore=_restore_cuda_leaves)
    )


# -- which rows are written ----------------------------------------------------------------------------------------


def _tensors(storage: Any) -> Iterator[torch.Tensor]:
    """The tensors of a storage's content: one tensor, a (nested) TensorDict, or dicts and tuples of them."""
    if isinstance(storage, torch.Tensor | dict | list | tuple | str | int | float | None):
        yield from leaves(storage)
        return
    # Of a TensorDict a dict, of a tensorclass a TensorDict.
    content = attributes_of(storage).get("_tensordict")
    for child in content.values() if isinstance(content, dict) else () if content is None else (content,):
        yield from _tensors(child)


def _content(buffer: Any) -> Any:
    return vars(vars(buffer)["_storage"]).get("_storage")


def _arrays(buffer: Any) -> Iterator[torch.Tensor]:
    storage = vars(buffer).get("_storage")
    return iter(()) if isinstance(vars(storage).get("_storage"), list) else _tensors(_content(buffer))


def _cursor(buffer: Any) -> Cursor | None:
    writer, storage = vars(buffer).get("_writer"), vars(buffer).get("_storage")
    names = {f"{_WRITERS}.RoundRobinWriter", f"{_WRITERS}.TensorDictRoundRobinWriter"}
    if f"{type(writer).__module__}.{type(writer).__qualname__}" not in names:
        return None
    first = next(_arrays(buffer), None)
    # Another buffer on the same storage writes by a cursor of its own.
    if first is None or not first.ndim or len(vars(storage).get("_attached_entities_list") or ()) > 1:
        return None
    # Where the storage has several dimensions, the first one is what its cursor and its count go along.
    rows, count = int(first.shape[0]), int(writer._write_count)
    # Each call of the writer changes the storage once, and so does everything else of TorchRL that writes into it.
    changes = int(getattr(storage, "_mutation_revision", 0))
    return Cursor((Ring(0, rows, int(writer._cursor) % rows, count),), _content(buffer), changes=changes)


# It is the writer that writes, whatever the class of the buffer.
declare_rows(f"{_BUFFERS}.ReplayBuffer", RowWriter(_arrays, _cursor))

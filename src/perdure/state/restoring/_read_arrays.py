"""The bytes of arrays, read before anything else of a world is written: straight into the live arrays, by several
threads at once.

If something turns out to be damaged here, only the content of arrays was touched, and an older state can still be
written over it. Knows sources, and no files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.errors import RestoreError
from perdure.state import _aliasing
from perdure.state._aliasing import LiveArray
from perdure.state.restoring._plan import RestorePlan
from perdure.state.restoring._resource_limits import memory
from perdure.tree import Array, Node

#: Less than this is read faster than threads are started.
_WORTH_THREADS = 8 << 20
_MOST_THREADS = 4
#: Arrays that an environment writes into are not larger; a replay buffer's are.
_LARGEST_OF_ENVIRONMENT = 64 << 20

Contents = Mapping[int, LiveArray]


def read_arrays(plan: RestorePlan, progress: Callable[[int, int], None] | None = None) -> Contents:
    """Read every array that the plan needs: into its live array where possible, otherwise into new memory.

    :param progress: called with the number of bytes that were read, and the number of bytes to read.
    :returns: for each array that was read (by its node's id) what holds its bytes: the live array itself, or a new one
        whose axes are in the order of the node's memory.
    :raises DamagedError: if something cannot be read as it was written. Arrays may have been written into.
    :raises RestoreError: if the new arrays need more memory than there is.
    """
    contents: dict[int, LiveArray] = {}
    parts: list[tuple[int, Callable[[], None]]] = []
    fresh = 0
    for node in _needed(plan):
        source = node.data
        if source is None or isinstance(source, np.ndarray | torch.Tensor) or not source.nbytes:
            continue
        # Handlers that come first may write into live arrays, so the bytes for those are written after them.
        later = bool(plan.first) and source.nbytes <= _LARGEST_OF_ENVIRONMENT
        live = plan.matches.live(node)
        target = None if later else _in_memory_order(node, live)
        if target is not None:
            contents[id(node)] = live
        else:
            fresh += source.nbytes
            _check_memory(fresh)
            target = contents[id(node)] = _new_memory(node)
        buffer = tree.flat(target)
        split = getattr(source, "parts", None)
        parts += [(source.nbytes, partial(source.read_into, buffer))] if split is None else split(buffer)
    _read(parts, progress)
    return contents


def _read(parts: list[tuple[int, Callable[[], None]]], progress: Callable[[int, int], None] | None) -> None:
    total = sum(nbytes for nbytes, _ in parts)
    done = 0

    def read(part: tuple[int, Callable[[], None]]) -> int:
        part[1]()
        return part[0]

    threads = min(_MOST_THREADS, os.cpu_count() or 1) if total >= _WORTH_THREADS else 1
    if threads == 1:
        for part in parts:
            done += read(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        try:
            for nbytes in pool.map(read, parts):
                done += nbytes
                if progress is not None:
                    progress(done, total)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _needed(plan: RestorePlan) -> list[Array]:
    """The arrays that will be written and have bytes of their own, in the order in which they are written."""
    found: list[Array] = []
    seen: set[int] = set()
    pending: list[Node] = [plan.root]
    while pending:
        node = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, Array) and node.base is None:
            found.append(node)
        for slot, child, _, _ in tree.edges(node):
            if isinstance(child, Node) and plan.writes(node, slot, child):
                pending.append(child)
    return found


def _in_memory_order(node: Array, live: Any) -> LiveArray | None:
    """A live array with its axes in the order in which a node's bytes are stored; None if its memory is not in that
    order, or does not fit."""
    if isinstance(live, torch.Tensor) and _aliasing.fits(node, live):
        tensor = live.detach().permute(node.order)
        return tensor if tensor.device.type == "cpu" and tensor.is_contiguous() else None
    if isinstance(live, np.ndarray) and _aliasing.fits(node, live):
        array = live.transpose(node.order)
        return array if array.flags.c_contiguous else None
    return None


def _new_memory(node: Array) -> LiveArray:
    """New memory for a node's bytes, its axes in the order in which they are stored."""
    shape = tuple(node.shape[axis] for axis in node.order)
    if node.framework == "torch":
        return torch.empty(shape, dtype=tree.TORCH_DTYPES[node.dtype])
    return np.empty(shape, tree.numpy_dtype(node.dtype))


def _check_memory(nbytes: int) -> None:
    # A few bytes can claim to be any number of zeros.
    if nbytes > (there := memory()):
        raise RestoreError(
            f"the checkpoint has arrays of {nbytes:,} bytes that the script has not built, and this process may use "
            f"{there:,} bytes of memory; nothing was changed. Use a larger machine, or leave the part out (skip=)"
        )

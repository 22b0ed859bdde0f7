"""The bytes of arrays, read before anything else of a world is written: straight into the live arrays, by several
threads at once.

If something turns out to be damaged here, nothing but the content of arrays has been touched, and an older
state can still be written over it. Knows sources, and no files.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch

from perdure import tree
from perdure.errors import RestoreError
from perdure.state import _aliasing
from perdure.state.restoring._plan import Plan
from perdure.state.restoring._resource_limits import memory
from perdure.tree import Array, Node, Omitted

#: Less than this is read faster than threads are started.
_WORTH_THREADS = 8 << 20
_MOST_THREADS = 4
#: No array that an environment writes into is larger; a replay buffer is.
_WAITS = 64 << 20


def fill(plan: Plan, progress: Callable[[int, int], None] | None = None) -> None:
    """Read every array that the plan needs: into the live array that it was paired with, or a new one.

    :param progress: called with the number of bytes that were read, and of all that there are to read.
    :raises DamagedError: if something cannot be read as it was written. Arrays may have been written into.
    :raises RestoreError: if there is less memory than the new arrays take.
    """
    parts: list[tuple[int, Callable[[], None]]] = []
    fresh = 0
    for node in _needed(plan):
        source = node.data
        if source is None or isinstance(source, np.ndarray | torch.Tensor) or not source.nbytes:
            continue
        # Handlers that come first may write into live arrays; what is read here is written over these afterwards.
        waits = bool(plan.first) and source.nbytes <= _WAITS
        target = None if waits else _target(plan, node)
        if target is None:
            fresh += source.nbytes
            _check_memory(fresh)
            target = _made(plan, node)
        buffer = tree.flat(target)
        split = getattr(source, "parts", None)
        parts += [(source.nbytes, partial(source.read_into, buffer))] if split is None else split(buffer)
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


def _needed(plan: Plan) -> list[Array]:
    """The arrays that will be written, as the writer comes to them."""
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
            left = id(child) in plan.bad or (id(node), slot) in plan.left
            if isinstance(child, Node) and not isinstance(child, Omitted) and not left:
                pending.append(child)
    return found


def _target(plan: Plan, node: Array) -> _aliasing.LiveArray | None:
    """The memory of the live array that stands for a node, in the order in which it is stored; None if it does
    not lie so."""
    live: Any = plan.live(node)
    if isinstance(live, torch.Tensor) and _aliasing.fits(node, live):
        ordered: Any = live.detach().permute(node.order)
        if ordered.device.type == "cpu" and ordered.is_contiguous():
            plan.content[id(node)] = live
            return ordered  # type: ignore[no-any-return]
    elif isinstance(live, np.ndarray) and _aliasing.fits(node, live):
        ordered = live.transpose(node.order)
        if ordered.flags.c_contiguous:
            plan.content[id(node)] = live
            return ordered  # type: ignore[no-any-return]
    return None


def _made(plan: Plan, node: Array) -> _aliasing.LiveArray:
    """New memory for a node's bytes, in the order in which they are stored."""
    shape = tuple(node.shape[axis] for axis in node.order)
    made: _aliasing.LiveArray
    if node.framework == "torch":
        made = torch.empty(shape, dtype=tree.TORCH_DTYPES[node.dtype])
    else:
        made = np.empty(shape, tree.numpy_dtype(node.dtype))
    plan.content[id(node)] = made
    return made


def _check_memory(nbytes: int) -> None:
    # A few bytes can claim to be any number of zeros.
    if nbytes > (there := memory()):
        raise RestoreError(
            f"the checkpoint has arrays of {nbytes:,} bytes that the script has not built, and this process may use "
            f"{there:,} bytes of memory; nothing was changed. Use a larger machine, or leave the part out (skip=)"
        )

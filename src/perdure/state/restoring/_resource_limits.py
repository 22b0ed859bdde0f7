"""Limits for untrusted checkpoints: oversized arrays and lists are refused before anything is allocated.

A few bytes of a hostile file can describe more memory than any machine has. Knows no files.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from perdure import tree
from perdure.errors import RestoreError
from perdure.state.restoring._plan import ABSENT, Matches
from perdure.tree import Array, Node, NumberRun, RepeatRun, SequenceNode

_POINTER = 8
_NUMBER = 32


def check_memory(matches: Matches, reached: Sequence[Node]) -> None:
    """Check that this machine has the memory for everything that has to be made.

    :param reached: every node that will be written.
    :raises RestoreError: if it does not; nothing was changed.
    """
    wanted = sum(_bytes_to_make(matches, node) for node in reached)
    if wanted > (there := memory()):
        raise RestoreError(
            f"the checkpoint has {wanted:,} bytes of arrays and lists that the script has not built, and this machine "
            f"has {there:,} bytes of memory for a process; nothing was changed. Let the script build them, or use a "
            "larger machine"
        )


def _bytes_to_make(matches: Matches, node: Node) -> int:
    match node:
        case Array() if node.base is None and matches.live(node) is ABSENT and _in_main_memory(node):
            return tree.itemsize(node) * math.prod(node.shape)
        case SequenceNode():
            return sum(_elements(child) for child in node.items if isinstance(child, RepeatRun | NumberRun))
    return 0


def _elements(run: RepeatRun | NumberRun) -> int:
    if isinstance(run, NumberRun):
        return math.prod(run.array.shape) * (_NUMBER + _POINTER)
    empty: Any = {"dict": {}, "list": []}.get(getattr(run.item, "type", ""))
    return run.count * (_POINTER + (0 if empty is None else sys.getsizeof(empty)))


def _in_main_memory(node: Array) -> bool:
    return torch.device(node.extra.get("device", "cpu")).type == "cpu" or not torch.cuda.is_available()


_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int:
    """Bytes of main memory that this process may use."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in _CGROUPS:
        with suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY:
        limits.append(limit)
    return min(limits)

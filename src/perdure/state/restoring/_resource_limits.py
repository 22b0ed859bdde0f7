"""Limits for untrusted checkpoints: colliding hashes and oversized arrays are refused before anything is allocated.

A few bytes of a hostile file can describe a container that takes hours to fill, or more memory than any machine has.
Knows no files.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from perdure import tree
from perdure.errors import RestoreError
from perdure.state import _values
from perdure.state.restoring._plan import ABSENT, Matches
from perdure.tree import Array, Node, NumberRun, RepeatRun, SequenceNode, Value

MOST_ALIKE = 1_000
"""How many keys of one dict or set may have the same hash: filling it takes the square of their number."""
MOST_PARTS = 10_000
"""How many parts a key may have. A part is counted as often as it occurs, because Python hashes it as often."""

#: Integers below it have different hashes.
_MODULUS = sys.hash_info.modulus
_POINTER = 8
_NUMBER = 32


def unwieldy(keys: Iterable[Any], find: Callable[[str], type | None]) -> str | None:
    """Why a dict or a set with these keys would take too long to fill, or None."""
    alike: dict[int, int] = {}
    parts: dict[int, int] = {}
    for key in keys:
        if not (isinstance(key, Value | SequenceNode) or (type(key) is int and abs(key) >= _MODULUS)):
            continue
        if isinstance(key, SequenceNode) and _parts(key, parts) > MOST_PARTS:
            return f"the checkpoint has a key that consists of more than {MOST_PARTS:,} parts"
        try:
            number = hash(_read(key, find))
        except (TypeError, ValueError, _values.NotThere):
            continue  # why it is no key is reported elsewhere
        alike[number] = alike.get(number, 0) + 1
        if alike[number] > MOST_ALIKE:
            return (
                f"the checkpoint has more than {MOST_ALIKE:,} keys in one place that have the same hash, which no "
                "program has by chance"
            )
    return None


def _parts(node: SequenceNode, known: dict[int, int]) -> int:
    """How many parts Python hashes for a tuple or a frozenset; `known` keeps what was counted before."""
    stack = [node]
    while stack:
        at = stack[-1]
        inner = [child for child in at.items if isinstance(child, SequenceNode)]
        waiting = [child for child in inner if id(child) not in known]
        if waiting and len(stack) <= MOST_PARTS:
            # One that contains itself cannot be a key; it counts as endless.
            known[id(at)] = MOST_PARTS + 1
            stack.extend(waiting)
            continue
        stack.pop()
        known[id(at)] = len(at.items) + sum(known.get(id(child), MOST_PARTS + 1) for child in inner)
    return known[id(node)]


def _read(key: Any, find: Callable[[str], type | None]) -> Any:
    match key:
        case SequenceNode(type="tuple"):
            return tuple(_read(item, find) for item in key.items)
        case SequenceNode(type="frozenset"):
            return frozenset(_read(item, find) for item in key.items)
        case Value():
            return _values.read(key, find)
        case Node():
            raise TypeError
    return key


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

"""Buffers that are written row by row: which rows were written since the last look.

A replay buffer knows where it writes next. From that, and from how it writes, follows what changed between two
checkpoints, and no other rows need to be looked at. What is known here of a class holds for its own methods; a subclass
that writes in other ways has to be declared itself.

Knows live objects, and neither states nor files.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from perdure import arguments
from perdure.state._class_names import dotted_name


class Ring(NamedTuple):
    """A stretch of rows that is written from its first to its last row, and then from the first again.

    :param first: its first row.
    :param rows: how many it has.
    :param position: the row that is written next, counted from `first`.
    :param written: how many rows were ever written, where the buffer counts them.
    :param epoch: an object that is another one after this stretch was emptied.
    """

    first: int
    rows: int
    position: int
    written: int | None = None
    epoch: Any = None


class Cursor(NamedTuple):
    """Where a buffer writes next.

    :param rings: what it consists of; each sub-buffer is a ring.
    :param epoch: an object that is another one after the buffer was emptied or rewritten.
    :param touched: rows that are overwritten for a while, wherever the cursor is.
    :param ahead: how many rows from its position on a ring may have begun to write already.
    :param changes: how often it was written into at all, by its cursor or otherwise, if it counts that.
    """

    rings: tuple[Ring, ...]
    epoch: Any = None
    touched: tuple[int, ...] = ()
    ahead: int = 0
    changes: int | None = None


@dataclass(frozen=True)
class RowWriter:
    """How a class of buffers writes its rows.

    :param arrays: the arrays and tensors of a buffer whose first axis is its rows.
    :param cursor: where a buffer writes next; None if that is unknown for this one.
    :param unchanged: the methods that write; a subclass that overrides one of them is not covered.
    """

    arrays: Callable[[Any], Iterable[Any]]
    cursor: Callable[[Any], Cursor | None]
    unchanged: tuple[str, ...] = ()


class Rows(NamedTuple):
    """The buffer that an array belongs to, and how it writes."""

    buffer: Any
    writer: RowWriter

    def cursor(self) -> Cursor | None:
        """Where the buffer writes next."""
        return self.writer.cursor(self.buffer)


def between(then: Cursor, now: Cursor, advanced: Sequence[int]) -> list[tuple[int, int]] | None:
    """The rows that may have been written between two looks at a buffer, as sorted stretches; None if any may.

    :param advanced: for each ring, how many rows were written; at least so many.
    """
    if then.epoch is not now.epoch or [ring[:2] for ring in then.rings] != [ring[:2] for ring in now.rings]:
        return None
    found: list[tuple[int, int]] = []
    for ring, count in zip(then.rings, advanced, strict=True):
        if count + now.ahead >= ring.rows:
            found.append((ring.first, ring.first + ring.rows))
        elif count:
            stop = ring.position + count + now.ahead
            found.append((ring.first + ring.position, ring.first + min(stop, ring.rows)))
            found.append((ring.first, ring.first + max(stop - ring.rows, 0)))
    found += [(row, row + 1) for row in (*then.touched, *now.touched)]
    return merged(stretch for stretch in found if stretch[0] < stretch[1])


def rows_before(cursor: Cursor) -> np.ndarray[Any, Any]:
    """A few rows of each ring, sorted: those written last, and some older ones."""
    found: set[int] = set()
    for first, size, position, *_ in cursor.rings:
        if size:
            found |= {first + (position - 1 - back) % size for back in (0, 1, size // 3, 2 * size // 3)}
    return np.array(sorted(found), np.int64)


def merged(stretches: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches sorted, and joined where they touch."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(stretches):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], stop)
        else:
            found.append((start, stop))
    return found


def advance(then: Cursor, now: Cursor) -> list[int] | None:
    """For each ring, how many rows were written between two looks; less than a lap if it does not count them. None if
    the buffer was emptied in between."""
    if then.epoch is not now.epoch or len(then.rings) != len(now.rings):
        return None
    found = []
    for before, after in zip(then.rings, now.rings, strict=True):
        if before.rows != after.rows:
            return None
        if before.epoch is not after.epoch:
            found.append(after.rows)
        elif after.written is not None:
            # Some buffers count only until they are full: one that counts again was emptied. An empty one may have been
            # filled, emptied, and filled again.
            if not before.written or after.written < before.written:
                return None
            count = after.written - before.written
            # Something was counted that the cursor did not write.
            if before.rows and (before.position + count - after.position) % before.rows:
                return None
            found.append(count)
        else:
            found.append((after.position - before.position) % after.rows if after.rows else 0)
    # A call that writes counts as one change, and writes any number of rows. So only a single change is certain to be
    # the cursor's; of several, some may have been made otherwise.
    changes = 0 if then.changes is None or now.changes is None else now.changes - then.changes
    if changes > min(sum(found), 1):
        return None
    return found


# -- the buffers of libraries ------------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[Any]:
    """The arrays and tensors in (nested) dicts, tuples and lists, and in objects that are dicts of attributes."""
    if isinstance(value, np.ndarray | torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for child in value.values():
            yield from leaves(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from leaves(child)


def _named(*names: str) -> Callable[[Any], Iterator[Any]]:
    def arrays(buffer: Any) -> Iterator[Any]:
        for name in names:
            yield from leaves(vars(buffer).get(name))

    return arrays


def _sb3_cursor(buffer: Any) -> Cursor:
    rows, position = int(buffer.buffer_size), int(buffer.pos)
    # Until it is full, its position is the number of rows written, which shows whether it was emptied.
    written = None if buffer.full else position
    # If it keeps each observation once, the next observation is written one row ahead.
    ahead = 1 if getattr(buffer, "optimize_memory_usage", False) else 0
    return Cursor((Ring(0, rows, position, written),), ahead=ahead)


def _altered(buffer: Any) -> list[int]:
    """The rows whose goals a hindsight buffer has replaced for the last sample; it puts them back at the next one."""
    return np.unique(vars(buffer).get("_altered_indices", ())).astype(np.int64).tolist()  # type: ignore[no-any-return]


def _tianshou_cursor(buffer: Any) -> Cursor | None:
    touched = tuple(_altered(buffer))
    parts = vars(buffer).get("buffers")
    if parts is None:
        ring = Ring(0, int(buffer.maxsize), int(buffer._insertion_idx))
        return Cursor((ring,), buffer.last_index, touched)
    rings = []
    for first, part in zip(buffer._offset, parts, strict=True):
        # A cache that is emptied when its episode ends makes this array anew.
        rings.append(Ring(int(first), int(part.maxsize), int(part._insertion_idx), epoch=part.last_index))
        touched += tuple(int(first) + row for row in _altered(part))
    # A buffer that is emptied makes this array anew.
    return Cursor(tuple(rings), buffer.last_index, touched)


def _tianshou_arrays(buffer: Any) -> Iterator[Any]:
    batch = sys.modules["tianshou.data.batch"].Batch

    def below(value: Any) -> Iterator[Any]:
        if isinstance(value, batch):
            for child in vars(value).values():
                yield from below(child)
        else:
            yield from leaves(value)

    # The sub-buffers of a vector buffer are views of its memory.
    return below(vars(buffer).get("_meta"))


_SB3_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_SB3 = RowWriter(_named(*_SB3_ARRAYS), _sb3_cursor, ("add", "extend", "reset"))
_writers: dict[type | str, RowWriter] = {
    "stable_baselines3.common.buffers.ReplayBuffer": _SB3,
    "stable_baselines3.common.buffers.DictReplayBuffer": _SB3,
    # When an episode ends, its length is written into all of its rows.
    "stable_baselines3.her.her_replay_buffer.HerReplayBuffer": RowWriter(
        _named(*_SB3_ARRAYS, "ep_start"), _sb3_cursor, ("add", "extend", "reset")
    ),
    "tianshou.data.buffer.buffer_base.ReplayBuffer": RowWriter(
        _tianshou_arrays, _tianshou_cursor, ("add", "update", "reset", "set_batch")
    ),
}
for _name in (
    "manager.ReplayBufferManager",
    "manager.HERReplayBufferManager",
    "manager.PrioritizedReplayBufferManager",
    "prio.PrioritizedReplayBuffer",
    "her.HERReplayBuffer",
    "cached.CachedReplayBuffer",
):
    _writers[f"tianshou.data.buffer.{_name}"] = _writers["tianshou.data.buffer.buffer_base.ReplayBuffer"]
_cache: dict[type, RowWriter | None] = {}


def declare_rows(cls: type | str, writer: RowWriter) -> None:
    """Register how buffers of a class are written, by the class or by its dotted name."""
    _writers[cls] = writer
    _cache.clear()


def register_rows(
    cls: type,
    arrays: Sequence[str],
    *,
    rows: str,
    position: str,
    written: str | None = None,
) -> None:
    """Say how your own replay buffer is written, so that a checkpoint need not look at all of it.

    It must write row after row, from the first to the last and then from the first again. Without this call every byte
    of its arrays is compared with the last checkpoint, which is as exact and takes longer. With `PERDURE_CHECK_ROWS=1`
    in the environment they are compared anyway, and rows that changed although they were not written give a warning.

    :param cls: the class; subclasses that do not override any method that `cls` has are covered too.
    :param arrays: the attributes that hold arrays or tensors (or dicts of them) whose first axis is the rows.
    :param rows: the attribute that says how many rows there are.
    :param position: the attribute that says which row is written next.
    :param written: the attribute that counts all rows ever written, if there is one. Without it a buffer must not be
        written round more than once between two calls of `run.maybe_checkpoint` or two steps of `run.steps`.
    """

    if not isinstance(cls, type):
        raise TypeError(f"perdure.register_rows: expected the class of a buffer, found {cls!r:.80}")
    arrays = arguments.texts(arrays, "arrays")
    for name, attribute in (("rows", rows), ("position", position), ("written", written)):
        if not isinstance(attribute, str) and (attribute is not None or name != "written"):
            raise TypeError(f"{name}: expected the name of an attribute, found {attribute!r:.80}")

    def cursor(buffer: Any) -> Cursor:
        total = None if written is None else int(getattr(buffer, written))
        return Cursor((Ring(0, int(getattr(buffer, rows)), int(getattr(buffer, position)), total),))

    methods = tuple(name for name, member in vars(cls).items() if callable(member) and name != "__init__")
    declare_rows(cls, RowWriter(_named(*arrays), cursor, methods))


def writer_of(cls: type) -> RowWriter | None:
    """How buffers of a class are written, if that is known."""
    if cls not in _cache:
        _cache[cls] = _find(cls)
    return _cache[cls]


def _find(cls: type) -> RowWriter | None:
    for base in cls.__mro__:
        writer = _writers.get(base) or _writers.get(dotted_name(base))
        if writer is not None:
            same = all(getattr(cls, name, None) is getattr(base, name, None) for name in writer.unchanged)
            return writer if same else None
    return None

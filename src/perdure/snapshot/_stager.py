"""Copies what changed of a state, so that a background thread can write it while the training goes on.

This is all that a checkpoint costs the training. Of a replay buffer only the rows written since the last checkpoint are
copied. Of other large arrays only the chunks that changed are copied, which their checksums tell. Small arrays are
copied whole. Knows live arrays and what is stored of them, and no files.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from perdure.errors import ChangedRowsWarning, user_level
from perdure.snapshot import _cuda
from perdure.snapshot._arena import ALIGNED, Arena, Bytes
from perdure.snapshot._changes import Stretch, complement, differing, mostly_differ, widened
from perdure.snapshot._copy import Copier, Move
from perdure.snapshot._dirty_rows import BufferTracker, as_uint8, buffer_of, track
from perdure.state import Cursor, buffers
from perdure.store import StoredArray
from perdure.tree import Array, Content, LiveArray, Object, Source, Staged, State

#: An array that is not larger is copied whole: to find out what changed of it would take as long.
SMALL = 1 << 20
#: A larger array is never copied before it is known that it changed.
LARGE = 64 << 20
#: Changed stretches are joined with small chunks before them until they have this size.
LEAST_CHUNK = 64 << 10
#: No more than this is copied; the rest is written while the training waits.
MOST_STAGED = 1 << 30

_memcmp = ctypes.CDLL(None).memcmp
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)

#: The environment variable that says to compare all rows of all buffers, whatever their cursors say.
CHECK_ROWS = "PERDURE_CHECK_ROWS"


@dataclass
class _Known:
    """What is known of a live array since it was last stored or restored."""

    owner: Callable[[], object]
    stored: StoredArray
    cursor: Cursor | None
    #: Whether most of it changed the last time, as the weights of a network do.
    changes: bool = True
    #: Where the next chunk begins that is compared although its rows were not written.
    next_check: int = 0


class _Large(NamedTuple):
    """A large array that is staged: its position in `state.arrays`, its node, and the live array."""

    position: int
    node: Array
    live: LiveArray


class _Change(NamedTuple):
    """What is to be copied of an array.

    :param stretches: of its bytes.
    :param stored: holds all other bytes; None if there are no others.
    :param content: all its bytes; None if they are not in main memory.
    """

    stretches: Sequence[Stretch]
    stored: StoredArray | None
    content: Bytes | None


@dataclass
class Staging:
    """A state that can be committed while the training goes on. `Stager.committed` needs the last two fields.

    :param state: as captured.
    :param contents: for each of `state.arrays`, what to store: a copy of what changed, or the array itself.
    :param live: whether some of that is live memory: then the training has to wait for the commit.
    :param nbytes: how many bytes were copied.
    :param ready: waits until the bytes that come from an accelerator are there.
    :param release: lets go of the copies once they are stored; any thread may call it.
    """

    state: State
    contents: list[Content]
    live: bool
    nbytes: int
    ready: Callable[[], None]
    release: Callable[[], None]
    large: Sequence[_Large]
    trackers: dict[int, BufferTracker]


class _Batch:
    """The copies of one checkpoint, planned for several arrays before any is made."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        #: Copies to make in main memory.
        self.moves: list[Move] = []
        #: Copies that accelerators make.
        self.device: list[_cuda.Copy] = []
        #: Whether some arrays are not copied, because it would take too much memory.
        self.live = False

    def add(self, node: Array, change: _Change) -> Content:
        """Plan to copy what changed of a live array; returns what is to be stored of it."""
        live: Any = node.data
        stretches, stored, content = change
        if self._arena.used + sum([stop - start for start, stop in stretches]) > MOST_STAGED:
            self.live = True
            if content is None:
                return live  # type: ignore[no-any-return]
            pieces = [(start, content[start:stop].data) for start, stop in stretches]
        else:
            pieces = [(start, self._copy(node, change, start, stop)) for start, stop in stretches]
        return Staged(node.span[1], pieces, stored, long_lived=node.rows is not None)

    def _copy(self, node: Array, change: _Change, start: int, stop: int) -> memoryview:
        live: Any = node.data
        target = self._arena.take(stop - start)
        if change.content is not None:
            self.moves.append((target, change.content[start:stop]))
        elif change.stored is None:
            self.device.append((live, node.order, target))
        else:
            flat = live.detach().view(-1).view(torch.uint8)
            self.device.append((flat[start:stop], (0,), target))
        return target.data


class ChangedWhileCopied(Exception):
    """Arrays are not what was copied of them a moment ago: another thread writes to them. Says which."""


class Stager:
    """Remembers of the live arrays of one run what is stored where."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Known] = {}
        self._trackers: dict[int, BufferTracker] = {}
        self._pending: Staging | None = None
        self._arena = Arena()
        self._copier = Copier()
        self._turn = 0
        self._check_all = os.environ.get(CHECK_ROWS, "") not in ("", "0")

    # -- between checkpoints -------------------------------------------------------------------------------

    def observe(self) -> None:
        """Note where the cursors of the buffers are. Call it often, so that no lap is missed."""
        for tracker in self._trackers.values():
            tracker.look()
        if self._pending is not None:
            for tracker in self._pending.trackers.values():
                tracker.look()

    def forget(self) -> None:
        """Forget what is stored: the next checkpoint writes everything."""
        self._known.clear()
        self._trackers.clear()
        self._pending = None

    def renewed(self) -> Stager:
        """One that knows nothing of what is stored; it takes this one's place if a call was interrupted."""
        other = Stager()
        # Which buffers cannot be believed is not forgotten.
        other._check_all = self._check_all or any(
            tracker.unreliable
            for trackers in (self._trackers, {} if self._pending is None else self._pending.trackers)
            for tracker in trackers.values()
        )
        return other

    def prime(self, filled: Sequence[tuple[Array, Source]]) -> None:
        """Note that live arrays hold what is stored, because they were just restored.

        :param filled: the arrays that were filled, as a walk would find them now, and what they were read from.
        """
        self.forget()
        self._trackers = track(State(Object("", {}), [node for node, _ in filled]))
        for node, source in filled:
            live = node.data
            if not isinstance(live, np.ndarray | torch.Tensor):
                continue
            if (tracker := self._trackers.get(buffer_of(node))) is not None and _has_rows(node):
                tracker.sample(node)
            if isinstance(source, StoredArray):
                self._note(node, live, source, self._trackers)

    # -- a checkpoint --------------------------------------------------------------------------------------

    def stage(self, state: State, *, careful: bool = False) -> Staging:
        """Copy what changed since the last checkpoint.

        :param state: captured just now; it stays as it is.
        :param careful: whether to compare the copies with the arrays once more: other threads may write to them.
        :raises ChangedWhileCopied: if one did.
        """
        self.observe()
        arrays = state.arrays
        trackers = self._new_trackers(state)
        arena = self._arena
        arena.begin()
        small, others = _split(arrays)
        ends = list(itertools.accumulate([-(-nbytes // ALIGNED) * ALIGNED for _, nbytes in small.values()]))
        room = arena.take(ends[-1] if ends else 0)
        contents: list[Any] = [None] * len(arrays)
        batch, large = _Batch(arena), []
        for position in others:
            node = arrays[position]
            contents[position] = live = node.data
            if isinstance(live, np.ndarray | torch.Tensor):
                contents[position] = batch.add(node, self._change(node))
                if node.span[1] > SMALL:
                    large.append(_Large(position, node, live))
        with self._copier.copying(batch.moves):
            for position, staged in zip(small, _copies(arrays, small, room, [0, *ends]), strict=True):
                contents[position] = staged
        if careful and (changed := _changed(arrays, contents, small)):
            raise ChangedWhileCopied(", ".join(changed[:3]) + (" and more" if len(changed) > 3 else ""))
        ready = _cuda.begin(batch.device) if batch.device else _nothing
        release = partial(_release, contents, arena, pin=bool(batch.device))
        self._pending = Staging(state, contents, batch.live, arena.used, ready, release, large, trackers)
        return self._pending

    def committed(self, staging: Staging, stored: Sequence[StoredArray]) -> None:
        """Note that what was staged is stored.

        :param stored: for each of `staging.state.arrays`, where.
        """
        before, self._known = self._known, {}
        for key, tracker in staging.trackers.items():
            old_tracker = self._trackers.get(key)
            tracker.unreliable = old_tracker is not None and old_tracker.unreliable
        self._trackers, self._pending = staging.trackers, None
        for position, node, live in staging.large:
            known = self._note(node, live, stored[position], staging.trackers)
            old = before.get(node.span)
            if old is not None and old.owner() is known.owner():
                known.next_check = old.next_check
                known.changes = node.rows is None and mostly_differ(old.stored, known.stored)

    def failed(self, staging: Staging) -> None:
        """Note that what was staged could not be stored; it will be staged again."""
        if self._pending is staging:
            self._pending = None

    def _note(
        self, node: Array, live: LiveArray, stored: StoredArray, trackers: dict[int, BufferTracker]
    ) -> _Known:
        tracker = trackers.get(buffer_of(node))
        known = _Known(weakref.ref(_owner(live)), stored, None if tracker is None else tracker.cursor)
        self._known[node.span] = known
        return known

    # -- what changed --------------------------------------------------------------------------------------

    def _change(self, node: Array) -> _Change:
        """What changed of a live array since it was last stored."""
        live: Any = node.data
        nbytes = node.span[1]
        content = None if isinstance(live, torch.Tensor) and _streams(live) else as_uint8(node)
        everything = _Change(((0, nbytes),) if nbytes else (), None, content)
        known = self._known.get(node.span) if nbytes > SMALL else None
        if known is None or known.owner() is not _owner(live) or not node.flat:
            return everything
        if node.rows is None and known.changes and nbytes <= LARGE:
            return everything
        stretches = self._written(node, known)
        if content is not None and stretches is not None and self._check_all:
            stretches = self._compared(node, known, stretches, content)
        if stretches is None:
            if content is None:
                return everything
            stretches = differing(known.stored, content, everything.stretches)
        return _Change(widened(known.stored, stretches, LEAST_CHUNK), known.stored, content)

    def _written(self, node: Array, known: _Known) -> list[Stretch] | None:
        """The bytes of the rows that were written; None if it can be any."""
        tracker = self._trackers.get(buffer_of(node))
        if tracker is None or tracker.unreliable or tracker.cursor is not known.cursor:
            return None
        rows = tracker.written()
        height = node.shape[0] if node.shape else 0
        if rows is None or not height or any(stop > height for _, stop in rows):
            return None
        size = node.span[1] // height
        return [(start * size, stop * size) for start, stop in rows]

    def _compared(
        self, node: Array, known: _Known, stretches: list[Stretch], content: Bytes
    ) -> list[Stretch]:
        """The same stretches, and those among all other rows that differ from what is stored."""
        found = differing(known.stored, content, complement(stretches, content.nbytes), read=True)
        if found:
            self._distrust(node)
        return buffers.merged([*stretches, *found])

    # -- whether cursors can be believed -------------------------------------------------------------------

    def _new_trackers(self, state: State) -> dict[int, BufferTracker]:
        """Trackers from now on, after the ones so far were checked."""
        found = track(state)
        with_rows = [node for node in state.arrays if node.rows is not None and _has_rows(node)]
        self._verify_untouched(with_rows)
        for node in with_rows:
            if (tracker := found.get(buffer_of(node))) is not None:
                tracker.sample(node)
        return found

    def _verify_untouched(self, with_rows: Sequence[Array]) -> None:
        """Check, before any cursor is believed, whether buffers changed elsewhere than their cursors say.

        Besides the samples one chunk is compared, of another array each time. So it is found out before long if
        something else writes into a buffer.
        """
        self._turn += 1
        for key, tracker in self._trackers.items():
            arrays = [node for node in with_rows if buffer_of(node) == key]
            tracker.verify_untouched(arrays)
            if not arrays or self._check_all:
                continue
            node = arrays[self._turn % len(arrays)]
            known = self._known.get(node.span)
            stretches = None if known is None else self._written(node, known)
            if known is not None and stretches is not None:
                chunk = self._next_check(known, stretches)
                if chunk and differing(known.stored, as_uint8(node), chunk):
                    self._distrust(node)

    @staticmethod
    def _next_check(known: _Known, stretches: list[Stretch]) -> list[Stretch]:
        """The next chunk that should not have changed, if there is one nearby."""
        nbytes = known.stored.nbytes
        others = complement(stretches, nbytes)
        at, known.next_check = known.next_check % nbytes, 0
        for begin, extent in itertools.islice(known.stored.layout.placed(at), 4):
            known.next_check = end = begin + extent.take
            if extent.whole and any(start <= begin and end <= stop for start, stop in others):
                return [(begin, end)]
        return []

    def _distrust(self, node: Array) -> None:
        tracker = self._trackers.get(buffer_of(node))
        if tracker is not None and not tracker.unreliable:
            tracker.unreliable = True
            warnings.warn(
                f"{node.name}: rows changed that its buffer had not written. From now on all of it is compared with "
                "the last checkpoint, which is as exact and takes longer",
                ChangedRowsWarning,
                stacklevel=user_level(),
            )


def _nothing() -> None:
    pass


def _release(contents: list[Content], arena: Arena, *, pin: bool) -> None:
    # First the copies: they keep the memory alive that the arena is about to replace.
    contents.clear()
    arena.prepare(pin=pin)


def _split(arrays: Sequence[Array]) -> tuple[dict[int, tuple[int, int]], list[int]]:
    """The positions of the arrays that are copied whole, straight from main memory, with their spans; and the positions
    of all others."""
    small: dict[int, tuple[int, int]] = {}
    others: list[int] = []
    for position, node in enumerate(arrays):
        span = node.span
        if span[1] <= SMALL and node.flat and "device" not in node.extra:
            small[position] = span
        else:
            others.append(position)
    if sum([nbytes for _, nbytes in small.values()]) > MOST_STAGED:
        return {}, list(range(len(arrays)))
    return small, others


def _copies(
    arrays: Sequence[Array], small: dict[int, tuple[int, int]], room: Bytes, offsets: Sequence[int]
) -> Iterator[Staged]:
    """Copies of small arrays: for hundreds of them, to make views takes longer than to copy the bytes."""
    address, view = room.ctypes.data, room.data
    for (position, (start, nbytes)), at in zip(small.items(), offsets, strict=False):
        ctypes.memmove(address + at, start, nbytes)
        yield Staged(nbytes, long_lived=arrays[position].rows is not None, whole=(view, at))


def _changed(arrays: Sequence[Array], contents: Sequence[Any], small: Collection[int]) -> list[str]:
    """The names of the arrays that are not any more what was copied of them, or what they were compared with."""
    found = []
    for position, (node, staged) in enumerate(zip(arrays, contents, strict=True)):
        if not isinstance(staged, Staged) or (isinstance(node.data, torch.Tensor) and _streams(node.data)):
            continue
        # Of the small ones it is known that they lie together, so that nothing has to be made for each.
        now = None if position in small else as_uint8(node)
        start_of = node.span[0] if now is None else now.ctypes.data
        same = all(
            not _memcmp(np.frombuffer(piece, np.uint8).ctypes.data, start_of + start, piece.nbytes)
            for start, piece in staged.pieces
        )
        if same and now is not None and isinstance(staged.base, StoredArray) and node.rows is None:
            copied = [(start, start + piece.nbytes) for start, piece in staged.pieces]
            same = not differing(staged.base, now, complement(copied, node.span[1]))
        if not same:
            found.append(node.name)
    return found


def _owner(live: LiveArray) -> object:
    """The array that owns the memory: views are made anew each time."""
    if isinstance(live, torch.Tensor):
        return live
    while isinstance(live.base, np.ndarray):
        live = live.base
    return live


def _has_rows(node: Array) -> bool:
    """Whether an array belongs to a buffer, is large, and lies in main memory row after row."""
    if node.rows is None or not node.shape or node.span[1] <= SMALL or not node.flat:
        return False
    return not isinstance(node.data, torch.Tensor) or node.data.is_cpu


def _streams(live: torch.Tensor) -> bool:
    """Whether a tensor is on a device that copies by itself."""
    return live.is_cuda

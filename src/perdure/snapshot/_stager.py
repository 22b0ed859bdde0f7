"""Setting aside what changed: from a state whose arrays are live to one that a background thread can write.

The training goes on as soon as this is done, so it is all that a checkpoint costs the training. Of a replay
buffer only the rows written since the last checkpoint are copied, of other large arrays only the chunks that
changed, found by their checksums; small arrays are copied whole, into memory that is used again each time.
It knows live arrays and what is stored of them, and no files.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
import xxhash

from perdure.errors import ChangedRowsWarning
from perdure.snapshot import _cuda
from perdure.snapshot._arena import ALIGNED, Arena, Octets
from perdure.snapshot._copy import Copier, Move
from perdure.snapshot._dirty_rows import Watched, buffer_of, locate, octets, watch
from perdure.state import Cursor, LiveArray, buffers
from perdure.tree import NOWHERE, Array, Object, Source, Staged, State

#: An array that is not larger is copied whole; to find out what changed of it would take as long.
SMALL = 1 << 20
#: A larger one is never copied before it is known that it changed.
LARGE = 64 << 20
#: Stretches that follow each other are stored as one chunk until they have this size.
LEAST_CHUNK = 64 << 10
#: More than this is not set aside: it is written while the training waits.
MOST_STAGED = 1 << 30

#: Whether to compare all rows of all buffers, whatever their cursors say.
CHECK_ROWS = "PERDURE_CHECK_ROWS"


class Stored(Source, Protocol):
    """What is stored of an array, as the store keeps it (:class:`perdure.store.reading.StoredArray`)."""

    @property
    def layout(self) -> Any:
        """The chunks that it consists of (:class:`perdure.store.layout.Layout`)."""
        ...

    def holds(self, start: int, content: memoryview) -> bool:
        """Whether the bytes from `start` on are `content`."""
        ...


@dataclass
class _Known:
    """What is known of a live array since it was last stored or restored."""

    owner: Callable[[], Any]
    stored: Stored
    cursor: Cursor | None
    #: Whether most of it changed the last time, as the weights of a network do.
    changes: bool = True
    #: Where the next chunk begins that is compared although its rows were not written.
    next_check: int = 0


@dataclass
class Staging:
    """A state that was set aside, and what is to be remembered once it is committed.

    :param state: its arrays no longer change, but for those that are too large (`live`).
    :param live: whether some of its arrays are still live: then the training has to wait until it is written.
    :param nbytes: how many bytes were copied.
    :param ready: waits until the bytes that come from an accelerator are there.
    :param rest: to be called, by any thread, when nothing that was set aside is needed any more.
    """

    state: State
    live: bool = False
    nbytes: int = 0
    ready: Callable[[], None] = lambda: None
    rest: Callable[[], None] = lambda: None
    arrays: list[tuple[Array, LiveArray]] = field(default_factory=list)
    watched: dict[int, Watched] = field(default_factory=dict)


class Stager:
    """Remembers for the live arrays of one run what of them is stored where."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int], _Known] = {}
        self._watched: dict[int, Watched] = {}
        self._pending: Staging | None = None
        self._arena = Arena()
        self._copier = Copier()
        self._turn = 0
        self._check_all = os.environ.get(CHECK_ROWS, "") not in ("", "0")

    # -- what goes on between checkpoints ------------------------------------------------------------------

    def observe(self) -> None:
        """Look where the buffers are. To be called often: then their laps are counted."""
        for watched in self._watched.values():
            watched.look()
        if self._pending is not None:
            for watched in self._pending.watched.values():
                watched.look()

    def forget(self) -> None:
        """The next checkpoint writes everything."""
        self._known.clear()
        self._watched.clear()
        self._pending = None

    def prime(self, filled: Sequence[tuple[Array, Source]]) -> None:
        """Take note that live arrays hold what is stored, because they were just restored.

        :param filled: the arrays that were filled, as a walk would find them now, and what they were read from.
        """
        self.forget()
        self._watched = watch(State(Object("", {}), [node for node, _ in filled]))
        for node, source in filled:
            live: Any = node.data
            stored: Any = source
            if (watched := self._watched.get(buffer_of(node))) is not None and _has_rows(node):
                watched.witness(node, live)
            if hasattr(stored, "layout"):
                self._note(node, live, stored, self._watched)

    # -- setting aside -------------------------------------------------------------------------------------

    def stage(self, state: State) -> Staging:
        """Copy what changed since the last checkpoint.

        :param state: as captured a moment ago; its arrays are replaced by what was set aside of them.
        """
        self.observe()
        for node in state.arrays:
            if node.place is NOWHERE:
                locate(node)
        staging = Staging(state, watched=watch(state))
        of_buffers = [node for node in state.arrays if _has_rows(node)]
        self._question(of_buffers)
        for node in of_buffers:
            if (watched := staging.watched.get(buffer_of(node))) is not None:
                watched.witness(node, node.data)  # type: ignore[arg-type]
        arena = self._arena
        arena.begin()
        small = [node for node in state.arrays if _is_small(node)]
        if sum([node.place[1] for node in small]) > MOST_STAGED:
            small = []
        ends = list(
            itertools.accumulate([-(-node.place[1] // ALIGNED) * ALIGNED for node in small], initial=0)
        )
        room = arena.take(ends[-1])
        copies: list[_cuda.Copy] = []
        moves: list[Move] = []
        for node in state.arrays if not small else [node for node in state.arrays if not _is_small(node)]:
            self._take(node, staging, copies, moves)
        with self._copier.copying(moves):
            _copy(small, room, ends)
        staging.nbytes = arena.used
        staging.rest = partial(_rest, state, arena, pin=bool(copies))
        if copies:
            staging.ready = _cuda.begin(copies)
        self._pending = staging
        return staging

    def _take(self, node: Array, staging: Staging, copies: list[_cuda.Copy], moves: list[Move]) -> None:
        """Copy what changed of an array, or have it copied by the device it is on, or leave it live."""
        live: Any = node.data
        nbytes = node.place[1]
        content = None
        stretches: Sequence[tuple[int, int]] = ((0, nbytes),) if nbytes else ()
        stored: Stored | None = None
        if not isinstance(live, torch.Tensor) or not _streams(live):
            content = octets(node, live)
        if nbytes > SMALL:
            stretches, stored = self._changed(node, live, content)
            nbytes = sum([stop - start for start, stop in stretches])
        pieces: list[tuple[int, memoryview]] = []
        if self._arena.used + nbytes > MOST_STAGED:
            # Left live, and written from where it is.
            staging.live = True
            if content is None:
                return
            pieces = [(start, content[start:stop].data) for start, stop in stretches]
            stretches = ()
        for start, stop in stretches:
            target = self._arena.take(stop - start)
            if content is not None:
                moves.append((target, content[start:stop]))
            elif stored is None:
                copies.append((live, node.order, target))
            else:
                flat = live.detach().view(-1).view(torch.uint8)
                copies.append((flat[start:stop], (0,), target))
            pieces.append((start, target.data))
        node.data = Staged(node.place[1], pieces, stored, lasting=node.rows is not None)
        if node.place[1] > SMALL:
            staging.arrays.append((node, live))

    def committed(self, staging: Staging) -> None:
        """Take note that what was set aside is stored now."""
        before, self._known = self._known, {}
        for key, watched in staging.watched.items():
            old_watch = self._watched.get(key)
            watched.distrusted = old_watch is not None and old_watch.distrusted
        self._watched, self._pending = staging.watched, None
        for node, live in staging.arrays:
            staged: Any = node.data
            if staged.stored is None:
                continue
            known = self._note(node, live, staged.stored, staging.watched)
            old = before.get(node.place)
            if old is not None and old.owner() is known.owner():
                known.next_check = old.next_check
                known.changes = node.rows is None and _differ(old.stored, staged.stored)

    def failed(self, staging: Staging) -> None:
        """Take note that what was set aside is not stored; it will be set aside again."""
        if self._pending is staging:
            self._pending = None

    def _note(self, node: Array, live: Any, stored: Stored, watched: dict[int, Watched]) -> _Known:
        found = watched.get(buffer_of(node))
        known = _Known(weakref.ref(_owner(live)), stored, None if found is None else found.stored)
        self._known[node.place] = known
        return known

    # -- what changed --------------------------------------------------------------------------------------

    def _changed(
        self, node: Array, live: LiveArray, content: Octets | None
    ) -> tuple[Sequence[tuple[int, int]], Stored | None]:
        """The stretches of a large array's bytes to set aside, and what holds all others.

        :param content: its bytes; None where they are not in main memory.
        """
        everything = ((0, node.place[1]),)
        known = self._known.get(node.place)
        if known is None or known.owner() is not _owner(live) or not node.flat:
            return everything, None
        if node.rows is None and known.changes and node.place[1] <= LARGE:
            return everything, None
        stretches = self._written(node, known, node.place[1])
        if content is not None and stretches is not None and self._check_all:
            stretches = self._checked(node, known, stretches, content)
        if stretches is None:
            if content is None:
                return everything, None
            stretches = _unlike(known.stored, content, everything)
        return _widened(known.stored, stretches), known.stored

    def _written(self, node: Array, known: _Known, nbytes: int) -> list[tuple[int, int]] | None:
        """The bytes of the rows that were written; None if any may have been."""
        watched = self._watched.get(buffer_of(node))
        if watched is None or watched.distrusted or watched.stored is not known.cursor:
            return None
        found = watched.written()
        height = node.shape[0] if node.shape else 0
        if found is None or not height or any(stop > height for _, stop in found):
            return None
        size = nbytes // height
        return [(start * size, stop * size) for start, stop in found]

    def _checked(
        self, node: Array, known: _Known, stretches: list[tuple[int, int]], content: Octets
    ) -> list[tuple[int, int]]:
        """The same, after all other rows were compared with what is stored of them."""
        unlike = _unlike(known.stored, content, _complement(stretches, content.nbytes), read=True)
        if unlike:
            self._distrust(node)
        return buffers.merged([*stretches, *unlike])

    def _question(self, of_buffers: Sequence[Array]) -> None:
        """Look whether buffers have not changed where they say so, before any of them is believed.

        Besides what witnesses say, one chunk is compared, of another array each time: so it is found out before
        long that someone else writes into a buffer.
        """
        self._turn += 1
        for key, watched in self._watched.items():
            arrays = [node for node in of_buffers if buffer_of(node) == key]
            watched.question(arrays)
            if not arrays or self._check_all:
                continue
            node = arrays[self._turn % len(arrays)]
            live: Any = node.data
            known = self._known.get(node.place)
            stretches = None if known is None else self._written(node, known, node.place[1])
            if known is not None and stretches is not None:
                spot = self._spot(known, stretches)
                if spot and _unlike(known.stored, octets(node, live), spot):
                    self._distrust(node)

    @staticmethod
    def _spot(known: _Known, stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """The next chunk that says that it has not changed, if there is any near."""
        nbytes = known.stored.nbytes
        others = _complement(stretches, nbytes)
        at, known.next_check = known.next_check % nbytes, 0
        for begin, extent in itertools.islice(known.stored.layout.placed(at), 4):
            known.next_check = end = begin + extent.take
            if extent.whole and any(start <= begin and end <= stop for start, stop in others):
                return [(begin, end)]
        return []

    def _distrust(self, node: Array) -> None:
        watched = self._watched.get(buffer_of(node))
        if watched is not None and not watched.distrusted:
            watched.distrusted = True
            warnings.warn(
                f"{node.name}: rows changed that its buffer had not written. From now on all of it is compared with "
                "the last checkpoint, which is as exact and takes longer",
                ChangedRowsWarning,
                stacklevel=2,
            )


def _rest(state: State, arena: Arena, *, pin: bool) -> None:
    for node in state.arrays:
        if isinstance(node.data, Staged):
            node.data.release()
    arena.prepare(pin=pin)


def _copy(nodes: Sequence[Array], room: Octets, ends: Sequence[int]) -> None:
    """Copy arrays whole, from where they lie: of hundreds of small ones, views would take longer than bytes."""
    address, content = room.ctypes.data, room.data
    for node, at in zip(nodes, ends, strict=False):
        start, nbytes = node.place
        ctypes.memmove(address + at, start, nbytes)
        node.data = Staged(nbytes, lasting=node.rows is not None, whole=(content, at))


def _owner(live: LiveArray) -> Any:
    """The array that memory belongs to: views are made anew each time."""
    if isinstance(live, torch.Tensor):
        return live
    while isinstance(live.base, np.ndarray):
        live = live.base
    return live


def _has_rows(node: Array) -> bool:
    """Whether an array is one of a buffer's, large, and lies in main memory row after row."""
    if node.rows is None or not node.shape or node.place[1] <= SMALL or not node.flat:
        return False
    return not isinstance(node.data, torch.Tensor) or node.data.is_cpu


def _is_small(node: Array) -> bool:
    """Whether an array is copied whole, from where it lies in main memory."""
    return node.place[1] <= SMALL and node.flat and "device" not in node.extra


def _streams(live: torch.Tensor) -> bool:
    """Whether a tensor is on a device that copies by itself."""
    return live.is_cuda


def _unlike(
    stored: Stored, content: Octets, stretches: Sequence[tuple[int, int]], *, read: bool = False
) -> list[tuple[int, int]]:
    """The stretches, chunk by chunk, whose content is not what is stored of them.

    :param read: whether to read the parts of chunks that a checksum says nothing about; otherwise they count
        as changed.
    """
    found = []
    view: Any = memoryview(content)  # type: ignore[arg-type]
    for start, stop in stretches:
        for begin, extent in stored.layout.placed(start, stop):
            low, high = max(begin, start), min(begin + extent.take, stop)
            if extent.whole and high - low == extent.take:
                same = xxhash.xxh3_128_hexdigest(view[low:high]) == extent.chunk.checksum
            else:
                same = read and stored.holds(low, view[low:high])
            if not same:
                found.append((low, high))
    return buffers.merged(found)


def _widened(stored: Stored, stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The stretches with the small chunks before them, so that there are never many of those.

    As large as what is before it: so each byte is written again a few times at most, whatever the number of
    checkpoints.
    """
    found = []
    for start, stop in stretches:
        while start and stop - start < LEAST_CHUNK:
            begin, _ = next(iter(stored.layout.placed(start - 1, start)))
            if start - begin > 2 * (stop - start) or start - begin >= LEAST_CHUNK:
                break
            start = begin
        found.append((start, stop))
    return buffers.merged(found)


def _complement(stretches: Sequence[tuple[int, int]], nbytes: int) -> list[tuple[int, int]]:
    edges = [0, *(edge for stretch in stretches for edge in stretch), nbytes]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def _differ(before: Stored, after: Stored) -> bool:
    """Whether most of the chunks that an array consists of are others than before."""
    old = {extent.chunk for extent in before.layout.extents()}
    now = [extent.chunk for extent in after.layout.extents()]
    return sum(chunk not in old for chunk in now) * 2 > len(now)

"""What buffers did since the last checkpoint: which of their rows were written, and whether that can be believed.

Knows live arrays and what `perdure.state.buffers` says of buffers, and nothing of what is stored of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from perdure.snapshot._arena import Octets
from perdure.state import Cursor, LiveArray, address, buffers
from perdure.state.buffers import Rows, rows_before
from perdure.tree import Array, State, flat_bytes

#: So many bytes at most are kept of each array of a buffer to find out whether it was rewritten.
MOST_TESTIMONY = 8 << 10


class Watched:
    """A buffer, and for each of its rings how many rows were seen to be written since a checkpoint.

    A cursor says nothing of a whole lap that nobody looked at, nor of a buffer that was emptied and is fuller now
    than it was. Both write over all rows that had been written last, so a few of those are kept as witnesses.
    """

    def __init__(self, rows: Rows, cursor: Cursor) -> None:
        self.rows = rows
        self.stored = cursor
        self.witnesses = rows_before(cursor)
        self.testimony: dict[tuple[int, int], Octets] = {}
        self.seen = cursor
        self.advanced = [0] * len(cursor.rings)
        self.looks = 0
        self.emptied = False
        #: What `_between` found, and after how many looks.
        self._found: tuple[int, list[tuple[int, int]] | None] = (-1, None)
        #: Whether rows changed although they had not been written.
        self.distrusted = False

    def look(self) -> None:
        """See how far the buffer is."""
        now = self.rows.cursor()
        found = None if now is None else buffers.advance(self.seen, now)
        self.looks += 1
        if now is None or found is None:
            self.emptied = True
        else:
            self.seen = now
            self.advanced = [a + b for a, b in zip(self.advanced, found, strict=True)]

    def written(self) -> list[tuple[int, int]] | None:
        """The rows that may have been written since the checkpoint; None if any may."""
        # Where a buffer does not count its rows, that it was not looked at in between may hide a lap.
        if self.emptied or (self.looks < 2 and any(ring.written is None for ring in self.seen.rings)):
            return None
        return self._between()

    def _between(self) -> list[tuple[int, int]] | None:
        # The same for each array of the buffer.
        if self._found[0] != self.looks:
            self._found = self.looks, buffers.between(self.stored, self.seen, self.advanced)
        return self._found[1]

    def witness(self, node: Array, live: LiveArray) -> None:
        """Keep what some rows of one of its arrays hold now."""
        if self.witnesses.size and self.witnesses[-1] < node.shape[0]:
            self.testimony[node.place] = self._read(node, live, self.witnesses)

    def question(self, nodes: Sequence[Array]) -> None:
        """Have a buffer count as rewritten if rows of its arrays changed that its cursor has not passed."""
        edges = np.array([edge for stretch in self._between() or [] for edge in stretch], np.int64)
        unwritten = np.searchsorted(edges, self.witnesses, side="right") % 2 == 0
        for node in nodes:
            kept = self.testimony.get(node.place)
            if self.emptied or kept is None or self.witnesses[-1] >= node.shape[0]:
                continue
            live: Any = node.data
            now = self._read(node, live, self.witnesses[unwritten])
            self.emptied = not np.array_equal(kept[unwritten], now)

    def _read(self, node: Array, live: LiveArray, which: np.ndarray[Any, Any]) -> Octets:
        table = octets(node, live).reshape(node.shape[0], -1)
        # Of long rows some bytes all over them.
        step = max(1, table.shape[1] * self.witnesses.size // MOST_TESTIMONY)
        found: Octets = (
            table[which[:, None], np.arange(0, table.shape[1], step)] if step > 1 else table[which]
        )
        return found


def watch(state: State) -> dict[int, Watched]:
    """The buffers of a state, as far as they are now."""
    found: dict[int, Watched] = {}
    for node in state.arrays:
        key = buffer_of(node)
        if key and key not in found and (cursor := node.rows.cursor()) is not None:
            found[key] = Watched(node.rows, cursor)
    return found


def buffer_of(node: Array) -> int:
    """The id of the buffer that an array belongs to; 0 if it belongs to none."""
    return 0 if node.rows is None else id(node.rows.buffer)


def place(live: LiveArray) -> tuple[int, int]:
    """Where an array lies: what stays the same when a view of it is made anew."""
    return address(live), live.nbytes


def octets(node: Array, live: LiveArray) -> Octets:
    """The bytes of an array, flat; without a copy where they lie together in main memory."""
    if isinstance(live, torch.Tensor):
        return np.frombuffer(flat_bytes(live, node.order), np.uint8)
    if live.flags.c_contiguous and live.ndim and live.nbytes:
        return live.reshape(-1).view(np.uint8)
    return np.frombuffer(flat_bytes(live, node.order), np.uint8)


def locate(node: Array) -> None:
    """Note down where an array that no walk has met lies."""
    live: Any = node.data
    node.place = place(live)
    plain = node.order == tuple(range(len(node.shape)))
    node.flat = plain and bool(
        live.is_contiguous() if isinstance(live, torch.Tensor) else live.flags.c_contiguous
    )

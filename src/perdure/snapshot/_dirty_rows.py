"""Which rows of replay buffers were written since the last checkpoint, and whether their cursors can be believed.

Knows live arrays and what `perdure.state.buffers` says of buffers, and nothing of what is stored of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from perdure.snapshot._arena import Bytes
from perdure.state import Cursor, buffers
from perdure.state.buffers import Rows, rows_before
from perdure.tree import Array, State, flat_bytes

#: At most so many bytes of each array of a buffer are kept to find out whether it was rewritten.
MOST_SAMPLED = 8 << 10


class BufferTracker:
    """Follows a buffer since a checkpoint: how many rows of each of its rings were written.

    A cursor does not show a whole lap that nobody saw, nor that the buffer was emptied and is fuller now than before.
    Both overwrite the rows that were written last, so a few of those are kept as samples.

    :param cursor: of the buffer at the checkpoint.
    """

    def __init__(self, rows: Rows, cursor: Cursor) -> None:
        self.cursor = cursor
        #: Whether rows changed that the buffer had not written. Then its cursor is not believed any more.
        self.unreliable = False
        self._rows = rows
        self._sampled = rows_before(cursor)
        self._samples: dict[tuple[int, int], Bytes] = {}
        #: The cursor at the last look, how many rows of each ring were written by then, and how many looks there were.
        #: In one, because a KeyboardInterrupt may come between any two lines: then all of it is old, or all new.
        self._seen = (cursor, [0] * len(cursor.rings), 0)
        self._rewritten = False
        #: What `_between` found, and after how many looks.
        self._found: tuple[int, list[tuple[int, int]] | None] = (-1, None)

    def look(self) -> None:
        """Note where the buffer's cursor is now."""
        before, advanced, looks = self._seen
        now = self._rows.cursor()
        further = None if now is None else buffers.advance(before, now)
        if now is None or further is None:
            self._rewritten = True
            self._seen = before, advanced, looks + 1
        else:
            self._seen = now, [a + b for a, b in zip(advanced, further, strict=True)], looks + 1

    def written(self) -> list[tuple[int, int]] | None:
        """The rows that may have been written since the checkpoint, as stretches; None if it can be any."""
        now, _, looks = self._seen
        # Of a buffer that does not count its rows, a lap between two looks cannot be seen.
        if self._rewritten or (looks < 2 and any(ring.written is None for ring in now.rings)):
            return None
        return self._between()

    def _between(self) -> list[tuple[int, int]] | None:
        # The same for each array of the buffer.
        now, advanced, looks = self._seen
        if self._found[0] != looks:
            self._found = looks, buffers.between(self.cursor, now, advanced)
        return self._found[1]

    def sample(self, node: Array) -> None:
        """Keep what some rows of one of the buffer's arrays hold now."""
        if self._sampled.size and self._sampled[-1] < node.shape[0]:
            self._samples[node.span] = self._read(node, self._sampled)

    def verify_untouched(self, nodes: Sequence[Array]) -> None:
        """Compare the samples of rows that the cursor has not passed; if one differs, any row may have been written.

        :param nodes: the buffer's arrays.
        """
        edges = np.array([edge for stretch in self._between() or [] for edge in stretch], np.int64)
        unwritten = np.searchsorted(edges, self._sampled, side="right") % 2 == 0
        for node in nodes:
            kept = self._samples.get(node.span)
            if self._rewritten or kept is None or self._sampled[-1] >= node.shape[0]:
                continue
            now = self._read(node, self._sampled[unwritten])
            self._rewritten = not np.array_equal(kept[unwritten], now)

    def _read(self, node: Array, which: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Bytes:
        table = as_uint8(node).reshape(node.shape[0], -1)
        # Of long rows, bytes at regular distances.
        step = max(1, table.shape[1] * self._sampled.size // MOST_SAMPLED)
        found: Bytes = table[which[:, None], np.arange(0, table.shape[1], step)] if step > 1 else table[which]
        return found


def track(state: State) -> dict[int, BufferTracker]:
    """A tracker for each buffer of a state, from now on; by the id of the buffer."""
    found: dict[int, BufferTracker] = {}
    for node in state.arrays:
        rows = node.rows
        if isinstance(rows, Rows) and id(rows.buffer) not in found and (cursor := rows.cursor()) is not None:
            found[id(rows.buffer)] = BufferTracker(rows, cursor)
    return found


def buffer_of(node: Array) -> int:
    """The id of the buffer that an array belongs to; 0 if it belongs to none."""
    return id(node.rows.buffer) if isinstance(node.rows, Rows) else 0


def as_uint8(node: Array) -> Bytes:
    """The bytes of a live array, flat; without a copy if they lie together in main memory."""
    live = node.data
    assert isinstance(live, np.ndarray | torch.Tensor)
    if isinstance(live, np.ndarray) and live.flags.c_contiguous and live.ndim and live.nbytes:
        return live.reshape(-1).view(np.uint8)
    return np.frombuffer(flat_bytes(live, node.order), np.uint8)

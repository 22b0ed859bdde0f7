"""Copies memory with several cores while the caller waits. Knows only arrays of bytes."""

from __future__ import annotations

import collections
import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from perdure.snapshot._arena import Bytes

#: A target and its source, of the same size.
Move = tuple[Bytes, Bytes]

#: How much a core copies at a time; meanwhile NumPy lets other threads run.
PIECE = 1 << 20
#: With fewer bytes than this the caller is done before another thread has started.
WORTHWHILE = 8 << 20
_MOST_THREADS = 4


class Copier:
    """Copies memory piece by piece; each thread takes the next piece as soon as it is free."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    @contextmanager
    def copying(self, moves: Sequence[Move]) -> Iterator[None]:
        """Copy while the body of this context runs; after it, everything is copied.

        If there is much to copy, other threads help. Afterwards they are idle, also if the body raises.

        :param moves: no two of them overlap.
        """
        pieces = collections.deque(
            (target[start : start + PIECE], source[start : start + PIECE])
            for target, source in moves
            for start in range(0, target.nbytes, PIECE)
        )

        def work() -> None:
            while pieces:
                try:
                    target, source = pieces.popleft()
                except IndexError:  # another thread was faster
                    return
                target[:] = source

        # What each helper says at its end. Futures could be left locked if a KeyboardInterrupt came while they are
        # waited for.
        ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def help_out() -> None:
            try:
                work()
            except Exception as error:
                ended.put(error)
            else:
                ended.put(None)

        helpers = 0
        if sum([target.nbytes for target, _ in moves]) >= WORTHWHILE:
            # While the interpreter shuts down, no thread can be started.
            with suppress(RuntimeError):
                for _ in range(min(_cores(), _MOST_THREADS) - 1):
                    self._pool().submit(help_out)
                    helpers += 1
        try:
            yield
            work()
        finally:
            pieces.clear()
            errors = [ended.get() for _ in range(helpers)]
        for error in errors:
            if error is not None:
                raise error

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_MOST_THREADS - 1, "perdure copy")
        return self._threads


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

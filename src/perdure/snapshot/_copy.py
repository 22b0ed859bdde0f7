"""Copying memory with more than one core, while the caller waits for it. Knows arrays of bytes and nothing else."""

from __future__ import annotations

import collections
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress

from perdure.snapshot._arena import Octets

#: Where bytes are to go, and where they are.
Move = tuple[Octets, Octets]

#: What a core copies at a time. NumPy lets other threads run meanwhile.
PIECE = 1 << 20
#: With less than this the caller is done before another thread has begun.
WORTHWHILE = 8 << 20
_MOST_THREADS = 4


class Copier:
    """Copies stretches of memory piece by piece; whoever is free takes the next one."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    @contextmanager
    def copying(self, moves: Sequence[Move]) -> Iterator[None]:
        """Copy while something else is done; when that is, and this context left, all of it is there.

        Other threads take part if there is much of it. They are at rest afterwards, whatever happens.

        :param moves: none of which overlaps another.
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
                except IndexError:  # another one was faster
                    return
                target[:] = source

        helpers: list[Future[None]] = []
        if sum([target.nbytes for target, _ in moves]) >= WORTHWHILE:
            # When the interpreter ends, no thread begins any more.
            with suppress(RuntimeError):
                for _ in range(min(_cores(), _MOST_THREADS) - 1):
                    helpers.append(self._pool().submit(work))
        try:
            yield
            work()
        finally:
            pieces.clear()
            wait(helpers)
        for helper in helpers:
            helper.result()

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_MOST_THREADS - 1, "perdure copy")
        return self._threads


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

"""Leaves within a given time after a signal, wherever the training is by then.

At safe points a copy of the world is kept in memory. When a signal comes, a thread makes that copy durable at once. If
the training comes to its next safe point in time, it saves that one too and leaves as usual. If it does not (an
evaluation, a long rollout), it is interrupted where it is, and what it did since the copy is done again by the next
process. Knows clocks, signals and threads, and no states.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from perdure.run._signals import is_interactive

#: What copying takes is at most this part of the training's time.
_SHARE = 0.05
#: So much of the time is left to the end of the process: handlers of the script, its workers, the interpreter.
_TO_EXIT = 0.15


class Grace:
    """The time that a process has for leaving.

    :param seconds: how long it may take from the first signal on; None for as long as it takes.
    :raises ValueError: if that is no positive number.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None and not (isinstance(seconds, int | float) and 0 < seconds < float("inf")):
            raise ValueError(
                f"grace: expected a number of seconds, more than 0, or None; found {seconds!r:.80}"
            )
        self.seconds = seconds
        #: Whether the training is to be interrupted, because the time is over.
        self.is_over = False
        self._next_copy = 0.0

    @property
    def wants_copy(self) -> bool:
        """Whether to keep a copy at this safe point: if copying has not taken more of the time than it may."""
        return self.seconds is not None and time.monotonic() >= self._next_copy

    def copied(self, took: float) -> None:
        """Note how long a copy took, in seconds."""
        self._next_copy = time.monotonic() + took / _SHARE

    def begin(self, number: signal.Signals, make_durable: Callable[[], None]) -> None:
        """Let the time run. Called in a signal handler.

        :param number: the signal; sent again to interrupt the training when the time is nearly over.
        :param make_durable: makes the copy durable; called in a thread.
        """
        if self.seconds is not None:
            began = time.monotonic()
            # The handler may have interrupted `threading` itself, whose locks would then never be given back.
            _thread.start_new_thread(self._run, (self.seconds, began, number, make_durable))

    def _run(
        self, seconds: float, began: float, number: signal.Signals, make_durable: Callable[[], None]
    ) -> None:
        _thread.start_new_thread(make_durable, ())
        time.sleep(max(0.0, began + seconds * (1 - _TO_EXIT) - time.monotonic()))
        self.is_over = True
        main = threading.main_thread().ident
        if main is not None:
            signal.pthread_kill(main, number)
        if is_interactive():
            return
        time.sleep(max(0.0, began + seconds * (1 - _TO_EXIT / 3) - time.monotonic()))
        # Something swallowed the exception, or no Python code is running where it could be raised.
        with suppress(OSError):
            os.write(2, b"perdure: the time for leaving is over, so the process ends where it is\n")
        os._exit(128 + number)

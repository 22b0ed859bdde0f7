"""SIGTERM, Ctrl-C and a closing terminal (SIGHUP) while a run is going: the first asks for a checkpoint at the next
safe place, the second leaves at once.

Knows no files and no run.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_OUTPUTS = (1, 2)


class Interrupts:
    """While entered, signals are noted instead of obeyed; in other threads than the main one it does nothing."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._owner = 0
        self._terminals: list[int] = []

    def __enter__(self) -> Interrupts:
        self.received = None
        self._owner = os.getpid()
        self._terminals = [fd for fd in _OUTPUTS if os.isatty(fd)]
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # What the process was told to ignore (by nohup, say) stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if self.received is not None or os.getpid() != self._owner:
            if number == signal.SIGHUP and os.getpid() == self._owner:
                # One hangup is told by the system, by the shell, and by a service manager after SIGTERM: nobody is
                # impatient.
                return
            # The second one (or a forked child's): as if nobody had caught it.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = signal.Signals(number)
        # Written as bytes: a signal may come in the middle of a print, and text streams are not re-entrant. To nobody,
        # maybe: that must not become an error in the middle of the training.
        with suppress(OSError, ValueError):
            os.write(
                sys.__stderr__.fileno() if sys.__stderr__ is not None else 2,
                f"\nperdure: {self.received.name}: a checkpoint at the next safe place, then this run leaves "
                "(once more to leave at once)\n".encode(),
            )

    def _leave_terminal(self) -> None:
        """Let what is still printed go nowhere if the terminal is gone: a print would raise, and lose the step."""
        for fd in self._terminals:
            if not os.isatty(fd):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, fd)
                os.close(nowhere)

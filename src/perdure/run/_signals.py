"""SIGTERM, Ctrl-C and a closing terminal (SIGHUP) during a run: the first signal asks for a checkpoint at the next safe
point, the second ends the process at once.

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
    """Inside, a first signal is noted instead of obeyed. In threads other than the main one it does nothing."""

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
                # A signal that the process ignores, for example under nohup, stays ignored.
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
                # One hangup may arrive several times: from the system, from the shell, and from a service manager after
                # SIGTERM. It does not mean that somebody is impatient.
                return
            # The second signal, or one to a forked child, has its default effect.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = signal.Signals(number)
        # Written as bytes: a signal may interrupt a print, and text streams are not re-entrant. Standard error may be
        # closed, which must not become an error in the training.
        with suppress(OSError, ValueError):
            os.write(
                sys.__stderr__.fileno() if sys.__stderr__ is not None else 2,
                f"\nperdure: {self.received.name} received: saving a checkpoint at the next safe point, then exiting "
                "(send it again to exit at once)\n".encode(),
            )

    def _leave_terminal(self) -> None:
        """Discard further output if the terminal is gone: a print would raise an error in the middle of a step."""
        for fd in self._terminals:
            if not os.isatty(fd):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, fd)
                os.close(nowhere)

"""Starts a command again when it dies, as long as it makes progress."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from perdure.run import say

_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def with_restarts(command: Sequence[str], directory: str, most: int) -> int:
    """Run a command until it succeeds.

    It is not started again if somebody asked it to leave, and not if it died without a new checkpoint since its last
    start: then it would die there each time.

    :param command: the program and its arguments.
    :param directory: of the run, in which checkpoints are progress.
    :param most: how often it is started again at most.
    :returns: its exit code; 128 + the number of a signal that ended it.
    """
    for attempt in range(most + 1):
        before = _progress(directory)
        code, asked = _once(command)
        if code == 0 or asked:
            return code
        how = signal.Signals(code - 128).name if code - 128 in signal.valid_signals() else f"exit code {code}"
        if attempt == most:
            say(f"it ended with {how}, and was started again {most} times already (--restarts {most})")
        elif _progress(directory) == before:
            say(f"it ended with {how} and made no progress since its last start, so it is not started again")
            return code
        else:
            say(f"it ended with {how}; starting it again ({attempt + 1} of {most})")
    return code


def _once(command: Sequence[str]) -> tuple[int, bool]:
    """Run a command; its exit code, and whether it was asked to leave."""
    asked = False
    # A child that is started before the handlers are there would leave a signal of that moment to the default.
    process: subprocess.Popen[bytes] | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        # A terminal sends Ctrl-C to both.
        if process is not None and not (number == signal.SIGINT and os.isatty(0)):
            process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        process = subprocess.Popen(command)
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return (128 - code if code < 0 else code), asked


def _progress(directory: str) -> set[str]:
    """The checkpoints of all phases."""
    return {str(path) for path in Path(directory).glob("phase-*/checkpoints/*")}

"""When the next checkpoint is due. Knows steps and the clock, and neither worlds nor files."""

from __future__ import annotations

import time

_DEFAULT_SECONDS = 600.0


class Cadence:
    """When the last checkpoint was, in steps and in seconds."""

    def __init__(self) -> None:
        self._step = 0
        self._time = time.monotonic()

    def restart(self, step: int) -> None:
        """Count from now on: a checkpoint of this step was asked for, or resumed."""
        self._step = step
        self._time = time.monotonic()

    def due(self, step: int, every: int | None, seconds: float | None) -> bool:
        """Whether a checkpoint is due once `step` steps are done.

        :param every: at every multiple of so many steps.
        :param seconds: so many seconds after the last one; ten minutes if neither is given.
        """
        if every is None and seconds is None:
            seconds = _DEFAULT_SECONDS
        if every is not None and step // every > self._step // every:
            return True
        return seconds is not None and step > self._step and time.monotonic() - self._time >= seconds

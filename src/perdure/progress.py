"""Progress bars for what takes longer than a second, in terminals and notebooks. It does not know what goes on."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

#: Nothing is shown for so many seconds: most of what could be shown is over by then.
DELAY = 1.0


class Bar:
    """A progress bar that appears once it is needed. Use it as a context manager.

    :param what: what goes on, for a person.
    :param unit: what :meth:`update` counts.
    :param log: whether to print one line where there is no terminal. Otherwise nothing is shown there.
    :param hidden: whether nothing is shown at all.
    """

    def __init__(
        self,
        what: str,
        *,
        unit: Literal["bytes", "steps"] = "bytes",
        log: bool = False,
        hidden: bool = False,
    ) -> None:
        self._what = f"perdure: {what}"
        self._unit = unit
        self._log = log
        self._hidden = hidden
        self._began = 0.0
        self._shown: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Bar:
        self._began = time.monotonic()
        return self

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done. It is cheap, and any thread may call it."""
        if self._shown is None:
            passed = time.monotonic() - self._began
            if self._hidden or passed < DELAY:
                return
            # Imported only now: a run that never waits for a second does not need it.
            from rich.console import Console

            console = Console(stderr=True)
            if not (console.is_terminal or console.is_jupyter):
                self._hidden = True
                if self._log:
                    left = passed / max(1, done) * (total - done)
                    print(f"{self._what}, about {left:.0f} s more", file=sys.stderr, flush=True)
                return
            from rich.progress import Progress

            progress = Progress(*self._columns(), console=console, transient=True)
            progress.start()
            self._shown = progress, progress.add_task(self._what, total=total)
        progress, task = self._shown
        progress.update(task, completed=done, total=total)

    def _columns(self) -> list[ProgressColumn]:
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        amount = DownloadColumn() if self._unit == "bytes" else MofNCompleteColumn()
        return [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            amount,
            TimeRemainingColumn(),
        ]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown is not None:
            self._shown[0].stop()

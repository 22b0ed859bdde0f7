"""A progress bar for what takes longer than a second, in terminals and notebooks. Knows nothing of what goes on."""

from __future__ import annotations

import time
from types import TracebackType

#: Nothing is shown before so many seconds have passed: most of what could be shown is over by then.
PATIENCE = 1.0


class Bar:
    """A bar that appears if it is needed. Used as a context manager.

    :param what: what goes on, for a person.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._began = 0.0
        self._progress: object | None = None
        self._task: object = None

    def __enter__(self) -> Bar:
        self._began = time.monotonic()
        return self

    def update(self, done: int, total: int) -> None:
        """Show that `done` of `total` bytes are done; may be called by another thread, and as often as one likes."""
        if self._progress is None:
            if time.monotonic() - self._began < PATIENCE:
                return
            self._show(total)
        self._progress.update(self._task, completed=done, total=total)  # type: ignore[union-attr]

    def _show(self, total: int) -> None:
        # Imported only now: a run that never waits for a second does not need it.
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("perdure: {task.description}"),
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
        )
        progress = Progress(*columns, console=Console(stderr=True), transient=True)
        progress.start()
        self._progress, self._task = progress, progress.add_task(self._what, total=total)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()  # type: ignore[attr-defined]

"""Every error and warning Perdure raises. A message says what was expected, what was found, where, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.state import Report


class PerdureError(Exception):
    """Base class of all errors that Perdure raises on purpose."""


class PerdureWarning(UserWarning):
    """Base class of all warnings that Perdure gives."""


class CaptureError(PerdureError):
    """Something in the world cannot be captured; the message lists each path with its remedy."""


class RestoreError(PerdureError):
    """A state does not fit the live objects.

    Raised before any live object was changed, unless the message says otherwise. `report` (may be None) holds
    every path that did not fit.
    """

    def __init__(self, message: str, report: Report | None = None) -> None:
        super().__init__(message)
        self.report = report


class StoreError(PerdureError):
    """A run directory cannot be read or written."""


class DamagedError(StoreError):
    """A file of a run is damaged, missing or not what its manifest says."""


class FormatError(DamagedError):
    """A file was written in a format (or a version of it) that this version of Perdure does not read."""


class LockedError(StoreError):
    """Another process is writing to this run."""


class UntrustedError(PerdureError):
    """A file with a pickle in it names classes that were not trusted; nothing of it was run. `names` lists them."""

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class NotPicklableError(PerdureError):
    """The policy cannot be pickled in its entirety; `path` names the attribute at fault."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class DamagedCheckpointWarning(PerdureWarning):
    """A newer checkpoint is damaged; an older one is used."""


class NotCapturedWarning(PerdureWarning):
    """Something will not be part of the checkpoints."""


class SlowReplayWarning(PerdureWarning):
    """To resume here would take long, because an environment's steps have to be played again."""


class ChangedScriptWarning(PerdureWarning):
    """The script builds other values than when the run began; the checkpoint's are used."""


class ChangedRowsWarning(PerdureWarning):
    """Rows of a replay buffer changed that its cursor said nothing of."""


class CheckpointFailedWarning(PerdureWarning):
    """A checkpoint could not be written, and the training goes on without it."""

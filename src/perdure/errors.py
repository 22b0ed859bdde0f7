"""Every error and warning that Perdure raises on purpose.

Errors::

    PerdureError
    ├── CaptureError               something in the world cannot be part of a checkpoint
    │   └── NotRestorableError     it can, but a fresh process of the script could not restore it
    ├── RestoreError               a checkpoint or policy file does not fit the script
    ├── StoreError                 a run directory cannot be read or written
    │   ├── LockedError            another process is writing to it
    │   ├── DamagedError           a file of it is damaged or missing
    │   └── UnsupportedFormatError a newer Perdure wrote it
    ├── UntrustedError             a policy file needs classes that were not trusted
    ├── NotPicklableError          a policy cannot be saved as a whole
    ├── EnvSpecError               `check_env` cannot build the environment in another process
    └── ScriptError                `perdure run` cannot run the script so that it can be resumed

    Preempted                      a SystemExit: the run is checkpointed and the process exits

Warnings::

    PerdureWarning
    ├── DamagedCheckpointWarning   a damaged checkpoint was skipped, or given up
    ├── NotCapturedWarning         something will not be part of the checkpoints
    ├── NotRestorableWarning       a fresh process of the script could not restore the checkpoints from now on
    ├── SlowReplayWarning          resuming would take long, because episodes are played again
    ├── ChangedScriptWarning       the script was edited since the run began
    ├── ChangedRowsWarning         a replay buffer changed where its cursor did not say so
    └── CheckpointFailedWarning    a checkpoint could not be written

Each message says what was expected, what was found, where, and what to do. A warning points at the line of the user's
that it is about (`user_level`). This module imports nothing of Perdure.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol


class RestoreReport(Protocol):
    """What became of each path; `perdure.state.Report` is one."""

    missing: list[str]
    unexpected: list[tuple[str, str]]
    mismatched: list[tuple[str, str]]


class PerdureError(Exception):
    """Base class of all errors that Perdure raises on purpose."""


class CaptureError(PerdureError):
    """Something in the world cannot be captured.

    Raised when a checkpoint is taken. The message lists every path that is at fault, each with its remedy: register
    the class, wrap the environment, or leave the path out with `skip`.
    """


class NotRestorableError(CaptureError):
    """A checkpoint could be taken, but a fresh process of the same script could not restore it.

    Raised at the first checkpoint of a process, before anything is written, so that no training time is lost. The
    message lists every path with its remedy. What the world is compared with is the world as the script built it: the
    one that was given to `Run.resume` or `Run.steps`. `perdure.Run(..., on_unrestorable="warn")` goes on without.
    """


class RestoreError(PerdureError):
    """A checkpoint or a policy file does not fit the live objects.

    Raised before any live object was changed, unless the message says otherwise. Build the same objects as the script
    that wrote it, or start a new run in another directory.

    :param report: what became of each path, if that is known.
    """

    def __init__(self, message: str, report: RestoreReport | None = None) -> None:
        super().__init__(message)
        self.report = report


class StoreError(PerdureError):
    """A run directory cannot be read or written: it is not there, the disk is full, permission is denied.

    Checkpoints that are already committed are not affected. Remove the cause and try again.
    """


class LockedError(StoreError):
    """Another process is writing to the run. Wait until it ends, stop it, or use another directory."""


class DamagedError(StoreError):
    """A file of a run is damaged, missing, or not what Perdure writes.

    Resuming skips damaged checkpoints. `perdure verify` lists everything that is wrong, and `perdure repair` removes
    what cannot be used.
    """


class UnsupportedFormatError(StoreError):
    """A file is intact, but a newer Perdure wrote it in a format that this one does not read.

    It is not damaged, and nothing skips or repairs it: upgrade Perdure.
    """


class UntrustedError(PerdureError):
    """A policy file needs classes or functions that were not trusted; nothing in it was run.

    Trust them by name if you know where the file comes from: `load_policy(..., trust=[...])`.

    :param names: the classes and functions that were not trusted.
    """

    def __init__(self, message: str, names: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class NotPicklableError(PerdureError):
    """A policy cannot be pickled as a whole.

    Define its classes and functions at the top level of a module, or save only the state dictionary.

    :param path: the attribute that cannot be pickled.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class EnvSpecError(PerdureError):
    """`perdure check-env` and `perdure.check_env` cannot tell another process how to build the environment.

    Name it by its id or by a function at the top level of a module, with arguments that JSON can hold.
    """


class ScriptError(PerdureError):
    """`perdure run` cannot run a script so that it can be resumed.

    It cannot be read, no training loop is found in it, or it is another script than the run is of.
    """


class Preempted(SystemExit):
    """A signal asked the run to stop: it has a checkpoint, and the process exits with 128 + the signal's number.

    It is a `SystemExit` so that a script needs no code for it. Catch it only to clean up, and raise it again.
    """


class PerdureWarning(UserWarning):
    """Base class of all warnings that Perdure gives."""


class DamagedCheckpointWarning(PerdureWarning):
    """A damaged checkpoint was skipped and an older one is used, or it was deleted because newer ones are good."""


class NotCapturedWarning(PerdureWarning):
    """Something will not be part of the checkpoints, so a resumed run may not be exact. Keep it in the world."""


class NotRestorableWarning(PerdureWarning):
    """Since the last checkpoint something came into the world that a fresh process of the script could not restore.

    The run goes on, and its checkpoints are still written. The last one that can be restored is kept.
    """


class SlowReplayWarning(PerdureWarning):
    """Resuming would take long, because an environment's steps have to be played again."""


class ChangedScriptWarning(PerdureWarning):
    """The script was edited since the run began. The message tells which values and which code are in force."""


class ChangedRowsWarning(PerdureWarning):
    """Rows of a replay buffer changed although its cursor had not passed them."""


class CheckpointFailedWarning(PerdureWarning):
    """A checkpoint could not be written, and the training goes on without it (`on_error="warn"`)."""


# -- whose code it is --------------------------------------------------------------------------------------------------

_PERDURE = str(Path(__file__).parent) + os.sep


@lru_cache(maxsize=1)
def _installed_below() -> tuple[str, ...]:
    paths = {sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths |= {*site.getsitepackages(), site.getusersitepackages()}
    real = {os.path.realpath(path) for path in paths} | paths
    return tuple(os.path.join(path, "") for path in real)


def is_installed_file(filename: str) -> bool:
    """Whether a file belongs to Python or to an installed package."""
    return filename.startswith(_installed_below()) or "-packages/" in filename


def is_users_file(filename: str) -> bool:
    """Whether a file is the user's: nobody installed it, and it is not one of Perdure's."""
    return not (is_installed_file(filename) or filename.startswith(_PERDURE))


def user_level() -> int:
    """The `stacklevel` for a warning from the calling function: that of the line in the user's script."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and not is_users_file(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    return level

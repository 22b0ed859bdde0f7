"""Runs as they lie on a disk: finding them, and looking at one without its lock and without reading its data."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from perdure.errors import PerdureWarning, StoreError
from perdure.persistence import BestRecord
from perdure.store import (
    CHECKPOINTS,
    GET_LIMIT,
    RUN_FILE,
    Catalog,
    CheckpointInfo,
    CheckpointStatus,
    Holder,
    LocalBackend,
    RunInfo,
    Verdict,
    open_run,
    read_small,
    survey,
    verdict_of,
)

_CHECKSUMMED = b'{"checksum":'


@dataclass
class RunStatus:
    """What can be seen of a run at a glance.

    :param checkpoints: each with whether it can be used, from the oldest to the newest.
    :param best: the score of the published best policy.
    :param nbytes: of all files in its directory.
    :param holder: the process that writes to it, if one does.
    :param error: why it cannot be opened, or None.
    :param problems: what is wrong, in words; newer formats are none.
    """

    path: str
    run: RunInfo | None = None
    checkpoints: list[CheckpointStatus] = field(default_factory=list)
    best: BestRecord | None = None
    nbytes: int = 0
    holder: Holder | None = None
    error: StoreError | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def newest(self) -> CheckpointInfo | None:
        """The newest checkpoint that can be used."""
        return next((each.info for each in reversed(self.checkpoints) if each.verdict == "ok"), None)

    @property
    def written(self) -> str:
        """When it was last written to, as far as that is known."""
        return self.newest.created if self.newest else self.run.created if self.run else ""

    @property
    def state(self) -> Verdict | Literal["no checkpoint"]:
        """Whether it can be used, and why not."""
        if self.error is not None:
            return verdict_of(self.error)
        if any(each.verdict == "newer format" for each in self.checkpoints):
            return "newer format"
        if self.problems:
            return "damaged"
        return "ok" if self.checkpoints else "no checkpoint"

    @property
    def damaged(self) -> bool:
        """Whether anything in it is damaged."""
        return self.state == "damaged" or any(map(_is_lost, self.checkpoints))


def is_run(path: str) -> bool:
    """Whether a directory is the directory of a run, damaged or not."""
    with suppress(OSError), os.scandir(os.path.join(path, CHECKPOINTS)) as found:
        if any(item.name.endswith(".json") and item.name[:-5].isdecimal() for item in found):
            return True
    try:
        # Other programs have files of this name too.
        return read_small(os.path.join(path, RUN_FILE), GET_LIMIT).startswith(_CHECKSUMMED)
    except OSError:
        return False


def find_runs(top: str, closed: list[str] | None = None) -> Iterator[str]:
    """The directories of the runs below `top`, sorted; `top` alone if it is one.

    :param closed: gets the directories that cannot be looked into.
    """
    stack = [top]
    while stack:
        path = stack.pop()
        if is_run(path):
            yield path
            continue
        try:
            with os.scandir(path) as found:
                below = [
                    os.path.join(path, item.name) if path != "." else item.name
                    for item in found
                    if item.is_dir(follow_symlinks=False) and not item.name.startswith(".")
                ]
        except FileNotFoundError:
            continue  # removed meanwhile
        except OSError:
            if closed is not None:
                closed.append(path)
            continue
        stack += sorted(below, reverse=True)


def look(path: str, *, briefly: bool = False) -> RunStatus:
    """All that can be seen of the run in a directory without reading its data.

    :param briefly: read only the heads of the manifests, which is much faster. How many bytes a checkpoint has stays
        unknown, and what is wrong in the rest of a forged manifest.
    """
    backend = LocalBackend(path)
    best = BestRecord.read(path)
    if best is not None and not math.isfinite(best.score):
        best = None
    seen = RunStatus(path, best=best, nbytes=disk_usage(path), holder=backend.holder())
    try:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always", PerdureWarning)
            seen.run = open_run(backend)
        seen.problems += [str(warning.message) for warning in given]
        seen.checkpoints = list(survey(Catalog(backend, seen.run.id), "head" if briefly else "glance"))
    except StoreError as error:
        seen.error = error
        seen.problems.append(str(error))
    seen.problems += [each.problem for each in seen.checkpoints if _is_lost(each)]
    return seen


def _is_lost(status: CheckpointStatus) -> bool:
    return status.verdict in ("damaged", "unreadable")


def disk_usage(path: str) -> int:
    """Bytes of all files below a directory; a file with several names counts once."""
    total = 0
    known: set[tuple[int, int]] = set()
    stack = [path]
    while stack:
        # What was removed in the meantime or may not be read counts nothing.
        with suppress(OSError), os.scandir(stack.pop()) as found:
            for item in found:
                if item.is_dir(follow_symlinks=False):
                    stack.append(item.path)
                    continue
                status = item.stat(follow_symlinks=False)
                if (status.st_dev, status.st_ino) not in known:
                    known.add((status.st_dev, status.st_ino))
                    total += status.st_size
    return total


def without_directory(message: str, path: str) -> str:
    """A message about files of a run, with their names relative to its directory, which was named before."""
    return re.sub(re.escape(os.path.abspath(path) + os.sep) + r"(?=[A-Za-z0-9])", "", message)

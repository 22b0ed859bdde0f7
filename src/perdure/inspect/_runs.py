"""Runs as they lie on a disk: found, and looked at without a lock and without reading their data."""

from __future__ import annotations

import fcntl
import json
import os
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from perdure.errors import DamagedError, PerdureWarning, StoreError, UnsupportedFormatError
from perdure.persistence import versions
from perdure.store import (
    CHECKPOINTS,
    GET_LIMIT,
    LOCK_FILE,
    RUN_FILE,
    Catalog,
    CheckpointInfo,
    LocalBackend,
    RunInfo,
    manifest_name,
    open_run,
    read_small,
    to_plain,
)

OK, DAMAGED, NEWER, EMPTY, UNREADABLE = "ok", "damaged", "newer format", "no checkpoint", "unreadable"

_SEALED = b'{"checksum":'
_BEST_FILE = "best.json"
_SMALL = 1 << 16


@dataclass(frozen=True)
class Holder:
    """The process that writes to a run."""

    pid: int | None
    host: str
    since: str


@dataclass(frozen=True)
class Seen:
    """A checkpoint: what its manifest says, or what is wrong with it."""

    info: CheckpointInfo
    state: str = OK
    problem: str = ""


@dataclass
class Look:
    """What can be seen of a run at a glance.

    :param best: score and step of the published best policy.
    :param nbytes: of all files in its directory.
    :param problems: what is wrong, in words.
    """

    path: str
    run: RunInfo | None = None
    checkpoints: list[Seen] = field(default_factory=list)
    best: tuple[float, int | None] | None = None
    nbytes: int = 0
    holder: Holder | None = None
    state: str = OK
    problems: list[str] = field(default_factory=list)

    @property
    def newest(self) -> CheckpointInfo | None:
        """The newest checkpoint with which nothing is wrong."""
        return next((seen.info for seen in reversed(self.checkpoints) if seen.state == OK), None)

    @property
    def written(self) -> str:
        """When it was last written to, as far as that is known."""
        return self.newest.created if self.newest else self.run.created if self.run else ""


def is_run(path: str) -> bool:
    """Whether a directory is the directory of a run, damaged or not."""
    try:
        with os.scandir(os.path.join(path, CHECKPOINTS)) as found:
            if any(item.name.endswith(".json") and item.name[:-5].isdecimal() for item in found):
                return True
    except OSError:
        pass
    try:
        # Other programs have files of this name too.
        return read_small(os.path.join(path, RUN_FILE), GET_LIMIT).startswith(_SEALED)
    except OSError:
        return False


def find(top: str) -> Iterator[str]:
    """The directories of the runs below `top`, `top` among them, sorted."""
    if is_run(top):
        yield top
        return
    try:
        with os.scandir(top) as found:
            below = sorted(
                os.path.normpath(item.path)
                for item in found
                if item.is_dir(follow_symlinks=False) and not item.name.startswith(".")
            )
    except OSError:
        return
    for path in below:
        yield from find(path)


def look(path: str) -> Look:
    """All that can be seen of the run in a directory without reading its data."""
    seen = Look(path, best=_best(path), nbytes=disk_usage(path), holder=holder(path))
    backend = LocalBackend(path)
    try:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always", PerdureWarning)
            seen.run = open_run(backend)
        seen.problems += [str(warning.message) for warning in given]
        seen.checkpoints = _checkpoints(backend, seen.run.id)
    except UnsupportedFormatError as error:
        seen.state = NEWER
        seen.problems.append(str(error))
    except DamagedError as error:
        seen.problems.append(str(error))
    except StoreError as error:
        seen.state = UNREADABLE
        seen.problems.append(str(error))
    else:
        seen.problems += [each.problem for each in seen.checkpoints if each.state == DAMAGED]
        states = {each.state for each in seen.checkpoints}
        if NEWER in states:
            seen.state = NEWER
        elif not states:
            seen.state = EMPTY
    if seen.problems and seen.state not in (NEWER, UNREADABLE):
        seen.state = DAMAGED
    return seen


def _checkpoints(backend: LocalBackend, run_id: str) -> list[Seen]:
    catalog = Catalog(backend, run_id)
    found = [_checkpoint(catalog, number) for number in catalog.numbers()]
    # A writer's retention may have removed one while it was looked at.
    left = set(catalog.numbers())
    return [each for each in found if each.info.number in left]


def _checkpoint(catalog: Catalog, number: int) -> Seen:
    nothing = CheckpointInfo(number, manifest_name(number))
    try:
        manifest = catalog.load(number)
    except UnsupportedFormatError as error:
        return Seen(nothing, NEWER, str(error))
    except (StoreError, FileNotFoundError) as error:
        return Seen(nothing, DAMAGED, str(error))
    try:
        catalog.look(manifest)
    except StoreError as error:
        return Seen(manifest.info, DAMAGED, str(error))
    return Seen(manifest.info, OK, "")


def holder(path: str) -> Holder | None:
    """The process that writes to a run, or None if none does."""
    try:
        fd = os.open(
            os.path.join(path, LOCK_FILE), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
    except OSError:
        return None
    try:
        # Shared, and for microseconds: a writer that wants the lock at this very moment tries again.
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        content = os.read(fd, _SMALL)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        told = json.loads(content)
        return Holder(int(told["pid"]), str(told["host"])[:200], str(told["since"])[:40])
    except (ValueError, LookupError, TypeError, OverflowError):
        return Holder(None, "", "")


def disk_usage(path: str) -> int:
    """Bytes of all files below a directory; one with several names once."""
    total = 0
    known: set[tuple[int, int]] = set()
    stack = [path]
    while stack:
        try:
            with os.scandir(stack.pop()) as found:
                for item in found:
                    if item.is_dir(follow_symlinks=False):
                        stack.append(item.path)
                        continue
                    status = item.stat(follow_symlinks=False)
                    if (status.st_dev, status.st_ino) not in known:
                        known.add((status.st_dev, status.st_ino))
                        total += status.st_size
        except OSError:
            continue  # removed in the meantime, or not ours to see
    return total


def _best(path: str) -> tuple[float, int | None] | None:
    name = versions.best(path)
    if name is None:
        return None
    try:
        record = json.loads(read_small(os.path.join(path, versions.POLICIES, name, _BEST_FILE), _SMALL))
        score, step = record["score"], record.get("step")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    if type(score) not in (int, float) or not -1e300 < score < 1e300:
        return None
    return float(score), step if type(step) is int else None


def run_document(seen: Look) -> dict[str, Any]:
    """A run as JSON."""
    best = None if seen.best is None else {"score": seen.best[0], "step": seen.best[1]}
    return {
        "path": os.path.abspath(seen.path),
        "id": seen.run.id if seen.run else None,
        "created": seen.run.created if seen.run else None,
        "written": seen.written or None,
        "step": seen.newest.step if seen.newest else None,
        "best": best,
        "bytes_on_disk": seen.nbytes,
        "state": seen.state,
        "problems": seen.problems,
        "in_use_by": None if seen.holder is None else vars(seen.holder),
        "checkpoints": [checkpoint_document(each) for each in seen.checkpoints],
    }


def checkpoint_document(seen: Seen) -> dict[str, Any]:
    """A checkpoint as JSON."""
    info = seen.info
    known = seen.info.created != ""
    return {
        "number": info.number,
        "state": seen.state,
        "problem": seen.problem or None,
        "step": info.step if known else None,
        "created": info.created or None,
        "bytes": info.bytes if known else None,
        "metrics": to_plain(info.metrics, "metrics"),
        "counters": to_plain(info.counters, "counters"),
        "tags": list(info.tags),
        "versions": to_plain(info.versions, "versions"),
    }


def without_directory(message: str, path: str) -> str:
    """A message about files of a run, with their names relative to its directory, which was named before."""
    return re.sub(re.escape(os.path.abspath(path) + os.sep) + r"(?=[A-Za-z0-9])", "", message)

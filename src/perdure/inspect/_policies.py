"""Check and repair the whole directory of a run: its checkpoints, its published policies, and half-written files.

It knows no live objects, and prints nothing.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress

from perdure.errors import DamagedError, StoreError
from perdure.inspect._repair import RepairPlan, Step, carry_out, plan_checkpoints
from perdure.persistence import checksums, versions
from perdure.store import (
    CHECKPOINTS,
    PACKS,
    TEMPORARY,
    LocalBackend,
    Problem,
    explained,
    sync_directory,
    verdict_of,
)

__all__ = ["RepairPlan", "Step", "check_policies", "plan_repair", "repair"]

_LOST = "the policy of this version cannot be used"


def check_policies(directory: str) -> list[Problem]:
    """What is wrong with the published policies, what handlers wrote with them, and what users see of the best one.

    :param directory: of a run.
    """
    return [Problem(name, problem, _LOST) for name, problem, _ in _damaged(directory)] + _view(directory)


def plan_repair(directory: str) -> RepairPlan:
    """What :func:`repair` would do with the run in `directory`. Changes nothing, and takes no lock.

    If another process writes there, the plan may be out of date at once; :func:`repair` notices.

    :raises StoreError: if there is no run, or it cannot be read.
    :raises UnsupportedFormatError: if a newer Perdure wrote it.
    """
    plan = plan_checkpoints(LocalBackend(directory))
    _plan_policies(directory, plan)
    for file in _leftovers(directory):
        reason = "a process that was killed left it half-written"
        plan.steps.append(Step("remove", file, reason, "nothing is lost", harmless=True))
    return plan


def repair(directory: str, steps: Sequence[Step], wait: float = 5.0) -> None:
    """Do what :func:`plan_repair` planned, unless the run has changed since.

    If the process is killed, the run is no worse than before, and planning again gives what is left to do.

    :param wait: for how many seconds to wait for another writer to end.
    :raises LockedError: if another process writes to the run.
    :raises StoreError: if the run has changed in the meantime, or something cannot be removed.
    """
    backend = LocalBackend(directory)
    backend.lock(wait)
    try:
        # Taking the lock removes leftovers by itself, and a version may have been published meanwhile.
        now = set(plan_repair(directory).steps)
        changed = [step for step in steps if step not in now and not _is_leftover(step.file)]
        if changed:
            raise StoreError(
                f"{directory} has changed since the repair was planned ({changed[0].file}); nothing was done. "
                "Plan it again"
            )
        done_by_store = [step for step in steps if not _is_of_policies(step) and not _is_leftover(step.file)]
        carry_out(backend, done_by_store)
        for step in steps:
            if step.act == "link":
                versions.make_best(directory, os.path.basename(step.target))
            elif step.file == versions.BEST:
                versions.unlink_best(directory)
            elif _is_of_policies(step) and not _is_leftover(step.file):
                versions.retire(directory, os.path.basename(step.file), keep=step.act == "set aside")
        _remove_leftovers(directory)
        versions.clean(directory)
    finally:
        backend.unlock()


# -- policies ------------------------------------------------------------------------------------------------


def _damaged(directory: str) -> Iterator[tuple[str, str, bool]]:
    """Damaged versions: the directory relative to the run's, what is wrong, and whether that is proven."""
    for version in versions.names(directory):
        name = f"{versions.POLICIES}/{version}"
        path = os.path.join(directory, name)
        try:
            checksums.verify(path)
            if not os.path.lexists(os.path.join(path, checksums.FILE)) and os.path.isdir(path):
                yield (
                    name,
                    f"{os.path.join(path, checksums.FILE)} is missing: nothing can be checked",
                    False,
                )
        except DamagedError as error:
            # A version that is not the best any more is removed by the process that trains.
            if os.path.isdir(path):
                yield name, str(error), verdict_of(error) == "damaged"
        except OSError as error:
            # Removed by a writer in the meantime, or not to be read just now.
            if os.path.isdir(path):
                yield name, f"{path} cannot be read: {error.strerror}", False


def _view(directory: str) -> list[Problem]:
    """What is wrong with what users see of the best version at the root of the run."""
    name = versions.best(directory)
    best = f"{versions.POLICIES}/{name}"
    found: list[Problem] = []
    for entry, kind in _misfits(directory):
        path = os.path.join(directory, entry)
        whole = (
            f"it is in {best}, and shown here by the next process that trains here, or by `perdure repair`"
        )
        match kind:
            case "missing":
                problem = Problem(entry, f"{path} is missing, and there is {best}", whole, "note")
            case "old":
                problem = Problem(entry, f"{path} does not show {best}, the best version", whole, "note")
            case "other" if entry == versions.BEST:
                problem = Problem(
                    entry,
                    f"{path} does not lead to a version in {versions.POLICIES}/",
                    whole if name else _UNSEEN,
                )
            case "other":
                problem = Problem(
                    entry,
                    f"{path} is not the file that was published: it is damaged, or someone put another one in its "
                    "place",
                    f"the published one is in {best}; `perdure repair` shows it here again, and keeps this one",
                )
        found.append(problem)
    return found


def _misfits(directory: str) -> list[versions.Misfit]:
    """Those that are there twice in a row: a process that trains may just be switching to a better version."""
    found: list[versions.Misfit] | None = None
    while found is None or found:
        with suppress(FileNotFoundError):
            before, found = found, versions.misfits(directory)
            if found == before:
                break
    return found


_UNSEEN = "the best policy is not where users look for it, until the next one is published"


def _plan_policies(directory: str, plan: RepairPlan) -> None:
    best = versions.best(directory)
    out: set[str] = set()
    for name, problem, proven in _damaged(directory):
        version = os.path.basename(name)
        if not proven:
            plan.left.append(Problem(name, problem, "it is left as it is: nothing proves that it is damaged"))
            continue
        out.add(version)
        good = _has_good(directory, name)
        meaning = f"its other files are kept in {versions.POLICIES}/{versions.FOUND}…" if good else _LOST
        plan.steps.append(Step("set aside" if good else "remove", name, problem, meaning))
    seen = _view(directory)
    good_ones = [version for version in versions.numbered(directory) if version not in out]
    if not seen and best not in out:
        return
    place = os.path.join(directory, versions.BEST)
    reason = seen[0].problem if seen else f"{place} leads to a damaged version"
    harmless = all(problem.harmless for problem in seen) and best not in out
    if good_ones:
        target = f"{versions.POLICIES}/{good_ones[-1]}"
        plan.steps.append(Step("link", versions.BEST, reason, "nothing is lost", target, harmless))
    elif best is None and os.path.islink(place):
        plan.steps.append(Step("remove", versions.BEST, reason, _UNSEEN, harmless=harmless))


def _has_good(directory: str, version: str) -> bool:
    """Whether some file of a damaged version is still as it was written, or may be."""
    path = os.path.join(directory, version)
    try:
        return any(checksums.is_as_written(path, name) for name in checksums.read(path))
    except (DamagedError, OSError):
        # The list itself is damaged.
        return any(set(files) - {checksums.FILE} for _, _, files in os.walk(path))


def _is_of_policies(step: Step) -> bool:
    return step.file == versions.BEST or step.file.startswith(f"{versions.POLICIES}/")


# -- half-written files -----------------------------------------------------------------------------


def _leftovers(directory: str) -> list[str]:
    found = []
    for folder in ("", CHECKPOINTS, PACKS, versions.POLICIES):
        path = os.path.join(directory, folder)
        with suppress(FileNotFoundError, NotADirectoryError), explained("list", path):
            if folder and not stat.S_ISDIR(os.lstat(path).st_mode):
                continue
            found += [os.path.join(folder, name) for name in os.listdir(path) if name.startswith(TEMPORARY)]
    return sorted(found)


def _is_leftover(file: str) -> bool:
    return os.path.basename(file).startswith(TEMPORARY)


def _remove_leftovers(directory: str) -> None:
    for file in _leftovers(directory):
        path = os.path.join(directory, file)
        if os.path.isdir(path) and not os.path.islink(path):
            # It may have been a version, renamed and not synced.
            sync_directory(os.path.dirname(path))
            shutil.rmtree(path)
        else:
            os.unlink(path)
        sync_directory(os.path.dirname(path))

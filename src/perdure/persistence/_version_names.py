"""Which versions there are, which of them is the best, and where a new one is written.

A version is a directory in ``policies/``. The one with the highest number is the best: a version gets its number, in
one step, when it is whole and better than all before it. So nothing else has to say which one it is.

It changes no version, and knows nothing of what users see at the root of a run.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress

from perdure.errors import StoreError
from perdure.store import TEMPORARY, explain, explained, make_directory, sync, sync_directory, temporary_name

POLICIES = "policies"
BEST = "best"

#: Versions with files that someone else had put where a link belongs; they are never removed.
FOUND = "found-"

#: Ends the names of the directories that this process (or one that it forked) writes new versions into.
_PROCESS = secrets.token_hex(8)

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_NUMBER = re.compile(r"\d{8,12}", re.ASCII)


def begin(root: str | os.PathLike[str]) -> str:
    """Make an empty directory to write the files of a new version into.

    :param root: the directory of the run.
    :return: its absolute path; give it to `publish` or :func:`discard`.
    :raises StoreError: if it cannot be made.
    """
    policies = os.path.join(os.path.abspath(root), POLICIES)
    staging = os.path.join(policies, f"{temporary_name()}-{_PROCESS}")
    try:
        make_directory(policies)
        _check_own(policies)
        os.mkdir(staging)
    except OSError as error:
        raise explain(error, "make the directory", staging) from error
    return staging


def is_begun(directory: str) -> bool:
    """Whether a directory came from :func:`begin` in this process."""
    policies, name = os.path.split(os.path.abspath(directory))
    return (
        os.path.basename(policies) == POLICIES
        and name.startswith(TEMPORARY)
        and name.endswith(f"-{_PROCESS}")
    )


def root_of(staging: str) -> str:
    """The directory of the run that a directory from :func:`begin` belongs to.

    :raises ValueError: if it is not such a directory.
    """
    policies, name = os.path.split(os.path.abspath(staging))
    root, directory = os.path.split(policies)
    if directory != POLICIES or not name.startswith(TEMPORARY):
        raise ValueError(f"{staging!r} was not made by begin()")
    return root


def discard(staging: str) -> None:
    """Remove a directory that :func:`begin` made, with all that is in it; no error if it is gone.

    One that a killed process left may have been a version: make its new name durable first.
    """
    root_of(staging)
    with explained("remove", staging), suppress(FileNotFoundError):
        shutil.rmtree(staging)


def discard_leftovers(root: str | os.PathLike[str]) -> None:
    """Remove what killed processes left half-written. What this or another process is writing now stays."""
    policies = os.path.join(os.path.abspath(root), POLICIES)
    left = []
    if is_directory(policies):
        with os.scandir(policies) as found:
            left = [item.path for item in found if _is_leftover(item.name) and item.is_dir()]
    if left:
        # One may be a version that was being removed: with a power cut its name could be back, without its files.
        sync_directory(policies)
    for staging in left:
        discard(staging)


def _is_leftover(name: str) -> bool:
    pid = name.removeprefix(TEMPORARY).partition("-")[0]
    if not name.startswith(TEMPORARY) or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        # In a container, each start may have the same number.
        return not name.endswith(f"-{_PROCESS}")
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass  # it is alive, and another user's
    return False


def names(root: str | os.PathLike[str]) -> list[str]:
    """The names of the published versions, sorted; without those that only keep files of someone else."""
    # A tool that mirrors a run may leave the directory of a version that is gone, without the files.
    return sorted(path.name for path in _directories(root) if not _is_empty(path))


def next_version(root: str | os.PathLike[str]) -> str:
    """A name for a new version: a number, one higher than that of any other."""
    numbers = [int(path.name) for path in _directories(root) if _NUMBER.fullmatch(path.name)]
    return f"{max(numbers, default=0) + 1:08d}"


def numbered(root: str | os.PathLike[str]) -> list[str]:
    """The versions that were the best when they were published, sorted by number; those of epochs have other names."""
    return sorted((name for name in names(root) if _NUMBER.fullmatch(name)), key=int)


def best(root: str | os.PathLike[str]) -> str | None:
    """The name of the best version, or None if there is none."""
    return next(reversed(numbered(root)), None)


def visible(root: str | os.PathLike[str], name: str) -> list[str]:
    """The files and directories of a version that users see at the root."""
    entries = os.listdir(os.path.join(root, POLICIES, name))
    return sorted(entry for entry in entries if not entry.startswith("."))


def free_found(policies: str) -> str:
    """A new name for a directory that keeps files of someone else."""
    number = 1
    while os.path.lexists(os.path.join(policies, f"{FOUND}{number:04d}")):
        number += 1
    return f"{FOUND}{number:04d}"


def is_directory(path: str) -> bool:
    """Whether a path is a directory, and no link to one."""
    return os.path.isdir(path) and not os.path.islink(path)


def sync_tree(directory: str) -> None:
    """Return when all that is in a directory survives a power cut."""
    with os.scandir(directory) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                sync_tree(item.path)
            elif item.is_file(follow_symlinks=False):
                fd = os.open(item.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    sync(fd)
                finally:
                    os.close(fd)
    sync_directory(directory)


def _directories(root: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    policies = os.path.join(root, POLICIES)
    if not is_directory(policies):
        return
    with os.scandir(policies) as found:
        yield from [
            item
            for item in found
            if item.is_dir(follow_symlinks=False) and not item.name.startswith((TEMPORARY, FOUND))
        ]


def _is_empty(directory: os.DirEntry[str]) -> bool:
    try:
        with os.scandir(directory.path) as found:
            return next(found, None) is None
    except FileNotFoundError:
        return True  # removed meanwhile
    except OSError:
        return False


def _check_own(policies: str) -> None:
    """Check that what is published stays in the run's directory."""
    if os.path.islink(policies):
        raise StoreError(
            f"{policies} is a symbolic link; Perdure makes and follows none there: put a directory in its place"
        )

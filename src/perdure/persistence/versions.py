"""Publish several files together, on a local disk: readers see all of the new ones or all of the old ones.

What is published is a directory, a *version*, which is never changed afterwards. Readers get to it by links::

    policies/00000007/policy.pt    a version
    best -> policies/00000007      the best version; switching this link switches all files at once
    policy.pt -> best/policy.pt    where users look for it

It knows files and names, and nothing of their content.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Collection
from contextlib import suppress

from perdure.errors import StoreError
from perdure.store import TEMPORARY, explain, explained, make_directory, sync, sync_directory, temporary_name

POLICIES = "policies"
BEST = "best"

#: Versions with files that someone else had put where a link belongs; they are never removed.
FOUND = "found-"

#: Ends the names of the directories that this process (or one that it forked) writes new versions into.
_PROCESS = secrets.token_hex(8)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}", re.ASCII)
# What the directory of a run has at its root for other purposes.
_RESERVED = frozenset({POLICIES, BEST, "run.json", "checkpoints", "packs"})


def begin(root: str | os.PathLike[str]) -> str:
    """Make an empty directory to write the files of a new version into.

    :param root: the directory of the run.
    :return: its absolute path; give it to :func:`publish` or :func:`discard`.
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


def discard(staging: str) -> None:
    """Remove a directory that :func:`begin` made, with all that is in it; no error if it is gone.

    One that a killed process left may have been a version: make its new name durable first.
    """
    _check_staging(staging)
    with explained("remove", staging), suppress(FileNotFoundError):
        shutil.rmtree(staging)


def discard_leftovers(root: str | os.PathLike[str]) -> None:
    """Remove what killed processes left half-written. What this or another process is writing now stays."""
    policies = os.path.join(os.path.abspath(root), POLICIES)
    left = []
    if _is_directory(policies):
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


def next_version(root: str | os.PathLike[str]) -> str:
    """A name for a new version: a number, one higher than that of any other."""
    numbers = [int(name) for name in names(root) if _NUMBER.fullmatch(name)]
    return f"{max(numbers, default=0) + 1:08d}"


def names(root: str | os.PathLike[str]) -> list[str]:
    """The names of the published versions, sorted; without those that only keep files of someone else."""
    policies = os.path.join(root, POLICIES)
    if not _is_directory(policies):
        return []
    with os.scandir(policies) as found:
        directories = [item.name for item in found if item.is_dir(follow_symlinks=False)]
    return sorted(name for name in directories if not name.startswith((TEMPORARY, FOUND)))


def best(root: str | os.PathLike[str]) -> str | None:
    """The name of the best version, or None if there is none."""
    try:
        target = os.readlink(os.path.join(root, BEST))
    except OSError:
        return None
    directory, _, name = target.rpartition("/")
    inside = directory == POLICIES and _NAME.fullmatch(name) and _is_directory(os.path.join(root, POLICIES))
    return name if inside and _is_directory(os.path.join(root, target)) else None


def publish(staging: str, name: str, *, link: bool = True) -> str:
    """Make the directory `staging` the version `name`, durably and in one step.

    If the process is killed meanwhile, the version exists as a whole or not at all, and readers of the best version
    see all of its files or all of the previous one's. A file that someone else had put where a link belongs
    (``policy.pt`` at the root) is kept in ``policies/found-…``.

    :param staging: a directory from :func:`begin`.
    :param name: letters, digits, ``_``, ``-`` and ``.``; for instance from :func:`next_version`.
    :param link: make it the best version, and link its files at the root.
    :return: the absolute path of the version.
    :raises StoreError: if there is such a version already, or something cannot be written.
    """
    root = _check_staging(staging)
    policies = os.path.join(root, POLICIES)
    version = os.path.join(policies, name)
    if not _NAME.fullmatch(name) or name.startswith(FOUND):
        raise ValueError(
            f"{name!r:.120} cannot be the name of a version: expected letters, digits, '_', '-', '.'"
        )
    try:
        entries = sorted(os.listdir(staging))
        if link and (taken := _RESERVED.intersection(entries)):
            raise StoreError(
                f"a version cannot have files named {sorted(taken)}: a run has its own files of that name"
            )
        place = os.path.join(root, BEST)
        if link and os.path.lexists(place) and not os.path.islink(place):
            raise StoreError(f"{place} is where the link to the best version belongs: move it away")
        if os.path.lexists(version):
            raise StoreError(f"{version} exists already, and a version is never changed: use another name")
        # Durable before it has a name: a name that a power cut leaves with empty files is worse than none.
        _sync_tree(staging)
        os.rename(staging, version)
        sync_directory(policies)
        if link:
            _make_best(root, name, [entry for entry in entries if not entry.startswith(".")])
    except OSError as error:
        raise explain(error, "publish", version) from error
    return version


def make_best(root: str | os.PathLike[str], name: str) -> None:
    """Make the existing version `name` the best one, and link its files at the root."""
    root = os.path.abspath(root)
    with explained("link", os.path.join(root, BEST)):
        _make_best(root, name, sorted(visible(root, name)))


def unlink_best(root: str | os.PathLike[str]) -> None:
    """Remove the link that says which version is the best."""
    root = os.path.abspath(root)
    with explained("unlink", os.path.join(root, BEST)):
        os.unlink(os.path.join(root, BEST))
        sync_directory(root)


def visible(root: str | os.PathLike[str], name: str) -> list[str]:
    """The files and directories of a version that have links at the root."""
    entries = os.listdir(os.path.join(root, POLICIES, name))
    return [entry for entry in entries if not entry.startswith(".")]


def retire(root: str | os.PathLike[str], name: str, *, keep: bool) -> None:
    """Take a damaged version out of use.

    :param keep: keep its files in ``policies/found-…`` instead of removing them.
    """
    root = os.path.abspath(root)
    policies = os.path.join(root, POLICIES)
    with explained("retire", os.path.join(policies, name)):
        # The link goes first, so that it never leads nowhere.
        if best(root) == name:
            unlink_best(root)
        # Under its own name it is whole until it is gone.
        place = _free_found(policies) if keep else temporary_name()
        os.rename(os.path.join(policies, name), os.path.join(policies, place))
        sync_directory(policies)
        if not keep:
            shutil.rmtree(os.path.join(policies, place))


def prune(root: str | os.PathLike[str], keep: Collection[str]) -> list[str]:
    """Remove the versions that are not in `keep`; never the best one.

    :return: the names of those removed.
    """
    policies = os.path.join(os.path.abspath(root), POLICIES)
    removed = [name for name in names(root) if name not in keep and name != best(root)]
    doomed = []
    with explained("remove versions from", policies):
        for name in removed:
            # Under its own name it is whole until it is gone.
            doomed.append(os.path.join(policies, temporary_name()))
            os.rename(os.path.join(policies, name), doomed[-1])
        if removed:
            # Before its files go: otherwise a power cut may bring the name back, without them.
            sync_directory(policies)
        for directory in doomed:
            shutil.rmtree(directory)
    return removed


def clean(root: str | os.PathLike[str]) -> None:
    """Remove what a killed process left half-done. Call it only while no other process publishes here."""
    root = os.path.abspath(root)
    policies = os.path.join(root, POLICIES)
    with explained("clean", root), suppress(FileNotFoundError):
        # That process may have switched the best version without syncing it: a power cut could switch it back.
        sync_directory(root)
        for name in os.listdir(root):
            path = os.path.join(root, name)
            if name.startswith(TEMPORARY) and os.path.islink(path):
                os.unlink(path)
        if _is_directory(policies):
            # The same holds for a version that it was removing: its name could be back, without these files.
            sync_directory(policies)
            for name in os.listdir(policies):
                path = os.path.join(policies, name)
                if name.startswith(TEMPORARY) and not os.path.islink(path):
                    shutil.rmtree(path)
        _remove_dangling(root)


def _check_own(policies: str) -> None:
    """Check that what is published stays in the run's directory."""
    if os.path.islink(policies):
        raise StoreError(
            f"{policies} is a symbolic link; Perdure makes and follows none there: put a directory in its place"
        )


def _check_staging(staging: str) -> str:
    """The root that belongs to a staging directory."""
    policies, name = os.path.split(os.path.abspath(staging))
    root, directory = os.path.split(policies)
    if directory != POLICIES or not name.startswith(TEMPORARY):
        raise ValueError(f"{staging!r} was not made by begin()")
    return root


def _sync_tree(directory: str) -> None:
    with os.scandir(directory) as found:
        for item in found:
            if item.is_dir(follow_symlinks=False):
                _sync_tree(item.path)
            elif item.is_file(follow_symlinks=False):
                fd = os.open(item.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    sync(fd)
                finally:
                    os.close(fd)
    sync_directory(directory)


def _make_best(root: str, name: str, entries: list[str]) -> None:
    # Readers go from the old version to the new one when `best` is switched. Wherever the process is killed, they see
    # the old one before that step, and the new one after it. A switch that a killed process did not sync must be made
    # durable first.
    sync_directory(root)
    foreign = [entry for entry in entries if _is_foreign(root, entry)]
    if foreign:
        # Someone else's files are where the links belong, and readers may be using them.
        kept = _keep(root, foreign)
        if best(root) is None:
            # So far, readers see these files. As a version, they are replaced like any other: at no moment is there no
            # file of that name, or one of theirs next to one of ours.
            _link(root, BEST, f"{POLICIES}/{kept}")
            # Durable before a link replaces one of them: a power cut must not leave a link that leads nowhere.
            sync_directory(root)
        # If there is a best version, readers now see its file instead of the foreign one.
    for entry in entries:
        # A link to a file that only the new version has leads nowhere until the switch: to readers it is missing, as
        # before.
        if (
            os.path.islink(os.path.join(root, entry))
            and os.readlink(os.path.join(root, entry)) == f"{BEST}/{entry}"
        ):
            continue
        _link(root, entry, f"{BEST}/{entry}")
    sync_directory(root)
    _link(root, BEST, f"{POLICIES}/{name}")
    sync_directory(root)
    # Links to files that only the old version had lead nowhere now.
    _remove_dangling(root)


def _is_foreign(root: str, entry: str) -> bool:
    path = os.path.join(root, entry)
    if os.path.islink(path):
        return os.readlink(path) != f"{BEST}/{entry}"
    return os.path.lexists(path)


def _keep(root: str, entries: list[str]) -> str:
    """Give `entries` of the root a second name, in a new directory; returns its name."""
    policies = os.path.join(root, POLICIES)
    name = _free_found(policies)
    kept = os.path.join(policies, name)
    directories = [entry for entry in entries if _is_directory(os.path.join(root, entry))]
    staging = begin(root)
    for entry in entries:
        if entry in directories:
            continue
        source, target = os.path.join(root, entry), os.path.join(staging, entry)
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            shutil.copy2(source, target, follow_symlinks=False)
    _sync_tree(staging)
    os.rename(staging, kept)
    sync_directory(policies)
    for entry in directories:
        # A directory has only one name, so it must be moved, and readers miss it until its link is there. It is not
        # moved into the staging directory, which would be removed as a leftover if the process were killed now; and it
        # is moved only when the new place is durable, or a power cut could lose it.
        os.rename(os.path.join(root, entry), os.path.join(kept, entry))
    if directories:
        sync_directory(kept)
        sync_directory(root)
    return name


def _free_found(policies: str) -> str:
    number = 1
    while os.path.lexists(os.path.join(policies, f"{FOUND}{number:04d}")):
        number += 1
    return f"{FOUND}{number:04d}"


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _link(root: str, name: str, target: str) -> None:
    """Make `name` in `root` a link to `target`, in one step, whatever was there."""
    temporary = os.path.join(root, temporary_name())
    os.symlink(target, temporary)
    try:
        os.replace(temporary, os.path.join(root, name))
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _remove_dangling(root: str) -> None:
    changed = False
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if (
            os.path.islink(path)
            and os.readlink(path) == f"{BEST}/{name}"
            and not os.path.lexists(f"{root}/{BEST}/{name}")
        ):
            os.unlink(path)
            changed = True
    if changed:
        sync_directory(root)

"""What users see of the published versions at the root of a run, and how it is brought up to date.

Where the file system has symbolic links, one of them switches all files at once::

    best -> policies/00000007      the best version
    policy.pt -> best/policy.pt    where users look for it

Where it has none, or something else is in the place of ``best``, each file is there under a second name (a hard link),
or as a copy. A run may also have been copied so that its links became files (zip, object stores, ``cp -rL``), or became
small files that hold what the links led to, or were left out. All that is a view of the versions and no more: nothing
is lost with it, and it is made again from them.

It publishes nothing, and never changes a version.
"""

from __future__ import annotations

import errno
import filecmp
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from typing import Literal, NamedTuple

from perdure.errors import DamagedError
from perdure.persistence._version_names import (
    BEST,
    NAME,
    POLICIES,
    begin,
    best,
    free_found,
    is_directory,
    names,
    numbered,
    sync_tree,
    visible,
)
from perdure.store import sync, sync_directory, temporary_name

_EPOCH = re.compile(r"(?P<stem>.+)_epoch_(?P<epoch>-?\d+)(?P<suffix>\.\w+)")
# What a file system without links says.
_REFUSED = (
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EINVAL,
    errno.EXDEV,
)
_LONGEST_LINK = 300


# -- looking ----------------------------------------------------------------------------------------------------------


class Misfit(NamedTuple):
    """A name at the root that does not show what it should.

    :param kind: "missing"; "old": it shows another version, or what a link led to as a text; "other": it is no file of
        any version, so it was put there by someone else, or is damaged.
    """

    entry: str
    kind: Literal["missing", "old", "other"]


def misfits(root: str | os.PathLike[str]) -> list[Misfit]:
    """Every name at the root that does not show the file of the best version."""
    root = os.fspath(root)
    name, shown, place = best(root), linked(root), os.path.join(root, BEST)
    if shown is None and os.path.islink(place):
        return [Misfit(BEST, "other")]
    if name is None:
        return []
    if shown is not None and shown != name:
        return [Misfit(BEST, "old")]
    found = []
    if shown is None and _version_of(root, BEST, [each for each in numbered(root) if each != name]):
        found.append(Misfit(BEST, "old"))
    for entry in visible(root, name):
        path = os.path.join(root, entry)
        if not os.path.lexists(path) or (_is_own_link(root, entry) and shown is None):
            found.append(Misfit(entry, "missing"))
        elif not _is_own_link(root, entry) and not _same(path, os.path.join(root, POLICIES, name, entry)):
            found.append(Misfit(entry, "other" if _is_of_others(root, entry) else "old"))
    if found == [Misfit(entry, "missing") for entry in visible(root, name)] and not os.path.lexists(place):
        return [Misfit(BEST, "missing")]
    return found


def linked(root: str | os.PathLike[str]) -> str | None:
    """The version that the link ``best`` leads to; None if there is no such link, or it leads nowhere."""
    place = os.path.join(root, BEST)
    try:
        while True:
            target = os.readlink(place)
            directory, _, name = target.rpartition("/")
            inside = (
                directory == POLICIES and NAME.fullmatch(name) and is_directory(os.path.join(root, POLICIES))
            )
            if inside and is_directory(os.path.join(root, target)):
                return name
            # A process that trains may have switched it, and removed the version that it led to.
            if os.readlink(place) == target:
                return None
    except OSError:
        return None


def published_file(path: str | os.PathLike[str]) -> str:
    """The real path of the file to read where a user names `path`: that of the version which it shows.

    A path that has nothing to do with published versions leads to itself.

    :raises DamagedError: if it is at the root of a run, and neither the file of the best version nor of another one.
    """
    path = os.path.abspath(path)
    if os.path.islink(path) and os.path.exists(path):
        return os.path.realpath(path)
    root, entry = os.path.split(path)
    found = _shown_by(root, entry)
    if not found:
        return os.path.realpath(path)
    if not os.path.exists(path) or any(_same(path, each) for each in found):
        return next((each for each in found if _same(path, each)), found[0])
    if _link_text(path) or _version_of(root, entry, numbered(root)) is not None:
        return found[0]
    raise DamagedError(
        f"{path} is not the file that was published there, which is {found[0]}: it is damaged, or someone put another "
        f"one in its place. Load {found[0]}, or move {path} away."
    )


def _shown_by(root: str, entry: str) -> list[str]:
    """The files of versions that a name at the root may show; first the one that it should."""
    policies = os.path.join(root, POLICIES)
    name = best(root)
    if name is not None and os.path.lexists(path := os.path.join(policies, name, entry)):
        return [path]
    if (match := _EPOCH.fullmatch(entry)) is None:
        return []
    file = match["stem"] + match["suffix"]
    paths = [os.path.join(policies, each, file) for each in epoch_versions(root, match["epoch"])]
    return [path for path in reversed(paths) if os.path.lexists(path)]


def epoch_versions(root: str | os.PathLike[str], epoch: object) -> list[str]:
    """The versions of an epoch, from the oldest to the newest: ``epoch_7``, ``epoch_7-2``."""
    name = f"epoch_{epoch}"
    found = [each for each in names(root) if each == name or each.startswith(f"{name}-")]
    return sorted(found, key=lambda each: (len(each), each))


def _is_own_link(root: str, entry: str) -> bool:
    path = os.path.join(root, entry)
    return os.path.islink(path) and os.readlink(path) == f"{BEST}/{entry}"


def _is_of_others(root: str, entry: str) -> bool:
    """Whether what has this name at the root was put there by someone else: it shows no version."""
    path = os.path.join(root, entry)
    if not os.path.lexists(path) or _is_own_link(root, entry) or _link_text(path) == f"{BEST}/{entry}":
        return False
    return os.path.islink(path) or _version_of(root, entry, numbered(root)) is None


def _version_of(root: str, entry: str, among: Iterable[str]) -> str | None:
    """The version whose file or directory the root has as a copy under this name; ``best`` is all of a version."""
    path = os.path.join(root, entry)
    for name in among:
        version = os.path.join(root, POLICIES, name)
        if _same(path, version if entry == BEST else os.path.join(version, entry)):
            return name
    return None


def _same(path: str, other: str) -> bool:
    """Whether two files, or all that is in two directories, have the same content."""
    try:
        if is_directory(path):
            entries = os.listdir(path)
            if not is_directory(other) or set(entries) != set(os.listdir(other)):
                return False
            return all(_same(os.path.join(path, each), os.path.join(other, each)) for each in entries)
        if not (os.path.isfile(path) and os.path.isfile(other)) or os.path.islink(path):
            return False
        return os.path.samefile(path, other) or filecmp.cmp(path, other, shallow=False)
    except OSError:
        return False


def _link_text(path: str) -> str:
    """What a link led to that became a file with this as its text; empty if it is no such file."""
    try:
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > _LONGEST_LINK:
            return ""
        with open(path, "rb") as file:
            text = file.read(_LONGEST_LINK).decode().strip()
    except (OSError, UnicodeDecodeError):
        return ""
    return text if text.startswith((f"{BEST}/", f"{POLICIES}/")) else ""


# -- making -----------------------------------------------------------------------------------------------------------


def show_best(root: str, name: str, *, over_others: bool = True) -> None:
    """Let users see version `name`, which is whole and durable, at the root.

    If the process is killed meanwhile, each name at the root still shows something whole. Where there are links, all
    of them are switched at once.

    :param over_others: what someone else has put where a file belongs is kept in ``policies/found-…``; otherwise it
        stays where it is.
    """
    # What a killed process switched and did not sync must be durable before anything is built on it.
    sync_directory(root)
    entries = visible(root, name)
    others = [entry for entry in entries if _is_of_others(root, entry)]
    if not over_others:
        entries = [entry for entry in entries if entry not in others]
        others = []
    if _can_link(root):
        _link_all(root, name, entries, others)
    else:
        _copy_all(root, name, entries, others)


def show_epoch(root: str, name: str, file: str, epoch: int) -> None:
    """Let users see the policy of an epoch at the root: ``policy_epoch_7.pt``."""
    stem, suffix = os.path.splitext(file)
    entry = f"{stem}_epoch_{epoch}{suffix}"
    path = os.path.join(root, entry)
    source = os.path.join(root, POLICIES, name, file)
    older = [os.path.join(root, POLICIES, each, file) for each in epoch_versions(root, epoch)]
    if not os.path.islink(path) and os.path.lexists(path) and not _link_text(path):
        if not any(_same(path, each) for each in older):
            _keep(root, [entry])
        if is_directory(path):
            _put_away(path, root)
    try:
        _link(root, entry, f"{POLICIES}/{name}/{file}")
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        _place(root, entry, source)
    sync_directory(root)


def remove_stale(root: str) -> None:
    """Remove the links that lead to files which the best version does not have."""
    changed = False
    for name in os.listdir(root):
        if _is_own_link(root, name) and not os.path.lexists(f"{root}/{BEST}/{name}"):
            os.unlink(os.path.join(root, name))
            changed = True
    if changed:
        sync_directory(root)


def _can_link(root: str) -> bool:
    """Whether the view can be made of links. A copy of a version in the place of ``best`` makes way for one."""
    place = os.path.join(root, BEST)
    if os.path.islink(place):
        return True
    in_the_way = os.path.lexists(place)
    if in_the_way and not _link_text(place) and _version_of(root, BEST, numbered(root)) is None:
        return False
    try:
        _try_link(root)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return False
    return True


def _link_all(root: str, name: str, entries: list[str], others: list[str]) -> None:
    # Readers go from the old version to the new one when `best` is switched. Wherever the process is killed, they see
    # the old one before that step, and the new one after it.
    place = os.path.join(root, BEST)
    if is_directory(place):
        _put_away(place, root)
    shown = linked(root)
    if others:
        # Someone else's files are where the links belong, and readers may be using them.
        kept = _keep(root, others)
        if shown is None:
            # So far, readers see these files. As a version, they are replaced like any other: at no moment is there no
            # file of that name, or one of theirs next to one of ours.
            shown = kept
            _link(root, BEST, f"{POLICIES}/{kept}")
            # Durable before a link replaces one of them: a power cut must not leave a link that leads nowhere.
            sync_directory(root)
        # If there is a best version, readers now see its file instead of the foreign one.
    copies = [_version_of(root, entry, numbered(root)) for entry in entries if not _is_own_link(root, entry)]
    if shown is None and (old := next(filter(None, copies), None)) is not None:
        # Readers see copies of this version, where links were lost.
        _link(root, BEST, f"{POLICIES}/{old}")
        sync_directory(root)
    for entry in entries:
        # A link to a file that only the new version has leads nowhere until the switch: to readers it is missing, as
        # before.
        if _is_own_link(root, entry):
            continue
        if is_directory(path := os.path.join(root, entry)):
            _put_away(path, root)
        _link(root, entry, f"{BEST}/{entry}")
    sync_directory(root)
    if linked(root) != name:
        _link(root, BEST, f"{POLICIES}/{name}")
        sync_directory(root)
    # Links to files that only the old version had lead nowhere now.
    remove_stale(root)
    _remove_old_copies(root, name)


def _copy_all(root: str, name: str, entries: list[str], others: list[str]) -> None:
    if others:
        _keep(root, others)
    for entry in entries:
        source = os.path.join(root, POLICIES, name, entry)
        if not _same(os.path.join(root, entry), source):
            _place(root, entry, source)
    _remove_old_copies(root, name)
    sync_directory(root)
    remove_stale(root)


def _remove_old_copies(root: str, name: str) -> None:
    """Remove copies of files that only an older version has."""
    entries = set(visible(root, name))
    for version in numbered(root):
        for entry in set(visible(root, version)) - entries:
            path = os.path.join(root, entry)
            if _same(path, os.path.join(root, POLICIES, version, entry)):
                if is_directory(path):
                    _put_away(path, root)
                else:
                    os.unlink(path)


def _link(root: str, name: str, target: str) -> None:
    """Make `name` in `root` a link to `target`, in one step, whatever file or link was there."""
    temporary = os.path.join(root, temporary_name())
    os.symlink(target, temporary)
    try:
        os.replace(temporary, os.path.join(root, name))
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _try_link(root: str) -> None:
    """Find out whether there can be links.

    :raises OSError: with one of the numbers in `_REFUSED` if there cannot.
    """
    temporary = os.path.join(root, temporary_name())
    os.symlink(POLICIES, temporary)
    try:
        if not os.path.islink(temporary):
            raise OSError(errno.ENOTSUP, "a symbolic link became something else", temporary)
    finally:
        os.unlink(temporary)


def _place(root: str, entry: str, source: str) -> None:
    """Put a file or directory of a version at the root: under a second name, or as a copy."""
    path = os.path.join(root, entry)
    if is_directory(source):
        staging = begin(root)
        copied = os.path.join(staging, entry)
        shutil.copytree(source, copied, symlinks=True)
        sync_tree(staging)
        if os.path.lexists(path):
            _put_away(path, root)
        os.rename(copied, path)
        os.rmdir(staging)
        return
    if is_directory(path):
        _put_away(path, root)
    temporary = os.path.join(root, temporary_name())
    try:
        try:
            os.link(source, temporary, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (*_REFUSED, errno.EMLINK):
                raise
            shutil.copyfile(source, temporary)
            with open(temporary, "rb") as file:
                sync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    # Renaming one name of a file to another name of the same file does nothing, and leaves both.
    with suppress(FileNotFoundError):
        os.unlink(temporary)


def _put_away(path: str, root: str) -> None:
    """Remove a copy of something that is in a version."""
    place = os.path.join(root, POLICIES, temporary_name())
    if move_directory(path, place):
        sync_directory(root)
        path = place
    if is_directory(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


def move_directory(path: str, place: str) -> bool:
    """Rename a directory; whether that was possible. In an overlay, those of its lower layers can only be copied."""
    try:
        os.rename(path, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return False
    return True


def _keep(root: str, entries: list[str]) -> str:
    """Give `entries` of the root a second name, in a new directory; returns its name."""
    policies = os.path.join(root, POLICIES)
    name = free_found(policies)
    kept = os.path.join(policies, name)
    directories = [entry for entry in entries if is_directory(os.path.join(root, entry))]
    staging = begin(root)
    for entry in entries:
        if entry in directories:
            continue
        source, target = os.path.join(root, entry), os.path.join(staging, entry)
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            shutil.copy2(source, target, follow_symlinks=False)
    sync_tree(staging)
    os.rename(staging, kept)
    sync_directory(policies)
    for entry in directories:
        # A directory has only one name, so it must be moved, and readers miss it until its link is there. It is not
        # moved into the staging directory, which would be removed as a leftover if the process were killed now; and it
        # is moved only when the new place is durable, or a power cut could lose it.
        source, target = os.path.join(root, entry), os.path.join(kept, entry)
        if not move_directory(source, target):
            shutil.copytree(source, target, symlinks=True)
            sync_tree(kept)
            shutil.rmtree(source)
    if directories:
        sync_directory(kept)
        sync_directory(root)
    return name

"""Where a world persists while an event is handled: a fresh version of its files, published as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.persistence import versions
from perdure.persistence.policy_file import read_checksums, write_checksums
from perdure.store import TEMPORARY, sync_directory, temporary_name
from perdure.world import World


class Version:
    """One publication: where it is while it is written, and where afterwards."""

    def __init__(self, root: str, staging: str) -> None:
        self.root = root
        self.staging = staging
        self.name = ""


# The publications in progress by staging directory, so that a handler that publishes joins the one around it.
_open: dict[str, Version] = {}


@contextmanager
def published(world: World, *, carry_over: bool = False, epoch: int | None = None) -> Iterator[Version]:
    """Publish together what is written to the world's `persist_directory` in this block, unless it fails.

    :param carry_over: publish the present best version's other files with it.
    :param epoch: publish the version of this epoch; without it, a new best.
    """
    if not hasattr(world, "persist_directory"):
        raise TypeError(
            f"{type(world).__name__} has no persist_directory: use perdure.World, or give it one."
        )
    directory = world.persist_directory
    if directory in _open:
        yield _open[directory]
        return
    if directory is None:
        world.persist_path("policy.pt")  # raises with the world's own advice
        raise ValueError("this world's persist_directory is None: set the directory to persist to.")
    root = os.path.abspath(directory)
    _discard_leftovers(root)
    version = Version(root, versions.begin(root))
    _open[version.staging] = version
    try:
        world.persist_directory = version.staging
        try:
            yield version
        finally:
            world.persist_directory = directory
        write_checksums(version.staging, _carry_over(version) if carry_over else None)
        version.name = versions.next_version(root) if epoch is None else _free_name(root, epoch)
        versions.publish(version.staging, version.name, link=epoch is None)
    except BaseException:
        versions.discard(version.staging)
        raise
    finally:
        del _open[version.staging]
    if epoch is None:  # a version that is not the best any more; those of epochs have names, not numbers
        versions.prune(root, keep=[name for name in versions.versions(root) if not name.isdigit()])


def _discard_leftovers(root: str) -> None:
    """Remove what a process that was killed left; what another one is just writing stays."""
    policies = Path(root, versions.POLICIES)
    left = []
    for path in policies.glob(f"{TEMPORARY}*"):
        pid = path.name.removeprefix(TEMPORARY).partition("-")[0]
        if str(path) not in _open and path.is_dir() and pid.isdigit() and not _is_other_process(int(pid)):
            left.append(str(path))
    if left:
        # One may be a version that it was removing: with a power cut its own name could be back, without its files.
        sync_directory(str(policies))
    for staging in left:
        versions.discard(staging)


def _is_other_process(pid: int) -> bool:
    if pid == os.getpid():
        return False  # of a process before this one: in a container, each start may have the same number
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _carry_over(version: Version) -> dict[str, str]:
    """Copy the best version's files that were not written anew; their checksums, as they were recorded."""
    name = versions.best(version.root)
    if name is None:
        return {}
    best = os.path.join(version.root, versions.POLICIES, name)
    carried = []
    for folder, _, files in os.walk(best):
        for source in (os.path.join(folder, file) for file in files):
            target = os.path.join(version.staging, os.path.relpath(source, best))
            if not os.path.lexists(target):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
                carried.append(Path(source).relative_to(best).as_posix())
    # Not new ones: a copy of a damaged file is a damaged file.
    return {file: digest for file, digest in read_checksums(best).items() if file in carried}


def _free_name(root: str, epoch: int) -> str:
    """`epoch_7`, or `epoch_7-2` if a resumed run comes there again: a published version is never changed."""
    taken = set(versions.versions(root))
    name, number = f"epoch_{epoch}", 1
    while name in taken:
        number += 1
        name = f"epoch_{epoch}-{number}"
    return name


def link_epoch(path: str, version: Version, file: str, epoch: int) -> None:
    """Make `path` a link to the epoch's file in one step, then remove the epoch's versions without a link."""
    temporary = os.path.join(version.root, temporary_name())
    os.symlink(os.path.join(versions.POLICIES, version.name, file), temporary)
    os.replace(temporary, path)
    sync_directory(version.root)
    links = [link for link in Path(version.root).glob(f"*_epoch_{epoch}.pt") if link.is_symlink()]
    linked = {os.path.basename(os.path.dirname(os.readlink(link))) for link in links}
    stem = f"epoch_{epoch}"
    every = versions.versions(version.root)
    old = {name for name in every if name == stem or name.startswith(f"{stem}-")}
    versions.prune(version.root, keep=(set(every) - old) | linked)

"""Let handlers write into a fresh directory, and publish it as a whole when they succeed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.persistence import checksums, versions
from perdure.store import sync_directory, temporary_name
from perdure.world import World


@contextmanager
def published(world: World, *, carry_over: bool = False) -> Iterator[None]:
    """Publish what is written to the world's `persist_directory` in this block as the new best version.

    If the block fails, nothing is published. Within the block of another one, it is part of that publication.

    :param carry_over: publish with it the present best version's files that are not written again.
    """
    with _redirected(world) as place:
        yield
        if place is None:
            return
        root, staging = place
        checksums.write(staging, _carry_over(root, staging) if carry_over else None)
        versions.publish(staging, versions.next_version(root))
        # A version that is not the best any more goes; those of epochs have names, not numbers.
        versions.prune(root, keep=[name for name in versions.names(root) if not name.isdigit()])


@contextmanager
def published_epoch(world: World, epoch: int, file: str) -> Iterator[None]:
    """Publish what is written in this block as the version of an epoch, and link its policy at the root.

    :param file: the name of the policy's file; ``policy.pt`` is linked as ``policy_epoch_7.pt``.
    """
    with _redirected(world) as place:
        yield
        if place is None:
            return
        root, staging = place
        checksums.write(staging)
        name = _free_name(root, epoch)
        versions.publish(staging, name, link=False)
        _link_epoch(root, name, file, epoch)


@contextmanager
def _redirected(world: World) -> Iterator[tuple[str, str] | None]:
    """Let the world persist to a fresh directory: yields the root and that directory; None if it does already."""
    if not hasattr(world, "persist_directory"):
        raise TypeError(
            f"{type(world).__name__} has no persist_directory: use perdure.World, or give it one."
        )
    directory = world.persist_directory
    if directory is None:
        world.persist_path("policy.pt")  # raises with the world's own advice
        raise ValueError("this world's persist_directory is None: set the directory to persist to.")
    if versions.is_begun(directory):
        yield None
        return
    root = os.path.abspath(directory)
    versions.discard_leftovers(root)
    staging = versions.begin(root)
    world.persist_directory = staging
    try:
        yield root, staging
    except BaseException:
        versions.discard(staging)
        raise
    finally:
        world.persist_directory = directory


def _carry_over(root: str, staging: str) -> dict[str, str]:
    """Copy the best version's files that were not written again. Returns their checksums as they were recorded."""
    name = versions.best(root)
    if name is None:
        return {}
    best = os.path.join(root, versions.POLICIES, name)
    carried = []
    for folder, _, files in os.walk(best):
        for source in (os.path.join(folder, file) for file in files):
            target = os.path.join(staging, os.path.relpath(source, best))
            if not os.path.lexists(target):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
                carried.append(Path(source).relative_to(best).as_posix())
    # No new checksums: a copy of a damaged file is a damaged file.
    return {file: digest for file, digest in checksums.read(best).items() if file in carried}


def _free_name(root: str, epoch: int) -> str:
    """`epoch_7`, or `epoch_7-2` if a resumed run does that epoch again: a published version is never changed."""
    taken = set(versions.names(root))
    name, number = f"epoch_{epoch}", 1
    while name in taken:
        number += 1
        name = f"epoch_{epoch}-{number}"
    return name


def _link_epoch(root: str, name: str, file: str, epoch: int) -> None:
    """Link the epoch's policy at the root in one step, then remove the epoch's versions without a link."""
    stem, suffix = os.path.splitext(file)
    temporary = os.path.join(root, temporary_name())
    os.symlink(os.path.join(versions.POLICIES, name, file), temporary)
    os.replace(temporary, os.path.join(root, f"{stem}_epoch_{epoch}{suffix}"))
    sync_directory(root)
    links = [link for link in Path(root).glob(f"*_epoch_{epoch}.pt") if link.is_symlink()]
    linked = {os.path.basename(os.path.dirname(os.readlink(link))) for link in links}
    every = versions.names(root)
    old = {each for each in every if each == f"epoch_{epoch}" or each.startswith(f"epoch_{epoch}-")}
    versions.prune(root, keep=(set(every) - old) | linked)

"""Let handlers write into a fresh directory, and publish it as a whole when they succeed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from perdure.persistence import checksums, versions
from perdure.store import explained
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
        numbered = set(versions.numbered(root))
        versions.prune(root, keep=[name for name in versions.names(root) if name not in numbered])


@contextmanager
def published_epoch(world: World, epoch: int, file: str) -> Iterator[None]:
    """Publish what is written in this block as the version of an epoch, and show its policy at the root.

    :param file: the name of the policy's file; ``policy.pt`` is shown as ``policy_epoch_7.pt``.
    """
    with _redirected(world) as place:
        yield
        if place is None:
            return
        root, staging = place
        checksums.write(staging)
        name = _free_name(root, epoch)
        versions.publish(staging, name, link=False)
        with explained("link", os.path.join(root, file)):
            versions.show_epoch(root, name, file, epoch)
        # An earlier version of the epoch goes, unless it is that of another mode.
        old = [each for each in versions.epoch_versions(root, epoch) if each != name]
        out = {each for each in old if os.path.lexists(os.path.join(root, versions.POLICIES, each, file))}
        versions.prune(root, keep=[each for each in versions.names(root) if each not in out])


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
    except BaseException as error:
        versions.discard(staging)
        if isinstance(error, FileNotFoundError) and _is_of_before(error.filename, root, staging):
            raise FileNotFoundError(
                f"{error.filename} was a path of an earlier time, whose files are published and no longer there. "
                f"Expected a path below {staging}: a handler must ask world.persist_path(name) each time it persists, "
                "and not keep the answer."
            ) from error
        raise
    finally:
        world.persist_directory = directory


def _is_of_before(path: object, root: str, staging: str) -> bool:
    """Whether a path that is not there leads into the fresh directory of an earlier publication."""
    if not isinstance(path, str):
        return False
    place = os.path.relpath(os.path.abspath(path), os.path.join(root, versions.POLICIES)).split(os.sep)
    return versions.is_begun(os.path.join(root, versions.POLICIES, place[0])) and place[
        0
    ] != os.path.basename(staging)


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

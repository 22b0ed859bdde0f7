"""Publish several files together, on a local disk: readers see all of the new ones or all of the old ones.

What is published is a directory, a *version*, which is never changed afterwards::

    policies/00000007/policy.pt    a version; the one with the highest number is the best
    best -> policies/00000007      a view of it for users, who look for policy.pt at the root;
    policy.pt -> best/policy.pt    where there are no links, of second names or copies

A version is published when it has its name, in one step. The view is made afterwards (see `_view`), and made again
from the versions where it is lost. It knows files and names, and nothing of their content.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from contextlib import suppress

from perdure.errors import StoreError
from perdure.persistence import _view
from perdure.persistence._version_names import (
    BEST,
    FOUND,
    NAME,
    POLICIES,
    begin,
    best,
    discard,
    discard_leftovers,
    free_found,
    is_begun,
    is_directory,
    names,
    next_version,
    numbered,
    root_of,
    sync_tree,
    visible,
)
from perdure.persistence._view import Misfit, epoch_versions, linked, misfits, published_file, show_epoch
from perdure.store import TEMPORARY, explain, explained, sync_directory, temporary_name

__all__ = [
    "BEST",
    "FOUND",
    "POLICIES",
    "Misfit",
    "begin",
    "best",
    "clean",
    "discard",
    "discard_leftovers",
    "epoch_versions",
    "is_begun",
    "linked",
    "make_best",
    "misfits",
    "names",
    "next_version",
    "numbered",
    "prune",
    "publish",
    "published_file",
    "retire",
    "show_epoch",
    "unlink_best",
    "visible",
]

# What the directory of a run has at its root for other purposes.
_RESERVED = frozenset({POLICIES, BEST, "run.json", "checkpoints", "packs"})


def publish(staging: str, name: str, *, link: bool = True) -> str:
    """Make the directory `staging` the version `name`, durably and in one step.

    If the process is killed meanwhile, the version exists as a whole or not at all. A file that someone else had put
    where users look for one of it (``policy.pt`` at the root) is kept in ``policies/found-…``.

    :param staging: a directory from :func:`begin`.
    :param name: letters, digits, ``_``, ``-`` and ``.``; for instance from :func:`next_version`.
    :param link: let users see its files at the root: it is the best version.
    :return: the absolute path of the version.
    :raises StoreError: if there is such a version already, or something cannot be written. What was published before
        stays; if only the view of it at the root could not be brought up to date, the next process does that.
    """
    root = root_of(staging)
    policies = os.path.join(root, POLICIES)
    version = os.path.join(policies, name)
    if not NAME.fullmatch(name) or name.startswith(FOUND):
        raise ValueError(
            f"{name!r:.120} cannot be the name of a version: expected letters, digits, '_', '-', '.'"
        )
    try:
        if link and (taken := _RESERVED.intersection(os.listdir(staging))):
            raise StoreError(
                f"a version cannot have files named {sorted(taken)}: a run has its own files of that name"
            )
        if os.path.lexists(version):
            raise StoreError(f"{version} exists already, and a version is never changed: use another name")
        # Durable before it has a name: a name that a power cut leaves with empty files is worse than none.
        sync_tree(staging)
        os.rename(staging, version)
        sync_directory(policies)
        if link:
            _view.show_best(root, name)
    except OSError as error:
        raise explain(error, "publish", version) from error
    return version


def make_best(root: str | os.PathLike[str], name: str) -> None:
    """Let users see the version `name` at the root, as the best one."""
    root = os.path.abspath(root)
    with explained("link", os.path.join(root, BEST)):
        _view.show_best(root, name)


def unlink_best(root: str | os.PathLike[str]) -> None:
    """Remove the link that says which version is the best."""
    root = os.path.abspath(root)
    with explained("unlink", os.path.join(root, BEST)):
        os.unlink(os.path.join(root, BEST))
        sync_directory(root)


def retire(root: str | os.PathLike[str], name: str, *, keep: bool) -> None:
    """Take a damaged version out of use.

    :param keep: keep its files in ``policies/found-…`` instead of removing them.
    """
    root = os.path.abspath(root)
    policies = os.path.join(root, POLICIES)
    version = os.path.join(policies, name)
    with explained("retire", version):
        # The link goes first, so that it never leads nowhere.
        if linked(root) == name:
            unlink_best(root)
        # Under its own name it is whole until it is gone.
        place = os.path.join(policies, free_found(policies) if keep else temporary_name())
        if not _view.move_directory(version, place):
            if keep:
                staging = begin(root)
                shutil.copytree(version, staging, symlinks=True, dirs_exist_ok=True)
                sync_tree(staging)
                os.rename(staging, place)
                sync_directory(policies)
            shutil.rmtree(version)
            return
        sync_directory(policies)
        if not keep:
            shutil.rmtree(place)


def prune(root: str | os.PathLike[str], keep: Collection[str]) -> list[str]:
    """Remove the versions that are not in `keep`; never the best one, nor the one that users see.

    :return: the names of those removed.
    """
    policies = os.path.join(os.path.abspath(root), POLICIES)
    spared = {*keep, best(root), linked(root)}
    removed = []
    doomed = []
    with explained("remove versions from", policies):
        for name in names(root):
            if name in spared:
                continue
            # Under its own name it is whole until it is gone.
            place = os.path.join(policies, temporary_name())
            if not _view.move_directory(os.path.join(policies, name), place):
                # In a lower layer of an overlay, to remove it would free no space; so it stays, whole.
                continue
            removed.append(name)
            doomed.append(place)
        if removed:
            # Before its files go: otherwise a power cut may bring the name back, without them.
            sync_directory(policies)
        for directory in doomed:
            shutil.rmtree(directory)
    return removed


def clean(root: str | os.PathLike[str]) -> None:
    """Remove what a killed process left half-done, and let users see the best version at the root, as far as links to
    it are missing or old. Call it only while no other process publishes here."""
    root = os.path.abspath(root)
    policies = os.path.join(root, POLICIES)
    with explained("clean", root), suppress(FileNotFoundError):
        # That process may have switched the best version without syncing it: a power cut could switch it back.
        sync_directory(root)
        for name in os.listdir(root):
            path = os.path.join(root, name)
            if name.startswith(TEMPORARY) and not is_directory(path):
                os.unlink(path)
        if is_directory(policies):
            # The same holds for a version that it was removing: its name could be back, without these files.
            sync_directory(policies)
            for name in os.listdir(policies):
                path = os.path.join(policies, name)
                if name.startswith(TEMPORARY) and not os.path.islink(path):
                    shutil.rmtree(path)
        if (newest := best(root)) is not None:
            # Where that process was killed while it made the view, all of that is done now.
            _view.show_best(root, newest, over_others=linked(root) != newest)
        _view.remove_stale(root)

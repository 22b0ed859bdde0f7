"""Mistakes that are easily made, planted: going through the states that a crash may leave must find each of them.

Each single fsync is left out in turn in test_crash_states.py; here are steps in the wrong order and short cuts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from crash_cases import CASES, QUICK, Lost, explore, explore_whole, record_case

from perdure.persistence import _version_names, _view, versions
from perdure.store import LocalBackend, sync, sync_directory, temporary_name
from perdure.store.backends import _local
from perdure.store.backends._base import Buffer

Plant = pytest.MonkeyPatch


def finds(name: str, plant: Plant, *, stays: bool = False, whole: bool = True) -> str:
    """What is found in the states that the program with the planted bug leaves; fails if nothing is.

    :param stays: the process after the crash has the bug too.
    :param whole: whether to go through all states, or some.
    """
    case = CASES[name]
    record = record_case(case)
    if not stays:
        plant.undo()
    with pytest.raises(Lost) as caught:
        explore_whole(record, case.check) if whole else explore(record, case.check, QUICK)
    return str(caught.value)


def write_file(path: str, buffers: Iterable[Buffer], *, synced: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"".join(buffers))
    if synced:
        sync(fd)
    os.close(fd)


def sync_file(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    sync(fd)
    os.close(fd)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        if name not in ("training", "garbage collection", "several packs in a commit", "repair")
    ],
)
def test_no_fsync_at_all(name: str, monkeypatch: Plant) -> None:
    for module in (_local, versions, _view, _version_names):
        for function in {"sync", "sync_directory"} & vars(module).keys():
            monkeypatch.setattr(module, function, lambda _: None)
    # Without any fsync everything is possible after the last operation: too much to go through, and soon found.
    assert finds(name, monkeypatch, whole=False)


def test_the_manifest_before_its_data(monkeypatch: Plant) -> None:
    put = LocalBackend.put
    held: list[tuple[LocalBackend, str, list[bytes]]] = []

    def late(self: LocalBackend, name: str, buffers: Iterable[Buffer]) -> None:
        if name.startswith("packs/"):
            held.append((self, name, [bytes(buffer) for buffer in buffers]))
            return
        put(self, name, buffers)
        while held:
            put(*held.pop())

    monkeypatch.setattr(LocalBackend, "put", late)
    assert finds("commit and retention", monkeypatch)


def test_a_file_written_under_its_own_name(monkeypatch: Plant) -> None:
    def put(self: LocalBackend, name: str, buffers: Iterable[Buffer]) -> None:
        path = self.locate(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, buffers, synced=True)
        sync_directory(os.path.dirname(path))

    monkeypatch.setattr(LocalBackend, "put", put)
    assert "checkpoints/00000003.json" in finds("commit and retention", monkeypatch)


@pytest.mark.parametrize("name", ["backend", "commit and retention"])
def test_the_name_before_the_content_is_durable(name: str, monkeypatch: Plant) -> None:
    def put(self: LocalBackend, name: str, buffers: Iterable[Buffer]) -> None:
        path = self.locate(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = os.path.join(os.path.dirname(path), temporary_name())
        write_file(temporary, buffers, synced=False)
        os.rename(temporary, path)
        sync_file(path)
        sync_directory(os.path.dirname(path))

    monkeypatch.setattr(LocalBackend, "put", put)
    assert finds(name, monkeypatch)


def test_packs_deleted_before_the_manifests(monkeypatch: Plant) -> None:
    delete, listed = LocalBackend.delete, LocalBackend.list
    held: list[tuple[LocalBackend, str]] = []

    def late(self: LocalBackend, name: str) -> None:
        if name.startswith("checkpoints/"):
            held.append((self, name))
            return
        delete(self, name)
        while held:
            delete(*held.pop())

    def unlisted(self: LocalBackend, directory: str) -> Any:
        # The store must believe that they are gone.
        return [entry for entry in listed(self, directory) if entry.name not in [name for _, name in held]]

    monkeypatch.setattr(LocalBackend, "delete", late)
    monkeypatch.setattr(LocalBackend, "list", unlisted)
    assert "a reader finds" in finds("garbage collection", monkeypatch)


def test_a_deletion_that_is_not_durable(monkeypatch: Plant) -> None:
    def delete(self: LocalBackend, name: str) -> None:
        Path(self.locate(name)).unlink(missing_ok=True)

    monkeypatch.setattr(LocalBackend, "delete", delete)
    assert "is there again" in finds("commit and retention", monkeypatch)


def test_leftovers_are_not_removed(monkeypatch: Plant) -> None:
    monkeypatch.setattr(LocalBackend, "_remove_leftovers", lambda self: None)
    assert "left behind" in finds("commit and retention", monkeypatch, stays=True)


def test_packs_that_nobody_needs_are_not_removed(monkeypatch: Plant) -> None:
    monkeypatch.setattr("perdure.store._retention.sweep", lambda *_: None)
    assert "a writer finds" in finds("commit and retention", monkeypatch, stays=True)


def test_a_version_published_before_it_is_durable(monkeypatch: Plant) -> None:
    sync_tree, show_best = versions.sync_tree, _view.show_best

    def switch(root: str, name: str, *, over_others: bool = True) -> None:
        show_best(root, name, over_others=over_others)
        sync_tree(os.path.join(root, versions.POLICIES, name))

    monkeypatch.setattr(versions, "sync_tree", lambda directory: None)
    monkeypatch.setattr(_view, "show_best", switch)
    assert "the best is" in finds("next publication", monkeypatch)


def test_the_best_version_switched_before_its_links_are_durable(monkeypatch: Plant) -> None:
    link = _view._link
    held: list[tuple[str, str, str]] = []

    def best_first(root: str, name: str, target: str) -> None:
        if name != versions.BEST:
            held.append((root, name, target))
            return
        link(root, name, target)
        while held:
            link(*held.pop())

    monkeypatch.setattr(_view, "_link", best_first)
    assert "a reader sees" in finds("next publication", monkeypatch)


def test_a_link_removed_and_made_anew(monkeypatch: Plant) -> None:
    def link(root: str, name: str, target: str) -> None:
        path = os.path.join(root, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    monkeypatch.setattr(_view, "_link", link)
    assert "a reader sees {}" in finds("next publication", monkeypatch)


def test_a_version_removed_under_its_own_name(monkeypatch: Plant) -> None:
    def prune(root: Path, keep: object) -> None:
        for name in versions.names(root):
            if name != versions.best(root):
                shutil.rmtree(root / versions.POLICIES / name)

    monkeypatch.setattr(versions, "prune", prune)
    assert "version 00000001 has" in finds("next publication", monkeypatch)


def test_files_written_where_readers_look(monkeypatch: Plant) -> None:
    """Without a version: as most programs write them."""

    def write(staging: str, name: str, *, link: bool = True) -> None:
        root = Path(staging).parents[1]
        for here, _, files in os.walk(staging):
            for file in files:
                target = root / os.path.relpath(os.path.join(here, file), staging)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(os.path.join(here, file), target)
        versions.discard(staging)

    monkeypatch.setattr(versions, "publish", write)
    assert "a reader sees" in finds("first publication", monkeypatch)

"""Every state in which a power cut may leave the disk is the last committed checkpoint or the new one, and the run goes
on; and each fsync that is left out, and each step in the wrong order, is found out by that.

`pytest -s` prints how many states there were. `make reliability` goes through many more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from crash_cases import (
    CASES,
    Case,
    Counts,
    Lost,
    Seen,
    check_store,
    explore,
    explore_recovery,
    record_case,
    record_killed,
)
from simulated_disk import Bounds

from perdure.store import LocalBackend, publish
from perdure.store.backend import Buffer

#: Enough to find every planted bug; the campaign takes more.
QUICK = Bounds()
COARSE = Bounds(product=4, apart=1, samples=2, subsets=1)


def say(what: str, counts: object) -> None:
    print(f"{what}: {counts}")


@pytest.mark.parametrize("name", [name for name in CASES if name != "training"])
def test_a_power_cut_after_every_operation_and_every_fsync_left_out(name: str) -> None:
    case = CASES[name]
    record = record_case(case)
    seen: Seen = set()
    counts = explore(record, case.check, QUICK, seen)
    say(name, counts)
    assert counts.operations > 10
    assert counts.checked > counts.operations // 3
    spare = []
    syncs = record.syncs()
    for index, adds_names in syncs.items():
        try:
            explore(record.without(index), case.check, QUICK, set(seen), since=index)
        except Lost:
            continue
        # It may be missing without harm if another one does the same before anything is announced, or if all that
        # it makes sure of is that what nobody needs stays away.
        what = record.operations[index].what
        assert record.is_made_up_for(index) or not adds_names, f"nothing found that {what} was missing"
        spare.append(what)
    say(f"{name}: of {len(syncs)} fsyncs, those that may be missing", spare)
    assert len(spare) < len(syncs)
    # Every single one is needed to keep what the backend promises.
    assert name != "backend" or not spare


def test_a_power_cut_after_every_operation_of_a_training() -> None:
    case = CASES["training"]
    counts = explore(record_case(case), case.check, COARSE, every=3)
    say("training", counts)
    assert counts.checked > 50


@pytest.mark.parametrize(
    "name", ["creation", "commit and retention", "publication over files of others", "next publication"]
)
def test_a_power_cut_after_a_killed_process_was_started_again(name: str) -> None:
    """What a killed process had not synced is in the system's memory for the next one, and looks durable to it."""
    case = CASES[name]
    counts, seen = Counts(), Seen()
    after, killed = 0, True
    while killed:
        record, killed = record_killed(case, after)
        counts += explore(record, case.check, COARSE, seen, since=after)
        after += 1
    say(f"{name}, killed before", counts)
    assert after > 15


@pytest.mark.parametrize("name", ["commit and retention", "next publication"])
def test_a_power_cut_while_another_one_is_recovered_from(name: str) -> None:
    case = CASES[name]
    counts = explore_recovery(record_case(case), case, COARSE, every=7)
    say(f"{name}, cut again while recovering", counts)
    assert counts.checked > 50


# -- planted bugs: each must be found -----------------------------------------------------------------------------------


def finds(name: str) -> str:
    """What exploring finds wrong; fails if it finds nothing."""
    case = CASES[name]
    with pytest.raises(Lost) as caught:
        explore(record_case(case), case.check, QUICK)
    return str(caught.value)


Plant = pytest.MonkeyPatch


def replaced(plant: Plant, name: str) -> Callable[..., Any]:
    """Make `os` do without a call; the real one."""
    real = getattr(os, name)
    plant.setattr(os, name, lambda *args, **more: None)
    return real  # type: ignore[no-any-return]


def test_planted_no_fsync_at_all(monkeypatch: Plant) -> None:
    replaced(monkeypatch, "fsync")
    for name in ("backend", "creation", "commit and retention", "next publication"):
        assert finds(name)


def test_planted_the_manifest_before_its_data(monkeypatch: Plant) -> None:
    held: list[tuple[LocalBackend, str, list[bytes]]] = []
    put = LocalBackend.put

    def late(self: LocalBackend, name: str, buffers: Iterable[Buffer]) -> None:
        if name.startswith("packs/"):
            held.append((self, name, [bytes(buffer) for buffer in buffers]))
            return
        put(self, name, buffers)
        while held:
            put(*held.pop())

    monkeypatch.setattr(LocalBackend, "put", late)
    assert "is missing" in finds("commit and retention") or "No such file" in finds("commit and retention")


def test_planted_a_file_written_under_its_own_name(monkeypatch: Plant) -> None:
    def put(self: LocalBackend, name: str, buffers: Iterable[Buffer]) -> None:
        path = Path(self.locate(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(fd, b"".join(buffers))
        os.fsync(fd)
        os.close(fd)
        directory = os.open(path.parent, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    monkeypatch.setattr(LocalBackend, "put", put)
    assert "commit and retention" and finds("commit and retention")


def test_planted_the_name_before_the_content_is_durable(monkeypatch: Plant) -> None:
    """A rename, and only then the fsync of the file."""
    real_sync, real_link, real_unlink = os.fsync, os.link, os.unlink
    waiting: list[int] = []

    def later(fd: int) -> None:
        if os.path.isfile(f"/proc/self/fd/{fd}"):
            waiting.append(os.dup(fd))
        else:
            while waiting:
                real_sync(waiting[-1])
                os.close(waiting.pop())
            real_sync(fd)

    monkeypatch.setattr(os, "fsync", later)
    assert finds("backend")
    assert (os.link, os.unlink) == (real_link, real_unlink)


def test_planted_packs_deleted_before_the_manifests(monkeypatch: Plant) -> None:
    delete = LocalBackend.delete
    held: list[tuple[LocalBackend, str]] = []

    def late(self: LocalBackend, name: str) -> None:
        if name.startswith("checkpoints/"):
            held.append((self, name))
            return
        delete(self, name)
        while held:
            delete(*held.pop())

    monkeypatch.setattr(LocalBackend, "delete", late)
    # The sweep must believe that they are gone.
    listed = LocalBackend.list
    monkeypatch.setattr(
        LocalBackend,
        "list",
        lambda self, directory: [
            entry for entry in listed(self, directory) if entry.name not in [name for _, name in held]
        ],
    )
    assert finds("garbage collection")


def test_planted_leftovers_are_not_removed(monkeypatch: Plant) -> None:
    monkeypatch.setattr(LocalBackend, "_remove_leftovers", lambda self: None)
    assert "left behind" in finds("commit and retention")


def test_planted_packs_nobody_needs_are_not_removed(monkeypatch: Plant) -> None:
    monkeypatch.setattr("perdure.store.retention.sweep", lambda *_: None)
    assert "no checkpoint that can be read refers to" in finds("commit and retention")


def test_planted_a_deleted_checkpoint_comes_back(monkeypatch: Plant) -> None:
    """No fsync after deleting a manifest."""
    unlink, sync = os.unlink, os.fsync
    deleted: list[bool] = []

    def note(path: Any, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        deleted.append(str(path).endswith(".json"))

    def skip(fd: int) -> None:
        if not (deleted and deleted[-1]):
            sync(fd)
        deleted.clear()

    monkeypatch.setattr(os, "unlink", note)
    monkeypatch.setattr(os, "fsync", skip)
    assert finds("commit and retention")


def test_planted_a_version_published_before_it_is_durable(monkeypatch: Plant) -> None:
    real, rename = publish._sync_tree, os.rename
    names: dict[str, str] = {}

    def note(source: Any, target: Any, **more: Any) -> None:
        rename(source, target, **more)
        names[str(source)] = str(target)

    def switch(root: str, name: str, entries: list[str]) -> None:
        make_best(root, name, entries)
        real(os.path.join(root, publish.POLICIES, name))

    make_best = publish._make_best
    monkeypatch.setattr(os, "rename", note)
    monkeypatch.setattr(publish, "_sync_tree", lambda directory: None)
    monkeypatch.setattr(publish, "_make_best", switch)
    assert finds("next publication")


def test_planted_the_best_version_switched_before_its_links_are_durable(monkeypatch: Plant) -> None:
    link = publish._link
    held: list[tuple[str, str, str]] = []

    def best_first(root: str, name: str, target: str) -> None:
        if name != publish.BEST:
            held.append((root, name, target))
            return
        link(root, name, target)
        while held:
            link(*held.pop())

    monkeypatch.setattr(publish, "_link", best_first)
    assert finds("next publication")


def test_planted_a_link_removed_and_made_anew(monkeypatch: Plant) -> None:
    def link(root: str, name: str, target: str) -> None:
        path = os.path.join(root, name)
        if os.path.lexists(path):
            os.unlink(path)
        os.symlink(target, path)

    monkeypatch.setattr(publish, "_link", link)
    assert "a reader sees {}" in finds("next publication")


def test_planted_a_version_removed_under_its_own_name(monkeypatch: Plant) -> None:
    def prune(root: Path, keep: object) -> None:
        for name in publish.versions(root):
            if name != publish.best(root):
                shutil.rmtree(root / publish.POLICIES / name)

    monkeypatch.setattr(publish, "prune", prune)
    assert "version 00000001 has" in finds("next publication")


def test_planted_files_written_where_readers_look(monkeypatch: Plant) -> None:
    """Without a version: as most programs write them."""

    def write(root: Path, staging: str) -> None:
        for here, _, files in os.walk(staging):
            for file in files:
                target = root / os.path.relpath(os.path.join(here, file), staging)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(os.path.join(here, file), target)
        publish.discard(staging)

    monkeypatch.setattr(
        publish, "publish", lambda staging, name, link=True: write(Path(staging).parents[1], staging)
    )
    assert "a reader sees" in finds("first publication")


def test_planted_the_best_policy_of_a_training_written_in_place(monkeypatch: Plant) -> None:
    """Also where nothing but a whole training is looked at."""
    monkeypatch.setattr(publish, "_sync_tree", lambda directory: None)
    case: Case = CASES["training"]
    with pytest.raises(Lost):
        explore(record_case(case), case.check, COARSE)


def test_a_run_is_checked_as_this_suite_checks_it(tmp_path: Path) -> None:
    """The check itself finds what is not the last checkpoint."""
    CASES["commit and retention"].prepare(tmp_path)
    with pytest.raises(AssertionError, match="finds step 2"):
        check_store(tmp_path, 3, 4)

"""The promise itself: whenever the process dies, the last committed checkpoint or the new one is there."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_support import Arrays, arrays_of, commit, in_child, killed_at, same

from perdure.errors import StoreError
from perdure.store import Backend, LocalBackend, Store
from perdure.store.testing import FailingBackend, MemoryBackend

CALLS = ("open", "writev", "fsync", "link", "unlink", "rename", "mkdir", "preadv")


def arrays_at(step: int) -> Arrays:
    """What the run holds at a step: some of it is always the same, some is always new."""
    rng = np.random.default_rng(step)
    return {"same": np.arange(40_000), "new": rng.random(1000), "little": np.array([step], np.uint8)}


def prepare(where: Path | Backend) -> None:
    with Store.open(where, write=True) as store:
        for step in (1, 2):
            commit(store, arrays_at(step), step)


def begin(where: Path) -> None:
    with Store.open(where, write=True) as store:
        commit(store, arrays_at(1), 1)


def go_on(where: Path | Backend, committed: Callable[[int], None] = lambda step: None) -> None:
    """What a run does: resume, commit, delete what is too old, commit again."""
    with Store.open(where, write=True) as store:
        found = store.latest()
        assert found is not None
        for step in (found.info.step + 1, found.info.step + 2):
            commit(store, arrays_at(step), step)
            committed(step)
            store.retain(lambda infos: [info.number for info in infos[-2:]])


def note(progress: Path, step: int) -> None:
    progress.write_text(str(step))


def check(where: Path | Backend, at_least: int, at_most: int) -> None:
    """The newest checkpoint is one of those, whole; nothing is damaged or left behind; the run can go on."""
    with Store.open(where, write=True) as store:
        found = store.latest()
        assert found is not None
        assert at_least <= found.info.step <= at_most
        assert same(arrays_of(found.state), arrays_at(found.info.step))
        assert store.verify() == []
        commit(store, arrays_at(99), 99)
        newest = store.latest()
        assert newest is not None
        assert newest.info.step == 99
        assert store.verify() == []


def test_killed_at_every_system_call(tmp_path: Path) -> None:
    prepare(tmp_path / "prepared")
    step = 0
    while True:
        step += 1
        root, progress = tmp_path / f"{step}", tmp_path / f"{step}.progress"
        shutil.copytree(tmp_path / "prepared", root)
        progress.write_text("2")
        killed = killed_at(step, partial(go_on, root, partial(note, progress)), CALLS)
        done = int(progress.read_text() or 2)
        assert not any(path.is_file() for path in root.rglob(".tmp-*")) or killed
        check(root, done, min(done + 1, 4))
        assert not any(root.rglob(".tmp-*"))
        shutil.rmtree(root)
        if not killed:
            break
    assert done == 4
    assert step > 60


def test_killed_at_every_system_call_of_the_first_commit(tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / f"{step}"
        killed = killed_at(step, partial(begin, root), CALLS)
        with Store.open(root, write=True) as store:
            found = store.latest()
            assert found is None or same(arrays_of(found.state), arrays_at(1))
            assert found is not None or killed
            assert store.verify() == []
    assert step > 25


def go_on_in_child(where: Backend) -> str:
    go_on(where)
    return "done"


def test_killed_at_every_operation_of_a_backend(tmp_path: Path) -> None:
    prepare(tmp_path / "prepared")
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / f"{step}"
        shutil.copytree(tmp_path / "prepared", root)
        backend = FailingBackend(LocalBackend(root), step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        killed = in_child(partial(go_on_in_child, backend)) != "done"
        check(root, 2, 4)
        shutil.rmtree(root)
    assert step > 8


@pytest.mark.parametrize("lasting", [False, True])
def test_an_error_at_every_operation_of_a_backend(lasting: bool) -> None:
    """The store that met it goes on, if the error does not last; and another one in any case."""
    step, failed = 0, True
    while failed:
        step += 1
        memory = MemoryBackend()
        prepare(memory)
        failed = False

        def fail(verb: str, name: str) -> None:
            nonlocal failed
            if lasting or not failed:
                failed = True
                raise StoreError(f"could not {verb} {name}: no space is left")

        backend = FailingBackend(memory.connect(), step, fail)
        try:
            with Store.open(backend, write=True) as store:
                for _ in range(3):
                    found = store.latest()
                    assert found is not None
                    before = found.info.step
                    try:
                        commit(store, arrays_at(before + 1), before + 1)
                        store.retain(lambda infos: [info.number for info in infos[-2:]])
                    except StoreError:
                        assert failed
                    found = store.latest()
                    assert found is not None
                    assert found.info.step in (before, before + 1)
        except StoreError:
            assert backend.count <= 2
        check(memory.connect(), 2, 5)
    assert step > 10


@pytest.mark.parametrize("call", ["open", "writev", "fsync", "link", "unlink"])
def test_an_error_of_the_system_at_every_call(
    tmp_path: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an fsync that fails after the name was given: then the commit may be there although it raised."""
    real = getattr(os, call)
    count, at = 0, 0

    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count == at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(*args, **kwargs)

    prepare(tmp_path / "prepared")
    while count >= at:
        count, at = 0, at + 1
        root = tmp_path / f"{at}"
        shutil.copytree(tmp_path / "prepared", root)
        with Store.open(root, write=True) as store:
            assert store.latest() is not None
            with monkeypatch.context() as patched:
                patched.setattr(os, call, failing)
                try:
                    commit(store, arrays_at(3), 3)
                    store.retain({2, 3})
                except StoreError:
                    pass
            found = store.latest()
            assert found is not None
            commit(store, arrays_at(found.info.step + 1), found.info.step + 1)
        assert not any(root.rglob(".tmp-*"))
        check(root, 3, 4)
        shutil.rmtree(root)


# -- power cuts -----------------------------------------------------------------------------------------


class Disk:
    """Follows what a program does to a directory, and makes what a power cut would leave of it.

    Only what was synced is sure: the content of a file by its own fsync, a name by the fsync of its
    directory.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.content: dict[int, bytes] = {}
        self.names: dict[int, dict[str, tuple[int, bool]]] = {}
        self.on_change: Callable[[], None] = lambda: None
        self._busy = False
        self._sync_all(root)
        for name in ("open", "writev", "link", "unlink", "rename", "mkdir", "fsync"):
            monkeypatch.setattr(os, name, self._followed(name, getattr(os, name)))

    def _sync_all(self, directory: Path) -> None:
        self._note(os.stat(directory).st_ino, directory)
        for path in directory.rglob("*"):
            self._note(os.stat(path).st_ino, path)

    def _note(self, inode: int, path: Path | str) -> None:
        if os.path.isdir(path):
            with os.scandir(path) as found:
                self.names[inode] = {
                    item.name: (item.inode(), item.is_dir(follow_symlinks=False)) for item in found
                }
        else:
            self.content[inode] = Path(path).read_bytes()

    def _followed(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            if name == "fsync":
                self._note(os.fstat(args[0]).st_ino, f"/proc/self/fd/{args[0]}")
            elif name == "open" and args[1] & os.O_EXCL:
                self.content.pop(
                    os.fstat(result).st_ino, None
                )  # the number may be that of a file that is gone
            elif name == "mkdir":
                self.names.pop(os.stat(args[0], dir_fd=kwargs.get("dir_fd")).st_ino, None)
            if not self._busy and (name != "open" or args[1] & os.O_EXCL):
                self._busy = True
                self.on_change()
                self._busy = False
            return result

        return call

    def after_power_cut(self, target: Path, *, names_kept: bool) -> None:
        """What is left; with the names that were not synced, or without."""
        self._restore(os.stat(self.root).st_ino, self.root, target, names_kept)

    def _restore(self, inode: int, here: Path | None, target: Path, names_kept: bool) -> None:
        target.mkdir()
        if names_kept and here is not None:
            with os.scandir(here) as found:
                names = {item.name: (item.inode(), item.is_dir(follow_symlinks=False)) for item in found}
        else:
            names = self.names.get(inode, {})
        for name, (child, is_directory) in names.items():
            if is_directory:
                self._restore(child, here / name if here is not None else None, target / name, names_kept)
            else:
                (target / name).write_bytes(self.content.get(child, b""))


@pytest.fixture
def cuts(tmp_path: Path) -> Path:
    directory = tmp_path / "cuts"
    directory.mkdir()
    return directory


def test_a_power_cut_at_every_moment(tmp_path: Path, cuts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "run"
    prepare(root)
    left: list[tuple[Path, int]] = []
    done = 2

    def committed(step: int) -> None:
        nonlocal done
        done = step

    def cut() -> None:
        for names_kept in (False, True):
            target = cuts / f"{len(left)}"
            disk.after_power_cut(target, names_kept=names_kept)
            left.append((target, done))

    with monkeypatch.context() as patched:
        disk = Disk(root, patched)
        disk.on_change = cut
        go_on(root, committed)
        disk.on_change = lambda: None
    assert len(left) > 60
    for target, sure in left:
        check(target, sure, min(sure + 1, 4))
        shutil.rmtree(target)


def test_a_power_cut_while_the_run_is_created(
    tmp_path: Path, cuts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "above" / "run"
    (tmp_path / "above").mkdir()
    left: list[Path] = []

    def cut() -> None:
        left.append(cuts / f"{len(left)}")
        disk.after_power_cut(left[-1], names_kept=len(left) % 2 == 0)

    with monkeypatch.context() as patched:
        disk = Disk(tmp_path / "above", patched)
        disk.on_change = cut
        with Store.open(root, write=True) as store:
            commit(store, arrays_at(1), 1)
        disk.after_power_cut(cuts / "end", names_kept=False)
    for target in left:
        with Store.open(target / "run", write=True) as store:
            found = store.latest()
            assert found is None or same(arrays_of(found.state), arrays_at(1))
    check(cuts / "end" / "run", 1, 1)


def test_commits_that_fail_again_and_again_do_not_fill_the_disk(tmp_path: Path) -> None:
    def full(verb: str, name: str) -> None:
        if name.startswith("checkpoints/") and failing:
            raise StoreError("no space is left")

    failing = False
    with Store.open(FailingBackend(LocalBackend(tmp_path), 1, full), write=True) as store:
        commit(store, arrays_at(1), 1)
        failing = True
        for _ in range(5):
            with pytest.raises(StoreError, match="no space"):
                commit(store, arrays_at(2), 2)
            assert len(os.listdir(tmp_path / "packs")) == 1
        failing = False
        commit(store, arrays_at(2), 2)
        assert len(os.listdir(tmp_path / "packs")) == 2
    check(tmp_path, 2, 2)


def test_a_commit_that_raised_although_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was deleted after it is not referred to by the next one."""
    with Store.open(tmp_path, write=True) as store:
        commit(store, arrays_at(1), 1)
        real = LocalBackend.put

        def put(self: LocalBackend, name: str, buffers: Any) -> None:
            real(self, name, buffers)
            if name.startswith("checkpoints/"):
                raise StoreError("the disk reports an error")

        with monkeypatch.context() as patched:
            patched.setattr(LocalBackend, "put", put)
            with pytest.raises(StoreError):
                commit(store, arrays_at(2) | {"same": np.zeros(3)}, 2)
        assert store.retain(()) == [1]
        commit(store, arrays_at(3), 3)
    check(tmp_path, 3, 3)

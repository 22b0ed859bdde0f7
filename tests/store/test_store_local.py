"""The backends for a local disk and in memory: conformance, and what only real file systems do wrong."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from store_support import Child, as_nobody, commit, in_child

from perdure.errors import DamagedError, LockedError, StoreError
from perdure.store import LocalBackend, Store
from perdure.store import _files as files_module
from perdure.store.testing import BackendConformance, Connect, MemoryBackend


class TestMemory(BackendConformance):
    @pytest.fixture
    def connect(self) -> Connect:
        return MemoryBackend().connect


class TestLocal(BackendConformance):
    @pytest.fixture
    def connect(self, tmp_path: Path) -> Connect:
        return lambda: LocalBackend(tmp_path / "deep" / "run")


@pytest.fixture
def backend(tmp_path: Path) -> LocalBackend:
    return LocalBackend(tmp_path / "run")


def test_conformance_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    backend = LocalBackend(tmp_path)
    backend.put("a/b", [b"first"])
    with pytest.raises(FileExistsError):
        backend.put("a/b", [b"second"])
    assert backend.get("a/b") == b"first"
    assert os.listdir(tmp_path / "a") == ["b"]


def test_short_writes_are_continued(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, views: real(fd, [views[0][: max(1, views[0].nbytes // 3)]]))
    content = [os.urandom(size) for size in (1, 0, 100, 5000, 7)]
    backend.put("a", content)
    assert backend.get("a") == b"".join(content)


def test_files_have_the_mode_of_the_umask(backend: LocalBackend) -> None:
    old = os.umask(0o027)
    try:
        backend.put("d/a", [b"x"])
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(backend.locate("d/a")).st_mode) == 0o640
    assert stat.S_IMODE(os.stat(backend.locate("d")).st_mode) == 0o750


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("call", ["writev", "fsync"])
def test_a_full_disk(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    backend.put("d/old", [b"x"])

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises(
            StoreError, match=r"could not write .*d/new: .+: .+|could not write .*d/new: "
        ) as caught:
            backend.put("d/new", [b"x"])
    if number != errno.EIO:
        assert "free some" in str(caught.value)
    assert os.listdir(backend.locate("d")) == ["old"]
    backend.put("d/new", [b"x"])


def test_a_really_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: the kernel itself stops the write in the middle."""

    def commit() -> str:
        import resource

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        backend = LocalBackend(tmp_path / "run")
        backend.put("small", [bytes(1000)])
        try:
            backend.put("d/large", [bytes(1 << 19)] * 3)
        except StoreError as error:
            return str(error)
        return ""

    assert "d/large: the file is larger than the file system allows" in in_child(commit)
    assert os.listdir(tmp_path / "run" / "d") == []


def test_links_are_not_followed(backend: LocalBackend, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(b"secret")
    backend.put("d/real", [b"x"])
    os.symlink(secret / "file", backend.locate("d/link"))
    os.symlink(secret, backend.locate("linked"))
    for name in ("d/link", "linked/file"):
        with pytest.raises(DamagedError, match="symbolic link"):
            backend.get(name)
        with pytest.raises(DamagedError, match="symbolic link"):
            backend.read_into(name, 0, memoryview(bytearray(1)))
    with pytest.raises(StoreError):
        backend.put("linked/new", [b"x"])
    with pytest.raises(StoreError):
        backend.delete("linked/file")
    with pytest.raises(StoreError):
        backend.list("linked")
    assert [entry.name for entry in backend.list("d")] == ["d/link", "d/real"]
    assert os.listdir(secret) == ["file"]


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "link")
    backend = LocalBackend(tmp_path / "link")
    backend.lock(0)
    backend.put("a", [b"x"])
    backend.unlock()
    assert (tmp_path / "real" / "a").read_bytes() == b"x"


def test_what_is_no_file(backend: LocalBackend) -> None:
    backend.put("d/real", [b"x"])
    os.mkfifo(backend.locate("d/pipe"))
    os.mkdir(backend.locate("d/directory"))
    for name in ("d/pipe", "d/directory"):
        with pytest.raises(DamagedError, match=r"not a regular file|it is a directory"):
            backend.get(name)
    assert [entry.name for entry in backend.list("d")] == ["d/pipe", "d/real"]


def test_a_huge_object_is_not_read_into_memory(backend: LocalBackend) -> None:
    backend.put("huge", [b"x"])
    os.truncate(backend.locate("huge"), 1 << 40)
    with pytest.raises(DamagedError, match="expected at most"):
        backend.get("huge")


def test_leftovers_of_dead_writers_are_removed(backend: LocalBackend) -> None:
    backend.put("packs/a", [b"x"])
    for name in (".tmp-1-abc", "packs/.tmp-1-abc"):
        Path(backend.locate(name)).write_bytes(b"half")
    os.mkdir(backend.locate("packs/.tmp-directory"))
    assert [entry.name for entry in backend.list("packs")] == ["packs/a"]
    backend.lock(0)
    assert sorted(os.listdir(backend.locate("packs"))) == [".tmp-directory", "a"]
    assert sorted(os.listdir(backend.root)) == [".lock", "packs"]


# -- permissions: as another user, because root may do everything ---------------------------------------


def test_no_permission_to_write(public: Path) -> None:
    root = public / "run"
    with Store.open(root, write=True):
        pass
    before = sorted(os.listdir(root))
    root.chmod(0o555)

    def write() -> str:
        try:
            Store.open(root, write=True)
        except StoreError as error:
            return f"{type(error).__name__}: {error}"
        return "no error"

    message = as_nobody(write)
    user = os.geteuid() or 65534
    assert message.startswith(
        f"StoreError: could not write to the directory {root}: permission denied for user {user}"
    )
    assert sorted(os.listdir(root)) == before
    # Nor where only a directory below is closed, nor where the run does not exist yet.
    root.chmod(0o777)
    (root / ".lock").chmod(0o666)
    (root / "checkpoints").mkdir()
    (root / "checkpoints").chmod(0o555)
    assert f"could not write to the directory {root}/checkpoints: permission denied" in as_nobody(write)
    (public / "run").rename(public / "moved")
    public.chmod(0o555)
    assert f"could not open for writing {root}: permission denied" in as_nobody(write)
    public.chmod(0o755)


def test_no_permission_to_read(public: Path) -> None:
    root = public / "run"
    with Store.open(root, write=True):
        pass
    (root / "run.json").chmod(0o000)

    def read() -> str:
        try:
            Store.open(root)
        except DamagedError:
            return "damaged"
        except StoreError as error:
            return str(error)
        return "no error"

    assert "run.json: permission denied for user" in as_nobody(read)


def test_a_reader_needs_no_permission_to_write(public: Path) -> None:
    root = public / "run"
    with Store.open(root, write=True) as store:
        commit(store, {}, step=1)
    assert as_nobody(lambda: str([info.step for info in Store.open(root).checkpoints()])) == "[1]"


def test_a_read_only_file_system(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with Store.open(root, write=True):
        pass
    script = f"""
import os, subprocess, sys
subprocess.run(["mount", "--bind", {str(root)!r}, {str(root)!r}], check=True)
subprocess.run(["mount", "-o", "remount,bind,ro", {str(root)!r}], check=True)
from perdure.store import Store
from perdure.errors import StoreError
try:
    Store.open({str(root)!r}, write=True)
except StoreError as error:
    print(error)
"""
    if subprocess.run(["unshare", "-m", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this system lets nobody mount")
    done = subprocess.run(
        ["unshare", "-m", sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert "the file system is read-only" in done.stdout


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match="could not open for writing"):
        Store.open(tmp_path / "run", write=True)
    with pytest.raises(StoreError):
        Store.open(tmp_path / "run")


# -- the lock: between real processes -------------------------------------------------------------------


def _hold(root: Path, ready: int) -> None:
    backend = LocalBackend(root)
    backend.lock(0)
    os.write(ready, b"x")
    time.sleep(60)


def test_a_second_process_is_told_who_writes(tmp_path: Path) -> None:
    with Child(lambda ready: _hold(tmp_path, ready)) as holder:
        started = time.monotonic()
        with pytest.raises(LockedError) as caught:
            Store.open(tmp_path, write=True, wait=0.3)
        assert 0.25 < time.monotonic() - started < 5
        message = str(caught.value)
        assert f"process {holder.pid} on host {os.uname().nodename}, since 20" in message
        assert json.loads((tmp_path / ".lock").read_bytes())["pid"] == holder.pid


def test_a_killed_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    with Child(lambda ready: _hold(tmp_path, ready)) as holder:
        holder.kill()
        backend = LocalBackend(tmp_path)
        backend.lock(0)
        backend.unlock()


@pytest.mark.parametrize("how", ["fork", "multiprocessing", "spawn", "subprocess"])
def test_children_that_outlive_a_killed_holder_do_not_keep_the_lock(tmp_path: Path, how: str) -> None:
    def hold(ready: int) -> None:
        backend = LocalBackend(tmp_path)
        backend.lock(0)
        if how == "fork":
            if (child := os.fork()) == 0:
                time.sleep(30)
                os._exit(0)
        elif how == "subprocess":
            child = subprocess.Popen(["sleep", "30"]).pid
        else:
            context = multiprocessing.get_context("fork" if how == "multiprocessing" else "spawn")
            process = context.Process(target=time.sleep, args=(30,))
            process.start()
            assert process.pid
            child = process.pid
        (tmp_path / "child").write_text(str(child))
        os.write(ready, b"x")
        time.sleep(60)

    with Child(hold) as holder:
        child = int((tmp_path / "child").read_text())
        try:
            with pytest.raises(LockedError):
                LocalBackend(tmp_path).lock(0)
            holder.kill()
            os.kill(child, 0)
            backend = LocalBackend(tmp_path)
            backend.lock(1)
            backend.unlock()
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_forked_child_that_ends_does_not_take_the_lock_away(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    backend.lock(0)

    def child() -> str:
        import gc

        backend._lock = None
        gc.collect()
        return "done"

    assert in_child(child) == "done"
    with pytest.raises(LockedError, match=f"process {os.getpid()} "):
        LocalBackend(tmp_path).lock(0)
    backend.unlock()


def test_a_forked_child_must_not_write(tmp_path: Path) -> None:
    with Store.open(tmp_path, write=True) as store:

        def child() -> str:
            try:
                commit(store, {}, step=1)
            except StoreError as error:
                store.close()
                return str(error)
            return "no error"

        assert "must not write" in in_child(child)
        assert store.checkpoints() == []
        with pytest.raises(LockedError):
            Store.open(tmp_path, write=True, wait=0)


def test_waits_for_a_holder_that_ends(tmp_path: Path) -> None:
    def keep(ready: int) -> None:
        backend = LocalBackend(tmp_path)
        backend.lock(0)
        os.write(ready, b"x")
        time.sleep(0.5)
        os._exit(0)

    with Child(keep):
        backend = LocalBackend(tmp_path)
        backend.lock(10)
        backend.unlock()


def test_an_unreadable_holder_is_another_process(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    backend.lock(0)
    for content in (b"", b"{", b"[]", b'{"pid": "x"}', b'{"pid": 1}', b"\xff"):
        (tmp_path / ".lock").write_bytes(content)
        with pytest.raises(LockedError, match="written by another process"):
            LocalBackend(tmp_path).lock(0)


def test_errors_without_advice_say_what_the_system_says() -> None:
    error = files_module.explain(OSError(errno.EBADF, "Bad file descriptor"), "write", "/x")
    assert str(error) == "could not write /x: see the system's log for the cause (Bad file descriptor)"

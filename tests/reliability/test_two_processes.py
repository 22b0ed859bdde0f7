"""Two processes and one run: two writers, on one host or two, and readers beside a writer."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from crash_cases import is_whole, state_at
from kills import Tally, readers

from perdure import Run, World
from perdure.errors import LockedError, PerdureWarning, StoreError
from perdure.store import LocalBackend, Store
from perdure.store.backends import _local as local_module


@contextmanager
def other_process(function: Callable[[int], None]) -> Iterator[int]:
    """A process that runs `function`, which writes a byte to the descriptor it is given when it is ready; its id."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            function(write)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    os.close(write)
    try:
        assert os.read(read, 1) == b"x", "the other process failed; its error is above"
        yield pid
    finally:
        os.close(read)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def hold(root: Path) -> Callable[[int], None]:
    def function(ready: int) -> None:
        store = Store.open(root, write=True)
        os.write(ready, b"x")
        time.sleep(60)
        store.close()

    return function


def train_and_hold(root: Path) -> Callable[[int], None]:
    def function(ready: int) -> None:
        with Run(root) as run:
            run.checkpoint(World(x=np.ones(3)), 1)
            os.write(ready, b"x")
            time.sleep(60)

    return function


def test_a_second_training_is_told_who_holds_the_run_and_since_when(tmp_path: Path) -> None:
    with other_process(train_and_hold(tmp_path / "run")) as pid:
        with pytest.raises(LockedError) as caught:
            Run(tmp_path / "run", lock_timeout=0.1)
        assert f"process {pid} on host {socket.gethostname()}, since 20" in str(caught.value)
        # It is kept out, and nothing of the first one's is touched.
        with Store.open(tmp_path / "run") as store:
            assert store.verify() == []
            assert [info.step for info in store.checkpoints()] == [1]


def test_a_holder_that_was_killed_is_no_obstacle(tmp_path: Path) -> None:
    with other_process(train_and_hold(tmp_path / "run")) as pid:
        os.kill(pid, signal.SIGKILL)
        with Run(tmp_path / "run") as run:
            world = World(x=np.zeros(3))
            assert run.resume(world) is not None
            assert world.x.tolist() == [1, 1, 1]


def test_a_holder_that_is_stopped_still_holds(tmp_path: Path) -> None:
    """A process that a debugger or Ctrl-Z has stopped may go on at any time."""
    with other_process(hold(tmp_path)) as pid:
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(LockedError):
            Store.open(tmp_path, write=True, wait=0.1)


def test_who_waits_gets_the_run_when_it_is_given_back(tmp_path: Path) -> None:
    def give_back(ready: int) -> None:
        with Store.open(tmp_path, write=True) as store:
            os.write(ready, b"x")
            time.sleep(0.3)
            store.commit(state_at(1), step=1)
        time.sleep(60)

    with other_process(give_back), Store.open(tmp_path, write=True, wait=30) as store:
        found = store.latest()
        assert found is not None
        assert found.info.step == 1


def test_many_that_start_at_once_take_turns(tmp_path: Path) -> None:
    """Each adds one checkpoint while it has the run; none is lost and none is written over."""
    children = []
    for _ in range(4):
        if (pid := os.fork()) == 0:
            try:
                for _ in range(3):
                    with Store.open(tmp_path, write=True, wait=60) as store:
                        found = store.latest()
                        step = 1 if found is None else found.info.step + 1
                        store.commit(state_at(step), step=step)
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * 4
    with Store.open(tmp_path) as store:
        assert [info.step for info in store.checkpoints()] == list(range(1, 13))
        assert store.verify() == []


# -- another host -----------------------------------------------------------------------------------------------------


def claim_of_another_host(root: Path) -> None:
    """What a process on another host leaves in the lock's file when it is killed."""
    with Store.open(root, write=True) as store:
        store.commit(state_at(1), step=1)
    claim = {"pid": 4711, "host": "elsewhere", "since": "2026-01-02T03:04:05+00:00"}
    (root / ".lock").write_text(json.dumps(claim) + "\n")


def test_a_lock_of_another_host_is_told_on_a_shared_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "is_local", lambda path: False)
    claim_of_another_host(tmp_path)
    with pytest.warns(PerdureWarning, match=r"process 4711 on host elsewhere, since 2026-01-02.*Make sure"):
        store = Store.open(tmp_path, write=True)
    assert store.latest() is not None
    store.close()
    # It was given back, so there is nothing to be told of.
    with Store.open(tmp_path, write=True):
        pass
    assert (tmp_path / ".lock").read_bytes() == b""


def test_a_killed_process_of_this_host_is_not_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "is_local", lambda path: False)
    with other_process(hold(tmp_path)) as pid:
        os.kill(pid, signal.SIGKILL)
        with Store.open(tmp_path, write=True):
            pass


def test_on_a_local_disk_the_systems_lock_is_enough(tmp_path: Path) -> None:
    """A container has another name each time; its disk is still of this host."""
    if not local_module.is_local(str(tmp_path)):
        pytest.skip("these tests do not run on a local disk")
    claim_of_another_host(tmp_path)
    with Store.open(tmp_path, write=True):
        pass


@contextmanager
def locks_not_shared() -> Iterator[None]:
    """As on NFS mounted with nolock: every host is granted every lock."""
    real = fcntl.flock
    fcntl.flock = lambda fd, operation: None  # type: ignore[assignment]
    try:
        yield
    finally:
        fcntl.flock = real


def test_where_locks_are_not_shared_the_first_writer_stops_before_anything_is_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_module, "is_local", lambda path: False)
    first = Store.open(tmp_path, write=True)
    first.commit(state_at(1), step=1)
    with locks_not_shared():
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        with pytest.warns(PerdureWarning, match="Make sure that it does not run"):
            second = Store.open(tmp_path, write=True)
        second.commit(state_at(2), step=2)
        with pytest.raises(
            LockedError, match=rf"also being written by process {os.getpid()} on host elsewhere"
        ):
            first.commit(state_at(3), step=3)
        # The second one has it, and goes on.
        second.commit(state_at(4), step=4)
        first.close()
        assert json.loads((tmp_path / ".lock").read_bytes())["host"] == "elsewhere"
        second.commit(state_at(5), step=5)
        second.close()
    with Store.open(tmp_path, write=True) as store:
        assert [info.step for info in store.checkpoints()] == [1, 2, 4, 5]
        assert store.verify() == []


def test_a_lock_file_that_was_deleted_lets_nobody_mix(tmp_path: Path) -> None:
    first = Store.open(tmp_path, write=True)
    first.commit(state_at(1), step=1)
    (tmp_path / ".lock").unlink()

    def take_over(ready: int) -> None:
        with Store.open(tmp_path, write=True) as store:
            store.commit(state_at(2), step=2)
            os.write(ready, b"x")
            time.sleep(60)

    with other_process(take_over) as pid:
        with pytest.raises(LockedError, match=f"also being written by process {pid}"):
            first.commit(state_at(3), step=3)
    first.close()
    with Store.open(tmp_path, write=True) as store:
        assert [info.step for info in store.checkpoints()] == [1, 2]
        assert store.verify() == []


def test_a_file_system_without_locks_is_an_error_and_not_a_run_without_a_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(StoreError, match="grants no locks"):
        Store.open(tmp_path, write=True)
    monkeypatch.undo()
    with Store.open(tmp_path, write=True):
        pass


# -- readers ----------------------------------------------------------------------------------------------------------


def test_readers_never_fail_during_commits_retention_and_publication(tmp_path: Path) -> None:
    root = tmp_path / "run"
    world = World(replay=np.zeros((512, 8), np.float32), done=0)
    tally = Tally()
    with Run(root, keep=1) as run, readers(root, 2, tally, seconds=120):
        policy = torch.nn.Linear(4, 2)
        began = time.monotonic()
        for step in range(1, 500):
            world.replay[step - 1] = step
            world.done = step
            run.checkpoint(world, step)
            if step % 3 == 0:
                run.report_score(float(step), world, policy=policy)
            if tally.problems or (step > 30 and time.monotonic() - began > 5):
                break
    print(tally)
    assert tally.problems == []
    assert tally.reads > 0
    assert tally.policies > 0


def test_a_reader_may_be_opened_before_and_read_after_everything_was_replaced(tmp_path: Path) -> None:
    with Store.open(tmp_path, write=True) as writer:
        writer.commit(state_at(1), step=1)
        with Store.open(tmp_path) as reader:
            for step in range(2, 8):
                writer.commit(state_at(step), step=step)
                writer.retain(lambda infos: [infos[-1].number])
                found = reader.latest()
                assert found is not None
                assert found.info.step == step
                assert is_whole(found.state, step)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    assert [problem for problem in reader.verify() if not problem.harmless] == []


def test_a_checkpoint_deleted_while_it_is_read_is_a_clear_error(tmp_path: Path) -> None:
    """Not other content, and the newest one can be read by the same reader."""
    with Store.open(tmp_path, write=True) as writer, Store.open(tmp_path) as reader:
        for step in (1, 2):
            state = state_at(step)
            del state.root.fields["same"]  # otherwise the second one needs the first one's pack
            writer.commit(state, step=step)
            if step == 1:
                found = reader.latest()
        writer.retain(lambda infos: [infos[-1].number])
        assert found is not None
        array = found.state.root.fields["new"].data
        with pytest.raises(StoreError, match=r"checkpoint 1|00000001"):
            array.read_into(memoryview(bytearray(array.nbytes)))
        newest = reader.latest()
        assert newest is not None
        assert newest.info.step == 2
        assert reader.verify() == []


def test_a_backend_that_holds_no_lock_checks_no_claim(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "2026"}))
    backend.put("a", [b"x"])
    assert backend.get("a") == b"x"

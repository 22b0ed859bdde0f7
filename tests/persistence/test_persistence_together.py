"""The policy's file and the handlers' become visible together, or not at all."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from persistence_nets import Net, Remembers

from perdure.errors import DamagedError
from perdure.persistence import Persistence, PersistenceGroup, PersistEvent, PolicyPersistence
from perdure.persistence._persistence import World

Mode = PolicyPersistence.Mode


class Fails(Persistence):
    def persist(self, event, world):
        Path(world.persist_path("half.txt")).write_text("half")
        raise KeyboardInterrupt

    def restore(self, event, world):
        pass


@pytest.fixture
def world(tmp_path):
    return World(persist_directory=tmp_path, restore_directory=tmp_path)


def contents(directory):
    """Every file that can be reached, by name, and what is in it."""
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in sorted(directory.rglob("*"))
        if p.is_file() and "policies" not in p.parts
    }


def pair(world):
    handler, policy = Remembers(), Net()
    PolicyPersistence(handler).restore(policy, world, "cpu")
    return policy.value, handler.number


def persist(world, number, *more):
    handler = Remembers()
    handler.number = number
    PolicyPersistence(PersistenceGroup(handler, *more)).persist(Net(number), world)


def test_a_failing_handler_leaves_the_old_version(world, tmp_path):
    persist(world, 1.0)
    before = contents(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        persist(world, 2.0, Fails())
    assert contents(tmp_path) == before
    assert world.persist_directory == str(tmp_path)
    assert len(list((tmp_path / "policies").iterdir())) == 1
    assert pair(world) == (1.0, 1.0)


def test_nothing_is_visible_before_all_of_it_is(world, tmp_path):
    persist(world, 1.0)

    class Looks(Persistence):
        def persist(self, event, inner):
            assert Path(inner.persist_path("policy.pt")).is_file()
            assert pair(World(restore_directory=tmp_path)) == (1.0, 1.0)

        def restore(self, event, world):
            pass

    persist(world, 2.0, Looks())
    assert pair(world) == (2.0, 2.0)


def test_a_group_alone_publishes_its_files_together_with_the_present_policy(world, tmp_path):
    persist(world, 1.0)
    a, b = Remembers("number.txt"), Remembers("sub-b.txt")
    a.number = b.number = 5.0
    PersistenceGroup(a, b).persist(PersistEvent.PERSIST_POLICY, world)
    assert pair(world) == (1.0, 5.0)
    assert (tmp_path / "sub-b.txt").read_text() == "5.0"
    before = contents(tmp_path)
    a.number = 6.0
    with pytest.raises(KeyboardInterrupt):
        PersistenceGroup(a, Fails()).persist(PersistEvent.PERSIST_POLICY, world)
    assert contents(tmp_path) == before


def test_a_new_policy_starts_with_no_file_of_the_last(world, tmp_path):
    persist(world, 1.0)
    PolicyPersistence().persist(Net(2.0), world)
    assert not (tmp_path / "number.txt").exists()


def test_old_versions_are_removed(world, tmp_path):
    for number in range(4):
        persist(world, float(number))
    assert [p.name for p in (tmp_path / "policies").iterdir()] == ["00000004"]


def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(world, tmp_path):
    persist(world, 1.0)
    dead, alive = (tmp_path / "policies" / f".tmp-{pid}-{'0' * 16}" for pid in (2**22 + 1, os.getppid()))
    dead.mkdir()
    alive.mkdir()
    persist(world, 2.0)
    assert not dead.exists()
    assert alive.exists()


def test_a_relative_directory_and_subdirectories(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Nested(Remembers):
        def persist(self, event, world):
            os.makedirs(world.persist_path("statistics"))
            super().persist(event, world)

    handler, world = Nested("statistics/obs.txt"), World(persist_directory="run", restore_directory="run")
    PolicyPersistence(handler).persist(Net(), world)
    assert world.persist_directory == "run"
    assert Path("run/statistics/obs.txt").read_text() == "0.0"


def test_any_world_with_a_persist_directory_will_do(tmp_path):
    world = SimpleNamespace(persist_directory=str(tmp_path), restore_directory=str(tmp_path))
    world.persist_path = lambda name: os.path.join(world.persist_directory, name)
    world.restore_path = lambda name: os.path.join(world.restore_directory, name)
    persist(world, 2.0)
    assert pair(world) == (2.0, 2.0)


def killed_at(step, action):
    """Run `action` in a child process that is killed at its `step`-th file operation; whether it was."""
    pid = os.fork()
    if pid == 0:
        steps = itertools.count(1)
        watched = {"open", "os.rename", "os.symlink", "os.mkdir", "os.remove", "os.rmdir", "os.listdir"}

        def hook(event, args):
            if event in watched and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hook)
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("what", ["policy", "group", "epoch"])
def test_a_kill_at_any_moment_leaves_a_whole_version(tmp_path, what):
    torch.set_num_threads(1)
    handler = Remembers()

    def write(world, number):
        handler.number = number
        if what == "policy":
            PolicyPersistence(handler).persist(Net(number), world)
        elif what == "group":
            PersistenceGroup(handler, Remembers("b.txt")).persist(PersistEvent.PERSIST_POLICY, world)
        else:
            world.algorithm = Net(number)
            PolicyPersistence(handler).get_save_checkpoint_fn(world)(1, 1, 1)

    seen = set()
    for step in itertools.count(1):
        directory = tmp_path / str(step)
        world = World(persist_directory=directory, restore_directory=directory)
        write(world, 1.0)
        if what == "group":
            handler.number = 1.0
            PolicyPersistence(handler).persist(Net(1.0), world)
        killed = killed_at(step, lambda world=world: write(world, 2.0))
        if what == "epoch":
            world.restore_directory = str((directory / "policy_epoch_1.pt").resolve().parent)
        found = pair(world)
        seen.add(found)
        assert found in {(1.0, 1.0), (1.0, 2.0) if what == "group" else (2.0, 2.0)}, step
        if what == "policy":  # and the next process goes on
            persist(world, 3.0)
            assert pair(world) == (3.0, 3.0)
            assert [p.name for p in (directory / "policies").iterdir()] in (["00000002"], ["00000003"])
        if not killed:
            break
    assert step > 8
    assert len(seen) == 2


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("file", ["policy", "number.txt"])
@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_file_is_found_before_anything_is_restored(world, tmp_path, mode, file, harm):
    handler, policy = Remembers(), Net(1.0)
    persistence = PolicyPersistence(handler, mode=mode)
    persistence.persist(Net(3.0), world)
    path = tmp_path / (mode.get_filename() if file == "policy" else file)
    data = bytearray(path.read_bytes())
    if harm == "remove":
        os.remove(path.resolve())
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(data if harm == "flip" else data[: len(data) // 2])
    handler.told.clear()
    missing = harm == "remove" and file == "policy"
    with pytest.raises(FileNotFoundError if missing else DamagedError, match=path.name):
        persistence.restore(policy, world, "cpu")
    assert policy.value == 1.0
    assert handler.told == []


@pytest.mark.parametrize("line", ["../x", "/etc/passwd", "a/../../x", "", "short"])
def test_names_of_the_checksum_file_are_not_trusted(world, tmp_path, line):
    persist(world, 1.0)
    (tmp_path / "best" / ".SHA256SUMS").write_text(f"{'0' * 64}  {line}\n" if line != "short" else "0 x\n")
    with pytest.raises(DamagedError, match="SHA256SUMS is damaged"):
        pair(world)


def test_a_carried_over_file_that_is_damaged_stays_known_as_damaged(world, tmp_path):
    persist(world, 1.0)
    policy = tmp_path / "policy.pt"
    data = bytearray(policy.read_bytes())
    data[len(data) // 2] ^= 1
    policy.write_bytes(data)
    PersistenceGroup(Remembers()).persist(PersistEvent.PERSIST_POLICY, world)
    with pytest.raises(DamagedError, match=r"policy\.pt is damaged"):
        pair(world)


def test_two_publications_of_one_process_at_once(world, tmp_path):
    """Neither takes the other for what a killed process left."""
    persist(world, 1.0)

    class PublishesAnother(Persistence):
        def persist(self, event, inner):
            other = World(persist_directory=tmp_path)
            persist(other, 2.0)
            assert Path(inner.persist_directory).is_dir()

        def restore(self, event, world):
            pass

    persist(world, 3.0, PublishesAnother())
    assert pair(world) == (3.0, 3.0)
    assert [p.name for p in (tmp_path / "policies").iterdir()] == ["00000003"]


def test_what_an_earlier_process_of_the_same_number_left_is_removed(world, tmp_path):
    left = tmp_path / "policies" / f".tmp-{os.getpid()}-{'0' * 16}"
    left.mkdir(parents=True)
    persist(world, 1.0)
    assert not left.exists()

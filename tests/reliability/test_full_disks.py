"""Disks and quotas that are full: older checkpoints give way, and the end says what is not saved."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import resource
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from faults import Faults, small_disk

import perdure
from perdure.errors import CheckpointFailedWarning, DamagedCheckpointWarning, StoreError
from perdure.inspect import check_policies
from perdure.persistence import Persistence, PersistEvent, PolicyPersistence, RestoreEvent
from perdure.store import Retention, Store, _commit_plan

KB = 1 << 10


@pytest.fixture(autouse=True)
def slack_of_a_small_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs may hold 4 MiB that nothing needs. That is little on a disk of gigabytes, and all of these small ones."""
    monkeypatch.setattr(_commit_plan, "SLACK", 16 * KB)


def make_world(nbytes: int = 200 * KB) -> perdure.World:
    """One whose checkpoints have nothing in common, and cannot be compressed."""
    return perdure.World(policy=torch.nn.Linear(4, 2), data=np.zeros(nbytes, np.uint8), done=0)


def work(world: perdure.World, step: int) -> None:
    world.data[:] = np.random.default_rng(step).integers(0, 256, world.data.size, np.uint8)
    world.done = step + 1


@contextmanager
def disk_of(tmp_path: Path, size: int) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk", size) as disk:
            yield disk
    except (PermissionError, FileNotFoundError) as error:
        pytest.skip(f"cannot mount here: {error}")


def trained(
    directory: Path, total: int, during: Callable[[int], None] = lambda step: None, **options: object
) -> tuple[list[str], str]:
    """Train to the end; the warnings, and what was said."""
    world = make_world()
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stderr(said):
        warnings.simplefilter("default")
        with perdure.Run(directory, **options) as run:  # type: ignore[arg-type]
            for step in run.steps(world, total, every=1):
                during(step)
                work(world, step)
    assert world.done == total
    return [str(each.message) for each in caught if each.category is CheckpointFailedWarning], said.getvalue()


@pytest.mark.parametrize("on_error", ["raise", "warn"])
@pytest.mark.parametrize("background", [True, False])
def test_where_three_fit_and_not_four_older_ones_give_way(
    tmp_path: Path, on_error: str, background: bool
) -> None:
    """Not a single step is unsaved."""
    with disk_of(tmp_path, 760 * KB) as disk:
        least = []

        def look(step: int) -> None:
            with Store.open(disk / "run") as store:
                least.append(len([info for info in store.checkpoints() if info.step]))

        failures, said = trained(disk / "run", 20, look, keep=3, on_error=on_error, background=background)
        assert failures == []
        assert said.count("the disk is full, so an older checkpoint was deleted") == 1
        # While the new one is written, too, there is a good one.
        assert min(least[3:]) >= 1
        with Store.open(disk / "run") as store:
            assert [info.step for info in store.checkpoints()][-2:] == [19, 20]
            assert store.verify() == []


def test_what_was_asked_for_by_name_does_not_give_way(tmp_path: Path) -> None:
    with disk_of(tmp_path, 760 * KB) as disk:
        world = make_world()
        with perdure.Run(disk / "run", keep=Retention(last=3, every=2)) as run:
            for step in range(1, 4):
                work(world, step)
                run.checkpoint(world, step, pin=step == 1)
            work(world, 4)
            # Step 1 is pinned, step 2 is kept for its number, and step 3 is the newest: none of them goes.
            with pytest.raises(StoreError, match="no space is left"):
                run.checkpoint(world, 4)
            with Store.open(disk / "run") as store:
                assert [info.step for info in store.checkpoints()] == [1, 2, 3]
                assert store.verify() == []


def test_nothing_gives_way_to_what_only_a_damaged_one_would_be_left_for(tmp_path: Path) -> None:
    """The newest is found to be damaged when it is to be relied on: the one before it stays."""
    with disk_of(tmp_path, 760 * KB) as disk:
        run = disk / "run"
        world = make_world()
        with perdure.Run(run) as training:
            for step in (1, 2, 3):
                work(world, step)
                training.checkpoint(world, step)
        pack = max((run / "packs").iterdir())
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 1
        pack.write_bytes(content)
        with Store.open(run, write=True) as store:
            gone = store.make_room(lambda good: {good[-1].number})
            assert gone is not None
            assert gone.step == 1
            assert store.make_room(lambda good: set()) is None
            assert [info.step for info in store.checkpoints()] == [2, 3]
            with pytest.warns(DamagedCheckpointWarning, match="checkpoint 3 is damaged"):
                found = store.latest()
            assert found is not None
            assert found.info.step == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_the_warning_is_repeated_and_the_end_says_what_is_not_saved(tmp_path: Path, number: int) -> None:
    """A quota that is used up for good: bounded warnings, each of them new, and a summary with the numbers."""
    root = tmp_path / "run"
    with perdure.Run(root) as run:
        world = make_world()
        run.resume(world)
        work(world, 0)
        run.checkpoint(world, 1)
    with contextlib.ExitStack() as stack:

        def fill(step: int) -> None:
            if step == 10:
                stack.enter_context(Faults(root, 1, number, lasting=True))

        failures, said = trained(root, 100, fill, on_error="warn", background=False)
    # With a disk that is full from the middle of a checkpoint on, older ones cannot be deleted after it either.
    failures = [each for each in failures if "older ones could not be deleted" not in each]
    assert 4 <= len(failures) <= 8
    assert len(set(failures)) == len(failures)
    assert "the training goes on" in failures[0]
    assert "64 times in a row" in failures[-1]
    word = "no space is left" if number == errno.ENOSPC else "the disk quota is used up"
    assert all(word in each for each in failures)
    (end,) = [line for line in said.splitlines() if "of 99 checkpoints could not be written" in line]
    assert "the last one that is saved is that of step 10, and 90 steps since are not" in end


def test_what_failed_and_then_was_saved_is_told_too(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with contextlib.ExitStack() as stack:

        def fill(step: int) -> None:
            if step == 3:
                stack.enter_context(Faults(root, 1, errno.ENOSPC, lasting=True))
            if step == 7:
                stack.close()

        _, said = trained(root, 10, fill, on_error="warn", background=False)
    assert "4 of 10 checkpoints could not be written; the last one, of step 10, is saved" in said
    assert said.count("could not be written") == 1


def test_an_end_where_all_is_saved_says_nothing(tmp_path: Path) -> None:
    failures, said = trained(tmp_path / "run", 5, on_error="warn")
    assert (failures, said) == ([], "")


# -- the best policy --------------------------------------------------------------------------------------------------


class Writes(Persistence):
    """A handler whose file fills the disk."""

    def persist(self, event: PersistEvent, world: perdure.World) -> None:
        np.save(world.persist_path("statistics.npy"), np.zeros(10**6))

    def restore(self, event: RestoreEvent, world: perdure.World) -> None:
        pass


@pytest.mark.parametrize("what", ["policy", "handler"])
def test_the_best_policy_on_a_full_disk(tmp_path: Path, what: str) -> None:
    """With "warn" the training goes on, answers as on any disk, and saves the next policy that is better than the saved
    one; with "raise" it is a StoreError."""
    handler = Writes() if what == "handler" else None
    policy = torch.nn.Linear(400, 400)
    with disk_of(tmp_path, 2 << 20) as disk:
        root = disk / "run"
        world = perdure.World(policy=policy)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), perdure.Run(root, on_error="warn") as run:
            assert run.report_score(1.0, world)
            run.best_policy.persistence = PolicyPersistence(handler)
            filler = disk / "filler"
            filler.write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * 4096 - 64 * KB)))
            with pytest.warns(
                CheckpointFailedWarning, match="of score 5, could not be saved.*no space is left"
            ):
                assert run.report_score(5.0, world)
            assert run.best_score == 1.0
            assert not run.report_score(0.5, world)
            filler.unlink()
            run.best_policy.persistence = PolicyPersistence()
            # Not the best of the training, but better than the one that is saved.
            assert not run.report_score(3.0, world)
            assert run.best_score == 3.0
        (end,) = [line for line in said.getvalue().splitlines() if "best policy could not be saved" in line]
        assert "its score is 5, and the saved one has score 3" in end
        with contextlib.redirect_stderr(said := io.StringIO()), perdure.Run(root) as run:
            run.best_policy.persistence = PolicyPersistence(handler)
            filler.write_bytes(bytes(max(0, os.statvfs(disk).f_bavail * 4096 - 64 * KB)))
            with pytest.raises(StoreError, match="no space is left"):
                run.report_score(7.0, world)
            filler.unlink()
            run.best_policy.persistence = PolicyPersistence()
            assert run.report_score(8.0, world)
        assert check_policies(str(root)) == []
        assert said.getvalue() == ""


def test_a_handler_that_fails_by_itself_is_no_full_disk(tmp_path: Path) -> None:
    class Fails(Writes):
        def persist(self, event: PersistEvent, world: perdure.World) -> None:
            raise FileNotFoundError(errno.ENOENT, "my own file", "statistics")

    world = perdure.World(policy=torch.nn.Linear(2, 2))
    with perdure.Run(tmp_path / "run", on_error="warn", persistence=PolicyPersistence(Fails())) as run:
        with pytest.raises(FileNotFoundError, match="my own file"):
            run.report_score(1.0, world)


def test_checkpoints_give_way_to_the_best_policy(tmp_path: Path) -> None:
    with disk_of(tmp_path, 760 * KB) as disk:
        world = make_world()
        with perdure.Run(disk / "run", keep=3) as run:
            for step in (1, 2, 3):
                work(world, step)
                run.checkpoint(world, step)
            assert run.report_score(1.0, world, policy=torch.nn.Linear(200, 200))
            with Store.open(disk / "run") as store:
                kept = [info.step for info in store.checkpoints()]
                assert len(kept) < 3
                assert kept[-1] == 3
                assert store.verify() == []
        assert check_policies(str(disk / "run")) == []


# -- files, and the sizes of files ------------------------------------------------------------------------------------


def test_a_disk_that_has_no_more_files(tmp_path: Path) -> None:
    """A quota of files, as on many clusters: deleting older checkpoints makes room here as well."""
    with disk_of(tmp_path, 1 << 24) as disk:
        done = os.system(f"mount -o remount,nr_inodes=16 {disk}")
        if done:
            pytest.skip("cannot limit the number of files here")
        failures, said = trained(disk / "run", 12, keep=8, on_error="warn")
        assert failures == []
        assert "the disk is full, so an older checkpoint was deleted" in said
        with Store.open(disk / "run") as store:
            found = store.latest()
            assert found is not None
            assert found.info.step == 12
            assert store.verify() == []


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    """`ulimit -f`: no older checkpoint is deleted for it, because that would not help."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            world = make_world()
            with perdure.Run(tmp_path / "run", on_error="warn") as run:
                for step in (1, 2, 3):
                    work(world, step)
                    run.checkpoint(world, step)
                resource.setrlimit(resource.RLIMIT_FSIZE, (100 * KB, 100 * KB))
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    run.checkpoint(world, 4)
                    work(world, 5)
                    run.checkpoint(world, 5)
                    assert run.report_score(1.0, world, policy=torch.nn.Linear(300, 300))
            os.write(write, "\n".join(str(each.message) for each in caught).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as told:
        text = told.read()
    os.waitpid(pid, 0)
    assert "larger than the file system allows" in text
    assert "of score 1, could not be saved" in text
    with Store.open(tmp_path / "run") as store:
        assert [info.step for info in store.checkpoints()][:3] in ([1, 2, 3], [2, 3, 4])
        assert store.verify() == []

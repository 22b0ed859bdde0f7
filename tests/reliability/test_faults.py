"""A disk that fails under a whole `Run`: at each operation in turn, once and for ever, and really full or read-only.

Nothing committed is lost, what was half-written is given back, the error says what is wrong, and the run can go on.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from damage_support import content_of, make_world, resumed, small_run, train
from faults import Faults, remount, small_disk
from hostile_support import bounded

import perdure
from perdure.errors import CheckpointFailedWarning, PerdureError, StoreError
from perdure.inspect import check_policies
from perdure.state import capture, diff
from perdure.store import Store

ERRORS = {
    errno.ENOSPC: "no space is left",
    errno.EIO: "",
    errno.EACCES: "permission denied",
    errno.EROFS: "read-only",
    errno.EDQUOT: "quota",
    errno.EMFILE: "too many open files",
}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("intact") / "run", checkpoints=2)


@pytest.fixture
def root(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "run", symlinks=True))


def _contents(root: Path) -> dict[int, bytes]:
    """What the good checkpoints hold, read as another process would."""
    store = Store.open(root)
    return {
        status.number: content_of(store.read(status.number).state)
        for status in store.survey("state")
        if status.verdict == "ok"
    }


def _leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.name.startswith(".tmp-")]


def _step(run: perdure.Run, world: perdure.World, number: int) -> None:
    """One step of a training: a better policy, and a checkpoint."""
    train(world, number)
    run.report_score(10.0 + number, world)
    run.checkpoint(world, number + 1)


def _begin(root: Path) -> None:
    world = make_world()
    with perdure.Run(root, lock_timeout=0.1) as run:
        run.resume(world)
        train(world, 0)
        run.checkpoint(world, 1)


def _error_of(what: Callable[[], object]) -> PerdureError | OSError | None:
    try:
        what()
    except (PerdureError, OSError) as error:
        return error
    return None


def _count(root: Path) -> int:
    world = make_world()
    with perdure.Run(root) as run:
        run.resume(world)
        with Faults(root, 0) as faults:
            _step(run, world, 2)
    return faults.count


def test_each_operation_fails_once_and_for_ever(root: Path, tmp_path: Path) -> None:
    total = _count(Path(shutil.copytree(root, tmp_path / "counted", symlinks=True)))
    assert total > 20
    before = _contents(root)
    raised = 0
    for at in range(1, total + 1):
        for lasting in (False, True):
            number, words = list(ERRORS.items())[(at + lasting) % len(ERRORS)]
            copy = Path(shutil.copytree(root, tmp_path / "copy", symlinks=True))
            world = make_world()
            what = (
                f"operation {at} of {total}, {errno.errorcode[number]}, {'for ever' if lasting else 'once'}"
            )
            with perdure.Run(copy, keep=5) as run:
                run.resume(world)
                with Faults(copy, at, number, lasting=lasting) as faults:
                    error = _error_of(lambda run=run, world=world: _step(run, world, 2))  # type: ignore[misc]
                raised += error is not None
                if isinstance(error, OSError):
                    # A handler's own file, which is written by the handler's own code.
                    assert "policies" in str(error.filename), f"{what}: {error!r}"
                elif error is not None:
                    assert isinstance(error, StoreError), f"{what}: {error!r}"
                    assert words in str(error), f"{what}: {error}"
                    assert str(copy) in str(error), f"{what}: {error}"
                assert faults.failed, what
                after = _contents(copy)
                gone = before.keys() - after.keys()
                # Older ones may give way where space is lacking; never the newest.
                assert not gone or (number in (errno.ENOSPC, errno.EDQUOT) and max(before) not in gone), what
                assert {n: after[n] for n in before if n not in gone} == {
                    n: before[n] for n in before if n not in gone
                }, f"{what}: {faults.failed}"
                # The disk is whole again: the same process goes on, and nothing is left of what failed.
                _step(run, world, 3)
                assert Store.open(copy).latest().info.step == 4, what  # type: ignore[union-attr]
            with perdure.Run(copy, keep=5):
                pass
            assert _leftovers(copy) == [], f"{what}: {faults.failed}"
            assert Store.open(copy).verify() == check_policies(str(copy)) == [], what
            shutil.rmtree(copy)
    assert raised > total
    print(f"\n{total} operations failed once and for ever: {raised} errors, nothing lost")


def test_opening_fails_at_each_operation(root: Path) -> None:
    """A run that cannot be opened is as it was, and opens when the disk is whole again."""
    before = _contents(root)
    at = 0
    while True:
        at += 1
        with Faults(root, at, errno.EIO, lasting=True) as faults:
            error = _error_of(lambda: perdure.Run(root, lock_timeout=0.1).close())
        assert error is None or (isinstance(error, StoreError) and str(root) in str(error))
        if not faults.failed:
            break
        assert _contents(root) == before
        with perdure.Run(root):
            pass
    assert at > 2


def test_beginning_a_run_fails_at_each_operation(tmp_path: Path) -> None:
    at = 0
    while True:
        at += 1
        root = tmp_path / f"run-{at}"
        with Faults(root, at, errno.ENOSPC, lasting=True) as faults:
            error = _error_of(lambda root=root: _begin(root))  # type: ignore[misc]
        if error is not None:
            assert isinstance(error, StoreError)
            assert "no space is left" in str(error)
            assert str(root) in str(error)
        if not faults.failed:
            break
        assert resumed(root)[0] in (None, 1)
        with perdure.Run(root) as run:
            world = make_world()
            run.resume(world)
            run.checkpoint(world, 5)  # whatever the process before had done
        assert Store.open(root).verify() == []
        assert _leftovers(root) == []
    assert at > 10


def test_retention_that_fails_loses_nothing(root: Path, tmp_path: Path) -> None:
    """The new checkpoint is there, and what should have gone goes later."""
    at = 0
    while True:
        at += 1
        copy = Path(shutil.copytree(root, tmp_path / "copy", symlinks=True))
        world = make_world()
        with perdure.Run(copy, keep=1) as run:
            run.resume(world)
            train(world, 2)
            with Faults(copy, at, errno.EIO) as faults:
                with suppress(StoreError):
                    run.checkpoint(world, 3)
            latest = Store.open(copy).latest()
            assert latest is not None
            assert latest.info.step in (2, 3)
            train(world, 3)
            run.checkpoint(world, 4)
        infos = Store.open(copy).checkpoints()
        assert [info.step for info in infos if "best" not in info.tags] == [4]
        assert Store.open(copy).verify() == []
        shutil.rmtree(copy)
        if not faults.failed:
            break
    assert at > 10


# -- for real ------------------------------------------------------------------------------------------------


@contextmanager
def _small_disk(tmp_path: Path, size: int) -> Iterator[Path]:
    try:
        with small_disk(tmp_path / "disk", size) as disk:
            yield disk
    except (PermissionError, FileNotFoundError) as error:
        pytest.skip(f"cannot mount here: {error}")


def _used(disk: Path) -> int:
    status = os.statvfs(disk)
    return (status.f_blocks - status.f_bfree) * status.f_frsize


def test_a_really_full_disk(tmp_path: Path) -> None:
    with _small_disk(tmp_path, 1 << 20) as disk:
        root = small_run(disk / "run", checkpoints=2)
        before = _contents(root)
        world = make_world()
        with perdure.Run(root, keep=5) as run:
            run.resume(world)
            for number in range(2, 6):
                # Full but for some kilobytes, then for none: the commit fails at one place or another.
                status = os.statvfs(disk)
                free = max(0, status.f_bfree * status.f_frsize - 8192 * (5 - number))
                (disk / "filler").write_bytes(bytes(free))
                used = _used(disk)
                train(world, number)
                world.log.extend(range(20_000))
                with pytest.raises(StoreError, match="no space is left"):
                    run.checkpoint(world, number + 1)
                assert _used(disk) <= used + 8192, "what was half-written was not given back"
                # An older one may have given way, in vain; the newest never does.
                after = _contents(root)
                assert max(before) in after
                assert after.items() <= before.items()
                (disk / "filler").unlink()
                del world.log[-20_000:]
            # A policy whose file torch writes by itself.
            (disk / "filler").write_bytes(bytes(max(0, os.statvfs(disk).f_bfree * 4096)))
            policy = torch.nn.Linear(100, 100)
            with pytest.raises((StoreError, OSError, RuntimeError)):
                run.best_policy.offer(99.0, 9, perdure.World(policy=policy))
            assert run.best_score == 1.5
            (disk / "filler").unlink()
            assert run.best_policy.offer(99.0, 9, perdure.World(policy=policy))
            run.checkpoint(world, 9)
        assert _leftovers(root) == []
        assert Store.open(root).verify() == check_policies(str(root)) == []
        assert Store.open(root).latest().info.step == 9  # type: ignore[union-attr]


def test_a_file_system_that_becomes_read_only(tmp_path: Path) -> None:
    with _small_disk(tmp_path, 4 << 20) as disk:
        root = small_run(disk / "run", checkpoints=2)
        before = _contents(root)
        world = make_world()
        with perdure.Run(root) as run:
            run.resume(world)
            train(world, 2)
        try:
            remount(disk, "ro")
        except OSError as error:
            pytest.skip(f"cannot mount here: {error}")
        assert _contents(root) == before  # a reader needs no more
        with pytest.raises(StoreError, match="the file system is read-only"):
            perdure.Run(root)
        remount(disk, "rw")
        assert resumed(root)[0] == 2


def test_permission_lost_while_training(intact: Path, public: Path) -> None:
    """As a user without root's rights: first the directories may not be written to, then they may again."""
    root = Path(shutil.copytree(intact, public / "run", symlinks=True))
    for path in [root, *root.rglob("*")]:
        if not path.is_symlink() and os.geteuid() == 0:
            os.chown(path, 65534, 65534)
    before = _contents(root)

    def lose() -> str:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        world = make_world()
        with perdure.Run(root) as run:
            run.resume(world)
            train(world, 2)
            for directory in ("checkpoints", "packs"):
                (root / directory).chmod(0o555)
            try:
                run.checkpoint(world, 3)
            except StoreError as error:
                said = str(error)
            for directory in ("checkpoints", "packs"):
                (root / directory).chmod(0o755)
            run.checkpoint(world, 3)
        return said

    said = bounded(lose)
    assert "permission denied for user" in said, said
    assert not said.startswith("Traceback"), said
    after = _contents(root)
    assert {number: after[number] for number in before} == before
    assert resumed(root)[0] == 3


def test_a_limit_on_the_size_of_files(root: Path) -> None:
    """`ulimit -f`: as a full disk, in another word. Without root or mounts."""
    before = _contents(root)

    def limited() -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        world = make_world()
        with perdure.Run(root) as run:
            run.resume(world)
            world.log.extend(range(50_000))
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
            try:
                run.checkpoint(world, 3)
            except StoreError as error:
                said = str(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            assert not _leftovers(root)
            run.checkpoint(world, 3)
        return said

    said = bounded(limited)
    assert "larger than the file system allows" in said, said
    after = _contents(root)
    assert {number: after[number] for number in before} == before
    assert max(after) > max(before)


@pytest.mark.parametrize("background", [False, True])
def test_the_training_goes_on_without_checkpoints_whatever_fails(tmp_path: Path, background: bool) -> None:
    """With `on_error="warn"`: each operation fails in turn, once or for a while; every step is done, each failure is
    warned of, what was committed is whole, and once the disk is whole again so is the run."""

    def run_through(copy: Path, at: int, lasting: bool) -> tuple[perdure.World, Faults, list[str]]:
        world = perdure.World(data=np.arange(3000), seen=0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with perdure.Run(copy, on_error="warn", background=background) as run:
                faults = Faults(copy, at, errno.ENOSPC, lasting=lasting)
                for step in run.steps(world, 12, every=2):
                    if step == 3:
                        faults.__enter__()
                    if step == 9:
                        run.flush()
                        faults.__exit__()
                    world.data[step] = -1
                    world.seen += 1
        failures = [str(each.message) for each in caught if each.category is CheckpointFailedWarning]
        return world, faults, failures

    _, counted, none = run_through(tmp_path / "counted", 0, False)
    assert counted.count > 30
    assert none == []
    warned = 0
    for at in range(1, counted.count + 1, 3):
        for lasting in (False, True):
            copy = tmp_path / f"{at}{lasting}"
            world, faults, failures = run_through(copy, at, lasting)
            assert (world.seen, (world.data == -1).sum()) == (12, 12)
            if not faults.failed:
                # What is deleted when is up to the clock, so a run may do a few operations fewer than the counted one.
                assert at > counted.count // 2
                continue
            assert all("no space is left" in each and str(copy) in each for each in failures)
            warned += bool(failures)
            with Store.open(copy) as store:
                found = store.latest()
                assert found is not None
                assert found.info.step == 12
                assert not diff(found.state, capture(world), ignore=("run*",))
                assert store.verify() == []
            # What could not even be deleted, the next writer deletes.
            Store.open(copy, write=True).close()
            assert _leftovers(copy) == []
            shutil.rmtree(copy)
    assert warned > counted.count / 4

"""A run that was copied, moved or deleted; and file systems and tools that know no links. In real processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from no_links import refuse_links

import perdure
from perdure.cli import main
from perdure.errors import CheckpointFailedWarning, DamagedError, StoreError
from perdure.inspect import check_policies, plan_repair
from perdure.persistence import Persistence, PersistEvent, PolicyPersistence, RestoreEvent, versions

TOTAL = 8


class Statistics(Persistence):
    """A handler with a file and a directory of its own."""

    def __init__(self) -> None:
        self.mean = 0.0

    def persist(self, event: PersistEvent, world: perdure.World) -> None:
        Path(world.persist_path("mean.txt")).write_text(str(self.mean))
        os.makedirs(world.persist_path("more"), exist_ok=True)
        Path(world.persist_path("more/mean.txt")).write_text(str(self.mean))

    def restore(self, event: RestoreEvent, world: perdure.World) -> None:
        texts = {Path(world.restore_path(name)).read_text() for name in ("mean.txt", "more/mean.txt")}
        (text,) = texts
        self.mean = float(text)


def train(
    directory: Path, until: int = TOTAL, announce: Callable[[int], None] = lambda step: None
) -> list[float]:
    """A training whose policy gets better in steps 1, 3, 5, 7, and is saved under the epoch 1; its trace."""
    torch.manual_seed(1)
    np.random.seed(1)
    policy, statistics = torch.nn.Linear(2, 1), Statistics()
    world = perdure.World(policy=policy, trace=[])
    persistence = PolicyPersistence(statistics)
    with perdure.Run(directory, persistence=persistence) as run:
        for step in run.steps(world, TOTAL, every=1):
            if step == until:
                break
            with torch.no_grad():
                policy.weight += float(np.random.rand())
            world.trace.append(float(policy.weight.sum()))
            statistics.mean = float(step)
            run.report_score(float(step) if step % 2 else -1.0, world)
            if step == 2:
                persistence.get_save_checkpoint_fn(world)(1, 0, 0)  # type: ignore[misc]
            announce(step)
    return list(world.trace)


def verify(directory: Path) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["verify", str(directory)])
    return result.exit_code, result.output


def restored(directory: Path) -> tuple[float, float]:
    """The policy, and the handler's number, that are restored from a directory."""
    statistics, policy = Statistics(), torch.nn.Linear(2, 1)
    world = perdure.World(restore_directory=directory)
    PolicyPersistence(statistics).restore(policy, world, "cpu")
    return float(policy.weight.sum()), statistics.mean


def check_end(directory: Path, whole: list[float]) -> None:
    """The training in a directory ended as it should, and its policy is where users look for it."""
    assert restored(directory) == (pytest.approx(whole[7]), 7.0)
    for path in (directory, directory / "policy.pt"):
        loaded = perdure.load_policy(path, trust=[torch.nn])
        assert float(loaded.weight.sum()) == pytest.approx(whole[7])  # type: ignore[operator, union-attr]
    epoch = perdure.load_policy(directory / "policy_epoch_1.pt", trust=[torch.nn])
    assert float(epoch.weight.sum()) == pytest.approx(whole[2])  # type: ignore[operator, union-attr]
    assert (directory / "more" / "mean.txt").read_text() == "7.0"
    assert verify(directory)[0] == 0
    assert check_policies(str(directory)) == []
    assert len(versions.numbered(directory)) == 1
    assert not list(directory.rglob(".tmp-*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    directory = tmp_path_factory.mktemp("whole") / "run"
    trace = train(directory)
    assert (directory / "policy.pt").is_symlink()
    check_end(directory, trace)
    return trace


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in the middle: its best policy is that of step 3."""
    directory = tmp_path_factory.mktemp("half") / "run"
    train(directory, 5)
    return directory


# -- copies -----------------------------------------------------------------------------------------------------------


def follow(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-rL", source, target], check=True)


def through_zip(source: Path, target: Path) -> None:
    with zipfile.ZipFile(target.with_suffix(".zip"), "w") as archive:
        # As `zip -r` does: through links, and with empty directories.
        for folder, _, files in os.walk(source, followlinks=True):
            for file in files:
                archive.write(os.path.join(folder, file), os.path.relpath(os.path.join(folder, file), source))
    with zipfile.ZipFile(target.with_suffix(".zip")) as archive:
        archive.extractall(target)


def as_texts(source: Path, target: Path) -> None:
    """What git makes of links where the system has none, and an archive of links that Python unpacks."""
    shutil.copytree(source, target, symlinks=True)
    for link in [path for path in target.iterdir() if path.is_symlink()]:
        text = os.readlink(link)
        link.unlink()
        link.write_text(text)


def without_links(source: Path, target: Path) -> None:
    """What rclone and some mirrors do."""
    shutil.copytree(source, target, symlinks=True)
    for link in [path for path in target.iterdir() if path.is_symlink()]:
        link.unlink()


def only_best_lost(source: Path, target: Path) -> None:
    shutil.copytree(source, target, symlinks=True)
    (target / "best").unlink()


def as_directory(source: Path, target: Path) -> None:
    """The link to the best version became a directory, the others lead into it."""
    shutil.copytree(source, target, symlinks=True)
    (target / "best").unlink()
    shutil.copytree(target / "policies" / "00000003", target / "best")


def hard_links(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-rlL", source, target], check=True)
    (target / ".lock").unlink()


def mirrored(source: Path, target: Path) -> None:
    """A mirror that leaves the directories of what was deleted, and is older at the root than in policies/."""
    follow(source, target)
    (target / "policies" / "00000001").mkdir(exist_ok=True)
    shutil.rmtree(target / "best")


@pytest.mark.parametrize(
    "copy",
    [follow, through_zip, as_texts, without_links, only_best_lost, as_directory, hard_links, mirrored],
    ids=lambda copy: copy.__name__,
)
def test_a_copy_is_whole_and_the_training_goes_on_there(
    half: Path, whole: list[float], tmp_path: Path, copy: Callable[[Path, Path], None]
) -> None:
    copied = tmp_path / "copy"
    copy(half, copied)
    code, output = verify(copied)
    assert code == 0, output
    assert "nothing is wrong" in output
    assert restored(copied) == (pytest.approx(whole[3]), 3.0)
    loaded = perdure.load_policy(copied, trust=[torch.nn])
    assert float(loaded.weight.sum()) == pytest.approx(whole[3])  # type: ignore[operator, union-attr]
    if os.path.lexists(copied / "policy.pt"):
        perdure.load_policy(copied / "policy.pt", trust=[torch.nn])
    assert all(step.harmless for step in plan_repair(str(copied)).steps)
    assert train(copied) == whole
    check_end(copied, whole)


def test_a_damaged_copy_of_the_policy_is_never_loaded(half: Path, whole: list[float], tmp_path: Path) -> None:
    copied = tmp_path / "copy"
    follow(half, copied)
    path = copied / "policy.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"is not the file that was published there.*policies/00000003"):
        perdure.load_policy(path, trust=[torch.nn])
    with pytest.raises(DamagedError, match="is not the file that was published there"):
        restored(copied)
    # The version itself is whole; that it is, the message says, and where.
    perdure.load_policy(copied, trust=[torch.nn])
    code, output = verify(copied)
    assert (code, "it is damaged, or someone put another one in its place" in output) == (1, True)
    assert CliRunner().invoke(main, ["repair", str(copied), "--yes"]).exit_code == 0
    assert verify(copied)[0] == 0
    assert restored(copied) == (pytest.approx(whole[3]), 3.0)
    assert (copied / "policies" / "found-0001" / "policy.pt").read_bytes() == content
    assert train(copied) == whole
    check_end(copied, whole)


# -- file systems -----------------------------------------------------------------------------------------------------


def in_child(function: Callable[[], object]) -> int:
    """Run a function in a child process; its pid. It exits with 0 unless the function raises."""
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            function()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def refused() -> None:
    """Skip where the kernel cannot be told to refuse links."""
    if code_of(in_child(lambda: 1 / refuse_links())):
        pytest.skip("this system cannot refuse links")


def test_a_training_where_there_are_no_links(
    refused: None, whole: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed twice, and resumed: it ends as any other."""
    directory = tmp_path / "run"

    def announce(step: int) -> None:
        if str(step) == os.environ["KILL_AT"]:
            os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        assert refuse_links()
        train(directory, announce=announce)

    for kill in (4, 6, None):
        monkeypatch.setenv("KILL_AT", str(kill))
        code = code_of(in_child(work))
        assert code == (0 if kill is None else -signal.SIGKILL)
        assert not any(path.is_symlink() for path in directory.rglob("*"))
        assert check_policies(str(directory)) == []
    check_end(directory, whole)
    # Moved to where there are links, it goes on too.
    assert train(directory) == whole
    check_end(directory, whole)


def test_links_that_the_next_file_system_refuses(
    refused: None, half: Path, whole: list[float], tmp_path: Path
) -> None:
    """Copied with its links to where none can be made: what is there is used."""
    directory = tmp_path / "run"
    follow(half, directory)

    def work() -> None:
        assert refuse_links()
        assert train(directory) == whole

    assert code_of(in_child(work)) == 0
    check_end(directory, whole)


def test_a_run_in_a_lower_layer(half: Path, whole: list[float], tmp_path: Path) -> None:
    """As of an image with a run in it: its directories cannot be renamed there."""
    lower = tmp_path / "lower"
    lower.mkdir()
    follow(half, lower / "run")
    shutil.rmtree(lower / "run" / "best")
    for name in ("upper", "work", "merged"):
        (tmp_path / name).mkdir()
    options = f"lowerdir={lower},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    merged = tmp_path / "merged"
    done = subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", merged], capture_output=True)
    if done.returncode:
        pytest.skip("cannot mount an overlay here")
    try:
        run = merged / "run"
        with pytest.raises(OSError, match="cross-device"):
            os.rename(run / "policies", run / "other")
        assert train(run) == whole
        assert restored(run) == (pytest.approx(whole[7]), 7.0)
        assert verify(run)[0] == 0
        # What the image has stays there; to delete it would free nothing.
        assert sorted(os.listdir(run / "policies")) == ["00000003", "00000005", "epoch_1"]
        victim = run / "policies" / "00000003" / "policy.pt"
        victim.write_bytes(b"x" + victim.read_bytes()[1:])
        assert verify(run)[0] == 1
        assert CliRunner().invoke(main, ["repair", str(run), "--yes"]).exit_code == 0
        assert verify(run)[0] == 0
    finally:
        subprocess.run(["umount", "-l", merged], check=True)


# -- moved and removed ------------------------------------------------------------------------------------------------


def moved(run: Path) -> None:
    run.rename(run.with_name("moved"))


def removed(run: Path) -> None:
    shutil.rmtree(run)


def replaced(run: Path) -> None:
    run.rename(run.with_name("moved"))
    run.mkdir()


def replaced_by_a_copy(run: Path) -> None:
    """The same lock's file, but another directory: only the process that it names may not be misled by it."""
    run.rename(run.with_name("moved"))
    shutil.copytree(run.with_name("moved"), run, symlinks=True, ignore=shutil.ignore_patterns(".lock"))


@pytest.mark.parametrize(
    "lost", [moved, removed, replaced, replaced_by_a_copy], ids=lambda lost: lost.__name__
)
@pytest.mark.parametrize("background", [True, False])
def test_a_directory_that_is_gone_is_noticed(
    tmp_path: Path, lost: Callable[[Path], None], background: bool
) -> None:
    directory = tmp_path / "run"
    world = perdure.World(policy=torch.nn.Linear(2, 1), x=np.zeros(3))
    run = perdure.Run(directory, background=background)
    run.resume(world)
    run.checkpoint(world, 1)
    lost(directory)
    there = sorted(directory.rglob("*"))
    for attempt in (
        lambda: run.checkpoint(world, 2),
        lambda: run.report_score(1.0, world),
        lambda: run.checkpoint(world, 3),
    ):
        with pytest.raises(StoreError, match="was moved or removed while this process was writing to it"):
            attempt()
    assert sorted(directory.rglob("*")) == there
    if lost is not moved:
        run.close()
        return
    # Moved back, as the message says: it goes on.
    directory.with_name("moved").rename(directory)
    run.checkpoint(world, 4)
    assert run.report_score(2.0, world)
    run.close()
    assert verify(directory)[0] == 0


def test_a_directory_that_is_gone_with_warnings_only(tmp_path: Path) -> None:
    """The training goes on, says so, and saves again when the directory is back."""
    directory = tmp_path / "run"
    world = perdure.World(policy=torch.nn.Linear(2, 1), x=np.zeros(3))
    with (
        perdure.Run(directory, on_error="warn") as run,
        pytest.warns(CheckpointFailedWarning, match="was moved"),
    ):
        for step in run.steps(world, 6, every=1):
            run.flush()
            if step == 2:
                directory.rename(tmp_path / "moved")
            if step == 4:
                (tmp_path / "moved").rename(directory)
            assert run.report_score(float(step), world)
    assert verify(directory)[0] == 0
    with perdure.Run(directory) as run:
        found = run.find_checkpoint(world)
        assert found is not None
        assert (found.step, run.best_score) == (6, 5.0)


SCRIPT = """
import sys, time
import perdure
world = perdure.World(x=0)
with perdure.Run(sys.argv[1]) as run:
    for step in run.steps(world, 10**6, every=1):
        world.x += 1
        if step == 3:
            print("ready", flush=True)
        time.sleep(0.01)
"""


def test_a_training_whose_directory_is_moved_ends_with_the_reason(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, directory], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        directory.rename(tmp_path / "moved")
        _, error = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
    assert process.returncode == 1
    assert "was moved or removed while this process was writing to it: nothing is there now" in error
    assert not directory.exists()
    assert verify(tmp_path / "moved")[0] == 0


def test_checkpoints_that_someone_deleted_are_written_anew(tmp_path: Path) -> None:
    """`rm -rf run/*`: the next checkpoint needs none of them."""
    directory = tmp_path / "run"
    world = perdure.World(x=np.random.default_rng(0).random(5000), n=0)
    with perdure.Run(directory) as run:
        run.resume(world)
        run.checkpoint(world, 1)
        subprocess.run(f"rm -rf {directory}/*", shell=True, check=True)
        world.n = 2
        with pytest.warns(perdure.errors.PerdureWarning, match="checkpoint 1 was deleted"):
            run.checkpoint(world, 2)
    assert verify(directory)[0] == 0
    other = perdure.World(x=np.zeros(5000), n=0)
    with perdure.Run(directory) as run:
        assert run.resume(other) is not None
    assert other.n == 2
    assert np.array_equal(other.x, world.x)

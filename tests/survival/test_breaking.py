"""A run that is killed early, killed while it commits, asked to leave, damaged, locked, or given to another script."""

import os
import shutil
import signal
import subprocess
import sys

import harness
import pytest
from harness import HERE, UNSEEDED, differences, final, launch

import perdure
from perdure.store import Store


@pytest.fixture(scope="module")
def whole():
    return harness.whole("loop_cases", "dqn")[0]


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A run that was killed with some checkpoints behind it; its tests work on copies."""
    directory = tmp_path_factory.mktemp("half") / "run"
    assert launch("loop_cases", "dqn", directory, FUSE=500).returncode == -signal.SIGKILL
    # Whether it was writing one when it was killed is chance. What is left of that goes here, as it would when the
    # run goes on, so that the newest files are those of the newest checkpoint.
    with Store.open(directory, write=True) as store:
        assert len(store.checkpoints()) >= 2
    return directory


@pytest.fixture
def copy(half, tmp_path):
    shutil.copytree(half, tmp_path / "run", symlinks=True)
    return tmp_path / "run"


def same(a, b):
    return differences(a, b, ignore=UNSEEDED) == []


def test_killed_before_the_first_checkpoint_it_starts_over(whole, tmp_path):
    assert launch("loop_cases", "dqn", tmp_path / "run", FUSE=20).returncode == -signal.SIGKILL
    launch("loop_cases", "dqn", tmp_path / "run")
    assert same(whole, tmp_path / "run")


@pytest.mark.parametrize(
    "sync", [12, *(pytest.param(sync, marks=pytest.mark.campaign) for sync in (15, 18)), 21]
)
def test_killed_in_the_middle_of_a_commit_it_goes_on_from_the_one_before(whole, tmp_path, sync):
    assert launch("loop_cases", "dqn", tmp_path / "run", FUSE_SYNC=sync).returncode == -signal.SIGKILL
    launch("loop_cases", "dqn", tmp_path / "run")
    assert same(whole, tmp_path / "run")


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_a_signal_makes_a_checkpoint_and_leaves_cleanly(whole, tmp_path, name, code):
    found = launch("loop_cases", "dqn", tmp_path / "run", FUSE=333, FUSE_SIGNAL=name)
    assert found.returncode == code
    assert "Traceback" not in found.stderr
    assert name in found.stderr
    # Not one of the steps at which a checkpoint was due anyway (every 60), but the one in which the signal came.
    assert final(tmp_path / "run").info.step in range(166, 180)
    launch("loop_cases", "dqn", tmp_path / "run")
    assert same(whole, tmp_path / "run")


@pytest.mark.parametrize(("script", "name"), [("sb3_cases", "a2c"), ("tianshou_cases", "dqn")])
def test_a_signal_makes_a_checkpoint_in_a_librarys_loop(script, name, tmp_path):
    directory, _ = harness.whole(script, name)
    found = launch(script, name, tmp_path / "run", FUSE=333, FUSE_SIGNAL="SIGTERM")
    assert found.returncode == 143, found.stderr
    assert "Traceback" not in found.stderr
    launch(script, name, tmp_path / "run")
    assert differences(directory, tmp_path / "run") == []


def test_a_second_signal_leaves_at_once(tmp_path):
    # The step that the first signal interrupts never ends by itself.
    script = (
        "import os, signal, sys, time, perdure\n"
        "run = perdure.Run(sys.argv[1])\n"
        "for step in run.steps(perdure.World(x=1), 10):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    found = subprocess.run([sys.executable, "-c", script, tmp_path / "run"], timeout=60, capture_output=True)
    assert found.returncode == -signal.SIGTERM


def test_the_signals_handlers_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with perdure.Run(tmp_path / "run") as run:
        for _ in run.steps(perdure.World(x=1), 3, every=1):
            assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_truncated_manifest_falls_back_to_the_checkpoint_before(whole, copy):
    newest = max((copy / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    found = launch("loop_cases", "dqn", copy)
    assert "DamagedCheckpointWarning" in found.stderr
    assert newest.name in found.stderr
    assert same(whole, copy)


@pytest.mark.parametrize("kind", ["checkpoints", "packs"])
def test_a_flipped_bit_falls_back_to_a_checkpoint_that_verifies(whole, copy, kind):
    newest = max((copy / kind).iterdir())
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    found = launch("loop_cases", "dqn", copy)
    assert "DamagedCheckpointWarning" in found.stderr
    assert same(whole, copy)


def test_with_every_checkpoint_damaged_it_stops_and_loses_nothing(copy):
    for manifest in (copy / "checkpoints").iterdir():
        manifest.write_bytes(manifest.read_bytes()[:-1] + b"x")
    before = sorted((path, path.read_bytes()) for path in copy.rglob("*.json"))
    found = launch("loop_cases", "dqn", copy, ANY=1)
    assert found.returncode == 1
    assert "DamagedError" in found.stderr
    assert sorted((path, path.read_bytes()) for path in copy.rglob("*.json")) == before


def edit(tmp_path, *changes):
    """A copy of the script, edited."""
    for file in HERE.glob("*.py"):
        shutil.copy(file, tmp_path / file.name)
    script = tmp_path / "loop_cases.py"
    text = script.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    script.write_text(text)
    return script


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("layers(4, 32, 2), layers(4, 32, 2)", "layers(4, 24, 2), layers(4, 24, 2)", "agent.0.weight"),
        ('[make("CartPole-v1")] * 2', '[make("CartPole-v1")] * 3', "envs.env.envs"),
        ('make("CartPole-v1")', 'make("Acrobot-v1")', "AcrobotEnv"),
        ("ReplayBuffer(300", "ReplayBuffer(400", "buffer.obs"),
        ("torch.optim.Adam(q", "torch.optim.SGD(q", "optimizer"),
    ],
)
def test_a_script_whose_objects_changed_shape_is_a_clear_error(half, copy, tmp_path, old, new, path):
    before = sorted(os.listdir(copy / "checkpoints"))
    found = launch(edit(tmp_path, (old, new)), "dqn", copy, ANY=1)
    assert found.returncode == 1
    assert "RestoreError" in found.stderr
    assert path in found.stderr
    assert sorted(os.listdir(copy / "checkpoints")) == before
    # Nothing was lost: the script as it was goes on.
    assert launch("loop_cases", "dqn", copy).returncode == 0


def test_a_script_with_another_learning_rate_is_told_that_it_has_no_effect(whole, copy, tmp_path):
    found = launch(edit(tmp_path, ("lr=1e-3", "lr=5e-4")), "dqn", copy, ANY=1)
    assert found.returncode == 0, found.stderr
    assert "ChangedScriptWarning" in found.stderr
    assert (
        "optimizer.param_groups[0]['lr']: 0.001 when the run began, 0.0005 in the script now" in found.stderr
    )
    assert same(whole, copy)


def test_the_directory_of_another_script_is_a_clear_error(copy):
    found = launch("loop_cases", "ppo", copy, ANY=1)
    assert found.returncode == 1
    assert "RestoreError" in found.stderr
    assert "the script is not the one that began the run" in found.stderr
    assert "the script has it, the checkpoint does not" in found.stderr


def test_a_second_process_is_told_who_holds_the_run(tmp_path):
    with perdure.Run(tmp_path / "run"):
        script = "import sys, perdure\nperdure.Run(sys.argv[1], lock_timeout=0.2)"
        found = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "run"], capture_output=True, text=True, timeout=60
        )
    assert found.returncode == 1
    assert "LockedError" in found.stderr
    assert str(os.getpid()) in found.stderr
    with perdure.Run(tmp_path / "run"):
        pass


def test_a_directory_without_write_permission_is_a_clear_error(public):
    locked = public / "locked"
    locked.mkdir()
    os.chmod(locked, 0o555)
    script = (
        "import os, sys, perdure\n"
        "perdure.Run, perdure.errors  # the interpreter may be closed to the other user\n"
        "if os.getuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "try: perdure.Run(sys.argv[1])\n"
        "except perdure.errors.StoreError as error: print(error); sys.exit(3)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, locked / "run"], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 3, found.stderr
    assert f"{locked}/run: permission denied" in found.stdout


def test_leftovers_do_not_pile_up(half, copy):
    launch("loop_cases", "dqn", copy)
    names = [path.name for path in copy.rglob("*")]
    assert [name for name in names if name.startswith(".tmp")] == []
    assert len(os.listdir(copy / "checkpoints")) <= 4
    assert len([name for name in os.listdir(copy / "policies") if not name.startswith(".")]) == 1
    with Store.open(copy) as store:
        assert [problem for problem in store.verify() if problem.problem] == []

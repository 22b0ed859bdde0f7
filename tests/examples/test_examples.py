"""Every example runs, survives a SIGKILL, and ends as if it had not been killed, as its first lines say."""

import os
import random
import signal

import pytest
from example_processes import COMMAND, ROOT, Process, run_fresh

from perdure.state import CLOCKS, diff
from perdure.store import Store

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
#: How many steps: several checkpoints, in a few seconds.
STEPS = {
    "custom_handler": 30_000,
    "own_loop_ppo": 6_000,
    "persist_normaliser": 15,
    "sb3_ppo_vecnormalize": 6_000,
    "sb3_sac": 600,
    "tianshou_dqn": 2_000,
    "tianshou_highlevel": 2_000,
}
#: What `perdure run` makes resumable.
PLAIN = "plain_dqn"
#: These train nothing.
WITHOUT_TRAINING = {"load_policy"}
#: That trainings with these libraries end as the uninterrupted ones is what tests/survival shows.
LIBRARIES = ("sb3_", "tianshou_")
#: What an example neither seeds nor draws from differs between any two processes.
UNSEEDED = {
    "custom_handler": ("rng.numpy*", "rng.torch*"),
    "persist_normaliser": ("rng.python*", "rng.numpy*", "*_space._np_random*"),
}
#: Another seed kills at other moments.
SEED = os.environ.get("SURVIVAL_SEED", "0")

with_perdure = [path for path in EXAMPLES if path.stem != PLAIN]
each = pytest.mark.parametrize("example", with_perdure, ids=lambda path: path.stem)


def differences(a, b, ignore):
    """The paths at which the final states of the runs in two directories differ."""
    found, runs = [], sorted(path.parent.name for path in a.glob("runs/*/run.json"))
    assert runs == sorted(path.parent.name for path in b.glob("runs/*/run.json"))
    for name in runs:
        final = []
        for directory in (a, b):
            with Store.open(directory / "runs" / name) as store:
                final.append(store.latest())
        ours, theirs = final
        assert ours.info.step == theirs.info.step
        found += [
            str(difference)
            for difference in diff(ours.state, theirs.state, ignore=(*CLOCKS, "rng.numba*", *ignore))
        ]
    return found


def start_and_kill(example, words, directory):
    """Kill an example soon after its first checkpoint; where, or None if it was too fast every time."""
    delay = random.Random(f"{SEED} {example.stem}").uniform(0, 0.5)
    for attempt in range(3):
        where = directory / f"killed-{attempt}"
        process = Process(example, *words, directory=where, name="killed")
        if process.kill_after_checkpoint(delay / 4**attempt) == -signal.SIGKILL:
            return where
    return None


@each
def test_survives_being_killed(example, tmp_path):
    if example.stem in WITHOUT_TRAINING:
        run_fresh(example, tmp_path)
        return
    words = ("--steps", str(STEPS[example.stem]))
    killed = start_and_kill(example, words, tmp_path)
    assert killed is not None, "it ended before it could be killed: give it more steps"
    again = Process(example, *words, directory=killed, name="again").finish()
    assert "going on at step" in again
    if not example.stem.startswith(LIBRARIES):
        Process(example, *words, directory=tmp_path / "whole").finish()
        assert differences(tmp_path / "whole", killed, UNSEEDED.get(example.stem, ())) == []


@each
def test_says_what_it_shows(example):
    text = example.read_text()
    assert text.startswith('"""')
    first = " ".join(text.split('"""')[1].split()).lower()
    assert "kill it at any moment and start it again" in first
    assert f"python {example.name}" in first


def test_a_plain_script_is_killed_under_perdure_run(tmp_path):
    example = ROOT / "examples" / f"{PLAIN}.py"
    assert "import perdure" not in example.read_text()
    words = (str(example), "--steps", "1000")
    whole = Process(example, *words[1:], directory=tmp_path / "whole").finish()
    for number, fuse in enumerate(["430", "310", "0"]):
        process = Process(
            COMMAND,
            *("run", "--every", "50", *words),
            directory=tmp_path / "killed",
            name=f"output-{number}",
            PERDURE_TEST_FUSE=fuse,
        )
        if fuse != "0":
            assert process.wait() == -signal.SIGKILL
    assert "going on at step 700" in process.finish()
    assert process.output.splitlines()[-1] == whole.splitlines()[-1]


def test_the_table_lists_every_example():
    table = (ROOT / "examples" / "README.md").read_text()
    listed = [line.split("](")[1].split(")")[0] for line in table.splitlines() if line.startswith("| [")]
    assert sorted(listed) == [example.name for example in EXAMPLES]

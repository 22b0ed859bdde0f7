"""Every example runs, survives a SIGKILL, and ends as if it had not been killed, as its first lines say."""

import os
import random
import signal

import pytest
from example_processes import ROOT, Process

from perdure.state import CLOCKS, diff
from perdure.store import Store

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
#: How many steps: several checkpoints, in a few seconds.
STEPS = {
    "custom_handler": 50_000,
    "own_loop_ppo": 10_000,
    "persist_normaliser": 20,
    "sb3_ppo_vecnormalize": 8_000,
    "sb3_sac": 800,
    "tianshou_dqn": 2_400,
    "tianshou_highlevel": 2_400,
}
#: These train nothing.
WITHOUT_TRAINING = {"load_policy"}
#: Another seed kills at other moments.
SEED = os.environ.get("SURVIVAL_SEED", "0")

each = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def differences(a, b):
    """The paths at which the final states of two directories' runs differ."""
    found, runs = [], sorted(path.parent.name for path in a.glob("runs/*/run.json"))
    assert runs == sorted(path.parent.name for path in b.glob("runs/*/run.json"))
    for name in runs:
        states = []
        for directory in (a, b):
            with Store.open(directory / "runs" / name) as store:
                states.append(store.latest())
        ours, theirs = states
        assert ours.info.step == theirs.info.step
        found += [str(difference) for difference in diff(ours.state, theirs.state, ignore=CLOCKS)]
    return found


@each
def test_survives_being_killed(example, tmp_path):
    if example.stem in WITHOUT_TRAINING:
        for name in ("first", "second"):
            Process(example, directory=tmp_path, name=name).finish()
        return
    words = ("--steps", str(STEPS[example.stem]))
    whole = Process(example, *words, directory=tmp_path / "whole")
    killed = Process(example, *words, directory=tmp_path / "killed", name="killed")
    code = killed.kill_after_checkpoint(random.Random(f"{SEED} {example.stem}").uniform(0, 0.5))
    assert code == -signal.SIGKILL, "it ended before it could be killed: give it more steps"
    again = Process(example, *words, directory=tmp_path / "killed", name="again").finish()
    assert "perdure: " in again
    assert "going on at step" in again
    whole.finish()
    assert differences(tmp_path / "whole", tmp_path / "killed") == []


@each
def test_says_what_it_shows(example):
    text = example.read_text()
    assert text.startswith('"""')
    first = " ".join(text.split('"""')[1].split()).lower()
    assert "kill it at any moment and start it again" in first
    assert f"python {example.name}" in first


def test_the_table_lists_every_example():
    table = (ROOT / "examples" / "README.md").read_text()
    listed = [line.split("](")[1].split(")")[0] for line in table.splitlines() if line.startswith("| [")]
    assert sorted(listed) == [example.name for example in EXAMPLES]

"""A training that was killed several times ends bit for bit as the one that was not."""

import pytest
from harness import UNSEEDED, differences, final, killed, uninterrupted, whole

CASES = [
    *(("sb3_cases", name) for name in ("dqn", "ppo", "a2c", "td3", "sac", "sac_monitored")),
    *(("tianshou_cases", name) for name in ("dqn", "ppo", "sac", "offline", "experiment")),
    *(("loop_cases", name) for name in ("dqn", "ppo")),
    *(("torchrl_cases", name) for name in ("tensor", "memmap", "prioritized")),
]


@pytest.mark.parametrize(("script", "name"), CASES, ids=lambda part: part.removesuffix("_cases"))
def test_killed_and_resumed_ends_as_uninterrupted(script, name, tmp_path):
    if name == "prioritized":
        pytest.importorskip("torchrl._torchrl", exc_type=ImportError)
    directory, steps = whole(script, name)
    killed(script, name, tmp_path / "killed", steps)
    ignore = UNSEEDED if script in ("loop_cases", "torchrl_cases") else differences.__kwdefaults__["ignore"]
    assert differences(directory, tmp_path / "killed", ignore=ignore) == []


@pytest.mark.parametrize(
    ("script", "name"),
    [("sb3_cases", "subproc"), ("tianshou_cases", "experiment_subproc"), ("loop_cases", "asynchronous")],
    ids=lambda part: part.removesuffix("_cases"),
)  # fmt: skip
def test_so_does_one_whose_environments_are_in_processes_of_their_own(script, name, tmp_path):
    directory, steps = whole(script, name)
    killed(script, name, tmp_path / "killed", steps, kills=1)
    assert differences(directory, tmp_path / "killed", ignore=UNSEEDED) == []


# What belongs to Perdure or to the call that started the training.
OURS = (
    "_total_timesteps",
    "_num_timesteps_at_start",
    "_logger.dir",
    "save_best_fn",
    "_training_step",
    "save_checkpoint_fn",
    "max_epochs",
)


@pytest.mark.parametrize(
    ("script", "name", "part"),
    [("sb3_cases", "ppo", "model"), ("sb3_cases", "sac", "model"), ("tianshou_cases", "dqn", "trainer"),
     ("tianshou_cases", "experiment", "trainer"), ("loop_cases", "ppo", "agent")],
)  # fmt: skip
def test_with_perdure_a_training_is_the_one_it_is_without(script, name, part, tmp_path):
    directory, _ = whole(script, name)
    uninterrupted(script, name, tmp_path / "without", "plain")
    found = differences(directory, tmp_path / "without", only=part)
    assert [each for each in found if not each.split(":")[0].endswith(OURS)] == []


def test_checkpoints_fall_inside_epochs():
    directory, _ = whole("tianshou_cases", "dqn")
    # Epochs end at 300, 600 and 900 steps, a checkpoint is due every 40.
    assert final(directory).info.number > 10

"""Unmodified training scripts under `perdure run`, killed at random moments: they end as without Perdure."""

from __future__ import annotations

from pathlib import Path

import pytest
from killed_scripts import CASES, MARKS, killed, without_perdure

from perdure.script import read_script

#: Rounds between two checkpoints, for scripts with many or few.
_EVERY = {
    "dqn": 40, "sac": 30, "q_learning": 25, "td3": 25, "double_dqn_per": 30, "a2c": 4, "dyna_q": 300, "ppo": 2,
    "c51": 30, "noisy_rainbow": 30, "bandits": 200, "ddpg": 25, "sarsa": 10, "self_play": 10, "multi_agent": 5,
}  # fmt: skip
#: Those that `make test` goes through.
_IN_THE_SUITE = ("dqn", "reinforce", "pretrain_then_rl")
_SCRIPTS = sorted(
    [*CASES.glob("*.py"), *CASES.glob("*/train.py")], key=lambda path: path.relative_to(CASES).parts
)


def _name(script: Path) -> str:
    return script.parent.name if script.stem == "train" else script.stem


def _test_of(script: Path) -> object:
    marks = [] if _name(script) in _IN_THE_SUITE else [pytest.mark.campaign]
    return pytest.param(script, id=_name(script), marks=marks)


@pytest.mark.parametrize("script", [_test_of(script) for script in _SCRIPTS])
def test_a_killed_script_ends_as_without_perdure(tmp_path: Path, script: Path) -> None:
    whole, cpu = without_perdure(script, (), tmp_path / "whole")
    assert whole.results
    every = f"--every={_EVERY.get(_name(script), 3)}"
    outcome, processes = killed(script, (), (every,), tmp_path / "killed", cpu)
    assert outcome == whole
    # At least one process went on from a checkpoint.
    assert any(each.newest_step > (0, 0) for each in processes if each.code)
    said = "\n".join(each.errors for each in processes)
    assert "Warning" not in said, said


@pytest.mark.parametrize("script", _SCRIPTS, ids=_name)
def test_the_loops_that_are_found(script: Path) -> None:
    found = read_script(str(script), [])
    marked = {
        (path.name, number)
        for path in script.parent.glob("*.py" if script.stem == "train" else script.name)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if any(mark in line for mark in MARKS)
    }
    assert marked
    assert {(loop.source.path.name, loop.line) for loop in found.loops} == marked

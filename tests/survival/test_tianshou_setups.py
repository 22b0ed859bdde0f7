"""Tianshou's algorithms, buffers and collectors, killed and resumed, in small set-ups like those of its scripts."""

from pathlib import Path

import pytest
import tianshou.algorithm
import tianshou_setups
from tianshou_matrix import KILLS, PAGE, check, missing
from tianshou_setups import SETUPS

#: What the other tests of this directory lack most: agents with masks of actions, and goals that a buffer rewrites.
SAMPLE = ("marl_off_policy", "ddpg_her")


@pytest.mark.parametrize("name", SAMPLE)
def test_a_sample_ends_as_uninterrupted(name):
    assert check(name, kills=1) == []


@pytest.mark.campaign
@pytest.mark.parametrize("name", [name for name in SETUPS if not missing(name)])
def test_each_ends_as_uninterrupted(name):
    assert check(name) == []


def test_every_algorithm_of_tianshou_has_a_set_up_and_every_set_up_is_in_the_table():
    text = "".join(Path(module.__file__).read_text() for module in tianshou_setups.MODULES)
    known = {
        name
        for name in vars(tianshou.algorithm)
        if isinstance(cls := getattr(tianshou.algorithm, name), type)
        and issubclass(cls, tianshou.algorithm.Algorithm)
        and cls.__module__ != "tianshou.algorithm.algorithm_base"
    }
    assert len(known) > 25
    assert {name for name in known if f"{name}(" not in text and f", {name})" not in text} == set()
    rows = [line.split("`")[1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(SETUPS)
    assert KILLS >= 3

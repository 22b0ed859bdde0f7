"""Files that a script writes: after kills they are what the uninterrupted run writes."""

from __future__ import annotations

import os
import random

import pytest
from output_support import contents, differences, train


@pytest.mark.parametrize("way", ["steps", "loop"])
def test_files_after_kills_are_those_of_the_uninterrupted_run(starter, tmp_path, way):
    chance = random.Random(int(os.environ.get("SURVIVAL_SEED", "1")))
    kills = [2, *sorted(chance.sample(range(5, 30), 3))]
    train(starter, "plain_training.py", tmp_path / "whole", way, kills=[])
    said = train(starter, "plain_training.py", tmp_path / "killed", way, kills=kills)
    found, expected = (contents(tmp_path / name / "files") for name in ("killed", "whole"))
    assert len(expected) == 12
    assert differences(found, expected) == {}, (kills, said)

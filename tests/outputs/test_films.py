"""Films that were being made when the process was killed have all frames."""

from __future__ import annotations

import os
import random

from output_support import contents, differences, train


def test_films_have_all_frames(starter, tmp_path):
    chance = random.Random(int(os.environ.get("SURVIVAL_SEED", "1")))
    kills = sorted(chance.sample(range(8, 50), 2))
    train(starter, "films_training.py", tmp_path / "whole", "-", kills=[])
    said = train(starter, "films_training.py", tmp_path / "killed", "-", kills=kills)
    found, expected = (contents(tmp_path / name / "files") for name in ("killed", "whole"))
    assert len(expected) == 2
    assert differences(found, expected) == {}, (kills, said)

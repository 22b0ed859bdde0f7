"""TensorBoard's curves are, after kills, those of the uninterrupted run: in one directory, no step twice or missing."""

from __future__ import annotations

import os
import random

import pytest
from curves import points
from output_support import train

CHANCE = random.Random(int(os.environ.get("SURVIVAL_SEED", "1")))


def same_curves(starter, tmp_path, script, argument, kills):
    train(starter, script, tmp_path / "whole", argument, kills=[])
    said = train(starter, script, tmp_path / "killed", argument, kills=kills)
    found, expected = (points(tmp_path / name / "files") for name in ("killed", "whole"))
    assert len(expected) == len(found) == 1
    assert list(found.values()) == list(expected.values()), (kills, said)
    return next(iter(expected.values()))


@pytest.mark.parametrize("module", ["torch.utils.tensorboard", "tensorboardX"])
def test_curves_histograms_and_images_of_a_script(starter, tmp_path, module):
    if module == "tensorboardX":
        pytest.importorskip(module)
    kills = [2, CHANCE.randrange(5, 31)]
    curve = same_curves(starter, tmp_path, "curve_training.py", module, kills)
    assert len([step for name, step, _ in curve if name == "losses/loss"]) == 30


def test_tianshou_with_its_logger(starter, tmp_path):
    kills = [CHANCE.randrange(4, 20)]
    curve = same_curves(starter, tmp_path, "tianshou_training.py", "-", kills)
    assert {name.partition("/")[0] for name, _, _ in curve} >= {"training", "test", "update"}

"""What Stable-Baselines3 writes is, after kills, what it writes without."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import re

import pytest
from curves import points
from output_support import contents, differences, train


def comparable(name: str, content: bytes) -> object:
    """A file without the time: SB3 writes down how long everything took."""
    if name.endswith("monitor.csv"):
        head, *rows = content.decode().splitlines()
        times = [float(row.split(",")[2]) for row in rows[1:]]
        assert times == sorted(times), "the clock of the episodes went back"
        return re.sub(r"[\d.]+", "", head), [row.split(",")[:2] for row in rows]
    if name.endswith("progress.csv"):
        rows = list(csv.DictReader(io.StringIO(content.decode())))
        return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]
    if name.endswith("progress.json"):
        rows = [json.loads(line) for line in content.splitlines()]
        return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]
    if name.endswith("log.txt"):
        lines = content.decode().splitlines()
        return [line.split() for line in lines if not re.search("fps|time_el|---|Logging to", line)]
    if name.endswith((".zip", ".npz")) or "tfevents" in name:
        return None  # archives say when they were written; events are compared by `points`
    return content


@pytest.mark.parametrize("way", ["formats", pytest.param("tensorboard", marks=pytest.mark.campaign)])
def test_everything_that_sb3_writes(starter, tmp_path, way):
    chance = random.Random(int(os.environ.get("SURVIVAL_SEED", "1")))
    kills = sorted(chance.sample(range(1, 16), 2))
    train(starter, "sb3_training.py", tmp_path / "whole", way, kills=[])
    said = train(starter, "sb3_training.py", tmp_path / "killed", way, kills=kills)
    found, expected = (
        {
            re.sub(r"tfevents.*", "tfevents", name): comparable(name, content)
            for name, content in contents(where).items()
        }
        for where in (tmp_path / "killed/files", tmp_path / "whole/files")
    )
    assert differences(found, expected) == {}, (kills, said)
    curves = points(tmp_path / "whole/files")
    assert list(curves) == ["tb/PPO_1"]
    assert points(tmp_path / "killed/files") == curves, (kills, said)

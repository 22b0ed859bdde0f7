"""A short campaign of real kills, with readers; and that the campaign finds what is wrong. See kills.py."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from kills import Tally, campaign, compare, inspect, readers

from perdure import Run, World
from perdure.store import Store


def test_killed_at_random_instants_nothing_committed_is_lost(tmp_path: Path) -> None:
    tally = campaign(tmp_path, kills=15, minutes=0.4)
    print(tally)
    assert tally.problems == []
    assert tally.kills > 0


def run_of(directory: Path, *values: float) -> None:
    world = World(total=np.zeros(1), replay=np.zeros((512, 8), np.float32), done=0)
    with Run(directory) as run:
        for step, value in enumerate(values, 1):
            world.total += value
            world.done = step
            world.replay[step - 1] = 1
            run.checkpoint(world, step)


def test_the_campaign_finds_a_checkpoint_that_is_lost(tmp_path: Path) -> None:
    run_of(tmp_path / "run", 1.0, 2.0)
    tally = Tally()
    inspect(tmp_path / "run", 2, tally)
    assert tally.problems == []
    (tmp_path / "run" / "checkpoints" / "00000002.json").unlink()
    inspect(tmp_path / "run", 2, tally)
    assert "step 2 was announced, and 1 is there" in tally.problems[0]


def test_the_campaign_finds_leftovers_and_another_end(tmp_path: Path) -> None:
    run_of(tmp_path / "whole", 1.0, 2.0)
    run_of(tmp_path / "other", 1.0, 3.0)
    tally = Tally()
    compare(tmp_path / "whole", tmp_path / "whole", tally)
    assert tally.problems == []
    (tmp_path / "other" / "packs" / ".tmp-1-x").write_text("")
    compare(tmp_path / "other", tmp_path / "whole", tally)
    assert any("the end differs: total" in problem for problem in tally.problems)
    assert any("left behind" in problem for problem in tally.problems)
    for i in range(100):
        (tmp_path / "other" / f"{i}").write_text("")
    inspect(tmp_path / "other", 2, tally)
    assert "leftovers pile up" in tally.problems[-1]


@pytest.mark.filterwarnings("ignore")
def test_the_campaign_finds_a_reader_that_fails(tmp_path: Path) -> None:
    run_of(tmp_path / "run", 1.0)
    manifest = tmp_path / "run" / "checkpoints" / "00000001.json"
    content = json.loads(manifest.read_bytes())
    content["manifest"]["step"] = 7
    manifest.write_text(json.dumps(content))
    tally = Tally()
    with readers(tmp_path / "run", 1, tally, seconds=30):
        with Store.open(tmp_path / "run") as store:
            assert store.survey()[0].verdict == "damaged"
        for _ in range(300):
            if list(tmp_path.glob("run.reader-*")):
                break
            time.sleep(0.05)
    assert "a reader failed" in tally.problems[0]
    assert "none of the checkpoints" in tally.problems[0]

"""What a checkpoint accepts is restored in a fresh process, with other hashes and other addresses: every kind of object
that the tests know."""

from __future__ import annotations

import json
import os
from pathlib import Path

from prepared_process import Starter

SCRIPT = Path(__file__).with_name("accepted_training.py")


def test_everything_that_is_accepted_is_restored_in_a_fresh_process(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    places = os.pathsep.join([*map(str, (tests / "run", tests / "state")), os.environ.get("PYTHONPATH", "")])
    for phase, seed in (("train", "1"), ("resume", "2")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": places}
        starter = Starter("torch._dynamo", "pytest", environment=environment)
        try:
            process = starter.start(SCRIPT, phase, tmp_path, where=tmp_path)
            assert process.wait() == 0, process.errors
        finally:
            starter.close()
    cases = json.loads((tmp_path / "cases.json").read_text())
    assert len(cases) > 150
    found = json.loads((tmp_path / "found.json").read_text())
    assert [(cases[int(path[1:].partition(".")[0])], path) for path in found if path.startswith("n")] == []
    assert found == []

"""Functions, classes and what belongs to the runtime, in processes that are really killed."""

from __future__ import annotations

import json
import os
import signal

import pytest
from prepared_process import Starter

HERE = os.path.dirname(__file__)


@pytest.fixture(scope="module")
def starter():
    made = Starter("tqdm", "perdure.run")
    yield made
    made.close()


def test_what_a_training_changed_is_there_after_a_kill(starter, tmp_path):
    script = os.path.join(HERE, "reference_training.py")

    def process(run, result, last):
        said = tmp_path / "said"
        said.mkdir(exist_ok=True)
        started = starter.start(script, tmp_path / run, tmp_path / result, last, where=said)
        return started.wait(), started.output + started.errors

    code, said = process("whole", "whole.json", -1)
    assert code == 0, said
    assert process("killed", "killed.json", 4)[0] == -signal.SIGKILL
    code, said = process("killed", "killed.json", -1)
    assert code == 0, said
    assert "going on at step" in said
    expected, found = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "killed"))
    different = {name: (expected[name], found[name]) for name in expected if expected[name] != found[name]}
    assert different == {}

"""State that no object holds, in processes that are really killed; and the blocks of the page about it."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from prepared_process import Starter

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/state-outside-objects.md"


@pytest.fixture(scope="module")
def starter():
    made = Starter()
    yield made
    made.close()


def process(starter, where, script, *arguments):
    said = where / "said"
    said.mkdir(exist_ok=True)
    before = (said / "stdout").read_text() if (said / "stdout").exists() else ""
    started = starter.start(script, *arguments, where=said, directory=where)
    code = started.wait()
    assert "Warning" not in started.errors
    return code, started.output.removeprefix(before), started.errors


def test_a_script_that_keeps_its_state_outside_of_objects(starter, tmp_path):
    script = HERE / "carrier_training.py"
    code, expected, errors = process(starter, tmp_path, script, tmp_path / "whole", -1)
    assert code == 0, errors
    for kill in (4, 13, 22):
        assert process(starter, tmp_path, script, tmp_path / "killed", kill)[0] == -signal.SIGKILL
    code, found, errors = process(starter, tmp_path, script, tmp_path / "killed", -1)
    assert code == 0, errors
    assert "going on at step 21" in errors
    assert found == expected


def test_the_blocks_of_the_page(starter, tmp_path):
    block, modules = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    whole, killed, named = (tmp_path / f"{name}.py" for name in ("whole", "killed", "named"))
    whole.write_text(block)
    kill = """    import os
    if step == 7 and not os.path.exists("killed"):
        open("killed", "w").close(); run.flush(); os.kill(os.getpid(), 9)
"""
    killed.write_text(
        block.replace("visit(step)\nprint", f"visit(step)\n{kill}print").replace("outside", "other")
    )
    code, expected, errors = process(starter, tmp_path, whole)
    assert code == 0, errors
    assert process(starter, tmp_path, killed)[0] == -signal.SIGKILL
    assert process(starter, tmp_path, killed)[1] == expected
    named.write_text(modules)
    assert process(starter, tmp_path, named)[0] == 0

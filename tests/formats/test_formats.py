"""Runs that are stored here as files: each must be resumed, verified and shown by the Perdure of today."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from format_cases import CASES, LAST, STORED
from prepared_process import Starter

from perdure.cli import main

HERE = Path(__file__).parent
RUNS = HERE / "runs"
EXPECTED = HERE / "expected"
#: A class of Perdure's own under the module that it is defined in, which may move.
MODULE_PATH = re.compile(rb"perdure\.[a-z_.]+:[A-Z]")


@pytest.fixture(scope="module")
def starter():
    starter = Starter("gymnasium", "torch._dynamo", "perdure.environments")
    yield starter
    starter.close()


@pytest.fixture
def stored(request, tmp_path):
    """A copy of a stored run."""
    return Path(shutil.copytree(RUNS / request.param, tmp_path / request.param, symlinks=True))


each_run = pytest.mark.parametrize("stored", CASES, indirect=True)


def expected(name: str) -> dict[str, Any]:
    return json.loads((EXPECTED / f"{name}.json").read_text())


def perdure(*arguments: object) -> Any:
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_each_case_is_stored_and_nothing_else():
    assert {path.name for path in RUNS.iterdir()} == set(CASES)
    assert {path.stem for path in EXPECTED.iterdir()} == set(CASES)


@each_run
def test_it_goes_on_as_the_training_that_wrote_it_did(stored, starter, tmp_path):
    process = starter.start(HERE / "go_on.py", stored.name, stored, where=tmp_path)
    assert process.wait() == 0, process.errors
    found = json.loads(process.output)
    assert found["stored"] == expected(stored.name)["stored"]
    assert found == expected(stored.name)
    # Today's checkpoints, added to those of a run that an earlier Perdure began, are as good.
    (run,) = perdure("verify", stored)["runs"]
    assert run["problems"] == []
    (run,) = perdure("ls", stored)["runs"]
    assert run["step"] == LAST


@each_run
def test_it_is_verified(stored):
    (run,) = perdure("verify", stored)["runs"]
    assert run["problems"] == run["notes"] == []
    assert run["error"] is None
    assert run["checkpoints"] == len(CASES[stored.name].commits)


@each_run
def test_it_is_shown(stored):
    shown = perdure("show", stored)
    assert (shown["run"]["state"], shown["checkpoint"]["step"]) == ("ok", STORED)
    parts = {part["part"] for part in shown["parts"]}
    assert parts == {*expected(stored.name)["parts"], "run", "rng"}
    (run,) = perdure("ls", stored)["runs"]
    assert (run["state"], run["step"]) == ("ok", STORED)


def test_labels_are_shown():
    shown = perdure("show", RUNS / "labels")["checkpoint"]
    assert shown["tags"] == ["step 4", "naïve Ω"]
    assert shown["counters"] == {"epoch": 40, "where": {"file": 3}}
    assert shown["metrics"] == {"return": 2.0, "loss": "NaN", "worst": "-Infinity"}
    assert perdure("show", RUNS / "best-policy")["run"]["best"] == {"score": 5.0, "step": 3}


def test_no_file_names_a_module_of_ours():
    files = [path for path in RUNS.rglob("*") if path.is_file()]
    assert [path for path in files if MODULE_PATH.search(path.read_bytes())] == []
    # The search would find one where it is not in the manifest, too: in what a worker said of its environment.
    (pack,) = (RUNS / "worker" / "packs").iterdir()
    assert b"perdure:Resumable" in pack.read_bytes()

"""What honest policies hold is loaded as an unpickler gives it, kind by kind, or refused with a reason and a remedy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import honest_values
import pytest


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What became of each value, by protocol."""
    done = subprocess.run(
        [sys.executable, Path(honest_values.__file__), tmp_path_factory.mktemp("values")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("name", honest_values.VALUES)
def test_a_value(said: dict[str, str], name: str, protocol: int) -> None:
    outcome = said[f"{name}, {protocol}"]
    if outcome.startswith("missing: "):
        pytest.skip(outcome)
    if outcome.startswith("cannot be written: "):
        assert name in honest_values.UNWRITTEN
        return
    reason = honest_values.REFUSED.get(name)
    if reason is None:
        assert outcome == "equal"
    else:
        assert outcome.startswith("UntrustedError: ")
        assert reason in outcome
        assert "othing of it was run" in outcome

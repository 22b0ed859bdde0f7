"""On a real GPU: checkpointed in the background, killed, and resumed in a fresh process. `make gpu` runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from perdure.state import diff
from perdure.store import Checkpoint, Store

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]
SCRIPT = Path(__file__).with_name("gpu_training.py")


def train(directory: Path, *killed_at: int) -> int:
    done = subprocess.run(
        [sys.executable, SCRIPT, "cuda", directory, *map(str, killed_at)],
        env={**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def final(directory: Path) -> Checkpoint:
    with Store.open(directory) as store:
        found = store.latest()
    assert found is not None
    return found


def test_a_training_on_a_gpu_ends_as_the_uninterrupted_one(tmp_path: Path) -> None:
    assert train(tmp_path / "whole") == 0
    for step in (13, 30):
        assert train(tmp_path / "killed", step) == -signal.SIGKILL
    assert 4 <= final(tmp_path / "killed").info.step <= 31
    assert train(tmp_path / "killed") == 0
    whole, killed = final(tmp_path / "whole"), final(tmp_path / "killed")
    assert whole.info.step == killed.info.step == 40
    assert [str(each) for each in diff(whole.state, killed.state)] == []

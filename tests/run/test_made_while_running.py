"""Trainings that make objects and change their structure end as if they had not been killed. Real processes."""

import signal
from pathlib import Path

import pytest
from prepared_process import Starter

SCRIPT = Path(__file__).with_name("growing_training.py")
KINDS = [
    "pool", "population", "best", "optimizer", "growing", "wider", "pruned", "lazy", "error", "sparse", "local",
    "renamed", "dataclass", "scaler", "spectral norm", "counts", "tensor attributes",
]  # fmt: skip


@pytest.fixture(scope="module")
def starter():
    starter = Starter("torch._dynamo", "scipy.sparse", "torch.nn.utils.prune")
    yield starter
    starter.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_ends_as_a_whole_one(kind, starter, tmp_path):
    def ends(directory, kills=""):
        directory.mkdir(exist_ok=True)
        words = [kind, directory, *([kills] if kills else [])]
        said = directory / "said"
        said.mkdir(exist_ok=True)
        process = starter.start(SCRIPT, *words, where=said)
        return process.wait(), process.errors

    assert ends(tmp_path / "whole")[0] == 0
    killed = tmp_path / "killed"
    for expected in (-signal.SIGKILL, -signal.SIGKILL, 0):
        code, errors = ends(killed, "14,32")
        assert code == expected, errors
    assert (killed / "final.json").read_text() == (tmp_path / "whole" / "final.json").read_text()

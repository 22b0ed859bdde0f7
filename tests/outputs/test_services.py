"""Services such as W&B: each process goes on with the run of the first one, or it is said how."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

import perdure


class Service:
    """Stands for W&B's module in this process."""

    def __init__(self, monkeypatch):
        self.module = ModuleType("wandb")
        self.module.run = None
        monkeypatch.setitem(sys.modules, "wandb", self.module)

    def init(self, identity, *, resume=None):
        self.module.run = SimpleNamespace(id=identity, settings=SimpleNamespace(resume=resume), _local_step=0)
        return self.module.run


@pytest.fixture
def wandb(monkeypatch):
    return Service(monkeypatch)


def trained(directory, rows, live):
    with perdure.Run(directory) as run:
        world = perdure.World(x=0)
        found = run.resume(world)
        if found is None:
            live._local_step = rows
            run.checkpoint(world, 1)


def test_the_same_run_is_gone_on_with_at_the_step_of_the_checkpoint(tmp_path, wandb, capsys):
    trained(tmp_path / "run", 40, wandb.init("abc", resume="allow"))
    live = wandb.init("abc", resume="allow")
    trained(tmp_path / "run", 0, live)
    assert live._local_step == 40
    assert "W&B" not in capsys.readouterr().err


def test_another_run_is_named_with_the_line_that_goes_on_with_the_first(tmp_path, wandb, capsys):
    trained(tmp_path / "run", 40, wandb.init("abc"))
    assert 'To go on with the same one: wandb.init(id="abc", resume="allow", ...)' in capsys.readouterr().err
    live = wandb.init("xyz")
    trained(tmp_path / "run", 0, live)
    said = capsys.readouterr().err
    assert "this process writes to the run xyz, the checkpoint is of the run 'abc'" in said
    assert 'wandb.init(id="abc", resume="allow", ...)' in said
    assert live._local_step == 0


@pytest.mark.parametrize("forged", [3, {"W&B": 3}, {"W&B": {"id": 3}}, {"W&B": {"id": "abc", "step": "x"}}])
def test_a_forged_checkpoint_does_no_harm(wandb, forged):
    live = wandb.init("abc")
    perdure.outputs.go_on_with(forged, print)
    assert live._local_step == 0

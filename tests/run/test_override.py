"""Named values win over those of the checkpoint, once; what they led to is state from then on."""

from __future__ import annotations

import os
import re
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import perdure
from perdure.errors import RestoreError
from perdure.state import capture, diff


class Agent:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


def scheduled(lr: float, kind: str = "lambda") -> perdure.World:
    torch.manual_seed(0)
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedulers: dict[str, Callable[[], Any]] = {
        "lambda": lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step),
        "step": lambda: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9),
        "none": lambda: None,
    }
    return perdure.World(model=model, optimizer=optimizer, scheduler=schedulers[kind]())


def work(world: perdure.World) -> None:
    world.optimizer.zero_grad()
    world.model(torch.randn(4, 2)).square().mean().backward()
    world.optimizer.step()
    if world.scheduler is not None:
        world.scheduler.step()


def train(directory: Path, world: perdure.World, total: int, **options: Any) -> perdure.World:
    with perdure.Run(directory, **options) as run:
        for _ in run.steps(world, total, every=1):
            work(world)
    return world


def resumed(directory: Path, world: perdure.World, override: Any) -> perdure.World:
    with perdure.Run(directory, override=override) as run:
        run.resume(world)
    return world


def saved(directory: Path, **parts: Any) -> None:
    with perdure.Run(directory) as run:
        world = perdure.World(**parts)
        run.resume(world)
        run.checkpoint(world, 1)


@pytest.mark.parametrize("kind", ["none", "step"])
def test_a_learning_rate_wins_and_the_training_goes_on_with_it(tmp_path: Path, kind: str, capfd: Any) -> None:
    train(tmp_path / "run", scheduled(0.1, kind), 3)
    by_hand = scheduled(0.1, kind)
    with perdure.Run(tmp_path / "run") as run:
        run.resume(by_hand)
    for group in by_hand.optimizer.param_groups:
        group["lr"] = 1e-3
    for _ in range(3):
        work(by_hand)
    capfd.readouterr()
    world = train(tmp_path / "run", scheduled(0.1, kind), 6, override={"optimizer.param_groups*.lr": 1e-3})
    assert torch.equal(world.model.weight, by_hand.model.weight)
    said = capfd.readouterr().err
    assert re.search(r"overridden.*: optimizer.param_groups\[0\]\['lr'\] 0.\d+ -> 0.001\n", said)
    assert "optimizer.defaults['lr'] (0.1)" in said


def test_what_computes_from_other_numbers_is_told(tmp_path: Path, capfd: Any) -> None:
    """LambdaLR sets the rate anew from its base_lrs, so that an override of `*.lr` alone would be lost at once."""
    train(tmp_path / "run", scheduled(0.1), 2)
    capfd.readouterr()
    world = resumed(tmp_path / "run", scheduled(0.1), {"*.lr": 1e-3})
    (told,) = re.findall("not overridden, though related: (.*)", capfd.readouterr().err)
    assert "scheduler.base_lrs[0] (0.1)" in told
    assert "optimizer.param_groups[0]['initial_lr'] (0.1)" in told
    assert world.optimizer.param_groups[0]["lr"] == 1e-3
    everywhere = {"*.lr": 1e-3, "*.initial_lr": 1e-3, "*.base_lrs[*]": 1e-3, "*._last_lr[*]": 1e-3}
    world = resumed(tmp_path / "run", scheduled(0.1), everywhere)
    assert "related" not in capfd.readouterr().err
    world.optimizer.step()
    world.scheduler.step()
    assert world.optimizer.param_groups[0]["lr"] == 1e-3 * 0.9**3


@pytest.mark.parametrize("moment", [3, 4, 5])
@pytest.mark.parametrize("override", [{"*.lr": 1e-3}, {"*.lr": perdure.FROM_SCRIPT, "model.bias": [0.5]}])
def test_killed_after_an_override_it_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, moment: int, override: Any
) -> None:
    """The same command goes on with what the override led to: the schedule has lowered the rate since."""

    def interrupted() -> None:
        world = scheduled(0.02, "step")
        with perdure.Run(tmp_path / "killed", override=override) as run:
            for step in run.steps(world, 8, every=2):
                if step == moment:
                    os.kill(os.getpid(), signal.SIGKILL)
                work(world)

    for name in ("whole", "killed"):
        train(tmp_path / name, scheduled(0.1, "step"), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = train(tmp_path / "whole", scheduled(0.02, "step"), 8, override=override)
        child = os.fork()
        if not child:
            interrupted()
            os._exit(1)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        again = train(tmp_path / "killed", scheduled(0.02, "step"), 8, override=override)
    assert diff(capture(whole), capture(again), ignore=()) == []
    assert whole.optimizer.param_groups[0]["lr"] < 1e-3 or override["*.lr"] is perdure.FROM_SCRIPT


def test_it_is_applied_once_until_it_is_another_one(tmp_path: Path, capfd: Any) -> None:
    saved(tmp_path / "run", agent=Agent(lr=0.1))

    def lr(override: Any, script: float = 0.1) -> float:
        with warnings.catch_warnings(), perdure.Run(tmp_path / "run", override=override) as run:
            warnings.simplefilter("ignore")
            world = perdure.World(agent=Agent(lr=script))
            run.resume(world)
            found: float = world.agent.lr
            world.agent.lr *= 0.5
            run.checkpoint(world, 1)
        return found

    assert lr({"*.lr": 0.8}) == 0.8
    assert lr({"*.lr": 0.8}) == 0.4
    assert lr({"*.lr": 0.6}) == 0.6
    assert lr({"*.lr": 0.6, "agent.lr": 0.9}) == 0.9  # the first one is part of the run already
    assert lr(None) == 0.45
    assert lr({"*.lr": 0.8}) == 0.8
    assert lr({"*.lr": perdure.FROM_SCRIPT}) == 0.1
    assert lr({"*.lr": perdure.FROM_SCRIPT}) == 0.05
    assert lr({"*.lr": perdure.FROM_SCRIPT}, script=0.2) == 0.2
    capfd.readouterr()


def test_a_run_that_begins_has_nothing_to_override(tmp_path: Path, capfd: Any) -> None:
    for expected in (0.1, 0.05):
        with perdure.Run(tmp_path / "run", override={"agent.lr": 0.8}) as run:
            world = perdure.World(agent=Agent(lr=0.1))
            run.resume(world)
            assert world.agent.lr == expected
            world.agent.lr *= 0.5
            run.checkpoint(world, 1)
        said = capfd.readouterr().err
        assert ("there is nothing to override" in said) == (expected == 0.1)


def double(x: float) -> float:
    return 2 * x


def half(x: float) -> float:
    return x / 2


def test_values_of_all_kinds(tmp_path: Path) -> None:
    def build(new: bool = False) -> dict[str, Any]:
        shared = [1, 2]
        agent = Agent(
            rate=np.float32(0.5),
            flag=False,
            name="a",
            none=3 if new else None,
            betas=(0.9, 0.99),
            sizes=shared,
            again=shared,
            table={"x": 1, ("k", 2): 2.0},
            weights=np.zeros(3, np.float32),
            scale=torch.ones((), dtype=torch.float64),
            function=half if new else double,
            code=(lambda x: x - 1) if new else (lambda x: x + 1),
            many=list(range(30)),
        )
        return {"agent": agent, "lr": 0.1, "same": agent}

    saved(tmp_path / "run", **build())
    override = {
        "agent.rate": 0.25,
        "*.flag": True,
        "agent.n?me": "b",
        "agent.none": 7,
        "agent.betas": (0.5, 0.75),
        "agent.sizes": [5],
        "agent.table['x']": 9,
        "agent.weights": [1, 2, 3],
        "agent.scale": 0.1,
        "agent.function": perdure.FROM_SCRIPT,
        "agent.code": perdure.FROM_SCRIPT,
        "agent.many": [3.0],
        "lr": 1,
    }  # fmt: skip
    with warnings.catch_warnings(), perdure.Run(tmp_path / "run", override=override) as run:
        warnings.simplefilter("ignore")
        world = perdure.World(**build(new=True))
        run.resume(world)
        run.checkpoint(world, 2)
    # It is part of the state from now on.
    found = perdure.World(**build(new=True))
    with perdure.Run(tmp_path / "run") as run:
        run.resume(found)
    assert diff(capture(world), capture(found), ignore=()) == []
    agent = found.agent
    world = found
    assert world.same is agent
    assert type(agent.rate) is np.float32
    assert (agent.rate, agent.flag, agent.name, agent.none, agent.betas) == (0.25, True, "b", 7, (0.5, 0.75))
    assert agent.sizes == [5]
    assert agent.again is agent.sizes
    assert agent.table == {"x": 9, ("k", 2): 2.0}
    assert agent.weights.tolist() == [1, 2, 3]
    assert float(agent.scale) == 0.1
    assert agent.function is half
    assert agent.code(1) == 0
    assert agent.many == [3.0]
    assert (type(world.lr), world.lr) == (float, 1.0)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"agnt.lr": 1.0}, r"'agnt.lr' matches no path .*Did you mean 'agent.lr'"),
        ({"*.learning": 1.0}, r"matches no path .* lists the paths"),
        ({"*.beta": 1.0}, r"matches no path .*Did you mean 'agent.betas"),
        ({"agent.lr": "fast"}, r"agent.lr: expected a value of type float as .* \(0.1\), found 'fast' \(str"),
        ({"agent.n": 1.5}, r"agent.n: expected a value of type int .*found 1.5 \(float\)"),
        ({"agent.n": True}, r"agent.n: expected a value of type int"),
        ({"agent.weights": [1.0, 2.0]}, r"agent.weights: expected the shape \[3\] .*found \[2\]"),
        ({"agent.ints": [0.5, 0.5]}, r"agent.ints: expected int64, found float64"),
        ({"model.weight": torch.zeros(2, 2)}, r"model.weight: expected the shape \[1, 2\]"),
        ({"model.weight": "x"}, r"model.weight: expected the shape"),
        ({"agent.betas": [0.9, 0.9]}, r"agent.betas: expected a tuple .*found a list \(list\)"),
        ({"agent": 3}, r"agent: the checkpoint has a Agent, .* Name the values in it: 'agent.\*'"),
        ({"agent.function": half}, r"agent.function: .*override with perdure.FROM_SCRIPT"),
        ({"agent.lr": object()}, r"agent.lr: a object is no value"),
        ({"agent.none": 5}, r"agent.none: the checkpoint has None, and so has the script"),
        ({"agent.gone": perdure.FROM_SCRIPT}, r"agent.gone: perdure.FROM_SCRIPT: the script has nothing there"),
        ({"agent.weights": perdure.FROM_SCRIPT}, r"agent.weights: the checkpoint has .*\[3\], the script .*\[4\]"),
        ({"*.generator.*": 3}, r"matches no|expected"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_an_error_before_anything_is_changed(
    tmp_path: Path, override: Any, expected: str
) -> None:
    def build(width: int = 3) -> perdure.World:
        agent = Agent(
            lr=0.1,
            n=1,
            none=None,
            betas=(0.9, 0.9),
            weights=np.zeros(width),
            ints=np.zeros(2, int),
            function=double,
        )
        if width == 3:
            agent.gone = 1.5
        return perdure.World(agent=agent, model=torch.nn.Linear(2, 1))

    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(build(), 1)
    world = build(4 if perdure.FROM_SCRIPT in override.values() else 3)
    before = world.model.weight.detach().clone()
    with perdure.Run(tmp_path / "run", override={"*.lr": 0.2, **override}, strict=False) as run:
        with pytest.raises(RestoreError, match=f"nothing was changed:\n.*{expected}"):
            run.resume(world)
    assert torch.equal(world.model.weight, before)
    assert world.agent.lr == 0.1


def test_it_is_said_how_an_override_is_written(tmp_path: Path) -> None:
    for wrong in (["*.lr"], {1: 2}, "*.lr=3"):
        with pytest.raises(TypeError, match=r"perdure\.FROM_SCRIPT"):
            perdure.Run(tmp_path / "run", override=wrong)  # type: ignore[arg-type]

"""Functions that no fresh process could have are told when the checkpoint is taken; each remedy is followed."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import perdure
from perdure.errors import ChangedScriptWarning, NotRestorableError
from perdure.state import _references


def sparse(x: float) -> float:
    return 5.0 * x


class Counter:
    def __init__(self) -> None:
        self.n = 0


class Agent:
    def __init__(self) -> None:
        self.fn: Any = abs
        self.later: Any = None
        self.mode: Any = "text"
        self.hooks: list[Any] = []
        self.counter = Counter()
        self.backend = math

    def step(self) -> None:
        self.fn = sparse


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_references, "_allowed", [])


def run(directory: Path, change: Callable[[Agent], None]) -> Agent:
    """Train one step that changes the agent, unless the run is resumed; the agent as it is then."""
    world = perdure.World(agent=Agent())
    with perdure.Run(directory) as run:
        for _ in run.steps(world, 1, every=1):
            change(world.agent)
    agent: Agent = world.agent
    return agent


def sets(name: str, make: Callable[[Agent], Any]) -> Callable[[Agent], None]:
    return lambda agent: setattr(agent, name, make(agent))


def uses_another(agent: Agent) -> Any:
    seen = Counter()

    def scaled(x: float) -> float:
        return x * seen.n

    return scaled


def uses_an_object(agent: Agent) -> Any:
    counter = agent.counter

    def scaled(x: float) -> float:
        return x * counter.n

    return scaled


#: What cannot be restored, what is said of it, and what is to be done: a definition to allow, or another way to do it.
REFUSED: dict[str, tuple[Callable[[Agent], None], str, Any]] = {
    "where the script has nothing": (sets("later", lambda agent: sparse), "agent.later", sparse),
    "where the script has a text": (sets("mode", lambda agent: sparse), "agent.mode", sparse),
    "a method where the script has nothing": (sets("later", lambda agent: agent.step), "agent.later", Agent.step),
    "a partial where the script has nothing": (
        sets("later", lambda agent: functools.partial(sparse, 2.0)), "agent.later", sparse
    ),
    "in an empty list": (lambda agent: agent.hooks.append(sparse), r"agent.hooks\[0\]", sparse),
    "of an installed package": (sets("fn", lambda agent: torch.tanh), "agent.fn", torch.tanh),
    "a class of an installed package": (sets("fn", lambda agent: torch.nn.Tanh), "agent.fn", torch.nn.Tanh),
    "a ufunc": (sets("fn", lambda agent: np.tanh), "agent.fn", np.tanh),
    "a module": (sets("backend", lambda agent: np), "agent.backend", np),
    "with a variable that is not of the world": (sets("fn", uses_another), "'seen'", sets("fn", uses_an_object)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_told_and_the_remedy_makes_it_exact(name: str, tmp_path: Path) -> None:
    change, path, remedy = REFUSED[name]
    with pytest.raises(NotRestorableError, match=path) as told:
        run(tmp_path / "refused", change)
    if isinstance(remedy, type(lambda: None)) and remedy.__qualname__.startswith("sets"):
        change = remedy
    else:
        last = remedy.__name__.rpartition(".")[2]
        assert f"perdure.allow({last})" in str(told.value)
        perdure.allow(remedy)
    trained, resumed = run(tmp_path / "run", change), run(tmp_path / "run", change)
    for name, value in vars(trained).items():
        assert seen(getattr(resumed, name)) == seen(value), name


def seen(value: Any) -> Any:
    if isinstance(value, functools.partial):
        return value.func, value.args
    if "uses_an_object" in getattr(value, "__qualname__", ""):
        return value(3.0)
    if isinstance(value, Counter):
        return value.n
    function = getattr(value, "__func__", None)
    return value if function is None else function


def test_a_function_of_the_script_itself_needs_no_word(tmp_path: Path) -> None:
    run(tmp_path / "run", Agent.step)
    assert run(tmp_path / "run", Agent.step).fn is sparse


def schedule(kind: str) -> Any:
    """What an edited script builds: the same lambda with other code, or another variable around it."""
    w = 2.0
    if kind == "first":
        return lambda x: w * x
    if kind == "edited":
        return lambda x: w * x + 1.0
    return lambda x: 3.0 * x


@pytest.mark.parametrize("kind", ["edited", "without variables"])
def test_an_edited_lambda_that_the_training_left_alone_is_that_of_the_script(
    kind: str, tmp_path: Path
) -> None:
    def train(kind: str, steps: int) -> Agent:
        world = perdure.World(agent=Agent())
        world.agent.fn = schedule(kind)
        world.agent.later = [schedule(kind)]
        with perdure.Run(tmp_path / "run") as run:
            for _ in run.steps(world, steps, every=1):
                world.agent.counter.n += 1
        agent: Agent = world.agent
        return agent

    train("first", 2)
    with pytest.warns(
        ChangedScriptWarning, match=r"edited code is in force(.|\n)*  agent.fn: .*\n  agent.later\[0\]: "
    ):
        again = train(kind, 4)
    assert again.counter.n == 4
    assert again.fn(10.0) == schedule(kind)(10.0)
    assert again.later[0](10.0) == schedule(kind)(10.0)

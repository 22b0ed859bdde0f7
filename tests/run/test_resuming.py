"""What resuming costs: how often the world is walked, who is asked how often, and what the next checkpoint writes."""

from __future__ import annotations

import collections
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import perdure
from perdure.environments import Resumable
from perdure.environments.subprocess import _trainer_side
from perdure.snapshot import _stager
from perdure.state import Adapter, Walker, capture, diff, register_adapter
from perdure.store import Store

Counts = collections.Counter[str]


class Native:
    """Its state is seen by a handler only."""

    def __init__(self) -> None:
        self.number = 0


class Fielded:
    """Walked by the fields that an adapter gives."""

    def __init__(self, number: int = 0) -> None:
        self.number = number


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """Counts walks, calls of a handler and of an adapter, and questions to workers."""
    found: Counts = collections.Counter()

    def capture_native(native: Native) -> int:
        found["handler: capture"] += 1
        return native.number

    def restore_native(native: Native, number: int) -> None:
        found["handler: restore"] += 1
        native.number = number

    def fields(fielded: Fielded) -> dict[str, Any]:
        found["adapter: fields"] += 1
        return dict(vars(fielded))

    def check(fielded: Fielded, nodes: Any) -> list[tuple[str, str]]:
        found["adapter: check"] += 1
        return []

    perdure.register(Native, capture=capture_native, restore=restore_native)
    register_adapter(Fielded, Adapter(fields, setattr, check=check))
    walk, ask = Walker.parts, _trainer_side.ask

    def counted_walk(walker: Walker, parts: Any, *last: Any) -> Any:
        found["walks"] += 1
        return walk(walker, parts, *last)

    def counted_ask(workers: Any, commands: Any, *rest: Any) -> Any:
        for command in commands:
            # Tianshou's workers get the words of a question alone, others behind a method's name.
            words = command[1] if isinstance(command[1], dict) else (command[1] or [None])[-1]
            request = words.get("request") if isinstance(words, dict) else None
            found[f"worker: {request or 'other'}"] += 1
        return ask(workers, commands, *rest)

    monkeypatch.setattr(Walker, "parts", counted_walk)
    monkeypatch.setattr(_trainer_side, "ask", counted_ask)
    return found


def test_one_walk_over_the_world(tmp_path: Path, counts: Counts) -> None:
    def build() -> perdure.World:
        agent = torch.nn.Linear(2, 1)
        return perdure.World(
            agent=agent, optimizer=torch.optim.Adam(agent.parameters()), native=Native(), fielded=Fielded()
        )

    world = build()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        assert counts == {"walks": 1, "handler: capture": 1, "adapter: fields": 1}
        world.native.number = world.fielded.number = 5
        counts.clear()
        run.checkpoint(world, 1)
        assert counts == {"walks": 1, "handler: capture": 1, "adapter: fields": 1}
    again = build()
    counts.clear()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(again)
    assert counts == {
        "walks": 1,
        "handler: capture": 3,  # once more before and after it is restored, to see what that put back
        "handler: restore": 1,
        "adapter: fields": 1,
        "adapter: check": 1,
    }
    assert (again.native.number, again.fielded.number) == (5, 5)


def test_nodes_that_are_matched_again_cost_no_other_walk(counts: Counts) -> None:
    """The name `current` has moved on since the script began, so two saved objects ask for one live object."""

    def build() -> dict[str, Any]:
        objects = [Fielded(), Fielded(), Fielded()]
        return {"world": {"current": objects[0], "objects": objects}}

    saved, live = build(), build()
    saved["world"]["current"] = saved["world"]["objects"][2]
    for number, each in enumerate(saved["world"]["objects"]):
        each.number = number
    state = capture(saved)
    objects = list(live["world"]["objects"])
    counts.clear()
    assert perdure.state.restore(state, live).exact
    assert live["world"]["current"] is objects[2]
    assert [each.number for each in objects] == [0, 1, 2]
    assert (counts["walks"], counts["adapter: fields"]) == (1, 3)
    # Each of the pairs that were tried, once.
    assert counts["adapter: check"] <= 5


def environments(kind: str, n: int) -> Any:
    makers = [lambda: Resumable(gym.make("CartPole-v1"))] * n
    if kind == "gymnasium":
        return gym.vector.AsyncVectorEnv(makers)
    if kind == "sb3":
        from stable_baselines3.common.vec_env import SubprocVecEnv

        return SubprocVecEnv(makers, start_method="fork")
    from tianshou.env import SubprocVectorEnv

    return SubprocVectorEnv(makers, context="fork")


@pytest.mark.parametrize(("kind", "settling"), [("gymnasium", 2), ("sb3", 1), ("tianshou", 0)])
def test_each_worker_is_asked_once_for_what_it_has(
    tmp_path: Path, counts: Counts, kind: str, settling: int
) -> None:
    n = 3
    envs = environments(kind, n)
    with perdure.Run(tmp_path / "run") as run:
        envs.reset()
        world = perdure.World(envs=envs)
        run.resume(world)
        # One more question, once: whether the environments are wrapped.
        assert counts == {"walks": 1, "worker: capture": n, "worker: other": n}
        envs.step(np.zeros(n, np.int64))
        counts.clear()
        run.checkpoint(world, 1)
        assert counts == {"walks": 1, "worker: capture": n}
    expected = envs.step(np.zeros(n, np.int64))[0]
    envs.close()
    envs = environments(kind, n)
    envs.reset()
    again = perdure.World(envs=envs)
    counts.clear()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(again)
    assert counts == {
        "walks": 1,
        "worker: capture": n,
        "worker: check": n,
        "worker: restore": n,
        "worker: other": n * (1 + settling),
    }
    assert np.array_equal(envs.step(np.zeros(n, np.int64))[0], expected)
    envs.close()


def test_a_worker_restores_what_it_has_checked(counts: Counts) -> None:
    wrapped, saved_from = Resumable(gym.make("CartPole-v1")), Resumable(gym.make("CartPole-v1"))
    for seed, each in enumerate((wrapped, saved_from)):
        each.reset(seed=seed)
    content = saved_from.perdure_answer("capture")[1]

    def state(env: Any) -> Any:
        return tuple(env.unwrapped.state)

    counts.clear()
    before = state(wrapped)
    assert wrapped.perdure_answer("check", content) == ("done", [])
    assert state(wrapped) == before
    assert wrapped.perdure_answer("restore", content) == ("done", [])
    assert state(wrapped) == state(saved_from)
    assert counts["walks"] == 1
    # What was matched is forgotten as soon as something else happens to the environment.
    for between in (
        lambda: wrapped.step(0),
        lambda: wrapped.reset(),
        lambda: wrapped.perdure_answer("capture"),
        lambda: saved_from.perdure_answer("check", content),
    ):
        wrapped.perdure_answer("check", content)
        between()
        counts.clear()
        assert wrapped.perdure_answer("restore", content) == ("done", [])
        assert state(wrapped) == state(saved_from)
        assert counts["walks"] == 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of some kilobytes are treated like large ones."""
    monkeypatch.setattr(_stager, "SMALL", 1 << 10)
    monkeypatch.setattr(_stager, "LEAST_CHUNK", 1 << 8)


class Buffer:
    """A replay buffer."""

    def __init__(self, rows: int) -> None:
        self.rows, self.position, self.total = rows, 0, 0
        self.data = np.zeros((rows, 16), np.float32)

    def add(self, row: np.ndarray) -> None:
        self.data[self.position] = row
        self.position = (self.position + 1) % self.rows
        self.total += 1


perdure.register_rows(Buffer, ["data"], rows="rows", position="position", written="total")


def test_the_first_checkpoint_after_resuming_writes_only_what_changed(tmp_path: Path, small: None) -> None:
    """Whatever the arrays are: filled in place, of other memory layout, made by restoring, or views of each other."""
    rng = np.random.default_rng(0)

    def build() -> perdure.World:
        return perdure.World(
            buffer=Buffer(4_000),
            table=np.zeros((1_000, 64)),
            turned=np.zeros((64, 1_000)),
            tensor=torch.zeros(1_000, 64),
        )

    world = build()
    with perdure.Run(tmp_path / "run", compression="none") as run:
        run.resume(world)
        for _ in range(500):
            world.buffer.add(rng.random(16, dtype=np.float32))
        world.table[:] = rng.random(world.table.shape)
        world.turned = np.asfortranarray(rng.random(world.turned.shape))
        world.tensor += torch.from_numpy(rng.random((1_000, 64)))
        # Made while running, so that restoring has to make it; and a view.
        world.grown = rng.random((1_000, 64))
        world.view = world.grown[100:200]
        world.pieces = (memory := rng.random(50_000))[:30_000], memory[20_000:]
        del memory
        first = run.checkpoint(world, 1)
    again = build()
    with perdure.Run(tmp_path / "run", compression="none") as run:
        run.resume(again)
        again.buffer.add(rng.random(16, dtype=np.float32))
        again.table[0, 0] += 1
        info = run.checkpoint(again, 2)
        assert info is not None
        assert first is not None

        def written(number: int) -> int:
            return sum(file.stat().st_size for file in (tmp_path / "run/packs").glob(f"{number:08d}*"))

        # The table, which is one chunk; what does not lie row after row; a few rows of the buffer; what is small.
        assert written(info.number) < again.table.nbytes + again.turned.nbytes + 20_000
        assert written(first.number) > 2_400_000
    with Store.open(tmp_path / "run") as store:
        found = store.latest()
        assert found is not None
        assert not diff(found.state, capture(again), ignore=("run*",))


def test_a_cursor_is_believed_after_resuming_only_as_far_as_before(tmp_path: Path, small: None) -> None:
    """Rows that are written beside the cursor right after resuming are found out, as they are at any other time."""
    rng = np.random.default_rng(0)
    world = perdure.World(buffer=Buffer(2_000))
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        for _ in range(100):
            world.buffer.add(rng.random(16, dtype=np.float32))
        run.checkpoint(world, 1)
    again = perdure.World(buffer=Buffer(2_000))
    with perdure.Run(tmp_path / "run") as run:
        run.resume(again)
        # A whole lap and a half, which no call of the run has seen.
        for _ in range(3_000):
            again.buffer.add(rng.random(16, dtype=np.float32))
        run.checkpoint(again, 2)
    with Store.open(tmp_path / "run") as store:
        found = store.latest()
        assert found is not None
        assert not diff(found.state, capture(again), ignore=("run*",))

"""Whether environments go on exactly in a fresh process. Run as a program, once to save and once to go on:

    python exactness.py save DIRECTORY CASE...
    python exactness.py go-on DIRECTORY CASE...

The first goes into the middle of a later episode, writes a checkpoint, goes on, and notes a digest of every step; the
second builds the same environments, reads the checkpoints and does the same steps. The notes must be equal.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
from environment_cases import CASES

import perdure

STEPS = int(os.environ.get("EXACTNESS_STEPS", "500"))


def seen(value: Any) -> Any:
    """What an environment said, as text that differs in any bit where the value does; without clocks."""
    if isinstance(value, dict):
        return sorted((repr(key), seen(each)) for key, each in value.items() if key not in ("t", "_t"))
    if hasattr(value, "_asdict"):
        return seen(value._asdict())
    if isinstance(value, tuple | list):
        return [seen(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        content = np.asarray(value)
        if content.dtype == object:
            return [seen(each) for each in content.ravel().tolist()]
        return [str(content.dtype), content.shape, hashlib.sha256(content.tobytes()).hexdigest()]
    if isinstance(value, float):
        return value.hex()
    return [type(value).__name__, str(value)]


class Driver:
    """Steps one environment with actions drawn from a generator of its own; resets it where an episode ends."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.random = np.random.default_rng(3)
        self.resets = 0
        self.steps_of_episode = 0

    def start(self, seed: int) -> Any:
        return self.env.reset(seed=seed)

    def actions(self, count: int) -> Iterator[Any]:
        for _ in range(count):
            yield self.step()

    def again(self) -> Any:
        self.resets += 1
        self.steps_of_episode = 0
        return self.env.reset()

    def sample(self, space: Any) -> Any:
        # Not from the space's own generator, which belongs to the environment: it is compared, not steered by.
        space.seed(int(self.random.integers(1 << 31)))
        return space.sample()

    def step(self) -> Any:
        raise NotImplementedError


class Gymnasium(Driver):
    def step(self) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(self.sample(self.env.action_space))
        self.steps_of_episode += 1
        said = [obs, reward, terminated, truncated, info]
        if terminated or truncated:
            said.append(self.again())
        return said


class Parallel(Driver):
    def step(self) -> Any:
        actions = {agent: self.sample(self.env.action_space(agent)) for agent in self.env.agents}
        said: list[Any] = list(self.env.step(actions))
        self.steps_of_episode += 1
        if not self.env.agents:
            said.append(self.again())
        return said


class Turns(Driver):
    def step(self) -> Any:
        env = self.env
        agent = env.agent_selection
        obs, reward, terminated, truncated, info = env.last()
        if terminated or truncated:
            action = None
        else:
            mask = obs.get("action_mask") if isinstance(obs, dict) else info.get("action_mask")
            legal = None if mask is None else np.flatnonzero(mask)
            action = (
                self.sample(env.action_space(agent))
                if legal is None or not len(legal)
                else int(self.random.choice(legal))
            )
        env.step(action)
        self.steps_of_episode += 1
        said = [agent, obs, reward, terminated, truncated, info, dict(env.rewards)]
        if not env.agents:
            said.append(self.again())
        return said


class DeepMind(Driver):
    def start(self, seed: int) -> Any:
        return self.env.reset()

    def step(self) -> Any:
        spec = self.env.action_spec()
        self.steps_of_episode += 1
        said = self.env.step(self.random.uniform(spec.minimum, spec.maximum, spec.shape))
        if said.last():
            return [said, self.again()]
        return [said]


def driver(env: Any) -> Driver:
    if hasattr(env, "action_spec"):
        return DeepMind(env)
    if hasattr(env, "agent_iter"):
        return Turns(env)
    return Parallel(env) if hasattr(env, "possible_agents") else Gymnasium(env)


def advance(it: Driver) -> None:
    """Into the middle of a later episode."""
    for _ in it.actions(20):
        pass
    for _ in it.actions(1_500):
        if it.resets > 0:
            break
    for _ in it.actions(7):
        pass


def digests(it: Driver) -> list[str]:
    found = [hashlib.sha256(repr(seen(said)).encode()).hexdigest()[:16] for said in it.actions(STEPS)]
    generator = getattr(getattr(it.env, "unwrapped", it.env), "np_random", None)
    if generator is not None:
        found.append(repr(generator.integers(1 << 62)))
    return found


def build(name: str, seed: int) -> Driver:
    it = driver(CASES[name]())
    it.start(seed)
    return it


def _size(directory: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def save(name: str, directory: pathlib.Path) -> dict[str, Any]:
    it = build(name, 7)
    advance(it)
    where = directory / name.replace("/", "-").replace(" ", "_")
    run = perdure.Run(where, keep=10)
    world = perdure.World(env=it.env, driver=it.random)
    at = [it.resets, it.steps_of_episode]
    begun = time.perf_counter()
    state = perdure.state.capture({"env": it.env})
    first = time.perf_counter() - begun
    times = []
    for _ in range(5):
        begun = time.perf_counter()
        state = perdure.state.capture({"env": it.env})
        times.append(time.perf_counter() - begun)
    run.checkpoint(world, 1)
    whole = _size(where)
    for _ in it.actions(3):
        pass
    run.checkpoint(world, 2)
    added = _size(where) - whole
    run.close() if hasattr(run, "close") else None
    before = it.resets
    found = digests(it)
    return {
        "at": at,
        "leaves": len(state),
        "first_ms": round(first * 1e3, 2),
        "capture_ms": round(min(times) * 1e3, 2),
        "first_bytes": whole,
        "added_bytes": added,
        "resets": it.resets - before,
        "digests": found,
    }


def go_on(name: str, directory: pathlib.Path) -> dict[str, Any]:
    it = build(name, 8)
    for _ in it.actions(3):
        pass
    run = perdure.Run(directory / name.replace("/", "-").replace(" ", "_"))
    begun = time.perf_counter()
    run.resume(perdure.World(env=it.env, driver=it.random))
    took = time.perf_counter() - begun
    return {"restore_ms": round(took * 1e3, 2), "digests": digests(it)}


def main(verb: str, directory: str, *names: str) -> None:
    root = pathlib.Path(directory)
    for name in names:
        begun = time.process_time()
        try:
            found = (save if verb == "save" else go_on)(name, root)
        except Exception as error:
            traceback.print_exc()
            found = {"error": f"{type(error).__name__}: {error}"}
        found["cpu_s"] = round(time.process_time() - begun, 2)
        where = root / f"{verb} {name.replace('/', '-')}.json"
        where.write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

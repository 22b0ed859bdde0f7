"""The subprocess of a check: builds the environment, runs it, captures or restores it, and records all it returns.

`python -m perdure.check_env._child JOB` reads a job (JSON) and writes a record, one line of JSON for each event, at
once: if the process dies, what it wrote before tells how far it came.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import statistics
import sys
import time
import traceback
from typing import Any

import numpy as np
import torch

from perdure import World, tree
from perdure.check_env import _untracked_state
from perdure.check_env._driver import Driver, Fields, drive
from perdure.check_env._env_spec import EnvSpec
from perdure.check_env._outputs import leaves
from perdure.errors import PerdureError
from perdure.state import capture, diff, restore
from perdure.store import Store
from perdure.tree import State

#: A capture that takes less than so many seconds is timed several times.
_QUICK = 0.05
_REPETITIONS = 5
_WARM_STEPS = 100
_MOST_PATHS = 12


class _Child:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.file = open(job["record"], "w")  # noqa: SIM115 - open for as long as the process lives
        self.spec = EnvSpec.load(job["spec"])
        self.seed: int = job["seed"]

    def write(self, kind: str, **fields: Any) -> None:
        self.file.write(json.dumps({"kind": kind, **fields}) + "\n")
        # The next thing that happens may be the end of this process.
        self.file.flush()

    def run(self) -> None:
        roles = {
            "reference": self._reference,
            "captured": self._captured,
            "restored": self._restored,
            "explain": self._explain,
        }
        try:
            roles[self.job["role"]]()
        except Exception as error:
            self.write(
                "failed",
                error=type(error).__name__,
                message=str(error),
                trace=traceback.format_exc(limit=-4),
                # These say what is missing; where in Gymnasium they were raised tells nothing more.
                expected=isinstance(error, PerdureError | ImportError)
                or type(error).__module__ == "gymnasium.error",
            )
            raise SystemExit(3) from error

    # -- the roles -------------------------------------------------------------------------------------------

    def _reference(self) -> None:
        """Run to the end, and plan where to capture: in mid-episode, and right after an end."""
        driver = self._begin(self.seed)
        end = self.job["end"]
        episodes: list[tuple[int, int, bool]] = []
        first = 0
        while end is None or driver.t < end:
            if end is None and driver.t >= _WARM_STEPS and len(episodes) >= 2:
                end = self._plan(episodes, driver.t)
                continue
            self._step(driver)
            if driver.ended() or driver.steps >= driver.cut:
                episodes.append((first, driver.t, driver.ended()))
                first = driver.t
        self._finish(driver)

    def _plan(self, episodes: list[tuple[int, int, bool]], now: int) -> int:
        later = episodes[1:]
        first, last, _ = max(later, key=lambda each: each[1] - each[0])
        ends = [each for each in later if each[2]] or later
        done = next((end for begin, end, _ in ends if end >= last), ends[-1][1])
        middle = first + max(1, (last - first) // 2) if last - first > 1 else first
        early = max(first, middle - 10) if middle > first else max(0, first - 1)
        # Not before the present step: all processes end at the same one.
        end = max(now, max(middle, done) + int(self.job["steps"]))
        self.write(
            "plan", early=early, middle=middle, done=done, end=end, natural=any(e[2] for e in episodes)
        )
        return end

    def _captured(self) -> None:
        """Run in the same way, and capture three times: for a first checkpoint, and at both points of the plan."""
        driver = self._begin(self.seed)
        before = _untracked_state.places(driver.env)
        with Store.open(self.job["store"], write=True) as store:
            while driver.t < self.job["end"]:
                for name, at in self.job["points"].items():
                    if at == driver.t:
                        self._checkpoint(driver, store, name)
                self._step(driver)
        self.write("untracked", changed=_untracked_state.changed(before, _untracked_state.places(driver.env)))
        self._finish(driver)

    def _checkpoint(self, driver: Driver, store: Store, point: str) -> None:
        directory = self.job["store"]
        times: list[float] = []
        while not times or (times[0] < _QUICK and len(times) < _REPETITIONS):
            begun = time.perf_counter()
            state = capture(World(env=driver.env))
            times.append(time.perf_counter() - begun)
        size = _size(directory)
        begun = time.perf_counter()
        number = store.commit(state, step=driver.t).info.number
        self.write(
            "captured",
            point=point,
            number=number,
            position=driver.position(),
            capture_ms=1000 * statistics.median(times),
            commit_ms=1000 * (time.perf_counter() - begun),
            bytes=_size(directory) - size,
            bounded=_has_bounded_replay(driver.env),
            handled=_handled(state),
        )

    def _restored(self) -> None:
        """Restore into an environment with another seed and another history, and run to the end."""
        driver = self._with_other_history()
        self._restore(driver)
        while driver.t < self.job["end"]:
            self._step(driver)
        self._finish(driver)

    def _explain(self) -> None:
        """Restore, and compare at once what is there with what was captured."""
        driver = self._with_other_history()
        self._restore(driver)
        with Store.open(self.job["store"]) as store:
            saved = store.read(self.job["number"]).state
            found = diff(saved, capture(World(env=driver.env)))
        self.write("explained", differences=[str(each) for each in found[:_MOST_PATHS]], count=len(found))

    # -- what they share -------------------------------------------------------------------------------------

    def _begin(self, seed: int) -> Driver:
        # Not after the generators were seeded: what is imported may draw from them.
        located = self.spec.located()
        if located is not self.spec:
            self.write("registered", by=located.imports[-1])
            self.spec = located
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        driver = drive(self.spec.make(seed), self.seed, self.job["cut"])
        self._record("start", driver.start(seed))
        return driver

    def _with_other_history(self) -> Driver:
        driver = self._begin(self.seed + 1)
        for _ in range(self.job["steps_before"]):
            driver.advance()
        return driver

    def _restore(self, driver: Driver) -> None:
        with Store.open(self.job["store"]) as store:
            saved = store.read(self.job["number"]).state
            world = World(env=driver.env)
            begun = time.perf_counter()
            restore(saved, world)
            took = 1000 * (time.perf_counter() - begun)
        driver.env = world.env
        driver.go_to(self.job["position"])
        self.write("restored", restore_ms=took)

    def _step(self, driver: Driver) -> None:
        returned = driver.advance()
        self._record("step", returned, t=driver.t, episode=driver.episode)

    def _record(self, kind: str, returned: Fields, **position: int) -> None:
        self.write(kind, **position, leaves=leaves(returned, self.job["ignore"]))

    def _finish(self, driver: Driver) -> None:
        """Record the state at the end, and only then what all generators draw next."""
        found: list[str] = []
        try:
            if self.job["final"]:
                found = self._compare_end(capture(World(env=driver.env)), driver.t)
        except PerdureError as error:
            self.write("final refused", message=str(error))
        process = {
            "random": random.random(),
            "numpy.random": float(np.random.random()),
            "torch.rand": float(torch.rand(())),
        }
        self._record("end", {**driver.draw(), **process})
        self.write("finished", differences=found[:_MOST_PATHS], count=len(found))
        try:
            driver.close()
        except Exception:
            # It was of use until here.
            self.write("close failed", trace=traceback.format_exc(limit=-2))

    def _compare_end(self, state: State, step: int) -> list[str]:
        """How the state at the end differs from those of the uninterrupted runs; these only store theirs."""
        if self.job["role"] != "restored":
            with Store.open(self.job["store"], write=True) as store:
                store.commit(state, step=step)
            return []
        with Store.open(self.job["store"]) as captured, Store.open(self.job["reference"]) as reference:
            end = _last(captured)
            # What differs between two runs without any restoring says nothing about it.
            noise = {each.path for each in diff(end, _last(reference))}
            return [str(each) for each in diff(end, state) if each.path not in noise]


def _last(store: Store) -> State:
    return store.read(max(each.number for each in store.checkpoints())).state


def _size(directory: str) -> int:
    return sum(
        os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(directory) for name in names
    )


def _has_bounded_replay(env: Any) -> bool:
    """Whether it contains a pool that is replaced by a new one after a number of steps."""
    while env is not None:
        if vars(env).get("max_replay_steps"):
            return True
        env = vars(env).get("env")
    return False


#: Classes that a handler captures in every environment, which says nothing about this one.
_GENERAL = ("numpy", "random", "torch", "gymnasium.spaces", "builtins", "perdure:Generators")


def _handled(state: State) -> list[str]:
    """The classes of the environment that were captured by a handler."""
    customs = (node for _, node in tree.walk(state.root) if isinstance(node, tree.Custom))
    return list(dict.fromkeys(node.type for node in customs if not node.type.startswith(_GENERAL)))


def _main() -> None:
    faulthandler.enable()
    with open(sys.argv[1]) as file:
        job = json.load(file)
    sys.path[:] = job["path"]
    _Child(job).run()


if __name__ == "__main__":
    _main()

"""What a fresh process does for a check: build the environment, go so far, capture or restore, write down all it saw.

`python -m perdure.check_env._child JOB` reads a job (JSON) and writes a record, one line of JSON for each
thing that happened, at once: what was written before the process died tells how far it came.
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

from perdure.check_env._env_spec import Subject
from perdure.errors import PerdureError

_QUICK = 0.05
_AGAIN = 4
_WARM_STEPS = 100
_MOST_PATHS = 12


class _Probe:
    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.file = open(job["record"], "w")  # noqa: SIM115 - open for as long as the process lives
        self.subject = Subject.load(job["subject"])
        self.seed: int = job["seed"]

    def write(self, kind: str, **fields: Any) -> None:
        self.file.write(json.dumps({"kind": kind, **fields}) + "\n")
        # Whatever happens next: it may be the end of this process.
        self.file.flush()

    def run(self) -> None:
        try:
            getattr(self, f"_{self.job['role']}")()
        except Exception as error:
            self.write(
                "failed",
                error=type(error).__name__,
                message=str(error),
                trace=traceback.format_exc(limit=-4),
                expected=isinstance(error, PerdureError | ImportError),
            )
            raise SystemExit(3) from error

    # -- the roles -------------------------------------------------------------------------------------------

    def _reference(self) -> None:
        """Go all the way, and say where a capture would be in mid-episode and where right after an end."""
        driver = self._begin(self.seed)
        end = self.job["end"]
        episodes: list[tuple[int, int, bool]] = []
        first = 0
        while end is None or driver.t < end:
            if end is None and driver.t >= _WARM_STEPS and len(episodes) >= 2:
                end = self._plan(episodes, driver.t)
                continue
            self._unit(driver)
            if driver.ended() or driver.steps >= driver.cut:
                episodes.append((first, driver.t, driver.ended()))
                first = driver.t
        self._finish(driver, self.job["store"])

    def _plan(self, episodes: list[tuple[int, int, bool]], now: int) -> int:
        later = episodes[1:]
        first, last, _ = max(later, key=lambda each: each[1] - each[0])
        ends = [each for each in later if each[2]] or later
        done = next((end for begin, end, _ in ends if end >= last), ends[-1][1])
        middle = first + max(1, (last - first) // 2) if last - first > 1 else first
        early = max(first, middle - 10) if middle > first else max(0, first - 1)
        # Not before where it is by now: all processes end at the same step.
        end = max(now, max(middle, done) + int(self.job["steps"]))
        self.write(
            "plan", early=early, middle=middle, done=done, end=end, natural=any(e[2] for e in episodes)
        )
        return end

    def _captured(self) -> None:
        """Go the same way, and capture three times: once to have a first checkpoint, then where it counts."""
        from perdure import World
        from perdure.check_env import _untracked_state
        from perdure.state import capture
        from perdure.store import Store

        driver = self._begin(self.seed)
        before = _untracked_state.places(driver.env)
        points: dict[str, int] = self.job["points"]
        directory = self.job["store"]
        with Store.open(directory, write=True) as store:
            while driver.t < self.job["end"]:
                for name, at in points.items():
                    if at != driver.t:
                        continue
                    begun = time.perf_counter()
                    state = capture(World(env=driver.env))
                    times = [time.perf_counter() - begun]
                    while times[0] < _QUICK and len(times) <= _AGAIN:
                        begun = time.perf_counter()
                        state = capture(World(env=driver.env))
                        times.append(time.perf_counter() - begun)
                    size = _size(directory)
                    begun = time.perf_counter()
                    number = store.commit(state, step=driver.t).info.number
                    self.write(
                        "captured",
                        point=name,
                        number=number,
                        position=driver.position(),
                        capture_ms=1000 * statistics.median(times),
                        commit_ms=1000 * (time.perf_counter() - begun),
                        bytes=_size(directory) - size,
                        barrier=_has_barrier(driver.env),
                        **_inventory(state),
                    )
                    del state
                self._unit(driver)
        self.write("hidden", changed=_untracked_state.changed(before, _untracked_state.places(driver.env)))
        self._finish(driver, directory)

    def _restored(self) -> None:
        """Restore into an environment that was seeded otherwise and has gone another way; go on to the end."""
        driver = self._elsewhere()
        self._restore(driver)
        while driver.t < self.job["end"]:
            self._unit(driver)
        self._finish(driver, self.job["own_store"], self.job["store"], self.job["twin"])

    def _explain(self) -> None:
        """Restore, and see at once whether everything that was captured is there."""
        from perdure import World
        from perdure.state import capture, diff
        from perdure.store import Store

        driver = self._elsewhere()
        self._restore(driver)
        state = capture(World(env=driver.env))
        with Store.open(self.job["store"]) as store:
            found = diff(store.read(self.job["number"]).state, state)
        self.write("explained", differences=[str(each) for each in found[:_MOST_PATHS]], count=len(found))

    # -- what they share -------------------------------------------------------------------------------------

    def _begin(self, seed: int) -> Any:
        from perdure.check_env._driver import drive

        _seed_process(seed)
        env = self.subject.make(seed)
        self.write("made")
        driver = drive(env, self.seed, self.job["cut"])
        self._record("start", driver.start(seed), driver)
        return driver

    def _elsewhere(self) -> Any:
        driver = self._begin(self.seed + 1)
        for _ in range(self.job["wander"]):
            driver.advance()
        return driver

    def _restore(self, driver: Any) -> None:
        from perdure import World
        from perdure.state import restore
        from perdure.store import Store

        with Store.open(self.job["store"]) as store:
            checkpoint = store.read(self.job["number"])
            world = World(env=driver.env)
            begun = time.perf_counter()
            restore(checkpoint.state, world)
            took = 1000 * (time.perf_counter() - begun)
        driver.env = world.env
        driver.go_to(self.job["position"])
        self.write("restored", restore_ms=took)

    def _unit(self, driver: Any) -> None:
        said = driver.advance()
        self._record("step", said, driver)

    def _record(self, kind: str, said: dict[str, Any], driver: Any) -> None:
        from perdure.check_env._outputs import leaves

        fields = {"t": driver.t, "episode": driver.episode} if kind == "step" else {}
        self.write(kind, **fields, leaves=leaves(said, self.job["ignore"]))

    def _finish(self, driver: Any, directory: str, other: str = "", twin: str = "") -> None:
        """What its generators draw at the end, after all that is captured was kept, or compared to another's."""
        from perdure import World
        from perdure.state import capture, diff
        from perdure.store import Store

        found: list[str] = []
        if self.job["final"]:
            try:
                state = capture(World(env=driver.env))
                if other:
                    with Store.open(other) as store, Store.open(twin) as second:
                        end, again = (_last(each) for each in (store, second))
                        # What differs between two runs without any restoring says nothing of it.
                        noise = {each.path for each in diff(end, again)}
                        found = [str(each) for each in diff(end, state) if each.path not in noise]
                else:
                    with Store.open(directory, write=True) as store:
                        store.commit(state, step=driver.t)
            except PerdureError as error:
                self.write("final refused", message=str(error))
        self._record("end", {**driver.draw(), **_draw_process()}, driver)
        self.write("finished", differences=found[:_MOST_PATHS], count=len(found))
        try:
            driver.close()
        except Exception:
            # It was of use until here.
            self.write("close failed", trace=traceback.format_exc(limit=-2))


def _last(store: Any) -> Any:
    return store.read(max(each.number for each in store.checkpoints())).state


def _seed_process(seed: int) -> None:
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _draw_process() -> dict[str, Any]:
    import torch

    return {
        "random": random.random(),
        "numpy.random": float(np.random.random()),
        "torch.rand": float(torch.rand(())),
    }


def _size(directory: str) -> int:
    return sum(
        os.path.getsize(os.path.join(where, name)) for where, _, names in os.walk(directory) for name in names
    )


def _has_barrier(env: Any) -> bool:
    """Whether a pool in it is replaced by a new one now and then."""
    while env is not None:
        if vars(env).get("barrier"):
            return True
        env = vars(env).get("env")
    return False


#: What is taken by a handler in every environment; that one is says nothing of the way.
_GENERAL = ("numpy", "random", "torch", "gymnasium.spaces", "builtins", "perdure.state")


def _inventory(state: Any) -> dict[str, Any]:
    """How the environment was taken: which classes by a handler, and what was left out, for which reason."""
    from perdure import tree

    handled: dict[str, None] = {}
    left: dict[str, int] = {}
    names: dict[str, None] = {}
    seen: set[int] = set()
    todo = [state.root]
    while todo:
        node = todo.pop()
        if not isinstance(node, tree.Node) or id(node) in seen:
            continue
        seen.add(id(node))
        name = getattr(node, "type", "")
        if isinstance(node, tree.Custom) and not name.startswith(_GENERAL):
            handled[name] = None
        elif isinstance(node, tree.Omitted):
            left[node.reason] = left.get(node.reason, 0) + 1
        elif isinstance(node, tree.Object):
            names[name] = None
        todo.extend(child for _, child, _, _ in tree.edges(node))
    return {"handled": list(handled), "left_out": left, "classes": list(names), "leaves": len(seen)}


def _main() -> None:
    faulthandler.enable()
    with open(sys.argv[1]) as file:
        job = json.load(file)
    sys.path[:] = job["path"]
    _Probe(job).run()


if __name__ == "__main__":
    _main()

"""Trainings that are started again and again, and get random signals at random moments: alone, or with their workers.

After each end, nothing that was committed is lost. At the end of each training, everything is as in the uninterrupted
one.
"""

from __future__ import annotations

import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prepared_process import Started, Starter

from perdure import Run
from perdure.store import Store

#: Its arguments: the directory, and the seconds of grace (0: none).
SCRIPT = """
import hashlib, os, signal, sys, time
import gymnasium as gym
import numpy as np
import perdure

os.setpgid(0, 0)
signal.signal(signal.SIGINT, signal.default_int_handler)

class Buffer:
    def __init__(self):
        self.rows, self.position, self.total = 5000, 0, 0
        self.obs = np.zeros((5000, 64), np.float32)

perdure.register_rows(Buffer, ["obs"], rows="rows", position="position", written="total")

def make():
    return perdure.environments.Resumable(gym.make("CartPole-v1"))

np.random.seed(7)
envs = gym.vector.AsyncVectorEnv([make, make], context="fork")
envs.reset(seed=3)
world = perdure.World(envs=envs, buffer=Buffer(), weights=np.zeros(20_000), log=[], policy=None)
print("begins", flush=True)
with perdure.Run(sys.argv[1], grace=float(sys.argv[2]) or None) as run:
    for step in run.steps(world, 120, every=10):
        if run.last is None or step == run.last.step:
            print("going", flush=True)
        seen, reward, *_ = world.envs.step(np.random.randint(2, size=2))
        buffer = world.buffer
        buffer.obs[buffer.position] = np.random.rand(64)
        buffer.position, buffer.total = (buffer.position + 1) % 5000, buffer.total + 1
        world.weights += np.random.rand(20_000) * seen[0, 0]
        world.log.append(float(reward.sum() + seen.sum()))
        time.sleep(0.001 if step % 40 else 0.3)
        if step % 10 == 5 and run.last is not None:
            print("committed", run.last.step, flush=True)
print("going", flush=True)
digest = hashlib.sha256(world.buffer.obs.tobytes() + world.weights.tobytes() + repr(world.log).encode())
print("end", digest.hexdigest(), np.random.rand(), flush=True)
envs.close()
"""

SENT = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGKILL]


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    starter = Starter("gymnasium", "gymnasium.vector", "perdure.environments")
    yield starter
    starter.close()


def test_a_sample_of_starts_and_ends(starter: Starter, tmp_path: Path) -> None:
    starts_and_ends(starter, tmp_path, 14)


@pytest.mark.campaign
def test_a_thousand_starts_and_ends(starter: Starter, tmp_path: Path) -> None:
    starts_and_ends(starter, tmp_path, int(os.environ.get("STARTS", "1000")))


def starts_and_ends(starter: Starter, where: Path, starts: int) -> None:
    draw = random.Random(int(os.environ.get("SURVIVAL_SEED", "11")))
    script = where / "script.py"
    script.write_text(SCRIPT)
    (where / "out").mkdir()
    whole = starter.start(script, where / "whole", 0, where=where / "out")
    assert whole.wait() == 0, whole.errors
    expected = re.search("end .*", whole.output)
    assert expected is not None
    ends: Counter[str] = Counter()
    training = committed = 0
    for number in range(starts):
        run = where / f"run-{training}"
        said = where / f"out-{number}"
        said.mkdir()
        grace = draw.choice([0, 0, 2])
        process = starter.start(script, run, grace, where=said)
        # The last one is left alone, so that there is an end to compare.
        sent = "" if number == starts - 1 else disturb(process, draw)
        code = process.wait()
        ends[f"{sent or 'nothing'}: {code}"] += 1
        case = f"start {number}, {sent}, code {code}:\n{process.output}{process.errors}"
        assert code in expected_codes(sent, grace), case
        committed = max([committed, *map(int, re.findall(r"committed (\d+)", process.output))])
        newest = newest_of(run)
        assert newest >= committed, case
        saved = re.findall(r"step (\d+) is saved in", process.errors)
        assert newest >= max([0, *map(int, saved)]), case
        committed = newest
        if code == 0:
            found = re.search("end .*", process.output)
            assert found is not None, case
            assert found[0] == expected[0], case
            training, committed = training + 1, 0
    print(dict(ends), f"{training} trainings ended, all alike")
    assert training


def disturb(process: Started, draw: random.Random) -> str:
    """Send signals at a random moment; returns which."""
    process.says("begins" if draw.random() < 0.3 else "going")
    time.sleep(draw.choice([draw.uniform(0, 0.05), draw.uniform(0, 0.8), draw.uniform(0, 0.8)]))
    to_all = draw.random() < 0.5
    names = []
    for number in [draw.choice(SENT)] if draw.random() < 0.7 else [signal.SIGUSR1, draw.choice(SENT[:2])]:
        if draw.random() < 0.3:
            send(process, signal.SIGSTOP, to_all)
            time.sleep(draw.uniform(0, 0.1))
            send(process, signal.SIGCONT, to_all)
            names.append("STOP CONT")
        send(process, number, to_all)
        names.append(number.name)
        time.sleep(draw.uniform(0, 0.02))
    return " ".join([*names, "to all" if to_all else "to one"])


def send(process: Started, number: signal.Signals, to_all: bool) -> None:
    with suppress(ProcessLookupError):
        (os.killpg if to_all else os.kill)(process.pid, number)


def expected_codes(sent: str, grace: int) -> set[int]:
    """By a signal, inside the loop or outside of it; or it had ended by itself. On a busy machine the time of grace may
    be over before the interpreter has come to its end: then the system ends the process."""
    numbers = [number for number in SENT if number.name in sent]
    late = {-signal.SIGALRM} if grace and sent else set[int]()
    return {0, *late, *(128 + number for number in numbers), *(-number for number in numbers)}


def newest_of(run: Path) -> int:
    """The step of the newest checkpoint, after it was checked that nothing is damaged or left over."""
    Run(run).close()
    assert not list(run.rglob(".tmp-*"))
    with Store.open(run) as store:
        assert store.verify() == []
        return max([0, *(info.step for info in store.checkpoints())])

"""Environments in other processes: what happens when they cannot be asked, do not answer, or are not what was saved."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest

import perdure
from perdure.environments import Resumable
from perdure.environments.subprocess import _trainer_side
from perdure.errors import CaptureError, DamagedError, RestoreError
from perdure.state import capture, check, diff, restore
from perdure.store import Store
from perdure.tree import message


def asynchronous(wrap=Resumable, n=2, name="CartPole-v1"):
    return gym.vector.AsyncVectorEnv([lambda: wrap(gym.make(name))] * n)


def sb3(wrap=Resumable, n=2, name="CartPole-v1"):
    from stable_baselines3.common.vec_env import SubprocVecEnv

    return SubprocVecEnv([lambda: wrap(gym.make(name))] * n, start_method="fork")


def tianshou(wrap=Resumable, n=2, name="CartPole-v1"):
    from tianshou.env import SubprocVectorEnv

    return SubprocVectorEnv([lambda: wrap(gym.make(name))] * n, context="fork")


LIBRARIES = pytest.mark.parametrize("make", [asynchronous, sb3, tianshou])


@pytest.fixture
def opened():
    """Closes vector environments at the end, also those whose workers are gone."""
    found = []
    yield lambda envs: found.append(envs) or envs
    for envs in found:
        # Their own way of closing waits for what killed workers will never say.
        envs.closed = envs.is_closed = True
        for process in processes(envs):
            process.kill()
            process.join()


def processes(envs):
    own = vars(envs)
    return own["processes"] if "processes" in own else [worker.process for worker in own["workers"]]


def step(envs, times=1):
    for _ in range(times):
        seen = envs.step(np.zeros(len(processes(envs)), np.int64))
    return np.array(seen[0])


@LIBRARIES
def test_unwrapped_environments_are_refused_with_the_line_that_helps(make, opened):
    envs = opened(make(wrap=lambda env: env))
    envs.reset()
    with pytest.raises(
        CaptureError, match=r"envs: .*environment\(s\) 0, 1 of 2 .*perdure\.environments\.Resumable\("
    ):
        capture({"envs": envs})
    step(envs, 3)
    with pytest.raises(CaptureError, match="Resumable"):
        capture({"envs": envs})


@pytest.mark.parametrize("make", [asynchronous, sb3])
def test_the_wrapper_must_be_the_outermost(make, opened):
    envs = opened(make(wrap=lambda env: gym.wrappers.RecordEpisodeStatistics(Resumable(env))))
    envs.reset()
    with pytest.raises(CaptureError, match=r"environment 1: .*outermost"):
        capture({"envs": envs})
    step(envs, 3)


@LIBRARIES
def test_a_worker_that_died_is_named(make, opened):
    envs = opened(make())
    envs.reset()
    capture({"envs": envs})
    os.kill(processes(envs)[1].pid, signal.SIGKILL)
    with pytest.raises(CaptureError, match=r"environment 1: its process has ended, by a signal \(9\)"):
        capture({"envs": envs})


@LIBRARIES
def test_a_worker_that_hangs_is_named_and_ended(make, opened, monkeypatch):
    envs = opened(make(n=3))
    envs.reset()
    capture({"envs": envs})
    monkeypatch.setattr(_trainer_side, "PATIENCE", 0.5)
    os.kill(processes(envs)[1].pid, signal.SIGSTOP)
    with pytest.raises(
        CaptureError, match=r"environment 1: it gave no answer within 0\.5 s and was ended"
    ) as found:
        capture({"envs": envs})
    assert "environment 0" not in str(found.value)
    # What it might have answered later is never taken for the answer to another question.
    with pytest.raises((EOFError, OSError)):
        step(envs)


class Awkward(gym.Wrapper):
    """Holds something that cannot be captured at some of its steps."""

    def __init__(self, env):
        super().__init__(env)
        self.count = 0
        self.held = None

    def step(self, action):
        self.count += 1
        self.held = (each for each in "abc") if self.count == 3 else None
        return super().step(action)


@LIBRARIES
def test_a_capture_that_fails_leaves_the_pipes_in_step(make, opened):
    envs, others = opened(make(wrap=lambda env: Resumable(Awkward(env)))), opened(make())
    for each in (envs, others):
        each.seed(5) if hasattr(each, "seed") else each.reset(seed=5)
        each.reset()
    assert np.array_equal(step(envs, 3), step(others, 3))
    with pytest.raises(CaptureError, match=r"environment 1: CaptureError: .*\n.*env\.env\.held: .*generator"):
        capture({"envs": envs})
    for _ in range(20):
        assert np.array_equal(step(envs), step(others))
    assert len(capture({"envs": envs})) > 10


@LIBRARIES
def test_another_environment_is_refused_before_anything_is_changed(make, opened):
    envs, fresh = opened(make(name="CartPole-v1")), opened(make(name="Acrobot-v1"))
    for each in (envs, fresh):
        each.reset()
        step(each, 5)
    saved, before = capture({"envs": envs}), capture({"envs": fresh})
    with pytest.raises(
        RestoreError, match=r"nothing was changed:\n(.*\n)*.*envs\.processes\[1\]\.env\.env.*CartPole"
    ):
        restore(saved, {"envs": fresh})
    assert diff(before, capture({"envs": fresh}), ignore=()) == []
    step(fresh, 5)


@LIBRARIES
def test_another_number_of_environments_is_refused(make, opened):
    envs, fresh = opened(make(n=2)), opened(make(n=3))
    for each in (envs, fresh):
        each.reset()
    with pytest.raises(RestoreError, match="nothing was changed"):
        restore(capture({"envs": envs}), {"envs": fresh})
    with pytest.raises(RestoreError, match="nothing was changed"):
        restore(capture({"envs": fresh}), {"envs": envs})


def test_what_fits_is_restored_where_that_is_asked_for(opened):
    envs = opened(asynchronous())
    fresh = opened(asynchronous(wrap=lambda env: Resumable(Awkward(env.env))))
    for seed, each in enumerate((envs, fresh)):
        each.reset(seed=seed)
        step(each, 5)
    report = restore(capture({"envs": envs}), {"envs": fresh}, strict=False)
    assert not report.exact
    assert any(path.startswith("envs.processes[0].env.env") for path, _ in report.mismatched)
    random = [node for path, node in capture({"envs": fresh}).leaves() if path.startswith("envs.processes")]
    assert random
    step(fresh, 5)


def test_checking_changes_nothing(opened):
    envs, fresh = opened(asynchronous()), opened(asynchronous())
    for seed, each in enumerate((envs, fresh)):
        each.reset(seed=seed)
        step(each, 5)
    saved, before = capture({"envs": envs}), capture({"envs": fresh})
    assert check(saved, {"envs": fresh}).exact
    assert diff(before, capture({"envs": fresh}), ignore=()) == []


def test_a_step_that_was_not_waited_for_is_refused(opened):
    envs, other = opened(asynchronous()), opened(sb3())
    for each in (envs, other):
        each.reset()
        each.step_async(np.zeros(2, np.int64))
    for each in (envs, other):
        with pytest.raises(CaptureError, match="in the middle of a step"):
            capture({"envs": each})
        each.step_wait()
        capture({"envs": each})


def test_tianshou_steps_that_are_not_waited_for_are_refused(opened):
    from tianshou.env import SubprocVectorEnv

    envs = opened(SubprocVectorEnv([lambda: Resumable(Slow())] * 3, wait_num=1, context="fork"))
    envs.reset()
    envs.step(np.zeros(3, np.int64))
    with pytest.raises(CaptureError, match="wait_num"):
        capture({"envs": envs})


def test_workers_go_when_their_trainer_does_and_not_before():
    # Ctrl-C reaches every process of the group, and the trainer has a checkpoint to make. Once it is killed they leave:
    # forked, these hold each other's pipes open, and would wait for ever.
    script = (
        "import os, signal, time, test_workers as t; from perdure.state import capture\n"
        "envs = t.sb3(n=3); envs.reset(); capture({'envs': envs})\n"
        "signal.signal(signal.SIGINT, lambda *_: None); os.killpg(0, signal.SIGINT); time.sleep(0.5)\n"
        "t.step(envs, 3); capture({'envs': envs})\n"
        "print(*(p.pid for p in envs.processes), flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": ":".join([os.path.dirname(__file__), *filter(None, sys.path)])},
    )
    # They have the pipe too, which has an end once all of them have left.
    assert found.returncode == -signal.SIGKILL
    assert len(found.stdout.split()) == 3


class Slow(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(self.np_random.uniform(0, 0.05))
        return np.zeros(1, np.float32), 0.0, False, False, {}


def test_a_worker_function_of_ones_own_is_refused(opened):
    from gymnasium.vector.async_vector_env import _async_worker

    envs = opened(
        gym.vector.AsyncVectorEnv([lambda: Resumable(gym.make("CartPole-v1"))], worker=_async_worker)
    )
    with pytest.raises(CaptureError, match="worker="):
        capture({"envs": envs})


@LIBRARIES
def test_closed_environments_have_nothing_to_say(make):
    envs = make()
    envs.reset()
    envs.close()
    capture({"envs": envs})


def test_the_wrapper_does_no_harm_in_this_process(opened):
    plain, wrapped = gym.make("CartPole-v1"), Resumable(gym.make("CartPole-v1"))
    before = signal.getsignal(signal.SIGINT)
    for env in (plain, wrapped):
        env.reset(seed=1)
        env.action_space.seed(1)
    for _ in range(8):
        assert np.array_equal(
            plain.step(plain.action_space.sample())[0], wrapped.step(wrapped.action_space.sample())[0]
        )
    assert signal.getsignal(signal.SIGINT) is before
    fresh = Resumable(gym.make("CartPole-v1"))
    fresh.reset(seed=2)
    assert restore(capture({"env": wrapped}), {"env": fresh}).exact
    assert np.array_equal(fresh.step(1)[0], wrapped.step(1)[0])


# -- what is kept --------------------------------------------------------------------------------------------


def test_alike_processes_share_what_does_not_change(opened, tmp_path):
    envs = opened(asynchronous(n=8))
    envs.reset(seed=1)
    written = []
    with Store.open(tmp_path / "run", write=True) as store:
        for number in range(3):
            step(envs, 20)
            state = capture({"envs": envs})
            store.commit(state, step=number)
            written.append(sum(file.stat().st_size for file in (tmp_path / "run" / "packs").iterdir()))
    parcels = state.root.fields["envs"].fields["processes"].items
    assert len({id(dict(each.pairs)["form"]) for each in parcels}) == 1
    # The numbers alone: well under a kilobyte for each environment.
    assert written[2] - written[1] < 8 * 1500 < written[0]


def test_a_difference_is_named_by_its_path_in_the_process(opened):
    envs = opened(asynchronous())
    envs.reset(seed=1)
    before = capture({"envs": envs})
    step(envs)
    paths = [each.path for each in diff(before, capture({"envs": envs}))]
    assert "envs.processes[1].env.env._elapsed_steps" in paths
    assert all("form" not in path and "values" not in path for path in paths)


def world():
    rng = np.random.default_rng(3)
    shared = rng.normal(size=300)
    return {
        "numbers": [1, True, None, 0.1, -0.0, 1e300, 1 << 80, float("nan"), "text", b"bytes", 3j],
        "arrays": [shared, shared[::2], np.zeros((0, 3)), np.arange(5, dtype=np.int8), np.float32(2.5)],
        "mapping": {1: "one", "two": 2.0, (3, "four"): {5}, None: False},
        "nested": {"a": [[], {}, [0], [[0.5]]], "generator": rng},
        "many": list(range(50)),
    }


def test_a_packed_state_is_the_state():
    state = capture(world())
    assert diff(state, message.decode(message.from_bytes(message.encode(state))), ignore=()) == []


def test_bytes_that_are_no_packed_state_are_refused():
    content = message.encode(capture(world()))
    for cut in (0, 3, 20, len(content) // 2, len(content) - 1):
        with pytest.raises(DamagedError):
            message.decode(message.from_bytes(content[:cut]))
    with pytest.raises(DamagedError):
        message.from_bytes(content + b"more")
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        try:
            message.decode(message.from_bytes(bytes(damaged)))
        except DamagedError:
            refused += 1
    assert refused > 20


@pytest.mark.parametrize("hostile", ["form", "values", "type"])
def test_a_hostile_state_is_refused_and_the_worker_goes_on(hostile, opened):
    envs, fresh = opened(asynchronous()), opened(asynchronous())
    for each in (envs, fresh):
        each.reset()
        step(each, 5)
    saved = capture({"envs": envs})
    content = dict(saved.root.fields["envs"].fields["processes"].items[1].pairs)
    if hostile == "form":
        content["form"].data = np.frombuffer(b"[" * len(content["form"].data), np.uint8)
    elif hostile == "values":
        values = bytes(content["values"].data).replace(b"[", b"]", 1)
        content["values"].data = np.frombuffer(values, np.uint8)
    else:
        form = bytes(content["form"].data).replace(b"CartPoleEnv", b"CartSoleEnv")
        content["form"].data = np.frombuffer(form, np.uint8)
    before = capture({"envs": fresh})
    with pytest.raises((RestoreError, DamagedError)):
        restore(saved, {"envs": fresh})
    assert diff(before, capture({"envs": fresh}), ignore=()) == []
    step(fresh, 5)


# -- asked at once -------------------------------------------------------------------------------------------


class Thinking:
    """Takes its time when it is captured, from the second time on."""

    known = False


def think(live):
    time.sleep(0.5 * live.known)
    live.known = True


perdure.register(Thinking, capture=think, restore=lambda live, saved: None)


class Thoughtful(gym.Wrapper):
    def __init__(self, env):
        super().__init__(env)
        self.thinking = Thinking()


@LIBRARIES
def test_sixteen_are_asked_at_once(make, opened):
    # They wait rather than work, so that it does not matter how many of them the machine can run at a time.
    took = []
    for n in (1, 16):
        envs = opened(make(wrap=lambda env: Resumable(Thoughtful(env)), n=n))
        envs.reset()
        capture({"envs": envs})
        start = time.perf_counter()
        capture({"envs": envs})
        took.append(time.perf_counter() - start)
    assert took[0] > 0.5
    assert took[1] < 2 * took[0]

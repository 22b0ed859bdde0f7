"""`perdure.check_env.check` finds out, in real processes, what is exact and what is not, and says why."""

from __future__ import annotations

import functools
import json
import sys
import types

import gymnasium as gym
import pytest
import toy_environments as toys

from perdure.check_env import CheckReport, EnvSpecError, assert_exact, check, env_spec
from perdure.check_env._untracked_state import changed, places
from perdure.environments import PoolReplay

STEPS = 40


def test_what_keeps_its_state_in_itself_is_exact():
    # Its class keeps its spaces, too: they draw for it.
    report = assert_exact(toys.Plain, steps=STEPS)
    assert len(report.points) == 2
    assert report.steps >= STEPS
    assert report.resets >= 3
    assert report.way == "walk"
    assert 0 < report.bytes < report.first_bytes
    assert report.capture_ms > 0
    assert report.restore_ms > 0
    assert report.notes == []
    assert CheckReport.load(json.loads(json.dumps(report.document()))) == report


def test_what_is_replayed_is_exact_and_reported_as_replayed(prepared):
    report = check("LunarLander-v3", steps=STEPS, replay=True)
    assert report.exact, report.text()
    assert report.way == "replay"
    assert report.handled == ["perdure:EpisodeReplay"]


def test_a_pool_is_replayed_as_a_pool(monkeypatch):
    def make(name, num_envs, seed):
        return gym.make_vec(name, num_envs, "sync")

    monkeypatch.setitem(sys.modules, "envpool", types.SimpleNamespace(make_gymnasium=make))
    assert type(env_spec("envpool/CartPole-v1").make(1)) is gym.vector.SyncVectorEnv
    pool = env_spec("envpool/CartPole-v1", kwargs={"num_envs": 2}, replay=True).make(1)
    assert type(pool) is PoolReplay
    assert pool.num_envs == 2


def test_state_that_no_object_holds_is_found_out(prepared):
    report = check(toys.Scattered, steps=STEPS)
    assert report.verdict == "different"
    assert report.finding.path in ("observation", "reset observation")
    for place in (
        "the variable 'count' that the function toy_environments.in_a_closure.<locals>.tick",
        "the class attribute toy_environments.InItsClass.total",
        "the module global toy_environments._steps",
    ):
        assert place in report.text()


def test_a_number_that_stands_for_a_world_in_native_memory_is_found_out(prepared):
    report = check(toys.BehindANumber, steps=STEPS)
    assert report.verdict == "different"
    assert "behind a number or a handle" in report.text()
    assert "perdure.register" in report.text()
    # Another process has no such world, so replaying does not help here: it was tried.
    assert not report.with_replay.exact
    assert "BehindANumber + EpisodeReplay: NOT EXACT" in report.text()


def test_a_crash_is_a_finding():
    report = check(toys.BehindAPointer, steps=STEPS)
    assert report.verdict == "crashed"
    assert "SIGSEGV" in report.text() or "SIGBUS" in report.text()


def test_an_order_that_differs_from_process_to_process_is_found_out():
    report = check(toys.InASet, steps=STEPS)
    assert report.verdict == "not reproducible"
    assert "PYTHONHASHSEED" in report.text()


def test_a_capture_that_changes_something_is_found_out(prepared):
    report = check(toys.Fragile, steps=STEPS, imports=["fragile_handler"])
    assert report.verdict == "perturbed"
    assert report.finding.path in ("observation", "reset observation")


def test_what_hangs_is_ended():
    report = check(toys.Hanging, timeout=8)
    assert report.verdict == "unchecked"
    assert "not done after 8 s" in report.text()


def test_what_a_fresh_process_cannot_find_is_an_error_that_says_what_to_do():
    def local():
        return toys.Plain()

    for env, what in ((lambda: toys.Plain(), "a lambda"), (local, "a function inside another function")):
        with pytest.raises(EnvSpecError, match=f"{what}.*top level of a module"):
            check(env)
    with pytest.raises(EnvSpecError, match=r"test_check\.py"):
        check(local)
    with pytest.raises(EnvSpecError, match="by name"):
        check(functools.partial(toys.Closing, print))
    with pytest.raises(EnvSpecError, match="must be JSON"):
        check(toys.Closing, kwargs={"tick": print})
    for wrong in ("parallel:3", "sync:none", "sync:0"):
        with pytest.raises(EnvSpecError, match="sb3-dummy"):
            check(toys.Plain, vector=wrong)


def test_an_assertion_says_why(prepared):
    with pytest.raises(AssertionError, match="could not be checked"):
        assert_exact("NoSuchEnvironment-v1", steps=STEPS)


def test_a_partial_is_its_function_and_arguments():
    what = env_spec(functools.partial(toys.Closing, tick=3), wrappers=[(toys.Closing, {"tick": 1})])
    assert what.target == "toy_environments:Closing"
    assert dict(what.kwargs) == {"tick": 3}
    assert what.wrappers == (("toy_environments:Closing", {"tick": 1}),)
    assert type(what).load(json.loads(json.dumps(what.document()))) == what


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (toys.Plain, []),
        (toys.in_a_closure, ["the variable 'count'"]),
        (toys.InItsClass, ["the class attribute toy_environments.InItsClass.total"]),
        (toys.InAGlobal, ["the module global toy_environments._steps"]),
    ],
)
def test_places_that_changed_are_named(make, expected):
    env = make()
    env.reset(seed=1)
    before = places(env)
    env.step(0)
    found = changed(before, places(env))
    assert len(found) == len(expected)
    assert all(each.startswith(start) for each, start in zip(found, expected, strict=True))

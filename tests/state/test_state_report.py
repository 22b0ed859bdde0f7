"""What restoring says about every path, and that nothing is changed where it raises."""

from __future__ import annotations

import types

import gymnasium as gym
import numpy as np
import pytest
import torch
from state_support import transported

from perdure import World
from perdure.errors import RestoreError
from perdure.state import capture, diff, restore, skip


class Thing:
    def __init__(self, **attributes):
        vars(self).update(attributes)


class Other(Thing):
    pass


def snapshot(world):
    return transported(capture(world))


def refuses(saved, live, *paths):
    """Strictly nothing is changed, and the error names the paths."""
    before = snapshot(live)
    identities = {name: id(part) for name, part in live.items()}
    with pytest.raises(RestoreError) as raised:
        restore(snapshot(saved), live)
    assert diff(before, capture(live), ignore=()) == []
    assert {name: id(part) for name, part in live.items()} == identities
    for path in paths:
        assert path in str(raised.value)
    assert raised.value.report is not None
    assert not raised.value.report.exact
    return raised.value.report


def test_an_exact_report_lists_every_leaf():
    saved = {"a": Thing(x=1, y=[2, {"k": None}], z=np.zeros(2), w=torch.ones(1), f=len, e=[]), "b": 3}
    live = {"a": Thing(x=0, y=[], z=np.ones(2), w=torch.zeros(1), f=len, e=[1]), "b": 0}
    report = restore(snapshot(saved), live)
    assert {path for path in report.restored if not path.startswith("rng")} == {
        "a.x", "a.y[0]", "a.y[1]['k']", "a.z", "a.w", "a.f", "a.e", "b",
    }  # fmt: skip
    assert report.skipped == []
    assert report.exact
    assert "restored, 0 skipped, 0 missing" in str(report)
    assert len(report.restored) == len(set(report.restored))


def test_a_part_too_few_or_too_many():
    assert refuses({"a": Thing(x=1), "b": 2}, {"a": Thing(x=0)}, "b: the checkpoint has this part").unexpected
    assert refuses({"a": Thing(x=1)}, {"a": Thing(x=0), "b": Thing(y=1)}, "b: the script has it").missing == [
        "b"
    ]
    assert restore(snapshot({"a": 1}), {"a": 0, "log": print}).exact


def test_an_attribute_the_checkpoint_does_not_know():
    report = refuses(
        {"a": Thing(x=1)}, {"a": Thing(x=0, y=2)}, "a.y: the script has it, the checkpoint does not"
    )
    assert report.missing == ["a.y"]


def test_an_object_of_another_class():
    refuses({"a": Thing(x=Thing())}, {"a": Thing(x=gym.make("CartPole-v1"))}, "a.x")
    refuses(
        {"a": [gym.make("CartPole-v1")]},
        {"a": [gym.make("Acrobot-v1")]},
        "a[0].",
        "CartPoleEnv",
        "AcrobotEnv",
    )


def test_another_number_of_environments():
    def envs(number):
        return {"envs": gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * number)}

    refuses(envs(3), envs(2), "envs.envs")
    refuses(envs(2), envs(3), "envs.envs", "2 element(s)", "3, among them 1 more")


def test_all_problems_are_reported_at_once():
    saved = {"net": torch.nn.Linear(2, 2), "a": Thing(x=1), "gone": 1}
    live = {"net": torch.nn.Linear(3, 3), "a": Thing(x=1, y=2)}
    report = refuses(saved, live, "net.weight", "net.bias", "a.y", "gone")
    assert "net.weight" not in report.restored
    assert [path for path, _ in report.mismatched] == ["net.in_features", "net.out_features"] or len(
        report.mismatched
    ) == 2


def test_what_fits_is_taken():
    saved = {"net": torch.nn.Linear(2, 2), "a": Thing(x=1, late=[1]), "gone": 1, "n": 5}
    live = {"net": torch.nn.Linear(3, 2), "a": Thing(x=0, y=2), "n": 0}
    weight = live["net"].weight.detach().clone()
    report = restore(snapshot(saved), live, strict=False)
    assert not report.exact
    assert torch.equal(live["net"].weight, weight)
    assert torch.equal(live["net"].bias, saved["net"].bias)
    assert vars(live["a"]) == {"x": 1, "y": 2, "late": [1]}
    assert live["n"] == 5
    assert "gone" not in live
    assert {"net.bias", "a.x", "n"} <= set(report.restored)


def test_what_is_made_and_lacks_a_piece_is_not_made_at_all():
    class Made:
        def __init__(self, inner):
            self.inner = inner

    class Unknown:
        pass

    saved = {"a": Thing(made=Made(Unknown()), tuple=(1, Unknown()), list=[1, 2]), "show": Made(0)}
    live = {"a": Thing(made="before", tuple=(0,), list=[0]), "show": Made(1)}
    report = restore(snapshot(saved), live, strict=False)
    assert live["a"].made == "before"
    assert live["a"].tuple == (0,)
    assert live["a"].list == [1, 2]
    assert {path for path, _ in report.unexpected} == {"a.made.inner", "a.tuple[1]"}


def test_user_skips_on_either_side():
    saved, live = (
        {"a": Thing(x=1, y=[1], z=1), "b": Thing(x=1)},
        {"a": Thing(x=0, y=[0], z=0), "b": Thing(x=0)},
    )
    kept = live["a"].y
    report = restore(snapshot(saved), live, skip=["a.y", "a.z", "b*"])
    assert report.exact
    assert vars(live["a"]) == {"x": 1, "y": [0], "z": 0}
    assert live["a"].y is kept
    assert live["b"].x == 0
    assert ("a.z", "left out by the user") in report.skipped

    report = restore(transported(capture(saved, skip=["*.x"])), live)
    assert vars(live["a"]) == {"x": 1, "y": [1], "z": 1}
    assert live["b"].x == 0
    assert ("b.x", "left out by the user") in report.skipped


def test_a_class_that_is_left_out_only_since():
    class Viewer:
        def __init__(self, x):
            self.x = x

    state = snapshot({"a": Thing(x=1, show=Viewer(1))})
    skip(Viewer, "a window on the screen")
    live = {"a": Thing(x=0, show=Viewer(0))}
    restore(state, live, strict=False)
    assert live["a"].x == 1
    assert live["a"].show.x == 0


def test_a_world_a_dict_or_an_object():
    world = World(a=[1], b=2)
    state = snapshot(world)
    live = World(a=[0], b=0)
    kept = live.a
    restore(state, live)
    assert (live.a, live.b) == ([1], 2)
    assert live.a is kept
    as_dict = {"a": [0], "b": 0}
    restore(state, as_dict)
    assert as_dict == {"a": [1], "b": 2}
    thing = Thing(x=0)
    restore(snapshot(Thing(x=1)), thing)
    assert thing.x == 1


@pytest.mark.parametrize("value", [5, "text", None, (1, [2]), frozenset({1})])
def test_a_value_alone_cannot_be_restored_in_place(value):
    with pytest.raises(RestoreError, match="world"):
        restore(snapshot(value), value)
    world = World(x=None)
    restore(snapshot({"x": value}), world)
    assert world.x == value


def test_a_space_is_an_object_though_it_behaves_like_a_mapping():
    space = gym.spaces.Dict(a=gym.spaces.Discrete(3, seed=1), b=gym.spaces.Box(0, 1, seed=2))
    live = gym.spaces.Dict(a=gym.spaces.Discrete(3, seed=3), b=gym.spaces.Box(0, 1, seed=4))
    restore(snapshot(space), live)
    assert str([live.sample() for _ in range(5)]) == str([space.sample() for _ in range(5)])


def test_restoring_twice_is_restoring_once():
    saved = {"a": Thing(x=[1, (2, {"k": np.ones(2)})], y={1, 2})}
    state = snapshot(saved)
    live = {"a": Thing(x=[], y=set())}
    restore(state, live)
    first = live["a"].x
    restore(state, live)
    assert live["a"].x is first
    assert diff(state, capture(live), ignore=()) == []


def test_environments_beside_those_of_the_checkpoint_stay():
    live = {"envs": {"a": gym.make("CartPole-v1"), "b": gym.make("CartPole-v1")}}
    saved = {"envs": {"a": gym.make("CartPole-v1")}}
    saved["envs"]["a"].reset(seed=1)
    kept = live["envs"]["b"]
    assert restore(snapshot(saved), live).exact
    assert live["envs"]["b"] is kept
    assert live["envs"]["a"].unwrapped.state is not None


def test_a_pointer_that_has_moved_on_since():
    def build():
        envs = [gym.make("CartPole-v1"), gym.make("CartPole-v1"), gym.make("CartPole-v1")]
        return Thing(current=envs[0], envs=envs)

    for index in (0, 1, 2):
        saved, live = build(), build()
        for number, env in enumerate(saved.envs):
            env.reset(seed=number)
        saved.current = saved.envs[index]
        envs = list(live.envs)
        restore(snapshot({"a": saved}), {"a": live})
        assert live.current is live.envs[index]
        assert live.envs == envs
        for ours, theirs in zip(live.envs, saved.envs, strict=True):
            assert np.array_equal(ours.unwrapped.state, theirs.unwrapped.state)
    saved, live = build(), build()
    saved.current = None
    restore(snapshot({"a": saved}), {"a": live})
    assert live.current is None


def test_handlers_that_fail_say_where():
    class Native:
        pass

    from perdure.state import register

    def fail(*args):
        raise OSError("device lost")

    register(Native, capture=lambda native: 1, restore=fail)
    with pytest.raises(
        RestoreError, match=r"a\.n: could not be written \(OSError: device lost\).*half restored"
    ):
        restore(snapshot({"a": types.SimpleNamespace(n=Native())}), {"a": types.SimpleNamespace(n=Native())})

"""The world as a container: made, compared, shown and replaced, and mistyped names."""

import copy
import dataclasses
import inspect
import pickle
import warnings

import numpy as np
import pytest
import tianshou.highlevel.world as theirs
import torch

import perdure
from perdure.errors import PerdureWarning
from perdure.persistence import PersistenceGroup, PolicyPersistence

World = perdure.World


def test_it_is_made_as_tianshous_is():
    words = {
        "envs": "e",
        "algorithm": torch.nn.Linear(1, 1),
        "training_collector": "c",
        "test_collector": None,
        "logger": "l",
        "persist_directory": "p",
        "restore_directory": None,
        "trainer": None,
    }
    ours, other = World(**words), theirs.World(**words)
    for each in dataclasses.fields(other):
        assert getattr(ours, each.name) is getattr(other, each.name)
    names = {each.name for each in dataclasses.fields(theirs.World)}
    assert names < {each.name for each in dataclasses.fields(World)}
    assert names < inspect.signature(World).parameters.keys()
    assert ours.persist_path("a") == other.persist_path("a")


def test_a_part_that_is_not_given_is_no_part():
    world = World(trainer=None, score=1.0)
    assert world.parts() == {"trainer": None, "score": 1.0}
    assert world.policy is None


def test_equal_are_worlds_with_the_same_parts():
    policy, rows = torch.nn.Linear(1, 1), np.zeros(3)
    world = World(policy=policy, rows=rows, score=1.5, persist_directory="a")
    assert world == World(score=1.5, rows=rows, policy=policy, persist_directory="a")
    assert world == copy.copy(world)
    assert world != World(policy=policy, rows=rows, score=2.5, persist_directory="a")
    assert world != World(policy=policy, rows=rows, score=1.5, persist_directory="b")
    assert world != World(policy=policy, rows=rows, persist_directory="a")
    assert world != World(policy=torch.nn.Linear(1, 1), rows=rows, score=1.5, persist_directory="a")
    # Arrays do not say whether they are equal.
    assert World(rows=rows) != World(rows=np.zeros(3))
    assert world != "world"
    assert pickle.loads(pickle.dumps(World(score=1))) == World(score=1)
    with pytest.raises(TypeError, match="unhashable"):
        hash(world)


def test_replacing_keeps_all_parts():
    world = World(policy=torch.nn.Linear(1, 1), score=1.5, persist_directory="a")
    world.seen = [1]
    other = dataclasses.replace(world, persist_directory="b", score=2.5)
    assert type(other) is World
    assert other.policy is world.policy
    assert other.seen is world.seen
    assert (other.score, other.persist_directory, world.persist_directory) == (2.5, "b", "a")
    assert dataclasses.replace(world) == world
    assert set(dataclasses.replace(world, more=3).parts()) == {"policy", "score", "seen", "more"}


def test_it_shows_its_parts_and_directories():
    world = World(policy=torch.nn.Linear(1, 1), score=1.5)
    assert repr(world) == "World(policy: Linear, score: float)"
    world.persist_directory = "runs/a"
    assert repr(world) == "World(policy: Linear, score: float, persist_directory='runs/a')"


@pytest.mark.parametrize(
    ("given", "read"),
    [("env", "envs"), ("algoritm", "algorithm"), ("train_collector", "training_collector")],
)
def test_a_mistyped_part_is_noticed_where_the_right_one_is_read(given, read):
    world = World(**{given: "it"})
    with pytest.warns(PerdureWarning, match=rf"no part '{read}'.*but it has '{given}'") as caught:
        assert getattr(world, read) is None
    assert caught[0].filename == __file__
    # The two remedies of the message.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert getattr(World(**{read: "it"}), read) == "it"
        assert getattr(World(**{given: "it", read: None}), read) is None


def test_a_mistyped_name_is_told_what_it_may_be():
    world = World(statistics=[1.0])
    with pytest.raises(AttributeError, match="Did you mean 'statistics'"):
        world.statistic  # noqa: B018
    with pytest.raises(AttributeError, match=r"its parts are statistics\. Give it"):
        world.other  # noqa: B018


def test_names_that_only_look_alike_to_nobody_warn_of_nothing():
    world = World(
        policy=torch.nn.Linear(1, 1), best_policy=1, test_env=2, train_envs=3, best_score=4.0, log=5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("algorithm", "training_collector", "test_collector", "logger", "trainer", "policy"):
            getattr(world, name)


@pytest.mark.parametrize("cls", [World, PersistenceGroup, PolicyPersistence])
def test_the_constructor_documents_each_parameter(cls):
    names = [name for name in inspect.signature(cls).parameters if name != "unnamed"]
    assert [name for name in names if f":param {name}:" not in cls.__init__.__doc__] == []

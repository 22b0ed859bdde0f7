"""Every sentence of the reference API, in its order."""

from __future__ import annotations

import inspect
import subprocess
import sys
import typing
from enum import Enum
from pathlib import Path

import pytest
import torch
from persistence_nets import Net, Remembers, Rich, Wide

import perdure.persistence as api
from perdure.errors import RestoreError
from perdure.persistence import Persistence, PersistenceGroup, PersistEvent, PolicyPersistence, RestoreEvent
from perdure.persistence._persistence import World

Mode = PolicyPersistence.Mode
modes = pytest.mark.parametrize("mode", list(Mode))


@pytest.fixture
def world(tmp_path):
    return World(persist_directory=tmp_path, restore_directory=tmp_path)


def test_events():
    assert [(e.name, e.value) for e in PersistEvent] == [("PERSIST_POLICY", "persist_policy")]
    assert [(e.name, e.value) for e in RestoreEvent] == [("RESTORE_POLICY", "restore_policy")]
    assert issubclass(PersistEvent, Enum)
    assert issubclass(RestoreEvent, Enum)


def test_persistence_is_abstract_in_both_methods():
    assert Persistence.__abstractmethods__ == {"persist", "restore"}
    for name in ("persist", "restore"):
        assert list(inspect.signature(getattr(Persistence, name)).parameters) == ["self", "event", "world"]
    with pytest.raises(TypeError):
        Persistence()


def test_a_handler_ignores_events_that_it_does_not_know(world, tmp_path):
    class Later(Enum):
        PERSIST_ALL = "persist_all"

    handler = Remembers()
    PersistenceGroup(handler).persist(Later.PERSIST_ALL, world)
    PersistenceGroup(handler).restore(Later.PERSIST_ALL, world)
    assert handler.told == [Later.PERSIST_ALL] * 2
    assert not (tmp_path / handler.name).exists()


def test_group_applies_its_handlers_in_order(world):
    order = []

    class Noted(Persistence):
        def __init__(self, name):
            self.name = name

        def persist(self, event, world):
            order.append(("persist", self.name, event))

        def restore(self, event, world):
            order.append(("restore", self.name, event))

    group = PersistenceGroup(Noted("a"), PersistenceGroup(Noted("b")), Noted("c"))
    assert isinstance(group, Persistence)
    assert group.enabled
    assert len(group.items) == 3
    group.persist(PersistEvent.PERSIST_POLICY, world)
    group.restore(RestoreEvent.RESTORE_POLICY, world)
    assert order == [("persist", n, PersistEvent.PERSIST_POLICY) for n in "abc"] + [
        ("restore", n, RestoreEvent.RESTORE_POLICY) for n in "abc"
    ]


def test_disabled_group_persists_nothing_and_still_restores(world, tmp_path):
    handler = Remembers()
    group = PersistenceGroup(handler, enabled=False)
    group.persist(PersistEvent.PERSIST_POLICY, world)
    assert handler.told == []
    assert list(tmp_path.iterdir()) == []
    (tmp_path / handler.name).write_text("4")
    group.restore(RestoreEvent.RESTORE_POLICY, world)
    assert handler.number == 4


def test_signatures():
    def positional(function):
        parameters = inspect.signature(function).parameters.values()
        return [
            (p.name, p.default) for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"
        ]

    empty = inspect.Parameter.empty
    assert positional(PolicyPersistence) == [
        ("additional_persistence", None),
        ("enabled", True),
        ("mode", Mode.POLICY),
    ]
    assert positional(PolicyPersistence.persist) == [("policy", empty), ("world", empty)]
    assert positional(PolicyPersistence.restore) == [("policy", empty), ("world", empty), ("device", empty)]
    assert positional(PolicyPersistence.get_save_best_fn) == [("world", empty)]
    assert positional(PolicyPersistence.get_save_checkpoint_fn) == [("world", empty)]
    group = inspect.signature(PersistenceGroup).parameters
    assert group["p"].kind is inspect.Parameter.VAR_POSITIONAL
    assert group["enabled"].kind is inspect.Parameter.KEYWORD_ONLY
    assert group["enabled"].default is True
    assert {str, torch.device} <= set(typing.get_args(api.TDevice))


def test_modes_and_their_file_names():
    assert {m.name: m.value for m in Mode} == {"POLICY_STATE_DICT": "policy_state_dict", "POLICY": "policy"}
    assert Mode.POLICY_STATE_DICT.get_filename() == "policy_state_dict.pt"
    assert Mode.POLICY.get_filename() == "policy.pt"
    assert PolicyPersistence().mode is Mode.POLICY


@modes
@pytest.mark.parametrize("kind", [Net, Rich])
def test_persist_and_restore(world, tmp_path, mode, kind):
    persistence = PolicyPersistence(mode=mode)
    assert persistence.persist(kind(3.0), world) is None
    assert Path(world.persist_path(mode.get_filename())).is_file()
    policy = kind(1.0)
    assert persistence.restore(policy, world, "cpu") is None
    assert policy.value == 3.0
    assert world.persist_directory == str(tmp_path)


@modes
@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), lambda storage, _: storage])
def test_restore_takes_any_device(world, mode, device):
    PolicyPersistence(mode=mode).persist(Net(3.0), world)
    policy = Net()
    PolicyPersistence(mode=mode).restore(policy, world, device)
    assert policy.value == 3.0


@modes
def test_additional_persistence_is_told_after_the_policy(world, mode):
    there = []

    class Looks(Remembers):
        def persist(self, event, world):
            there.append(Path(world.persist_path(mode.get_filename())).is_file())
            super().persist(event, world)

        def restore(self, event, world):
            there.append(policy.value)
            super().restore(event, world)

    handler, policy = Looks(), Net(2.0)
    persistence = PolicyPersistence(handler, mode=mode)
    handler.number = 7
    persistence.persist(policy, world)
    policy, handler.number = Net(), 0
    persistence.restore(policy, world, "cpu")
    assert there == [True, 2.0]
    assert handler.told == [PersistEvent.PERSIST_POLICY, RestoreEvent.RESTORE_POLICY]
    assert handler.number == 7


@modes
def test_enabled_governs_persisting_only(world, tmp_path, mode):
    PolicyPersistence(mode=mode).persist(Net(3.0), world)
    before = sorted(tmp_path.rglob("*"))
    disabled = PolicyPersistence(Remembers(), enabled=False, mode=mode)
    disabled.persist(Net(5.0), world)
    disabled.get_save_best_fn(world)(Net(5.0))
    assert sorted(tmp_path.rglob("*")) == before
    assert disabled.get_save_checkpoint_fn(world) is None
    disabled.additional_persistence = None
    policy = Net()
    disabled.restore(policy, world, "cpu")
    assert policy.value == 3.0


@modes
def test_save_best_fn_persists_the_policy_it_is_called_with(world, mode):
    save = PolicyPersistence(mode=mode).get_save_best_fn(world)
    policy = Net()
    for value in (1.0, 2.0):
        assert save(Net(value)) is None
        PolicyPersistence(mode=mode).restore(policy, world, "cpu")
        assert policy.value == value


@modes
@pytest.mark.parametrize("part", ["algorithm", "policy"])
def test_save_checkpoint_fn_saves_under_a_name_with_the_epoch(world, tmp_path, mode, part):
    handler = Remembers()
    persistence = PolicyPersistence(handler, mode=mode)
    save = persistence.get_save_checkpoint_fn(world)
    setattr(world, part, Net(7.0))
    handler.number = 7
    path = save(7, 700, 70)
    assert path == str(tmp_path / f"{mode.value}_epoch_7.pt")
    assert Path(path).is_file()
    assert handler.told == [PersistEvent.PERSIST_POLICY]
    assert not (tmp_path / mode.get_filename()).exists()  # it is no new best
    world.restore_directory = str(Path(path).resolve().parent)
    policy, handler.number = Net(), 0
    persistence.restore(policy, world, "cpu")
    assert (policy.value, handler.number) == (7.0, 7)


def test_save_checkpoint_fn_needs_something_to_save(world):
    with pytest.raises(ValueError, match="nothing to save"):
        PolicyPersistence().get_save_checkpoint_fn(world)(1, 1, 1)


@modes
def test_epochs_stand_next_to_the_best_and_may_be_saved_again(world, tmp_path, mode):
    handler = Remembers()
    persistence = PolicyPersistence(handler, mode=mode)
    save = persistence.get_save_checkpoint_fn(world)
    handler.number = 1
    persistence.persist(Net(1.0), world)
    for value in (2.0, 3.0, 4.0):
        world.algorithm, handler.number = Net(value), value
        path = save(5, 0, 0)
        save(6, 0, 0)
    persistence.persist(Net(9.0), world)
    assert len(list((tmp_path / "policies").iterdir())) == 3  # the best and two epochs
    for directory, value in ((Path(path).resolve().parent, 4.0), (tmp_path, 9.0)):
        world.restore_directory = str(directory)
        policy = Net()
        persistence.restore(policy, world, "cpu")
        assert policy.value == value
        assert handler.number == 4.0


def test_both_modes_may_save_the_same_epoch(world):
    world.algorithm = Net(7.0)
    paths = [PolicyPersistence(mode=mode).get_save_checkpoint_fn(world)(7, 0, 0) for mode in (*Mode, *Mode)]
    assert all(Path(path).is_file() for path in paths)


def test_world(tmp_path):
    world = World(persist_directory=tmp_path)
    for part in ("envs", "policy", "algorithm", "training_collector", "test_collector", "logger", "trainer"):
        assert getattr(world, part) is None
    assert world.persist_path("a") == str(tmp_path / "a")
    with pytest.raises(ValueError, match="restore_directory"):
        PolicyPersistence().restore(Net(), world, "cpu")
    with pytest.raises(ValueError, match="persist_directory"):
        PolicyPersistence().persist(Net(), World())
    with pytest.raises(TypeError, match="persist_directory"):
        PolicyPersistence().persist(Net(), object())


@modes
def test_restoring_what_does_not_fit_changes_nothing_and_names_the_keys(world, mode):
    PolicyPersistence(mode=mode).persist(Wide(3.0), world)
    policy = Net(1.0)
    with pytest.raises(RestoreError) as caught:
        PolicyPersistence(mode=mode, trust=[Wide]).restore(policy, world, "cpu")
    assert policy.value == 1.0
    for part in ("extra.weight", "layer.weight", "(3, 2) in the file", "(2, 2) in the policy"):
        assert part in str(caught.value)


@modes
def test_restoring_without_a_file_says_what_is_there(world, tmp_path, mode):
    with pytest.raises(FileNotFoundError, match="directory of a run"):
        PolicyPersistence(mode=mode).restore(Net(), world, "cpu")
    other = next(m for m in Mode if m is not mode)
    PolicyPersistence(mode=other).persist(Net(), world)
    with pytest.raises(FileNotFoundError, match=rf"Mode\.{other.name}"):
        PolicyPersistence(mode=mode).restore(Net(), world, "cpu")


def test_importing_it_imports_no_library_of_the_field():
    code = (
        "import sys, perdure.persistence;"
        "assert not {'tianshou', 'gymnasium', 'stable_baselines3'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Names of classes on disk: Perdure's own are fixed, and users may move or rename theirs."""

from __future__ import annotations

import importlib
import re
import sys
import types
from functools import reduce

import numpy as np
import pytest

import perdure
from perdure.errors import RestoreError
from perdure.state import capture, restore
from perdure.state._class_names import OWN_CLASSES, class_name


@pytest.mark.parametrize(("name", "place"), OWN_CLASSES.items())
def test_each_recorded_name_of_our_own_still_stands_for_a_class(name: str, place: str) -> None:
    module, _, qualname = place.partition(":")
    cls = reduce(getattr, qualname.split("."), importlib.import_module(module))
    assert isinstance(cls, type)
    assert class_name(cls) == name


def _module(name: str, source: str) -> types.ModuleType:
    module = types.ModuleType(name)
    sys.modules[name] = module
    exec(source, vars(module))
    return module


AGENT = "class {name}:\n    def __init__(self):\n        self.weights = [1.0]\n"


@pytest.fixture
def before_and_after(monkeypatch):
    monkeypatch.setattr("perdure.state._class_names._renamed", {})
    old = _module("old_agents", AGENT.format(name="Old"))
    new = _module("new_agents", AGENT.format(name="New"))
    yield old, new
    for name in ("old_agents", "new_agents"):
        sys.modules.pop(name, None)


def _world(agent: object) -> perdure.World:
    return perdure.World(agent=agent)


def _remedy(error: RestoreError) -> str:
    (line,) = set(re.findall(r"perdure\.renamed\([^)]*\)", str(error)))
    return line


def test_a_renamed_class_is_refused_with_a_line_that_helps(before_and_after):
    old, new = before_and_after
    agent = old.Old()
    agent.weights[0] = 7.0
    state = capture({"agents": [agent], "shown": agent})
    del sys.modules["old_agents"]
    live = new.New()
    with pytest.raises(RestoreError) as raised:
        restore(state, {"agents": [live], "shown": live})
    line = _remedy(raised.value).replace("TheClassNow", "New")
    eval(line, {"perdure": perdure, "New": new.New})
    sys.modules["old_agents"] = old
    assert restore(state, {"agents": [live], "shown": live}).exact
    assert live.weights == [7.0]


def test_a_moved_module_is_said_once_for_all_its_classes(before_and_after):
    old, _ = before_and_after
    moved = _module("moved_agents", AGENT.format(name="Old"))
    state = capture({"agent": old.Old(), "made": [old.Old(), old.Old()]})
    perdure.renamed("old_agents", moved)
    world = {"agent": moved.Old(), "made": []}
    assert restore(state, world).exact
    assert [type(each) for each in world["made"]] == [moved.Old, moved.Old]
    del sys.modules["moved_agents"]


@pytest.mark.parametrize(("old", "new"), [("a.b:C", "a.d:C"), ("a.b:C", np), ("a.b", np.ndarray)])
def test_what_is_no_class_or_module_is_refused(old, new):
    with pytest.raises(TypeError, match="expected a"):
        perdure.renamed(old, new)


def test_a_class_of_ours_without_a_name_is_not_recorded_under_its_module() -> None:
    with pytest.raises(LookupError, match="OWN_CLASSES"):
        class_name(perdure.Run)

"""Names of classes on disk: Perdure's own are fixed, and users may move or rename theirs."""

from __future__ import annotations

import collections
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


KINDS = """
import collections, enum
class {name}Mode(enum.Enum):
    FAST = 1
class {name}Flags(enum.IntFlag):
    A = 1
    B = 2
class {name}Dict(dict): pass
class {name}Default(collections.defaultdict): pass
class {name}List(list): pass
class {name}Deque(collections.deque): pass
{name}Point = collections.namedtuple("{name}Point", "x y")
{name}Point.__module__ = "{module}"
class {name}Handled:
    number = 0
class {name}Item:
    def __init__(self):
        self.x = 1
"""


@pytest.mark.parametrize(
    ("kind", "make"),
    [
        ("Mode", lambda cls: cls.FAST),
        ("Flags", lambda cls: cls.A | cls.B),
        ("Dict", lambda cls: cls(a=1)),
        ("Default", lambda cls: cls(int, {"a": 1})),
        ("List", lambda cls: cls([1, 2])),
        ("Deque", lambda cls: cls([1, 2], 5)),
        ("Point", lambda cls: cls(1, 2)),
        ("Handled", lambda cls: cls()),
        ("Item", lambda cls: cls()),
    ],
)
@pytest.mark.parametrize("place", ["built", "made while running", "made by a factory"])
def test_every_kind_of_class_gets_the_line_that_helps(before_and_after, kind, make, place):
    """The script has an object of the renamed class, or only the class, or a factory that makes such objects."""
    modules = {}
    for name in ("Old", "New"):
        module = f"{name.lower()}_agents"
        modules[name] = _module(module, KINDS.format(name=name, module=module))
        handled = getattr(modules[name], f"{name}Handled")
        perdure.register(
            handled, capture=vars, restore=lambda live, saved: None, create=lambda saved, h=handled: h()
        )
    old, new = (make(getattr(modules[name], f"{name}{kind}")) for name in ("Old", "New"))

    def world(value, built):
        if place == "made by a factory":
            return {"x": collections.defaultdict(lambda: value, {"key": value} if built else {})}
        return {"x": [value if built or place == "built" else None]}

    state = capture(world(old, True))
    del sys.modules["old_agents"]
    with pytest.raises(RestoreError) as raised:
        restore(state, world(new, False))
    line = _remedy(raised.value)
    now = getattr(modules["New"], f"New{kind}")
    eval(
        line.replace("TheClassNow", "now").replace(f", New{kind})", ", now)"),
        {"perdure": perdure, "now": now},
    )
    live = world(new, False)
    assert restore(state, live).exact
    (found,) = live["x"].values() if isinstance(live["x"], dict) else live["x"]
    assert type(found) is now
    if kind != "Handled" and kind != "Item":
        assert found == new


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

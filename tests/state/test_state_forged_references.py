"""A checkpoint that names functions and classes makes a script call nothing that the script did not choose."""

from __future__ import annotations

import functools
import operator
import os
import random
import re
import sys
import types
from os import system as imported  # noqa: F401
from pathlib import Path  # noqa: F401

import numpy as np
import pytest
import torch
from state_support import transported

import perdure
from perdure.errors import RestoreError
from perdure.state import _references, capture, restore
from perdure.tree import MappingNode, Object, SequenceNode, State, Value


def wipe(*args):
    raise AssertionError("it was called")


def keep(x):
    return x


class Hooked(type):
    def __getattr__(cls, name):
        raise AssertionError("a hook ran")


class Trap(metaclass=Hooked):
    @property
    def danger(self):
        raise AssertionError("a property ran")


class Holder:
    def __init__(self, **values):
        vars(self).update(values)

    def method(self, x):
        return x


def function(name, *more):
    return Value("function", [name, *more])


def forged(node, live):
    """What restoring makes of a world in which `box.fn` is `live`, and a checkpoint that has a node there."""
    state = transported(capture({"box": Holder(fn=None)}))
    state.root.fields["box"].fields["fn"] = node
    world = {"box": Holder(fn=live)}
    restore(State(state.root), world)
    return world["box"].fn


HERE = __name__
#: Where the script has a function of its own.
REFUSED = {
    "of the operating system": function("os:system"),
    "of the operating system by its own name": function("posix:system"),
    "builtin": function("builtins:exec"),
    "of an imported module": function("shutil:rmtree"),
    "of an installed package": function("torch:load"),
    "of numpy": function("numpy:load"),
    "of a module that is not imported": function("antigravity:fly"),
    "through a property": function(f"{HERE}:Trap.danger"),
    "through a hook of a class": function(f"{HERE}:Trap.other"),
    "through an instance": function("sys:stdout.write"),
    "through a function": function(f"{HERE}:wipe.__globals__"),
    "through a module of the script": function(f"{HERE}:os.system"),
    "imported by the script": function(f"{HERE}:imported"),
    "a class imported by the script": Value("class", [f"{HERE}:Path"]),
    "a class as a function": function(f"{HERE}:Holder"),
    "of Perdure": function("perdure.state._references:allow"),
    "without a module": function("wipe"),
    "nothing": function(""),
    "a print of nothing": function(f"{HERE}:wipe.<locals>.<lambda>", "3.11 0123456789abcdef"),
    "of another print": function(f"{HERE}:<lambda>", "3.11 0123456789abcdef", f"{HERE}:wipe"),
    "many names": Value("function", [f"{HERE}:wipe"] * 9),
    "no name": Value("function", []),
    "a number": Value("function", [7]),
    "a text": Value("function", f"{HERE}:wipe"),
    "a class that starts processes": Value("class", ["subprocess:Popen"]),
    "a builtin class": Value("class", ["builtins:type"]),
    "a module": Value("module", ["os"]),
    "a partial of it": Object(
        "functools:partial",
        {
            "func": function("os:system"),
            "args": SequenceNode("tuple", ["true"]),
            "keywords": MappingNode("dict", []),
        },
    ),
    "a partial of a partial": Object(
        "functools:partial",
        {
            "func": Object("functools:partial", {"func": function("os:system"), "args": SequenceNode("tuple", []),
                                                 "keywords": MappingNode("dict", [])}),
            "args": SequenceNode("tuple", ["true"]),
            "keywords": MappingNode("dict", []),
        },
    ),
    "a partial without arguments": Object("functools:partial", {"func": function(f"{HERE}:wipe")}),
    "a partial of a text": Object(
        "functools:partial",
        {"func": "text", "args": SequenceNode("tuple", []), "keywords": MappingNode("dict", [])},
    ),
    "a method of it": Object("builtins:method", {"__func__": function("os:system"), "__self__": "true"}),
    "a method of nothing": Object("builtins:method", {"__func__": function(f"{HERE}:wipe"), "__self__": None}),
    "a getter": Object("operator:attrgetter", {"args": SequenceNode("tuple", ["__globals__"])}),
    "a caller": Object("operator:methodcaller", {"args": SequenceNode("tuple", ["system", "true"])}),
    "a function with variables": Object("builtins:function", {"__code__": function("os:system")}),
    "code of nowhere": Object(
        "builtins:function", {"__code__": function(f"{HERE}:wipe.<locals>.x", "3.11 0123456789abcdef")}
    ),
    "no code": Object("builtins:function", {"__code__": "text"}),
    "a pattern": Object("re:Pattern", {"pattern": "(a+)+$", "flags": 0}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_forged_reference_is_refused(name):
    for live in (keep, functools.partial(keep), Holder().method):
        with pytest.raises(RestoreError, match=r"box\.fn"):
            forged(REFUSED[name], live)


@pytest.mark.parametrize("live", ["text", 7, None, [], {}, np.zeros(2), torch.zeros(2), Holder(), b"", os])
def test_no_function_is_put_where_the_script_has_none(live):
    for node in (
        function(f"{HERE}:wipe"),
        Value("class", [f"{HERE}:Holder"]),
        Object("builtins:method", {"__func__": function(f"{HERE}:wipe"), "__self__": "text"}),
        Object(
            "functools:partial",
            {
                "func": function(f"{HERE}:wipe"),
                "args": SequenceNode("tuple", []),
                "keywords": MappingNode("dict", []),
            },
        ),
    ):
        if (type(live), node.__class__) == (Holder, Value) and node.kind == "class":
            continue  # its class is shown by the live object itself, and a class that is called makes one
        with pytest.raises(RestoreError, match=r"box\.fn.*perdure\.allow\("):
            forged(node, live)


NEIGHBOURS = {
    "torch": (torch.relu, function("torch:from_file")),
    "torch's own": (torch.relu, function("torch:import_ir_module")),
    "saving": (torch.save, function("torch:load")),
    "numpy's files": (np.save, function("numpy:load")),
    "numpy": (np.mean, function("numpy:fromfile")),
    "builtins": (len, function("builtins:eval")),
    "builtin class": (int, Value("class", ["builtins:type"])),
    "the operating system": (os.getcwd, function("posix:system")),
    "files": (os.path.join, function("posixpath:realpath")),
    "a class for a function": (torch.nn.functional.relu, Value("class", ["torch.nn.functional:Tensor"])),
    "a module": (types, Value("module", ["os"])),
    "a dunder": (operator.add, function("_operator:__import__")),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_neighbour_that_touches_files_is_refused(name):
    live, node = NEIGHBOURS[name]
    with pytest.raises(RestoreError, match=r"box\.fn"):
        forged(node, live)


def test_what_a_harmless_neighbour_may_replace():
    pairs = (
        (torch.relu, torch.tanh),
        (np.sin, np.exp),
        (random.gauss, random.random),
        (int, float),
        (len, max),
    )
    for live, then in pairs:
        assert forged(_references.reference(then), live) == then


def test_nothing_is_imported():
    before = set(sys.modules)
    for name in ("antigravity:fly", "this:s", "idlelib.run:main", "xml.dom.minidom:parse"):
        with pytest.raises(RestoreError):
            forged(function(name), keep)
    assert set(sys.modules) == before


def test_a_pattern_is_made_only_where_the_script_has_one():
    node = Object("re:Pattern", {"pattern": "b", "flags": 0})
    assert forged(node, re.compile("a")).pattern == "b"
    with pytest.raises(RestoreError):
        forged(node, "text")


def test_the_default_arguments_of_a_function_of_the_script_stay():
    def inner(x, w=1.0):
        return x * w

    for node in ("text", 7, None, MappingNode("dict", [])):
        saved = capture({"box": Holder(fn=inner)})
        saved.root.fields["box"].fields["fn"].fields["__defaults__"] = node
        with pytest.raises(RestoreError, match="default arguments"):
            restore(saved, {"box": Holder(fn=inner)})
    assert inner.__defaults__ == (1.0,)


@pytest.fixture
def nothing_allowed(monkeypatch):
    monkeypatch.setattr(_references, "_allowed", [])


@pytest.mark.usefixtures("nothing_allowed")
def test_what_is_allowed_is_put_anywhere():
    node = function("torch.nn.functional:relu")
    for live in (None, keep, "text"):
        with pytest.raises(RestoreError, match=r"perdure\.allow\(relu\)"):
            forged(node, live)
    perdure.allow(torch.nn.functional.relu, keep, Holder.method, operator)
    for live in (None, keep, "text"):
        assert forged(node, live) is torch.nn.functional.relu
    assert forged(function(f"{HERE}:keep"), None) is keep
    assert forged(Value("module", ["operator"]), None) is operator
    method = Object("builtins:method", {"__func__": function(f"{HERE}:Holder.method"), "__self__": 3})
    assert forged(method, None)(5) == 5


def test_only_definitions_are_allowed():
    for each in ("rewards:sparse", 7, Holder()):
        with pytest.raises(TypeError, match=r"perdure\.allow: expected a function, a class or a module"):
            perdure.allow(each)

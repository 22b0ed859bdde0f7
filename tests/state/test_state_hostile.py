"""A document is not trusted: whatever it says, nothing is imported, called or constructed, and nothing crashes."""

from __future__ import annotations

import copy
import enum
import http
import json
import os
import random
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from state_support import Bytes, packed, transported

from perdure import tree
from perdure.errors import DamagedError, RestoreError
from perdure.state import capture, diff, restore


class Thing:
    def __init__(self):
        self.x = 0
        self.items = [1]

    def method(self):
        return "mine"

    @property
    def computed(self):
        return "mine"

    @computed.setter
    def computed(self, value):
        raise AssertionError("a setter ran")

    @classmethod
    def build(cls):
        return cls()


class Slotted:
    __slots__ = ("x",)


class Colour(enum.Enum):
    RED = 1


@pytest.fixture(autouse=True)
def nothing_is_called(monkeypatch):
    for module, name in ((os, "system"), (subprocess, "Popen"), (subprocess, "run"), (os, "remove")):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: pytest.fail("called"))


def document(*nodes, root=0, sources=()):
    """A document whose node 0 is the root."""
    return tree.decode(
        json.loads(json.dumps({"root": [root], "nodes": list(nodes)})), [Bytes(each) for each in sources]
    )


def world():
    return {
        "x": Thing(),
        "net": torch.nn.Linear(2, 2),
        "env": gym.make("CartPole-v1"),
        "g": np.random.default_rng(1),
    }


def holding(*nodes, sources=()):
    """A state whose part `x` is a Thing with an attribute `evil`, node 2 of the document."""
    return document(
        ["o", "perdure:World", {"x": [1]}],
        ["o", f"{__name__}:Thing", {"x": 5, "items": [], "evil": [2]} | {"items": 1}],
        *nodes,
        sources=sources,
    )


def is_refused(state, live=None):
    live = {"x": Thing()} if live is None else live
    before = transported(capture(live))
    with pytest.raises(RestoreError) as raised:
        restore(state, live)
    assert diff(before, capture(live), ignore=()) == []
    return str(raised.value)


def test_the_frame_of_these_tests_is_sound():
    live = {"x": Thing()}
    restore(holding(["i", "list", [1, 2]]), live)
    assert live["x"].evil == [1, 2]


# -- classes ----------------------------------------------------------------------------------------------------------

CLASSES = [
    "os:system",
    "posix:system",
    "subprocess:Popen",
    "builtins:eval",
    "builtins:type",
    "builtins:function",
    "builtins:object",
    "nowhere:Thing",
    "os",
    "",
    ":",
    "a:b:c",
    "builtins:dict",
    "builtins:int",
    "builtins:str",
    "collections:deque",
    "pathlib:Path",
    "functools:partial",
    "types:CodeType",
    "torch.nn.modules.linear:Linear",
    "threading:Thread",
    "gymnasium.envs.classic_control.cartpole:CartPoleEnv",
    "perdure.world:World",
    "enum:Enum",
    f"{__name__}:Colour",
    f"{__name__}:Thing.method",
    f"{__name__}:Thing.__class__",
    f"{__name__}:pytest.fail",
    "builtins:BaseException",
    "numpy:ndarray",
    "torch:Tensor",
    "numpy.random._generator:Generator",
    "random:Random",
]


# A generator of Python's is made by its handler: see test_state_rng.
CLAIMS = [(kind, name) for kind in "odih" for name in CLASSES if (kind, name) != ("h", "random:Random")]


@pytest.mark.parametrize(("kind", "name"), CLAIMS)
def test_classes_that_the_script_does_not_have(kind, name):
    below = {"o": {"args": "x"}, "d": {"args": "x"}, "i": ["x"], "h": "x"}[kind]
    loaded = set(sys.modules)
    is_refused(holding([kind, name, below]))
    assert set(sys.modules) == loaded


@pytest.mark.parametrize("kind", ["o", "d", "i", "h"])
@pytest.mark.parametrize("part", ["x", "net", "env", "g"])
def test_the_live_class_in_another_guise(kind, part):
    live = world()
    name = f"{type(live[part]).__module__}:{type(live[part]).__qualname__}"
    below = {"o": {"evil": "x"}, "d": {"evil": "x"}, "i": ["x"], "h": "x"}[kind]
    state = document(["o", "perdure:World", {part: [1]}], [kind, name, below])
    is_refused(state, {part: live[part]})


def test_an_enum_that_the_script_does_not_use():
    # Its module is imported, and none of the script's objects is of it.
    message = is_refused(holding(["v", "enum", [f"{http.__name__}:HTTPStatus", "OK"]]))
    assert "an enum that the script does not use" in message
    live = {"x": Thing(), "c": Colour.RED}
    for data in (
        ["builtins:dict", "x"],
        [f"{__name__}:Colour", "__class__"],
        [f"{__name__}:Colour", "mro"],
        ["x"],
        "x",
        5,
        None,
    ):
        is_refused(holding(["v", "enum", data]), {**live})


# -- attributes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "__class__",
        "__dict__",
        "__init__",
        "__reduce__",
        "__array_interface__",
        "__array__",
        "__getattr__",
        "method",
        "build",
    ],
)
def test_attributes_that_mean_something_to_python(name):
    state = document(
        ["o", "perdure:World", {"x": [1]}],
        ["o", f"{__name__}:Thing", {"x": 1, "items": [2], name: "text"}],
        ["i", "list", []],
    )
    live = {"x": Thing()}
    assert f"x.{name}" in is_refused(state, live)
    assert live["x"].method() == "mine"
    made = document(
        ["o", "perdure:World", {"x": [1], "more": [2]}],
        ["o", f"{__name__}:Thing", {"x": 1, "items": 1}],
        ["i", "list", [[3]]],
        ["o", f"{__name__}:Thing", {"x": 1, name: "text"}],
    )
    is_refused(made, {"x": Thing(), "more": []})


def test_a_property_stays_one():
    state = document(
        ["o", "perdure:World", {"x": [1]}],
        ["o", f"{__name__}:Thing", {"x": 1, "items": 1, "computed": "text"}],
    )
    live = {"x": Thing()}
    restore(state, live)
    assert live["x"].computed == "mine"


def test_slots_take_no_other_attributes():
    live = {"x": Slotted()}
    live["x"].x = 1
    state = document(["o", "perdure:World", {"x": [1]}], ["o", f"{__name__}:Slotted", {"x": 2, "y": 3}])
    assert "cannot have" in is_refused(state, live)


@pytest.mark.parametrize("part", ["net", "env"])
@pytest.mark.parametrize("value", ["text", None, 5])
def test_the_program_is_not_replaced(part, value):
    live = world()
    assert part in is_refused(document(["o", "perdure:World", {part: value}]), {part: live[part]})


@pytest.mark.parametrize(
    "name", ["forward", "step", "reset", "state_dict", "parameters", "weight", "_parameters", "_modules"]
)
def test_modules_keep_their_methods_and_tables(name):
    live = {"net": torch.nn.Linear(2, 2)}
    state = transported(capture(live))
    state.root.fields["net"].fields[name] = "text"
    if name in ("step", "reset"):
        restore(state, live)
        assert vars(live["net"])[name] == "text"
    elif name in ("_parameters", "_modules"):
        restore(state, live, strict=False)
        assert list(live["net"]._parameters) == ["weight", "bias"]
    else:
        assert f"net.{name}" in is_refused(state, live)


# -- values -----------------------------------------------------------------------------------------------------------

VALUES = [
    ("os.system", "ls"),
    ("complex", ["x", "y"]),
    ("complex", 5),
    ("bytes", "zz"),
    ("bytes", 5),
    ("torch.dtype", "nope"),
    ("torch.dtype", "load"),
    ("torch.device", "nope"),
    ("torch.device", [1]),
    ("torch.Size", "x"),
    ("slice", "os.system"),
    ("slice", [1, 2]),
    ("range", ["0x1", "0x2", "0x0"]),
    ("range", "x"),
    ("datetime", "x"),
    ("datetime", [5, 5]),
    ("timedelta", ["a"]),
    ("timedelta", [10**30, 0, 0]),
    ("timezone", [0, 0, 0]),
    ("timezone", [9, 0, 0, None]),
    ("timezone", [0, 0, 0, 5]),
    ("datetime", ["2024-01-01T00:00:00+01:00", 0, 7]),
    ("decimal", "x"),
    ("fraction", ["0x1", "0x0"]),
    ("fraction", "1e999999999"),
    ("uuid", "x"),
    ("path", ["Popen", "x"]),
    ("numpy", ["O", "00"]),
    ("numpy", ["<f4", "00"]),
    ("numpy", ["f4,O", "00"]),
    ("numpy", [[["a", "O"]], "00"]),
    ("numpy", "x"),
    ("numpy.dtype", ["x"]),
    ("numpy.dtype", "nope"),
    ("numpy.dtype", "(9,9)f4"),
    ("numpy.dtype", [["a", "f4", [10**18]]]),
    ("constant", "os"),
    ("constant", [1]),
    ("enum", []),
    ("", None),
]


@pytest.mark.parametrize(("kind", "data"), VALUES)
def test_values_that_are_none(kind, data):
    is_refused(holding(["v", kind, data]))
    is_refused(document(["o", "perdure:World", {"x": [1]}], ["v", kind, data]), {"x": 5})


def test_numbers_and_text_that_are_none():
    for kind, data in (
        ("int", "os"),
        ("int", 5),
        ("float", "x"),
        ("float", None),
        ("str", "zz"),
        ("str", "ff"),
        ("str", 5),
    ):
        with pytest.raises(DamagedError):
            holding(["v", kind, data])


def test_a_dtype_nested_without_end():
    notation = "<f4"
    for _ in range(100_000):
        notation = [["a", notation]]
    state = tree.decode(
        {"root": [0], "nodes": [["o", "perdure:World", {"x": [1]}], ["v", "numpy.dtype", notation]]}, []
    )
    is_refused(state, {"x": 5})
    array = ["a", {"lib": "numpy", "dtype": notation, "shape": [], "blob": 0}]
    with pytest.raises(DamagedError):
        tree.decode({"root": [0], "nodes": [["o", "perdure:World", {"x": [1]}], array]}, [Bytes(b"0000")])


# -- arrays -----------------------------------------------------------------------------------------------------------


def array(**fields):
    return {"lib": "numpy", "dtype": "<f4", "shape": [2], "blob": 0} | fields


ARRAYS = [
    array(lib="pickle"),
    array(dtype="O"),
    array(dtype="nope"),
    array(dtype=5),
    array(dtype=[["a", "O"]]),
    array(dtype="(2,)f2", shape=[2]),
    array(shape=[3]),
    array(shape=[-2]),
    array(shape=[1.0, 2]),
    array(shape="2"),
    array(shape=[2, True]),
    array(shape=[1] * 65 + [2]),
    array(shape=[0, 1 << 61], blob=1),
    array(blob=7),
    array(blob=-1),
    array(blob="0"),
    array(order=[1]),
    array(order=[0, 0]),
    array(order="a"),
    array(lib="torch", dtype="float32", extra={"device": "meta"}),
    array(lib="torch", dtype="float32", extra={"device": 5}),
    array(lib="torch", dtype="float32", extra={"device": "nope"}),
    array(lib="torch", dtype="float32", extra={"parameter": "x"}),
    array(lib="torch", dtype="float32", extra={"__class__": True}),
    array(lib="torch", dtype="load"),
    array(lib="torch", dtype=["x"]),
    array(extra=5),
    array(grad=[0]),
    array(grad=5),
    array(lib="torch", dtype="float32", grad=[2]),
    {"lib": "numpy"},
    [],
    "x",
    None,
]


@pytest.mark.parametrize("index", range(len(ARRAYS)))
def test_arrays_that_are_none(index):
    nodes = [
        ["o", "perdure:World", {"x": [1]}],
        ["a", ARRAYS[index]],
        ["a", array(lib="torch", dtype="float64", shape=[1], blob=0)],
    ]
    with pytest.raises(DamagedError):
        document(*nodes, sources=[b"12345678", b""])


WINDOWS = [
    {"offset": 4},
    {"offset": -4},
    {"offset": 1 << 61},
    {"strides": [8]},
    {"strides": [-4]},
    {"strides": []},
    {"strides": ["4"]},
    {"strides": [1 << 61]},
    {"shape": [1 << 61]},
    {"shape": [0]},
    {"base": [1]},
    {"base": [2]},
    {"base": [0]},
    {"base": 5},
    {"offset": 1, "shape": [1]},
    {"dtype": "float64"},
]


@pytest.mark.parametrize("change", WINDOWS)
def test_windows_onto_other_memory(change):
    window = {"lib": "torch", "dtype": "float32", "shape": [2], "base": [2], "offset": 0, "strides": [4]}
    base = array(lib="torch", dtype="float32")
    nodes = [["o", "perdure:World", {"x": [1]}], ["a", window], ["a", base]]
    document(*nodes, sources=[b"12345678"])
    if change == {"base": [2]}:
        nodes = [["o", "perdure:World", {"x": [1]}], ["a", window], ["a", window | {"base": [1]}]]
    else:
        nodes[1] = ["a", window | change]
    with pytest.raises(DamagedError):
        document(*nodes, sources=[b"12345678"])


def test_bytes_are_used_once():
    with pytest.raises(DamagedError, match="once"):
        document(
            ["o", "perdure:World", {"x": [1], "y": [2]}],
            ["a", array()],
            ["a", array()],
            sources=[b"12345678"],
        )


# -- containers and documents -----------------------------------------------------------------------------------------

NODES = [
    ["i", "list", [[3]]],
    ["i", "list", 5],
    ["i", "list", {"a": 1}],
    ["i", 5, []],
    ["i", "list"],
    ["i", "list", [[0, 1]]],
    ["i", "list", [["0"]]],
    ["i", "list", [[-1]]],
    ["i", "list", [[True]]],
    ["d", "dict", []],
    ["m", "dict", {}],
    ["m", "dict", [[1]]],
    ["m", "dict", [5]],
    ["i", "ndarray", [1, 2]],
    ["i", "ndarray", [1, 2], "x"],
    ["i", "ndarray", [1], [2]],
    ["i", "deque", [1, 2], 1],
    ["i", "deque", [], -1],
    ["i", "deque", [], "x"],
    ["r", None, 5],
    ["r", None, -1],
    ["r", None, "x"],
    ["p", "int", 5],
    ["p", "str", [0]],
    ["h", "x:y"],
    ["z", "x", "y"],
    [],
    "x",
    5,
    None,
    ["o", "x:y", []],
    ["o", "x:y", 5],
    ["x", 5],
    ["v", 5, 5],
    ["i", "list", [1], None, 5],
]


@pytest.mark.parametrize("node", NODES, ids=str)
def test_nodes_that_are_none(node):
    try:
        state = holding(node)
    except DamagedError:
        return
    is_refused(state)


@pytest.mark.parametrize(
    "document",
    [
        None,
        5,
        [],
        {},
        {"nodes": []},
        {"root": 5, "nodes": []},
        {"root": [0], "nodes": {}},
        {"root": [0], "nodes": [["v", "x", 1]]},
    ],
)
def test_documents_that_are_none(document):
    with pytest.raises(DamagedError):
        tree.decode(document, [])


def test_runs_that_are_none():
    numbers = ["a", array(dtype="<i8", shape=[1])]
    matrix = ["a", array(dtype="<f4", shape=[2, 1])]
    for run, inner in (
        (["p", "int", [4]], ["a", array()]),
        (["p", "float", [4]], matrix),
        (["p", "bool", [4]], numbers),
        (["p", "numpy", [4]], ["a", array(dtype="<U2", shape=[1])]),
        (["r", [4], 10], ["d", "dict", {"a": 1}]),
        (["r", [4], 10], ["o", f"{__name__}:Thing", {}]),
        (["r", [4], 10], ["i", "tuple", []]),
        (["r", 5, 10], ["d", "dict", {}]),
        (["r", None, 1 << 60], ["d", "dict", {}]),
    ):
        with pytest.raises(DamagedError):
            holding(["i", "list", [[3]]], run, inner, sources=[b"12345678"])


@pytest.mark.parametrize(
    "key",
    [
        ["i", "list", []],
        ["d", "dict", {}],
        ["i", "set", []],
        ["i", "tuple", [[4]]],
        ["a", array(shape=[2])],
        ["i", "ndarray", [], [5]],
    ],
    ids=str,
)
def test_keys_that_cannot_be_hashed(key):
    for node in (["m", "dict", [[[3], 1]]], ["i", "set", [[3]]], ["i", "frozenset", [[3]]]):
        rest = [key, ["i", "list", []], ["v", "shape", [0]]]
        blobs = [b"12345678"] if key[0] == "a" else []
        is_refused(holding(node, *rest, sources=blobs))


def test_tuples_that_hold_themselves():
    assert "contains itself" in is_refused(holding(["i", "tuple", [[2]]]))
    assert "contains itself" in is_refused(holding(["i", "tuple", [[3]]], ["i", "frozenset", [[2]]]))
    is_refused(holding(["h", "builtins:bytearray", [2]]))


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "object", "frozenset", "handler"])
def test_documents_nested_without_end(kind):
    depth = 20_000
    make = {
        "list": lambda n: ["i", "list", [[n]]],
        "tuple": lambda n: ["i", "tuple", [[n]]],
        "frozenset": lambda n: ["i", "frozenset", [[n]]],
        "dict": lambda n: ["d", "dict", {"a": [n]}],
        "object": lambda n: ["o", f"{__name__}:Thing", {"x": [n]}],
        "handler": lambda n: ["h", "builtins:bytearray", [n]],
    }[kind]
    nodes = [make(number + 3) for number in range(depth)]
    state = holding(*nodes, ["i", "list", []])
    live = {"x": Thing()}
    if kind in ("tuple", "frozenset", "handler"):
        is_refused(state)
        return
    restore(state, live)
    found, levels = live["x"].evil, 0
    while found != []:
        found, levels = (
            (found[0] if kind == "list" else found["a"] if kind == "dict" else found.x),
            levels + 1,
        )
    assert levels == depth


def test_any_damage_to_a_document_is_noticed_or_harmless():
    """Structural fuzzing: change one place of a real document at random; nothing but our own errors may come of it."""
    live = {
        "net": torch.nn.Linear(2, 2),
        "env": gym.make("CartPole-v1"),
        "x": Thing(),
        "g": np.random.default_rng(1),
        "d": {1: (2, {3}), "k": [None] * 20, "n": list(range(20))},
    }
    live["env"].reset(seed=1)
    whole = np.arange(6.0)
    live["x"].views = [whole, whole[2:4], torch.from_numpy(whole)[1:]]
    text, content = packed(capture(live))
    original = json.loads(text)
    chance = random.Random(5)
    stuff = [
        None,
        True,
        -1,
        0,
        3,
        10**25,
        1.5,
        "",
        "list",
        "builtins:object",
        "<i8",
        [],
        [0],
        [5],
        {},
        ["x"],
        {"a": 1},
    ]
    refused = 0
    for _ in range(400):
        damaged = copy.deepcopy(original)
        at, last = damaged["nodes"], None
        while isinstance(at, list | dict) and at and (last is None or chance.random() < 0.8):
            key = chance.choice(list(at) if isinstance(at, dict) else range(len(at)))
            last, at = (at, key), at[key]
        last[0][last[1]] = chance.choice(stuff)
        try:
            restore(
                tree.decode(damaged, [Bytes(each) for each in content]), live, strict=chance.random() < 0.7
            )
        except (RestoreError, DamagedError):
            refused += 1
    assert refused > 100
    assert isinstance(live["net"], torch.nn.Linear)
    assert live["x"].method() == "mine"

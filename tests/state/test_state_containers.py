"""Containers: content, order, identity, cycles, and what is filled in place."""

from __future__ import annotations

import collections
import functools
import itertools
import json
import time
from typing import NamedTuple

import numpy as np
import pytest
import torch
from state_support import moved, transported

from perdure.errors import CaptureError, RestoreError
from perdure.state import allow, capture, rebuildable, restore


class Point(NamedTuple):
    x: int
    y: object


class Named(dict):
    def __init__(self):
        super().__init__()
        self.note = "made"

    def items(self):
        return [("not", "the content")]

    def __setitem__(self, key, value):
        raise AssertionError("restoring uses no method of the class")


class Stack(list):
    limit = 3

    def __iter__(self):
        return iter(["not the content"])


class Pair(tuple):
    pass


class Window(collections.deque):
    pass


CONTAINERS = [
    {},
    {"a": 1, "b": [1, 2]},
    {
        1: "int",
        1.5: "float",
        None: "none",
        (1, "a", (2,)): "tuple",
        b"x": "bytes",
        frozenset({1}): "set",
        True + 1: 2,
    },
    {"\ud83d\ude00": 1, "\U0001f600": 2},
    {10**5000: 1},
    {np.int64(3): 1, np.float32(2): 2},
    {float("inf"): 1},
    [],
    [1, "a", None, [2, [3]]],
    list(range(100)),
    [1.5] * 100,
    [True, False] * 20,
    [2**70] * 20,
    [1, 2.0] * 20,
    [None] * 100,
    [np.float32(x) for x in range(20)],
    (),
    (1, (2, (3,))),
    tuple(range(50)),
    {1, "a", (2, 3), None},
    set(range(100)),
    frozenset({1, frozenset({2})}),
    collections.deque([1, 2, 3]),
    collections.deque([1, 2, 3], maxlen=3),
    collections.deque(range(50), maxlen=100),
    collections.deque(maxlen=0),
    collections.OrderedDict([("b", 1), ("a", 2)]),
    collections.defaultdict(int, a=1),
    collections.defaultdict(None, {2: 3}),
    collections.defaultdict(list, {0: [1]}),
    collections.Counter("abracadabra"),
    np.array([None, 1, "a", [2], {}], dtype=object),
    np.array([[1, 2], [3, None]], dtype=object),
    np.empty((0, 3), dtype=object),
    np.array(5, dtype=object),
]


def equal(a, b):
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.ravel().tolist() == b.ravel().tolist()
    return a == b


@pytest.mark.parametrize("index", range(len(CONTAINERS)))
def test_a_container_survives(index):
    value = CONTAINERS[index]
    for into in (
        None,
        [],
        {},
        "x",
        type(value)() if not isinstance(value, np.ndarray) else np.empty(2, object),
    ):
        found = moved(value, into)
        assert type(found) is type(value)
        assert equal(found, value)
    if isinstance(value, dict):
        assert list(found) == list(value)
    if isinstance(value, collections.deque):
        assert found.maxlen == value.maxlen
    if isinstance(value, collections.defaultdict):
        assert found.default_factory is value.default_factory


def test_containers_that_are_there_are_filled_in_place():
    lives = [
        {"old": 1},
        [1, 2, 3],
        {4},
        collections.deque([5]),
        collections.OrderedDict(z=1),
        np.array([{}, 2], object),
    ]
    values = [
        {"new": 2},
        [9],
        {8, 7},
        collections.deque([6, 6]),
        collections.OrderedDict(b=1, a=2),
        np.array([3, []], object),
    ]
    for live, value in zip(lives, values, strict=True):
        assert moved(value, live) is live
        assert equal(live, value)


def test_a_moved_end_of_an_ordered_dict_is_kept():
    value = collections.OrderedDict(a=1, b=2, c=3)
    value.move_to_end("a")
    assert list(moved(value)) == ["b", "c", "a"]
    assert list(moved(value, collections.OrderedDict(a=1, b=2, c=3))) == ["b", "c", "a"]


def zero(number=0):
    return number


class Kept(collections.defaultdict):
    pass


FACTORIES = {
    "a lambda": lambda: collections.defaultdict(lambda: "theirs"),
    "a function": lambda: collections.defaultdict(zero),
    "a class": lambda: collections.defaultdict(Average),
    "a partial": lambda: collections.defaultdict(functools.partial(zero, 7)),
    "numbers one after the other": lambda: collections.defaultdict(itertools.count(5).__next__),
    "none": lambda: collections.defaultdict(None),
    "one of Python's": lambda: collections.defaultdict(list),
    "of a subclass": lambda: Kept(zero),
    "of a subclass, one of Python's": lambda: Kept(set),
}


@pytest.mark.parametrize("kind", FACTORIES)
def test_the_factory_of_a_defaultdict_is_state(kind):
    value = FACTORIES[kind]()
    for live in (
        type(value)(lambda: "mine"),
        type(value)(list),
        FACTORIES[kind](),
        *([] if kind == "numbers one after the other" else [None]),
    ):
        holder = {"x": live, "seen": [Average(), Kept]}
        state = transported(capture({"x": value, "seen": [Average()]}))
        restore(state, holder)
        found = holder["x"]
        assert type(found) is type(value)
        assert live is None or found is live
        if value.default_factory is None:
            assert found.default_factory is None
        else:
            expected = FACTORIES[kind]()["b"]
            assert type(found["b"]) is type(expected)
            assert isinstance(expected, Average) or found["b"] == expected


def test_a_factory_of_an_installed_package_needs_leave():
    value = collections.defaultdict(json.JSONEncoder)
    for live in (None, collections.defaultdict(list)):
        with pytest.raises(RestoreError, match=r"JSONEncoder here.*perdure.allow\(JSONEncoder\)"):
            moved(value, live)
    with pytest.raises(RestoreError, match="JSONEncoder"):
        moved({"x": value}, {})
    allow(json.JSONEncoder)
    for live in (None, collections.defaultdict(list)):
        assert moved(value, live).default_factory is json.JSONEncoder


def test_what_is_not_called_is_no_factory():
    for forged in (3, "os.system", [len], {"a": 1}, None):
        state = transported(capture({"x": collections.defaultdict(zero)}))
        state.root.fields["x"].fields = {"default_factory": capture({"y": forged}).root.fields["y"]}
        for live in (None, collections.defaultdict(zero)):
            if forged is None and live is not None:
                continue  # as an older file
            with pytest.raises(RestoreError, match=r"factory"):
                restore(state, {"x": live})


class Average:
    def __init__(self):
        self.sum, self.count = 0.0, 0


def test_a_factory_shows_the_class_of_what_it_makes():
    value = collections.defaultdict(Average)
    value["loss"].sum = 5.0
    hidden = collections.defaultdict(lambda: Average())
    for live in (collections.defaultdict(Average), hidden):
        found = moved(dict_like(value, live), live)
        assert type(found["loss"]) is Average
        assert found["loss"].sum == 5.0


def dict_like(value, live):
    made = collections.defaultdict(live.default_factory)
    made.update(value)
    return made


def test_named_tuples():
    value = [Point(1, [2]), Point(3, None)]
    found = moved(value, [Point(0, 0)])
    assert found == value
    assert type(found[1]) is Point
    with pytest.raises(RestoreError, match=r"Point.*rebuildable\(Point\)"):
        moved(value, [])


def test_a_class_can_be_declared_as_one_that_is_made_from_its_content():
    class Transition(NamedTuple):
        reward: float

    globals()["Transition"] = Transition
    Transition.__qualname__ = "Transition"
    rebuildable(Transition)
    assert moved(collections.deque([Transition(1.0)]), collections.deque()) == collections.deque(
        [Transition(1.0)]
    )


def test_what_torch_returns_as_a_tuple():
    value = torch.max(torch.arange(6.0).reshape(2, 3), dim=1)
    found = moved(value, torch.max(torch.zeros(2, 3), dim=1))
    assert type(found) is type(value)
    assert found.indices.tolist() == [2, 2]
    assert type(moved(time.gmtime(0), time.gmtime())) is time.struct_time


def test_subclasses_keep_their_content_and_their_attributes():
    value = Named()
    dict.__setitem__(value, "k", [1])
    value.note = "changed"
    live = Named()
    assert moved(value, live) is live
    assert dict(dict.items(live)) == {"k": [1]}
    assert live.note == "changed"

    stack, fresh = Stack([1, 2]), Stack()
    stack.limit = 7
    assert moved(stack, fresh) is fresh
    assert fresh[:] == [1, 2]
    assert fresh.limit == 7

    pair, other = Pair((1, 2)), Pair((3, 4))
    pair.note = [5]
    found = moved([pair], [other])[0]
    assert (found, type(found), found.note) == ((1, 2), Pair, [5])

    window = Window([1, 2], maxlen=2)
    found = moved(window, Window())
    assert (list(found), found.maxlen, type(found)) == ([1, 2], 2, Window)


def test_subclasses_are_made_where_the_script_shows_their_class():
    found = moved([Stack([1]), Stack([2])], [Stack()])
    assert [type(each) for each in found] == [Stack, Stack]
    assert found[1][:] == [2]


# -- identity ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [list, dict, set, collections.deque, lambda: np.zeros(3), lambda: torch.zeros(3)]
)
def test_two_names_for_one_object_are_one_object_again(make):
    shared = make()
    found = moved([shared, {"again": shared}, make()], [make(), {"again": make()}, make()])
    assert found[0] is found[1]["again"]
    assert found[0] is not found[2]
    found = moved([shared, {"again": shared}, make()])
    assert found[0] is found[1]["again"]
    assert found[0] is not found[2]


def test_what_is_apart_stays_apart_where_the_script_shares_it():
    live = [0.0]
    found = moved([[1.0], [2.0]], [live, live])
    assert found == [[1.0], [2.0]]
    array = np.zeros(3)
    found = moved([np.ones(3), np.full(3, 2.0)], [array, array])
    assert [each.tolist() for each in found] == [[1, 1, 1], [2, 2, 2]]
    found = moved([np.ones(3), np.full(3, 2.0)], [array, array[::-1]])
    assert [each.tolist() for each in found] == [[1, 1, 1], [2, 2, 2]]


def test_cycles():
    itself: dict = {"a": 1}
    itself["self"] = itself
    found = moved(itself)
    assert found["self"] is found
    live: dict = {}
    assert moved(itself, live) is live
    assert live["self"] is live

    inner: list = []
    outer = (inner, "x")
    inner.append(outer)
    for into in (None, ([], "y")):
        found = moved(outer, into)
        assert found[0][0] is found

    deque: collections.deque = collections.deque()
    deque.append({"back": [deque]})
    found = moved(deque)
    assert found[0]["back"][0] is found

    array = np.empty(2, object)
    array[0] = array
    found = moved(array)
    assert found[0] is found
    assert found[1] is None


def test_an_element_that_is_known_elsewhere_is_no_mere_repetition():
    last: dict = {}
    infos = [{} for _ in range(30)] + [last]
    found = moved({"infos": infos, "last": last})
    assert found["infos"][-1] is found["last"]
    assert len({id(info) for info in found["infos"]}) == 31
    shared: list = []
    found = moved([shared] * 20)
    assert len({id(each) for each in found}) == 1


def test_a_million_empty_dicts_are_one_leaf():
    array = np.empty((500_000, 2), dtype=object)
    flat = array.reshape(-1)
    for index in range(len(flat)):
        flat[index] = {}
    del flat
    state = capture({"infos": array, "list": [None] * 1_000_000})
    assert sum(path.startswith(("infos", "list")) for path, _ in state.leaves()) == 2
    live = {"infos": np.empty((500_000, 2), dtype=object), "list": []}
    restore(transported(state), live)
    live["infos"][0, 0]["a"] = 1
    assert live["infos"][0, 1] == {}
    assert live["infos"][499_999, 1] == {}
    assert len(live["list"]) == 1_000_000


def test_a_partly_filled_buffer_of_dicts_is_few_leaves():
    infos = [{"TimeLimit.truncated": True} if index in (3, 7_000) else {} for index in range(10_000)]
    state = capture({"infos": infos})
    assert sum(path.startswith("infos") for path, _ in state.leaves()) < 30
    assert moved(infos) == infos


# -- keys -------------------------------------------------------------------------------------------------------------


class Key:
    def __init__(self, name):
        self.name = name

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        return self.name == other.name


def test_objects_as_keys_are_complete_before_they_are_hashed():
    found = moved(
        {"d": {Key("a"): 1}, "s": {Key("b")}, "f": frozenset({Key("c")}), "show": Key("x")},
        {"show": Key("y")},
    )
    assert found["d"][Key("a")] == 1
    assert Key("b") in found["s"]
    assert Key("c") in found["f"]


def test_functions_as_keys():
    live = {len: "mine", "a": 0}
    found = moved({len: "theirs", "a": 1}, live)
    assert found == {len: "theirs", "a": 1}


def test_keys_that_are_tensors_of_the_world():
    weight = torch.nn.Parameter(torch.ones(1))
    live = torch.nn.Parameter(torch.zeros(1))
    found = moved({"w": weight, "state": {weight: {"step": 3}}}, {"w": live, "state": {}})
    assert found["w"] is live
    assert found["state"][live] == {"step": 3}


def test_structured_arrays_of_objects_are_refused():
    with pytest.raises(CaptureError, match="hold Python objects"):
        capture({"x": np.zeros(2, dtype=[("a", object)])})
    with pytest.raises(CaptureError, match="hold Python objects"):
        capture({"x": np.array(["a"], dtype=np.dtypes.StringDType())})

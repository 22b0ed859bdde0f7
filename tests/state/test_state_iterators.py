"""Iterators go on where they were, over the same objects as before."""

from __future__ import annotations

import collections
import itertools
import operator
from array import array
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from state_support import transported

import perdure
from perdure import errors
from perdure.state import capture, diff, restore


class Numbers:
    """An iterator of a user's: an object with attributes."""

    def __init__(self) -> None:
        self.at = 0

    def __iter__(self) -> Numbers:
        return self

    def __next__(self) -> int:
        self.at += 1
        return self.at


class Restarting(Numbers):
    def __iter__(self) -> Restarting:
        self.at = 0
        return self


class Deck:
    """A sequence without `__iter__`."""

    def __init__(self) -> None:
        self.cards = [1, 2, 3]

    def __getitem__(self, index: int) -> int:
        return self.cards[index]

    def draw(self, number: int = 1) -> int:
        self.cards.append(number)
        return self.cards.pop(0)


class Data:
    """What the iterators of a world go over."""

    def __init__(self) -> None:
        self.items: list[Any] = [{"n": index} for index in range(5)]
        self.names = dict(zip("abcdef", [*self.items, 1], strict=True))
        self.ordered = collections.OrderedDict(self.names)
        self.queue = collections.deque(self.items, 9)
        self.bag = {10, 20, 30, "x", "y"}
        self.array = np.arange(6.0).reshape(2, 3)
        self.numbers = array("i", [5, 6, 7, 8])
        self.bytes = bytearray(b"abcdef")
        self.deck = Deck()
        self.pairs = [(1, 2), (3, 4), (5, 6), (7, 8)]
        self.stream = Numbers()


def double(value: Any) -> Any:
    return (value, value)


def is_small(value: Any) -> bool:
    return value < 4


Build = Callable[[Data], Iterator[Any]]
CASES: dict[str, Build] = {
    "list": lambda data: iter(data.items),
    "tuple": lambda data: iter((data.items, 2, data.queue)),
    "text": lambda data: iter("hello"),
    "wide text": lambda data: iter("h\N{EURO SIGN}llo"),
    "bytes": lambda data: iter(b"hello"),
    "bytearray": lambda data: iter(data.bytes),
    "range": lambda data: iter(range(3, 50, 7)),
    "long range": lambda data: iter(range(1 << 70, (1 << 70) + 5)),
    "array": lambda data: iter(data.numbers),
    "NumPy's array": lambda data: iter(data.array),
    "its elements": lambda data: iter(data.array.flat),
    "with indices": lambda data: np.ndenumerate(data.array),
    "indices": lambda data: np.ndindex(2, 3),
    "tensor": lambda data: iter(torch.arange(5)),
    "reversed list": lambda data: reversed(data.items),
    "reversed tuple": lambda data: reversed((1, data.items, 3)),
    "reversed text": lambda data: reversed("hello"),
    "reversed range": lambda data: reversed(range(6)),
    "dict": lambda data: iter(data.names),
    "values": lambda data: iter(data.names.values()),
    "items": lambda data: iter(data.names.items()),
    "reversed dict": lambda data: reversed(data.names),
    "reversed values": lambda data: reversed(data.names.values()),
    "reversed items": lambda data: reversed(data.names.items()),
    "ordered": lambda data: iter(data.ordered),
    "ordered values": lambda data: iter(data.ordered.values()),
    "ordered items": lambda data: iter(data.ordered.items()),
    "reversed ordered": lambda data: reversed(data.ordered),
    "set": lambda data: iter(data.bag),
    "deque": lambda data: iter(data.queue),
    "reversed deque": lambda data: reversed(data.queue),
    "count": lambda data: itertools.count(),
    "count in steps": lambda data: itertools.count(10, -3),
    "count in fractions": lambda data: itertools.count(0.5, 0.1),
    "repeat": lambda data: itertools.repeat(data.items),
    "repeat four times": lambda data: itertools.repeat(7, 4),
    "cycle": lambda data: itertools.cycle(data.items),
    "cycle of a text": lambda data: itertools.cycle("abc"),
    "enumerate": lambda data: enumerate(data.items, 3),
    "zip": lambda data: zip(data.items, data.names, strict=False),
    "strict zip": lambda data: zip(data.items, "hello", strict=True),
    "islice": lambda data: itertools.islice(data.items, 1, None, 2),
    "chain": lambda data: itertools.chain(data.items, data.queue, "xy"),
    "chain of a list": lambda data: itertools.chain.from_iterable([data.items, data.pairs]),
    "product": lambda data: itertools.product(data.items, "xy"),
    "permutations": lambda data: itertools.permutations("abcd", 2),
    "combinations": lambda data: itertools.combinations(data.items, 2),
    "with repetitions": lambda data: itertools.combinations_with_replacement("abc", 2),
    "zip_longest": lambda data: itertools.zip_longest(data.items, "ab", fillvalue=None),
    "pairwise": lambda data: itertools.pairwise(data.items),
    "compress": lambda data: itertools.compress(data.items, [1, 0, 1, 1, 0]),
    "accumulate": lambda data: itertools.accumulate(data.numbers),
    "tee": lambda data: itertools.tee(data.items)[1],
    "groupby": lambda data: itertools.groupby("aabbbc"),
    "nested": lambda data: enumerate(zip(itertools.cycle(data.items), itertools.count(5), strict=False)),
    "a slice of a cycle": lambda data: itertools.islice(itertools.cycle(data.names), 1, 9, 3),
    "a user's": lambda data: data.stream,
    "enumerated user's": lambda data: enumerate(data.stream),
    "a user's sequence": lambda data: iter(data.deck),
}
WITH_FUNCTIONS: dict[str, Build] = {
    "map": lambda data: map(double, data.items),
    "map of two": lambda data: map(operator.add, data.numbers, itertools.count()),
    "map with a method": lambda data: map(data.deck.draw, data.numbers),
    "filter": lambda data: filter(None, data.items),
    "filter with a function": lambda data: filter(is_small, itertools.cycle([1, 5, 2])),
    "starmap": lambda data: itertools.starmap(max, data.pairs),
    "takewhile": lambda data: itertools.takewhile(is_small, itertools.count()),
    "dropwhile": lambda data: itertools.dropwhile(is_small, itertools.count()),
    "filterfalse": lambda data: itertools.filterfalse(is_small, data.numbers),
    "accumulate with a function": lambda data: itertools.accumulate(data.numbers, max, initial=6),
    "calls": lambda data: iter(data.deck.draw, 3),
    "enumerated map": lambda data: enumerate(map(double, data.names)),
    "groups": lambda data: itertools.groupby([1, 5, 6, 2], is_small),
}


def following(live: Iterator[Any], count: int = 9) -> list[str]:
    found = []
    for _ in range(count):
        try:
            found.append(str(next(live)) if not isinstance(live, itertools.groupby) else str(next(live)[0]))
        except (StopIteration, RuntimeError, ValueError) as error:
            found.append(f"{type(error).__name__}: {error}")
    return found


def both(build: Build, steps: int, live: Callable[[Data], Any]) -> tuple[Any, Any]:
    """A world with an iterator that made some steps, and one that its state was restored into."""
    data = Data()
    ours = perdure.World(it=build(data), data=data)
    following(ours.it, steps)
    state = transported(capture(ours))
    other = Data()
    theirs = perdure.World(it=live(other), data=other)
    report = restore(state, theirs)
    assert report.exact, report
    if not isinstance(ours.it, type(iter(set()))):
        assert [str(each) for each in diff(state, capture(theirs), ignore=())] == []
    return ours, theirs


@pytest.mark.parametrize("steps", [1, 7, 30])
@pytest.mark.parametrize("case", CASES)
def test_an_iterator_goes_on_where_it_was(case: str, steps: int) -> None:
    build = CASES[case]

    def advanced(data: Data) -> Any:
        made = build(data)
        following(made, 1)
        return made

    def nothing(data: Data) -> None:
        pass

    for live in (nothing, build) if steps == 30 else (nothing, advanced):
        if live is nothing and case in ("with indices", "indices"):
            continue  # NumPy's own classes, which the script has to show
        ours, theirs = both(build, steps, live)
        if isinstance(ours.it, type(iter(set()))):
            assert sorted(following(theirs.it)) == sorted(following(ours.it))
            continue
        assert following(theirs.it) == following(ours.it)


@pytest.mark.parametrize("steps", [0, 3])
@pytest.mark.parametrize("case", WITH_FUNCTIONS)
def test_one_that_calls_a_function_goes_on_with_that_of_the_script(case: str, steps: int) -> None:
    build = WITH_FUNCTIONS[case]
    ours, theirs = both(build, steps, build)
    assert following(theirs.it) == following(ours.it)


IN_PLACE = [
    *("list", "tuple", "text", "bytes", "bytearray", "range", "array", "NumPy's array", "reversed list"),
    *("dict", "values", "items", "reversed dict", "ordered", "count", "repeat four times", "cycle", "zip"),
    *("chain", "product", "permutations", "combinations", "compress", "accumulate", "tee", "its elements"),
]


@pytest.mark.parametrize("steps", [0, 9])
@pytest.mark.parametrize("case", IN_PLACE)
def test_the_scripts_own_iterator_is_set_where_python_allows_it(case: str, steps: int) -> None:
    made: list[Any] = []

    def build(data: Data) -> Any:
        made.append(CASES[case](data))
        return made[-1]

    _ours, theirs = both(CASES[case], steps, build)
    assert theirs.it is made[0]


def test_a_list_that_grows_is_seen_by_its_iterators() -> None:
    ours, theirs = both(CASES["enumerate"], 2, CASES["enumerate"])
    for world in (ours, theirs):
        world.data.items.append("new")
        world.data.items[3] = "changed"
    assert following(theirs.it) == following(ours.it)


@pytest.mark.parametrize("case", ["list", "dict", "deque", "cycle", "chain", "NumPy's array", "enumerate"])
def test_it_goes_over_the_worlds_own_objects(case: str) -> None:
    for live in (lambda data: None, CASES[case]):
        _, theirs = both(CASES[case], 1, live)
        data = theirs.data
        for held in (data.items, data.names, data.queue):
            if isinstance(held, dict):
                held["b"] = "marked"
            else:
                held[1] = {"n": "marked"}
        data.array[1] = 99
        found = str(following(theirs.it, 3))
        assert "marked" in found or "99" in found or case == "dict"


def test_what_goes_over_a_list_of_the_scripts_own_goes_on_over_it() -> None:
    items = [1, 2, 3]
    it = iter(items)
    next(it)
    state = transported(capture({"it": it}))
    own = [1, 2, 3]
    world = {"it": iter(own)}
    restore(state, world)
    own.append(4)
    assert list(world["it"]) == [2, 3, 4]


def test_one_iterator_in_several_places_is_one() -> None:
    it = iter("abcdefgh")
    ours = {"it": it, "twos": zip(it, it, strict=False), "numbered": enumerate(it)}
    next(ours["twos"])
    state = transported(capture(ours))
    for live in (
        {"it": None, "twos": None, "numbered": None},
        {"it": iter("x"), "twos": None, "numbered": None},
    ):
        world: dict[str, Any] = live
        restore(state, world)
        assert next(world["it"]) == "c"
        assert next(world["numbered"]) == (0, "d")
        assert next(world["twos"]) == ("e", "f")
        assert next(world["it"]) == "g"


def test_iterators_of_one_tee_share_what_they_read() -> None:
    stream = Numbers()
    first, second = itertools.tee(stream)
    following(first, 3)
    state = transported(capture({"a": first, "b": second, "stream": stream}))
    world: dict[str, Any] = {"a": None, "b": None, "stream": Numbers()}
    restore(state, world)
    assert following(world["b"], 5) == ["1", "2", "3", "4", "5"]
    assert following(world["a"], 2) == ["4", "5"]
    assert world["stream"].at == 5


def test_a_group_belongs_to_its_groups() -> None:
    groups = itertools.groupby("aabbb")
    _, group = next(groups)
    next(group)
    state = transported(capture({"groups": groups, "group": group}))
    world: dict[str, Any] = {"groups": None, "group": None}
    restore(state, world)
    assert list(world["group"]) == ["a"]
    assert next(world["groups"])[0] == "b"


def test_an_iterator_in_what_it_goes_over() -> None:
    data = Data()
    data.items.append(iter(data.items))
    data.deck.owner = data  # type: ignore[attr-defined]
    data.items.append(enumerate(data.items))
    state = transported(capture({"data": data}))
    world = {"data": Data()}
    restore(state, world)
    items = world["data"].items
    assert next(items[5]) == {"n": 0}
    assert next(items[6]) == (0, {"n": 0})
    items[0] = "first"
    assert next(items[6])[1] is items[1]


def test_one_over_a_dict_that_holds_it_is_told() -> None:
    names: dict[str, Any] = {"a": 1}
    names["it"] = iter(names)
    with pytest.raises(errors.RestoreError, match="contains itself"):
        restore(transported(capture({"names": names})), {"names": {}})


def test_over_objects_that_refer_back() -> None:
    data = Data()
    data.names["a"] = data
    data.walk = iter(data.names.values())  # type: ignore[attr-defined]
    next(data.walk)  # type: ignore[attr-defined]
    state = transported(capture({"data": data}))
    for live in (None, Data()):
        world: dict[str, Any] = {"data": live, "other": Data()}
        restore(state, world, strict=False)
        assert next(world["data"].walk) == {"n": 1}


@pytest.mark.parametrize("kind", ["names", "ordered", "bag"])
def test_a_container_that_changed_its_size_is_an_error_as_in_python(kind: str) -> None:
    def build(data: Data) -> Any:
        return iter(getattr(data, kind))

    for live in (lambda data: None, build):
        data = Data()
        it = build(data)
        next(it)
        data.bag.add("more")
        data.names["more"] = data.ordered["more"] = 1
        world = perdure.World(it=live(other := Data()), data=other)
        restore(transported(capture({"it": it, "data": data})), world)
        assert len(getattr(world.data, kind)) == len(getattr(data, kind))
        assert following(world.it, 2) == following(it, 2)
        assert following(world.it, 1) == following(it, 1)
        assert str(getattr(world.data, kind)) == str(getattr(data, kind)) or kind == "bag"


def test_views_stay_views() -> None:
    data = Data()
    ours = {
        "keys": data.names.keys(),
        "values": data.ordered.values(),
        "items": data.names.items(),
        "data": data,
    }
    state = transported(capture(ours))
    for live in (dict.fromkeys(ours), {**dict.fromkeys(ours), "data": Data()}):
        world: dict[str, Any] = dict(live)
        if world["data"] is None:
            world["data"] = Data()
        restore(state, world)
        world["data"].names["new"] = 5
        assert "new" in world["keys"]
        assert ("new", 5) in world["items"]
        assert list(world["values"]) == list(world["data"].ordered.values())


def test_arrays_of_the_standard_library() -> None:
    ours = {"a": array("d", [1.5, 2.5]), "b": array("q", [1, 2, 3]), "c": array("H"), "new": array("b", [1])}
    state = transported(capture(ours))
    live = {"a": array("d", [0.0]), "b": array("i", [9]), "c": array("H", [3]), "new": None}
    own = dict(live)
    restore(state, live)
    assert live == ours
    assert live["a"] is own["a"]
    assert live["b"] is not own["b"]
    assert [each.typecode for each in live.values() if each is not None] == list("dqHb")


def test_capturing_moves_no_iterator() -> None:
    data = Data()
    lives = {name.replace("'", ""): build(data) for name, build in {**CASES, **WITH_FUNCTIONS}.items()}
    for live in lives.values():
        following(live, 1)
    first = capture({"data": data, **lives})
    assert [str(each) for each in diff(first, capture({"data": data, **lives}), ignore=())] == []


# -- what is refused, and the remedies -------------------------------------------------------------------------


def test_another_function_than_the_scripts() -> None:
    state = transported(capture({"it": map(double, [1, 2])}))
    world = {"it": map(is_small, [1, 2])}
    restore(state, world)
    assert list(world["it"]) == list(map(double, [1, 2]))


def test_a_function_that_the_script_does_not_have_is_told() -> None:
    state = transported(capture({"it": map(double, [1, 2])}))
    with pytest.raises(errors.RestoreError, match=r"perdure\.allow\(double\)"):
        restore(state, {"it": None})


def test_one_whose_iter_does_something_is_refused() -> None:
    with pytest.raises(errors.CaptureError, match="Restarting, whose __iter__ does more than `return self`"):
        capture({"it": map(double, Restarting())})


def test_keys_exchanged_in_mid_iteration_are_refused() -> None:
    names = {"a": 1, "b": 2, "c": 3}
    it = iter(names)
    next(it)
    del names["a"]
    names["d"] = 4
    with pytest.raises(errors.CaptureError, match=r"list\(the_dict\)"):
        capture({"it": it})


def test_a_subclass_is_refused() -> None:
    class Ids(itertools.count):  # type: ignore[type-arg]
        pass

    with pytest.raises(errors.CaptureError, match=r"a subclass of count.*perdure.skip\(.*Ids, "):
        capture({"it": Ids()})


@pytest.mark.parametrize("it", [iter(memoryview(b"ab")), np.nditer(np.arange(3))], ids=["memory", "nditer"])
def test_what_python_does_not_show_is_refused(it: Any) -> None:
    with pytest.raises(
        errors.CaptureError, match=r"does not tell where it is\. Keep what it goes over and a counter"
    ):
        capture({"it": it})


def numbers() -> Iterator[int]:
    yield from range(3)


async def later() -> None:
    pass


async def stream() -> Any:
    yield 1


def test_generators_are_refused_with_a_remedy() -> None:
    coroutine = later()
    for each in (numbers(), coroutine, stream()):
        with pytest.raises(errors.CaptureError, match=r"class Batches:"):
            capture({"it": each})
    coroutine.close()


# -- files that lie --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("it", "forged"),
    [
        (np.zeros(2).flat, {1: 1 << 50}),
        (itertools.cycle([1, 2]), {0: None, 2: 1 << 50}),
        (itertools.combinations([1, 2], 2), {0: ((1, 2), 1 << 40)}),
        (iter({"a": 1}), {1: 1 << 50}),
        (iter({1, 2}), {1: 1 << 50}),
        (itertools.count(), {0: 1 << 50}),
        (itertools.repeat(1, 3), {1: -(1 << 50)}),
        (iter([1, 2]), {0: 5}),
        (iter([1, 2]), {0: "text"}),
        (enumerate([1]), {0: [1, 2]}),
        (zip([1], strict=True), {1: ([1],)}),
        (itertools.tee([1])[0], {0: 5}),
        (itertools.permutations([1, 2]), {1: ((5, 5), (9, 9))}),
        (collections.deque([1]).__iter__(), {1: 1 << 50}),
        (itertools.islice([1, 2], 1), {1: -5}),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, dict) else "",
)
def test_a_forged_state_is_refused_or_harmless_and_takes_no_time(it: Any, forged: dict[int, Any]) -> None:
    state = transported(capture({"it": it, "forged": forged}))
    items = state.root.fields["it"].payload.items  # type: ignore[union-attr]
    forged_nodes = dict(state.root.fields.pop("forged").pairs)  # type: ignore[union-attr]
    for part, node in forged_nodes.items():
        items[part] = node
    for live in ({"it": None}, {"it": it}):
        try:
            restore(state, live)
        except errors.RestoreError:
            continue
        assert isinstance(live["it"], Iterator)


def test_a_long_range_ends_without_being_gone_through() -> None:
    it = iter(range(3))
    list(it)
    state = transported(capture({"it": it}))
    world = {"it": iter(range(1 << 50))}
    restore(state, world)
    assert next(world["it"], None) is None

"""Any world of plain structures goes through a document and comes out equal: shape, sharing, order and bits."""

from __future__ import annotations

import collections
import json
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from state_support import transported

from perdure import tree
from perdure.state import capture, diff, restore
from perdure.tree import message
from perdure.tree._encoder import encode_tree


class Pair(NamedTuple):
    a: object
    b: object


class Thing:
    def __init__(self, x, y):
        self.x, self.y = x, y


SHOW = {"pair": Pair(0, 0), "thing": Thing(0, 0)}

text = st.text(st.characters(exclude_categories=()), max_size=4)
hashable = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    text,
    st.binary(max_size=4),
    st.complex_numbers(allow_nan=False),
)
keys = st.recursive(
    hashable,
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.frozensets(inner, max_size=2),
    max_leaves=3,
)
arrays = hnp.arrays(
    st.sampled_from(["f4", ">f8", "i1", "u8", "?", "c8", "U3", "S2", "M8[s]", "f2"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@st.composite
def views(draw):
    array = draw(arrays)
    for axis in range(array.ndim):
        step = draw(st.sampled_from([1, 2, -1]))
        array = array[(slice(None),) * axis + (slice(None, None, step),)]
    return array.transpose(draw(st.permutations(range(array.ndim))))


tensors = st.builds(
    lambda values, dtype, grad: (
        torch.tensor(values).to(dtype).requires_grad_(grad and dtype.is_floating_point)
    ),
    st.lists(st.floats(-10, 10), max_size=3),
    st.sampled_from([torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float16]),
    st.booleans(),
)
leaves = st.one_of(
    hashable,
    st.floats(),
    st.complex_numbers(),
    views(),
    tensors,
    st.integers(-3, 3).map(np.int32),
    st.floats().map(np.float32),
)


def containers(inner):
    lists = st.lists(inner, max_size=4)
    return st.one_of(
        lists,
        lists.map(tuple),
        lists.map(collections.deque),
        st.builds(lambda items: collections.deque(items, maxlen=7), lists),
        st.dictionaries(keys, inner, max_size=4),
        st.dictionaries(text, inner, max_size=3).map(collections.OrderedDict),
        st.dictionaries(text, inner, max_size=3).map(lambda items: collections.defaultdict(list, items)),
        st.sets(keys, max_size=4),
        st.builds(Pair, inner, inner),
        st.builds(Thing, inner, inner),
        inner.map(lambda shared: [shared, {"again": shared}]),
        st.builds(
            lambda items, count: items * count,
            st.lists(hashable, min_size=1, max_size=2),
            st.sampled_from([10, 20]),
        ),
        st.integers(0, 40).map(lambda count: [{} for _ in range(count)]),
        arrays.filter(lambda array: array.ndim > 0).map(lambda array: [array, array[::2], array[:1]]),
    )


worlds = st.recursive(leaves, containers, max_leaves=12)
bounded = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@given(worlds)
@bounded
def test_anything_is_made_again(value):
    state = capture({"x": value, **SHOW})
    arrived = transported(state)
    assert diff(state, arrived, ignore=()) == []
    live = {"x": None, "pair": Pair(1, 1), "thing": Thing(1, 1)}
    assert restore(arrived, live).exact
    assert diff(state, capture(live), ignore=()) == []
    assert type(live["x"]) is type(value)


@given(worlds, worlds)
@bounded
def test_anything_is_restored_into_anything(value, other):
    state = capture({"x": value, **SHOW})
    live = {"x": other, "pair": Pair(1, 1), "thing": Thing(1, 1)}
    before = id(live["x"])
    assert restore(transported(state), live).exact
    assert diff(state, capture(live), ignore=()) == []
    if type(value) is type(other) and isinstance(value, list | dict | set | Thing):
        assert id(live["x"]) == before


@given(worlds, worlds)
@bounded
def test_a_difference_is_the_same_both_ways(value, other):
    a, b = capture({"x": value}), capture({"x": other})
    assert bool(diff(a, b, ignore=())) == bool(diff(b, a, ignore=()))
    assert diff(a, capture({"x": value}), ignore=()) == []


@given(st.lists(worlds, min_size=1, max_size=3))
@bounded
def test_a_document_is_the_same_with_its_numbers_in_it_or_apart_from_it(values):
    for value in values:
        state = capture({"x": value})
        numbers = []
        root, nodes, arrays = encode_tree(state, values=numbers)
        document, blobs = tree.encode(state)
        given_back = iter(json.loads(json.dumps(numbers)))
        filled = [message._filled(entry, given_back) for entry in json.loads(json.dumps(nodes))]
        assert json.dumps({"root": root, "nodes": filled, "attributes": True}) == json.dumps(document)
        assert list(given_back) == []
        assert [blob.name for blob in blobs] == [array.name for array in arrays]
        # Also where its form is known already.
        for _ in range(2):
            assert diff(state, message.decode(message.from_bytes(message.encode(state))), ignore=()) == []

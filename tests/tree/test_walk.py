"""Walking a tree: each node once, with the path that a person would write."""

from collections import deque

import numpy as np
import pytest
import torch

from perdure import state, tree
from perdure.tree import Array, MappingNode, Node, NumberRun, Object, Omitted, SequenceNode, Value


def test_each_node_comes_once_under_its_first_path():
    shared = SequenceNode("list", [1])
    root = Object("perdure:World", {"a": shared, "b": shared, "c": 2})
    shared.items.append(root)
    assert [(path, node) for path, node in tree.walk(root)] == [
        ("", root),
        ("a", shared),
        ("a[0]", 1),
        ("c", 2),
    ]


def test_plain_values_and_values_come_wherever_they_stand():
    value, left = Value("bytes", "00"), Omitted("a window")
    root = Object("perdure:World", {"a": value, "b": value, "c": left, "d": left, "e": 1, "f": 1})
    assert [path for path, _ in tree.walk(root)] == ["", "a", "b", "c", "d", "e", "f"]


def test_everything_is_walked_by_default():
    weights = torch.nn.Parameter(torch.ones(3))
    weights.grad = torch.zeros(3)
    rows = np.zeros((4, 5))
    world = {
        "weights": weights,
        "rows": rows,
        "part": rows[1:3],
        "numbers": list(range(100)),
        "empty": deque([{} for _ in range(100)]),
        "pairs": {(1, 2): "x"},
    }
    made = state.capture(world)
    found = dict(tree.walk(made.root))
    assert isinstance(found["weights.grad"], Array)
    assert isinstance(found["numbers[0:100]"], Array)  # inside the run of numbers, which has the same path
    assert isinstance(found["pairs.key(0)"], SequenceNode)
    assert found["pairs[0]"] == "x"
    walked = [node for _, node in tree.walk(made.root) if isinstance(node, Array)]
    assert {id(node) for node in made.arrays} == {id(node) for node in walked if node.base is None}
    assert sum(node.base is not None for node in walked) == 1


def test_a_walk_goes_on_below_what_it_is_told_to():
    root = Object("perdure:World", {"a": Object("x:A", {"hidden": 1}), "b": MappingNode("dict", [("k", 2)])})

    def below(node: Node, path: str):
        return () if getattr(node, "type", "") == "x:A" else tree.children(node, path)

    assert [path for path, _ in tree.walk(root, below=below)] == ["", "a", "b", "b['k']"]


def test_leaves_are_what_a_person_sees():
    numbers = NumberRun("int", Array("numpy", "<i8", (20,), (0,), np.arange(20)))
    root = Object(
        "perdure:World", {"a": SequenceNode("list", [numbers]), "b": SequenceNode("list", []), "c": 1}
    )
    assert [path for path, _ in state.State(root).leaves()] == ["a[0:20]", "b", "c"]


@pytest.mark.parametrize("depth", [100_000])
def test_a_walk_does_not_recurse(depth):
    root = node = Object("perdure:World", {})
    for _ in range(depth):
        below = Object("x:A", {})
        node.fields["next"] = below
        node = below
    assert sum(1 for _ in tree.walk(root)) == depth + 1

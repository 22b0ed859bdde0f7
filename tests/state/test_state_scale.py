"""What capturing costs, in counts and ratios: it is on the training loop's time."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

from perdure.state import capture


def seconds(function, times=5):
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - start)
    return best


def test_arrays_are_taken_by_reference():
    array, tensor = np.zeros(1_000), torch.zeros(1_000)
    fields = capture({"a": array, "t": tensor}).root.fields
    assert fields["a"].data is array
    assert fields["t"].data is tensor


def test_the_cost_does_not_grow_with_the_size_of_arrays():
    small, large = (
        {"a": np.zeros(10), "t": torch.zeros(10)},
        {"a": np.zeros(10_000_000), "t": torch.zeros(10_000_000)},
    )
    assert seconds(lambda: capture(large)) < 20 * seconds(lambda: capture(small))


@pytest.mark.parametrize("value", [1.5, 3, True, np.float32(2)])
def test_many_numbers_are_one_leaf(value):
    state = capture({"x": [value] * 10_000})
    assert [path for path, _ in state.leaves() if path.startswith("x")] == ["x[0:10000]"]


def test_a_model_of_stable_baselines_is_some_hundred_leaves():
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    model = stable_baselines3.SAC("MlpPolicy", "Pendulum-v1", buffer_size=50_000, device="cpu")
    state = capture({"model": model})
    assert 300 < len(state) < 1_500
    linear = torch.nn.Sequential(*[torch.nn.Linear(1, 1) for _ in range(100)])
    per_leaf = seconds(lambda: capture(linear)) / len(capture(linear))
    assert seconds(lambda: capture({"model": model})) < 20 * per_leaf * len(state)


def test_sets_of_views_are_compared_in_time():
    whole = np.zeros((2_000, 8))
    rows = [whole[index] for index in range(2_000)]
    columns = [whole[:, index] for index in range(8)]
    state = capture({"rows": rows, "columns": columns, "whole": whole})
    bases = {id(leaf.base) for path, leaf in state.leaves() if path.startswith(("rows", "columns"))}
    assert bases == {id(state.root.fields["whole"])}
    apart = capture({"rows": rows, "columns": columns})
    assert len({id(leaf.base) for path, leaf in apart.leaves() if path.startswith(("rows", "columns"))}) == 1

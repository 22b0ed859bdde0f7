"""Arrays that share memory share it again, and arrays that did not do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from state_support import moved, transported

from perdure.state import capture, restore


def numpy_view():
    whole = np.arange(12.0).reshape(3, 4)
    return {
        "whole": whole,
        "row": whole[1],
        "column": whole[:, 2],
        "turned": whole[::-1, ::2].T,
        "again": whole.reshape(-1),
    }


def view_first():
    whole = np.arange(12.0)
    return {"view": whole[2:5], "whole": whole}


def torch_view():
    whole = torch.arange(12.0).reshape(3, 4)
    return {"whole": whole, "row": whole[1], "column": whole[:, 2], "expanded": whole[0, :1].expand(5)}


def from_numpy():
    whole = np.arange(6, dtype=np.float32)
    tensor = torch.from_numpy(whole)
    return {"whole": whole, "tensor": tensor, "part": tensor[2:4]}


def to_numpy():
    whole = torch.arange(6.0)
    return {"part": whole[1:3].numpy(), "whole": whole}


def complex_parts():
    whole = torch.arange(4.0).to(torch.complex64)
    return {"whole": whole, "real": torch.view_as_real(whole), "imaginary": whole.imag}


def other_types():
    whole = np.arange(4, dtype="<u4")
    return {
        "whole": whole,
        "bytes": whole.view(np.uint8),
        "shorts": whole.view("<i2")[1:4],
        "tensor": torch.from_numpy(whole.view(np.int32)),
    }


def structured_fields():
    whole = np.zeros(3, dtype=[("a", "<f4"), ("b", "<i8")])
    return {"whole": whole, "a": whole["a"], "b": whole["b"]}


def overlapping_parts():
    whole = np.arange(10.0)
    return {"obs": whole[:-1], "next_obs": whole[1:]}


def overlapping_tensors():
    whole = torch.arange(10.0)
    return {"obs": whole[:-1], "next_obs": whole[1:]}


def row_and_column():
    whole = np.arange(12.0).reshape(3, 4)
    return {"row": whole[0], "column": whole[:, 0]}


def flat_parameters():
    flat = torch.arange(6.0)
    return {"flat": flat, "a": torch.nn.Parameter(flat[:2]), "b": torch.nn.Parameter(flat[2:].view(2, 2))}


def parameters_of_one_storage():
    a = torch.nn.Parameter(torch.arange(3.0))
    b = torch.nn.Parameter(torch.zeros(3))
    b.data = a.data
    return {"a": a, "b": b}


MAKERS = [
    numpy_view, view_first, torch_view, from_numpy, to_numpy, complex_parts, other_types, structured_fields,
    overlapping_parts, overlapping_tensors, row_and_column, flat_parameters, parameters_of_one_storage,
]  # fmt: skip


def content(world):
    return {
        name: np.asarray(each.detach().resolve_neg() if isinstance(each, torch.Tensor) else each).tolist()
        for name, each in world.items()
    }


def write_into_all(world):
    """Set the first byte of every array, one after the other."""
    for number, each in enumerate(world.values()):
        target = each.detach() if isinstance(each, torch.Tensor) else each
        target[(0,) * target.ndim] = number + 50


def with_fields_set(world):
    return {
        name: each.copy() if isinstance(each, np.ndarray) else each.detach().clone()
        for name, each in world.items()
    }


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("into", ["nothing", "the same", "apart"])
def test_memory_is_shared_again(make, into):
    value = make()
    if into == "nothing":
        live = None
    elif into == "the same":
        live = make()
        if "whole" in live:
            live["whole"][...] = 0
    else:
        live = with_fields_set(make())
        if any(isinstance(each, torch.nn.Parameter) for each in value.values()):
            live = {
                name: torch.nn.Parameter(each) if isinstance(value[name], torch.nn.Parameter) else each
                for name, each in live.items()
            }
    before = dict(live or {})
    found = moved(value, live)
    assert content(found) == content(value)
    if make is not structured_fields:
        write_into_all(value)
        write_into_all(found)
        assert content(found) == content(value)
    if into == "the same":
        assert all(found[name] is before[name] for name in before)
    for name, each in before.items():
        if isinstance(each, torch.nn.Parameter):
            assert found[name] is each, "parameters stay what optimizers know"


def test_columns_of_one_array_that_share_nothing_are_kept_apart():
    state = np.zeros((5, 2))
    live = {"position": state[:, 0], "speed": state[:, 1]}
    views = dict(live)
    value = np.arange(10.0).reshape(5, 2)
    found = moved({"position": value[:, 0], "speed": value[:, 1]}, live)
    assert found["position"] is views["position"]
    assert found["speed"] is views["speed"]
    assert state.tolist() == value.tolist()


def test_arrays_that_are_apart_get_memory_of_their_own():
    buffer = np.zeros(10)
    live = {"a": buffer[:6], "b": buffer[4:]}
    found = moved({"a": np.ones(6), "b": np.full(6, 2.0)}, live)
    assert found["a"].tolist() == [1] * 6
    assert found["b"].tolist() == [2] * 6
    assert not np.shares_memory(found["a"], found["b"])


def test_an_array_that_looks_at_itself_is_not_written_into():
    once = np.zeros(1)
    live = np.lib.stride_tricks.as_strided(once, (4,), (0,))
    found = moved(np.arange(4), live.astype(int))
    assert found.tolist() == [0, 1, 2, 3]
    found = moved(np.arange(4.0), live)
    assert found.tolist() == [0, 1, 2, 3]
    assert moved(torch.arange(4.0), torch.zeros(1).expand(4)).tolist() == [0, 1, 2, 3]


def test_read_only_arrays_are_replaced():
    live = np.zeros(3)
    live.flags.writeable = False
    found = moved(np.ones(3), live)
    assert found.tolist() == [1, 1, 1]
    assert live.tolist() == [0, 0, 0]


def test_a_memory_mapped_array_is_filled_in_place(tmp_path):
    live = np.memmap(tmp_path / "buffer", np.float32, "w+", shape=(4, 2))
    value = np.memmap(tmp_path / "other", np.float32, "w+", shape=(4, 2))
    value[...] = 3
    world = {"x": live}
    restore(transported(capture({"x": value})), world)
    assert world["x"] is live
    assert (live == 3).all()


def test_the_bytes_of_shared_memory_are_stored_once():
    whole = np.zeros(1000)
    state = capture(
        {"whole": whole, "views": [whole[i:] for i in range(10)], "tensor": torch.from_numpy(whole)}
    )
    from perdure import tree

    _, blobs = tree.encode(state)
    assert sum(blob.nbytes for blob in blobs if not blob.name.startswith("rng")) == whole.nbytes


def test_a_window_onto_a_live_array_of_another_size():
    whole = np.arange(6.0)
    live = {"whole": np.zeros(3), "view": np.zeros(2)}
    found = moved({"whole": whole, "view": whole[2:4]}, live)
    found["whole"][2] = 9
    assert found["view"].tolist() == [9, 3]


def test_capturing_changes_nothing():
    array, tensor = np.arange(3.0), torch.ones(3, requires_grad=True)
    array.flags.writeable = False
    version = tensor._version
    capture({"a": array, "t": tensor})
    assert tensor._version == version
    assert not array.flags.writeable

"""The attributes that programs set on tensors and parameters are state, as those of other objects are."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from state_support import Bytes, moved, transported

from perdure import tree
from perdure.errors import CaptureError, DamagedError, RestoreError
from perdure.state import capture, check, diff, prepare, restore, walk_live
from perdure.tree import message


def tagged(tensor: torch.Tensor, **attributes: Any) -> Any:
    vars(tensor).update(attributes)
    return tensor


def parameter(**attributes: Any) -> Any:
    return tagged(torch.nn.Parameter(torch.ones(2)), **attributes)


def test_attributes_are_restored_in_place_and_shared() -> None:
    held = [1.5]
    net, fresh = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    tagged(net.weight, ds_id=7, _no_weight_decay=True, held=held, moment=torch.arange(3.0))
    tagged(net.bias, other=net.weight)
    tagged(fresh.weight, ds_id=0)
    weight = fresh.weight
    live: dict[str, Any] = {"net": fresh, "held": []}
    state = transported(capture({"net": net, "held": held}))
    assert restore(state, live).exact
    assert fresh.weight is weight
    assert (weight.ds_id, weight._no_weight_decay) == (7, True)
    assert weight.held == [1.5]
    assert weight.held is live["held"]
    assert torch.equal(weight.moment, torch.arange(3.0))
    assert fresh.bias.other is weight
    assert diff(state, capture(live), ignore=()) == []


@pytest.mark.parametrize("into", [None, "parameter"])
def test_tensors_that_are_made_get_their_attributes(into: str | None) -> None:
    saved = [parameter(tag={"a": 1}), tagged(torch.zeros(2, 2), tag=2.5)]
    live = None if into is None else [parameter(tag={})]
    first, second = moved(saved, live)
    assert (first.tag, second.tag) == ({"a": 1}, 2.5)
    assert isinstance(first, torch.nn.Parameter)


def test_an_attribute_that_was_deleted_is_gone() -> None:
    for saved, left in ((parameter(), {}), (parameter(more=5), {"more": 5})):
        fresh = {"x": parameter(tag=3, more=4)}
        state = transported(capture({"x": saved}))
        with pytest.raises(RestoreError, match=r"x\.tag.*: the script has it, the checkpoint does not"):
            restore(state, fresh)
        live = walk_live(fresh)
        live.unchanged = lambda path: True  # the script is known to be the one that began the run
        prepare(state, fresh, live).apply()
        assert vars(fresh["x"]) == left


def test_views_gradients_and_buffers_have_attributes_too() -> None:
    base = torch.arange(6.0)
    view = tagged(base[2:4], base="mine", grad_note=1)
    weight = parameter()
    weight.grad = tagged(torch.ones(2), clipped=True)
    buffer = torch.nn.Buffer(torch.ones(1), persistent=False)
    into = {"base": torch.zeros(6), "view": None, "weight": parameter(), "buffer": None}
    found = moved({"base": base, "view": view, "weight": weight, "buffer": buffer}, into)
    assert (found["view"].base, found["view"].grad_note) == ("mine", 1)
    found["base"][2] = 9.0
    assert found["view"][0] == 9.0
    assert found["weight"].grad.clipped is True
    assert vars(found["buffer"]) == {"persistent": False, "_is_buffer": True}


def test_a_change_of_an_attribute_is_a_difference() -> None:
    one, other = capture({"x": parameter(tag=1)}), capture({"x": parameter(tag=2)})
    assert [str(each) for each in diff(one, other, ignore=())] == ["x.tag: 1 and 2"]
    assert [each.path for each in diff(one, capture({"x": parameter()}), ignore=())] == ["x.tag"]


def test_what_the_compiler_notes_is_no_state() -> None:
    noted = parameter(_dynamo_static_input_type="guarded", tag=1)
    live = {"x": parameter(_dynamo_dynamic_indices={0})}
    restore(transported(capture({"x": noted})), live)
    assert vars(live["x"]) == {"_dynamo_dynamic_indices": {0}, "tag": 1}


def test_what_cannot_be_captured_is_told_with_its_path() -> None:
    with pytest.raises(CaptureError, match=r"x\.tag: generator: .*Write it as a class"):
        capture({"x": parameter(tag=(n for n in range(3)))})


def test_no_attribute_takes_the_place_of_a_method() -> None:
    for name in ("backward", "__class__", "sum"):
        saved, live = parameter(), parameter()
        vars(saved)[name] = 1
        state = transported(capture({"x": saved, "y": [saved]}))
        for world in ({"x": live, "y": []}, {"x": None, "y": []}):
            with pytest.raises(RestoreError, match="attribute"):
                restore(state, world)
        assert vars(live) == {}


def test_secrets_and_places_of_attributes_are_as_elsewhere(tmp_path: Any) -> None:
    saved, live = (
        parameter(api_key="0123456789", file=str(tmp_path)),
        parameter(api_key="abcdefghij", file="/x/y"),
    )
    state = transported(capture({"x": saved}))
    assert "0123456789" not in str(tree.encode(state)[0])
    restore(state, {"x": live})
    assert (live.api_key, live.file) == ("abcdefghij", "/x/y")


def test_older_checkpoints_leave_the_attributes_as_they_are() -> None:
    document, blobs = tree.encode(capture({"x": parameter()}))
    del document["attributes"]
    content = [Bytes(bytes(blob.buffer())) for blob in blobs]
    live = parameter(tag=3)
    assert restore(tree.decode(document, content), {"x": live}).exact
    assert live.tag == 3


def test_they_reach_another_process_with_numbers_of_their_own() -> None:
    state = capture({"x": parameter(tag=3, rate=0.5), "y": 2, "z": tagged(torch.zeros(2), n=[1, 2])})
    encoded = message.from_bytes(message.encode(state))
    assert diff(state, message.decode(encoded), ignore=()) == []


@pytest.mark.parametrize("fields", [3, ["a"], {"tag": [99]}, {"tag": "x", "y": {}}])
def test_malformed_attributes_are_damage(fields: Any) -> None:
    document, blobs = tree.encode(capture({"x": parameter(tag=1)}))
    entry = next(node for node in document["nodes"] if node[0] == "a" and "fields" in node[1])
    entry[1]["fields"] = fields
    with pytest.raises(DamagedError):
        tree.decode(document, [Bytes(bytes(blob.buffer())) for blob in blobs])


def test_a_checkpoint_of_an_attribute_that_cannot_be_made_is_told() -> None:
    class Local:
        def __del__(self) -> None:
            pass

    report = check(transported(capture({"x": parameter(tag=Local())})), {"x": parameter()})
    assert [path for path, _ in report.misfits] == ["x.tag"]


def test_attributes_of_generators_are_state() -> None:
    made, live = random.Random(3), random.Random(1)
    made.draws = 7  # type: ignore[attr-defined]
    found = moved({"x": made, "y": [made]}, {"x": live, "y": []})
    assert found["x"] is live
    assert live.draws == 7  # type: ignore[attr-defined]
    assert moved(made).draws == 7
    assert np.isclose(moved(made).random(), random.Random(3).random())

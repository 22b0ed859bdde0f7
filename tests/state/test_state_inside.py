"""A handler may keep a state of an earlier moment: it goes into the state as it is, and comes back as it is."""

import json
import tempfile

import numpy as np
import pytest
from state_support import transported

from perdure import tree
from perdure.errors import CaptureError
from perdure.state import State, capture, diff, register, register_first, restore


class Keeper:
    def __init__(self):
        self.before = None


register(
    Keeper,
    capture=lambda keeper: {"before": keeper.before},
    restore=lambda keeper, saved: setattr(keeper, "before", saved["before"]),
)


class Made:
    """Nothing that the reading script has."""

    def __init__(self):
        self.numbers = np.arange(4)
        self.function = len
        self.nested = [{"a": 1}, (2.5, None)]


def keeper():
    made = Keeper()
    made.before = capture({"x": Made()})
    return made


def test_it_comes_back_as_it_was():
    found = Keeper()
    report = restore(transported(capture({"keeper": keeper()})), {"keeper": found})
    assert report.exact
    assert isinstance(found.before, State)
    assert [str(each) for each in diff(found.before, keeper().before)] == []


def test_it_goes_on_from_checkpoint_to_checkpoint():
    first, second = Keeper(), Keeper()
    restore(transported(capture({"keeper": keeper()})), {"keeper": first})
    restore(transported(capture({"keeper": first})), {"keeper": second})
    live = {"x": Made()}
    live["x"].numbers[:] = 0
    assert restore(second.before, live).exact
    assert live["x"].numbers.tolist() == [0, 1, 2, 3]


def test_differences_inside_have_paths():
    ours, theirs = keeper(), keeper()
    theirs.before.root.fields["x"].fields["nested"].items[1].items[0] = 3.5
    found = diff(capture({"keeper": ours}), capture({"keeper": theirs}))
    assert [each.path for each in found] == ["keeper['before'].x.nested[1][0]"]


def test_a_state_of_the_script_is_replaced_as_a_whole():
    live = {"state": capture({"x": 1})}
    assert restore(transported(capture({"state": capture({"x": 2})})), live).exact
    assert live["state"].root.fields["x"] == 2


def test_a_file_cannot_have_anything_made_by_it():
    state = capture({"keeper": keeper()})
    inside = dict(state.root.fields["keeper"].payload.pairs)["before"]
    inside.fields["x"] = tree.Object("subprocess:Popen", {"args": "true"})
    found = Keeper()
    assert restore(transported(state), {"keeper": found}).exact
    assert isinstance(found.before.root.fields["x"], tree.Object)


def test_what_goes_first_does_not_undo_the_rest():
    class Playing:
        def __init__(self):
            self.buffer = np.zeros(3)

    def play(playing, saved):
        playing.buffer[:] = 99

    register_first(Playing, capture=lambda playing: None, restore=play)
    for order in (("seen", "playing"), ("playing", "seen")):
        live = Playing()
        world = {"seen": live.buffer, "playing": live}
        state = capture({"seen": np.ones(3), "playing": Playing()})
        for each in (state, transported(state)):
            world["seen"][:] = 0
            restore(each, {name: world[name] for name in order})
            assert world["seen"].tolist() == [1, 1, 1]


def test_classes_without_a_module_are_refused_like_others():
    engine = pytest.importorskip("Box2D").b2World()
    with pytest.raises(CaptureError, match=r"x\.this: SwigPyObject: its state lies in native code"):
        capture({"x": engine})


def test_a_directory_of_another_process_is_not_cleaned_up_by_this_one():
    with tempfile.TemporaryDirectory() as theirs, tempfile.TemporaryDirectory() as ours:
        owner, other = tempfile.TemporaryDirectory(dir=theirs), tempfile.TemporaryDirectory(dir=ours)
        restore(transported(capture({"x": owner})), {"x": other})
        assert other.name.startswith(ours)
        owner.cleanup(), other.cleanup()


def test_the_document_stays_json():
    document, _ = tree.encode(capture({"keeper": keeper()}))
    json.dumps(document)

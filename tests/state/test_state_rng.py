"""Random generators: streams go on where they were, and nothing that happens on the way shifts them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from state_support import moved, transported

from perdure.errors import CaptureError, RestoreError
from perdure.state import Report, capture, diff, register, restore, rng


def draw():
    return (random.random(), random.gauss(0, 1), float(np.random.normal()), torch.randn(1).item())


GENERATORS = {
    "PCG64": lambda seed: np.random.Generator(np.random.PCG64(seed)),
    "PCG64DXSM": lambda seed: np.random.Generator(np.random.PCG64DXSM(seed)),
    "MT19937": lambda seed: np.random.Generator(np.random.MT19937(seed)),
    "Philox": lambda seed: np.random.Generator(np.random.Philox(seed)),
    "SFC64": lambda seed: np.random.Generator(np.random.SFC64(seed)),
}


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize("built", [True, False])
def test_numpy_generators_go_on(name, built):
    value = GENERATORS[name](1)
    value.spawn(2)
    value.integers(5, size=3, dtype=np.uint32)  # leaves half a number behind
    live = GENERATORS[name](2) if built else None
    found = moved(value, live)
    assert built == (found is live)
    for one in (value, found), tuple(each.spawn(1)[0] for each in (value, found)):
        assert one[0].random(700).tolist() == one[1].random(700).tolist()
        assert (
            one[0].integers(9, size=3, dtype=np.uint32).tolist()
            == one[1].integers(9, size=3, dtype=np.uint32).tolist()
        )


def test_generators_that_draw_from_the_same_bits_go_on_doing_so():
    def make(seed):
        bits = np.random.PCG64(seed)
        return {"a": np.random.Generator(bits), "b": np.random.Generator(bits), "bits": bits}

    for live in (None, make(2)):
        value = make(1)
        found = moved(value, live)
        for _ in range(2):
            assert [found[name].random() for name in "abab"] == [value[name].random() for name in "abab"]
        assert found["a"].bit_generator is found["bits"]


def test_generators_that_were_made_to_share_their_bits_in_training_share_them():
    value = {"a": np.random.default_rng(1), "b": np.random.default_rng(2)}
    np.random.Generator.__init__(value["b"], value["a"].bit_generator)
    live = {"a": np.random.default_rng(3), "b": np.random.default_rng(4)}
    held = dict(live)
    found = moved(value, live)
    assert all(found[name] is held[name] for name in held)
    assert found["a"].bit_generator is found["b"].bit_generator
    assert [found[name].random() for name in "abba"] == [value[name].random() for name in "abba"]


@pytest.mark.parametrize("spawned", [0, 3])
def test_a_generator_and_the_sequence_that_seeded_it_count_their_children_together(spawned):
    def make(seed):
        sequence = np.random.SeedSequence(seed)
        return {
            "sequence": sequence,
            "rng": np.random.default_rng(sequence),
            "late": np.random.SeedSequence(seed),
        }

    value, live = make(1), make(2)
    value["sequence"].spawn(spawned)
    for into in (live, None):
        found = moved(value, into)
        assert found["rng"].bit_generator.seed_seq is found["sequence"]
    assert live["rng"].bit_generator.seed_seq is live["sequence"]
    for world in (value, live):
        world["drawn"] = [
            *(child.random() for child in world["rng"].spawn(2)),
            world["sequence"].spawn(1)[0].generate_state(1).tolist(),
        ]
    assert live["drawn"] == value["drawn"]
    # Where only the generator is in the world, the script's own sequence stays the one it has.
    value, live = make(1), make(1)
    moved(value["rng"], live["rng"])
    assert live["rng"].bit_generator.seed_seq is live["sequence"]
    # Sequences that only the training made the same are the same.
    value, live = make(1), make(1)
    value["late"] = value["sequence"]
    found = moved(value, live)
    assert found["late"] is found["rng"].bit_generator.seed_seq


def test_older_checkpoints_have_no_common_seed_sequence():
    sequence = np.random.SeedSequence(1)
    value, live = np.random.default_rng(sequence), np.random.default_rng(np.random.SeedSequence(1))
    sequence.spawn(2)
    state = capture({"x": value.bit_generator})
    seed = next(child for key, child in state.root.fields["x"].payload.pairs if key == "seed")
    pairs = state.root.fields["x"].payload.pairs
    pairs[[key for key, _ in pairs].index("seed")] = ("seed", seed.payload)
    restore(transported(state), {"x": live.bit_generator})
    assert live.spawn(1)[0].random() == value.spawn(1)[0].random()


def test_other_generators_go_on():
    value = {
        "python": random.Random(1),
        "legacy": np.random.RandomState(2),
        "modern legacy": np.random.RandomState(np.random.PCG64(3)),
        "torch": torch.Generator().manual_seed(4),
        "sequence": np.random.SeedSequence(5),
    }

    def numbers(world):
        return [
            world["python"].gauss(0, 1),
            world["python"].random(),
            world["legacy"].normal(size=3).tolist(),
            world["modern legacy"].normal(size=3).tolist(),
            torch.randn(3, generator=world["torch"]).tolist(),
            world["sequence"].spawn(1)[0].generate_state(2).tolist(),
        ]

    numbers(value)
    live = {
        "python": random.Random(0),
        "legacy": np.random.RandomState(0),
        "modern legacy": np.random.RandomState(np.random.PCG64(0)),
        "torch": torch.Generator(),
        "sequence": np.random.SeedSequence(0),
    }
    identities = {name: id(each) for name, each in live.items()}
    live["sequence"].spawn(7)
    state = transported(capture({"x": value}))
    made = {"x": None}
    restore(state, made)
    restore(state, {"x": live})
    expected = numbers(value)
    assert numbers(live) == numbers(made["x"]) == expected
    assert {name: id(each) for name, each in live.items()} == identities


def test_generators_of_another_kind():
    ours, live = GENERATORS["MT19937"](0), GENERATORS["PCG64"](0)
    assert moved(ours, live) is live
    assert live.random() == ours.random()
    assert type(moved(np.random.MT19937(0), np.random.PCG64(0))) is np.random.MT19937


def test_the_processes_generators_go_on():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    draw()
    state = transported(capture({}))
    expected = draw()
    draw()
    restore(state, {})
    assert draw() == expected


def test_capturing_and_comparing_draw_nothing():
    world = {"t": torch.nn.Linear(2, 2), "g": np.random.default_rng(1), "x": list(range(100))}
    before = rng.get_state()
    state = capture(world)
    diff(state, capture(world))
    assert str(rng.get_state()) == str(before)


class Native:
    """Its handler draws from every generator of the process, whatever it is asked for."""

    value = 0


def hostile_draws():
    draw()
    random.seed(99), np.random.seed(99), torch.manual_seed(99)


def test_a_handler_that_draws_does_not_shift_the_streams():
    def capture_native(native):
        hostile_draws()
        return {"value": native.value}

    def restore_native(native, saved):
        hostile_draws()
        native.value = saved["value"]

    def create_native(saved):
        hostile_draws()
        native = Native()
        native.value = saved["value"]
        return native

    register(Native, capture=capture_native, restore=restore_native, create=create_native)
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    value = [Native(), Native()]
    value[0].value, value[1].value = 4, 5
    state = transported(capture({"x": value}))
    expected = draw()
    live = [Native()]
    restore(state, {"x": live})
    assert draw() == expected
    assert [each.value for each in live] == [4, 5]

    before = draw_without_moving()
    with pytest.raises(RestoreError):
        restore(state, {"y": Native()})
    assert draw_without_moving() == before


def draw_without_moving():
    before = rng.get_state()
    numbers = draw()
    rng.set_state(before)
    return numbers


def test_a_handler_that_draws_and_fails_does_not_shift_the_streams():
    class Failing:
        pass

    def fail(*args):
        hostile_draws()
        raise OSError("device lost")

    register(Failing, capture=fail, restore=fail, create=fail)
    before = draw_without_moving()
    with pytest.raises(CaptureError, match="device lost"):
        capture({"x": Failing()})
    assert draw_without_moving() == before


def test_the_processes_own_generator_held_by_an_object():
    holder = types.SimpleNamespace(
        random=random._inst, numpy=np.random.mtrand._rand, torch=torch.default_generator
    )
    state = transported(capture({"h": holder}))
    expected = draw()
    restore(state, {"h": holder})
    assert draw() == expected
    assert holder.torch is torch.default_generator


def test_a_world_may_have_a_part_named_rng():
    def make(seed):
        return {"rng": np.random.default_rng(seed), "rng of the process": [seed]}

    world, live = make(1), make(2)
    state = transported(capture(world))
    expected = draw()
    restore(state, live)
    assert draw() == expected
    assert live["rng"].random() == world["rng"].random()
    assert live["rng of the process"] == [1]


def test_an_unfit_state_of_the_process_changes_nothing():
    state = transported(capture({"x": [1]}))
    state.root.fields[rng.PART].fields["numpy"] = 5
    live = {"x": [0]}
    before = draw_without_moving()
    with pytest.raises(RestoreError, match="rng"):
        restore(state, live)
    assert live == {"x": [0]}
    assert draw_without_moving() == before


@pytest.mark.parametrize(
    "spoil",
    [
        lambda fields: fields["numpy"].pairs.__setitem__(0, ("bit_generator", "PCG64")),
        lambda fields: dict(fields["numpy"].pairs)["state"].pairs.__setitem__(1, ("pos", 10**6)),
        lambda fields: dict(fields["numpy"].pairs)["state"].pairs.__setitem__(1, ("pos", -1)),
        lambda fields: fields["python"].items.__setitem__(0, 99),
        lambda fields: fields["python"].items.__setitem__(2, "x"),
        lambda fields: fields.__setitem__("torch", "text"),
        lambda fields: fields.pop("torch"),
        lambda fields: fields.__setitem__("cuda", 7),
    ],
)
def test_forged_states_of_the_process(spoil):
    state = transported(capture({"x": [1]}))
    spoil(state.root.fields[rng.PART].fields)
    live = {"x": [0]}
    before = draw_without_moving()
    with pytest.raises(RestoreError):
        restore(state, live)
    assert live == {"x": [0]}
    assert draw_without_moving() == before


@pytest.mark.parametrize(
    "payload",
    [
        {"state": {"bit_generator": "Philox", "buffer_pos": 10**9}, "seed": None},
        {"state": {"bit_generator": "system"}, "seed": None},
        {"state": 5, "seed": None},
        {},
        None,
        "text",
    ],
)
def test_forged_states_of_generators(payload):
    from perdure.state import Walker

    state = capture({"x": np.random.Philox(1)})
    state.root.fields["x"].payload = Walker().parts({"p": payload}).fields["p"]
    for live in (np.random.Philox(2), None):
        with pytest.raises(RestoreError):
            restore(state, {"x": live})


def test_seed_sequences_are_bounded():
    from perdure.state import Walker

    for name, number in (("pool_size", 1 << 40), ("n_children_spawned", 1 << 60), ("pool_size", 0)):
        state = capture({"x": np.random.SeedSequence(1)})
        saved = {"entropy": 1, "spawn_key": (), "pool_size": 4, "n_children_spawned": 0, name: number}
        state.root.fields["x"].payload = Walker().parts({"p": saved}).fields["p"]
        for live in (np.random.SeedSequence(2), None):
            with pytest.raises(RestoreError, match="seed sequence"):
                restore(state, {"x": live})


# -- CUDA, by what would be asked of it -----------------------------------------------------------------------


@pytest.fixture
def cuda(monkeypatch):
    """A machine with two CUDA devices, as far as random numbers go."""
    devices = types.SimpleNamespace(
        states=[torch.full((16,), n, dtype=torch.uint8) for n in (1, 2)], initialized=True
    )

    def set_all(states):
        devices.states = [state.clone() for state in states]

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: devices.initialized)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(devices.states))
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: [state.clone() for state in devices.states])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", set_all)
    return devices


def test_the_generator_of_every_cuda_device_goes_on(cuda):
    state = transported(capture({"x": 1}))
    for each in cuda.states:
        each += 5
    assert restore(state, {"x": 0}).exact
    assert [each[0].item() for each in cuda.states] == [1, 2]


def test_cuda_is_not_started_for_its_generators(cuda, monkeypatch):
    cuda.initialized = False
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: pytest.fail("started CUDA"))
    state = transported(capture({"x": 1}))
    assert restore(state, {"x": 0}).exact


def test_another_number_of_cuda_devices(cuda):
    state = transported(capture({"x": [1]}))
    cuda.states = cuda.states[:1]
    live = {"x": [0]}
    with pytest.raises(RestoreError, match=r"2 CUDA device.*shows 1.*CUDA_VISIBLE_DEVICES"):
        restore(state, live)
    assert live == {"x": [0]}


def test_a_machine_without_cuda_takes_the_rest(cuda, monkeypatch):
    state = transported(capture({"x": 1}))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    live = {"x": 0}
    assert isinstance(restore(state, live), Report)
    assert live == {"x": 1}


@pytest.fixture(scope="module")
def compiled():
    """Functions that numba has compiled: they seed its generators, and draw from them."""
    numba = pytest.importorskip("numba")
    disabled, numba.config.DISABLE_JIT = numba.config.DISABLE_JIT, 0

    @numba.njit
    def seed(number):
        np.random.seed(number)
        random.seed(number)

    @numba.njit
    def draw():
        return np.random.normal(), random.gauss(0.0, 1.0)

    yield seed, draw
    numba.config.DISABLE_JIT = disabled


def test_compiled_code_goes_on_drawing_where_it_was(compiled):
    seed, draw = compiled
    seed(3)
    for drawn in range(4):  # after an odd number of draws, the next Gaussian is known already
        state = capture({})
        expected = [draw() for _ in range(700)]
        seed(drawn)
        restore(state, {})
        assert [draw() for _ in range(700)] == expected
        draw()


def test_capturing_shifts_no_stream_of_compiled_code(compiled):
    seed, draw = compiled
    seed(5)
    expected = [draw() for _ in range(3)]
    seed(5)
    found = []
    for _ in range(3):
        capture({"thing": object.__new__(type("Thing", (), {}))})
        found.append(draw())
    assert found == expected


def test_checkpoints_from_before_numba_was_captured_leave_its_generators_alone(compiled):
    seed, draw = compiled
    state = capture({})
    del state.root.fields["rng"].fields["numba"]
    seed(5)
    expected = draw()
    seed(5)
    report = restore(state, {})
    assert report.exact
    assert draw() == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [("position", 625), ("position", -1), ("position", 1.0), ("key", np.zeros(3, np.uint32)), ("next", "x")],
)
def test_forged_states_of_compiled_code_are_refused(compiled, name, value):
    rng.set_state(good := rng.get_state())
    bad = {**good, "numba": {**good["numba"], "numpy": {**good["numba"]["numpy"], name: value}}}
    with pytest.raises(RestoreError, match=r"rng\.numba: expected"):
        rng.set_state(bad)


def test_the_states_of_compiled_code_need_numba(monkeypatch):
    state = rng.get_state() | {"numba": {}}
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "numba._helperlib", raising=False)
    with pytest.raises(RestoreError, match="numba is not installed"):
        rng.set_state(state)


def test_generators_of_compiled_code_that_nobody_uses_are_no_state(tmp_path):
    pytest.importorskip("numba")
    script = """
import numba, numpy as np, perdure, random
from perdure.state import rng
rng.training_begins()
assert "numba" not in rng.get_state()
@numba.njit
def seed(number): np.random.seed(number)
@numba.njit
def draw(): return random.random()
seed(1)
assert "numba" in rng.get_state()
"""
    drawing = script.replace("seed(1)\n", "draw()\n")
    for each in (script, drawing):
        environment = {**os.environ, "NUMBA_DISABLE_JIT": "0"}
        subprocess.run([sys.executable, "-c", each], cwd=tmp_path, env=environment, check=True)


def test_numba_is_imported_where_the_script_does_it_only_in_training(tmp_path):
    pytest.importorskip("numba")
    script = """
import sys
import numpy as np
from perdure.state import rng
saving = sys.argv[1] == "save"
if saving:
    import numba
state = rng.get_state()
if saving:
    kept = {f"{k}_{n}": each[n] for k, each in state["numba"].items() for n in ("position", "key")}
    np.savez("state.npz", **kept)
else:
    assert "numba" not in sys.modules and "numba" not in state
    kept = np.load("state.npz")
    names = ("numpy", "python")
    state["numba"] = {k: {"position": int(kept[f"{k}_position"]), "key": kept[f"{k}_key"], "next": None} for k in names}
    rng.set_state(state)
    assert all((rng.get_state()["numba"][k]["key"] == kept[f"{k}_key"]).all() for k in names)
"""
    for word in ("save", "restore"):
        subprocess.run([sys.executable, "-c", script, word], cwd=tmp_path, check=True)

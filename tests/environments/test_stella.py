"""What an emulator would take a place in its memory from is checked before it reads it."""

from __future__ import annotations

import re
import struct

import pytest

from perdure.environments.handlers import _ale_state

ale_py = pytest.importorskip("ale_py")


@pytest.fixture(scope="module", params=["hero", "montezuma_revenge", "breakout"])
def states(request):
    ale = ale_py.ALEInterface()
    ale.setLoggerMode(ale_py.LoggerMode.Error)
    ale.loadROM(ale_py.roms.get_rom_path(request.param))
    found = []
    for step in range(60):
        ale.act(ale.getLegalActionSet()[step * 7 % 18])
        found.append(ale.cloneState(include_rng=True).serialize())
    return found


def test_states_that_it_wrote_itself_are_fine(states):
    assert {_ale_state.fault(state, states[0]) for state in states} == {None}


def changed(state, device, index, word):
    name = re.search(rb"(?s).\x00\x00\x00" + device + rb"[A-Z0-9]*(?=[^A-Za-z0-9])", state)
    at = name.end() + 4 * index
    return state[:at] + struct.pack("<i", word) + state[at + 4 :]


@pytest.mark.parametrize(
    ("device", "index", "word"),
    [
        (b"M6532", 0, 1 << 20),
        (b"TIA", 41, 999),
        (b"TIA", 43, -1),
        (b"TIA", 3, 1 << 22),
        (b"TIA", 19, 7),
        (b"TIA", 51, 9),
    ],
)
def test_places_outside_of_the_memory_are_found(states, device, index, word):
    # The words of TIA begin right behind its name, whatever letter they look like.
    state = states[-1]
    if device == b"TIA":
        at = state.index(b"\x03\x00\x00\x00TIA") + 7 + 4 * index
        state = state[:at] + struct.pack("<i", word) + state[at + 4 :]
    else:
        state = changed(state, device, index, word)
    assert _ale_state.fault(state, states[0]) is not None


def test_banks_that_are_not_there_are_found(states):
    kind = re.search(rb"Cartridge([A-Z0-9]+)", states[0]).group(1)
    state = changed(states[-1], b"Cartridge", 1 if kind == b"E0" else 0, 77)
    assert (_ale_state.fault(state, states[0]) is None) == (kind == b"2K")


def test_generators_that_came_too_far_are_found(states):
    state = re.sub(rb"(?<= )\d{1,3}(?=\x08\x00\x00\x00M6502)", b"999", states[-1])
    assert _ale_state.fault(state, states[0]) is not None

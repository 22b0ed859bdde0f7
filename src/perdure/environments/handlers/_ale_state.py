"""Validates the serialized states of Stella, the ALE's emulator, before the emulator reads them.

The emulator trusts whatever it is given, and takes memory addresses from it: the bank of a cartridge, the size of the
memory, the position of a sprite, the position in a random generator. So a state from a file is first compared with one
that the emulator has just written: if it has the same layout and such numbers are within their bounds, the worst that
it can cause is a strange game.
"""

from __future__ import annotations

import functools
import itertools
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Random generators are serialized as text: 624 numbers and a position among them.
_GENERATOR = re.compile(rb"(?:\d{1,10} ){624}\d{1,4}(?!\d)")
_SECTION = re.compile(rb"(?s)([\x03-\x14])\x00\x00\x00(?=M6502|M6532|TIA|Cartridge)")
_LONGEST_GENERATOR = 625 * 11
_HEADER = 24
_TRUE, _FALSE = 0xFAB1FAB2 - (1 << 32), 0xBAD1BAD2 - (1 << 32)
_FAR = 1 << 24
#: After this many frames it is practically certain that another action has been executed.
LONGEST_REPEAT = 64
#: The number of banks of the kinds of cartridges that switch them; the first word selects one.
_BANKS = {"F8": 2, "F8SC": 2, "FE": 2, "UA": 2, "DPC": 2, "FASC": 3, "F6": 4, "F6SC": 4, "F4": 8, "F4SC": 8}
_ONE_BANK = ("2K", "4K", "CV")
#: Bounds (inclusive) of the picture generator's words that are table indices.
_PICTURE = {4: (0, 228), **dict.fromkeys(range(41, 46), (0, 159)), 51: (0, 3)}


def game(state: bytes) -> bytes:
    """The checksum of the game's program."""
    return state[_HEADER + 8 : _HEADER + 40]


def fault(state: bytes, own: bytes) -> str | None:
    """What shows that an emulator of the same game has not written a state; None if nothing does.

    :param own: a state that this emulator has written.
    """
    if game(state) != game(own):
        return "the checksum of another game"
    if _behind(state) != _behind(own):
        return "a length that differs from the one it states"
    mine = _parts(own)
    try:
        parts = _like(state, [len(part) for part in mine])
    except ValueError as error:
        return str(error)
    found: str | None = None
    for part, other in zip(parts[1:], mine[1:], strict=True):
        found = found or _fault_of_part(part, other)
    return found


def _parts(own: bytes) -> list[bytes]:
    """The parts before, between and after the random generators, each of which is preceded by its length."""
    parts, at = [], 0
    for match in _GENERATOR.finditer(own):
        parts.append(own[at : match.start() - 4])
        at = match.end()
    return [*parts, own[at:]]


def _like(state: bytes, lengths: list[int]) -> list[bytes]:
    """The parts of a state, which should have these lengths.

    :raises ValueError: if they have not, or a generator has an impossible position.
    """
    parts, at = [], 0
    for index, length in enumerate(lengths):
        parts.append(state[at : at + length])
        at += length
        if index == len(lengths) - 1:
            break
        size = int.from_bytes(state[at : at + 4], "little")
        text = state[at + 4 : at + 4 + size] if size <= _LONGEST_GENERATOR else b""
        if len(text) != size or _GENERATOR.fullmatch(text) is None:
            raise ValueError("something else where a random generator is expected")
        if int(text.rpartition(b" ")[2]) > 624 or any(int(number) >= 1 << 32 for number in text.split(b" ")):
            raise ValueError("a random generator in an impossible state")
        at += 4 + size
    if at != len(state):
        raise ValueError("another length")
    return parts


def repeats(state: bytes, chance: float) -> int:
    """For how many frames after a state the emulator repeats its last action, whatever action it is given.

    Its last generator decides, with two numbers for each frame, the first for the first player.
    """
    start, end = _last_generator(state)
    words = state[start:end].split(b" ")
    position = int(words[-1])
    # Most often the numbers that are already there suffice.
    for count, word in enumerate(words[position:624:2][:LONGEST_REPEAT]):
        if _tempered(int(word)) >= chance * (1 << 32):
            return count
    bits = np.random.MT19937(0)
    key = np.fromiter(map(int, words[:-1]), np.uint32, len(words) - 1)
    bits.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": position}}
    again = bits.random_raw(2 * LONGEST_REPEAT)[::2] < chance * (1 << 32)
    return int(np.argmin(again)) if not again.all() else LONGEST_REPEAT


def obedient(state: bytes, chance: float) -> bytes:
    """The same state with another generator, so that the emulator executes the next action that it is given."""
    start, end = _last_generator(state)
    new = _obedient_generator(chance)
    made = bytearray(state[: start - 4] + len(new).to_bytes(4, "little") + new + state[end:])
    # The text of another generator has another length, and so has the part that contains it.
    (length,) = struct.unpack_from("<i", state, _HEADER)
    if end <= _HEADER + 4 + length:
        struct.pack_into("<i", made, _HEADER, length + len(made) - len(state))
    return bytes(made)


#: The lengths of the parts before each generator, by game.
_layouts: dict[bytes, list[int]] = {}


def _last_generator(state: bytes) -> tuple[int, int]:
    """The start and the end of the last generator's text."""
    for known in (True, False):
        if not known:
            _layouts[game(state)] = [len(part) for part in _parts(state)][:-1]
        start = end = 0
        for length in _layouts.get(game(state), ()):
            start = end + length + 4
            end = start + int.from_bytes(state[start - 4 : start], "little")
        if end <= len(state) and state.count(b" ", start, end) == 624:
            break
    return start, end


def _tempered(word: int) -> int:
    """The number that the Mersenne Twister makes of a word of its state."""
    word ^= word >> 11
    word ^= word << 7 & 0x9D2C5680
    word ^= word << 15 & 0xEFC60000
    return word ^ word >> 18


@functools.cache
def _obedient_generator(chance: float) -> bytes:
    for seed in itertools.count():
        bits = np.random.MT19937(seed)
        inner: Any = bits.state["state"]
        if bits.random_raw() >= chance * (1 << 32):
            return " ".join(map(str, [*inner["key"].tolist(), inner["pos"]])).encode()
    raise AssertionError


def _behind(state: bytes) -> int:
    """How many bytes follow the emulator's own part, judging by the length that the state has for that part."""
    (length,) = struct.unpack_from("<i", state, _HEADER)
    return len(state) - _HEADER - 4 - int(length)


def _sections(part: bytes) -> Iterator[tuple[str, int, int]]:
    """The name of each device, and the start and the end of its words."""
    starts = list(_SECTION.finditer(part))
    ends = [*(match.start() for match in starts[1:]), len(part)]
    for match, end in zip(starts, ends, strict=False):
        start = match.end() + match.group(1)[0]
        yield part[match.end() : start].decode("latin-1"), start, end


def _fault_of_part(part: bytes, own: bytes) -> str | None:
    sections = list(_sections(own))
    if list(_sections(part)) != sections:
        return "other devices"
    for name, start, end in sections or [("", 0, len(own))]:
        count = (end - start) // 4
        words = struct.unpack_from(f"<{count}i", part, start)
        mine = struct.unpack_from(f"<{count}i", own, start)
        for index, (word, known) in enumerate(zip(words, mine, strict=True)):
            if (word in (_TRUE, _FALSE)) != (known in (_TRUE, _FALSE)):
                return f"a word that is neither true nor false in {name or 'its last part'}"
            if not _is_within(name, index, word, known):
                return f"{word} as number {index} of {name}"
        if name == "TIA" and not _draws_inside(words, mine):
            return "a picture that is drawn outside the screen"
    return None


def _is_within(name: str, index: int, word: int, known: int) -> bool:
    if name == "M6532":
        # The first word is the size of the memory.
        return word == known if index == 0 else True
    if name == "TIA":
        low, high = _PICTURE.get(index, (-(1 << 31), 1 << 31))
        return low <= word <= high
    if name.startswith("Cartridge"):
        kind = name.removeprefix("Cartridge")
        if kind == "E0":
            return word == known if index == 0 else 0 <= word < 8 or index > 4
        if kind in _BANKS:
            return index > 0 or known not in range(_BANKS[kind]) or 0 <= word < _BANKS[kind]
        return kind in _ONE_BANK or word == known or 0 <= word < 256 or word in (_TRUE, _FALSE)
    return True


def _draws_inside(words: tuple[int, ...], own: tuple[int, ...]) -> bool:
    """Whether the clocks say that the position of drawing is between the picture's first and last line."""
    begun, first, last, now = words[:4]
    lines = (first - begun, last - begun) == (own[1] - own[0], own[2] - own[0])
    return lines and (first <= now <= last or now == begun)

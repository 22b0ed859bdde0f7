"""Worlds that change at random. What a later checkpoint accepts is restored in a fresh world, and nothing else is
warned of: neither the note of what decides, nor the comparison, misses a change."""

from __future__ import annotations

import random
import warnings
from typing import Any

import pytest
from changing_worlds import KINDS, PLACES, Agent, change, put
from test_restorable import recorded

import perdure
from perdure.errors import CaptureError, RestoreError
from perdure.state import State, capture, diff, prepare, walk_live
from perdure.tree import decode, encode

_STEPS = 6


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.nbytes = len(content)

    def read_into(self, buffer: memoryview) -> None:
        buffer[:] = self.content


def transported(state: State) -> State:
    document, blobs = encode(state)
    return decode(document, [_Bytes(bytes(blob.buffer())) for blob in blobs])


def built(first: list[tuple[str, str]]) -> perdure.World:
    agent = Agent()
    for place, kind in first:
        put(agent, place, KINDS[kind]())
    return perdure.World(agent=agent)


def restored(state: State, fresh: perdure.World) -> str:
    """Why a state is not restored in a world that the script has just built; "" if it is."""
    live = walk_live(fresh)
    live.unchanged = lambda path: True
    try:
        prepare(state, fresh, live).apply()
    except RestoreError as error:
        return str(error)
    return "".join(map(str, diff(state, capture(fresh), ignore=())))


def differs(seed: int) -> str:
    """What the checkpoints of a random training say wrongly; "" if nothing."""
    draw = random.Random(seed)
    kinds = draw.sample(sorted(KINDS), 6)
    first = [(draw.choice(PLACES), draw.choice(kinds)) for _ in range(draw.randrange(4))]
    world: Any = built(first)
    record = recorded(world)
    done = [f"{kind} at {place}" for place, kind in first]
    for _ in range(_STEPS):
        live = walk_live(world)
        try:
            state = transported(live.state())
        except CaptureError:
            return ""  # it is told at this checkpoint, whatever was before
        report = record.compare(live)
        why_not = restored(state, built(first))
        if report.exact != (not why_not):
            said = why_not if report.exact else f"a false alarm: {report.problems()}"
            return f"seed {seed} after {done}: {said}"
        try:
            done.append(change(world.agent, draw, kinds))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            continue  # the place is gone
    return ""


def _all(seeds: range) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [wrong for seed in seeds if (wrong := differs(seed))] == []


def test_what_is_accepted_is_restored_and_nothing_else_is_warned_of() -> None:
    _all(range(25))


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(20))
def test_so_it_is_in_many_worlds(part: int) -> None:
    _all(range(1_000 + 50 * part, 1_050 + 50 * part))

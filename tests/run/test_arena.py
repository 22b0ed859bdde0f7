"""The memory that is copied into: taken again and again, and never twice."""

import weakref

import numpy as np

from perdure.snapshot import _arena

MB = 1 << 20


def turn(memory, nbytes, pieces=4):
    memory.begin()
    taken = [memory.take(nbytes // pieces) for _ in range(pieces)]
    for piece in taken:
        piece[:] = 1
    memory.prepare(pin=False)
    return taken


def test_the_second_time_decides_how_much_there_is_and_from_then_on_it_is_the_same():
    memory = _arena.Arena()
    turn(memory, 40 * MB)  # the first checkpoint of a run writes everything
    turn(memory, 8 * MB)
    third, fourth = turn(memory, 8 * MB), turn(memory, 8 * MB)
    for before, now in zip(third, fourth, strict=True):
        assert before.ctypes.data == now.ctypes.data


def test_pieces_never_overlap_whatever_was_taken_before():
    memory = _arena.Arena()
    for nbytes in (3 * MB, 40 * MB, 2 * MB, 90 * MB, 90 * MB, 1 * MB):
        taken = turn(memory, nbytes, pieces=7)
        for i, one in enumerate(taken):
            assert not any(np.shares_memory(one, other) for other in taken[:i])


def test_memory_is_given_back_before_there_is_other_memory(monkeypatch):
    """There would be twice as much for a moment, and the peak is what a job is killed for."""
    made, alive = [], []
    real = _arena._mapped

    def mapped(nbytes):
        alive.append(sum(reference() is not None for reference in made))
        found = real(nbytes)
        made.append(weakref.ref(found.base.obj))
        return found

    monkeypatch.setattr(_arena, "_mapped", mapped)
    memory = _arena.Arena()
    for nbytes in (20 * MB, 20 * MB, 80 * MB, 80 * MB, 80 * MB):
        memory.begin()
        memory.take(nbytes)
        alive.clear()
        memory.prepare(pin=False)
        assert alive in ([], [0])
    assert sum(reference() is not None for reference in made) == 1

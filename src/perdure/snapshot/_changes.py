"""Which bytes of an array differ from what is stored of it. Stretches are pairs of a first byte and the one after the
last. Knows bytes and their checksums, and nothing of buffers."""

from __future__ import annotations

from collections.abc import Sequence

import xxhash

from perdure.snapshot._arena import Bytes
from perdure.state import buffers
from perdure.store import StoredArray

Stretch = tuple[int, int]


def differing(
    stored: StoredArray, content: Bytes, stretches: Sequence[Stretch], *, read: bool = False
) -> list[Stretch]:
    """The parts of stretches, chunk by chunk, whose content differs from what is stored.

    :param read: whether to read what is stored where a checksum covers more than the stretch; otherwise such parts
        count as changed.
    """
    found = []
    view = memoryview(content)  # type: ignore[arg-type]
    for start, stop in stretches:
        for begin, extent in stored.layout.placed(start, stop):
            low, high = max(begin, start), min(begin + extent.take, stop)
            if extent.whole and high - low == extent.take:
                same = xxhash.xxh3_128_hexdigest(view[low:high]) == extent.chunk.checksum
            else:
                same = read and stored.holds(low, view[low:high])
            if not same:
                found.append((low, high))
    return buffers.merged(found)


def widened(stored: StoredArray, stretches: Sequence[Stretch], least: int) -> list[Stretch]:
    """The stretches together with small chunks before them, so that there are never many small chunks.

    A stretch takes in what is before it only as far as that is about as large as the stretch. So each byte is written
    again a few times at most, whatever the number of checkpoints.

    :param least: chunks of this size are not small.
    """
    found = []
    for start, stop in stretches:
        while start and stop - start < least:
            begin, _ = next(iter(stored.layout.placed(start - 1, start)))
            if start - begin > 2 * (stop - start) or start - begin >= least:
                break
            start = begin
        found.append((start, stop))
    return buffers.merged(found)


def complement(stretches: Sequence[Stretch], nbytes: int) -> list[Stretch]:
    """All of `nbytes` bytes that are in none of the stretches, which are sorted."""
    edges = [0, *(edge for stretch in stretches for edge in stretch), nbytes]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if start < stop]


def mostly_differ(before: StoredArray, after: StoredArray) -> bool:
    """Whether most of the chunks of an array are other ones than before."""
    old = {extent.chunk for extent in before.layout.extents()}
    now = [extent.chunk for extent in after.layout.extents()]
    return sum(chunk not in old for chunk in now) * 2 > len(now)

"""Where the bytes of arrays are stored: chunks in packs, extents of chunks, pages of extents.

The extents of an array cover it in order. An extent is a chunk or a part of one: when rows of a replay buffer are
overwritten, the rest of the old chunk stays where it is, and no byte of it is written again. A layout never changes;
`overlay` makes a new one that shares all pages that the change did not touch. So the size of a manifest follows what
changed, as the written data does.

Knows offsets and lengths, and reads nothing.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from perdure.errors import DamagedError
from perdure.store._checksummed_json import digest

RAW, ZSTD, ZERO = "raw", "zstd", "zero"
CODECS = (RAW, ZSTD, ZERO)
"""How a chunk is stored: as it is, as a frame of Zstandard, or not at all because all its bytes are zero."""

LONGEST_CHUNK = 1 << 26
"""The longest chunk that is read. A later version of Perdure may write longer ones than this one does."""

#: At least so many bytes of an array belong to one page.
PAGE_SPAN = 16 << 20
#: The most pages that one array has.
MOST_PAGES = 128

MOST_EXTENTS = 1 << 21
"""The most extents that one checkpoint has in pages: two tebibytes in chunks of a mebibyte. In memory each takes some
400 bytes, so no list of them can fill a reader's."""

_FURTHEST = 1 << 62
_BLOCK = 4096  # extents of a page that are read at once
_RECORD = np.dtype(
    [
        ("pack", "<u8"),
        ("offset", "<u8"),
        ("stored", "<u4"),
        ("length", "<u4"),
        ("skip", "<u4"),
        ("take", "<u4"),
        ("codec", "<u4"),
        ("checksum", "V16"),
    ]
)


class Chunk(NamedTuple):
    """Bytes that are stored and verified together.

    :param pack: the number of the pack (see `packs.pack_file`); 0 where `codec` is ZERO.
    :param offset: of the first stored byte in the pack.
    :param stored: how many bytes it takes in the pack.
    :param length: how many bytes of content it has.
    :param checksum: of the content, not of what is stored.
    """

    pack: int
    offset: int
    stored: int
    length: int
    codec: str
    checksum: str


class Extent(NamedTuple):
    """`take` bytes of a chunk's content, from `skip` on."""

    chunk: Chunk
    skip: int
    take: int

    @property
    def whole(self) -> bool:
        """Whether it is all of the chunk."""
        return self.take == self.chunk.length

    def part(self, skip: int, take: int) -> Extent:
        """A part of it."""
        return Extent(self.chunk, self.skip + skip, take)


def whole(chunk: Chunk) -> Extent:
    """All of a chunk."""
    return Extent(chunk, 0, chunk.length)


class Page:
    """The extents that begin in one stretch of an array; never changed.

    :param start: where the first of the extents begins in the array.
    :param kept: the chunk in which the page itself is stored, once it is.
    """

    __slots__ = ("_usage", "extents", "kept", "start")

    def __init__(self, start: int, extents: tuple[Extent, ...], kept: Chunk | None = None) -> None:
        self.start = start
        self.extents = extents
        self.kept = kept
        self._usage: dict[int, int] | None = None

    @property
    def usage(self) -> dict[int, int]:
        """How many stored bytes of each pack its extents need; a chunk counts as far as it is needed."""
        if self._usage is None:
            usage: dict[int, int] = {}
            for chunk, _, take in self.extents:
                if chunk.stored:
                    usage[chunk.pack] = usage.get(chunk.pack, 0) + chunk.stored * take // chunk.length
            self._usage = usage
        return self._usage

    def placed(self) -> Iterator[tuple[int, Extent]]:
        """The extents, each with where it begins in the array."""
        at = self.start
        for extent in self.extents:
            yield at, extent
            at += extent.take


class Layout:
    """The extents of one array.

    :param nbytes: of the array.
    :param span: how many bytes of the array belong to one page.
    """

    __slots__ = ("nbytes", "pages", "span")

    def __init__(self, nbytes: int, span: int, pages: Sequence[Page]) -> None:
        self.nbytes = nbytes
        self.span = span
        self.pages = tuple(pages)

    @classmethod
    def of(cls, nbytes: int, extents: Iterable[Extent], span: int | None = None) -> Layout:
        """A layout of extents that cover an array from its first byte to its last."""
        span = span or span_of(nbytes)
        grouped: dict[int, list[Extent]] = {}
        starts: dict[int, int] = {}
        at = 0
        for extent in extents:
            number = at // span
            starts.setdefault(number, at)
            grouped.setdefault(number, []).append(extent)
            at += extent.take
        if at != nbytes:
            raise ValueError(f"extents of {at} bytes for an array of {nbytes}")
        pages = (-(-nbytes // span)) if nbytes else 0
        return cls(
            nbytes,
            span,
            [Page(starts.get(n, n * span), tuple(grouped.get(n, ()))) for n in range(pages)],
        )

    def placed(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Extent]]:
        """The extents that overlap the bytes from `start` to `stop`, each with where it begins."""
        stop = self.nbytes if stop is None else stop
        for page in self.pages[self._first_page(start) :]:
            for at, extent in page.placed():
                if at >= stop:
                    return
                if at + extent.take > start:
                    yield at, extent

    def extents(self) -> Iterator[Extent]:
        """All extents, in order."""
        for page in self.pages:
            yield from page.extents

    def overlay(self, pieces: Sequence[tuple[int, Sequence[Extent]]]) -> Layout:
        """The layout after stretches of the array were overwritten.

        :param pieces: where each stretch begins, and the extents that hold it now; sorted, without overlaps.
        """
        pages = list(self.pages)
        for start, extents in pieces:
            stop = start + sum(extent.take for extent in extents)
            first = self._first_page(start)
            last = min((stop - 1) // self.span, len(pages) - 1)
            content: dict[int, list[tuple[int, Extent]]] = {number: [] for number in range(first, last + 1)}
            for number in range(first, last + 1):
                for at, extent in pages[number].placed():
                    end = at + extent.take
                    if at < start:
                        left = extent if end <= start else extent.part(0, start - at)
                        content[at // self.span].append((at, left))
                    if end > stop:
                        skip = max(0, stop - at)
                        moved = at + skip
                        # The rest of an extent may begin in a later page than the extent did.
                        number_of = moved // self.span
                        content.setdefault(number_of, list(pages[number_of].placed()))
                        content[number_of].append((moved, extent.part(skip, extent.take - skip)))
            at = start
            for extent in extents:
                number_of = at // self.span
                content.setdefault(number_of, list(pages[number_of].placed()))
                content[number_of].append((at, extent))
                at += extent.take
            for number, found in content.items():
                found.sort(key=lambda placed: placed[0])
                begin = found[0][0] if found else number * self.span
                pages[number] = Page(begin, tuple(extent for _, extent in found))
        return Layout(self.nbytes, self.span, pages)

    def replace(self, moved: dict[Extent, Extent]) -> Layout:
        """The layout after some extents were moved to other packs."""
        pages = [
            Page(page.start, tuple(moved.get(extent, extent) for extent in page.extents))
            if any(extent in moved for extent in page.extents)
            else page
            for page in self.pages
        ]
        return Layout(self.nbytes, self.span, pages)

    def usage(self) -> Iterator[tuple[int, int]]:
        """Packs, and how many of their stored bytes the array and its pages need; a pack may come more than once."""
        for page in self.pages:
            yield from page.usage.items()
            if page.kept is not None:
                yield page.kept.pack, page.kept.stored

    def _first_page(self, start: int) -> int:
        """The page of the extent that holds byte `start`."""
        if not self.pages:
            return 0
        number = min(start // self.span, len(self.pages) - 1)
        # An extent that begins in one page may reach into the next ones.
        while number and (not self.pages[number].extents or self.pages[number].start > start):
            number -= 1
        return number


def span_of(nbytes: int) -> int:
    """How many bytes of an array of `nbytes` belong to one page."""
    return max(PAGE_SPAN, -(-nbytes // MOST_PAGES))


@functools.lru_cache(maxsize=1024)
def zero_chunk(length: int) -> Chunk:
    """A chunk of zeros, which takes no space."""
    return Chunk(0, 0, 0, length, ZERO, digest(bytes(length)))


def dump_page(page: Page) -> bytes:
    """The bytes a page is stored as. The inverse of :func:`load_page`."""
    rows = [
        (c.pack, c.offset, c.stored, c.length, skip, take, CODECS.index(c.codec), bytes.fromhex(c.checksum))
        for c, skip, take in page.extents
    ]
    return np.array(rows, _RECORD).tobytes()


def load_page(content: bytes, start: int, kept: Chunk, where: str) -> Page:
    """The page that was stored as `content`.

    :param start: where its first extent begins in the array.
    :param where: the pack, for messages.
    :raises DamagedError: if Perdure does not write such a page.
    """
    if len(content) % _RECORD.itemsize:
        raise DamagedError(
            f"{where}: {len(content)} bytes are not a list of extents of {_RECORD.itemsize} bytes each"
        )
    records = np.frombuffer(content, _RECORD)
    extents = []
    for at in range(0, len(records), _BLOCK):
        for pack, offset, stored, length, skip, take, codec, checksum in records[at : at + _BLOCK].tolist():
            if codec >= len(CODECS):
                raise DamagedError(f"{where}: a chunk is stored in an unknown way, numbered {codec}")
            chunk = Chunk(pack, offset, stored, length, CODECS[codec], checksum.hex())
            extents.append(checked(Extent(chunk, skip, take), where))
    return Page(start, tuple(extents), kept)


def count_in_page(kept: Chunk) -> int:
    """How many extents the page has that is stored in the chunk `kept`; known before it is read."""
    return kept.length // _RECORD.itemsize


def check_apart(layouts: Iterable[Layout], where: str) -> None:
    """Check that no two chunks overlap; those that a writer placed do not.

    So no more can be read of a pack than it holds, whatever a manifest says, and no page refers to itself.

    :raises DamagedError: if two overlap.
    """
    chunks = {extent.chunk for layout in layouts for extent in layout.extents() if extent.chunk.stored}
    chunks.update(page.kept for layout in layouts for page in layout.pages if page.kept is not None)
    for before, after in itertools.pairwise(sorted(chunks)):
        if before.pack == after.pack and before.offset + before.stored > after.offset:
            raise DamagedError(
                f"{where}: two different chunks are said to share bytes of pack {before.pack}: {before.stored} from "
                f"{before.offset} on, and {after.stored} from {after.offset} on"
            )


def checked(extent: Extent, where: str) -> Extent:
    """The same extent, if it is possible. To be asked before anything is allocated or read by its numbers.

    :raises DamagedError: if it is not possible.
    """
    chunk, skip, take = extent
    fitting = {
        RAW: chunk.stored == chunk.length,
        ZSTD: 0 < chunk.stored < chunk.length,
        ZERO: not chunk.stored,
    }
    if (
        not 0 < chunk.length <= LONGEST_CHUNK
        or not fitting[chunk.codec]
        or (chunk.pack == 0) != (chunk.codec == ZERO)
        or not 0 <= chunk.offset < _FURTHEST
        or not 0 < take <= chunk.length - skip
    ):
        raise DamagedError(
            f"{where}: {tuple(chunk)!r:.200}, from {skip} on {take} bytes, is no part of a chunk"
        )
    return extent

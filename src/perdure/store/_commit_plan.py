"""What one commit writes, and what it refers to because it is stored already.

A commit writes what was staged; of arrays that were not staged, every chunk whose content the previous checkpoint does
not hold. It also copies what is still needed of packs that are mostly unused, or many and small, so that these can be
deleted. Knows arrays as bytes, and no states.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from perdure.errors import StoreError
from perdure.store._checksummed_json import digest
from perdure.store._layout import (
    MOST_EXTENTS,
    ZERO,
    Chunk,
    Extent,
    Layout,
    Page,
    dump_page,
    whole,
    zero_chunk,
)
from perdure.store._packs import LEAST_COMPRESSED, New, PackWriter, cut, element_size
from perdure.store._reading import StoredArray, missing, read_extents
from perdure.store.backends import Backend
from perdure.tree import Blob

SLACK = 4 << 20
"""The packs of one checkpoint take at most twice the bytes that it needs of them, and this many."""

SMALL_PACK = 2 << 20
MOST_SMALL_PACKS = 24
"""If there are more packs than this that are smaller than `SMALL_PACK`, some of them are joined."""

#: The extents of an array stand in the manifest itself if there are no more than this.
_INLINE = 64

Key = tuple[str, int]


class Known:
    """The chunks that the previous checkpoint holds, by checksum and length.

    :param layouts: of arrays whose data was verified.
    """

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self._layouts = layouts
        self._small: dict[Key, Chunk] | None = None
        self._large: dict[Key, Chunk] | None = None

    def find(self, key: Key, *, large: bool) -> Chunk | None:
        """A chunk of this content.

        :param large: whether to look into arrays of many chunks too; for a small array that is not worth it.
        """
        if self._small is None:
            self._small = _chunks(layout for layout in self._layouts if len(layout.pages) < 2)
        found = self._small.get(key)
        if found is None and large:
            if self._large is None:
                self._large = _chunks(layout for layout in self._layouts if len(layout.pages) >= 2)
            found = self._large.get(key)
        return found


def _chunks(layouts: Iterator[Layout]) -> dict[Key, Chunk]:
    chunks = (extent.chunk for layout in layouts for extent in layout.extents())
    return {(chunk.checksum, chunk.length): chunk for chunk in chunks if chunk.codec != ZERO}


#: Where a stretch of an array begins, and what it will consist of.
_Stretch = tuple[int, list["New | Chunk | Extent"]]


class CommitPlan:
    """The plan of one commit.

    :param known: what may be referred to.
    :param sizes: of the packs that are there.
    """

    def __init__(
        self, blobs: Sequence[Blob], known: Known, sizes: dict[int, int], backend: Backend, number: int
    ) -> None:
        self._known = known
        self._sizes = sizes
        self._backend = backend
        self._number = number
        self._new: dict[Key, New] = {}
        self._short_lived: list[New] = []
        self._long_lived: list[New] = []
        self._names = [blob.name for blob in blobs]
        self._arrays = [self._array(blob) for blob in blobs]
        #: The bytes that are new, before compression.
        self.size = sum(new.length for new in self._new.values())
        #: The packs that the checkpoint refers to; known after `carry_out`.
        self.packs: list[int] = []

    # -- what is new ---------------------------------------------------------------------------------------

    def _array(self, blob: Blob) -> tuple[Layout | None, int, list[_Stretch]]:
        """The layout that an array had before, its size, and its new stretches."""
        staged = blob.staged
        size = element_size(blob.dtype)
        if staged is None or staged.base is None:
            content = blob.buffer() if staged is None else _only(staged.pieces)
            if content.nbytes != blob.nbytes:
                raise ValueError(
                    f"the array {blob.name!r} says it has {blob.nbytes} bytes, but gives {content.nbytes}"
                )
            chunks = cut(blob.name, content, whole=(blob.dtype, blob.shape), itemsize=size)
            long_lived = staged is not None and staged.long_lived
            return None, blob.nbytes, [(0, self._place(chunks, long_lived, blob.nbytes > SMALL_PACK))]
        base = staged.base
        if not isinstance(base, StoredArray):
            raise TypeError(
                f"{blob.name}: expected an array of this store as what did not change, found {base!r}"
            )
        lost = next((pack for pack, _ in base.layout.usage() if pack not in self._sizes), None)
        if lost is not None:
            raise missing(self._backend, lost, self._number)
        stretches: list[_Stretch] = []
        for start, piece in staged.pieces:
            chunks = cut(blob.name, piece, start, itemsize=size)
            stretches.append((start, self._place(chunks, staged.long_lived, False)))
        return base.layout, blob.nbytes, stretches

    def _place(self, chunks: Iterator[New], long_lived: bool, large: bool) -> list[New | Chunk | Extent]:
        placed: list[New | Chunk | Extent] = []
        for new in chunks:
            key = (new.checksum, new.length)
            if new.length >= LEAST_COMPRESSED and new.checksum == zero_chunk(new.length).checksum:
                placed.append(zero_chunk(new.length))
                continue
            old = self._known.find(key, large=large)
            if old is not None and old.pack in self._sizes:
                placed.append(old)
                continue
            if key not in self._new:
                self._new[key] = new
                (self._long_lived if long_lived else self._short_lived).append(new)
            placed.append(self._new[key])
        return placed

    # -- carrying it out -----------------------------------------------------------------------------------

    def carry_out(self, writer: PackWriter) -> list[Layout]:
        """Write what is new; returns the layouts of all arrays.

        :raises StoreError: if it cannot be written.
        :raises DamagedError: if data that is to be copied from an old pack cannot be read.
        """
        # Apart from each other, because a pack can be deleted only when nothing in it is needed any more.
        writer.write(self._short_lived)
        writer.write(self._long_lived)
        layouts = []
        for layout, nbytes, stretches in self._arrays:
            pieces = [(start, [_extent(part) for part in parts]) for start, parts in stretches]
            if layout is None:
                layouts.append(Layout.of(nbytes, (extent for _, piece in pieces for extent in piece)))
            else:
                layouts.append(layout.overlay(pieces))
        layouts = self._repack(layouts, writer)
        layouts = self._keep_pages(layouts, writer)
        self.packs = sorted({pack for layout in layouts for pack, _ in layout.usage()})
        return layouts

    def _repack(self, layouts: list[Layout], writer: PackWriter) -> list[Layout]:
        """Copy what is needed of packs that are to be deleted."""
        live: dict[int, int] = {}
        for layout in layouts:
            for pack, used in layout.usage():
                live[pack] = live.get(pack, 0) + used
        doomed = self._doomed(
            {pack: used for pack, used in live.items() if pack in self._sizes}, live, writer
        )
        if not doomed:
            return layouts
        moved: dict[Extent, New] = {}
        for name, layout in zip(self._names, layouts, strict=True):
            if any(pack in doomed for pack, _ in layout.usage()):
                at = 0
                for extent in layout.extents():
                    if extent.chunk.pack in doomed and extent not in moved:
                        moved[extent] = self._again(name, at, extent)
                    at += extent.take
        writer.write(sorted(moved.values(), key=lambda new: new.start))
        places = {old: _extent(new) for old, new in moved.items()}
        found = []
        for layout in layouts:
            # A page that is stored in such a pack is written again too.
            pages = [
                Page(page.start, page.extents) if page.kept is not None and page.kept.pack in doomed else page
                for page in layout.pages
            ]
            found.append(Layout(layout.nbytes, layout.span, pages).replace(places))
        return found

    def _again(self, name: str, at: int, extent: Extent) -> New:
        def read() -> memoryview:
            content = memoryview(bytearray(extent.take))
            read_extents(self._backend, [extent], content, self._number)
            return content

        # Read when it is written, so that it is not all in memory at once.
        return New(name, at, extent.take, extent.chunk.checksum if extent.whole else digest(read()), read)

    def _doomed(self, old: dict[int, int], live: dict[int, int], writer: PackWriter) -> set[int]:
        doomed: set[int] = set()
        small = sorted((self._sizes[pack], pack) for pack in old if self._sizes[pack] < SMALL_PACK)
        if len(small) > MOST_SMALL_PACKS:
            # The smallest ones first, and only as long as the next one is not much larger than those before it
            # together. So each byte is moved a few times at most, however long the run is.
            together = 0
            for pack_size, pack in small:
                if len(doomed) > MOST_SMALL_PACKS // 2 and pack_size > 2 * together:
                    break
                doomed.add(pack)
                together += pack_size
        size = {pack: self._sizes[pack] for pack in old} | writer.sizes
        needed = sum(live.values())
        taken = sum(live[pack] if pack in doomed else size[pack] for pack in live)
        for pack in sorted(old, key=lambda pack: old[pack] / self._sizes[pack]):
            if taken <= 2 * needed + SLACK:
                break
            if pack not in doomed:
                doomed.add(pack)
                taken -= size[pack] - live[pack]
        return doomed

    def _keep_pages(self, layouts: list[Layout], writer: PackWriter) -> list[Layout]:
        """Write those pages of large arrays that are not stored yet."""
        fresh: list[tuple[Page, New]] = []
        found = []
        if (count := sum(len(page.extents) for layout in layouts for page in layout.pages)) > MOST_EXTENTS:
            raise StoreError(
                f"the arrays of the state consist of {count:,} pieces, and a checkpoint can have {MOST_EXTENTS:,}, "
                "two tebibytes in pieces of the usual size: leave out (skip=) what can be made again"
            )
        for name, layout in zip(self._names, layouts, strict=True):
            many = sum(len(page.extents) for page in layout.pages) > _INLINE
            pages = []
            for page in layout.pages:
                if many and page.extents and page.kept is None:
                    content = memoryview(dump_page(page))
                    page = Page(page.start, page.extents)
                    of = f"extents of {name}"
                    fresh.append((page, New(of, page.start, len(content), digest(content), _giving(content))))
                elif not many and page.kept is not None:
                    page = Page(page.start, page.extents)
                pages.append(page)
            found.append(Layout(layout.nbytes, layout.span, pages))
        writer.write([new for _, new in fresh])
        for page, new in fresh:
            page.kept = new.chunk
        return found


def _only(pieces: Sequence[tuple[int, memoryview]]) -> memoryview:
    """The bytes of an array that was copied whole, in one piece; an empty one has no piece."""
    if not pieces:
        return memoryview(b"")
    ((start, content),) = pieces
    if start:
        raise ValueError(f"an array without a base begins at byte {start}")
    return content


def _giving(content: memoryview) -> Callable[[], memoryview]:
    return lambda: content


def _extent(part: New | Chunk | Extent) -> Extent:
    if isinstance(part, Extent):
        return part
    chunk = part.chunk if isinstance(part, New) else part
    assert chunk is not None, "asked for before it is written"
    return whole(chunk)

"""Attacks by what says where the bytes of an array lie: pages of extents, and extents of packs.

A page is a chunk of a pack, and a few compressed bytes may stand for very many extents; extents may overlap, be
repeated, name the page itself, or lead out of a pack. All have checksums that are right. Whatever they are: what they
stand for or a clear error, in bounded memory and time, and the checkpoint before is used.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage_support import state_of
from hostile_support import bounded

from perdure.errors import PerdureError, PerdureWarning, StoreError
from perdure.store import GET_LIMIT, LocalBackend, Store, load_checksummed
from perdure.store._checksummed_json import digest, dump_checksummed
from perdure.store._layout import LONGEST_CHUNK, Chunk, Extent, Page, dump_page, zero_chunk
from perdure.store._packs import Compressor, New, PackWriter

_MEBI = 1 << 20
_RECORD = 52
MANIFEST = "checkpoints/00000002.json"
PACK = "packs/00000050.safetensors"
MEMORY = 3 << 28


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with Store.open(tmp_path / "run", write=True) as store:
        for step in (1, 2):
            store.commit(state_of({"x": np.full(4, step, np.uint8)}), step=step)
    return tmp_path / "run"


def forge_pack(root: Path, contents: Sequence[bytes], compress: bool = True) -> list[Chunk]:
    """A pack of the run that holds these chunks, as a writer would write it; where they lie."""
    run = load_checksummed("run", (root / "run.json").read_bytes(), "")["id"]
    chunks = [New("forged", 0, len(each), digest(each), _giving(each)) for each in contents]
    compressor = Compressor("zstd" if compress else "none")
    with (
        ThreadPoolExecutor(1) as thread,
        PackWriter(LocalBackend(root), 50, run, compressor, thread) as writer,
    ):
        writer.write(chunks)
    return [new.chunk for new in chunks if new.chunk is not None]


def _giving(content: bytes) -> Callable[[], memoryview]:
    return lambda: memoryview(content)


def page_of(*extents: Extent) -> bytes:
    return dump_page(Page(0, extents))


def part(chunk: Chunk, skip: int = 0, take: int | None = None, **other: Any) -> Extent:
    chunk = chunk._replace(**other)
    return Extent(chunk, skip, chunk.length if take is None else take)


def forge(root: Path, nbytes: int, layout: Any, repeat: int = 1) -> None:
    """The array of the second checkpoint lies where `layout` says.

    :param repeat: how many arrays the manifest says that there are, all of them so.
    """
    path = root / MANIFEST
    body = load_checksummed("manifest", path.read_bytes(), "")
    (array,) = (node[1] for node in body["state"]["nodes"] if node[0] == "a")
    array.update(shape=[nbytes])
    body["arrays"] = [layout] * repeat
    body["packs"] = sorted({*body["packs"], 50 << 16})
    path.write_bytes(dump_checksummed("manifest", body))


def paged(nbytes: int, span: int, *pages: tuple[int, Chunk] | None) -> dict[str, Any]:
    return {"nbytes": nbytes, "span": span, "pages": [page and [page[0], *page[1]] for page in pages]}


def read(root: Path) -> str:
    """The checksum of what the forged array holds, or why it is refused; in bounded memory and time."""

    def load() -> str:
        try:
            data = Store.open(root).read(2).state.root.fields["x"].data
            content = bytearray(data.nbytes)
            data.read_into(memoryview(content))
        except PerdureError as error:
            return f"refused: {error}"
        return f"read: {digest(content)}"

    return bounded(load, 100, MEMORY)


def go_on(root: Path) -> str:
    """What a reader, the check and the next writer make of a copy of it."""
    root = Path(shutil.copytree(root, root.with_name("copy"), dirs_exist_ok=True))

    def work() -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PerdureWarning)
            found = Store.open(root).latest()
            assert found is not None
            problems = Store.open(root).verify()
            with Store.open(root, write=True) as store:
                again = store.latest()
                assert again is not None
                assert again.info.number == found.info.number
                store.commit(state_of({"x": np.full(4, 3, np.uint8)}), step=3)
                newest = store.latest()
                assert newest is not None
                assert newest.info.step == 3
        return f"{found.info.number}: {[problem.problem for problem in problems if not problem.harmless]}"

    said = bounded(work, 100, MEMORY)
    shutil.rmtree(root)
    return said


def refused(root: Path, *words: str) -> None:
    said, meanwhile = read(root), go_on(root)
    assert said.startswith("refused:"), said
    assert all(word in said for word in words), said
    assert MANIFEST in said or PACK in said, said
    assert meanwhile.startswith("1: ["), meanwhile
    assert meanwhile != "1: []", "verify found nothing"


def reads(root: Path, content: bytes) -> None:
    assert read(root) == f"read: {digest(content)}"
    assert go_on(root).startswith("2: ")


# -- how many -------------------------------------------------------------------------------------------------

#: As many extents as fit into the longest chunk.
MANY = LONGEST_CHUNK // _RECORD


def test_pages_as_a_writer_makes_them(root: Path) -> None:
    """What is forged here is read where nothing is wrong with it."""
    content = bytes(range(200))
    (chunk,) = forge_pack(root, [content])
    page = page_of(part(chunk, 0, 50), part(chunk, 50, 150))
    (root / PACK).unlink()
    chunk, kept = forge_pack(root, [content, page])
    forge(root, 200, paged(200, 200, (0, kept)))
    refused(root, "is damaged")  # the header of that pack is longer, so the chunk lies further on
    (root / PACK).unlink()
    chunk, kept = forge_pack(root, [content, page_of(part(chunk, 0, 50), part(chunk, 50, 150))])
    forge(root, 200, paged(200, 200, (0, kept)))
    reads(root, content)


def test_a_few_bytes_that_stand_for_very_many_extents(root: Path) -> None:
    """A compressed page of kilobytes holds a million extents, and a manifest of kilobytes names it again and again."""
    (page,) = forge_pack(root, [page_of(part(zero_chunk(4096), 0, 1)) * MANY])
    assert page.stored < 100_000
    forge(root, 128 * MANY, paged(128 * MANY, MANY, *((n * MANY, page) for n in range(128))))
    refused(root, "expected at most 2,097,152 extents in its arrays, found 165,191,040")
    forge(root, MANY, paged(MANY, MANY, (0, page)), repeat=1_000)
    refused(root, "expected at most 2,097,152 extents in its arrays")
    # What is allowed is read.
    (root / PACK).unlink()
    some = MANY // 10
    (page,) = forge_pack(root, [page_of(part(zero_chunk(4096), 0, 1)) * some])
    forge(root, some, paged(some, some, (0, page)))
    reads(root, bytes(some))


def test_a_checkpoint_that_would_have_too_many_extents_is_not_written(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store._commit_plan.MOST_EXTENTS", 3)
    with Store.open(root, write=True, compression="none") as store:
        content = np.arange(5 * _MEBI // 8, dtype=np.int64)
        with pytest.raises(StoreError, match="5 pieces, and a checkpoint can have 3"):
            store.commit(state_of({"x": content}), step=3)
        store.commit(state_of({"x": content[: 2 * _MEBI // 8]}), step=3)
        assert store.verify() == []


COUNTS: dict[str, tuple[Callable[[Chunk], Any], str]] = {
    "an array larger than its extents": (lambda page: paged(101, 101, (0, page)), "extents of 100 bytes"),
    "an array smaller than its extents": (lambda page: paged(99, 99, (0, page)), "extents of 100 bytes"),
    "an array of an exabyte": (lambda page: paged(1 << 60, 1 << 60, (0, page)), "extents of 100 bytes"),
    "more pages than there may be": (lambda page: paged(129, 1, *[None] * 129), "129 pages"),
    "fewer pages than the array needs": (lambda page: paged(200, 100, (0, page)), "1 pages of 100 bytes"),
    "pages of no bytes": (lambda page: paged(100, 0, (0, page)), "1 pages of 0 bytes"),
    "a page that begins elsewhere": (lambda page: paged(100, 100, (1, page)), "begins at byte 1, expected 0"),
    "a page that is not in its turn": (lambda page: paged(100, 50, None, (50, page)), "begins at byte 50"),
    "a page again": (lambda page: paged(200, 150, (0, page), (100, page)), "page 1 of an array begins"),
    "a number that is none": (lambda page: paged(100, 100, (-1, page)), "expected a whole number"),
    "a number of 70 bits": (lambda page: paged(100, 100, (0, page._replace(offset=1 << 70))), "whole number"),
    "a page of half an extent": (
        lambda page: paged(100, 100, (0, page._replace(length=25))),
        "no part of a chunk",
    ),
}


@pytest.mark.parametrize("what", COUNTS)
def test_counts_that_are_not_true(root: Path, what: str) -> None:
    (page,) = forge_pack(root, [page_of(part(zero_chunk(100)))], compress=False)
    layout, words = COUNTS[what]
    forge(root, 100, layout(page))
    refused(root, words)


def test_pages_that_are_no_lists_of_extents(root: Path) -> None:
    good = page_of(part(zero_chunk(100)))
    (chunk,) = forge_pack(root, [b"x"])
    pages = {
        "not a list of extents": [good[:-1], good + b"x", b"x"],
        "numbered": [good[:32] + b"\x03" + good[33:], good[:32] + b"\xff" * 4 + good[36:]],
        "no part of a chunk": [
            bytes(_RECORD),
            b"\xff" * 32 + bytes(20),
            page_of(part(chunk, 0, 2)),
            page_of(part(chunk, 1, 1)),
            page_of(part(chunk, 0, 0)),
            page_of(part(chunk, offset=(1 << 64) - 1)),
            page_of(part(chunk, length=(1 << 32) - 1)),
            page_of(part(zero_chunk(100), pack=3)),
        ],
        "that are not in the manifest's list": [
            page_of(part(chunk, pack=7)),
            page_of(part(chunk, pack=(1 << 64) - 1)),
        ],
    }
    for words, contents in pages.items():
        for content in contents:
            (root / PACK).unlink()
            (page,) = forge_pack(root, [content], compress=False)
            forge(root, 100, paged(100, 100, (0, page)))
            refused(root, words)


# -- cycles, overlaps, and what is outside ---------------------------------------------------------------------


def twice(root: Path, make: Callable[[list[Chunk]], list[bytes]], count: int) -> list[Chunk]:
    """A pack of pages that name chunks of the same pack: made again, when it is known where they will lie."""
    chunks = forge_pack(root, [bytes(_RECORD) for _ in range(count)], compress=False)
    (root / PACK).unlink()
    return forge_pack(root, make(chunks), compress=False)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_page_that_names_itself(root: Path, count: int) -> None:
    """Or one that names another one, which names it. A page cannot hold its own checksum, but it can say another."""
    pages = twice(
        root,
        lambda chunks: [page_of(part(chunks[(n + 1) % count])) for n in range(count)],
        count,
    )
    forge(
        root,
        count * _RECORD,
        paged(count * _RECORD, _RECORD, *((n * _RECORD, page) for n, page in enumerate(pages))),
    )
    refused(root, "two different chunks are said to share bytes")


def test_a_page_that_is_data_too(root: Path) -> None:
    """A page is bytes as any others: nothing follows it further."""
    inner = page_of(part(zero_chunk(100)))
    first = forge_pack(root, [inner, bytes(_RECORD)], compress=False)[0]
    (root / PACK).unlink()
    first, second = forge_pack(root, [inner, page_of(part(first))], compress=False)
    forge(root, _RECORD, paged(_RECORD, _RECORD, (0, second)))
    reads(root, inner)


def test_chunks_that_overlap(root: Path) -> None:
    """Each with the right checksum: a file of a megabyte that would take hours to read."""
    content = np.random.default_rng(1).bytes(2 * _MEBI)
    (chunk,) = forge_pack(root, [content], compress=False)
    extents = [
        [chunk.pack, chunk.offset + n, _MEBI, _MEBI, "raw", digest(content[n : n + _MEBI]), 0, 1]
        for n in range(2_000)
    ]
    forge(root, 2_000, extents)
    refused(root, "two different chunks are said to share bytes")
    for other in (
        {"checksum": "0" * 32},
        {"length": chunk.length - 1, "stored": chunk.stored - 1},
        {"offset": chunk.offset + chunk.stored - 1, "stored": 1, "length": 1},
        {"offset": chunk.offset - 1},
        {"codec": "zstd", "stored": chunk.stored - 1},
    ):
        forge(root, 2, [[*chunk, 0, 1], [*chunk._replace(**other), 0, 1]])
        refused(root, "two different chunks are said to share bytes")


def test_one_chunk_in_very_many_places(root: Path) -> None:
    """A chunk of which a byte is needed here and another there is read once, not once for each of them."""
    size = LONGEST_CHUNK // 4
    one, other = forge_pack(root, [bytes(size - 1) + b"x", bytes(size - 1) + b"y"])
    count = 60_000
    extents = [[*(one, other)[n % 2], size - 1 - n % 3 // 2, 1] for n in range(count)]
    expected = bytes(0 if n % 3 == 2 else b"xy"[n % 2] for n in range(count))
    forge(root, count, extents)
    reads(root, expected)


OUTSIDE: dict[str, Callable[[Chunk], Extent]] = {
    "beyond the end": lambda chunk: part(chunk, offset=chunk.offset + 1_000),
    "over the end": lambda chunk: part(chunk, offset=chunk.offset + 1),
    "an exabyte further": lambda chunk: part(chunk, offset=1 << 60),
    "as far as there are numbers": lambda chunk: part(chunk, offset=(1 << 62) - 1),
    "in the header": lambda chunk: part(chunk, offset=8),
    "in a pack that is not there": lambda chunk: part(chunk, pack=(50 << 16) + 1),
}


@pytest.mark.parametrize("what", OUTSIDE)
@pytest.mark.parametrize("where", ["extent", "extent of a page", "page"])
def test_extents_outside_of_a_pack(root: Path, what: str, where: str) -> None:
    chunk, _ = forge_pack(root, [b"content", bytes(_RECORD)], compress=False)
    extent = OUTSIDE[what](chunk)
    if where == "extent of a page":
        (root / PACK).unlink()
        _, page = forge_pack(root, [b"content", page_of(extent)], compress=False)
        forge(root, 7, paged(7, 7, (0, page)))
    elif where == "page":
        forge(root, 7, paged(7, 7, (0, extent.chunk)))
    else:
        forge(root, 7, [[*extent.chunk]])
    said, meanwhile = read(root), go_on(root)
    assert said.startswith("refused:"), said
    assert "00000050" in said or MANIFEST in said, said
    assert meanwhile.startswith("1: ["), meanwhile
    assert meanwhile != "1: []", "verify found nothing"


# -- the manifest itself ----------------------------------------------------------------------------------------


def test_a_manifest_that_is_too_long_is_not_read(root: Path) -> None:
    """As Python's objects it would take many times its size."""
    with open(root / MANIFEST, "r+b") as file:
        file.truncate(GET_LIMIT + 1)
    refused(root, f"has {GET_LIMIT + 1} bytes, expected at most {GET_LIMIT}", "Perdure writes no such file")


def test_a_state_whose_manifest_would_be_too_long_is_not_committed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store._store.GET_LIMIT", 10_000)
    names = {f"array {n}": np.full(1, n, np.uint8) for n in range(100)}
    with Store.open(root, write=True) as store:
        with pytest.raises(
            StoreError, match=r"bytes, at most 10000 can be stored: it has too many small objects"
        ):
            store.commit(state_of(names), step=3)
        found = store.latest()
        assert found is not None
        assert found.info.step == 2
        assert store.verify() == []


def test_very_many_small_arrays_do_not_make_a_header_that_is_not_read(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perdure.store._packs._PACK_CHUNKS", 30)
    names = {f"array {n}": np.full(1, n, np.uint8) for n in range(100)}
    with Store.open(root, write=True) as store:
        store.commit(state_of(names), step=3)
        assert store.verify() == []
    assert len(list((root / "packs").glob("00000003*"))) == 4

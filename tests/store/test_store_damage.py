"""Damage is found, told, and survived: a flipped bit in every byte, cut-off, missing, swapped, hostile."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_support import Arrays, arrays_of, commit, files_of, same

from perdure.errors import (
    DamagedCheckpointWarning,
    DamagedError,
    PerdureError,
    PerdureWarning,
    UnsupportedFormatError,
)
from perdure.store import Store, load_checksummed
from perdure.store._checksummed_json import _END, _START, digest, dump_checksummed, dump_json, load_json
from perdure.store._packs import decompress, stored_chunks


def arrays_at(step: int) -> Arrays:
    return {"same": np.arange(20), "new": np.array([step, 1], np.uint8), "half": np.full(3, step // 2)}


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("intact") / "run"
    with Store.open(root, write=True) as store:
        for step in (1, 2, 3):
            commit(store, arrays_at(step), step, metrics={"reward": 0.5})
    return root


@pytest.fixture
def root(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "run"))


def latest(root: Path) -> tuple[int | None, list[str]]:
    """The step of the newest checkpoint that is whole, after all of it was compared; and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PerdureWarning)
        found = Store.open(root).latest()
    if found is not None:
        assert same(arrays_of(found.state), arrays_at(found.info.step))
    return found.info.step if found else None, [str(warning.message) for warning in caught]


def problems(root: Path) -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PerdureWarning)
        return sorted({problem.file for problem in Store.open(root).verify() if not problem.harmless})


def test_the_bits_of_a_compressed_chunk_that_do_not_matter(tmp_path: Path) -> None:
    """A few of them do not change what it stands for: that they flipped is told all the same."""
    content = {"x": np.concatenate([np.zeros(700), np.arange(300.0)])}
    with Store.open(tmp_path, write=True, compression="zstd") as store:
        commit(store, content, 1)
    path = tmp_path / "packs" / "00000001.safetensors"
    pack = path.read_bytes()
    header = 8 + int.from_bytes(pack[:8], "little")
    store = Store.open(tmp_path)
    without_effect = 0
    for number in range(8 * header, 8 * len(pack)):
        damaged = bytearray(pack)
        damaged[number // 8] ^= 1 << number % 8
        matters = _decompressed(damaged[header:]) != content["x"].tobytes()
        if matters and number % 20:
            continue
        path.write_bytes(damaged)
        (found,) = store.verify()
        assert found.file == "packs/00000001.safetensors"
        assert found.harmless is not matters
        if matters:
            with pytest.raises(DamagedError):
                store.latest()
        else:
            without_effect += 1
            assert "although they decompress to the right content" in found.problem
            checkpoint = store.latest()
            assert checkpoint is not None
            assert same(arrays_of(checkpoint.state), content)
    assert without_effect > 5
    path.write_bytes(pack)
    assert store.verify() == []


def _decompressed(frame: bytearray) -> bytes | None:
    try:
        return decompress(memoryview(frame), 8000, "")
    except DamagedError:
        return None


def test_nothing_is_wrong_with_what_is_intact(intact: Path) -> None:
    assert latest(intact) == (3, [])
    assert problems(intact) == []


def test_a_flipped_bit_in_every_byte_of_every_file(root: Path) -> None:
    expected = {
        "checkpoints/00000001.json": [(3, 0)],
        "checkpoints/00000002.json": [(3, 0)],
        "checkpoints/00000003.json": [(2, 1)],
        "packs/00000001.safetensors": [(None, 0), (3, 0)],  # some of it only checkpoint 1 needs
        "packs/00000002.safetensors": [(1, 2), (3, 0)],
        "packs/00000003.safetensors": [(2, 1)],
        "run.json": [(3, 1)],
    }
    count = 0
    for path in files_of(root):
        name = path.relative_to(root).as_posix()
        content = path.read_bytes()
        for position in range(len(content)):
            count += 1
            damaged = bytearray(content)
            damaged[position] ^= 1 << position % 8
            path.write_bytes(damaged)
            assert problems(root) == [name], f"byte {position} of {name}"
            if position % 5:
                continue
            # What is read is compared with what was written.
            try:
                step, warned = latest(root)
            except DamagedError:
                step, warned = None, []
            assert (step, len(warned)) in expected[name]
        path.write_bytes(content)
    assert count > 3000
    assert problems(root) == []


@pytest.mark.parametrize("file", ["checkpoints/00000003.json", "run.json", "packs/00000003.safetensors"])
def test_cut_off_at_every_length(root: Path, file: str) -> None:
    path = root / file
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        step, warned = latest(root)
        assert (step, len(warned)) == (3 if file == "run.json" else 2, 1)
        if length % 10 == 0:
            assert problems(root) == [file]
    path.write_bytes(content + b"\n")
    assert problems(root) == [file]


def test_the_warning_names_everything(root: Path) -> None:
    path = root / "checkpoints" / "00000003.json"
    path.write_bytes(path.read_bytes().replace(b'"step":3', b'"step":9'))
    with pytest.warns(DamagedCheckpointWarning) as caught:
        found = Store.open(root).latest()
    assert found is not None
    assert found.info.step == 2
    assert str(caught[0].message) == (
        "checkpoint 3 is damaged, and checkpoint 2 (step 2) is used instead. What is wrong with "
        f"checkpoints/00000003.json: {path} is damaged: its checksum is not that of its content"
    )
    assert caught[0].filename == __file__
    statuses = Store.open(root).survey()
    assert [status.verdict for status in statuses] == ["ok", "ok", "damaged"]
    assert (statuses[2].number, statuses[2].info.file) == (3, "checkpoints/00000003.json")


def test_missing_and_swapped_packs(root: Path) -> None:
    first, second, third = (root / "packs" / f"0000000{i}.safetensors" for i in (1, 2, 3))
    moved = root / "moved"
    third.rename(moved)
    step, warned = latest(root)
    assert step == 2
    assert "00000003.safetensors is missing; checkpoint 3 has arrays in it" in warned[0]
    [problem] = Store.open(root).verify()
    assert (problem.file, problem.meaning) == ("packs/00000003.safetensors", "checkpoint 3 cannot be used")
    second.rename(third)
    moved.rename(second)
    step, warned = latest(root)
    assert (step, len(warned)) == (1, 2)
    assert problems(root) == ["packs/00000002.safetensors", "packs/00000003.safetensors"]
    first.unlink()
    with pytest.raises(DamagedError, match=r"none of the checkpoints in .* is whole") as caught:
        latest(root)
    assert [f"checkpoint {i}:" in str(caught.value) for i in (1, 2, 3)] == [True] * 3


def test_swapped_manifests(root: Path) -> None:
    second, third = root / "checkpoints" / "00000002.json", root / "checkpoints" / "00000003.json"
    content = second.read_bytes()
    second.write_bytes(third.read_bytes())
    third.write_bytes(content)
    step, warned = latest(root)
    assert step == 1
    assert "is the manifest of checkpoint 2: it was renamed, or copied over another one" in warned[0]


def test_a_manifest_of_another_run(root: Path, tmp_path: Path) -> None:
    with Store.open(tmp_path / "other", write=True) as other:
        for step in range(4):
            commit(other, arrays_at(step), step)
    shutil.copy(tmp_path / "other" / "checkpoints" / "00000004.json", root / "checkpoints")
    step, warned = latest(root)
    assert step == 3
    assert "belongs to another run" in warned[0]
    assert problems(root) == ["checkpoints/00000004.json"]


def test_an_unreferenced_pack_is_a_note_and_goes_away(root: Path) -> None:
    shutil.copy(root / "packs" / "00000003.safetensors", root / "packs" / "00000009.safetensors")
    [problem] = Store.open(root).verify()
    assert problem.harmless
    assert (problem.file, problem.meaning[:15]) == ("packs/00000009.safetensors", "nothing is lost")
    with Store.open(root, write=True) as store:
        assert store.verify() == []


def test_damage_in_bytes_that_nobody_needs(root: Path) -> None:
    with Store.open(root, write=True) as store:
        store.retain({3})
        # Of pack 1, the array "new" is not needed any longer.
        manifest = store._catalog.load(3)
        first = manifest.packs[0]
        used = {
            extent.chunk.offset
            for layout in manifest.arrays
            for extent in layout.extents()
            if extent.chunk.pack == first
        }
    path = root / "packs" / "00000001.safetensors"
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    [unused] = [
        chunk
        for chunk in stored_chunks(bytes(content[:header]), len(content), first, "")
        if chunk.offset not in used and chunk.length == 2
    ]
    content[unused.offset] ^= 1
    path.write_bytes(content)
    assert latest(root) == (3, [])
    [problem] = Store.open(root).verify()
    assert problem.harmless
    assert problem.meaning == "nothing is lost: no checkpoint needs these bytes"


def test_a_read_that_fails_later(root: Path) -> None:
    """The data is verified again when it is wanted."""
    found = Store.open(root).latest()
    assert found is not None
    path = root / "packs" / "00000003.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError, match=r"00000003\.safetensors is damaged: bytes"):
        arrays_of(found.state)
    path.unlink()
    with pytest.raises(DamagedError, match="is missing"):
        arrays_of(found.state)


# -- run.json -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_lost_run_json_is_restored(root: Path, content: bytes | None) -> None:
    run = Store.open(root).run
    original = (root / "run.json").read_bytes()
    if content is None:
        (root / "run.json").unlink()
    else:
        (root / "run.json").write_bytes(content)
    with pytest.warns(PerdureWarning, match="taken from a manifest; nothing is lost"):
        assert Store.open(root).run == run
    with pytest.warns(PerdureWarning, match="taken from a manifest and written anew; nothing is lost"):
        Store.open(root, write=True).close()
    assert (root / "run.json").read_bytes() == original


def test_a_damaged_run_json_without_a_manifest(tmp_path: Path) -> None:
    Store.open(tmp_path, write=True).close()
    (tmp_path / "run.json").write_bytes(b"x")
    for write in (False, True):
        with pytest.raises(DamagedError, match=r"no manifest to restore it from \(0 are there"):
            Store.open(tmp_path, write=write)
    (tmp_path / "run.json").unlink()
    Store.open(tmp_path, write=True).close()


# -- newer, malformed and hostile -----------------------------------------------------------------------


def reseal(path: Path, change: Callable[[dict[str, Any]], Any], kind: str = "manifest") -> None:
    """Change a sealed file as someone would who knows the format."""
    body = load_checksummed(kind, path.read_bytes(), "")
    changed = change(body)
    path.write_bytes(dump_checksummed(kind, body if changed is None else changed))


def test_a_newer_format(root: Path) -> None:
    reseal(root / "checkpoints" / "00000003.json", lambda body: body.update(format=2))
    with pytest.raises(
        UnsupportedFormatError, match=r"version 2 of the format, which a newer Perdure wrote; .* Upgrade"
    ):
        Store.open(root).latest()
    newest = Store.open(root).survey()[-1]
    assert (newest.verdict, "Upgrade" in newest.problem) == ("newer format", True)
    reseal(root / "run.json", lambda body: body.update(format=2), "run")
    with pytest.raises(UnsupportedFormatError, match="Upgrade"):
        Store.open(root)


def set_chunk(*values: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        chunk = body["arrays"][0][0]
        chunk[:] = [old if new is ... else new for old, new in zip(chunk, values, strict=False)]

    return change


def set_pack(value: Any) -> Callable[[dict[str, Any]], None]:
    def change(body: dict[str, Any]) -> None:
        body["packs"][0] = value

    return change


MALFORMED = [
    lambda body: [],
    lambda body: {},
    *[
        lambda body, key=key: body.pop(key) and None
        for key in ("format", "run", "checkpoint", "step", "state")
    ],
    *[lambda body, key=key: body.pop(key, 0) and None for key in ("packs", "arrays", "versions", "created")],
    lambda body: body.update(format=0),
    lambda body: body.update(format=True),
    lambda body: body.update(step="1"),
    lambda body: body.update(step=1.5),
    lambda body: body.update(tags=[1]),
    lambda body: body.update(metrics=[]),
    lambda body: body.update(state=[]),
    lambda body: body.update(state={"root": [0], "nodes": [["a", {}]]}),
    lambda body: body.update(arrays=body["arrays"][:-1]),
    lambda body: body.update(arrays=[1]),
    lambda body: body["run"].update(id="../../etc"),
    lambda body: body["arrays"][0].append(body["arrays"][0][0]),
    lambda body: body["arrays"][0].clear(),
    set_chunk(99),
    set_chunk(-1),
    set_chunk(True),
    set_chunk("1"),
    set_chunk(..., 0),
    set_chunk(..., -1),
    set_chunk(..., 1 << 61),
    set_chunk(..., 1 << 80),
    set_chunk(..., ..., 0),
    set_chunk(..., ..., -1),
    set_chunk(..., ..., 1 << 61),
    set_chunk(..., ..., ..., 0),
    set_chunk(..., ..., ..., -1),
    set_chunk(..., ..., 1 << 27, 1 << 27),
    set_chunk(..., ..., 3, ..., "zstd"),
    set_chunk(..., ..., ..., ..., "zstd"),
    set_chunk(..., ..., ..., ..., "zero"),
    set_chunk(0, 0, 0, ..., "raw"),
    set_chunk(..., ..., ..., ..., "gzip"),
    set_chunk(..., ..., ..., ..., None),
    set_chunk(..., ..., ..., ..., ..., "0" * 31),
    set_chunk(..., ..., ..., ..., ..., "A" * 32),
    set_chunk(..., ..., ..., ..., ..., None),
    lambda body: body["arrays"][0][0].pop() and None,
    lambda body: body["arrays"][0][0].extend([1, 1]),
    lambda body: body["arrays"][0][0].extend([0, 1 << 40]),
    lambda body: body["arrays"][0][0].extend([-1, 1]),
    lambda body: body["arrays"].__setitem__(0, {"nbytes": 160, "span": 160, "pages": []}),
    lambda body: body["arrays"].__setitem__(0, {"nbytes": 160, "span": 160, "pages": [None]}),
    lambda body: body["arrays"].__setitem__(0, {"nbytes": 160, "span": 0, "pages": [None]}),
    lambda body: body["arrays"].__setitem__(0, {"nbytes": 160, "span": 1, "pages": [None] * 160}),
    lambda body: body["arrays"].__setitem__(
        0, {"nbytes": 160, "span": 160, "pages": [[0, *body["arrays"][0][0]]]}
    ),
    lambda body: body["arrays"].__setitem__(0, {"nbytes": 160, "span": 160, "pages": [[0]]}),
    set_pack("../../../etc/passwd"),
    set_pack("1"),
    set_pack(-1),
    set_pack(1 << 80),
    set_pack(1.5),
    set_pack([1]),
    set_pack(99),
    lambda body: body.update(packs={}),
]


@pytest.mark.parametrize("change", MALFORMED)
def test_a_malformed_manifest_is_damage(root: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    reseal(root / "checkpoints" / "00000003.json", change)
    with pytest.raises(DamagedError):
        Store.open(root).read(3)
    step, warned = latest(root)
    assert (step, len(warned)) == (2, 1)
    assert "checkpoints/00000003.json" in problems(root)


HOSTILE = [
    b"[" * 100_000 + b"]" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b"1" * 5000,
    b"-" + b"1" * 5000,
    b"1e999",
    b"NaN",
    b"[Infinity]",
    b'{"a":1,"a":2}',
    b'{"a":{"b":1,"b":1}}',
    b"",
    b"{",
    b"\xff",
    "\u00fc".encode(),
    b'"\n"',
]


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:12]) for text in HOSTILE])
def test_hostile_json(text: bytes) -> None:
    with pytest.raises(DamagedError, match=r"^here is not JSON as Perdure writes it"):
        load_json(text, "here")


@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:12]) for text in HOSTILE])
def test_a_sealed_file_of_hostile_json(root: Path, text: bytes) -> None:
    path = root / "checkpoints" / "00000003.json"
    path.write_bytes(_START.format(digest(text), "manifest").encode() + text + _END)
    with pytest.raises(DamagedError):
        Store.open(root).read(3)
    assert latest(root)[0] == 2


def header_of(entries: Any, size: int = 0) -> bytes:
    text = entries if isinstance(entries, bytes) else dump_json(entries)
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "entries",
    [
        b"x",
        [],
        {},
        {"__metadata__": {}},
        {"__metadata__": {"xxh3_128": 3}},
        {"__metadata__": {"xxh3_128": "a b"}, "x": {"data_offsets": [0, 4]}},
        {"__metadata__": {"xxh3_128": "a"}, "x": {"data_offsets": [0, 3]}},
        {"__metadata__": {"xxh3_128": "a"}, "x": {"data_offsets": [0, 5]}},
        {"__metadata__": {"xxh3_128": "a"}, "x": {"data_offsets": [1, 4]}},
        {"__metadata__": {"xxh3_128": "a"}, "x": {"data_offsets": [0]}},
        {"__metadata__": {"xxh3_128": "a"}, "x": {"data_offsets": ["0", 4]}},
        {"__metadata__": {"xxh3_128": "a"}, "x": 1},
        {"__metadata__": {"xxh3_128": "a b"}, "x": {"data_offsets": [0, 4]}, "y": {"data_offsets": [2, 4]}},
        {"__metadata__": {"xxh3_128": "a b"}, "x": {"data_offsets": [0, 4]}, "y": {"data_offsets": [4, 4]}},
    ],
)
def test_a_malformed_header_of_a_pack(entries: Any) -> None:
    header = header_of(entries)
    with pytest.raises(DamagedError):
        stored_chunks(header, len(header) + 4, 1, "here")


def test_random_garbage_never_raises_anything_else(root: Path) -> None:
    rng = np.random.default_rng(0)
    path = root / "checkpoints" / "00000003.json"
    text = dump_json(load_checksummed("manifest", path.read_bytes(), ""))
    for _ in range(400):
        content = bytearray(text)
        for _ in range(int(rng.integers(1, 4))):
            start = int(rng.integers(len(content)))
            content[start : start + int(rng.integers(0, 9))] = bytes(
                rng.choice(list(b'{}[]",:0123456789eE-.xntf'), 3).tolist()
            )
        # Resealed: so that it gets past the checksum, to the parser.
        path.write_bytes(_START.format(digest(bytes(content)), "manifest").encode() + bytes(content) + _END)
        try:
            found = Store.open(root).read(3)
            json.dumps(found.info.metrics)
            arrays_of(found.state)
        except PerdureError:
            pass

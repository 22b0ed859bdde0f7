"""Commit and read: round trips, what is written only once, retention, and the bound on disk space."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from store_support import Arrays, array_node, arrays_of, commit, files_of, same, state_of

from perdure.errors import DamagedCheckpointWarning, StoreError
from perdure.store import CheckpointInfo, Store, _commit_plan, _packs, load_checksummed, pack_sizes, write_run
from perdure.store._checksummed_json import dump_checksummed
from perdure.store.testing import MemoryBackend
from perdure.tree import Object, Staged, State

MIB = _packs.CHUNK


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "run"


def some_arrays(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "weights": rng.standard_normal((30, 7)).astype(np.float32),
        "mask": rng.random(13) < 0.5,
        "buffer": rng.integers(0, 255, 3 * MIB + 17, dtype=np.uint8),
        "count": np.array(seed, dtype=np.int64),
        "empty": np.zeros((0, 4)),
    }


def pack_files(root: Path) -> list[str]:
    return sorted(os.listdir(root / "packs")) if (root / "packs").exists() else []


def test_round_trip(root: Path) -> None:
    arrays = some_arrays()
    with Store.open(root, write=True) as store:
        assert store.latest() is None
        info = store.commit(
            state_of(arrays), step=1000, counters={"epoch": 3}, metrics={"reward": 1.5}, tags=["best"]
        ).info
    assert (info.number, info.step, info.tags) == (1, 1000, ("best",))
    reader = Store.open(root)
    assert reader.run.metadata == {}
    assert set(reader.run.versions) >= {"python", "perdure", "torch", "numpy"}
    assert reader.checkpoints() == [info]
    checkpoint = reader.latest()
    assert checkpoint is not None
    assert checkpoint.info == info == reader.read(1).info
    assert info.bytes == sum(array.nbytes for array in arrays.values())
    assert same(arrays_of(checkpoint.state), arrays)
    assert reader.verify() == []


def test_a_state_that_was_read_can_be_committed_elsewhere(root: Path, tmp_path: Path) -> None:
    arrays = some_arrays()
    with Store.open(root, write=True) as store, Store.open(tmp_path / "fork", write=True) as fork:
        commit(store, arrays)
        checkpoint = store.latest()
        assert checkpoint is not None
        fork.commit(checkpoint.state, step=1)
        assert same(arrays_of(fork.read(1).state), arrays)


def test_a_state_without_arrays(root: Path) -> None:
    with Store.open(root, write=True) as store:
        commit(store, {})
        assert arrays_of(store.read(1).state) == {}
    assert pack_files(root) == []


def test_metadata_of_a_run_is_read(root: Path) -> None:
    """Nothing writes any by now, but the format has it."""
    metadata = {"a": [1, 2.5, None, "x", {"b": True}]}
    with Store.open(root, write=True) as store:
        content = write_run(dataclasses.replace(store.run, metadata=metadata))
    (root / "run.json").write_bytes(content)
    with Store.open(root, write=True) as store:
        assert store.run.metadata == metadata
        commit(store, {})
    assert Store.open(root).run.metadata == metadata


def test_metrics_may_be_nan_and_numpy(root: Path) -> None:
    metrics = {
        "a": math.nan,
        "b": math.inf,
        "c": [-math.inf],
        "d": np.float32(0.5),
        "e": np.int64(3),
        "f": torch.tensor(2),
    }
    with Store.open(root, write=True) as store:
        commit(store, {}, metrics=metrics, counters={"n": np.array(7)})
        found = store.checkpoints()[0]
        content = (root / found.file).read_text()
    assert found.metrics is not None
    assert math.isnan(found.metrics["a"])
    assert found.metrics["b"] == math.inf
    assert found.metrics["c"] == [-math.inf]
    assert (found.metrics["d"], found.metrics["e"]) == (0.5, 3)
    assert found.metrics["f"] == 2
    assert found.counters == {"n": 7}
    json.loads(content, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "value",
    [{1: 2}, {"x": object()}, {"x": np.zeros(2)}, {"x": 1 << 5000}, {"x": {3}}, {"x": np.longdouble(1)}],
)
def test_what_is_not_json_is_refused_before_anything_is_written(root: Path, value: Any) -> None:
    with Store.open(root, write=True) as store:
        with pytest.raises(TypeError, match="metrics"):
            commit(store, some_arrays(), metrics=value)
        assert (store.checkpoints(), pack_files(root)) == ([], [])
        assert commit(store, some_arrays()) == 1


def test_a_string_is_no_list_of_tags(root: Path) -> None:
    with Store.open(root, write=True) as store, pytest.raises(TypeError, match="give \\['best'\\]"):
        commit(store, {}, tags="best")


def test_common_tools_read_the_files(root: Path) -> None:
    arrays = some_arrays()
    with Store.open(root, write=True) as store:
        commit(store, arrays)
    manifest = json.loads((root / "checkpoints" / "00000001.json").read_text())["manifest"]
    assert manifest["checkpoint"] == 1
    assert json.loads((root / "run.json").read_text())["run"]["format"] == 1
    edges = [0, MIB, 2 * MIB, 3 * MIB, arrays["buffer"].nbytes]
    pieces = [f"world.buffer[{start}:{stop}]" for start, stop in itertools.pairwise(edges)]
    with safetensors.safe_open(root / "packs" / "00000001.safetensors", "np") as pack:
        assert set(pack.keys()) == {
            *("world.weights", "world.mask", "world.count"),
            *pieces,
        }
        for name in ("weights", "mask", "count"):
            assert same({"x": pack.get_tensor(f"world.{name}")}, {"x": arrays[name]})
        chunks = [pack.get_tensor(piece) for piece in pieces]
        assert np.array_equal(np.concatenate(chunks), arrays["buffer"])


def test_names_and_dtypes_of_any_kind(root: Path) -> None:
    arrays = [
        ("same", np.arange(5, dtype=np.float64)),
        ("same", np.arange(6, dtype=np.float64)),
        ("same#2", np.arange(7, dtype=np.uint8)),
        ("__metadata__", np.arange(8, dtype=np.int32)),
        ("half \ud800 a character", np.arange(3, dtype=np.complex128)),
        ("", np.array([b"abc"])),
        ('with \0 and \n and ü and "', np.array([True, False, True])),
    ]
    with Store.open(root, write=True) as store:
        nodes = [array_node(name, array) for name, array in arrays]
        root_node = Object("World", {str(number): node for number, node in enumerate(nodes)})
        store.commit(State(root_node, nodes), step=0)
        manifest = store._catalog.load(1)
        store._catalog.verify(manifest)
        for (_, array), source in zip(arrays, store._catalog.sources(manifest), strict=True):
            buffer = bytearray(source.nbytes)
            source.read_into(memoryview(buffer))
            assert buffer == array.tobytes()
    with safetensors.safe_open(root / "packs" / "00000001.safetensors", "np") as pack:
        assert len(pack.keys()) == 7
        assert pack.get_tensor("__metadata__#2").tolist() == list(range(8))
        assert pack.get_tensor("half \\ud800 a character").nbytes == 48


def test_an_array_that_lies_about_its_size(root: Path) -> None:
    state = state_of({"liar": np.zeros(3)})
    short = Staged(24, [(0, memoryview(b"short"))])
    with (
        Store.open(root, write=True) as store,
        pytest.raises(ValueError, match="says it has 24 bytes, but gives 5"),
    ):
        store.commit(state, step=0, contents=[short])


def test_a_buffer_of_the_wrong_size(root: Path) -> None:
    with Store.open(root, write=True) as store:
        commit(store, {"a": np.zeros(3)})
        source = store.read(1).state.root.fields["a"].data
        with pytest.raises(ValueError, match="has 23 bytes, expected 24"):
            source.read_into(memoryview(bytearray(23)))


# -- written once ---------------------------------------------------------------------------------------


def test_cost_follows_the_change(root: Path) -> None:
    arrays = some_arrays()
    with Store.open(root, write=True) as store:
        commit(store, arrays)
        commit(store, arrays)
        assert pack_files(root) == ["00000001.safetensors"]
        arrays["buffer"][MIB + 5] ^= 1
        commit(store, arrays)
        new = (root / "packs" / "00000003.safetensors").stat().st_size
        assert MIB < new < MIB + 1000
        for number in (1, 2, 3):
            store.read(number)
        assert same(arrays_of(store.read(3).state), arrays)


def test_equal_chunks_are_written_once_within_a_checkpoint(root: Path) -> None:
    ones = np.full(20 * MIB, 1, np.uint8)
    with Store.open(root, write=True, compression="none") as store:
        commit(store, {"ones": ones, "more": ones[: 4 * MIB].copy()})
        assert same(arrays_of(store.read(1).state), {"ones": ones, "more": ones[: 4 * MIB]})
    assert (root / "packs" / "00000001.safetensors").stat().st_size < MIB + 1000


def test_zeros_take_no_space(root: Path) -> None:
    arrays = {"zeros": np.zeros(20 * MIB, np.uint8), "few": np.zeros(3), "none": np.zeros((0, 4))}
    with Store.open(root, write=True) as store:
        commit(store, arrays)
        assert (root / "packs" / "00000001.safetensors").stat().st_size < 1000
        assert same(arrays_of(store.read(1).state), arrays)
        arrays["zeros"][MIB : 2 * MIB] = 1
        commit(store, arrays)
        assert same(arrays_of(store.read(2).state), arrays)
        assert store.verify() == []


def test_what_is_known_survives_reopening(root: Path) -> None:
    arrays = some_arrays()
    with Store.open(root, write=True) as store:
        commit(store, arrays)
    with Store.open(root, write=True) as store:
        commit(store, arrays)
        assert pack_files(root) == ["00000001.safetensors"]


def test_a_pack_that_someone_deleted_is_not_referred_to(root: Path) -> None:
    arrays = some_arrays()
    with Store.open(root, write=True) as store:
        commit(store, arrays)
        (root / "packs" / "00000001.safetensors").unlink()
        commit(store, arrays)
        assert same(arrays_of(store.read(2).state), arrays)


def test_damaged_data_is_not_handed_on(root: Path) -> None:
    """What a damaged checkpoint holds is written anew, or every later one would be damaged too."""
    first, second = some_arrays(1), some_arrays(1)
    second["buffer"][:] = some_arrays(2)["buffer"]
    with Store.open(root, write=True) as store:
        commit(store, first)
        commit(store, second)
    path = root / "packs" / "00000002.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with Store.open(root, write=True) as store:
        commit(store, second)
        assert same(arrays_of(store.read(3).state), second)
        found = store.latest()
        assert found is not None
        assert found.info.number == 3


@pytest.mark.parametrize("keep", [1, 3])
def test_disk_space_of_a_ring_buffer_is_bounded(
    root: Path, keep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound that `commit` states: the packs of a checkpoint take at most twice what it needs of them, and
    some slack; and nothing is there that no checkpoint refers to."""
    monkeypatch.setattr(_packs, "CHUNK", 1 << 10)
    monkeypatch.setattr(_commit_plan, "SLACK", 4 << 10)
    monkeypatch.setattr(_commit_plan, "SMALL_PACK", 2 << 10)
    rng = np.random.default_rng(0)
    ring = rng.integers(0, 255, 100 << 10, dtype=np.uint8)
    position = 0
    with Store.open(root, write=True) as store:
        for i in range(70):
            size = int(rng.integers(1, 12 << 10))
            where = np.arange(position, position + size) % ring.size
            ring[where] = rng.integers(0, 255, size, dtype=np.uint8)
            position += size
            nets = rng.integers(0, 255, 5 << 10, dtype=np.uint8)
            number = commit(store, {"ring": ring, "nets": nets}, step=i)
            store.retain(lambda infos: [info.number for info in infos[-keep:]])
            manifest = store._catalog.load(number)
            on_disk = pack_sizes(store._backend)
            needed = sum(used for layout in manifest.arrays for _, used in layout.usage())
            assert needed <= ring.size + nets.size + (16 << 10)
            # The headers of the packs, and that what is moved now is counted as it lay before.
            more = 300 * len(list(manifest.arrays[0].extents())) + (16 << 10)
            assert sum(on_disk[pack] for pack in manifest.packs) <= 2 * needed + (4 << 10) + more
            manifests = [store._catalog.load(info.number) for info in store.checkpoints()]
            assert set(on_disk) == {pack for manifest in manifests for pack in manifest.packs}
            assert len(store.checkpoints()) == min(keep, i + 1)
        assert store.verify() == []
        checkpoint = store.latest()
        assert checkpoint is not None
        assert same(arrays_of(checkpoint.state), {"ring": ring, "nets": nets})


# -- retention ------------------------------------------------------------------------------------------


def test_retention_keeps_what_is_asked_and_the_newest(root: Path) -> None:
    with Store.open(root, write=True) as store:
        for i in range(1, 7):
            commit(store, {"shared": np.arange(50_000), "own": np.array(i)}, step=i)
        seen: list[CheckpointInfo] = []

        def keep(infos: Any) -> list[int]:
            seen.extend(infos)
            return [2, 3, 99]

        assert store.retain(keep) == [1, 4, 5]
        assert [info.step for info in seen] == [1, 2, 3, 4, 5, 6]
        assert [info.number for info in store.checkpoints()] == [2, 3, 6]
        # Pack 1 stays: the others have the shared array in it.
        assert pack_files(root) == [f"0000000{i}.safetensors" for i in (1, 2, 3, 6)]
        assert store.retain({2}) == [3]
        assert store.retain(()) == [2]
        assert store.verify() == []
        assert store.retain(()) == []
        assert commit(store, {}) == 7


def test_no_number_is_used_twice(root: Path) -> None:
    with Store.open(root, write=True) as store:
        commit(store, {})
        commit(store, {})
        (root / "checkpoints" / "00000002.json").write_bytes(b"damaged")
        assert commit(store, {}) == 3


def test_a_damaged_manifest_holds_packs_until_two_newer_ones_are_good(root: Path) -> None:
    with Store.open(root, write=True) as store:
        for i in range(1, 4):
            commit(store, {"own": np.array(i)}, step=i)
        (root / "checkpoints" / "00000002.json").write_bytes(b"damaged")
        assert store.retain(()) == [1]
        assert pack_files(root) == [f"0000000{i}.safetensors" for i in (1, 2, 3)]
        commit(store, {"own": np.array(4)})
        with pytest.warns(DamagedCheckpointWarning, match="checkpoint 2 was deleted.*its checksum is not"):
            assert store.retain({3, 4}) == [2]
        assert pack_files(root) == [f"0000000{i}.safetensors" for i in (3, 4)]


def test_known_damage_does_not_count_as_good(root: Path) -> None:
    with Store.open(root, write=True) as store:
        for i in range(1, 3):
            commit(store, {"own": np.array(i)}, step=i)
    (root / "packs" / "00000002.safetensors").unlink()
    with Store.open(root, write=True) as store:
        with pytest.warns(DamagedCheckpointWarning):
            store.latest()
        assert store.retain(lambda infos: [infos[-1].number]) == []
        assert [info.number for info in store.checkpoints()] == [1, 2]


def test_a_newer_format_is_never_deleted(root: Path) -> None:
    with Store.open(root, write=True) as store:
        for i in range(1, 4):
            commit(store, {"own": np.array(i)}, step=i)
        path = root / "checkpoints" / "00000001.json"
        body = load_checksummed("manifest", path.read_bytes(), "")
        path.write_bytes(dump_checksummed("manifest", body | {"format": 99}))
        assert store.retain({3}) == [2]
        assert path.exists()
        assert len(pack_files(root)) == 3


# -- opening --------------------------------------------------------------------------------------------


def test_there_is_no_run(root: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no run in .*run.*: expected .*run\.json"):
        Store.open(root)
    assert not root.exists()


def test_there_is_no_such_checkpoint(root: Path) -> None:
    with Store.open(root, write=True) as store:
        with pytest.raises(StoreError, match=r"there is no checkpoint 7 .* those there are: none"):
            store.read(7)
        commit(store, {})
        with pytest.raises(StoreError, match="those there are: 1"):
            store.read(7)


def test_a_reader_and_a_closed_store_do_not_write(root: Path) -> None:
    store = Store.open(root, write=True)
    commit(store, {})
    store.close()
    store.close()
    for closed in (store, Store.open(root)):
        with pytest.raises(StoreError, match="not open for writing"):
            commit(closed, {})
        with pytest.raises(StoreError, match="not open for writing"):
            closed.retain({1})
        assert len(closed.checkpoints()) == 1


def test_any_backend_will_do() -> None:
    backend = MemoryBackend()
    arrays = some_arrays()
    with Store.open(backend, write=True) as store:
        commit(store, arrays)
        reader = Store.open(backend.connect())
        assert same(arrays_of(reader.read(1).state), arrays)
        assert reader.verify() == []


def test_a_reader_while_the_writer_deletes(root: Path) -> None:
    """A checkpoint that retention takes away between listing and reading is not a damaged one."""
    with Store.open(root, write=True) as store:
        for i in range(1, 4):
            commit(store, {"own": np.array(i)}, step=i)
        reader = Store.open(root)
        real, loaded = reader._catalog.load, []

        def load(number: int) -> Any:
            manifest = real(number)
            if not loaded:
                commit(store, {"own": np.array(4)}, step=4)
                store.retain(())
            loaded.append(number)
            return manifest

        reader._catalog.load = load  # type: ignore[method-assign]
        found = reader.latest()
        assert found is not None
        assert (found.info.step, loaded) == (4, [3, 4])


def test_files_are_where_the_layout_says(root: Path) -> None:
    with Store.open(root, write=True) as store:
        commit(store, some_arrays())
    names = [path.relative_to(root).as_posix() for path in files_of(root)]
    assert names == ["checkpoints/00000001.json", "packs/00000001.safetensors", "run.json"]

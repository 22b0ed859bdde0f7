"""Each benchmark runs and prints what it promises. How long anything takes is not a matter for tests."""

import gc
import json
import math
from functools import partial
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("stable_baselines3")
pytest.importorskip("tianshou")

import perdure
from benchmarks import (
    capture,
    figures,
    growth,
    imports,
    peers,
    report,
    resuming,
    run,
    storage,
    timing,
    training,
    worlds,
)
from benchmarks.peers import base

# A benchmark's loops over peers and sizes are no training.
pytestmark = pytest.mark.filterwarnings("ignore:the loop carries state")

TINY = {"rounds": 1, "incremental": 1, "restores": 1}


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    import torch

    # Whose numbers nobody reads need no cold caches.
    monkeypatch.setattr(timing, "_SCRATCH", 1 << 12)
    monkeypatch.setattr(timing, "_scratch", [])

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Garbage is collected before whatever is timed, which takes long for all that was imported by now.
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(before)


def shown(result):
    text = StringIO()
    console = Console(file=text, width=200)
    report.show(result, console)
    report.show_figures([result], console)
    json.dumps(result.data)
    return text.getvalue()


@pytest.mark.campaign
def test_storage_measures_everyone_and_shows_who_is_missing(monkeypatch):
    monkeypatch.setattr(
        peers,
        "_PEERS",
        (
            "ours:Perdure",
            "sb3:Sb3",
            "tianshou:Hdf5",
            "torch_files:TorchSave",
            "torch_files:DcpAsync",
            "no_such:X",
        ),
    )
    result = storage.run(workloads={"medium": {"capacity": 300}}, sizes={"medium": TINY | {"incremental": 2}})
    text = shown(result)
    for what in (
        "Perdure",
        "SB3 save",
        "Tianshou save_hdf5",
        "torch.save",
        "memcpy",
        "preadv",
        "1/100 of every",
    ):
        assert what in text
    assert "missing (not installed: No module named 'benchmarks.peers.no_such')" in text
    found = result.data["medium"]
    for name in (
        "Perdure",
        "SB3 save + save_replay_buffer",
        "Tianshou save_hdf5",
        "torch.save",
        "DCP async_save",
    ):
        one = found["peers"][name]
        assert not one["failed"]
        assert all(0 < one["stalls"][number] <= one["durable"][number] for number in one["stalls"])
        assert all(size > 0 for size in one["written"].values())
        assert one["computed"].keys() == one["stalls"].keys()
        assert len(one["loads"]) == 1
    assert len(found["peers"]["Perdure"]["stalls"]) == 2
    # A full save writes about as much as there is, except the gradients (a fifth here), which no script saves.
    assert 0.7 < found["peers"]["torch.save"]["written"][0] / found["whole"] < 1.2


def test_storage_of_a_workload_that_is_tianshous(monkeypatch):
    pytest.importorskip("ale_py")
    monkeypatch.setattr(peers, "_PEERS", ("ours:Perdure", "sb3:Sb3", "tianshou:Pickle"))
    result = storage.run(workloads={"large": {"capacity": 100, "played": 40}}, sizes={"large": TINY})
    found = result.data["large"]["peers"]
    assert not any(one["failed"] for one in found.values())
    assert found["Tianshou pickle"]["written"][0] > 100 * 84 * 84


@pytest.mark.parametrize("entry", ["torchrl:Checkpoint", "orbax:OrbaxAsync"])
def test_peers_of_the_bench_extra_load_what_they_saved(entry, tmp_path):
    try:
        cls = peers.named(entry)
    except ImportError as error:
        pytest.skip(str(error))
    workload = worlds.small(200)
    peer = cls(workload, tmp_path)
    for _ in range(2):
        peer.advance()
        peer.next()
        peer.save()
        peer.wait()
    assert base.written({}, base.files(peer.at)) > 0
    assert np.array_equal(peer.prepare_load()(), base.flat(workload.arrays["observations"]))
    peer.close()


def test_a_peer_that_fails_is_shown_and_ours_is_not_forgiven(monkeypatch, tmp_path):
    def fail(self):
        raise OSError("the disk is full")

    monkeypatch.setattr(peers.named("torch_files:TorchSave"), "save", fail)
    monkeypatch.setattr(peers, "_PEERS", ("ours:Perdure", "torch_files:TorchSave"))
    arguments = {"workloads": {"small": {"capacity": 200}}, "sizes": {"small": TINY}}
    assert "missing (OSError: the disk is full)" in shown(storage.run(**arguments))
    monkeypatch.setattr(peers.named("ours:Perdure"), "save", fail)
    with pytest.raises(OSError, match="the disk is full"):
        storage.run(**arguments)


@pytest.mark.campaign
def test_memory_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setattr(peers, "_PEERS", ("ours:Perdure",))
    result = storage.run(workloads={"small": {"capacity": 200}}, sizes={"small": TINY}, peak=("small",))
    assert result.data["small"]["peers"]["Perdure"]["peak"] is not None
    assert any(figure.what == "memory while saving" for figure in result.figures)


def test_growth_and_its_plot(tmp_path):
    plot = tmp_path / "growth.svg"
    pytest.importorskip("matplotlib")
    result = growth.run(capacities=[100, 200], rounds=1, peer_rounds=1, plot=plot)
    assert "growth of the stall" in shown(result)
    assert result.data["rows"] == 2
    assert plot.read_text().count("capacity of the replay buffer") == 2
    first = plot.read_bytes()
    found = {name: {int(c): v for c, v in one.items()} for name, one in result.data["peers"].items()}
    growth.draw(found, 2, plot)
    assert plot.read_bytes() == first, "the same numbers, another file"


def test_training():
    result = training.run(pairs=2, seconds=0.2, capacity=400)
    assert "stall of a checkpoint" in shown(result)
    assert len(result.data["pairs"]) == 2
    assert all(0 < pair["stall"] < pair["with"] for pair in result.data["pairs"])
    assert not result.figures, "the promise is about another interval"
    low, high = training.certain([1.0] * 10 + [1.2])
    assert low == high == 1.0


def test_capture():
    text = shown(capture.run(rounds=1, capacity=200))
    for what in ("perdure capture", "tree.encode", "copy.deepcopy", "pickle.dumps"):
        assert what in text


def test_resuming():
    result = resuming.run(rounds=1, repeats=1, environments=2, before=Path(perdure.__file__).parents[1])
    text = shown(result)
    for kind in resuming.KINDS:
        assert f"{kind}, this checkout" in text
        assert f"{kind}, the other checkout" in text
    for each in result.data["AsyncVectorEnv, this checkout"]:
        assert each["capture"] > 0
        assert each["resume"] > 0


@pytest.mark.campaign
def test_imports(monkeypatch):
    monkeypatch.setattr(imports, "interleaved", partial(timing.interleaved, warmup=0))
    result = imports.run(rounds=1, profiles=1)
    assert "the same and perdure.Run" in shown(result)
    assert "perdure.run" in result.data["modules"]
    assert "torch" not in result.data["modules"]


def test_the_command_prints_the_tables_and_writes_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setitem(run.QUICK, "capture", {"rounds": 1, "capacity": 200})
    file = tmp_path / "numbers.json"
    answer = CliRunner().invoke(run.main, ["--quick", "--only", "capture", "--json", str(file)])
    assert answer.exit_code == 0, answer.output
    assert "cores" in answer.output
    assert "Figures" in answer.output
    content = json.loads(file.read_text())
    assert content["machine"]["versions"]["torch"]
    assert content["figures"][0]["target"]
    assert content["results"]["capture"]["paths"] > 500


def test_the_sizes_are_those_of_the_benchmarks():
    assert set(run.FULL) == set(run.QUICK) == set(run.BENCHMARKS)
    for sizes in (run.FULL, run.QUICK):
        assert set(sizes["storage"]["workloads"]) == set(sizes["storage"]["sizes"]) == set(worlds.WORKLOADS)
    assert all(sizes["incremental"] >= 50 for sizes in run.FULL["storage"]["sizes"].values())


# -- the worlds ----------------------------------------------------------------------------------------------------


def snapshot(workload):
    return [array.copy() for array in [*workload.arrays.values(), *workload.tensors()]]


@pytest.mark.parametrize("name", ["small", "medium"])
def test_what_is_said_to_change_is_what_changes(name):
    """Also where the new rows go over the end of the ring."""
    workload = worlds.WORKLOADS[name](200)
    workload.rows = 30
    for _ in range(8):
        rows = [array.copy() for array in workload.arrays.values()]
        tensors = [tensor.copy() for tensor in workload.tensors()]
        workload.advance(30, lambda: None)
        changed = {
            row
            for old, new in zip(rows, workload.arrays.values(), strict=True)
            for row in np.flatnonzero((old != new).reshape(len(old), -1).any(axis=1))
        }
        assert len(changed) == 30
        expected = sum(len(array[:30].tobytes()) for array in workload.arrays.values())
        assert sum(array.nbytes for array in workload.new_rows()) == expected
        end = workload.position()
        assert changed == {(end - 1 - back) % 200 for back in range(30)}
        assert not any(
            np.array_equal(old, new) for old, new in zip(tensors, workload.tensors(), strict=True)
        ), "some network or moment has not changed"


def test_the_two_libraries_hold_the_same_observations():
    workload = worlds.medium(200)
    _, buffer = workload.tianshou()
    workload.advance(5, lambda: None)
    assert np.shares_memory(buffer.obs, workload.sb3().replay_buffer.observations)
    assert np.array_equal(base.flat(buffer.obs), base.flat(workload.arrays["observations"]))


def test_frames_are_never_the_same_again(monkeypatch):
    from benchmarks import frames

    played = np.random.default_rng(0).integers(0, 256, (6, 84, 84), np.uint8)
    monkeypatch.setattr(frames, "_played", lambda count: played[:count])
    found = frames.Frames(6).take(20)
    assert np.array_equal(found[:6], played)
    assert len({frame.tobytes() for frame in found}) == 20
    other = frames.Frames(6)
    assert np.array_equal(np.concatenate([other.take(7), other.take(13)]), found)


# -- measuring -----------------------------------------------------------------------------------------------------


def test_bytes_written_are_of_new_files_and_of_growth(tmp_path):
    kept, grown, replaced = (tmp_path / name for name in ("kept", "grown", "replaced"))
    for file in (kept, grown, replaced):
        file.write_bytes(b"x" * 100)
    before = base.files(tmp_path)
    with open(grown, "ab") as file:
        file.write(b"y" * 7)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/file").write_bytes(b"z" * 11)
    other = tmp_path / "other"
    other.write_bytes(b"w" * 50)
    other.replace(replaced)
    assert base.written(before, base.files(tmp_path)) == 7 + 11 + 50


def test_every_case_runs_once_in_each_round_and_not_always_first():
    order = []
    cases = {name: timing.Case(lambda name=name: order.append(name)) for name in "abc"}
    seconds = timing.interleaved(cases, rounds=3, warmup=0)
    assert "".join(order) == "abcbcacab"
    assert {name: len(values) for name, values in seconds.items()} == {"a": 3, "b": 3, "c": 3}


def test_what_is_prepared_is_not_timed():
    import time

    cases = {"a": timing.Case(lambda: None, lambda: time.sleep(0.2))}
    assert timing.interleaved(cases, rounds=1)["a"][0] < 0.2


def test_ratios_are_of_pairs():
    assert timing.median_ratio([2.0, 30.0, 8.0], [1.0, 10.0, 2.0]) == 3.0
    assert timing.spread([1.0]) == (1.0, 1.0)
    assert timing.spread([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)
    assert figures.pairs({0: 2.0, 1: 9.0, 2: 8.0}, {0: 1.0, 2: 2.0}) == [2.0, 4.0]


def test_what_is_judged_is_the_median_of_the_ratios():
    measured = {
        name: storage.Measured(
            name,
            whole=name == "slow",
            stalls=stalls,
            computed=stalls,
            durable=dict(stalls),
            written={0: 100, 1: 100},
            loads={0: 1.0},
        )
        for name, stalls in (
            ("Perdure", {0: 0.004, 1: 0.0042}),
            ("slow", {0: 0.5, 1: 0.5}),
            (figures.Memcpy.name, {0: 0.001, 1: 0.001}),
            (figures.RawWrite.name, {0: 0.001, 1: 0.001}),
            (figures.ReadFresh.name, {0: 0.9, 1: 0.9}),
        )
    }
    measured["slow"].written = {0: 2400, 1: 2400}
    found = {
        (figure.what, figure.target): figure
        for figure in figures.of(storage.Measurement("medium", "", "", 95, 3000, 1.0, 50, measured))
    }
    reached = {key: figure.reached for key, figure in found.items()}
    assert (
        reached["stall", "at most 2 x memcpy of what changed + 2 ms"] is False
    )  # 4.1 ms where 4.0 are allowed
    assert reached["stall", "1/100 of every peer's that writes all"] is True
    assert reached["bytes written, uncompressed", "at most 1.1 x what changed"] is True
    assert reached["bytes written", "1/25 of every peer that does not compress"] is False  # 1/24
    assert reached["durable", "at most 1.5 x one write + fsync, + 5 ms"] is True
    assert reached["restore after 50", "at most 1.3 x preadv into fresh arrays"] is True
    assert "1.02x of that" in found["stall", "at most 2 x memcpy of what changed + 2 ms"].found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (report.milliseconds(0.00123456), "1.23 ms"),
        (report.milliseconds(1.5), "1,500 ms"),
        (report.megabytes(4.25e6), "4.25 MB"),
        (report.times(math.e), "2.72x"),
    ],
)
def test_numbers_are_written_for_people(text, expected):
    assert text == expected

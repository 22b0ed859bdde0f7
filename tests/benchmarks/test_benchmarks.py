"""Each benchmark runs and prints what it promises. How long anything takes is not a matter for tests."""

import json
import math
from io import StringIO

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

pytest.importorskip("stable_baselines3")

from benchmarks import capture, checkpoint, imports, report, run, timing, training, worlds


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shown(result):
    text = StringIO()
    console = Console(file=text, width=200)
    report.show(result, console)
    report.show_figures([result], console)
    json.dumps(result.data)
    return text.getvalue()


def test_capture():
    text = shown(capture.run(rounds=2, capacity=200))
    for what in ("perdure capture", "tree.encode", "copy.deepcopy", "pickle.dumps", "model.save"):
        assert what in text


def test_checkpoint():
    result = checkpoint.run(rounds=2, capacities=[200], curve=[200, 400])
    text = shown(result)
    for what in ("run.checkpoint", "save_replay_buffer", "torch.save", "buffer of 200", "400 (", "hash"):
        assert what in text
    compared = result.data["compare 200"]
    assert all(size > 0 for size in compared["bytes"].values())
    assert len(compared["bytes_of_each"]) == 2


def test_imports():
    result = imports.run(rounds=1, profiles=1)
    assert "the same and perdure.Run" in shown(result)
    assert "perdure.run" in result.data["modules"]
    assert "torch" not in result.data["modules"]


def test_training():
    result = training.run(pairs=2, seconds=0.2, capacity=400)
    assert "stall of a checkpoint" in shown(result)
    assert len(result.data["pairs"]) == 2
    assert all(0 < pair["stall"] < pair["with"] for pair in result.data["pairs"])
    assert not result.figures, "the promise is about another interval"


def test_the_command_prints_the_tables_and_writes_the_numbers(tmp_path, monkeypatch):
    monkeypatch.setitem(run.QUICK, "capture", {"rounds": 1, "capacity": 200})
    file = tmp_path / "numbers.json"
    answer = CliRunner().invoke(run.main, ["--quick", "--only", "capture", "--json", str(file)])
    assert answer.exit_code == 0, answer.output
    assert "cores" in answer.output
    assert "Figures" in answer.output
    content = json.loads(file.read_text())
    assert content["machine"]["torch"]
    assert content["figures"][0]["promise"]
    assert content["results"]["capture"]["paths"] > 500


def test_the_sizes_are_those_of_the_benchmarks():
    assert set(run.FULL) == set(run.QUICK) == set(run.BENCHMARKS)


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


def test_new_rows_wrap_around_the_end_of_the_buffer():
    model = worlds.trained_sac(200)
    buffer = worlds.buffer_of(model)
    buffer.pos = 190
    before = buffer.observations.copy()
    worlds.write_rows(buffer, 30, np.random.default_rng(5))
    changed = np.flatnonzero((buffer.observations != before).any(axis=(1, 2)))
    assert set(changed) == {*range(190, 200), *range(20)}
    assert buffer.pos == 20
    assert buffer.full


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

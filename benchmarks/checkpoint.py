"""What a whole durable checkpoint costs, against what Stable-Baselines3 and torch write."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC

import perdure
from benchmarks.report import Result, Table, megabytes, milliseconds, times
from benchmarks.timing import Case, interleaved, median_ratio
from benchmarks.worlds import advance, arrays_of, buffer_of, trained_sac
from perdure import tree
from perdure.state import capture
from perdure.store.packs import Known, plan

_OURS = "perdure run.checkpoint (durable)"
_SB3 = "model.save + save_replay_buffer"


class Ours:
    """A run of Perdure, and how many bytes each of its checkpoints wrote."""

    def __init__(self, model: SAC, directory: Path) -> None:
        self.world = perdure.World(model=model)
        self.run = perdure.Run(directory)
        self.run.peek(self.world)
        self.directory = directory
        self.written: list[int] = []
        self._step = 0

    def __call__(self) -> None:
        self._step += 1
        self.run.checkpoint(self.world, self._step)

    def note_written(self) -> None:
        """To be called after each checkpoint."""
        assert self.run.last is not None
        number = f"{self.run.last.number:08d}.*"
        self.written.append(sum(file.stat().st_size for file in self.directory.glob(f"*/{number}")))


def run(*, rounds: int, capacities: Sequence[int], curve: Sequence[int], share: float = 0.02) -> Result:
    """Measure checkpoints of a training with a full replay buffer.

    :param capacities: of the buffers for the comparison, in transitions.
    :param share: which part of the buffer is new between two checkpoints of the comparison.
    :param curve: of the buffers for the curve, where the number of new rows is the same for all.
    """
    result = Result("checkpoint")
    for capacity in capacities:
        _compare(result, capacity, max(1, int(share * capacity)), rounds)
    _curve(result, curve, rounds)
    return result


def _compare(result: Result, capacity: int, rows: int, rounds: int) -> None:
    with _training(capacity, rows) as (model, directory, train):
        ours = Ours(model, directory / "run")
        peers: dict[str, Callable[[], list[Path]]] = {
            _SB3: lambda: _save_sb3(model, directory),
            "torch.save of state dicts + buffer": lambda: _save_torch(model, directory),
            "the same, then fsync": lambda: _save_torch(model, directory, durable=True),
        }
        cases = {_OURS: Case(ours, train)} | {name: Case(save, train) for name, save in peers.items()}
        # One round at a time, to look at what was written in between.
        seconds: dict[str, list[float]] = {name: [] for name in cases}
        for number in range(rounds + 1):
            for name, values in interleaved(cases, 1, warmup=0).items():
                seconds[name] += values if number else []
            ours.note_written()
        # The first checkpoint of a run writes everything.
        first, written = ours.written[0], ours.written[1:]
        ours.run.close()
        size = {name: float(sum(file.stat().st_size for file in save())) for name, save in peers.items()}
    size[_OURS] = statistics.mean(written)
    result.tables.append(
        Table(
            f"A checkpoint: SB3 SAC, buffer of {capacity:,} transitions, {rows:,} new ({rounds} rounds)",
            ["what", "median", "mean", "worst", "median of ratios", "bytes written"],
            [
                [
                    name,
                    milliseconds(statistics.median(values)),
                    milliseconds(statistics.mean(values)),
                    milliseconds(max(values)),
                    times(median_ratio(values, seconds[_OURS])),
                    megabytes(size[name]),
                ]
                for name, values in seconds.items()
            ],
            note=f"Perdure's bytes: mean per checkpoint; the first one of the run wrote {megabytes(first)}.",
        )
    )
    result.data[f"compare {capacity}"] = {
        "new_rows": rows,
        "seconds": seconds,
        "bytes": size,
        "bytes_of_each": written,
        "bytes_of_first": first,
    }


def _curve(result: Result, capacities: Sequence[int], rounds: int) -> None:
    rows = max(1, min(capacities) // 50)
    lines = []
    medians: dict[int, float] = {}
    for capacity in capacities:
        with _training(capacity, rows) as (model, directory, train):
            ours = Ours(model, directory / "run")
            state = capture(ours.world)
            blobs = tree.encode(state)[1]
            seconds = interleaved(
                {
                    "checkpoint": Case(ours, train),
                    "capture": Case(partial(capture, ours.world)),
                    "encode": Case(partial(tree.encode, state)),
                    "hash": Case(partial(plan, blobs, Known(), "none", {})),
                    _SB3: Case(partial(_save_sb3, model, directory), train),
                },
                rounds,
                warmup=2,
            )
            ours.run.close()
        size = sum(array.nbytes for array in arrays_of(buffer_of(model)).values())
        median = {name: statistics.median(values) for name, values in seconds.items()}
        medians[capacity] = median["checkpoint"]
        parts = [median[name] for name in ("capture", "encode", "hash")]
        lines.append(
            [
                f"{capacity:,} ({megabytes(size)})",
                milliseconds(median["checkpoint"]),
                *map(milliseconds, parts),
                milliseconds(max(0.0, median["checkpoint"] - sum(parts))),
                milliseconds(median[_SB3]),
                times(median_ratio(seconds[_SB3], seconds["checkpoint"])),
            ]
        )
        result.data[f"curve {capacity}"] = {"new_rows": rows, "buffer_bytes": size, "seconds": seconds}
    grown = medians[max(capacities)] / medians[min(capacities)]
    result.tables.append(
        Table(
            f"Cost against the buffer's capacity, always {rows:,} new rows ({rounds} rounds)",
            [
                "capacity",
                "checkpoint",
                "capture",
                "encode",
                "hash",
                "the rest",
                "SB3 saves",
                "against Perdure",
            ],
            lines,
            note=f"The largest buffer costs {times(grown)} the smallest: every commit hashes the whole buffer on the "
            "training thread to find what is new. The rest: writing, fsync, retention.",
        )
    )


@contextmanager
def _training(capacity: int, rows: int) -> Iterator[tuple[SAC, Path, Callable[[], None]]]:
    model = trained_sac(capacity)
    random = np.random.default_rng(1)
    with TemporaryDirectory(
        prefix="perdure-benchmark-", dir=os.environ.get("PERDURE_BENCHMARK_DIR")
    ) as directory:
        yield model, Path(directory), lambda: advance(model, rows, random)


def _save_sb3(model: SAC, directory: Path) -> list[Path]:
    files = [directory / "model.zip", directory / "buffer.pkl"]
    model.save(files[0])
    model.save_replay_buffer(files[1])
    return files


def _save_torch(model: SAC, directory: Path, *, durable: bool = False) -> list[Path]:
    file = directory / "everything.pt"
    content: dict[str, Any] = dict(model.get_parameters())
    content["buffer"] = {name: torch.from_numpy(array) for name, array in arrays_of(buffer_of(model)).items()}
    with open(file, "wb") as opened:
        torch.save(content, opened)
        if durable:
            opened.flush()
            os.fsync(opened.fileno())
    return [file]

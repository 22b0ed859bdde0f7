"""The main benchmark: what it costs to save a training with a large replay buffer, and to load it.

Between two saves a share of the buffer is new, and every network and every moment of the optimizers has changed. In
each round everyone saves the same training at the same moment, in rotating order. Rounds in which only Perdure and the
limits take part lie in between, so that it restores from a run of many incremental checkpoints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import figures
from benchmarks.measured import Measured, Measurement
from benchmarks.peers import OURS, entry, peers
from benchmarks.peers.base import Peer, files, flat, warm, written
from benchmarks.peers.ours import Perdure
from benchmarks.report import Result
from benchmarks.timing import rotated, settle
from benchmarks.worlds import WORKLOADS, Workload


def run(
    *,
    workloads: dict[str, dict[str, Any]],
    sizes: dict[str, dict[str, int]],
    peak: Sequence[str] = (),
) -> Result:
    """Measure each workload.

    :param workloads: what each is made with, by name.
    :param sizes: of each: `rounds` of everyone, `incremental` checkpoints of Perdure, `restores` of everyone.
    :param peak: in which of them the memory is measured too, in a process for each peer.
    """
    found = []
    for name, arguments in workloads.items():
        with tempfile.TemporaryDirectory(
            prefix="perdure-benchmark-", dir=os.environ.get("PERDURE_BENCHMARK_DIR")
        ) as directory:
            workload = WORKLOADS[name](**arguments)
            measurement = _measure(workload, Path(directory), **sizes[name])
            del workload
        if name in peak:
            _peaks(measurement, name, arguments)
        found.append(measurement)
    return Result(
        "storage",
        [figures.table(found)],
        [figure for measurement in found for figure in figures.of(measurement)],
        {measurement.name: _plain(measurement) for measurement in found},
    )


def _measure(
    workload: Workload, directory: Path, *, rounds: int, incremental: int, restores: int
) -> Measurement:
    everyone, found = _made(workload, directory)

    def advance() -> None:
        workload.advance(workload.rows, lambda: [peer.tick() for peer in everyone])

    advance()
    first = 0.0
    for peer in everyone:  # once to warm up; the first checkpoint of a run writes everything
        _save(peer, found[peer.name], -1)
        if peer.name == OURS:
            first = found[OURS].durable[-1]
    often = [peer for peer in everyone if not peer.whole]
    every = max(1, incremental // rounds)
    for number in range(incremental):
        advance()
        group = everyone if number % every == 0 else often
        for peer in rotated(group, number // every if group is everyone else number):
            _save(peer, found[peer.name], number)
    for number in range(restores):
        for peer in rotated(everyone, number):
            _load(peer, found[peer.name], number)
    for peer in everyone:
        peer.close()
    for measured in found.values():
        for values in (measured.stalls, measured.computed, measured.durable, measured.written):
            values.pop(-1, None)
    return Measurement(
        workload.name,
        workload.title,
        " ".join(workload.notes),
        workload.changed_bytes(),
        workload.whole_bytes(),
        first,
        incremental,
        found,
    )


def _made(workload: Workload, directory: Path) -> tuple[list[Peer], dict[str, Measured]]:
    classes, missing = peers()
    found: dict[str, Measured] = {}
    everyone = []
    for cls in classes:
        found[cls.name] = Measured(cls.name, cls.whole, cls.background, cls.compresses)
        place = directory / entry(cls).replace(":", "-")
        place.mkdir()
        peer = _try(found[cls.name], lambda cls=cls, place=place: cls(workload, place))
        if peer is not None:
            everyone.append(peer)
    for one in missing:
        found[one.name] = Measured(one.name, failed=one.reason)
    return everyone, found


def _try(measured: Measured, action: Callable[[], Any]) -> Any:
    """What the action returns; None if a peer failed, which is noted and does not end the benchmark."""
    if measured.failed:
        return None
    try:
        return action()
    except Exception as error:
        if measured.name.startswith(OURS):
            raise
        measured.failed = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        return None


def _available() -> float:
    with open("/proc/meminfo") as file:
        lines = dict(line.split(":", 1) for line in file)
    return float(lines["MemAvailable"].split()[0]) * 1024


def _save(peer: Peer, measured: Measured, number: int) -> None:
    def save() -> None:
        needed = 1.3 * peer.workload.whole_bytes()
        if peer.whole and peer.background and _available() < needed:
            raise MemoryError(f"it needs {needed / 1e9:.1f} GB of memory to stage into")
        peer.next()
        before = files(peer.directory)
        settle()
        start, start_computing = time.perf_counter(), time.thread_time()
        peer.save()
        stall, computed = time.perf_counter() - start, time.thread_time() - start_computing
        peer.wait()
        measured.durable[number] = time.perf_counter() - start
        measured.stalls[number], measured.computed[number] = stall, computed
        measured.written[number] = written(before, files(peer.directory))
        peer.forget()

    _try(measured, save)


def _load(peer: Peer, measured: Measured, number: int) -> None:
    def load() -> None:
        if not isinstance(peer, Perdure):
            peer.next()
            peer.save()
            peer.wait()
        action = peer.prepare_load()
        warm(peer.directory)
        settle()
        start = time.perf_counter()
        observations = action()
        measured.loads[number] = time.perf_counter() - start
        if number == 0:
            expected = flat(next(iter(peer.workload.arrays.values())))
            if not np.array_equal(observations, expected):
                raise ValueError("what was loaded is not what was saved")
        peer.forget()

    if peer.loads:
        _try(measured, load)


def _peaks(measurement: Measurement, name: str, arguments: dict[str, Any]) -> None:
    for cls in peers()[0]:
        measured = measurement.peers[cls.name]
        if not cls.loads or measured.failed:
            continue
        command = [sys.executable, "-m", "benchmarks.memory", entry(cls), name, json.dumps(arguments)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if answer.returncode:
            if cls.name.startswith(OURS):
                raise RuntimeError(answer.stderr)
            continue
        measured.peak = json.loads(answer.stdout.splitlines()[-1])["extra"]


def _plain(measurement: Measurement) -> dict[str, Any]:
    return {**vars(measurement), "peers": {name: vars(one) for name, one in measurement.peers.items()}}

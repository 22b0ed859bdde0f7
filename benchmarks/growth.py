"""What a checkpoint costs as the buffer grows, with always as many new rows."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import quartiles
from benchmarks.peers import OURS
from benchmarks.peers.base import Peer, files, written
from benchmarks.peers.ours import Perdure
from benchmarks.peers.sb3 import Sb3
from benchmarks.peers.torch_files import TorchSave
from benchmarks.report import Figure, Result, Table, megabytes, milliseconds
from benchmarks.timing import rotated, settle
from benchmarks.worlds import Workload, medium

_FLAT = 1.2


def run(*, capacities: Sequence[int], rounds: int, peer_rounds: int, plot: Path | None = None) -> Result:
    """Measure buffers of several sizes, all of them in every round.

    :param capacities: in transitions, as of the medium workload.
    :param rounds: of Perdure.
    :param peer_rounds: of the peers, which write everything.
    :param plot: an SVG file to draw.
    """
    rows = max(1, min(capacities) // 50)
    with tempfile.TemporaryDirectory(
        prefix="perdure-benchmark-", dir=os.environ.get("PERDURE_BENCHMARK_DIR")
    ) as directory:
        found = _measure(capacities, rows, rounds, peer_rounds, Path(directory))
    smallest, largest = min(capacities), max(capacities)
    ours = found[OURS]
    figures = []
    for what, values in (("stall", "stalls"), ("bytes written", "written")):
        small, large = ours[smallest][values], ours[largest][values]
        ratios = [b / a for a, b in zip(small, large, strict=True)]
        figures.append(
            Figure(
                f"growth of the {what}",
                f"{smallest:,} to {largest:,} rows",
                "at most 1.2 x, with as many new rows",
                quartiles(ratios),
                statistics.median(ratios) <= _FLAT,
            )
        )
    if plot is not None:
        draw(found, rows, plot)
    return Result(
        "growth",
        [_table(found, rows)],
        figures,
        {"rows": rows, "peers": {name: {str(c): v for c, v in one.items()} for name, one in found.items()}},
    )


def _measure(
    capacities: Sequence[int], rows: int, rounds: int, peer_rounds: int, directory: Path
) -> dict[str, dict[int, dict[str, Any]]]:
    everyone: list[tuple[int, Workload, list[Peer]]] = []
    for capacity in capacities:
        workload = medium(capacity)
        workload.rows = rows
        peers: list[Peer] = []
        for cls in (Perdure, Sb3, TorchSave):
            place = directory / f"{capacity}-{cls.__name__}"
            place.mkdir()
            peers.append(cls(workload, place))
        everyone.append((capacity, workload, peers))
    found: dict[str, dict[int, dict[str, Any]]] = {
        peer.name: {
            capacity: {"stalls": [], "durable": [], "written": [], "of": workload.whole_bytes()}
            for capacity, workload, _ in everyone
        }
        for peer in everyone[0][2]
    }
    # Two rounds first: a run's first checkpoint writes everything.
    for number in range(-2, rounds):
        for capacity, _, peers in rotated(everyone, number):
            ours, *others = peers
            ours.advance()
            for peer in [ours, *others] if 0 <= number < peer_rounds else [ours]:
                _save(peer, found[peer.name][capacity] if number >= 0 else None)
    for _, _, peers in everyone:
        for peer in peers:
            peer.close()
    return found


def _save(peer: Peer, found: dict[str, Any] | None) -> None:
    peer.next()
    before = files(peer.directory)
    settle()
    start = time.perf_counter()
    peer.save()
    stall = time.perf_counter() - start
    peer.wait()
    durable = time.perf_counter() - start
    if found is not None:
        found["stalls"].append(stall)
        found["durable"].append(durable)
        found["written"].append(written(before, files(peer.directory)))
    peer.forget()


def _table(found: dict[str, dict[int, dict[str, Any]]], rows: int) -> Table:
    columns = ["capacity", "buffer and networks"]
    lines: dict[int, list[str]] = {
        capacity: [f"{capacity:,}", megabytes(one["of"])] for capacity, one in found[OURS].items()
    }
    for name, capacities in found.items():
        columns += [f"{name}: stall", "written"]
        for capacity, one in capacities.items():
            lines[capacity] += [
                milliseconds(statistics.median(one["stalls"])),
                megabytes(statistics.median(one["written"])),
            ]
    return Table(f"As the buffer grows, always {rows:,} new rows", columns, list(lines.values()))


def draw(found: dict[str, dict[int, dict[str, Any]]], rows: int, file: Path) -> None:
    """The stall and the bytes of each peer against the capacity, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    # The same numbers are to give the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "perdure", "svg.fonttype": "none", "font.size": 10})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), constrained_layout=True)
    for axis, values, label, unit in (
        (axes[0], "stalls", "the training stands still, ms", 1e3),
        (axes[1], "written", "written, MB", 1e-6),
    ):
        for name, capacities in found.items():
            sizes = sorted(capacities)
            medians = [statistics.median(capacities[size][values]) * unit for size in sizes]
            ours = name == OURS
            axis.plot(
                sizes,
                medians,
                marker="o",
                markersize=4,
                label=name,
                color="#1b6ca8" if ours else None if name == Sb3.name else "#999999",
                linewidth=2.5 if ours else 1.5,
            )
        axis.set(xscale="log", yscale="log", xlabel="capacity of the replay buffer, rows", ylabel=label)
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.suptitle(f"A checkpoint after {rows:,} new transitions", fontsize=11)
    figure.savefig(file, format="svg", metadata={"Date": None})
    pyplot.close(figure)

"""The command: which benchmarks there are, and their sizes."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from benchmarks import capture, growth, imports, resuming, storage, training
from benchmarks.report import Result, machine, machine_line, show, show_figures

BENCHMARKS: dict[str, Callable[..., Result]] = {
    "storage": storage.run,
    "growth": growth.run,
    "training": training.run,
    "capture": capture.run,
    "resuming": resuming.run,
    "imports": imports.run,
}

_WIDTH = 150

FULL: dict[str, dict[str, Any]] = {
    "storage": {
        "workloads": {"small": {}, "medium": {}, "large": {"capacity": 200_000}},
        "sizes": {
            "small": {"rounds": 10, "incremental": 50, "restores": 10},
            "medium": {"rounds": 7, "incremental": 50, "restores": 5},
            "large": {"rounds": 5, "incremental": 50, "restores": 3},
        },
        "peak": ("medium", "large"),
    },
    "growth": {"capacities": [10_000, 100_000, 1_000_000, 10_000_000], "rounds": 15, "peer_rounds": 2},
    "training": {"pairs": 18},
    "capture": {"rounds": 40},
    "resuming": {"rounds": 5, "repeats": 10},
    "imports": {"rounds": 7, "profiles": 2},
}

QUICK: dict[str, dict[str, Any]] = {
    "storage": {
        "workloads": {
            "small": {"capacity": 5_000},
            "medium": {"capacity": 50_000},
            "large": {"capacity": 4_000, "played": 2_000},
        },
        "sizes": {
            name: {"rounds": 2, "incremental": 6, "restores": 1} for name in ("small", "medium", "large")
        },
        "peak": (),
    },
    "growth": {"capacities": [10_000, 100_000], "rounds": 4, "peer_rounds": 1},
    "training": {"pairs": 2, "seconds": 2.0, "capacity": 50_000},
    "capture": {"rounds": 10},
    "resuming": {"rounds": 1, "repeats": 3},
    "imports": {"rounds": 2, "profiles": 1},
}


@click.command()
@click.option(
    "--quick", is_flag=True, help="Fewer rounds and smaller sizes: to see that it runs, not to quote."
)
@click.option(
    "--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Run only this one; may be repeated."
)
@click.option(
    "--workload",
    multiple=True,
    type=click.Choice(list(FULL["storage"]["workloads"])),
    help="Of storage, only this one; may be repeated.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1_000),
    help="Size of the large workload; 200,000 by default. A million takes 7 GB of memory, and peers that stage "
    "all of it as much again.",
)
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Compare resuming with another checkout: its `src` folder.",
)
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers to this file."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the growth to this SVG file."
)
def main(
    quick: bool,
    only: tuple[str, ...],
    workload: tuple[str, ...],
    frames: int | None,
    before: Path | None,
    file: Path | None,
    plot: Path | None,
) -> None:
    """Measure what Perdure costs, and what its peers cost in the same minutes."""
    # In a file, tables are as wide as they need to be.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    # Threads that wait for each other measure what else is going on in the machine.
    torch.set_num_threads(1)
    # What peers have to say about themselves belongs to nobody who reads numbers.
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore", category=FutureWarning)
    # The loops over peers and sizes are no training.
    warnings.filterwarnings("ignore", "the loop carries state")
    facts = machine()
    console.print(machine_line(facts), highlight=False)
    sizes = {name: dict(arguments) for name, arguments in (QUICK if quick else FULL).items()}
    workloads = {name: dict(arguments) for name, arguments in sizes["storage"]["workloads"].items()}
    if frames is not None:
        workloads["large"]["capacity"] = frames
    if workload:
        workloads = {name: workloads[name] for name in workload}
    sizes["storage"]["workloads"] = workloads
    sizes["growth"]["plot"] = plot
    sizes["resuming"]["before"] = before
    results = []
    for name in only or BENCHMARKS:
        start = time.perf_counter()
        result = BENCHMARKS[name](**sizes[name])
        show(result, console)
        console.print(f"({name} took {time.perf_counter() - start:.0f} s)\n", highlight=False)
        results.append(result)
    show_figures(results, console, decided=not quick)
    if file is not None:
        content = {
            "machine": facts,
            "quick": quick,
            "figures": [vars(figure) for result in results for figure in result.figures],
            "results": {result.name: result.data for result in results},
        }
        file.write_text(json.dumps(content, indent=1) + "\n")

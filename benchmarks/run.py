"""The command: which benchmarks there are, and their sizes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console

from benchmarks import capture, checkpoint, imports, training
from benchmarks.report import Result, machine, machine_line, show, show_figures

BENCHMARKS: dict[str, Callable[..., Result]] = {
    "capture": capture.run,
    "checkpoint": checkpoint.run,
    "imports": imports.run,
    "training": training.run,
}

_WIDTH = 120

FULL: dict[str, dict[str, Any]] = {
    "capture": {"rounds": 60},
    "checkpoint": {
        "rounds": 24,
        "capacities": [10_000, 1_000_000],
        "curve": [10_000, 100_000, 1_000_000],
    },
    "imports": {"rounds": 15, "profiles": 5},
    "training": {"pairs": 8},
}

QUICK: dict[str, dict[str, Any]] = {
    "capture": {"rounds": 10},
    "checkpoint": {"rounds": 5, "capacities": [10_000], "curve": [10_000, 100_000]},
    "imports": {"rounds": 3, "profiles": 1},
    "training": {"pairs": 2, "seconds": 2.0, "capacity": 100_000},
}


@click.command()
@click.option(
    "--quick", is_flag=True, help="Fewer rounds and smaller sizes: to see that it runs, not to quote."
)
@click.option(
    "--only", multiple=True, type=click.Choice(list(BENCHMARKS)), help="Run only this one; may be repeated."
)
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write all numbers to this file."
)
def main(quick: bool, only: tuple[str, ...], file: Path | None) -> None:
    """Measure what Perdure costs, and what its peers cost in the same minutes."""
    # In a file, tables are as wide as they need to be.
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    # Threads that wait for each other measure what else is going on in the machine.
    torch.set_num_threads(1)
    facts = machine()
    console.print(machine_line(facts), highlight=False)
    results = []
    for name in only or BENCHMARKS:
        result = BENCHMARKS[name](**(QUICK if quick else FULL)[name])
        show(result, console)
        results.append(result)
    show_figures(results, console)
    if file is not None:
        content = {
            "machine": facts,
            "quick": quick,
            "figures": [vars(figure) for result in results for figure in result.figures],
            "results": {result.name: result.data for result in results},
        }
        file.write_text(json.dumps(content, indent=1) + "\n")

"""What a benchmark found: as tables for people, as JSON for programs."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.table import Table as RichTable

_LIBRARIES = ("perdure", "torch", "numpy", "stable-baselines3")


@dataclass(frozen=True)
class Table:
    """Rows of text. The first column says what a row is, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """What Perdure promises, what was measured, and whether it is kept."""

    promise: str
    found: str
    reached: bool


@dataclass
class Result:
    """All that one benchmark found.

    :param data: the numbers behind the tables.
    """

    name: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{library: importlib.metadata.version(library) for library in _LIBRARIES},
    }


def machine_line(facts: dict[str, Any]) -> str:
    """The same in one line."""
    libraries = ", ".join(f"{library} {facts[library]}" for library in _LIBRARIES)
    return (
        f"{facts['cores']} cores ({facts['torch_threads']} torch threads, load {facts['load']}), "
        f"{facts['system']}, Python {facts['python']}, {libraries}"
    )


def show(result: Result, console: Console) -> None:
    """Print the tables of one benchmark."""
    for table in result.tables:
        drawn = RichTable(
            *table.columns[:1],
            title=table.title,
            title_justify="left",
            caption=table.note,
            caption_justify="left",
        )
        for column in table.columns[1:]:
            drawn.add_column(column, justify="right")
        for row in table.rows:
            drawn.add_row(*row)
        console.print(drawn)


def show_figures(results: Sequence[Result], console: Console) -> None:
    """Print what was promised beside what was found."""
    if not any(result.figures for result in results):
        return
    drawn = RichTable("promise", "found", "reached", title="Figures", title_justify="left")
    for result in results:
        for figure in result.figures:
            drawn.add_row(figure.promise, figure.found, "yes" if figure.reached else "[bold red]no[/]")
    console.print(drawn)


def milliseconds(seconds: float) -> str:
    """With three digits where they mean something."""
    value = seconds * 1e3
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:,.0f} ms"


def megabytes(size: float) -> str:
    """In units of a million bytes."""
    return f"{size / 1e6:.2f} MB" if size < 10e6 else f"{size / 1e6:,.1f} MB"


def times(ratio: float) -> str:
    """A ratio."""
    return f"{ratio:.2f}x" if ratio < 10 else f"{ratio:,.0f}x"

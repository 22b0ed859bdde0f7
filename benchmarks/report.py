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

_LIBRARIES = (
    "perdure",
    "torch",
    "numpy",
    "stable-baselines3",
    "tianshou",
    "torchrl",
    "tensordict",
    "orbax-checkpoint",
    "jax",
    "h5py",
)


@dataclass(frozen=True)
class Section:
    """Rows of a table that belong together."""

    title: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Table:
    """Rows of text. The first column says what a row is, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]] = ()
    sections: Sequence[Section] = ()
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """What Perdure promises, what was measured, and whether it is kept.

    :param where: the workload.
    :param reached: None where nothing was promised, or it was not measured.
    """

    what: str
    where: str
    target: str
    found: str
    reached: bool | None


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
        "versions": {library: _version(library) for library in _LIBRARIES},
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine_line(facts: dict[str, Any]) -> str:
    """The same in one line."""
    libraries = ", ".join(f"{name} {version}" for name, version in facts["versions"].items() if version)
    return (
        f"{facts['cores']} cores ({facts['torch_threads']} torch threads, load {facts['load']}), "
        f"{facts['system']}, Python {facts['python']}, {libraries}"
    )


def show(result: Result, console: Console) -> None:
    """Print the tables of one benchmark."""
    for table in result.tables:
        drawn = RichTable(title=table.title, title_justify="left", caption=table.note, caption_justify="left")
        for position, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if position else "left")
        for row in table.rows:
            drawn.add_row(*row)
        for number, section in enumerate(table.sections, 1):
            drawn.add_section()
            # A cell that is as wide as the table is not to be had; so its title stands by a number, and below.
            drawn.add_row(f"[bold]{section.title.partition(':')[0]}[/] [{number}]")
            for row in section.rows:
                drawn.add_row(*row)
        console.print(drawn, highlight=False)
        for number, section in enumerate(table.sections, 1):
            console.print(f"[{number}] {section.title}", markup=False, highlight=False)


def show_figures(results: Sequence[Result], console: Console, *, decided: bool = True) -> None:
    """Print what was promised beside what was found.

    :param decided: whether the sizes were those that the promises are about.
    """
    if not any(result.figures for result in results):
        return
    columns = ("figure", "where", "to reach", "found", "reached")
    title = "Figures" if decided else "Figures: of sizes that decide nothing"
    drawn = RichTable(*columns, title=title, title_justify="left")
    for result in results:
        for figure in result.figures:
            answer = {True: "yes", False: "[bold red]no[/]", None: ""}[figure.reached if decided else None]
            drawn.add_row(figure.what, figure.where, figure.target, figure.found, answer)
    console.print(drawn, highlight=False)


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

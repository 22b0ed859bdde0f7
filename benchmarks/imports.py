"""What `import perdure` adds to `import torch`, in fresh processes."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from functools import partial

from benchmarks.report import Figure, Result, Table, milliseconds
from benchmarks.timing import Case, interleaved, spread

_MOST = 0.100
_SHOWN = 8
_TORCH = "import torch"
_BOTH = "import torch; import perdure"
# `import perdure` alone loads its parts when they are first used. This is what a training script comes to.
_USED = "import torch; import perdure; perdure.Run"
_PROFILED = "import torch; import perdure.run"
# Each statement, and when it is done: on the wall, and in seconds of the processor.
_TIMED = """
import json, sys, time
times = [(time.perf_counter(), time.process_time())]
for statement in sys.argv[1].split(";"):
    exec(statement.strip())
    times.append((time.perf_counter(), time.process_time()))
print(json.dumps(times))
"""
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|(\s*)(\S+)")


def run(*, rounds: int, profiles: int) -> Result:
    """Start `rounds` processes of each kind, and `profiles` more that say which module takes how long."""
    clocks: dict[str, list[list[list[float]]]] = {_TORCH: [], _BOTH: [], _USED: []}

    def start(name: str) -> None:
        clocks[name].append(_clocks(name))

    interleaved({name: Case(partial(start, name)) for name in clocks}, rounds)
    clocks = {name: found[-rounds:] for name, found in clocks.items()}  # without the warm-up

    wall = {name: [times[-1][0] - times[0][0] for times in found] for name, found in clocks.items()}
    processor = {name: [times[-1][1] - times[0][1] for times in found] for name, found in clocks.items()}
    rows = [_row(name, wall[name], processor[name]) for name in clocks]
    rows.append(_row("added by perdure and Run, by pairs", _differences(wall), _differences(processor)))
    only, used = _after_torch(clocks[_USED], 2), _after_torch(clocks[_USED], 3)
    rows.append(_row("import perdure, torch being there", *only))
    rows.append(_row("the same and perdure.Run", *used))
    median = statistics.median(used[0])
    share = statistics.median(
        mine / (times[1][0] - times[0][0]) for mine, times in zip(used[0], clocks[_USED], strict=True)
    )

    modules = _profile(profiles)
    return Result(
        "imports",
        [
            Table(
                f"Imports in fresh processes ({rounds} rounds)",
                ["what", "median", "quartiles, ms", "CPU"],
                rows,
            ),
            _modules_table(modules, profiles),
        ],
        [
            Figure(
                "import perdure",
                "fresh process",
                "adds under 100 ms to import torch",
                f"{milliseconds(statistics.median(only[0]))}; with Run and all it needs {milliseconds(median)}, "
                f"{share:.1%} of import torch",
                median < _MOST,
            )
        ],
        {
            "wall": wall,
            "processor": processor,
            "perdure": only[0],
            "perdure and Run": used[0],
            "modules": modules,
        },
    )


def _differences(seconds: dict[str, list[float]]) -> list[float]:
    return [used - torch for used, torch in zip(seconds[_USED], seconds[_TORCH], strict=True)]


def _after_torch(found: Sequence[list[list[float]]], last: int) -> tuple[list[float], list[float]]:
    """On the wall and of the processor: from when torch is there until statement number `last` is done."""
    wall, processor = ([times[last][clock] - times[1][clock] for times in found] for clock in (0, 1))
    return wall, processor


def _row(name: str, wall: Sequence[float], processor: Sequence[float]) -> list[str]:
    low, high = spread(wall)
    return [
        name,
        milliseconds(statistics.median(wall)),
        f"{low * 1e3:.0f} to {high * 1e3:.0f}",
        milliseconds(statistics.median(processor)),
    ]


def _modules_table(modules: dict[str, float], profiles: int) -> Table:
    total = sum(modules.values())
    slowest = sorted(modules.items(), key=lambda item: -item[1])[:_SHOWN]
    rows = [[name, milliseconds(value), f"{value / total:.0%}"] for name, value in slowest]
    rows.append([f"all {len(modules)} modules", milliseconds(total), "100%"])
    return Table(
        f"Modules that are imported after torch (-X importtime, median of {profiles})",
        ["module", "itself", "share"],
        rows,
        note="-X importtime itself takes time.",
    )


def _clocks(statements: str) -> list[list[float]]:
    times: list[list[float]] = json.loads(_start("-c", _TIMED, statements).stdout)
    return times


def _profile(times: int) -> dict[str, float]:
    """The seconds that each module itself takes which is imported after torch."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(times):
        after_torch = False
        for own, _, indent, name in _LINE.findall(_start("-X", "importtime", "-c", _PROFILED).stderr):
            if after_torch:
                found[name].append(int(own) / 1e6)
            # Modules are listed when they are done, so torch comes after all that it imports.
            after_torch = after_torch or (name == "torch" and len(indent) <= 1)
    return {name: statistics.median(values) for name, values in found.items()}


def _start(*arguments: str) -> subprocess.CompletedProcess[str]:
    # Installed packages come with their bytecode. A checkout has it from the first time on, unless that is
    # switched off; the first time is not counted.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True
    )

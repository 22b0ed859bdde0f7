"""What `import perdure` adds to `import torch`, in fresh processes."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
from collections import defaultdict

from benchmarks.report import Figure, Result, Table, milliseconds
from benchmarks.timing import Case, interleaved, spread

_TORCH = "import torch"
_BOTH = "import torch; import perdure"
_MOST = 0.100
_LINE = re.compile(r"import time:\s*(\d+) \|\s*(\d+) \|(\s*)(\S+)")
_SHOWN = 8


def run(*, rounds: int, profiles: int) -> Result:
    """Start `rounds` processes of each kind, and `profiles` more that say which module takes how long."""
    cases = {statement: Case(lambda statement=statement: _start(statement)) for statement in (_TORCH, _BOTH)}
    seconds = interleaved(cases, rounds)
    added = [both - torch for both, torch in zip(seconds[_BOTH], seconds[_TORCH], strict=True)]
    rows = [_row(name, values) for name, values in {**seconds, "added, by pairs": added}.items()]
    median = statistics.median(added)

    modules = _profile(profiles)
    own = sum(modules.values())
    slowest = sorted(modules.items(), key=lambda item: -item[1])[:_SHOWN]
    share = [[name, milliseconds(value), f"{value / own:.0%}"] for name, value in slowest]
    share.append([f"all {len(modules)} modules", milliseconds(own), "100%"])
    return Result(
        "imports",
        [
            Table(
                f"Fresh processes, from start to end ({rounds} rounds)",
                ["what", "median", "quartiles, ms"],
                rows,
            ),
            Table(
                f"What takes the time after torch is there (-X importtime, median of {profiles})",
                ["module", "itself", "share"],
                share,
                note="-X importtime itself costs time; the sum is above what an import takes.",
            ),
        ],
        [
            Figure(
                "import perdure adds under 100 ms to import torch",
                f"{milliseconds(median)} ({median / statistics.median(seconds[_TORCH]):.1%} of import torch)",
                median < _MOST,
            )
        ],
        {"seconds": seconds, "added": added, "modules": modules},
    )


def _row(name: str, values: list[float]) -> list[str]:
    low, high = spread(values)
    return [name, milliseconds(statistics.median(values)), f"{low * 1e3:.0f} - {high * 1e3:.0f}"]


def _start(statement: str, *options: str) -> str:
    # Installed packages come with their bytecode; a checkout has it from the first run on, unless that is switched off.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, *options, "-c", statement]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stderr


def _profile(times: int) -> dict[str, float]:
    """The seconds that each module itself takes which is imported after torch."""
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(times):
        after_torch = False
        for own, _, indent, name in _LINE.findall(_start(_BOTH, "-X", "importtime")):
            if after_torch:
                found[name].append(int(own) / 1e6)
            # Modules are listed when they are done, so torch comes after all that it imports.
            after_torch = after_torch or (name == "torch" and len(indent) <= 1)
    return {name: statistics.median(values) for name, values in found.items()}

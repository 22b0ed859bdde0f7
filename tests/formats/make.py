"""Make the stored runs anew: `python tests/formats/make.py [WHERE]`. README.md says when that is right."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from format_cases import CASES, LAST, STORED, AgentToday, Case, Renamed, draws
from gymnasium.utils import seeding

HERE = Path(__file__).parent


def make(case: Case, where: Path) -> None:
    """Write `where/runs/NAME`, and to `where/expected/NAME.json` what the training came to, there and further on."""
    stored = where / "runs" / case.name
    shutil.rmtree(stored, ignore_errors=True)
    random.seed(1)
    np.random.seed(2)
    torch.manual_seed(3)
    world = case.build()
    expected: dict[str, Any] = {"parts": sorted(world.parts())}
    with tempfile.TemporaryDirectory() as directory, case.run(directory) as run:
        run.resume(world)  # as a script does; there is nothing yet
        case.begin(world)
        for step in range(1, LAST + 1):
            case.step(world, run)
            if step in case.commits:
                case.commit(world, run, step)
            if step == STORED:
                expected["stored"] = case.facts(world, run)
                shutil.copytree(directory, stored, symlinks=True, ignore=shutil.ignore_patterns(".lock"))
        # Nothing was read back: these objects have never been anything but trained.
        expected |= {"gone on": case.facts(world, run), "draws": draws()}
    case.close(world)
    (where / "expected").mkdir(exist_ok=True)
    text = json.dumps(expected, indent=1, sort_keys=True, allow_nan=False)
    (where / "expected" / f"{case.name}.json").write_text(text + "\n")


def _leave_nothing_to_chance() -> None:
    """Generators that nobody seeds, as those of spaces, are seeded one after another."""
    seeds = itertools.count(1)
    original = seeding.np_random
    seeding.np_random = lambda seed=None: original(next(seeds) if seed is None else seed)


def main() -> None:
    _leave_nothing_to_chance()
    old = {**vars(AgentToday), "__module__": "agents_of_old", "__qualname__": "AgentOfOld"}
    Renamed.agent = type("AgentOfOld", (), {name: old[name] for name in old if name != "__dict__"})
    for case in CASES.values():
        make(case, Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)


if __name__ == "__main__":
    main()

"""A short run of the fuzzer (fuzzing.py), made by hypothesis: changed checkpoints are read or refused, and no more.

`make fuzz` runs it for longer, guided by coverage.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing import OUTCOMES, TARGETS, Fuzz, mutated_input
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_gallery.watch import Watched

_EXAMPLES = {"document": 250, "checkpoint": 100, "pack": 100, "page": 250, "policy": 250}


@pytest.fixture(scope="module")
def fuzz() -> Fuzz:
    return Fuzz()


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_read(fuzz: Fuzz, target: str) -> None:
    for seed in fuzz.seeds(target):
        # One of the kinds of values is a parameter without a shape, which has no state dictionary.
        harmless = ("refused",) if target == "policy" and seed[:1] == b"k" else ()
        assert fuzz.try_out(target, seed) in ("read", "read and refused", *harmless)


@pytest.mark.parametrize("target", TARGETS)
def test_changed_inputs_are_read_or_refused(fuzz: Fuzz, target: str) -> None:
    seeds = fuzz.seeds(target)
    outcomes = dict.fromkeys(OUTCOMES, 0)

    @settings(
        max_examples=_EXAMPLES[target],
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.integers(0, 1 << 32), st.integers(1, 2))
    def try_out(seed: int, rounds: int) -> None:
        chance = random.Random(seed)
        data = chance.choice(seeds)
        for _ in range(rounds):
            data = mutated_input(target, data, chance)
        outcomes[fuzz.try_out(target, data)] += 1

    try_out()
    print(f"\n{target}: {outcomes}")
    assert sum(outcomes.values()) >= _EXAMPLES[target] // 2
    assert outcomes["refused"] > 10


def test_a_planted_fault_is_found(fuzz: Fuzz, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes every number on trust: the fuzzer comes upon it."""
    monkeypatch.setattr("perdure.store._manifest._whole", lambda value, what, where: value)
    seed = fuzz.seeds("checkpoint")[0]
    chance = random.Random(1)

    def search() -> None:
        for _ in range(2_000):
            # Modules that nothing has imported before are imported here, which is not what this is about.
            with contextlib.suppress(Watched):
                fuzz.try_out("checkpoint", mutated_input("checkpoint", seed, chance))

    with pytest.raises((TypeError, ValueError, IndexError, AttributeError)):
        search()


def test_the_command_runs(tmp_path: Path) -> None:
    """What `make fuzz` runs, for a moment."""
    pytest.importorskip("atheris")
    script = Path(__file__).with_name("fuzzing.py")
    arguments = ["document", "--runs", "30", "--seconds", "60", "--corpus", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, script, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [*sys.path]))},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "document: " in done.stderr
    assert json.loads((tmp_path / "document" / "seed-0").read_bytes())["root"]

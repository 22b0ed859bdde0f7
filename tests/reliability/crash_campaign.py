"""Goes through many more of the states in which a power cut may leave the disk than the tests do.

    python tests/reliability/crash_campaign.py --minutes 20

With wider bounds for every program (see simulated_disk.py for what they mean), with power cuts after a process was
killed and started again, and with power cuts while one is recovered from. Prints how many states it checked.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from crash_cases import (
    CASES,
    COARSE,
    WIDE,
    Counts,
    Lost,
    Seen,
    explore,
    explore_recovery,
    record_case,
    record_killed,
)


def wide(name: str) -> Counts:
    """Every crash of the program, with wide bounds."""
    return explore(record_case(CASES[name]), CASES[name].check, COARSE if name == "training" else WIDE)


def after_kills(name: str) -> Counts:
    """Crashes after the program was killed and started again."""
    counts = Counts()
    seen: Seen = set()
    after, killed = 0, True
    while killed:
        record, killed = record_killed(CASES[name], after)
        counts += explore(record, CASES[name].check, COARSE, seen, since=after)
        after += 1
    return counts


def in_recovery(name: str) -> Counts:
    """Crashes while a crash is recovered from."""
    return explore_recovery(record_case(CASES[name]), CASES[name], COARSE, every=5)


def work() -> Iterator[tuple[str, str, Callable[[str], Counts]]]:
    for what, function in (
        ("every crash", wide),
        ("a crash after a kill", after_kills),
        ("a crash in recovery", in_recovery),
    ):
        for name in CASES:
            if function is wide or name not in ("training", "backend", "run.json restored"):
                yield what, name, function


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=20, help="begin nothing new after so long")
    ends = time.monotonic() + 60 * parser.parse_args().minutes
    total, lost = Counts(), False
    for what, name, function in work():
        if time.monotonic() > ends:
            print(f"{name}, {what}: left out, the time is up")
            continue
        try:
            counts = function(name)
        except Lost as error:
            lost = True
            print(f"{name}, {what}: LOST\n{error}", flush=True)
            continue
        total += counts
        print(f"{name}, {what}: {counts}", flush=True)
    print(f"in all: {total}")
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())

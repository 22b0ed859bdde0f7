"""Checks every state that a power cut may leave on the disk.

    python tests/reliability/crash_campaign.py --minutes 60

For each program: power cuts after each of its operations (some minutes for all programs); power cuts after it was
killed at each of its operations and started again; and power cuts while one is recovered from, for each state that the
first one may leave. The training, which takes longest, comes last. Prints how many states there were, and what the time
was not enough for. exhaustion.py says why so few need to be made.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator

from crash_cases import CASES, Lost, explore_killed, explore_recovery, explore_whole, record_case
from exhaustion import Tally

Going = Callable[[], bool]


def every_crash(name: str, going: Going) -> tuple[Tally, str]:
    return explore_whole(record_case(CASES[name]), CASES[name].check), ""


def after_kills(name: str, going: Going) -> tuple[Tally, str]:
    tally, killed, whole = explore_killed(CASES[name], going=going)
    return tally, "" if whole else f"killed after at most {killed} operations only, the time was up"


def in_recovery(name: str, going: Going) -> tuple[Tally, str]:
    tally, done, there = explore_recovery(record_case(CASES[name]), CASES[name], going=going)
    return tally, "" if done == there else f"after {done} of {there} first crashes only, the time was up"


def work(only: str) -> Iterator[tuple[str, str, Callable[[str, Going], tuple[Tally, str]]]]:
    for what, function in (
        ("every crash", every_crash),
        ("every crash after every kill", after_kills),
        ("every crash in every recovery", in_recovery),
    ):
        for name in CASES:
            if only in what and name != "training" and (function is every_crash or name != "backend"):
                yield what, name, function
    if only in "every crash":
        yield "every crash", "training", every_crash


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=60, help="begin nothing new after so long")
    parser.add_argument("--only", default="", help="what to do: 'every crash', 'kill', 'recovery'")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    total, lost = Tally(), False
    for what, name, function in work(options.only):
        if time.monotonic() > ends:
            print(f"{name}, {what}: left out, the time is up", flush=True)
            continue
        began = time.monotonic()
        try:
            tally, left = function(name, lambda: time.monotonic() < ends)
        except Lost as error:
            lost = True
            print(f"{name}, {what}: LOST\n{error}", flush=True)
            continue
        total += tally
        seconds = time.monotonic() - began
        print(f"{name}, {what}: {tally}{f' ({left})' * bool(left)}, in {seconds:.0f} s", flush=True)
    print(f"in all: {total}")
    return int(lost)


if __name__ == "__main__":
    sys.exit(main())

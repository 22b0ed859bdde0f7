"""`python -m environments`: checks all environments that have no result yet, and writes the table."""

from __future__ import annotations

import argparse
import fnmatch
import os
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from environments import campaign, table
from environments.cases import CASES


def main() -> int:
    """Run the campaign; returns the exit code: 0 if all verdicts are as expected."""
    parser = argparse.ArgumentParser(prog="python -m environments", description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="which cases ('MuJoCo/*'); all by default")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--minutes", type=float, default=180, help="begin no case after this many minutes")
    parser.add_argument("--again", action="store_true", help="also check those that have a result")
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep results that are as expected, even if the source has changed since",
    )
    parser.add_argument(
        "--table", action="store_true", help="check nothing, only write the table from the results"
    )
    parser.add_argument("--one", metavar="CASE", help=argparse.SUPPRESS)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, _leave)
    if given.one:
        campaign.check_case(given.one)
        return 0
    names = [name for name in CASES if any(fnmatch.fnmatchcase(name, each) for each in given.patterns)]
    if not names:
        parser.error(f"no case is called that; the cases are: {', '.join(CASES)}")
    # One of each family in turn: if the time runs out, there are results of all families.
    places = {
        name: sum(other.startswith(name.partition("/")[0] + "/") for other in names[:index])
        for index, name in enumerate(names)
    }
    names.sort(key=places.__getitem__)
    if not given.table:
        _run([name for name in names if given.again or not _done(name, given.keep)], given)
    print(table.write())
    print(f"written to {os.path.relpath(table.DOCUMENT)}")
    surprises = table.surprises()
    for each in surprises:
        print(f"  {each}")
    return 1 if surprises else 0


def _done(name: str, keep: bool) -> bool:
    result = campaign.load(name)
    if result is None:
        return False
    return result["source"] == campaign.source_print() or (keep and campaign.as_expected(name, result))


def _run(names: list[str], given: argparse.Namespace) -> None:
    print(
        f"{len(names)} of {len(CASES)} cases to check, {given.workers} at a time; results in {campaign.RESULTS}",
        flush=True,
    )
    lock = threading.Lock()
    count = 0

    def tell(name: str, result: dict[str, Any] | None) -> None:
        nonlocal count
        with lock:
            count += 1
            if result is None:
                print(f"[{count}/{len(names)}] {name}: no time left", flush=True)
                return
            report = result["report"]
            mark = "" if campaign.as_expected(name, result) else "   <-- not expected"
            print(
                f"[{count}/{len(names)}] {name}: {report['verdict']} ({report['seconds']:.0f} s){mark}",
                flush=True,
            )

    campaign.run(names, given.workers, time.monotonic() + 60 * given.minutes, tell)


def _leave(number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())

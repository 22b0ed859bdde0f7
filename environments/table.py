"""`docs/environments.md`, written from the results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from environments.campaign import ROOT, as_expected, load
from environments.cases import CASES, UNREACHED

DOCUMENT = ROOT / "docs" / "environments.md"

_HEAD = """# Environments

Which environments continue exactly when a killed run is resumed. Each was tested. Written by `make environments`;
do not edit.

Each row is the result of `perdure check-env`: the environment is run in fresh processes with the same seed and the
same actions; captured in mid-episode of a later episode and right after an end; restored, for each capture, in a fresh
process whose environment had another seed; and run for the number of steps in the table, across resets (episodes are
reset after 200 steps). **Exact** means that every observation, reward, end and info (except the wall clock),
everything that generators and spaces draw at the end, and all state that is captured at the end, have the same bits as
without an interruption. Environments that are not exact are in the table too: the check tells before a run is lost.

- *walk*: the state lies in Python and is found automatically. *handler*: a handler of Perdure captures what lies in
  native code. *replay*: the episode's actions are replayed (`perdure.environments.EpisodeReplay` and its counterparts).
  *bounded replay*: as replay, for a pool that is replaced by a new one after a number of steps.
- *bytes*: what a second checkpoint writes, including its manifest.
- *ms*: the time of a capture (the median of up to five, in a process that has captured before), and of the first
  restore in a process; on two cores, with two checks running at a time beside other work, and competing with the
  environment's own processes. Alone, it takes about half as long.


"""


_OWN = """## An environment of your own

```console
$ perdure check-env CartPole-v1
$ perdure check-env mine/env.py:make --wrapper gymnasium.wrappers:NormalizeObservation
$ perdure check-env mine/env.py:make --vector async:4 --json
```

The exit code is 0 if it is exact, 1 if not (with the first difference and the reason), 2 if it could not be checked. In
a test:

```python
from mine.env import make  # at the top level of a module: fresh processes have to find it

from perdure.check_env import assert_exact


def test_my_environment_continues_exactly():
    assert_exact(make, steps=200)
```

The check finds state in closures, in class attributes, in module globals, and in native code behind a number; random
numbers that no seed reaches; orders that differ from process to process; handlers that change what they capture; and
crashes.
"""


def write() -> str:
    """Write the document; returns a line about it."""
    results = {name: found for name in CASES if (found := load(name)) is not None}
    lines = [_HEAD.rstrip("\n"), ""]
    exact = [name for name, each in results.items() if each["report"]["exact"]]
    families = {name.partition("/")[0] for name in exact}
    many = sum(results[name]["report"]["steps"] >= 500 for name in exact)
    total = f"**{len(exact)} of {len(results)} set-ups are exact**, of {len(families)} families"
    total += f"; {many} of them over 500 steps or more."
    lines += [total, ""]
    for family in dict.fromkeys(name.partition("/")[0] for name in CASES):
        rows = [(name, results[name]) for name in CASES if name.startswith(f"{family}/") and name in results]
        if not rows:
            continue
        lines += [
            f"## {family}",
            "",
            _row(*_COLUMNS),
            _row(*("---" if c in _LEFT else "--:" for c in _COLUMNS)),
        ]
        lines += [_row(*_cells(name.partition("/")[2], each)) for name, each in rows]
        lines += [*_remarks(rows), ""]
    missing = [name for name in CASES if name not in results]
    if missing:
        lines += ["## Not run", "", "There was no time for: " + ", ".join(missing) + ".", ""]
    lines += ["## Not checked", "", _row("what", "why"), _row("---", "---")]
    lines += [*(_row(*each) for each in UNREACHED), "", *_OWN.splitlines(), ""]
    versions: dict[str, Counter[str]] = {}
    for each in results.values():
        for library, version in each["versions"].items():
            versions.setdefault(library, Counter())[version] += 1
    listed = [f"{library} {' and '.join(count)}" for library, count in versions.items()]
    pythons = " and ".join(sorted({each["python"] for each in results.values()}))
    lines += ["## Versions", "", f"Python {pythons}; {', '.join(listed)}.", ""]
    DOCUMENT.write_text("\n".join(lines))
    return total.replace("*", "")


_COLUMNS = ("environment", "way", "exact", "steps", "resets", "bytes", "capture ms", "restore ms")
_LEFT = ("environment", "way", "exact")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _cells(name: str, result: dict[str, Any]) -> list[str]:
    report = result["report"]
    verdict = "yes" if report["exact"] else f"**no**: {report['verdict']}"
    return [
        name,
        report["way"] or "-",
        verdict,
        f"{report['steps']:,}" if report["steps"] else "-",
        f"{report['resets']:,}" if report["steps"] else "-",
        "-" if report["bytes"] is None else f"{report['bytes']:,}",
        "-" if report["capture_ms"] is None else f"{report['capture_ms']:.2f}",
        "-" if report["restore_ms"] is None else f"{report['restore_ms']:.1f}",
    ]


def _remarks(rows: list[tuple[str, dict[str, Any]]]) -> list[str]:
    """What has to be said of the rows: a note of the case, and why something is not exact."""
    found: dict[str, list[str]] = {}
    for name, result in rows:
        short = name.partition("/")[2]
        if note := CASES[name].note:
            found.setdefault(note, []).append(short)
        report = result["report"]
        if not report["exact"]:
            why = " ".join(report["reasons"][:1]).splitlines()
            reason = (
                f"{report['verdict']}: {' '.join(each.strip() for each in why[:3])}"[:400]
                if why
                else report["verdict"]
            )
            found.setdefault(reason, []).append(short)
    return [""] * bool(found) + [f"- {', '.join(names)}: {text}" for text, names in found.items()]


def surprises() -> list[str]:
    """The cases whose result is not what was expected."""
    found = []
    for name in CASES:
        result = load(name)
        if result is not None and not as_expected(name, result):
            found.append(f"{name}: expected {CASES[name].expect}, found {result['report']['verdict']}")
    return found


__all__ = ["DOCUMENT", "Path", "surprises", "write"]

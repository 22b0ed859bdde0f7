"""Why an environment is not exact, as far as can be told from what its processes wrote down, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perdure.check_env._env_spec import Subject
    from perdure.check_env._report import Finding
    from perdure.check_env._subprocesses import Record

_SHOWN = 8


def could_not_run(record: Record) -> list[str]:
    """For a process that failed without any capture."""
    failed = record.first("failed")
    if failed is not None:
        return [record.failure, "" if failed["expected"] else failed["trace"].strip()]
    if record.timed_out:
        return [record.failure, _printed(record)]
    return [f"it fails by itself, without any checkpoint: {record.failure}", _printed(record)]


def crashed(doing: str, record: Record) -> list[str]:
    """For a process that died."""
    failed = record.first("failed")
    trace = "" if failed is None else failed["trace"].strip()
    return [f"{doing}: {record.failure}", trace or _printed(record)]


def instead(what: Subject, captured: Record) -> str:
    """What else to try with what is refused."""
    lines = captured.lines.get("captured", [])
    if what.replay or any(name.endswith("Replay") for line in lines for name in line["handled"]):
        return ""
    return (
        "Episodes can be played again instead (perdure.environments.EpisodeReplay, PoolReplay for pools): "
        "perdure check-env --replay tries that"
    )


def not_reproducible(alike_if: str) -> list[str]:
    """For what differs between two runs that are left alone."""
    general = "No checkpoint can be exact where two uninterrupted runs are not alike."
    match alike_if:
        case "hashes":
            return [
                f"{general} They are alike with PYTHONHASHSEED=0: it iterates over a set of strings, whose order "
                "differs from process to process. Set PYTHONHASHSEED for training, or let it iterate over sorted(...)"
            ]
        case "addresses":
            return [
                f"{general} They are alike with PYTHONHASHSEED=0 and without address randomization: it iterates over "
                "a set of objects, ordered by where they lie in memory, which no resumed process repeats. Let it "
                "iterate over a list or a dict"
            ]
    return [
        f"{general} It draws from a generator that no seed reaches, or depends on time, on threads, or on what is "
        "outside of the process"
    ]


def different(
    finding: Finding | None, end: dict[str, Any], explained: Record, captured: Record, what: Subject
) -> list[str]:
    """For what goes another way once it is restored."""
    why = []
    if finding is None:
        paths = "\n".join(f"  {each}" for each in end["differences"][:_SHOWN])
        why.append(
            f"all it returned is the same, but not the state it ended with ({end['count']} paths):\n{paths}"
        )
    told = explained.first("explained")
    if told is not None and told["count"]:
        paths = "\n".join(f"  {each}" for each in told["differences"][:_SHOWN])
        why.append(f"restoring did not bring back {told['count']} of the paths that were captured:\n{paths}")
    hidden = captured.first("hidden")
    if hidden is not None and hidden["changed"]:
        places = "\n".join(f"  {each}" for each in hidden["changed"][:_SHOWN])
        why.append(
            "this changed while it ran, and no checkpoint holds it, because it belongs to none of its objects:\n"
            f"{places}\nKeep it in an attribute of the environment"
        )
    elif told is not None and not told["count"]:
        why.append(
            "all that was captured was brought back, so what is missing lies where Python cannot see it: in native "
            "code behind a number or a handle, or in another process. Register how to take it (perdure.register)"
        )
        why.append(instead(what, captured))
    return why


def _printed(record: Record) -> str:
    # Where Python tells where it died, that is what matters, and not the modules it lists after it.
    _, fatal, trace = record.tail.rpartition("Fatal Python error")
    told = f"{fatal}{trace}".partition("Extension modules:")[0].strip().splitlines()
    lines = told[: 2 * _SHOWN] if fatal else told[-_SHOWN:]
    return "it printed at last:\n" + "\n".join(f"  {each}" for each in lines) if lines else ""

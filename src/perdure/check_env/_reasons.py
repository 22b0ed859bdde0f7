"""Why an environment is not exact, judging by what its processes recorded, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from perdure.check_env._env_spec import EnvSpec
    from perdure.check_env._report import Finding
    from perdure.check_env._subprocesses import Record

#: Under which condition two runs are alike: none was found, equal hashes of strings, or equal addresses too.
Condition = Literal["", "hashes", "addresses"]
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


def may_replay(spec: EnvSpec, captured: Record) -> bool:
    """Whether replaying its episodes may make it exact, because that is not what was refused."""
    lines = captured.lines.get("captured", [])
    return not spec.replay and not any(name.endswith("Replay") for line in lines for name in line["handled"])


def not_reproducible(alike_with: Condition) -> list[str]:
    """For an environment of which two uninterrupted runs differ."""
    general = "No checkpoint can be exact if two uninterrupted runs differ."
    match alike_with:
        case "hashes":
            return [
                f"{general} They are equal with PYTHONHASHSEED=0: it iterates over a set of strings, whose order "
                "differs from process to process. Set PYTHONHASHSEED for training, or let it iterate over sorted(...)"
            ]
        case "addresses":
            return [
                f"{general} They are equal with PYTHONHASHSEED=0 and without address randomization: it iterates over "
                "a set of objects, ordered by their memory addresses, which no resumed process repeats. Let it iterate "
                "over a list or a dict"
            ]
    return [
        f"{general} It draws from a generator that no seed reaches, or depends on time, on threads, or on something "
        "outside the process"
    ]


def different(
    finding: Finding | None, restored: Record, explained: Record, captured: Record
) -> tuple[list[str], bool]:
    """For an environment that behaves differently once it is restored; and whether that may lie in native code."""
    why, native = [], False
    if finding is None:
        end = restored.lines["finished"][0]
        why.append(
            f"everything it returned is the same, but not the state in which it ended ({end['count']} paths):\n"
            f"{_lines(end['differences'])}"
        )
    told = explained.first("explained")
    if told is not None and told["count"]:
        why.append(
            f"restoring did not bring back {told['count']} of the captured paths:\n{_lines(told['differences'])}"
        )
    untracked = captured.first("untracked")
    if untracked is not None and untracked["changed"]:
        why.append(
            "this changed while it ran, and no checkpoint holds it, because it belongs to none of its objects:\n"
            f"{_lines(untracked['changed'])}\nKeep it in an attribute of the environment"
        )
    elif told is not None and not told["count"]:
        why.append(
            "everything that was captured was brought back, so Python cannot see what is missing: it lies in native "
            "code behind a number or a handle, or in another process. Register a handler for it (perdure.register)"
        )
        native = True
    return why, native


def _lines(entries: list[str]) -> str:
    return "\n".join(f"  {each}" for each in entries[:_SHOWN])


def _printed(record: Record) -> str:
    # If Python says where it died, that matters, and not the list of modules that follows.
    _, fatal, trace = record.tail.rpartition("Fatal Python error")
    told = f"{fatal}{trace}".partition("Extension modules:")[0].strip().splitlines()
    lines = told[: 2 * _SHOWN] if fatal else told[-_SHOWN:]
    return "the last lines it printed:\n" + "\n".join(f"  {each}" for each in lines) if lines else ""

"""Does an environment go on exactly where it was, restored in a fresh process? Found out by doing it.

The same environment is run in several fresh processes, with the same seed and the same actions:

1. the reference is left alone;
2. another is captured on the way, in mid-episode of a later episode and right after an end: it must see what the
   reference sees, or it is not reproducible at all, or capturing changes it;
3. for each capture, a process in which the environment was seeded otherwise, and has gone another way, restores it and
   goes on across resets: it must see what the reference sees from there on.

What is compared, bit for bit: what every step and reset returns (less the wall clock), what the generators and spaces
draw at the end, and all the state that is captured at the end.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.check_env import _reasons, _subprocesses
from perdure.check_env._env_spec import Subject, subject
from perdure.check_env._outputs import first_difference
from perdure.check_env._report import (
    CRASHED,
    DIFFERENT,
    EXACT,
    NOT_REPRODUCIBLE,
    PERTURBED,
    REFUSED,
    UNCHECKED,
    CheckReport,
    Finding,
)
from perdure.check_env._subprocesses import Record

__all__ = [
    "CheckReport",
    "Finding",
    "Subject",
    "assert_exact",
    "check",
    "check_subject",
    "subject",
]

_CUT = 200
_WANDER = 3


def check(
    env: str | Callable[..., Any],
    *,
    steps: int = 500,
    seed: int = 1,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[str | Callable[..., Any] | tuple[str | Callable[..., Any], Mapping[str, Any]]] = (),
    imports: Sequence[str] = (),
    replay: bool = False,
    vector: str = "",
    cut: int = _CUT,
    ignore: Sequence[str] = (),
    timeout: float = 300.0,
) -> CheckReport:
    """Find out whether an environment goes on exactly, restored in a fresh process.

    :param env: a Gymnasium id ("CartPole-v1"); a function or class that makes the environment, which fresh processes
        must find by its name (no lambda, no local function), or its name as "module:factory"; a module of PettingZoo
        or MPE2 ("pettingzoo.classic.chess_v6", with `kwargs={"parallel": True}` for its parallel form);
        "dm_control/cheetah-run"; "envpool/Pong-v5".
    :param steps: how many steps to make after the captures, across resets.
    :param kwargs: what to make it with; JSON.
    :param wrappers: wrapper classes, or "module:Class", or a pair of that and its keyword arguments; the innermost
        first.
    :param imports: modules to import first in each process; those that register handlers, say.
    :param replay: have its episodes played again: wrap it in :class:`perdure.environments.EpisodeReplay`, or in what
        there is instead of it for PettingZoo and for pools.
    :param vector: run several in one of Gymnasium's vectors, or another library's: "sync:3", "async:3", "sb3-dummy",
        "sb3-subproc", "tianshou-dummy", "tianshou-subproc", "tianshou-shmem", "tianshou-ray".
    :param cut: reset an episode after so many steps, so that resets are met in environments of long episodes.
    :param ignore: what to leave out of the comparison ("info['time']", with `*` and `?`).
    :param timeout: how long each process may take, in seconds.
    :raises EnvSpecError: if fresh processes could not find the environment.
    """
    what = subject(env, kwargs=kwargs, wrappers=wrappers, imports=imports, replay=replay, vector=vector)
    return check_subject(what, steps=steps, seed=seed, cut=cut, ignore=ignore, timeout=timeout)


def assert_exact(env: str | Callable[..., Any], **options: Any) -> CheckReport:
    """As `check`, for tests.

    :raises AssertionError: if the environment is not exact, or could not be checked; it says why.
    """
    report = check(env, **options)
    if not report.exact:
        raise AssertionError(report.text())
    return report


def check_subject(
    what: Subject,
    *,
    steps: int = 500,
    seed: int = 1,
    cut: int = _CUT,
    ignore: Sequence[str] = (),
    timeout: float = 300.0,
    tell: Callable[[str], None] = lambda message: None,
) -> CheckReport:
    """As `check`, of a subject. `tell` is called with what is being done."""
    begun = time.monotonic()
    directory = tempfile.mkdtemp(prefix="perdure-check-")
    job = {"subject": what.document(), "seed": seed, "steps": steps, "cut": cut, "ignore": list(ignore)}
    job |= {"end": None, "final": True, "wander": 0}
    try:
        report = _Check(what, job, directory, timeout, tell).run()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    report.seconds = round(time.monotonic() - begun, 1)
    return report


class _Check:
    def __init__(
        self,
        what: Subject,
        job: dict[str, Any],
        directory: str,
        timeout: float,
        tell: Callable[[str], None],
    ) -> None:
        self.report = CheckReport(what.name)
        self.what = what
        self.job = job
        self.directory = directory
        self.timeout = timeout
        self.tell = tell

    def process(self, role: str, name: str, **more: Any) -> Record:
        self.tell(name)
        job = {**self.job, "role": role, "store": f"{self.directory}/{name}.run", **more}
        return _subprocesses.run(job, self.directory, name, self.timeout)

    def fail(self, verdict: str, *why: str) -> CheckReport:
        self.report.verdict = verdict
        self.report.reasons += [each for each in why if each]
        return self.report

    def run(self) -> CheckReport:
        """All of it."""
        report = self.report
        reference = self.process("reference", "reference")
        plan = reference.first("plan")
        if reference.failure or plan is None:
            return self.fail(UNCHECKED, *_reasons.could_not_run(reference))
        points = {name: plan[name] for name in ("early", "middle", "done")}
        self.job["end"] = plan["end"]
        last = max(plan["middle"], plan["done"])
        report.resets = reference.steps[-1]["episode"] - reference.steps[last]["episode"]
        if not plan["natural"]:
            report.notes.append(
                f"no episode ended by itself: each was cut and reset after {self.job['cut']:,} steps"
            )
        captured = self.process("captured", "captured", points=points)
        self._measure(captured)
        if captured.failure:
            return self._capture_failed(captured)
        if (refused := captured.first("final refused")) is not None:
            return self.fail(REFUSED, f"at step {plan['end']:,}: {refused['message']}")
        if (finding := compare("while being captured", reference, captured)) is not None:
            return self._before_any_restoring(finding, reference)
        report.way = self._way(captured)
        for line in captured.lines["captured"]:
            if line["point"] != "early" and not self._restored(line, reference, captured, plan):
                return report
        report.verdict = EXACT
        self._note_hidden(captured)
        return report

    def _way(self, captured: Record) -> str:
        line = captured.lines["captured"][-1]
        if any(name.startswith("perdure.") and name.endswith("Replay") for name in line["handled"]):
            return "barrier" if line["barrier"] else "replay"
        return "handler" if line["handled"] else "walk"

    def _measure(self, captured: Record) -> None:
        lines = {line["point"]: line for line in captured.lines.get("captured", ())}
        if "middle" in lines:
            first = min(lines.values(), key=lambda line: line["number"])
            middle = lines["middle"]
            self.report.first_bytes, self.report.bytes = first["bytes"], middle["bytes"]
            self.report.capture_ms = round(middle["capture_ms"], 3)
            self.report.commit_ms = round(middle["commit_ms"], 3)
            self.report.handled = middle["handled"]

    def _capture_failed(self, captured: Record) -> CheckReport:
        failed = captured.first("failed")
        if captured.timed_out:
            return self.fail(UNCHECKED, *_reasons.could_not_run(captured))
        if captured.crashed:
            return self.fail(CRASHED, *_reasons.crashed("capturing it", captured))
        if failed is not None and failed["error"] == "CaptureError":
            return self.fail(REFUSED, failed["message"], _reasons.instead(self.what, captured))
        return self.fail(CRASHED, *_reasons.crashed("capturing it", captured))

    def _before_any_restoring(self, finding: Finding, reference: Record) -> CheckReport:
        """The captured run is not the reference: because it was captured, or because no two runs are alike?"""
        again = self.process("reference", "reference again")
        between = compare("in a second run", reference, again)
        self.report.finding = between or finding
        if between is None:
            return self.fail(
                PERTURBED, "two runs without a capture are alike; the one that was captured is not"
            )
        return self.fail(NOT_REPRODUCIBLE, *_reasons.not_reproducible(self._alike_if()))

    def _alike_if(self) -> str:
        """Under which condition two runs are alike: "hashes", "addresses", or "" if none was found."""
        same: dict[str, Any] = {"environment": {"PYTHONHASHSEED": "0"}, "final": False}
        for condition, more in (("hashes", same), ("addresses", {**same, "same_addresses": True})):
            if condition == "addresses" and shutil.which("setarch") is None:
                continue
            pair = [self.process("reference", f"{condition} {number}", **more) for number in (1, 2)]
            if not any(each.failure for each in pair) and compare("", *pair) is None:
                return condition
        return ""

    def _restored(
        self, line: dict[str, Any], reference: Record, captured: Record, plan: dict[str, Any]
    ) -> bool:
        """Restore one of the captures and go on; whether that was exact."""
        report = self.report
        point, at = line["point"], line["position"]
        if point == "middle":
            where = (
                f"in mid-episode, {at['steps']:,} steps into episode {at['episode'] + 1:,} (step {at['t']:,})"
            )
        else:
            where = f"right after the end of episode {at['episode'] + 1:,} (step {at['t']:,})"
        more = {
            "number": line["number"],
            "position": at,
            "store": f"{self.directory}/captured.run",
            "twin": f"{self.directory}/reference.run",
            "own_store": f"{self.directory}/restored.run",
            "wander": 0 if point == "middle" else _WANDER,
        }
        restored = self.process("restored", f"restored {point}", **more)
        done = restored.first("restored")
        if done is not None and report.restore_ms is None:
            report.restore_ms = round(done["restore_ms"], 3)
        finding = compare(f"restored {where}", reference, restored, after=at["t"])
        if restored.failure and finding is None:
            self._restoring_failed(restored, where, captured)
            return False
        end = restored.first("finished") or {}
        if finding is None and not end.get("count"):
            report.points.append(where)
            report.steps = len(restored.steps) if not report.steps else min(report.steps, len(restored.steps))
            return True
        report.finding = finding
        explained = self.process("explain", f"explain {point}", **more)
        self.fail(DIFFERENT, *_reasons.different(finding, end, explained, captured, self.what))
        return False

    def _restoring_failed(self, restored: Record, where: str, captured: Record) -> None:
        failed = restored.first("failed")
        was_restored = restored.first("restored") is not None
        if restored.timed_out:
            self.fail(UNCHECKED, *_reasons.could_not_run(restored))
        elif failed is not None and not was_restored:
            self.fail(
                REFUSED, f"restored {where}: {failed['message']}", _reasons.instead(self.what, captured)
            )
        else:
            doing = f"step {restored.steps[-1]['t']:,}" if restored.steps else "restoring"
            self.fail(CRASHED, *_reasons.crashed(f"{doing}, restored {where}", restored))

    def _note_hidden(self, captured: Record) -> None:
        line = captured.first("hidden")
        if line is not None and line["changed"]:
            self.report.notes.append(
                "no checkpoint holds what changed outside of its objects; in this check it made no difference: "
                + "; ".join(line["changed"][:5])
            )


def compare(where: str, reference: Record, other: Record, *, after: int | None = None) -> Finding | None:
    """The first thing that another process saw and the reference did not; None if there is none.

    :param after: the other one was restored after so many steps.
    """
    for kind in ("start", "step", "end"):
        ours, theirs = reference.lines.get(kind, []), other.lines.get(kind, [])
        if after is not None and kind != "end":
            ours, theirs = ours[after:], theirs if kind == "step" else []
        for one, another in zip(ours, theirs, strict=False):
            if (different := first_difference(one["leaves"], another["leaves"])) is not None:
                path, expected, found = different
                step = one.get("t", reference.steps[-1]["t"] if kind == "end" and reference.steps else 0)
                return Finding(where, step, path, expected, found)
    return None

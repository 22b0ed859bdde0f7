"""Checks whether an environment continues exactly where it was when it is restored in a fresh process.

The same environment is run in several fresh processes, with the same seed and the same actions:

1. the reference runs undisturbed;
2. another is captured on the way, in mid-episode of a later episode and right after an end. It must return what the
   reference returns; else the environment is not reproducible at all, or capturing changes it;
3. for each capture, a process whose environment had another seed and another history restores it and continues across
   resets. It must return what the reference returns from there on.

If replaying its episodes may help where that failed, the same is done with an environment that replays them.

Compared bit for bit are: everything that steps and resets return (except the wall clock), what the generators and
spaces draw at the end, and all state that is captured at the end.

It knows what the processes record, and nothing of environments or checkpoints themselves.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from perdure.check_env import _reasons, _subprocesses
from perdure.check_env._env_spec import EnvSpec, Wrapper, env_spec
from perdure.check_env._outputs import first_difference
from perdure.check_env._reasons import Condition
from perdure.check_env._report import CheckReport, Finding, Verdict, Way
from perdure.check_env._subprocesses import Record

_CUT = 200
_STEPS_BEFORE = 3


def check(
    env: str | Callable[..., Any],
    *,
    steps: int = 500,
    seed: int = 1,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    imports: Sequence[str] = (),
    replay: bool = False,
    vector: str = "",
    cut: int = _CUT,
    ignore: Sequence[str] = (),
    timeout: float = 300.0,
) -> CheckReport:
    """Find out whether an environment continues exactly when it is restored in a fresh process.

    :param env: a Gymnasium id ("CartPole-v1", "ALE/Pong-v5": the installed package that registers it is imported), or
        "module:id"; a function or class that makes the environment, which fresh processes
        must find by its name (no lambda, no local function), or its name as "module:factory"; a module of PettingZoo
        or MPE2 ("pettingzoo.classic.chess_v6", with `kwargs={"parallel": True}` for its parallel form);
        "dm_control/cheetah-run"; "envpool/Pong-v5".
    :param steps: how many steps to make after the captures, across resets.
    :param kwargs: keyword arguments for making it; JSON.
    :param wrappers: wrapper classes, or "module:Class", or a pair of that and its keyword arguments; the innermost
        first.
    :param imports: modules to import first in each process, for example to register handlers.
    :param replay: wrap it in :class:`perdure.environments.EpisodeReplay`, or in its counterpart for PettingZoo and
        for pools.
    :param vector: run several in one of Gymnasium's vectors, or another library's: "sync:3", "async:3", "sb3-dummy",
        "sb3-subproc", "tianshou-dummy", "tianshou-subproc", "tianshou-shmem", "tianshou-ray".
    :param cut: reset an episode after this many steps, so that long episodes have resets too.
    :param ignore: paths to leave out of the comparison ("info['time']", with `*` and `?`).
    :param timeout: how long each process may take, in seconds.
    :raises EnvSpecError: if fresh processes could not find the environment.
    """
    spec = env_spec(env, kwargs=kwargs, wrappers=wrappers, imports=imports, replay=replay, vector=vector)
    return check_spec(spec, steps=steps, seed=seed, cut=cut, ignore=ignore, timeout=timeout)


def assert_exact(env: str | Callable[..., Any], **options: Any) -> CheckReport:
    """As `check`, for tests.

    :raises AssertionError: if the environment is not exact, or could not be checked; it says why.
    """
    report = check(env, **options)
    if not report.exact:
        raise AssertionError(report.text())
    return report


def check_spec(
    spec: EnvSpec,
    *,
    steps: int = 500,
    seed: int = 1,
    cut: int = _CUT,
    ignore: Sequence[str] = (),
    timeout: float = 300.0,
    tell: Callable[[str], None] = lambda message: None,
) -> CheckReport:
    """As `check`, for an :class:`EnvSpec`.

    :param tell: called with what is being done.
    """
    begun = time.monotonic()
    job = {"seed": seed, "steps": steps, "cut": cut, "ignore": list(ignore)}
    with tempfile.TemporaryDirectory(prefix="perdure-check-", ignore_cleanup_errors=True) as directory:
        first = _Check(spec, job, directory, timeout, tell)
        report = first.run()
        if first.may_replay:
            again = os.path.join(directory, "replay")
            os.mkdir(again)
            replayed = dataclasses.replace(spec, replay=True)
            report.with_replay = _Check(
                replayed, job, again, timeout, lambda doing: tell(f"replayed, {doing}")
            ).run()
    report.seconds = round(time.monotonic() - begun, 1)
    return report


class _Check:
    def __init__(
        self,
        spec: EnvSpec,
        job: dict[str, Any],
        directory: str,
        timeout: float,
        tell: Callable[[str], None],
    ) -> None:
        self.report = CheckReport(spec.name)
        self.spec = spec
        self.job = {**job, "spec": spec.document(), "end": None, "final": True}
        self.directory = directory
        self.timeout = timeout
        self.tell = tell
        #: Whether replaying its episodes may help.
        self.may_replay = False

    def process(self, role: str, name: str, **more: Any) -> Record:
        self.tell(name)
        job = {**self.job, "role": role, "store": self.store(name), **more}
        return _subprocesses.run(job, self.directory, name, self.timeout)

    def store(self, name: str) -> str:
        return f"{self.directory}/{name}.run"

    def fail(self, verdict: Verdict, *why: str) -> CheckReport:
        self.report.verdict = verdict
        self.report.reasons += [each for each in why if each]
        return self.report

    def run(self) -> CheckReport:
        """All processes, one after the other."""
        report = self.report
        reference = self.process("reference", "reference")
        plan = reference.first("plan")
        if reference.failure or plan is None:
            return self.fail("unchecked", *_reasons.could_not_run(reference))
        self.job["end"] = plan["end"]
        self._note_registered(reference)
        last = max(plan["middle"], plan["done"])
        report.resets = reference.steps[-1]["episode"] - reference.steps[last]["episode"]
        if not plan["natural"]:
            report.notes.append(f"no episode ended by itself: each was reset after {self.job['cut']:,} steps")
        points = {name: plan[name] for name in ("early", "middle", "done")}
        captured = self.process("captured", "captured", points=points)
        self._measure(captured)
        if captured.failure:
            return self._capture_failed(captured)
        if (refused := captured.first("final refused")) is not None:
            return self.fail("refused", f"at step {plan['end']:,}: {refused['message']}")
        if (finding := compare("while being captured", reference, captured)) is not None:
            return self._differs_unrestored(finding, reference)
        report.way = _way(captured)
        for line in captured.lines["captured"]:
            if line["point"] != "early" and not self._restored(line, reference, captured):
                return report
        report.verdict = "exact"
        self._note_untracked(captured)
        return report

    def _note_registered(self, reference: Record) -> None:
        line = reference.first("registered")
        if line is not None:
            # So the others need not look for it.
            self.job["spec"]["imports"] = [*self.spec.imports, line["by"]]
            self.report.notes.append(
                f"Gymnasium knows {self.spec.target} once {line['by']} is imported, which your script must do too"
            )

    def _measure(self, captured: Record) -> None:
        lines = {line["point"]: line for line in captured.lines.get("captured", ())}
        if (middle := lines.get("middle")) is not None:
            first = min(lines.values(), key=lambda line: int(line["number"]))
            self.report.first_bytes, self.report.bytes = first["bytes"], middle["bytes"]
            self.report.capture_ms = round(middle["capture_ms"], 3)
            self.report.commit_ms = round(middle["commit_ms"], 3)
            self.report.handled = middle["handled"]

    def _capture_failed(self, captured: Record) -> CheckReport:
        failed = captured.first("failed")
        if captured.timed_out:
            return self.fail("unchecked", *_reasons.could_not_run(captured))
        if not captured.crashed and failed is not None and failed["error"] == "CaptureError":
            self.may_replay = _reasons.may_replay(self.spec, captured)
            return self.fail("refused", failed["message"])
        return self.fail("crashed", *_reasons.crashed("capturing it", captured))

    def _differs_unrestored(self, finding: Finding, reference: Record) -> CheckReport:
        """The captured run differs from the reference: because it was captured, or because any two runs differ?"""
        again = self.process("reference", "reference again")
        between = compare("in a second run", reference, again)
        self.report.finding = between or finding
        if between is None:
            return self.fail("perturbed", "two runs without a capture are equal; the captured one differs")
        return self.fail("not reproducible", *_reasons.not_reproducible(self._alike_with()))

    def _alike_with(self) -> Condition:
        """The condition under which two runs are equal, if one is found."""
        hashes: dict[str, Any] = {"environment": {"PYTHONHASHSEED": "0"}, "final": False}
        if self._are_alike("hashes", **hashes):
            return "hashes"
        if shutil.which("setarch") and self._are_alike("addresses", **hashes, same_addresses=True):
            return "addresses"
        return ""

    def _are_alike(self, name: str, **more: Any) -> bool:
        pair = [self.process("reference", f"{name} {number}", **more) for number in (1, 2)]
        return not any(each.failure for each in pair) and compare("", *pair) is None

    def _restored(self, line: dict[str, Any], reference: Record, captured: Record) -> bool:
        """Restore one of the captures and continue; whether that was exact."""
        report = self.report
        point, at = line["point"], line["position"]
        episode = f"episode {at['episode'] + 1:,}"
        if point == "middle":
            where = f"in mid-episode, {at['steps']:,} steps into {episode} (step {at['t']:,})"
        else:
            where = f"right after the end of {episode} (step {at['t']:,})"
        more = {
            "number": line["number"],
            "position": at,
            "store": self.store("captured"),
            "reference": self.store("reference"),
            "steps_before": 0 if point == "middle" else _STEPS_BEFORE,
        }
        restored = self.process("restored", f"restored {point}", **more)
        done = restored.first("restored")
        if done is not None and report.restore_ms is None:
            report.restore_ms = round(done["restore_ms"], 3)
        finding = compare(f"restored {where}", reference, restored, after=at["t"])
        if restored.failure and finding is None:
            self._restoring_failed(restored, where, captured)
            return False
        end = restored.first("finished")
        if finding is None and not (end and end["count"]):
            report.points.append(where)
            report.steps = min(report.steps or len(restored.steps), len(restored.steps))
            return True
        report.finding = finding
        explained = self.process("explain", f"explain {point}", **more)
        why, native = _reasons.different(finding, restored, explained, captured)
        self.may_replay = native and _reasons.may_replay(self.spec, captured)
        self.fail("different", *why)
        return False

    def _restoring_failed(self, restored: Record, where: str, captured: Record) -> None:
        failed = restored.first("failed")
        if restored.timed_out:
            self.fail("unchecked", *_reasons.could_not_run(restored))
        elif failed is not None and restored.first("restored") is None:
            self.may_replay = _reasons.may_replay(self.spec, captured)
            self.fail("refused", f"restored {where}: {failed['message']}")
        else:
            doing = f"step {restored.steps[-1]['t']:,}" if restored.steps else "restoring"
            self.fail("crashed", *_reasons.crashed(f"{doing}, restored {where}", restored))

    def _note_untracked(self, captured: Record) -> None:
        line = captured.first("untracked")
        if line is not None and line["changed"]:
            self.report.notes.append(
                "this changed outside its objects, and no checkpoint holds it; in this check it made no difference: "
                + "; ".join(line["changed"][:5])
            )


def _way(captured: Record) -> Way:
    line = captured.lines["captured"][-1]
    if any(name.startswith("perdure:") and name.endswith("Replay") for name in line["handled"]):
        return "bounded replay" if line["bounded"] else "replay"
    return "handler" if line["handled"] else "walk"


def compare(where: str, reference: Record, other: Record, *, after: int | None = None) -> Finding | None:
    """The first difference between a process and the reference; None if there is none.

    :param where: which process, in words.
    :param after: how many steps had been made when the other process restored; None if it did not restore.
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

"""`perdure demo` on the screen: what is going on while it does, and in plain words what came of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

from perdure.cli.output import console, count, error_line, size, table, text
from perdure.demo.contest import CHECKPOINT, Plan, Training, hold
from perdure.demo.verdict import Verdict, judge
from perdure.errors import PerdureError

_CHECKPOINTS = 12
_SHOWN = 12


def demonstrate(kills: int, steps: int, seed: int, directory: str | None) -> int:
    """Run the demo; returns the exit code."""
    if importlib.util.find_spec("gymnasium") is None:
        raise PerdureError('the demo trains in Gymnasium\'s CartPole: pip install "perdure[gymnasium]"')
    out = console()
    begin = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(_leaving_properly())
        place = _Place(directory)
        stack.enter_context(place)
        plan = Plan(place.path, steps, max(1, steps // _CHECKPOINTS), seed, kills)
        _introduce(out, plan)
        with _Screen(out, plan) as screen:
            killed, alone = hold(plan, screen.tell)
        verdict = judge(killed.directory, alone.directory)
        good = _conclude(out, plan, killed, verdict, time.monotonic() - begin)
        place.keep = place.keep or not good
        if place.keep:
            out.print()
            out.print(Text("Both runs are kept. To look at them:"))
            for command in (f"perdure ls {place.path}", f"perdure show {killed.directory}"):
                out.print(text(f"  {command}"), soft_wrap=True)
    return 0 if good else 1


class _Place:
    """The directory of the two runs; removed at the end, unless it is to be kept."""

    def __init__(self, directory: str | None) -> None:
        self.keep = directory is not None
        self.path = directory or ""

    def __enter__(self) -> _Place:
        if not self.keep:
            self.path = tempfile.mkdtemp(prefix="perdure-demo-")
            return self
        self.path = os.path.abspath(self.path)
        if os.path.lexists(self.path) and (not os.path.isdir(self.path) or os.listdir(self.path)):
            raise PerdureError(f"{self.path} is there and not empty: the demo needs a directory of its own")
        os.makedirs(self.path, exist_ok=True)
        return self

    def __exit__(self, *error: object) -> None:
        if not self.keep:
            shutil.rmtree(self.path, ignore_errors=True)


@contextmanager
def _leaving_properly() -> Iterator[None]:
    """Let also SIGTERM and SIGHUP leave through the code that ends the children."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _introduce(out: Console, plan: Plan) -> None:
    times = ["never", "once", "twice", f"{plan.kills} times"][min(plan.kills, 3)]
    for line in (
        f"One training, done twice: DQN on CartPole, {plan.steps:,} steps, seed {plan.seed}.",
        f"The first is killed {times} (SIGKILL, at random moments), and started again.",
        "The second is left alone. Then all that they end with is compared, bit by bit.",
        "",
    ):
        out.print(Text(line))


class _Steps(ProgressColumn):
    """Where a training is, and how well it does."""

    def render(self, task: Task) -> Text:
        mean = task.fields.get("mean", 0.0)
        return Text(f"{int(task.completed):>7,} steps   return {mean:>5.1f}")


class _Screen:
    """Bars on a terminal; lines anywhere else."""

    def __init__(self, out: Console, plan: Plan) -> None:
        self.out = out
        self.plan = plan
        self.tasks: dict[str, TaskID] = {}
        self.next_line = plan.steps // 4
        self.progress = Progress(
            TextColumn("{task.description:<14}", markup=False),
            BarColumn(bar_width=24),
            _Steps(),
            console=out,
            disable=not out.is_terminal,
        )

    def __enter__(self) -> _Screen:
        self.progress.start()
        for name in ("killed", "uninterrupted"):
            self.tasks[name] = self.progress.add_task(name, total=self.plan.steps)
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def tell(self, event: str, training: Training) -> None:
        """Show what happened."""
        match event:
            case "step":
                self.progress.update(
                    self.tasks[training.name], completed=self._position(training), mean=training.mean
                )
                shown = not self.out.is_terminal and training.name == "killed" and training.running
                if shown and training.step >= self.next_line:
                    self._line(f"step {training.step:>6,}  mean return {training.mean:.1f}")
                    self.next_line += self.plan.steps // 4
            case "killed":
                kill = training.kills[-1]
                what = f", in the middle of writing {kill.writing}" if kill.writing else ""
                self._line(f"step {kill.step:>6,}  killed{what}", "red")
            case "resumed":
                self._line(f"step {training.resumed[-1]:>6,}  started again from here", "green")
            case "done" if training.name == "killed":
                self._line(f"step {self.plan.steps:>6,}  done")

    def _position(self, training: Training) -> int:
        return self.plan.steps if training.done else training.step

    def _line(self, line: str, style: str = "") -> None:
        self.progress.console.print(Text(f"  {line}", style))


def _conclude(out: Console, plan: Plan, killed: Training, verdict: Verdict, seconds: float) -> bool:
    made = table("  compared", "paths", "bytes", "", right=("paths", "bytes"))
    for answer in verdict.answers:
        wrong = len(answer.differences)
        outcome = Text(count(wrong, "difference"), "bold red") if wrong else Text("identical", "green")
        made.add_row(f"  {answer.question}", f"{answer.paths:,}", size(answer.nbytes), outcome)
    out.print()
    out.print(made)
    out.print()
    for line in _facts(plan, killed, verdict, seconds):
        out.print(Text(f"  {line}"))
    out.print()
    differences = verdict.differences
    if differences:
        found = count(len(differences), "difference")
        out.print(Text(f"DIFFERENT: {found} between the two final states:", "bold red"))
        for difference in differences[:_SHOWN]:
            out.print(text(f"  {difference}"), overflow="fold")
        if len(differences) > _SHOWN:
            out.print(Text(f"  and {len(differences) - _SHOWN:,} more"))
        return False
    if len(killed.kills) < plan.kills:
        error_line(f"Only {len(killed.kills)} of {plan.kills} kills happened: the training was done before.")
        if not killed.kills:
            error_line("So nothing was shown. Use more --steps.")
            return False
    out.print(Text(f"IDENTICAL: {verdict.paths:,} paths compared, no bit differs.", "bold green"))
    return True


def _facts(plan: Plan, killed: Training, verdict: Verdict, seconds: float) -> Iterator[str]:
    if killed.kills:
        writing = sum(kill.writing == CHECKPOINT for kill in killed.kills)
        middle = f", {writing} of them in the middle of writing a checkpoint" if writing else ""
        yield f"kills         {len(killed.kills)}{middle}"
        yield f"done again    about {killed.redone:,} of {plan.steps:,} steps: those since a checkpoint"
    if killed.saves:
        mean, longest = sum(killed.saves) / len(killed.saves), max(killed.saves)
        yield f"checkpoints   {len(killed.saves)}, each took {mean:.0f} ms (the longest {longest:.0f} ms)"
    yield f"mean return   {killed.first_mean:.0f} at the start, {killed.mean:.0f} at the end"
    if verdict.left_out:
        yield f"left out      {count(verdict.left_out, 'path')} that no checkpoint holds (functions, modules)"
    yield f"time          {seconds:.0f} s"

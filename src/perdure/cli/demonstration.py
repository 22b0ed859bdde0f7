"""`perdure demo` on the screen: what happens while it runs, and in plain words what came of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from perdure.cli.leaving import leaving_properly
from perdure.cli.output import console, count, error_line, size, table, text
from perdure.demo.contest import CHECKPOINT, DemoConfig, Event, Training, hold
from perdure.demo.verdict import Answer, judge
from perdure.errors import PerdureError

_CHECKPOINTS = 12
_SHOWN = 12


def demonstrate(kills: int, steps: int, seed: int, directory: str | None) -> int:
    """Run the demo; returns the exit code."""
    if importlib.util.find_spec("gymnasium") is None:
        raise PerdureError('the demo trains in Gymnasium\'s CartPole: pip install "perdure[gymnasium]"')
    out = console()
    begin = time.monotonic()
    keep = directory is not None
    with leaving_properly():
        place = _make_directory(directory)
        try:
            config = DemoConfig(place, steps, max(1, steps // _CHECKPOINTS), seed, kills)
            _introduce(out, config)
            with _Screen(out, config) as screen:
                killed, alone = hold(config, screen.tell)
            answers, left_out = judge(killed.directory, alone.directory)
            _print_answers(out, answers)
            for line in _facts(config, killed, left_out, time.monotonic() - begin):
                out.print(Text(f"  {line}"))
            out.print()
            good = _conclude(out, config, killed, answers)
            keep = keep or not good
            if keep:
                out.print()
                out.print(Text("Both runs are kept. To look at them:"))
                for command in (f"perdure ls {place}", f"perdure show {killed.directory}"):
                    out.print(text(f"  {command}"), soft_wrap=True)
        finally:
            if not keep:
                shutil.rmtree(place, ignore_errors=True)
    return 0 if good else 1


def _make_directory(path: str | None) -> str:
    """The directory of the two runs."""
    if path is None:
        return tempfile.mkdtemp(prefix="perdure-demo-")
    path = os.path.abspath(path)
    if os.path.lexists(path) and (not os.path.isdir(path) or os.listdir(path)):
        raise PerdureError(
            f"{path} is not empty, or not a directory: give the demo an empty directory, or a new path"
        )
    os.makedirs(path, exist_ok=True)
    return path


def _introduce(out: Console, config: DemoConfig) -> None:
    times = ["never", "once", "twice", f"{config.kills} times"][min(config.kills, 3)]
    for line in (
        f"One training, done twice: DQN on CartPole, {config.steps:,} steps, seed {config.seed}.",
        f"The first is killed {times} (SIGKILL, at random moments), and started again.",
        "The second is left alone. Then all that they end with is compared, bit by bit.",
        "",
    ):
        out.print(Text(line))


class _Screen:
    """Bars on a terminal; lines anywhere else."""

    def __init__(self, out: Console, config: DemoConfig) -> None:
        self.total = config.steps
        self.lines = not out.is_terminal
        self.next_line = config.steps // 4
        self.progress = Progress(
            TextColumn("{task.description:<14}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:>7,.0f} steps   return {task.fields[mean]:>5.1f}"),
            console=out,
            disable=self.lines,
        )
        self.tasks = {
            name: self.progress.add_task(name, total=self.total, mean=0.0)
            for name in ("killed", "uninterrupted")
        }

    def __enter__(self) -> _Screen:
        self.progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.progress.stop()

    def tell(self, event: Event, training: Training) -> None:
        """Show what happened."""
        match event:
            case "step":
                done = self.total if training.done else training.step
                self.progress.update(self.tasks[training.name], completed=done, mean=training.mean)
                noted = self.lines and training.name == "killed" and training.running
                if noted and training.step >= self.next_line:
                    self._line(training.step, f"mean return {training.mean:.1f}")
                    self.next_line += self.total // 4
            case "killed":
                kill = training.kills[-1]
                what = f", in the middle of writing {kill.writing}" if kill.writing else ""
                self._line(kill.step, f"killed{what}", "red")
            case "resumed":
                self._line(training.resumed[-1], "started again from here", "green")
            case "done" if training.name == "killed":
                self._line(self.total, "done")

    def _line(self, step: int, what: str, style: str = "") -> None:
        self.progress.console.print(Text(f"  step {step:>6,}  {what}", style))


def _print_answers(out: Console, answers: list[Answer]) -> None:
    made = table("  compared", "paths", "bytes", "", right=("paths", "bytes"))
    for answer in answers:
        wrong = len(answer.differences)
        outcome = Text(count(wrong, "difference"), "bold red") if wrong else Text("identical", "green")
        made.add_row(f"  {answer.question}", f"{answer.paths:,}", size(answer.nbytes), outcome)
    out.print()
    out.print(made)
    out.print()


def _conclude(out: Console, config: DemoConfig, killed: Training, answers: list[Answer]) -> bool:
    """Print what was found; whether it is what was promised."""
    differences = [difference for answer in answers for difference in answer.differences]
    if differences:
        found = count(len(differences), "difference")
        out.print(Text(f"DIFFERENT: {found} between the two final states:", "bold red"))
        for difference in differences[:_SHOWN]:
            out.print(text(f"  {difference}"), overflow="fold")
        if len(differences) > _SHOWN:
            out.print(Text(f"  and {len(differences) - _SHOWN:,} more"))
        return False
    if len(killed.kills) < config.kills:
        error_line(
            f"Only {len(killed.kills)} of {config.kills} kills happened: the training was done before."
        )
        if not killed.kills:
            error_line("So nothing was shown. Use more --steps.")
            return False
    paths = sum(answer.paths for answer in answers)
    out.print(Text(f"IDENTICAL: {paths:,} paths compared, no bit differs.", "bold green"))
    return True


def _facts(config: DemoConfig, killed: Training, left_out: int, seconds: float) -> Iterator[str]:
    if killed.kills:
        writing = sum(kill.writing == CHECKPOINT for kill in killed.kills)
        middle = f", {writing} of them in the middle of writing a checkpoint" if writing else ""
        yield f"kills         {len(killed.kills)}{middle}"
        yield f"done again    about {killed.redone:,} of {config.steps:,} steps: those since a checkpoint"
    if killed.saves:
        mean, longest = sum(killed.saves) / len(killed.saves), max(killed.saves)
        yield f"checkpoints   {len(killed.saves)}, each took {mean:.0f} ms (the longest {longest:.0f} ms)"
    yield f"mean return   {killed.first_mean:.0f} at the start, {killed.mean:.0f} at the end"
    if left_out:
        yield f"left out      {count(left_out, 'path')} that no checkpoint holds (functions, modules)"
    yield f"time          {seconds:.0f} s"

"""Two trainings: one is killed at random moments and started again until it is done, the other is left alone.

Processes are started and ended here. What they compute is no concern of this module, nor how it is shown.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from perdure.errors import PerdureError
from perdure.store import TEMPORARY

#: A child that says nothing for so many seconds is taken to hang.
PATIENCE = 120.0
_TICK = 0.02
_WATCH_TICK = 0.001
_SHOW_TICK = 0.1

CHECKPOINT = "a checkpoint"
POLICY = "the best policy"


@dataclass(frozen=True)
class Kill:
    """One SIGKILL.

    :param step: the last step that was reported before.
    :param writing: what was just being written, in words; empty if nothing was.
    """

    step: int
    writing: str


@dataclass
class Training:
    """One training, whatever number of processes it takes.

    :param name: of its directory.
    :param step: the step it is at.
    :param mean: the mean return of the last episodes.
    :param first_mean: the first mean return that was reported.
    :param saves: the milliseconds that each checkpoint took.
    :param kills: what was done to it.
    :param resumed: for each kill after which it got going again: the step at which it went on.
    :param running: whether a process of it has begun to train and is not done.
    """

    name: str
    directory: str
    step: int = 0
    mean: float = 0.0
    first_mean: float = 0.0
    saves: list[float] = field(default_factory=list)
    kills: list[Kill] = field(default_factory=list)
    resumed: list[int] = field(default_factory=list)
    running: bool = False
    done: bool = False

    @property
    def redone(self) -> int:
        """How many steps were done a second time because of the kills."""
        return sum(max(0, kill.step + 1 - at) for kill, at in zip(self.kills, self.resumed, strict=False))


@dataclass(frozen=True)
class Plan:
    """What to train, and how often to kill it."""

    directory: str
    steps: int
    every: int
    seed: int
    kills: int


Listener = Callable[[str, Training], None]


class Process:
    """A child that trains, and a thread that listens to it."""

    def __init__(self, training: Training, plan: Plan) -> None:
        self.training = training
        self.heard = time.monotonic()
        self._first = True
        numbers = map(str, (plan.steps, plan.every, plan.seed))
        self.log = f"{training.directory}.log"
        with open(self.log, "ab") as log:
            # In a process group of its own: Ctrl-C reaches the parent alone, which then ends its children.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "perdure.demo.child", training.directory, *numbers],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # The last line of a process that was killed may be cut off.
            if line.endswith("\n"):
                self._hear(line.split())

    def _hear(self, words: list[str]) -> None:
        self.heard = time.monotonic()
        training = self.training
        match words:
            case ["step", step, mean]:
                if self._first and training.kills:
                    training.resumed.append(int(step))
                self._first = False
                training.step, training.mean = int(step), float(mean)
                training.first_mean = training.first_mean or training.mean
                training.running = True
            case ["saved", _, milliseconds]:
                training.saves.append(float(milliseconds))

    def kill(self) -> None:
        """End it at once (SIGKILL), and wait until it is gone and all it said was heard."""
        self.process.kill()
        self.process.wait()
        self._listener.join(10)
        self.training.running = False

    def ended(self) -> bool:
        """Whether it ended by itself, all done.

        :raises PerdureError: if it ended in another way, or hangs.
        """
        code = self.process.poll()
        if code is None:
            if time.monotonic() - self.heard > PATIENCE:
                raise PerdureError(
                    f"the training in {self.training.directory} hangs: nothing for {PATIENCE:g} s"
                )
            return False
        self._listener.join(10)
        if code != 0:
            with open(self.log, errors="replace") as log:
                tail = log.read()[-2000:].strip()
            raise PerdureError(
                f"the training in {self.training.directory} ended with exit code {code}:\n{tail}"
            )
        self.training.running = False
        self.training.done = True
        return True


def hold(plan: Plan, tell: Listener) -> tuple[Training, Training]:
    """Run both trainings at the same time, until both are done.

    :param tell: is called with what happened, and to which: "killed", "resumed" after a kill, "done"; and
        "step" all the time.
    :return: the one that was killed, and the one that was not.
    :raises PerdureError: if a training fails by itself.
    """
    killed, alone = (
        Training(name, os.path.join(plan.directory, name)) for name in ("killed", "uninterrupted")
    )
    targets = _targets(plan)
    children: list[Process] = []

    told = 0

    def show() -> None:
        nonlocal told
        if len(killed.resumed) > told:
            told = len(killed.resumed)
            tell("resumed", killed)
        for training in (killed, alone):
            tell("step", training)

    try:
        # One by one: whatever happens, each is in the list of those to be ended.
        children.append(Process(killed, plan))
        children.append(Process(alone, plan))
        while not (killed.done and alone.done):
            for child in children:
                if not child.training.done and child.ended():
                    tell("done", child.training)
            if targets and not killed.done and killed.running and killed.step >= targets[0][0]:
                _, in_commit = targets.pop(0)
                _await_moment(children[0], in_commit, show)
                # What was heard meanwhile comes before what happens now.
                show()
                if children[0].process.poll() is None:
                    children[0].kill()
                    killed.kills.append(Kill(killed.step, half_written(killed.directory)))
                    tell("killed", killed)
                    children[0] = Process(killed, plan)
            show()
            time.sleep(_TICK)
    finally:
        for child in children:
            child.kill()
    return killed, alone


def _targets(plan: Plan) -> list[tuple[int, bool]]:
    """When to kill: once in each stretch of the run, at random within it; every other one in a commit."""
    chance = random.SystemRandom()
    stretch = plan.steps / max(1, plan.kills)
    first = chance.random() < 0.5
    return [
        (int(stretch * (index + chance.uniform(0.1, 0.8))), bool((index + first) % 2))
        for index in range(plan.kills)
    ]


def _await_moment(child: Process, in_commit: bool, show: Callable[[], None]) -> None:
    """Wait for a random moment; for one within the next commit, if that is asked for."""
    chance = random.SystemRandom()
    training = child.training
    if not in_commit:
        time.sleep(chance.uniform(0, 0.2))
        return
    saves = len(training.saves)
    shown = time.monotonic()
    while child.process.poll() is None and len(training.saves) == saves:
        if half_written(training.directory) == CHECKPOINT:
            typical = sum(training.saves) / len(training.saves) if saves else 5.0
            time.sleep(chance.uniform(0, 0.8 * typical / 1000))
            return
        if time.monotonic() - shown > _SHOW_TICK:
            show()
            shown = time.monotonic()
        time.sleep(_WATCH_TICK)


def half_written(directory: str) -> str:
    """What was begun in the directory of a run and not finished, in words; empty if there is nothing."""
    packs, checkpoints, policies = (_names(directory, part) for part in ("packs", "checkpoints", "policies"))
    if any(name.startswith(TEMPORARY) for name in packs + checkpoints):
        return CHECKPOINT
    # Between the two: its arrays are there, and the manifest that makes it a checkpoint is not.
    if max(map(_number, packs), default=0) > max(map(_number, checkpoints), default=0):
        return CHECKPOINT
    if any(name.startswith(TEMPORARY) for name in policies + _names(directory, "")):
        return POLICY
    return ""


def _names(directory: str, part: str) -> list[str]:
    try:
        return os.listdir(os.path.join(directory, part))
    except FileNotFoundError:
        return []


def _number(name: str) -> int:
    stem = name.partition(".")[0].partition("-")[0]
    return int(stem) if stem.isdecimal() else 0

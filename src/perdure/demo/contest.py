"""Two trainings: one is killed at random moments and started again until it is done, the other is left alone.

It starts and kills processes. It does not know what they compute, nor how it is shown.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from perdure.errors import PerdureError
from perdure.store import TEMPORARY

#: A process that prints nothing for so many seconds is taken to hang.
PATIENCE = 120.0
_TICK = 0.02
_WATCH_TICK = 0.001
#: So that a kill meets a commit at any moment of it.
_LONGEST_DELAY = 0.01

CHECKPOINT = "a checkpoint"
POLICY = "the best policy"

_chance = random.SystemRandom()


@dataclass(frozen=True)
class DemoConfig:
    """What to train, and how often to kill it."""

    directory: str
    steps: int
    every: int
    seed: int
    kills: int


class Kill(NamedTuple):
    """One SIGKILL.

    :param step: the last step that was reported before.
    :param writing: what was just being written, in words; empty if nothing was.
    """

    step: int
    writing: str


Event = Literal["step", "killed", "resumed", "done"]
Listener = Callable[[Event, "Training"], None]


class Training:
    """One training, however many processes it takes."""

    def __init__(self, name: str, config: DemoConfig) -> None:
        self.name = name
        self.directory = os.path.join(config.directory, name)
        #: The step it is at, and the mean return of the last episodes there.
        self.step = 0
        self.mean = 0.0
        self.first_mean = 0.0
        #: The milliseconds that each checkpoint took.
        self.saves: list[float] = []
        self.kills: list[Kill] = []
        #: For each kill after which it got going again: the step at which it went on.
        self.resumed: list[int] = []
        #: Whether a process of it has begun to train and is not done.
        self.running = False
        self.done = False
        self._numbers = [str(number) for number in (config.steps, config.every, config.seed)]
        self._log = f"{self.directory}.log"
        self._process: subprocess.Popen[str] | None = None
        self._listener = threading.Thread()
        self._heard = 0.0

    @property
    def redone(self) -> int:
        """How many steps were done a second time because of the kills."""
        return sum(max(0, kill.step + 1 - at) for kill, at in zip(self.kills, self.resumed, strict=False))

    def start(self) -> None:
        """Start a process that trains, and a thread that listens to it."""
        self._heard = time.monotonic()
        with open(self._log, "ab") as log:
            # In a process group of its own: Ctrl-C reaches the parent alone, which then ends its children.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "perdure.demo.child", self.directory, *self._numbers],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                process_group=0,
            )
        assert self._process.stdout is not None
        self._listener = threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True)
        self._listener.start()

    def _listen(self, lines: Iterable[str]) -> None:
        first = True
        for line in lines:
            self._heard = time.monotonic()
            # The last line of a process that was killed may be cut off.
            match line.split() if line.endswith("\n") else ():
                case ["step", step, mean]:
                    if first and self.kills:
                        self.resumed.append(int(step))
                    first = False
                    self.step, self.mean = int(step), float(mean)
                    self.first_mean = self.first_mean or self.mean
                    self.running = True
                case ["saved", _, milliseconds]:
                    self.saves.append(float(milliseconds))

    def kill(self) -> None:
        """End its process at once (SIGKILL), and wait until all that it printed was read."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._listener.join(10)
        self.running = False

    @property
    def alive(self) -> bool:
        """Whether its process has not ended."""
        return self._process is not None and self._process.poll() is None

    def check(self) -> None:
        """Find out whether its process has ended, with all steps done.

        :raises PerdureError: if it ended in another way, or hangs.
        """
        if self.alive:
            if time.monotonic() - self._heard > PATIENCE:
                raise PerdureError(f"the training in {self.directory} hangs: nothing for {PATIENCE:g} s")
            return
        self._listener.join(10)
        if self._process is not None and self._process.returncode != 0:
            with open(self._log, errors="replace") as log:
                tail = log.read()[-2000:].strip()
            code = self._process.returncode
            raise PerdureError(f"the training in {self.directory} ended with exit code {code}:\n{tail}")
        self.running, self.done = False, True


def hold(config: DemoConfig, tell: Listener) -> tuple[Training, Training]:
    """Run both trainings at the same time, until both are done.

    :param tell: is called with what happened, and to which; and with "step" all the time.
    :return: the one that was killed, and the one that was not.
    :raises PerdureError: if a training fails by itself.
    """
    killed, alone = Training("killed", config), Training("uninterrupted", config)
    targets = _targets(config)
    told = saves = 0
    waiting = False

    def show() -> None:
        nonlocal told
        if len(killed.resumed) > told:
            told = len(killed.resumed)
            tell("resumed", killed)
        for training in (killed, alone):
            tell("step", training)

    try:
        killed.start()
        alone.start()
        while not (killed.done and alone.done):
            for training in (killed, alone):
                if not training.done:
                    training.check()
                    if training.done:
                        tell("done", training)
            show()
            due = bool(targets) and killed.running and killed.step >= targets[0][0]
            if due and not waiting:
                waiting, saves = True, len(killed.saves)
            if due and (not targets[0][1] or _is_committing(killed) or len(killed.saves) > saves):
                targets.pop(0)
                waiting = False
                time.sleep(_chance.uniform(0, _LONGEST_DELAY))
                # What was heard meanwhile comes before what happens now.
                show()
                if killed.alive:
                    killed.kill()
                    killed.kills.append(Kill(killed.step, half_written(killed.directory)))
                    tell("killed", killed)
                    killed.start()
            time.sleep(_WATCH_TICK if waiting else _TICK)
    finally:
        killed.kill()
        alone.kill()
    return killed, alone


def _targets(config: DemoConfig) -> list[tuple[int, bool]]:
    """When to kill: once in each stretch of the run, at random within it; every other time within a commit."""
    stretch = config.steps / max(1, config.kills)
    first = _chance.random() < 0.5
    return [
        (int(stretch * (index + _chance.uniform(0.1, 0.8))), bool((index + first) % 2))
        for index in range(config.kills)
    ]


def _is_committing(training: Training) -> bool:
    return half_written(training.directory) == CHECKPOINT


def half_written(directory: str) -> str:
    """What was begun in the directory of a run and not finished, in words; empty if there is nothing."""
    run = Path(directory)
    packs, checkpoints = (
        max((file.name[:8] for file in run.glob(f"{part}/[0-9]*")), default="")
        for part in ("packs", "checkpoints")
    )
    # Its arrays are there, and the manifest that makes it a checkpoint is not.
    if (
        packs > checkpoints
        or any(run.glob(f"packs/{TEMPORARY}*"))
        or any(run.glob(f"checkpoints/{TEMPORARY}*"))
    ):
        return CHECKPOINT
    return POLICY if any(run.glob(f"policies/{TEMPORARY}*")) or any(run.glob(f"{TEMPORARY}*")) else ""

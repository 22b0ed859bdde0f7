"""Kills a training again and again, at random instants, while others read its run; nothing committed may be lost.

    python tests/reliability/kills.py --kills 300 --minutes 20

Each training is a process of its own (forked from one that has imported everything, so that a kill costs little), and
is killed with SIGKILL after a random time: while it starts, resumes, steps, commits, deletes or publishes. It announces
every checkpoint through a pipe before it goes on. Meanwhile readers open the run, read the newest checkpoint and the
best policy, and must never fail. After each kill the run is checked; at the end it must equal a run that nobody
interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

# All of it before the fork: a training must be killed in what it does, not while it imports.
from perdure import Run, World, load_policy
from perdure.errors import DamagedError, PerdureError
from perdure.state import CLOCKS, diff
from perdure.store import Store

TOTAL = 80
EVERY = 2
KEEP = 3
#: Files that a run of this size may consist of at any time, with what a killed process left; far less than pile up when
#: something is never removed.
MOST_FILES = 80


@dataclass
class Tally:
    """What a campaign saw."""

    kills: int = 0
    in_a_write: int = 0
    trainings: int = 0
    commits: int = 0
    reads: int = 0
    policies: int = 0
    overtaken: int = 0
    most_files: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills ({self.in_a_write} with a half-written file) in {self.trainings} trainings with "
            f"{self.commits} announced checkpoints, {self.reads} checkpoints and {self.policies} policies read "
            f"meanwhile ({self.overtaken} deleted while they were read), at most {self.most_files} files, in "
            f"{self.seconds:.0f} s; problems: {len(self.problems)}"
        )


def train(directory: Path, announce: int | None = None) -> None:
    """A training whose every step depends on all before it."""
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    world = World(
        model=model,
        optimizer=torch.optim.Adam(model.parameters()),
        replay=np.zeros((512, 8), np.float32),
        total=np.zeros(1),
        done=0,
    )
    with Run(directory, keep=KEEP) as run:
        for step in run.steps(world, TOTAL, every=EVERY):
            if announce is not None and run.last is not None:
                os.write(announce, f"{run.last.step}\n".encode())
            world.replay[step % 512] = np.random.rand(8)
            batch = torch.as_tensor(world.replay[np.random.randint(0, min(step + 1, 512), 16)])
            world.optimizer.zero_grad()
            loss = (model(batch) - 1).square().mean()
            loss.backward()
            world.optimizer.step()
            world.total += loss.item()
            world.done = step + 1
            if step % 15 == 14:
                run.report_score(step - loss.item(), world)


def read(directory: Path, reads: int, seconds: float, report: Callable[[str], None]) -> None:
    """Read the newest checkpoint and the best policy, over and over."""
    while not (directory / "run.json").exists():
        time.sleep(0.002)
    ends = time.monotonic() + seconds
    for _ in itertools.takewhile(lambda _: time.monotonic() < ends, range(reads)):
        with Store.open(directory) as store:
            found = store.latest()
            if found is not None:
                fields = found.state.root.fields["done"], found.state.root.fields["replay"]
                assert fields[0] == found.info.step, (
                    f"{fields[0]} steps in the checkpoint of step {found.info.step}"
                )
                try:
                    content = bytearray(fields[1].data.nbytes)
                    fields[1].data.read_into(memoryview(content))
                except (DamagedError, FileNotFoundError):
                    # Only what retention deleted after it was found may be gone.
                    if found.info.number in [info.number for info in store.checkpoints()]:
                        raise
                    report("overtaken")
                else:
                    rows = np.frombuffer(content, np.float32).reshape(512, 8)
                    assert np.count_nonzero(rows.any(axis=1)) == min(found.info.step, 512)
                    report("read")
        if (directory / "policy.pt").exists():
            load_policy(directory, trust=[torch.nn])
            report("policy")
        time.sleep(0.02)


def forked(function: Callable[[], None], errors: Path) -> int:
    """The id of a child that runs `function`; what it raises is written to `errors`."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        function()
        code = 0
    except BaseException:
        errors.write_text(traceback.format_exc())
    finally:
        os._exit(code)


class Reader:
    """A process that reads until it is stopped, and counts."""

    def __init__(self, directory: Path, seconds: float) -> None:
        self.errors = directory.with_name(f"{directory.name}.reader-{random.randrange(1 << 40):x}")
        self._pipe, write = os.pipe()
        self.pid = forked(
            lambda: read(directory, 1 << 30, seconds, lambda what: _tell(write, what)), self.errors
        )
        os.close(write)

    def stop(self, tally: Tally) -> None:
        os.kill(self.pid, signal.SIGTERM)
        _, status = os.waitpid(self.pid, 0)
        with os.fdopen(self._pipe) as pipe:
            seen = pipe.read().split()
        tally.reads += seen.count("read")
        tally.policies += seen.count("policy")
        tally.overtaken += seen.count("overtaken")
        if self.errors.exists():
            tally.problems.append(f"a reader failed:\n{self.errors.read_text()}")
        elif not os.WIFSIGNALED(status) and os.WEXITSTATUS(status):
            tally.problems.append(f"a reader ended with {os.WEXITSTATUS(status)}")


def _tell(fd: int, what: str) -> None:
    with contextlib.suppress(BlockingIOError):
        os.set_blocking(fd, False)
        os.write(fd, f"{what}\n".encode())


@contextmanager
def readers(directory: Path, count: int, tally: Tally, seconds: float) -> Iterator[None]:
    running = [Reader(directory, seconds) for _ in range(count)]
    try:
        yield
    finally:
        for reader in running:
            reader.stop(tally)


def live(directory: Path, delay: float | None) -> tuple[bool, int, str]:
    """One life of the training, for at most `delay` seconds: whether it was killed, the last step it announced, and its
    error."""
    errors = directory.with_name(f"{directory.name}.error")
    pipe, write = os.pipe()
    pid = forked(lambda: train(directory, write), errors)
    os.close(write)
    killed = False
    if delay is not None:
        ends = time.monotonic() + delay
        while time.monotonic() < ends and not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(min(0.002, max(0.0, ends - time.monotonic())))
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    killed = os.WIFSIGNALED(status)
    with os.fdopen(pipe) as file:
        steps = [int(line) for line in file.read().split()]
    return killed, max(steps, default=0), errors.read_text() if errors.exists() else ""


def inspect(directory: Path, at_least: int, tally: Tally) -> None:
    """What must hold right after a kill, before anybody has cleaned up."""
    files = [name for _, _, names in os.walk(directory) for name in names]
    tally.most_files = max(tally.most_files, len(files))
    tally.in_a_write += any(name.startswith(".tmp-") for name in files)
    if len(files) > MOST_FILES:
        tally.problems.append(f"leftovers pile up: {len(files)} files: {sorted(files)}")
    if not at_least:
        return
    try:
        with Store.open(directory) as store:
            found = store.latest()
            if found is None or found.info.step < at_least:
                tally.problems.append(
                    f"step {at_least} was announced, and {found and found.info.step} is there"
                )
            if harm := [problem for problem in store.verify() if not problem.harmless]:
                tally.problems.append(f"after a kill: {harm}")
    except PerdureError as error:
        tally.problems.append(f"after a kill: {error}")


def compare(directory: Path, whole: Path, tally: Tally) -> None:
    """The end must be that of a run that nobody interrupted, and nothing may be left behind."""
    with Store.open(directory) as ours, Store.open(whole) as theirs:
        a, b = ours.latest(), theirs.latest()
        assert a is not None
        assert b is not None
        if a.info.step != b.info.step:
            tally.problems.append(f"ended at step {a.info.step}, expected {b.info.step}")
        tally.problems += [
            f"the end differs: {each}" for each in diff(a.state, b.state, ignore=(*CLOCKS, "rng.numba*"))
        ]
        if problems := ours.verify():
            tally.problems.append(f"at the end: {problems}")
    if left := [
        name for _, *both in os.walk(directory) for name in itertools.chain(*both) if name.startswith(".tmp-")
    ]:
        tally.problems.append(f"left behind at the end: {left}")


def campaign(
    where: Path, kills: int, minutes: float, seed: int = 0, say: Callable[[str], None] = lambda line: None
) -> Tally:
    """Kill so often, or for so long; then let the last training end, and compare."""
    torch.set_num_threads(1)
    began, tally, draw = time.monotonic(), Tally(), random.Random(seed)
    ends = began + minutes * 60
    whole = where / "whole"
    killed, _, error = live(whole, None)
    if killed or error:
        raise RuntimeError(f"the uninterrupted training failed: {error}")
    # One life takes about an eighth of the training, however fast the machine is.
    span = max(0.05, (time.monotonic() - began) / 4)
    while tally.kills < kills and time.monotonic() < ends and not tally.problems:
        tally.trainings += 1
        directory = where / f"run{tally.trainings}"
        last, barren = 0, 0
        with readers(directory, 2, tally, max(1.0, ends - time.monotonic()) + 600):
            while not tally.problems:
                enough = tally.kills >= kills or time.monotonic() >= ends
                # Now and then right at the start: while it takes the lock and cleans up.
                delay = draw.choice([span * (1 + barren), span * (1 + barren), span / 10])
                killed, step, error = live(directory, None if enough else draw.uniform(0, delay))
                if error:
                    tally.problems.append(f"the training failed:\n{error}")
                if not killed:
                    break
                tally.kills += 1
                tally.commits += max(0, step - last) // EVERY
                barren = 0 if step > last else barren + 1
                last = max(last, step)
                inspect(directory, last, tally)
                if tally.kills % 50 == 0:
                    say(str(tally))
        if not tally.problems:
            compare(directory, whole, tally)
            shutil.rmtree(directory)
    tally.seconds = time.monotonic() - began
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--directory", type=Path, help="on the file system to try; default: a temporary directory"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perdure-kills-", dir=given.directory) as where:
        tally = campaign(
            Path(where), given.kills, given.minutes, given.seed, lambda line: print(line, flush=True)
        )
    print(tally)
    print("\n".join(tally.problems))
    return 1 if tally.problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""A KeyboardInterrupt anywhere in a checkpoint: the run is as before or as after, and goes on."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
import torch

import perdure
from perdure.errors import CaptureError, LockedError, StoreError
from perdure.snapshot import _stager
from perdure.state import restore
from perdure.store import CheckpointInfo, Store

# Their loops take checkpoints, and no test goes on with what a loop carries.
pytestmark = pytest.mark.filterwarnings("ignore:the loop carries state")

SOURCES = os.path.dirname(perdure.__file__)
ROWS = 300


class Buffer:
    def __init__(self) -> None:
        self.rows, self.position, self.total = ROWS, 0, 0
        self.obs = np.zeros((ROWS, 16))


perdure.register_rows(Buffer, ["obs"], rows="rows", position="position", written="total")


def made() -> perdure.World:
    return perdure.World(buffer=Buffer(), big=np.zeros(4000), log=[], net=np.zeros(7), done=0)


def work(world: perdure.World, step: int) -> None:
    draw = random.Random(step)
    for _ in range(draw.randint(1, 40)):
        world.buffer.obs[world.buffer.position] = draw.random()
        world.buffer.position = (world.buffer.position + 1) % ROWS
        world.buffer.total += 1
    world.big[draw.randrange(4000)] = step
    world.net += draw.random()
    world.log.append(step)
    world.done = step


def content(world: perdure.World) -> tuple[Any, ...]:
    buffer = world.buffer
    arrays = (buffer.obs.tobytes(), world.big.tobytes(), world.net.tobytes())
    return (*arrays, buffer.position, buffer.total, tuple(world.log), world.done)


class Interrupting:
    """Raises KeyboardInterrupt at the n-th place that the main thread comes to within Perdure.

    :param lines: whether each line is a place; otherwise those where a signal handler can really run: when a function
        begins, and when one written in C returns.
    """

    def __init__(self, at: int, *, lines: bool) -> None:
        self.at = at
        self.lines = lines
        self.places = 0

    def __enter__(self) -> Interrupting:
        if self.lines:
            sys.settrace(self._trace)
        else:
            sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(None)
        sys.setprofile(None)

    def _pass(self) -> None:
        self.places += 1
        if self.places == self.at:
            raise KeyboardInterrupt

    def _trace(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(SOURCES):
            return None
        if event == "line":
            self._pass()
        return self._trace

    def _profile(self, frame: FrameType, event: str, arg: object) -> None:
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(SOURCES):
            self._pass()


def interrupted(directory: Path, at: int, *, lines: bool, wait: bool) -> int:
    """Take checkpoints, one of which is interrupted; returns how many places there are."""
    world, expected = made(), {}
    run = perdure.Run(directory, keep=20)
    run.resume(world)
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    score = 0.0
    with Interrupting(at, lines=lines) as interrupting:
        sys.settrace(None)
        sys.setprofile(None)
        for step in range(1, 8):
            work(world, step)
            expected[step] = content(world)
            if step in (2, 6):
                score += 1
                run.report_score(score, {"policy": POLICY})
            if step != 4:
                run.checkpoint(world, step, wait=step % 2 == 0)
                continue
            try:
                with interrupting:
                    run.checkpoint(world, step, wait=wait)
                    run.maybe_checkpoint(world, step, every=100)
                    run.flush()
            except KeyboardInterrupt:
                pass
    run.close()
    if not lines:
        assert gc.isenabled()
        assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with Store.open(directory) as store:
        assert store.verify() == []
        infos = store.checkpoints()
    steps = [info.step for info in infos]
    assert [step for step in steps if step != 4] == [1, 2, 3, 5, 6, 7]
    assert [info.step for info in infos if "best" in info.tags] == [2, 6]
    check(directory, infos, expected)
    return interrupting.places


def check(directory: Path, infos: Sequence[CheckpointInfo], expected: dict[int, Any]) -> None:
    """Restore each checkpoint, and compare it with what was there when it was taken."""
    with Store.open(directory) as store:
        for info in infos:
            fresh = made()
            restore(store.read(info.number).state, fresh, strict=False)  # without the run's own part
            assert content(fresh) == expected[info.step], info.step


POLICY = torch.nn.Linear(2, 1)


def in_a_child(directory: Path, call: Callable[[], int]) -> str:
    """Call in a forked child; returns what went wrong."""
    there, here = os.pipe()
    if (child := os.fork()) == 0:
        said = "it died"
        try:
            os.close(there)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            signal.alarm(60)  # a hang is a failure
            call()
            said = ""
        except BaseException as error:
            said = "".join(traceback.format_exception(error))[-3000:]
        finally:
            os.write(here, said.encode())
            os._exit(0)
    os.close(here)
    with open(there) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said or ("" if status == 0 else f"it ended with {status}")


@pytest.fixture(autouse=True)
def small_arrays_count_as_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stager, "SMALL", 1 << 10)
    monkeypatch.setattr(_stager, "LEAST_CHUNK", 1 << 8)


def test_an_interrupt_in_some_places_of_a_checkpoint(tmp_path: Path) -> None:
    interrupt_everywhere(tmp_path, sample=3)


@pytest.mark.campaign
def test_an_interrupt_in_every_place_of_a_checkpoint(tmp_path: Path) -> None:
    interrupt_everywhere(tmp_path, sample=None)


def interrupt_everywhere(tmp_path: Path, sample: int | None) -> None:
    draw = random.Random(int(os.environ.get("SURVIVAL_SEED", "1")))
    for lines in (False, True):
        for wait in (False, True):
            places = interrupted(tmp_path / f"{lines}{wait}", 0, lines=lines, wait=wait)
            assert places > 300
            chosen = range(1, places + 1)
            for at in chosen if sample is None else sorted(draw.sample(chosen, sample)):
                directory = tmp_path / f"{lines}{wait}{at}"
                call = lambda: interrupted(directory, at, lines=lines, wait=wait)  # noqa: B023, E731
                said = in_a_child(directory, call)
                assert not said, f"lines={lines} wait={wait} at={at}: {said}"


def test_an_alarm_of_the_scripts_own_at_any_moment(tmp_path: Path) -> None:
    """With real signals, at random moments, also while it is waited for."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    draw = random.Random(5)
    before = signal.signal(signal.SIGALRM, ring)
    world, expected = made(), {}
    run = perdure.Run(tmp_path / "run", keep=100)
    run.resume(world)
    try:
        for step in range(1, 41):
            work(world, step)
            expected[step] = content(world)
            try:
                signal.setitimer(signal.ITIMER_REAL, draw.uniform(1e-4, 0.01))
                run.checkpoint(world, step, wait=bool(step % 2))
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                pass
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    run.close()
    with Store.open(tmp_path / "run") as store:
        assert store.verify() == []
        infos = store.checkpoints()
    assert infos
    check(tmp_path / "run", infos, expected)


def test_a_row_that_was_written_when_a_look_at_the_buffer_was_interrupted_is_not_forgotten(
    tmp_path: Path,
) -> None:
    world = made()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        work(world, 1)
        run.checkpoint(world, 1)
        work(world, 2)
        for at in range(1, 40):
            try:
                with Interrupting(at, lines=True):
                    run._checkpointer.stager.observe()
            except KeyboardInterrupt:
                pass
        run.checkpoint(world, 2)
        expected = content(world)
    fresh = made()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(fresh)
    assert content(fresh) == expected


# -- a notebook's cell that runs again -----------------------------------------------------------------------------


def test_a_cell_that_runs_again_takes_the_run_over(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGTERM)

    def cell(stop: int) -> tuple[perdure.Run, perdure.World]:
        world = made()
        run = perdure.Run(tmp_path / "run", lock_timeout=0)
        for step in run.steps(world, 10, every=2):
            if step == stop:
                raise KeyboardInterrupt
            work(world, step + 1)
        return run, world

    # The traceback keeps the first run alive in the middle of its loop, as a notebook does.
    with pytest.raises(KeyboardInterrupt) as kept:
        cell(5)
    old = kept.tb.tb_next.tb_frame.f_locals["run"]  # type: ignore[union-attr]
    run, world = cell(100)
    whole = made()
    for step in range(1, 11):
        work(whole, step)
    assert content(world) == content(whole)
    for use in (
        lambda: old.checkpoint(made(), 1),
        lambda: old.maybe_checkpoint(made(), 1),
        lambda: old.resume(made()),
        lambda: old.report_score(1.0, {"policy": POLICY}),
    ):
        with pytest.raises(StoreError, match="opened anew in this process"):
            use()
    old.close()
    run.checkpoint(world, 11)
    run.close()
    assert signal.getsignal(signal.SIGTERM) == handler


def test_a_run_that_another_thread_is_using_is_not_taken_over(tmp_path: Path) -> None:
    opened, go_on = threading.Event(), threading.Event()

    def train() -> None:
        with perdure.Run(tmp_path / "run") as run:
            run.checkpoint(made(), 1)
            opened.set()
            go_on.wait(60)
            run.checkpoint(made(), 2)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        opened.wait(60)
        with pytest.raises(LockedError, match="another thread of this process"):
            perdure.Run(tmp_path / "run", lock_timeout=0)
    finally:
        go_on.set()
        thread.join()
    with perdure.Run(tmp_path / "run", lock_timeout=0) as run:
        assert run.resume(made()).step == 2  # type: ignore[union-attr]


def test_a_world_that_is_half_restored_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = made()
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        work(world, 1)
        run.checkpoint(world, 1)
    with perdure.Run(tmp_path / "run") as run:
        with monkeypatch.context() as patch:

            def interrupt(*given: object, **more: object) -> None:
                raise KeyboardInterrupt

            patch.setattr("perdure.state.Restoration.apply", interrupt)
            with pytest.raises(KeyboardInterrupt):
                run.resume(made())
        with pytest.raises(perdure.errors.RestoreError, match="half restored"):
            run.checkpoint(made(), 2)
        again = made()
        run.resume(again)
        assert content(again) == content(world)
        run.checkpoint(again, 2)


# -- other threads -------------------------------------------------------------------------------------------------


def changing(array: Any, stop: threading.Event, lock: Any) -> None:
    number = 0
    while not stop.is_set():
        with lock:
            number += 1
            array[:] = number


def checkpoints(run: perdure.Run, world: perdure.World, number: int) -> None:
    for step in range(number):
        run.checkpoint(world, step)


def test_an_array_that_another_thread_changes_is_not_saved_torn_and_with_the_lock_it_is_whole(
    tmp_path: Path,
) -> None:
    world = perdure.World(steady=np.arange(5.0), shared=np.zeros(2_000_000))
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        stop = threading.Event()
        thread = threading.Thread(target=changing, args=(world.shared, stop, threading.Lock()), name="actor")
        thread.start()
        try:
            with pytest.raises(CaptureError, match=r"captured: shared\. The threads: actor\. .*run\.lock"):
                checkpoints(run, world, 100)  # one may happen to be taken between two writes
        finally:
            stop.set()
            thread.join()
        stop.clear()
        thread = threading.Thread(target=changing, args=(world.shared, stop, run.lock))
        thread.start()
        try:
            for step in (102, 103, 104):
                run.checkpoint(world, step)
        finally:
            stop.set()
            thread.join()
    fresh = perdure.World(steady=np.arange(5.0), shared=np.zeros(2_000_000))
    with perdure.Run(tmp_path / "run") as run:
        run.resume(fresh)
    assert len(np.unique(fresh.shared)) == 1

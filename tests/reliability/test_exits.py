"""However a training ends, what was to be saved is saved or it is said that it was not. In real processes."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prepared_process import Started, Starter

from perdure import Run
from perdure.store import Store

#: What every script begins with. `BACKGROUND` says whether a thread writes the checkpoints.
PRELUDE = """
import atexit, errno, os, signal, sys, threading, time
import numpy as np
import perdure

BACKGROUND = {background}
directory = sys.argv[1]
world = perdure.World(total=np.zeros(1), replay=np.zeros(50_000), done=0)

def open_run(**more):
    return perdure.Run(directory, background=BACKGROUND, **more)

def work(step):
    world.total += step
    world.replay[step % 50_000] = step
    world.done = step + 1

def slow_disk(seconds):
    real = os.fsync
    def fsync(fd):
        time.sleep(seconds)
        real(fd)
    os.fsync = fsync

def full_disk():
    def fsync(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync = fsync
"""

Launch = Callable[..., Started]


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    starter = Starter()
    yield starter
    starter.close()


@pytest.fixture(params=[True, False], ids=["background", "foreground"])
def background(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def launch(starter: Starter, tmp_path: Path, background: bool) -> Launch:
    def launch(script: str) -> Started:
        return launched(starter, script, tmp_path, background)

    return launch


def launched(starter: Starter, script: str, where: Path, background: bool) -> Started:
    path = where / "script.py"
    path.write_text(PRELUDE.format(background=background) + textwrap.dedent(script))
    return starter.start(path, where / "run", where=where)


def steps_in(run: Path) -> list[int]:
    """The steps of the checkpoints, all of which are whole; nothing is left behind by the next writer."""
    Run(run).close()
    assert not list(run.rglob(".tmp-*"))
    with Store.open(run) as store:
        assert store.verify() == []
        infos = store.checkpoints()
        for info in infos:
            fields = store.read(info.number).state.root.fields
            assert fields["done"] == info.step
        return [info.step for info in infos]


LOOP = """
with open_run() as run:
    for step in run.steps(world, 100_000, every=1000):
        if step == 5:
            print("going", flush=True)
        time.sleep(0.001)
        work(step)
"""

TICKS = """
with open_run() as run, run.guard():
    run.resume(world)
    for step in range(100_000):
        if step == 5:
            print("going", flush=True)
        time.sleep(0.001)
        work(step)
        run.maybe_checkpoint(world, step + 1, every=1000)
"""


@pytest.mark.parametrize("script", [LOOP, TICKS], ids=["steps", "tick"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_the_step_it_came_in(
    launch: Launch, tmp_path: Path, script: str, number: signal.Signals
) -> None:
    process = launch(script)
    process.says("going")
    os.kill(process.pid, number)
    assert process.wait() == 128 + number
    (step,) = steps_in(tmp_path / "run")
    assert step > 5
    assert f"{number.name}: step {step} is saved in" in process.errors
    assert "Traceback" not in process.errors


def start_in_terminal(tmp_path: Path, script: str) -> tuple[int, int]:
    """A script as the only process in a terminal of its own; its id, and the terminal's other end."""
    text = PRELUDE.format(background=True) + textwrap.dedent(script)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", text, str(tmp_path / "run")])
    return pid, terminal


def hear(terminal: int, words: str) -> None:
    heard = b""
    while words.encode() not in heard:
        heard += os.read(terminal, 4096)


CHATTY = """
    with open_run() as run:
        for step in run.steps(world, 100_000, every=1000):
            if step == 5:
                print("going", flush=True)
            time.sleep(0.01)
            work(step)
            print("step", step, flush=True)
            print("step", step, file=sys.stderr)
    """


def test_a_terminal_that_is_closed_saves_the_step_although_the_script_prints(tmp_path: Path) -> None:
    """The system tells it with SIGHUP; whatever is printed afterwards would be an error in the middle of the step."""
    pid, terminal = start_in_terminal(tmp_path, CHATTY)
    hear(terminal, "going")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    (step,) = steps_in(tmp_path / "run")
    assert 5 < step < 100_000


def test_a_hangup_that_is_told_twice_is_no_second_signal(launch: Launch, tmp_path: Path) -> None:
    """The system and the shell both tell it, and a service manager after SIGTERM."""
    process = launch("""
        with open_run() as run:
            for step in run.steps(world, 100_000, every=1000):
                work(step)
                if step == 3:
                    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP):
                        os.kill(os.getpid(), number)
        """)
    assert process.wait() == 143
    assert steps_in(tmp_path / "run") == [4]


def test_another_signal_after_a_hangup_leaves_at_once(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        with open_run() as run:
            for step in run.steps(world, 100_000, every=1000):
                work(step)
                if step == 3:
                    os.kill(os.getpid(), signal.SIGHUP)
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(60)
        """)
    assert process.wait() == -signal.SIGTERM
    assert steps_in(tmp_path / "run") == []


def test_what_nohup_started_goes_on_when_the_terminal_is_closed(tmp_path: Path) -> None:
    script = """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does, which leads what is printed elsewhere too
    terminal = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.write(terminal, b"going")
    gone = os.path.join(os.path.dirname(directory), "gone")
    with open_run() as run:
        for step in run.steps(world, 20, every=5):
            while step == 3 and not os.path.exists(gone):
                time.sleep(0.01)
            work(step)
    """
    pid, terminal = start_in_terminal(tmp_path, script)
    hear(terminal, "going")
    os.close(terminal)
    (tmp_path / "gone").touch()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert steps_in(tmp_path / "run")[-1] == 20


def test_a_signal_while_a_checkpoint_is_being_written(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        with open_run() as run:
            for step in run.steps(world, 100_000, every=10):
                work(step)
                if step == 10:
                    slow_disk(0.05)
                    os.kill(os.getpid(), signal.SIGTERM)
        """)
    assert process.wait() == 143
    assert steps_in(tmp_path / "run")[-1] == 11


def test_a_signal_that_cannot_be_obeyed_because_the_disk_is_full_is_reported(
    launch: Launch, tmp_path: Path
) -> None:
    process = launch("""
        with open_run() as run:
            for step in run.steps(world, 100_000, every=10):
                work(step)
                if step == 15:
                    run.flush()
                    full_disk()
                    os.kill(os.getpid(), signal.SIGTERM)
        """)
    assert process.wait() == 1
    assert "no space is left" in process.errors
    assert "step 16 is saved" not in process.errors
    assert steps_in(tmp_path / "run") == [10]


def test_a_signal_outside_of_a_loop_ends_the_process_and_loses_nothing_committed(
    launch: Launch, tmp_path: Path
) -> None:
    process = launch("""
        run = open_run()
        work(0)
        run.checkpoint(world, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        """)
    assert process.wait() == -signal.SIGTERM
    assert steps_in(tmp_path / "run") == [1]


def test_a_handler_of_the_scripts_own_is_back_after_the_loop(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        signal.signal(signal.SIGTERM, lambda number, frame: print("mine", flush=True))
        with open_run() as run:
            for step in run.steps(world, 3):
                work(step)
            os.kill(os.getpid(), signal.SIGTERM)
        """)
    assert process.wait() == 0
    assert process.output == "mine\n"
    assert steps_in(tmp_path / "run") == [3]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('a mistake')", 1, "ValueError: a mistake"),
        ("raise KeyboardInterrupt", -signal.SIGINT, "KeyboardInterrupt"),
        ("raise SystemExit", 0, ""),
        ("break", 0, ""),
    ],
)
def test_a_loop_that_ends_early_leaves_what_was_due(
    launch: Launch, tmp_path: Path, end: str, code: int, said: str
) -> None:
    """Also what the thread was still writing."""
    process = launch(f"""
        run = open_run()
        for step in run.steps(world, 100, every=2):
            if step == 4:
                {end}
            work(step)
            slow_disk(0.02)
        """)
    assert process.wait() == code
    assert said in process.errors
    assert steps_in(tmp_path / "run") == [2, 4]


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise ValueError('a mistake')", "break", "pass"])
def test_what_could_not_be_saved_before_a_loop_ended_is_reported(
    launch: Launch, tmp_path: Path, end: str
) -> None:
    process = launch(f"""
        run = open_run()
        for step in run.steps(world, 6, every=2):
            if step == 4:
                {end}
            work(step)
            if step == 2:
                run.flush()
                full_disk()
        """)
    code = process.wait()
    assert "no space is left" in process.errors
    assert code != 0 or end == "break"  # which leaves no error that could be raised anywhere
    assert steps_in(tmp_path / "run") == [2]


def test_an_exception_in_a_handler_leaves_the_best_policy_before_it(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        import torch
        from perdure.persistence import Persistence, PolicyPersistence

        class Broken(Persistence):
            def persist(self, event, world):
                if world.done > 2:
                    raise ValueError("the handler's mistake")

            def restore(self, event, world):
                pass

        model = torch.nn.Linear(2, 1)
        with open_run(persistence=PolicyPersistence(Broken())) as run:
            for step in run.steps(world, 100, every=2):
                work(step)
                if step in (1, 3):
                    run.report_score(float(step), world, policy=model)
        """)
    assert process.wait() == 1
    assert "ValueError: the handler's mistake" in process.errors
    assert steps_in(tmp_path / "run") == [2]
    assert '"score": 1.0' in (tmp_path / "run" / "best.json").read_text()
    assert not [path for path in (tmp_path / "run" / "policies").iterdir() if path.name.startswith(".")]


# -- the end of the interpreter ---------------------------------------------------------------------------------------


def test_a_run_that_nobody_closes_saves_what_it_was_asked_for(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        slow_disk(0.02)
        run = open_run()
        work(0)
        run.checkpoint(world, 1, wait=False)
        """)
    assert process.wait() == 0
    assert steps_in(tmp_path / "run") == [1]


def test_a_run_that_nobody_closes_reports_what_it_could_not_save(starter: Starter, tmp_path: Path) -> None:
    script = """
        run = open_run()
        full_disk()
        work(0)
        run.checkpoint(world, 1, wait=False)
        """
    process = launched(starter, script, tmp_path, background=True)
    process.wait()
    assert "could not be written" in process.errors
    assert "no space is left" in process.errors
    assert steps_in(tmp_path / "run") == []


def test_a_checkpoint_while_the_interpreter_shuts_down(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        run = open_run()
        @atexit.register
        def save():
            work(0)
            run.checkpoint(world, 1)
        sys.exit(4)
        """)
    assert process.wait() == 4
    assert steps_in(tmp_path / "run") == [1]


def test_a_close_that_could_not_save_raises(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        with open_run() as run:
            full_disk()
            run.checkpoint(world, 0, wait=False)
        print("not reached")
        """)
    assert process.wait() == 1
    assert "StoreError" in process.errors
    assert process.output == ""


# -- other processes of the training ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)", "raise ValueError", "pass"])
def test_a_forked_child_ends_as_it_likes(launch: Launch, tmp_path: Path, end: str) -> None:
    """Whether it ends at once or as an interpreter does, the run is its parent's."""
    process = launch(f"""
        slow_disk(0.01)
        run = open_run()
        for step in run.steps(world, 6, every=1):
            work(step)
            if step == 3 and os.fork() == 0:
                {end}
                os._exit(0)
        os.wait()
        try:
            perdure.store.Store.open(directory, write=True, wait=0)
        except perdure.errors.LockedError:
            print("held")
        run.close()
        """)
    assert process.wait() == 0
    assert process.output.count("held") == 1
    assert steps_in(tmp_path / "run") == [4, 5, 6]


def test_a_forked_child_that_saves_is_told_that_it_must_not(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        run = open_run()
        work(0)
        run.checkpoint(world, 1)
        if os.fork() == 0:
            try:
                work(1)
                run.checkpoint(world, 2)
            except perdure.errors.StoreError as error:
                print(error, flush=True)
            os._exit(0)
        os.wait()
        work(1)
        run.checkpoint(world, 2)
        """)
    assert process.wait() == 0
    assert "must not write" in process.output
    assert steps_in(tmp_path / "run") == [1, 2]


def test_a_signal_to_a_forked_child_ends_the_child_alone(launch: Launch, tmp_path: Path) -> None:
    process = launch("""
        with open_run() as run:
            for step in run.steps(world, 10, every=5):
                work(step)
                if step == 3:
                    ready, tell = os.pipe()
                    if (child := os.fork()) == 0:
                        # Python drops a signal that comes before the child is a process of its own.
                        os.write(tell, b"x")
                        time.sleep(60)
                        os._exit(0)
                    os.read(ready, 1)
                    os.kill(child, signal.SIGTERM)
                    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """)
    assert process.wait() == 0
    assert process.output == "-15\n"
    assert steps_in(tmp_path / "run") == [5, 10]


WORKER = """
import multiprocessing

def worker(pipe, ignore):
    if ignore:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (asked := pipe.recv()) is not None:
        time.sleep(0.01)
        pipe.send(asked + 1)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[2])
    ours, theirs = context.Pipe()
    process = context.Process(target=worker, args=(theirs, sys.argv[3] == "ignores"), daemon=True)
    process.start()
    theirs.close()
    ours.send(0)
    ours.recv()
    with open_run() as run:
        for step in run.steps(world, 100_000, every=20):
            if step == 30:
                print("going", flush=True)
            ours.send(step)
            assert ours.recv() == step + 1
            work(step)
"""


def start_with_worker(tmp_path: Path, method: str, how: str) -> subprocess.Popen[str]:
    # From a file, because that is where a spawned worker finds what it is to do.
    script = tmp_path / "script.py"
    script.write_text(PRELUDE.format(background=True) + WORKER)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "run"), method, how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    return process


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_environments_in_other_processes_end_with_a_training_that_was_asked_to_stop(
    tmp_path: Path, method: str
) -> None:
    process = start_with_worker(tmp_path, method, "obeys")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    step = steps_in(tmp_path / "run")[-1]
    assert f"step {step} is saved in" in said
    assert step > 30


@pytest.mark.parametrize("how", ["ignores", "obeys"])
def test_ctrl_c_goes_to_the_environments_too(tmp_path: Path, how: str) -> None:
    """A terminal sends it to every process. If the workers end by it, the step cannot be done, and that is said."""
    process = start_with_worker(tmp_path, "fork", how)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    steps = steps_in(tmp_path / "run")
    if how == "ignores":
        assert process.returncode == 130, said
        assert f"step {steps[-1]} is saved in" in said
        assert steps[-1] > 30
    else:
        assert process.returncode in (1, 130), said
        saved = f"step {steps[-1]} is saved in"
        assert any(each in said for each in (saved, "EOFError", "BrokenPipeError", "ConnectionResetError"))
    assert steps[-1] >= 20


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_training_that_is_killed_is_no_obstacle_for_the_next_although_its_workers_live(
    tmp_path: Path, method: str
) -> None:
    process = start_with_worker(tmp_path, method, "obeys")
    process.kill()
    process.wait()
    assert steps_in(tmp_path / "run")[-1] >= 20
    # A forked worker has the training's end of the pipe too, and waits on it for ever.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)

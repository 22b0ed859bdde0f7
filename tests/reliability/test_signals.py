"""What schedulers, terminals and launchers send: the step is saved, in the time that there is. In real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from prepared_process import Started, Starter
from test_exits import LOOP, PRELUDE, launched, steps_in

import perdure


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    starter = Starter("gymnasium")
    yield starter
    starter.close()


def start(starter: Starter, script: str, where: Path) -> Started:
    return launched(starter, script, where, True)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
def test_what_announces_the_end_saves_the_step(
    starter: Starter, tmp_path: Path, number: signal.Signals
) -> None:
    process = start(starter, LOOP, tmp_path)
    process.says("going")
    os.kill(process.pid, number)
    assert process.wait() == 128 + number
    (step,) = steps_in(tmp_path / "run")
    assert f"{number.name}: step {step} is saved in" in process.errors


def sends(*names: str, options: str = "", before: str = "", after: str = "") -> str:
    """A training that sends itself signals in its fourth step."""
    return f"""
        {before}
        with open_run({options}) as run:
            for step in run.steps(world, 10, every=1000):
                work(step)
                if step == 3:
                    for name in {names!r}:
                        os.kill(os.getpid(), getattr(signal, name))
        {after}
        print("after", flush=True)
        """


@pytest.mark.parametrize(
    ("script", "code", "saved"),
    [
        # The scheduler's order follows its announcement, and is no second signal.
        (sends("SIGUSR1", "SIGTERM"), 143, [4]),
        (sends("SIGUSR1", "SIGUSR1"), 138, [4]),
        (sends("SIGTERM", "SIGUSR1"), 143, [4]),
        # Launchers pass on what the process has got from the group already.
        (sends("SIGTERM", "SIGTERM", before="os.environ['TORCHELASTIC_RUN_ID'] = 'x'"), 143, [4]),
        (sends("SIGTERM", "SIGTERM"), -15, []),
        # Only what was asked for is handled.
        (sends("SIGUSR1", options="signals=['SIGTERM']"), -10, []),
        (sends("SIGUSR1", options="signals=[]"), -10, []),
        (sends("SIGALRM", options="signals='ALRM'"), 142, [4]),
        # What the script does itself stays, also where it does it in C.
        (
            sends(
                "SIGUSR1", before="signal.signal(signal.SIGUSR1, lambda *given: print('mine', flush=True))"
            ),
            0,
            [10],
        ),
        (
            sends(
                "SIGUSR1",
                before="import faulthandler; faulthandler.register(signal.SIGUSR1, file=sys.stdout)",
            ),
            0,
            [10],
        ),
        # SDL's handler, which does nothing, does not keep a training from leaving in time.
        (sends("SIGTERM", before="import pygame; pygame.display.init()"), 143, [4]),
        # After the loop the process is what it was before.
        (sends(after="os.kill(os.getpid(), signal.SIGTERM)"), -15, [10]),
    ],
)
def test_signals_in_a_row_and_signals_of_the_scripts_own(
    starter: Starter, tmp_path: Path, script: str, code: int, saved: list[int]
) -> None:
    process = start(starter, script, tmp_path)
    assert process.wait() == code, process.errors
    assert steps_in(tmp_path / "run") == saved
    assert ("after" in process.output) == (code == 0)
    if "faulthandler" in script:
        assert "Current thread" in process.output
    if "mine" in script:
        assert "mine" in process.output


@pytest.mark.parametrize("wrong", [["SIGKILL"], ["NONSENSE"], [0], "SIGSTOP", [3.5]])
def test_a_signal_that_cannot_be_handled_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises(ValueError, match="signals: expected"):
        perdure.Run(tmp_path / "run", signals=wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


IN_THE_LAST_STEP = """
    with open_run() as run:
        for step in run.steps(world, 5, every=1000):
            work(step)
            if step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
    print("after", flush=True)
    """

GUARDED_TWICE = """
    with open_run() as run:
        with run.guard():
            for step in run.steps(world, 5, every=1000):
                work(step)
            os.kill(os.getpid(), signal.SIGTERM)
        print("after", flush=True)
    """

GUARD_IS_RE_ENTRANT = """
    with open_run() as run:
        with run.guard():
            for step in run.steps(world, 5, every=1000):
                work(step)
    os.kill(os.getpid(), signal.SIGTERM)
    print("after", flush=True)
    """

STEPS_IN_A_THREAD = """
    with open_run() as run:
        def train():
            for step in run.steps(world, 100_000, every=1000):
                work(step)
                time.sleep(0.001)
                if step == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
        thread = threading.Thread(target=train)
        with run.guard():
            thread.start()
            thread.join()
        print("after", flush=True)
    """

IN_ASYNCIO = """
    import asyncio
    async def train():
        with open_run() as run:
            for step in run.steps(world, 100_000, every=1000):
                work(step)
                await asyncio.sleep(0.001)
                if step == 4:
                    os.kill(os.getpid(), signal.SIGTERM)
    asyncio.run(train())
    """


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (IN_THE_LAST_STEP, 143),
        (GUARDED_TWICE, 143),
        (GUARD_IS_RE_ENTRANT, -15),
        (STEPS_IN_A_THREAD, 143),
        (IN_ASYNCIO, 143),
    ],
    ids=["last step", "guarded twice", "re-entrant", "thread", "asyncio"],
)
def test_no_signal_is_swallowed(starter: Starter, tmp_path: Path, script: str, code: int) -> None:
    process = start(starter, script, tmp_path)
    assert process.wait() == code, process.errors
    assert "after" not in process.output
    # Python prints what ends a thread, unless it is a bare SystemExit.
    assert "Traceback" not in process.errors or "Exception in thread" in process.errors
    (step,) = steps_in(tmp_path / "run")
    assert step >= 4


def test_a_training_in_a_thread_alone_says_what_it_lacks(starter: Starter, tmp_path: Path) -> None:
    script = """
        def train():
            with open_run() as run:
                for step in run.steps(world, 5):
                    work(step)
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()
        """
    process = start(starter, script, tmp_path)
    assert process.wait() == 0
    assert "outside the main thread" in process.errors
    assert "with run.guard():" in process.errors
    assert steps_in(tmp_path / "run") == [5]


# -- forked children -----------------------------------------------------------------------------------------------


def test_a_forked_child_neither_hangs_nor_publishes_nor_saves(starter: Starter, tmp_path: Path) -> None:
    script = """
        import torch
        policy = torch.nn.Linear(2, 1)
        run = open_run()
        with run:
            for step in run.steps(world, 8, every=1):
                work(step)
                if step == 1:
                    run.report_score(1.0, world, policy)
                    slow_disk(0.03)
                if step == 3:
                    run.checkpoint(world, 4, wait=False)
                    child = os.fork()
                    if child == 0:
                        signal.alarm(20)
                        for use in (
                            lambda: run.report_score(2.0, world, policy),
                            lambda: run.best_policy.offer(3.0, 3, world, policy),
                            lambda: run.checkpoint(world, 5),
                            lambda: run.maybe_checkpoint(world, 5, every=1),
                            lambda: run.resume(world),
                            lambda: next(run.steps(world, 9)),
                        ):
                            try:
                                use()
                                print("allowed", flush=True)
                            except perdure.errors.StoreError as error:
                                assert "must not write" in str(error)
                                print("refused", flush=True)
                        run.flush()
                        run.close()
                        sys.exit(7)
                    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """
    process = start(starter, script, tmp_path)
    assert process.wait() == 0, process.errors
    assert process.output == "refused\n" * 6 + "7\n"
    assert '"score": 1.0' in (tmp_path / "run" / "best.json").read_text()
    assert steps_in(tmp_path / "run")[-1] == 8


# -- groups of processes -------------------------------------------------------------------------------------------

WORKERS = """
    import gymnasium as gym
    from perdure.environments import Resumable

    class Slow(gym.Wrapper):
        def step(self, action):
            time.sleep(0.005)
            return self.env.step(action)

    def make():
        return Resumable(Slow(gym.make("CartPole-v1")))

    if __name__ == "__main__":
        envs = gym.vector.AsyncVectorEnv([make] * 2, context=sys.argv[2])
        world.envs = envs
        with open_run() as run:
            run_world = world
            envs.reset(seed=1)
            for step in run.steps(world, 100_000, every=100_000):
                envs.step(np.array([step % 2, 1]))
                if step == 5:
                    print("going", flush=True)
                work(step)
    """


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_leaves_the_workers_until_the_step_is_saved(
    tmp_path: Path, method: str, number: signal.Signals
) -> None:
    script = tmp_path / "script.py"
    script.write_text(PRELUDE.format(background=True) + textwrap.dedent(WORKERS))
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "run"), method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "going\n"
    os.killpg(process.pid, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    (step,) = steps_in(tmp_path / "run")
    assert f"step {step} is saved in" in said


# -- in time -------------------------------------------------------------------------------------------------------


def test_with_grace_a_long_step_is_left_in_time_and_done_again_exactly(
    starter: Starter, tmp_path: Path
) -> None:
    script = """
        with open_run(grace=6.0) as run:
            for step in run.steps(world, 8, every=1000):
                if step == 5 and len(sys.argv) < 3:
                    began = time.monotonic()
                    print("long", flush=True)
                    try:
                        time.sleep(60)
                    finally:
                        print("left", time.monotonic() - began < 30, flush=True)
                work(step)
                time.sleep(0.02)
        print("end", world.total, world.done, flush=True)
        """
    process = start(starter, script, tmp_path)
    process.says("long")
    os.kill(process.pid, signal.SIGTERM)
    # By SIGALRM if the machine is so busy that the interpreter does not come to its end in time.
    assert process.wait() in (143, -signal.SIGALRM), process.errors
    assert "left True" in process.output
    (step,) = steps_in(tmp_path / "run")
    assert 1 <= step <= 5
    assert f"step {step} is saved in" in process.errors
    (tmp_path / "again").mkdir()
    again = starter.start(tmp_path / "script.py", tmp_path / "run", "quick", where=tmp_path / "again")
    assert again.wait() == 0
    assert again.output == "end [28.] 8\n"


def test_a_training_that_swallows_the_exception_is_ended_in_time(starter: Starter, tmp_path: Path) -> None:
    script = """
        with open_run(grace=2.0) as run:
            for step in run.steps(world, 8, every=1000):
                work(step)
                time.sleep(0.2)
                if step == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                    while True:
                        try:
                            time.sleep(60)
                        except BaseException:
                            pass
        """
    process = start(starter, script, tmp_path)
    code = process.wait()
    assert code in (143, -signal.SIGALRM)
    assert code != 143 or "the time for leaving is over" in process.errors
    (step,) = steps_in(tmp_path / "run")
    assert 1 <= step <= 3


def test_c_code_that_lets_no_thread_run_is_ended_in_time(starter: Starter, tmp_path: Path) -> None:
    script = """
        import ctypes
        with open_run(grace=2.0) as run:
            for step in run.steps(world, 8, every=1000):
                work(step)
                time.sleep(0.2)
                if step == 3:
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.6)
                    ctypes.PyDLL(None).sleep(60)
        """
    process = start(starter, script, tmp_path)
    assert process.wait() == -signal.SIGALRM
    (step,) = steps_in(tmp_path / "run")
    assert 1 <= step <= 3


def test_grace_leaves_at_a_safe_point_if_there_is_one_in_time(starter: Starter, tmp_path: Path) -> None:
    process = start(starter, LOOP.replace("open_run()", "open_run(grace=60)"), tmp_path)
    process.says("going")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 143
    step = steps_in(tmp_path / "run")[-1]
    assert f"SIGTERM: step {step} is saved" in process.errors


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "30"])
def test_a_grace_that_is_no_time_is_refused(tmp_path: Path, wrong: object) -> None:
    with pytest.raises((ValueError, TypeError), match="grace: expected"):
        perdure.Run(tmp_path / "run", grace=wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()

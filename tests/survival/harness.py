"""Runs a training script in separate processes, kills some of them, and compares the final states."""

import atexit
import itertools
import os
import random
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from prepared_process import Starter

from perdure.state import CLOCKS, diff
from perdure.store import Store

HERE = Path(__file__).parent
#: Another seed kills at other steps.
SEED = os.environ.get("SURVIVAL_SEED", "0")
#: Nobody seeds numba's generators, so they differ between any two processes.
USUAL = (*CLOCKS, "rng.numba*")
#: Spaces that no script seeds or draws from do so too.
UNSEEDED = (*USUAL, "*observation_space._np_random*", "*action_space._np_random*", "*processes[*].rng.*")


#: What is imported once, and not by each process of a training; torch._dynamo is what each optimizer imports.
MODULES = {
    "grace_cases": ("stable_baselines3", "tianshou.highlevel.experiment", "perdure.integrations.sb3"),
    "loop_cases": ("gymnasium",),
    "sb3_cases": ("stable_baselines3", "perdure.integrations.sb3"),
    "tianshou_cases": ("tianshou.highlevel.experiment", "perdure.integrations.tianshou"),
    "tianshou_setups": ("tianshou.highlevel.experiment", "perdure.integrations.tianshou"),
    "part_cases": ("tianshou.data",),
    "torchrl_cases": ("gymnasium", "torchrl.data", "perdure.integrations.torchrl"),
}
_turns = itertools.count()


@cache
def _starter(modules, seed):
    starter = Starter("torch._dynamo", *modules, environment=_environment(PYTHONHASHSEED=seed))
    atexit.register(starter.close)
    return starter


def _environment(**variables):
    return {
        **os.environ,
        "PYTHONWARNINGS": "default",
        # Tianshou would compile for seconds in each process what runs for milliseconds.
        "NUMBA_DISABLE_JIT": "1",
        **{key: str(value) for key, value in variables.items()},
    }


def launch(script, name, directory, *words, **variables):
    """Run one process of a training to its end; its exit code is negative where a signal ended it.

    One and the next are forked from different interpreters, with other hashes and other addresses.

    :param script: the name of one that lies here, or the path of an edited one.
    """
    path = HERE / f"{script}.py" if isinstance(script, str) else script
    starter = _starter(MODULES[path.stem], next(_turns) % 2)
    with tempfile.TemporaryDirectory() as said:
        process = starter.start(
            path, name, directory, *words, where=Path(said), environment=_environment(**variables)
        )
        found = subprocess.CompletedProcess(script, process.wait(), process.output, process.errors)
    if found.returncode not in (0, -signal.SIGKILL) and not variables:
        raise AssertionError(
            f"{script} {name} ended with {found.returncode}:\n{found.stdout}\n{found.stderr}"
        )
    return found


@cache
def whole(script, name):
    """A whole training, made once for all tests: where it is, and how many steps its environments took."""
    directory = Path(tempfile.mkdtemp(prefix="perdure-survival-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory / "run", uninterrupted(script, name, directory / "run")


def uninterrupted(script, name, directory, *words):
    """A whole training; how many steps its environments took."""
    count = Path(f"{directory}.count")
    found = launch(script, name, directory, *words, FUSE_COUNT=count)
    assert found.returncode == 0, found.stdout + found.stderr
    return int(count.read_text())


def killed(script, name, directory, steps, kills=3):
    """A training whose process is killed with SIGKILL at random steps, and started again each time."""
    draw = random.Random(f"{SEED} {script} {name}")
    fuses = [draw.randint(steps // 5, steps // 2), *(draw.randint(2, steps // 3) for _ in range(kills - 1))]
    for fuse in fuses:
        found = launch(script, name, directory, FUSE=fuse)
        assert found.returncode == -signal.SIGKILL, (fuses, found.stdout + found.stderr)
    return launch(script, name, directory)


def final(directory):
    """The newest checkpoint of a run, which is that of its end."""
    with Store.open(directory) as store:
        checkpoint = store.latest()
    assert checkpoint is not None
    return checkpoint


def differences(a, b, *, ignore=USUAL, only=""):
    """The paths at which two runs' final states differ, as text."""
    ours, theirs = final(a), final(b)
    found = [
        str(each) for each in diff(ours.state, theirs.state, ignore=ignore) if each.path.startswith(only)
    ]
    assert len(ours.state) > 50
    if ours.info.step != theirs.info.step and not only:
        found.append(f"steps {ours.info.step} and {theirs.info.step}")
    return found

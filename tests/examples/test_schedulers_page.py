"""The recipes of docs/schedulers.md, each played against a scheduler that does what the real one does to a process."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from example_processes import ROOT

PAGE = (ROOT / "docs" / "schedulers.md").read_text()


def recipe(heading, language):
    """The block of code below a heading."""
    section = PAGE.partition(heading)[2].partition("\n## ")[0]
    return re.search(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[1]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


class Machine:
    """A directory with the training, and commands of a scheduler that are found first."""

    def __init__(self, where):
        self.where = where
        self.commands = where / "bin"
        self.commands.mkdir()
        (where / "train.py").write_text(recipe("# Under schedulers", "python"))
        self.command("python", f'echo start >> {where}/starts\nexec "{sys.executable}" "$@"')

    def command(self, name, script):
        path = self.commands / name
        path.write_text("#!/bin/bash\n" + textwrap.dedent(script) + "\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def start(self, *command, **environment):
        return subprocess.Popen(
            [str(each) for each in command],
            cwd=self.where,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                "PATH": f"{self.commands}:{os.environ['PATH']}",
                "OMP_NUM_THREADS": "1",
                **environment,
            },
        )

    def script(self, heading):
        path = self.where / "job.sh"
        path.write_text(recipe(heading, "bash"))
        return ["bash", path]

    @property
    def starts(self):
        return len((self.where / "starts").read_text().splitlines())


def until(process, words):
    """What a process prints, up to and including some words."""
    said = ""
    while words not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    return said


def ended(process):
    said = process.communicate(timeout=200)[0]
    return process.returncode, said


def total(said):
    return float(re.search(r"^done (.*)$", said, re.MULTILINE)[1])


@pytest.fixture(scope="module")
def expected():
    import numpy as np

    draw = np.random.RandomState(5)
    found = 0.0
    for _ in range(40):
        found += draw.rand()
    return found


def test_slurm(machine, expected):
    """The step gets SIGUSR1 before the limit, and `scontrol requeue` starts the script anew."""
    machine.command("srun", 'setsid "$@" & echo $! > step; wait $!')
    machine.command("scontrol", "echo $@ >> requeued")
    where = {"SLURM_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "3"}
    job = machine.start(*machine.script("## SLURM"), **where)
    until(job, "going")
    os.kill(int((machine.where / "step").read_text()), signal.SIGUSR1)
    code, said = ended(job)
    assert code == 138, said
    assert (machine.where / "requeued").read_text() == "requeue 17\n"
    code, said = ended(machine.start(*machine.script("## SLURM"), **where))
    assert code == 0, said
    assert total(said) == expected
    assert (machine.where / "requeued").read_text() == "requeue 17\n"
    # A step that dies at the same place each time is not started for ever.
    machine.command("srun", "exit 137")
    assert ended(machine.start(*machine.script("## SLURM"), **where))[0] == 137
    assert (machine.where / "requeued").read_text() == "requeue 17\n"


def test_kubernetes(machine, expected):
    """Evicted pods get SIGTERM; the policy decides what becomes of the exit code."""
    spec = recipe("## Kubernetes", "yaml")
    command = json.loads(re.search(r"command: (\[.*\])", spec)[1])
    patience = int(re.search(r"terminationGracePeriodSeconds: (\d+)", spec)[1])
    ignored = json.loads(
        re.search(r"action: Ignore\n.*operator: In\n +values: (\[.*?\])", spec, re.DOTALL)[1]
    )
    container = machine.start(*command)
    until(container, "going")
    began = time.monotonic()
    container.send_signal(signal.SIGTERM)
    code, said = ended(container)
    assert time.monotonic() - began < patience, said
    assert code in ignored, said
    code, said = ended(machine.start(*command))
    assert code == 0, said
    assert total(said) == expected


@pytest.mark.campaign
def test_a_spot_instance(machine, expected):
    machine.command("curl", "test -e notice")
    script = machine.script("## Spot")
    job = machine.start(*script)
    until(job, "going")
    (machine.where / "notice").touch()
    code, said = ended(job)
    assert code == 143, said
    (machine.where / "notice").unlink()
    code, said = ended(machine.start(*script))
    assert code == 0, said
    assert total(said) == expected


@pytest.mark.campaign
def test_a_loop_on_one_machine_ends_and_stops_where_there_is_no_progress(machine, expected):
    training = machine.where / "train.py"
    job = machine.start(*machine.script("## Started again"))
    until(job, "going")
    (child,) = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    code, said = ended(job)
    assert code == 0, said
    assert total(said) == expected
    assert machine.starts == 2
    training.write_text("import os\nos.kill(os.getpid(), 9)\n")
    code, said = ended(machine.start(*machine.script("## Started again")))
    assert code == 137, said
    assert machine.starts == 3


@pytest.mark.campaign
def test_a_ray_job(machine, expected):
    """`ray job stop` sends SIGTERM to the entry point's group, and SIGKILL when the time is over."""
    machine.command("ray", 'shift 4; test "$1" = -- && shift; exec "$@"')
    script = machine.script("## Ray")
    job = machine.start(*script)
    until(job, "going")
    os.killpg(job.pid, signal.SIGTERM)
    said = job.communicate(timeout=30)[0]
    assert "is saved in" in said
    code, said = ended(machine.start(*script))
    assert code == 0, said
    assert total(said) == expected


@pytest.mark.campaign
def test_torchrun(machine, expected):
    """To the whole group: the worker gets the signal, and once more from torchrun."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=1"]
    job = machine.start(*torchrun, "train.py", "runs/sac")
    until(job, "going")
    os.killpg(job.pid, signal.SIGTERM)
    _, said = ended(job)
    assert "is saved in" in said, said
    code, said = ended(machine.start(*torchrun, "train.py", "runs/sac"))
    assert code == 0, said
    assert total(said) == expected


@pytest.mark.campaign
def test_an_exit_code_that_a_scheduler_wants(machine):
    (machine.where / "wrapped.py").write_text(
        re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
    )
    job = machine.start("python", "wrapped.py", "runs/sac")
    until(job, "going")
    job.send_signal(signal.SIGTERM)
    code, said = ended(job)
    assert code == 99, said

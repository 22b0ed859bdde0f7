"""`perdure run` as a user meets it: unmodified scripts, killed and started again with the same command."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from prepared_process import Starter

from perdure.script import with_restarts

COMMAND = Path(__file__).with_name("run_command.py")
SCRIPT = """\
import argparse
import random
import sys
import time
import uuid
from datetime import datetime

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--fail-at", type=int, default=0)
parser.add_argument("--slow", type=float, default=0)
args = parser.parse_args()
name = f"walker__{args.seed}__{int(time.time())}__{uuid.uuid4()}__{datetime.now():%Y%m%d-%H%M%S%f}"
print("NAME", name)
state, total = 0, 0.0


class Env:
    def step(self, action):
        return action + random.random()


class Learner:
    def __init__(self):
        self.weight = 0.0

    def backward(self, value):
        self.weight = 0.9 * self.weight + value


random.seed(args.seed)
env, learner = Env(), Learner()
start = time.time()
for step in range(1, 13):
    total += env.step(step)
    learner.backward(total)
    state = state * 31 % 1_000_003 + step
    time.sleep(args.slow)
    print("STEP", step, flush=True)
    if step == args.fail_at:
        raise RuntimeError("in the script")
print("END", state, round(total, 9), round(learner.weight, 9), random.random(), step)
"""


@pytest.fixture(scope="module")
def starter() -> Iterator[Starter]:
    made = Starter("perdure.script._execute", "perdure.script._session", "perdure.cli.running")
    yield made
    made.close()


class Runner:
    """Runs commands in a directory."""

    def __init__(self, starter: Starter, directory: Path) -> None:
        self.starter, self.directory, self.count = starter, directory, 0

    def write(self, source: str = SCRIPT, name: str = "train.py") -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)

    def start(self, *arguments: object, fuse: int = 0, **variables: str):
        self.count += 1
        where = self.directory / f"said-{self.count}"
        where.mkdir()
        environment = {**os.environ, "PERDURE_TEST_FUSE": str(fuse), **variables}
        return self.starter.start(
            COMMAND, "run", *arguments, where=where, environment=environment, directory=self.directory
        )

    def __call__(self, *arguments: object, fuse: int = 0, **variables: str) -> SimpleNamespace:
        process = self.start(*arguments, fuse=fuse, **variables)
        code = process.wait()
        return SimpleNamespace(code=code, output=process.output, errors=process.errors)

    def plain(self, *arguments: object) -> str:
        """What the script says without Perdure."""
        command = [sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def run(starter: Starter, tmp_path: Path) -> Runner:
    runner = Runner(starter, tmp_path)
    runner.write()
    return runner


def end(output: str) -> str:
    return output[output.index("END") :]


def steps(output: str) -> list[int]:
    return [int(each) for each in re.findall(r"STEP (\d+)", output)]


def test_a_killed_script_ends_as_if_nothing_had_happened(run: Runner) -> None:
    whole = run.plain("train.py", "--seed", "3")
    names = set()
    done = []
    for fuse in (5, 3, 4, 0):
        found = run("--every", 2, "train.py", "--seed", "3", fuse=fuse)
        assert found.code == (-signal.SIGKILL if fuse else 0), found.errors
        assert "Warning" not in found.errors
        names.add(re.search("NAME .*", found.output)[0])  # type: ignore[index]
        done.append(steps(found.output))
    assert end(found.output) == end(whole)
    assert len(names) == 1
    assert done == [[1, 2, 3, 4, 5], [5, 6, 7], [7, 8, 9, 10], [9, 10, 11, 12]]
    assert "train.py:34: for step in range(1, 13):" in found.errors
    assert "the loop carries" in found.errors


def test_a_finished_command_says_so_and_fresh_begins_anew(run: Runner) -> None:
    first = run("train.py")
    again = run("train.py")
    assert (again.code, again.output) == (0, "")
    assert "this command is finished" in again.errors
    assert "--fresh" in again.errors
    fresh = run("--fresh", "train.py")
    assert steps(fresh.output) == list(range(1, 13))
    assert end(fresh.output) == end(first.output)
    (kept,) = (run.directory / "perdure-runs").glob("*.old-1")
    assert (kept / "script.json").exists()
    assert re.search("NAME .*", fresh.output)[0] != re.search("NAME .*", first.output)[0]  # type: ignore[index]


def test_other_arguments_are_another_run_and_another_script_in_its_place_is_refused(run: Runner) -> None:
    run("train.py", "--seed", "1")
    other = run("train.py", "--seed", "2")
    assert steps(other.output) == list(range(1, 13))
    assert len(list((run.directory / "perdure-runs").iterdir())) == 2
    run("--dir", "runs/a", "train.py")
    wrong = run("--dir", "runs/a", "train.py", "--seed", "2")
    assert wrong.code == 2
    assert "train.py --seed 2" in wrong.errors
    assert "--fresh" in wrong.errors
    assert run("--fresh", "--dir", "runs/a", "train.py", "--seed", "2").code == 0


def test_the_same_command_while_it_runs_is_refused(run: Runner) -> None:
    whole = run.plain("train.py")
    waits = "    while step == 3 and os.path.exists('wait'):\n        time.sleep(0.01)\n"
    run.write(
        SCRIPT.replace("    if step == args", waits + "    if step == args").replace(
            "import sys", "import os, sys"
        )
    )
    (run.directory / "wait").touch()
    process = run.start("train.py")
    process.says("STEP 3")
    command = [sys.executable, "-m", "perdure.cli", "run", "train.py"]
    found = subprocess.run(command, cwd=run.directory, capture_output=True, text=True, check=False)
    os.kill(process.pid, signal.SIGTERM)
    (run.directory / "wait").unlink()
    assert found.returncode == 2
    assert "the same command is running" in found.stderr
    assert process.wait() == 128 + signal.SIGTERM
    assert "step 3 is saved in" in process.errors
    finished = run("train.py")
    assert steps(finished.output) == list(range(4, 13))
    assert end(finished.output) == end(whole)


def test_an_error_of_the_script_looks_as_it_does_without(run: Runner) -> None:
    found = run("train.py", "--fail-at", "7")
    assert found.code == 1
    trace = found.errors[found.errors.index("Traceback") :].splitlines()
    assert trace[1].endswith('train.py", line 41, in <module>')
    assert trace[-1] == "RuntimeError: in the script"
    assert "perdure" not in "".join(trace)
    # The same command goes on, and fails again: from its last checkpoint.
    assert run("train.py", "--fail-at", "7").code == 1


@pytest.mark.parametrize(
    ("source", "code"), [("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('no')", 1), ("os._exit(4)", 4)]
)
def test_exit_codes_are_those_of_the_script(run: Runner, source: str, code: int) -> None:
    run.write(SCRIPT + f"import os\n{source}\n")
    assert run("train.py").code == code
    again = run("train.py")
    assert ("is finished" in again.errors) == (code == 0)


def test_show_says_what_would_be_done_and_runs_nothing(run: Runner) -> None:
    found = run("--show", "train.py")
    assert found.code == 0
    text = " ".join(found.output.split())
    assert (
        "train.py:34: for step in range(1, 13): it steps an environment in line 35 (env.step) and learns"
        in text
    )
    assert "saved: args, state, total, env, learner" in text
    assert not (run.directory / "perdure-runs").exists()
    assert "NAME" not in found.output


def test_where_nothing_trains_it_says_what_was_looked_for(run: Runner) -> None:
    run.write("for i in range(3):\n    print(i)\n")
    found = run("train.py")
    assert found.code == 2
    assert "no training loop was found" in found.errors
    assert "env.step(action)" in found.errors
    assert "--loop LINE" in found.errors
    # The remedy.
    named = run("--loop", 1, "--every", 1, "train.py", fuse=2)
    assert named.output == "0\n1\n"
    assert run("--loop", 1, "--every", 1, "train.py").output == "1\n2\n"
    wrong = run("--loop", 2, "train.py")
    assert wrong.code == 2
    assert "begin in the lines: 1" in wrong.errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.py"], "there is no file"),
        (["broken.py"], "broken.py, line 1 is no Python source"),
        (["-m", "no.such.module"], "no.such"),
        (["binary.py"], "binary.py is no Python source"),
    ],
)
def test_what_is_no_script_is_an_error_in_words(run: Runner, arguments: list[str], words: str) -> None:
    run.write("for for\n", "broken.py")
    (run.directory / "binary.py").write_bytes(b"\xff\xfe\x00")
    found = run(*arguments)
    assert found.code == 2
    assert words in found.errors
    assert "Traceback" not in found.errors


def test_modules_and_files_beside_the_script(run: Runner) -> None:
    run.write("", "project/__init__.py")
    loop = SCRIPT.replace("print(", "print(__name__, ", 1)
    run.write("def train():\n" + "\n".join(f"    {line}" for line in loop.splitlines()), "project/loops.py")
    run.write("from . import loops\n\nif __name__ == '__main__':\n    loops.train()\n", "project/train.py")
    run.write("import helper\n\nhelper.train()\n", "beside/main.py")
    run.write((run.directory / "project/loops.py").read_text(), "beside/helper.py")
    for arguments, name in ((["-m", "project.train"], "project.loops"), (["beside/main.py"], "helper")):
        whole = run.plain(*arguments)
        assert whole.startswith(name)
        assert run("--every", 1, *arguments, fuse=5).code == -signal.SIGKILL
        found = run("--every", 1, *arguments)
        assert found.code == 0, found.errors
        assert end(found.output) == end(whole)
        assert steps(found.output) == list(range(5, 13))


def test_it_is_started_again_when_it_dies(run: Runner) -> None:
    whole = run.plain("train.py")
    dies = (
        "    if step == 6 and not os.path.exists('died'):\n"
        "        time.sleep(0.3)\n        open('died', 'w').close()\n        os.kill(os.getpid(), 9)\n"
    )
    run.write(
        SCRIPT.replace("    if step == args", dies + "    if step == args").replace(
            "import sys", "import os, sys"
        )
    )
    found = run("--restarts", 5, "--every", 1, "train.py")
    assert found.code == 0, found.errors
    assert found.errors.count("ended with SIGKILL; starting it again (1 of 5)") == 1
    assert steps(found.output) == [*range(1, 7), *range(6, 13)]
    assert end(found.output) == end(whole)


DIES = """\
import os, sys
made = len(os.listdir("phase-1/checkpoints"))
if made < int(sys.argv[1]):
    open(f"phase-1/checkpoints/{made}", "w").close()
    os.kill(os.getpid(), int(sys.argv[2])) if sys.argv[2] != "0" else sys.exit(5)
sys.exit(int(sys.argv[3]))
"""


@pytest.mark.parametrize(
    ("most", "progress", "how", "last", "code", "words"),
    [
        (5, 3, 9, 0, 0, "ended with SIGKILL; starting it again (3 of 5)"),
        (5, 2, 0, 7, 7, "ended with exit code 7 and made no progress"),
        (2, 9, 9, 0, 128 + 9, "was started again 2 times already"),
    ],
)
def test_how_often_it_is_started_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    most: int,
    progress: int,
    how: int,
    last: int,
    code: int,
    words: str,
) -> None:
    (tmp_path / "phase-1/checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-S", "-c", DIES, str(progress), str(how), str(last)]
    assert with_restarts(command, str(tmp_path), most) == code
    assert words in capfd.readouterr().err


def test_a_signal_ends_the_restarts(run: Runner) -> None:
    process = run.start("--restarts", 5, "train.py", "--slow", "0.2")
    process.says("STEP 2")
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    assert "starting it again" not in process.errors
    assert "is saved in" in process.errors


def test_an_unseeded_script_is_built_the_same_and_clocks_show_training_time(run: Runner) -> None:
    run.write(
        SCRIPT.replace("random.seed(args.seed)\n", "print('FIRST', random.random(), np.random.rand())\n")
        .replace("import sys\n", "import sys\nimport numpy as np\n")
        .replace("    time.sleep(args.slow)\n", "    print('TIME', time.time() - start)\n")
    )
    first = run("--every", 1, "train.py", fuse=4)
    time.sleep(2)
    second = run("--every", 1, "train.py")
    assert re.findall("FIRST .*", first.output) == re.findall("FIRST .*", second.output)
    times = [float(each) for each in re.findall("TIME (.*)", second.output)]
    assert times == sorted(times)
    assert 0 < times[-1] < 2


def test_phases_that_are_done_are_not_done_again(run: Runner) -> None:
    loop = SCRIPT[SCRIPT.index("for step") : SCRIPT.index('print("END')]
    ends = "print('BETWEEN', random.random(), round(total, 9))\n"
    run.write(SCRIPT.replace(loop, loop + ends + loop.replace("range(1, 13)", "range(20, 26)")))
    whole = run.plain("train.py")
    assert run("--every", 5, "train.py", fuse=15).code == -signal.SIGKILL
    found = run("--every", 5, "train.py")
    assert steps(found.output) == list(range(20, 26))
    assert found.output[found.output.index("BETWEEN") :].split("\n")[0] in whole
    assert end(found.output) == end(whole)


def test_a_loop_that_was_left_is_left(run: Runner) -> None:
    body = '    if step == 8:\n        break\nelse:\n    print("ELSE")\n'
    source = SCRIPT.replace('print("END"', body + 'print("END"')
    second = "\nwhile True:\n    total += env.step(1)\n    learner.backward(1)\n    if total > 200:\n        break\n"
    run.write(source + second + 'print("END2", total, random.random())\n')
    whole = run.plain("train.py")
    assert "ELSE" not in whole
    assert run("--every", 3, "train.py", fuse=12).code == -signal.SIGKILL
    found = run("--every", 3, "train.py")
    assert steps(found.output) == []
    assert "ELSE" not in found.output
    assert end(found.output) == end(whole)


def test_the_record_is_verified(run: Runner) -> None:
    run("train.py", fuse=3)
    (path,) = run.directory.glob("perdure-runs/*/script.json")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"seed":', b'"sead":'))
    found = run("train.py")
    assert found.code == 1
    assert "script.json" in found.errors
    assert "--fresh" in found.errors
    assert json.loads(content)["script"]["command"] == ["train.py"]


def test_an_edit_that_changes_the_loops_is_told(run: Runner) -> None:
    run("--every", 1, "train.py", fuse=3)
    run.write(SCRIPT.replace("range(1, 13)", "range(1, 15)"))
    found = run("--every", 1, "train.py")
    assert found.code == 1
    assert "range(1, 13)" in found.errors
    assert "range(1, 15)" in found.errors
    run.write(SCRIPT)
    assert run("--every", 1, "train.py").code == 0


def test_runs_of_wandb_have_the_ids_of_the_first_process(run: Runner) -> None:
    # In place of W&B: what it asks for an id where the script gives none.
    for name in ("wandb/__init__.py", "wandb/sdk/__init__.py", "wandb/sdk/lib/__init__.py"):
        run.write("", name)
    run.write(
        "import os\n\ndef generate_id(length=8):\n    return os.urandom(length).hex()\n",
        "wandb/sdk/lib/runid.py",
    )
    ids = """import os
from wandb.sdk.lib import runid
print("IDS", runid.generate_id(), runid.generate_id(4), os.environ["WANDB_RESUME"])
"""
    run.write(ids + SCRIPT)
    found = [run("--every", 2, "train.py", fuse=fuse) for fuse in (5, 0)]
    first, second = (re.search("IDS .*", each.output)[0].split() for each in found)  # type: ignore[index]
    assert first == second
    assert first[1] != first[2]
    assert first[3] == "allow"

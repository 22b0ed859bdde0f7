"""Every block of the README runs as it stands there, with fewer steps.

Python blocks run in an empty directory each, twice: the second time there is a run to go on with. Of shell
blocks, lines that begin with `$ perdure` run. `<!-- not run: reason -->` in the line above a block exempts
it.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from example_processes import COMMAND, ROOT, Process

from perdure.cli import main

README = ROOT / "README.md"
#: What the README says, and what runs here.
SHORTER = {
    "model.learn(20_000": "model.learn(250",
    "max_epochs=5": "max_epochs=1",
    "epoch_num_steps=10_000": "epoch_num_steps=400",
    "5_000, every=1_000": "600, every=100",
    "every=1_000": "every=100",
    "every=2_000": "every=100",
    "--steps 3000": "--steps 300",
}
_BLOCK = re.compile(r"^```(python|console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXEMPT = re.compile(r"<!-- not run: .+ -->\n\Z")


@dataclass(frozen=True)
class Block:
    language: str
    line: int
    code: str


def blocks():
    text = README.read_text()
    for match in _BLOCK.finditer(text):
        if not _EXEMPT.search(text, 0, match.start()):
            code = match[2]
            for long, short in SHORTER.items():
                code = code.replace(long, short)
            yield Block(match[1], text.count("\n", 0, match.start()) + 1, code)


BLOCKS = list(blocks())
PYTHON = [block for block in BLOCKS if block.language == "python"]
COMMANDS = [
    line[2:]
    for block in BLOCKS
    if block.language != "python"
    for line in block.code.splitlines()
    if line.startswith("$ perdure")
]


def script(block, directory):
    path = directory / f"readme_line_{block.line}.py"
    path.write_text(block.code)
    return path


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: f"line {block.line}")
def test_python_block(block, tmp_path):
    path = script(block, tmp_path)
    Process(path, directory=tmp_path, name="first").finish()
    if list(tmp_path.glob("runs/*/checkpoints/*.json")):
        assert "going on at step" in Process(path, directory=tmp_path, name="again").finish()


@pytest.fixture(scope="module")
def with_runs(tmp_path_factory):
    """A directory with the runs that the commands name, as the Python blocks make them."""
    directory = tmp_path_factory.mktemp("commands")
    words = {word for command in COMMANDS for word in shlex.split(command, comments=True)}
    named = {word for word in words if word.startswith("runs/")}
    for block in PYTHON:
        if any(f'"{name}"' in block.code for name in named):
            Process(script(block, directory), directory=directory).finish()
    assert named <= {f"runs/{path.name}" for path in directory.glob("runs/*")}
    return directory


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, with_runs, monkeypatch):
    monkeypatch.chdir(with_runs)
    program, *arguments = shlex.split(command, comments=True)
    if arguments[0] == "run":
        directory = with_runs / f"run-{len(arguments)}{arguments[1][:3]}"
        directory.mkdir()
        (directory / "examples").symlink_to(ROOT / "examples")
        Process(COMMAND, *arguments, directory=directory).finish()
        return
    if arguments[0] == "check-env":
        # It starts processes itself. One real call is enough to see that the program is installed.
        found = subprocess.run(
            [Path(sys.executable).parent / program, *arguments], capture_output=True, text=True, timeout=120
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return
    found = CliRunner().invoke(main, arguments)
    assert found.exit_code == 0, found.output


def test_nothing_is_shortened_that_is_not_there():
    text = README.read_text()
    assert [long for long in SHORTER if long not in text] == []


def test_there_are_blocks_of_both_kinds():
    assert PYTHON
    assert COMMANDS


def test_links_lead_somewhere():
    for readme in (README, ROOT / "examples" / "README.md"):
        links = re.findall(r"\]\(([^)#]+)", readme.read_text())
        relative = [link for link in links if not link.startswith(("http:", "https:"))]
        assert [link for link in relative if not (readme.parent / link).exists()] == []

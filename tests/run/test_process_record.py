"""Each checkpoint says which process wrote it, and resuming says what is different here."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import perdure
from perdure.cli import main
from perdure.errors import DamagedError
from perdure.run import _process_record
from perdure.store import Store, _manifest

SCRIPT = """
import perdure
world = perdure.World(x=0)
with perdure.Run("runs/a") as run:
    for step in run.steps(world, 2, every=1):
        world.x += 1
"""


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def newest(directory: Path) -> Any:
    with Store.open(directory) as store:
        found = store.latest()
    assert found is not None
    return found.info


def checkpoint(directory: Path) -> None:
    with perdure.Run(directory) as run:
        run.checkpoint(perdure.World(x=1), 1)


def resumed(directory: Path, capfd: pytest.CaptureFixture[str]) -> list[str]:
    """What is said on resuming."""
    capfd.readouterr()
    with perdure.Run(directory) as run:
        run.resume(perdure.World(x=0))
    return [line for line in capfd.readouterr().err.splitlines() if "different here" in line]


def test_the_same_place_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint(tmp_path / "run")
    assert resumed(tmp_path / "run", capfd) == []


def test_another_number_of_threads(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.set_num_threads(3)
    checkpoint(tmp_path / "run")
    torch.set_num_threads(1)
    assert resumed(tmp_path / "run", capfd) == [
        "perdure: the run may not go on bit-identically, because something is different here: threads 3 then, 1 here"
    ]


def test_other_versions_and_another_processor(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = _manifest._version
    with monkeypatch.context() as patch:
        patch.setattr(_manifest, "_version", lambda name: "1.0" if name == "torch" else version(name))
        patch.setattr(_process_record, "_processor", lambda: "Analytical Engine")
        checkpoint(tmp_path / "run")
    (line,) = resumed(tmp_path / "run", capfd)
    assert f"torch 1.0 then, {torch.__version__} here; processor Analytical Engine then, " in line


def test_deterministic_algorithms(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    torch.use_deterministic_algorithms(True)
    try:
        checkpoint(tmp_path / "run")
    finally:
        torch.use_deterministic_algorithms(False)
    (line,) = resumed(tmp_path / "run", capfd)
    assert "deterministic algorithms on then, off here" in line


def test_the_versions_of_what_a_script_uses(tmp_path: Path) -> None:
    pytest.importorskip("gymnasium")
    checkpoint(tmp_path / "run")
    assert newest(tmp_path / "run").versions["gymnasium"] == sys.modules["gymnasium"].__version__


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["train.py", "--lr", "0.1"], ["train.py", "--lr", "0.1"]),
        (["--api-key", "abc", "--seed", "1"], ["--api-key", "***", "--seed", "1"]),
        (["--api_key=abc"], ["--api_key=***"]),
        (["wandb.api_key=abc", "env=Ant"], ["wandb.api_key=***", "env=Ant"]),
        (["+logger.password=a=b"], ["+logger.password=***"]),
        (["--password", "--seed", "1"], ["--password", "--seed", "1"]),
        (["--token-embedding", "8"], ["--token-embedding", "8"]),
        (["x" * 5000], ["…"]),
    ],
)
def test_the_command_is_kept_without_secrets(given: list[str], kept: list[str]) -> None:
    assert _process_record.command(given) == kept


def show(directory: Path, *options: str) -> str:
    result = CliRunner().invoke(main, ["show", str(directory), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_the_script(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        words = [
            "git",
            "-C",
            str(tmp_path),
            "-c",
            "user.name=n",
            "-c",
            "user.email=e@example.com",
            *arguments,
        ]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    def train() -> Any:
        script = [sys.executable, str(tmp_path / "train.py"), "--api-key", "abc"]
        subprocess.run(script, cwd=tmp_path, capture_output=True, check=True)
        return json.loads(show(tmp_path / "runs" / "a", "--json"))["checkpoint"]["process"]

    (tmp_path / "train.py").write_text(SCRIPT)
    git("init", "-q")
    git("add", "train.py")
    git("commit", "-q", "-m", "first")
    found = train()
    assert found["git"] == {"commit": git("rev-parse", "HEAD"), "changed": False}
    assert found["command"][1:] == [str(tmp_path / "train.py"), "--api-key", "***"]
    (tmp_path / "train.py").write_text(SCRIPT.replace("world, 2", "world, 4"))
    assert train()["git"]["changed"]


def test_show_prints_it(tmp_path: Path) -> None:
    checkpoint(tmp_path / "run")
    shown = " ".join(show(tmp_path / "run").split())
    assert "command python" in shown
    assert f"threads {torch.get_num_threads()}, " in shown


@pytest.mark.parametrize(
    "process", [None, [], 3, {"machine": 7, "git": "x", "command": {}}, {"machine": {"threads": []}}]
)
def test_a_record_that_perdure_did_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], process: Any
) -> None:
    commit = Store.commit
    monkeypatch.setattr(
        Store, "commit", lambda *given, **named: commit(*given, **{**named, "process": process})
    )
    checkpoint(tmp_path / "run")
    monkeypatch.undo()
    if isinstance(process, dict | None):
        assert len(resumed(tmp_path / "run", capfd)) <= 1
        show(tmp_path / "run")
    else:
        with pytest.raises(DamagedError, match="process"):
            resumed(tmp_path / "run", capfd)

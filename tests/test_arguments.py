"""Every public parameter, given what it cannot be: an error at once that says where, what was expected and found."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import perdure
from perdure.cli import main
from perdure.errors import PerdureError, StoreError
from perdure.persistence import Persistence, PersistenceGroup, PolicyPersistence, load_policy

NAN = float("nan")
#: What is no whole number of at least one.
NO_COUNTS: list[Any] = [0, -1, -10_000, "10", True, NAN, 1.5, 10.0, [10], np.array([1, 2]), object()]
#: What is no number of seconds.
NO_SECONDS: list[Any] = [0, -1.0, "60", True, NAN, [60], object()]
NO_FLAGS: list[Any] = [None, 0, 1, "yes", "False", [], np.bool_(True)]
NO_PATHS: list[Any] = [
    *("", "  ", "s3://bucket/run", "gs://b", "https://x.org/run", "file:///tmp/run", "dbfs:/run", "a\0b"),
    *(
        "~nobody-of-this-name/run",
        "$HOME/run",
        "${SCRATCH}/run",
        None,
        3,
        b"run",
        ["run"],
        Path("s3://bucket/run"),
    ),
]
NO_TEXTS: list[Any] = ["best", b"best", 3, {"a": 1}, [1], [b"x"], [None]]

#: Of each parameter, what it cannot be.
RUN: list[tuple[str, list[Any]]] = [
    ("keep", [*NO_COUNTS, None, (3,)]),
    ("persistence", [True, "policy", torch.nn.Linear(1, 1), PolicyPersistence, PersistenceGroup()]),
    ("strict", NO_FLAGS),
    ("skip", [*NO_TEXTS, None]),
    ("background", NO_FLAGS),
    ("when_busy", [None, "", "Wait", True, 3, ["wait"]]),
    ("on_error", [None, "", "ignore", True, 3, ["warn"]]),
    ("on_unrestorable", [None, "", "error", True, 3]),
    ("compression", [None, "", "gzip", True, 3]),
    ("lock_timeout", [-1, "10", True, NAN, None]),
    ("grace", [0, -1, "10", True, NAN]),
    ("signals", ["SIGNOTHING", 3.5, ["TERM", None]]),
]


def refused(attempt: Callable[[], object], *names: str) -> str:
    """Check that it is an error at once which names the parameter, and says what was expected and found."""
    with pytest.raises((TypeError, ValueError)) as caught:
        attempt()
    message = str(caught.value)
    assert any(name in message for name in names), message
    assert "expected" in message or "is a tag" in message or "names the home" in message, message
    assert len(message) < 500
    return message


@pytest.mark.parametrize(("name", "values"), RUN, ids=[name for name, _ in RUN])
def test_run(tmp_path: Path, name: str, values: list[Any]) -> None:
    for value in values:
        refused(lambda value=value: perdure.Run(tmp_path / "run", **{name: value}), name)
    # It can be opened at once: no lock is left.
    perdure.Run(tmp_path / "run", lock_timeout=0).close()


def test_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in NO_PATHS:
        refused(lambda value=value: perdure.Run(value), "directory")
        refused(lambda value=value: list(perdure.loop(range(3), value)), "directory")
        refused(lambda value=value: load_policy(value), "path")
        if value is not None:
            refused(lambda value=value: perdure.World(persist_directory=value), "persist_directory")
            refused(lambda value=value: perdure.World(restore_directory=value), "restore_directory")
    assert os.listdir(tmp_path) == []
    # The home directory is meant.
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with perdure.Run("~/run") as run:
        assert run.directory == str(tmp_path / "home" / "run")
    assert perdure.World(persist_directory="~/run").persist_path("x") == str(tmp_path / "home" / "run" / "x")
    with perdure.Run("./~run") as run:
        assert run.directory == str(tmp_path / "~run")


@pytest.fixture
def run(tmp_path: Path) -> Any:
    with perdure.Run(tmp_path / "run") as run:
        yield run


def test_cadence_and_steps(run: perdure.Run, tmp_path: Path) -> None:
    world = perdure.World(x=0)
    for value in NO_COUNTS:
        refused(lambda value=value: run.steps(world, 10, every=value), "every")
        refused(lambda value=value: run.maybe_checkpoint(world, 1, every=value), "every")
        refused(lambda value=value: perdure.loop(range(3), tmp_path / "loop", every=value), "every")
        refused(lambda value=value: perdure.Retention(every=value), "every")
        refused(lambda value=value: perdure.Retention(value), "keep: last")
        if not (isinstance(value, int) and value == 0):
            refused(lambda value=value: run.steps(world, value), "total")
            refused(lambda value=value: run.checkpoint(world, value), "step")
            refused(lambda value=value: run.maybe_checkpoint(world, value, every=5), "step")
            refused(lambda value=value: perdure.Retention(best=value), "best")
    for value in NO_SECONDS:
        refused(lambda value=value: run.steps(world, 10, seconds=value), "seconds")
        refused(lambda value=value: run.maybe_checkpoint(world, 1, seconds=value), "seconds")
        refused(lambda value=value: perdure.loop(range(3), tmp_path / "loop", seconds=value), "seconds")
    assert "Write 10_000" in refused(lambda: run.steps(world, 100_000, every=1e4), "every")
    assert list(run.steps(world, np.int64(3), every=np.int32(1), seconds=float("inf"))) == [0, 1, 2]  # type: ignore[arg-type]


def test_the_integrations(tmp_path: Path) -> None:
    from perdure.integrations import sb3, tianshou

    for value in NO_COUNTS:
        refused(lambda value=value: sb3.PersistenceCallback(tmp_path / "run", every=value), "every")
        refused(lambda value=value: tianshou.run(None, tmp_path / "run", every=value), "every")
    for value in NO_SECONDS:
        refused(lambda value=value: sb3.PersistenceCallback(tmp_path / "run", seconds=value), "seconds")
    for value in NO_PATHS:
        refused(lambda value=value: sb3.PersistenceCallback(value), "directory")
        refused(lambda value=value: tianshou.run(None, value), "directory")
    for value in (3, "", ["a"], tmp_path):
        refused(lambda value=value: tianshou.run(None, tmp_path / "run", run_name=value), "run_name")
        refused(
            lambda value=value: tianshou.run(None, tmp_path / "run", logger_run_id=value), "logger_run_id"
        )
    assert os.listdir(tmp_path) == []


def test_a_checkpoint(run: perdure.Run) -> None:
    world = perdure.World(policy=torch.nn.Linear(1, 1))
    for value in NO_TEXTS:
        refused(lambda value=value: run.checkpoint(world, 1, tags=value), "tags")
    assert "Write ['best']" in refused(lambda: run.checkpoint(world, 1, tags="best"), "tags")
    assert "pin=True" in refused(lambda: run.checkpoint(world, 1, tags=["pinned"]), "tags")
    assert "report_score" in refused(lambda: run.checkpoint(world, 1, tags=["best"]), "tags")
    for value in NO_FLAGS:
        refused(lambda value=value: run.checkpoint(world, 1, pin=value), "pin")
        refused(lambda value=value: run.checkpoint(world, 1, wait=value), "wait")
    for value in ([1], "loss", 3.0, {1, 2}):
        refused(lambda value=value: run.checkpoint(world, 1, metrics=value), "metrics")
        refused(lambda value=value: run.checkpoint(world, 1, counters=value), "counters")
    for value in ("0.5", None, True, [1.0], torch.zeros(2), np.zeros(2), object()):
        refused(lambda value=value: run.report_score(value, world), "score")
    assert run.report_score(np.float32(0.5), world)
    assert run.report_score(torch.tensor([0.75]), world)  # type: ignore[arg-type]
    for value in ("policy", 3, torch.nn.Linear):
        refused(
            lambda value=value: run.report_score(1.0, world, policy=value) or 1 / 0,
            "policy",
            "torch.nn.Module",
        )
    for value in (None, 3, torch.nn.Linear(1, 1), [world]):
        refused(lambda value=value: run.checkpoint(value, 1), "perdure.World")
    assert run.last is None


def test_steps_that_go_back(run: perdure.Run) -> None:
    world = perdure.World(x=0)
    run.checkpoint(world, 10)
    run.checkpoint(world, 10)
    for attempt in (
        lambda: run.checkpoint(world, 9),
        lambda: run.maybe_checkpoint(world, 9, every=5),
        lambda: run.checkpoint(world, 0),
    ):
        assert "Steps only go up" in refused(attempt, "step")
    run.maybe_checkpoint(world, 12, every=100)
    assert "at least 12" in refused(lambda: run.maybe_checkpoint(world, 11, every=100), "step")
    run.checkpoint(world, 12)


def test_a_used_directory_that_was_not_resumed(tmp_path: Path) -> None:
    world = perdure.World(x=1)
    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(world, 5)  # a new directory needs no resume
        run.checkpoint(world, 6)
    with perdure.Run(tmp_path / "run") as run:
        for attempt in (
            lambda: run.checkpoint(world, 7),
            lambda: run.maybe_checkpoint(world, 7, every=1),
            lambda: run.find_checkpoint(world) and run.checkpoint(world, 7),
        ):
            with pytest.raises(PerdureError, match=r"has not been resumed.*run\.resume\(world\)"):
                attempt()
        assert run.resume(world) is not None
        run.checkpoint(world, 7)


def test_a_run_json_of_another_program(tmp_path: Path) -> None:
    for content in (b'{"name": "my experiment"}', b"[]", b'{\n  "lr": 0.1\n}'):
        (tmp_path / "run.json").write_bytes(content)
        for attempt in (lambda: perdure.Run(tmp_path), lambda: perdure.store.Store.open(tmp_path)):
            with pytest.raises(StoreError, match="was written by another program") as caught:
                attempt()
            assert type(caught.value) is StoreError
            assert "damaged" not in str(caught.value)
        assert (tmp_path / "run.json").read_bytes() == content
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        perdure.Run(tmp_path / "file")


class Handler(Persistence):
    def persist(self, event: Any, world: Any) -> None:
        pass

    def restore(self, event: Any, world: Any) -> None:
        pass


def test_persistence() -> None:
    for value in (3, "x", [Handler()], Handler, object()):
        refused(lambda value=value: PolicyPersistence(value), "additional_persistence")
        refused(lambda value=value: PersistenceGroup(Handler(), value), "PersistenceGroup")
    assert "PersistenceGroup(a, b)" in refused(lambda: PolicyPersistence([Handler()]), "additional")  # type: ignore[arg-type]
    for value in NO_FLAGS:
        refused(lambda value=value: PolicyPersistence(enabled=value), "enabled")
        refused(lambda value=value: PersistenceGroup(enabled=value), "enabled")
    for value in ("policy", "POLICY", "state", None, True):
        refused(lambda value=value: PolicyPersistence(mode=value), "mode")
    assert "Mode.POLICY_STATE_DICT" in refused(lambda: PolicyPersistence(mode="policy_state_dict"), "mode")  # type: ignore[arg-type]


def test_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, also before it is found that there is no such file."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    world = perdure.World(restore_directory=tmp_path)
    for device, word in (
        ("cuda", "no CUDA device"),
        ("cuda:1", "no CUDA device"),
        ("gpu", "expected a device"),
        (3.5, ""),
    ):
        for attempt in (
            lambda device=device: load_policy(tmp_path, device),
            lambda device=device: PolicyPersistence().restore(torch.nn.Linear(1, 1), world, device),
        ):
            with pytest.raises(ValueError, match="device: ") as caught:
                attempt()
            assert word in str(caught.value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="finds 2 CUDA devices here, counted from 0"):
        load_policy(tmp_path, "cuda:2")
    with pytest.raises(FileNotFoundError):
        load_policy(tmp_path, "cpu")


def test_registering() -> None:
    def function(*_: object) -> None:
        pass

    for value in (3, None, "", "NoDots", "a b.C", [Handler], Handler()):
        refused(lambda value=value: perdure.register(value, capture=function, restore=function), "class")
        refused(lambda value=value: perdure.skip(value, "why"), "class")
        refused(lambda value=value: perdure.register_rows(value, ["a"], rows="n", position="p"), "class")
    for name in ("capture", "restore", "create"):
        for value in (3, "capture", [function]):
            given = {"capture": function, "restore": function, name: value}
            refused(lambda given=given: perdure.register(Handler, **given), name)
    for value in NO_TEXTS:
        refused(lambda value=value: perdure.register_rows(Handler, value, rows="n", position="p"), "arrays")
    refused(lambda: perdure.register_rows(Handler, ["a"], rows=3, position="p"), "rows")  # type: ignore[arg-type]
    for value in (3, ["api_key"], None, b"x"):
        refused(lambda value=value: perdure.secrets(value), "secrets")
        if value != ["api_key"]:
            refused(lambda value=value: perdure.secrets(allow=value), "allow")
        refused(lambda value=value: perdure.renamed(value, Handler), "renamed")
    refused(lambda: perdure.renamed("a:B", "c:D"), "renamed")  # type: ignore[arg-type]
    for value in (3, "name", [function]):
        with pytest.raises(TypeError):
            perdure.allow(value)


@pytest.mark.parametrize("command", ["ls", "show", "verify", "repair"])
def test_the_command_line(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in ("", " ", "s3://bucket/run", "$HOME/run", "~nobody-of-this-name/x"):
        result = CliRunner().invoke(main, [command, value])
        assert result.exit_code == 2
        assert "Invalid value" in result.output
        assert "Traceback" not in result.output
    result = CliRunner().invoke(main, [command, "nowhere"])
    assert result.exit_code == 2
    assert "nowhere" in result.output
    assert os.listdir(tmp_path) == []

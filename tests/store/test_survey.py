"""Whether a checkpoint can be used is decided in one place: by the survey, at each depth, and by all that ask it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from store_support import commit

from perdure.errors import DamagedError, StoreError, UnsupportedFormatError
from perdure.inspect import look
from perdure.store import LocalBackend, Store, load_checksummed, verdict_of
from perdure.store._checksummed_json import dump_checksummed
from perdure.store._survey import Depth


@pytest.fixture
def root(tmp_path: Path) -> Path:
    import numpy as np

    with Store.open(tmp_path / "run", write=True) as store:
        for step in range(1, 4):
            commit(store, {"own": np.arange(1000 * step)}, step=step)
    return tmp_path / "run"


def manifest(root: Path, number: int = 2) -> Path:
    return root / f"checkpoints/{number:08d}.json"


def pack(root: Path) -> Path:
    return root / "packs/00000002.safetensors"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def make_newer(root: Path) -> None:
    body = load_checksummed("manifest", manifest(root).read_bytes(), "")
    manifest(root).write_bytes(dump_checksummed("manifest", {**body, "format": 99}))


def verdicts(root: Path, depth: Depth) -> list[str]:
    return [status.verdict for status in Store.open(root).survey(depth)]


@pytest.mark.parametrize(
    ("harm", "state", "glance", "data"),
    [
        (lambda root: None, "ok", "ok", "ok"),
        (lambda root: flip(manifest(root)), "damaged", "damaged", "damaged"),
        (lambda root: make_newer(root), "newer format", "newer format", "newer format"),
        (lambda root: pack(root).unlink(), "ok", "damaged", "damaged"),
        (lambda root: os.truncate(pack(root), pack(root).stat().st_size - 1), "ok", "damaged", "damaged"),
        (lambda root: flip(pack(root)), "ok", "ok", "damaged"),
    ],
)
def test_each_depth_sees_what_it_looks_at(
    root: Path, harm: Callable[[Path], None], state: str, glance: str, data: str
) -> None:
    harm(root)
    for depth, expected in (("state", state), ("glance", glance), ("data", data)):
        assert verdicts(root, depth) == ["ok", expected, "ok"], depth  # type: ignore[arg-type]


def test_a_status_tells_what_is_known(root: Path) -> None:
    flip(manifest(root, 1))
    pack(root).unlink()
    lost, damaged, good = Store.open(root).survey()
    assert (lost.number, lost.info.step, lost.info.created, lost.manifest) == (1, 0, "", None)
    assert "its checksum is not that of its content" in lost.problem
    # The manifest is good, so what it says is known.
    assert (damaged.number, damaged.info.step, "is missing" in damaged.problem) == (2, 2, True)
    assert (good.error, good.problem) == (None, "")
    assert [info.step for info in Store.open(root).checkpoints()] == [0, 2, 3]


def test_what_could_not_be_read_is_not_called_damaged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, path = os.open, str(manifest(root))

    def failing(name: Any, *arguments: Any, **more: Any) -> int:
        fd = real(name, *arguments, **more)
        if os.readlink(f"/proc/self/fd/{fd}") == path:
            os.close(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return fd

    monkeypatch.setattr(os, "open", failing)
    assert verdicts(root, "state") == ["ok", "unreadable", "ok"]
    seen = look(str(root))
    assert [each.verdict for each in seen.checkpoints] == ["ok", "unreadable", "ok"]
    assert (seen.damaged, len(seen.problems)) == (True, 1)


def test_verdicts_of_errors() -> None:
    unproven = DamagedError("")
    unproven.__cause__ = OSError()
    errors = [DamagedError(""), unproven, StoreError(""), UnsupportedFormatError("")]
    assert [verdict_of(error) for error in errors] == [
        "damaged", "unreadable", "unreadable", "newer format",
    ]  # fmt: skip


def test_a_newer_checkpoint_is_not_passed_over(root: Path) -> None:
    make_newer(root)
    assert Store.open(root).latest() is not None  # the newest one is good
    manifest(root, 3).unlink()
    with pytest.raises(UnsupportedFormatError, match="Upgrade"):
        Store.open(root).latest()
    (problem, *_) = [each for each in Store.open(root).verify() if each.file.startswith("checkpoints/")]
    assert (problem.kind, problem.harmless) == ("newer format", False)


def test_the_holder_of_a_run(root: Path) -> None:
    backend = LocalBackend(root)
    assert backend.holder() is None
    script = (
        "import sys; from perdure.store import LocalBackend; LocalBackend(sys.argv[1]).lock(0); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        holder = backend.holder()
        assert holder is not None
        assert holder.pid == writer.pid
        assert str(holder).startswith(f"process {writer.pid} on host ")
        (root / ".lock").write_text("nonsense")
        unknown = backend.holder()
        assert (unknown is not None and unknown.pid, str(unknown)) == (None, "another process")
        writer.kill()
    assert backend.holder() is None

"""`perdure repair`: it says what it will remove, removes only what is beyond help, and may be killed at any step."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from damage_support import (
    Files,
    cuts,
    deletions,
    exhaustive,
    files_of,
    files_of_store,
    find,
    flips,
    in_memory,
    renames,
    resumed,
    small_store,
    swaps,
    write_files,
)

import perdure
from perdure.cli import main
from perdure.errors import LockedError, StoreError
from perdure.inspect import _repair, check_policies, plan_repair, repair
from perdure.store import Store
from perdure.store.testing import FailingBackend


def command(*arguments: object, **more: Any) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], **more)


def as_json(*arguments: object, code: int) -> dict[str, Any]:
    result = command(*arguments, "--json")
    assert result.exit_code == code, result.output
    return dict(json.loads(result.stdout))


def flip(path: Path, at: int = 100) -> None:
    content = bytearray(path.read_bytes())
    content[at % len(content)] ^= 1
    path.write_bytes(content)


def manifest(root: Path, number: int) -> Path:
    return root / "checkpoints" / f"{number:08d}.json"


# -- saying and doing ----------------------------------------------------------------------------------------


def test_nothing_to_repair(root: Path) -> None:
    before = files_of(root)
    for arguments in (["repair", root], ["repair", root, "--yes"]):
        result = command(*arguments)
        assert (result.exit_code, "nothing to repair" in result.stdout) == (0, True)
    document = as_json("repair", root, code=0)
    assert (document["steps"], document["left"], document["done"]) == ([], [], False)
    assert files_of(root) == before


def test_it_says_what_it_will_do_and_does_nothing_unasked(root: Path) -> None:
    flip(manifest(root, 3))
    before = files_of(root)
    result = command("repair", root)
    assert result.exit_code == 1
    assert "remove checkpoints/00000003.json" in result.stdout
    assert "its checksum is not that of its content" in result.stdout
    assert "the run goes on from checkpoint 2 (step 2)" in result.stdout
    assert "nothing was changed" in result.stderr
    document = as_json("repair", root, code=1)
    assert not document["done"]
    assert next((step["does"], step["file"]) for step in document["steps"]) == (
        "remove",
        "checkpoints/00000003.json",
    )
    assert files_of(root) == before


def test_it_does_what_it_said(root: Path) -> None:
    flip(manifest(root, 3))
    before = files_of(root)
    document = as_json("repair", root, "--yes", code=0)
    assert document["done"]
    removed = {step["file"] for step in document["steps"] if step["does"] == "remove"}
    assert files_of(root) == {name: content for name, content in before.items() if name not in removed}
    assert command("verify", root).exit_code == 0
    assert resumed(root)[0] == 2


def test_it_asks_a_person(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from perdure.cli import repairing

    flip(manifest(root, 3))
    for answer, there in ((False, True), (True, False)):
        monkeypatch.setattr(repairing, "_is_wanted", lambda answer=answer: answer)
        result = command("repair", root)
        assert result.exit_code == int(there)
        assert manifest(root, 3).exists() == there


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_run_json_is_restored(root: Path, content: bytes | None) -> None:
    original = (root / "run.json").read_bytes()
    if content is None:
        (root / "run.json").unlink()
    else:
        (root / "run.json").write_bytes(content)
    document = as_json("repair", root, "--yes", code=0)
    assert [(step["does"], step["file"]) for step in document["steps"]] == [("restore", "run.json")]
    assert (root / "run.json").read_bytes() == original


def test_half_written_files_and_packs_nobody_needs(root: Path) -> None:
    (root / "packs" / ".tmp-1-abc").write_bytes(b"half")
    (root / "checkpoints" / ".tmp-1-abc").write_bytes(b"half")
    (root / "policies" / ".tmp-1-abc").mkdir()
    (root / "policies" / ".tmp-1-abc" / "policy.pt").write_bytes(b"half")
    pack = next(iter((root / "packs").iterdir()))
    shutil.copy(pack, pack.with_name("00000099.safetensors"))
    before = files_of(root)
    document = as_json("repair", root, code=0)  # no damage: nothing that a checkpoint needs
    assert all(step["harmless"] for step in document["steps"])
    assert sorted(step["file"] for step in document["steps"]) == [
        "checkpoints/.tmp-1-abc",
        "packs/.tmp-1-abc",
        "packs/00000099.safetensors",
        "policies/.tmp-1-abc",
    ]
    assert files_of(root) == before
    assert as_json("repair", root, "--yes", code=0)["done"]
    assert as_json("repair", root, code=0)["steps"] == []
    assert ".tmp-" not in "".join(map(str, root.rglob("*")))


# -- never touching what is good -----------------------------------------------------------------------------


def test_after_any_damage_what_is_good_stays(root: Path) -> None:
    """Repaired, `verify` finds nothing (or only what was said to be left), and what was good is as it was."""
    backend_files = files_of_store(files_of(root))
    other = small_store((4,))
    count = left = 0
    for damage in itertools.chain(
        flips(backend_files, 211),
        cuts(backend_files, 509),
        deletions(backend_files),
        renames(backend_files),
        swaps({**small_store((1, 2))}, other),
    ):
        count += 1
        before = find(damage.files)
        if not before.opened:
            continue
        good = {number for number, content in before.read.items() if content is not None}
        backend = in_memory(damage.files)
        plan = _repair.plan_checkpoints(backend)
        assert backend.objects == damage.files, damage.what
        backend.lock(0)
        _repair.carry_out(backend, plan.steps)
        backend.unlock()
        after = find(dict(backend.objects))
        kept = {number: content for number, content in after.read.items() if number in good}
        assert kept == {number: before.read[number] for number in good}, damage.what
        assert after.newest == max(
            [number for number, each in after.read.items() if each is not None], default=None
        )
        left += bool(plan.left)
        if not plan.left:
            assert not after.problems, f"{damage.what}: {after.problems}"
            assert not [note for note in after.notes if "no checkpoint that can be read" in note.problem]
        again = _repair.plan_checkpoints(backend)
        assert again.steps == [], f"{damage.what}: {again.steps}"
        assert again.left == plan.left
        assert not good or after.read.keys() >= good
    assert left
    print(f"\nrepaired {count} damaged runs, {left} of them in part")


def test_a_newer_format_is_left(root: Path) -> None:
    from perdure.store import load_checksummed
    from perdure.store._checksummed_json import dump_checksummed

    path = manifest(root, 3)
    body = load_checksummed("manifest", path.read_bytes(), "")
    path.write_bytes(dump_checksummed("manifest", {**body, "format": 99}))
    flip(manifest(root, 1))
    before = files_of(root)
    document = as_json("repair", root, "--yes", code=1)
    assert [each["file"] for each in document["left"]] == ["checkpoints/00000003.json"]
    assert "a newer Perdure wrote it" in document["left"][0]["meaning"]
    # Its packs cannot be told from those that nobody needs.
    assert before.keys() - files_of(root).keys() == {"checkpoints/00000001.json"}


def test_what_cannot_be_read_just_now_is_left(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    path = str(manifest(root, 3))
    real = os.open

    def failing(name: Any, *arguments: Any, **more: Any) -> int:
        fd = real(name, *arguments, **more)
        if os.readlink(f"/proc/self/fd/{fd}") == path:
            os.close(fd)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return fd

    monkeypatch.setattr(os, "open", failing)
    before = files_of(root)
    document = as_json("repair", root, "--yes", code=1)
    monkeypatch.undo()
    assert [each["file"] for each in document["left"]] == ["checkpoints/00000003.json"]
    assert "does not prove that it is lost" in document["left"][0]["meaning"]
    assert files_of(root) == before


def test_the_last_traces_are_left(root: Path) -> None:
    """Without a good checkpoint nothing is removed: a run is not lost by a command that is to save it."""
    for number in (1, 2, 3):
        flip(manifest(root, number))
    before = files_of(root)
    document = as_json("repair", root, "--yes", code=1)
    assert document["steps"] == []
    assert len(document["left"]) == 3
    assert "does not remove the last traces of a run" in document["left"][0]["meaning"]
    (root / "run.json").write_bytes(b"")
    document = as_json("repair", root, "--yes", code=1)
    assert [each["file"] for each in document["left"]] == ["run.json"]
    (root / "run.json").write_bytes(before["run.json"])
    assert files_of(root) == before


def test_a_file_of_another_run_is_left(root: Path) -> None:
    write_files(root, {"checkpoints/00000009.json": small_store((4,))["checkpoints/00000001.json"]})
    document = as_json("repair", root, "--yes", code=1)
    assert [each["file"] for each in document["left"]] == ["checkpoints/00000009.json"]
    assert "the run that it belongs to" in document["left"][0]["meaning"]


def test_a_renamed_manifest_is_moved_back(root: Path) -> None:
    content = manifest(root, 3).read_bytes()
    manifest(root, 3).rename(manifest(root, 7))
    document = as_json("repair", root, "--yes", code=0)
    assert [(s["does"], s["file"], s["target"]) for s in document["steps"]] == [
        ("move", "checkpoints/00000007.json", "checkpoints/00000003.json")
    ]
    assert manifest(root, 3).read_bytes() == content
    assert resumed(root)[0] == 3
    # Also where a damaged file has taken its place meanwhile.
    manifest(root, 3).rename(manifest(root, 8))
    manifest(root, 3).write_bytes(b"damaged")
    assert as_json("repair", root, "--yes", code=0)["done"]
    assert manifest(root, 3).read_bytes() == content
    shutil.copy(manifest(root, 3), manifest(root, 9))
    assert as_json("repair", root, "--yes", code=0)["done"]
    assert not manifest(root, 9).exists()


# -- policies ------------------------------------------------------------------------------------------------


def test_a_damaged_policy_goes_and_the_links_to_it(root: Path) -> None:
    for name in ("policy.pt", "best.json"):
        flip(root / "best" / name, 40)
    document = as_json("repair", root, "--yes", code=0)
    assert [(step["does"], step["file"]) for step in document["steps"]] == [("remove", "policies/00000001")]
    assert not os.path.lexists(root / "best")
    assert not os.path.lexists(root / "policy.pt")
    assert command("verify", root).exit_code == 0
    with perdure.Run(root) as run:
        assert run.best_score is None
        assert run.report_score(0.5, perdure.World(policy=torch.nn.Linear(1, 1)))
    assert (root / "policy.pt").is_file()


def test_what_is_good_beside_a_damaged_file_is_kept(root: Path) -> None:
    content = (root / "policy.pt").read_bytes()
    flip(root / "best" / "best.json", 3)
    document = as_json("repair", root, "--yes", code=0)
    assert [step["does"] for step in document["steps"]] == ["set aside"]
    assert (root / "policies" / "found-0001" / "policy.pt").read_bytes() == content
    assert command("verify", root).exit_code == 0


def test_the_next_best_is_linked(root: Path) -> None:
    first = os.readlink(root / "best")
    shutil.copytree(root / first, root / "kept", symlinks=True)
    with perdure.Run(root) as run:
        run.best_policy.offer(9.0, 9, perdure.World(policy=torch.nn.Linear(1, 1)))
    (root / "kept").rename(root / first)
    assert os.readlink(root / "best") != first
    for name in ("policy.pt", "best.json"):
        flip(root / "best" / name, 40)
    document = as_json("repair", root, "--yes", code=0)
    assert [step["does"] for step in document["steps"]] == ["remove", "link"]
    assert os.readlink(root / "best") == first
    assert (root / "policy.pt").is_file()
    assert check_policies(str(root)) == []


@pytest.mark.parametrize("wrong", [None, "policies/00000099", "/etc", "policies"])
def test_the_link_to_the_best_is_made_again(root: Path, wrong: str | None) -> None:
    target = os.readlink(root / "best")
    (root / "best").unlink()
    (root / "policy.pt").unlink()
    if wrong is not None:
        (root / "best").symlink_to(wrong)
    document = as_json("repair", root, "--yes", code=0)
    assert [(step["does"], step["target"]) for step in document["steps"]] == [("link", target)]
    assert os.readlink(root / "best") == target
    assert (root / "policy.pt").is_file()


def test_a_policy_without_a_list_is_left(root: Path) -> None:
    (root / "best" / ".SHA256SUMS").unlink()
    before = files_of(root)
    document = as_json("repair", root, "--yes", code=1)
    assert document["steps"] == []
    assert "nothing proves that it is damaged" in document["left"][0]["meaning"]
    assert files_of(root) == before


# -- locks, changes and kills --------------------------------------------------------------------------------


def test_a_run_in_use_is_left_alone(root: Path) -> None:
    flip(manifest(root, 3))
    before = files_of(root)
    plan = plan_repair(str(root))
    script = (
        "import sys, time; from perdure.store import LocalBackend; "
        "backend = LocalBackend(sys.argv[1]); backend.lock(0); print('ready', flush=True); time.sleep(600)"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, root], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for arguments in (["--yes"], []):
            result = command("repair", root, *arguments)
            assert result.exit_code == 2
            assert f"is being written by process {writer.pid} on host" in result.stderr
        with pytest.raises(LockedError):
            repair(str(root), plan.steps, wait=0.1)
        assert files_of(root) == before
    finally:
        writer.kill()
        writer.wait()
    repair(str(root), plan.steps)
    assert not manifest(root, 3).exists()


def test_what_changed_meanwhile_is_not_touched(root: Path) -> None:
    content = manifest(root, 3).read_bytes()
    flip(manifest(root, 3))
    plan = plan_repair(str(root))
    manifest(root, 3).write_bytes(content)
    with pytest.raises(StoreError, match="has changed since the repair was planned"):
        repair(str(root), plan.steps)
    assert resumed(root)[0] == 3


def test_what_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        result = command("repair", path, "--yes")
        assert result.exit_code == 2
        assert "there is no run in" in result.stderr
    assert list(tmp_path.iterdir()) == []


CALLS = ("open", "fsync", "link", "unlink", "rename", "mkdir", "symlink", "replace", "rmdir", "writev")


def _damaged_in_many_ways(root: Path) -> None:
    (root / "run.json").write_bytes(b"")
    flip(manifest(root, 3))
    shutil.copy(manifest(root, 2), manifest(root, 8))
    flip(root / "best" / "policy.pt")
    flip(root / "best" / "best.json")
    (root / "packs" / ".tmp-1-abc").write_bytes(b"half")
    (root / "policies" / ".tmp-1-abc").mkdir()


def _repair_killed_at(root: Path, at: int) -> bool:
    """Repair in a child that SIGKILLs itself at its `at`-th system call of those in `CALLS`; whether it was killed."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def dying(real: Any) -> Any:
            def call(*arguments: Any, **more: Any) -> Any:
                nonlocal count
                count += 1
                if count == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **more)

            return call

        try:
            steps = plan_repair(str(root)).steps
            for name in CALLS:
                setattr(os, name, dying(getattr(os, name)))
            repair(str(root), steps)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed; its error is above"
    return os.WIFSIGNALED(status)


def test_killed_at_every_system_call(root: Path, tmp_path: Path) -> None:
    _damaged_in_many_ways(root)
    good = find(files_of_store(files_of(root)))
    expected: Files | None = None
    # A sample of them; with `make damage` each.
    every = 1 if exhaustive() else 3
    at = 1 - every
    while True:
        copy = Path(shutil.copytree(root, tmp_path / "copy", symlinks=True))
        at += every
        killed = _repair_killed_at(copy, at)
        between = find(files_of_store(files_of(copy)))
        assert between.newest == good.newest == 2
        assert {number: between.read[number] for number in (1, 2)} == {n: good.read[n] for n in (1, 2)}
        plan = plan_repair(str(copy))
        assert plan.left == []
        repair(str(copy), plan.steps)
        assert Store.open(copy).verify() == check_policies(str(copy)) == []
        after = files_of(copy)
        expected = expected or after
        assert after == expected
        shutil.rmtree(copy)
        if not killed:
            break
    assert at > 40
    print(f"\nkilled at every {every}. of {at - 1} system calls")


def test_a_step_that_fails_leaves_the_run_no_worse() -> None:
    files = small_store((1, 2, 3))
    damaged = {**files, "run.json": b"", "checkpoints/00000003.json": b""}
    good = find(damaged)
    at = 0
    while True:
        at += 1
        backend = in_memory(damaged)
        plan = _repair.plan_checkpoints(backend)

        def fail(verb: str, name: str) -> None:
            raise StoreError(f"could not {verb} {name}")

        failing = FailingBackend(backend, at, fail)
        try:
            _repair.carry_out(failing, plan.steps)
        except StoreError:
            between = find(dict(backend.objects))
            assert between.newest == good.newest
            assert {n: between.read[n] for n in (1, 2)} == {n: good.read[n] for n in (1, 2)}
            _repair.carry_out(backend, _repair.plan_checkpoints(backend).steps)
            assert find(dict(backend.objects)).problems == []
        else:
            break
    assert at > 3


def test_help_names_the_exit_codes() -> None:
    result = command("repair", "--help")
    assert "nothing is wrong with the run, or everything was repaired" in result.stdout
    assert "--yes" in result.stdout


def test_a_repaired_run_trains_on(root: Path) -> None:
    _damaged_in_many_ways(root)
    assert as_json("repair", root, "--yes", code=0)["done"]
    assert resumed(root)[0] == 2
    with Store.open(root, write=True) as store:
        assert [info.number for info in store.checkpoints()] == [1, 2]

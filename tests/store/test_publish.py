"""Publishing several files together: what readers see, whenever the process dies."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from store_support import as_nobody, killed_at

from perdure.errors import StoreError
from perdure.persistence import versions as publishing
from perdure.persistence.versions import begin, best, clean, discard, names, next_version, prune, publish

CALLS = (
    "open",
    "fsync",
    "link",
    "unlink",
    "rename",
    "mkdir",
    "symlink",
    "replace",
    "rmdir",
    "scandir",
    "listdir",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "run"


def put(root: Path, *names: str, content: str = "", link: bool = True) -> str:
    """Publish a version of some files, whose content tells their name and version."""
    staging = Path(begin(root))
    version = next_version(root) if link else "epoch_7"
    for name in names:
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_text(content or f"{version}/{name}")
    publish(str(staging), version, link=link)
    return version


def seen(root: Path) -> dict[str, str]:
    """What a reader finds at the root."""
    found = {}
    for path in sorted(root.iterdir()) if root.exists() else []:
        if path.name in ("policies", "best") or path.name.startswith("."):
            continue
        if path.is_file():
            found[path.name] = path.read_text()
        elif path.is_dir():
            found |= {f"{path.name}/{child.name}": child.read_text() for child in path.iterdir()}
    return found


def test_files_are_published_together(root: Path) -> None:
    first = put(root, "policy.pt", "stats/mean.npy")
    assert first == "00000001"
    assert seen(root) == {"policy.pt": "00000001/policy.pt", "stats/mean.npy": "00000001/stats/mean.npy"}
    second = put(root, "policy.pt", "config.json")
    assert seen(root) == {"policy.pt": "00000002/policy.pt", "config.json": "00000002/config.json"}
    assert os.readlink(root / "policy.pt") == "best/policy.pt"
    assert os.readlink(root / "best") == "policies/00000002"
    assert (names(root), best(root), next_version(root)) == ([first, second], second, "00000003")
    # Moved as a whole, all of it still leads to the same files.
    shutil.move(root, root.with_name("moved"))
    assert seen(root.with_name("moved"))["policy.pt"] == "00000002/policy.pt"


def test_a_version_that_is_not_the_best(root: Path) -> None:
    put(root, "policy.pt")
    put(root, "policy.pt", "more", link=False)
    assert seen(root) == {"policy.pt": "00000001/policy.pt"}
    assert (names(root), best(root)) == (["00000001", "epoch_7"], "00000001")


def test_nothing_there_yet(root: Path) -> None:
    assert (names(root), best(root), next_version(root)) == ([], None, "00000001")
    clean(root)
    assert prune(root, set()) == []
    assert not root.exists()


def test_hidden_files_are_not_linked(root: Path) -> None:
    put(root, ".hidden", "policy.pt")
    assert seen(root) == {"policy.pt": "00000001/policy.pt"}
    assert not (root / ".hidden").exists()


def test_names_that_cannot_be(root: Path) -> None:
    staging = begin(root)
    for name in ("", ".", "..", "a/b", ".tmp-1", "found-0001", "a\n", "-x", "ü"):
        with pytest.raises(ValueError, match="cannot be the name of a version"):
            publish(staging, name)
    for not_staging in (str(root), str(root / "policies" / "00000001"), str(root / ".tmp-1")):
        with pytest.raises(ValueError, match="was not made by begin"):
            publish(not_staging, "x")
        with pytest.raises(ValueError, match="was not made by begin"):
            discard(not_staging)


@pytest.mark.parametrize("name", ["run.json", "checkpoints", "packs", "policies", "best"])
def test_names_that_a_run_needs_itself(root: Path, name: str) -> None:
    staging = Path(begin(root))
    (staging / name).write_text("")
    with pytest.raises(StoreError, match="a run has its own files of that name"):
        publish(str(staging), "v")
    assert names(root) == []
    publish(str(staging), "v", link=False)


def test_a_version_is_never_changed(root: Path) -> None:
    put(root, "policy.pt")
    staging = begin(root)
    with pytest.raises(StoreError, match="exists already, and a version is never changed"):
        publish(staging, "00000001")
    discard(staging)
    discard(staging)
    assert os.listdir(root / "policies") == ["00000001"]


def test_something_else_in_the_place_of_best(root: Path) -> None:
    """For example where another library writes its best model. It stays, and the files are at the root without it."""
    (root / "best").mkdir(parents=True)
    (root / "best" / "model.zip").write_text("another library's")
    for number in (1, 2):
        put(root, "policy.pt", "stats/mean", *(["only1"] if number == 1 else []))
        assert seen(root)["policy.pt"] == f"0000000{number}/policy.pt"
        assert seen(root)["stats/mean"] == f"0000000{number}/stats/mean"
        assert not (root / "policy.pt").is_symlink()
        prune(root, ())
    assert "only1" not in seen(root)
    assert (root / "best" / "model.zip").read_text() == "another library's"


def test_a_foreign_file_is_kept(root: Path) -> None:
    root.mkdir()
    (root / "policy.pt").write_text("foreign 1")
    put(root, "policy.pt")
    assert seen(root) == {"policy.pt": "00000001/policy.pt"}
    assert (root / "policies" / "found-0001" / "policy.pt").read_text() == "foreign 1"
    (root / "policy.pt").unlink()
    (root / "policy.pt").symlink_to("elsewhere")
    (root / "stats").mkdir()
    (root / "stats" / "mean").write_text("foreign 2")
    put(root, "policy.pt", "stats/mean")
    assert seen(root) == {"policy.pt": "00000002/policy.pt", "stats/mean": "00000002/stats/mean"}
    assert os.readlink(root / "policies" / "found-0002" / "policy.pt") == "elsewhere"
    assert (root / "policies" / "found-0002" / "stats" / "mean").read_text() == "foreign 2"
    assert prune(root, set()) == ["00000001"]
    clean(root)
    assert sorted(os.listdir(root / "policies")) == ["00000002", "found-0001", "found-0002"]


def test_a_foreign_file_is_kept_without_hard_links(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    test_a_foreign_file_is_kept(root)


def test_pruning_keeps_the_best(root: Path) -> None:
    for _ in range(4):
        put(root, "policy.pt")
    put(root, "policy.pt", link=False)
    assert prune(root, {"00000002"}) == ["00000001", "00000003", "epoch_7"]
    assert names(root) == ["00000002", "00000004"]
    assert seen(root) == {"policy.pt": "00000004/policy.pt"}
    assert next_version(root) == "00000005"


def test_cleaning_removes_only_what_is_half_done(root: Path) -> None:
    put(root, "policy.pt")
    before = {path: os.lstat(path).st_ino for path in root.rglob("*")}
    (Path(begin(root)) / "half").write_text("")
    (root / ".tmp-1-x").symlink_to("policies/00000001")
    (root / "gone.pt").symlink_to("best/gone.pt")
    clean(root)
    assert {path: os.lstat(path).st_ino for path in root.rglob("*")} == before


def test_a_version_that_was_being_removed_is_so_durably_before_its_files_go(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a power cut may bring its name back, without them."""
    put(root, "a")
    put(root, "a")
    policies = root / "policies"
    (policies / "00000001").rename(policies / ".tmp-1-killed")
    done: list[str] = []
    sync, remove = publishing.sync_directory, shutil.rmtree
    monkeypatch.setattr(publishing, "sync_directory", lambda path: (done.append(str(path)), sync(path)))
    monkeypatch.setattr(shutil, "rmtree", lambda path: (done.append("removed"), remove(path)))
    clean(root)
    assert str(policies) in done[: done.index("removed")]


def test_no_permission(public: Path) -> None:
    def write() -> str:
        try:
            begin(public)
        except StoreError as error:
            return str(error)
        return "no error"

    # Without the rights of root, which a test may have, it can only be read.
    public.chmod(0o555)
    assert "permission denied for user" in as_nobody(write)


def test_an_error_on_the_way_leaves_the_old(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(root, "policy.pt")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for call in ("fsync", "symlink", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, fail)
            with pytest.raises(StoreError, match="no space is left"):
                put(root, "policy.pt", "new")
        assert seen(root) == {"policy.pt": "00000001/policy.pt"}
        assert not list(root.glob(".tmp-*"))


def test_everything_is_synced_before_it_has_a_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[int] = set()
    real_sync, real_rename = os.fsync, os.rename
    renamed = []

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        real_sync(fd)

    def rename(source: str, target: str) -> None:
        inside = [Path(source), *Path(source).rglob("*")]
        assert {path.stat().st_ino for path in inside} <= synced
        renamed.append(target)
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    put(root, "a", "b/c/d", "b/e")
    assert [Path(target).name for target in renamed] == ["00000001"]
    assert {root.stat().st_ino, (root / "policies").stat().st_ino} <= synced


FIRST = {"a": "00000001/a", "b": "00000001/b", "only1": "00000001/only1"}


def nothing(root: Path) -> None:
    pass


def first(root: Path) -> None:
    put(root, "a", "b", "only1")


def foreign(root: Path) -> None:
    (root / "a").write_text("foreign a")
    (root / "only2").write_text("foreign only2")


def foreign_over_first(root: Path) -> None:
    first(root)
    (root / "a").unlink()
    (root / "a").write_text("foreign a")


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        (nothing, [{}]),
        (first, [FIRST]),
        (foreign, [{"a": "foreign a", "only2": "foreign only2"}]),
        (foreign_over_first, [FIRST | {"a": "foreign a"}, FIRST]),
    ],
)
def test_killed_at_every_system_call(
    tmp_path: Path, before: Callable[[Path], None], allowed: list[dict[str, str]]
) -> None:
    """Readers have all of the old, or all of the new; and what was foreign is not lost."""
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / f"{step}"
        root.mkdir()
        before(root)
        number = next_version(root)
        new = {name: f"{number}/{name}" for name in ("a", "b", "only2")}
        killed = killed_at(step, partial(put, root, "a", "b", "only2"), CALLS)
        for _ in range(2):
            # Links that lead nowhere are nothing to a reader; cleaning up changes nothing that is seen.
            assert seen(root) in [*allowed, new]
            if not killed:
                assert seen(root) == new
            clean(root)
        assert not [*root.rglob(".tmp-*")]
        assert not [path for path in root.iterdir() if path.is_symlink() and not path.exists()]
        texts = {path.read_text() for path in root.rglob("*") if path.is_file()}
        if before in (foreign, foreign_over_first):
            assert "foreign a" in texts
        put(root, "a", "b", "only2", content="again")
        assert set(seen(root).values()) == {"again"}
        shutil.rmtree(root)
    assert step > 20


def test_killed_while_pruning(tmp_path: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        root = tmp_path / f"{step}"
        for _ in range(3):
            put(root, "a", "b")
        killed = killed_at(step, partial(prune, root, {"00000002"}), CALLS)
        for version in names(root):
            assert sorted(os.listdir(root / "policies" / version)) == ["a", "b"]
        clean(root)
        assert prune(root, {"00000002"}) in ([], ["00000001"])
        assert names(root) == ["00000002", "00000003"]
        shutil.rmtree(root)
    assert step > 5


def test_reading_while_it_is_published(root: Path) -> None:
    """Each reader that opens the best version by one path has files of one version."""
    put(root, "a", "b")
    seen_versions = set()
    real = os.replace

    def replace(source: str, target: str) -> None:
        for _ in range(2):
            version = os.path.realpath(root / "best")
            texts = {Path(version, name).read_text().split("/")[0] for name in ("a", "b")}
            assert len(texts) == 1
            seen_versions.update(texts)
            if not os.path.lexists(source):
                break
            real(source, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(publishing.os, "replace", replace)
        put(root, "a", "b")
    assert seen_versions == {"00000001", "00000002"}

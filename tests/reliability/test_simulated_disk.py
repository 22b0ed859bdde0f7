"""The simulated disk itself: small programs whose states after a crash can be counted by hand."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from simulated_disk import (
    Bounds,
    Killed,
    Record,
    Sync,
    Tree,
    digest,
    materialize,
    record,
    states,
    variants_of,
)


def write(path: Path, content: bytes, sync: bool = False) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, content)
    if sync:
        os.fsync(fd)
    os.close(fd)


def sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def left_by(root: Path, program: Callable[[], object], bounds: Bounds | None = None) -> list[Tree]:
    """The different trees that a crash at the end of the program may leave; the empty one first."""
    with record(root) as recorder:
        program()
    found = states(recorder.record, bounds or Bounds(1 << 20), since=len(recorder.record.operations))
    return sorted((state.tree for state in found), key=lambda tree: (bool(tree), str(tree)))


def test_a_file_that_was_not_synced_may_be_gone_empty_or_torn(tmp_path: Path) -> None:
    found = left_by(tmp_path, lambda: write(tmp_path / "a", b"x" * 1000))
    assert {} in found
    contents = [tree["a"] for tree in found if tree]
    assert b"" in contents
    assert b"x" * 1000 in contents
    assert b"x" * 512 in contents  # cut off
    assert bytes(512) + b"x" * 488 in contents  # the first sector was not written
    assert bytes(1000) in contents
    assert any(content and content[0] not in b"\0x" for content in contents)  # something else
    assert len(contents) == len(set(contents)) >= 9


def test_fsync_of_a_file_keeps_its_content_and_that_of_the_directory_its_name(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert left_by(tmp_path / "one", lambda: write(tmp_path / "one" / "a", b"x", sync=True)) == [
        {},
        {"a": b"x"},
    ]

    def name_first() -> None:
        write(tmp_path / "two" / "a", b"x")
        sync_directory(tmp_path / "two")

    assert {"a": b""} in left_by(tmp_path / "two", name_first)
    assert {} not in left_by(tmp_path / "two", lambda: None)


def test_a_rename_is_kept_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"1")
    (tmp_path / "new").write_bytes(b"2")
    found = left_by(tmp_path, lambda: os.replace(tmp_path / "new", tmp_path / "old"))
    assert found == [{"new": b"2", "old": b"1"}, {"old": b"2"}]


def test_one_name_keeps_its_order_and_different_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")

    def program() -> None:
        os.unlink(tmp_path / "a")
        os.symlink("nowhere", tmp_path / "a")
        os.mkdir(tmp_path / "d")

    found = left_by(tmp_path, program)
    assert [tree for tree in found if "d" not in tree] == [{}, {"a": "nowhere"}, {"a": b"1"}]
    assert len(found) == 6


def test_what_is_in_a_directory_that_is_lost_is_lost_with_it(tmp_path: Path) -> None:
    def program() -> None:
        os.mkdir(tmp_path / "d")
        write(tmp_path / "d" / "a", b"x", sync=True)
        sync_directory(tmp_path / "d")

    assert left_by(tmp_path, program) == [{}, {"d": {"a": b"x"}}]


def test_a_rename_across_directories_is_durable_when_one_of_them_is(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from" / "a").write_bytes(b"x")

    def program() -> None:
        os.rename(tmp_path / "from" / "a", tmp_path / "to" / "a")
        sync_directory(tmp_path / "from")

    assert left_by(tmp_path, program) == [{"from": {}, "to": {"a": b"x"}}]


def test_an_unlinked_name_may_come_back(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert left_by(tmp_path, lambda: os.unlink(tmp_path / "a")) == [{}, {"a": b"x"}]


def test_what_is_overwritten_may_be_a_mixture_of_old_and_new(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"o" * 1024)
    contents = [tree["a"] for tree in left_by(tmp_path, lambda: write(tmp_path / "a", b"n" * 1024))]
    assert b"o" * 1024 in contents
    assert b"n" * 512 + b"o" * 512 in contents
    assert b"o" * 512 + b"n" * 512 in contents


def test_writes_that_go_past_os_are_seen(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"y" * 3000)

    def program() -> None:
        with open(tmp_path / "a", "wb") as file:
            file.write(b"x" * 10)
        shutil.copy2(tmp_path / "source", tmp_path / "copy")
        sync_directory(tmp_path)

    found = left_by(tmp_path, program)
    assert {"a", "copy"} <= set(found[0])
    assert b"" in [tree["a"] for tree in found]
    assert b"y" * 3000 in [tree["copy"] for tree in found]


def test_a_file_without_a_name_is_durable_once_it_was_synced(tmp_path: Path) -> None:
    def program() -> None:
        fd = os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE)
        os.write(fd, b"x" * 700)
        os.fsync(fd)
        # With a directory given, even if none is needed: without it, Python calls link(2), which follows no link.
        os.link(f"/proc/self/fd/{fd}", tmp_path / "a", src_dir_fd=fd, follow_symlinks=True)
        os.close(fd)

    try:
        os.close(os.open(tmp_path, os.O_WRONLY | os.O_TMPFILE))
    except OSError:
        pytest.skip("no files without names here")
    assert left_by(tmp_path, program) == [{}, {"a": b"x" * 700}]


def test_a_sync_left_out_is_as_if_it_had_not_been(tmp_path: Path) -> None:
    with record(tmp_path) as recorder:
        write(tmp_path / "a", b"x", sync=True)
        sync_directory(tmp_path)
        recorder.mark(1)
    done: Record = recorder.record
    end = len(done.operations)
    assert [state.tree for state in states(done, Bounds(), since=end)] == [{"a": b"x"}]
    file, directory = done.syncs()
    assert isinstance(done.operations[file], Sync)
    assert {"a": b""} in [state.tree for state in states(done.without(file), Bounds(), since=end)]
    assert {} in [state.tree for state in states(done.without(directory), Bounds(), since=end)]
    assert not done.is_made_up_for(file)


def test_a_sync_that_another_makes_up_for(tmp_path: Path) -> None:
    with record(tmp_path) as recorder:
        os.mkdir(tmp_path / "a")
        sync_directory(tmp_path)
        os.mkdir(tmp_path / "b")
        sync_directory(tmp_path)
        recorder.mark(1)
    first, second = recorder.record.syncs()
    assert recorder.record.is_made_up_for(first)
    assert not recorder.record.is_made_up_for(second)


def test_a_program_that_was_stopped_does_nothing_more(tmp_path: Path) -> None:
    def program() -> None:
        try:
            write(tmp_path / "a", b"x")
            write(tmp_path / "b", b"x")
        finally:
            os.unlink(tmp_path / "a")

    with record(tmp_path) as recorder:
        recorder.stop_after = 3
        with pytest.raises(Killed):
            program()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_beyond_the_bounds_the_extremes_and_their_neighbours_are_given(tmp_path: Path) -> None:
    def program() -> None:
        for i in range(8):
            os.mkdir(tmp_path / f"{i}")

    every = left_by(tmp_path, program)
    assert len(every) == 2**8
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    some = left_by(tmp_path, program, Bounds(product=100, apart=1, samples=5))
    assert 18 < len(some) <= 2 * 9 + 5
    assert {digest(tree) for tree in some} < {digest(tree) for tree in every}


def test_variants_are_bounded_and_the_extremes_come_first() -> None:
    content = os.urandom(100_000)
    found = variants_of(b"", content, subsets=4)
    assert [each for _, each in found[:2]] == [content, b""]
    assert 10 < len(found) < 40
    assert len({each for _, each in found}) == len(found)


def test_a_tree_can_be_made(tmp_path: Path) -> None:
    tree: Tree = {"a": b"x", "d": {"b": b"y"}, "l": "d/b"}
    materialize(tree, str(tmp_path / "made"))
    assert (tmp_path / "made" / "l").read_bytes() == b"y"

"""Whatever happens to a file between two processes, nothing of it is lost, and nobody else's content is cut."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from pathlib import Path

import pytest

import perdure
from perdure.errors import StoreError
from perdure.outputs import _disk, _kept


class Process:
    """One process of a script that writes a log; several of them in a row stand for kills."""

    def __init__(self, tmp_path, mode="a", name="log.txt", **options):
        self.path = tmp_path / name
        self.file = open(self.path, mode)  # noqa: SIM115
        self.run = perdure.Run(tmp_path / "run", **options)
        self.world = perdure.World(x=0)

    def resume(self):
        return self.run.resume(self.world)

    def write(self, text, step=None):
        self.file.write(text)
        if step is not None:
            self.run.checkpoint(self.world, step)

    def end(self):
        self.file.close()
        self.run.close()

    @property
    def content(self):
        self.file.flush()
        return self.path.read_text()


def begun(tmp_path, mode="a", **options):
    """A process that has written `one` before its checkpoint, and `two` after it."""
    process = Process(tmp_path, mode, **options)
    process.resume()
    process.write("one\n", step=1)
    process.write("two\n")
    process.end()
    return process


def aside(tmp_path):
    directory = tmp_path / "run" / "kept-outputs" / "aside"
    return (
        [(directory / name).read_text() for name in sorted(os.listdir(directory))]
        if directory.exists()
        else []
    )


@pytest.mark.parametrize("mode", ["a", "w", "r+", "a+", "w+"])
def test_a_log_goes_on_whatever_the_mode(tmp_path, mode):
    begun(tmp_path, "w" if mode == "r+" else mode)
    process = Process(tmp_path, mode)
    process.resume()
    process.write("three\n")
    assert process.content == "one\nthree\n"
    assert "two\n" in aside(tmp_path) or "w" in mode
    process.end()


def test_what_somebody_else_changed_is_left_alone_and_that_is_said(tmp_path, capsys):
    path = begun(tmp_path).path
    path.write_text("another's\n" * 3)
    process = Process(tmp_path)
    process.resume()
    assert process.content == "another's\n" * 3
    said = capsys.readouterr().err
    assert "left as it is" in said
    # The message names where the run's own content lies.
    assert Path(said.split("lies in ")[1].split()[0]).read_text() == "one\n"
    process.end()


@pytest.mark.parametrize("how", ["hard link", "symbolic link", "directory"])
def test_only_a_regular_file_with_one_name_is_changed(tmp_path, capsys, how):
    path = begun(tmp_path).path
    other = tmp_path / "other"
    if how == "hard link":
        os.link(path, other)
    else:
        os.rename(path, other)
        path.symlink_to(other)
    if how == "directory":
        path.unlink()
        path.mkdir()
        path = tmp_path / "elsewhere.txt"
    process = Process(tmp_path, name=path.name)
    process.resume()
    assert other.read_text() == "one\ntwo\n"
    if how != "directory":
        assert "left as it is" in capsys.readouterr().err
    process.end()


def test_a_removed_file_comes_back(tmp_path):
    begun(tmp_path).path.unlink()
    process = Process(tmp_path)
    process.resume()
    assert process.content == "one\n"
    process.end()


def test_a_damaged_copy_is_not_used(tmp_path, capsys):
    begun(tmp_path, "w")
    (copy,) = (tmp_path / "run" / "kept-outputs").glob("0*")
    copy.write_text("ONE\n")
    process = Process(tmp_path, "w")
    process.resume()
    assert process.content == ""
    assert "damaged" in capsys.readouterr().err
    process.write("next\n", step=2)  # and the run goes on
    process.end()
    process = Process(tmp_path, "w")
    process.resume()
    assert process.content == "next\n"
    process.end()


def test_a_file_larger_than_the_quota_is_named_and_goes_on_where_it_is_appended_to(tmp_path, capsys):
    process = Process(tmp_path, keep_outputs=10)
    process.resume()
    process.write("one\n", step=1)
    process.write("a line that is too long\n", step=2)
    process.write("two\n")
    assert "log.txt is too large for a copy in the run (28 bytes; keep_outputs=10)" in capsys.readouterr().err
    process.end()
    process = Process(tmp_path, keep_outputs=10)
    process.resume()
    assert process.content == "one\na line that is too long\n"
    process.end()


def test_outputs_are_left_alone_if_that_is_asked_for(tmp_path):
    begun(tmp_path, keep_outputs=None)
    process = Process(tmp_path, keep_outputs=None)
    process.resume()
    assert process.content == "one\ntwo\n"
    assert not (tmp_path / "run" / "kept-outputs").exists()
    process.end()


def test_going_back_to_an_older_checkpoint_and_forward_again(tmp_path):
    process = Process(tmp_path, "w")
    process.resume()
    for step in range(1, 4):
        process.write(f"{step}\n", step=step)
    process.end()
    process = Process(tmp_path, "w")
    older, _, newest = process.run.checkpoints()
    process.run.resume(process.world, number=older.number)
    assert process.content == "1\n"
    process.run.resume(process.world, number=newest.number)
    assert process.content == "1\n2\n3\n"
    process.run.resume(process.world, number=older.number)
    process.write("other\n")
    process.run.checkpoint(process.world, 3)  # another course of the run
    process.run.resume(process.world, number=newest.number)
    assert process.content == "1\n2\n3\n"
    process.end()


def test_a_moved_run_takes_its_outputs_along(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    process = Process(there, "w", name="run/log.txt") if (there / "run").mkdir() is None else None
    process.resume()
    process.write("one\n", step=1)
    process.write("two\n")
    process.end()
    here = tmp_path / "here"
    there.rename(here)
    process = Process(here, "w", name="run/log.txt")
    process.resume()
    assert process.content == "one\n"
    process.end()


def test_a_job_with_another_output_directory_has_its_files_there(tmp_path):
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    begun_there = Process(tmp_path, "w", name="first/log.txt")
    begun_there.resume()
    begun_there.write("one\n", step=1)
    begun_there.end()
    process = Process(tmp_path, "w", name="second/log.txt")
    process.resume()
    process.write("three\n")
    assert process.content == "one\nthree\n"
    assert (tmp_path / "first" / "log.txt").read_text() == "one\n"
    process.end()


def test_what_cannot_be_brought_back_is_named_at_the_first_checkpoint(tmp_path, capsys):
    database = sqlite3.connect(tmp_path / "trials.db")
    database.execute("create table t (x)")
    database.commit()
    import gzip

    with gzip.open(tmp_path / "log.gz", "wb"):
        process = Process(tmp_path)
        process.resume()
        process.write("x\n", step=1)
    said = capsys.readouterr().err
    assert "trials.db is not brought back when the run is resumed: a SQLite database" in said
    assert "log.gz is not brought back when the run is resumed: it is compressed" in said
    process.end()
    database.close()


def test_a_writer_of_the_users(tmp_path):
    path = tmp_path / "trace.bin"
    pending = []

    def flush():
        with open(os.open(path, os.O_WRONLY | os.O_CREAT), "r+b") as file:
            file.seek(0, os.SEEK_END)
            file.write(b"".join(pending))
        pending.clear()

    perdure.register_output(path, flush=flush)
    try:
        for content, expected in ((b"one", b"one"), (b"two", b"onetwo")):
            with perdure.Run(tmp_path / "run") as run:
                world = perdure.World(x=0)
                run.resume(world)
                pending.append(content)
                run.checkpoint(world, 1)
                assert path.read_bytes() == expected
                pending.append(b" and what is done again")
                flush()
    finally:
        perdure.outputs._registered._registered.clear()
    with pytest.raises(TypeError, match="flush: expected a function"):
        perdure.register_output(path, flush=3)


def no_space():
    raise OSError(errno.ENOSPC, "no space left")


class Failing:
    """Lets the system fail at the nth call that changes a file."""

    def __init__(self, monkeypatch, at, fail=no_space):
        self.calls = 0
        self.fail = fail
        for module, name in ((os, "pwrite"), (os, "ftruncate"), (_disk, "sync"), (_kept, "sync")):
            monkeypatch.setattr(module, name, self.failing(getattr(module, name), at))

    def failing(self, original, at):
        def call(*arguments):
            self.calls += 1
            if self.calls >= at:
                self.fail()
            return original(*arguments)

        return call


@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_full_disk_at_any_moment_of_resuming_loses_nothing(tmp_path, monkeypatch, mode):
    at = 1
    while True:
        where = tmp_path / f"{mode}{at}"
        where.mkdir()
        begun(where, mode)
        process = Process(where, mode)
        with monkeypatch.context() as patched:
            failing = Failing(patched, at)
            try:
                process.resume()
                failed = ""
            except StoreError as error:
                failed = str(error)
        assert not failed or "no space" in failed
        process.end()
        kept = (where / "run" / "kept-outputs" / "00000001").read_text()
        assert kept == "one\n"
        if mode == "a" and failed:
            assert process.path.read_text() + "".join(aside(where)) in (
                "one\ntwo\n",
                "one\ntwo\ntwo\n",
                "one\ntwo\ntw",
            )
        process = Process(where, mode)
        process.resume()
        assert process.content == "one\n"
        process.end()
        if not failed:
            break
        at += 1
    assert at > 1 or failing.calls == 0


@pytest.mark.parametrize("mode", ["a", "w"])
def test_a_kill_at_any_moment_of_resuming_loses_nothing(tmp_path, monkeypatch, mode):
    at = 1
    while True:
        where = tmp_path / f"{mode}{at}"
        where.mkdir()
        begun(where, mode)
        child = os.fork()
        if child == 0:
            try:
                process = Process(where, mode)
                Failing(monkeypatch, at, lambda: os.kill(os.getpid(), signal.SIGKILL))
                process.resume()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        written = (where / "log.txt").read_text()
        assert mode == "w" or written == "one\ntwo\n" or (written == "one\n" and "two\n" in aside(where))
        process = Process(where, mode)
        process.resume()
        assert process.content == "one\n"
        process.end()
        if status == 0:
            break
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        at += 1
    assert at > 2


def test_a_disk_that_is_full_at_the_beginning_stops_no_training_that_only_warns(
    tmp_path, monkeypatch, capsys
):
    process = Process(tmp_path, "w", on_error="warn")
    process.file.write("zero\n")
    with monkeypatch.context() as patched:
        Failing(patched, 1)
        process.resume()
    assert "are not followed until the first checkpoint" in capsys.readouterr().err
    process.write("one\n", step=1)
    process.end()
    process = Process(tmp_path, "w")
    process.resume()
    assert process.content == "zero\none\n"
    process.end()


def test_a_full_disk_while_the_copy_is_written(tmp_path, monkeypatch):
    process = Process(tmp_path, "w")
    process.resume()
    process.write("one\n", step=1)
    process.write("two\n")
    with monkeypatch.context() as patched:
        Failing(patched, 1)
        with pytest.raises(StoreError, match="no space"):
            process.run.checkpoint(process.world, 2)
    process.write("three\n", step=3)
    process.end()
    process = Process(tmp_path, "w")
    process.resume()
    assert process.content == "one\ntwo\nthree\n"
    process.end()

import dataclasses
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from cli_support import as_json, flip_byte, make_newer, make_run, perdure_command

import perdure
from perdure.inspect import look
from perdure.store import _reading


def test_the_runs_below_a_directory_are_listed(tmp_path):
    make_run(tmp_path / "a")
    make_run(tmp_path / "group" / "b", checkpoints=1)
    (tmp_path / "no-run").mkdir()
    result = perdure_command("ls", tmp_path)
    assert result.exit_code == 0
    header, *rows = (line.split() for line in result.stdout.splitlines())
    assert header == ["run", "step", "kept", "best", "size", "written", "state"]
    assert [row[0] for row in rows] == ["a", "group/b"]
    assert rows[0][1:4] == ["3,000", "3", "123.5"]
    assert [row[-1] for row in rows] == ["ok", "ok"]


def test_a_run_lists_its_checkpoints(tmp_path):
    make_run(tmp_path / "a", tags=["milestone"])
    result = perdure_command("ls", tmp_path / "a")
    assert result.exit_code == 0
    rows = [line.split() for line in result.stdout.splitlines()[3:]]
    assert [row[:2] for row in rows] == [["1", "1,000"], ["2", "2,000"], ["3", "3,000"]]
    assert "return 3" in result.stdout
    assert "milestone" in result.stdout


def test_json_tells_programs_all_of_it(tmp_path):
    make_run(tmp_path / "a", tags=["milestone"], metrics={"loss": float("nan")})
    (run,) = as_json("ls", tmp_path)["runs"]
    assert run["path"] == str(tmp_path / "a")
    assert run["step"] == 3000
    assert run["best"]["score"] == 123.5
    assert run["state"] == "ok"
    assert run["in_use_by"] is None
    assert run["problems"] == []
    assert run["bytes_on_disk"] > 4000
    last = run["checkpoints"][-1]
    assert last["number"] == 3
    assert last["metrics"] == {"loss": "NaN", "best": 123.5}
    assert last["tags"] == ["milestone"]
    assert "torch" in last["versions"]
    assert set(run) == {
        "path", "id", "created", "written", "step", "best", "bytes_on_disk", "state", "problems", "in_use_by",
        "checkpoints",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["manifest", "pack", "run"])
def test_damage_that_shows_at_a_glance_is_exit_code_1(tmp_path, name):
    run = make_run(tmp_path / "a")
    if name == "manifest":
        flip_byte(run / "checkpoints" / "00000002.json", 200)
    elif name == "pack":
        (run / "packs" / "00000003.safetensors").unlink()
    else:
        flip_byte(run / "run.json", 60)
    result = perdure_command("ls", tmp_path)
    assert result.exit_code == 1
    assert "damaged" in result.stdout
    assert {"manifest": "00000002.json", "pack": "00000003", "run": "run.json"}[name] in result.stderr
    assert as_json("ls", tmp_path, code=1)["runs"][0]["state"] == "damaged"


def test_one_damaged_run_does_not_hide_the_others(tmp_path):
    make_run(tmp_path / "good")
    bad = make_run(tmp_path / "bad", checkpoints=1)
    flip_byte(bad / "run.json", 60)
    flip_byte(bad / "checkpoints" / "00000001.json", 100)
    result = perdure_command("ls", tmp_path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[2].split()[:2] == ["good", "3,000"]


def test_a_newer_format_is_no_damage(tmp_path):
    run = make_run(tmp_path / "a")
    make_newer(run / "checkpoints" / "00000003.json", "manifest")
    result = perdure_command("ls", tmp_path)
    assert result.exit_code == 0
    assert "newer format" in result.stdout
    assert "pip install --upgrade perdure" in result.stderr
    assert as_json("ls", run)["runs"][0]["step"] == 2000


def test_a_run_in_use_says_by_whom_and_is_not_disturbed(tmp_path):
    with perdure.Run(tmp_path / "a") as run:
        run.checkpoint(perdure.World(x=1), 1)
        assert f"in use by {os.getpid()}" in perdure_command("ls", tmp_path).stdout
        assert as_json("ls", tmp_path)["runs"][0]["in_use_by"]["pid"] == os.getpid()
        run.checkpoint(perdure.World(x=2), 2)
    assert as_json("ls", tmp_path)["runs"][0]["in_use_by"] is None


def test_a_run_without_a_checkpoint_is_there_all_the_same(tmp_path):
    perdure.Run(tmp_path / "a").close()
    result = perdure_command("ls", tmp_path)
    assert result.exit_code == 0
    assert "no checkpoint" in result.stdout


def test_nothing_there_is_exit_code_2(tmp_path):
    result = perdure_command("ls", tmp_path)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "there is no run in" in result.stderr
    assert as_json("ls", tmp_path, code=2) == {"runs": []}
    assert perdure_command("ls", tmp_path / "gone").exit_code == 2


def test_the_json_file_of_another_program_makes_no_run(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(json.dumps({"name": "something else"}))
    assert perdure_command("ls", tmp_path).exit_code == 2


def test_a_lost_run_json_is_told(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "run.json").unlink()
    result = perdure_command("ls", tmp_path)
    assert result.exit_code == 1
    assert "3,000" in result.stdout


def test_links_are_not_followed(tmp_path):
    run = make_run(tmp_path / "deep" / "a")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    assert len(as_json("ls", tmp_path)["runs"]) == 1
    shutil.rmtree(run / "checkpoints")
    (run / "checkpoints").symlink_to(tmp_path)
    assert perdure_command("ls", tmp_path).exit_code in (0, 1)


def test_a_hostile_best_is_no_more_than_missing(tmp_path):
    run = make_run(tmp_path / "a")
    version = run / os.readlink(run / "best")
    for content in ("[]", "{", '{"score": "\\u001b[2J"}', '{"score": 1e999}', "[" * 100_000):
        (version / "best.json").write_text(content)
        assert as_json("ls", tmp_path)["runs"][0]["best"] is None


@pytest.fixture
def deep():
    """Outside of pytest's own directories, which it could not remove."""
    directory = Path(tempfile.mkdtemp(prefix="perdure-deep-"))
    yield directory
    subprocess.run(["rm", "-rf", directory], check=True)


def test_runs_below_very_many_directories(deep):
    run = make_run(deep / "a", checkpoints=1)
    here = os.getcwd()
    try:
        os.chdir(deep)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        shutil.move(run, "b")
    finally:
        os.chdir(here)
    result = perdure_command("ls", deep)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()[1:]
    assert "".join(line.split()[0] for line in lines) == "d/" * 1500 + "b"
    (found,) = as_json("ls", deep)["runs"]
    assert found["step"] == 1000
    # Deeper than any path can name.
    try:
        os.chdir(deep)
        for _ in range(1500):
            os.chdir("d")
        for _ in range(8):
            os.mkdir("long" * 50)
            os.chdir("long" * 50)
    finally:
        os.chdir(here)
    result = perdure_command("ls", deep)
    assert result.exit_code == 0
    assert "note: 1 directory could not be looked into" in result.stderr
    assert result.stdout.splitlines()[1:] == lines


def test_a_list_of_runs_reads_only_the_heads_of_manifests(tmp_path, monkeypatch):
    """And tells the same of them as reading them whole does."""
    for number in range(3):
        make_run(tmp_path / str(number), metrics={"state": {"root": 1, "state": [2]}}, tags=[',"state":'])
    (tmp_path / "1" / "checkpoints" / "00000002.json").write_bytes(b"damaged")
    pack = tmp_path / "2" / "packs" / "00000001.safetensors"
    pack.write_bytes(pack.read_bytes()[:-1])
    with monkeypatch.context() as patched:
        read = []
        real = _reading.read_manifest
        patched.setattr(_reading, "read_manifest", lambda *given: (read.append(given), real(*given))[1])
        result = perdure_command("ls", tmp_path)
        assert read == []
        (rows := [line.split() for line in result.stdout.splitlines()[1:]]).sort()
        assert perdure_command("ls", tmp_path / "0").exit_code == 0
        assert len(read) == 3
    assert result.exit_code == 1
    assert [row[-1] for row in rows] == ["ok", "damaged", "damaged"]
    for number in range(3):
        briefly, whole = (look(str(tmp_path / str(number)), briefly=briefly) for briefly in (True, False))
        assert (briefly.state, briefly.written, briefly.problems) == (
            whole.state,
            whole.written,
            whole.problems,
        )
        for a, b in zip(briefly.checkpoints, whole.checkpoints, strict=True):
            assert (dataclasses.replace(a.info, bytes=b.info.bytes), a.problem) == (b.info, b.problem)

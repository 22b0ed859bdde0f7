import os
import signal
import time

import numpy as np
import pytest
import torch
from cli_support import as_json, flip_byte, make_newer, make_run, perdure_command

import perdure
from perdure.inspect import check_policies
from perdure.persistence import versions
from perdure.store import Problem, Store, _verify


def test_a_good_run(tmp_path):
    run = make_run(tmp_path / "a")
    result = perdure_command("verify", run)
    assert result.exit_code == 0
    assert "nothing is wrong" in result.stdout
    (document,) = as_json("verify", run)["runs"]
    assert document["checkpoints"] == 3
    assert document["bytes_read"] > 4000
    assert document["problems"] == document["notes"] == []
    assert document["error"] is None


@pytest.mark.parametrize("at", [0, 60, -1])
def test_a_flipped_byte_of_data_is_found(tmp_path, at):
    run = make_run(tmp_path / "a")
    flip_byte(run / "packs" / "00000001.safetensors", at)
    result = perdure_command("verify", run)
    assert result.exit_code == 1
    assert "packs/00000001.safetensors" in result.stdout
    assert "cannot be used" in result.stdout
    assert str(run) + os.sep not in result.stdout


def test_every_byte_of_a_manifest_counts(tmp_path):
    run = make_run(tmp_path / "a", checkpoints=1)
    manifest = run / "checkpoints" / "00000001.json"
    flip_byte(manifest, manifest.stat().st_size // 2)
    (document,) = as_json("verify", run, code=1)["runs"]
    assert [problem["file"] for problem in document["problems"]] == ["checkpoints/00000001.json"]
    # Its pack is of no use to anyone now, which is no further damage.
    assert [note["file"] for note in document["notes"]] == ["packs/00000001.safetensors"]


def test_a_lost_run_json_is_a_problem(tmp_path):
    run = make_run(tmp_path / "a")
    (run / "run.json").unlink()
    result = perdure_command("verify", run)
    assert result.exit_code == 1
    assert "run.json" in result.stdout
    assert result.stderr == ""


def test_nothing_readable_at_all_is_a_problem(tmp_path):
    run = make_run(tmp_path / "a", checkpoints=1)
    for file in (run / "run.json", run / "checkpoints" / "00000001.json"):
        flip_byte(file, 70)
    assert perdure_command("verify", run).exit_code == 1


def test_several_runs_and_one_that_is_not_there(tmp_path):
    good, bad = make_run(tmp_path / "good"), make_run(tmp_path / "bad")
    missing = perdure_command("verify", good, tmp_path / "gone")
    assert missing.exit_code == 2
    assert "nothing is wrong" in missing.stdout
    flip_byte(bad / "packs" / "00000002.safetensors", -1)
    assert perdure_command("verify", tmp_path / "gone", bad, good).exit_code == 1
    assert perdure_command("verify").exit_code == 2


def test_a_newer_format_cannot_be_checked_and_is_no_damage(tmp_path):
    run = make_run(tmp_path / "a")
    make_newer(run / "checkpoints" / "00000003.json", "manifest")
    result = perdure_command("verify", run)
    assert result.exit_code == 2
    assert "newer Perdure" in result.stdout
    make_newer(run / "run.json", "run")
    assert perdure_command("verify", run).exit_code == 2


def test_what_a_writer_removes_meanwhile_is_no_damage_and_damage_is(tmp_path, monkeypatch):
    whole, calls = Store.verify, []

    def verify(store):
        calls.append(store)
        # As if retention had taken checkpoint 7 away while its data was to be read.
        return [*whole(store), *([Problem("packs/7", "is missing", "no use")] if len(calls) == 1 else [])]

    monkeypatch.setattr(Store, "verify", verify)
    with perdure.Run(make_run(tmp_path / "a")):
        assert perdure_command("verify", tmp_path / "a").exit_code == 0
        flip_byte(tmp_path / "a" / "packs" / "00000001.safetensors", -1)
        calls.clear()
        (document,) = as_json("verify", tmp_path / "a", code=1)["runs"]
    assert [problem["file"] for problem in document["problems"]] == ["packs/00000001.safetensors"]


@pytest.mark.parametrize("file", ["policy.pt", "best.json"])
def test_a_flipped_byte_of_the_best_policy_is_found(tmp_path, file):
    run = make_run(tmp_path / "run")
    with perdure.Run(run) as opened:
        # Better than any that the run has.
        opened.best_policy.offer(1e9, 1, perdure.World(policy=torch.nn.Linear(2, 1)))
    path = run / "best" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    (document,) = as_json("verify", run, code=1)["runs"]
    assert [problem["file"] for problem in document["problems"]] == [os.readlink(run / "best")]


# -- beside a training ------------------------------------------------------------------------------------------------


def test_beside_a_process_that_commits_prunes_and_publishes(tmp_path):
    """A checkpoint that retention deletes, and a version that a better one replaces, are no damage."""
    run = tmp_path / "run"
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            world = perdure.World(policy=torch.nn.Linear(4, 4), x=np.zeros((200, 8)))
            with perdure.Run(run, keep=1) as training:
                for step in training.steps(world, 10**6, every=1):
                    world.x[step % 200] = step
                    if step % 3 == 0:
                        training.report_score(float(step), world)
        finally:
            os._exit(1)
    try:
        deadline = time.monotonic() + 60
        while not list(run.glob("checkpoints/*.json")) and time.monotonic() < deadline:
            time.sleep(0.01)
        for _ in range(60):
            result = perdure_command("verify", run)
            assert result.exit_code == 0, result.output
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("moment", ["pack_sizes", "read_header", "read_extents", "_check_frame"])
def test_a_checkpoint_that_is_deleted_while_it_is_verified(tmp_path, monkeypatch, moment):
    run = make_run(tmp_path / "run")
    real = getattr(_verify, moment)

    def deleted_first(*arguments):
        with Store.open(run, write=True) as writer:
            writer.retain([3])
        return real(*arguments)

    packs = len(list((run / "packs").iterdir()))
    with Store.open(run) as store:
        monkeypatch.setattr(_verify, moment, deleted_first)
        assert [problem for problem in store.verify() if not problem.harmless] == []
    assert len(list((run / "packs").iterdir())) < packs


def test_a_missing_pack_is_damage_beside_a_training_too(tmp_path):
    run = make_run(tmp_path / "run")
    with perdure.Run(run):
        for pack in (run / "packs").iterdir():
            pack.unlink()
        assert perdure_command("verify", run).exit_code == 1


def test_a_better_version_that_is_published_while_it_is_verified(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    real = versions.misfits
    published = []

    def switched_first(root):
        if len(published) < 3:
            published.append(root)
            with perdure.Run(run) as training:
                better = training.best_score + 1.0
                assert training.best_policy.offer(better, 9, perdure.World(policy=torch.nn.Linear(1, 1)))
        return real(root)

    monkeypatch.setattr(versions, "misfits", switched_first)
    assert check_policies(str(run)) == []


def test_a_run_without_a_checkpoint(tmp_path):
    with perdure.Run(tmp_path / "run"):
        pass
    result = perdure_command("verify", tmp_path / "run")
    assert result.exit_code == 2
    assert "nothing is wrong" not in result.stdout
    assert "there is no checkpoint in it, so there is nothing to resume from" in result.stdout
    (document,) = as_json("verify", tmp_path / "run", code=2)["runs"]
    assert (document["checkpoints"], document["problems"]) == (0, [])
    assert "no checkpoint" in document["error"]

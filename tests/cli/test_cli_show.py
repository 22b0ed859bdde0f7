import json

import pytest
from cli_support import as_json, flip_byte, make_newer, make_run, perdure_command

import perdure
from perdure.cli import showing
from perdure.inspect import leaves_of
from perdure.state import capture


def test_a_run_and_its_newest_checkpoint(tmp_path):
    run = make_run(tmp_path / "a", counters={"epoch": 7})
    result = perdure_command("show", run)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for shown in (
        "step 3,000",
        "epoch 7",
        "return 4.5",
        "best 123.5",
        "buffer 1 1 4.0 kB",
        "3 checkpoints: 1, 2, 3",
    ):
        assert shown in text
    assert "1 path left out on purpose" in text
    assert "on_end" in text


def test_sizes_by_part_are_those_of_the_arrays(tmp_path):
    parts = {part["part"]: part for part in as_json("show", make_run(tmp_path / "a"))["parts"]}
    assert list(parts)[:4] == ["agent", "buffer", "on_end", "count"]
    assert parts["buffer"]["bytes"] == 4000
    assert parts["agent"]["bytes"] == 4 * (8 * 4 + 4)
    assert parts["count"] == {"part": "count", "paths": 1, "arrays": 0, "bytes": 0}
    assert {"run", "rng"} < set(parts)


def test_what_two_parts_share_is_counted_once(tmp_path):
    with perdure.Run(tmp_path / "a") as run:
        import torch

        agent = torch.nn.Linear(10, 10)
        run.checkpoint(perdure.World(agent=agent, agents=[agent, agent.weight]), 1)
    document = as_json("show", tmp_path / "a")
    parts = {part["part"]: part["bytes"] for part in document["parts"]}
    assert parts["agent"] == 440
    assert parts.get("agents", 0) == 0
    assert sum(parts.values()) == document["checkpoint"]["bytes"]


def test_another_checkpoint(tmp_path):
    run = make_run(tmp_path / "a")
    document = as_json("show", run, "--checkpoint", 2)
    assert document["checkpoint"]["step"] == 2000
    assert document["run"]["step"] == 3000
    missing = perdure_command("show", run, "--checkpoint", 9)
    assert missing.exit_code == 2
    assert "1, 2, 3" in missing.stderr


def test_the_tree_lists_paths_types_and_shapes(tmp_path):
    run = make_run(tmp_path / "a")
    result = perdure_command("show", run, "--tree")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "agent.weight torch float32 (4, 8), 128 bytes" in lines
    assert "buffer numpy float32 (100, 10), 4.0 kB" in lines
    assert "count 3" in lines
    assert any(line.startswith("on_end left out: ") for line in lines)


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("buffer", ["buffer"]),
        ("agent.weight", ["agent.weight"]),
        ("*ei?ht", ["agent.weight"]),
        ("rng.numpy", 5),
    ],
)
def test_the_tree_takes_a_pattern_for_what_is_at_and_below_it(tmp_path, pattern, paths):
    listed = [leaf["path"] for leaf in as_json("show", make_run(tmp_path / "a"), "--tree", pattern)["tree"]]
    assert listed == paths or len(listed) == paths


def test_a_pattern_that_matches_nothing_is_exit_code_2(tmp_path):
    result = perdure_command("show", make_run(tmp_path / "a"), "--tree", "nothing*")
    assert result.exit_code == 2
    assert "nothing*" in result.stderr


def test_tree_before_the_run_is_explained(tmp_path):
    result = perdure_command("show", "--tree", make_run(tmp_path / "a"))
    assert result.exit_code == 2
    assert "Write --tree after RUN" in result.stderr


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_shown(tmp_path):
    run = make_run(tmp_path / "a")
    flip_byte(run / "checkpoints" / "00000003.json", 200)
    result = perdure_command("show", run)
    assert result.exit_code == 1
    assert "checkpoint 2" in result.stdout
    assert "checkpoints/00000003.json is damaged" in result.stderr
    chosen = perdure_command("show", run, "-c", 3)
    assert chosen.exit_code == 1
    assert chosen.stdout == ""
    assert perdure_command("show", run, "-c", 1).exit_code == 1


def test_a_newer_format_says_to_upgrade(tmp_path):
    run = make_run(tmp_path / "a")
    make_newer(run / "checkpoints" / "00000003.json", "manifest")
    for arguments in ((), ("-c", 3)):
        result = perdure_command("show", run, *arguments)
        assert result.exit_code == 2
        assert "pip install --upgrade perdure" in result.stderr
    assert perdure_command("show", run, "-c", 2).exit_code == 0
    make_newer(run / "run.json", "run")
    assert perdure_command("show", run, "-c", 2).exit_code == 2


def test_what_is_no_run_is_exit_code_2(tmp_path):
    result = perdure_command("show", tmp_path)
    assert result.exit_code == 2
    assert "is not a run" in result.stderr
    assert "Traceback" not in result.stderr
    assert perdure_command("show").exit_code == 2


def test_a_run_without_a_checkpoint(tmp_path):
    perdure.Run(tmp_path / "a").close()
    assert "no checkpoint yet" in perdure_command("show", tmp_path / "a").stdout
    assert as_json("show", tmp_path / "a")["checkpoint"] is None


def test_other_versions_are_pointed_out(tmp_path, monkeypatch):
    run = make_run(tmp_path / "a")
    monkeypatch.setattr(showing, "library_versions", lambda: {"torch": "9.9"})
    assert "(here 9.9)" in perdure_command("show", run).stdout


def test_functions_are_shown_by_their_names():
    leaves = {
        leaf.path: leaf for leaf in leaves_of(capture({"f": json.loads, "c": int, "m": json, "l": lambda: 0}))
    }
    assert (leaves["f"].type, leaves["f"].what) == ("function", "json.loads")
    assert (leaves["c"].type, leaves["c"].what) == ("class", "builtins.int")
    assert (leaves["m"].type, leaves["m"].what) == ("module", "json")
    assert "<lambda>" in leaves["l"].what

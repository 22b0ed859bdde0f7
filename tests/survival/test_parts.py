"""Worlds with unusual parts, killed and resumed."""

import pytest
from harness import differences, final, killed, uninterrupted


@pytest.mark.parametrize("name", ["buffers", "iterators", "loaders"])
def test_killed_and_resumed_ends_as_uninterrupted(name, tmp_path):
    steps = uninterrupted("part_cases", name, tmp_path / "whole")
    killed("part_cases", name, tmp_path / "killed", steps, kills=2)
    found = differences(tmp_path / "whole", tmp_path / "killed")
    # Tianshou goes through sets of names, whose order depends on the process.
    assert [each for each in found if not each.startswith("run.script_fingerprint")] == []
    assert final(tmp_path / "whole").info.step == final(tmp_path / "killed").info.step

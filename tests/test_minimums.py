"""What `make oldest` tests with is what the package declares as the oldest."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_oldest_set_is_the_declared_minimums():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    declared = dict(
        re.match(r"([\w.-]+)(?:\[.*\])?>=([\d.]+)", each).groups()
        for each in (*project["dependencies"], *extras["gymnasium"], *extras["sb3"], *extras["tianshou"])
    )
    # Of torch development has one build, and a test with another takes as long to install as the suite to run.
    del declared["torch"]
    pinned = dict(
        line.split("==")
        for line in (ROOT / "constraints-oldest.txt").read_text().splitlines()
        if "==" in line
    )
    assert pinned.keys() == declared.keys()
    for name, least in declared.items():
        # The first release of those numbers: 3.4 never had a 3.4.0 that can be installed, so its first is 3.4.1.
        assert f"{pinned[name]}.".startswith(f"{least}."), (name, pinned[name], least)

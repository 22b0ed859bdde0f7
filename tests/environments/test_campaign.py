"""`make environments`: its cases name what is there, its results are kept, and its table is made of them."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from environments import campaign, makers, table, venvs
from environments.cases import CASES, MAKERS
from perdure.check_env import CheckReport, env_spec


def test_the_cases_are_as_many_as_promised_and_name_what_is_there():
    exact = [name for name, case in CASES.items() if case.expect == "exact" and case.steps >= 500]
    assert len(exact) >= 80
    assert len({name.partition("/")[0] for name in exact}) >= 12
    for name, case in CASES.items():
        what = env_spec(case.env, **case.options)
        assert type(what).load(what.document()) == what
        assert case.venv in ("main", *venvs.PACKAGES), name
        if case.env.startswith(MAKERS):
            assert callable(getattr(makers, case.env.removeprefix(MAKERS))), name
    files = [campaign.result_file(name) for name in CASES]
    assert len(set(files)) == len(files)


def test_results_are_kept_as_long_as_the_case_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "RESULTS", tmp_path)
    name = "classic/CartPole-v1"
    assert campaign.load(name) is None
    campaign.keep(name, CheckReport(name, "exact"))
    assert campaign.as_expected(name, campaign.load(name))
    monkeypatch.setitem(CASES, name, dataclasses.replace(CASES[name], steps=7))
    assert campaign.load(name) is None


@pytest.mark.parametrize("verdict", ["exact", "different"])
def test_the_table_says_what_was_found(tmp_path, monkeypatch, verdict):
    monkeypatch.setattr(campaign, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "DOCUMENT", tmp_path / "environments.md")
    name = "classic/CartPole-v1"
    report = CheckReport(
        name,
        verdict,
        ["it counts | in its class"],
        way="walk",
        steps=500,
        resets=9,
        bytes=1234,
        capture_ms=0.5,
    )
    campaign.keep(name, report)
    assert table.write().startswith(f"{int(verdict == 'exact')} of 1 set-ups are exact")
    written = table.DOCUMENT.read_text()
    assert "| CartPole-v1 | walk |" in written
    assert "| 500 | 9 | 1,234 | 0.50 | - |" in written
    assert ("it counts" in written) == (verdict == "different")
    assert "There was no time for: classic/Pendulum-v1" in written
    assert table.surprises() == ([] if verdict == "exact" else [f"{name}: expected exact, found different"])

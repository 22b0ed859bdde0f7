"""State that no object holds: after a kill it is as if nothing had happened, or it is warned of."""

from __future__ import annotations

import linecache
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import pytest
from carrier_cases import EXACT, QUIET, WARNED

from perdure.errors import NotCapturedWarning

TOTAL = 9


class Killed(BaseException):
    """Ends a round in the middle, as a SIGKILL would."""


@pytest.fixture(autouse=True)
def _own_modules():
    yield
    for name in ("helper", "script"):
        sys.modules.pop(name, None)


def process(where: Path, helper: str, source: str, **names: Any) -> tuple[types.ModuleType, list[Any]]:
    """What a process of a script does: its modules are made anew.

    :returns: the module of the script, and the warnings of what no checkpoint holds.
    """
    for name, text in (("helper", helper), ("script", source)):
        file = where / f"{name}.py"
        file.write_text(text)
        linecache.checkcache(str(file))
        module = types.ModuleType(name)
        module.__file__ = str(file)
        sys.modules[name] = module
        vars(module).update(names if name == "script" else {})
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", NotCapturedWarning)
            try:
                exec(compile(text, str(file), "exec"), vars(module))
            except Killed:
                pass
            finally:
                if "run" in vars(module):
                    vars(module)["run"].close()
    return module, [each for each in caught if each.category is NotCapturedWarning]


def loop(before: str, body: str, form: str = "module") -> str:
    lines = [
        "import helper, perdure",
        "world = perdure.World(total=0.0)",
        "run = perdure.Run(directory)",
        "def add(x): world.total += float(x)",
        before,
        "for step in run.steps(world, total, every=2):",
        *(f"    {line}" for line in body.splitlines()),
        "    if step == kill: raise Killed",
    ]
    return "\n".join(lines) + "\n"


def both(where: Path, helper: str, before: str, body: str) -> tuple[float, float, list[Any]]:
    """What is added up without a kill, and with one, and the warnings of the first process."""
    source = loop(before, body)
    names = {"Killed": Killed, "total": TOTAL}
    whole, warned = process(where, helper, source, directory=where / "whole", kill=-1, **names)
    process(where, helper, source, directory=where / "killed", kill=5, **names)
    resumed, _ = process(where, helper, source, directory=where / "killed", kill=-1, **names)
    return whole.world.total, resumed.world.total, warned


@pytest.mark.parametrize("name", EXACT)
def test_it_goes_on_as_if_nothing_had_happened(tmp_path, name):
    whole, resumed, warned = both(tmp_path, *EXACT[name])
    assert [str(each.message) for each in warned] == []
    assert resumed == whole


@pytest.mark.parametrize("name", WARNED)
def test_what_cannot_be_captured_is_told_at_the_first_checkpoint(tmp_path, name):
    *script, words = WARNED[name]
    source = loop(*script[1:])
    _, warned = process(
        tmp_path, script[0], source, directory=tmp_path / "run", kill=2, Killed=Killed, total=TOTAL
    )
    said = [str(each.message) for each in warned]
    assert len(said) == 1
    assert words in said[0]
    assert "Keep it in the world" in said[0]
    assert warned[0].filename == str(tmp_path / "script.py")


@pytest.mark.parametrize("name", QUIET)
def test_nothing_is_said_of_what_no_run_depends_on(tmp_path, name):
    whole, resumed, warned = both(tmp_path, *QUIET[name])
    assert [str(each.message) for each in warned] == []
    assert resumed == whole

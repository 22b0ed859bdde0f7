# ruff: noqa: E501
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

from perdure.errors import NotCapturedWarning, RestoreError
from perdure.run.carriers import PART, Carriers
from perdure.tree import MappingNode, Object, State

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


def test_a_carrier_can_be_left_out(tmp_path):
    source = loop("", "helper.count += 1\nadd(helper.count)").replace(
        "Run(directory)", "Run(directory, skip=['script state*helper:count*'])"
    )
    names = {"Killed": Killed, "total": TOTAL, "directory": tmp_path / "run"}
    process(tmp_path, "count = 0", source, kill=5, **names)
    resumed, warned = process(tmp_path, "count = 0", source, kill=-1, **names)
    assert warned == []
    assert resumed.world.total == 1 + 2 + 3 + 4 + 1 + 2 + 3 + 4 + 5


def test_modules_can_be_added(tmp_path, monkeypatch):
    installed = types.ModuleType("installed")
    monkeypatch.setitem(sys.modules, "installed", installed)
    for added, expected in (((), 25), (("installed",), 45)):
        source = loop("import installed", "installed.count += 1\nadd(installed.count)").replace(
            "Run(directory)", f"Run(directory, modules={added})"
        )
        names = {"Killed": Killed, "total": TOTAL, "directory": tmp_path / f"run{len(added)}"}
        for kill in (5, -1):
            vars(installed).update(count=0, __file__=linecache.__file__)
            script, _ = process(tmp_path, "", source, kill=kill, **names)
        assert script.world.total == expected


def test_a_checkpoint_with_state_that_the_script_has_no_place_for(tmp_path):
    keeps = "def make():\n    n = 0\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\nf = make()"
    names = {"Killed": Killed, "total": TOTAL, "directory": tmp_path / "run"}
    process(tmp_path, keeps, loop("", "add(helper.f())"), kill=5, **names)
    with pytest.raises(
        RestoreError, match=r"no place any more(.|\n)*helper:f.<closure>.n(.|\n)*strict=False"
    ):
        process(tmp_path, "def f(): return 1", loop("", "add(helper.f())"), kill=-1, **names)
    lenient = loop("", "add(helper.f())").replace("Run(directory)", "Run(directory, strict=False)")
    script, _ = process(tmp_path, "def f(): return 1", lenient, kill=-1, **names)
    assert script.world.total == 1 + 2 + 3 + 4 + 5


@pytest.mark.parametrize(
    "name",
    [
        "os:path", "builtins:print", "helper:print", "helper:__builtins__", "helper:f.__code__", "helper:f.__globals__.x",
        "helper:A.__init__", "helper:A.f", "helper:f", "helper:A", "sys:path", "nowhere:x", "helper:f.<closure>.y", "helper:",
    ],
)  # fmt: skip
def test_a_forged_name_leads_nowhere(tmp_path, name):
    """A checkpoint sets only what a program could have kept there: no definition, nothing of Python's, no other module."""
    helper = "class A:\n    def f(self): return 1\ndef f(): return 1"
    script, _ = process(
        tmp_path, helper, loop("", ""), directory=tmp_path / "run", kill=-1, Killed=Killed, total=2
    )
    carriers = Carriers()
    frame = types.SimpleNamespace(f_code=types.SimpleNamespace(co_filename=script.__file__), f_back=None)
    frame.f_globals, frame.f_locals, frame.f_lineno = vars(script), {}, 1
    frame.f_code.co_qualname = "main"
    carriers.begin(frame, script.world, (), [])
    forged = State(Object("perdure:World", {PART: MappingNode("dict", [(name, 5)])}), [])
    assert carriers.find(forged) == ({}, [name])
    carriers.write_back({name: 5} if name.startswith(("os", "sys", "builtins", "nowhere")) else {})
    assert sys.modules["helper"].f() == sys.modules["helper"].A().f() == 1


def test_a_variable_that_got_another_name_is_told_and_the_old_name_goes_on(tmp_path, capfd):
    old = "cou" + "nter"  # this file counts as the script's own, and must not name it
    helper = f"{old} = 0\ndef bump():\n    global {old}\n    {old} += 1\n    return {old}"
    source = loop("", "add(helper.bump())")
    names = {"Killed": Killed, "total": TOTAL, "directory": tmp_path / "run"}
    process(tmp_path, helper, source, kill=4, **names)
    capfd.readouterr()
    renamed = loop("", "add(helper.bump())").replace("run.steps", "run.resume(world) and run.steps")
    process(tmp_path, helper.replace(old, "number"), renamed, kill=4, **names)
    said = capfd.readouterr().err
    assert f"the variable {old} of the module helper, and the script names that nowhere any more" in said
    resumed, _ = process(tmp_path, helper, source, kill=-1, **names)
    assert "names that nowhere" not in capfd.readouterr().err
    assert resumed.world.total == sum(range(1, TOTAL + 1))


# -- made or imported between `resume` and a loop that asks for checkpoints itself -------------------------------------


def by_hand(before: str, body: str, form: str) -> str:
    lines = [
        "import perdure",
        "world = perdure.World(total=0.0)",
        "run = perdure.Run(directory)",
        "def add(x): world.total += float(x)",
        "last = run.resume(world)",
        "start = last.step if last else 0",
    ]
    inside = [
        *before.splitlines(),
        "for step in range(start, total):",
        *(f"    {line}" for line in body.splitlines()),
        "    if step == kill: raise Killed",
        "    if step % 2: run.checkpoint(world, step + 1)",
    ]
    if form == "function":
        inside = ["def main():", *(f"    {line}" for line in inside), "main()"]
    return "\n".join([*lines, *inside]) + "\n"


_MAKE = "def make(n=0):\n    def f():\n        nonlocal n\n        n += 1\n        return n\n    return f\n"
LATE_AND_WARNED = {
    "a closure": ("", f"{_MAKE}f = make()", "add(f())", "n that the function"),
    "a closure over a list": (
        "", "def make():\n    seen = []\n    def f():\n        seen.append(1)\n        return len(seen)\n    return f\nf = make()",
        "add(f())", "seen that the function",
    ),
    "a closure in a dict": ("", f"{_MAKE}fs = {{'a': make()}}", "add(fs['a']())", "n that the function"),
    "an attribute of a class": ("", "class Meter:\n    n = 0", "Meter.n += 1\nadd(Meter.n)", "attribute n of the class"),
    "a default argument": (
        "", "def f(x=[]):\n    x.append(1)\n    return len(x)", "add(f())", "default argument of the function"),
    "an attribute of a function": (
        "", "def f():\n    f.n += 1\n    return f.n\nf.n = 0", "add(f())", "attribute n of the function"),
    "a cache of what was drawn": (
        "", "import functools, random\nrandom.seed(1)\n@functools.cache\ndef f(n): return random.random()", "add(f(step % 3))",
        "functools.lru_cache keeps"),
    "a variable of a module": (
        "count = 0\ndef bump():\n    global count\n    count += 1\n    return count", "import late", "add(late.bump())",
        "variable count of the module late: its module was imported"),
    "a list of a module that a round imports": (
        "seen = []\ndef grow():\n    seen.append(1)\n    return len(seen)", "", "import late\nadd(late.grow())",
        "variable seen of the module late: its module was imported"),
    "random numbers of a module": (
        "import numpy as np\nrng = np.random.default_rng(1)\ndef draw():\n    global drawn\n    drawn = rng.random()\n    return drawn\n"
        "drawn = 0.0", "from late import draw", "add(draw())", "variable drawn of the module late"),
    "a class of a module": (
        "class Meter:\n    total = 0", "from late import Meter", "Meter.total += 1\nadd(Meter.total)",
        "attribute total of the class late.Meter"),
}  # fmt: skip
LATE_AND_QUIET = {
    "functions, classes and constants": (
        "", "LR = 0.5\nclass A:\n    k = 2\n    def f(self): return LR * self.k\ndef g(x=1, y=()): return x", "add(A().f() + g())"),
    "a closure that only reads": ("", "def make(n):\n    return lambda: n\nf = make(3)", "add(f())"),
    "a module of functions": ("TABLE = {}\nfor i in range(4): TABLE[i] = i * i\ndef f(n): return TABLE[n % 4]", "import late", "add(late.f(step))"),
    "a module in which decorators register": (
        "FOUND = {}\ndef register(g):\n    FOUND[g.__name__] = g\n    return g\n@register\ndef one(): return 1", "import late", "add(late.FOUND['one']())"),
    "what the world holds": ("", "world.seen = []\ndef f(x=world.seen):\n    x.append(1)\n    return 1", "add(f())"),
}  # fmt: skip


@pytest.fixture
def late(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "late.py"
    sys.modules.pop("late", None)


@pytest.mark.parametrize("form", ["module", "function"])
@pytest.mark.parametrize("name", LATE_AND_WARNED)
def test_what_comes_after_resuming_is_told_at_the_first_checkpoint(tmp_path, late, name, form):
    helper, before, body, words = LATE_AND_WARNED[name]
    late.write_text(helper)
    source = by_hand(before, body, form)
    _, warned = process(tmp_path, "", source, directory=tmp_path / "run", kill=2, Killed=Killed, total=TOTAL)
    said = "\n".join(str(each.message) for each in warned)
    assert words in said
    assert len(warned) == 1


@pytest.mark.parametrize("name", LATE_AND_QUIET)
def test_what_comes_after_resuming_and_keeps_nothing_is_not(tmp_path, late, name):
    helper, before, body = LATE_AND_QUIET[name]
    late.write_text(helper)
    _, warned = process(
        tmp_path, "", by_hand(before, body, "module"), directory=tmp_path / "run", kill=-1, total=TOTAL
    )
    # Of other modules of the suite, which are imported when they are, something may be told.
    assert [text for text in (str(each.message) for each in warned) if "CASES" not in text] == []

"""A script that was edited since its run began: the message tells which value or code is in force, and it is."""

from __future__ import annotations

import importlib
import linecache
import re
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.errors import ChangedScriptWarning
from perdure.run._code_prints import _print

#: What a script looks like: `build()` makes its world, and `probe(world)` tells what is in force.
CASES = {
    "a lambda in an attribute": (
        "class A:\n    pass\ndef build():\n    a = A()\n    a.lr = lambda p: {0} * p\n    return dict(a=a)\n"
        "def probe(w):\n    return w.a.lr(1)",
        ("0.5", "0.25"),
        "new",
        r"a\.lr: build\.<lambda> \(edited_\d+\.py:5\): 0\.5 became 0\.25",
    ),
    "a lambda at the top of the module": (
        "lr = lambda p: {0} * p\ndef build():\n    return dict(agent=[lr])\ndef probe(w):\n    return w.agent[0](1)",
        ("0.5", "0.25"),
        "new",
        r"agent\[0\]: <lambda> .*: 0\.5 became 0\.25",
    ),
    "a function at the top of the module": (
        "def reward(x):\n    '''{0}'''\n    return {0} * x\ndef build():\n    return dict(r=reward)\n"
        "def probe(w):\n    return w.r(1)",
        ("0.5", "0.25"),
        "new",
        r"reward \(edited_\d+\.py:1\): 0\.5 became 0\.25",
    ),
    "a method": (
        "class A:\n    def act(self, x):\n        return x + {0}\ndef build():\n    return dict(a=A())\n"
        "def probe(w):\n    return w.a.act(0)",
        ("1", "2"),
        "new",
        r"A\.act \(edited_\d+\.py:2\): 1 became 2",
    ),
    "a method of a base class": (
        "class B:\n    def act(self, x):\n        return x + {0}\nclass A(B):\n    pass\n"
        "def build():\n    return dict(a=A())\ndef probe(w):\n    return w.a.act(0)",
        ("1", "2"),
        "new",
        r"B\.act",
    ),
    "a helper that a function calls": (
        "def shaped(x):\n    return x * {0}\ndef reward(x):\n    return shaped(x)\n"
        "def build():\n    return dict(r=[reward])\ndef probe(w):\n    return w.r[0](1)",
        ("3", "4"),
        "new",
        r"shaped .*: 3 became 4",
    ),
    "a default argument": (
        "def reward(x, scale={0}):\n    return x * scale\ndef build():\n    return dict(r=reward)\n"
        "def probe(w):\n    return w.r(1)",
        ("3", "4"),
        "new",
        r"reward .*: 3 became 4",
    ),
    "a property, a static method and a cached function": (
        "import functools\nclass A:\n    @property\n    def lr(self):\n        return {0}\n    @staticmethod\n"
        "    def s():\n        return {0}\n@functools.lru_cache\ndef c():\n    return {0}\n"
        "def build():\n    return dict(a=A(), c=c)\ndef probe(w):\n    return w.a.lr + w.a.s() + w.c()",
        ("10", "20"),
        "new",
        r"A\.lr .*\n.*A\.s .*|A\.s .*\n.*A\.lr .*",
    ),
    "a bound method and a partial": (
        "import functools\nclass A:\n    def f(self):\n        return {0}\ndef g(x):\n    return {0} * x\n"
        "def build():\n    return dict(m=A().f, p=functools.partial(g, 2))\ndef probe(w):\n    return w.m() + w.p()",
        ("10", "20"),
        "new",
        r"A\.f",
    ),
    "a constant that a function reads": (
        "GAMMA = {0}\nclass A:\n    def target(self):\n        return GAMMA\ndef build():\n    return dict(a=A())\n"
        "def probe(w):\n    return w.a.target()",
        ("0.9", "0.99"),
        "new",
        r"GAMMA \(edited_\d+\.py:1\): 0\.9 before, 0\.99 now",
    ),
    "a constant of a class": (
        "class A:\n    gamma: float = {0}\ndef build():\n    return dict(a=A())\ndef probe(w):\n    return w.a.gamma",
        ("0.9", "0.99"),
        "new",
        r"A\.gamma .*: 0\.9 before, 0\.99 now",
    ),
    "a body that got another statement": (
        "def reward(x):\n    {0}\n    return 1 if x is None else x\ndef build():\n    return dict(r=reward)\n"
        "def probe(w):\n    return w.r(None)",
        ("pass", "x = 5"),
        "new",
        r"reward \(edited_\d+\.py:1\)\Z",
    ),
    "a number in the constructor": (
        "class A:\n    def __init__(self, lr):\n        self.lr = lr\ndef build():\n    return dict(a=A(lr={0}))\n"
        "def probe(w):\n    return w.a.lr",
        ("3e-4", "1e-4"),
        "old",
        r"a\.lr: 0\.0003 when the run began, 0\.0001 in the script now",
    ),
    "a default of a dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass C:\n    lr: float = {0}\n"
        "def build():\n    return dict(c=C())\n"
        "def probe(w):\n    return w.c.lr",
        ("3e-4", "1e-4"),
        "old",
        r"c\.lr: 0\.0003 when the run began, 0\.0001 in the script now",
    ),
    "a variable of a closure": (
        "def schedule(start):\n    def lr(p):\n        return start * p\n    return lr\n"
        "def build():\n    return dict(s=[schedule({0})])\ndef probe(w):\n    return w.s[0](1)",
        ("0.5", "0.25"),
        "old",
        r"s\[0\]\.start: 0\.5 when the run began, 0\.25 in the script now",
    ),
    "an argument of a partial": (
        "import functools\ndef f(a, b):\n    return a * b\n"
        "def build():\n    return dict(p=functools.partial(f, b={0}))\n"
        "def probe(w):\n    return w.p(1)",
        ("3", "4"),
        "old",
        r"p\.keywords\['b'\]: 3 when the run began, 4 in the script now",
    ),
    "another function by name": (
        "def sparse(x):\n    return 1\ndef dense(x):\n    return 2\nclass A:\n    pass\n"
        "def build():\n    a = A()\n    a.r = {0}\n    return dict(a=a)\ndef probe(w):\n    return w.a.r(0)",
        ("sparse", "dense"),
        "old",
        r"a\.r: sparse when the run began, dense in the script now",
    ),
    "another one of two lambdas": (
        "S = [lambda p: 1, lambda p: 2]\nclass A:\n    pass\ndef build():\n    a = A()\n    a.r = S[{0}]\n"
        "    return dict(a=a)\ndef probe(w):\n    return w.a.r(0)",
        ("0", "1"),
        "old",
        r"a\.r: another <lambda> when the run began, another <lambda> in the script now",
    ),
    "a number where training goes on from": (
        "class A:\n    pass\ndef build():\n    a = A()\n    a.epsilon = {0}\n    return dict(a=a)\n"
        "def train(w):\n    w.a.epsilon *= 0.5\ndef probe(w):\n    return w.a.epsilon",
        ("1.0", "0.8"),
        "old",
        r"a\.epsilon: 1\.0 when the run began, 0\.8 in the script now, 0\.5 in the checkpoint",
    ),
}  # fmt: skip
_numbers = iter(range(1000))


class Script:
    """A script of the user's, which can be edited."""

    def __init__(self, directory: Path, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = directory / f"edited_{next(_numbers)}.py"
        self.source = source
        monkeypatch.syspath_prepend(str(directory))

    def module(self, value: str) -> types.ModuleType:
        self.path.write_text(self.source.replace("{0}", value))
        sys.modules.pop(self.path.stem, None)
        sys.dont_write_bytecode = True
        importlib.invalidate_caches()
        return importlib.import_module(self.path.stem)


def resumed(directory: Path, module: Any, **options: Any) -> tuple[perdure.World, list[str]]:
    world = perdure.World(**module.build())
    with perdure.Run(directory, **options) as run, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if run.resume(world) is None:
            getattr(module, "train", lambda world: None)(world)
        run.checkpoint(world, 1)
    assert all(each.category is ChangedScriptWarning and each.filename == __file__ for each in caught)
    return world, [str(each.message) for each in caught]


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    before = sys.dont_write_bytecode
    yield
    sys.dont_write_bytecode = before


@pytest.mark.parametrize("name", CASES)
def test_what_is_in_force_is_told_and_the_remedy_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source, (old, new), in_force, expected = CASES[name]
    script = Script(tmp_path, source, monkeypatch)
    module = script.module(old)
    world, told = resumed(tmp_path / "run", module)
    began = module.probe(world)
    assert told == []
    assert resumed(tmp_path / "run", script.module(old))[1] == []
    edited = script.module(new)
    fresh = edited.probe(perdure.World(**edited.build()))
    world, told = resumed(tmp_path / "run", edited)
    assert len(told) == 1
    assert re.search(expected, told[0])
    assert edited.probe(world) == (fresh if in_force == "new" else began)
    assert ("edited code is in force" in told[0]) == (in_force == "new")
    assert ("keeps the values it began with" in told[0]) == (in_force == "old")
    if in_force == "new":
        # The run goes on with it, which is no news the next time.
        assert resumed(tmp_path / "run", script.module(new))[1] == []
        return
    remedy = re.search(r"override=(\{.*\})", told[0])
    assert remedy is not None
    override = eval(remedy[1], {"perdure": perdure})
    world, told = resumed(tmp_path / "run", script.module(new), override=override)
    assert told == []
    assert edited.probe(world) == fresh


@pytest.mark.parametrize(
    ("source", "values"),
    [
        ("#{0}\ndef f(x):\n    '''{0}'''\n    return x  # {0}\ndef build():\n    return dict(f=f)", ("a", "b\n\n#")),
        ("import time\nSTART = time.time()\nclass A:\n    born = time.time()\n    def f(self):\n        return START\n"
         "def build():\n    return dict(a=A())\n#{0}", ("a", "b")),
        ("COUNT = 0\nclass A:\n    def __init__(self):\n        global COUNT\n        COUNT += 1\n"
         "def build():\n    return dict(a=A())\n#{0}", ("a", "b")),
        ("def unused():\n    return {0}\ndef build():\n    return dict(a=1)", ("1", "2")),
        ("import torch\ndef build():\n    return dict(a=torch.nn.Linear(1, 1).eval())\n#{0}", ("a", "b")),
        ("import time\ndef build():\n    return dict(a=time.time(), b=f'x__{int(time.time())}')\n#{0}", ("a", "b")),
    ],
    ids=["comments", "moments", "counters", "not used", "libraries", "readings of the clock"],
)  # fmt: skip
def test_what_makes_no_difference_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, values: tuple[str, str]
) -> None:
    script = Script(tmp_path, source, monkeypatch)
    for value in values:
        assert resumed(tmp_path / "run", script.module(value))[1] == []


def test_prints_do_not_depend_on_the_order_of_sets() -> None:
    """It differs from process to process."""

    def member(x: Any) -> bool:
        return x in {"a", "b", "c", "d"}

    before = _print(member)
    consts = member.__code__.co_consts
    for _ in range(2):
        other = tuple(
            frozenset([*sorted(each, reverse=True)]) if isinstance(each, frozenset) else each
            for each in consts
        )
        member.__code__ = member.__code__.replace(co_consts=other)
        assert _print(member) == before


LOOP = """import perdure
def gain(x):
    return 2 * x
world = perdure.World(n=0)
with perdure.Run(directory) as run:
    for step in run.steps(world, {total}, every=1):
        world.n += gain(step) + 5  # a comment
"""


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (("+ 5", "+ 6"), r"the loop \(loop\.py:6\): 5 became 6"),
        (("world.n +=", "world.n -="), r"the loop \(loop\.py:6\)\Z"),
        (("2 * x", "3 * x"), r"gain \(loop\.py:2\): 2 became 3"),
        (("a comment", "another comment"), None),
    ],
)
def test_the_body_of_the_loop_and_what_it_calls_is_compared(
    tmp_path: Path, edit: tuple[str, str], told: str | None
) -> None:
    file = tmp_path / "loop.py"
    for text, words in ((LOOP.format(total=2), None), (LOOP.replace(*edit).format(total=4), told)):
        file.write_text(text)
        linecache.checkcache(str(file))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            names = {"directory": tmp_path / "run", "__name__": "loop", "__file__": str(file)}
            exec(compile(text, str(file), "exec"), names)
        said = [str(each.message) for each in caught if each.category is ChangedScriptWarning]
        assert len(said) == (words is not None)
        assert words is None or re.search(words, said[0])

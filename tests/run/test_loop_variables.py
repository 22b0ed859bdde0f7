"""Which variables of a loop carry state from round to round: what is warned of, and what is not."""

from __future__ import annotations

import itertools
import linecache
import re
import warnings
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings

import perdure
from perdure.errors import NotCapturedWarning

_numbers = itertools.count()


class Killed(BaseException):
    """Ends a round in the middle, as a SIGKILL would."""


def run_script(source: str, **names: Any) -> tuple[list[str], dict[str, Any]]:
    """Run a piece of source as a script.

    :returns: the variables that were warned of, and the script's variables.
    """
    filename = f"<script {next(_numbers)}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    variables = {"__name__": "script", "perdure": perdure, "np": np, "torch": torch, **names}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NotCapturedWarning)
        exec(compile(source, filename, "exec"), variables)
    said = [warning for warning in caught if warning.category is NotCapturedWarning]
    assert {warning.filename for warning in said} <= {filename}
    found = [re.search(r"iterations in (.*), which", str(warning.message)) for warning in said]
    return [name for match in found if match for name in match[1].split(", ")], variables


def warned_of(tmp_path: Path, before: str, body: str, after: str = "", *, form: str = "module") -> list[str]:
    """The variables that are warned of in a loop.

    :param form: "module" for a loop at the top of a script, "function" for one in a function.
    """
    lines = [
        *before.splitlines(),
        "world = perdure.World(n=0)",
        "run = perdure.Run(directory)",
        "for step in run.steps(world, 4, every=1):",
        *(f"    {line}" for line in body.splitlines()),
        *after.splitlines(),
        "run.close()",
    ]
    if form == "function":
        lines = ["def main():", *(f"    {line}" for line in lines), "main()"]
    return run_script("\n".join(lines) + "\n", directory=tmp_path / "run")[0]


CARRIED = {
    "assigned at the end": ("x = 0", "world.n += x\nx = step", "", ["x"]),
    "bound anew only later": (
        "alpha = 1.0",
        "world.n += alpha\nif step >= 3: alpha = alpha / 2",
        "",
        ["alpha"],
    ),
    "read further up than it is assigned": ("", "if step > 0: world.n += x\nx = step", "", ["x"]),
    "added up": ("total = 0", "total += step", "print(total, end='')", ["total"]),
    "read only after the loop": ("best = 0", "if step == 2: best = step", "world.n = best", ["best"]),
    "on one path": ("x = 0", "if step % 2: x = step\nworld.n += x", "", ["x"]),
    "by a loop that may run no time": (
        "x = 0\nxs = [1]",
        "for i in xs[step:]: x = i\nworld.n += x",
        "",
        ["x"],
    ),
    "by a while loop": ("x = 0", "k = 0\nwhile k < step:\n    x = k\n    k += 1\nworld.n += x", "", ["x"]),
    "by an exception": (
        "x = 0",
        "try:\n    x = {1: 5}[step]\nexcept KeyError:\n    pass\nworld.n += x",
        "",
        ["x"],
    ),
    "by suppress": (
        "import contextlib\nx = 0",
        "with contextlib.suppress(KeyError): x = {1: 5}[step]\nworld.n += x",
        "",
        ["x"],
    ),
    "by a match": ("x = 0", "match step:\n    case 2:\n        x = 1\nworld.n += x", "", ["x"]),
    "by a continue": ("x = 0", "if step == 1: continue\nworld.n += x\nx = 2", "", ["x"]),
    "by a walrus": ("x = 0", "world.n += x\nif (x := step) > 9: pass", "", ["x"]),
    "by a walrus that may not run": ("x = 0", "step > 1 and (x := step)\nworld.n += x", "", ["x"]),
    "unpacked": ("a, b = 0, 1", "world.n += a\na, b = b, a + b", "", ["a", "b"]),
    "a list that grows": ("seen = []", "seen.append(step)\nworld.n = len(seen)", "", ["seen"]),
    "a list that is bound anew": (
        "episode = []",
        "episode.append(step)\nif step == 3:\n    world.n = sum(episode)\n    episode = []",
        "",
        ["episode"],
    ),
    "a dict": ("seen = {}", "seen[step] = 1\nworld.n = len(seen)", "", ["seen"]),
    "an array": ("x = np.zeros(2)", "world.n += x.sum()\nx[0] = step", "", ["x"]),
    "an array that is overwritten in part": (
        "x = np.zeros(9)",
        "for t in range(4): x[t] = step\nworld.n += x.sum()",
        "",
        ["x"],
    ),
    "an element of an array": ("x = np.zeros(3)", "x[step % 3] += 1\nworld.n = x.sum()", "", ["x"]),
    "an array that is overwritten, and left early": (
        "x = np.zeros(4)",
        "for t in range(4):\n    if t > step: break\n    x[t] = step + 1\nworld.n += x.sum()",
        "",
        ["x"],
    ),
    "an array that is read while it is overwritten": (
        "x = np.zeros(4)",
        "for t in range(4): x[t] = x[t - 1] + 1\nworld.n += x.sum()",
        "",
        ["x"],
    ),
    "an attribute": (
        "class Box: pass\nbox = Box()\nbox.x = 0",
        "world.n += box.x\nbox.x = step",
        "",
        ["box"],
    ),
    "an iterator": ("it = iter(range(9))", "world.n += next(it)", "", ["it"]),
    "an iterator of itertools": (
        "import itertools\nit = itertools.count()",
        "world.n += next(it)",
        "",
        ["it"],
    ),
    "an iterator that a loop goes on with": (
        "it = iter(range(9))",
        "for x in it:\n    world.n += x\n    break",
        "",
        ["it"],
    ),
    "a generator of numbers": ("g = np.random.default_rng(1)", "world.n += g.random()", "", ["g"]),
    "read by a function": ("x = 0\ndef f(): return x", "world.n += f()\nx = step", "", ["x"]),
    "assigned by a function": (
        "x = 0\ndef f():\n    global x\n    x += 1",
        "f()\nworld.n += x",
        "",
        ["x"],
    ),
    "read through locals()": ("x = 0", "world.n += locals()['x']\nx = step", "", ["x"]),
    "read in a comprehension": ("x = 0", "world.n += sum(x for _ in range(2))\nx = step", "", ["x"]),
    "deleted and made anew": ("d = {}", "d['k'] = d.get('k', 0) + 1\nworld.n = d['k']", "", ["d"]),
}
#: They mean something else in a function.
_NOT_IN_FUNCTIONS = {"read through locals()", "assigned by a function"}
NOT_CARRIED = {
    "assigned first": ("x = 0", "x = step\nworld.n += x", ""),
    "on both paths": ("x = 0", "if step % 2: x = 1\nelse: x = 2\nworld.n += x", ""),
    "never read": ("x = 0", "x = step", ""),
    "only appended to": ("log = []", "log.append(step)", ""),
    "cleared first": ("xs = []", "xs.clear()\nxs.append(step)\nworld.n += len(xs)", ""),
    "an array written in full": (
        "x = np.zeros(4)",
        "for t in range(4): x[t] = step + t\nworld.n += x.sum()",
        "",
    ),
    "an array written in full, by its length": (
        "x = torch.zeros(4, 2)",
        "for t in range(len(x)):\n    y = step\n    x[t] = y\nworld.n += float(x.sum())",
        "",
    ),
    "an array written in full, by an argument": (
        "import types\nargs = types.SimpleNamespace(n=4)\nx = torch.zeros((args.n, 2))\ny = torch.zeros(args.n)",
        "for t in range(0, args.n):\n    x[t] = step\n    y[t] = x[t].sum()\nworld.n += float(x.sum() + y.sum())",
        "",
    ),
    "a rollout as CleanRL writes it": (
        "import types\nargs = types.SimpleNamespace(num_steps=4)\nobs, values, dones = torch.zeros(3, 4, 2)\nk = 0",
        """for t in range(0, args.num_steps):
    obs[t] = torch.full((2,), step + t)
    with torch.no_grad():
        value = obs[t] * 2
        values[t] = value.flatten()
    dones[t] = value > 1
    for info in [1, 2]:
        if info == 2: break
advantages = torch.zeros_like(values)
for t in reversed(range(args.num_steps)):
    nextvalues = values[t + 1] if t < args.num_steps - 1 else values[-1]
    advantages[t] = nextvalues * (1 - dones[t])
world.n += float(advantages.sum() + obs.reshape(-1).sum())""",
        "",
    ),
    "a list written in full": ("x = [0] * 3", "for t in range(3): x[t] = step\nworld.n += sum(x)", ""),
    "backwards": (
        "x = np.zeros(4)",
        "last = 0\nfor t in reversed(range(4)): x[t] = last = last + step\nworld.n += x.sum()",
        "",
    ),
    "overwritten at once": ("x = np.zeros(4)", "x[:] = step\nworld.n += x.sum()", ""),
    "filled": ("x = torch.zeros(4)", "x.fill_(step)\nworld.n += float(x.sum())", ""),
    "a loop that runs": ("n = 3", "for i in range(n): last = i\nworld.n += last", ""),
    "a value that was logged in the same round": (
        "",
        "if step % 2 == 0: loss = step\nif step % 4 == 0: world.n += loss",
        "",
    ),
    "a loop over things": ("xs = [1, 2]", "for x in xs: last = x\nworld.n += last", ""),
    "a with block": ("x = 0", "with torch.no_grad(): x = step\nworld.n += x", ""),
    "tried and set otherwise": (
        "x = 0",
        "try: x = {1: 5}[step]\nexcept KeyError: x = 0\nworld.n += x",
        "",
    ),
    "a while loop that sets it": (
        "",
        "k = 0\nwhile True:\n    x = k\n    if k > 2: break\n    k += 1\nworld.n += x",
        "",
    ),
    "its own variable in a comprehension": ("x = 0", "world.n += sum([x for x in range(3)])", ""),
    "its own variable in a function": (
        "x = 0\ndef f():\n    x = 1\n    return x",
        "world.n += f()\nx = step",
        "",
    ),
    "the shape of an array": (
        "x = np.zeros(4)",
        "n = x.shape[0]\nfor t in range(4): x[t] = n\nworld.n += x.sum()",
        "",
    ),
    "zeros of the same form": (
        "x = torch.zeros(4)",
        "y = torch.zeros_like(x)\nfor t in range(4): x[t] = y[t]\nworld.n += float(x.sum())",
        "",
    ),
    "the same object": ("net = torch.nn.Linear(1, 1)", "net = net.train()\nworld.n += int(net.training)", ""),
    "constants": ("lr, names = 0.1, ('a', 'b')", "world.n += lr * len(names)", ""),
    "a function and a class": ("def f(): return 1\nclass A: pass", "a = A()\nworld.n += f()", ""),
    "a progress bar": ("import tqdm, os\nbar = tqdm.tqdm(file=open(os.devnull, 'w'))", "bar.update(1)", ""),
}


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, "module") for name in CARRIED]
    + [(name, "function") for name in CARRIED if name not in _NOT_IN_FUNCTIONS],
)
def test_what_a_loop_carries_is_warned_of(tmp_path: Path, name: str, form: str) -> None:
    before, body, after, expected = CARRIED[name]
    assert warned_of(tmp_path, before, body, after, form=form) == expected


@pytest.mark.parametrize("form", ["module", "function"])
@pytest.mark.parametrize("name", NOT_CARRIED)
def test_what_is_written_before_it_is_read_is_not(tmp_path: Path, name: str, form: str) -> None:
    assert warned_of(tmp_path, *NOT_CARRIED[name], form=form) == []


# -- other places -----------------------------------------------------------------------------------------------------


def test_a_change_that_comes_late_is_seen_at_a_later_checkpoint(tmp_path: Path) -> None:
    source = """
class Meter:
    n = 0
    def update(self, step):
        self.n += step >= 5
meter = Meter()
world = perdure.World(n=0)
with perdure.Run(directory) as run:
    for step in run.steps(world, 9, every=1):
        meter.update(step)
        world.n += meter.n
"""
    assert run_script(source, directory=tmp_path / "run")[0] == ["meter"]


def test_a_variable_is_told_once(tmp_path: Path) -> None:
    body = "world.n += x\nx = step\nseen.append(x)"
    assert warned_of(tmp_path, "x, seen = 0, []", body, "print(seen, end='')") == ["x", "seen"]


def test_the_names_of_a_script_as_its_world(tmp_path: Path) -> None:
    source = """
obs = 0
for step in perdure.Run(directory, skip=["__*", "perdure", "np", "torch", "directory"]).steps(globals(), 6, every=2):
    new = obs + 1
    obs = new
"""
    assert run_script(source, directory=tmp_path / "run")[0] == []


def test_what_the_world_holds_under_the_same_name_is_still_a_variable_of_the_loop(tmp_path: Path) -> None:
    assert warned_of(tmp_path, "obs = 0", "world.n += obs\nobs = step\nworld.obs = obs") == ["obs"]
    body = "obs = world.n\nworld.n = obs + step"
    assert warned_of(tmp_path / "other", "", body) == []


CALLS = {
    "a for loop": (
        "x = 0\nfor step in range(start, 6):\n    world.n += x\n    x = step\n"
        "    run.maybe_checkpoint(world, step + 1, every=2)",
        ["x"],
    ),
    "a while loop": (
        "x, step = 0, start\nwhile step < 6:\n    world.n += x\n    x = step\n    step += 1\n"
        "    run.maybe_checkpoint(world, step, every=2)",
        ["x"],
    ),
    "counters": (
        "step = episodes = 0\nwhile step < 6:\n    step += 1\n    episodes += step % 2\n    world.n += episodes\n"
        "    run.maybe_checkpoint(world, step, every=2, counters={'episodes': episodes})",
        [],
    ),
    "an inner loop": (
        "x, step = 0, 0\nfor k in range(3):\n    for j in range(2):\n        step += 1\n        world.n += x\n"
        "        x = j\n        run.maybe_checkpoint(world, step, every=2)",
        ["x"],
    ),
    "read back from the world": (
        "world.obs = 3\nobs = world.obs\nfor step in range(start, 6):\n    world.n += obs\n    obs = world.obs = step\n"
        "    run.maybe_checkpoint(world, step + 1, every=2)",
        [],
    ),
    "written before it is read": (
        "x = 0\nfor step in range(start, 6):\n    x = step\n    world.n += x\n"
        "    run.maybe_checkpoint(world, step + 1, every=2)",
        [],
    ),
    "a function that calls": (
        "x = 0\ndef save(step): run.maybe_checkpoint(world, step + 1, every=2)\n"
        "for step in range(start, 6):\n    world.n += x\n    x = step\n    save(step)",
        ["x"],
    ),
    "checkpoints of its own": (
        "x = 0\nfor step in range(start, 6):\n    world.n += x\n    x = step\n"
        "    if step % 2: run.checkpoint(world, step + 1)",
        ["x"],
    ),
    "checkpoints of its own, in a while loop, and one more at the end": (
        "x, step, log = 0.5, start, 0.5\nwhile step < 6:\n    world.n += x\n    x = step / 2\n    log = log / 2\n"
        "    step += 1\n    if step % 2 == 0: run.checkpoint(world, step=step, wait=False, metrics={'log': log})\n"
        "run.checkpoint(world, step)",
        ["x", "log"],
    ),
    "checkpoints of its own, and all in the world": (
        "y = 0\nfor step in range(start, 6):\n    y = step\n    world.n += y\n    run.checkpoint(world, step + 1)",
        [],
    ),
    "two loops, one after the other": (
        "x = y = 0\nfor step in range(start, 3):\n    world.n += x\n    x = step\n"
        "    run.maybe_checkpoint(world, step + 1, every=1)\n"
        "for step in range(3, 6):\n    world.n += y\n    y = step\n"
        "    run.maybe_checkpoint(world, step + 1, every=1)",
        ["x", "y"],
    ),
    "an epoch in a function": (
        "def epoch(step):\n    for _ in range(2):\n        step += 1\n"
        "        run.maybe_checkpoint(world, step, every=1)\n    return step\n"
        "alpha, step, total = 1.0, 0, 0\nfor _ in range(3):\n    world.n += alpha\n    alpha = alpha / 2\n"
        "    step = epoch(step)",
        ["alpha"],
    ),
    "a function that has a loop, called again": (
        "def epoch(first, seen):\n    seen = []\n    for step in range(first, first + 2):\n"
        "        seen.append(step)\n        world.n += len(seen)\n"
        "        run.checkpoint(world, step + 1)\n"
        "for first in (0, 2, 4): epoch(first, 0)",
        ["seen"],
    ),
}


def test_a_loop_that_opens_a_run_in_each_round_is_not_the_loop_of_the_run(tmp_path: Path) -> None:
    source = """
def train(directory, seed):
    run = perdure.Run(directory / str(seed))
    world = perdure.World(n=seed)
    run.resume(world)
    for step in range(3):
        world.n += step
    run.checkpoint(world, 3)
    run.close()
    return world.n

results = []
for seed in range(2):
    results.append(train(directory, seed) + len(results))
"""
    assert run_script(source, directory=tmp_path)[0] == []


@pytest.mark.parametrize("name", CALLS)
def test_loops_that_call_for_checkpoints(tmp_path: Path, name: str) -> None:
    source, expected = CALLS[name]
    head = (
        "world = perdure.World(n=0)\nrun = perdure.Run(directory)\n"
        "found = run.resume(world)\nstart = found.step if found else 0\n"
    )
    assert run_script(f"{head}{source}\nrun.close()\n", directory=tmp_path / "run")[0] == expected


def test_a_progress_bar_around_the_steps(tmp_path: Path) -> None:
    source = """
import os, tqdm
world = perdure.World(n=0)
x = 0
with perdure.Run(directory) as run:
    for i, step in enumerate(tqdm.tqdm(run.steps(world, 4, every=1), file=open(os.devnull, "w"))):
        world.n += x
        x = step
"""
    assert run_script(source, directory=tmp_path / "run")[0] == ["x"]


def test_without_source_nothing_is_said_and_nothing_fails(tmp_path: Path) -> None:
    world = perdure.World(n=0)
    with perdure.Run(tmp_path / "run") as run:
        exec(
            "x = 0\nfor step in run.steps(world, 3, every=1):\n    world.n += x\n    x = step",
            {"run": run, "world": world},
        )
    assert world.n == 1


# -- loops that nobody wrote ------------------------------------------------------------------------------------------

_variables = st.sampled_from("abc")
_values = st.one_of(_variables, st.sampled_from(["step", "1", "len(l)", "world.t", "l[0]", "int(z.sum())"]))
_tests = st.sampled_from(["step % 2", "step > 2", "a > 1", "len(l) > 2"])


def _simple() -> st.SearchStrategy[list[str]]:
    return st.one_of(
        st.builds(lambda x, y, v: [f"{x} = ({y} + {v}) % 7"], _variables, _values, _values),
        st.builds(lambda x, v: [f"{x} = {v}"], _variables, _values),
        st.builds(lambda x, v: [f"{x} += {v}"], _variables, _values),
        st.builds(lambda v: [f"world.t = (world.t * 3 + {v}) % 1009"], _values),
        st.builds(lambda v: [f"l.append({v})"], _values),
        st.builds(lambda v: [f"l[0] = {v}"], _values),
        st.builds(lambda v: [f"z[step % 3] = {v}"], _values),
        st.builds(lambda v: [f"for k in range(3): z[k] = {v}"], _values),
        st.just(["l = [0]"]),
        st.just(["l.clear()", "l.append(0)"]),
    )


def _indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _nested(inner: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    block = st.lists(inner, min_size=1, max_size=3).map(
        lambda blocks: [line for block in blocks for line in block]
    )
    leave = st.sampled_from([[], ["break"], ["if b > 2: break"], ["if a > 2: continue"]])
    return st.one_of(
        st.builds(lambda t, x: [f"if {t}:", *_indented(x)], _tests, block),
        st.builds(lambda t, x, y: [f"if {t}:", *_indented(x), "else:", *_indented(y)], _tests, block, block),
        st.builds(
            lambda n, x, y, z: [f"for i in range({n}):", *_indented(x + z + y)],
            st.sampled_from(["2", "step", "step % 2", "len(l) % 3"]),
            block,
            block,
            leave,
        ),
        st.builds(
            lambda v, x, y: [
                "try:",
                *_indented([*x, f"a = {{0: 1, 2: 3}}[{v}]"]),
                "except KeyError:",
                *_indented(y),
            ],
            _values,
            block,
            block,
        ),
    )


_bodies = st.lists(st.recursive(_simple(), _nested, max_leaves=5), min_size=1, max_size=5).map(
    lambda blocks: [line for block in blocks for line in block]
)
_ROUNDS = 4


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=_bodies, after=st.sampled_from(["", "world.t += a", "world.t += len(l)", "world.t += int(z.sum())"])
)
def test_any_loop_is_exact_wherever_it_is_killed_or_warned_of(
    tmp_path_factory: pytest.TempPathFactory, body: list[str], after: str
) -> None:
    source = "\n".join(
        [
            "a, b, c, l, z = 0, 1, 2, [0], np.zeros(3)",
            "world = perdure.World(t=0)",
            "with perdure.Run(directory, background=False) as run:",
            f"    for step in run.steps(world, {_ROUNDS}, every=1):",
            "        if step == killed_at: raise Killed",
            *_indented(_indented(body)),
            *_indented([after] if after else []),
            "",
        ]
    )
    names = {"Killed": Killed, "killed_at": None}
    directory = tmp_path_factory.mktemp("whole")
    said, variables = run_script(source, directory=directory / "run", **names)
    if said:
        return
    for killed_at in range(1, _ROUNDS):
        directory = tmp_path_factory.mktemp("killed")
        names["killed_at"] = killed_at
        with pytest.raises(Killed):
            run_script(source, directory=directory / "run", **names)
        names["killed_at"] = None
        assert run_script(source, directory=directory / "run", **names)[1]["world"].t == variables["world"].t

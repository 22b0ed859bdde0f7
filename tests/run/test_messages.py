"""Each message fits its kind: it says what was found and what to do, and what it says to do works."""

from __future__ import annotations

import ast
import asyncio
import bz2
import concurrent.futures
import csv
import ctypes
import decimal
import hashlib
import inspect
import lzma
import mmap
import multiprocessing
import re
import select
import socket
import sqlite3
import ssl
import struct
import types
import warnings
import xml.etree.ElementTree as ElementTree
import zlib
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import perdure
from perdure.errors import CaptureError, NotCapturedWarning, RestoreError
from perdure.state import _registry, capture, diff, restore

OPAQUE = "its state lies in native code where Python cannot see it"


class Owner:
    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)


class Metres(float):
    pass


class Tensor(torch.Tensor):
    pass


def generator() -> Iterator[int]:
    yield 1


def grad_function() -> Any:
    return (torch.ones(1, requires_grad=True) * 2).grad_fn


#: Of each kind: how one is made, what its message says, and what is kept instead (None: what the message says of skip).
KINDS: dict[str, tuple[Callable[[], Any], str, Callable[[Any], Any] | None]] = {
    "a generator": (generator, "where it is paused cannot be read. Write it as a class", lambda v: list(v)),
    "an iterator of NumPy's": (lambda: np.nditer(np.zeros(2)), "Python does not tell where it is", None),
    "a database": (lambda: sqlite3.connect(":memory:"), "it is a connection to a database", None),
    "rows of one": (lambda: sqlite3.connect(":memory:").execute("select 1"), "a position in a database", list),
    "a compressor": (zlib.compressobj, "where it is within a stream cannot be read", None),
    "another one": (bz2.BZ2Compressor, "where it is within a stream cannot be read", None),
    "a third one": (lzma.LZMACompressor, "where it is within a stream cannot be read", None),
    "a hash": (lambda: hashlib.sha256(b"x"), "what it has read cannot be told", lambda v: v.digest()),
    "memory of a file": (lambda: mmap.mmap(-1, 8), "it is the memory of a file", None),
    "another process": (
        lambda: multiprocessing.get_context("spawn").Process(), "its state lies in another process", None,
    ),
    "a socket": (socket.socket, "it is a connection", None),
    "a secure connection": (ssl.create_default_context, "it belongs to a connection", None),
    "a poll": (select.poll, "it watches open files", None),
    "an event loop": (asyncio.new_event_loop, "it runs the tasks of this process", None),
    "a future": (concurrent.futures.Future, "a thread is computing it", None),
    "a queue of processes": (multiprocessing.Queue, "it connects processes", None),
    "a pipe": (lambda: multiprocessing.Pipe()[0], "it connects processes", None),
    "a context of decimals": (decimal.getcontext, "it belongs to this thread", lambda v: (v.prec, v.rounding)),
    "a table of the system": (lambda: zoneinfo.ZoneInfo("UTC"), "it is a table of the system", lambda v: v.key),
    "a reader": (lambda: csv.reader(["a,b"]), "it reads from an open file", list),
    "a match": (lambda: re.match("a(.)", "ab"), "what it was found in", lambda v: (v.groups(), v.span())),
    "a format": (lambda: struct.Struct("i"), "it is compiled", lambda v: v.format),
    "a tree of text": (lambda: ElementTree.Element("a"), "a tree in native code", lambda v: ElementTree.tostring(v)),
    "a number of C": (lambda: ctypes.c_int(3), "it is memory of C", lambda v: v.value),
    "an array of C": (lambda: (ctypes.c_int * 3)(), "it is memory of C", lambda v: np.ctypeslib.as_array(v).copy()),
    "a view of memory": (lambda: memoryview(b"abc"), "it shows the memory of another object", lambda v: v.obj),
    "a frame": (inspect.currentframe, "it is a function that is running", None),
    "a step of a graph": (grad_function, "it is a step of a tensor's graph", None),
    "a compiled module": (
        lambda: torch.jit.script(torch.nn.Linear(1, 1)), "a script module lies in native code",
        lambda v: torch.nn.Linear(1, 1),
    ),
    "masked": (lambda: np.ma.array([1], mask=[True]), "masked arrays", lambda v: (v.data, v.mask)),
    "a matrix": (lambda: np.matrix([[1]]), "it is a subclass of np.ndarray", np.asarray),
    "records": (lambda: np.recarray(2, dtype=[("a", float)]), "a subclass of np.ndarray", np.asarray),
    "fields of objects": (
        lambda: np.zeros(2, dtype=[("a", "O")]), "whose fields hold Python objects", lambda v: v["a"],
    ),
    "sparse": (
        lambda: torch.eye(2).to_sparse(), "it is a sparse tensor",
        lambda v: (v.coalesce().indices(), v.coalesce().values(), v.shape),
    ),
    "sparse by rows": (
        lambda: torch.eye(2).to_sparse_csr(), "it is a sparse tensor",
        lambda v: (v.crow_indices(), v.col_indices(), v.values(), v.shape),
    ),
    "nested": (
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]), "it is a nested tensor",
        lambda v: list(v.unbind()),
    ),
    "nested and jagged": (
        lambda: torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
        "it is a nested tensor", lambda v: list(v.unbind()),
    ),
    "without content": (lambda: torch.ones(2, device="meta"), "it is on the meta device", torch.ones_like),
    "quantized": (
        lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "it is a quantized tensor",
        lambda v: (v.int_repr(), v.q_scale(), v.q_zero_point()),
    ),
    "of eight bits": (
        lambda: torch.ones(2).to(torch.float8_e4m3fn), "float8_e4m3fn, has no notation",
        lambda v: v.view(torch.uint8),
    ),
    "a subclass of tensors": (
        lambda: torch.ones(2).as_subclass(Tensor), "it is of a subclass of torch.Tensor",
        lambda v: v.as_subclass(torch.Tensor),
    ),
    "a subclass of numbers": (lambda: Metres(1.5), "a subclass of a number or string", float),
    "native, by somebody": (lambda: types.CellType(1), OPAQUE, None),
}  # fmt: skip


@pytest.fixture
def _rules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rules that are registered here are forgotten afterwards."""
    before = {key: _registry._Class(**vars(rule)) for key, rule in _registry._classes.items()}
    yield
    _registry._classes.clear()
    _registry._classes.update(before)
    _registry._slot(Owner)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_rules")
def test_what_cannot_be_captured_is_said_in_words_of_its_kind(kind: str) -> None:
    make, expected, instead = KINDS[kind]
    value = make()
    with pytest.raises(CaptureError) as raised:
        capture({"agent": Owner(value=value, again=[make()])})
    message = str(raised.value)
    assert message.startswith("2 part(s) of the world cannot be captured:\n  agent.value, agent.again[0]: ")
    assert message.count("\n") == 1
    assert expected in message
    assert "EpisodeReplay" not in message
    if instead is not None and kind != "without content":
        kept = instead(value)
        state = capture({"agent": Owner(value=kept)})
        world = {"agent": Owner(value=instead(make()))}
        assert restore(state, world).exact
        assert diff(state, capture(world), ignore=()) == []
    remedy = re.search(r"perdure\.skip\('[\w.]+', '\w+'\)", message)
    if remedy is None:
        assert instead is not None or kind in ("a future", "a step of a graph")
        return
    eval(remedy[0])
    capture({"agent": Owner(value=value)})


def test_what_lies_in_an_environment_can_be_played_again() -> None:
    class Native(gym.Env[Any, Any]):
        def __init__(self) -> None:
            self.observation_space = self.action_space = gym.spaces.Discrete(2)
            self.world = {"simulation": [types.CellType(1)]}

        def reset(self, **options: Any) -> Any:
            return super().reset(**options) or (0, {})

        def step(self, action: Any) -> Any:
            return 0, 0.0, False, False, {}

    for env in (Native(), gym.wrappers.TimeLimit(Native(), 5)):
        with pytest.raises(CaptureError, match=r"EpisodeReplay\(env\)"):
            capture({"env": env})
        env = perdure.environments.EpisodeReplay(env)
        env.reset(seed=1)
        assert capture({"env": env})


def test_a_tensor_with_a_graph_is_said_to_lose_it(tmp_path: Path) -> None:
    weight = torch.ones(1, requires_grad=True)
    loss = (weight * 2).sum()
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2))
    normed(torch.ones(1, 2))
    with perdure.Run(tmp_path / "run") as run:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            last = torch.distributions.Categorical(logits=weight * torch.ones(2))
            run.checkpoint(
                perdure.World(weight=weight, net=normed, loss=loss.detach(), agent=Owner(last=last)), 1
            )
        with pytest.warns(
            NotCapturedWarning, match=r"agent.losses\[0\]: a tensor with a graph.*detach\(\)"
        ) as caught:
            run.checkpoint(perdure.World(agent=Owner(losses=[loss])), 2)
        assert [each.filename for each in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run.checkpoint(perdure.World(agent=Owner(losses=[loss])), 3)  # it is said once


def layers(width: int, **names: int) -> torch.nn.Module:
    module = torch.nn.Module()
    for name, outputs in (names or {"first": width, "second": 2}).items():
        module.add_module(name, torch.nn.Linear(width, outputs))
    return module


def with_optimizer(width: int) -> dict[str, Any]:
    module = layers(width)
    return {"net": module, "optimizer": torch.optim.Adam(module.parameters())}


#: Of each kind: what the script built at first, what it builds now, and what the message says.
MISFITS: dict[str, tuple[Callable[[], Any], Callable[[], Any], list[str], int]] = {
    "a part that was renamed": (
        lambda: {"buffer": Owner(n=1)}, lambda: {"memory": Owner(n=1)},
        [r"memory: the script has it, the checkpoint does not. The checkpoint has buffer instead: if it was ren"], 1,
    ),
    "an attribute that was renamed": (
        lambda: {"a": Owner(epsilon=0.5, n=3)}, lambda: {"a": Owner(eps=0.5, n=3)},
        [r"a\.eps: .*The checkpoint has a\.epsilon instead"], 1,
    ),
    "a layer that was renamed": (
        lambda: {"net": layers(2, fc1=2)}, lambda: {"net": layers(2, linear1=2)},
        [r"net\.linear1: .*The checkpoint has net\.fc1 instead"], 2,
    ),
    "a part more": (
        lambda: {"a": Owner(n=1)}, lambda: {"a": Owner(n=1), "more": Owner(n=1)},
        [r"more: the script has it, the checkpoint does not\n"], 1,
    ),
    "another optimizer": (
        lambda: {"o": torch.optim.Adam([torch.ones(1)])}, lambda: {"o": torch.optim.SGD([torch.ones(1)])},
        [r"o: the checkpoint has a Adam, the script has a SGD\n"], 1,
    ),
    "wider layers": (
        lambda: with_optimizer(4), lambda: with_optimizer(6),
        [r"net\.first\.in_features: 4 when the run began, 6 in the script now",
         r"net\.first\.weight, net\.first\.bias, net\.second\.weight: arrays with 4 when the run began, with 6 in"], 4,
    ),
    "another dtype": (
        lambda: {"net": layers(2)}, lambda: {"net": layers(2).double()},
        [r"net\.first\.weight, net\.first\.bias, net\.second\.weight and 1 more: arrays|float32.* when .*float64"], 1,
    ),
    "more environments": (
        lambda: {"env": gym.make_vec("CartPole-v1", 2)}, lambda: {"env": gym.make_vec("CartPole-v1", 3)},
        [r"env\.num_envs: 2 when the run began, 3 in the script now",
         r"env\.steps, env\.prev_done, env\.action_space\.nvec and \d more: arrays with 2 .*, with 3"], 5,
    ),
    "another environment": (
        lambda: {"env": gym.make("CartPole-v1")}, lambda: {"env": gym.make("Acrobot-v1")},
        [r"the checkpoint has a CartPoleEnv, the script has a AcrobotEnv\n"], 7,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISFITS)
@pytest.mark.filterwarnings("ignore")
def test_what_does_not_fit_is_said_once_and_as_what_it_is(kind: str, tmp_path: Path) -> None:
    before, now, expected, most = MISFITS[kind]

    def begin(run: perdure.Run, build: Callable[[], Any]) -> perdure.World:
        world = perdure.World(**build())
        run.resume(world)
        return world

    with perdure.Run(tmp_path / "run") as run:
        run.checkpoint(begin(run, before), 1)
    with perdure.Run(tmp_path / "run") as run:
        with pytest.raises(RestoreError) as raised:
            begin(run, now)
        message = str(raised.value)
        for pattern in expected:
            assert re.search(pattern, message), message
        assert "perdure.renamed" not in message
        lines = [line for line in message.splitlines() if line.startswith("  ")]
        assert len(lines) <= most
        # The remedy: what was there before, or what fits of it.
        begin(run, before)
    if "strict=False" in message:
        with perdure.Run(tmp_path / "run", strict=False) as run:
            begin(run, now)


def test_what_the_script_builds_no_more_was_not_created_while_running(tmp_path: Path) -> None:
    class Eval:
        pass

    with perdure.Run(tmp_path / "run") as run:
        world = perdure.World(callbacks={"eval": Eval()}, n=1)
        run.resume(world)
        run.checkpoint(world, 1)
    Eval.__name__ = Eval.__qualname__ = "Other"
    with perdure.Run(tmp_path / "run") as run, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(
            RestoreError, match="which the script built here when the run began, and builds no more"
        ):
            run.resume(perdure.World(callbacks={}, n=1))


def test_every_warning_points_at_a_line_of_the_users() -> None:
    """Each is given with the level of the user's frame, or with the place itself."""
    calls = []
    package = Path(perdure.__file__).parent
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "warnings.warn":
                levels = [ast.unparse(each.value) for each in node.keywords if each.arg == "stacklevel"]
                calls.append((file.name, levels))
    assert len(calls) > 10
    assert [call for call in calls if call[1] != ["user_level()"]] == []


def test_a_warning_of_a_checkpoint_points_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with perdure.Run(tmp_path / "run", on_error="warn") as run:

        def fail(*args: Any, **options: Any) -> Any:
            raise perdure.errors.StoreError("the disk is full")

        monkeypatch.setattr(run._store, "commit", fail)
        with pytest.warns(perdure.errors.CheckpointFailedWarning) as caught:
            for _ in run.steps(perdure.World(x=1), 1):
                pass
        with pytest.warns(perdure.errors.CheckpointFailedWarning) as again:
            run.checkpoint(perdure.World(x=1), 2)
    assert {each.filename for each in [*caught, *again]} == {__file__}

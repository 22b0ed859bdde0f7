"""Objects of classes that the script shows, in whatever way, are made anew; of others they are refused, with a remedy
that works."""

from __future__ import annotations

import argparse
import collections
import dataclasses
import enum
import functools
import sys
import types
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import gymnasium as gym
import numpy as np
import pytest
import scipy.sparse
import torch
from state_support import transported

from perdure.errors import RestoreError
from perdure.state import capture, diff, prepare, rebuildable, register, running_code, walk_live


def resumed(trained: Any, fresh: Any, code: Any = ()) -> Any:
    state = transported(capture(trained))
    report = prepare(state, fresh, walk_live(fresh, code=code)).apply().report
    assert report.exact
    assert [str(each) for each in diff(state, capture(fresh), ignore=())] == []
    return fresh


@pytest.fixture(autouse=True)
def rules_of_this_test_alone():
    from perdure.state import _registry

    before = dict(_registry._classes)
    yield
    _registry._classes.clear()
    _registry._classes.update(before)
    _registry._slot(Buffer)


class Buffer:
    def __init__(self, **attributes: Any) -> None:
        self.memory: Any = collections.deque(maxlen=40)
        vars(self).update(attributes)


def local_tuple() -> Any:
    return collections.namedtuple("Experience", ["obs", "reward"])


def local_dataclass() -> Any:
    @dataclasses.dataclass
    class Step:
        obs: Any
        reward: float

    return Step


def slotted_dataclass() -> Any:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Frozen:
        obs: Any
        reward: float

    return Frozen


def typed_tuple() -> Any:
    class Typed(NamedTuple):
        obs: Any
        reward: float

    return Typed


def plain_class() -> Any:
    class Plain:
        def __init__(self, obs: Any, reward: float) -> None:
            self.obs, self.reward = obs, reward

    return Plain


def slotted_class() -> Any:
    class Slotted:
        __slots__ = ("obs", "reward")

        def __init__(self, obs: Any, reward: float) -> None:
            self.obs, self.reward = obs, reward

    return Slotted


def list_class() -> Any:
    class Listed(list):
        def __init__(self, *items: Any) -> None:
            super().__init__(items)

    return Listed


def dict_class() -> Any:
    class Mapped(dict):
        def __init__(self, obs: Any, reward: float) -> None:
            super().__init__(obs=obs, reward=reward)

    return Mapped


def module_class() -> Any:
    class Module(torch.nn.Module):
        def __init__(self, obs: Any, reward: float) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((2,), reward))
            self.obs = obs

    return Module


MADE: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        local_tuple, local_dataclass, slotted_dataclass, typed_tuple, plain_class, slotted_class, list_class,
        dict_class, module_class,
    )
}  # fmt: skip


def as_attribute(cls: Any) -> Any:
    return Buffer(make=cls)


def in_a_dict(cls: Any) -> Any:
    return Buffer(classes={"step": cls})


def in_a_list(cls: Any) -> Any:
    return Buffer(classes=[int, cls])


def as_a_key(cls: Any) -> Any:
    return Buffer(counts={cls: 1})


def in_a_partial(cls: Any) -> Any:
    return Buffer(make=functools.partial(cls, reward=1.0))


def in_a_closure(cls: Any) -> Any:
    return Buffer(make=lambda obs, reward: cls(obs, reward))


def in_a_default(cls: Any) -> Any:
    def make(obs: Any, reward: float, cls: Any = cls) -> Any:
        return cls(obs, reward)

    return Buffer(make=make)


def as_factory(cls: Any) -> Any:
    return Buffer(table=collections.defaultdict(cls))


def in_the_closure_of_a_method(cls: Any) -> Any:
    class Own(Buffer):
        def add(self, obs: Any, reward: float) -> None:
            self.memory.append(cls(obs, reward))

    Own.__qualname__ = "Own"
    return Own()


def in_a_class_attribute(cls: Any) -> Any:
    return type("WithClass", (Buffer,), {"Step": cls, "__module__": __name__})()


def in_an_annotation(cls: Any) -> Any:
    return type("Annotated", (Buffer,), {"__annotations__": {"last": cls}, "__module__": __name__})()


def in_a_nested_annotation(cls: Any) -> Any:
    annotations = {"last": list[tuple[cls, int]], "other": Optional[cls]}  # noqa: UP045
    return type("Nested", (Buffer,), {"__annotations__": annotations, "__module__": __name__})()


def by_a_static_method(cls: Any) -> Any:
    return type("Static", (Buffer,), {"make": staticmethod(lambda *a: cls(*a)), "__module__": __name__})()


SHOWN: list[Callable[[Any], Any]] = [
    as_attribute, in_a_dict, in_a_list, as_a_key, in_a_partial, in_a_closure, in_a_default, as_factory,
    in_the_closure_of_a_method, in_a_class_attribute, in_an_annotation, in_a_nested_annotation, by_a_static_method,
]  # fmt: skip


@pytest.mark.parametrize("show", SHOWN, ids=lambda show: show.__name__)
@pytest.mark.parametrize("made", ["local_tuple", "plain_class"])
def test_a_class_that_an_object_shows(show, made):
    cls = MADE[made]()
    trained, fresh = show(cls), show(cls)
    trained.memory.extend(cls(np.arange(3.0), float(number)) for number in range(20))
    resumed({"buffer": trained}, {"buffer": fresh})
    assert all(type(each) is cls for each in fresh.memory)
    assert [each.reward for each in fresh.memory] == list(range(20))


@pytest.mark.parametrize("made", MADE)
def test_a_class_of_any_kind_that_a_function_made(made):
    cls = MADE[made]()
    trained, fresh = as_attribute(cls), as_attribute(cls)
    shared = np.arange(2.0)
    trained.memory.extend([cls(shared, 1.0), cls(shared, 2.0)])
    trained.memory.append(trained.memory[0])
    resumed({"buffer": trained}, {"buffer": fresh})
    first, second, third = fresh.memory
    assert type(first) is cls is type(second)
    assert third is first
    if hasattr(first, "obs"):
        assert first.obs is second.obs


def test_a_variable_of_a_function_that_is_running():
    Step = collections.namedtuple("Step", ["obs"])
    import sys

    code = running_code(sys._getframe(0))
    fresh = resumed({"memory": [Step(1)]}, {"memory": []}, code)
    assert type(fresh["memory"][0]) is Step
    with pytest.raises(RestoreError, match=r"Step.*rebuildable\(Step\)"):
        resumed({"memory": [Step(1)]}, {"memory": []})


Renamed = collections.namedtuple("Transition", ["obs", "reward"])
RenamedToo = dataclasses.make_dataclass("Point", ["x", "y"])
RenamedToo.__module__ = __name__
Anonymous = type("_Anonymous", (), {"__module__": __name__})
Colour = enum.Enum("Paint", ["RED", "BLUE"], module=__name__)


@pytest.mark.parametrize(
    "value",
    [Renamed(1, 2.0), RenamedToo(1, 2), Anonymous(), Colour.BLUE],
    ids=lambda value: type(value).__name__,
)
def test_a_variable_of_another_name_than_its_class(value):
    fresh = resumed({"b": Buffer(), "x": [value]}, {"b": Buffer(), "x": []})
    assert type(fresh["x"][0]) is type(value)


class Twice(NamedTuple):
    a: int


def test_two_classes_of_one_name_are_not_mixed_up():
    first, second = local_tuple(), local_tuple()
    trained, fresh = Buffer(one=first, two=second), Buffer(one=first, two=second)
    trained.memory.append(first(1, 2.0))
    with pytest.raises(
        RestoreError, match=r"memory\[0\].*two classes that are called so. Give them different names"
    ):
        resumed({"b": trained}, {"b": fresh})
    shadow = type("Twice", (), {"__module__": __name__})
    trained, fresh = Buffer(make=shadow), Buffer(make=shadow)
    trained.memory.append(Twice(1))
    with pytest.raises(RestoreError, match="two classes that are called so"):
        resumed({"b": trained}, {"b": fresh})
    # Where the script has built the objects, each keeps its own.
    trained, fresh = (
        Buffer(one=first(1, 1.0), two=second(2, 2.0)),
        Buffer(one=first(0, 0.0), two=second(0, 0.0)),
    )
    resumed({"b": trained}, {"b": fresh})
    assert (type(fresh.one), type(fresh.two)) == (first, second)


class Handle:
    def __init__(self, obs: Any) -> None:
        self.obs = obs

    def __del__(self) -> None:
        pass


def test_a_class_with_a_finalizer_is_refused_until_it_is_registered():
    trained, fresh = Buffer(make=Handle), Buffer(make=Handle)
    trained.memory.append(Handle(3))
    with pytest.raises(
        RestoreError, match=r"finalizer.*register\(Handle, capture=\.\.\., restore=\.\.\., create="
    ):
        resumed({"b": trained}, {"b": fresh})
    register(
        Handle,
        capture=lambda handle: {"obs": handle.obs},
        restore=lambda handle, saved: setattr(handle, "obs", saved["obs"]),
        create=lambda saved: Handle(saved["obs"]),
    )
    resumed({"b": trained}, {"b": fresh})
    assert fresh.memory[0].obs == 3


# The class of the module itself is shown already.
@pytest.mark.parametrize("made", [kind for kind in MADE if kind != "module_class"])
def test_the_remedy_for_a_class_that_nothing_shows(made):
    cls = MADE[made]()
    trained, fresh = {"memory": [cls(1, 2.0)]}, {"memory": []}
    with pytest.raises(RestoreError, match="rebuildable"):
        resumed(trained, fresh)
    rebuildable(cls)
    resumed(trained, fresh)
    assert type(fresh["memory"][0]) is cls


# -- objects of packages that the world uses ---------------------------------------------------------------------------


def _graph(views: bool = False) -> Any:
    import networkx

    graph = networkx.gnp_random_graph(5, 0.6, seed=1)
    if views:
        graph.adj, graph.nodes, graph.edges, graph.degree  # noqa: B018
    return graph


SPARSE = {
    kind: getattr(scipy.sparse, kind)
    for kind in (
        "csr_matrix",
        "csc_matrix",
        "coo_matrix",
        "lil_matrix",
        "dia_matrix",
        "bsr_matrix",
        "csr_array",
    )
}


@pytest.mark.parametrize("kind", SPARSE)
@pytest.mark.parametrize("there", ["another kind is there", "nothing is there"])
def test_sparse_matrices(kind, there):
    value = SPARSE[kind](np.eye(4) + np.eye(4, k=1))
    fresh = {
        "b": Buffer(),
        "other": scipy.sparse.coo_array(np.eye(2)) if there.startswith("another") else None,
        "x": None,
    }
    resumed({**fresh, "x": value}, fresh)
    assert type(fresh["x"]) is type(value)
    assert np.array_equal(fresh["x"].toarray(), value.toarray())
    assert np.array_equal((fresh["x"] @ fresh["x"]).toarray(), (value @ value).toarray())


SPACES = {
    "Box": lambda: gym.spaces.Box(-1, 1, (3,)),
    "Discrete": lambda: gym.spaces.Discrete(5),
    "MultiDiscrete": lambda: gym.spaces.MultiDiscrete([2, 3]),
    "MultiBinary": lambda: gym.spaces.MultiBinary(4),
    "Dict": lambda: gym.spaces.Dict({"a": gym.spaces.Discrete(2), "b": gym.spaces.Box(0, 1, (2,))}),
    "Tuple": lambda: gym.spaces.Tuple([gym.spaces.Discrete(2), gym.spaces.Discrete(3)]),
    "Text": lambda: gym.spaces.Text(5),
    "Sequence": lambda: gym.spaces.Sequence(gym.spaces.Discrete(3)),
    "Graph": lambda: gym.spaces.Graph(gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2)),
    "OneOf": lambda: gym.spaces.OneOf([gym.spaces.Discrete(2), gym.spaces.Box(0, 1, (1,))]),
}


@pytest.mark.parametrize("kind", SPACES)
def test_spaces_that_are_made_in_training(kind):
    value = SPACES[kind]()
    value.seed(3)
    value.sample()
    fresh = {"b": Buffer(), "x": None}
    resumed({"b": Buffer(), "x": value}, fresh)
    assert type(fresh["x"]) is type(value)
    for _ in range(3):
        assert repr(fresh["x"].sample()) == repr(value.sample())
    assert fresh["x"] == value


def test_graphs_and_their_views():
    pytest.importorskip("networkx")
    fresh = {"g": _graph(), "b": Buffer(), "other": None}
    resumed({"g": _graph(views=True), "b": Buffer(), "other": _graph(views=True).to_directed()}, fresh)
    assert sorted(fresh["g"].edges) == sorted(_graph().edges)
    assert fresh["other"].is_directed()
    fresh["g"].add_edge(0, 99)
    assert 99 in fresh["g"].nodes


PLAIN = {
    "a namespace": argparse.Namespace(a=1, b=[2]),
    "a simple namespace": types.SimpleNamespace(a=1),
    "a counter": collections.Counter("aab"),
    "a chain": collections.ChainMap({"a": 1}, {"b": 2}),
    "a user's dict": collections.UserDict(a=1),
    "a distribution": torch.distributions.Normal(torch.zeros(2), torch.ones(2)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_objects_of_python_and_torch(kind):
    fresh = {"b": Buffer(), "x": None}
    resumed({"b": Buffer(), "x": PLAIN[kind]}, fresh)
    assert type(fresh["x"]) is type(PLAIN[kind])


def test_an_ordered_dict_has_attributes():
    net = torch.nn.Linear(2, 2)
    for fresh in ({"x": None, "y": []}, {"x": torch.nn.Linear(2, 2).state_dict(), "y": []}):
        resumed({"x": net.state_dict(), "y": [torch.nn.BatchNorm1d(2).state_dict()]}, fresh)
        assert fresh["x"]._metadata == net.state_dict()._metadata
        assert list(fresh["y"][0]) == list(torch.nn.BatchNorm1d(2).state_dict())


def test_what_would_lack_something_is_not_made():
    class Locked(Buffer):
        pass

    Locked.__qualname__ = "Locked"
    trained = Buffer(make=Locked)
    trained.memory.append(Locked(window=__import__("logging").getLogger("x")))
    with pytest.raises(RestoreError, match=r"memory\[0\]\.window: the checkpoint left out a logger"):
        resumed({"b": trained}, {"b": Buffer(make=Locked)})


# -- exceptions --------------------------------------------------------------------------------------------------------


class Crash(Exception):
    def __init__(self, step: int, *, obs: Any = None) -> None:
        super().__init__(f"crashed at {step}")
        self.step, self.obs = step, obs


def _raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def _in_context() -> BaseException:
    try:
        try:
            raise KeyError("a")
        except KeyError:
            raise ValueError("b")  # noqa: B904
    except ValueError as error:
        return error


def _noted() -> BaseException:
    error = ValueError("x")
    error.add_note("a note")
    return error


ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("text", 1, [2]),
    "raised": lambda: _raised(RuntimeError("x")),
    "with a cause": lambda: _raised(RuntimeError("x"), KeyError("y")),
    "in a context": _in_context,
    "of the user's own": lambda: Crash(3, obs=np.arange(3.0)),
    "raised of the user's own": lambda: _raised(Crash(3)),
    "of the system": lambda: OSError(2, "no such file", "a.txt"),
    "of a subclass": lambda: FileNotFoundError(2, "no such file"),
    "stop": lambda: StopIteration(5),
    "decoding": lambda: UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"),
    "with a note": _noted,
    "an exit": lambda: SystemExit(3),
    "importing": lambda: ImportError("x", name="n", path="p"),
    "of zero division": lambda: _raised(ZeroDivisionError("division")),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_exceptions(kind):
    error = ERRORS[kind]()
    fresh = {"b": Buffer(), "last": None, "all": []}
    resumed({"b": Buffer(), "last": error, "all": [error]}, fresh)
    made = fresh["last"]
    assert fresh["all"][0] is made
    assert (type(made), str(made), repr(made), made.args[:0]) == (type(error), str(error), repr(error), ())
    assert set(vars(made)) == set(vars(error))
    assert type(made.__cause__) is type(error.__cause__)
    assert type(made.__context__) is type(error.__context__)
    assert made.__suppress_context__ == error.__suppress_context__
    for name in ("errno", "filename", "value", "code", "name", "path", "start", "__notes__", "step"):
        assert getattr(made, name, None) == getattr(error, name, None)
    with pytest.raises(type(error)):
        raise made
    resumed({"b": Buffer(), "last": None, "all": []}, fresh)
    assert fresh["last"] is None


def test_a_class_that_only_has_the_name_of_a_shown_one_is_told_at_the_checkpoint(tmp_path):
    import perdure
    from perdure.errors import NotRestorableError

    shown = local_tuple()
    world = perdure.World(buffer=Buffer(make=shown))
    with perdure.Run(tmp_path / "run") as run:
        assert run.resume(world) is None
        world.buffer.memory.append(local_tuple()(1, 2.0))
        with pytest.raises(NotRestorableError, match="two classes that are called so"):
            run.checkpoint(world, 1)
        world.buffer.memory[0] = shown(1, 2.0)
        run.checkpoint(world, 1)


def test_what_the_script_imports_while_training_shows_nothing(tmp_path, monkeypatch):
    import perdure
    from perdure.errors import NotRestorableError

    late = types.ModuleType("late_package")
    exec("class Late: pass", vars(late))  # its __module__ is "late_package"
    monkeypatch.setitem(sys.modules, "late_package", late)
    for at_once in (True, False):
        world = perdure.World(buffer=Buffer(), last=None)
        with perdure.Run(tmp_path / f"run {at_once}") as run:
            if at_once:
                monkeypatch.setitem(globals(), "late_package", late)
            assert run.resume(world) is None
            monkeypatch.setitem(globals(), "late_package", late)
            world.last = late.Late()
            if at_once:
                run.checkpoint(world, 1)
            else:
                # A fresh process would not have imported it when it resumes.
                with pytest.raises(NotRestorableError, match="last: the checkpoint has a Late"):
                    run.checkpoint(world, 1)
        monkeypatch.delitem(globals(), "late_package")


@dataclasses.dataclass(frozen=True, slots=True)
class Twofold:
    obs: object
    reward: float = 0.0


def test_a_class_that_dataclass_makes_twice_is_one(tmp_path):
    import perdure

    for _ in range(2):
        world = perdure.World(buffer=Buffer())
        with perdure.Run(tmp_path / "run") as run:
            if run.resume(world) is None:
                world.buffer.memory.append(Twofold([1], 2.0))
                run.checkpoint(world, 1)
    assert world.buffer.memory[0] == Twofold([1], 2.0)

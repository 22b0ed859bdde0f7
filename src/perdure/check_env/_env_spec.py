"""What is to be checked, said in such a way that a fresh process can build it: plain text, no objects.

It knows how environments are named and made, and nothing of checkpoints.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from perdure.errors import EnvSpecError

#: How environments are run together, by name: in this process or in others.
VECTORS = (
    "sync",
    "async",
    "sb3-dummy",
    "sb3-subproc",
    "tianshou-dummy",
    "tianshou-subproc",
    "tianshou-shmem",
    "tianshou-ray",
)
#: Where the episodes of a vector's environments are cut, so that they end at different steps.
_CUTS = (41, 54, 67)
_FACTORY = re.compile(r"[A-Za-z_][\w.]*(\.py)?:[A-Za-z_][\w.]*", re.ASCII)


@dataclass(frozen=True)
class Subject:
    """One environment, as a fresh process builds it.

    :param target: a Gymnasium id, `module:factory`, a module of PettingZoo (or MPE2), `dm_control/domain-task` or
        `envpool/id`.
    :param file: the file that the factory's module was read from, where its name alone may not lead there.
    :param kwargs: what the factory is called with; JSON.
    :param wrappers: wrapper classes as `module:Class`, the innermost first, each with its keyword arguments.
    :param imports: modules to import first; they register environments or handlers.
    :param replay: whether its episodes are to be played again: each environment is wrapped in
        :class:`perdure.environments.EpisodeReplay` or its like, inside of all other wrappers.
    :param vector: one of `VECTORS` and a number, as in "async:3"; empty for one environment by itself.
    """

    target: str
    file: str = ""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    imports: tuple[str, ...] = ()
    replay: bool = False
    vector: str = ""

    @property
    def name(self) -> str:
        """How it is shown."""
        parts = [self.target]
        if self.kwargs:
            parts.append(json.dumps(dict(self.kwargs)))
        parts += [f"+ {name.rpartition(':')[2]}" for name, _ in self.wrappers]
        parts += ["+ EpisodeReplay"] * self.replay + [f"in {self.vector}"] * bool(self.vector)
        return " ".join(parts)

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Subject:
        """From what `document` returned, after it was JSON."""
        wrappers = tuple((name, dict(kwargs)) for name, kwargs in document["wrappers"])
        return cls(**{**document, "wrappers": wrappers, "imports": tuple(document["imports"])})

    def make(self, seed: int) -> Any:
        """Build it. `seed` is for what is seeded when it is built; all else is seeded by its first reset.

        :raises EnvSpecError: if its name leads nowhere.
        """
        for name in self.imports:
            importlib.import_module(name)
        if not self.vector:
            return self.make_one(seed)
        kind, count = parse_vector(self.vector)
        return _VECTOR_MAKERS[kind]([functools.partial(_in_vector, self, seed, i) for i in range(count)])

    def make_one(self, seed: int) -> Any:
        """One environment, in its wrappers."""
        env = self._bare(seed)
        if self.replay:
            env = _replayed(env)
        for name, kwargs in self.wrappers:
            env = find(name)(env, **kwargs)
        return env

    def _bare(self, seed: int) -> Any:
        kwargs = dict(self.kwargs)
        prefix, _, rest = self.target.partition("/")
        if prefix == "dm_control" and rest:
            from dm_control import suite

            domain, _, task = rest.partition("-")
            return suite.load(domain, task, task_kwargs={"random": seed}, **kwargs)
        if prefix == "envpool" and rest:
            import envpool

            def pool(seed: int) -> Any:
                return envpool.make_gymnasium(rest, **{"num_envs": 3, "seed": seed, **kwargs})

            if not self.replay:
                return pool(seed)
            from perdure.environments import PoolReplay

            barrier = kwargs.pop("barrier", None)
            return PoolReplay(pool, seed, barrier=barrier)
        if is_factory(self.target):
            return find(self.target, self.file)(**kwargs)
        if _is_module(self.target):
            module = importlib.import_module(self.target)
            if kwargs.pop("parallel", False):
                return module.parallel_env(**kwargs)
            return module.env(**kwargs)
        import gymnasium

        return gymnasium.make(self.target, **kwargs)


def subject(
    env: str | Callable[..., Any],
    *,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[str | Callable[..., Any] | tuple[str | Callable[..., Any], Mapping[str, Any]]] = (),
    imports: Sequence[str] = (),
    replay: bool = False,
    vector: str = "",
) -> Subject:
    """The subject that an environment's name, or a function that makes it, stands for.

    :raises EnvSpecError: if a fresh process could not find the function, or `kwargs` are not JSON.
    """
    given = dict(kwargs or {})
    file = ""
    if isinstance(env, functools.partial):
        if env.args:
            raise EnvSpecError(f"expected keyword arguments alone in {env!r:.200}; give the others by name")
        given, env = {**env.keywords, **given}, env.func
    if callable(env):
        env, file = _named(env)
    elif is_factory(env):
        env, file = _in_file(env)
    made = []
    for each in wrappers:
        wrapper, options = each if isinstance(each, tuple) else (each, {})
        name = _named(wrapper)[0] if callable(wrapper) else wrapper
        if not is_factory(name):
            raise EnvSpecError(f"expected a wrapper as module:Class, found {name!r}")
        made.append((name, dict(options)))
    for what in (given, *(options for _, options in made)):
        try:
            json.dumps(what, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EnvSpecError(
                f"the arguments {what!r:.200} must be JSON, because fresh processes are given them: {error}. "
                "Write a function without arguments that makes the environment"
            ) from error
    if vector:
        parse_vector(vector)
    return Subject(env, file, given, tuple(made), tuple(imports), replay, vector)


def is_factory(target: str) -> bool:
    """Whether a name is `module:factory` (and not a Gymnasium id with a module in front, `module:Name-v0`)."""
    return _FACTORY.fullmatch(target.rpartition(os.sep)[2]) is not None


def parse_vector(text: str) -> tuple[str, int]:
    """The kind and the number of environments of "async:3".

    :raises EnvSpecError: if it is none.
    """
    kind, _, count = text.partition(":")
    if kind not in VECTORS or not (count or "3").isdecimal() or not 0 < int(count or 3) <= 1024:
        raise EnvSpecError(
            f"expected one of {', '.join(VECTORS)} and a number of environments ('async:3'), found {text!r}"
        )
    return kind, int(count or 3)


def find(target: str, file: str = "") -> Any:
    """What `module:name` stands for; the module is read from `file` if its name does not lead to that file.

    :raises EnvSpecError: if there is no such thing.
    """
    name, _, qualname = target.partition(":")
    found: Any = _module(name, file)
    for part in qualname.split("."):
        if not hasattr(found, part):
            raise EnvSpecError(f"there is no {part!r} in {getattr(found, '__name__', name)} ({target})")
        found = getattr(found, part)
    return found


def _module(name: str, file: str) -> Any:
    try:
        module = importlib.import_module(name)
        if not file or _same_file(getattr(module, "__file__", None), file):
            return module
    except ImportError as error:
        if not file:
            raise EnvSpecError(f"the module {name!r} cannot be imported: {error}") from error
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise EnvSpecError(f"{file} cannot be read as a Python module")
    module = importlib.util.module_from_spec(spec)
    # Under its name, so that what is defined there finds its own module.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _same_file(a: str | None, b: str) -> bool:
    return a is not None and os.path.realpath(a) == os.path.realpath(b)


def _is_module(target: str) -> bool:
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", target):
        return False
    try:
        return importlib.util.find_spec(target) is not None
    except ImportError as error:
        raise EnvSpecError(f"the module {target!r} cannot be imported: {error}") from error


def _in_file(target: str) -> tuple[str, str]:
    """A factory's name, and the file if the name begins with one (`path/to/mine.py:make`)."""
    where, _, qualname = target.rpartition(":")
    if not where.endswith(".py"):
        return target, ""
    if not os.path.isfile(where):
        raise EnvSpecError(f"there is no file {where}")
    return f"{os.path.basename(where)[:-3]}:{qualname}", os.path.abspath(where)


def _named(made: Callable[..., Any]) -> tuple[str, str]:
    """The name and the file under which a fresh process finds a function or class.

    :raises EnvSpecError: if it cannot find it.
    """
    qualname = getattr(made, "__qualname__", "")
    module = sys.modules.get(getattr(made, "__module__", None) or "")
    where = ""
    with contextlib.suppress(TypeError, OSError):
        where = f"{inspect.getsourcefile(made)}:{inspect.getsourcelines(made)[1]}"
    remedy = "Define it at the top level of a module or script, without arguments, and give that"
    if not qualname or module is None:
        raise EnvSpecError(
            f"expected a function that makes an environment, found {made!r:.200}. Fresh processes have to find it "
            f"by its name. {remedy}"
        )
    if "<" in qualname:
        kind = "a lambda" if qualname.endswith("<lambda>") else "a function inside of another one"
        raise EnvSpecError(
            f"{qualname} ({where or module.__name__}) is {kind}: fresh processes cannot find it by name. {remedy}"
        )
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if found is not made:
        raise EnvSpecError(f"{module.__name__}.{qualname} is not {made!r:.200}. {remedy}")
    file = getattr(module, "__file__", None)
    if file is None and module.__name__ == "__main__":
        raise EnvSpecError(f"{qualname} was defined interactively. {remedy}")
    name = module.__name__
    if name == "__main__":
        # Not again as the main program: what it does when it is run must not happen in every process.
        name = os.path.splitext(os.path.basename(file or ""))[0]
        name = re.sub(r"\W", "_", name)
    return f"{name}:{qualname}", os.path.abspath(file) if file and file.endswith(".py") else ""


# -- environments that are played again ----------------------------------------------------------------------


def _replayed(env: Any) -> Any:
    import perdure.environments as ours
    from perdure.environments.handlers import box2d, nethack

    names = {f"{base.__module__}.{base.__qualname__}" for base in type(env).__mro__}
    if f"{ours.__name__}.pools.PoolReplay" in names:
        return env
    if "pettingzoo.utils.env.AECEnv" in names:
        return ours.AECEpisodeReplay(env)
    if "pettingzoo.utils.env.ParallelEnv" in names:
        return ours.ParallelEpisodeReplay(env)
    inner = type(getattr(env, "unwrapped", env))
    within = {f"{base.__module__}.{base.__qualname__}" for base in inner.__mro__}
    if within & set(box2d.SHARED_WORLD):
        return ours.EpisodeReplay(env, before_reset=ours.fresh_world)
    if nethack.NLE in within:
        return ours.EpisodeReplay(env, before_reset=ours.seeded_game)
    return ours.EpisodeReplay(env)


# -- environments that run together ------------------------------------------------------------------------


def _in_vector(what: Subject, seed: int, index: int) -> Any:
    import gymnasium

    # In a process of its own, perhaps.
    for name in what.imports:
        importlib.import_module(name)
    env = what.make_one(seed + index)
    return gymnasium.wrappers.TimeLimit(env, _CUTS[index % len(_CUTS)] + index)


def _resumable(makers: list[Callable[[], Any]]) -> list[Callable[[], Any]]:
    return [functools.partial(_made_resumable, make) for make in makers]


def _made_resumable(make: Callable[[], Any]) -> Any:
    from perdure.environments import Resumable

    return Resumable(make())


def _sync(makers: list[Callable[[], Any]]) -> Any:
    from gymnasium.vector import SyncVectorEnv

    return SyncVectorEnv(makers)


def _async(makers: list[Callable[[], Any]]) -> Any:
    from gymnasium.vector import AsyncVectorEnv

    return AsyncVectorEnv(_resumable(makers))


def _sb3_dummy(makers: list[Callable[[], Any]]) -> Any:
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv(makers)


def _sb3_subproc(makers: list[Callable[[], Any]]) -> Any:
    from stable_baselines3.common.vec_env import SubprocVecEnv

    return SubprocVecEnv(_resumable(makers), start_method="spawn")


def _tianshou_dummy(makers: list[Callable[[], Any]]) -> Any:
    from tianshou.env import DummyVectorEnv

    return DummyVectorEnv(makers)


def _tianshou_subproc(makers: list[Callable[[], Any]]) -> Any:
    from tianshou.env import SubprocVectorEnv

    return SubprocVectorEnv(_resumable(makers))


def _tianshou_shmem(makers: list[Callable[[], Any]]) -> Any:
    from tianshou.env import ShmemVectorEnv

    return ShmemVectorEnv(_resumable(makers))


def _tianshou_ray(makers: list[Callable[[], Any]]) -> Any:
    import ray
    from tianshou.env import RayVectorEnv

    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    return RayVectorEnv(_resumable(makers))


_VECTOR_MAKERS = dict(
    zip(
        VECTORS,
        (
            *(_sync, _async, _sb3_dummy, _sb3_subproc),
            *(_tianshou_dummy, _tianshou_subproc, _tianshou_shmem, _tianshou_ray),
        ),
        strict=True,
    )
)

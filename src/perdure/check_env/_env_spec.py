"""A description of an environment, in plain text, from which a fresh process can build it.

It knows how environments are named and made, and nothing of checkpoints.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import json
import os
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

from perdure.check_env import _gymnasium_ids
from perdure.errors import EnvSpecError
from perdure.state import base_names

Factory: TypeAlias = Callable[..., Any]
#: A wrapper class, or "module:Class", or a pair of that and its keyword arguments.
Wrapper: TypeAlias = "str | Factory | tuple[str | Factory, Mapping[str, Any]]"

_FACTORY = re.compile(r"[A-Za-z_][\w.]*(\.py)?:[A-Za-z_][\w.]*", re.ASCII)
_VERSIONED = re.compile(r"-v\d+\Z")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
#: After how many steps the environments of a vector are truncated, so that their episodes end at different steps.
_TRUNCATED_AFTER = (41, 54, 67)
_REMEDY = "Define it at the top level of a module or script, without arguments, and give that"


@dataclass(frozen=True)
class EnvSpec:
    """One environment, as a fresh process builds it.

    :param target: a Gymnasium id, `module:id`, `module:factory`, a module of PettingZoo (or MPE2),
        `dm_control/domain-task` or `envpool/id`.
    :param file: the file that the factory's module was read from, in case its name alone does not lead there.
    :param kwargs: keyword arguments of the factory; JSON.
    :param wrappers: wrapper classes as `module:Class`, the innermost first, each with its keyword arguments.
    :param imports: modules to import first, which register environments or handlers.
    :param replay: whether each environment is wrapped in :class:`perdure.environments.EpisodeReplay`, or in its
        counterpart for PettingZoo and for pools, inside all other wrappers.
    :param vector: a kind of vector environment and a number, as in "async:3"; empty for a single environment.
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
    def load(cls, document: Mapping[str, Any]) -> EnvSpec:
        """From what `document` returned, after it was JSON."""
        wrappers = tuple((name, dict(kwargs)) for name, kwargs in document["wrappers"])
        return cls(**{**document, "wrappers": wrappers, "imports": tuple(document["imports"])})

    def make(self, seed: int) -> Any:
        """Build it.

        :param seed: for environments that are seeded when they are made; all others are seeded by their first reset.
        :raises EnvSpecError: if there is nothing by its name.
        """
        spec = self.located()
        return _make_vector(spec, seed) if spec.vector else spec._make_one(seed)

    def located(self) -> EnvSpec:
        """With the module that registers its Gymnasium id among the imports, unless that is known already.

        :raises EnvSpecError: if no installed package registers it.
        """
        self._import()
        if ":" in self.target or self._library or _is_module(self.target):
            return self
        module = _gymnasium_ids.register(self.target)
        return replace(self, imports=(*self.imports, module)) if module else self

    @property
    def _library(self) -> str:
        """The library that makes it by a name of its own; "" for all others."""
        library, _, rest = self.target.partition("/")
        if library == "envpool" and rest:
            return library
        # With a version it is an id that Shimmy registers.
        return library if library == "dm_control" and rest and not _VERSIONED.search(rest) else ""

    def _import(self) -> None:
        for name in self.imports:
            importlib.import_module(name)

    def _make_one(self, seed: int) -> Any:
        library, rest = self._library, self.target.partition("/")[2]
        if library == "envpool":
            env = self._make_pool(rest, seed)
        elif library == "dm_control":
            env = self._make_dm_control(rest, seed)
        else:
            env = self._call_factory()
        if self.replay and library != "envpool":
            env = _replayed(env)
        for name, kwargs in self.wrappers:
            env = find(name)(env, **kwargs)
        return env

    def _make_pool(self, name: str, seed: int) -> Any:
        import envpool

        kwargs = {"num_envs": 3, **self.kwargs}
        if not self.replay:
            return envpool.make_gymnasium(name, **{"seed": seed, **kwargs})
        from perdure.environments import PoolReplay

        limit = kwargs.pop("max_replay_steps", None)
        make = functools.partial(envpool.make_gymnasium, name, **kwargs)
        return PoolReplay(lambda seed: make(seed=seed), seed, max_replay_steps=limit)

    def _make_dm_control(self, name: str, seed: int) -> Any:
        from dm_control import suite

        domain, _, task = name.partition("-")
        return suite.load(domain, task, task_kwargs={"random": seed}, **self.kwargs)

    def _call_factory(self) -> Any:
        kwargs = dict(self.kwargs)
        module, colon, name = self.target.partition(":")
        if colon:
            defines = _import_module(module, self.file)
            # What has registered an id has imported Gymnasium.
            registered = "gymnasium" in sys.modules and _gymnasium_ids.is_registered(name)
            if is_factory(self.target) and (hasattr(defines, name.partition(".")[0]) or not registered):
                return find(self.target, self.file)(**kwargs)
            _gymnasium_ids.register(name)
        elif _is_module(self.target):
            form = "parallel_env" if kwargs.pop("parallel", False) else "env"
            return getattr(importlib.import_module(self.target), form)(**kwargs)
        import gymnasium

        return gymnasium.make(name if colon else self.target, **kwargs)


def env_spec(
    env: str | Factory,
    *,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    imports: Sequence[str] = (),
    replay: bool = False,
    vector: str = "",
) -> EnvSpec:
    """The spec of an environment that is given by name, or by a function that makes it.

    :raises EnvSpecError: if a fresh process could not find the function, or `kwargs` are not JSON.
    """
    given = dict(kwargs or {})
    if isinstance(env, functools.partial):
        if env.args:
            raise EnvSpecError(f"expected only keyword arguments in {env!r:.200}; give the others by name")
        given, env = {**env.keywords, **given}, env.func
    target, file = _importable(env) if callable(env) else _split_file(env)
    made = tuple(_wrapper(each) for each in wrappers)
    for each in (given, *(options for _, options in made)):
        _require_json(each)
    if vector:
        parse_vector(vector)
    return EnvSpec(target, file, given, made, tuple(imports), replay, vector)


def _wrapper(given: Wrapper) -> tuple[str, dict[str, Any]]:
    wrapper, options = given if isinstance(given, tuple) else (given, {})
    name = _importable(wrapper)[0] if callable(wrapper) else wrapper
    if not is_factory(name):
        raise EnvSpecError(f"expected a wrapper as module:Class, found {name!r}")
    return name, dict(options)


def _require_json(arguments: Mapping[str, Any]) -> None:
    try:
        json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise EnvSpecError(
            f"the arguments {arguments!r:.200} must be JSON, because they are passed to fresh processes: {error}. "
            "Write a function without arguments that makes the environment"
        ) from error


# -- names that fresh processes can find -----------------------------------------------------------------------


def is_factory(target: str) -> bool:
    """Whether a name can be `module:factory`, or is a Gymnasium id with a module in front (`module:Name-v0`)."""
    return _FACTORY.fullmatch(target.rpartition(os.sep)[2]) is not None


def find(target: str, file: str = "") -> Any:
    """What `module:name` stands for; the module is read from `file` if importing it leads to another file.

    :raises EnvSpecError: if there is no such thing.
    """
    name, _, qualname = target.partition(":")
    found: Any = _import_module(name, file)
    for part in qualname.split("."):
        if not hasattr(found, part):
            raise EnvSpecError(f"there is no {part!r} in {getattr(found, '__name__', name)} ({target})")
        found = getattr(found, part)
    return found


def _import_module(name: str, file: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise EnvSpecError(f"expected the name of a module before the colon, found {name!r}")
    try:
        module = importlib.import_module(name)
        if not file or os.path.realpath(getattr(module, "__file__", None) or "") == os.path.realpath(file):
            return module
    except ImportError as error:
        if not file:
            raise EnvSpecError(f"the module {name!r} cannot be imported: {error}") from error
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise EnvSpecError(f"{file} cannot be read as a Python module")
    module = importlib.util.module_from_spec(spec)
    # Registered under its name, so that the classes it defines can find their own module.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _is_module(target: str) -> bool:
    if not _MODULE.fullmatch(target):
        return False
    try:
        if importlib.util.find_spec(target) is not None:
            return True
    except ImportError as error:
        raise EnvSpecError(f"the module {target!r} cannot be imported: {error}") from error
    package, _, name = target.rpartition(".")
    inside = [each.name for each in pkgutil.iter_modules(sys.modules[package].__path__)]
    near = difflib.get_close_matches(name, inside, 5)
    raise EnvSpecError(
        f"there is no module {name!r} in {package}" + (f". Close to it: {', '.join(near)}" if near else "")
    )


def _split_file(target: str) -> tuple[str, str]:
    """A target, and the file of its module if it begins with one (`path/to/mine.py:make`, `mine.py:Mine-v0`)."""
    where, _, name = target.partition(":")
    if not (name and where.endswith(".py")):
        return target, ""
    if not os.path.isfile(where):
        raise EnvSpecError(f"there is no file {where}")
    return f"{os.path.basename(where)[:-3]}:{name}", os.path.abspath(where)


def _importable(made: Factory) -> tuple[str, str]:
    """The name and the file under which a fresh process finds a function or class.

    :raises EnvSpecError: if it cannot find it.
    """
    qualname = getattr(made, "__qualname__", "")
    module = sys.modules.get(getattr(made, "__module__", None) or "")
    if not qualname or module is None:
        raise EnvSpecError(
            f"expected a function that makes an environment, found {made!r:.200}, which fresh processes cannot find by "
            f"name. {_REMEDY}"
        )
    if "<" in qualname:
        where = module.__name__
        with contextlib.suppress(TypeError, OSError):
            where = f"{inspect.getsourcefile(made)}:{inspect.getsourcelines(made)[1]}"
        kind = "a lambda" if qualname.endswith("<lambda>") else "a function inside another function"
        raise EnvSpecError(
            f"{qualname} ({where}) is {kind}, which fresh processes cannot find by name. {_REMEDY}"
        )
    name, file = module.__name__, getattr(module, "__file__", None)
    found: Any = None
    with contextlib.suppress(AttributeError):
        found = functools.reduce(getattr, qualname.split("."), module)
    if found is not made:
        raise EnvSpecError(f"{name}.{qualname} is not {made!r:.200}. {_REMEDY}")
    if name == "__main__":
        if file is None:
            raise EnvSpecError(f"{qualname} was defined interactively. {_REMEDY}")
        # Not imported as `__main__`: what the script does when it is run must not happen in every process.
        name = re.sub(r"\W", "_", os.path.splitext(os.path.basename(file))[0])
    return f"{name}:{qualname}", os.path.abspath(file) if file and file.endswith(".py") else ""


# -- wrappers that replay --------------------------------------------------------------------------------------


def _replayed(env: Any) -> Any:
    from perdure import environments
    from perdure.environments.handlers import box2d, nethack

    names = base_names(type(env))
    if "pettingzoo.utils.env.AECEnv" in names:
        return environments.AECEpisodeReplay(env)
    if "pettingzoo.utils.env.ParallelEnv" in names:
        return environments.ParallelEpisodeReplay(env)
    inner = base_names(type(getattr(env, "unwrapped", env)))
    if not set(inner).isdisjoint(box2d.SHARED_WORLD):
        return environments.EpisodeReplay(env, before_reset=box2d.fresh_world)
    if nethack.NLE in inner:
        return environments.EpisodeReplay(env, before_reset=nethack.seeded_game)
    return environments.EpisodeReplay(env)


# -- vector environments ---------------------------------------------------------------------------------------


class _Vector(NamedTuple):
    """A class of vector environments, and whether its environments run in worker processes."""

    target: str
    in_processes: bool = False
    options: Mapping[str, Any] = {}


_VECTORS = {
    "sync": _Vector("gymnasium.vector:SyncVectorEnv"),
    "async": _Vector("gymnasium.vector:AsyncVectorEnv", True),
    "sb3-dummy": _Vector("stable_baselines3.common.vec_env:DummyVecEnv"),
    "sb3-subproc": _Vector("stable_baselines3.common.vec_env:SubprocVecEnv", True, {"start_method": "spawn"}),
    "tianshou-dummy": _Vector("tianshou.env:DummyVectorEnv"),
    "tianshou-subproc": _Vector("tianshou.env:SubprocVectorEnv", True),
    "tianshou-shmem": _Vector("tianshou.env:ShmemVectorEnv", True),
    "tianshou-ray": _Vector("tianshou.env:RayVectorEnv", True),
}


def parse_vector(text: str) -> tuple[str, int]:
    """The kind and the number of environments of "async:3".

    :raises EnvSpecError: if it is no such text.
    """
    kind, _, count = text.partition(":")
    if kind not in _VECTORS or not (count or "3").isdecimal() or not 0 < int(count or 3) <= 1024:
        raise EnvSpecError(
            f"expected one of {', '.join(_VECTORS)} and a number of environments ('async:3'), found {text!r}"
        )
    return kind, int(count or 3)


def _make_vector(spec: EnvSpec, seed: int) -> Any:
    kind, count = parse_vector(spec.vector)
    if kind == "tianshou-ray":
        _start_ray()
    vector = _VECTORS[kind]
    makers = [functools.partial(_make_member, spec, seed, index) for index in range(count)]
    return find(vector.target)(makers, **vector.options)


def _make_member(spec: EnvSpec, seed: int, index: int) -> Any:
    import gymnasium

    # This may run in a new process, where nothing has been imported yet.
    spec._import()
    env = spec._make_one(seed + index)
    env = gymnasium.wrappers.TimeLimit(env, _TRUNCATED_AFTER[index % len(_TRUNCATED_AFTER)] + index)
    if not _VECTORS[parse_vector(spec.vector)[0]].in_processes:
        return env
    from perdure.environments import Resumable

    return Resumable(env)


def _start_ray() -> None:
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

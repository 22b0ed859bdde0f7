"""The names under which checkpoints record classes, and how to recognise a class that has moved.

A user's class is recorded as `module:qualname`. Perdure's own classes have fixed names from the table below, so that
moving or renaming one of them makes no run unreadable. Classes are only ever compared with these names: nothing is
imported because a file says so.
"""

from __future__ import annotations

from functools import lru_cache
from types import ModuleType

from perdure._lazy import definition_of

#: Perdure's own classes that a checkpoint may hold: the recorded name, and where the class is defined today.
#: The left side is part of the file format and never changes; the right side follows the code.
OWN_CLASSES = {
    "perdure:World": "perdure.world:World",  # the root of every checkpoint
    "perdure:State": "perdure.tree._nodes:State",
    "perdure:RunRecord": "perdure.run._record:RunRecord",
    "perdure:Generators": "perdure.state.rng:Generators",
    "perdure:WorkerState": "perdure.tree.message:EncodedState",
    "perdure:Resumable": "perdure.environments.subprocess._worker_side:Resumable",
    "perdure:EpisodeReplay": "perdure.environments.replay._gymnasium:EpisodeReplay",
    "perdure:PoolReplay": "perdure.environments.replay._pools:PoolReplay",
    "perdure:PoolGeneration": "perdure.environments.replay._pools:PoolGeneration",
    "perdure:AECEpisodeReplay": "perdure.environments.replay._pettingzoo:AECEpisodeReplay",
    "perdure:ParallelEpisodeReplay": "perdure.environments.replay._pettingzoo:ParallelEpisodeReplay",
    "perdure:MujocoSimulation": "perdure.environments.handlers.mujoco:Simulation",
    "perdure:PersistEvent": "perdure.persistence._events:PersistEvent",
    "perdure:RestoreEvent": "perdure.persistence._events:RestoreEvent",
    "perdure:ResumedSampler": "perdure.state._data_loaders:ResumedSampler",
    "perdure:EnvSpec": "perdure.check_env._env_spec:EnvSpec",
    "perdure:DemoReplayBuffer": "perdure.demo.training:ReplayBuffer",
}
_RECORDED = {place: name for name, place in OWN_CLASSES.items()}

#: Classes and modules that users moved, by their old names.
_renamed: dict[str, type | ModuleType] = {}


def module_of(cls: type) -> str:
    """The name of the module that defines a class; SWIG makes classes that have none."""
    return getattr(cls, "__module__", None) or "builtins"


def dotted_name(cls: type) -> str:
    """`package.module.Class`, by which rules name the classes of libraries that they do not import."""
    return f"{module_of(cls)}.{cls.__qualname__}"


def in_code(cls: type) -> str:
    """How a class is named in a line that a user pastes: the script's own by its name, any other by its dotted name as
    text, which needs no import."""
    module = module_of(cls)
    if module == "__main__" and "." not in cls.__qualname__:
        return cls.__qualname__
    return repr(dotted_name(cls))


def base_names(cls: type) -> list[str]:
    """The dotted names of a class and of all its bases, the nearest first."""
    return [dotted_name(base) for base in cls.__mro__]


@lru_cache(maxsize=4096)
def class_name(cls: type) -> str:
    """The name under which a class is recorded.

    :raises LookupError: if it is a class of Perdure's that the table does not name.
    """
    # Public classes of Perdure have the package as their `__module__`.
    place = f"{definition_of(cls) or 'builtins'}:{cls.__qualname__}"
    if not place.startswith("perdure."):
        return place
    try:
        return _RECORDED[place]
    except KeyError:
        raise LookupError(
            f"{place} has no name for checkpoints; give it one in perdure.state's table OWN_CLASSES"
        ) from None


def same_class(name: str, cls: type) -> bool:
    """Whether a recorded class name means `cls`: its present name, or one that it had before.

    The script's own module has two names: `__main__` when it is run, another when it is imported.
    """
    if class_name(cls) == name:
        return True
    module, _, qualname = name.partition(":")
    if (renamed := _renamed.get(name)) is not None:
        return renamed is cls
    if (moved := _renamed.get(module)) is not None:
        return module_of(cls) == moved.__name__ and cls.__qualname__ == qualname
    return (
        qualname == cls.__qualname__ and module != module_of(cls) and "__main__" in (module, module_of(cls))
    )


def renamed(old: str, new: type | ModuleType) -> None:
    """Say that a class, or a whole module, had another name when the checkpoints of a run were written.

    Call it before the run is resumed. The next checkpoint records the new name.

    :param old: the class as it was, `"package.module:Class"`; or the module as it was, `"package.module"`, for all
        classes in it.
    :param new: the class, or the module, as it is now.
    :raises TypeError: if `old` names a class and `new` is not a class, or likewise for a module.

    Example::

        perdure.renamed("agents:DQNAgent", my_project.dqn.Agent)
        perdure.renamed("agents", my_project.agents)
    """
    if not isinstance(old, str) or not old.strip():
        raise TypeError(
            f'perdure.renamed: expected the old name first, as "package.module:Class", found {old!r:.80}'
        )
    expected: type = type if ":" in old else ModuleType
    if not isinstance(new, expected):
        what = "a class" if expected is type else 'a module (to rename one class, give "module:Class")'
        raise TypeError(f"perdure.renamed({old!r}, ...): expected {what}, found {new!r:.80}")
    _renamed[old] = new


def renamed_name(name: str) -> str:
    """A recorded name of a class, of a function, or of something in a class, as it is after what users renamed."""
    if not _renamed:
        return name
    module, colon, qualname = name.partition(":")
    parts = qualname.split(".") if colon else []
    for length in range(len(parts), 0, -1):
        now = _renamed.get(f"{module}:{'.'.join(parts[:length])}")
        if isinstance(now, type):
            return ".".join([f"{module_of(now)}:{now.__qualname__}", *parts[length:]])
    moved = _renamed.get(module)
    return f"{moved.__name__}{colon}{qualname}" if isinstance(moved, ModuleType) else name


def remedy_if_renamed(name: str, now: str = "TheClassNow") -> str:
    """The line that a user needs if the class recorded as `name` has another name now."""
    if name.startswith("torch.nn.utils.parametrize:"):
        return (
            "torch gave the module this class when the training registered a parametrization. Let the script register "
            "it before the run is resumed"
        )
    return (
        f"If that class was moved or renamed, say so before resuming: perdure.renamed({name!r:.200}, {now})"
    )


def renamed_class(name: str) -> type | None:
    """The class that a user said a recorded name now means, or None."""
    if isinstance(found := _renamed.get(name), type):
        return found
    module, _, qualname = name.partition(":")
    found = _renamed.get(module)
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, type | ModuleType) else None
    return found if isinstance(found, type) else None

"""The world: what an experiment consists of, and where it persists. It knows no files and no library."""

from __future__ import annotations

import dataclasses
import difflib
import os
import warnings
from typing import TYPE_CHECKING, Any

from perdure import arguments
from perdure._lazy import publish
from perdure.errors import PerdureWarning, user_level

if TYPE_CHECKING:
    import torch
    from tianshou.data import BaseCollector

__all__ = ["World"]

_DIRECTORIES = ("persist_directory", "restore_directory")
_STANDARD_PARTS = (
    "envs",
    "policy",
    "algorithm",
    "training_collector",
    "test_collector",
    "logger",
    "trainer",
)
#: From which likeness on a name may be another one mistyped.
_ALIKE = 0.8


class _NotGiven:
    """Stands in the signature for a part that is not given."""

    def __repr__(self) -> str:
        return "<not given>"


_NOT_GIVEN: Any = _NotGiven()


class _Fields:
    """Shows `dataclasses` which fields there are: those of a world are its own parts, so that `replace` keeps them."""

    def __get__(self, world: World | None, cls: type[World]) -> dict[str, dataclasses.Field[Any]]:
        names = [*_STANDARD_PARTS, *_DIRECTORIES] if world is None else list(vars(world))
        made = dataclasses.make_dataclass("World", names, kw_only=True)
        return {each.name: each for each in dataclasses.fields(made)}


class World:
    """The container of an experiment's live objects.

    Every attribute is a *part*: an object whose state belongs to the experiment. Parts may be given to the constructor
    or assigned later, and rebound at any time; what a training loop carries from one iteration to the next (the last
    observation, a counter) is best kept here, because a local variable of the loop cannot be restored.

    The parts that event handlers commonly look for (`envs`, `policy`, `algorithm`, `training_collector`,
    `test_collector`, `logger`, `trainer`) read as None when they were not given. If one is looked for and there is only
    a part with nearly that name, a warning says so.

    Two worlds are equal if they have the same parts, which are the same objects or equal ones, and the same
    directories. `dataclasses.replace(world, persist_directory=...)` makes a world with the same objects.

    Example::

        world = perdure.World(policy=policy, optimizer=optimizer, envs=envs, score=0.0)
    """

    persist_directory: str | None
    """Where event handlers write."""
    restore_directory: str | None
    """Where event handlers read; None if nothing is restored."""
    envs: Any
    """The environments: Tianshou's `Environments`, a vector environment, or one alone."""
    policy: torch.nn.Module | Any
    """The policy, if it is a part by itself."""
    algorithm: torch.nn.Module | Any
    """What trains the policy, and contains it."""
    training_collector: BaseCollector[Any] | Any
    """What collects transitions for training."""
    test_collector: BaseCollector[Any] | Any
    """What collects transitions in evaluations."""
    logger: Any
    """What logs the training."""
    trainer: Any
    """What runs the training: Tianshou's `Trainer`, or that of another library."""

    __dataclass_fields__ = _Fields()

    def __init__(
        self,
        *unnamed: object,
        envs: Any = _NOT_GIVEN,
        policy: torch.nn.Module | Any = _NOT_GIVEN,
        algorithm: torch.nn.Module | Any = _NOT_GIVEN,
        training_collector: BaseCollector[Any] | Any = _NOT_GIVEN,
        test_collector: BaseCollector[Any] | Any = _NOT_GIVEN,
        logger: Any = _NOT_GIVEN,
        trainer: Any = _NOT_GIVEN,
        persist_directory: str | os.PathLike[str] | None = None,
        restore_directory: str | os.PathLike[str] | None = None,
        **parts: Any,
    ) -> None:
        """Put live objects into a world. Each has a name, and any name is allowed.

        :param envs: the environments.
        :param policy: the policy, if it is a part by itself.
        :param algorithm: what trains the policy, and contains it.
        :param training_collector: what collects transitions for training.
        :param test_collector: what collects transitions in evaluations.
        :param logger: what logs the training.
        :param trainer: what runs the training.
        :param persist_directory: where event handlers write (see :meth:`persist_path`). A :class:`perdure.Run` sets it.
        :param restore_directory: where event handlers read (see :meth:`restore_path`), or None if nothing is restored.
        :param parts: other live objects, by name.
        :raises TypeError: if an object has no name, or a directory is no path.
        """
        if unnamed:
            raise TypeError(
                f"each part of a world has a name: World(policy=...), found a {type(unnamed[0]).__name__}"
            )
        self.persist_directory, self.restore_directory = (
            None if given is None else arguments.local_path(given, name)
            for name, given in zip(_DIRECTORIES, (persist_directory, restore_directory), strict=True)
        )
        standard = (envs, policy, algorithm, training_collector, test_collector, logger, trainer)
        for name, part in zip(_STANDARD_PARTS, standard, strict=True):
            if part is not _NOT_GIVEN:
                setattr(self, name, part)
        for name, part in parts.items():
            setattr(self, name, part)

    if TYPE_CHECKING:
        # For type checkers: any name may be assigned.
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        # Only reached where the attribute does not exist.
        parts = [each for each in vars(self) if each not in _DIRECTORIES]
        alike = next(iter(difflib.get_close_matches(name, parts, 1, _ALIKE)), None)
        if name not in _STANDARD_PARTS:
            raise AttributeError(
                f"this world has no part {name!r}; its parts are {', '.join(parts) or 'none'}. "
                f"{f'Did you mean {alike!r}? ' if alike else ''}"
                f"Give it to World(...) or assign it: world.{name} = ..."
            )
        if alike is not None and alike not in _STANDARD_PARTS:
            warnings.warn(
                f"this world has no part {name!r}, so it reads as None, but it has {alike!r}. If that is meant, give "
                f"it the name: World({name}=...). If not, say that there is none: World({name}=None)",
                PerdureWarning,
                stacklevel=user_level(),
            )
        return None

    def parts(self) -> dict[str, Any]:
        """The parts by name, in the order in which they were first assigned."""
        return {name: part for name, part in vars(self).items() if name not in _DIRECTORIES}

    def persist_path(self, name: str) -> str:
        """The absolute path under which an event handler writes the file `name` (a relative path).

        :raises ValueError: if the world has no directory to persist to.
        """
        if self.persist_directory is None:
            raise ValueError(
                f"no path for {name!r}: this world was given no persist_directory. "
                "Pass World(persist_directory=...), or use the world with a perdure.Run."
            )
        return os.path.abspath(os.path.join(self.persist_directory, name))

    def restore_path(self, name: str) -> str:
        """The path from which an event handler reads the file `name` (a relative path).

        :raises ValueError: if the world has no directory to restore from.
        """
        if self.restore_directory is None:
            raise ValueError(
                f"no path for {name!r}: this world was given no restore_directory. "
                "Pass World(restore_directory=...), the directory of the run to restore from."
            )
        return os.path.join(self.restore_directory, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, World):
            return NotImplemented
        ours, theirs = vars(self), vars(other)
        return ours.keys() == theirs.keys() and all(_same(ours[name], theirs[name]) for name in ours)

    # What can be changed has no hash: two worlds may be equal today and differ tomorrow.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        parts = [f"{name}: {type(part).__name__}" for name, part in self.parts().items()]
        places = [f"{name}={place!r}" for name in _DIRECTORIES if (place := getattr(self, name)) is not None]
        return f"World({', '.join([*parts, *places])})"


def _same(one: Any, other: Any) -> bool:
    """Whether two parts are the same object, or say that they are equal."""
    if one is other:
        return True
    try:
        return bool(one == other)
    except Exception:
        # Arrays are compared element by element, and other objects may not be comparable at all.
        return False


publish(globals())

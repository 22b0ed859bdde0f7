"""The world: what an experiment consists of, and where it persists. It knows no files and no library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from perdure import arguments
from perdure._lazy import publish

__all__ = ["World"]

_STANDARD_PARTS = (
    "envs",
    "policy",
    "algorithm",
    "training_collector",
    "test_collector",
    "logger",
    "trainer",
)
_DIRECTORIES = ("persist_directory", "restore_directory")


class World:
    """The container of an experiment's live objects.

    Every attribute is a *part*: an object whose state belongs to the experiment. Parts may be given to the constructor
    or assigned later, and rebound at any time; what a training loop carries from one iteration to the next (the last
    observation, a counter) is best kept here, because a local variable of the loop cannot be restored.

    The parts that event handlers commonly look for (`envs`, `policy`, `algorithm`, `training_collector`,
    `test_collector`, `logger`, `trainer`) read as None when they were not given.

    :param persist_directory: where event handlers write (see :meth:`persist_path`). A :class:`perdure.Run` sets it.
    :param restore_directory: where event handlers read (see :meth:`restore_path`), or None if nothing is restored.
    :param parts: the live objects, by name.
    """

    persist_directory: str | None
    restore_directory: str | None

    def __init__(
        self,
        *unnamed: object,
        persist_directory: str | os.PathLike[str] | None = None,
        restore_directory: str | os.PathLike[str] | None = None,
        **parts: Any,
    ) -> None:
        if unnamed:
            raise TypeError(
                f"each part of a world has a name: World(policy=...), found a {type(unnamed[0]).__name__}"
            )
        self.persist_directory, self.restore_directory = (
            None if given is None else arguments.local_path(given, name)
            for name, given in zip(_DIRECTORIES, (persist_directory, restore_directory), strict=True)
        )
        for name, part in parts.items():
            setattr(self, name, part)

    if TYPE_CHECKING:
        # For type checkers: any name may be assigned.
        def __setattr__(self, name: str, value: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:
        # Only reached where the attribute does not exist.
        if name in _STANDARD_PARTS:
            return None
        raise AttributeError(
            f"this world has no part {name!r}; its parts are {', '.join(self.parts()) or 'none'}. "
            f"Give it to World(...) or assign it: world.{name} = ..."
        )

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

    def __repr__(self) -> str:
        return f"World({', '.join(f'{name}: {type(part).__name__}' for name, part in self.parts().items())})"


publish(globals())

"""Events and handlers: what is saved and restored together with the policy.

Handlers know only `world.persist_path` and `world.restore_path`. While an event is handled, the world's
`persist_directory` is a new directory: all that they write becomes visible together, or not at all.
"""

from __future__ import annotations

import copy
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from perdure import arguments
from perdure.errors import RestoreError
from perdure.persistence import checksums, versions
from perdure.persistence._compiled import module_in, with_names_of
from perdure.persistence._events import (
    PersistEvent,
    RestoreEvent,
    SharedEnum,
    accepts_either,
    event_for,
)
from perdure.persistence._publish_version import published, published_epoch
from perdure.persistence.policy_file import (
    TDevice,
    check_device,
    load_module_state,
    load_state_dict,
    save_module,
)
from perdure.persistence.reading import Trusted
from perdure.world import World

log = logging.getLogger(__name__)


class Persistence(ABC):
    """A handler: persists and restores what belongs to an experiment beside the policy.

    Subclass it; write to ``world.persist_path(name)`` and read from ``world.restore_path(name)``. Ignore events that
    you do not know: later versions may have more. Ask the world for a path each time: while persisting, it leads to a
    new, empty directory whose files are published together. So create the subdirectories you need, and do not expect
    the files of the last time there.

    Handlers of Tianshou's `highlevel.persistence` may be used wherever one of these is expected, and the other way
    round. Each gets the events of the library whose `Persistence` it inherits from; those of the other are equal.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("persist", "restore"):
            if isinstance(method := cls.__dict__.get(name), FunctionType):
                setattr(cls, name, accepts_either(method))

    @abstractmethod
    def persist(self, event: PersistEvent, world: World) -> None:
        """Write what belongs to `event`."""

    @abstractmethod
    def restore(self, event: RestoreEvent, world: World) -> None:
        """Read back what belongs to `event`, into the world's objects."""


class PersistenceGroup(Persistence):
    """Several handlers as one, applied in order.

    If it is called directly, the files of its handlers are published together with the other files of the present best
    version. Inside a :class:`PolicyPersistence` they are published with the policy.

    Example::

        persistence = PolicyPersistence(PersistenceGroup(NormaliserStatistics(), Curriculum()))
    """

    def __init__(self, *p: Persistence, enabled: bool = True) -> None:
        """Put handlers together.

        :param p: the handlers, of this library or of Tianshou's.
        :param enabled: whether anything is persisted; restoring is always enabled.
        :raises TypeError: if one of them is no handler.
        """
        for each in p:
            _check_handler(each, "PersistenceGroup")
        self.items = p
        self.enabled = arguments.flag(enabled, "enabled")

    def persist(self, event: PersistEvent, world: World) -> None:
        """Let every handler persist, in order. If one fails, all files stay as they were."""
        if not self.enabled:
            return
        with published(world, carry_over=True):
            for item in self.items:
                item.persist(event_for(item, event), world)

    def restore(self, event: RestoreEvent, world: World) -> None:
        """Let every handler restore, in order."""
        for item in self.items:
            item.restore(event_for(item, event), world)


class PolicyPersistence:
    """Saves and restores the policy, and what other handlers save with it.

    Example::

        persistence = PolicyPersistence(NormaliserStatistics(), mode=PolicyPersistence.Mode.POLICY_STATE_DICT)
        persistence.persist(policy, world)
        persistence.restore(policy, world, device="cpu")
    """

    class Mode(SharedEnum):
        """What is saved of the policy."""

        POLICY_STATE_DICT = "policy_state_dict"
        """Only the state dictionary. Restoring needs a structurally equivalent policy to load it into."""
        POLICY = "policy"
        """The entire policy, which :func:`perdure.load_policy` loads without an environment. It must be
        picklable in its entirety, and may stop loading when its classes are moved or renamed."""

        def get_filename(self) -> str:
            """The name of the file in which a policy is saved in this mode."""
            return f"{self.value}.pt"

    def __init__(
        self,
        additional_persistence: Persistence | None = None,
        enabled: bool = True,
        mode: Mode = Mode.POLICY,
        *,
        trust: Iterable[Trusted] = (),
    ) -> None:
        """Say how the policy is persisted, and what with it.

        :param additional_persistence: a handler that persists and restores whenever this object does; several go into
            a :class:`PersistenceGroup`.
        :param enabled: whether anything is persisted; restoring is always enabled.
        :param mode: what is saved of the policy; Tianshou's mode of the same name will do.
        :param trust: classes that may be made from a file when it is restored, beyond those of the policy that it is
            restored into: classes and functions, their dotted names, or packages (as in :func:`perdure.load_policy`).
        :raises TypeError: if one of them is of another kind.
        """
        if additional_persistence is not None:
            _check_handler(additional_persistence, "additional_persistence")
        if mode in list(self.Mode):
            mode = self.Mode(mode)  # Tianshou's member becomes this library's
        else:
            named = next((each for each in self.Mode if mode in (each.value, each.name)), self.Mode.POLICY)
            raise TypeError(
                f"mode: expected PolicyPersistence.Mode.{named.name}, or another one, found {mode!r:.80}"
            )
        self.additional_persistence = additional_persistence
        self.enabled = arguments.flag(enabled, "enabled")
        self.mode = mode
        self.trust = trust if isinstance(trust, str) or not isinstance(trust, Iterable) else tuple(trust)

    def persist(self, policy: torch.nn.Module, world: World) -> None:
        """Save the policy to ``world.persist_path(mode.get_filename())``, then let `additional_persistence` persist.

        Their files become visible together. If anything fails, the files of the last time stay.

        :param policy: the policy, or an algorithm that contains it.
        :param world: says where, and is passed on to the handlers: a :class:`perdure.World`, or Tianshou's.
        :raises NotPicklableError: in mode POLICY, naming the attribute that cannot be pickled.
        """
        if self.enabled:
            with published(world):
                self._save(policy, world)

    def restore(self, policy: torch.nn.Module, world: World, device: TDevice) -> None:
        """Load ``world.restore_path(mode.get_filename())`` into `policy`, then let the other handler restore.

        :param policy: what the file's parameters are loaded into.
        :param world: says where from, and is passed on to the handlers.
        :param device: where the file's tensors are loaded; the policy stays on its device.
        :raises UntrustedError: if the file uses what is not trusted; nothing of it was run.
        :raises RestoreError: if it does not fit the policy, which stays as it was.
        :raises DamagedError: if this file or a handler's file next to it is not as it was written.
        """
        check_device(device)
        path = world.restore_path(self.mode.get_filename())
        real = versions.published_file(path)
        if not os.path.exists(real):
            raise FileNotFoundError(self._missing(path, world))
        log.info("Restoring the policy from %s", path)
        checksums.verify(os.path.dirname(real))
        policy = module_in(policy)
        if self.mode is self.Mode.POLICY:
            state = load_module_state(path, device, policy, self.trust)
        else:
            state = load_state_dict(path, device, trust=self.trust)
        _load_into(policy, with_names_of(policy, state), path)
        if self.additional_persistence is not None:
            with _restoring_from(os.path.dirname(real), path, world):
                handler = self.additional_persistence
                handler.restore(event_for(handler, RestoreEvent.RESTORE_POLICY), world)

    def get_save_best_fn(self, world: World) -> Callable[[torch.nn.Module], None]:
        """The callback that a trainer calls with the policy when it is a new best."""

        def save_best_fn(policy: torch.nn.Module) -> None:
            self.persist(policy, world)

        return save_best_fn

    def get_save_checkpoint_fn(self, world: World) -> Callable[[int, int, int], str] | None:
        """The callback that a trainer calls as ``f(epoch, env_step, gradient_step)``; None if disabled.

        It saves the world's algorithm (or its policy, if it has no algorithm) and returns the path of
        ``policy_epoch_7.pt``. It shows a file of ``policies/epoch_7`` (a link to it; where there are no links, a second
        name or a copy). That directory has the handlers' files too, and may be used as `restore_directory`.
        """
        if not self.enabled:
            return None

        def save_checkpoint_fn(epoch: int, env_step: int, gradient_step: int) -> str:
            file = Path(self.mode.get_filename())
            path = world.persist_path(f"{file.stem}_epoch_{epoch}{file.suffix}")
            with published_epoch(world, epoch, file.name):
                self._save(_algorithm(world), world)
            return path

        return save_checkpoint_fn

    def _save(self, policy: torch.nn.Module, world: World) -> None:
        path = world.persist_path(self.mode.get_filename())
        log.info("Saving the policy in %s", path)
        if self.mode is self.Mode.POLICY:
            save_module(policy, path)
        else:
            torch.save(module_in(policy).state_dict(), path)
        if self.additional_persistence is not None:
            handler = self.additional_persistence
            handler.persist(event_for(handler, PersistEvent.PERSIST_POLICY), world)

    def _missing(self, path: str, world: World) -> str:
        for mode in self.Mode:
            if os.path.exists(world.restore_path(mode.get_filename())):
                use = f"use PolicyPersistence(mode=PolicyPersistence.Mode.{mode.name})"
                return f"there is no {path}, but there is {mode.get_filename()} beside it: {use}."
        return f"there is no {path}. Is restore_directory the directory of a run that has saved a policy?"


def _check_handler(handler: Any, where: str) -> None:
    if isinstance(handler, type) or not all(
        callable(getattr(handler, name, None)) for name in ("persist", "restore")
    ):
        found = handler.__name__ if isinstance(handler, type) else f"a {type(handler).__name__}"
        hint = " Several go into one: PersistenceGroup(a, b)." if isinstance(handler, list | tuple) else ""
        raise TypeError(
            f"{where}: expected a Persistence, which has persist and restore, found {found}.{hint}"
        )


@contextmanager
def _restoring_from(version: str, path: str, world: World) -> Iterator[None]:
    """Let handlers read the files that were published with the policy.

    Where links lead to them, the world's directory does that. Where they are copies (the run was copied, or the file
    system has no links), a process that was killed while it replaced them may have left some of the last version.
    """
    before = world.restore_directory
    links = os.path.islink(path) and os.path.exists(path)
    if links or os.path.basename(os.path.dirname(version)) != versions.POLICIES:
        yield
        return
    world.restore_directory = version
    try:
        yield
    finally:
        world.restore_directory = before


def _algorithm(world: World) -> torch.nn.Module:
    for part in ("algorithm", "policy"):
        found: Any = getattr(world, part, None)
        if isinstance(found, torch.nn.Module):
            return found
    raise ValueError(
        "there is nothing to save: expected an algorithm or a policy in the world that is a torch.nn.Module."
        " Assign it, world.algorithm = ..., before the first checkpoint."
    )


def _load_into(policy: torch.nn.Module, state: dict[str, Any], path: str) -> None:
    before = copy.deepcopy(policy.state_dict())
    try:
        policy.load_state_dict(copy.copy(state))  # a copy: some classes take their own entries out of it
    except Exception as error:
        policy.load_state_dict(before)
        raise RestoreError(
            f"{path} does not fit the policy, which was left as it was. {_misfit(before, state) or error} "
            "Build the policy as it was built when the file was written: the same classes, layers and sizes."
        ) from error


def _misfit(live: dict[str, Any], state: dict[str, Any]) -> str:
    """What in the state dictionary does not fit, in words; empty if the cause is another one."""
    missing = [key for key in live if key not in state]
    unexpected = [str(key) for key in state if key not in live]
    shapes = [
        f"{key} ({tuple(state[key].shape)} in the file, {tuple(value.shape)} in the policy)"
        for key, value in live.items()
        if isinstance(value, torch.Tensor)
        and isinstance(state.get(key), torch.Tensor)
        and state[key].shape != value.shape
    ]
    found = {"missing in the file": missing, "not in the policy": unexpected, "of another shape": shapes}
    return " ".join(f"{what.capitalize()}: {', '.join(keys)}." for what, keys in found.items() if keys)

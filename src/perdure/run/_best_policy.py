"""The best policy of a run: published with its score, and only ever replaced by a better one."""

from __future__ import annotations

import errno
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from perdure.errors import PerdureError
from perdure.persistence import BestRecord, PersistenceGroup, PolicyPersistence
from perdure.state import parts_of
from perdure.store import explain
from perdure.world import World

_PARTS = ("policy", "algorithm", "agent", "model")


class BestPolicy:
    """The best policy of a run, as published in its directory.

    :param directory: of the run.
    :param persistence: how policies are persisted, and what with them.
    :param allowed: raises an error if nothing may be published there.
    """

    def __init__(
        self, directory: str, persistence: PolicyPersistence, allowed: Callable[[], None] = lambda: None
    ) -> None:
        self.directory = directory
        self.persistence = persistence
        self._allowed = allowed
        #: The score of the published policy, also if another process reached it; None if there is none.
        self.score = None if (found := BestRecord.read(directory)) is None else found.score

    def beaten_by(self, score: float) -> bool:
        """Whether a policy of this score would be published."""
        return self.score is None or score > self.score

    def offer(self, score: float, step: int, world: Any, policy: torch.nn.Module | None = None) -> bool:
        """Publish a policy unless a better one was published before; returns whether it did.

        :param policy: by default the world's `policy`, `algorithm`, `agent` or `model`.
        :raises NotPicklableError: if the whole policy is to be persisted and cannot be pickled.
        """
        if not self.beaten_by(score):
            return False
        policy = policy_of(world) if policy is None else policy
        target = world if hasattr(world, "persist_directory") else World(**parts_of(world))
        own, record = self.persistence, BestRecord(score, step)
        handlers = [handler for handler in (own.additional_persistence, record) if handler is not None]
        self._allowed()
        before, target.persist_directory = target.persist_directory, self.directory
        try:
            with writing(self.directory):
                PolicyPersistence(PersistenceGroup(*handlers), own.enabled, own.mode).persist(policy, target)
        except BaseException:
            # It may have been published, and only not be shown.
            self.score = None if (found := BestRecord.read(self.directory)) is None else found.score
            raise
        finally:
            target.persist_directory = before
        self.score = score
        return True


#: The errors of a disk, as opposed to those of a handler.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOTCONN)


@contextmanager
def writing(directory: str) -> Iterator[None]:
    """Turn what libraries raise when the disk is full, or fails, into a StoreError."""
    try:
        yield
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise explain(error, "write the best policy in", directory) from error
    except RuntimeError as error:
        # torch does not pass on what the system said.
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise
        cause = _refusal(directory) or OSError(errno.EIO, f"torch says: {error}")
        raise explain(cause, "write the best policy in", directory) from cause


def _refusal(directory: str) -> OSError | None:
    """What the system says when a little more is written to a directory; None if it is written."""
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(bytes(1 << 16))
            file.flush()
    except OSError as error:
        return error
    return None


def policy_of(world: Any) -> torch.nn.Module:
    """The part of a world that is its policy.

    :raises PerdureError: if that is not clear.
    """
    parts = parts_of(world)
    modules: dict[str, torch.nn.Module] = {
        name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)
    }
    named = [modules[name] for name in _PARTS if name in modules]
    if named or len(modules) == 1:
        return named[0] if named else next(iter(modules.values()))
    raise PerdureError(
        f"which of the world's parts is the policy? Expected one torch module, or a part named {', '.join(_PARTS)}; "
        f"found the modules {', '.join(modules) or '(none)'}. Say it: run.report_score(score, world, policy=...)"
    )

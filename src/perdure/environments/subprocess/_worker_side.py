"""The wrapper that makes an environment resumable in a worker process.

It answers the questions of `_trainer_side`: in the worker process it captures and restores its environment, and passes
states on as bytes. It knows no files, and of the libraries whose workers it runs in only how their loops call it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym

if TYPE_CHECKING:
    from perdure.state import Report, Restoration

#: What an answer begins with.
DONE, FAILED = "done", "failed"
#: The key of a reset's options that holds a question, for workers that pass on nothing else.
QUESTION = "perdure question"


@dataclass(frozen=True)
class _Checked:
    """A state that was checked and may be restored next, if nothing happens to the environment in between."""

    wrapper: Resumable
    content: bytes
    restoration: Restoration
    loop: dict[str, Any]


#: The last question of this process, if it was a check. Not an attribute: those are captured.
_checked: _Checked | None = None


def _forget_check() -> None:
    global _checked
    _checked = None


class Resumable(gym.Wrapper[Any, Any, Any, Any]):
    """Lets Perdure ask an environment in another process for its state. Make it the outermost wrapper:

        gym.vector.AsyncVectorEnv([lambda: Resumable(gym.make("CartPole-v1")) for _ in range(8)])
        gym.make_vec("CartPole-v1", 8, vectorization_mode="async", wrappers=[Resumable])
        make_vec_env("CartPole-v1", 8, vec_env_cls=SubprocVecEnv, wrapper_class=Resumable)
        SubprocVectorEnv([lambda: Resumable(gym.make("CartPole-v1")) for _ in range(8)])

    It does not change what the environment does. The worker's own random generators (Python's, NumPy's and torch's) are
    captured and restored with it. In the training process it does no harm.

    A handler for something inside the environment (`perdure.register`, `perdure.skip`) must be registered in the
    worker process: put it into the module that defines the environment, not under `if __name__ == "__main__"`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._settling: _Settling | None = None
        if _is_in_a_worker():
            _live_as_the_trainer_does()

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment."""
        global _asked
        _asked += 1
        if _checked is not None:
            _forget_check()
        if self._settling is not None:
            return self._settle().as_step()
        return self.env.step(action)  # type: ignore[no-any-return]

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        if self._settling is not None:
            return self._settle().as_reset()
        options = given.get("options")
        if isinstance(options, dict) and QUESTION in options:
            # A question, as the actors of Tianshou's RayVectorEnv get it; not a reset.
            return self.perdure_answer(**options[QUESTION])
        if _checked is not None:
            _forget_check()
        return self.env.reset(**given)  # type: ignore[no-any-return]

    def render(self, **question: Any) -> Any:
        """Render the environment. With arguments it is a question, as Tianshou's workers pass it on."""
        if question:
            return self.perdure_answer(**question)
        return self.env.render()

    @property
    def perdure_resumable(self) -> bool:
        """True: for workers that can only be asked for an attribute, to find out whether an environment is wrapped."""
        return True

    def perdure_answer(
        self,
        request: Literal["capture", "check", "restore"],
        content: bytes = b"",
        known: bytes = b"",
        variables: Sequence[str] = (),
        last: Any = None,
        calls: int = 0,
    ) -> tuple[str, Any]:
        """Answer a question of the training process. It never raises, so the worker goes on and its pipe stays in step.

        :param request: "capture" (the answer is an encoded state), "check" or "restore" (the answer lists what does not
            fit, as pairs of path and detail). A state is matched once: "restore" writes what "check" has matched.
        :param content: the encoded state to check or restore.
        :param known: the digest of a structure (see `perdure.tree.message`) that the training process has.
        :param variables: names of local variables of the worker's loop that belong to its state.
        :param last: the last observation, if the loop does not keep it.
        :param calls: how many steps or resets after this question serve to set the loop's variables.
        :returns: DONE and the answer, or FAILED and the reason.
        """
        global _asked
        _asked += 1
        try:
            _live_as_the_trainer_does()
            if request == "capture":
                return DONE, self._capture(known, variables)
            checked = self._check(content, variables)
            if request == "check":
                return DONE, _problems(checked.restoration.report)
            _forget_check()
            # What does not fit was reported when it was checked.
            report = checked.restoration.apply(strict=False).report
            if calls:
                self._settling = _Settling(calls, last, **checked.loop)
            return DONE, _problems(report)
        except Exception as error:
            _forget_check()
            return FAILED, f"{type(error).__name__}: {error}"

    # A worker that is never asked need not import torch and what is built on it, so these methods import it.

    def _capture(self, known: bytes, variables: Sequence[str]) -> bytes:
        from perdure import state
        from perdure.tree import message

        _forget_check()
        return message.encode(state.capture(self._world(self._variables_of_loop(variables))), known)

    def _check(self, content: bytes, variables: Sequence[str]) -> _Checked:
        """An encoded state matched with the environment: now, or by the question just before."""
        global _checked
        from perdure import state
        from perdure.tree import message

        if _checked is None or _checked.wrapper is not self or _checked.content != content:
            saved = message.decode(message.from_bytes(content))
            loop = self._variables_of_loop(variables)
            world = self._world(loop)
            _checked = _Checked(self, content, state.prepare(saved, world, state.walk_live(world)), loop)
        return _checked

    def _world(self, loop: dict[str, Any]) -> dict[str, Any]:
        return {"env": self, "loop": loop}

    def _settle(self) -> _Settling:
        settling = self._settling
        assert settling is not None
        settling.calls -= 1
        if not settling.calls:
            self._settling = None
        return settling

    def _variables_of_loop(self, names: Sequence[str]) -> dict[str, Any]:
        """Local variables of the worker's loop by name: no object holds what the loop carries between commands."""
        if not names:
            return {}
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            found = frame.f_locals
            if found.get("env") is self and all(name in found for name in names):
                return {name: found[name] for name in names}
        raise RuntimeError(
            f"expected a worker's loop that keeps {', '.join(names)} and has this wrapper as its environment, found "
            "none. Put Resumable outermost, and use the library's own worker function"
        )


_watched = False


def _live_as_the_trainer_does() -> None:
    """Exit when the training process does: not before it, and not long after."""
    global _watched
    if _watched or multiprocessing.parent_process() is None:
        return
    _watched = True
    # Ctrl-C in a terminal goes to every process of the group, and so does what a scheduler sends before it ends a job.
    # The trainer is in the middle of a step then, and needs its workers to save it. It decides when they exit.
    if threading.current_thread() is threading.main_thread():
        for number in _FROM_OUTSIDE:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, signal.SIG_IGN):
                # A handler and not SIG_IGN, which programs that the environment starts would inherit.
                signal.signal(number, _leave_unless_needed)
    # Forked workers may hold each other's pipes open, so none of them would notice that the trainer was killed.
    threading.Thread(target=_follow, daemon=True, name="perdure").start()


#: SIGTERM is also how a trainer ends its workers.
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
#: A worker that got SIGTERM, and that nobody has asked anything for so many seconds, ends.
_UNUSED = 60.0
#: How often the worker was asked something, and whether it was told to end.
_asked = 0
_told = False


def _leave_unless_needed(number: int, frame: FrameType | None) -> None:
    global _told
    if number != signal.SIGTERM:
        return
    # A trainer that handles it goes on to its next safe point. One that does not is ending as well, and one that has
    # left its loop tells the workers by this signal to end.
    trainer = multiprocessing.parent_process()
    if trainer is not None and trainer.pid is not None and _catches(trainer.pid, signal.SIGTERM):
        _told = True
        return
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _catches(process: int, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal; True if the system does not tell."""
    try:
        with open(f"/proc/{process}/status") as status:
            masks = [int(line.split()[1], 16) for line in status if line.startswith("SigCgt")]
    except (OSError, ValueError, IndexError):
        return True
    return bool(masks[0] >> (number - 1) & 1) if masks else True


#: The loops of the libraries' workers: where they are on the stack, this is a worker process and not a trainer that
#: another process has started.
_LOOPS = (
    "gymnasium.vector.async_vector_env",
    "stable_baselines3.common.vec_env.subproc_vec_env",
    "tianshou.env.worker.subproc",
)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True


def _is_in_a_worker() -> bool:
    if multiprocessing.parent_process() is None:
        return False
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") in _LOOPS and frame.f_code.co_name.endswith("worker"):
            return True
        frame = frame.f_back
    return False


def _follow() -> None:
    trainer = multiprocessing.parent_process()
    # The process that forked this one may be a server, which a signal to the whole group has ended.
    by_server = trainer is not None and trainer.pid is not None and trainer.pid != os.getppid()
    parent = os.getppid()
    seen, since = _asked, time.monotonic()
    while _is_alive(trainer.pid) if by_server else os.getppid() == parent:  # type: ignore[union-attr, arg-type]
        time.sleep(1.0)
        if not _told or _asked != seen:
            seen, since = _asked, time.monotonic()
        elif time.monotonic() - since > _UNUSED:
            break
    os._exit(1)


class _Settling:
    """The answers of an environment that is not stepped while its worker's loop gets its variables back."""

    def __init__(
        self,
        calls: int,
        last: Any,
        observation: Any = None,
        autoreset: bool = False,
        reset_info: dict[str, Any] | None = None,
    ) -> None:
        self.calls = calls
        self.observation = last if observation is None else observation
        self.over = autoreset
        self.reset_info = reset_info or {}

    def as_step(self) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        # Only the last answer may end the episode, because a loop that resets at the next step does so at once.
        return self.observation, 0.0, bool(self.over and not self.calls), False, {}

    def as_reset(self) -> tuple[Any, dict[str, Any]]:
        return self.observation, self.reset_info


def _problems(report: Report) -> list[tuple[str, str]]:
    missing = [(path, "the script has it, the checkpoint does not") for path in report.missing]
    return [*report.mismatched, *report.unexpected, *missing]

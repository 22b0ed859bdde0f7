"""The wrapper that makes an environment resumable where it runs in a process of its own.

It is the far end of `workers`: in the worker process it captures its environment and restores it, and hands over
bytes. It knows no files, and of the libraries whose workers it lives in only how their loops call it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

#: What an answer begins with.
DONE, FAILED = "done", "failed"
#: Under which of a reset's options a question stands, where nothing else is passed on.
QUESTION = "perdure question"


class Resumable(gym.Wrapper[Any, Any, Any, Any]):
    """Lets Perdure ask an environment in another process for its state. Put it around the environment, outermost:

        gym.vector.AsyncVectorEnv([lambda: Resumable(gym.make("CartPole-v1")) for _ in range(8)])
        gym.make_vec("CartPole-v1", 8, vectorization_mode="async", wrappers=[Resumable])
        make_vec_env("CartPole-v1", 8, vec_env_cls=SubprocVecEnv, wrapper_class=Resumable)
        SubprocVectorEnv([lambda: Resumable(gym.make("CartPole-v1")) for _ in range(8)])

    It changes nothing that the environment does. The process's own random generators (Python's, NumPy's and
    torch's) are captured and restored with it. Around an environment in the training process it does no harm.

    A handler for something inside the environment (`perdure.register`, `perdure.skip`) must be registered in the
    worker process: put it into the module that defines the environment, not under `if __name__ == "__main__"`.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self._settling: _Settling | None = None

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As the environment does."""
        if self._settling is not None:
            return self._settle().as_step()
        return self.env.step(action)  # type: ignore[no-any-return]

    def reset(self, **given: Any) -> tuple[Any, dict[str, Any]]:
        """As the environment does."""
        if self._settling is not None:
            return self._settle().as_reset()
        options = given.get("options")
        if isinstance(options, dict) and QUESTION in options:
            # How the actors of Tianshou's RayVectorEnv are asked; it is no reset.
            return self.perdure_answer(**options[QUESTION])
        return self.env.reset(**given)  # type: ignore[no-any-return]

    def render(self, **question: Any) -> Any:
        """As the environment does. With arguments it is how Tianshou's workers pass on a question."""
        if question:
            return self.perdure_answer(**question)
        return self.env.render()

    @property
    def perdure_resumable(self) -> bool:
        """Told where a worker has no other way to say whether its environment is wrapped."""
        return True

    def perdure_answer(
        self,
        request: str,
        content: bytes = b"",
        known: bytes = b"",
        variables: Sequence[str] = (),
        last: Any = None,
        calls: int = 0,
    ) -> tuple[str, Any]:
        """Answer the training process: what it asked for, or why that cannot be had. It raises nothing, so that the
        worker goes on and its pipe stays in step.

        :param request: "capture" (the answer is a packed state), "check" or "restore" (the answer lists what does
            not fit, as pairs of path and detail).
        :param content: the packed state to check or restore.
        :param known: the digest of a form (see `perdure.tree.message`) that the training process has.
        :param variables: what the worker's loop keeps in variables of its own.
        :param last: the last observation, where the loop has it no longer.
        :param calls: how many steps or resets after this one serve to set the loop's variables.
        """
        try:
            _live_as_the_trainer_does()
            # Only here: a worker that is never asked need not import them.
            from perdure import state
            from perdure.tree import message

            loop = self._variables_of_loop(variables)
            world = {"env": self, "loop": loop}
            if request == "capture":
                return DONE, message.encode(state.capture(world), known)
            saved = message.decode(message.from_bytes(content))
            if request == "check":
                return DONE, _problems(state.check(saved, world))
            # What does not fit has been said when it was checked.
            report = state.restore(saved, world, strict=False)
            if calls:
                self._settling = _Settling(calls, last, **loop)
            return DONE, _problems(report)
        except Exception as error:
            return FAILED, f"{type(error).__name__}: {error}"

    def _settle(self) -> _Settling:
        settling = self._settling
        assert settling is not None
        settling.calls -= 1
        if not settling.calls:
            self._settling = None
        return settling

    def _variables_of_loop(self, names: Sequence[str]) -> dict[str, Any]:
        """Variables of the worker's loop by name: what it carries from one command to the next, no object holds."""
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
    """Leave when the training process does: not before it, and not long after."""
    global _watched
    if _watched or multiprocessing.parent_process() is None:
        return
    _watched = True
    # The terminal sends Ctrl-C to every process of the group; when to leave is the trainer's to say.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Forked workers may hold each other's pipes open: then none of them hears that the trainer was killed.
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True, name="perdure").start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


class _Settling:
    """What the environment says when its worker's loop is brought to where it was: nothing is stepped."""

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
        # Only the last answer may say that an episode is over: a loop that resets at the next step does so at once.
        return self.observation, 0.0, bool(self.over and not self.calls), False, {}

    def as_reset(self) -> tuple[Any, dict[str, Any]]:
        return self.observation, self.reset_info


def _problems(report: Any) -> list[tuple[str, str]]:
    found = [*report.mismatched, *report.unexpected]
    return found + [
        (path, "the script has it, the checkpoint knows nothing of it") for path in report.missing
    ]

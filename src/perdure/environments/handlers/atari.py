"""The Arcade Learning Environment: captures an emulator with its random generator. Knows no environment and no files.

The state that the emulator serializes (14 kB) lacks the picture on the screen, which every observation draws anew; the
sound; and, if colours are averaged, the previous picture. If one of the latter two is observed, episodes must be
replayed instead.

It also lacks the last action, which an emulator with sticky actions may repeat. This matters only if the emulator's
generator says that the next frame is a repetition, which can be read from the state. Then the emulator plays those
frames during the capture, and a digest of the result is saved; restoring tries which action leads to the same result.
(Until its next step, `render` shows the picture of those frames.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash

from perdure.environments.handlers import _ale_state
from perdure.state import Handler, register_handler

_REPLAY = "Wrap the environment in perdure.environments.EpisodeReplay, which replays the episode instead"
_ACTIONS = 18
#: Stands for a state after which no frame repeats an action.
_NONE: Mapping[str, Any] = {}
_FLOATS = ("repeat_action_probability",)
_INTS = ("max_num_frames_per_episode", "frame_skip", "reward_min", "reward_max")


def emulator_form(ale: Any) -> str:
    """The game, and the settings that the script has chosen."""
    settings = [f"{name}={ale.getFloat(name)}" for name in _FLOATS]
    settings += [f"{name}={ale.getInt(name)}" for name in _INTS]
    return f"{os.path.basename(ale.getString('rom_file')) or 'no game'}, {', '.join(settings)}"


def capture_emulator(ale: Any) -> dict[str, Any]:
    """The emulator's state.

    :raises ValueError: if observations depend on something that its state lacks, or it has loaded no game.
    """
    for name, what in (("sound_obs", "sound"), ("color_averaging", "averages of two pictures")):
        if ale.getBool(name):
            raise ValueError(f"it observes {what} ({name}=True), which the emulator's state lacks. {_REPLAY}")
    state = _state(ale)
    saved: dict[str, Any] = {"form": emulator_form(ale), "state": np.frombuffer(state, np.uint8)}
    if (frames := _repeats(ale, state)) > 0:
        saved["repeats"] = {"frames": frames, "seen": _played(ale, frames)}
        _put(ale, state)
    return saved


def _state(ale: Any) -> bytes:
    if not ale.getString("rom_file"):
        raise ValueError("expected an emulator that has loaded a game, found one without")
    content: bytes = ale.cloneState(include_rng=True).serialize()
    return content


def restore_emulator(ale: Any, saved: Mapping[str, Any]) -> None:
    """Put an emulator of the same game into a saved state.

    :raises ValueError: if it is no state of this game; then nothing has changed.
    """
    state = saved["state"]
    if not (isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.ndim == 1):
        raise ValueError("expected the bytes of an emulator's state, found something else")
    content, own = state.tobytes(), _state(ale)
    if (found := _ale_state.fault(content, own)) is not None:
        raise ValueError(f"expected the state of an emulator of the same game, found one with {found}")
    repeats = saved.get("repeats", _NONE)
    # The number of frames follows from the state, and bounds the work that a file can cause.
    if repeats is not _NONE and not (
        isinstance(repeats, dict)
        and repeats.keys() == {"frames", "seen"}
        and repeats["frames"] == _repeats(ale, content)
    ):
        raise ValueError("expected which frames repeat the last action, found something else")
    _put(ale, content)
    if repeats is not _NONE and not _repeat(ale, content, repeats):
        _put(ale, own)
        raise ValueError(
            "expected frames that repeat an action, found frames that no action leads to: a paddle was moved with only "
            f"part of its strength, which the emulator's state lacks. {_REPLAY}"
        )


# -- the action that is repeated -----------------------------------------------------------------------------


def _put(ale: Any, state: bytes) -> None:
    import ale_py

    ale.restoreState(ale_py.ALEState(state))


def _repeats(ale: Any, state: bytes) -> int:
    """How many frames after a state repeat the last action."""
    chance = ale.getFloat("repeat_action_probability")
    # With a chance of 1, no action has ever been executed.
    if not 0 < chance < 1:
        return 0
    if ale.getInt("frame_skip") != 1:
        raise ValueError(f"it repeats actions and skips frames (frame_skip) by itself. {_REPLAY}")
    return _ale_state.repeats(state, chance)


def _played(ale: Any, frames: int) -> str:
    """Play frames that repeat an action; returns a digest of the result."""
    found = xxhash.xxh3_128()
    for _ in range(frames):
        found.update(str(ale.act(0)).encode())
        found.update(_state(ale))
    return found.hexdigest()


def _repeat(ale: Any, state: bytes, saved: Mapping[str, Any]) -> bool:
    """Find the action that the saved emulator would repeat, and let the restored one repeat it; False if none does."""
    before = _ale_state.obedient(state, ale.getFloat("repeat_action_probability"))
    for action in range(_ACTIONS):
        _put(ale, before)
        ale.act(action)
        _put(ale, state)
        if _played(ale, saved["frames"]) == saved["seen"]:
            # If other actions lead to the same result, it does not matter which: they count in these frames alone.
            _put(ale, state)
            return True
    return False


register_handler(
    "ale_py._ale_py.ALEInterface", Handler(capture_emulator, restore_emulator, form=emulator_form)
)

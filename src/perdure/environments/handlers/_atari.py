"""The Arcade Learning Environment: an emulator's state with its random generator. Knows no environment and no files.

The emulator's own notation of its state (14 kB) holds everything but the picture on the screen, which every observation
draws anew, the sound, and the picture before it where colours are averaged; where those are observed, an episode has
to be replayed instead.

Nor does it hold the action that a sticky emulator does again. That counts only where the emulator's generator says that
the next frame is such a repetition, which can be read. Then the emulator itself plays those frames, and what it played
is part of what is saved: restoring tries which action leads there. (Until its next step, `render` shows their picture.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import xxhash

from perdure.environments.handlers import _ale_state

_REPLAY = "Wrap the environment in perdure.environments.EpisodeReplay, which plays the episode again instead"
_ACTIONS = 18
#: Where no frame repeats an action.
_NONE: Mapping[str, Any] = {}
_FLOATS = ("repeat_action_probability",)
_INTS = ("max_num_frames_per_episode", "frame_skip", "reward_min", "reward_max")


def emulator_form(ale: Any) -> str:
    """The game, and the settings that the script gave the emulator."""
    settings = [f"{name}={ale.getFloat(name)}" for name in _FLOATS]
    settings += [f"{name}={ale.getInt(name)}" for name in _INTS]
    return f"{os.path.basename(ale.getString('rom_file')) or 'no game'}, {', '.join(settings)}"


def capture_emulator(ale: Any) -> dict[str, Any]:
    """The emulator's state.

    :raises ValueError: if it observes what its state lacks, or has no game.
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
        raise ValueError("expected an emulator with a game, found one that has loaded none")
    content: bytes = ale.cloneState(include_rng=True).serialize()
    return content


def restore_emulator(ale: Any, saved: Mapping[str, Any]) -> None:
    """Bring an emulator of the same game into a saved state.

    :raises ValueError: if the state is none of this game; nothing was changed then.
    """
    state = saved["state"]
    if not (isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.ndim == 1):
        raise ValueError("expected the bytes of an emulator's state")
    content, own = state.tobytes(), _state(ale)
    if (found := _ale_state.fault(content, own)) is not None:
        raise ValueError(f"expected the state of an emulator of the same game, found one with {found}")
    repeats = saved.get("repeats", _NONE)
    # How many follows from the state, and says how much work this may make.
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
            "expected frames that repeat an action, found some that no action leads to: a paddle was moved with a part "
            f"of its strength, which the emulator's state lacks. {_REPLAY}"
        )


# -- the action that is repeated -----------------------------------------------------------------------------


def _put(ale: Any, state: bytes) -> None:
    import ale_py

    ale.restoreState(ale_py.ALEState(state))


def _repeats(ale: Any, state: bytes) -> int:
    """How many of the frames after a state repeat the last action."""
    chance = ale.getFloat("repeat_action_probability")
    # One that always repeats has never done anything.
    if not 0 < chance < 1:
        return 0
    if ale.getInt("frame_skip") != 1:
        raise ValueError(f"it repeats actions and skips frames (frame_skip) by itself. {_REPLAY}")
    return _ale_state.repeats(state, chance)


def _played(ale: Any, frames: int) -> str:
    """Play frames that repeat an action; what they lead to."""
    found = xxhash.xxh3_128()
    for _ in range(frames):
        found.update(str(ale.act(0)).encode())
        found.update(_state(ale))
    return found.hexdigest()


def _repeat(ale: Any, state: bytes, saved: Mapping[str, Any]) -> bool:
    """Make a restored emulator repeat what the saved one would; whether there is such an action."""
    before = _ale_state.obedient(state, ale.getFloat("repeat_action_probability"))
    for action in range(_ACTIONS):
        _put(ale, before)
        ale.act(action)
        _put(ale, state)
        if _played(ale, saved["frames"]) == saved["seen"]:
            # What other actions lead to the same does not matter: they count in these frames alone.
            _put(ale, state)
            return True
    return False

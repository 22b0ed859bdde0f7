"""The Arcade Learning Environment: an emulator's state with its random generator. Knows no environment and no files.

The emulator's own notation of its state (14 kB) holds everything but the picture on the screen, which every observation
draws anew, the sound, and the picture before it where colours are averaged; where those are observed, an episode has
to be replayed instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from perdure.environments import stella

_REPLAY = "Wrap the environment in perdure.environments.EpisodeReplay, which plays the episode again instead"
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
    return {"form": emulator_form(ale), "state": np.frombuffer(_state(ale), np.uint8)}


def _state(ale: Any) -> bytes:
    if not ale.getString("rom_file"):
        raise ValueError("expected an emulator with a game, found one that has loaded none")
    content: bytes = ale.cloneState(include_rng=True).serialize()
    return content


def restore_emulator(ale: Any, saved: Mapping[str, Any]) -> None:
    """Bring an emulator of the same game into a saved state.

    :raises ValueError: if the state is none of this game; nothing was changed then.
    """
    import ale_py

    state = saved["state"]
    if not (isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.ndim == 1):
        raise ValueError("expected the bytes of an emulator's state")
    content, own = state.tobytes(), _state(ale)
    if (found := stella.fault(content, own)) is not None:
        raise ValueError(f"expected the state of an emulator of the same game, found one with {found}")
    ale.restoreState(ale_py.ALEState(content))

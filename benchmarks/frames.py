"""Real Atari frames, as a replay buffer holds them: 84x84 grey pixels, from games played at random."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

_GAMES = ("breakout", "pong", "space_invaders", "seaquest")
_ENVS = 8
_SIDE = 84


class Frames:
    """An endless sequence of frames.

    `played` of them are stepped in the emulator (about 2,000 a second and core); then they come again, each time
    shifted sideways by one more column and lighter by one: as compressible as the first time, and no two chunks
    of them alike, so that no store can save them by finding them twice.
    """

    def __init__(self, played: int) -> None:
        self.played = _played(played)
        self.at = 0

    def take(self, count: int) -> np.ndarray:
        """The next frames, of shape (count, 84, 84)."""
        out = np.empty((count, _SIDE, _SIDE), np.uint8)
        self.fill(out)
        return out

    def fill(self, out: np.ndarray) -> None:
        """Write the next frames into an array."""
        done = 0
        while done < len(out):
            lap, start = divmod(self.at, len(self.played))
            source = self.played[start : start + min(512, len(out) - done)]
            target = out[done : done + len(source)]
            shift = lap % _SIDE
            target[:, :, shift:] = source[:, :, : _SIDE - shift]
            target[:, :, :shift] = source[:, :, _SIDE - shift :]
            target += np.uint8(lap % 256)
            done += len(source)
            self.at += len(source)


def _played(count: int) -> np.ndarray:
    """Kept as a file between two runs of the benchmarks, and looked at in place."""
    file = (
        Path(os.environ.get("PERDURE_BENCHMARK_DIR") or tempfile.gettempdir()) / f"perdure-frames-{count}.npy"
    )
    if not file.exists():
        temporary = file.with_suffix(f".{os.getpid()}.npy")
        np.save(temporary, play(count))
        os.replace(temporary, file)
    return np.load(file)


def play(count: int) -> np.ndarray:
    """Step the games with random actions: of each as many frames, every environment's in a row.

    :raises ImportError: if ale-py is not installed.
    """
    from ale_py.vector_env import AtariVectorEnv

    random = np.random.default_rng(0)
    each = -(-count // len(_GAMES))
    found = []
    for game in _GAMES:
        envs = AtariVectorEnv(game=game, num_envs=_ENVS, stack_num=1)
        frames = [envs.reset(seed=0)[0]]
        while len(frames) * _ENVS < each:
            frames.append(envs.step(random.integers(0, envs.single_action_space.n, _ENVS))[0])
        envs.close()
        # From (time, environment) to one environment after the other.
        found.append(np.stack(frames, axis=1).reshape(-1, _SIDE, _SIDE)[:each])
    return np.concatenate(found)[:count]

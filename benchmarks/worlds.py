"""What is checkpointed: a Stable-Baselines3 SAC in the middle of its training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer

_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
_NEVER = ("dones", "timeouts")  # on Pendulum


def trained_sac(capacity: int, *, full: bool = True) -> SAC:
    """A SAC on Pendulum that has taken some gradient steps, so that all its optimizers have moments.

    :param capacity: of its replay buffer, in transitions.
    :param full: whether the buffer is as at the end of a long training: every byte of it counts.
    """
    model = SAC("MlpPolicy", "Pendulum-v1", buffer_size=capacity, learning_starts=100, seed=0, verbose=0)
    model.learn(120)
    if full:
        write_rows(buffer_of(model), capacity, np.random.default_rng(0))
    return model


def buffer_of(model: SAC) -> ReplayBuffer:
    """The model's replay buffer."""
    assert isinstance(model.replay_buffer, ReplayBuffer)
    return model.replay_buffer


def arrays_of(buffer: ReplayBuffer) -> dict[str, np.ndarray]:
    """The arrays a replay buffer consists of."""
    return {name: getattr(buffer, name) for name in _ARRAYS}


def write_rows(buffer: ReplayBuffer, rows: int, random: np.random.Generator) -> None:
    """Do to a replay buffer what collecting `rows` transitions does to it, at the speed of NumPy."""
    for start, stop in _slots(buffer, rows):
        for name, array in arrays_of(buffer).items():
            # Values that no compression and no comparison of chunks can make smaller than they are.
            shape = (stop - start, *array.shape[1:])
            array[start:stop] = 0.0 if name in _NEVER else random.random(shape, dtype=np.float32)
    end = buffer.pos + rows
    buffer.full = buffer.full or end >= buffer.buffer_size
    buffer.pos = end % buffer.buffer_size


def _slots(buffer: ReplayBuffer, rows: int) -> Iterator[tuple[int, int]]:
    position, left = buffer.pos, rows
    while left:
        taken = min(left, buffer.buffer_size - position)
        yield position, position + taken
        position, left = (position + taken) % buffer.buffer_size, left - taken


def advance(model: SAC, rows: int, random: np.random.Generator) -> None:
    """Train a little: `rows` new transitions, and a gradient step that changes all networks and optimizers."""
    write_rows(buffer_of(model), rows, random)
    model.train(gradient_steps=1, batch_size=16)

"""What is checkpointed: three trainings in their middle, as live objects of Stable-Baselines3 or Tianshou.

Each is built twice, once for each of the two libraries, so that both can save what they call their own. The large
arrays lie in memory only once: what every other peer gets are views of the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.utils import polyak_update

from benchmarks import tianshou_worlds
from benchmarks.frames import Frames

SHARE = 0.02  # of the buffer is new between two checkpoints
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


@dataclass
class Workload:
    """A training.

    :param parts: what Perdure gets: the live objects, by name.
    :param arrays: the arrays of its replay buffer, rows first. The one of the observations is named first.
    :param modules: all its networks, targets included.
    :param optimizers: all its optimizers.
    :param advance: train on: collect so many transitions, and make gradient steps that change every network. In between
        it calls what it is given, as a training calls its callbacks.
    :param fresh: the parts as the script builds them when it is started again.
    :param sb3: the model that Stable-Baselines3 saves.
    :param tianshou: the algorithm and the buffer that Tianshou saves.
    """

    name: str
    title: str
    rows: int
    parts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    modules: dict[str, torch.nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    advance: Callable[[int, Callable[[], object]], None]
    fresh: Callable[[], dict[str, Any]]
    sb3: Callable[[], OffPolicyAlgorithm]
    tianshou: Callable[[], tuple[Any, Any]]
    position: Callable[[], int]
    notes: list[str] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """Of the replay buffer, in rows."""
        return len(next(iter(self.arrays.values())))

    def new_rows(self) -> list[np.ndarray]:
        """Views of the rows that were written last."""
        end, found = self.position(), []
        for array in self.arrays.values():
            start = end - self.rows
            found += [array[start:end]] if start >= 0 else [array[start:], array[:end]]
        return [rows for rows in found if len(rows)]

    def tensors(self) -> list[np.ndarray]:
        """The memory of all that a gradient step changes: parameters, buffers, gradients, moments."""
        found: dict[int, torch.Tensor] = {}
        for module in self.modules.values():
            for tensor in [*module.parameters(), *module.buffers()]:
                found[id(tensor)] = tensor
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                found |= {id(parameter): parameter for parameter in group["params"]}
            found |= {id(t): t for t in _flat(optimizer.state.values())}
        found |= {id(t.grad): t.grad for t in list(found.values()) if t.grad is not None}
        return [tensor.detach().numpy() for tensor in found.values()]

    def changed(self) -> list[np.ndarray]:
        """Views of everything that is not as it was before `advance`."""
        return self.new_rows() + self.tensors()

    def changed_bytes(self) -> int:
        """What has to be written at least."""
        return sum(array.nbytes for array in self.changed())

    def whole_bytes(self) -> int:
        """What has to be written by whoever does not know what changed."""
        return sum(array.nbytes for array in [*self.arrays.values(), *self.tensors()])

    def state_dicts(self) -> dict[str, Any]:
        """Networks and optimizers, as a script saves them."""
        return {name: part.state_dict() for name, part in [*self.modules.items(), *self.optimizers.items()]}

    def buffer_tensors(self) -> dict[str, torch.Tensor]:
        """The replay buffer's arrays as tensors, on the same memory."""
        return {name: torch.from_numpy(array) for name, array in self.arrays.items()}


def _flat(states: Iterable[Mapping[Any, Any]]) -> Iterable[torch.Tensor]:
    return (value for state in states for value in state.values() if isinstance(value, torch.Tensor))


class Random(gym.Env):
    """An environment that has the spaces of another and no physics.

    :param observations: floats of an observation, in double precision, as MuJoCo's environments give them.
    :param actions: floats of an action.
    """

    def __init__(self, observations: int, actions: int) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (observations,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (actions,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self._observation(), float(self.np_random.random()), self.np_random.random() < 0.001, False, {}

    def _observation(self) -> np.ndarray:
        return self.np_random.standard_normal(self.observation_space.shape)


# -- Stable-Baselines3 -----------------------------------------------------------------------------------------


def sac(capacity: int) -> SAC:
    """A SAC of the size of HalfCheetah's: observations of 17 floats, actions of 6."""
    return SAC("MlpPolicy", Random(17, 6), buffer_size=capacity, learning_starts=100, seed=0, verbose=0)


def dqn(capacity: int) -> DQN:
    """A DQN on CartPole."""
    return DQN("MlpPolicy", "CartPole-v1", buffer_size=capacity, learning_starts=100, seed=0, verbose=0)


def trained(model: OffPolicyAlgorithm) -> OffPolicyAlgorithm:
    """The same after some gradient steps, so that optimizers have moments, and with a full replay buffer."""
    model.learn(120)
    buffer = buffer_of(model)
    random = np.random.default_rng(0)
    for name, array in arrays_of(buffer).items():
        if name not in ("dones", "timeouts"):
            _fill(array, random)
    buffer.full, buffer.pos = True, buffer.buffer_size // 3
    return model


def buffer_of(model: OffPolicyAlgorithm) -> ReplayBuffer:
    """The model's replay buffer."""
    assert isinstance(model.replay_buffer, ReplayBuffer)
    return model.replay_buffer


def arrays_of(buffer: ReplayBuffer) -> dict[str, np.ndarray]:
    """The arrays a replay buffer consists of."""
    return {name: getattr(buffer, name) for name in _BUFFER if hasattr(buffer, name)}


def _fill(array: np.ndarray, random: np.random.Generator) -> None:
    """With values that no compression makes smaller, a block at a time."""
    for start in range(0, len(array), 1 << 17):
        block = array[start : start + (1 << 17)]
        if array.dtype.kind == "f":
            block[...] = random.random(block.shape, dtype=array.dtype.type)
        else:
            block[...] = random.integers(0, 2, block.shape)


def collect(
    model: OffPolicyAlgorithm, rows: int, random: np.random.Generator, between: Callable[[], object]
) -> None:
    """Add transitions to a model's replay buffer, by its own method and one by one, as a rollout does."""
    buffer = buffer_of(model)
    observations = random.random((rows + 1, 1, *buffer.obs_shape)).astype(buffer.observations.dtype)
    actions = random.random((rows, 1, buffer.action_dim)).astype(np.float32)
    if buffer.actions.dtype.kind != "f":
        actions = (actions * 2).astype(buffer.actions.dtype)
    rewards = random.random((rows, 1)).astype(np.float32)
    done, infos = np.zeros(1, np.float32), [{}]
    for row in range(rows):
        if row % tianshou_worlds.OFTEN == 0:
            between()
        buffer.add(observations[row], observations[row + 1], actions[row], rewards[row], done, infos)


def _of_sb3(name: str, title: str, make: Callable[[int], OffPolicyAlgorithm], capacity: int) -> Workload:
    model = trained(make(capacity))
    random = np.random.default_rng(1)
    modules: dict[str, torch.nn.Module]
    if isinstance(model, SAC):
        modules = {"policy": model.policy}
        optimizers = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
        if model.ent_coef_optimizer is not None:
            optimizers["entropy"] = model.ent_coef_optimizer
    else:
        assert isinstance(model, DQN)
        modules, optimizers = {"policy": model.policy}, {"policy optimizer": model.policy.optimizer}

    def advance(rows: int, between: Callable[[], object]) -> None:
        collect(model, rows, random, between)
        model.train(gradient_steps=1, batch_size=64)
        if isinstance(model, DQN):  # whose target follows only every so many steps
            polyak_update(model.q_net.parameters(), model.q_net_target.parameters(), 0.005)

    def fresh() -> dict[str, Any]:
        model = make(capacity)
        model._setup_learn(1)  # where a callback begins, and with it the resuming
        return {"model": model}

    return Workload(
        name=name,
        title=title,
        rows=max(1, round(SHARE * capacity)),
        parts={"model": model},
        arrays=arrays_of(buffer_of(model)),
        modules=modules,
        optimizers=optimizers,
        advance=advance,
        fresh=fresh,
        sb3=lambda: model,
        tianshou=lambda: tianshou_worlds.like(model),
        position=lambda: buffer_of(model).pos,
    )


def small(capacity: int = 20_000) -> Workload:
    """CartPole, DQN."""
    return _of_sb3("small", f"SB3 DQN on CartPole, {capacity:,} transitions", dqn, capacity)


def medium(capacity: int = 1_000_000) -> Workload:
    """SAC with a buffer of a million transitions of HalfCheetah's size."""
    return _of_sb3("medium", f"SB3 SAC, {capacity:,} transitions of 17 + 6 floats", sac, capacity)


# -- Tianshou --------------------------------------------------------------------------------------------------


def large(capacity: int = 200_000, played: int = 40_000) -> Workload:
    """DQN on Atari, the buffer as Tianshou keeps it: every frame once, stacks of four made when sampled.

    :param played: how many of the frames come from the emulator; see `Frames`.
    """
    frames = Frames(min(played, capacity))
    world = tianshou_worlds.Atari(capacity, frames)
    return Workload(
        name="large",
        title=f"Tianshou DQN on Atari, {capacity:,} frames of 84x84",
        rows=max(1, round(SHARE * capacity)),
        parts={"algorithm": world.algorithm, "buffer": world.buffer},
        arrays=world.arrays(),
        modules={"algorithm": world.networks()},
        optimizers={"optimizer": world.optimizer()},
        advance=world.advance,
        fresh=lambda: tianshou_worlds.fresh_atari(capacity),
        sb3=lambda: _like_atari(world),
        tianshou=lambda: (world.algorithm, world.buffer),
        position=lambda: world.buffer._insertion_idx,
        notes=[
            f"Of the frames {len(frames.played):,} were played (four games, random actions); the others are these, "
            "shifted and lightened. Stable-Baselines3 is given a buffer that keeps each frame once, as no buffer "
            "of its own for stacked frames does: it would write four times as much."
        ],
    )


class _Pictures(gym.Env):
    observation_space = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    action_space = spaces.Discrete(6)


def _like_atari(world: tianshou_worlds.Atari) -> DQN:
    """The same as Stable-Baselines3 would have it, on the memory of the same frames."""
    model = DQN("CnnPolicy", _Pictures(), buffer_size=1, seed=0, verbose=0)
    one = spaces.Box(0, 255, (1, 84, 84), np.uint8)
    capacity = world.buffer.maxsize
    model.replay_buffer = buffer = ReplayBuffer(
        1, one, spaces.Discrete(6), optimize_memory_usage=True, handle_timeout_termination=False
    )
    buffer.buffer_size = capacity
    buffer.observations = world.buffer.obs.reshape(capacity, 1, 1, 84, 84)
    buffer.actions = np.zeros((capacity, 1, 1), np.int64)
    for name in ("rewards", "dones", "timeouts"):
        setattr(buffer, name, np.zeros((capacity, 1), np.float32))
    buffer.full = True
    tianshou_worlds.step(model.policy.optimizer, model.q_net)
    return model


WORKLOADS: dict[str, Callable[..., Workload]] = {"small": small, "medium": medium, "large": large}

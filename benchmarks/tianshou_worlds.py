"""The parts of the worlds that are Tianshou's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from tianshou.algorithm import DQN, SAC
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Batch, ReplayBuffer
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic

from benchmarks.frames import Frames

_ADAM = AdamOptimizerFactory(lr=1e-4)
#: After how many transitions a training comes to its callbacks again; more often it does, in fact.
OFTEN = 500
_ARRAYS = ("obs", "obs_next", "act", "rew", "terminated", "truncated", "done")


def step(optimizer: torch.optim.Optimizer, module: torch.nn.Module) -> None:
    """A gradient step towards nothing: all parameters and moments change."""
    optimizer.zero_grad()
    loss = sum(parameter.square().sum() for parameter in module.parameters())
    assert isinstance(loss, torch.Tensor)
    loss.backward()
    optimizer.step()


# -- as large as a model of Stable-Baselines3 --------------------------------------------------------------------


def like(model: OffPolicyAlgorithm) -> tuple[Any, ReplayBuffer]:
    """The algorithm and the buffer that Tianshou would have in place of a model, with networks as large, on the
    memory of the same observations."""
    make = _sac if isinstance(model.action_space, spaces.Box) else _dqn
    algorithm = make(model.observation_space, model.action_space)
    for optimizer in algorithm._optimizers:
        step(optimizer._optim, optimizer._module)
    theirs = model.replay_buffer
    assert theirs is not None
    capacity = theirs.buffer_size
    flags = {name: np.zeros(capacity, bool) for name in ("terminated", "truncated", "done")}
    actions = theirs.actions[:, 0]
    content = Batch(
        obs=theirs.observations[:, 0],
        obs_next=theirs.next_observations[:, 0],
        act=actions if isinstance(model.action_space, spaces.Box) else actions[:, 0],
        rew=theirs.rewards[:, 0],
        info=Batch(),
        **flags,
    )
    return algorithm, _full(ReplayBuffer(capacity), content)


def _full(buffer: ReplayBuffer, content: Batch) -> ReplayBuffer:
    buffer.set_batch(content)
    buffer._size, buffer._insertion_idx = buffer.maxsize, buffer.maxsize // 3
    return buffer


def _sac(observations: spaces.Box, actions: spaces.Box) -> SAC:
    def net(**arguments: Any) -> Net:
        return Net(state_shape=observations.shape, hidden_sizes=[256, 256], **arguments)

    actor = ContinuousActorProbabilistic(
        preprocess_net=net(), action_shape=actions.shape, unbounded=True, conditioned_sigma=True
    )
    one, other = (
        ContinuousCritic(preprocess_net=net(action_shape=actions.shape, concat=True)) for _ in range(2)
    )
    return SAC(
        policy=SACPolicy(actor=actor, action_space=actions),
        policy_optim=_ADAM,
        critic=one,
        critic_optim=_ADAM,
        critic2=other,
        critic2_optim=_ADAM,
        alpha=AutoAlpha(-1.0, 0.0, _ADAM),
    )


def _dqn(observations: spaces.Box, actions: spaces.Discrete) -> DQN:
    model = Net(state_shape=observations.shape, action_shape=int(actions.n), hidden_sizes=[64, 64])
    return _of(model, actions)


def _of(model: torch.nn.Module, actions: spaces.Discrete) -> DQN:
    policy = DiscreteQLearningPolicy(model=model, action_space=actions)  # type: ignore[type-var]
    return DQN(policy=policy, optim=_ADAM, target_update_freq=500)


# -- Atari -------------------------------------------------------------------------------------------------------


def _atari_dqn() -> DQN:
    from tianshou.env.atari.atari_network import DQNet

    return _of(DQNet(c=4, h=84, w=84, action_shape=6), spaces.Discrete(6))


def _atari_buffer(capacity: int) -> ReplayBuffer:
    return ReplayBuffer(capacity, stack_num=4, ignore_obs_next=True, save_only_last_obs=True)


def fresh_atari(capacity: int) -> dict[str, Any]:
    """What the script builds: networks, and a buffer that is empty."""
    return {"algorithm": _atari_dqn(), "buffer": _atari_buffer(capacity)}


class Atari:
    """A DQN on Atari in the middle of its training."""

    def __init__(self, capacity: int, frames: Frames) -> None:
        self.algorithm = _atari_dqn()
        self.frames = frames
        self.random = np.random.default_rng(2)
        obs = np.empty((capacity, 84, 84), np.uint8)
        frames.fill(obs)
        flags = {name: np.zeros(capacity, bool) for name in ("terminated", "truncated", "done")}
        content = Batch(
            obs=obs,
            act=self.random.integers(0, 6, capacity),
            rew=self.random.random(capacity),
            info=Batch(),
            **flags,
        )
        self.buffer = _full(_atari_buffer(capacity), content)
        self.train()

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the replay buffer."""
        content = self.buffer._meta
        return {name: content[name] for name in _ARRAYS if name in content.get_keys()}

    def networks(self) -> torch.nn.Module:
        """The network and its target."""
        assert self.algorithm.model_old is not None
        return torch.nn.ModuleList([self.algorithm.policy, self.algorithm.model_old])

    def optimizer(self) -> torch.optim.Optimizer:
        """The only one."""
        return self.algorithm._optimizers[0]._optim

    def advance(self, rows: int, between: Callable[[], object]) -> None:
        """Add frames by the buffer's own method, one by one, and make a gradient step."""
        frames = self.frames.take(rows)
        actions, rewards = self.random.integers(0, 6, rows), self.random.random(rows)
        for row in range(rows):
            if row % OFTEN == 0:
                between()
            self.buffer.add(
                Batch(
                    obs=frames[row : row + 1],
                    act=actions[row],
                    rew=rewards[row],
                    terminated=False,
                    truncated=False,
                    obs_next=frames[row : row + 1],
                    info={},
                )
            )
        self.train()

    def train(self) -> None:
        """One gradient step; the target follows a little, where Tianshou would copy it every so many steps."""
        indices = self.random.integers(0, self.buffer.maxsize, 32)
        values, _ = self.algorithm.policy.model(self.buffer.get(indices, "obs"))
        self.algorithm._optimizers[0].step(values.square().mean())
        assert self.algorithm.model_old is not None
        with torch.no_grad():
            pairs = zip(
                self.algorithm.model_old.parameters(), self.algorithm.policy.model.parameters(), strict=True
            )
            for target, source in pairs:
                target.lerp_(source, 0.005)

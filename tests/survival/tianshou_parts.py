"""What the set-ups of Tianshou's algorithms have in common: environments, networks, policies and trainers."""

from collections.abc import Callable
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import tianshou.algorithm as algorithms
from fuse import burn, make
from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.sac import SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import (
    Batch,
    Collector,
    ReplayBuffer,
    VectorReplayBuffer,
)
from tianshou.env import (
    DummyVectorEnv,
)
from tianshou.trainer import OfflineTrainerParams, OffPolicyTrainerParams, OnPolicyTrainerParams
from tianshou.utils.net.common import (
    MLP,
    Net,
)
from tianshou.utils.net.continuous import (
    ContinuousActorDeterministic,
    ContinuousActorProbabilistic,
    ContinuousCritic,
)
from tianshou.utils.net.discrete import (
    IntrinsicCuriosityModule,
)

CART, PENDULUM = "CartPole-v1", "Pendulum-v1"


class Setup(NamedTuple):
    kind: str
    shows: str
    build: Callable


SETUPS: dict[str, Setup] = {}


def setup(kind, shows):
    def add(build):
        SETUPS[build.__name__] = Setup(kind, shows, build)
        return build

    return add


def adam(lr=1e-3):
    return AdamOptimizerFactory(lr=lr)


def net(task, actions=0, sizes=(16, 16), **words):
    return Net(state_shape=space(task).shape, action_shape=actions, hidden_sizes=sizes, **words)


def space(task):
    return gym.make(task).observation_space


def actions(task):
    return gym.make(task).action_space


def venv(env, n, seed, kind=DummyVectorEnv, **words):
    envs = kind([make(env) if isinstance(env, str) else env for _ in range(n)], **words)
    envs.seed(seed)
    return envs


def on_policy(algorithm, env, envs=None, steps=40, **words):
    training = envs or venv(env, 4, 1)
    params = {
        "max_epochs": 3, "epoch_num_steps": 160, "collection_step_num_env_steps": steps, "batch_size": 16,
        "update_step_num_repetitions": 2, "test_step_num_episodes": 1, "show_progress": False, "verbose": False,
        "training_collector": Collector(algorithm, training, VectorReplayBuffer(400, len(training))),
        "test_collector": Collector(algorithm, venv(env, 1, 2)),
    }  # fmt: skip
    return algorithm.create_trainer(OnPolicyTrainerParams(**{**params, **words})), 40


def off_policy(algorithm, env, buffer=None, envs=None, collector=Collector, noise=True, **words):
    training = envs or venv(env, 3, 1)
    params = {
        "max_epochs": 3, "epoch_num_steps": 120, "collection_step_num_env_steps": 6, "batch_size": 16,
        "update_step_num_gradient_steps_per_sample": 0.34, "test_step_num_episodes": 1, "show_progress": False,
        "verbose": False, "test_collector": Collector(algorithm, venv(env, 1, 2)),
        "training_collector": collector(algorithm, training, buffer or VectorReplayBuffer(300, len(training)),
                                     exploration_noise=noise),
    }  # fmt: skip
    return algorithm.create_trainer(OffPolicyTrainerParams(**{**params, **words})), 30


class FusedBuffer(ReplayBuffer):
    """What an offline training takes its steps from."""

    def sample(self, batch_size):
        burn()
        return super().sample(batch_size)


def experts(task, buffer=FusedBuffer, size=300):
    draw, found = np.random.default_rng(0), buffer(size)
    shape, discrete = space(task).shape, hasattr(actions(task), "n")
    for step in range(size):
        obs, after = draw.normal(size=(2, *shape)).astype(np.float32)
        act = int(obs[2] > 0) if discrete else draw.uniform(-1, 1, actions(task).shape).astype(np.float32)
        end = step % 20 == 19
        found.add(
            Batch(
                obs=obs, act=act, rew=float(obs[0]), terminated=end, truncated=False, obs_next=after, info={}
            )
        )
    return found


def offline(algorithm, task, **words):
    params = OfflineTrainerParams(
        buffer=experts(task), max_epochs=3, epoch_num_steps=30, batch_size=16, test_step_num_episodes=1,
        test_collector=Collector(algorithm, venv(task, 1, 2)), show_progress=False, verbose=False, **words,
    )  # fmt: skip
    return algorithm.create_trainer(params), 10


def curiosity(task=CART):
    feature = MLP(input_dim=4, output_dim=8, hidden_sizes=[16])
    return {
        "model": IntrinsicCuriosityModule(
            feature_net=feature, feature_dim=8, action_dim=actions(task).n, hidden_sizes=[16]
        ),
        "optim": adam(),
        "lr_scale": 1.0,
        "reward_scale": 0.01,
        "forward_loss_weight": 0.2,
    }


def q_policy(model=None, kind=DiscreteQLearningPolicy, task=CART, **words):
    return kind(
        model=model or net(task, actions(task).n), action_space=actions(task), eps_training=0.2, eps_inference=0.05,
        **words,
    )  # fmt: skip


def q_learning(**words):
    policy = words.pop("policy", None) or q_policy()
    return algorithms.DQN(policy=policy, optim=adam(), target_update_freq=10, **words)


def critics(number, make_net=lambda: net(PENDULUM, actions=1, concat=True)):
    found = {"critic": ContinuousCritic(preprocess_net=make_net()), "critic_optim": adam()}
    if number == 2:
        found |= {"critic2": ContinuousCritic(preprocess_net=make_net()), "critic2_optim": adam()}
    return found


def deterministic(noise, task=PENDULUM, body=None):
    actor = ContinuousActorDeterministic(preprocess_net=body or net(task), action_shape=1, max_action=2.0)
    return ContinuousDeterministicPolicy(actor=actor, action_space=actions(task), exploration_noise=noise)


def sac_policy(kind=SACPolicy):
    actor = ContinuousActorProbabilistic(
        preprocess_net=net(PENDULUM), action_shape=1, unbounded=True, conditioned_sigma=True
    )
    return kind(actor=actor, action_space=actions(PENDULUM))

"""Tianshou's trainers: DQN on CartPole, run by `perdure.integrations.tianshou.run` in place of `trainer.run()`.

The checkpoints fall inside epochs and hold the algorithm, the replay buffer, the collectors with their
environments in mid-episode, the counters, the best score and the random generators. The best policy is
`runs/tianshou_dqn/policy.pt`.

Kill it at any moment and start it again: it goes on where it was and ends, bit for bit, as if nothing had
happened.

    python tianshou_dqn.py [--steps 8000]
"""

import argparse
import random

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils.net.common import Net

import perdure


def environments(count: int, seed: int) -> DummyVectorEnv:
    envs = DummyVectorEnv([lambda: gym.make("CartPole-v1")] * count)
    envs.seed(seed)
    return envs


def main() -> None:
    torch.set_num_threads(1)  # networks this small are faster on one core
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8_000, help="environment steps of the whole run")
    epochs = 4
    steps = parser.parse_args().steps // epochs

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)

    actions = gym.spaces.Discrete(2)
    policy = DiscreteQLearningPolicy(
        model=Net(state_shape=4, action_shape=2, hidden_sizes=[64, 64]),
        action_space=actions,
        eps_training=0.1,
        eps_inference=0.0,
    )
    algorithm = DQN(
        policy=policy, optim=AdamOptimizerFactory(lr=2e-3), n_step_return_horizon=3, target_update_freq=100
    )
    training = Collector(algorithm, environments(8, 1), VectorReplayBuffer(20_000, 8), exploration_noise=True)
    testing = Collector(algorithm, environments(5, 2))
    trainer = algorithm.create_trainer(
        OffPolicyTrainerParams(
            training_collector=training,
            test_collector=testing,
            max_epochs=epochs,
            epoch_num_steps=steps,
            collection_step_num_env_steps=8,
            update_step_num_gradient_steps_per_sample=0.25,
            test_step_num_episodes=10,
            batch_size=64,
            show_progress=False,
        )
    )
    result = perdure.integrations.tianshou.run(trainer, "runs/tianshou_dqn", every=500)
    print(f"done: the best test reward was {result.best_reward:.1f} ± {result.best_reward_std:.1f}")


if __name__ == "__main__":
    main()

"""A training with Tianshou and its logger for TensorBoard.

Usage: tianshou_training.py WHERE _ KILL, where KILL is the training step in which the process is killed.
"""

import os
import signal
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils import TensorboardLogger
from tianshou.utils.net.common import Net
from torch.utils.tensorboard import SummaryWriter

import perdure

torch.set_num_threads(1)
where = Path(sys.argv[1])
torch.manual_seed(1)
np.random.seed(1)
env = gym.make("CartPole-v1")
policy = DiscreteQLearningPolicy(
    model=Net(state_shape=4, action_shape=2, hidden_sizes=[8]),
    action_space=env.action_space,
    eps_training=0.1,
)
algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), target_update_freq=50)
training_envs = DummyVectorEnv([lambda: gym.make("CartPole-v1") for _ in range(2)])
test_envs = DummyVectorEnv([lambda: gym.make("CartPole-v1")])
training_envs.seed(1)
test_envs.seed(2)
logger = TensorboardLogger(SummaryWriter(str(where / "files")), training_interval=1, update_interval=1)


def count(epoch, env_step):
    if env_step == 20 * int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)


trainer = algorithm.create_trainer(
    OffPolicyTrainerParams(
        training_collector=Collector(
            algorithm, training_envs, VectorReplayBuffer(1000, 2), exploration_noise=True
        ),
        test_collector=Collector(algorithm, test_envs),
        max_epochs=2,
        epoch_num_steps=200,
        collection_step_num_env_steps=20,
        test_step_num_episodes=1,
        batch_size=16,
        logger=logger,
        training_fn=count,
    )
)
perdure.integrations.tianshou.run(trainer, where / "run", every=60)

"""Tianshou trainings, as users write them: `python tianshou_cases.py NAME DIRECTORY [plain]`."""

import random
import sys

import gymnasium as gym
import numpy as np
import torch
from fuse import burn, make
from tianshou.algorithm import DQN, PPO, SAC
from tianshou.algorithm.imitation.imitation_base import ImitationPolicy, OfflineImitationLearning
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha, SACPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear
from tianshou.data import Batch, Collector, ReplayBuffer, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, SubprocVectorEnv
from tianshou.env.venv_wrappers import VectorEnvWrapper
from tianshou.highlevel.config import OffPolicyTrainingConfig
from tianshou.highlevel.env import EnvFactoryRegistered, VectorEnvType
from tianshou.highlevel.experiment import DQNExperimentBuilder, ExperimentConfig
from tianshou.highlevel.params.algorithm_params import DQNParams
from tianshou.trainer import OfflineTrainerParams, OffPolicyTrainerParams, OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

import perdure


def venv(env_id, n, seed):
    env = DummyVectorEnv([make(env_id) for _ in range(n)])
    env.seed(seed)
    return env


def net(env, **kwargs):
    return Net(state_shape=env.observation_space.shape, hidden_sizes=[16, 16], **kwargs)


class FusedVenv(VectorEnvWrapper):
    def step(self, action, id=None):
        burn()
        return self.venv.step(action, id)


def processes(env_id, n, seed):
    env = SubprocVectorEnv([lambda: perdure.environments.Resumable(gym.make(env_id)) for _ in range(n)])
    env.seed(seed)
    return FusedVenv(env)


def subproc():
    return dqn(processes)


def dqn(venv=venv):
    env = gym.make("CartPole-v1")
    policy = DiscreteQLearningPolicy(
        model=net(env, action_shape=env.action_space.n), action_space=env.action_space, eps_training=0.1
    )
    algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), target_update_freq=20)
    training = Collector(
        algorithm, venv("CartPole-v1", 3, 1), VectorReplayBuffer(300, 3), exploration_noise=True
    )
    testing = Collector(algorithm, venv("CartPole-v1", 2, 2))
    params = OffPolicyTrainerParams(
        max_epochs=3, epoch_num_steps=300, training_collector=training, test_collector=testing,
        collection_step_num_env_steps=12, test_step_num_episodes=3, batch_size=16,
        update_step_num_gradient_steps_per_sample=0.25, show_progress=False,
        training_fn=lambda epoch, step: policy.set_eps_training(max(0.02, 0.3 - step / 2000)),
    )  # fmt: skip
    return algorithm.create_trainer(params), 40


def ppo():
    env = gym.make("CartPole-v1")
    actor = DiscreteActor(preprocess_net=net(env), action_shape=env.action_space.n, softmax_output=False)
    critic = DiscreteCritic(preprocess_net=net(env))
    policy = DiscreteActorPolicy(
        actor=actor,
        dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
        action_space=env.action_space,
    )
    optim = AdamOptimizerFactory(lr=1e-3).with_lr_scheduler_factory(
        LRSchedulerFactoryLinear(max_epochs=3, epoch_num_steps=240, collection_step_num_env_steps=40)
    )
    algorithm = PPO(policy=policy, critic=critic, optim=optim, return_scaling=True)
    training = Collector(algorithm, venv("CartPole-v1", 4, 1), VectorReplayBuffer(400, 4))
    testing = Collector(algorithm, venv("CartPole-v1", 2, 2))
    params = OnPolicyTrainerParams(
        max_epochs=3, epoch_num_steps=240, training_collector=training, test_collector=testing,
        collection_step_num_env_steps=40, test_step_num_episodes=2, batch_size=20, update_step_num_repetitions=2,
        show_progress=False,
    )  # fmt: skip
    return algorithm.create_trainer(params), 60


def sac():
    env = gym.make("Pendulum-v1")
    actor = ContinuousActorProbabilistic(
        preprocess_net=net(env), action_shape=env.action_space.shape, unbounded=True, conditioned_sigma=True
    )
    critic = ContinuousCritic(preprocess_net=net(env, action_shape=env.action_space.shape, concat=True))
    algorithm = SAC(
        policy=SACPolicy(actor=actor, action_space=env.action_space),
        policy_optim=AdamOptimizerFactory(lr=1e-3),
        critic=critic,
        critic_optim=AdamOptimizerFactory(lr=1e-3),
        alpha=AutoAlpha(-1.0, 0.0, AdamOptimizerFactory(lr=1e-3)),
    )
    training = Collector(
        algorithm, venv("Pendulum-v1", 2, 1), VectorReplayBuffer(400, 2), exploration_noise=True
    )
    testing = Collector(algorithm, venv("Pendulum-v1", 1, 2))
    params = OffPolicyTrainerParams(
        max_epochs=2, epoch_num_steps=300, training_collector=training, test_collector=testing,
        collection_step_num_env_steps=10, test_step_num_episodes=1, batch_size=16,
        update_step_num_gradient_steps_per_sample=0.2, show_progress=False,
    )  # fmt: skip
    return algorithm.create_trainer(params), 70


def offline():
    env = gym.make("CartPole-v1")
    rng = np.random.default_rng(0)
    buffer = ReplayBuffer(500)
    for _ in range(500):
        obs = rng.normal(size=4).astype(np.float32)
        buffer.add(
            Batch(
                obs=obs,
                act=int(obs[2] > 0),
                rew=1.0,
                terminated=False,
                truncated=False,
                obs_next=obs,
                info={},
            )
        )
    policy = ImitationPolicy(actor=net(env, action_shape=env.action_space.n), action_space=env.action_space)
    algorithm = OfflineImitationLearning(policy=policy, optim=AdamOptimizerFactory(lr=1e-3))
    params = OfflineTrainerParams(
        buffer=buffer, max_epochs=4, epoch_num_steps=60, test_collector=Collector(algorithm, venv("CartPole-v1", 2, 2)),
        test_step_num_episodes=3, batch_size=16, show_progress=False,
    )  # fmt: skip
    return algorithm.create_trainer(params), 25


class FusedFactory(EnvFactoryRegistered):
    def create_venv(self, *args, **kwargs):
        return FusedVenv(super().create_venv(*args, **kwargs))


def experiment_subproc():
    return experiment(FusedFactory(task="CartPole-v1", venv_type=VectorEnvType.SUBPROC_SHARED_MEM_AUTO))


def experiment(factory=None):
    builder = (
        DQNExperimentBuilder(
            factory or EnvFactoryRegistered(task="FusedCartPole-v1", venv_type=VectorEnvType.DUMMY),
            ExperimentConfig(watch=False, persistence_enabled=True, log_file_enabled=False),
            OffPolicyTrainingConfig(
                max_epochs=3, epoch_num_steps=200, batch_size=16, num_training_envs=3, num_test_envs=2,
                buffer_size=300, collection_step_num_env_steps=12, start_timesteps=60,
                update_step_num_gradient_steps_per_sample=0.25, test_step_num_episodes=2,
            ),
        )
        .with_dqn_params(DQNParams(lr=1e-3, target_update_freq=20))
        .with_model_factory_default(hidden_sizes=(16, 16))
    )  # fmt: skip
    return builder.build(), 40


def main() -> None:
    name, directory = sys.argv[1:3]
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    torch.set_num_threads(1)
    subject, every = globals()[name]()
    if "plain" in sys.argv:
        if name.startswith("experiment"):
            subject.config.persistence_base_dir = directory + "-experiment"
            trainer = subject.run().world.trainer
        else:
            trainer = subject
            trainer.run()
        perdure.Run(directory).checkpoint(perdure.World(trainer=trainer), 0)
        return
    perdure.integrations.tianshou.run(subject, directory, every=every)


if __name__ == "__main__":
    main()

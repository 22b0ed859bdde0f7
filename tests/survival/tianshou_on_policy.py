"""Tianshou's on-policy algorithms, as scripts set them up: a part of `tianshou_setups`."""

import numpy as np
import tianshou.algorithm as algorithms
import torch
from tianshou.algorithm.modelbased.psrl import PSRLPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.algorithm.optim import LRSchedulerFactoryLinear, RMSpropOptimizerFactory
from tianshou.data import (
    Collector,
    ReplayBuffer,
    VectorReplayBuffer,
)
from tianshou.env import (
    VectorEnvNormObs,
)
from tianshou.utils.net.continuous import (
    ContinuousActorProbabilistic,
    ContinuousCritic,
    RecurrentActorProb,
    RecurrentCritic,
)
from tianshou.utils.net.discrete import (
    DiscreteActor,
    DiscreteCritic,
)
from tianshou_parts import CART, PENDULUM, actions, adam, curiosity, experts, net, on_policy, setup, venv


def discrete_actor(task=CART):
    actor = DiscreteActor(preprocess_net=net(task), action_shape=actions(task).n, softmax_output=False)
    policy = DiscreteActorPolicy(
        actor=actor, action_space=actions(task),
        dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
    )  # fmt: skip
    return policy, DiscreteCritic(preprocess_net=net(task))


def gaussian(loc_scale):
    loc, scale = loc_scale
    return torch.distributions.Independent(torch.distributions.Normal(loc, scale), 1)


def gaussian_actor(task=PENDULUM):
    actor = ContinuousActorProbabilistic(
        preprocess_net=net(task), action_shape=actions(task).shape, unbounded=True
    )
    policy = ProbabilisticActorPolicy(actor=actor, dist_fn=gaussian, action_space=actions(task))
    return policy, ContinuousCritic(preprocess_net=net(task))


@setup("on-policy", "standardised returns")
def reinforce():
    policy, _ = discrete_actor()
    return on_policy(algorithms.Reinforce(policy=policy, optim=adam(), return_standardization=True), CART)


@setup("on-policy", "RMSprop, gradient norm, tests while training, episodes instead of steps")
def a2c():
    policy, critic = discrete_actor()
    algorithm = algorithms.A2C(
        policy=policy,
        critic=critic,
        optim=RMSpropOptimizerFactory(lr=1e-3),
        max_grad_norm=0.5,
        return_scaling=True,
    )
    return on_policy(
        algorithm, CART, steps=None, collection_step_num_episodes=4, test_in_training=True,
        stop_fn=lambda score: score > 490,
    )  # fmt: skip


@setup(
    "on-policy", "learning-rate schedule, recomputed advantages, value and dual clip, normalised observations"
)
def ppo():
    policy, critic = gaussian_actor()
    optim = adam().with_lr_scheduler_factory(
        LRSchedulerFactoryLinear(max_epochs=3, epoch_num_steps=160, collection_step_num_env_steps=40)
    )
    algorithm = algorithms.PPO(
        policy=policy, critic=critic, optim=optim, recompute_advantage=True, value_clip=True, dual_clip=3.0,
        return_scaling=True,
    )  # fmt: skip
    return on_policy(algorithm, PENDULUM, VectorEnvNormObs(venv(PENDULUM, 4, 1)))


@setup("on-policy", "natural gradients")
def npg():
    policy, critic = gaussian_actor()
    return on_policy(algorithms.NPG(policy=policy, critic=critic, optim=adam()), PENDULUM)


@setup("on-policy", "trust region")
def trpo():
    policy, critic = gaussian_actor()
    return on_policy(algorithms.TRPO(policy=policy, critic=critic, optim=adam()), PENDULUM)


@setup("on-policy", "recurrent actor and critic, stacked observations")
def ppo_recurrent():
    actor = RecurrentActorProb(
        layer_num=1, state_shape=3, action_shape=1, hidden_layer_size=8, unbounded=True
    )
    critic = RecurrentCritic(layer_num=1, state_shape=3, hidden_layer_size=8)
    policy = ProbabilisticActorPolicy(actor=actor, dist_fn=gaussian, action_space=actions(PENDULUM))
    algorithm = algorithms.PPO(policy=policy, critic=critic, optim=adam())
    collector = Collector(algorithm, venv(PENDULUM, 4, 1), VectorReplayBuffer(400, 4, stack_num=4))
    return on_policy(algorithm, PENDULUM, training_collector=collector)


@setup("imitation", "discriminator and expert buffer")
def gail():
    policy, critic = gaussian_actor()
    discriminator = ContinuousCritic(preprocess_net=net(PENDULUM, actions=1, concat=True))
    algorithm = algorithms.GAIL(
        policy=policy, critic=critic, optim=adam(), disc_net=discriminator, disc_optim=adam(), disc_update_num=2,
        expert_buffer=experts(PENDULUM, ReplayBuffer),
    )  # fmt: skip
    return on_policy(algorithm, PENDULUM)


@setup("model-based", "posterior sampling, a tabular model")
def psrl():
    states, choices = 16, 4
    policy = PSRLPolicy(
        trans_count_prior=np.ones((states, choices, states)), rew_mean_prior=np.zeros((states, choices)),
        rew_std_prior=np.ones((states, choices)), action_space=actions("FrozenLake-v1"),
    )  # fmt: skip
    algorithm = algorithms.PSRL(policy=policy)
    return on_policy(
        algorithm, "FrozenLake-v1", steps=None, collection_step_num_episodes=8, update_step_num_repetitions=1
    )


@setup("model-based", "intrinsic curiosity around PPO")
def ppo_icm():
    policy, critic = discrete_actor()
    inner = algorithms.PPO(policy=policy, critic=critic, optim=adam())
    return on_policy(algorithms.ICMOnPolicyWrapper(wrapped_algorithm=inner, **curiosity()), CART)

"""Tianshou's offline algorithms: a part of `tianshou_setups`."""

import tianshou.algorithm as algorithms
import torch
from tianshou.algorithm.imitation.bcq import BCQPolicy
from tianshou.algorithm.imitation.discrete_bcq import DiscreteBCQPolicy
from tianshou.algorithm.imitation.imitation_base import (
    ImitationPolicy,
    OfflineImitationLearning,
)
from tianshou.algorithm.modelfree.qrdqn import QRDQNPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha
from tianshou.exploration import GaussianNoise
from tianshou.utils.net.common import (
    MLP,
)
from tianshou.utils.net.continuous import (
    VAE,
    ContinuousCritic,
    Perturbation,
)
from tianshou.utils.net.discrete import (
    DiscreteActor,
    DiscreteCritic,
)
from tianshou_parts import (
    CART,
    PENDULUM,
    actions,
    adam,
    critics,
    deterministic,
    net,
    offline,
    q_policy,
    sac_policy,
    setup,
)


@setup("offline", "behaviour cloning")
def imitation_offline():
    policy = ImitationPolicy(actor=net(CART, 2), action_space=actions(CART))
    return offline(OfflineImitationLearning(policy=policy, optim=adam()), CART)


@setup("offline", "a generative model, a perturbation")
def bcq():
    hidden = 16
    vae = VAE(
        encoder=MLP(input_dim=4, hidden_sizes=[hidden]), hidden_dim=hidden, latent_dim=2, max_action=2.0,
        decoder=MLP(input_dim=5, output_dim=1, hidden_sizes=[hidden]),
    )  # fmt: skip
    perturbation = Perturbation(
        preprocess_net=MLP(input_dim=4, output_dim=1, hidden_sizes=[16]), max_action=2.0
    )
    critic = ContinuousCritic(preprocess_net=net(PENDULUM, actions=1, concat=True))
    policy = BCQPolicy(
        actor_perturbation=perturbation,
        critic=critic,
        vae=vae,
        action_space=actions(PENDULUM),
        forward_sampled_times=5,
    )
    algorithm = algorithms.BCQ(
        policy=policy,
        actor_perturbation_optim=adam(),
        critic_optim=adam(),
        vae_optim=adam(),
        num_sampled_action=3,
    )
    return offline(algorithm, PENDULUM)


@setup("offline", "a Lagrange multiplier, calibrated returns")
def cql():
    algorithm = algorithms.CQL(
        policy=sac_policy(),
        policy_optim=adam(),
        alpha=AutoAlpha(-1.0, 0.0, adam()),
        num_repeat_actions=3,
        **critics(2),
    )
    return offline(algorithm, PENDULUM)


@setup("offline", "a delayed actor")
def td3_bc():
    policy = deterministic(GaussianNoise(sigma=0.1))
    return offline(algorithms.TD3BC(policy=policy, policy_optim=adam(), **critics(2)), PENDULUM)


@setup("offline", "an imitator beside the value network")
def discrete_bcq():
    body = net(CART, 16)
    model, imitator = (
        DiscreteActor(preprocess_net=body, action_shape=2, softmax_output=False) for _ in range(2)
    )
    policy = DiscreteBCQPolicy(
        model=model, imitator=imitator, target_update_freq=10, action_space=actions(CART)
    )
    return offline(algorithms.DiscreteBCQ(policy=policy, optim=adam(), target_update_freq=10), CART)


@setup("offline", "quantile regression")
def discrete_cql():
    policy = q_policy(net(CART, 2, num_atoms=20), QRDQNPolicy)
    return offline(
        algorithms.DiscreteCQL(policy=policy, optim=adam(), num_quantiles=20, target_update_freq=10), CART
    )


@setup("offline", "advantage-weighted regression, a target network")
def discrete_crr():
    body = net(CART, 16)
    actor = DiscreteActor(preprocess_net=body, action_shape=2, softmax_output=False)
    critic = DiscreteCritic(preprocess_net=body, last_size=2)
    policy = DiscreteActorPolicy(
        actor=actor, action_space=actions(CART),
        dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
    )  # fmt: skip
    algorithm = algorithms.DiscreteCRR(policy=policy, critic=critic, optim=adam(), target_update_freq=10)
    return offline(algorithm, CART)

"""One of each of Tianshou's algorithms, with small networks. Those that the other tests build (DQN, PPO, SAC) are in
`test_persistence_libraries`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from tianshou import algorithm as all_algorithms
from tianshou.algorithm.imitation.bcq import BCQ, BCQPolicy
from tianshou.algorithm.imitation.cql import CQL
from tianshou.algorithm.imitation.discrete_bcq import DiscreteBCQ, DiscreteBCQPolicy
from tianshou.algorithm.imitation.discrete_cql import DiscreteCQL
from tianshou.algorithm.imitation.discrete_crr import DiscreteCRR
from tianshou.algorithm.imitation.gail import GAIL
from tianshou.algorithm.imitation.imitation_base import (
    ImitationPolicy,
    OfflineImitationLearning,
    OffPolicyImitationLearning,
)
from tianshou.algorithm.imitation.td3_bc import TD3BC
from tianshou.algorithm.modelbased.icm import ICMOffPolicyWrapper, ICMOnPolicyWrapper
from tianshou.algorithm.modelbased.psrl import PSRL, PSRLPolicy
from tianshou.algorithm.modelfree.bdqn import BDQN, BDQNPolicy
from tianshou.algorithm.modelfree.c51 import C51, C51Policy
from tianshou.algorithm.modelfree.ddpg import DDPG, ContinuousDeterministicPolicy
from tianshou.algorithm.modelfree.discrete_sac import DiscreteSAC, DiscreteSACPolicy
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.fqf import FQF, FQFPolicy
from tianshou.algorithm.modelfree.iqn import IQN, IQNPolicy
from tianshou.algorithm.modelfree.npg import NPG
from tianshou.algorithm.modelfree.qrdqn import QRDQN, QRDQNPolicy
from tianshou.algorithm.modelfree.rainbow import RainbowDQN
from tianshou.algorithm.modelfree.redq import REDQ, REDQPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy, ProbabilisticActorPolicy
from tianshou.algorithm.modelfree.sac import SAC, AutoAlpha, SACPolicy
from tianshou.algorithm.modelfree.td3 import TD3
from tianshou.algorithm.modelfree.trpo import TRPO
from tianshou.algorithm.optim import AdamOptimizerFactory, LRSchedulerFactoryLinear, RMSpropOptimizerFactory
from tianshou.data import Batch, ReplayBuffer
from tianshou.exploration import OUNoise
from tianshou.utils.net.common import MLP, BranchingNet, EnsembleLinear, Net
from tianshou.utils.net.continuous import (
    VAE,
    ContinuousActorDeterministic,
    ContinuousActorProbabilistic,
    ContinuousCritic,
    Perturbation,
)
from tianshou.utils.net.discrete import (
    DiscreteActor,
    DiscreteCritic,
    FractionProposalNetwork,
    FullQuantileFunction,
    ImplicitQuantileNetwork,
    IntrinsicCuriosityModule,
    NoisyLinear,
)

OPTIM = AdamOptimizerFactory(lr=1e-3)
TWO = gym.spaces.Discrete(2)
BOX = gym.spaces.Box(-1, 1, (1,))


def _net(outputs: int = 0, **options: Any) -> Net:
    return Net(state_shape=4, action_shape=outputs, hidden_sizes=[8], **options)


def _critic() -> ContinuousCritic:
    return ContinuousCritic(preprocess_net=Net(state_shape=4, action_shape=1, concat=True, hidden_sizes=[8]))


def _gaussian() -> ContinuousActorProbabilistic:
    return ContinuousActorProbabilistic(
        preprocess_net=_net(), action_shape=1, unbounded=True, conditioned_sigma=True
    )


def _discrete_actor() -> DiscreteActorPolicy:
    return DiscreteActorPolicy(actor=DiscreteActor(preprocess_net=_net(), action_shape=2), action_space=TWO)


def _discrete_critic(**options: Any) -> DiscreteCritic:
    return DiscreteCritic(preprocess_net=_net(), **options)


def _deterministic(**options: Any) -> ContinuousDeterministicPolicy:
    actor = ContinuousActorDeterministic(preprocess_net=_net(), action_shape=1)
    return ContinuousDeterministicPolicy(actor=actor, action_space=BOX, **options)


def _pair(kind: Any, policy: Any, **options: Any) -> Any:
    return kind(policy=policy, policy_optim=OPTIM, critic=_critic(), critic_optim=OPTIM, **options)


def _distribution(location_and_scale: tuple[torch.Tensor, torch.Tensor]) -> torch.distributions.Distribution:
    return torch.distributions.Independent(torch.distributions.Normal(*location_and_scale), 1)


def _quantiles(kind: Any, policy_kind: Any, **options: Any) -> Any:
    policy = policy_kind(model=_net(2, softmax=False, num_atoms=8), action_space=TWO)
    return kind(policy=policy, optim=OPTIM, **options)


def qrdqn() -> Any:
    return _quantiles(QRDQN, QRDQNPolicy, num_quantiles=8)


def discrete_cql() -> Any:
    return _quantiles(DiscreteCQL, QRDQNPolicy, num_quantiles=8)


def iqn() -> Any:
    net = ImplicitQuantileNetwork(preprocess_net=_net(), action_shape=2, num_cosines=4)
    return IQN(policy=IQNPolicy(model=net, action_space=TWO), optim=OPTIM)


def fqf() -> Any:
    preprocess = _net()
    net = FullQuantileFunction(preprocess_net=preprocess, action_shape=2, num_cosines=4)
    fractions = FractionProposalNetwork(8, net.input_dim)
    policy = FQFPolicy(model=net, fraction_model=fractions, action_space=TWO)
    return FQF(policy=policy, optim=OPTIM, fraction_optim=RMSpropOptimizerFactory(lr=1e-3))


def c51() -> Any:
    policy = C51Policy(model=_net(2, softmax=True, num_atoms=11), action_space=TWO, num_atoms=11)
    optim = AdamOptimizerFactory(lr=1e-3).with_lr_scheduler_factory(LRSchedulerFactoryLinear(3, 10, 2))
    return C51(policy=policy, optim=optim)


def rainbow() -> Any:
    dueling = ({"linear_layer": NoisyLinear}, {"linear_layer": NoisyLinear})
    net = _net(2, softmax=True, num_atoms=11, dueling_param=dueling)
    return RainbowDQN(policy=C51Policy(model=net, action_space=TWO, num_atoms=11), optim=OPTIM)


def bdqn() -> Any:
    net = BranchingNet(
        state_shape=4,
        num_branches=2,
        action_per_branch=3,
        common_hidden_sizes=[8],
        value_hidden_sizes=[8],
        action_hidden_sizes=[8],
    )
    return BDQN(policy=BDQNPolicy(model=net, action_space=TWO), optim=OPTIM)


def discrete_sac() -> Any:
    actor = DiscreteActor(preprocess_net=_net(), action_shape=2, softmax_output=False)
    return DiscreteSAC(
        policy=DiscreteSACPolicy(actor=actor, action_space=TWO),
        policy_optim=OPTIM,
        critic=_discrete_critic(last_size=2),
        critic_optim=OPTIM,
        alpha=AutoAlpha(0.5, 0.0, OPTIM),
    )


def sac_with_its_own_temperature() -> Any:
    policy = SACPolicy(actor=_gaussian(), action_space=BOX, exploration_noise=OUNoise(0.0, 0.1))
    return _pair(SAC, policy, alpha=AutoAlpha(-1.0, 0.0, OPTIM))


def ddpg() -> Any:
    return _pair(DDPG, _deterministic(exploration_noise="default"), n_step_return_horizon=3)


def td3() -> Any:
    return _pair(TD3, _deterministic(), critic2=_critic(), critic2_optim=OPTIM)


def td3_bc() -> Any:
    return _pair(TD3BC, _deterministic())


def redq() -> Any:
    def linear(inputs: int, outputs: int) -> EnsembleLinear:
        return EnsembleLinear(4, inputs, outputs)

    critic = ContinuousCritic(
        preprocess_net=Net(state_shape=4, action_shape=1, concat=True, hidden_sizes=[8], linear_layer=linear),
        linear_layer=linear,
        flatten_input=False,
    )
    return REDQ(
        policy=REDQPolicy(actor=_gaussian(), action_space=BOX),
        policy_optim=OPTIM,
        critic=critic,
        critic_optim=OPTIM,
        ensemble_size=4,
    )


def a2c() -> Any:
    return all_algorithms.A2C(policy=_discrete_actor(), critic=_discrete_critic(), optim=OPTIM)


def reinforce() -> Any:
    policy = ProbabilisticActorPolicy(actor=_gaussian(), dist_fn=_distribution, action_space=BOX)
    return all_algorithms.Reinforce(policy=policy, optim=OPTIM)


def npg() -> Any:
    return NPG(policy=_discrete_actor(), critic=_discrete_critic(), optim=OPTIM)


def trpo() -> Any:
    return TRPO(policy=_discrete_actor(), critic=_discrete_critic(), optim=OPTIM)


def psrl() -> Any:
    policy = PSRLPolicy(
        trans_count_prior=np.ones((3, 2, 3)),
        rew_mean_prior=np.zeros((3, 2)),
        rew_std_prior=np.ones((3, 2)),
        action_space=TWO,
    )
    return PSRL(policy=policy)


def _curiosity() -> dict[str, Any]:
    features = MLP(input_dim=4, output_dim=3, hidden_sizes=[8])
    return {
        "model": IntrinsicCuriosityModule(
            feature_net=features, feature_dim=3, action_dim=2, hidden_sizes=[8]
        ),
        "optim": OPTIM,
        "lr_scale": 1.0,
        "reward_scale": 0.01,
        "forward_loss_weight": 0.2,
    }


def icm_off_policy() -> Any:
    policy = DiscreteQLearningPolicy(model=_net(2), action_space=TWO)
    return ICMOffPolicyWrapper(wrapped_algorithm=DQN(policy=policy, optim=OPTIM), **_curiosity())


def icm_on_policy() -> Any:
    return ICMOnPolicyWrapper(wrapped_algorithm=a2c(), **_curiosity())


def cql() -> Any:
    return _pair(CQL, SACPolicy(actor=_gaussian(), action_space=BOX))


def discrete_bcq() -> Any:
    policy = DiscreteBCQPolicy(model=_net(2), imitator=_net(2), action_space=TWO)
    return DiscreteBCQ(policy=policy, optim=OPTIM)


def discrete_crr() -> Any:
    return DiscreteCRR(policy=_discrete_actor(), critic=_discrete_critic(last_size=2), optim=OPTIM)


def bcq() -> Any:
    vae = VAE(
        encoder=MLP(input_dim=5, hidden_sizes=[8]),
        decoder=MLP(input_dim=4 + 2, output_dim=1, hidden_sizes=[8]),
        hidden_dim=8,
        latent_dim=2,
        max_action=1.0,
    )
    perturbation = Perturbation(
        preprocess_net=MLP(input_dim=5, output_dim=1, hidden_sizes=[8]), max_action=1.0
    )
    policy = BCQPolicy(actor_perturbation=perturbation, action_space=BOX, critic=_critic(), vae=vae)
    return BCQ(policy=policy, actor_perturbation_optim=OPTIM, critic_optim=OPTIM, vae_optim=OPTIM)


def gail() -> Any:
    expert = ReplayBuffer(size=4)
    for _ in range(3):
        expert.add(
            Batch(
                obs=np.zeros(4, np.float32),
                act=0,
                rew=1.0,
                terminated=False,
                truncated=False,
                obs_next=np.ones(4, np.float32),
                info={},
            )
        )
    return GAIL(
        policy=_discrete_actor(),
        critic=_discrete_critic(),
        optim=OPTIM,
        expert_buffer=expert,
        disc_net=_critic(),
        disc_optim=OPTIM,
    )


def imitation() -> Any:
    return OffPolicyImitationLearning(policy=ImitationPolicy(actor=_net(2), action_space=TWO), optim=OPTIM)


def offline_imitation() -> Any:
    return OfflineImitationLearning(policy=ImitationPolicy(actor=_net(2), action_space=TWO), optim=OPTIM)


BUILDS: tuple[Callable[[], Any], ...] = (
    *(qrdqn, discrete_cql, iqn, fqf, c51, rainbow, bdqn, discrete_sac, sac_with_its_own_temperature, ddpg),
    *(td3, td3_bc, redq),
    *(
        a2c,
        reinforce,
        npg,
        trpo,
        psrl,
        icm_off_policy,
        icm_on_policy,
        cql,
        discrete_bcq,
        discrete_crr,
        bcq,
        gail,
    ),
    *(imitation, offline_imitation),
)

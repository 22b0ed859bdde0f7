"""Tianshou's off-policy algorithms, replay buffers and collectors: a part of `tianshou_setups`."""

import gymnasium as gym
import numpy as np
import tianshou.algorithm as algorithms
from fuse import Fuse, burn
from tianshou.algorithm.imitation.imitation_base import (
    ImitationPolicy,
    OffPolicyImitationLearning,
)
from tianshou.algorithm.modelfree.bdqn import BDQNPolicy
from tianshou.algorithm.modelfree.c51 import C51Policy
from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy
from tianshou.algorithm.modelfree.discrete_sac import DiscreteSACPolicy
from tianshou.algorithm.modelfree.fqf import FQFPolicy
from tianshou.algorithm.modelfree.iqn import IQNPolicy
from tianshou.algorithm.modelfree.qrdqn import QRDQNPolicy
from tianshou.algorithm.modelfree.redq import REDQPolicy
from tianshou.algorithm.modelfree.sac import AutoAlpha
from tianshou.algorithm.optim import RMSpropOptimizerFactory
from tianshou.data import (
    AsyncCollector,
    CachedReplayBuffer,
    Collector,
    HERVectorReplayBuffer,
    PrioritizedVectorReplayBuffer,
    ReplayBuffer,
    VectorReplayBuffer,
)
from tianshou.env import (
    ContinuousToDiscrete,
    RayVectorEnv,
    SubprocVectorEnv,
)
from tianshou.env.venv_wrappers import VectorEnvWrapper
from tianshou.exploration import GaussianNoise, OUNoise
from tianshou.utils.net.common import (
    BranchingNet,
    EnsembleLinear,
    Net,
    Recurrent,
    get_dict_state_decorator,
)
from tianshou.utils.net.continuous import (
    ContinuousActorDeterministic,
    ContinuousCritic,
)
from tianshou.utils.net.discrete import (
    DiscreteActor,
    DiscreteCritic,
    FractionProposalNetwork,
    FullQuantileFunction,
    ImplicitQuantileNetwork,
    NoisyLinear,
)
from tianshou_parts import (
    CART,
    PENDULUM,
    actions,
    adam,
    critics,
    curiosity,
    deterministic,
    net,
    off_policy,
    q_learning,
    q_policy,
    sac_policy,
    setup,
    venv,
)

import perdure


@setup("off-policy", "double and dueling networks, Huber loss, an epsilon that decays in a callback")
def dqn():
    sizes = {"hidden_sizes": [16]}
    policy = q_policy(net(CART, 2, dueling_param=(sizes, sizes)))
    algorithm = q_learning(policy=policy, huber_loss_delta=1.0)
    return off_policy(
        algorithm, CART, training_fn=lambda epoch, step: policy.set_eps_training(max(0.05, 0.5 - step / 500))
    )


@setup("buffers", "prioritised, with n-step returns and a beta that grows in a callback")
def dqn_prioritized():
    buffer = PrioritizedVectorReplayBuffer(300, 3, alpha=0.6, beta=0.4)
    return off_policy(
        q_learning(n_step_return_horizon=3), CART, buffer,
        training_fn=lambda epoch, step: buffer.set_beta(min(1.0, 0.4 + step / 600)),
    )  # fmt: skip


def stacked():
    return gym.wrappers.FrameStackObservation(Fuse(gym.make(CART)), 3)


@setup("buffers", "stacked observations of which only the last one is kept, without the next ones")
def dqn_stacked():
    model = Net(state_shape=(3, 4), action_shape=2, hidden_sizes=[16])
    buffer = VectorReplayBuffer(300, 3, stack_num=3, ignore_obs_next=True, save_only_last_obs=True)
    return off_policy(q_learning(policy=q_policy(model)), stacked, buffer)


@setup("buffers", "cached episodes")
def dqn_cached():
    return off_policy(q_learning(), CART, CachedReplayBuffer(ReplayBuffer(300), 3, 60))


class FusedVenv(VectorEnvWrapper):
    """Counts the steps of environments in other processes, in this one."""

    def step(self, action, id=None):
        burn()
        return self.venv.step(action, id)


def resumable():
    return perdure.environments.Resumable(gym.make(CART))


@setup("collectors", "environments in processes of their own")
def dqn_subproc():
    return off_policy(q_learning(), CART, envs=FusedVenv(venv(resumable, 3, 1, SubprocVectorEnv)))


@setup("collectors", "environments in Ray's actors (needs ray)")
def dqn_ray():
    return off_policy(q_learning(), CART, envs=FusedVenv(venv(resumable, 2, 1, RayVectorEnv)))


@setup("off-policy", "recurrent network, stacked observations")
def drqn():
    model = Recurrent(layer_num=1, state_shape=4, action_shape=2, hidden_layer_size=8)
    algorithm = q_learning(policy=q_policy(model))
    return off_policy(algorithm, CART, VectorReplayBuffer(300, 3, stack_num=4, ignore_obs_next=True))


@setup("collectors", "asynchronous, from environments that are waited for two at a time; a recurrent network")
def drqn_async():
    model = Recurrent(layer_num=1, state_shape=4, action_shape=2, hidden_layer_size=8)
    envs = venv(CART, 4, 1, wait_num=2)
    return off_policy(
        q_learning(policy=q_policy(model)), CART, VectorReplayBuffer(300, 4), envs, AsyncCollector
    )


@setup("off-policy", "distributional")
def c51():
    model = net(CART, 2, softmax=True, num_atoms=21)
    policy = q_policy(model, C51Policy, num_atoms=21, v_min=-10, v_max=10)
    return off_policy(algorithms.C51(policy=policy, optim=adam(), target_update_freq=10), CART)


def noisy(inputs, outputs):
    return NoisyLinear(inputs, outputs, 0.5)


@setup("off-policy", "noisy networks, dueling, prioritised")
def rainbow():
    sizes = {"linear_layer": noisy}
    model = net(CART, 2, softmax=True, num_atoms=21, dueling_param=(sizes, sizes))
    policy = q_policy(model, C51Policy, num_atoms=21, v_min=-10, v_max=10)
    algorithm = algorithms.RainbowDQN(policy=policy, optim=adam(), target_update_freq=10)
    buffer = PrioritizedVectorReplayBuffer(300, 3, alpha=0.6, beta=0.4, weight_norm=True)
    return off_policy(algorithm, CART, buffer)


@setup("off-policy", "quantile regression")
def qrdqn():
    policy = q_policy(net(CART, 2, num_atoms=20), QRDQNPolicy)
    return off_policy(
        algorithms.QRDQN(policy=policy, optim=adam(), num_quantiles=20, target_update_freq=10), CART
    )


@setup("off-policy", "implicit quantiles, which are drawn")
def iqn():
    model = ImplicitQuantileNetwork(preprocess_net=net(CART, 16), action_shape=2, num_cosines=16)
    policy = q_policy(model, IQNPolicy)
    return off_policy(
        algorithms.IQN(policy=policy, optim=adam(), num_quantiles=20, target_update_freq=10), CART
    )


@setup("off-policy", "proposed fractions, two optimizers")
def fqf():
    model = FullQuantileFunction(preprocess_net=net(CART, 16), action_shape=2, num_cosines=16)
    fractions = FractionProposalNetwork(8, model.input_dim)
    policy = q_policy(model, FQFPolicy, fraction_model=fractions)
    algorithm = algorithms.FQF(
        policy=policy, optim=adam(), fraction_optim=RMSpropOptimizerFactory(lr=1e-4), num_fractions=8,
        target_update_freq=10,
    )  # fmt: skip
    return off_policy(algorithm, CART)


def branching():
    return Fuse(ContinuousToDiscrete(gym.make(PENDULUM), 5))


@setup("off-policy", "branches of actions, a wrapped environment")
def bdqn():
    model = BranchingNet(
        state_shape=3, num_branches=1, action_per_branch=5, common_hidden_sizes=[16], value_hidden_sizes=[8],
        action_hidden_sizes=[8],
    )  # fmt: skip
    policy = BDQNPolicy(model=model, action_space=branching().action_space, eps_training=0.2)
    return off_policy(algorithms.BDQN(policy=policy, optim=adam(), target_update_freq=10), branching)


@setup("off-policy", "a learned temperature")
def discrete_sac():
    actor = DiscreteActor(preprocess_net=net(CART), action_shape=2, softmax_output=False)
    first, second = (DiscreteCritic(preprocess_net=net(CART), last_size=2) for _ in range(2))
    algorithm = algorithms.DiscreteSAC(
        policy=DiscreteSACPolicy(actor=actor, action_space=actions(CART)), policy_optim=adam(), critic=first,
        critic_optim=adam(), critic2=second, critic2_optim=adam(), alpha=AutoAlpha(0.5, 0.0, adam()),
    )  # fmt: skip
    return off_policy(algorithm, CART)


@setup("model-based", "intrinsic curiosity around DQN")
def dqn_icm():
    return off_policy(algorithms.ICMOffPolicyWrapper(wrapped_algorithm=q_learning(), **curiosity()), CART)


@setup("imitation", "a student that learns from a teacher's collector")
def imitation():
    policy = ImitationPolicy(actor=net(CART, 2), action_space=actions(CART))
    algorithm = OffPolicyImitationLearning(policy=policy, optim=adam())
    teacher = Collector(q_learning(), venv(CART, 3, 1), VectorReplayBuffer(300, 3), exploration_noise=True)
    return off_policy(algorithm, CART, training_collector=teacher)


@setup("off-policy", "Ornstein-Uhlenbeck noise, which goes on")
def ddpg():
    algorithm = algorithms.DDPG(policy=deterministic(OUNoise(sigma=0.2)), policy_optim=adam(), **critics(1))
    return off_policy(algorithm, PENDULUM)


@setup("off-policy", "a delayed actor, n-step returns")
def td3():
    policy = deterministic(GaussianNoise(sigma=0.1))
    return off_policy(
        algorithms.TD3(policy=policy, policy_optim=adam(), n_step_return_horizon=2, **critics(2)), PENDULUM
    )


@setup("off-policy", "a learned temperature, two critics")
def sac():
    algorithm = algorithms.SAC(
        policy=sac_policy(), policy_optim=adam(), alpha=AutoAlpha(-1.0, 0.0, adam()), **critics(2)
    )
    return off_policy(algorithm, PENDULUM)


def ensemble(inputs, outputs):
    return EnsembleLinear(4, inputs, outputs)


@setup("off-policy", "an ensemble of critics of which some are drawn")
def redq():
    critic = ContinuousCritic(
        preprocess_net=net(PENDULUM, actions=1, concat=True, linear_layer=ensemble), linear_layer=ensemble,
        flatten_input=False,
    )  # fmt: skip
    algorithm = algorithms.REDQ(
        policy=sac_policy(REDQPolicy), policy_optim=adam(), critic=critic, critic_optim=adam(), ensemble_size=4,
        subset_size=2, actor_delay=3,
    )  # fmt: skip
    return off_policy(algorithm, PENDULUM)


class Reach(gym.Env):
    """A point that is to reach a goal."""

    def __init__(self):
        box = gym.spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = gym.spaces.Dict(observation=box, achieved_goal=box, desired_goal=box)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.goal = self.np_random.uniform(-1, 1, (2, 2)).astype(np.float32)
        return self.seen(), {}

    def step(self, action):
        burn()
        self.at = np.clip(self.at + 0.1 * action.item() * self.goal, -1, 1).astype(np.float32)
        return self.seen(), float(distance(self.at[None], self.goal[None])[0]), False, False, {}

    def seen(self):
        return {"observation": self.at * 0.5, "achieved_goal": self.at, "desired_goal": self.goal}


def distance(achieved, desired):
    return -np.linalg.norm(achieved - desired, axis=-1)


def reach():
    return gym.wrappers.TimeLimit(Reach(), 15)


@setup("buffers", "hindsight, with goals rewritten inside the buffer")
def ddpg_her():
    keys = ["observation", "achieved_goal", "desired_goal"]
    decorate, size = get_dict_state_decorator(dict.fromkeys(keys, 2), keys)
    body = Net(state_shape=size, hidden_sizes=[16])
    actor = decorate(ContinuousActorDeterministic)(preprocess_net=body, action_shape=1)
    critic = decorate(ContinuousCritic)(
        preprocess_net=Net(state_shape=size, action_shape=1, hidden_sizes=[16], concat=True)
    )
    policy = ContinuousDeterministicPolicy(
        actor=actor, action_space=reach().action_space, exploration_noise=GaussianNoise(sigma=0.1)
    )
    algorithm = algorithms.DDPG(policy=policy, policy_optim=adam(), critic=critic, critic_optim=adam())
    buffer = HERVectorReplayBuffer(300, 3, compute_reward_fn=distance, horizon=15, future_k=4)
    return off_policy(algorithm, reach, buffer)

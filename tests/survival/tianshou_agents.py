"""Tianshou's algorithms for several agents: a part of `tianshou_setups`."""

import tianshou.algorithm as algorithms
import torch
from fuse import burn
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.multiagent.marl import MultiAgentOffPolicyAlgorithm, MultiAgentOnPolicyAlgorithm
from tianshou.env import (
    PettingZooEnv,
)
from tianshou.utils.net.common import (
    Net,
)
from tianshou.utils.net.discrete import (
    DiscreteActor,
    DiscreteCritic,
)
from tianshou_parts import adam, off_policy, on_policy, q_learning, setup


class Board(PettingZooEnv):
    def step(self, action):
        burn()
        return super().step(action)


def board():
    from pettingzoo.classic import tictactoe_v3

    return Board(tictactoe_v3.env())


def two(make_agent, kind):
    env = board()
    return kind(algorithms=[make_agent(env) for _ in env.agents], env=env)


@setup("multi-agent", "two DQNs play tic-tac-toe, with masks of actions")
def marl_off_policy():
    def agent(env):
        model = Net(state_shape=(3, 3, 2), action_shape=9, hidden_sizes=[16])
        return q_learning(
            policy=DiscreteQLearningPolicy(model=model, action_space=env.action_space, eps_training=0.2)
        )

    return off_policy(
        two(agent, MultiAgentOffPolicyAlgorithm), board,
        multi_agent_return_reduction=lambda returns: returns[:, 0], test_step_num_episodes=2,
    )  # fmt: skip


@setup("multi-agent", "a DQN plays tic-tac-toe against an agent that draws its moves")
def marl_random():
    env = board()
    model = Net(state_shape=(3, 3, 2), action_shape=9, hidden_sizes=[16])
    policy = DiscreteQLearningPolicy(model=model, action_space=env.action_space, eps_training=0.2)
    other = algorithms.MARLRandomDiscreteMaskedOffPolicyAlgorithm(action_space=env.action_space)
    both = MultiAgentOffPolicyAlgorithm(algorithms=[q_learning(policy=policy), other], env=env)
    return off_policy(
        both, board, multi_agent_return_reduction=lambda returns: returns[:, 0], test_step_num_episodes=2
    )


class Seen(Net):
    """Takes the board out of what an agent is shown, and leaves the mask."""

    def forward(self, obs, state=None, info=None):
        return super().forward(obs.obs, state, info)


@setup("multi-agent", "two PPOs play tic-tac-toe")
def marl_on_policy():
    def agent(env):
        body = [Seen(state_shape=(3, 3, 2), hidden_sizes=[16]) for _ in range(2)]
        policy = DiscreteActorPolicy(
            actor=DiscreteActor(preprocess_net=body[0], action_shape=9, softmax_output=False),
            action_space=env.action_space,
            dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
        )
        return algorithms.PPO(policy=policy, critic=DiscreteCritic(preprocess_net=body[1]), optim=adam())

    return on_policy(
        two(agent, MultiAgentOnPolicyAlgorithm), board,
        multi_agent_return_reduction=lambda returns: returns[:, 0], test_step_num_episodes=2,
    )  # fmt: skip

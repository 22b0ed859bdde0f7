"""Trainings with a part that takes long if SLOW is set: `python grace_cases.py NAME DIRECTORY`.

In Stable-Baselines3 that is an evaluation, in Tianshou the updates after a collection. Neither has a safe point inside.
"""

import os
import random
import sys
import time

import gymnasium as gym
import numpy as np
import torch
from sb3_cases import SMALL, vec
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback

import perdure

GRACE = 4.0


class _Calls:
    """How often something was done in this process."""

    def __init__(self, slow_at):
        self.count = 0
        self.slow_at = slow_at

    def done(self):
        self.count += 1
        if self.count == self.slow_at and "SLOW" in os.environ:
            print("slow", flush=True)
            time.sleep(90)


perdure.skip(_Calls, "of the process")


class SlowReset(gym.Wrapper):
    def __init__(self, env, calls):
        super().__init__(env)
        self.calls = calls

    def reset(self, **options):
        self.calls.done()
        return self.env.reset(**options)


def sb3(directory):
    calls = _Calls(7)
    evaluation = EvalCallback(
        SlowReset(gym.make("CartPole-v1"), calls), eval_freq=64, n_eval_episodes=3, verbose=0, warn=False
    )
    evaluation.eval_env.seed(5)
    model = PPO("MlpPolicy", vec("CartPole-v1", 1), n_steps=64, batch_size=32, n_epochs=2, **SMALL)
    ours = perdure.integrations.sb3.PersistenceCallback(directory, every=128, grace=GRACE)
    model.learn(448, callback=[ours, evaluation])


def tianshou(directory):
    from tianshou.algorithm import DQN
    from tianshou_cases import dqn

    calls = _Calls(60)
    update = DQN._update_with_batch

    def slow_update(*given, **named):
        calls.done()
        return update(*given, **named)

    DQN._update_with_batch = slow_update
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    perdure.integrations.tianshou.run(dqn()[0], directory, every=100, grace=GRACE)


if __name__ == "__main__":
    {"sb3": sb3, "tianshou": tianshou}[sys.argv[1]](sys.argv[2])

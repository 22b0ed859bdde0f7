"""Stable-Baselines3: SAC on Pendulum with an EvalCallback. Perdure is the one callback more.

The checkpoints hold the networks and optimizers, the replay buffer, the environment in mid-episode, the best
reward that EvalCallback has seen, and the random generators.

Kill it at any moment and start it again: it goes on where it was and ends, bit for bit, as if nothing had
happened.

    python sb3_sac.py [--steps 3000]
"""

import argparse

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env

from perdure.integrations.sb3 import PersistenceCallback


def main() -> None:
    torch.set_num_threads(1)  # networks this small are faster on one core
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=3000)
    steps = parser.parse_args().steps

    model = SAC(
        "MlpPolicy",
        make_vec_env("Pendulum-v1", seed=1),
        learning_starts=200,
        policy_kwargs={"net_arch": [64, 64]},
        seed=1,
        device="cpu",
    )
    evaluation = EvalCallback(make_vec_env("Pendulum-v1", seed=2), eval_freq=500, n_eval_episodes=3)
    persistence = PersistenceCallback("runs/sb3_sac", every=250)
    model.learn(steps, callback=[evaluation, persistence])
    print(
        f"{model.num_timesteps} steps done; the best mean reward of an evaluation was {evaluation.best_mean_reward}"
    )


if __name__ == "__main__":
    main()

"""Stable-Baselines3: PPO on Pendulum behind VecNormalize, whose running statistics belong to the run.

Without them, a policy that is loaded again sees other observations than it was trained on. They are in the
checkpoints with everything else; there is nothing to save by hand.

Kill it at any moment and start it again: it goes on where it was and ends, bit for bit, as if nothing had
happened.

    python sb3_ppo_vecnormalize.py [--steps 20000]
"""

import argparse

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from perdure.integrations.sb3 import PersistenceCallback


def main() -> None:
    torch.set_num_threads(1)  # networks this small are faster on one core
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=20_000)
    steps = parser.parse_args().steps

    env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=4, seed=1), gamma=0.9)
    model = PPO(
        "MlpPolicy", env, n_steps=128, batch_size=128, gamma=0.9, learning_rate=1e-3, seed=1, device="cpu"
    )
    # PPO has a safe point between two rollouts, here every 512 steps: the first one after 1000 steps is taken.
    model.learn(steps, callback=PersistenceCallback("runs/sb3_ppo_vecnormalize", every=1000))
    print(f"{model.num_timesteps} steps done; mean of the observations: {env.obs_rms.mean.round(4)}")


if __name__ == "__main__":
    main()

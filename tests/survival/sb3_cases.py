"""Stable-Baselines3 trainings, as users write them: `python sb3_cases.py NAME DIRECTORY [plain]`."""

import sys

import numpy as np
import torch
from fuse import Fuse, burn, make
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnvWrapper, VecNormalize

import perdure

SMALL = {"policy_kwargs": {"net_arch": [16, 16]}, "seed": 3, "device": "cpu"}


def vec(env_id, n):
    return DummyVecEnv([make(env_id)] * n)


def dqn():
    model = DQN("MlpPolicy", vec("CartPole-v1", 1), learning_starts=100, buffer_size=400, batch_size=16,
                target_update_interval=50, **SMALL)  # fmt: skip
    return model, 1200, 100


def ppo():
    env = VecNormalize(vec("CartPole-v1", 3))
    model = PPO(
        "MlpPolicy",
        env,
        n_steps=32,
        batch_size=48,
        n_epochs=2,
        learning_rate=lambda left: 1e-3 * left,
        **SMALL,
    )
    return model, 1920, 96


def a2c():
    model = A2C("MlpPolicy", vec("CartPole-v1", 2), n_steps=5, **SMALL)
    return model, 1200, 100


def td3():
    noise = NormalActionNoise(np.zeros(1), 0.2 * np.ones(1))
    model = TD3("MlpPolicy", vec("Pendulum-v1", 1), learning_starts=100, buffer_size=600, batch_size=16,
                action_noise=noise, **SMALL)  # fmt: skip
    return model, 700, 100


def sac():
    model = SAC("MlpPolicy", vec("Pendulum-v1", 1), learning_starts=100, buffer_size=600, batch_size=16,
                use_sde=True, **SMALL)  # fmt: skip
    return model, 700, 100


def sac_monitored():
    # make_vec_env adds Monitor; two environments; an EvalCallback with its own environment and best reward.
    model = SAC("MlpPolicy", make_vec_env("Pendulum-v1", 2, seed=5, wrapper_class=Fuse), learning_starts=100,
                buffer_size=600, batch_size=16, train_freq=2, gradient_steps=-1, **SMALL)  # fmt: skip
    return model, 700, 100


class FusedVec(VecEnvWrapper):
    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        burn()
        return self.venv.step_wait()


def subproc():
    env = make_vec_env("Pendulum-v1", 2, seed=5, vec_env_cls=SubprocVecEnv, vec_env_kwargs={"start_method": "fork"},
                       wrapper_class=perdure.environments.Resumable)  # fmt: skip
    model = PPO("MlpPolicy", VecNormalize(FusedVec(env)), n_steps=64, batch_size=32, n_epochs=2, **SMALL)
    return model, 1280, 128


def main() -> None:
    name, directory = sys.argv[1:3]
    torch.set_num_threads(1)
    model, total, every = globals()[name]()
    callbacks = []
    if name in ("dqn", "sac_monitored"):
        env_id = "CartPole-v1" if name == "dqn" else "Pendulum-v1"
        evaluation = make_vec_env(env_id, 1, seed=11)
        callbacks.append(EvalCallback(evaluation, eval_freq=90, n_eval_episodes=2, verbose=0))
    if "plain" in sys.argv:
        model.learn(total, callback=callbacks)
        run = perdure.Run(directory)
        run.checkpoint({"model": model}, total)
        return
    callbacks.append(perdure.integrations.sb3.PersistenceCallback(directory, every=every))
    model.learn(total, callback=callbacks)


if __name__ == "__main__":
    main()

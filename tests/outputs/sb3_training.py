"""A training with Stable-Baselines3 that writes everything that SB3 can write.

Usage: sb3_training.py WHERE WAY KILL: WAY is "tensorboard" (tensorboard_log=), or "formats" (all formats, in a
directory that is numbered in the same way), and the process is killed after 32 times KILL steps.
"""

import os
import signal
import sys
from pathlib import Path

import gymnasium as gym
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import get_latest_run_id
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import perdure

torch.set_num_threads(1)
where, way = Path(sys.argv[1]), sys.argv[2]
files = where / "files"
files.mkdir(parents=True, exist_ok=True)


class Killing(BaseCallback):
    def _on_step(self):
        if self.num_timesteps == 32 * int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        self.logger.record_mean("mine/each", self.num_timesteps)
        if self.num_timesteps == 256:
            self.logger.record("mine/late", 1.0)
        return True


envs = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"), str(files / "one"))])
envs = VecMonitor(envs, str(files / "all"))
model = PPO("MlpPolicy", envs, seed=3, n_steps=64, batch_size=32, n_epochs=1, policy_kwargs={"net_arch": [8]},
            tensorboard_log=str(files / "tb") if way == "tensorboard" else None)  # fmt: skip
if way == "formats":
    number = get_latest_run_id(str(files / "tb"), "PPO") + 1
    model.set_logger(configure(str(files / f"tb/PPO_{number}"), ["log", "csv", "json", "tensorboard"]))
eval_envs = DummyVecEnv([lambda: Monitor(gym.make("CartPole-v1"))])
eval_envs.seed(4)
evaluating = EvalCallback(
    eval_envs,
    eval_freq=100,
    n_eval_episodes=1,
    log_path=str(files / "evaluations"),
    best_model_save_path=str(files / "best"),
    verbose=0,
)
saving = CheckpointCallback(100, str(files / "models"))
persistence = perdure.integrations.sb3.PersistenceCallback(where / "run", every=128)
model.learn(512, callback=[evaluating, saving, Killing(), persistence])

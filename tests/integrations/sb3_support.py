"""Small trainings with Stable-Baselines3. A new model and a new callback stand for a fresh process."""

from stable_baselines3 import A2C
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

import perdure
from perdure.state import capture
from perdure.store import Store


def small(width=8):
    # Made anew each time: algorithms write into the dict of their policy's arguments.
    return {"policy_kwargs": {"net_arch": [width]}, "seed": 1, "device": "cpu"}


class Crash(BaseCallback):
    """Ends a training as a crash would: with an exception, in some step that this process takes."""

    def __init__(self, at):
        super().__init__()
        self.at = at
        self.taken = 0

    def _on_step(self):
        self.taken += self.training_env.num_envs
        if self.taken >= self.at:
            raise KeyboardInterrupt
        return True


perdure.skip(Crash, "of the tests")


def a2c(cls=A2C, **kwargs):
    return cls("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=1), n_steps=5, **{**small(), **kwargs})


def state(model):
    found = capture({"model": model})
    for name in ("_total_timesteps", "_num_timesteps_at_start", "_logger", "_custom_logger"):
        found.root.fields["model"].fields.pop(name, None)
    return found


def checkpoints(directory):
    with Store.open(directory) as store:
        return store.checkpoints()


def steps(directory):
    return [info.step for info in checkpoints(directory)]

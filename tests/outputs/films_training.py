"""Two environments that are filmed. A film is written as a whole when it ends; most kills come in the middle of one.

Usage: films_training.py WHERE _ KILL, where KILL is the step in which the process is killed.
"""

import os
import signal
import sys
import types
from pathlib import Path

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import RecordVideo
from stable_baselines3.common.vec_env import DummyVecEnv, VecVideoRecorder

import perdure


class Clip:
    """In place of MoviePy, which needs ffmpeg: it writes the frames as they are."""

    def __init__(self, frames, fps):
        self.frames = np.stack(frames)

    def write_videofile(self, path, **options):
        with open(path, "wb") as file:
            np.save(file, self.frames)


for name in ("moviepy", "moviepy.video", "moviepy.video.io", "moviepy.video.io.ImageSequenceClip"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["moviepy.video.io.ImageSequenceClip"].ImageSequenceClip = Clip


class Pictured(gym.Env):
    """Shows a random picture after each step; an episode has 17 steps."""

    metadata = types.MappingProxyType({"render_modes": ["rgb_array"], "render_fps": 30})
    observation_space = gym.spaces.Box(0, 1, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.render_mode = "rgb_array"
        self.picture = np.zeros((8, 8, 3), np.uint8)
        self.steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        self.picture = self.np_random.integers(0, 255, (8, 8, 3)).astype(np.uint8)
        return np.zeros(1, np.float32), 1.0, self.steps == 17, False, {}

    def render(self):
        return self.picture.copy()


where = Path(sys.argv[1])
env = RecordVideo(Pictured(), str(where / "files/one"), episode_trigger=lambda episode: episode % 2 == 1)
envs = VecVideoRecorder(
    DummyVecEnv([Pictured]),
    str(where / "files/all"),
    record_video_trigger=lambda step: step == 5,
    video_length=30,
)
envs.seed(2)
env.reset(seed=1)
envs.reset()


def end_of_step(number):
    if number == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)


for number in perdure.loop(range(60), where / "run", every=4):
    *_, done, _, _ = env.step(0)
    if done:
        env.reset()
    envs.step(np.zeros(1, np.int64))
    end_of_step(number)

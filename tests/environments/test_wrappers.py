"""Every wrapper of Gymnasium's goes on, functional ones with lambdas included. The commonest are in
tests/state/test_state_gymnasium.py."""

from __future__ import annotations

import numpy as np
import pytest
from environment_support import transported

from perdure.state import capture, restore

gym = pytest.importorskip("gymnasium")
wrappers = gym.wrappers
vector = gym.wrappers.vector
Mode = gym.vector.AutoresetMode


class Pictures(gym.Env):
    """Noise that drifts: every pixel depends on all that was drawn before."""

    observation_space = gym.spaces.Box(0, 255, (12, 10, 3), np.uint8)
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.picture = self.np_random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        return self.picture.copy(), {}

    def step(self, action):
        self.picture = (self.picture + self.np_random.integers(0, 9, self.picture.shape)).astype(
            np.uint8
        ) + action
        self.picture = self.picture.astype(np.uint8)
        return self.picture.copy(), float(self.picture.mean()), False, False, {}


class Records(gym.Env):
    """Observations with parts."""

    observation_space = gym.spaces.Dict(
        place=gym.spaces.Box(-10, 10, (2,), np.float32), kind=gym.spaces.Discrete(3)
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = np.zeros(2, np.float32)
        return self._told(), {}

    def _told(self):
        return {"place": np.clip(self.place, -10, 10), "kind": np.int64(self.np_random.integers(3))}

    def step(self, action):
        self.place = self.place + np.asarray(action, np.float32)
        return self._told(), float(self.place.sum()), False, False, {}


def pictures():
    return wrappers.TimeLimit(Pictures(), 31)


def records():
    return wrappers.TimeLimit(Records(), 31)


def cart():
    return wrappers.TimeLimit(gym.make("CartPole-v1", render_mode="rgb_array"), 21)


def pendulum():
    return wrappers.TimeLimit(gym.make("Pendulum-v1"), 31)


def bounded():
    return wrappers.ClipReward(pendulum(), -1, 1)


WRAPPERS = {
    "clipped rewards": bounded,
    "transformed actions": lambda: wrappers.TransformAction(
        pendulum(), lambda action: action / 2, gym.spaces.Box(-4, 4, (1,), np.float32)
    ),
    "discretized observations": lambda: wrappers.DiscretizeObservation(pendulum(), 7),
    "rescaled observations": lambda: wrappers.RescaleObservation(pendulum(), -1.0, 1.0),
    "repeated actions": lambda: wrappers.RepeatAction(pendulum(), 3),
    "filtered": lambda: wrappers.FilterObservation(records(), ["place"]),
    "flattened": lambda: wrappers.FlattenObservation(records()),
    "grey": lambda: wrappers.GrayscaleObservation(pictures(), keep_dim=True),
    "resized": lambda: wrappers.ResizeObservation(pictures(), (6, 5)),
    "reshaped": lambda: wrappers.ReshapeObservation(pictures(), (10, 36)),
    "noisy": lambda: wrappers.AddWhiteNoise(wrappers.GrayscaleObservation(pictures(), keep_dim=True), 0.3),
    "obstructed": lambda: wrappers.ObstructView(
        wrappers.GrayscaleObservation(pictures(), keep_dim=True), 0.2, 3
    ),
    "drawn": lambda: wrappers.AddRenderObservation(cart(), render_only=False, render_key="seen"),
    "collected": lambda: wrappers.RenderCollection(cart(), pop_frames=False),
    "several frames": lambda: wrappers.MaxAndSkipObservation(pictures(), 4),
    "stacked pictures": lambda: wrappers.FrameStackObservation(
        wrappers.GrayscaleObservation(wrappers.ResizeObservation(pictures(), (8, 8))), 4
    ),
    "stacked records": lambda: wrappers.FrameStackObservation(records(), 3),
    "delayed records": lambda: wrappers.DelayObservation(pendulum(), 4),
    "aware of time in parts": lambda: wrappers.TimeAwareObservation(records(), flatten=False),
    "unchecked": lambda: gym.make("CartPole-v1", disable_env_checker=True, max_episode_steps=19),
    "autoreset": lambda: wrappers.Autoreset(wrappers.NormalizeReward(pendulum())),
}


def heard(value):
    if isinstance(value, dict):
        return sorted((key, heard(each)) for key, each in value.items() if key not in ("t", "_t"))
    if isinstance(value, tuple | list):
        return [heard(each) for each in value]
    if isinstance(value, np.ndarray) and value.dtype == object:
        return heard(value.tolist())
    if isinstance(value, np.ndarray | np.generic):
        return (str(value.dtype), value.shape, value.tobytes())
    return repr(value)


def run(env, steps, seed):
    found = []
    # Not the environment's own space, whose generator is part of its state.
    for step in range(steps):
        space = env.action_space
        before = None if space._np_random is None else space.np_random.bit_generator.state
        space.seed(seed * 10_000 + step)
        action = space.sample()
        if before is not None:
            space.np_random.bit_generator.state = before
        said = env.step(action)
        found.append(heard(said))
        if not isinstance(env, gym.vector.VectorEnv) and (said[2] or said[3]):
            found.append(heard(env.reset()))
    return found


def goes_on(make, steps=120):
    env = make()
    env.reset(seed=1)
    run(env, 50, 1)
    state = transported(capture({"env": env}))
    fresh = make()
    fresh.reset(seed=2)
    run(fresh, 7, 2)
    assert restore(state, {"env": fresh}).exact
    assert run(fresh, steps, 3) == run(env, steps, 3)


@pytest.mark.filterwarnings("ignore:.*:UserWarning", "ignore:.*:DeprecationWarning")
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_go_on(name):
    goes_on(WRAPPERS[name])


def frames(env):
    return [frame.tobytes() for frame in env.render()]


def test_frames_that_were_collected_are_state():
    env, fresh = WRAPPERS["collected"](), WRAPPERS["collected"]()
    env.reset(seed=1)
    run(env, 5, 1)
    fresh.reset(seed=2)
    restore(transported(capture({"env": env})), {"env": fresh})
    assert frames(fresh) == frames(env)


# -- vectors -------------------------------------------------------------------------------------------------


def carts(mode=Mode.NEXT_STEP):
    limits = (11, 17, 23)
    return gym.vector.SyncVectorEnv(
        [lambda limit=limit: wrappers.TimeLimit(gym.make("CartPole-v1"), limit) for limit in limits],
        autoreset_mode=mode,
    )


def pendulums():
    return gym.vector.SyncVectorEnv([pendulum] * 3)


def films():
    return gym.vector.SyncVectorEnv([pictures] * 2)


VECTORS = {
    "clipped actions": lambda: vector.ClipAction(pendulums()),
    "rescaled actions": lambda: vector.RescaleAction(pendulums(), -1.0, 1.0),
    "transformed actions": lambda: vector.TransformAction(
        pendulums(), lambda actions: actions / 2, gym.spaces.Box(-4, 4, (3, 1), np.float32)
    ),
    "clipped rewards": lambda: vector.ClipReward(pendulums(), -1, 1),
    "transformed rewards": lambda: vector.TransformReward(pendulums(), lambda rewards: rewards / 8),
    "normalized": lambda: vector.NormalizeReward(vector.NormalizeObservation(carts())),
    "statistics": lambda: vector.RecordEpisodeStatistics(carts(Mode.SAME_STEP)),
    "as a list": lambda: vector.DictInfoToList(vector.RecordEpisodeStatistics(carts())),
    "another dtype": lambda: vector.DtypeObservation(pendulums(), np.float64),
    "flattened": lambda: vector.FlattenObservation(films()),
    "grey": lambda: vector.GrayscaleObservation(films()),
    "resized": lambda: vector.ResizeObservation(films(), (6, 5)),
    "reshaped": lambda: vector.ReshapeObservation(films(), (10, 36)),
    "transformed": lambda: vector.TransformObservation(
        pendulums(), lambda seen: seen * 2, gym.spaces.Box(-99, 99, (3, 3), np.float32)
    ),
    "vectorized": lambda: vector.VectorizeTransformReward(
        pendulums(), wrappers.TransformReward, func=lambda reward: reward / 3
    ),
}


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
@pytest.mark.parametrize("name", VECTORS)
def test_wrappers_of_vectors_go_on(name):
    goes_on(VECTORS[name], steps=60)


@pytest.mark.parametrize("moment", [9, 10, 11, 12, 16, 17])
@pytest.mark.parametrize("mode", [Mode.NEXT_STEP, Mode.SAME_STEP])
def test_vectors_go_on_from_right_after_the_end_of_an_episode(mode, moment):
    env, fresh = carts(mode), carts(mode)
    env.reset(seed=1)
    run(env, moment, 1)
    fresh.reset(seed=2)
    restore(transported(capture({"env": env})), {"env": fresh})
    assert run(fresh, 60, 3) == run(env, 60, 3)

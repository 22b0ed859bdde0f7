"""The best policy of a training with Stable-Baselines3, published with what its observations are normalised by."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_support import Crash, a2c, small
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize

import perdure
from perdure.errors import DamagedError, PerdureWarning, RestoreError, StoreError, UntrustedError
from perdure.integrations.sb3 import PersistenceCallback, load_best


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def normalized(n, **how):
    return VecNormalize(make_vec_env("CartPole-v1", n, seed=4), **how)


class Note(BaseCallback):
    """Remembers what the policy and the statistics were at each new best of an evaluation."""

    def __init__(self):
        super().__init__()
        self.best = None

    def _on_step(self):
        env = self.parent.eval_env
        raw = np.linspace(-1, 1, 4, dtype=np.float32)
        self.best = (self.parent.best_mean_reward, raw, env.normalize_obs(raw).tolist(),
                     [each.detach().clone() for each in self.model.policy.parameters()])  # fmt: skip
        return True


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("kind", [A2C, DQN])
def test_the_best_of_an_evaluation_takes_what_the_environment_gives(kind, first, tmp_path):
    how = {"learning_starts": 10, "buffer_size": 99} if kind is DQN else {"n_steps": 5}
    model = kind("MlpPolicy", normalized(1), **how, **small())
    note = Note()
    evaluation = EvalCallback(normalized(1, training=False, norm_reward=False), eval_freq=27, n_eval_episodes=2,
                              verbose=0, callback_on_new_best=note)  # fmt: skip
    ours = PersistenceCallback(tmp_path, every=50)
    model.learn(200, callback=[evaluation, ours] if first else [ours, evaluation])
    score, raw, expected, parameters = note.best
    with perdure.Run(tmp_path) as run:
        assert run.best_score == score
    best = load_best(tmp_path)
    assert best.normalize(raw).tolist() == expected
    assert all(a.equal(b) for a, b in zip(best.policy.parameters(), parameters, strict=True))
    action, _ = best.predict(raw, deterministic=True)
    assert action == best.policy.predict(np.array(expected, np.float32), deterministic=True)[0]
    # One unit: a damaged part of it is no policy.
    path = (tmp_path / "best" / "vec_normalize.pt").resolve()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        load_best(tmp_path)


class Reports(BaseCallback):
    def __init__(self, ours):
        super().__init__()
        self.ours = ours
        self.scores = []

    def _on_rollout_end(self):
        self.scores.append(self.ours.report_score(-abs(self.num_timesteps - 40)))

    def _on_step(self):
        return True


class Extractor(BaseFeaturesExtractor):
    def __init__(self, space):
        super().__init__(space, features_dim=4)
        self.layer = torch.nn.Linear(4, 4)

    def forward(self, observations):
        return self.layer(observations)


def test_a_score_of_the_users(tmp_path, monkeypatch):
    settings = {**small(), "policy_kwargs": {"net_arch": [8], "features_extractor_class": Extractor}}

    def learn(crash):
        ours = PersistenceCallback(tmp_path, every=20)
        reports = Reports(ours)
        model = A2C("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=1), n_steps=5, **settings)
        model.learn(80, callback=[ours, reports, Crash(crash)])
        return reports.scores, ours

    with pytest.raises(KeyboardInterrupt):
        learn(55)
    scores, ours = learn(10**9)
    assert scores == [True] * 4 + [False] * 4
    with pytest.raises(StoreError, match="only while learn"):
        ours.report_score(1)
    with pytest.raises(UntrustedError, match="Extractor"):
        load_best(tmp_path)
    observation = np.ones(4, np.float32)
    best = load_best(tmp_path, trust=[Extractor])
    assert best.normalize(observation) is observation
    assert best.predict(observation, deterministic=True)[0] in (0, 1)


def test_a_plain_run_finds_the_policy_of_a_model(tmp_path):
    model = a2c()
    with perdure.Run(tmp_path) as run:
        assert run.report_score(1.0, perdure.World(model=model))
    loaded = perdure.load_policy(
        tmp_path, trust=["stable_baselines3", "torch.nn", "torch.optim", "gymnasium.spaces"]
    )
    assert all(a.equal(b) for a, b in zip(loaded.parameters(), model.policy.parameters(), strict=True))
    with pytest.raises(RestoreError, match="does not say how observations are normalised"):
        load_best(tmp_path)
    with pytest.raises(RestoreError, match="has no best policy"):
        load_best(tmp_path / "nothing")


def test_what_cannot_be_normalised_later_is_told(tmp_path):
    model = A2C("MlpPolicy", VecFrameStack(normalized(2), 3), n_steps=5, **small())
    ours = PersistenceCallback(tmp_path)
    model.learn(20, callback=[ours, Reports(ours)])
    with pytest.raises(
        RestoreError, match=r"shape \(12,\), and those that were normalised have the shape \(4,\)"
    ):
        load_best(tmp_path)


def test_a_policy_that_cannot_be_pickled_ends_no_training(tmp_path):
    model = a2c()
    model.policy.hook = lambda: None
    perdure.skip(Note, "of the tests")
    evaluation = EvalCallback(
        make_vec_env("CartPole-v1", 1, seed=2), eval_freq=5, n_eval_episodes=1, verbose=0
    )
    with pytest.warns(PerdureWarning, match="the best policy is not published: .*policy.hook") as said:
        model.learn(60, callback=[evaluation, PersistenceCallback(tmp_path, on_unrestorable="ignore")])
    assert len([each for each in said if "not published" in str(each.message)]) == 1
    assert model.num_timesteps == 60


def test_observations_of_several_kinds(tmp_path):
    import gymnasium as gym

    class Env(gym.Env):
        observation_space = spaces.Dict({"a": spaces.Box(-9, 9, (2,)), "b": spaces.Discrete(3)})
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observe(), {}

        def observe(self):
            return {"a": self.np_random.normal(2, 3, 2).clip(-9, 9).astype(np.float32), "b": 1}

        def step(self, action):
            return self.observe(), 0.0, bool(self.np_random.random() < 0.1), False, {}

    env = VecNormalize(make_vec_env(Env, 2, seed=1), norm_obs_keys=["a"])
    ours = PersistenceCallback(tmp_path)
    A2C("MultiInputPolicy", env, n_steps=5, **small()).learn(10, callback=[ours, Reports(ours)])
    raw = {"a": np.ones((1, 2), np.float32), "b": np.array([1])}
    found = load_best(tmp_path).normalize(raw)
    assert found["b"] is raw["b"]
    assert np.array_equal(found["a"], env.normalize_obs(raw)["a"])

"""Stable-Baselines3: what a user of the callback meets beside being killed (for that see tests/survival)."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecMonitor, VecNormalize

import perdure
from perdure.errors import CaptureError, NotRestorableError, NotRestorableWarning, RestoreError
from perdure.integrations.sb3 import PersistenceCallback
from perdure.state import capture, diff
from perdure.store import Store


def small(width=8):
    # Made anew each time: algorithms write into the dict of their policy's arguments.
    return {"policy_kwargs": {"net_arch": [width]}, "seed": 1, "device": "cpu"}


class Crash(BaseCallback):
    """Ends a training as a crash would: with an exception, in some step."""

    def __init__(self, at):
        super().__init__()
        self.at = at

    def _on_step(self):
        if self.num_timesteps >= self.at:
            raise KeyboardInterrupt
        return True


perdure.skip(Crash, "of the tests")


def a2c(**kwargs):
    return A2C("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=1), n_steps=5, **{**small(), **kwargs})


def state(model):
    found = capture({"model": model})
    for name in ("_total_timesteps", "_num_timesteps_at_start", "_logger", "_custom_logger"):
        found.root.fields["model"].fields.pop(name, None)
    return found


def steps(directory):
    with Store.open(directory) as store:
        return [info.step for info in store.checkpoints()]


def test_it_goes_on_in_a_new_model_and_ends_as_the_uninterrupted_training(tmp_path):
    whole = a2c().learn(600)
    model, callback = a2c(), PersistenceCallback(tmp_path / "run", every=100)
    with pytest.raises(KeyboardInterrupt):
        model.learn(600, callback=[callback, Crash(350)])
    callback.run.close()
    assert steps(tmp_path / "run")[-1] == 300
    resumed = a2c().learn(600, callback=[PersistenceCallback(tmp_path / "run", every=100), Crash(10**9)])
    assert diff(state(whole), state(resumed)) == []
    assert steps(tmp_path / "run")[-1] == 600


def test_a_finished_training_is_restored_and_not_trained_on(tmp_path, capsys):
    first = a2c().learn(300, callback=PersistenceCallback(tmp_path / "run"))
    assert "finished" not in capsys.readouterr().err
    again = a2c().learn(300, callback=PersistenceCallback(tmp_path / "run"))
    assert again.num_timesteps == 300
    assert "this run is finished: all 300 steps are done. To train longer" in capsys.readouterr().err
    assert diff(state(first), state(again)) == []
    assert steps(tmp_path / "run") == [300]


def test_a_longer_training_goes_on_from_a_finished_one(tmp_path):
    whole = a2c().learn(500)
    a2c().learn(300, callback=PersistenceCallback(tmp_path / "run"))
    longer = a2c().learn(500, callback=PersistenceCallback(tmp_path / "run"))
    found = [each.path for each in diff(state(whole), state(longer))]
    # How far a training has come is measured by its length; a constant learning rate does not depend on it.
    assert found == []


def test_learning_twice_in_one_process_trains_on(tmp_path):
    whole = a2c().learn(200).learn(200, reset_num_timesteps=False)
    model, callback = a2c(), PersistenceCallback(tmp_path / "run")
    model.learn(200, callback=callback).learn(200, callback=callback, reset_num_timesteps=False)
    assert model.num_timesteps == 400
    assert diff(state(whole), state(model)) == []
    assert steps(tmp_path / "run") == [200, 400]


def test_state_dependent_exploration_draws_its_noise_once(tmp_path):
    def build():
        return SAC("MlpPolicy", "Pendulum-v1", use_sde=True, learning_starts=20, buffer_size=200, **small())

    whole = build().learn(160)
    callback = PersistenceCallback(tmp_path / "run", every=40)
    with pytest.raises(KeyboardInterrupt):
        build().learn(160, callback=[callback, Crash(100)])
    callback.run.close()
    resumed = build().learn(160, callback=[PersistenceCallback(tmp_path / "run", every=40), Crash(10**9)])
    assert diff(state(whole), state(resumed)) == []


def test_what_other_callbacks_remember_is_kept(tmp_path):
    def learn(crash=10**9):
        evaluation = EvalCallback(
            make_vec_env("CartPole-v1", 1, seed=3), eval_freq=50, n_eval_episodes=2, verbose=0
        )
        stop = StopTrainingOnMaxEpisodes(10**6)
        callback = PersistenceCallback(tmp_path / "run", every=50)
        try:
            a2c().learn(600, callback=[evaluation, callback, stop, Crash(crash)])
        finally:
            callback.run.close()
        return evaluation, stop

    with pytest.raises(KeyboardInterrupt):
        learn(crash=400)
    resumed = learn()
    (tmp_path / "run").rename(tmp_path / "other")
    whole = learn()
    for ours, theirs in zip(whole, resumed, strict=True):
        assert ours.n_calls == theirs.n_calls
    assert whole[0].best_mean_reward == resumed[0].best_mean_reward
    assert whole[0].last_mean_reward == resumed[0].last_mean_reward
    assert whole[1].n_episodes == resumed[1].n_episodes


def test_a_training_that_another_callback_ended_ends_there_again(tmp_path):
    def learn():
        stop = StopTrainingOnMaxEpisodes(5)
        return DQN("MlpPolicy", "CartPole-v1", learning_starts=10, buffer_size=99, **small()).learn(
            5000, callback=[stop, PersistenceCallback(tmp_path / "run", every=20)]
        )

    first = learn()
    assert first.num_timesteps < 5000
    assert diff(state(first), state(learn())) == []


@pytest.mark.parametrize("wrapper", ["stack", "monitor", "normalize", "dict"])
def test_wrappers_of_vector_environments(wrapper, tmp_path):
    def build():
        env = make_vec_env("CartPole-v1", 2, seed=1)
        if wrapper == "stack":
            env = VecFrameStack(env, 3)
        elif wrapper == "monitor":
            env = VecMonitor(env)
        elif wrapper == "normalize":
            env = VecNormalize(env, norm_reward=False)
        elif wrapper == "dict":
            env = make_vec_env(Remembering, 2, seed=1)
        policy = "MultiInputPolicy" if wrapper == "dict" else "MlpPolicy"
        return PPO(policy, env, n_steps=16, batch_size=16, n_epochs=1, **small())

    whole = build().learn(320)
    callback = PersistenceCallback(tmp_path / "run", every=32)
    with pytest.raises(KeyboardInterrupt):
        build().learn(320, callback=[callback, Crash(200)])
    callback.run.close()
    resumed = build().learn(320, callback=[PersistenceCallback(tmp_path / "run", every=32), Crash(10**9)])
    assert diff(state(whole), state(resumed)) == []


def Remembering():
    import gymnasium as gym

    class Env(gym.Env):
        observation_space = spaces.Dict({"a": spaces.Box(-9, 9, (2,)), "b": spaces.Discrete(3)})
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.past = {"actions": [], ("tuple", 1): set()}
            return self.observe(), {}

        def observe(self):
            return {
                "a": self.np_random.normal(size=2).clip(-9, 9).astype(np.float32),
                "b": len(self.past["actions"]) % 3,
            }

        def step(self, action):
            self.past["actions"].append(int(action))
            self.past[("tuple", 1)].add(int(action))
            over = self.np_random.random() < 0.1
            return self.observe(), float(action), over, False, {}

    return Env()


def test_a_callback_more_starts_afresh_and_one_less_is_an_error(tmp_path):
    a2c().learn(100, callback=PersistenceCallback(tmp_path / "run"))
    more = StopTrainingOnMaxEpisodes(10**6)
    a2c().learn(200, callback=[PersistenceCallback(tmp_path / "run"), more])
    assert more.n_calls == 50
    with pytest.raises(RestoreError, match="StopTrainingOnMaxEpisodes"):
        a2c().learn(300, callback=PersistenceCallback(tmp_path / "run"))
    a2c().learn(300, callback=PersistenceCallback(tmp_path / "run", strict=False))


def test_progress_bar_and_tensorboard_do_not_disturb(tmp_path):
    model = a2c(tensorboard_log=str(tmp_path / "logs"))
    model.learn(200, callback=PersistenceCallback(tmp_path / "run", every=50), progress_bar=True)
    again = a2c(tensorboard_log=str(tmp_path / "logs"))
    again.learn(400, callback=PersistenceCallback(tmp_path / "run", every=50), progress_bar=True)
    assert again.num_timesteps == 400


def test_unwrapped_environments_in_other_processes_are_refused_at_the_start(tmp_path):
    env = make_vec_env("CartPole-v1", 2, vec_env_cls=SubprocVecEnv)
    try:
        model = A2C("MlpPolicy", env, device="cpu")
        with pytest.raises(
            CaptureError,
            match=r"1 part.*\n.*model\.env: SubprocVecEnv.*wrapper_class=perdure\.environments\.Resumable",
        ):
            model.learn(100, callback=PersistenceCallback(tmp_path / "run"))
    finally:
        env.close()


def test_another_model_is_an_error_and_the_run_stays(tmp_path):
    a2c().learn(100, callback=PersistenceCallback(tmp_path / "run"))
    with pytest.raises(RestoreError, match=r"net_arch|policy"):
        a2c(**small(9)).learn(200, callback=PersistenceCallback(tmp_path / "run"))
    assert steps(tmp_path / "run") == [100]
    assert a2c().learn(200, callback=PersistenceCallback(tmp_path / "run")).num_timesteps == 200


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Finalized:
    def __del__(self):
        pass


class Makes(BaseCallback):
    """A callback that comes to hold, at some step, what no fresh process could restore."""

    def __init__(self, at):
        super().__init__()
        self.at = at
        self.made = None

    def _on_step(self):
        if self.num_timesteps >= self.at:
            self.made = Finalized()
        return True


def test_what_could_not_be_restored_is_told_at_the_first_checkpoint_or_warned_of(tmp_path):
    with pytest.raises(
        NotRestorableError, match=r"callbacks\['Makes'\]\.made: the checkpoint has a Finalized"
    ):
        a2c().learn(300, callback=[PersistenceCallback(tmp_path / "early", every=100), Makes(at=0)])
    assert steps(tmp_path / "early") == []
    with pytest.warns(NotRestorableWarning, match="from step 200 on") as caught:
        a2c().learn(300, callback=[PersistenceCallback(tmp_path / "late", every=100, keep=1), Makes(at=150)])
    assert {each.filename for each in caught if each.category is NotRestorableWarning} == {__file__}
    assert steps(tmp_path / "late") == [100, 300]


def test_a_second_call_of_learn_is_compared_with_what_the_script_had_built(tmp_path):
    model, callback, makes = a2c(), PersistenceCallback(tmp_path, every=100), Makes(at=10_000)
    model.learn(300, callback=[callback, makes])
    makes.at = 0
    with pytest.warns(NotRestorableWarning, match=r"callbacks\['Makes'\]\.made"):
        model.learn(300, callback=[callback, makes], reset_num_timesteps=False)


def test_an_override_wins_and_the_training_goes_on_with_it(tmp_path, capsys):
    a2c().learn(100, callback=PersistenceCallback(tmp_path / "run"))
    override = {"model.lr_schedule.*.val": 1e-4}
    slower = a2c().learn(200, callback=PersistenceCallback(tmp_path / "run", every=50, override=override))
    assert slower.policy.optimizer.param_groups[0]["lr"] == 1e-4
    assert "model.learning_rate (0.0007)" in capsys.readouterr().err
    a2c().learn(300, callback=PersistenceCallback(tmp_path / "run", override=override))
    assert "overridden" not in capsys.readouterr().err

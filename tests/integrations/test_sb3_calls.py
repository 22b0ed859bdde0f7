"""Several calls of `learn` in one script, and which of its variables a checkpoint may rely on."""

import os
import signal

import numpy as np
import pytest
import torch
from sb3_support import Crash, a2c, checkpoints, small, state, steps
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
)

import perdure
from perdure.errors import (
    CaptureError,
    DamagedCheckpointWarning,
    PerdureError,
    RestoreError,
    StoreError,
)
from perdure.integrations.sb3 import PersistenceCallback
from perdure.state import diff


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Ends(BaseCallback):
    """Counts what it is told, and changes the model at the end of each call, as a callback of a user's may."""

    def __init__(self, draws):
        super().__init__()
        self.draws = draws
        self.starts = self.ends = 0
        self.saved = []

    def _on_training_start(self):
        self.starts += 1

    def _on_step(self):
        return True

    def _on_training_end(self):
        self.ends += 1
        self.saved.append(digest(self.model))
        if self.draws:
            np.random.random()


def digest(model):
    return [float(each.detach().double().sum()) for each in model.policy.parameters()]


CALLS = (60, 40, 80, 60)


def script(
    directory, crash=10**9, reset=False, every=20, one=True, calls=CALLS, stop_in=None, rate=1e-3, draws=False
):
    """A script that calls `learn` several times, and what it sees after each call."""
    model, ends, seen, same = a2c(learning_rate=rate), Ends(draws), [], None
    crash = Crash(crash)
    for part, total in enumerate(calls):
        callbacks = [ends, crash]
        if directory is not None:
            same = same if one and same is not None else PersistenceCallback(directory, every=every)
            callbacks = [ends, same, crash]
        if part == stop_in:
            callbacks.append(StopTrainingOnMaxEpisodes(2))
        model.learn(total, callback=callbacks, reset_num_timesteps=reset)
        seen.append((model.num_timesteps, digest(model), np.random.get_state()[2]))
    return model, seen, (ends.starts, ends.ends, ends.saved[-len(calls) :])


@pytest.mark.parametrize(
    ("reset", "one", "stop_in", "crashes"),
    [(False, True, None, (75, 45, 95)), (True, False, None, (110, 5, 75)), (False, False, 1, (90, 45))],
)
def test_code_between_two_calls_sees_what_it_saw(reset, one, stop_in, crashes, tmp_path):
    how = {"reset": reset, "one": one, "stop_in": stop_in, "rate": lambda left: 1e-3 * left, "draws": True}
    whole = script(tmp_path / "whole", **how)
    for crash in crashes:
        with pytest.raises(KeyboardInterrupt):
            script(tmp_path / "run", crash, **how)
    model, seen, ends = script(tmp_path / "run", **how)
    assert seen == whole[1]
    assert ends == whole[2]
    assert diff(state(whole[0]), state(model)) == []
    found = checkpoints(tmp_path / "run")
    assert [info.step for info in found] == sorted(info.step for info in found)
    assert [info.tags for info in found if info.counters["at"] == "training end"] == [
        (f"learn {call}", "pinned") for call in range(1, len(CALLS) + 1)
    ]
    # A script that is finished trains nothing, whoever asks.
    again = script(tmp_path / "run", crash=1, **how)
    assert again[1:] == (seen, ends)


def test_a_longer_last_call_goes_on_and_another_length_of_an_earlier_one_is_told(tmp_path, capsys):
    whole = script(None, calls=(60, 90))[1]
    script(tmp_path, calls=(60, 50))
    assert script(tmp_path, calls=(60, 90))[1] == whole
    capsys.readouterr()
    assert script(tmp_path, calls=(80, 70), crash=1)[1] == whole
    said = capsys.readouterr().err
    assert "call 1 of learn() was done with 60 steps in all. It is not done again" in said
    assert "call 2 of learn() is finished: all 150 steps are done" in said


def test_a_damaged_end_is_an_error_or_done_again(tmp_path):
    whole = script(None, calls=(60, 40))
    script(tmp_path, calls=(60, 40))

    (number,) = [info.number for info in checkpoints(tmp_path) if "learn 2" in info.tags]
    packs = sorted((tmp_path / "packs").iterdir())
    newest = [each for each in packs if str(number) in each.name]
    for pack in newest:
        pack.write_bytes(bytes(len(pack.read_bytes())))
    with pytest.warns(DamagedCheckpointWarning):
        again = script(tmp_path, calls=(60, 40))
    assert again[1] == whole[1]
    (first,) = [info.file for info in checkpoints(tmp_path) if "learn 1" in info.tags]
    (tmp_path / first).unlink()
    with pytest.raises(RestoreError, match="end of call 1 is not there any more"):
        script(tmp_path, calls=(60, 40))


def test_a_call_that_a_crash_ended_leaves_the_run_free(tmp_path):
    whole = a2c().learn(60)
    model, callback = a2c(), PersistenceCallback(tmp_path, every=20)
    with pytest.raises(KeyboardInterrupt):
        model.learn(60, callback=[callback, Crash(50)])
    # The same cell of a notebook once more: the same model goes on from the last checkpoint.
    model.learn(60, callback=[callback, Crash(30)])
    assert diff(state(whole), state(model)) == []
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        a2c().learn(60, callback=[PersistenceCallback(tmp_path / "b", every=20), Crash(50)])
    a2c().learn(60, callback=[PersistenceCallback(tmp_path / "b", every=20), Crash(30)])
    assert signal.getsignal(signal.SIGTERM) is handler


def test_a_signal_in_the_last_rollout_is_obeyed(tmp_path):
    class Signal(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 60:
                os.kill(os.getpid(), signal.SIGTERM)
            return True

    perdure.skip(Signal, "of the tests")
    with pytest.raises(perdure.Preempted):
        a2c().learn(60, callback=[PersistenceCallback(tmp_path), Signal()])
    assert [info.tags for info in checkpoints(tmp_path)] == [("learn 1", "pinned")]


def test_after_a_call_that_failed_signals_do_what_they_did(tmp_path):
    with pytest.raises(KeyboardInterrupt) as kept:
        a2c().learn(60, callback=[PersistenceCallback(tmp_path), Crash(50)])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert kept.tb is not None


# -- whose run it is ---------------------------------------------------------------------------------------------------


def test_another_seed_is_an_error_that_names_both(tmp_path):
    a2c(seed=1).learn(20, callback=PersistenceCallback(tmp_path))
    with pytest.raises(
        RestoreError, match=r"model\.seed: 1 when the run began, 2 in the script now"
    ) as caught:
        a2c(seed=2).learn(20, callback=PersistenceCallback(tmp_path))
    assert 'skip=["model.seed"]' in str(caught.value)
    a2c(seed=2).learn(20, callback=PersistenceCallback(tmp_path, skip=["model.seed"]))


def test_a_second_model_without_a_seed_is_no_continuation_of_the_first(tmp_path):
    a2c(seed=None).learn(20, callback=PersistenceCallback(tmp_path))
    with pytest.raises(
        PerdureError, match=r"another model .*\(A2C, seed None\).* this one \(A2C, seed None\)"
    ):
        a2c(seed=None).learn(20, callback=PersistenceCallback(tmp_path))
    assert steps(tmp_path) == [20]
    # One that was interrupted may go on, as where a cell of a notebook is run again.
    with pytest.raises(KeyboardInterrupt):
        a2c(seed=None).learn(60, callback=[PersistenceCallback(tmp_path / "b", every=20), Crash(50)])
    a2c(seed=None).learn(60, callback=PersistenceCallback(tmp_path / "b", every=20))


def test_two_models_do_not_take_turns_in_one_run(tmp_path):
    first, second = a2c(), a2c()
    first.learn(20, callback=PersistenceCallback(tmp_path))
    second.learn(20, callback=PersistenceCallback(tmp_path))
    second.learn(20, callback=PersistenceCallback(tmp_path))
    with pytest.raises(StoreError, match="somebody else has gone on with the run"):
        first.learn(20, callback=PersistenceCallback(tmp_path))


# -- what the functions around a safe point hold -----------------------------------------------------------------------


class Logged(A2C):
    """Notes at which steps rows are logged."""

    def dump_logs(self, iteration=0):
        self.__dict__.setdefault("rows", []).append((iteration, self.num_timesteps))


def test_rows_of_the_log_fall_on_the_same_steps(tmp_path):
    def learn(directory, total=150, crash=10**9):
        model = a2c(Logged)
        model.learn(total, callback=[PersistenceCallback(directory, every=20), Crash(crash)], log_interval=4)
        return model.rows

    whole = learn(tmp_path / "whole")
    assert whole == [(4, 40), (8, 80), (12, 120)]
    with pytest.raises(KeyboardInterrupt):
        learn(tmp_path / "run", crash=70)
    assert learn(tmp_path / "run") == whole
    learn(tmp_path / "longer", total=60)
    assert learn(tmp_path / "longer") == whole


class OwnLoop(A2C):
    """A loop that a user wrote, with a counter in a local variable."""

    def learn(self, total_timesteps, callback=None, **kwargs):
        total_timesteps, callback = self._setup_learn(total_timesteps, callback)
        done, kind = 0, None
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            self.collect_rollouts(self.env, callback, self.rollout_buffer, self.n_steps)
            done += 1
            kind = "even" if done % 2 == 0 else "odd"
            if kind == "even" and done > 2:
                self.train()
        callback.on_training_end()
        return self


class OwnFor(A2C):
    def learn(self, total_timesteps, callback=None, **kwargs):
        total_timesteps, callback = self._setup_learn(total_timesteps, callback)
        callback.on_training_start(locals(), globals())
        for _ in range(total_timesteps // 10):
            self.collect_rollouts(self.env, callback, self.rollout_buffer, self.n_steps)
        callback.on_training_end()
        return self


class OwnList(A2C):
    def collect_rollouts(self, env, callback, rollout_buffer, n_rollout_steps):
        drawn = torch.randn(3)
        super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        return float(drawn.sum()) < 100


def test_a_loop_of_a_users_own_goes_on_or_is_refused(tmp_path):
    whole = a2c(OwnLoop).learn(150)
    with pytest.raises(KeyboardInterrupt):
        a2c(OwnLoop).learn(150, callback=[PersistenceCallback(tmp_path / "run", every=20), Crash(70)])
    resumed = a2c(OwnLoop).learn(150, callback=PersistenceCallback(tmp_path / "run"))
    assert diff(state(whole), state(resumed)) == []
    for kind, said in (
        (OwnFor, r"OwnFor\.learn begins its rollouts inside a for loop.*while self\.num_timesteps"),
        (OwnList, r"OwnList\.collect_rollouts keeps 'drawn' \(a Tensor\).*self\.drawn"),
    ):
        with pytest.raises(CaptureError, match=said):
            a2c(kind).learn(150, callback=PersistenceCallback(tmp_path / kind.__name__))
        assert steps(tmp_path / kind.__name__) == []


def test_what_the_loop_was_given_follows_what_is_restored(tmp_path):
    def build(frequency):
        return DQN("MlpPolicy", "CartPole-v1", learning_starts=10, buffer_size=99, train_freq=frequency,
                   **small())  # fmt: skip

    whole = build(4).learn(120)
    with pytest.raises(KeyboardInterrupt):
        build(4).learn(120, callback=[PersistenceCallback(tmp_path, every=20), Crash(70)])
    with pytest.warns(perdure.errors.ChangedScriptWarning, match="train_freq"):
        resumed = build(1).learn(120, callback=PersistenceCallback(tmp_path))
    assert [each.path for each in diff(state(whole), state(resumed))] == []


def test_a_callback_that_is_not_told_of_rollouts_is_refused(tmp_path):
    inside = EveryNTimesteps(10, PersistenceCallback(tmp_path))
    with pytest.raises(CaptureError, match="inside another callback"):
        a2c().learn(60, callback=inside)
    nested = CallbackList([CallbackList([PersistenceCallback(tmp_path, every=20)])])
    a2c().learn(60, callback=nested)
    assert steps(tmp_path)[-1] == 60

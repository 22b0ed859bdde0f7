"""Tianshou: what a user of `run` meets beside being killed (for that see tests/survival)."""

import json
import os

import gymnasium as gym
import numpy as np
import pytest
import torch
from tianshou.algorithm import DQN
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, PrioritizedVectorReplayBuffer, VectorReplayBuffer
from tianshou.env import DummyVectorEnv, SubprocVectorEnv
from tianshou.trainer import OffPolicyTrainerParams
from tianshou.utils import TensorboardLogger
from tianshou.utils.net.common import Net
from torch.utils.tensorboard import SummaryWriter

from perdure.errors import CaptureError, NotCapturedWarning, RestoreError
from perdure.integrations.tianshou import run
from perdure.persistence import Persistence, PolicyPersistence
from perdure.state import capture, diff
from perdure.store import Store


class Crash(Exception):
    pass


class Fuse:
    """When a process crashes. A plain variable of the function would be restored with it."""

    def __init__(self, crash):
        self.crash = crash


def build(crash=10**9, envs=DummyVectorEnv, buffer=VectorReplayBuffer, epochs=3, **kwargs):
    np.random.seed(3)
    torch.manual_seed(3)
    torch.set_num_threads(1)
    env = gym.make("CartPole-v1")
    net = Net(state_shape=4, action_shape=2, hidden_sizes=[8])
    policy = DiscreteQLearningPolicy(model=net, action_space=env.action_space, eps_training=0.1)
    algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-2), target_update_freq=20)

    fuse = Fuse(crash)

    def before(epoch, step):
        if step >= fuse.crash:
            raise Crash

    training = envs([lambda: gym.make("CartPole-v1") for _ in range(2)])
    training.seed(1)
    testing = DummyVectorEnv([lambda: gym.make("CartPole-v1")])
    testing.seed(2)
    options = {"alpha": 0.6, "beta": 0.4} if buffer is PrioritizedVectorReplayBuffer else {}
    params = OffPolicyTrainerParams(
        training_collector=Collector(algorithm, training, buffer(200, 2, **options), exploration_noise=True),
        test_collector=Collector(algorithm, testing),
        max_epochs=epochs,
        epoch_num_steps=100,
        collection_step_num_env_steps=10,
        test_step_num_episodes=2,
        batch_size=16,
        update_step_num_gradient_steps_per_sample=0.5,
        show_progress=False,
        verbose=False,
        training_fn=before,
        **kwargs,
    )
    return algorithm.create_trainer(params)


def state(trainer):
    found = capture({"trainer": trainer})
    for name in ("_training_step", "params"):
        found.root.fields["trainer"].fields.pop(name, None)
    return found


def scored(scores):
    """A score function that answers with these scores, test step by test step."""
    taken = iter(scores)
    return lambda stats: next(taken)


def best(directory):
    return json.loads((directory / "best.json").read_text())["score"]


@pytest.mark.parametrize("buffer", [VectorReplayBuffer, PrioritizedVectorReplayBuffer])
def test_it_goes_on_in_a_new_trainer_and_ends_as_the_uninterrupted_training(buffer, tmp_path):
    whole = build(buffer=buffer)
    expected = whole.run()
    with pytest.raises(Crash):
        run(build(crash=150, buffer=buffer), tmp_path / "run", every=20)
    resumed = build(buffer=buffer)
    found = run(resumed, tmp_path / "run", every=20)
    assert diff(state(whole), state(resumed)) == []
    assert (found.best_score, found.update_step, found.train_step) == (
        expected.best_score,
        expected.update_step,
        expected.train_step,
    )


def test_the_first_test_step_after_a_resume_does_not_replace_a_better_best(tmp_path):
    # Scores by the number of the test step: the second is the best, and all later ones are worse.
    scores = [1.0, 9.0, 2.0, 3.0, 4.0]

    with pytest.raises(Crash):
        run(build(crash=250, compute_score_fn=scored(scores)), tmp_path / "run", every=20)
    assert best(tmp_path / "run") == 9.0
    published = os.readlink(tmp_path / "run" / "best")
    again = build(compute_score_fn=scored(scores[3:]))
    result = run(again, tmp_path / "run", every=20)
    assert result.best_score == 9.0
    assert best(tmp_path / "run") == 9.0
    assert os.readlink(tmp_path / "run" / "best") == published


def test_a_better_best_of_a_killed_process_is_not_replaced_by_a_worse_one(tmp_path):
    # The first process publishes 9 after its last checkpoint; the second comes to 5 in the same place.
    with pytest.raises(Crash):
        run(
            build(crash=150, compute_score_fn=scored([1.0, 9.0])),
            tmp_path / "run",
            every=90,
        )
    assert best(tmp_path / "run") == 9.0
    saved = []
    trainer = build(compute_score_fn=scored([5.0, 6.0, 7.0]), save_best_fn=saved.append)
    assert run(trainer, tmp_path / "run", every=90).best_score == 7.0
    assert best(tmp_path / "run") == 9.0
    assert saved == []


def test_a_save_best_fn_of_the_users_own_is_called_and_given_back(tmp_path):
    saved = []
    trainer = build(save_best_fn=saved.append)
    run(trainer, tmp_path / "run")
    assert saved
    assert set(map(id, saved)) == {id(trainer.algorithm)}
    assert trainer.params.save_best_fn == saved.append
    assert "_training_step" not in vars(trainer)


def test_a_finished_training_is_restored_and_not_trained_on(tmp_path, capsys):
    first = build()
    run(first, tmp_path / "run")
    again = build(crash=0)
    result = run(again, tmp_path / "run")
    assert diff(state(first), state(again)) == []
    assert result.train_step == 300
    assert capsys.readouterr().err.count("this run is finished: all") == 1


def test_more_epochs_go_on_from_a_finished_training(tmp_path):
    whole = build(epochs=4)
    whole.run()
    run(build(), tmp_path / "run")
    longer = build(epochs=4)
    run(longer, tmp_path / "run")
    assert diff(state(whole), state(longer)) == []


def test_a_training_that_stopped_early_stays_stopped(tmp_path, capsys):
    trainer = build(stop_fn=lambda score: score > 5)
    run(trainer, tmp_path / "run", every=20)
    stopped = trainer._env_step
    assert stopped < 300
    again = build(stop_fn=lambda score: score > 5)
    run(again, tmp_path / "run", every=20)
    assert again._env_step == stopped
    assert "this run is finished: stop_fn has stopped the training" in capsys.readouterr().err


def test_a_policy_that_cannot_be_pickled_is_published_as_its_state_dictionary(tmp_path):
    trainer = build()
    trainer.algorithm.policy.hook = lambda x: x
    with pytest.warns(NotCapturedWarning, match="policy.hook"):
        run(trainer, tmp_path / "run")
    assert (tmp_path / "run" / "policy_state_dict.pt").exists()
    assert not (tmp_path / "run" / "policy.pt").exists()


def test_handlers_persist_with_the_best_policy(tmp_path):
    class Handler(Persistence):
        def persist(self, event, world):
            with open(world.persist_path("seen.txt"), "w") as file:
                file.write(str(world.trainer._best_score))

        def restore(self, event, world):
            pass

    run(build(), tmp_path / "run", persistence=PolicyPersistence(Handler()))
    assert float((tmp_path / "run" / "seen.txt").read_text()) == best(tmp_path / "run")
    assert (tmp_path / "run" / "best" / "policy.pt").exists()


def test_unwrapped_environments_in_other_processes_are_refused_at_the_start(tmp_path):
    trainer = build(envs=SubprocVectorEnv)
    try:
        with pytest.raises(
            CaptureError, match=r"SubprocVectorEnv: .*lambda: perdure\.environments\.Resumable"
        ):
            run(trainer, tmp_path / "run")
    finally:
        trainer.params.training_collector.env.close()


def test_checkpoints_fall_inside_an_epoch(tmp_path):
    with pytest.raises(Crash):
        run(build(crash=70), tmp_path / "run", every=20)
    with Store.open(tmp_path / "run") as store:
        places = [
            (info.step, info.counters["at"], info.counters.get("steps_in_epoch"))
            for info in store.checkpoints()
        ]
    assert places == [
        (20, "before a training step", 20),
        (40, "before a training step", 40),
        (60, "before a training step", 60),
    ]


def test_an_override_wins_and_the_training_goes_on_with_it(tmp_path, capsys):
    run(build(epochs=1), tmp_path / "run")
    slower = build(epochs=2)
    run(slower, tmp_path / "run", override={"*.lr": 1e-4})
    (optimizer,) = slower.algorithm._optimizers
    assert [group["lr"] for group in optimizer._optim.param_groups] == [1e-4]
    assert "lr'] 0.01 -> 0.0001" in capsys.readouterr().err


def logging_trainer(place, epochs, **options):
    logger = TensorboardLogger(SummaryWriter(str(place)), save_interval=1)
    return build(epochs=epochs, logger=logger, save_checkpoint_fn=lambda *counts: "policy.pt", **options)


def test_an_epoch_is_not_taken_from_the_log_where_its_weights_are_in_no_checkpoint(tmp_path):
    logging_trainer(tmp_path / "log", 1).run()
    with pytest.raises(RestoreError, match=r"the log is at epoch 1 \(100 .*resume_from_log=False"):
        run(logging_trainer(tmp_path / "log", 3, resume_from_log=True), tmp_path / "run")
    # The remedies of the message.
    assert run(logging_trainer(tmp_path / "log", 1), tmp_path / "run").train_step == 100
    fresh = logging_trainer(tmp_path / "new log", 1, resume_from_log=True)
    assert run(fresh, tmp_path / "another").train_step == 100


def test_a_training_that_resumes_from_its_log_goes_on_wherever_it_was_killed(tmp_path):
    whole = logging_trainer(tmp_path / "log of whole", 3, resume_from_log=True)
    whole.run()
    for crash in (0, 150):
        # No checkpoint is due before the crash, although the log has saved an epoch by then.
        trainer = logging_trainer(tmp_path / "log", 3, resume_from_log=True, crash=crash)
        with pytest.raises(Crash):
            run(trainer, tmp_path / "run", every=10_000)
    resumed = logging_trainer(tmp_path / "log", 3, resume_from_log=True)
    run(resumed, tmp_path / "run", every=10_000)
    assert diff(state(whole), state(resumed)) == []

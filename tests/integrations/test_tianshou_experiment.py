"""Tianshou's high level: what an experiment writes and where, its loggers, and several experiments at once."""

import os
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tianshou.env import VectorEnvNormObs
from tianshou.evaluation.launcher import ExpLauncher, JoblibConfig, JoblibExpLauncher
from tianshou.evaluation.rliable_evaluation import MultiRunExperimentResult
from tianshou.highlevel.config import OffPolicyTrainingConfig, OnPolicyTrainingConfig
from tianshou.highlevel.env import EnvFactoryRegistered, VectorEnvType
from tianshou.highlevel.experiment import (
    A2CExperimentBuilder,
    DQNExperimentBuilder,
    Experiment,
    ExperimentConfig,
)
from tianshou.highlevel.logger import LoggerFactoryDefault
from tianshou.highlevel.params.algorithm_params import DQNParams
from tianshou.highlevel.persistence import Persistence, PersistEvent, PolicyPersistence, RestoreEvent
from tianshou.highlevel.trainer import EpochTrainCallback

import perdure
from perdure.integrations.tianshou import run
from perdure.state import capture, diff

Mode = PolicyPersistence.Mode
PLAIN = EnvFactoryRegistered(task="CartPole-v1", venv_type=VectorEnvType.DUMMY)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Crash(Exception):
    pass


class Crashes(EpochTrainCallback):
    """Ends the process, so to speak, when an epoch begins. A plain variable would be restored with the run."""

    epoch, error = 10**9, Crash

    def callback(self, epoch, env_step, context):
        if epoch >= Crashes.epoch:
            raise Crashes.error


@pytest.fixture
def crash(monkeypatch):
    def at(epoch, error=Crash):
        monkeypatch.setattr(Crashes, "epoch", epoch)
        monkeypatch.setattr(Crashes, "error", error)

    return at


class KeepsStatistics(Persistence):
    """As Tianshou's example for MuJoCo has it: written with its own imports, for its own library."""

    FILE = "env_obs_rms.pkl"

    def persist(self, event, world):
        if event is not PersistEvent.PERSIST_POLICY:
            return
        with open(world.persist_path(self.FILE), "wb") as file:
            pickle.dump(world.envs.training_envs.get_obs_rms(), file)

    def restore(self, event, world):
        if event is not RestoreEvent.RESTORE_POLICY:
            return
        with open(world.restore_path(self.FILE), "rb") as file:
            statistics = pickle.load(file)
        world.envs.training_envs.set_obs_rms(statistics)
        world.envs.test_envs.set_obs_rms(statistics)


class Normalising(EnvFactoryRegistered):
    def create_envs(self, *args, **kwargs):
        envs = super().create_envs(*args, **kwargs)
        envs.training_envs = VectorEnvNormObs(envs.training_envs)
        envs.test_envs = VectorEnvNormObs(envs.test_envs, update_obs_rms=False)
        envs.test_envs.set_obs_rms(envs.training_envs.get_obs_rms())
        envs.set_persistence(KeepsStatistics())
        return envs


class LogsOften(LoggerFactoryDefault):
    """Logs every 25 steps. In these small trainings the default logs nothing between the ends of epochs."""

    def create_logger(self, *args, **kwargs):
        logger = super().create_logger(*args, **kwargs)
        logger.training_interval = logger.update_interval = 25
        return logger


NORMALISING = Normalising(task="CartPole-v1", venv_type=VectorEnvType.DUMMY)


def on_policy(logger):
    """Tianshou has its logger save policies of epochs only on-policy."""
    return (
        A2CExperimentBuilder(
            PLAIN,
            ExperimentConfig(watch=False, log_file_enabled=False),
            OnPolicyTrainingConfig(
                max_epochs=4,
                epoch_num_steps=60,
                batch_size=10,
                num_training_envs=2,
                num_test_envs=1,
                collection_step_num_env_steps=10,
                collection_step_num_episodes=None,
                update_step_num_repetitions=1,
                test_step_num_episodes=1,
            ),
        )
        .with_actor_factory_default(hidden_sizes=(8,))
        .with_epoch_train_callback(Crashes())
        .with_logger_factory(logger)
    ).build()


def builder(factory=PLAIN, epochs=2, logger=None, **config):
    made = (
        DQNExperimentBuilder(
            factory,
            ExperimentConfig(**{"watch": False, "log_file_enabled": False, **config}),
            OffPolicyTrainingConfig(
                max_epochs=epochs,
                epoch_num_steps=60,
                batch_size=8,
                num_training_envs=2,
                num_test_envs=1,
                buffer_size=200,
                collection_step_num_env_steps=10,
                update_step_num_gradient_steps_per_sample=0.2,
                test_step_num_episodes=1,
            ),
        )
        .with_dqn_params(DQNParams(lr=1e-3, target_update_freq=20))
        .with_model_factory_default(hidden_sizes=(8,))
        .with_epoch_train_callback(Crashes())
        .with_name("small")
    )
    return made if logger is None else made.with_logger_factory(logger)


def state(result):
    found = capture({"trainer": result.world.trainer, "envs": result.world.envs})
    found.root.fields["trainer"].fields.pop("params", None)
    return found


# -- where everything lies --------------------------------------------------------------------------------------------


def test_what_it_writes_is_found_by_from_directory(tmp_path):
    experiment = builder(log_file_enabled=True, persistence_base_dir="elsewhere").build()
    place = tmp_path / "run"
    run(experiment, place)
    assert {"experiment.pkl", "log.txt", "policy.pt"} <= set(os.listdir(place))
    assert any("tfevents" in name for name in os.listdir(place))
    again = Experiment.from_directory(str(place))
    assert type(again) is type(experiment)
    assert again.config.policy_restore_directory == str(place)
    assert again.config.persistence_base_dir == "elsewhere"
    assert experiment.config.policy_restore_directory is None
    assert not os.path.exists("elsewhere")


def test_a_run_name_is_a_directory_and_the_loggers_name(tmp_path):
    seen = []

    class Noted(LoggerFactoryDefault):
        def create_logger(self, log_dir, experiment_name, run_id, config_dict=None):
            seen.append((log_dir, experiment_name, run_id))
            return super().create_logger(log_dir, experiment_name, run_id, config_dict)

    # Pickled with the experiment, so it must be found by its name.
    Noted.__qualname__ = "Noted"
    globals()["Noted"] = Noted
    experiment = builder(logger=Noted(), epochs=1).build()
    first = run(experiment, tmp_path, run_name=os.path.join("a", "b"), logger_run_id="mine")
    run(experiment, tmp_path, run_name="c")
    run(experiment, tmp_path, run_name="c")
    assert first.world.persist_directory == str(tmp_path / "a" / "b")
    (place, name, run_id), (_, other, by_itself), (_, _, again) = seen
    assert (place, name, run_id) == (str(tmp_path / "a" / "b"), os.path.join("a", "b"), "mine")
    assert other == "c"
    assert by_itself == again != "mine"
    assert (tmp_path / "a" / "b" / "policy.pt").exists()


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("written_by", ["run", "Tianshou"])
def test_a_policy_is_restored_with_its_statistics_in_either_mode(written_by, mode, tmp_path):
    config = {"policy_persistence_mode": mode, "persistence_base_dir": str(tmp_path), "seed": 1}
    source = builder(NORMALISING, **config).build()
    if written_by == "run":
        place = str(tmp_path / "first")
        run(source, place)
    else:
        place = source.run().world.persist_directory
    assert os.path.exists(os.path.join(place, KeepsStatistics.FILE))
    saved = torch.load(os.path.join(place, mode.get_filename()), weights_only=False)
    expected = saved if mode is Mode.POLICY_STATE_DICT else saved.state_dict()
    with open(os.path.join(place, KeepsStatistics.FILE), "rb") as file:
        statistics = pickle.load(file)

    restored = Experiment.from_directory(place)
    restored.config.train = False
    world = run(restored, tmp_path / "second").world
    for key, value in world.algorithm.policy.state_dict().items():
        assert torch.equal(value, expected[f"policy.{key}"])
    assert np.array_equal(world.envs.test_envs.get_obs_rms().mean, statistics.mean)
    assert world.restore_directory == place


def test_a_restored_policy_is_where_the_training_begins_and_a_killed_one_goes_on(tmp_path, crash):
    run(builder(seed=1).build(), tmp_path / "first")
    experiment = Experiment.from_directory(str(tmp_path / "first"))
    whole = run(experiment, tmp_path / "whole", every=20)
    crash(2)
    with pytest.raises(Crash):
        run(experiment, tmp_path / "killed", every=20)
    crash(10**9)
    assert diff(state(whole), state(run(experiment, tmp_path / "killed", every=20))) == []


def test_handlers_of_the_environments_stay_when_the_user_has_more(tmp_path):
    class Mine(perdure.persistence.Persistence):
        def persist(self, event, world):
            if event is perdure.persistence.PersistEvent.PERSIST_POLICY:
                with open(world.persist_path("mine.txt"), "w") as file:
                    file.write(type(world.trainer).__name__)

        def restore(self, event, world):
            pass

    mode = Mode.POLICY_STATE_DICT
    run(
        builder(NORMALISING).build(),
        tmp_path,
        persistence=perdure.persistence.PolicyPersistence(Mine(), mode=mode),
    )
    found = set(os.listdir(tmp_path / "best"))
    assert {"mine.txt", KeepsStatistics.FILE, "policy_state_dict.pt"} <= found


def test_tianshous_own_object_says_how_the_policy_is_persisted(tmp_path):
    theirs = PolicyPersistence(KeepsStatistics(), mode=Mode.POLICY_STATE_DICT)
    experiment = builder(NORMALISING, epochs=1).build()
    world = run(experiment, tmp_path / "high", persistence=theirs).world
    found = {"policy_state_dict.pt", KeepsStatistics.FILE}
    assert found <= set(os.listdir(tmp_path / "high" / "best"))
    # The low level has no parts that this handler could ask for.
    run(world.trainer, tmp_path / "low", persistence=PolicyPersistence(mode=Mode.POLICY_STATE_DICT))
    assert (tmp_path / "low" / "best" / "policy_state_dict.pt").exists()


@pytest.mark.parametrize("mode", Mode)
def test_tianshou_itself_runs_with_these_classes_in_place_of_its_own(mode, tmp_path, monkeypatch):
    module = sys.modules[Experiment.__module__]
    for name in ("World", "PersistenceGroup", "PolicyPersistence"):
        monkeypatch.setattr(module, name, getattr(perdure.persistence, name))
    config = {"policy_persistence_mode": mode, "persistence_base_dir": str(tmp_path / "log")}
    place = builder(NORMALISING, epochs=1, **config).build().run().world.persist_directory
    assert {mode.get_filename(), KeepsStatistics.FILE} <= set(os.listdir(os.path.join(place, "best")))
    again = Experiment.from_directory(place)
    again.config.train = False
    again.config.persistence_base_dir = str(tmp_path / "again")
    world = again.run().world
    assert type(world) is perdure.World
    saved = torch.load(os.path.join(place, mode.get_filename()), weights_only=False)
    expected = saved if mode is Mode.POLICY_STATE_DICT else saved.state_dict()
    for key, value in world.algorithm.policy.state_dict().items():
        assert torch.equal(value, expected[f"policy.{key}"])


def test_options_that_do_not_go_with_the_subject_are_refused(tmp_path):
    with pytest.raises(TypeError, match="run_name: only an experiment takes it"):
        run(builder().build_seeded_collection(2), tmp_path, run_name="x")
    with pytest.raises(TypeError, match=r"builder\.build\(\).*found a DQNExperimentBuilder"):
        run(builder(), tmp_path)


# -- loggers ----------------------------------------------------------------------------------------------------------


def points(directory):
    """Each curve: the points that were logged, but for what tells the time."""
    events = EventAccumulator(str(directory))
    events.Reload()
    return {
        tag: {(each.step, each.value) for each in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
        if "time" not in tag and "speed" not in tag
    }


class Artifact:
    def __init__(self, name, type, metadata):
        self.name, self.metadata, self.files = name, metadata, []

    def add_file(self, path):
        assert os.path.exists(path)
        self.files.append(path)


class WandbRun:
    def __init__(self, run_id, log):
        self.id, self.log = run_id, log

    def _label(self, **words):
        pass

    def log_artifact(self, artifact):
        self.log["artifacts"].append((artifact.name, artifact.metadata["save/epoch"]))

    def finish(self):
        sys.modules["wandb"].run = None


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in for Weights & Biases, whose package is not installed: what Tianshou's logger asks of it."""
    log = {"ids": [], "artifacts": []}
    module = types.ModuleType("wandb")
    module.run, module.Artifact, module.Settings = None, Artifact, dict

    def init(*, id, resume, **options):
        assert resume == "allow"
        log["ids"].append(id)
        module.run = WandbRun(id, log)
        return module.run

    module.init, module.log = init, log
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_a_logger_goes_on_with_the_same_points_and_the_same_saved_epochs(kind, tmp_path, crash, wandb):
    experiment = on_policy(LogsOften(kind, wandb_project="x", save_interval=2))
    whole = run(experiment, tmp_path / "whole", every=20)
    expected, wandb.log["artifacts"] = wandb.log["artifacts"], []
    del wandb.log["ids"][:]
    for epoch in (2, 4):
        crash(epoch)
        with pytest.raises(Crash):
            run(experiment, tmp_path / "killed", every=20)
        wandb.run = None
    crash(10**9)
    killed = run(experiment, tmp_path / "killed", every=20)
    assert diff(capture({"logger": whole.world.logger}), capture({"logger": killed.world.logger})) == []
    assert killed.world.logger.last_save_step == 3
    assert points(tmp_path / "killed") == points(tmp_path / "whole")
    epochs = [sorted(each.name for each in place.glob("policy_epoch_*.pt")) for place in tmp_path.iterdir()]
    assert epochs == [["policy_epoch_1.pt", "policy_epoch_3.pt"]] * 2
    if kind == "wandb":
        assert len(set(wandb.log["ids"])) == 1
        assert [epoch for _, epoch in expected] == [1, 3]
        assert {epoch for _, epoch in wandb.log["artifacts"]} == {1, 3}


# -- several experiments ----------------------------------------------------------------------------------------------


def test_a_collection_goes_on_where_it_was_and_can_be_evaluated(tmp_path, crash):
    def collection():
        return builder(epochs=1, logger=LogsOften()).build_seeded_collection(2)

    whole = [run(each, tmp_path / "alone" / str(number)) for number, each in
             enumerate(collection().experiments)]  # fmt: skip
    crash(1, SystemExit)
    with pytest.raises(SystemExit):
        run(collection(), tmp_path / "both")
    # The order to leave was no failure of the first one: the second one was not started.
    assert os.listdir(tmp_path / "both") == ["exp_seed=42"]
    crash(10**9)
    found = run(collection(), tmp_path / "both")
    assert [each.best_score for each in found] == [each.trainer_result.best_score for each in whole]
    assert sorted(os.listdir(tmp_path / "both")) == ["exp_seed=42", "exp_seed=43"]
    finished = run(collection(), tmp_path / "both")
    assert [each.update_step for each in finished] == [each.update_step for each in found]
    result = MultiRunExperimentResult.load_from_disk(str(tmp_path / "both"))
    assert result.test_episode_returns_RE.shape[0] == 2


def test_a_failure_of_one_does_not_stop_the_others_and_is_tried_again(tmp_path, crash):
    crash(1)
    with pytest.raises(RuntimeError, match="All experiments failed"):
        run(builder(epochs=1).build_seeded_collection(2), tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    crash(10**9)
    assert len(run(builder(epochs=1).build_seeded_collection(2), tmp_path)) == 2


class Elsewhere(ExpLauncher):
    """Passes on what it runs as launchers do that run it in other processes."""

    def _launch(self, experiments):
        job = pickle.dumps((self._safe_execute, experiments))
        execute, there = pickle.loads(job)
        return pickle.loads(pickle.dumps([execute(each) for each in there]))


def test_a_launcher_may_run_them_elsewhere(tmp_path, crash):
    launcher = Elsewhere()
    runner = launcher.experiment_runner
    found = run(builder(epochs=1).build_seeded_collection(2), tmp_path / "whole", launcher=launcher)
    assert [each.update_step for each in found] == [6, 6]
    assert all((tmp_path / "whole" / f"exp_seed={seed}" / "policy.pt").exists() for seed in (42, 43))
    assert launcher.experiment_runner is runner
    crash(1, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        run(builder(epochs=1).build_seeded_collection(2), tmp_path / "left", launcher=Elsewhere())


@pytest.mark.campaign
def test_joblib_runs_them_in_other_processes(tmp_path):
    launcher = JoblibExpLauncher(JoblibConfig(n_jobs=2, verbose=0))
    found = run(builder(epochs=1).build_seeded_collection(2), tmp_path, launcher=launcher)
    assert [each.update_step for each in found] == [6, 6]
    assert all((tmp_path / f"exp_seed={seed}" / "policy.pt").exists() for seed in (42, 43))


def test_experiments_of_other_names_and_two_that_would_be_one(tmp_path):
    first, second = builder(epochs=1).build(), builder(epochs=1).with_name("other").build()
    kind = type(builder().build_seeded_collection(1))
    run(kind([first, second]), tmp_path / "two")
    assert (tmp_path / "two" / "small" / "exp_seed=42" / "policy.pt").exists()
    assert (tmp_path / "two" / "other" / "exp_seed=42" / "policy.pt").exists()
    with pytest.raises(ValueError, match=r"each needs one of its own.*another seed"):
        run(kind([first, first]), tmp_path / "one")
    with pytest.raises(ValueError, match="launcher: expected 'joblib', 'sequential'"):
        run(kind([first]), tmp_path / "one", launcher="threads")

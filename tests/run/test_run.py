"""Runs of loops of one's own: resuming, cadence, best, retention, what is said."""

import argparse
import collections
import dataclasses
import itertools
import json
import os
import warnings
import zlib

import gymnasium as gym
import numpy as np
import pytest
import torch
from click.testing import CliRunner

import perdure
from perdure.cli import main
from perdure.errors import (
    CaptureError,
    ChangedScriptWarning,
    NotCapturedWarning,
    NotPicklableError,
    PerdureError,
    RestoreError,
    StoreError,
)
from perdure.state import capture
from perdure.store import Store


class Stop(Exception):
    pass


def walk(directory, total, stop=None, score=None, **cadence):
    """A training that adds up random numbers, and raises in step `stop`."""
    world = perdure.World(trace=[], model=torch.nn.Linear(2, 1))
    with perdure.Run(directory) as run:
        for step in run.steps(world, total, **cadence):
            if step == stop:
                raise Stop
            world.trace.append((step, float(np.random.rand())))
            if score is not None:
                run.report_score(score(step), world)
    return world, run


@pytest.fixture(autouse=True)
def seeded():
    np.random.seed(5)
    torch.manual_seed(5)


def test_a_run_goes_on_where_its_last_checkpoint_was(tmp_path):
    whole, _ = walk(tmp_path / "whole", 10, every=3)
    np.random.seed(5)
    with pytest.raises(Stop):
        walk(tmp_path / "run", 10, stop=8, every=3)
    with Store.open(tmp_path / "run") as store:
        assert [info.step for info in store.checkpoints()] == [3, 6]
    np.random.seed(1)
    resumed, run = walk(tmp_path / "run", 10, every=3)
    assert resumed.trace == whole.trace
    assert run.report.exact
    assert "trace[0][1]" in run.report.restored


def test_a_part_that_the_loop_adds_is_there_again(tmp_path):
    def train(stop):
        world = perdure.World(x=0)
        with perdure.Run(tmp_path / "run") as run:
            for step in run.steps(world, 6, every=2):
                if step == stop:
                    raise Stop
                if step == 1:
                    world.last = np.ones(3)
                elif step > 1:
                    world.last = world.last + step
        return world.last.tolist()

    with pytest.raises(Stop):
        train(4)
    assert train(None) == [15.0] * 3


def test_a_finished_run_does_nothing_and_a_longer_one_goes_on(tmp_path):
    first, _ = walk(tmp_path / "run", 4, every=2)
    again, _ = walk(tmp_path / "run", 4, every=2)
    assert again.trace == first.trace
    longer, _ = walk(tmp_path / "run", 6, every=2)
    assert longer.trace[:4] == first.trace
    assert [step for step, _ in longer.trace] == list(range(6))


def test_checkpoints_are_due_by_steps_by_seconds_and_at_the_end(tmp_path, monkeypatch):
    walk(tmp_path / "steps", 7, every=3)
    walk(tmp_path / "end", 7)
    clock = itertools.count(step=4.0)
    monkeypatch.setattr("perdure.run._cadence.time.monotonic", lambda: next(clock))
    walk(tmp_path / "seconds", 7, seconds=6)

    def steps(name):
        with Store.open(tmp_path / name) as store:
            return [info.step for info in store.checkpoints()]

    assert steps("steps") == [3, 6, 7]
    assert steps("end") == [7]
    assert len(steps("seconds")) > 2


def test_the_last_checkpoints_are_kept_and_that_of_the_best(tmp_path):
    walk(tmp_path / "run", 9, every=1, score=lambda step: {2: 5.0}.get(step, 1.0 + step / 100))
    with Store.open(tmp_path / "run") as store:
        assert [info.step for info in store.checkpoints()] == [3, 7, 8, 9]
        assert [problem for problem in store.verify() if not problem.harmless] == []


def test_the_best_policy_is_published_and_survives_a_restart(tmp_path):
    scores = [1.0, 9.0, 3.0, 4.0, 5.0, 6.0]
    with pytest.raises(Stop):
        walk(tmp_path / "run", 6, stop=4, every=1, score=scores.__getitem__)
    published = os.readlink(tmp_path / "run" / "best")
    _, run = walk(tmp_path / "run", 6, every=1, score=scores.__getitem__)
    assert run.best_score == 9.0
    assert os.readlink(tmp_path / "run" / "best") == published
    assert json.loads((tmp_path / "run" / "best.json").read_text()) == {"score": 9.0, "step": 1}
    loaded = perdure.load_policy(tmp_path / "run", trust=[torch.nn])
    assert isinstance(loaded, torch.nn.Linear)


def test_what_a_killed_process_saw_after_its_checkpoint_does_not_count_but_its_file_stays(tmp_path):
    # The first process reaches 9 after its last checkpoint; the second, being another training, only 5.
    with pytest.raises(Stop):
        walk(tmp_path / "run", 6, stop=4, every=3, score=[1.0, 2.0, 3.0, 9.0, 0.0, 0.0].__getitem__)
    world = perdure.World(trace=[], model=torch.nn.Linear(2, 1))
    with perdure.Run(tmp_path / "run") as run:
        answers = [
            (step, run.report_score([5.0, 4.0, 6.0][step - 3], world))
            for step in run.steps(world, 6, every=3)
        ]
    # As the uninterrupted training would have been answered: better than the 3 at its checkpoint, or not.
    assert answers == [(3, True), (4, False), (5, True)]
    assert run.best_score == 9.0
    assert json.loads((tmp_path / "run" / "best.json").read_text())["score"] == 9.0


def test_nan_is_never_the_best(tmp_path):
    world = perdure.World(model=torch.nn.Linear(2, 1))
    with perdure.Run(tmp_path / "run") as run:
        assert not run.report_score(float("nan"), world)
        assert run.report_score(-5, world)
        assert not run.report_score(float("nan"), world)
        assert run.best_score == -5


def test_a_policy_that_cannot_be_pickled_is_found_out_and_the_best_before_it_stays(tmp_path):
    world = perdure.World(policy=torch.nn.Linear(2, 1))
    with perdure.Run(tmp_path / "run") as run:
        run.report_score(1.0, world)
        world.policy.head = lambda x: x
        with pytest.raises(NotPicklableError, match="head"):
            run.report_score(2.0, world)
        assert run.best_score == 1.0
    assert perdure.load_policy(tmp_path / "run", trust=[torch.nn]) is not None


def test_which_part_is_the_policy_must_be_clear(tmp_path):
    world = perdure.World(actor=torch.nn.Linear(2, 1), critic=torch.nn.Linear(2, 1))
    with perdure.Run(tmp_path / "run") as run:
        with pytest.raises(PerdureError, match=r"policy=\.\.\."):
            run.report_score(1.0, world)
        assert run.report_score(1.0, world, policy=world.actor)


def test_what_cannot_be_captured_is_said_before_the_first_step(tmp_path):
    world = perdure.World(envs=[{"archive": zlib.compressobj()}])
    with perdure.Run(tmp_path / "run") as run:
        with pytest.raises(CaptureError, match=r"envs\[0\]\['archive'\].*perdure\.skip"):
            next(run.steps(world, 3))
    with perdure.Run(tmp_path / "run", skip=["envs*archive*"]) as run:
        assert list(run.steps(world, 3)) == [0, 1, 2]


def test_an_edited_value_is_told_and_the_runs_value_kept(tmp_path):
    def build(lr, width=2):
        model = torch.nn.Linear(width, 1)
        return perdure.World(
            model=model, optimizer=torch.optim.SGD(model.parameters(), lr=lr), note=np.zeros(width)
        )

    with perdure.Run(tmp_path / "run") as run:
        for _ in run.steps(build(0.1), 2):
            pass
    with perdure.Run(tmp_path / "run") as run, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        world = build(0.2)
        run.resume(world)
    assert [each.category for each in said] == [ChangedScriptWarning]
    assert "optimizer.param_groups[0]['lr']: 0.1 when the run began, 0.2 in the script now" in str(
        said[0].message
    )
    assert world.optimizer.param_groups[0]["lr"] == 0.1
    with perdure.Run(tmp_path / "run") as run:
        with pytest.raises(RestoreError, match=r"model\.weight") as raised:
            run.resume(build(0.1, width=3))
    assert any(path == "model.weight" for path, _ in raised.value.report.mismatched)


def test_other_steps_of_the_call_do_not_count_as_an_edit(tmp_path):
    walk(tmp_path / "run", 4, every=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        walk(tmp_path / "run", 8, every=1)


def test_random_generators_are_not_taken_for_an_edited_script(tmp_path):
    def build():
        return perdure.World(rng=np.random.default_rng(), x=1)

    with perdure.Run(tmp_path / "run") as run:
        for _ in run.steps(build(), 2):
            pass
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with perdure.Run(tmp_path / "run") as run:
            run.resume(build())


def test_a_world_has_no_part_of_the_runs_own_name(tmp_path):
    with perdure.Run(tmp_path / "run") as run, pytest.raises(PerdureError, match="'run'"):
        run.checkpoint(perdure.World(run=1), 0)


def test_loops_of_another_form_use_resume_tick_and_checkpoint(tmp_path):
    def train(rounds):
        world = perdure.World(done=0)
        with perdure.Run(tmp_path / "run") as run, run.guard():
            run.resume(world)
            while world.done < rounds:
                world.done += 1
                run.maybe_checkpoint(world, world.done, every=2, counters={"round": world.done})
            run.checkpoint(world, world.done)
            return run.last

    assert train(3).step == 3
    assert train(7).step == 7
    with Store.open(tmp_path / "run") as store:
        assert {info.step: info.counters for info in store.checkpoints()} == {
            4: {"round": 4},
            6: {"round": 6},
            7: {},
        }


def test_steps_that_are_handed_on_in_local_variables_are_warned_of(tmp_path):
    world = perdure.World(x=0)
    obs = np.zeros(2)
    total = 0
    with (
        perdure.Run(tmp_path / "run") as run,
        pytest.warns(NotCapturedWarning, match="obs, total") as said,
    ):
        for step in run.steps(world, 3):
            action = obs + 1
            total += step
            obs = action * 2
            scratch = list(obs)
            world.x += len(scratch)
    ours = [warning for warning in said if warning.category is NotCapturedWarning]
    assert [warning.filename for warning in ours] == [__file__]


def test_objects_that_the_loop_changes_outside_the_world_are_warned_of(tmp_path):
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    generator, untouched, config = np.random.default_rng(1), np.zeros(3), {"lr": 0.1}
    history = []
    world = perdure.World(model=model)
    with perdure.Run(tmp_path / "run") as run, pytest.warns(NotCapturedWarning) as said:
        for step in run.steps(world, 4, every=2):
            optimizer.zero_grad()
            model(
                torch.tensor(generator.normal(size=2) + untouched[:2] + config["lr"]).float()
            ).sum().backward()
            optimizer.step()
            history.append(step)
    assert len(history) == 4
    # Something may be told of other modules of the suite too, which are imported when they are.
    (text,) = [text for text in (str(each.message) for each in said) if "between iterations" in text]
    assert "between iterations in optimizer, generator, history, which" in text


def test_a_loop_that_keeps_everything_in_the_world_is_not_warned_of(tmp_path):
    world = perdure.World(x=0, obs=np.zeros(2))
    scale, params = 2, [world.obs]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with perdure.Run(tmp_path / "run") as run:
            for step in run.steps(world, 3):
                action = world.obs * scale
                for i in range(2):
                    last = action[i]
                with torch.no_grad():
                    value = last
                world.x += params[0].size
                world.obs = action + value
                if step:
                    shown = step
                    world.x = shown


def test_a_local_observation_is_warned_of_though_the_environment_keeps_it_too(tmp_path):
    env = gym.make("CartPole-v1")
    world = perdure.World(env=env)
    obs, _ = env.reset(seed=1)
    with (
        perdure.Run(tmp_path / "run") as run,
        pytest.warns(NotCapturedWarning, match="iterations in obs, which"),
    ):
        for _ in run.steps(world, 4, every=2):
            obs, *_ = env.step(int(obs[2] > 0))


def test_what_is_no_world_and_what_is_closed_is_said(tmp_path, capsys):
    run = perdure.Run(tmp_path / "run")
    with pytest.raises(TypeError, match=r"World\(name="):
        next(run.steps(torch.nn.Linear(1, 1), 3))
    with pytest.raises(TypeError, match=r"World\(policy="):
        perdure.World(torch.nn.Linear(1, 1))
    world = perdure.World(x=1)
    assert list(run.steps(world, 2)) == [0, 1]
    assert list(run.steps(world, 2)) == []
    assert "all 2 steps are done" in capsys.readouterr().err
    run.close()
    with pytest.raises(StoreError, match="this run is closed"):
        run.checkpoint(world, 3)


def test_keep_and_parts_are_checked(tmp_path):
    with pytest.raises(ValueError, match="keep"):
        perdure.Run(tmp_path / "run", keep=0)
    with pytest.raises(AttributeError, match="its parts are a"):
        _ = perdure.World(a=1).b


Transition = collections.namedtuple("Transition", "obs action")


@dataclasses.dataclass
class Episode:
    steps: list


class Memory:
    def __init__(self):
        self.transitions = collections.deque(maxlen=5)
        self.episodes = []


def test_a_buffer_that_was_empty_when_the_script_built_it_is_filled_again(tmp_path):
    def train(total):
        world = perdure.World(memory=Memory())
        with perdure.Run(tmp_path / "run") as run:
            for step in run.steps(world, total, every=2):
                world.memory.transitions.append(Transition(np.full(2, step), step))
                world.memory.episodes.append(Episode([step]))
        return world.memory

    train(4)
    memory = train(6)
    assert [each.action for each in memory.transitions] == [1, 2, 3, 4, 5]
    assert all(type(each) is Transition for each in memory.transitions)
    assert memory.episodes == [Episode([step]) for step in range(6)]


@pytest.mark.parametrize("kind", [argparse.Namespace, dict])
def test_another_seed_is_an_error_that_names_both(tmp_path, kind):
    """The second seed of a study, into the same directory: its result would be that of the first."""

    def train(seed, total, **how):
        world = perdure.World(args=kind(seed=seed, lr=0.1), drawn=[])
        np.random.seed(seed)
        with perdure.Run(tmp_path, **how) as run:
            for _ in run.steps(world, total):
                world.drawn.append(np.random.random())
        return world.drawn

    path = "args.seed" if kind is argparse.Namespace else "args['seed']"
    train(1, 3)
    with pytest.raises(RestoreError, match=r"another seed") as caught:
        train(2, 3)
    assert f"{path}: 1 when the run began, 2 in the script now" in str(caught.value)
    assert f'skip=["{path}"]' in str(caught.value)
    assert len(train(2, 4, skip=[path])) == 4
    assert train(1, 5) == list(np.random.RandomState(1).random_sample(5))


def test_secrets_and_places_are_said_once_and_are_no_edits(tmp_path, capsys, monkeypatch):
    """Another key and another output directory are no edits of the script; no value of a secret is told."""
    monkeypatch.chdir(tmp_path)
    os.makedirs("job1/logs")
    os.makedirs("job2/logs")

    def train(total, out, key):
        world = perdure.World(out=out, logs=f"{out}/logs", config={"api_key": key, "rate": 0.1}, trace=[])
        with perdure.Run("run") as run, warnings.catch_warnings():
            warnings.simplefilter("error", ChangedScriptWarning)
            for step in run.steps(world, total):
                world.trace.append(step)
        return world, capsys.readouterr().err

    _, said = train(2, "job1", "hunter1")
    assert said.count("left out of the checkpoints as secrets: config['api_key']") == 1
    world, said = train(4, "job2", "hunter2")
    assert said.count("secrets: config['api_key']") == 1
    assert said.count("places are those of this process: 'job2' instead of 'job1' (out); 'job2/logs'") == 1
    assert "hunter" not in said
    assert (world.out, world.logs, world.config["api_key"]) == ("job2", "job2/logs", "hunter2")
    assert world.trace == [0, 1, 2, 3]
    assert b"hunter" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_secrets_in_metrics_and_counters_are_left_out(tmp_path, capsys):
    """Nor does any listing tell one that an older checkpoint, or whoever made the run, put there."""
    world = perdure.World(x=1)
    metrics = {
        "loss": 0.5,
        "api_key": "hunter1",
        "config": {"wandb": {"accessToken": "hunter2", "rate": 0.1}, "seeds": [1, 2]},
        "argv": ["train.py", "--api-key", "hunter3", "--lr", "3"],
        "command": "train.py --password=hunter4 --api-key hunter5 -lr 3 --keyboard yes",
        "token_embedding": 7,
    }
    with perdure.Run(tmp_path / "run") as run:
        run.resume(world)
        run.checkpoint(world, 1, metrics=metrics, counters={"epoch": 3, "secret": "hunter6"})
        run.checkpoint(world, 2, metrics=metrics)
    said = capsys.readouterr().err
    assert said.count("left out of the checkpoints as secrets: metrics.api_key, ") == 1
    assert "hunter" not in said
    assert b"hunter" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    with Store.open(tmp_path / "run") as store:
        found = store.checkpoints()[0]
    assert found.counters == {"epoch": 3}
    assert found.metrics == {
        "loss": 0.5,
        "config": {"wandb": {"rate": 0.1}, "seeds": [1, 2]},
        "argv": ["train.py", "--api-key", "***", "--lr", "3"],
        "command": "train.py --password=*** --api-key *** -lr 3 --keyboard yes",
        "token_embedding": 7,
    }
    older = tmp_path / "older"
    with Store.open(older, write=True) as store:
        store.commit(capture({"x": 1}), step=1, metrics=metrics, counters={"secret": "hunter6"})
    for command in (["ls"], ["show"], ["ls", "--json"], ["show", "--json"], ["verify"]):
        result = CliRunner().invoke(main, [*command, str(older)])
        assert result.exit_code == 0, result.output
        assert "hunter" not in result.output


def test_a_very_long_whole_number_in_the_world(tmp_path):
    """Python refuses to write one as a decimal."""
    for total in (1, 2):
        world = perdure.World(big=1 << 40_000, negative=-(1 << 40_000))
        with perdure.Run(tmp_path / "run") as run:
            for _ in run.steps(world, total):
                world.big += 1
    assert world.big == (1 << 40_000) + 2


def test_the_world_may_hold_the_run_and_its_methods(tmp_path):
    class Callback:
        pass

    world = perdure.World(callback=Callback(), x=0)
    for _ in range(2):
        with perdure.Run(tmp_path / "run") as run:
            world.callback.run, world.callback.report = run, run.report_score
            for _ in run.steps(world, 2, every=1):
                world.x += 1
            assert world.callback.run is run
            assert world.callback.report.__self__ is run
    assert world.x == 2

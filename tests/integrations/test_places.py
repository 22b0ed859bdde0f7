"""Stable-Baselines3's callbacks write where this process's script says, whatever the checkpoint says."""

import os
from pathlib import Path

import gymnasium as gym
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.monitor import Monitor

from perdure.integrations.sb3 import PersistenceCallback
from perdure.store import load_checksummed
from perdure.store._checksummed_json import dump_checksummed


def learn(total, out, run="run"):
    """A training that writes evaluations, best models, copies and a log of episodes below a directory."""
    model = PPO("MlpPolicy", Monitor(gym.make("CartPole-v1"), f"{out}/episodes"), seed=1, n_steps=64, batch_size=64,
                n_epochs=1, device="cpu")  # fmt: skip
    callbacks = [
        EvalCallback(Monitor(gym.make("CartPole-v1")), best_model_save_path=out, log_path=out, eval_freq=64,
                     n_eval_episodes=1, verbose=0),
        CheckpointCallback(64, f"{out}/copies"),
        PersistenceCallback(run, every=64),
    ]  # fmt: skip
    model.learn(total, callback=callbacks)
    assert model.num_timesteps == total
    return model


def files(directory):
    return {str(path.relative_to(directory)) for path in Path(directory).rglob("*") if path.is_file()}


@pytest.mark.parametrize("absolute", [True, False])
def test_the_next_job_has_another_directory(tmp_path, monkeypatch, capsys, absolute):
    monkeypatch.chdir(tmp_path)
    old, new = (str(tmp_path / name) if absolute else name for name in ("job1", "job2"))
    learn(128, old)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "job1").rglob("*")}
    resumed = learn(256, new)
    assert {"evaluations.npz", "copies/rl_model_256_steps.zip", "episodes.monitor.csv"} <= files("job2")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "job1").rglob("*")} == before
    said = [
        line for line in capsys.readouterr().err.splitlines() if "places are those of this process" in line
    ]
    assert len(said) == 1
    assert "job2' instead of '" in said[0]
    whole = learn(256, "whole", "another-run")
    for a, b in zip(resumed.policy.parameters(), whole.policy.parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("evil", ["ESCAPED", "../ESCAPED", "{top}/ESCAPED", "own/../../ESCAPED", "src"])
def test_a_forged_directory(tmp_path, monkeypatch, evil):
    here = tmp_path / "work"
    (here / "src").mkdir(parents=True)
    monkeypatch.chdir(here)
    learn(128, "own")
    path = max(Path("run/checkpoints").glob("*.json"))
    body = load_checksummed("manifest", path.read_bytes(), "")
    evil = evil.format(top=tmp_path)
    forged = 0
    for node in body["state"]["nodes"]:
        for name, value in node[2].items() if node[0] in "od" else ():
            if isinstance(value, str) and value.startswith("own"):
                node[2][name] = value.replace("own", evil)
                forged += 1
    assert forged > 2
    path.write_bytes(dump_checksummed("manifest", body))
    learn(256, "own")
    assert "copies/rl_model_256_steps.zip" in files("own")
    assert not list(tmp_path.rglob("*ESCAPED*"))
    assert sorted(os.listdir(here)) == ["own", "run", "src"]
    assert os.listdir(here / "src") == []

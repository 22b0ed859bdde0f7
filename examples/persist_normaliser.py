"""Persistence handlers: keep the observation statistics with the policy that was trained on them.

A linear policy is trained by random search (ARS) on normalised observations. Whenever it is the best so far,
it is persisted together with the statistics: both files become visible at once, or neither does. Then both
are restored into a new policy and new environments, once from a whole-policy file and once from a state
dictionary.

Kill it at any moment and start it again: it goes on where it was and ends, bit for bit, as if nothing had
happened.

    python persist_normaliser.py [--steps 40]
"""

import argparse

import gymnasium as gym
import numpy as np
import torch

import perdure
from perdure.persistence import Persistence, PersistEvent, PolicyPersistence, RestoreEvent

DIRECTORY = "runs/persist_normaliser"
ENVS = 16


class ObservationStatistics(Persistence):
    """Keeps the running mean and variance of the observations with the policy."""

    FILENAME = "observation_statistics.npz"

    def persist(self, event: PersistEvent, world: perdure.World) -> None:
        if event is PersistEvent.PERSIST_POLICY:  # a handler ignores the events that it does not know
            rms = world.envs.obs_rms
            np.savez(world.persist_path(self.FILENAME), mean=rms.mean, var=rms.var, count=rms.count)

    def restore(self, event: RestoreEvent, world: perdure.World) -> None:
        if event is RestoreEvent.RESTORE_POLICY:
            rms = world.envs.obs_rms
            with np.load(world.restore_path(self.FILENAME)) as file:
                rms.mean, rms.var, rms.count = file["mean"], file["var"], float(file["count"])


def build() -> perdure.World:
    """The policy and its environments, as a fresh process builds them."""
    envs = gym.make_vec("CartPole-v1", num_envs=ENVS, vectorization_mode="sync")
    return perdure.World(policy=torch.nn.Linear(4, 2), envs=gym.wrappers.vector.NormalizeObservation(envs))


@torch.no_grad()
def mean_return(world: perdure.World) -> float:
    """The mean return of one episode in every environment."""
    obs, _ = world.envs.reset()
    returns, going = np.zeros(ENVS), np.ones(ENVS, bool)
    while going.any():
        actions = world.policy(torch.as_tensor(obs, dtype=torch.float32)).argmax(1).numpy()
        obs, rewards, terminated, truncated, _ = world.envs.step(actions)
        returns += rewards * going
        going &= ~(terminated | truncated)
    return float(returns.mean())


@torch.no_grad()
def train(steps: int) -> None:
    torch.manual_seed(1)
    world = build()
    world.envs.reset(seed=1)
    weight = world.policy.weight
    persistence = PolicyPersistence(ObservationStatistics())  # by default in Mode.POLICY
    with perdure.Run(DIRECTORY, persistence=persistence) as run:
        for step in run.steps(world, steps, every=5):
            start, noise, scores = weight.clone(), torch.randn_like(weight), []
            for sign in (1, -1):
                weight.copy_(start + sign * 0.3 * noise)
                scores.append(mean_return(world))
            weight.copy_(start + 0.3 * noise * np.sign(scores[0] - scores[1]))
            score = mean_return(world)
            if run.report_score(score, world):
                print(f"step {step}: mean return {score:.1f}, the best so far: persisted with its statistics")


def restore(directory: str, mode: PolicyPersistence.Mode) -> perdure.World:
    """Restore policy and statistics into a world that knows nothing of the one that was trained."""
    world = build()
    world.restore_directory = directory
    PolicyPersistence(ObservationStatistics(), mode=mode).restore(world.policy, world, device="cpu")
    print(f"restored {mode.get_filename()}: its observations had the mean {world.envs.obs_rms.mean.round(4)}")
    return world


def main() -> None:
    torch.set_num_threads(1)  # networks this small are faster on one core
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=40)
    train(parser.parse_args().steps)

    world = restore(DIRECTORY, PolicyPersistence.Mode.POLICY)

    # The same without a run: a world with a directory to persist to. Mode.POLICY_STATE_DICT is for a policy that cannot
    # be pickled as a whole, or whose classes may move.
    world.persist_directory = "runs/persist_normaliser_state_dict"
    persistence = PolicyPersistence(ObservationStatistics(), mode=PolicyPersistence.Mode.POLICY_STATE_DICT)
    persistence.persist(world.policy, world)
    restore(world.persist_directory, PolicyPersistence.Mode.POLICY_STATE_DICT)


if __name__ == "__main__":
    main()

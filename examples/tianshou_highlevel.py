"""Tianshou's high-level experiments, run by `perdure.integrations.tianshou.run` in place of `experiment.run()`.

Whatever the experiment builds is in the checkpoints; the best policy is `runs/tianshou_highlevel/policy.pt`.

Kill it at any moment and start it again: it goes on where it was and ends, bit for bit, as if nothing had
happened.

    python tianshou_highlevel.py [--steps 8000]
"""

import argparse

import torch
from tianshou.highlevel.config import OffPolicyTrainingConfig
from tianshou.highlevel.env import EnvFactoryRegistered, VectorEnvType
from tianshou.highlevel.experiment import DQNExperimentBuilder, ExperimentConfig
from tianshou.highlevel.params.algorithm_params import DQNParams

import perdure


def main() -> None:
    torch.set_num_threads(1)  # networks this small are faster on one core
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=8_000, help="environment steps of the whole run")
    epochs = 4
    steps = parser.parse_args().steps // epochs

    experiment = (
        DQNExperimentBuilder(
            # Environments in this process: those in others cannot be saved in mid-episode.
            EnvFactoryRegistered(task="CartPole-v1", venv_type=VectorEnvType.DUMMY),
            ExperimentConfig(watch=False),
            OffPolicyTrainingConfig(
                max_epochs=epochs,
                epoch_num_steps=steps,
                batch_size=64,
                num_training_envs=8,
                num_test_envs=5,
                buffer_size=20_000,
                collection_step_num_env_steps=8,
                update_step_num_gradient_steps_per_sample=0.25,
                test_step_num_episodes=10,
            ),
        )
        .with_dqn_params(
            DQNParams(lr=2e-3, eps_training=0.1, n_step_return_horizon=3, target_update_freq=100)
        )
        .with_model_factory_default(hidden_sizes=(64, 64))
        .build()
    )
    result = perdure.integrations.tianshou.run(experiment, "runs/tianshou_highlevel", every=500)
    best = result.trainer_result
    print(f"done: the best test reward was {best.best_reward:.1f} ± {best.best_reward_std:.1f}")


if __name__ == "__main__":
    main()

"""Code and files of the libraries whose users come to Perdure."""

from __future__ import annotations

import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch

gym = pytest.importorskip("gymnasium")
tianshou = pytest.importorskip("tianshou")

import tianshou.highlevel.persistence as original  # noqa: E402
from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy  # noqa: E402
from tianshou.algorithm.modelfree.ppo import PPO  # noqa: E402
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy  # noqa: E402
from tianshou.algorithm.modelfree.sac import SAC, SACPolicy  # noqa: E402
from tianshou.algorithm.optim import AdamOptimizerFactory  # noqa: E402
from tianshou.env import DummyVectorEnv, VectorEnvNormObs  # noqa: E402
from tianshou.highlevel.world import World as TianshouWorld  # noqa: E402
from tianshou.utils import RunningMeanStd  # noqa: E402
from tianshou.utils.net.common import Net  # noqa: E402
from tianshou.utils.net.continuous import ContinuousActorProbabilistic, ContinuousCritic  # noqa: E402
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic  # noqa: E402

import perdure.persistence as ours  # noqa: E402
from perdure.errors import UntrustedError  # noqa: E402
from perdure.persistence import load_policy  # noqa: E402

Mode = ours.PolicyPersistence.Mode
modes = pytest.mark.parametrize("mode", list(Mode))
OPTIM = AdamOptimizerFactory(lr=1e-3)


def dqn():
    net = Net(state_shape=4, action_shape=2, hidden_sizes=[8])
    policy = DiscreteQLearningPolicy(model=net, action_space=gym.spaces.Discrete(2))
    return DQN(policy=policy, optim=OPTIM, target_update_freq=10)


def ppo():
    actor = DiscreteActor(preprocess_net=Net(state_shape=4, hidden_sizes=[8]), action_shape=2)
    critic = DiscreteCritic(preprocess_net=Net(state_shape=4, hidden_sizes=[8]))
    policy = DiscreteActorPolicy(actor=actor, action_space=gym.spaces.Discrete(2))
    return PPO(policy=policy, critic=critic, optim=OPTIM)


def sac():
    actor = ContinuousActorProbabilistic(
        preprocess_net=Net(state_shape=3, hidden_sizes=[8]),
        action_shape=1,
        unbounded=True,
        conditioned_sigma=True,
    )
    critic = ContinuousCritic(
        preprocess_net=Net(state_shape=3, action_shape=1, concat=True, hidden_sizes=[8])
    )
    policy = SACPolicy(actor=actor, action_space=gym.spaces.Box(-1, 1, (1,)))
    return SAC(policy=policy, policy_optim=OPTIM, critic=critic, critic_optim=OPTIM)


def tensors(module):
    return {k: v for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}


def same(a, b):
    a, b = tensors(a), tensors(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def step_all_optimizers(algorithm):
    for optimizer in algorithm._optimizers:
        for group in optimizer._optim.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.ones_like(parameter)
        optimizer._optim.step()


@modes
@pytest.mark.parametrize("build", [dqn, ppo, sac])
@pytest.mark.parametrize("part", ["policy", "algorithm"])
def test_tianshou_policies_and_algorithms(tmp_path, mode, build, part):
    saved, live = build(), build()
    step_all_optimizers(saved)
    if part == "policy":
        saved, live = saved.policy, live.policy
    world = ours.World(persist_directory=tmp_path, restore_directory=tmp_path)
    persistence = ours.PolicyPersistence(mode=mode)
    persistence.persist(saved, world)
    assert not same(saved, live)
    persistence.restore(live, world, "cpu")
    assert same(saved, live)
    if part == "algorithm":
        moments = [live._optimizers[0]._optim.state_dict(), saved._optimizers[0]._optim.state_dict()]
        assert torch.equal(*(m["state"][0]["exp_avg"] for m in moments))
    if mode is Mode.POLICY and part == "policy":
        packages = [tianshou, "torch.nn", "gymnasium.spaces"]
        if build is ppo:
            packages.append("tianshou.utils.net.discrete.dist_fn_categorical_from_logits")
        assert same(load_policy(tmp_path, trust=packages), saved)


@modes
@pytest.mark.parametrize("build", [dqn, ppo, sac])
def test_a_directory_that_tianshou_wrote(tmp_path, mode, build):
    saved, live = build().policy, build().policy
    world = TianshouWorld(
        envs=None,
        algorithm=None,
        logger=None,
        persist_directory=str(tmp_path),
        restore_directory=str(tmp_path),
    )
    original.PolicyPersistence(mode=original.PolicyPersistence.Mode(mode.value)).persist(saved, world)
    for restoring in (world, ours.World(restore_directory=tmp_path)):
        live = build().policy
        ours.PolicyPersistence(mode=mode).restore(live, restoring, torch.device("cpu"))
        assert same(saved, live)


@modes
def test_what_perdure_writes_tianshou_reads_as_far_as_it_can_read(tmp_path, mode):
    saved, live = dqn().policy, dqn().policy
    world = ours.World(persist_directory=tmp_path, restore_directory=tmp_path)
    ours.PolicyPersistence(mode=mode).persist(saved, world)
    if mode is Mode.POLICY:
        live.load_state_dict(torch.load(tmp_path / "policy.pt", weights_only=False).state_dict())
    else:
        original.PolicyPersistence(mode=original.PolicyPersistence.Mode.POLICY_STATE_DICT).restore(
            live, world, "cpu"
        )
    assert same(saved, live)


class ObsRmsPersistence(ours.Persistence):
    """As users of Tianshou write them, with the import changed."""

    FILENAME = "env_obs_rms.pkl"

    def persist(self, event: ours.PersistEvent, world) -> None:
        if event != ours.PersistEvent.PERSIST_POLICY:
            return
        with open(world.persist_path(self.FILENAME), "wb") as file:
            pickle.dump(world.envs.training_envs.get_obs_rms(), file)

    def restore(self, event: ours.RestoreEvent, world) -> None:
        if event != ours.RestoreEvent.RESTORE_POLICY:
            return
        with open(world.restore_path(self.FILENAME), "rb") as file:
            obs_rms = pickle.load(file)
        world.envs.training_envs.set_obs_rms(obs_rms)
        world.envs.test_envs.set_obs_rms(obs_rms)


@modes
@pytest.mark.parametrize("kind", [ours.World, TianshouWorld])
def test_a_handler_written_for_tianshou(tmp_path, mode, kind):
    def build(directory):
        envs = [VectorEnvNormObs(DummyVectorEnv([lambda: gym.make("CartPole-v1")] * 2)) for _ in range(2)]
        pair = SimpleNamespace(training_envs=envs[0], test_envs=envs[1])
        algorithm = dqn()
        return kind(
            envs=pair,
            algorithm=algorithm,
            logger=None,
            persist_directory=str(directory),
            restore_directory=str(directory),
        )

    world = build(tmp_path)
    world.envs.training_envs.set_obs_rms(RunningMeanStd(mean=np.arange(4.0), std=2.0))
    group = ours.PersistenceGroup(ObsRmsPersistence(), enabled=True)
    persistence = ours.PolicyPersistence(group, enabled=True, mode=mode)
    persistence.get_save_best_fn(world)(world.algorithm.policy)
    path = persistence.get_save_checkpoint_fn(world)(1, 100, 10)
    assert path == str(tmp_path / f"{mode.value}_epoch_1.pt")
    assert world.persist_directory == str(tmp_path)

    again = build(tmp_path)
    persistence.restore(again.algorithm.policy, again, device="cpu")
    assert same(again.algorithm.policy, world.algorithm.policy)
    for envs in (again.envs.training_envs, again.envs.test_envs):
        assert envs.get_obs_rms().mean.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", ["PPO", "DQN", "SAC"])
def test_stable_baselines3_policies(tmp_path, name):
    sb3 = pytest.importorskip("stable_baselines3")
    env = "Pendulum-v1" if name == "SAC" else "CartPole-v1"
    settings = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    saved, live = (getattr(sb3, name)("MlpPolicy", env, seed=seed, **settings).policy for seed in (1, 2))
    for optimizer in [m.optimizer for m in saved.modules() if hasattr(m, "optimizer") and m.optimizer]:
        for parameter in optimizer.param_groups[0]["params"]:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    world = ours.World(persist_directory=tmp_path, restore_directory=tmp_path)
    ours.PolicyPersistence().persist(saved, world)
    ours.PolicyPersistence().restore(live, world, "cpu")
    assert same(saved, live)
    with pytest.raises(UntrustedError):
        load_policy(tmp_path, trust=[sb3])
    loaded = load_policy(tmp_path, trust=[sb3, "torch.nn", "torch.optim", "gymnasium.spaces"])
    observation = saved.observation_space.sample()
    expected, _ = saved.predict(observation, deterministic=True)
    assert np.array_equal(loaded.predict(observation, deterministic=True)[0], expected)

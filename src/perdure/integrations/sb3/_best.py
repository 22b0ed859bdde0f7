"""The best policy: published together with the statistics by which its observations are normalised, and loaded so."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecNormalize, unwrap_vec_normalize

from perdure.errors import RestoreError
from perdure.persistence import Persistence, PersistEvent, RestoreEvent, load_policy
from perdure.persistence.checksums import verify
from perdure.persistence.policy_file import load_state_dict
from perdure.persistence.versions import POLICIES, best

_FILE = "vec_normalize.pt"
#: What policies of SB3 and sb3-contrib consist of.
_TRUSTED = ("stable_baselines3", "torch.nn", "torch.optim", "torch.distributions", "gymnasium.spaces")
#: A version may be replaced by a better one while it is read.
_TRIES = 10


class Normalization(Persistence):
    """Publishes the statistics of VecNormalize beside the policy; also that there are none."""

    def __init__(self) -> None:
        #: Whose statistics are published; by default those of the environment that the model is trained in.
        self.source: VecNormalize | None = None

    def persist(self, event: PersistEvent, world: Any) -> None:
        """Write them beside the policy."""
        source = self.source
        if source is None and world.model.get_env() is not None:
            source = unwrap_vec_normalize(world.model.get_env())
        torch.save(_described(source), world.persist_path(_FILE))

    def restore(self, event: RestoreEvent, world: Any) -> None:
        """Restore nothing: a run restores them with its environments."""


def _described(source: VecNormalize | None) -> dict[str, Any]:
    if source is None or not source.norm_obs:
        return {"observations": {}, "epsilon": 0.0, "clip": 0.0}
    found = source.obs_rms if isinstance(source.obs_rms, dict) else {"": source.obs_rms}
    names = source.norm_obs_keys if isinstance(source.obs_rms, dict) else [""]
    return {
        "observations": {
            name: {
                "mean": torch.from_numpy(np.array(found[name].mean, np.float64)),
                "var": torch.from_numpy(np.array(found[name].var, np.float64)),
            }
            for name in names
        },
        "epsilon": float(source.epsilon),
        "clip": float(source.clip_obs),
    }


class LoadedPolicy:
    """A policy that was published as the best one of a run. It takes observations as the environments give them.

    It has what `stable_baselines3.common.evaluation.evaluate_policy` asks of a model.

    :param policy: the policy itself, which takes observations that are normalised.
    :param normalization: the statistics that were published with it.
    """

    def __init__(self, policy: Any, normalization: Mapping[str, Any]) -> None:
        self.policy = policy
        self._normalization = normalization

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        **options: Any,
    ) -> tuple[Any, Any]:
        """The actions for observations that are not normalised, and the next state of a recurrent policy.

        :param options: what the policy takes beside that, as `action_masks` of a maskable one.
        """
        return self.policy.predict(  # type: ignore[no-any-return]
            self.normalize(observation), state, episode_start, deterministic, **options
        )

    def normalize(self, observation: Any) -> Any:
        """Observations as VecNormalize gave them to the policy in training."""
        statistics = self._normalization["observations"]
        if isinstance(observation, Mapping):
            return {
                name: self._normalized(value, statistics[name]) if name in statistics else value
                for name, value in observation.items()
            }
        return self._normalized(observation, statistics[""]) if statistics else observation

    def _normalized(self, observation: Any, found: Mapping[str, Any]) -> Any:
        clip, epsilon = self._normalization["clip"], self._normalization["epsilon"]
        scaled = (np.asarray(observation) - found["mean"].numpy()) / np.sqrt(found["var"].numpy() + epsilon)
        return np.clip(scaled, -clip, clip).astype(np.float32)


def load_best(
    directory: str | os.PathLike[str], *, device: str | torch.device = "cpu", trust: Iterable[Any] = ()
) -> LoadedPolicy:
    """The best policy of a run with Stable-Baselines3, ready to `predict` on what its environment gives.

    The policy and the statistics of VecNormalize that its score was reached with are read as one. No code in the files
    is run: the policy is made of classes of Stable-Baselines3, of sb3-contrib and of torch, and of those that you name.

    :param directory: of the run.
    :param trust: your own classes in the policy, as a features extractor; see :func:`perdure.load_policy`.
    :raises RestoreError: if no best policy was published there, or its observations cannot be normalised one by one.
    :raises UntrustedError: if the policy has other classes.
    :raises DamagedError: if a file is damaged.

    Example::

        best = perdure.integrations.sb3.load_best("runs/ppo")
        action, _ = best.predict(observation, deterministic=True)
    """
    contrib = ("sb3_contrib",) if importlib.util.find_spec("sb3_contrib") else ()
    for package in contrib:
        importlib.import_module(package)
    for attempt in range(_TRIES):
        name = best(directory)
        if name is None:
            raise RestoreError(
                f"{os.fspath(directory)} has no best policy. PersistenceCallback publishes one when an EvalCallback "
                "finds a new best, or when you report a score: callback.report_score(score)"
            )
        version = os.path.join(directory, POLICIES, name)
        try:
            verify(version)
            policy = load_policy(version, device, (*_TRUSTED, *contrib, *trust))
            path = os.path.join(version, _FILE)
            if not os.path.exists(path) and os.path.exists(version):
                raise RestoreError(
                    f"{version} does not say how observations are normalised: PersistenceCallback did not write it. "
                    "perdure.load_policy loads the policy, for observations that are as it expects them"
                )
            normalization = load_state_dict(path, "cpu")
        except FileNotFoundError:
            if attempt == _TRIES - 1:
                raise
            continue
        return _fitting(LoadedPolicy(policy, normalization), version)
    raise AssertionError


def _fitting(loaded: LoadedPolicy, version: str) -> LoadedPolicy:
    space = loaded.policy.observation_space
    for name, found in loaded._normalization["observations"].items():
        expected = (space[name] if name else space).shape
        # A policy for images has their channels first, and moves them there itself.
        if sorted(found["mean"].shape) != sorted(expected):
            raise RestoreError(
                f"the policy in {version} takes observations of shape {expected}, and those that were normalised have "
                f"the shape {tuple(found['mean'].shape)}: something around VecNormalize changed them, as VecFrameStack "
                f"does. perdure.load_policy({version!r}, trust=...) loads the policy, for observations that are as it "
                "expects them. To load it in one piece, put VecNormalize outermost"
            )
    return loaded

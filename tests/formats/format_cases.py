"""The trainings of which this folder stores a run each. They say how a training is built, begun and stepped, and what
is to be seen of it; they know nothing about files.

Each step uses only arithmetic that gives the same bits on every processor: integers, and fractions that a float holds
exactly. So what a resumed run must come to can be stored.
"""

from __future__ import annotations

import collections
import ctypes
import enum
import hashlib
import random
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from torch import nn

import perdure
from perdure.environments import EpisodeReplay, Resumable
from perdure.persistence import PolicyPersistence


class Case:
    """One training. Its subclasses are all the cases there are."""

    #: The name of its run's directory.
    name: str
    #: After which steps it makes checkpoints.
    commits: tuple[int, ...] = (4,)
    #: With "none", names of classes that packs hold can be searched for in the files.
    compression: Literal["auto", "none"] = "auto"

    def prepare(self) -> None:
        """What a script says before it resumes an old run."""

    def run(self, directory: str) -> perdure.Run:
        """Open its run."""
        return perdure.Run(directory, compression=self.compression)

    def build(self) -> perdure.World:
        """The world, as the script builds it each time."""
        raise NotImplementedError

    def begin(self, world: perdure.World) -> None:
        """What happens once, before the first step."""

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        """One step of the training."""

    def commit(self, world: perdure.World, run: perdure.Run, step: int) -> None:
        """Make a checkpoint."""
        run.checkpoint(world, step)

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        """What there is to see, as JSON."""
        raise NotImplementedError

    def close(self, world: perdure.World) -> None:
        """End what the world started."""


def plain(value: Any) -> Any:
    """A value as JSON that loses nothing of it: small arrays number by number, larger ones as a digest."""
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        shown: Any = value.tolist()
        if value.size > 16:
            shown = "sha256:" + hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        elif value.dtype.kind in "cM":
            shown = repr(shown)
        return [value.dtype.name, list(value.shape), shown]
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | collections.deque):
        return [plain(each) for each in value]
    return value if isinstance(value, bool | int | float | str | None) else repr(value)


class Weights(Case):
    """A module, an optimizer with moments, a schedule, and the random generators."""

    name = "weights"

    def build(self) -> perdure.World:
        agent = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2, dtype=torch.bfloat16))
        # At a rate of zero Adam moves only its moments, exactly; to move weights it would have to take roots.
        moments = torch.optim.Adam(agent.parameters(), lr=0.0, betas=(0.5, 0.75))
        moves = torch.optim.SGD(agent.parameters(), lr=0.5, momentum=0.5)
        schedule = torch.optim.lr_scheduler.StepLR(moves, step_size=2, gamma=0.5)
        return perdure.World(agent=agent, moments=moments, moves=moves, schedule=schedule, loss=0.0)

    def begin(self, world: perdure.World) -> None:
        with torch.no_grad():
            for parameter in world.agent.parameters():
                parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) - 4)

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        for parameter in world.agent.parameters():
            parameter.grad = torch.randint(-8, 8, parameter.shape).to(parameter.dtype)
        world.moments.step()
        world.moves.step()
        world.schedule.step()
        world.agent[1].num_batches_tracked += 1
        world.loss += random.randrange(100) / 4 + int(np.random.randint(100))

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        return plain(
            {
                "weights": {name: each.to(torch.float32) for name, each in world.agent.state_dict().items()},
                "first moments": [
                    world.moments.state[each]["exp_avg"].to(torch.float32)
                    for each in world.agent.parameters()
                ],
                "second moments": [
                    world.moments.state[each]["exp_avg_sq"].to(torch.float32)
                    for each in world.agent.parameters()
                ],
                "steps of Adam": [float(each["step"]) for each in world.moments.state.values()],
                "learning rate": world.moves.param_groups[0]["lr"],
                "loss": world.loss,
            }
        )


class ReplayBuffer:
    """A ring of rows, registered as such."""

    def __init__(self, rows: int) -> None:
        self.rows, self.position, self.total = rows, 0, 0
        self.observations = np.zeros((rows, 24), np.uint8)
        self.rewards = np.zeros(rows, np.float32)

    def add(self, observation: np.ndarray, reward: float) -> None:
        self.observations[self.position], self.rewards[self.position] = observation, reward
        self.position = (self.position + 1) % self.rows
        self.total += 1


perdure.register_rows(
    ReplayBuffer, ["observations", "rewards"], rows="rows", position="position", written="total"
)


class Buffer(Case):
    """A replay buffer, of which each checkpoint wrote the new rows; the last ones have gone round its end."""

    name = "buffer"
    commits = (2, 4)

    def build(self) -> perdure.World:
        return perdure.World(buffer=ReplayBuffer(600), sampled=0.0)

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        for _ in range(170):
            row = np.random.randint(0, 256, 24, np.uint8)
            world.buffer.add(row, float(row[0]))
        filled = min(world.buffer.total, world.buffer.rows)
        world.sampled += float(world.buffer.rewards[np.random.randint(0, filled, 8)].sum())

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        buffer = world.buffer
        return plain(
            {
                "position": buffer.position,
                "total": buffer.total,
                "observations": buffer.observations,
                "rewards": buffer.rewards,
                "newest rows": buffer.observations[buffer.position - 3 : buffer.position, :4],
                "sampled": world.sampled,
            }
        )


class Environment(Case):
    """Environments in mid-episode, two of them in a vector; slippery ice draws from their generators."""

    name = "environment"

    def build(self) -> perdure.World:
        make = [lambda: gym.make("FrozenLake-v1", map_name="4x4") for _ in range(2)]
        env = gym.wrappers.RecordEpisodeStatistics(gym.make("FrozenLake-v1"))
        return perdure.World(env=env, envs=gym.vector.SyncVectorEnv(make), seen=[])

    def begin(self, world: perdure.World) -> None:
        world.seen.append(int(world.env.reset(seed=5)[0]))
        world.seen.append(world.envs.reset(seed=[6, 7])[0].tolist())
        world.env.action_space.seed(8)

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        observation, reward, done, truncated, _ = world.env.step(world.env.action_space.sample())
        world.seen.append([int(observation), float(reward), bool(done), bool(truncated)])
        observations, rewards, done, truncated, _ = world.envs.step(np.array([2, 1]))
        world.seen.append([each.tolist() for each in (observations, rewards, done, truncated)])

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        return {
            "seen": plain(world.seen),
            "episode": [int(world.env.episode_lengths), float(world.env.episode_returns)],
            "state": [int(world.env.unwrapped.s), *(int(each.unwrapped.s) for each in world.envs.envs)],
        }

    def close(self, world: perdure.World) -> None:
        world.env.close()
        world.envs.close()


def _in_a_worker() -> gym.Env:
    random.seed(4)  # Python gives each forked process another seed
    return Resumable(gym.make("FrozenLake-v1", map_name="4x4"))


class Worker(Case):
    """Environments in processes of their own."""

    name = "worker"
    compression = "none"

    def build(self) -> perdure.World:
        return perdure.World(envs=gym.vector.AsyncVectorEnv([_in_a_worker] * 2), seen=[])

    def begin(self, world: perdure.World) -> None:
        world.seen.append(world.envs.reset(seed=[6, 7])[0].tolist())

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        observations, rewards, done, truncated, _ = world.envs.step(np.array([2, 1]))
        world.seen.append([each.tolist() for each in (observations, rewards, done, truncated)])

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        return {"seen": plain(world.seen), "states": [int(each) for each in world.envs.get_attr("s")]}

    def close(self, world: perdure.World) -> None:
        world.envs.close()


#: Stands for the memory of a native library: nothing finds it by walking an environment's attributes.
_native = ctypes.c_int64()


class Engine(gym.Env):
    """Keeps where it is where Python does not see it."""

    observation_space = gym.spaces.Box(-(2**31), 2**31, (1,), np.int64)
    action_space = gym.spaces.Discrete(4)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        _native.value = int(self.np_random.integers(1000))
        return np.array([_native.value]), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        _native.value = (_native.value * 31 + int(action) + int(self.np_random.integers(10))) % 65_537
        return np.array([_native.value]), float(action), False, False, {}


class Replay(Case):
    """An environment whose state lies in native code: its episode is played again."""

    name = "replay"
    compression = "none"

    def build(self) -> perdure.World:
        return perdure.World(env=EpisodeReplay(Engine()), seen=[])

    def begin(self, world: perdure.World) -> None:
        world.seen.append(int(world.env.reset(seed=9)[0][0]))

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        if len(world.seen) == 3:
            world.seen.append(int(world.env.reset()[0][0]))
        observation, reward, *_ = world.env.step(random.randrange(4))
        world.seen.append([int(observation[0]), reward])

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        return {"seen": plain(world.seen), "native": _native.value}


class Best(Case):
    """The best policy as a whole file."""

    name = "best-policy"
    mode = PolicyPersistence.Mode.POLICY

    def run(self, directory: str) -> perdure.Run:
        return perdure.Run(
            directory, persistence=PolicyPersistence(mode=self.mode), compression=self.compression
        )

    def build(self) -> perdure.World:
        return perdure.World(policy=nn.Sequential(nn.Linear(2, 2), nn.Tanh()), steps=0)

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        world.steps += 1
        with torch.no_grad():
            for parameter in world.policy.parameters():
                parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) + 10 * world.steps)
        # The third step has the best score of the stored run, and the seventh one that is better still.
        run.maybe_checkpoint(world, world.steps, every=1000)
        run.report_score((1.0, 2.0, 5.0, 4.0, 3.0, 3.5, 6.0)[world.steps - 1], world)

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        return plain(
            {
                "best score": run.best_score,
                "weights": world.policy.state_dict(),
                "best weights": self.best_weights(run),
            }
        )

    def best_weights(self, run: perdure.Run) -> dict[str, torch.Tensor]:
        return perdure.load_policy(run.directory, trust=[nn]).state_dict()


class BestStateDict(Best):
    """The best policy as a state dictionary."""

    name = "best-state-dict"
    mode = PolicyPersistence.Mode.POLICY_STATE_DICT

    def best_weights(self, run: perdure.Run) -> dict[str, torch.Tensor]:
        policy = self.build().policy
        world = perdure.World(policy=policy, restore_directory=run.directory)
        PolicyPersistence(mode=self.mode).restore(policy, world, device="cpu")
        return policy.state_dict()


class Labels(Case):
    """Checkpoints with counters, metrics, tags and a pin."""

    name = "labels"
    commits = (2, 4)

    def build(self) -> perdure.World:
        return perdure.World(count=0)

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        world.count += 1

    def commit(self, world: perdure.World, run: perdure.Run, step: int) -> None:
        run.checkpoint(
            world,
            step,
            counters={"epoch": step * 10, "where": {"file": 3}},
            metrics={"return": step / 2, "loss": float("nan"), "worst": float("-inf")},
            tags=[f"step {step}", "naïve Ω"],
            pin=step == 2,
        )

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        last = run.last
        assert last is not None
        return {
            "count": world.count,
            "step": last.step,
            "counters": plain(dict(last.counters)),
            "metrics": {name: repr(value) for name, value in sorted(last.metrics.items())},
            "tags": sorted(last.tags),
        }


class AgentToday:
    """A class that the stored run knows as `agents_of_old:AgentOfOld`."""

    def __init__(self) -> None:
        self.knows = [0]
        self.friend: Any = None


class Renamed(Case):
    """Objects of a class that has another name today; two of them were created while the training ran."""

    name = "renamed"
    #: `make.py` puts the class with its old name here.
    agent = AgentToday

    def prepare(self) -> None:
        perdure.renamed("agents_of_old:AgentOfOld", AgentToday)

    def build(self) -> perdure.World:
        return perdure.World(agent=self.agent(), others=[])

    def begin(self, world: perdure.World) -> None:
        world.others += [self.agent(), self.agent()]
        world.agent.friend = world.others[0]

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        world.agent.knows.append(len(world.agent.knows))
        world.agent.friend.knows.append(world.agent.knows[-1] * 10)

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        return {
            "knows": plain(world.agent.knows),
            "others know": [plain(each.knows) for each in world.others],
            "the friend is the other one": world.agent.friend is world.others[0],
        }


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Values(Case):
    """Every kind of value, sharing and views among them."""

    name = "values"

    def build(self) -> perdure.World:
        base = np.zeros((4, 6), np.int16)
        return perdure.World(
            values={},
            base=base,
            view=base[1:3, ::2],
            turned=base.T,
            tensor=torch.zeros(2, 3).T,
            colour=Colour.RED,
        )

    def begin(self, world: perdure.World) -> None:
        shared = [1, 2]
        world.values.update(
            numbers=[0, -1, 2**70, 0.1, float("inf"), float("nan"), -0.0, 1 + 2j, True, None],
            text="naïve Ω \x00 \ud800",
            data=b"\x00\xff",
            containers=[(1, (2,)), {3}, frozenset({4}), {(5, "six"): 7}, range(1, 9, 3), slice(None, 3)],
            queue=collections.deque([1, 2, 3], maxlen=3),
            counter=collections.Counter("abca"),
            ordered=collections.OrderedDict(b=1, a=2),
            default=collections.defaultdict(list, {"x": [1]}),
            twice=[shared, shared],
            colour=Colour.GREEN,
            kinds=[np.float16(0.5), np.int8(-3), np.datetime64("2020-01-02"), np.dtype(">i4"), torch.float16],
            arrays=[
                np.arange(3, dtype=">i4"), np.array(5), np.zeros((0, 2)), np.array([1 + 1j]),
                np.array(["a", "bcd"]), torch.tensor([1.5], dtype=torch.bfloat16).float(), torch.tensor([True]),
            ],
            long_run=list(range(100)),
        )  # fmt: skip
        world.values["itself"] = world.values
        world.tensor += 1

    def step(self, world: perdure.World, run: perdure.Run) -> None:
        world.base += np.arange(24, dtype=np.int16).reshape(4, 6)
        world.view[:] += 100
        world.tensor[2, 1] += 5
        world.values["queue"].append(len(world.values["long_run"]))
        world.values["twice"][0].append(3)
        world.values["long_run"].append(0.5)
        world.values["default"]["y"].append(1)

    def facts(self, world: perdure.World, run: perdure.Run) -> dict[str, Any]:
        values = world.values
        return {
            **{
                name: plain(value)
                for name, value in values.items()
                if name not in ("itself", "text", "numbers")
            },
            "numbers": [repr(each) for each in values["numbers"]],
            "text": ascii(values["text"]),
            "types": {name: type(value).__name__ for name, value in values.items()},
            "shared": [
                values["itself"] is values,
                values["twice"][0] is values["twice"][1],
                bool(np.shares_memory(world.base, world.view)),
                bool(np.shares_memory(world.base, world.turned)),
            ],
            "view": plain(world.view),
            "base": plain(world.base),
            "tensor": plain(world.tensor),
            "strides": [list(world.view.strides), list(world.tensor.stride())],
        }


#: All cases by name.
CASES: dict[str, Case] = {
    case.name: case()
    for case in (
        Weights, Buffer, Environment, Worker, Replay, Best, BestStateDict, Labels, Renamed, Values
    )
}  # fmt: skip

#: How many steps a stored run has made; the training that made it went on to the last one.
STORED, LAST = 4, 7


def draws() -> list[int]:
    """The next number of each generator."""
    return [random.randrange(1000), int(np.random.randint(1000)), int(torch.randint(1000, ()))]


def scramble() -> None:
    """Have the generators in another state than any run."""
    random.seed(99)
    np.random.seed(98)
    torch.manual_seed(97)

"""The environments to check, as data.

:data:`CASES` by name, a family and a case ("classic/CartPole-v1"), with the arguments of `perdure check-env`.
:data:`UNREACHED` lists environments that are not here, and why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAKERS = "environments.makers:"


@dataclass(frozen=True)
class Case:
    """One environment.

    :param env: as in `perdure check-env ENV`.
    :param options: of :func:`perdure.check_env.env_spec`.
    :param venv: the virtual environment that has its packages (see `venvs`).
    :param expect: the expected verdict.
    :param note: a remark for the table.
    """

    env: str
    options: dict[str, Any] = field(default_factory=dict)
    venv: str = "main"
    steps: int = 500
    cut: int = 200
    ignore: tuple[str, ...] = ()
    expect: str = "exact"
    note: str = ""


CASES: dict[str, Case] = {}


def _add(
    family: str,
    name: str,
    env: str,
    *,
    imports: tuple[str, ...] = (),
    replay: bool = False,
    vector: str = "",
    wrappers: tuple[Any, ...] = (),
    kwargs: dict[str, Any] | None = None,
    **rest: Any,
) -> None:
    options = {"kwargs": kwargs, "imports": imports, "replay": replay, "vector": vector, "wrappers": wrappers}
    CASES[f"{family}/{name}"] = Case(env, {key: value for key, value in options.items() if value}, **rest)


def _each(family: str, ids: str, **rest: Any) -> None:
    for name in ids.split():
        _add(family, name, name, **rest)


def _made(family: str, name: str, maker: str, *, kwargs: dict[str, Any] | None = None, **rest: Any) -> None:
    _add(family, name, MAKERS + maker, kwargs=kwargs, **rest)


# -- Gymnasium's own -----------------------------------------------------------------------------------------

_each("classic", "CartPole-v1 Pendulum-v1 Acrobot-v1 MountainCar-v0 MountainCarContinuous-v0")
_made("classic", "CartPole-v1 heavily wrapped", "heavily_wrapped")
_made("classic", "CartPole-v1 sticky, delayed", "delayed")
_made("classic", "CartPole-v1 with its picture", "rendered", steps=150)
_add("classic", "CartPole-v1 autoreset", "CartPole-v1", wrappers=("gymnasium.wrappers:Autoreset",))
_made("classic", "Pendulum-v1 as in CleanRL", "continuous", kwargs={"env_id": "Pendulum-v1"})
_made("classic", "Pendulum-v1 discretized, rescaled", "discretized")
_each(
    "toy text", "FrozenLake-v1 FrozenLake8x8-v1 Blackjack-v1 Taxi-v4 CliffWalking-v1 CliffWalkingSlippery-v1"
)

_each("Box2D", "LunarLander-v3", expect="refused", note="without replay")
_WORLD = "a new physics world for each episode, which changes the episodes after the first in their last bits"
for _id in (
    "LunarLander-v3",
    "LunarLanderContinuous-v3",
    "BipedalWalker-v3",
    "BipedalWalkerHardcore-v3",
    "CarRacing-v3",
):
    _made(
        "Box2D",
        f"{_id} replayed",
        "box2d_replayed",
        kwargs={"env_id": _id},
        note="" if _id.startswith("Lunar") else _WORLD,
    )
_made(
    "Box2D",
    "LunarLander-v3 with wind, replayed",
    "box2d_replayed",
    kwargs={"env_id": "LunarLander-v3", "enable_wind": True},
)
_made(
    "Box2D",
    "LunarLander-v3 replayed, in wrappers",
    "box2d_replayed",
    kwargs={"env_id": "LunarLander-v3", "wrapped": True},
)

_each(
    "MuJoCo",
    "HalfCheetah-v5 Hopper-v5 Walker2d-v5 Ant-v5 Humanoid-v5 HumanoidStandup-v5 Swimmer-v5 Reacher-v5 Pusher-v5 "
    "InvertedPendulum-v5 InvertedDoublePendulum-v5",
)
for _id in ("HalfCheetah-v5", "Ant-v5", "Humanoid-v5"):
    _made("MuJoCo", f"{_id} as in CleanRL", "continuous", kwargs={"env_id": _id})
_each("MuJoCo", "Ant-v4 Humanoid-v4 Walker2d-v4 InvertedDoublePendulum-v4")

# -- Atari ---------------------------------------------------------------------------------------------------

for _game in (
    "Pong",
    "Breakout",
    "SpaceInvaders",
    "MsPacman",
    "Seaquest",
    "MontezumaRevenge",
    "Qbert",
    "Enduro",
    "Freeway",
    "Asterix",
    "Pitfall",
    "Tennis",
):
    _made("Atari", f"{_game} preprocessed, stacked, sticky", "atari", kwargs={"game": _game})
_made("Atari", "Pong preprocessed, not sticky", "atari", kwargs={"game": "Pong", "sticky": 0.0})
_made("Atari", "Breakout raw", "atari_plain", kwargs={"game": "Breakout"})
_made("Atari", "Breakout memory", "atari_plain", kwargs={"game": "Breakout", "obs_type": "ram"})
_made(
    "Atari",
    "SpaceInvaders frameskip 2 to 5",
    "atari_plain",
    kwargs={"game": "SpaceInvaders", "frameskip": [2, 5]},
)
_made("Atari", "Hero continuous actions", "atari_plain", kwargs={"game": "Hero", "continuous": True})
_made("Atari", "Breakout as in Stable-Baselines3", "atari_stable_baselines", kwargs={"game": "Breakout"})
_made("Atari", "Breakout as in CleanRL", "atari_cleanrl", kwargs={"game": "Breakout"})
_made(
    "Atari",
    "Breakout with sound",
    "atari_plain",
    kwargs={"game": "Breakout", "sound_obs": True},
    expect="refused",
    note="the emulator's state has no sound; episodes can be replayed",
)

# -- grids, boards, particles --------------------------------------------------------------------------------

_each(
    "MiniGrid",
    "MiniGrid-DoorKey-8x8-v0 MiniGrid-Dynamic-Obstacles-8x8-v0 MiniGrid-KeyCorridorS3R3-v0 "
    "MiniGrid-MultiRoom-N4-S5-v0 MiniGrid-ObstructedMaze-1Dlhb-v0 MiniGrid-FourRooms-v0 MiniGrid-LockedRoom-v0 "
    "MiniGrid-MemoryS7-v0 MiniGrid-PutNear-6x6-N2-v0 MiniGrid-Fetch-8x8-N3-v0 MiniGrid-BlockedUnlockPickup-v0",
    imports=("minigrid",),
)
_each(
    "BabyAI",
    "BabyAI-GoToRedBall-v0 BabyAI-BossLevel-v0 BabyAI-PutNextS5N2Carrying-v0 BabyAI-SynthLoc-v0",
    imports=("minigrid",),
)
_made(
    "MiniGrid",
    "MiniGrid-DoorKey-8x8-v0 as images",
    "minigrid",
    kwargs={"env_id": "MiniGrid-DoorKey-8x8-v0"},
    imports=("minigrid",),
)

for _id in (
    "connect_four_v3",
    "tictactoe_v3",
    "rps_v2",
    "chess_v6",
    "go_v5",
    "texas_holdem_v4",
    "leduc_holdem_v4",
    "texas_holdem_no_limit_v6",
):
    _add("PettingZoo classic", _id, f"pettingzoo.classic.{_id}")
for _id in (
    "simple_v3",
    "simple_spread_v3",
    "simple_tag_v3",
    "simple_speaker_listener_v4",
    "simple_world_comm_v3",
    "simple_crypto_v3",
    "simple_push_v3",
    "simple_adversary_v3",
    "simple_reference_v3",
):
    _add("MPE2", f"{_id} parallel", f"mpe2.{_id}", kwargs={"parallel": True, "max_cycles": 25})
_add(
    "PettingZoo classic",
    "hanabi_v5 replayed",
    "pettingzoo.classic.hanabi_v5",
    replay=True,
    expect="not reproducible",
    note="its cards are dealt by a generator that no seed reaches",
)
_add("MPE2", "simple_spread_v3 in turns", "mpe2.simple_spread_v3", kwargs={"max_cycles": 25})
_add(
    "butterfly",
    "cooperative_pong_v6 parallel",
    "pettingzoo.butterfly.cooperative_pong_v6",
    kwargs={"parallel": True},
)
_add(
    "butterfly",
    "knights_archers_zombies_v11 parallel",
    "pettingzoo.butterfly.knights_archers_zombies_v11",
    kwargs={"parallel": True},
)
_add("butterfly", "knights_archers_zombies_v11 in turns", "pettingzoo.butterfly.knights_archers_zombies_v11")
_add(
    "SISL", "pursuit_v5 parallel", "pettingzoo.sisl.pursuit_v5", kwargs={"parallel": True, "max_cycles": 100}
)
_add(
    "SISL",
    "multiwalker_v9 parallel",
    "pettingzoo.sisl.multiwalker_v9",
    kwargs={"parallel": True, "max_cycles": 100},
    expect="refused",
    note="Box2D, without replay",
)
for _name, _kwargs in (
    ("in turns", {"max_cycles": 100}),
    ("parallel", {"parallel": True, "max_cycles": 100}),
):
    _add(
        "SISL",
        f"multiwalker_v9 {_name}, replayed",
        "pettingzoo.sisl.multiwalker_v9",
        kwargs=_kwargs,
        replay=True,
    )

# -- driving, physics, games ---------------------------------------------------------------------------------

_UNSEEDED = ("reset info*", "info['action']*", "info['rewards']*", "*_space.sample()*")
for _id in (
    "highway-v0",
    "merge-v0",
    "roundabout-v0",
    "parking-v0",
    "intersection-v0",
    "racetrack-v0",
    "two-way-v0",
):
    _add(
        "highway-env",
        _id,
        _id,
        imports=("highway_env",),
        ignore=_UNSEEDED,
        # A step of the first takes a third of a second.
        steps=60 if _id == "highway-v0" else 100,
        note="its reset makes its spaces anew, unseeded, and draws from them for its info: neither is compared",
    )

for _domain, _task in (
    *(
        ("cartpole", "swingup"),
        ("cheetah", "run"),
        ("humanoid", "walk"),
        ("quadruped", "run"),
        ("finger", "spin"),
    ),
    *(
        ("manipulator", "bring_ball"),
        ("walker", "walk"),
        ("dog", "run"),
        ("fish", "swim"),
        ("stacker", "stack_2"),
    ),
    *(("hopper", "hop"), ("reacher", "easy"), ("ball_in_cup", "catch"), ("swimmer", "swimmer6")),
):
    _made(
        "dm_control",
        f"{_domain}-{_task}",
        "deepmind",
        kwargs={"domain": _domain, "task": _task},
        venv="dm_control",
    )
_made(
    "dm_control",
    "cheetah-run, legacy_step=False",
    "deepmind",
    kwargs={"domain": "cheetah", "task": "run", "legacy_step": False},
    venv="dm_control",
)

for _id in ("VizdoomBasic-v1", "VizdoomDefendCenter-v1", "VizdoomMyWayHome-v1"):
    _made("VizDoom", f"{_id} replayed", "doom_replayed", kwargs={"env_id": _id})
_made("NetHack", "NetHackScore-v0 replayed", "nethack_replayed", venv="nle")
_made(
    "PyBullet", "cart and pole", "bullet", expect="different", note="without replay: found out by the check"
)
_made("PyBullet", "cart and pole replayed", "bullet_replayed")
_made(
    "Crafter",
    "crafter",
    "crafter",
    expect="not reproducible",
    note="iterates over sets of objects, ordered by where they lie in memory",
)

# -- in vectors ----------------------------------------------------------------------------------------------

for _mode in ("sync", "async"):
    for _reset in ("NEXT_STEP", "SAME_STEP", "DISABLED"):
        _made(
            "Gymnasium vectors",
            f"{_mode}, {_reset.lower()}",
            "vector",
            kwargs={"mode": _mode, "autoreset": _reset},
        )
    _made("Gymnasium vectors", f"{_mode} in three wrappers", "two_vector_wrappers", kwargs={"mode": _mode})
    _made(
        "Gymnasium vectors",
        f"{_mode} of HalfCheetah-v5",
        "vector",
        kwargs={"mode": _mode, "autoreset": "NEXT_STEP", "env_id": "HalfCheetah-v5"},
    )
_made(
    "Gymnasium vectors",
    "async, without shared memory",
    "vector",
    kwargs={"mode": "async", "autoreset": "NEXT_STEP", "shared": False},
)
for _id in ("CartPole-v1", "HalfCheetah-v5"):
    _made(
        "Gymnasium vectors",
        f"async of {_id}, spawned",
        "vector",
        kwargs={"mode": "async", "autoreset": "NEXT_STEP", "env_id": _id, "context": "spawn"},
    )
_made("Gymnasium vectors", "async of Breakout", "atari_in_processes")
_add("Gymnasium vectors", "async of LunarLander-v3 replayed", "LunarLander-v3", replay=True, vector="async:3")
for _kind in ("dummy", "subproc"):
    for _id in ("CartPole-v1", "HalfCheetah-v5"):
        _made(
            "Stable-Baselines3 vectors",
            f"{_kind} of {_id}, VecMonitor, VecFrameStack, VecNormalize",
            "stable_baselines_vector",
            kwargs={"kind": _kind, "env_id": _id},
        )
_add("Stable-Baselines3 vectors", "subproc (spawn)", "CartPole-v1", vector="sb3-subproc:3")
_made(
    "Stable-Baselines3 vectors",
    "subproc of Breakout",
    "atari_in_processes",
    kwargs={"library": "stable_baselines3"},
)
for _kind in ("dummy", "subproc", "shmem"):
    for _id in ("CartPole-v1", "HalfCheetah-v5"):
        _made(
            "Tianshou vectors",
            f"{_kind} of {_id}, VectorEnvNormObs",
            "tianshou_vector",
            kwargs={"kind": _kind, "env_id": _id},
        )
_made("Tianshou vectors", "subproc of Breakout", "atari_in_processes", kwargs={"library": "tianshou"})
for _id in ("CartPole-v1", "HalfCheetah-v5"):
    _add(
        "Tianshou vectors",
        f"ray of {_id}",
        _id,
        vector="tianshou-ray:3",
        venv="ray",
        ignore=("*action_space.sample()*",),
        note="Tianshou does not seed the action spaces of the actors: what they draw is not compared",
    )
for _game in ("breakout", "pong"):
    _made(
        "pools in native code",
        f"AtariVectorEnv {_game} replayed",
        "atari_vector_replayed",
        kwargs={"game": _game},
    )
_made(
    "pools in native code",
    "AtariVectorEnv breakout bounded",
    "atari_vector_replayed",
    kwargs={"game": "breakout", "max_replay_steps": 150},
)
_made(
    "pools in native code",
    "AtariVectorEnv breakout",
    "atari_vector",
    kwargs={"game": "breakout"},
    expect="refused",
    note="without replay",
)
for _id in ("CartPole-v1", "Pong-v5", "HalfCheetah-v4", "LunarLander-v2"):
    _add("pools in native code", f"EnvPool {_id} replayed", f"envpool/{_id}", replay=True)
_add(
    "pools in native code",
    "EnvPool CartPole-v1 bounded",
    "envpool/CartPole-v1",
    replay=True,
    kwargs={"max_replay_steps": 150},
)
_add(
    "pools in native code",
    "EnvPool CartPole-v1",
    "envpool/CartPole-v1",
    expect="refused",
    note="without replay",
)

#: What is not checked, and why.
UNREACHED = (
    ("procgen", "no package of it for Python 3.11"),
    ("PettingZoo Atari", "its ROMs are not in a package"),
    (
        "metaworld, gymnasium-robotics, stable-retro",
        "not installed here; MuJoCo's handler is meant for the first two",
    ),
    (
        "environments on a GPU (Isaac, Brax, gymnax, Craftax)",
        "their state is a tree of arrays that the training loop holds: it is "
        "captured with the world where these are NumPy arrays or torch tensors",
    ),
)

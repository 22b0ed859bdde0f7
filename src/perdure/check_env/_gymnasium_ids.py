"""Gymnasium ids: imports the package that registers one, and says which ids are close where there is none.

Gymnasium knows an environment only once the package that registers it has been imported. This module knows ids and
packages, and nothing of checks.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from typing import NamedTuple

from perdure.errors import EnvSpecError


class _Package(NamedTuple):
    """What registers ids.

    :param ids: how they begin.
    :param module: importing it registers them.
    :param install: what pip calls it.
    """

    ids: str
    module: str
    install: str


_PACKAGES = tuple(
    _Package(*each)
    for each in (
        (r"ALE/|\w+(NoFrameskip|Deterministic)-v[04]$", "ale_py", "ale-py"),
        (r"(MiniGrid|BabyAI)-", "minigrid", "minigrid"),
        (r"MiniWorld-", "miniworld", "miniworld"),
        (
            r"(highway|merge|roundabout|parking|intersection|racetrack|exit|two-way|u-turn|lane-keeping)\b",
            "highway_env",
            "highway-env",
        ),
        (
            r"mo-|(deep-sea-treasure|minecart|resource-gathering|fishwood|four-room|fruit-tree|water-reservoir)\b",
            "mo_gymnasium",
            "mo-gymnasium",
        ),
        (
            r"Fetch|Hand(Reach|Manipulate)|(Ant|Point)Maze_|AdroitHand|FrankaKitchen",
            "gymnasium_robotics",
            "gymnasium-robotics",
        ),
        (r"(dm_control|bsuite|openspiel|meltingpot)/|GymV2[16]Environment", "shimmy", "shimmy"),
        (r"Meta-World/", "metaworld", "metaworld"),
        (r"PyFlyt/", "PyFlyt.gym_envs", "PyFlyt"),
        (r"Panda", "panda_gym", "panda-gym"),
        (r"Vizdoom", "vizdoom.gymnasium_wrapper", "vizdoom"),
        (r"NetHack", "nle", "nle"),
        (r"FlappyBird", "flappy_bird_gymnasium", "flappy-bird-gymnasium"),
        (r"browsergym/", "browsergym.core", "browsergym"),
    )
)
#: Packages that need Gymnasium and register nothing; importing them takes long.
_REGISTER_NOTHING = frozenset(
    (
        "perdure",
        "gymnasium",
        "stable-baselines3",
        "sb3-contrib",
        "tianshou",
        "torchrl",
        "pettingzoo",
        "supersuit",
        "ray",
    )
)
_VERSION = re.compile(r"-v\d+\Z")
_CLOSE = 5


def register(name: str) -> str:
    """Let Gymnasium know an id, if some installed package registers it.

    :return: the module that had to be imported for that; "" if there was none.
    :raises EnvSpecError: if no installed package registers it; it names the ids that are close.
    """
    if is_registered(name):
        return ""
    for module in _modules(name):
        if _import(module) and is_registered(name):
            return module
    raise EnvSpecError(_unknown(name))


def is_registered(name: str) -> bool:
    """Whether Gymnasium knows an id; without a version it stands for its latest one, as in Gymnasium."""
    known = _known()
    return name in known or any(_VERSION.sub("", each) == name for each in known)


def _known() -> list[str]:
    import gymnasium

    return list(gymnasium.registry)


def _modules(name: str) -> Iterator[str]:
    """The modules that may register an id, the likeliest first."""
    yield from (package.module for package in _PACKAGES if re.match(package.ids, name))
    namespace, slash, _ = name.rpartition("/")
    if slash:
        yield from dict.fromkeys(
            (namespace, namespace.replace("-", "_"), namespace.replace("-", "_").lower())
        )
    if _other_versions(name):
        return
    for distribution in importlib.metadata.distributions():
        if distribution.name.lower().replace("_", "-") not in _REGISTER_NOTHING and _needs_gymnasium(
            distribution
        ):
            yield from _modules_of(distribution)


def _needs_gymnasium(distribution: importlib.metadata.Distribution) -> bool:
    return any(re.match(r"gymnasium\b(?!-)(?!.*\bextra\b)", each) for each in distribution.requires or ())


def _modules_of(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    files = distribution.files or ()
    inside = {file.parts[0] for file in files if len(file.parts) == 2 and file.name == "__init__.py"}
    # Of one that is installed to be edited, no file is listed.
    yield from sorted(inside | set((distribution.read_text("top_level.txt") or "").split()))


def _import(module: str) -> bool:
    """Import a module that is a guess: whatever is wrong with it is no matter of this id."""
    try:
        if (
            all(part.isidentifier() for part in module.split("."))
            and importlib.util.find_spec(module) is not None
        ):
            importlib.import_module(module)
            return True
    except Exception:
        return False
    return False


# -- what is said of an id that nothing registers ------------------------------------------------------------


def _unknown(name: str) -> str:
    said = f"there is no environment {name!r}"
    for package in _PACKAGES:
        if re.match(package.ids, name) and not _import(package.module):
            return (
                f"{said} here: {package.module} registers those, and cannot be imported. "
                f"Install it (pip install {package.install})"
            )
    near = _near(name)
    if near:
        said += f". Close to it: {', '.join(near)}"
    return (
        f"{said}. Expected a Gymnasium id (CartPole-v1), module:id, module:factory, mine.py:factory, a module of "
        "PettingZoo, dm_control/domain-task or envpool/id. If a package of yours registers it, put its module in front "
        f"(module:{name.rpartition(':')[2] or 'id'})"
    )


def _near(name: str) -> list[str]:
    bare = {each: _bare(each) for each in _known()}
    close = difflib.get_close_matches(_bare(name), set(bare.values()), _CLOSE, 0.7)
    latest = [max((each for each in bare if bare[each] == one), key=_version) for one in close]
    return list(dict.fromkeys([*_other_versions(name)[-1:], *latest]))[:_CLOSE]


def _other_versions(name: str) -> list[str]:
    """The ids that differ in their version alone, the latest last."""
    return sorted(
        (each for each in _known() if _VERSION.sub("", each) == _VERSION.sub("", name)), key=_version
    )


def _bare(name: str) -> str:
    """An id without its version and namespace, in small letters."""
    return _VERSION.sub("", name).rpartition("/")[2].lower()


def _version(name: str) -> int:
    found = _VERSION.search(name)
    return int(found[0][2:]) if found else -1

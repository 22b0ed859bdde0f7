"""Box2D's environments: what `EpisodeReplay` needs to know of them. Imports the library only where it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from perdure.state import leave_out


def fresh_world(env: Any) -> None:
    """Give a Box2D environment a new physics world for the episode that begins.

    For `EpisodeReplay(env, before_reset=fresh_world)`. BipedalWalker and CarRacing keep one world for all their
    episodes. What earlier episodes leave in it (the order in which the engine visits bodies, the impulses it starts
    from) changes the last bits of later ones, and cannot be reproduced by replaying one episode alone. With a new
    world, each episode is what it would be in a new environment.

    :param env: an environment with an attribute `world` and a method `_destroy`, as those of gymnasium.
    :raises TypeError: if it lacks them.
    """
    import Box2D

    base = env.unwrapped
    old = getattr(base, "world", None)
    if not isinstance(old, Box2D.b2World) or not callable(getattr(base, "_destroy", None)):
        raise TypeError(
            f"fresh_world: expected an environment with a Box2D `world` and a method `_destroy`, found a "
            f"{type(base).__name__}. Write your own before_reset for EpisodeReplay"
        )
    base._destroy()
    old.contactListener = None
    base.world = Box2D.b2World(gravity=tuple(old.gravity), doSleep=old.allowSleeping)


#: Environments whose episodes depend on earlier ones; `fresh_world` prevents that.
SHARED_WORLD = (
    "gymnasium.envs.box2d.bipedal_walker.BipedalWalker",
    "gymnasium.envs.box2d.car_racing.CarRacing",
)

# Large, and made anew by each reset.
leave_out(
    SHARED_WORLD[0],
    ("terrain", "terrain_poly", "terrain_x", "terrain_y", "cloud_poly", "drawlist"),
    "each reset makes it anew",
)
leave_out(SHARED_WORLD[1], ("track", "road", "road_poly"), "each reset makes it anew")

CAR_RACING = "gymnasium.envs.box2d.car_racing.CarRacing"


@contextlib.contextmanager
def without_frames(env: Any) -> Iterator[None]:
    """While entered, CarRacing draws nothing: each step returns the previous frame again."""
    base = env.unwrapped
    base._render = lambda mode: base.state.copy()
    try:
        yield
    finally:
        del base._render

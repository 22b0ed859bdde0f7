"""What is particular to Box2D's environments. Imports the library only where it is used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from perdure.state import leave_out


def fresh_world(env: Any) -> None:
    """Give a Box2D environment a physics world of its own for the episode that begins.

    For `EpisodeReplay(env, before_reset=fresh_world)`. BipedalWalker and CarRacing keep one world for all their
    episodes; what is left in it of the earlier ones (the order in which the engine visits bodies, the impulses it
    starts from) changes the later ones in their last bits, and no replay of one episode alone can bring that back.
    With a world of its own, each episode is what it would be in a new environment.

    :param env: with an attribute `world` and a method `_destroy`, as gymnasium's have.
    :raises TypeError: if it has not.
    """
    import Box2D

    base = env.unwrapped
    old = getattr(base, "world", None)
    if not isinstance(old, Box2D.b2World) or not callable(getattr(base, "_destroy", None)):
        raise TypeError(
            f"fresh_world: expected an environment with a Box2D `world` and a method `_destroy`, found a "
            f"{type(base).__name__}. Give EpisodeReplay a before_reset of your own"
        )
    base._destroy()
    old.contactListener = None
    base.world = Box2D.b2World(gravity=tuple(old.gravity), doSleep=old.allowSleeping)


#: Environments whose episodes depend on those before, and what helps.
SHARED_WORLD = (
    "gymnasium.envs.box2d.bipedal_walker.BipedalWalker",
    "gymnasium.envs.box2d.car_racing.CarRacing",
)

# Large, and nothing that outlives a reset.
leave_out(
    SHARED_WORLD[0],
    ("terrain", "terrain_poly", "terrain_x", "terrain_y", "cloud_poly", "drawlist"),
    "each reset makes it anew",
)
leave_out(SHARED_WORLD[1], ("track", "road", "road_poly"), "each reset makes it anew")

CAR_RACING = "gymnasium.envs.box2d.car_racing.CarRacing"


@contextlib.contextmanager
def without_frames(env: Any) -> Iterator[None]:
    """While entered, CarRacing draws nothing: a step gives the frame before it once more."""
    base = env.unwrapped
    base._render = lambda mode: base.state.copy()
    try:
        yield
    finally:
        del base._render

"""How the state of particular environment libraries is captured and restored.

One module for each library registers the rules for its classes, by dotted class name, so that it need not import the
library. `perdure.state` imports the module when a class of the library first appears in a world. `get_set_state` and
`native_handles` are for environments of any library; `box2d` and `nethack` also have what `EpisodeReplay` needs there.
"""

from typing import TYPE_CHECKING

from perdure._lazy import attach

if TYPE_CHECKING:
    from perdure.environments.handlers.box2d import fresh_world
    from perdure.environments.handlers.nethack import seeded_game

__all__ = ["fresh_world", "seeded_game"]

__getattr__, __dir__ = attach(__name__, {"fresh_world": "box2d", "seeded_game": "nethack"})

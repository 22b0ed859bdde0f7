"""How the state of particular environment libraries is captured and restored.

Imported when a class of such a library is first met in a world; it registers its rules by dotted class name, so that
no library is imported to be known.
"""

from typing import TYPE_CHECKING

from perdure._lazy import attach, publish
from perdure.environments.handlers import _registered

if TYPE_CHECKING:
    from perdure.environments.handlers.box2d import fresh_world
    from perdure.environments.handlers.nethack import seeded_game

__all__ = ["fresh_world", "seeded_game"]

__getattr__, __dir__ = attach(__name__, {"fresh_world": "box2d", "seeded_game": "nethack"})
del _registered

publish(globals())

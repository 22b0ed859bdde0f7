"""Variables of a loop that carry state between rounds, so that no checkpoint would hold it: found, and warned of.

- `_source`: what the source says of variables. `_liveness`: which of them may be read before they are assigned.
- `_carried`: what a loop carries, by both.
- `_watch`: `Watch` finds the loop that a run is in, and looks at its objects too.
"""

from perdure._lazy import publish
from perdure.run.loops._source import stored_names
from perdure.run.loops._watch import Watch

__all__ = ["Watch", "stored_names"]

publish(globals())

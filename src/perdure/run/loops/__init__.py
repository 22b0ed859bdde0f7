"""What a loop carries from one round to the next in its variables: found in its source.

`perdure.loop` captures it; of other loops Perdure warns of what no checkpoint would hold.

- `_source`: what the source says of variables. `_liveness`: which of them may be read before they are assigned.
- `_carried`: what a loop carries, by both.
- `_frame`: reads and writes the variables of a running function.
- `_loop_variables`: `LoopVariables`, what `perdure.loop` captures and restores.
- `_watch`: `Watch` finds the loop that a run is in, and looks at its objects too. `_around_calls`: all loops around a
  call.
"""

from perdure._lazy import publish
from perdure.run.loops._around_calls import LoopsAroundCalls
from perdure.run.loops._loop_variables import LoopVariables, find_loop, needed_names
from perdure.run.loops._source import CHANGING, calls_in, changed_names, own_nodes, stored_names
from perdure.run.loops._watch import ModuleVariables, Place, Watch, at_head, module_variables

__all__ = [
    "CHANGING",
    "LoopVariables",
    "LoopsAroundCalls",
    "ModuleVariables",
    "Place",
    "Watch",
    "at_head",
    "calls_in",
    "changed_names",
    "find_loop",
    "module_variables",
    "needed_names",
    "own_nodes",
    "stored_names",
]

publish(globals())

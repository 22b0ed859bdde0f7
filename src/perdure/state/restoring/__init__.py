"""From a `State` back into live objects: match everything, order it, check it, then write.

Each step returns its result, and the next one takes it:

- `_process_strings`: which saved strings give way to this process's own: places and secrets (`OwnStrings`).
- `_match`: which live object belongs to which saved node, and what does not fit (`Matches`).
- `_order`: what is written, and in which order missing objects are made (`RestorePlan`). `_constructible` says which
  objects may be made and why others may not, `_keys` and `_resource_limits` what a file may ask of the machine.
- `_read_arrays`: the bytes of all arrays, before anything else is changed (`Contents`).
- `_apply`: writes the plan into the world (`Written`).
- `_override`: values that win over those of the saved state, which is changed before it is matched.
- `_restore`: joins them; `prepare` is everything that changes nothing.
- `_built`: the world as the script built it, which later checkpoints are matched with (`BuiltWorld`).
"""

from perdure._lazy import publish
from perdure.state.restoring._apply import FilledArray
from perdure.state.restoring._built import BuiltWorld
from perdure.state.restoring._constructible import unassignable
from perdure.state.restoring._override import FROM_SCRIPT, Overridden, override
from perdure.state.restoring._override import signature as override_signature
from perdure.state.restoring._restore import Restoration, Restored, check, prepare, restore

__all__ = [
    "FROM_SCRIPT",
    "BuiltWorld",
    "FilledArray",
    "Overridden",
    "Restoration",
    "Restored",
    "check",
    "override",
    "override_signature",
    "prepare",
    "restore",
    "unassignable",
]

publish(globals())

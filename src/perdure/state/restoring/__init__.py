"""From a `State` back into live objects: match everything, order it, check it, then write.

- `_match`: which live object stands for which node, and what does not fit; `_plan` is its result.
- `_order`: what has to be made after its contents.
- `_constructible`: what may be made where the script has nothing, and why other things may not.
- `_resource_limits`: what a file may ask of the machine.
- `_read_arrays`: the bytes of all arrays, before anything else is changed.
- `_apply`: writes the plan into the world.
"""

from perdure.state.restoring._constructible import unassignable
from perdure.state.restoring._restore import check, restore

__all__ = ["check", "restore", "unassignable"]

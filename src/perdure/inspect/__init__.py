"""What lies in the directory of a run, without opening it for training: list it, verify it, repair it.

The command line shows what this package finds.

Vocabulary: *status*: whether a run or a checkpoint can be used, and why not; *leaf*: a path of a checkpoint's tree
with its type and size; *step*: one thing that a repair would do.
"""

from perdure._lazy import publish
from perdure.inspect._leaves import Leaf, leaves_of
from perdure.inspect._policies import RepairPlan, Step, check_policies, plan_repair, repair
from perdure.inspect._runs import RunStatus, find_runs, is_run, look, without_directory

__all__ = [
    "Leaf",
    "RepairPlan",
    "RunStatus",
    "Step",
    "check_policies",
    "find_runs",
    "is_run",
    "leaves_of",
    "look",
    "plan_repair",
    "repair",
    "without_directory",
]

publish(globals())

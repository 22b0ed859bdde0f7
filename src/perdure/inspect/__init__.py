"""What lies in the directory of a run, without opening it for training: list it, verify it, repair it.

The command line shows what this package finds.

Vocabulary: *look*: one reading of a run's manifests; *leaf*: a path of a checkpoint's tree with its type and size;
*step*: one thing that a repair would do.
"""

from perdure.inspect._leaves import Leaf, leaves_of
from perdure.inspect._policies import Plan, Step, check_policies, plan_repair, repair
from perdure.inspect._runs import (
    DAMAGED,
    EMPTY,
    NEWER,
    OK,
    Look,
    Seen,
    checkpoint_document,
    find,
    holder,
    is_run,
    look,
    run_document,
    without_directory,
)

__all__ = [
    "DAMAGED",
    "EMPTY",
    "NEWER",
    "OK",
    "Leaf",
    "Look",
    "Plan",
    "Seen",
    "Step",
    "check_policies",
    "checkpoint_document",
    "find",
    "holder",
    "is_run",
    "leaves_of",
    "look",
    "plan_repair",
    "repair",
    "run_document",
    "without_directory",
]

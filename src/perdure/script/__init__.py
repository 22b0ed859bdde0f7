"""Runs an unmodified training script so that it survives being killed: `perdure run train.py`.

The source is read, its training loops are found, and calls are inserted around them that do what `perdure.loop` does.
Set-up code runs again in every process and gets the same answers from the clock.

- `_run_script`: what `perdure run` does, from the command to the end of the script.
- `_sources`: the files of a script. `_calls`, `_training_loops`: which of its loops are the training.
- `_rewrite`: inserts the calls. `_session`: what they do. `_clock`: answers of the clock.
- `_libraries`: training calls of libraries go through the integrations.
- `_execute`: runs the script as `__main__`. `_record`: what is kept besides the checkpoints.
- `_restarts`: starts a command again when it dies.
"""

from perdure._lazy import publish
from perdure.script._record import RUNS
from perdure.script._restarts import with_restarts
from perdure.script._run_script import (
    Script,
    cadence,
    described,
    directory_for,
    read_script,
    run_script,
    set_aside,
)

__all__ = [
    "RUNS",
    "Script",
    "cadence",
    "described",
    "directory_for",
    "read_script",
    "run_script",
    "set_aside",
    "with_restarts",
]

publish(globals())

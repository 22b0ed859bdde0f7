"""A training run and its directory: resume it, checkpoint it, keep its best policy, leave when asked to.

It joins worlds (`perdure.state`), copies (`perdure.snapshot`) and files (`perdure.store`).

- `_run`: `Run`, what users work with.
- `_loop`: `loop`, which makes a loop resumable by one line.
- `_resuming`: brings a world to where a checkpoint was, and compares the script with the one that began the run.
- `_record`: what a run keeps of itself in its checkpoints. `_console`: how it speaks to its user.
- `_cadence`: when the next checkpoint is due.
- `_checkpointer`: commits one checkpoint at a time, in a background thread.
- `_best_policy`: publishes the best policy and remembers its score.
- `_script_check`: notices that the script was edited since the run began.
- `_code_prints`: the code and the constants that a world uses, to notice that they were edited.
- `_override`: values of the user's that win over those of the checkpoint.
- `loops`: finds the variables in which a loop carries state from one round to the next.
- `carriers`, `_script_state`: capture what the script keeps outside of objects.
- `_clocks`: moments from which a training counts time, which go on without the time in which nobody trained.
- `_outputs`: which objects only show a run.
- `_restorable`: tells when a checkpoint is taken that a fresh process could not restore.
- `_process_record`: which process wrote a checkpoint, and what is different in this one.
- `_user_frames`: where in the user's script something happened.
- `_same_command`: a run that another job holds, that is finished, or that is never found again.
- `_signals`: SIGTERM, SIGHUP and Ctrl-C ask for a checkpoint; then the process exits.
"""

from perdure._lazy import publish
from perdure.errors import Preempted
from perdure.run._clocks import SCRIPT_CLOCK as SCRIPT_CLOCK
from perdure.run._console import say as say
from perdure.run._console import shown as shown
from perdure.run._loop import Rounds as Rounds
from perdure.run._loop import loop
from perdure.run._run import Run

__all__ = ["Preempted", "Run", "loop"]

publish(globals())

"""The outputs of a run: logs, curves and other files, which go on where the checkpoint was.

Knows files and the objects that write them, and nothing of states or of the training.

Vocabulary:

- *writer*: an object of this process that writes a file: an open file, a thread that writes TensorBoard's events.
- *entry*: what a checkpoint says of one file: its length, and the checksum of that.
- *copy*: the bytes of a file that the run keeps in its own directory, for scripts that empty their files at the start.
- *aside*: where what was written after the checkpoint is put when the run is resumed.
"""

from perdure._lazy import publish
from perdure.outputs._outputs import KEEP as KEEP
from perdure.outputs._outputs import Outputs as Outputs
from perdure.outputs._registered import register_output
from perdure.outputs._services import go_on_with as go_on_with
from perdure.outputs._services import services as services

__all__ = ["register_output"]

publish(globals())

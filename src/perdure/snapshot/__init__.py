"""Copies what changed, so that the training goes on while a background thread writes it.

This is all that the training waits for at a checkpoint. `Stager.stage` copies the rows of a replay buffer that were
written since the last checkpoint (`_dirty_rows`), the chunks of other large arrays whose checksums changed, and all
small arrays. Knows live arrays and what is stored of them, and no files.

Vocabulary: *stage*: to copy the bytes of this moment; *arena*: the memory they are copied to, used again each time;
*dirty rows*: those that were written since the last checkpoint.
"""

from perdure._lazy import publish
from perdure.snapshot._stager import ChangedWhileCopied, Stager, Staging

__all__ = ["ChangedWhileCopied", "Stager", "Staging"]

publish(globals())

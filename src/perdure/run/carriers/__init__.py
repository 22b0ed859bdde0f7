"""State that no object holds: variables of modules, attributes of classes and functions, closures, caches.

When a loop begins, what these hold is remembered. What has changed since then becomes part of the checkpoints, and is
written back when the run is resumed; what cannot be written back is told.

Vocabulary:

- *own module*: one of the script's, not an installed package.
- *carrier*: a place outside of objects that holds something, with a name that leads to it in any process of the script:
  `helper:count`, `train:Meter.total`, `train:schedule.<closure>.n`.
- *holder*: what has carriers: a module, a class, a function, the cache of a function.
- *mark*: what something was like, so that a change is seen fast.

Modules:

- `_own_modules`: which modules are the script's own.
- `_holders`: the kinds of holders: how their carriers are read, written and called.
- `_survey`: finds the holders.
- `_marks`: tells whether something has changed.
- `_late`: what of something that came while the training ran has changed already.
- `_running`: which variables of a module its running code assigns, so that they are the business of a loop.
- `_carriers`: `Carriers` of one run: what has changed, is captured, written back, or told.
"""

from perdure._lazy import publish
from perdure.run.carriers._carriers import PART, Carriers

__all__ = ["PART", "Carriers"]

publish(globals())

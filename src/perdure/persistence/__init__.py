"""Events, handlers and groups, and the policy's files: what the reference API calls persistence.

A `Persistence` handler persists and restores when an event occurs (`PersistEvent`, `RestoreEvent`); a
`PersistenceGroup` is several of them. `PolicyPersistence` writes the policy, as a whole or as its state dict;
`load_policy` reads such a file and runs nothing in it that was not trusted.

Vocabulary: *version*: one directory of files that were persisted together, published as a whole (the module
`versions`); *best*: the version that `policy.pt` at the top of a run belongs to.
"""

from perdure._lazy import publish
from perdure.persistence import versions as versions
from perdure.persistence._best_record import BestRecord as BestRecord
from perdure.persistence._events import PersistEvent, RestoreEvent
from perdure.persistence._persistence import Persistence, PersistenceGroup, PolicyPersistence
from perdure.persistence.policy_file import TDevice, load_policy
from perdure.world import World

__all__ = [
    "PersistEvent",
    "Persistence",
    "PersistenceGroup",
    "PolicyPersistence",
    "RestoreEvent",
    "TDevice",
    "World",
    "load_policy",
]

publish(globals())

"""State to durable bytes and back: checkpoints that survive a kill, a power cut and a flipped bit.

Knows bytes and files, and nothing of live objects or of reinforcement learning.

Vocabulary:

- *manifest*: the JSON file that is a checkpoint; it is written last, when all that it names is durable.
- *pack*: an immutable file of array data, shared by the checkpoints that need it.
- *chunk*: a piece of an array's bytes, stored once and known by its checksum; *extent*: a part of a chunk.
- *layout*: the extents of which an array consists.
- *backend*: a place that keeps bytes under names (`backends`); `testing` has the tests that every backend must pass.
- *retention*: which checkpoints are kept, and which packs are deleted with those that are not.
"""

from perdure._lazy import publish
from perdure.store._checksummed_json import dump_checksummed as dump_checksummed
from perdure.store._checksummed_json import load_checksummed as load_checksummed
from perdure.store._checksummed_json import to_plain as to_plain
from perdure.store._files import TEMPORARY as TEMPORARY
from perdure.store._files import explain as explain
from perdure.store._files import explained as explained
from perdure.store._files import is_full as is_full
from perdure.store._files import make_directory as make_directory
from perdure.store._files import read_small as read_small
from perdure.store._files import sync as sync
from perdure.store._files import sync_directory as sync_directory
from perdure.store._files import temporary_name as temporary_name
from perdure.store._manifest import CHECKPOINTS as CHECKPOINTS
from perdure.store._manifest import RUN_FILE as RUN_FILE
from perdure.store._manifest import CheckpointInfo, RunInfo
from perdure.store._manifest import Manifest as Manifest
from perdure.store._manifest import library_versions as library_versions
from perdure.store._manifest import manifest_name as manifest_name
from perdure.store._manifest import read_manifest as read_manifest
from perdure.store._manifest import read_run as read_run
from perdure.store._manifest import write_run as write_run
from perdure.store._open_run import open_run as open_run
from perdure.store._packs import PACKS as PACKS
from perdure.store._packs import Compression as Compression
from perdure.store._packs import pack_name as pack_name
from perdure.store._reading import Catalog as Catalog
from perdure.store._reading import StoredArray as StoredArray
from perdure.store._reading import pack_sizes as pack_sizes
from perdure.store._reading import with_pages as with_pages
from perdure.store._retention import BEST as BEST
from perdure.store._retention import PINNED as PINNED
from perdure.store._retention import Retention
from perdure.store._store import Checkpoint, Committed, Store
from perdure.store._survey import CheckpointStatus
from perdure.store._survey import Verdict as Verdict
from perdure.store._survey import check as check
from perdure.store._survey import survey as survey
from perdure.store._survey import verdict_of as verdict_of
from perdure.store._verify import Problem
from perdure.store.backends import GET_LIMIT as GET_LIMIT
from perdure.store.backends import Backend, Entry, LocalBackend
from perdure.store.backends import Holder as Holder

__all__ = [
    "Backend",
    "Checkpoint",
    "CheckpointInfo",
    "CheckpointStatus",
    "Committed",
    "Entry",
    "LocalBackend",
    "Problem",
    "Retention",
    "RunInfo",
    "Store",
]

publish(globals())

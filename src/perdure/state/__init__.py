"""Live objects and their state: capture it, restore it, compare it. Knows no files.

`capture` walks from a world's parts through attributes and containers and makes a `State` tree. `restore` writes a
tree into objects that the script has built anew: it matches everything first and changes nothing until all of it fits.

Vocabulary:

- *part*: a named object of the world; *path*: where something is below a part.
- *handler*: functions that capture and restore objects whose state Python cannot see (`register`).
- *adapter*: named fields by which objects are walked whose state is not simply their attributes.
- *structural*: what only the script builds; a checkpoint never creates it.
- *rows*: the rows of a replay buffer, and the cursor that says which were written (`register_rows`).

What is known of a library's classes is registered by dotted name, in a module that is imported when a class of that
library is first met.
"""

from perdure._lazy import publish
from perdure.state import (
    _builtin_rules,
    _data_loaders,
    _exceptions,
    _iterator_rules,
    _itertools_rules,
    _native_rules,
    _protocol,
    _python_arrays,
    _runtime_rules,
    _torch_objects,
    _torch_rules,
    buffers,
    rng,
)
from perdure.state._aliasing import LiveArray as LiveArray
from perdure.state._aliasing import address as address
from perdure.state._aliasing import content as content
from perdure.state._aliasing import with_own_axes as with_own_axes
from perdure.state._attributes import attributes_of
from perdure.state._capture import LiveWorld as LiveWorld
from perdure.state._capture import capture
from perdure.state._capture import parts_of as parts_of
from perdure.state._capture import paused_collection as paused_collection
from perdure.state._capture import walk_live as walk_live
from perdure.state._class_names import base_names as base_names
from perdure.state._class_names import dotted_name as dotted_name
from perdure.state._class_names import module_of as module_of
from perdure.state._class_names import renamed
from perdure.state._class_names import renamed_name as renamed_name
from perdure.state._diff import CLOCKS, Difference, diff
from perdure.state._fingerprint import fingerprint as fingerprint
from perdure.state._patterns import matches as matches
from perdure.state._places import names_place as names_place
from perdure.state._references import allow
from perdure.state._references import look_up as look_up
from perdure.state._references import print_of_code as print_of_code
from perdure.state._registry import (
    Adapter,
    Handler,
    leave_out,
    rebuildable,
    refuse,
    register,
    register_adapter,
    register_handler,
    skip,
    structural,
    tensor_like,
)
from perdure.state._registry import blank as blank
from perdure.state._registry import finders as finders
from perdure.state._registry import hindrance as hindrance
from perdure.state._registry import is_by_attributes as is_by_attributes
from perdure.state._registry import is_environment as is_environment
from perdure.state._registry import is_left_out as is_left_out
from perdure.state._registry import is_native as is_native
from perdure.state._registry import is_part_of_program as is_part_of_program
from perdure.state._registry import known as known
from perdure.state._registry import register_first as register_first
from perdure.state._registry import slots as slots
from perdure.state._report import Report
from perdure.state._report import grouped as grouped
from perdure.state._report import some as some
from perdure.state._secret_texts import follows_option as follows_option
from perdure.state._secret_texts import without_secret_arguments as without_secret_arguments
from perdure.state._secret_texts import without_secret_texts as without_secret_texts
from perdure.state._secret_texts import without_secrets as without_secrets
from perdure.state._secrets import ENVIRONMENT as ENVIRONMENT
from perdure.state._secrets import SECRET as SECRET
from perdure.state._secrets import is_secret_name as is_secret_name
from perdure.state._secrets import is_secret_path as is_secret_path
from perdure.state._secrets import secrets
from perdure.state._shown_classes import running_code as running_code
from perdure.state._user_code import is_installed_file as is_installed_file
from perdure.state._user_code import is_users_file as is_users_file
from perdure.state._walker import Walker as Walker
from perdure.state.buffers import Cursor, Ring, RowWriter, register_rows
from perdure.state.restoring import FROM_SCRIPT, check, restore
from perdure.state.restoring import BuiltWorld as BuiltWorld
from perdure.state.restoring import FilledArray as FilledArray
from perdure.state.restoring import Overridden as Overridden
from perdure.state.restoring import Restoration as Restoration
from perdure.state.restoring import Restored as Restored
from perdure.state.restoring import override as override
from perdure.state.restoring import override_signature as override_signature
from perdure.state.restoring import prepare as prepare
from perdure.state.restoring import unassignable as unassignable
from perdure.tree import State

__all__ = [
    "CLOCKS",
    "FROM_SCRIPT",
    "Adapter",
    "Cursor",
    "Difference",
    "Handler",
    "Report",
    "Ring",
    "RowWriter",
    "State",
    "allow",
    "attributes_of",
    "buffers",
    "capture",
    "check",
    "diff",
    "leave_out",
    "rebuildable",
    "refuse",
    "register",
    "register_adapter",
    "register_handler",
    "register_rows",
    "renamed",
    "restore",
    "rng",
    "secrets",
    "skip",
    "structural",
    "tensor_like",
]
del (
    _builtin_rules,
    _data_loaders,
    _exceptions,
    _iterator_rules,
    _itertools_rules,
    _native_rules,
    _protocol,
    _python_arrays,
    _runtime_rules,
    _torch_objects,
    _torch_rules,
)

publish(globals())

"""Backends keep bytes under names. `Backend` says what every backend promises; `LocalBackend` is a directory.

Write your own by subclassing `Backend`, and test it with `perdure.store.testing.BackendConformance`.
"""

from perdure._lazy import publish
from perdure.store.backends._base import GET_LIMIT as GET_LIMIT
from perdure.store.backends._base import Backend, Entry
from perdure.store.backends._base import check_name as check_name
from perdure.store.backends._base import put_new as put_new
from perdure.store.backends._local import Holder as Holder
from perdure.store.backends._local import LocalBackend

__all__ = ["Backend", "Entry", "LocalBackend"]

publish(globals())

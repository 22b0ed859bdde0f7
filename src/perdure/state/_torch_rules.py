"""Rules for hindsight buffers, without the dicts that they never fill; for bytearrays; and for values that processes
share."""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from typing import Any

import numpy as np

from perdure.state._attributes import attributes_of
from perdure.state._registry import Adapter, Handler, register_adapter, register_handler, skip


class Unwritten:
    """Replaces, in a walk, what is never written."""


def _hindsight_fields(buffer: Any) -> Mapping[str, Any]:
    fields = attributes_of(buffer)
    if not fields.get("copy_info_dict", True):
        # An empty dict for each of its rows, a million of them perhaps.
        fields["infos"] = Unwritten()
    return fields


def _assign(holder: Any, name: str, value: Any) -> None:
    vars(holder)[name] = value


skip(Unwritten, "nothing writes it")
register_adapter(
    "stable_baselines3.her.her_replay_buffer.HerReplayBuffer", Adapter(_hindsight_fields, _assign)
)


def _restore_bytes(live: bytearray, saved: np.ndarray[Any, Any]) -> None:
    live[:] = saved.tobytes()


register_handler(
    bytearray,
    Handler(
        capture=lambda live: np.frombuffer(bytes(live), np.uint8),
        restore=_restore_bytes,
        create=lambda saved: bytearray(saved.tobytes()),
        own=frozenset(),
    ),
)


def _capture_shared(live: Any) -> dict[str, Any]:
    return {"type": live.get_obj()._type_, "value": live.value}


def _restore_shared(live: Any, saved: dict[str, Any]) -> None:
    live.value = saved["value"]


def _create_shared(saved: dict[str, Any]) -> Any:
    if saved["type"] not in tuple("?cbBhHiIlLqQfd"):
        raise ValueError(f"expected the type of a number, found {saved['type']!r:.20}")
    return multiprocessing.Value(saved["type"], saved["value"])


def _restore_event(live: Any, saved: bool) -> None:
    (live.set if saved else live.clear)()


register_handler(
    "multiprocessing.sharedctypes.Synchronized",
    Handler(
        capture=_capture_shared,
        restore=_restore_shared,
        create=_create_shared,
        own=frozenset({"_obj", "_lock", "acquire", "release"}),
    ),
)
register_handler(
    "multiprocessing.synchronize.Event",
    Handler(capture=lambda live: live.is_set(), restore=_restore_event, own=frozenset({"_cond", "_flag"})),
)

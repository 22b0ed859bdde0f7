"""What a script asks the clock and the system's random numbers for: the same answers in every process of a run.

Set-up code runs again in each process. `run_name = f"{args.env_id}__{int(time.time())}"` would be another name there.
So outside of its training loops a script gets the answers of the first process that came there. In a training loop
clocks show training time: they go on from where they stood at the checkpoint. So `steps / (time.time() - start_time)`
is a rate of steps per second of training, without the time in which nobody trained.
"""

from __future__ import annotations

import datetime
import os
import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

#: The last part of the names of the functions below, as scripts write them.
NAMES = frozenset(
    (
        "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "strftime", "localtime",
        "gmtime", "ctime", "asctime", "now", "utcnow", "today", "uuid1", "uuid4", "getpid", "token_hex",
        "token_urlsafe", "generate_id",
    )
)  # fmt: skip
#: Clocks that go on as training time.
_CLOCKS: Mapping[str, Callable[[], float]] = {
    "time": time.time,
    "monotonic": time.monotonic,
    "perf_counter": time.perf_counter,
}
_NANOSECONDS = {"time_ns": "time", "monotonic_ns": "monotonic", "perf_counter_ns": "perf_counter"}
_FUNCTIONS = frozenset(
    (
        time.time, time.time_ns, time.monotonic, time.monotonic_ns, time.perf_counter, time.perf_counter_ns,
        time.strftime, time.localtime, time.gmtime, time.ctime, time.asctime, uuid.uuid1, uuid.uuid4, os.getpid,
        secrets.token_hex, secrets.token_urlsafe,
    )
)  # fmt: skip
#: More answers than a set-up asks for are not kept.
_MOST = 10_000


class Clock:
    """Answers what the script asks.

    :param answers: those of earlier processes, by place and number; new ones are added.
    :param keep: called after an answer was added: makes the answers durable.
    """

    def __init__(self, answers: dict[str, Any], keep: Callable[[], None]) -> None:
        self._answers = answers
        self._keep = keep
        self._process = os.getpid()
        self._asked: dict[str, int] = {}
        self._ahead = dict.fromkeys(_CLOCKS, 0.0)
        #: Whether the script is in one of its training loops.
        self.training = False

    def asked(self, site: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function to call instead of one that a script calls.

        :param site: which call it is.
        :param function: what the script calls, perhaps not a clock at all.
        """
        if not _is_known(function):
            return function
        if self.training or os.getpid() != self._process:
            return self._shifted(function)
        number = self._asked[site] = self._asked.get(site, 0) + 1
        key = f"{site} {number}"

        def answer(*given: Any, **named: Any) -> Any:
            if key in self._answers:
                return _decoded(self._answers[key])
            value = self._shifted(function)(*given, **named)
            encoded = _encoded(value)
            if encoded is not None and len(self._answers) < _MOST:
                self._answers[key] = encoded
                self._keep()
            return value

        return answer

    def readings(self) -> dict[str, float]:
        """What each clock shows the script now, in seconds."""
        return {name: read() + self._ahead[name] for name, read in _CLOCKS.items()}

    def go_on_from(self, readings: Mapping[str, Any]) -> None:
        """Let the clocks show what they showed at a checkpoint."""
        for name, read in _CLOCKS.items():
            if isinstance(value := readings.get(name), int | float):
                self._ahead[name] = value - read()

    def _shifted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        name = getattr(function, "__name__", "")
        owner = getattr(function, "__self__", None)
        if isinstance(owner, type) and issubclass(owner, datetime.datetime):
            return lambda *given, **named: (
                function(*given, **named) + datetime.timedelta(seconds=self._ahead["time"])
            )
        if name in _CLOCKS and function in _FUNCTIONS:
            return lambda: function() + self._ahead[name]
        if name in _NANOSECONDS and function in _FUNCTIONS:
            return lambda: function() + round(self._ahead[_NANOSECONDS[name]] * 1e9)
        return function


def _is_known(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    if isinstance(owner, type) and issubclass(owner, datetime.date):
        return True
    try:
        return function in _FUNCTIONS or getattr(function, "__module__", "") == "wandb.sdk.lib.runid"
    except TypeError:  # not hashable
        return False


def _encoded(value: Any) -> Any:
    """An answer as JSON; None if it is of another kind."""
    match value:
        case bool():
            return None
        case time.struct_time():
            return {"struct_time": list(value)}
        case datetime.datetime() if value.tzinfo is None or isinstance(value.tzinfo, datetime.timezone):
            return {"datetime": value.isoformat()}
        case datetime.datetime():
            return None
        case datetime.date():
            return {"date": value.isoformat()}
        case uuid.UUID():
            return {"uuid": value.hex}
        case int() | float() | str():
            return value
    return None


def _decoded(value: Any) -> Any:
    match value:
        case {"struct_time": parts}:
            return time.struct_time(parts)
        case {"datetime": text}:
            return datetime.datetime.fromisoformat(text)
        case {"date": text}:
            return datetime.date.fromisoformat(text)
        case {"uuid": text}:
            return uuid.UUID(hex=text)
    return value

"""What TensorBoard's own reader finds in a directory: each point of each curve, without its time."""

from __future__ import annotations

import re
from pathlib import Path

from tensorboard.backend.event_processing import event_file_loader


def points(directory: Path) -> dict[str, list[tuple[str, int, bytes]]]:
    """By directory, from the first to the last: the name, the step and the value of each event."""
    found: dict[str, list[tuple[str, int, bytes]]] = {}
    for path in sorted(directory.rglob("events.out.tfevents*")):
        of_directory = found.setdefault(str(path.parent.relative_to(directory)), [])
        for event in event_file_loader.RawEventFileLoader(str(path)).Load():
            of_directory += _of(event)
    return found


def _of(raw: bytes) -> list[tuple[str, int, bytes]]:
    from tensorboard.compat.proto import event_pb2

    event = event_pb2.Event.FromString(raw)
    return [
        (
            value.tag,
            event.step,
            b"" if re.search("time|speed|duration", value.tag) else value.SerializeToString(),
        )
        for value in event.summary.value
    ]

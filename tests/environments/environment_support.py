"""What the tests of environments share."""

from __future__ import annotations

import json
from typing import Any

from perdure import tree
from perdure.state import State


class Bytes:
    """The bytes of one array as they would come from a file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.nbytes = len(content)

    def read_into(self, buffer: memoryview) -> None:
        buffer[:] = self.content


def transported(state: State) -> State:
    """The state as another process reads it."""
    document, blobs = tree.encode(state)
    text = json.dumps(document, allow_nan=False)
    sources: list[Any] = [Bytes(bytes(blob.buffer())) for blob in blobs]
    return tree.decode(json.loads(text), sources)

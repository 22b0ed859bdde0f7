"""What the tests of `perdure.state` share: a state's way through a file, and a world's way into another one."""

from __future__ import annotations

import json
from typing import Any

from perdure import tree
from perdure.state import State, capture, diff, restore


class Bytes:
    """The bytes of one array as they would come from a file."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.nbytes = len(content)

    def read_into(self, buffer: memoryview) -> None:
        buffer[:] = self.content


def packed(state: State) -> tuple[str, list[bytes]]:
    document, blobs = tree.encode(state)
    content = [bytes(blob.buffer()) for blob in blobs]
    assert [len(each) for each in content] == [blob.nbytes for blob in blobs]
    return json.dumps(document, allow_nan=False), content


def unpacked(text: str, content: list[bytes]) -> State:
    return tree.decode(json.loads(text), [Bytes(each) for each in content])


def transported(state: State) -> State:
    """The state as another process reads it."""
    return unpacked(*packed(state))


def moved(value: Any, into: Any = None) -> Any:
    """What becomes of `into` when the state of `value` is restored in its place."""
    state = transported(capture({"x": value}))
    world = {"x": into}
    report = restore(state, world)
    assert report.exact
    assert [str(each) for each in diff(state, capture(world), ignore=())] == []
    return world["x"]


def differences(a: Any, b: Any) -> list[str]:
    return [each.path for each in diff(capture({"x": a}), capture({"x": b}), ignore=())]

"""Registers a handler that changes what it captures."""

from toy_environments import Counted

import perdure


def _capture(part):
    part.captures += 1
    return {"captures": part.captures}


def _restore(part, state):
    part.captures = state["captures"]


perdure.register(Counted, capture=_capture, restore=_restore)

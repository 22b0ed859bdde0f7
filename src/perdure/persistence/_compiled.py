"""Compiled policies: what `torch.compile` returns counts as the module in it. Knows no files."""

from __future__ import annotations

import sys
from typing import Any

import torch

_STEP = "_orig_mod."


def compiled_class() -> Any:
    """The class of compiled modules, where anything may have been compiled; else None."""
    return getattr(sys.modules.get("torch._dynamo.eval_frame"), "OptimizedModule", None)


def module_in(policy: torch.nn.Module) -> torch.nn.Module:
    """The policy itself, or the module in one that `torch.compile` returned."""
    cls = compiled_class()
    while cls is not None and isinstance(policy, cls):
        policy = policy._orig_mod
    return policy


def with_names_of(policy: torch.nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """A state dictionary with the names that a policy gives its parts: either of the two may have compiled ones."""
    live = policy.state_dict()
    if not any(isinstance(name, str) and _STEP in name for name in (*live, *state)):
        return state
    names = {name.replace(_STEP, ""): name for name in live}
    return {_renamed(name, names): value for name, value in state.items()}


def _renamed(name: Any, names: dict[str, str]) -> Any:
    return names.get(name.replace(_STEP, ""), name) if isinstance(name, str) else name

"""What a piece of a script reaches: steps of an environment and learning, also through functions of the script.

Calls are resolved by name alone: `agent.update()` may be any function or method `update` of the script's files.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from perdure.script._sources import Source

Function: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef"

_STEPS = frozenset(("step", "send", "recv", "step_wait", "step_async", "async_step", "step_and_maybe_reset"))
#: Receivers whose `step` is no environment's.
_NO_ENVIRONMENT = re.compile(
    r"opti|(^|[._])opt($|[._\d])|sched|scaler|prof|writer|accelerat|wandb|(^|[._])lr|socket|generator"
)
#: Methods by which something learns.
_LEARNS = frozenset(
    (
        "backward", "manual_backward", "apply_gradients", "apply_updates", "minimize", "partial_fit",
        "train_on_batch", "value_and_grad", "grad",
    )
)  # fmt: skip
#: Common names of methods that say nothing: `model.train()` only switches a mode.
_MODES = frozenset(("train", "eval"))


@dataclass(frozen=True)
class Reached:
    """What a piece of source reaches.

    :param steps: the first call that steps an environment, if there is one.
    :param learns: the first call by which something learns.
    """

    steps: ast.Call | None = None
    learns: ast.Call | None = None

    @property
    def both(self) -> bool:
        return self.steps is not None and self.learns is not None

    @property
    def any(self) -> bool:
        return self.steps is not None or self.learns is not None

    def __or__(self, other: Reached) -> Reached:
        return Reached(self.steps or other.steps, self.learns or other.learns)


class Calls:
    """The functions of some source files, and what each reaches."""

    def __init__(self, files: Sequence[Source]) -> None:
        self._by_name: dict[str, list[Function]] = {}
        self._constructors: dict[str, list[Function]] = {}
        for file in files:
            for node in ast.walk(file.tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._by_name.setdefault(node.name, []).append(node)
                elif isinstance(node, ast.ClassDef):
                    self._constructors[node.name] = [
                        each
                        for each in node.body
                        if isinstance(each, ast.FunctionDef) and each.name == "__init__"
                    ]
        self._known: dict[int, Reached] = {}

    def reached(self, nodes: Sequence[ast.AST]) -> Reached:
        """What some statements reach, directly or through functions that they call."""
        return self._reached(nodes, frozenset())

    def called(self, nodes: Sequence[ast.AST]) -> list[tuple[ast.Call, Function]]:
        """The functions of the script that some statements may call, directly."""
        return [(call, function) for call in _calls(nodes) for function in self._targets(call)]

    def _reached(self, nodes: Sequence[ast.AST], above: frozenset[int]) -> Reached:
        found = Reached()
        for call in _calls(nodes):
            found |= Reached(call if steps_environment(call) else None, call if learns(call) else None)
            for function in self._targets(call):
                if id(function) not in above and not found.both:
                    found |= self._of(function, above, call)
            if found.both:
                break
        return found

    def _of(self, function: Function, above: frozenset[int], call: ast.Call) -> Reached:
        known = self._known.get(id(function))
        if known is None:
            known = self._reached(function.body, above | {id(function)})
            if not above:
                self._known[id(function)] = known
        # For messages, what matters is the call in the loop itself.
        return Reached(call if known.steps else None, call if known.learns else None)

    def _targets(self, call: ast.Call) -> list[Function]:
        match call.func:
            case ast.Name(id=name):
                return [*self._by_name.get(name, ()), *self._constructors.get(name, ())]
            case ast.Attribute(attr=name) if not (name in _MODES and len(call.args) + len(call.keywords) < 2):
                return self._by_name.get(name, [])
            case ast.Attribute(attr=name, value=ast.Name(id="self")):
                return self._by_name.get(name, [])
        return []


def steps_environment(call: ast.Call) -> bool:
    """Whether a call steps an environment: `envs.step(actions)`."""
    match call.func:
        case ast.Attribute(attr=name, value=value) if name in _STEPS:
            receiver = ast.unparse(value).lower()
            if _NO_ENVIRONMENT.search(receiver) or receiver in ("self", "super()"):
                return False
            return name != "step" or bool(call.args or call.keywords)
    return False


def learns(call: ast.Call) -> bool:
    """Whether something learns by a call: `loss.backward()`, `optimizer.step()`."""
    match call.func:
        case ast.Attribute(attr="step", value=value):
            return bool(re.search(r"opti|(^|[._])opt($|[._\d])|scaler", ast.unparse(value).lower()))
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in _LEARNS
    return False


def _calls(nodes: Sequence[ast.AST]) -> Iterator[ast.Call]:
    """All calls below some nodes, in the order of the source. A function that is only defined there is not called."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.Call):
            yield node
        yield from _calls(list(ast.iter_child_nodes(node)))

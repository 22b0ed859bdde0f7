"""What is checked and changed in the modules of a policy once they are made. Knows no files and no pickles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch

from perdure.persistence.reading._classes import attributes_of

_DEEPEST = 200
_VISITS = 1_000
_BYTES_A_VISIT = 20


def check_modules(modules: Iterable[torch.nn.Module], length: int) -> None:
    """See that modules are such as torch makes: their tables hold parameters, tensors and modules, and modules do not
    hold each other in circles, too deep, or so often that going through them takes long.

    :param length: of the pickle, in bytes.
    :raises TypeError: if they are not.
    """
    modules = list(modules)
    checked: set[int] = set()
    for module in modules:
        tables = attributes_of(module)
        for name, kinds in (
            ("_parameters", (torch.nn.Parameter, type(None))),
            ("_buffers", (torch.Tensor, type(None))),
            ("_modules", (torch.nn.Module, type(None))),
        ):
            table = tables.get(name)
            if name in tables and id(table) not in checked:
                _check_table(module, name, table, kinds)
                checked.add(id(table))
        for name, table in tables.items():
            if name.endswith(_HOOKS) and type(table) not in (dict, OrderedDict, type(None)):
                raise TypeError(f"{name} of a {type(module).__name__} is a {type(table).__name__}")
    visits = _Visits(_VISITS + length // _BYTES_A_VISIT, _VISITS + length)
    for module in modules:
        visits.count(module)


def _check_table(module: torch.nn.Module, name: str, table: Any, kinds: Any) -> None:
    if type(table) not in (dict, OrderedDict):
        raise TypeError(f"{name} of a {type(module).__name__} is a {type(table).__name__}")
    for key, value in table.items():
        if type(key) is not str or not issubclass(type(value), kinds):
            raise TypeError(f"{name} of a {type(module).__name__} has a {type(value).__name__}")


def _table(module: torch.nn.Module, name: str) -> dict[str, Any]:
    found: dict[str, Any] = attributes_of(module).get(name, {})
    return found


class _Visits:
    """Counts what one meets who goes through a module and all modules in it, as torch does.

    :param most: how often a module may be met in one such walk.
    :param work: how many entries of tables may be looked at while counting.
    """

    def __init__(self, most: int, work: int) -> None:
        self._most = most
        self._work = work
        self._counted: dict[int, tuple[int, int]] = {}

    def count(self, root: torch.nn.Module) -> None:
        stack, waiting = [root], set()
        while stack:
            module = stack[-1]
            if id(module) in self._counted:
                stack.pop()
                continue
            children = [each for each in _table(module, "_modules").values() if each is not None]
            self._work -= 1 + len(children)
            if self._work < 0:
                raise TypeError("modules hold each other far too often for a file of this size")
            ahead = [each for each in children if id(each) not in self._counted]
            if not ahead:
                stack.pop()
                self._add(module, children)
            elif id(module) in waiting:
                raise TypeError("a module holds itself")
            else:
                waiting.add(id(module))
                stack.extend(ahead)

    def _add(self, module: torch.nn.Module, children: list[torch.nn.Module]) -> None:
        own = 1 + (len(_table(module, "_parameters")) + len(_table(module, "_buffers"))) // 4
        below = [self._counted[id(each)] for each in children]
        count = own + sum(visits for visits, _ in below)
        depth = 1 + max((depth for _, depth in below), default=0)
        if count > self._most or depth > _DEEPEST:
            raise TypeError("modules hold each other too deep, or far too often for a file of this size")
        self._counted[id(module)] = count, depth


_HOOKS = ("_hooks", "_hooks_with_kwargs", "_hooks_always_called")


def drop_hooks(obj: torch.nn.Module | torch.optim.Optimizer) -> None:
    """Take away the hooks that a file brings along, so that no method of the object runs one."""
    attributes = attributes_of(obj)
    for name in attributes:
        if name.endswith(_HOOKS):
            attributes[name] = OrderedDict()


def to_evaluation(root: torch.nn.Module) -> None:
    """Set evaluation mode on a module and all modules in it, as `eval()` does; no overridden `train` runs."""
    stack, seen = [root], {id(root)}
    while stack:
        module = stack.pop()
        attributes_of(module)["training"] = False
        for child in _table(module, "_modules").values():
            if child is not None and id(child) not in seen:
                seen.add(id(child))
                stack.append(child)

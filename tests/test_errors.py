"""All of Perdure's errors are in one module, and the tree that it draws is the true one."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import pkgutil
from types import ModuleType

import perdure
from perdure import errors


def modules() -> list[ModuleType]:
    found = []
    for each in pkgutil.walk_packages(perdure.__path__, "perdure."):
        if each.name.endswith("__main__"):
            continue
        with contextlib.suppress(ImportError):  # of a library that is not installed here
            found.append(importlib.import_module(each.name))
    return found


def exceptions_of(module: ModuleType) -> list[type[BaseException]]:
    return [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, BaseException) and each.__module__ == module.__name__
    ]


def test_every_error_that_a_user_can_meet_is_in_errors() -> None:
    assert len(modules()) > 100
    for module in modules():
        if module is errors:
            continue
        for each in exceptions_of(module):
            assert not issubclass(each, errors.PerdureError | errors.PerdureWarning), each
            # Raised and caught inside one package.
            assert any(part.startswith("_") for part in module.__name__.split(".")), each
        for name in getattr(module, "__all__", ()):
            found = getattr(module, name)
            if inspect.isclass(found) and issubclass(found, BaseException):
                assert found.__module__ == errors.__name__, f"{module.__name__}.{name}"


def drawn() -> dict[str, str]:
    """Each class in the docstring's tree, and the one it stands under."""
    above: list[str] = []
    tree: dict[str, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        name = line.lstrip(" │├└─").partition(" ")[0]
        if not (line.startswith("    ") and hasattr(errors, name)):
            continue
        depth = (len(line) - len(line.lstrip(" │├└─"))) // 4
        above[depth - 1 :] = [name]
        tree[name] = above[depth - 2] if depth > 1 else ""
    return tree


def test_the_tree_in_the_docstring_is_the_true_one() -> None:
    true = {each.__name__: each.__bases__[0] for each in exceptions_of(errors)}
    expected = {name: base.__name__ if base.__name__ in true else "" for name, base in true.items()}
    assert drawn() == expected


def test_each_says_what_it_means() -> None:
    for each in exceptions_of(errors):
        assert each.__doc__
        assert each.__doc__ != each.__base__.__doc__

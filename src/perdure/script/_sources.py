"""The source files of a script: its own, and those of the modules beside it that it imports. Nothing is run."""

from __future__ import annotations

import ast
import importlib.util
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from perdure.errors import ScriptError, is_users_file

#: Further modules of a script are not looked at.
_MOST_FILES = 200


@dataclass(frozen=True)
class Source:
    """One source file.

    :param name: of the module; `__main__` for the script itself.
    :param path: of the file.
    :param tree: its syntax tree.
    """

    name: str
    path: Path
    tree: ast.Module


def sources(script: Path, *, package: str = "") -> list[Source]:
    """The script, and the modules that it imports from its own directory, directly or through others.

    :param script: the file.
    :param package: the package that the script is a module of, if it was started with `-m`.
    :raises ScriptError: if the script cannot be read, or is no Python.
    """
    first = Source("__main__", script, _parsed(script))
    root = script.parent
    for _ in filter(None, package.split(".")):
        root = root.parent
    found = {script: first}
    todo = [(first, package)]
    while todo and len(found) < _MOST_FILES:
        source, package_of_source = todo.pop()
        for name in _imported(source.tree, package_of_source):
            path = _file_of(root, name)
            if path is None or path in found or not is_users_file(str(path)):
                continue
            try:
                found[path] = Source(name, path, _parsed(path))
            except ScriptError:
                continue  # importing it will say what is wrong, if it is imported at all
            is_package = path.name == "__init__.py"
            todo.append((found[path], name if is_package else name.rpartition(".")[0]))
    return list(found.values())


def find_script(module: str) -> tuple[Path, str]:
    """The file of a module that is to be run as a script, and the package that it is in.

    :raises ScriptError: if there is none.
    """
    try:
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.submodule_search_locations is not None:
            spec = importlib.util.find_spec(f"{module}.__main__")
    except (ImportError, ValueError) as error:
        raise ScriptError(
            f"-m {module}: {error}. Is it spelled as Python's -m expects it, and installed?"
        ) from None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise ScriptError(f"-m {module}: there is no such module with a Python source file")
    return Path(spec.origin).resolve(), spec.parent or ""


def _parsed(path: Path) -> ast.Module:
    try:
        with tokenize.open(path) as file:
            return ast.parse(file.read(), str(path))
    except FileNotFoundError:
        raise ScriptError(f"there is no file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ScriptError(f"{path} cannot be read: {error}") from None
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ScriptError(f"{path}{line} is no Python source: {error}") from None


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """The names of all modules that a file may import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            yield from _with_parents(base)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        yield ".".join(parts[:length])


def _file_of(root: Path, name: str) -> Path | None:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        return None
    base = root.joinpath(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path.resolve()
    return None

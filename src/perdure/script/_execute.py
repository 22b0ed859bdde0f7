"""Runs a script as Python would, with its training loops made resumable."""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np
import torch

from perdure.errors import is_users_file
from perdure.script._libraries import HOOKS
from perdure.script._rewrite import SESSION, rewritten
from perdure.script._session import Session
from perdure.script._sources import Source
from perdure.script._training_loops import TrainingLoop


def execute(
    files: Sequence[Source],
    loops: Mapping[int, TrainingLoop],
    session: Session,
    arguments: Sequence[str],
    module: str = "",
) -> None:
    """Run a script in this process, as `__main__`.

    :param files: the script, and its modules.
    :param loops: those to make resumable.
    :param arguments: of the script.
    :param module: its name, if it was started with `-m`.
    """
    script = files[0]
    path = str(script.path)
    trees = {str(file.path): file.tree for file in files}
    finder = _Finder(trees, loops, session)
    main = ModuleType("__main__")
    loader = _Loader("__main__", path, finder)
    main.__file__, main.__loader__ = path, loader
    if module:
        main.__spec__ = importlib.util.find_spec(module)
        if main.__spec__ is not None and main.__spec__.submodule_search_locations is not None:
            main.__spec__ = importlib.util.find_spec(f"{module}.__main__")
        main.__package__ = "" if main.__spec__ is None else main.__spec__.parent
    sys.modules["__main__"] = main
    sys.argv[:] = [path, *arguments]
    sys.meta_path.insert(0, finder)
    _seed(session.record.seed)
    loader.exec_module(main)


def _seed(seed: int) -> None:
    """Let an unseeded script build the same in every process of its run."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module of the script, with what is inserted into its source."""

    def __init__(self, name: str, path: str, finder: _Finder) -> None:
        super().__init__(name, path)
        self._finder = finder

    def get_code(self, fullname: str) -> CodeType:
        # Compiled files are of the source as it is, so they are neither read nor written.
        return self._finder.code(self.path)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)[SESSION] = self._finder.session
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the script, and the libraries that are changed when they are imported."""

    def __init__(
        self, trees: Mapping[str, ast.Module], loops: Mapping[int, TrainingLoop], session: Session
    ) -> None:
        self.session = session
        self._trees = trees
        self._loops = loops
        self._codes: dict[str, CodeType] = {}

    def code(self, path: str) -> CodeType:
        if path not in self._codes:
            tree = rewritten(self._trees[path], self._loops)
            self._codes[path] = compile(tree, path, "exec", dont_inherit=True)
        return self._codes[path]

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or spec.loader is None:
            return None
        if (hook := HOOKS.get(name)) is not None:
            spec.loader = _Hooked(spec.loader, lambda module: hook(module, self.session))
            return spec
        file = str(Path(spec.origin).resolve())
        if (
            file in self._trees
            and is_users_file(file)
            and isinstance(spec.loader, importlib.machinery.SourceFileLoader)
        ):
            spec.loader = _Loader(name, file, self)
            return spec
        return None


class _Hooked(importlib.abc.Loader):
    """Loads a module as another loader does, and then changes it."""

    def __init__(self, loader: Any, change: Any) -> None:
        self._loader = loader
        self._change = change

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        found: ModuleType | None = self._loader.create_module(spec)
        return found

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

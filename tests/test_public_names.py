"""Public classes name the package from which users import them, and nobody depends on the module that defines them."""

from __future__ import annotations

import copy
import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src/perdure"
PACKAGES = sorted(
    ".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")
)


def public_classes(package: str) -> list[type]:
    module = importlib.import_module(package)
    found = [getattr(module, name) for name in getattr(module, "__all__", ())]
    return [each for each in found if isinstance(each, type) and each.__module__.startswith("perdure")]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_public_class_comes_from_a_public_module(package: str) -> None:
    for cls in public_classes(package):
        assert not [part for part in cls.__module__.split(".") if part.startswith("_")], cls
        assert getattr(importlib.import_module(cls.__module__), cls.__name__) is cls
        assert pickle.loads(pickle.dumps(cls)) is cls
        assert copy.copy(cls) is cls


def test_the_outermost_package_counts() -> None:
    import perdure

    names = {
        str(cls)
        for cls in (
            perdure.Run,
            perdure.World,
            perdure.Retention,
            perdure.state.Report,
            perdure.environments.Resumable,
            perdure.environments.EpisodeReplay,
            perdure.check_env.CheckReport,
        )
    }
    assert names == {
        "<class 'perdure.Run'>",
        "<class 'perdure.World'>",
        "<class 'perdure.Retention'>",
        "<class 'perdure.state.Report'>",
        "<class 'perdure.environments.Resumable'>",
        "<class 'perdure.environments.EpisodeReplay'>",
        "<class 'perdure.check_env.CheckReport'>",
    }


@pytest.mark.parametrize("first", ["perdure.run", "perdure.environments.replay"])
def test_it_does_not_matter_what_is_imported_first(first: str) -> None:
    code = (
        f"import {first}, perdure, perdure.errors, perdure.persistence as p\n"
        "from perdure.run import Run; from perdure.world import World; from perdure.state import Report\n"
        "from perdure.environments import EpisodeReplay\n"
        "print([each.__module__ for each in (Run, World, Report, EpisodeReplay, p.PersistEvent, perdure.Preempted)])\n"
        # torch's compiler, which torch itself imports for the first optimizer, and which takes as long as torch does.
        "import sys; assert 'torch._dynamo' not in sys.modules"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    expected = [
        "perdure",
        "perdure",
        "perdure.state",
        "perdure.environments",
        "perdure.persistence",
        "perdure.errors",
    ]
    assert said.strip() == str(expected)


def test_recorded_names_do_not_follow() -> None:
    """The name in a checkpoint is the table's, before and after the class was made public."""
    from perdure.environments import EpisodeReplay
    from perdure.persistence import PersistEvent
    from perdure.state._class_names import class_name

    assert class_name(EpisodeReplay) == "perdure:EpisodeReplay"
    assert class_name(PersistEvent) == "perdure:PersistEvent"

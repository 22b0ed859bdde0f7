"""Who imports whom: the layers, no circles, and no private module of another package (see pyproject.toml)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/perdure"


def test_the_contracts_of_pyproject_are_kept() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("folder", sorted(path.parent for path in PACKAGE.rglob("__init__.py")), ids=str)
def test_no_name_of_a_package_hides_a_module_of_it(folder: Path) -> None:
    """`perdure.state.capture` is the function or the module, never one or the other."""
    tree = ast.parse((folder / "__init__.py").read_text())
    imported = {
        (alias.asname or alias.name, node.module)
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    package = ".".join(folder.relative_to(PACKAGE.parent).parts)
    modules = {path.stem for path in folder.glob("*.py")} | {
        path.name for path in folder.iterdir() if path.is_dir()
    }
    assert {name for name, module in imported if name in modules and module != package} == set()


def test_at_most_four_modules_lie_loose() -> None:
    loose = [path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"]
    assert len(loose) <= 4, loose


@pytest.mark.parametrize("name", ["sb3", "tianshou", "torchrl"])
def test_integrations_need_nothing_that_others_may_not_use(name: str) -> None:
    """So anybody can write an integration that is as good as ours."""
    path = PACKAGE / "integrations" / name
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    private = []
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text()))):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("perdure."):
            continue
        if f"{node.module}.".startswith(f"perdure.integrations.{name}."):
            continue
        module = __import__(node.module or "", fromlist=["__all__"])
        public = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
        private += [f"{node.module}.{alias.name}" for alias in node.names if alias.name not in public]
    assert not private

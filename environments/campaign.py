"""Checks the cases, a few at a time and each limited in time, and keeps a result file for each.

A case that has a result is not checked again, so an interrupted campaign continues.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from environments import venvs
from environments.cases import CASES, Case
from perdure.check_env import CheckReport, check_spec, env_spec
from perdure.errors import PerdureError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = venvs.CACHE / "results"
#: How long one process of a check may take, and all of them together, in seconds.
PROCESS_SECONDS = 600.0
CASE_SECONDS = 2_400.0
#: The libraries on whose versions the results depend.
_LIBRARIES = (
    *(
        "gymnasium",
        "numpy",
        "torch",
        "mujoco",
        "ale-py",
        "box2d",
        "minigrid",
        "pettingzoo",
        "mpe2",
        "highway-env",
    ),
    *(
        "dm-control",
        "vizdoom",
        "nle",
        "envpool",
        "pybullet",
        "crafter",
        "stable-baselines3",
        "tianshou",
        "ray",
    ),
)


def result_file(name: str) -> Path:
    """The file with the result of a case."""
    return RESULTS / f"{re.sub(r'[^A-Za-z0-9.]+', '-', name)}.json"


def source_print() -> str:
    """A fingerprint of the source on which the results depend."""
    found = hashlib.sha256()
    for part in ("src/perdure", "environments"):
        for path in sorted((ROOT / part).rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def load(name: str) -> dict[str, Any] | None:
    """The result of a case, or None if there is none, or if the case has been changed since."""
    try:
        found: dict[str, Any] = json.loads(result_file(name).read_text())
    except (OSError, ValueError):
        return None
    return found if found.get("case") == _plain(CASES[name]) else None


def _plain(case: Case) -> Any:
    return json.loads(json.dumps(asdict(case)))


def as_expected(name: str, result: dict[str, Any]) -> bool:
    """Whether the check found what the case says."""
    return bool(result["report"]["verdict"] == CASES[name].expect)


def check_case(name: str) -> None:
    """Check one case with this interpreter, and keep the result."""
    case = CASES[name]
    report = check_spec(
        env_spec(case.env, **case.options),
        steps=case.steps,
        cut=case.cut,
        ignore=case.ignore,
        timeout=PROCESS_SECONDS,
    )
    keep(name, report)


def keep(name: str, report: CheckReport) -> None:
    """Write the result of a case."""
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    document = {
        "name": name,
        "case": _plain(CASES[name]),
        "source": source_print(),
        "python": sys.version.split()[0],
        "versions": versions,
        "report": report.document(),
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = result_file(name)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(document, indent=1))
    temporary.replace(path)


def run(
    names: Iterable[str], workers: int, deadline: float, tell: Callable[[str, dict[str, Any] | None], None]
) -> None:
    """Check the cases.

    :param tell: called with each result; with None if there was no time left for the case.
    """
    places: dict[str, str | Exception] = {}
    making = threading.Lock()

    def one(name: str) -> None:
        venv = CASES[name].venv
        if time.monotonic() > deadline:
            tell(name, None)
            return
        with making:
            if venv not in places:
                try:
                    places[venv] = venvs.python(venv)
                except (subprocess.SubprocessError, OSError) as error:
                    places[venv] = error
        python = places[venv]
        if isinstance(python, Exception):
            keep(name, CheckReport(name, reasons=[f"the packages of {venv!r} cannot be installed: {python}"]))
        else:
            try:
                if venv == "main":
                    check_case(name)
                else:
                    _in_process(name, python)
            except (subprocess.SubprocessError, PerdureError, OSError) as error:
                keep(name, CheckReport(name, reasons=[f"{type(error).__name__}: {error}"]))
        tell(name, load(name))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(one, names))


def _in_process(name: str, python: str) -> None:
    """Check a case with the interpreter that has its packages; all processes that this starts end with it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    process = subprocess.Popen(
        [python, "-m", "environments", "--one", name],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=CASE_SECONDS)
    except BaseException:
        # SIGTERM comes first, so that it can end the processes that it has started.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    if process.returncode:
        raise subprocess.SubprocessError(f"exit code {process.returncode}: {said[-1500:].strip()}")

"""What is read as data is what an unpickler gives, for every honest file that the tests know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import honest_policies
import pytest
import torch
from persistence_nets import Net, Rich, Wide

from perdure.persistence.policy_file import save_module

OWN = {
    "net": lambda: Net(1.0),
    "wide": Wide,
    "rich": lambda: Rich(2.0),
    "layers": honest_policies.layers,
    "optimizers": honest_policies.optimizers,
    "values": honest_policies.values,
}


def compared(files: list[Path]) -> None:
    here = Path(__file__)
    done = subprocess.run(
        [sys.executable, here.with_name("honest_policies.py"), *files],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.count(" equal") == len(files)


def written(policies: dict[str, torch.nn.Module], directory: Path) -> list[Path]:
    files = []
    for name, policy in policies.items():
        for how, save, what in (
            ("ours", save_module, policy),
            ("torch", torch.save, policy),
            ("dict", torch.save, policy.state_dict()),
        ):
            files.append(directory / f"{name}-{how}.pt")
            save(what, files[-1])
    return files


def test_torchs_layers_and_optimizers_and_plain_values(tmp_path: Path) -> None:
    compared(written({name: make() for name, make in OWN.items()}, tmp_path))


def test_other_protocols_and_files_as_torch_wrote_them_before_version_1_6(tmp_path: Path) -> None:
    files = []
    for name, make in OWN.items():
        policy = make()
        for protocol in (3, 5):
            files.append(tmp_path / f"{name}-{protocol}.pt")
            torch.save(policy, files[-1], pickle_protocol=protocol)
        if name != "layers":  # it has a type of numbers that torch could not write then
            files.append(tmp_path / f"{name}-old.pt")
            torch.save(policy, files[-1], _use_new_zipfile_serialization=False)
    compared(files)


def test_the_policies_of_libraries(tmp_path: Path) -> None:
    pytest.importorskip("tianshou")
    pytest.importorskip("stable_baselines3")
    compared(written({name: make() for name, make in honest_policies.libraries().items()}, tmp_path))


def test_all_algorithms_of_tianshou(tmp_path: Path) -> None:
    """Each with its policy, networks, optimizers after a step, target networks and, of GAIL, the expert's buffer."""
    pytest.importorskip("tianshou")
    from test_persistence_libraries import step_all_optimizers
    from tianshou_algorithms import BUILDS

    files = []
    for build in BUILDS:
        algorithm = build()
        step_all_optimizers(algorithm)
        files.append(tmp_path / f"{build.__name__}.pt")
        torch.save(algorithm, files[-1])  # as Tianshou's own handlers do
    compared(files)

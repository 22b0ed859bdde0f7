"""Each message about a class that is refused names a remedy; following it leads to a loaded policy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import honest_python_values
import honest_values
import numpy as np
import pytest
import torch

from perdure.errors import UntrustedError
from perdure.persistence import PolicyPersistence, World, load_policy

REGISTERED = [
    name for name, reason in honest_values.REFUSED.items() if reason.startswith("perdure.register(")
]


def lines_in(message: str) -> list[str]:
    """The lines of Python that a message gives to paste."""
    found = []
    for part in message.split("perdure.register(")[1:]:
        depth = 1
        for at, letter in enumerate(part):
            depth += {"(": 1, ")": -1}.get(letter, 0)
            if depth == 0:
                found.append("perdure.register(" + part[: at + 1])
                break
    return found


def follow(path: str, name: str) -> str:
    """Load a policy with a value; follow what the message says; load it again."""
    import honest_policies

    import perdure

    torch.save(honest_values.policy_with(honest_values.VALUES[name]()), path)
    trust: list[Any] = [torch.nn, honest_values, honest_python_values]
    try:
        load_policy(path, trust=trust)
    except UntrustedError as error:
        (line,) = lines_in(str(error))
    else:
        return "was not refused"
    exec(line, {**vars(honest_values), **vars(honest_python_values), "perdure": perdure})
    unpickled = torch.load(path, weights_only=False).eval()
    return honest_policies.difference(load_policy(path, trust=trust), unpickled) or "equal"


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """In a process of its own, as what is registered stays."""
    code = (
        "import json, sys, test_persistence_remedies as own\n"
        "print(json.dumps({name: own.follow(sys.argv[1], name) for name in own.REGISTERED}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path_factory.mktemp("remedies") / "policy.pt")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", REGISTERED)
def test_what_is_registered_is_made(followed: dict[str, str], name: str) -> None:
    assert followed[name] == "equal"


def test_the_state_dictionary_holds_none_of_it(tmp_path: Path) -> None:
    """The remedy that always works."""
    policy = honest_values.policy_with(honest_values.SetsState())
    policy.layer = torch.nn.Linear(2, 2)
    persistence = PolicyPersistence(mode=PolicyPersistence.Mode.POLICY_STATE_DICT)
    persistence.persist(policy, World(persist_directory=tmp_path))
    other = honest_values.policy_with(None)
    other.layer = torch.nn.Linear(2, 2)
    persistence.restore(other, World(restore_directory=tmp_path), "cpu")
    assert torch.equal(other.layer.weight, policy.layer.weight)


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("fx", lambda graph: torch.nn.Linear(2, 2)),
        ("a quantized layer", lambda layer: torch.nn.Linear(2, 2)),
        ("a class of arrays with notes", np.asarray),
        ("records of rows of objects", lambda records: {"a": np.array(records["a"])}),
        ("a masked matrix", lambda masked: (np.asarray(masked.data), np.asarray(masked.mask))),
        ("a table of pandas", lambda table: {name: table[name].to_numpy() for name in table}),
    ],
)
def test_something_else_is_kept(tmp_path: Path, name: str, instead: Any) -> None:
    """The remedies that name what to keep instead."""
    value = honest_values.VALUES[name]()
    torch.save(honest_values.policy_with(value), tmp_path / "policy.pt")
    trust = [torch.nn, torch.ao, honest_values]
    with pytest.raises(UntrustedError):
        load_policy(tmp_path, trust=trust)
    torch.save(honest_values.policy_with(instead(value)), tmp_path / "policy.pt")
    assert type(load_policy(tmp_path, trust=trust).x) is type(instead(value))


def test_an_attribute_with_the_name_of_a_method(tmp_path: Path) -> None:
    """The remedy is another name."""
    value = honest_values.Plain()
    value.__dict__["method"] = 3
    torch.save(honest_values.policy_with(value), tmp_path / "policy.pt")
    with pytest.raises(UntrustedError, match="give the attribute another name"):
        load_policy(tmp_path, trust=[torch.nn, honest_values])
    value.__dict__["method_"] = value.__dict__.pop("method")
    torch.save(honest_values.policy_with(value), tmp_path / "policy.pt")
    assert load_policy(tmp_path, trust=[torch.nn, honest_values]).x.method_ == 3


def test_a_member_with_an_object(tmp_path: Path) -> None:
    """A member of an enumeration with an object as its value: the remedy is its name."""
    torch.save(honest_values.policy_with(honest_values.Holder.A), tmp_path / "policy.pt")
    with pytest.raises(UntrustedError, match="Keep the member's name"):
        load_policy(tmp_path, trust=[torch.nn, honest_values])
    torch.save(honest_values.policy_with(honest_values.Holder.A.name), tmp_path / "policy.pt")
    assert load_policy(tmp_path, trust=[torch.nn]).x == "A"

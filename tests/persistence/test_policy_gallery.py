"""Every attack in the gallery fails clearly or is harmless: nothing runs, nothing is written, and it takes little."""

from __future__ import annotations

import functools
import gc
import importlib
import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from policy_gallery import victims
from policy_gallery.assembler import ATTACKS, Attack, honest
from policy_gallery.watch import Watched, watched

import perdure.environments.handlers  # noqa: F401  # what Perdure itself would import when it meets a class
from perdure.errors import DamagedError, UntrustedError
from perdure.persistence import PolicyPersistence, load_policy
from perdure.persistence._persistence import World

for module in sorted(Path(__file__).with_name("policy_gallery").glob("*.py")):
    importlib.import_module(f"policy_gallery.{module.stem}".removesuffix(".__init__"))

CLASSES = [
    value
    for value in vars(victims).values()
    if isinstance(value, type) and value.__module__ == victims.__name__
]
TRUST = [torch.nn, torch.optim, *CLASSES, victims.ran]
if importlib.util.find_spec("tensordict"):
    from tensordict import LazyStackedTensorDict, NonTensorData, NonTensorStack, TensorDict

    importlib.import_module("perdure.integrations.torchrl")
    TRUST += [LazyStackedTensorDict, NonTensorData, NonTensorStack, TensorDict]
PER_BYTE = 10e-6, 100
#: What is there whatever the file: the program's own objects, and the allocator's pages.
FLOOR = 1.0, 8 << 20


def load(path: Path) -> object:
    return load_policy(path, trust=TRUST)


def restore(path: Path) -> object:
    live = victims.Policy()
    before = {name: value.clone() for name, value in live.state_dict().items()}
    try:
        PolicyPersistence(trust=[torch.nn]).restore(live, World(restore_directory=path.parent), "cpu")
    except Exception:
        assert all(torch.equal(value, before[name]) for name, value in live.state_dict().items())
        raise
    return live


made_once = functools.lru_cache(maxsize=2)(lambda attack: attack.make())


#: What takes long is refused before the two ways part.
CASES = [
    pytest.param(attack, how, id=f"{attack.name}-{how.__name__}")
    for attack in ATTACKS
    for how in (load, restore)
    if how is load or attack.harmless or not attack.name.startswith("costs")
]


@pytest.mark.parametrize(("attack", "how"), CASES)
def test_an_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack, how) -> None:
    path = tmp_path / "policy.pt"
    content = made_once(attack)
    path.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    victims.RAN.clear()
    said = made = None
    with watched() as cost:
        try:
            made = how(path)
        except Exception as error:
            said = error
    failure = said
    if said is not None:
        assert "policy.pt" in str(said), said
        if not attack.harmless:
            assert type(said) in (UntrustedError, DamagedError), repr(said)
            assert "othing of it was run" in str(said)
    assert attack.harmless or failure is not None, made
    del made, said, failure
    if attack.name == "classes: a finalizer":
        gc.collect()
    assert victims.RAN == []
    assert set(sys.modules) == modules
    assert [each.name for each in tmp_path.iterdir()] == ["policy.pt"]
    assert victims.Kind.A.value == 1
    assert victims.Plain.shared == []
    length = len(content)
    assert cost.seconds <= FLOOR[0] + PER_BYTE[0] * length, f"{cost.seconds} s for {length} bytes"
    assert cost.memory <= FLOOR[1] + PER_BYTE[1] * length, f"{cost.memory} bytes for {length} bytes"


def test_there_are_enough_of_them_with_names_of_their_own() -> None:
    assert len(ATTACKS) >= 150
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)
    assert all(attack.reason.endswith(".") for attack in ATTACKS)


def test_the_honest_file_that_they_are_made_from_loads(tmp_path: Path) -> None:
    (tmp_path / "policy.pt").write_bytes(honest())
    with watched():
        assert load(tmp_path / "policy.pt").layer.weight.shape == (2, 2)


@pytest.mark.parametrize(
    "act",
    [
        lambda path: importlib.import_module("antigravity"),
        lambda path: eval("1 + 1"),
        lambda path: compile("1", "", "eval"),
        lambda path: (path / "x").write_text("x"),
        lambda path: __import__("os").system("true"),
        lambda path: __import__("subprocess").run(["true"]),
        lambda path: __import__("socket").socket(),
        lambda path: (path / "x").mkdir(),
        lambda path: __import__("pickle").loads(b"cos\ngetcwd\n."),
    ],
)
def test_the_watch_sees_what_it_is_there_for(tmp_path: Path, act) -> None:
    with pytest.raises(Watched), watched():
        act(tmp_path)

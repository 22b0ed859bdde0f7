"""Whole-policy files: saving what cannot be pickled, loading without the program that wrote them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from persistence_nets import Net, Remembers, Rich

import perdure
from perdure.errors import DamagedError, NotPicklableError, RestoreError, UntrustedError
from perdure.persistence import PolicyPersistence, checksums, load_policy, policy_file
from perdure.persistence._persistence import World

Mode = PolicyPersistence.Mode
TRUST = ["persistence_nets", "torch.nn"]


@pytest.fixture
def world(tmp_path):
    return World(persist_directory=tmp_path, restore_directory=tmp_path)


class Holder:
    def __init__(self, held):
        self.held = held


def local():
    def function():
        pass

    return function


@pytest.mark.parametrize(
    ("put", "path"),
    [
        (lambda p: setattr(p, "dist_fn", lambda x: x), "policy.dist_fn"),
        (lambda p: setattr(p.layer, "hook", local()), "policy.layer.hook"),
        (lambda p: setattr(p, "config", {"a": [0, {"b": lambda: 0}]}), "policy.config['a'][1]['b']"),
        (lambda p: setattr(p, "held", Holder((1, threading.Lock()))), "policy.held.held[1]"),
        (
            lambda p: p.add_module("seq", torch.nn.Sequential(Net())) or setattr(p.seq[0], "f", local()),
            "policy.seq[0].f",
        ),
        (lambda p: p.register_forward_hook(lambda *_: None), "policy._forward_hooks"),
    ],
)
def test_an_attribute_that_cannot_be_pickled_is_named_and_the_best_stays(world, tmp_path, put, path):
    PolicyPersistence().persist(Net(1.0), world)
    policy = Net(2.0)
    put(policy)
    with pytest.raises(NotPicklableError, match="POLICY_STATE_DICT") as caught:
        PolicyPersistence().persist(policy, world)
    assert caught.value.path.startswith(path)
    assert caught.value.path in str(caught.value)
    assert load_policy(tmp_path, trust=TRUST).value == 1.0
    PolicyPersistence(mode=Mode.POLICY_STATE_DICT).persist(policy, world)  # as the message advises


def test_load_policy_takes_the_file_or_a_directory(world, tmp_path):
    persistence = PolicyPersistence(Remembers())
    policy = Net(2.0).train()
    persistence.persist(policy, world)
    world.algorithm = Net(5.0)
    epoch = persistence.get_save_checkpoint_fn(world)(3, 0, 0)
    for path, value in (
        (tmp_path, 2.0),
        (str(tmp_path), 2.0),
        (tmp_path / "policy.pt", 2.0),
        (tmp_path / "best", 2.0),
        (epoch, 5.0),
        (Path(epoch).resolve().parent, 5.0),
    ):
        loaded = load_policy(path, "cpu", TRUST)
        assert loaded.value == value
        assert not loaded.training
        assert not loaded.layer.training
    assert policy.training
    (tmp_path / "policy.pt").unlink()
    assert load_policy(tmp_path, trust=TRUST).value == 2.0


@pytest.mark.parametrize("moment", ["isfile", "read_bytes", "read"])
def test_a_policy_that_is_replaced_while_it_is_loaded(world, tmp_path, monkeypatch, moment):
    """The version that the link led to is gone: it is the new one that is loaded, and checked."""
    PolicyPersistence().persist(Net(1.0), world)
    owner = {"isfile": os.path, "read_bytes": Path, "read": checksums}[moment]
    real = getattr(owner, moment)

    def replaced_first(*args):
        monkeypatch.undo()
        PolicyPersistence().persist(Net(2.0), world)
        return real(*args)

    monkeypatch.setattr(owner, moment, replaced_first)
    assert load_policy(tmp_path / "policy.pt", trust=TRUST).value == 2.0
    assert len(list((tmp_path / "policies").iterdir())) == 1
    version = Path(tmp_path / "policy.pt").resolve()
    version.unlink()
    with pytest.raises(FileNotFoundError, match="there is no policy file"):
        load_policy(version)


def test_load_policy_onto_a_device(world, tmp_path):
    PolicyPersistence().persist(Net(), world)
    for device in ("meta", torch.device("meta")):
        assert load_policy(tmp_path, device, TRUST).layer.weight.device.type == "meta"
    with pytest.raises(UntrustedError, match=r"persistence_nets\.Net"):
        load_policy(tmp_path)


def test_load_policy_where_there_is_none(world, tmp_path):
    for path in (tmp_path, tmp_path / "policy.pt"):
        with pytest.raises(FileNotFoundError, match=r"policy\.pt"):
            load_policy(path)
    PolicyPersistence(mode=Mode.POLICY_STATE_DICT).persist(Net(), world)
    for path in (tmp_path, tmp_path / "policy_state_dict.pt"):
        with pytest.raises(RestoreError, match=r"state dictionary.*POLICY_STATE_DICT"):
            load_policy(path)
    torch.save([1], tmp_path / "policy.pt")
    with pytest.raises(RestoreError, match="no policy"):
        load_policy(tmp_path)


def test_a_file_of_the_other_mode_is_told_from_a_damaged_one(tmp_path):
    world = World(restore_directory=tmp_path)
    torch.save(Net(), tmp_path / "policy_state_dict.pt")
    with pytest.raises(UntrustedError, match=r"Mode\.POLICY"):
        PolicyPersistence(mode=Mode.POLICY_STATE_DICT).restore(Net(), world, "cpu")
    with pytest.raises(RestoreError, match=r"Mode\.POLICY"):
        PolicyPersistence(mode=Mode.POLICY_STATE_DICT, trust=TRUST).restore(Net(), world, "cpu")
    torch.save(Net().state_dict(), tmp_path / "policy.pt")
    with pytest.raises(RestoreError, match="POLICY_STATE_DICT"):
        PolicyPersistence().restore(Net(), world, "cpu")


@pytest.mark.parametrize("at", range(1, 20))
def test_a_flipped_bit_is_found(world, tmp_path, at):
    PolicyPersistence().persist(Net(1.0), world)
    file = tmp_path / "policy.pt"
    data = bytearray(file.read_bytes())
    data[len(data) * at // 20] ^= 16
    file.write_bytes(data)
    with pytest.raises(DamagedError, match=r"policy\.pt is damaged"):
        load_policy(tmp_path, trust=TRUST)


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_file_without_a_checksum_that_is_cut_off(tmp_path, content):
    torch.save(Rich(1.0), tmp_path / "policy.pt")
    if content is None:
        content = (tmp_path / "policy.pt").read_bytes()[:-100]
    (tmp_path / "policy.pt").write_bytes(content)
    with pytest.raises(DamagedError, match="cut off"):
        load_policy(tmp_path, trust=TRUST)


WRITE = """
import torch, sys
from perdure.persistence import PolicyPersistence, World
class Mine(torch.nn.Module): pass
PolicyPersistence().persist(Mine(), World(persist_directory=sys.argv[1]))
"""


def test_classes_of_another_programs_main_script(tmp_path):
    subprocess.run([sys.executable, "-c", WRITE, str(tmp_path)], check=True)
    with pytest.raises(UntrustedError, match=r"trust=\[Mine\]") as caught:
        load_policy(tmp_path)
    assert caught.value.names == ("__main__.Mine",)
    with pytest.raises(ValueError, match="module both import"):
        load_policy(tmp_path, trust=caught.value.names)
    # The script's class, imported from the script.
    assert type(load_policy(tmp_path, trust=[Mine])) is Mine
    with pytest.raises(UntrustedError):
        load_policy(tmp_path, trust=[Rich])


class Mine(torch.nn.Module):
    pass


def test_load_policy_in_a_fresh_process(world, tmp_path):
    PolicyPersistence().persist(Rich(2.0), world)
    code = (
        "import sys; from perdure import load_policy; import torch.nn\n"
        "trust = ['persistence_nets', 'torch.nn', 'torch.optim', 'functools.partial']\n"
        "trust += ['persistence_nets.double', 'persistence_nets.Rich.sample']\n"
        "policy = load_policy(sys.argv[1], trust=trust)\n"
        "assert policy.value == 2.0 and policy(torch.ones(2)).tolist() == [6.0, 6.0]\n"
        "assert 'gymnasium' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd=Path(__file__).parent)


def test_a_policy_that_was_copied_by_itself_is_still_checked(world, tmp_path):
    PolicyPersistence().persist(torch.nn.Sequential(torch.nn.Linear(3, 2)), world)
    content = (tmp_path / "policy.pt").read_bytes()
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "policy.pt").write_bytes(content)
    expected = {
        name: value.clone() for name, value in load_policy(alone, trust=[torch.nn]).state_dict().items()
    }
    # Every seventh byte, for the time it takes.
    for at in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[at] ^= 1
        (alone / "policy.pt").write_bytes(flipped)
        try:
            found = load_policy(alone, trust=[torch.nn]).state_dict()
        except (DamagedError, UntrustedError, RestoreError):
            continue
        assert all(torch.equal(found[name], value) for name, value in expected.items()), at


@pytest.mark.parametrize("function", [eval, exec, open, compile, torch.load])
def test_what_runs_code_is_never_suggested_for_trust(function, tmp_path):
    class Hostile:
        def __reduce__(self):
            return function, ("1",)

    torch.save(Hostile(), tmp_path / "policy.pt")
    with pytest.raises(UntrustedError, match="Do not trust it") as caught:
        load_policy(tmp_path)
    assert "trust=[" not in str(caught.value)


def test_a_better_policy_that_is_published_while_one_is_looked_for_is_loaded(tmp_path, monkeypatch):
    look = policy_file.load_module
    with perdure.Run(tmp_path) as run:
        run.report_score(1.0, perdure.World(), policy=torch.nn.Linear(1, 1))

        def look_later(file, *args, **kwargs):
            monkeypatch.undo()
            for score in (2.0, 3.0):
                run.report_score(score, perdure.World(), policy=torch.nn.Linear(1, int(score)))
            assert not file.exists()
            return look(file, *args, **kwargs)

        monkeypatch.setattr(policy_file, "load_module", look_later)
        assert load_policy(tmp_path, trust=[torch.nn]).out_features == 3
    with pytest.raises(FileNotFoundError, match="there is no policy file"):
        load_policy(tmp_path / "phase")

"""A file runs nothing but what the live policy's classes and the user's trust allow."""

from __future__ import annotations

import functools
import os
import pickle
import struct
import sys
import threading

import numpy as np
import persistence_nets
import pytest
import torch
from persistence_nets import Color, Loud, Net, Rich, double, touch

import perdure
from perdure.errors import DamagedError, NotPicklableError, PerdureError, RestoreError, UntrustedError
from perdure.persistence import PolicyPersistence, load_policy
from perdure.persistence._persistence import World
from perdure.state import _registry

Mode = PolicyPersistence.Mode


@pytest.fixture
def world(tmp_path):
    return World(persist_directory=tmp_path, restore_directory=tmp_path)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "it-ran"
    yield str(path)
    assert not path.exists()


class Calls:
    """Pickled as a call of `function`."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def name(module: str, of: str) -> bytes:
    return f"c{module}\n{of}\n".encode()


def forge(path, stream: bytes, protocol: int = 2) -> None:
    """A file such as torch.save writes, with any pickle in it."""
    data = b"\x80" + bytes([protocol]) + stream + b"."
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.write_record("data.pkl", data, len(data))
    writer.write_end_of_file()


def test_a_member_by_name_is_allowed_as_older_pythons_write_it(tmp_path):
    member = call(GETATTR, name("persistence_nets", "Color"), text("BLUE"))
    forge(tmp_path / "policy.pt", net(EMPTY + text("x") + member + b"s"))
    assert load_policy(tmp_path, trust=[Net, Color]).x is Color.BLUE


def refused(path, *, live=None, trust=()):
    """That the file is refused; the names that the error gives."""
    world = World(restore_directory=os.path.dirname(path))
    with pytest.raises(PerdureError) as caught:
        PolicyPersistence(trust=trust).restore(live or Net(), world, "cpu")
    with pytest.raises(PerdureError):
        load_policy(path, trust=trust)
    return caught.value


@pytest.mark.parametrize("where", ["policy", "attribute", "nested", "state_dict"])
def test_a_call_of_os_system(tmp_path, trace, where):
    evil = Calls(os.system, f"touch {trace}")
    policy, mode = Net(), Mode.POLICY
    if where == "policy":
        policy = evil
    elif where == "attribute":
        policy.harmless = evil
    elif where == "nested":
        policy.config = {"a": [(1, {evil: None})]}
    else:
        policy, mode = {**policy.state_dict(), "layer.bias": evil}, Mode.POLICY_STATE_DICT
    torch.save(policy, tmp_path / mode.get_filename())
    world = World(restore_directory=tmp_path)
    with pytest.raises(UntrustedError, match="nothing of it was run") as caught:
        PolicyPersistence(mode=mode).restore(Net(), world, "cpu")
    assert "posix.system" in str(caught.value) or "os.system" in str(caught.value)
    assert any(name.endswith(".system") for name in caught.value.names)
    with pytest.raises(UntrustedError):
        load_policy(tmp_path / mode.get_filename(), trust=[persistence_nets, torch.nn])


@pytest.mark.parametrize(
    "function",
    [eval, exec, getattr, setattr, open, __import__, map, functools.reduce, functools.partial, pickle.loads],
)
def test_functions_that_run_others_are_never_allowed_by_themselves(tmp_path, function):
    policy = Net()
    policy.x = Calls(function, "1 + 1") if function is not getattr else Calls(getattr, policy, "forward")
    torch.save(policy, tmp_path / "policy.pt")
    error = refused(tmp_path / "policy.pt")
    # That a file holds a partial function, or int | None, is nothing to trust, but no pickler writes one so.
    is_odd = function in (functools.partial, functools.reduce)
    assert isinstance(error, DamagedError if is_odd else UntrustedError)


def net(state: bytes) -> bytes:
    """A pickle that makes a Net and sets its state."""
    return name("persistence_nets", "Net") + b")\x81" + state + b"b"


def call(function: bytes, *args: bytes) -> bytes:
    return function + b"(" + b"".join(args) + b"tR"


EMPTY = b"}" + text("_modules") + b"}s"  # the state of a module without layers
GETATTR = name("__builtin__", "getattr")
NET = name("persistence_nets", "Net")


def hostile(trace: str) -> dict[str, bytes]:
    touched = name("persistence_nets", "touch")
    attribute = call(GETATTR, NET, text("__init__"))
    return {
        "attribute of a class": attribute,
        "attribute of an attribute": call(GETATTR, attribute, text("__globals__")),
        "a call of an attribute": call(attribute, text(trace)),
        "a call of the live policy's function": call(touched, text(trace)),
        "a class whose __init__ runs": call(name("persistence_nets", "Loud"), text(trace)),
        "a call by way of torch": call(
            name("torch._tensor", "_rebuild_from_type_v2"), touched, NET, b"(" + text(trace) + b"t", b"N"
        ),
        "a call by way of torch, twice": call(
            name("torch._tensor", "_rebuild_from_type_v2"),
            name("torch._tensor", "_rebuild_from_type_v2"),
            NET,
            b"(" + touched + NET + b"(" + text(trace) + b"tNt",
            b"N",
        ),
        "a call by way of numpy": call(
            name("numpy.random._pickle", "__generator_ctor"), text(trace), touched
        ),
        "a module's name cut elsewhere": call(
            name("numpy", "random._pickle.__generator_ctor"), text(trace), touched
        ),
        "a class made": call(name("__builtin__", "type"), text("X"), b"(" + NET + b"t", b"}"),
        "a class changed": NET + b"N}" + text("forward") + touched + b"s\x86b",
        "a dtype whose flags lie": call(name("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
        + b"(K\x03"
        + text("|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
        "a dtype made with __new__": name("numpy", "dtype") + text("O8") + b"\x89\x88\x87\x81",
        "the shared dtype": call(name("numpy", "dtype"), text("f8"), b"\x89", b"\x89"),
        "arguments that are no tuple": touched + b"]" + text(trace) + b"aR",
        "a call of what a call made": call(call(name("collections", "OrderedDict")), text(trace)),
        "another opcode": text("os") + text("system") + b"\x93",
        "the opcode for instances": b"(" + text(trace) + b"ios\nsystem\n",
        "a memo that is not there": b"h\x09",
    }


NAMES_SOMETHING = (
    "attribute of a class",
    "attribute of an attribute",
    "a call of an attribute",
    "a call of the live policy's function",
    "a class whose __init__ runs",
    "a call of what a call made",
    "a call by way of torch",
    "a call by way of torch, twice",
    "a dtype made with __new__",
    "another opcode",
)


@pytest.mark.parametrize("what", list(hostile("")))
def test_forged_streams(tmp_path, trace, what):
    live = Net()
    live.loud = Loud(trace)
    os.remove(trace)
    live.function = touch
    live.values = np.array([None])
    # as the value of an attribute of a policy that is otherwise as it should be
    forge(tmp_path / "policy.pt", net(EMPTY + text("x") + hostile(trace)[what] + b"s"))
    error = refused(tmp_path / "policy.pt", live=live)
    assert "policy.pt" in str(error)
    assert isinstance(error, UntrustedError if what in NAMES_SOMETHING else DamagedError)
    assert "othing of it was run" in str(error)


def test_a_forged_stream_that_is_harmless_loads(tmp_path):
    forge(
        tmp_path / "policy.pt",
        net(EMPTY + text("x") + call(name("numpy", "dtype"), text("f8"), b"\x89", b"\x88") + b"s"),
    )
    assert load_policy(tmp_path, trust=[Net]).x == np.float64


def test_a_function_of_the_live_policy_cannot_be_made_to_run_by_restoring(tmp_path, trace):
    live, evil = Net(), Net()
    live.callback = functools.partial(touch, "nowhere")
    torch.save(live, tmp_path / "policy.pt")
    evil.state_dict = functools.partial(touch, trace)
    evil.callback = evil.state_dict
    torch.save(evil, tmp_path / "policy.pt")
    with pytest.raises(UntrustedError, match="'state_dict', which is a method of the class"):
        PolicyPersistence().restore(live, World(restore_directory=tmp_path), "cpu")


class CallsBack(Net):
    def state_dict(self, *args, **kwargs):
        self.callback()
        return super().state_dict(*args, **kwargs)


def test_a_function_that_the_live_class_calls_while_restoring_is_not_run(tmp_path, trace):
    live, evil = CallsBack(), CallsBack()
    live.callback, evil.callback = functools.partial(touch, "nowhere"), functools.partial(touch, trace)
    torch.save(evil, tmp_path / "policy.pt")
    live.callback = lambda: None
    live.allowed = touch
    with pytest.raises(RestoreError, match="does not run"):
        PolicyPersistence().restore(live, World(restore_directory=tmp_path), "cpu")


def test_no_module_is_imported_because_a_file_names_it(tmp_path, trace, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_by_name.py").write_text(f"open({trace!r}, 'w')\nclass Net: pass\n")
    forge(tmp_path / "policy.pt", name("imported_by_name", "Net") + b")\x81")
    assert refused(tmp_path / "policy.pt").names == ("imported_by_name.Net",)
    assert "imported_by_name" not in sys.modules


def test_the_refusal_names_the_class_and_what_to_do(tmp_path):
    policy = Net()
    policy.color = Color.RED
    torch.save(policy, tmp_path / "policy.pt")
    error = refused(tmp_path / "policy.pt")
    assert error.names == ("persistence_nets.Color",)
    assert "\n  persistence_nets.Color\n" in str(error)
    assert "trust=['persistence_nets.Color']" in str(error)
    assert "beyond the classes of the policy" in str(error)


@pytest.mark.parametrize(
    "trust",
    [[Color], ["persistence_nets.Color"], [persistence_nets], ["persistence_nets"], (c for c in [Color])],
)
def test_what_the_user_names_is_allowed(tmp_path, trust):
    policy = Net(2.0)
    policy.color = Color.RED
    torch.save(policy, tmp_path / "policy.pt")
    live = Net()
    persistence = PolicyPersistence(trust=trust)
    for _ in range(2):
        persistence.restore(live, World(restore_directory=tmp_path), "cpu")
    assert live.value == 2.0


def test_another_member_of_the_same_enumeration_is_allowed(world):
    saved, live = Net(2.0), Net()
    saved.color, live.color = Color.RED, Color.BLUE
    PolicyPersistence().persist(saved, world)
    PolicyPersistence().restore(live, world, "cpu")
    assert live.value == 2.0


def test_a_package_stands_for_its_classes_only(tmp_path):
    policy = Net()
    policy.function = double
    torch.save(policy, tmp_path / "policy.pt")
    with pytest.raises(UntrustedError) as caught:
        load_policy(tmp_path, trust=[persistence_nets, torch.nn])
    assert caught.value.names == ("persistence_nets.double",)
    assert load_policy(tmp_path, trust=[persistence_nets, torch.nn, double]).function is double
    # What a module of the package has imported is not of the package.
    forge(tmp_path / "policy.pt", call(name("persistence_nets", "Path"), text("x")))
    with pytest.raises(UntrustedError):
        load_policy(tmp_path, trust=[persistence_nets])
    # And a NumPy dtype goes by one name, under which its state is checked.
    forge(tmp_path / "policy.pt", call(name("numpy._core.multiarray", "dtype"), text("O8")))
    with pytest.raises(UntrustedError):
        load_policy(tmp_path, trust=[np])


@pytest.mark.parametrize(
    ("trust", "error"),
    [
        ("torch.nn", TypeError),
        (torch.nn, TypeError),
        (Net, TypeError),
        ([3], TypeError),
        (["no.such"], ValueError),
    ],
)
def test_trust_that_makes_no_sense(tmp_path, trust, error):
    torch.save(Net(), tmp_path / "policy.pt")
    with pytest.raises(error, match="trust"):
        load_policy(tmp_path, trust=trust)
    with pytest.raises(error, match="trust"):
        PolicyPersistence(trust=trust).restore(Net(), World(restore_directory=tmp_path), "cpu")


def test_classes_that_torch_was_told_are_safe_are_allowed_and_stay_so(tmp_path):
    torch.save(Net(2.0), tmp_path / "policy.pt")
    before = set(torch.serialization.get_safe_globals())
    with torch.serialization.safe_globals([Net, torch.nn.Linear]):
        assert load_policy(tmp_path).value == 2.0
        assert Net in torch.serialization.get_safe_globals()
    assert set(torch.serialization.get_safe_globals()) == before
    with pytest.raises(UntrustedError):
        load_policy(tmp_path)


def test_a_live_policy_that_cannot_be_pickled_is_still_restored_into(world):
    PolicyPersistence().persist(Rich(2.0), world)
    live = Rich()
    live.lock, live.local = threading.Lock(), lambda: 0
    PolicyPersistence().restore(live, world, "cpu")
    assert live.value == 2.0


def test_everything_that_a_rich_policy_has_comes_back(world, tmp_path):
    policy = Rich(2.0)
    PolicyPersistence().persist(policy, world)
    with pytest.raises(UntrustedError) as caught:
        load_policy(tmp_path)
    loaded = load_policy(tmp_path, trust=caught.value.names)
    assert loaded.value == 2.0
    assert loaded.config.color is Color.RED
    assert loaded.kind is Rich.Config
    assert loaded.activation.func is double
    assert loaded.method() == 1
    assert loaded.noise.random() == policy.noise.random()
    assert loaded.legacy.rand() == policy.legacy.rand()
    assert loaded.sizes.tolist() == [1, 2]
    assert loaded.names.tolist() == ["a", None]
    assert (loaded.scalar, loaded.frozen, loaded.long) == (policy.scalar, policy.frozen, policy.long)
    assert (loaded.recent, loaded.recent.maxlen) == (policy.recent, 3)
    assert loaded.counts == {"a": [1]}
    assert loaded.counts["b"] == []
    assert loaded.none_class is type(None)
    assert len(loaded.optimizer.state) == 2
    assert loaded.optimizer.param_groups[0]["params"][0] is loaded.layer.weight


def test_saved_files_are_ones_that_plain_torch_reads(world, tmp_path):
    PolicyPersistence().persist(Rich(2.0), world)
    plain = torch.load(tmp_path / "policy.pt", weights_only=False)
    assert plain.value == 2.0
    assert len(plain.optimizer.state) == 2
    assert plain.recent.maxlen == 3


def test_containers_of_classes_of_their_own(world, tmp_path):
    policy = Net(2.0)
    policy.options = Options(a=1)
    policy.options.strict = True
    policy.recent = Recent([1, 2])
    PolicyPersistence().persist(policy, world)
    loaded = load_policy(tmp_path, trust=[persistence_nets, torch.nn, Options, Recent])
    assert (type(loaded.options), loaded.options, loaded.options.strict) == (Options, {"a": 1}, True)
    assert (type(loaded.recent), loaded.recent) == (Recent, [1, 2])
    with pytest.raises(UntrustedError):
        load_policy(tmp_path, trust=[persistence_nets, torch.nn])


class Options(dict):
    pass


class Recent(list):
    pass


class Packed:
    """Has a form of its own in a pickle."""

    def __init__(self, values):
        self.values = values

    def __getstate__(self):
        return ",".join(map(str, self.values))

    def __setstate__(self, state):
        self.values = [int(each) for each in state.split(",")]


@pytest.fixture
def packed_is_registered():
    perdure.register(Packed, capture=Packed.__getstate__, restore=Packed.__setstate__)
    yield
    _registry._classes.pop(Packed)
    _registry._cache.clear()


def test_a_class_with_a_setstate_of_its_own_is_registered(world, tmp_path, request):
    """As the message advises, before saving and before loading."""
    policy = Net(2.0)
    policy.packed = Packed([1, 2])
    with pytest.raises(
        NotPicklableError, match=r"perdure\.register\(Packed, capture=Packed\.__getstate__"
    ) as caught:
        PolicyPersistence().persist(policy, world)
    assert caught.value.path == "policy.packed"
    torch.save(policy, tmp_path / "policy.pt")  # another library's file
    trust = [persistence_nets, torch.nn, Packed]
    for allowed in (trust, trust[:2]):  # what trust does not help with is said at once
        with pytest.raises(UntrustedError, match=r"perdure\.register\(Packed, .*\n.*does not help"):
            load_policy(tmp_path, trust=allowed)
    with pytest.raises(UntrustedError, match=r"perdure\.register\(Packed, "):
        PolicyPersistence().restore(policy, world, "cpu")
    request.getfixturevalue("packed_is_registered")
    assert load_policy(tmp_path, trust=trust).packed.values == [1, 2]
    PolicyPersistence().persist(policy, world)
    assert load_policy(tmp_path, trust=trust).packed.values == [1, 2]


class Final:
    def __del__(self):
        pass


class Hashes:
    def __hash__(self):
        return 1


class Named:
    """Uses `__new__` to be made."""

    def __new__(cls, name):
        return super().__new__(cls)

    def __getnewargs__(self):
        return ("x",)


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (Final, r"it has a finalizer \(__del__\).*perdure\.register\(Final, "),
        (lambda: {Hashes(): 1}, r"hashes or compares in Python.*perdure\.register\(Hashes, "),
        (lambda: {(1, Hashes())}, r"hashes or compares in Python.*perdure\.register\(Hashes, "),
        (lambda: Named("x"), r"arguments for __new__.*perdure\.register\(Named, "),
    ],
)
def test_what_only_a_class_itself_could_make_is_refused(world, tmp_path, value, match):
    policy = Net()
    policy.x = value()
    with pytest.raises(NotPicklableError, match=match):
        PolicyPersistence().persist(policy, world)
    torch.save(policy, tmp_path / "policy.pt")
    with pytest.raises(UntrustedError, match=match):
        load_policy(tmp_path, trust=[Net, Final, Hashes, Named, "torch.nn"])


def test_no_unpickler_sees_a_file(world, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("an unpickler was used")

    for owner, name in (
        *((torch, "load"), (pickle, "load"), (pickle, "loads"), (pickle, "Unpickler")),
        *((torch.serialization, "_load"), (torch._weights_only_unpickler, "Unpickler")),
    ):
        monkeypatch.setattr(owner, name, never)
    for mode in Mode:
        PolicyPersistence(mode=mode).persist(Net(2.0), world)
        live = Net()
        PolicyPersistence(mode=mode).restore(live, world, "cpu")
        assert live.value == 2.0


def test_a_compiled_policy_counts_as_the_module_in_it(world, tmp_path):
    policy = Net(2.0)
    policy.inner = torch.compile(torch.nn.Linear(1, 1))
    for saved in (policy, torch.compile(policy)):
        for mode in Mode:
            PolicyPersistence(mode=mode).persist(saved, world)
            plain, with_compiled = Net(), Net()
            plain.inner, with_compiled.inner = torch.nn.Linear(1, 1), torch.compile(torch.nn.Linear(1, 1))
            for live in (plain, with_compiled, torch.compile(with_compiled)):
                PolicyPersistence(mode=mode).restore(live, world, "cpu")
                assert live.value == 2.0
                assert torch.equal(live.inner.weight, policy.inner.weight)
        loaded = load_policy(tmp_path, trust=[persistence_nets, torch.nn])
        assert (type(loaded), type(loaded.inner)) == (Net, torch.nn.Linear)
        torch.save(saved, tmp_path / "torch.pt")  # torch writes the compiled module, and what compiles it
        loaded = load_policy(tmp_path / "torch.pt", trust=[persistence_nets, torch.nn])
        assert (type(loaded), type(loaded.inner)) == (Net, torch.nn.Linear)
        assert torch.equal(loaded.inner.weight, policy.inner.weight)

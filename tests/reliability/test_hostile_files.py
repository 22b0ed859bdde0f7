"""A gallery of attacks by files: whatever lies in a run's directory, no code runs, nothing outside it is touched, and
memory and time are bounded. Each attack ends in a clear error, or in a run that goes on from what is good.

Attacks on a state's document alone are in tests/state/test_state_hostile.py, on pickles of policies in
tests/persistence/test_persistence_trust.py, and on one file of the store in tests/store/test_store_damage.py.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import shutil
import socket
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage_support import exhaustive, files_of, make_world, resumed, small_run, train
from hostile_support import bounded, everything, snapshot

import perdure
from perdure import tree
from perdure.errors import DamagedError, PerdureError, RestoreError
from perdure.state import capture, diff, restore
from perdure.store import Store, load_checksummed
from perdure.store._checksummed_json import _END, _START, digest, dump_checksummed


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("intact") / "run", checkpoints=2)


@pytest.fixture
def root(intact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact, tmp_path / "run", symlinks=True))


PLACES = [
    "run.json",
    "checkpoints",
    "checkpoints/00000002.json",
    "packs",
    "packs/*",
    "policies",
    "policies/00000001",
    "policies/00000001/policy.pt",
    "policies/00000001/best.json",
    "policies/00000001/.SHA256SUMS",
    "best",
    "policy.pt",
    ".lock",
]


def _place(root: Path, name: str) -> Path:
    return max(root.glob(name))


# -- things that are no files --------------------------------------------------------------------------------


def _link_outside(path: Path, outside: Path) -> None:
    """The link leads to the original file, so following it would raise no suspicion."""
    target = outside / path.name
    shutil.move(path, target)
    path.symlink_to(target)


def _hard_link(path: Path, outside: Path) -> None:
    if path.is_dir() or path.is_symlink():
        pytest.skip("only files have hard links")
    os.link(path, outside / "linked")


def _dangling(path: Path, outside: Path) -> None:
    _remove(path)
    path.symlink_to(outside / "not-there")


def _loop(path: Path, outside: Path) -> None:
    _remove(path)
    path.symlink_to(path.name)


def _pipe(path: Path, outside: Path) -> None:
    _remove(path)
    os.mkfifo(path)


def _endless(path: Path, outside: Path) -> None:
    _remove(path)
    path.symlink_to("/dev/zero")


def _socket(path: Path, outside: Path) -> None:
    _remove(path)
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _other_kind(path: Path, outside: Path) -> None:
    """A directory in the place of a file, and a file in that of a directory."""
    was_directory = path.is_dir()
    _remove(path)
    if was_directory:
        path.write_bytes(b"x")
    else:
        path.mkdir()
        (path / "more").write_bytes(b"x")


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)


KINDS = [_link_outside, _hard_link, _dangling, _loop, _pipe, _endless, _socket, _other_kind]


CASES = [
    pytest.param(kind, place, id=f"{kind.__name__.strip('_')}-{place}")
    for i, kind in enumerate(KINDS)
    for j, place in enumerate(PLACES)
    # A third of them, every kind and every place among them; or all.
    if exhaustive() or (i + j) % 3 == 0
]


@pytest.mark.parametrize(("kind", "place"), CASES)
def test_what_is_no_file(root: Path, tmp_path: Path, kind: Any, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"precious")
    (outside / ".tmp-1-precious").mkdir()
    kind(_place(root, place), outside)
    before = snapshot(outside)
    said = bounded(lambda: json.dumps(everything(root)))
    assert said.startswith("["), said
    assert snapshot(outside) == before
    assert all(str(root) in message or "policy" in message for message in json.loads(said)), said


@pytest.mark.parametrize("place", ["run.json", "checkpoints/00000002.json", "packs/*"])
def test_a_device(root: Path, place: str) -> None:
    path = _place(root, place)
    path.unlink()
    try:
        os.mknod(path, 0o020600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices, and not in every container")
    assert bounded(lambda: json.dumps(everything(root))).startswith("[")


def test_the_next_name_is_taken(root: Path) -> None:
    """By something that is no checkpoint: the commit says so, or takes another name."""
    for name in ("checkpoints/00000003.json", "packs/00000003.safetensors", "policies/00000002"):
        path = root / name
        path.mkdir()
        (path / "precious").write_bytes(b"precious")
    said = bounded(lambda: json.dumps(everything(root)))
    assert said.startswith("["), said
    assert "is in the way" in said
    for path in (root / "checkpoints" / "00000003.json", root / "packs" / "00000003.safetensors"):
        assert (path / "precious").read_bytes() == b"precious"


# -- code in every place -------------------------------------------------------------------------------------


class _Touch:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def _payloads(canary: str) -> dict[str, bytes]:
    """Files that run code when they are unpickled, evaluated or imported."""
    hostile = _Touch(canary)
    packed = io.BytesIO()
    np.save(packed, np.array([hostile], dtype=object), allow_pickle=True)
    several = io.BytesIO()
    np.savez(several, a=np.array([hostile], dtype=object))
    saved = io.BytesIO()
    torch.save({"a": hostile}, saved)
    old = io.BytesIO()
    torch.save({"a": hostile}, old, _use_new_zipfile_serialization=False)
    return {
        "pickle": pickle.dumps(hostile),
        "pickle 0": pickle.dumps(hostile, 0),
        "npy": packed.getvalue(),
        "npz": several.getvalue(),
        "torch": saved.getvalue(),
        "old torch": old.getvalue(),
        "python": f"open({canary!r}, 'w')\n".encode(),
        "yaml": f"!!python/object/apply:builtins.open [{canary!r}, w]\n".encode(),
        "gzip": gzip.compress(pickle.dumps(hostile)),
        "zlib": zlib.compress(pickle.dumps(hostile)),
    }


FILES = [place for place in PLACES if "." in place and place != ".lock"] + ["packs/*"]


@pytest.mark.parametrize("kind", list(_payloads("x")))
def test_pickles_in_every_place(root: Path, tmp_path: Path, kind: str) -> None:
    canary = tmp_path / "it-ran"
    payload = _payloads(str(canary))[kind]
    # All kinds are alike to what never unpickles: all of them in some places, and two of them in all.
    number = list(_payloads("x")).index(kind)
    everywhere = exhaustive() or kind in ("pickle", "torch")
    for place in FILES if everywhere else [FILES[number % len(FILES)]]:
        copy = Path(shutil.copytree(root, tmp_path / "copy", symlinks=True))
        path = _place(copy, place)
        path.write_bytes(payload)
        said = bounded(lambda copy=copy: json.dumps(everything(copy)))  # type: ignore[misc]
        assert said.startswith("["), said
        assert not canary.exists(), place
        shutil.rmtree(copy)


def test_pickles_sealed_and_inside_the_state(root: Path, tmp_path: Path) -> None:
    """With every checksum right: as the bytes of arrays, as names of classes, as metadata."""
    canary = tmp_path / "it-ran"
    payload = pickle.dumps(_Touch(str(canary)))
    world = make_world()
    path = root / "checkpoints" / "00000002.json"
    body = load_checksummed("manifest", path.read_bytes(), "")
    text = payload.decode("latin-1")
    for node in body["state"]["nodes"]:
        if node[0] in "odmih":
            attack = json.loads(json.dumps(body))
            index = body["state"]["nodes"].index(node)
            attack["state"]["nodes"][index][1] = f"builtins:open({str(canary)!r}, 'w')"
            path.write_bytes(dump_checksummed("manifest", attack))
            # What was resumed is compared there with what it must be: the name of the root's class means nothing.
            assert resumed(root)[0] in (1, 2, None)
    for key in ("counters", "metrics", "versions"):
        path.write_bytes(
            dump_checksummed("manifest", {**body, key: {text: text, "__reduce__": ["os.system", "x"]}})
        )
        found = Store.open(root).latest()
        assert found is not None
        restore(found.state, world_with_run(world))
    assert not canary.exists()


def world_with_run(world: Any) -> dict[str, Any]:
    from perdure.run._record import RunRecord

    record = RunRecord()
    record.script_fingerprint = np.zeros(0, np.uint8)
    return {**world.parts(), "run": record}


def test_nothing_is_imported(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil_module.py").write_text(f"open({str(tmp_path / 'it-ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = root / "checkpoints" / "00000002.json"
    body = load_checksummed("manifest", path.read_bytes(), "")
    for node in body["state"]["nodes"]:
        if node[0] in "odmih":
            node[1] = "evil_module:Thing"
    path.write_bytes(dump_checksummed("manifest", body))
    found = Store.open(root).latest()
    assert found is not None
    with pytest.raises(RestoreError):
        restore(found.state, world_with_run(make_world()))
    assert "evil_module" not in sys.modules
    assert not (tmp_path / "it-ran").exists()


# -- too much of something -----------------------------------------------------------------------------------

_MEBI = 1 << 20
#: What takes long because it is so much: less of it here than in `make damage`.
_MUCH = _MEBI if exhaustive() else _MEBI // 4


def _sealed(text: bytes) -> bytes:
    return _START.format(digest(text), "manifest").encode() + text + _END


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b"[]," * (2 * _MUCH) + b"[]]",
        b"[" + b'{"a":1},' * _MUCH + b"1]",
        b"[" * (4 * _MUCH),
        b'{"a":' * _MUCH + b"1" + b"}" * _MUCH,
        b'{"state":"' + b"\\u0041" * _MUCH + b'"}',
    ],
    ids=["lists", "dicts", "deep lists", "deep dicts", "escapes"],
)
def test_json_that_takes_much_memory(root: Path, text: bytes) -> None:
    """It fits into the memory there is, or is an error; and the checkpoint before it is used, or nothing is lost."""
    path = root / "checkpoints" / "00000002.json"
    path.write_bytes(_sealed(text))

    def read() -> str:
        try:
            return f"read {Store.open(root).read(2)}"
        except PerdureError as error:
            return f"refused: {error}"

    for memory in (128 * _MUCH, 1 << 32):
        said = bounded(read, 120, memory)
        assert said.startswith("refused:"), said
        assert "00000002.json" in said


@pytest.mark.parametrize(
    "place", ["run.json", "checkpoints/00000002.json", "packs/*", "policies/*/.SHA256SUMS"]
)
def test_huge_files_that_take_no_space(root: Path, place: str) -> None:
    """A sparse file of a terabyte is not read into memory."""
    try:
        os.truncate(_place(root, place), 1 << 40)
    except OSError:
        pytest.skip("this file system has no sparse files")
    said = bounded(lambda: json.dumps(everything(root)), 100, 1 << 31)
    assert said.startswith("["), said


def test_a_policy_larger_than_the_memory(root: Path) -> None:
    path = root / "policy.pt"
    (root / "best" / ".SHA256SUMS").unlink()
    os.truncate(path, 1 << 42)
    with pytest.raises(RestoreError, match="more than fit into this process's memory"):
        perdure.load_policy(root, trust=[torch.nn])


def document(*nodes: Any) -> tree.State:
    return tree.decode({"root": [0], "nodes": json.loads(json.dumps(list(nodes)))}, [])


def _alike(count: int, wrap: bool = False) -> list[Any]:
    """Whole numbers with one hash: filling a dict with them takes the square of their number."""
    numbers = [["v", "int", hex(number * sys.hash_info.modulus)] for number in range(1, count + 1)]
    return [*([["i", "tuple", [[2 + count + n]]] for n in range(count)] if wrap else []), *numbers]


#: So many that it would take long to put them into a dict; the square of it is what counts.
_ALIKE = 50_000 if exhaustive() else 10_000
BOMBS: dict[str, list[Any]] = {
    "dict of keys alike": [["m", "dict", [[[2 + n], 0] for n in range(_ALIKE)]], *_alike(_ALIKE)],
    "set of keys alike": [["i", "set", [[2 + n] for n in range(_ALIKE)]], *_alike(_ALIKE)],
    "dict of tuples alike": [
        ["m", "dict", [[[2 + n], 0] for n in range(_ALIKE // 2)]],
        *_alike(_ALIKE // 2, wrap=True),
    ],
    "a key that doubles": [
        ["m", "dict", [[[2], 1]]],
        *[["i", "tuple", [[n + 3], [n + 3]]] for n in range(80)],
        ["i", "tuple", [1]],
    ],
    "a set that doubles": [
        ["i", "set", [[2]]],
        *[["i", "tuple", [[n + 3], [n + 3]]] for n in range(80)],
        ["i", "tuple", [1]],
    ],
    "many repeats": [["i", "list", [[2]] * 1_000], ["r", None, 1 << 28]],
    "many dicts": [["i", "list", [[2]] * 1_000], ["r", [3], 1 << 28], ["d", "dict", {}]],
    "an object array of repeats": [
        ["i", "ndarray", [[2]] * 1_000, [3]],
        ["r", None, 1 << 28],
        ["v", "shape", [1_000, 1 << 28]],
    ],
    "a deque of repeats": [["i", "deque", [[2]] * 1_000], ["r", None, 1 << 28]],
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("live", [None, {}, set(), []], ids=str)
def test_a_state_that_takes_for_ever(bomb: str, live: Any) -> None:
    def load(strict: bool) -> str:
        world = {"x": live}
        before = capture(world)
        try:
            restore(document(["o", "perdure:World", {"x": [1]}], *BOMBS[bomb]), world, strict=strict)
        except (RestoreError, DamagedError) as error:
            assert diff(before, capture(world)) == []
            return f"refused: {error}"
        return "left" if diff(before, capture(world)) == [] else "restored"

    said = bounded(lambda: json.dumps([load(strict=True), load(strict=False)]), 100, 1 << 31)
    assert said.startswith("["), said
    strictly, loosely = json.loads(said)
    assert strictly.startswith("refused:"), said
    assert loosely.startswith("refused:") or loosely == "left", said


def _arrays(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The arrays of a manifest's state that are stored by themselves, not within a run of numbers."""
    packed = {node[2][0] for node in body["state"]["nodes"] if node[0] == "p"}
    nodes = enumerate(body["state"]["nodes"])
    return [node[1] for n, node in nodes if node[0] == "a" and n not in packed and "blob" in node[1]]


@pytest.mark.parametrize(
    "kind", ["zeros", "one chunk again and again", "a compressed chunk that says too much"]
)
def test_a_few_bytes_that_stand_for_terabytes(root: Path, kind: str) -> None:
    """A chunk of zeros takes no space, and a chunk may be referred to often; what is restored has an end all the same.

    It concerns arrays that the script has not built: one that it has built keeps its size.
    """
    path = root / "checkpoints" / "00000002.json"
    body = load_checksummed("manifest", path.read_bytes(), "")
    array = next(each for each in _arrays(body) if each["lib"] == "numpy")
    extents = body["arrays"][array["blob"]]
    pack, offset, stored, length, codec, checksum = extents[0][:6]
    if kind == "zeros":
        length = 1 << 26
        extent, count = [0, 0, 0, length, "zero", digest(bytes(length))], 1 << 16
    elif kind.startswith("one"):
        extent, count = [pack, offset, stored, length, codec, checksum], 1 << 14
    else:
        extent, count = [pack, offset, stored, 1 << 26, "zstd", checksum], 1
    body["arrays"][array["blob"]] = [extent] * count
    array.update(dtype="|u1", shape=[extent[3] * count])
    array.pop("order", None)
    path.write_bytes(dump_checksummed("manifest", body))

    def load() -> str:
        try:
            found = Store.open(root).read(2)
            restore(found.state, {**make_world().parts(), "seen": None, "run": None}, strict=False)
        except PerdureError as error:
            return f"refused: {error}"
        return "restored"

    said = bounded(load, 100, 1 << 30)
    if kind.startswith("one"):
        assert said == "restored" or said.startswith("refused:"), said
    else:
        assert said.startswith("refused:"), said


def test_arrays_larger_than_the_machine() -> None:
    class Endless:
        nbytes = 1 << 50

        def read_into(self, buffer: memoryview) -> None:
            raise AssertionError("it was read")

        def parts(self, buffer: memoryview) -> list[Any]:
            raise AssertionError("it was read")

    array = ["a", {"lib": "numpy", "dtype": "|u1", "shape": [1 << 50], "blob": 0}]
    state = tree.decode({"root": [0], "nodes": [["o", "perdure:World", {"x": [1]}], array]}, [Endless()])
    for strict in (True, False):
        with pytest.raises(RestoreError, match=r"1,125,899,906,842,624 bytes .* this machine has"):
            restore(state, {"x": None}, strict=strict)


def test_a_policy_that_becomes_gigabytes(root: Path) -> None:
    path = root / "policy.pt"
    source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for item in source.infolist():
            content = source.read(item)
            packed.writestr(
                item.filename, content + bytes(64 * _MEBI if item.filename.endswith("data.pkl") else 0)
            )
    (root / "best" / ".SHA256SUMS").unlink()
    with pytest.raises(DamagedError, match="is compressed, and would become far larger"):
        perdure.load_policy(root, trust=[torch.nn])


def test_a_policy_whose_tensors_are_larger_than_their_bytes(root: Path) -> None:
    path = root / "policy.pt"
    source = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    with zipfile.ZipFile(path, "w") as packed:
        for item in source.infolist():
            content = source.read(item)
            packed.writestr(item.filename, content[:1] if "/data/" in item.filename else content)
    (root / "best" / ".SHA256SUMS").unlink()
    with pytest.raises(DamagedError, match=r"policy\.pt is damaged"):
        perdure.load_policy(root, trust=[torch.nn])


@pytest.mark.parametrize(
    "line",
    ["../../../etc/passwd", "/etc/passwd", "a/../../b", "policy.pt/../policy.pt", "", "a\\b", "best.json"],
)
def test_a_list_of_checksums_that_leads_elsewhere(root: Path, line: str) -> None:
    path = root / "best" / ".SHA256SUMS"
    path.write_text(path.read_text() + f"{'0' * 64}  {line}\n")
    with pytest.raises(DamagedError, match="is not a checksum and a name of a file beside it"):
        perdure.persistence.checksums.verify(root / "best")


@pytest.mark.parametrize(
    "record",
    [
        "[" * 100_000,
        '{"score":NaN}',
        '{"score":Infinity}',
        '{"score":1e999}',
        '{"score":"1"}',
        '{"score":true}',
        '{"score":' + "9" * 4000 + "}",
        '{"score":[]}',
        "[]",
        "\ud800",
        "",
    ],
)
def test_a_forged_score(root: Path, record: str) -> None:
    """The run goes on; an invalid score counts as no score."""
    (root / "best" / "best.json").write_bytes(record.encode("utf-8", "surrogatepass"))
    with perdure.Run(root) as run:
        assert run.best_score is None or run.best_score == float("inf")


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff" * 10, b"[1, 2]", b'{"x": 5}', b"", b'"x"'])
def test_a_forged_script_fingerprint(root: Path, content: bytes) -> None:
    """What the script is compared with comes from the file too."""
    with perdure.Run(root) as run:
        world = make_world()
        run.resume(world)
        run._record.script_fingerprint = np.frombuffer(content, np.uint8)
        train(world, 2)
        run.checkpoint(world, 3)
    world = make_world()
    with perdure.Run(root) as run:
        info = run.resume(world)
        assert info is not None
        assert info.step == 3


# -- forged payloads of optimizers and generators ------------------------------------------------------------


def _forged(live: Any, part: str, change: Any) -> str:
    """Restore a state in which one leaf after the other of `part` was changed; the process must live on."""
    text, content = _packed(capture(live))
    original = json.loads(text)
    tried = 0
    for number, node in enumerate(original["nodes"]):
        for at in _leaves(node):
            attack = json.loads(text)
            holder = attack["nodes"][number]
            for key in at[:-1]:
                holder = holder[key]
            holder[at[-1]] = change
            with contextlib.suppress(RestoreError, DamagedError):
                restore(tree.decode(attack, [_Bytes(each) for each in content]), live)
            _use(live)
            tried += 1
    return f"tried {tried}"


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self.content, self.nbytes = content, len(content)

    def read_into(self, buffer: memoryview) -> None:
        buffer[:] = self.content


def _packed(state: tree.State) -> tuple[str, list[bytes]]:
    made, blobs = tree.encode(state)
    return json.dumps(made), [bytes(blob.buffer()) for blob in blobs]


def _leaves(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    found = [at] if at and not isinstance(node, dict | list) else []
    for key, child in pairs:
        found += _leaves(child, (*at, key))
    return found


def _use(live: dict[str, Any]) -> None:
    """Draw from every generator: a position outside its memory would be read now."""
    for name in ("pcg", "mt", "philox", "sfc"):
        live[name].normal(size=3)
        live[name].integers(10, size=700)
    live["legacy"].normal(size=3)
    live["legacy"].randint(10, size=700)
    live["python"].gauss(0, 1)
    live["python"].randbytes(4_000)
    torch.rand(700, generator=live["torch"])
    np.random.normal(size=3)


@pytest.mark.parametrize(
    "change", [-1, 1 << 61, *([None, 2.5, "os.system", [0], True] if exhaustive() else [])]
)
def test_forged_generators_and_optimizers(change: Any) -> None:
    def forge() -> str:
        net = torch.nn.Linear(2, 1)
        optimizer = torch.optim.Adam(net.parameters())
        net(torch.zeros(1, 2)).sum().backward()
        optimizer.step()
        generators = {
            name: np.random.Generator(getattr(np.random, kind)(1))
            for name, kind in {"pcg": "PCG64", "mt": "MT19937", "philox": "Philox", "sfc": "SFC64"}.items()
        }
        import random

        live = {
            "net": net,
            "optimizer": optimizer,
            "schedule": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
            "legacy": np.random.RandomState(1),
            "python": random.Random(1),
            "torch": torch.Generator().manual_seed(1),
            **generators,
        }
        return _forged(live, "", change)

    said = bounded(forge, 200)
    assert said.startswith("tried"), said
    assert int(said.split()[1]) > 150


# -- what is written -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027, 0o002])
def test_files_have_the_umask(tmp_path: Path, umask: int) -> None:
    def make() -> str:
        os.umask(umask)
        small_run(tmp_path / "run")
        return "made"

    assert bounded(make) == "made"
    for path in (tmp_path / "run").rglob("*"):
        if path.is_symlink():
            continue
        mode = path.lstat().st_mode & 0o777
        if path.name == ".lock":
            assert mode & umask == 0
        else:
            assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, path
    assert len(files_of(tmp_path / "run")) > 5

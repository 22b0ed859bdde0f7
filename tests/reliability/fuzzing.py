"""A fuzzer for all that reads a checkpoint: manifests, the state's document, packs, pages of extents, and restoring
into live objects; and for policy files, their pickles above all.

Its inputs are changed copies of real checkpoints and policies, sealed again with the right checksums, so that they get
past the seal. Whatever they are, nothing but Perdure's own errors may come of them, in time and memory in proportion to
their size, and nothing is imported, run or written elsewhere. Runs are listed, shown, verified and resumed on a disk;
policies loaded and restored. With atheris, what is tried next follows from which code the last input reached:

    make fuzz                                        # a few minutes
    python tests/reliability/fuzzing.py document --seconds 3600

It keeps what it learned in `.fuzz/`. An input that fails is written there (`crash-…`); trying it again: add its path.
`tests/reliability/test_fuzz.py` tries some hundreds, without atheris.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import copy
import io
import json
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# The gallery of attacks on policies, and what watches them.
sys.path.append(str(Path(__file__).parents[1] / "persistence"))

TARGETS = ("document", "checkpoint", "pack", "page", "policy")
OUTCOMES = ("read", "refused", "read and refused", "half restored")

_JUNK: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    2,
    3,
    255,
    10**25,
    1 << 61,
    1.5,
    "",
    "x",
    "list",
    "dict",
    "tuple",
    "set",
    "deque",
    "defaultdict",
    "ndarray",
    "builtins:object",
    "os:system",
    "numpy",
    "torch",
    "<i8",
    "|u1",
    "<f4",
    "float32",
    "o", "d", "m", "i", "v", "h", "r", "p", "a",
    "enum",
    "int",
    "bytes",
    "0x1",
    [],
    [0],
    [1],
    [5],
    [0, 1],
    {},
    ["x"],
    {"a": 1},
    {"nodes": []},
]  # fmt: skip


def mutated(value: Any, chance: random.Random) -> Any:
    """A copy of a JSON value with some places changed: replaced, removed, doubled, or taken from elsewhere in it."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5))):
        holder, key = _somewhere(value, chance)
        if holder is None:
            return chance.choice(_JUNK)
        match chance.randrange(6):
            case 0 | 1:
                holder[key] = copy.deepcopy(chance.choice(_JUNK))
            case 2:
                del holder[key]
            case 3:
                other, where = _somewhere(value, chance)
                if other is not None:
                    holder[key] = copy.deepcopy(other[where])
            case 4 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case _:
                holder[key] = _changed(holder[key], chance)
    return value


def _somewhere(value: Any, chance: random.Random) -> tuple[Any, Any]:
    holder, key = None, None
    at = value
    while isinstance(at, list | dict) and at and (holder is None or chance.random() < 0.85):
        holder = at
        key = chance.choice(list(at)) if isinstance(at, dict) else chance.randrange(len(at))
        at = at[key]
    return holder, key


def _changed(value: Any, chance: random.Random) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, -value, value * 2, value ^ (1 << chance.randrange(40))))
    if isinstance(value, str) and value:
        at = chance.randrange(len(value))
        return value[:at] + chance.choice(("", "0", "f", ":", "é", "\0", value)) + value[at + 1 :]
    return copy.deepcopy(chance.choice(_JUNK))


#: Seconds and bytes of memory that an input may take for each of its bytes, and whatever its size.
PER_BYTE = 10e-6, 100
FLOOR = 1.0, 16 << 20
#: What counting which code was reached makes slower.
COUNTED = 5.0


def check_cost(cost: Any, length: int, what: str) -> None:
    """See that something took time and memory in proportion to the bytes that it read."""
    slower = COUNTED if "atheris" in sys.modules else 1.0
    seconds = slower * (FLOOR[0] + PER_BYTE[0] * length)
    memory = FLOOR[1] + PER_BYTE[1] * length
    assert cost.seconds <= seconds, f"{what} took {cost.seconds} s for {length} bytes"
    assert cost.memory <= memory, f"{what} took {cost.memory} bytes of memory for {length} bytes"


@contextlib.contextmanager
def in_proportion(length: int, what: str) -> Iterator[None]:
    """What is done inside, well or in vain, must take little for what it reads."""
    from policy_gallery.watch import measured

    from perdure.errors import PerdureError

    said = None
    with measured() as cost:
        try:
            yield
        except PerdureError as error:
            said = error
    check_cost(cost, length, what)
    if said is not None:
        raise said


class Fuzz:
    """The targets, and the real checkpoint that inputs are made from."""

    def __init__(self) -> None:
        import tempfile

        from damage_support import files_of, files_of_store, make_world, small_run

        from perdure.state import _registry, capture
        from perdure.store import load_checksummed

        # What is known of a library is imported when one of its classes is first met: before anything is watched.
        for package in [*_registry._RULES]:
            _registry._import_rules(package)
        self._make_world = make_world
        self._paged, self._page_chunk = _paged_run()
        self._policies = Policies()
        with tempfile.TemporaryDirectory() as directory, open(os.devnull, "w") as silent:
            with contextlib.redirect_stderr(silent):
                self.files = files_of_store(files_of(small_run(Path(directory) / "run", checkpoints=2)))
        self.manifest = max(name for name in self.files if name.startswith("checkpoints/"))
        self.body = load_checksummed("manifest", self.files[self.manifest], self.manifest)
        self.world = self._live()
        from perdure import tree

        document, blobs = tree.encode(capture(self.world))
        self.document = json.loads(json.dumps(document))
        self.content = [bytes(blob.buffer()) for blob in blobs]
        self._on_disk = OnDisk(self.files, self._make_world)

    def _live(self) -> dict[str, Any]:
        import collections
        import enum

        import numpy as np
        import torch

        net = torch.nn.Linear(2, 1)
        optimizer = torch.optim.Adam(net.parameters())
        net(torch.zeros(1, 2)).sum().backward()
        optimizer.step()
        whole = np.arange(6.0)
        return {
            **self._make_world(3).parts(),
            "policy": net,
            "optimizer": optimizer,
            "views": [whole, whole[2:4], torch.from_numpy(whole)[1:]],
            "mixed": {1: (2, frozenset({3})), "k": [None] * 20, "n": list(range(20)), (1, "x"): {1.5, "y"}},
            "deque": collections.deque([1, 2], maxlen=3),
            "default": collections.defaultdict(list, a=[1]),
            "odd": [
                b"x",
                float("nan"),
                1j,
                np.float32(1),
                torch.float32,
                slice(1, 2),
                range(3),
                _Colour(enum),
            ],
            "legacy": np.random.RandomState(1),
            "objects": np.array([[None, "x"]], dtype=object),
        }

    def seeds(self, target: str) -> list[bytes]:
        """Inputs to begin with."""
        if target == "document":
            return [json.dumps(self.document).encode()]
        if target == "checkpoint":
            return [json.dumps(self.body).encode()]
        if target == "page":
            return [self._page_chunk]
        if target == "policy":
            return self._policies.seeds()
        return [self.files[max(name for name in self.files if name.startswith("packs/"))]]

    def try_out(self, target: str, data: bytes) -> str:
        """Read an input; what became of it, in a word. Raises whatever is no error of Perdure's."""
        from perdure.errors import PerdureError

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return getattr(self, f"_{target}")(data) or "read"
            except PerdureError as error:
                # Matching is to find out all that does not fit before anything is changed; handlers may still fail.
                return "half restored" if "half restored" in str(error) else "refused"

    def _document(self, data: bytes) -> str | None:
        from perdure import tree
        from perdure.state import restore
        from perdure.store._checksummed_json import load_json

        try:
            with in_proportion(len(data) + sum(map(len, self.content)), "restoring"):
                document = load_json(data, "the input")
                state = tree.decode(document, [_Bytes(each) for each in self.content])
                restore(state, self.world, strict=bool(len(data) % 3))
        finally:
            # What was half restored may be anything; the next input finds a world as the script builds it.
            self.world = self._live()
        return None

    def _checkpoint(self, data: bytes) -> str | None:
        from perdure.store._checksummed_json import _END, _START, digest

        sealed = _START.format(digest(data), "manifest").encode() + data + _END
        return self._on_disk.try_out(self.manifest, sealed)

    def _pack(self, data: bytes) -> str | None:
        name = max(name for name in self.files if name.startswith("packs/"))
        return self._on_disk.try_out(name, resealed(data))

    def _page(self, data: bytes) -> str | None:
        """A page of an array that has room for ten of the extents that were there."""
        from damage_support import in_memory

        from perdure.store import Store, load_checksummed
        from perdure.store._checksummed_json import digest, dump_checksummed
        from perdure.store._packs import Compressor, PackWriter

        backend = in_memory(self._paged)
        name = max(each for each in self._paged if each.startswith("checkpoints/"))
        body = load_checksummed("manifest", self._paged[name], name)
        new = _new_chunk(data, digest(data))
        run = body["run"]["id"]
        with (
            ThreadPoolExecutor(1) as thread,
            PackWriter(backend, 50, run, Compressor("none"), thread) as writer,
        ):
            writer.write([new])
        assert new.chunk is not None
        (array,) = body["arrays"]
        array["pages"] = [[0, *new.chunk]]
        body["packs"].append(new.chunk.pack)
        backend.objects[name] = dump_checksummed("manifest", body)
        with in_proportion(len(data) + sum(map(len, self._paged.values())), "a page"):
            store = Store.open(backend)
            store.verify()
            checkpoint = store.read(max(info.number for info in store.checkpoints()))
            data_of = checkpoint.state.root.fields["x"].data
            data_of.read_into(memoryview(bytearray(data_of.nbytes)))
        return None

    def _policy(self, data: bytes) -> str | None:
        return self._policies.try_out(data)


class OnDisk:
    """A run with a changed file, on a disk: listed, shown, verified and resumed, while somebody watches."""

    def __init__(self, files: dict[str, bytes], make_world: Callable[[], Any]) -> None:
        import tempfile

        from damage_support import write_files
        from rich.cells import cell_len

        self._files = files
        self._make_world = make_world
        self._directory = tempfile.TemporaryDirectory()
        self._root = write_files(Path(self._directory.name, "run"), files)
        self._length = sum(map(len, files.values()))
        # Once unwatched: what is imported when it is needed, also by what prints.
        codecs.lookup("unicode_escape")
        cell_len("\N{HORIZONTAL ELLIPSIS}\N{SNOWMAN}")
        for name in files:
            for content in (b"x", files[name]):
                with contextlib.suppress(Exception):
                    self.try_out(name, content, watch=False)

    def try_out(self, name: str, content: bytes, watch: bool = True) -> str | None:
        """Do all that is done to a run with a file changed."""
        from policy_gallery.watch import watched

        from perdure.errors import PerdureError

        file = self._root / name
        file.write_bytes(content)
        length = self._length + len(content)
        said: PerdureError | None = None
        outcome = None
        try:
            for what, act in self._doings(content).items():
                with watched(Path(self._directory.name)) if watch else contextlib.nullcontext() as cost:
                    try:
                        with contextlib.redirect_stderr(io.StringIO()):
                            outcome = act()
                    except PerdureError as error:
                        said = error
                if watch:
                    check_cost(cost, length, what)
        finally:
            file.write_bytes(self._files[name])
        if said is not None:
            raise said
        return outcome

    def _doings(self, content: bytes) -> dict[str, Callable[[], str | None]]:
        command = (["ls"], ["show"], ["show", "--tree", "net"], ["show", "--json"])[len(content) % 4]
        return {
            " ".join(command): lambda: self._command(*command),
            "verify": lambda: self._command("verify"),
            "resume": self._resume,
        }

    def _command(self, name: str, *options: str) -> None:
        from click.testing import CliRunner

        from perdure.cli import main

        result = CliRunner().invoke(main, [name, str(self._root), *options])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code in (0, 1, 2), result.output

    def _resume(self) -> str | None:
        import perdure

        newest = max(int(Path(name).stem) for name in self._files if name.startswith("checkpoints/"))
        with perdure.Run(self._root, lock_timeout=0.1) as run:
            info = run.resume(self._make_world())
            return None if info is not None and info.number == newest else "refused"


class Policies:
    """Policy files with a changed pickle, loaded while somebody watches what Python does."""

    def __init__(self) -> None:
        import tempfile

        import honest_policies
        import honest_values
        import persistence_nets

        import perdure.environments.handlers  # noqa: F401

        self._directory = tempfile.TemporaryDirectory()
        self._make = {
            "rich": persistence_nets.Rich,
            "layers": honest_policies.layers,
            "optimizers": honest_policies.optimizers,
            "values": honest_policies.values,
            "kinds": honest_values.all_in_one,
        }
        self._pickles = {name: self._saved(name, make()) for name, make in self._make.items()}
        self._kinds = self._needed(self._pickles["kinds"])
        self._live_kinds = honest_values.all_in_one()  # takes long to make

    def _saved(self, name: str, policy: Any) -> tuple[bytes, dict[str, bytes]]:
        import zipfile

        import torch

        path = Path(self._directory.name, name)
        torch.save(policy, path)
        with zipfile.ZipFile(path) as archive:
            records = {each.partition("/")[2]: archive.read(each) for each in archive.namelist()}
        data = {each.removeprefix("data/"): found for each, found in records.items() if "data/" in each}
        return records["data.pkl"], data

    def _needed(self, saved: tuple[bytes, dict[str, bytes]]) -> list[str]:
        """The names that a policy needs to be trusted."""
        from policy_gallery.assembler import archive

        from perdure.errors import UntrustedError
        from perdure.persistence import load_policy

        path = Path(self._directory.name, "policy.pt")
        path.write_bytes(archive(*saved))
        try:
            load_policy(path)
        except UntrustedError as error:
            return error.names
        return []

    def seeds(self) -> list[bytes]:
        """The pickles, with a letter in front that says whose tensors belong to them."""
        return [f"{name[0]}".encode() + pickle for name, (pickle, _) in self._pickles.items()]

    def try_out(self, data: bytes) -> str | None:
        """Load a policy and restore it; it must take little, and do nothing but that."""
        import persistence_nets
        import torch
        from policy_gallery.assembler import archive
        from policy_gallery.watch import watched

        from perdure.errors import PerdureError
        from perdure.persistence import PolicyPersistence, load_policy
        from perdure.world import World

        name = next((each for each in self._pickles if each[:1].encode() == data[:1]), "rich")
        content = archive(data[1:], self._pickles[name][1])
        path = Path(self._directory.name, "policy.pt")
        path.write_bytes(content)
        trust = [persistence_nets, torch.nn, torch.optim, persistence_nets.double]
        trust += [torch.nn.functional.relu, persistence_nets.Rich.sample]
        if name == "kinds":
            trust += self._kinds
        live = self._live_kinds if name == "kinds" else self._make[name]()
        persistence = PolicyPersistence(trust=self._kinds if name == "kinds" else ())
        said = None
        for act in (
            lambda: load_policy(path, trust=trust),
            lambda: persistence.restore(live, World(restore_directory=path.parent), "cpu"),
        ):
            with watched() as cost:
                try:
                    act()
                except PerdureError as error:
                    said = error
            check_cost(cost, len(content), "a policy")
        if said is not None:
            raise said
        return None


def mutated_policy(data: bytes, chance: random.Random) -> bytes:
    """A pickle with some of its opcodes changed, left out, doubled or exchanged, or their bytes changed."""
    from pickletools import genops

    with contextlib.suppress(ValueError, IndexError, KeyError):
        starts = [position or 0 for _, _, position in genops(data[1:])]
        pieces = [data[1:][a:b] for a, b in zip(starts, [*starts[1:], len(data) - 1], strict=True)]
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            at = chance.randrange(len(pieces))
            match chance.randrange(6):
                case 0:
                    del pieces[at]
                case 1:
                    pieces.insert(at, chance.choice(pieces))
                case 2:
                    pieces[at] = chance.choice(pieces)
                case 3:
                    other = chance.randrange(len(pieces))
                    pieces[at], pieces[other] = pieces[other], pieces[at]
                case 4:
                    pieces[at] = _changed_bytes(pieces[at], chance)
                case _:
                    pieces[at] = chance.choice(_OPCODES)
        return data[:1] + b"".join(pieces)
    return data[:1] + _changed_bytes(data[1:], chance)


_OPCODES = [
    *(b"N", b"\x88", b"]", b"}", b")", b"(", b"0", b"R", b"b", b"s", b"a", b"u", b"e", b"t"),
    *(b"\x81", b"\x85", b"\x86", b"Q"),
    *(b"h\x00", b"h\x01", b"K\x00", b"K\xff", b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"X\x01\0\0\0x"),
    *(b"X\x07\0\0\0forward", b"X\x0c\0\0\0__setstate__", b"\x8a\x08\0\0\0\0\0\0\0\x7f", b"G\x7f\xf8\0\0\0\0\0\0"),
    *(b"cposix\nsystem\n", b"c__builtin__\ngetattr\n", b"cpersistence_nets\nLoud\n"),
    b"ctorch.nn.modules.linear\nLinear\n",
]  # fmt: skip


def _changed_bytes(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    if changed:
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _paged_run() -> tuple[dict[str, bytes], bytes]:
    """The files of a run whose array has its extents in a page: whole chunks, parts of one, zeros; and that page."""
    from unittest import mock

    import numpy as np
    from damage_support import in_memory, state_of

    from perdure.store import Store, load_checksummed
    from perdure.store._checksummed_json import dump_checksummed
    from perdure.store._layout import Extent, Layout, dump_page, whole, zero_chunk
    from perdure.store._reading import load_manifest

    backend = in_memory({})
    content = np.random.default_rng(1).integers(0, 99, 1000, np.uint8)
    with mock.patch("perdure.store._packs.CHUNK", 300), mock.patch("perdure.store._commit_plan._INLINE", 1):
        with Store.open(backend, write=True) as store:
            store.commit(state_of({"x": content}), step=1)
    (layout,) = load_manifest(backend, 1).arrays
    chunks = [extent.chunk for extent in layout.extents()]
    extents = [
        *(Extent(chunks[0], skip, 100) for skip in (0, 100, 50)),
        *map(whole, chunks[1:3]),
        whole(zero_chunk(5000)),
    ]
    made = Layout.of(sum(extent.take for extent in extents), extents)
    name = "checkpoints/00000001.json"
    body = load_checksummed("manifest", backend.objects[name], name)
    (array,) = (node[1] for node in body["state"]["nodes"] if node[0] == "a")
    array["shape"] = [made.nbytes]
    body["arrays"] = [{"nbytes": made.nbytes, "span": made.span, "pages": []}]
    backend.objects[name] = dump_checksummed("manifest", body)
    return dict(backend.objects), dump_page(made.pages[0])


def _new_chunk(data: bytes, checksum: str) -> Any:
    from perdure.store._packs import New

    return New("page", 0, len(data), checksum, lambda: memoryview(data))


def mutated_page(data: bytes, chance: random.Random) -> bytes:
    """A page with some of its numbers changed, or of its extents left out, doubled or exchanged; or cut off."""
    records = [bytearray(data[at : at + 52]) for at in range(0, len(data), 52)] or [bytearray(52)]
    for _ in range(chance.choice((1, 1, 2, 4))):
        number = chance.randrange(len(records))
        match chance.randrange(6):
            case 0:
                records.insert(number, bytearray(chance.choice(records)))
            case 1 if len(records) > 1:
                del records[number]
            case 2:
                records[number], records[-1] = records[-1], records[number]
            case 3:
                records[number] = records[number][: chance.randrange(53)]
            case _:
                at, size = chance.choice(
                    ((0, 8), (8, 8), (16, 4), (20, 4), (24, 4), (28, 4), (32, 4), (36, 16))
                )
                value = int.from_bytes(records[number][at : at + size], "little")
                changed = chance.choice(
                    (0, 1, 2, 3, value + 1, value - 1, value * 2, 1 << 26, (1 << 62) - 1, -1)
                )
                records[number][at : at + size] = (changed % (1 << 8 * size)).to_bytes(size, "little")
    return b"".join(records)


def resealed(pack: bytes) -> bytes:
    """A changed pack with the right checksum in its header, as far as that can be found."""
    from perdure.store._checksummed_json import digest
    from perdure.store._packs import _CHECKSUM_AT, _LENGTH, _NO_CHECKSUM

    length = _LENGTH + int.from_bytes(pack[:_LENGTH], "little")
    at = _LENGTH + _CHECKSUM_AT
    if not at + len(_NO_CHECKSUM) <= length <= len(pack):
        return pack
    header = bytearray(pack[:length])
    header[at : at + len(_NO_CHECKSUM)] = _NO_CHECKSUM.encode("ascii")
    header[at : at + len(_NO_CHECKSUM)] = digest(bytes(header)).encode("ascii")
    return bytes(header) + pack[length:]


def mutated_pack(data: bytes, chance: random.Random) -> bytes:
    """A pack with its header changed as JSON, and its length made right; or some bytes changed anywhere."""
    header = 8 + int.from_bytes(data[:8], "little")
    with contextlib.suppress(ValueError, RecursionError):
        if chance.random() < 0.7 and header <= len(data):
            text = json.dumps(mutated(json.loads(data[8:header]), chance), separators=(",", ":")).encode()
            return len(text).to_bytes(8, "little") + text + data[header:]
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def mutated_input(target: str, data: bytes, chance: random.Random) -> bytes:
    """The next input, made from another one."""
    if target == "pack":
        return mutated_pack(data, chance)
    if target == "page":
        return mutated_page(data, chance)
    if target == "policy":
        return mutated_policy(data, chance)
    try:
        return json.dumps(mutated(json.loads(data), chance), separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return data[: len(data) // 2]


class _Bytes:
    def __init__(self, content: bytes) -> None:
        self.content, self.nbytes = content, len(content)

    def read_into(self, buffer: memoryview) -> None:
        buffer[:] = self.content


def _Colour(enum: Any) -> Any:
    return enum.Enum("_Colour", ["RED"], module=__name__).RED


def main() -> None:
    """Fuzz one target with atheris, for so long or so often."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("input", nargs="?", help="try this one input and end")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", default=".fuzz")
    options = parser.parse_args()

    import atheris

    with atheris.instrument_imports(include=["perdure"]):
        import perdure
        import perdure.cli
        import perdure.environments.handlers
        import perdure.inspect
        import perdure.persistence
        import perdure.run
        import perdure.state
        import perdure.store
        import perdure.tree  # noqa: F401
    fuzz = Fuzz()
    if options.input:
        print(fuzz.try_out(options.target, Path(options.input).read_bytes()))
        return
    corpus = Path(options.corpus, options.target)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(fuzz.seeds(options.target)):
        (corpus / f"seed-{number}").write_bytes(seed)
    seen = dict.fromkeys(OUTCOMES, 0)

    def try_out(data: bytes) -> None:
        seen[fuzz.try_out(options.target, data)] += 1
        count = sum(seen.values())
        if count & (count - 1) == 0 or count >= options.runs:
            print(f"{options.target}: {count} inputs, {seen}", file=sys.stderr, flush=True)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        return mutated_input(options.target, data, random.Random(seed))[:max_size]

    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={options.seconds}",
            f"-runs={options.runs}",
            f"-seed={options.seed}",
            "-max_len=1000000",
            "-timeout=30",
            "-rss_limit_mb=4096",
            f"-artifact_prefix={options.corpus}/",
            "-print_final_stats=1",
        ],
        try_out,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    _: Callable[[], None] = main
    main()

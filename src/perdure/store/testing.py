"""Tests for backends, a backend in memory, and one that fails on purpose. Knows backends, and no checkpoints.

Test your own backend with::

    class TestMyBackend(BackendConformance):
        @pytest.fixture
        def connect(self, tmp_path):
            return lambda: MyBackend(tmp_path)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import pytest

from perdure.errors import DamagedError, LockedError, StoreError
from perdure.store._files import Buffer
from perdure.store.backends import Backend, Entry, check_name

Connect = Callable[[], Backend]

_BAD_NAMES = (
    *(
        "",
        ".",
        "..",
        "/",
        "/etc/passwd",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a//b",
        "a/",
        "packs/.hidden/x",
        ".tmp-1",
    ),
    *("a\\b", "a\0b", "a\nb", "C:/a", "café", "x" * 300, "/".join("x" * 300)),
)


class MemoryBackend:
    """A :class:`Backend` in memory; :meth:`connect` gives another client of the same memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._owner: list[MemoryBackend] = []
        self._mutex = threading.Lock()

    def connect(self) -> MemoryBackend:
        """Another client, as another process would have it."""
        other = MemoryBackend()
        other.objects, other._owner, other._mutex = self.objects, self._owner, self._mutex
        return other

    def locate(self, name: str) -> str:
        """The name, as a URL."""
        return f"memory:{name}"

    def put(self, name: str, buffers: Iterable[Buffer]) -> None:
        """See :meth:`Backend.put`."""
        check_name(name)
        content = b"".join(buffers)
        with self._mutex:
            if name in self.objects:
                raise FileExistsError(name)
            self.objects[name] = content

    def get(self, name: str) -> bytes:
        """See :meth:`Backend.get`."""
        try:
            return self.objects[check_name(name)]
        except KeyError:
            raise FileNotFoundError(name) from None

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """See :meth:`Backend.read_into`."""
        content = self.get(name)[offset : offset + buffer.nbytes]
        if len(content) < buffer.nbytes:
            raise DamagedError(f"{self.locate(name)} ends too early")
        buffer[:] = content

    def list(self, directory: str) -> list[Entry]:
        """See :meth:`Backend.list`."""
        prefix = f"{check_name(directory)}/" if directory else ""
        names = [name for name in self.objects if name.startswith(prefix) and "/" not in name[len(prefix) :]]
        return [Entry(name, len(self.objects[name])) for name in sorted(names)]

    def delete(self, name: str) -> None:
        """See :meth:`Backend.delete`."""
        self.objects.pop(check_name(name), None)

    def lock(self, wait: float) -> None:
        """See :meth:`Backend.lock`; does not wait."""
        with self._mutex:
            if self._owner and self._owner[0] is not self:
                raise LockedError("another client is writing")
            self._owner[:] = [self]

    def check_lock(self) -> None:
        """See :meth:`Backend.check_lock`."""

    def unlock(self) -> None:
        """See :meth:`Backend.unlock`."""
        if self._owner and self._owner[0] is self:
            self._owner.clear()


class FailingBackend:
    """Passes everything on to another backend, but calls `fail` before the `at`-th operation and all later ones.

    `fail` may raise, or end the process. If it returns, the operation is done.

    :param at: counts the operations that change something, from 1; `count` tells how many there were.
    :param fail: called with the verb and the name.
    """

    def __init__(self, backend: Backend, at: int, fail: Callable[[str, str], None]) -> None:
        self._backend = backend
        self._at = at
        self._fail = fail
        self.count = 0

    def _pass(self, verb: str, name: str) -> None:
        self.count += 1
        if self.count >= self._at:
            self._fail(verb, name)

    def locate(self, name: str) -> str:
        """See :meth:`Backend.locate`."""
        return self._backend.locate(name)

    def put(self, name: str, buffers: Iterable[Buffer]) -> None:
        """See :meth:`Backend.put`. Counts twice: before, and in the middle of the data."""
        self._pass("put", name)
        self._backend.put(name, self._halfway(name, [bytes(buffer) for buffer in buffers]))

    def _halfway(self, name: str, buffers: list[bytes]) -> Iterator[Buffer]:
        content = b"".join(buffers)
        yield content[: len(content) // 2]
        self._pass("put half of", name)
        yield content[len(content) // 2 :]

    def get(self, name: str) -> bytes:
        """See :meth:`Backend.get`."""
        return self._backend.get(name)

    def read_into(self, name: str, offset: int, buffer: memoryview) -> None:
        """See :meth:`Backend.read_into`."""
        self._backend.read_into(name, offset, buffer)

    def list(self, directory: str) -> list[Entry]:
        """See :meth:`Backend.list`."""
        return self._backend.list(directory)

    def delete(self, name: str) -> None:
        """See :meth:`Backend.delete`."""
        self._pass("delete", name)
        self._backend.delete(name)

    def lock(self, wait: float) -> None:
        """See :meth:`Backend.lock`."""
        self._pass("lock", "")
        self._backend.lock(wait)

    def check_lock(self) -> None:
        """See :meth:`Backend.check_lock`."""
        self._backend.check_lock()

    def unlock(self) -> None:
        """See :meth:`Backend.unlock`."""
        self._backend.unlock()


class BackendConformance:
    """Every promise of :class:`Backend`, as tests. Subclass it, and override :meth:`connect`."""

    @pytest.fixture
    def connect(self) -> Connect:
        """A function that connects to one and the same place, empty at first, as another process would."""
        raise NotImplementedError("override the fixture `connect`")

    @pytest.fixture
    def backend(self, connect: Connect) -> Backend:
        """One client."""
        return connect()

    @pytest.mark.parametrize(
        "buffers", [[], [b""], [b"abc"], [b"a", bytearray(b"b"), b"", memoryview(b"cde")]]
    )
    def test_what_was_put_is_there(self, backend: Backend, connect: Connect, buffers: list[Buffer]) -> None:
        """The concatenation of all buffers, also for another client."""
        backend.put("packs/one", iter(buffers))
        for client in (backend, connect()):
            assert client.get("packs/one") == b"".join(buffers)

    def test_many_and_large_buffers(self, backend: Backend) -> None:
        """More of them, and more in one of them, than one system call takes."""
        buffers = [i.to_bytes(2, "little") for i in range(3000)] + [bytes(9 << 20), b"end"]
        backend.put("large", buffers)
        content = backend.get("large")
        assert content == b"".join(buffers)
        assert backend.list("") == [Entry("large", len(content))]

    def test_nothing_is_overwritten(self, backend: Backend) -> None:
        """A second object of the same name is refused, and the first stays."""
        backend.put("a/b", [b"first"])
        with pytest.raises(FileExistsError):
            backend.put("a/b", [b"second"])
        assert backend.get("a/b") == b"first"

    def test_one_of_many_at_once_wins(self, connect: Connect) -> None:
        """Of clients that put one name at the same time, one succeeds, and what it put is there whole."""
        won: list[bytes] = []
        gate = threading.Barrier(8)

        def put(content: bytes) -> None:
            client = connect()
            gate.wait()
            try:
                client.put("race/one", [content] * 100)
                won.append(content * 100)
            except FileExistsError:
                pass

        threads = [threading.Thread(target=put, args=(bytes([i]) * 1000,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [connect().get("race/one")] == won
        assert [entry.name for entry in connect().list("race")] == ["race/one"]

    def test_a_failed_put_leaves_nothing(self, backend: Backend) -> None:
        """If the data raises halfway, the name does not exist, and can be used."""

        def failing() -> Iterator[Buffer]:
            yield b"half"
            raise RuntimeError("the data is gone")

        with pytest.raises(RuntimeError, match="the data is gone"):
            backend.put("packs/one", failing())
        assert backend.list("packs") == []
        with pytest.raises(FileNotFoundError):
            backend.get("packs/one")
        backend.put("packs/one", [b"whole"])
        assert backend.get("packs/one") == b"whole"

    def test_half_an_object_is_not_seen(self, backend: Backend, connect: Connect) -> None:
        """While an object is being put, it is neither listed nor found."""

        def looking() -> Iterator[Buffer]:
            yield b"half"
            assert connect().list("packs") == []
            with pytest.raises(FileNotFoundError):
                connect().get("packs/one")
            yield b"whole"

        backend.put("packs/one", looking())
        assert backend.get("packs/one") == b"halfwhole"

    def test_ranges(self, backend: Backend) -> None:
        """Any range can be read; one beyond the end is damage, not a short read."""
        content = bytes(range(256)) * 10
        backend.put("ranges", [content])
        for offset, length in [(0, 0), (0, 2560), (0, 1), (100, 300), (2559, 1), (2560, 0)]:
            buffer = bytearray(length)
            backend.read_into("ranges", offset, memoryview(buffer))
            assert buffer == content[offset : offset + length]
        for offset, length in [(0, 2561), (2560, 1), (5000, 1)]:
            with pytest.raises(DamagedError):
                backend.read_into("ranges", offset, memoryview(bytearray(length)))

    def test_what_is_missing(self, backend: Backend) -> None:
        """Reading it says so; deleting it is no error; listing it gives nothing."""
        with pytest.raises(FileNotFoundError):
            backend.get("nowhere/one")
        with pytest.raises(FileNotFoundError):
            backend.read_into("nowhere/one", 0, memoryview(bytearray(1)))
        backend.delete("nowhere/one")
        assert backend.list("nowhere") == []
        assert backend.list("") == []

    def test_lists(self, backend: Backend) -> None:
        """Sorted, with sizes; only what is directly there; a directory's name is not a prefix."""
        for name, size in [("d/b", 3), ("d/a", 0), ("d/c/e", 1), ("dd/a", 2), ("top", 4)]:
            backend.put(name, [bytes(size)])
        assert backend.list("d") == [Entry("d/a", 0), Entry("d/b", 3)]
        assert backend.list("dd") == [Entry("dd/a", 2)]
        assert backend.list("d/c") == [Entry("d/c/e", 1)]
        assert backend.list("") == [Entry("top", 4)]

    def test_what_was_deleted_is_gone(self, backend: Backend, connect: Connect) -> None:
        """For every client; and its name can be used again."""
        backend.put("d/a", [b"1"])
        backend.put("d/b", [b"2"])
        backend.delete("d/a")
        assert connect().list("d") == [Entry("d/b", 1)]
        with pytest.raises(FileNotFoundError):
            connect().get("d/a")
        backend.put("d/a", [b"3"])
        assert backend.get("d/a") == b"3"

    @pytest.mark.parametrize("name", _BAD_NAMES)
    def test_bad_names(self, backend: Backend, name: str) -> None:
        """No verb takes a name that could lead out of the place."""
        with pytest.raises(ValueError, match="is not a name"):
            backend.put(name, [b"x"])
        with pytest.raises(ValueError, match="is not a name"):
            backend.get(name)
        with pytest.raises(ValueError, match="is not a name"):
            backend.read_into(name, 0, memoryview(bytearray(1)))
        with pytest.raises(ValueError, match="is not a name"):
            backend.delete(name)
        if name:
            with pytest.raises(ValueError, match="is not a name"):
                backend.list(name)

    def test_one_writer(self, connect: Connect) -> None:
        """The lock keeps other writers out, not readers; and can be handed on."""
        first, second = connect(), connect()
        first.lock(0)
        first.put("a", [b"1"])
        with pytest.raises(LockedError):
            second.lock(0.1)
        assert second.get("a") == b"1"
        first.unlock()
        first.unlock()
        second.lock(0)
        with pytest.raises(StoreError):
            first.lock(0)
        second.unlock()

    def test_places_have_names(self, backend: Backend) -> None:
        """An error message can say where something is."""
        assert "packs/one" in backend.locate("packs/one")

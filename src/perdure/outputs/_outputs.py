"""The outputs of one run: at each checkpoint how far every file was written, on resuming each file as it was then."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from perdure.outputs import _bringing_back, _disk, _opened, _registered, _services
from perdure.outputs._finding import Finder
from perdure.outputs._followed import Followed
from perdure.outputs._kept import Kept
from perdure.outputs._matching import Match, inside, match
from perdure.outputs._record import Entry, read_entries, read_notes, write_entries
from perdure.outputs._writers import Appended, Writer
from perdure.store import explained, sync

#: Of how many bytes of outputs a run keeps a copy, unless it is told otherwise.
KEEP = 256 << 20
#: After so many times, a file that is written anew as a whole is not kept any more.
_REWRITTEN = 8
#: What a file held before the run is kept too if it is not more than so many bytes: a head, say.
_SMALL = 1 << 20
#: Of how many files that are closed is known how they were.
_CLOSED = 1000

#: Kind of file (whether it holds events), path, and which one of several it is.
_Key = tuple[bool, str, int]
#: What is added to a copy: the file, its copy, the copy's beginning, the place, the bytes.
_Part = tuple[Followed, int, int | None, int, list[bytes]]


class Outputs:
    """The files that a run writes, beside its checkpoints.

    :param directory: of the run.
    :param keep: of how many bytes a copy is kept.
    :param say: tells the user one line.
    """

    def __init__(self, directory: str, keep: int, say: Callable[[str], None]) -> None:
        self._directory = directory
        self._keep = keep
        self._say = say
        self._kept = Kept(directory)
        self._finder = Finder()
        self._lock = threading.RLock()
        self._followed: dict[_Key, Followed] = {}
        #: Files that a checkpoint knows, and that no writer has yet.
        self._waiting: list[Entry] = []
        self._entries: dict[_Key, Entry] = {}
        self._appended: dict[str, Appended] = {}
        self._places: dict[int, tuple[Writer, int]] = {}
        self._told: set[str] = set()
        #: Copies that newer checkpoints do not need, and the number of the last that does, once it is known.
        self._retired: dict[int, int | None] = {}
        self._step = 0
        self._has_begun = False
        self._fork = False
        self._process = os.getpid()
        self.open()

    def open(self) -> None:
        """Follow files from now on, also those that are opened only for a moment."""
        _opened.listen(self)

    def close(self) -> None:
        """Follow no file any more."""
        _opened.stop(self)

    # -- the beginning, and resuming ----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Note what there is before the first step; or go back to that, if a process died before its first checkpoint.

        :raises StoreError: if something cannot be written.
        """
        if self._has_begun:
            return
        before = self._kept.read_begin()
        if before is not None or self._kept.noted():
            self._go_on(json.loads(before or "[]"), 0, is_newest=True, is_beginning=True)
        self._has_begun = True
        self._retired.update(dict.fromkeys(self._unused(), 0))
        found, write = self.capture([])
        if before is None and self._entries:
            write()
            self._kept.write_begin(json.dumps(found))

    def resume(self, found: object, step: int, numbers: Sequence[int], number: int) -> None:
        """Bring all files to where they were at a checkpoint.

        :param found: what `capture` gave for it; None if it was taken without.
        :param numbers: of all checkpoints.
        :param number: of this one.
        :raises StoreError: if something cannot be written. It can be tried again.
        """
        self._has_begun = True
        newest = max(numbers, default=number)
        self._go_on(found, step, is_newest=number >= newest)
        if number >= newest:
            self._retired.update(dict.fromkeys(self._unused(), newest))

    def _unused(self) -> list[int]:
        used = {entry.kept for entry in self._waiting} | {each.kept for each in self._followed.values()}
        return [each for each in self._kept.numbers() if each not in used]

    def _go_on(self, recorded: object, step: int, *, is_newest: bool, is_beginning: bool = False) -> None:
        entries = read_entries(recorded)
        known = {entry.path for entry in entries}
        # What the run wrote to for the first time after the checkpoint is as it was before that.
        entries += [entry for entry in read_notes(self._kept.noted()) if entry.path not in known]
        self._kept.reserve(each.kept for each in entries)
        writers = self._find()
        with self._lock:
            self._step = step
            self._fork = not is_newest
            self._followed.clear()
            self._entries.clear()
            found, self._waiting = match(writers, entries, self._directory)
            for each in found:
                if (
                    is_beginning
                    and each.path == each.writer.path
                    and each.writer.truncates
                    and not _is_events(each)
                ):
                    continue  # this process has begun it anew
                self._bring_back(each)

    def _bring_back(self, found: Match) -> None:
        writer, entry, path = found
        try:
            said = _bringing_back.bring_back(self._kept, writer, entry, path, self._step)
        except _disk.Refused as error:
            self._tell(writer.file, f"{writer.file} is left as it is: {error}")
            return
        for line in said:
            self._tell(line, line)
        self._follow(writer, entry)

    def _follow(self, writer: Writer, entry: Entry) -> None:
        key = (writer.kind == "events", writer.path, entry.place)
        self._places[id(writer)] = writer, entry.place
        digest, tail = _bringing_back.digest_now(writer, entry.length)
        followed = Followed(entry.kept, entry.start, entry.length, digest, tail, durable=entry.length)
        self._retired.pop(entry.kept or 0, None)
        if entry.kept is not None and self._kept.size(entry.kept) < entry.length - entry.start:
            followed = Followed(self._kept.new(), 0)  # somebody has removed the copy
        elif self._fork:
            followed.forked_from = entry.kept
        self._followed[key] = followed
        self._entries[key] = entry

    # -- files that are opened to append to ---------------------------------------------------------------------------

    def will_append(self, path: str) -> None:
        """A file is about to be opened for appending: bring it back in time, and follow it from now on."""
        # TensorBoard's thread comes here while this run waits for it.
        if "tfevents" in path or path in self._appended or os.getpid() != self._process:
            return
        if _is_below(self._kept.directory, path) or not os.path.isdir(os.path.dirname(path)):
            return
        with self._lock:
            if path in self._appended or (False, path, 0) in self._followed:
                return
            writer = self._appended[path] = Appended(path)
            if not self._has_begun:
                return
            found, self._waiting = match([writer], self._waiting, self._directory)
            if found:
                with suppress(OSError):
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
                self._bring_back(found[0])
            else:
                self._begin_following(writer)
                if self._look(writer, key := self._key(writer)) or not os.path.lexists(path):
                    part = _part(self._followed[key])
                    self._write([], [] if part is None else [part])
                    self._kept.note(json.dumps(write_entries([self._entry(writer, key)])))

    def _begin_following(self, writer: Writer) -> Followed:
        """Follow a file from now on. Much that it holds already is not of this run, and no copy is made of it."""
        key = self._key(writer)
        followed = self._followed[key] = Followed(None, 0)
        if not writer.truncates:
            with (
                suppress(OSError, _disk.Refused),
                _disk.opened(writer.file, os.O_RDONLY, writer.descriptor()) as fd,
            ):
                if os.fstat(fd).st_size > _SMALL:
                    followed.look(fd, 0)
                    followed.start = followed.durable = followed.length
        followed.kept = self._kept.new()
        return followed

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def capture(self, numbers: Sequence[int]) -> tuple[list[dict[str, Any]], Callable[[], None]]:
        """How far each file is written; call it where the training is at a safe point.

        :param numbers: of the checkpoints that there are.
        :returns: what the checkpoint says of them, and a function that makes that durable. Call it, in any thread,
            before the checkpoint is committed.
        """
        writers = self._find()
        for line in _services.notices():
            self._tell(line.partition(":")[0], line)
        with self._lock:
            self._clean(numbers)
            known = {(each.kind == "events", each.path) for each in self._waiting}
            if known and (late := [each for each in writers if self._key(each) not in self._followed]):
                self._bring_back_late(late)
            seen: set[_Key] = set()
            paths: list[str] = []
            for writer in writers:
                key = self._key(writer)
                if key not in seen and self._look(writer, key):
                    seen.add(key)
                    paths.append(writer.file)
            self._forget_closed(seen)
            found = write_entries([*self._entries.values(), *self._waiting])
            parts = [part for each in self._followed.values() if (part := _part(each)) is not None]
        return found, lambda: self._write(paths, parts)

    def _find(self) -> list[Writer]:
        found = self._finder.find()
        for path, reason in found.refused.items():
            self._tell(path, f"{path} is not brought back when the run is resumed: {reason}")
        writers = [*found.writers, *_registered.writers()]
        open_now = {each.file for each in writers}
        writers += [each for each in list(self._appended.values()) if each.path not in open_now]
        writers = [
            each
            for each in writers
            if _opened.may_be_output(each.file) and not _is_below(self._kept.directory, each.file)
        ]
        for each in writers:
            each.flush()
        return writers

    def _key(self, writer: Writer) -> _Key:
        is_events = writer.kind == "events"
        if not is_events:
            return False, writer.path, 0
        known = self._places.get(id(writer))
        if known is None or known[0] is not writer:
            taken = [place for other, place in self._places.values() if other.path == writer.path]
            known = self._places[id(writer)] = writer, 1 + max(taken, default=-1)
        return True, writer.path, known[1]

    def _bring_back_late(self, writers: list[Writer]) -> None:
        """Bring back the files of writers that were not there when the run was resumed."""
        found, self._waiting = match(writers, self._waiting, self._directory)
        for writer, entry, path in found:
            try:
                if writer.truncates and path == writer.path and writer.kind == "file":
                    _bringing_back.prepend(self._kept, writer, entry)
                    self._follow(writer, entry)
                    continue
            except _disk.Refused as error:
                self._tell(writer.file, f"{writer.file} is left as it is: {error}")
                continue
            self._bring_back(Match(writer, entry, path))

    def _look(self, writer: Writer, key: _Key) -> bool:
        """Note how far a file is written; returns whether it can be."""
        followed = self._followed.get(key)
        if followed is None:
            is_new = self._has_begun
            followed = self._followed[key] = (
                Followed(self._kept.new(), 0) if is_new else self._begin_following(writer)
            )
        try:
            with _disk.opened(writer.file, os.O_RDONLY, writer.descriptor()) as fd:
                length = followed.length
                if not followed.look(fd, self._room()):
                    followed = self._restart(key, followed, writer.file)
                    followed.look(fd, self._room())
                if followed.kept is None and length != followed.length and not followed.start:
                    self._tell(writer.file, self._not_kept(writer.file, followed))
                if (
                    followed.forked_from is not None
                    and followed.kept == followed.forked_from
                    and followed.pending
                ):
                    followed.kept = self._kept.new()
        except FileNotFoundError:
            return False
        except (OSError, _disk.Refused) as error:
            self._tell(writer.file, f"{writer.file} is not brought back when the run is resumed: {error}")
            return False
        self._entries[key] = self._entry(writer, key)
        return True

    def _entry(self, writer: Writer, key: _Key) -> Entry:
        followed = self._followed[key]
        return Entry(
            kind=writer.kind,
            path=writer.path,
            inside=inside(self._directory, writer.path),
            place=key[2],
            name=os.path.basename(writer.file) if writer.kind == "events" else "",
            length=followed.length,
            digest=followed.digest.hexdigest(),
            kept=followed.kept,
            start=followed.start,
            state=writer.state(),
        )

    def _restart(self, key: _Key, before: Followed, path: str) -> Followed:
        """Begin with a file anew that was written anew."""
        if before.kept is not None:
            self._retired[before.kept] = None
        times = before.rewritten + 1
        kept = self._kept.new() if times <= _REWRITTEN else None
        followed = self._followed[key] = Followed(kept, 0, rewritten=times)
        return followed

    def _not_kept(self, path: str, followed: Followed) -> str:
        if followed.rewritten > _REWRITTEN:
            return (
                f"{path} is written anew again and again, so no copy of it is kept: a resumed run goes on with "
                "what the file holds then"
            )
        return (
            f"{path} is too large for a copy in the run ({followed.length} bytes; keep_outputs={self._keep}). If the "
            "script opens it with 'w' when it is started again, what it holds is lost: open it with 'a'"
        )

    def _room(self) -> int:
        return self._keep - sum(
            each.length - each.start for each in self._followed.values() if each.kept is not None
        )

    def _forget_closed(self, seen: set[_Key]) -> None:
        closed = [key for key in self._followed if key not in seen]
        for key in closed[: max(0, len(closed) - _CLOSED)]:
            followed = self._followed.pop(key)
            self._entries.pop(key, None)
            if followed.kept is not None:
                self._retired[followed.kept] = None

    def _clean(self, numbers: Sequence[int]) -> None:
        """Remove copies that no checkpoint needs any more."""
        for kept, last in list(self._retired.items()):
            if last is None:
                self._retired[kept] = max(numbers, default=0)
            elif numbers and min(numbers) > last:
                self._kept.remove(kept)
                del self._retired[kept]

    def _write(self, paths: list[str], parts: list[_Part]) -> None:
        """Make durable what a checkpoint says of the files, and add to the copies what was appended.

        :raises StoreError: if it cannot be written. It can be tried again.
        """
        for path in paths:
            try:
                with explained("sync", path), _disk.opened(path, os.O_RDONLY) as fd:
                    sync(fd)
            except (FileNotFoundError, FileExistsError, _disk.Refused):
                continue
        for followed, kept, forked_from, at, pending in parts:
            if forked_from is not None:
                with self._kept.reading(forked_from) as source:
                    self._kept.append(kept, 0, _disk.pieces(source, 0, at - followed.start))
                if followed.forked_from == forked_from:
                    followed.forked_from = None
            self._kept.append(kept, at - followed.start, pending)
            with self._lock:
                if followed.kept == kept and followed.durable == at:
                    del followed.pending[: len(pending)]
                    followed.durable += sum(map(len, pending))

    def _tell(self, path: str, line: str) -> None:
        if path not in self._told:
            self._told.add(path)
            self._say(line)


def _is_below(directory: str, path: str) -> bool:
    return path.startswith(directory + os.sep)


def _is_events(found: Match) -> bool:
    return found.writer.kind == "events"


def _part(followed: Followed) -> _Part | None:
    if followed.kept is None or not followed.pending:
        return None
    return followed, followed.kept, followed.forked_from, followed.durable, list(followed.pending)

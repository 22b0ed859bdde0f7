"""Bring a world to where a checkpoint of its run was: compare the script, restore, say what is different."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

from perdure.errors import (
    ChangedScriptWarning,
    DamagedCheckpointWarning,
    DamagedError,
    PerdureWarning,
    RestoreError,
    user_level,
)
from perdure.progress import Bar
from perdure.run import _clocks, _notices, _same_command, _script_check, _way_back
from perdure.run._code_prints import code_prints
from perdure.run._console import say, shown
from perdure.run._override import Override, told
from perdure.run._record import PART, RunRecord, WithRecord
from perdure.run._restorable import RestorableCheck
from perdure.run._script_state import ScriptState
from perdure.state import LiveWorld, Restored, prepare, rng
from perdure.store import Checkpoint, Store


class Resuming:
    """Resumes one run, any number of times.

    :param directory: of the run.
    :param record: what the run keeps of itself.
    :param restorable: of the run.
    :param script_state: what the script keeps outside of objects.
    :param override: values that win over those of the checkpoint.
    :param strict: whether it is an error if a checkpoint does not fit the script in every path.
    """

    def __init__(
        self,
        directory: str,
        record: RunRecord,
        restorable: RestorableCheck,
        script_state: ScriptState,
        override: Override,
        *,
        strict: bool,
    ) -> None:
        self._directory = directory
        self._record = record
        self._restorable = restorable
        self._script_state = script_state
        self._override = override
        self._strict = strict
        #: What this process's script had built; None until a checkpoint was looked for.
        self._script: _script_check.Script | None = None
        #: The checkpoint that was last said to be restored.
        self._said: int | None = None

    def walk(
        self, world: Any, frame: FrameType, checkpoint: Checkpoint | None = None, fresh: Sequence[str] = ()
    ) -> LiveWorld:
        """Walk over a world that is to be restored.

        :param frame: of the code that is running.
        :param checkpoint: what will be restored, if there is something.
        :param fresh: paths to leave out.
        """
        rng.training_begins()
        saved = None if checkpoint is None else checkpoint.state
        return self._script_state.built(WithRecord(world, self._record), world, frame, saved, fresh=fresh)

    def compare_script(self, found: Checkpoint | None, live: LiveWorld, world: Any) -> None:
        """Compare a checkpoint with the script, once; remember the script if there is none."""
        built = live.state()
        if (left_out := _notices.secrets(built)) is not None:
            say(left_out)
        again, script = self._script is not None, _script_check.Script(built, code_prints(live))
        if self._script is None:
            self._script = script
        if again and found is not None:
            return
        if found is None:
            self._record.script_fingerprint = script.pack()
            if (unstable := _same_command.never_found_again(self._directory)) is not None:
                warnings.warn(unstable, PerdureWarning, stacklevel=user_level())
            self._record.overrides = self._override.record(live.root)
            if (nothing := self._override.begins()) is not None:
                say(nothing)
            return
        state = found.state
        if self._strict:
            _script_check.check_seeds(
                state, PART, script, directory=self._directory, covered=self._override.covers
            )
            _script_check.check_shapes(
                state,
                PART,
                script,
                directory=self._directory,
                covered=self._override.covers,
                compare=lambda: prepare(state, WithRecord(world, self._record), live).report,
            )

    def restore(self, checkpoint: Checkpoint, live: LiveWorld, world: Any) -> Restored:
        """Write a checkpoint into a world, and say so.

        :param live: what `walk` returned.
        :raises RestoreError: if it does not fit; nothing was changed then.
        :raises DamagedError: if it is damaged. The world may be half restored then.
        """
        info = checkpoint.info
        self._script_state.check(checkpoint.state, live)
        with Bar(f"reading checkpoint {info.number}") as bar:
            assert self._script is not None
            now = self._script.values
            anew = self._script.packed_anew(_script_check.recorded(checkpoint.state, PART))
            script = _script_check.Unchanged(checkpoint.state, PART, lambda: now)
            live.unchanged, live.edited, live.built_before = script, script.edited, script.built_before
            applied = self._override.record(live.root)
            of_this_process = _clocks.moments(world)
            overridden = self._override.apply(checkpoint.state, live, PART)
            restoration = prepare(checkpoint.state, WithRecord(world, self._record), live)
            edited = _script_check.changes(
                checkpoint.state,
                PART,
                self._script,
                directory=self._directory,
                covered=lambda path: path in of_this_process or self._override.covers(path),
                in_force=script.in_force,
            )
            if edited is not None and self._said is None:
                warnings.warn(edited, ChangedScriptWarning, stacklevel=user_level())
            restored = restoration.apply(strict=self._strict, progress=bar.update)
            restored.write_arrays(overridden)
            self._record.overrides = applied
            if anew is not None:
                self._record.script_fingerprint = anew
            self._script_state.write_back(live)
        self._restorable.release(script_is_known=script.is_known)
        first, again = self._said is None, self._said == info.number
        self._said = info.number
        if not again:
            say(f"{shown(self._directory)}: going on at step {info.step} (checkpoint {info.number})")
        for notice in (
            _notices.places(restored.report),
            _notices.elsewhere(info),
            _notices.other_task(info),
        ):
            if notice is not None and first:
                say(notice)
        for line in (*told(overridden), *_notices.dropped(restored.report)):
            say(line)
        return restored

    def with_way_back(
        self, error: RestoreError, store: Store, newest: int, live: LiveWorld, world: Any
    ) -> RestoreError:
        """The error that a checkpoint does not fit, with the newest older one that does, and how to go on from that."""
        assert self._script is not None
        built = self._script

        def fits(checkpoint: Checkpoint) -> bool:
            script = _script_check.Unchanged(checkpoint.state, PART, lambda: built.values)
            live.unchanged, live.edited, live.built_before = script, script.edited, script.built_before
            return prepare(checkpoint.state, WithRecord(world, self._record), live).report.exact

        way_back = _way_back.way_back(store, newest, fits, shown(self._directory))
        return error if way_back is None else RestoreError(f"{error}\n{way_back}", error.report)


def next_older(store: Store, damaged: int, error: DamagedError) -> Checkpoint:
    """The checkpoint to use instead of a damaged one.

    :raises DamagedError: if there is none.
    """
    store.give_up(damaged, str(error))
    found = store.latest(deep=False, before=damaged)
    if found is None:
        raise DamagedError(
            f"checkpoint {damaged} is damaged, and there is no older one. The world may be half restored: do not "
            f"train on with it. What is wrong: {error}"
        ) from error
    warnings.warn(
        f"checkpoint {damaged} is damaged, and checkpoint {found.info.number} (step {found.info.step}) is used "
        f"instead. What is wrong with it: {error}",
        DamagedCheckpointWarning,
        stacklevel=user_level(),
    )
    return found

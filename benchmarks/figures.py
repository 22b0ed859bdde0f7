"""What Perdure has promised about storage, beside what was measured. The promises are ratios between things that were
measured in the same round; what is judged is the median of these."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.measured import Measured, Measurement
from benchmarks.peers import OURS
from benchmarks.peers.limits import Memcpy, RawWrite, ReadFresh
from benchmarks.peers.ours import Uncompressed
from benchmarks.report import Figure, Section, Table, megabytes, milliseconds, times
from benchmarks.timing import spread

_STAGE, _STAGE_EXTRA = 2.0, 0.002
_LESS_THAN_WHOLE, _LESS_THAN_BACKGROUND = 100.0, 20.0
_WRITTEN, _OF_PEERS = 1.1, 25.0
_DURABLE, _DURABLE_EXTRA = 1.5, 0.005
_RESTORE = 1.3
_MEMORY_EXTRA = 64 << 20


def pairs(values: Mapping[int, float], bases: Mapping[int, float]) -> list[float]:
    """The ratios of the rounds in which both were measured."""
    return [values[number] / bases[number] for number in values if bases.get(number)]


def quartiles(ratios: Sequence[float], unit: str = "x") -> str:
    """The median, and between which values half of the rounds lie."""
    low, high = spread(ratios)
    return (
        f"{_short(statistics.median(ratios))}{unit} ({_short(low)} to {_short(high)}, {len(ratios)} rounds)"
    )


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def table(measurements: Sequence[Measurement]) -> Table:
    """One table of everyone and all workloads."""
    sections = []
    for measurement in measurements:
        ours = measurement.peers[OURS]
        rows = [_row(one, ours) for one in measurement.peers.values()]
        title = (
            f"{measurement.name}: {measurement.title}. Changed: {megabytes(measurement.changed)} of "
            f"{megabytes(measurement.whole)}. First checkpoint of the run: {milliseconds(measurement.first)}. "
            f"{measurement.note}"
        )
        sections.append(Section(title.strip(), rows))
    return Table(
        "Saving a training, and loading it (medians)",
        ["", "stall", "of ours", "computing", "durable", "written", "restore", "of ours", "memory"],
        sections=sections,
        note="stall: until the call returned; computing: what the training thread computed in it, which other "
        "programs on the machine do not make longer. durable: until it would survive a power cut; who does not "
        "sync gets its files synced. restore: networks, optimizers and the whole buffer, from a warm cache into fresh "
        "objects; Perdure's is a resumed run of many incremental checkpoints, opened, verified and matched "
        "against the fresh objects, environments and generators included. memory: at most while saving, "
        "beyond what the training holds. of ours: median of the ratios of the rounds.",
    )


def _row(one: Measured, ours: Measured) -> list[str]:
    if one.failed:
        return [one.name, f"missing ({one.failed[:60]})", *[""] * 7]

    def median(values: Iterable[float]) -> str:
        found = list(values)
        return milliseconds(statistics.median(found)) if found else ""

    def ratio(values: Mapping[int, float], bases: Mapping[int, float]) -> str:
        found = pairs(values, bases)
        return times(statistics.median(found)) if found and one is not ours else ""

    written = list(one.written.values())
    limit = one.name.startswith("limit")
    reads = one.name == ReadFresh.name
    return [
        one.name,
        "" if reads else median(one.stalls.values()),
        "" if reads else ratio(one.stalls, ours.stalls),
        "" if reads else median(one.computed.values()),
        "" if reads or one.name == Memcpy.name else median(one.durable.values()),
        "" if reads or not any(written) else megabytes(statistics.mean(written)),
        median(one.loads.values()),
        ratio(one.loads, ours.loads),
        "" if limit or one.peak is None else megabytes(one.peak),
    ]


def of(measurement: Measurement) -> list[Figure]:
    """The promises about storage, for one workload."""
    return list(_of(measurement))


def _of(found: Measurement) -> Iterator[Figure]:
    ours, where = found.peers[OURS], found.name
    others = [one for one in found.peers.values() if _saves(one)]
    # The small workload is there to see what it costs; the promises are about large buffers.
    binding = where != "small"

    def allowed_stall(seconds: Mapping[int, float]) -> dict[int, float]:
        return {number: _STAGE * value + _STAGE_EXTRA for number, value in seconds.items()}

    copy = found.peers[Memcpy.name]
    target = "2 x memcpy of what changed + 2 ms"
    yield _at_most("stall", where, target, pairs(ours.stalls, allowed_stall(copy.stalls)), 1.0, binding)
    # The same on a machine that others use: a longer call is interrupted more often than a short copy.
    computed = pairs(ours.computed, allowed_stall(copy.computed))
    yield _at_most("stall, computing", where, target, computed, 1.0, False)
    waiting = [one for one in others if not one.background]
    yield from _least(
        "stall", where, waiting, ours, _LESS_THAN_WHOLE, "every peer's that writes all", binding
    )
    staging = [one for one in others if one.background]
    yield from _least(
        "stall", where, staging, ours, _LESS_THAN_BACKGROUND, "asynchronous staging of DCP, Orbax", binding
    )

    plain = found.peers.get(Uncompressed.name, ours)
    changed = dict.fromkeys(plain.written, float(found.changed))
    yield _at_most(
        "bytes written, uncompressed",
        where,
        "1.1 x what changed",
        pairs(plain.written, changed),
        _WRITTEN,
        binding,
    )
    for compressing in (False, True):
        group = [one for one in others if one.compresses is compressing]
        if not group:
            continue
        own = statistics.median(ours.written.values())
        by_size = {one.name: statistics.median(one.written.values()) / own for one in group}
        name = min(by_size, key=lambda key: by_size[key])
        kind = "of every peer that compresses" if compressing else "of every peer that does not compress"
        yield Figure(
            "bytes written",
            where,
            f"1/25 {kind}",
            f"1/{_short(by_size[name])} of {name}",
            by_size[name] >= _OF_PEERS if binding else None,
        )

    raw = found.peers[RawWrite.name].durable
    allowed = {number: _DURABLE * value + _DURABLE_EXTRA for number, value in raw.items()}
    yield _at_most(
        "durable", where, "1.5 x one write + fsync, + 5 ms", pairs(ours.durable, allowed), 1.0, binding
    )

    limit = found.peers[ReadFresh.name].loads
    yield _at_most(
        f"restore after {found.incremental}",
        where,
        "1.3 x preadv into fresh arrays",
        pairs(ours.loads, limit),
        _RESTORE,
        binding,
    )
    loading = {one.name: statistics.median(pairs(one.loads, ours.loads)) for one in others if one.loads}
    if loading:
        name = min(loading, key=lambda key: loading[key])
        yield Figure(
            "restore",
            where,
            "faster than every peer's",
            f"{name} takes {_short(loading[name])}x ours",
            loading[name] > 1.0 if binding else None,
        )
    if ours.peak is not None:
        allowed_bytes = found.changed + _MEMORY_EXTRA
        yield Figure(
            "memory while saving",
            where,
            f"what changed + 64 MB = {megabytes(allowed_bytes)}",
            megabytes(ours.peak),
            ours.peak <= allowed_bytes if binding else None,
        )


def _saves(one: Measured) -> bool:
    return one.whole and not one.failed and bool(one.stalls) and one.name != ReadFresh.name


def _at_most(
    figure: str, where: str, target: str, ratios: Sequence[float], most: float, binding: bool
) -> Figure:
    """`most`: how many times the target the median may be."""
    if not ratios:
        return Figure(figure, where, f"at most {target}", "not measured", None)
    unit = "x of that" if most == 1.0 else "x"
    reached = statistics.median(ratios) <= most if binding else None
    return Figure(figure, where, f"at most {target}", quartiles(ratios, unit), reached)


def _least(
    figure: str,
    where: str,
    others: Sequence[Measured],
    ours: Measured,
    times_less: float,
    whose: str,
    binding: bool,
) -> Iterator[Figure]:
    """The nearest of several peers."""
    ratios = {one.name: pairs(one.stalls, ours.stalls) for one in others}
    ratios = {name: found for name, found in ratios.items() if found}
    if ratios:
        name = min(ratios, key=lambda key: statistics.median(ratios[key]))
        reached = statistics.median(ratios[name]) >= times_less if binding else None
        yield Figure(
            figure,
            where,
            f"1/{times_less:g} of {whose}",
            f"1/{quartiles(ratios[name], '')} of {name}",
            reached,
        )

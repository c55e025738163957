"""A day's stored ticks against OpenD's own sums: one-minute K-lines, and the day totals of the snapshot.

Pure comparison: who asks OpenD is the caller. Owns every rule about how OpenD makes its sums. None of them is
documented or was seen on a live OpenD; each is an assumption in one place here:

- ``LEFT_OUT``: which ticker types are in no bar and in no day total.
- ``LABEL_IS_END``: a one-minute bar carries the time at which its minute ends.
- A minute holds the ticks from its first millisecond up to, and without, the next minute's first one.
- ``edge_spans``: prints outside continuous trading (auctions, lunch) are in some bar next to it, nobody knows which.

So that a wrong guess does not cry loss: volume that only moved to the next minute, or within an edge, is listed as
moved and is no difference; and ``suspicion`` says when another guess would explain all differences at once.

Volumes are compared exactly, turnover within ``TURNOVER_TOLERANCE``: it is a sum of floating-point numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, NamedTuple

from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import DEFAULT_MARKET

if TYPE_CHECKING:
    import pyarrow as pa

# The simulator makes none of these types and counts all it makes.
LEFT_OUT = DEFAULT_MARKET.trade_types.not_in_totals
LABEL_IS_END = True  # so the simulator does
TURNOVER_TOLERANCE = 1e-6
LEAST_TURNOVER_TOLERANCE = 1.0  # in the counter's own currency
MINUTE_MS = 60_000
CHUNK_GROUPS = 65_536  # sums that are Python objects twice at a time
PARTS_HELD = 8  # sums of batches in memory before they are added up

Span = tuple[int, int]  # UTC epoch ms, end exclusive


class Amount(NamedTuple):
    """Shares and turnover traded."""

    volume: int = 0
    turnover: float = 0.0

    def plus(self, other: Amount) -> Amount:
        return Amount(self.volume + other.volume, self.turnover + other.turnover)

    def equals(self, other: Amount) -> bool:
        allowed = max(LEAST_TURNOVER_TOLERANCE, TURNOVER_TOLERANCE * abs(self.turnover))
        return self.volume == other.volume and abs(self.turnover - other.turnover) <= allowed


Minutes = dict[int, Amount]  # by the minute's first instant, UTC epoch ms
TypedMinutes = dict[int, dict[str, Amount]]  # the same, by ticker type


@dataclass(frozen=True, slots=True)
class Difference:
    """One minute in which OpenD and the day file do not agree."""

    minute_ms: int  # its first instant, UTC epoch ms
    theirs_volume: int
    stored_volume: int
    theirs_turnover: float
    stored_turnover: float

    @property
    def missing_volume(self) -> int:
        """Shares that OpenD counts and we do not; negative when we hold more."""
        return self.theirs_volume - self.stored_volume


@dataclass(frozen=True, slots=True)
class Comparison:
    """One symbol's day."""

    minutes: int  # compared
    differences: tuple[Difference, ...]
    moved: tuple[Difference, ...]  # the same amounts, in other minutes
    theirs: Amount
    stored: Amount

    @property
    def equal(self) -> bool:
        return not self.differences


def minute_of_label(label_ms: int, *, label_is_end: bool = LABEL_IS_END) -> int:
    """The first instant of the minute that a bar of this time stands for."""
    return label_ms - label_ms % MINUTE_MS - (MINUTE_MS if label_is_end else 0)


def minutes_of_bars(bars: Iterable[tuple[int, Amount]], *, label_is_end: bool = LABEL_IS_END) -> Minutes:
    """OpenD's bars, given by their labels, by minute. Minutes without trading are left out."""
    minutes: Minutes = {}
    for label_ms, amount in bars:
        if amount.volume or amount.turnover:
            minute_ms = minute_of_label(label_ms, label_is_end=label_is_end)
            minutes[minute_ms] = minutes.get(minute_ms, Amount()).plus(amount)
    return minutes


def stored_by_minute(batches: Iterable[pa.RecordBatch]) -> dict[str, TypedMinutes]:
    """Sums by symbol, minute and ticker type of batches with ``symbol, ts_ms, tick_type, volume, turnover``."""
    import pyarrow as pa  # noqa: PLC0415 - heavy
    import pyarrow.compute as pc  # noqa: PLC0415

    keys, sums = ["symbol", "minute", "tick_type"], [("volume", "sum"), ("turnover", "sum")]

    def summed(table: pa.Table) -> pa.Table:
        grouped = table.group_by(keys).aggregate(sums)
        return grouped.select([*keys, "volume_sum", "turnover_sum"]).rename_columns([*keys, "volume", "turnover"])

    parts: list[pa.Table] = []
    for batch in batches:
        minute = pc.divide(pc.cast(batch.column("ts_ms"), pa.int64()), pa.scalar(MINUTE_MS, pa.int64()))
        texts = [pc.cast(batch.column(name), pa.string()) for name in ("symbol", "tick_type")]
        columns = [texts[0], minute, texts[1], batch.column("volume"), batch.column("turnover")]
        parts.append(summed(pa.table(columns, names=[*keys, "volume", "turnover"])))
        if len(parts) >= PARTS_HELD:
            parts = [summed(pa.concat_tables(parts))]
    minutes_of: dict[str, TypedMinutes] = {}
    if not parts:
        return minutes_of
    for batch in summed(pa.concat_tables(parts)).to_batches(max_chunksize=CHUNK_GROUPS):
        values = (batch.column(name).to_pylist() for name in (*keys, "volume", "turnover"))
        for symbol, minute, tick_type, volume, turnover in zip(*values, strict=True):
            of_minute = minutes_of.setdefault(symbol, {}).setdefault(minute * MINUTE_MS, {})
            of_minute[sys.intern(tick_type or "UNKNOWN")] = Amount(volume or 0, turnover or 0.0)
    return minutes_of


def counted(minutes: TypedMinutes, left_out: Collection[str] = LEFT_OUT) -> Minutes:
    """What of the stored amounts OpenD's sums hold."""
    amounts = (
        (minute_ms, [amount for tick_type, amount in by_type.items() if tick_type not in left_out])
        for minute_ms, by_type in minutes.items()
    )
    return {minute_ms: total(parts) for minute_ms, parts in amounts if parts}


def total(amounts: Iterable[Amount]) -> Amount:
    """All of them together."""
    whole = Amount()
    for amount in amounts:
        whole = whole.plus(amount)
    return whole


def edge_spans(market: Market, day: str, kind: DayKind) -> list[Span]:
    """Where prints outside continuous trading may be counted: from midnight to the first minute of trading, from the
    morning's last to the afternoon's first, and from the day's last minute on."""
    start_ms, day_end_ms = market.day_bounds(day)
    bounds = [start_ms]
    for first_ms, end_ms in market.continuous_windows(day, kind):
        bounds += [first_ms + MINUTE_MS, end_ms - MINUTE_MS]
    bounds.append(day_end_ms)
    return list(zip(bounds[::2], bounds[1::2], strict=True))


def compare_minutes(theirs: Minutes, stored: Minutes, edges: Sequence[Span], until_ms: int) -> Comparison:
    """OpenD's minutes against ours, those that ended by ``until_ms`` (UTC epoch ms)."""
    both = sorted(minute for minute in theirs.keys() | stored.keys() if minute + MINUTE_MS <= until_ms)
    unequal = {
        minute: _difference(minute, theirs, stored)
        for minute in both
        if not theirs.get(minute, Amount()).equals(stored.get(minute, Amount()))
    }
    moved = _moved(unequal, edges)
    return Comparison(
        minutes=len(both),
        differences=tuple(difference for minute, difference in unequal.items() if minute not in moved),
        moved=tuple(difference for minute, difference in unequal.items() if minute in moved),
        theirs=total(theirs[minute] for minute in both if minute in theirs),
        stored=total(stored[minute] for minute in both if minute in stored),
    )


def compare_totals(theirs: Amount, before: Amount, after: Amount) -> Comparison:
    """A snapshot's day total against ours, read ``before`` and ``after`` it was taken: while the market trades the
    truth lies between the two. The one difference, if any, carries minute 0."""
    nearest = Amount(
        min(max(theirs.volume, before.volume), after.volume), min(max(theirs.turnover, before.turnover), after.turnover)
    )
    difference = Difference(0, theirs.volume, nearest.volume, theirs.turnover, nearest.turnover)
    return Comparison(1, () if theirs.equals(nearest) else (difference,), (), theirs, nearest)


def suspicion(
    bars: Mapping[str, Sequence[tuple[int, Amount]]],
    stored: Mapping[str, TypedMinutes],
    left_out: Collection[str],
    edges: Sequence[Span],
    until_ms: int,
) -> str | None:
    """Which other guess about OpenD's sums explains all differences of these symbols, if one does."""

    def all_equal(leave: Collection[str], *, label_is_end: bool) -> bool:
        return all(
            compare_minutes(
                minutes_of_bars(bars[symbol], label_is_end=label_is_end),
                counted(stored.get(symbol, {}), leave),
                edges,
                until_ms,
            ).equal
            for symbol in bars
        )

    if all_equal(left_out, label_is_end=not LABEL_IS_END):
        return "all differences vanish when bars are read as labelled with the other end of their minute"
    return _type_that_explains(stored, left_out, lambda leave: all_equal(leave, label_is_end=LABEL_IS_END))


def suspicion_of_totals(
    totals: Mapping[str, Amount], stored: Mapping[str, TypedMinutes], left_out: Collection[str]
) -> str | None:
    """As ``suspicion``, of day totals."""

    def all_equal(leave: Collection[str]) -> bool:
        return all(
            amount.equals(total(counted(stored.get(symbol, {}), leave).values())) for symbol, amount in totals.items()
        )

    return _type_that_explains(stored, left_out, all_equal)


def _type_that_explains(
    stored: Mapping[str, TypedMinutes], left_out: Collection[str], all_equal: Callable[[Collection[str]], bool]
) -> str | None:
    present = {kind for minutes in stored.values() for by_type in minutes.values() for kind in by_type}
    for tick_type in sorted(present):
        counts = tick_type not in left_out
        if all_equal({*left_out, tick_type} if counts else {*left_out} - {tick_type}):
            done = "left out of" if counts else "counted in"
            return f"all differences vanish when ticks of type {tick_type} are {done} OpenD's sums"
    return None


def _difference(minute_ms: int, theirs: Minutes, stored: Minutes) -> Difference:
    told, ours = theirs.get(minute_ms, Amount()), stored.get(minute_ms, Amount())
    return Difference(minute_ms, told.volume, ours.volume, told.turnover, ours.turnover)


def _moved(unequal: Mapping[int, Difference], edges: Sequence[Span]) -> set[int]:
    """The minutes whose differences cancel: within an edge of the session, or between two minutes in a row."""
    moved: set[int] = set()
    for first_ms, end_ms in edges:
        inside = [minute for minute in unequal if first_ms <= minute < end_ms]
        if inside and _cancel([unequal[minute] for minute in inside]):
            moved.update(inside)
    for minute, difference in unequal.items():
        following = unequal.get(minute + MINUTE_MS)
        if following is not None and not moved & {minute, minute + MINUTE_MS} and _cancel([difference, following]):
            moved.update((minute, minute + MINUTE_MS))
    return moved


def _cancel(differences: Sequence[Difference]) -> bool:
    theirs = total(Amount(difference.theirs_volume, difference.theirs_turnover) for difference in differences)
    return theirs.equals(
        total(Amount(difference.stored_volume, difference.stored_turnover) for difference in differences)
    )


def as_json(difference: Difference) -> dict[str, object]:
    """A difference as plain values."""
    return {**asdict(difference), "missing_volume": difference.missing_volume}

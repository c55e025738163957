"""What is missing of a day, each with its place: the rows of ``gaps``, and holes that nobody has given up yet.

A hole stands in ``coverage`` from the moment its next tick is stored, in ``gaps`` only when OpenD could not show its
ticks: one that a recorder left open when it died is in neither list of ``gaps`` and still missing. Its times are looked
up in the rows of its symbol, O(their number).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.records.tick import SEQ_COUNTER_MASK
from hk_tick_collector.records.totals import units_of
from hk_tick_collector.store.extents import count, format_extents
from hk_tick_collector.store.gaps import OPEN, read_meta
from hk_tick_collector.store.judging import verdict_of
from hk_tick_collector.store.reader import CoverageRow, GapRow, Notes
from hk_tick_collector.store.verdict import UNPROVEN, gap_evidence

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day

NOT_GIVEN_UP = "not stored, and not given up either"
VOLUME_MISSING = "volume between running totals that no stored trade has"


@dataclass(frozen=True, slots=True)
class GapLine:
    """One gap. Times are event times of the stored ticks around it, UTC epoch ms."""

    trading_day: str
    symbol: str
    state: str  # open | closed
    start_ts_ms: int
    end_ts_ms: int | None  # None: nothing is stored behind it
    missing_ticks: int | None  # still missing; None: not known
    counters: str  # '501-502 900-910', '1-812 at most'; of a closed gap those it had
    reason: str
    detected_at_ms: int | None
    closed_at_ms: int | None
    # Open, and of ticks that the source had. Not a time without subscription, nor a beginning that was never shown.
    is_loss: bool
    evidence: str = EvidenceLevel.COUNTER.value  # what the symbol's day is judged by, see core/evidence.py

    @property
    def seconds(self) -> float | None:
        """From the tick before it to the tick behind it."""
        return None if self.end_ts_ms is None else (self.end_ts_ms - self.start_ts_ms) / 1000


def gap_lines(day: Day, symbols: Collection[str] | None = None) -> list[GapLine]:
    """All gaps of a day, or those of some symbols, by symbol and start. StoreError when it cannot be read."""
    notes = day.notes()
    open_gaps = notes.open_gaps()
    lines = [_of_row(gap) for gap in notes.gaps if symbols is None or gap.symbol in symbols]
    for row in notes.coverage:
        if symbols is None or row.symbol in symbols:
            lines += _not_given_up(day, row, open_gaps.get(row.symbol, []))
    levels = _levels(notes)
    lines = [replace(line, evidence=levels.get(line.symbol, line.evidence)) for line in lines]
    return sorted(lines, key=lambda line: (line.symbol, line.start_ts_ms))


def levels_of(day: Day) -> dict[str, str]:
    """What each symbol's day is judged by. StoreError when it cannot be read."""
    return _levels(day.notes())


def states_of(day: Day) -> dict[str, str]:
    """proven, missing or unproven, by symbol. StoreError when it cannot be read."""
    notes = day.notes()
    open_gaps = notes.open_gaps()
    states: dict[str, str] = {}
    for row in notes.coverage:
        states[row.symbol] = UNPROVEN
        with suppress(ValueError, TypeError):  # as below
            states[row.symbol] = verdict_of(row, open_gaps.get(row.symbol, [])).state
    return states


def _levels(notes: Notes) -> dict[str, str]:
    open_gaps = notes.open_gaps()
    levels: dict[str, str] = {}
    for row in notes.coverage:
        with suppress(ValueError, TypeError):  # as below
            levels[row.symbol] = verdict_of(row, open_gaps.get(row.symbol, [])).level.value
    return levels


def _of_row(gap: GapRow) -> GapLine:
    meta = read_meta(gap.meta_json)
    counters = str(meta.get("extents") or "")
    if meta.get("at_most") is not None:
        counters = f"{counters} 1-{meta['at_most']} at most".strip()
    if not counters and meta.get("first_counter") is not None:
        counters = f"{meta['first_counter']}-{meta.get('last_counter')}"
    closed_at_ms = meta.get("closed_at_ms")
    return GapLine(
        gap.trading_day,
        gap.symbol,
        gap.state,
        gap.gap_start_ts_ms,
        gap.gap_end_ts_ms,
        gap.missing_ticks,
        counters,
        gap.reason,
        gap.detected_at_ms,
        closed_at_ms if isinstance(closed_at_ms, int) else None,
        gap.state == OPEN and _is_lost(gap),
    )


def _is_lost(gap: GapRow) -> bool:
    try:
        return bool(gap_evidence([gap]).lost_gaps)
    except (ValueError, TypeError):  # the certificate names it
        return True


def _not_given_up(day: Day, row: CoverageRow, open_gaps: Sequence[GapRow]) -> list[GapLine]:
    holes, missing_ticks, by_total = [], 0, False
    with suppress(ValueError, TypeError):  # a column that cannot be read is named by the certificate
        verdict = verdict_of(row, open_gaps)
        holes, missing_ticks = verdict.unlisted, verdict.unlisted_ticks
        by_total = verdict.level is EvidenceLevel.RUNNING_TOTAL
    if not holes:
        return []
    if by_total:
        return _of_totals(day, row.symbol, holes)
    table = day.ticks([row.symbol], ("ts_ms", "seq"))
    times = {
        seq & SEQ_COUNTER_MASK: ts_ms
        for ts_ms, seq in zip(table["ts_ms"].cast("int64").to_pylist(), table["seq"].to_pylist(), strict=True)
        if seq is not None
    }
    # Rows without a counter of their own may be some of these: which ones, nobody knows, so they are one line.
    parts = [[hole] for hole in holes] if count(holes) == missing_ticks else [holes]
    return [
        GapLine(
            day.trading_day,
            row.symbol,
            OPEN,
            times.get(part[0][0] - 1, day.market.opening_ms(day.trading_day)),
            times.get(part[-1][1] + 1),
            missing_ticks if part is holes else count(part),
            format_extents(part),
            NOT_GIVEN_UP,
            None,
            None,
            is_loss=True,
        )
        for part in parts
    ]


def _of_totals(day: Day, symbol: str, holes: Sequence[tuple[int, int]]) -> list[GapLine]:
    """A line for each stretch of volume."""
    table = day.ticks([symbol], ("ts_ms", "seq", "volume"))
    begins: dict[int, int] = {}
    ends: dict[int, int] = {}
    times = table["ts_ms"].cast("int64").to_pylist()
    for ts_ms, seq, volume in zip(times, table["seq"].to_pylist(), table["volume"].to_pylist(), strict=True):
        if seq is not None and volume is not None:
            first, last = units_of(seq, volume)
            begins[first], ends[last] = ts_ms, ts_ms
    opening_ms = day.market.opening_ms(day.trading_day)
    return [
        GapLine(
            day.trading_day,
            symbol,
            OPEN,
            ends.get(first - 1, opening_ms),
            begins.get(last + 1),
            None,
            format_extents([(first, last)]),
            VOLUME_MISSING,
            None,
            None,
            is_loss=True,
        )
        for first, last in holes
    ]

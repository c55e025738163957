"""Every row of a day read once: what only the rows tell, and the numbers that coverage must agree with.

Rows come in any order (a live file's stripes, an archive's symbol by symbol), so nothing here depends on order: what
came late or out of order is told from the receive times that the rows carry. numpy on whole batches, no pandas; some
12 bytes a row are kept until the end (60 MB for 5 million), everything else is O(symbols).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.evidence import NO_COUNTER
from hk_tick_collector.market.hours import CLOSING_AUCTION, OPENING_AUCTION, DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.lags import Lags
from hk_tick_collector.quality.model import RowFacts, SessionRows
from hk_tick_collector.quality.observed import Observed, observed
from hk_tick_collector.quality.prices import Charts, PriceBars
from hk_tick_collector.quality.report_file import changed_ns
from hk_tick_collector.records.tick import (
    EARLIEST_WITNESS_SEC,
    PUSH_TYPE_BACKFILL,
    PUSH_TYPE_PUSH,
    SEQ_COUNTER_BITS,
    SEQ_COUNTER_MASK,
    WITNESS_TOLERANCE_MS,
)
from hk_tick_collector.store.extents import Extent, format_extents, subtract
from hk_tick_collector.store.judging import verdict_of
from hk_tick_collector.store.reader import CoverageRow
from hk_tick_collector.store.verdict import UNPROVEN

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day

COLUMNS = ("symbol", "ts_ms", "seq", "recv_ts_ms", "opend_recv_ts_ms", "tick_type", "direction", "push_type", "price",
           "volume")  # fmt: skip
NOT_GIVEN = "none"  # a tick's type or direction that OpenD left out
LATE_MS = 5_000  # OpenD has a tick 35-444 ms after its event; what takes longer was repaired, or held up
MINUTES, HEAT_SLOTS = 1440, 288  # of a day; a slot of the heat map is five minutes
_MAX_PRICE = 1e12  # more is no price, and no plot

_Ints = npt.NDArray[np.int64]
_Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SymbolRecount:
    """One symbol's rows."""

    facts: RowFacts
    unsequenced_ticks: int
    surplus_ticks: int  # rows with a sequence less counters
    ranges: list[Extent]  # counters stored
    first_ts_ms: int
    last_ts_ms: int

    def as_coverage(self, symbol: str, *, counts: bool = True) -> CoverageRow:
        """The coverage that a recorder would count from these rows, knowing nothing else; ``counts``: whether sequences
        count the ticks."""
        first, last = (self.ranges[0][0], self.ranges[-1][1]) if self.ranges else (None, None)
        holes = subtract([(first, last)], self.ranges) if first is not None and last is not None else []
        counted = CoverageRow(
            symbol,
            first,
            last,
            self.facts.ticks,
            0,
            format_extents(holes) or None,
            0,
            None,
            None,
            self.first_ts_ms,
            self.last_ts_ms,
            UNPROVEN,
            None,
            0,
            self.unsequenced_ticks,
            None,
            None if counts else NO_COUNTER,
        )
        verdict = verdict_of(counted, ())
        return replace(counted, missing_ticks=verdict.missing_ticks, state=verdict.state, reason=verdict.reason)


@dataclass(frozen=True, slots=True)
class Plots:
    """What the page draws. By minute since the trading day's clock began, the heat map by five minutes."""

    rows_a_minute: list[int]
    lag_p50_ms: list[float | None]  # of pushed ticks: our clock less the event time; None: none in that minute
    lag_p99_ms: list[float | None]
    heat: dict[str, list[int]]
    charts: Charts


@dataclass(frozen=True, slots=True)
class Recount:
    """All rows of a day, and the coverage as it was before they were read."""

    symbols: dict[str, SymbolRecount]
    total: RowFacts
    plots: Plots
    coverage_before: list[CoverageRow]
    source_changed_ns: int | None  # before anything was read
    observed: dict[str, Observed] = field(default_factory=dict)  # of symbols whose day is conflated

    def facts(self, symbol: str) -> RowFacts | None:
        """What the rows of a symbol tell; None when it has none."""
        counted = self.symbols.get(symbol)
        return counted.facts if counted is not None else None


def recount(day: Day, kind: DayKind, *, workers: int = 2, on_rows: Callable[[float], None] = lambda _: None) -> Recount:
    """Read every row. ``workers``: reading threads, 1 beside a working recorder; ``on_rows`` hears how many were read.

    StoreError when the file cannot be read.
    """
    source_changed_ns = changed_ns(day.source)
    before = day.coverage()
    copied = frozenset(row.symbol for row in before if row.replay is not None)
    ticks_by_symbol = {row.symbol: row.stored_ticks for row in before if row.stored_ticks}
    counter = _Counter(day.market, day.trading_day, kind, copied, ticks_by_symbol)
    for batch in day.batches(COLUMNS, workers=workers):
        counter.add(batch)
        on_rows(batch.num_rows)
    return replace(counter.result(before, source_changed_ns), observed=observed(day, before))


class _Names:
    """Numbers for names, growing."""

    def __init__(self, *names: str) -> None:
        self.numbers: dict[str, int] = {name: n for n, name in enumerate(names)}

    def codes(self, column: Any) -> _Ints:
        """The column's values as numbers; a dictionary of each batch's own underneath."""
        numbers = self.numbers
        known = [numbers.setdefault(NOT_GIVEN if name is None else name, len(numbers)) for name in
                 column.dictionary.to_pylist()]  # fmt: skip
        indices = column.indices
        if indices.null_count:
            known.append(numbers.setdefault(NOT_GIVEN, len(numbers)))
            indices = pc.fill_null(indices, len(known) - 1)
        table: _Ints = np.array(known or [0], np.int64)
        codes: _Ints = table[indices.to_numpy(zero_copy_only=False)]
        return codes


class _Table:
    """Counts by symbol and something else, both growing."""

    def __init__(self) -> None:
        self.counts = np.zeros((0, 0), np.int64)

    def add(self, symbols: _Ints, others: _Ints, n_symbols: int, n_others: int) -> None:
        rows, columns = max(n_symbols, self.counts.shape[0]), max(n_others, self.counts.shape[1])
        if (rows, columns) != self.counts.shape:
            grown = np.zeros((rows, columns), np.int64)
            grown[: self.counts.shape[0], : self.counts.shape[1]] = self.counts
            self.counts = grown
        self.counts += np.bincount(symbols * columns + others, minlength=rows * columns).reshape(rows, columns)


@dataclass(slots=True)
class _Kept:
    """A symbol's rows until the end: receive and event time in one number, and counters."""

    times: list[_Ints] = field(default_factory=list)
    counters: list[npt.NDArray[np.uint32]] = field(default_factory=list)


_OPENING, _CLOSING, _LATE, _SEQ_TIME, _BEFORE_EVENT, _OTHER_DAY, _UNSEQUENCED, _NO_PRICE, _NO_VOLUME, _FLAGS = range(10)
_AUCTION_FLAGS = {OPENING_AUCTION: _OPENING, CLOSING_AUCTION: _CLOSING}


class _Counter:
    """Takes batches in any order. ``copied``: symbols whose day was held against a copy of it: what was read from one
    came whenever it was read, and is not late."""

    def __init__(
        self,
        market: Market,
        day: str,
        kind: DayKind,
        copied: frozenset[str] = frozenset(),
        ticks_by_symbol: Mapping[str, int] | None = None,
    ) -> None:
        self._copied = copied
        self._charts = PriceBars(ticks_by_symbol or {})
        self._price_making = market.trade_types.price_making
        # Times since the day's first moment: packed, an event time has no sign.
        self._day_ms = market.day_bounds(day)
        begins_ms = self._begins_ms = self._day_ms[0]
        # Since then minutes are counted, or since the night's beginning, which a weekend may follow.
        self._clock_ms, self._night_ms = market.begins_ms(day) - begins_ms, market.night_length_ms
        sessions = market.sessions(day, kind)
        self._sessions = [(session.start_ms - begins_ms, session.end_ms - begins_ms) for session in sessions]
        self._auctions = [
            (_AUCTION_FLAGS[session.name], session.prints_ms - begins_ms, session.end_ms - begins_ms)
            for session in sessions
            if session.name in _AUCTION_FLAGS
        ]
        self._symbols = _Names()
        self._types = _Names(*sorted(market.trade_types.auction))
        self._directions, self._sources = _Names(), _Names(PUSH_TYPE_PUSH, PUSH_TYPE_BACKFILL)
        self._auction_types = len(market.trade_types.auction)
        self._by_type, self._by_direction, self._by_source = _Table(), _Table(), _Table()
        self._flags, self._heat = _Table(), _Table()
        self._minutes = np.zeros(MINUTES, np.int64)
        self._lags = Lags(MINUTES)
        self._session_rows: dict[tuple[int, int], SessionRows] = {}
        self._kept: list[_Kept] = []

    def add(self, batch: pa.RecordBatch) -> None:
        """Count a batch of ``COLUMNS`` in."""
        symbol, ts, seq, recv, gateway, tick_type, direction, source, price, volume = batch.columns
        codes = self._symbols.codes(symbol)
        n_symbols = len(self._symbols.numbers)
        self._kept += [_Kept() for _ in range(n_symbols - len(self._kept))]
        types, sources = self._types.codes(tick_type), self._sources.codes(source)
        directions = self._directions.codes(direction)
        self._by_type.add(codes, types, n_symbols, len(self._types.numbers))
        self._by_direction.add(codes, directions, n_symbols, len(self._directions.numbers))
        self._by_source.add(codes, sources, n_symbols, len(self._sources.numbers))
        ts_ms, recv_ms = _ints(ts) - self._begins_ms, _ints(recv) - self._begins_ms
        seqs, has_seq = _ints(seq), _valid(seq)
        seq_sec_ms = (seqs >> SEQ_COUNTER_BITS) * 1000 - self._begins_ms
        disagrees = np.abs(ts_ms - seq_sec_ms) > WITNESS_TOLERANCE_MS
        is_second = has_seq & (seqs >> SEQ_COUNTER_BITS >= EARLIEST_WITNESS_SEC)
        self._flag(codes, n_symbols, _SEQ_TIME, is_second & disagrees)
        self._flag(codes, n_symbols, _UNSEQUENCED, ~has_seq)
        self._flag(codes, n_symbols, _BEFORE_EVENT, _valid(gateway) & (_ints(gateway) - self._begins_ms < ts_ms))
        self._flag(codes, n_symbols, _LATE, (recv_ms - ts_ms > LATE_MS) & ~self._read_from_copy(codes, sources))
        self._flag(codes, n_symbols, _NO_PRICE, pc.fill_null(pc.less_equal(price, 0.0), False).to_numpy(False))
        self._flag(codes, n_symbols, _NO_VOLUME, pc.fill_null(pc.less_equal(volume, 0), False).to_numpy(False))
        self._flag(codes, n_symbols, _OTHER_DAY, (ts_ms < 0) | (ts_ms >= self._day_ms[1] - self._begins_ms))
        self._note_auctions(codes, n_symbols, types, ts_ms)
        self._note_minutes(codes, n_symbols, ts_ms, recv_ms, sources)
        self._note_prices(codes, types, ts_ms, seqs, price, volume)
        self._keep(codes, ts_ms, recv_ms, (seqs & SEQ_COUNTER_MASK).astype(np.uint32), has_seq)

    def _read_from_copy(self, codes: _Ints, sources: _Ints) -> _Bools:
        copied = np.array([name in self._copied for name in self._symbols.numbers] or [False])
        is_alone: _Bools = (sources == 1) & copied[codes]
        return is_alone

    def _flag(self, codes: _Ints, n_symbols: int, flag: int, hit: _Bools) -> None:
        struck = codes[hit]
        if len(struck):
            self._flags.add(struck, np.full(len(struck), flag), n_symbols, _FLAGS)

    def _note_auctions(self, codes: _Ints, n_symbols: int, types: _Ints, ts_ms: _Ints) -> None:
        for flag, prints_ms, end_ms in self._auctions:
            self._flag(codes, n_symbols, flag, (types < self._auction_types) & (ts_ms >= prints_ms) & (ts_ms < end_ms))

    def _note_minutes(self, codes: _Ints, n_symbols: int, ts_ms: _Ints, recv_ms: _Ints, sources: _Ints) -> None:
        minutes = self._minutes_of(ts_ms)
        self._minutes += np.bincount(minutes, minlength=MINUTES)
        self._heat.add(codes, minutes // (MINUTES // HEAT_SLOTS), n_symbols, HEAT_SLOTS)
        pushed = sources == 0
        self._lags.add(minutes[pushed], (recv_ms - ts_ms)[pushed])

    def _minutes_of(self, ts_ms: _Ints) -> _Ints:
        on_clock_ms = np.where(ts_ms < self._night_ms, ts_ms, ts_ms - self._clock_ms)
        minutes: _Ints = np.clip(on_clock_ms // 60_000, 0, MINUTES - 1)
        return minutes

    def _note_prices(self, codes: _Ints, types: _Ints, ts_ms: _Ints, seqs: _Ints, price: Any, volume: Any) -> None:
        made = [name in self._price_making or name == NOT_GIVEN for name in self._types.numbers]
        prices = pc.fill_null(price, 0.0).to_numpy(zero_copy_only=False)
        amounts: _Ints = pc.fill_null(volume, 0).to_numpy(zero_copy_only=False).astype(np.int64)
        trades = (
            np.array(made, np.bool_)[types] & (prices > 0) & (prices < _MAX_PRICE) & ((amounts > 0) | ~_valid(volume))
        )
        minutes = self._minutes_of(ts_ms[trades])
        self._charts.add(
            list(self._symbols.numbers), codes[trades], minutes, ts_ms[trades], seqs[trades], prices[trades],
            amounts[trades],
        )  # fmt: skip

    def _keep(
        self, codes: _Ints, ts_ms: _Ints, recv_ms: _Ints, counters: npt.NDArray[np.uint32], has_seq: _Bools
    ) -> None:
        """Rows grouped by symbol and session: extremes of each group are taken, the rest waits for the end."""
        parts = len(self._sessions) + 1
        session = np.full(len(ts_ms), parts - 1)
        for n, (start_ms, end_ms) in enumerate(self._sessions):
            session[(ts_ms >= start_ms) & (ts_ms < end_ms)] = n
        groups = codes * parts + session
        # numpy sorts 16-bit numbers by radix, ten times as fast.
        order = np.argsort(groups.astype(np.uint16) if len(self._kept) * parts < 1 << 16 else groups, kind="stable")
        groups, times = groups[order], ts_ms[order]
        starts = np.flatnonzero(np.concatenate(([True], groups[1:] != groups[:-1])))
        lows, highs = np.minimum.reduceat(times, starts), np.maximum.reduceat(times, starts)
        ends = np.append(starts[1:], len(groups))
        for group, size, low, high in zip(
            groups[starts].tolist(), (ends - starts).tolist(), lows.tolist(), highs.tolist(), strict=True
        ):
            self._note_session(divmod(group, parts), size, low + self._begins_ms, high + self._begins_ms)
        limit = np.iinfo(np.int32)
        packed = (np.clip(recv_ms[order], limit.min, limit.max) << 32) | np.clip(times, 0, limit.max)
        valid = has_seq[order]
        sequenced, before = counters[order][valid], np.concatenate(([0], np.cumsum(valid)))
        of_symbol = groups // parts
        firsts = np.flatnonzero(np.concatenate(([True], of_symbol[1:] != of_symbol[:-1]))).tolist()
        for start, end in zip(firsts, [*firsts[1:], len(groups)], strict=True):
            kept = self._kept[of_symbol[start]]
            kept.times.append(packed[start:end])
            kept.counters.append(sequenced[before[start] : before[end]])

    def _note_session(self, key: tuple[int, int], ticks: int, first_ts_ms: int, last_ts_ms: int) -> None:
        known = self._session_rows.get(key)
        if known is not None:
            assert known.first_ts_ms is not None
            assert known.last_ts_ms is not None
            ticks += known.ticks
            first_ts_ms, last_ts_ms = min(known.first_ts_ms, first_ts_ms), max(known.last_ts_ms, last_ts_ms)
        self._session_rows[key] = SessionRows(ticks, first_ts_ms, last_ts_ms)

    def result(self, coverage_before: list[CoverageRow], source_changed_ns: int | None) -> Recount:
        """Everything counted. The counter is used up."""
        symbols = {name: self._symbol(n) for name, n in sorted(self._symbols.numbers.items())}
        heat = {name: self._heat.counts[n].tolist() for name, n in self._symbols.numbers.items()}
        plots = Plots(
            self._minutes.tolist(),
            self._lags.quantile_ms(0.5),
            self._lags.quantile_ms(0.99),
            heat,
            self._charts.result(),
        )
        return Recount(symbols, self._total(list(symbols.values())), plots, coverage_before, source_changed_ns)

    def _symbol(self, n: int) -> SymbolRecount:
        kept, self._kept[n] = self._kept[n], _Kept()
        times = np.concatenate(kept.times)
        times.sort()
        events = times & ((1 << 32) - 1)
        late_events = int(np.count_nonzero(events[1:] < np.maximum.accumulate(events)[:-1]))
        counters = np.concatenate(kept.counters).astype(np.int64)
        counters.sort()
        flags = self._flags_of(n)
        parts = len(self._sessions) + 1
        parts_of = [self._session_rows.get((n, part), SessionRows()) for part in range(parts)]
        facts = RowFacts(
            len(times),
            flags[_OPENING] if self._sessions else None,
            flags[_CLOSING] if self._sessions else None,
            late_events,
            flags[_LATE],
            flags[_SEQ_TIME],
            flags[_BEFORE_EVENT],
            parts_of[-1].ticks,
            flags[_OTHER_DAY],
            flags[_NO_PRICE],
            flags[_NO_VOLUME],
            _named(self._types, self._by_type.counts[n]),
            _named(self._directions, self._by_direction.counts[n]),
            _named(self._sources, self._by_source.counts[n]),
            tuple(parts_of[:-1]),
        )
        ranges, surplus_ticks = _ranges(counters)
        firsts, lasts = zip(*((part.first_ts_ms, part.last_ts_ms) for part in parts_of if part.ticks), strict=True)
        return SymbolRecount(facts, flags[_UNSEQUENCED], surplus_ticks, ranges, min(firsts), max(lasts))

    def _flags_of(self, n: int) -> list[int]:
        counts = self._flags.counts
        return [int(value) for value in counts[n]] if n < len(counts) else [0] * _FLAGS

    def _total(self, symbols: list[SymbolRecount]) -> RowFacts:
        facts = [symbol.facts for symbol in symbols]
        opening, closing = (
            sum(number or 0 for number in numbers) if self._sessions else None
            for numbers in (
                [symbol_facts.opening_auction_ticks for symbol_facts in facts],
                [symbol_facts.closing_auction_ticks for symbol_facts in facts],
            )
        )
        return RowFacts(
            sum(symbol_facts.ticks for symbol_facts in facts),
            opening,
            closing,
            sum(symbol_facts.out_of_order_ticks for symbol_facts in facts),
            sum(symbol_facts.late_ticks for symbol_facts in facts),
            sum(symbol_facts.sequence_time_disagreements for symbol_facts in facts),
            sum(symbol_facts.received_before_event_ticks for symbol_facts in facts),
            sum(symbol_facts.outside_session_ticks for symbol_facts in facts),
            sum(symbol_facts.other_day_ticks for symbol_facts in facts),
            sum(symbol_facts.no_price_ticks for symbol_facts in facts),
            sum(symbol_facts.no_volume_ticks for symbol_facts in facts),
            _named(self._types, self._by_type.counts.sum(axis=0)),
            _named(self._directions, self._by_direction.counts.sum(axis=0)),
            _named(self._sources, self._by_source.counts.sum(axis=0)),
            tuple(_joined([symbol_facts.sessions[n] for symbol_facts in facts]) for n in range(len(self._sessions))),
        )


def _ints(column: Any) -> _Ints:
    """A column of int64 or of times; 0 where it is null."""
    values: _Ints = pc.fill_null(column.view(pa.int64()), 0).to_numpy(zero_copy_only=False)
    return values


def _valid(column: Any) -> _Bools:
    if not column.null_count:
        return np.ones(len(column), np.bool_)
    is_there: _Bools = pc.is_valid(column).to_numpy(zero_copy_only=False)
    return is_there


def _ranges(counters: _Ints) -> tuple[list[Extent], int]:
    """Sorted counters as ranges, and how many of them repeat one."""
    if not len(counters):
        return [], 0
    steps = np.diff(counters)
    breaks = np.flatnonzero(steps > 1)
    firsts = counters[np.concatenate(([0], breaks + 1))].tolist()
    lasts = counters[np.append(breaks, len(counters) - 1)].tolist()
    return list(zip(firsts, lasts, strict=True)), int(np.count_nonzero(steps == 0))


def _named(names: _Names, counts: _Ints) -> dict[str, int]:
    """Most first."""
    counted = [(name, int(counts[n])) for name, n in names.numbers.items() if n < len(counts) and counts[n]]
    return dict(sorted(counted, key=lambda pair: (-pair[1], pair[0])))


def _joined(parts: list[SessionRows]) -> SessionRows:
    return SessionRows(
        sum(part.ticks for part in parts),
        min((part.first_ts_ms for part in parts if part.first_ts_ms is not None), default=None),
        max((part.last_ts_ms for part in parts if part.last_ts_ms is not None), default=None),
    )

"""One symbol's day out of several recordings of it: whose ticks are taken, and what may be said of them together.

The one rule for all who join: ``hk-tickctl merge``, which makes a file, and ``days.union``, which joins as it reads.
That a trade bears one sequence everywhere is checked (``days.twins``): of a symbol that two recordings tell differently
the one that is believed more is taken alone, the day of that symbol is unproven, and both are named.

What the recordings noted goes together by the rules of ``store.coverage``:

- a symbol that one of them proves keeps the notes of that one; what the others doubt is answered by the proof;
- of all other symbols every caution counts, and what one had lost is no gap any more where another one has it: two
  recordings that each lack something, and never the same, can be proven together;
- missing is what all of them miss; where one lost ticks and does not say which, nobody knows whether another has them,
  and that stays said;
- where one lost ticks and another has as many at that time without a sequence, they may be the same: that day is
  unproven, and nothing is called missing there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.facts import GapFound
from hk_tick_collector.core.text import counted
from hk_tick_collector.days import order, twins
from hk_tick_collector.market.market import Market
from hk_tick_collector.store.connect import SCHEMA_SQL
from hk_tick_collector.store.coverage import DayCoverage, make_tables
from hk_tick_collector.store.gaps import OPEN, read_meta
from hk_tick_collector.store.reader import CoverageRow, GapRow, Notes, notes_of
from hk_tick_collector.store.symbol_coverage import COLUMNS, SymbolCoverage
from hk_tick_collector.store.verdict import MISSING, PROVEN, is_by_total, sequences_count

DISAGREE = "merged recordings of it disagree"
NO_COMMON_TICK = "merged recordings of it have no tick in common"
_NOTES = ("coverage", "gaps", "replays")
_TICK = (
    "INSERT INTO ticks (market, symbol, ts_ms, seq, volume, provider, trading_day, recv_ts_ms, inserted_at_ms) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)"
)
_INTERRUPTED = "UPDATE coverage SET interrupted_seq = ?, later_interruptions = ? WHERE symbol = ?"
_GAP_COLUMNS = tuple(field.name for field in fields(GapRow))
_TAKE_GAP = f"INSERT OR IGNORE INTO gaps ({', '.join(_GAP_COLUMNS)}) VALUES ({', '.join('?' * len(_GAP_COLUMNS))})"  # noqa: S608
_BARE_ROWS = "SELECT count(*) FROM ticks WHERE symbol = ? AND seq IS NULL AND ts_ms BETWEEN ? AND ?"
_DROP_GAP = "DELETE FROM gaps WHERE symbol = ? AND gap_start_ts_ms = ? AND gap_end_ts_ms = ? AND state = ?"
_BETWEEN = "SELECT state, meta_json FROM gaps WHERE symbol = ? AND gap_start_ts_ms = ? AND gap_end_ts_ms = ?"


class Recording(Protocol):
    """One recorder's notes of a day. ``name``: what a person calls it."""

    @property
    def name(self) -> str: ...

    @property
    def coverage(self) -> Mapping[str, CoverageRow]:
        """By symbol."""

    @property
    def gaps(self) -> Mapping[str, list[GapRow]]:
        """By symbol, open and closed."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A symbol that two recordings tell differently: only ``kept`` is in the joined day."""

    symbol: str
    kept: str
    left_out: str
    otherwise: int  # ticks with one sequence that are different trades
    renumbered: int  # trades that have different sequences, or ticks that share a number

    def sentence(self, day: str, so: str) -> str:
        """For people; ``so``: what becomes of the first one."""
        told = f"{counted(self.otherwise, 'tick')} told otherwise, {self.renumbered:,} numbered otherwise"
        look = f"hk-tickctl compare {self.kept} {self.left_out} --days {day} --symbols {self.symbol}"
        return (
            f"{day} {self.symbol}: {self.kept} and {self.left_out} contradict each other ({told}); only the first is "
            f"{so}. See: {look}"
        )


_R = TypeVar("_R", bound=Recording)


@dataclass(slots=True)
class SymbolPlan(Generic[_R]):
    """What a symbol's part of the joined day is made of."""

    notes_of: _R  # the one that is believed most
    taken: list[_R]  # those that are joined, that one first
    cautions: list[_R] = field(default_factory=list)  # whose notes count besides
    conflicts: list[Conflict] = field(default_factory=list)
    bare_ms: Mapping[_R, npt.NDArray[np.int64]] = field(default_factory=dict)  # times of ticks without a sequence
    interruptions: tuple[int, ...] = ()  # the newest sequences before those of which no recording knows what followed
    is_unchecked: bool = False  # two recordings share no tick: whether they number alike cannot be told

    @property
    def doubt(self) -> str | None:
        """What the file says of recordings that contradict each other, or that nothing holds together."""
        if self.conflicts:
            ticks = sum(conflict.otherwise + conflict.renumbered for conflict in self.conflicts)
            return f"{DISAGREE}: {counted(ticks, 'tick')}"
        return NO_COMMON_TICK if self.is_unchecked else None


class Held(Generic[_R]):
    """What recordings have of some symbols. Any two of them are held against each other once, all symbols together."""

    def __init__(self, symbols: Sequence[str], tables: Mapping[_R, pa.Table]) -> None:
        """``tables``: of each recording the rows of those symbols that its notes name, in one order, with
        ``twins.COLUMNS``."""
        self._symbols = symbols
        self._tables = tables
        self._stretches = {source: order.stretches(table) for source, table in tables.items()}
        self._differences: dict[tuple[_R, _R], dict[str, twins.Difference]] = {}

    def sources(self, symbol: str) -> list[_R]:
        """The recordings that know the symbol."""
        return [source for source in self._tables if symbol in source.coverage]

    def ticks(self, source: _R, symbol: str) -> pa.Table:
        """What one of them has of a symbol."""
        start, end = self._stretches[source].get(symbol, (0, 0))
        return self._tables[source].slice(start, end - start)

    def difference(self, symbol: str, first: _R, second: _R) -> twins.Difference:
        """A symbol in two of them."""
        if (first, second) not in self._differences:
            self._differences[first, second] = self._compared(first, second)
        return self._differences[first, second][symbol]

    def is_vague(self, symbol: str, sources: Sequence[_R]) -> bool:
        """Has one of these ticks without a sequence? What they have is put together by the store's rules then
        (``copy_together``)."""
        return len(sources) > 1 and any(self.ticks(source, symbol).column("seq").null_count for source in sources)

    def finer(self, symbol: str, sources: Sequence[_R]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The sequences, ascending, of ticks whose time one of these cut to the second, and the time in milliseconds
        that a later one of them tells."""
        seqs, times = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for two in combinations(sources, 2):
            if self.difference(symbol, *two).first_cut:
                (seqs_1, times_1), (seqs_2, times_2) = (_keyed(self.ticks(source, symbol)) for source in two)
                common, at_1, at_2 = np.intersect1d(seqs_1, seqs_2, return_indices=True)
                is_finer = times_2[at_2] > times_1[at_1]
                seqs.append(common[is_finer])
                times.append(times_2[at_2][is_finer])
        different, places = np.unique(np.concatenate(seqs), return_index=True)
        return different, np.concatenate(times)[places]

    def added(self, symbol: str, sources: Sequence[_R]) -> dict[_R, npt.NDArray[np.int64]]:
        """Of each of these recordings the places, among its rows of the symbol, of the ticks that none before it has;
        of the first one all."""
        first, *others = sources
        kept = [self.ticks(first, symbol)]
        added = {first: np.arange(kept[0].num_rows)}
        for source in others:
            table = self.ticks(source, symbol)
            places = self.difference(symbol, first, source).second_only
            if len(places) and len(kept) > 1:  # one in between may have them
                together = pa.concat_tables(kept).unify_dictionaries()
                places = twins.compare(together, table, counts=False).second_only
            if len(places):
                kept.append(table.take(pa.array(places)))
            added[source] = places
        return added

    def _compared(self, first: _R, second: _R) -> dict[str, twins.Difference]:
        if (known := self._differences.get((second, first))) is not None:
            return {symbol: difference.swapped() for symbol, difference in known.items()}
        distrusted = {
            symbol
            for source in (first, second)
            for symbol in self._symbols
            if symbol in source.coverage and source.coverage[symbol].distrust is not None
        }
        return twins.compare_all(self._tables[first], self._tables[second], self._symbols, uncounted=distrusted)


def plan_symbol(symbol: str, held: Held[_R]) -> SymbolPlan[_R]:
    """What is made of a symbol's rows."""
    best, *others = sorted(held.sources(symbol), key=lambda source: _trust(source, symbol), reverse=True)
    plan = SymbolPlan(best, [best])
    for source in others:
        # What the first lacks two may tell.
        differences = {taken: held.difference(symbol, taken, source) for taken in plan.taken}
        against = next((taken for taken in differences if differences[taken].contradicts), None)
        if against is not None:
            told = differences[against]
            plan.conflicts.append(Conflict(symbol, against.name, source.name, told.otherwise, told.renumbered))
            continue
        plan.taken.append(source)
        first = differences[best]
        plan.is_unchecked |= bool(first.second_rows and first.first_rows and not first.common_rows)
    ticks = {source: held.ticks(source, symbol) for source in plan.taken}
    plan.bare_ms = {source: _bare_times_ms(table) for source, table in ticks.items()}
    if best.coverage[symbol].state != PROVEN:
        plan.cautions = plan.taken[1:]
        plan.interruptions = _open_interruptions(symbol, ticks)
    return plan


def _keyed(table: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The sequences and times, in milliseconds, of ticks that all have a sequence."""
    return table.column("seq").to_numpy(), table.column("ts_ms").cast(pa.int64()).to_numpy()


def _bare_times_ms(table: pa.Table) -> npt.NDArray[np.int64]:
    if not table.column("seq").null_count:
        return np.empty(0, np.int64)
    times: npt.NDArray[np.int64] = (
        table.column("ts_ms").filter(pc.is_null(table.column("seq"))).cast(pa.int64()).to_numpy()
    )
    return times


def _open_interruptions(symbol: str, ticks: Mapping[_R, pa.Table]) -> tuple[int, ...]:
    """The newest sequences before interruptions over which none of these went on, ascending."""
    if not any(_noted(source.coverage[symbol]) for source in ticks):
        return ()
    seqs = {source: np.sort(table.column("seq").drop_null().to_numpy()) for source, table in ticks.items()}
    still_open = {
        seq
        for source in ticks
        for seq in _noted(source.coverage[symbol])
        if not any(
            _went_on(other.coverage[symbol], seqs[other], seq, seqs[source]) for other in ticks if other is not source
        )
    }
    return tuple(sorted(still_open))


def _noted(row: CoverageRow) -> list[int]:
    return [] if row.interrupted_seq is None else [row.interrupted_seq, *(row.later_seqs or ())]


def _went_on(row: CoverageRow, seqs: npt.NDArray[np.int64], seq: int, interrupted: npt.NDArray[np.int64]) -> bool:
    """Has this recording, without a break, the tick before an interruption of another one, and that one's next?"""
    following = interrupted[np.searchsorted(interrupted, seq, side="right") :]
    edges = [seq, *following[:1].tolist()]
    if row.later_seqs is None and row.interrupted_seq is not None and row.interrupted_seq < edges[-1]:
        return False  # it may have had another one there
    is_unbroken = not any(seq <= broken < edges[-1] for broken in _noted(row))
    return is_unbroken and bool(np.isin(edges, seqs).all())


def _trust(source: Recording, symbol: str) -> tuple[object, ...]:
    row = source.coverage[symbol]
    has_gap = any(gap.state == OPEN and not gap.is_window for gap in source.gaps.get(symbol, []))
    return (
        row.state == PROVEN,
        row.distrust is None,
        row.interrupted_seq is None,
        row.state != MISSING and not has_gap,
        row.verified_until_ms or 0,
        row.stored_ticks,
    )


def note(
    conn: sqlite3.Connection,
    trading_day: str,
    plans: Mapping[str, SymbolPlan[_R]],
    base: _R | None,
    market: Market,
    now_ms: int,
    changed: Collection[str],
) -> None:
    """Write what is said of these symbols into a day file that has their ticks, inside its transaction. ``base``: whose
    notes it has already; ``changed``: the symbols of which it has other rows than that one."""
    make_tables(conn)
    for symbol, plan in plans.items():
        if plan.notes_of is not base:
            for table in _NOTES:
                conn.execute(f"DELETE FROM {table} WHERE symbol = ?", (symbol,))  # noqa: S608 - our names
            _take_row(conn, plan.notes_of.coverage[symbol])
        _take_gaps(conn, plan.notes_of.gaps.get(symbol, []))
        for gap in plan.notes_of.gaps.get(symbol, []):
            if _may_be_told_bare(conn, plan, plan.notes_of, gap):
                conn.execute(_DROP_GAP, (symbol, gap.gap_start_ts_ms, gap.gap_end_ts_ms, OPEN))
        conn.execute(_INTERRUPTED, (*_columns_of(symbol, plan), symbol))
        for source in plan.cautions:
            _take_gaps(conn, (gap for gap in source.gaps.get(symbol, []) if not _is_told_anew(gap)))
    counts = all(sequences_count(plan.notes_of.coverage[symbol].distrust) for symbol, plan in plans.items())
    by_total = any(is_by_total(plan.notes_of.coverage[symbol].distrust) for symbol, plan in plans.items())
    others = (symbol for symbol, plan in plans.items() if plan.notes_of is not base)
    coverage = DayCoverage.load(
        conn, trading_day, counts=counts, by_total=by_total, market=market, changed={*changed, *others}
    )
    for symbol, plan in plans.items():
        for source in plan.cautions:
            coverage.take_note(_track(source.coverage[symbol]))
            coverage.learn(conn, _lost_there(conn, plan, source, symbol))
        if plan.doubt is not None:
            coverage.take_note(_track(plan.notes_of.coverage[symbol]), doubt=plan.doubt)
    coverage.save(conn, now_ms)


def joined_notes(
    trading_day: str, plans: Mapping[str, SymbolPlan[_R]], ticks: Mapping[str, pa.Table], market: Market
) -> Notes:
    """What ``note`` would write of these symbols: nothing is written. ``ticks``: those that are joined, by symbol, with
    ``ts_ms``, ``seq`` and ``volume``."""
    if not plans:
        return Notes([], [])
    now_ms = max(source.coverage[symbol].updated_at_ms for symbol, plan in plans.items() for source in plan.taken)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        try:
            conn.executescript(SCHEMA_SQL)
            conn.execute("BEGIN")
            for symbol, table in ticks.items():
                conn.executemany(_TICK, _bare_rows(trading_day, market.code, symbol, table))
            note(conn, trading_day, plans, None, market, now_ms, plans)
            return notes_of(conn, list(plans))
        except (sqlite3.Error, OverflowError, ValueError) as exc:
            raise StoreCorrupt(f"{trading_day}: the notes of {', '.join(plans)[:100]} cannot be joined: {exc}") from exc


def _bare_rows(day: str, market: str, symbol: str, table: pa.Table) -> Iterator[tuple[Any, ...]]:
    providers = table.column("provider").to_pylist() if "provider" in table.column_names else [None] * table.num_rows
    times, seqs = table.column("ts_ms").cast(pa.int64()).to_pylist(), table.column("seq").to_pylist()
    volumes = table.column("volume").to_pylist()
    for ts_ms, seq, volume, provider in zip(times, seqs, volumes, providers, strict=True):
        yield market, symbol, ts_ms, seq, volume, provider, day


def _columns_of(symbol: str, plan: SymbolPlan[_R]) -> tuple[int | None, str | None]:
    """What the file notes of interruptions that are open: the first one, and the later ones where all of them are
    known."""
    if not plan.interruptions:
        return None, None
    first, *later = plan.interruptions
    are_known = all(source.coverage[symbol].later_seqs is not None for source in plan.taken)
    return first, " ".join(map(str, later)) if are_known else None


def _lost_there(conn: sqlite3.Connection, plan: SymbolPlan[_R], source: _R, symbol: str) -> Iterator[GapFound]:
    """What OpenD could not show there any more: told anew, it is listed once, as far as it is missing here, too."""
    for gap in filter(_is_told_anew, source.gaps.get(symbol, [])):
        if _may_be_told_bare(conn, plan, source, gap):
            continue
        told = (symbol, gap.trading_day)
        for first, last in gap.extents:
            yield GapFound(*told, first, last, gap.detected_at_ms, gap.reason)
        if gap.at_most is not None:
            yield GapFound(*told, None, gap.at_most, gap.detected_at_ms, gap.reason)


def _may_be_told_bare(conn: sqlite3.Connection, plan: SymbolPlan[_R], source: _R, gap: GapRow) -> bool:
    """Have others so many ticks without a sequence at the time of this gap, beside those that its recording has itself,
    that they may be those lost?"""
    if not _is_told_anew(gap) or gap.at_most is not None:
        return False
    if not any(len(times_ms) for other, times_ms in plan.bare_ms.items() if other is not source):
        return False
    begin_ms, end_ms = gap.gap_start_ts_ms, gap.gap_end_ts_ms
    (joined_rows,) = conn.execute(_BARE_ROWS, (gap.symbol, begin_ms, end_ms)).fetchone()
    own_ms = plan.bare_ms[source]
    own_rows = int(np.count_nonzero((own_ms >= begin_ms) & (own_ms <= end_ms)))
    return bool(joined_rows - own_rows >= (gap.missing_ticks or 0))


def _is_told_anew(gap: GapRow) -> bool:
    """Is it known which ticks are lost, so that those that another recording has can be taken out?"""
    return gap.state == OPEN and not gap.is_window and bool(gap.extents or gap.at_most is not None)


def _track(row: CoverageRow) -> SymbolCoverage:
    return SymbolCoverage.of_row(tuple(getattr(row, name) for name in COLUMNS))


def _take_row(conn: sqlite3.Connection, row: CoverageRow) -> None:
    values = [getattr(row, name) for name in COLUMNS]
    conn.execute(f"INSERT INTO coverage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})", values)  # noqa: S608


def _take_gaps(conn: sqlite3.Connection, gaps: Iterable[GapRow]) -> None:
    for gap in gaps:
        while gap.state == OPEN and _hides(conn, gap):
            gap = replace(gap, gap_end_ts_ms=gap.gap_end_ts_ms + 1)  # noqa: PLW2901 - as the recorder does
        conn.execute(_TAKE_GAP, [getattr(gap, name) for name in _GAP_COLUMNS])


def _hides(conn: sqlite3.Connection, gap: GapRow) -> bool:
    """Does a row between the same two times say something else?"""
    row = conn.execute(_BETWEEN, (gap.symbol, gap.gap_start_ts_ms, gap.gap_end_ts_ms)).fetchone()
    return row is not None and (row[0], read_meta(row[1])) != (gap.state, read_meta(gap.meta_json))

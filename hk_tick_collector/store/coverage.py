"""What a day file knows of its own completeness: one ``coverage`` row a symbol, in step with ``ticks``.

For HK stocks the low 32 bits of a sequence count the symbol's ticks of the day (observed, not documented; see
``records.tick``). So the counters stored, as ranges, say which ticks are missing, and together with what the feed
learned (``core.facts``) whether anything can be missing at all: ``verdict.judge``. One symbol's part is a
``SymbolCoverage``.

A ``DayCoverage`` is the table in memory, owned by the writer that has the file open. Promises:

- Rows of ``coverage`` and ``gaps`` are written in the transaction of the ticks they speak of. After any error the
  writer throws its ``DayCoverage`` away and the next write loads it from the file again.
- A table that does not add up to the rows of ``ticks`` (removed, an earlier recorder's file, rows that another program
  added) is counted anew from ``ticks`` when the file is opened. What only the feed knew is then kept or unproven.
- A tick in order costs a dictionary look-up and an addition; memory and loading are O(symbols).

Where a source's sequences count nothing (``SymbolCoverage.counts``) they are taken as positions that rise with time:
the range is that of the lowest and the highest one stored, nothing is known to be missing, and NO_COUNTER says so.
See ``verdict`` for what proves such a symbol.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Collection, Iterable, Sequence

from hk_tick_collector.core.evidence import BY_TOTAL, NO_COUNTER
from hk_tick_collector.core.facts import (
    DETAILS,
    NO_TICK,
    UNKNOWN_SEQ,
    DayFact,
    Fact,
    GapFound,
    HeadProven,
    Interrupted,
    NotSubscribed,
    Rejoined,
    Replayed,
    RowsRead,
    SnapshotsCopied,
    Subscribed,
    Unproven,
    Verified,
)
from hk_tick_collector.core.ranges import CounterRanges
from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.records.tick import SEQ_COUNTER_MASK, Origin, Tick
from hk_tick_collector.records.totals import NO_TRADE, first_session_end
from hk_tick_collector.store import gaps
from hk_tick_collector.store.connect import COVERAGE_SQL, LATER_INTERRUPTIONS, split_statements, table_columns
from hk_tick_collector.store.extents import subtract
from hk_tick_collector.store.numbering import Names
from hk_tick_collector.store.sorting import Sorted, sort_by_position, take_total
from hk_tick_collector.store.symbol_coverage import COLUMNS, MAX_MS, MIN_MS, NO_RANGE, Row, SymbolCoverage
from hk_tick_collector.store.verdict import MISSING, REPLAY_COLUMNS, read_replays

CLOSING_MS = 2000  # a file is checkpointed so long after its last commit; who writes to it later is somebody else
COUNTED_ROWS = 200_000  # so many are counted whenever a file is opened: 20 ms
# INDEXED BY: without that index this would become a scan of the day; better an error.
TOTALS_DISAGREE = "two trades take the same part of a running total"
LAST_SEQ_SQL = (
    "SELECT seq FROM ticks INDEXED BY uniq_ticks_symbol_seq "
    "WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq DESC LIMIT 1"
)
_IS_STORED = "SELECT 1 FROM ticks WHERE symbol = ? AND seq = ?"

_SELECT = f"SELECT {', '.join(COLUMNS)} FROM coverage"  # noqa: S608 - constants
_UPSERT = f"INSERT OR REPLACE INTO coverage ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
_ADVANCE = "UPDATE coverage SET last_counter = ?, stored_ticks = ?, last_ts_ms = ?, updated_at_ms = ? WHERE symbol = ?"
_REPLAYED = f"INSERT OR REPLACE INTO replays ({', '.join(REPLAY_COLUMNS)}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608


class DayCoverage:
    """The coverage of one open day file."""

    def __init__(
        self, day: str, *, counts: bool = True, by_total: bool = False, market: Market = DEFAULT_MARKET
    ) -> None:
        self._day = day
        self._market = market
        self._counts = counts
        self._by_total = by_total
        self._recount: set[str] = set()  # their ranges are of another kind than they should be
        self._tracks: dict[str, SymbolCoverage] = {}
        self._names = Names(day, market)
        self._touched: set[str] = set()
        self.missing_ticks = 0  # of the symbols that are in the state "missing"
        self.unseen_ticks = 0  # at most, before the first ones seen

    @classmethod
    def load(
        cls,
        conn: sqlite3.Connection,
        day: str,
        changed_ms: int | None = None,
        *,
        counts: bool = True,
        by_total: bool = False,
        market: Market = DEFAULT_MARKET,
        changed: Collection[str] = (),
    ) -> DayCoverage:
        """Read the tables, made or counted anew where they do not fit ``ticks``. Wants a write transaction.

        ``changed_ms``: when the file was last written to. If that was our own last commit, the newest rowid counts the
        rows, for the recorder only appends. Else somebody may have removed some (0.1 s a million rows). ``counts``:
        whether sequences count the ticks, ``by_total``: whether they are a running total, where the file does not tell
        by its coverage or the origin of its rows. ``changed``: symbols that have other rows than their coverage says:
        they are counted anew, and the others only if they do not fit either.
        """
        coverage = cls(day, counts=counts, by_total=by_total, market=market)
        make_tables(conn)
        stored_ticks, committed_ms = coverage._read_rows(conn, changed)
        counting = [track.counts for track in coverage._tracks.values()]
        origin = _origin(conn)
        coverage._counts = counts and all(counting) and origin.counts
        coverage._by_total = (by_total or origin.totals) and not coverage._counts
        for symbol, open_gaps in gaps.load_open(conn).items():
            coverage.track(symbol).gaps = open_gaps
        for symbol, replay in read_replays(conn).items():
            coverage.track(symbol).replay = replay
        coverage.recount(conn, changed)
        stored_ticks += sum(coverage._tracks[symbol].stored_ticks() for symbol in changed)
        if stored_ticks != _rows(conn, changed_ms is not None and changed_ms <= committed_ms + CLOSING_MS):
            stored = [row[0] for row in conn.execute("SELECT DISTINCT symbol FROM ticks")]
            coverage.recount(conn, {*stored, *coverage._tracks})
        if not coverage._counts and any(counting):
            coverage._count_nothing(conn)
        if coverage._by_total:
            coverage._count_by_total(conn)
        for track in coverage._tracks.values():
            coverage._names.note(track.symbol, track.distrust)
            track.settle()
            track.settled = False  # the row in the file may be absent or out of date
            coverage._count(track, 1)
            if track.check_replay():
                coverage._touched.add(track.symbol)
        return coverage

    def _read_rows(self, conn: sqlite3.Connection, changed: Collection[str]) -> tuple[int, int]:
        """How many rows they speak of, but for symbols that were changed, and when the newest was written."""
        stored_ticks = committed_ms = 0
        for row in conn.execute(_SELECT):
            try:
                self._tracks[row[0]] = SymbolCoverage.of_row(row)
                if row[0] not in changed:
                    stored_ticks += row[COLUMNS.index("stored_ticks")]
                committed_ms = max(committed_ms, row[COLUMNS.index("updated_at_ms")])
            except (TypeError, ValueError):  # somebody else's text in a column: as if the row were not there
                continue
        return stored_ticks, committed_ms

    def _count_nothing(self, conn: sqlite3.Connection) -> None:
        """What was counted by counters that are none is taken as positions."""
        counted = [track for track in self._tracks.values() if track.counts]
        for track in counted:
            track.doubt(NO_COUNTER)
        self.recount(conn, [track.symbol for track in counted])

    def _count_by_total(self, conn: sqlite3.Connection) -> None:
        """What was taken as positions alone is a running total."""
        others = [track for track in self._tracks.values() if not track.by_total]
        for track in others:
            track.doubt(BY_TOTAL)
        self.recount(conn, [track.symbol for track in others])

    def track(self, symbol: str) -> SymbolCoverage:
        """The symbol's coverage, empty when it is new."""
        track = self._tracks.get(symbol)
        if track is None:
            track = self._tracks[symbol] = SymbolCoverage(symbol)
            if not self._counts:
                track.doubt(NO_COUNTER)
            if self._by_total:
                track.doubt(BY_TOTAL)
        return track

    def stored_ticks(self) -> int:
        """How many rows the file holds."""
        return sum(track.stored_ticks() for track in self._tracks.values())

    def holds(self, other: DayCoverage) -> bool:
        """Is every counter stored that was stored by the other?"""
        return not any(
            subtract([(first, last) for first, last in track.ranges.ranges], self._ranges_of(symbol))
            for symbol, track in other._tracks.items()
            if track.counts
        )

    def _ranges_of(self, symbol: str) -> Sequence[Sequence[int]]:
        track = self._tracks.get(symbol)
        return track.ranges.ranges if track is not None else ()

    def told_apart(self, conn: sqlite3.Connection, rows: Sequence[Tick]) -> Sequence[Tick]:
        """The rows of a batch that come from a source. Who hands them over need not know that it numbers a symbol's
        trades once a way: the file does, also a day or a start later."""
        for symbol, reason in self._names.doubts(conn, rows):
            self._doubt(self._touch(symbol), reason)
        for symbol in self._names.without_numbers(rows):
            if self.track(symbol).gaps:
                gaps.fill(conn, self._touch(symbol), [row for row in rows if row.symbol == symbol], self._market)
        return self._names.told_apart(rows)

    def _doubt(self, track: SymbolCoverage, reason: str) -> None:
        track.doubt(reason)
        self._names.note(track.symbol, track.distrust)

    def sort(self, rows: Sequence[Tick], stamp: tuple[int]) -> Sorted:
        """Note the rows and part them. ValueError when a value is of a kind that no tick has."""
        if not self._counts:
            parts, symbols = sort_by_position(rows, stamp, self.track)
            self._touched |= symbols
            return parts
        new: list[Row] = []
        doubtful: list[Row] = []
        unsequenced: dict[str, list[Row]] = {}
        symbol: object = self  # which no row has
        touched: set[str] = set()
        try:
            for row in rows:
                if row.symbol is not symbol:  # ticks of one push share the string
                    symbol = row.symbol
                    track = self._tracks.get(symbol) or self.track(symbol)
                    touched.add(symbol)
                seq = row.seq
                if seq is None:
                    track.settled = False
                    unsequenced.setdefault(track.symbol, []).append(row + stamp)
                    continue
                counter = seq & SEQ_COUNTER_MASK
                newest = track.newest
                if counter == newest[1] + 1:
                    newest[1] = counter
                elif not track.add(counter):
                    doubtful.append(row + stamp)
                    continue
                new.append(row + stamp)
                ts_ms = row.ts_ms
                if ts_ms > track.last_ts_ms:  # noqa: PLR1730 - a call of max() a row costs as much as the rest
                    track.last_ts_ms = ts_ms
                if ts_ms < track.first_ts_ms:
                    track.first_ts_ms = ts_ms
                    track.settled = False
        except TypeError as exc:
            raise ValueError(f"a value is of the wrong kind: {exc}") from exc
        self._touched |= touched
        claims = any(self._tracks[symbol].unsequenced_ticks for symbol in touched)
        return Sorted(new, doubtful, unsequenced, claims)

    def recount(self, conn: sqlite3.Connection, symbols: Iterable[str]) -> None:
        """Count these symbols' rows anew from ``ticks``, by its indexes: O(rows of the symbols)."""
        for symbol in symbols:
            track = self.track(symbol)
            self._touched.add(symbol)
            first_end = first_session_end(track.ranges.ranges)
            track.ranges, track.newest, track.surplus_ticks = CounterRanges(), NO_RANGE, 0
            track.replay = track.replay.withdrawn() if track.replay is not None else None  # by others' hands
            sequenced_ticks = _COUNTERS[track.counts, track.by_total](conn, track)
            track.surplus_ticks = sequenced_ticks - track.covered_ticks()
            track.forget_end(first_end)
            times: list[int] = []
            for which in ("NOT NULL", "NULL"):
                total, first_ts_ms, last_ts_ms = conn.execute(
                    f"SELECT COUNT(*), MIN(ts_ms), MAX(ts_ms) FROM ticks WHERE symbol = ? AND seq IS {which}",  # noqa: S608
                    (symbol,),
                ).fetchone()
                if total:
                    times += [first_ts_ms, last_ts_ms]
            track.unsequenced_ticks = total
            track.first_ts_ms, track.last_ts_ms = min(times, default=MAX_MS), max(times, default=MIN_MS)
            track.settled = False

    def learn(self, conn: sqlite3.Connection, facts: Iterable[Fact | DayFact]) -> None:
        """Take what the feed found out: cautions before the rows of the same batch, the rest after them."""
        for fact in facts:
            if isinstance(fact, Subscribed):
                self._note_subscribed(conn, fact)
            elif isinstance(fact, RowsRead):
                conn.execute(
                    "INSERT OR REPLACE INTO readings (read_at_ms, rows) VALUES (?, ?)", (fact.at_ms, fact.rows)
                )
            elif not isinstance(fact, SnapshotsCopied) and not isinstance(fact, DETAILS):
                self._learn_of_symbol(conn, fact)

    def take_over(self, conn: sqlite3.Connection, rows: Iterable[Row]) -> None:
        """Learn what another file of the day says of it: rows of its ``coverage``, in the order of COLUMNS. One that no
        recorder writes is left out. To be called before that file's ticks are stored: where the newest one before an
        open interruption is stored already, OpenD has shown it since, and whoever stored it knows what followed."""
        for row in rows:
            try:
                other = SymbolCoverage.of_row(row)
            except (TypeError, ValueError):
                continue
            self.take_note(other)
            track = self._touch(other.symbol)
            for seq in (other.interrupted_seq, *(other.later_seqs or ())):
                if conn.execute(_IS_STORED, (other.symbol, seq)).fetchone() is None:
                    track.interrupt(seq)
            if other.later_seqs is None and track.interrupted_seq is not None:
                track.later_seqs = None

    def lose_ends(self, rows: Iterable[Row]) -> None:
        """After those ticks of ``take_over``'s file were stored that could be read: it says which it had."""
        for row in rows:
            with contextlib.suppress(TypeError, ValueError):
                other = SymbolCoverage.of_row(row)
                self._touch(other.symbol).forget_end(first_session_end(other.ranges.ranges))

    def take_note(self, other: SymbolCoverage, *, doubt: str | None = None) -> None:
        """The same of one symbol, but for its interruption. ``doubt``: what speaks against its counters besides."""
        track = self._touch(other.symbol)
        was_by_total = track.by_total
        track.take_over(other)
        if track.by_total != was_by_total and track.stored_ticks():
            self._recount.add(track.symbol)
        if doubt is not None:
            track.doubt(doubt)
        self._names.note(track.symbol, track.distrust)

    def doubt_all(self, reason: str) -> None:
        """Something that is not known any more was noted of some symbol."""
        for symbol in list(self._tracks):
            self._touch(symbol).doubt(reason)

    def interrupt_all(self, conn: sqlite3.Connection) -> None:
        """Nobody knows whether what comes goes on from what the file holds: another one was put in its place."""
        for symbol, track in self._tracks.items():
            if track.counts and track.ranges:
                self._touch(symbol).interrupt(_newest_seq(conn, symbol))

    def _learn_of_symbol(self, conn: sqlite3.Connection, fact: Fact) -> None:
        track = self._touch(fact.symbol)
        if isinstance(fact, HeadProven):
            track.begins_with(fact.first_counter)
        elif isinstance(fact, Verified):
            track.verify(fact)
            if fact.last_counter != NO_TICK:
                self._names.note_read(fact.symbol)
        elif isinstance(fact, Unproven):
            self._doubt(track, fact.reason)
        elif isinstance(fact, Interrupted):
            self._interrupt(conn, track, fact.last_seq)
        elif isinstance(fact, Rejoined):
            track.rejoin(fact.last_seq)
        elif isinstance(fact, GapFound):
            gaps.record(conn, self._day, self._market.opening_ms(self._day), track, fact)
        elif isinstance(fact, NotSubscribed):
            gaps.record_window(conn, self._day, track, fact)
        elif isinstance(fact, Replayed):
            track.hold_against(fact, _rows_of(conn, fact.symbol))

    def _interrupt(self, conn: sqlite3.Connection, track: SymbolCoverage, last_seq: int | None) -> None:
        if last_seq == UNKNOWN_SEQ:
            last_seq = _newest_seq(conn, track.symbol)
            if last_seq is not None:
                self._names.note_unread(track.symbol)
        track.interrupt(last_seq)

    def _touch(self, symbol: str) -> SymbolCoverage:
        track = self.track(symbol)
        self._touched.add(symbol)
        track.settled = False
        return track

    def _note_subscribed(self, conn: sqlite3.Connection, fact: Subscribed) -> None:
        """Every wanted symbol has a row, also one that never trades; what OpenD did not send is over now."""
        for symbol in fact.symbols:
            track = self._tracks.get(symbol)
            if track is None or any(gap.is_window and not gap.over for gap in track.gaps):
                gaps.end_windows(conn, self._day, self._touch(symbol), fact.at_ms)
        for symbol in fact.absent:
            if symbol not in self._tracks:
                self._touch(symbol)

    def save(self, conn: sqlite3.Connection, now_ms: int) -> None:
        """Write the rows of all symbols that were touched since the last save."""
        if self._recount:
            self.recount(conn, self._recount)
            self._recount.clear()
        whole: list[Row] = []
        advanced: list[Row] = []
        replays: list[Row] = []
        for symbol in self._touched:
            track = self._tracks[symbol]
            if track.settled:
                last = track.newest[1]
                stored_ticks = track.stored_less_last + last + track.surplus_ticks
                advanced.append((last, stored_ticks, track.last_ts_ms, now_ms, symbol))
                continue
            if track.gaps:
                gaps.shrink(conn, self._day, track, now_ms)
                track.close_windows(conn, self._day, now_ms)
            if track.replay is not None:
                track.check_replay()
                replays.append(track.replay.row())
            self._count(track, -1)
            whole.append(track.row(now_ms))
            self._count(track, 1)
        for sql, rows in ((_ADVANCE, advanced), (_UPSERT, whole), (_REPLAYED, replays)):
            if rows:
                conn.executemany(sql, rows)
        self._touched.clear()

    def _count(self, track: SymbolCoverage, sign: int) -> None:
        """Add what the day lacks of this symbol, or take it out."""
        self.missing_ticks += sign * (track.missing_ticks if track.state == MISSING else 0)
        self.unseen_ticks += sign * track.unseen_ticks


def make_tables(conn: sqlite3.Connection) -> None:
    """The tables of completeness, where somebody removed them, and a column that an earlier recorder did not know."""
    for statement in split_statements(COVERAGE_SQL):
        conn.execute(statement)
    table, declaration = LATER_INTERRUPTIONS
    if declaration.split()[0] not in table_columns(conn, table):
        conn.execute(f"ALTER TABLE {table} ADD COLUMN {declaration}")


def _newest_seq(conn: sqlite3.Connection, symbol: str) -> int | None:
    row = conn.execute(LAST_SEQ_SQL, (symbol,)).fetchone()
    return row[0] if row is not None and isinstance(row[0], int) else None


def _count_sequenced(conn: sqlite3.Connection, track: SymbolCoverage) -> int:
    """Note the counters of a symbol's rows; how many rows have one."""
    sequenced_ticks = 0
    for (seq,) in conn.execute(
        "SELECT seq FROM ticks WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq", (track.symbol,)
    ):
        sequenced_ticks += 1
        counter = int(seq) & SEQ_COUNTER_MASK
        if counter == track.newest[1] + 1:
            track.newest[1] = counter
        else:
            track.add(counter)
    return sequenced_ticks


def _count_positions(conn: sqlite3.Connection, track: SymbolCoverage) -> int:
    """Note a symbol's lowest and highest position; how many rows have one."""
    total, first, last = conn.execute(
        "SELECT COUNT(*), MIN(seq), MAX(seq) FROM ticks WHERE symbol = ? AND seq IS NOT NULL", (track.symbol,)
    ).fetchone()
    if total:
        track.pass_over(first)
        track.pass_over(last)
    return int(total)


def _count_totals(conn: sqlite3.Connection, track: SymbolCoverage) -> int:
    """Note the units of volume of a symbol's rows; how many rows have a sequence."""
    sequenced_ticks = 0
    for seq, volume in conn.execute(
        "SELECT seq, volume FROM ticks WHERE symbol = ? AND seq IS NOT NULL ORDER BY seq", (track.symbol,)
    ):
        sequenced_ticks += 1
        if seq < NO_TRADE and not take_total(track, seq, volume):
            track.doubt(TOTALS_DISAGREE)
    return sequenced_ticks


_COUNTERS = {  # by whether sequences count, and whether they are a running total
    (True, False): _count_sequenced,
    (False, False): _count_positions,
    (False, True): _count_totals,
    (True, True): _count_sequenced,
}


def _rows_of(conn: sqlite3.Connection, symbol: str) -> int:
    parts = ("NOT NULL", "NULL")  # an index each
    return sum(
        int(conn.execute(f"SELECT COUNT(*) FROM ticks WHERE symbol = ? AND seq IS {part}", (symbol,)).fetchone()[0])  # noqa: S608
        for part in parts
    )


def _origin(conn: sqlite3.Connection) -> Origin:
    """Of the rows, by one of them: all of a file are of one."""
    row = conn.execute("SELECT market, provider FROM ticks LIMIT 1").fetchone()
    return Origin() if row is None else Origin(*row)


def _rows(conn: sqlite3.Connection, only_grew: bool) -> int:
    newest = int(conn.execute("SELECT COALESCE(MAX(rowid), 0) FROM ticks").fetchone()[0])
    if only_grew and newest > COUNTED_ROWS:
        return newest
    return int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])

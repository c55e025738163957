"""One day's rows of a batch into ``ticks``: which tick is which, and what became of each, exactly, for the coverage.

What is one tick, and what are two:

- Equal *content* is price, volume, turnover, direction and type, and one moment: equal times, or one of the two is
  cut to the second (``records.tick.same_moment``).
- Symbol and sequence equal, content equal: one tick, one row. (Turnover, and a direction or type that one of the two
  does not tell, are no difference here.) The row keeps the finer time.
- Symbol and sequence equal, content not: a *collision*, two ticks. The first one stored keeps the sequence. The other
  is stored without; its ``occurrence`` is negative, ``~seq``, the *mark* by which it is known whenever it comes again.
- Two sequences: two ticks, always.
- A tick without a sequence is one of the trades of its content. Its ``occurrence`` says how many of its view (a push,
  an answer) come before it (``records.views.number_equal_ticks``): with n before it, it is a repeat when more than n of
  its content are stored, with a sequence or without, and another trade when not. (Stored ones with a higher number
  come after it and do not count.) So no view ever shows more trades than are stored, and equal trades of several pushes
  are one row until a view shows them together: such a push cannot be told from one that came twice. A day with such
  rows is unproven, and says so.
- A tick that comes with its sequence after it came without gives it to the first stored row of its content that has
  neither a sequence nor a mark. Milliseconds that only a tick without a sequence told are noted as borrowed
  (``occurrence`` 1), and given back when the sequence comes with others.

A row whose counter is new, of a symbol without rows that lack a sequence, cannot be stored already: such rows go in
together. All others are looked at one by one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from hk_tick_collector.market.market import Market
from hk_tick_collector.market.registry import DEFAULT_MARKET, MARKETS
from hk_tick_collector.records.tick import FIRST_ORIGIN, Origin, Tick, of_one_kind, same_moment
from hk_tick_collector.records.totals import NO_TRADE
from hk_tick_collector.store.connect import ROW_COLUMNS, inserts
from hk_tick_collector.store.coverage import TOTALS_DISAGREE, DayCoverage
from hk_tick_collector.store.neighbours import Equals, Kind, Neighbours, Numbers, Stored, mark_of, stretches
from hk_tick_collector.store.symbol_coverage import Row, SymbolCoverage

COLLISION = "two ticks with one sequence"

_SYMBOL, _TS_MS, _SEQ, _OCCURRENCE = (ROW_COLUMNS.index(name) for name in ("symbol", "ts_ms", "seq", "occurrence"))
_PRICE, _VOLUME, _TURNOVER, _DIRECTION, _TYPE = (
    ROW_COLUMNS.index(name) for name in ("price", "volume", "turnover", "direction", "tick_type")
)
# IS, by SQLite: it compares the values as it would store them (NaN becomes NULL, 612 becomes 612.0).
_BY_SEQUENCE = (
    "SELECT rowid, ts_ms, occurrence, price IS ?3 AND volume IS ?4 "
    "AND (?5 IS NULL OR direction IS NULL OR direction IS ?5) "
    "AND (COALESCE(?6, 'UNKNOWN') = 'UNKNOWN' OR COALESCE(tick_type, 'UNKNOWN') IN ('UNKNOWN', ?6)) "
    "FROM ticks WHERE symbol = ?1 AND seq = ?2"
)
_SECONDS_WITHOUT = (
    "SELECT ts_ms / 1000 FROM ticks WHERE seq IS NULL AND symbol = ? AND ts_ms BETWEEN ? AND ? AND occurrence >= 0"
)
_CHANGE = "UPDATE ticks SET ts_ms = ?, seq = ?, occurrence = ? WHERE rowid = ?"
_CHANGE_TIME = "UPDATE ticks SET ts_ms = ?, occurrence = ? WHERE symbol = ? AND seq = ?"

# ``occurrence`` of a row with a sequence: its milliseconds were told without one, so they may be another trade's.
BORROWED_TIME = 1


class StoredRows(NamedTuple):
    """What became of the rows."""

    inserted_rows: int
    ignored_unsequenced_rows: int
    collisions: int  # of inserted_rows
    first_collisions: list[tuple[str, int]]  # symbol and sequence of the first one of each symbol that had none today


def store_rows(
    conn: sqlite3.Connection,
    coverage: DayCoverage,
    ticks: Sequence[Tick],
    stamp: tuple[int],
    origin: Origin = FIRST_ORIGIN,
) -> StoredRows:
    """Insert the rows inside the caller's transaction; ``stamp`` is ``inserted_at_ms``."""
    ticks = of_one_kind(ticks)
    sql = inserts(ticks[0]._fields if ticks else Tick._fields, origin)
    parts = coverage.sort(ticks, stamp)
    new, claiming = _part_claiming(conn, coverage, parts.new) if parts.claims else (parts.new, [])
    before_rows = conn.total_changes
    conn.executemany(sql.unless_stored, new)
    inserted_rows = conn.total_changes - before_rows
    in_step = inserted_rows == len(new)
    doubtful = parts.doubtful if in_step else [*new, *parts.doubtful]
    collisions, ignored_rows = 0, 0
    first_collisions: list[tuple[str, int]] = []
    if claiming or doubtful or parts.unsequenced:
        for symbol, rows in _by_symbol(claiming, doubtful, parts.unsequenced).items():
            by_row = OneByOne(
                conn,
                coverage.track(symbol),
                symbol,
                rows,
                sql.insert,
                market=MARKETS.get(origin.market, DEFAULT_MARKET),
            )
            by_row.store(rows)
            inserted_rows += by_row.inserted_rows
            collisions += by_row.collisions
            ignored_rows += len(rows.unsequenced) - by_row.inserted_unsequenced_rows
            first_collisions += by_row.first_collisions
            if by_row.ends_moved:
                coverage.recount(conn, [symbol])
    if not in_step:  # another program added rows
        coverage.recount(conn, {row[_SYMBOL] for row in new})
    return StoredRows(inserted_rows, ignored_rows, collisions, first_collisions)


class SymbolRows(NamedTuple):
    """What of a batch has to be looked at one by one, of one symbol."""

    claiming: list[Row]  # their counters are new, and noted
    doubtful: list[Row]  # their counters were seen
    unsequenced: list[Row]


class _Known(NamedTuple):
    """The row that has a tick's sequence."""

    rowid: int
    ts_ms: int
    is_borrowed: bool  # its milliseconds
    is_equal: bool  # its content, but for the time

    def may_be_at(self, row: Row) -> bool:
        """May the times be one? Borrowed milliseconds say nothing."""
        if self.is_borrowed or row[_OCCURRENCE] == BORROWED_TIME:
            return bool(self.ts_ms // 1000 == row[_TS_MS] // 1000)
        return same_moment(self.ts_ms, row[_TS_MS])


def _part_claiming(conn: sqlite3.Connection, coverage: DayCoverage, rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """``rows`` in two: those that cannot be stored, and those that may be, without their sequence."""
    seconds: dict[str, set[int]] = {}
    for row in rows:
        if coverage.track(row[_SYMBOL]).unsequenced_ticks:
            seconds.setdefault(row[_SYMBOL], set()).add(row[_TS_MS] // 1000)
    without = {
        (symbol, second)
        for symbol, wanted in seconds.items()
        for first, last in stretches(wanted)
        for (second,) in conn.execute(_SECONDS_WITHOUT, (symbol, first * 1000, last * 1000 + 999))
    }
    parts: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        parts[(row[_SYMBOL], row[_TS_MS] // 1000) in without].append(row)
    return parts


def _by_symbol(
    claiming: Iterable[Row], doubtful: Iterable[Row], unsequenced: dict[str, list[Row]]
) -> dict[str, SymbolRows]:
    parts = {symbol: SymbolRows([], [], rows) for symbol, rows in unsequenced.items()}
    for place, rows in ((0, claiming), (1, doubtful)):
        for row in rows:
            parts.setdefault(row[_SYMBOL], SymbolRows([], [], []))[place].append(row)
    return parts


class OneByOne:
    """Stores rows of one symbol that may be stored already, and keeps its coverage in step.

    ``insert_sql`` takes a row as they are here. ``hidden``: rowids of stored rows that none of these can be.
    ``market``: theirs.
    """

    def __init__(
        self,
        conn: sqlite3.Connection,
        track: SymbolCoverage,
        symbol: str,
        rows: SymbolRows,
        insert_sql: str,
        hidden: Container[int] = (),
        market: Market = DEFAULT_MARKET,
    ) -> None:
        self._conn = conn
        self._insert_sql = insert_sql
        self._track = track
        self._symbol = symbol
        seconds = (row[_TS_MS] // 1000 for part in rows for row in part)
        self._neighbours = Neighbours(conn, symbol, seconds, hidden, market)
        self.inserted_rows = 0
        self.inserted_unsequenced_rows = 0
        self.collisions = 0
        self.first_collisions: list[tuple[str, int]] = []
        self.ends_moved = False  # the track's first or last time may be that of no row any more

    def store(self, rows: SymbolRows) -> None:
        """All of them; those with a sequence go first, for the numbers of the others count on it."""
        for row in rows.claiming:
            self._store_sequenced(row, counted=True)
        for row in rows.doubtful:
            self._store_sequenced(row, counted=False)
        for row in rows.unsequenced:
            before_rows = self.inserted_rows
            if row[_OCCURRENCE] < 0:
                self._store_marked(row)
            else:
                self._store_unsequenced(row)
            self.inserted_unsequenced_rows += self.inserted_rows - before_rows

    def _store_sequenced(self, row: Row, counted: bool) -> None:
        seq, ts_ms = row[_SEQ], row[_TS_MS]
        known = self._by_sequence(row, seq)
        if known is None:
            if not counted:
                self._track.surplus_ticks += 1
                if self._track.by_total and seq < NO_TRADE:
                    self._track.doubt(TOTALS_DISAGREE)
            loose = self._equals(row).loose(ts_ms)
            if loose is None:
                self._insert(row, seq, row[_OCCURRENCE])
            else:
                self._track.unsequenced_ticks -= 1
                self._change(loose, row, seq, BORROWED_TIME if loose.ts_ms > ts_ms else 0)
        elif not (known.is_equal and known.may_be_at(row)):
            self._store_collided(row, seq)
        else:
            self._took(known.rowid)
            self._take_finer_time(row, seq, known)

    def _take_finer_time(self, row: Row, seq: int, known: _Known) -> None:
        """Of the row that has the tick's sequence, and the tick."""
        ts_ms, is_vouched = row[_TS_MS], row[_OCCURRENCE] != BORROWED_TIME
        if not ts_ms % 1000 or (known.ts_ms % 1000 and not (known.is_borrowed and is_vouched)):
            return
        self._conn.execute(_CHANGE_TIME, (ts_ms, row[_OCCURRENCE], self._symbol, seq))
        self._note_moved(known.ts_ms, ts_ms)
        self._neighbours.forget()
        if known.ts_ms % 1000 and known.ts_ms != ts_ms:
            lender = list(row)
            lender[_TS_MS], lender[_SEQ], lender[_OCCURRENCE] = known.ts_ms, None, 0
            self._store_unsequenced(tuple(lender))

    def _by_sequence(self, row: Row, seq: int) -> _Known | None:
        content = (row[_PRICE], row[_VOLUME], row[_DIRECTION], row[_TYPE])
        stored = self._conn.execute(_BY_SEQUENCE, (self._symbol, seq, *content)).fetchone()
        return None if stored is None else _Known(stored[0], stored[1], stored[2] == BORROWED_TIME, bool(stored[3]))

    def _store_marked(self, row: Row) -> None:
        """A row of another file whose sequence another tick had there."""
        seq = ~row[_OCCURRENCE]
        known = self._by_sequence(row, seq)
        if known is not None and known.is_equal and same_moment(known.ts_ms, row[_TS_MS]):
            self._took(known.rowid)
        else:
            self._store_collided(row, seq)

    def _store_collided(self, row: Row, seq: int) -> None:
        """Without its sequence, which another tick has."""
        equals = self._equals(row)
        ts_ms = row[_TS_MS]
        known = equals.keyed(mark_of(seq), ts_ms) or equals.loose(ts_ms)
        if known is None:
            self._insert(row, None, self._neighbours.free_mark(ts_ms, _numbers(row), seq))
            self._track.unsequenced_ticks += 1
            self.collisions += 1
        else:
            self._change(known, row, known.seq, ~seq if known.mark is None else known.occurrence)
        if COLLISION not in (self._track.distrust or ""):
            self.first_collisions.append((self._symbol, seq))
        self._track.doubt(COLLISION)

    def _store_unsequenced(self, row: Row) -> None:
        equals = self._equals(row)
        ts_ms, number = row[_TS_MS], row[_OCCURRENCE]
        if equals.is_numbered(ts_ms, number):
            return
        whole_ms = ts_ms - ts_ms % 1000
        is_whole = ts_ms == whole_ms
        known_rows = (equals.rows if is_whole else equals.count_at(ts_ms)) - equals.numbered_above(ts_ms, number)
        known = known_rows > number
        if not known and not is_whole and known_rows + equals.count_at(whole_ms) > number:
            coarse = equals.first_at(whole_ms)
            assert coarse is not None
            self._change_to_unsequenced(coarse, row)
            known = True
        if not known:
            self._insert(row, None, self._free_number(row))
            self._track.unsequenced_ticks += 1

    def _change_to_unsequenced(self, stored: Stored, row: Row) -> None:
        """The stored row turns out to be this tick, which has no sequence."""
        occurrence = stored.occurrence
        if _finer(stored.ts_ms, row[_TS_MS]) != stored.ts_ms and stored.seq is not None:
            occurrence = BORROWED_TIME
        elif stored.mark is None and stored.ts_ms != row[_TS_MS]:
            occurrence = row[_OCCURRENCE]
        self._change(stored, row, stored.seq, occurrence)

    def _free_number(self, row: Row) -> int:
        return self._neighbours.free_number(row[_TS_MS], _numbers(row), row[_OCCURRENCE])

    def _insert(self, row: Row, seq: int | None, occurrence: int) -> None:
        values = list(row)
        values[_SEQ], values[_OCCURRENCE] = seq, occurrence
        rowid = self._conn.execute(self._insert_sql, values).lastrowid
        assert rowid is not None
        self._took(rowid)
        self.inserted_rows += 1
        self._track.note_time(row[_TS_MS])
        self._neighbours.add(Stored(rowid, row[_TS_MS], seq, occurrence), _numbers(row), _kind(row))

    def _change(self, stored: Stored, row: Row, seq: int | None, occurrence: int) -> None:
        """The stored row turns out to be this tick: sequence, mark or number of it, and the finer time."""
        numbers, kind = _numbers(row), _kind(row)
        ts_ms = _finer(stored.ts_ms, row[_TS_MS])
        self._neighbours.remove(stored, numbers, kind)
        if seq is None and occurrence < 0:
            occurrence = self._neighbours.free_mark(ts_ms, numbers, ~occurrence)
        elif seq is None:
            occurrence = self._neighbours.free_number(ts_ms, numbers, occurrence)
        changed = Stored(stored.rowid, ts_ms, seq, occurrence)
        if changed != stored:
            self._conn.execute(_CHANGE, (ts_ms, seq, occurrence, stored.rowid))
        self._took(stored.rowid)
        self._neighbours.add(changed, numbers, kind)
        self._note_moved(min(stored.ts_ms, row[_TS_MS]), ts_ms)

    def _took(self, rowid: int) -> None:
        """The stored row is one of the ticks handed in."""

    def _note_moved(self, from_ms: int, to_ms: int) -> None:
        first_ms, last_ms = self._track.first_ts_ms, self._track.last_ts_ms
        self._track.note_time(to_ms)
        if from_ms != to_ms and (from_ms <= first_ms or from_ms >= last_ms):
            self.ends_moved = True

    def _equals(self, row: Row) -> Equals:
        return self._neighbours.equals(row[_TS_MS], _numbers(row), _kind(row))


def _numbers(row: Row) -> Numbers:
    """As SQLite stores them: not-a-number is NULL."""
    price, volume, turnover = (None if row[n] != row[n] else row[n] for n in (_PRICE, _VOLUME, _TURNOVER))
    return price, volume, turnover


def _kind(row: Row) -> Kind:
    return row[_DIRECTION], row[_TYPE]


def content_of(row: Row) -> tuple[int, Numbers, Kind]:
    """What rows have in common that may be one trade: second, numbers, direction and type."""
    return row[_TS_MS] // 1000, _numbers(row), _kind(row)


def _finer(one_ms: int, other_ms: int) -> int:
    """Of two times of one moment."""
    return max(one_ms, other_ms)

"""Bars of the newest day, while it is recorded: a symbol's ticks are read once, then only what came since.

A reading process keeps, for each data root, the ticks of symbols that were asked for and bars made of them, up to
KEPT_ROWS rows; what was not asked for longest goes first. Every answer looks into the day file, in one transaction, so
it is of one state: rows behind the newest one that was seen are added, and bars are made again from the first that such
a row belongs to. What is answered is what ``query.bars`` makes of the file.

Kept is only what this holds for: all ticks of the symbol have a sequence, so their order is one, and of a stored row
only a time to the second or a borrowed one may still change (``store.rows``); these rows are few and are looked at
again at each answer. When a tick was stored is kept, too: ``as_of`` is a choice among them. Anything else (another
file, a row that changed, a symbol without sequences, more rows at once than reading anew would cost) is read anew, or
left to the way of all other days: then ``bars`` gives None.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hk_tick_collector.client.known import counts_of, coverage_as_of, stored_by
from hk_tick_collector.client.local import fill_of
from hk_tick_collector.client.plan import DayRead, bound_ms, coverage_rows
from hk_tick_collector.client.question import Stretch
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.manifest import manifest_path
from hk_tick_collector.days.order import sort_table
from hk_tick_collector.days.schema import ticks_schema
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.market import Market
from hk_tick_collector.query.bars import INPUT_COLUMNS, bar_start_ms, make_bars, with_fill
from hk_tick_collector.query.trade_types import TradeRule
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.serve.api.changing import changing_sql
from hk_tick_collector.store.file_stream import identity_of
from hk_tick_collector.store.followed import TICKS
from hk_tick_collector.store.layout import parse_day, recent_day_files
from hk_tick_collector.store.position import Place
from hk_tick_collector.store.read_only import ClosedFile, open_read_only, select_list
from hk_tick_collector.store.reader import notes_of
from hk_tick_collector.store.rows import BORROWED_TIME
from hk_tick_collector.watch.when import Recorded

KEPT_ROWS = 600_000  # ticks and bars: about 100 MB
BEHIND_ROWS = 100_000  # stored since the last answer: more are not looked through
LOOSE_ROWS = 1000  # of a symbol, that may still change
PENDING_ROWS = 2000  # of a symbol, kept as they were read
REFUSED_SEC = 60.0  # what cannot be kept is read for nothing: not at each answer
KINDS = 6  # of bars of a symbol: by interval and rule
_HELD = (*INPUT_COLUMNS, "inserted_at_ms")
_COLUMNS = (*_HELD, "occurrence")
_TS_MS, _SEQ, _OCCURRENCE = (1 + _COLUMNS.index(name) for name in ("ts_ms", "seq", "occurrence"))
_SYMBOL = 1 + _COLUMNS.index("symbol")

_Kind = tuple[int, TradeRule]
_Row = tuple[Any, ...]


class Today(NamedTuple):
    """Bars, and of which state of the day file."""

    bars: pa.Table
    read: DayRead  # its coverage is that of the moment asked for
    place: Place  # behind the newest row


class TodayBars:
    """Of one data root."""

    def __init__(self, root: Recorded) -> None:
        self._root = root
        self._calendar = TradingCalendar(root.market)
        self._place: Place | None = None  # up to where what is kept was read
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._refused_until_sec: dict[str, float] = {}  # symbols that were read and could not be kept

    @property
    def kept_rows(self) -> int:
        """Ticks and bars."""
        return sum(held.rows for held in self._held.values())

    def bars(
        self, stretch: Stretch, symbols: Sequence[str], interval_ms: int, rule: TradeRule, *, is_filled: bool = False
    ) -> Today | None:
        """The bars of these symbols, by symbol and start, when the stretch is the newest day or lies in it, its file is
        being written, and all of it can be kept; else None."""
        path = self._path(stretch.days)
        between = None if path is None else self._between(parse_day(path) or "", stretch)
        if path is None or between is None or self._is_before(stretch.as_of_ms, path):
            return None
        part = _Part(*between, is_filled, stretch.as_of_ms)
        try:
            identity = identity_of(path)
            conn = open_read_only(path)
            with closing(conn):
                if isinstance(conn, ClosedFile) or identity_of(path) != identity:
                    return None
                conn.execute("BEGIN")
                return self._answer(_Source(conn, path, identity), symbols, interval_ms, rule, part)
        except (StoreError, sqlite3.Error, OSError, pa.ArrowException):
            self._forget()  # the way of all days says what is wrong
            return None

    def newest(
        self, stretch: Stretch, symbols: Sequence[str], interval_ms: int, rule: TradeRule, *, is_filled: bool = False
    ) -> Today | None:
        """As ``bars``, of the newest day's part of a stretch that began before it."""
        path = self._path(None)
        if path is None or stretch.start is None or stretch.as_of_ms is not None:
            return None
        market = self._root.market
        first_ms, _ = market.day_bounds(parse_day(path) or "")
        start_ms = bound_ms(market, stretch.start)
        if start_ms is None or start_ms >= first_ms:
            return None
        part = Stretch(stretch.symbols, None, first_ms, stretch.end)
        return self.bars(part, symbols, interval_ms, rule, is_filled=is_filled)

    def _is_before(self, as_of_ms: int | None, path: Path) -> bool:
        """Is it of a moment at which the day had not begun?"""
        return as_of_ms is not None and as_of_ms < self._root.market.day_bounds(parse_day(path) or "")[0]

    def _path(self, day: str | None) -> Path | None:
        """The newest day file, when that is what is asked for and its day is in no archive."""
        today = self._root.market.trading_day(self._root.now_ms)
        paths = recent_day_files(self._root.data_root, 1, today)
        name = (parse_day(paths[0]) or "") if paths else ""
        if not name or day not in (None, "last", name, *(("today",) if name == today else ())):
            return None
        is_newest = max(self._root.catalog.archived_days(), default="") < name
        return paths[0] if is_newest and not manifest_path(self._root.catalog.archive_root, name).exists() else None

    def _between(self, day: str, stretch: Stretch) -> tuple[int | None, int | None] | None:
        """Start and end (UTC epoch ms) within the day, None where the stretch goes beyond it; None when it may mean
        another day, too."""
        if stretch.start is None and stretch.end is None:
            return None, None
        market = self._root.market
        start_ms, end_ms = (bound_ms(market, bound) for bound in (stretch.start, stretch.end))
        first_ms, after_ms = market.day_bounds(day)
        if start_ms is None or not first_ms <= start_ms < after_ms or market.trading_day(start_ms) != day:
            return None
        if end_ms is not None and (
            end_ms <= start_ms or (end_ms > after_ms and market.trading_day(self._root.now_ms) != day)
        ):
            return None
        return (
            None if start_ms == first_ms else start_ms,
            None if end_ms is None or end_ms >= after_ms else end_ms,
        )

    def _answer(
        self, source: _Source, symbols: Sequence[str], interval_ms: int, rule: TradeRule, part: _Part
    ) -> Today | None:
        place = self._catch_up(source)
        notes = notes_of(source.conn, symbols)
        ticks = {row.symbol: row.stored_ticks for row in notes.coverage}
        if sum(ticks.values()) > KEPT_ROWS:
            return None
        market = self._root.market
        if not all(ticks.get(symbol) for symbol in symbols):
            return None
        day = Day(source.day, source.path, self._root.catalog.archive_root, market)
        covered = coverage_rows(source.day, notes, symbols, ticks)
        counts = {symbol: ticks[symbol] for symbol in symbols}
        read = DayRead(day, tuple(symbols), covered, counts, place.rowid, part.start_ms, part.end_ms)
        fill = fill_of([read], self._calendar, part.until_ms(self._root.now_ms)) if part.is_filled else None
        tables, counted = [], {}
        for symbol in symbols:
            held = self._symbol(source, symbol, ticks[symbol])
            if held is None:
                return None
            made = held.bars(interval_ms, rule, market, part)
            if part.as_of_ms is not None:
                counted[symbol] = counts_of(held.ticks, part.as_of_ms)
            tables.append(made if fill is None else with_fill(made, interval_ms, market, fill))
        self._let_go()
        if part.as_of_ms is not None:
            read = replace(read, coverage=coverage_as_of(read, part.as_of_ms, counted))
        return Today(pa.concat_tables(tables).unify_dictionaries(), read, place)

    def _catch_up(self, source: _Source) -> Place:
        """Add what was stored since the last answer; the place behind it."""
        newest, known = source.newest(), self._place
        if known is None or not source.fits(known) or newest.rowid - known.rowid > BEHIND_ROWS:
            self._forget()
        elif self._held and newest.rowid > known.rowid:
            for row in source.behind(known, self._held):
                self._held[row[_SYMBOL]].add(row)
        self._place = newest
        return newest

    def _symbol(self, source: _Source, symbol: str, ticks: int) -> _Held | None:
        """A symbol's ticks as they are now; None when they cannot be kept."""
        held = self._held.get(symbol)
        if held is not None and not (held.is_kept and held.told == source.told(held.loose[: held.told_rows])):
            held = None
        if held is None:
            self._held.pop(symbol, None)
            if not ticks or time.monotonic() < self._refused_until_sec.get(symbol, 0.0):
                return None
            held = _Held(source.rows_of(symbol))
            if not held.is_kept:
                self._refused_until_sec[symbol] = time.monotonic() + REFUSED_SEC
                return None
        held.told, held.told_rows = source.told(held.loose), len(held.loose)
        self._held[symbol] = held
        self._held.move_to_end(symbol)
        return held

    def _let_go(self) -> None:
        while len(self._held) > 1 and self.kept_rows > KEPT_ROWS:
            self._held.popitem(last=False)

    def _forget(self) -> None:
        self._held.clear()
        self._refused_until_sec.clear()
        self._place = None


class _Part(NamedTuple):
    """Which part of the day, and in which look."""

    start_ms: int | None  # UTC epoch ms; None: from the beginning of the day
    end_ms: int | None  # exclusive; None: to its end
    is_filled: bool
    as_of_ms: int | None  # only what was stored by then

    def until_ms(self, now_ms: int) -> int:
        """Up to when bars without a trade are made."""
        return now_ms if self.as_of_ms is None else min(now_ms, self.as_of_ms)

    def of(self, ticks: pa.Table) -> pa.Table | None:
        """The ticks of this part, which are in the order of time; None when it is all of them."""
        if (self.start_ms, self.end_ms, self.as_of_ms) == (None, None, None):
            return None
        times = _epoch_ms(ticks, "ts_ms")
        first = 0 if self.start_ms is None else int(np.searchsorted(times, self.start_ms))
        after = len(times) if self.end_ms is None else int(np.searchsorted(times, self.end_ms))
        stored_ticks = ticks.slice(first, after - first)
        return stored_ticks if self.as_of_ms is None else stored_ticks.filter(stored_by(stored_ticks, self.as_of_ms))


@dataclass(frozen=True)
class _Source:
    """A day file in one transaction."""

    conn: sqlite3.Connection
    path: Path
    identity: int

    @property
    def day(self) -> str:
        """YYYYMMDD."""
        return parse_day(self.path) or ""

    def newest(self) -> Place:
        """Behind the newest row."""
        rows = self._rows("1 ORDER BY rowid DESC LIMIT 1", (), NAMES)
        place = Place(self.day)
        return TICKS.behind(place, rows, self.identity)._replace(trail=None) if rows else place

    def fits(self, place: Place) -> bool:
        """Is it the same file, with the same row there?"""
        if (place.day, place.file) != (self.day, self.identity):
            return False
        rows = self._rows("rowid = ?", (place.rowid,), NAMES)
        return bool(rows) and TICKS.fits(place, rows[0])

    def behind(self, place: Place, symbols: Sequence[str] | OrderedDict[str, _Held]) -> list[_Row]:
        """Rows of these symbols that were stored later."""
        where = "rowid > ? AND symbol IN (SELECT value FROM json_each(?)) ORDER BY rowid"
        return self._rows(where, (place.rowid, json.dumps(list(symbols))), _COLUMNS)

    def rows_of(self, symbol: str) -> list[_Row]:
        """All rows of a symbol; those without a sequence, of which one tells enough, last."""
        rows = self._rows("symbol = ? AND seq IS NOT NULL ORDER BY seq", (symbol,), _COLUMNS)
        return rows + self._rows("symbol = ? AND seq IS NULL LIMIT 1", (symbol,), _COLUMNS)

    def told(self, loose: Sequence[int]) -> Any:
        """Of rows that may change, what may change."""
        if not loose:
            return None
        which = "WHERE rowid IN (SELECT value FROM json_each(?)) ORDER BY rowid"
        return self.conn.execute(changing_sql(self.conn, which), (json.dumps(loose),)).fetchone()

    def _rows(self, where: str, values: Sequence[Any], columns: tuple[str, ...]) -> list[_Row]:
        sql = f"SELECT rowid, {select_list(self.conn, columns)} FROM ticks WHERE {where}"  # noqa: S608 - our names
        return self.conn.execute(sql, values).fetchall()


@dataclass
class _Bars:
    """Bars of one kind, and from which moment on they are not true any more."""

    table: pa.Table
    stale_ms: int | None = None


@dataclass
class _Held:
    """A symbol's ticks in order, and bars of them."""

    pending: list[_Row]
    ticks: pa.Table = field(default_factory=lambda: ticks_schema(_HELD).empty_table())
    loose: list[int] = field(default_factory=list)  # rowids
    told: Any = None  # of the first of them
    told_rows: int = 0
    is_kept: bool = True
    _made: OrderedDict[_Kind, _Bars] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        for row in self.pending:
            self._judge(row)
        self._merge()

    @property
    def rows(self) -> int:
        """What it costs to keep it, as ticks."""
        bars = sum(made.table.num_rows for made in self._made.values())
        rows: int = self.ticks.num_rows + 4 * len(self.pending) + 2 * bars
        return rows

    def add(self, row: _Row) -> None:
        """One more."""
        self._judge(row)
        self.pending.append(row)
        if len(self.pending) > PENDING_ROWS:
            self._merge()

    def _judge(self, row: _Row) -> None:
        if row[_SEQ] is None:
            self.is_kept = False
        elif row[_TS_MS] % 1000 == 0 or row[_OCCURRENCE] == BORROWED_TIME:
            self.loose.append(row[0])
            self.is_kept = self.is_kept and len(self.loose) <= LOOSE_ROWS

    def _merge(self) -> None:
        if not self.pending or not self.is_kept:
            self.pending.clear()
            return
        first_ms = min(row[_TS_MS] for row in self.pending)
        for made in self._made.values():
            made.stale_ms = first_ms if made.stale_ms is None else min(made.stale_ms, first_ms)
        self.ticks = sort_table(pa.concat_tables([self.ticks, _table(self.pending)]))
        self.pending.clear()

    def bars(self, interval_ms: int, rule: TradeRule, market: Market, part: _Part) -> pa.Table:
        """As ``query.bars.make_bars`` of the part's ticks. Bars of all of them are kept."""
        self._merge()
        some = part.of(self.ticks)
        if some is not None:
            return make_bars(some, interval_ms, market, rule)
        kind = interval_ms, rule
        made = self._made.pop(kind, None)
        if made is None:
            made = _Bars(make_bars(self.ticks, interval_ms, market, rule))
        elif made.stale_ms is not None:
            made = _Bars(self._made_again(made, kind, market))
        self._made[kind] = made
        while len(self._made) > KINDS:
            self._made.popitem(last=False)
        return made.table

    def _made_again(self, made: _Bars, kind: _Kind, market: Market) -> pa.Table:
        """Bars up to the first that changed, and the others of their ticks."""
        interval_ms, rule = kind
        starts = bar_start_ms(_epoch_ms(self.ticks, "ts_ms"), interval_ms, market.zone)
        if (np.diff(starts) < 0).any():  # a night in which clocks are set back
            return make_bars(self.ticks, interval_ms, market, rule)
        start_ms = bar_start_ms(np.array([made.stale_ms], np.int64), interval_ms, market.zone)[0]
        later = make_bars(self.ticks.slice(int(np.searchsorted(starts, start_ms))), interval_ms, market, rule)
        before = made.table.slice(0, int(np.searchsorted(_epoch_ms(made.table, "start_ms"), start_ms)))
        return pa.concat_tables([before, later]).unify_dictionaries().combine_chunks()


def _epoch_ms(table: pa.Table, column: str) -> npt.NDArray[np.int64]:
    epoch_ms: npt.NDArray[np.int64] = table.column(column).cast(pa.int64()).to_numpy()
    return epoch_ms


def _table(rows: Sequence[_Row]) -> pa.Table:
    """Rows of ``_COLUMNS`` behind their rowid as ticks."""
    arrays = []
    for number, column in enumerate(ticks_schema(_HELD), start=1):
        values = [row[number] for row in rows]
        if pa.types.is_dictionary(column.type):
            arrays.append(pa.array(values, pa.string()).dictionary_encode())
        elif pa.types.is_timestamp(column.type):
            arrays.append(pa.array(values, pa.int64()).view(column.type))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=ticks_schema(_HELD))

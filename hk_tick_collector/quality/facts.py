"""What a recorded day tells about OpenD's ticks that is documented nowhere: numbering, times, delays, channels.

Promises: counts, counters, times and delays only. Prices, volumes, turnover and directions are not even read, symbols
are named on request alone, so that anybody may post the result. It describes and judges nothing: what the recorder
makes of a day is the certificate's word. Classes of symbols are approximate (market/hk/classes.py).

What the file cannot tell: which rows came twice (only the first is stored), and a connect after which nothing new came.
Rows of one push are those of a symbol with one receive time.

Cost: every row is read once, of ten columns, into DuckDB, which moves what does not fit to a temporary directory;
some four seconds a million, 370 MiB.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import NoData, StoreUnavailable
from hk_tick_collector.core.scratch import Scratch
from hk_tick_collector.market.hk.classes import SymbolClass, symbol_class
from hk_tick_collector.market.hours import CLOSING_AUCTION, OPENING_AUCTION
from hk_tick_collector.market.market import Session
from hk_tick_collector.records.tick import SEQ_COUNTER_BITS, SEQ_COUNTER_MASK

if TYPE_CHECKING:
    from hk_tick_collector.days.catalog import Day
    from hk_tick_collector.market.calendar import TradingCalendar

FORMAT_VERSION = 1
COLUMNS = (
    "symbol", "ts_ms", "seq", "recv_ts_ms", "opend_recv_ts_ms", "inserted_at_ms", "push_type", "push_data_type",
    "tick_type", "type_sign",
)  # fmt: skip
MEMORY_MB = 1024
CONNECTS_SHOWN = 8
SYMBOLS_NAMED = 10
CONNECT_APART_SEC = 60  # rows of one backfill come closer together than this
_CLOSING_PRINTS_AFTER_MS = 5 * 60_000  # between the last continuous trade and the closing auction's prints

Value = int | str | None


@dataclass(frozen=True, slots=True)
class Line:
    """One figure, by class of symbols; None: there is nothing that it could be told of."""

    label: str
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class Fact:
    """One of the questions of docs/open-facts.md, and what the day answers."""

    name: str  # its heading there
    about: str
    lines: tuple[Line, ...]
    symbols: tuple[str, ...] | None = None  # some that are out of the ordinary; None: not asked for, or none is


@dataclass(frozen=True, slots=True)
class DayFacts:
    """Becomes JSON by ``dataclasses.asdict``."""

    format_version: int
    trading_day: str
    day_kind: str  # whole | half | closed, by the calendar
    so_far: bool  # ticks of the day may still come
    source: str  # day file | archive
    version: str  # of the program that read it
    futu_api: str
    classes: tuple[str, ...]
    facts: tuple[Fact, ...]


def day_facts(
    day: Day,
    calendar: TradingCalendar,
    now_ms: int,
    *,
    name_symbols: bool = False,
    workers: int = 2,
    on_rows: Callable[[float], None] = lambda _: None,
) -> DayFacts:
    """Read a day and tell. NoData when it has no ticks, StoreError when it cannot be read."""
    kind = calendar.day_kind(day.trading_day)
    with Scratch("facts") as temporary:
        config = {"memory_limit": f"{MEMORY_MB}MB", "temp_directory": str(temporary), "threads": 2}
        with duckdb.connect(":memory:", config=config) as connection:
            book = _Book(connection, day, name_symbols=name_symbols)
            try:
                book.load(workers, on_rows)
                sessions = day.market.sessions(day.trading_day, kind)
                facts = _all_facts(book, sessions)
            except duckdb.Error as exc:
                raise StoreUnavailable(f"{day.source}: cannot be evaluated here: {str(exc).splitlines()[0]}") from exc
    return DayFacts(
        FORMAT_VERSION,
        day.trading_day,
        str(kind),
        day.market.no_more_ticks_ms(day.trading_day, kind) > now_ms,
        "archive" if day.is_archived_only else "day file",
        __version__,
        importlib.metadata.version("futu-api"),
        tuple(book.classes),
        tuple(facts),
    )


# What each line counts, as SQL over one of the tables below.
_Counts = Sequence[tuple[str, str]]

_BASE = f"""
CREATE VIEW ticks AS SELECT *, seq & {SEQ_COUNTER_MASK} AS counter, (seq >> {SEQ_COUNTER_BITS}) * 1000 AS seq_ms,
  at_ms % 1000 = 0 AS whole_second,
  (least(greatest(at_ms, 0), 1 << 30) << 32) | coalesce(seq & {SEQ_COUNTER_MASK}, 0) AS place FROM loaded;
CREATE VIEW by_symbol AS SELECT cls, symbol, count(*) AS ticks, min(counter) AS first_counter,
  max(counter) AS last_counter, count(*) FILTER (seq IS NULL) AS unsequenced, min(at_ms) AS first_ms FROM ticks
  GROUP BY ALL;
CREATE VIEW by_counter AS SELECT cls, symbol, at_ms, came_by, counter - lag(counter) OVER w AS step,
  at_ms - lag(at_ms) OVER w AS later_ms, lag(came_by) OVER w AS before FROM ticks WHERE seq IS NOT NULL
  WINDOW w AS (PARTITION BY symbol ORDER BY counter, at_ms);
CREATE VIEW by_time AS SELECT cls, symbol, counter - lag(counter) OVER w AS step FROM ticks WHERE seq IS NOT NULL
  WINDOW w AS (PARTITION BY symbol ORDER BY place);
CREATE VIEW shared AS SELECT seq FROM ticks WHERE seq IS NOT NULL GROUP BY seq HAVING min(symbol) <> max(symbol);
CREATE VIEW pushes AS SELECT cls, count(*) AS rows_of_push FROM ticks WHERE came_by = 'push'
  GROUP BY cls, symbol, recv_ms;
"""  # noqa: S608 - our numbers

_FIRST: _Counts = (
    ("symbols", "count(*)"),
    ("lowest counter 0", "count(*) FILTER (first_counter = 0)"),
    ("lowest counter 1", "count(*) FILTER (first_counter = 1)"),
    ("lowest counter 2 to 9", "count(*) FILTER (first_counter BETWEEN 2 AND 9)"),
    ("lowest counter 10 to 999", "count(*) FILTER (first_counter BETWEEN 10 AND 999)"),
    ("lowest counter 1000 or more", "count(*) FILTER (first_counter >= 1000)"),
    ("no counter at all", "count(*) FILTER (first_counter IS NULL)"),
)
_STEPS: _Counts = (
    ("in order of counters: 1", "count(*) FILTER (step = 1)"),
    ("  0 (one counter twice)", "count(*) FILTER (step = 0)"),
    ("  2 to 10", "count(*) FILTER (step BETWEEN 2 AND 10)"),
    ("  11 to 1000", "count(*) FILTER (step BETWEEN 11 AND 1000)"),
    ("  more", "count(*) FILTER (step > 1000)"),
    ("  and time goes back", "count(*) FILTER (later_ms < 0)"),
    ("  back most, ms", "-min(later_ms) FILTER (later_ms < 0)"),
)
_FALLS: _Counts = (
    ("in order of time: rises", "count(*) FILTER (step > 0)"),
    ("  falls by 1 to 100", "count(*) FILTER (step BETWEEN -100 AND -1)"),
    ("  falls by more", "count(*) FILTER (step < -100)"),
)
_SEQUENCES: _Counts = (
    ("ticks", "count(*)"),
    ("without a sequence", "count(*) FILTER (seq IS NULL)"),
    ("its second is the tick's", "count(*) FILTER (gap_sec = 0)"),
    ("  1 s off", "count(*) FILTER (gap_sec = 1)"),
    ("  2 to 5 s off", "count(*) FILTER (gap_sec BETWEEN 2 AND 5)"),
    ("  more", "count(*) FILTER (gap_sec > 5)"),
    ("another symbol has the same", "count(*) FILTER (seq IN (FROM shared))"),
)
_CHANNELS: _Counts = (
    ("came by push", "count(*) FILTER (came_by = 'push')"),
    ("came by poll", "count(*) FILTER (came_by = 'poll')"),
    ("came by backfill", "count(*) FILTER (came_by = 'backfill')"),
    ("came by repair", "count(*) FILTER (came_by = 'repair')"),
    ("came otherwise", "count(*) FILTER (came_by NOT IN ('push', 'poll', 'backfill', 'repair'))"),
)
_SEAMS: _Counts = (
    ("push next to pull: step 1", "count(*) FILTER (step = 1)"),
    ("  other steps", "count(*) FILTER (step <> 1)"),
    ("  time goes back", "count(*) FILTER (later_ms < 0)"),
)
_PUSHES: _Counts = (
    ("pushes", "count(*)"),
    ("1 row", "count(*) FILTER (rows_of_push = 1)"),
    ("2 to 5 rows", "count(*) FILTER (rows_of_push BETWEEN 2 AND 5)"),
    ("6 to 50 rows", "count(*) FILTER (rows_of_push BETWEEN 6 AND 50)"),
    ("more rows", "count(*) FILTER (rows_of_push > 50)"),
    ("most rows", "max(rows_of_push)"),
)
_TIMES: _Counts = (
    ("pushed, with milliseconds", "count(*) FILTER (came_by = 'push' AND NOT whole_second)"),
    ("pushed, whole second", "count(*) FILTER (came_by = 'push' AND whole_second)"),
    ("pulled, with milliseconds", "count(*) FILTER (came_by <> 'push' AND NOT whole_second)"),
    ("pulled, whole second", "count(*) FILTER (came_by <> 'push' AND whole_second)"),
)


_TYPE_AND_SIGN = "coalesce(tick_type, 'none') || coalesce(' [' || type_sign || ']', ', no sign')"


def _all_facts(book: _Book, sessions: Sequence[Session]) -> list[Fact]:
    first = book.lines(_FIRST, "by_symbol") + book.clock_lines("first tick", "min(at_ms)", "ticks")
    return [
        Fact("First counter", "the lowest counter of each symbol's day, in symbols", first,
             book.named("SELECT symbol FROM by_symbol WHERE first_counter IS DISTINCT FROM 1")),
        Fact("Steps", "from one stored tick of a symbol to its next",
             book.lines(_STEPS, "by_counter") + book.lines(_FALLS, "by_time"),
             book.named("SELECT symbol FROM by_time WHERE step < 0")),
        _sequences(book),
        *_breaks(book, sessions),
        _connects(book),
        _channels(book),
        Fact("Rows a push", "rows of a symbol with one receive time", book.lines(_PUSHES, "pushes")),
        _delays(book),
        Fact("Times", "of ticks; by chance 1 in 1000 is a whole second. Hong Kong time",
             book.lines(_TIMES, "ticks") + book.clock_lines("last tick", "max(at_ms)", "ticks")),
        _kinds(book, "Push data types", "coalesce(push_data_type, 'none, ' || came_by)"),
        _kinds(book, "Types and signs", _TYPE_AND_SIGN),
    ]  # fmt: skip


def _sequences(book: _Book) -> Fact:
    seconds = "(SELECT *, abs(seq_ms - (at_ms + midnight_ms) // 1000 * 1000) // 1000 AS gap_sec FROM ticks)"
    return Fact(
        "Sequences",
        "missing, equal, and the second in their upper half",
        book.lines(_SEQUENCES, seconds),
        book.named("SELECT symbol FROM by_symbol WHERE unsequenced > 0"),
    )


def _breaks(book: _Book, sessions: Sequence[Session]) -> list[Fact]:
    """How counters go on over lunch and the auctions, and the auctions' prints; of a market that has them."""
    by_name = {session.name: session for session in sessions}
    if OPENING_AUCTION not in by_name or CLOSING_AUCTION not in by_name:
        return []
    opening_end_ms, morning_end_ms, close_ms, end_ms = (
        session.end_ms - book.midnight_ms for session in (*sessions[:2], *sessions[-2:])
    )
    match_ms = by_name[OPENING_AUCTION].prints_ms - book.midnight_ms
    facts = []
    if close_ms != morning_end_ms:
        probe_ms = morning_end_ms + 30 * 60_000
        facts.append(
            Fact("Lunch", "the counter from the morning's last tick to the next, in symbols",
                 book.crossing("", probe_ms), book.not_going_on(probe_ms))
        )  # fmt: skip
    probes = ((" (opening)", opening_end_ms - 60_000), (" (closing)", close_ms + _CLOSING_PRINTS_AFTER_MS))
    lines = book.auction("opening", match_ms, opening_end_ms) + book.auction("closing", close_ms, end_ms)
    for label, probe_ms in probes:
        lines += book.crossing(label, probe_ms)
    facts.append(Fact("Auctions", "prints of type AUCTION, and the counter beside them, in symbols", lines))
    return facts


def _connects(book: _Book) -> Fact:
    """Rows of a backfill, and of the kinds that OpenD sends after a break, tell when the recorder connected."""
    seconds = [row[0] for row in book.rows("""SELECT DISTINCT recv_ms // 1000 FROM ticks
      WHERE came_by = 'backfill' OR push_data_type IN ('CACHE', 'BYDISCONN') ORDER BY 1""")]  # fmt: skip
    starts = [now for now, before in zip(seconds, [None, *seconds], strict=False)
              if before is None or now - before > CONNECT_APART_SEC]  # fmt: skip
    lines = [Line("connects", {name: len(starts) for name in book.classes})]
    for start_sec in starts[:CONNECTS_SHOWN]:
        probe_ms = start_sec * 1000
        last = book.rows(f"SELECT max(recv_ms) FROM ticks WHERE recv_ms < {probe_ms} AND came_by = 'push'")[0][0]  # noqa: S608
        label = f"{_clock(probe_ms)}, silent before, s"
        lines.append(Line(label, dict.fromkeys(book.classes, None if last is None else (probe_ms - last) // 1000)))
        if last is not None:
            lines += book.crossing("", probe_ms)
    return Fact("Connects", "as far as they left rows; the counter over each, in symbols", tuple(lines))


def _channels(book: _Book) -> Fact:
    trust: _Counts = (
        ("symbols: push and pull agree", "count(*) FILTER (agreed)"),
        ("  and disagree", "count(*) FILTER (contains(distrust, 'push and pull'))"),
        ("  doubted otherwise", "count(*) FILTER (distrust <> '' AND NOT contains(distrust, 'push and pull'))"),
    )
    seams = "(SELECT * FROM by_counter WHERE before IS NOT NULL AND (came_by = 'push') <> (before = 'push'))"
    lines = book.lines(_CHANNELS, "ticks") + book.lines(_SEAMS, seams) + book.lines(trust, "noted")
    named = book.named("SELECT symbol FROM noted WHERE distrust <> ''")
    return Fact("Push against pull", "in numbering and time, where their ticks meet", lines, named)


def _delays(book: _Book) -> Fact:
    legs = (
        ("event to OpenD", "opend_ms - at_ms"),
        ("OpenD to recorder", "recv_ms - opend_ms"),
        ("recorder to file", "stored_ms - recv_ms"),
        ("event to file", "stored_ms - at_ms"),
    )
    live = "(SELECT * FROM ticks WHERE came_by = 'push' AND push_data_type = 'REALTIME' AND NOT whole_second)"
    lines: tuple[Line, ...] = ()
    for label, leg in legs:
        counts: _Counts = (
            (f"{label}: half within", f"quantile_disc({leg}, 0.5)"),
            ("  99 of 100 within", f"quantile_disc({leg}, 0.99)"),
            ("  longest", f"max({leg})"),
            ("  below zero, ticks", f"count(*) FILTER ({leg} < 0)"),
        )
        lines += book.lines(counts, live)
    return Fact("Delays", "of REALTIME pushes, in ms: two machines' clocks take part", lines)


def _kinds(book: _Book, name: str, kind: str) -> Fact:
    """Ticks by ``kind``, an expression in SQL; most first."""
    counted = book.rows(f"SELECT cls, {kind} AS kind, count(*) FROM ticks GROUP BY ALL ORDER BY 3 DESC, 2")  # noqa: S608
    by_kind: dict[str, dict[str, Value]] = {}
    for cls, text, ticks in counted:
        by_kind.setdefault(_plain(text), dict.fromkeys(book.classes, 0))[cls] = ticks
    return Fact(name, "in ticks", tuple(Line(text, values) for text, values in by_kind.items()))


class _Book:
    """The day's rows in DuckDB, and the ways to ask for lines. Times are milliseconds since Hong Kong midnight."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, day: Day, *, name_symbols: bool) -> None:
        self._connection = connection
        self._day = day
        self._name_symbols = name_symbols
        self.midnight_ms = day.market.zone.midnight_ms(day.trading_day)
        self.classes: list[str] = []

    def load(self, workers: int, on_rows: Callable[[float], None]) -> None:
        """Read every row of the day."""
        self._connection.execute("""CREATE TABLE loaded (symbol VARCHAR, cls VARCHAR, midnight_ms BIGINT, at_ms BIGINT,
          seq BIGINT, recv_ms BIGINT, opend_ms BIGINT, stored_ms BIGINT, came_by VARCHAR, push_data_type VARCHAR,
          tick_type VARCHAR, type_sign VARCHAR)""")
        for batch in self._day.batches(COLUMNS, workers=workers):
            self._insert("loaded", self._table(batch))
            on_rows(batch.num_rows)
        loaded = {row[0] for row in self.rows("SELECT DISTINCT cls FROM loaded")}
        if not loaded:
            raise NoData(f"{self._day.trading_day}: no tick is stored, so there is nothing to tell")
        self.classes = [str(symbol_class) for symbol_class in SymbolClass if str(symbol_class) in loaded]
        self._connection.execute(_BASE)
        self._connection.execute("CREATE TABLE noted (symbol VARCHAR, cls VARCHAR, agreed BOOLEAN, distrust VARCHAR)")
        noted = [(row.symbol, str(symbol_class(row.symbol)), row.verified_counter is not None, row.distrust or "")
                 for row in self._day.coverage()]  # fmt: skip
        names = ("symbol", "cls", "agreed", "distrust")
        if noted:
            self._insert("noted", pa.table(dict(zip(names, map(list, zip(*noted, strict=True)), strict=True))))

    def _table(self, batch: pa.RecordBatch) -> pa.Table:
        symbol, ts, seq, recv, gateway, stored, *words = batch.columns
        classes = pa.array([str(symbol_class(name)) for name in symbol.dictionary.to_pylist()], pa.string())
        times = [pc.subtract(column.view(pa.int64()), self.midnight_ms) for column in (ts, recv, gateway, stored)]
        midnight = pa.array([self.midnight_ms] * len(seq), pa.int64())
        columns = [symbol, pa.DictionaryArray.from_arrays(symbol.indices, classes), midnight, times[0], seq, *times[1:]]
        return pa.table([*columns, *words], names=[str(n) for n in range(12)])

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._connection.register("incoming", rows)
        self._connection.execute(f"INSERT INTO {table} SELECT * FROM incoming")  # noqa: S608 - our names
        self._connection.unregister("incoming")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The answer to a question of our own."""
        rows: list[tuple[Any, ...]] = self._connection.execute(sql).fetchall()
        return rows

    def lines(self, counts: _Counts, table: str) -> tuple[Line, ...]:
        """One line for each of ``counts``; ``table`` has a column ``cls``. A class without rows there has None."""
        aggregates = ", ".join(sql for _, sql in counts)
        by_class = {row[0]: row[1:] for row in self.rows(f"SELECT cls, {aggregates} FROM {table} GROUP BY cls")}  # noqa: S608
        return tuple(
            Line(label, {name: by_class[name][n] if name in by_class else None for name in self.classes})
            for n, (label, _) in enumerate(counts)
        )

    def clock_lines(self, label: str, aggregate: str, table: str) -> tuple[Line, ...]:
        """A line with a time of day."""
        (line,) = self.lines(((label, aggregate),), table)
        return (Line(label, {name: _clock(value) for name, value in line.values.items()}),)

    def crossing(self, label: str, probe_ms: int) -> tuple[Line, ...]:
        """How counters go on over a moment, in symbols that have ticks on both sides of it."""
        counts: _Counts = (
            (f"  goes on by 1{label}", "count(*) FILTER (step = 1)"),
            (f"  by more{label}", "count(*) FILTER (step > 1)"),
            (f"  begins anew{label}", "count(*) FILTER (step <= 0)"),
        )
        return self.lines(counts, f"({_steps_over(probe_ms)})")

    def not_going_on(self, probe_ms: int) -> tuple[str, ...] | None:
        """Symbols whose counter takes another step than 1 over that moment."""
        return self.named(f"SELECT symbol FROM ({_steps_over(probe_ms)}) WHERE step <> 1")  # noqa: S608 - our numbers

    def auction(self, name: str, start_ms: int, end_ms: int) -> tuple[Line, ...]:
        """An auction's prints."""
        prints = f"(SELECT * FROM ticks WHERE tick_type = 'AUCTION' AND at_ms >= {start_ms} AND at_ms < {end_ms})"  # noqa: S608
        counts: _Counts = (
            (f"{name}: prints", "count(*)"),
            ("  symbols", "count(DISTINCT symbol)"),
            ("  with milliseconds", "count(*) FILTER (NOT whole_second)"),
        )
        lines = self.lines(counts, prints) + self.clock_lines("  first", "min(at_ms)", prints)
        return lines + self.clock_lines("  last", "max(at_ms)", prints)

    def named(self, sql: str) -> tuple[str, ...] | None:
        """Some symbols of an answer, when names are wanted."""
        if not self._name_symbols:
            return None
        named = self.rows(f"SELECT DISTINCT symbol FROM ({sql}) ORDER BY 1 LIMIT {SYMBOLS_NAMED}")  # noqa: S608 - our SQL
        return tuple(_plain(row[0]) for row in named) or None


def _steps_over(probe_ms: int) -> str:
    place = max(probe_ms, 0) << 32
    return f"""SELECT cls, symbol, arg_min(counter, place) FILTER (place >= {place})
      - arg_max(counter, place) FILTER (place < {place}) AS step FROM ticks WHERE seq IS NOT NULL GROUP BY cls, symbol
      HAVING step IS NOT NULL"""  # noqa: S608 - our numbers


def _clock(of_day_ms: Value) -> str | None:
    if not isinstance(of_day_ms, int):
        return None
    seconds = of_day_ms // 1000
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


def _plain(kind: str) -> str:
    """A name out of the file, fit to be shown: the file is not ours alone."""
    return "".join(char if char.isascii() and char.isprintable() else "?" for char in kind[:32])

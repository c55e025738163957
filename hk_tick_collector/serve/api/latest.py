"""The newest ticks of a symbol: short enough for a thread of the server, without Arrow and without a reading process.

They are looked up by the index on symbol and sequence; those without a sequence by time. Newest means last by event
time, then sequence, as in every other answer. A symbol without ticks in the newest day file is looked for in the few
before it.

What was answered is kept as JSON, up to KEPT_BYTES a file, and given again only while it is what the file holds:
nothing was committed since, or the symbol's newest rows are the same ones (``changing``).
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from hk_tick_collector.client.coverage import SymbolCoverage
from hk_tick_collector.client.plan import coverage_rows
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.records.columns import NAMES
from hk_tick_collector.serve.api.changing import changing_sql
from hk_tick_collector.serve.api.completeness import summary_of
from hk_tick_collector.serve.api.roots import Root
from hk_tick_collector.store.companions import Mark, is_closed
from hk_tick_collector.store.connect import translate
from hk_tick_collector.store.file_stream import SETTLED_SEC, identity_of
from hk_tick_collector.store.follow import newest_place
from hk_tick_collector.store.layout import parse_day, recent_day_files
from hk_tick_collector.store.position import Position
from hk_tick_collector.store.read_only import ClosedFile, open_read_only, select_list
from hk_tick_collector.store.reader import notes_of

DAYS_BACK = 5
KEEP_SEC = 1.0
KEPT_BYTES, KEPT_TAILS = 8 << 20, 5000
_SEQ, _TS_MS = NAMES.index("seq"), NAMES.index("ts_ms")
_NO_SEQ = 1 << 63
_SEQUENCED = "WHERE symbol = ?1 AND seq IS NOT NULL ORDER BY seq DESC LIMIT ?2"
_OTHERS = "WHERE symbol = ?1 AND seq IS NULL ORDER BY ts_ms DESC LIMIT ?2"


class Tail(NamedTuple):
    """The newest ticks of a symbol, oldest first, as JSON objects with commas between them."""

    rows: int
    json: bytes
    which: tuple[str | None, ...] = ()  # what tells them from others

    def behind(self, older: Tail) -> Tail:
        """With older ticks before them."""
        return Tail(self.rows + older.rows, b",".join(part.json for part in (older, self) if part.rows))


_NO_TICK = Tail(0, b"")


def tick_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """A tick as JSON shows it."""
    tick = dict(zip(NAMES, row, strict=True))
    if tick["seq"] is not None:
        tick["seq"] = str(tick["seq"])
    return tick


@dataclass
class Latest:
    """The newest ticks of a root's symbols, by symbol."""

    tails: dict[str, Tail]
    position: str | None  # behind the newest row when they were read: where the live channel goes on
    day: str | None  # the newest day file
    coverage: dict[str, Any]  # of the newest day file

    @property
    def lacking(self) -> list[str]:
        """Symbols without any."""
        return [symbol for symbol, tail in self.tails.items() if not tail.rows]


class _Asked(NamedTuple):
    symbols: tuple[str, ...]
    rows: int
    answer: asyncio.Future[Latest]


class Newest:
    """Looks up newest ticks in one data root, on a thread of its own.

    Questions that come while the thread works go to it together afterwards: changing threads costs more than an
    answer, and each is still of a moment behind its question.

    The connection to a live day file is kept for KEEP_SEC, so that many questions cost one opening, and no recorder
    waits long for a reader when it closes a file. A closed file is opened when it was written to, or something is asked
    that was not asked before.
    """

    def __init__(self, root: Root, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._monotonic = monotonic
        self._files: list[_DayTails] = []  # the newest first
        self._drop_at = float("-inf")
        self._thread = ThreadPoolExecutor(1, "newest")
        self._waiting: list[_Asked] = []
        self._answering: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Let the files go."""
        self._thread.submit(self._drop).result()
        self._thread.shutdown()

    async def ask(self, symbols: Sequence[str], count: int) -> Latest:
        """The newest ``count`` ticks of each symbol. Raises as ``store.reader``."""
        answer: asyncio.Future[Latest] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(tuple(symbols), count, answer))
        if self._answering is None:
            self._answering = asyncio.create_task(self._answer())
        return await answer

    async def drop_when_idle(self) -> None:
        """Let the files go when their time is over."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop_when_idle)

    async def _answer(self) -> None:
        """All that wait, and those that come meanwhile."""
        while self._waiting:
            asked, self._waiting = self._waiting, []
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, self._answers, asked)
            for (_, _, answer), latest in zip(asked, answers, strict=True):
                if answer.done():  # whoever asked has gone
                    continue
                if isinstance(latest, Latest):
                    answer.set_result(latest)
                else:
                    answer.set_exception(latest)
        self._answering = None

    def _answers(self, asked: Sequence[_Asked]) -> list[Latest | Exception]:
        known: dict[tuple[tuple[str, ...], int], Latest | Exception] = {}
        for symbols, count, _ in asked:
            if (symbols, count) not in known:
                try:
                    known[symbols, count] = self.ticks(symbols, count)
                except Exception as exc:  # noqa: BLE001 - whoever asked gets it
                    known[symbols, count] = exc
        return [known[symbols, count] for symbols, count, _ in asked]

    def _drop_when_idle(self) -> None:
        if self._files and self._monotonic() >= self._drop_at:
            self._drop()

    def ticks(self, symbols: Sequence[str], count: int) -> Latest:
        """As ``ask``; on the thread."""
        self._look()
        if not self._files:
            if not self._root.data_root.is_dir():
                raise StoreUnavailable(f"{self._root.data_root} is not there")
            return Latest(dict.fromkeys(symbols, _NO_TICK), None, None, summary_of([]))
        newest = self._files[0]
        with newest.reading():
            position = newest.position()  # before the rows: what comes in between, the live channel gives again
            tails = {symbol: newest.tail(symbol, count) for symbol in symbols}
            judged = summary_of([newest.coverage(symbol) for symbol in symbols])
        return Latest(self._filled(tails, count), position, newest.day, judged)

    def _filled(self, tails: dict[str, Tail], count: int) -> dict[str, Tail]:
        """With ticks of the days before, where the newest one has too few."""
        for before in self._files[1:]:
            wanted = [symbol for symbol, tail in tails.items() if tail.rows < count]
            if not wanted:
                break
            with before.reading():
                for symbol in wanted:
                    tails[symbol] = tails[symbol].behind(before.tail(symbol, count - tails[symbol].rows))
        return tails

    def _look(self) -> None:
        """Which files there are, once in KEEP_SEC; what is known of those that stay is kept."""
        if self._monotonic() < self._drop_at:
            return
        today = self._root.market.trading_day(self._root.now_ms)
        known = {file.path: file for file in self._files}
        self._drop()
        paths = recent_day_files(self._root.data_root, DAYS_BACK, today)
        self._files = [known.get(path) or _DayTails(path) for path in paths]
        if self._files:  # else the first one is met at once
            self._drop_at = self._monotonic() + KEEP_SEC

    def _drop(self) -> None:
        self._drop_at = float("-inf")
        for file in self._files:
            file.let_go()


@dataclass(frozen=True)
class _Open:
    """An open day file."""

    conn: sqlite3.Connection
    columns: str
    which_sql: str  # what tells the newest rows of a symbol from others
    identity: int
    is_live: bool

    @classmethod
    def of(cls, path: Path) -> _Open:
        identity = identity_of(path)
        conn = open_read_only(path)
        which_sql = f"SELECT ({changing_sql(conn, _SEQUENCED)}), ({changing_sql(conn, _OTHERS)})"
        return cls(conn, select_list(conn, NAMES), which_sql, identity, not isinstance(conn, ClosedFile))


@dataclass
class _DayTails:
    """A day file, and what was read of it in one state: of a live file that of its last commit, of a closed one that
    which its file system tells."""

    path: Path
    _open: _Open | None = None
    _identity: int = 0
    _state: Hashable = None
    _position: str | None = None
    _coverage: dict[str, SymbolCoverage] = field(default_factory=dict)
    _current: set[tuple[str, int]] = field(default_factory=set)  # of the tails: those of this state
    _tails: OrderedDict[tuple[str, int], Tail] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0

    @property
    def day(self) -> str:
        """YYYYMMDD."""
        return parse_day(self.path) or ""

    def let_go(self) -> None:
        """Close it. StoreBusy when it was read as a closed one, and somebody wrote to it meanwhile."""
        known, self._open = self._open, None
        if known is not None:
            self._state = None
            known.conn.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read in it. Raises as ``store.reader``."""
        try:
            state = self._state_now()
            if state != self._state:
                self._state, self._position = state, None
                self._coverage.clear()
                self._current.clear()
            yield
        except sqlite3.Error as exc:
            self._state = None
            self.let_go()
            raise translate(exc, self.path) from exc
        if self._open is not None and not self._open.is_live:
            self.let_go()
            self._state = state

    def _state_now(self) -> Hashable:
        """Equal to another one only if nothing was written in between."""
        if self._open is None and is_closed(self.path):
            mark = Mark.of(self.path)
            is_settled = mark is not None and mark.changed_ns < time.time_ns() - int(SETTLED_SEC * 1e9)
            return mark if is_settled else object()
        version: tuple[int] = self._opened.conn.execute("PRAGMA data_version").fetchone()
        return version

    @property
    def _opened(self) -> _Open:
        if self._open is None:
            self._open = _Open.of(self.path)
            if self._open.identity != self._identity:  # another file: equal rowids and times prove nothing
                self._identity, self._kept_bytes = self._open.identity, 0
                self._tails.clear()
                self._current.clear()
        return self._open

    def position(self) -> str:
        """Behind all rows that there are now."""
        if self._position is None:
            opened = self._opened
            place = newest_place(opened.conn, self.day, opened.identity, opened.columns)
            self._position = str(Position.at_start_of(self.day).moved(place))
        return self._position

    def coverage(self, symbol: str) -> SymbolCoverage:
        """How complete the symbol's day is."""
        known = self._coverage.get(symbol)
        if known is None:
            notes = notes_of(self._opened.conn, (symbol,))
            known = self._coverage[symbol] = coverage_rows(self.day, notes, (symbol,), {})[0]
        return known

    def tail(self, symbol: str, count: int) -> Tail:
        """The newest ticks of a symbol."""
        key = symbol, count
        known = self._tails.get(key)
        if known is not None and key in self._current:
            self._tails.move_to_end(key)
            return known
        opened = self._opened
        known = self._tails.get(key)  # opening forgets them when it is another file
        which = opened.conn.execute(opened.which_sql, key).fetchone()
        if known is None or known.which != which:
            rows = _newest(opened.conn, opened.columns, symbol, count)
            known = Tail(len(rows), orjson.dumps([tick_of(row) for row in rows])[1:-1], which)
        self._keep(key, known)
        return known

    def _keep(self, key: tuple[str, int], tail: Tail) -> None:
        self._kept_bytes += len(tail.json) - len(self._tails.pop(key, _NO_TICK).json)
        self._tails[key] = tail
        self._current.add(key)
        while self._kept_bytes > KEPT_BYTES or len(self._tails) > KEPT_TAILS:
            oldest, dropped = self._tails.popitem(last=False)
            self._kept_bytes -= len(dropped.json)
            self._current.discard(oldest)


def _newest(conn: sqlite3.Connection, columns: str, symbol: str, count: int) -> list[tuple[Any, ...]]:
    asked = (f"SELECT {columns} FROM ticks {which}" for which in (_SEQUENCED, _OTHERS))  # noqa: S608 - our names
    rows = [row for sql in asked for row in conn.execute(sql, (symbol, count))]
    rows.sort(key=lambda row: (row[_TS_MS], _NO_SEQ if row[_SEQ] is None else row[_SEQ]))
    return rows[-count:]

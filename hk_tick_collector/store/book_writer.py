"""The writer of files of whole states, order books or broker queues: pushes and what was watched in, committed rows
out.

Owned by one thread. Promises:

- A batch is stored when ``write`` returned, all of it in one transaction a day, with the counters that account for it:
  in each session of a file ``received = stored + merged + unread``. After an error the same batch may be written again,
  and is stored once: the counters say whether it was.
- After anything that casts doubt on what is in the file, the next push of every symbol gets a full row.
- A file that an earlier process left without an end is ended at its last commit: its open watches stop there, and each
  gets a break, before a new row is written.
- A damaged file is set aside as a day file is; one that was removed or exchanged is left at the next beat, and what it
  held is copied (``taken``).
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import StoreError, StoreUnavailable
from hk_tick_collector.core.logline import event
from hk_tick_collector.records.book import (
    BookEntry,
    BrokerPush,
    PullCompared,
    PushEntry,
    StoredRow,
    WatchBegan,
    WatchEnded,
    WatchRefused,
)
from hk_tick_collector.store import rescue
from hk_tick_collector.store.book_file import BOOK_KIND, StateKind, note_conflated, open_for_writing
from hk_tick_collector.store.connect import SqliteOptions, as_store_error, has_no_room
from hk_tick_collector.store.taken import TakenFiles

DIED = "recorder died"
STOPPED = "recorder stopped"
DAY_OVER = "day over"

MAX_REASON_CHARS = 200  # of the far side's words
QUIET_MS = 300_000  # without a push, when nothing is traded any more: the file is closed, so that it can be archived

log = logging.getLogger(__name__)

_INSERT_PUSH = "INSERT INTO pushes VALUES (?, ?, ?, ?, ?, ?, ?)"
# A statement a row would give the interpreter away and take it back for each: a ninth of a write's CPU.
ROWS_A_STATEMENT = 32
_COUNT = (
    "UPDATE sessions SET alive_ms = max(alive_ms, ?), received = received + ?, stored = stored + ?, "
    "merged = merged + ?, unread = unread + ?, commits = commits + ? WHERE session_id = ?"
)
_END_WATCH = "UPDATE watches SET until_ms = ?, reason = ? WHERE session_id = ? AND symbol_id = ? AND until_ms IS NULL"


class _Counters(NamedTuple):
    """Those of a session, as the file has them."""

    received: int
    stored: int
    merged: int
    unread: int
    commits: int


_NO_COUNTS = _Counters(0, 0, 0, 0, 0)


class _Attempt(NamedTuple):
    """A commit whose end is not known: the file has these counters if it was done after all."""

    counters: _Counters
    watching: dict[str, int]
    batch: object  # which one it was: another one behind it is never taken for it


class BookWriter:
    """Writes books under ``data_root``. ``day_of``: the market's trading day of a moment in UTC epoch ms;
    ``is_closed``: is nothing traded then?"""

    def __init__(
        self,
        data_root: Path,
        options: SqliteOptions,
        day_of: Callable[[int], str],
        now_ms: Callable[[], int],
        is_closed: Callable[[int], bool] = lambda _ms: False,
        kind: StateKind = BOOK_KIND,
        *,
        conflated: bool = False,
    ) -> None:
        """``conflated``: the source says so of itself, and each file does."""
        self._is_conflated = conflated
        self._kind = kind
        self._data_root = data_root
        self._options = options
        self._day_of = day_of
        self._now_ms = now_ms
        self._is_closed = is_closed
        self._pushed_ms = 0  # when something was stored that is no comparison
        self._resting_day = ""  # whose file was closed since the market was; a push opens it again
        self._encoder = kind.encoder()
        self._watching: dict[str, int] = {}  # symbol -> since when, UTC epoch ms
        self._refused: dict[str, str] = {}  # symbol -> why nobody sends its books; noted once in each file
        self._day = ""
        self._path: Path | None = None
        self._conn: sqlite3.Connection | None = None
        self._inode: rescue.Inode | None = None
        self._session_id = 0
        self._session_days: dict[str, int] = {}  # the session that this process has open in each file
        self._counters = _NO_COUNTS
        self._attempted: _Attempt | None = None
        self._symbol_ids: dict[str, int] = {}
        self._named: set[int] = set()  # brokers whose names are in the file
        self._is_abandoned = False
        self._taken = TakenFiles(now_ms, lambda: self._is_abandoned)
        self._before: tuple[dict[str, int], dict[str, str]] | None = None  # watching and refused, during a write

    def write(
        self, day: str, entries: Sequence[BookEntry], received: int, unread: int = 0, batch: object = None
    ) -> None:
        """Store a batch of one day. ``received``: pushes that it accounts for, with those that were merged or could not
        be read. After any StoreError nothing is lost: write it again, after ``set_aside`` when it was StoreCorrupt.
        ``batch``: its name, the same when it is written again, also by an heir; None: the one before, after an error.
        """
        if self._conn is None and day == self._resting_day and not received and not unread:
            self._note_watches(entries)
            return
        self._in_file(day, lambda conn: self._store(conn, entries, received, unread), batch)
        if not all(isinstance(entry, PullCompared) for entry in entries):
            self._pushed_ms = self._now_ms()

    def beat(self) -> None:
        """Nothing came: note that we are alive, end a day that is over."""
        self._taken.try_again()
        if self._conn is None:
            return
        now_ms = self._now_ms()
        if self._day_of(now_ms) != self._day:
            self._end_day()
        elif self._is_closed(now_ms) and now_ms - self._pushed_ms >= QUIET_MS:
            self._end_day()
            self._resting_day = self._day
        else:
            self._in_file(self._day, lambda conn: self._count(conn, now_ms, 0, 0, 0, 0), object())

    def recover(self) -> None:
        """After a fault of ours: what was under way is given up, and the next batch is another one."""
        self._drop()
        self._attempted = None

    def abandon(self) -> BookWriter:
        """From another thread, of a writer that hangs: it commits no more but what it is committing, and gives up when
        it comes back. The writer that goes on instead: it knows what was under way, and in which session."""
        self._is_abandoned = True
        conn = self._conn
        if conn is not None:
            with contextlib.suppress(sqlite3.Error):
                conn.interrupt()
        now_ms, is_closed, conflated = self._now_ms, self._is_closed, self._is_conflated
        heir = BookWriter(
            self._data_root, self._options, self._day_of, now_ms, is_closed, self._kind, conflated=conflated
        )
        watching, refused = self._before or (self._watching, self._refused)
        heir._watching, heir._refused = dict(watching), dict(refused)
        heir._session_days, heir._attempted = dict(self._session_days), self._attempted
        heir._pushed_ms, heir._resting_day = self._pushed_ms, self._resting_day
        return heir

    def leave(self) -> None:
        """Let go of the file as it is; somebody else goes on with it."""
        self._drop()
        self._taken.try_again(is_last=True)

    def close(self) -> None:
        """End the session and its watches, and close the file. StoreError."""
        try:
            self._end_session(STOPPED)
        finally:
            self._taken.try_again(is_last=True)

    def set_aside(self, reason: str) -> Path | None:
        """Rename a damaged file; the next batch makes a new one. StoreUnavailable when the directory refuses."""
        path = self._path
        try:
            target = None if path is None else rescue.set_aside(path, self._now_ms())
        finally:
            self._drop()
        if path is None or target is None:
            return None
        self._begin_anew()
        todo = rescue.todo_of(target)
        log.error(event("book_file_set_aside", path=path, moved_to=target, reason=reason, todo=todo))
        return target

    def _note_watches(self, entries: Sequence[BookEntry]) -> None:
        """Who is watched, while the file rests: it says that all of them were until it was closed, and is opened for no
        less than a push. Books that were asked for are forgotten: they are samples."""
        for entry in entries:
            if isinstance(entry, PushEntry):
                continue
            if isinstance(entry, WatchRefused):
                self._refused[entry.symbol] = entry.reason
            elif isinstance(entry, WatchBegan):
                self._watching.setdefault(entry.symbol, entry.at_us // 1000)
            elif not isinstance(entry, (PushEntry, PullCompared)):
                self._watching.pop(entry.symbol, None)
            if isinstance(entry, (WatchBegan, WatchEnded)):
                self._refused.pop(entry.symbol, None)

    def _in_file(self, day: str, step: Callable[[sqlite3.Connection], None], batch: object) -> None:
        """One transaction in the day's file. ``batch``: as of ``write``; what never comes again has a name that nothing
        else has, or the batch behind it would be taken for it, and not be stored."""
        if self._conn is not None and day != self._day:
            self._end_day()
        elif self._conn is not None and not self._is_at_path():
            self._leave_replaced()
        watching, refused = self._before = dict(self._watching), dict(self._refused)
        try:
            self._day, self._path, self._resting_day = day, self._kind.file_of(self._data_root, day), ""
            conn = self._conn or self._open(self._path)
            if self._is_stored(batch):
                return
            conn.execute("BEGIN IMMEDIATE")
            step(conn)
            self._attempted = _Attempt(self._counters, self._watching, batch)
            self._check_turn()  # after the attempt is noted: either it is seen here, or the heir knows of it
            conn.execute("COMMIT")
            self._attempted = None if batch is None else self._attempted  # an heir may ask
            self._before = None
        except Exception as exc:
            self._watching, self._refused = watching, refused
            self._before = None
            self._drop()
            if has_no_room(exc):
                self._taken.let_go()
            error = as_store_error(exc, self._path or self._data_root)
            if error is exc:
                raise
            raise error from exc
        self._taken.try_again()

    def _is_stored(self, batch: object) -> bool:
        """Was this batch committed, though nobody was told so?"""
        attempted = self._attempted
        if attempted is None or attempted.batch != batch or attempted.counters != self._counters:
            return False
        self._watching, self._before = attempted.watching, None
        self._attempted = None if batch is None else attempted
        return True

    def _open(self, path: Path) -> sqlite3.Connection:
        self._encoder.forget()
        conn = open_for_writing(path, self._options)
        try:
            self._conn = conn
            self._inode = rescue.inode_of_open(path)
            conn.execute("BEGIN IMMEDIATE")
            self._symbol_ids = {str(name): int(key) for key, name in conn.execute("SELECT * FROM symbols")}
            self._end_sessions_of_others(conn)
            self._begin_session(conn)
            if self._is_conflated:
                note_conflated(conn)
            self._check_turn()
            conn.execute("COMMIT")
        except BaseException:
            self._drop()
            raise
        return conn

    def _end_sessions_of_others(self, conn: sqlite3.Connection) -> None:
        own = self._session_days.get(self._day, 0)
        sql = "SELECT session_id, alive_ms FROM sessions WHERE NOT ended AND session_id <> ?"
        for session_id, alive_ms in conn.execute(sql, (own,)).fetchall():
            self._end_watches(conn, session_id, alive_ms, DIED)
            conn.execute("UPDATE sessions SET ended = 1 WHERE session_id = ?", (session_id,))

    def _begin_session(self, conn: sqlite3.Connection) -> None:
        own = self._session_days.get(self._day)
        sql = "SELECT received, stored, merged, unread, commits FROM sessions WHERE session_id = ?"
        counters = None if own is None else conn.execute(sql, (own,)).fetchone()
        if own is not None and counters is not None:
            self._session_id, self._counters = own, _Counters(*counters)
            return
        now_ms = self._now_ms()
        cursor = conn.execute("INSERT INTO sessions (began_ms, alive_ms) VALUES (?, ?)", (now_ms, now_ms))
        self._session_id = self._session_days[self._day] = int(cursor.lastrowid or 0)
        self._counters, self._attempted = _NO_COUNTS, None
        for symbol, since_ms in self._watching.items():
            self._begin_watch(conn, symbol, since_ms)
        for symbol, reason in self._refused.items():
            self._note_refusal(conn, symbol, now_ms, reason)

    def _store(self, conn: sqlite3.Connection, entries: Sequence[BookEntry], received: int, unread: int) -> None:
        rows: list[StoredRow] = []
        stored = merged = 0
        now_ms = self._now_ms()
        for entry in entries:
            if isinstance(entry, PushEntry):
                push = entry.push
                rows.append(self._encoder.encode(self._symbol_id(conn, push.symbol), push, entry.merged))
                if isinstance(push, BrokerPush):
                    self._note_names(conn, push)
                stored += 1
                merged += entry.merged
            else:
                merged += self._store_event(conn, entry, rows)
        _insert(conn, rows)
        self._count(conn, now_ms, received, stored, merged, unread)

    def _store_event(self, conn: sqlite3.Connection, entry: BookEntry, rows: list[StoredRow]) -> int:
        """Pushes that were merged into it."""
        assert not isinstance(entry, PushEntry)
        if isinstance(entry, WatchRefused):
            if entry.symbol not in self._refused:  # another reason for the same is in the log
                self._note_refusal(conn, entry.symbol, entry.at_us // 1000, entry.reason)
            self._refused[entry.symbol] = entry.reason
            return 0
        if not isinstance(entry, PullCompared):
            self._refused.pop(entry.symbol, None)
        if isinstance(entry, WatchBegan):
            if entry.symbol not in self._watching:
                self._watching[entry.symbol] = entry.at_us // 1000
                self._begin_watch(conn, entry.symbol, entry.at_us // 1000)
            return 0
        symbol_id = self._symbol_id(conn, entry.symbol)
        if isinstance(entry, PullCompared):
            conn.execute("INSERT INTO pulls VALUES (?, ?, ?)", (symbol_id, entry.at_us // 1000, int(entry.agrees)))
            return 0
        since_ms = self._watching.pop(entry.symbol, None)
        if since_ms is not None:
            until_ms = max(since_ms, (entry.known_us or entry.at_us) // 1000)
            conn.execute(_END_WATCH, (until_ms, entry.reason, self._session_id, symbol_id))
        if since_ms is not None or entry.merged:
            rows.append(self._encoder.break_row(symbol_id, entry.at_us, entry.merged))
        return entry.merged

    def _begin_watch(self, conn: sqlite3.Connection, symbol: str, from_ms: int) -> None:
        sql = "INSERT INTO watches (session_id, symbol_id, from_ms) VALUES (?, ?, ?)"
        conn.execute(sql, (self._session_id, self._symbol_id(conn, symbol), from_ms))

    def _note_refusal(self, conn: sqlite3.Connection, symbol: str, at_ms: int, reason: str) -> None:
        """A watch of no length: what is blind from there on has its reason. One that ended in this session said why."""
        key = self._symbol_id(conn, symbol)
        is_there = "SELECT 1 FROM watches WHERE session_id = ? AND symbol_id = ?"
        if conn.execute(is_there, (self._session_id, key)).fetchone() is None:
            sql = "INSERT INTO watches (session_id, symbol_id, from_ms, until_ms, reason) VALUES (?, ?, ?, ?, ?)"
            conn.execute(sql, (self._session_id, key, at_ms, at_ms, reason[:MAX_REASON_CHARS]))

    def _end_watches(self, conn: sqlite3.Connection, session_id: int, at_ms: int, reason: str) -> None:
        """Every open watch of a session ends, and the book of each symbol is not known from there on."""
        sql = "SELECT symbol_id FROM watches WHERE session_id = ? AND until_ms IS NULL"
        for (symbol_id,) in conn.execute(sql, (session_id,)).fetchall():
            conn.execute(_INSERT_PUSH, self._encoder.break_row(symbol_id, at_ms * 1000))
        conn.execute(
            "UPDATE watches SET until_ms = ?, reason = ? WHERE session_id = ? AND until_ms IS NULL",
            (at_ms, reason, session_id),
        )

    def _count(
        self, conn: sqlite3.Connection, now_ms: int, received: int, stored: int, merged: int, unread: int
    ) -> None:
        added = _Counters(received, stored, merged, unread, 1)
        conn.execute(_COUNT, (now_ms, *added, self._session_id))
        self._counters = _Counters(*(known + more for known, more in zip(self._counters, added, strict=True)))

    def _symbol_id(self, conn: sqlite3.Connection, symbol: str) -> int:
        known = self._symbol_ids.get(symbol)
        if known is None:
            known = int(conn.execute("INSERT INTO symbols (symbol) VALUES (?)", (symbol,)).lastrowid or 0)
            self._symbol_ids[symbol] = known
        return known

    def _note_names(self, conn: sqlite3.Connection, push: BrokerPush) -> None:
        new = [named for named in push.names if named[0] not in self._named]
        if new:
            conn.executemany("INSERT OR IGNORE INTO brokers (broker_id, name) VALUES (?, ?)", new)
            self._named.update(broker_id for broker_id, _ in new)

    def _end_day(self) -> None:
        """The day's file is whole; what is watched goes on in the next one."""
        now_ms = self._now_ms()
        try:
            self._end_session(DAY_OVER)
        except StoreError as exc:  # what was committed is safe, and the next opening ends the session
            log.warning(event("book_file_close_failed", path=self._path, error=exc))
        self._watching = dict.fromkeys(self._watching, now_ms)

    def _end_session(self, reason: str) -> None:
        conn, path = self._conn, self._path
        if conn is None or path is None:
            return
        now_ms = self._now_ms()
        try:
            if not self._is_at_path():
                self._leave_replaced()
                conn = self._open(path)
            conn.execute("BEGIN IMMEDIATE")
            self._end_watches(conn, self._session_id, now_ms, reason)
            conn.execute("UPDATE sessions SET ended = 1, alive_ms = ? WHERE session_id = ?", (now_ms, self._session_id))
            self._check_turn()
            conn.execute("COMMIT")
            conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        except Exception as exc:
            error = as_store_error(exc, path)
            raise error from exc
        finally:
            self._session_days.pop(self._day, None)
            self._drop()

    def _check_turn(self) -> None:
        """Before each COMMIT: is this writer still the one?"""
        if self._is_abandoned:
            raise StoreUnavailable(f"{self._path}: another writer goes on with it")

    def _drop(self) -> None:
        """Leave the file; what it holds of the last rows is not known."""
        conn, self._conn, self._inode = self._conn, None, None
        self._named.clear()
        if conn is not None:
            with contextlib.suppress(sqlite3.Error):
                if conn.in_transaction:
                    conn.execute("ROLLBACK")
            with contextlib.suppress(sqlite3.Error):
                conn.close()

    def _leave_replaced(self) -> None:
        """The open file was moved, removed or exchanged; what it holds is kept. StoreUnavailable, and it is left."""
        conn, path = self._conn, self._path
        is_back = False
        try:
            if conn is not None and path is not None:
                is_back = self._taken.keep(path, conn) == path
        finally:
            self._conn = None  # it is theirs
            if not is_back:
                self._begin_anew()
            self._drop()

    def _begin_anew(self) -> None:
        """What the day's file comes to hold at this path is without our rows so far: its sessions are not ours, and of
        what is watched it tells from now on."""
        self._session_days.pop(self._day, None)
        self._watching = dict.fromkeys(self._watching, self._now_ms())

    def _is_at_path(self) -> bool:
        return self._path is not None and rescue.inode_of(self._path) == self._inode


def _insert(conn: sqlite3.Connection, rows: Sequence[StoredRow]) -> None:
    for at in range(0, len(rows), ROWS_A_STATEMENT):
        part = rows[at : at + ROWS_A_STATEMENT]
        more_rows = ", (?, ?, ?, ?, ?, ?, ?)" * (len(part) - 1)
        conn.execute(f"{_INSERT_PUSH}{more_rows}", [*chain.from_iterable(part)])

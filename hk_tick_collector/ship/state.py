"""What the shipper knows of its sink, in one SQLite file in a directory of its own: ``SHIP_DIR/ship.db``.

For each day how far it was sent, and as what it was verified; the one shipment that is on its way (``Intent``); which
sink all that is about. Every change is on the disk when its call returns. Nothing here is needed for correctness: when
it is lost, days are compared with the sink by their content hash, and sent again where they differ.

Threads share it; a lock makes each call whole. Other processes read it (``verified_days``).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.store.layout import FILE_MODE, make_dir
from hk_tick_collector.store.position import Place, Position

_T = TypeVar("_T")
FILE = "ship.db"
LOCK = "ship.lock"
_BUSY_SEC = 10.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS days (
  day TEXT NOT NULL PRIMARY KEY,
  place TEXT,                -- how far its file was sent, as the text of a position; NULL: it was not sent in parts
  notes TEXT,                -- digest of the notes that were sent
  mark TEXT,                 -- what its files looked like when it was verified
  verified_ms INTEGER,       -- when; NULL: it is not, or rows were sent since
  rows INTEGER, symbols INTEGER, content_hash TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS intent (
  only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
  day TEXT NOT NULL, place TEXT NOT NULL, last_rowid INTEGER NOT NULL, rows INTEGER NOT NULL, batch INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS note_rows (
  name TEXT NOT NULL, day TEXT NOT NULL,  -- the table there
  rows INTEGER NOT NULL,     -- how many of them were sent last
  PRIMARY KEY (name, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS about (key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# Of order books, and the same of broker queues.
_OF_STATES = """
CREATE TABLE IF NOT EXISTS {word}s (
  day TEXT NOT NULL PRIMARY KEY, mark TEXT NOT NULL, verified_ms INTEGER NOT NULL, rows INTEGER NOT NULL,
  symbols INTEGER NOT NULL, content_hash TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {word}_places (day TEXT NOT NULL PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS {word}_intent (
  only_one INTEGER PRIMARY KEY CHECK (only_one = 1), place TEXT NOT NULL, last_rowid INTEGER NOT NULL,
  rows INTEGER NOT NULL
);
"""
_STATES = ("book", "broker", "snapshot")
Compared = Literal["days", "books", "brokers", "snapshots"]  # tables of what was verified


class StateLost(RecorderError):
    """The shipper's own directory cannot be used. The text says what to do."""


class Intent(NamedTuple):
    """Rows that are on their way: those behind ``place`` up to ``last_rowid``, ``rows`` of them, numbered ``batch``."""

    place: Place
    last_rowid: int
    rows: int
    batch: int


class Verified(NamedTuple):
    """A day whose copy was found equal."""

    day: str
    verified_ms: int  # UTC epoch milliseconds
    rows: int
    symbols: int
    content_hash: str


class State:
    """The open file. Raises StateLost for whatever the disk refuses."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path = directory / FILE
        self._lock = threading.Lock()
        self._holder = -1
        try:
            make_dir(directory)
            self._holder = _held(directory / LOCK)
            self._conn = _opened(self._path)
        except (OSError, sqlite3.Error) as exc:
            self._let_go()
            cure = _cure(exc) or "SHIP_DIR has to be a directory in which who ships may write"
            raise StateLost(f"{self._path} cannot be used ({exc}): {cure}") from exc

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._conn.close()
            self._let_go()

    def _let_go(self) -> None:
        holder, self._holder = self._holder, -1
        if holder >= 0:
            os.close(holder)

    def begin(self, sink: str, recorder: str) -> bool:
        """Is all that is known about this sink? False when it was about another one, or there was none: then it was
        dropped."""
        told = {"sink": sink, "recorder": recorder}

        def change(conn: sqlite3.Connection) -> bool:
            known = dict(conn.execute("SELECT key, value FROM about WHERE key IN ('sink', 'recorder')"))
            if known == told:
                return True
            conn.execute("DELETE FROM days")
            of_states = (f"{word}{more}" for word in _STATES for more in ("s", "_places", "_intent"))
            for table in ("intent", "note_rows", *of_states):
                conn.execute(f"DELETE FROM {table}")  # noqa: S608 - names of ours
            conn.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", told.items())
            return False

        return self.change(change)

    def places(self) -> dict[str, Place]:
        """How far each day was sent, of those that are sent in parts."""
        rows = self.change(lambda conn: conn.execute("SELECT day, place FROM days WHERE place IS NOT NULL").fetchall())
        return {day: _place(text) for day, text in rows}

    def intent(self) -> Intent | None:
        """The shipment on its way."""
        sql = "SELECT place, last_rowid, rows, batch FROM intent"
        row = self.change(lambda conn: conn.execute(sql).fetchone())
        return None if row is None else Intent(_place(row[0]), *row[1:])

    def intend(self, place: Place, last_rowid: int, rows: int, now_us: int) -> Intent:
        """Note a shipment before it is sent. Its number is greater than that of all before it."""

        def change(conn: sqlite3.Connection) -> int:
            (last,) = conn.execute("SELECT MAX(CAST(value AS INTEGER)) FROM about WHERE key = 'batch'").fetchone()
            batch = max(now_us, (last or 0) + 1)
            conn.execute("INSERT OR REPLACE INTO about VALUES ('batch', ?)", (str(batch),))
            values = (place.day, _text(place), last_rowid, rows, batch)
            conn.execute("INSERT OR REPLACE INTO intent VALUES (1, ?, ?, ?, ?, ?)", values)
            return batch

        return Intent(place, last_rowid, rows, self.change(change))

    def arrived(self, place: Place) -> None:
        """The shipment has arrived, and the day was sent up to ``place``. It is no longer verified."""

        def change(conn: sqlite3.Connection) -> None:
            conn.execute("DELETE FROM intent")
            _sent(conn, place)

        self.change(change)

    def drop_intent(self) -> None:
        """The rows of the shipment are not there any more."""
        self.change(lambda conn: conn.execute("DELETE FROM intent"))

    def begin_again(self, place: Place) -> None:
        """The file of a day is another one: it is sent from its start."""
        self.arrived(place)

    def leave(self, day: str) -> None:
        """A day is no longer sent in parts: its file is gone."""
        self.change(lambda conn: conn.execute("UPDATE days SET place = NULL WHERE day = ?", (day,)))

    def verified(self, verified: Verified, mark: str, place: Place | None, sent: Place | None) -> bool:
        """A day's copy was found equal, as its files looked then. ``place``: behind what was compared. False, and
        nothing is noted, when it was sent up to another place than ``sent`` meanwhile: rows came that were not
        compared."""
        told = (None if place is None else _text(place), mark, *verified[1:], verified.day)

        def change(conn: sqlite3.Connection) -> bool:
            row = conn.execute("SELECT place FROM days WHERE day = ?", (verified.day,)).fetchone()
            if (None if row is None or row[0] is None else _place(row[0])) != sent:
                return False
            conn.execute("INSERT OR IGNORE INTO days (day) VALUES (?)", (verified.day,))
            conn.execute(
                "UPDATE days SET place = ?, mark = ?, verified_ms = ?, rows = ?, symbols = ?, content_hash = ? "
                "WHERE day = ?",
                told,
            )
            return True

        return self.change(change)

    def unproven(self, day: str) -> None:
        """The copy of a day is being brought anew: until it is verified again, nothing is known of it."""
        self.change(lambda conn: conn.execute("UPDATE days SET verified_ms = NULL WHERE day = ?", (day,)))

    def mark(self, day: str) -> str | None:
        """What a day's files looked like when it was verified; None when it is not."""
        sql = "SELECT mark FROM days WHERE day = ? AND verified_ms IS NOT NULL"
        row = self.change(lambda conn: conn.execute(sql, (day,)).fetchone())
        return None if row is None else row[0]

    def notes(self, day: str) -> str | None:
        """The digest of the notes that were sent."""
        row = self.change(lambda conn: conn.execute("SELECT notes FROM days WHERE day = ?", (day,)).fetchone())
        return None if row is None else row[0]

    def noted(self, day: str, digest: str, rows: Mapping[str, int]) -> None:
        """The notes with this digest have arrived: so many ``rows`` of each table."""

        def change(conn: sqlite3.Connection) -> None:
            conn.execute("INSERT OR IGNORE INTO days (day) VALUES (?)", (day,))
            conn.execute("UPDATE days SET notes = ? WHERE day = ?", (digest, day))
            _counted(conn, day, rows)

        self.change(change)

    def note_rows(self) -> dict[tuple[str, str], int]:
        """How many notes were sent last, by table and day."""
        rows = self.change(lambda conn: conn.execute("SELECT name, day, rows FROM note_rows").fetchall())
        return {(name, day): count for name, day, count in rows}

    def sent(self, kind: str) -> Sent:
        """What is known of ``books``, or of ``brokers``."""
        return Sent(self, kind)

    def verified_days(self) -> list[Verified]:
        """By day."""
        return self.change(_verified)

    def change(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``work`` gives, in a transaction of its own."""
        with self._lock:
            try:
                with self._conn:
                    self._conn.execute("BEGIN IMMEDIATE")
                    return work(self._conn)
            except sqlite3.Error as exc:
                cure = _cure(exc) or "check the disk of SHIP_DIR"
                raise StateLost(f"{self._path} cannot be written ({exc}): {cure}") from exc


class Sent:
    """The same of the order books, or of the broker queues: how far each day was sent, and as what it was verified."""

    def __init__(self, state: State, kind: str) -> None:
        self._state = state
        self.kind, self._days, word = kind, kind, kind.removesuffix("s")
        self._places, self._intent = f"{word}_places", f"{word}_intent"

    def mark(self, day: str) -> str | None:
        """What a day's files looked like when their copy was verified; None when it was not."""
        sql = f"SELECT mark FROM {self._days} WHERE day = ?"  # noqa: S608 - names of ours
        row = self._state.change(lambda conn: conn.execute(sql, (day,)).fetchone())
        return None if row is None else row[0]

    def verified(self, verified: Verified, mark: str, place: Place | None, notes: Mapping[str, int]) -> None:
        """The copy of a day was found equal, as its files looked then; ``place``: behind what was compared, None when
        its file is gone; ``notes``: how many rows of notes went with it, by table."""

        def change(conn: sqlite3.Connection) -> None:
            sql = f"INSERT OR REPLACE INTO {self._days} VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - as above
            conn.execute(sql, (verified.day, mark, *verified[1:]))
            self._sent(conn, verified.day, place)
            _counted(conn, verified.day, notes)

        self._state.change(change)

    def unproven(self, day: str) -> None:
        """The copy of a day is being brought anew: until it is verified again, nothing is known of it."""
        self._state.change(lambda conn: conn.execute(f"DELETE FROM {self._days} WHERE day = ?", (day,)))  # noqa: S608

    def places(self) -> dict[str, Place]:
        """How far each day was sent, of those that are sent in parts."""
        sql = f"SELECT day, place FROM {self._places}"  # noqa: S608 - as above
        rows = self._state.change(lambda conn: conn.execute(sql).fetchall())
        return {day: _place(text) for day, text in rows}

    def intent(self) -> Intent | None:
        """The shipment on its way."""
        sql = f"SELECT place, last_rowid, rows FROM {self._intent}"  # noqa: S608 - as above
        row = self._state.change(lambda conn: conn.execute(sql).fetchone())
        return None if row is None else Intent(_place(row[0]), row[1], row[2], 0)

    def intend(self, place: Place, last_rowid: int, rows: int) -> None:
        """Note a shipment before it is sent."""
        sql = f"INSERT OR REPLACE INTO {self._intent} VALUES (1, ?, ?, ?)"  # noqa: S608 - as above
        self._state.change(lambda conn: conn.execute(sql, (_text(place), last_rowid, rows)))

    def arrived(self, day: str, place: Place | None) -> None:
        """A day was sent up to ``place``; None: it is to be sent from its start, after what is there was dropped. No
        shipment of that day is on its way."""
        self._state.change(lambda conn: self._sent(conn, day, place))

    def _sent(self, conn: sqlite3.Connection, day: str, place: Place | None) -> None:
        on_its_way = conn.execute(f"SELECT place FROM {self._intent}").fetchall()  # noqa: S608 - as above
        if any(_place(text).day == day for (text,) in on_its_way):
            conn.execute(f"DELETE FROM {self._intent}")  # noqa: S608 - as above
        if place is None:
            conn.execute(f"DELETE FROM {self._places} WHERE day = ?", (day,))  # noqa: S608 - as above
        else:
            conn.execute(f"INSERT OR REPLACE INTO {self._places} VALUES (?, ?)", (day, _text(place)))  # noqa: S608


def verified_days(directory: Path) -> list[Verified]:
    """What a shipper has verified, for who only reads; empty without one, or when this user may not look."""
    uri = f"{(directory / FILE).absolute().as_uri()}?mode=ro"
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=1)) as conn:
        return _verified(conn)
    return []


def marked_days(directory: Path, table: Compared = "days") -> dict[str, tuple[Verified, str]]:
    """The same by day, each with what its files looked like then; ``books``, ``brokers``: of days of these."""
    uri = f"{(directory / FILE).absolute().as_uri()}?mode=ro"
    with contextlib.suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True, timeout=1)) as conn:
        sql = f"SELECT day, mark FROM {table} WHERE verified_ms IS NOT NULL"  # noqa: S608 - names of ours
        marks = dict(conn.execute(sql))
        return {
            day_state.day: (day_state, marks[day_state.day])
            for day_state in _verified(conn, table)
            if day_state.day in marks
        }
    return {}


def _verified(conn: sqlite3.Connection, table: Compared = "days") -> list[Verified]:
    columns = "day, verified_ms, rows, symbols, content_hash"
    sql = f"SELECT {columns} FROM {table} WHERE verified_ms IS NOT NULL ORDER BY day"  # noqa: S608 - as above
    return [Verified(*row) for row in conn.execute(sql)]


def _counted(conn: sqlite3.Connection, day: str, rows: Mapping[str, int]) -> None:
    values = [(name, day, count) for name, count in rows.items()]
    conn.executemany("INSERT OR REPLACE INTO note_rows VALUES (?, ?, ?)", values)


def _sent(conn: sqlite3.Connection, place: Place) -> None:
    sql = (
        "INSERT INTO days (day, place) VALUES (?, ?) "
        "ON CONFLICT (day) DO UPDATE SET place = excluded.place, verified_ms = NULL"
    )
    conn.execute(sql, (place.day, _text(place)))


def _text(place: Place) -> str:
    return str(Position("", (place,)))


def _place(text: str) -> Place:
    return Position.parse(text).places[0]


def _cure(exc: Exception) -> str:
    """What to do about a file that holds something else than SQLite wrote; nothing where that is not what is wrong."""
    is_damaged = isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError)
    return "it is damaged: remove it, and days are compared anew" if is_damaged else ""


def _held(path: Path) -> int:
    import fcntl  # noqa: PLC0415 - who only reads does without

    holder = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(holder)
        raise StateLost(f"{path} is held: hk-tick-ship, or another command, is at work with this SHIP_DIR") from None
    return holder


def _opened(path: Path) -> sqlite3.Connection:
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE))
    conn = sqlite3.connect(path, timeout=_BUSY_SEC, isolation_level=None, check_same_thread=False)
    try:
        conn.execute("PRAGMA synchronous = FULL")
        conn.executescript(_SCHEMA + "".join(_OF_STATES.format(word=word) for word in _STATES))
    except sqlite3.Error:
        conn.close()
        raise
    return conn

"""Signals that hooks received: one append-only file, ``signals.db``, in a directory of the API's own.

One process writes (the API), others read by number. Rows are few and each is synced before it counts, so the file has
SQLite's rollback journal: who may only read needs no right to a companion file. A number is given once and never again.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hk_tick_collector.core.errors import InputError, StoreUnavailable
from hk_tick_collector.store.connect import as_store_error
from hk_tick_collector.store.layout import FILE_MODE, make_dir
from hk_tick_collector.store.position import text_check

SIGNALS_FILE = "signals.db"
NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"  # of a hook
REMEMBERED_MS = 24 * 3600 * 1000  # how long an idempotency key means the same signal
LIMIT_ROWS = 1000
NEWEST_ROWS = 100_000  # in which a hook is looked for
_BUSY_SEC = 2.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS signals (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  recv_ts_ms INTEGER NOT NULL,
  cursor TEXT,
  symbol TEXT NOT NULL,
  sender TEXT NOT NULL,
  idempotency_key TEXT,
  payload TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS signals_by_key ON signals (name, sender, idempotency_key);
CREATE TABLE IF NOT EXISTS signatures (
  signature TEXT PRIMARY KEY,
  number INTEGER NOT NULL,
  recv_ts_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS signatures_by_time ON signatures (recv_ts_ms);
"""
_PART = re.compile(r"s(0|[1-9][0-9]{0,17})(?:\.([0-9a-f]{8}))?", re.ASCII)
_COLUMNS = "number, name, recv_ts_ms, cursor, symbol, payload"


class Signal(NamedTuple):
    """One signal. ``cursor``: behind which tick the live channel stood when it came; None when nothing could be read
    then."""

    number: int  # from 1, in the order in which they were stored
    name: str  # of the hook
    recv_ts_ms: int
    cursor: str | None
    symbol: str  # as HK.00700, or as it was sent when no served market knows it
    payload: dict[str, Any]  # what was sent

    def as_json(self) -> dict[str, Any]:
        """As the live channel, Redis and the API give it."""
        return self._asdict()


def with_number(cursor: str, number: int) -> str:
    """A cursor with the number of the last signal."""
    text = f"{cursor},s{number}"
    return f"{text}.{text_check(text)}"


def parted(cursor: str) -> tuple[str, int | None]:
    """A cursor without its number, and the number; None when it has none. ValueError when it was changed on the way."""
    rest, comma, last = cursor.rpartition(",")
    match = _PART.fullmatch(last) if comma else None
    if not match:
        return cursor, None
    number = int(match[1])
    if match[2] and cursor != with_number(rest, number):
        raise ValueError("it is not as it was given out")
    return rest, number


class SameKeyOtherSignal(InputError):
    """The idempotency key was used for another signal."""


def hooks_dir_of(environ: Mapping[str, str]) -> Path | None:
    """Where signals are when HOOKS_DIR does not say: in the state directory that systemd gives a unit."""
    state = environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(state) / "hooks" if state else None


def signals_file(hooks_dir: Path) -> Path:
    """Where the signals of a directory are."""
    return hooks_dir / SIGNALS_FILE


@contextmanager
def _own_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as exc:
        raise as_store_error(exc, path) from exc


class SignalStore:
    """The writer. For one thread at a time."""

    def __init__(self, hooks_dir: Path) -> None:
        self.path = signals_file(hooks_dir)
        with _own_errors(self.path):
            make_dir(hooks_dir)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, FILE_MODE))
            if not stat.S_ISREG(self.path.stat().st_mode):
                raise StoreUnavailable(f"{self.path} is not a regular file: remove it")
            self._conn = sqlite3.connect(self.path, timeout=_BUSY_SEC, check_same_thread=False)
            self._conn.execute("PRAGMA synchronous = FULL")
            self._conn.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._conn.close()

    def add(
        self,
        name: str,
        symbol: str,
        payload: dict[str, Any],
        *,
        recv_ts_ms: int,
        cursor: str | None,
        sender: str,
        idempotency_key: str | None = None,
        signature: str | None = None,
    ) -> tuple[Signal, bool]:
        """The signal as it is stored, synced; and whether it is new, or the one that this key of this sender named
        within a day, or that came with this signature: who caught a signed message cannot store it again under another
        key. SameKeyOtherSignal, or a StoreError, when nothing was stored."""
        text = json.dumps(payload, ensure_ascii=False, allow_nan=False, sort_keys=True)
        with _own_errors(self.path), self._conn:
            self._conn.execute("BEGIN IMMEDIATE")
            since_ms = recv_ts_ms - REMEMBERED_MS
            replayed = self._signed(signature)
            if replayed is not None:
                return replayed, False
            known = self._known(name, sender, idempotency_key, since_ms)
            if known is not None:
                if known.payload != payload:
                    raise SameKeyOtherSignal
                return known, False
            number = self._conn.execute(
                "INSERT INTO signals (name, recv_ts_ms, cursor, symbol, sender, idempotency_key, payload)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name, recv_ts_ms, cursor, symbol, sender, idempotency_key, text),
            ).lastrowid
            assert number is not None
            self._note_signature(signature, number, recv_ts_ms, since_ms)
        return Signal(number, name, recv_ts_ms, cursor, symbol, payload), True

    def _signed(self, signature: str | None) -> Signal | None:
        row = self._conn.execute(
            f"SELECT {_COLUMNS} FROM signals WHERE number = (SELECT number FROM signatures WHERE signature = ?)",  # noqa: S608
            (signature,),
        ).fetchone()
        return None if row is None else _signal(row)

    def _note_signature(self, signature: str | None, number: int, recv_ts_ms: int, since_ms: int) -> None:
        if signature is None:
            return
        self._conn.execute("DELETE FROM signatures WHERE recv_ts_ms < ?", (since_ms,))
        self._conn.execute("INSERT INTO signatures VALUES (?, ?, ?)", (signature, number, recv_ts_ms))

    def _known(self, name: str, sender: str, key: str | None, since_ms: int) -> Signal | None:
        if key is None:
            return None
        row = self._conn.execute(
            f"SELECT {_COLUMNS} FROM signals WHERE name = ? AND sender = ? AND idempotency_key = ? AND recv_ts_ms >= ?"  # noqa: S608
            " ORDER BY number DESC LIMIT 1",
            (name, sender, key, since_ms),
        ).fetchone()
        return None if row is None else _signal(row)


def read_signals(hooks_dir: Path, after: int = 0, limit: int = LIMIT_ROWS, name: str | None = None) -> list[Signal]:
    """Signals with a greater number than ``after``, oldest first; of one hook, or of all. None yet: an empty list.

    Raises StoreBusy, StoreUnavailable or StoreCorrupt when the file cannot be read now.
    """
    where, values = ("AND name = ?", (after, name, limit)) if name is not None else ("", (after, limit))
    rows = _read(
        hooks_dir,
        f"SELECT {_COLUMNS} FROM signals WHERE number > ? {where} ORDER BY number LIMIT ?",  # noqa: S608 - our names
        values,
    )
    return [_signal(row) for row in rows]


def newest_signal(hooks_dir: Path) -> int:
    """The number of the newest signal; 0 when there is none. Errors as of ``read_signals``."""
    return _number(_read(hooks_dir, "SELECT MAX(number) FROM signals"))


def newest_of(hooks_dir: Path, name: str) -> int | None:
    """When the newest signal of a hook came (UTC epoch ms); None when none of the last NEWEST_ROWS is of it. Errors as
    of ``read_signals``."""
    sql = (
        "SELECT recv_ts_ms FROM signals WHERE name = ? AND number > (SELECT MAX(number) FROM signals) - ?"
        " ORDER BY number DESC LIMIT 1"
    )
    rows = _read(hooks_dir, sql, (name, NEWEST_ROWS))
    return int(rows[0][0]) if rows else None


def number_before(hooks_dir: Path, recv_ts_ms: int) -> int:
    """The number of the last signal that came before a moment (UTC epoch ms); 0 when none did. Errors as of
    ``read_signals``. It reads the whole file."""
    return _number(_read(hooks_dir, "SELECT MAX(number) FROM signals WHERE recv_ts_ms < ?", (recv_ts_ms,)))


def _number(rows: list[tuple[Any, ...]]) -> int:
    return int(rows[0][0] or 0) if rows else 0


def _read(hooks_dir: Path, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    path = signals_file(hooks_dir)
    if not path.exists():
        return []
    with (
        _own_errors(path),
        closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", timeout=_BUSY_SEC, uri=True)) as conn,
    ):
        if not conn.execute("SELECT 1 FROM sqlite_master WHERE name = 'signals'").fetchone():
            return []
        return conn.execute(sql, values).fetchall()


def _signal(row: tuple[Any, ...]) -> Signal:
    return Signal._make((*row[:-1], json.loads(row[-1])))

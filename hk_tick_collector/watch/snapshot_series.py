"""How a day of snapshots goes, series by series, for who looks again every second: only what was stored since the look
before is read.

::

    looks = SeriesLooks(data_root, US)
    looks.newest(now_ms)[0]       # SeriesState(Series("US.SPX", "classic", "gex_full"), held=1799, missed=1, ...)

Nothing is judged here: the source leaves seconds out, and what it left out its own file of the day tells
(``quality.snapshots``).
"""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path
from typing import Any, NamedTuple

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.store.layout import snapshot_days, snapshot_file
from hk_tick_collector.store.snapshot_file import reading


class SeriesState(NamedTuple):
    """Of one series. ``held``, ``missed``: seconds of trading so far of which a snapshot is stored, and those of which
    none is. ``last_ts_ms``: the newest second, UTC epoch ms; None when nothing is stored of it."""

    series: Series
    held: int
    missed: int
    last_ts_ms: int | None

    def as_json(self, now_ms: int) -> dict[str, Any]:
        """As ``/v1/snapshots/series`` has it. ``age_sec``: of the newest second."""
        age_sec = None if self.last_ts_ms is None else max(0, now_ms - self.last_ts_ms) // 1000
        named = {**self.series._asdict(), "held": self.held, "missed": self.missed}
        return {**named, "last_ts_ms": self.last_ts_ms, "age_sec": age_sec}


class SeriesLooks:
    """Of the newest day of one data root, on any thread. Errors as ``SideFile.reading`` has them."""

    def __init__(self, data_root: Path, calendar: TradingCalendar) -> None:
        self._data_root = data_root
        self._calendar = calendar
        self._lock = threading.Lock()  # whoever asks again may not have waited for the first answer
        self._file: tuple[str, int] | None = None  # the day, and the inode of its file
        self._windows: list[tuple[int, int]] = []  # of trading on that day, epoch seconds
        self._forget()

    def newest(self, now_ms: int) -> list[SeriesState]:
        """In the order of their names; none where no snapshot is recorded."""
        with self._lock:
            days = snapshot_days(self._data_root)
            return self._look(days[-1], now_ms // 1000) if days else []

    def _look(self, day: str, now_sec: int) -> list[SeriesState]:
        path = snapshot_file(self._data_root, day)
        with reading(path) as conn:
            file = day, path.stat().st_ino
            if file != self._file:
                self._file = file
                windows = self._calendar.market.continuous_windows(day, self._calendar.day_kind(day))
                self._windows = [(start // 1000, end // 1000) for start, end in windows]
                self._forget()
            self._read_on(conn)
            names = {int(key): Series(*words) for key, *words in conn.execute(_SERIES)}
        expected = sum(max(0, min(end, now_sec) - start) for start, end in self._windows)
        return sorted(self._state(series, key, expected) for key, series in names.items())

    def _forget(self) -> None:
        self._read_no = 0  # all up to this row were counted
        self._held: dict[int, int] = {}  # by the file's number of a series
        self._last: dict[int, int] = {}

    def _read_on(self, conn: sqlite3.Connection) -> None:
        conn.execute("BEGIN")  # both see the same rows
        newest_no = int(conn.execute("SELECT coalesce(max(rowid), 0) FROM snapshots").fetchone()[0])
        if newest_no < self._read_no:
            self._forget()
        # A whole day comes out of the index, which holds no bodies; what is new since, by its number.
        sql, given = (_NEW, (self._read_no,)) if self._read_no else (_ALL, ())
        traded = " OR ".join(f"ts_sec >= {start} AND ts_sec < {end}" for start, end in self._windows) or "0"
        counted = conn.execute(_COUNTED.format(traded=traded, seconds=sql), given).fetchall()
        conn.execute("COMMIT")
        for key, held, last_sec in counted:
            self._held[key] = self._held.get(key, 0) + held
            self._last[key] = max(self._last.get(key, 0), last_sec)
        self._read_no = newest_no

    def _state(self, series: Series, key: int, expected: int) -> SeriesState:
        held, last_sec = self._held.get(key, 0), self._last.get(key)
        return SeriesState(series, held, max(0, expected - held), None if last_sec is None else last_sec * 1000)


_SERIES = "SELECT series_id, symbol, package, category FROM series"
# Seconds that were not counted before: one may have several snapshots, which differ.
_COUNTED = "SELECT series_id, sum({traded}), max(ts_sec) FROM ({seconds}) GROUP BY series_id"
_ALL = "SELECT DISTINCT series_id, ts_sec FROM snapshots INDEXED BY one_picture"
_NEW = (
    "SELECT DISTINCT series_id, ts_sec FROM snapshots AS new WHERE rowid > ?1 AND NOT EXISTS "
    "(SELECT 1 FROM snapshots AS known INDEXED BY one_picture "
    "WHERE known.series_id = new.series_id AND known.ts_sec = new.ts_sec AND known.rowid <= ?1)"
)

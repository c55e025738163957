"""Reads files of snapshots: snapshots in the order of their seconds, and what the file says of each series.

Of one second there may be several snapshots that differ: as it was seen live, and as the source's own file of the day
has it. Where one is wanted it is the one that was seen first, live before the copy's: what a program could have known
then.
"""

from __future__ import annotations

import heapq
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.text import days_there
from hk_tick_collector.records.snapshot import LIVE, Series
from hk_tick_collector.store.layout import snapshot_archive
from hk_tick_collector.store.snapshot_file import inflate, reading, unpack_seconds

FETCH_ROWS = 200
MAX_BODY_BYTES = 8 * 1024 * 1024

_SECONDS = """SELECT ts_sec, rowid, origin FROM snapshots
WHERE series_id = ? AND ts_sec >= ? AND ts_sec < ? AND rowid <= ? ORDER BY ts_sec, rowid"""
_COPIES = (
    "SELECT fetched_ms, records, unread, first_sec, seconds, sha256 FROM copies WHERE series_id = ? ORDER BY rowid"
)
_COLUMNS = "rowid, series_id, ts_sec, recv_ts_ms, origin, spot, zero_gamma"


def why_absent(day: str, days: Sequence[str], archive_roots: Iterable[Path]) -> str:
    """Why a day that is not in ``days`` cannot be read, and what to do, in words."""
    if any(snapshot_archive(root, day).is_dir() for root in archive_roots):
        return f"those of {day} are archived: hk-tickctl restore {day} --kind snapshot brings them back"
    return f"none are recorded of {day}; {days_there(days)}"


class StoredSnapshot(NamedTuple):
    """A stored snapshot."""

    snapshot_no: int  # its place in the file
    series: Series
    ts_sec: int
    recv_ts_ms: int
    origin: str
    spot: float | None
    zero_gamma: float | None
    body: str | None  # None where it was not asked for


class Span(NamedTuple):
    """Which seconds: epoch, from and until; the last one is not in it."""

    from_sec: int = 0
    until_sec: int = 2**62
    until_no: int = 2**62  # what was stored behind this snapshot_no is left out
    after: tuple[int, int] = (0, 0)  # a place: only what comes behind this (second, snapshot_no)


WHOLE = Span()


class Copy(NamedTuple):
    """The source's own file of a series' day, as it was read."""

    fetched_ms: int
    records: int
    unread: int  # of these: could be no snapshot
    seconds: set[int]
    sha256: str


class SeriesFacts(NamedTuple):
    """What a file holds of a series. ``seconds`` are those with a snapshot."""

    series: Series
    rows: int
    seconds: set[int]
    live_seconds: set[int]
    several: int  # seconds of which snapshots differ
    copies: list[Copy]


def series_there(path: Path) -> dict[Series, int]:
    """The series of a file, in order, by their number in it. As ``snapshot_file.reading`` raises."""
    with reading(path) as conn:
        return _series_of(conn)


def stored_snapshots(
    path: Path, series: Sequence[Series], span: Span = WHOLE, *, every: bool = False, bodies: bool = True
) -> Iterator[StoredSnapshot]:
    """Snapshots of these series by second, and within one as they were stored; one a second, or ``every`` one. As
    ``snapshot_file.reading`` raises, and StoreCorrupt for a body that cannot be unpacked."""
    with reading(path) as conn:
        known = _series_of(conn)
        names = {known[series_key]: series_key for series_key in series if series_key in known}
        places = _places(conn, list(names), span, every=every)
        while chunk := list(islice(places, FETCH_ROWS)):
            yield from _fetch(conn, chunk, names, path, bodies=bodies)


def newest(path: Path, series: Series) -> StoredSnapshot | None:
    """The newest snapshot of one."""
    with reading(path) as conn:
        number = _series_of(conn).get(series)
        sql = "SELECT max(ts_sec) FROM snapshots WHERE series_id = ?"
        second = None if number is None else conn.execute(sql, (number,)).fetchone()[0]
    if second is None:
        return None
    return next(stored_snapshots(path, [series], Span(second, second + 1)), None)


class Freshness(NamedTuple):
    """What a file holds, at a glance."""

    rows: int
    newest_ts_ms: int | None
    series: int


def freshness(path: Path) -> Freshness:
    """Costs the same however much is stored: rows are only appended, and the newest of a series is the index's end."""
    with reading(path) as conn:
        rows = conn.execute("SELECT coalesce(max(rowid), 0) FROM snapshots").fetchone()[0]
        numbers = _series_of(conn).values()
        sql = "SELECT max(ts_sec) FROM snapshots WHERE series_id = ?"
        newest = [second for number in numbers if (second := conn.execute(sql, (number,)).fetchone()[0]) is not None]
    return Freshness(rows, max(newest) * 1000 if newest else None, len(numbers))


def facts(path: Path) -> Iterator[SeriesFacts]:
    """What the file holds, series by series."""
    with reading(path) as conn:
        for series, number in _series_of(conn).items():
            rows, several = 0, 0
            seconds: set[int] = set()
            live: set[int] = set()
            for second, _, origin in conn.execute(_SECONDS, (number, *WHOLE[:3])):
                rows += 1
                several += second in seconds
                seconds.add(second)
                if origin == LIVE:
                    live.add(second)
            copies = [
                Copy(fetched_ms, records, unread, unpack_seconds(first, packed), sha256)
                for fetched_ms, records, unread, first, packed, sha256 in conn.execute(_COPIES, (number,))
            ]
            yield SeriesFacts(series, rows, seconds, live, several, copies)


def _series_of(conn: sqlite3.Connection) -> dict[Series, int]:
    sql = "SELECT series_id, symbol, package, category FROM series ORDER BY symbol, package, category"
    return {Series(*words): int(number) for number, *words in conn.execute(sql)}


def _places(conn: sqlite3.Connection, numbers: Sequence[int], span: Span, *, every: bool) -> Iterator[int]:
    """Row numbers in order of second, then of storing."""
    wanted = span._replace(from_sec=max(span.from_sec, span.after[0]))
    series_places = [_of_series(conn, number, wanted, every=every) for number in numbers]
    return (rowid for second, rowid in heapq.merge(*series_places) if (second, rowid) > span.after)


def _of_series(conn: sqlite3.Connection, number: int, span: Span, *, every: bool) -> Iterator[tuple[int, int]]:
    rows = conn.execute(_SECONDS, (number, *span[:3]))
    if every:
        for second, rowid, _ in rows:
            yield second, rowid
        return
    for second, told in groupby(rows, key=lambda row: row[0]):
        chosen = min(told, key=lambda row: (row[2] != LIVE, row[1]))
        yield second, chosen[1]


def _fetch(
    conn: sqlite3.Connection, rowids: Sequence[int], names: dict[int, Series], path: Path, *, bodies: bool
) -> Iterator[StoredSnapshot]:
    body, marks = "body" if bodies else "NULL", ",".join("?" * len(rowids))
    sql = f"SELECT {_COLUMNS}, {body} FROM snapshots WHERE rowid IN ({marks})"  # noqa: S608 - our own words
    row_of = {row[0]: row for row in conn.execute(sql, rowids)}
    for rowid in rowids:
        _, number, second, recv_ts_ms, origin, spot, zero_gamma, body = row_of[rowid]
        text = None if body is None else unpacked(body, path)
        yield StoredSnapshot(rowid, names[number], second, recv_ts_ms, origin, spot, zero_gamma, text)


def unpacked(body: bytes, path: Path) -> str:
    """A stored body as it came. StoreCorrupt."""
    try:
        return inflate(body, MAX_BODY_BYTES).decode()
    except (zlib.error, UnicodeDecodeError) as exc:
        raise StoreCorrupt(f"{path}: a body cannot be unpacked: {exc}") from exc


def stored_rows(
    path: Path, after_no: int, until_no: int | None, at_once: int, symbols: Sequence[str] | None = None
) -> Iterator[list[tuple[Any, ...]]]:
    """All rows between two numbers, as they are stored: symbol, package, category, UTC ms of the second and of the
    receipt, origin, spot, zero gamma, number, digest, and the body as it came (UTF-8); of ``symbols``. A statement is
    made for each list, so that nothing holds up the writer's checkpoints."""
    sql = (
        "SELECT symbol, package, category, ts_sec * 1000, recv_ts_ms, origin, spot, zero_gamma, n.rowid, digest, body "
        "FROM snapshots n JOIN series s USING (series_id) WHERE n.rowid > ? AND n.rowid <= ? ORDER BY n.rowid LIMIT ?"
    )
    with reading(path) as conn:
        last = conn.execute("SELECT max(rowid) FROM snapshots").fetchone()[0] or 0
        last = last if until_no is None else min(last, until_no)
        while rows := conn.execute(sql, (after_no, last, at_once)).fetchall():
            after_no = rows[-1][8]
            mine = [row for row in rows if symbols is None or row[0] in symbols]
            yield [(*row[:-1], unpacked(row[-1], path).encode()) for row in mine]


def newest_no(path: Path) -> int:
    """How far a file is written."""
    with reading(path) as conn:
        return int(conn.execute("SELECT max(rowid) FROM snapshots").fetchone()[0] or 0)

"""The end-of-day job: for every trading day that is over and not yet reported, what its file says of itself.

Reads ``coverage`` and ``gaps`` (O(symbols), whatever the file's size) and writes ``DATA_ROOT/_reports/YYYYMMDD.json``.
Which days are over comes from the trading calendar, not from the hour at which the job happens to run: a job that runs
late, or not at all for a week, does every day that is due, oldest first. A day whose file changed after its report
(late ticks, salvage, repair) is due again. One job at a time: a lock file holds the others off.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import RecorderError, StoreError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.sessions import CAS_END_AFTER_MS, DayKind, close_ms, recording_window
from hk_tick_collector.store import layout, reader

REPORTS_DIR = "_reports"
LOCK_FILE = ".end-of-day.lock"
REASONS_SHOWN = 20


class AlreadyRunning(RecorderError):
    """Another end-of-day job works on this data root."""


@dataclass(frozen=True, slots=True)
class DayReport:
    """What a day file says of its own completeness. Counts are of ticks unless named otherwise."""

    trading_day: str
    made_at_ms: int  # UTC epoch ms
    version: str  # of the program that made the report
    day_kind: str  # whole | half | closed, by the calendar
    stored_ticks: int
    missing_ticks: int
    proven_symbols: int
    missing_symbols: int
    unproven_symbols: int
    end_confirmed_symbols: int  # OpenD was asked after the closing auction, and had nothing newer
    reasons: dict[str, int]  # why symbols are not proven, and how many
    open_gaps: list[dict[str, object]]
    error: str | None = None  # the file could not be read; the counts are then 0

    @property
    def fine(self) -> bool:
        """Nothing is known to be missing and the file could be read."""
        return self.error is None and not self.missing_symbols

    def sentence(self) -> str:
        """One line for a log."""
        if self.error is not None:
            return f"{self.trading_day}: not readable: {self.error}"
        symbols = self.proven_symbols + self.missing_symbols + self.unproven_symbols
        return (
            f"{self.trading_day}: {self.stored_ticks} ticks of {symbols} symbols; proven {self.proven_symbols}, "
            f"missing {self.missing_symbols} ({self.missing_ticks} ticks), unproven {self.unproven_symbols}"
        )


def due_days(data_root: Path, calendar: TradingCalendar, now_ms: int) -> list[str]:
    """Days with a file, over at ``now_ms`` (UTC epoch ms), without a report or changed since; oldest first."""
    due = []
    for path in sorted(data_root.glob("????????.db")):
        day = layout.parse_day(path)
        if day is not None and _is_over(day, calendar, now_ms) and _is_stale(path, report_file(data_root, day)):
            due.append(day)
    return due


def _is_over(day: str, calendar: TradingCalendar, now_ms: int) -> bool:
    return recording_window(day, calendar.day_kind(day))[1] <= now_ms


def _is_stale(db: Path, report: Path) -> bool:
    """Is there no report, or was the day file written to after it?"""
    try:
        made_ns = report.stat().st_mtime_ns
    except OSError:
        return True
    newest_ns = db.stat().st_mtime_ns
    wal = Path(f"{db}-wal")
    if wal.exists() and wal.stat().st_size:
        newest_ns = max(newest_ns, wal.stat().st_mtime_ns)
    return newest_ns > made_ns


def report_file(data_root: Path, day: str) -> Path:
    """Where the report of a day stands."""
    return data_root / REPORTS_DIR / f"{layout.check_day(day)}.json"


def make_report(data_root: Path, day: str, kind: DayKind, now_ms: int) -> DayReport:
    """Read one day's file; a file that cannot be read makes a report that says so."""
    db = layout.day_file(data_root, day)
    empty = DayReport(day, now_ms, __version__, str(kind), 0, 0, 0, 0, 0, 0, {}, [])
    try:
        state = reader.day_state(db)
        rows = reader.coverage(db)
        gaps = reader.gaps(db, state="open")
    except StoreError as exc:
        return DayReport(**{**asdict(empty), "error": str(exc)})
    reasons: dict[str, int] = {}
    for row in rows:
        if row.reason is not None:
            reasons[row.reason] = reasons.get(row.reason, 0) + 1
    end_ms = close_ms(day, kind) + CAS_END_AFTER_MS if kind is not DayKind.CLOSED else 0
    return DayReport(
        trading_day=day,
        made_at_ms=now_ms,
        version=__version__,
        day_kind=str(kind),
        stored_ticks=state.stored_ticks,
        missing_ticks=state.missing_ticks,
        proven_symbols=state.symbols["proven"],
        missing_symbols=state.symbols["missing"],
        unproven_symbols=state.symbols["unproven"],
        end_confirmed_symbols=sum((row.verified_until_ms or -1) >= end_ms for row in rows),
        reasons=dict(sorted(reasons.items(), key=lambda item: -item[1])[:REASONS_SHOWN]),
        open_gaps=[asdict(gap) for gap in gaps],
    )


def write_report(data_root: Path, report: DayReport) -> Path:
    """Put the report in its place, whole or not at all. OSError when the disk refuses."""
    path = report_file(data_root, report.trading_day)
    layout.make_dir(path.parent)
    part = path.with_name(f".{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, layout.FILE_MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(report), file, ensure_ascii=False, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    layout.sync_dir(path.parent)
    return path


@contextmanager
def only_one(data_root: Path) -> Iterator[None]:
    """Hold the job's lock; it ends with the process, however that dies. ``AlreadyRunning`` when another one has it."""
    directory = data_root / REPORTS_DIR
    layout.make_dir(directory)
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, layout.FILE_MODE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise AlreadyRunning(f"another end-of-day job works on {data_root}; wait for it to end") from exc
        yield
    finally:
        os.close(descriptor)

"""Which days the end-of-day job has to do, and that only one such job works.

Which days are over comes from the trading calendar, not from the hour at which the job happens to run: a job that runs
late, or not at all for a week, does every day that is due, oldest first. A day is due that has no certificate of its
end, or whose file changed after it (late ticks, salvage, repair). One job at a time: a lock file holds the others off.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hk_tick_collector.core.errors import RecorderError
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.quality.report_file import is_current, report_file
from hk_tick_collector.store import layout
from hk_tick_collector.store.atomic import make_own_dir, open_lock_file

LOCK_FILE = ".end-of-day.lock"


class AlreadyRunning(RecorderError):
    """Another end-of-day job works on this data root."""


def due_days(data_root: Path, calendar: TradingCalendar, now_ms: int) -> list[str]:
    """Days with a file, over at ``now_ms`` (UTC epoch ms), without a certificate or changed since; oldest first."""
    due = []
    for path in layout.day_files(data_root):
        day = layout.parse_day(path)
        if day is None or calendar.no_more_ticks_ms(day) > now_ms:
            continue
        if not is_current(report_file(data_root, day), path):
            due.append(day)
    return due


@contextmanager
def only_one(data_root: Path) -> Iterator[None]:
    """Hold the job's lock; it ends with the process, however that dies. ``AlreadyRunning`` when another one has it."""
    directory = layout.reports_dir(data_root)
    make_own_dir(directory)
    descriptor = open_lock_file(directory / LOCK_FILE)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise AlreadyRunning(f"another end-of-day job works on {data_root}; wait for it to end") from exc
        yield
    finally:
        os.close(descriptor)

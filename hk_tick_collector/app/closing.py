"""Each day file is read once when its day is over: what was damaged in place is met by somebody, and the file says so.

On a thread of its own with the lowest priority, one file at a time, never while the market records but at night (where
a trading day follows the other without a pause, there is no other time): a reading that is still going on when more
ticks may come again is given up and made another time. So it holds up neither the writer nor the
loop. What it finds goes to the writer as a fact, and the file is closed. A file that was read already, as the file
itself says, costs opening it once a start.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector.core.aside import in_thread
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import StoreCorrupt, StoreError
from hk_tick_collector.core.facts import DayFact, RowsRead
from hk_tick_collector.core.logline import event
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hours import Phase
from hk_tick_collector.store import layout, reader
from hk_tick_collector.store.companions import Mark
from hk_tick_collector.store.reading import changed_ms, is_current, read_whole

log = logging.getLogger(__name__)

CHECK_SEC = 60.0
READ_AFTER_MS = 300_000  # so long after the day's last tick could come, and before the end-of-day job
RECENT_FILES = 5
LOWEST_PRIORITY = 19
_QUIET = frozenset({Phase.CLOSED, Phase.OVERNIGHT})


class ClosingReader:
    """``put_facts`` takes what was read; call ``check`` on the loop, now and then."""

    def __init__(
        self, data_root: Path, calendar: TradingCalendar, clock: Clock, put_facts: Callable[[Sequence[DayFact]], None]
    ) -> None:
        self._data_root = data_root
        self._calendar = calendar
        self._clock = clock
        self._put_facts = put_facts
        self._done: dict[Path, Mark | None] = {}

    async def check(self) -> None:
        """Read the files that are due."""
        if not self._recording():
            await in_thread("closing_reader", self._read_due)

    def _recording(self) -> bool:
        return self._calendar.phase(self._clock.now_ms()) not in _QUIET

    def _read_due(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        for path in layout.recent_day_files(self._data_root, RECENT_FILES):
            mark = Mark.of(path)
            if self._recording() or self._done.get(path) == mark or not self._is_over(path):
                continue
            try:
                self._read(path)
            except StoreCorrupt as exc:
                todo = f"hk-tickctl salvage {path} --into FILE; hk-tickctl repair while OpenD still has the day"
                log.error(event("day_file_damaged", path=path, error=exc, todo=todo))
            except StoreError as exc:
                log.warning(event("day_file_not_read", path=path, error=exc, action="tried again later"))
                continue
            self._done[path] = mark

    def _is_over(self, path: Path) -> bool:
        day = layout.parse_day(path) or ""
        return self._clock.now_ms() >= self._calendar.no_more_ticks_ms(day) + READ_AFTER_MS

    def _read(self, path: Path) -> None:
        notes = reader.notes(path)
        if not notes.coverage or is_current(notes, changed_ms(path)):
            return  # nothing is said of its completeness, or it was read
        started_sec = time.monotonic()
        at_ms = self._clock.now_ms()
        rows = read_whole(path, self._recording)
        took_sec = time.monotonic() - started_sec
        log.info(event("day_file_read", path=path, rows=rows, took_sec=took_sec))
        self._put_facts([RowsRead(layout.parse_day(path) or "", rows, at_ms)])

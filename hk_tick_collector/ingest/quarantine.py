"""Ticks that cannot be mapped or stored, kept whole with the reason: ``DATA_ROOT/_quarantine/YYYYMMDD.jsonl``.

One JSON object a line: ``recv_ts_ms``, ``symbol``, ``reason``, ``raw``. The file's day is the Hong Kong date of
receipt. At most ``MAX_WAITING`` wait in memory; what comes beyond that is counted.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.tick import RejectedTick, Tick
from hk_tick_collector.store import layout

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
RETRY_SEC = 5.0  # after a disk that refused: its next chance


class Quarantine:
    """``add`` from any thread, ``flush`` on the writer thread."""

    def __init__(self, data_root: Path, progress: IngestProgress, day_of: Callable[[int], str]) -> None:
        self._data_root = data_root
        self._progress = progress
        self._day_of = day_of
        self._waiting: deque[RejectedTick] = deque()
        self._retry_at_monotonic = 0.0
        self._log = RateLimitedLog(log)

    @property
    def due(self) -> bool:
        """Is there something to write, and has the disk not just refused it?"""
        return bool(self._waiting) and time.monotonic() >= self._retry_at_monotonic

    def add(self, rejected: Sequence[RejectedTick]) -> None:
        """Take rejected ticks; returns at once."""
        self._progress.quarantined_rows += len(rejected)
        for one in rejected:
            self._log.log(
                logging.WARNING,
                "tick_quarantined",
                key=one.reason[:24],
                symbol=one.symbol,
                reason=one.reason,
                total=self._progress.quarantined_rows,
            )
        room = max(0, MAX_WAITING - len(self._waiting))
        self._waiting.extend(rejected[:room])
        if len(rejected) > room:
            self._log.log(logging.ERROR, "quarantine_full", dropped_rows=len(rejected) - room, limit_rows=MAX_WAITING)

    def add_refused(self, refused: Sequence[tuple[Tick, str]], recv_ts_ms: int) -> None:
        """Rows that SQLite itself refuses."""
        self.add([RejectedTick(tick.symbol, reason, dict(tick._asdict()), recv_ts_ms) for tick, reason in refused])

    def flush(self) -> None:
        """Append what waits to its day's file. What cannot be written stays waiting, and is said."""
        by_day: dict[str, list[RejectedTick]] = {}
        while self._waiting:
            one = self._waiting.popleft()
            by_day.setdefault(self._day_of(one.recv_ts_ms), []).append(one)
        for day, ticks in by_day.items():
            lines = "".join(json.dumps(one._asdict(), ensure_ascii=False, default=str) + "\n" for one in ticks)
            path = layout.quarantine_file(self._data_root, day)
            try:
                _append(path, lines)
            except OSError as exc:
                self._waiting.extend(ticks)
                self._retry_at_monotonic = time.monotonic() + RETRY_SEC
                self._log.log(logging.ERROR, "quarantine_unwritable", path=path, rows=len(ticks), error=str(exc))


def _append(path: Path, text: str) -> None:
    layout.make_dir(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, layout.FILE_MODE)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(text)

"""Ticks that cannot be mapped or stored, kept with the reason: ``DATA_ROOT/_quarantine/YYYYMMDD.jsonl``.

One JSON object a line, in ASCII whatever OpenD sent: ``recv_ts_ms``, ``symbol``, ``code`` (the kind of reason),
``reason``, ``raw``. The file's day is the Hong Kong date of receipt.

Limits: MAX_WAITING_ROWS and MAX_WAITING_BYTES in memory, MAX_DAY_BYTES a day on disk. What comes beyond is dropped,
counted (``IngestProgress.quarantine_dropped_rows``) and said: it must not fill the disk that recording needs.

Promises: every tick given to ``add`` is in a file, waits, or is counted as dropped. Nothing here raises into a caller:
whatever goes wrong with a file, its lines go on waiting and recording goes on.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import RejectCode
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.text import cut
from hk_tick_collector.records.kind import Record
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.store import layout

log = logging.getLogger(__name__)

MAX_WAITING_ROWS = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
MAX_DAY_BYTES = 256 * 1024 * 1024  # about 700,000 ticks: a seventh of what the whole market trades in a day
RETRY_SEC = 5.0  # after a disk that refused: its next chance

_LIMIT_LINE = b'{"code": "limit_reached", "reason": "more ticks of this day are dropped, and counted in the log"}\n'


class _Line(NamedTuple):
    day: str
    data: bytes


class Quarantine:
    """``add`` from any thread, ``flush`` on the writer thread."""

    def __init__(
        self,
        data_root: Path,
        progress: IngestProgress,
        day_of: Callable[[int], str],
        *,
        day_bytes: int = MAX_DAY_BYTES,
        kind: str = layout.TICKS,
    ) -> None:
        self._data_root = data_root
        self._kind = kind
        self._progress = progress
        self._day_of = day_of
        self._day_bytes = day_bytes
        self._lock = threading.Lock()  # held for list work only, never over a write
        self._waiting: list[_Line] = []
        self._waiting_bytes = 0
        self._full_day = ""  # whose file has reached its limit
        self._retry_at_monotonic = 0.0
        self._log = RateLimitedLog(log)

    @property
    def due(self) -> bool:
        """Is there something to write, and has the disk not just refused it?"""
        return bool(self._waiting) and time.monotonic() >= self._retry_at_monotonic

    @property
    def waiting_rows(self) -> int:
        """Ticks that are in no file yet."""
        return len(self._waiting)

    def add(self, rejected: Sequence[RejectedTick]) -> None:
        """Take rejected ticks; returns at once."""
        with self._lock:
            self._progress.quarantined_rows += len(rejected)
        for one in rejected:
            self._log.log(
                logging.WARNING,
                "tick_quarantined",
                key=one.code,
                symbol=one.symbol,
                code=one.code,
                reason=cut(one.reason),
                total=self._progress.quarantined_rows,
            )
        lines = [_Line(self._day_of(one.recv_ts_ms), _as_json(one)) for one in rejected]
        with self._lock:
            dropped_rows = len(lines) - self._take(lines)
        if dropped_rows:
            self._drop(dropped_rows, "too many wait for the disk", MAX_WAITING_BYTES)

    def add_refused(self, refused: Sequence[tuple[Record, str]], recv_ts_ms: int) -> None:
        """Rows that SQLite itself refuses."""
        code = RejectCode.REFUSED_BY_SQLITE
        self.add([RejectedTick(tick.symbol, reason, tick._asdict(), recv_ts_ms, code) for tick, reason in refused])

    def flush(self, *, sync: bool = False) -> None:
        """Append what waits to its day's file; ``sync``: until it would survive a power cut. What cannot be written
        stays waiting, and is said."""
        with self._lock:
            lines, self._waiting, self._waiting_bytes = self._waiting, [], 0
        by_day: dict[str, list[_Line]] = {}
        for line in lines:
            by_day.setdefault(line.day, []).append(line)
        for day, of_day in by_day.items():
            try:
                self._write(day, of_day, sync=sync)
            except Exception as exc:  # noqa: BLE001 (edge: whatever it is, it must not end the worker)
                self._go_on_waiting(day, of_day, exc)

    def close(self) -> None:
        """At the stop, after the last ``flush``: say what is in no file and ends with the process."""
        with self._lock:
            left, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if left:
            self._drop(len(left), "the quarantine file could not be written before the stop", 0)

    def _take(self, lines: Sequence[_Line]) -> int:
        """Let lines wait as far as there is room; how many. Under the lock."""
        for count, line in enumerate(lines):
            full = len(self._waiting) >= MAX_WAITING_ROWS or self._waiting_bytes + len(line.data) > MAX_WAITING_BYTES
            if full:
                return count
            self._waiting.append(line)
            self._waiting_bytes += len(line.data)
        return len(lines)

    def _write(self, day: str, lines: Sequence[_Line], *, sync: bool) -> None:
        """Append whole lines or nothing; those that the day's limit leaves no room for are dropped."""
        if day == self._full_day:
            self._drop(len(lines), "the day's limit is reached", self._day_bytes)
            return
        path = layout.quarantine_file(self._data_root, day, self._kind)
        layout.make_dir(path.parent)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, layout.FILE_MODE)
        try:
            size_bytes = os.fstat(descriptor).st_size
            # After a kill in mid-write the last line has no end.
            torn = size_bytes and os.pread(descriptor, 1, size_bytes - 1) != b"\n"
            fitting = _fitting(lines, self._day_bytes - size_bytes)
            parts = [b"\n"] if torn else []
            parts += [line.data for line in lines[:fitting]]
            if fitting < len(lines):
                parts.append(_LIMIT_LINE)
            _append(descriptor, b"".join(parts), size_bytes)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if fitting < len(lines):
            self._full_day = day
            self._drop(len(lines) - fitting, "the day's limit is reached", self._day_bytes)

    def _go_on_waiting(self, day: str, lines: Sequence[_Line], error: Exception) -> None:
        """Lines that could not be written wait in front of those that came meanwhile."""
        with self._lock:
            since, self._waiting, self._waiting_bytes = self._waiting, [], 0
            both = [*lines, *since]
            dropped_rows = len(both) - self._take(both)
        self._retry_at_monotonic = time.monotonic() + RETRY_SEC
        self._log.log(
            logging.ERROR,
            "quarantine_unwritable",
            trading_day=day,
            rows=len(lines),
            error=cut(str(error) or repr(error)),
        )
        if dropped_rows:
            self._drop(dropped_rows, "too many wait for the disk", MAX_WAITING_BYTES)

    def _drop(self, rows: int, reason: str, limit_bytes: int) -> None:
        with self._lock:
            self._progress.quarantine_dropped_rows += rows
        self._log.log(
            logging.ERROR,
            "quarantine_full",
            key=reason,
            reason=reason,
            dropped_rows=rows,
            total=self._progress.quarantine_dropped_rows,
            limit_bytes=limit_bytes or None,
        )


def _as_json(one: RejectedTick) -> bytes:
    """A line of ASCII: no text that OpenD could send is beyond its encoding."""
    fields = {
        "recv_ts_ms": one.recv_ts_ms,
        "symbol": one.symbol,
        "code": one.code,
        "reason": cut(one.reason),
        "raw": {name: cut(value) if isinstance(value, str) else value for name, value in one.raw.items()},
    }
    try:
        text = json.dumps(fields, default=ascii)
    except (TypeError, ValueError) as exc:  # a value that JSON has no form for costs the fields, not the tick
        text = json.dumps({**fields, "symbol": ascii(one.symbol), "raw": {"unwritable": cut(ascii(exc))}})
    return text.encode("ascii") + b"\n"


def _fitting(lines: Sequence[_Line], room_bytes: int) -> int:
    """How many of the lines fit."""
    for count, line in enumerate(lines):
        room_bytes -= len(line.data)
        if room_bytes < 0:
            return count
    return len(lines)


def _append(descriptor: int, data: bytes, size_bytes: int) -> None:
    """Write ``data`` behind ``size_bytes``; after an error the file is as long as it was."""
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(descriptor, data[done:], size_bytes + done)
    except OSError:
        os.ftruncate(descriptor, size_bytes)
        raise

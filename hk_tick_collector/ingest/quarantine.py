"""Ticks that cannot be mapped or stored, kept with the reason: ``DATA_ROOT/_quarantine/YYYYMMDD.jsonl``.

One JSON object a line, in ASCII whatever OpenD sent: ``recv_ts_ms``, ``symbol``, ``code`` (the kind of reason),
``reason``, ``raw``. The file's day is the Hong Kong date of receipt.

What is told again word for word is the same tick and kept once: an answer shows its newest 1000 ticks each time, a
file is read again after a restart. Equal ones in one call of ``add`` are as many ticks, as equal trades of a view are.
Of a tick with a sequence it does not matter on which way it was told, nor when it reached OpenD, which answers leave
out: a push and an answer after a restart are one tick.

Limits: MAX_WAITING_ROWS and MAX_WAITING_BYTES in memory, MAX_DAY_BYTES a day on disk. What comes beyond is dropped,
counted (``IngestProgress.quarantine_dropped_rows``) and said: it must not fill the disk that recording needs. Known
again are at least the last REMEMBERED_TICKS, and of those from before the start the files' last REMEMBERED_BYTES.

Promises: every tick given to ``add`` is in a file, waits, or is counted as dropped. Nothing here raises into a caller:
whatever goes wrong with a file, its lines go on waiting and recording goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from hk_tick_collector.core.errors import RejectCode, StoreCorrupt
from hk_tick_collector.core.logline import RateLimitedLog, log_of_kind
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.core.text import cut
from hk_tick_collector.records.kind import Record
from hk_tick_collector.records.tick import RejectedTick
from hk_tick_collector.store import layout

log = logging.getLogger(__name__)

MAX_WAITING_ROWS = 10_000
MAX_WAITING_BYTES = 16 * 1024 * 1024
MAX_DAY_BYTES = 256 * 1024 * 1024  # about 700,000 ticks: a seventh of what the whole market trades in a day
REMEMBERED_TICKS = 100_000  # 8 MB; a thin symbol's answer may hold a thousand
REMEMBERED_BYTES = 4 * 1024 * 1024  # read at the start in some 20 ms
RETRY_SEC = 5.0  # after a disk that refused: its next chance

_HAS_SEQUENCE = re.compile(rb'"sequence": [1-9]')
_OF_THE_WAY = re.compile(rb'"(?:recvTime|pushDataType)": [^,}]*')  # a quote inside a text has a backslash before it
_LIMIT_LINE = b'{"code": "limit_reached", "reason": "more ticks of this day are dropped, and counted in the log"}\n'


class _Line(NamedTuple):
    day: str
    data: bytes


class _Told:
    """What was told, as numbers: the younger half and the older one, which is forgotten when the younger is full."""

    def __init__(self) -> None:
        self._young: set[int] = set()
        self._old: set[int] = set()

    def is_new(self, line: bytes, occurrence: int) -> bool:
        """Note a line; False when it was told before. When it was received does not count."""
        number = hash((_tick_in(line), occurrence))
        is_new = number not in self._young and number not in self._old
        if len(self._young) >= REMEMBERED_TICKS:
            self._old, self._young = self._young, set()
        self._young.add(number)
        return is_new


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
        self._told = _Told()
        self._full_day = ""  # whose file has reached its limit
        self._retry_at_monotonic = 0.0
        self._log = RateLimitedLog(log_of_kind(log, kind, layout.TICKS))

    @property
    def due(self) -> bool:
        """Is there something to write, and has the disk not just refused it?"""
        return bool(self._waiting) and time.monotonic() >= self._retry_at_monotonic

    @property
    def waiting_rows(self) -> int:
        """Ticks that are in no file yet."""
        return len(self._waiting)

    def remember(self) -> None:
        """At the start: know what earlier processes kept. Needs the disk; what cannot be read is kept again."""
        room_bytes = REMEMBERED_BYTES
        for path in self._files():
            lines = _last_lines(path, room_bytes)
            with self._lock:
                self._note(lines)
            room_bytes -= sum(map(len, lines))
            if room_bytes <= 0:
                return

    def _files(self) -> list[Path]:
        """The newest first."""
        with contextlib.suppress(OSError):
            return sorted(layout.quarantine_dir(self._data_root, self._kind).glob("????????.jsonl"), reverse=True)
        return []

    def add(self, rejected: Sequence[RejectedTick]) -> None:
        """Take rejected ticks; returns at once."""
        lines = [_as_json(tick) for tick in rejected]
        with self._lock:
            new = self._note(lines)
            self._progress.quarantine_known_rows += len(new) - sum(new)
        self._keep([(tick, line) for tick, line, is_new in zip(rejected, lines, new, strict=True) if is_new])

    def _keep(self, rejected: Sequence[tuple[RejectedTick, bytes]]) -> None:
        with self._lock:
            self._progress.quarantined_rows += len(rejected)
        for tick, _ in rejected:
            self._log.log(
                logging.WARNING,
                "tick_quarantined",
                key=tick.code,
                symbol=tick.symbol,
                code=tick.code,
                reason=cut(tick.reason),
                total=self._progress.quarantined_rows,
            )
        lines = [_Line(self._day_of(tick.recv_ts_ms), data) for tick, data in rejected]
        with self._lock:
            dropped_rows = len(lines) - self._take(lines)
        if dropped_rows:
            self._drop(dropped_rows, "too many wait for the disk", MAX_WAITING_BYTES)

    def _note(self, lines: Sequence[bytes]) -> list[bool]:
        """Which of the lines, told in one view, were not told before. Under the lock."""
        seen: Counter[bytes] = Counter()
        new = []
        for line in lines:
            new.append(self._told.is_new(line, seen[line]))
            seen[line] += 1
        return new

    def add_refused(self, refused: Sequence[tuple[Record, str]], recv_ts_ms: int) -> None:
        """Rows that SQLite itself refuses, each time it does."""
        code = RejectCode.REFUSED_BY_SQLITE
        rejected = [RejectedTick(tick.symbol, reason, tick._asdict(), recv_ts_ms, code) for tick, reason in refused]
        self._keep([(tick, _as_json(tick)) for tick in rejected])

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


def _tick_in(line: bytes) -> bytes:
    """What a line says of the tick itself."""
    told = line.rstrip(b"\n").partition(b", ")[2]
    return _OF_THE_WAY.sub(b"", told) if _HAS_SEQUENCE.search(told) else told


def _last_lines(path: Path, most_bytes: int) -> list[bytes]:
    """The whole lines in the last bytes of a file, without their ends; none of a file that cannot be read."""
    try:
        with open_regular(path) as file:
            begin = max(0, file.seek(0, os.SEEK_END) - most_bytes)
            file.seek(begin)
            lines = file.read(most_bytes).split(b"\n")
    except (OSError, StoreCorrupt):
        return []
    return lines[1 if begin else 0 : -1]


def _as_json(tick: RejectedTick) -> bytes:
    """A line of ASCII: no text that OpenD could send is beyond its encoding."""
    fields = {
        "recv_ts_ms": tick.recv_ts_ms,
        "symbol": tick.symbol,
        "code": tick.code,
        "reason": cut(tick.reason),
        "raw": {name: cut(value) if isinstance(value, str) else value for name, value in tick.raw.items()},
    }
    try:
        text = json.dumps(fields, default=ascii)
    except (TypeError, ValueError) as exc:  # a value that JSON has no form for costs the fields, not the tick
        text = json.dumps({**fields, "symbol": ascii(tick.symbol), "raw": {"unwritable": cut(ascii(exc))}})
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

"""Rows that cannot be queued or written now wait on disk, in order, until SQLite takes them again.

Owns ``DATA_ROOT/_spill/``, or for other records than ticks a directory in it. Any thread may call; a lock makes each
call whole, and a call blocks for the disk's time.
Only ``rows``, ``bytes`` and ``due`` never wait, and ``append_apart`` does not wait for the lock.

A segment ``<number>.spill`` (16 digits, counting up) is a row of frames (``frames.py``) and nothing else.

Limits: a frame has at most FRAME_ROWS rows and MAX_PAYLOAD_BYTES bytes; a segment takes no further append once it has
``segment_bytes``; all segments together ``limit_bytes`` if given, else the disk is the limit. Memory: the rows of one
``peek`` or ``append``, one segment's bytes while it is scanned, and a small record a segment.

Promises:

- ``append`` takes all rows or none: when it raises, the file is cut back to where it was, so that rows which the caller
  keeps are not in the spill as well. Where even cutting fails, the segment is closed at its good length.
- Rows come out in the order they went in; ``ack`` forgets the rows of the last ``peek`` and no others.
- Every appended row is found again after any death of the process. No append is fsynced: like SQLite's
  synchronous=NORMAL it outlives the process, not a power cut right after. Full segments and ``close`` are synced.
- How far a segment is drained is not kept on disk. After a restart its first rows come again, and the unique indexes
  of the day files ignore what they have. A drained segment is removed.

Recovery, by ``open`` at the start (it never writes to a segment that it found):

- A torn tail is a last frame that its file's end cuts short: an append that never returned. Skipped and counted.
- Any other bytes that are no valid frame are damage: a line at ERROR names them, reading goes on at the next valid
  frame, and once drained the segment is renamed to ``<segment>.bad-<utc>`` instead of being removed.
- A segment that the disk does not give keeps its name and its rows: it is tried again after a growing delay, and those
  behind it go on. One that is gone is forgotten after GONE_PATIENCE_SEC; a directory of that name is renamed to
  ``<segment>.unreadable-<utc>``.
- New rows always go to a new segment.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock, SystemClock
from hk_tick_collector.core.disk import unavailable
from hk_tick_collector.core.errors import StoreBusy, StoreUnavailable
from hk_tick_collector.core.logline import RateLimitedLog, event, log_of_kind
from hk_tick_collector.ingest.frames import (
    HEADER_BYTES,
    Frame,
    decode,
    encode,
    frame_at,
    is_torn,
    payload_bytes,
    walk,
)
from hk_tick_collector.records.kind import TICKS, RecordKind, RecordT
from hk_tick_collector.store.layout import FILE_MODE, make_dir, spill_dir, sync_dir, utc_stamp

FRAME_ROWS = 500
SEGMENT_BYTES = 16 * 1024 * 1024
READ_RETRY_MIN_SEC = 1.0  # after a read that failed; the delay doubles
READ_RETRY_MAX_SEC = 60.0
LOG_PERIOD_SEC = 60.0  # between two lines about one segment
GONE_PATIENCE_SEC = 600.0  # a file system that was unmounted for a moment brings its segments back

_SEGMENT_NUMBER = re.compile(r"(\d{16})\.spill", re.ASCII)
_log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Segment:
    path: Path
    end: int = 0  # bytes that count; a failed append may have left others behind
    rows: int = 0  # not acknowledged yet
    position: int = 0  # of the first frame that is not wholly acknowledged
    skip_rows: int = 0  # rows of that frame that are
    passed_over: dict[int, int] = field(default_factory=dict)  # start -> end of what is no valid frame
    damaged: bool = False
    inherited: bool = False  # at the start: an earlier process left it
    counted: bool = True  # False: found, and its rows could not be counted yet
    retry: Backoff = field(default_factory=lambda: Backoff(READ_RETRY_MIN_SEC, READ_RETRY_MAX_SEC))
    failed_since_monotonic: float | None = None
    retry_at_monotonic: float = 0.0


class _Peeked(NamedTuple):
    segment: _Segment
    position: int
    skip_rows: int
    rows: int


class SpillQueue(Generic[RecordT]):
    """A queue of records on disk: ``append`` at one end, ``peek`` and ``ack`` at the other. Call ``open`` first."""

    def __init__(
        self,
        data_root: Path,
        kind: RecordKind[RecordT] = TICKS,  # type: ignore[assignment]
        *,
        segment_bytes: int = SEGMENT_BYTES,
        limit_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._kind = kind
        self.log = log_of_kind(_log, kind.name, TICKS.name)
        self._dir = spill_dir(data_root, kind.name)
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._segments: deque[_Segment] = deque()
        self._descriptor: int | None = None  # of the last segment while it takes appends
        self._next_number = 1
        self._peeked: _Peeked | None = None
        self._limited_log = RateLimitedLog(self.log, LOG_PERIOD_SEC)
        self._leftover: dict[Path, Path | None] = {}  # drained, but the disk refused to remove or rename them
        self._uncounted = False
        self.rows = 0  # waiting; read without the lock
        self.bytes = 0  # of segments not drained yet; likewise
        self.torn_tails = 0
        self.damaged_bytes = 0
        self.damaged_segments = 0

    def open(self) -> int:
        """Find what an earlier process left; returns the rows waiting. Damage is logged and counted, never raised.

        StoreUnavailable when the directory cannot be listed; nothing was done then, and it may be called again.
        """
        with self._lock:
            for number, path in self._segment_files():
                self._next_number = max(self._next_number, number + 1)
                segment = _Segment(path, inherited=True, counted=False)
                self._segments.append(segment)
                with contextlib.suppress(OSError):
                    self._count_rows_of(segment)
            self._count()
            if self.rows:
                self.log.warning(
                    event("spill_recovered", rows=self.rows, bytes=self.bytes, segments=len(self._segments))
                )
            return self.rows

    def append(self, rows: Sequence[RecordT], patience_sec: float | None = None) -> None:
        """Put ``rows`` behind all others, all or none of them.

        Raises StoreUnavailable when the disk or ``limit_bytes`` refuses, RowRefused when a value is none that a tick
        can have (find the row by halving the batch), StoreBusy when the spill is in use for all of ``patience_sec``.
        """
        if not rows:
            return
        data = b"".join(encode(rows[i : i + FRAME_ROWS], self._kind) for i in range(0, len(rows), FRAME_ROWS))
        if not self._lock.acquire(timeout=-1 if patience_sec is None else patience_sec):
            raise StoreBusy(f"{self._dir}: another thread has been at it for {patience_sec:g} s")
        try:
            if self._limit_bytes is not None and self.bytes + len(data) > self._limit_bytes:
                raise StoreUnavailable(f"{self._dir}: the spill's limit of {self._limit_bytes} bytes is reached")
            segment, descriptor = self._writable_segment()
            try:
                _write_all(descriptor, data, segment.end)
            except OSError as exc:
                self._cut_back(segment, descriptor)
                raise unavailable(segment.path, exc) from exc
            segment.end += len(data)
            segment.rows += len(rows)
            self._count()
        finally:
            self._lock.release()

    def peek(self, max_rows: int) -> list[RecordT]:
        """The oldest rows, at most ``max_rows`` (at least 1) and of one segment; empty when nothing waits.

        They stay in the queue until ``ack``. A segment that the disk does not give is passed over until its next try.
        """
        with self._lock:
            self._peeked = None
            now_sec = time.monotonic()
            for segment in [held for held in self._segments if held.retry_at_monotonic <= now_sec]:
                try:
                    if self._count_rows_of(segment):
                        continue
                    rows, position, skip_rows = self._read(segment, max(1, max_rows))
                except OSError as exc:
                    self._read_failed(segment, exc)
                    continue
                segment.failed_since_monotonic, segment.retry_at_monotonic = None, 0.0
                segment.retry.reset()
                if rows:
                    self._peeked = _Peeked(segment, position, skip_rows, len(rows))
                    return rows
                self._remove(segment)
                self._count()
            return []

    @property
    def peeked_left_over(self) -> bool:
        """Did an earlier process leave the rows of the last ``peek``?"""
        return self._peeked is not None and self._peeked.segment.inherited

    @property
    def due(self) -> bool:
        """Are there rows that ``peek`` may give now? Not those of segments whose last read failed a moment ago."""
        if not self.rows and not self._uncounted:
            return False
        now_sec = time.monotonic()
        waiting = [segment for segment in tuple(self._segments) if segment.rows or not segment.counted]
        return any(segment.retry_at_monotonic <= now_sec for segment in waiting)

    def ack(self, stored_rows: int | None = None) -> int:
        """The rows of the last ``peek`` are stored: forget them, and remove their segment if it is drained.

        Returns how many rows that were; 0 without a ``peek`` before it, or when that one gave another number of rows
        than ``stored_rows`` (a thread that was given up may come back and look).
        """
        with self._lock:
            if self._peeked is None or self._peeked.rows != (stored_rows or self._peeked.rows):
                return 0
            segment, position, skip_rows, rows = self._peeked
            self._peeked = None
            while position in segment.passed_over:
                position = segment.passed_over[position]
            segment.position, segment.skip_rows = position, skip_rows
            segment.rows -= rows
            if segment.position >= segment.end:
                self._remove(segment)
            self._retry_leftover()
            self._count()
            return rows

    def append_apart(self, rows: Sequence[RecordT]) -> None:
        """As ``append``, to a synced segment of its own, without the lock: the last resort of a process that ends while
        another thread hangs in the disk with the lock in hand. The next ``open`` finds it; ``rows`` does not count it.
        """
        data = b"".join(encode(rows[i : i + FRAME_ROWS], self._kind) for i in range(0, len(rows), FRAME_ROWS))
        number = self._next_number
        while True:
            path = self._dir / f"{number:016d}.spill"
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE)
                break
            except FileExistsError:
                number += 1
            except OSError as exc:
                raise unavailable(path, exc) from exc
        try:
            _write_all(descriptor, data, 0)
            os.fsync(descriptor)
        except OSError as exc:
            raise unavailable(path, exc) from exc
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Sync and close the segment being written. What waits stays on disk for the next ``open``."""
        with self._lock:
            self._seal()
            self._retry_leftover()

    def _segment_files(self) -> list[tuple[int, Path]]:
        try:
            entries = list(self._dir.iterdir())
        except FileNotFoundError:
            return []
        except OSError as exc:
            raise unavailable(self._dir, exc) from exc
        matches = ((_SEGMENT_NUMBER.fullmatch(path.name), path) for path in entries)
        return sorted((int(match.group(1)), path) for match, path in matches if match)

    def _count(self) -> None:
        self.rows = sum(segment.rows for segment in self._segments)
        self._uncounted = any(not segment.counted for segment in self._segments)
        self.bytes = sum(segment.end for segment in self._segments)

    # -- the writing end -------------------------------------------------------------------------------------------

    def _writable_segment(self) -> tuple[_Segment, int]:
        if self._descriptor is not None:
            if self._segments[-1].end < self._segment_bytes:
                return self._segments[-1], self._descriptor
            self._seal()
        while True:
            path = self._dir / f"{self._next_number:016d}.spill"
            self._next_number += 1
            try:
                make_dir(self._dir)
                self._descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, FILE_MODE)
                break
            except FileExistsError:
                continue
            except OSError as exc:
                self._next_number -= 1
                raise unavailable(path, exc) from exc
        sync_dir(self._dir)
        self._segments.append(_Segment(path))
        return self._segments[-1], self._descriptor

    def _cut_back(self, segment: _Segment, descriptor: int) -> None:
        try:
            os.ftruncate(descriptor, segment.end)
        except OSError as exc:
            self.log.error(event("spill_cut_failed", path=segment.path, keep_bytes=segment.end, error=exc))
            self._seal()

    def _seal(self) -> None:
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        try:
            os.fsync(descriptor)
        except OSError as exc:
            self.log.error(event("spill_sync_failed", path=self._segments[-1].path, error=exc))
        with contextlib.suppress(OSError):
            os.close(descriptor)

    # -- the reading end -------------------------------------------------------------------------------------------

    def _read(self, segment: _Segment, max_rows: int) -> tuple[list[RecordT], int, int]:
        """Rows from the segment's position on, and the position and rows to skip behind them."""
        batch: list[RecordT] = []
        position, skip_rows = segment.position, segment.skip_rows
        if position >= segment.end:
            return batch, position, skip_rows
        with segment.path.open("rb") as file:
            while position < segment.end and len(batch) < max_rows:
                if position in segment.passed_over:
                    position = segment.passed_over[position]
                    continue
                file.seek(position)
                data = file.read(HEADER_BYTES)
                data += file.read(payload_bytes(data))
                frame = frame_at(data, 0)
                rows = decode(data[HEADER_BYTES : frame.end], self._kind) if frame else None
                if frame is None or rows is None:
                    self._pass_over(segment, position, frame)
                    return self._read(segment, max_rows)
                wanted = rows[skip_rows : skip_rows + max_rows - len(batch)]
                batch += wanted
                skip_rows += len(wanted)
                if skip_rows >= len(rows):
                    position, skip_rows = position + frame.end, 0
        return batch, position, skip_rows

    def _pass_over(self, segment: _Segment, position: int, frame: Frame | None) -> None:
        """What was a valid frame when it was counted is none now, or its payload is not ours."""
        if frame is not None:
            self._mark_damage(segment, position, position + frame.end)
        self._rescan(segment)
        if position not in segment.passed_over:
            raise OSError(errno.EIO, "two reads of the same frame differ")

    def _rescan(self, segment: _Segment) -> None:
        """Count the segment's rows from its position on; note what is no valid frame."""
        with segment.path.open("rb") as file:
            file.seek(segment.position)
            data = file.read(segment.end - segment.position)
        rows, offset = 0, segment.position
        for part in walk(data):
            start, end = offset + part.start, offset + part.end
            if start in segment.passed_over:
                continue
            if part.rows:
                rows += part.rows
            elif is_torn(data, part):
                self.torn_tails += 1
                segment.passed_over[start] = end
                self.log.warning(event("spill_torn_tail", path=segment.path, offset=start, bytes=end - start))
            else:
                self._mark_damage(segment, start, end)
        if len(data) < segment.end - segment.position:  # shorter than what was written: nothing is there to read
            self._mark_damage(segment, offset + len(data), segment.end)
        if segment.position in segment.passed_over:
            segment.skip_rows = 0
        segment.rows = rows - segment.skip_rows
        self._count()

    def _mark_damage(self, segment: _Segment, start: int, end: int) -> None:
        segment.passed_over[start] = end
        self.damaged_bytes += end - start
        if not segment.damaged:
            segment.damaged = True
            self.damaged_segments += 1
        self.log.error(
            event(
                "spill_damaged",
                path=segment.path,
                offset=start,
                bytes=end - start,
                todo="its good rows are stored, the file is kept under a name with .bad-",
            )
        )

    def _count_rows_of(self, segment: _Segment) -> bool:
        """Count the rows of a segment that was found at the start. True when it is settled: it has none, and goes."""
        if segment.counted:
            return False
        try:
            segment.end = segment.path.stat().st_size
            self._rescan(segment)
        except IsADirectoryError as exc:
            self._segments.remove(segment)
            self._set_aside_unreadable(segment, exc)
            return True
        except OSError as exc:
            self._read_failed(segment, exc)
            raise
        segment.counted = True
        if not segment.rows:
            self._remove(segment)
        self._count()
        return not segment.rows

    def _read_failed(self, segment: _Segment, exc: OSError) -> None:
        now_sec = time.monotonic()
        if segment.failed_since_monotonic is None:
            segment.failed_since_monotonic = now_sec
        wait_sec = segment.retry.next_sec()
        segment.retry_at_monotonic = now_sec + wait_sec
        gone = isinstance(exc, FileNotFoundError) and now_sec - segment.failed_since_monotonic >= GONE_PATIENCE_SEC
        if gone:
            self._close_if_active(segment)
            self._segments.remove(segment)
            self._count()
        self._limited_log.log(
            logging.ERROR,
            "spill_segment_unreadable",
            key=segment.path.name,
            path=segment.path,
            rows=segment.rows,
            error=exc,
            action="forgotten: it is gone" if gone else f"tried again in {wait_sec:.0f} s, its rows wait",
        )

    # -- drained, damaged, unreadable ------------------------------------------------------------------------------

    def _close_if_active(self, segment: _Segment) -> None:
        if self._segments and segment is self._segments[-1] and self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = None

    def _remove(self, segment: _Segment) -> None:
        self._close_if_active(segment)
        self._segments.remove(segment)
        keep_as = self._dated(segment.path, "bad") if segment.damaged else None
        self._leftover[segment.path] = keep_as
        self._retry_leftover()

    def _retry_leftover(self) -> None:
        for path, keep_as in list(self._leftover.items()):
            try:
                if keep_as is None:
                    path.unlink(missing_ok=True)
                else:
                    path.rename(keep_as)
            except FileNotFoundError:
                pass
            except OSError as exc:
                # Harmless: after a restart its rows come again and are ignored.
                self.log.warning(event("spill_not_removed", path=path, error=exc))
                continue
            del self._leftover[path]

    def _set_aside_unreadable(self, segment: _Segment, exc: OSError) -> None:
        self.damaged_segments += 1
        target = self._dated(segment.path, "unreadable")
        self.log.error(event("spill_segment_set_aside", path=segment.path, moved_to=target, error=exc))
        self._leftover[segment.path] = target
        self._retry_leftover()

    def _dated(self, path: Path, suffix: str) -> Path:
        return path.with_name(f"{path.name}.{suffix}-{utc_stamp(self._clock.now_ms())}")


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written

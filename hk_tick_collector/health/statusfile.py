"""The recorder's state as a small file, for whoever wants to know how it is: processes share nothing but files.

Every ``STATUS_INTERVAL_SEC`` the loop takes the counters, and a thread of its own replaces the file in one step. A disk
that hangs holds up that thread alone: no second write begins while one is under way, and none keeps the process from
ending. A write that fails is counted and said, never more. The cost does not depend on rows or symbols.

The file tells what was true at ``written_at_ms``. A living recorder whose file is old hangs, was stopped by a signal,
or cannot write there. After an ordered end the last word is ``stopped``; any other last word means that it died.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.complaint import Complaint, Level, status_word
from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.histogram import HistogramSnapshot
from hk_tick_collector.core.logline import RateLimitedLog
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.core.regular import open_regular
from hk_tick_collector.health.judgement import Backlog
from hk_tick_collector.market.calendar import TradingCalendar

STATUS_INTERVAL_SEC = 2.0
CLOSE_TIMEOUT_SEC = 1.0
LATENCY_WINDOW_WRITES = 30  # the latency is of about the last minute: two seconds hold too few commits
MAX_REFUSED_NAMES = 20
MAX_COMPLAINTS = 20
MAX_FILE_BYTES = 65_536  # a larger file is not ours
LOG_PERIOD_SEC = 600

STOPPING, STOPPED = "stopping", "stopped"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """What the file holds. Times are UTC epoch milliseconds; None means that there is nothing to tell yet."""

    pid: int
    version: str
    process_space: str  # in which the pid holds, see ``process_space``
    started_at_ms: int
    written_at_ms: int
    status: str  # ok, warn or alert as in the health line; stopping, stopped
    reason: str | None = None
    complaints: tuple[Complaint, ...] = ()  # all of them, gravest first; none of a recorder without codes
    last_alert_at_ms: int | None = None  # when the status was alert last, also in an earlier run
    last_alert_reason: str | None = None
    phase: str = ""  # what the market does
    source: str = "OpenD"  # where the rows come from
    noun: str = "tick"  # what one of them is called
    opend_state: str = ""  # down, connecting, not_ready, ready
    market_hk: str = ""  # what OpenD says of the market, where that is Hong Kong
    market_state: str = ""  # the same of whichever market is recorded
    login_ends_at_ms: int | None = None  # when a person has to log in at the source again; None: never, or not known
    symbols_wanted: int = 0
    symbols_subscribed: int = 0
    symbols_refused: int = 0
    refused_symbols: dict[str, str] = field(default_factory=dict)  # why; MAX_REFUSED_NAMES at most
    stored_rows: int = 0  # since the start
    rows_per_sec: float = 0.0  # stored, since the file was written last
    newest_ts_ms: int | None = None  # newest event time seen
    lag_sec: float | None = None  # its age when this was written
    last_commit_age_sec: float | None = None
    commit_latency_p99_ms: float | None = None  # from receipt to commit, of about the last minute
    queue_rows: int = 0
    in_hand_rows: int = 0
    spill_rows: int = 0
    refused_rows: int = 0  # lost: neither queue nor spill could take them
    quarantined_rows: int = 0
    open_holes: int = 0
    missing_ticks: int = 0
    wal_bytes: int = 0
    write_errors: int = 0
    disconnections: int = 0
    writer_recoveries: int = 0  # times that the watchdog replaced the writer
    takes_restarts: int = 0  # 1: a restart of the feed may be asked for (RESTARTS_DIR)
    restarted_at_ms: int | None = None  # when the feed was restarted last because somebody asked
    restarted_by: str | None = None

    @property
    def link_state(self) -> str:
        """The source's connection; in the file its word is that of the first source."""
        return self.opend_state

    @property
    def said_of_market(self) -> str:
        """The source's word; an earlier recorder writes that of its one market alone."""
        return self.market_state or self.market_hk


def process_space() -> str:
    """Where this process can look up others by pid: its host and its pid namespace (a container has its own)."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = "unknown"
    return f"{os.uname().nodename} {namespace}"


def read_status(path: Path) -> RecorderStatus | None:
    """The file's content; None when there is no file, or none of ours. Fields that another version knows are left out,
    those that it lacks have their default. OSError when it may not be read."""
    try:
        with open_regular(path) as file:
            content = file.read(MAX_FILE_BYTES + 1)
        data = json.loads(content)
    except (FileNotFoundError, ValueError, RecursionError, StoreCorrupt):
        return None
    if not isinstance(data, dict) or len(content) > MAX_FILE_BYTES:
        return None
    known = {name: value for name, value in data.items() if _fits(name, value)}
    known["complaints"] = _complaints_of(data.get("complaints"))
    try:
        return RecorderStatus(**known)
    except TypeError:  # one without which there is no status
        return None


_CODE = re.compile(r"[a-z][a-z_]{0,39}")
_LEVELS = tuple(Level)
_KINDS = get_type_hints(RecorderStatus)
_FIELDS = {field.name for field in fields(RecorderStatus)}


def _fits(name: str, value: object) -> bool:
    """Is this a field of ours with a value of its kind? A whole number may stand where a fraction may."""
    if name not in _FIELDS or name == "complaints" or isinstance(value, bool):
        return False
    kinds = getattr(_KINDS[name], "__args__", (_KINDS[name],))
    if name == "refused_symbols":
        return isinstance(value, dict)
    return isinstance(value, kinds) or (float in kinds and isinstance(value, int))


def _complaints_of(value: object) -> tuple[Complaint, ...]:
    """As they were written, those of another version too; what is none is left out."""
    items = value[:MAX_COMPLAINTS] if isinstance(value, list) else []
    return tuple(complaint for item in items if (complaint := _complaint_of(item)) is not None)


def _complaint_of(item: object) -> Complaint | None:
    if not isinstance(item, dict):
        return None
    code, level, sentence, since_ms = (item.get(name) for name in ("code", "level", "sentence", "since_ms"))
    if not isinstance(code, str) or not _CODE.fullmatch(code) or level not in _LEVELS or not isinstance(sentence, str):
        return None
    counted = isinstance(since_ms, int) and not isinstance(since_ms, bool)
    return Complaint(code, Level(level), sentence, since_ms if counted else None)


class StatusFile:
    """Writes the file. Used on the loop; ``replace_content`` is called on a thread and may take its time or raise
    OSError."""

    def __init__(
        self,
        path: Path,
        replace_content: Callable[[Path, bytes], None],
        progress: Progress,
        backlog: Callable[[], Backlog],
        complaints: Callable[[Backlog], Sequence[Complaint]],
        calendar: TradingCalendar,
        clock: Clock,
        version: str,
    ) -> None:
        """``complaints``: what is wrong, as the health line says."""
        self._path = path
        self._replace_content = replace_content
        self._progress = progress
        self._backlog = backlog
        self._complaints = complaints
        self._since_ms: dict[str, int] = {}  # since when a code has been complained about
        self._calendar = calendar
        self._clock = clock
        self._version = version
        self._process_space = process_space()
        self._started_at_ms = clock.now_ms()
        self._rows_then = (clock.monotonic(), progress.ingest.persisted_rows)
        self._latencies: deque[HistogramSnapshot] = deque(maxlen=LATENCY_WINDOW_WRITES)
        self._latencies.append(progress.ingest.commit_latency_ms.snapshot())
        self._last_alert = _last_alert(path)
        import asyncio  # noqa: PLC0415 - who only reads the file needs none, and it takes a third of such a command

        self._loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()  # no write is under way
        self._idle.set()
        self._limited_log = RateLimitedLog(_log, LOG_PERIOD_SEC, clock.monotonic)
        self.failed_writes = 0  # refused by the system, or left out because the one before had not returned

    def write(self, stopping: str | None = None) -> None:
        """Write what is true now. ``stopping``: why the recorder stops, when it does."""
        if not self._idle.is_set():
            self._complain("the write before has not returned")
            return
        self._start(self._take(stopping))

    async def close(self, reason: str) -> None:
        """The last word after an ordered end. Gives up after CLOSE_TIMEOUT_SEC: the file is then merely old."""
        import asyncio  # noqa: PLC0415

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_SEC):
                await self._write_last(reason)

    async def _write_last(self, reason: str) -> None:
        await self._idle.wait()
        self._start(replace(self._take(reason), status=STOPPED))
        await self._idle.wait()

    def _start(self, status: RecorderStatus) -> None:
        self._idle.clear()
        # A daemon thread, not the loop's executor: that one is waited for when the process ends.
        threading.Thread(target=self._write, args=(status,), name="status_file", daemon=True).start()

    def _write(self, status: RecorderStatus) -> None:
        try:
            content = json.dumps(asdict(status), ensure_ascii=False, indent=1)
            self._replace_content(self._path, content.encode("utf-8", "replace") + b"\n")
        except OSError as exc:
            self._complain(exc.strerror or str(exc))
        finally:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._loop.call_soon_threadsafe(self._idle.set)

    def _complain(self, error: str) -> None:
        self.failed_writes += 1
        self._limited_log.log(
            logging.WARNING,
            "status_file_failed",
            path=self._path,
            error=error,
            action="recording goes on; hk-tickctl status shows old numbers until it works again",
        )

    def _take(self, stopping: str | None) -> RecorderStatus:
        feed, ingest = self._progress.feed, self._progress.ingest
        now_ms, now_sec = self._clock.now_ms(), self._clock.monotonic()
        backlog = self._backlog()
        complaints = () if stopping is not None else self._dated(self._complaints(backlog), now_ms)
        status, reason = (STOPPING, stopping) if stopping is not None else status_word(complaints)
        if status == "alert":
            self._last_alert = (now_ms, reason)
        then_sec, then_rows = self._rows_then
        self._rows_then = (now_sec, ingest.persisted_rows)
        latency = ingest.commit_latency_ms.snapshot()
        p99_ms = latency.since(self._latencies[0]).quantile(0.99)
        self._latencies.append(latency)
        return RecorderStatus(
            pid=os.getpid(),
            version=self._version,
            process_space=self._process_space,
            started_at_ms=self._started_at_ms,
            written_at_ms=now_ms,
            status=status,
            reason=reason,
            complaints=complaints,
            last_alert_at_ms=self._last_alert[0],
            last_alert_reason=self._last_alert[1],
            phase=str(self._calendar.phase(now_ms)),
            source=feed.source,
            noun=feed.noun,
            opend_state=feed.link_state,
            market_hk=feed.market_state if self._calendar.market.code == "HK" else "",
            market_state=feed.market_state,
            login_ends_at_ms=feed.login_ends_ms or None,
            symbols_wanted=feed.symbols_wanted,
            symbols_subscribed=feed.symbols_subscribed,
            symbols_refused=feed.symbols_refused,
            refused_symbols=dict(islice(feed.refused_symbols.items(), MAX_REFUSED_NAMES)),
            stored_rows=ingest.persisted_rows,
            rows_per_sec=round((ingest.persisted_rows - then_rows) / max(now_sec - then_sec, 1e-3), 1),
            newest_ts_ms=feed.max_ts_ms or None,
            lag_sec=round((now_ms - feed.max_ts_ms) / 1000, 3) if feed.max_ts_ms else None,
            last_commit_age_sec=round(now_sec - ingest.last_commit_monotonic, 3) if ingest.commits else None,
            commit_latency_p99_ms=None if p99_ms is None else round(p99_ms, 1),
            queue_rows=backlog.queue_rows,
            in_hand_rows=backlog.in_hand_rows,
            spill_rows=backlog.spill_rows,
            refused_rows=ingest.refused_rows,
            quarantined_rows=ingest.quarantined_rows,
            open_holes=backlog.open_holes,
            missing_ticks=ingest.missing_ticks,
            wal_bytes=backlog.wal_bytes,
            write_errors=ingest.write_errors,
            disconnections=feed.disconnections,
            writer_recoveries=ingest.recoveries,
            takes_restarts=int(feed.takes_restarts),
            restarted_at_ms=feed.restarted_at_ms or None,
            restarted_by=feed.restarted_by or None,
        )

    def _dated(self, complaints: Sequence[Complaint], now_ms: int) -> tuple[Complaint, ...]:
        """With the time since when each has been so, as far as this file was written in between."""
        self._since_ms = {complaint.code: self._since_ms.get(complaint.code, now_ms) for complaint in complaints}
        return tuple(replace(complaint, since_ms=self._since_ms[complaint.code]) for complaint in complaints)


def _last_alert(path: Path) -> tuple[int | None, str | None]:
    """What the run before left: an alert that ended in a restart is the one somebody will ask about."""
    try:
        before: Any = read_status(path)
    except OSError:
        before = None
    return (None, None) if before is None else (before.last_alert_at_ms, before.last_alert_reason)

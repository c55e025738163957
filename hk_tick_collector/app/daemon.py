"""Puts the boxes together, starts them in order, and stops them in order, whatever happens.

Stop order: feed -> drain the queue -> commit, or spill what cannot be committed -> close the day files -> last health
line -> exit code. Exit codes: 0 asked to stop, 1 gave up, 78 configuration (``main``). A second signal cuts the
waiting short, never the spill.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hk_tick_collector import __version__
from hk_tick_collector.app.books import BookLanes
from hk_tick_collector.app.closing import CHECK_SEC, ClosingReader
from hk_tick_collector.app.config import Settings
from hk_tick_collector.app.losses import LossWatch
from hk_tick_collector.app.restarting import CHECK_SEC as RESTARTS_CHECK_SEC
from hk_tick_collector.app.restarting import RestartReader
from hk_tick_collector.app.service import Service
from hk_tick_collector.app.silence import SilenceOptions, SilenceWatch
from hk_tick_collector.app.snapshots import Snapshots
from hk_tick_collector.app.start import Patience
from hk_tick_collector.core.aside import in_thread
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.core.evidence import EvidenceLevel
from hk_tick_collector.core.facts import DayFact, Fact, StoredTrack
from hk_tick_collector.core.logline import RateLimitedLog, event
from hk_tick_collector.core.options import options_of
from hk_tick_collector.core.progress import Progress
from hk_tick_collector.health.judgement import Backlog, Judge, Waiting
from hk_tick_collector.health.report import Reporter
from hk_tick_collector.health.statusfile import STATUS_INTERVAL_SEC, StatusFile
from hk_tick_collector.health.watchdog import Watchdog, WatchdogOptions
from hk_tick_collector.imports.stored import RecordedDays
from hk_tick_collector.ingest.lane import Lane
from hk_tick_collector.ingest.worker import WorkerOptions
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.registry import market_of
from hk_tick_collector.records.kind import TICKS
from hk_tick_collector.records.tick import Origin
from hk_tick_collector.sources.completeness import completeness_of
from hk_tick_collector.sources.options import FeedOptions
from hk_tick_collector.sources.registry import Surroundings, open_source
from hk_tick_collector.sources.session import FeedSession
from hk_tick_collector.store import layout
from hk_tick_collector.store.restarts import restarts_dir_of
from hk_tick_collector.store.snapshot_file import copied_series
from hk_tick_collector.store.snapshot_writer import SnapshotWriter
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter

if TYPE_CHECKING:
    from hk_tick_collector.health.metrics import MetricsServer
    from hk_tick_collector.sources.sierra.depthfiles import DepthKeeper

log = logging.getLogger(__name__)

EXIT_OK = 0
EXIT_FAILED = 1
FEED_STOP_TIMEOUT_SEC = 2.0
LOOP_BEAT_SEC = 1.0
SNAPSHOT_QUEUE_ROWS = 1000  # a snapshot may have 100 kB
RESCUE_TIMEOUT_SEC = 20.0  # for a step of the end that needs the disk

T = TypeVar("T")


class Daemon:
    """One run of the recorder. Create it inside the loop, after the data root's lock was taken."""

    def __init__(self, settings: Settings, reload_settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._symbols = tuple(settings.symbols)
        self._reload_settings = reload_settings
        self._loop = asyncio.get_running_loop()
        self._clock = SystemClock()
        self._progress = Progress()
        self._calendar = TradingCalendar(market_of(settings.market))
        self._stop_asked = asyncio.Event()
        self._signals = 0
        self._fatal: str | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._round_log = RateLimitedLog(log, period_sec=60)

        self._books = BookLanes(settings, self._progress, self._calendar, self._clock)
        self._source = open_source(
            settings,
            Surroundings(
                self._clock,
                RecordedDays(settings.data_root, settings.seed_recent_db_days),
                lambda: _depth_keeper(settings.data_root),
                self._books.books,
                self._books.brokers,
                lambda day: copied_series(settings.data_root, day),
            ),
        )
        self._continuity = completeness_of(settings.spec, self._put_facts)
        self._lane = self._make_lane()
        self._feed = self._make_feed()
        self._progress.feed.source = settings.spec.title
        self._progress.feed.noun = settings.spec.kind.noun
        self._progress.feed.shows_whole_day = settings.spec.evidence is EvidenceLevel.RUNNING_TOTAL
        waiting = Waiting()
        self._judge = Judge(
            self._progress,
            self._calendar,
            self._clock,
            settings.drift_warn_sec,
            settings.watchdog_stall_sec,
            waiting,
        )
        self._reporter = Reporter(self._progress, self._backlog, self._calendar, self._clock, self._judge)
        snapshots = Snapshots(self._progress, self._backlog, self._clock)
        watchdog_options = options_of(WatchdogOptions, settings)
        self._watchdog = Watchdog(watchdog_options, snapshots, self._recover, self._give_up, self._clock)
        self._service = Service(self._progress, self._backlog, self._clock, self._judge, waiting)
        self._status_file = self._make_status_file()
        self._losses = LossWatch(
            self._progress.ingest, lambda: self._lane.spill_due, self._read_tracks, self._resync, self._today
        )
        self._closing = ClosingReader(settings.data_root, self._calendar, self._clock, self._put_facts)
        self._silence = self._make_silence_watch()
        self._restarts = self._make_restart_reader()
        self._worker_task: asyncio.Task[None] | None = None
        self._metrics = self._make_metrics()

    def _make_lane(self) -> Lane[Any]:
        """Of what the source brings: ticks, or snapshots."""
        kind, max_queue_rows = self._settings.spec.kind, self._settings.max_queue_rows
        return Lane(
            kind,
            self._settings.data_root,
            self._make_writer if kind is TICKS else self._make_snapshot_writer,
            options_of(WorkerOptions, self._settings),
            max_queue_rows if kind is TICKS else min(max_queue_rows, SNAPSHOT_QUEUE_ROWS),
            self._calendar.market.trading_day,
            self._progress.ingest,
            self._clock,
            self._continuity.tell_left_over,
        )

    def _make_feed(self) -> FeedSession:
        return FeedSession(
            options_of(FeedOptions, self._settings),
            self._source,
            self._lane.put_patiently,
            self._lane.put,
            self._lane.put_rejected,
            self._continuity,
            self._calendar,
            self._progress.feed,
            self._clock,
            self._put_facts,
            lambda: self._lane.waiting_rows,
            self._books.keepers,
        )

    def _make_status_file(self) -> StatusFile:
        return StatusFile(
            layout.status_file(self._settings.data_root),
            layout.replace_file,
            self._progress,
            self._backlog,
            self._judge.complaints,
            self._calendar,
            self._clock,
            __version__,
        )

    def _make_silence_watch(self) -> SilenceWatch:
        return SilenceWatch(
            options_of(SilenceOptions, self._settings),
            self._progress.feed,
            self._judge,
            self._source.alive,
            self._calendar,
            self._clock,
            self._feed.request_rebuild,
        )

    def _make_restart_reader(self) -> RestartReader | None:
        directory = self._settings.restarts_dir or restarts_dir_of(os.environ)
        if directory is None:
            return None
        data_root, feed = self._settings.data_root, self._progress.feed
        return RestartReader(directory, data_root, feed, self._clock, self._feed.restart)

    async def run(self) -> int:
        """Record until told to stop or a task fails. Returns the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._on_signal, number)
        self._loop.add_signal_handler(signal.SIGHUP, self._on_reload)
        if not await self._opened():
            return EXIT_OK
        self._worker_task = self._start_task("persist_worker", self._lane.run())
        self._books.start()
        feed_task = self._start_task("feed", self._feed.run())
        reports = [self._start_task(name, self._every(name, sec, call)) for name, sec, call in self._rounds()]
        self._beat()
        self._watchdog.start()
        self._service.ready()
        self._loop.call_soon(self._write_status)
        try:
            await self._stop_asked.wait()
        finally:
            self._service.stopping()
            await self._stop([feed_task], reports)
        return EXIT_OK if self._fatal is None else EXIT_FAILED

    def fatal(self, reason: str) -> None:
        """Give up: stop in order and exit 1. The first reason is kept."""
        if self._fatal is None:
            self._fatal = reason
            log.error(event("fatal", reason=reason, action="storing or spilling everything, then exit 1"))
        self._stop_asked.set()

    async def _opened(self) -> bool:
        """What the disk holds is known, however long it takes to answer. False: told to stop before."""
        opening = asyncio.create_task(self._open(), name="open")
        stop = asyncio.create_task(self._stop_asked.wait())
        await asyncio.wait({opening, stop}, return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not opening.done():
            opening.cancel()
            log.info(event("recorder_stopped", exit_code=EXIT_OK, reason="asked to stop while waiting for the disk"))
            return False
        opening.result()
        return True

    async def _open(self) -> None:
        patience = Patience()
        while True:
            try:
                await in_thread("spill_open", self._lane.open)
                break
            except StoreError as exc:
                await asyncio.sleep(patience.next_sec(exc))
        known = await self._losses.seed()
        self._continuity.seed(known, self._symbols, self._losses.unknown_days)
        log.info(
            event(
                "recorder_started",
                version=__version__,
                pid=os.getpid(),
                symbols=len(self._settings.symbols),
                data_root=self._settings.data_root,
                seeded_symbols=sum(past.is_wanted for past in known.values()),
                spill_rows=self._lane.spill_rows,
            )
        )

    def _read_tracks(self, unread: list[Path]) -> dict[str, StoredTrack]:
        settings = self._settings
        return stored_tracks(settings.data_root, self._symbols, settings.seed_recent_db_days, self._today(), unread)

    def _today(self) -> str:
        return self._calendar.market.trading_day(self._clock.now_ms())

    def _resync(self, known: dict[str, StoredTrack]) -> None:
        self._continuity.resync(known, self._losses.unknown_days)
        self._feed.request_backfill()

    def _rounds(self) -> list[tuple[str, float, Callable[[], object]]]:
        settings = self._settings
        return [
            ("health", settings.health_interval_sec, self._reporter.health),
            ("persist_summary", settings.persist_summary_interval_sec, self._reporter.persist_summary),
            ("service", self._service.interval_sec, self._service.beat),
            ("status_file", STATUS_INTERVAL_SEC, self._write_status),
            ("feed_watch", settings.check_interval_sec, self._silence.check),
            ("loss_watch", settings.check_interval_sec, self._losses.check),
            ("closing_reader", CHECK_SEC, self._closing.check),
            *((("restarts", RESTARTS_CHECK_SEC, self._restarts.check),) if self._restarts is not None else ()),
            *((("books", settings.health_interval_sec, self._reporter.books),) if self._books.keepers else ()),
            ("books_watch", settings.check_interval_sec, self._books.check),
            ("heartbeat", settings.persist_heartbeat_interval_sec, self._reporter.heartbeat),
        ]

    def _start_task(self, name: str, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """All long tasks are born here: one that ends before stop was asked ends the daemon, in order."""
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(self._on_task_done)
        return task

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (self._stop_asked.is_set() and task.exception() is None):
            return
        error = task.exception()
        if self._signals > 1 and isinstance(error, StoreError):
            return  # the second signal ended the waiting; what it waited with goes to the spill
        if error is not None:
            log.error(event("task_failed", task=task.get_name(), error=repr(error)), exc_info=error)
        self.fatal(f"task {task.get_name()} ended: {error!r}")

    async def _every(self, name: str, interval_sec: float, call: Callable[[], object]) -> None:
        while True:
            await asyncio.sleep(interval_sec)
            try:
                result = call()
                if isinstance(result, Awaitable):
                    await result
            except Exception:  # noqa: BLE001 (edge: a line that cannot be written must not end the recording)
                self._round_log.log(logging.ERROR, "round_failed", key=name, name=name, exc_info=True)

    def _beat(self) -> None:
        self._progress.loop_beat_monotonic = self._clock.monotonic()
        # Several beats in the time after which the watchdog calls the loop stuck.
        self._loop.call_later(min(LOOP_BEAT_SEC, self._settings.watchdog_stall_sec / 4), self._beat)

    def _on_signal(self, number: int) -> None:
        self._signals += 1
        log.info(event("signal", name=signal.Signals(number).name, count=self._signals))
        self._stop_asked.set()
        if self._signals > 1:
            self._lane.hurry()

    async def _stop(self, feed_tasks: list[asyncio.Task[None]], reports: list[asyncio.Task[None]]) -> None:
        self._feed.stop()
        await self._wait_ended(feed_tasks, FEED_STOP_TIMEOUT_SEC)
        self._watchdog.stop()
        await self._flush()
        try:
            await self._lane.close()
        except StoreError as exc:
            log.error(
                event("close_failed", error=str(exc), action="committed rows are safe; WAL is read at next start")
            )
        await self._stop_books()
        for task in reports:
            task.cancel()
        self._reporter.health(stopping=self._why_stopping)
        log.info(
            event(
                "recorder_stopped",
                exit_code=EXIT_OK if self._fatal is None else EXIT_FAILED,
                reason=self._why_stopping,
                persisted_rows=self._progress.ingest.persisted_rows,
                spill_rows=self._lane.spill_rows,
            )
        )
        await self._aside("spill_close", self._lane.close_spill)
        await self._status_file.close(self._why_stopping)
        if self._metrics is not None:
            await self._aside("metrics_close", self._metrics.close)

    async def _stop_books(self) -> None:
        """After the ticks: no tick waits for a book, also at the end."""
        if self._books.keepers:
            await self._aside("books_close", self._books.stop)

    async def _flush(self) -> None:
        """Drain queue and spill into the day files; what cannot be committed in time goes to the spill file."""
        assert self._worker_task is not None
        self._lane.flush()
        await self._wait_ended([self._worker_task], self._settings.stop_flush_timeout_sec)
        left = self._lane.queue_rows + self._lane.in_hand_rows
        rows = await self._aside("rescue", self._lane.rescue)
        if left:
            log.warning(event("stop_spilled", rows=rows or 0, action="they are stored at the next start"))

    async def _aside(self, name: str, call: Callable[[], T]) -> T | None:
        """A step of the stop that needs the disk, on a thread of its own; None when the disk hangs for too long."""
        try:
            async with asyncio.timeout(RESCUE_TIMEOUT_SEC):
                return await in_thread(name, call)
        except TimeoutError:
            log.error(event("stop_hangs", step=name, after_sec=RESCUE_TIMEOUT_SEC, action="going on without it"))
            return None

    async def _wait_ended(self, tasks: list[asyncio.Task[None]], timeout_sec: float) -> None:
        _, running = await asyncio.wait(tasks, timeout=timeout_sec)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=1.0)

    def _make_writer(self) -> DayFileWriter:
        settings = self._settings
        origin = Origin(settings.market, settings.source)
        return DayFileWriter(settings.data_root, settings.sqlite, self._clock, origin, settings.spec.evidence)

    def _make_snapshot_writer(self) -> SnapshotWriter:
        settings = self._settings
        return SnapshotWriter(settings.data_root, settings.sqlite, self._clock.now_ms)

    def _make_metrics(self) -> MetricsServer | None:
        """The endpoint if it is wanted."""
        settings = self._settings
        if not settings.metrics_port:
            return None
        # Imported here: prometheus-client is an extra, and nobody who does without the endpoint needs it.
        from hk_tick_collector.health.metrics import MetricSources, MetricsServer  # noqa: PLC0415

        sources = MetricSources(
            progress=self._progress,
            backlog=self._backlog,
            complaints=self._judge.complaints,
            calendar=self._calendar,
            clock=self._clock,
            data_root=settings.data_root,
            version=__version__,
            queue_limit_rows=settings.max_queue_rows,
            symbol_rows=self._continuity.pushed_rows if settings.metrics_per_symbol else None,
        )
        return MetricsServer(sources, settings.metrics_host, settings.metrics_port)

    def _put_facts(self, facts: Sequence[Fact | DayFact]) -> None:
        self._lane.put_facts(facts)

    def _backlog(self) -> Backlog:
        return Backlog(
            queue_rows=self._lane.queue_rows,
            in_hand_rows=self._lane.in_hand_rows,
            spill_rows=self._lane.spill_rows,
            open_holes=len(self._continuity.holes()),
            wal_bytes=self._lane.wal_bytes,
            worker_dead=not self._lane.is_running and not self._stop_asked.is_set(),
        )

    @property
    def _why_stopping(self) -> str:
        return self._fatal or "asked to stop"

    def _write_status(self) -> None:
        self._status_file.write(self._why_stopping if self._stop_asked.is_set() else None)

    def _on_reload(self) -> None:
        """SIGHUP: the symbol list is read again; every other setting needs a restart."""
        self._service.reloading()
        if self._reloading is None:
            self._reloading = asyncio.create_task(self._reload(), name="reload")
        else:
            self._reload_again = True  # what is being read may be older than what the operator means

    async def _reload(self) -> None:
        """The file is read aside: it may lie on a disk that hangs."""
        while True:
            self._reload_again = False
            try:
                settings = await in_thread("reload", self._reload_settings)
                symbols = settings.symbols
                added = not set(symbols).issubset(self._symbols)
                self._symbols = tuple(symbols)
                if added:  # an earlier process may have recorded them today
                    known = await self._losses.seed_more()
                    self._continuity.seed_new(known, self._losses.unknown_days)
            except Exception as exc:  # noqa: BLE001 (edge: whatever a file held, the old list is good)
                log.error(
                    event("reload_failed", error=str(exc), action="the old symbol list stays; correct it, reload again")
                )
            else:
                action = "list of symbols only; restart for other settings"
                books = len(settings.book_symbols) if self._books.keepers else None
                log.info(event("reloaded", symbols=len(symbols), books=books, action=action))
                self._feed.set_symbols(symbols)
                self._books.set_symbols(settings.book_symbols)
            if not self._reload_again:
                break
        self._reloading = None
        self._service.ready()

    def _recover(self, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._lane.request_writer_recovery, reason)

    def _give_up(self, reason: str) -> None:
        """On the watchdog's thread. A living loop stops in order; for a stuck one everything is saved from here."""
        self._loop.call_soon_threadsafe(self.fatal, f"WATCHDOG persistent_stall: {reason}")
        if self._clock.monotonic() - self._progress.loop_beat_monotonic < self._settings.watchdog_stall_sec:
            return
        saved: list[int] = []

        def save() -> None:
            saved.append(self._lane.rescue())
            self._lane.close_spill()

        # Aside: a disk that hangs may be the reason, and this thread must end the process all the same.
        saving = threading.Thread(target=save, name="rescue", daemon=True)
        saving.start()
        saving.join(RESCUE_TIMEOUT_SEC)
        rows = saved[0] if saved else 0
        log.error(event("loop_stuck_exit", spilled_rows=rows, hangs=saving.is_alive(), exit_code=EXIT_FAILED))
        os._exit(EXIT_FAILED)


def _depth_keeper(data_root: Path) -> DepthKeeper:
    from hk_tick_collector.imports.depth import DepthKeeper  # noqa: PLC0415 - most sources have no such files

    return DepthKeeper(data_root)

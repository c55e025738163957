"""The daemon's order of start and stop, and its ways to end, with a feed that a test has in hand. All else is real."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.app import daemon as daemon_module
from hk_tick_collector.app.books import SWITCH_INTERVAL_SEC
from hk_tick_collector.app.config import Settings, load_settings
from hk_tick_collector.app.daemon import EXIT_FAILED, EXIT_OK, Daemon
from hk_tick_collector.core.errors import ConfigError, StoreUnavailable
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.worker import PersistWorker
from hk_tick_collector.sources.futu import sdk
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import prepare_data_root
from hk_tick_collector.store.read_only import open_read_only as really_open
from hk_tick_collector.store.tracks import stored_tracks
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY, make_ticks


class FakeFeed:
    """Stands for ``FeedSession``: runs until stopped, and keeps what it was asked."""

    made: FakeFeed

    def __init__(self, options: Any, source: Any, sink: Any, pull_sink: Any, rejects: Any, *others: Any) -> None:
        self.put, self.put_pulled = sink, pull_sink
        self.asked: list[str] = []
        self.symbols: tuple[str, ...] = options.symbols
        self._stop = asyncio.Event()
        self.fail: Exception | None = None
        self.started = asyncio.Event()
        FakeFeed.made = self

    async def run(self) -> None:
        self.started.set()
        await self._stop.wait()
        if self.fail is not None:
            raise self.fail

    def stop(self) -> None:
        self.asked.append("stop")
        self._stop.set()

    def end(self, error: Exception | None) -> None:
        self.fail = error
        self._stop.set()

    def set_symbols(self, symbols: tuple[str, ...]) -> None:
        self.symbols = symbols

    def request_backfill(self) -> None:
        self.asked.append("backfill")

    def request_rebuild(self, reason: str) -> None:
        self.asked.append(f"rebuild {reason}")


class Run:
    """A daemon on a data root of its own."""

    def __init__(self, root: Path, **settings: object) -> None:
        self.root = prepare_data_root(root)
        self.env = {
            "FUTU_SYMBOLS": "HK.00700",
            "DATA_ROOT": str(root),
            "CHECK_INTERVAL_SEC": "0.05",
            "STOP_FLUSH_TIMEOUT_SEC": "20",
            "PERSIST_RETRY_BACKOFF_SEC": "0.01",
            "SQLITE_BUSY_TIMEOUT_MS": "50",
            **{key: str(value) for key, value in settings.items()},
        }
        self.reloaded: Callable[[], Settings] = self.settings

    def settings(self) -> Settings:
        return load_settings(None, self.env)

    def play(self, scenario: Callable[[Run], Awaitable[None]], *, started: bool = True) -> int:
        """The exit code of a daemon while the scenario plays, to which it must come to an end."""

        async def go() -> int:
            self.daemon = Daemon(self.settings(), lambda: self.reloaded())  # noqa: PLW0108 - a test exchanges it
            self.feed = FakeFeed.made
            run = asyncio.create_task(self.daemon.run())
            if started:
                await asyncio.wait_for(self.feed.started.wait(), 60)
            try:
                await asyncio.wait_for(scenario(self), 60)
                return await asyncio.wait_for(asyncio.shield(run), 60)
            finally:
                self.daemon.fatal("the test ends")
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(run, 30)

        return asyncio.run(go())

    async def until(self, condition: Callable[[], object], awaited: str) -> None:
        for _ in range(6000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"not in time: {awaited}")

    @property
    def ingest(self) -> Any:
        return self.daemon._progress.ingest

    def stored(self) -> int:
        with contextlib.closing(sqlite3.connect(self.root / f"{DAY}.db")) as conn:
            return int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])

    def spilled(self) -> int:
        return SpillQueue(self.root).open()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        with contextlib.closing(sqlite3.connect(self.root / f"{DAY}.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "FeedSession", FakeFeed)
    monkeypatch.setattr(sdk, "configure", lambda key_file: None)
    monkeypatch.setattr(sdk, "network_thread_alive", lambda: True)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the service manager hears, less its sentences."""
    words: list[str] = []

    def notify(*states: str) -> bool:
        words.extend(
            word.partition("=")[0] for word in states if not word.startswith(("STATUS", "MONOTONIC", "WATCHDOG"))
        )
        return True

    monkeypatch.setattr("hk_tick_collector.app.service.notify", notify)
    return words


def stop(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def words(caplog: pytest.LogCaptureFixture, *wanted: str) -> list[str]:
    """The first words of the lines that are wanted, in order."""
    all_words = (record.getMessage().split()[0] for record in caplog.records)
    return [word for word in all_words if word in wanted]


def test_start_and_stop_in_order(tmp_path: Path, told: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    SpillQueue(tmp_path).append(make_ticks(1, 5))

    async def scenario(run: Run) -> None:
        run.feed.put(make_ticks(6, 20))
        stop()

    run = Run(tmp_path)
    assert run.play(scenario) == EXIT_OK
    assert told == ["READY", "STOPPING"]
    order = ("spill_recovered", "recorder_started", "signal", "health", "recorder_stopped")
    assert words(caplog, *order) == list(order)
    assert "stopping" in [r.getMessage() for r in caplog.records if r.getMessage().startswith("health")][-1]
    assert run.feed.asked == ["stop"]
    assert (run.stored(), run.spilled()) == (20, 0)
    assert not (tmp_path / f"{DAY}.db-wal").exists(), "the files are closed"
    assert '"stopped"' in (tmp_path / ".recorder.status.json").read_text()


def test_rows_come_to_the_files_only_after_what_they_hold_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed begins when the spill is open and the continuity is seeded, not before."""
    order: list[str] = []
    real = stored_tracks

    def noted_tracks(*arguments: Any) -> Any:
        order.append(f"tracks on {threading.current_thread().name}")
        return real(*arguments)

    monkeypatch.setattr(daemon_module, "stored_tracks", noted_tracks)
    monkeypatch.setattr(FakeFeed, "run", _noting(order, "feed", FakeFeed.run))
    monkeypatch.setattr(PersistWorker, "run", _noting(order, "worker", PersistWorker.run))

    async def scenario(run: Run) -> None:
        stop()

    assert Run(tmp_path).play(scenario) == EXIT_OK
    assert order == ["tracks on seed", "worker", "feed"]


def _noting(order: list[str], name: str, real: Any) -> Any:
    async def run(self: Any) -> None:
        order.append(name)
        await real(self)

    return run


def test_a_disk_that_does_not_answer_at_the_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, told: list[str]
) -> None:
    real, failures = SpillQueue.open, iter([1, 2])

    def stumbling(self: SpillQueue) -> int:
        if next(failures, None):
            raise StoreUnavailable("_spill: Stale file handle")
        return real(self)

    monkeypatch.setattr(SpillQueue, "open", stumbling)
    monkeypatch.setattr("hk_tick_collector.app.start.RETRY_MIN_SEC", 0.01)

    async def scenario(run: Run) -> None:
        run.feed.put(make_ticks(1, 3))
        stop()

    run = Run(tmp_path)
    assert run.play(scenario) == EXIT_OK
    assert "start_waits" in caplog.text
    assert run.stored() == 3


def test_a_stop_while_the_disk_hangs_at_the_start_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, release = threading.Event(), threading.Event()

    def hang(self: SpillQueue) -> int:
        reached.set()
        release.wait(60)
        return 0

    monkeypatch.setattr(SpillQueue, "open", hang)

    async def scenario(run: Run) -> None:
        await run.until(reached.is_set, "the spill is being opened")
        stop()

    try:
        assert Run(tmp_path).play(scenario, started=False) == EXIT_OK
        assert not FakeFeed.made.started.is_set()
    finally:
        release.set()


@pytest.mark.parametrize("error", [RuntimeError("a bug in the feed"), None], ids=["error", "end"])
def test_a_task_that_ends_by_itself_ends_the_daemon_in_order(
    tmp_path: Path, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(run: Run) -> None:
        run.feed.put(make_ticks(1, 7))
        run.feed.end(error)

    run = Run(tmp_path)
    assert run.play(scenario) == EXIT_FAILED
    assert "fatal reason=" in caplog.text
    assert "task feed ended" in caplog.text
    assert run.stored() == 7


def test_the_first_reason_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def scenario(run: Run) -> None:
        run.daemon.fatal("the first")
        run.daemon.fatal("the second")

    assert Run(tmp_path).play(scenario) == EXIT_FAILED
    assert "the first" in caplog.text
    assert "the second" not in caplog.text


def test_a_second_signal_cuts_the_waiting_short_and_never_the_spill(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file stays locked: the first signal would wait for STOP_FLUSH_TIMEOUT_SEC."""

    async def scenario(run: Run) -> None:
        run.feed.put(make_ticks(1, 1))
        await run.until(lambda: run.ingest.persisted_rows == 1, "the file")
        with run.locked():
            run.feed.put(make_ticks(2, 50))
            await run.until(lambda: run.ingest.busy_errors, "the lock")
            stop()
            await run.until(lambda: run.daemon._signals == 1, "the first signal")
            stop(signal.SIGINT)
            await run.until(lambda: "recorder_stopped" in caplog.text, "the end")

    caplog.set_level("INFO")
    run = Run(tmp_path, STOP_FLUSH_TIMEOUT_SEC=3600)
    assert run.play(scenario) == EXIT_OK
    assert "stop_spilled rows=49" in caplog.text
    assert (run.stored(), run.spilled()) == (1, 49)


def test_a_stop_with_a_disk_that_hangs_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon_module, "RESCUE_TIMEOUT_SEC", 0.2)
    release = threading.Event()
    monkeypatch.setattr(SpillQueue, "close", lambda self: release.wait(60))

    async def scenario(run: Run) -> None:
        stop()

    try:
        assert Run(tmp_path).play(scenario) == EXIT_OK
        assert "stop_hangs step=spill_close" in caplog.text
    finally:
        release.set()


def test_sighup_reads_the_symbols_aside_and_tells_when_it_is_done(tmp_path: Path, told: list[str]) -> None:
    threads: list[str] = []
    run = Run(tmp_path)

    def read() -> Settings:
        threads.append(threading.current_thread().name)
        return load_settings(None, {**run.env, "FUTU_SYMBOLS": "HK.00700,HK.00005"})

    run.reloaded = read

    async def scenario(run: Run) -> None:
        stop(signal.SIGHUP)
        await run.until(lambda: "RELOADING" in told and told[-1] == "READY", "the reload")
        assert run.feed.symbols == ("HK.00700", "HK.00005")
        stop()

    assert run.play(scenario) == EXIT_OK
    assert told == ["READY", "RELOADING", "READY", "STOPPING"]
    assert threads == ["reload"]


def test_sighup_reads_the_list_of_books_where_some_were_wanted(
    tmp_path: Path, told: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for wanted_at_first in ("HK.00700", ""):
        told.clear()
        run = Run(tmp_path / (wanted_at_first or "none"), BOOK_SYMBOLS=wanted_at_first)
        run.reloaded = partial(load_settings, None, {**run.env, "BOOK_SYMBOLS": "HK.00005,HK.00700"})

        async def scenario(run: Run) -> None:
            stop(signal.SIGHUP)
            await run.until(lambda: "RELOADING" in told and told[-1] == "READY", "the reload")
            stop()

        assert run.play(scenario) == EXIT_OK
        assert run.daemon._progress.books.wanted == (2 if wanted_at_first else 0)
    assert "books_need_a_restart symbols=2" in caplog.text


@pytest.mark.parametrize(("books", "switch_sec"), [("", 0.005), ("HK.00700", SWITCH_INTERVAL_SEC)])
def test_beside_books_threads_take_turns_more_often(
    tmp_path: Path, told: list[str], books: str, switch_sec: float
) -> None:
    """Ticks wait for whoever has the interpreter; who records no books pays for no turns."""
    seen_sec = []

    async def scenario(run: Run) -> None:
        seen_sec.append(sys.getswitchinterval())
        stop()

    before_sec = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        assert Run(tmp_path, BOOK_SYMBOLS=books).play(scenario) == EXIT_OK
        assert seen_sec == [pytest.approx(switch_sec)]
    finally:
        sys.setswitchinterval(before_sec)


def test_a_symbol_that_sighup_adds_goes_on_where_its_file_ends(tmp_path: Path, told: list[str]) -> None:
    """An earlier process recorded it today; the feed hears of it only when its file was read."""
    run = Run(tmp_path / "data", FUTU_SYMBOLS="HK.00005")
    writer = DayFileWriter(run.root, SqliteOptions())
    writer.write(make_ticks(1, 5))
    writer.close()
    run.reloaded = lambda: load_settings(None, {**run.env, "FUTU_SYMBOLS": "HK.00005,HK.00700"})
    known: list[int] = []

    async def scenario(run: Run) -> None:
        continuity = run.daemon._continuity
        heard = run.feed.set_symbols

        def set_symbols(symbols: tuple[str, ...]) -> None:
            known.append(continuity.ask("HK.00700", 1000, 0).newest_counter)
            heard(symbols)

        run.feed.set_symbols = set_symbols  # type: ignore[method-assign]
        stop(signal.SIGHUP)
        await run.until(lambda: "RELOADING" in told and told[-1] == "READY", "the reload")
        stop()

    assert run.play(scenario) == EXIT_OK
    assert run.feed.symbols == ("HK.00005", "HK.00700")
    assert known == [5]


def test_a_symbol_that_sighup_adds_follows_an_interruption_while_its_file_cannot_be_read(
    tmp_path: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failing = really_open, False
    monkeypatch.setattr(Daemon, "_today", lambda self: DAY)

    def open_read_only(path: Path, **named: Any) -> Any:
        if failing:
            raise StoreUnavailable(f"{path}: Stale file handle")
        return real(path, **named)

    monkeypatch.setattr("hk_tick_collector.store.tracks.open_read_only", open_read_only)
    run = Run(tmp_path / "data", FUTU_SYMBOLS="HK.00005")
    writer = DayFileWriter(run.root, SqliteOptions())
    writer.write(make_ticks(1, 5))
    writer.close()
    run.reloaded = lambda: load_settings(None, {**run.env, "FUTU_SYMBOLS": "HK.00005,HK.00700"})

    async def scenario(run: Run) -> None:
        nonlocal failing
        failing = True
        stop(signal.SIGHUP)
        await run.until(lambda: "RELOADING" in told and told[-1] == "READY", "the reload")
        run.daemon._continuity.tell_interruptions(make_ticks(6, 7))
        run.feed.put(make_ticks(6, 7))
        await run.until(lambda: run.ingest.persisted_rows == 2, "rows")
        stop()

    assert run.play(scenario) == EXIT_OK
    with contextlib.closing(sqlite3.connect(run.root / f"{DAY}.db")) as conn:
        assert conn.execute("SELECT interrupted_seq FROM coverage").fetchall() == [(make_ticks(5, 5)[0].seq,)]


@pytest.mark.parametrize(
    "error", [ConfigError("FUTU_SYMBOLS: US.AAPL is no HK code"), OSError(5, "Input/output error")]
)
def test_a_list_with_a_mistake_changes_nothing(
    tmp_path: Path, told: list[str], caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    run = Run(tmp_path)

    def read() -> Settings:
        raise error

    run.reloaded = read

    async def scenario(run: Run) -> None:
        stop(signal.SIGHUP)
        await run.until(lambda: told[-1] == "READY" and "RELOADING" in told, "the reload")
        assert run.feed.symbols == ("HK.00700",)
        run.reloaded = lambda: load_settings(None, {**run.env, "FUTU_SYMBOLS": "HK.00005"})
        stop(signal.SIGHUP)
        await run.until(lambda: run.feed.symbols == ("HK.00005",), "the list is right now")
        stop()

    assert run.play(scenario) == EXIT_OK
    assert "reload_failed" in caplog.text


def test_two_sighups_while_the_first_is_read_end_with_the_newest_list(tmp_path: Path, told: list[str]) -> None:
    reading, go_on = threading.Event(), threading.Event()
    run = Run(tmp_path)
    lists = iter(["HK.00001", "HK.00002"])

    def read() -> Settings:
        symbols = next(lists)
        reading.set()
        go_on.wait(60)
        return load_settings(None, {**run.env, "FUTU_SYMBOLS": symbols})

    run.reloaded = read

    async def scenario(run: Run) -> None:
        stop(signal.SIGHUP)
        await run.until(reading.is_set, "the first read")
        stop(signal.SIGHUP)
        await run.until(lambda: told.count("RELOADING") == 2, "the second signal")
        go_on.set()
        await run.until(lambda: run.feed.symbols == ("HK.00002",), "the newest list")
        await run.until(lambda: told[-1] == "READY", "the word")
        stop()

    assert run.play(scenario) == EXIT_OK


def test_refused_rows_are_asked_for_again_once_storing_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(run: Run) -> None:
        run.feed.put(make_ticks(1, 1))
        await run.until(lambda: run.ingest.persisted_rows == 1, "the file")
        with run.locked(), monkeypatch.context() as patch:
            patch.setattr(SpillQueue, "append", _refuse)
            for first in range(2, 300, 2):
                run.feed.put_pulled(make_ticks(first, first + 1))
            await run.until(lambda: run.ingest.refused_rows and run.ingest.busy_errors, "rows are refused")
            assert "backfill" not in run.feed.asked, "not while nothing can be stored"
        await run.until(lambda: "backfill" in run.feed.asked, "the request")
        assert run.ingest.refused_rows_settled == run.ingest.refused_rows
        stop()

    run = Run(tmp_path, MAX_QUEUE_SIZE=100, BATCH_SIZE=50)
    assert run.play(scenario) == EXIT_OK
    assert "resync refused_rows=" in caplog.text
    assert run.feed.asked.count("backfill") == 1


def _refuse(*_: object) -> None:
    raise StoreUnavailable("no space left on device")


def test_a_day_file_that_could_not_be_read_at_the_start_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failing = really_open, True

    def open_read_only(path: Path, **named: Any) -> Any:
        if failing:
            raise StoreUnavailable(f"{path}: Stale file handle")
        return real(path, **named)

    async def first(run: Run) -> None:
        run.feed.put(make_ticks(1, 5))
        await run.until(lambda: run.ingest.persisted_rows == 5, "rows")
        stop()

    async def scenario(run: Run) -> None:
        nonlocal failing
        run.feed.put(make_ticks(6, 9))
        await run.until(lambda: run.ingest.persisted_rows == 4, "rows")
        failing = False
        await run.until(lambda: "backfill" in run.feed.asked, "the files are read again")
        stop()

    assert Run(tmp_path).play(first) == EXIT_OK
    monkeypatch.setattr("hk_tick_collector.store.tracks.open_read_only", open_read_only)
    assert Run(tmp_path).play(scenario) == EXIT_OK


def test_what_a_blind_start_stores_follows_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the file could be read, it would look as if its rows went on from those in the file."""
    real, failing = really_open, False
    monkeypatch.setattr(Daemon, "_today", lambda self: DAY)

    def open_read_only(path: Path, **named: Any) -> Any:
        if failing:
            raise sqlite3.OperationalError("database is locked")
        return real(path, **named)

    def interrupted(run: Run) -> list[int | None]:
        with contextlib.closing(sqlite3.connect(run.root / f"{DAY}.db")) as conn:
            return [row[0] for row in conn.execute("SELECT interrupted_seq FROM coverage")]

    async def record(run: Run, first: int, last: int) -> None:
        rows = make_ticks(first, last)
        run.daemon._continuity.tell_interruptions(rows)
        run.feed.put(rows)
        await run.until(lambda: run.ingest.persisted_rows == len(rows), "rows")

    async def before(run: Run) -> None:
        await record(run, 1, 5)
        assert interrupted(run) == [None]
        stop()

    async def scenario(run: Run) -> None:
        nonlocal failing
        await record(run, 6, 9)
        assert interrupted(run) == [make_ticks(5, 5)[0].seq]
        failing = False
        await run.until(lambda: "backfill" in run.feed.asked, "the file is read")
        assert not run.daemon._losses.unknown_days
        assert run.daemon._continuity.wants_whole("HK.00700")
        stop()

    assert Run(tmp_path).play(before) == EXIT_OK
    failing = True
    monkeypatch.setattr("hk_tick_collector.store.tracks.open_read_only", open_read_only)
    assert Run(tmp_path).play(scenario) == EXIT_OK


def test_the_watchdog_gives_up_in_order_while_the_loop_lives(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module.os, "_exit", lambda code: pytest.fail("the loop lives"))

    async def scenario(run: Run) -> None:
        run.feed.put(make_ticks(1, 4))
        await asyncio.get_running_loop().run_in_executor(None, run.daemon._give_up, "rows wait")

    run = Run(tmp_path)
    assert run.play(scenario) == EXIT_FAILED
    assert "WATCHDOG persistent_stall: rows wait" in caplog.text
    assert run.stored() == 4


@pytest.mark.parametrize("hangs", [False, True], ids=["disk works", "disk hangs"])
def test_for_a_stuck_loop_everything_is_saved_and_the_process_ended_in_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: bool
) -> None:
    """The watchdog's thread itself must not wait for a disk that hangs."""
    codes: list[int] = []
    release = threading.Event()
    monkeypatch.setattr(daemon_module.os, "_exit", codes.append)
    monkeypatch.setattr(daemon_module, "RESCUE_TIMEOUT_SEC", 0.3 if hangs else 30)
    if hangs:
        monkeypatch.setattr(SpillQueue, "append", lambda *_: release.wait(60))

    async def scenario(run: Run) -> None:
        run.feed.put(make_ticks(1, 1))
        await run.until(lambda: run.ingest.persisted_rows == 1, "the file")
        with run.locked():
            run.feed.put(make_ticks(2, 30))
            await run.until(lambda: run.daemon._lane.in_hand_rows, "a batch in hand")
            saver = threading.Thread(target=run.daemon._give_up, args=("event loop is stuck",))
            run.daemon._progress.loop_beat_monotonic -= 3600
            saver.start()
            while saver.is_alive():  # the loop is stuck
                time.sleep(0.01)
            release.set()

    run = Run(tmp_path)
    run.play(scenario)
    assert codes == [EXIT_FAILED]
    assert f"loop_stuck_exit spilled_rows={0 if hangs else 29}" in caplog.text
    if not hangs:
        assert run.spilled() + run.stored() >= 30

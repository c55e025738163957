"""A batch is forgotten only after its commit: with real files, real locks, and a writer that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import RejectCode, StoreError
from hk_tick_collector.core.facts import Fact, Interrupted
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest.quarantine import Quarantine
from hk_tick_collector.ingest.queue import RecordQueue
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.worker import PersistWorker, WorkerOptions
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.records.tick import RejectedTick, Tick, seq_counter
from hk_tick_collector.store import reader
from hk_tick_collector.store import writer as writer_module
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import prepare_data_root
from hk_tick_collector.store.open_day import OpenDay
from hk_tick_collector.store.open_files import OpenFiles
from hk_tick_collector.store.write_result import WriteResult
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY, make_tick, make_ticks


class Bench:
    """A worker with its surroundings, on a real data root."""

    def __init__(
        self,
        root: Path,
        make_writer: Callable[[], DayFileWriter] | None = None,
        batch_rows: int = 50,
        queue_rows: int = 1000,
    ) -> None:
        self.root = prepare_data_root(root)
        self.progress = IngestProgress()
        self.spill = SpillQueue(self.root)
        self.spill.open()
        clock = SystemClock()
        self.quarantine = Quarantine(self.root, self.progress, hk_date)
        loop = asyncio.get_running_loop()
        self.queue = RecordQueue(
            queue_rows, self.spill, self.progress, lambda: loop.call_soon_threadsafe(self.worker.wake) and None
        )
        options = WorkerOptions(batch_rows=batch_rows, max_wait_sec=1.0, retry_min_sec=0.01, retry_max_sec=0.05)
        self.worker = PersistWorker(
            self.queue,
            self.spill,
            self.quarantine,
            make_writer or self.writer,
            options,
            self.progress,
            clock,
            self._left_over,
        )
        self.on_left_over: Callable[[Sequence[Tick]], None] = lambda _: None
        self.task = asyncio.create_task(self.worker.run())

    def writer(self) -> DayFileWriter:
        return DayFileWriter(self.root, SqliteOptions(busy_timeout_ms=20))

    def _left_over(self, rows: Sequence[Tick]) -> None:
        self.on_left_over(rows)

    async def until(self, condition: Callable[[], object], awaited: str) -> None:
        for _ in range(2000):
            if condition():
                return
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.005)
        raise AssertionError(f"not in time: {awaited}; {self.progress}")

    async def finish(self) -> None:
        self.worker.flush()
        await asyncio.wait_for(self.task, 60)
        await self.worker.close()

    def stored(self, day: str = DAY) -> int:
        with contextlib.closing(sqlite3.connect(self.root / f"{day}.db")) as conn:
            return int(conn.execute("SELECT COUNT(*) FROM ticks").fetchone()[0])


def run(test: Callable[[Bench], Awaitable[None]], root: Path, **bench: object) -> None:
    async def go() -> None:
        await test(Bench(root, **bench))  # type: ignore[arg-type]

    asyncio.run(go())


def test_rows_are_committed_at_once_without_waiting_for_a_full_batch(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.queue.put(make_ticks(1, 3))
        await bench.until(lambda: bench.progress.persisted_rows == 3, "3 rows")
        bench.queue.put(make_ticks(1, 5))
        await bench.until(lambda: bench.progress.persisted_rows == 5, "5 rows")
        assert bench.progress.ignored_rows == 3
        await bench.finish()
        assert bench.stored() == 5

    run(scenario, tmp_path / "data")


def test_flush_stores_queue_and_spill(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        bench.spill.append(make_ticks(1, 700))
        for first in range(701, 1701, 100):
            bench.queue.put(make_ticks(first, first + 99))
        await bench.finish()
        assert bench.stored() == 1700
        assert bench.spill.rows == 0

    run(scenario, tmp_path / "data")


def test_a_locked_file_delays_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(bench: Bench) -> None:
        bench.queue.put(make_ticks(1, 10))
        await bench.until(lambda: bench.progress.persisted_rows == 10, "first rows")
        with contextlib.closing(sqlite3.connect(bench.root / f"{DAY}.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for first in range(11, 2011, 100):
                bench.queue.put(make_ticks(first, first + 99))
            await bench.until(lambda: bench.progress.busy_errors >= 3, "three busy errors")
            assert bench.spill.rows, "the queue of 1000 rows overflowed to disk"
            assert bench.queue.rows + bench.worker.in_hand_rows + bench.spill.rows == 2000
            other.execute("ROLLBACK")
        await bench.until(lambda: bench.progress.persisted_rows == 2010, "all rows")
        await bench.finish()
        assert bench.stored() == 2010

    run(scenario, tmp_path / "data")
    assert "sqlite_busy_backoff" in caplog.text


def test_poison_rows_are_quarantined_and_the_others_stored(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        ticks = make_ticks(1, 100, volume=100)
        ticks[17] = make_tick(18, volume=2**70)
        ticks[60] = make_tick(61, symbol=None)  # type: ignore[arg-type]
        bench.queue.put(ticks)
        await bench.finish()
        assert bench.stored() == 98
        assert bench.progress.quarantined_rows == 2

    run(scenario, tmp_path / "data", batch_rows=100)
    (line_file,) = (tmp_path / "data" / "_quarantine").glob("*.jsonl")
    assert len(line_file.read_text().splitlines()) == 2


def test_a_refused_row_is_on_disk_before_it_leaves_the_spill(tmp_path: Path) -> None:
    """A kill -9 between the two would lose the last copy."""
    root = tmp_path / "data"
    on_disk_at_ack: list[int] = []

    async def scenario(bench: Bench) -> None:
        ack = bench.spill.ack

        def looked_at(*arguments: object) -> object:
            files = list((root / "_quarantine").glob("*.jsonl"))
            on_disk_at_ack.append(sum(len(path.read_text().splitlines()) for path in files))
            return ack(*arguments)

        bench.spill.ack = looked_at  # type: ignore[method-assign, assignment]
        ticks = make_ticks(1, 20, volume=100)
        ticks[7] = make_tick(8, trading_day="20261399")  # a day that no file is named after
        bench.spill.append(ticks)
        bench.worker.wake()
        await bench.until(lambda: not bench.spill.rows, "the spill drained")
        await bench.finish()
        assert bench.stored() == 19

    run(scenario, root)
    assert on_disk_at_ack[0] == 1


def test_a_corrupt_day_file_is_set_aside_and_recording_goes_on(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / f"{DAY}.db").write_bytes(b"this is no database" * 500)

    async def scenario(bench: Bench) -> None:
        bench.queue.put(make_ticks(1, 20))
        await bench.finish()
        assert bench.stored() == 20

    run(scenario, tmp_path / "data")
    (aside,) = (tmp_path / "data").glob(f"{DAY}.db.corrupt-*")
    assert aside.read_bytes().startswith(b"this is no database")


class HangingWriter(DayFileWriter):
    """Hangs in its first write until released, as a dead network disk does; interrupt does not reach it."""

    release = threading.Event()
    hung = 0

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact] = ()) -> WriteResult:
        if HangingWriter.hung == 0:
            HangingWriter.hung += 1
            HangingWriter.release.wait(20)
        return super().write(ticks, facts)


def test_a_hanging_writer_is_replaced_with_a_full_queue_and_nothing_is_lost(tmp_path: Path) -> None:
    HangingWriter.hung, HangingWriter.release = 0, threading.Event()

    async def scenario(bench: Bench) -> None:
        for first in range(1, 1501, 100):
            bench.queue.put(make_ticks(first, first + 99))
        await bench.until(lambda: HangingWriter.hung == 1, "the writer hangs")
        bench.worker.request_writer_recovery("test")
        await bench.until(lambda: bench.progress.persisted_rows == 1500, "everything through the new writer")
        HangingWriter.release.set()
        await bench.finish()
        assert bench.stored() == 1500
        assert bench.progress.recoveries == 1

    root = tmp_path / "data"
    run(scenario, root, make_writer=lambda: HangingWriter(root))


def test_what_cannot_be_committed_in_time_is_spilled_and_stored_at_the_next_start(tmp_path: Path) -> None:
    root = tmp_path / "data"

    async def locked(bench: Bench) -> None:
        bench.queue.put(make_ticks(1, 1))
        await bench.until(lambda: bench.progress.persisted_rows == 1, "the file")
        with contextlib.closing(sqlite3.connect(root / f"{DAY}.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            bench.queue.put(make_ticks(2, 300))
            await bench.until(lambda: bench.worker.in_hand_rows, "a batch in hand")
            bench.worker.flush()
            bench.worker.hurry()
            with pytest.raises(StoreError):
                await asyncio.wait_for(bench.task, 60)
            assert bench.worker.rescue() == 299
            other.execute("ROLLBACK")
        bench.spill.close()

    async def next_start(bench: Bench) -> None:
        await bench.until(lambda: bench.spill.rows == 0, "the spill drained")
        await bench.finish()
        assert bench.stored() == 300

    run(locked, root)
    run(next_start, root)


def test_a_quarantine_that_cannot_be_written_waits_without_spinning_and_holds_up_no_stop(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that refuses the quarantine file must not keep the worker busy, nor alive when it is to end."""
    root = tmp_path / "data"

    async def scenario(bench: Bench) -> None:
        (root / "_quarantine").rmdir()
        (root / "_quarantine").write_text("a file in the way")
        rounds = 0
        flush = bench.quarantine.flush

        def counted() -> None:
            nonlocal rounds
            rounds += 1
            flush()

        bench.quarantine.flush = counted  # type: ignore[method-assign]
        bench.quarantine.add([RejectedTick("HK.00700", "unreadable", {}, 1, RejectCode.TIME)])
        bench.queue.put(make_ticks(1, 10))
        await bench.until(lambda: rounds and bench.progress.persisted_rows == 10, "a vain flush, and the rows")
        bench.queue.put(make_ticks(11, 30))
        await bench.until(lambda: bench.progress.persisted_rows == 30, "more rows")
        assert rounds == 1
        await bench.finish()
        assert bench.stored() == 30

    run(scenario, root)
    assert "quarantine_unwritable" in caplog.text


def test_a_writer_replaced_while_the_spill_is_read_does_not_end_the_worker(tmp_path: Path) -> None:
    root = tmp_path / "data"

    async def scenario(bench: Bench) -> None:
        reading, go_on = threading.Event(), threading.Event()
        peek = bench.spill.peek

        def slow_once(max_rows: int) -> list[Tick]:
            if not reading.is_set():
                reading.set()
                go_on.wait(20)
            return peek(max_rows)

        bench.spill.peek = slow_once  # type: ignore[method-assign]
        bench.spill.append(make_ticks(1, 300))
        bench.worker.wake()
        await bench.until(reading.is_set, "the spill is being read")
        bench.worker.request_writer_recovery("test")
        await bench.until(lambda: bench.progress.persisted_rows == 300, "the spill through the new writer")
        go_on.set()
        await bench.finish()
        assert bench.stored() == 300

    run(scenario, root)


def test_a_row_that_our_own_code_fails_on_is_quarantined_and_the_others_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "data"
    ticks = make_ticks(1, 100)
    real = writer_module.store_rows

    def store_rows(conn: sqlite3.Connection, coverage: object, rows: Sequence[Tick], *more: object) -> object:
        if any(tick.seq == ticks[41].seq for tick in rows):
            raise ZeroDivisionError("a bug that this row alone meets")
        return real(conn, coverage, rows, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(writer_module, "store_rows", store_rows)

    async def scenario(bench: Bench) -> None:
        bench.queue.put([ticks[41]])  # alone in its batch: only the company of others shows that it is the faulty one
        await bench.until(lambda: bench.progress.write_errors >= 2, "the fault")
        bench.queue.put(ticks)
        await bench.until(lambda: bench.progress.persisted_rows == 99, "the others")
        await bench.finish()
        assert bench.progress.quarantined_rows == 2, "the row came twice"

    run(scenario, root, batch_rows=100)
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    (line_file,) = (root / "_quarantine").glob("*.jsonl")
    assert "a bug that this row alone meets" in line_file.read_text()


@pytest.mark.parametrize(
    "fault",
    [
        ZeroDivisionError("a bug that every row meets"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ESTALE, "Stale file handle"),
        PermissionError(errno.EACCES, "Permission denied"),
        OSError(errno.EMFILE, "Too many open files"),
        MemoryError(),
    ],
    ids=lambda fault: type(fault).__name__ if not isinstance(fault, OSError) else errno.errorcode[fault.errno or 0],
)
def test_a_fault_that_every_row_meets_is_waited_for_and_costs_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    root = tmp_path / "data"
    real = OpenFiles.begin
    faulty = True

    def begin(self: OpenFiles, day: str, path: Path) -> OpenDay:
        if faulty:
            raise fault
        return real(self, day, path)

    monkeypatch.setattr(OpenFiles, "begin", begin)

    async def scenario(bench: Bench) -> None:
        nonlocal faulty
        bench.queue.put(make_ticks(1, 120))
        await bench.until(lambda: bench.progress.write_errors >= 8, "several attempts")
        faulty = False
        await bench.until(lambda: bench.progress.persisted_rows == 120, "all rows")
        await bench.finish()
        assert (bench.stored(), bench.progress.quarantined_rows, bench.progress.files_set_aside) == (120, 0, 0)

    run(scenario, root)


def test_spilled_rows_leave_the_disk_only_after_their_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever dies between finds them again: at the moment before each commit, all rows are in the spill on disk."""
    root = tmp_path / "data"
    committed: list[int] = []
    real = DayFileWriter.write

    def write(self: DayFileWriter, ticks: Sequence[Tick], facts: Sequence[Fact] = ()) -> WriteResult:
        copy = tmp_path / f"copy{len(committed)}"
        shutil.copytree(root / "_spill", copy / "_spill")
        left = SpillQueue(copy)
        left.open()
        rows_written: set[Tick] = set()
        while rows := left.peek(10_000):
            rows_written.update(rows)
            left.ack()
        assert rows_written.issuperset(ticks), "a death now would lose them"
        result = real(self, ticks, facts)
        committed.append(len(ticks))
        return result

    async def scenario(bench: Bench) -> None:
        for first in range(1, 2001, 500):
            bench.spill.append(make_ticks(first, first + 499))
        monkeypatch.setattr(DayFileWriter, "write", write)
        bench.worker.wake()
        await bench.until(lambda: bench.progress.unspilled_rows == 2000, "the spill is drained")
        await bench.finish()
        assert bench.stored() == 2000
        assert len(committed) >= 2
        assert not list((root / "_spill").iterdir())

    run(scenario, root)


def left_in_the_spill(bench: Bench, rows: Sequence[Tick]) -> None:
    """By an earlier process."""
    earlier = SpillQueue(bench.root)
    earlier.open()
    earlier.append(rows)
    earlier.close()
    bench.spill.open()


def test_rows_of_the_spill_are_told_from_those_that_an_earlier_process_left(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        told: list[int] = []
        bench.on_left_over = lambda rows: told.extend(seq_counter(row.seq or 0) for row in rows)
        left_in_the_spill(bench, make_ticks(1, 3))
        bench.spill.append(make_ticks(4, 6))
        await bench.until(lambda: bench.progress.persisted_rows == 6, "all rows of the spill")
        assert told == [1, 2, 3]
        await bench.finish()

    run(scenario, tmp_path / "data")


def test_what_is_to_be_known_of_spilled_rows_is_stored_with_them(tmp_path: Path) -> None:
    """That an interruption lies before them must not come after a kill."""

    async def scenario(bench: Bench) -> None:
        first = make_tick(1)
        told = Interrupted(first.symbol, DAY, first.seq or 0)
        bench.queue.put([first])
        await bench.until(lambda: bench.progress.persisted_rows == 1, "a row")
        bench.on_left_over = lambda rows: bench.queue.put_facts([told])
        left_in_the_spill(bench, make_ticks(2, 3))
        write, seen = DayFileWriter.write, []

        def watched(writer: DayFileWriter, ticks: Sequence[Tick], facts: Sequence[Fact] = ()) -> WriteResult:
            seen.append((len(ticks), list(facts)))
            return write(writer, ticks, facts)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DayFileWriter, "write", watched)
            await bench.until(lambda: bench.progress.persisted_rows == 3, "the spilled rows")
        assert seen[0] == (2, [told])
        await bench.finish()
        assert [row.interrupted_seq for row in reader.coverage(bench.root / f"{DAY}.db")] == [first.seq]

    run(scenario, tmp_path / "data")

"""A second kind of record, quotes, in a lane of its own beside the ticks', without a line of the ticks' code.

What a new kind needs: its NamedTuple, its ``RecordKind``, and a writer for its files.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hk_tick_collector.core.aside import in_thread
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.core.errors import RowRefused, StoreBusy, StoreError, StoreUnavailable
from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest.lane import Lane
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.worker import WorkerOptions
from hk_tick_collector.market.hk.sessions import hk_date
from hk_tick_collector.records.kind import TICKS, RecordKind
from hk_tick_collector.store.connect import as_store_error
from hk_tick_collector.store.layout import prepare_data_root
from hk_tick_collector.store.write_result import WriteResult
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import BASE_MS, DAY, make_ticks

OPTIONS = WorkerOptions(batch_rows=50, max_wait_sec=1.0, retry_min_sec=0.01, retry_max_sec=0.05)
QUEUE_ROWS = 100
PATIENCE_SEC = 20


class Quote(NamedTuple):
    """The best bid at a moment."""

    symbol: str
    ts_ms: int
    bid_price: float
    trading_day: str
    recv_ts_ms: int


QUOTES = RecordKind("quotes", "quote", Quote)


class QuoteWriter:
    """Stores quotes in ``quote/YYYYMMDD.quote.db``, each once."""

    def __init__(self, data_root: Path, fails: Callable[[], StoreError | None] = lambda: None) -> None:
        self.data_root = data_root
        self.failed_day: str | None = None
        self.wal_bytes = 0
        self._fails = fails

    def write(self, quotes: Sequence[Quote], _: Sequence[Fact | DayFact] = (), /) -> WriteResult:
        if (error := self._fails()) is not None:
            raise error
        result = WriteResult()
        for day in dict.fromkeys(quote.trading_day for quote in quotes):
            rows = [quote for quote in quotes if quote.trading_day == day]
            try:
                inserted_rows = self._store(quote_file(self.data_root, day), rows)
            except sqlite3.Error as exc:
                self.failed_day = day
                raise as_store_error(exc, self.data_root) from exc
            result = result.merged(WriteResult(inserted_rows, len(rows) - inserted_rows, (day,)))
        return result

    def _store(self, path: Path, rows: Sequence[Quote]) -> int:
        path.parent.mkdir(exist_ok=True)
        with contextlib.closing(sqlite3.connect(path)) as conn, conn:
            conn.execute(
                "CREATE TABLE IF NOT EXISTS quotes (symbol TEXT, ts_ms INTEGER, bid_price REAL NOT NULL, "
                "trading_day TEXT, recv_ts_ms INTEGER, UNIQUE (symbol, ts_ms))"
            )
            sql = "INSERT INTO quotes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
            return conn.executemany(sql, rows).rowcount

    def isolate(
        self, quotes: Sequence[Quote], facts: Sequence[Fact | DayFact], /
    ) -> tuple[WriteResult, list[tuple[Quote, str]]]:
        result, refused = WriteResult(), []
        for quote in quotes:
            try:
                result = result.merged(self.write([quote]))
            except RowRefused as exc:
                refused.append((quote, str(exc)))
        return result, refused

    isolate_fault = isolate

    def set_aside(self, day: str, reason: str, /) -> Path | None:
        raise StoreUnavailable(f"{day}: {reason}")

    def close_day(self, day: str, /) -> None:
        pass

    def close(self) -> None:
        pass

    def interrupt(self) -> None:
        pass


def quote_file(data_root: Path, day: str) -> Path:
    return data_root / "quote" / f"{day}.quote.db"


def quotes(first: int, last: int) -> list[Quote]:
    return [Quote("HK.00700", BASE_MS + n, 380.0 + n, DAY, BASE_MS + n + 5) for n in range(first, last + 1)]


class Lanes:
    """Both lanes of one data root at work."""

    def __init__(self, root: Path) -> None:
        self.root = prepare_data_root(root)
        self.of_quotes, self.of_ticks = IngestProgress(), IngestProgress()
        self.error: StoreError | None = None
        self.quotes = self._lane(QUOTES, lambda: QuoteWriter(self.root, lambda: self.error), self.of_quotes)
        self.ticks = self._lane(TICKS, lambda: DayFileWriter(self.root), self.of_ticks)
        self.lanes = (self.quotes, self.ticks)
        for lane in self.lanes:
            lane.open()
        self.tasks = [asyncio.create_task(lane.run()) for lane in self.lanes]

    def _lane(self, kind: RecordKind, make_writer: Callable[[], object], progress: IngestProgress) -> Lane:
        return Lane(kind, self.root, make_writer, OPTIONS, QUEUE_ROWS, hk_date, progress, SystemClock())

    async def until(self, condition: Callable[[], object], awaited: str) -> None:
        deadline_sec = asyncio.get_running_loop().time() + PATIENCE_SEC
        while not condition():
            assert asyncio.get_running_loop().time() < deadline_sec, (awaited, self.of_quotes, self.of_ticks)
            await asyncio.sleep(0.005)

    async def finish(self) -> None:
        for lane in self.lanes:
            lane.flush()
        await asyncio.wait_for(asyncio.gather(*self.tasks), PATIENCE_SEC)
        for lane in self.lanes:
            await lane.close()
            lane.close_spill()


def stored(root: Path) -> tuple[int, int]:
    """How many quotes and ticks are in the files."""
    counts = []
    for path, table in ((quote_file(root, DAY), "quotes"), (root / f"{DAY}.db", "ticks")):
        with contextlib.closing(sqlite3.connect(path)) as conn:
            counts.append(conn.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
    return counts[0], counts[1]


def test_two_kinds_are_stored_in_two_files(tmp_path: Path) -> None:
    async def go() -> None:
        lanes = Lanes(tmp_path / "data")
        lanes.quotes.put(quotes(1, 30))
        lanes.ticks.put(make_ticks(1, 20))
        await lanes.until(lambda: lanes.of_quotes.persisted_rows == 30, "quotes")
        await lanes.until(lambda: lanes.of_ticks.persisted_rows == 20, "ticks")
        assert all(lane.is_running for lane in lanes.lanes)
        await lanes.finish()
        assert stored(lanes.root) == (30, 20)
        assert not any(lane.is_running for lane in lanes.lanes)

    asyncio.run(go())


def test_a_lane_that_cannot_store_holds_up_no_other(tmp_path: Path) -> None:
    """Its rows wait in its queue and its spill, which no other lane reads; and all are stored in the end."""

    async def go() -> None:
        lanes = Lanes(tmp_path / "data")
        lanes.error = StoreBusy("a test")
        for first in range(1, 1001, 50):
            await in_thread("source", partial(lanes.quotes.put_patiently, quotes(first, first + 49)))
        assert lanes.quotes.spill_rows > QUEUE_ROWS
        lanes.ticks.put(make_ticks(1, 80))
        await lanes.until(lambda: lanes.of_ticks.persisted_rows == 80, "ticks")
        assert lanes.ticks.spill_rows == 0
        assert list((lanes.root / "_spill" / "quotes").glob("*.spill"))
        lanes.error = None
        await lanes.until(lambda: lanes.of_quotes.persisted_rows == 1000, "quotes")
        await lanes.finish()
        assert stored(lanes.root) == (1000, 80)

    asyncio.run(go())


def test_what_a_kinds_file_refuses_is_in_its_own_quarantine(tmp_path: Path) -> None:
    async def go() -> None:
        lanes = Lanes(tmp_path / "data")
        lanes.quotes.put([*quotes(1, 2), quotes(3, 3)[0]._replace(bid_price=None)])  # type: ignore[arg-type]
        await lanes.until(lambda: lanes.of_quotes.poison_rows == 1, "a refused quote")
        await lanes.finish()
        (path,) = (lanes.root / "_quarantine" / "quotes").glob("*.jsonl")
        assert '"bid_price": null' in path.read_text()
        assert lanes.of_quotes.persisted_rows == 2

    asyncio.run(go())


def test_what_is_left_at_a_stop_is_rescued_and_stored_at_the_next_start(tmp_path: Path) -> None:
    async def stop() -> None:
        lanes = Lanes(tmp_path / "data")
        lanes.error = StoreBusy("a test")
        lanes.quotes.put(quotes(1, 40))
        await lanes.until(lambda: lanes.quotes.in_hand_rows, "rows in hand")
        for task in lanes.tasks:
            task.cancel()
        assert lanes.quotes.rescue() == 40
        assert lanes.ticks.rescue() == 0
        for lane in lanes.lanes:
            lane.close_spill()

    async def start() -> None:
        lanes = Lanes(tmp_path / "data")
        assert (lanes.quotes.spill_rows, lanes.ticks.spill_rows) == (40, 0)
        await lanes.until(lambda: lanes.of_quotes.persisted_rows == 40, "quotes")
        await lanes.finish()

    asyncio.run(stop())
    asyncio.run(start())


KILLED = """
import asyncio, itertools, sys
from pathlib import Path
from hk_tick_collector.core.errors import StoreBusy
from tests.ticks import make_ticks
from tests.unit.test_lane import Lanes, quotes

async def go():
    lanes = Lanes(Path(sys.argv[1]))
    lanes.error = StoreBusy("a test")  # quotes go to their spill
    for first in itertools.count(int(sys.argv[2]), 50):
        lanes.quotes.put(quotes(first, first + 49))
        lanes.ticks.put(make_ticks(first, first + 49))
        await lanes.until(lambda: lanes.of_ticks.persisted_rows >= first + 49 - int(sys.argv[2]) + 1, "ticks")
        await lanes.until(lambda: lanes.quotes.queue_rows <= 100, "the spill")
        print(lanes.quotes.spill_rows, lanes.of_ticks.persisted_rows, flush=True)

asyncio.run(go())
"""


@pytest.mark.parametrize("kill", range(2))
def test_a_kill_loses_no_row_of_either_kind_that_was_on_disk(tmp_path: Path, kill: int) -> None:
    root = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root), "1"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout is not None
    try:
        on_disk = [process.stdout.readline() for _ in range(8 + 3 * kill)][-1]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    spilled_rows, persisted_rows = map(int, on_disk.split())
    assert spilled_rows
    assert persisted_rows

    async def start() -> None:
        lanes = Lanes(root)
        assert lanes.quotes.spill_rows >= spilled_rows
        await lanes.finish()

    asyncio.run(start())
    of_quotes, of_ticks = stored(root)
    assert of_quotes >= spilled_rows
    assert of_ticks >= persisted_rows


def test_the_lines_of_a_second_kind_say_so_and_those_of_ticks_are_what_they_were(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def left_over(kind: RecordKind[Any], rows: Sequence[Any]) -> None:
        spill: SpillQueue[Any] = SpillQueue(tmp_path, kind)
        spill.open()
        spill.append(rows)
        spill.close()
        again: SpillQueue[Any] = SpillQueue(tmp_path, kind)
        again.open()
        again.close()

    with caplog.at_level(logging.INFO):
        left_over(QUOTES, quotes(1, 5))
        left_over(TICKS, make_ticks(1, 5))
    lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("spill_recovered")]
    assert ["kind=" in line for line in lines] == [True, False]
    assert lines[0].endswith(" kind=quotes")

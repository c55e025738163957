"""The writer thread stores by itself, in turns: no row is in two hands or in none, however a turn ends."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from hk_tick_collector.core.aside import in_thread
from hk_tick_collector.core.errors import RowRefused
from hk_tick_collector.core.facts import Fact
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest.hand import Hand
from hk_tick_collector.ingest.queue import RecordQueue
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.ingest.worker import TURN_SEC
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.layout import prepare_data_root
from hk_tick_collector.store.write_result import WriteResult
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import make_tick, make_ticks
from tests.unit.test_worker import Bench, run

PATIENCE_SEC = 20


def a_queue(root: Path) -> RecordQueue[Tick]:
    return RecordQueue(1000, SpillQueue(prepare_data_root(root)), IngestProgress(), lambda: None)


def test_a_turn_that_is_over_takes_nothing_and_is_not_heard(tmp_path: Path) -> None:
    queue = a_queue(tmp_path / "data")
    hand: Hand[Tick] = Hand(queue)
    queue.put(make_ticks(1, 30))
    noted: list[int] = []
    first = hand.begin_turn()
    assert hand.take(first, 10, noted.append)
    second = hand.begin_turn()
    assert not hand.take(first, 10, noted.append)
    assert not hand.stored(first, lambda: noted.append(-1))
    assert (hand.held_rows, queue.rows, noted) == (10, 20, [10]), "what the first one had in hand is still there"
    assert hand.stored(second, lambda: noted.append(0))
    assert (hand.held_rows, noted) == (0, [10, 0])
    assert hand.is_turn(second)
    assert not hand.is_turn(first)


def test_rows_are_committed_while_the_loop_is_busy(tmp_path: Path) -> None:
    """A commit costs the loop nothing, so it does not wait for it either."""

    async def scenario(bench: Bench) -> None:
        bench.queue.put(make_ticks(1, 10))
        await bench.until(lambda: bench.progress.persisted_rows == 10, "the first rows")
        done = threading.Event()

        def market() -> None:
            for first in range(11, 101, 10):
                bench.queue.put_patiently(make_ticks(first, first + 9))
                bench.worker.ring()
                time.sleep(0.005)
            while bench.progress.persisted_rows < 100 and not done.is_set():
                time.sleep(0.001)
            done.set()

        for _ in range(50):  # a turn may be over just then
            await bench.until(lambda: bench.worker._wants_bell or bench.queue.rows, "the thread waits for rows")
            if bench.worker._wants_bell:
                break
            await asyncio.sleep(0.01)
        thread = threading.Thread(target=market)
        thread.start()
        assert done.wait(TURN_SEC / 2), "the loop stands still here"
        thread.join()
        await bench.finish()
        assert bench.stored() == 100

    run(scenario, tmp_path / "data")


class LateWriter(DayFileWriter):
    """Hangs in a write until released, and then ends it well."""

    release = threading.Event()
    hung = 0

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact] = ()) -> WriteResult:
        if not LateWriter.hung:
            LateWriter.hung = 1
            LateWriter.release.wait(PATIENCE_SEC)
            result = super().write(ticks, facts)
            LateWriter.hung = 2
            return result
        return super().write(ticks, facts)


async def hang_with_forty_rows(bench: Bench) -> None:
    """The ``LateWriter`` has forty in hand, and sixty are behind them."""
    LateWriter.release, LateWriter.hung = threading.Event(), 0
    bench.queue.put(make_ticks(1, 40))
    await bench.until(lambda: LateWriter.hung, "the writer hangs")
    bench.queue.put(make_ticks(41, 100))


def test_a_writer_that_comes_back_late_takes_no_row_and_counts_none(tmp_path: Path) -> None:
    root = tmp_path / "data"

    async def scenario(bench: Bench) -> None:
        await hang_with_forty_rows(bench)
        bench.worker.request_writer_recovery("test")
        await bench.until(lambda: bench.progress.persisted_rows == 100, "everything through the new writer")
        LateWriter.release.set()
        await bench.until(lambda: LateWriter.hung == 2, "the old one comes back")
        bench.queue.put(make_ticks(101, 150))
        await bench.finish()
        progress = bench.progress
        assert bench.stored() == 150
        assert (progress.out_rows, progress.persisted_rows, progress.ignored_rows) == (150, 150, 0)

    run(scenario, root, make_writer=lambda: LateWriter(root))


def test_a_writer_that_is_given_up_takes_nothing_before_its_waiter_is_heard(tmp_path: Path) -> None:
    """It comes back while the loop is still busy with its replacement."""
    root = tmp_path / "data"

    async def scenario(bench: Bench) -> None:
        await hang_with_forty_rows(bench)
        old = bench.worker._writer
        bench.worker.request_writer_recovery("test")
        LateWriter.release.set()
        deadline_sec = time.monotonic() + PATIENCE_SEC
        while old.alive and time.monotonic() < deadline_sec:  # the loop stands still here
            time.sleep(0.001)
        assert (LateWriter.hung, old.alive) == (2, False)
        assert (bench.queue.rows, bench.worker.in_hand_rows) == (60, 40)
        await bench.finish()
        assert bench.stored() == bench.progress.out_rows == 100

    run(scenario, root, make_writer=lambda: LateWriter(root))


def test_a_writer_that_is_replaced_with_nothing_in_hand_commits_nothing(tmp_path: Path) -> None:
    """The watchdog would take it for a commit, and the status that no tick is missing in files that are not open."""

    async def scenario(bench: Bench) -> None:
        progress = bench.progress
        while not bench.worker._wants_bell:  # a turn may be over just then
            if bench.worker.wants_wake:
                bench.queue.put([make_tick(progress.in_rows + 1)])
            await asyncio.sleep(0.002)
        commits = progress.commits
        bench.worker.request_writer_recovery("test")
        await bench.until(lambda: bench.worker.wants_wake, "the worker waits for rows")
        assert (progress.write_errors, progress.commits) == (1, commits)
        assert bench.worker._retry.attempts == 1
        bench.queue.put([make_tick(progress.in_rows + 1)])
        await bench.until(lambda: bench.worker._retry.attempts == 0, "storing works again")
        await bench.finish()
        assert bench.stored() == progress.in_rows

    run(scenario, tmp_path / "data")


class RefusingWriter(DayFileWriter):
    """Refuses a batch, and cannot tell why."""

    isolated = 0

    def write(self, ticks: Sequence[Tick], facts: Sequence[Fact] = ()) -> WriteResult:
        raise RowRefused("this one not")

    def isolate(self, ticks: Sequence[Tick], facts: Sequence[Fact] = ()) -> NoReturn:
        RefusingWriter.isolated += 1
        raise RowRefused("none of these")


def test_a_refusal_of_no_row_is_waited_for_and_ends_with_patience(tmp_path: Path) -> None:
    """Not tried again and again at once: that would take a core, and no stop would end it."""
    RefusingWriter.isolated = 0
    root = tmp_path / "data"

    async def scenario(bench: Bench) -> None:
        bench.queue.put(make_ticks(1, 10))
        await bench.until(lambda: RefusingWriter.isolated >= 3, "tries")
        assert bench.progress.write_errors >= 2
        bench.worker.hurry()
        with pytest.raises(RowRefused):
            await asyncio.wait_for(bench.task, PATIENCE_SEC)
        assert await in_thread("rescue", bench.worker.rescue) == 10
        await bench.worker.close()

    run(scenario, root, make_writer=lambda: RefusingWriter(root))


def test_what_a_turn_has_in_hand_is_rescued_and_nothing_is_taken_behind_it(tmp_path: Path) -> None:
    """As at a stop whose patience is over: the writer comes back while all else is in the spill."""
    root = tmp_path / "data"

    async def scenario(bench: Bench) -> None:
        await hang_with_forty_rows(bench)
        bench.task.cancel()
        await asyncio.wait([bench.task])
        assert await in_thread("rescue", bench.worker.rescue) == 100
        LateWriter.release.set()
        await bench.worker.close()
        assert LateWriter.hung == 2
        assert bench.worker.in_hand_rows == bench.progress.persisted_rows == 0
        bench.spill.close()

    async def next_start(bench: Bench) -> None:
        await bench.until(lambda: not bench.spill.rows, "the spill drained")
        await bench.finish()
        assert bench.stored() == 100

    run(scenario, root, make_writer=lambda: LateWriter(root))
    run(next_start, root)


def test_a_writer_replaced_again_and_again_in_a_lively_market_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async def scenario(bench: Bench) -> None:
        def market() -> None:
            for first in range(1, 3001, 10):
                bench.queue.put_patiently(make_ticks(first, first + 9))
                bench.worker.ring()
                time.sleep(0.001)

        thread = threading.Thread(target=market)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.02)
            bench.worker.request_writer_recovery("test")
        await bench.finish()
        progress = bench.progress
        assert bench.stored() == progress.out_rows == progress.persisted_rows + progress.ignored_rows == 3000
        assert progress.recoveries > 3

    run(scenario, tmp_path / "data", queue_rows=3000)  # nothing is spilled, even where no commit comes to its end

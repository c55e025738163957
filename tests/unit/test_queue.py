"""The queue is bounded in rows, and what does not fit is on disk, not gone."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.facts import GapFound, HeadProven, Verified
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest.queue import MAX_FACTS, PATIENCE_SEC, TickQueue
from hk_tick_collector.ingest.spill import SpillQueue
from tests.ticks import make_tick, make_ticks


@pytest.fixture
def spill(tmp_path: Path) -> SpillQueue:
    (tmp_path / "_spill").mkdir()
    spill = SpillQueue(tmp_path)
    spill.open()
    return spill


def make_queue(spill: SpillQueue, max_rows: int = 10) -> tuple[TickQueue, IngestProgress, list[int]]:
    progress, wakes = IngestProgress(), [0]

    def wake() -> None:
        wakes[0] += 1

    return TickQueue(max_rows, spill, progress, wake), progress, wakes


def test_batches_come_out_in_order_and_bounded(spill: SpillQueue) -> None:
    queue, progress, wakes = make_queue(spill)
    queue.put(make_ticks(1, 4))
    queue.put(make_ticks(5, 9))
    assert (queue.rows, progress.in_rows, wakes) == (9, 9, [1])
    assert queue.take(6) == (make_ticks(1, 6), [])
    assert queue.take(6) == (make_ticks(7, 9), [])
    assert (queue.rows, queue.take(6)) == (0, ([], []))
    queue.put(make_ticks(10, 10))
    assert wakes == [2]


def test_rows_are_counted_not_chunks(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    queue.put(make_ticks(1, 8))
    queue.put(make_ticks(9, 12))
    assert (queue.rows, spill.rows, progress.spilled_rows) == (8, 4, 4)
    queue.put(make_ticks(13, 14))
    assert queue.rows == 10
    assert spill.peek(100) == make_ticks(9, 12)


def test_a_burst_larger_than_the_queue_is_spilled_whole(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    queue.put(make_ticks(1, 500))
    assert (queue.rows, progress.spilled_rows, progress.refused_rows) == (0, 500, 0)


def test_when_the_spill_cannot_be_written_rows_are_refused_counted_and_said(
    spill: SpillQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue, progress, _ = make_queue(spill)

    def full_disk(rows: object) -> None:
        raise StoreUnavailable("no space left on device")

    monkeypatch.setattr(spill, "append", full_disk)
    queue.put(make_ticks(1, 10))
    queue.put([*make_ticks(11, 12), make_tick(1, "HK.00005")])
    assert (queue.rows, progress.refused_rows) == (10, 3)
    assert queue.refused_by_symbol == {"HK.00700": 2, "HK.00005": 1}
    assert "ticks_refused rows=3" in caplog.text
    assert "free the disk" in caplog.text


def test_a_patient_put_waits_for_room_and_spills_nothing(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    queue.put(make_ticks(1, 10))
    taken: list[object] = []
    consumer = threading.Timer(0.05, lambda: taken.extend(queue.take(10)[0]))
    consumer.start()
    queue.put_patiently(make_ticks(11, 14))
    consumer.join()
    assert (len(taken), queue.rows, progress.spilled_rows) == (10, 4, 0)


def test_patience_ends_and_is_not_tried_again_at_once(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    queue.put(make_ticks(1, 10))
    started = time.monotonic()
    queue.put_patiently(make_ticks(11, 14))
    assert time.monotonic() - started >= PATIENCE_SEC
    started = time.monotonic()
    queue.put_patiently(make_ticks(15, 18))
    assert time.monotonic() - started < PATIENCE_SEC
    assert (queue.rows, progress.spilled_rows) == (10, 8)


def test_a_patient_put_is_let_go_when_the_queue_is_closed(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    queue.put(make_ticks(1, 10))
    closer = threading.Timer(0.05, lambda: queue.spill_everything([]))
    closer.start()
    queue.put_patiently(make_ticks(11, 12))
    closer.join()
    assert (queue.rows, progress.spilled_rows) == (0, 12)


def test_facts_come_out_behind_the_last_row_they_speak_of(spill: SpillQueue) -> None:
    queue, _, wakes = make_queue(spill)
    head = HeadProven("HK.00700", "20261120", 1)
    queue.put(make_ticks(1, 5))
    queue.put_facts([head])
    assert queue.take(3) == (make_ticks(1, 3), [])
    assert queue.take(3) == (make_ticks(4, 5), [head])
    queue.put_facts([head])
    assert wakes == [2]
    assert queue.take(3) == ([], [head])


def test_too_many_facts_drop_only_those_that_are_told_again(spill: SpillQueue) -> None:
    queue, _, _ = make_queue(spill)
    gap = GapFound("HK.00700", "20261120", 3, 5, 1, "gone")
    queue.put_facts([gap])
    queue.put_facts([Verified("HK.00700", "20261120", n, n) for n in range(MAX_FACTS)])
    assert queue.take(1) == ([], [gap])


def test_last_resort_puts_everything_on_disk_and_later_rows_too(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    queue.put(make_ticks(3, 6))
    assert queue.spill_everything(make_ticks(1, 2)) == 6
    queue.put(make_ticks(7, 8))
    assert (queue.rows, progress.spilled_rows) == (0, 8)
    stored = []
    while rows := spill.peek(100):
        stored += rows
        spill.ack()
    assert stored == make_ticks(1, 8)


def test_many_threads_lose_nothing(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill, max_rows=300)
    taken: list[object] = []
    done = threading.Event()

    def bring(symbol: str) -> None:
        for counter in range(1, 201):
            queue.put([make_tick(counter, symbol)])

    def take() -> None:
        while not done.is_set() or queue.rows:
            taken.extend(queue.take(7)[0])

    producers = [threading.Thread(target=bring, args=(f"HK.0000{n}",)) for n in range(1, 6)]
    consumer = threading.Thread(target=take)
    consumer.start()
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    done.set()
    consumer.join()
    spilled = []
    while rows := spill.peek(1000):
        spilled += rows
        spill.ack()
    assert len(taken) + len(spilled) == progress.in_rows == 1000
    assert len(set(taken) | set(spilled)) == 1000

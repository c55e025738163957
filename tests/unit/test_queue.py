"""The queue is bounded in rows, and what does not fit is on disk, not gone."""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.core.facts import (
    UNKNOWN_SEQ,
    UNREAD_TICK,
    GapFound,
    HeadProven,
    Interrupted,
    Rejoined,
    Unproven,
    Verified,
)
from hk_tick_collector.core.progress import IngestProgress
from hk_tick_collector.ingest import frames
from hk_tick_collector.ingest import queue as queue_module
from hk_tick_collector.ingest import spill as spill_module
from hk_tick_collector.ingest.queue import MAX_FACTS, PATIENCE_SEC, RecordQueue
from hk_tick_collector.ingest.spill import SpillQueue
from hk_tick_collector.records.tick import Tick
from tests.harness import wait_until
from tests.ticks import make_tick, make_ticks

WRITE_ALL = spill_module._write_all
PAUSE_SEC = 0.0002  # of a consumer: one that takes the lock again at once keeps all others waiting on a busy machine


@pytest.fixture
def spill(tmp_path: Path) -> SpillQueue:
    (tmp_path / "_spill").mkdir()
    spill = SpillQueue(tmp_path)
    spill.open()
    return spill


def make_queue(spill: SpillQueue, max_rows: int = 10) -> tuple[RecordQueue, IngestProgress, list[int]]:
    progress, wakes = IngestProgress(), [0]

    def wake() -> None:
        wakes[0] += 1

    return RecordQueue(max_rows, spill, progress, wake), progress, wakes


def settle(queue: RecordQueue) -> None:
    """Until what the loop brought beyond the limit is spilled."""
    wait_until(lambda: queue.rows_in_memory == queue.rows and not queue._in_transit, "the overflow is spilled")


def put_and_settle(queue: RecordQueue, ticks: list[Tick]) -> None:
    queue.put(ticks)
    settle(queue)


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
    put_and_settle(queue, make_ticks(9, 12))
    assert (queue.rows, spill.rows, progress.spilled_rows) == (8, 4, 4)
    queue.put(make_ticks(13, 14))
    assert queue.rows == 10
    assert spill.peek(100) == make_ticks(9, 12)


def test_a_burst_larger_than_the_queue_is_spilled_whole(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    put_and_settle(queue, make_ticks(1, 500))
    assert (queue.rows, progress.spilled_rows, progress.refused_rows) == (0, 500, 0)


def test_when_the_spill_cannot_be_written_rows_are_refused_counted_and_said(
    spill: SpillQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    queue, progress, _ = make_queue(spill)

    def full_disk(rows: object) -> None:
        raise StoreUnavailable("no space left on device")

    monkeypatch.setattr(spill, "append", full_disk)
    queue.put(make_ticks(1, 10))
    put_and_settle(queue, [*make_ticks(11, 12), make_tick(1, "HK.00005")])
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


def test_patience_ends_and_is_not_tried_again_at_once(spill: SpillQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "IMPATIENT_SEC", 3600)
    queue, progress, _ = make_queue(spill)
    queue.put(make_ticks(1, 10))
    started = time.monotonic()
    queue.put_patiently(make_ticks(11, 14))
    assert time.monotonic() - started >= PATIENCE_SEC
    monkeypatch.setattr(queue_module, "PATIENCE_SEC", 3600)  # longer than this test may take
    queue.put_patiently(make_ticks(15, 18))
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


def test_a_caution_comes_out_no_later_than_the_rows_that_follow_it(spill: SpillQueue) -> None:
    queue, _, _ = make_queue(spill)
    head, doubt = HeadProven("HK.00700", "20261120", 1), Unproven("HK.00700", "20261120", UNREAD_TICK)
    queue.put(make_ticks(1, 5))
    queue.put_facts([head, doubt])
    queue.put(make_ticks(6, 8))
    assert queue.take(3) == (make_ticks(1, 3), [doubt])
    assert queue.take(5) == (make_ticks(4, 8), [head])
    queue.put_facts([head, doubt])
    assert queue.take_cautions() == [doubt]
    assert queue.take(1) == ([], [head])


def test_too_many_interruptions_leave_those_of_each_symbol_that_are_open_and_every_doubt(spill: SpillQueue) -> None:
    queue, _, _ = make_queue(spill)
    doubt = Unproven("HK.00700", "20261120", UNREAD_TICK)
    unknown = Interrupted("HK.00700", "20261120", UNKNOWN_SEQ)
    queue.put_facts([doubt, unknown])
    early, late = (Interrupted("HK.00700", "20261120", seq) for seq in (5, 10 * MAX_FACTS))
    queue.put_facts([early])
    for seq in range(10, MAX_FACTS // 3 + 10):
        queue.put_facts([Interrupted("HK.00700", "20261120", seq), Rejoined("HK.00700", "20261120", seq), late])
    # As if all had been told: what was open from 10 on is over, and two are open.
    assert queue.take(1)[1] == [doubt, unknown, early, Rejoined("HK.00700", "20261120", 10), late]


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
    put_and_settle(queue, make_ticks(7, 8))
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
            time.sleep(PAUSE_SEC)

    producers = [threading.Thread(target=bring, args=(f"HK.0000{n}",)) for n in range(1, 6)]
    consumer = threading.Thread(target=take)
    consumer.start()
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    done.set()
    consumer.join()
    settle(queue)
    spilled = []
    while rows := spill.peek(1000):
        spilled += rows
        spill.ack()
    assert progress.in_rows == 1000
    assert len(taken) + len(spilled) == len(set(taken) | set(spilled)) == 1000 - progress.refused_rows


class Hanging:
    """Stands in the way of ``call`` until it is let go; others wait behind it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.reached, self.release = threading.Event(), threading.Event()
        real = getattr(owner, name)

        def hang(*arguments: object, **named: object) -> object:
            self.reached.set()
            assert self.release.wait(60), "nobody let it go"
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, hang)


def within(seconds: float, call: Callable[[], object]) -> object:
    """The result of ``call``, which must not wait for anything that the test holds."""
    results: list[object] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, f"{call} waits"
    return results[0]


def test_nobody_waits_for_a_write_to_the_spill(spill: SpillQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network thread hangs in the disk: the loop takes, puts and asks all the same, and spills nothing itself."""
    monkeypatch.setattr(queue_module, "PATIENCE_SEC", 0.01)
    queue, progress, _ = make_queue(spill)
    disk = Hanging(monkeypatch, spill, "append")
    queue.put(make_ticks(1, 10))
    network = threading.Thread(target=queue.put_patiently, args=(make_ticks(11, 14),))
    network.start()
    assert disk.reached.wait(30)
    within(30, lambda: (queue.put(make_ticks(15, 20)), True))
    within(30, lambda: (queue.put_facts([GapFound("HK.00700", "20261120", 3, 5, 1, "gone")]), True))
    assert within(30, lambda: queue.take(4)) == (make_ticks(1, 4), [])
    wait_until(lambda: queue.rows_in_memory == 6, "the spill's own thread has what was put beyond the limit")
    assert (queue.rows, progress.spilled_rows) == (6, 0)
    disk.release.set()
    network.join(30)
    settle(queue)
    assert (spill.rows, progress.spilled_rows, progress.refused_rows) == (10, 10, 0)


def test_the_loop_s_overflow_is_bounded_and_what_is_beyond_is_refused_and_counted(
    spill: SpillQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, progress, _ = make_queue(spill)
    disk = Hanging(monkeypatch, spill, "append")
    for first in range(1, 61, 5):
        queue.put(make_ticks(first, first + 4))
    assert disk.reached.wait(30)
    wait_until(lambda: queue.rows_in_memory <= 20, "one chunk in transit at least")
    refused_rows = progress.refused_rows
    assert progress.in_rows == 60
    disk.release.set()
    settle(queue)
    assert (queue.rows, spill.rows + refused_rows) == (10, 50)
    assert 0 < refused_rows <= 40
    assert queue.refused_by_symbol == {"HK.00700": refused_rows}


@pytest.mark.parametrize("hanging", ["append", "peek"])
def test_the_last_resort_goes_round_a_thread_that_hangs_in_the_spill(
    spill: SpillQueue, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hanging: str
) -> None:
    """Everything is saved in bounded time, also what hangs in the other thread's hands."""
    monkeypatch.setattr(queue_module, "PATIENCE_SEC", 0.01)
    monkeypatch.setattr(queue_module, "HANGING_SEC", 0.2)
    queue, _, _ = make_queue(spill)
    spill.append(make_ticks(1, 2))
    if hanging == "append":
        disk = Hanging(monkeypatch, spill_module, "_write_all")
        other = threading.Thread(target=queue.put_patiently, args=(make_ticks(3, 20),), daemon=True)
    else:
        disk = Hanging(monkeypatch, spill, "_read")
        other = threading.Thread(target=spill.peek, args=(10,), daemon=True)
        queue.put(make_ticks(3, 10))
    other.start()
    assert disk.reached.wait(30)
    monkeypatch.setattr(spill_module, "_write_all", WRITE_ALL)
    saved = within(30, lambda: queue.spill_everything(make_ticks(21, 30)))
    again = SpillQueue(tmp_path)
    again.open()
    taken: set[Tick] = set()
    while rows := again.peek(1000):
        taken.update(rows)
        again.ack()
    wanted = {*make_ticks(1, 2), *make_ticks(3, 20 if hanging == "append" else 10), *make_ticks(21, 30)}
    assert wanted <= taken
    assert saved == len(wanted) - 2
    disk.release.set()
    other.join(30)


def test_a_row_that_the_spill_refuses_costs_itself_alone(spill: SpillQueue) -> None:
    queue, progress, _ = make_queue(spill)
    odd = make_tick(5)._replace(tick_type="x" * (frames.MAX_PAYLOAD_BYTES + 1))
    put_and_settle(queue, [*make_ticks(1, 20), odd, *make_ticks(21, 40)])
    wait_until(
        lambda: (spill.rows, progress.spilled_rows, progress.refused_rows) == (40, 40, 1), "all but one are spilled"
    )


def test_rows_of_many_threads_are_each_in_one_place_whatever_the_disk_does(
    spill: SpillQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pushes and pulls, a consumer, a slow disk that refuses now and then, and at the end the last resort."""
    monkeypatch.setattr(queue_module, "PATIENCE_SEC", 0.001)
    monkeypatch.setattr(queue_module, "IMPATIENT_SEC", 0.002)
    queue, progress, _ = make_queue(spill, max_rows=60)
    real, count = spill_module._write_all, itertools.count()

    def fitful(descriptor: int, data: bytes, offset: int) -> None:
        if next(count) % 7 == 3:
            raise OSError(errno.EIO, "Input/output error")
        time.sleep(0.0005)
        real(descriptor, data, offset)

    monkeypatch.setattr(spill_module, "_write_all", fitful)
    taken: list[Tick] = []

    def bring(put: Callable[[list[Tick]], None], symbol: str) -> None:
        for first in range(1, 601, 6):
            put(make_ticks(first, first + 5, symbol=symbol))

    producers = [
        threading.Thread(target=bring, args=(put, f"HK.0000{n}"))
        for n, put in enumerate([queue.put_patiently, queue.put, queue.put_patiently])
    ]
    for producer in producers:
        producer.start()
    while any(producer.is_alive() for producer in producers):
        taken += queue.take(5)[0]
        time.sleep(PAUSE_SEC)
    in_hand = queue.take(5)[0]
    monkeypatch.setattr(spill_module, "_write_all", real)
    queue.spill_everything(in_hand)
    settle(queue)
    spilled: list[Tick] = []
    while rows := spill.peek(1000):
        spilled += rows
        spill.ack()
    assert len(taken) + len(spilled) + progress.refused_rows == progress.in_rows == 1800
    assert len({*taken, *spilled}) == len(taken) + len(spilled), "a row is in two places"
    assert progress.refused_rows == sum(queue.refused_by_symbol.values())

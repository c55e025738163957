"""The built recorder takes order books of the built simulator over TCP: what it stores is what was sent."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hk_tick_collector as hk
from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.opend_sim.check_books import check_books
from hk_tick_collector.opend_sim.depth_truth import SENT, Fated, read_depth_truth
from hk_tick_collector.records.book import Book, RowKind
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_reader import BookState
from hk_tick_collector.store.broker_reader import names_of, queues
from hk_tick_collector.store.layout import book_days, book_file, broker_days, broker_file, day_files
from tests.harness import Recorder, Simulator, check, ended, stop_after_market, wait_until
from tests.tickctl import tickctl

SYMBOLS = "HK.00700,HK.00005,HK.09988"
BOOKED = ("HK.00700", "HK.09988")


class BookSim(Simulator):
    """With a truth file of books."""

    def __init__(self, directory: Path, *arguments: object) -> None:
        self.book_truth = directory / "books"
        super().__init__(
            directory,
            "--symbols",
            SYMBOLS,
            "--always-open",
            "--rate",
            "200",
            "--book-truth",
            self.book_truth,
            *arguments,
        )

    def sent(self, symbol: str) -> list[Fated]:
        return [made for made in read_depth_truth(self.book_truth) if made.fate == SENT and made.state.symbol == symbol]


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BookSim]:
    simulator = BookSim(tmp_path_factory.mktemp("sim") / "sim")
    with ended(simulator):
        yield simulator


def _recorder(root: Path, simulator: Simulator, **settings: object) -> Recorder:
    return Recorder(root, simulator.port, SYMBOLS, BOOK_SYMBOLS=",".join(BOOKED), **settings)


def _states(root: Path, symbol: str) -> list[BookState]:
    days = book_days(root)
    return [state for day in days for state in book_reader.states(book_file(root, day), [symbol])]


def _newest_tick_ms(root: Path) -> int:
    newest = 0
    for path in day_files(root):
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
            newest = max(newest, conn.execute("SELECT max(ts_ms) FROM ticks").fetchone()[0] or 0)
    return newest


def _rows(root: Path) -> int:
    with contextlib.suppress(StoreError):  # a file that is just being made
        return sum(count.stored for day in book_days(root) for count in book_reader.sessions(book_file(root, day)))
    return 0


def _queue_rows(root: Path) -> int:
    with contextlib.suppress(StoreError):  # a file that is just being made
        return sum(count.stored for day in broker_days(root) for count in book_reader.sessions(broker_file(root, day)))
    return 0


def _assert_true(states: list[BookState], sent: list[Fated]) -> None:
    """Each stored state was sent, in this order; of those between the first and the last none is missing but by
    ``merged``. First pushes are not in the truth file: books without times."""
    truth = [
        (
            Book(made.state.depth.bids, made.state.depth.asks),
            made.state.bid_ts_ms or None,
        )  # levels are tuples there, too
        for made in sent
    ]
    at = None
    for state in states:
        if state.kind is RowKind.BREAK:
            at = None
            continue
        if state.bid_ts_ms is None and state.ask_ts_ms is None:
            continue
        known = (state.book, state.bid_ts_ms)
        if at is None:
            assert known in truth, f"{state.symbol} at {state.recv_ts_us}: {known}"
            at = truth.index(known)
        else:
            at += 1 + state.merged
            assert truth[at] == known, f"{state.symbol} at {state.recv_ts_us}"


def test_books_of_a_recorder_that_is_killed_and_started_again_are_true_and_its_ticks_complete(
    simulator: BookSim, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    first = _recorder(root, simulator)
    with ended(first):
        first.wait_for("books_subscribed symbols=2 wanted=2")
        wait_until(lambda: _rows(root) > 400, f"400 books\n{first.output}")
        first.wait_for(r"book_health symbols=2 .*pulls=[1-9]")
        first.signal(signal.SIGKILL)
        first.wait()
    killed_at = _rows(root)
    second = _recorder(root, simulator)
    with ended(second):
        wait_until(lambda: _rows(root) > killed_at + 400, f"400 books more\n{second.output}")
        assert second.stop() == 0
        assert "recorder_stopped exit_code=0" in second.output
    result = check(simulator, root, "--allow-tail-ms", "600000")
    for symbol in BOOKED:
        states = _states(root, symbol)
        assert sum(state.kind is RowKind.BREAK for state in states) == 2  # the kill, and the stop
        _assert_true(states, simulator.sent(symbol))
    for day in book_days(root):
        path = book_file(root, day)
        assert all(count.adds_up and not count.unread for count in book_reader.sessions(path))
        assert {watch.reason for watch in book_reader.watches(path)} <= {
            "recorder died",
            "recorder stopped",
            "day over",
        }
        for agreed, asked in book_reader.pulls(path).values():
            assert agreed == asked
    assert sorted(book_reader.symbols(book_file(root, book_days(root)[-1]))) == sorted(BOOKED)
    assert result.returncode == 0, result.stdout + result.stderr


def test_without_book_symbols_nothing_of_books_is_there(simulator: BookSim, tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "data", simulator.port, SYMBOLS)
    with ended(recorder):
        wait_until(lambda: recorder.rows() > 200, f"rows\n{recorder.output}")
        assert recorder.stop() == 0
    assert not recorder.find("(INFO|WARNING|ERROR) books?_")
    assert not (tmp_path / "data" / "book").exists()


def _followed_queues(root: Path, since: str, count: int) -> tuple[list[dict[str, Any]], str]:
    """So many pushes of queues at least, as they come live, and the cursor behind them."""
    rows: list[dict[str, Any]] = []
    with hk.local(root).live("all", kind="broker", since=since) as live:
        for batch in live:
            rows += [] if batch.is_snapshot else batch.dicts()
            if len(rows) >= count:
                return rows, batch.cursor
    raise AssertionError("it ended")


def test_broker_queues_are_recorded_beside_books_and_are_those_that_were_sent(tmp_path: Path) -> None:
    root = tmp_path / "data"
    simulator = BookSim(tmp_path / "sim")
    first = _recorder(root, simulator, BOOK_BROKERS=1)
    with ended(simulator, first):
        first.wait_for("books_subscribed symbols=2 wanted=2 kind=brokers")
        wait_until(lambda: _queue_rows(root) > 200, f"200 queues\n{first.output}")
        first.wait_for(r"book_health symbols=2 .*pulls=[1-9].* kind=brokers")
        simulator.ctl("broker-freeze symbol=HK.00700 seconds=1")
        simulator.ctl("broker-drop percent=20 seconds=2 symbol=HK.09988")
        followed, cursor = _followed_queues(root, "day", 100)
        first.signal(signal.SIGKILL)
        first.wait()
        killed_at = _queue_rows(root)
        second = _recorder(root, simulator, BOOK_BROKERS=1)
        with ended(second):
            wait_until(lambda: _queue_rows(root) > killed_at + 200, f"200 queues more\n{second.output}")
            assert second.stop() == 0
        simulator.stop()
    report = check_books(simulator.book_truth, root)
    assert report.exit_code == 0, report.text()
    assert set(report.brokers) == set(BOOKED)
    (day,) = broker_days(root)
    path = broker_file(root, day)
    assert all(count.adds_up and not count.unread for count in book_reader.sessions(path))
    assert [watch.reason for watch in book_reader.watches(path) if watch.symbol == BOOKED[0]] == [
        "recorder died",
        "recorder stopped",
    ]
    names = names_of(path)
    assert all(name.startswith("Simulated Broker") for name in names.values())
    followed += _followed_queues(root, cursor, _queue_rows(root) - len(followed))[0]
    assert [(row["bids"], row["asks"]) for row in followed] == [
        (None, None)
        if broker_queue.queue is None
        else tuple(tuple((level, key, names[key]) for level, key in side) for side in broker_queue.queue)
        for broker_queue in queues(path)
    ]
    told = json.loads(tickctl("day", day, "--no-write", "--recount", "--json", data_root=root).stdout)["brokers"]
    counts = book_reader.sessions(path)
    assert len(counts) == 2
    assert told["received"] == sum(count.received for count in counts)
    assert told["stored"] == sum(row["pushes"] for row in told["symbols"]) == _queue_rows(root)
    assert told["adds_up"]


def test_a_queue_that_is_shown_again_when_the_right_returns_is_a_true_one(tmp_path: Path) -> None:
    """Pushes go on as soon as the right is back, and the first push of the new subscription comes amid them."""
    root = tmp_path / "data"
    simulator = BookSim(tmp_path / "sim")
    recorder = _recorder(root, simulator, BOOK_BROKERS=1)
    subscribed = "books_subscribed symbols=2 wanted=2 kind=brokers"
    with ended(simulator, recorder):
        recorder.wait_for(subscribed)
        wait_until(lambda: _queue_rows(root) > 50, f"queues\n{recorder.output}")
        simulator.ctl("right kind=bmp seconds=1")
        wait_until(lambda: recorder.output.count(subscribed) == 2, f"again\n{recorder.output}")
        simulator.ctl("book-cross next=2")
        rows = _queue_rows(root)
        wait_until(lambda: _queue_rows(root) > rows + 50, f"queues again\n{recorder.output}")
        assert recorder.stop() == 0
        simulator.stop()
    report = check_books(simulator.book_truth, root)
    assert report.exit_code == 0, report.text()
    assert [diff.cached for diff in report.brokers.values()] == [2, 2]


def test_broker_queues_stand_behind_ticks_and_books_in_the_quota(tmp_path: Path) -> None:
    """Three ticks, two books, one queue: of the second queue the file says why it is blind."""
    root = tmp_path / "data"
    simulator = BookSim(tmp_path / "sim", "--quota", "6")
    recorder = _recorder(root, simulator, BOOK_BROKERS=1)
    with ended(simulator, recorder):
        recorder.wait_for("books_subscribed symbols=2 wanted=2 kind=books")
        recorder.wait_for("books_subscribed symbols=1 wanted=2 kind=brokers")
        recorder.wait_for('books_refused symbols=1 first=HK.09988 reason="quota is short: 1 left for 2 brokers"')
        assert recorder.stop() == 0
    (day,) = broker_days(root)
    reasons = {watch.symbol: watch.reason for watch in book_reader.watches(broker_file(root, day))}
    assert reasons == {"HK.00700": "recorder stopped", "HK.09988": "quota is short: 1 left for 2 brokers"}


def test_a_flood_of_books_delays_and_costs_no_tick(tmp_path: Path) -> None:
    """More than the lane can store: books are merged and counted, ticks are whole."""
    root = tmp_path / "data"
    simulator = BookSim(tmp_path / "sim")
    recorder = _recorder(root, simulator)
    with ended(simulator, recorder):
        recorder.wait_for("books_subscribed symbols=2")
        simulator.ctl("book-flood limit=5000 seconds=3")
        wait_until(lambda: _rows(root) > 3000, f"a flood\n{recorder.output}")
        flooded_at_ms = time.time_ns() // 1_000_000 + 3000
        wait_until(lambda: _newest_tick_ms(root) > flooded_at_ms, f"ticks from after the flood\n{recorder.output}")
        stop_after_market(simulator, recorder)
    result = check(simulator, root)
    assert result.returncode == 0, result.stdout + result.stderr
    (count,) = [count for day in book_days(root) for count in book_reader.sessions(book_file(root, day))]
    assert count.adds_up
    for symbol in BOOKED:
        _assert_true(_states(root, symbol), simulator.sent(symbol))


def test_a_right_that_falls_to_bmp_leaves_the_ticks_and_ends_the_books(tmp_path: Path) -> None:
    root = tmp_path / "data"
    simulator = BookSim(tmp_path / "sim")
    recorder = _recorder(root, simulator)
    with ended(simulator, recorder):
        recorder.wait_for("books_subscribed symbols=2")
        wait_until(lambda: _rows(root) > 50, f"books\n{recorder.output}")
        simulator.ctl("right kind=bmp seconds=2")
        recorder.wait_for('books_ended symbols=2 reason="right lost: Bmp"')
        rows = recorder.rows()
        wait_until(lambda: recorder.output.count("books_subscribed symbols=2") == 2, f"again\n{recorder.output}")
        assert recorder.stop() == 0
    assert recorder.rows() >= rows
    (day,) = book_days(root)
    reasons = [watch.reason for watch in book_reader.watches(book_file(root, day)) if watch.symbol == BOOKED[0]]
    assert reasons == ["right lost: Bmp", "recorder stopped"]

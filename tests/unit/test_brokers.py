"""Broker queues: what was pushed is in the file and comes back, whoever reads it, and no book is touched by it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.days import brokers as arrow
from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.quality.brokers import brokers_of
from hk_tick_collector.records.book import (
    BrokerPush,
    BrokerQueue,
    PullCompared,
    PushEntry,
    RowKind,
    WatchBegan,
    WatchEnded,
)
from hk_tick_collector.records.broker_codec import payload_of, queue_of
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_file import open_for_writing
from hk_tick_collector.store.broker_reader import names_of, queue_at, queues
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_days, book_file, broker_days, broker_file, day_files
from tests.books import DAY, OPEN_US
from tests.brokers import NAMES, QUEUES, broker_writer, record_brokers
from tests.nights import examples

TENCENT = "HK.00700"
FIRST = BrokerQueue(((1, 4001), (1, 4038), (2, 4001)), ((1, 4075),))
SECOND = BrokerQueue(((1, 4038), (2, 4001)), ())


@given(QUEUES)
def test_a_queue_comes_back_as_it_went_in(queue: BrokerQueue) -> None:
    assert queue_of(payload_of(queue)) == queue


@pytest.mark.parametrize("payload", [b"", b"\x02\x02", b"\x01", b"\x02\x02\x02", b"\x80"])
def test_a_payload_that_is_none_is_told(payload: bytes) -> None:
    with pytest.raises(ValueError, match="cut off"):
        queue_of(payload)


def test_a_number_that_no_source_sends_is_refused() -> None:
    with pytest.raises(ValueError, match="broker 2147483648 at level 1"):
        payload_of(BrokerQueue(((1, 1 << 31),), ()))


@settings(max_examples=examples(15), deadline=None)
@given(st.lists(st.lists(QUEUES, max_size=4), max_size=6))
def test_any_queues_in_any_batches_are_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[BrokerQueue]]
) -> None:
    root = tmp_path_factory.mktemp("queues")
    writer = broker_writer(root)
    for batch in batches:
        writer.write(
            DAY, [PushEntry(BrokerPush(TENCENT, OPEN_US + n, queue)) for n, queue in enumerate(batch)], len(batch)
        )
    writer.close()
    pushed = [queue for batch in batches for queue in batch]
    assert ([state.queue for state in queues(broker_file(root, DAY))] if pushed else []) == pushed


def _push(queue: BrokerQueue, at_us: int, merged: int = 0) -> PushEntry:
    return PushEntry(BrokerPush(TENCENT, at_us, queue, ((4001, "One"), (4038, "Two"))), merged)


def _record(root: Path) -> Path:
    writer = broker_writer(root, (OPEN_US + 9_000_000) // 1000)
    entries = [
        WatchBegan(TENCENT, OPEN_US),
        _push(FIRST, OPEN_US + 1),
        _push(FIRST, OPEN_US + 2),
        _push(SECOND, OPEN_US + 3, merged=4),
        PullCompared(TENCENT, OPEN_US + 4, agrees=True),
        WatchEnded(TENCENT, OPEN_US + 8_000_000, "connection lost"),
    ]
    writer.write(DAY, entries, 7)
    writer.close()
    return broker_file(root, DAY)


def test_a_file_tells_the_queue_of_any_moment_and_when_it_was_watched(tmp_path: Path) -> None:
    path = _record(tmp_path)
    assert [state.kind for state in queues(path)] == [RowKind.FULL, RowKind.SAME, RowKind.FULL, RowKind.BREAK]
    assert queue_at(path, TENCENT, OPEN_US) is None
    assert queue_at(path, TENCENT, OPEN_US + 2).queue == FIRST  # type: ignore[union-attr]
    assert queue_at(path, TENCENT, OPEN_US + 7_999_999).queue == SECOND  # type: ignore[union-attr]
    assert queue_at(path, TENCENT, OPEN_US + 8_000_000).queue is None  # type: ignore[union-attr]
    assert queue_at(path, "HK.00005", OPEN_US + 9) is None
    assert names_of(path) == {4001: "One", 4038: "Two"}
    (session,) = book_reader.sessions(path)
    assert (session.received, session.stored, session.merged) == (7, 3, 4)
    assert session.adds_up
    assert book_reader.pulls(path) == {TENCENT: (1, 1)}


def test_a_report_says_what_was_watched_and_never_that_it_is_complete(tmp_path: Path) -> None:
    path = _record(tmp_path)
    kind = TradingCalendar(HK).day_kind(DAY)
    report = brokers_of(path, DAY, HK, kind, OPEN_US // 1000 + 10_000)
    (symbol_report,) = report.symbols
    assert (symbol_report.watched_ms, symbol_report.wanted_ms, symbol_report.pushes, symbol_report.merged) == (
        8_000,
        10_000,
        3,
        4,
    )
    assert [stretch.reason for stretch in symbol_report.blind] == ["connection lost"]
    assert report.sentence == (
        "watched 80.00 % of trading, 1 blind stretch, 4 pushes merged, 1 of 1 pulls agree"
    )  # nobody looked for impossible states
    assert report.accounted
    assert report.problems == 1


def test_arrow_has_a_row_for_each_broker_and_one_for_what_has_none(tmp_path: Path) -> None:
    rows = pa.Table.from_batches(list(arrow.read(_record(tmp_path))), arrow.SCHEMA).to_pylist()
    told = [(row["update_no"], row["kind"], row["side"], row["place"], row["level"], row["broker"]) for row in rows]
    assert told == [
        (1, "F", "bid", 1, 1, "One"),
        (1, "F", "bid", 2, 1, "Two"),
        (1, "F", "bid", 3, 2, "One"),
        (1, "F", "ask", 1, 1, None),  # 4075 came without a name
        (2, "S", None, None, None, None),
        (3, "F", "bid", 1, 1, "Two"),
        (3, "F", "bid", 2, 2, "One"),
        (4, "B", None, None, None, None),
    ]
    assert [row["merged"] for row in rows] == [0] * 5 + [4, 4, 0]


def test_a_day_in_arrow_is_the_day_that_was_pushed(tmp_path: Path) -> None:
    pushed = record_brokers(tmp_path, symbols=(TENCENT, "HK.00005"))
    table = pa.Table.from_batches(list(arrow.read(broker_file(tmp_path, DAY), [TENCENT])))
    assert set(table["symbol"].to_pylist()) == {TENCENT}
    queue, came = BrokerQueue((), ()), []
    by_update: dict[int, list[dict[str, object]]] = {}
    for row in table.to_pylist():
        by_update.setdefault(row["update_no"], []).append(row)
    for rows in by_update.values():
        if rows[0]["kind"] == "B":
            continue
        if rows[0]["kind"] == "F":
            sides = {
                side: tuple((r["level"], r["broker_id"]) for r in rows if r["side"] == side) for side in ("bid", "ask")
            }
            queue = BrokerQueue(sides["bid"], sides["ask"])  # type: ignore[arg-type]
            assert all(row["broker"] == NAMES[row["broker_id"]] for row in rows if row["side"])  # type: ignore[index]
        came.append(queue)
    assert came == [push.queue for push in pushed if push.symbol == TENCENT]


def test_damaged_rows_are_told(tmp_path: Path) -> None:
    path = _record(tmp_path)
    conn = open_for_writing(path, SqliteOptions())
    conn.execute("UPDATE pushes SET payload = x'0909' WHERE rowid = 1")
    conn.close()
    for read in (lambda: list(queues(path)), lambda: list(arrow.read(path))):
        with pytest.raises(StoreCorrupt, match="is damaged"):
            read()


def test_files_of_queues_are_neither_day_files_nor_files_of_books(tmp_path: Path) -> None:
    path = _record(tmp_path)
    assert (broker_days(tmp_path), book_days(tmp_path), day_files(tmp_path)) == ([DAY], [], [])
    path.rename(book_file(tmp_path, DAY))
    with pytest.raises(StoreCorrupt, match="holds no order books"):
        book_reader.symbols(book_file(tmp_path, DAY))


def test_rows_of_a_symbol_that_the_file_does_not_name_are_told(tmp_path: Path) -> None:
    record_brokers(tmp_path, symbols=(TENCENT, "HK.00005"))
    path = broker_file(tmp_path, DAY)
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM symbols WHERE symbol = ?", (TENCENT,))
    with pytest.raises(StoreCorrupt, match="does not name"):
        list(arrow.read(path))


def test_a_symbol_that_comes_while_reading_begins_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record_brokers(tmp_path)
    path = broker_file(tmp_path, DAY)

    def then_another(path: Path) -> dict[str, int]:
        symbols_there = book_reader.symbols(path)
        record_brokers(tmp_path, symbols=("HK.00005",))
        return symbols_there

    monkeypatch.setattr(arrow, "symbols_of", then_another)
    told = pa.Table.from_batches(arrow.read(path))["symbol"].to_pylist()
    assert set(told) == {TENCENT, "HK.00005"}

"""Following broker queues: what is known where a line begins is the same however one came there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.records.book import (
    BookEntry,
    BrokerPush,
    BrokerQueue,
    PushEntry,
    RowKind,
    WatchBegan,
    WatchEnded,
)
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.broker_follow import COLUMNS, QueueFollower, QueueRows
from hk_tick_collector.store.followed import BROKERS
from hk_tick_collector.store.position import Position
from tests.books import DAY, OPEN_US
from tests.brokers import broker_writer, lively_queues

SYMBOLS = ("HK.00005", "HK.00700", "HK.09988")
DAY_US = 86_400_000_000
START = Position(kind=BROKERS.name)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[BookWriter]:
    with closing(broker_writer(tmp_path)) as writer:
        yield writer


def write(writer: BookWriter, *entries: BookEntry) -> None:
    writer.write(DAY, entries, sum(isinstance(entry, PushEntry) for entry in entries))


def test_what_is_known_at_any_place_is_what_a_reader_from_the_start_knows_there(
    writer: BookWriter, tmp_path: Path
) -> None:
    pushes = list(lively_queues(SYMBOLS, 240))
    write(writer, *[WatchBegan(symbol, OPEN_US) for symbol in SYMBOLS])
    for first in range(0, 240, 20):
        write(writer, *map(PushEntry, pushes[first : first + 20]))
        if first == 100:
            write(writer, WatchEnded("HK.00005", pushes[first + 19].recv_ts_us + 1, "connection lost"))
    with QueueFollower(tmp_path, days_look_sec=0) as on_the_way:
        position, places = START, [START]
        while (batch := on_the_way.read_behind(position, 7)) is not None:
            position = batch.position
            places.append(position)
            with QueueFollower(tmp_path, days_look_sec=0) as from_here:
                assert from_here.known(position) == on_the_way.known(position)
    assert len(places) > 30


def test_a_queue_that_is_only_pushed_again_is_known_from_the_row_that_told_it(
    writer: BookWriter, tmp_path: Path
) -> None:
    queue = BrokerQueue(((1, 4001), (2, 4038)), ())
    pushes = [BrokerPush("HK.00700", OPEN_US + n, queue, ((4001, "One"), (4038, "Two"))) for n in range(5)]
    write(writer, WatchBegan("HK.00700", OPEN_US), *map(PushEntry, pushes))
    rows = QueueRows(tmp_path, days_look_sec=0)
    with closing(rows):
        (known,) = rows.known(rows.end())
        batch = rows.read_behind(START)
    assert batch is not None
    assert [row[1 + COLUMNS.index("kind")] for row in batch.rows] == [RowKind.FULL, *[RowKind.SAME] * 4]
    assert {row[-2:] for row in batch.rows} == {(((1, 4001, "One"), (2, 4038, "Two")), ())}
    assert known == batch.rows[0]


def test_a_broker_without_a_name_has_none_and_one_that_is_named_later_has_it(
    writer: BookWriter, tmp_path: Path
) -> None:
    def push(after_us: int, *names: tuple[int, str]) -> PushEntry:
        return PushEntry(BrokerPush("HK.00700", OPEN_US + after_us, BrokerQueue(((1, 4001 + after_us),), ()), names))

    rows = QueueRows(tmp_path, days_look_sec=0)
    with closing(rows):
        write(writer, push(0), push(1, (4002, "Two")))
        first = rows.read_behind(START)
        assert first is not None
        write(writer, push(0, (4001, "One")))
        second = rows.read_behind(first.position)
        assert second is not None
    assert [row[-2] for row in (*first.rows, *second.rows)] == [
        ((1, 4001, None),),
        ((1, 4002, "Two"),),
        ((1, 4001, "One"),),
    ]


def test_brokers_keep_their_names_whichever_day_is_read_and_in_whatever_order(
    writer: BookWriter, tmp_path: Path
) -> None:
    """One reader of files serves all who catch up, and each of them stands in a day of its own."""
    days = [f"202611{number}" for number in range(20, 27)]
    for number, day in enumerate(days):
        queue = BrokerQueue(((1, 4001 + number),), ())
        named = ((4001 + number, f"Broker of {day}"),)
        writer.write(day, [PushEntry(BrokerPush("HK.00700", OPEN_US + number * DAY_US, queue, named))], 1)
    rows = QueueRows(tmp_path, days_look_sec=0)
    with closing(rows):
        for number, day in [*enumerate(days), *reversed(list(enumerate(days)))]:
            batch = rows.read_behind(Position.at_start_of(day, BROKERS.name))
            assert batch is not None
            assert [row[-2] for row in batch.rows] == [((1, 4001 + number, f"Broker of {day}"),)]

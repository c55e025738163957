"""Order books in the certificate of a day: the same words everywhere it is shown, and never that they are complete."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hk_tick_collector.archive.books import keep_books
from hk_tick_collector.archive.pack import PARQUET, archive_day
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality.book_certificate import books_of, part_of_books
from hk_tick_collector.quality.model import BookCertificate
from hk_tick_collector.records.book import (
    Book,
    BookEntry,
    BookPush,
    BrokerPush,
    BrokerQueue,
    PullCompared,
    PushEntry,
    WatchBegan,
    WatchEnded,
    WatchRefused,
)
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND, StateKind
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file, broker_file
from tests.books import DAY, OPEN_US
from tests.brokers import broker_writer
from tests.tickctl import record_day

NEXT_DAY = "20261123"

SYMBOL, OTHER = "HK.00700", "HK.00005"
NOW_MS = OPEN_US // 1000 + 60_000
BIDS = tuple((412.0 - n / 5, 100 * (n + 1), 3) for n in range(10))
ASKS = tuple((412.2 + n / 5, 200 * (n + 1), 4) for n in range(10))


def push(number: int, book: Book | None = None, **changed: Any) -> PushEntry:
    at_us = OPEN_US + (number + 1) * 500_000
    book_push = BookPush(SYMBOL, at_us, at_us // 1000 - 12, at_us // 1000 - 9, book or Book(BIDS[:9] + BIDS[9:], ASKS))
    return PushEntry(book_push._replace(**changed))


def healthy() -> list[BookEntry]:
    books = (Book((*BIDS[:9], (410.2, 100 * number, 1)), ASKS) for number in range(1, 100))
    return [WatchBegan(SYMBOL, OPEN_US), WatchBegan(OTHER, OPEN_US), *(push(n, book) for n, book in enumerate(books))]


def certificate(root: Path, entries: list[BookEntry], *, read: bool = True) -> BookCertificate:
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: NOW_MS)
    writer.write(DAY, entries, sum(1 + entry.merged for entry in entries if isinstance(entry, PushEntry)))
    writer.close()
    made = books_of(Day(DAY, None, root / "_archive", HK, root), DayKind.WHOLE, NOW_MS, read_pushes=read)
    assert made is not None
    return made


FAULTS: dict[str, tuple[list[BookEntry], dict[str, Any]]] = {
    "crossed": ([push(50, Book(((412.4, 100, 1), *BIDS), ASKS))], {"crossed": 1}),
    "one-sided": ([push(50, Book((), ASKS))], {"one_sided": 1}),
    "unsorted": ([push(50, Book((BIDS[0], BIDS[2], BIDS[1]), ASKS))], {"unsorted": 1}),
    "repeated price": ([push(50, Book((BIDS[0], *BIDS), ASKS))], {"repeated": 1}),
    "no shares": ([push(50, Book(((412.0, 0, 0), *BIDS[1:]), ASKS))], {"no_shares": 1}),
    "zero times": ([push(50, Book(BIDS, ASKS), bid_ts_ms=None, ask_ts_ms=None)], {"without_times": 1}),
    "clock back": ([push(50, Book(BIDS, ASKS), bid_ts_ms=OPEN_US // 1000)], {"clock_back": 1}),
    "merged": ([PushEntry(push(50, Book(BIDS, ASKS)).push, merged=7)], {"merged": 7}),
    "a pull that differs": ([push(50, Book(BIDS, ASKS)), PullCompared(SYMBOL, OPEN_US, False)], {"pulls": 1}),
    "the right falls to BMP": (
        [push(50, Book(BIDS, ASKS)), WatchEnded(SYMBOL, NOW_MS * 1000 - 6_000_000, "right lost: Bmp")],
        {
            "state": "blind", "watched_ms": -6000, "blind_stretches": 1,
            "reason": "watched 90.00 % of trading, 1 blind stretch (right lost: Bmp)",
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_changes_exactly_its_line(tmp_path: Path, fault: str) -> None:
    entries, expected = FAULTS[fault]
    ends = isinstance(entries[-1], WatchEnded)
    faulty = [*healthy()[:52], entries[0], *healthy()[53:], *entries[1:]]
    before, after = certificate(tmp_path / "healthy", healthy()), certificate(tmp_path / "faulty", faulty)
    (other, line), (other_after, one_after) = before.symbols, after.symbols
    changed = {
        name: value - was if isinstance(value, int) and not isinstance(value, bool) else value
        for (name, value), was in zip(asdict(one_after).items(), asdict(line).values(), strict=True)
        if value != was
    }
    assert changed == expected
    assert other_after == other
    assert (before.state, after.state) == ("watched", "blind" if ends else "watched")
    assert after.adds_up


def test_books_that_nobody_sends_are_blind_with_the_reason(tmp_path: Path) -> None:
    """The quota was enough for ticks only, or there is no right: also on the next day, and until it is subscribed."""
    why = "quota is short: ticks go first"
    before = certificate(tmp_path / "healthy", healthy())
    refused = WatchRefused("HK.09988", OPEN_US - 1000, why)
    after = certificate(tmp_path / "refused", [refused, refused._replace(reason="another"), *healthy()])
    *others, blind = after.symbols
    assert tuple(others) == before.symbols
    assert (blind.state, blind.watched_ms, blind.pushes) == ("blind", 0, 0)
    assert blind.reason == f"watched 0.00 % of trading, 1 blind stretch ({why})"
    root = tmp_path / "days"
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: NOW_MS)
    for day, shift_us in ((DAY, 0), (NEXT_DAY, 3 * 86_400_000_000)):
        one_push = push(1).push
        writer.write(day, [refused] if day == DAY else [], 0)
        writer.write(day, [PushEntry(one_push._replace(recv_ts_us=one_push.recv_ts_us + shift_us))], 1)
    writer.write(NEXT_DAY, [WatchBegan("HK.09988", NOW_MS * 1000)], 0)
    writer.close()
    for day, reasons in ((DAY, [why]), (NEXT_DAY, [why, "recorder stopped"])):
        watches = [watch for watch in book_reader.watches(book_file(root, day)) if watch.symbol == "HK.09988"]
        assert [watch.reason for watch in watches] == reasons


def test_it_is_watched_and_witnessed_and_never_complete(tmp_path: Path) -> None:
    entries = [*healthy(), PullCompared(SYMBOL, OPEN_US, True)]
    whole, noted = certificate(tmp_path / "a", entries), certificate(tmp_path / "b", entries, read=False)
    assert whole.sentence == "2 symbols, watched 100 % of trading, 0 impossible states, 1 of 1 pulls agree"
    assert noted.sentence == "2 symbols, watched 100 % of trading, 1 of 1 pulls agree"
    for told in (whole, noted):
        assert (told.state, told.received, told.stored, told.merged, told.unread) == ("watched", 99, 99, 0, 0)
        assert not {"complete", "proven"} & set(json.dumps(asdict(told)).replace('"', " ").split())
    assert [symbol.pushes for symbol in noted.symbols] == [None, None]
    part = part_of_books(whole, lambda symbol: symbol == OTHER)
    assert (part.sentence, part.received) == ("1 symbol, watched 100 % of trading, 0 impossible states", None)
    nothing = part_of_books(whole, lambda _: False)
    assert (nothing.state, nothing.sentence) == ("blind", "no order books"), "nobody watched what is not there"


def test_books_that_are_packed_or_damaged_are_said_to_be_unread(tmp_path: Path) -> None:
    certificate(tmp_path, healthy())
    day = Day(DAY, None, tmp_path / "_archive", HK, tmp_path)
    assert books_of(replace(day, trading_day="20261119"), DayKind.WHOLE, NOW_MS) is None
    assert books_of(replace(day, data_root=None), DayKind.WHOLE, NOW_MS) is None
    keep_books(tmp_path, DAY, NOW_MS)
    path = book_file(tmp_path, DAY)
    path.write_bytes(b"no books" * 1000)
    told = books_of(day, DayKind.WHOLE, NOW_MS, read_pushes=True)
    assert told is not None
    assert (told.state, told.symbols) == ("unread", ())
    assert told.sentence.startswith("they cannot be read: ")
    assert part_of_books(told, lambda _: True) == told


# Broker queues, by the same function

QUEUE = BrokerQueue(((1, 4001), (2, 4075)), ((1, 4334),))


def queue_certificate(root: Path, entries: list[BookEntry], *, read: bool = True) -> BookCertificate:
    writer = broker_writer(root, NOW_MS)
    writer.write(DAY, entries, sum(1 + entry.merged for entry in entries if isinstance(entry, PushEntry)))
    writer.close()
    made = books_of(Day(DAY, None, root / "_archive", HK, root), DayKind.WHOLE, NOW_MS, BROKER_KIND, read_pushes=read)
    assert made is not None
    return made


def watched_queues(merged: int = 0) -> list[BookEntry]:
    queues = (BrokerQueue(QUEUE.bids, ((1, 4001 + number),)) for number in range(50))
    pushes = (BrokerPush(SYMBOL, OPEN_US + n * 1000, queue) for n, queue in enumerate(queues))
    return [
        WatchBegan(SYMBOL, OPEN_US), WatchBegan(OTHER, OPEN_US),
        *(PushEntry(queue_push, merged if n == 30 else 0) for n, queue_push in enumerate(pushes)),
        PullCompared(SYMBOL, OPEN_US + 60_000, True),
    ]  # fmt: skip


def test_queues_are_watched_and_counted_and_never_judged_or_complete(tmp_path: Path) -> None:
    whole = queue_certificate(tmp_path / "a", watched_queues(merged=4))
    noted = queue_certificate(tmp_path / "b", watched_queues(merged=4), read=False)
    assert whole.sentence == "2 symbols, watched 100 % of trading, 4 pushes merged, 1 of 1 pulls agree"
    assert noted.sentence == "2 symbols, watched 100 % of trading, 1 of 1 pulls agree"
    for told in (whole, noted):
        assert (told.state, told.received, told.stored, told.merged, told.unread) == ("watched", 54, 50, 4, 0)
        assert told.adds_up
        assert not {"complete", "proven"} & set(json.dumps(asdict(told)).replace('"', " ").split())
    assert [(symbol.symbol, symbol.pushes, symbol.merged) for symbol in whole.symbols] == [
        (OTHER, 0, 0),
        (SYMBOL, 50, 4),
    ]
    assert [(symbol.pushes, symbol.merged) for symbol in noted.symbols] == [(None, None)] * 2
    judged = {"same", "one_sided", "crossed", "unsorted", "repeated", "no_shares", "without_times", "clock_back"}
    judged |= {"trades", "trades_answered", "suspected_holes", "impossible"}
    assert {getattr(symbol, name) for symbol in whole.symbols for name in judged} == {None}  # nobody looked: not 0
    part = part_of_books(whole, lambda symbol: symbol == OTHER, BROKER_KIND)
    assert (part.sentence, part.received) == ("1 symbol, watched 100 % of trading", None)
    nothing = part_of_books(whole, lambda _: False, BROKER_KIND)
    assert (nothing.state, nothing.sentence) == ("blind", "no broker queues")


def test_a_blind_stretch_of_queues_is_told_with_its_reason_and_changes_no_book(tmp_path: Path) -> None:
    books = certificate(tmp_path, healthy())
    ended = WatchEnded(SYMBOL, NOW_MS * 1000 - 6_000_000, "connection lost")
    told = queue_certificate(tmp_path, [*watched_queues(), ended])
    other, blind = told.symbols
    assert (told.state, other.state, blind.state) == ("blind", "watched", "blind")
    assert blind.reason == "watched 90.00 % of trading, 1 blind stretch (connection lost)"
    assert (
        books_of(Day(DAY, None, tmp_path / "_archive", HK, tmp_path), DayKind.WHOLE, NOW_MS, read_pushes=True) == books
    )


def test_pushes_of_queues_that_do_not_add_up_are_said(tmp_path: Path) -> None:
    queue_certificate(tmp_path, watched_queues())
    with contextlib.closing(sqlite3.connect(broker_file(tmp_path, DAY))) as conn, conn:
        conn.execute("UPDATE sessions SET received = received + 1")
    day = Day(DAY, None, tmp_path / "_archive", HK, tmp_path)
    told = books_of(day, DayKind.WHOLE, NOW_MS, BROKER_KIND)
    assert told is not None
    assert (told.received, told.adds_up) == (51, False)


@pytest.mark.parametrize("states", [BOOK_KIND, BROKER_KIND])
def test_a_part_of_what_is_packed_counts_no_row_of_others(tmp_path: Path, states: StateKind) -> None:
    certificate(tmp_path, healthy())
    queue_certificate(tmp_path, watched_queues())
    record_day(tmp_path)
    archive_day(tmp_path, tmp_path / "_archive", DAY, (PARQUET,), made_at_ms=NOW_MS)
    for path in (book_file(tmp_path, DAY), broker_file(tmp_path, DAY)):
        path.unlink()
    told = books_of(Day(DAY, None, tmp_path / "_archive", HK, tmp_path), DayKind.WHOLE, NOW_MS, states)
    assert told is not None
    assert re.match(r"\d+ rows in the archive", told.sentence)
    part = part_of_books(told, lambda symbol: symbol == OTHER, states)
    assert (part.state, part.sentence) == ("unread", "they are in the archive, and were not unpacked for this")


def test_queues_that_are_packed_or_damaged_are_said_to_be_unread(tmp_path: Path) -> None:
    whole = queue_certificate(tmp_path, watched_queues())
    day = Day(DAY, None, tmp_path / "_archive", HK, tmp_path)
    assert books_of(day, DayKind.WHOLE, NOW_MS) is None  # of books there are none
    broker_file(tmp_path, DAY).write_bytes(b"no queues" * 1000)
    told = books_of(day, DayKind.WHOLE, NOW_MS, BROKER_KIND)
    assert told is not None
    assert (whole.state, told.state, told.symbols, told.error is None) == ("watched", "unread", (), False)

"""``hk-tickctl book`` as its users call it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.days.books import newest_no
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import Book, BookPush, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store.book_reader import counts, newest_book, pulls, sessions, symbols, watches
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.books import DAY, OPEN_US, record_books
from tests.tickctl import record_day, tickctl, tickctl_json

BOOK = Book(((412.2, 3000, 7), (412.0, 12500, 31)), ((412.4, 800, 2),))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("day") / "data"
    record_day(root, DAY, count=300)
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: OPEN_US // 1000 + 3_600_000)
    lost_us = OPEN_US + 60_000_000
    writer.write(
        DAY,
        [
            WatchBegan("HK.00700", OPEN_US - 1_000_000),
            PushEntry(BookPush("HK.00700", OPEN_US + 123_456, OPEN_US // 1000 + 100, None, BOOK)),
            WatchEnded("HK.00700", lost_us, "connection lost"),
        ],
        1,
    )
    writer.close()
    return root


def test_a_ladder_reads_from_the_best_prices_down(root: Path) -> None:
    done = tickctl("book", "700", "--at", "09:30:30", data_root=root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "HK.00700, received 09:30:00.123 HKT on 20261120, spread 0.2",
        "bid orders  bid shares    bid    ask  ask shares  ask orders",
        "         7       3,000  412.2  412.4         800           2",
        "        31      12,500  412      -             -           -",
        "at the source's server: bid 09:30:00.100",
    ]


def test_without_a_time_it_is_the_newest_book_that_was_known(root: Path) -> None:
    assert tickctl("book", "700", data_root=root).stdout.startswith("HK.00700, received 09:30:00.123 HKT")


def test_the_page_of_the_day_says_what_was_watched_and_nothing_of_what_nobody_read(root: Path) -> None:
    done = tickctl("day", DAY, "--no-write", data_root=root)
    told = " ".join(done.stdout.split())
    assert "Order books: 1 symbol, watched 0.30 % of trading, 2 blind stretches (hk-tickctl book)" in told
    assert "impossible" not in told


def test_of_many_recorded_symbols_some_are_named_and_the_others_counted(tmp_path: Path) -> None:
    record_books(tmp_path, symbols=tuple(f"HK.{number:05}" for number in range(1, 14)))
    done = tickctl("book", "700", data_root=tmp_path)
    assert done.returncode == 3
    assert " ".join(done.stderr.split()).endswith("HK.00009, HK.00010 and 3 more")


def test_as_json(root: Path) -> None:
    state = tickctl_json("book", "0700.HK", "--at", "09:30:30", data_root=root)
    assert (state["symbol"], state["recv_ts_us"], state["watched"]) == ("HK.00700", OPEN_US + 123_456, True)
    assert state["bids"][0] == {"price": 412.2, "volume": 3000, "orders": 7}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("700", "--at", "09:40"), "was not known at 09:40:00.000 HKT on 20261120: connection lost at 09:31:00.000"),
        (("700", "--at", "09:29"), "nothing of HK.00700 had come by 09:29:00.000"),
        (("5",), "no order book of HK.00005 was recorded on 20261120; recorded: HK.00700"),
        (("700", "--day", "20261119"), "no order books are recorded of 20261119; there is 1 day, 20261120"),
    ],
)
def test_where_there_is_no_book_it_says_why(root: Path, words: tuple[str, ...], says: str) -> None:
    done = tickctl("book", *words, data_root=root)
    assert (done.returncode, done.stdout) == (3, "")
    assert says in " ".join(done.stderr.split())


def test_without_books_it_says_how_to_get_some(tmp_path: Path) -> None:
    done = tickctl("book", data_root=tmp_path)
    assert done.returncode == 3
    assert "BOOK_SYMBOLS" in done.stderr
    assert tickctl("book", "--at", "09:30", data_root=tmp_path).returncode in (2, 3)


def test_the_report_of_a_day_with_a_blind_stretch_ends_with_1(root: Path) -> None:
    report = tickctl_json("book", data_root=root, code=1)
    (book,) = report["symbols"]
    assert book["symbol"] == "HK.00700"
    assert book["blind"][0][2] == "connection lost"
    assert report["sentence"].startswith("watched 0.30 % of trading")
    shown = tickctl("book", data_root=root)
    assert "1 pushes received, 1 stored, 0 merged, 0 unread" in shown.stdout
    assert "blind: HK.00700 09:31:00.000 to 12:00:00.000, connection lost" in shown.stdout


def test_damage_in_the_middle_of_the_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    """Wherever it lies: every table and index is behind the first page."""
    record_day(tmp_path, DAY, count=20)
    record_books(tmp_path, DAY)
    path = book_file(tmp_path, DAY)
    content, refusals = path.read_bytes(), 0
    for first_page in range(1, len(content) // 4096, 4):
        path.write_bytes(content[: first_page * 4096] + bytes(4 * 4096) + content[(first_page + 4) * 4096 :])
        for read in (watches, sessions, pulls, counts, symbols, newest_no, lambda file: newest_book(file, "HK.00700")):
            with contextlib.suppress(StoreError):  # any other error fails the test
                read(path)
                continue
            refusals += 1
    assert refusals > 8
    done = tickctl("book", data_root=tmp_path)
    assert "Traceback" not in done.stderr

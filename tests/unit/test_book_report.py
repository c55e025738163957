"""What is said of a day's books: each fault changes its own number alone, and nothing is claimed that nobody knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from hk_tick_collector.days import watched
from hk_tick_collector.days.watched import SymbolBooks, watched_of
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality.books import BookReport, report_of
from hk_tick_collector.records.book import Book, BookEntry, BookPush, PullCompared, PushEntry, WatchBegan, WatchEnded
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from tests.books import DAY, OPEN_US

SYMBOL = "HK.00700"
NOW_MS = OPEN_US // 1000 + 600_000  # ten minutes of trading
STEP_US = 500_000
PUSHES = 1199
TRADES = {SYMBOL: np.arange(OPEN_US // 1000 + 250, NOW_MS, 1000, dtype=np.int64)}


def _book(number: int) -> Book:
    return Book(
        tuple((412.0 - n / 5, 100 * (number + n + 1), 3) for n in range(10)),
        tuple((412.2 + n / 5, 200 * (n + 1), 4) for n in range(10)),
    )


def _push(number: int, book: Book | None = None, **changed: object) -> PushEntry:
    at_us = OPEN_US + (number + 1) * STEP_US
    at_ms = at_us // 1000
    push = BookPush(SYMBOL, at_us, at_ms - 12, at_ms - 9, _book(number) if book is None else book)
    return PushEntry(push._replace(**changed))  # type: ignore[arg-type]


def _healthy() -> list[BookEntry]:
    return [WatchBegan(SYMBOL, OPEN_US), *(_push(number) for number in range(PUSHES))]


def _report(root: Path, entries: list[BookEntry], received: int | None = None) -> BookReport:
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: NOW_MS)
    pushes = sum(1 + e.merged for e in entries if isinstance(e, PushEntry))
    writer.write(DAY, entries, pushes if received is None else received)
    writer.close()
    return report_of(book_file(root, DAY), DAY, HK, DayKind.WHOLE, NOW_MS, TRADES)


def _one(report: BookReport) -> SymbolBooks:
    (symbol_report,) = report.symbols
    return symbol_report


def test_a_healthy_day_says_what_was_witnessed_and_no_more(tmp_path: Path) -> None:
    report = _report(tmp_path, [*_healthy(), *[PullCompared(SYMBOL, OPEN_US, True)] * 66])
    assert report.sentence == (
        "watched 100 % of trading, 0 impossible states, 66 of 66 pulls agree, 100 % of trades answered"
    )
    assert (report.problems, report.accounted) == (0, True)
    assert "complete" not in report.sentence
    assert _one(report).watched_ms == _one(report).wanted_ms == 600_000


def _insert(at: int, *entries: BookEntry) -> Callable[[list[BookEntry]], list[BookEntry]]:
    return lambda healthy: [*healthy[:at], *entries, *healthy[at:]]


def _instead(at: int, *entries: BookEntry) -> Callable[[list[BookEntry]], list[BookEntry]]:
    return lambda healthy: [*healthy[:at], *entries, *healthy[at + len(entries) :]]


_BIDS, _ASKS = _book(100)
_PART = 500  # the entry that is number 499
FAULTS: dict[str, tuple[Callable[[list[BookEntry]], list[BookEntry]], dict[str, int]]] = {
    "crossed": (_instead(_PART, _push(499, Book(((412.4, 100, 1), *_BIDS), _ASKS))), {"crossed": 1}),
    "locked": (_instead(_PART, _push(499, Book(((412.2, 100, 1), *_BIDS), _ASKS))), {"crossed": 1}),
    "unsorted": (_instead(_PART, _push(499, Book((_BIDS[0], _BIDS[2], _BIDS[1]), _ASKS))), {"unsorted": 1}),
    "repeated": (_instead(_PART, _push(499, Book((_BIDS[0], *_BIDS), _ASKS))), {"repeated": 1}),
    "no shares": (_instead(_PART, _push(499, Book(((412.0, 0, 0), *_BIDS[1:]), _ASKS))), {"no_shares": 1}),
    "one side": (_instead(_PART, _push(499, Book((), _ASKS))), {"one_sided": 1}),
    "no times": (_instead(_PART, _push(499, bid_ts_ms=None, ask_ts_ms=None)), {"without_times": 1}),
    "no first times": (_instead(1, _push(0, bid_ts_ms=None, ask_ts_ms=None)), {}),
    "clock back": (_instead(_PART, _push(499, bid_ts_ms=OPEN_US // 1000)), {"clock_back": 1}),
    "the same again": (_instead(_PART, _push(498)), {"same": 1}),
    "merged": (_instead(_PART, PushEntry(_push(499).push, merged=7)), {"merged": 7}),
    "a pull that differs": (
        _insert(_PART, PullCompared(SYMBOL, OPEN_US, False), PullCompared(SYMBOL, OPEN_US, True)),
        {"pulls": 2, "pulls_agreed": 1},
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_changes_exactly_its_own_number(tmp_path: Path, fault: str) -> None:
    change, expected = FAULTS[fault]
    before = asdict(_one(_report(tmp_path / "healthy", _healthy())))
    after = asdict(_one(_report(tmp_path / "faulty", change(_healthy()))))
    assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == expected


def test_a_book_that_stands_still_while_trades_go_on_is_a_suspected_hole(tmp_path: Path) -> None:
    healthy = _healthy()
    books = _one(_report(tmp_path, [*healthy[:400], *healthy[500:]]))  # 50 s
    (hole,) = books.holes
    assert hole.length_ms == 50_500
    assert hole.reason == "50 trades, and the book stood still"
    assert books.trades - books.trades_answered == 48  # the first and the last have a push within a second
    assert books.watched_ms == 600_000
    quiet = dict.fromkeys(TRADES, TRADES[SYMBOL][::60])
    report = report_of(book_file(tmp_path, DAY), DAY, HK, DayKind.WHOLE, NOW_MS, quiet)
    assert not _one(report).holes  # where nobody trades, a book may stand


def test_a_book_of_a_symbol_without_ticks_is_held_against_none(tmp_path: Path) -> None:
    with_ticks = asdict(_one(_report(tmp_path, _healthy())))
    without = report_of(book_file(tmp_path, DAY), DAY, HK, DayKind.WHOLE, NOW_MS, {})
    changed = {name for name, value in asdict(_one(without)).items() if value != with_ticks[name]}
    assert (changed, without.problems) == ({"trades", "trades_answered"}, 0)
    assert without.sentence == "watched 100 % of trading, 0 impossible states"


def test_dropped_pushes_show_in_the_trades_that_nothing_answered(tmp_path: Path) -> None:
    dropped = [entry for n, entry in enumerate(_healthy()) if n == 0 or n % 20 > 9]
    books = _one(_report(tmp_path, dropped))
    assert 0.5 < books.trades_answered / books.trades < 0.9
    assert not books.holes
    assert not books.blind


def test_what_was_not_watched_is_blind_with_its_reason_and_no_trade_of_it_is_judged(tmp_path: Path) -> None:
    at = OPEN_US + 100 * 1_000_000
    lost = [WatchEnded(SYMBOL, at, "right lost: Bmp"), WatchBegan(SYMBOL, at + 30_000_000)]
    entries = [e for e in _healthy() if not isinstance(e, PushEntry) or not at < e.push.recv_ts_us <= at + 30_000_000]
    report = _report(tmp_path, [*entries[:201], *lost, *entries[201:]])
    books = _one(report)
    assert books.blind == [(at // 1000, at // 1000 + 30_000, "right lost: Bmp")]
    assert books.watched_ms == 570_000
    assert books.trades == books.trades_answered
    assert report.sentence.startswith("watched 95.00 % of trading, 1 blind stretch, ")


def test_a_day_that_began_late_and_ended_early_says_both(tmp_path: Path) -> None:
    begun = WatchBegan(SYMBOL, OPEN_US + 60_000_000)
    ended = WatchEnded(SYMBOL, OPEN_US + 120_000_000, "connection lost")
    books = _one(_report(tmp_path, [begun, *(_push(number) for number in range(120, 239)), ended]))
    assert [(stretch.length_ms, stretch.reason) for stretch in books.blind] == [
        (60_000, watched.NOT_BEGUN),
        (480_000, "connection lost"),
    ]


def test_a_crossed_book_of_an_auction_is_normal(tmp_path: Path) -> None:
    before_opening = OPEN_US - 20 * 60_000_000
    crossed = Book(((413.0, 100, 1),), ((412.0, 100, 1),))
    push = PushEntry(BookPush(SYMBOL, before_opening, None, None, crossed))
    assert _one(_report(tmp_path, [push, *_healthy()])).crossed == 0


def test_counts_that_do_not_add_up_are_said(tmp_path: Path) -> None:
    report = _report(tmp_path, _healthy(), received=PUSHES + 3)
    assert not report.accounted
    assert report.problems == 1


def test_nearly_all_is_not_all() -> None:
    assert watched.share(99_999_999, 100_000_000) == "99.99 %"
    assert watched.share(5, 5) == "100 %"
    assert watched.share(0, 0) == "none"


@pytest.mark.parametrize("reads", ["all", "notes"])
def test_a_symbol_that_comes_between_two_readings_is_judged_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    """The recorder writes on while a file is judged: its pushes and pulls are of more symbols than were listed."""
    late = "HK.00005"
    writer = BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda: NOW_MS)
    writer.write(DAY, _healthy(), PUSHES)
    listed = book_reader.symbols

    def listed_before_the_late_one(path: Path) -> object:
        symbols = listed(path)
        push = _push(7).push._replace(symbol=late)
        writer.write(DAY, [WatchBegan(late, OPEN_US), PushEntry(push), PullCompared(late, OPEN_US, True)], PUSHES + 1)
        return symbols

    monkeypatch.setattr(book_reader, "symbols", listed_before_the_late_one)
    path = book_file(tmp_path, DAY)
    if reads == "all":
        symbols = report_of(path, DAY, HK, DayKind.WHOLE, NOW_MS, {**TRADES, late: TRADES[SYMBOL]}).symbols
    else:
        symbols = watched_of(path, DAY, HK, DayKind.WHOLE, NOW_MS)
    writer.close()
    assert [(books.symbol, books.pulls) for books in symbols] == [(late, 1), (SYMBOL, 0)]
    assert [books.pushes for books in symbols] == ([1, PUSHES] if reads == "all" else [0, 0])


@pytest.mark.parametrize(("later_ms", "blind"), [(0, 0), (1_100, 0), (5_000, 0), (5_001, 1)])
def test_what_a_living_recorder_is_about_to_tell_is_not_blind(tmp_path: Path, later_ms: int, blind: int) -> None:
    """It says once a second that it watches. One that has told nothing for longer may be gone."""
    writer = BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda: NOW_MS)
    writer.write(DAY, _healthy(), PUSHES)
    try:
        report = report_of(book_file(tmp_path, DAY), DAY, HK, DayKind.WHOLE, NOW_MS + later_ms, TRADES)
        noted = watched_of(book_file(tmp_path, DAY), DAY, HK, DayKind.WHOLE, NOW_MS + later_ms)
    finally:
        writer.close()
    for symbol in (_one(report), *noted):
        assert [stretch.reason for stretch in symbol.blind] == ["the recorder's last word"] * blind
        assert (symbol.watched_ms, symbol.wanted_ms) == (600_000, 600_000 + later_ms * blind)

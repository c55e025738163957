"""Order books beside the ticks: who is watched when, what goes first, and what each interruption does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from futu.common.pb import Qot_GetOrderBook_pb2, Qot_UpdateOrderBook_pb2

from hk_tick_collector.market.calendar import TradingCalendar
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.book import Book, BookEvent, PullCompared, RawPush, WatchBegan, WatchEnded, WatchRefused
from hk_tick_collector.sources.books import CALM_SEC, CUT_OFF, LOSSES, REST_MAX_SEC, REST_MIN_SEC
from hk_tick_collector.sources.futu import books as futu_books
from hk_tick_collector.sources.futu.answers import Notice
from hk_tick_collector.sources.futu.books import MAX_LEVELS, BookHandler, book_of, read_book
from hk_tick_collector.sources.futu.mapping import TickMapper
from hk_tick_collector.sources.futu.sdk import decode_level
from tests.unit.sources.bench import DAY, Bench, play

CODES = ("HK.00700", "HK.00005", "HK.00001")
CALENDAR = TradingCalendar(HK)
BOOK = Book(((412.2, 3000, 7), (412.0, 12500, 31)), ((412.4, 800, 2),))
AT_MS = day_start_ms(DAY) + 10 * 3_600_000


def _fill(s2c: Any, symbol: str, book: Book, bid_sec: float = 0.0) -> Any:
    s2c.security.market, s2c.security.code = 1, symbol[3:]
    for levels, side in ((s2c.orderBookBidList, book.bids), (s2c.orderBookAskList, book.asks)):
        for price, volume, orders in side:
            levels.add(price=price, volume=volume, orederCount=orders)
    s2c.svrRecvTimeBidTimestamp = bid_sec
    return s2c


def _push(symbol: str, book: Book = BOOK, bid_sec: float = 0.0) -> Any:
    message = Qot_UpdateOrderBook_pb2.Response(retType=0)
    _fill(message.s2c, symbol, book, bid_sec)
    return message


def _pulled(symbol: str, book: Book = BOOK) -> Any:
    return _fill(Qot_GetOrderBook_pb2.S2C(), symbol, book)


class Sink:
    """Keeps what it is handed."""

    def __init__(self) -> None:
        self.pushes: list[RawPush] = []
        self.events: list[BookEvent] = []

    def push(self, pushes: Sequence[RawPush]) -> None:
        self.pushes += pushes

    def tell(self, events: Sequence[BookEvent]) -> None:
        self.events += events

    @property
    def watching(self) -> set[str]:
        """As a reader of the events has it."""
        now: set[str] = set()
        for told in self.events:
            if isinstance(told, WatchBegan):
                now.add(told.symbol)
            elif isinstance(told, WatchEnded):
                now.discard(told.symbol)
        return now

    @property
    def ends(self) -> list[WatchEnded]:
        return [told for told in self.events if isinstance(told, WatchEnded)]


Script = Callable[[Bench, Sink], Coroutine[Any, Any, None]]


def _live(script: Script, books: Sequence[str] = CODES, quota: int = 100, ticks: Sequence[str] = CODES) -> Sink:
    """A session with books, until the script is played."""
    sink = Sink()

    async def life() -> None:
        bench = Bench(AT_MS)
        bench.opend.quota = quota
        bench.opend.books = {symbol: _pulled(symbol) for symbol in books}
        session = bench.session(ticks, CALENDAR, (books, sink))
        await bench.serve(session, script(bench, sink))

    play(life())
    return sink


async def _all_watched(bench: Bench, sink: Sink, symbols: Sequence[str] = CODES) -> None:
    await bench.until(lambda: sink.watching == set(symbols))


def test_books_are_subscribed_after_the_ticks_and_watched_until_the_stop() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink)
        words = [word for word, _, _ in bench.opend.requests]
        last_of_ticks = max(n for n, word in enumerate(words) if word in ("subscribe", "ticks"))
        assert words.index("subscribe books") > last_of_ticks
        assert bench.book_progress.subscribed == 3

    sink = _live(script)
    assert [(end.symbol, end.reason, end.known_us) for end in sink.ends] == [
        (code, "recorder stopped", 0) for code in CODES
    ]


@pytest.mark.parametrize(("quota", "watched"), [(6, 3), (5, 2), (3, 0), (2, 0)])
def test_ticks_go_first_and_books_take_what_the_quota_leaves(quota: int, watched: int) -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await bench.until(lambda: bench.progress.symbols_subscribed == min(quota, 3))
        await bench.until(lambda: len(bench.book_progress.refused_symbols) == 3 - watched)
        await asyncio.sleep(400)
        assert sink.watching == set(CODES[:watched])
        assert bench.progress.symbols_subscribed == min(quota, 3)
        for why in bench.book_progress.refused_symbols.values():
            assert why.startswith("quota is short")
        refused = {told.symbol: told.reason for told in sink.events if isinstance(told, WatchRefused)}
        assert refused == bench.book_progress.refused_symbols, "their day says why it is blind"

    _live(script, quota=quota)


def test_a_tick_that_lacks_quota_gets_it_from_the_last_book() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink)
        session.set_symbols((*CODES, "HK.00388"))
        await bench.until(lambda: bench.progress.symbols_subscribed == 4, 1200)
        assert sink.watching == set(CODES[:2])
        assert [(end.symbol, end.reason) for end in sink.ends] == [(CODES[2], "quota given to ticks")]

    sink = Sink()

    async def life() -> None:
        nonlocal session
        bench = Bench(AT_MS)
        bench.opend.quota = 6
        bench.opend.books = {symbol: _pulled(symbol) for symbol in CODES}
        session = bench.session(CODES, CALENDAR, (CODES, sink))
        await bench.serve(session, script(bench, sink))

    session: Any = None
    play(life())


def test_a_book_that_is_refused_costs_only_itself_and_is_tried_again() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        bench.opend.refused_books = {CODES[1]}
        await bench.until(lambda: sink.watching == {CODES[0], CODES[2]})
        assert bench.book_progress.refused_symbols == {CODES[1]: f"no book of {CODES[1]}"}
        bench.opend.refused_books = set()
        await _all_watched(bench, sink)
        assert not bench.book_progress.refused_symbols

    _live(script)


def test_a_book_needs_no_ticks_of_its_symbol() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink, ["HK.00388"])
        assert bench.opend.connections[0].subscribed == list(CODES)

    _live(script, books=["HK.00388"])


def test_a_lost_connection_ends_the_watch_at_once_and_the_next_one_begins_another() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink)
        bench.opend.connections[0].lose()
        await bench.until(lambda: len(sink.ends) == 3)
        await _all_watched(bench, sink)

    ends = _live(script).ends
    assert {(end.reason, end.known_us) for end in ends[:3]} == {("connection lost", 0)}


def test_a_connection_that_fell_silent_was_good_until_its_last_sign_of_life() -> None:
    at_us = 0

    async def script(bench: Bench, sink: Sink) -> None:
        nonlocal at_us
        await _all_watched(bench, sink)
        at_us = bench.clock.now_ms() * 1000
        bench.opend.trouble = lambda word, code: 3600.0
        await bench.until(lambda: len(sink.ends) == 3)
        bench.opend.trouble = lambda word, code: None

    ends = _live(script).ends
    assert ends[0].reason == "connection lost"
    assert at_us - 1_000_000 <= ends[0].known_us <= at_us + 11_000_000  # one round of checks may have been answered
    assert ends[0].at_us - ends[0].known_us > 10_000_000


def test_a_login_that_is_lost_makes_all_books_blind_until_it_is_back() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink)
        bench.opend.ready = False
        await bench.until(lambda: len(sink.ends) == 3)
        assert not sink.watching
        bench.opend.ready = True
        await _all_watched(bench, sink)

    ends = _live(script).ends
    assert ends[0].reason == "not logged in"
    assert 0 < ends[0].at_us - ends[0].known_us <= 20_000_000


def test_a_right_that_falls_to_bmp_ends_the_watch_and_its_return_begins_it() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink)
        notice = bench.opend.connections[0].on_notice
        notice(Notice("QotRight", "Bmp", {"cannot_subscribe": "HK"}))
        await bench.until(lambda: len(sink.ends) == 3, 1.0)
        assert set(bench.book_progress.refused_symbols.values()) == {"no right to order books: Bmp"}
        await asyncio.sleep(300)
        assert not sink.watching
        notice(Notice("QotRight", "Level2", {"cannot_subscribe": ""}))
        await _all_watched(bench, sink)
        assert not bench.book_progress.refused_symbols
        assert bench.progress.symbols_subscribed == 3

    ends = _live(script).ends
    assert {end.reason for end in ends[:3]} == {"right lost: Bmp"}


def test_a_subscription_that_opend_drops_was_good_until_the_look_before() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink)
        await asyncio.sleep(130)
        bench.opend.connections[0].books.remove(CODES[1])
        await bench.until(lambda: len(sink.ends) == 1)
        await _all_watched(bench, sink)

    (end, *_) = _live(script).ends
    assert (end.symbol, end.reason) == (CODES[1], "the source dropped it")
    assert 0 < end.at_us - end.known_us <= 80_000_000  # a minute, and a check


def test_push_and_pull_are_held_together_symbol_by_symbol() -> None:
    other = Book(BOOK.bids[:1], ())

    async def script(bench: Bench, sink: Sink) -> None:
        await bench.until(lambda: bench.progress.connected)
        bench.opend.books[CODES[1]] = _pulled(CODES[1], other)
        await _all_watched(bench, sink)
        connection = bench.opend.connections[0]
        connection.on_books([_push(code).SerializeToString() for code in CODES])
        await bench.until(lambda: bench.book_progress.pulls >= 6)

    compared = [told for told in _live(script).events if isinstance(told, PullCompared)]
    by_symbol = {code: {told.agrees for told in compared[3:] if told.symbol == code} for code in CODES}
    assert by_symbol == {CODES[0]: {True}, CODES[1]: {False}, CODES[2]: {True}}


def test_trouble_with_books_ends_no_connection() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        bench.opend.books.clear()  # each pull of a book fails with an error that is none of OpenD's
        bench.opend.refused_books = set(CODES)
        await bench.until(lambda: len(bench.book_progress.refused_symbols) == 3)
        await asyncio.sleep(600)
        assert len(bench.opend.connections) == 1
        assert bench.progress.symbols_subscribed == 3

    _live(script)


# -- pushes ----------------------------------------------------------------------------------------------------------


def _handler(sink: Sink) -> BookHandler:
    handler = BookHandler(sink, TickMapper(), lambda: 1_795_138_205_123_456)
    handler.wanted = frozenset(CODES)
    return handler


def test_a_push_is_read_as_it_came() -> None:
    sink = Sink()
    _handler(sink)([_push("HK.00700", BOOK, 1_795_138_205.1).SerializeToString()])
    (raw,) = sink.pushes
    assert read_book(raw) == ("HK.00700", 1_795_138_205_123_456, 1_795_138_205_100, None, BOOK)


@pytest.mark.parametrize(
    "book",
    [
        Book((), ()),
        Book(BOOK.bids, ()),
        Book(((413.0, 100, 1),), ((412.0, 100, 1),)),
        Book(((1.0, 100, 1), (2.0, 100, 1)), ((3.0, 0, 0), (3.0, -5, 0))),
    ],
    ids=["empty", "one side", "crossed", "unsorted, repeated, without shares"],
)
def test_a_book_that_no_market_should_have_is_kept_as_it_came(book: Book) -> None:
    assert read_book(RawPush("HK.00700", 1, _push("HK.00700", book).SerializeToString())).book == book


@pytest.mark.parametrize("level", [(float("nan"), 100, 1), (float("inf"), 100, 1), (1.0, (1 << 62), 1), (1.0, 100, -1)])
def test_values_that_no_book_can_have_are_refused(level: tuple[float, int, int]) -> None:
    with pytest.raises(ValueError, match="a level of"):
        read_book(RawPush("HK.00700", 1, _push("HK.00700", Book((level,), ())).SerializeToString()))


def test_a_side_is_bounded_and_large_volumes_come_in_their_other_field() -> None:
    with pytest.raises(ValueError, match="places, more than"):
        book_of(_pulled("HK.00700", Book(tuple((float(n), 100, 1) for n in range(MAX_LEVELS + 1)), ())))
    message = Qot_GetOrderBook_pb2.S2C()
    message.orderBookBidList.add(price=1.0, volume=0, orederCount=1, hpVolume=5e9)
    assert book_of(message).bids == ((1.0, 5_000_000_000, 1),)


def _read(book: Book) -> Book:
    return read_book(RawPush("HK.00700", 1, _push("HK.00700", book).SerializeToString())).book


def test_of_a_push_only_the_levels_that_are_new_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All twenty of each were two thirds of what a push costs."""
    decoded: list[bytes] = []

    def decode(message: bytes) -> Any:
        decoded.append(message)
        return decode_level(message)

    monkeypatch.setattr(futu_books, "_LEVELS", futu_books._Known(decode, futu_books._level))
    bids = tuple((400.0 - n, 100 * n, n) for n in range(1, 11))
    assert _read(Book(bids, bids)) == (bids, bids)
    assert len(decoded) == 10, "the same bytes are the same level, on either side"
    changed = (*bids[:4], (396.5, 500, 2), *bids[5:])
    assert _read(Book(changed, bids)) == (changed, bids)
    assert len(decoded) == 11


def test_the_levels_that_are_known_are_bounded_in_number_and_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(futu_books, "KNOWN_PARTS", 50)
    known = futu_books._Known(decode_level, futu_books._level)
    monkeypatch.setattr(futu_books, "_LEVELS", known)
    for number in range(200):
        levels = tuple((float(number + n), 100 + number, 1) for n in range(10))
        assert _read(Book(levels, ())).bids == levels
        assert 10 <= len(known) <= 50
    known.clear()
    with_orders = _push("HK.00700", Book(((412.2, 3000, 7),), ()))
    with_orders.s2c.orderBookBidList[0].detailList.add(orderID=1, volume=100)
    for order in range(20):
        with_orders.s2c.orderBookBidList[0].detailList.add(orderID=order, volume=1 << 40)
    assert read_book(RawPush("HK.00700", 1, with_orders.SerializeToString())).book.bids == ((412.2, 3000, 7),)
    assert not known, "one with its orders is never the same again, and as long as its sender likes"


def test_a_level_that_is_none_is_named() -> None:
    message = _push("HK.00700", Book(((412.25, 3000, 7),), ())).SerializeToString()
    (level,) = (
        entry.SerializeToString() for entry in _push("HK.00700", Book(((412.25, 3000, 7),), ())).s2c.orderBookBidList
    )
    damaged = message.replace(level, b"\x09" + level[1:-1] + b"\xff")
    assert len(damaged) == len(message)
    assert damaged != message
    with pytest.raises(ValueError, match="a level that cannot be read"):
        read_book(RawPush("HK.00700", 1, damaged))


def test_what_nobody_asked_for_goes_nowhere() -> None:
    sink = Sink()
    odd_lots, refused = _push("HK.00700"), _push("HK.00700")
    odd_lots.s2c.orderBookType = 1
    refused.retType = -1
    bodies = [_push("HK.00388"), _push("HK.../../x"), odd_lots, refused]
    _handler(sink)([*(body.SerializeToString() for body in bodies), b"\xff\xff"])
    assert not sink.pushes


def test_a_time_that_is_none_is_none() -> None:
    for epoch_sec in (0.0, -1.0, float("nan"), float("inf"), 1e12):
        assert futu_books._ms(epoch_sec) is None


def test_another_list_ends_what_is_no_longer_wanted_and_begins_the_rest() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        await _all_watched(bench, sink, CODES[:2])
        bench.opend.books[CODES[2]] = _pulled(CODES[2])
        assert bench.book_keeper is not None
        bench.book_keeper.set_symbols((CODES[2], CODES[1]))
        await _all_watched(bench, sink, CODES[1:])
        assert (bench.book_progress.wanted, bench.book_progress.subscribed) == (2, 2)
        bench.book_keeper.set_symbols(())
        await bench.until(lambda: not sink.watching)

    sink = _live(script, CODES[:2], ticks=CODES)
    assert [(end.symbol, end.reason) for end in sink.ends] == [
        (CODES[0], "no longer on the list"), *((code, "no longer on the list") for code in (CODES[2], CODES[1])),
    ]  # fmt: skip


def test_a_far_side_that_ends_connections_over_books_costs_two_of_them_and_then_few() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        def cut(word: str, code: str) -> None:
            if word == "subscribe books":
                bench.opend.connections[-1].lose("reset by peer")

        bench.opend.trouble = cut
        await bench.until(lambda: len(bench.opend.connections) == 1 + LOSSES)
        await asyncio.sleep(REST_MIN_SEC / 2)
        assert len(bench.opend.connections) == 1 + LOSSES, "ticks go on, and no book is asked for"
        assert bench.progress.symbols_subscribed == len(CODES)
        assert bench.book_progress.refused_symbols == dict.fromkeys(CODES, CUT_OFF)
        await asyncio.sleep(3600)
        assert 1 + LOSSES < len(bench.opend.connections) < 10, "they are asked for again, more and more seldom"
        bench.opend.trouble = lambda word, code: None
        await bench.until(lambda: sink.watching == set(CODES), 2 * REST_MAX_SEC)
        await asyncio.sleep(CALM_SEC + 60)
        known = len(bench.opend.connections)
        bench.opend.connections[-1].lose()
        await bench.until(lambda: len(bench.opend.connections) > known and sink.watching == set(CODES), 120)

    _live(script)


def test_connections_that_end_while_books_are_pushed_did_not_end_over_them() -> None:
    """A line that is cut every few seconds keeps no book away."""

    async def script(bench: Bench, sink: Sink) -> None:
        for number in range(1, 3 * LOSSES):
            await bench.until(lambda: sink.watching == set(CODES), CALM_SEC + 60)
            connection = bench.opend.connections[-1]
            assert len(bench.opend.connections) == number
            connection.on_books([_push(code).SerializeToString() for code in CODES])
            connection.lose("reset by peer")
            await bench.until(lambda: not sink.watching)
        await _all_watched(bench, sink)
        assert bench.book_progress.refused_symbols == {}

    _live(script)


def test_what_is_not_answered_is_not_asked_for_in_pieces() -> None:
    async def script(bench: Bench, sink: Sink) -> None:
        bench.opend.trouble = lambda word, code: 3600.0 if word == "subscribe books" else None
        await bench.until(lambda: set(bench.book_progress.refused_symbols) == set(CODES))
        asked = [codes for word, codes, _ in bench.opend.requests if word == "subscribe books"]
        assert asked == [" ".join(CODES)]
        assert all(why.startswith("no answer") for why in bench.book_progress.refused_symbols.values())
        bench.opend.trouble = lambda word, code: None
        await _all_watched(bench, sink)

    _live(script)

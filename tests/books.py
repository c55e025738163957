"""Order books for tests: strategies for hypothesis, and a lively book that is the same at each run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.book import Book, BookEntry, BookPush, Level, PushEntry, WatchBegan
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions

DAY = "20261120"
OPEN_US = 1_795_138_200_000_000  # 2026-11-20 09:30 Hong Kong
assert HK.trading_day(OPEN_US // 1000) == DAY

PRICES = st.one_of(
    st.integers(0, 400).map(lambda ticks: 412.0 + ticks / 5),
    st.floats(allow_nan=False, allow_infinity=False),
)
VOLUMES = st.one_of(st.integers(1, 300).map(lambda lots: lots * 100), st.integers(-(1 << 60) + 1, (1 << 60) - 1))
ORDERS = st.one_of(st.integers(0, 200), st.integers(0, (1 << 63) - 1))
LEVELS = st.tuples(PRICES, VOLUMES, ORDERS)
SIDES = st.lists(LEVELS, max_size=12).map(tuple)
# Sorted as a market sends them, or in any order, crossed, repeated, one-sided.
BOOKS = st.one_of(
    st.builds(lambda b, a: Book(tuple(sorted(b, reverse=True)), tuple(sorted(a))), SIDES, SIDES),
    st.builds(Book, SIDES, SIDES),
)
TIMES_MS = st.one_of(st.none(), st.integers(OPEN_US // 1000 - 5000, OPEN_US // 1000 + 5000))


def record_books(
    root: Path, day: str = DAY, symbols: tuple[str, ...] = ("HK.00005", "HK.00700"), pushes: int = 500
) -> list[BookPush]:
    """A closed book file of a day, watched from the opening to its last push; what was pushed."""
    shift_us = (day_start_ms(day) - day_start_ms(DAY)) * 1000
    shifted = [push._replace(recv_ts_us=push.recv_ts_us + shift_us) for push in lively_pushes(symbols, pushes)]
    end_us = shifted[-1].recv_ts_us + 1
    writer = BookWriter(root, SqliteOptions(), HK.trading_day, lambda: end_us // 1000)
    began: list[BookEntry] = [WatchBegan(symbol, shifted[0].recv_ts_us) for symbol in symbols]
    writer.write(day, [*began, *map(PushEntry, shifted)], len(shifted))
    writer.close()
    return shifted


def lively_pushes(
    symbols: tuple[str, ...], pushes: int, seed: int = 1, levels: int = 10, step_us: int = 1000
) -> Iterator[BookPush]:
    """Pushes of books as a market moves: mostly another volume, now and then another best price."""
    draw = random.Random(seed)
    books = {symbol: _first_book(draw, levels) for symbol in symbols}
    for number in range(pushes):
        symbol = draw.choice(symbols)
        book = books[symbol] = _moved(draw, books[symbol], levels)
        recv_ts_us = OPEN_US + number * step_us
        times = recv_ts_us // 1000 - draw.randrange(3, 40), recv_ts_us // 1000 - draw.randrange(3, 40)
        yield BookPush(symbol, recv_ts_us, *times, book)


def _first_book(draw: random.Random, levels: int) -> Book:
    return Book(
        tuple(_level(draw, 412_000 - 200 * n) for n in range(levels)),
        tuple(_level(draw, 412_200 + 200 * n) for n in range(levels)),
    )


def _level(draw: random.Random, thousandths: int) -> Level:
    return thousandths / 1000, draw.randrange(1, 300) * 100, draw.randrange(1, 60)


def _moved(draw: random.Random, book: Book, levels: int) -> Book:
    bids, asks = list(book.bids), list(book.asks)
    chance = draw.random()
    if chance < 0.06:  # the best ask is taken: the book moves up
        asks = [*asks[1:], _level(draw, round(asks[-1][0] * 1000) + 200)]
        bids = [_level(draw, round(bids[0][0] * 1000) + 200), *bids[:-1]]
    elif chance < 0.12 and bids[-1][0] > 1:
        bids = [*bids[1:], _level(draw, round(bids[-1][0] * 1000) - 200)]
        asks = [_level(draw, round(asks[0][0] * 1000) - 200), *asks[:-1]]
    elif chance > 0.15:
        for _ in range(draw.choice((1, 1, 2))):
            side = draw.choice((bids, asks))
            slot = min(int(draw.expovariate(0.5)), levels - 1)
            side[slot] = _level(draw, round(side[slot][0] * 1000))
    return Book(tuple(bids), tuple(asks))

"""What no market has is left out of exports for backtesters, and counted: one such value would spoil a whole day."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hk_tick_collector.days.books import Form, read
from hk_tick_collector.export.backtest import Options, sizes_of
from hk_tick_collector.export.hft_events import (
    PRICE_LIMIT,
    VOLUME_LIMIT,
    Latency,
    Told,
    trades_of,
)
from hk_tick_collector.export.nautilus_library import quotes_of
from hk_tick_collector.records.book import Book, BookEntry, BookPush, Level, PushEntry, WatchBegan
from tests.books import OPEN_US
from tests.unit.test_hft_events import PRICE_MAKING, SYMBOL, book_of, depth_of, ticks

ABSURD: list[Level] = [
    (PRICE_LIMIT, 100, 1),
    (1e300, 100, 1),
    (-1e300, 100, 1),
    (412.2, int(VOLUME_LIMIT), 1),
    (412.2, -int(VOLUME_LIMIT), 1),
]
BIDS: tuple[Level, ...] = ((412.0, 300, 2), (411.8, 500, 1))
ASKS: tuple[Level, ...] = ((412.4, 100, 1),)


def _books(root: Path, absurd: Level) -> Path:
    books = [Book(BIDS, ASKS), Book((absurd, *BIDS), ASKS), Book(BIDS, ASKS)]
    entries: list[BookEntry] = [WatchBegan(SYMBOL, OPEN_US)]
    for n, book in enumerate(books):
        at_us = OPEN_US + n * 10_000
        entries.append(PushEntry(BookPush(SYMBOL, at_us, at_us // 1000, at_us // 1000, book)))
    return book_of(root, entries)


@pytest.mark.parametrize("absurd", ABSURD)
def test_a_level_that_no_market_has_is_no_event_and_makes_no_tick_size(tmp_path: Path, absurd: Level) -> None:
    told = Told()
    with np.errstate(all="raise"):
        rows, _ = depth_of(_books(tmp_path, absurd), Latency(), told)
        sizes = sizes_of(rows.price, rows.quantity, (None, None), Options())
    assert sorted(set(rows.price.tolist())) in ([0.0, 411.8, 412.0, 412.4], [0.0, 411.8, 412.0, 412.2, 412.4])
    assert not np.any((rows.price == 412.2) & (rows.quantity > 0))
    assert (sizes.tick, sizes.lot) == (pytest.approx(0.2), 100)
    assert told.counts["beyond_limit"] >= 1


@pytest.mark.parametrize("absurd", ABSURD)
def test_a_best_price_that_no_market_has_is_no_quote(tmp_path: Path, absurd: Level) -> None:
    told = Told()
    quotes = quotes_of(list(read(_books(tmp_path, absurd), Form.QUOTES)), Latency(), SYMBOL, told)
    assert quotes.bid_price[:3].tolist() == [412.0, 0.0, 412.0]
    assert quotes.bid_size[:3].tolist() == [300, 0, 300]
    assert quotes.ask_price[:3].tolist() == [412.4] * 3
    assert told.counts["beyond_limit"] == 1


def test_a_trade_that_no_market_has_is_left_out() -> None:
    told = Told()
    made = ticks({}, {"price": 1e300}, {"volume": int(VOLUME_LIMIT)}, {})
    assert trades_of(made, PRICE_MAKING, Latency(), SYMBOL, told).price.tolist() == [10.0, 10.0]
    assert told.counts["beyond_limit"] == 2


def test_a_step_of_nine_decimals_is_seen() -> None:
    prices = np.array([PRICE_LIMIT - 1, 0.000_000_25, 0.000_000_75])
    assert sizes_of(prices, np.array([300.0, 500.0]), (None, None), Options()).tick == 0.000_000_25

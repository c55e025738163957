"""Broker queues for tests: strategies for hypothesis, and a recorded day that is the same at each run."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.book import BookEntry, BrokerPush, BrokerQueue, PushEntry, WatchBegan
from hk_tick_collector.store.book_file import BROKER_KIND
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from tests.books import DAY, OPEN_US

_INT32 = st.integers(-(1 << 31), (1 << 31) - 1)
PLACES = st.lists(st.tuples(st.one_of(st.integers(1, 10), _INT32), st.one_of(st.integers(1, 9999), _INT32)), max_size=8)
QUEUES = st.builds(lambda bids, asks: BrokerQueue(tuple(bids), tuple(asks)), PLACES, PLACES)
NAMES = {4001 + 37 * n: f"Broker {n + 1}" for n in range(24)}


def broker_writer(root: Path, now_ms: int = OPEN_US // 1000) -> BookWriter:
    """Of files of broker queues."""
    return BookWriter(root, SqliteOptions(), HK.trading_day, lambda: now_ms, kind=BROKER_KIND)


def record_brokers(
    root: Path, day: str = DAY, symbols: tuple[str, ...] = ("HK.00700",), pushes: int = 300
) -> list[BrokerPush]:
    """A closed file of broker queues of a day, watched from the opening to its last push; what was pushed."""
    shift_us = (day_start_ms(day) - day_start_ms(DAY)) * 1000
    pushed = [push._replace(recv_ts_us=push.recv_ts_us + shift_us) for push in lively_queues(symbols, pushes)]
    end_us = pushed[-1].recv_ts_us + 1
    writer = broker_writer(root, end_us // 1000)
    began: list[BookEntry] = [WatchBegan(symbol, OPEN_US + shift_us) for symbol in symbols]
    writer.write(day, [*began, *map(PushEntry, pushed)], len(pushed))
    writer.close()
    return pushed


def lively_queues(symbols: tuple[str, ...], pushes: int, seed: int = 1) -> Iterator[BrokerPush]:
    """Pushes as a market moves: most of them another queue, some the same again."""
    draw = random.Random(seed)
    queues = dict.fromkeys(symbols, BrokerQueue((), ()))
    for number in range(pushes):
        symbol = draw.choice(symbols)
        if draw.random() > 0.2:
            queues[symbol] = BrokerQueue(_side(draw), _side(draw))
        queue = queues[symbol]
        names = tuple({broker_id: NAMES[broker_id] for _, broker_id in (*queue.bids, *queue.asks)}.items())
        yield BrokerPush(symbol, OPEN_US + number * 1000, queue, names)


def _side(draw: random.Random) -> tuple[tuple[int, int], ...]:
    return tuple((level, draw.choice(list(NAMES))) for level in range(1, 11) for _ in range(draw.randrange(5)))[:40]

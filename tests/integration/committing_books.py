"""Commits pushes of books, or of broker queues, until it is killed, or its standard input ends; run by
test_live_books.py only.

python committing_books.py DATA_ROOT DAY SEED book|broker
"""

from __future__ import annotations

import itertools
import select
import sys
from contextlib import closing
from pathlib import Path

from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hk.sessions import day_start_ms
from hk_tick_collector.records.book import BookEntry, PushEntry, WatchBegan
from hk_tick_collector.store.book_file import BOOK_KIND, BROKER_KIND
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from tests.books import DAY, OPEN_US, lively_pushes
from tests.brokers import lively_queues

SYMBOLS = ("HK.00005", "HK.00700", "HK.09988")
ROWS = 20
PUSHES = 800  # then it only waits for its end

if __name__ == "__main__":
    root, day, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    shift_us = (day_start_ms(day) - day_start_ms(DAY)) * 1000 + seed * 60_000_000
    now_ms = (OPEN_US + shift_us) // 1000
    kind, made = (BROKER_KIND, lively_queues) if sys.argv[4] == "broker" else (BOOK_KIND, lively_pushes)
    pushes = (push._replace(recv_ts_us=push.recv_ts_us + shift_us) for push in made(SYMBOLS, PUSHES, seed))
    with closing(BookWriter(root, SqliteOptions(), HK.trading_day, lambda: now_ms, kind=kind)) as writer:
        began: list[BookEntry] = [WatchBegan(symbol, OPEN_US + shift_us) for symbol in SYMBOLS]
        writer.write(day, began, 0)
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            first_pushes = list(itertools.islice(pushes, ROWS))
            writer.write(day, [PushEntry(push) for push in first_pushes], len(first_pushes))

"""The newest book as it is shown: watched only while the recorder lives."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.book import PushEntry, WatchBegan
from hk_tick_collector.store.book_writer import BookWriter
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import book_file
from hk_tick_collector.watch.ladder import SILENT_MS, newest_books
from tests.books import DAY, OPEN_US, lively_pushes

SYMBOL = "HK.00700"


def test_nobody_watches_for_a_recorder_that_was_killed(tmp_path: Path) -> None:
    """It ends no watch: only that it says nothing more tells of it."""
    now_ms = OPEN_US // 1000 + 5_000
    writer = BookWriter(tmp_path, SqliteOptions(), HK.trading_day, lambda: now_ms)
    pushes = list(lively_pushes((SYMBOL,), 30))
    writer.write(DAY, [WatchBegan(SYMBOL, OPEN_US), *map(PushEntry, pushes)], len(pushes))

    def is_watched(after_ms: int) -> bool:
        (book,) = newest_books(book_file(tmp_path, DAY), [SYMBOL], 3, now_ms + after_ms)
        assert book["recv_ts_us"] == pushes[-1].recv_ts_us
        return bool(book["watched"])

    assert is_watched(0)
    assert is_watched(SILENT_MS - 1)
    assert not is_watched(SILENT_MS)
    now_ms += 20_000
    writer.beat()
    assert is_watched(0)
    writer.close()
    assert not is_watched(0)

"""Following order books (``state_follow.py``)::

    with BookFollower(root) as follower:
        position = follower.end()                        # or Position.parse(saved, BOOKS.name)
        known = follower.known(position)                 # the book of each symbol there
        while (batch := follower.read_behind(position)) is not None:
            show(batch.states)
            position = batch.position

``BookRows`` gives the same as rows of COLUMNS, for the live channel and the Python client.
"""

from __future__ import annotations

from collections.abc import Sequence

from hk_tick_collector.records.book import RowKind, StoredRow
from hk_tick_collector.records.book_codec import FULL_EVERY_US, BookDecoder
from hk_tick_collector.store.book_reader import BookState
from hk_tick_collector.store.followed import BOOKS
from hk_tick_collector.store.position import Row
from hk_tick_collector.store.state_follow import Known, StateFollower, StateRows, StatesOfDay

# Of a row as live readers get it. ``bids``, ``asks``: (price, volume, orders) by level, best first; None at a break
# (kind B), from which the book is not known. ``update_no``: the row's number in its day's file.
COLUMNS = (
    "market", "symbol", "trading_day", "recv_ts_us", "update_no", "kind", "merged", "bid_ts_ms", "ask_ts_ms", "bids",
    "asks",
)  # fmt: skip


class _BooksOfDay(StatesOfDay[BookState]):
    changes_us = FULL_EVERY_US

    def __init__(self, day: str) -> None:
        super().__init__(day)
        self._decoder = BookDecoder()
        self._numbers: dict[str, int] = {}  # of symbols, for the decoder

    def state(self, row: Row) -> BookState:
        _, symbol, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload = row
        number = self._numbers.setdefault(symbol, len(self._numbers))
        recv_ts_ms = recv_ts_us // 1000
        return BookState(
            symbol,
            recv_ts_us,
            None if bid_lag_ms is None else recv_ts_ms - bid_lag_ms,
            None if ask_lag_ms is None else recv_ts_ms - ask_lag_ms,
            RowKind(kind),
            merged,
            self._decoder.decode(StoredRow(number, recv_ts_us, bid_lag_ms, ask_lag_ms, kind, merged, payload)),
        )


class BookFollower(StateFollower[BookState]):
    """States of order books behind positions."""

    followed, of_day = BOOKS, _BooksOfDay


class BookRows(StateRows[BookState]):
    """Rows of COLUMNS."""

    follower = BookFollower

    def _rows(self, known: Sequence[Known[BookState]]) -> list[Row]:
        return [self._row(day, number, state) for day, number, state in known]

    def _row(self, day: str, number: int, state: BookState) -> Row:
        book = state.book
        return (
            number, self._market, state.symbol, day, state.recv_ts_us, number, state.kind.value, state.merged,
            state.bid_ts_ms, state.ask_ts_ms,
            None if book is None else book.bids, None if book is None else book.asks,
        )  # fmt: skip

"""The order book of a symbol at a time and the brokers in it, as they are shown: with whether anybody would have told
of a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hk_tick_collector.records.book import EMPTY_BOOK, EMPTY_QUEUE, Level, Place
from hk_tick_collector.store.book_reader import BookState, Watch, newest_book, watches
from hk_tick_collector.store.broker_reader import QueueState

SILENT_MS = 15_000  # the recorder notes each second that it is alive: after so long without it nobody watches


def watch_at(all_watches: Sequence[Watch], symbol: str, at_ms: int) -> Watch | None:
    """The watch that a time (UTC epoch ms) is in; the recorder's last word counts as in it."""
    for watch in all_watches:
        is_last = watch.reason is None and at_ms >= watch.from_ms
        if watch.symbol == symbol and (watch.from_ms <= at_ms < watch.until_ms or is_last):
            return watch
    return None


def _lasts(watch: Watch, now_ms: int) -> bool:
    """Has nobody ended it, and was its recorder alive a moment ago? A recorder that was killed ends nothing."""
    return watch.reason is None and now_ms - watch.until_ms < SILENT_MS


def as_plain(state: BookState, *, watched: bool, levels: int | None = None) -> dict[str, Any]:
    """For JSON. ``levels``: the best so many of each side; all by default."""

    def side(told: Sequence[Level]) -> list[dict[str, object]]:
        return [{"price": price, "volume": volume, "orders": orders} for price, volume, orders in told[:levels]]

    book = state.book or EMPTY_BOOK
    return {
        "symbol": state.symbol,
        "recv_ts_us": state.recv_ts_us,
        "bid_ts_ms": state.bid_ts_ms,
        "ask_ts_ms": state.ask_ts_ms,
        "watched": watched,
        "bids": side(book.bids),
        "asks": side(book.asks),
    }


def brokers_as_plain(state: QueueState, names: Mapping[int, str], *, watched: bool) -> dict[str, Any]:
    """For JSON: who stands in line at which level of price, 1 is the best, in the order they came."""

    def side(places: Sequence[Place]) -> list[dict[str, object]]:
        return [{"level": level, "broker_id": number, "broker": names.get(number)} for level, number in places]

    queue = state.queue or EMPTY_QUEUE
    return {
        "recv_ts_us": state.recv_ts_us,
        "watched": watched,
        "bids": side(queue.bids),
        "asks": side(queue.asks),
    }


def newest_books(path: Path, wanted: Sequence[str], levels: int, now_ms: int) -> list[dict[str, Any]]:
    """The newest book of each symbol that there is one of. ``watched`` false: it was known then, and nobody would tell
    of a change since, also because the recorder has died or hangs. Raises as ``store.book_reader``."""
    told, books = watches(path), []
    for symbol in wanted:
        state = newest_book(path, symbol)
        if state is not None and state.book is not None:
            is_watched = any(watch.symbol == symbol and _lasts(watch, now_ms) for watch in told)
            books.append(as_plain(state, watched=is_watched, levels=levels))
    return books

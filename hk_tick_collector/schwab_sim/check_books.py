"""Recorded books held against what the simulator showed."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.schwab_sim.depth import Line, book_truth, read_book_truth
from hk_tick_collector.sims.truth import TruthError
from hk_tick_collector.store.book_reader import BookState, states
from hk_tick_collector.store.layout import book_days, book_file

_Key = tuple[str, int | None, tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]


def check_books(trades: Path, data_root: Path) -> dict[str, int]:
    """How many were shown and stored, and how many of the stored ones were not shown so (``books_invented``). Of those
    that were shown a recorder may lack some: what waited when it was killed is lost. Empty where none is recorded.
    OSError, TruthError."""
    days = book_days(data_root)
    path = book_truth(trades)
    if not days or path is None:
        return {}
    shown = {_of_line(line) for line in read_book_truth(path) if not line.odd}
    stored: list[_Key] = []
    try:
        for day in days:
            stored += [_of_state(state) for state in states(book_file(data_root, day)) if state.book is not None]
    except StoreError as exc:
        raise TruthError(str(exc)) from None
    return {
        "books_shown": len(shown),
        "books_stored": len(stored),
        "books_missing": len(shown.difference(stored)),
        "books_invented": sum(key not in shown for key in stored),
    }


def _of_line(line: Line) -> _Key:
    return line.symbol, line.time, tuple(line.bids), tuple(line.asks)


def _of_state(state: BookState) -> _Key:
    assert state.book is not None
    bids, asks = (tuple((price, float(size)) for price, size, _ in side) for side in state.book)
    return state.symbol.partition(".")[2].replace(".", "/"), state.bid_ts_ms, bids, asks

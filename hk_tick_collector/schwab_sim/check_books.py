"""Recorded books held against what the simulator showed."""

from __future__ import annotations

from pathlib import Path

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.schwab_sim.depth import Line, book_truth, read_book_truth
from hk_tick_collector.sims.tail import Tail
from hk_tick_collector.sims.truth import TruthError
from hk_tick_collector.store.book_reader import BookState, states
from hk_tick_collector.store.layout import book_days, book_file

_Key = tuple[str, int | None, tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]


def check_books(trades: Path, data_root: Path, allow_tail_ms: int = 0) -> dict[str, int]:
    """How many were shown and stored, and how many of the stored ones were not shown so (``books_invented``). Of those
    that were shown a recorder may lack some: what waited when it was killed is lost. Empty where none is recorded.
    OSError, TruthError."""
    days = book_days(data_root)
    path = book_truth(trades)
    if not days or path is None:
        return {}
    lines = read_book_truth(path)
    tail = Tail.of((line.time for line in lines if line.time is not None), allow_tail_ms)
    shown = {_of_line(line) for line in lines if not line.odd}
    stored: list[_Key] = []
    try:
        for day in days:
            stored += [_of_state(state) for state in states(book_file(data_root, day)) if state.book is not None]
    except StoreError as exc:
        raise TruthError(str(exc)) from None
    later = {_of_line(line) for line in read_book_truth(path) if not line.odd}
    return {
        "books_shown": len(shown),
        "books_stored": len(stored),
        "books_missing": len(shown.difference(stored)),
        "books_invented": sum(key not in later and not tail.holds(key[1]) for key in stored),
    }


def _of_line(line: Line) -> _Key:
    return line.symbol, line.time, tuple(line.bids), tuple(line.asks)


def _of_state(state: BookState) -> _Key:
    assert state.book is not None
    bids, asks = (tuple((price, float(size)) for price, size, _ in side) for side in state.book)
    return state.symbol.partition(".")[2].replace(".", "/"), state.bid_ts_ms, bids, asks

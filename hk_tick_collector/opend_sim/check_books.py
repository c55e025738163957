"""Compares recorded order books, and broker queues, with the truth file of books: was each stored state sent, in this
order, and is each that is not stored counted as merged?

A recorder may begin and end when it likes, and be blind in between: after a break it is picked up where it goes on. A
cached book (a first push) has no times and is in no truth file; it is counted and not judged. A cached queue is in the
truth file, as one that some connection got: it may be stored or not.

Limits: of the truth 8 bytes a state are held in memory, and the file is written by one run of the simulator.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hk_tick_collector.opend_sim.depth import Level as DepthLevel
from hk_tick_collector.opend_sim.depth import brokers_of
from hk_tick_collector.opend_sim.depth_truth import QUEUE_CACHED, QUEUE_SENT, SENT, read_depth_truth
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.store.book_reader import BookState, states
from hk_tick_collector.store.broker_reader import QueueState, queues
from hk_tick_collector.store.layout import book_days, book_file, broker_days, broker_file

Level = tuple[float, int, int]


@dataclass
class BookDiff:
    """One symbol's stored states."""

    sent: int = 0
    stored: int = 0
    cached: int = 0  # stored first pushes
    merged: int = 0  # not stored, and counted as merged
    untrue: int = 0  # stored, never sent
    disordered: int = 0  # sent before one that is stored before it
    unaccounted: int = 0  # neither stored nor counted, or counted and stored
    breaks: int = 0

    @property
    def clean(self) -> bool:
        return not (self.untrue or self.disordered or self.unaccounted)


@dataclass
class BookReport:
    """``exit_code`` is 0 when all is true, 1 when something is not, 3 when there was nothing to compare."""

    truth_path: str
    data_root: str
    symbols: dict[str, BookDiff] = field(default_factory=dict)
    brokers: dict[str, BookDiff] = field(default_factory=dict)  # by symbol; empty where no queue is recorded

    @property
    def exit_code(self) -> int:
        if not any(diff.stored for diff in self.symbols.values()) or not any(d.sent for d in self.symbols.values()):
            return 3
        return 0 if all(diff.clean for diff in (*self.symbols.values(), *self.brokers.values())) else 1

    def text(self) -> str:
        """For people: verdict, and a line a symbol."""
        if self.exit_code == 3:
            return f"NO DATA: no state of a book in {self.truth_path} or under {self.data_root}, nothing was compared"
        columns = list(asdict(BookDiff()))
        lines = [
            "OK" if self.exit_code == 0 else "DIFFERENCES",
            " ".join(f"{name:>11}" for name in ("symbol", *columns)),
        ]
        for symbol, diff in sorted(self.symbols.items()):
            lines.append(" ".join(f"{value:>11}" for value in (symbol, *asdict(diff).values())))
        if self.brokers:
            lines.append("broker queues")
        for symbol, diff in sorted(self.brokers.items()):
            lines.append(" ".join(f"{value:>11}" for value in (symbol, *asdict(diff).values())))
        return "\n".join(lines)

    def to_json(self) -> str:
        """For programs: one JSON object."""
        return json.dumps(asdict(self) | {"exit_code": self.exit_code})


def check_books(truth_path: Path, data_root: Path) -> BookReport:
    """Compare. TruthError for a damaged truth file, StoreError for a book file that cannot be read, OSError when the
    truth cannot be opened."""
    report = BookReport(str(truth_path), str(data_root))
    sent: dict[str, list[int]] = defaultdict(list)
    queued: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for state, fate, _ in read_depth_truth(truth_path):
        if fate == SENT:
            sent[state.symbol].append(_mark(state.depth.bids, state.depth.asks, state.bid_ts_ms, state.ask_ts_ms))
        elif fate in (QUEUE_SENT, QUEUE_CACHED):
            mark = hash((_places(state.depth.bids), _places(state.depth.asks)))
            queued[state.symbol].append((mark, fate == QUEUE_CACHED))
    report.brokers = _check_queues(data_root, queued)
    walks = {symbol: _Walk(marks) for symbol, marks in sent.items()}
    for day in book_days(data_root):
        for stored in states(book_file(data_root, day)):
            walks.setdefault(stored.symbol, _Walk([])).take(stored)
    report.symbols = {symbol: walk.diff for symbol, walk in walks.items() if walk.diff.stored or walk.diff.sent}
    return report


def _check_queues(data_root: Path, sent: dict[str, list[tuple[int, bool]]]) -> dict[str, BookDiff]:
    days = broker_days(data_root)
    if not days:
        return {}
    walks = {
        symbol: _Walk([mark for mark, _ in marks], [place for place, (_, is_cached) in enumerate(marks) if is_cached])
        for symbol, marks in sent.items()
    }
    for day in days:
        for stored in queues(broker_file(data_root, day)):
            walks.setdefault(stored.symbol, _Walk([])).take_queue(stored)
    return {symbol: walk.diff for symbol, walk in walks.items()}


def _places(levels: Sequence[DepthLevel]) -> tuple[tuple[int, int], ...]:
    return tuple((queued.position, queued.broker_id) for queued in brokers_of(tuple(levels)))


def _mark(bids: Sequence[Level], asks: Sequence[Level], bid_ts_ms: int, ask_ts_ms: int) -> int:
    return hash((tuple(map(tuple, bids)), tuple(map(tuple, asks)), bid_ts_ms, ask_ts_ms))


class _Walk:
    """One symbol's stored states along those that were sent. ``cached``: places of those that may be stored or not."""

    def __init__(self, marks: Sequence[int], cached: Sequence[int] = ()) -> None:
        self.diff = BookDiff(sent=len(marks) - len(cached))
        self._cached = cached  # ascending
        self._places: dict[int, list[int]] = defaultdict(list)
        for place, mark in enumerate(marks):
            self._places[mark].append(place)
        self._next = 0
        self._lost = True  # where it goes on is not known yet

    def take(self, stored: BookState) -> None:
        if stored.kind is RowKind.BREAK or stored.book is None:
            self._break()
            return
        mark = _mark(stored.book.bids, stored.book.asks, stored.bid_ts_ms or 0, stored.ask_ts_ms or 0)
        is_cached = stored.bid_ts_ms is None and stored.ask_ts_ms is None
        self._step(mark, stored.merged, is_cached=is_cached)

    def take_queue(self, stored: QueueState) -> None:
        if stored.queue is None:
            self._break()
        else:
            self._step(hash((stored.queue.bids, stored.queue.asks)), stored.merged)

    def _break(self) -> None:
        self.diff.breaks += 1
        self._lost = True

    def _step(self, mark: int, merged: int, *, is_cached: bool = False) -> None:
        diff = self.diff
        diff.stored += 1
        diff.merged += merged
        places = self._places.get(mark, [])
        later = bisect_left(places, self._next)
        if later < len(places):
            place = places[later]
            passed_most = place - self._next
            passed_least = passed_most - self._cached_among(self._next, place)
            if not self._lost:
                diff.unaccounted += max(0, passed_least - merged, merged - passed_most)
            diff.cached += self._cached_among(place, place + 1)
            self._next, self._lost = place + 1, False
        elif is_cached:
            diff.cached += 1
        elif places:
            diff.disordered += 1
        else:
            diff.untrue += 1

    def _cached_among(self, first: int, end: int) -> int:
        """How many of the places from ``first`` to before ``end`` are of cached ones."""
        return bisect_left(self._cached, end) - bisect_left(self._cached, first)

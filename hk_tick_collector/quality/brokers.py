"""What can honestly be said of a day's broker queues: when they were watched, and that what came is stored or counted.

A push of a queue has neither a number nor a time, so that nothing in it shows whether one is missing; nobody may say
that a day of them is complete. What the recorder noted of itself is all there is, and costs O(symbols) but for the
counts of pushes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hk_tick_collector.days.watched import SymbolBooks, Totals, sentence_of, watched_of
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.market.market import Market
from hk_tick_collector.store import book_reader
from hk_tick_collector.store.book_reader import SessionCounts


@dataclass(frozen=True)
class BrokerReport:
    """A day's. Of ``symbols`` what the recorder noted and ``pushes`` and ``merged`` are counted, nothing else."""

    trading_day: str
    sessions: list[SessionCounts]
    symbols: list[SymbolBooks]

    @property
    def accounted(self) -> bool:
        """Is every push that reached the recorder stored or counted?"""
        return all(session.adds_up for session in self.sessions)

    @property
    def problems(self) -> int:
        """Of those that a healthy day has none of: 0 is fine."""
        return sum(len(queues.blind) + queues.pulls - queues.pulls_agreed for queues in self.symbols) + (
            not self.accounted
        )

    @property
    def sentence(self) -> str:
        """Without a word that claims more than is known."""
        totals = Totals(
            len(self.symbols),
            sum(queues.watched_ms for queues in self.symbols),
            sum(queues.wanted_ms for queues in self.symbols),
            sum(len(queues.blind) for queues in self.symbols),
            sum(queues.pulls for queues in self.symbols),
            sum(queues.pulls_agreed for queues in self.symbols),
            sum(queues.merged for queues in self.symbols),
        )
        return sentence_of(totals, "broker queues")


def brokers_of(path: Path, day: str, market: Market, kind: DayKind, now_ms: int) -> BrokerReport:
    """Read a file of broker queues and judge it. Raises as ``store.book_reader``."""
    symbols, pushed = watched_of(path, day, market, kind, now_ms), book_reader.counts(path)
    for queues in symbols:
        if queues.symbol in pushed:
            queues.pushes, queues.merged = pushed[queues.symbol].pushes, pushed[queues.symbol].merged
    return BrokerReport(day, book_reader.sessions(path), symbols)

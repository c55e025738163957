"""What was taken from the queue and is not known to be stored: a batch, and the facts that go with it.

Whoever stores has a *turn*, and one turn is over when the next one begins. A writer that hangs is given up in the
middle of its turn: when it comes back it takes nothing more, and what it reports of its batch is not heard, for that is
in somebody else's hand by then. So a row is in the queue or here, whoever stores and whenever he is replaced.

The lock is held for work in memory only; nobody waits for a disk by it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic

from hk_tick_collector.core.facts import DayFact, Fact
from hk_tick_collector.ingest.queue import RecordQueue
from hk_tick_collector.records.kind import RecordT


class Hand(Generic[RecordT]):
    """One worker's. ``rows`` and ``facts`` are his whose turn it is, or of whoever has ended it."""

    def __init__(self, queue: RecordQueue[RecordT]) -> None:
        self.rows: Sequence[RecordT] = ()
        self.facts: Sequence[Fact | DayFact] = ()
        self._queue = queue
        self._lock = threading.Lock()
        self._turn = 0

    @property
    def held_rows(self) -> int:
        """How many. Waits for a ``take``: a row that is no longer in the queue is counted here."""
        with self._lock:
            return len(self.rows)

    def begin_turn(self) -> int:
        """The turn that was is over. What it had in hand stays here."""
        with self._lock:
            self._turn += 1
            return self._turn

    def end_turn(self) -> None:
        """Nobody takes anything until another turn begins."""
        self.begin_turn()

    def is_turn(self, turn: int) -> bool:
        """Is it still this one?"""
        return turn == self._turn

    def take(self, turn: int, max_rows: int, note: Callable[[int], None]) -> bool:
        """Have the oldest rows of the queue in hand, and what is to be stored with them; ``note`` gets their number.
        False when there are none, or the turn is over."""
        with self._lock:
            if turn != self._turn:
                return False
            self.rows, self.facts = self._queue.take(max_rows)
            if not self.rows and not self.facts:
                return False
            note(len(self.rows))
            return True

    def stored(self, turn: int, note: Callable[[], None]) -> bool:
        """All in hand is committed: ``note`` counts it, and the hand is empty. False, and nothing is done, when the
        turn is over."""
        with self._lock:
            if turn != self._turn:
                return False
            note()
            self.rows = self.facts = ()
            return True

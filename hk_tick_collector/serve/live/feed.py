"""A reader's place in a hub's data roots, in the ring or in the files, and how far behind it is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hk_tick_collector.serve.live.choice import Choice
from hk_tick_collector.serve.live.files import Piece
from hk_tick_collector.serve.live.hub import Hub
from hk_tick_collector.store.position import Row, Stand, rows_between

LAGGING_SEC = 5.0


@dataclass
class Feed:
    """A reader's place in a hub's data roots, ``numbers`` in its cursor. ``number``: of the ring's frame that comes
    next; None: read the files."""

    hub: Hub
    numbers: tuple[int, ...]
    choice: Choice
    position: Stand
    number: int | None = None
    is_at_end: bool = False  # of the files, when they were last read
    retry_at_sec: float = 0.0
    ahead: asyncio.Future[Piece | None] | None = None  # is read while the piece before is sent
    known: Sequence[Row] = ()  # books, or queues, where it begins

    @property
    def is_live(self) -> bool:
        """Does it read the ring?"""
        return self.number is not None

    @property
    def has_all(self) -> bool:
        """Has everything come that was there? Also at the end of a day that was put away, which no ring knows."""
        return self.is_live or self.is_at_end

    def keeps_up(self, now_sec: float) -> bool:
        """Is what comes next in the ring, and has it not waited for long?"""
        ring = self.hub.ring
        if ring is None or self.number is None or self.number < ring.start:
            return False
        since_sec = ring.waiting_since_sec(self.number)
        return since_sec is None or now_sec - since_sec <= LAGGING_SEC

    @property
    def behind_rows(self) -> int:
        """Rows of the newest day that the ring's head is ahead."""
        return 0 if self.hub.ring is None else rows_between(self.position, self.hub.ring.head)

    @property
    def lag_sec(self) -> float:
        """How long what comes next has waited in the ring."""
        ring = self.hub.ring
        since_sec = None if ring is None or self.number is None else ring.waiting_since_sec(self.number)
        return 0.0 if since_sec is None else time.monotonic() - since_sec

    @property
    def is_lagging(self) -> bool:
        """Has it waited for long?"""
        return self.lag_sec > LAGGING_SEC

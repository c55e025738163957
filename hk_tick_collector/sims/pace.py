"""How much a simulated market has to make by now."""

from __future__ import annotations

import time
from collections.abc import Callable

STEP_SEC = 0.02  # how often it is asked


class Pace:
    """So many a second since the market began, or since it went on."""

    def __init__(self, per_sec: float, most: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_sec = per_sec
        self._most = most  # at once, for a machine that was busy; the others are never made
        self._monotonic = monotonic
        self._made, self._since_sec = 0, monotonic()

    def due(self, *, is_paused: bool) -> int:
        """How many to make now."""
        if is_paused:
            self._made, self._since_sec = 0, self._monotonic()
            return 0
        due = int((self._monotonic() - self._since_sec) * self._per_sec) - self._made
        self._made += due
        return min(due, self._most)

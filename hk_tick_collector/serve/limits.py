"""How much one name (a key's id, a client's address) may have in a minute.

A sliding window of two counters a name: constant time and memory whatever is counted, also rows by the million. No
lock: one event loop owns each. (The package ``limits`` was read for this: its store in memory begins a thread at almost
every request, and keeps a list of entries for each name.)
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

WINDOW_SEC = 60.0
MAX_NAMES = 10_000


class Allowance(NamedTuple):
    """What one request was told."""

    is_allowed: bool
    limit: int
    remaining: int
    reset_sec: int  # until there is certainly room again; what Retry-After says


class MinuteLimit:
    """Counts by name over the last minute. With MAX_NAMES in use, the one that was counted longest ago is forgotten."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._counts: dict[str, tuple[int, float, float]] = {}  # window's number, of the window before, of this one

    def take(self, name: str, limit: int, cost: int = 1) -> Allowance:
        """Count ``cost``, if that stays within the limit."""
        window, before, now, share = self._look(name)
        used = before * share + now
        if used + cost > limit:
            return Allowance(False, limit, max(0, math.floor(limit - used)), self._reset_sec())
        self._put(name, (window, before, now + cost))
        return Allowance(True, limit, math.floor(limit - used - cost), self._reset_sec())

    def charge(self, name: str, cost: int) -> None:
        """Count what was used already, whatever the limit; the next ``take`` knows it."""
        window, before, now, _ = self._look(name)
        self._put(name, (window, before, now + cost))

    def _look(self, name: str) -> tuple[int, float, float, float]:
        window, passed_sec = divmod(self._monotonic(), WINDOW_SEC)
        counted, before, now = self._counts.get(name, (int(window), 0.0, 0.0))
        age = int(window) - counted
        if age == 1:
            before, now = now, 0.0
        elif age > 1:
            before = now = 0.0
        return int(window), before, now, 1 - passed_sec / WINDOW_SEC

    def _put(self, name: str, counts: tuple[int, float, float]) -> None:
        self._counts.pop(name, None)
        self._counts[name] = counts
        if len(self._counts) > MAX_NAMES:
            del self._counts[next(iter(self._counts))]

    def _reset_sec(self) -> int:
        return max(1, math.ceil(WINDOW_SEC - self._monotonic() % WINDOW_SEC))

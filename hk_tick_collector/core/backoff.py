"""Delays that double up to a limit, with jitter so that many waiters do not meet."""

from __future__ import annotations

import random

JITTER = random.Random()  # of every Backoff that has none of its own


class Backoff:
    """``next_sec()`` gives min, 2 x min, 4 x min ... max seconds; ``reset()`` after a success."""

    def __init__(self, min_sec: float, max_sec: float, jitter: float = 0.1, rng: random.Random | None = None) -> None:
        self._min_sec = min_sec
        self._max_sec = max(min_sec, max_sec)
        self._jitter = jitter
        self._rng = rng or JITTER
        self._next_sec = min_sec
        self.attempts = 0

    def next_sec(self) -> float:
        """Seconds to wait before the next attempt."""
        base = self._next_sec
        self._next_sec = min(base * 2, self._max_sec)
        self.attempts += 1
        return min(self._max_sec, base * (1 + self._jitter * self._rng.random()))

    def reset(self) -> None:
        """The attempt worked: begin at the minimum again."""
        self._next_sec = self._min_sec
        self.attempts = 0

"""A clock that a test moves."""

from __future__ import annotations


class ManualClock:
    """Stands still until it is told to move."""

    def __init__(self, now_ms: int, monotonic_sec: float = 1000.0) -> None:
        self._now_ms = now_ms
        self._monotonic_sec = monotonic_sec

    def now_ms(self) -> int:
        return self._now_ms

    def monotonic(self) -> float:
        return self._monotonic_sec

    def advance(self, seconds: float) -> None:
        """Both clocks go forward by ``seconds``."""
        self._now_ms += round(seconds * 1000)
        self._monotonic_sec += seconds

    def step_wall(self, seconds: float) -> None:
        """Only the wall clock jumps (NTP step, operator)."""
        self._now_ms += round(seconds * 1000)

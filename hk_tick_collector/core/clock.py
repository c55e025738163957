"""Time as a value that is passed in, so that a test can stand at any instant."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """What the recorder may ask about time."""

    def now_ms(self) -> int:
        """UTC epoch milliseconds of the wall clock; may step."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward; for ages and deadlines."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is told to move. For tests and simulations."""

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

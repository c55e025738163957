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

"""Market time of the simulator: it starts where one likes and runs as fast as one likes.

Real time, a shifted day ("it is 2026-11-20 09:29:50 in Hong Kong") and a day in ten minutes are the same clock with
other numbers. It is carried by the monotonic clock, so a step of the machine's wall clock never moves the market.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class SimClock:
    """UTC epoch milliseconds that begin at ``start_ms`` (None: now) and run ``speed`` times real time.

    ``held``: time stands still until ``release``, so that whoever takes long to start misses nothing.
    """

    def __init__(
        self,
        start_ms: int | None = None,
        speed: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        held: bool = False,
    ) -> None:
        if not (math.isfinite(speed) and speed > 0):
            raise ValueError(f"clock speed {speed} is not a number above 0")
        self._monotonic = monotonic
        self._origin_sec: float | None = None if held else monotonic()
        self.start_ms = time.time_ns() // 1_000_000 if start_ms is None else start_ms
        self.speed = speed

    def now_ms(self) -> int:
        """Market time, UTC epoch milliseconds; never goes back."""
        return self.start_ms + math.floor(self._elapsed_sec() * 1000 * self.speed)

    def real_sec_until(self, sim_ms: int) -> float:
        """Real seconds until market time is ``sim_ms``; 0 when it has been reached."""
        return max(0.0, (sim_ms - self.start_ms) / 1000 / self.speed - self._elapsed_sec())

    def release(self) -> None:
        """Let a held clock run from now on; a running one is not touched."""
        if self._origin_sec is None:
            self._origin_sec = self._monotonic()

    def _elapsed_sec(self) -> float:
        return 0.0 if self._origin_sec is None else self._monotonic() - self._origin_sec

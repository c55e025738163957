"""OpenD's request limits: so many calls of a kind in any 30 seconds (Futu's OpenD documentation)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping

from hk_tick_collector.opend_sim.subscriptions import Refused

WINDOW_SEC = 30.0


class RateLimiter:
    """Counts calls by protocol id over a sliding window, for all connections together, as one account."""

    def __init__(self, calls_per_window: Mapping[int, int], monotonic: Callable[[], float] = time.monotonic) -> None:
        """A protocol that is not in ``calls_per_window`` is not limited."""
        self._limits = dict(calls_per_window)
        self._monotonic = monotonic
        self._calls: dict[int, deque[float]] = {}

    def admit(self, proto_id: int) -> None:
        """Count one call. Refused when it is one too many; a refused call is not counted."""
        limit = self._limits.get(proto_id)
        if limit is None:
            return
        now_sec = self._monotonic()
        calls = self._calls.setdefault(proto_id, deque())
        while calls and now_sec - calls[0] >= WINDOW_SEC:
            calls.popleft()
        if len(calls) >= limit:
            wait_sec = WINDOW_SEC - (now_sec - calls[0])
            raise Refused(
                f"too frequent: protocol {proto_id} may be called {limit} times in {WINDOW_SEC:.0f} s; "
                f"next call in {wait_sec:.0f} s"
            )
        calls.append(now_sec)

"""Virtual time: an asyncio loop that jumps to its next timer instead of waiting, and a ``Clock`` that reads it.

A day of feed life then takes as long as its work, and the same seed takes the same way. A loop that has nothing left
to wait for is a test that would hang: it raises ``Stuck`` instead.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from typing import Any


class Stuck(Exception):
    """Every task waits for something that no timer will bring."""


class _Selector(selectors.DefaultSelector):
    """Polls the real files and lets virtual time pass for the rest of the timeout."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        # A file is asked of the system each time: for nothing, where the loop's own pipe is the only one and nobody is
        # there to write into it.
        ready = super().select(0) if len(self.get_map()) > 1 or threading.active_count() > 1 else []
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise Stuck("nothing is left to wait for")
        self.loop.now_sec += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """``now_sec`` is what ``time()`` says."""

    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self
        self.now_sec = 1000.0

    def time(self) -> float:
        return self.now_sec


class VirtualClock:
    """The loop's time as wall clock and as monotonic clock."""

    def __init__(self, loop: VirtualLoop, start_ms: int) -> None:
        self._loop = loop
        self._origin_ms = start_ms - round(loop.time() * 1000)

    def now_ms(self) -> int:
        return self._origin_ms + round(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    def loop_time(self, ts_ms: int) -> float:
        """When the loop's time reaches a wall-clock instant."""
        return (ts_ms - self._origin_ms) / 1000

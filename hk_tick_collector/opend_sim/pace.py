"""How far the market goes at once: as its clock says, and in a replay no faster than everybody follows.

An invented market goes to the clock's time in one step. A replay goes in slices of ``SLICE_MS`` of its day, over hours
in which nothing was recorded in one. Ticks, K-lines and books so come out beside each other, and the same pushes in
the same order at any speed. Its time is that of what was played; it ends with the last recorded day.

While a client leaves more than ``BACKLOG_BYTES`` unread, or the slices are not through, the clock stands: a speed that
is too high is as fast as possible. A client that reads nothing for ``STUCK_SEC`` is disconnected instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from hk_tick_collector.opend_sim.opend import OpenD
from hk_tick_collector.opend_sim.session import ClientSession

SLICE_MS = 20
STEP_SEC = 0.005
IDLE_SEC = 0.05  # of market time as well: a command, or a trading phase that ends, is noticed so late
BACKLOG_BYTES = 64 * 1024
STUCK_SEC = 30.0
_SLICES_A_TURN = 200  # then requests are answered


class Pace:
    """Asked once in every turn of the server's loop."""

    def __init__(
        self, opend: OpenD, sessions: Mapping[int, ClientSession], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._opend = opend
        self._sessions = sessions
        self._monotonic = monotonic
        self._crowded_since_sec = 0.0
        self.hurries = False  # there is more to play, and room for it

    def steps(self) -> Iterator[int]:
        """The times to go to, one after the other: UTC epoch milliseconds, at least one."""
        market = self._opend.market
        now_ms = market.clock.now_ms()
        if not market.exchange.recorded:
            yield now_ms
            return
        yield market.now_ms()  # what faults held back may be due
        for _ in range(_SLICES_A_TURN):
            until_ms = self._slice_end_ms(now_ms)
            crowded = self._crowded()
            if crowded or until_ms <= market.now_ms():
                break
            yield until_ms
        self.hurries = not crowded and self._slice_end_ms(now_ms) > market.now_ms()
        market.clock.hold(crowded or self.hurries or now_ms >= market.exchange.end_ms)

    def nap_sec(self, faults: bool) -> float:
        """Real seconds until the next turn: until a tick or a book is due in an invented market, ``IDLE_SEC`` at most;
        a step where ``faults`` decide what is due, or a recorded day plays; 0 while it hurries."""
        if self.hurries:
            return 0.0
        market = self._opend.market
        if faults or market.exchange.recorded:
            return STEP_SEC
        due_sec = market.clock.real_sec_until(min(market.next_ms, self._opend.depth.next_ms))
        return max(STEP_SEC, min(due_sec, IDLE_SEC / max(1.0, market.clock.speed)))

    def _slice_end_ms(self, now_ms: int) -> int:
        """The end of the next slice in which something happens, or of the last one that is over."""
        market = self._opend.market
        happens_ms = max(min(market.next_ms, self._opend.depth.next_ms), market.now_ms() + 1)
        last_ms = min(now_ms, market.exchange.end_ms)
        return min(-(-happens_ms // SLICE_MS), last_ms // SLICE_MS) * SLICE_MS

    def _crowded(self) -> bool:
        slow = [session for session in self._sessions.values() if session.outlet.waiting_bytes() > BACKLOG_BYTES]
        if not slow:
            self._crowded_since_sec = 0.0
            return False
        now_sec = self._monotonic()
        self._crowded_since_sec = self._crowded_since_sec or now_sec
        if now_sec - self._crowded_since_sec > STUCK_SEC:
            for session in slow:
                session.outlet.give_up()
        return True

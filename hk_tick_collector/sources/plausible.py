"""Which days a tick that comes now can be of: the clock doubts, it never moves.

Two clocks are asked, and a day that either of them allows is plausible. Ours alone would turn every tick away on a
machine that woke up in 1970, the source's alone would take every day from one whose clock is wrong. A simulated or
replayed market has its own time, which its source tells.
"""

from __future__ import annotations

from hk_tick_collector.core.errors import RejectCode, TickRejected
from hk_tick_collector.market.dates import DAY_MS
from hk_tick_collector.market.market import Market

DAYS_BACK = 31  # a suspended stock shows its last ticks, which are weeks old
DAYS_AHEAD = 7  # the longest holidays of the market are shorter: its next trading day is always among them
CLOCKS_DIFFER_MS = 3_600_000
ASKING_TAKES_MS = 5000  # what a source says of its clock is so old at most, and cut to a second
_LATEST_MS = 4_102_444_800_000  # 2100-01-01: no clock says later
MINUTES_KEPT = 4096


class PlausibleDays:
    """Times are UTC epoch milliseconds. One thread notes, any may ask."""

    def __init__(self, market: Market) -> None:
        self._trading_day = market.trading_day
        self._source_ahead_ms = 0

    def note_source_time(self, source_ms: int, now_ms: int) -> None:
        """What the source's clock says at ``now_ms`` of ours; a time that no clock has is not noted."""
        if 0 < source_ms < _LATEST_MS:
            self._source_ahead_ms = source_ms - now_ms

    def surely_past_ms(self, now_ms: int) -> int:
        """The earlier one of both clocks, where they really differ: an answer that is asked for now speaks of no later
        moment, even if our clock runs ahead."""
        ours_ahead_ms = -self._source_ahead_ms
        return now_ms - ours_ahead_ms if ours_ahead_ms > ASKING_TAKES_MS else now_ms

    def is_newest(self, ts_ms: int, now_ms: int) -> bool:
        """May it be the newest tick's time at ``now_ms``? One further ahead than clocks differ would hide for hours
        that nothing comes any more."""
        return ts_ms <= now_ms + max(0, self._source_ahead_ms) + CLOCKS_DIFFER_MS

    def hold(self, day: str, now_ms: int) -> bool:
        """May ``day`` (a trading day, ``YYYYMMDD``) have a tick that comes at ``now_ms``?"""
        return any(self._is_around(day, clock_ms) for clock_ms in (now_ms, now_ms + self._source_ahead_ms))

    def _is_around(self, day: str, clock_ms: int) -> bool:
        clock_ms = min(max(clock_ms, DAYS_BACK * DAY_MS), _LATEST_MS)
        first_ms, last_ms = clock_ms - DAYS_BACK * DAY_MS, clock_ms + DAYS_AHEAD * DAY_MS
        return self._trading_day(first_ms) <= day <= self._trading_day(last_ms)


class DayOfMinute:
    """Which trading day a trade is of: asked of the market once a minute of trades. One thread.

    ``known`` may be looked into first, by minutes since 1970: that is all the work of nearly every trade."""

    def __init__(self, market: Market, days: PlausibleDays) -> None:
        self.known: dict[int, str] = {}
        self._market = market
        self._days = days

    def of(self, ts_ms: int, recv_ts_ms: int) -> str:
        """TickRejected for a time of no day that may have a trade now."""
        day = self.known.get(ts_ms // 60_000)
        return self._look(ts_ms, recv_ts_ms) if day is None else day

    def _look(self, ts_ms: int, recv_ts_ms: int) -> str:
        try:
            day = self._market.trading_day(ts_ms)
        except (ValueError, OverflowError) as exc:
            raise TickRejected(RejectCode.TIME, f"time {ts_ms} is of no trading day: {exc}") from None
        if not self._days.hold(day, recv_ts_ms):
            raise TickRejected(RejectCode.DAY, f"time {ts_ms} is of no day that now has trades")
        if len(self.known) >= MINUTES_KEPT:
            self.known.clear()
        self.known[ts_ms // 60_000] = day
        return day

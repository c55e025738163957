"""Pulls by the clock: of symbols that fell quiet, of every symbol now and then to hold push and pull together, and of
symbols whose counters prove nothing as often as they trade."""

from __future__ import annotations

from collections.abc import Sequence

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.progress import FeedProgress
from hk_tick_collector.records.tick import PUSH_TYPE_POLL
from hk_tick_collector.sources.completeness import Completeness
from hk_tick_collector.sources.pull import PullResult, TickPuller
from hk_tick_collector.sources.source import Link

QUIET_POLL_MAX_SEC = 60  # a symbol whose polls bring nothing is asked less and less often, down to this
# Shorter than the five minutes between the closing auction and the end of recording, so that every symbol's last tick
# is confirmed once: 900 symbols are four small requests a second, 0.2 % of a core.
AUDIT_INTERVAL_SEC = 240
AUDIT_ROWS = 50
AUDIT_UNCONFIRMED_SYMBOLS = 60  # a round, the busiest ones; the others wait for the next one
# A third of what OpenD keeps: two answers may fail before a tick is out of its sight.
FOLLOW_ROWS = 300
FOLLOW_MIN_SEC = 1.0
# A quiet symbol may become busy at once: 15 s hold 60 ticks a second. With very many such symbols the work is bounded.
FOLLOW_MAX_SEC = 15.0
FOLLOW_PULLS_PER_SEC = 10
FOLLOW_RETRY_SEC = 5.0


class Poller:
    """Pulls symbols that have been quiet for a while: a push channel can fall silent without saying so."""

    def __init__(
        self,
        puller: TickPuller,
        continuity: Completeness,
        progress: FeedProgress,
        clock: Clock,
        interval_sec: float,
        rows: int,
        stale_sec: float,
    ) -> None:
        self._puller = puller
        self._continuity = continuity
        self._progress = progress
        self._clock = clock
        self._interval_sec = interval_sec
        self._rows = rows
        self._stale_sec = stale_sec
        self._next_poll: dict[str, tuple[float, float]] = {}  # symbol -> (not before, wait after that), monotonic

    async def poll_quiet(self, link: Link, symbols: Sequence[str]) -> None:
        """One round over the quiet ones among ``symbols``. Raises ``FeedLost`` when the connection is gone."""
        now_sec = self._clock.monotonic()
        quiet = self._continuity.quiet_symbols(symbols, now_sec - self._stale_sec)
        never = (0.0, 0.0)
        due = [symbol for symbol in quiet if self._next_poll.get(symbol, never)[0] <= now_sec]
        for symbol in set(self._next_poll).difference(quiet):
            del self._next_poll[symbol]

        async def pull(symbol: str) -> None:
            result = await self._puller.pull(link, symbol, self._rows, PUSH_TYPE_POLL)
            _count(self._progress, result)
            self._schedule(symbol, quiet=not result.fresh_rows)

        await self._puller.pull_all(due, pull, "poll")

    def _schedule(self, symbol: str, *, quiet: bool) -> None:
        wait_sec = self._next_poll.get(symbol, (0.0, 0.0))[1]
        wait_sec = min(max(self._interval_sec, wait_sec * 2), QUIET_POLL_MAX_SEC) if quiet else self._interval_sec
        self._next_poll[symbol] = (self._clock.monotonic() + wait_sec, wait_sec)


class Auditor:
    """Asks for a few ticks of every symbol in turn, busy ones too: trust in the counters is earned by agreement.

    A symbol that has not been confirmed today comes first. One of which something is open that only a whole answer
    tells (the day's beginning, an interruption) is asked for all that OpenD shows.
    """

    def __init__(self, puller: TickPuller, continuity: Completeness, clock: Clock) -> None:
        self._puller = puller
        self._continuity = continuity
        self._clock = clock
        self._position = 0.0
        self._last_monotonic = clock.monotonic()

    async def run(self, link: Link, symbols: Sequence[str]) -> None:
        """Audit the share of ``symbols`` that the time since the last call stands for, however long that was."""
        now_sec = self._clock.monotonic()
        elapsed_sec, self._last_monotonic = now_sec - self._last_monotonic, now_sec
        share = min(1.0, elapsed_sec / AUDIT_INTERVAL_SEC) * len(symbols)
        first, self._position = int(self._position), self._position + share
        due = [symbols[n % len(symbols)] for n in range(first, int(self._position))]
        unconfirmed = self._continuity.unconfirmed(symbols)
        due += self._continuity.most_active_first(unconfirmed)[:AUDIT_UNCONFIRMED_SYMBOLS]
        self._position %= max(1, len(symbols))

        async def pull(symbol: str) -> None:
            rows = self._puller.limits.newest_rows if self._continuity.wants_whole(symbol) else AUDIT_ROWS
            await self._puller.pull(link, symbol, rows, PUSH_TYPE_POLL)

        await self._puller.pull_all(list(dict.fromkeys(due)), pull, "audit")


class Follower:
    """Asks for all that OpenD shows of symbols whose counters prove nothing, before it can show no more of it.

    A lost push of such a symbol leaves no hole to be seen. So its newest 1000 ticks are fetched each time that some 300
    may have been traded: by the pushes that came, and by the pace that the last answer shows.
    """

    def __init__(self, puller: TickPuller, continuity: Completeness, progress: FeedProgress, clock: Clock) -> None:
        self._puller = puller
        self._continuity = continuity
        self._progress = progress
        self._clock = clock
        self._next: dict[str, tuple[float, int]] = {}  # not before (monotonic), rows pushed at its last pull

    async def follow(self, link: Link, symbols: Sequence[str]) -> None:
        """One round over the distrusted ones among ``symbols``. Raises ``FeedLost`` when the connection is gone."""
        pushed_rows = self._continuity.distrusted(symbols)
        for symbol in self._next.keys() - pushed_rows.keys():
            del self._next[symbol]
        due = [symbol for symbol, rows in pushed_rows.items() if self._is_due(symbol, rows)]
        max_sec = max(FOLLOW_MAX_SEC, len(pushed_rows) / FOLLOW_PULLS_PER_SEC)

        async def pull(symbol: str) -> None:
            self._next[symbol] = self._clock.monotonic() + FOLLOW_RETRY_SEC, pushed_rows[symbol]
            result = await self._puller.pull(link, symbol, self._puller.limits.newest_rows, PUSH_TYPE_POLL)
            _count(self._progress, result)
            wait_sec = FOLLOW_ROWS / result.rows_per_sec if result.rows_per_sec else max_sec
            wait_sec = min(max(FOLLOW_MIN_SEC, wait_sec), max_sec)
            self._next[symbol] = self._clock.monotonic() + wait_sec, pushed_rows[symbol]

        await self._puller.pull_all(due, pull, "follow")

    def _is_due(self, symbol: str, pushed_rows: int) -> bool:
        not_before_sec, rows_then = self._next.get(symbol, (0.0, 0))
        return self._clock.monotonic() >= not_before_sec or pushed_rows - rows_then >= FOLLOW_ROWS


def _count(progress: FeedProgress, result: PullResult) -> None:
    progress.poll_fetched_rows += result.fetched_rows
    progress.poll_accepted_rows += result.fresh_rows

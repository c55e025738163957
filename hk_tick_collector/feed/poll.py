"""Pulls by the clock: of symbols that fell quiet, and of every symbol now and then to hold push and pull together."""

from __future__ import annotations

from collections.abc import Sequence

from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.tick import PUSH_TYPE_POLL
from hk_tick_collector.feed.pull import TickPuller
from hk_tick_collector.feed.sdk import GET_TICKER_MAX_ROWS, Connection

QUIET_POLL_MAX_SEC = 60  # a symbol whose polls bring nothing is asked less and less often, down to this
# Shorter than the five minutes between the closing auction and the end of recording, so that every symbol's last tick
# is confirmed once: 900 symbols are four small requests a second, 0.2 % of a core.
AUDIT_INTERVAL_SEC = 240
AUDIT_ROWS = 50
AUDIT_UNCONFIRMED_SYMBOLS = 60  # a round, the busiest ones; the others wait for the next one


class Poller:
    """Pulls symbols that have been quiet for a while: a push channel can fall silent without saying so."""

    def __init__(self, puller: TickPuller, clock: Clock, interval_sec: float, rows: int, stale_sec: float) -> None:
        self._puller = puller
        self._clock = clock
        self._interval_sec = interval_sec
        self._rows = rows
        self._stale_sec = stale_sec
        self._next_poll: dict[str, tuple[float, float]] = {}  # symbol -> (not before, wait after that), monotonic

    async def poll_quiet(self, connection: Connection, symbols: Sequence[str]) -> None:
        """One round over the quiet ones among ``symbols``. Raises ``FeedLost`` when the connection is gone."""
        now_sec = self._clock.monotonic()
        quiet = self._puller.continuity.quiet_symbols(symbols, now_sec - self._stale_sec)
        never = (0.0, 0.0)
        due = [symbol for symbol in quiet if self._next_poll.get(symbol, never)[0] <= now_sec]
        for symbol in set(self._next_poll).difference(quiet):
            del self._next_poll[symbol]
        progress = self._puller.progress

        async def one(symbol: str) -> None:
            result = await self._puller.pull(connection, symbol, self._rows, PUSH_TYPE_POLL)
            progress.poll_fetched_rows += result.fetched_rows
            progress.poll_accepted_rows += result.fresh_rows
            self._schedule(symbol, quiet=not result.fresh_rows)

        await self._puller.pull_all(connection, due, one, "poll")

    def _schedule(self, symbol: str, *, quiet: bool) -> None:
        wait_sec = self._next_poll.get(symbol, (0.0, 0.0))[1]
        wait_sec = min(max(self._interval_sec, wait_sec * 2), QUIET_POLL_MAX_SEC) if quiet else self._interval_sec
        self._next_poll[symbol] = (self._clock.monotonic() + wait_sec, wait_sec)


class Auditor:
    """Asks for a few ticks of every symbol in turn, busy ones too: trust in the counters is earned by agreement.

    A symbol that has not been confirmed today comes first. One whose day has an unproven beginning is asked for all
    that OpenD shows.
    """

    def __init__(self, puller: TickPuller, clock: Clock) -> None:
        self._puller = puller
        self._clock = clock
        self._position = 0.0

    async def run(self, connection: Connection, symbols: Sequence[str], seconds: float) -> None:
        """Audit the share of ``symbols`` that ``seconds`` since the last call stand for."""
        share = min(1.0, seconds / AUDIT_INTERVAL_SEC) * len(symbols)
        first, self._position = int(self._position), self._position + share
        due = [symbols[n % len(symbols)] for n in range(first, int(self._position))]
        unconfirmed = self._puller.continuity.unconfirmed(symbols)
        due += self._puller.continuity.most_active_first(unconfirmed)[:AUDIT_UNCONFIRMED_SYMBOLS]
        self._position %= max(1, len(symbols))

        async def one(symbol: str) -> None:
            rows = AUDIT_ROWS if self._puller.continuity.head_known(symbol) else GET_TICKER_MAX_ROWS
            await self._puller.pull(connection, symbol, rows, PUSH_TYPE_POLL)

        await self._puller.pull_all(connection, list(dict.fromkeys(due)), one, "audit")

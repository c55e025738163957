"""Load for benchmarks: every frame is made before a client comes, then sent as fast as the socket takes them.

The ticks are the exchange's own at ``MARKET_TICKS_PER_SEC``, dated so that the last one lies at the start of the run;
they are in the truth file before the first is sent. Sending begins when a connection has subscribed every symbol with
pushes, once for each such connection, and waits for the socket, so memory stays at the frames themselves (about
200 bytes a tick). Pulls answer nothing until the first run is over. Faults do not touch these pushes.
"""

from __future__ import annotations

import asyncio
import logging
import time

from hk_tick_collector.core.logline import event
from hk_tick_collector.opend_sim import encode, wire
from hk_tick_collector.opend_sim.market_feed import MarketFeed
from hk_tick_collector.opend_sim.opend import SUB_TICKER
from hk_tick_collector.opend_sim.routes import UPDATE_TICKER
from hk_tick_collector.opend_sim.server import SimServer
from hk_tick_collector.opend_sim.session import ClientSession
from hk_tick_collector.opend_sim.simtick import SimTick

MARKET_TICKS_PER_SEC = 20_000.0
CHUNK_BYTES = 64 * 1024
_MARKET_SLICE_MS = 50
_POLL_SEC = 0.02

_log = logging.getLogger(__name__)


class StillMarket(MarketFeed):
    """A market that makes no ticks of its own while it is served; its past is shown once ``released``."""

    released = False

    def step(self, until_ms: int | None = None) -> list[SimTick]:
        return []

    def recent(self, symbol: str, count: int) -> list[SimTick]:
        return self.exchange.recent(symbol, count) if self.released else []


class Firehose:
    """The prepared load of one run."""

    def __init__(self, market: StillMarket, start_ms: int, ticks: int, ticks_per_push: int) -> None:
        """``start_ms`` is where the market's ticks begin; at least ``ticks`` of them are made."""
        self._market = market
        self._now_ms = start_ms
        self._wanted_ticks = ticks
        self._ticks_per_push = max(1, ticks_per_push)
        self._chunks: list[bytes] = []
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._by_symbol: dict[str, list[SimTick]] = {}
        self._serial = 0
        self._served: set[int] = set()
        self.ticks = 0

    async def prepare(self) -> None:
        """Make the ticks and all frames; the loop stays responsive meanwhile."""
        while self.ticks < self._wanted_ticks:
            self._now_ms += _MARKET_SLICE_MS
            made = self._market.exchange.advance(self._now_ms)
            self._market.exchange.remember(made)
            self._market.record(made)
            self.ticks += len(made)
            for tick in made:
                own = self._by_symbol.setdefault(tick.symbol, [])
                own.append(tick)
                if len(own) >= self._ticks_per_push:
                    self._add_frame(tick.symbol)
            await asyncio.sleep(0)
        for symbol in [s for s, own in self._by_symbol.items() if own]:
            self._add_frame(symbol)
        self._close_chunk()
        _log.info(event("firehose_ready", ticks=self.ticks, frames=self._serial, chunks=len(self._chunks)))

    async def run(self, server: SimServer) -> None:
        """Serve each connection that has subscribed everything, one after the other, until cancelled."""
        while True:
            for session in list(server.sessions.values()):
                if session.client.conn_id not in self._served and self._wants_all(server, session):
                    self._served.add(session.client.conn_id)
                    await self._send_all(session)
                    server.pusher.pushed_ticks += self.ticks
            await asyncio.sleep(_POLL_SEC)

    def _wants_all(self, server: SimServer, session: ClientSession) -> bool:
        push_to = server.opend.book.push_to
        conn_id = session.client.conn_id
        return all(conn_id in push_to((symbol, SUB_TICKER)) for symbol in self._market.exchange.instruments)

    async def _send_all(self, session: ClientSession) -> None:
        conn_id = session.client.conn_id
        _log.info(event("firehose_begin", conn=conn_id, ticks=self.ticks, frames=self._serial))
        begun_sec = time.monotonic()
        try:
            for chunk in self._chunks:
                session.outlet.send(chunk)
                await session.outlet.room()
        except ConnectionError:
            _log.warning(event("firehose_broken", conn=conn_id))
            return
        seconds = time.monotonic() - begun_sec
        self._market.released = True
        _log.info(event("firehose_done", conn=conn_id, ticks=self.ticks, frames=self._serial, seconds=seconds))

    def _add_frame(self, symbol: str) -> None:
        ticks = self._by_symbol[symbol]
        self._serial += 1
        message = encode.ticker_push(symbol, self._market.name_of(symbol), ticks, encode.PUSH_REALTIME)
        frame = wire.encode_frame(UPDATE_TICKER, self._serial, message.SerializeToString())
        ticks.clear()
        self._pending.append(frame)
        self._pending_bytes += len(frame)
        if self._pending_bytes >= CHUNK_BYTES:
            self._close_chunk()

    def _close_chunk(self) -> None:
        if self._pending:
            self._chunks.append(b"".join(self._pending))
            self._pending.clear()
            self._pending_bytes = 0

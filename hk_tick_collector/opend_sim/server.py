"""The simulated OpenD as a TCP server: accepts clients, moves the market on, pushes, tells what changed.

Owns the listening socket, the sessions and the step task; everything runs on one event loop. Limits: ``MAX_CLIENTS``
connections, loopback unless told otherwise. While the port is closed by a fault it stays bound but does not listen, so
nobody else can take it and clients see a refused connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Sequence
from typing import Any, cast

from hk_tick_collector.core.errors import ConfigError
from hk_tick_collector.core.logline import event
from hk_tick_collector.opend_sim import notify, wire
from hk_tick_collector.opend_sim.book_pusher import BookPusher
from hk_tick_collector.opend_sim.depth_truth import DepthTruthWriter
from hk_tick_collector.opend_sim.oddities import Oddities
from hk_tick_collector.opend_sim.opend import SUB_BROKER, SUB_ORDER_BOOK, SUB_TICKER, Client, OpenD
from hk_tick_collector.opend_sim.pace import Pace
from hk_tick_collector.opend_sim.pusher import Pusher
from hk_tick_collector.opend_sim.routes import NOTIFY
from hk_tick_collector.opend_sim.session import ClientSession, EncodedPush
from hk_tick_collector.opend_sim.subscriptions import Key
from hk_tick_collector.opend_sim.views import ViewPusher

MAX_CLIENTS = 128
_REOPEN_RETRY_SEC = 0.2
_CLOSE_TIMEOUT_SEC = 0.2

_log = logging.getLogger(__name__)


class SimServer:
    """``start()``, then ``run()`` until cancelled, then ``close()``."""

    def __init__(self, opend: OpenD, book_truth: DepthTruthWriter | None = None) -> None:
        """ConfigError when the RSA key is not usable."""
        self.opend = opend
        self.sessions: dict[int, ClientSession] = {}
        self.pusher = Pusher(opend, self.sessions)
        self.views = ViewPusher(opend, self.pusher)
        self.books = BookPusher(opend, self.pusher, book_truth)
        self.pace = Pace(opend, self.sessions)
        self.port = 0
        self.clients_total = 0
        self.overflows = 0
        rsa_key = opend.settings.rsa_key
        self._rsa = wire.RsaCipher(rsa_key) if rsa_key is not None else None
        self._listener: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self._closed_until_sec = 0.0
        self._serving: set[asyncio.Task[None]] = set()
        self._next_conn_id = int(time.time() * 1000)
        self._standing = opend.standing()

    async def start(self) -> None:
        """Listen. ConfigError when the address cannot be had."""
        settings = self.opend.settings
        try:
            sock = _bound_socket(settings.host, settings.port)
        except OSError as err:
            raise ConfigError(f"cannot listen on {settings.host}:{settings.port}: {err.strerror or err}") from err
        self.port = sock.getsockname()[1]
        await self._listen(sock)

    async def run(self) -> None:
        """Move the market and push, whenever something can happen, until cancelled."""
        self.opend.market.alter = Oddities(self.opend.faults).strike
        while True:
            self.go_on()
            self._tell_changes()
            if self._closed_until_sec and time.monotonic() >= self._closed_until_sec:
                await self._reopen()
            await asyncio.sleep(self.pace.nap_sec(self.pusher.holds_back))

    def go_on(self) -> None:
        """Make and push all that traded until now; of a replay the next slices."""
        market = self.opend.market
        renumber = self.opend.faults.active("renumber")
        market.renumber(renumber.kind if renumber is not None else "", renumber)
        for until_ms in self.pace.steps():
            arrived = market.step(until_ms)
            self.pusher.step(arrived)
            self.views.step(arrived)
            self.books.step(arrived)

    async def close(self) -> None:
        """Stop listening and drop everyone. The truth file is complete afterwards."""
        self._closed_until_sec = 0.0
        self._stop_listening()
        if self._placeholder is not None:
            self._placeholder.close()
        self.drop_all()
        if self._serving:
            _done, stuck = await asyncio.wait(self._serving, timeout=_CLOSE_TIMEOUT_SEC)
            for task in stuck:
                task.cancel()
        self.opend.market.close()
        self.books.close()

    def drop_all(self) -> int:
        """Close every connection at once; how many there were."""
        for session in list(self.sessions.values()):
            session.outlet.abort()
        return len(self.sessions)

    def refuse(self, seconds: float) -> None:
        """Do not listen for so long; connections stay."""
        if self._placeholder is None:
            self._stop_listening()
            # Bound again at once, so that no other program gets the port meanwhile.
            self._placeholder = _bound_socket(self.opend.settings.host, self.port)
        self._closed_until_sec = time.monotonic() + seconds

    def restart(self, seconds: float, *, forget: bool = False) -> int:
        """As if OpenD were started again: port closed for so long, connections and subscriptions gone."""
        if forget:
            self.opend.market.exchange.forget()
        self.refuse(seconds)
        return self.drop_all()

    def notify_all(self, message: Any) -> int:
        """Send a Notify message to every client that asked for them; to how many."""
        push = EncodedPush(NOTIFY, self.pusher.next_serial(), message)
        told = [s for s in self.sessions.values() if s.client.initialized and s.client.recv_notify]
        for session in told:
            session.push([push])
        return len(told)

    def _tell_changes(self) -> None:
        if self.opend.faults.active("hang") is not None:
            return
        standing = self.opend.standing()
        if standing != self._standing:
            for message in notify.changes(self._standing, standing, self.opend.venue):
                self.notify_all(message)
            self._standing = standing

    async def _listen(self, sock: socket.socket) -> None:
        self._listener = await asyncio.start_server(self._accept, sock=sock, limit=wire.MAX_REQUEST_BYTES)

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _reopen(self) -> None:
        placeholder = self._placeholder
        if placeholder is None:
            return
        try:
            await self._listen(placeholder)
        except OSError as err:
            _log.warning(event("reopen_failed", port=self.port, error=err, retry_sec=_REOPEN_RETRY_SEC))
            self._closed_until_sec = time.monotonic() + _REOPEN_RETRY_SEC
            return
        self._placeholder = None
        self._closed_until_sec = 0.0
        _log.info(event("listening_again", port=self.port))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self.sessions) >= MAX_CLIENTS:
            _log.warning(event("client_refused", clients=len(self.sessions), limit=MAX_CLIENTS))
            writer.transport.abort()
            return
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._next_conn_id += 1
        client = Client(self._next_conn_id)
        session = ClientSession(self.opend, client, reader, writer, self._rsa, self._first_push)
        self.sessions[client.conn_id] = session
        self.clients_total += 1
        peer = writer.get_extra_info("peername") or ("?", 0)
        _log.info(event("client_connected", conn=client.conn_id, peer=f"{peer[0]}:{peer[1]}"))
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._serving.add(task)
        reason = "stopped"
        try:
            reason = await session.serve()
        except asyncio.CancelledError:
            pass  # only close() cancels; asyncio would log a cancelled connection task as an error
        finally:
            self._serving.discard(task)
            self._forget(session, reason)

    def _forget(self, session: ClientSession, reason: str) -> None:
        conn_id = session.client.conn_id
        self.overflows += session.outlet.overflowed
        del self.sessions[conn_id]
        self.opend.drop_connection(conn_id)
        with contextlib.suppress(OSError):
            session.outlet.abort()
        _log.info(event("client_gone", conn=conn_id, reason=reason))

    def _first_push(self, conn_id: int, keys: Sequence[Key]) -> None:
        by_type: dict[int, list[str]] = {}
        for symbol, sub_type in keys:
            by_type.setdefault(sub_type, []).append(symbol)
        for sub_type, symbols in by_type.items():
            if sub_type == SUB_TICKER:
                self.pusher.first_push(conn_id, symbols)
            elif sub_type in (SUB_ORDER_BOOK, SUB_BROKER):
                self.books.first_push(conn_id, symbols, sub_type)
            else:
                self.views.first_push(conn_id, [(symbol, sub_type) for symbol in symbols])


def _bound_socket(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock

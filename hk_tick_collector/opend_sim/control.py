"""Commands while the simulator runs: one line in, one JSON line out, over TCP on loopback or a Unix socket.

``FaultDesk`` carries a command out, for the control port and for the script file alike. A line is the words of one
fault (``skip percent=10 seconds=5``); the answer has ``ok``, and ``error`` or what was done. Limits: lines of
``MAX_LINE_BYTES``, ``MAX_CONTROLLERS`` connections.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hk_tick_collector.core.errors import ConfigError, RecorderError
from hk_tick_collector.core.logline import event
from hk_tick_collector.opend_sim import notify
from hk_tick_collector.opend_sim.faults import Fault, FaultError, parse_fault
from hk_tick_collector.opend_sim.server import SimServer
from hk_tick_collector.opend_sim.simclock import time_ms

MAX_LINE_BYTES = 4096
MAX_CONTROLLERS = 16
CALL_TIMEOUT_SEC = 10.0

Answer = dict[str, Any]  # as it stands in the JSON line

_log = logging.getLogger(__name__)


class ControlError(RecorderError):
    """The control address does not answer as a simulator does."""


class FaultDesk:
    """Carries out commands on one server. Lasting faults go to its FaultState, the others happen at once."""

    def __init__(self, server: SimServer) -> None:
        self._server = server
        self._faults = server.opend.faults
        self._at_once: dict[str, Callable[[Fault], Answer]] = {
            "drop": lambda _fault: {"connections": server.drop_all()},
            "refuse": self._refuse,
            "restart": self._restart,
            "login": self._login,
            "kick-out": self._kick_out,
            "gtw-event": self._gtw_event,
            "clear": self._clear,
            "stand": self._stand,
            "run": self._run,
            "jump": self._jump,
            "status": lambda _fault: self.status(),
        }

    def command(self, line: str) -> Answer:
        """Carry one line out. Never raises for what a user wrote; the answer says what was wrong."""
        try:
            fault = parse_fault(line.split())
        except FaultError as err:
            return {"ok": False, "error": str(err)}
        return self.apply(fault)

    def apply(self, fault: Fault) -> Answer:
        """Carry a checked fault out and log it. Never raises; the answer says what was wrong."""
        act = self._at_once.get(fault.name)
        done: Answer = {}
        if act is None:
            self._faults.begin(fault)
        else:
            try:
                done = act(fault)
            except FaultError as err:
                _log.warning(event("fault_refused", name=fault.name, **fault.fields(), error=err))
                return {"ok": False, "error": str(err)}
        if fault.name != "status":
            _log.info(event("fault", name=fault.name, **fault.fields()))
        return {"ok": True, "fault": fault.name, **fault.fields(), **done}

    def status(self) -> Answer:
        """Counters and active faults."""
        server = self._server
        opend = server.opend
        return {
            "clients": len(server.sessions),
            "clients_total": server.clients_total,
            "clients_overflowed": server.overflows,
            "subscriptions_used": opend.book.used(),
            "ticks_arrived": opend.market.arrived_ticks,
            "ticks_pushed": server.pusher.pushed_ticks,
            "pushes": server.pusher.pushes,
            "books_pushed": server.books.pushes,
            "views_pushed": server.views.pushes,
            "market_time_ms": opend.market.now_ms(),
            "active": {name: fault.fields() for name, fault in self._faults.active_faults().items()},
            "hits": dict(self._faults.hit_counts),
        }

    def _refuse(self, fault: Fault) -> Answer:
        assert fault.seconds is not None
        self._server.refuse(fault.seconds)
        return {}

    def _restart(self, fault: Fault) -> Answer:
        assert fault.seconds is not None
        return {"connections": self._server.restart(fault.seconds, forget=fault.kind == "forget")}

    def _login(self, _fault: Fault) -> Answer:
        return {"ended": self._faults.end("logout") + self._faults.end("kick-out")}

    def _kick_out(self, fault: Fault) -> Answer:
        text = "the account logged in on another terminal"
        told = self._server.notify_all(notify.gtw_event("KickedOut", text))
        self._faults.begin(fault)
        return {"notified": told}

    def _gtw_event(self, fault: Fault) -> Answer:
        return {"notified": self._server.notify_all(notify.gtw_event(fault.kind, f"simulated {fault.kind}"))}

    def _clear(self, fault: Fault) -> Answer:
        return {"ended": self._faults.end(fault.kind)}

    def _stand(self, _fault: Fault) -> Answer:
        self._server.opend.market.clock.stand()
        self._server.go_on()  # the truth file has all of an invented market until then, when this is answered
        return {"market_time_ms": self._server.opend.market.now_ms()}

    def _run(self, _fault: Fault) -> Answer:
        self._server.opend.market.clock.run()
        return {"market_time_ms": self._server.opend.market.now_ms()}

    def _jump(self, fault: Fault) -> Answer:
        clock = self._server.opend.market.clock
        try:
            clock.jump(time_ms(fault.to, self._server.opend.venue.market.zone))
        except ValueError as err:
            raise FaultError(f"jump to={fault.to}: {err}") from err
        self._server.go_on()
        return {"market_time_ms": clock.now_ms()}


class ControlServer:
    """Listens for commands. ``address`` is ``127.0.0.1:PORT`` or the socket's path, as ``call`` takes it."""

    def __init__(self, desk: FaultDesk) -> None:
        self._desk = desk
        self._server: asyncio.Server | None = None
        self._socket_path: Path | None = None
        self._controllers = 0
        self.address = ""

    async def start_tcp(self, port: int) -> None:
        """Listen on loopback; port 0 takes a free one. ConfigError when it cannot be had."""
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", port, limit=MAX_LINE_BYTES)
        except OSError as err:
            raise ConfigError(f"cannot listen for commands on 127.0.0.1:{port}: {err.strerror or err}") from err
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start_unix(self, path: Path) -> None:
        """Listen on a socket file, replacing a stale one. ConfigError when it cannot be made."""
        try:
            _remove_stale_socket(path)
            self._server = await asyncio.start_unix_server(self._serve, path, limit=MAX_LINE_BYTES)
        except OSError as err:
            raise ConfigError(f"cannot listen for commands on {path}: {err.strerror or err}") from err
        self._socket_path = path
        self.address = str(path)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._controllers >= MAX_CONTROLLERS:
            writer.close()
            return
        self._controllers += 1
        try:
            while line := await reader.readline():
                answer = self._desk.command(line.decode(errors="replace"))
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError) as err:  # ValueError: a line over the limit
            _log.warning(event("control_closed", reason=err))
        finally:
            self._controllers -= 1
            writer.close()


def _remove_stale_socket(path: Path) -> None:
    if path.is_socket():
        path.unlink()


def call(address: str, line: str, timeout_sec: float = CALL_TIMEOUT_SEC) -> Answer:
    """Send one command to a running simulator and give its answer. ControlError names what went wrong."""
    try:
        with _connect(address, timeout_sec) as sock:
            sock.sendall(line.encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                part = sock.recv(65536)
                if not part:
                    break
                data += part
    except OSError as err:
        raise ControlError(
            f"no simulator at {address}: {err.strerror or err}; it prints its control address when it starts"
        ) from err
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or "ok" not in answer:
        raise ControlError(f"{address} does not answer as a simulator's control port: {data[:80]!r}")
    return answer


def _connect(address: str, timeout_sec: float) -> socket.socket:
    host, sep, port = address.rpartition(":")
    if sep and port.isdigit():
        return socket.create_connection((host or "127.0.0.1", int(port)), timeout_sec)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout_sec)
    try:
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock

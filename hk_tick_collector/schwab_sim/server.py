"""The streamer over WebSockets, and beside it Schwab's REST routes (token, login page, preferences) and our own.

Level one is conflated as Schwab's: every ``conflate_ms`` a client is told, for each symbol that traded, the fields that
have changed since it was told last. One client streams at a time: a second login ends the first. Faults are asked for
by ``POST /sim/NAME`` on the REST port (``FAULTS``). Listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from hk_tick_collector.schwab_sim.tape import ODDITIES, Tape, Trade

HOST = "127.0.0.1"
STEP_SEC = 0.02
HEARTBEAT_SEC = 10.0
MAX_BODY_BYTES = 65_536
MAX_TRADES = 1000  # at once
EQUITIES = "LEVELONE_EQUITIES"
ACCESS_SEC = 1800
CODES = {"close_connection": (12, "Too many connections"), "stop_streaming": (30, "Stop streaming due to slow reader")}
FAULTS = {
    "cut": "break every connection off",
    "silence": "say nothing more on the connections there are, and leave them open",
    "close_connection": "code 12 to everybody, as when another program logs in, and the connection is closed",
    "stop_streaming": "code 30 to everybody, and the connection is closed",
    "expire": "access tokens given so far are void",
    "revoke": "logins given so far are void: a refresh token answers 400 invalid_client",
    "deny": "the streamer denies every login (code 3) from now on",
    "taken": "the streamer answers every login with code 12 from now on",
    "busy": "the REST interface answers 429 from now on",
    "maintenance": "the REST interface answers 503 from now on, and every connection is closed",
    "accept": "logins and the REST interface work again",
    "limit": "a subscription of more than two symbols answers 19 from now on",
    "unavailable": "a subscription answers 11 from now on",
    "garbage": "the next message is no JSON",
    "half": "the next message ends in its middle",
    "reorder": "change the order of the fields from now on",
    "delayed": "data is marked as delayed from now on",
    "skew": "the streamer's clock is an hour ahead from now on",
    "reset": "the totals of the day begin anew, as in the morning",
    "repeat": "tell everybody all fields of all symbols again",
    "pause": "make no trades",
    "resume": "make trades again",
    **{name: f"the next trade is one: {name}" for name in ODDITIES},
}
_SETS: dict[str, dict[str, int | bool]] = {
    "deny": {"login_code": 3}, "taken": {"login_code": 12}, "busy": {"rest_status": 429}, "limit": {"sub_code": 19},
    "maintenance": {"rest_status": 503}, "unavailable": {"sub_code": 11}, "reorder": {"is_reordered": True},
    "delayed": {"is_delayed": True}, "skew": {"skew_ms": 3_600_000}, "pause": {"is_paused": True},
    "resume": {"is_paused": False}, "accept": {"login_code": 0, "rest_status": 200, "sub_code": 0},
}  # fmt: skip


@dataclass(eq=False)
class _Client:
    socket: Any
    is_in: bool = False
    symbols: dict[str, list[str]] = field(default_factory=dict)  # and the fields that are wanted of them
    told: dict[str, dict[str, Any]] = field(default_factory=dict)  # what it was told last, by symbol and field
    is_silent: bool = False
    faults: list[str] = field(default_factory=list)

    async def say(self, message: Mapping[str, Any]) -> None:
        """Unless it is silent. Somebody who is gone is found out by its own reader."""
        if self.is_silent:
            return
        raw: str | bytes = json.dumps(message)
        fault = self.faults.pop(0) if self.faults and "data" in message else ""
        if fault:
            with contextlib.suppress(Exception):
                await self.socket.send(b"\xff\xfe not a message" if fault == "garbage" else raw[: len(raw) // 2])
        with contextlib.suppress(Exception):
            await self.socket.send(raw)


class Exchange:
    """All clients, and what they are told. ``run`` on a loop; the other methods on any thread."""

    def __init__(self, tape: Tape, trades_per_sec: float, conflate_ms: int = 500) -> None:
        self._tape = tape
        self._trades_per_sec = trades_per_sec
        self._conflate_sec = conflate_ms / 1000
        self._clients: set[_Client] = set()
        self._last: dict[str, Trade] = {}
        self._untold: list[Trade] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.is_paused = self.is_reordered = self.is_delayed = False
        self.rest_status, self.login_code, self.sub_code, self.skew_ms = 200, 0, 0, 0
        self.access_tokens: set[str] = set()
        self.refresh_tokens: set[str] = {"a-refresh-token"}
        self.codes: set[str] = set()
        self.connections = self.logins = self.refreshes = self.ws_port = 0

    async def run(self, port: int, on_ready: Callable[[int], None]) -> None:
        """Serve for ever."""
        from websockets.asyncio.server import serve  # noqa: PLC0415 - an extra

        self._loop = asyncio.get_running_loop()
        async with serve(self._serve, HOST, port, ping_interval=None, max_size=1 << 20) as server:
            self.ws_port = server.sockets[0].getsockname()[1]
            on_ready(self.ws_port)
            await asyncio.gather(self._trade(), self._tell_again_and_again())

    def fault(self, name: str) -> None:
        """One of FAULTS; returns when it is done."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._fault(name), self._loop).result(10)

    def new_token(self, kind: set[str], word: str) -> str:
        """One that is good until a fault says otherwise."""
        token = f"{word}-{len(kind)}-{time.time_ns()}"
        kind.add(token)
        return token

    # --- trades ---

    async def _trade(self) -> None:
        made, started_sec = 0, time.monotonic()
        while True:
            await asyncio.sleep(STEP_SEC)
            if self.is_paused:
                made, started_sec = 0, time.monotonic()
                continue
            due = int((time.monotonic() - started_sec) * self._trades_per_sec) - made
            made += due
            for _ in range(min(due, MAX_TRADES)):
                trade = self._tape.next(time.time_ns() // 1_000_000)
                self._last[trade.symbol] = trade
                self._untold.append(trade)
                if trade.odd:  # it was asked for, so it is not to be lost among others
                    for client in list(self._clients):
                        await self._tell(client)

    async def _tell_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._conflate_sec or STEP_SEC)
            await self._tell_all()

    async def _tell_all(self) -> None:
        number = len(self._untold)  # more may be made meanwhile
        for client in list(self._clients):
            await self._tell(client)
        self._tape.note(self._untold[:number])
        del self._untold[:number]

    async def _tell(self, client: _Client) -> None:
        """Of all symbols, what has changed: each trade where nothing is conflated, else the last one."""
        if not client.is_in or client.is_silent:
            return
        trades = self._last.values() if self._conflate_sec else self._untold
        content = []
        for trade in [trade for trade in trades if trade.symbol in client.symbols]:
            changes = self._changes(client, trade)
            if changes:
                trade.shown = True
                content.append({"key": trade.symbol, **changes})
        if content:
            await client.say({"data": [self._data(content)]})

    def _changes(self, client: _Client, trade: Trade) -> dict[str, Any]:
        """Only what has changed, as Schwab sends it."""
        told = client.told.setdefault(trade.symbol, {})
        wanted = {name: value for name, value in trade.fields().items() if name in client.symbols[trade.symbol]}
        changes = {name: value for name, value in wanted.items() if told.get(name) != value}
        if changes and not told:
            changes = {"delayed": self.is_delayed, "assetMainType": "EQUITY", **changes}
        elif changes and self.is_delayed:
            changes["delayed"] = True
        told.update(wanted)
        return dict(reversed(changes.items())) if self.is_reordered else changes

    def _data(self, content: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        return {"service": EQUITIES, "timestamp": self._now_ms(), "command": "SUBS", "content": content}

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew_ms

    # --- the protocol ---

    async def _serve(self, socket: Any) -> None:
        client = _Client(socket)
        self._clients.add(client)
        self.connections += 1
        beating = asyncio.ensure_future(self._beat(client))
        try:
            async for raw in socket:
                for request in json.loads(raw)["requests"]:
                    await self._take(client, request)
        except Exception:  # noqa: BLE001, S110 - whatever a client does ends its connection alone
            pass
        finally:
            beating.cancel()
            self._clients.discard(client)

    async def _beat(self, client: _Client) -> None:
        while True:
            await client.say({"notify": [{"heartbeat": str(self._now_ms())}]})
            await asyncio.sleep(HEARTBEAT_SEC)

    async def _take(self, client: _Client, request: Mapping[str, Any]) -> None:
        service, command, parameters = request["service"], request["command"], request.get("parameters", {})
        if service == "ADMIN":
            await self._admin(client, request, command, parameters)
            return
        if not client.is_in:
            await self._answer(client, request, 20, "Stream connection not found")
            return
        if service != EQUITIES:
            await self._answer(client, request, 11, "Service not available")
            return
        keys = [key for key in parameters.get("keys", "").split(",") if key]
        is_more = command in ("SUBS", "ADD")
        if is_more and self.sub_code and (self.sub_code != 19 or len({*client.symbols, *keys}) > 2):
            await self._answer(client, request, self.sub_code, "no")
            return
        if command == "SUBS":  # replaces what there was
            client.symbols, client.told = {}, {}
        if is_more:
            client.symbols.update(dict.fromkeys(keys, parameters.get("fields", "0").split(",")))
        elif command == "UNSUBS":
            for key in keys:
                client.symbols.pop(key, None)
                client.told.pop(key, None)
        await self._answer(client, request, 0, f"{command} command succeeded")
        await self._tell(client)

    async def _admin(
        self, client: _Client, request: Mapping[str, Any], command: str, parameters: Mapping[str, Any]
    ) -> None:
        if command != "LOGIN":
            await self._answer(client, request, 0, "LOGOUT")
            return
        is_good = parameters.get("Authorization") in self.access_tokens
        code = self.login_code or (0 if is_good else 3)
        await self._answer(client, request, code, "server=sim;status=PN" if code == 0 else "LOGIN_DENIED")
        if code:
            await client.socket.close()
            return
        self.logins += 1
        for other in list(self._clients):
            if other is not client and other.is_in:
                await self._end(other, *CODES["close_connection"])
        client.is_in = True

    async def _answer(self, client: _Client, request: Mapping[str, Any], code: int, text: str) -> None:
        answer = {
            "service": request["service"], "command": request["command"], "requestid": request["requestid"],
            "SchwabClientCorrelId": request.get("SchwabClientCorrelId"), "timestamp": self._now_ms(),
            "content": {"code": code, "msg": text},
        }  # fmt: skip
        await client.say({"response": [answer]})

    async def _end(self, client: _Client, code: int, text: str) -> None:
        notice = {"service": "ADMIN", "timestamp": self._now_ms(), "content": {"code": code, "msg": text}}
        await client.say({"notify": [notice]})
        await client.socket.close()

    # --- faults ---

    async def _fault(self, name: str) -> None:
        for attribute, value in _SETS.get(name, {}).items():
            setattr(self, attribute, value)
        if name in ODDITIES:
            self._tape.oddities.append(name)
        elif name == "reset":
            self._tape.begin_day()
        elif name in ("expire", "revoke"):
            self.access_tokens.clear()
            if name == "revoke":
                self.refresh_tokens.clear()
        elif name == "pause":
            await self._tell_all()  # the truth file has all that will be told
        for client in list(self._clients):
            await self._hurt(client, name)

    async def _hurt(self, client: _Client, name: str) -> None:
        if name == "cut":
            client.socket.transport.abort()
        elif name == "silence":
            client.is_silent = True
        elif name == "repeat":
            client.told.clear()
        elif name in CODES:
            await self._end(client, *CODES[name])
        elif name == "maintenance":
            await client.socket.close(1001, "going away")
        elif name in ("garbage", "half"):
            client.faults.append(name)


class _Rest(BaseHTTPRequestHandler):
    exchange: Exchange

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, MAX_BODY_BYTES)).decode("utf-8", "replace")
        name = self.path.removeprefix("/sim/")
        if name != self.path and name in FAULTS:
            self.exchange.fault(name)
            self._answer(200, {"done": name})
        elif self.path == "/v1/oauth/token":
            self._token({key: values[0] for key, values in parse_qs(body).items()})
        else:
            self._answer(404, {"error": "not found"})

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/sim/state":
            names = ("connections", "logins", "refreshes")
            self._answer(200, {name: getattr(self.exchange, name) for name in names})
        elif parts.path == "/v1/oauth/authorize":
            self._login_page({key: values[0] for key, values in parse_qs(parts.query).items()})
        elif parts.path == "/trader/v1/userPreference":
            self._preferences()
        else:
            self._answer(404, {"error": "not found"})

    def _token(self, form: Mapping[str, str]) -> None:
        """``Authorization: Basic`` of any application is good."""
        self.exchange.refreshes += 1
        refresh = form.get("refresh_token", "")
        if form.get("grant_type") == "authorization_code" and form.get("code") in self.exchange.codes:
            self.exchange.codes.discard(form["code"])
            refresh = self.exchange.new_token(self.exchange.refresh_tokens, "refresh")
        if self.exchange.rest_status != 200 or not self.headers.get("Authorization", "").startswith("Basic "):
            self._answer(self.exchange.rest_status if self.exchange.rest_status != 200 else 401, {"error": "no"})
        elif refresh not in self.exchange.refresh_tokens:
            self._answer(400, {"error": "invalid_client", "error_description": "refresh token is expired"})
        else:
            access = self.exchange.new_token(self.exchange.access_tokens, "access")
            self._answer(200, {
                "access_token": access, "refresh_token": refresh, "id_token": "an-id", "expires_in": ACCESS_SEC,
                "token_type": "Bearer", "scope": "api",
            })  # fmt: skip

    def _login_page(self, query: Mapping[str, str]) -> None:
        """As if somebody had logged in and said yes."""
        code = self.exchange.new_token(self.exchange.codes, "code")
        self.send_response(302)
        self.send_header("Location", f"{query.get('redirect_uri', '')}/?code={quote(code)}&session=any")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _preferences(self) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.exchange.rest_status != 200 or token not in self.exchange.access_tokens:
            self._answer(self.exchange.rest_status if self.exchange.rest_status != 200 else 401, {"error": "no"})
            return
        info = {
            "streamerSocketUrl": f"ws://{HOST}:{self.exchange.ws_port}/ws", "schwabClientCustomerId": "customer",
            "schwabClientCorrelId": "correl", "schwabClientChannel": "N9", "schwabClientFunctionId": "APIAPP",
        }  # fmt: skip
        self._answer(200, {"accounts": [], "streamerInfo": [info], "offers": []})

    def _answer(self, status: int, value: object) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments: Any) -> None:
        return


def start_rest(exchange: Exchange, port: int) -> ThreadingHTTPServer:
    """The REST interface, on a thread; ``/sim/state`` says how many came, as JSON."""
    server = ThreadingHTTPServer((HOST, port), type("Rest", (_Rest,), {"exchange": exchange}))
    threading.Thread(target=server.serve_forever, args=(0.1,), name="rest", daemon=True).start()
    return server

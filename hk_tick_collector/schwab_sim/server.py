"""The streamer over WebSockets, and beside it Schwab's REST routes (token, login page, preferences) and our own.

Level one is conflated as Schwab's: every ``conflate_ms`` a client is told, for each symbol that traded, the fields that
have changed since it was told last; of the books that it asked for, the whole of each that has changed. One client
streams at a time: a second login ends the first. Faults are asked for by ``POST /sim/NAME`` on the REST port
(``FAULTS``). Listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

from hk_tick_collector.schwab_sim.depth import BOOK_ODDITIES, BOOKS, Depth
from hk_tick_collector.schwab_sim.tape import ODDITIES, Tape, Trade
from hk_tick_collector.sims.hub import DOOR, Hub
from hk_tick_collector.sims.pace import STEP_SEC, Pace
from hk_tick_collector.sims.rest import HOST, Rest, start_handler

HEARTBEAT_SEC = 10.0
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
    "book_freeze": "tell no books; trades go on, and books change unseen",
    "book_thaw": "tell books again, as they are now",
    "book_delayed": "books are marked as delayed from now on",
    "book_in_time": "books are no longer marked as delayed",
    "book_delayed_first": "books of the first symbol alone are marked as delayed from now on",
    "keep": "the end of a subscription is answered with yes from now on, and ignored",
    "let_go": "a subscription ends again when it is to",
    "unanswered": "what is asked for of the first symbol is done from now on, and not answered",
    "answered": "it is answered again",
    "book_refuse": "a subscription of books answers 11 from now on",
    "book_accept": "it succeeds again",
    "listings_busy": "a question for listings answers 429 from now on",
    "listings_back": "it is answered again",
    **DOOR,
    **{name: f"the next trade is one: {name}" for name in ODDITIES},
    **{f"book_{name}": f"the next book is one: {name}" for name in BOOK_ODDITIES},
}
_SETS: dict[str, dict[str, int | bool]] = {
    "deny": {"login_code": 3}, "taken": {"login_code": 12}, "busy": {"rest_status": 429}, "limit": {"sub_code": 19},
    "maintenance": {"rest_status": 503}, "unavailable": {"sub_code": 11}, "reorder": {"is_reordered": True},
    "delayed": {"is_delayed": True}, "skew": {"skew_ms": 3_600_000}, "pause": {"is_paused": True},
    "resume": {"is_paused": False}, "book_freeze": {"is_frozen": True}, "book_thaw": {"is_frozen": False},
    "book_delayed": {"is_book_delayed": True},
    "book_in_time": {"is_book_delayed": False, "is_first_book_delayed": False},
    "book_delayed_first": {"is_first_book_delayed": True}, "keep": {"keeps": True}, "let_go": {"keeps": False},
    "unanswered": {"is_unanswered": True}, "answered": {"is_unanswered": False},
    "book_refuse": {"book_code": 11}, "book_accept": {"book_code": 0}, "listings_busy": {"listings_status": 429},
    "listings_back": {"listings_status": 200}, "accept": {"login_code": 0, "rest_status": 200, "sub_code": 0},
}  # fmt: skip


@dataclass(eq=False)
class _Client:
    socket: Any
    is_in: bool = False
    symbols: dict[str, list[str]] = field(default_factory=dict)  # and the fields that are wanted of them
    books: dict[str, set[str]] = field(default_factory=lambda: {name: set() for name in BOOKS})  # symbols by service
    told_books: dict[str, int] = field(default_factory=dict)  # which state it was told last, by symbol
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


class Exchange(Hub[_Client]):
    """All clients, and what they are told. ``run`` on a loop; the other methods on any thread."""

    def __init__(
        self,
        tape: Tape,
        trades_per_sec: float,
        conflate_ms: int = 500,
        access_sec: int = ACCESS_SEC,
        depth: Depth | None = None,
    ) -> None:
        """``depth``: the books; None: of the tape's symbols, in no truth file."""
        super().__init__()
        self.depth = depth or Depth(tape.symbols)
        self.is_frozen = self.is_book_delayed = self.is_first_book_delayed = False
        self.keeps = self.is_unanswered = False
        self.book_code, self.listings_status = 0, 200
        self.access_sec = access_sec
        self._tape = tape
        self._pace = Pace(trades_per_sec, MAX_TRADES)
        self._conflate_sec = conflate_ms / 1000
        self._last: dict[str, Trade] = {}
        self._untold: list[Trade] = []
        self.is_paused = self.is_reordered = self.is_delayed = False
        self.rest_status, self.login_code, self.sub_code, self.skew_ms = 200, 0, 0, 0
        self.access_tokens: set[str] = set()
        self.refresh_tokens: set[str] = {"a-refresh-token"}
        self.codes: set[str] = set()
        self.logins = self.refreshes = self.listings = 0

    def state(self) -> dict[str, int]:
        """How many came."""
        return {
            "connections": self.connections, "logins": self.logins, "refreshes": self.refreshes,
            "listings": self.listings, "turned_away": self.turned_away,
        }  # fmt: skip

    def new_token(self, kind: set[str], word: str) -> str:
        """One that is good until a fault says otherwise."""
        token = f"{word}-{len(kind)}-{time.time_ns()}"
        kind.add(token)
        return token

    # --- trades ---

    async def _work(self) -> None:
        await asyncio.gather(self._trade(), self._tell_again_and_again())

    async def _trade(self) -> None:
        while True:
            await asyncio.sleep(STEP_SEC)
            for _ in range(self._pace.due(is_paused=self.is_paused)):
                trade = self._tape.next(time.time_ns() // 1_000_000)
                self._last[trade.symbol] = trade
                is_asked = any(trade.symbol in symbols for client in self._clients for symbols in client.books.values())
                if self.depth.move(trade.symbol, trade.price, trade.time, is_asked=is_asked):
                    for client in list(self._clients):
                        await self._tell_books(client)
                self._untold.append(trade)
                if trade.odd or trade.size % 1:  # it was asked for, so it is not to be lost among others
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
            await self._tell_books(client)
        self._tape.note(self._untold[:number])
        self.depth.note()
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

    async def _tell_books(self, client: _Client) -> None:
        """The whole of each that is another one than before."""
        if not client.is_in or client.is_silent or self.is_frozen:
            return
        for service, symbols in client.books.items():
            states = [self.depth.states[symbol] for symbol in sorted(symbols) if symbol in self.depth.states]
            new = [state for state in states if client.told_books.get(state.symbol) != state.number]
            client.told_books.update((state.symbol, state.number) for state in new)
            if new:
                self.depth.show(new)
                content = [{"key": state.symbol, **self._late(state.symbol), **state.fields()} for state in new]
                await client.say({"data": [self._data(content, service)]})

    def _late(self, symbol: str) -> dict[str, bool]:
        is_late = self.is_book_delayed or (self.is_first_book_delayed and symbol == self._tape.symbols[0])
        return {"delayed": True} if is_late else {}

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

    def _data(self, content: Sequence[Mapping[str, Any]], service: str = EQUITIES) -> dict[str, Any]:
        return {"service": service, "timestamp": self._now_ms(), "command": "SUBS", "content": content}

    def _now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.skew_ms

    # --- the protocol ---

    def _client(self, socket: Any) -> _Client:
        return _Client(socket)

    async def _beat(self, client: _Client) -> None:
        while True:
            await client.say({"notify": [{"heartbeat": str(self._now_ms())}]})
            await asyncio.sleep(HEARTBEAT_SEC)

    async def _take(self, client: _Client, message: Any) -> None:
        for request in message["requests"]:
            await self._take_request(client, request)

    async def _take_request(self, client: _Client, request: Mapping[str, Any]) -> None:
        service, command, parameters = request["service"], request["command"], request.get("parameters", {})
        if service == "ADMIN":
            await self._admin(client, request, command, parameters)
            return
        if not client.is_in:
            await self._answer(client, request, 20, "Stream connection not found")
            return
        if service in BOOKS:
            await self._book_request(client, request, command, parameters)
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
        elif command == "UNSUBS" and not self.keeps:
            for key in keys:
                client.symbols.pop(key, None)
                client.told.pop(key, None)
        await self._answer(client, request, 0, f"{command} command succeeded")
        await self._tell(client)

    async def _book_request(
        self, client: _Client, request: Mapping[str, Any], command: str, parameters: Mapping[str, Any]
    ) -> None:
        """Of a stock of another exchange it says yes to, and sends nothing."""
        mine, keys = client.books[request["service"]], set(filter(None, parameters.get("keys", "").split(",")))
        if command != "UNSUBS" and self.book_code:
            await self._answer(client, request, self.book_code, "no")
            return
        if command == "SUBS":
            mine.clear()
        if command == "UNSUBS":
            mine -= set() if self.keeps else keys
        else:
            mine |= {key for key in keys if self.depth.service_of(key) == request["service"]}
        for key in keys:
            client.told_books.pop(key, None)
        await self._answer(client, request, 0, f"{command} command succeeded")
        await self._tell_books(client)

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
        keys = request.get("parameters", {}).get("keys", "").split(",")
        if not self.is_unanswered or self._tape.symbols[0] not in keys:
            await client.say({"response": [answer]})

    async def _end(self, client: _Client, code: int, text: str) -> None:
        notice = {"service": "ADMIN", "timestamp": self._now_ms(), "content": {"code": code, "msg": text}}
        await client.say({"notify": [notice]})
        await client.socket.close()

    # --- faults ---

    async def _fault(self, name: str) -> None:
        for attribute, value in _SETS.get(name, {}).items():
            setattr(self, attribute, value)
        book_oddity = name.removeprefix("book_")
        if name != book_oddity and book_oddity in BOOK_ODDITIES:
            self.depth.oddities.append(book_oddity)
        elif name in ODDITIES:
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
            client.told_books.clear()
        elif name in CODES:
            await self._end(client, *CODES[name])
        elif name == "maintenance":
            await client.socket.close(1001, "going away")
        elif name in ("garbage", "half"):
            client.faults.append(name)


class _Rest(Rest):
    faults = FAULTS
    simulated: ClassVar[Exchange]

    def given(self, body: bytes) -> None:
        if self.path == "/v1/oauth/token":
            form = parse_qs(body.decode("utf-8", "replace"))
            self._token({key: values[0] for key, values in form.items()})
        else:
            super().given(body)

    def asked(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/v1/oauth/authorize":
            self._login_page({key: values[0] for key, values in parse_qs(parts.query).items()})
        elif parts.path == "/trader/v1/userPreference":
            self._preferences()
        elif parts.path == "/marketdata/v1/quotes":
            self._listings(parse_qs(parts.query).get("symbols", [""])[0].split(","))
        else:
            super().asked()

    def _token(self, form: Mapping[str, str]) -> None:
        """``Authorization: Basic`` of any application is good."""
        self.simulated.refreshes += 1
        refresh = form.get("refresh_token", "")
        if form.get("grant_type") == "authorization_code" and form.get("code") in self.simulated.codes:
            self.simulated.codes.discard(form["code"])
            refresh = self.simulated.new_token(self.simulated.refresh_tokens, "refresh")
        if self.simulated.rest_status != 200 or not self.headers.get("Authorization", "").startswith("Basic "):
            self.answer(self.simulated.rest_status if self.simulated.rest_status != 200 else 401, {"error": "no"})
        elif refresh not in self.simulated.refresh_tokens:
            self.answer(400, {"error": "invalid_client", "error_description": "refresh token is expired"})
        else:
            access = self.simulated.new_token(self.simulated.access_tokens, "access")
            self.answer(200, {
                "access_token": access, "refresh_token": refresh, "id_token": "an-id", "scope": "api",
                "expires_in": self.simulated.access_sec, "token_type": "Bearer",
            })  # fmt: skip

    def _login_page(self, query: Mapping[str, str]) -> None:
        """As if somebody had logged in and said yes."""
        code = self.simulated.new_token(self.simulated.codes, "code")
        self.send_response(302)
        self.send_header("Location", f"{query.get('redirect_uri', '')}/?code={quote(code)}&session=any")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _is_let_in(self) -> bool:
        """Else it was answered."""
        token, status = self.headers.get("Authorization", "").removeprefix("Bearer "), self.simulated.rest_status
        status = 401 if status == 200 and token not in self.simulated.access_tokens else status
        if status != 200:
            self.answer(status, {"error": "no"})
        return status == 200

    def _listings(self, symbols: Sequence[str]) -> None:
        if not self._is_let_in():
            return
        self.simulated.listings += 1
        if self.simulated.listings_status != 200:
            self.answer(self.simulated.listings_status, {"error": "no"})
            return
        known = {symbol: self.simulated.depth.listing(symbol) for symbol in symbols}
        answer: dict[str, Any] = {
            symbol: {"assetMainType": "EQUITY", "symbol": symbol, "reference": listing}
            for symbol, listing in known.items()
            if listing is not None
        }
        invalid = [symbol for symbol, listing in known.items() if listing is None]
        self.answer(200, answer | ({"errors": {"invalidSymbols": invalid}} if invalid else {}))

    def _preferences(self) -> None:
        if not self._is_let_in():
            return
        info = {
            "streamerSocketUrl": f"ws://{HOST}:{self.simulated.ws_port}/ws", "schwabClientCustomerId": "customer",
            "schwabClientCorrelId": "correl", "schwabClientChannel": "N9", "schwabClientFunctionId": "APIAPP",
        }  # fmt: skip
        self.answer(200, {"accounts": [], "streamerInfo": [info], "offers": []})


def start_rest(exchange: Exchange, port: int) -> ThreadingHTTPServer:
    """The REST interface, on a thread."""
    return start_handler(_Rest, exchange, port)

"""The endpoint: dxLink over WebSockets, and beside it TastyTrade's two REST routes and the simulator's own.

Each connection is held to the order that a live server wants. Faults are asked for by ``POST /sim/NAME`` on the REST
port (``FAULTS``). Listens on 127.0.0.1 alone.
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

from hk_tick_collector.dxlink_sim.tape import ODDITIES, Event, Tape
from hk_tick_collector.sims.hub import DOOR, Hub
from hk_tick_collector.sims.pace import STEP_SEC, Pace
from hk_tick_collector.sims.rest import HOST, Rest, start_handler

KEEPALIVE_SEC = 10
MAX_ROWS = 500  # of events in a message
PROFILES = ("Profile", "Summary")
PROFILE_FIELDS = ["eventSymbol", "eventTime", "description"]  # whatever was asked for
DEFAULT_FIELDS = ("eventSymbol", "eventTime", "index", "time", "price", "size")
FAULTS = {
    "cut": "break every connection off",
    "silence": "say nothing more on the connections there are, and leave them open",
    "half_row": "the next message of events ends in the middle of one",
    "reorder": "change the order of the fields, with a FEED_CONFIG that says so",
    "unauthorized": "AUTH_STATE UNAUTHORIZED on every connection; tokens given so far are void",
    "too_big": "close every connection with 1009",
    "channel_closed": "close every channel",
    "garbage": "the next message is no JSON",
    "keep": "the end of a subscription is ignored from now on",
    "let_go": "a subscription ends again when it is to",
    "maintenance": "every connection is closed, and the REST interface answers 503 from now on",
    "skew": "trades are an hour ahead from now on, or in time again",
    "pause": "make no trades",
    "resume": "make trades again",
    "refuse": "the REST interface answers 401 from now on",
    "busy": "the REST interface answers 429 from now on",
    "accept": "the REST interface answers as before",
    "undescribed": "no Profile and no Summary is sent from now on",
    "described": "they are sent again",
    "history_error": "a question for the past is an ERROR, as where that is not entitled",
    "history_closed": "a question for the past closes its channel",
    "history_mute": "a question for the past is not answered",
    "history_cut": "a snapshot of the past is cut off in its middle",
    "history_too_big": "a question for the past closes the connection with 1009",
    "history_granted": "a question for the past is answered again",
    **DOOR,
    **{name: f"the next trade is one: {name}" for name in ODDITIES},
}

_SETS = {
    "pause": ("_is_paused", True), "resume": ("_is_paused", False),
    "keep": ("_keeps", True), "let_go": ("_keeps", False),
    "undescribed": ("_is_undescribed", True), "described": ("_is_undescribed", False),
}  # fmt: skip


@dataclass(eq=False)
class _Client:
    socket: Any
    state: str = "new"  # new, greeted, authorized
    channels: dict[int, Channel] = field(default_factory=dict)
    is_silent: bool = False
    faults: list[str] = field(default_factory=list)

    async def say(self, kind: str, channel: int, **fields: Any) -> None:
        """Unless it is silent. Somebody who is gone is found out by its own reader."""
        if not self.is_silent:
            with contextlib.suppress(Exception):
                await self.socket.send(json.dumps({"type": kind, "channel": channel, **fields}))


@dataclass
class Channel:
    """One FEED of a client."""

    contract: str
    fields: list[str] = field(default_factory=lambda: list(DEFAULT_FIELDS))
    is_compact: bool = False
    symbols: set[str] = field(default_factory=set)
    is_told: bool = False  # FEED_CONFIG with fields was sent
    profiles: list[str] = field(default_factory=list)  # kinds of them that were asked for


class Exchange(Hub[_Client]):
    """All clients, and the trades they get. ``run`` on a loop; the other methods on any thread."""

    def __init__(self, tape: Tape, events_per_sec: float) -> None:
        super().__init__()
        self._tape = tape
        self._pace = Pace(events_per_sec, MAX_ROWS)
        self._is_paused = self._keeps = self._is_undescribed = False
        self._skew_ms = 0
        self.tokens: set[str] = set()
        self.rest_status = 200
        self.logins = 0
        self.histories = 0  # questions for the past
        self._history = "granted"

    def state(self) -> dict[str, int]:
        """How many came."""
        return {
            "connections": self.connections, "logins": self.logins, "histories": self.histories,
            "turned_away": self.turned_away,
        }  # fmt: skip

    def new_token(self) -> str:
        """A quote token that is good until ``unauthorized``."""
        token = f"quote-{len(self.tokens)}-{time.time_ns()}"
        self.tokens.add(token)
        return token

    # --- trades ---

    async def _work(self) -> None:
        while True:
            await asyncio.sleep(STEP_SEC)
            now_ms = time.time_ns() // 1_000_000 + self._skew_ms
            await self._tell([self._tape.next(now_ms) for _ in range(self._pace.due(is_paused=self._is_paused))])

    async def _tell(self, events: Sequence[Event]) -> None:
        for client in list(self._clients):
            for number, channel in list(client.channels.items()):
                wanted = [event for event in events if event.symbol in channel.symbols]
                if not wanted or client.is_silent:
                    continue
                if client.faults:
                    await self._spoil(client, client.faults.pop(0), number, channel)
                await client.say("FEED_DATA", number, data=self._data(client, channel, wanted))
        self._tape.note(events)

    def _data(self, client: _Client, channel: Channel, events: Sequence[Event]) -> list[Any]:
        if not channel.is_compact:
            for event in events:
                event.shown = True
            return [event.values() for event in events]
        flat: list[Any] = []
        halved = "half_row_now" in client.faults
        for number, event in enumerate(events):
            values = event.values()
            row = [values[name] for name in channel.fields]
            if halved and number == len(events) - 1:
                client.faults.remove("half_row_now")
                row = row[: len(row) // 2]
            else:
                event.shown = True
            flat += row
        return ["TimeAndSale", flat]

    async def _spoil(self, client: _Client, fault: str, number: int, channel: Channel) -> None:
        if fault == "reorder":
            channel.fields.reverse()
            await self._config(client, number, channel)
        elif fault == "garbage":
            with contextlib.suppress(Exception):
                await client.socket.send(b"\xff\xfe not a message")
        elif fault == "half_row":
            client.faults.append("half_row_now")

    # --- the protocol ---

    def _client(self, socket: Any) -> _Client:
        return _Client(socket)

    async def _beat(self, client: _Client) -> None:
        while True:
            await asyncio.sleep(KEEPALIVE_SEC)
            await client.say("KEEPALIVE", 0)

    async def _take(self, client: _Client, message: Any) -> None:
        kind, number = message.get("type"), message.get("channel", 0)
        if kind == "SETUP":
            client.state = "greeted"
            await client.say("SETUP", 0, version="1.0-sim", keepaliveTimeout=60, acceptKeepaliveTimeout=60)
            await client.say("AUTH_STATE", 0, state="UNAUTHORIZED")
        elif kind == "AUTH":
            is_good = client.state != "new" and message.get("token") in self.tokens
            client.state = "authorized" if is_good else "greeted"
            await client.say("AUTH_STATE", 0, state="AUTHORIZED" if is_good else "UNAUTHORIZED")
        elif kind == "CHANNEL_REQUEST":
            if client.state != "authorized":
                await client.say("ERROR", 0, error="UNAUTHORIZED", message="AUTHORIZED comes before a channel")
                return
            parameters = message.get("parameters", {})
            client.channels[number] = Channel(parameters.get("contract", "AUTO"))
            await client.say("CHANNEL_OPENED", number, service="FEED", parameters=parameters)
        elif number in client.channels:
            await self._feed(client, number, client.channels[number], kind, message)

    async def _feed(
        self, client: _Client, number: int, channel: Channel, kind: Any, message: Mapping[str, Any]
    ) -> None:
        if kind == "FEED_SETUP":
            channel.is_compact = message.get("acceptDataFormat") == "COMPACT"
            asked = message.get("acceptEventFields", {}).get("TimeAndSale")
            channel.profiles = [kind for kind in PROFILES if kind in message.get("acceptEventFields", {})]
            known = Event("NEW", "", 0, 0, 0, 0.0, 0, "").values()
            channel.fields = [name for name in asked or DEFAULT_FIELDS if name in known]
            await self._config(client, number, channel)
        elif kind == "FEED_SUBSCRIPTION":
            await self._subscribe(client, number, channel, message)
        elif kind == "CHANNEL_CANCEL":
            del client.channels[number]
            await client.say("CHANNEL_CLOSED", number)

    async def _subscribe(self, client: _Client, number: int, channel: Channel, message: Mapping[str, Any]) -> None:
        if message.get("reset"):
            channel.symbols.clear()
        added = message.get("add", ())
        channel.symbols |= _symbols(added)
        if not self._keeps:
            channel.symbols -= _symbols(message.get("remove", ()))
        if not channel.is_told:
            await self._config(client, number, channel)
        if channel.contract in ("TICKER", "AUTO") and not self._is_undescribed:
            await self._describe(client, number, channel, added)
        if channel.contract in ("HISTORY", "AUTO"):
            for entry in added:
                if entry.get("type") == "TimeAndSale" and "fromTime" in entry:
                    await self._show_past(client, number, channel, entry)

    async def _show_past(self, client: _Client, number: int, channel: Channel, entry: Mapping[str, Any]) -> None:
        """A snapshot, the newest trade first; one without a trade is a row that only ends it."""
        self.histories += 1
        if self._history == "error":
            await client.say("ERROR", number, error="UNAUTHORIZED", message="no right to TimeAndSale of the past")
        elif self._history == "closed":
            client.channels.pop(number, None)
            await client.say("CHANNEL_CLOSED", number)
        elif self._history == "too_big":
            await client.socket.close(1009, "too big")
        if self._history not in ("granted", "cut"):
            return
        events = self._tape.past(entry["symbol"], entry["fromTime"])
        if self._history == "cut":
            events = events[: len(events) // 2]
        rows = [event.values() for event in events] or [Event("NEW", entry["symbol"], 0, 0, 0, "NaN", 0, "").values(2)]
        rows[0]["eventFlags"] |= 4
        rows[-1]["eventFlags"] |= 16 if self._history == "cut" else 8
        for event in events:
            event.shown = True
        self._tape.note(events)  # again, before it is seen: shown now
        for start in range(0, len(rows), MAX_ROWS):
            part = rows[start : start + MAX_ROWS]
            flat = [row[name] for row in part for name in channel.fields]
            await client.say("FEED_DATA", number, data=["TimeAndSale", flat] if channel.is_compact else part)

    async def _describe(
        self, client: _Client, number: int, channel: Channel, added: Sequence[Mapping[str, Any]]
    ) -> None:
        """Of those that are known; of others nothing is said."""
        for kind in channel.profiles:
            known = [entry["symbol"] for entry in added if entry.get("type") == kind]
            known = [symbol for symbol in known if symbol in self._tape.symbols]
            rows = [dict(zip(PROFILE_FIELDS, (symbol, 0, f"{symbol} Inc."), strict=True)) for symbol in known]
            flat = [value for row in rows for value in row.values()]
            if known:
                data = [kind, flat] if channel.is_compact else [{"eventType": kind, **row} for row in rows]
                await client.say("FEED_DATA", number, data=data)

    async def _config(self, client: _Client, number: int, channel: Channel) -> None:
        channel.is_told = bool(channel.symbols)
        await client.say(
            "FEED_CONFIG",
            number,
            aggregationPeriod=0,
            dataFormat="COMPACT" if channel.is_compact else "FULL",
            eventFields={"TimeAndSale": channel.fields, **dict.fromkeys(channel.profiles, PROFILE_FIELDS)},
        )

    # --- faults ---

    async def _fault(self, name: str) -> None:
        if name in ODDITIES:
            self._tape.oddities.append(name)
        elif name in _SETS:
            setattr(self, *_SETS[name])
        elif name.startswith("history_"):
            self._history = name.removeprefix("history_")
        elif name == "skew":
            self._skew_ms = 3_600_000 - self._skew_ms
        elif name in ("refuse", "busy", "accept"):
            self.rest_status = {"refuse": 401, "busy": 429, "accept": 200}[name]
        else:
            if name == "maintenance":
                self.rest_status = 503
            if name == "unauthorized":
                self.tokens.clear()
            for client in list(self._clients):
                await self._hurt(client, name)

    async def _hurt(self, client: _Client, name: str) -> None:
        if name == "cut":
            client.socket.transport.abort()
        elif name == "silence":
            client.is_silent = True
        elif name == "too_big":
            await client.socket.close(1009, "too big")
        elif name == "maintenance":
            await client.socket.close(1001, "maintenance")
        elif name == "unauthorized":
            await client.say("AUTH_STATE", 0, state="UNAUTHORIZED")
        elif name == "channel_closed":
            for number in list(client.channels):
                await client.say("CHANNEL_CLOSED", number)
            client.channels.clear()
        else:
            client.faults.append(name)


def _symbols(entries: Any) -> set[str]:
    return {entry["symbol"] for entry in entries if entry.get("type") == "TimeAndSale"}


class _Rest(Rest):
    faults = FAULTS
    simulated: ClassVar[Exchange]

    def given(self, body: bytes) -> None:
        exchange = self.simulated
        if self.path != "/oauth/token":
            super().given(body)
            return
        exchange.logins += 1
        fields = json.loads(body or b"{}") if body.startswith(b"{") else {}
        if exchange.rest_status != 200 or (fields and fields.get("grant_type") != "refresh_token"):
            status = max(exchange.rest_status, 400)
            self.answer(status, {"error": status})
        else:
            self.answer(200, {"access_token": "a", "expires_in": 900})

    def asked(self) -> None:
        exchange = self.simulated
        if self.path != "/api-quote-tokens" or exchange.rest_status != 200:
            status = 404 if exchange.rest_status == 200 else exchange.rest_status
            self.answer(status, {"error": status})
            return
        url = f"ws://{HOST}:{exchange.ws_port}/realtime"
        self.answer(200, {"data": {"token": exchange.new_token(), "dxlink-url": url, "level": "api"}})


def start_rest(exchange: Exchange, port: int) -> ThreadingHTTPServer:
    """The REST interface, on a thread."""
    return start_handler(_Rest, exchange, port)

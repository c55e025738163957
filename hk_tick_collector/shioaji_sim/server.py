"""The gateway: its documented routes, server-sent events, and the simulator's own under ``/sim/``.

Faults are asked for by ``POST /sim/NAME`` (``FAULTS``). Listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from hk_tick_collector.shioaji_sim.tape import ODD, ODDITIES, Event, Tape, is_contract
from hk_tick_collector.sims.pace import STEP_SEC, Pace
from hk_tick_collector.sims.rest import Rest, start_handler

MAX_ROWS = 2000  # of events at a time
MAX_SUBSCRIPTIONS = 200
LIMIT_BYTES = 500_000_000
CHANNELS = ("tick_stk", "tick_fop")
OTC = ("5", "6", "8")  # so begin the codes of stocks of TPEx, here
FAULTS = {
    "cut": "break every stream off",
    "restart": "break every stream off and forget every subscription",
    "silence": "say nothing more on the streams there are, not even a heartbeat, and leave them open",
    "mute": "heartbeats only, as with a session that is lost for good",
    "loud": "ticks again",
    "hole": "the next ten trades are told to nobody",
    "half_event": "the next event ends in its middle, and with it the stream",
    "reorder": "change the order of the fields from now on",
    "garbage": "an event that is no JSON",
    "binary": "bytes that are no text, as an event",
    "recovering": "the gateway says that its session recovers",
    "recovered": "and that it is back",
    "stale": "the gateway says that its token has ended, or is good again",
    "refuse": "every request is answered 401 from now on",
    "busy": "every request is answered 429 from now on",
    "banned": "every request is answered 451 from now on",
    "maintenance": "break every stream off, and every request is answered 503 from now on",
    "accept": "requests are answered as before",
    "keep": "the end of a subscription is answered with yes from now on, and ignored",
    "let_go": "a subscription ends again when it is to",
    "unanswered": "a subscription of the first code is done from now on, and not answered",
    "answered": "it is answered again",
    "skew": "the gateway's clock, and its ticks, are an hour ahead from now on",
    "on_time": "and right again",
    "used_up": "the day's traffic is used up: history is empty, without an error",
    "refill": "and begins anew",
    "short_history": "history lacks the last trades",
    "wrong_history": "history has another price for one trade",
    "nightless_history": "history shows no night",
    "right_history": "history is right again",
    "pause": "make no ticks",
    "resume": "make ticks again",
    **{name: f"the next tick is one: {name}" for name in ODDITIES},
}
NO_ANSWER = 0
UNANSWERED_SEC = 60.0
_STATUS = {"refuse": 401, "busy": 429, "banned": 451, "maintenance": 503, "accept": 200}


@dataclass(eq=False)
class _Stream:
    channel: str
    parts: queue.Queue[bytes | None] = field(default_factory=queue.Queue)  # None: it ends
    line: socket.socket | None = None
    is_silent: bool = False


class Exchange:
    """All streams, and the ticks they get. ``now_ms``: the market's clock. Any thread."""

    def __init__(
        self,
        tape: Tape,
        events_per_sec: float,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        heartbeat_sec: float = 30.0,
    ) -> None:
        self.tape = tape
        self._events_per_sec = events_per_sec
        self._true_ms = now_ms
        self.skew_ms = 0
        self.keeps = self.is_unanswered = False
        self.heartbeat_sec = heartbeat_sec
        self._streams: set[_Stream] = set()
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self.subscribed: set[tuple[str, bool]] = set()  # code, odd lots
        self.is_paused = False
        self.is_mute = False
        self.is_reordered = False
        self.is_recovering = False
        self.is_stale = False
        self.status = 200
        self.left_bytes = LIMIT_BYTES
        self.history = "right_history"
        self.hole = 0
        self.broken: list[str] = []  # to be done with the next event
        self.requests: dict[str, int] = {}
        self.connections = 0

    def now_ms(self) -> int:
        """What the gateway's clock says."""
        return self._true_ms() + self.skew_ms

    def run(self) -> None:
        """Make ticks until ``stop``."""
        pace = Pace(self._events_per_sec, MAX_ROWS)
        while not self._stopped.wait(STEP_SEC):
            self.trade(pace.due(is_paused=self.is_paused))

    def stop(self) -> None:
        """No more ticks."""
        self._stopped.set()

    def wait_unanswered(self) -> None:
        """Until somebody has given up, or all is over."""
        self._stopped.wait(UNANSWERED_SEC)

    def trade(self, count: int) -> list[Event]:
        """Make so many ticks now, and tell them."""
        with self._lock:
            if self.is_paused and self._events_per_sec:
                return []
            events = [self.tape.next(self.now_ms()) for _ in range(count)]
            self._tell(events)
            return events

    def _tell(self, events: Sequence[Event]) -> None:
        told: dict[str, list[bytes]] = {channel: [] for channel in CHANNELS}
        heard = {stream.channel for stream in self._streams if not stream.is_silent}
        for event in events:
            if event.stream not in self.subscribed or self.is_mute:
                continue
            if self.hole:
                self.hole -= 1
                continue
            told[event.channel].append(self._text(event))
            event.shown = event.channel in heard
        for stream in list(self._streams):
            if told[stream.channel] and not stream.is_silent:
                stream.parts.put(b"".join(told[stream.channel]))
                if self.broken:
                    self._break(stream, self.broken.pop(0))
        self.tape.note(events)

    def _text(self, event: Event) -> bytes:
        told = event.payload()
        if self.is_reordered:
            told = dict(reversed(told.items()))
        return b"event: %s\ndata: %s\n\n" % (event.channel.encode(), json.dumps(told).encode())

    def _break(self, stream: _Stream, name: str) -> None:
        if name == "garbage":
            stream.parts.put(b"event: %s\ndata: {no json\n\n" % stream.channel.encode())
        elif name == "binary":
            stream.parts.put(b"event: %s\ndata: \xff\xfe\x00\x01\n\n" % stream.channel.encode())
        else:
            self._streams.discard(stream)
            stream.parts.put(b'event: %s\ndata: {"code": "23' % stream.channel.encode())
            stream.parts.put(None)

    # --- streams ---

    def open(self, channel: str, line: socket.socket) -> _Stream:
        """A new one."""
        stream = _Stream(channel, line=line)
        with self._lock:
            self._streams.add(stream)
            self.connections += 1
        return stream

    def state(self) -> dict[str, object]:
        """How many came, and what was asked."""
        with self._lock:
            return {
                "connections": self.connections,
                "subscribed": len(self.subscribed),
                "requests": dict(self.requests),
            }

    def close(self, stream: _Stream) -> None:
        """It is gone."""
        with self._lock:
            self._streams.discard(stream)

    # --- faults ---

    def fault(self, name: str) -> None:
        """One of FAULTS; returns when it is done."""
        with self._lock:
            if name in ODDITIES:
                self.tape.oddities.append(name)
            elif name in _STATUS:
                self.status = _STATUS[name]
                if name == "maintenance":
                    self._hurt(name)
            elif name.endswith("_history"):
                self.history = name
            elif name in ("garbage", "binary", "half_event"):
                self.broken.append(name)
            elif name in ("cut", "restart", "silence"):
                self._hurt(name)
            else:
                self._switch(name)

    def _switch(self, name: str) -> None:
        changes: dict[str, tuple[str, Any]] = {
            "pause": ("is_paused", True), "resume": ("is_paused", False), "mute": ("is_mute", True),
            "loud": ("is_mute", False), "reorder": ("is_reordered", not self.is_reordered),
            "recovering": ("is_recovering", True), "recovered": ("is_recovering", False),
            "stale": ("is_stale", not self.is_stale), "hole": ("hole", 10), "used_up": ("left_bytes", 0),
            "refill": ("left_bytes", LIMIT_BYTES), "keep": ("keeps", True), "let_go": ("keeps", False),
            "unanswered": ("is_unanswered", True), "answered": ("is_unanswered", False),
            "skew": ("skew_ms", 3_600_000), "on_time": ("skew_ms", 0),
        }  # fmt: skip
        attribute, value = changes[name]
        setattr(self, attribute, value)

    def _hurt(self, name: str) -> None:
        if name == "restart":
            self.subscribed.clear()
        for stream in list(self._streams):
            if name == "silence":
                stream.is_silent = True
                continue
            self._streams.discard(stream)
            stream.parts.put(None)
            if stream.line is not None:
                with contextlib.suppress(OSError):
                    stream.line.shutdown(socket.SHUT_RDWR)

    # --- what is asked ---

    def answer(self, method: str, path: str, body: Any) -> tuple[int, object]:
        """Status and JSON of a request."""
        path = path.removeprefix("/api/v1/")
        with self._lock:
            self.requests[path] = self.requests.get(path, 0) + 1
            if self.status != 200:
                return self.status, {"code": self.status, "message": "simulated", "details": None}
            if method == "GET":
                return self._look(path)
            if path in ("stream/subscribe", "stream/unsubscribe"):
                return self._subscribe(body, add=path == "stream/subscribe")
            if path == "data/ticks":
                return self._history(body)
        return 404, {"code": 404, "message": "not found", "details": None}

    def _look(self, path: str) -> tuple[int, object]:
        if path == "health":
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now_ms() / 1000))
            return 200, {
                "status": "healthy", "version": "1.7.9-sim", "timestamp": moment, "token_stale": self.is_stale,
                "token_expires_in_seconds": 0 if self.is_stale else 86_000, "contract_count": 55_352,
                "session_recovering": self.is_recovering, "session_recovery_attempts": int(self.is_recovering),
            }  # fmt: skip
        if path == "info":
            return 200, {"name": "simulated gateway", "version": "1.7.9-sim", "simulation": False}
        if path == "auth/usage":
            used = LIMIT_BYTES - self.left_bytes
            return 200, {
                "connections": 1, "bytes": used, "limit_bytes": LIMIT_BYTES, "remaining_bytes": self.left_bytes,
            }  # fmt: skip
        if path.startswith("data/contracts/"):
            return self._contract(path)
        return 404, {"code": 404, "message": "not found", "details": None}

    def _contract(self, path: str) -> tuple[int, object]:
        parts = urlsplit(path)
        code = unquote(parts.path.removeprefix("data/contracts/"))
        kinds = parse_qs(parts.query).get("security_type", [])
        if code not in {known.removesuffix(ODD) for known in self.tape.codes} or not _fits(code, kinds):
            return 404, {"code": 404, "message": f"Contract not found: {code}", "details": None}
        exchange = "TAIFEX" if is_contract(code) else "OTC" if code.startswith(OTC) else "TSE"
        return 200, {
            "security_type": kinds[0], "region": "TW", "exchange": exchange, "code": code, "target_code": None,
        }  # fmt: skip

    def _subscribe(self, body: Any, *, add: bool) -> tuple[int, object]:
        code, is_odd = str(body.get("code")), bool(body.get("intraday_odd"))
        if not _fits(code, [body.get("security_type")]) or f"{code}{ODD if is_odd else ''}" not in self.tape.codes:
            return 404, {"code": 404, "message": f"Contract not found: {code}", "details": None}
        if add and len(self.subscribed) >= MAX_SUBSCRIPTIONS:
            return 200, {"success": False, "message": "too many subscriptions", "subscription": None}
        if add or not self.keeps:
            (self.subscribed.add if add else self.subscribed.discard)((code, is_odd))
        if self.is_unanswered and code == self.tape.codes[0]:
            return NO_ANSWER, None
        return 200, {"success": True, "message": "ok", "subscription": body}

    def _history(self, body: Any) -> tuple[int, object]:
        code = str(body["contract"]["code"])
        with_night = self.history != "nightless_history"
        columns = self.tape.whole_day(code, str(body.get("date")), with_night=with_night)
        if not self.left_bytes:
            return 200, {name: [] for name in columns}
        if self.history == "short_history":
            columns = {name: values[:-3] for name, values in columns.items()}
        elif self.history == "wrong_history" and columns["close"]:
            columns["close"][0] += 1.0
        self.left_bytes = max(0, self.left_bytes - 100 * len(columns["close"]))
        return 200, columns


def _fits(code: str, kinds: Sequence[object]) -> bool:
    """Is a contract of one of these kinds?"""
    return not {"FUT", "OPT"}.isdisjoint(kinds) if is_contract(code) else "STK" in kinds


class _Gateway(Rest):
    protocol_version = "HTTP/1.1"
    faults = FAULTS
    simulated: ClassVar[Exchange]

    def given(self, body: bytes) -> None:
        try:
            status, answer = self.simulated.answer("POST", self.path, json.loads(body or b"{}"))
            if status == NO_ANSWER:
                self.simulated.wait_unanswered()
                self.close_connection = True
                return
            self.answer(status, answer)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.answer(400, {"code": 400, "message": "no such request", "details": None})

    def asked(self) -> None:
        channel = self.path.removeprefix("/api/v1/stream/data/")
        if channel in CHANNELS and self.simulated.status == 200:
            self._stream(channel)
        else:
            self.answer(*self.simulated.answer("GET", self.path, None))

    def _stream(self, channel: str) -> None:
        self.close_connection = True
        stream = self.simulated.open(channel, self.connection)
        with contextlib.suppress(OSError):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self._feed(stream)
        self.simulated.close(stream)

    def _feed(self, stream: _Stream) -> None:
        while True:
            try:
                part = stream.parts.get(timeout=self.simulated.heartbeat_sec)
            except queue.Empty:
                told = {"type": "heartbeat", "timestamp": "2026-11-27T01:00:30Z", "connection_id": "1"}
                part = b"event: heartbeat\ndata: %s\n\n" % json.dumps(told).encode()
            if part is None:
                return
            if not stream.is_silent:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
                self.wfile.flush()


def start_server(exchange: Exchange, port: int) -> ThreadingHTTPServer:
    """The gateway, on threads."""
    return start_handler(_Gateway, exchange, port)

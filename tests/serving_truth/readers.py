"""Readers of recorded ticks, each in a thread: WebSocket, server-sent events, ``hk.live`` over both ways, Redis.

Each keeps what it was given by symbol and sequence. A row that comes again must be the same one, and may come again
only when the file of its day was replaced.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import redis
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

import hk_tick_collector as hk

Key = tuple[str, int]  # symbol, sequence
Content = tuple[int, float, float, float, str, str]
CONTENT = ("ts_ms", "price", "volume", "turnover", "direction", "tick_type")
HOOK = "truth"
SIGNALS = "hk:signals"
PAUSE_SEC = 0.05
SILENT_SEC = 15.0
SWEEP_SEC = 4.0  # between two readings of everything


def content_of(row: Mapping[str, Any]) -> Content:
    """What was traded, whoever tells it."""
    return tuple(row[name] for name in CONTENT)  # type: ignore[return-value]


class Reader(ABC):
    """``held`` is what it was given until now; ``again``: rows that came more than once, by day."""

    def __init__(self) -> None:
        self.held: dict[Key, Content] = {}
        self.again: Counter[str] = Counter()
        self.days: set[str] = set()  # of which it was given something
        self.signals: list[int] = []  # numbers, in the order in which they came
        self.faults: list[str] = []
        self.ends = 0  # connections, or iterations, that ended
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=type(self).__name__)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def end(self) -> None:
        """Read no more."""
        self._over.set()
        self._thread.join(SILENT_SEC * 2)

    def where(self) -> str:
        """What its thread is doing now."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "".join(traceback.format_stack(frame)[-8:]) if frame is not None else "it has ended"

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                with contextlib.suppress(OSError, EOFError, httpx.HTTPError, WebSocketException, redis.RedisError):
                    self.read()
                self.ends += 1
                self._over.wait(PAUSE_SEC)
        except Exception as exc:  # the run has to see it
            self.faults.append(f"{type(exc).__name__}: {exc}")

    @abstractmethod
    def read(self) -> None:
        """Go on where it was, until the connection ends."""

    def keep(self, row: Mapping[str, Any]) -> None:
        """One row."""
        key, content = (row["symbol"], int(row["seq"])), content_of(row)
        self.days.add(row["trading_day"])
        if key in self.held:
            self.again[row["trading_day"]] += 1
            if self.held[key] != content:
                self.faults.append(f"{key} came as {self.held[key]} and as {content}")
        self.held[key] = content


class Channel(Reader):
    """What both protocols of the live channel have in common: every message follows on the one before."""

    def __init__(self, port: int, key: str) -> None:
        super().__init__()
        self.port = port
        self.headers = {"Authorization": f"Bearer {key}"}
        self.cursor = ""
        self._columns: list[str] = []
        self.resets = 0

    @property
    def since(self) -> str:
        """Where to go on."""
        return self.cursor or "day"

    def take(self, message: dict[str, Any], *, is_first: bool) -> None:
        """One message. ``is_first``: of its connection."""
        if "cursor" not in message:
            return
        if message["prev"] != self.cursor and self.cursor:
            self.faults.append(f"a message behind {message['prev']} came to who had {self.cursor}")
        if is_first and message["type"] != "welcome":
            self.faults.append(f"the first message is {message['type']}")
        self._columns = message.get("columns", self._columns)
        self.resets += message["type"] == "reset"
        if message["type"] == "signal":
            self.signals.append(message["signal"]["number"])
        for values in message.get("ticks", ()):
            self.keep(dict(zip(self._columns, values, strict=True)))
        self.cursor = message["cursor"]


class OverWebSocket(Channel):
    """``/v1/live``."""

    def read(self) -> None:
        with connect(
            f"ws://127.0.0.1:{self.port}/v1/live", additional_headers=self.headers, proxy=None, max_size=None,
            close_timeout=1,
        ) as socket:  # fmt: skip
            socket.send(json.dumps({"op": "subscribe", "symbols": "all", "since": self.since, "signals": HOOK}))
            is_first = True
            while not self._over.is_set():
                self.take(self._next(socket), is_first=is_first)
                is_first = False

    @staticmethod
    def _next(socket: ClientConnection) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(socket.recv(SILENT_SEC))
        return message


class OverEvents(Channel):
    """``/v1/live/events``, as an ``EventSource`` reads it: an event counts once its empty line has come."""

    def read(self) -> None:
        headers = self.headers | ({"Last-Event-ID": self.cursor} if self.cursor else {})
        with httpx.stream(
            "GET", f"http://127.0.0.1:{self.port}/v1/live/events", params={"since": "day", "signals": HOOK},
            headers=headers, timeout=SILENT_SEC,
        ) as answer:  # fmt: skip
            answer.raise_for_status()
            is_first = True
            for last, message in self._events(answer):
                self.take(message, is_first=is_first)
                is_first = False
                if last != self.cursor:
                    self.faults.append(f"id {last} of an event with the cursor {self.cursor}")
                if self._over.is_set():
                    return

    @staticmethod
    def _events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, fields[name] = line.partition(": ")
            elif "data" in fields:
                yield fields["id"], json.loads(fields["data"])
                fields = {}


class OverApi(Reader):
    """``hk-tick-api``: all recorded days in pages, again and again; an answer that was cut off is asked for again."""

    def __init__(self, port: int, key: str) -> None:
        super().__init__()
        self._address = {
            "base_url": f"http://127.0.0.1:{port}", "headers": {"Authorization": f"Bearer {key}"},
            "timeout": SILENT_SEC,
        }  # fmt: skip

    def read(self) -> None:
        with httpx.Client(**self._address) as client:  # type: ignore[arg-type]
            listed = self._json(client, "/v1/recorded", {})
            for day in sorted({info["trading_day"] for info in listed["data"]}) if listed else []:
                self._read_day(client, day)
        self._over.wait(SWEEP_SEC)

    def _read_day(self, client: httpx.Client, day: str) -> None:
        asked, given = {"symbols": "all", "day": day, "limit": "20000"}, set[Key]()
        while not self._over.is_set():
            page = self._json(client, "/v1/ticks", asked)
            if page is None:  # another file than on the first page, or one that cannot be read now: the next time
                return
            for row in page["data"]:
                key, content = (row["symbol"], int(row["seq"])), content_of(row)
                if key in given:
                    self.faults.append(f"{key} came twice in one answer")
                if self.held.setdefault(key, content) != content:
                    self.faults.append(f"{key} came as {self.held[key]} and as {content}")
                given.add(key)
            if page["next"] is None:
                return
            asked["cursor"] = page["next"]

    def _json(self, client: httpx.Client, path: str, asked: dict[str, str]) -> Any:
        answer = client.get(path, params=asked)
        if answer.status_code in (404, 410, 429, 500, 503):
            return None
        if answer.status_code != 200:
            self.faults.append(f"{path}: {answer.status_code} {answer.text[:200]}")
        return answer.json()


class OverPython(Reader):
    """``hk.live``: it comes over every cut by itself; now and then it begins anew where it was."""

    def __init__(self, recordings: hk.Recordings, batches: int) -> None:
        super().__init__()
        self._recordings, self._batches = recordings, batches
        self._cursor = ""

    def read(self) -> None:
        with self._recordings.live("all", since=self._cursor or "day") as live:
            for number, batch in enumerate(live, 1):
                for row in batch.dicts():
                    self.keep(row)
                self._cursor = batch.cursor
                if number == self._batches or self._over.is_set():
                    return

    def end(self) -> None:
        self._over.set()  # it may wait for a batch that never comes


class OverRedis(Reader):
    """The streams of ``hk-tick-redis``: every entry follows on the one before."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._redis = redis.Redis(port=port, decode_responses=True, socket_timeout=SILENT_SEC)
        self._last: dict[str, str] = {}  # by stream

    def read(self) -> None:
        while not self._over.is_set():
            current: dict[str, str] = self._redis.hgetall("hk:ticks:current")  # type: ignore[assignment]
            columns = current.pop("columns", "").split(",")
            streams = {stream: self._last.get(stream, f"{day}-0") for day, stream in current.items()}
            if not streams:
                self._over.wait(PAUSE_SEC)
                continue
            streams[SIGNALS] = self._last.get(SIGNALS, "0")
            for stream, entries in self._redis.xread(streams, block=200):  # type: ignore[arg-type,union-attr]
                for entry, fields in entries:
                    if stream == SIGNALS:
                        self.signals.append(int(fields["number"]))
                        self._last[stream] = entry
                    else:
                        self._take(stream, entry, fields, columns, streams[stream])

    def _take(self, stream: str, entry: str, fields: dict[str, str], columns: list[str], first: str) -> None:
        before = self._last.get(stream, first)
        if fields["after"] != before:
            self.faults.append(f"{stream}: {entry} follows on {fields['after']}, {before} was read")
        for values in json.loads(fields["ticks"]):
            self.keep(dict(zip(columns, values, strict=True)))
        self._last[stream] = entry

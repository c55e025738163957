"""The least a program can do to keep what a further source sends in day files: what the recorder is measured against.

One thread reads the connection and takes each message apart with the standard library's JSON; one inserts what waits,
500 rows at most and every 10 ms at most, as the recorder does, into the recorder's own schema. That is all: no checks,
no zones, no identity but the source's number, no continuity, no spill, no retry, no reconnect, no tokens that end.

    python -m benchmarks.source_floor SOURCE REST_ADDRESS SYMBOLS DATA_ROOT

Runs until SIGTERM.
"""

from __future__ import annotations

import http.client
import json
import operator
import queue
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import connect

from hk_tick_collector.market.registry import market_of
from hk_tick_collector.store.connect import SqliteOptions, open_day_file

BATCH_ROWS = 500
COMMIT_INTERVAL_SEC = 0.01
COLUMNS = (
    "market", "symbol", "ts_ms", "price", "volume", "seq", "tick_type", "push_type", "provider", "trading_day",
    "recv_ts_ms", "inserted_at_ms", "total_volume",
)  # fmt: skip
INSERT = f"INSERT OR IGNORE INTO ticks ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_TRADING_DAY = operator.itemgetter(COLUMNS.index("trading_day"))
FIELDS = ["eventSymbol", "index", "time", "price", "size"]
TAIPEI = timezone(timedelta(hours=8))

Trade = tuple[str, int, float, Any, int, Any]
"""Symbol in the source's spelling, ts_ms, price, size, the source's number, running total."""


def dxlink(rest: str, symbols: Sequence[str]) -> Iterator[list[Trade]]:
    """TimeAndSale, compact."""
    told = json.load(urllib.request.urlopen(f"{rest}/api-quote-tokens", timeout=30))["data"]
    with connect(told["dxlink-url"], max_size=None) as socket:

        def say(kind: str, channel: int, **more: object) -> None:
            socket.send(json.dumps({"type": kind, "channel": channel, **more}))

        say("SETUP", 0, version="0.1-floor", keepaliveTimeout=60, acceptKeepaliveTimeout=60)
        say("AUTH", 0, token=told["token"])
        say("CHANNEL_REQUEST", 1, service="FEED", parameters={"contract": "STREAM"})
        say("FEED_SETUP", 1, acceptDataFormat="COMPACT", acceptEventFields={"TimeAndSale": FIELDS})
        add = [{"type": "TimeAndSale", "symbol": symbol} for symbol in symbols]
        say("FEED_SUBSCRIPTION", 1, add=add)
        yield []
        width = len(FIELDS)
        for raw in socket:
            message = json.loads(raw)
            if message["type"] == "FEED_DATA":
                flat = message["data"][1]
                yield [
                    (flat[at], flat[at + 2], flat[at + 3], flat[at + 4], flat[at + 1], None)
                    for at in range(0, len(flat), width)
                ]


def schwab(rest: str, symbols: Sequence[str]) -> Iterator[list[Trade]]:
    """Level one: the last value of each field a symbol is kept."""

    def ask(path: str, authorization: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(rest + path, body, {"Authorization": authorization})
        return json.load(urllib.request.urlopen(request, timeout=30))

    form = b"grant_type=refresh_token&refresh_token=a-refresh-token"
    access = ask("/v1/oauth/token", "Basic YTpi", form)["access_token"]
    streamer = ask("/trader/v1/userPreference", f"Bearer {access}")["streamerInfo"][0]
    last: dict[str, dict[str, Any]] = {}
    with connect(streamer["streamerSocketUrl"], max_size=None) as socket:

        def say(number: int, service: str, command: str, **parameters: str) -> None:
            request = {
                "requestid": str(number), "service": service, "command": command,
                "SchwabClientCustomerId": "c", "SchwabClientCorrelId": "c", "parameters": parameters,
            }  # fmt: skip
            socket.send(json.dumps({"requests": [request]}))

        say(0, "ADMIN", "LOGIN", Authorization=access, SchwabClientChannel="N9", SchwabClientFunctionId="APIAPP")
        say(1, "LEVELONE_EQUITIES", "SUBS", keys=",".join(symbols), fields="0,3,8,9,35,41")
        yield []
        for raw in socket:
            trades: list[Trade] = []
            for part in json.loads(raw).get("data", ()):
                for changes in part["content"]:
                    fields = last.setdefault(changes["key"], {})
                    fields.update(changes)
                    trades.append((changes["key"], fields["35"], fields["3"], fields["9"], fields["8"], fields["8"]))
            if trades:
                yield trades


def shioaji(rest: str, symbols: Sequence[str]) -> Iterator[list[Trade]]:
    """Server-sent events of stocks."""
    line = http.client.HTTPConnection(urlsplit(rest).netloc, timeout=60)
    line.request("GET", "/api/v1/stream/data/tick_stk")
    answer = line.getresponse()
    for code in symbols:
        body = json.dumps({"security_type": "STK", "exchange": "TSE", "code": code}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{rest}/api/v1/stream/subscribe", body, headers)
        urllib.request.urlopen(request, timeout=30).close()
    yield []
    left = b""
    while part := answer.read1(1 << 16):
        *events, left = (left + part).split(b"\n\n")
        trades: list[Trade] = []
        for event in events:
            at = event.find(b"data: ")
            told = json.loads(event[at + 6 :])
            if "code" in told:
                moment = datetime.fromisoformat(f"{told['date']} {told['time']}").replace(tzinfo=TAIPEI)
                total = told["total_volume"]
                trades.append(
                    (told["code"], int(moment.timestamp() * 1000), float(told["close"]), told["volume"], total, total)
                )
        if trades:
            yield trades


SOURCES: dict[str, tuple[str, Callable[[str, Sequence[str]], Iterator[list[Trade]]]]] = {
    "dxlink": ("US", dxlink), "schwab": ("US", schwab), "shioaji": ("TW", shioaji),
}  # fmt: skip


class Writer(threading.Thread):
    """Inserts what waits."""

    def __init__(self, data_root: Path, rows: queue.SimpleQueue[list[tuple[Any, ...]]]) -> None:
        super().__init__(daemon=True)
        self._data_root, self._rows = data_root, rows
        self.stopping = threading.Event()

    def run(self) -> None:
        """Until it is stopped and nothing waits."""
        files: dict[str, Any] = {}
        while True:
            is_last = self.stopping.is_set()
            batch: list[tuple[Any, ...]] = []
            while len(batch) < BATCH_ROWS and not self._rows.empty():
                batch += self._rows.get()
            if batch:
                for day in sorted(set(map(_TRADING_DAY, batch))):
                    if day not in files:
                        files[day] = open_day_file(self._data_root / f"{day}.db", SqliteOptions())
                    files[day].execute("BEGIN IMMEDIATE")
                    files[day].executemany(INSERT, [row for row in batch if _TRADING_DAY(row) == day])
                    files[day].execute("COMMIT")
            elif is_last:
                return
            if len(batch) < BATCH_ROWS:
                self.stopping.wait(COMMIT_INTERVAL_SEC)


def main() -> int:
    """Run until SIGTERM."""
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # in all threads, for sigwait
    name, rest, listed, root = sys.argv[1:]
    code, read = SOURCES[name]
    market = market_of(code)
    rows: queue.SimpleQueue[list[tuple[Any, ...]]] = queue.SimpleQueue()
    writer = Writer(Path(root), rows)
    writer.start()
    days: dict[int, str] = {}

    def listen() -> None:
        for trades in read(rest, listed.split(",")):
            now_ms = time.time_ns() // 1_000_000
            made = []
            for symbol, ts_ms, price, size, number, total in trades:
                minute = ts_ms // 60_000
                day = days.get(minute) or days.setdefault(minute, market.trading_day(ts_ms))
                made.append(
                    (code, f"{code}.{symbol}", ts_ms, price, size, number, "AUTO_MATCH", "push", name, day, now_ms,
                     now_ms, total)
                )  # fmt: skip
            if made:
                rows.put(made)
            else:
                print("floor_subscribed", flush=True)

    threading.Thread(target=listen, daemon=True).start()
    signal.sigwait(ends)
    writer.stopping.set()
    writer.join(30)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""``hk-tick-api`` beside a writer of 1,000 ticks a second, and a bare route as the floor.

python -m benchmarks.serve [--short]

The live day holds 900 symbols: one with 56,000 ticks, one with 44,000 (together the 100,000 of the bulk rows), few of
the others. The floor is a Starlette route on the same uvicorn that sends bytes of the same length. Requests come over
connections that are kept, each asking again when it was answered: more of them show how many a second there are, two
how long one takes. Clients share the machine, and their CPU with the server.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import httpx

from benchmarks.rig import memory_mib, print_machine, table
from hk_tick_collector.core.clock import SystemClock
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.serve.keys import edited, new_key
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import BIN, Process, clean_env

MANY, FEW = 8, 2
LARGE, SECOND, OTHERS = ("HK.00700", 56_000), ("HK.00005", 44_000), 898
FLOOR = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
BODY = b"x" * int(sys.argv[1])
async def answer(request): return Response(BODY, media_type="application/json")
app = Starlette(routes=[Route("/", answer)])
uvicorn.run(app, port=int(sys.argv[2]), http="httptools", access_log=False, log_level="info")
"""
WRITER = """
import sys, time
from pathlib import Path
from benchmarks.serve import one_tick
from hk_tick_collector.store.writer import DayFileWriter
writer, number = DayFileWriter(Path(sys.argv[1])), 1_000_000
begun = time.monotonic()
while True:
    due = int((time.monotonic() - begun) * 1000) - (number - 1_000_000)
    if due > 0:
        writer.write([one_tick(f"HK.{60000 + (number + n) % 898:05d}", number + n) for n in range(due)], [])
        number += due
    time.sleep(0.01)
"""


def one_tick(symbol: str, number: int) -> Tick:
    """A tick of now, its counter ``number``."""
    now_ms = SystemClock().now_ms()
    day = HK.trading_day(now_ms)
    return Tick(
        symbol, now_ms - 1000, 380.2, 100, 38020.0, "BUY", (now_ms // 1000) << 32 | number, "AUTO_MATCH", "push", day,
        now_ms, "REALTIME", now_ms, " ",
    )  # fmt: skip


def record(root: Path) -> None:
    """The live day as it is before the writer begins."""
    writer = DayFileWriter(root)
    for symbol, count in (LARGE, SECOND, *((f"HK.{60000 + n:05d}", 20) for n in range(OTHERS))):
        writer.write([one_tick(symbol, number) for number in range(1, count + 1)], [])
    writer.close()


async def load(port: int, targets: Sequence[str], key: str, seconds: float, connections: int) -> list[float]:
    """Milliseconds of each request over connections that are kept; the targets come in turns."""
    requests = cycle(
        f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
        for target in targets
    )
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            began = time.perf_counter()
            writer.write(next(requests))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.split()[1] == b"200", head
            if b"content-length: " in head:
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r")[0]))
            else:
                while await _chunk(reader):
                    pass
            taken.append((time.perf_counter() - began) * 1000)
            if time.perf_counter() >= until:
                break
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    return taken


async def _chunk(reader: asyncio.StreamReader) -> int:
    length = int(await reader.readline(), 16)
    await reader.readexactly(length + 2)
    return length


def row(name: str, port: int, targets: Sequence[str], key: str, seconds: float, connections: int) -> tuple[object, ...]:
    """A line of the table. What is asked for the first time is not counted."""
    asyncio.run(load(port, targets, key, 0.0, 2 * len(targets)))
    taken = asyncio.run(load(port, targets, key, seconds, connections))
    ordered = sorted(taken)
    return name, connections, len(taken) / seconds, statistics.median(ordered), ordered[int(len(ordered) * 0.99)]


@contextmanager
def running(command: Sequence[str | Path], env: dict[str, str], ready: str | None) -> Iterator[Process]:
    """A process that is ended."""
    process = Process(command, env)
    try:
        if ready is not None:
            process.wait_for(ready)
        yield process
    finally:
        process.end()


def bulk(url: str, key: str, format_name: str) -> float:
    """Seconds for 100,000 ticks of two symbols of the live day."""
    params = {"symbols": f"{LARGE[0]},{SECOND[0]}", "format": format_name}
    headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
    began = time.perf_counter()
    with httpx.stream("GET", f"{url}/v1/ticks", params=params, headers=headers, timeout=60) as response:
        size = sum(len(piece) for piece in response.iter_raw())
        assert response.status_code == 200, size
    return time.perf_counter() - began


def main() -> int:
    """Print the tables."""
    short = "--short" in sys.argv[1:]
    seconds, rounds = (1.0, 2) if short else (10.0, 7)
    print_machine()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        root = directory / "HK"
        record(root)
        stored, key = new_key("benchmark", now_ms=0)
        with edited(directory / "keys.json") as keys:
            keys.append(stored)
        env = clean_env(directory / "home", DATA_ROOT=root, API_PORT=0, API_KEYS_FILE=directory / "keys.json")
        env["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
        writer = running([sys.executable, "-c", WRITER, str(root)], env, None)
        server = running([BIN / "hk-tick-api"], env, "Application startup complete")
        with writer, server as api:
            url = api.wait_for(r"listening on (http://\S+)")[1]
            _measure(url, key, api, seconds, rounds, env)
    return 0


def _measure(url: str, key: str, api: Process, seconds: float, rounds: int, env: dict[str, str]) -> None:
    port = int(url.rpartition(":")[2])
    latest = "/v1/ticks/latest?symbols=700&n=100"
    length = len(httpx.get(url + latest, headers={"Authorization": f"Bearer {key}"}).content)
    floor_port = port + 1
    with running([sys.executable, "-c", FLOOR, str(length), str(floor_port)], env, "Uvicorn running"):
        rows = [row("floor: bare route", floor_port, ["/"], key, seconds, MANY)]
    bars = "/v1/bars?symbols={}&interval={}&limit=10000"
    mixed = [bars.format(symbol, interval) for symbol in (700, 5, 60001) for interval in ("1s", "1m", "24h")]
    for name, targets in (
        ("newest 100 ticks", [latest]),
        ("bars of today, 56,000 ticks", [bars.format(700, "1m")]),
        ("bars of today, a quiet symbol", [bars.format(60001, "1m")]),
        ("bars of today, 3 symbols by 3 intervals", mixed),
    ):
        rows += [row(name, port, targets, key, seconds, connections) for connections in (MANY, FEW)]
    print(table(("request", "connections", "a second", "p50 ms", "p99 ms"), rows))
    print()
    sizes = [
        (f"100,000 ticks as {name}", min(bulk(url, key, name) for _ in range(rounds))) for name in ("arrow", "ndjson")
    ]
    print(table(("bulk", "s"), sizes))
    print()
    children = subprocess.run(["pgrep", "-P", str(api.proc.pid)], capture_output=True, text=True, check=False).stdout
    memory = [("server", memory_mib(api.proc.pid)[0])]
    memory += [("reading process", memory_mib(int(pid))[0]) for pid in children.split()]
    print(table(("memory", "MiB"), memory))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())

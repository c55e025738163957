"""The live channel: made to received, and CPU, by the number of clients; and the rows a second of a resume.

python -m benchmarks.live [--short]

A writer process commits each 10 ms at 1,000 ticks a second (900 symbols), ``hk-tick-live`` is the built one, and the
clients (one process) take everything over WebSocket. A row's way is counted from its stamp ``inserted_at_ms``, which
its commit begins with, to its arrival at a client, by one client in ten.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import connect

from benchmarks.follow import DAY
from benchmarks.ticks import TickSource
from hk_tick_collector.serve.keys import KeyLimits
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended
from tests.serving import ApiServer, add_key

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_sec(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def client(url: str, since: str, rows: int, ways_ms: list[float] | None, key: str = "") -> None:
    """Take until so many rows have come."""
    address = f"{url.replace('http', 'ws')}/v1/live"
    sent = {"Authorization": f"Bearer {key}"} if key else {}
    async with connect(
        address, additional_headers=sent, max_size=None, proxy=None, compression=None, close_timeout=0.2
    ) as socket:
        await socket.send(json.dumps({"op": "subscribe", "symbols": "all", "since": since}))
        stamp, left = 0, rows
        async for text in socket:
            if ways_ms is None:  # only what it takes to count
                left -= text.count("],[") + 1 if text.startswith('{"type":"ticks"') else 0
            else:
                now_ms, message = time.time_ns() // 1_000_000, json.loads(text)
                stamp = stamp or message.get("columns", ["inserted_at_ms"]).index("inserted_at_ms")
                got = message.get("ticks", ())
                ways_ms += [now_ms - row[stamp] for row in got]
                left -= len(got)
            if left <= 0:
                break


async def fan_out(directory: Path, clients: int, rate: int, seconds: float) -> dict[str, Any]:
    """Server's CPU, and the ways of rows."""
    root = directory / "HK"
    with DayFileWriterOf(root) as writer:
        writer.write(TickSource(DAY).take(1))
    key = add_key(keys := directory / "keys.json", limits=KeyLimits(live_connections=500))
    server = ApiServer(directory / "server", root, "hk-tick-live", API_KEYS_FILE=keys)
    with ended(server):
        ways_ms: list[float] = []
        rows = int(rate * seconds * 0.9)
        tasks = [
            asyncio.create_task(client(server.url, "now", rows, ways_ms if n % 10 == 0 else None, key))
            for n in range(clients)
        ]
        await asyncio.sleep(1 + clients / 100)
        started_sec, used_sec = time.monotonic(), cpu_sec(server.proc.pid)
        writing = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.follow", "--write", str(root), str(rate), str(seconds),
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        await asyncio.wait_for(asyncio.gather(*tasks), seconds + 60)
        percent = 100 * (cpu_sec(server.proc.pid) - used_sec) / (time.monotonic() - started_sec)
        await writing.wait()
        cuts = statistics.quantiles(ways_ms, n=100)
        return {"p50": cuts[49], "p99": cuts[98], "percent": percent}


class DayFileWriterOf:
    """A writer that is closed at the end."""

    def __init__(self, root: Path) -> None:
        self._writer = DayFileWriter(root)

    def __enter__(self) -> DayFileWriter:
        return self._writer

    def __exit__(self, *_: object) -> None:
        self._writer.close()


async def resume(directory: Path, rows: int) -> float:
    """Rows a second of a client that was away."""
    root = directory / "HK"
    with DayFileWriterOf(root) as writer:
        source = TickSource(DAY)
        for _ in range(rows // 5000):
            writer.write(source.take(5000))
    server = ApiServer(directory / "server", root, "hk-tick-live", API_ANONYMOUS=1)
    with ended(server):
        started_sec = time.monotonic()
        await client(server.url, "day", rows // 5000 * 5000, None)
        return rows / (time.monotonic() - started_sec)


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one quick round, to see that it works")
    args = parser.parse_args()
    print("| clients | made to received p50 ms | p99 ms | server % of a core |\n|---|---|---|---|")
    for clients in (5,) if args.short else (20, 100):
        with tempfile.TemporaryDirectory() as directory:
            found = asyncio.run(fan_out(Path(directory), clients, 1000, 2.0 if args.short else 10.0))
        print(f"| {clients} | {found['p50']:.0f} | {found['p99']:.0f} | {found['percent']:.0f} |", flush=True)
    with tempfile.TemporaryDirectory() as directory:
        rows = 20_000 if args.short else 500_000
        print(f"resume of {rows} rows: {asyncio.run(resume(Path(directory), rows)):.0f} rows/s")


if __name__ == "__main__":
    main()

"""The live channel: made to received, and CPU, by the number of clients; and the rows a second of a resume.

python -m benchmarks.live [--short] [--clients 20,500] [--program COMMAND]

A writer process commits each 10 ms at 1,000 ticks a second (900 symbols); ``hk-tick-live`` is the built one; every
client takes everything over WebSocket. Most clients are sockets that one process only drains, since hundreds that read
JSON would be what is measured; SAMPLED real ones, in a process of their own, count a row's way from its stamp
``inserted_at_ms``, which its commit begins with, to its arrival. In the same run and in turns: the floor
(``live_floor``), the same rows sent to as many clients by the same uvicorn with nothing else, and the writer alone.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from websockets.asyncio.client import connect
from websockets.frames import Frame, Opcode

from benchmarks.follow import DAY, catch_up
from benchmarks.follow import STAMP as STAMP_BEHIND_ROWID
from benchmarks.ticks import TickSource
from hk_tick_collector.serve.keys import KeyLimits
from hk_tick_collector.serve.live.shared import pace_sec_of
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended
from tests.serving import BuiltServer, add_key

TICKS = os.sysconf("SC_CLK_TCK")
RATE = 1000
SAMPLED = 4
STAMP = STAMP_BEHIND_ROWID - 1
PROGRAM = "hk-tick-live"
SUBSCRIBE = {"op": "subscribe", "symbols": "all", "since": "now"}


class Found(NamedTuple):
    """Of one turn; ``writer_us``: the writer's CPU a tick."""

    p50_ms: float
    p99_ms: float
    percent: float
    writer_us: float


def cpu_sec(pid: int) -> float:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_mb(pid: int) -> float:
    """What a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


# Clients, in processes of their own


async def sampled(url: str, key: str, rows: int, ways_ms: list[int], begun: asyncio.Barrier) -> None:
    """Take until so many rows have come, noting each row's way."""
    async with connect(
        f"{url}/v1/live", additional_headers=bearer(key), max_size=None, proxy=None, compression=None, close_timeout=0.2
    ) as connection:
        await connection.send(json.dumps(SUBSCRIBE))
        await begun.wait()
        async for text in connection:
            now_ms, message = time.time_ns() // 1_000_000, json.loads(text)
            got = message.get("ticks", ())
            ways_ms += [now_ms - row[STAMP] for row in got]
            rows -= len(got)
            if rows <= 0:
                break


def bearer(key: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {key}"} if key != "-" else {}


async def sample(url: str, key: str, rows: int) -> None:
    """Several of them; says ``ready`` once all are connected, then p50 and p99."""
    ways_ms: list[int] = []
    begun = asyncio.Barrier(SAMPLED + 1)
    tasks = [asyncio.create_task(sampled(url, key, rows, ways_ms, begun)) for _ in range(SAMPLED)]
    await begun.wait()
    print("ready", flush=True)
    await asyncio.gather(*tasks)
    cuts = statistics.quantiles(ways_ms, n=100)
    print(cuts[49], cuts[98], flush=True)


def opened(url: str, key: str) -> socket.socket:
    """A subscribed connection by hand."""
    host, _, port = url.removeprefix("ws://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=30)
    nonce = base64.b64encode(os.urandom(16)).decode()
    head = {
        "Host": f"{host}:{port}", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": nonce,
        "Sec-WebSocket-Version": "13", **bearer(key),
    }  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    connection.sendall(f"GET /v1/live HTTP/1.1\r\n{lines}\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(1)
    assert b" 101 " in answer, answer
    connection.sendall(Frame(Opcode.TEXT, json.dumps(SUBSCRIBE).encode()).serialize(mask=True))
    return connection


def drain(url: str, key: str, clients: int) -> None:
    """Take everything and look at nothing, until killed; says ``ready`` once all are connected."""
    room, selector = bytearray(1 << 18), selectors.DefaultSelector()
    for _ in range(clients):
        connection = opened(url, key)
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        for ready, _ in selector.select():
            joined = ready.fileobj
            assert isinstance(joined, socket.socket)
            if not joined.recv_into(room):
                selector.unregister(joined)


# Turns


def me(*words: object) -> list[str]:
    """This file, as a process of its own."""
    return [sys.executable, "-m", "benchmarks.live", *map(str, words)]


@contextlib.contextmanager
def draining(url: str, key: str, clients: int) -> Iterator[None]:
    """So many clients more."""
    with subprocess.Popen(me("--drain", url, key, clients), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def served(directory: Path, root: Path, program: str) -> Iterator[tuple[str, str, int]]:
    """``hk-tick-live``: address, key and process."""
    key = add_key(keys := directory / "keys.json", limits=KeyLimits(live_connections=500))
    server = BuiltServer(directory / "server", root, program, API_KEYS_FILE=keys)
    with ended(server):
        yield server.url.replace("http", "ws"), key, server.proc.pid


@contextlib.contextmanager
def floor(root: Path, clients: int) -> Iterator[tuple[str, str, int]]:
    """The same of ``live_floor``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.live_floor", str(root), str(port), str(pace_sec_of(clients))]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield f"ws://127.0.0.1:{port}", "-", process.pid
        finally:
            process.kill()


def turn(directory: Path, clients: int, seconds: float, program: str) -> Found:
    """One turn with so many clients; ``program`` is ``floor``, or what serves."""
    root = begun_root(directory)
    serving = floor(root, clients) if program == "floor" else served(directory, root, program)
    with serving as (url, key, pid), draining(url, key, clients - SAMPLED):
        rows = int(RATE * seconds * 0.9)
        with subprocess.Popen(me("--sample", url, key, rows), stdout=subprocess.PIPE, text=True) as sampling:
            assert sampling.stdout is not None
            assert sampling.stdout.readline() == "ready\n"
            time.sleep(1)  # what they sent is read
            started_sec, used_sec = time.monotonic(), cpu_sec(pid)
            writer_us = write(root, seconds)
            percent = 100 * (cpu_sec(pid) - used_sec) / (time.monotonic() - started_sec)
            told, _ = sampling.communicate(timeout=60)
    p50_ms, p99_ms = map(float, told.split())
    return Found(p50_ms, p99_ms, percent, writer_us)


def begun_root(directory: Path) -> Path:
    """A data root with a row."""
    with contextlib.closing(DayFileWriter(directory / "HK")) as writer:
        writer.write(TickSource(DAY).take(1))
    return directory / "HK"


def write(root: Path, seconds: float) -> float:
    """Let the writer process write; its CPU microseconds a tick."""
    command = [sys.executable, "-m", "benchmarks.follow", "--write", str(root), str(RATE), str(seconds)]
    return float(subprocess.check_output(command, text=True).split()[0])


async def resumed(url: str, rows: int) -> None:
    """A client that was away: takes until so many rows have come, looking only at what it takes to count them."""
    async with connect(f"{url}/v1/live", max_size=None, proxy=None, compression=None, close_timeout=0.2) as connection:
        await connection.send(json.dumps({**SUBSCRIBE, "since": "day"}))
        async for data in connection:
            rows -= data.count("],[") + 1 if data.startswith('{"type":"ticks"') else 0
            if rows <= 0:
                break


def resume(directory: Path, rows: int, program: str) -> tuple[float, float, float]:
    """Rows a second of a client that was away; of reading alone; and the server's memory."""
    root = directory / "HK"
    with contextlib.closing(DayFileWriter(root)) as writer:
        source = TickSource(DAY)
        for _ in range(rows // 5000):
            writer.write(source.take(5000))
    server = BuiltServer(directory / "server", root, program, API_ANONYMOUS=1)
    with ended(server):
        started_sec = time.monotonic()
        asyncio.run(resumed(server.url.replace("http", "ws"), rows // 5000 * 5000))
        ours = rows / (time.monotonic() - started_sec)
        return ours, 1e6 / catch_up(root), memory_mb(server.proc.pid)


def in_turns(clients: int, seconds: float, program: str) -> None:
    """One line of the table."""
    took = {}
    for name in ("floor", program):
        with tempfile.TemporaryDirectory() as directory:
            took[name] = turn(Path(directory), clients, seconds, name)
    with tempfile.TemporaryDirectory() as directory:
        alone_us = write(begun_root(Path(directory)), seconds)
    ours, least = took[program], took["floor"]
    print(
        f"| {clients} | {ours.p50_ms:.0f} ({least.p50_ms:.0f}) | {ours.p99_ms:.0f} ({least.p99_ms:.0f}) "
        f"| {ours.percent:.0f} ({least.percent:.0f}) | {ours.writer_us:.0f} ({alone_us:.0f}) |",
        flush=True,
    )


def main() -> None:
    """The table, or one of the processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="one quick round, to see that it works")
    parser.add_argument("--clients", default="20,100,500", help="how many, with commas")
    parser.add_argument("--program", default=PROGRAM, help="another build, to compare two in turns")
    parser.add_argument("--drain", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--sample", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.drain:
        drain(*args.drain[:2], int(args.drain[2]))
        return
    if args.sample:
        asyncio.run(sample(*args.sample[:2], int(args.sample[2])))
        return
    print("| clients | made to received p50 ms (floor) | p99 ms | server % of a core | writer us a tick (alone) |")
    print("|---------|---------------------------------|--------|--------------------|--------------------------|")
    for clients in (6,) if args.short else map(int, args.clients.split(",")):
        in_turns(clients, 2.0 if args.short else 10.0, args.program)
    with tempfile.TemporaryDirectory() as directory:
        rows = 20_000 if args.short else 500_000
        rows_per_sec, least, held_mb = resume(Path(directory), rows, args.program)
    print(f"resume of {rows} rows: {rows_per_sec:.0f} rows/s (only read: {least:.0f}), server holds {held_mb:.0f} MB")


if __name__ == "__main__":
    main()

"""Connections that cost and give nothing: idle sockets, and readers that take nothing.

IDLE_SOCKETS=10000 DEAD_READER_SEC=600 makes a long night of it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.serve.heads import HEAD_SEC
from hk_tick_collector.serve.live.ring import MAX_BYTES
from hk_tick_collector.store.writer import DayFileWriter
from tests.harness import ended, wait_until
from tests.integration.test_live import Reader
from tests.serving import BuiltServer
from tests.unit.store_ticks import ticks

IDLE_SOCKETS = int(os.environ.get("IDLE_SOCKETS", "400"))
DEAD_READER_SEC = float(os.environ.get("DEAD_READER_SEC", "4"))
DEAD_READERS = 8  # of the ten that a key may have
SOCKET_BYTES = 32_768  # of memory, at most
OWED_ROWS = 30_000
BATCH_SEC = 0.05
FLAT_BYTES = (44 << 20) + (MAX_BYTES if DEAD_READER_SEC > 30 else 0)  # a long run fills the ring of the newest minute


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "HK").mkdir()
    return tmp_path / "HK"


@pytest.fixture
def server(tmp_path: Path, root: Path) -> Iterator[BuiltServer]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * IDLE_SOCKETS + 1000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"{IDLE_SOCKETS} sockets need {wanted} open files; {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        running = BuiltServer(tmp_path / "server", root, "hk-tick-live", API_ANONYMOUS=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with ended(running):
        yield running
    assert "Traceback" not in running.output


def memory_bytes(server: BuiltServer) -> int:
    """What it holds, without the processes that read for it."""
    pages = Path(f"/proc/{server.proc.pid}/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def metrics(server: BuiltServer) -> str:
    with server.client() as client:
        return client.get("/v1/live/metrics").text


def test_idle_sockets_are_few_bytes_and_go_by_themselves(server: BuiltServer, root: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * IDLE_SOCKETS + 1000), hard))
    with contextlib.ExitStack() as held, closing(DayFileWriter(root)) as writer, server.client() as client:
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        writer.write(ticks(10))
        reader = Reader(server.url, since="now")
        reader.until()
        before = memory_bytes(server)
        idle = [held.enter_context(socket.socket()) for _ in range(IDLE_SOCKETS)]
        for stranger in idle:
            stranger.connect(("127.0.0.1", server.port))
        writer.write(ticks(10, 11))
        reader.until("ticks", rows=10)
        assert client.get("/v1/live/healthz").status_code == 200  # however many there are: they give way
        each_bytes = (memory_bytes(server) - before) / IDLE_SOCKETS
        print(f"{each_bytes:.0f} bytes a socket")
        assert each_bytes < SOCKET_BYTES
        for stranger in idle:
            stranger.settimeout(HEAD_SEC * 4)
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b"", "an idle socket is closed"
        wait_until(lambda: client.get("/v1/live/healthz").status_code == 200, "everybody is let in again")
        writer.write(ticks(10, 21))
        reader.until("ticks", rows=20)


def test_readers_that_take_nothing_cost_no_memory_and_hold_nobody_up(server: BuiltServer, root: Path) -> None:
    """Each is owed six megabytes from the start."""
    with contextlib.ExitStack() as held, closing(DayFileWriter(root)) as writer:
        for first in range(1, OWED_ROWS, 10_000):
            writer.write(ticks(10_000, first))
        reader = Reader(server.url, since="day")
        reader.until("ticks", rows=OWED_ROWS)
        reader.rows.clear()
        # It may have had them from the file, before they were in the memory of the newest minute.
        wait_until(lambda: "hk_live_readers_catching_up 0.0" in metrics(server), "the newest minute is in memory")
        before = memory_bytes(server)
        for _ in range(DEAD_READERS):
            dead = held.enter_context(socket.socket())
            dead.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            dead.connect(("127.0.0.1", server.port))
            dead.sendall(b"GET /v1/live/events?since=day HTTP/1.1\r\nHost: localhost\r\n\r\n")
        number, began = OWED_ROWS, time.monotonic()
        while time.monotonic() - began < DEAD_READER_SEC:
            rows = ticks(200, number + 1)
            writer.write(rows)
            number += len(rows)
            reader.until("ticks", rows=len(rows))
            assert reader.seqs() == [row.seq for row in rows]
            reader.rows.clear()
            time.sleep(BATCH_SEC)  # so that the ring of the newest minute is as large on every machine
        grown = memory_bytes(server) - before
        print(f"{grown >> 20} MB more with {number} rows and {DEAD_READERS} dead readers")
        assert grown < FLAT_BYTES

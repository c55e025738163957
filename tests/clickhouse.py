"""A ClickHouse on a free port of the loopback address, for tests: the engine behind ``clickhouse_front``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from hk_tick_collector.clickhouse.address import Address
from hk_tick_collector.clickhouse.connection import ClickHouse
from tests.redis_server import free_port

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_SEC = 60


class ClickHouseServer:
    """One engine in a process of its own. What it holds survives ``kill`` and ``start``."""

    def __init__(self, directory: Path, **environ: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.environ = environ
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def engine(self, database: str = "hk", password: str = "", **options: float) -> ClickHouse:
        return ClickHouse(Address(self.url, database), password, **options)

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.clickhouse_front", str(self.directory), str(self.port)]
        environ = {**os.environ, **self.environ}
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + DEADLINE_SEC
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/ping", trust_env=False, verify=False).text == "Ok.\n":
                    return
            assert self.process.poll() is None, "the engine ended"
            time.sleep(0.05)
        raise AssertionError("the engine did not answer")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def fault(self, kind: str, times: int = 1) -> None:
        """What strikes the next inserts."""
        httpx.get(f"{self.url}/fault", params={"kind": kind, "n": times}, trust_env=False, verify=False)


@contextlib.contextmanager
def clickhouse_server(directory: Path, **environ: str) -> Iterator[ClickHouseServer]:
    server = ClickHouseServer(directory, **environ)
    server.start()
    try:
        yield server
    finally:
        server.kill()

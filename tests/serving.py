"""The built ``hk-tick-api`` over recorded days, and a key for it."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from pathlib import Path
from typing import Any

import httpx

from hk_tick_collector.serve.keys import edited, new_key
from tests import forked
from tests.archived_day import archive_day
from tests.harness import BIN, Process, clean_env
from tests.tickctl import record_day
from tests.ticks import DAY

BEFORE, GAPPY = "20261119", "20261118"
PROGRAM = "hk-tick-api"


def record_roots(directory: Path) -> Path:
    """A data root with an archived day, one with a gap, and a day whose file is there."""
    root = directory / "HK"
    record_day(root, GAPPY, lost=(7, 8))
    record_day(root, BEFORE)
    record_day(root, DAY)
    archive_day(root, root / "_archive", BEFORE)
    return root


def add_key(path: Path, name: str = "tests", **rights: Any) -> str:
    """A new key in the file."""
    stored, text = new_key(name, now_ms=0, **rights)
    with edited(path) as keys:
        keys.append(stored)
    return text


class ApiServer(Process):
    """A process of its own on a free port of the loopback address, whose imports are done (``forked``)."""

    def __init__(self, directory: Path, root: Path, program: str = PROGRAM, **settings: object) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        given = {"DATA_ROOT": root, "API_PORT": 0, "LIVE_PORT": 0, "API_WORKERS": 1, **settings}
        self._may_fork = forked.may_fork(given)
        super().__init__([BIN / program], clean_env(directory / "home", **given))
        self.url = self.wait_for(r"listening on (http://\S+)").group(1)
        self.wait_for(r"Application startup complete")
        self.port = int(self.url.rsplit(":", 1)[1])

    def _begin(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str] | forked.Child:
        if not self._may_fork:
            return super()._begin(command, env)
        return forked.servers(Path(command[0]).name).start(command[1:], env)

    def client(self, key: str | None = None, **options: Any) -> httpx.Client:
        """A client of this server alone."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers.update(options.pop("headers", {}))
        return httpx.Client(base_url=self.url, headers=headers, timeout=60, verify=False, **options)  # 50 ms quicker

    def raw(self, data: bytes) -> bytes:
        """What the server says to these bytes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            with contextlib.suppress(ConnectionError):  # it may have enough before the end
                connection.sendall(data)
            body = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := connection.recv(65_536):
                    body += piece
            return body


class BuiltServer(ApiServer):
    """The installed program from its first import on, for who measures it."""

    def _begin(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[str] | forked.Child:
        return Process._begin(self, command, env)


class Served(Process):
    """``hk-tickctl serve`` over one data root, or over DATA_ROOTS, in a process whose imports are done."""

    def _begin(self, command: list[str], env: dict[str, str]) -> forked.Child:
        return forked.serve_commands().start(command[1:], env)

    def __init__(self, directory: Path, root: Path | None, port: int = 0, **settings: object) -> None:
        command = [BIN / "hk-tickctl", "serve", *(() if root is None else ("--data-root", root)), "--port", port]
        given = {"API_ANONYMOUS": 1, "API_WORKERS": 1, **settings}
        super().__init__([str(word) for word in command], clean_env(directory / "home", **given))
        self.url = self.wait_for(r"listening on (http://\S+)").group(1)
        self.port = int(self.url.rsplit(":", 1)[1])

"""A simulator's HTTP interface, and under ``/sim/`` its own: faults to be asked for, and what has come so far.

Listens on 127.0.0.1 alone. ``POST /sim/NAME`` does a fault and answers when it is done; ``GET /sim/state`` is JSON.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol

HOST = "127.0.0.1"
MAX_BODY_BYTES = 65_536
_POLL_SEC = 0.1  # how often a server looks whether it is to end


class Simulated(Protocol):
    """Who is behind the interface. Called on any thread."""

    def fault(self, name: str) -> None:
        """Do one of the faults; returns when it is done."""

    def state(self) -> object:
        """What has come so far, as JSON takes it."""


class Rest(BaseHTTPRequestHandler):
    """A simulator's own routes are in ``asked`` (GET) and ``given`` (POST)."""

    faults: ClassVar[Mapping[str, str]]
    simulated: ClassVar[Simulated]

    def asked(self) -> None:
        """Answer a GET that is not under ``/sim/``."""
        self.answer(404, {"error": "not found"})

    def given(self, _body: bytes) -> None:
        """Answer a POST that is not under ``/sim/``."""
        self.answer(404, {"error": "not found"})

    def do_GET(self) -> None:
        if self.path == "/sim/state":
            self.answer(200, self.simulated.state())
        else:
            self.asked()

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, MAX_BODY_BYTES))
        name = self.path.removeprefix("/sim/")
        if name == self.path:
            self.given(body)
        elif name in self.faults:
            self.simulated.fault(name)
            self.answer(200, {"done": name})
        else:
            self.answer(404, {"error": "no such fault"})

    def answer(self, status: int, value: object, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer in JSON."""
        self.send(status, json.dumps(value).encode(), headers)

    def send(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer. Somebody who is gone gets none."""
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

    def log_message(self, *_arguments: Any) -> None:
        return


def start_handler(handler: type[Rest], simulated: Simulated, port: int) -> ThreadingHTTPServer:
    """A server on a thread of its own; ``shutdown`` ends it. ``port`` 0: any. OSError when it is taken."""
    server = ThreadingHTTPServer((HOST, port), type("Rest", (handler,), {"simulated": simulated}))
    threading.Thread(target=server.serve_forever, args=(_POLL_SEC,), name="rest", daemon=True).start()
    return server

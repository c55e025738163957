"""Somebody who is called: a server of the test's own, with a webhook and an address for signs of life."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "0123456789abcdef0123"
TOKEN = "planted-token-that-nobody-may-see"


class Called(ThreadingHTTPServer):
    """Somebody who is called. ``answers`` are given one after the other, the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: list[tuple[int, dict[str, str]]] = [(200, {})]
        self.letters: list[dict[str, Any]] = []
        self.pings = 0
        self.refused = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{TOKEN}"

    def __exit__(self, *exc: Any) -> None:
        self.shutdown()
        super().__exit__(*exc)

    def texts(self) -> str:
        return "\n".join(letter["text"] for letter in self.letters)


class _Handler(BaseHTTPRequestHandler):
    server: Called

    def do_GET(self) -> None:
        self.server.pings += 1
        self._say(200, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        stamp, signature = self.headers["X-HK-Timestamp"], self.headers["X-HK-Signature"]
        wanted = hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
        answers = self.server.answers
        status, headers = answers.pop(0) if len(answers) > 1 else answers[0]
        if status == 200:
            assert signature in (None, f"sha256={wanted}")
            self.server.letters.append({**json.loads(body), "key": self.headers["Idempotency-Key"]})
        else:
            self.server.refused += 1
        self._say(status, headers)

    def _say(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Silent."""

"""ClickHouse's engine (chdb-core-lite) behind ClickHouse's HTTP interface, as far as the project and clickhouse-connect
use it: a process of its own, so that it can be killed as a server can. ``python -m tests.clickhouse_front DIR PORT``.

What it is not: the server program. Users, quotas, replication and compression of bodies are the server's, and are not
here; ``X-ClickHouse-User`` and ``-Key`` are compared with ``FRONT_USER`` and ``FRONT_PASSWORD``.

``/fault?kind=K&n=N``: what strikes the next N inserts. ``before``: the connection ends before the engine has it;
``after``: the engine has it and nobody is told; ``full``, ``readonly``: the engine's own words for it.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import http.server
import os
import re
import socket
import sys
import tempfile
import threading
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import chdb

_OF_HTTP = {
    "query", "database", "default_format", "session_id", "user", "password", "query_id", "client_protocol_version",
    "buffer_size", "wait_end_of_query", "enable_http_compression", "compress", "decompress",
    "http_headers_progress_interval_ms",
    "send_progress_in_http_headers", "session_timeout", "role", "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
_WORDS = {
    "full": "Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)",
    "readonly": "Code: 242. DB::Exception: Table is in readonly mode. (TABLE_IS_READ_ONLY)",
}


class Engine:
    """One engine and who talks to it, one at a time."""

    def __init__(self, directory: str) -> None:
        self.connection = chdb.connect(f"{directory}?max_threads=2")
        self.lock = threading.Lock()
        self.directory = directory
        self.faults: list[str] = []

    def run(self, sql: str, form: str, settings: Mapping[str, str], body: bytes) -> bytes:
        """The answer's bytes. RuntimeError with the engine's words."""
        with self.lock:
            told = ", ".join(f"{key} = '{value}'" for key, value in settings.items())
            insert = re.match(r"\s*INSERT\s+INTO\s+(.+?)\s+FORMAT\s+(\w+)\s*\Z", sql, re.IGNORECASE | re.DOTALL)
            if insert and body:
                with tempfile.NamedTemporaryFile(dir=self.directory, suffix=".body") as file:
                    file.write(body)
                    file.flush()
                    told = f"SETTINGS {told} " if told else ""
                    sql = f"INSERT INTO {insert[1]} FROM INFILE '{file.name}' {told}FORMAT {insert[2]}"
                    return bytes(self.connection.query(sql, "TabSeparated").bytes())
            text = sql if not body else f"{sql}\n{body.decode()}" if sql else body.decode()
            text = text.strip().rstrip(";")
            match = re.search(r"\sFORMAT\s+(\w+)\s*\Z", text, re.IGNORECASE)
            if match:
                form, text = match[1], text[: match.start()]
            if told and re.match(r"\s*(SELECT|WITH)\b", text, re.IGNORECASE) and " SETTINGS " not in text[-300:]:
                text = f"{text} SETTINGS {told}"
            return bytes(self.connection.query(text, form).bytes())


class Front(http.server.BaseHTTPRequestHandler):
    """One request after the other of one client."""

    protocol_version = "HTTP/1.1"
    engine: Engine

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """As ClickHouse's."""
        url = urllib.parse.urlsplit(self.path)
        asked = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if url.path == "/ping":
            return self._answer(200, b"Ok.\n")
        if url.path == "/fault":
            self.engine.faults += [asked["kind"]] * int(asked.get("n", "1"))
            return self._answer(200, b"")
        return self._query(asked)

    do_POST = do_GET  # noqa: N815 - http.server's name

    def _query(self, asked: dict[str, str]) -> None:
        body = self._body()
        wanted = os.environ.get("FRONT_USER", "default"), os.environ.get("FRONT_PASSWORD", "")
        given = self.headers.get("X-ClickHouse-User"), self.headers.get("X-ClickHouse-Key", "")
        if given[0] is None and (basic := self.headers.get("Authorization", "")).startswith("Basic "):
            given = tuple(base64.b64decode(basic[6:]).decode().split(":", 1))  # type: ignore[assignment]
        if (given[0] or "default", given[1]) != wanted:
            return self._refuse(403, "Code: 516. DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)")
        sql = asked.get("query", "")
        is_insert = sql.lstrip().upper().startswith("INSERT")
        fault = self.engine.faults.pop(0) if is_insert and self.engine.faults else ""
        if fault == "before":
            return self._hang_up()
        if fault in _WORDS:
            return self._refuse(500, _WORDS[fault])
        settings = {key: value for key, value in asked.items() if key not in _OF_HTTP and not key.startswith("param_")}
        form = asked.get("default_format") or self.headers.get("X-ClickHouse-Format") or "TabSeparated"
        try:
            answer = self.engine.run(sql, form, settings, body)
        except Exception as exc:  # chdb's own is a RuntimeError
            return self._refuse(500, str(exc))
        if fault == "after":
            return self._hang_up()
        return self._answer(200, answer)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            body = b"".join(parts)
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _refuse(self, status: int, text: str) -> None:
        code = re.search(r"Code: (\d+)", text)
        self._answer(status, text.encode(), {"X-ClickHouse-Exception-Code": code[1] if code else "0"})

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-ClickHouse-Timezone", "UTC")
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)


def main() -> None:
    """Serve until killed; prints the port when it listens."""
    directory, port = sys.argv[1], int(sys.argv[2])
    Path(directory).mkdir(parents=True, exist_ok=True)
    Front.engine = Engine(directory)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Front)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

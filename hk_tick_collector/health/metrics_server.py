"""The HTTP server of the metrics endpoint, bounded in all that a client could use up.

At most MAX_CONNECTIONS at a time, each for REQUEST_DEADLINE_SEC from its acceptance to its last byte and for
MAX_REQUEST_BYTES of request, whatever its pace; what comes beyond is closed at once. The last RESERVED_DESCRIPTORS
below the process's limit are not given to clients: the store needs them to open a day file or a segment of the spill.

A port that is taken, or an address that is not there yet, is waited for (``Endpoint``): a program that is measured does
its work whether or not somebody can look at it.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from io import BufferedIOBase
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from hk_tick_collector.core.logline import RateLimitedLog, event

MAX_CONNECTIONS = 16
REQUEST_DEADLINE_SEC = 10.0
MAX_REQUEST_BYTES = 16 * 1024
RESERVED_DESCRIPTORS = 64
ACCEPT_PAUSE_SEC = 0.2  # after an accept that failed, since the connection still waits and would be tried at once
CLOSE_TIMEOUT_SEC = 2.0
LOG_PERIOD_SEC = 60.0
LISTEN_AGAIN_SEC = 10.0
NOT_LISTENING_LOG_SEC = 600.0

_log = logging.getLogger(__name__)


class _BoundedReader:
    """What a client sends, up to MAX_REQUEST_BYTES."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left_bytes = MAX_REQUEST_BYTES

    def readline(self, limit: int = -1) -> bytes:
        """A line; OSError when the request is longer than any scrape's."""
        line = self._file.readline(self._left_bytes if limit < 0 else min(limit, self._left_bytes))
        self._left_bytes -= len(line)
        if self._left_bytes <= 0:
            raise OSError("the request is too long")
        return line

    def close(self) -> None:
        self._file.close()


class _Handler(WSGIRequestHandler):
    """One scrape. Not logged: they come every few seconds."""

    timeout = REQUEST_DEADLINE_SEC

    def setup(self) -> None:
        super().setup()
        self.rfile = _BoundedReader(self.rfile)  # type: ignore[assignment]  # all that the base class calls

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # the client is mute, gone or cut off: its own affair
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class' name)
        return


class BoundedServer(socketserver.ThreadingMixIn, WSGIServer):
    """Serves a WSGI application on threads of its own until ``stop``."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, host: str, port: int, app: Callable[..., Any]) -> None:
        """Listens when this returns; OSError when it cannot."""
        family, _, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]  # fmt: skip
        self.address_family = family
        self._accepted: dict[socket.socket, float] = {}  # and when, monotonic
        self._lock = threading.Lock()
        self._limited_log = RateLimitedLog(_log, LOG_PERIOD_SEC)
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]  # host and port in both families
        self.set_app(app)
        self._thread = threading.Thread(target=self.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Without the base class' question to the resolver for our own name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def stop(self) -> None:
        """Stop listening. Scrapes under way are not waited for."""
        self.shutdown()
        self.server_close()
        self._thread.join(CLOSE_TIMEOUT_SEC)

    def get_request(self) -> tuple[socket.socket, Any]:
        """The next connection. Without a descriptor for it there is a pause, so that the accept is not tried at once
        and for ever."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(ACCEPT_PAUSE_SEC)
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Is there room for one more?"""
        # The kernel gives out the lowest free descriptor, so its number tells how few are left.
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        scarce = limit != resource.RLIM_INFINITY and request.fileno() >= limit - RESERVED_DESCRIPTORS
        with self._lock:
            full = len(self._accepted) >= MAX_CONNECTIONS
            if not full and not scarce:
                self._accepted[request] = time.monotonic()
                return True
        reason = "few descriptors are left" if scarce else f"{MAX_CONNECTIONS} connections are open"
        self._limited_log.log(logging.WARNING, "metrics_refused", client=str(client_address[0]), reason=reason)
        return False

    def shutdown_request(self, request: Any) -> None:
        """At its end, on the connection's own thread; also of one that was refused."""
        with self._lock:
            self._accepted.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that failed in an unexpected way ends alone."""
        self._limited_log.log(logging.WARNING, "metrics_failed", client=str(client_address[0]), exc_info=True)

    def service_actions(self) -> None:
        """Twice a second, on the server's thread: cut off those whose time is over."""
        oldest = time.monotonic() - REQUEST_DEADLINE_SEC
        with self._lock:
            for request, since in self._accepted.items():
                if since < oldest:
                    with contextlib.suppress(OSError):
                        request.shutdown(socket.SHUT_RDWR)


class Endpoint:
    """A ``BoundedServer`` on a host and port: at once, or as soon as it can be. ``why_not`` puts what stands against it
    into the operator's words."""

    def __init__(self, host: str, port: int, app: Callable[..., Any], why_not: Callable[[Exception], str]) -> None:
        """Returns at once; it never fails."""
        self._where = host, port
        self._app = app
        self._why_not = why_not
        self._log = RateLimitedLog(_log, NOT_LISTENING_LOG_SEC)
        self._is_closed = threading.Event()
        self._server: BoundedServer | None = None
        self._waiting: threading.Thread | None = None
        if not self._listen():
            self._waiting = threading.Thread(target=self._wait, name="metrics_wait", daemon=True)
            self._waiting.start()

    @property
    def port(self) -> int:
        """Where it listens; 0: not yet."""
        return self._server.server_port if self._server is not None else 0

    def close(self) -> None:
        """Stop listening. Scrapes under way are not waited for."""
        self._is_closed.set()
        if self._waiting is not None and self._waiting.is_alive():
            self._waiting.join(CLOSE_TIMEOUT_SEC)
        self._stop()

    def _listen(self) -> bool:
        host, port = self._where
        try:
            self._server = BoundedServer(host, port, self._app)
        except (OSError, OverflowError, UnicodeError) as exc:  # the last for what cannot be a name
            reason = self._why_not(exc)
            self._log.log(logging.ERROR, "metrics_not_listening", reason=reason, again_sec=LISTEN_AGAIN_SEC)
            return False
        _log.info(event("metrics_listening", host=host, port=self.port))
        return True

    def _wait(self) -> None:
        while not self._is_closed.wait(LISTEN_AGAIN_SEC):
            if self._listen():
                break
        if self._is_closed.is_set():  # and nobody may wait for this thread any more
            self._stop()

    def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.stop()


def cannot_open(setting: str, port: int, error: Exception) -> str:
    """Why an endpoint on the loopback address does not listen."""
    return f"{setting}={port}: it cannot be opened ({error}); give another port, or 0 for no endpoint"

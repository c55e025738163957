"""Running an HTTP program: uvicorn with the limits that a server on a network needs, and honest exit codes.

What is bounded here: a request's head in bytes and time (``heads``), its body (``auth.Guard``), a WebSocket's pings
(``sockets``), idle connections (15 s), connections in work (MAX_CONNECTIONS, then 503), a stop (5 s), and the lines
that strangers can cause in the log (``Sparing``).

Exit codes: 0 stopped as asked, 1 failed (port taken), 78 the configuration is wrong or would let strangers read.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hk_tick_collector.app.program import EXIT_FAILED, program
from hk_tick_collector.core.text import counted

if TYPE_CHECKING:
    from hk_tick_collector.serve.settings import ServeSettings

MAX_CONNECTIONS = 2000
KEEP_ALIVE_SEC = 15
STOP_SEC = 5
MAX_MESSAGE_BYTES = 65_536  # of a WebSocket's client
BACKLOG = 512
OPEN_FILES = 8192  # as the units allow; a shell often allows 1024 until asked for more
SAYS_AGAIN_SEC = 10.0


def uvicorn_options(settings: ServeSettings, port: int) -> dict[str, Any]:
    """What both programs give ``uvicorn.Config`` beside the application."""
    from hk_tick_collector.serve.heads import BoundedHttp  # noqa: PLC0415 - uvicorn takes its time
    from hk_tick_collector.serve.sockets import BoundedSocket  # noqa: PLC0415

    return {
        "host": settings.api_host,
        "port": port,
        "root_path": settings.api_root_path,
        "proxy_headers": bool(settings.api_trusted_proxies),
        "forwarded_allow_ips": list(settings.api_trusted_proxies),
        "http": BoundedHttp,
        "ws": BoundedSocket,
        "ws_max_size": MAX_MESSAGE_BYTES,
        "ws_per_message_deflate": False,
        "limit_concurrency": MAX_CONNECTIONS,
        "backlog": BACKLOG,
        "timeout_keep_alive": KEEP_ALIVE_SEC,
        "timeout_graceful_shutdown": STOP_SEC,
        "server_header": False,
        "date_header": True,
        "access_log": False,
        "log_config": None,
    }


class Sparing(logging.Filter):
    """Lets what uvicorn says short of an error through once in SAYS_AGAIN_SEC: each stranger's request may cause it."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at_sec: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """By the text before its values are put in, of which uvicorn has a few."""
        if record.levelno > logging.WARNING:
            return True
        now_sec, said_at_sec = time.monotonic(), self._said_at_sec.get(str(record.msg))
        if said_at_sec is not None and now_sec - said_at_sec < SAYS_AGAIN_SEC:
            return False
        self._said_at_sec[str(record.msg)] = now_sec
        return True


def allow_open_files() -> None:
    """As many as all connections need, where the machine lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def serve_program(name: str, about: str, run: Callable[[ServeSettings], int], argv: Sequence[str] | None = None) -> int:
    """The command line of a serving program: settings first, then ``run``, whose ConfigError is exit code 78."""
    return program(name, about, "serve", _load, _check, run, argv)


def _load(env_file: Path | None) -> ServeSettings:
    from hk_tick_collector.serve.settings import load_serve_settings  # noqa: PLC0415 - after --help

    return load_serve_settings(env_file, os.environ)


def _check(settings: ServeSettings) -> str:
    from hk_tick_collector.clickhouse.address import parse_address  # noqa: PLC0415
    from hk_tick_collector.serve.api.older import OlderAt  # noqa: PLC0415
    from hk_tick_collector.serve.keys import KeyRing  # noqa: PLC0415 - after --help
    from hk_tick_collector.serve.settings import check_exposure  # noqa: PLC0415

    check_exposure(settings, KeyRing.open(settings.api_keys_file))
    older = OlderAt.of(settings)
    if older is not None:
        older.password()
    more = f", older days in {parse_address(older.url).shown}" if older is not None else ""
    return f"{settings.api_host}, {counted(len(settings.roots), 'data root')}{more}"


def run_app(
    name: str, app: Any, settings: ServeSettings, port: int, *, tell: Callable[[str], None] = lambda _url: None
) -> int:
    """Listen, say where in one line on standard output, and serve until SIGTERM or SIGINT; the exit code.

    ``tell``: says more about the address, on the lines below.
    """
    import uvicorn  # noqa: PLC0415

    try:
        listening = bind(settings.api_host, port)
    except OSError as exc:
        print(
            f"{name}: port {port} on {settings.api_host} cannot be used ({exc.strerror}): stop what uses it, or choose "
            "another port",
            file=sys.stderr,
        )
        return EXIT_FAILED
    with listening:
        server = uvicorn.Server(uvicorn.Config(app, **uvicorn_options(settings, port)))
        host = f"[{settings.api_host}]" if ":" in settings.api_host else settings.api_host
        listening.listen(BACKLOG)  # what is told is true: who asks at once waits for the application
        url = f"http://{host}:{listening.getsockname()[1]}{settings.api_root_path}"
        print(f"{name}: listening on {url}", flush=True)
        tell(url)
        if settings.is_loopback and not settings.api_anonymous and settings.api_keys_file is None:
            print(
                f"{name}: nobody can read yet: set API_KEYS_FILE and make a key (hk-tickctl keys add NAME), or set "
                "API_ANONYMOUS=1 (hk-tickctl serve --anonymous)",
                flush=True,
            )
        for number in (signal.SIGTERM, signal.SIGINT):  # which uvicorn raises again once it has stopped as asked
            signal.signal(number, lambda *_: None)
        allow_open_files()
        logging.getLogger("uvicorn.error").addFilter(Sparing())
        server.run(sockets=[listening])
    return 0 if server.started else EXIT_FAILED


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens nowhere yet. OSError when the port is taken, or the address not of this machine."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound

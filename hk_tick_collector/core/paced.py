"""httpx clients that nobody can keep waiting by a byte now and then.

httpx bounds each read by itself, and each byte begins that anew. Here the waiting for one answer counts altogether: no
longer than the client's timeout, and a second for each SLOWEST_BYTES_PER_SEC that came. The same holds for what is
sent. What whoever reads does between two pieces does not count. Beyond that it is httpx's own ReadTimeout or
WriteTimeout.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

import httpcore
import httpx

from hk_tick_collector.core.limit import TimeLimit

SLOWEST_BYTES_PER_SEC = 8 * 1024
_PIECE_BYTES = 64 * 1024  # of what is sent, between two looks at the time

_T = TypeVar("_T")


def paced_client(grace_sec: float | None = None, **options: Any) -> httpx.Client:
    """As ``httpx.Client(**options)``. ``grace_sec``: the waiting that is let pass instead of the timeout."""
    client = httpx.Client(**options)
    # httpx has no public way to its connections. One that keeps them elsewhere bounds each read alone, as it did; the
    # tests of this module notice it.
    for transport in (client._transport, *client._mounts.values()):
        pool: Any = getattr(transport, "_pool", None)
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Backend(pool._network_backend, grace_sec)
    return client


class _Waited:
    """The waiting for one answer, or for one question to be taken."""

    def __init__(self, grace_sec: float | None) -> None:
        self._grace_sec = grace_sec
        self.begin()

    def begin(self) -> None:
        """Of the next one."""
        self._waited_sec, self._moved_bytes = 0.0, 0

    def step(
        self, timeout_sec: float | None, late: type[Exception], work: Callable[[float | None], _T], moved: int | None
    ) -> _T:
        """``work`` with the time that it has; ``moved``: the bytes that it sends, None when it reads them."""
        grace_sec = timeout_sec if self._grace_sec is None else self._grace_sec
        most_sec = math.inf if grace_sec is None else grace_sec + self._moved_bytes / SLOWEST_BYTES_PER_SEC
        left_sec = most_sec - self._waited_sec
        if left_sec <= 0:
            raise late(f"too slow: {self._moved_bytes:,} bytes in {self._waited_sec:.0f} s")
        started_sec = time.monotonic()
        bound_sec = min(left_sec, math.inf if timeout_sec is None else timeout_sec)
        done = work(None if bound_sec == math.inf else bound_sec)
        self._waited_sec += time.monotonic() - started_sec
        self._moved_bytes += len(done) if moved is None else moved  # type: ignore[arg-type]
        return done


class _Line(httpcore.NetworkStream):
    """One connection: what is written is a question, what is read then its answer."""

    def __init__(self, stream: httpcore.NetworkStream, grace_sec: float | None) -> None:
        self._stream, self._grace_sec = stream, grace_sec
        self._asking, self._answer = _Waited(grace_sec), _Waited(grace_sec)
        self._is_asking = False

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._is_asking:
            self._is_asking = False
            self._answer.begin()
        return self._answer.step(timeout, httpcore.ReadTimeout, partial(self._stream.read, max_bytes), None)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not self._is_asking:
            self._is_asking = True
            self._asking.begin()
        for start in range(0, len(buffer), _PIECE_BYTES):
            piece = buffer[start : start + _PIECE_BYTES]
            self._asking.step(timeout, httpcore.WriteTimeout, partial(self._stream.write, piece), len(piece))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        if timeout is None:
            return _Line(self._stream.start_tls(ssl_context, server_hostname), self._grace_sec)
        with TimeLimit(timeout) as limit:  # it reads and writes on its own
            limit.watch(self._stream.get_extra_info("socket"))
            try:
                return _Line(self._stream.start_tls(ssl_context, server_hostname, timeout), self._grace_sec)
            except httpcore.ConnectError as exc:
                if not limit.is_over:
                    raise
                raise httpcore.ConnectTimeout(f"no encryption agreed on within {timeout:g} s") from exc

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """httpcore's own, with each connection held to its pace."""

    def __init__(self, backend: httpcore.NetworkBackend, grace_sec: float | None) -> None:
        self._backend, self._grace_sec = backend, grace_sec

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        made = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Line(made, self._grace_sec)

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        return _Line(self._backend.connect_unix_socket(path, timeout, socket_options), self._grace_sec)

    def sleep(self, seconds: float) -> None:
        self._backend.sleep(seconds)

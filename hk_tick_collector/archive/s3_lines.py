"""The connections to a bucket: how long is waited for what.

Each answer has ANSWER_SEC altogether, however often it is asked for and in however small pieces it comes, and a second
for each SLOWEST_BYTES_PER_SEC that came or went. A store that was not heard yet, or fell silent, has FIRST_SEC instead,
and one that was heard has no longer for the next byte, of all tries together: a command that asks it for one thing
after the other says so then, and not after minutes. Who asks within REST_SEC after a silence is told of it at once.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import time
from typing import Any

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from hk_tick_collector.core.limit import TimeLimit, all_current, watch

TIMEOUT_SEC = 35.0  # for a byte; past FIRST_SEC, so that no try after it begins
ANSWER_SEC = 300.0
FIRST_SEC, CONNECT_SEC = 30.0, 10.0
REST_SEC = 30.0
SLOWEST_BYTES_PER_SEC = 8 * 1024
_PIECE_BYTES = 64 * 1024  # of what is sent
_UNSENT_BYTES = 128 * 1024  # that the kernel takes from us before the line does: what it took counts as moved
RETRIES = urllib3.Retry(
    3,
    redirect=0,  # signed requests go where they were meant to
    respect_retry_after_header=False,  # it may say a year
    backoff_factor=0.3,
    status_forcelist=[500, 502, 503, 504],
    allowed_methods=None,
)


class NoAnswer(HTTPError):
    """Within the time that it had. The text continues ``the store``."""


class _Silence(TimeLimit):
    """For the next byte."""


def _moved(moved_bytes: int) -> None:
    """Give whoever asks the time that it may have taken."""
    for limit in all_current():
        if not isinstance(limit, _Silence):
            limit.lengthen(moved_bytes / SLOWEST_BYTES_PER_SEC)
            return
        limit.begin_again()


class _Counted(io.RawIOBase):
    """What comes on a line."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        came_bytes: int | None = self._raw.readinto(buffer)
        if came_bytes:
            _moved(came_bytes)
        return came_bytes

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    def __init__(self, line: socket.socket, *given: Any, **named: Any) -> None:
        super().__init__(line, *given, **named)
        self.fp: Any = io.BufferedReader(_Counted(self.fp.detach()))


class _Watched(HTTPConnection):
    """Held to the time limits of the thread that asks, also while it is opened and when it was kept."""

    response_class = _Answer

    def _new_conn(self) -> socket.socket:
        if any(limit.is_over for limit in all_current()):
            raise NoAnswer  # which is not tried again
        made = super()._new_conn()
        with contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        watch(made)
        return made

    def send(self, data: Any) -> None:
        if not isinstance(data, bytes):
            super().send(data)
            return
        for start in range(0, len(data), _PIECE_BYTES):
            if self.sock is not None:
                self.sock.settimeout(TIMEOUT_SEC)  # and not that of connecting
            piece = memoryview(data)[start : start + _PIECE_BYTES]
            super().send(piece)
            _moved(len(piece))

    def request(self, *given: Any, **named: Any) -> None:
        if self.sock is not None:
            watch(self.sock)
        super().request(*given, **named)


class _WatchedSafe(_Watched, HTTPSConnection):
    """The same, encrypted."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _SafePool(HTTPSConnectionPool):
    ConnectionCls = _WatchedSafe


class Lines(urllib3.PoolManager):
    """One store's. Of one thread."""

    def __init__(
        self, timeout_sec: float = TIMEOUT_SEC, answer_sec: float = ANSWER_SEC, retries: urllib3.Retry | None = None
    ) -> None:
        timeout = urllib3.Timeout(connect=min(CONNECT_SEC, timeout_sec), read=timeout_sec)
        super().__init__(timeout=timeout, retries=RETRIES if retries is None else retries)
        self.pool_classes_by_scheme = {"http": _Pool, "https": _SafePool}
        self._answer_sec = answer_sec
        self._is_heard = False
        self._silent_at_sec: float | None = None

    def urlopen(self, method: str, url: str, redirect: bool = True, **named: Any) -> Any:  # type: ignore[override]
        """As of the base. HTTPError, and NoAnswer."""
        rest_sec = 0.0 if self._silent_at_sec is None else self._silent_at_sec + REST_SEC - time.monotonic()
        if rest_sec > 0:
            raise NoAnswer(f"did not answer before; it is asked again in {rest_sec:.0f} s")
        first_sec = min(FIRST_SEC, self._answer_sec)
        most_sec = self._answer_sec if self._is_heard else first_sec
        with TimeLimit(most_sec) as limit, _Silence(first_sec) as silence:
            try:
                answer = super().urlopen(method, url, redirect, **named)
            except HTTPError:
                self._is_heard = False
                if not (limit.is_over or silence.is_over):
                    raise
        if limit.is_over or silence.is_over:  # what there is of an answer may be a part
            self._is_heard, self._silent_at_sec = False, time.monotonic()
            raise NoAnswer(f"did not answer within {most_sec if limit.is_over else first_sec:.0f} s")
        self._is_heard, self._silent_at_sec = True, None
        return answer

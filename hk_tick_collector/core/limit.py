"""How long a request may take altogether. A socket's own timeout begins anew with each byte that comes: whoever sends
one now and then would hold the thread that asked, and its lock, for hours.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from types import TracebackType

_asking = threading.local()


class TimeLimit:
    """Breaks off what this thread asks by ``Connection`` or ``SafeConnection`` once the time is over::

        with TimeLimit(8.0) as limit:
            response = ask()
            raw = response.read(1000)
        if limit.is_over:   # what was read may be a part, or an error was raised in the middle of it
            ...

    Reading then ends as if the far side had closed the connection. Looking a name up is not broken off.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self.outer: TimeLimit | None = None
        self._ends_sec = time.monotonic() + seconds
        self._is_left = False
        self._line: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = self._timer_of(seconds)

    def _timer_of(self, seconds: float) -> threading.Timer:
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        return timer

    def __enter__(self) -> TimeLimit:
        self.outer = getattr(_asking, "limit", None)
        _asking.limit = self
        self._ends_sec = time.monotonic() + self.seconds
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        _asking.limit = self.outer
        with self._lock:
            self._is_left = True
            self._timer.cancel()
            self._leave()

    def lengthen(self, seconds: float) -> None:
        """It is over so much later."""
        with self._lock:
            self._ends_sec += seconds

    def begin_again(self) -> None:
        """It has all its time from now on."""
        with self._lock:
            self._ends_sec = time.monotonic() + self.seconds

    def watch(self, line: socket.socket) -> None:
        """From now on it is this one. A second handle of it is kept: encryption takes the first one away."""
        with self._lock:
            self._leave()
            self._line = socket.socket(fileno=os.dup(line.fileno()))  # its own ``dup`` is refused once encrypted
            if self.is_over:
                self._break()

    def _end(self) -> None:
        with self._lock:
            if self._is_left:
                return
            left_sec = self._ends_sec - time.monotonic()
            if left_sec > 0:
                self._timer = self._timer_of(left_sec)
                self._timer.start()
                return
            self.is_over = True
            self._break()

    def _break(self) -> None:
        if self._line is not None:
            with contextlib.suppress(OSError):  # it is gone already
                self._line.shutdown(socket.SHUT_RDWR)

    def _leave(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None


def current() -> TimeLimit | None:
    """That of this thread; of several the inner one."""
    limit: TimeLimit | None = getattr(_asking, "limit", None)
    return limit


def all_current() -> Iterator[TimeLimit]:
    """Those of this thread, the inner one first."""
    limit = current()
    while limit is not None:
        yield limit
        limit = limit.outer


def watch(line: socket.socket) -> None:
    """Held to the limits of this thread, if there are any."""
    for limit in all_current():
        limit.watch(line)


class Connection(http.client.HTTPConnection):
    """Within the limit of the thread that makes it, if there is one."""

    def connect(self) -> None:
        """From then on it is watched, also while encryption is agreed on."""
        super().connect()
        watch(self.sock)


class SafeConnection(http.client.HTTPSConnection, Connection):
    """The same, encrypted."""

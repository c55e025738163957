"""Requests to the gateway, on any thread: HTTP and JSON, one connection each.

Owns the pace (50 requests in 5 s), the key of a gateway that is not on this machine, and the waiting after a refusal:
whoever goes on asking after 429 or 451 is shut out for longer, in the end by address. Nothing of a key is ever in a
message. The file of secrets is read for each request, so that a new key needs no restart.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hk_tick_collector.core.backoff import Backoff
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, FeedLost, FeedTimeout, InputError
from hk_tick_collector.core.limit import Connection, SafeConnection, TimeLimit
from hk_tick_collector.sources.remote.asking import AGENT, NO_FILE, REFUSED_WAIT_SEC, Patience, Refused, words_of
from hk_tick_collector.sources.remote.conversation import shown
from hk_tick_collector.sources.secrets import find, read_secrets
from hk_tick_collector.sources.shioaji.spec import REQUESTS, REQUESTS_SEC, SECRETS

ANSWER_SEC = 8.0
MAX_ANSWER_BYTES = 1 << 20
WAIT_SEC, MAX_WAIT_SEC = 60.0, 3600.0  # "a minute's suspension", growing when it comes again
BUSY = (429, 451, 503)


class Pace:
    """So many requests in so many seconds, whoever asks."""

    def __init__(self, requests: int, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._at: deque[float] = deque(maxlen=requests)
        self._seconds = seconds
        self._sleep = sleep
        self._lock = threading.Lock()

    def wait(self, clock: Clock) -> None:
        """Until the next one may go."""
        with self._lock:
            now_sec = clock.monotonic()
            if len(self._at) == self._at.maxlen and now_sec - self._at[0] < self._seconds:
                self._sleep(self._seconds - (now_sec - self._at[0]))
                now_sec = clock.monotonic()
            self._at.append(now_sec)


class NotThere(FeedError):
    """The gateway has nothing of that name (404)."""


class Gateway:
    """``url``: ``http://127.0.0.1:8080``, or https of another machine, which wants the key of ``secrets_file``."""

    def __init__(self, url: str, secrets_file: Path | None, clock: Clock) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._is_https = parts.scheme == "https"
        self._file = secrets_file
        self._clock = clock
        self._pace = Pace(REQUESTS, REQUESTS_SEC)
        self._backoff = Backoff(WAIT_SEC, MAX_WAIT_SEC, jitter=0.0)
        self._lock = threading.Lock()
        self._patience = Patience(clock)

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_sec: float = ANSWER_SEC,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Any:
        """The answer's JSON. FeedTimeout, FeedLost when nobody is there, FeedError with the gateway's words."""
        self._check_wait()
        self._pace.wait(self._clock)
        connection = self._connection(min(timeout_sec, ANSWER_SEC) if body is None else timeout_sec)
        with TimeLimit(timeout_sec) as limit:
            try:
                response = self._send(connection, method, path, body)
                raw = response.read(max_bytes + 1)
            except (OSError, http.client.HTTPException, ValueError) as exc:
                raise _unreached(exc, limit, path, timeout_sec) from None
            finally:
                connection.close()
        if limit.is_over:
            raise _unreached(TimeoutError(), limit, path, timeout_sec)
        if response.status != 200:
            raise self._refused(response.status, response.headers.get("Retry-After"), path, raw)
        self._backoff.reset()
        if len(raw) > max_bytes:
            raise FeedError(f"{path}: the answer is larger than {max_bytes:,} bytes")
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise FeedError(f"{path}: the answer is no JSON; is this a Shioaji gateway?") from None

    def listen(self, path: str, silence_sec: float) -> tuple[socket.socket, http.client.HTTPResponse]:
        """A stream that was begun, and its socket; without a byte for so long, reading it is a TimeoutError."""
        self._check_wait()
        connection = self._connection(ANSWER_SEC)
        with TimeLimit(ANSWER_SEC) as limit, contextlib.ExitStack() as unless_it_works:
            unless_it_works.callback(connection.close)
            try:
                connection.connect()
                line = connection.sock  # the connection lets go of it when the answer has no end
                response = self._send(connection, "GET", path, None)
                raw = response.read(4096) if response.status != 200 else b""
                line.settimeout(silence_sec)
            except (OSError, http.client.HTTPException, ValueError) as exc:
                raise _unreached(exc, limit, path, ANSWER_SEC) from None
            if limit.is_over:
                raise _unreached(TimeoutError(), limit, path, ANSWER_SEC)
            if response.status != 200:
                raise self._refused(response.status, response.headers.get("Retry-After"), path, raw)
            unless_it_works.pop_all()
        return line, response

    def _connection(self, timeout_sec: float) -> http.client.HTTPConnection:
        kind = SafeConnection if self._is_https else Connection
        return kind(self.host, self.port, timeout=timeout_sec)

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Mapping[str, object] | None
    ) -> http.client.HTTPResponse:
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity", **self._authorization()}
        text = None
        if body is not None:
            text, headers["Content-Type"] = json.dumps(body), "application/json"
        connection.request(method, path, text, headers)
        return connection.getresponse()

    def _authorization(self) -> dict[str, str]:
        if self._file is None:
            return {}
        try:
            secrets = read_secrets(find(self._file), SECRETS)
        except InputError as exc:
            raise FeedError(str(exc)) from None
        return {"Authorization": f"Bearer {secrets['api_key']}:{secrets['secret_key']}"}

    def _check_wait(self) -> None:
        with self._lock:
            self._patience.wait(self._secrets_file())

    def _refused(self, status: int, retry_after: str | None, path: str, raw: bytes) -> FeedError:
        words = _message(raw)
        if status == 401:
            refused = Refused(f"the gateway refused the key (401{words})", REFUSED_WAIT_SEC, is_secret=True)
        elif status in BUSY:
            asked_sec = float(retry_after[:6]) if retry_after and re.fullmatch("[0-9]+", retry_after) else 0.0
            wait_sec = min(max(self._backoff.next_sec(), asked_sec), MAX_WAIT_SEC)
            refused = Refused(f"SinoPac wants to be left alone ({status}{words})", wait_sec, is_secret=False)
        else:
            kind = NotThere if status == 404 else FeedError
            return kind(f"{path} was answered with status {status}{words}")
        with self._lock:
            try:
                self._patience.refuse(self._secrets_file(), refused)
            except FeedError as exc:
                return exc

    def _secrets_file(self) -> Path:
        return NO_FILE if self._file is None else find(self._file)


def _unreached(exc: Exception, limit: TimeLimit, path: str, timeout_sec: float) -> FeedError:
    if limit.is_over or isinstance(exc, TimeoutError):
        return FeedTimeout(f"the gateway did not answer {path} in {timeout_sec:g} s")
    return FeedLost(f"the gateway was not reached: {words_of(exc)}")


def _message(raw: bytes) -> str:
    """The gateway's words, to stand behind a status."""
    try:
        answer = json.loads(raw[:4096])
    except (ValueError, RecursionError):
        return ""
    message = answer.get("message") if isinstance(answer, dict) else None
    return f": {shown(message)}" if isinstance(message, str) and message else ""

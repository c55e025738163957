"""Requests to a source's REST interface: JSON objects, bounded in size and time, and secrets that go nowhere else.

Whoever is refused asks no more for a while (``Patience``): too many refusals block an account or an address for hours.
Runs on a thread; waits.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import Any, NoReturn

from hk_tick_collector import __version__
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError
from hk_tick_collector.core.limit import Connection, SafeConnection, TimeLimit
from hk_tick_collector.core.text import cut, printable

REQUEST_TIMEOUT_SEC = 5  # without a byte
REQUEST_SEC = 8.0  # altogether
MAX_ANSWER_BYTES = 65_536
REFUSED_WAIT_SEC = 900
BUSY_WAIT_SEC, MIN_BUSY_WAIT_SEC, MAX_BUSY_WAIT_SEC = 60, 5, 3600
AGENT = f"hk-tick-collector/{__version__}"
SHOWN_CHARS = 120  # of what the far side says
REFUSALS = (400, 401, 403)
BUSY = (429, 503)
NO_FILE = Path(os.devnull)  # whose secret no refusal is about


def words_of(exc: BaseException) -> str:
    """What went wrong with the connection, without the address's query, which may hold a key."""
    if isinstance(exc, urllib.error.URLError) and isinstance(exc.reason, BaseException):
        exc = exc.reason
    if isinstance(exc, IncompleteRead):
        return "it ended in the middle of an answer"
    text = printable(cut(str(exc).partition("?")[0], SHOWN_CHARS))
    return text or type(exc).__name__


def busy_wait_sec(retry_after: str) -> int:
    """How long whoever is busy is left alone, as it asks itself, within bounds."""
    wait_sec = int(retry_after[:6]) if retry_after.isascii() and retry_after.isdigit() else BUSY_WAIT_SEC
    return min(max(wait_sec, MIN_BUSY_WAIT_SEC), MAX_BUSY_WAIT_SEC)


class Refused(Exception):
    """It would not help to ask again at once."""

    def __init__(self, text: str, wait_sec: float, *, is_secret: bool) -> None:
        super().__init__(text)
        self.wait_sec = wait_sec
        self.is_secret = is_secret  # another secret may be taken at once


class Rest:
    """One REST interface. ``title``: whose it is; ``setting``: which names its address."""

    def __init__(self, address: str, title: str, setting: str) -> None:
        self._address = address.rstrip("/")
        self._title = title
        self._setting = setting

    def ask(
        self, path: str, headers: Mapping[str, str], body: bytes | None = None, *, credential: str = "the access token"
    ) -> dict[str, Any]:
        """The answer's object. FeedError, and Refused for what asking again would not change: ``credential`` was
        refused. ``path`` may have a query, which no error repeats."""
        shown = path.partition("?")[0]
        request = urllib.request.Request(  # noqa: S310 - the settings let only https in, and http to this machine
            self._address + path, data=body, headers={**headers, "User-Agent": AGENT, "Accept": "application/json"}
        )
        with TimeLimit(REQUEST_SEC) as limit:
            try:
                with _OPENER.open(request, timeout=REQUEST_TIMEOUT_SEC) as response:
                    raw = response.read(MAX_ANSWER_BYTES + 1)
            except urllib.error.HTTPError as exc:
                with exc:
                    raise self._of_status(exc.code, exc.headers, shown, credential) from None
            except (OSError, ValueError, HTTPException) as exc:
                why = f" within {REQUEST_SEC:g} s" if limit.is_over else f": {words_of(exc)}"
                raise FeedError(f"{shown} was not answered{why}") from None
        if limit.is_over:
            raise FeedError(f"{shown} was not answered within {REQUEST_SEC:g} s")
        try:
            answer = json.loads(raw) if len(raw) <= MAX_ANSWER_BYTES else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise FeedError(f"{shown}: the answer is no JSON object; is {self._setting} right?")
        return answer

    def _of_status(self, status: int, headers: Message, path: str, credential: str) -> Exception:
        if status in REFUSALS:
            return Refused(f"{self._title} refused {credential} ({status})", REFUSED_WAIT_SEC, is_secret=True)
        if status in BUSY:
            wait_sec = busy_wait_sec(headers.get("Retry-After", ""))
            return Refused(f"{self._title} wants to be left alone ({status})", wait_sec, is_secret=False)
        return FeedError(f"{path} was answered with status {status}")


class Patience:
    """When may be asked again, and why not before. Guarded by its owner's lock::

    patience.wait(secrets_file)             # FeedError while it is too early
    try:
        answer = rest.ask("/oauth/token", ...)
    except Refused as exc:
        patience.refuse(secrets_file, exc)  # FeedError: until when
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._not_before = 0.0  # monotonic
        self._why_not = ""
        self._refused_file: tuple[int, int] | None = None

    def wait(self, path: Path) -> None:
        """FeedError when it is too early, unless the file that was refused has changed since."""
        now_sec = self._clock.monotonic()
        if now_sec >= self._not_before or (self._refused_file is not None and stamp(path) != self._refused_file):
            return
        raise self._later(self._not_before - now_sec)

    def refuse(self, path: Path, exc: Refused) -> NoReturn:
        """Raises FeedError."""
        self._why_not = str(exc)
        self._not_before = self._clock.monotonic() + exc.wait_sec
        self._refused_file = stamp(path) if exc.is_secret else None
        raise self._later(exc.wait_sec)

    def _later(self, wait_sec: float) -> FeedError:
        until = datetime.fromtimestamp(self._clock.now_ms() / 1000 + wait_sec, UTC)
        return FeedError(f"{self._why_not}; not asked again before {until:%H:%M:%S} UTC")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A secret goes to the address of the settings and nowhere else."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


class _Http(urllib.request.HTTPHandler):
    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(Connection, request)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(SafeConnection, request)


_OPENER = urllib.request.build_opener(_NoRedirect, _Http, _Https)


def is_token(value: Any) -> bool:
    """Can it stand in a header?"""
    return isinstance(value, str) and 0 < len(value) <= 8192 and value.isascii() and value.isprintable()


def stamp(path: Path) -> tuple[int, int] | None:
    """Another one when the file has changed; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns

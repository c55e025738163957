"""How a connection gets its address and its token: from TastyTrade by OAuth, or as the settings say.

Owns both tokens over connections, so that a reconnect costs no login: the access token of the REST interface (15
minutes) and the quote token (a day). Too many refused logins block the caller's address for hours: after a refusal
nothing is asked until the file of secrets has changed or REFUSED_WAIT_SEC have passed. Runs on a thread; waits.
"""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol

from hk_tick_collector import __version__
from hk_tick_collector.core.clock import Clock
from hk_tick_collector.core.errors import FeedError, InputError
from hk_tick_collector.core.text import cut, printable
from hk_tick_collector.sources.addresses import url_problem
from hk_tick_collector.sources.secrets import find, read_secrets

REQUEST_TIMEOUT_SEC = 5
MAX_ANSWER_BYTES = 65_536
ACCESS_SEC = 900  # where the answer does not say
QUOTE_SEC = 86_400
EARLY_SEC = 60  # a token is no longer used so long before it ends
REFUSED_WAIT_SEC = 900
BUSY_WAIT_SEC, MIN_BUSY_WAIT_SEC, MAX_BUSY_WAIT_SEC = 60, 5, 3600
SECRETS = (("client_secret", "refresh_token"), ("token",))
AGENT = f"hk-tick-collector/{__version__}"


class Access(NamedTuple):
    """Where to connect and what to say there."""

    url: str
    token: str | None  # None: the endpoint wants none
    until_sec: float  # monotonic; infinite for one that does not end


class Tokens(Protocol):
    """Gives access; a test's own::

    class Open:
        def get(self, *, fresh=False):
            return Access("ws://127.0.0.1:4000", "anything", math.inf)

        def refused(self):
            pass
    """

    def get(self, *, fresh: bool = False) -> Access:
        """A token that is good for a while; ``fresh``: one that was just made. FeedError says why there is none, and
        until when not to ask."""

    def refused(self) -> None:
        """The endpoint did not take what ``get`` gave: the next one is fetched anew."""


class FixedTokens:
    """``DXLINK_URL``: an address that is known, with the ``token`` of the file of secrets if there is one."""

    def __init__(self, url: str, secrets_file: Path | None) -> None:
        self._url = url
        self._file = secrets_file

    def get(self, *, fresh: bool = False) -> Access:
        """As it is written at this moment."""
        if self._file is None:
            return Access(self._url, None, float("inf"))
        secrets = _secrets(find(self._file))
        if "token" not in secrets:
            raise FeedError(f"{self._file} has no token, which DXLINK_URL needs")
        return Access(self._url, secrets["token"], float("inf"))

    def refused(self) -> None:
        """The file is read again for the next connection."""


class TastyTokens:
    """TastyTrade's REST interface: a refresh token buys an access token, and that a quote token with an address."""

    def __init__(self, api: str, secrets_file: Path, clock: Clock) -> None:
        self._api = api.rstrip("/")
        self._file = secrets_file
        self._clock = clock
        self._lock = threading.Lock()  # of two threads of two connections, one asks
        self._access: tuple[str, float] | None = None
        self._quote: Access | None = None
        self._not_before = 0.0  # monotonic: when may be asked again
        self._why_not = ""
        self._refused_file: tuple[int, int] | None = None

    def get(self, *, fresh: bool = False) -> Access:
        """The present quote token, or a new one. A fresh one that cannot be had leaves the present one as it is."""
        with self._lock:
            now_sec = self._clock.monotonic()
            if not fresh and self._quote is not None and now_sec < self._quote.until_sec - EARLY_SEC:
                return self._quote
            path = find(self._file)
            self._wait(path, now_sec)
            try:
                self._quote = self._new_quote(path)
            except _Refused as exc:
                self._refuse(path, exc)
            return self._quote

    def refused(self) -> None:
        """Fetched anew, access token and all."""
        with self._lock:
            self._quote = self._access = None

    def _wait(self, path: Path, now_sec: float) -> None:
        if now_sec >= self._not_before or (self._refused_file is not None and _stamp(path) != self._refused_file):
            return
        raise self._later(self._not_before - now_sec)

    def _later(self, wait_sec: float) -> FeedError:
        until = datetime.fromtimestamp(self._clock.now_ms() / 1000 + wait_sec, UTC)
        return FeedError(f"{self._why_not}; not asked again before {until:%H:%M:%S} UTC")

    def _refuse(self, path: Path, exc: _Refused) -> NoReturn:
        """Raises FeedError."""
        self._access = None
        self._why_not = str(exc)
        self._not_before = self._clock.monotonic() + exc.wait_sec
        self._refused_file = _stamp(path) if exc.is_secret else None
        raise self._later(exc.wait_sec)

    def _new_quote(self, path: Path) -> Access:
        try:
            answer = self._ask_quote(path)
        except _Refused as exc:
            if self._access is None or not exc.is_secret:  # it was made for this question, or we are to wait
                raise
            self._access = None
            answer = self._ask_quote(path)
        data = answer.get("data")
        data = data if isinstance(data, dict) else {}
        token, url = data.get("token"), data.get("dxlink-url")
        if not _is_token(token) or not isinstance(url, str):
            raise FeedError("TastyTrade's answer has no quote token: has the account been opened?")
        problem = url_problem(url, "wss")
        if problem:
            raise FeedError(f"TastyTrade's dxlink-url {problem}")
        return Access(url, str(token), self._clock.monotonic() + QUOTE_SEC)

    def _ask_quote(self, path: Path) -> dict[str, Any]:
        access = self._access
        if access is None or self._clock.monotonic() >= access[1] - EARLY_SEC:
            self._access = None
            access = self._new_access(path)
        answer = self._ask("/api-quote-tokens", {"Authorization": f"Bearer {access[0]}"})
        self._access = access
        return answer

    def _new_access(self, path: Path) -> tuple[str, float]:
        secrets = _secrets(path)
        if "refresh_token" not in secrets:
            raise FeedError(f"{path} has a token and no refresh_token: it goes with DXLINK_URL")
        body = {"grant_type": "refresh_token", **{name: secrets[name] for name in ("client_secret", "refresh_token")}}
        answer = self._ask("/oauth/token", {"Content-Type": "application/json"}, json.dumps(body).encode())
        token, lasts_sec = answer.get("access_token"), answer.get("expires_in", ACCESS_SEC)
        if not _is_token(token):
            raise FeedError("TastyTrade's answer has no access token")
        lasts_sec = lasts_sec if type(lasts_sec) is int and 0 < lasts_sec < QUOTE_SEC else ACCESS_SEC
        return str(token), self._clock.monotonic() + lasts_sec

    def _ask(self, path: str, headers: Mapping[str, str], body: bytes | None = None) -> dict[str, Any]:
        """The answer's object. FeedError, and _Refused for what asking again would not change."""
        request = urllib.request.Request(  # noqa: S310 - the settings let only https in, and http to this machine
            self._api + path, data=body, headers={**headers, "User-Agent": AGENT, "Accept": "application/json"}
        )
        try:
            with _OPENER.open(request, timeout=REQUEST_TIMEOUT_SEC) as response:
                raw = response.read(MAX_ANSWER_BYTES + 1)
        except urllib.error.HTTPError as exc:
            with exc:
                raise _of_status(exc.code, exc.headers, path) from None
        except (OSError, ValueError, HTTPException) as exc:
            raise FeedError(f"{path} was not answered: {printable(cut(str(exc), 120))}") from None
        try:
            answer = json.loads(raw) if len(raw) <= MAX_ANSWER_BYTES else None
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise FeedError(f"{path}: the answer is no JSON object; is DXLINK_API right?")
        return answer


class _Refused(Exception):
    def __init__(self, text: str, wait_sec: float, *, is_secret: bool) -> None:
        super().__init__(text)
        self.wait_sec = wait_sec
        self.is_secret = is_secret  # another secret may be taken at once


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A secret goes to the address of the settings and nowhere else."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _of_status(status: int, headers: Message, path: str) -> Exception:
    if status in (400, 401, 403):
        what = "the refresh token or the client secret" if path == "/oauth/token" else "the access token"
        return _Refused(f"TastyTrade refused {what} ({status})", REFUSED_WAIT_SEC, is_secret=True)
    if status in (429, 503):
        text = headers.get("Retry-After", "")
        wait_sec = int(text[:6]) if text.isascii() and text.isdigit() else BUSY_WAIT_SEC
        return _Refused(
            f"TastyTrade wants to be left alone ({status})",
            min(max(wait_sec, MIN_BUSY_WAIT_SEC), MAX_BUSY_WAIT_SEC),
            is_secret=False,
        )
    return FeedError(f"{path} was answered with status {status}")


def _is_token(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 8192 and value.isascii() and value.isprintable()


def _secrets(path: Path) -> dict[str, str]:
    try:
        return read_secrets(path, SECRETS)
    except InputError as exc:
        raise FeedError(str(exc)) from None


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns

"""One ClickHouse over its HTTP interface.

Answers are bounded, user and password go out in headers alone and to the one server that was named: redirects are not
followed. What goes wrong is one of two things: ``EngineAway`` (later it may work: no connection, too slow, a full disk)
or ``EngineRefused`` (somebody has to do something: no such table, wrong password, no rights).

Who reads many days in one question asks one thing after the other, and would wait for a silent server as often. So with
``rest_sec`` one that gave no answer is not asked at all for so long, and then with PROBE_SEC of patience until it
answers again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from hk_tick_collector.clickhouse.address import Address
from hk_tick_collector.core.errors import ConfigError, CopiesUnavailable, RecorderError
from hk_tick_collector.core.paced import paced_client
from hk_tick_collector.core.text import printable

TIMEOUT_SEC = 60.0
CONNECT_SEC = 5.0
REST_SEC = 30.0  # of readers
PROBE_SEC = 2.0
_ANSWER_BYTES = 64 << 20  # of an answer that is read whole
_TOLD_CHARS = 300
# Codes that time alone does not heal, with what to do. Others are asked again.
UNKNOWN_TABLE = 60
_CURES = {
    16: "a column is missing: hk-tickctl ship init",
    27: "the tables are of another kind: hk-tickctl ship init",
    47: "the tables are of another kind: hk-tickctl ship init",
    53: "the tables are of another kind: hk-tickctl ship init",
    UNKNOWN_TABLE: "make the tables: hk-tickctl ship init",
    62: "this version does not speak to that server; report it with its words",
    81: "make the database: hk-tickctl ship init",
    164: "the user may only read: give it INSERT, SELECT and ALTER on the database",
    192: "there is no such user: set SHIP_USER",
    193: "the password is wrong: write the right one to SHIP_PASSWORD_FILE",
    194: "a password is needed: write it to SHIP_PASSWORD_FILE",
    497: "the user lacks a right: give it INSERT, SELECT and ALTER on the database",
    516: "user or password is wrong: they come from SHIP_USER and SHIP_PASSWORD_FILE; those of a clickhouse:// address "
    "from it and HK_CLICKHOUSE_PASSWORD, those of the API from API_CLICKHOUSE_URL and API_CLICKHOUSE_PASSWORD_FILE",
}
_AWAY_CURES = {
    242: "its tables are read-only, as when Keeper is away",
    243: "its disk is full: free space there",
    252: "too many parts: it merges slower than it is given",
}


class EngineAway(CopiesUnavailable):
    """It cannot answer now; ask again later. The text says why."""


class EngineLost(EngineAway):
    """It gave no answer, and whoever asks on waits as long again. Without ``was_reached`` nobody was there, whatever
    was asked; else it fell silent over this question, or broke off."""

    def __init__(self, text: str, *, was_reached: bool) -> None:
        super().__init__(text)
        self.was_reached = was_reached


class EngineRefused(CopiesUnavailable):
    """It will not, until somebody does something; the text says what. ``code`` is ClickHouse's, 0 without one."""

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code


class ClickHouse:
    """One server and database, with kept connections. Threads may share it. A context manager.

    ConfigError when user or password cannot go out in a header.
    """

    def __init__(
        self,
        address: Address,
        password: str = "",
        *,
        timeout_sec: float = TIMEOUT_SEC,
        rest_sec: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        _check_sendable("user", address.user)
        _check_sendable("password", password)
        self.address = address
        self._timeout_sec, self._rest_sec, self._monotonic = timeout_sec, rest_sec, monotonic
        self._lost: EngineLost | None = None  # the last answer that did not come, until one comes
        self._rests_until_sec = float("-inf")
        headers = {"X-ClickHouse-User": address.user, "X-ClickHouse-Key": password}
        self._http = paced_client(
            base_url=address.url,
            headers=headers,
            trust_env=False,  # a proxy of the environment would be given the password
            verify=not address.url.startswith("http://"),  # certificates take 50 ms of work to read, and HTTP has none
        )

    @property
    def database(self) -> str:
        """The database; a plain word."""
        return self.address.database

    def __enter__(self) -> ClickHouse:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def run(self, sql: str, **settings: str | int) -> bytes:
        """Carry out one statement; the answer whole. EngineAway, EngineRefused."""
        with self._asked({"content": sql.encode(), "params": _texts(settings)}) as response:
            parts, size = [], 0
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > _ANSWER_BYTES:
                    raise EngineRefused(f"{self.address.shown} answers with more than {_ANSWER_BYTES >> 20} MiB")
            return b"".join(parts)

    def rows(self, sql: str, **settings: str | int) -> list[list[Any]]:
        """The rows of a SELECT. 64-bit numbers come whole."""
        settings = {"output_format_json_quote_64bit_integers": 0, **settings}
        answer = self.run(f"{sql}\nFORMAT JSONCompactEachRow", **settings)
        try:
            return [json.loads(line) for line in answer.splitlines() if line]
        except ValueError:
            raise EngineAway(f"{self.address.shown} does not answer as a ClickHouse does: {_told(answer)}") from None

    def insert(self, table: str, body: bytes, *, token: str = "") -> None:
        """Store an Arrow stream; durable when this returns. With ``token`` the same insert counts once."""
        settings: dict[str, str | int] = {
            "query": f"INSERT INTO {self.database}.{table} FORMAT ArrowStream",  # our own names
            "async_insert": 0,  # the server's default says yes before it has anything
            "max_partitions_per_insert_block": 1000,
        }
        settings.update({"insert_deduplication_token": token} if token else {"insert_deduplicate": 0})
        with self._asked({"content": body, "params": _texts(settings)}) as response:
            response.read()

    @contextmanager
    def stream(self, sql: str, **settings: str | int) -> Iterator[Iterator[bytes]]:
        """The answer to a SELECT as it comes."""
        with self._asked({"content": sql.encode(), "params": _texts(settings)}) as response:
            yield self._parts(response)

    def _parts(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_bytes()
        except httpx.HTTPError as exc:
            raise self._silent(f"{self.address.shown} broke off: {_reason(exc)}", was_reached=True) from exc

    @contextmanager
    def _asked(self, request: Mapping[str, Any]) -> Iterator[httpx.Response]:
        left_sec = self._rests_until_sec - self._monotonic()
        if self._lost is not None and left_sec > 0:
            text = f"{self._lost}; it is asked again in {left_sec:.0f} s"
            raise EngineLost(text, was_reached=self._lost.was_reached)
        patience_sec = PROBE_SEC if self._lost is not None and self._rest_sec else self._timeout_sec
        timeout = httpx.Timeout(patience_sec, connect=min(patience_sec, CONNECT_SEC))
        try:
            with self._http.stream("POST", "/", timeout=timeout, **request) as response:
                self._lost = None
                if response.status_code != httpx.codes.OK:
                    raise self._refusal(response)
                yield response
        except httpx.HTTPError as exc:
            was_reached = not isinstance(exc, (httpx.ConnectError, httpx.ConnectTimeout))
            cure = "" if was_reached else "; is ClickHouse running there, and is that its HTTP port (8123 as a rule)?"
            text = f"{self.address.shown} does not answer: {_reason(exc)}{cure}"
            raise self._silent(text, was_reached=was_reached) from exc

    def _silent(self, text: str, *, was_reached: bool) -> EngineLost:
        lost = EngineLost(text, was_reached=was_reached)
        if self._rest_sec:
            self._lost, self._rests_until_sec = lost, self._monotonic() + self._rest_sec
        return lost

    def _refusal(self, response: httpx.Response) -> RecorderError:
        head = next(response.iter_bytes(10_000), b"")
        text = response.headers.get("X-ClickHouse-Exception-Code", "")
        code = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
        told = _told(head) or f"HTTP {response.status_code}"
        if (cure := _CURES.get(code) or _AWAY_CURES.get(code)) is not None:
            told = f"{cure}. It said: {told}"
        refusal = f"{self.address.shown}: {told}"
        if code in _CURES:
            return EngineRefused(refusal, code)
        if code or response.status_code >= 500 or response.status_code == 429:
            return EngineAway(refusal)
        return EngineRefused(f"{refusal}; is this a ClickHouse's HTTP interface?", code)


def _texts(settings: Mapping[str, str | int]) -> dict[str, str]:
    return {key: str(value) for key, value in settings.items()}


def _check_sendable(word: str, text: str) -> None:
    """The sentence names no value: it may be a password in the wrong place."""
    if not (text.isascii() and text.isprintable() and text == text.strip()):
        raise ConfigError(
            f"the {word} for ClickHouse holds signs that no header can carry: plain ASCII only, on one line, without "
            "a blank at either end"
        )


def _reason(exc: httpx.HTTPError) -> str:
    if isinstance(exc, httpx.LocalProtocolError):  # its text repeats the header that it is about
        return "the request cannot be sent as it is"
    return printable(str(exc))[:_TOLD_CHARS] or type(exc).__name__


def _told(answer: bytes) -> str:
    """The first line of what it said, safe for a log. A statement that it repeats is long, and nobody's news."""
    line = answer.decode("utf-8", "replace").strip().partition("\n")[0]
    return printable(line.partition(": While executing")[0])[:_TOLD_CHARS]

"""Recordings on a server (``hk-tick-api``): a ``Backend`` over HTTP.

Rows come as an Arrow stream, packed, with their coverage in its schema, and are the rows that the files hold. A stream
that ends before its end is an error (ServerError), never a shorter table. What failed before the first row, and may
work later (no connection, 429, 503), is asked again: a few times, with pauses that grow and differ, or as long as the
server says (``Retry-After``).

The key goes out in a header alone, and only to the server that was named: redirects are not followed.
"""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hk_tick_collector.client import errors
from hk_tick_collector.client.answer import Answer
from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.coverage import KEY, Coverage, DayInfo
from hk_tick_collector.client.question import (
    ALL,
    BROKERS,
    BarQuestion,
    BookQuestion,
    SnapshotQuestion,
    Stretch,
    Texts,
    TickQuestion,
)
from hk_tick_collector.core.extras import how_to_install
from hk_tick_collector.core.pieces import Pieces

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

TRIES = 5
FIRST_PAUSE_SEC, MAX_PAUSE_SEC = 0.25, 20.0
TIMEOUT_SEC = 120.0
GRACE_SEC = 3600.0  # of waiting for one answer altogether: it comes as it is computed
AGAIN = (429, 502, 503)
_ERROR_BYTES = 100_000  # of a refusal that are read
_KINDS: dict[str, type[errors.RecordingsError]] = {
    kind.slug: kind
    for kind in (
        errors.BadQuestion,
        errors.NoData,
        errors.UnknownSymbol,
        errors.NotProven,
        errors.DayPacked,
        errors.Damaged,
        errors.Unreadable,
        errors.Busy,
    )
}


def connect(url: str, key: str | None = None, **options: Any) -> Recordings:
    """Recordings on the server at ``url``. ``options``: as of ``Server``."""
    return Recordings(Server(url, key, **options))


class Server:
    """One server. ``tries``: how often a question is asked before it fails; ``timeout_sec``: longest silence."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        tries: int = TRIES,
        timeout_sec: float = TIMEOUT_SEC,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = _library("httpx")
        if not url.startswith(("http://", "https://")):
            raise errors.BadQuestion(f"{url!r} is not the address of a server", "write http://127.0.0.1:8877")
        self.url = url.rstrip("/")
        self.key = key
        self._tries = max(1, tries)
        self._sleep = sleep
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client: httpx.Client = import_module("hk_tick_collector.core.paced").paced_client(
            GRACE_SEC, base_url=self.url, headers=headers, timeout=timeout_sec,
            verify=not self.url.startswith("http://"),  # certificates take 50 ms of work to read, and HTTP has none
        )  # fmt: skip

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ticks(self, question: TickQuestion) -> Answer:
        """As ``Backend.ticks``."""
        asked = {**_asked(question.stretch), "fields": ",".join(question.columns), "types": ",".join(question.types)}
        return self._rows("/v1/ticks", asked)

    def bars(self, question: BarQuestion) -> Answer:
        """As ``Backend.bars``."""
        asked = {
            **_asked(question.stretch),
            "interval": question.interval,
            "fill": "session" if question.fill else "none",
            "auctions": question.auctions,
            "odd_lots": question.odd_lots,
            "off_exchange": question.off_exchange,
        }
        bars = self._rows("/v1/bars", asked)
        from hk_tick_collector.query.bars import BARS  # noqa: PLC0415 - Arrow takes its time

        return Answer(BARS, bars.coverage, (batch.select(BARS.names) for batch in bars.batches))

    def books(self, question: BookQuestion) -> Answer:
        """As ``Backend.books``."""
        if question.form == BROKERS:
            return self._rows("/v1/brokers", _asked(question.stretch))
        asked = {**_asked(question.stretch), "form": question.form, "depth": question.depth}
        return self._rows("/v1/books", asked)

    def snapshots(self, question: SnapshotQuestion) -> Answer:
        """As ``Backend.snapshots``."""
        asked = {**_asked(question.stretch), "every": question.every, "bodies": question.bodies}
        if question.series:
            asked["series"] = ",".join(question.series)
        return self._rows("/v1/snapshots", asked)

    def coverage(self, stretch: Stretch) -> Coverage:
        """As ``Backend.coverage``."""
        return Coverage.from_dicts(self._json("/v1/coverage", _asked(stretch))["data"])

    def days(self) -> list[DayInfo]:
        """As ``Backend.days``."""
        return [DayInfo.of(row) for row in self._json("/v1/recorded")["data"]]

    def certificate(self, day: str) -> dict[str, Any]:
        """As ``Backend.certificate``, with the name of the file for its path."""
        certificate: dict[str, Any] = self._json(f"/v1/days/{day}/certificate")
        return certificate

    def live(self, symbols: Texts, **options: Any) -> Any:
        """As ``Backend.live``."""
        return import_module("hk_tick_collector.client.live_remote").connect(self.url, self.key, symbols, **options)

    def _rows(self, path: str, asked: Mapping[str, Any]) -> Answer:
        """An Arrow stream whose schema has come."""
        pa = _library("pyarrow")
        response = self._begun("POST", path, {**asked, "format": "arrow"})
        try:
            reader = pa.ipc.open_stream(pa.PythonFile(Pieces(response.iter_bytes()), mode="r"))
        except (pa.ArrowException, OSError, self._http.HTTPError) as exc:
            response.close()
            raise _broken(exc) from exc
        metadata = reader.schema.metadata or {}
        coverage = Coverage.from_dicts(json.loads(metadata.get(KEY, b"[]")))
        return Answer(reader.schema.remove_metadata(), coverage, self._batches(reader, response))

    def _batches(self, reader: Any, response: httpx.Response) -> Iterator[pa.RecordBatch]:
        pa = _library("pyarrow")
        schema = reader.schema.remove_metadata()
        with contextlib.closing(response):
            try:
                for batch in reader:
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)
            except (pa.ArrowException, OSError, self._http.HTTPError) as exc:
                raise _broken(exc) from exc

    def _json(self, path: str, asked: Mapping[str, Any] | None = None) -> Any:
        response = self._begun("GET", path, asked)
        with contextlib.closing(response):
            try:
                return json.loads(response.read())
            except (self._http.HTTPError, ValueError, RecursionError) as exc:
                raise _broken(exc) from exc

    def _begun(self, method: str, path: str, asked: Mapping[str, Any] | None) -> httpx.Response:
        """A response whose head says that all is well; asked for again while it may become so."""
        pause_sec = FIRST_PAUSE_SEC
        for turn in range(1, self._tries + 1):
            try:
                response = self._client.send(self._request(method, path, asked), stream=True)
            except self._http.HTTPError as exc:
                error: errors.RecordingsError = errors.ServerError(
                    f"{self.url} does not answer: {str(exc) or type(exc).__name__}", "is hk-tick-api running there?"
                )
                wait_sec = 0.0
            else:
                if response.status_code == 200:
                    return response
                error, wait_sec = _refused(response)
                if response.status_code not in AGAIN:
                    raise error
            if turn == self._tries:
                raise error
            self._sleep(min(MAX_PAUSE_SEC, max(wait_sec, random.uniform(pause_sec / 2, pause_sec))))
            pause_sec *= 2
        raise AssertionError("the last turn raises")

    def _request(self, method: str, path: str, asked: Mapping[str, Any] | None) -> httpx.Request:
        if method == "POST":
            return self._client.build_request(method, path, json=asked)
        return self._client.build_request(method, path, params=asked)


def _asked(stretch: Stretch) -> dict[str, Any]:
    """As the server's parameters."""
    asked = {
        "symbols": ",".join(stretch.symbols) or ALL,
        "day": stretch.days,
        "start": None if stretch.start is None else str(stretch.start),
        "end": None if stretch.end is None else str(stretch.end),
        "as_of": stretch.as_of_ms,
        "require": "proven" if stretch.proven else None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _refused(response: httpx.Response) -> tuple[errors.RecordingsError, float]:
    """The error of a problem document, and how long to wait."""
    with contextlib.closing(response):
        content = b""
        for piece in response.iter_bytes():
            content += piece
            if len(content) > _ERROR_BYTES:
                break
    try:
        problem = json.loads(content)
        slug, (text, hint) = str(problem["type"]).rpartition("/")[2], _told(problem)
    except (ValueError, KeyError, TypeError, RecursionError):
        slug, text, hint = "", f"the server answered {response.status_code}", "is it hk-tick-api?"
    after = response.headers.get("retry-after", "")
    kind = _KINDS.get(slug)
    error = kind(text, hint) if kind is not None else errors.ServerError(text, hint, status=response.status_code)
    return error, float(after) if after.isdigit() else 0.0


def _told(problem: Mapping[str, Any]) -> tuple[str, str]:
    """What happened and what to do. Of parameters what is wrong with each: the rest is about HTTP."""
    if problem.get("errors"):
        return "; ".join(f"{wrong['field']}: {wrong['message']}" for wrong in problem["errors"]), ""
    return str(problem["detail"]), str(problem["hint"]).replace("GET /v1/days lists", "hk.days() lists")


def _broken(exc: BaseException) -> errors.ServerError:
    return errors.ServerError(f"the answer ended in its middle: {str(exc) or type(exc).__name__}", "ask again")


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as exc:
        raise errors.RecordingsError(f"the package {name} is missing", how_to_install("client")) from exc

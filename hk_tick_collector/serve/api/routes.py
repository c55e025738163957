"""The routes of the API, one function each; the texts here are its documents."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Depends, HTTPException, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import FileResponse, Response

from hk_tick_collector.serve.api import facts, models
from hk_tick_collector.serve.api.metrics import MEDIA_TYPE
from hk_tick_collector.serve.api.roots import bad
from hk_tick_collector.serve.api.service import Admitted, Service, in_thread
from hk_tick_collector.serve.names import NameTwice, unique
from hk_tick_collector.serve.problems import FieldError, Problem

EXPOSED_HEADERS = [
    "HK-As-Of",
    "HK-Coverage",
    "HK-Next",
    "HK-Truncated",
    "HK-Warnings",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "ETag",
]
FORMATS = {
    "application/json": "json",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
    "text/csv": "csv",
    "application/vnd.apache.arrow.stream": "arrow",
    "application/vnd.apache.parquet": "parquet",
}
_NO_STORE = {"Cache-Control": "no-store"}


class _Request(Request):
    """One whose body says each thing once."""

    async def json(self) -> Any:
        """As of Request. HTTPException 400 when an object has a name twice."""
        try:
            return json.loads(await self.body(), object_pairs_hook=unique)
        except NameTwice as exc:
            raise HTTPException(400, FieldError(exc.name, "is given twice")) from exc


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As of APIRoute."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handle_strictly


router = APIRouter(route_class=_Route)
Nothing = Annotated[models.Nothing, Query()]


def service_of(request: Request) -> Service:
    """What ``create_app`` put together."""
    service: Service = request.app.state.service
    return service


async def admitted(request: Request) -> Admitted:  # not on a thread: it only counts
    """Whoever may read."""
    return _admit(request, "read")


async def admitted_to_mute(request: Request) -> Admitted:
    """Whoever may silence alerts: by a key in the header, for the dashboard's cookie only reads."""
    return _admit(request, "mute")


async def admitted_to_restart(request: Request) -> Admitted:
    """Whoever may restart a feed: by a key in the header, for the dashboard's cookie only reads."""
    return _admit(request, "restart")


async def admitted_to_sql(request: Request) -> Admitted:
    """Whoever may ask in SQL."""
    return _admit(request, "sql")


def _admit(request: Request, scope: str) -> Admitted:
    """Who asks, and nothing that would be passed over: of a parameter that is given twice only the last would count, of
    one in the address of a POST nothing."""
    reader = service_of(request).admit(request, scope)
    names = [name for name, _ in request.query_params.multi_items()]
    if request.method == "POST" and names:
        raise bad(names[0][:40], "belongs into the body: the address of a POST has no parameters")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise bad(twice[:40], "is given twice; several values are separated by commas")
    return reader


Reader = Annotated[Admitted, Depends(admitted)]
Muter = Annotated[Admitted, Depends(admitted_to_mute)]
Restarter = Annotated[Admitted, Depends(admitted_to_restart)]
Asker = Annotated[Admitted, Depends(admitted_to_sql)]


def format_of(request: Request, given: str | None) -> str:
    """The format asked for: the parameter, else the first type of Accept that there is."""
    if given is not None:
        return given
    accepted = [part.partition(";")[0].strip().lower() for part in request.headers.get("accept", "*/*").split(",")]
    for kind in accepted:
        if kind in FORMATS:
            return FORMATS[kind]
    if any(kind in ("*/*", "application/*", "text/*", "") for kind in accepted):
        return "json"
    raise Problem("unsupported-format", "none of the types of the header Accept")


def asked_of(request: Request, query: models.Stretch) -> dict[str, Any]:
    """A question's parameters as the reading process takes them."""
    asked = query.model_dump(exclude_none=True)
    asked["format"] = format_of(request, query.format)
    if asked["format"] == "json" or query.cursor is not None:
        asked.setdefault("limit", models.PAGE_ROWS)
    for name in ("types", "fields"):
        if name in asked:
            asked[name] = [word for word in asked[name].split(",") if word]
    if "as_of" in asked:
        asked["as_of_ms"] = asked.pop("as_of")
    return asked


@router.get("/v1/ticks", response_model=models.TicksAnswer, tags=["ticks"])
async def ticks(request: Request, reader: Reader, query: Annotated[models.TicksQuery, Query()]) -> Response:
    """Stored ticks of symbols, by day, symbol, time and sequence.

    All pages are one state of the files: what is stored meanwhile is left out, and `as_of` says when that was.
    """
    return service_of(request).ask(reader, "ticks", asked_of(request, query))


@router.post("/v1/ticks", response_model=models.TicksAnswer, tags=["ticks"])
async def ticks_by_body(request: Request, reader: Reader, query: Annotated[models.TicksQuery, Body()]) -> Response:
    """The same question in a body, for long lists of symbols."""
    return service_of(request).ask(reader, "ticks", asked_of(request, query))


@router.get("/v1/ticks/latest", response_model=models.TicksAnswer, tags=["ticks"])
async def ticks_latest(request: Request, reader: Reader, query: Annotated[models.LatestQuery, Query()]) -> Response:
    """The newest ticks of each symbol, oldest first. `as_of.position` is where the live channel goes on."""
    format_name = format_of(request, query.format)
    ticks, answer = await _newest(request, reader, query.symbols, query.n)
    headers = {**_NO_STORE, **reader.headers}
    if format_name == "json":
        body = b'{"data":[' + ticks + b"]," + orjson.dumps(answer)[1:]
        return Response(body, headers=headers, media_type="application/json")
    body, more = await in_thread(facts.in_format, _loaded(ticks), answer, format_name)
    return Response(body, headers={**headers, **more})


async def _newest(request: Request, reader: Admitted, symbols: str, count: int) -> tuple[bytes, dict[str, Any]]:
    """Ticks as JSON objects, and what is said of them. A Problem when no symbol has any."""
    service = service_of(request)
    service.check_rows(reader.key)
    roots = service.roots
    answer: dict[str, Any] = {"next": None, "as_of": {"at_ms": roots.all[0].now_ms, "position": None}}
    lacking: list[str] = []
    by_symbol: dict[str, list[bytes]] = {}
    for root, named in roots.symbols(symbols):
        refused = [symbol for symbol in named if not reader.key.may_read(symbol)]
        if refused:
            raise Problem("forbidden", f"the key {reader.key.id} may not read {', '.join(refused[:5])}")
        newest = await service.newest(root, named, count)
        service.gate.rows.charge(reader.key.id, sum(tail.rows for tail in newest.tails.values()))
        for symbol, tail in newest.tails.items():
            if tail.rows:
                by_symbol.setdefault(symbol, []).append(tail.json)
        answer["as_of"]["position"] = answer["as_of"]["position"] or newest.position
        answer["coverage"] = facts.worse(answer.get("coverage"), newest.coverage)
        lacking += newest.lacking
    lacking = sorted({symbol for symbol in lacking if symbol not in by_symbol})
    if not by_symbol:
        raise Problem("unknown-symbol", f"{', '.join(lacking)[:200]}: there are no ticks in the newest day files")
    answer["warnings"] = [f"{symbol} has no ticks in the newest day files" for symbol in lacking]
    return b",".join(facts.newest_of(by_symbol[symbol], count) for symbol in sorted(by_symbol)), answer


def _loaded(ticks: bytes) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = orjson.loads(b"[" + ticks + b"]")
    return loaded


@router.get("/v1/books", response_model=models.BooksAnswer, tags=["books"])
async def books(request: Request, reader: Reader, query: Annotated[models.BooksQuery, Query()]) -> Response:
    """Recorded order books of symbols, by day and in the order in which they were received.

    Books are witnessed, never proven: a push of a book has no number. `coverage` says what was watched. All pages are
    one state of the files.
    """
    return service_of(request).ask(reader, "books", _books_asked(request, query))


@router.get("/v1/books/latest", response_model=models.NewestBooksAnswer, tags=["books"])
async def books_latest(
    request: Request, reader: Reader, query: Annotated[models.LatestBooksQuery, Query()]
) -> Response:
    """The newest order book of each symbol, best prices first; symbols without one are left out."""
    return service_of(request).ask(reader, "books_latest", query.model_dump())


@router.post("/v1/books", response_model=models.BooksAnswer, tags=["books"])
async def books_by_body(request: Request, reader: Reader, query: Annotated[models.BooksQuery, Body()]) -> Response:
    """The same question in a body, for long lists of symbols."""
    return service_of(request).ask(reader, "books", _books_asked(request, query))


@router.get("/v1/brokers", response_model=models.BrokersAnswer, tags=["books"])
async def brokers(request: Request, reader: Reader, query: Annotated[models.BrokersQuery, Query()]) -> Response:
    """Recorded broker queues of symbols, by day and in the order in which they were received: who stands in line at
    which price level.

    They are witnessed, never proven: a push of a queue has neither a number nor a time. `coverage` says what was
    watched. All pages are one state of the files.
    """
    return service_of(request).ask(reader, "brokers", _books_asked(request, query))


@router.post("/v1/brokers", response_model=models.BrokersAnswer, tags=["books"])
async def brokers_by_body(request: Request, reader: Reader, query: Annotated[models.BrokersQuery, Body()]) -> Response:
    """The same question in a body, for long lists of symbols."""
    return service_of(request).ask(reader, "brokers", _books_asked(request, query))


@router.get("/v1/snapshots", response_model=models.SnapshotsAnswer, tags=["snapshots"])
async def snapshots(request: Request, reader: Reader, query: Annotated[models.SnapshotsQuery, Query()]) -> Response:
    """Recorded snapshots, such as gexbot's levels, by day and second: one a second and series, the first that was seen.

    `coverage` holds them against the source's own file of the day. All pages are one state of the files.
    """
    return service_of(request).ask(reader, "snapshots", _books_asked(request, query))


@router.get("/v1/snapshots/series", response_model=models.SeriesAnswer, tags=["snapshots"])
async def snapshot_series(request: Request, reader: Reader, query: Nothing) -> Response:
    """Each series of the newest day, and how it goes: seconds of trading held and missed so far, the newest one. Of
    data roots that hold snapshots and no ticks. It may be asked every second: what was stored since is read."""
    roots, rows, unreadable = service_of(request).roots.all, list[dict[str, Any]](), list[int]()
    for root in roots:
        try:
            rows += [row for row in await in_thread(facts.series, root) if reader.key.may_read(row["symbol"])]
        except Problem:
            unreadable.append(root.number)
            if len(unreadable) == len(roots):
                raise
    body = orjson.dumps({"data": rows, "unreadable": unreadable})
    return Response(body, headers={**_NO_STORE, **reader.headers}, media_type="application/json")


@router.post("/v1/snapshots", response_model=models.SnapshotsAnswer, tags=["snapshots"])
async def snapshots_by_body(
    request: Request, reader: Reader, query: Annotated[models.SnapshotsQuery, Body()]
) -> Response:
    """The same question in a body."""
    return service_of(request).ask(reader, "snapshots", _books_asked(request, query))


def _books_asked(request: Request, query: models.BrokersQuery | models.SnapshotsQuery) -> dict[str, Any]:
    asked = query.model_dump(exclude_none=True)
    asked["format"] = format_of(request, query.format)
    if asked["format"] == "json" or query.cursor is not None:
        asked.setdefault("limit", models.PAGE_ROWS)
    return asked


@router.get("/v1/bars", response_model=models.BarsAnswer, tags=["bars"])
async def bars(request: Request, reader: Reader, query: Annotated[models.BarsQuery, Query()]) -> Response:
    """Bars of the trades that make the price: start inclusive, end exclusive. The last one of a day in session has
    `is_final: false`."""
    return service_of(request).ask(reader, "bars", asked_of(request, query))


@router.post("/v1/bars", response_model=models.BarsAnswer, tags=["bars"])
async def bars_by_body(request: Request, reader: Reader, query: Annotated[models.BarsQuery, Body()]) -> Response:
    """The same question in a body."""
    return service_of(request).ask(reader, "bars", asked_of(request, query))


@router.post("/v1/sql", response_model=models.SqlAnswer, tags=["sql"])
async def sql(request: Request, asker: Asker, query: Annotated[models.SqlQuery, Body()]) -> Response:
    """One SELECT over recorded days, for keys with the scope `sql`: at most 30 seconds and 768 MB, no file, no network.

    Times in `ticks` are timestamps on the market's clock: `hour(ts_ms)` of the opening in Hong Kong is 9. Times of the
    answer are UTC epoch milliseconds.
    """
    asked = query.model_dump(exclude_none=True)
    asked["format"] = format_of(request, query.format)
    return service_of(request).ask(asker, "sql", asked)


@router.get("/v1/coverage", response_model=models.CoverageAnswer, tags=["completeness"])
async def coverage(request: Request, reader: Reader, query: Annotated[models.CoverageQuery, Query()]) -> Response:
    """How complete symbols and days are, each by itself; trading days that are not recorded are among them."""
    asked = query.model_dump(exclude_none=True)
    if "as_of" in asked:
        asked["as_of_ms"] = asked.pop("as_of")
    return service_of(request).ask(reader, "completeness", asked)


@router.get("/v1/recorded", response_model=models.CoverageAnswer, tags=["days"])
async def recorded(request: Request, reader: Reader, query: Nothing) -> Response:
    """The recorded days in short, as the Python API lists them: cheaper than /v1/days, without grades."""
    return service_of(request).ask(reader, "recorded", {})


@router.get("/v1/days", response_model=models.DaysAnswer, tags=["days"])
async def days(request: Request, reader: Reader, query: Annotated[models.DaysQuery, Query()]) -> Response:
    """The recorded days: where they are, how many rows, how good."""
    return service_of(request).ask(reader, "days", query.model_dump(exclude_none=True))


@router.get("/v1/days/{day}", response_model=models.DayLine, tags=["days"])
async def day(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.OfMarket, Query()]
) -> Response:
    """One recorded day."""
    return service_of(request).ask(reader, "day", {"day": day, **query.model_dump(exclude_none=True)})


@router.get("/v1/days/{day}/symbols", response_model=models.DayRows, tags=["days"])
async def day_symbols(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.OfMarket, Query()]
) -> Response:
    """The symbols with ticks on a day, and how many."""
    return service_of(request).ask(reader, "symbols", {"day": day, **query.model_dump(exclude_none=True)})


@router.get("/v1/days/{day}/coverage", response_model=models.DayRows, tags=["completeness"])
async def day_coverage(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.OfMarket, Query()]
) -> Response:
    """What is proven, missing or unproven of each symbol, and why."""
    return service_of(request).ask(reader, "coverage", {"day": day, **query.model_dump(exclude_none=True)})


@router.get("/v1/days/{day}/gaps", response_model=models.DayRows, tags=["completeness"])
async def day_gaps(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.GapsQuery, Query()]
) -> Response:
    """What is missing, and where."""
    return service_of(request).ask(reader, "gaps", {"day": day, **query.model_dump(exclude_none=True)})


@router.get(
    "/v1/days/{day}/certificate", response_model=models.Anything, tags=["completeness"],
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def day_certificate(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.CertificateQuery, Query()]
) -> Response:
    """The certificate of a day."""
    if query.format == "html" and not reader.key.reads_all:
        raise Problem("forbidden", f"the key {reader.key.id} may not read every symbol, which the page shows")
    return service_of(request).ask(reader, "certificate", {"day": day, **query.model_dump(exclude_none=True)})


@router.get("/v1/days/{day}/top", response_model=models.DayRows, tags=["days"])
async def day_top(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.TopQuery, Query()]
) -> Response:
    """The symbols with the most turnover, ticks or volatility."""
    return service_of(request).ask(reader, "top", {"day": day, **query.model_dump(exclude_none=True)})


@router.get("/v1/days/{day}/latency", response_model=models.DayRows, tags=["days"])
async def day_latency(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.OfMarket, Query()]
) -> Response:
    """How late pushed ticks were, by five minutes: p50 and p99 from the event to the recorder, and into the file. Every
    row of the day is read for it."""
    return service_of(request).ask(reader, "latency", {"day": day, **query.model_dump(exclude_none=True)})


@router.get(
    "/v1/days/{day}/file", response_class=Response, tags=["days"],
    responses={200: {"content": {"application/vnd.apache.parquet": {}}, "description": "The file"},
               206: {"content": {"application/vnd.apache.parquet": {}}, "description": "A part of it"},
               304: {"description": "You have it"}},
)  # fmt: skip
async def day_file(
    request: Request, reader: Reader, day: models.DayWord, query: Annotated[models.OfMarket, Query()]
) -> Response:
    """The archived Parquet file as it is. `ETag` is the hash of the day's content; `Range` works."""
    if not reader.key.reads_all:
        raise Problem("forbidden", f"the key {reader.key.id} may not read every symbol, which the file holds")
    path, content_hash = await in_thread(facts.archived_file, service_of(request).roots, day, query.market)
    headers = {"ETag": f'"{content_hash}"', "Cache-Control": "private, max-age=3600", **reader.headers}
    if f'"{content_hash}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type="application/vnd.apache.parquet", filename=path.name)


@router.get("/v1/calendar", response_model=models.CalendarAnswer, tags=["market"])
async def calendar(request: Request, reader: Reader, query: Annotated[models.CalendarQuery, Query()]) -> Response:
    """Trading days and their hours, with auctions and half days; times are UTC epoch milliseconds."""
    root = service_of(request).roots.of_market(query.market)[0]
    try:
        days = facts.calendar(root, query.first, query.days)
    except (ValueError, OverflowError) as exc:
        raise Problem("bad-parameter", errors=[FieldError("first", "is not a day of the calendar")]) from exc
    return Response(orjson.dumps(days), headers=reader.headers, media_type="application/json")


@router.get("/v1/status", response_model=models.Anything, tags=["server"])
async def status(request: Request, reader: Reader, query: Nothing) -> Response:
    """How the recorder of each data root is, judged as `hk-tickctl status` does, and the server."""
    service = service_of(request)
    roots = [await in_thread(facts.condition, root) for root in service.roots.all]
    condition = {"verdict": facts.worst_verdict(roots), "at_ms": service.roots.all[0].now_ms, "roots": roots}
    server = {"readers": service.pool.ready, "readers_replaced": service.pool.replaced}
    body = orjson.dumps({**condition, "server": server})
    return Response(body, headers={**_NO_STORE, **reader.headers}, media_type="application/json")


@router.get("/v1/alerts", response_model=models.AlertsAnswer, tags=["server"])
async def alerts(request: Request, reader: Reader, query: Annotated[models.AlertsQuery, Query()]) -> Response:
    """What hk-tick-alert told, what is wrong now, and what is muted; `is_on` is false where no outbox is known here."""
    if not reader.key.reads_all:
        raise Problem("forbidden", f"the key {reader.key.id} may not read every symbol, which alerts name")
    service = service_of(request)
    history = await in_thread(facts.alerts, service.settings.alert_dir, query.limit, service.roots.all[0].now_ms)
    return Response(orjson.dumps(history), headers={**_NO_STORE, **reader.headers}, media_type="application/json")


@router.post("/v1/alerts/mutes", response_model=models.MuteAnswer, tags=["server"])
async def mute(request: Request, muter: Muter, query: Annotated[models.MuteQuery, Body()]) -> Response:
    """Tell nobody about a rule for a while, for keys with the scope `mute`. The next digest says what is muted."""
    service = service_of(request)
    now_ms = service.roots.all[0].now_ms
    muted = await in_thread(facts.mute, service.settings.alert_dir, query.code, query.for_sec, now_ms)
    return Response(orjson.dumps(muted), headers={**_NO_STORE, **muter.headers}, media_type="application/json")


@router.post("/v1/sources/restart", response_model=models.RestartAnswer, status_code=202, tags=["server"])
async def restart(request: Request, restarter: Restarter, query: Annotated[models.RestartQuery, Body()]) -> Response:
    """Ask a recorder to end its connection to the source and make a new one, for keys with the scope `restart`: within
    seconds, and once a minute at most. Nothing that it holds is lost; what was traded meanwhile is fetched as after any
    loss of the connection."""
    if not restarter.key.reads_all:
        raise Problem("forbidden", f"the key {restarter.key.id} may not read every symbol, which a restart concerns")
    service = service_of(request)
    directory = service.settings.restarts_dir
    asked_restart = await in_thread(facts.restart, directory, service.roots, query.source, restarter.key)
    headers = {**_NO_STORE, **restarter.headers}
    return Response(orjson.dumps(asked_restart), 202, headers=headers, media_type="application/json")


@router.get(
    "/v1/metrics", response_class=Response, tags=["server"],
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def metrics(request: Request, reader: Reader, query: Nothing) -> Response:
    """For Prometheus."""
    return Response(service_of(request).metrics.text(), headers={**_NO_STORE, "Content-Type": MEDIA_TYPE})


@router.get("/v1/healthz", response_model=models.Health, tags=["server"])
async def healthz(request: Request, query: Nothing) -> Response:
    """Does the server work? No key, no details."""
    service = service_of(request)
    try:
        there = all([await in_thread(root.data_root.is_dir) for root in service.roots.all])
    except Problem:
        there = False
    is_well = there and service.pool.is_well
    body = orjson.dumps({"ok": is_well})
    return Response(body, 200 if is_well else 503, headers=_NO_STORE, media_type="application/json")


# The words of an earlier server


@router.get("/api/v1/ticks/realtime", response_model=models.AliasAnswer, tags=["aliases"])
async def realtime(request: Request, reader: Reader, query: Annotated[models.RealtimeQuery, Query()]) -> Response:
    """As /v1/ticks/latest."""
    began = time.perf_counter()
    ticks, answer = await _newest(request, reader, query.symbols, query.limit)
    data = [facts.alias_tick(row) for row in _loaded(ticks)]
    return _aliased(reader, began, data, answer)


@router.get("/api/v1/ticks/historical", response_model=models.AliasAnswer, tags=["aliases"])
async def historical(request: Request, reader: Reader, query: Annotated[models.HistoricalQuery, Query()]) -> Response:
    """As /v1/ticks, and with interval as /v1/bars."""
    began = time.perf_counter()
    service = service_of(request)
    asked: dict[str, Any] = {
        "symbols": query.symbols,
        "start": query.start_time,
        "end": query.end_time,
        "limit": query.limit,
        "format": "json",
    }
    if query.cursor is not None:
        asked["cursor"] = query.cursor
    job = "ticks"
    if query.interval not in (None, "tick"):
        job, asked["interval"] = "bars", query.interval
    collected = await service.collect(reader, job, asked)
    data = [facts.alias_bar(row) if job == "bars" else facts.alias_tick(row) for row in collected.pop("data")]
    return _aliased(reader, began, data, collected, interval=query.interval)


@router.get("/api/v1/status", response_model=models.Anything, tags=["aliases"])
async def alias_status(request: Request, reader: Reader, query: Nothing) -> Response:
    """As /v1/status."""
    return await status(request, reader, query)


def _aliased(
    reader: Admitted, began: float, data: list[dict[str, Any]], answer: dict[str, Any], interval: str | None = None
) -> Response:
    metadata = {
        "query_id": str(uuid.uuid4()),
        "response_time_ms": round((time.perf_counter() - began) * 1000, 3),
        "record_count": len(data),
        "interval": interval,
        **answer,
    }
    body = orjson.dumps({"success": True, "data": data, "metadata": metadata})
    return Response(body, headers={**_NO_STORE, **reader.headers}, media_type="application/json")

"""The routes of the API, one function each; the texts here are its documents."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Body, Query, Request
from starlette.responses import FileResponse, Response

from hk_tick_collector.serve.api import answer_models, facts, questions
from hk_tick_collector.serve.api.asking import (
    NO_STORE,
    Asker,
    Muter,
    Nothing,
    Reader,
    Restarter,
    StrictRoute,
    asked_of,
    format_of,
    service_of,
)
from hk_tick_collector.serve.api.metrics import MEDIA_TYPE
from hk_tick_collector.serve.api.service import Admitted, in_thread
from hk_tick_collector.serve.problems import FieldError, Problem
from hk_tick_collector.serve.rights import refuse_hidden, refuse_part

router = APIRouter(route_class=StrictRoute)


@router.get("/v1/ticks", response_model=answer_models.TicksAnswer, tags=["ticks"])
async def ticks(request: Request, reader: Reader, query: Annotated[questions.TicksQuery, Query()]) -> Response:
    """Stored ticks of symbols, by day, symbol, time and sequence.

    All pages are one state of the files: what is stored meanwhile is left out, and `as_of` says when that was.
    """
    return service_of(request).ask(reader, "ticks", asked_of(request, query))


@router.post("/v1/ticks", response_model=answer_models.TicksAnswer, tags=["ticks"])
async def ticks_by_body(request: Request, reader: Reader, query: Annotated[questions.TicksQuery, Body()]) -> Response:
    """The same question in a body, for long lists of symbols."""
    return service_of(request).ask(reader, "ticks", asked_of(request, query))


@router.get("/v1/ticks/latest", response_model=answer_models.TicksAnswer, tags=["ticks"])
async def ticks_latest(request: Request, reader: Reader, query: Annotated[questions.LatestQuery, Query()]) -> Response:
    """The newest ticks of each symbol, oldest first. `as_of.position` is where the live channel goes on."""
    format_name = format_of(request, query.format)
    ticks, answer = await newest_ticks(request, reader, query.symbols, query.n)
    headers = {**NO_STORE, **reader.headers}
    if format_name == "json":
        body = b'{"data":[' + ticks + b"]," + orjson.dumps(answer)[1:]
        return Response(body, headers=headers, media_type="application/json")
    body, more = await in_thread(facts.in_format, ticks_of(ticks), answer, format_name)
    return Response(body, headers={**headers, **more})


async def newest_ticks(request: Request, reader: Admitted, symbols: str, count: int) -> tuple[bytes, dict[str, Any]]:
    """Ticks as JSON objects, and what is said of them. A Problem when no symbol has any."""
    service = service_of(request)
    service.check_rows(reader.key)
    roots = service.roots
    answer: dict[str, Any] = {"next": None, "as_of": {"at_ms": roots.all[0].now_ms, "position": None}}
    lacking: list[str] = []
    by_symbol: dict[str, list[bytes]] = {}
    for root, named in roots.symbols(symbols):
        refuse_hidden(reader.key, named)
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


def ticks_of(json_rows: bytes) -> list[dict[str, Any]]:
    """As objects, what ``newest_ticks`` has as JSON."""
    loaded: list[dict[str, Any]] = orjson.loads(b"[" + json_rows + b"]")
    return loaded


@router.get("/v1/books", response_model=answer_models.BooksAnswer, tags=["books"])
async def books(request: Request, reader: Reader, query: Annotated[questions.BooksQuery, Query()]) -> Response:
    """Recorded order books of symbols, by day and in the order in which they were received.

    Books are witnessed, never proven: a push of a book has no number. `coverage` says what was watched. All pages are
    one state of the files.
    """
    return service_of(request).ask(reader, "books", asked_of(request, query))


@router.get("/v1/books/latest", response_model=answer_models.NewestBooksAnswer, tags=["books"])
async def books_latest(
    request: Request, reader: Reader, query: Annotated[questions.LatestBooksQuery, Query()]
) -> Response:
    """The newest order book of each symbol, best prices first; symbols without one are left out."""
    return service_of(request).ask(reader, "books_latest", query.model_dump())


@router.post("/v1/books", response_model=answer_models.BooksAnswer, tags=["books"])
async def books_by_body(request: Request, reader: Reader, query: Annotated[questions.BooksQuery, Body()]) -> Response:
    """The same question in a body, for long lists of symbols."""
    return service_of(request).ask(reader, "books", asked_of(request, query))


@router.get("/v1/brokers", response_model=answer_models.BrokersAnswer, tags=["books"])
async def brokers(request: Request, reader: Reader, query: Annotated[questions.BrokersQuery, Query()]) -> Response:
    """Recorded broker queues of symbols, by day and in the order in which they were received: who stands in line at
    which price level.

    They are witnessed, never proven: a push of a queue has neither a number nor a time. `coverage` says what was
    watched. All pages are one state of the files.
    """
    return service_of(request).ask(reader, "brokers", asked_of(request, query))


@router.post("/v1/brokers", response_model=answer_models.BrokersAnswer, tags=["books"])
async def brokers_by_body(
    request: Request, reader: Reader, query: Annotated[questions.BrokersQuery, Body()]
) -> Response:
    """The same question in a body, for long lists of symbols."""
    return service_of(request).ask(reader, "brokers", asked_of(request, query))


@router.get("/v1/snapshots", response_model=answer_models.SnapshotsAnswer, tags=["snapshots"])
async def snapshots(request: Request, reader: Reader, query: Annotated[questions.SnapshotsQuery, Query()]) -> Response:
    """Recorded snapshots, such as gexbot's levels, by day and second: one a second and series, the first that was seen.

    `coverage` holds them against the source's own file of the day. All pages are one state of the files.
    """
    return service_of(request).ask(reader, "snapshots", asked_of(request, query))


@router.get("/v1/snapshots/series", response_model=answer_models.SeriesAnswer, tags=["snapshots"])
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
    return Response(body, headers={**NO_STORE, **reader.headers}, media_type="application/json")


@router.post("/v1/snapshots", response_model=answer_models.SnapshotsAnswer, tags=["snapshots"])
async def snapshots_by_body(
    request: Request, reader: Reader, query: Annotated[questions.SnapshotsQuery, Body()]
) -> Response:
    """The same question in a body."""
    return service_of(request).ask(reader, "snapshots", asked_of(request, query))


@router.get("/v1/bars", response_model=answer_models.BarsAnswer, tags=["bars"])
async def bars(request: Request, reader: Reader, query: Annotated[questions.BarsQuery, Query()]) -> Response:
    """Bars of the trades that make the price: start inclusive, end exclusive. The last one of a day in session has
    `is_final: false`."""
    return service_of(request).ask(reader, "bars", asked_of(request, query))


@router.post("/v1/bars", response_model=answer_models.BarsAnswer, tags=["bars"])
async def bars_by_body(request: Request, reader: Reader, query: Annotated[questions.BarsQuery, Body()]) -> Response:
    """The same question in a body."""
    return service_of(request).ask(reader, "bars", asked_of(request, query))


@router.post("/v1/sql", response_model=answer_models.SqlAnswer, tags=["sql"])
async def sql(request: Request, asker: Asker, query: Annotated[questions.SqlQuery, Body()]) -> Response:
    """One SELECT over recorded days, for keys with the scope `sql`: at most 30 seconds and 768 MB, no file, no network.

    Times in `ticks` are timestamps on the market's clock: `hour(ts_ms)` of the opening in Hong Kong is 9. Times of the
    answer are UTC epoch milliseconds.
    """
    asked = query.model_dump(exclude_none=True)
    asked["format"] = format_of(request, query.format)
    return service_of(request).ask(asker, "sql", asked)


@router.get("/v1/coverage", response_model=answer_models.CoverageAnswer, tags=["completeness"])
async def coverage(request: Request, reader: Reader, query: Annotated[questions.CoverageQuery, Query()]) -> Response:
    """How complete symbols and days are, each by itself; trading days that are not recorded are among them."""
    asked = query.model_dump(exclude_none=True)
    if "as_of" in asked:
        asked["as_of_ms"] = asked.pop("as_of")
    return service_of(request).ask(reader, "completeness", asked)


@router.get("/v1/recorded", response_model=answer_models.CoverageAnswer, tags=["days"])
async def recorded(request: Request, reader: Reader, query: Nothing) -> Response:
    """The recorded days in short, as the Python API lists them: cheaper than /v1/days, without grades."""
    return service_of(request).ask(reader, "recorded", {})


@router.get("/v1/days", response_model=answer_models.DaysAnswer, tags=["days"])
async def days(request: Request, reader: Reader, query: Annotated[questions.DaysQuery, Query()]) -> Response:
    """The recorded days: where they are, how many rows, how good."""
    return service_of(request).ask(reader, "days", query.model_dump(exclude_none=True))


def _of_day(request: Request, reader: Admitted, job: str, day: str, query: questions.OfMarket) -> Response:
    return service_of(request).ask(reader, job, {"day": day, **query.model_dump(exclude_none=True)})


@router.get("/v1/days/{day}", response_model=answer_models.DayLine, tags=["days"])
async def day(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.OfMarket, Query()]
) -> Response:
    """One recorded day."""
    return _of_day(request, reader, "day", day, query)


@router.get("/v1/days/{day}/symbols", response_model=answer_models.DayRows, tags=["days"])
async def day_symbols(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.OfMarket, Query()]
) -> Response:
    """The symbols with ticks on a day, and how many."""
    return _of_day(request, reader, "symbols", day, query)


@router.get("/v1/days/{day}/coverage", response_model=answer_models.DayRows, tags=["completeness"])
async def day_coverage(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.OfMarket, Query()]
) -> Response:
    """What is proven, missing or unproven of each symbol, and why."""
    return _of_day(request, reader, "coverage", day, query)


@router.get("/v1/days/{day}/gaps", response_model=answer_models.DayRows, tags=["completeness"])
async def day_gaps(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.GapsQuery, Query()]
) -> Response:
    """What is missing, and where."""
    return _of_day(request, reader, "gaps", day, query)


@router.get(
    "/v1/days/{day}/certificate", response_model=answer_models.Anything, tags=["completeness"],
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def day_certificate(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.CertificateQuery, Query()]
) -> Response:
    """The certificate of a day."""
    if query.format == "html":
        refuse_part(reader.key, "which the page shows")
    return _of_day(request, reader, "certificate", day, query)


@router.get("/v1/days/{day}/top", response_model=answer_models.DayRows, tags=["days"])
async def day_top(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.TopQuery, Query()]
) -> Response:
    """The symbols with the most turnover, ticks or volatility."""
    return _of_day(request, reader, "top", day, query)


@router.get("/v1/days/{day}/latency", response_model=answer_models.DayRows, tags=["days"])
async def day_latency(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.OfMarket, Query()]
) -> Response:
    """How late pushed ticks were, by five minutes: p50 and p99 from the event to the recorder, and into the file. Every
    row of the day is read for it."""
    return _of_day(request, reader, "latency", day, query)


@router.get(
    "/v1/days/{day}/file", response_class=Response, tags=["days"],
    responses={200: {"content": {"application/vnd.apache.parquet": {}}, "description": "The file"},
               206: {"content": {"application/vnd.apache.parquet": {}}, "description": "A part of it"},
               304: {"description": "You have it"}},
)  # fmt: skip
async def day_file(
    request: Request, reader: Reader, day: questions.DayWord, query: Annotated[questions.OfMarket, Query()]
) -> Response:
    """The archived Parquet file as it is. `ETag` is the hash of the day's content; `Range` works."""
    refuse_part(reader.key, "which the file holds")
    path, content_hash = await in_thread(facts.archived_file, service_of(request).roots, day, query.market)
    headers = {"ETag": f'"{content_hash}"', "Cache-Control": "private, max-age=3600", **reader.headers}
    if f'"{content_hash}"' in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return FileResponse(path, headers=headers, media_type="application/vnd.apache.parquet", filename=path.name)


@router.get("/v1/calendar", response_model=answer_models.CalendarAnswer, tags=["market"])
async def calendar(request: Request, reader: Reader, query: Annotated[questions.CalendarQuery, Query()]) -> Response:
    """Trading days and their hours, with auctions and half days; times are UTC epoch milliseconds."""
    root = service_of(request).roots.of_market(query.market)[0]
    try:
        days = facts.calendar(root, query.first, query.days)
    except (ValueError, OverflowError) as exc:
        raise Problem("bad-parameter", errors=[FieldError("first", "is not a day of the calendar")]) from exc
    return Response(orjson.dumps(days), headers=reader.headers, media_type="application/json")


@router.get("/v1/status", response_model=answer_models.Anything, tags=["server"])
async def status(request: Request, reader: Reader, query: Nothing) -> Response:
    """How the recorder of each data root is, judged as `hk-tickctl status` does, and the server."""
    service = service_of(request)
    roots = [await in_thread(facts.condition, root) for root in service.roots.all]
    condition = {"verdict": facts.worst_verdict(roots), "at_ms": service.roots.all[0].now_ms, "roots": roots}
    server = {"readers": service.pool.ready, "readers_replaced": service.pool.replaced}
    body = orjson.dumps({**condition, "server": server})
    return Response(body, headers={**NO_STORE, **reader.headers}, media_type="application/json")


@router.get("/v1/alerts", response_model=answer_models.AlertsAnswer, tags=["server"])
async def alerts(request: Request, reader: Reader, query: Annotated[questions.AlertsQuery, Query()]) -> Response:
    """What hk-tick-alert told, what is wrong now, and what is muted; `is_on` is false where no outbox is known here."""
    refuse_part(reader.key, "which alerts name")
    service = service_of(request)
    history = await in_thread(facts.alerts, service.settings.alert_dir, query.limit, service.roots.all[0].now_ms)
    return Response(orjson.dumps(history), headers={**NO_STORE, **reader.headers}, media_type="application/json")


@router.post("/v1/alerts/mutes", response_model=answer_models.MuteAnswer, tags=["server"])
async def mute(request: Request, muter: Muter, query: Annotated[questions.MuteQuery, Body()]) -> Response:
    """Tell nobody about a rule for a while, for keys with the scope `mute`. The next digest says what is muted."""
    service = service_of(request)
    now_ms = service.roots.all[0].now_ms
    muted = await in_thread(facts.mute, service.settings.alert_dir, query.code, query.for_sec, now_ms)
    return Response(orjson.dumps(muted), headers={**NO_STORE, **muter.headers}, media_type="application/json")


@router.post("/v1/sources/restart", response_model=answer_models.RestartAnswer, status_code=202, tags=["server"])
async def restart(request: Request, restarter: Restarter, query: Annotated[questions.RestartQuery, Body()]) -> Response:
    """Ask a recorder to end its connection to the source and make a new one, for keys with the scope `restart`: within
    seconds, and once a minute at most. Nothing that it holds is lost; what was traded meanwhile is fetched as after any
    loss of the connection."""
    refuse_part(restarter.key, "which a restart concerns")
    service = service_of(request)
    directory = service.settings.restarts_dir
    asked_restart = await in_thread(facts.restart, directory, service.roots, query.source, restarter.key)
    headers = {**NO_STORE, **restarter.headers}
    return Response(orjson.dumps(asked_restart), 202, headers=headers, media_type="application/json")


@router.get(
    "/v1/metrics", response_class=Response, tags=["server"],
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)  # fmt: skip
async def metrics(request: Request, reader: Reader, query: Nothing) -> Response:
    """For Prometheus."""
    return Response(service_of(request).metrics.text(), headers={**NO_STORE, "Content-Type": MEDIA_TYPE})


@router.get("/v1/healthz", response_model=answer_models.Health, tags=["server"])
async def healthz(request: Request, query: Nothing) -> Response:
    """Does the server work? No key, no details."""
    service = service_of(request)
    is_well = await service.roots_look.are_there() and service.pool.is_well
    body = orjson.dumps({"ok": is_well})
    return Response(body, 200 if is_well else 503, headers=NO_STORE, media_type="application/json")

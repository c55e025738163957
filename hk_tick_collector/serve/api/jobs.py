"""What a reading process does: one question in, an answer's head and body out.

A question is a plain dictionary, made of parameters that ``models`` has checked; what only the files can tell (is there
such a day, is the symbol recorded) is a Problem here. Rows are read a few symbols at a time and written as they come,
so memory does not grow with the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.client.errors import BadQuestion
from hk_tick_collector.client.local import by_symbol, coverage_of, kept_types, narrowed
from hk_tick_collector.client.plan import DayRead, MarketRoots, Plan, plan_of
from hk_tick_collector.client.question import ALL, BarQuestion, column_names
from hk_tick_collector.core.errors import CopiesUnavailable, NoData, RecorderError, StoreError
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.schema import UTC_MS, ticks_schema
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.quality.certificate import make_certificate, part_of
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.quality.model import BookCertificate, Certificate
from hk_tick_collector.query import bars
from hk_tick_collector.query.trade_types import TradeRule
from hk_tick_collector.serve.api.answer import Look, send
from hk_tick_collector.serve.api.cursor import Cursor, Spot
from hk_tick_collector.serve.api.out import Out
from hk_tick_collector.serve.api.plan import Asked, Reading, allowed, reading_of, reading_of_today, stretch_of
from hk_tick_collector.serve.api.roots import Roots, bad
from hk_tick_collector.serve.api.states import name_of
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem, shown
from hk_tick_collector.serve.rights import refuse_part

if TYPE_CHECKING:
    from hk_tick_collector.serve.api.today import Today

GROUP_ROWS = 400_000  # read and sorted at a time
TOP_MEMORY_MB = 512
BAR_FIELDS = (pa.field("end_ms", UTC_MS, nullable=False), pa.field("is_final", pa.bool_(), nullable=False))
BAR_SCHEMA = pa.schema([*bars.BARS, *BAR_FIELDS])


def run(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """Answer a question; how many rows. Problems and the errors of reading are raised, also in the middle of a body."""
    roots.check_there()
    try:
        return _JOBS[asked["job"]](roots, asked, key, out)
    except NoData as exc:
        if roots.unknown:  # it may be there
            text = "no file has this, and ClickHouse cannot be asked for it"
            raise Problem("store-unreadable", text) from exc
        raise


# Ticks and bars


def _ticks(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    reading = _reading(roots, asked, key)
    try:
        names = column_names(asked.get("fields"))
    except BadQuestion as exc:
        raise bad("fields", str(exc)) from exc
    kinds = tuple(asked.get("types") or [ALL])
    tables = _tick_tables(reading, names, kinds)
    return _send(reading, tables, ticks_schema(names), "ts_ms", asked, out)


def _reading(roots: Roots, asked: Asked, key: Key, newest: DayRead | None = None) -> Reading:
    reading = reading_of(roots.files(), asked, key, newest)
    if roots.unknown:
        reading.facts.warnings.append("days without a file were not looked for: ClickHouse does not answer")
    return reading


def _tick_tables(reading: Reading, names: tuple[str, ...], kinds: tuple[str, ...]) -> Iterator[pa.Table]:
    """Ticks behind the cursor by day, symbol and time, some symbols at a time; no table is empty."""
    narrowing = () if kinds == (ALL,) else ("tick_type", "price", "volume")
    stored = () if reading.stretch.as_of_ms is None else ("inserted_at_ms",)
    needed = tuple(dict.fromkeys((*names, "symbol", "ts_ms", *narrowing, *stored)))
    for number, read in enumerate(reading.plan.reads):
        keep = kept_types(kinds, read.day.market.trade_types) if narrowing else None
        for symbols, from_ms in _groups(read, reading.start, number):
            bounds = [ms for ms in (read.start_ms, from_ms) if ms is not None]
            table = read.day.ticks(
                symbols, needed, start_ms=max(bounds, default=None), end_ms=read.end_ms, last_rowid=read.last_rowid
            )
            table = narrowed(table, keep, reading.stretch.as_of_ms)
            if reading.start is not None and from_ms is not None:
                table = _behind(table, "ts_ms", reading.start)
            if table.num_rows:
                yield table.append_column("part", pa.repeat(number, table.num_rows))


def _groups(read: DayRead, start: Spot | None, number: int) -> Iterator[tuple[list[str], int | None]]:
    """Symbols of a day in order, about GROUP_ROWS ticks at a time; the cursor's own alone, and from its time on."""
    if start is not None and number < start.part:
        return
    group: list[str] = []
    rows = 0
    for symbol, ticks in sorted(read.ticks_by_symbol.items()):
        if not ticks or (start is not None and number == start.part and symbol < start.symbol):
            continue
        if start is not None and (number, symbol) == (start.part, start.symbol):
            yield [symbol], start.ts_ms
            continue
        if group and rows + ticks > GROUP_ROWS:
            yield group, None
            group, rows = [], 0
        group.append(symbol)
        rows += ticks
    if group:
        yield group, None


def _behind(table: pa.Table, time_column: str, start: Spot) -> pa.Table:
    """Rows of one symbol without those that were given: the first ``given`` of its millisecond."""
    same = pc.equal(table.column(time_column), pa.scalar(start.ts_ms, UTC_MS))
    there = pc.sum(same).as_py() or 0
    return table.slice(min(there, start.given))


def _bars(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    try:
        interval_ms = bars.parse_interval_ms(asked["interval"])
    except ValueError as exc:
        raise bad("interval", str(exc)) from exc
    reading, bars_table = _bars_of_today(roots, asked, key, interval_ms) or _bars_of_days(
        roots, asked, key, interval_ms
    )
    if asked.get("limit") is not None and asked.get("fill") != "session":  # a fill goes on with the clock
        roots.bar_pages.keep(reading.page, bars_table, asked["limit"])
    table = with_ends(bars_table, interval_ms, roots.all[0].now_ms)
    start = reading.start
    if start is not None:
        symbols, times = table.column("symbol").cast(pa.string()), table.column("start_ms")
        is_later = pc.and_(pc.equal(symbols, start.symbol), pc.greater(times, pa.scalar(start.ts_ms, UTC_MS)))
        table = table.filter(pc.or_(pc.greater(symbols, start.symbol), is_later))
    table = table.append_column("part", pa.repeat(0, table.num_rows))
    return _send(reading, [table] if table.num_rows else [], BAR_SCHEMA, "start_ms", asked, out)


def _bars_of_days(roots: Roots, asked: Asked, key: Key, interval_ms: int) -> tuple[Reading, pa.Table]:
    """Day by day where no bar holds ticks of two: the newest from what is kept of it, archived ones once."""
    newest = _kept(roots, asked, interval_ms, "newest")
    reading = _reading(roots, asked, key, newest.read if newest is not None else None)
    kept = roots.bar_pages.get(reading.page) if reading.start is not None else None
    if kept is not None:
        return reading, kept
    question = BarQuestion(
        reading.stretch, asked["interval"], asked.get("fill") == "session", bool(asked.get("auctions", True)),
        bool(asked.get("odd_lots")), bool(asked.get("off_exchange")),
    )  # fmt: skip
    if newest is None:
        return reading, reading.files.bars_of(reading.plan, question)
    tables = [
        roots.day_bars.of(read, question, partial(reading.files.bars_of, Plan([read]), question))
        for read in reading.plan.reads
        if name_of(read) != name_of(newest.read)
    ]
    return reading, by_symbol(pa.concat_tables([*tables, newest.bars]).unify_dictionaries())


def _bars_of_today(roots: Roots, asked: Asked, key: Key, interval_ms: int) -> tuple[Reading, pa.Table] | None:
    """The same, of what is kept of the newest day; None when it is none of that."""
    today = _kept(roots, asked, interval_ms, "bars")
    if today is None:
        return None
    return reading_of_today(roots.files(), asked, key, today.read, today.place), today.bars


def _kept(roots: Roots, asked: Asked, interval_ms: int, part: Literal["bars", "newest"]) -> Today | None:
    """What is kept of the newest day, as ``TodayBars`` has it: of a question for it, or for days up to it."""
    if asked.get("cursor") is not None:
        return None
    try:
        ((root, symbols),) = roots.symbols(asked["symbols"])
        stretch = stretch_of(asked)
    except (Problem, RecorderError, ValueError):  # the way of all days says what is wrong
        return None
    if part == "newest" and (len(roots.all) > 1 or root.market.day_starts_ms):
        return None
    rule = TradeRule(
        root.market.trade_types, bool(asked.get("auctions", True)), bool(asked.get("odd_lots")),
        bool(asked.get("off_exchange")),
    )  # fmt: skip
    of: Callable[..., Today | None] = getattr(root.today, part)
    return of(stretch, symbols, interval_ms, rule, is_filled=asked.get("fill") == "session")


def with_ends(table: pa.Table, interval_ms: int, now_ms: int) -> pa.Table:
    """Bars with the end of each, and whether its time is over."""
    end_ms = pc.add(table.column("start_ms").cast(pa.int64()), interval_ms)
    columns = [*table.columns, end_ms.cast(UTC_MS), pc.less_equal(end_ms, now_ms)]
    return pa.Table.from_arrays(columns, schema=BAR_SCHEMA)


# Rows on their way out


def _send(
    reading: Reading, tables: Iterable[pa.Table], schema: pa.Schema, time_column: str, asked: Asked, out: Out
) -> int:
    look = Look(asked.get("format", "json"), asked.get("time", "ms"), asked.get("prices", "number"))
    facts = reading.facts
    if asked.get("limit") is not None:
        page, is_more = _first(tables, asked["limit"])
        if is_more:
            spot = _spot(reading.start, page[-1], time_column)
            facts.next = str(Cursor(reading.question, spot, facts.as_of["at_ms"], reading.states))
        tables = page
    names = list(schema.names)
    zone = reading.plan.reads[0].day.market.zone if reading.plan.reads else DEFAULT_MARKET.zone
    return send(out, schema, (table.select(names) for table in tables), reading.coverage, facts, look, zone)


def _first(tables: Iterable[pa.Table], limit: int) -> tuple[list[pa.Table], bool]:
    """The first ``limit`` rows; are there more?"""
    page: list[pa.Table] = []
    left = limit
    for table in tables:
        if left == 0:
            return page, True
        page.append(table.slice(0, left))
        if table.num_rows > left:
            return page, True
        left -= table.num_rows
    return page, False


def _spot(before: Spot | None, table: pa.Table, time_column: str) -> Spot:
    """Behind the last row of a page's last table."""
    symbol, number = table.column("symbol")[-1].as_py(), table.column("part")[-1].as_py()
    ts_ms = table.column(time_column).cast(pa.int64())[-1].as_py()
    same = pc.and_(
        pc.equal(table.column("symbol").cast(pa.string()), symbol),
        pc.equal(table.column(time_column), pa.scalar(ts_ms, UTC_MS)),
    )
    given = pc.sum(same).as_py()
    place = (number, symbol, ts_ms)
    if before is not None and place == before[:3]:
        given += before.given
    return Spot(*place, given)


# Smaller answers, whole in memory


def _send_json(out: Out, content: Any, headers: Mapping[str, str] | None = None) -> int:
    out.head(200, {"content-type": "application/json", "cache-control": "no-store", **(headers or {})})
    out.body.write(json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    return 0


def _days(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    lines: list[dict[str, Any]] = []
    codes = [asked["market"]] if asked.get("market") else dict.fromkeys(root.market.code for root in roots.with_older())
    for recorded in map(roots.recorded, codes):
        catalog = recorded.catalog
        names = [name for name in catalog.days() if _is_between(name, asked.get("first"), asked.get("last"))]
        lines += _day_lines(roots, recorded, names[-asked["limit"] :], key)
    return _send_json(out, {"data": sorted(lines, key=lambda line: (line["day"], line["market"]))})


def _is_between(day: str, first: str | None, last: str | None) -> bool:
    return (first is None or day >= first) and (last is None or day <= last)


def _day_lines(roots: Roots, recorded: MarketRoots, names: Iterable[str], key: Key) -> Iterator[dict[str, Any]]:
    """Of days that no file here has, one that cannot be asked for says so, and the others are not waited for."""
    here = {name for root in roots.all if root.market is recorded.market for name in root.catalog.days()}
    is_away = False
    for name in names:
        if name in here or not is_away:
            try:
                yield _day_line(recorded, recorded.catalog.day(name), key)
                continue
            except CopiesUnavailable:
                is_away = True
        yield {"day": name, "market": recorded.market.code, "state": "away"}


def _day_line(recorded: MarketRoots, day: Day, key: Key) -> dict[str, Any]:
    """What is recorded of a day, as far as the key may read. Of several data roots the content has no hash."""
    try:
        certificate = _of_key(make_certificate(day, recorded.calendar, recorded.now_ms, read=False), key)
        manifest = day.manifest
        parts = day.parts
        is_archived = all(part.manifest is not None for part in parts)
    except StoreError:
        return {"day": day.trading_day, "market": recorded.market.code, "state": "damaged"}
    return {
        "day": day.trading_day,
        "market": recorded.market.code,
        "state": "damaged" if certificate.error is not None else "live" if certificate.so_far else "over",
        "has_day_file": any(part.db is not None for part in parts),
        "is_archived": is_archived,
        "in_clickhouse": all(part.is_copied for part in parts),
        "is_readable": all(part.db is not None or part.archived_file.suffix == ".parquet" for part in parts),
        "rows": certificate.stored_ticks,
        "symbols": len(certificate.symbols),
        "grade": certificate.grade,
        "missing_ticks": certificate.missing_ticks,
        "content_hash": manifest.content_hash if manifest is not None and key.reads_all else None,
    }


def _of_key(certificate: Certificate, key: Key) -> Certificate:
    return certificate if key.reads_all else part_of(certificate, key.may_read)


def _one_day(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    root, day = roots.day(asked["day"], asked.get("market"))
    return _send_json(out, _day_line(root, day, key))


def _symbols(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    _, day = roots.day(asked["day"], asked.get("market"))
    names = day.stock_names()
    rows = [
        {"symbol": symbol, "name": names.get(symbol), "rows": rows}
        for symbol, rows in day.rows_by_symbol().items()
        if key.may_read(symbol)
    ]
    return _send_json(out, {"day": day.trading_day, "data": rows})


def _coverage(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    root, day = roots.day(asked["day"], asked.get("market"))
    certificate = make_certificate(day, root.calendar, root.now_ms, read=False)
    if certificate.error is not None:
        raise Problem("store-damaged", f"{day.trading_day} cannot be read")
    rows = [asdict(verdict) for verdict in certificate.symbols if key.may_read(verdict.symbol)]
    mine = _of_key(certificate, key)
    told = {"day": day.trading_day, "market": root.market.code, "data": rows}
    beside = {"books": _without_paths(mine.books), "brokers": _without_paths(mine.brokers)}
    plain = {name: None if report is None else asdict(report) for name, report in beside.items()}
    return _send_json(out, {**told, **plain})


def _without_paths(books: BookCertificate | None) -> BookCertificate | None:
    if books is None:
        return None
    error = None if books.error is None else shown(books.error)
    return replace(books, source=Path(books.source).name, sentence=shown(books.sentence), error=error)


def _gaps(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    _, day = roots.day(asked["day"], asked.get("market"))
    lines = gap_lines(day)
    rows = [
        {**asdict(line), "seconds": line.seconds}
        for line in lines
        if key.may_read(line.symbol) and asked["state"] in (line.state, "all")
    ]
    return _send_json(out, {"day": day.trading_day, "data": rows})


def _certificate(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """What is judged of a day, or of the symbols that a key may read: its sums and its grade are theirs."""
    root, day = roots.day(asked["day"], asked.get("market"))
    certificate = make_certificate(day, root.calendar, root.now_ms)
    if certificate.error is not None:
        raise Problem("store-damaged", f"{day.trading_day} cannot be read")
    certificate = _of_key(certificate, key)
    certificate = _as_shown(certificate, day)
    if asked["format"] == "json":
        return _send_json(out, asdict(certificate))
    from hk_tick_collector.quality.page import page, policy  # noqa: PLC0415 - few ask for it
    from hk_tick_collector.quality.recount import recount  # noqa: PLC0415

    read = recount(day, root.calendar.day_kind(day.trading_day), workers=1)
    whole = _as_shown(make_certificate(day, root.calendar, root.now_ms, read), day)
    out.head(
        200,
        {
            "content-type": "text/html; charset=utf-8",
            "cache-control": "no-store",
            "content-security-policy": f"{policy()}; frame-ancestors 'none'",
        },
    )
    out.body.write(page(whole, read.plots, gap_lines(day)).encode())
    return 0


def _as_shown(certificate: Certificate, day: Day) -> Certificate:
    """Without paths of this machine."""
    books, brokers = _without_paths(certificate.books), _without_paths(certificate.brokers)
    notes, problems = (tuple(map(shown, texts)) for texts in (certificate.notes, certificate.problems))
    return replace(certificate, source=day.source.name, notes=notes, problems=problems, books=books, brokers=brokers)


def _top(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    from hk_tick_collector.query.engine import Engine  # noqa: PLC0415 - DuckDB takes its time
    from hk_tick_collector.query.top import top  # noqa: PLC0415

    _, day = roots.day(asked["day"], asked.get("market"))
    refuse_part(key, "which this ranks")
    with Engine([day], workers=1, memory_mb=TOP_MEMORY_MB) as engine:
        result = top(engine, asked["by"], asked["limit"])
        table = pa.Table.from_batches(list(result.batches), result.schema)
    return _send_json(out, {"day": day.trading_day, "by": asked["by"], "data": table.to_pylist()})


def _latency(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """By five minutes: from the event to our clock, and from there into the file, of ticks that were pushed."""
    from hk_tick_collector.serve.api.latency import latency_of  # noqa: PLC0415 - numpy, for few

    _, day = roots.day(asked["day"], asked.get("market"))
    refuse_part(key, "which this counts")
    return _send_json(out, {"day": day.trading_day, "data": latency_of(day)})


def _sql(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    from hk_tick_collector.serve.api.sql import answer  # noqa: PLC0415 - DuckDB takes its time

    return answer(roots, asked, key, out)


def _books(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    from hk_tick_collector.serve.api.books import answer  # noqa: PLC0415 - fewer ask for it

    return answer(roots, asked, key, out)


def _brokers(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    from hk_tick_collector.serve.api.books import answer_brokers  # noqa: PLC0415 - as above

    return answer_brokers(roots, asked, key, out)


def _snapshots(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    from hk_tick_collector.serve.api.snapshots import answer  # noqa: PLC0415 - as above

    return answer(roots, asked, key, out)


def _books_latest(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    from hk_tick_collector.serve.api.books import newest  # noqa: PLC0415 - as above

    books = newest(roots, asked, key)
    return _send_json(out, {"data": books, "at_ms": roots.all[0].now_ms})


def _completeness(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """By symbol and day, as the Python API has it."""
    stretch = stretch_of(asked)
    plan = plan_of(roots.files().markets(), stretch)
    plan.reads = [allowed(read, key) for read in plan.reads]
    return _send_json(out, {"data": coverage_of(plan, stretch).to_dicts()})


def _recorded(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """The recorded days as the Python API lists them."""
    return _send_json(out, {"data": [asdict(info) for info in roots.files().days(key.may_read)]})


_JOBS: dict[str, Callable[[Roots, Asked, Key, Out], int]] = {
    "ticks": _ticks,
    "books": _books,
    "brokers": _brokers,
    "snapshots": _snapshots,
    "books_latest": _books_latest,
    "completeness": _completeness,
    "recorded": _recorded,
    "bars": _bars,
    "days": _days,
    "day": _one_day,
    "symbols": _symbols,
    "coverage": _coverage,
    "gaps": _gaps,
    "certificate": _certificate,
    "top": _top,
    "latency": _latency,
    "sql": _sql,
}

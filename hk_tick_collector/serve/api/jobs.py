"""What a reading process does: one question in, an answer's head and body out.

A question is a plain dictionary, made of parameters that ``models`` has checked; what only the files can tell (is there
such a day, is the symbol recorded) is a Problem here. Rows are read a few symbols at a time and written as they come,
so memory does not grow with the answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, BinaryIO, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from hk_tick_collector.core.errors import StoreError
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.schema import COLUMNS, UTC_MS, ticks_schema
from hk_tick_collector.market.market import Market
from hk_tick_collector.quality.certificate import make_certificate
from hk_tick_collector.quality.gap_list import gap_lines
from hk_tick_collector.query import bars
from hk_tick_collector.query.fetch import DayPart, explain_nothing, type_mask
from hk_tick_collector.query.trade_types import TradeRule, is_trade
from hk_tick_collector.serve.api.answer import Facts, Look, media_type, write_answer
from hk_tick_collector.serve.api.completeness import Completeness, judge_day
from hk_tick_collector.serve.api.cursor import Cursor, Spot, question_of
from hk_tick_collector.serve.api.roots import ALL, Root, Roots, Times, bad, parts_of
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem, shown
from hk_tick_collector.store.coverage import PROVEN
from hk_tick_collector.store.follow import place_at
from hk_tick_collector.store.position import Position

GROUP_ROWS = 400_000  # read and sorted at a time
TOP_MEMORY_MB = 512
PAGE_CSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
BAR_FIELDS = (pa.field("end_ms", UTC_MS, nullable=False), pa.field("is_final", pa.bool_(), nullable=False))
BAR_SCHEMA = pa.schema([*bars.BARS, *BAR_FIELDS])

Asked = Mapping[str, Any]


class Out(Protocol):
    """Where an answer goes."""

    def head(self, status: int, headers: Mapping[str, str]) -> None:
        """First, once."""

    @property
    def body(self) -> BinaryIO:
        """Then the rest."""


@dataclass(frozen=True)
class Part:
    """A stretch of a day in one root, the symbols wanted of it, and its state."""

    root: Root
    stretch: DayPart
    symbols: list[str]
    counts: Mapping[str, int]  # ticks of every symbol of the day
    last_rowid: int | None

    @property
    def day(self) -> Day:
        return self.stretch.day


@dataclass
class Plan:
    """What a question reads."""

    parts: list[Part]
    facts: Facts
    states: dict[str, str] = field(default_factory=dict)
    start: Spot | None = None
    question: str = ""


class Rows(Protocol):
    """One kind of rows by symbol and time: ticks, bars."""

    schema: pa.Schema
    time_column: str

    def read(self, part: Part, symbols: list[str], from_ms: int | None) -> pa.Table:
        """Rows in the order of symbol and time; those before ``from_ms`` may be left out."""


def run(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """Answer a question; how many rows. Problems and the store's errors are raised, also in the middle of a body."""
    return _JOBS[asked["job"]](roots, asked, key, out)


# Ticks and bars


def _ticks(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    plan = plan_of(roots, asked, key)
    names = _columns(asked.get("fields"))
    rows = TickRows(names, asked.get("types") or ["all"], asked.get("as_of_ms"))
    return _send(plan, rows, asked, out)


def _bars(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    try:
        interval_ms = bars.parse_interval_ms(asked["interval"])
    except ValueError as exc:
        raise bad("interval", str(exc)) from exc
    plan = plan_of(roots, asked, key)
    return _send(plan, BarRows(interval_ms, asked), asked, out)


class TickRows:
    """Stored ticks."""

    time_column = "ts_ms"

    def __init__(self, names: tuple[str, ...], types: list[str], as_of_ms: int | None) -> None:
        self.schema = ticks_schema(names)
        self._names, self._types, self._as_of_ms = names, types, as_of_ms
        more = ["symbol", "ts_ms"]
        more += ["tick_type", "price", "volume"] if "all" not in types else []
        more += ["inserted_at_ms"] if as_of_ms is not None else []
        self._needed = tuple(dict.fromkeys((*names, *more)))

    def read(self, part: Part, symbols: list[str], from_ms: int | None) -> pa.Table:
        bounds = [ms for ms in (part.stretch.start_ms, from_ms) if ms is not None]
        table = part.day.ticks(
            symbols, self._needed, start_ms=max(bounds, default=None), end_ms=part.stretch.end_ms,
            last_rowid=part.last_rowid,
        )  # fmt: skip
        if "all" not in self._types:
            table = table.filter(pa.array(type_mask(table, _keep(part.root.market, self._types))))
            table = table.filter(is_trade(table))
        if self._as_of_ms is not None:
            stored = table.column("inserted_at_ms")
            table = table.filter(pc.fill_null(pc.less_equal(stored, pa.scalar(self._as_of_ms, stored.type)), False))
        return table


def _keep(market: Market, types: list[str]) -> Callable[[str | None], bool]:
    rule, kinds = TradeRule(market.trade_types), market.trade_types

    def keep(tick_type: str | None) -> bool:
        if rule.prices(tick_type):
            return "price" in types
        return "odd_lots" in types if tick_type in kinds.odd_lot else "off_exchange" in types

    return keep


class BarRows:
    """Bars of the trades that count."""

    time_column = "start_ms"
    schema = BAR_SCHEMA

    def __init__(self, interval_ms: int, asked: Asked) -> None:
        self._interval_ms = interval_ms
        self._asked = asked

    def read(self, part: Part, symbols: list[str], from_ms: int | None) -> pa.Table:
        ticks = part.day.ticks(
            symbols, bars.INPUT_COLUMNS, start_ms=part.stretch.start_ms, end_ms=part.stretch.end_ms,
            last_rowid=part.last_rowid,
        )  # fmt: skip
        table = bars_of(ticks, self._interval_ms, part.root, part.stretch, self._asked)
        if from_ms is not None:
            table = table.filter(pc.greater_equal(table.column("start_ms"), pa.scalar(from_ms, UTC_MS)))
        return table


def bars_of(ticks: pa.Table, interval_ms: int, root: Root, stretch: DayPart, asked: Asked) -> pa.Table:
    """The bars of ticks of one day, with the end of each and whether its time is over."""
    market = root.market
    rule = TradeRule(
        market.trade_types,
        bool(asked.get("auctions", True)),
        bool(asked.get("odd_lots")),
        bool(asked.get("off_exchange")),
    )
    fill = _fill(root, stretch) if asked.get("fill") == "session" else None
    table = bars.make_bars(ticks, interval_ms, market, rule, fill)
    start_ms = table.column("start_ms").cast(pa.int64())
    end_ms = pc.add(start_ms, interval_ms)
    columns = [*table.columns, end_ms.cast(UTC_MS), pc.less_equal(end_ms, root.now_ms)]
    return pa.Table.from_arrays(columns, schema=BAR_SCHEMA)


def _fill(root: Root, stretch: DayPart) -> bars.Fill:
    day = stretch.day.trading_day
    windows = []
    for first_ms, last_ms in root.market.continuous_windows(day, root.calendar.day_kind(day)):
        end_ms = last_ms if stretch.end_ms is None else min(last_ms, stretch.end_ms)
        start_ms = first_ms if stretch.start_ms is None else max(first_ms, stretch.start_ms)
        if start_ms < end_ms:
            windows.append((start_ms, end_ms))
    return bars.Fill(windows, root.now_ms)


def _columns(fields: list[str] | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(fields or COLUMNS))
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise bad("fields", f"{unknown[0]!r:.40} is no column; there are {', '.join(COLUMNS)}")
    return names


# What a question reads, and of which state


def plan_of(roots: Roots, asked: Asked, key: Key) -> Plan:
    """The parts of days, judged; a Problem when there is nothing, when it may not be read, or is not proven."""
    times = Times(asked.get("day"), asked.get("start"), asked.get("end"), asked.get("tz"))
    question = question_of(asked)
    cursor = Cursor.parse(asked["cursor"], question) if asked.get("cursor") else None
    found = Completeness()
    plan = Plan([], Facts({}, {}), dict(cursor.states) if cursor else {}, cursor.spot if cursor else None, question)
    absent: dict[str, tuple[Root, list[Day]]] = {}
    is_all = asked["symbols"] == ALL
    wanted = (
        [(root, None) for root in roots.of_market(asked.get("market"))] if is_all else roots.symbols(asked["symbols"])
    )
    for root, symbols in wanted:
        if symbols is not None:
            _check_rights(key, symbols)
        stretches = parts_of(root, times) if root.catalog.days() else []
        if is_all and len(stretches) > 1:
            raise bad("symbols", f"{ALL} is for one day at a time; these are {len(stretches)}")
        for stretch in stretches:
            _add_part(plan, root, stretch, symbols, key, found, fixed=cursor is not None)
        for symbol in symbols or ():
            absent.setdefault(symbol, (root, [stretch.day for stretch in stretches]))
    if not plan.parts:
        raise Problem("no-data", "no recorded day lies in that time")
    plan.parts.sort(key=lambda part: (part.day.trading_day, part.root.number))
    there = {symbol for part in plan.parts for symbol in part.symbols if symbol in part.counts}
    plan.facts.warnings += _absent(absent, there)
    plan.facts.coverage = found.as_json()
    if asked.get("require") == PROVEN and found.state != PROVEN:
        raise Problem(
            "not-proven", f"{found.state}: {found.missing_ticks} ticks are missing", more={"coverage": found.as_json()}
        )
    plan.facts.as_of = _as_of(plan, cursor, roots)
    return plan


def _check_rights(key: Key, symbols: list[str]) -> None:
    refused = [symbol for symbol in symbols if not key.may_read(symbol)]
    if refused:
        raise Problem("forbidden", f"the key {key.id} may not read {', '.join(refused[:5])}")


def _add_part(
    plan: Plan, root: Root, stretch: DayPart, symbols: list[str] | None, key: Key, found: Completeness, *, fixed: bool
) -> None:
    day = stretch.day
    name = f"{root.number}:{day.trading_day}"
    state, last_rowid = state_of(day)
    if fixed:
        last_rowid = _held_to(plan.states.get(name), state, day)
    else:
        plan.states[name] = state
    if last_rowid is None and day.conflict:
        plan.facts.warnings.append(f"{day.trading_day} is in its archive and in a day file")
    readable = None if symbols is None and key.reads_all else symbols
    if symbols is None and not key.reads_all:
        readable = [symbol for symbol in day.symbols() if key.may_read(symbol)]
    counts = judge_day(found, day, readable)
    mine = sorted(counts) if readable is None else [symbol for symbol in readable if symbol in counts]
    plan.parts.append(Part(root, stretch, mine, counts, last_rowid))


def state_of(day: Day) -> tuple[str, int | None]:
    """What a page's cursor keeps of a day: how far its file was written, or which archive it is."""
    if day.is_archived_only:
        assert day.manifest is not None
        return f"={day.manifest.content_hash[-12:]}", None
    assert day.db is not None
    place = place_at(day.db, day.trading_day)
    return f"{place.rowid}.{place.check:08x}", place.rowid


def _held_to(kept: str | None, now: str, day: Day) -> int | None:
    """The last rowid of a state that a cursor keeps. Problem when the day is another one now."""
    gone = Problem(
        "cursor-gone", f"{day.trading_day} is another file than on the first page", hint="ask again without cursor"
    )
    if kept is None or kept.startswith("=") != now.startswith("="):
        raise gone
    if kept.startswith("="):
        if kept != now:
            raise gone
        return None
    rowid, _, check = kept.partition(".")
    assert day.db is not None
    if not rowid.isdigit() or f"{place_at(day.db, day.trading_day, int(rowid)).check:08x}" != check:
        raise gone
    return int(rowid)


def _absent(absent: Mapping[str, tuple[Root, list[Day]]], there: set[str]) -> list[str]:
    """A sentence for each symbol that is not recorded on these days; a Problem when none is."""
    if not absent or all(symbol in there for symbol in absent):
        return []
    lacking = [symbol for symbol in absent if symbol not in there]
    if len(lacking) == len(absent):
        root, days = absent[lacking[0]]
        if not days:
            raise Problem("no-data", "no recorded day lies in that time")
        raise Problem("unknown-symbol", explain_nothing(root.catalog, days, lacking, ""))
    return [explain_nothing(*_where(absent[symbol]), [symbol], "") for symbol in lacking]


def _where(place: tuple[Root, list[Day]]) -> tuple[Any, list[Day]]:
    return place[0].catalog, place[1]


def _as_of(plan: Plan, cursor: Cursor | None, roots: Roots) -> dict[str, Any]:
    """When the state was fixed, and, of its newest day, where the live channel goes on."""
    as_of_ms = cursor.as_of_ms if cursor is not None else roots.all[0].now_ms
    newest = max(
        (part for part in plan.parts if part.last_rowid is not None),
        key=lambda part: part.day.trading_day,
        default=None,
    )
    position = None
    if newest is not None and newest.day.db is not None:
        place = place_at(newest.day.db, newest.day.trading_day, newest.last_rowid)
        position = str(Position.at_start_of(place.day).moved(place))
    return {"at_ms": as_of_ms, "position": position}


# Rows on their way out


def _send(plan: Plan, rows: Rows, asked: Asked, out: Out) -> int:
    look = Look(asked.get("format", "json"), asked.get("time", "ms"), asked.get("prices", "number"))
    found: Iterable[tuple[Part, pa.Table]] = chunks(plan, rows)
    if asked.get("limit") is not None:
        page, is_more = _first(found, asked["limit"])
        if is_more:
            spot = _spot(plan, rows, page)
            plan.facts.next = str(Cursor(plan.question, spot, plan.facts.as_of["at_ms"], plan.states))
        found = page
    headers = {"content-type": media_type(look.format), "cache-control": "no-store"}
    if look.format != "json":
        headers.update(plan.facts.headers())
    out.head(200, headers)
    names = list(rows.schema.names)
    zone = plan.parts[0].root.market.zone
    return write_answer(out.body, rows.schema, (table.select(names) for _, table in found), plan.facts, look, zone)


def chunks(plan: Plan, rows: Rows) -> Iterator[tuple[Part, pa.Table]]:
    """The rows behind the cursor by day, symbol and time, some symbols at a time; none of the tables is empty."""
    spot = plan.start
    for part in plan.parts:
        place = (part.day.trading_day, part.root.number)
        if spot is not None and place < (spot.day, spot.root):
            continue
        symbols = part.symbols
        if spot is not None and place == (spot.day, spot.root):
            if spot.symbol in symbols:
                table = _behind(rows.read(part, [spot.symbol], spot.ts_ms), rows.time_column, spot)
                if table.num_rows:
                    yield part, table
            symbols = [symbol for symbol in symbols if symbol > spot.symbol]
        for group in _groups(symbols, part.counts):
            table = rows.read(part, group, None)
            if table.num_rows:
                yield part, table


def _behind(table: pa.Table, time_column: str, spot: Spot) -> pa.Table:
    """Rows of one symbol without those that were given: the first ``given`` of its millisecond."""
    same = pc.equal(table.column(time_column), pa.scalar(spot.ts_ms, UTC_MS))
    there = pc.sum(same).as_py() or 0
    return table.slice(min(there, spot.given))


def _groups(symbols: list[str], counts: Mapping[str, int]) -> Iterator[list[str]]:
    """Symbols in order, about GROUP_ROWS ticks at a time; a symbol with more is alone."""
    group: list[str] = []
    rows = 0
    for symbol in symbols:
        if group and rows + counts.get(symbol, 0) > GROUP_ROWS:
            yield group
            group, rows = [], 0
        group.append(symbol)
        rows += counts.get(symbol, 0)
    if group:
        yield group


def _first(found: Iterable[tuple[Part, pa.Table]], limit: int) -> tuple[list[tuple[Part, pa.Table]], bool]:
    """The first ``limit`` rows; are there more?"""
    page: list[tuple[Part, pa.Table]] = []
    left = limit
    for part, table in found:
        if left == 0:
            return page, True
        page.append((part, table.slice(0, left)))
        if table.num_rows > left:
            return page, True
        left -= table.num_rows
    return page, False


def _spot(plan: Plan, rows: Rows, page: list[tuple[Part, pa.Table]]) -> Spot:
    """Behind the last row of a page."""
    part, table = page[-1]
    symbol = table.column("symbol")[-1].as_py()
    ts_ms = table.column(rows.time_column).cast(pa.int64())[-1].as_py()
    same = pc.and_(
        pc.equal(table.column("symbol").cast(pa.string()), symbol),
        pc.equal(table.column(rows.time_column), pa.scalar(ts_ms, UTC_MS)),
    )
    given = pc.sum(same).as_py()
    before = plan.start
    place = (part.root.number, part.day.trading_day, symbol, ts_ms)
    if before is not None and place == before[:4]:
        given += before.given
    return Spot(*place, given)


# Smaller answers, whole in memory


def _send_json(out: Out, content: Any, headers: Mapping[str, str] | None = None) -> int:
    out.head(200, {"content-type": "application/json", "cache-control": "no-store", **(headers or {})})
    out.body.write(json.dumps(content, ensure_ascii=False).encode("utf-8", "backslashreplace"))
    return 0


def _days(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    found = []
    for root in roots.all if not asked.get("market") else roots.of_market(asked["market"]):
        catalog = root.catalog
        names = [name for name in catalog.days() if _is_between(name, asked.get("first"), asked.get("last"))]
        found += [_day_line(root, catalog.day(name)) for name in names[-asked["limit"] :]]
    return _send_json(out, {"data": sorted(found, key=lambda line: (line["day"], line["market"]))})


def _is_between(day: str, first: str | None, last: str | None) -> bool:
    return (first is None or day >= first) and (last is None or day <= last)


def _day_line(root: Root, day: Day) -> dict[str, Any]:
    try:
        certificate = make_certificate(day, root.calendar, root.now_ms, read=False)
        manifest = day.manifest
    except StoreError:
        return {"day": day.trading_day, "market": root.market.code, "state": "damaged"}
    archived = manifest is not None
    return {
        "day": day.trading_day,
        "market": root.market.code,
        "state": "damaged" if certificate.error is not None else "live" if certificate.so_far else "over",
        "has_day_file": day.db is not None,
        "is_archived": archived,
        "is_readable": day.db is not None or day.archived_file.suffix == ".parquet",
        "rows": certificate.stored_ticks,
        "symbols": len(certificate.symbols),
        "grade": certificate.grade,
        "missing_ticks": certificate.missing_ticks,
        "content_hash": manifest.content_hash if manifest is not None else None,
    }


def _one_day(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    root, day = roots.day(asked["day"], asked.get("market"))
    return _send_json(out, _day_line(root, day))


def _symbols(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    _, day = roots.day(asked["day"], asked.get("market"))
    rows = [{"symbol": name, "rows": rows} for name, rows in day.rows_by_symbol().items() if key.may_read(name)]
    return _send_json(out, {"day": day.trading_day, "data": rows})


def _coverage(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    root, day = roots.day(asked["day"], asked.get("market"))
    certificate = make_certificate(day, root.calendar, root.now_ms, read=False)
    if certificate.error is not None:
        raise Problem("day-damaged", f"{day.trading_day} cannot be read")
    rows = [asdict(one) for one in certificate.symbols if key.may_read(one.symbol)]
    return _send_json(out, {"day": day.trading_day, "market": root.market.code, "data": rows})


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
    """What is judged of the whole day: symbols that a key may not read are left out of its lists, not of its sums."""
    root, day = roots.day(asked["day"], asked.get("market"))
    certificate = make_certificate(day, root.calendar, root.now_ms, read=False)
    if certificate.error is not None:
        raise Problem("day-damaged", f"{day.trading_day} cannot be read")
    if not key.reads_all:
        certificate = replace(
            certificate,
            symbols=tuple(one for one in certificate.symbols if key.may_read(one.symbol)),
            open_gaps=tuple(gap for gap in certificate.open_gaps if key.may_read(gap.symbol)),
            problems=(),
        )
    certificate = replace(certificate, source=day.source.name, notes=tuple(map(shown, certificate.notes)))
    if asked["format"] == "json":
        return _send_json(out, {**asdict(certificate), "problems": list(map(shown, certificate.problems))})
    from hk_tick_collector.quality.page import page  # noqa: PLC0415 - few ask for it
    from hk_tick_collector.quality.recount import recount  # noqa: PLC0415

    read = recount(day, root.calendar.day_kind(day.trading_day), workers=1)
    whole = make_certificate(day, root.calendar, root.now_ms, read)
    whole = replace(whole, source=day.source.name, notes=tuple(map(shown, whole.notes)))
    out.head(
        200,
        {"content-type": "text/html; charset=utf-8", "cache-control": "no-store", "content-security-policy": PAGE_CSP},
    )
    out.body.write(page(whole, read.plots, gap_lines(day)).encode())
    return 0


def _top(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    from hk_tick_collector.query.engine import Engine  # noqa: PLC0415 - DuckDB takes its time
    from hk_tick_collector.query.top import top  # noqa: PLC0415

    _, day = roots.day(asked["day"], asked.get("market"))
    if not key.reads_all:
        raise Problem("forbidden", f"the key {key.id} may not read every symbol, which this ranks")
    with Engine([day], workers=1, memory_mb=TOP_MEMORY_MB) as engine:
        result = top(engine, asked["by"], asked["limit"])
        table = pa.Table.from_batches(list(result.batches), result.schema)
    return _send_json(out, {"day": day.trading_day, "by": asked["by"], "data": table.to_pylist()})


_JOBS: dict[str, Callable[[Roots, Asked, Key, Out], int]] = {
    "ticks": _ticks,
    "bars": _bars,
    "days": _days,
    "day": _one_day,
    "symbols": _symbols,
    "coverage": _coverage,
    "gaps": _gaps,
    "certificate": _certificate,
    "top": _top,
}

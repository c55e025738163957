"""A question in SQL: one SELECT over the days asked for, by ``query.engine``, for whoever has the scope ``sql``.

The engine reads the days and nothing else: no file, no network, no extension, no setting, and it shows no path. Memory
is DuckDB's MEMORY_MB, and what the process may take at all; time is the pool's: a process that takes longer is killed.
A key that may not read every symbol sees tables that hold its own alone.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from hk_tick_collector.client.plan import DayRead, check_readable
from hk_tick_collector.core.errors import InputError
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.every import EveryDay, symbols_beside
from hk_tick_collector.query import cells, output
from hk_tick_collector.query.engine import Engine, QueryFailed, Result
from hk_tick_collector.query.statement import SqlError
from hk_tick_collector.serve.api.answer import media_type, written_format
from hk_tick_collector.serve.api.completeness import summary_of
from hk_tick_collector.serve.api.plan import Asked
from hk_tick_collector.serve.api.roots import MAX_SYMBOLS, Roots, bad
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.rights import refuse_hidden
from hk_tick_collector.watch.when import OtherDays, Recorded, one_day, some_days

MEMORY_MB, TEMP_MB = 256, 1024
MAX_DAYS = 100
_OF_TICKS = "coverage is of ticks; some of these days hold order books or snapshots of which it says nothing"


def answer(roots: Roots, asked: Asked, key: Key, out: Any) -> int:
    """Answer it; how many rows."""
    days, beside = _days(roots, asked)
    symbols = _symbols(roots, days, beside, asked, key)
    reads = [DayRead.of(day, tuple(symbols) or None, None, None) for day in days]
    coverage = summary_of(row for read in reads for row in read.coverage)
    as_of = {"at_ms": roots.all[0].now_ms, "position": None}
    try:
        with Engine(
            days,
            symbols,
            memory_mb=MEMORY_MB,
            temp_mb=TEMP_MB,
            workers=1,
            threads=1,
            for_strangers=True,
            beside=beside,
        ) as engine:
            result = engine.run(asked["sql"])
            batches, is_more = _first(result, asked["limit"])
            warnings = [_OF_TICKS] if beside else []
            told = {"truncated": is_more, "as_of": as_of, "coverage": coverage, "warnings": warnings}
            return _send(out, asked["format"], result.schema, batches, told)
    except SqlError as exc:
        raise Problem("bad-sql", str(exc)) from exc
    except QueryFailed as exc:
        raise Problem("too-large", str(exc)) from exc
    except pa.ArrowException as exc:
        raise Problem("bad-sql", f"{asked['format']} cannot hold this answer: cast its columns to plain types") from exc


def _days(roots: Roots, asked: Asked) -> tuple[list[Day], list[Day]]:
    """The days meant, of all data roots of the market; and what they are in those that have no tick of them."""
    recorded = roots.recorded(asked.get("market"))
    every = EveryDay(recorded.catalog)
    names = _names(OtherDays(recorded, every), asked.get("day"))
    if len(names) > MAX_DAYS:
        raise Problem("too-large", f"{len(names)} days are meant; {MAX_DAYS} at most")
    days = [every.day(name) for name in every.with_ticks(names)]
    for day in days:
        check_readable(day)
    return days, every.beside(names)


def _names(recorded: Recorded, text: str | None) -> list[str]:
    try:
        return [one_day(recorded, None)] if text is None else some_days(recorded, text)
    except InputError as exc:
        raise bad("day", str(exc)) from exc


def _symbols(roots: Roots, days: list[Day], beside: list[Day], asked: Asked, key: Key) -> list[str]:
    """Those that the tables are to hold; none for all. A Problem when the key may read none, or not one that is
    named."""
    if asked.get("symbols") is None:
        if key.reads_all:
            return []
        there = {name for day in days for name in day.symbols()}
        for part in (*(part for day in days for part in day.parts), *beside):
            there |= symbols_beside(part)
        mine = sorted(name for name in there if key.may_read(name))
        if not mine:
            raise Problem("forbidden", f"the key {key.id} may not read any symbol of these days")
        return mine
    named = sorted({name for _, names in roots.symbols(asked["symbols"]) for name in names})
    if len(named) > MAX_SYMBOLS:
        raise bad("symbols", f"{len(named)} are given; {MAX_SYMBOLS} at most")
    refuse_hidden(key, named)
    return named


def _first(result: Result, limit: int) -> tuple[list[pa.RecordBatch], bool]:
    """The first rows; are there more?"""
    taken: list[pa.RecordBatch] = []
    left = limit
    for batch in result.batches:
        if batch.num_rows > left:
            return [*taken, batch.slice(0, left)], True
        taken.append(batch)
        left -= batch.num_rows
    return taken, False


def _send(out: Any, format_name: str, schema: pa.Schema, batches: list[pa.RecordBatch], told: dict[str, Any]) -> int:
    headers = {"content-type": media_type(format_name), "cache-control": "no-store"}
    if format_name != "json":
        short = {name: value for name, value in told["coverage"].items() if name != "not_proven"}
        headers.update({"hk-truncated": json.dumps(told["truncated"]), "hk-coverage": json.dumps(short)})
    out.head(200, headers)
    if format_name == "json":
        out.body.write(b'{"data": ')
    rows = output.write_rows(
        schema, batches, written_format(format_name), out.body, time_as=cells.TIME_MS, big_as_text=True,
        arrow_compression="zstd",
    )  # fmt: skip
    if format_name == "json":
        out.body.write(b", " + json.dumps(told, ensure_ascii=False).encode("utf-8", "backslashreplace")[1:])
    return rows

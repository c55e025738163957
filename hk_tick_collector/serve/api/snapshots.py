"""Snapshots over HTTP: which of them (``client.snapshots``), page by page, each page of one state of the files.

A cursor says behind which snapshot a page ended, and how far each file was written when the first page was made.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from hk_tick_collector.client.coverage import PROVEN
from hk_tick_collector.client.errors import BadQuestion
from hk_tick_collector.client.question import SnapshotQuestion, snapshot_question
from hk_tick_collector.client.snapshots import SnapshotPlan, SnapshotRead, plan_of_snapshots
from hk_tick_collector.days.snapshots import schema
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.serve.api.answer import Facts, Look, send
from hk_tick_collector.serve.api.completeness import summary_of
from hk_tick_collector.serve.api.cursor import Cursor, Spot, question_of
from hk_tick_collector.serve.api.plan import Asked, planned, stretch_of
from hk_tick_collector.serve.api.roots import Roots, bad
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.rights import refuse_hidden
from hk_tick_collector.store.snapshot_file import reading

if TYPE_CHECKING:
    from hk_tick_collector.serve.api.out import Out


MAX_PAGE_BYTES = 16 * 1024 * 1024  # a page is put together in memory; bodies may have 100 kB


class _Pages(NamedTuple):
    """A question's pages: what is read, in which state, and where this one begins."""

    plan: SnapshotPlan
    wanted: SnapshotQuestion
    question: str
    states: Mapping[str, str]
    as_of_ms: int
    start: Spot | None


def answer(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """The snapshots asked for; how many rows. Problems, and errors of the Python API and the store."""
    pages = _pages_of(roots, asked, key)
    coverage = pages.plan.coverage
    if asked.get("require") == PROVEN and not coverage.is_proven:
        raise Problem("not-proven", coverage.sentence(), more={"coverage": summary_of(coverage)})
    warnings = [] if coverage.is_proven else [f"not proven to be complete: {coverage.sentence()}"]
    facts = Facts({"at_ms": pages.as_of_ms, "position": None}, summary_of(coverage), warnings)
    wanted = schema(bodies=pages.wanted.bodies)
    batches = _batches(pages)
    if asked.get("limit") is not None:
        page, last = _first(batches, asked["limit"])
        if last is not None:
            facts.next = str(Cursor(pages.question, last, pages.as_of_ms, pages.states))
        batches = iter(page)
    look = Look(asked.get("format", "json"))
    zone = pages.plan.reads[0].market.zone if pages.plan.reads else DEFAULT_MARKET.zone
    tables = (pa.Table.from_batches([batch]) for _, batch in batches)
    return send(out, wanted, tables, coverage, facts, look, zone)


def _pages_of(roots: Roots, asked: Asked, key: Key) -> _Pages:
    question = question_of(asked)
    cursor = Cursor.parse(asked["cursor"], question) if asked.get("cursor") else None
    files, stretch = roots.files(), stretch_of(asked)
    try:
        wanted = snapshot_question(stretch, asked["series"], every=asked["every"], bodies=asked["bodies"])
    except BadQuestion as exc:
        raise bad("series", str(exc.args[0])) from exc
    plan = planned(stretch, lambda: plan_of_snapshots(files.markets(), wanted))
    _limit_to(plan, stretch.symbols, key)
    if cursor is None:
        states = {_name(read): _state(read, read.span.until_no) for read in plan.reads}
        return _Pages(plan, wanted, question, states, files.clock.now_ms(), None)
    plan.reads = [
        _as_it_was(read, cursor.states.get(_name(read), "")) for read in plan.reads if _name(read) in cursor.states
    ]
    if len(plan.reads) != len(cursor.states):
        raise _gone()
    return _Pages(plan, wanted, question, cursor.states, cursor.as_of_ms, cursor.spot)


def _limit_to(plan: SnapshotPlan, named: tuple[str, ...], key: Key) -> None:
    """What a key may see of it. A Problem when a symbol was named that it may not."""
    if key.reads_all:
        return
    if named:
        refuse_hidden(key, sorted({row.symbol for row in plan.coverage}))
    plan.reads = [read.only([row.symbol for row in read.coverage if key.may_read(row.symbol)]) for read in plan.reads]


def _gone() -> Problem:
    return Problem("cursor-gone", "a day of the first page is another file now", hint="ask again without cursor")


def _as_it_was(read: SnapshotRead, state: str) -> SnapshotRead:
    """The day up to where it was written for the first page. A Problem when it is another file now."""
    no, _, _ = state.partition(".")
    if not no.isdigit() or _state(read, int(no)) != state:
        raise _gone()
    return replace(read, span=read.span._replace(until_no=int(no)))


def _name(read: SnapshotRead) -> str:
    """A day of a data root, as a cursor names it."""
    return f"{read.trading_day}.{zlib.crc32(str(read.place.source).encode()):08x}"


def _state(read: SnapshotRead, until_no: int) -> str:
    """How far a file was written, with a check of the row there."""
    sql = "SELECT series_id, ts_sec, recv_ts_ms, digest FROM snapshots WHERE rowid = ?"
    with reading(read.path) as conn:
        row = conn.execute(sql, (until_no,)).fetchone()
    return f"{until_no}.{zlib.crc32(repr(row).encode()):08x}"


def _batches(pages: _Pages) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows behind the cursor, with the number of what they were read from; no batch is empty."""
    for number, read in enumerate(pages.plan.reads):
        span, start = read.span, pages.start
        if start is not None and number < start.part:
            continue
        if start is not None and number == start.part:
            span = span._replace(after=(start.ts_ms, start.given))
        for batch in read.batches(pages.wanted, span):
            yield number, batch


def _first(
    batches: Iterator[tuple[int, pa.RecordBatch]], limit: int
) -> tuple[list[tuple[int, pa.RecordBatch]], Spot | None]:
    """The first ``limit`` rows, fewer of large ones; behind which place the rest begins, if there is one."""
    page: list[tuple[int, pa.RecordBatch]] = []
    page_bytes = 0
    for number, batch in batches:
        if not limit or page_bytes >= MAX_PAGE_BYTES:
            return page, _spot(*page[-1])
        page.append((number, batch.slice(0, limit)))
        if batch.num_rows > limit:
            return page, _spot(*page[-1])
        limit -= batch.num_rows
        page_bytes += batch.nbytes
    return page, None


def _spot(number: int, batch: pa.RecordBatch) -> Spot:
    """Behind the last row: its second and its number in the file."""
    second = batch.column("ts_ms").cast(pa.int64())[-1].as_py() // 1000
    return Spot(number, "", second, batch.column("snapshot_no")[-1].as_py())

"""Order books over HTTP, and broker queues: which of them (``client.books``), page by page, each page of one state of
the files.

A cursor says behind which update a page ended, and how far each book file was written when the first page was made.
Where a day is archived meanwhile its pages go on: the archive holds the very file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hk_tick_collector.client.books import BookPlan, BookRead, plan_of_books, schema_of_question
from hk_tick_collector.client.coverage import NOT_RECORDED, Coverage
from hk_tick_collector.client.question import BROKERS, BookQuestion
from hk_tick_collector.market.registry import DEFAULT_MARKET
from hk_tick_collector.quality.model import BLIND, WATCHED
from hk_tick_collector.serve.api.answer import Facts, Look, send
from hk_tick_collector.serve.api.completeness import LISTED
from hk_tick_collector.serve.api.cursor import Cursor, Spot, question_of
from hk_tick_collector.serve.api.plan import Asked, planned, stretch_of
from hk_tick_collector.serve.api.roots import Roots, bad
from hk_tick_collector.serve.keys import Key
from hk_tick_collector.serve.problems import Problem
from hk_tick_collector.serve.rights import refuse_hidden
from hk_tick_collector.store.book_file import reading
from hk_tick_collector.store.layout import book_days, book_file
from hk_tick_collector.watch.ladder import newest_books

if TYPE_CHECKING:
    from hk_tick_collector.serve.api.out import Out

MAX_NEWEST = 10
_PART = "part"


@dataclass
class _Pages:
    """A question's pages: what is read, in which state, and where this one begins."""

    plan: BookPlan
    wanted: BookQuestion
    question: str
    states: Mapping[str, str]
    as_of_ms: int
    start: Spot | None


def answer(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """The books asked for; how many rows. Problems, and errors of the Python API and the store."""
    return _answered(_pages_of(roots, asked, key, asked["form"], int(asked["depth"])), asked, out)


def answer_brokers(roots: Roots, asked: Asked, key: Key, out: Out) -> int:
    """The broker queues asked for; likewise."""
    return _answered(_pages_of(roots, asked, key, BROKERS), asked, out)


def _answered(pages: _Pages, asked: Asked, out: Out) -> int:
    schema, coverage = schema_of_question(pages.wanted), pages.plan.coverage
    facts = Facts({"at_ms": pages.as_of_ms, "position": None}, summary_of(coverage), _warnings(coverage))
    tables = _tables(pages)
    if asked.get("limit") is not None:
        page, is_more = _first(tables, asked["limit"])
        if is_more:
            facts.next = str(Cursor(pages.question, _spot(page, pages.start), pages.as_of_ms, pages.states))
        tables = iter(page)
    look = Look(asked.get("format", "json"))
    zone = pages.plan.reads[0].market.zone if pages.plan.reads else DEFAULT_MARKET.zone
    return send(out, schema, (table.select(schema.names) for table in tables), coverage, facts, look, zone)


def newest(roots: Roots, asked: Asked, key: Key) -> list[dict[str, Any]]:
    """The newest book of each symbol, of the newest day with books that is not in the archive alone. Of several data
    roots one that still watches it tells, of these the one that heard of it last."""
    books: dict[str, dict[str, Any]] = {}
    for root, named in roots.symbols(asked["symbols"]):
        if len(named) > MAX_NEWEST:
            raise bad("symbols", f"{len(named)} are given; {MAX_NEWEST} at most")
        refuse_hidden(key, named)
        days = book_days(root.data_root)
        path = book_file(root.data_root, days[-1]) if days else None
        for book in newest_books(path, named, asked["levels"], root.now_ms) if path is not None else ():
            known = books.get(book["symbol"])
            if known is None or _freshness(known) < _freshness(book):
                books[book["symbol"]] = {"day": days[-1], **book}
    return [books[symbol] for symbol in sorted(books)]


def _freshness(book: Mapping[str, Any]) -> tuple[bool, int]:
    return book["watched"], book["recv_ts_us"]


def summary_of(coverage: Coverage) -> dict[str, Any]:
    """How well books were watched, small enough to stand in every answer."""
    rows = list(coverage)
    doubtful = [row for row in rows if row.state != WATCHED]
    return {
        "state": BLIND if doubtful or not rows else WATCHED,
        **{state: sum(row.state == state for row in rows) for state in (WATCHED, BLIND, NOT_RECORDED)},
        "merged_pushes": sum(row.missing_ticks for row in rows),
        "not_watched": [
            {
                "day": row.trading_day,
                "symbol": row.symbol,
                "state": row.state,
                "merged_pushes": row.missing_ticks,
                "reason": row.reason,
            }
            for row in doubtful[:LISTED]
        ],
    }


def _pages_of(roots: Roots, asked: Asked, key: Key, form: str, depth: int = 1) -> _Pages:
    question = question_of(asked)
    cursor = Cursor.parse(asked["cursor"], question) if asked.get("cursor") else None
    files, stretch = roots.files(), stretch_of(asked)
    wanted = BookQuestion(stretch, form, depth)
    plan = planned(stretch, lambda: plan_of_books(files.markets(), wanted))
    _check_named(stretch.symbols, plan, key)
    plan.reads = [read if key.reads_all else read.only(list(filter(key.may_read, read.symbols))) for read in plan.reads]
    if cursor is None:
        states = {_name(read): _state(read, read.part.until_no or 0) for read in plan.reads}
        return _Pages(plan, wanted, question, states, files.clock.now_ms(), None)
    plan.reads = _as_they_were(plan.reads, cursor.states)
    return _Pages(plan, wanted, question, cursor.states, cursor.as_of_ms, cursor.spot)


def _check_named(named: Sequence[str], plan: BookPlan, key: Key) -> None:
    """A Problem when a symbol was named that the key may not read."""
    if not named or key.reads_all:
        return
    refuse_hidden(key, sorted({row.symbol for row in plan.coverage}))


def _as_they_were(reads: Sequence[BookRead], states: Mapping[str, str]) -> list[BookRead]:
    """The days of the first page, up to where they were written then. A Problem when one is another file now."""
    pinned = []
    for read in reads:
        state = states.get(_name(read), "")
        no, _, _ = state.partition(".")
        if no.isdigit() and _state(read, int(no)) == state:
            pinned.append(replace(read, part=read.part._replace(until_no=int(no))))
    if len(pinned) != len(states):  # the pages behind would begin in another day
        raise Problem("cursor-gone", "a day of the first page is another file now", hint="ask again without cursor")
    return pinned


def _name(read: BookRead) -> str:
    """A day of a data root, as a cursor names it."""
    return f"{read.day.trading_day}.{zlib.crc32(str(read.day.root).encode()):08x}"


def _state(read: BookRead, until_no: int) -> str:
    """How far a book file was written, with a check of the row there, and of which symbols it tells for others."""
    with read.day.opened(read.symbols) as path, reading(path) as conn:
        row = conn.execute("SELECT * FROM pushes WHERE rowid = ?", (until_no,)).fetchone()
    checked = repr(row) if not read.chosen else f"{row!r} {read.chosen!r}"
    return f"{until_no}.{zlib.crc32(checked.encode()):08x}"


def _tables(pages: _Pages) -> Iterator[pa.Table]:
    """Rows behind the cursor; no table is empty."""
    for number, read in enumerate(pages.plan.reads):
        start, part, given = pages.start, read.part, 0
        if start is not None and number < start.part:
            continue
        if start is not None and number == start.part:
            part, given = part._replace(after_no=max(0, start.ts_ms - 1)), start.given
        for batch in read.batches(pages.wanted, part):
            rest = batch.slice(min(given, batch.num_rows))
            given -= min(given, batch.num_rows)
            if rest.num_rows:
                yield pa.Table.from_batches([rest]).append_column(_PART, pa.repeat(number, rest.num_rows))


def _first(tables: Iterator[pa.Table], limit: int) -> tuple[list[pa.Table], bool]:
    """The first ``limit`` rows; are there more?"""
    page: list[pa.Table] = []
    for table in tables:
        if not limit:
            return page, True
        page.append(table.slice(0, limit))
        if table.num_rows > limit:
            return page, True
        limit -= table.num_rows
    return page, False


def _spot(page: Sequence[pa.Table], before: Spot | None) -> Spot:
    """Behind the last row of a page: its day, its update, and how many rows of that update were given."""
    number, update_no = page[-1].column(_PART)[-1].as_py(), page[-1].column("update_no")[-1].as_py()
    given = 0
    for table in reversed(page):
        parts, updates = table.column(_PART).to_numpy(), table.column("update_no").to_numpy()
        same = int(((parts == number) & (updates == update_no)).sum())
        given += same
        if same < table.num_rows:
            break
    if before is not None and (before.part, before.ts_ms) == (number, update_no):
        given += before.given
    return Spot(number, "", update_no, given)


def _warnings(coverage: Coverage) -> list[str]:
    """One sentence, when books were not watched all the time."""
    return [] if coverage.is_watched else [f"not watched all the time: {coverage.blind_sentence()}"]

"""A day's order books in ClickHouse: every row and level of the file, proven by both sides, and read back as it was."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

import hk_tick_collector as hk
from hk_tick_collector.cli.ship import _as_json, _compared, _days
from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.book_content import book_contents_in
from hk_tick_collector.clickhouse.connection import ClickHouse
from hk_tick_collector.clickhouse.copy import Copy
from hk_tick_collector.clickhouse.older import Older
from hk_tick_collector.clickhouse.recorded import CopiedDays
from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.local import LocalFiles
from hk_tick_collector.client.question import book_question, stretch
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.days.book_content import book_content_of
from hk_tick_collector.days.books import read_stored
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.every import EveryDay
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.ship.copies import Copies
from hk_tick_collector.ship.marks import verified_books
from hk_tick_collector.ship.state import State
from hk_tick_collector.store.layout import archive_dir, book_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import DAY, OPEN_US, record_books
from tests.unit.ship.test_ship import catalog, keeper_of
from tests.unit.store_ticks import ticks

PUSHES = 3000


@pytest.fixture
def file(root: Path) -> Path:
    """A day of books; with a break and a side that is empty among them."""
    record_books(root, pushes=PUSHES)
    path = book_file(root, DAY)
    with sqlite3.connect(path) as conn:
        conn.execute(
            "INSERT INTO pushes SELECT symbol_id, recv_ts_us + 5, NULL, NULL, 'B', 3, NULL FROM pushes LIMIT 1"
        )
    conn.close()
    return path


def told(contents: object) -> dict[str, tuple[int, str]]:
    return {name: (content.rows, content.content_hash) for name, content in contents.items()}  # type: ignore[attr-defined]


def is_equal(file: Path, engine: ClickHouse) -> bool:
    return told(book_content_of(read_stored(file))) == told(book_contents_in(engine, "books", DAY, "A"))


def test_books_of_a_day_that_is_over_are_copied_and_proven(
    root: Path, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper = keeper_of(root, engine, state)
    keeper.look()
    assert is_equal(file, engine)
    assert keeper.counts.book_days_verified == 1
    ((rows, symbols),) = engine.rows(f"SELECT rows, symbols FROM {engine.database}.book_days WHERE recorder = 'A'")
    assert (rows, symbols) == (PUSHES + 3, 2)
    keeper.look()
    assert keeper.counts.book_days_verified == 1  # nothing has changed
    sql = f"SELECT count(), countIf(bid_px_0 < ask_px_0), countIf(kind = 'B') FROM {engine.database}.books"
    assert engine.rows(sql) == [[PUSHES + 3, PUSHES, 3]]  # levels are there for who asks in SQL
    ((spread,),) = engine.rows(
        f"SELECT avg(ask_px_0 - bid_px_0) FROM {engine.database}.books WHERE symbol = 'HK.00700'"
    )
    assert spread > 0


def test_a_changed_value_is_found_and_healed(root: Path, file: Path, engine: ClickHouse, state: State) -> None:
    keeper = keeper_of(root, engine, state)
    keeper.look()
    table, other = f"{engine.database}.books", f"{engine.database}.other"
    where = "symbol = 'HK.00700' AND update_no < 20 AND kind = 'D'"
    engine.run(f"CREATE TABLE {other} AS {table}")
    here = told(book_content_of(read_stored(file)))
    for name, value in (
        ("ask_qty_9", "ask_qty_9 + 1"), ("payload", "'x'"), ("kind", "'S'"), ("ask_ts", "NULL"),
        ("recv_ts", "recv_ts + toIntervalMicrosecond(1)"),
    ):  # fmt: skip
        engine.run(f"TRUNCATE TABLE {other}")
        engine.run(f"INSERT INTO {other} SELECT * REPLACE (if({where}, {value}, {name}) AS {name}) FROM {table}")
        there = told(book_contents_in(engine, "other", DAY, "A"))
        assert there["HK.00005"] == here["HK.00005"]
        assert there["HK.00700"] != here["HK.00700"], name
    engine.run(f"ALTER TABLE {table} REPLACE PARTITION ('{DAY}', 'A') FROM {other}")
    assert "1 of 2 symbols differ" in keeper.check_books(DAY, heal=False)
    assert not is_equal(file, engine)
    assert "1 of 2 symbols differ" in keeper.check_books(DAY)
    assert is_equal(file, engine)


def test_a_file_that_is_written_to_again_is_compared_again(
    root: Path, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper = keeper_of(root, engine, state)
    keeper.look()
    with sqlite3.connect(file) as conn:
        conn.execute("UPDATE pushes SET merged = merged + 1 WHERE rowid = 7")
    conn.close()
    keeper.look()
    assert keeper.counts.book_days_verified == 2
    assert is_equal(file, engine)


def test_books_that_arrive_otherwise_are_not_swapped_in(
    root: Path, file: Path, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(root, engine, state)
    insert = ClickHouse.insert
    sent: list[int] = []

    def half(self: ClickHouse, table: str, body: bytes, *, token: str = "") -> None:
        if table != "books_stage" or sent:
            insert(self, table, body, token=token)
        sent.append(1)

    monkeypatch.setattr(ClickHouse, "insert", half)
    with pytest.raises(StoreUnavailable, match="did not arrive as they were sent"):
        keeper.check_books(DAY)
    assert engine.rows(f"SELECT count() FROM {engine.database}.books") == [[0]]
    assert keeper.check_books(DAY) == "nothing of it is there"
    assert is_equal(file, engine)


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_what_is_read_there_is_what_the_file_says(
    root: Path, file: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write(ticks(5))
    writer.close()
    keeper_of(root, engine, state).look()
    half = {"start": OPEN_US // 1000, "end": OPEN_US // 1000 + PUSHES // 2}
    questions: list[tuple[str, dict[str, Any]]] = [
        ("all", {"day": DAY, "form": "wide", "depth": 12}),
        ("700", {"form": "long", **half}),
        ("5,700", {"day": DAY, "form": "quotes"}),
    ]
    sql = "SELECT symbol, count(*), sum(ask_qty_3), max(recv_ts) FROM books GROUP BY 1 ORDER BY 1"

    def answers(recordings: Recordings) -> list[Any]:
        tables = [recordings.load(words.split(","), kind="book", **options) for words, options in questions]
        asked = book_question(stretch("all", DAY), "wide", 10)
        return [
            *((table.schema, table.unify_dictionaries().to_pylist()) for table in tables),
            list(recordings.backend.books(asked).coverage),
            recordings.days()[0].book_rows,
        ]

    def of_sql(day: Day) -> Any:
        with Engine([day]) as asked:
            return [row for batch in asked.run(sql).batches for row in batch.to_pylist()]

    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.local(root) as here, hk.connect(url) as there:
        told = answers(here)
        assert all(rows for _, rows in told[:3])
        assert answers(there) == told
        assert of_sql(CopiedDays(Copy(engine, "A"), "HK").day(DAY)) == of_sql(catalog(root).day(DAY))
    file.unlink()
    with Recordings(LocalFiles([(root, archive_dir(root))], older=Older(lambda: engine))) as joined:
        assert answers(joined)[:4] == told[:4]  # the ticks' day is here, the books are there


def test_books_of_a_day_without_ticks_are_read_there_in_sql(
    root: Path, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper_of(root, engine, state).look()
    sql = "SELECT symbol, count(*) AS pushes FROM books GROUP BY 1 ORDER BY 1"
    told = []
    for days in (EveryDay(catalog(root)), EveryDay(CopiedDays(Copy(engine, "A"), "HK"))):
        assert (days.days(), days.with_ticks([DAY])) == ([DAY], [])
        with Engine([], beside=days.beside([DAY])) as asked:
            told.append([row for batch in asked.run(sql).batches for row in batch.to_pylist()])
    assert told[1] == told[0]
    assert sum(row["pushes"] for row in told[0]) == PUSHES + 3


def test_books_of_a_day_without_any_there_are_told_of(
    root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write(ticks(5))
    writer.close()
    keeper_of(root, engine, state).look()
    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.connect(url) as there, pytest.raises(hk.NoData, match="no order books"):
        there.load("700", DAY, kind="book")


def test_broker_queues_are_refused_and_not_said_to_be_unrecorded(engine: ClickHouse, state: State) -> None:
    """They may well be recorded: they are not copied."""
    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.connect(url) as there, pytest.raises(hk.BadQuestion, match="broker queues are not in ClickHouse") as caught:
        there.load("700", DAY, kind="broker")
    assert "hk.local" in str(caught.value)


def test_verify_names_the_books_of_a_day_on_a_line_of_their_own(
    root: Path, file: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write(ticks(5))
    writer.close()
    days, copies = catalog(root), Copies(engine, "A")
    assert _days(days, "last") == [DAY, f"{DAY} books"]
    checks = _compared(days, copies, _days(days, "all"))
    assert [row[:2] for row in checks] == [(DAY, "WRONG"), (f"{DAY} books", "WRONG")]
    keeper_of(root, engine, state).look()
    assert _compared(days, copies, _days(days, DAY)) == [(DAY, "equal", ""), (f"{DAY} books", "equal", "")]
    assert _as_json(f"{DAY} books", "equal", "")["kind"] == "books"
    proof = verified_books(state.directory, root, archive_dir(root), DAY)
    assert proof is not None
    assert proof.rows == PUSHES + 3
    file.touch()
    assert verified_books(state.directory, root, archive_dir(root), DAY) is None
    assert "kind" not in _as_json(DAY, "equal", "")


def test_replicated_tables_are_statements_that_the_engine_reads(engine: ClickHouse) -> None:
    """No more than that: making them needs Keeper."""
    for table in tables.tables():
        statement = table.create("hk", tables.Shape(replicated=True))
        assert f"Replicated{table.family}('/clickhouse/tables/{{shard}}/hk_{table.name}', '{{replica}}'" in statement
        assert b"CreateQuery" in engine.run(f"EXPLAIN AST {statement}")

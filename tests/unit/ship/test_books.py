"""A day's order books, and its broker queues, in ClickHouse: every row and level of the file, proven by both sides, and
read back as it was."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest

import hk_tick_collector as hk
from hk_tick_collector.cli.ship import _as_json, _compared, _days
from hk_tick_collector.clickhouse import tables
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineRefused
from hk_tick_collector.clickhouse.copy import Copy
from hk_tick_collector.clickhouse.older import Older
from hk_tick_collector.clickhouse.recorded import CopiedDays
from hk_tick_collector.clickhouse.state_content import state_contents_in
from hk_tick_collector.clickhouse.tables import BOOKS, StateTables
from hk_tick_collector.client.api import Recordings
from hk_tick_collector.client.local import LocalFiles
from hk_tick_collector.client.question import book_question, broker_question, stretch
from hk_tick_collector.core.errors import StoreUnavailable
from hk_tick_collector.days.catalog import Day
from hk_tick_collector.days.every import EveryDay
from hk_tick_collector.days.state_content import state_content_of
from hk_tick_collector.days.stored_states import stored_of
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.records.book import RowKind
from hk_tick_collector.ship.copies import Copies
from hk_tick_collector.ship.marks import verified_states
from hk_tick_collector.ship.state import State
from hk_tick_collector.store import broker_reader
from hk_tick_collector.store.layout import archive_dir
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import DAY, OPEN_US, record_books
from tests.brokers import record_brokers
from tests.unit.ship.test_ship import catalog, keeper_of
from tests.unit.store_ticks import ticks

PUSHES = 800
ROOT = Path(__file__).resolve().parents[3]
SYMBOLS = ("HK.00005", "HK.00700")


@pytest.fixture
def file(root: Path, of: StateTables) -> Path:
    """A day of books or queues; with a break, and a side that is empty, among them."""
    (record_books if of is BOOKS else record_brokers)(root, symbols=SYMBOLS, pushes=PUSHES)
    path = of.kind.file_of(root, DAY)
    with sqlite3.connect(path) as conn:
        conn.execute(
            "INSERT INTO pushes SELECT symbol_id, recv_ts_us + 5, NULL, NULL, 'B', 3, NULL FROM pushes LIMIT 1"
        )
    conn.close()
    return path


def told(contents: object) -> dict[str, tuple[int, str]]:
    return {name: (content.rows, content.content_hash) for name, content in contents.items()}  # type: ignore[attr-defined]


def content_of(of: StateTables, file: Path) -> dict[str, tuple[int, str]]:
    stored = stored_of(of.kind)
    return told(state_content_of(stored.read(file), stored))


def is_equal(of: StateTables, file: Path, engine: ClickHouse, recorder: str = "A", day: str = DAY) -> bool:
    return content_of(of, file) == told(state_contents_in(engine, of, of.rows, day, recorder))


def test_books_of_a_day_that_is_over_are_copied_and_proven(
    root: Path, of: StateTables, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper = keeper_of(root, engine, state)
    keeper.look()
    assert is_equal(of, file, engine)
    assert keeper.counts.days_verified_of[of.word] == 1
    ((rows, symbols),) = engine.rows(f"SELECT rows, symbols FROM {engine.database}.{of.days} WHERE recorder = 'A'")
    assert (rows, symbols) == (PUSHES + 3, 2)
    keeper.look()
    assert keeper.counts.days_verified_of[of.word] == 1  # nothing has changed
    sql = f"SELECT count(), countIf(kind = 'B') FROM {engine.database}.{of.rows}"
    assert engine.rows(sql) == [[PUSHES + 3, 3]]


def test_levels_and_places_are_there_for_who_asks_in_sql(
    root: Path, of: StateTables, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper_of(root, engine, state).look()
    source = f"{engine.database}.{of.rows}"
    if of is BOOKS:
        ((books, spread),) = engine.rows(f"SELECT countIf(bid_px_0 < ask_px_0), avg(ask_px_0 - bid_px_0) FROM {source}")
        assert books == PUSHES
        assert spread > 0
        return
    sql = f"SELECT symbol, update_no, bid_levels, bid_brokers, ask_levels, ask_brokers FROM {source} WHERE kind = 'F'"
    there = {(symbol, no): tuple(tuple(zip(*sides[n : n + 2], strict=True)) for n in (0, 2))
             for symbol, no, *sides in engine.rows(sql)}  # fmt: skip
    assert there == {
        (one.symbol, no): one.queue and tuple(one.queue)
        for no, one in enumerate(broker_reader.queues(file), 1)
        if one.kind is RowKind.FULL
    }
    assert len(there) > PUSHES / 2
    notes = f"SELECT row_json FROM {engine.database}.{of.notes} WHERE name = 'brokers' ORDER BY row_json"
    names = broker_reader.names_of(file)
    assert [tuple(json.loads(text)) for (text,) in engine.rows(notes)] == sorted(names.items())
    asked = re.search(r"```sql\n(SELECT bid_brokers.*?)```", (ROOT / "docs" / "clickhouse.md").read_text(), re.DOTALL)
    assert asked is not None
    first = Counter(
        bids[0][1] for (symbol, _), (bids, _) in there.items() if symbol == "HK.00700" and bids and bids[0][0] == 1
    )
    rows = engine.rows(asked[1].replace("hk.", f"{engine.database}."))
    assert {(key, name): count for key, name, count in rows} == {(key, names[key]): n for key, n in first.items()}


def test_tables_of_before_broker_queues_are_said_to_be_brought_up_to_date(
    root: Path, of: StateTables, file: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write(ticks(5))
    writer.close()
    keeper_of(root, engine, state).look()
    made = [name for table in (of.rows, of.notes) for name in (table, f"{table}_stage")] + [of.days]
    for name in made:
        engine.run(f"DROP TABLE {engine.database}.{name}")
    with pytest.raises(EngineRefused, match=f"has no table {of.rows}: make it with hk-tickctl ship init"):
        tables.check(engine)
    older = Older(lambda: engine)
    file.unlink()
    (root / f"{DAY}.db").unlink()
    (days,) = older([catalog(root)])
    assert (days.days(), older.reason) == ([DAY], ""), "ticks are read all the same"
    assert (days.book_days if of is BOOKS else days.broker_days).days() == []
    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.connect(url) as there, pytest.raises(hk.RecordingsError, match=f"{of.rows}.*ship init"):
        there.load("700", DAY, kind="book" if of is BOOKS else "broker")
    assert tables.init(engine, tables.Shape(), 2) == [f"made {engine.database}.{name}" for name in made]
    tables.check(engine)


def test_a_changed_value_is_found_and_healed(
    root: Path, of: StateTables, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper = keeper_of(root, engine, state)
    keeper.look()
    table, other = f"{engine.database}.{of.rows}", f"{engine.database}.other"
    where = f"symbol = 'HK.00700' AND update_no < 20 AND kind = '{'D' if of is BOOKS else 'F'}'"
    engine.run(f"CREATE TABLE {other} AS {table}")
    here = content_of(of, file)
    own = (
        (("ask_qty_9", "ask_qty_9 + 1"), ("ask_ts", "NULL"))
        if of is BOOKS
        else (("ask_brokers", "arrayReverse(ask_brokers)"), ("bid_levels", "arrayPopBack(bid_levels)"))
    )
    for name, value in (
        *own, ("payload", "'x'"), ("kind", "'S'"), ("recv_ts", "recv_ts + toIntervalMicrosecond(1)"),
    ):  # fmt: skip
        engine.run(f"TRUNCATE TABLE {other}")
        engine.run(f"INSERT INTO {other} SELECT * REPLACE (if({where}, {value}, {name}) AS {name}) FROM {table}")
        there = told(state_contents_in(engine, of, "other", DAY, "A"))
        assert there["HK.00005"] == here["HK.00005"]
        assert there["HK.00700"] != here["HK.00700"], name
    engine.run(f"ALTER TABLE {table} REPLACE PARTITION ('{DAY}', 'A') FROM {other}")
    assert "1 of 2 symbols differ" in keeper.check_states(of.word, DAY, heal=False)
    assert not is_equal(of, file, engine)
    assert "1 of 2 symbols differ" in keeper.check_states(of.word, DAY)
    assert is_equal(of, file, engine)


def test_a_file_that_is_written_to_again_is_compared_again(
    root: Path, of: StateTables, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper = keeper_of(root, engine, state)
    keeper.look()
    with sqlite3.connect(file) as conn:
        conn.execute("UPDATE pushes SET merged = merged + 1 WHERE rowid = 7")
    conn.close()
    keeper.look()
    assert keeper.counts.days_verified_of[of.word] == 2
    assert is_equal(of, file, engine)


def test_books_that_arrive_otherwise_are_not_swapped_in(
    root: Path, of: StateTables, file: Path, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = keeper_of(root, engine, state)
    insert = ClickHouse.insert
    sent: list[int] = []

    def half(self: ClickHouse, table: str, body: bytes, *, token: str = "") -> None:
        if table != f"{of.rows}_stage" or sent:
            insert(self, table, body, token=token)
        sent.append(1)

    monkeypatch.setattr(ClickHouse, "insert", half)
    with pytest.raises(StoreUnavailable, match="did not arrive as they were sent"):
        keeper.check_states(of.word, DAY)
    assert engine.rows(f"SELECT count() FROM {engine.database}.{of.rows}") == [[0]]
    assert keeper.check_states(of.word, DAY) == "nothing of it is there"
    assert is_equal(of, file, engine)


def decoded(table: pa.Table) -> pa.Table:
    """Values in place of dictionaries, which may be in another order."""
    plain = [column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column for column in table]
    return pa.table(plain, table.column_names)


@pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")
def test_what_is_read_there_is_what_the_file_says(
    root: Path, of: StateTables, file: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write(ticks(5))
    writer.close()
    keeper_of(root, engine, state).look()
    half = {"start": OPEN_US // 1000, "end": OPEN_US // 1000 + PUSHES // 2}
    kind = of.word.removesuffix("s")
    questions: list[tuple[str, dict[str, Any]]] = [
        ("all", {"day": DAY, "form": "wide", **({"depth": 12} if of is BOOKS else {})}),
        ("700", {**({"form": "long"} if of is BOOKS else {}), **half}),
        ("5,700", {"day": DAY, **({"form": "quotes"} if of is BOOKS else {})}),
    ]
    number = "ask_qty_3" if of is BOOKS else "broker_id"
    sql = f"SELECT symbol, count(*), sum({number}), max(recv_ts) FROM {of.rows} GROUP BY 1 ORDER BY 1"

    def answers(recordings: Recordings) -> list[Any]:
        tables = [recordings.load(words.split(","), kind=kind, **options) for words, options in questions]
        asked = book_question(stretch("all", DAY), "wide", 10) if of is BOOKS else broker_question(stretch("all", DAY))
        return [
            *((table.schema, decoded(table)) for table in tables),
            list(recordings.backend.books(asked).coverage),
            recordings.days()[0].book_rows,
        ]

    def of_sql(day: Day) -> Any:
        with Engine([day]) as asked:
            return [row for batch in asked.run(sql).batches for row in batch.to_pylist()]

    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.local(root) as here, hk.connect(url) as there:
        told = answers(here)
        assert all(table.num_rows for _, table in told[:3])
        assert answers(there) == told
        assert of_sql(CopiedDays(Copy(engine, "A"), "HK").day(DAY)) == of_sql(catalog(root).day(DAY))
    file.unlink()
    with Recordings(LocalFiles([(root, archive_dir(root))], older=Older(lambda: engine))) as joined:
        assert answers(joined)[:4] == told[:4]  # the ticks' day is here, the books are there


def test_books_of_a_day_without_ticks_are_read_there_in_sql(
    root: Path, of: StateTables, file: Path, engine: ClickHouse, state: State
) -> None:
    keeper_of(root, engine, state).look()
    sql = f"SELECT symbol, count(DISTINCT update_no) AS pushes FROM {of.rows} GROUP BY 1 ORDER BY 1"
    told = []
    for days in (EveryDay(catalog(root)), EveryDay(CopiedDays(Copy(engine, "A"), "HK"))):
        assert (days.days(), days.with_ticks([DAY])) == ([DAY], [])
        with Engine([], beside=days.beside([DAY])) as asked:
            told.append([row for batch in asked.run(sql).batches for row in batch.to_pylist()])
    assert told[1] == told[0]
    assert sum(row["pushes"] for row in told[0]) == PUSHES + 3


@pytest.mark.parametrize(("kind", "noun"), [("book", "order books"), ("broker", "broker queues")])
def test_books_of_a_day_without_any_there_are_told_of(
    kind: Literal["book", "broker"], noun: str, root: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write(ticks(5))
    writer.close()
    keeper_of(root, engine, state).look()
    url = f"{engine.address.url.replace('http', 'clickhouse')}/{engine.database}"
    with hk.connect(url) as there, pytest.raises(hk.NoData, match=f"no {noun}"):
        there.load("700", DAY, kind=kind)


def test_verify_names_the_books_of_a_day_on_a_line_of_their_own(
    root: Path, of: StateTables, file: Path, writer: DayFileWriter, engine: ClickHouse, state: State
) -> None:
    writer.write(ticks(5))
    writer.close()
    days, copies = catalog(root), Copies(engine, "A")
    assert _days(days, "last") == [DAY, f"{DAY} {of.word}"]
    checks = _compared(days, copies, _days(days, "all"))
    assert [row[:2] for row in checks] == [(DAY, "WRONG"), (f"{DAY} {of.word}", "WRONG")]
    keeper_of(root, engine, state).look()
    assert _compared(days, copies, _days(days, DAY)) == [(DAY, "equal", ""), (f"{DAY} {of.word}", "equal", "")]
    assert _as_json(f"{DAY} {of.word}", "equal", "")["kind"] == of.word
    proof = verified_states(of.kind, state.directory, root, archive_dir(root), DAY)
    assert proof is not None
    assert proof.rows == PUSHES + 3
    file.touch()
    assert verified_states(of.kind, state.directory, root, archive_dir(root), DAY) is None
    assert "kind" not in _as_json(DAY, "equal", "")


def test_replicated_tables_are_statements_that_the_engine_reads(engine: ClickHouse) -> None:
    """No more than that: making them needs Keeper."""
    for table in tables.tables():
        statement = table.create("hk", tables.Shape(replicated=True))
        assert f"Replicated{table.family}('/clickhouse/tables/{{shard}}/hk_{table.name}', '{{replica}}'" in statement
        assert b"CreateQuery" in engine.run(f"EXPLAIN AST {statement}")

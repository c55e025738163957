"""SQL over what is recorded beside ticks: snapshots live and archived, of several data roots, of days without ticks."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hk_tick_collector.archive.snapshots import leave_to_archive, put_away
from hk_tick_collector.core.errors import NoData, StoreCorrupt
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.every import EveryDay, symbols_beside
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.data_root import claim
from hk_tick_collector.store.layout import archive_dir, snapshot_archive, snapshot_file
from hk_tick_collector.store.writer import DayFileWriter
from tests.books import record_books
from tests.snapshots import DAY, FLOW, NDX, OPEN_SEC, SPX, filled, record, snapshot
from tests.tickctl import record_day
from tests.ticks import make_tick

BEFORE = "20261125"
DOCS = Path(__file__).resolve().parents[2] / "docs"
LONG_AGO_MS = 10**14
ALL = "SELECT * FROM snapshots ORDER BY trading_day, ts_ms, snapshot_no"


def every(*roots: Path) -> EveryDay:
    catalogs = [Catalog(root, archive_dir(root)) for root in roots]
    return EveryDay(catalogs[0] if len(catalogs) == 1 else UnionCatalog(catalogs))


def ask(days: EveryDay, sql: str, symbols: Sequence[str] = ()) -> list[dict[str, Any]]:
    names = days.days()
    with Engine([days.day(name) for name in days.with_ticks(names)], symbols, beside=days.beside(names)) as engine:
        result = engine.run(sql)
        return pa.Table.from_batches(result.batches, result.schema).to_pylist()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    live = [snapshot(SPX, second) for second in range(30) if second % 3]
    rows = [*live, *filled(SPX, (0, 3)), snapshot(SPX, 4, "copy", "told otherwise"), *filled(NDX, (1, 2))]
    record(tmp_path / "US", [snapshot(SPX, second - 2 * 86_400) for second in range(5)])
    return record(tmp_path / "US", [*rows, *(snapshot(FLOW, second) for second in range(7))])


def test_snapshots_are_one_a_second_and_all_snapshots_are_all(root: Path) -> None:
    sql = "SELECT trading_day, category, count(*) AS n FROM {} GROUP BY ALL ORDER BY ALL"
    shown = [tuple(row.values()) for row in ask(every(root), sql.format("snapshots"))]
    assert shown == [(BEFORE, "gex_full", 5), (DAY, "gex_full", 22 + 2), (DAY, "orderflow", 7)]
    stored = [tuple(row.values()) for row in ask(every(root), sql.format("all_snapshots"))]
    assert stored == [(BEFORE, "gex_full", 5), (DAY, "gex_full", 23 + 2), (DAY, "orderflow", 7)]


def test_a_row_says_what_was_stored_on_the_clock_of_the_market(root: Path) -> None:
    sql = (
        "SELECT symbol, package, hour(ts_ms) AS hour, minute(ts_ms) AS minute, epoch_ms(recv_ts_ms) AS recv_ts_ms, "
        "origin, spot, zero_gamma, (body->>'timestamp')::BIGINT AS told FROM {} "
        f"WHERE trading_day = '{DAY}' AND category = 'gex_full' AND epoch_ms(ts_ms) = {(OPEN_SEC + 4) * 1000} "
        "AND symbol = 'US.SPX' ORDER BY snapshot_no"
    )
    row = {
        "symbol": "US.SPX", "package": "classic", "hour": 9, "minute": 30, "recv_ts_ms": (OPEN_SEC + 4) * 1000 + 300,
        "origin": "live", "spot": 5004.0, "zero_gamma": None, "told": OPEN_SEC + 4,
    }  # fmt: skip
    assert ask(every(root), sql.format("snapshots")) == [row]
    assert ask(every(root), sql.format("all_snapshots")) == [row, {**row, "origin": "copy"}]


def test_symbols_narrow_them_and_a_count_needs_no_body(root: Path) -> None:
    sql = "SELECT symbol, count(*) AS n FROM snapshots GROUP BY 1"
    assert ask(every(root), sql, ["US.NDX"]) == [{"symbol": "US.NDX", "n": 2}]
    assert ask(every(root), "SELECT count(*) AS n FROM all_snapshots") == [{"n": 5 + 23 + 2 + 7}]


def test_an_archived_day_answers_as_it_did(root: Path) -> None:
    before = ask(every(root), ALL)
    put_away(root, archive_dir(root), BEFORE, LONG_AGO_MS)
    leave_to_archive(root, archive_dir(root), BEFORE, dry_run=False)
    assert not snapshot_file(root, BEFORE).exists()
    assert {row["trading_day"] for row in before} == {BEFORE, DAY}
    assert ask(every(root), ALL) == before
    assert symbols_beside(every(root).day(BEFORE)) == {"US.SPX"}


def test_an_archive_that_is_damaged_is_named(root: Path) -> None:
    put_away(root, archive_dir(root), BEFORE, LONG_AGO_MS)
    leave_to_archive(root, archive_dir(root), BEFORE, dry_run=False)
    (packed,) = snapshot_archive(archive_dir(root), BEFORE).glob("*.gz")
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=packed.name):
        ask(every(root), ALL)
    assert ask(every(root), "SELECT count(*) AS n FROM ticks") == [{"n": 0}], "who does not ask for it reads the rest"


def test_ticks_of_one_data_root_and_snapshots_of_another_are_one_day(root: Path, tmp_path: Path) -> None:
    ticks = tmp_path / "ticks"
    ticks.mkdir()
    claim(ticks, "US")
    at_ms = (OPEN_SEC + 1) * 1000
    tick = make_tick(1, "US.AAPL", trading_day=DAY, ts_ms=at_ms, recv_ts_ms=at_ms)
    writer = DayFileWriter(ticks, SqliteOptions())
    writer.write([tick])
    writer.close()
    sql = (
        "SELECT t.price, s.spot FROM ticks t JOIN snapshots s ON s.ts_ms = t.ts_ms AND s.symbol = 'US.SPX' "
        "WHERE s.category = 'gex_full'"
    )
    assert ask(every(ticks, root), sql) == [{"price": tick.price, "spot": 5001.0}]
    assert ask(every(root, ticks), sql) == [{"price": tick.price, "spot": 5001.0}]


def test_of_two_data_roots_the_first_with_a_symbol_tells(root: Path, tmp_path: Path) -> None:
    twin = record(tmp_path / "twin", [snapshot(SPX, 40, says="twin"), snapshot(SPX._replace(symbol="US.RUT"), 41)])
    sql = f"SELECT symbol, count(*) AS n FROM all_snapshots WHERE trading_day = '{DAY}' GROUP BY 1 ORDER BY 1"
    rows_of = {row["symbol"]: row["n"] for row in ask(every(root, twin), sql)}
    assert rows_of == {"US.NDX": 2, "US.RUT": 1, "US.SPX": 23 + 7}
    assert {row["symbol"]: row["n"] for row in ask(every(twin, root), sql)} == {"US.NDX": 2, "US.RUT": 1, "US.SPX": 1}


def test_books_of_a_day_without_a_tick_are_read_too(tmp_path: Path) -> None:
    record_day(tmp_path, "20261119", count=3)
    pushed = record_books(tmp_path, "20261120")
    days = every(tmp_path)
    assert days.days() == ["20261119", "20261120"]
    assert ask(days, "SELECT count(*) AS n FROM books WHERE kind <> 'B'") == [{"n": len(pushed)}]
    assert ask(days, "SELECT count(*) AS n FROM ticks") == [{"n": 9}]


@pytest.mark.parametrize("page", ["gexbot.md", "gexbot.zh-Hant.md", "tickctl.md"])
def test_the_questions_of_the_documents_are_answered(root: Path, page: str) -> None:
    asked = re.findall(r'hk-tickctl query "([^"]* FROM snapshots[^"]*)"', (DOCS / page).read_text(encoding="utf-8"))
    assert asked
    for sql in asked:
        assert ask(every(root), sql)


def test_a_day_of_nothing_is_named_with_what_there_is(root: Path) -> None:
    with pytest.raises(NoData, match=f"nothing is recorded of 20261124.*{BEFORE}.*{DAY}"):
        every(root).day("20261124")
    assert json.loads(ask(every(root), ALL)[0]["body"])["ticker"] == "SPX"


@pytest.mark.parametrize(
    ("sql", "loaded"),
    [
        ("PIVOT (SELECT symbol, category, spot FROM snapshots) ON category USING max(spot)", {"snapshots"}),
        ("SELECT count(*) AS n FROM gaps -- pivot", set()),
        ("SELECT count(*) AS n FROM query_table('snap' || 'shots') -- pivot", {"snapshots", "all_snapshots"}),
    ],
)
def test_a_pivot_loads_no_table_that_it_does_not_name(root: Path, sql: str, loaded: set[str]) -> None:
    days, rows = every(root), 0

    def count(more: int) -> None:
        nonlocal rows
        rows += more

    with Engine([], beside=days.beside(days.days())) as engine:
        list(engine.run(sql, count).batches)
    of_table = {name: ask(days, f"SELECT count(*) AS n FROM {name}")[0]["n"] for name in ("snapshots", "all_snapshots")}
    assert rows == sum(of_table[name] for name in loaded)

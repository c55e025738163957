"""SQL over recorded days: what may be asked, what is loaded, and that live and archived days answer alike; output."""

from __future__ import annotations

import csv
import gc
import io
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hk_tick_collector.core.errors import StoreCorrupt
from hk_tick_collector.core.facts import SymbolNoted
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.schema import COLUMNS
from hk_tick_collector.market.hk import HK
from hk_tick_collector.market.hours import DayKind
from hk_tick_collector.quality.recount import recount
from hk_tick_collector.query import cells, output
from hk_tick_collector.query import engine as query_engine
from hk_tick_collector.query.engine import Engine, QueryFailed
from hk_tick_collector.query.fetch import DayPart, fetch_ticks
from hk_tick_collector.query.output import OutputExists, new_file, write_rows
from hk_tick_collector.query.statement import ONLY_DAYS, SqlError, check_question
from hk_tick_collector.query.top import top
from hk_tick_collector.store.writer import DayFileWriter
from tests.archived_day import archive_day
from tests.books import record_books
from tests.tickctl import SYMBOLS, record_day
from tests.ticks import DAY, make_tick, make_ticks

OTHER_DAY = "20261119"
COUNT = 400
HONG_KONG = cells.LocalTime(HK.zone, HK.time_word)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One archived and one live day, the live one with two ticks missing."""
    data_root, archive_root = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("archive")
    record_day(data_root, OTHER_DAY, count=COUNT)
    archive_day(data_root, archive_root, OTHER_DAY)
    record_day(data_root, DAY, count=COUNT, lost=(7, 8))
    return data_root, archive_root


def engine(roots: tuple[Path, Path], *days: str, symbols: Sequence[str] = (), **options: Any) -> Engine:
    catalog = Catalog(*roots)
    return Engine([catalog.day(day) for day in days or catalog.days()], symbols, **options)


def ask(roots: tuple[Path, Path], sql: str, *days: str, symbols: Sequence[str] = ()) -> list[dict[str, Any]]:
    with engine(roots, *days, symbols=symbols) as asked:
        result = asked.run(sql)
        rows: list[dict[str, Any]] = pa.Table.from_batches(result.batches, result.schema).to_pylist()
        return rows


def stored(roots: tuple[Path, Path], sql: str) -> list[tuple[Any, ...]]:
    """The live day as SQLite has it."""
    with closing(sqlite3.connect(roots[0] / f"{DAY}.db")) as conn:
        return conn.execute(sql).fetchall()


def test_live_and_archived_days_are_one_table(roots: tuple[Path, Path]) -> None:
    rows = ask(roots, "SELECT trading_day, count(*) AS n FROM ticks GROUP BY 1 ORDER BY 1")
    assert rows == [{"trading_day": OTHER_DAY, "n": 3 * COUNT}, {"trading_day": DAY, "n": 3 * COUNT - 2}]


def test_a_day_answers_alike_live_and_archived(tmp_path: Path) -> None:
    data_root, archive_root = tmp_path / "data", tmp_path / "archive"
    record_day(data_root, count=COUNT)
    questions = [
        "SELECT * FROM ticks ORDER BY symbol, seq",
        "SELECT symbol, max(seq) AS s, sum(turnover::DECIMAL(18, 3)) AS t FROM ticks GROUP BY 1 ORDER BY 1",
        "SELECT market, min(ts_ms) AS t, hour(min(ts_ms)) AS h, count(DISTINCT type_sign) AS n FROM ticks GROUP BY 1",
        "FROM coverage",
    ]
    live = [ask((data_root, archive_root), sql) for sql in questions]
    archive_day(data_root, archive_root)
    assert [ask((data_root, archive_root), sql) for sql in questions] == live
    assert len(live[0]) == 3 * COUNT
    assert list(live[0][0]) == list(COLUMNS)
    assert live[2][0]["h"] == 9  # SQL works in Hong Kong time


def test_values_are_those_of_the_day_file(roots: tuple[Path, Path]) -> None:
    rows = ask(roots, "SELECT symbol, seq, price, epoch_ms(ts_ms) AS ms, volume, tick_type FROM ticks", DAY)
    wanted = stored(roots, "SELECT symbol, seq, price, ts_ms, volume, tick_type FROM ticks")
    assert sorted(tuple(row.values()) for row in rows) == sorted(wanted)
    assert max(row["seq"] for row in rows) > 2**53  # no float in between


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT count(*) FROM ticks", {"ts_ms"}),
        ("SELECT price * volume FROM ticks WHERE direction = 'BUY'", {"price", "volume", "direction"}),
        ("SELECT count(*) FROM (SELECT price FROM ticks)", {"ts_ms"}),
        ("SELECT t FROM ticks AS t", set(COLUMNS)),
        ("SELECT count(*) FROM (SELECT DISTINCT t FROM ticks AS t)", set(COLUMNS)),
        ("FROM ticks", set(COLUMNS)),
        ("SELECT * EXCLUDE (price) FROM ticks", set(COLUMNS) - {"price"}),
        ("SELECT COLUMNS('recv.*') FROM ticks", {"recv_ts_ms", "opend_recv_ts_ms"}),
        ("SELECT a.seq FROM ticks a JOIN ticks b USING (symbol, ts_ms)", {"seq", "symbol", "ts_ms"}),
        ("WITH x AS (SELECT symbol, max(price) AS p FROM ticks GROUP BY 1) SELECT p FROM x", {"symbol", "price"}),
        ("SELECT count(price) FROM ticks", {"price"}),
        ("SELECT seq FROM query_table('ticks')", {"seq"}),
        ("SUMMARIZE ticks", set(COLUMNS)),
        ("PIVOT (SELECT symbol, volume FROM ticks) ON symbol USING sum(volume)", set(COLUMNS)),
        ("EXPLAIN ANALYZE SELECT price FROM ticks", {"price"}),
    ],
)
def test_only_what_a_question_reads_is_loaded(roots: tuple[Path, Path], sql: str, columns: set[str]) -> None:
    with engine(roots, DAY) as asked:
        result = asked.run(sql)
        assert sum(batch.num_rows for batch in result.batches)
        assert asked.loaded is not None
        assert set(asked.loaded.columns) == columns
        assert asked.loaded.rows == 3 * COUNT - 2


@pytest.mark.parametrize("sql", ["DESCRIBE ticks", "SELECT 1", "SELECT count(*) FROM coverage", "SHOW TABLES"])
def test_a_question_without_ticks_loads_none(roots: tuple[Path, Path], sql: str) -> None:
    with engine(roots, DAY) as asked:
        assert sum(batch.num_rows for batch in asked.run(sql).batches)
        assert asked.loaded is None


def test_symbols_narrow_every_table(roots: tuple[Path, Path]) -> None:
    with engine(roots, symbols=["HK.00700"]) as asked:
        result = asked.run("SELECT DISTINCT symbol FROM ticks UNION ALL SELECT DISTINCT symbol FROM coverage")
        assert pa.Table.from_batches(result.batches, result.schema).to_pylist() == [{"symbol": "HK.00700"}] * 2
        assert asked.loaded is not None
        assert asked.loaded.rows == COUNT


def test_coverage_and_gaps_are_tables(roots: tuple[Path, Path]) -> None:
    rows = ask(roots, "SELECT trading_day, symbol, missing_ticks FROM coverage WHERE missing_ticks > 0")
    assert rows == [{"trading_day": DAY, "symbol": SYMBOLS[0], "missing_ticks": 2}]
    (row,) = ask(roots, "SELECT trading_day, sum(missing_ticks)::INT AS n FROM gaps WHERE state = 'open' GROUP BY 1")
    assert row == {"trading_day": DAY, "n": 2}


def test_order_books_and_their_best_prices_are_tables(tmp_path: Path) -> None:
    record_day(tmp_path, DAY, count=20)
    mine = [push for push in record_books(tmp_path, DAY) if push.symbol == "HK.00700"]
    place = tmp_path, tmp_path / "_archive"
    sql = (
        "SELECT symbol, trading_day, hour(min(recv_ts)) AS hour, count(*) AS n, arg_max(ask_px_9, update_no) AS worst "
        "FROM books WHERE kind <> 'B' GROUP BY ALL"
    )
    told = {"symbol": "HK.00700", "trading_day": DAY, "hour": 9, "n": len(mine), "worst": mine[-1].book.asks[9][0]}
    assert ask(place, sql, DAY, symbols=["HK.00700"]) == [told]
    tops = [(push.book.bids[0], push.book.asks[0]) for push in mine]
    changes = 1 + sum(top != before for top, before in zip(tops[1:], tops, strict=False))
    of_quotes = "SELECT count(*) AS n FROM quotes WHERE kind <> 'B' AND symbol = 'HK.00700'"
    assert ask(place, of_quotes, DAY) == [{"n": changes}]


def test_an_answer_may_be_empty_and_names_may_repeat(roots: tuple[Path, Path]) -> None:
    with engine(roots, OTHER_DAY) as asked:
        result = asked.run("SELECT price, price FROM ticks WHERE symbol = 'HK.00001'")
        assert result.schema.names == ["price", "price_2"]
        assert sum(batch.num_rows for batch in result.batches) == 0


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO '{out}'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{out}'",
        "explain analyze /* x */ copy (SELECT 1) TO '{out}'",
        "COPY (PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)) TO '{out}'",
        "SELECT 1; COPY (SELECT 1) TO '{out}'",
        "SELECT 1; COPY (PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)) TO '{out}'; SELECT 2 -- pivot",
        "COPY (SELECT 1) TO '{parquet}' (FORMAT parquet, USE_TMP_FILE false)",
        "-- a note\n COPY ticks TO '{out}'",
        "/* select */ ATTACH '{out}'",
        "EXPORT DATABASE '{out}'",
        "CREATE TABLE x AS SELECT 1",
        "DROP VIEW ticks",
        "INSERT INTO coverage SELECT * FROM coverage",
        "SET memory_limit = '100GB'",
        "PRAGMA database_list",
        "INSTALL httpfs",
        "LOAD httpfs",
        "CALL pragma_version()",
        "SELECT * FROM read_csv('{secret}')",
        "SELECT * FROM read_text('{secret}')",
        "FROM '{secret}'",
        "SELECT * FROM glob('{secret}')",
        "SELECT * FROM query('COPY (SELECT 1) TO ''{out}''')",
        "SELECT 1; SELECT 2",
        "SELECT nope FROM ticks",
        "SELECT * FROM tick",
        "SELEC 1",
        "SELECT 'x'::INT",
        "SELECT error('no')",
        "SELECT * FROM roots",
        "",
        ";",
        "-- nothing",
    ],
)
def test_what_is_not_one_right_question_is_refused_and_harms_nothing(
    roots: tuple[Path, Path], tmp_path: Path, sql: str
) -> None:
    secret, out = tmp_path / "secret.csv", tmp_path / "out"
    secret.write_text("a\n1\n")
    parquet = Catalog(*roots).day(OTHER_DAY).parquet
    before = {path: path.read_bytes() for path in (*roots[0].rglob("*.db"), *roots[1].rglob("*.*")) if path.is_file()}
    with engine(roots) as asked, pytest.raises(SqlError) as failed:
        for _ in asked.run(sql.format(out=out, secret=secret, parquet=parquet)).batches:
            pass
    assert str(failed.value).strip()
    assert not out.exists()
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT other FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_csv('{fifo}')",
        "SELECT * FROM read_text('{fifo}')",
        "SELECT (SELECT max(column0) FROM read_csv('{fifo}')) FROM ticks",
        "SELECT * FROM read_csv('{url}/a.csv')",
        "SELECT * FROM read_parquet('{url}/a.parquet')",
        "SELECT * FROM sqlite_scan('{file}', 'ticks')",
        "SELECT * FROM glob('{file}')",
        "DESCRIBE SELECT * FROM read_csv('{file}')",
        "SUMMARIZE '{file}'",
        "EXPLAIN SELECT * FROM read_csv('{fifo}')",
    ],
)
def test_planning_a_question_opens_nothing(
    roots: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    """A FIFO would hang whoever opens it, a file's columns would be named in the error, an extension be downloaded."""
    monkeypatch.setenv("HOME", str(tmp_path))
    file, fifo = tmp_path / "secret.csv", tmp_path / "fifo"
    file.write_text("first_secret,second_secret\n1,2\n")
    os.mkfifo(fifo)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with engine(roots) as asked, pytest.raises(SqlError) as failed:
            asked.run(sql.format(file=file, fifo=fifo, url=url))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody came
            server.accept()
    assert str(failed.value).startswith(ONLY_DAYS)
    assert "_secret" not in str(failed.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "secret.csv"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM ticks t JOIN gaps g ON t.ts_ms BETWEEN g.gap_start_ts_ms AND g.gap_end_ts_ms",
        "SELECT max(ts_ms) / 1000.0 FROM ticks",
        "SELECT count(*) FROM ticks WHERE ts_ms >= 1795138200000",
    ],
)
def test_a_time_taken_for_a_number_brings_a_hint(roots: tuple[Path, Path], sql: str) -> None:
    with engine(roots) as asked, pytest.raises(SqlError, match=r"hint: .*epoch_ms\(ts_ms\)"):
        asked.run(sql)


def test_the_hint_is_right(roots: tuple[Path, Path]) -> None:
    of_gap = "SELECT count(*) AS n FROM ticks JOIN gaps USING (symbol) WHERE epoch_ms(ts_ms) <= gap_end_ts_ms"
    same = (
        "SELECT count(*) AS n FROM ticks JOIN gaps USING (symbol) WHERE ts_ms <= make_timestamptz(1000 * gap_end_ts_ms)"
    )
    assert ask(roots, of_gap, DAY) == ask(roots, same, DAY)
    assert ask(roots, of_gap, DAY)[0]["n"] > 0


def test_who_asks_a_table_that_is_not_there_is_told_which_are(roots: tuple[Path, Path]) -> None:
    with engine(roots) as asked, pytest.raises(SqlError) as failed:
        asked.run("SELECT * FROM trades")
    assert str(failed.value).startswith("Table with name trades does not exist! There are: ticks, coverage, ")
    assert "pg_" not in str(failed.value)


def test_the_mark_stands_under_what_is_wrong(roots: tuple[Path, Path]) -> None:
    with engine(roots) as asked, pytest.raises(SqlError) as failed:
        asked.run("SELECT foo FROM ticks")
    line, mark = str(failed.value).splitlines()[-2:]
    assert line[mark.index("^") :].startswith("foo")


def test_explain_is_checked_to_its_end() -> None:
    with closing(duckdb.connect()) as connection:
        assert check_question(connection, " explain  select 1") == "explain  select 1"
        for sql in ("explain explain copy (select 1) to 'x'", "explain (format json) select 1", "explain", "(copy x"):
            with pytest.raises(SqlError):
                check_question(connection, sql)


def test_more_than_memory_goes_to_disk_and_is_cleaned_up(roots: tuple[Path, Path], tmp_path: Path) -> None:
    big = "SELECT a.range AS x, hash(a.range) AS h FROM range(3000000) AS a ORDER BY h"
    with engine(roots, memory_mb=64) as asked:
        result = asked.run(f"SELECT max(x) AS m, count(*) AS n FROM (SELECT * FROM ({big}) LIMIT 2900000)")
        assert pa.Table.from_batches(result.batches, result.schema).to_pylist()[0]["n"] == 2_900_000
        temp = asked._temp.path
        assert temp.exists()
    assert not temp.exists()
    with engine(roots, memory_mb=64) as asked, pytest.raises(QueryFailed, match="memory"):
        for _ in asked.run("SELECT list(range) FROM range(60000000)").batches:
            pass


@pytest.mark.parametrize("damage", ["cut", "page", "foreign"])
def test_a_damaged_archive_is_named(tmp_path: Path, damage: str) -> None:
    data_root, archive_root = tmp_path / "data", tmp_path / "archive"
    record_day(data_root, count=3000)
    path = archive_day(data_root, archive_root)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        column = pq.ParquetFile(path).metadata.row_group(0).column(COLUMNS.index("turnover") - 1)
        at = column.data_page_offset
        content[at : at + 4000] = bytes(byte ^ 0x5A for byte in content[at : at + 4000])
        path.write_bytes(content)
    with engine((data_root, archive_root)) as asked, pytest.raises(StoreCorrupt, match=r"ticks\.parquet"):
        for _ in asked.run("SELECT sum(turnover) FROM ticks").batches:
            pass


def test_top_is_what_the_ticks_say(roots: tuple[Path, Path]) -> None:
    with engine(roots, DAY) as asked:
        result = top(asked, "turnover", 2)
        rows = pa.Table.from_batches(result.batches, result.schema).to_pylist()
    wanted = stored(
        roots, "SELECT symbol, count(*), sum(volume), round(sum(turnover), 3) FROM ticks GROUP BY 1 ORDER BY 4 DESC"
    )
    assert [(row["symbol"], row["ticks"], row["volume"], round(row["turnover"], 3)) for row in rows] == wanted[:2]
    with engine(roots) as asked:
        result = top(asked, "volatility", 10)
        rows = pa.Table.from_batches(result.batches, result.schema).to_pylist()
    assert [row["days"] for row in rows] == [2, 2, 2]
    assert rows[0]["volatility_pct"] >= rows[1]["volatility_pct"] >= rows[2]["volatility_pct"] > 0


def test_volatility_is_that_of_minute_returns(tmp_path: Path) -> None:
    from hk_tick_collector.store.writer import DayFileWriter  # noqa: PLC0415
    from tests.ticks import BASE_MS, make_tick  # noqa: PLC0415

    minutes = [(0, 100.0, "AUTO_MATCH"), (1, 110.0, "AUTO_MATCH"), (1, 900.0, "ODD_LOT"), (2, 5.0, "ODD_LOT")]
    minutes += [(3, 99.0, "INTER_AUTO_MATCH")]
    writer = DayFileWriter(tmp_path)
    ticks = [
        make_tick(n + 1, ts_ms=BASE_MS + minute * 60_000 + n, price=price, tick_type=kind)
        for n, (minute, price, kind) in enumerate(minutes)
    ]
    writer.write(ticks)
    writer.close()
    with engine((tmp_path, tmp_path / "archive")) as asked:
        (row,) = pa.Table.from_batches(top(asked, "volatility", 5).batches).to_pylist()
    # ln(110/100) = 0.0953, ln(99/110) = -0.1054
    assert row["volatility_pct"] == pytest.approx(14.2067, abs=0.001)
    assert row["ticks"] == 5


def test_fetch_takes_the_last_across_days(roots: tuple[Path, Path]) -> None:
    catalog = Catalog(*roots)
    parts = [DayPart(catalog.day(day)) for day in catalog.days()]
    columns = ("trading_day", "seq")
    whole = fetch_ticks(parts, ["HK.00700"], columns).to_pylist()
    assert len(whole) == 2 * COUNT
    assert fetch_ticks(parts, ["HK.00700"], columns, last_rows=COUNT + 5).to_pylist() == whole[-COUNT - 5 :]
    assert fetch_ticks(parts, ["HK.00700"], columns, last_rows=5).to_pylist() == whole[-5:]
    odd = fetch_ticks(parts, ["HK.00700"], (*columns, "tick_type"), keep_type=lambda kind: kind == "ODD_LOT")
    assert set(odd.column("tick_type").to_pylist()) == {"ODD_LOT"}
    assert fetch_ticks(parts, ["HK.00001"], columns).schema.names == list(columns)


MIXED = pa.table(
    {
        "text": pa.array(["a,b", 'q"', None, "", "line\nbreak", "bare"]),
        "code": pa.array(["x", None, "y", "x", " ", "%s"]).dictionary_encode(),
        "big": pa.array([2**62 + 1, None, -1, 0, 2**53 + 1, 7]),
        "price": pa.array([0.1 + 0.2, None, float("nan"), float("inf"), 1e300, 382.4]),
        "at": pa.array([1_795_138_200_123, None, 0, 1, -1, 1_795_138_200_000], pa.timestamp("ms", tz="UTC")),
        "exact": pa.array([1, None, 2, 3, 4, 5], pa.int64()).cast(pa.decimal128(38, 3)),
        "flag": pa.array([True, None, False, True, True, False]),
        "nested": pa.array([[1, 2], None, [], [3], [4], [5]]),
    }
)


def written(table: pa.Table, format_name: str, time_as: cells.TimeAs = "utc", **options: Any) -> bytes:
    stream = io.BytesIO()
    assert write_rows(table.schema, table.to_batches(), format_name, stream, time_as=time_as, **options) == len(table)
    return stream.getvalue()


def test_csv_reads_back_exactly() -> None:
    rows = list(csv.DictReader(io.StringIO(written(MIXED, "csv").decode(), newline="")))
    assert [row["text"] for row in rows] == ["a,b", 'q"', "", "", "line\nbreak", "bare"]
    assert [row["big"] for row in rows] == [str(2**62 + 1), "", "-1", "0", str(2**53 + 1), "7"]
    assert float(rows[0]["price"]) == 0.1 + 0.2
    assert (rows[0]["at"], rows[2]["at"]) == ("2026-11-20T01:30:00.123Z", "1970-01-01T00:00:00.000Z")
    assert [row["exact"] for row in rows[:2]] == ["1.000", ""]
    assert rows[0]["nested"] == "[1, 2]"
    plain = written(MIXED.select(["code", "big"]).slice(0, 1), "csv").decode()
    assert plain == f"code,big\nx,{2**62 + 1}\n"  # no quotes where none are needed


@pytest.mark.parametrize("format_name", ["json", "jsonl"])
def test_json_reads_back_exactly(format_name: str) -> None:
    text = written(MIXED, format_name, HONG_KONG).decode()
    rows = json.loads(text) if format_name == "json" else [json.loads(line) for line in text.splitlines()]
    assert [row["big"] for row in rows] == [2**62 + 1, None, -1, 0, 2**53 + 1, 7]
    assert [row["text"] for row in rows] == MIXED.column("text").to_pylist()
    assert [row["code"] for row in rows] == MIXED.column("code").to_pylist()
    assert [row["price"] for row in rows] == [0.1 + 0.2, None, None, None, 1e300, 382.4]
    assert rows[0]["at"] == "2026-11-20T09:30:00.123+08:00"
    assert (rows[0]["exact"], rows[0]["flag"], rows[0]["nested"]) == (1.0, True, [1, 2])
    assert json.loads(written(MIXED.slice(0, 1), "json", "ms"))[0]["at"] == 1_795_138_200_123


def test_a_table_lines_up_and_shows_no_control_characters() -> None:
    lines = written(MIXED, "table", HONG_KONG).decode().splitlines()
    assert len(lines) == 7
    assert "2026-11-20 09:30:00.123" in lines[1]
    assert "line\\nbreak" in lines[5]
    assert {line[lines[0].index("big") + 2] for line in lines[1:]} <= set("0123456789-")
    assert written(MIXED.slice(0, 0), "table").decode().replace(" (UTC)", "").split() == MIXED.schema.names
    assert written(MIXED.slice(0, 0), "json") == b"[]\n"
    assert written(MIXED.slice(0, 0), "jsonl") == b""


@pytest.mark.parametrize("is_file", [False, True])
def test_arrow_and_parquet_keep_types(is_file: bool) -> None:
    table = MIXED.drop_columns(["nested"])
    batches = [*table.slice(0, 3).to_batches(), *table.slice(3).to_batches()]
    other = pa.table({**{name: table.column(name) for name in table.schema.names}})
    stream = io.BytesIO()
    write_rows(table.schema, batches, "arrow", stream, is_file=is_file)
    opened = pa.ipc.open_file(stream.getvalue()) if is_file else pa.ipc.open_stream(stream.getvalue())
    assert opened.read_all().column("big").to_pylist() == other.column("big").to_pylist()
    read = pq.read_table(io.BytesIO(written(table, "parquet", is_file=is_file)))
    assert read.column("at").type == pa.timestamp("ms", tz="UTC")
    assert read.column("big").to_pylist() == other.column("big").to_pylist()
    assert read.column("code").to_pylist() == other.column("code").to_pylist()


def test_digits_below_the_millisecond_are_shown_when_there_are_any() -> None:
    micros = pa.array([1_795_138_200_123_000, 1_795_138_200_123_456], pa.timestamp("us", tz="Asia/Hong_Kong"))
    big = pa.array([5, 1 << 53, (1 << 53) + 1, -(1 << 62), None])
    assert cells.json_column(big, "utc", big_as_text=True) == [
        "5", "9007199254740992", '"9007199254740993"', '"-4611686018427387904"', "null"
    ]  # fmt: skip
    assert cells.json_column(big, "utc")[2] == "9007199254740993"
    assert cells.json_column(micros[:1], "utc") == ['"2026-11-20T01:30:00.123Z"']
    assert cells.json_column(micros, HONG_KONG)[1] == '"2026-11-20T09:30:00.123456+08:00"'
    naive = pa.array([1_795_138_200_123], pa.timestamp("ms"))
    assert cells.json_column(naive, HONG_KONG) == ['"2026-11-20T01:30:00.123"']
    assert cells.csv_column(pa.array([1_795_138_200], pa.timestamp("s", tz="UTC")), "ms").to_pylist() == [
        1_795_138_200_000
    ]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"

    def failing() -> Any:
        yield from MIXED.to_batches()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), new_file(target) as file:
        write_rows(MIXED.schema, failing(), output.CSV, file)
    assert list(tmp_path.iterdir()) == []
    with new_file(target) as file:
        file.write(b"one")
    with pytest.raises(OutputExists, match="--force"), new_file(target) as file:
        file.write(b"two")
    assert target.read_bytes() == b"one"
    with new_file(target, replace=True) as file:
        file.write(b"two")
    assert target.read_bytes() == b"two"


def test_a_file_that_appeared_meanwhile_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    writing = new_file(target)
    writing.__enter__().write(b"mine")
    target.write_bytes(b"somebody's")
    with pytest.raises(OutputExists):
        writing.__exit__(None, None, None)
    assert target.read_bytes() == b"somebody's"
    assert list(tmp_path.iterdir()) == [target]


def counters(tmp_path: Path) -> tuple[Path, Path]:
    """A company's counters in three currencies, and ticks whose price or volume is OpenD's 0."""
    data_root = tmp_path / "data"
    writer = DayFileWriter(data_root)
    for symbol, price, volume in (("HK.00700", 600.0, 100), ("HK.80700", 552.0, 105), ("HK.09834", 77.0, 10_000)):
        writer.write([make_tick(n, symbol, price=price, volume=volume, turnover=price * volume) for n in (1, 2)])
    writer.write(
        [make_tick(3, price=0.0, volume=100, turnover=0.0), make_tick(60_004, price=700.0, volume=0, turnover=0.0)]
    )
    writer.close()
    return data_root, tmp_path / "archive"


def test_turnovers_of_two_currencies_are_never_held_against_each_other(tmp_path: Path) -> None:
    roots = counters(tmp_path)
    for order, expected in (
        ("turnover", [("HK.00700", "HKD"), ("HK.80700", "CNY"), ("HK.09834", "USD")]),
        ("ticks", [("HK.00700", "HKD")]),
    ):
        with engine(roots) as asked:
            result = top(asked, order, 1)
            rows = pa.Table.from_batches(result.batches, result.schema).to_pylist()
        assert [(row["symbol"], row["currency"]) for row in rows] == expected


def test_a_price_or_volume_of_zero_is_stored_and_is_no_price(tmp_path: Path) -> None:
    roots = counters(tmp_path)
    day = Catalog(*roots).day(DAY)
    every = fetch_ticks([DayPart(day)], ["HK.00700"])
    assert every.column("price").to_pylist() == [600.0, 600.0, 0.0, 700.0]
    trades = fetch_ticks([DayPart(day)], ["HK.00700"], trades_only=True)
    assert trades.column("price").to_pylist() == [600.0, 600.0]
    with engine(roots) as asked:
        result = top(asked, "volatility", 9)
        rows = pa.Table.from_batches(result.batches, result.schema).to_pylist()
    assert {row["symbol"]: row["volatility_pct"] for row in rows}["HK.00700"] is None
    total = recount(day, DayKind.WHOLE).total
    assert (total.no_price_ticks, total.no_volume_ticks) == (1, 1)


@pytest.mark.parametrize("at", ["made", "nearly open", "open"])
def test_an_interrupt_at_any_moment_leaves_no_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Also before there is an engine, and before anybody has it in a ``with``."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[Path] = []

    def interrupt(*_: object, **__: object) -> None:
        seen.extend(tmp_path.iterdir())
        raise KeyboardInterrupt

    if at != "open":
        monkeypatch.setattr(*((shutil, "disk_usage") if at == "made" else (duckdb, "connect")), interrupt)
        with pytest.raises(KeyboardInterrupt):
            Engine([])
    else:
        engine = Engine([])
        seen.extend(tmp_path.iterdir())
        del engine
    gc.collect()
    assert list(tmp_path.iterdir()) == []
    assert len(seen) == 1


def test_names_are_asked_for_and_lead_with_their_symbols(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    writer.write(
        [*make_ticks(1, 3), *make_ticks(1, 2, symbol="HK.00005")],
        [SymbolNoted("HK.00700", DAY, 1, name="騰訊控股", lot_size=100)],
    )
    writer.close()
    told = ask((tmp_path, tmp_path), "SELECT symbol, name, lot_size, trading_day FROM symbols", DAY)
    assert told == [{"symbol": "HK.00700", "name": "騰訊控股", "lot_size": 100, "trading_day": DAY}]
    with engine((tmp_path, tmp_path), DAY) as asked:
        result = top(asked, "ticks", 10)
        leading = pa.Table.from_batches(result.batches, result.schema).to_pylist()
    assert [(row["symbol"], row["name"], row["ticks"]) for row in leading] == [
        ("HK.00700", "騰訊控股", 3),
        ("HK.00005", None, 2),
    ]


def test_tables_are_the_same_for_the_first_question_of_a_process_and_for_the_next(
    roots: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are made of Arrow's schemas once, and then of what DuckDB says of those."""
    monkeypatch.setattr(query_engine, "_STATEMENTS", {})
    told = []
    for _ in range(2):
        with engine(roots) as asked:
            asked.run("SELECT 1")
            columns = "SELECT * EXCLUDE (database_oid, schema_oid, table_oid) FROM duckdb_columns() WHERE NOT internal"
            told.append(asked._connection.execute(f"{columns} ORDER BY ALL").fetchall())
    assert told[0] == told[1]
    assert query_engine._STATEMENTS.keys() == query_engine._schemas().keys()

"""What an export writes, read back by the programs it is for; and files that appear whole or not at all."""

from __future__ import annotations

import csv
import fcntl
import gzip
import math
import random
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import zstandard

from hk_tick_collector import __version__
from hk_tick_collector.core.errors import NoData, RowRefused, StoreCorrupt, StoreUnavailable
from hk_tick_collector.days import content, manifest, parquet
from hk_tick_collector.days import rows as days_rows
from hk_tick_collector.days.catalog import Catalog, Day
from hk_tick_collector.days.schema import COLUMNS, SCHEMA_VERSION, UTC_MS, VERSION_KEY
from hk_tick_collector.days.tree import hive_path
from hk_tick_collector.export import job, rows
from hk_tick_collector.export.csv_files import write_csv
from hk_tick_collector.export.futu_zip import FUTU_COLUMNS, write_zip
from hk_tick_collector.export.parquet_tree import DECIMAL, write_parquet
from hk_tick_collector.export.rows import DayPart, Selection, by_symbol
from hk_tick_collector.export.sqlite_file import write_sqlite
from hk_tick_collector.export.target import BadPattern, TargetExists, check_free, pattern_of, writing
from hk_tick_collector.market.hk import HK
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.atomic import new_temporary, remove_stale, replacing, temporary_path
from hk_tick_collector.store.writer import DayFileWriter
from tests.stored import iter_ticks
from tests.tickctl import SYMBOLS, day_ticks, record_day
from tests.ticks import DAY

NEXT_DAY = "20261123"
ODD_PRICES = (0.1 + 0.2, 1e-5, 5e-324, 1.7976931348623157e308, -0.25, 382.4, None)


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Two days of three symbols, and ticks of every odd kind on the first."""
    root = tmp_path / "HK"
    record_day(root, DAY, count=400)
    record_day(root, NEXT_DAY, count=300)
    writer = DayFileWriter(root)
    base = day_ticks("HK.09988", 1, DAY)[0]
    odd = [
        base._replace(seq=None, price=price, turnover=price, ts_ms=base.ts_ms + n, tick_type=None, type_sign='",\n')
        for n, price in enumerate(ODD_PRICES)
    ]
    writer.write([*odd, base._replace(seq=-5, direction=None, opend_recv_ts_ms=None, volume=None)])
    writer.close()
    return root


def the_day(root: Path, day: str = DAY) -> Day:
    return Catalog(root, root / "_archive").day(day)


def part_of(root: Path, day: str = DAY, so_far: bool = False, **selection: object) -> DayPart:
    return DayPart(the_day(root, day), Selection(**selection), so_far)  # type: ignore[arg-type]


def stored(root: Path, day: str = DAY) -> list[Tick]:
    """The truth: by the store's own reader, in the order of an export."""
    ticks = list(iter_ticks(root / f"{day}.db"))
    return sorted(ticks, key=lambda t: (t.symbol, t.ts_ms, t.seq is None, t.seq or 0))


def hash_of(db: Path) -> tuple[int, str]:
    content_there = content.content_of(Day("20261120", db, db.parent).batches())
    return content_there.rows, content_there.content_hash


def tree_of(root: Path, tmp_path: Path, **selection: object) -> Path:
    parts = [part_of(root, day, **selection) for day in (DAY, NEXT_DAY)]
    out = tmp_path / "tree"
    list(job.export_tree(parts, out, lambda path, tables, _: write_parquet(path, tables), force=False, advance=len_of))
    return out


def len_of(_rows: float) -> None:
    """A progress bar that nobody sees."""


def archive(root: Path, day: str = DAY, *, rows_claimed: int | None = None) -> None:
    """Put a day away: Parquet and manifest; the day file is gone."""
    source = the_day(root, day)
    path = manifest.parquet_path(root / "_archive", day)
    path.parent.mkdir(parents=True)
    content_there = content.content_of(source.batches())
    parquet.write_sorted(path, source.sorted_tables())
    claim = manifest.Manifest(
        manifest.FORMAT_VERSION, day, "HK", 1, __version__, SCHEMA_VERSION, 1, rows_claimed or content_there.rows,
        content.ALGORITHM, content_there.content_hash, manifest.claims_of(content_there), (), tuple(source.coverage()),
        tuple(source.gaps()),
    )  # fmt: skip
    where = manifest.manifest_path(root / "_archive", day)
    where.parent.mkdir(parents=True)
    where.write_text(claim.to_json())
    (root / f"{day}.db").unlink()


# -- Parquet -----------------------------------------------------------------------------------------------------------


def test_pandas_reads_the_tree(data_root: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(tree_of(data_root, tmp_path))
    truth = [*stored(data_root), *stored(data_root, NEXT_DAY)]
    assert len(frame) == len(truth)
    assert set(frame.columns) == {*COLUMNS, "day"}
    assert set(frame["market"].astype(str)) == {"HK"}
    assert set(frame["day"].astype(str)) == {DAY, NEXT_DAY}
    assert str(frame["ts_ms"].dtype) == "datetime64[ms, UTC]"
    of_symbol = frame[(frame["symbol"] == "HK.00700") & (frame["trading_day"] == DAY)]
    expected = [tick for tick in truth if (tick.symbol, tick.trading_day) == ("HK.00700", DAY)]
    assert [int(value) for value in of_symbol["seq"]] == [tick.seq for tick in expected]
    assert list(of_symbol["ts_ms"].astype("int64")) == [tick.ts_ms for tick in expected]
    assert list(of_symbol["price"]) == [tick.price for tick in expected]


def test_polars_reads_the_tree(data_root: Path, tmp_path: Path) -> None:
    frame = pl.scan_parquet(tree_of(data_root, tmp_path), hive_partitioning=True)
    schema = frame.collect_schema()
    assert schema["ts_ms"] == pl.Datetime("ms", "UTC")
    assert schema["seq"] == pl.Int64
    truth = [*stored(data_root), *stored(data_root, NEXT_DAY)]
    rows_found = frame.select("market", "day", "symbol", "seq", "price").collect()
    assert rows_found.height == len(truth)
    assert set(rows_found["market"].cast(pl.String)) == {"HK"}
    assert set(rows_found["day"].cast(pl.String)) == {DAY, NEXT_DAY}
    assert rows_found["seq"].to_list() == [tick.seq for tick in truth]
    assert rows_found["price"].to_list() == [tick.price for tick in truth]


def test_duckdb_reads_the_tree(data_root: Path, tmp_path: Path) -> None:
    tree = tree_of(data_root, tmp_path)
    with duckdb.connect() as conn:
        conn.execute("SET TimeZone = 'UTC'")
        source = f"read_parquet('{tree}/**/*.parquet', hive_partitioning = true)"
        types = dict(conn.execute(f"SELECT column_name, column_type FROM (DESCRIBE FROM {source})").fetchall())
        assert types["ts_ms"] == "TIMESTAMP WITH TIME ZONE"
        assert types["seq"] == "BIGINT"
        rows = conn.execute(
            f"SELECT symbol, epoch_ms(ts_ms), seq, price, market, CAST(day AS VARCHAR) FROM {source} "
            "ORDER BY day, symbol, ts_ms, seq NULLS LAST"
        ).fetchall()
    truth = [*stored(data_root), *stored(data_root, NEXT_DAY)]
    assert rows == [(t.symbol, t.ts_ms, t.seq, t.price, "HK", t.trading_day) for t in truth]


def test_every_bit_comes_back(data_root: Path, tmp_path: Path) -> None:
    tree = tree_of(data_root, tmp_path)
    file = hive_path(tree, DAY)
    content_there = content.content_of(parquet.read_batches(file))
    assert (content_there.rows, content_there.content_hash) == hash_of(data_root / f"{DAY}.db")
    schema = pq.read_schema(file)
    assert schema.metadata[VERSION_KEY] == str(SCHEMA_VERSION).encode()
    assert schema.field("ts_ms").type == UTC_MS
    assert pa.types.is_dictionary(schema.field("symbol").type)
    assert {column.compression for column in _columns(file)} == {"ZSTD"}


def test_statistics_let_filters_skip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One symbol of twenty lies in one or two row groups; one minute of it in no more."""
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 1000)
    names = [f"HK.{n:05d}" for n in range(1, 21)]
    record_day(tmp_path / "HK", symbols=names, count=500)
    path = tmp_path / "x.parquet"
    assert write_parquet(path, part_of(tmp_path / "HK").tables()) == 10_000
    groups = pq.read_metadata(path).num_row_groups
    assert groups >= 10
    for name in names:
        must_read = [g for g in range(groups) if _range(path, g, "symbol")[0] <= name <= _range(path, g, "symbol")[1]]
        assert len(must_read) <= 2, name
    ticks = [tick for tick in day_ticks("HK.00010", 500) if tick.seq]
    late = ticks[-10].ts_ms
    in_time = [
        g for g in range(groups)
        if _range(path, g, "symbol")[0] == _range(path, g, "symbol")[1] == "HK.00010"
        and _range(path, g, "ts_ms")[1].timestamp() * 1000 < late
    ]  # fmt: skip
    assert len(in_time) <= 1
    assert parquet.read_symbols(path, ["HK.00010"], start_ms=late).num_rows == 10


def test_decimals_are_exact(tmp_path: Path) -> None:
    record_day(tmp_path / "HK", count=300)
    writer = DayFileWriter(tmp_path / "HK")
    base = day_ticks("HK.00700", 1)[0]
    prices = (None, 0.0001, 99999.9999, -0.5, 123456789.1234)
    writer.write([base._replace(seq=n + 1, price=price, turnover=price) for n, price in enumerate(prices)])
    writer.close()
    path = tmp_path / "x.parquet"
    write_parquet(path, part_of(tmp_path / "HK").tables(), decimal=True)
    table = pq.read_table(path, partitioning=None)
    assert table.schema.field("price").type == table.schema.field("turnover").type == DECIMAL
    truth = stored(tmp_path / "HK")
    rows = table.column("price").to_pylist()
    assert [None if value is None else float(value) for value in rows] == [tick.price for tick in truth]
    assert {str(value) for value in rows if value is not None} >= {"0.0001", "99999.9999", "-0.5000"}
    assert table.column("seq").to_pylist() == [tick.seq for tick in truth]


@pytest.mark.parametrize("price", [0.1 + 0.2, 382.00001, 1e15, math.inf, 5e-324])
def test_what_is_no_decimal_is_named(tmp_path: Path, price: float) -> None:
    record_day(tmp_path / "HK", count=10)
    writer = DayFileWriter(tmp_path / "HK")
    writer.write([day_ticks("HK.00700", 1)[0]._replace(seq=77, price=price)])
    writer.close()
    with pytest.raises(RowRefused, match=r"price .* of HK\.00700 at 2026-11-20T.*seq 77.*--prices double"):
        write_parquet(tmp_path / "x.parquet", part_of(tmp_path / "HK").tables(), decimal=True)


# -- CSV and Futu's zip ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.csv.gz", "x.csv.zst"])
def test_csv_holds_what_the_table_holds(data_root: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "written"
    truth = stored(data_root)
    assert write_csv(path, part_of(data_root).tables(), like=Path(name)) == len(truth)
    raw = path.read_bytes()
    if name.endswith(".gz"):
        raw = gzip.decompress(raw)
    elif name.endswith(".zst"):
        with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            raw = stream.read()
    read = pa_csv.read_csv(
        pa.py_buffer(raw),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        convert_options=pa_csv.ConvertOptions(
            column_types={
                "seq": pa.int64(),
                "price": pa.float64(),
                "trading_day": pa.string(),
                "type_sign": pa.string(),
            },
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    assert tuple(read.column_names) == COLUMNS
    for name_of_column in ("symbol", "ts_ms", "price", "volume", "direction", "seq", "tick_type", "type_sign"):
        expected = [getattr(tick, name_of_column) for tick in truth]
        assert read.column(name_of_column).to_pylist() == expected, name_of_column


def test_csv_with_iso_times(data_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    write_csv(path, part_of(data_root).tables(), like=path, times="iso")
    truth = stored(data_root)
    with path.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert len(read) == len(truth)
    for row, tick in zip(read, truth, strict=True):
        assert row["ts_ms"] == pd.Timestamp(tick.ts_ms, unit="ms").isoformat(timespec="milliseconds") + "Z"
        assert (row["opend_recv_ts_ms"] == "") == (tick.opend_recv_ts_ms is None)


def test_futu_zip(data_root: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    truth = stored(data_root)
    names = {"HK.00700": 'Tencent, "holdings"'}
    assert write_zip(path, part_of(data_root).tables(), names, HK.zone) == len(truth)
    with zipfile.ZipFile(path) as archived:
        assert archived.testzip() is None
        assert sorted(archived.namelist()) == [f"{symbol}.csv" for symbol in SYMBOLS]
        for symbol in SYMBOLS:
            text = archived.read(f"{symbol}.csv").decode()
            read = list(csv.DictReader(text.splitlines()))
            assert tuple(read[0]) == FUTU_COLUMNS
            expected = [tick for tick in truth if tick.symbol == symbol]
            for row, tick in zip(read, expected, strict=True):
                local = pd.Timestamp(tick.ts_ms, unit="ms", tz="UTC").tz_convert("Asia/Hong_Kong")
                assert row == {
                    "code": symbol, "name": names.get(symbol, ""),
                    "time": local.strftime("%Y-%m-%d %H:%M:%S.") + f"{tick.ts_ms % 1000:03d}",
                    "price": row["price"], "volume": _text(tick.volume), "turnover": row["turnover"],
                    "ticker_direction": _text(tick.direction), "sequence": _text(tick.seq),
                    "type": _text(tick.tick_type),
                }  # fmt: skip
                assert (float(row["price"]) if row["price"] else None) == tick.price
    again = tmp_path / "y.zip"
    write_zip(again, part_of(data_root).tables(), names, HK.zone)
    assert again.read_bytes() == path.read_bytes()


# -- SQLite ------------------------------------------------------------------------------------------------------------


def test_sqlite_holds_the_same_ticks(data_root: Path, tmp_path: Path) -> None:
    db = tmp_path / f"{DAY}.db"
    assert write_sqlite(db, part_of(data_root).tables()) == len(stored(data_root))
    assert hash_of(db) == hash_of(data_root / f"{DAY}.db")
    with closing(sqlite3.connect(db)) as conn, closing(sqlite3.connect(data_root / f"{DAY}.db")) as original:
        question = "SELECT type, name, sql FROM sqlite_master ORDER BY name"
        assert conn.execute(question).fetchall() == original.execute(question).fetchall()
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        kinds = "SELECT DISTINCT typeof(seq), typeof(ts_ms), typeof(price), typeof(occurrence) FROM ticks ORDER BY 1, 3"
        assert conn.execute(kinds).fetchall() == original.execute(kinds).fetchall()
    writer = DayFileWriter(tmp_path)  # a recorder can go on with it, and knows what is there
    assert writer.write(day_ticks("HK.00700", 400)).inserted_rows == 0
    writer.close()


def test_several_days_in_one_sqlite_file(data_root: Path, tmp_path: Path) -> None:
    pattern = pattern_of(str(tmp_path / "all.db"), (".db",))
    parts = [part_of(data_root, day, symbols=("HK.00005",)) for day in (DAY, NEXT_DAY)]
    done = list(
        job.export_files(
            parts, pattern, lambda path, tables, _: write_sqlite(path, tables), force=False, advance=len_of,
            one_day_a_file=False,
        )
    )  # fmt: skip
    assert [(exported.rows, exported.trading_days) for exported in done] == [(700, (DAY, NEXT_DAY))]
    with closing(sqlite3.connect(tmp_path / "all.db")) as conn:
        rows = conn.execute("SELECT trading_day, COUNT(*), MIN(symbol), MAX(symbol) FROM ticks GROUP BY 1").fetchall()
    assert rows == [(DAY, 400, "HK.00005", "HK.00005"), (NEXT_DAY, 300, "HK.00005", "HK.00005")]


# -- which ticks -------------------------------------------------------------------------------------------------------


def rows_of(part: DayPart) -> list[tuple[str, int | None, str | None]]:
    rows = [row for table in part.tables() for row in table.select(["symbol", "seq", "tick_type"]).to_pylist()]
    return [(row["symbol"], row["seq"], row["tick_type"]) for row in rows]


@pytest.mark.parametrize("place", ["live", "archived"])
@pytest.mark.parametrize(
    ("selection", "wants"),
    [
        ({}, lambda t: True),
        ({"symbols": ("HK.09988", "HK.00005", "HK.11111")}, lambda t: t.symbol in ("HK.00005", "HK.09988")),
        ({"types": frozenset({"ODD_LOT", "AUCTION"})}, lambda t: t.tick_type in ("ODD_LOT", "AUCTION")),
        ({"without_types": frozenset({"ODD_LOT"})}, lambda t: t.tick_type != "ODD_LOT"),
        (
            {"symbols": ("HK.09988",), "without_types": frozenset({"AUTO_MATCH"})},
            lambda t: t.symbol == "HK.09988" and t.tick_type != "AUTO_MATCH",
        ),
    ],
)
def test_selection(data_root: Path, selection: dict[str, object], wants: Callable[[Tick], bool], place: str) -> None:
    truth = [(t.symbol, t.seq, t.tick_type) for t in stored(data_root) if wants(t)]
    assert truth
    if place == "archived":
        archive(data_root)
    part = part_of(data_root, **selection)
    assert rows_of(part) == truth
    assert part.rows_at_most() >= len(truth)


def test_many_symbols_and_few_give_the_same(tmp_path: Path) -> None:
    names = tuple(f"HK.{n:05d}" for n in range(1, rows.SYMBOLS_BY_INDEX + 10))
    record_day(tmp_path / "HK", symbols=names, count=20)
    many = rows_of(part_of(tmp_path / "HK", symbols=names[1:]))
    singly = [row for name in names[1:] for row in rows_of(part_of(tmp_path / "HK", symbols=(name,)))]
    assert many == singly
    assert len(many) == 20 * (len(names) - 1)


@pytest.mark.parametrize("symbols", [(), ("HK.00700",)])
def test_a_day_being_recorded_is_exported_as_it_was_at_the_start(tmp_path: Path, symbols: tuple[str, ...]) -> None:
    record_day(tmp_path / "HK", count=200)
    truth = [row for row in stored(tmp_path / "HK") if not symbols or row.symbol in symbols]
    writer = DayFileWriter(tmp_path / "HK")
    batches = days_rows.batches

    def batches_while_recording(*args: object, **options: object) -> Iterator[pa.RecordBatch]:
        for batch in batches(*args, **options):  # type: ignore[arg-type]
            writer.write([tick for name in SYMBOLS for tick in day_ticks(name, 300)[200:]])
            yield batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(days_rows, "batches", batches_while_recording)
        exported = rows_of(part_of(tmp_path / "HK", so_far=True, symbols=symbols))
    writer.close()
    assert exported == [(t.symbol, t.seq, t.tick_type) for t in truth]
    assert len(stored(tmp_path / "HK")) == 900


def test_a_manifest_that_lies_is_no_export(data_root: Path, tmp_path: Path) -> None:
    archive(data_root, rows_claimed=5)
    with pytest.raises(StoreCorrupt, match=rf"its manifest says 5.*verify {DAY}"):
        tree_of(data_root, tmp_path)
    assert not (tmp_path / "tree").exists()


def test_nothing_to_export(data_root: Path, tmp_path: Path) -> None:
    with pytest.raises(NoData, match="nothing was written"):
        tree_of(data_root, tmp_path, types=frozenset({"OVERSEAS"}))
    assert not (tmp_path / "tree").exists()


def test_symbols_over_the_edges_of_tables() -> None:
    texts = ["a", "a", "b", "b", "b", "c"]
    tables = [pa.table({"symbol": pa.array(texts[i:j]).dictionary_encode()}) for i, j in ((0, 1), (1, 3), (3, 6))]
    counts = [(symbol, sum(part.num_rows for part in parts)) for symbol, parts in by_symbol(tables)]
    assert counts == [("a", 2), ("b", 3), ("c", 1)]


# -- names and whole files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "split", "day_symbol"),
    [
        ("out", False, "out/20261120.csv"),
        ("out", True, "out/20261120/HK.00700.csv"),
        ("out/x.csv.gz", False, "out/x.csv.gz"),
        ("{day}.csv", False, "20261120.csv"),
        ("a/{symbol}-{day}.csv", True, "a/HK.00700-20261120.csv"),
        ("out/v1.2", False, "out/v1.2/20261120.csv"),
    ],
)
def test_names(output: str, split: bool, day_symbol: str) -> None:
    pattern = pattern_of(output, (".csv", ".csv.gz"), split_symbols=split)
    assert pattern.path(DAY, "HK.00700") == Path(day_symbol)


@pytest.mark.parametrize(
    ("output", "split", "says"),
    [
        ("{date}.csv", False, "{date}"),
        ("x.csv", True, "put {symbol} into it"),
        ("{symbol}.csv", False, "--split-symbols"),
    ],
)
def test_bad_names(output: str, split: bool, says: str) -> None:
    with pytest.raises(BadPattern, match=says):
        pattern_of(output, (".csv",), split_symbols=split)


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "d").mkdir()
    check_free([tmp_path / "new"], force=False)
    check_free([tmp_path / "a"], force=True)
    with pytest.raises(TargetExists, match="--force"):
        check_free([tmp_path / "new", tmp_path / "a"], force=False)
    with pytest.raises(StoreUnavailable, match="is not a file"):
        check_free([tmp_path / "d"], force=True)


def test_failed_writing_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "new" / "inner" / "file"
    with pytest.raises(KeyboardInterrupt):
        _write_and_fail(target, KeyboardInterrupt())
    assert list(tmp_path.iterdir()) == []
    with writing(target) as path:
        assert path.name.startswith(".")
        path.write_text("whole")
        assert not target.exists()
    with pytest.raises(StoreUnavailable, match=r"No space left.*free disk space"):
        _write_and_fail(target, OSError(28, "No space left on device"))
    assert target.read_text() == "whole"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(StoreUnavailable, match="a file is in its way; name another place"), writing(target / "below"):
        pass


def test_temporaries_of_the_dead_are_removed_and_no_others(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = tmp_path / f".b.db.hk-tickctl-{ended.pid}.tmp"
    alive = tmp_path / ".c.db.hk-tickctl-1.tmp"
    others = [
        tmp_path / name for name in ("b.db", f".b.db-{ended.pid}.tmp", ".hidden", f"x.hk-tickctl-{ended.pid}.tmp")
    ]
    for path in (dead, alive, *others):
        path.touch()
    journal = tmp_path / f"{dead.name}-journal"  # of a vacuum that was killed
    journal.touch()
    locked = tmp_path / f".d.db.hk-tickctl-{ended.pid}.tmp"
    with locked.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # of a process in another container: its pid means nothing here
        assert sorted(remove_stale(tmp_path)) == [dead, journal]
    assert sorted(tmp_path.iterdir()) == sorted([alive, locked, *others])
    with replacing(tmp_path / "e") as path:
        path.write_text("e")
    assert not locked.exists()  # its lock went with its process


def test_our_own_temporary_is_locked_while_we_write(tmp_path: Path) -> None:
    with new_temporary(tmp_path / "x") as path:
        assert path == temporary_path(tmp_path / "x")
        code = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
        assert "BlockingIOError" in done.stderr
    assert not path.exists()


def test_random_ticks_survive_all_formats(tmp_path: Path) -> None:
    """Whatever int64 and float64 can hold comes back from each format as it was."""
    draw = random.Random(7)
    base = day_ticks("HK.00700", 1)[0]
    writer = DayFileWriter(tmp_path / "HK")
    ticks = [
        base._replace(
            seq=draw.choice((n, -n, 2**63 - 1 - n, -(2**63) + n)),
            price=draw.choice((draw.random(), draw.uniform(-1e300, 1e300), float(n), None)),
            turnover=draw.uniform(0, 1e18), volume=draw.choice((None, 0, 2**62 + n)), ts_ms=base.ts_ms + n,
            direction=draw.choice((None, "", "BUY", "é中\x01")),
        )
        for n in range(1, 500)
    ]  # fmt: skip
    writer.write(ticks)
    writer.close()
    truth = hash_of(tmp_path / "HK" / f"{DAY}.db")
    write_parquet(tmp_path / "x.parquet", part_of(tmp_path / "HK").tables())
    content_there = content.content_of(parquet.read_batches(tmp_path / "x.parquet"))
    assert (content_there.rows, content_there.content_hash) == truth
    write_sqlite(tmp_path / "x.db", part_of(tmp_path / "HK").tables())
    assert hash_of(tmp_path / "x.db") == truth
    write_csv(tmp_path / "x.csv", part_of(tmp_path / "HK").tables(), like=tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    for row, tick in zip(read, stored(tmp_path / "HK"), strict=True):
        assert int(row["seq"]) == tick.seq
        assert (float(row["price"]) if row["price"] else None) == tick.price
        assert row["direction"] == (tick.direction or "")


def _columns(path: Path) -> list[pq.ColumnChunkMetaData]:
    metadata = pq.read_metadata(path)
    return [
        metadata.row_group(g).column(c) for g in range(metadata.num_row_groups) for c in range(metadata.num_columns)
    ]


def _range(path: Path, group: int, name: str) -> tuple[object, object]:
    metadata = pq.read_metadata(path)
    column = next(
        metadata.row_group(group).column(c)
        for c in range(metadata.num_columns)
        if metadata.row_group(group).column(c).path_in_schema == name
    )
    return column.statistics.min, column.statistics.max


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _write_and_fail(target: Path, error: BaseException) -> None:
    with writing(target) as path:
        path.write_text("half")
        raise error

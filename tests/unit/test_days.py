"""A day as Arrow: what is read is what is stored, from the day file and from Parquet alike."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hk_tick_collector.core.errors import NoData, StoreCorrupt, StoreUnavailable
from hk_tick_collector.days import parquet, scan
from hk_tick_collector.days import rows as rows_together
from hk_tick_collector.days.catalog import Catalog
from hk_tick_collector.days.content import ALGORITHM, DayContent, content_of
from hk_tick_collector.days.manifest import FORMAT_VERSION, Manifest, claims_of, load_manifest, manifest_path
from hk_tick_collector.days.order import _BySymbol, sort_table, sorted_tables
from hk_tick_collector.days.schema import COLUMNS, SCHEMA_VERSION, TICKS, VERSION_KEY, ticks_schema
from hk_tick_collector.days.union import UnionCatalog
from hk_tick_collector.records.columns import names_of
from hk_tick_collector.records.tick import Tick
from hk_tick_collector.store.read_only import open_read_only
from hk_tick_collector.store.writer import DayFileWriter
from tests.tickctl import SYMBOLS, day_ticks, record_day
from tests.ticks import DAY, make_tick, make_ticks


def rows_of(table: pa.Table) -> list[dict[str, object]]:
    """Rows as the ticks table has them: times as integers, in the columns' order."""
    plain = [
        column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column.cast(pa.string())
        if pa.types.is_dictionary(column.type) else column
        for column in table.columns
    ]  # fmt: skip
    return pa.table(plain, names=table.column_names).to_pylist()


def stored(db: Path, order: str = "symbol, ts_ms, seq IS NULL, seq, rowid") -> list[dict[str, object]]:
    with closing(sqlite3.connect(db)) as conn:
        conn.row_factory = sqlite3.Row
        return [dict(row) for row in conn.execute(f"SELECT {', '.join(COLUMNS)} FROM ticks ORDER BY {order}")]


def odd_ticks() -> list[Tick]:
    """Ticks whose optional values are absent, and texts of any kind."""
    none = dict.fromkeys(("price", "volume", "turnover", "direction", "tick_type", "type_sign"), None)
    return [
        make_tick(1, push_data_type=None, opend_recv_ts_ms=None, **none),
        make_tick(2, seq=None),
        make_tick(3, seq=None, occurrence=1, price=0.1 + 0.2, volume=2**62),
        make_tick(4, type_sign="", tick_type='a text, with "quotes" and 香港'),
        make_tick(5, seq=(1 << 62) + 3, price=-0.0),
    ]


def test_a_scan_gives_what_is_stored(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    writer.write([*odd_ticks(), *day_ticks("HK.00005", 500)])
    writer.close()
    db = tmp_path / f"{DAY}.db"
    for workers in (1, 2, 3):
        table = pa.Table.from_batches(scan.scan_day_file(db, workers=workers, stripe_rows=50), TICKS)
        assert rows_of(sort_table(table)) == stored(db)
    some = pa.Table.from_batches(scan.scan_day_file(db, ("seq", "symbol")))
    assert some.column_names == ["seq", "symbol"]
    assert sorted(map(str, rows_of(some))) == sorted(
        str({"seq": row["seq"], "symbol": row["symbol"]}) for row in stored(db)
    )


def test_a_live_file_gives_what_a_closed_one_gives(tmp_path: Path) -> None:
    """They are read in two ways (``days.arrow_sql``)."""
    writer = DayFileWriter(tmp_path)
    writer.write([*odd_ticks(), make_tick(6, type_sign="\x00\x1f", tick_type=None), *day_ticks("HK.00005", 500)])
    db = tmp_path / f"{DAY}.db"

    def read() -> list[object]:
        whole = pa.Table.from_batches(scan.scan_day_file(db, stripe_rows=50), TICKS)
        words = pa.Table.from_batches(scan.scan_day_file(db, ("symbol", "tick_type", "type_sign")))
        one = scan.scan_symbols(db, ["HK.00700"])
        return [(table.schema, rows_of(sort_table(table))) for table in (whole, one)] + [words.to_pylist()]

    live = read()
    writer.close()
    assert read() == live
    assert live[0][1] == stored(db)  # type: ignore[index]


def test_one_symbol_is_read_by_its_index_and_bounded_in_time(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    writer.write([*odd_ticks(), *day_ticks("HK.00005", 500)])
    writer.close()
    db = tmp_path / f"{DAY}.db"
    for symbols in (["HK.00700"], ["HK.00005", "HK.00700"], ["HK.99999"], []):
        rows = rows_of(sort_table(scan.scan_symbols(db, symbols)))
        assert rows == [row for row in stored(db) if row["symbol"] in symbols]
    first, last = make_tick(2).ts_ms, make_tick(4).ts_ms
    between = rows_of(sort_table(scan.scan_symbols(db, ["HK.00700"], start_ms=first, end_ms=last)))
    assert [row["ts_ms"] for row in between] == [first, first + 1]
    with closing(open_read_only(db)) as conn:
        plan = str(conn.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM ticks WHERE symbol IN (?, ?) AND seq IS NOT NULL "
            "UNION ALL SELECT * FROM ticks WHERE symbol IN (?, ?) AND seq IS NULL", ("x", "y") * 2
        ).fetchall())  # fmt: skip
    assert "SCAN ticks" not in plan


def test_a_file_of_an_earlier_recorder_is_read_without_what_it_lacks(tmp_path: Path) -> None:
    db = tmp_path / f"{DAY}.db"
    columns = names_of(0)
    with closing(sqlite3.connect(db)) as conn:
        conn.execute(f"CREATE TABLE ticks ({', '.join(columns)})")
        tick = {**make_tick(1)._asdict(), "market": "HK", "provider": "futu", "inserted_at_ms": 7}
        conn.execute(f"INSERT INTO ticks VALUES ({', '.join('?' * 14)})", [tick[name] for name in columns])
        conn.commit()
    [row] = rows_of(pa.Table.from_batches(scan.scan_day_file(db)))
    assert row["price"] == 382.4
    assert (row["push_data_type"], row["opend_recv_ts_ms"], row["type_sign"], row["occurrence"]) == (
        None,
        None,
        None,
        0,
    )


def test_rows_committed_after_the_scan_began_are_left_out_and_the_writer_never_waits(tmp_path: Path) -> None:
    writer = DayFileWriter(tmp_path)
    writer.write(make_ticks(1, 1000))
    batches = scan.scan_day_file(tmp_path / f"{DAY}.db", stripe_rows=100)
    first = next(batches)
    writer.write(make_ticks(1001, 2000))
    assert first.num_rows + sum(batch.num_rows for batch in batches) == 1000
    writer.close()


def test_a_scan_that_is_given_up_leaves_no_thread_behind(tmp_path: Path) -> None:
    record_day(tmp_path)
    batches = scan.scan_day_file(tmp_path / f"{DAY}.db", workers=2, stripe_rows=10)
    next(batches)
    batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scan-")]


@pytest.mark.parametrize("is_live", [False, True], ids=["closed", "live"])
@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ("UPDATE ticks SET volume = 1.5 WHERE rowid = 5", "column volume holds (double|float) values"),
        ("UPDATE ticks SET price = 'dear' WHERE rowid = 5", "column price holds (string|str) values"),
        ("UPDATE ticks SET volume = 1.5 WHERE rowid = 2500", "(Type mismatch|column volume)"),
        ("UPDATE ticks SET tick_type = x'00ff' WHERE rowid = 2500", "(Type mismatch|column tick_type)"),
    ],
)
def test_values_that_no_tick_has_are_named(tmp_path: Path, change: str, pattern: str, is_live: bool) -> None:
    record_day(tmp_path)
    db = tmp_path / f"{DAY}.db"
    with closing(sqlite3.connect(db)) as conn:
        conn.execute(change)
        conn.commit()
        if not is_live:
            conn.close()
        with pytest.raises(StoreCorrupt, match=pattern) as caught:
            list(scan.scan_day_file(db, workers=2, stripe_rows=100))
    assert str(db) in str(caught.value)


def test_absent_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable):
        list(scan.scan_day_file(tmp_path / "20261120.db"))
    foreign = tmp_path / "20261119.db"
    foreign.write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(StoreCorrupt):
        list(scan.scan_day_file(foreign))
    assert list(scan.scan_day_file(empty_day(tmp_path))) == []


def empty_day(root: Path) -> Path:
    writer = DayFileWriter(root)
    writer.write(make_ticks(1, 1))
    writer.close()
    with closing(sqlite3.connect(root / f"{DAY}.db")) as conn:
        conn.execute("DELETE FROM ticks")
        conn.commit()
    return root / f"{DAY}.db"


@given(st.permutations(range(12)))
def test_a_table_in_order_stays_and_any_other_is_sorted(places: list[int]) -> None:
    ticks = [
        make_tick(n // 4, symbol, seq=seq) for symbol in ("HK.00005", "HK.00700") for n in (1, 4) for seq in (7, 9)
    ]
    ticks += [make_tick(9, "HK.00700", seq=None)] + [make_tick(n, "HK.09988", seq=1) for n in (1, 2, 3)]
    rows = [(tick.symbol, tick.ts_ms, tick.seq) for tick in ticks]

    def table(order: Iterable[int]) -> pa.Table:
        columns = zip(*(rows[place] for place in order), strict=True)
        schema = ticks_schema(("symbol", "ts_ms", "seq"))
        return pa.Table.from_arrays(
            [pa.array(values).cast(field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
        )

    whole = table(range(12))
    assert sort_table(whole).equals(whole)
    assert rows_of(sort_table(table(places))) == rows_of(whole)


def test_sorting_in_buckets_gives_the_whole_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hk_tick_collector.days.order.BUCKET_ROWS", 700)
    symbols = [f"HK.{n:05d}" for n in range(1, 40)]
    record_day(tmp_path, symbols=symbols, count=100)
    day = Catalog(tmp_path, tmp_path / "_archive").day(DAY)
    tables = list(day.sorted_tables())
    assert len(tables) > 4
    assert [row for table in tables for row in rows_of(table)] == stored(tmp_path / f"{DAY}.db")
    nothing_known = list(sorted_tables(day.batches(), {}))
    assert len(nothing_known) == 1
    assert rows_of(nothing_known[0]) == stored(tmp_path / f"{DAY}.db")


def test_sorting_in_small_parts_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NULLs, texts that only some parts have, and a symbol of more rows than are handed on at a time."""
    writer = DayFileWriter(tmp_path)
    writer.write(odd_ticks())
    writer.close()
    record_day(tmp_path, symbols=["HK.00700", "HK.00005"], count=500)
    expected = stored(tmp_path / f"{DAY}.db")
    day = Catalog(tmp_path, tmp_path / "_archive").day(DAY)
    for bucket_rows, parted_rows, table_rows in ((1, 1, 1000), (300, 64, 100), (10_000, 333, 7), (10_000, 10_000, 501)):
        monkeypatch.setattr("hk_tick_collector.days.order.BUCKET_ROWS", bucket_rows)
        monkeypatch.setattr("hk_tick_collector.days.order.PARTED_ROWS", parted_rows)
        monkeypatch.setattr("hk_tick_collector.days.order.TABLE_ROWS", table_rows)
        batches = [part for batch in day.batches() for part in halves(batch)]
        tables = list(sorted_tables(batches, day.rows_by_symbol()))
        assert {table.schema for table in tables} == {ticks_schema()}
        assert max(table.num_rows for table in tables) <= table_rows
        assert [row for table in tables for row in rows_of(table)] == expected
    few = ("seq", "symbol", "direction", "ts_ms")
    table = pa.concat_tables(sorted_tables(day.batches(few), {}))
    assert (table.schema, table.num_rows) == (ticks_schema(few), len(expected))
    assert list(sorted_tables([], {})) == []


def halves(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Of which each has dictionaries of its own."""
    middle = batch.num_rows // 2
    cuts = [batch.slice(0, middle), batch.slice(middle)]
    fresh = [
        [part.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(part.type) else part for part in cut]
        for cut in cuts
    ]
    return [pa.RecordBatch.from_arrays(columns, schema=batch.schema) for columns in fresh]


def test_who_needs_no_more_sorted_tables_lets_go_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hk_tick_collector.days.order.TABLE_ROWS", 10)
    record_day(tmp_path, count=100)
    tables = Catalog(tmp_path, tmp_path / "_archive").day(DAY).sorted_tables()
    assert next(tables).num_rows == 10
    tables.close()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("sort")] == []


def test_a_day_that_waits_to_be_sorted_takes_little_memory(tmp_path: Path) -> None:
    """Per tick a fraction of what it takes in Arrow."""
    record_day(tmp_path, symbols=[f"HK.{n:05d}" for n in range(1, 11)], count=2000)
    day = Catalog(tmp_path, tmp_path / "_archive").day(DAY)
    before = pa.total_allocated_bytes()
    in_arrow = list(day.batches())
    arrow_bytes = sum(batch.nbytes for batch in in_arrow)
    del in_arrow
    buckets = _BySymbol([])
    for batch in day.batches():
        buckets.add(batch)
    del batch
    tables = buckets.sorted_tables()
    buckets._part()
    assert pa.total_allocated_bytes() - before < arrow_bytes / 50
    assert sum(len(part) for parts in buckets._packed for part in parts) < arrow_bytes / 4
    assert sum(table.num_rows for table in tables) == 20_000


def write_parquet(root: Path, archive_root: Path) -> Path:
    day = Catalog(root, archive_root).day(DAY)
    path = day.parquet
    path.parent.mkdir(parents=True)
    parquet.write_sorted(path, day.sorted_tables())
    return path


def write_manifest(root: Path, archive_root: Path) -> Manifest:
    day = Catalog(root, archive_root).day(DAY)
    content = content_of(parquet.read_batches(day.parquet))
    manifest = Manifest(
        FORMAT_VERSION, DAY, "HK", 1, "0", SCHEMA_VERSION, 1, content.rows, ALGORITHM, content.content_hash,
        claims_of(content), (), tuple(day.coverage()), tuple(day.gaps()),
    )  # fmt: skip
    path = manifest_path(archive_root, DAY)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(manifest.to_json())
    return manifest


def test_parquet_holds_the_same_rows_in_order_and_skips_by_symbol_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 300)
    writer = DayFileWriter(tmp_path)
    writer.write(odd_ticks())
    writer.close()
    record_day(tmp_path, symbols=[f"HK.{n:05d}" for n in range(1, 9)], count=250)
    path = write_parquet(tmp_path, tmp_path / "_archive")
    db = tmp_path / f"{DAY}.db"
    assert rows_of(pa.Table.from_batches(parquet.read_batches(path))) == stored(db)
    for symbol in ("HK.00001", "HK.00008", "HK.00700", "HK.99999"):
        rows = rows_of(parquet.read_symbols(path, [symbol], start_ms=make_tick(2).ts_ms))
        assert rows == [row for row in stored(db) if row["symbol"] == symbol and row["ts_ms"] >= make_tick(2).ts_ms]
    with parquet.open_file(path) as file:
        groups = range(file.num_row_groups)
        assert len(groups) > 4
        assert 0 < sum(parquet._may_hold(file, n, ["HK.00003"], None, None) for n in groups) <= 2
        late = make_tick(0).ts_ms + 3_600_000 * 5
        assert not any(parquet._may_hold(file, n, SYMBOLS, late, None) for n in groups)


def test_parquet_that_is_not_ours_newer_or_damaged_is_refused(tmp_path: Path) -> None:
    record_day(tmp_path)
    path = write_parquet(tmp_path, tmp_path / "_archive")
    whole = path.read_bytes()
    for damage in (b"", b"PAR1", whole[: len(whole) // 2], whole[:-20]):
        path.write_bytes(damage)
        with pytest.raises(StoreCorrupt):
            list(parquet.read_batches(path))
    path.write_bytes(whole[:200] + bytes(byte ^ 0x55 for byte in whole[200:2000]) + whole[2000:])
    with pytest.raises(StoreCorrupt, match="damaged"):
        list(parquet.read_batches(path))
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(StoreCorrupt, match="another program"):
        list(parquet.read_batches(path))
    newer = parquet.file_schema().with_metadata({VERSION_KEY: b"99"})
    pq.write_table(newer.empty_table(), path)
    with pytest.raises(StoreUnavailable, match="newer version"):
        list(parquet.read_batches(path))
    with pytest.raises(StoreUnavailable):
        parquet.open_file(tmp_path / "none.parquet")


def batches_of(ticks: list[Tick], size: int) -> list[pa.RecordBatch]:
    rows = [{**tick._asdict(), "market": "HK", "provider": "futu", "inserted_at_ms": 1} for tick in ticks]
    return [pa.RecordBatch.from_pylist(rows[n : n + size], schema=TICKS) for n in range(0, len(rows), size)]


@given(st.integers(0, 1 << 30), st.integers(1, 40))
def test_the_content_does_not_depend_on_order_or_batches(seed: int, size: int) -> None:
    ticks = [*odd_ticks(), *day_ticks("HK.00005", 60)]
    expected = content_of(batches_of(ticks, 1000))
    shuffled = ticks[:]
    random.Random(seed).shuffle(shuffled)
    content = content_of(batches_of(shuffled, size))
    assert content.symbols == expected.symbols
    assert content.content_hash == expected.content_hash


@given(st.data())
def test_any_change_of_any_value_changes_the_content(data: st.DataObject) -> None:
    ticks = [*odd_ticks(), *day_ticks("HK.00005", 20)]
    expected = content_of(batches_of(ticks, 100)).content_hash
    index = data.draw(st.integers(0, len(ticks) - 1))
    name = data.draw(st.sampled_from(Tick._fields))
    old = getattr(ticks[index], name)
    if name in ("price", "turnover"):
        new = data.draw(st.one_of(st.none(), st.floats(allow_nan=False)))
    elif name in ("ts_ms", "volume", "seq", "recv_ts_ms", "opend_recv_ts_ms", "occurrence"):
        new = data.draw(st.integers(-(1 << 40), 1 << 40))
    else:
        new = data.draw(st.text(max_size=5))
    changed = [*ticks]
    changed[index] = ticks[index]._replace(**{name: new})
    same = repr(new) == repr(old)  # -0.0 is another value than 0.0
    assert (content_of(batches_of(changed, 100)).content_hash == expected) == same


def test_lost_and_doubled_rows_change_the_content() -> None:
    ticks = day_ticks("HK.00005", 20)
    hashes = {
        content_of(batches_of(some, 7)).content_hash for some in (ticks, ticks[1:], [*ticks, ticks[3]], ticks * 2)
    }
    assert len(hashes) == 4
    assert DayContent().content_hash == "0" * 32


def test_a_day_reads_the_same_live_and_archived(tmp_path: Path) -> None:
    archive = tmp_path / "_archive"
    record_day(tmp_path, lost=[17, 18])
    live = Catalog(tmp_path, archive).day(DAY)
    write_parquet(tmp_path, archive)
    write_manifest(tmp_path, archive)
    before = (live.coverage(), live.gaps(), live.symbols(), rows_of(live.ticks(["HK.00700"], ("seq", "price"))))
    all_rows = [row for table in live.sorted_tables() for row in rows_of(table)]
    (tmp_path / f"{DAY}.db").unlink()
    archived = Catalog(tmp_path, archive).day(DAY)
    assert archived.is_archived_only
    assert (archived.coverage(), archived.gaps(), archived.symbols()) == before[:3]
    assert rows_of(archived.ticks(["HK.00700"], ("seq", "price"))) == before[3]
    assert [row for table in archived.sorted_tables() for row in rows_of(table)] == all_rows
    assert Catalog(tmp_path, archive).days() == [DAY]
    with pytest.raises(NoData, match="there is 1 day, 20261120"):
        Catalog(tmp_path, archive).day("20261119")


@pytest.mark.parametrize("how", ["live", "closed", "archived", "both", "two roots"])
@pytest.mark.parametrize("together", [(65_536, 100), (1500, 2)])
def test_symbols_that_are_read_together_give_what_each_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, together: tuple[int, int]
) -> None:
    monkeypatch.setattr(rows_together, "GROUP_ROWS", together[0])
    monkeypatch.setattr(rows_together, "GROUP_SYMBOLS", together[1])
    monkeypatch.setattr(scan, "SYMBOLS_AT_ONCE", 2)
    root = tmp_path / "first"
    record_day(root, lost=[17, 18])
    roots = [root]
    if how in ("archived", "both"):
        write_parquet(root, root / "_archive")
        write_manifest(root, root / "_archive")
        (root / f"{DAY}.db").unlink()
    writer = DayFileWriter(root if how != "two roots" else tmp_path / "second")
    if how in ("live", "both", "two roots"):
        writer.write([*odd_ticks(), *make_ticks(4000, 4010, "HK.00005")])
    if how == "two roots":
        roots.append(tmp_path / "second")
    if how != "live":
        writer.close()
    catalogs = [Catalog(root, root / "_archive") for root in roots]
    day = (catalogs[0] if len(roots) == 1 else UnionCatalog(catalogs)).day(DAY)
    names = ("seq", "price", "ts_ms", "tick_type")
    wanted = ["HK.99999", *reversed(day.symbols()), day.symbols()[0]]
    told = list(day.ticks_by_symbol(wanted, names))
    assert [symbol for symbol, _ in told] == wanted[:-1]
    for symbol, table in told:
        assert table.column_names == list(names)
        assert rows_of(table) == rows_of(day.ticks([symbol], names))
    assert sum(table.num_rows for _, table in told) == sum(day.rows_by_symbol().values()) > 2990
    writer.close()


def test_a_day_file_begun_anew_after_archiving_does_not_hide_the_archive(tmp_path: Path) -> None:
    archive = tmp_path / "_archive"
    record_day(tmp_path)
    write_parquet(tmp_path, archive)
    write_manifest(tmp_path, archive)
    assert Catalog(tmp_path, archive).day(DAY).conflict is None
    (tmp_path / f"{DAY}.db").unlink()
    writer = DayFileWriter(tmp_path)
    writer.write(make_ticks(5000, 5001))
    writer.close()
    day = Catalog(tmp_path, archive).day(DAY)
    assert "restore" in str(day.conflict)
    assert day.ticks(["HK.00005"]).num_rows == 1000


def test_a_day_archived_as_packed_file_only_has_its_notes_and_says_how_to_read_it(tmp_path: Path) -> None:
    archive = tmp_path / "_archive"
    record_day(tmp_path)
    write_parquet(tmp_path, archive)
    raw = json.loads(write_manifest(tmp_path, archive).to_json())
    raw["files"] = [{"kind": "sqlite", "path": f"sqlite/{DAY}.db.zst", "size_bytes": 1, "sha256": ""}]
    manifest_path(archive, DAY).write_text(json.dumps(raw))
    (tmp_path / f"{DAY}.db").unlink()
    day = Catalog(tmp_path, archive).day(DAY)
    assert len(day.coverage()) == 3
    assert day.source == archive / "sqlite" / f"{DAY}.db.zst"
    with pytest.raises(StoreUnavailable, match=f"hk-tickctl restore {DAY}"):
        day.batches()


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        "{}",
        '{"format_version": "one"}',
        '{"format_version": 1, "rows": 3}',
        '{"format_version": 99}',
        "\x00\x01",
    ],
)
def test_what_is_no_manifest_is_refused_with_its_name(tmp_path: Path, damage: str) -> None:
    path = manifest_path(tmp_path, DAY)
    path.parent.mkdir(parents=True)
    path.write_text(damage)
    with pytest.raises((StoreCorrupt, StoreUnavailable)) as caught:
        load_manifest(tmp_path, DAY)
    assert str(path) in str(caught.value)


def test_a_manifest_does_not_lead_out_of_its_archive(tmp_path: Path) -> None:
    archive = tmp_path / "_archive"
    record_day(tmp_path)
    write_parquet(tmp_path, archive)
    raw = json.loads(write_manifest(tmp_path, archive).to_json())
    raw["files"] = [{"kind": "parquet", "path": "../../etc/passwd", "size_bytes": 1, "sha256": ""}]
    manifest_path(archive, DAY).write_text(json.dumps(raw))
    with pytest.raises(StoreCorrupt, match="leads out of"):
        load_manifest(archive, DAY)
    raw["files"] = []
    raw["trading_day"] = "20261119"
    manifest_path(archive, DAY).write_text(json.dumps(raw))
    with pytest.raises(StoreCorrupt, match="another day"):
        load_manifest(archive, DAY)

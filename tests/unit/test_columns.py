"""One table of columns, and all that is made from it; ticks of sources that tell more than others."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pyarrow as pa
import pytest

from hk_tick_collector.days import parquet, scan
from hk_tick_collector.days.content import content_of
from hk_tick_collector.days.schema import COLUMNS, TICKS
from hk_tick_collector.ingest.frames import HEADER_BYTES, decode, encode
from hk_tick_collector.records import columns
from hk_tick_collector.records.columns import Packing, Role, names_of, packed, with_role
from hk_tick_collector.records.tick import MORE_COLUMNS, Origin, Tick, of_one_kind, tick_with
from hk_tick_collector.store import reader
from hk_tick_collector.store.connect import inserts
from hk_tick_collector.store.writer import DayFileWriter
from tests.ticks import DAY, make_tick, make_ticks

QuotedTick = tick_with("conditions", "bid_price", "ask_price")


def quoted(counter: int, *more: object, **fields: object) -> Tick:
    return QuotedTick._make((*make_tick(counter, **fields), *(more or ("late", 382.2, 382.4))))


def stored(root: Path, sql: str) -> list[tuple[object, ...]]:
    with contextlib.closing(sqlite3.connect(f"file:{root / DAY}.db?mode=ro", uri=True)) as conn:
        return conn.execute(sql).fetchall()


def write(root: Path, ticks: list[Tick], origin: Origin | None = None) -> int:
    writer = DayFileWriter(root, origin=origin or Origin())
    result = writer.write(ticks)
    writer.close()
    return result.inserted_rows


# -- the table ---------------------------------------------------------------------------------------------------------


def test_versions_only_add_and_only_what_an_older_file_can_lack() -> None:
    since = [column.since for column in columns.TICKS]
    assert since == sorted(since), "a version's columns come after those of the version before"
    assert max(since) <= columns.SCHEMA_VERSION
    assert len(names_of(0)) == 14
    for column in columns.TICKS:
        assert column.since == 0 or column.nullable or column.default is not None, column.name
        assert column.since < 2 or column.nullable, f"{column.name}: hashes leave out what is NULL"


def test_all_that_is_made_from_it_has_all_columns() -> None:
    assert COLUMNS == tuple(TICKS.names) == columns.NAMES
    assert [field.nullable for field in TICKS] == [column.nullable for column in columns.TICKS]
    assert sorted(name for packing in Packing for name in packed(packing)) == sorted(columns.NAMES)
    assert sorted(name for role in Role for name in with_role(role)) == sorted(columns.NAMES)
    assert set(Tick._fields) | {"inserted_at_ms", "market", "provider"} | set(MORE_COLUMNS) == set(columns.NAMES)


# -- ticks that tell more ----------------------------------------------------------------------------------------------


def test_what_a_source_does_not_tell_is_not_bound() -> None:
    plain, more = inserts(Tick._fields), inserts(QuotedTick._fields, Origin("CME", "sierra"))
    assert not any(name in plain.insert for name in MORE_COLUMNS)
    assert plain.insert.count("?") == len(Tick._fields) + 1
    assert "conditions, bid_price, ask_price, inserted_at_ms, market, provider" in more.insert
    assert more.insert.endswith("'CME', 'sierra')")
    assert "venue" not in more.insert


@pytest.mark.parametrize("origin", [Origin("H'K", "futu"), Origin("HK", ""), Origin("HK", "a b")])
def test_an_origin_that_is_no_word_is_refused(origin: Origin) -> None:
    with pytest.raises(ValueError, match="cannot be a market or a provider"):
        inserts(Tick._fields, origin)


@pytest.mark.parametrize("name", ["price", "market", "inserted_at_ms", "nonsense"])
def test_a_tick_cannot_tell_what_is_no_column_of_a_source(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name!r} is not a column that a source may add"):
        tick_with(name)


def test_a_tick_that_tells_more_is_a_tick() -> None:
    tick = quoted(1)
    assert isinstance(tick, Tick)
    assert tick_with("conditions", "bid_price", "ask_price") is QuotedTick
    assert tick_with() is Tick
    assert tick._replace(volume=7)._asdict() == {**tick._asdict(), "volume": 7}
    assert (tick.symbol, tick[-3:]) == ("HK.00700", ("late", 382.2, 382.4))
    assert [*QuotedTick(*make_tick(1)[:14])][-4:] == [0, None, None, None]


def test_it_is_stored_with_its_columns_beside_plain_ones(tmp_path: Path) -> None:
    batch = [make_tick(1), quoted(2), quoted(3, "", None, 1.5), make_tick(4, seq=None), quoted(5, seq=None)]
    assert write(tmp_path, batch, Origin("CME", "sierra")) == 5
    assert write(tmp_path, batch) == 0
    rows = "SELECT market, provider, conditions, bid_price, ask_price, venue FROM ticks ORDER BY ts_ms"
    assert stored(tmp_path, rows) == [
        ("CME", "sierra", None, None, None, None),
        ("CME", "sierra", "late", 382.2, 382.4, None),
        ("CME", "sierra", "", None, 1.5, None),
        ("CME", "sierra", None, None, None, None),
        ("CME", "sierra", "late", 382.2, 382.4, None),
    ]
    assert [row.state for row in reader.coverage(tmp_path / f"{DAY}.db")] == ["unproven"]


def test_it_comes_through_the_spill_with_its_columns() -> None:
    def through(ticks: list[Tick]) -> list[Tick] | None:
        return decode(encode(ticks)[HEADER_BYTES:])

    assert through([quoted(1), quoted(2)]) == [quoted(1), quoted(2)]
    assert through([make_tick(1)]) == [make_tick(1)]
    mixed = through([make_tick(1), quoted(2), tick_with("venue")._make((*make_tick(3), "SEHK"))])
    assert mixed is not None
    told = [(tick._asdict()["venue"], tick._asdict()["bid_price"]) for tick in mixed]
    assert told == [(None, None), (None, 382.2), ("SEHK", None)]


def test_a_batch_of_one_kind_is_not_touched() -> None:
    for batch in ([], make_ticks(1, 3), [quoted(1)]):
        assert of_one_kind(batch) is batch


# -- the hash ----------------------------------------------------------------------------------------------------------


def hash_of(root: Path, ticks: list[Tick]) -> str:
    write(root, [tick._replace(symbol="HK.00700") for tick in ticks])
    with contextlib.closing(sqlite3.connect(root / f"{DAY}.db")) as conn:
        conn.execute("UPDATE ticks SET inserted_at_ms = 7")
        conn.commit()
    return content_of(scan.scan_day_file(root / f"{DAY}.db")).content_hash


def test_the_hash_counts_a_later_column_where_it_holds_a_value(tmp_path: Path) -> None:
    def told(name: str, value: object) -> str:
        return hash_of(tmp_path / f"{name}{value}", [tick_with(name)._make((*make_tick(1), value)), make_tick(2)])

    plain = hash_of(tmp_path / "plain", make_ticks(1, 2))
    assert hash_of(tmp_path / "empty", [quoted(1, None, None, None), quoted(2, None, None, None)]) == plain
    hashes = [
        plain, told("venue", "x"), told("conditions", "x"), told("venue", ""), told("bid_price", 1.0),
        told("ask_price", 1.0), told("bid_price", 0.0), told("ts_ns_part", 0), told("total_volume", 0),
    ]  # fmt: skip
    assert len(set(hashes)) == len(hashes)


def test_parquet_keeps_what_a_source_tells(tmp_path: Path) -> None:
    write(tmp_path, [quoted(1), make_tick(2)])
    table = pa.Table.from_batches(scan.scan_day_file(tmp_path / f"{DAY}.db")).unify_dictionaries()
    parquet.write_sorted(tmp_path / "x.parquet", [table])
    assert parquet.version_of(tmp_path / "x.parquet") == columns.SCHEMA_VERSION
    again = pa.Table.from_batches(parquet.read_batches(tmp_path / "x.parquet"))
    assert again.to_pylist() == table.to_pylist()
    assert again.column("ask_price").to_pylist() == [382.4, None]


def test_columns_that_nobody_told_are_there_and_empty(tmp_path: Path) -> None:
    write(tmp_path, make_ticks(1, 3))
    db = tmp_path / f"{DAY}.db"
    assert scan.told_columns(db) == names_of(1)
    for names in (("venue",), ("bid_price", "symbol"), COLUMNS):
        table = pa.Table.from_batches(scan.scan_day_file(db, names))
        assert (table.column_names, table.num_rows) == (list(names), 3)
        assert table.column(names[0]).null_count == (3 if names[0] in MORE_COLUMNS else 0)
    write(tmp_path, [quoted(4)])
    assert set(MORE_COLUMNS) < set(scan.told_columns(db)), "one value is enough"

"""Files of snapshots: what is stored once, what is kept twice, and what is told of the source's copy."""

from __future__ import annotations

import json
import sqlite3
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from hk_tick_collector.core.errors import RowRefused, StoreCorrupt, StoreFault
from hk_tick_collector.core.facts import SnapshotsCopied
from hk_tick_collector.ingest.frames import decode, encode
from hk_tick_collector.records.snapshot import COPY, LIVE, SNAPSHOTS, Series, Snapshot
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.layout import snapshot_days, snapshot_file
from hk_tick_collector.store.snapshot_file import copied_series, pack_seconds, reading, unpack_seconds
from hk_tick_collector.store.snapshot_reader import MAX_BODY_BYTES, unpacked
from hk_tick_collector.store.snapshot_writer import SnapshotWriter

DAY, NOON = "20261127", 1_795_795_200
SPX = Series("US.SPX", "classic", "gex_full")


def snapshot(second: int = 0, says: str = "a", origin: str = LIVE, day: str = DAY) -> Snapshot:
    body = json.dumps({"timestamp": NOON + second, "says": says})
    return Snapshot(*SPX[:1], (NOON + second) * 1000, (NOON + second) * 1000 + 300, day, *SPX[1:], origin, 5000.5, None,
                    says.encode().hex().rjust(32, "0"), body)  # fmt: skip


@pytest.fixture
def writer(tmp_path: Path) -> SnapshotWriter:
    return SnapshotWriter(tmp_path, SqliteOptions(), lambda: NOON * 1000)


def rows(tmp_path: Path, day: str = DAY) -> list[tuple[int, str]]:
    with reading(snapshot_file(tmp_path, day)) as conn:
        return conn.execute("SELECT ts_sec - ?, origin FROM snapshots ORDER BY rowid", (NOON,)).fetchall()


def test_a_repeat_adds_nothing_and_another_snapshot_of_a_second_is_kept(tmp_path: Path, writer: SnapshotWriter) -> None:
    assert writer.write([snapshot(0), snapshot(1)]).inserted_rows == 2
    result = writer.write([snapshot(0), snapshot(0, "a", COPY), snapshot(1, "b", COPY), snapshot(2, "a", COPY)])
    assert (result.inserted_rows, result.ignored_rows) == (2, 2)
    writer.close()
    assert rows(tmp_path) == [(0, "live"), (1, "live"), (1, "copy"), (2, "copy")]
    assert snapshot_days(tmp_path) == [DAY]


def test_days_are_files_and_a_copy_is_written_with_its_rows(tmp_path: Path, writer: SnapshotWriter) -> None:
    copy = SnapshotsCopied("20261125", *SPX, NOON * 1000, 2, 0, (NOON - 7, NOON - 5), "ab" * 32)
    writer.write([snapshot(), snapshot(-5, day="20261125")], [copy])
    assert copied_series(tmp_path, "20261125") == {SPX}
    assert copied_series(tmp_path, DAY) == set()
    assert copied_series(tmp_path, "20261124") == set()
    with reading(snapshot_file(tmp_path, "20261125")) as conn:
        first, packed = conn.execute("SELECT first_sec, seconds FROM copies").fetchone()
    assert unpack_seconds(first, packed) == {NOON - 7, NOON - 5}
    writer.close()


@pytest.mark.parametrize("seconds", [[], [NOON], [NOON, NOON + 1, NOON + 8, NOON + 23_399]])
def test_seconds_are_packed_and_unpacked(seconds: list[int]) -> None:
    assert unpack_seconds(*pack_seconds(seconds)) == set(seconds)


@pytest.mark.parametrize(
    "packed",
    [
        b"no zlib",
        zlib.compress(bytes(500))[:-5],
        zlib.compress(b"{}") + b"more",
        zlib.compress(bytes(9_000_000), level=1),
    ],
    ids=["no zlib", "cut off", "more behind it", "of many megabytes"],
)
def test_what_does_not_unpack_to_its_end_is_damage(packed: bytes) -> None:
    """Half of a snapshot would look like a whole one."""
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        unpack_seconds(NOON, packed)
    with pytest.raises(StoreCorrupt, match="a body cannot be unpacked"):
        unpacked(packed, Path("20261127.snapshot.db"))


def test_the_largest_body_is_unpacked() -> None:
    body = "x" * MAX_BODY_BYTES
    assert unpacked(zlib.compress(body.encode()), Path()) == body


@pytest.mark.parametrize("by", ["write", "close"])
def test_a_file_that_is_removed_under_the_writer_comes_back(tmp_path: Path, writer: SnapshotWriter, by: str) -> None:
    writer.write([snapshot(0)])
    for path in snapshot_file(tmp_path, DAY).parent.iterdir():
        path.unlink()
    if by == "write":
        assert writer.write([snapshot(1)]).replaced_files == 1
    writer.close()
    assert rows(tmp_path) == [(0, "live"), (1, "live")][: 2 if by == "write" else 1]


def test_a_foreign_file_is_set_aside_and_never_written_to(tmp_path: Path, writer: SnapshotWriter) -> None:
    path = snapshot_file(tmp_path, DAY)
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 500)
    with pytest.raises(StoreCorrupt):
        writer.write([snapshot()])
    assert writer.failed_day == DAY
    aside = writer.set_aside(DAY, "foreign")
    assert aside is not None
    assert aside.read_bytes() == b"not a database" * 500
    assert writer.write([snapshot()]).inserted_rows == 1
    writer.close()


def test_a_row_that_is_refused_stands_alone(tmp_path: Path, writer: SnapshotWriter) -> None:
    bad = snapshot(3)._replace(recv_ts_ms=2**70)
    with pytest.raises(RowRefused):
        writer.write([snapshot(), bad])
    result, refused = writer.isolate([snapshot(), bad, snapshot(4)], ())
    assert (result.inserted_rows, [row for row, _ in refused]) == (2, [bad])
    writer.close()


def test_rows_that_are_refused_and_that_our_code_fails_on_are_told_in_one_batch(writer: SnapshotWriter) -> None:
    """Or neither is ever put aside, and nothing behind them stored."""
    refused_row, faulty = snapshot(3)._replace(recv_ts_ms=2**70), snapshot(4)._replace(body=None)  # type: ignore[arg-type]
    with pytest.raises(StoreFault):
        writer.isolate([snapshot(), refused_row, faulty], ())
    result, refused = writer.isolate_fault([snapshot(), refused_row, faulty, snapshot(5)], ())
    assert (result.inserted_rows + result.ignored_rows, [row for row, _ in refused]) == (2, [refused_row, faulty])
    with pytest.raises(StoreFault):
        writer.isolate_fault([faulty], ())
    writer.close()


def test_a_snapshot_survives_the_spill() -> None:
    kept = [snapshot(0, "a"), snapshot(1, "b")._replace(body='{"a": "\\ud83d\\ude00 é"}')]
    frame = encode(kept, SNAPSHOTS)
    payload = frame[frame.index(b'{"fields"') :]
    assert decode(payload, SNAPSHOTS) == kept


def test_the_file_is_of_its_own_kind(tmp_path: Path, writer: SnapshotWriter) -> None:
    writer.write([snapshot()])
    writer.close()
    with closing(sqlite3.connect(snapshot_file(tmp_path, DAY))) as conn:
        assert conn.execute("PRAGMA application_id").fetchone()[0] == int.from_bytes(b"HKSN", "big")
        assert conn.execute("SELECT symbol, package, category, ts_sec, spot FROM readable").fetchone() == (
            *SPX, NOON, 5000.5
        )  # fmt: skip

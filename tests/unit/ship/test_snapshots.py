"""Snapshots in ClickHouse: as they are stored, proven once their day is over, and read there as from the file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import hk_tick_collector as hk
from hk_tick_collector.archive.snapshots import leave_to_archive, put_away
from hk_tick_collector.cli.ship import _days
from hk_tick_collector.clickhouse import recorded_snapshots
from hk_tick_collector.clickhouse.connection import ClickHouse, EngineAway, EngineRefused
from hk_tick_collector.clickhouse.copy import Copy, recorders
from hk_tick_collector.clickhouse.older import Older
from hk_tick_collector.clickhouse.recorded import CopiedDays
from hk_tick_collector.clickhouse.tables import SNAPSHOTS, check
from hk_tick_collector.core.errors import NoData, RecorderError
from hk_tick_collector.days.every import EveryDay
from hk_tick_collector.query.engine import Engine
from hk_tick_collector.records.snapshot import Series
from hk_tick_collector.serve.api import jobs
from hk_tick_collector.serve.api.roots import Roots
from hk_tick_collector.serve.keys import ANONYMOUS
from hk_tick_collector.ship import live_states
from hk_tick_collector.ship.live_states import LiveStates
from hk_tick_collector.ship.state import State
from hk_tick_collector.ship.states import StateCopies, notes_of
from hk_tick_collector.store import snapshot_follow, snapshot_reader
from hk_tick_collector.store.connect import SqliteOptions
from hk_tick_collector.store.data_root import claim
from hk_tick_collector.store.layout import archive_dir, snapshot_file
from hk_tick_collector.store.snapshot_writer import SnapshotWriter
from hk_tick_collector.store.writer import DayFileWriter
from tests.clickhouse import ClickHouseServer
from tests.snapshots import DAY, FLOW, NDX, OPEN_SEC, SPX, copied, filled, record, snapshot
from tests.ticks import make_tick
from tests.unit.ship.test_older_days import Out
from tests.unit.ship.test_ship import catalog, keeper_of

ALL = "SELECT * FROM all_snapshots ORDER BY trading_day, snapshot_no"
LONG_AGO_MS = 10**14
NDX_FLOW = Series("US.NDX", "orderflow", "orderflow")
pytestmark = pytest.mark.filterwarnings("ignore::hk_tick_collector.client.errors.IncompleteData")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two series live and as the source's file has them, one snapshot of which is told otherwise."""
    live = [snapshot(SPX, second) for second in range(30) if second % 3]
    rows = [*live, *filled(SPX, (0, 3)), snapshot(SPX, 4, "copy", "told otherwise: ‰ 恒"), *filled(NDX, (1, 2))]
    return record(
        tmp_path / "US", [*rows, *(snapshot(FLOW, second) for second in range(7))], [copied(SPX, range(30), unread=1)]
    )


def asked(days: Any, sql: str = ALL) -> list[dict[str, Any]]:
    every = EveryDay(days)
    with Engine([], beside=every.beside(every.days())) as engine:
        return [row for batch in engine.run(sql).batches for row in batch.to_pylist()]


def there(engine: ClickHouse) -> CopiedDays:
    return CopiedDays(Copy(engine, "A"), "US")


def numbers(engine: ClickHouse) -> list[int]:
    return [no for (no,) in engine.rows(f"SELECT snapshot_no FROM {engine.database}.snapshots ORDER BY snapshot_no")]


def test_a_day_is_copied_proven_and_read_there(root: Path, engine: ClickHouse, state: State) -> None:
    keeper = keeper_of(root, engine, state)
    keeper.look()
    assert keeper.counts.days_verified_of["snapshots"] == 1
    assert state.sent("snapshots").mark(DAY) is not None
    assert recorders(engine) == {"A": "US"}, "though it has no tick there"
    assert asked(there(engine)) == asked(catalog(root))
    with there(engine).snapshot_days.day(DAY).opened() as path:
        assert list(notes_of(path, SNAPSHOTS)) == list(notes_of(snapshot_file(root, DAY), SNAPSHOTS))
    sql = (
        f"SELECT JSONExtractString(body, 'says') FROM {engine.database}.snapshots WHERE origin = 'copy' AND spot = 5004"
    )
    assert engine.rows(sql) == [["told otherwise: ‰ 恒"]]


def test_load_gives_the_same_table(root: Path, engine: ClickHouse, state: State, server: ClickHouseServer) -> None:
    keeper_of(root, engine, state).look()
    url = f"clickhouse://default@127.0.0.1:{server.port}/{engine.database}"
    with hk.local(root) as here, hk.connect(url) as copies:
        for options in ({}, {"every": True}, {"bodies": False}):
            assert copies.load("US.SPX", DAY, kind="snapshot", **options).equals(
                here.load("US.SPX", DAY, kind="snapshot", **options)
            )


def test_no_snapshot_of_others_is_fetched_for_who_reads_one_symbol(
    root: Path, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day may have a gigabyte of them, and each page over HTTP asks anew."""
    keeper_of(root, engine, state).look()
    fetched: list[str] = []
    values = recorded_snapshots._values

    def noted(batch: pa.RecordBatch, ids: Any) -> Any:
        fetched.extend(symbol.decode() for symbol in batch.column(1).to_pylist())
        return values(batch, ids)

    monkeypatch.setattr(recorded_snapshots, "_values", noted)
    question = {"job": "snapshots", "symbols": "US.NDX", "day": DAY, "series": "all", "every": True, "bodies": True}
    answers = []
    for _ in range(2):
        out = Out()
        served = Roots([(root, archive_dir(root))], older=Older(lambda: engine))
        jobs.run(served, {**question, "limit": 20}, ANONYMOUS, out)
        answers.append(out.json()["data"])
        snapshot_file(root, DAY).unlink(missing_ok=True)
    assert answers[1] == answers[0]
    assert fetched == ["US.NDX"] * 2
    fetched.clear()
    with Engine([], ["US.NDX"], beside=[there(engine).day_beside(DAY)]) as asked_there:
        rows = sum(batch.num_rows for batch in asked_there.run(ALL).batches)
    assert (rows, fetched) == (2, ["US.NDX"] * 2)


def test_the_server_answers_from_there_as_it_did_from_the_file(root: Path, engine: ClickHouse, state: State) -> None:
    keeper_of(root, engine, state).look()
    question = {
        "job": "snapshots", "symbols": "all", "day": DAY, "series": "all", "every": True, "bodies": True, "limit": 20,
    }  # fmt: skip

    def pages() -> list[dict[str, Any]]:
        rows, cursor = [], ""
        while cursor is not None:
            out = Out()
            served = Roots([(root, archive_dir(root))], older=Older(lambda: engine))
            jobs.run(served, {**question, "cursor": cursor}, ANONYMOUS, out)
            rows += out.json()["data"]
            cursor = out.json()["next"]
        return rows

    here = pages()
    snapshot_file(root, DAY).unlink()
    assert pages() == here
    assert len(here) == 32


def test_an_archived_day_is_copied_as_the_file_was(root: Path, engine: ClickHouse, state: State) -> None:
    before = asked(catalog(root))
    put_away(root, archive_dir(root), DAY, LONG_AGO_MS)
    leave_to_archive(root, archive_dir(root), DAY, dry_run=False)
    keeper_of(root, engine, state).look()
    assert asked(there(engine)) == before


def test_they_arrive_as_they_are_stored_and_none_twice(
    tmp_path: Path, engine: ClickHouse, state: State, server: ClickHouseServer
) -> None:
    root = record(tmp_path / "US", [snapshot(SPX, 0)])
    copies = StateCopies(engine, "A", "US", SNAPSHOTS)
    with closing(SnapshotWriter(root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000)) as writer:
        for number, fault in enumerate(("", "before", "after"), 1):
            writer.write([snapshot(SPX, second) for second in range(20 * number)], [])
            if fault:
                server.fault(fault)
                with closing(LiveStates(catalog(root), copies, state)) as live, pytest.raises(EngineAway):
                    live.step()
            with closing(LiveStates(catalog(root), copies, state, max_rows=7)) as live:
                while live.step():
                    pass
            assert numbers(engine) == list(range(1, 20 * number + 1))
    keeper = keeper_of(root, engine, state)
    assert keeper.check_states("snapshots", DAY) == "", "nothing was brought anew"


def test_large_snapshots_go_in_shipments_of_bounded_size(
    tmp_path: Path, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_states, "MAX_BODY_BYTES", 3_000_000)
    root = tmp_path / "US"
    root.mkdir()
    claim(root, "US")
    sent: list[int] = []
    with closing(SnapshotWriter(root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000)) as writer:
        writer.write([snapshot(SPX, second, large=200_000 if second < 40 else 10) for second in range(200)], [])
        with closing(LiveStates(catalog(root), StateCopies(engine, "A", "US", SNAPSHOTS), state)) as live:
            while rows := live.step():
                sent.append(rows)
    assert sent == [20, 20, 160]
    assert numbers(engine) == list(range(1, 201))


def test_bodies_that_cannot_be_unpacked_count_by_their_bytes_and_are_left_out_alone(
    tmp_path: Path, engine: ClickHouse, state: State, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(live_states, "MAX_BODY_BYTES", 1_000_000)
    root = tmp_path / "US"
    root.mkdir()
    claim(root, "US")
    unpacked: list[int] = []
    unpack = snapshot_reader.unpacked

    def counted(body: bytes, path: Path) -> str:
        unpacked.append(len(body))
        return unpack(body, path)

    monkeypatch.setattr(snapshot_reader, "unpacked", counted)
    monkeypatch.setattr(snapshot_follow, "unpacked", counted)
    sent: list[int] = []
    with closing(SnapshotWriter(root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000)) as writer:
        writer.write([snapshot(SPX, second) for second in range(100)], [])
        with closing(sqlite3.connect(snapshot_file(root, DAY))) as conn, conn:
            conn.execute("UPDATE snapshots SET body = randomblob(100000) WHERE rowid <= 40 AND rowid % 2")
        with closing(LiveStates(catalog(root), StateCopies(engine, "A", "US", SNAPSHOTS), state)) as live:
            while rows := live.step():
                sent.append(rows)
    assert sent == [20, 20, 60]
    assert len(unpacked) == 100, "each body once"
    assert numbers(engine) == [no for no in range(1, 101) if no > 40 or no % 2 == 0]
    assert "of rows 1 to 20, 10 of US.SPX are left out, the others go on" in caplog.text


@pytest.mark.parametrize(
    "change",
    ["spot = 1.0", "recv_ts_ms = recv_ts_ms + 1", "origin = 'live'", "body = x'789c030000000001'", "digest = x'00'"],
)
def test_a_changed_value_is_found_and_healed(root: Path, engine: ClickHouse, state: State, change: str) -> None:
    keeper_of(root, engine, state).look()
    with closing(sqlite3.connect(snapshot_file(root, DAY))) as conn, conn:
        conn.execute(f"UPDATE snapshots SET {change} WHERE rowid = 22")
    keeper = keeper_of(root, engine, state)
    assert "1 of 2 symbols differ" in keeper.check_states("snapshots", DAY)
    assert keeper.check_states("snapshots", DAY) == ""
    assert asked(there(engine)) == asked(catalog(root))


def test_tables_of_before_snapshots_are_said_to_be_such(
    root: Path, engine: ClickHouse, state: State, server: ClickHouseServer
) -> None:
    """No row would look like no record."""
    keeper_of(root, engine, state).look()
    for table in (SNAPSHOTS.rows, SNAPSHOTS.notes, SNAPSHOTS.days):
        engine.run(f"DROP TABLE {engine.database}.{table}")
    with pytest.raises(EngineRefused, match="hk-tickctl ship init"):
        check(engine)
    days = there(engine)
    assert days.snapshot_days.days() == []
    with Engine([days.day_beside(DAY)]) as asked_there, pytest.raises(RecorderError, match="not copied there"):
        asked_there.run(ALL)
    url = f"clickhouse://default@127.0.0.1:{server.port}/{engine.database}"
    with hk.connect(url) as copies, pytest.raises(hk.RecordingsError, match="hk-tickctl ship init"):
        copies.load("US.SPX", DAY, kind="snapshot")


def test_rows_that_are_there_twice_are_not_taken_for_damage_here(root: Path, engine: ClickHouse, state: State) -> None:
    """Those of a killed server, until hk-tick-ship has compared the day."""
    keeper_of(root, engine, state).look()
    engine.run(f"INSERT INTO {engine.database}.snapshots SELECT * FROM {engine.database}.snapshots WHERE spot = 5001")
    with pytest.raises(EngineAway, match="twice: is hk-tick-ship at work"):
        asked(there(engine))


def test_rows_of_a_series_whose_note_is_on_its_way_are_not_called_unreadable(
    root: Path, engine: ClickHouse, state: State
) -> None:
    """Notes go with the proof of a day, its rows before."""
    keeper_of(root, engine, state).look()
    with closing(SnapshotWriter(root, SqliteOptions(), lambda: (OPEN_SEC + 90_000) * 1000)) as writer:
        writer.write([snapshot(NDX_FLOW, 3)], [])
        with closing(LiveStates(catalog(root), StateCopies(engine, "A", "US", SNAPSHOTS), state)) as live:
            assert live.step() == 1
    with pytest.raises(EngineAway, match=r"no notes of .*US\.NDX.* yet"):
        asked(there(engine))
    keeper_of(root, engine, state).look()
    assert asked(there(engine)) == asked(catalog(root))


HOLD = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1])
conn.execute("SELECT 1 FROM snapshots").fetchone()
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("days", ["last", "all", DAY])
def test_verify_says_of_a_day_that_is_in_use_that_it_is(
    root: Path, days: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", HOLD, str(snapshot_file(root, DAY))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        with pytest.raises(NoData, match=f"{DAY} snapshots: in use by .*; compared once nobody has it open"):
            _days(catalog(root), days)
        with closing(DayFileWriter(root)) as writer:
            writer.write([make_tick(1, "US.SPX", trading_day=DAY)])
        assert _days(catalog(root), days) == [DAY]
        assert f"left out: {DAY} snapshots: in use by a recorder, by hk-tick-ship" in capsys.readouterr().err
        reader.communicate()
    assert _days(catalog(root), days) == [DAY, f"{DAY} snapshots"]


def test_verify_of_all_days_says_that_a_whole_day_is_left_out(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where another day can be compared."""
    before = str(int(DAY) - 1)
    with closing(DayFileWriter(root)) as writer:
        writer.write([make_tick(1, "US.SPX", trading_day=before)])
    command = [sys.executable, "-c", HOLD, str(snapshot_file(root, DAY))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "open\n"
        assert _days(catalog(root), "last") == [before]
        assert capsys.readouterr().err == ""
        assert _days(catalog(root), "all") == [before]
        assert f"left out: {DAY} snapshots: in use by" in capsys.readouterr().err
        reader.communicate()
